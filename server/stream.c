/*
 * stream - see stream.h.
 *
 * Layers from the outside in: socket, TLS, SASL security layer, DEFLATE (RFC 4978 3). Without a layer and without a tap memory goes out by writev()
 * and file extents by sendfile(); otherwise the rope is copied in pieces of at most 16 KiB, which leave it when TLS has sent them or
 * the SASL layer or DEFLATE has encoded them. STREAM_OK is said only when nothing encoded is left.
 */
#include "server/stream_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/sasl.h"
#include "util/must.h"

#define IOV_AT_ONCE 32
#define SENDFILE_MAX ((size_t)256 * 1024)       /* a call */
#define PLAIN_AT_ONCE ((uint64_t)1024 * 1024)   /* a stream_write(): a peer that reads as fast as we send must not hold its worker. */
#define LAYERED_AT_ONCE ((uint64_t)256 * 1024)  /* After that it counts as blocked, and epoll says at once that it is not. */

struct stream *stream_create(int fd)
{
        struct stream *s = xcalloc(1, sizeof *s);
        int flags = fcntl(fd, F_GETFL);

        if (flags >= 0 && !(flags & O_NONBLOCK))
                fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        s->fd = fd;
        return s;
}

static void sasl_release(struct stream *s);

void stream_destroy(struct stream **sp)
{
        struct stream *s = *sp;

        *sp = NULL;
        if (!s)
                return;
        deflate_release(s);
        tls_release(s);
        sasl_release(s);
        free(s->tap);
        while (s->fds && s->fds->n)
                close(s->fds->fd[--s->fds->n]);
        free(s->fds);
        if (s->fd >= 0)
                close(s->fd);
        free(s);
}

int stream_fd(const struct stream *s)
{
        return s->fd;
}

static void count_in(struct stream *s, size_t n)
{
        __atomic_store_n(&s->bytes_in, s->bytes_in + n, __ATOMIC_RELAXED);
}

static void count_out(struct stream *s, size_t n)
{
        __atomic_store_n(&s->bytes_out, s->bytes_out + n, __ATOMIC_RELAXED);
}

uint64_t stream_bytes_in(const struct stream *s)
{
        return __atomic_load_n(&s->bytes_in, __ATOMIC_RELAXED);
}

uint64_t stream_bytes_out(const struct stream *s)
{
        return __atomic_load_n(&s->bytes_out, __ATOMIC_RELAXED);
}

/* ---- reading -------------------------------------------------------------------------------------------------------------- */

static void keep_fds(struct stream_fds *fds, const struct msghdr *m)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)(uintptr_t)m, c)) {
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                int fd;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < n; i++) {
                        memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                        if (fds->n < STREAM_FDS)
                                fds->fd[fds->n++] = fd;
                        else
                                close(fd);
                }
        }
}

/* For more descriptors than there is room for here the kernel has none made. */
static ssize_t read_with_fds(struct stream *s, void *buf, size_t max)
{
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(STREAM_FDS * sizeof(int))];
        struct iovec iov = { buf, max };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
        ssize_t n = recvmsg(s->fd, &m, MSG_CMSG_CLOEXEC);

        if (n > 0)
                keep_fds(s->fds, &m);
        return n;
}

static enum stream_result socket_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err)
{
        ssize_t n;

        do
                n = s->fds ? read_with_fds(s, buf, max) : read(s->fd, buf, max);
        while (n < 0 && errno == EINTR);
        if (n > 0) {
                *n_r = (size_t)n;
                return STREAM_OK;
        }
        if (n == 0)
                return STREAM_EOF;
        if (errno == EAGAIN || errno == EWOULDBLOCK)
                return STREAM_BLOCKED_READ;
        err_errno(err, errno, "read");
        return STREAM_FAILED;
}

enum stream_result stream_lower_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err)
{
        return s->tls ? tls_read(s, buf, max, n_r, err) : socket_read(s, buf, max, n_r, err);
}

static void deliver(struct stream *s, struct str *in, const void *p, size_t n)
{
        str_append(in, p, n);
        count_in(s, n);
        if (s->tap)
                s->tap->fn(s->tap->ctx, true, p, n);
}

