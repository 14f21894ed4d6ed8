/*
 * logstore - what all mailbox logs of a store share: the table of open mailboxes, sync threads, the cold cache, background
 * checkpoints and compaction, and the change feed's source. Made by store_open(); its functions are for store.c and status.
 */
#ifndef STORE_LOGSTORE_H
#define STORE_LOGSTORE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/lock_order.h"
#include "util/err.h"

struct store;
struct logstore;

struct logstore_options {
        unsigned sync_threads;                  /* 0: work is done when the caller asks (tools) – waiters still work: the sync is done
                                                 * in the calling thread */
        bool sync_all;                          /* `store_sync: all`: flag changes wait for their sync too */
        uint64_t blob_threshold;                /* octets; 0: 64 KiB */
        bool readonly;                          /* nothing is written: no recovery, no checkpoints; changes are ERR_READONLY */
        unsigned cold_mailboxes_max;            /* kept mapped though nobody has them open; 0: 1,000 */
        bool journal_all;                       /* every sync goes by the journal, not only those that others share: tests */
        size_t journal_bytes;                   /* store/journal.h: of a lap; 0: the default */
        size_t segment_bytes;                   /* a mailbox's log goes on in a new segment after so many; 0: the default */
};
int logstore_create(struct store *store, const struct logstore_options *options, struct logstore **ls_r, struct err *err);
/* Sync, checkpoint, close all, end the journals. Every reference must be gone. */
void logstore_destroy(struct logstore **ls) EXCLUDES(open_class);

#define LOGSTORE_SYNC_BUCKETS 12
extern const uint32_t logstore_sync_bucket_us[LOGSTORE_SYNC_BUCKETS];   /* upper bounds in microseconds, rising; the last is 0: none */

struct logstore_stats {
        uint64_t open_mailboxes, cold_mailboxes, commits, syncs, sync_us_total, bytes_appended, checkpoints, compactions;
        uint64_t journal_groups, journal_shared;        /* syncs by a journal, and the mailboxes that they were for */
        uint64_t messages_added, messages_expunged;
        uint64_t sync_buckets[LOGSTORE_SYNC_BUCKETS];   /* a mailbox's syncs by what they took, each in one bucket */
};
void logstore_stats(struct logstore *ls, struct logstore_stats *stats_r);

#endif
