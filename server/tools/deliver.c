/*
 * deliver - hand a message to the daemon by LMTP, for mail systems that start a program for local mail: from standard input to the mailboxes of
 * the users given, through the socket `lmtpsocket`. Arguments, output and exit statuses are Cyrus's, but for one: a daemon that cannot be
 * reached is a temporary failure, for a mail system bounces the message on EX_CONFIG.
 *
 * The message comes as Unix text or with CRLF. Line ends become CRLF, a CR that ends no line is dropped, and so is an mbox "From " line.
 */
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "server/identity.h"
#include "server/tools/tool.h"
#include "server/version.h"
#include "util/must.h"
#include "util/str.h"

#define LINE_MAX_OCTETS 65536                   /* of a reply; more is no LMTP server */
#define PIECE 65536

struct reply {
        int code;                               /* 0: none came */
        struct str text;                        /* of the last line, behind the code */
};

struct rcpt {
        const char *name;                       /* as it is told to the user: "joe+Box" */
        struct str path;                        /* as it is told to the server: "\"jo e\"@x", without < and > */
        bool possible;                          /* false: no address can be made of it */
        bool accepted;
        struct reply reply;
};

struct deliver {
        struct tool t;
        const char *return_path, *auth, *mailbox;
        bool ignore_quota;
        int fd, timeout_ms;                     /* timeout -1: none */
        struct str in;                          /* received and not yet used */
        bool has_ignorequota, has_auth, has_utf8;
        struct rcpt *rcpts;
        unsigned n;
};

/* ---- the connection ---- */

static int connect_lmtp(struct deliver *d, struct err *err)
{
        const char *path = conf_str(d->t.conf, "deliver", "lmtpsocket");
        struct sockaddr_un sun = { .sun_family = AF_UNIX };

        if (strlen(path) >= sizeof sun.sun_path)
                return err_set(err, ERR_CONFIG, "lmtpsocket %s: the path is too long", path);
        memcpy(sun.sun_path, path, strlen(path) + 1);
        d->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (d->fd < 0)
                return err_errno(err, errno, "socket");
        if (connect(d->fd, (struct sockaddr *)&sun, sizeof sun) < 0)
                return err_errno(err, errno, "%s", path);
        return 0;
}

/* True when the descriptor is ready; false: `lmtptxn_timeout` is over, or worse. */
static bool wait_for(struct deliver *d, short events)
{
        struct pollfd p = { .fd = d->fd, .events = events };
        int n;

        while ((n = poll(&p, 1, d->timeout_ms)) < 0 && errno == EINTR)
                ;
        return n > 0;
}

static int send_octets(struct deliver *d, const char *p, size_t len)
{
        while (len) {
                ssize_t n = send(d->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EAGAIN) {
                        if (!wait_for(d, POLLOUT))
                                return -1;
                        continue;
                }
                if (n < 0 && errno != EINTR)
                        return -1;
                if (n > 0) {
                        p += n;
                        len -= (size_t)n;
                }
        }
        return 0;
}

/* A line without its CRLF, appended. -1: no more comes. */
static int read_line(struct deliver *d, struct str *line)
{
        for (;;) {
                const char *end = memchr(d->in.data, '\n', d->in.len);
                char piece[4096];
                ssize_t n;

                if (end) {
                        size_t len = (size_t)(end - d->in.data);

                        str_append(line, d->in.data, len && end[-1] == '\r' ? len - 1 : len);
                        str_consume(&d->in, len + 1);
                        return 0;
                }
                if (d->in.len > LINE_MAX_OCTETS || !wait_for(d, POLLIN))
                        return -1;
                n = read(d->fd, piece, sizeof piece);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return -1;
                str_append(&d->in, piece, (size_t)n);
        }
}

static void note_capability(struct deliver *d, const char *word)
{
        d->has_ignorequota |= strcasecmp(word, "IGNOREQUOTA") == 0;
        d->has_utf8 |= strcasecmp(word, "SMTPUTF8") == 0;
        d->has_auth |= strncasecmp(word, "AUTH", 4) == 0 && (word[4] == '\0' || word[4] == ' ');
}

