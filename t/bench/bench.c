/*
 * bench - the load generator of `make bench`: one measured operation against any IMAP and LMTP server on 127.0.0.1.
 *   bench OPERATION PORT [key=value…]     PORT is the one of the operation's protocol; prints one line of JSON
 *
 *   lmtp     deliver n messages of `size` octets over `conns` connections; connection i delivers to user i+1
 *   append   APPEND likewise, each connection into the INBOX of its user
 *   login    n times connect, LOGIN, LOGOUT over `conns` threads
 *   fill     n messages into `mailbox` of user1, with MULTIAPPEND where it is offered; creates the mailbox
 *   command  SELECT `mailbox` as user1 (select=examine|none), then time `command`; `count` untagged lines that have `match`
 *   select   time SELECT of `mailbox` itself, after the log-in of user1; n is what EXISTS said
 *   idle     `conns` watchers of user1's INBOX in IDLE; n messages by LMTP (lmtp=PORT), one by one: how long until all know
 *   status   the numbers of messages in `mailbox` of user1 … user<users>, added up
 *
 * Common keys: users=10 pass=pass n= size= conns= seed=. Messages are made from their number and the seed, so that every server gets the
 * same: headers as they are in life (References in small threads, a subject, a date), lines of words. Every answer is checked; anything
 * but success ends the program with 1 and says what came.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_BYTES (256u << 10)
#define CONNS_MAX 1000
#define SILENCE_S 120                           /* a server that says nothing for so long has failed */

static struct {
        const char *operation, *mailbox, *command, *match, *select, *pass;
        int port, lmtp_port, users, conns;
        long n, size, seed, batch;
} opt = { .mailbox = "INBOX", .select = "select", .pass = "pass", .users = 10, .conns = 10, .n = 1000, .size = 4096, .seed = 1, .batch = 500 };

static void die(const char *fmt, ...)
{
        va_list ap;

        fprintf(stderr, "bench %s: ", opt.operation ? opt.operation : "");
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
        exit(1);
}

static double now_s(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* ---- messages ---- */

static uint64_t mix(uint64_t x)                 /* splitmix64: the same words on every machine */
{
        x += 0x9e3779b97f4a7c15u;
        x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
        x = (x ^ x >> 27) * 0x94d049bb133111ebu;
        return x ^ x >> 31;
}

static const char *const words[] = {
        "mailbox", "harbour", "letter", "window", "the", "of", "and", "to", "in", "that", "budget", "meeting", "quarter", "report", "draft",
        "plan", "review", "version", "release", "server", "garden", "paper", "morning", "train", "question", "answer", "number", "north",
        "river", "copper", "winter", "summer", "engine", "signal", "market", "village", "bridge", "silver", "orange", "kitchen", "doctor",
        "teacher", "student", "library", "music", "picture", "station", "island", "mountain", "valley", "weather", "friday", "monday", "tomorrow",
        "yesterday", "always", "never", "between", "through", "without",
};
#define WORDS (sizeof words / sizeof *words)

/* Message number i, of about `size` octets, CRLF lines. Returns its length; buf has size + 4096 octets. */
static size_t message_make(char *buf, long i, long size)
{
        uint64_t r = mix((uint64_t)i * 1000003u + (uint64_t)opt.seed);
        long thread = i / 4;                    /* messages 4k … 4k+3 are one conversation */
        time_t date = 1700000000 + (time_t)(mix((uint64_t)i) % 20000000u);
        char when[64];
        struct tm tm;
        int len, column = 0;

        gmtime_r(&date, &tm);
        strftime(when, sizeof when, "%a, %d %b %Y %H:%M:%S +0000", &tm);
        len = sprintf(buf, "Received: from relay%u.example.org (relay%u.example.org [192.0.2.%u])\r\n\tby mx.example.net with ESMTP id %016llx;\r\n\t%s\r\n"
                      "From: %s %s <%s.%s@example.org>\r\nTo: user1@example.net\r\nCc: list@example.net\r\nSubject: %s%s %s %ld\r\nDate: %s\r\n"
                      "Message-ID: <%ld.%ld@bench.example.org>\r\n",
                      (unsigned)(r % 9), (unsigned)(r % 9), (unsigned)(r % 250), (unsigned long long)r, when, words[r % WORDS], words[r / 7 % WORDS],
                      words[r % WORDS], words[r / 7 % WORDS], i % 4 ? "Re: " : "", words[mix((uint64_t)thread) % WORDS],
                      words[mix((uint64_t)thread + 7) % WORDS], thread, when, i, opt.seed);
        if (i % 4) {
                len += sprintf(buf + len, "In-Reply-To: <%ld.%ld@bench.example.org>\r\nReferences:", i - 1, opt.seed);
                for (long j = thread * 4; j < i; j++)
                        len += sprintf(buf + len, " <%ld.%ld@bench.example.org>", j, opt.seed);
                len += sprintf(buf + len, "\r\n");
        }
        len += sprintf(buf + len, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
        while (len < size - 2) {
                const char *w = words[(r = mix(r)) % WORDS];

                column += sprintf(buf + len + 0, "%s ", w);
                len += (int)strlen(w) + 1;
                if (column > 66) {
                        len += sprintf(buf + len, "\r\n");
                        column = 0;
                }
        }
        len += sprintf(buf + len, "\r\n");
        return (size_t)len;
}

/* ---- a connection ---- */

struct conn {
        int fd;
        char *in;
        size_t at, end;
        uint64_t octets;                        /* received */
        int tag;
        char *line;                             /* of the last read_line(), NUL-terminated, without CRLF */
        size_t line_cap;
};

static void conn_open(struct conn *c, int port)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct timeval silence = { .tv_sec = SILENCE_S };
        int one = 1;

        memset(c, 0, sizeof *c);
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a) < 0)
                die("connect to port %d: %s", port, strerror(errno));
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
        c->in = malloc(IN_BYTES);
        c->line_cap = 65536;
        c->line = malloc(c->line_cap);
        if (!c->in || !c->line)
                die("no memory");
}

