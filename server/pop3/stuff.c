/* stuff - see stuff.h. A line begins behind CRLF and nothing else: a bare LF is content (as in LMTP's DATA). */
#include "server/pop3/stuff.h"

#include <stdlib.h>
#include <string.h>

#include "util/must.h"

#define PIECE ((size_t)64 * 1024)
#define COPY_BELOW ((size_t)8 * 1024)           /* octets; longer runs go out as extents */

void pop3_stuff_begin(struct pop3_stuff *st, const struct extent *body, uint64_t header_size, uint64_t lines)
{
        *st = (struct pop3_stuff){ .body = *body, .header_size = header_size, .lines = lines, .before = { '\r', '\n' } };
}

void pop3_stuff_end(struct pop3_stuff *st)
{
        file_unref(&st->body.file);
}

/* buf[from … to) of the piece that begins at st->at. */
static void put_run(struct pop3_stuff *st, struct rope *out, const char *buf, size_t from, size_t to)
{
        struct extent run = { st->body.file, st->body.offset + st->at + from, to - from };

        if (to - from < COPY_BELOW) {
                rope_append(out, buf + from, to - from);
                return;
        }
        file_ref(run.file);
        rope_append_extent(out, &run);
}

/* How many octets of the piece go out: all, or up to the end of the last line that TOP wants. */
static size_t limit_lines(struct pop3_stuff *st, const char *buf, size_t n)
{
        size_t pos = st->at < st->header_size ? (size_t)(st->header_size - st->at < n ? st->header_size - st->at : n) : 0;

        if (st->lines == UINT64_MAX)
                return n;
        while (pos < n && st->lines) {
                const char *lf = memchr(buf + pos, '\n', n - pos);

                if (!lf)
                        return n;
                pos = (size_t)(lf - buf) + 1;
                st->lines--;
        }
        if (st->at + pos >= st->header_size && st->lines == 0)
                st->ended = true;
        return pos;
}

static void put_end(struct pop3_stuff *st, struct rope *out)
{
        if (st->before[0] == '\r' && st->before[1] == '\n')
                rope_append(out, ".\r\n", 3);
        else
                rope_append(out, "\r\n.\r\n", 5);
}

int pop3_stuff_next(struct pop3_stuff *st, struct rope *out, struct err *err)
{
        size_t n = st->body.len - st->at < PIECE ? (size_t)(st->body.len - st->at) : PIECE, from = 0;
        char *buf;

        if (n == 0 || st->ended) {
                put_end(st, out);
                return 1;
        }
        buf = xmalloc(n);
        if (file_read(st->body.file, buf, n, st->body.offset + st->at, err) < 0) {
                free(buf);
                return -1;
        }
        n = limit_lines(st, buf, n);
        for (size_t i = 0; i < n;) {
                const char *dot = memchr(buf + i, '.', n - i);
                size_t at = dot ? (size_t)(dot - buf) : n;
                char before = at ? buf[at - 1] : st->before[1], before_that = at > 1 ? buf[at - 2] : at ? st->before[1] : st->before[0];

                if (dot && before == '\n' && before_that == '\r') {
                        put_run(st, out, buf, from, at);
                        rope_append(out, ".", 1);
                        from = at;
                }
                i = at + 1;
        }
        put_run(st, out, buf, from, n);
        if (n > 0)
                st->before[0] = n > 1 ? buf[n - 2] : st->before[1], st->before[1] = buf[n - 1];
        st->at += n;
        free(buf);
        return 0;
}
