/* handover - see handover.h */
#include "server/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "server/ctl/client.h"
#include "server/temporary.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define HAND_OVER_MS 30000                      /* until the client is told that it cannot be served; a store that recovers takes its time */
#define ANSWER_S 30                             /* of the daemon, to one request */
#define USES_DEFAULT 250                        /* as Cyrus's -U and -T */
#define WAIT_DEFAULT_S 60

enum { STATUS_FD = 3, LISTEN_FD = 4 };          /* from a master */
enum { AVAILABLE = 1, UNAVAILABLE = 2, CONNECTION = 3 };        /* what it is told on the former: see server/external.h */

struct handover {
        const struct program *program;
        const struct daemon_ops *ops;
        struct service_args args;
        struct conf *conf;                      /* NULL: it could not be read */
        int argc;
        char **argv;
        char name[32];                          /* the service's */
};

/* ---- what a client is told that cannot be served ---------------------------------------------------------------------------------- */

static void say(const struct handover *h, int fd, const char *text)
{
        static const struct { const char *program, *lead; } forms[] = {
                { "imapd", "* BYE " }, { "pop3d", "-ERR [SYS/TEMP] " }, { "lmtpd", "421 4.3.2 " },
                { "sync_server", "BYE " },
        };
        char line[200] = "";

        if (h->args.tls)
                return;                         /* nothing in clear where TLS is expected */
        for (size_t i = 0; i < ARRAY_LEN(forms); i++)
                if (strcmp(forms[i].program, h->program->name) == 0)
                        snprintf(line, sizeof line, "%s%s\r\n", forms[i].lead, text);
        if (!*line && h->program->refusal)
                snprintf(line, sizeof line, "%s\r\n", h->program->refusal);
        if (write(fd, line, strlen(line)) < 0)
                log_event(LOG_DBG, NULL, "handover", "reason=\"the client is gone\"");
}

static int cannot(const struct handover *h, int fd, const struct err *err)
{
        char quoted[LOG_QUOTE_MAX];
        bool told = err->code == ERR_LIMIT;     /* by the daemon, which had the descriptor */

        log_event(told ? LOG_NOTE : LOG_ERROR, NULL, "handover.failed", "service=%s program=%s reason=%s", h->name, h->program->name,
                  log_quote_str(quoted, err->text));
        if (!told)
                say(h, fd, "The mail server cannot be reached, try again later");
        return 1;
}

/* ---- handing over ----------------------------------------------------------------------------------------------------------------- */

static void no_row(void *ctx, json_t *row)
{
        (void)ctx;
        (void)row;
}

static json_t *request(const struct handover *h, bool listened)
{
        json_t *argv = json_array();

        for (int i = 0; i < h->argc; i++)
                json_array_append_new(argv, json_string(h->argv[i]));
        return json_pack("{s:s, s:s, s:o, s:b}", "program", h->program->name, "name", h->name, "argv", argv, "listened", listened);
}

static int ask_daemon(const struct handover *h, int fd, int lifeline, bool listened, struct err *err)
{
        struct ctl_client client = { .conf = h->conf, .row = no_row };
        struct timeval patience = { .tv_sec = ANSWER_S };
        int rc;

        if (ctl_client_connect(&client, err) < 0)
                return -1;
        setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        client.send_fds[client.send_fds_n++] = fd;
        if (lifeline >= 0)
                client.send_fds[client.send_fds_n++] = lifeline;
        rc = ctl_client_call(&client, "handover", request(h, listened), err);
        ctl_client_close(&client);
        return rc;
}

/* A daemon that is just ending or starting is waited for; where there is none, one is made. */
static int hand_over(const struct handover *h, int fd, int lifeline, bool listened, struct err *err)
{
        uint64_t deadline = clock_mono_ms() + HAND_OVER_MS;

        for (;;) {
                err_clear(err);
                if (ask_daemon(h, fd, lifeline, listened, err) == 0)
                        return 0;
                if (err->code == ERR_UNAVAILABLE) {
                        err_clear(err);
                        if (temporary_start(h->conf, h->ops, err) == 0)
                                continue;
                }
                if ((err->code != ERR_BUSY && err->code != ERR_CANCELLED) || clock_mono_ms() > deadline)
                        return -1;
                poll(NULL, 0, 50);
        }
}

/* ---- a client on standard input ---------------------------------------------------------------------------------------------------- */

static int socket_option(int fd, int option)
{
        int value = -1;
        socklen_t len = sizeof value;

        return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 ? value : -1;
}

static bool is_stream(int fd)
{
        return socket_option(fd, SO_TYPE) == SOCK_STREAM && socket_option(fd, SO_ACCEPTCONN) == 0;
}

static bool is_listening(int fd)
{
        return socket_option(fd, SO_TYPE) == SOCK_STREAM && socket_option(fd, SO_ACCEPTCONN) == 1;
}