/* The lines of one reply; those of LHLO are looked at. */
static int read_reply(struct deliver *d, struct reply *reply_r, bool lhlo)
{
        struct str line = STR_INIT;
        int rc;
        bool more;

        reply_r->code = 0;
        do {
                str_clear(&line);
                rc = read_line(d, &line);
                if (rc == 0 && (line.len < 3 || strspn(line.data, "0123456789") != 3))
                        rc = -1;
                more = rc == 0 && line.data[3] == '-';
                if (rc == 0 && lhlo && line.len > 4)
                        note_capability(d, line.data + 4);
        } while (more);
        if (rc == 0) {
                reply_r->code = atoi(line.data);
                str_clear(&reply_r->text);
                if (line.len > 4)
                        str_append_str(&reply_r->text, line.data + 4);
        }
        str_deinit(&line);
        return rc;
}

/* 0 when there is a reply, whatever it says. */
static int ask(struct deliver *d, const struct str *command, struct reply *reply_r, bool lhlo)
{
        if (send_octets(d, command->data, command->len) < 0)
                return -1;
        return read_reply(d, reply_r, lhlo);
}

/* ---- addresses ---- */

static bool is_plain(struct span s)
{
        for (size_t i = 0; i < s.len; i++)
                if (!ascii_isalpha(s.p[i]) && !ascii_isdigit(s.p[i]) && !strchr("!#$%&'*+-/=?^_`{|}~.", s.p[i]) && (unsigned char)s.p[i] < 0x80)
                        return false;
        return s.len > 0;
}

static void append_quoted(struct span s, struct str *out)
{
        str_append_c(out, '"');
        for (size_t i = 0; i < s.len; i++) {
                if (s.p[i] == '"' || s.p[i] == '\\')
                        str_append_c(out, '\\');
                str_append_c(out, s.p[i]);
        }
        str_append_c(out, '"');
}

/* "joe@dom" and "Box" → joe+Box@dom; without a user (NULL) "box@dom" → postuser+box@dom. False: with control characters, or nothing at all. */
static bool make_path(const char *user, const char *postuser, const char *mailbox, struct str *path)
{
        const char *at = strrchr(user ? user : mailbox, '@');
        struct str local = STR_INIT;
        bool possible;

        if (user)
                str_append(&local, user, at ? (size_t)(at - user) : strlen(user));
        else
                str_append_str(&local, postuser);
        if (mailbox) {
                str_append_c(&local, '+');
                str_append(&local, mailbox, !user && at ? (size_t)(at - mailbox) : strlen(mailbox));
        }
        if (is_plain(str_span(&local)))
                str_append_span(path, str_span(&local));
        else
                append_quoted(str_span(&local), path);
        if (at)
                str_append_str(path, at);
        possible = local.len > 0 && (!at || at[1]);
        for (size_t i = 0; i < path->len; i++)
                possible = possible && (unsigned char)path->data[i] >= 0x20 && path->data[i] != 0x7f;
        for (const char *p = at; p && *p; p++)
                possible = possible && !strchr("<> ", *p);
        str_deinit(&local);
        return possible;
}

static void add_rcpt(struct deliver *d, const char *user)
{
        const char *postuser = conf_str(d->t.conf, "deliver", "postuser");
        struct rcpt *r = &d->rcpts[d->n++];
        struct str name = STR_INIT;

        str_init(&r->path);
        str_init(&r->reply.text);
        r->possible = make_path(user, postuser ? postuser : "", d->mailbox, &r->path);
        str_append_str(&name, user ? user : postuser ? postuser : "");
        if (d->mailbox)
                str_printf(&name, "+%s", d->mailbox);
        r->name = str_take(&name);
}

static void append_xtext(const char *s, struct str *out)
{
        for (; *s; s++)
                if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f || *s == '+' || *s == '=')
                        str_printf(out, "+%02X", (unsigned char)*s);
                else
                        str_append_c(out, *s);
}

static bool has_8bit(const char *s)
{
        for (; *s; s++)
                if ((unsigned char)*s >= 0x80)
                        return true;
        return false;
}

/* ---- the transaction ---- */

/* What is said to all whose fate is not known. */
static void fail_rest(struct deliver *d, unsigned from, const struct reply *reply)
{
        for (; from < d->n; from++)
                if (d->rcpts[from].accepted || !d->rcpts[from].reply.code) {
                        d->rcpts[from].accepted = false;
                        d->rcpts[from].reply.code = reply->code;
                        str_clear(&d->rcpts[from].reply.text);
                        str_append_span(&d->rcpts[from].reply.text, str_span(&reply->text));
                }
}

