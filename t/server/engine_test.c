/* The engine's promises about time and number: timeouts, limits, exhaustion, fairness, stopping. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/service.h"
#include "t/store/conf_text.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

/* ---- the protocol: L logs in; E text: echo; G: a gigabyte, as the peer reads it; W: waits for the test; S: works for ever; I: is
 * never idle; H: holds its worker until the test lets go; Q: so does Q, and says goodbye; anything else is an unfinished command ---- */

struct toy { char verb; uint64_t left; struct waiter waiter; };

static atomic_uint opened, closed, runs;
static struct waiter *_Atomic the_waiter;
static atomic_uint stops_told;
static atomic_bool holding;

static void toy_open(struct session *s)
{
        atomic_fetch_add(&opened, 1);
        s->idle_ok = true;
}

static void toy_close(struct session *s)
{
        struct toy *t = s->self;

        must(t->verb != 'W' || waiter_is_done(&t->waiter));
        atomic_fetch_add(&closed, 1);
}

static enum step go_on(struct session *s, struct toy *t)
{
        char block[4096];

        switch (t->verb) {
        case 'G':
                memset(block, 'g', sizeof block);
                while (t->left > 0) {
                        if (s->out.bytes > ROPE_HIGH)
                                return STEP_FLUSH;
                        rope_append(&s->out, block, sizeof block);
                        t->left -= sizeof block;
                }
                break;
        case 'W':
                if (!waiter_is_done(&t->waiter))
                        return STEP_WAIT;
                rope_append_str(&s->out, "done\n");
                break;
        case 'H':
        case 'Q':
                while (atomic_load(&holding))
                        poll(NULL, 0, 10);
                if (t->verb == 'H')
                        break;
                rope_append_str(&s->out, "bye\n");
                return STEP_CLOSE;
        case 'S':
                while (!session_slice_over(s))
                        ;
                return STEP_AGAIN;
        }
        t->verb = 0;
        return STEP_INPUT;
}

static void line(struct session *s, struct toy *t, struct span l)
{
        t->verb = l.len ? l.p[0] : 0;
        switch (t->verb) {
        case 'L':
                s->authenticated = true;
                rope_append_str(&s->out, "ok\n");
                break;
        case 'E':
                rope_append_span(&s->out, l);
                rope_append_str(&s->out, "\n");
                break;
        case 'G':
                t->left = 1u << 30;
                break;
        case 'W':
                session_waiter(s, &t->waiter);
                atomic_store(&the_waiter, &t->waiter);
                break;
        }
}

static enum step toy_run(struct session *s)
{
        struct toy *t = s->self;

        atomic_fetch_add(&runs, 1);
        if (s->woken & (WAKE_STOP | WAKE_TIMEOUT)) {
                atomic_fetch_add(&stops_told, 1);
                rope_append_str(&s->out, s->woken & WAKE_STOP ? "stop\n" : "timeout\n");
                return STEP_CLOSE;
        }
        s->woken = 0;
        for (;;) {
                enum step step = go_on(s, t);
                size_t eol;

                if (step != STEP_INPUT)
                        return step;
                eol = span_index(str_span(&s->in), '\n');
                s->idle_ok = s->in.len == 0;
                if (eol == s->in.len)
                        return STEP_INPUT;
                line(s, t, (struct span){ s->in.data, eol });
                str_consume(&s->in, eol + 1);
        }
}

static const struct session_ops toy_ops = { .protocol = "toy", .size = sizeof(struct toy), .open = toy_open, .run = toy_run,
                                            .close = toy_close, .too_many = "full\n" };

/* ---- a server and clients ---- */

static struct conf_live *live;
static struct service *service;
static uint16_t port;

static int listen_any(uint16_t *port_r)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof a;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        must(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 128) == 0);
        must(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
        *port_r = ntohs(a.sin_port);
        return fd;
}