static void conn_close(struct conn *c)
{
        close(c->fd);
        free(c->in);
        free(c->line);
}

static void conn_send(struct conn *c, const char *p, size_t len)
{
        while (len) {
                ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);

                if (n < 0)
                        die("send: %s", strerror(errno));
                p += n;
                len -= (size_t)n;
        }
}

static void conn_fill(struct conn *c)
{
        ssize_t n = recv(c->fd, c->in, IN_BYTES, 0);

        if (n <= 0)
                die("the server %s", n == 0 ? "hung up" : "does not answer");
        c->at = 0;
        c->end = (size_t)n;
        c->octets += (uint64_t)n;
}

/* One line into c->line, its CRLF cut off; what does not fit is dropped. Returns its length. */
static size_t read_line(struct conn *c)
{
        size_t len = 0;

        for (;;) {
                char *nl;
                size_t piece;

                if (c->at == c->end)
                        conn_fill(c);
                nl = memchr(c->in + c->at, '\n', c->end - c->at);
                piece = nl ? (size_t)(nl - (c->in + c->at)) : c->end - c->at;
                if (len < c->line_cap - 1) {
                        size_t fits = piece < c->line_cap - 1 - len ? piece : c->line_cap - 1 - len;

                        memcpy(c->line + len, c->in + c->at, fits);
                        len += fits;
                }
                c->at += piece + (nl != NULL);
                if (nl)
                        break;
        }
        if (len && c->line[len - 1] == '\r')
                len--;
        c->line[len] = '\0';
        return len;
}

static void skip_octets(struct conn *c, uint64_t n)
{
        while (n) {
                size_t have = c->end - c->at;

                if (!have) {
                        conn_fill(c);
                        continue;
                }
                if (have > n)
                        have = (size_t)n;
                c->at += have;
                n -= have;
        }
}

/* The octets of the literal that the line announces, or -1: none. */
static long long literal_at_end(const char *line, size_t len)
{
        const char *brace;

        if (!len || line[len - 1] != '}')
                return -1;
        brace = memrchr(line, '{', len);
        return brace ? strtoll(brace + 1, NULL, 10) : -1;
}

static char *put_tag(struct conn *c, char *to)
{
        return to + sprintf(to, "t%d ", ++c->tag);
}

/*
 * Read up to the tagged reply of the last command, which must be OK; literals are skipped. Returns how many untagged responses have
 * `match` in their first line (NULL: all of them). `last` gets the last that had.
 */
static long finish_command(struct conn *c, const char *match, char *last, size_t last_len)
{
        char tag[32];
        size_t tag_len = (size_t)sprintf(tag, "t%d ", c->tag);
        long count = 0;

        for (;;) {
                size_t len = read_line(c);
                long long literal;

                if (strncmp(c->line, tag, tag_len) == 0) {
                        if (strncmp(c->line + tag_len, "OK", 2) != 0)
                                die("%s", c->line);
                        return count;
                }
                if (!match || strstr(c->line, match)) {
                        count++;
                        if (last)
                                snprintf(last, last_len, "%s", c->line);
                }
                while ((literal = literal_at_end(c->line, len)) >= 0) {
                        skip_octets(c, (uint64_t)literal);
                        len = read_line(c);
                }
        }
}

