/* pool - see pool.h */
#include "server/pool.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/must.h"

#define FRESH_STREAK 8u                         /* this many fresh ones, then a low one if there is one */
#define WORKER_STACK ((size_t)1024 * 1024)      /* touched lazily; GnuTLS and our own 32 KiB buffers need some of it */

struct queue { struct pool_item *first, *last; uint64_t n; };

struct pool {
        const struct pool_ops *ops;
        void *ctx;
        atomic_uint pushing;                    /* calls of pool_push(): what they do last is without the lock */
        struct mutex lock;
        struct queue queues[POOL_QUEUES];       /* this and all below: guarded by lock */
        unsigned idle;                          /* workers that wait, or are on their way to or from there */
        unsigned low_running, low_max, fresh_streak;
        enum pool_queue low_next;               /* whose turn it is: AGAIN or NEWS */
        uint64_t pushed;
        bool stop;
        unsigned workers;
        pthread_t threads[];
};

static void lock_pool(struct pool *p) ACQUIRE(p->lock, pool_class);
static void unlock_pool(struct pool *p) RELEASE(p->lock, pool_class);
static void lock_pool(struct pool *p) NO_TSA { mutex_lock(&p->lock); }
static void unlock_pool(struct pool *p) NO_TSA { mutex_unlock(&p->lock); }

static struct pool_item *take(struct queue *q)
{
        struct pool_item *item = q->first;

        if (item) {
                q->first = item->next;
                if (!q->first)
                        q->last = NULL;
                item->next = NULL;
                q->n--;
        }
        return item;
}

static struct pool_item *take_low_locked(struct pool *p, enum pool_queue *queue_r) REQUIRES(p->lock, pool_class)
{
        for (int i = 0; i < 2; i++) {
                enum pool_queue q = p->low_next;
                struct pool_item *item;

                p->low_next = q == POOL_AGAIN ? POOL_NEWS : POOL_AGAIN;
                item = take(&p->queues[q]);
                if (item) {
                        *queue_r = q;
                        return item;
                }
        }
        return NULL;
}

static struct pool_item *pick_locked(struct pool *p, enum pool_queue *queue_r) REQUIRES(p->lock, pool_class)
{
        bool low_ok = p->low_running < p->low_max;
        struct pool_item *item = NULL;

        if (low_ok && p->fresh_streak >= FRESH_STREAK) {
                p->fresh_streak = 0;
                item = take_low_locked(p, queue_r);
        }
        if (!item && (item = take(&p->queues[POOL_FRESH])) != NULL) {
                p->fresh_streak++;
                *queue_r = POOL_FRESH;
        }
        if (!item && low_ok)
                item = take_low_locked(p, queue_r);
        return item;
}

/* Would pick_locked() find something? */
static bool has_work_locked(const struct pool *p)
{
        return p->queues[POOL_FRESH].n || (p->low_running < p->low_max && (p->queues[POOL_AGAIN].n || p->queues[POOL_NEWS].n));
}

static bool empty_locked(const struct pool *p)
{
        return !p->queues[POOL_FRESH].n && !p->queues[POOL_AGAIN].n && !p->queues[POOL_NEWS].n;
}

/* Whoever pushed something kicked one that waits, unless all were on their way back; and some kicks are one. */
static void run_item(struct pool *p, struct pool_item *item, bool low) REQUIRES(p->lock, pool_class)
{
        bool pass_on;

        p->low_running += low;
        pass_on = p->idle > 0 && has_work_locked(p);
        unlock_pool(p);
        if (pass_on)
                p->ops->kick(p->ctx);
        p->ops->run(item);
        lock_pool(p);
        p->low_running -= low;
}

/* The lock is given up. What came back; counted as if it had been pushed. */
static struct pool_item *wait_locked(struct pool *p) REQUIRES(p->lock, pool_class)
{
        struct pool_item *item;
        bool last;

        p->idle++;
        unlock_pool(p);
        item = p->ops->wait(p->ctx);
        lock_pool(p);
        p->pushed += item != NULL;
        last = --p->idle == 0;
        if (last) {
                unlock_pool(p);
                p->ops->all_busy(p->ctx);
                lock_pool(p);
        }
        return item;
}