static bool same_file(int a, int b)
{
        struct stat x, y;

        return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The connection is the daemon's alone: while a copy is here it would not be closed. */
static void let_go(int client)
{
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        for (int fd = 0; fd <= STDERR_FILENO && null >= 0; fd++)
                if (fd != client && same_file(fd, client))
                        dup2(null, fd);
        if (null >= 0 && client <= STDERR_FILENO)
                dup2(null, client);
        else
                close(client);
}

static int serve_socket(const struct handover *h, int client)
{
        struct err err = ERR_INIT;
        int fds[2];
        char octet;

        if (pipe2(fds, O_CLOEXEC) < 0) {
                err_errno(&err, errno, "pipe");
                return cannot(h, client, &err);
        }
        if (hand_over(h, client, fds[1], false, &err) < 0)
                return cannot(h, client, &err);
        close(fds[1]);
        let_go(client);
        while (read(fds[0], &octet, 1) < 0 && errno == EINTR)   /* ends when the daemon closes its end */
                ;
        return 0;
}

/* One direction of what is copied. */
struct copy {
        int from, to;
        bool to_socket, ended;                  /* nothing more comes from `from` */
        char buf[16384];
        size_t at, len;
};

static bool copy_in(struct copy *c)
{
        ssize_t n = read(c->from, c->buf, sizeof c->buf);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return true;
        c->at = 0;
        c->len = n > 0 ? (size_t)n : 0;
        c->ended = n <= 0;
        return n > 0;
}

/* A pipe that poll() says can be written to takes PIPE_BUF octets without making us wait, so neither direction holds up the other. */
static bool copy_out(struct copy *c)
{
        size_t n = c->len - c->at;
        ssize_t sent = c->to_socket ? send(c->to, c->buf + c->at, n, MSG_DONTWAIT | MSG_NOSIGNAL)
                                    : write(c->to, c->buf + c->at, n < PIPE_BUF ? n : PIPE_BUF);

        if (sent > 0)
                c->at += (size_t)sent;
        return sent >= 0 || errno == EAGAIN || errno == EINTR;
}

static void copy_all(int in, int out, int daemon)
{
        struct copy up = { .from = in, .to = daemon, .to_socket = true };
        struct copy down = { .from = daemon, .to = out, .to_socket = is_stream(out) };

        for (;;) {
                bool up_full = up.at < up.len, down_full = down.at < down.len;
                struct pollfd fds[4] = {
                        { .fd = up.ended || up_full ? -1 : in, .events = POLLIN }, { .fd = up_full ? daemon : -1, .events = POLLOUT },
                        { .fd = down_full ? -1 : daemon, .events = POLLIN }, { .fd = out, .events = down_full ? POLLOUT : 0 },
                };

                if (down.ended && !down_full)
                        return;
                if (poll(fds, 4, -1) < 0 && errno != EINTR)
                        return;
                if (fds[0].revents && !copy_in(&up))
                        shutdown(daemon, SHUT_WR);
                if (fds[1].revents && !copy_out(&up))
                        return;
                if (fds[2].revents)
                        copy_in(&down);
                if (fds[3].revents && (down_full ? !copy_out(&down) : fds[3].revents & (POLLERR | POLLNVAL)))
                        return;                         /* nobody reads any more */
        }
}

/* The daemon serves sockets: it gets one. */
static int serve_copied(const struct handover *h, int in, int out)
{
        struct err err = ERR_INIT;
        int sv[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0) {
                err_errno(&err, errno, "socketpair");
                return cannot(h, out, &err);
        }
        if (hand_over(h, sv[1], -1, false, &err) < 0) {
                close(sv[1]);
                if (err.code == ERR_LIMIT)
                        copy_all(in, out, sv[0]);       /* the refusal, which went to the other end */
                return cannot(h, out, &err);
        }
        close(sv[1]);
        copy_all(in, out, sv[0]);
        return 0;
}

/* ---- a socket to take clients from --------------------------------------------------------------------------------------------------- */

static void notify(int status_fd, int what)
{
        struct { int what; int pid; } message = { what, (int)getpid() };

        if (status_fd >= 0 && write(status_fd, &message, sizeof message) < 0)
                log_event(LOG_DBG, NULL, "handover", "reason=\"the master is gone\"");
}

/* Wait for a client: its descriptor, or -1: nobody came in time, or the socket is of no use any more. */
static int next_client(int listen_fd, int wait_ms)
{
        uint64_t deadline = clock_mono_ms() + (uint64_t)wait_ms;

        for (;;) {
                struct pollfd fd = { .fd = listen_fd, .events = POLLIN };
                uint64_t now = clock_mono_ms();
                int client;

                if (poll(&fd, 1, wait_ms == 0 ? -1 : now < deadline ? (int)(deadline - now) : 0) == 0)
                        return -1;
                client = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
                if (client >= 0)
                        return client;
                /* Somebody else was faster, or the client thought better of it. */
                if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED && errno != EPROTO)
                        return -1;
        }
}

