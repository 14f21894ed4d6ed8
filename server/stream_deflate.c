/*
 * stream_deflate - DEFLATE (RFC 4978, RFC 1951) between the rope and the security layers.
 *
 * What a session keeps is small. Compressing: no state at all is kept between two stream_write(). The compressor is borrowed from a
 * few that all sessions share; what it produced is flushed to an octet boundary each time, and the next one begins with the last
 * octets that were sent as its dictionary – the peer's window has them.
 *
 * Decompressing needs the last 32 KiB that came, for the peer may refer to any of them, and zlib's state beside. While the client is
 * active that stays (some 40 KiB). When it has been quiet for a while (stream_rest()), only the window is kept, compressed,
 * with the bits of the last octet that belong to the next block: commands shrink to a few hundred octets, a message that was just
 * uploaded may not. That works at the end of a block, which is where every flush leaves the stream; a client that stops within one
 * keeps its state.
 *
 * A bomb harms nobody: a read delivers what was asked for and no more, and what has not been decompressed is at most what one read took
 * off the socket.
 */
#include "server/stream_private.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "server/sasl.h"
#include "util/must.h"

#define WINDOW_MAX ((size_t)32 * 1024)
#define SMALL_WINDOW 512                        /* not worth the work */
#define SPARES 16                               /* zlib states of each kind that nobody uses at the moment: at most 2.7 MiB in all */
#define LEVEL 3

/* ---- states of zlib, shared by all sessions ---- */

enum { INFLATE, DEFLATE };
static _Atomic(z_stream *) spares[2][SPARES];   /* NULL: none; taken and put by exchange, so no lock */

static z_stream *state_take(int kind, struct err *err)
{
        z_stream *z;
        int rc;

        for (int i = 0; i < SPARES; i++)
                if ((z = atomic_exchange(&spares[kind][i], NULL)))
                        return z;
        z = xcalloc(1, sizeof *z);
        rc = kind == INFLATE ? inflateInit2(z, -15) : deflateInit2(z, LEVEL, Z_DEFLATED, -14, 7, Z_DEFAULT_STRATEGY);
        if (rc == Z_OK)
                return z;
        free(z);
        err_set(err, ERR_NOMEM, "zlib: no memory");
        return NULL;
}

static void state_put(int kind, z_stream **zp)
{
        z_stream *z = *zp, *none;

        *zp = NULL;
        if (!z)
                return;
        must((kind == INFLATE ? inflateReset(z) : deflateReset(z)) == Z_OK);
        for (int i = 0; i < SPARES; i++) {
                none = NULL;
                if (atomic_compare_exchange_strong(&spares[kind][i], &none, z))
                        return;
        }
        if (kind == INFLATE)
                inflateEnd(z);
        else
                deflateEnd(z);
        free(z);
}

/* ---- compressing ---- */

/* Everything in `p`, to an octet boundary. */
static void deflate_all(z_stream *z, const void *p, size_t len, int flush, struct str *out)
{
        unsigned char buf[4096];

        z->next_in = (Bytef *)(uintptr_t)p;             /* zlib does not write there */
        z->avail_in = (uInt)len;
        do {
                z->next_out = buf;
                z->avail_out = sizeof buf;
                must(deflate(z, flush) != Z_STREAM_ERROR);
                str_append(out, buf, sizeof buf - z->avail_out);
        } while (z->avail_out == 0);
        must(z->avail_in == 0);
}

static void remember(struct stream_deflate *l, const char *p, size_t len)
{
        size_t keep = len < sizeof l->tail ? sizeof l->tail - len : 0;

        if (keep > l->tail_len)
                keep = l->tail_len;
        memmove(l->tail, l->tail + l->tail_len - keep, keep);
        if (len > sizeof l->tail) {
                p += len - sizeof l->tail;
                len = sizeof l->tail;
        }
        memcpy(l->tail + keep, p, len);
        l->tail_len = keep + len;
}

int deflate_encode(struct stream_deflate *l, const char *p, size_t len, struct err *err)
{
        if (!l->deflate) {
                l->deflate = state_take(DEFLATE, err);
                if (!l->deflate)
                        return -1;
                if (l->tail_len)
                        must(deflateSetDictionary(l->deflate, l->tail, (uInt)l->tail_len) == Z_OK);
        }
        deflate_all(l->deflate, p, len, Z_SYNC_FLUSH, &l->out);
        remember(l, p, len);
        return 0;
}

void deflate_pause(struct stream_deflate *l)
{
        state_put(DEFLATE, &l->deflate);
}

/* ---- decompressing ---- */

/* All of a compressed window into buf, WINDOW_MAX octets. */
static int unpack(const struct str *from, unsigned char *buf, size_t *len_r, struct err *err)
{
        z_stream *z = state_take(INFLATE, err);

        if (!z)
                return -1;
        z->next_in = (Bytef *)from->data;
        z->avail_in = (uInt)from->len;
        z->next_out = buf;
        z->avail_out = WINDOW_MAX;
        must(inflate(z, Z_FINISH) == Z_STREAM_END);     /* we made it */
        *len_r = WINDOW_MAX - z->avail_out;
        state_put(INFLATE, &z);
        return 0;
}

