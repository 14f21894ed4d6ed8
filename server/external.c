/* external - see external.h */
#include "server/external.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/child.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define FAILURES_MAX 5                          /* in a row, each within FAILURES_MS of the one before: then it is disabled */
#define FAILURES_MS 10000

enum { MSG_AVAILABLE = 1, MSG_UNAVAILABLE = 2 };        /* 3 and 4 are for statistics */

struct process { pid_t pid; bool ready; };

struct external {
        char *name, *address;
        char **argv;
        int id, prefork, maxchild, maxfds, maxforkrate;
        bool babysit;
        int listen_fd;                          /* -1: stopped */
        int status_read, status_write;
        ARRAY(struct process) processes;
        unsigned ready;                         /* of the processes: available */
        unsigned failures;
        uint64_t last_failure_ms;
        bool disabled;
        uint64_t second_started_ms;             /* for maxforkrate */
        int forks_this_second;
};

static void free_argv(char **argv)
{
        for (char **p = argv; p && *p; p++)
                free(*p);
        free(argv);
}

static void take_entry(struct external *x, const struct master_entry *e)
{
        free_argv(x->argv);
        x->argv = xcalloc((size_t)e->argc + 1, sizeof *x->argv);
        for (int i = 0; i < e->argc; i++)
                x->argv[i] = xstrdup(e->argv[i]);
        x->prefork = e->prefork;
        x->maxchild = e->maxchild;
        x->maxfds = e->maxfds;
        x->maxforkrate = e->maxforkrate;
        x->babysit = e->babysit;
}

struct external *external_create(const struct master_entry *e, int listen_fd, const char *address, int id)
{
        struct external *x = xcalloc(1, sizeof *x);
        int fds[2];

        x->name = xstrdup(e->name);
        x->address = xstrdup(address);
        x->id = id;
        x->listen_fd = listen_fd;
        x->status_read = x->status_write = -1;
        take_entry(x, e);
        if (pipe2(fds, O_CLOEXEC) == 0) {
                x->status_read = fds[0];
                x->status_write = fds[1];
                fcntl(fds[0], F_SETFL, O_NONBLOCK);
        } else {
                log_event(LOG_ERROR, NULL, "service.failed", "service=%s reason=\"no pipe: %s\"", x->name, strerror(errno));
                x->disabled = true;
        }
        return x;
}

void external_change(struct external *x, const struct master_entry *e)
{
        take_entry(x, e);
        if (x->status_read >= 0)
                x->disabled = false;
        x->failures = 0;
}

void external_kill(struct external *x, int sig)
{
        for (size_t i = 0; i < x->processes.n; i++)
                kill(x->processes.v[i].pid, sig);
}

void external_stop(struct external *x)
{
        if (x->listen_fd >= 0)
                close(x->listen_fd);
        x->listen_fd = -1;
        external_kill(x, SIGTERM);
}

unsigned external_processes(const struct external *x)
{
        return (unsigned)x->processes.n;
}

void external_destroy(struct external **xp)
{
        struct external *x = *xp;

        *xp = NULL;
        if (!x)
                return;
        if (x->listen_fd >= 0)
                close(x->listen_fd);
        if (x->status_read >= 0)
                close(x->status_read);
        if (x->status_write >= 0)
                close(x->status_write);
        ARRAY_FREE(&x->processes);
        free_argv(x->argv);
        free(x->name);
        free(x->address);
        free(x);
}

/* ---- starting processes --------------------------------------------------------------------------------------------------- */

static void count_failure(struct external *x)
{
        uint64_t now = clock_mono_ms();

        x->failures = now - x->last_failure_ms < FAILURES_MS ? x->failures + 1 : 1;
        x->last_failure_ms = now;
        if (x->failures < FAILURES_MAX || x->disabled || x->babysit)
                return;
        x->disabled = true;
        log_event(LOG_ERROR, NULL, "service.disabled", "service=%s address=%s reason=\"too many failures\" until=HUP", x->name, x->address);
}

static bool may_start(const struct external *x)
{
        return x->listen_fd >= 0 && !x->disabled && (x->maxchild < 0 || x->processes.n < (size_t)x->maxchild);
}

/* After a failure a pause, longer with each one. Returns when it ends, 0: it is over. */
static uint64_t pause_end(const struct external *x)
{
        uint64_t end = x->last_failure_ms + 200 * (uint64_t)(x->failures > 50 ? 50 : x->failures);

        return x->failures > 0 && clock_mono_ms() < end ? end : 0;
}

