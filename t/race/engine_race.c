/*
 * engine_race - the engine under hostile company: a small protocol over socket pairs and TCP, clients that cut their connections at
 * any moment, wakes from other threads, offloads, kicks, and a stop in the middle. Run it with SAN=thread and SAN=address.
 * Every client checks that each answer comes, in order, whole.
 *
 * The protocol, one command a line:
 *   E text     the text                       O n      from an offloaded call: n
 *   W ms       a waiter done by another thread after ms           T ms     the session's own timer
 *   B n        n octets 'x', with STEP_FLUSH  F n      n octets of a file, as an extent
 *   S ms       runs for ms in slices          Q        goodbye
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/service.h"
#include "t/store/conf_text.h"
#include "util/clock.h"
#include "util/conf.h"
#include "util/log.h"
#include "util/must.h"

#define FILE_SIZE 300000u
#define CLIENTS 6
#define RUN_MS 5000u

static struct file *the_file;
static atomic_uint opened, closed;
static atomic_bool over;
static atomic_uint answers, cuts, news_seen;

/* ---- waiters done by another thread ---------------------------------------------------------------------------------------- */

struct later { struct waiter *w; uint64_t due_us; struct later *next; };
static pthread_mutex_t later_lock = PTHREAD_MUTEX_INITIALIZER;
static struct later *later_first;
static atomic_bool later_stop;

static void *later_main(void *arg)
{
        (void)arg;
        for (;;) {
                uint64_t now = clock_mono_us();
                struct later *due = NULL;
                bool empty;

                pthread_mutex_lock(&later_lock);
                for (struct later **at = &later_first; *at;) {
                        struct later *l = *at;

                        if (l->due_us <= now) {
                                *at = l->next;
                                l->next = due;
                                due = l;
                        } else {
                                at = &l->next;
                        }
                }
                empty = !later_first;
                pthread_mutex_unlock(&later_lock);
                while (due) {
                        struct later *next = due->next;

                        waiter_done(due->w, NULL);
                        free(due);
                        due = next;
                }
                if (empty && atomic_load(&later_stop))
                        return NULL;
                usleep(200);
        }
}

/* ---- the protocol ---------------------------------------------------------------------------------------------------------- */

struct toy {
        char verb;
        uint64_t left;                          /* octets to send, microsecond when to stop */
        struct waiter *waiter;                  /* arena */
        struct offload *job;                    /* arena */
        uint64_t *answer;                       /* arena: what the offloaded call computes */
        bool timed;
};

static void toy_open(struct session *s)
{
        atomic_fetch_add(&opened, 1);
        s->authenticated = true;
        s->idle_ok = true;
        session_set_user(s, "toy");
        rope_append_str(&s->out, "hello\n");
}

static void toy_close(struct session *s)
{
        struct toy *t = s->self;

        must(!t->waiter || waiter_is_done(t->waiter));
        must(!t->job || waiter_is_done(&t->job->waiter));
        atomic_fetch_add(&closed, 1);
}

static void compute(void *arg)
{
        uint64_t *answer = arg;

        usleep((unsigned)(rand() % 500));
        *answer += 1;
}

