/* client_conn - see client_conn.h */
#include "replication/client_conn.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <zlib.h>

#include "util/clock.h"
#include "util/must.h"

#define LEVEL Z_BEST_SPEED                      /* the default took most of the time of what replicates (ARCHITECTURE.md), which has to keep up with deliveries */
#define KEEP_IDLE_S 5                           /* without tcp_keepalive_… */
#define KEEP_INTERVAL_S 2
#define KEEP_COUNT 3
#define UNACKNOWLEDGED_MS 60000
#define CONNECT_MS 30000
#define HANDSHAKE_MS 60000
#define TURN_MS 250                             /* how often `stop` is asked */
#define OUT_MAX ((size_t)64 * 1024)             /* gathered before it is sent */
#define IN_SIZE ((size_t)64 * 1024)
#define ADDRESS_MAX 128

struct client_conn {
        struct client_conn_params params;
        int fd;
        gnutls_session_t tls;
        gnutls_certificate_credentials_t credentials;
        bool deflate;
        z_stream deflater, inflater;
        struct str out;                         /* not yet sent, before DEFLATE */
        struct str packed;                      /* after it */
        char *raw;                              /* with DEFLATE: as it came, IN_SIZE */
        size_t raw_at, raw_len;
        char *in;                               /* IN_SIZE */
        size_t in_at, in_len;
        bool more_inflated;                     /* the inflater may have more without further input */
        bool held_back;                         /* the compressor has octets that it was not told to flush */
        const char *muted;
        uint64_t heard_ms, timeout_ms;
        char local[ADDRESS_MAX], peer[ADDRESS_MAX];
        char *host;
        struct client_conn_counts counts;
};

/* ---- the forms of sync_host ------------------------------------------------------------------------------------------------- */

static int take_options(struct client_target *t, const char *options, const char *text, struct err *err)
{
        if (strcmp(options, "tls") == 0)
                t->tls = true;
        else if (strcmp(options, "noauth") == 0)
                t->noauth = true;
        else
                return err_set(err, ERR_CONFIG, "\"%s\": \"/%s\" is neither /tls nor /noauth", text, options);
        return 0;
}

static int copy(char *to, size_t size, const char *from, size_t len, const char *text, struct err *err)
{
        if (len == 0 || len >= size)
                return err_set(err, ERR_CONFIG, "\"%s\" is no host, host:port or path", text);
        memcpy(to, from, len);
        to[len] = '\0';
        return 0;
}

int client_target_parse(const char *text, struct client_target *t, struct err *err)
{
        const char *slash = strchr(text, '/'), *end = slash ? slash : text + strlen(text), *host = text, *host_end, *colon;

        *t = (struct client_target){ .host = "" };
        if (text == slash && text[0]) {
                t->unix_socket = t->noauth = true;
                if (strlen(text) >= sizeof ((struct sockaddr_un *)0)->sun_path)
                        return err_set(err, ERR_CONFIG, "%s: the path is too long for a socket", text);
                return copy(t->host, sizeof t->host, text, strlen(text), text, err);
        }
        if (slash && take_options(t, slash + 1, text, err) < 0)
                return -1;
        if (*host == '[' && (host_end = memchr(host, ']', (size_t)(end - host)))) {
                host++;
                colon = host_end + 1 < end ? host_end + 1 : NULL;
        } else {
                colon = memchr(host, ':', (size_t)(end - host));
                if (colon && memchr(colon + 1, ':', (size_t)(end - colon - 1)))
                        colon = NULL;           /* more than one: an address of IPv6 without brackets */
                host_end = colon ? colon : end;
        }
        if (colon && *colon != ':')
                return err_set(err, ERR_CONFIG, "\"%s\" is no host, host:port or path", text);
        if (colon && copy(t->port, sizeof t->port, colon + 1, (size_t)(end - colon - 1), text, err) < 0)
                return -1;
        return copy(t->host, sizeof t->host, host, (size_t)(host_end - host), text, err);
}

