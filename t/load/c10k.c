/*
 * c10k - thousands of sessions at once, and whether another client notices (acceptance line 3).
 *
 *   c10k [--name=value …]       see options[] below; t/load/run starts a daemon and calls this
 *
 * One thread runs all mass clients from an epoll loop, each a small state machine: connect, log in, select, then
 *   idle      IDLE until the end; counts what EXISTS it is told, and when
 *   deaf      asks for 10 MiB and never reads again
 *   drip      sends an octet a second: a command in one half, the literal of an APPEND in the other
 * Every other client of each kind speaks TLS. The main thread is the probe: a blocking client that times NOOP, APPEND and FETCH;
 * searchers are blocking clients in threads of their own. Prints TAP, figures as comments.
 *
 * Clients log in by AUTHENTICATE PLAIN as admin for user u<n>; they come from several addresses 127.0.1.x.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define MIB (1024 * 1024)

static struct {
        long imap, imaps, lmtp, pid, idle, deaf, drip, users, common, searches, search_boxes, search_messages, probes, settle_s, connecting,
                plain_kib, tls_kib, p99_ms, fill_only;
} opt = {
        .imap = 1143, .imaps = 1993, .lmtp = 2424, .idle = 400, .deaf = 50, .drip = 50, .users = 0, .common = 0, .searches = 16,
        .search_boxes = 2, .search_messages = 5000, .probes = 200, .settle_s = 30, .connecting = 200, .plain_kib = 8, .tls_kib = 24,
        .p99_ms = 100,
};

static const struct { const char *name, *help; long *value; } options[] = {
        { "imap", "port of IMAP", &opt.imap }, { "imaps", "port of IMAPS", &opt.imaps }, { "lmtp", "port of LMTP", &opt.lmtp },
        { "pid", "the daemon's process, for its memory", &opt.pid },
        { "idle", "clients in IDLE", &opt.idle }, { "deaf", "clients that never read", &opt.deaf },
        { "drip", "clients that send an octet a second", &opt.drip },
        { "users", "mailboxes that idle clients are spread over; 0: an eighth as many as clients", &opt.users },
        { "common", "idle clients that watch one common mailbox; 0: an eighth", &opt.common },
        { "searches", "SEARCH TEXT at the same time", &opt.searches }, { "search_boxes", "mailboxes they run through", &opt.search_boxes },
        { "search_messages", "messages in each", &opt.search_messages }, { "probes", "rounds of the probe in each phase", &opt.probes },
        { "settle_s", "seconds until idle sessions count as idle", &opt.settle_s },
        { "connecting", "clients that log in at the same time", &opt.connecting },
        { "plain_kib", "KiB that an idle plain session may cost", &opt.plain_kib },
        { "tls_kib", "KiB that an idle TLS session may cost", &opt.tls_kib },
        { "p99_ms", "milliseconds that the probe's 99th percentile may be", &opt.p99_ms },
};
#define OPTIONS (sizeof options / sizeof options[0])

/* ---- TAP, time, memory -------------------------------------------------------------------------------------------------------- */

static int tests, failures;

static bool ok(bool good, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool ok(bool good, const char *fmt, ...)
{
        va_list ap;

        printf("%sok %d - ", good ? "" : "not ", ++tests);
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        printf("\n");
        fflush(stdout);
        failures += !good;
        return good;
}

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
        va_list ap;

        printf("# ");
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        printf("\n");
        fflush(stdout);
}

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...)
{
        va_list ap;

        printf("not ok %d - ", ++tests);
        va_start(ap, fmt);
        vprintf(fmt, ap);
        va_end(ap);
        printf("\n1..%d\n%d passed, %d failed\n", tests, tests - failures - 1, failures + 1);
        exit(1);
}

static double now(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void pause_s(double s)
{
        struct timespec ts = { (time_t)s, (long)((s - (double)(time_t)s) * 1e9) };

        nanosleep(&ts, NULL);
}

/* The daemon's proportional share of memory in KiB; -1: not to be had. */
static long pss_kib(void)
{
        char path[64], line[256];
        long kib = -1;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%ld/smaps_rollup", opt.pid);
        f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f))
                if (sscanf(line, "Pss: %ld", &kib) == 1)
                        break;
        if (f)
                fclose(f);
        return kib;
}

/* ---- connections, blocking or not --------------------------------------------------------------------------------------------- */

static gnutls_certificate_credentials_t credentials;

struct conn {
        int fd;
        gnutls_session_t tls;                   /* NULL: plain */
};

