/* schedule - see schedule.h */
#include "server/schedule.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "server/child.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define BACKOFF_MAX_S 300
#define LONG_LIFE_MS 60000                      /* a daemon that lived this long starts again at once */
#define WAIT_MS 30000                           /* for a daemon's "ok" */
#define HOUR_MS 3600000u
#define DAY_S 86400

struct job {
        const struct master_entry *e;           /* of the present reading */
        pid_t pid;                              /* 0: not running */
        /* events */
        uint64_t due_ms;                        /* monotonic; UINT64_MAX: never again */
        int64_t due_s;                          /* wall clock, for `at`; 0: not by the wall clock */
        /* daemons */
        uint64_t started_ms;
        unsigned backoff_s;
        bool inside;                            /* runs in the daemon itself: nothing to watch */
};

struct schedule {
        schedule_start_fn *start;
        void *context;
        ARRAY(struct job) jobs;
        ARRAY(pid_t) leaving;                   /* daemons of earlier readings that were told to end */
        bool stopping;
};

struct schedule *schedule_create(schedule_start_fn *start, void *context)
{
        struct schedule *s = xcalloc(1, sizeof *s);

        s->start = start;
        s->context = context;
        return s;
}

void schedule_destroy(struct schedule **sp)
{
        struct schedule *s = *sp;

        *sp = NULL;
        if (!s)
                return;
        ARRAY_FREE(&s->jobs);
        ARRAY_FREE(&s->leaving);
        free(s);
}

int64_t schedule_next_at(int64_t now, int at_min)
{
        time_t t = (time_t)now, due;
        struct tm tm;

        localtime_r(&t, &tm);
        for (int days = 0;; days++) {
                struct tm day = tm;

                day.tm_mday += days;
                day.tm_hour = at_min / 60;
                day.tm_min = at_min % 60;
                day.tm_sec = 0;
                day.tm_isdst = -1;
                due = mktime(&day);
                if (due > t)
                        return due;
        }
}

/* ---- taking over a reading --------------------------------------------------------------------------------------------------- */

static void first_due(struct job *j)
{
        if (j->e->at_min >= 0)
                j->due_s = schedule_next_at(clock_wall_s(), j->e->at_min);
        j->due_ms = j->e->at_min >= 0 ? UINT64_MAX : clock_mono_ms();
}

static const struct job *find_same(const struct job *jobs, size_t n, const struct master_entry *e)
{
        for (size_t i = 0; i < n; i++)
                if (jobs[i].e && master_entry_same(jobs[i].e, e))
                        return &jobs[i];
        return NULL;
}

void schedule_set(struct schedule *s, const struct masterconf *mc)
{
        struct job *old = s->jobs.v;
        size_t old_n = s->jobs.n;

        s->jobs.v = NULL;
        s->jobs.n = s->jobs.cap = 0;
        for (size_t i = 0; i < mc->n; i++) {
                const struct master_entry *e = mc->v[i];
                struct job *same, *j;

                if (e->section != MASTER_EVENTS && e->section != MASTER_DAEMON)
                        continue;
                same = (struct job *)find_same(old, old_n, e);
                j = ARRAY_PUSH(&s->jobs);
                *j = same ? *same : (struct job){ .e = e };
                j->e = e;
                if (same)
                        same->e = NULL;         /* taken: two equal entries are two jobs */
                else
                        first_due(j);
        }
        for (size_t i = 0; i < old_n; i++)
                if (old[i].e && old[i].pid > 0) {
                        if (old[i].e->section == MASTER_DAEMON)
                                kill(old[i].pid, SIGTERM);
                        *ARRAY_PUSH(&s->leaving) = old[i].pid;
                }
        free(old);
}

/* ---- running ------------------------------------------------------------------------------------------------------------------ */

static void start_job(struct schedule *s, struct job *j, int fd3)
{
        const char *what = j->e->section == MASTER_DAEMON ? "daemon.failed" : "event.failed";
        struct err err = ERR_INIT;
        pid_t pid = s->start(s->context, j->e, fd3, &err);
        char quoted[LOG_QUOTE_MAX];

        j->started_ms = clock_mono_ms();
        if (pid < 0)
                log_event(LOG_ERROR, NULL, what, "name=%s reason=%s", j->e->name, log_quote_str(quoted, err.text));
        j->pid = pid > 0 ? pid : 0;
        j->inside = pid == 0;
}

static void next_backoff(struct job *j)
{
        if (clock_mono_ms() - j->started_ms >= LONG_LIFE_MS)
                j->backoff_s = 0;
        j->due_ms = clock_mono_ms() + j->backoff_s * 1000u;
        j->backoff_s = j->backoff_s == 0 ? 1 : j->backoff_s * 2 > BACKOFF_MAX_S ? BACKOFF_MAX_S : j->backoff_s * 2;
}

static void run_daemon(struct schedule *s, struct job *j)
{
        if (j->pid > 0 || j->inside)
                return;
        start_job(s, j, -1);
        j->due_ms = UINT64_MAX;
        if (j->pid == 0 && !j->inside) {
                if (j->backoff_s == 0)
                        j->backoff_s = 1;
                next_backoff(j);
        }
}

