/* The timer wheel: nothing fires early, nothing is forgotten, whatever is done to deadlines. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "server/timers.h"

static unsigned fired, kicks;
static struct timer *last;
static uint64_t now;

static void on_due(void *ctx, struct timer *timer)
{
        (void)ctx;
        fired++;
        last = timer;
}

static void on_kick(void *ctx)
{
        (void)ctx;
        kicks++;
}

static void advance(struct timers *t, uint64_t to)
{
        while (now < to) {
                now += 7;
                timers_run(t, now, on_due, NULL);
        }
}

static struct timers *setup(void)
{
        now = 1000000;
        fired = kicks = 0;
        return timers_create(now, on_kick, NULL);
}

Test(timers, fires_once_and_at_most_a_tick_late)
{
        static const uint64_t waits[] = { 1, 31, 32, 33, 100, 5000, 131072, 131073, 400000, 3600000 };
        struct timers *t = setup();

        for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
                struct timer timer;
                uint64_t due = now + waits[i];

                timer_init(&timer);
                fired = 0;
                timer_set(t, &timer, due);
                advance(t, due - 1);
                if (now < due)
                        cr_expect_eq(fired, 0, "%llu ms: early", (unsigned long long)waits[i]);
                advance(t, due + TIMER_TICK_MS + 7);
                cr_expect_eq(fired, 1, "%llu ms: %u times", (unsigned long long)waits[i], fired);
                advance(t, due + 1000);
                cr_expect_eq(fired, 1);
                timer_cancel(t, &timer);
        }
        timers_destroy(&t);
}

Test(timers, a_deadline_may_move_both_ways)
{
        struct timers *t = setup();
        struct timer timer;
        uint64_t start = now;

        timer_init(&timer);
        timer_set(t, &timer, start + 1000);
        timer_set(t, &timer, start + 5000);             /* lazily: stays where it is until looked at */
        advance(t, start + 4990);
        cr_expect_eq(fired, 0);
        timer_set(t, &timer, start + 90000);
        advance(t, start + 20000);
        cr_expect_eq(fired, 0);
        timer_set(t, &timer, now + 100);                /* nearer: taken at once */
        advance(t, now + 200);
        cr_expect_eq(fired, 1);
        timer_set(t, &timer, now + 100);
        timer_set(t, &timer, 0);
        advance(t, now + 1000);
        cr_expect_eq(fired, 1);
        timer_cancel(t, &timer);
        timers_destroy(&t);
}

Test(timers, a_sleep_longer_than_the_wheel_loses_nothing)
{
        struct timers *t = setup();
        struct timer timers[50];

        for (int i = 0; i < 50; i++) {
                timer_init(&timers[i]);
                timer_set(t, &timers[i], now + 10000u * (unsigned)(i + 1));
        }
        now += 10000u * 51;                             /* the process was stopped for more than a turn */
        timers_run(t, now, on_due, NULL);
        advance(t, now + 1000);
        cr_expect_eq(fired, 50);
        for (int i = 0; i < 50; i++)
                timer_cancel(t, &timers[i]);
        timers_destroy(&t);
}

Test(timers, wait_is_until_the_next_one_and_a_nearer_one_kicks)
{
        struct timers *t = setup();
        struct timer far, near;
        int wait;

        timer_init(&far);
        timer_init(&near);
        cr_expect_eq(timers_wait_ms(t, now, -1), -1);
        timer_set(t, &far, now + 60000);
        cr_expect_eq(kicks, 1);
        wait = timers_wait_ms(t, now, -1);
        cr_expect(wait > 59000 && wait <= 60000 + (int)TIMER_TICK_MS, "%d", wait);
        timer_set(t, &far, now + 70000);                /* later: no kick */
        cr_expect_eq(kicks, 1);
        timer_set(t, &near, now + 500);
        cr_expect_eq(kicks, 2);
        wait = timers_wait_ms(t, now, -1);
        cr_expect(wait >= 500 - (int)TIMER_TICK_MS && wait <= 500 + (int)TIMER_TICK_MS, "%d", wait);
        advance(t, now + 600);
        cr_expect_eq(fired, 1);
        cr_expect_eq(last, &near);
        timer_cancel(t, &far);
        cr_expect_eq(timers_wait_ms(t, now, 10000), 10000);
        timer_set(t, &far, now + 20000);                /* it comes round before that anyway */
        cr_expect_eq(kicks, 2);
        timer_set(t, &near, now + 9000);
        cr_expect_eq(kicks, 3);
        wait = timers_wait_ms(t, now, 10000);
        cr_expect(wait >= 9000 - (int)TIMER_TICK_MS && wait <= 9000 + (int)TIMER_TICK_MS, "%d", wait);
        timer_cancel(t, &far);
        timer_cancel(t, &near);
        cr_expect_eq(timers_wait_ms(t, now, -1), -1);
        timers_destroy(&t);
}

Test(timers, random_deadlines_all_come_in_time)
{
        struct timers *t = setup();
        struct timer timers[500];
        uint64_t due[500];
        unsigned seed = 5, early = 0;

        for (int i = 0; i < 500; i++) {
                timer_init(&timers[i]);
                due[i] = now + 1 + (unsigned)rand_r(&seed) % 300000;
                timer_set(t, &timers[i], due[i]);
        }
        for (int round = 0; round < 2000; round++) {
                int i = rand_r(&seed) % 500;

                now += (unsigned)rand_r(&seed) % 200;
                timers_run(t, now, on_due, NULL);
                if (atomic_load(&timers[i].deadline) == 0) {
                        early += due[i] > now;
                        due[i] = now + 1 + (unsigned)rand_r(&seed) % 300000;
                        timer_set(t, &timers[i], due[i]);
                }
        }
        cr_expect_eq(early, 0);
        for (int i = 0; i < 500; i++)
                cr_expect(due[i] + TIMER_TICK_MS > now || atomic_load(&timers[i].deadline) == 0, "timer %d was forgotten", i);
        for (int i = 0; i < 500; i++)
                timer_cancel(t, &timers[i]);
        timers_destroy(&t);
}
