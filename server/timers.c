/*
 * timers - see timers.h.
 * One level of 4,096 buckets of 32 ms. A deadline beyond the horizon goes into the furthest bucket and is put on again from there:
 * an idle session with a timeout of half an hour is touched 14 times.
 *
 * The race of a worker that sets a deadline with the wheel that looks at the timer: the worker stores the deadline, then reads
 * `armed`; the wheel stores `armed` = unarmed, then reads the deadline. All four are sequentially consistent, so at least one of
 * them sees what the other wrote: the worker finds it unarmed and takes the lock, or the wheel finds the new deadline.
 */
#include "server/timers.h"

#include <stdbool.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/must.h"

struct timers {
        struct mutex lock;
        struct timer *buckets[TIMER_BUCKETS];           /* guarded by lock, like all below */
        uint64_t bitmap[TIMER_BUCKETS / 64];            /* which buckets are not empty */
        uint64_t tick;                                  /* every bucket up to and with this tick has been looked at */
        uint64_t sleep_until;                           /* tick; UINT64_MAX: for ever */
        size_t count;
        void (*kick)(void *ctx);
        void *kick_ctx;
};

static void lock_timers(struct timers *t) ACQUIRE(t->lock, timers_class);
static void unlock_timers(struct timers *t) RELEASE(t->lock, timers_class);
static void lock_timers(struct timers *t) NO_TSA { mutex_lock(&t->lock); }
static void unlock_timers(struct timers *t) NO_TSA { mutex_unlock(&t->lock); }

struct timers *timers_create(uint64_t now_ms, void (*kick)(void *ctx), void *ctx)
{
        struct timers *t = xcalloc(1, sizeof *t);

        mutex_init(&t->lock);
        t->tick = now_ms / TIMER_TICK_MS;
        t->sleep_until = UINT64_MAX;
        t->kick = kick;
        t->kick_ctx = ctx;
        return t;
}

void timers_destroy(struct timers **tp)
{
        struct timers *t = *tp;

        *tp = NULL;
        if (!t)
                return;
        must(t->count == 0);
        mutex_deinit(&t->lock);
        free(t);
}

void timer_init(struct timer *timer)
{
        timer->prev = timer->next = NULL;
        atomic_init(&timer->armed, TIMER_UNARMED);
        atomic_init(&timer->deadline, 0);
}

static void unlink_locked(struct timers *t, struct timer *timer) REQUIRES(t->lock, timers_class)
{
        size_t b = atomic_load(&timer->armed) % TIMER_BUCKETS;

        if (timer->prev)
                timer->prev->next = timer->next;
        else
                t->buckets[b] = timer->next;
        if (timer->next)
                timer->next->prev = timer->prev;
        if (!t->buckets[b])
                t->bitmap[b / 64] &= ~(UINT64_C(1) << (b % 64));
        timer->prev = timer->next = NULL;
        atomic_store(&timer->armed, TIMER_UNARMED);
        t->count--;
}

/* Into the bucket of its deadline, rounded up so that nothing fires early, or of the horizon. */
static void link_locked(struct timers *t, struct timer *timer, uint64_t deadline_ms) REQUIRES(t->lock, timers_class)
{
        uint64_t tick = (deadline_ms + TIMER_TICK_MS - 1) / TIMER_TICK_MS;
        size_t b;

        if (tick <= t->tick)
                tick = t->tick + 1;
        if (tick > t->tick + TIMER_BUCKETS - 1)
                tick = t->tick + TIMER_BUCKETS - 1;
        b = tick % TIMER_BUCKETS;
        timer->prev = NULL;
        timer->next = t->buckets[b];
        if (timer->next)
                timer->next->prev = timer;
        t->buckets[b] = timer;
        t->bitmap[b / 64] |= UINT64_C(1) << (b % 64);
        atomic_store(&timer->armed, tick);
        t->count++;
}