static int open_socket(long port, unsigned number, bool blocking, int rcvbuf)
{
        struct sockaddr_in from = { .sin_family = AF_INET }, to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0), one = 1;

        if (fd < 0)
                die("socket: %s", strerror(errno));
        /* Sixteen addresses: no limit for one of them, and no end of ports. */
        from.sin_addr.s_addr = htonl(0x7f000101u + number % 16);
        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (rcvbuf)
                setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf);
        if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
                die("bind: %s", strerror(errno));
        if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
                die("connect to port %ld: %s", port, strerror(errno));
        return fd;
}

static void start_tls(struct conn *c)
{
        gnutls_init(&c->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS);
        gnutls_set_default_priority(c->tls);
        gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, credentials);
        gnutls_transport_set_int(c->tls, c->fd);
}

/* Octets, 0 at the end, -1: later (EAGAIN), -2: broken. */
static ssize_t conn_recv(struct conn *c, void *p, size_t n)
{
        ssize_t got;

        if (c->tls) {
                got = gnutls_record_recv(c->tls, p, n);
                return got >= 0 ? got : gnutls_error_is_fatal((int)got) ? -2 : -1;
        }
        got = recv(c->fd, p, n, MSG_DONTWAIT);
        return got >= 0 ? got : errno == EAGAIN || errno == EINTR ? -1 : -2;
}

static ssize_t conn_send(struct conn *c, const void *p, size_t n)
{
        ssize_t put;

        if (c->tls) {
                put = gnutls_record_send(c->tls, p, n);
                return put >= 0 ? put : gnutls_error_is_fatal((int)put) ? -2 : -1;
        }
        put = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        return put >= 0 ? put : errno == EAGAIN || errno == EINTR ? -1 : -2;
}

static void conn_close(struct conn *c)
{
        if (c->tls)
                gnutls_deinit(c->tls);
        if (c->fd >= 0)
                close(c->fd);
        c->tls = NULL;
        c->fd = -1;
}

/* base64 of "user\0admin\0sesame", whose length varies. */
static void plain_token(const char *user, char out[256])
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        unsigned char in[128] = { 0 };
        size_t n = (size_t)snprintf((char *)in, sizeof in, "%s", user) + 1, k = 0;

        n += (size_t)snprintf((char *)in + n, sizeof in - n, "admin") + 1;
        n += (size_t)snprintf((char *)in + n, sizeof in - n, "sesame");
        for (size_t i = 0; i < n; i += 3) {
                unsigned v = (unsigned)in[i] << 16 | (i + 1 < n ? (unsigned)in[i + 1] << 8 : 0) | (i + 2 < n ? in[i + 2] : 0);

                out[k++] = digits[v >> 18];
                out[k++] = digits[v >> 12 & 63];
                out[k++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
                out[k++] = i + 2 < n ? digits[v & 63] : '=';
        }
        out[k] = '\0';
}

static bool is_exists(const char *line, unsigned long *n_r)
{
        int end = 0;

        return sscanf(line, "* %lu EXISTS%n", n_r, &end) == 1 && end > 0;
}

/* ---- a blocking client: the probe, the searchers, who fills mailboxes ------------------------------------------------------- */

struct client {
        struct conn c;
        unsigned tag;
        char *buf;
        size_t len, cap;
        double timeout;
        unsigned long exists;                   /* the last "* n EXISTS" */
};

static bool client_wait(struct client *k, short events, double until)
{
        struct pollfd p = { k->c.fd, events, 0 };
        double left = until - now();

        return left > 0 && poll(&p, 1, (int)(left * 1000) + 1) > 0;
}

static void client_send(struct client *k, const char *p, size_t n)
{
        double until = now() + k->timeout;

        while (n) {
                ssize_t put = conn_send(&k->c, p, n);

                if (put == -2 || (put == -1 && !client_wait(k, POLLOUT, until)))
                        die("the daemon takes nothing from a client");
                if (put > 0) {
                        p += put;
                        n -= (size_t)put;
                }
        }
}

