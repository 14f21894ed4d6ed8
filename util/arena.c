/* arena - see arena.h */
#include "util/arena.h"

#include <stdarg.h>
#include <stdlib.h>

#include "util/must.h"

#define CHUNK_MIN ((size_t)4096)
#define CHUNK_MAX ((size_t)65536)

struct arena_chunk {
        struct arena_chunk *next;
        size_t used, cap;
        _Alignas(16) char bytes[];
};

void arena_init(struct arena *a)
{
        a->chunks = NULL;
        a->used = 0;
}

void arena_deinit(struct arena *a)
{
        struct arena_chunk *c = a->chunks;

        while (c) {
                struct arena_chunk *next = c->next;

                free(c);
                c = next;
        }
        arena_init(a);
}

void arena_reset(struct arena *a)
{
        arena_deinit(a);
}

void *arena_alloc(struct arena *a, size_t bytes)
{
        struct arena_chunk *c = a->chunks;
        size_t rounded, cap;
        void *p;

        must(!__builtin_add_overflow(bytes, 15, &rounded));
        rounded &= ~(size_t)15;
        a->used += rounded;
        if (!c || c->cap - c->used < rounded) {
                cap = c ? c->cap * 2 : CHUNK_MIN - sizeof *c;
                if (cap > CHUNK_MAX)
                        cap = CHUNK_MAX;
                if (cap < rounded)
                        cap = rounded;
                c = xmalloc(sizeof *c + cap);
                c->used = 0;
                c->cap = cap;
                c->next = a->chunks;
                a->chunks = c;
        }
        p = c->bytes + c->used;
        c->used += rounded;
        return p;
}

void *arena_zalloc(struct arena *a, size_t bytes)
{
        return memset(arena_alloc(a, bytes), 0, bytes);
}

void *arena_zalloc_array(struct arena *a, size_t count, size_t bytes)
{
        size_t total;

        must(!__builtin_mul_overflow(count, bytes, &total));
        return arena_zalloc(a, total);
}

char *arena_strndup(struct arena *a, const char *p, size_t len)
{
        char *copy = arena_alloc(a, len + 1);

        if (len)
                memcpy(copy, p, len);
        copy[len] = '\0';
        return copy;
}

char *arena_strdup(struct arena *a, const char *s)
{
        return arena_strndup(a, s, strlen(s));
}

struct span arena_span(struct arena *a, struct span s)
{
        return (struct span){ arena_strndup(a, s.p, s.len), s.len };
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
        struct str s = STR_INIT;
        va_list ap;
        char *out;

        va_start(ap, fmt);
        str_vprintf(&s, fmt, ap);
        va_end(ap);
        out = arena_strndup(a, s.data, s.len);
        str_deinit(&s);
        return out;
}
