/*
 * stream - a connection's octets through its layers: socket, TLS (GnuTLS), SASL security layer, DEFLATE.
 * Non-blocking. One thread at a time. Plain streams send file extents by sendfile(), others read them in bounded pieces as the
 * peer drains.
 */
#ifndef SERVER_STREAM_H
#define SERVER_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "server/rope.h"
#include "util/err.h"
#include "util/str.h"

struct stream;
struct tls_context;                             /* server/tls.h: certificates and priorities, counted, swapped on reload */
struct sasl_conn;

struct stream *stream_create(int fd);           /* takes the descriptor over; it is made non-blocking */
void stream_destroy(struct stream **s);         /* closes at once */
int stream_fd(const struct stream *s);

enum stream_result { STREAM_OK, STREAM_BLOCKED_READ, STREAM_BLOCKED_WRITE, STREAM_EOF, STREAM_FAILED };

/* Read once, at most `max` octets, appended to `in`. STREAM_OK: at least one octet came. */
enum stream_result stream_read(struct stream *s, struct str *in, size_t max, struct err *err);
/* After STREAM_OK: it had room for more than there was. Only known where no layer is between; epoll tells of what comes later. */
bool stream_drained(const struct stream *s);
/* Send as much of the rope as goes. STREAM_OK: the rope is empty now and nothing is held back in a layer. */
enum stream_result stream_write(struct stream *s, struct rope *out, struct err *err);
/* Octets that a layer has already taken off the socket: they must be read before parking, epoll will not tell of them. */
bool stream_pending(const struct stream *s);
/* Switch on TLS as server; the handshake is done by stream_handshake() until STREAM_OK. What was read before must be discarded by
 * the caller. */
int stream_start_tls(struct stream *s, struct tls_context *tls, struct err *err);
enum stream_result stream_handshake(struct stream *s, struct err *err);
bool stream_is_tls(const struct stream *s);
/* "TLS1.3", cipher and strength for logs; "" without TLS. */
const char *stream_tls_version(const struct stream *s);
unsigned stream_tls_bits(const struct stream *s);
/* Octets for channel binding tls-unique / tls-exporter, in `out`; false when there are none. */
bool stream_channel_binding(struct stream *s, const char *type, struct str *out);
/* The subject name the client's verified certificate gives for EXTERNAL, NULL none. */
const char *stream_tls_peer(const struct stream *s);
/* Put a SASL security layer on top (RFC 4422 3.7); the stream owns the connection from now on. */
void stream_start_sasl(struct stream *s, struct sasl_conn *conn);
/* Compress from now on, above the other layers (RFC 4978 3): everything in clear must have been sent. `received`: what has been read
 * already and comes after the command; it is taken for compressed. */
void stream_start_deflate(struct stream *s, struct span received);
bool stream_is_deflated(const struct stream *s);
/* End DEFLATE and a SASL layer (RFC 8437 3, 4.1); everything must have been sent. Returns false: there was none. What came behind the end of
 * the client's DEFLATE, in clear, is appended to clear_r. */
bool stream_end_layers(struct stream *s, struct str *clear_r);
/* Give back what memory can be spared while the session is idle: cheap, at each parking. */
void stream_idle(struct stream *s);
/* The same with some work, for a session that has been idle for a while. stream_can_rest(): there is something to give back. */
bool stream_can_rest(const struct stream *s);
void stream_rest(struct stream *s);
/* Say goodbye in the layers (TLS close_notify) and shut down sending; never blocks. */
void stream_shutdown(struct stream *s);

/* A copy of what passes in clear goes here: telemetry. fn is called with what was read / what was sent. NULL: none. */
void stream_tap(struct stream *s, void (*fn)(void *ctx, bool from_client, const void *p, size_t len), void *ctx);

/* Keep descriptors that come with the octets of a Unix socket (SCM_RIGHTS): STREAM_FDS at most, any more are closed. */
#define STREAM_FDS 2
void stream_accept_fds(struct stream *s);
/* The next of them, now the caller's; -1: there is none. */
int stream_take_fd(struct stream *s);

uint64_t stream_bytes_in(const struct stream *s);
uint64_t stream_bytes_out(const struct stream *s);

#endif