/* Read until a line starts with `tag`; its text into `line`. All before it is dropped. */
static void client_until(struct client *k, const char *tag, char *line, size_t size)
{
        double until = now() + k->timeout;
        size_t from = 0, tag_len = strlen(tag);

        for (;;) {
                char *nl = memchr(k->buf + from, '\n', k->len - from);

                if (nl) {
                        char *start = k->buf + from;
                        size_t n = (size_t)(nl - start);
                        bool found = n >= tag_len && memcmp(start, tag, tag_len) == 0;
                        unsigned long exists;

                        if (n < 64 && is_exists(start, &exists))
                                k->exists = exists;
                        if (found)
                                snprintf(line, size, "%.*s", (int)(n > 200 ? 200 : n), start);
                        from += n + 1;
                        if (found) {
                                memmove(k->buf, k->buf + from, k->len - from);
                                k->len -= from;
                                return;
                        }
                        continue;
                }
                memmove(k->buf, k->buf + from, k->len - from);
                k->len -= from;
                from = 0;
                if (k->len + 65536 > k->cap) {
                        k->cap = k->cap * 2 + 131072;
                        k->buf = realloc(k->buf, k->cap);
                }
                for (;;) {
                        ssize_t got = conn_recv(&k->c, k->buf + k->len, 65536);

                        if (got > 0) {
                                k->len += (size_t)got;
                                break;
                        }
                        if (got != -1)
                                die("the daemon hung up on a client that waited for %s", tag);
                        if (!client_wait(k, POLLIN, until))
                                die("no answer within %.0f s (waiting for %s)", k->timeout, tag);
                }
        }
}