__attribute__((format(printf, 2, 3)))
static void send_command(struct conn *c, const char *fmt, ...)
{
        char buf[8192];
        char *p = put_tag(c, buf);
        va_list ap;

        va_start(ap, fmt);
        p += vsnprintf(p, sizeof buf - 64, fmt, ap);
        va_end(ap);
        p += sprintf(p, "\r\n");
        conn_send(c, buf, (size_t)(p - buf));
}

#define COMMAND(c, ...) (send_command(c, __VA_ARGS__), finish_command(c, NULL, NULL, 0))

static void imap_login(struct conn *c, int user)
{
        conn_open(c, opt.port);
        read_line(c);
        if (strncmp(c->line, "* OK", 4) != 0)
                die("greeting: %s", c->line);
        COMMAND(c, "LOGIN user%d %s", user, opt.pass);
}

static void imap_logout(struct conn *c)
{
        COMMAND(c, "LOGOUT");
        conn_close(c);
}

/* ---- threads: each its part of n ---- */

static pthread_barrier_t barrier;
static double started;

struct part {
        pthread_t thread;
        int number;
        long from, n;
};

static double run_parts(void *(*fn)(void *))
{
        struct part *parts = calloc((size_t)opt.conns, sizeof *parts);
        double seconds;

        pthread_barrier_init(&barrier, NULL, (unsigned)opt.conns + 1);
        for (int i = 0; i < opt.conns; i++) {
                parts[i] = (struct part){ .number = i, .from = opt.n / opt.conns * i, .n = opt.n / opt.conns };
                if (pthread_create(&parts[i].thread, NULL, fn, &parts[i]) != 0)
                        die("no thread");
        }
        pthread_barrier_wait(&barrier);         /* all are connected and logged in */
        started = now_s();
        pthread_barrier_wait(&barrier);
        for (int i = 0; i < opt.conns; i++)
                pthread_join(parts[i].thread, NULL);
        seconds = now_s() - started;
        free(parts);
        return seconds;
}

static void start_line(void)
{
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
}

static void report(double seconds, long n, uint64_t octets)
{
        printf("{\"operation\": \"%s\", \"seconds\": %.6f, \"n\": %ld, \"octets\": %llu}\n", opt.operation, seconds, n, (unsigned long long)octets);
}

/* ---- lmtp ---- */

static void lmtp_expect(struct conn *c, const char *code)
{
        do
                read_line(c);
        while (strlen(c->line) > 3 && c->line[3] == '-');
        if (strncmp(c->line, code, 3) != 0)
                die("expected %s: %s", code, c->line);
}

static void lmtp_open(struct conn *c, int port)
{
        static const char lhlo[] = "LHLO bench.example.org\r\n";

        conn_open(c, port);
        lmtp_expect(c, "220");
        conn_send(c, lhlo, sizeof lhlo - 1);
        lmtp_expect(c, "250");
}

/* As an MTA does it: envelope in one packet, then the message. */
static void lmtp_deliver(struct conn *c, int user, long number, char *buf)
{
        int head = sprintf(buf, "MAIL FROM:<sender@example.org>\r\nRCPT TO:<user%d>\r\nDATA\r\n", user);
        size_t len;

        conn_send(c, buf, (size_t)head);
        lmtp_expect(c, "250");
        lmtp_expect(c, "250");
        lmtp_expect(c, "354");
        len = message_make(buf, number, opt.size);      /* its lines never begin with a dot */
        memcpy(buf + len, ".\r\n", 3);
        conn_send(c, buf, len + 3);
        lmtp_expect(c, "250");
}

static void *lmtp_part(void *arg)
{
        struct part *part = arg;
        char *buf = malloc((size_t)opt.size + 8192);
        struct conn c;

        lmtp_open(&c, opt.port);
        start_line();
        for (long i = 0; i < part->n; i++)
                lmtp_deliver(&c, part->number % opt.users + 1, part->from + i, buf);
        conn_send(&c, "QUIT\r\n", 6);
        conn_close(&c);
        free(buf);
        return NULL;
}

/* ---- append, login ---- */