/* ---- waiting ---------------------------------------------------------------------------------------------------------------- */

/* Until the socket is ready, or the time is over. */
static int wait_for(struct client_conn *c, short events, uint64_t deadline_ms, struct err *err)
{
        for (;;) {
                struct pollfd p = { .fd = c->fd, .events = events };
                uint64_t now = clock_mono_ms();
                int n;

                if (c->params.stop && c->params.stop(c->params.ctx))
                        return err_set(err, ERR_CANCELLED, "stopped");
                if (now >= deadline_ms)
                        return err_set(err, ERR_TIMEOUT, "the replica did not answer in time");
                n = poll(&p, 1, (int)(deadline_ms - now < TURN_MS ? deadline_ms - now : TURN_MS));
                if (n > 0)
                        return 0;
                if (n < 0 && errno != EINTR)
                        return err_errno(err, errno, "poll");
        }
}

static uint64_t deadline(const struct client_conn *c)
{
        return clock_mono_ms() + c->timeout_ms;
}

/* ---- connecting ------------------------------------------------------------------------------------------------------------- */

static void say_address(const struct sockaddr *sa, socklen_t len, char out[ADDRESS_MAX])
{
        char host[80], port[16];

        out[0] = '\0';
        if (sa->sa_family != AF_UNIX && getnameinfo(sa, len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) == 0)
                snprintf(out, ADDRESS_MAX, "%s;%s", host, port);
}

static void set_tcp(int fd, int option, int value)
{
        (void)setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value);
}

static int or_else(int64_t configured, int otherwise)
{
        return configured > 0 && configured < 32768 ? (int)configured : otherwise;
}

/*
 * A host that is gone without a word is noticed within seconds while we wait for its answer, and within a minute while it has not even acknowledged what we
 * sent: rolling replication would else be behind for as long as sync_timeout. tcp_keepalive_… say how patient to be. (A replica that lives, but is slow or stopped, does
 * acknowledge.)
 */
static void keep_alive(int fd, struct conf *conf)
{
        int on = 1;

        set_tcp(fd, TCP_NODELAY, 1);
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        set_tcp(fd, TCP_KEEPIDLE, or_else(conf_duration_s(conf, NULL, "tcp_keepalive_idle"), KEEP_IDLE_S));
        set_tcp(fd, TCP_KEEPINTVL, or_else(conf_duration_s(conf, NULL, "tcp_keepalive_intvl"), KEEP_INTERVAL_S));
        set_tcp(fd, TCP_KEEPCNT, or_else(conf_int(conf, NULL, "tcp_keepalive_cnt"), KEEP_COUNT));
        set_tcp(fd, TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS);
}

/* One address. */
static int try_address(struct client_conn *c, const struct sockaddr *sa, socklen_t len, uint64_t deadline_ms, struct err *err)
{
        struct sockaddr_storage name;
        socklen_t name_len = sizeof name, size = sizeof(int);
        int e = 0;

        c->fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (c->fd < 0)
                return err_errno(err, errno, "socket");
        if (connect(c->fd, sa, len) < 0)
                e = errno;
        if (e == EINPROGRESS || e == EINTR) {
                if (wait_for(c, POLLOUT, deadline_ms, err) < 0)
                        goto fail;
                if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &size) < 0)
                        e = errno;
        }
        if (e == 0) {
                say_address(sa, len, c->peer);
                if (getsockname(c->fd, (struct sockaddr *)&name, &name_len) == 0)
                        say_address((struct sockaddr *)&name, name_len, c->local);
                return 0;
        }
        err_set(err, ERR_UNAVAILABLE, "%s: %s", c->host, strerror(e));
fail:
        close(c->fd);
        c->fd = -1;
        return -1;
}