/* A command with its answer; dies unless it is OK. */
static void client_do(struct client *k, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void client_do(struct client *k, const char *fmt, ...)
{
        char cmd[8192], tag[16], line[256];
        size_t n = (size_t)snprintf(cmd, sizeof cmd, "p%u ", ++k->tag);
        va_list ap;

        snprintf(tag, sizeof tag, "p%u ", k->tag);
        va_start(ap, fmt);
        n += (size_t)vsnprintf(cmd + n, sizeof cmd - n - 2, fmt, ap);
        va_end(ap);
        memcpy(cmd + n, "\r\n", 2);
        client_send(k, cmd, n + 2);
        client_until(k, tag, line, sizeof line);
        if (strncmp(line + strlen(tag), "OK", 2) != 0)
                die("%.60s: %s", cmd, line);
}

static struct client *client_open(const char *user, bool tls, double timeout)
{
        struct client *k = calloc(1, sizeof *k);
        char token[256], line[256];
        static atomic_uint number;
        double until = now() + timeout;

        k->timeout = timeout;
        k->c.fd = open_socket(tls ? opt.imaps : opt.imap, atomic_fetch_add(&number, 1), true, 0);
        if (tls) {
                int rc;

                start_tls(&k->c);
                while ((rc = gnutls_handshake(k->c.tls)) < 0)
                        if (gnutls_error_is_fatal(rc) || !client_wait(k, POLLIN, until))
                                die("TLS: %s", gnutls_strerror(rc));
        }
        k->cap = 131072;
        k->buf = malloc(k->cap);
        client_until(k, "* OK", line, sizeof line);
        plain_token(user, token);
        client_do(k, "AUTHENTICATE PLAIN %s", token);
        return k;
}

static void client_close(struct client *k)
{
        conn_close(&k->c);
        free(k->buf);
        free(k);
}

static size_t make_message(char *out, size_t size, unsigned number)
{
        static const char words[16][10] = { "autumn", "birch", "candle", "draft", "engine", "forest", "gravel", "harbour", "island", "journal",
                                            "kettle", "ladder", "meadow", "needle", "orchard", "paper" };
        unsigned r = number * 2654435761u + 12345;
        size_t n = (size_t)sprintf(out, "From: sender%u@example.org\r\nTo: user@example.org\r\nSubject: message %u\r\nMessage-ID: <%u.c10k@example.org>\r\n"
                                   "Date: Sun, 1 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
                                   number % 97, number, number);

        while (n + 80 < size) {
                size_t line = n;

                while (n - line < 60) {
                        r = r * 1103515245u + 12345;
                        n += (size_t)sprintf(out + n, "%s ", words[r >> 20 & 15]);
                }
                n += (size_t)sprintf(out + n, "\r\n");
        }
        return n;
}

/* `count` messages of about `size` octets by pipelined APPENDs. */
static void client_fill(struct client *k, const char *mailbox, unsigned count, size_t size)
{
        char *message = malloc(size + 1024), line[256], tag[16], cmd[128];

        for (unsigned done = 0; done < count;) {
                unsigned batch = count - done < 32 ? count - done : 32;

                for (unsigned i = 0; i < batch; i++) {
                        size_t n = make_message(message, size, done + i);
                        int c = snprintf(cmd, sizeof cmd, "p%u APPEND %s {%zu+}\r\n", ++k->tag, mailbox, n);

                        client_send(k, cmd, (size_t)c);
                        client_send(k, message, n);
                        client_send(k, "\r\n", 2);
                }
                for (unsigned i = 0; i < batch; i++) {
                        snprintf(tag, sizeof tag, "p%u ", k->tag - batch + 1 + i);
                        client_until(k, tag, line, sizeof line);
                        if (strncmp(line + strlen(tag), "OK", 2) != 0)
                                die("APPEND %s: %s", mailbox, line);
                }
                done += batch;
        }
        free(message);
}

/* ---- mass clients ---------------------------------------------------------------------------------------------------------------- */

enum kind { IDLE, DEAF, DRIP };
enum state { CONNECTING, HANDSHAKE, GREETING, LOGIN, SELECTING, SETTLED, ENDING, GONE };

struct mass {
        struct conn c;
        enum kind kind;
        enum state state;
        bool tls, common, out_wanted;
        unsigned number;
        unsigned user;
        char line[160];                         /* the line so far, its beginning */
        unsigned line_len;
        char *drip;
        size_t drip_len, drip_at;
        const char *lost;
};

static struct mass *masses;
static unsigned masses_n;
static int epfd;
static atomic_uint settled, lost, exists_common, dripped, ended;
static _Atomic double last_exists;
static atomic_bool loop_stop, ending;
static unsigned opened, busy;                   /* of the loop's thread */
static atomic_uint target;                      /* how many of `masses` are to be opened */
static char first_loss[200];

static void say(struct mass *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void lose(struct mass *m, const char *why)
{
        if (m->state == GONE)
                return;
        if (m->state != SETTLED && m->state != ENDING)
                busy--;
        else if (m->state == SETTLED)
                atomic_fetch_sub(&settled, 1);
        if (!atomic_load(&ending)) {
                if (atomic_fetch_add(&lost, 1) == 0)
                        snprintf(first_loss, sizeof first_loss, "client %u (%s%s) in state %d: %s; last line: %.80s", m->number,
                                 m->kind == IDLE ? "idle" : m->kind == DEAF ? "deaf" : "drip", m->tls ? ", TLS" : "", m->state, why, m->line);
        }
        m->state = GONE;
        m->lost = why;
        conn_close(&m->c);
}

static void say(struct mass *m, const char *fmt, ...)
{
        char cmd[512];
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(cmd, sizeof cmd, fmt, ap);
        va_end(ap);
        /* So little always fits into an empty send buffer. */
        if (conn_send(&m->c, cmd, (size_t)n) != n)
                lose(m, "send");
}

static void watch(struct mass *m, uint32_t events, int op)
{
        struct epoll_event ev = { .events = events, .data.ptr = m };

        if (epoll_ctl(epfd, op, m->c.fd, &ev) < 0)
                die("epoll_ctl: %s", strerror(errno));
}

static void mass_user(const struct mass *m, char out[32])
{
        if (m->kind == IDLE)
                snprintf(out, 32, m->common ? "common" : "u%u", m->user);
        else
                snprintf(out, 32, m->kind == DEAF ? "big" : "drip");
}

static void settle(struct mass *m)
{
        m->state = SETTLED;
        busy--;
        atomic_fetch_add(&settled, 1);
        if (m->kind == DEAF) {
                /* From now on nothing is read. */
                epoll_ctl(epfd, EPOLL_CTL_DEL, m->c.fd, NULL);
        } else if (m->kind == DRIP) {
                size_t room = 4096;

                m->drip = malloc(room);
                if (m->number / 2 % 2)
                        m->drip_len = (size_t)sprintf(m->drip, "d SEARCH UNDELETED SUBJECT \"%0*d\"\r\n", 3000, 0);
                else
                        m->drip_len = (size_t)sprintf(m->drip, "d APPEND INBOX {3000+}\r\nSubject: drip\r\n\r\n%0*d\r\n", 2983, 0);
                /* The first part at once: the daemon has to be in the middle of something. */
                m->drip_at = 30;
                if (conn_send(&m->c, m->drip, 30) != 30)
                        lose(m, "send");
        }
}

static void mass_line(struct mass *m)
{
        char user[32], token[256];
        unsigned long n;

        switch (m->state) {
        case GREETING:
                if (strncmp(m->line, "* OK", 4) != 0) {
                        lose(m, "greeting");
                        return;
                }
                mass_user(m, user);
                plain_token(user, token);
                m->state = LOGIN;
                say(m, "a AUTHENTICATE PLAIN %s\r\n", token);
                break;
        case LOGIN:
                if (strncmp(m->line, "a ", 2) != 0)
                        break;
                if (strncmp(m->line, "a OK", 4) != 0) {
                        lose(m, "login");
                        break;
                }
                m->state = SELECTING;
                if (m->kind == DEAF)
                        say(m, "b EXAMINE %s\r\n", m->number / 2 % 2 ? "INBOX" : "many");
                else
                        say(m, "b SELECT INBOX\r\n");
                break;
        case SELECTING:
                if (strncmp(m->line, "b ", 2) == 0) {
                        if (strncmp(m->line, "b OK", 4) != 0) {
                                lose(m, "select");
                        } else if (m->kind == IDLE) {
                                say(m, "c IDLE\r\n");
                        } else {
                                if (m->kind == DEAF)
                                        say(m, "c FETCH 1:* BODY.PEEK[]\r\n");
                                if (m->state != GONE)
                                        settle(m);
                        }
                } else if (m->line[0] == '+') {
                        settle(m);
                }
                break;
        case SETTLED:
                if (m->kind == IDLE && m->common && is_exists(m->line, &n)) {
                        atomic_fetch_add(&exists_common, 1);
                        atomic_store(&last_exists, now());
                }
                if (strncmp(m->line, "* BYE", 5) == 0)
                        lose(m, "BYE");
                break;
        case ENDING:
                if (strncmp(m->line, "c OK", 4) == 0)
                        atomic_fetch_add(&ended, 1);
                break;
        case CONNECTING:
        case HANDSHAKE:
        case GONE:
                break;
        }
}

static void mass_read(struct mass *m)
{
        char buf[16384];

        while (m->state != GONE && !(m->kind == DEAF && m->state == SETTLED)) {
                ssize_t got = conn_recv(&m->c, buf, sizeof buf);

                if (got == -1)
                        return;
                if (got <= 0) {
                        lose(m, got == 0 ? "hung up" : "connection broken");
                        return;
                }
                for (ssize_t i = 0; i < got && m->state != GONE; i++) {
                        if (buf[i] == '\n') {
                                m->line[m->line_len] = '\0';
                                mass_line(m);
                                m->line_len = 0;
                        } else if (m->line_len < sizeof m->line - 1) {
                                m->line[m->line_len++] = buf[i];
                        }
                }
        }
}

static void mass_handshake(struct mass *m)
{
        int rc = gnutls_handshake(m->c.tls);

        if (rc == 0) {
                m->state = GREETING;
                watch(m, EPOLLIN, EPOLL_CTL_MOD);
                mass_read(m);
        } else if (gnutls_error_is_fatal(rc)) {
                lose(m, gnutls_strerror(rc));
        } else {
                watch(m, gnutls_record_get_direction(m->c.tls) ? EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
        }
}

static void mass_event(struct mass *m, uint32_t events)
{
        if (m->state == GONE)
                return;
        if (m->state == CONNECTING) {
                int e = 0;
                socklen_t len = sizeof e;

                getsockopt(m->c.fd, SOL_SOCKET, SO_ERROR, &e, &len);
                if (e || events & (EPOLLERR | EPOLLHUP)) {
                        lose(m, e ? strerror(e) : "connect");
                        return;
                }
                if (m->tls) {
                        start_tls(&m->c);
                        m->state = HANDSHAKE;
                } else {
                        m->state = GREETING;
                        watch(m, EPOLLIN, EPOLL_CTL_MOD);
                }
        }
        if (m->state == HANDSHAKE)
                mass_handshake(m);
        else
                mass_read(m);
}

static void mass_open(struct mass *m)
{
        m->state = CONNECTING;
        m->c.fd = open_socket(m->tls ? opt.imaps : opt.imap, m->number, false, m->kind == DEAF ? 4096 : 0);
        watch(m, EPOLLOUT, EPOLL_CTL_ADD);
        busy++;
}

static void drip_all(void)
{
        for (unsigned i = 0; i < opened; i++) {
                struct mass *m = &masses[i];

                if (m->kind != DRIP || m->state != SETTLED || m->drip_at >= m->drip_len)
                        continue;
                if (conn_send(&m->c, m->drip + m->drip_at, 1) != 1) {
                        lose(m, "send");
                        continue;
                }
                m->drip_at++;
                atomic_fetch_add(&dripped, 1);
        }
}

static void end_all(void)
{
        for (unsigned i = 0; i < opened; i++) {
                struct mass *m = &masses[i];

                if (m->state != SETTLED)
                        continue;
                if (m->kind == IDLE) {
                        m->state = ENDING;
                        if (conn_send(&m->c, "DONE\r\n", 6) != 6)
                                lose(m, "send");
                } else {
                        lose(m, "");
                }
        }
}

static void *loop(void *arg)
{
        double next_drip = now() + 1;
        bool end_begun = false;

        (void)arg;
        while (!atomic_load(&loop_stop)) {
                struct epoll_event ev[256];
                int n = epoll_wait(epfd, ev, 256, 20);

                for (int i = 0; i < n; i++)
                        mass_event(ev[i].data.ptr, ev[i].events);
                while (opened < atomic_load(&target) && busy < (unsigned)opt.connecting)
                        mass_open(&masses[opened++]);
                if (now() >= next_drip) {
                        drip_all();
                        next_drip += 1;
                }
                if (atomic_load(&ending) && !end_begun) {
                        end_begun = true;
                        end_all();
                }
        }
        for (unsigned i = 0; i < opened; i++)
                conn_close(&masses[i].c);
        return NULL;
}

/* Idle plain ones, idle TLS ones, then the others: so the memory of each kind can be told. */
static void plan(void)
{
        unsigned n = 0, plain = (unsigned)(opt.idle + 1) / 2, k = 0;

        masses_n = (unsigned)(opt.idle + opt.deaf + opt.drip);
        masses = calloc(masses_n, sizeof *masses);
        for (; n < (unsigned)opt.idle; n++) {
                masses[n].kind = IDLE;
                masses[n].tls = n >= plain;
                masses[n].common = (long)(n % plain) < opt.common / 2;
                masses[n].user = k++ % (unsigned)opt.users;
        }
        for (long i = 0; i < opt.deaf; i++, n++)
                masses[n].kind = DEAF;
        for (long i = 0; i < opt.drip; i++, n++)
                masses[n].kind = DRIP;
        for (unsigned i = 0; i < masses_n; i++) {
                masses[i].number = i;
                masses[i].c.fd = -1;
                if (masses[i].kind != IDLE)
                        masses[i].tls = i % 2;
        }
}

static unsigned count_common(void)
{
        unsigned n = 0;

        for (unsigned i = 0; i < masses_n; i++)
                n += masses[i].kind == IDLE && masses[i].common;
        return n;
}

/* Open all up to number `upto` and wait until each has got where it belongs. */
static bool open_until(unsigned upto, const char *what)
{
        double start = now(), deadline = start + 120 + upto / 20.0;
        unsigned had = atomic_load(&settled);

        atomic_store(&target, upto);
        while (atomic_load(&settled) + atomic_load(&lost) < upto && now() < deadline)
                pause_s(0.01);
        return ok(atomic_load(&settled) == upto && atomic_load(&lost) == 0, "%u %s (%.1f s; %u lost%s%s)", upto - had, what, now() - start,
                  atomic_load(&lost), first_loss[0] ? ": " : "", first_loss);
}

/* ---- the probe ------------------------------------------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static void judge(const char *command, const char *phase, double *ms, unsigned n)
{
        double p99;

        qsort(ms, n, sizeof *ms, compare_doubles);
        p99 = ms[(n * 99 + 99) / 100 - 1];
        ok(p99 < (double)opt.p99_ms, "%s %s: 99th percentile %.1f ms (median %.2f, worst %.1f)", command, phase, p99, ms[n / 2], ms[n - 1]);
}

static void probe(const char *phase, unsigned rounds)
{
        struct client *k = client_open("probe", false, 60);
        double *noop = calloc(rounds, sizeof *noop), *append = calloc(rounds, sizeof *append), *fetch = calloc(rounds, sizeof *fetch);
        char message[4096];
        size_t len = make_message(message, 2048, 1);

        client_do(k, "SELECT INBOX");
        for (unsigned i = 0; i < rounds; i++) {
                double t = now();

                client_do(k, "NOOP");
                noop[i] = (now() - t) * 1000;
                t = now();
                client_do(k, "APPEND INBOX {%zu+}\r\n%.*s", len, (int)len, message);
                append[i] = (now() - t) * 1000;
                client_do(k, "NOOP");
                t = now();
                client_do(k, "FETCH %lu (UID FLAGS ENVELOPE BODY.PEEK[])", k->exists);
                fetch[i] = (now() - t) * 1000;
                pause_s(0.01);
        }
        judge("NOOP", phase, noop, rounds);
        judge("APPEND", phase, append, rounds);
        judge("FETCH", phase, fetch, rounds);
        free(noop);
        free(append);
        free(fetch);
        client_close(k);
}

/* ---- searches -------------------------------------------------------------------------------------------------------------------- */

static atomic_uint searches_done, searching;
static atomic_bool search_stop;

static void *searcher(void *arg)
{
        unsigned number = (unsigned)(uintptr_t)arg;
        char user[32];
        struct client *k;

        snprintf(user, sizeof user, "search%u", number % (unsigned)opt.search_boxes);
        k = client_open(user, false, 1800);
        client_do(k, "EXAMINE INBOX");
        if ((long)k->exists < opt.search_messages)
                die("%s has %lu messages", user, k->exists);
        atomic_fetch_add(&searching, 1);
        do {
                client_do(k, "SEARCH TEXT \"nowhere to be found\"");
                atomic_fetch_add(&searches_done, 1);
        } while (!atomic_load(&search_stop));
        client_close(k);
        return NULL;
}

/* A thousand messages by APPEND, the rest by COPY to itself. */
static void fill_search(void)
{
        double start = now();

        for (long b = 0; b < opt.search_boxes; b++) {
                char user[32];
                struct client *k;

                snprintf(user, sizeof user, "search%ld", b);
                k = client_open(user, false, 600);
                client_do(k, "SELECT INBOX");
                if (k->exists == 0) {
                        client_fill(k, "INBOX", opt.search_messages < 1000 ? (unsigned)opt.search_messages : 1000, 1500);
                        client_do(k, "NOOP");
                }
                while ((long)k->exists < opt.search_messages) {
                        long more = opt.search_messages - (long)k->exists;

                        client_do(k, "COPY 1:%ld INBOX", more < (long)k->exists ? more : (long)k->exists);
                        client_do(k, "NOOP");
                }
                client_close(k);
        }
        note("%ld mailboxes filled with %ld messages each in %.1f s", opt.search_boxes, opt.search_messages, now() - start);
}

static void fill_big(void)
{
        struct client *k = client_open("big", false, 120);
        char line[256], *message = malloc(10 * MIB + 1024);
        size_t n;

        client_do(k, "SELECT INBOX");
        if (k->exists == 0) {
                n = make_message(message, 10 * MIB, 7);
                client_do(k, "CREATE many");
                snprintf(line, sizeof line, "big APPEND INBOX {%zu+}\r\n", n);
                client_send(k, line, strlen(line));
                client_send(k, message, n);
                client_send(k, "\r\n", 2);
                client_until(k, "big OK", line, sizeof line);
                client_fill(k, "many", 256, 40 * 1024);
        }
        free(message);
        client_close(k);
}

/* ---- the parts --------------------------------------------------------------------------------------------------------------------- */

/* What the first sessions of all cost once – code, pools, caches – is not what a session costs. */
static void warm_up(void)
{
        enum { N = 64 };
        struct client *k[N];

        for (int round = 0; round < 2; round++) {
                for (unsigned i = 0; i < N; i++) {
                        char user[32];

                        snprintf(user, sizeof user, "u%u", i % (unsigned)opt.users);
                        k[i] = client_open(user, i % 2, 60);
                        client_do(k[i], "SELECT INBOX");
                        client_send(k[i], "i IDLE\r\n", 8);
                }
                pause_s(0.3);
                for (unsigned i = 0; i < N; i++)
                        client_close(k[i]);
        }
        /* Every mailbox that will be watched exists and was opened once. */
        for (unsigned i = 0; i < (unsigned)opt.users; i++) {
                char user[32];

                snprintf(user, sizeof user, "u%u", i);
                k[0] = client_open(user, false, 60);
                client_do(k[0], "SELECT INBOX");
                client_close(k[0]);
        }
}

static void memory(const char *what, long before, unsigned sessions, long limit)
{
        long after;

        pause_s((double)opt.settle_s);
        after = pss_kib();
        if (before < 0 || after < 0)
                ok(false, "the daemon's memory can be read (/proc/%ld/smaps_rollup)", opt.pid);
        else
                ok((double)(after - before) <= (double)limit * sessions, "an idle %s session costs %.2f KiB (at most %ld; %ld KiB for %u)", what,
                   (double)(after - before) / sessions, limit, after - before, sessions);
}

static void news(void)
{
        unsigned watchers = count_common();
        struct client *k = client_open("common", false, 60);

        for (int i = 1; i <= 3; i++) {
                double start, deadline;

                atomic_store(&exists_common, 0);
                start = now();
                client_fill(k, "INBOX", 1, 500);
                deadline = now() + 20;
                while (atomic_load(&exists_common) < watchers && now() < deadline)
                        pause_s(0.002);
                pause_s(0.2);
                ok(atomic_load(&exists_common) == watchers, "message %d reaches all %u watchers in IDLE, each once (%u; the last after %.0f ms)", i,
                   watchers, atomic_load(&exists_common), (atomic_load(&last_exists) - start) * 1000);
        }
        client_close(k);
}

static void searching_phase(void)
{
        pthread_t *threads = calloc((size_t)opt.searches, sizeof *threads);
        double start = now(), first = 0;

        for (long i = 0; i < opt.searches; i++)
                pthread_create(&threads[i], NULL, searcher, (void *)(uintptr_t)i);
        while (atomic_load(&searching) < (unsigned)opt.searches)
                pause_s(0.01);
        probe("under search", (unsigned)opt.probes);
        atomic_store(&search_stop, true);
        first = now();
        for (long i = 0; i < opt.searches; i++)
                pthread_join(threads[i], NULL);
        ok(atomic_load(&searches_done) >= (unsigned)opt.searches, "%u SEARCH TEXT of %ld messages each ended, %ld at a time (%.1f s; %.0f messages a second)",
           atomic_load(&searches_done), opt.search_messages, opt.searches, now() - start,
           (double)atomic_load(&searches_done) * (double)opt.search_messages / (now() - start));
        (void)first;
        free(threads);
}

static void end_idle(void)
{
        double deadline = now() + 60;

        atomic_store(&ending, true);
        while (atomic_load(&ended) < (unsigned)opt.idle && now() < deadline)
                pause_s(0.01);
        ok(atomic_load(&ended) == (unsigned)opt.idle, "DONE ends IDLE for each of them (%u of %ld)", atomic_load(&ended), opt.idle);
}

static void read_options(int argc, char **argv)
{
        for (int a = 1; a < argc; a++) {
                const char *eq = strchr(argv[a], '=');
                bool known = false;

                for (size_t i = 0; eq && i < OPTIONS; i++)
                        if (strncmp(argv[a], "--", 2) == 0 && (size_t)(eq - argv[a] - 2) == strlen(options[i].name) &&
                            strncmp(argv[a] + 2, options[i].name, strlen(options[i].name)) == 0) {
                                *options[i].value = atol(eq + 1);
                                known = true;
                        }
                if (!known) {
                        fprintf(stderr, "usage: c10k [--name=number …]\n");
                        for (size_t i = 0; i < OPTIONS; i++)
                                fprintf(stderr, "  %-16s %s (%ld)\n", options[i].name, options[i].help, *options[i].value);
                        exit(2);
                }
        }
        if (opt.users < 1)
                opt.users = opt.idle / 8 > 0 ? opt.idle / 8 : 1;
        if (opt.common < 1)
                opt.common = opt.idle / 8 > 2 ? opt.idle / 8 : 2;
}

int main(int argc, char **argv)
{
        struct rlimit files;
        pthread_t thread;
        long start, plain;

        read_options(argc, argv);
        signal(SIGPIPE, SIG_IGN);
        getrlimit(RLIMIT_NOFILE, &files);
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        if (files.rlim_cur < (rlim_t)(opt.idle + opt.deaf + opt.drip + 100))
                die("a process may have only %ju descriptors here", (uintmax_t)files.rlim_cur);
        gnutls_global_init();
        gnutls_certificate_allocate_credentials(&credentials);
        epfd = epoll_create1(EPOLL_CLOEXEC);
        plan();
        fill_big();
        fill_search();
        warm_up();
        pthread_create(&thread, NULL, loop, NULL);

        pause_s((double)opt.settle_s);
        start = pss_kib();
        open_until((unsigned)(opt.idle + 1) / 2, "plain sessions are in IDLE");
        memory("plain", start, (unsigned)(opt.idle + 1) / 2, opt.plain_kib);
        plain = pss_kib();
        open_until((unsigned)opt.idle, "TLS sessions are in IDLE");
        memory("TLS", plain, (unsigned)opt.idle / 2, opt.tls_kib);
        news();
        open_until(masses_n, "clients that never read, or send an octet a second");
        note("PSS %ld KiB with all %u sessions", pss_kib(), masses_n);
        probe("among all those", (unsigned)opt.probes);
        searching_phase();
        news();
        ok(atomic_load(&lost) == 0, "nobody was thrown out meanwhile (%u lost%s%s)", atomic_load(&lost), first_loss[0] ? ": " : "", first_loss);
        ok(opt.drip == 0 || atomic_load(&dripped) > 0, "the slow writers wrote (%u octets)", atomic_load(&dripped));
        end_idle();
        atomic_store(&loop_stop, true);
        pthread_join(thread, NULL);
        pause_s(2);
        note("PSS %ld KiB at the start, %ld KiB after all have left", start, pss_kib());
        printf("1..%d\n%d passed, %d failed\n", tests, tests - failures, failures);
        return failures ? 1 : 0;
}
