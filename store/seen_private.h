/* seen_private - the inside of a seen state, for seen.c and mailbox_flags.c; and what deletes and renames call. Nobody else includes it. */
#ifndef STORE_SEEN_PRIVATE_H
#define STORE_SEEN_PRIVATE_H

#include <stdatomic.h>

#include "store/db.h"
#include "store/seen.h"
#include "util/lock.h"

struct seens;

struct seen {
        struct seens *seens;
        char *uniqueid, *userid;
        uint64_t reader;                        /* mailbox_reader_id() of the user */
        atomic_uint refs;                       /* from 1 to 0 only with the table's lock */
        struct mutex saving;                    /* one writer to the database at a time; taken before `lock` */
        struct mutex lock;                      /* a leaf: taken with a mailbox's lock held */
        bool loaded, gone;                      /* gone: its mailbox or user is; nothing is written any more */
        struct uidset uids;
        uint32_t lastuid;
        int64_t lastread, lastchange;
        struct uidset dirty;                    /* chunks (+ 1) that are not yet written */
        bool dirty_meta;
        uint64_t changes, saved;                /* changes are counted; up to `saved` they are written, or lost … */
        uint64_t lost_from, lost_to;            /* … these, when writing failed last */
};

/* seen->lock, when there is a seen (NULL: nothing): clang's analysis cannot follow that. */
static inline void seen_hold(struct seen *seen) NO_TSA
{
        if (seen)
                mutex_lock(&seen->lock);
}
static inline void seen_release(struct seen *seen) NO_TSA
{
        if (seen)
                mutex_unlock(&seen->lock);
}
/* Held: a change; returns its number. `lastuid` is the mailbox's highest. */
uint64_t seen_change_locked(struct seen *seen, const struct uidset *add, const struct uidset *remove, uint32_t lastuid, int64_t now);
/* See to it that this change is written. Blocks; called from jobs. When it fails, memory is what the database has. */
int seen_save(struct seen *seen, uint64_t change, bool sync, struct err *err) EXCLUDES(seen->lock);

/* ---- store_open(), changes of names ---- */

int seens_create(struct store *store, struct seens **seens_r);
void seens_destroy(struct seens **seens);
/* Within a transaction: the rows of a mailbox that is deleted for good; of a user, who is now called `to` (NULL: nobody any more). */
int seens_forget_mailbox(struct store *store, struct db_txn *txn, const char *uniqueid, struct err *err);
int seens_rename_user(struct store *store, struct db_txn *txn, const char *from, const char *to, struct err *err);
/*
 * What users have seen of `uids` in mailbox `from`, they have seen of as many messages from first_uid on, in the same order, in `to`: written
 * durably when it returns. Whoever owns a mailbox has no state there; `from_seen`: what the owner of `from` has seen. Can be done again: a
 * user whose state in `to` was changed when these messages were there already is left alone. Blocks.
 */
struct seen_move {
        const char *from, *to;                  /* unique ids */
        const char *from_owner, *to_owner;      /* user ids; NULL: nobody */
        const struct uidset *uids, *from_seen;
        uint32_t first_uid;
};
int seens_move(struct store *store, const struct seen_move *move, struct err *err);
/* After that: what is in memory of them is out of date (NULL: of any). */
void seens_forget(struct store *store, const char *uniqueid, const char *userid);

#endif