/* Through the security layer: decoded octets that were not asked for wait in sasl->in. */
static enum stream_result sasl_read(struct stream *s, void *out, size_t max, size_t *n_r, struct err *err)
{
        char buf[STREAM_CHUNK];
        struct str *ready = &s->sasl->in;

        while (ready->len == 0) {
                size_t n = 0;
                enum stream_result r = stream_lower_read(s, buf, sizeof buf, &n, err);

                if (r != STREAM_OK)
                        return r;
                if (sasl_layer_decode(s->sasl->conn, buf, n, ready, err) < 0)
                        return STREAM_FAILED;
        }
        *n_r = max < ready->len ? max : ready->len;
        memcpy(out, ready->data, *n_r);
        str_consume(ready, *n_r);
        return STREAM_OK;
}

enum stream_result stream_secured_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err)
{
        return s->sasl ? sasl_read(s, buf, max, n_r, err) : stream_lower_read(s, buf, max, n_r, err);
}

enum stream_result stream_read(struct stream *s, struct str *in, size_t max, struct err *err)
{
        char buf[STREAM_READ_MAX];
        enum stream_result r;
        size_t n = 0;

        must(max > 0);
        if (max > sizeof buf)
                max = sizeof buf;
        r = s->deflate ? deflate_read(s, buf, max, &n, err) : stream_secured_read(s, buf, max, &n, err);
        s->drained = n < max && !s->deflate && !s->sasl && !s->tls && !s->fds;
        if (r == STREAM_OK)
                deliver(s, in, buf, n);
        return r;
}

bool stream_drained(const struct stream *s)
{
        return s->drained;
}

bool stream_pending(const struct stream *s)
{
        return (s->deflate && (s->deflate->in.len > 0 || s->deflate->more)) || (s->sasl && s->sasl->in.len > 0) || (s->tls && tls_pending(s));
}

/* ---- writing -------------------------------------------------------------------------------------------------------------- */

static enum stream_result write_failed(struct err *err, const char *what)
{
        if (errno == EAGAIN || errno == EWOULDBLOCK)
                return STREAM_BLOCKED_WRITE;
        err_errno(err, errno, "%s", what);
        return STREAM_FAILED;
}

static enum stream_result socket_write(struct stream *s, const void *p, size_t len, size_t *n_r, struct err *err)
{
        ssize_t n;

        do
                n = write(s->fd, p, len);               /* SIGPIPE is ignored in the whole process: engine_start() */
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return write_failed(err, "write");
        *n_r = (size_t)n;
        return STREAM_OK;
}

enum stream_result stream_lower_write(struct stream *s, const void *p, size_t len, size_t *n_r, struct err *err)
{
        return s->tls ? tls_write(s, p, len, n_r, err) : socket_write(s, p, len, n_r, err);
}

/* Sends some of the extent at the head of the rope; for descriptors that sendfile() does not take, through memory. */
static enum stream_result send_extent(struct stream *s, struct rope *out, const struct extent *x, struct err *err)
{
        off_t offset = (off_t)x->offset;
        size_t want = x->len < SENDFILE_MAX ? (size_t)x->len : SENDFILE_MAX;
        ssize_t n;
        int fd, saved;

        if (file_acquire_fd(x->file, &fd, err) < 0)
                return STREAM_FAILED;
        do
                n = sendfile(s->fd, fd, &offset, want);
        while (n < 0 && errno == EINTR);
        saved = errno;
        file_release_fd(x->file);
        if (n > 0) {
                count_out(s, (size_t)n);
                rope_sent(out, (uint64_t)n);
                return STREAM_OK;
        }
        if (n == 0) {
                err_set(err, ERR_CORRUPT, "%s is shorter than the extent that was to be sent", file_path(x->file));
                return STREAM_FAILED;
        }
        errno = saved;
        return write_failed(err, "sendfile");
}