static int connect_unix(struct client_conn *c, const char *path, uint64_t deadline_ms, struct err *err)
{
        struct sockaddr_un sun = { .sun_family = AF_UNIX };

        must(strlen(path) < sizeof sun.sun_path);
        memcpy(sun.sun_path, path, strlen(path) + 1);
        return try_address(c, (struct sockaddr *)&sun, sizeof sun, deadline_ms, err);
}

static int connect_host(struct client_conn *c, const struct client_target *t, const char *port, uint64_t deadline_ms, struct err *err)
{
        struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC }, *all = NULL;
        int rc = getaddrinfo(t->host, port, &hints, &all), ret = -1;

        if (rc == EAI_SERVICE && (strcmp(port, "csync") == 0 || strcmp(port, "imap") == 0))     /* not in everybody's /etc/services */
                rc = getaddrinfo(t->host, *port == 'c' ? "2005" : "143", &hints, &all);
        if (rc == EAI_SERVICE)
                return err_set(err, ERR_CONFIG, "no service is called \"%s\": give sync_port a number", port);
        if (rc != 0)
                return err_set(err, ERR_UNAVAILABLE, "%s: %s", t->host, gai_strerror(rc));
        for (struct addrinfo *a = all; a && ret < 0; a = a->ai_next) {
                err_clear(err);
                ret = try_address(c, a->ai_addr, a->ai_addrlen, deadline_ms, err);
                if (ret < 0 && err->code == ERR_CANCELLED)
                        break;
        }
        freeaddrinfo(all);
        if (ret < 0 && err->code == ERR_TIMEOUT)
                err->code = ERR_UNAVAILABLE;
        return ret;
}

int client_conn_open(const struct client_conn_params *params, const struct client_target *target, const char *port, struct client_conn **conn_r,
                     struct err *err)
{
        struct client_conn *c = xcalloc(1, sizeof *c);
        uint64_t deadline_ms = clock_mono_ms() + CONNECT_MS;
        int rc;

        c->params = *params;
        c->fd = -1;
        c->timeout_ms = (uint64_t)params->timeout_s * 1000;
        c->heard_ms = clock_mono_ms();
        c->host = xstrdup(target->host);
        c->in = xmalloc(IN_SIZE);
        str_init(&c->out);
        str_init(&c->packed);
        rc = target->unix_socket ? connect_unix(c, target->host, deadline_ms, err)
                                 : connect_host(c, target, target->port[0] ? target->port : port, deadline_ms, err);
        if (rc == 0 && !target->unix_socket)
                keep_alive(c->fd, params->conf);
        if (rc == 0 && target->tls)
                rc = client_conn_start_tls(c, params->conf, err);
        c->params.conf = NULL;                  /* was borrowed */
        if (rc < 0)
                client_conn_close(&c);
        *conn_r = c;
        return rc;
}

void client_conn_close(struct client_conn **cp)
{
        struct client_conn *c = *cp;

        *cp = NULL;
        if (!c)
                return;
        if (c->tls) {
                gnutls_bye(c->tls, GNUTLS_SHUT_WR);
                gnutls_deinit(c->tls);
        }
        if (c->credentials)
                gnutls_certificate_free_credentials(c->credentials);
        if (c->deflate) {
                deflateEnd(&c->deflater);
                inflateEnd(&c->inflater);
        }
        if (c->fd >= 0)
                close(c->fd);
        str_deinit(&c->out);
        str_deinit(&c->packed);
        free(c->raw);
        free(c->in);
        free(c->host);
        free(c);
}

/* ---- octets on the wire ----------------------------------------------------------------------------------------------------- */

static int tls_failed(const char *what, int rc, struct err *err)
{
        return err_set(err, rc == GNUTLS_E_PREMATURE_TERMINATION ? ERR_CLOSED : ERR_IO, "TLS: %s: %s", what, gnutls_strerror(rc));
}

