#include <criterion/criterion.h>
#include <time.h>

#include "util/array.h"
#include "util/clock.h"

Test(clock, days_and_dates_both_ways_as_gmtime_has_them)
{
        for (int64_t day = -800000; day < 3000000; day += 331) {
                time_t t = (time_t)(day * 86400);
                struct tm tm;
                int64_t year;
                unsigned month, mday;

                cr_assert_not_null(gmtime_r(&t, &tm));
                clock_civil_from_days(day, &year, &month, &mday);
                cr_assert_eq(year, tm.tm_year + 1900, "day %lld", (long long)day);
                cr_assert_eq(month, (unsigned)tm.tm_mon + 1, "day %lld", (long long)day);
                cr_assert_eq(mday, (unsigned)tm.tm_mday, "day %lld", (long long)day);
                cr_assert_eq(clock_days_from_civil(year, month, mday), day);
        }
}

Test(clock, dates_in_the_protocols_forms)
{
        static const struct { int64_t t; const char *rfc5322, *imap; } cases[] = {
                { 0, "Thu, 01 Jan 1970 00:00:00 +0000", "\" 1-Jan-1970 00:00:00 +0000\"" },
                { -1, "Wed, 31 Dec 1969 23:59:59 +0000", "\"31-Dec-1969 23:59:59 +0000\"" },
                { 951782400, "Tue, 29 Feb 2000 00:00:00 +0000", "\"29-Feb-2000 00:00:00 +0000\"" },
                { 1795318522, "Sun, 22 Nov 2026 03:35:22 +0000", "\"22-Nov-2026 03:35:22 +0000\"" },
                { 253402300799, "Fri, 31 Dec 9999 23:59:59 +0000", "\"31-Dec-9999 23:59:59 +0000\"" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char buf[64], imap[CLOCK_IMAP_DATE_LEN + 1];

                clock_format_rfc5322(buf, sizeof buf, cases[i].t);
                cr_expect_str_eq(buf, cases[i].rfc5322);
                clock_format_imap(imap, cases[i].t);
                cr_expect_str_eq(imap, cases[i].imap);
        }
}

Test(clock, an_imap_date_always_has_its_length)
{
        static const int64_t times[] = { INT64_MIN, INT64_MAX, -62135596801, 253402300800, 0 };

        for (size_t i = 0; i < ARRAY_LEN(times); i++) {
                char imap[CLOCK_IMAP_DATE_LEN + 1];

                clock_format_imap(imap, times[i]);
                cr_expect_eq(strlen(imap), CLOCK_IMAP_DATE_LEN, "%s", imap);
        }
}

static int64_t frozen(void)
{
        return 1234567890;
}

Test(clock, the_wall_clock_can_be_injected_and_restored)
{
        clock_inject_wall(frozen);
        cr_expect_eq(clock_wall_s(), 1234567890);
        clock_inject_wall(NULL);
        cr_expect_gt(clock_wall_s(), 1600000000);
}

Test(clock, the_monotonic_clock_goes_on)
{
        uint64_t a = clock_mono_us(), ms = clock_mono_ms(), b;
        struct timespec nap = { 0, 5000000 };

        nanosleep(&nap, NULL);
        b = clock_mono_us();
        cr_expect_geq(b - a, 5000);
        cr_expect_geq(clock_mono_ms(), ms + 4);
}

Test(clock, a_log_stamp_looks_like_one)
{
        char buf[40], shape[40];

        clock_format_log(buf, sizeof buf);
        for (size_t i = 0; i <= strlen(buf); i++)
                shape[i] = buf[i] >= '0' && buf[i] <= '9' ? '9' : buf[i];
        cr_expect_str_eq(shape, "9999-99-99T99:99:99.999Z");
}