static void begin(struct session *s, struct toy *t, const char *line)
{
        uint64_t n = strtoull(line + 1, NULL, 10);

        t->verb = line[0];
        session_set_status(s, line[0] == 'W' ? "waiting" : NULL, line);
        switch (t->verb) {
        case 'E':
                rope_printf(&s->out, "%s\n", line + 2);
                t->verb = 0;
                break;
        case 'B':
                t->left = n;
                break;
        case 'F': {
                struct extent x = { file_ref(the_file), 0, n };

                rope_append_extent(&s->out, &x);
                t->verb = 0;
                break;
        }
        case 'S':
                t->left = clock_mono_us() + n * 1000;
                break;
        case 'W': {
                struct later *l = xcalloc(1, sizeof *l);

                t->waiter = ARENA_NEW(&s->arena, struct waiter);
                session_waiter(s, t->waiter);
                if (n % 7 == 3) {                       /* the store says no at once */
                        session_waiter_cancel(s, t->waiter);
                        t->waiter = NULL;
                        free(l);
                        rope_append_str(&s->out, "w\n");
                        t->verb = 0;
                        break;
                }
                l->w = t->waiter;
                l->due_us = clock_mono_us() + n * 1000;
                pthread_mutex_lock(&later_lock);
                l->next = later_first;
                later_first = l;
                pthread_mutex_unlock(&later_lock);
                break;
        }
        case 'O':
                t->job = ARENA_NEW(&s->arena, struct offload);
                t->answer = ARENA_NEW(&s->arena, uint64_t);
                *t->answer = n;
                session_offload(s, t->job, (enum offload_queue)(n % OFFLOAD_QUEUES), compute, t->answer);
                break;
        case 'T':
                t->timed = false;
                session_timer(s, (uint32_t)n + 1);
                break;
        }
}

/* Go on with the command at hand; STEP_INPUT: it is done. */
static enum step go_on(struct session *s, struct toy *t)
{
        static const char xs[4096] = "";
        char buf[sizeof xs];

        switch (t->verb) {
        case 'B':
                memset(buf, 'x', sizeof buf);
                while (t->left > 0) {
                        size_t n = t->left < sizeof buf ? (size_t)t->left : sizeof buf;

                        if (s->out.bytes > ROPE_HIGH)
                                return STEP_FLUSH;
                        rope_append(&s->out, buf, n);
                        t->left -= n;
                }
                break;
        case 'S':
                while (clock_mono_us() < t->left)
                        if (session_slice_over(s))
                                return STEP_AGAIN;
                rope_append_str(&s->out, "s\n");
                break;
        case 'W':
                if (!waiter_is_done(t->waiter))
                        return STEP_WAIT;
                t->waiter = NULL;
                rope_append_str(&s->out, "w\n");
                break;
        case 'O':
                if (!waiter_is_done(&t->job->waiter))
                        return STEP_WAIT;
                rope_printf(&s->out, "%llu\n", (unsigned long long)*t->answer);
                t->job = NULL;
                break;
        case 'T':
                if (!t->timed)
                        return STEP_WAIT;
                rope_append_str(&s->out, "t\n");
                break;
        case 'Q':
                rope_append_str(&s->out, "bye\n");
                return STEP_CLOSE;
        }
        t->verb = 0;
        arena_reset(&s->arena);
        return STEP_INPUT;
}

static enum step toy_run(struct session *s)
{
        struct toy *t = s->self;

        if (s->woken & WAKE_NEWS)
                atomic_fetch_add(&news_seen, 1);
        if (s->woken & WAKE_TIMER)
                t->timed = true;
        if (s->woken & (WAKE_STOP | WAKE_TIMEOUT)) {
                must(!t->waiter || waiter_is_done(t->waiter));
                return STEP_CLOSE;
        }
        s->woken = 0;
        for (;;) {
                size_t eol;
                char line[128];
                enum step step = go_on(s, t);

                if (step != STEP_INPUT)
                        return step;
                eol = span_index(str_span(&s->in), '\n');
                if (eol == s->in.len)
                        return STEP_INPUT;
                must(eol < sizeof line);
                memcpy(line, s->in.data, eol);
                line[eol] = '\0';
                str_consume(&s->in, eol + 1);
                begin(s, t, line);
                if (s->out.bytes > ROPE_HIGH)
                        return STEP_FLUSH;
        }
}

static const struct session_ops toy_ops = { "toy", sizeof(struct toy), toy_open, toy_run, toy_close, "no room\n" };

/* ---- clients --------------------------------------------------------------------------------------------------------------- */

static struct service *service;
static uint16_t port;

static int connect_somehow(unsigned *seed)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
        struct err err = ERR_INIT;
        int sv[2], fd;

        if (rand_r(seed) % 2) {
                struct adoption adoption = { .lifeline = -1 };

                must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == 0);
                adoption.fd = sv[0];
                if (rand_r(seed) % 2)
                        adoption.lifeline = dup(sv[1]);
                if (service_adopt(service, &adoption, &err) < 0) {
                        close(sv[1]);
                        return -1;
                }
                return sv[1];
        }
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

