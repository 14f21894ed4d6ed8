/*
 * sync_mode - synchronous replication: clients are told that a change is done when the replica has it on disk, too (sync_mode: synchronous,
 * for a channel <channel>_sync_mode). What sessions ask is server/acknowledge.h; this answers.
 *
 * What a session waits for: the change feed numbers changes as they are published (sync_log_position()). A session asks when its own have been, so
 * theirs have at most the number of then, its *position*. The log's thread tells up to which position a channel's file is written; a pass of the channel
 * takes the file and replicates what the lines name as it is by then, and when every item is done – the replica has said OK to each, which it does
 * when it is on its disk – the channel has *passed* what was written before it began. All sessions whose position is passed are woken together: one
 * pass for all that wait. A file that an earlier pass had left unfinished is done first, and nothing is passed by that.
 *
 * What could not be replicated is in quarantine (rolling.h), and is passed with the rest. A session whose mailbox that is, is answered at once:
 * told it is done, and counted (it is known, and logged, that the replica lags behind there); with sync_degrade_after: never it gets an error. What is
 * only put off, because somebody else is at it on the replica, is waited for.
 *
 * A channel that has not passed a session's position within sync_degrade_after is *degraded*: everybody is answered as without it, and it is said
 * in the log, status and metrics, until a pass begins and ends within half that time (a second at most) again. With `never` everybody waits.
 * Also degraded by that: a channel that does not run; changes that the log had to replace by RESYNC (sync_log_mark.gap), until all is compared.
 * Several synchronous channels: all of them have to have it. When the daemon stops, those who wait have a second more, then get an error.
 *
 * Any thread may call; nothing blocks.
 */
#ifndef REPLICATION_SYNC_MODE_H
#define REPLICATION_SYNC_MODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "replication/lock_order.h"
#include "replication/sync_log.h"
#include "util/conf.h"
#include "util/err.h"

/* Once, before threads start. */
void sync_mode_register(void);
/* The log is open: from now on sessions ask, if a channel is synchronous. ERR_IO: no thread. */
int sync_mode_open(struct sync_log *log, struct conf *conf, struct err *err) EXCLUDES(sync_mode_class);
void sync_mode_reconfigure(struct conf *conf) EXCLUDES(sync_mode_class);                /* HUP */
void sync_mode_stopping(void) EXCLUDES(sync_mode_class);                                /* sessions are about to be ended */
void sync_mode_close(void) EXCLUDES(sync_mode_class);                                   /* no sessions any more, or none that is told anything */

/* ---- for rolling replication ---- */

bool sync_mode_is_synchronous(const char *channel) EXCLUDES(sync_mode_class);           /* by configuration, degraded or not */

struct sync_mode_aside {                        /* an item of the quarantine */
        const char *item;                       /* a line of the log */
        bool put_off;
        bool closely;                           /* USER: not about what else of his is not in quarantine itself */
};
/*
 * A pass is over: of the changes up to `upto` the replica has all but those in `aside`, which is all of the quarantine. took_ms: since the pass
 * began, which was after these had been logged. Copied.
 */
void sync_mode_passed(const char *channel, uint64_t upto, uint64_t took_ms, const struct sync_mode_aside *aside, size_t n) EXCLUDES(sync_mode_class);

/* The role has changed (role.h): who waits may have an answer, which is an error when another host may be the master. */
void sync_mode_role_changed(void) EXCLUDES(sync_mode_class);

/* ---- for administrators ---- */

#define SYNC_MODE_BUCKETS 10                    /* of rolling_lag_bucket_ms */
struct sync_mode_status {
        bool synchronous;                       /* by configuration */
        bool degraded;
        uint64_t degraded_ms;                   /* for so long */
        uint64_t waiting, oldest_ms;            /* sessions now, and how long the first has waited */
        uint64_t degradations;                  /* how often it was degraded, so far */
        uint64_t replicated, without, refused;  /* sessions that were told: the replica has it; it is done here, though the replica has not got it; an error */
        uint64_t wait_counts[SYNC_MODE_BUCKETS], wait_us_total;         /* of `replicated`: how long they waited */
};
void sync_mode_status(const char *channel, struct sync_mode_status *status_r) EXCLUDES(sync_mode_class);

#endif
