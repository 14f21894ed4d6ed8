/*
 * schedule - cyrus.conf's EVENTS and DAEMON: when what is due, and what is running. Used by the main thread only.
 * An event whose last run has not ended is left out, which is logged. A daemon that ends is started again, at once after a long
 * life, else after 1, 2, 4 … 300 seconds.
 */
#ifndef SERVER_SCHEDULE_H
#define SERVER_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/masterconf.h"
#include "util/err.h"

/*
 * Start what an entry says. Returns a process id; 0 when it was done, or begun, inside the daemon; -1 with err.
 *   fd3  becomes descriptor 3 of a process; -1: none
 */
typedef pid_t schedule_start_fn(void *context, const struct master_entry *e, int fd3, struct err *err);

struct schedule;

struct schedule *schedule_create(schedule_start_fn *start, void *context);
void schedule_destroy(struct schedule **s);

/* Take over the EVENTS and DAEMON of a reading (which must live until the next call). Entries that stay the same keep their times
 * and processes; daemons that vanished or changed get TERM. */
void schedule_set(struct schedule *s, const struct masterconf *mc);
/* Start the DAEMON entries with wait=yes one after the other, each until it says "ok\r\n". A failure is logged. Once, before
 * services listen. */
void schedule_start_waiting_daemons(struct schedule *s);
/* Run what is due. Returns when to call again (monotonic ms, at most an hour ahead). */
uint64_t schedule_run(struct schedule *s);
bool schedule_reap(struct schedule *s, pid_t pid, int status);
/* The end: TERM (or another signal) to daemons and running events; those with wait=yes are spared unless `last`. */
void schedule_stop(struct schedule *s, int sig, bool last);
unsigned schedule_processes(const struct schedule *s, bool last);

/* The Unix time of the next minute-of-day `at_min` after `now`, local time; for tests. */
int64_t schedule_next_at(int64_t now, int at_min);

#endif