/* Reads exactly n octets; false: the connection ended. */
static bool take(int fd, char *buf, size_t n)
{
        size_t got = 0;

        while (got < n) {
                struct pollfd p = { fd, POLLIN, 0 };
                ssize_t r;

                if (poll(&p, 1, 20000) == 0) {
                        fprintf(stderr, "Bail out! no answer for 20 s\n");
                        abort();
                }
                r = read(fd, buf + got, n - got);
                if (r <= 0)
                        return false;
                got += (size_t)r;
        }
        return true;
}

static bool expect(int fd, const char *text)
{
        char buf[128];
        size_t n = strlen(text);

        if (!take(fd, buf, n))
                return false;
        if (memcmp(buf, text, n) != 0) {
                fprintf(stderr, "Bail out! expected %s got %.*s\n", text, (int)n, buf);
                abort();
        }
        return true;
}

static bool expect_bulk(int fd, size_t n, char c)
{
        char buf[8192];

        while (n > 0) {
                size_t part = n < sizeof buf ? n : sizeof buf;

                if (!take(fd, buf, part))
                        return false;
                for (size_t i = 0; i < part; i++)
                        must(buf[i] == c);
                n -= part;
        }
        return true;
}

/* One batch of pipelined commands, sent in pieces, then its answers. */
static bool batch(int fd, unsigned *seed)
{
        char text[1024] = "", verbs[8];
        unsigned args[8], n = 1 + (unsigned)rand_r(seed) % 6;
        size_t len, sent = 0;

        for (unsigned i = 0; i < n; i++) {
                static const char kinds[] = "EEEEWWOOTBFS";

                verbs[i] = kinds[(unsigned)rand_r(seed) % (sizeof kinds - 1)];
                args[i] = (unsigned)rand_r(seed) % 20;
                if (verbs[i] == 'B' || verbs[i] == 'F')
                        args[i] = (unsigned)rand_r(seed) % FILE_SIZE;
                snprintf(text + strlen(text), sizeof text - strlen(text), "%c %u\n", verbs[i], args[i]);
        }
        len = strlen(text);
        while (sent < len) {
                size_t part = 1 + (unsigned)rand_r(seed) % (unsigned)len;
                ssize_t w;

                if (part > len - sent)
                        part = len - sent;
                w = send(fd, text + sent, part, MSG_NOSIGNAL);
                if (w < 0)
                        return false;
                sent += (size_t)w;
                if (rand_r(seed) % 4 == 0)
                        usleep(300);
        }
        if (rand_r(seed) % 12 == 0) {                   /* cut in the middle of it all */
                atomic_fetch_add(&cuts, 1);
                return false;
        }
        for (unsigned i = 0; i < n; i++) {
                char line[32];
                bool ok;

                snprintf(line, sizeof line, "%u\n", args[i] + (verbs[i] == 'O'));
                switch (verbs[i]) {
                case 'B':
                        ok = expect_bulk(fd, args[i], 'x');
                        break;
                case 'F':
                        ok = expect_bulk(fd, args[i], 'f');
                        break;
                case 'W':
                        ok = expect(fd, "w\n");
                        break;
                case 'T':
                        ok = expect(fd, "t\n");
                        break;
                case 'S':
                        ok = expect(fd, "s\n");
                        break;
                default:
                        ok = expect(fd, line);
                }
                if (!ok)
                        return false;
                atomic_fetch_add(&answers, 1);
        }
        return true;
}

static void *client_main(void *arg)
{
        unsigned seed = (unsigned)(uintptr_t)arg;

        while (!atomic_load(&over)) {
                int fd = connect_somehow(&seed);
                int rounds = rand_r(&seed) % 20;
                bool up = fd >= 0 && expect(fd, "hello\n");

                while (up && rounds-- > 0 && !atomic_load(&over))
                        up = batch(fd, &seed);
                if (up && rand_r(&seed) % 2 && send(fd, "Q\n", 2, MSG_NOSIGNAL) == 2)
                        expect(fd, "bye\n");
                if (fd >= 0)
                        close(fd);
        }
        return NULL;
}

