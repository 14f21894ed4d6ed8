/*
 * progress - a line on the terminal that says how far long work is: a bar, how many of how many, how many a second, how long still. Only on
 * stderr, only when that is a terminal. One thread.
 */
#ifndef SERVER_CTL_PROGRESS_H
#define SERVER_CTL_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress_bar {
        bool on;
        bool stands;                            /* a line is on the terminal */
        uint64_t started_ms, shown_ms;          /* clock_mono_ms() */
        uint64_t first_ms, first_done;          /* of the first report: the rate counts from there */
        uint64_t done, total;
        char unit[24];                          /* "": nothing was reported yet */
};
void progress_init(struct progress_bar *p, bool on);
/* `done` of `total` (0: nobody knows). Called as often as one likes. */
void progress_report(struct progress_bar *p, uint64_t done, uint64_t total, const char *unit);
/* Time has passed without a report: what is shown shall not look dead. */
void progress_tick(struct progress_bar *p);
/* Before anything else is written to the terminal, and at the end. */
void progress_clear(struct progress_bar *p);

/* "[###…...] 300/1000 messages, 150/s, 0:05 left"; ms, and how many were done in them. */
void progress_format(char *buf, size_t size, const struct progress_bar *p, uint64_t now_ms);

#endif
