/*
 * mboxlist_private - what the mboxlist_*.c files share. Nobody else includes it, store.c for opening apart.
 *
 * Two kinds of locks. *Stripes* (names_class): one mutex for each of 32 groups of names; who changes names holds those of all trees
 * concerned, in order of their numbers, over reading, the database transaction and showing. A stripe covers a user with all that is
 * his, or everything below one shared top-level name, so parents and children are always in the same. Users in different stripes
 * commit side by side and share the sync of Berkeley DB's log. *Shards* (mboxlist_class): see mboxlist_mem.c.
 */
#ifndef STORE_MBOXLIST_PRIVATE_H
#define STORE_MBOXLIST_PRIVATE_H

#include <stdatomic.h>

#include "store/db.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "util/array.h"

/* ---- mboxlist_mem.c ---- */

#define MEM_SHARDS 24                           /* a change may hold two locks of each: the thread sanitizer knows 64 at a time */

struct mem_leaf;
struct mem_shard {
        struct mutex writing;                   /* whoever changes the shard; taken before `lock` */
        struct rwlock lock;                     /* covers what follows */
        ARRAY(struct mem_leaf *) leaves;        /* in order, none empty */
};

struct mem {
        struct mem_shard shards[MEM_SHARDS];
        struct rwlock ids_lock;                 /* taken after the shards' */
        struct table *ids;                      /* unique id → const struct mbentry *, a reference each */
        atomic_uint_fast64_t count;
};

struct mem_change {
        const char *name;                       /* each name at most once in a list of changes */
        const struct mbentry *entry;            /* what it is from now on (a reference is taken); NULL: gone */
};

void mem_init(struct mem *mem);
void mem_deinit(struct mem *mem);
const struct mbentry *mem_find(struct mem *mem, const char *name) EXCLUDES(mboxlist_class);
const struct mbentry *mem_find_id(struct mem *mem, const char *uniqueid) EXCLUDES(mboxlist_class);
bool mem_has_children(struct mem *mem, const char *name) EXCLUDES(mboxlist_class);
unsigned mem_next(struct mem *mem, const char *prefix, const char *after, const struct mbentry **entries_r, unsigned n)
        EXCLUDES(mboxlist_class);
/* Show all changes at once: each call of the reading functions sees all of them or none. By id, they are seen a moment later. */
void mem_apply(struct mem *mem, const struct mem_change *changes, size_t n) EXCLUDES(mboxlist_class);

/* ---- mboxlist_db.c ---- */

/* A counted copy of what `like` points to (its pointers NULL: as empty). */
const struct mbentry *mbentry_create(const struct mbentry *like);
void mbentry_format(const struct mbentry *e, struct str *out);
int mbentry_parse(struct span name, struct span record, const struct mbentry **entry_r, struct err *err);

/* One changed name, to be written in one transaction with others. */
struct name_change {
        const char *name;
        const struct mbentry *entry;            /* NULL: gone */
        const struct mbentry *tombstone;        /* with entry NULL: what is remembered of it, or NULL */
        const char *former;                     /* renamed from, or NULL: for the change feed */
};
/* A directory that no entry names, or soon none will: see mboxlist_removal.c. Borrowed from the arena of the changes. */
struct removal {
        const char *uniqueid, *partition;
        bool settled;                           /* the entry is there now: forget it */
        bool moved;                             /* the mailbox goes on, in another partition */
};
struct name_changes {
        ARRAY(struct name_change) list;
        ARRAY(const struct mbentry *) made;     /* whose directories are new; borrowed from `list` */
        ARRAY(struct removal) removals;
        struct arena arena;                     /* names */
        int (*also)(struct db_txn *txn, void *ctx, struct err *err);    /* more of the same transaction, may be NULL */
        void *also_ctx;
        bool ignore_quota;                      /* counted, but not refused */
        const char *roots_from, *roots_to;      /* quota roots at and below the one are renamed to the other; NULL: none are */
};

struct mboxlist {
        struct store *store;
        struct db *db;                          /* NULL: readonly without a table yet */
        struct mem mem;
        struct mutex stripes[32];
        struct mutex moving;                    /* whoever moves mailboxes to another partition; taken before the stripes */
        unsigned move_together;                 /* so many of them in one transaction */
        atomic_bool is_moving;                  /* changed with all stripes of the mailboxes that are moved */
        atomic_uint_fast64_t modseq;            /* of the newest change of any folder */
        atomic_uint_fast32_t last_uidvalidity;  /* of any mailbox of this store, living or remembered */
};

/* Load everything. Unreadable records are logged and counted in *damaged_r; ERR_CORRUPT only when nothing can be read. */
int mboxlist_open(struct store *store, struct db *db, struct mboxlist **ml_r, uint64_t *damaged_r, struct err *err);
void mboxlist_close(struct mboxlist **ml);
#define DB_RESTORED_KEY SPAN("!restored")       /* in a table that came back from a dump (store_db.c) */
/* If the list is one, mailboxes may have been moved to other partitions since: they are listed where they are. Before anything is opened, or
 * removed. (mboxlist_move.c) */
