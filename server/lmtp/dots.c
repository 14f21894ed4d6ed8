/* dots - see dots.h */
#include "server/lmtp/dots.h"

#include <string.h>

size_t dots_feed(struct dots *d, char *data, size_t len, void (*put)(void *ctx, char *p, size_t len), void *ctx)
{
        char *p = data, *end = data + len;
        char *from = data;                              /* from here on not yet handed on */

        while (p < end && d->state != DOTS_END) {
                switch (d->state) {
                case DOTS_LINE_START:
                        if (*p == '.') {
                                if (p > from)
                                        put(ctx, from, (size_t)(p - from));
                                from = ++p;             /* the dot itself is never content */
                                d->state = DOTS_DOT;
                        } else {
                                d->state = DOTS_LINE;
                        }
                        break;
                case DOTS_DOT:                          /* after CRLF "." */
                        d->state = DOTS_LINE;
                        if (*p == '\r') {
                                from = ++p;             /* held back: it ends the message, or the message is refused */
                                d->state = DOTS_DOT_CR;
                        }
                        break;
                case DOTS_DOT_CR:
                        if (*p == '\n') {
                                from = ++p;
                                d->state = DOTS_END;
                        } else {
                                d->bare = true;
                                d->state = DOTS_LINE;
                        }
                        break;
                case DOTS_LINE: {
                        /* The fast way: to the next CR; what is skipped must not hold LF or NUL. */
                        char *cr = memchr(p, '\r', (size_t)(end - p));
                        char *stop = cr ? cr : end;

                        if (memchr(p, '\n', (size_t)(stop - p)) || memchr(p, '\0', (size_t)(stop - p)))
                                d->bare = true;
                        p = stop;
                        if (cr) {
                                p++;
                                d->state = DOTS_CR;
                        }
                        break;
                }
                case DOTS_CR:
                        if (*p == '\n') {
                                p++;
                                d->state = DOTS_LINE_START;
                        } else {
                                d->bare = true;
                                d->state = DOTS_LINE;
                        }
                        break;
                case DOTS_END:
                        break;
                }
        }
        if (p > from)
                put(ctx, from, (size_t)(p - from));
        return (size_t)(p - data);
}