static void *worker(void *arg)
{
        struct pool *p = arg;

        lock_pool(p);
        for (;;) {
                enum pool_queue queue = POOL_FRESH;
                struct pool_item *item = pick_locked(p, &queue);

                if (!item && p->stop && empty_locked(p))
                        break;
                if (!item)
                        item = wait_locked(p);
                /* This worker picks again at once, so whom the limit kept waiting is served by it. */
                if (item)
                        run_item(p, item, queue != POOL_FRESH);
        }
        unlock_pool(p);
        p->ops->kick(p->ctx);                           /* the next one looks again: it is over */
        return NULL;
}

/* More slices than processors at once get nothing done sooner, but a NOOP that wakes has to push its way between all of them: with
 * 16 searches on 2 processors the median of APPEND fell from 12 to 6 ms. Two at least, for those that wait for the disk. */
static unsigned low_limit(unsigned workers)
{
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        unsigned limit = workers - (workers / 4 > 1 ? workers / 4 : 1);

        if (processors < 2)
                processors = 2;
        if (limit > (unsigned long)processors)
                limit = (unsigned)processors;
        return limit > 0 ? limit : 1;                   /* a single worker does everything */
}

int pool_create(unsigned workers, const struct pool_ops *ops, void *ctx, struct pool **pool_r, struct err *err)
{
        struct pool *p = xcalloc(1, sizeof *p + workers * sizeof p->threads[0]);
        int rc = 0;

        mutex_init(&p->lock);
        p->ops = ops;
        p->ctx = ctx;
        p->low_max = low_limit(workers);
        p->low_next = POOL_AGAIN;
        for (unsigned i = 0; i < workers && rc == 0; i++) {
                char name[16];

                snprintf(name, sizeof name, "worker-%u", i % 1000);
                rc = thread_start(&p->threads[i], name, WORKER_STACK, worker, p);
                if (rc == 0)
                        p->workers++;
        }
        if (rc != 0) {
                pool_destroy(&p);
                return err_errno(err, rc, "start %u workers", workers);
        }
        *pool_r = p;
        return 0;
}

void pool_destroy(struct pool **pp)
{
        struct pool *p = *pp;

        *pp = NULL;
        if (!p)
                return;
        lock_pool(p);
        p->stop = true;
        unlock_pool(p);
        p->ops->kick(p->ctx);
        for (unsigned i = 0; i < p->workers; i++)
                must(pthread_join(p->threads[i], NULL) == 0);
        while (atomic_load(&p->pushing) > 0)
                sched_yield();
        mutex_deinit(&p->lock);
        free(p);
}

void pool_push(struct pool *p, struct pool_item *item, enum pool_queue queue)
{
        struct queue *q = &p->queues[queue];
        bool kick;

        /* Once it is in the queue the item may be run, and with the last session the pool may go: it waits for us. */
        atomic_fetch_add(&p->pushing, 1);
        item->next = NULL;
        lock_pool(p);
        if (q->last)
                q->last->next = item;
        else
                q->first = item;
        q->last = item;
        q->n++;
        p->pushed++;
        kick = p->idle > 0 && (queue == POOL_FRESH || p->low_running < p->low_max);
        unlock_pool(p);
        if (kick)                                       /* without the lock, which is the first thing that the other one wants */
                p->ops->kick(p->ctx);
        atomic_fetch_sub(&p->pushing, 1);
}

bool pool_is_busy(struct pool *p)
{
        bool busy;

        lock_pool(p);
        busy = p->idle == 0;
        unlock_pool(p);
        return busy;
}

void pool_stats(struct pool *p, uint64_t *workers_r, uint64_t *busy_r, uint64_t *queued_r, uint64_t *pushed_r)
{
        lock_pool(p);
        if (workers_r)
                *workers_r = p->workers;
        if (busy_r)
                *busy_r = p->workers - p->idle;
        if (queued_r)
                *queued_r = p->queues[POOL_FRESH].n + p->queues[POOL_AGAIN].n + p->queues[POOL_NEWS].n;
        if (pushed_r)
                *pushed_r = p->pushed;
        unlock_pool(p);
}