static int say_mail(struct deliver *d, struct reply *reply_r)
{
        struct str command = STR_INIT;
        const char *from = d->return_path;
        size_t len = strlen(from);
        bool utf8 = has_8bit(from);
        int rc;

        if (len >= 2 && from[0] == '<' && from[len - 1] == '>') {
                from++;
                len -= 2;
        }
        for (unsigned i = 0; i < d->n; i++)
                utf8 |= has_8bit(d->rcpts[i].path.data);
        str_printf(&command, "MAIL FROM:<%.*s>", (int)len, from);
        if (d->auth && *d->auth && d->has_auth) {
                str_append_str(&command, " AUTH=");
                append_xtext(d->auth, &command);
        }
        if (utf8 && d->has_utf8)
                str_append_str(&command, " SMTPUTF8");
        str_append_str(&command, "\r\n");
        for (size_t i = 0; i + 2 < command.len; i++)
                if ((unsigned char)command.data[i] < 0x20) {
                        reply_r->code = 501;
                        str_deinit(&command);
                        return 0;
                }
        rc = ask(d, &command, reply_r, false);
        str_deinit(&command);
        return rc;
}

/* How many were accepted; -1: the server has gone. */
static int say_recipients(struct deliver *d)
{
        int accepted = 0;

        for (unsigned i = 0; i < d->n; i++) {
                struct rcpt *r = &d->rcpts[i];
                struct str command = STR_INIT;
                int rc = 0;

                str_printf(&command, "RCPT TO:<%s>%s\r\n", r->path.data, d->ignore_quota && d->has_ignorequota ? " IGNOREQUOTA" : "");
                if (r->possible)
                        rc = ask(d, &command, &r->reply, false);
                else
                        r->reply.code = 501;
                str_deinit(&command);
                if (rc < 0)
                        return -1;
                r->accepted = r->reply.code / 100 == 2;
                accepted += r->accepted;
        }
        return accepted;
}

/* ---- the message ---- */

struct text {
        struct str out;                         /* to be sent */
        bool line_start;
        enum { FROM_LOOK, FROM_SKIP, FROM_NOT } from;  /* is the first line an mbox "From " line? */
        unsigned from_seen;                     /* octets of that which were */
};

static void text_put(struct text *t, char c)
{
        if (c == '\r')
                return;                         /* of a line end, which gets a new one, or none */
        if (c == '\n') {
                str_append(&t->out, "\r\n", 2);
                t->line_start = true;
                return;
        }
        if (t->line_start && c == '.')
                str_append_c(&t->out, '.');
        str_append_c(&t->out, c);
        t->line_start = false;
}

static void text_feed(struct text *t, const char *p, size_t len)
{
        static const char from[] = "From ";

        for (size_t i = 0; i < len; i++) {
                if (t->from == FROM_LOOK && p[i] == from[t->from_seen]) {
                        if (from[++t->from_seen] == '\0')
                                t->from = FROM_SKIP;
                        continue;
                }
                if (t->from == FROM_LOOK) {
                        t->from = FROM_NOT;
                        for (unsigned k = 0; k < t->from_seen; k++)
                                text_put(t, from[k]);
                }
                if (t->from == FROM_NOT)
                        text_put(t, p[i]);
                else if (p[i] == '\n')
                        t->from = FROM_NOT;
        }
}

static void text_end(struct text *t)
{
        if (t->from == FROM_LOOK)
                for (unsigned k = 0; k < t->from_seen; k++)
                        text_put(t, "From "[k]);
        if (!t->line_start)
                text_put(t, '\n');
        str_append_str(&t->out, ".\r\n");
}

