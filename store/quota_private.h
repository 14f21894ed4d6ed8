/*
 * quota_private - what the quota_*.c files share: quota.c (roots in memory, reading, reserving), quota_db.c (rows, setting),
 * quota_settle.c (adding up), quota_names.c (what a change of names means). Nobody else includes it, but for the functions that
 * store.c, logstore.c and the mailbox list call.
 *
 * The books. Each mailbox in memory remembers what it has contributed to which root (struct quota_part in struct mailbox); the
 * contributions of closed ones are in the root they belong to by name. A root's `used` is the sum of all. Who changes the root of a
 * mailbox holds it open meanwhile, so that it is rebound, or marks the roots unsure.
 */
#ifndef STORE_QUOTA_PRIVATE_H
#define STORE_QUOTA_PRIVATE_H

#include <stdatomic.h>

#include "store/mailbox_private.h"
#include "store/mboxlist_private.h"
#include "store/quota.h"
#include "store/store_private.h"
#include "util/hash.h"

struct quota_root {                             /* never freed while the store is open; all under the lock of struct quotas */
        char *name;                             /* former ones are kept in quotas.old_names: changed by renaming only */
        int64_t limit[QUOTA_RESOURCES];         /* units */
        int64_t used[QUOTA_RESOURCES];          /* octets, pieces; [QUOTA_MAILBOX] is counted from the mailbox list */
        int64_t moving[QUOTA_RESOURCES];        /* of `used`: messages that are in two mailboxes of this root until their move is over */
        uint64_t modseq;
        bool gone;                              /* removed: nothing is counted any more */
        bool unsure, dirty;                     /* to be added up; not as in the table */
        unsigned changing;                      /* changes of names under way that concern it */
        uint64_t generation;                    /* … that are over */
        uint64_t round;                         /* the last adding up that was concluded: a mailbox bound to this root that was not counted in
                                                 * it is not one of the root's, and its contribution is not in `used` */
        uint64_t adding;                        /* the one under way */
        struct table *counted;                  /* while it is being added up: unique ids of the mailboxes in `sum`; else NULL */
        int64_t sum[QUOTA_RESOURCES];
};

struct quotas {
        struct store *store;
        struct mutex lock;                      /* quota_class */
        struct mutex setting;                   /* one change of roots, or adding up, at a time; taken before everything but names */
        struct table *roots;                    /* name → struct quota_root */
        ARRAY(struct quota_root *) all;         /* with those that are gone */
        ARRAY(char *) old_names;
        atomic_uint count;                      /* of roots that are not gone: 0 costs nobody anything */
        uint64_t rounds;                        /* addings up so far */
        atomic_uint_fast64_t generation;        /* the set of roots or their names changed */
        atomic_bool settling_all;               /* a job is at it */
        atomic_bool closing;                    /* the store is: what is not added up stays unsure */
};

static inline void quota_lock(struct quotas *q) ACQUIRE(q->lock, quota_class);
static inline void quota_lock(struct quotas *q) NO_TSA
{
        mutex_lock(&q->lock);
}
static inline void quota_unlock(struct quotas *q) RELEASE(q->lock, quota_class);
static inline void quota_unlock(struct quotas *q) NO_TSA
{
        mutex_unlock(&q->lock);
}

/* ---- quota.c ---- */

/* The nearest root at or above a name, NULL none. Names at or below `from` count as gone, those at or below `to` as what they are below
 * `from` (both NULL: as it is): how it will be after a rename. */
struct quota_root *quota_resolve_locked(struct quotas *q, const char *name, const char *from, const char *to)
        REQUIRES(q->lock, quota_class);
/* A new root in memory, with nothing in it. */
struct quota_root *quota_add_locked(struct quotas *q, const char *name) REQUIRES(q->lock, quota_class);
void quota_drop_locked(struct quotas *q, struct quota_root *r) REQUIRES(q->lock, quota_class);
/* The mailbox belongs to this root (NULL: none) from now on: its contribution goes along. m's lock is held as well. */
void quota_rebind_locked(struct quotas *q, struct mailbox *m, struct quota_root *r) REQUIRES(q->lock, quota_class);
/* It has to be added up again (NULL: nothing). Lock held. */
void quota_doubt(struct quota_root *r);
void quota_copy_out(const struct quota_root *r, struct quota_info *info);   /* lock held */
/* Would `more` go beyond the limit? With `full`, and more 0: is the limit reached? The lock is held. */
bool quota_over(const struct quota_root *r, enum quota_resource resource, int64_t more, bool full);
int quota_refuse(struct err *err, const struct quota_root *r, enum quota_resource resource);     /* ERR_QUOTA, always -1 */
/* What the index counts, pending changes included. Lock held. */
void quota_totals(struct mailbox *m, int64_t totals[QUOTA_RESOURCES]);

/* ---- quota_db.c ---- */

int quotas_open(struct store *store, struct quotas **quotas_r, struct err *err);
/* Save usages that changed. Blocks, but for no sync unless `sync`. */
int quotas_save(struct store *store, bool sync, struct err *err);
void quotas_destroy(struct quotas **quotas);
/* Put or (limit NULL in the root: gone) delete rows within somebody's transaction. */
int quota_write_row(struct store *store, struct db_txn *txn, const char *name, const struct quota_root *r, struct err *err);

/* ---- quota_settle.c ---- */

/* Add up all that are unsure, on a job thread (without threads: not now). */
void quotas_settle_later(struct store *store);
/* One root; the `setting` lock is held. */
int quota_settle_root(struct quotas *q, struct quota_root *r, struct err *err) EXCLUDES(quota_class);

/* ---- for store.c: quota_names.c ---- */

/* A mailbox that was just loaded, not yet in use by anybody: its contribution is in its root's usage already. */
void quota_bind(struct mailbox *m) EXCLUDES(quota_class);
/* ---- for the mailbox list: quota_names.c ---- */

struct quota_move {
        struct quota_root *from, *to;           /* either may be NULL, not both */
        struct mailbox *mbox;                   /* held open over the change; NULL: made just now, or could not be opened */
        char *uniqueid;
        const char *name, *former;              /* borrowed from the changes; NULL: it goes; it is a new one */
};
struct quota_names {                            /* what one change of names means; all zero to start with */
        ARRAY(struct quota_move) moves;
        ARRAY(struct quota_root *) renamed, removed;
        const char *from, *to;                  /* borrowed: roots at and below `from` are renamed; NULL: none are */
        bool unsure;                            /* too many to hold open: the roots are added up afterwards */
        uint64_t generation;                    /* of the set of roots when `from` and `to` were found */
        bool setting;                           /* the lock of that name is held: roots are renamed or removed */
};
/* Before the transaction: ERR_QUOTA when something does not fit into its new root. */
int quota_names_prepare(struct mboxlist *ml, struct name_changes *changes, struct quota_names *qn, struct err *err)
        REQUIRES(names_class) EXCLUDES(quota_class);
/* In it: rows of roots that are renamed or removed. */
int quota_names_write(struct mboxlist *ml, struct db_txn *txn, struct quota_names *qn, struct err *err);
/* After it (done), or when it failed. */
void quota_names_finish(struct mboxlist *ml, struct quota_names *qn, bool done) REQUIRES(names_class) EXCLUDES(quota_class);

#endif