void timer_set(struct timers *t, struct timer *timer, uint64_t deadline_ms)
{
        uint64_t armed, wanted = (deadline_ms + TIMER_TICK_MS - 1) / TIMER_TICK_MS;
        bool kick = false;

        atomic_store(&timer->deadline, deadline_ms);
        if (deadline_ms == 0)
                return;
        armed = atomic_load(&timer->armed);
        if (armed != TIMER_UNARMED && armed <= wanted)
                return;                                 /* the wheel will look at it in time, and find the new deadline */
        lock_timers(t);
        armed = atomic_load(&timer->armed);
        if (armed == TIMER_UNARMED || armed > wanted) {
                if (armed != TIMER_UNARMED)
                        unlink_locked(t, timer);
                link_locked(t, timer, deadline_ms);
                if (atomic_load(&timer->armed) < t->sleep_until) {
                        t->sleep_until = atomic_load(&timer->armed);
                        kick = true;
                }
        }
        unlock_timers(t);
        if (kick && t->kick)
                t->kick(t->kick_ctx);
}

void timer_cancel(struct timers *t, struct timer *timer)
{
        lock_timers(t);
        atomic_store(&timer->deadline, 0);
        if (atomic_load(&timer->armed) != TIMER_UNARMED)
                unlink_locked(t, timer);
        unlock_timers(t);
}

/* Look at every timer of one bucket. Those that are due are collected, at most `room`; returns how many. What does not fit stays. */
static size_t harvest_locked(struct timers *t, uint64_t tick, uint64_t now_ms, struct timer **due, size_t room)
        REQUIRES(t->lock, timers_class)
{
        struct timer *timer = t->buckets[tick % TIMER_BUCKETS];
        size_t n = 0;

        while (timer && n < room) {
                struct timer *next = timer->next;
                uint64_t deadline;

                must(atomic_load(&timer->armed) <= tick);        /* below it only after a sleep of a whole turn */
                unlink_locked(t, timer);                /* stores `armed` before the deadline is read: see above */
                deadline = atomic_load(&timer->deadline);
                if (deadline != 0 && deadline <= now_ms &&
                    atomic_compare_exchange_strong(&timer->deadline, &deadline, 0))
                        due[n++] = timer;
                else if ((deadline = atomic_load(&timer->deadline)) != 0)
                        link_locked(t, timer, deadline);
                timer = next;
        }
        return n;
}

void timers_run(struct timers *t, uint64_t now_ms, void (*fn)(void *ctx, struct timer *timer), void *ctx)
{
        struct timer *due[64];
        uint64_t now_tick = now_ms / TIMER_TICK_MS;

        lock_timers(t);
        t->sleep_until = 0;                             /* awake: nobody needs to kick */
        if (now_tick > t->tick + TIMER_BUCKETS)
                t->tick = now_tick - TIMER_BUCKETS;     /* slept through a whole turn (a stopped process): each bucket once */
        while (t->tick < now_tick) {
                /* The tick is taken first, so that what is put on again goes behind it. */
                uint64_t tick = t->tick + 1;
                size_t n;

                t->tick = tick;
                while (t->buckets[tick % TIMER_BUCKETS]) {      /* what is linked meanwhile goes into other buckets */
                        n = harvest_locked(t, tick, now_ms, due, 64);
                        unlock_timers(t);
                        for (size_t i = 0; i < n; i++)
                                fn(ctx, due[i]);
                        lock_timers(t);
                }
        }
        unlock_timers(t);
}

/* The tick of the first bucket after t->tick that is not empty; UINT64_MAX: none. */
static uint64_t next_tick_locked(struct timers *t) REQUIRES(t->lock, timers_class)
{
        if (t->count == 0)
                return UINT64_MAX;
        for (uint64_t tick = t->tick + 1; tick <= t->tick + TIMER_BUCKETS;) {
                size_t b = tick % TIMER_BUCKETS;
                uint64_t word = t->bitmap[b / 64] >> (b % 64);

                if (word)
                        return tick + (uint64_t)__builtin_ctzll(word);
                tick += 64 - b % 64;
        }
        return UINT64_MAX;
}

int timers_wait_ms(struct timers *t, uint64_t now_ms, int at_most_ms)
{
        uint64_t tick, at, anyway = at_most_ms < 0 ? UINT64_MAX : (now_ms + (uint64_t)at_most_ms) / TIMER_TICK_MS;

        lock_timers(t);
        tick = next_tick_locked(t);
        t->sleep_until = tick <= anyway || anyway == UINT64_MAX ? tick : anyway + 1;
        unlock_timers(t);
        if (tick > anyway || tick == UINT64_MAX)
                return at_most_ms;
        at = tick * TIMER_TICK_MS;
        return at <= now_ms ? 0 : (int)(at - now_ms);
}