static void start(const char *more, unsigned workers, int maxchild)
{
        struct service_params params = { .name = "toy", .ops = &toy_ops, .maxchild = maxchild };
        struct engine_options options = { .workers = workers };
        struct err err = ERR_INIT;
        char text[512];

        log_open(LOG_TO_STDERR, "engine_test", -1, LOG_ERROR);
        snprintf(text, sizeof text, "configdirectory: /x\npartition-default: /x\n%s", more);
        options.conf = live = conf_live_create(conf_text(text));
        cr_assert_eq(engine_start(&options, &err), 0, "%s", err.text);
        cr_assert_eq(service_add(&params, &service, &err), 0, "%s", err.text);
        cr_assert_eq(service_listen(service, listen_any(&port), &err), 0, "%s", err.text);
}

static void stop(void)
{
        engine_stop(500);
        conf_live_destroy(&live);
        cr_expect_eq(opened, closed);
}

static int dial(void)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        must(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
        return fd;
}

static void say(int fd, const char *text)
{
        cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* What comes within ms, up to a line end; "" when the connection ends, NULL when nothing came. */
static const char *hear(int fd, int ms)
{
        static char buf[256];
        size_t n = 0;

        while (n < sizeof buf - 1) {
                struct pollfd p = { fd, POLLIN, 0 };
                ssize_t r;

                if (poll(&p, 1, ms) == 0)
                        return NULL;
                r = read(fd, buf + n, 1);
                if (r <= 0)
                        break;
                n++;
                if (buf[n - 1] == '\n')
                        break;
        }
        buf[n] = '\0';
        return buf;
}

static int login(void)
{
        int fd = dial();
        const char *answer;

        say(fd, "L\n");
        answer = hear(fd, 3000);
        cr_assert(answer && strcmp(answer, "ok\n") == 0, "%s", answer ? answer : "nothing");
        return fd;
}

static void copy_name(void *ctx, const struct session_info *info)
{
        strcpy(ctx, info->name);
}

static void copy_id(void *ctx, const struct session_info *info)
{
        *(struct session_id *)ctx = info->id;
}

#define HEARS(fd, ms, text) do { \
                const char *heard_ = hear(fd, ms); \
                cr_expect(heard_ && strcmp(heard_, text) == 0, "wanted %s got %s", text, heard_ ? heard_ : "nothing"); \
        } while (0)

/* ---- a watchdog's question ---- */

static bool gets_on_for(uint64_t ms, uint64_t limit_ms)
{
        uint64_t until = clock_mono_ms() + ms;
        bool yes = true;

        while (clock_mono_ms() < until) {
                yes = engine_gets_on(limit_ms) && yes;
                poll(NULL, 0, 20);
        }
        return yes;
}

Test(engine, does_not_get_on_when_sessions_wait_and_no_worker_takes_one, .timeout = 60)
{
        int held, waiting, busy;

        start("", 1, -1);
        held = login();
        waiting = login();
        cr_expect(gets_on_for(600, 300), "nothing to do is no fault");
        atomic_store(&holding, true);
        say(held, "H\n");
        cr_expect(gets_on_for(600, 300), "a worker that is busy for long is none, while nobody waits");
        say(waiting, "E x\n");
        cr_expect_not(gets_on_for(1500, 300), "somebody waits, and nothing happens");
        atomic_store(&holding, false);
        HEARS(waiting, 3000, "E x\n");
        cr_expect(gets_on_for(600, 300), "it got over it");
        busy = login();
        say(busy, "S\n");
        cr_expect(gets_on_for(1500, 300), "work without end, in slices, is none");
        close(busy);
        close(held);
        close(waiting);
        stop();
}

/* ---- timeouts ---- */

Test(engine, login_time_counts_from_the_connection_whatever_is_sent, .timeout = 30)
{
        uint64_t begun = clock_mono_ms();
        int fd;

        start("login_timeout: 1s\n", 2, -1);
        fd = dial();
        while (clock_mono_ms() < begun + 800) {
                say(fd, "x");                           /* an octet now and then does not help */
                usleep(100000);
        }
        HEARS(fd, 1500, "timeout\n");
        cr_expect_lt(clock_mono_ms() - begun, 2000);
        HEARS(fd, 500, "");
        close(fd);
        stop();
}