static void append_one(struct conn *c, const char *mailbox, long number, char *buf)
{
        char *message = buf + 256;
        size_t len = message_make(message, number, opt.size);
        char *head = put_tag(c, buf);
        size_t head_len;

        head += sprintf(head, "APPEND %s {%zu+}\r\n", mailbox, len);
        head_len = (size_t)(head - buf);
        memmove(message - head_len, buf, head_len);     /* one write */
        memcpy(message + len, "\r\n", 2);
        conn_send(c, message - head_len, head_len + len + 2);
        finish_command(c, NULL, NULL, 0);
}

static void *append_part(void *arg)
{
        struct part *part = arg;
        char *buf = malloc((size_t)opt.size + 8192);
        struct conn c;

        imap_login(&c, part->number % opt.users + 1);
        start_line();
        for (long i = 0; i < part->n; i++)
                append_one(&c, opt.mailbox, part->from + i, buf);
        imap_logout(&c);
        free(buf);
        return NULL;
}

static void *login_part(void *arg)
{
        struct part *part = arg;

        start_line();
        for (long i = 0; i < part->n; i++) {
                struct conn c;

                imap_login(&c, part->number % opt.users + 1);
                imap_logout(&c);
        }
        return NULL;
}

/* ---- fill ---- */

static void fill(void)
{
        char *buf = malloc((size_t)opt.size + 8192), capabilities[4096] = "";
        struct conn c;
        double start;
        bool multi;

        imap_login(&c, 1);
        send_command(&c, "CAPABILITY");
        finish_command(&c, "* CAPABILITY", capabilities, sizeof capabilities);
        multi = strstr(capabilities, "MULTIAPPEND");
        if (strcasecmp(opt.mailbox, "INBOX") != 0)
                COMMAND(&c, "CREATE %s", opt.mailbox);
        start = now_s();
        for (long i = 0; i < opt.n; ) {
                long batch = !multi ? 1 : opt.n - i < opt.batch ? opt.n - i : opt.batch;
                int head = (int)(put_tag(&c, buf) - buf);

                head += sprintf(buf + head, "APPEND %s", opt.mailbox);
                conn_send(&c, buf, (size_t)head);
                for (long j = 0; j < batch; j++, i++) {
                        size_t len = message_make(buf + 64, i, opt.size);

                        head = sprintf(buf, " {%zu+}\r\n", len);
                        memmove(buf + 64 - head, buf, (size_t)head);
                        conn_send(&c, buf + 64 - head, (size_t)head + len);
                }
                conn_send(&c, "\r\n", 2);
                finish_command(&c, NULL, NULL, 0);
        }
        report(now_s() - start, opt.n, 0);
        imap_logout(&c);
        free(buf);
}

/* ---- one command ---- */

static void one_command(void)
{
        struct conn c;
        double seconds;
        uint64_t before;
        long count;

        imap_login(&c, 1);
        if (strcmp(opt.select, "none") != 0)
                COMMAND(&c, "%s %s", opt.select, opt.mailbox);
        before = c.octets;
        seconds = now_s();
        send_command(&c, "%s", opt.command);
        count = finish_command(&c, opt.match, NULL, 0);
        seconds = now_s() - seconds;
        report(seconds, count, c.octets - before);
        imap_logout(&c);
}

static void time_select(void)
{
        char exists[256] = "";
        struct conn c;
        double start;

        imap_login(&c, 1);
        start = now_s();
        send_command(&c, "SELECT %s", opt.mailbox);
        finish_command(&c, " EXISTS", exists, sizeof exists);
        report(now_s() - start, strtol(exists + 2, NULL, 10), c.octets);
        imap_logout(&c);
}

static void status(void)
{
        char line[512];
        long all = 0;
        struct conn c;

        for (int i = 1; i <= opt.users; i++) {
                const char *at;

                imap_login(&c, i);
                send_command(&c, "STATUS %s (MESSAGES)", opt.mailbox);
                line[0] = '\0';
                finish_command(&c, "* STATUS", line, sizeof line);
                at = strstr(line, "MESSAGES ");
                if (!at)
                        die("STATUS: %s", line);
                all += strtol(at + 9, NULL, 10);
                imap_logout(&c);
        }
        report(0, all, 0);
}

/* ---- idle ---- */