/* Somebody who wakes and kicks sessions, and asks for status, all the time. */
static void meddle(void *ctx, const struct session_info *info)
{
        unsigned *seed = ctx;

        session_wake(info->id, rand_r(seed) % 2 ? WAKE_NEWS : WAKE_TOUCH);
        session_wake((struct session_id){ info->id.slot, info->id.generation - 1 }, WAKE_STOP);         /* must hit nothing */
        if (rand_r(seed) % 400 == 0)
                engine_kick(info->name);
}

static void *meddler_main(void *arg)
{
        unsigned seed = (unsigned)(uintptr_t)arg;
        struct engine_stats stats;

        while (!atomic_load(&over)) {
                engine_each_session(meddle, &seed);
                engine_stats(&stats);
                services_reload();
                usleep(500);
        }
        return NULL;
}

static struct conf_live *make_conf(void)
{
        return conf_live_create(conf_text("configdirectory: /nonexistent\npartition-default: /nonexistent/p\n"));
}

static void make_file(void)
{
        char path[] = "/tmp/engine_race.XXXXXX", buf[1000];
        int fd = mkstemp(path);

        must(fd >= 0);
        unlink(path);
        memset(buf, 'f', sizeof buf);
        for (unsigned i = 0; i < FILE_SIZE / sizeof buf; i++)
                must(write(fd, buf, sizeof buf) == (ssize_t)sizeof buf);
        the_file = file_from_fd(fd, NULL);
}

static int make_listener(void)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof a;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        must(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 64) == 0);
        must(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
        port = ntohs(a.sin_port);
        return fd;
}

int main(void)
{
        struct engine_options options = { .conf = make_conf(), .workers = 4 };
        struct service_params params = { .name = "toy", .ops = &toy_ops, .maxchild = 40 };
        pthread_t clients[CLIENTS], meddler, later;
        struct err err = ERR_INIT;
        uint64_t end;
        int bad = 0;

        log_open(LOG_TO_STDERR, "engine_race", -1, LOG_WARN);
        make_file();
        if (engine_start(&options, &err) < 0 || service_add(&params, &service, &err) < 0 ||
            service_listen(service, make_listener(), &err) < 0) {
                printf("Bail out! %s\n", err.text);
                return 1;
        }
        must(pthread_create(&later, NULL, later_main, NULL) == 0);
        for (uintptr_t i = 0; i < CLIENTS; i++)
                must(pthread_create(&clients[i], NULL, client_main, (void *)(i + 1)) == 0);
        must(pthread_create(&meddler, NULL, meddler_main, (void *)99) == 0);
        end = clock_mono_ms() + RUN_MS;
        while (clock_mono_ms() < end)
                usleep(10000);
        atomic_store(&over, true);
        pthread_join(meddler, NULL);
        engine_stop(3000);                              /* while clients are in the middle of things */
        for (int i = 0; i < CLIENTS; i++)
                pthread_join(clients[i], NULL);
        atomic_store(&later_stop, true);
        pthread_join(later, NULL);
        file_unref(&the_file);
        conf_live_destroy(&options.conf);

        printf("# answers %u, cuts %u, news %u, sessions %u\n", answers, cuts, news_seen, opened);
        printf("1..3\n");
        bad += !(answers > 100 && cuts > 0);
        printf("%s 1 - every command was answered, in order\n", answers > 100 && cuts > 0 ? "ok" : "not ok");
        bad += !(opened > 10 && opened == closed);
        printf("%s 2 - every session that was opened was closed\n", opened > 10 && opened == closed ? "ok" : "not ok");
        bad += news_seen == 0;
        printf("%s 3 - news reached sessions\n", news_seen > 0 ? "ok" : "not ok");
        return bad != 0;
}
