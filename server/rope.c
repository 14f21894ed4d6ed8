/*
 * rope - see rope.h.
 * A list of pieces. Memory pieces grow from 512 octets to 16 KiB, so that a one-line answer stays small and a long FETCH needs
 * few; a piece is freed the moment its last octet is sent.
 */
#include "server/rope.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "util/must.h"

#define PIECE_MIN ((size_t)512)
#define PIECE_MAX ((size_t)16 * 1024)

struct rope_piece {
        struct rope_piece *next;
        struct extent extent;                   /* file != NULL: a counted piece of a file; offset and len are what is left */
        size_t start, end, cap;                 /* memory: bytes[start..end) is left to send */
        char bytes[];
};

void rope_init(struct rope *r)
{
        memset(r, 0, sizeof *r);
}

static void piece_destroy(struct rope_piece *p)
{
        if (p->extent.file)
                file_unref(&p->extent.file);
        free(p);
}

void rope_deinit(struct rope *r)
{
        while (r->first) {
                struct rope_piece *next = r->first->next;

                piece_destroy(r->first);
                r->first = next;
        }
        rope_init(r);
}

static struct rope_piece *piece_add(struct rope *r, size_t cap)
{
        struct rope_piece *p = xmalloc(sizeof *p + cap);

        memset(p, 0, sizeof *p);
        p->cap = cap;
        if (r->last)
                r->last->next = p;
        else
                r->first = p;
        r->last = p;
        return p;
}

/* How large the next memory piece should be: twice the last one, within bounds, and never less than what must go in. */
static size_t next_cap(const struct rope *r, size_t len)
{
        size_t cap = r->last && !r->last->extent.file ? r->last->cap * 2 : PIECE_MIN;

        if (cap > PIECE_MAX)
                cap = PIECE_MAX;
        return cap < len ? len : cap;
}

void rope_append(struct rope *r, const void *data, size_t len)
{
        const char *from = data;
        struct rope_piece *p = r->last;

        r->bytes += len;
        r->memory += len;
        if (p && !p->extent.file && p->end < p->cap && len > 0) {
                size_t n = p->cap - p->end < len ? p->cap - p->end : len;

                memcpy(p->bytes + p->end, from, n);
                p->end += n;
                from += n;
                len -= n;
        }
        if (len == 0)
                return;
        p = piece_add(r, next_cap(r, len));
        memcpy(p->bytes, from, len);
        p->end = len;
}

void rope_append_str(struct rope *r, const char *z)
{
        rope_append(r, z, strlen(z));
}

void rope_append_span(struct rope *r, struct span s)
{
        rope_append(r, s.p, s.len);
}

void rope_printf(struct rope *r, const char *fmt, ...)
{
        char small[512];
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(small, sizeof small, fmt, ap);
        va_end(ap);
        must(n >= 0);
        if ((size_t)n < sizeof small) {
                rope_append(r, small, (size_t)n);
        } else {
                char *large = xmalloc((size_t)n + 1);

                va_start(ap, fmt);
                vsnprintf(large, (size_t)n + 1, fmt, ap);
                va_end(ap);
                rope_append(r, large, (size_t)n);
                free(large);
        }
}

void rope_append_extent(struct rope *r, struct extent *extent)
{
        struct rope_piece *p;

        must(extent->file != NULL);
        if (extent->len == 0) {
                file_unref(&extent->file);
                return;
        }
        p = piece_add(r, 0);
        p->extent = *extent;
        extent->file = NULL;
        r->bytes += extent->len;
}

void rope_join(struct rope *to, struct rope *from)
{
        if (!from->first)
                return;
        if (to->last)
                to->last->next = from->first;
        else
                to->first = from->first;
        to->last = from->last;
        to->bytes += from->bytes;
        to->memory += from->memory;
        rope_init(from);
}

bool rope_peek(const struct rope *r, struct rope_head *head_r)
{
        const struct rope_piece *p = r->first;

        if (!p)
                return false;
        memset(head_r, 0, sizeof *head_r);
        if (p->extent.file) {
                head_r->extent = p->extent;
        } else {
                head_r->p = p->bytes + p->start;
                head_r->len = p->end - p->start;
        }
        return true;
}

int rope_peek_iov(const struct rope *r, struct iovec *iov, int n)
{
        int filled = 0;

        for (struct rope_piece *p = r->first; p && !p->extent.file && filled < n; p = p->next) {
                iov[filled].iov_base = p->bytes + p->start;
                iov[filled].iov_len = p->end - p->start;
                filled++;
        }
        return filled;
}

/* Take up to `bytes` octets off the first piece; returns how many. */
static uint64_t piece_sent(struct rope *r, struct rope_piece *p, uint64_t bytes)
{
        uint64_t left = p->extent.file ? p->extent.len : p->end - p->start;
        uint64_t n = bytes < left ? bytes : left;

        if (p->extent.file) {
                p->extent.offset += n;
                p->extent.len -= n;
        } else {
                p->start += (size_t)n;
                r->memory -= n;
        }
        r->bytes -= n;
        if (n == left) {
                r->first = p->next;
                if (!r->first)
                        r->last = NULL;
                piece_destroy(p);
        }
        return n;
}

void rope_sent(struct rope *r, uint64_t bytes)
{
        must(bytes <= r->bytes);
        while (bytes > 0)
                bytes -= piece_sent(r, r->first, bytes);
}