/* Standard input to the server. -1: it could not be read, or sent: then nothing may end as if it were the whole message. */
static int send_message(struct deliver *d)
{
        struct text t = { .out = STR_INIT, .line_start = true };
        char *piece = xmalloc(PIECE);
        ssize_t n;
        int rc = 0;

        while (rc == 0 && (n = read(STDIN_FILENO, piece, PIECE)) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        fprintf(stderr, "deliver: standard input: %s\n", strerror(errno));
                        rc = -1;
                        break;
                }
                text_feed(&t, piece, (size_t)n);
                rc = send_octets(d, t.out.data, t.out.len);
                str_clear(&t.out);
        }
        if (rc == 0) {
                text_end(&t);
                rc = send_octets(d, t.out.data, t.out.len);
        }
        str_deinit(&t.out);
        free(piece);
        return rc;
}

/* Everything that can go wrong is in the recipients' replies afterwards; code 0: nothing is known. */
static void transact(struct deliver *d)
{
        struct str command = STR_INIT;
        struct reply reply = { 0, STR_INIT };
        int rc = read_reply(d, &reply, false);

        if (rc == 0 && reply.code / 100 == 2) {
                str_append_str(&command, "LHLO deliver\r\n");
                rc = ask(d, &command, &reply, true);
        }
        if (rc == 0 && reply.code / 100 == 2)
                rc = say_mail(d, &reply);
        if (rc < 0 || reply.code / 100 != 2) {
                fail_rest(d, 0, &reply);
                goto out;
        }
        rc = say_recipients(d);
        if (rc < 0) {
                reply.code = 0;
                fail_rest(d, 0, &reply);
        }
        if (rc <= 0)
                goto out;
        str_clear(&command);
        str_append_str(&command, "DATA\r\n");
        if (ask(d, &command, &reply, false) < 0 || reply.code != 354) {
                if (reply.code / 100 == 2 || reply.code / 100 == 3)
                        reply.code = 0;
                fail_rest(d, 0, &reply);
                goto out;
        }
        reply.code = 0;
        if (send_message(d) < 0) {
                fail_rest(d, 0, &reply);
                goto out;
        }
        for (unsigned i = 0; i < d->n; i++)
                if (d->rcpts[i].accepted && read_reply(d, &d->rcpts[i].reply, false) < 0) {
                        fail_rest(d, i, &reply);
                        goto out;
                }
        str_clear(&command);
        str_append_str(&command, "QUIT\r\n");
        (void)send_octets(d, command.data, command.len);
out:
        str_deinit(&command);
        str_deinit(&reply.text);
}

/* ---- the outcome ---- */

/* Cyrus's words where it has some, the server's where those would mislead. */
static const char *reason(const struct reply *r)
{
        const char *text = r->text.data, *enhanced = text;

        if (r->code == 550 || r->code == 551 || r->code == 553)
                return strncmp(enhanced, "5.7", 3) == 0 ? "Permission denied" : "Mailbox does not exist";
        if (r->code == 552 && strncmp(enhanced, "5.3", 3) != 0)
                return "Over quota";
        if (r->code / 10 == 55 && *text)
                return text + (strspn(text, "0123456789.") ? strcspn(text, " ") + (strchr(text, ' ') != NULL) : 0);
        return "Bad protocol";
}

static int report(const struct deliver *d)
{
        int status = EX_OK;

        for (unsigned i = 0; i < d->n; i++) {
                const struct rcpt *r = &d->rcpts[i];

                if (r->reply.code / 100 == 2)
                        continue;
                if (r->reply.code / 100 != 5) {
                        status = EX_TEMPFAIL;
                        continue;
                }
                printf("%s: %s\n", r->name, reason(&r->reply));
                if (status == EX_OK)
                        status = EX_DATAERR;
        }
        return status;
}

/* ---- -l ---- */

/* Standard input and output are an LMTP client's; the server talks to it. Ends when the server hangs up. */
static int relay(struct deliver *d)
{
        struct pollfd p[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = d->fd, .events = POLLIN } };
        char *piece = xmalloc(PIECE);
        int status = EX_OK;

        for (;;) {
                ssize_t n;

                if (poll(p, 2, -1) < 0 && errno != EINTR)
                        break;
                if (p[1].revents) {
                        n = read(d->fd, piece, PIECE);
                        if (n == 0 || (n < 0 && errno != EINTR))
                                break;
                        if (n > 0 && (fwrite(piece, 1, (size_t)n, stdout) != (size_t)n || fflush(stdout) != 0)) {
                                status = EX_IOERR;
                                break;
                        }
                }
                if (p[0].fd >= 0 && p[0].revents) {
                        n = read(STDIN_FILENO, piece, PIECE);
                        if (n > 0 && send_octets(d, piece, (size_t)n) < 0)
                                break;
                        if (n == 0 || (n < 0 && errno != EINTR)) {
                                shutdown(d->fd, SHUT_WR);
                                p[0].fd = -1;
                        }
                }
        }
        free(piece);
        return status;
}

