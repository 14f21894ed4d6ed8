/*
 * mboxlist - the mailbox list: which mailboxes exist, what they are called, whose they are.
 * Every entry is in memory (ordered, sharded; readers never touch the disk) and in mailboxes.db (Berkeley DB, one transaction a
 * change, committed first, then shown). Entries are immutable and counted: hold a reference as long as you like.
 * Functions marked "blocks" wait for disk syncs: job threads and tools only (a session offloads them).
 */
#ifndef STORE_MBOXLIST_H
#define STORE_MBOXLIST_H

#include <stdbool.h>
#include <stdint.h>

#include "store/lock_order.h"
#include "store/mailbox.h"
#include "util/arena.h"
#include "util/err.h"
#include "util/str.h"

struct store;
struct mboxlist;

enum mbtype {                                   /* as on disk */
        MBTYPE_NORMAL = 0,
        MBTYPE_INTERMEDIATE = 1,                /* a name with children but no mailbox */
        MBTYPE_DELETED = 2,                     /* tombstone: keeps uidvalidity and modseq of a name that is gone */
        MBTYPE_REMOTE = 3, MBTYPE_RESERVED = 4, MBTYPE_MOVING = 5       /* murder */
};

struct mbentry {
        char *name;                             /* internal */
        char *uniqueid;                         /* 24 characters; "" for intermediates and tombstones without one */
        enum mbtype type;
        char *partition;                        /* name of the partition; remote: as told */
        char *server;                           /* NULL: here */
        char *acl;                              /* store/acl.h */
        char *specialuse;                       /* space-separated attributes ("\\Sent"), "" none */
        char *quotaroot;                        /* NULL none */
        uint32_t uidvalidity;
        uint64_t createdmodseq, foldermodseq;
        int64_t changed;                        /* Unix seconds */
};
void mbentry_unref(const struct mbentry **e);
const struct mbentry *mbentry_ref(const struct mbentry *e);
/* What mailbox_open() wants. Pointers are borrowed from the entry and the store. ERR_NOTFOUND: not a local, real mailbox. */
int mbentry_ident(struct store *store, const struct mbentry *e, struct mailbox_ident *ident_r, struct err *err);

/* ---- reading: from any thread, never blocks on the disk ---- */

/* The entry of a name, NULL when there is none. Tombstones are not found; intermediates are. */
const struct mbentry *mboxlist_find(struct mboxlist *ml, const char *name) EXCLUDES(mboxlist_class);
/* The nearest one above a name, past intermediates; NULL: none. Names on the way are made in the arena. */
const struct mbentry *mboxlist_find_above(struct mboxlist *ml, const char *name, struct arena *arena) EXCLUDES(mboxlist_class);
const struct mbentry *mboxlist_find_uniqueid(struct mboxlist *ml, const char *uniqueid) EXCLUDES(mboxlist_class);
bool mboxlist_has_children(struct mboxlist *ml, const char *name) EXCLUDES(mboxlist_class);
uint64_t mboxlist_count(struct mboxlist *ml);

/*
 * Iterate in order of internal name: entries with name > `after` ("" from the start) that are `prefix` itself or below it (prefix
 * "" : all). Fills at most n references; returns how many. The caller goes on from the last name: no lock is held between calls, so
 * a LIST of 100,000 names can be cut in slices while the list changes.
 */
unsigned mboxlist_next(struct mboxlist *ml, const char *prefix, const char *after, const struct mbentry **entries_r, unsigned n)
        EXCLUDES(mboxlist_class);

/* ---- changing: blocks ---- */

