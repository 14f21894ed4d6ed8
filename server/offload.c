/*
 * offload - calls that may block (database transactions, password checks, files), on threads of their own: session_offload() and
 * engine_call() of session.h. Seven queues, each first come first served over its threads. A session has one or two jobs out at a
 * time, so the number of sessions bounds a queue.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/engine_private.h"
#include "util/must.h"

#define OFFLOAD_STACK ((size_t)1024 * 1024)     /* PAM modules and database look-ups are not made for small stacks */
#define THREADS_MAX 64u
#define CALLOUT_THREADS 4u
#define CALLOUT_AGAIN_THREADS 1u
#define REPLICATION_THREADS 4u
#define CONTROL_THREADS 3u                      /* two long operations, and status still answers */

struct detached {                               /* engine_call() */
        struct offload job;
        void (*fn)(void *arg);
        void *arg;
};

struct call_queue {
        atomic_uint pushing;                    /* calls of push(): what they do last is without the lock */
        struct mutex lock;                      /* offload_class */
        struct cond work;
        struct offload *first, *last;           /* guarded by lock, as is `stop` */
        bool stop;
        unsigned threads;
        pthread_t thread[THREADS_MAX];
};

static struct call_queue queues[OFFLOAD_QUEUES];        /* one set for the process, between offload_start() and offload_stop() */

static void lock_queue(struct call_queue *q) ACQUIRE(q->lock, offload_class);
static void unlock_queue(struct call_queue *q) RELEASE(q->lock, offload_class);
static void lock_queue(struct call_queue *q) NO_TSA { mutex_lock(&q->lock); }
static void unlock_queue(struct call_queue *q) NO_TSA { mutex_unlock(&q->lock); }

static void call(struct offload *job)
{
        job->fn(job->arg);
        waiter_done(&job->waiter, NULL);
}

static void *offload_main(void *arg)
{
        struct call_queue *q = arg;

        lock_queue(q);
        for (;;) {
                struct offload *job = q->first;

                if (!job) {
                        if (q->stop)
                                break;
                        cond_wait(&q->work, &q->lock);
                        continue;
                }
                q->first = job->next;
                if (!q->first)
                        q->last = NULL;
                unlock_queue(q);
                call(job);                              /* the job may be gone after this */
                lock_queue(q);
        }
        unlock_queue(q);
        return NULL;
}

static void push(struct call_queue *q, struct offload *job)
{
        atomic_fetch_add(&q->pushing, 1);
        job->next = NULL;
        lock_queue(q);
        must(q->threads > 0 && !q->stop);
        if (q->last)
                q->last->next = job;
        else
                q->first = job;
        q->last = job;
        unlock_queue(q);
        cond_signal(&q->work);                          /* without the lock, which is the first thing that the other one wants */
        atomic_fetch_sub(&q->pushing, 1);
}

void session_offload(struct session *s, struct offload *job, enum offload_queue queue, void (*fn)(void *arg), void *arg)
{
        job->fn = fn;
        job->arg = arg;
        session_waiter(s, &job->waiter);
        push(&queues[queue], job);
}

static void detached_run(void *arg)
{
        struct detached *d = arg;

        d->fn(d->arg);
}

static void detached_over(struct waiter *told)
{
        free(told->owner);
}

void engine_call(enum offload_queue queue, void (*fn)(void *arg), void *arg)
{
        struct detached *d = xcalloc(1, sizeof *d);

        d->fn = fn;
        d->arg = arg;
        d->job.fn = detached_run;
        d->job.arg = d;
        waiter_init(&d->job.waiter, detached_over, d);
        push(&queues[queue], &d->job);
}

uint64_t offload_waiting(enum offload_queue queue)
{
        struct call_queue *q = &queues[queue];
        uint64_t n = 0;

        if (q->threads == 0)
                return 0;
        lock_queue(q);
        for (const struct offload *job = q->first; job; job = job->next)
                n++;
        unlock_queue(q);
        return n;
}

static int queue_start(struct call_queue *q, const char *name, unsigned threads, struct err *err)
{
        mutex_init(&q->lock);
        cond_init(&q->work);
        q->first = q->last = NULL;
        q->stop = false;
        q->threads = 0;
        for (unsigned i = 0; i < threads && i < THREADS_MAX; i++) {
                char full[24];
                pthread_t thread;
                int rc;

                snprintf(full, sizeof full, "%s-%u", name, i);
                rc = thread_start(&thread, full, OFFLOAD_STACK, offload_main, q);
                if (rc != 0)
                        return err_errno(err, rc, "start thread %s", full);
                lock_queue(q);
                q->thread[q->threads++] = thread;
                unlock_queue(q);
        }
        return 0;
}

int offload_start(const struct engine_options *o, struct err *err)
{
        int rc = queue_start(&queues[OFFLOAD_DB], "db", o->db_threads ? o->db_threads : 1, err);

        if (rc == 0)
                rc = queue_start(&queues[OFFLOAD_AUTH], "auth", o->auth_threads ? o->auth_threads : 4, err);
        if (rc == 0)
                rc = queue_start(&queues[OFFLOAD_DISK], "disk", o->disk_threads ? o->disk_threads : 2, err);
        if (rc == 0)
                rc = queue_start(&queues[OFFLOAD_CONTROL], "control", CONTROL_THREADS, err);
        if (rc == 0)
                rc = queue_start(&queues[OFFLOAD_CALLOUT], "callout", CALLOUT_THREADS, err);
        if (rc == 0)
                rc = queue_start(&queues[OFFLOAD_CALLOUT_AGAIN], "callout-again", CALLOUT_AGAIN_THREADS, err);
        if (rc == 0)
                rc = queue_start(&queues[OFFLOAD_REPLICATION], "replication", REPLICATION_THREADS, err);
        if (rc < 0)
                offload_stop();
        return rc;
}

void offload_stop(void)
{
        for (int i = 0; i < OFFLOAD_QUEUES; i++) {
                struct call_queue *q = &queues[i];

                if (q->threads == 0)
                        continue;
                lock_queue(q);
                q->stop = true;
                cond_broadcast(&q->work);
                unlock_queue(q);
                for (unsigned t = 0; t < q->threads; t++)
                        must(pthread_join(q->thread[t], NULL) == 0);
                while (atomic_load(&q->pushing) > 0)
                        sched_yield();
                q->threads = 0;
                cond_deinit(&q->work);
                mutex_deinit(&q->lock);
        }
}
