/*
 * clock - monotonic time for timers, wall time for dates. Tests may inject the wall clock.
 */
#ifndef UTIL_CLOCK_H
#define UTIL_CLOCK_H

#include <stddef.h>
#include <stdint.h>

uint64_t clock_mono_ms(void);                   /* CLOCK_MONOTONIC, milliseconds */
uint64_t clock_mono_us(void);
int64_t clock_wall_s(void);                     /* Unix time, seconds; the injected one if there is one */

/* Replace the wall clock by a function (tests), NULL: the real one again. */
void clock_inject_wall(int64_t (*now_s)(void));

void clock_format_log(char *buf, size_t size);          /* "2026-11-22T03:35:22.123Z" */

/* RFC 5322 3.3 date-time in UTC: "Sun, 22 Nov 2026 03:35:22 +0000" */
void clock_format_rfc5322(char *buf, size_t size, int64_t unix_s);

/* IMAP date-time (RFC 9051 9) in UTC, with the quotes: "\"22-Nov-2026 03:35:22 +0000\"", always 28 octets */
#define CLOCK_IMAP_DATE_LEN 28
void clock_format_imap(char buf[CLOCK_IMAP_DATE_LEN + 1], int64_t unix_s);

/* Days since 1970-01-01 of a proleptic Gregorian date; month 1..12. No check of ranges. */
int64_t clock_days_from_civil(int64_t year, unsigned month, unsigned day);
void clock_civil_from_days(int64_t days, int64_t *year_r, unsigned *month_r, unsigned *day_r);

#endif