static enum stream_result write_plain(struct stream *s, struct rope *out, struct err *err)
{
        uint64_t stop_at = out->bytes > PLAIN_AT_ONCE ? out->bytes - PLAIN_AT_ONCE : 0;
        struct iovec iov[IOV_AT_ONCE];
        struct rope_head head;

        while (rope_peek(out, &head)) {
                enum stream_result r = STREAM_OK;

                if (out->bytes < stop_at)
                        return STREAM_BLOCKED_WRITE;

                if (head.p) {
                        int count = rope_peek_iov(out, iov, IOV_AT_ONCE);
                        ssize_t n;

                        do
                                n = writev(s->fd, iov, count);
                        while (n < 0 && errno == EINTR);
                        if (n < 0) {
                                r = write_failed(err, "write");
                        } else {
                                count_out(s, (size_t)n);
                                rope_sent(out, (uint64_t)n);
                        }
                } else {
                        r = send_extent(s, out, &head.extent, err);
                }
                if (r != STREAM_OK)
                        return r;
        }
        return STREAM_OK;
}

/* Copy up to `max` octets from the front of the rope, over as many pieces as it takes. 0 with err: a file could not be read. */
static size_t gather(struct rope *out, char *buf, size_t max, struct err *err)
{
        struct iovec iov[IOV_AT_ONCE];
        struct rope_head head;
        size_t n = 0;
        int count;

        if (!rope_peek(out, &head))
                return 0;
        if (!head.p) {
                n = head.extent.len < max ? (size_t)head.extent.len : max;
                return file_read(head.extent.file, buf, n, head.extent.offset, err) < 0 ? 0 : n;
        }
        count = rope_peek_iov(out, iov, IOV_AT_ONCE);
        for (int i = 0; i < count && n < max; i++) {
                size_t part = iov[i].iov_len < max - n ? iov[i].iov_len : max - n;

                memcpy(buf + n, iov[i].iov_base, part);
                n += part;
        }
        return n;
}

/* What is encoded must go before more is. */
static enum stream_result sasl_flush(struct stream *s, struct err *err)
{
        struct stream_sasl *l = s->sasl;

        while (l->sent < l->out.len) {
                size_t n = 0;
                enum stream_result r = stream_lower_write(s, l->out.data + l->sent, l->out.len - l->sent, &n, err);

                if (r != STREAM_OK)
                        return r;
                l->sent += n;
        }
        str_deinit(&l->out);
        l->sent = 0;
        return STREAM_OK;
}

/* What is compressed must go before more is. */
static enum stream_result deflate_flush(struct stream *s, struct err *err)
{
        struct stream_deflate *l = s->deflate;

        for (;;) {
                enum stream_result r = s->sasl ? sasl_flush(s, err) : STREAM_OK;
                size_t n = l->out.len - l->sent;

                if (r != STREAM_OK)
                        return r;
                if (n == 0)
                        break;
                if (n > STREAM_CHUNK)
                        n = STREAM_CHUNK;
                if (s->sasl) {
                        if (n > sasl_layer_max(s->sasl->conn))
                                n = sasl_layer_max(s->sasl->conn);
                        if (sasl_layer_encode(s->sasl->conn, l->out.data + l->sent, n, &s->sasl->out, err) < 0)
                                return STREAM_FAILED;
                } else {
                        r = stream_lower_write(s, l->out.data + l->sent, n, &n, err);
                        if (r != STREAM_OK)
                                return r;
                }
                l->sent += n;
        }
        str_deinit(&l->out);
        l->sent = 0;
        return STREAM_OK;
}

static enum stream_result layers_flush(struct stream *s, struct err *err)
{
        return s->deflate ? deflate_flush(s, err) : s->sasl ? sasl_flush(s, err) : STREAM_OK;
}

/* Hand one piece to the layers; what they took leaves the rope. */
static enum stream_result push(struct stream *s, struct rope *out, const char *buf, size_t len, struct err *err)
{
        enum stream_result r = STREAM_OK;
        size_t n = len;

