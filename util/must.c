/* must - see must.h */
#include "util/must.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/log.h"

void must_failed(const char *what, const char *file, int line, const char *function)
{
        log_event(LOG_ERROR, NULL, "assertion.failed", "condition=\"%s\" at=%s:%d function=%s", what, file, line, function);
        abort();
}

static void *checked(void *p, size_t bytes)
{
        if (!p) {
                log_event(LOG_ERROR, NULL, "memory.exhausted", "bytes=%zu", bytes);
                abort();
        }
        return p;
}

void *xmalloc(size_t bytes)
{
        return checked(malloc(bytes ? bytes : 1), bytes);
}

void *xcalloc(size_t count, size_t bytes)
{
        return checked(calloc(count ? count : 1, bytes ? bytes : 1), bytes);
}

void *xrealloc(void *p, size_t bytes)
{
        return checked(realloc(p, bytes ? bytes : 1), bytes);
}

char *xstrndup(const char *s, size_t len)
{
        char *copy = xmalloc(len + 1);

        if (len)
                memcpy(copy, s, len);
        copy[len] = '\0';
        return copy;
}

char *xstrdup(const char *s)
{
        return xstrndup(s, strlen(s));
}

void *try_malloc(size_t bytes)
{
        return malloc(bytes ? bytes : 1);
}
