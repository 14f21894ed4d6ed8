/*
 * timers - a wheel of deadlines on the monotonic clock, for tens of thousands of sessions that nearly never time out.
 * Deadlines are lazy: moving one further away is a store to an atomic, no lock and no list; the wheel looks at the timer when
 * the old time comes and puts it where it belongs now. Only a deadline that comes closer takes the lock.
 */
#ifndef SERVER_TIMERS_H
#define SERVER_TIMERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "server/lock_order.h"

#define TIMER_TICK_MS 32u                       /* a timer fires up to one tick late, never early */
#define TIMER_BUCKETS 4096u                     /* times further than this many ticks (131 s) are looked at in between */

struct timer {
        struct timer *prev, *next;              /* in a bucket; guarded by timers_class */
        _Atomic uint64_t armed;                 /* the tick when the wheel looks at it next; TIMER_UNARMED: in no bucket */
        _Atomic uint64_t deadline;              /* clock_mono_ms(); 0: none */
};
#define TIMER_UNARMED UINT64_MAX

struct timers;
/* `kick` is called, from any thread, when a timer was put in front of what timers_wait_ms() last said. */
struct timers *timers_create(uint64_t now_ms, void (*kick)(void *ctx), void *ctx);
void timers_destroy(struct timers **t);         /* its timers must have been cancelled */

void timer_init(struct timer *timer);
/* Any thread. 0: no deadline; the timer may stay in the wheel until it is next looked at. */
void timer_set(struct timers *t, struct timer *timer, uint64_t deadline_ms) EXCLUDES(timers_class);
/* Out of the wheel for good: `timer` may be freed or used anew after this. */
void timer_cancel(struct timers *t, struct timer *timer) EXCLUDES(timers_class);

/* The one thread that runs the wheel: call fn for each timer whose deadline has come (its deadline is 0 then). fn may set timers;
 * it runs with no lock held, so the timer must not be freed but by the caller of timer_cancel() and a check of its own. */
void timers_run(struct timers *t, uint64_t now_ms, void (*fn)(void *ctx, struct timer *timer), void *ctx) EXCLUDES(timers_class);
/* How long that thread may sleep: milliseconds, at_most_ms when that is sooner than any timer (-1: for ever). It has to keep to that: until
 * then only a timer that is sooner still makes a kick. */
int timers_wait_ms(struct timers *t, uint64_t now_ms, int at_most_ms) EXCLUDES(timers_class);

#endif