static void run_event(struct schedule *s, struct job *j)
{
        if (j->pid > 0)
                log_event(LOG_WARN, NULL, "event.late", "name=%s pid=%d reason=\"the last run has not ended\"", j->e->name, (int)j->pid);
        else
                start_job(s, j, -1);
        if (j->due_s)
                j->due_s = schedule_next_at(clock_wall_s(), j->e->at_min);
        else
                j->due_ms = j->e->period_min > 0 ? clock_mono_ms() + (uint64_t)j->e->period_min * 60000 : UINT64_MAX;
}

/* More than a day ahead: the clock was set back since, and the event would not run until it is there again. */
static void mind_the_clock(struct job *j)
{
        if (j->due_s && j->due_s - clock_wall_s() > DAY_S + HOUR_MS / 1000)             /* a day of 25 hours */
                j->due_s = schedule_next_at(clock_wall_s(), j->e->at_min);
}

static bool is_due(const struct job *j)
{
        return j->due_s ? clock_wall_s() >= j->due_s : clock_mono_ms() >= j->due_ms;
}

uint64_t schedule_run(struct schedule *s)
{
        uint64_t now, wake;

        if (s->stopping)
                return clock_mono_ms() + HOUR_MS;
        for (size_t i = 0; i < s->jobs.n; i++) {
                struct job *j = &s->jobs.v[i];

                mind_the_clock(j);
                if (!is_due(j))
                        continue;
                if (j->e->section == MASTER_DAEMON)
                        run_daemon(s, j);
                else
                        run_event(s, j);
                if (j->inside && j->e->section == MASTER_DAEMON)
                        j->due_ms = UINT64_MAX;
        }
        now = clock_mono_ms();
        wake = now + HOUR_MS;
        for (size_t i = 0; i < s->jobs.n; i++) {
                const struct job *j = &s->jobs.v[i];
                uint64_t due = j->due_ms;

                if (j->due_s) {                 /* looked at each minute at least: the wall clock may be set */
                        int64_t left = j->due_s - clock_wall_s();

                        due = now + (left <= 0 ? 0 : left > 60 ? 60000 : (uint64_t)left * 1000);
                }
                if (due < wake)
                        wake = due;
        }
        return wake;
}

/* Wait for "ok\r\n" on the pipe. */
static bool said_ok(int fd)
{
        uint64_t deadline = clock_mono_ms() + WAIT_MS;
        char buf[16];
        size_t len = 0;

        while (len < sizeof buf - 1 && clock_mono_ms() < deadline) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                ssize_t n;

                if (poll(&p, 1, (int)(deadline - clock_mono_ms())) <= 0)
                        continue;
                n = read(fd, buf + len, sizeof buf - 1 - len);
                if (n == 0 || (n < 0 && errno != EINTR))
                        break;
                len += n > 0 ? (size_t)n : 0;
                buf[len] = '\0';
                if (strstr(buf, "\n"))
                        break;
        }
        return len == 4 && memcmp(buf, "ok\r\n", 4) == 0;
}

void schedule_start_waiting_daemons(struct schedule *s)
{
        for (size_t i = 0; i < s->jobs.n; i++) {
                struct job *j = &s->jobs.v[i];
                int fds[2];

                if (j->e->section != MASTER_DAEMON || !j->e->wait)
                        continue;
                if (pipe2(fds, O_CLOEXEC) < 0)
                        continue;
                start_job(s, j, fds[1]);
                close(fds[1]);
                j->due_ms = UINT64_MAX;
                if (j->pid > 0 && !said_ok(fds[0]))
                        log_event(LOG_ERROR, NULL, "daemon.failed", "name=%s pid=%d reason=\"did not say that it is ready\"",
                                  j->e->name, (int)j->pid);
                close(fds[0]);
                if (j->pid == 0 && !j->inside)
                        next_backoff(j);
        }
}

bool schedule_reap(struct schedule *s, pid_t pid, int status)
{
        char text[80];

        for (size_t i = 0; i < s->leaving.n; i++)
                if (s->leaving.v[i] == pid) {
                        s->leaving.v[i] = s->leaving.v[--s->leaving.n];
                        return true;
                }
        for (size_t i = 0; i < s->jobs.n; i++) {
                struct job *j = &s->jobs.v[i];
                bool daemon = j->e->section == MASTER_DAEMON;

                if (j->pid != pid)
                        continue;
                j->pid = 0;
                if (!s->stopping && (daemon || status != 0))
                        log_event(LOG_WARN, NULL, daemon ? "daemon.ended" : "event.failed", "name=%s pid=%d reason=\"%s\"",
                                  j->e->name, (int)pid, child_status_text(status, text, sizeof text));
                if (daemon)
                        next_backoff(j);
                return true;
        }
        return false;
}

void schedule_stop(struct schedule *s, int sig, bool last)
{
        s->stopping = true;
        for (size_t i = 0; i < s->jobs.n; i++)
                if (s->jobs.v[i].pid > 0 && (last || !s->jobs.v[i].e->wait))
                        kill(s->jobs.v[i].pid, sig);
        for (size_t i = 0; i < s->leaving.n; i++)
                kill(s->leaving.v[i], sig);
}

unsigned schedule_processes(const struct schedule *s, bool last)
{
        unsigned n = (unsigned)s->leaving.n;

        for (size_t i = 0; i < s->jobs.n; i++)
                n += s->jobs.v[i].pid > 0 && (last || !s->jobs.v[i].e->wait);
        return n;
}