int mboxlist_after_restore(struct mboxlist *ml, struct err *err) EXCLUDES(names_class);
/* The partition of that name has the newest directory of this mailbox; NULL: none has one. */
const char *mboxlist_newest_place(struct mboxlist *ml, const struct mbentry *e);
/* List it there. */
int mboxlist_set_partition(struct mboxlist *ml, const struct mbentry *e, const char *partition, struct err *err) REQUIRES(names_class);
/* Commit the changes, then show them, then publish. */
int mboxlist_commit(struct mboxlist *ml, struct name_changes *changes, struct err *err) REQUIRES(names_class);
/* What is remembered of a name that is not there (its uidvalidity), 0: nothing. -1 with err. */
int mboxlist_remembered(struct mboxlist *ml, const char *name, uint32_t *uidvalidity_r, struct err *err);
/* The tombstone of a name that is not there: 1 with a reference, 0, -1. All of them, until fn returns false; entries are borrowed. */
int mboxlist_tombstone(struct mboxlist *ml, const char *name, const struct mbentry **e_r, struct err *err);
int mboxlist_each_tombstone(struct mboxlist *ml, bool (*fn)(void *ctx, const struct mbentry *e), void *ctx, struct err *err);
void mboxlist_new_uniqueid(char id[25]);
/* Later ones will be above this one. */
void mboxlist_note_uidvalidity(struct mboxlist *ml, uint32_t v);

/* ---- mboxlist_removal.c ---- */

void changes_removal(struct name_changes *changes, const struct mbentry *e, bool settled);
/* The rows of a transaction. */
int removals_write(struct store *store, struct db_txn *txn, const struct name_changes *changes, struct err *err);
/* A directory is about to be made for an entry that is not committed yet. Not synced: it goes to the disk with the next commit. */
int removal_announce(struct mboxlist *ml, const struct mbentry *e, struct err *err);
/* The entry is in another partition from now on. */
void changes_moved(struct name_changes *changes, const struct mbentry *from, const struct mbentry *to);
/* These mailboxes (their unique ids) will get directories in this partition, or did not, or have none any more. The former is synced. */
int removals_announce(struct mboxlist *ml, const char *const *uniqueids, size_t n, const char *partition, struct err *err);
int removals_forget(struct mboxlist *ml, const char *const *uniqueids, size_t n, const char *partition, struct err *err);
/* May this mailbox's directory in this partition be one that is on its way? */
bool removal_pending(struct mboxlist *ml, const char *uniqueid, const char *partition);
/* Forget what is done; with `remove` (at start, when nobody has anything open) do what is not. What mailboxes left that were moved goes as
 * soon as nobody reads it. */
int mboxlist_settle_removals(struct mboxlist *ml, bool remove, struct err *err) EXCLUDES(names_class);

/* ---- mboxlist_ops.c ---- */

/* The stripes of two names (b may be NULL). */
void names_lock(struct mboxlist *ml, const char *a, const char *b) ACQUIRE(names_class);
void names_unlock(struct mboxlist *ml, const char *a, const char *b) RELEASE(names_class);
void names_lock_all(struct mboxlist *ml) ACQUIRE(names_class);
void names_unlock_all(struct mboxlist *ml) RELEASE(names_class);

/* ---- mboxlist_change.c ---- */

void changes_init(struct name_changes *changes);
void changes_deinit(struct name_changes *changes);
/* The reference to `entry` is handed over. */
void changes_set(struct name_changes *changes, const char *name, const struct mbentry *entry, const char *former);
/* The name goes: what is there now becomes an intermediate when it keeps children, else a tombstone (children_go: its
 * children are removed by the same transaction). With `prune`, intermediates above that have nothing else below them go too, unless
 * they are or hold `keep`. */
void changes_remove(struct mboxlist *ml, struct name_changes *changes, const struct mbentry *e, bool children_go, bool prune,
                    const char *keep);
/* What is remembered of a name that is not there. The reference is handed over. */
void changes_tombstone(struct name_changes *changes, const struct mbentry *tombstone);
uint64_t names_next_modseq(struct mboxlist *ml);
/* Intermediates for the missing parents of a new name. */
void changes_add_parents(struct mboxlist *ml, struct name_changes *changes, const char *name);
/* Mailboxes in place of missing or intermediate parents (never an INBOX), their files made and synced. After an error, or when the commit fails, the
 * caller calls changes_undo_files(). */
int changes_make_parents(struct mboxlist *ml, struct name_changes *changes, const char *name, const char *partition, struct err *err)
        REQUIRES(names_class);
/* Files that these changes made for entries that are not committed and never will be go. */
void changes_undo_files(struct mboxlist *ml, const struct name_changes *changes);
/* Everything at and below a name, references in a fresh array; the caller ends them with entries_free(). */
struct entries { ARRAY(const struct mbentry *) list; };
void entries_collect(struct mboxlist *ml, const char *name, bool with_children, struct entries *out);
void entries_free(struct entries *entries);
/* Does the store, with this partition (NULL: any), take changes? */
int names_writable(struct mboxlist *ml, const char *partition, struct err *err);

#endif
