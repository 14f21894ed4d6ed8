/*
 * rope - what a session still has to send: short pieces of memory and extents of files, in order.
 * One thread at a time (the session's). An empty rope holds no memory.
 */
#ifndef SERVER_ROPE_H
#define SERVER_ROPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/file.h"
#include "util/str.h"

#define ROPE_HIGH ((size_t)256 * 1024)          /* execution pauses when more than this is waiting to be sent */

struct rope {
        struct rope_piece *first, *last;
        uint64_t bytes;                         /* not yet sent, extents included */
        uint64_t memory;                        /* octets held in memory pieces */
};
#define ROPE_INIT { 0, 0, 0, 0 }

void rope_init(struct rope *r);
void rope_deinit(struct rope *r);               /* drops what was not sent */
void rope_append(struct rope *r, const void *p, size_t len);            /* copied; joins the last memory piece when there is room */
void rope_append_str(struct rope *r, const char *z);
void rope_append_span(struct rope *r, struct span s);
void rope_printf(struct rope *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Append a piece of a file; takes over the caller's reference in extent->file. Pieces below 4 KiB are better read and copied. */
void rope_append_extent(struct rope *r, struct extent *extent);
/* Move everything of `from` to the end of `to`. */
void rope_join(struct rope *to, struct rope *from);
static inline bool rope_empty(const struct rope *r) { return r->bytes == 0; }

/* For streams: the next piece to send. Memory: p != NULL. File: extent (borrowed). Then rope_sent(). */
struct rope_head { const char *p; size_t len; struct extent extent; };
bool rope_peek(const struct rope *r, struct rope_head *head_r);
/* Up to n memory pieces at the front, for writev(); returns how many (0: an extent stands first). */
struct iovec;
int rope_peek_iov(const struct rope *r, struct iovec *iov, int n);
void rope_sent(struct rope *r, uint64_t bytes);

#endif
