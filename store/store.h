/*
 * store - everything on disk: configuration directory, partitions, database environment, open mailboxes, sync threads.
 * One per process; every other module of store/ is reached from it. store_open() takes the store's lock file: two processes
 * never have one store open.
 *
 * In the configuration directory:
 *   cyrd.lock     locked while a process has the store open
 *   cyrd.store    what makes the directory ours: version, the store's id, names of its partitions
 *   cyrd.state    the epoch, and whether the store is running or was stopped cleanly
 *   db/           Berkeley DB's environment: mailboxes.db, subscriptions.db, log.*
 *   db.backup/    dumps of the tables, as text; from them they come back when they cannot be recovered
 * In each partition: cyrd.partition (the store's id), quarantine./, and the mailboxes.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/conf.h"
#include "util/err.h"

struct store;
struct namespace;
struct mboxlist;
struct db_env;
struct logstore;
struct sort_cache;
struct mailbox;
struct annot_users;
struct quotas;
struct change;

struct store_options {
        struct conf *conf;                      /* a reference is taken */
        bool readonly;                          /* tools that only look: no recovery is written, no epoch is begun */
        bool no_threads;                        /* no background work: tools and tests that call maintenance themselves */
        bool small_databases;                   /* struct db_env_options: tests */
        bool small_files;                    /* journals and segments of few KiB, and every sync of a mailbox goes by a journal: tests */
};

/*
 * Lock, recover, load the mailbox list. Creates what is missing in an empty configdirectory and partitions.
 * ERR_FOREIGN: a real Cyrus's mailboxes.db, cyrus.header … are there; nothing was touched (text names the path and points to
 * migration). ERR_BUSY: another process has it. ERR_CONFIG, ERR_IO, ERR_CORRUPT.
 */
int store_open(const struct store_options *options, struct store **store_r, struct err *err);
/* Publish and sync what is pending, checkpoint dirty mailboxes, mark the stop clean, release everything. */
void store_close(struct store **store);
/* Take over changed options (HUP). */
void store_reconfigure(struct store *store, struct conf *conf);

struct conf *store_conf(struct store *store);                           /* borrowed, of now; valid while the store is open */
struct namespace *store_namespace(struct store *store);                 /* the same: the names' rules of that configuration */
struct mboxlist *store_mboxlist(struct store *store);
struct db_env *store_db(struct store *store);
struct logstore *store_logstore(struct store *store);                   /* store/logstore.h: the open mailboxes and sync threads */
struct sort_cache *store_sort_cache(struct store *store);               /* store/sort_cache.h */
struct quotas *store_quotas(struct store *store);                       /* store/quota.h */
struct annot_users *store_annot_users(struct store *store);             /* store/annot_user.h; NULL: no databases */
void store_mailbox_loaded(struct mailbox *mbox);                        /* it is about to be in use: it is bound to its quota root */
/* Counts unclean stops: a mailbox whose last record is of an older epoch jumps its modseq (blueprint 3, the tail). */
uint32_t store_epoch(struct store *store);
/* The absolute directory of a partition, NULL when there is none of that name. Pointer lives as long as the store. */
const char *store_partition_dir(struct store *store, const char *partition);
/* Its name as it is configured: they are found in any case. NULL as above. */
const char *store_partition_name(struct store *store, const char *partition);
/* The directory of the partition where this mailbox is, by the list of mailboxes, now; NULL: it lists none that has such a partition. */
const char *store_mailbox_partition_dir(struct store *store, const char *uniqueid);
/* Publish this change of a mailbox (change.h), with its entry where somebody wants it. Not under any lock. */
void store_mailbox_changed(struct store *store, struct change *change);
/* What it is called there, now; NULL: it has none such. For free(). */
char *store_mailbox_name(struct store *store, const char *uniqueid);
enum expunge_mode { EXPUNGE_DELAYED, EXPUNGE_SEMIDELAYED, EXPUNGE_IMMEDIATE };
enum expunge_mode store_expunge_mode(struct store *store);              /* as configured now: see mailbox_expunged() */
/* Where a new mailbox goes when nobody says: `defaultpartition`, else the one with the most free space that takes changes. */
const char *store_default_partition(struct store *store);
const char *store_configdir(struct store *store);
/* The last stop was not a clean one. */
bool store_was_unclean(struct store *store);
/* Checkpoint the databases and write their dumps (ctl_cyrusdb -c, housekeeping). Blocks. */
int store_db_checkpoint(struct store *store, struct err *err);
/* The database takes no changes any more (see store/db.h); *why_r is for the operator. */
bool store_db_failed(struct store *store, const char **why_r);

/* A partition whose sync failed takes no more changes until the next start. */
void store_partition_fail(struct store *store, const char *partition_dir, const struct err *why);
bool store_partition_failed(struct store *store, const char *partition_dir);
/* Changes of this mailbox that were acknowledged could not be brought back at the start (store/journal.h): it is to be left alone until the next.
 * 0, or -1: ERR_IO, for the operator. */
int store_mailbox_is_whole(struct store *store, const char *partition_dir, const char *uniqueid, struct err *err);
/* A mailbox takes no changes any more: what it had shown and not synced is gone from the disk. The stop will be an unclean one, so that the
 * next start jumps over the modseqs that were seen. No locks taken. */
void store_mailbox_failed(struct store *store);
/*
 * The fence: with it nobody changes this store but replication (a thread with CHANGE_REPLICATED, change.h) and what is no client's change – purging,
 * compaction, what is recent. A host that is a replica has it, and one that was replaced as the master. `why` is for clients ("this is a replica
 * of mail1: changes are made there"), copied; NULL takes it away. Changes that have been begun go on. Any thread; open sessions feel it at once.
 */
void store_fence(struct store *store, const char *why);
bool store_is_fenced(struct store *store);
/* 0, or -1 with ERR_FENCED and that text. Every change of a client's asks. No locks taken while there is no fence. */
int store_may_change(struct store *store, struct err *err);
/* For status: calls fn for each partition; `why` is "" when there is nothing to say of it. */
void store_each_partition(struct store *store,
                          void (*fn)(void *ctx, const char *name, const char *dir, bool readonly, const char *why), void *ctx);

#endif