static bool try_again(ssize_t rc)
{
        return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

static int closed(struct err *err)
{
        return err_set(err, ERR_CLOSED, "the replica hung up");
}

/* Some octets, at least one. */
static int wire_read(struct client_conn *c, char *p, size_t size, size_t *n_r, struct err *err)
{
        uint64_t until = deadline(c);

        for (;;) {
                ssize_t n = c->tls ? gnutls_record_recv(c->tls, p, size) : recv(c->fd, p, size, 0);
                bool again = c->tls ? try_again(n) : n < 0 && (errno == EAGAIN || errno == EINTR);

                if (n > 0) {
                        *n_r = (size_t)n;
                        c->counts.wire_received += (size_t)n;
                        c->heard_ms = clock_mono_ms();
                        return 0;
                }
                if (n == 0 || (!c->tls && !again && errno == ECONNRESET))
                        return closed(err);
                if (!again)
                        return c->tls ? tls_failed("reading", (int)n, err) : err_errno(err, errno, "reading from the replica");
                if (wait_for(c, c->tls && gnutls_record_get_direction(c->tls) ? POLLOUT : POLLIN, until, err) < 0)
                        return -1;
        }
}

static int wire_write(struct client_conn *c, const char *p, size_t len, struct err *err)
{
        uint64_t until = deadline(c);

        while (len) {
                ssize_t n = c->tls ? gnutls_record_send(c->tls, p, len) : send(c->fd, p, len, MSG_NOSIGNAL);
                bool again = c->tls ? try_again(n) : n < 0 && (errno == EAGAIN || errno == EINTR);

                if (n > 0) {
                        p += n;
                        len -= (size_t)n;
                        c->counts.wire_sent += (size_t)n;
                        until = deadline(c);
                        continue;
                }
                if (!c->tls && !again && (errno == EPIPE || errno == ECONNRESET))
                        return closed(err);
                if (!again)
                        return c->tls ? tls_failed("writing", (int)n, err) : err_errno(err, errno, "writing to the replica");
                if (wait_for(c, c->tls && !gnutls_record_get_direction(c->tls) ? POLLIN : POLLOUT, until, err) < 0)
                        return -1;
        }
        return 0;
}

/* ---- TLS -------------------------------------------------------------------------------------------------------------------- */

static int prepare_tls(struct client_conn *c, struct conf *conf, struct err *err)
{
        const char *cert = conf_str(conf, NULL, "tls_client_cert"), *key = conf_str(conf, NULL, "tls_client_key");
        int rc = gnutls_certificate_allocate_credentials(&c->credentials);

        if (rc == 0 && cert && strcmp(cert, "disabled") != 0) {
                rc = gnutls_certificate_set_x509_key_file(c->credentials, cert, key ? key : cert, GNUTLS_X509_FMT_PEM);
                if (rc < 0)
                        return err_set(err, ERR_CONFIG, "tls_client_cert %s: %s", cert, gnutls_strerror(rc));
        }
        if (rc == 0)
                rc = gnutls_init(&c->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
        if (rc == 0)
                rc = gnutls_set_default_priority(c->tls);
        if (rc == 0)
                rc = gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, c->credentials);
        if (rc == 0 && strspn(c->host, "0123456789.:") != strlen(c->host))
                rc = gnutls_server_name_set(c->tls, GNUTLS_NAME_DNS, c->host, strlen(c->host));
        if (rc < 0)
                return tls_failed("preparing", rc, err);
        gnutls_transport_set_int(c->tls, c->fd);
        return 0;
}

int client_conn_start_tls(struct client_conn *c, struct conf *conf, struct err *err)
{
        uint64_t until = clock_mono_ms() + HANDSHAKE_MS;
        int rc;

        must(!c->tls && !c->deflate);
        if (client_conn_flush(c, err) < 0)
                return -1;
        /* Anybody on the way could have put it there: it must not be taken for what the replica says under TLS. */
        if (c->in_len > c->in_at)
                return err_set(err, ERR_SYNTAX, "the replica sent something in clear before TLS began");
        if (prepare_tls(c, conf, err) < 0)
                return -1;
        while ((rc = gnutls_handshake(c->tls)) < 0) {
                if (!try_again(rc) && gnutls_error_is_fatal(rc))
                        return tls_failed("handshake", rc, err);
                if (try_again(rc) && wait_for(c, gnutls_record_get_direction(c->tls) ? POLLOUT : POLLIN, until, err) < 0)
                        return -1;
        }
        return 0;
}

unsigned client_conn_tls_bits(const struct client_conn *c)
{
        return c->tls ? (unsigned)gnutls_cipher_get_key_size(gnutls_cipher_get(c->tls)) * 8 : 0;
}

/* ---- DEFLATE ---------------------------------------------------------------------------------------------------------------- */

int client_conn_start_deflate(struct client_conn *c, struct err *err)
{
        must(!c->deflate);
        if (client_conn_flush(c, err) < 0)
                return -1;
        if (inflateInit2(&c->inflater, -15) != Z_OK)
                return err_set(err, ERR_NOMEM, "zlib: no memory");
        if (deflateInit2(&c->deflater, LEVEL, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
                inflateEnd(&c->inflater);
                return err_set(err, ERR_NOMEM, "zlib: no memory");
        }
        c->raw = xmalloc(IN_SIZE);
        c->deflate = true;
        /* What has come behind the OK is compressed already. */
        c->raw_len = c->in_len - c->in_at;
        memcpy(c->raw, c->in + c->in_at, c->raw_len);
        c->in_at = c->in_len = 0;
        return 0;
}

/* `how`: Z_NO_FLUSH while more comes at once, Z_SYNC_FLUSH before the answer is waited for. */
static int deflate_write(struct client_conn *c, int how, struct err *err)
{
        z_stream *z = &c->deflater;

        z->next_in = (Bytef *)c->out.data;
        z->avail_in = (uInt)c->out.len;
        do {
                char *room;
                int rc;

                str_reserve(&c->packed, OUT_MAX);
                room = c->packed.data + c->packed.len;
                z->next_out = (Bytef *)room;
                z->avail_out = OUT_MAX;
                rc = deflate(z, how);
                must(rc == Z_OK || rc == Z_BUF_ERROR);
                c->packed.len += OUT_MAX - z->avail_out;
                if (wire_write(c, c->packed.data, c->packed.len, err) < 0)
                        return -1;
                str_clear(&c->packed);
        } while (z->avail_in || z->avail_out == 0);
        return 0;
}

static int inflate_read(struct client_conn *c, struct err *err)
{
        z_stream *z = &c->inflater;

        for (;;) {
                int rc;

                if (c->raw_at == c->raw_len && !c->more_inflated) {
                        c->raw_at = c->raw_len = 0;
                        if (wire_read(c, c->raw, IN_SIZE, &c->raw_len, err) < 0)
                                return -1;
                }
                z->next_in = (Bytef *)c->raw + c->raw_at;
                z->avail_in = (uInt)(c->raw_len - c->raw_at);
                z->next_out = (Bytef *)c->in;
                z->avail_out = IN_SIZE;
                rc = inflate(z, Z_SYNC_FLUSH);
                c->raw_at = c->raw_len - z->avail_in;
                c->more_inflated = z->avail_out == 0;
                c->in_at = 0;
                c->in_len = IN_SIZE - z->avail_out;
                if (rc != Z_OK && rc != Z_BUF_ERROR)
                        return err_set(err, ERR_CLOSED, "DEFLATE: %s", z->msg ? z->msg : "the stream ends");
                if (c->in_len)
                        return 0;
        }
}

/* ---- reading and writing ---------------------------------------------------------------------------------------------------- */

static int push(struct client_conn *c, int how, struct err *err)
{
        int rc = c->deflate ? deflate_write(c, how, err) : wire_write(c, c->out.data, c->out.len, err);

        str_clear(&c->out);
        c->held_back = c->deflate && how == Z_NO_FLUSH;
        return rc;
}

int client_conn_write(struct client_conn *c, const void *p, size_t len, struct err *err)
{
        if (c->params.traffic && !c->muted)
                c->params.traffic(c->params.ctx, true, p, len);
        c->counts.sent += len;
        while (len) {
                size_t n = OUT_MAX - c->out.len < len ? OUT_MAX - c->out.len : len;

                str_append(&c->out, p, n);
                p = (const char *)p + n;
                len -= n;
                if (c->out.len == OUT_MAX && push(c, Z_NO_FLUSH, err) < 0)
                        return -1;
        }
        return 0;
}

int client_conn_write_extent(struct client_conn *c, const struct extent *e, struct err *err)
{
        char *buf = xmalloc(OUT_MAX);
        int rc = 0;

        for (uint64_t at = 0; at < e->len && rc == 0;) {
                size_t n = e->len - at < OUT_MAX ? (size_t)(e->len - at) : OUT_MAX;

                rc = file_read(e->file, buf, n, e->offset + at, err);
                if (rc == 0)
                        rc = client_conn_write(c, buf, n, err);
                at += n;
        }
        free(buf);
        return rc;
}

int client_conn_flush(struct client_conn *c, struct err *err)
{
        return c->out.len || c->held_back ? push(c, Z_SYNC_FLUSH, err) : 0;
}

void client_conn_mute(struct client_conn *c, const char *instead)
{
        c->muted = instead;
        if (instead && c->params.traffic)
                c->params.traffic(c->params.ctx, true, instead, strlen(instead));
}

int client_conn_read(struct client_conn *c, struct span *in_r, struct err *err)
{
        if (c->in_at == c->in_len) {
                if (client_conn_flush(c, err) < 0)
                        return -1;
                c->in_at = c->in_len = 0;
                if (c->deflate ? inflate_read(c, err) < 0 : wire_read(c, c->in, IN_SIZE, &c->in_len, err) < 0)
                        return -1;
                c->counts.received += c->in_len;
                if (c->params.traffic)
                        c->params.traffic(c->params.ctx, false, c->in, c->in_len);
        }
        *in_r = (struct span){ c->in + c->in_at, c->in_len - c->in_at };
        return 0;
}

void client_conn_take(struct client_conn *c, size_t n)
{
        must(n <= c->in_len - c->in_at);
        c->in_at += n;
}

int client_conn_line(struct client_conn *c, size_t max, struct str *line, struct err *err)
{
        str_clear(line);
        for (;;) {
                struct span in;
                const char *end;
                size_t n;

                if (client_conn_read(c, &in, err) < 0)
                        return -1;
                end = memchr(in.p, '\n', in.len);
                n = end ? (size_t)(end - in.p) : in.len;
                if (line->len + n > max)
                        return err_set(err, ERR_LIMIT, "a line of more than %zu octets", max);
                str_append(line, in.p, n);
                client_conn_take(c, n + (end != NULL));
                if (!end)
                        continue;
                if (line->len && line->data[line->len - 1] == '\r')
                        str_truncate(line, line->len - 1);
                return 0;
        }
}

/* ---- the rest --------------------------------------------------------------------------------------------------------------- */

const char *client_conn_local(const struct client_conn *c)
{
        return c->local;
}

const char *client_conn_peer(const struct client_conn *c)
{
        return c->peer;
}

void client_conn_counts(const struct client_conn *c, struct client_conn_counts *counts_r)
{
        *counts_r = c->counts;
}

uint64_t client_conn_heard_ms(const struct client_conn *c)
{
        return c->heard_ms;
}

void client_conn_hurry(struct client_conn *c, unsigned timeout_s)
{
        c->timeout_ms = (uint64_t)timeout_s * 1000;
}