/* Make the state that stream_rest() gave up. */
static int awake(struct stream_deflate *l, struct err *err)
{
        unsigned char buf[WINDOW_MAX];
        size_t len = l->window.len;

        if (l->inflate)
                return 0;
        if (l->window_packed && unpack(&l->window, buf, &len, err) < 0)
                return -1;
        l->inflate = state_take(INFLATE, err);
        if (!l->inflate)
                return -1;
        if (len)
                must(inflateSetDictionary(l->inflate, l->window_packed ? buf : (unsigned char *)l->window.data, (uInt)len) == Z_OK);
        if (l->bits)
                must(inflatePrime(l->inflate, (int)l->bits, l->last >> (8 - l->bits)) == Z_OK);
        str_deinit(&l->window);
        l->window_packed = false;
        return 0;
}

/* Is what comes next, at the end of a block, the empty stored block with which a flush ends (RFC 1951 3.2.4)? */
static bool is_flush_mark(const struct stream_deflate *l, const z_stream *z)
{
        const Bytef *p = z->next_in;
        unsigned header = l->bits ? (unsigned)l->last >> (8 - l->bits) : 0, bits = l->bits;

        if (bits < 3) {                                 /* the header goes on in the next octet */
                if (z->avail_in < 5)
                        return false;
                header |= (unsigned)*p++ << bits;
        } else if (z->avail_in < 4) {
                return false;
        }
        return (header & 7) == 0 && p[0] == 0 && p[1] == 0 && p[2] == 0xff && p[3] == 0xff;
}

/* Decompress at most `max` octets of what has come. *n_r may be 0: more must come. */
static int decode(struct stream_deflate *l, unsigned char *buf, size_t max, size_t *n_r, struct err *err)
{
        z_stream *z;
        bool marked = false;
        int rc = Z_OK;

        if (awake(l, err) < 0)
                return -1;
        z = l->inflate;
        z->next_in = (Bytef *)l->in.data;
        z->avail_in = (uInt)l->in.len;
        z->next_out = buf;
        z->avail_out = (uInt)max;
        do {
                const Bytef *before = z->next_in;

                rc = inflate(z, Z_BLOCK);               /* it stops after each block, and says so: see stream_rest() */
                if (z->next_in != before)
                        l->last = z->next_in[-1];
                l->at_end_of_block = (z->data_type & 128) != 0;
                l->bits = (unsigned)z->data_type & 7;
                /* What follows a block may not be meant for us: after UNAUTHENTICATE it is in clear. The flush's mark is still ours. */
                if (marked || (l->at_end_of_block && z->avail_out < max && !(marked = is_flush_mark(l, z))))
                        break;
        } while (rc == Z_OK && z->avail_out && z->avail_in);
        *n_r = max - z->avail_out;
        l->more = z->avail_out == 0;
        l->ended = rc == Z_STREAM_END;
        str_consume(&l->in, l->in.len - z->avail_in);
        z->next_in = NULL;
        if (rc != Z_OK && rc != Z_BUF_ERROR && rc != Z_STREAM_END)
                return err_set(err, ERR_SYNTAX, "no valid DEFLATE stream: %s", z->msg ? z->msg : "damaged");
        return 0;
}

enum stream_result deflate_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err)
{
        struct stream_deflate *l = s->deflate;
        char raw[STREAM_CHUNK];

        for (;;) {
                enum stream_result r;
                size_t n = 0;

                *n_r = 0;
                if ((l->in.len || l->more) && !l->ended) {
                        if (decode(l, buf, max, n_r, err) < 0)
                                return STREAM_FAILED;
                        if (*n_r)
                                return STREAM_OK;
                        if (l->in.len && !l->ended)     /* nothing came out of it, and nothing was used: cannot be */
                                continue;
                }
                if (l->ended)                           /* the client's last block: it will say no more */
                        return STREAM_EOF;
                r = stream_secured_read(s, raw, sizeof raw, &n, err);
                if (r != STREAM_OK)
                        return r;
                str_append(&l->in, raw, n);
        }
}

/* ---- life ---- */

void stream_start_deflate(struct stream *s, struct span received)
{
        must(s->deflate == NULL);
        s->deflate = xcalloc(1, sizeof *s->deflate);
        str_init(&s->deflate->in);
        str_init(&s->deflate->out);
        str_init(&s->deflate->window);
        s->deflate->at_end_of_block = true;
        str_append_span(&s->deflate->in, received);
}

bool stream_is_deflated(const struct stream *s)
{
        return s->deflate != NULL;
}

void deflate_release(struct stream *s)
{
        struct stream_deflate *l = s->deflate;

        s->deflate = NULL;
        if (!l)
                return;
        state_put(INFLATE, &l->inflate);
        state_put(DEFLATE, &l->deflate);
        str_deinit(&l->in);
        str_deinit(&l->out);
        str_deinit(&l->window);
        free(l);
}

bool stream_can_rest(const struct stream *s)
{
        const struct stream_deflate *l = s->deflate;

        return l && l->inflate && l->at_end_of_block && !l->more && !l->ended && l->in.len == 0;
}

void stream_rest(struct stream *s)
{
        struct stream_deflate *l = s->deflate;
        unsigned char buf[WINDOW_MAX];
        uInt len = sizeof buf;
        z_stream *z = NULL;
        struct err err = ERR_INIT;

        if (!stream_can_rest(s))
                return;
        must(inflateGetDictionary(l->inflate, buf, &len) == Z_OK);
        if (len > SMALL_WINDOW) {
                z = state_take(DEFLATE, &err);
                if (!z)
                        return;
                deflate_all(z, buf, len, Z_FINISH, &l->window);
                state_put(DEFLATE, &z);
                l->window_packed = true;
        } else {
                str_append(&l->window, buf, len);
        }
        str_shrink(&l->window);
        state_put(INFLATE, &l->inflate);
}