/* Does maxforkrate, or a failure a moment ago, forbid it now? Then *wake_r is when to try again. */
static bool too_fast(struct external *x, uint64_t *wake_r)
{
        uint64_t now = clock_mono_ms();

        *wake_r = pause_end(x);
        if (*wake_r)
                return true;
        if (now - x->second_started_ms >= 1000) {
                x->second_started_ms = now;
                x->forks_this_second = 0;
        }
        if (x->maxforkrate == 0 || x->forks_this_second < x->maxforkrate)
                return false;
        *wake_r = x->second_started_ms + 1000;
        return true;
}

static void start_process(struct external *x)
{
        struct child_options options = { .argv = x->argv, .service = x->name, .id = x->id, .fd3 = x->status_write,
                                         .fd4 = x->listen_fd, .maxfds = x->maxfds };
        struct err err = ERR_INIT;
        pid_t pid = child_start(&options, &err);

        x->forks_this_second++;
        if (pid < 0) {
                char quoted[LOG_QUOTE_MAX];

                log_event(LOG_ERROR, NULL, "service.failed", "service=%s reason=%s", x->name, log_quote_str(quoted, err.text));
                count_failure(x);
                return;
        }
        *ARRAY_PUSH(&x->processes) = (struct process){ pid, true };
        x->ready++;
        log_event(LOG_DBG, NULL, "service.process", "service=%s pid=%d", x->name, (int)pid);
}

/* ---- what processes say ------------------------------------------------------------------------------------------------------ */

static struct process *find_process(struct external *x, pid_t pid)
{
        for (size_t i = 0; i < x->processes.n; i++)
                if (x->processes.v[i].pid == pid)
                        return &x->processes.v[i];
        return NULL;
}

static void set_ready(struct external *x, struct process *p, bool ready)
{
        if (p->ready == ready)
                return;
        p->ready = ready;
        if (ready)
                x->ready++;
        else
                x->ready--;
        /* It served somebody: what failed before was another matter. */
        x->failures = 0;
}

static void read_messages(struct external *x)
{
        struct { int32_t message, pid; } m;

        /* A writer writes 8 octets at once into a pipe: they come whole. */
        while (read(x->status_read, &m, sizeof m) == (ssize_t)sizeof m) {
                struct process *p = find_process(x, m.pid);

                if (p && m.message == MSG_AVAILABLE)
                        set_ready(x, p, true);
                else if (p && m.message == MSG_UNAVAILABLE)
                        set_ready(x, p, false);
        }
}

unsigned external_pollfds(const struct external *x, struct pollfd fds[EXTERNAL_POLLFDS])
{
        bool wanted = may_start(x) && x->ready == 0 && pause_end(x) == 0;

        fds[0] = (struct pollfd){ .fd = x->status_read, .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = wanted ? x->listen_fd : -1, .events = POLLIN };
        return 2;
}

uint64_t external_run(struct external *x, const struct pollfd *fds, unsigned n)
{
        bool somebody = false;
        uint64_t wake = 0;

        if (n > 0 && fds[0].revents)
                read_messages(x);
        somebody = n > 1 && (fds[1].revents & POLLIN) && x->ready == 0;
        while (may_start(x) && (x->ready < (unsigned)x->prefork || somebody)) {
                if (too_fast(x, &wake))
                        return wake;
                start_process(x);
                somebody = false;
        }
        return may_start(x) && x->ready == 0 ? pause_end(x) : 0;        /* meanwhile the socket is not polled */
}

bool external_reap(struct external *x, pid_t pid, int status)
{
        struct process *p;
        char text[80];

        if (x->status_read >= 0)
                read_messages(x);               /* what it said before it ended */
        p = find_process(x, pid);
        if (!p)
                return false;
        if (status != 0 && x->listen_fd >= 0)
                log_event(LOG_WARN, NULL, "service.died", "service=%s pid=%d reason=\"%s\"", x->name, (int)pid,
                          child_status_text(status, text, sizeof text));
        if (p->ready) {
                x->ready--;
                if (status != 0 && x->listen_fd >= 0)
                        count_failure(x);
        }
        *p = x->processes.v[--x->processes.n];
        return true;
}
