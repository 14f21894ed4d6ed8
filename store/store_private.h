/* store_private - the inside of struct store, for store*.c and the modules that store_open() makes. Nobody else includes it. */
#ifndef STORE_STORE_PRIVATE_H
#define STORE_STORE_PRIVATE_H

#include <stdatomic.h>

#include "store/db.h"
#include "store/logstore.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/sort_cache.h"
#include "store/store.h"
#include "store/urlkey.h"
#include "util/lock.h"

struct annot_users;
struct duplicates;
struct seens;
struct quotas;
struct subs;

/* A partition is never freed while the store is open; the list only grows (at HUP). */
struct store_partition {
        char *name, *dir;                       /* lower case; absolute */
        atomic_bool failed;
        char why[200];                          /* written once, before `failed` */
        struct table *left;                     /* journal_recover()'s: not to be used; NULL: none. Immutable */
        char left_why[80];                      /* the same for the operator, "": none. Immutable */
        struct store_partition *_Atomic next;
};

/* Configurations that were in force: kept until the store is closed, as borrowed pointers may still be in use. */
struct store_conf {
        struct conf *conf;
        struct namespace *ns;
        struct store_conf *former;
};

struct store {
        bool readonly, no_threads, small_databases, small_files;
        char *configdir;
        char id[25];
        int lock_fd;                            /* cyrd.lock, -1: not held */
        uint32_t epoch;
        bool unclean;                           /* the last stop was not a clean one */
        atomic_bool mailbox_failed;             /* the next one will not be */
        struct mutex lock;                      /* reconfiguring, failing a partition, the fence's reason */
        atomic_bool fenced;                     /* store_fence() */
        char *fence_why;                        /* lock; NULL: none yet */
        struct mutex dumping;                   /* one checkpoint with dumps at a time */
        struct store_conf *_Atomic conf;
        struct store_partition *_Atomic partitions;
        struct db_env *env;
        struct db *mailboxes_db, *subscriptions_db, *removals_db, *seen_db, *annotations_db, *urlkeys_db, *quotas_db;
        _Atomic uint32_t urlkey_resets[URLKEY_RESETS_N];        /* urlkey.c */
        uint64_t dumped_commits;                /* db_env_stats() at the last dump */
        struct mboxlist *ml;
        struct subs *subs;
        struct seens *seens;
        struct annot_users *annot_users;        /* annot_user.h */
        struct quotas *quotas;                  /* quota_private.h */
        struct duplicates *duplicates;          /* duplicate_private.h */
        struct logstore *ls;
        struct sort_cache *sort_cache;
};

/* ---- store_open.c ---- */

/* Refuse what is not ours; nothing is touched. */
int store_detect_foreign(const char *configdir, struct conf *conf, struct err *err);
/* Make or check the stamps of configuration directory and partitions. */
int store_stamp(struct store *store, struct err *err);
int store_stamp_partition(struct store *store, const struct store_partition *p, bool known, struct err *err);
/* With the store's lock, or before anybody else sees it. */
void store_mark_failed(struct store_partition *p, const struct err *why);
void store_free_partition(struct store_partition *p);
int store_add_partitions(struct store *store, struct conf *conf, struct err *err);
/* Read the state file and begin an epoch; mark the stop clean. */
int store_begin(struct store *store, struct err *err);
int store_mark_clean(struct store *store, struct err *err);
/* Open the environment and the tables, from the dumps when they cannot be recovered. */
int store_open_databases(struct store *store, struct err *err);
void store_close_databases(struct store *store);

/* ---- sub.c ---- */

int subs_create(struct store *store, struct subs **subs_r, struct err *err);
void subs_destroy(struct subs **subs);
/* Within the transaction of a user's rename or removal: all his subscriptions go to `to` (NULL: are forgotten). Names below his
 * own INBOX are changed as well. */
int subs_rename_user(struct store *store, struct db_txn *txn, const char *from, const char *to, struct err *err);
/* What is in memory of this user is out of date. */
void subs_forget(struct store *store, const char *userid);

#endif
