/* clock - see clock.h */
#include "util/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <time.h>

static _Atomic(int64_t (*)(void)) injected_wall;        /* tests only */

static const char month_names[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
static const char day_names[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };

uint64_t clock_mono_us(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_mono_ms(void)
{
        return clock_mono_us() / 1000;
}

int64_t clock_wall_s(void)
{
        int64_t (*fn)(void) = atomic_load(&injected_wall);
        struct timespec ts;

        if (fn)
                return fn();
        clock_gettime(CLOCK_REALTIME, &ts);
        return ts.tv_sec;
}

void clock_inject_wall(int64_t (*now_s)(void))
{
        atomic_store(&injected_wall, now_s);
}

/* The two conversions are Howard Hinnant's well-known era arithmetic: exact for all years that fit, no tables, no time zone
 * state, which is why gmtime() is not used. */
int64_t clock_days_from_civil(int64_t year, unsigned month, unsigned day)
{
        int64_t y = year - (month <= 2);
        int64_t era = (y >= 0 ? y : y - 399) / 400;
        unsigned yoe = (unsigned)(y - era * 400);
        unsigned doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
        unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

        return era * 146097 + (int64_t)doe - 719468;
}

void clock_civil_from_days(int64_t days, int64_t *year_r, unsigned *month_r, unsigned *day_r)
{
        int64_t z = days + 719468;
        int64_t era = (z >= 0 ? z : z - 146096) / 146097;
        unsigned doe = (unsigned)(z - era * 146097);
        unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
        unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        unsigned mp = (5 * doy + 2) / 153;

        *day_r = doy - (153 * mp + 2) / 5 + 1;
        *month_r = mp < 10 ? mp + 3 : mp - 9;
        *year_r = (int64_t)yoe + era * 400 + (*month_r <= 2);
}

struct broken_down {
        int64_t year;
        unsigned month, day, hour, minute, second, weekday;
};

static struct broken_down break_down(int64_t unix_s)
{
        struct broken_down b;
        int64_t days = unix_s / 86400, rest = unix_s % 86400;

        if (rest < 0) {
                rest += 86400;
                days--;
        }
        clock_civil_from_days(days, &b.year, &b.month, &b.day);
        b.hour = (unsigned)(rest / 3600);
        b.minute = (unsigned)(rest / 60 % 60);
        b.second = (unsigned)(rest % 60);
        b.weekday = (unsigned)(((days + 4) % 7 + 7) % 7);
        return b;
}

void clock_format_log(char *buf, size_t size)
{
        struct timespec ts;
        struct broken_down b;

        clock_gettime(CLOCK_REALTIME, &ts);
        b = break_down(ts.tv_sec);
        snprintf(buf, size, "%04d-%02u-%02uT%02u:%02u:%02u.%03uZ", (int)b.year, b.month, b.day, b.hour, b.minute, b.second,
                 (unsigned)(ts.tv_nsec / 1000000));
}

void clock_format_rfc5322(char *buf, size_t size, int64_t unix_s)
{
        struct broken_down b = break_down(unix_s);

        snprintf(buf, size, "%s, %02u %s %04d %02u:%02u:%02u +0000", day_names[b.weekday], b.day, month_names[b.month - 1],
                 (int)b.year, b.hour, b.minute, b.second);
}

void clock_format_imap(char buf[CLOCK_IMAP_DATE_LEN + 1], int64_t unix_s)
{
        struct broken_down b;
        int year;

        /* The grammar has four digits for the year: clamp what cannot be written. */
        if (unix_s < -62135596800)
                unix_s = -62135596800;                  /* 1 Jan 0001 */
        if (unix_s > 253402300799)
                unix_s = 253402300799;                  /* 31 Dec 9999 */
        b = break_down(unix_s);
        year = (int)b.year;
        snprintf(buf, CLOCK_IMAP_DATE_LEN + 1, "\"%2u-%s-%04d %02u:%02u:%02u +0000\"", b.day % 100, month_names[b.month - 1],
                 year % 10000, b.hour % 100, b.minute % 100, b.second % 100);
}