        if (s->deflate) {
                if (deflate_encode(s->deflate, buf, len, err) < 0)
                        return STREAM_FAILED;
        } else if (s->sasl) {
                if (sasl_layer_encode(s->sasl->conn, buf, len, &s->sasl->out, err) < 0)
                        return STREAM_FAILED;
        } else {
                r = stream_lower_write(s, buf, len, &n, err);
                if (r != STREAM_OK)
                        return r;
        }
        count_out(s, n);
        if (s->tap)
                s->tap->fn(s->tap->ctx, false, buf, n);
        rope_sent(out, n);
        return STREAM_OK;
}

static enum stream_result write_layered(struct stream *s, struct rope *out, struct err *err)
{
        uint64_t stop_at = out->bytes > LAYERED_AT_ONCE ? out->bytes - LAYERED_AT_ONCE : 0;
        char buf[STREAM_CHUNK];
        size_t max = sizeof buf;

        if (s->sasl && !s->deflate && sasl_layer_max(s->sasl->conn) < max)
                max = sasl_layer_max(s->sasl->conn);
        for (;;) {
                enum stream_result r = layers_flush(s, err);
                struct err trouble = ERR_INIT;
                size_t n;

                if (r != STREAM_OK || rope_empty(out))
                        return r;
                if (out->bytes < stop_at)
                        return STREAM_BLOCKED_WRITE;
                n = gather(out, buf, max, &trouble);
                if (n == 0) {
                        err_copy(err, &trouble);
                        return STREAM_FAILED;
                }
                r = push(s, out, buf, n, err);
                if (r != STREAM_OK)
                        return r;
        }
}

enum stream_result stream_write(struct stream *s, struct rope *out, struct err *err)
{
        enum stream_result r;

        if (!s->tls && !s->sasl && !s->deflate && !s->tap)
                return write_plain(s, out, err);
        r = write_layered(s, out, err);
        if (s->deflate)
                deflate_pause(s->deflate);
        return r;
}

/* ---- layers and the rest -------------------------------------------------------------------------------------------------- */

void stream_start_sasl(struct stream *s, struct sasl_conn *conn)
{
        must(s->sasl == NULL);
        s->sasl = xcalloc(1, sizeof *s->sasl);
        s->sasl->conn = conn;
        str_init(&s->sasl->in);
        str_init(&s->sasl->out);
}

static void sasl_release(struct stream *s)
{
        if (!s->sasl)
                return;
        sasl_conn_destroy(&s->sasl->conn);
        str_deinit(&s->sasl->in);
        str_deinit(&s->sasl->out);
        free(s->sasl);
        s->sasl = NULL;
}

bool stream_end_layers(struct stream *s, struct str *clear_r)
{
        bool any = s->deflate || s->sasl;

        if (s->deflate && !s->sasl)
                str_append_span(clear_r, str_span(&s->deflate->in));
        deflate_release(s);
        sasl_release(s);
        return any;
}

void stream_idle(struct stream *s)
{
        if (s->sasl) {
                str_shrink(&s->sasl->in);
                if (s->sasl->out.len == 0)
                        str_deinit(&s->sasl->out);
        }
        if (s->deflate)
                str_shrink(&s->deflate->in);
}

void stream_shutdown(struct stream *s)
{
        if (s->tls)
                tls_shutdown(s);
        shutdown(s->fd, SHUT_WR);
}

void stream_tap(struct stream *s, void (*fn)(void *ctx, bool from_client, const void *p, size_t len), void *ctx)
{
        if (!fn) {
                free(s->tap);
                s->tap = NULL;
                return;
        }
        if (!s->tap)
                s->tap = xcalloc(1, sizeof *s->tap);
        s->tap->fn = fn;
        s->tap->ctx = ctx;
}

void stream_accept_fds(struct stream *s)
{
        if (!s->fds)
                s->fds = xcalloc(1, sizeof *s->fds);
}

int stream_take_fd(struct stream *s)
{
        int fd;

        if (!s->fds || s->fds->n == 0)
                return -1;
        fd = s->fds->fd[0];
        s->fds->n--;
        memmove(s->fds->fd, s->fds->fd + 1, s->fds->n * sizeof fd);
        return fd;
}