Test(engine, who_has_logged_in_has_time_unless_a_command_is_begun, .timeout = 30)
{
        int idle, writing, slow;

        start("login_timeout: 1s\ncommand_timeout: 1s\n", 2, -1);
        idle = login();
        writing = login();
        slow = login();
        say(writing, "E unfinished");
        for (int i = 0; i < 14; i++) {
                say(slow, i == 0 ? "E" : "y");
                usleep(100000);
        }
        HEARS(writing, 1000, "timeout\n");
        say(slow, "\n");                                /* who goes on sending is waited for */
        HEARS(slow, 500, "Eyyyyyyyyyyyyy\n");
        say(idle, "E x\n");
        HEARS(idle, 500, "E x\n");
        close(idle);
        close(writing);
        close(slow);
        stop();
}

Test(engine, who_does_not_read_is_cut_off, .timeout = 30)
{
        int fd, other;

        start("write_timeout: 1s\n", 2, -1);
        fd = login();
        other = login();
        say(fd, "G\n");
        usleep(500000);
        say(other, "E quick\n");
        HEARS(other, 500, "E quick\n");
        for (int i = 0; i < 60 && closed == 0; i++)
                usleep(50000);
        cr_expect_eq(closed, 1);
        close(fd);
        close(other);
        stop();
}

/* ---- waiting ---- */

static uint64_t cpu_us(void)
{
        struct rusage ru;

        getrusage(RUSAGE_SELF, &ru);
        return (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000 + (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec);
}

Test(engine, a_peer_that_is_gone_waits_for_the_waiter_without_spinning, .timeout = 30)
{
        struct linger reset = { 1, 0 };
        uint64_t before;
        unsigned runs_before;
        int fd;

        start("login_timeout: 1s\n", 2, -1);
        fd = dial();                                    /* not logged in: its timeout comes meanwhile too */
        say(fd, "W\nE more\n");
        while (!the_waiter)
                usleep(1000);
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        close(fd);
        before = cpu_us();
        runs_before = runs;
        sleep(2);
        cr_expect_lt(cpu_us() - before, 200000, "%llu us", (unsigned long long)(cpu_us() - before));
        cr_expect_leq(runs - runs_before, 3);
        cr_expect_eq(closed, 0);
        waiter_done(the_waiter, NULL);
        for (int i = 0; i < 100 && closed == 0; i++)
                usleep(10000);
        cr_expect_eq(closed, 1);
        stop();
}

Test(engine, a_kick_is_delivered_when_the_waiter_is_done, .timeout = 30)
{
        int fd;
        char name[20] = "";

        start("", 2, -1);
        fd = login();
        say(fd, "W\n");
        while (!the_waiter)
                usleep(1000);
        snprintf(name, sizeof name, "nobody");
        cr_expect(!engine_kick(name));
        engine_each_session(copy_name, name);
        cr_expect(engine_kick(name));
        usleep(100000);
        cr_expect_eq(stops_told, 0);
        waiter_done(the_waiter, NULL);
        HEARS(fd, 1000, "stop\n");
        HEARS(fd, 1000, "");
        close(fd);
        stop();
}

Test(engine, stopping_says_goodbye_and_is_over_in_time, .timeout = 30)
{
        int idle, reading;
        uint64_t begun;

        start("", 2, -1);
        idle = login();
        reading = login();
        say(reading, "G\n");                            /* in the middle of a long answer, never read */
        usleep(100000);
        begun = clock_mono_ms();
        stop();
        cr_expect_lt(clock_mono_ms() - begun, 2000);
        HEARS(idle, 500, "stop\n");
        close(idle);
        close(reading);
}

Test(engine, what_was_sent_before_half_closing_is_answered, .timeout = 30)
{
        int fd;

        start("", 2, -1);
        fd = login();
        say(fd, "E a\nE b\n");
        shutdown(fd, SHUT_WR);
        HEARS(fd, 1000, "E a\n");
        HEARS(fd, 1000, "E b\n");
        HEARS(fd, 1000, "");
        close(fd);
        stop();
}

/* ---- numbers ---- */

/* A connection that is closed while something is unread is reset, and a goodbye on its way may be lost. */
Test(engine, what_comes_behind_the_last_command_does_not_reset_the_connection, .timeout = 30)
{
        char c;

        start("", 2, -1);
        for (int late = 0; late < 2; late++) {
                int fd = login();

                atomic_store(&holding, true);
                say(fd, "Q\n");
                usleep(100000);                         /* it is read; what follows is not */
                if (late)
                        say(fd, "E one more\n");
                atomic_store(&holding, false);
                HEARS(fd, 3000, "bye\n");
                cr_expect_eq(read(fd, &c, 1), 0, "%s", strerror(errno));
                if (!late) {
                        for (int i = 0; i < 50 && closed == 0; i++)
                                usleep(10000);
                        cr_expect_eq(closed, 1, "it waits for a client that has nothing to say");
                }
                close(fd);
        }
        stop();
}

Test(engine, maxchild_leaves_the_rest_in_the_backlog, .timeout = 30)
{
        int a, b, c;

        start("", 2, 2);
        a = login();
        b = login();
        c = dial();
        say(c, "L\n");
        cr_expect_null(hear(c, 300));
        close(a);
        HEARS(c, 2000, "ok\n");
        close(b);
        close(c);
        stop();
}

Test(engine, a_limit_by_address_answers_with_the_protocols_line, .timeout = 30)
{
        int a, b;

        start("maxconnections_per_host: 1\n", 2, -1);
        a = login();
        b = dial();
        HEARS(b, 1000, "full\n");
        HEARS(b, 1000, "");
        close(a);
        close(b);
        usleep(100000);
        a = login();
        close(a);
        stop();
}

Test(engine, without_descriptors_it_neither_dies_nor_spins, .timeout = 30)
{
        struct rlimit rl;
        int clients[20], taken[200], n = 0;
        uint64_t before;
        int first;

        start("", 2, -1);
        log_set_level(LOG_ERROR);
        first = login();
        for (int i = 0; i < 20; i++)
                clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        getrlimit(RLIMIT_NOFILE, &rl);
        rl.rlim_cur = 100;
        setrlimit(RLIMIT_NOFILE, &rl);
        while (n < 200 && (taken[n] = dup(first)) >= 0)
                n++;
        for (int i = 0; i < 20; i++) {
                struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };

                cr_assert_eq(connect(clients[i], (struct sockaddr *)&a, sizeof a), 0);
        }
        before = cpu_us();
        sleep(1);
        cr_expect_lt(cpu_us() - before, 200000);
        say(first, "E alive\n");
        HEARS(first, 1000, "E alive\n");
        while (n > 0)
                close(taken[--n]);
        for (int i = 0; i < 20; i++)
                close(clients[i]);
        usleep(400000);
        clients[0] = login();                           /* and it accepts again */
        close(clients[0]);
        close(first);
        stop();
}