static int serve_listening(const struct handover *h, int status_fd, int listen_fd)
{
        unsigned uses = h->args.uses ? h->args.uses : USES_DEFAULT;
        int wait_ms = (h->args.wait_s < 0 ? WAIT_DEFAULT_S : h->args.wait_s > 1000000 ? 1000000 : h->args.wait_s) * 1000;

        /* The socket is shared with others: nobody may be caught in accept(). */
        fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK);
        while (uses-- > 0) {
                struct err err = ERR_INIT;
                int client = next_client(listen_fd, wait_ms);

                if (client < 0)
                        return 0;
                notify(status_fd, UNAVAILABLE);
                notify(status_fd, CONNECTION);
                if (hand_over(h, client, -1, true, &err) < 0)
                        cannot(h, client, &err);
                close(client);
                notify(status_fd, AVAILABLE);
        }
        return 0;
}

/* ---- which of all that it is ------------------------------------------------------------------------------------------------------------ */

/* The name that options are looked up by: what a master says, else what cyrus.conf usually calls it. */
static void take_name(struct handover *h)
{
        static const struct { const char *program, *name, *tls; } usual[] = {
                { "imapd", "imap", "imaps" }, { "pop3d", "pop3", "pop3s" }, { "lmtpd", "lmtp", "lmtp" }, { "timsieved", "sieve", "sieve" },
                { "sync_server", "csync", "csync" },
        };
        const char *given = getenv("CYRUS_SERVICE"), *name = h->program->name;

        for (size_t i = 0; i < ARRAY_LEN(usual); i++)
                if (strcmp(usual[i].program, h->program->name) == 0)
                        name = h->args.tls ? usual[i].tls : usual[i].name;
        snprintf(h->name, sizeof h->name, "%s", given && *given ? given : name);
}

/* Descriptor 3 from systemd, when it is for us: a unit for each connection without StandardInput=socket. */
static bool from_systemd(void)
{
        const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");

        return pid && n && strtol(pid, NULL, 10) == (long)getpid() && strcmp(n, "1") == 0;
}

static bool may_be_a_client(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) || isatty(fd));
}

static int serve(struct handover *h)
{
        if (getenv("CYRUS_SERVICE") && is_listening(LISTEN_FD))
                return serve_listening(h, STATUS_FD, LISTEN_FD);
        if (from_systemd())
                return is_listening(3) ? serve_listening(h, -1, 3) : serve_socket(h, 3);
        if (is_listening(STDIN_FILENO))
                return serve_listening(h, -1, STDIN_FILENO);
        if (is_stream(STDIN_FILENO) && same_file(STDIN_FILENO, STDOUT_FILENO))
                return serve_socket(h, STDIN_FILENO);
        return serve_copied(h, STDIN_FILENO, STDOUT_FILENO);
}

static int usage(const struct program *p)
{
        fprintf(stderr, "%s: this service runs inside cyrd: name it in a cmd= of cyrus.conf and start cyrd or master. Started with a client on\n"
                "standard input (inetd, a tunnel) it hands that to cyrd.\n", p->name);
        return 1;
}

/* The configuration, and root given up: what goes wrong is told to the client, in a moment. */
static int prepare(struct handover *h, struct err *err)
{
        struct diag diag = DIAG_INIT;
        struct identity id;
        int rc = conf_load(h->args.config, NULL, &h->conf, &diag, err);

        if (rc == 0)
                rc = conf_require_store(h->conf, &diag, err);
        diag_deinit(&diag);
        return rc < 0 || identity_find(h->conf, &id, err) < 0 || identity_become(&id, err) < 0 ? -1 : 0;
}

int handover_main(const struct program *p, int argc, char **argv, const struct daemon_ops *ops)
{
        struct handover h = { .program = p, .ops = ops, .argc = argc, .argv = argv };
        struct err err = ERR_INIT;
        bool master = getenv("CYRUS_SERVICE") && is_listening(LISTEN_FD);
        int out, rc;

        if (!master && !from_systemd() && !may_be_a_client(STDIN_FILENO))
                return usage(p);
        signal(SIGPIPE, SIG_IGN);
        /* To syslog alone: stderr may be the client. */
        log_open(LOG_TO_SYSLOG, p->name, -1, LOG_WARN);
        out = from_systemd() ? 3 : STDOUT_FILENO;
        rc = service_args_parse(p, argc, argv, &h.args, &err);
        take_name(&h);
        if (rc == 0)
                rc = prepare(&h, &err);
        if (rc < 0 && master) {
                char quoted[LOG_QUOTE_MAX];

                log_event(LOG_ERROR, NULL, "handover.failed", "service=%s program=%s reason=%s", h.name, p->name, log_quote_str(quoted, err.text));
                rc = 1;
        } else {
                rc = rc < 0 ? cannot(&h, out, &err) : serve(&h);
        }
        conf_unref(&h.conf);
        return rc;
}