struct mbox_create {
        const char *name;                       /* internal, checked by mailname_check_new() */
        const char *partition;                  /* NULL: that of the nearest mailbox above, else the default */
        const char *acl;                        /* NULL: from the parent; owner's default for a new INBOX; `defaultacl` else */
        const char *specialuse;                 /* NULL none */
        const char *uniqueid;                   /* NULL: made here (replication gives one) */
        uint32_t uidvalidity;                   /* 0: max(now, last of that name + 1) */
        uint64_t createdmodseq, foldermodseq;   /* 0: made here (replication gives them) */
        bool ignore_quota;                      /* counted, but not refused */
        bool deleted;                           /* the name may be below deletedprefix: what is read back from a dump */
        bool with_parents;                      /* missing names above, INBOX apart, become mailboxes, as with Cyrus (RFC 9051 6.3.4) */
};
/* One transaction. Without `with_parents` missing parents become intermediates. ERR_EXISTS, ERR_BADNAME, ERR_IO, ERR_READONLY. */
int mboxlist_create(struct mboxlist *ml, const struct mbox_create *what, const struct mbentry **entry_r, struct err *err)
        EXCLUDES(names_class);
/*
 * Delete one mailbox (children stay; the name becomes an intermediate if it has any). With delete_mode delayed it is renamed below
 * deletedprefix. ERR_NOTFOUND. What is deleted for good has its files removed when nobody has it open any more.
 */
int mboxlist_delete(struct mboxlist *ml, const char *name, bool immediately, struct err *err) EXCLUDES(names_class);
/* As delayed deletion would call it now, and nothing is called; in the arena. */
const char *mboxlist_deleted_name(struct mboxlist *ml, const char *name, struct arena *arena);
/* A whole tree or user, in one transaction. */
int mboxlist_delete_tree(struct mboxlist *ml, const char *name, bool immediately, struct err *err) EXCLUDES(names_class);
/*
 * Rename a mailbox and (with_children) all below it, in one transaction. Unique ids, UIDs and uidvalidity stay. `partition` NULL, or
 * where they are: not both at once (ERR_UNSUPPORTED; mboxlist_move()). ERR_EXISTS, ERR_NOTFOUND, ERR_BADNAME. INBOX is special and the caller's business (RFC 9051 6.3.6: move the
 * messages to a new mailbox).
 */
int mboxlist_rename(struct mboxlist *ml, const char *from, const char *to, bool with_children, const char *partition,
                    struct err *err) EXCLUDES(names_class);
/* What a client asks for: with all below it, and missing names above the new one become mailboxes (RFC 9051 6.3.6). */
int mboxlist_rename_tree(struct mboxlist *ml, const char *from, const char *to, const char *partition, struct err *err)
        EXCLUDES(names_class);
/*
 * To another partition, while they are used: nobody sees anything of it. Up to 1,000 mailboxes at a time go together, in one transaction;
 * after an error or a stop those that went are there, and the rest is where it was. Takes as long as copying does; mailboxes that arrive in
 * the tree meanwhile go along. ERR_EXISTS: all of it is there. ERR_NOTFOUND, ERR_NOSPACE, ERR_IO, ERR_READONLY, ERR_BUSY: stopped.
 */
struct mboxlist_move {
        const char *name;                       /* internal; with children "user" is all users */
        bool with_children;
        const char *partition;
        const char *from;                       /* only those in this partition; NULL: all */
        bool (*stopped)(void *ctx);             /* asked now and then, by the thread that calls; NULL: never */
        void (*moved)(void *ctx, const struct mbentry *from, const char *to, uint64_t octets);  /* one is there; NULL: not told */
        void *ctx;
};
int mboxlist_move(struct mboxlist *ml, const struct mboxlist_move *what, struct err *err) EXCLUDES(names_class);
/* The owner keeps implicit_owner_rights whatever is asked for: they stay in the list, where others see them. */
int mboxlist_set_acl(struct mboxlist *ml, const char *name, const char *identifier, int acl_mode, uint32_t rights, struct err *err)
        EXCLUDES(names_class);
int mboxlist_set_specialuse(struct mboxlist *ml, const char *name, const char *specialuse, struct err *err) EXCLUDES(names_class);

/* Orphans, dangling entries, duplicates: report, and with `repair` quarantine directories that no entry names. */
int mboxlist_check(struct mboxlist *ml, bool repair, void (*problem)(void *ctx, const char *text), void *ctx, struct err *err)
        EXCLUDES(names_class);

#endif