static int by_size(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void idle(void)
{
        struct conn *watchers = calloc((size_t)opt.conns, sizeof *watchers), lmtp;
        struct pollfd *fds = calloc((size_t)opt.conns, sizeof *fds);
        double *took = calloc((size_t)opt.n, sizeof *took);
        char *buf = malloc((size_t)opt.size + 8192);

        for (int i = 0; i < opt.conns; i++) {
                imap_login(&watchers[i], 1);
                COMMAND(&watchers[i], "SELECT %s", opt.mailbox);
                send_command(&watchers[i], "IDLE");
                do
                        read_line(&watchers[i]);
                while (watchers[i].line[0] != '+');
                fds[i] = (struct pollfd){ .fd = watchers[i].fd, .events = POLLIN };
        }
        lmtp_open(&lmtp, opt.lmtp_port);
        for (long k = 0; k < opt.n; k++) {
                int waiting = opt.conns;
                double told;

                nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);    /* what came before has settled; servers with an idle poll are between two */
                for (int i = 0; i < opt.conns; i++) {
                        while (recv(watchers[i].fd, watchers[i].in, IN_BYTES, MSG_DONTWAIT) > 0)
                                ;
                        watchers[i].at = watchers[i].end = 0;
                        fds[i].fd = watchers[i].fd;
                }
                lmtp_deliver(&lmtp, 1, k, buf);
                told = now_s();
                while (waiting) {
                        if (poll(fds, (nfds_t)opt.conns, SILENCE_S * 1000) <= 0)
                                die("%d of %d watchers were not told", waiting, opt.conns);
                        for (int i = 0; i < opt.conns; i++) {
                                if (fds[i].fd < 0 || !fds[i].revents)
                                        continue;
                                do {
                                        read_line(&watchers[i]);
                                        if (fds[i].fd >= 0 && strstr(watchers[i].line, " EXISTS")) {
                                                fds[i].fd = -1;
                                                waiting--;
                                        }
                                } while (watchers[i].at < watchers[i].end);
                        }
                }
                took[k] = now_s() - told;       /* since the delivery was acknowledged; all may have been told before */
        }
        qsort(took, (size_t)opt.n, sizeof *took, by_size);
        report(took[opt.n / 2], opt.n, 0);
        exit(0);
}

/* ---- main ---- */

static void option(const char *arg)
{
        const char *value = strchr(arg, '=');
        static const struct { const char *name; const char **string; int *number; long *big; } keys[] = {
                { "mailbox", &opt.mailbox, NULL, NULL }, { "command", &opt.command, NULL, NULL }, { "match", &opt.match, NULL, NULL },
                { "select", &opt.select, NULL, NULL }, { "pass", &opt.pass, NULL, NULL }, { "users", NULL, &opt.users, NULL },
                { "conns", NULL, &opt.conns, NULL }, { "lmtp", NULL, &opt.lmtp_port, NULL }, { "n", NULL, NULL, &opt.n },
                { "size", NULL, NULL, &opt.size }, { "seed", NULL, NULL, &opt.seed }, { "batch", NULL, NULL, &opt.batch },
        };

        if (!value)
                die("%s: key=value is wanted", arg);
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
                if (strncmp(arg, keys[i].name, (size_t)(value - arg)) != 0 || keys[i].name[value - arg])
                        continue;
                if (keys[i].string)
                        *keys[i].string = value + 1;
                else if (keys[i].number)
                        *keys[i].number = atoi(value + 1);
                else
                        *keys[i].big = atol(value + 1);
                return;
        }
        die("%s: no such key", arg);
}

int main(int argc, char **argv)
{
        if (argc < 3) {
                fprintf(stderr, "usage: bench OPERATION PORT [key=value…]\n");
                return 64;
        }
        opt.operation = argv[1];
        opt.port = atoi(argv[2]);
        for (int i = 3; i < argc; i++)
                option(argv[i]);
        if (opt.conns < 1 || opt.conns > CONNS_MAX || opt.users < 1 || opt.size < 1024 || opt.size > 1 << 20 || opt.n < 1)
                die("out of range");
        if (strcmp(opt.operation, "lmtp") == 0)
                report(run_parts(lmtp_part), opt.n / opt.conns * opt.conns, 0);
        else if (strcmp(opt.operation, "append") == 0)
                report(run_parts(append_part), opt.n / opt.conns * opt.conns, 0);
        else if (strcmp(opt.operation, "login") == 0)
                report(run_parts(login_part), opt.n / opt.conns * opt.conns, 0);
        else if (strcmp(opt.operation, "fill") == 0)
                fill();
        else if (strcmp(opt.operation, "command") == 0 && opt.command)
                one_command();
        else if (strcmp(opt.operation, "select") == 0)
                time_select();
        else if (strcmp(opt.operation, "status") == 0)
                status();
        else if (strcmp(opt.operation, "idle") == 0)
                idle();
        else
                die("no such operation");
        return 0;
}