/* ---- */

static int usage(void)
{
        fprintf(stderr, "421-4.3.0 usage: deliver [-C <alt_config> ] [-m mailbox] [-a auth] [-r return_path] [-q] [-l] [user]...\r\n"
                        "421 4.3.0 %s-cyrd\r\n", CYRUS_COMPAT);
        return EX_USAGE;
}

static int once(const char **value, char option)
{
        if (*value) {
                fprintf(stderr, "deliver: multiple -%c options\n", option);
                return -1;
        }
        *value = optarg;
        return 0;
}

static const char *own_name(const struct identity *id)
{
        const struct passwd *pw = id->changes ? NULL : getpwuid(getuid());

        return id->changes ? id->user : pw ? pw->pw_name : "";
}

static int run(struct deliver *d, int argc, char **argv, bool lmtp)
{
        int64_t timeout = conf_duration_s(d->t.conf, "deliver", "lmtptxn_timeout");
        struct identity id = { .changes = false };
        struct err err = ERR_INIT;
        int status;

        if (identity_find(d->t.conf, &id, &err) < 0 || (id.changes && identity_become(&id, &err) < 0)) {
                tool_fail(&d->t, &err);
                return EX_CONFIG;
        }
        d->timeout_ms = timeout > 0 && timeout < 1000000 ? (int)timeout * 1000 : -1;
        if (!d->return_path)
                d->return_path = own_name(&id);
        if (connect_lmtp(d, &err) < 0) {
                printf("421 4.3.0 deliver: couldn't connect to lmtpd\n");
                fprintf(stderr, "couldn't connect to lmtpd: %s\n", err.text);
                return EX_TEMPFAIL;
        }
        if (lmtp)
                return relay(d);
        d->rcpts = xcalloc(argc > 0 ? (size_t)argc : 1, sizeof *d->rcpts);
        for (int i = 0; i < argc; i++)
                add_rcpt(d, argv[i]);
        if (argc == 0)
                add_rcpt(d, NULL);
        transact(d);
        status = report(d);
        if (fflush(stdout) != 0 && status == EX_DATAERR)
                status = EX_TEMPFAIL;
        return status;
}

static void finish(struct deliver *d)
{
        for (unsigned i = 0; i < d->n; i++) {
                free((char *)(uintptr_t)d->rcpts[i].name);
                str_deinit(&d->rcpts[i].path);
                str_deinit(&d->rcpts[i].reply.text);
        }
        free(d->rcpts);
        str_deinit(&d->in);
        if (d->fd >= 0)
                close(d->fd);
        tool_close(&d->t);
}

int tool_deliver_main(int argc, char **argv)
{
        struct deliver d = { .fd = -1, .in = STR_INIT };
        const char *config = NULL, *mailbox = NULL;
        bool lmtp = false;
        int opt, status;

        while ((opt = getopt(argc, argv, "C:df:r:m:a:F:eE:lqD")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 'f': case 'r': d.return_path = optarg; break;
                case 'm': if (once(&mailbox, 'm') < 0) return usage(); break;
                case 'a': if (once(&d.auth, 'a') < 0) return usage(); break;
                case 'q': d.ignore_quota = true; break;
                case 'l': lmtp = true; break;
                case 'd': case 'e': case 'D': break;    /* of /bin/mail, and of former Cyruses */
                case 'E': case 'F':
                        fprintf(stderr, "deliver: '%c' option no longer supported\n", opt);
                        return usage();
                default: return usage();
                }
        }
        if (mailbox && *mailbox)
                d.mailbox = mailbox;
        if (!lmtp && optind == argc && !d.mailbox)
                return usage();
        if (tool_open(&d.t, "deliver", config, TOOL_CONF) < 0)
                status = EX_CONFIG;
        else
                status = run(&d, argc - optind, argv + optind, lmtp);
        finish(&d);
        return status;
}
