/*
 * journal - one sync for many mailboxes of a partition.
 *
 * A mailbox's log is a file of its own, and so is its sync. When several logs have something to sync at the same time, what each of them
 * has not yet on the disk (a few KiB, in the page cache) is written once more, one after the other, to the partition's journal, and that
 * is synced: once for all. The logs' own files are synced later, many changes at a time, before the journal's space is used again
 * ("retiring"). After a stop that was no clean one, journal_recover() writes what the journal has to the logs' files, before
 * anything else reads them: from there on there is no difference.
 *
 * Files, in the partition's directory: `cyrd.journal.0` and `cyrd.journal.1`, laps that take turns; made when they are first needed, if there is room
 * on the file system. Layout in journal_private.h. `cyrd.journal.left.N`: see journal_recover().
 *
 * One thread at a time makes groups (journal_begin() to journal_commit()) and calls journal_turn(); journal_retire() may run beside it.
 * What syncs blocks: not with a lock.
 */
#ifndef STORE_JOURNAL_H
#define STORE_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/err.h"

#define JOURNAL_LAP_BYTES (16u << 20)           /* of each of the two */
#define JOURNAL_GROUP_MAX 64                    /* logs in a group */
#define JOURNAL_TAIL_MAX (64u << 10)            /* octets of one log in a group: more is synced in its own file */

struct journal;

/* For the partition in `dir`; nothing is opened or made before it is used. lap_bytes 0: JOURNAL_LAP_BYTES. */
struct journal *journal_create(const char *dir, size_t lap_bytes);
/* What is not retired stays on the disk for the next start's journal_recover(). */
void journal_destroy(struct journal **j);

/* A piece of a log: octets [offset, offset + len) of a segment. */
struct journal_piece {
        const char *uniqueid;                   /* the mailbox's */
        uint64_t segment;
        uint32_t segment_crc;                   /* struct mlog_segment_info: tells it from another one of that name */
        uint64_t offset;
        uint32_t len;                           /* at most JOURNAL_TAIL_MAX */
        const char *path;                       /* the segment's; until journal_commit() */
        uint64_t *lap;                          /* kept with the segment for the journal, 0 at first: the lap that knows of it */
};
void journal_begin(struct journal *j);
/* Returns where the caller puts the piece's `len` octets, valid until the next call; NULL: the group is full. */
void *journal_add(struct journal *j, const struct journal_piece *piece);
/* Takes the piece that was added last out again. */
void journal_drop(struct journal *j);
/*
 * Returns 0: all pieces of the group are on the disk, by one fdatasync; 1: nothing was done, they have to be synced in their own files (no
 * space, no descriptors, or the former lap is not yet retired); -1 with err: a sync failed, the partition may take no more changes.
 */
int journal_commit(struct journal *j, struct err *err);

/* Can it be used, as far as is known? Any thread. */
bool journal_is_usable(const struct journal *j);
/* Its files: are they there? Any thread. Make them, as journal_commit() does where nobody did before; returns what that does. Not beside a group. */
bool journal_is_open(const struct journal *j);
int journal_open(struct journal *j, struct err *err);
/* Is there a lap to retire? Any thread. */
bool journal_is_due(const struct journal *j);
/* Begin the other lap, when that is free and this one was begun `age_ms` ago: for logs that rest. Does not block. */
void journal_turn(struct journal *j, uint64_t age_ms);
/* Sync the files of all logs that the lap which is due has pieces of; then it is free. One thread at a time. -1: a sync failed, as above. */
int journal_retire(struct journal *j, struct err *err);
/* The last act: all is synced in the logs' own files, the journal is empty. -1: a sync failed; the journal stays. */
int journal_finish(struct journal *j, struct err *err);

/*
 * Write to the logs' files what the journal of the partition in `dir` has of them, and sync these files. Before anything else reads them.
 * Logs that are no longer there are passed over. Does nothing, and is no error, when there is no journal.
 *
 * One log that cannot be opened, read, written or synced does not keep the others from use: `left` gets its mailbox's unique id and the reason,
 * a string for free(), and what the journal has is kept until a later start succeeds. Until then that mailbox must not be read or written:
 * its log ends before what was acknowledged.
 *
 * A group that is not whole although others follow is passed over with a warning, and its file is put away: `cyrd.journal.N.damaged`.
 *
 * Returns 0; 1 with err: a sync failed, the partition may take no changes; -1: what the journal has is not known (ERR_IO), the partition must not
 * be used at all.
 */
struct table;
int journal_recover(const char *dir, struct table *left, struct err *err);

#endif
