/* stream_private - what stream.c (socket, SASL layer, the public functions) and stream_tls.c (GnuTLS) share. */
#ifndef SERVER_STREAM_PRIVATE_H
#define SERVER_STREAM_PRIVATE_H

#include <gnutls/gnutls.h>
#include <zlib.h>

#include "server/stream.h"

#define STREAM_CHUNK ((size_t)16 * 1024)        /* at most this goes through a layer at a time: one TLS record */
#define STREAM_READ_MAX ((size_t)32 * 1024)     /* at most this is read at a time, on the worker's stack */

struct stream_sasl {                            /* present once a security layer was negotiated */
        struct sasl_conn *conn;
        struct str in;                          /* decoded, not yet asked for */
        struct str out;                         /* encoded, not yet sent: `sent` octets of it are */
        size_t sent;
};

struct stream_deflate {                         /* present once COMPRESS is active (RFC 4978) */
        struct str in;                          /* compressed, not yet looked at */
        struct str out;                         /* compressed, not yet sent: `sent` octets of it are */
        size_t sent;
        z_stream *deflate;                      /* only within a stream_write() */
        unsigned char tail[1024];               /* the last octets sent, in clear: the next compressor's dictionary */
        size_t tail_len;
        z_stream *inflate;                      /* NULL: not begun, or resting */
        struct str window;                      /* while resting: what the peer may refer to … */
        bool window_packed;                     /* … compressed */
        bool at_end_of_block;                   /* all that came ends with a block; `bits` of the `last` octet belong to the next */
        unsigned bits;
        unsigned char last;
        bool more;                              /* there may be more output without further input */
        bool ended;
};

struct stream_fds {                             /* present when descriptors may come */
        int fd[STREAM_FDS];
        unsigned n;
};

struct stream_tap {
        void (*fn)(void *ctx, bool from_client, const void *p, size_t len);
        void *ctx;
};

struct stream {
        int fd;
        bool drained;                           /* stream_drained() */
        bool tls_established;
        gnutls_session_t tls;                   /* NULL: none */
        struct tls_context *tls_context;        /* counted: the credentials `tls` refers to */
        bool tls_resend;                        /* a record GnuTLS could not send: it is still at the front of the rope */
        unsigned tls_warnings;                  /* harmless oddities so far: bounded */
        char *tls_peer;                         /* the client's verified name, NULL none */
        struct stream_sasl *sasl;
        struct stream_deflate *deflate;
        struct stream_tap *tap;
        struct stream_fds *fds;
        uint64_t bytes_in, bytes_out;           /* atomic, relaxed: status reads them */
};

/* The layer below SASL: TLS when it is on, else the socket. *n_r: octets moved when STREAM_OK. */
enum stream_result stream_lower_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err);
enum stream_result stream_lower_write(struct stream *s, const void *p, size_t len, size_t *n_r, struct err *err);

/* The layers below DEFLATE: SASL when it is on, else as above. At least one octet when STREAM_OK. */
enum stream_result stream_secured_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err);

/* stream_deflate.c */
enum stream_result deflate_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err);
/* Compress into l->out, to an octet boundary. -1: no memory. */
int deflate_encode(struct stream_deflate *l, const char *p, size_t len, struct err *err);
void deflate_pause(struct stream_deflate *l);   /* give the compressor back */
void deflate_release(struct stream *s);

/* stream_tls.c */
enum stream_result tls_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err);
/* After STREAM_BLOCKED_… it must be called again with what begins with the same octets. */
enum stream_result tls_write(struct stream *s, const void *p, size_t len, size_t *n_r, struct err *err);
bool tls_pending(const struct stream *s);
void tls_shutdown(struct stream *s);
void tls_release(struct stream *s);

/* tls.c: what a new session takes from its context: credentials, priorities, ALPN, tickets, whether a certificate is asked for. */
int tls_context_apply(struct tls_context *tls, gnutls_session_t session, struct err *err);
bool tls_context_wants_client_cert(const struct tls_context *tls, bool *required_r);

#endif
