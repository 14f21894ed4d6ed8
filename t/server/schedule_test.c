/* Tests of server/schedule: events by the wall clock, whatever the clock does. */
#include "server/schedule.h"

#include <criterion/criterion.h>

#include "util/clock.h"

static int64_t wall_s;
static unsigned runs;

static int64_t wall(void)
{
        return wall_s;
}

static pid_t count(void *context, const struct master_entry *e, int fd3, struct err *err)
{
        (void)context;
        (void)e;
        (void)fd3;
        (void)err;
        runs++;
        return 0;                               /* done */
}

/* Midday UTC of a day; TZ is UTC. */
#define NOON 1795953600                         /* 29-Nov-2026 12:00 */
#define DAY 86400

static struct schedule *daily(struct masterconf **mc_r)
{
        struct diag diag;
        struct err err = ERR_INIT;
        struct schedule *s;

        setenv("TZ", "UTC0", 1);
        clock_inject_wall(wall);
        runs = 0;
        diag_init(&diag);
        cr_assert_eq(masterconf_parse("c", SPAN("EVENTS {\n  nightly cmd=\"x\" at=0400\n}\n"), mc_r, &diag, &err), 0, "%s", err.text);
        s = schedule_create(count, NULL);
        schedule_set(s, *mc_r);
        diag_deinit(&diag);
        return s;
}

static void end(struct schedule *s, struct masterconf *mc)
{
        schedule_destroy(&s);
        masterconf_destroy(&mc);
        clock_inject_wall(NULL);
}

Test(schedule, an_event_runs_once_a_day_at_its_time)
{
        struct masterconf *mc;
        struct schedule *s;

        wall_s = NOON;
        s = daily(&mc);
        schedule_run(s);
        cr_expect_eq(runs, 0);
        for (int day = 1; day <= 3; day++) {
                wall_s = NOON + day * DAY - 8 * 3600 - 1;
                schedule_run(s);
                cr_expect_eq(runs, (unsigned)day - 1);
                wall_s++;
                schedule_run(s);
                schedule_run(s);
                cr_expect_eq(runs, (unsigned)day);
        }
        end(s, mc);
}

Test(schedule, a_clock_that_jumps_ahead_runs_an_event_once_not_once_for_each_day)
{
        struct masterconf *mc;
        struct schedule *s;

        wall_s = NOON;
        s = daily(&mc);
        wall_s = NOON + 3650ll * DAY;
        schedule_run(s);
        schedule_run(s);
        cr_expect_eq(runs, 1);
        end(s, mc);
}

Test(schedule, a_clock_that_is_set_back_does_not_hold_an_event_up_until_it_is_there_again)
{
        struct masterconf *mc;
        struct schedule *s;

        wall_s = NOON + 3650ll * DAY;           /* wrong at boot */
        s = daily(&mc);
        wall_s = NOON;
        schedule_run(s);
        cr_expect_eq(runs, 0);
        wall_s = NOON + DAY - 8 * 3600;         /* the next four o'clock */
        schedule_run(s);
        cr_expect_eq(runs, 1);
        end(s, mc);
}