/* ---- fairness ---- */

/* Without the bound on continued slices it would wait for 16 of them, again and again; 400 ms leaves room for a busy machine. */
Test(engine, endless_commands_on_all_workers_leave_room_for_a_quick_one, .timeout = 30)
{
        int busy[16], fd;
        uint64_t worst = 0;

        start("", 4, -1);
        fd = login();
        for (int i = 0; i < 16; i++) {
                busy[i] = login();
                say(busy[i], "S\n");
        }
        usleep(100000);
        for (int i = 0; i < 30; i++) {
                uint64_t begun = clock_mono_ms();

                say(fd, "E x\n");
                HEARS(fd, 3000, "E x\n");
                begun = clock_mono_ms() - begun;
                worst = begun > worst ? begun : worst;
        }
        cr_expect_lt(worst, 400, "%llu ms", (unsigned long long)worst);
        for (int i = 0; i < 16; i++)
                close(busy[i]);
        close(fd);
        stop();
}

Test(engine, a_wake_for_a_session_that_is_gone_hits_nothing, .timeout = 30)
{
        struct session_id id = { 0, 0 };
        int fd;

        start("", 2, -1);
        fd = login();
        engine_each_session(copy_id, &id);
        close(fd);
        for (int i = 0; i < 100 && closed == 0; i++)
                usleep(10000);
        fd = login();                                   /* takes the same slot */
        session_wake(id, WAKE_STOP);
        session_wake((struct session_id){ 4000000000u, 1 }, WAKE_STOP);
        session_wake((struct session_id){ 99999, 1 }, WAKE_STOP);
        say(fd, "E here\n");
        HEARS(fd, 1000, "E here\n");
        cr_expect_eq(stops_told, 0);
        close(fd);
        stop();
}
