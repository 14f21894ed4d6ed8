/*
 * quota - limits on what mailboxes hold together (RFC 9208).
 *
 * A quota root is a mailbox name with limits. A mailbox belongs to the nearest root at or above its name: that is a function of the
 * names alone, nothing about it is kept with the mailbox. Roots stand in quotas.db and in memory. A root's usage is the sum over its
 * mailboxes of what their indexes count (messages that are not expunged, and their octets; octets of annotations' values); it is kept in memory, where what is about
 * to be written is reserved before it is written and given back when writing fails, and saved now and then. After an unclean stop,
 * and when roots come, go or change places, a root is *unsure* until quota_settle() has added it up again.
 *
 * Any thread may call anything; functions marked "blocks" open mailboxes or wait for syncs: job threads and tools only.
 */
#ifndef STORE_QUOTA_H
#define STORE_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

#include "store/lock_order.h"
#include "util/arena.h"
#include "util/err.h"
#include "util/str.h"

struct store;
struct mailbox;
struct quota_root;

enum quota_resource { QUOTA_STORAGE, QUOTA_MESSAGE, QUOTA_ANNOTATION, QUOTA_MAILBOX, QUOTA_RESOURCES };       /* Cyrus's order */

#define QUOTA_UNLIMITED (-1)
#define QUOTA_LIMIT_MAX (INT64_MAX / 2048)      /* the largest limit, in the resource's units */

/* "STORAGE", "MESSAGE", "MAILBOX", "ANNOTATION-STORAGE" (RFC 9208 5); and Cyrus's older names: X-NUM-FOLDERS, X-ANNOTATION-STORAGE. */
const char *quota_resource_name(enum quota_resource resource);
const char *quota_resource_cyrus_name(enum quota_resource resource);
/* Either form, in any case. -1: there is none of that name. */
int quota_resource_find(struct span name);
/* Octets or pieces in one unit of a limit: 1024 for the two kinds of storage, 1 for the others. */
int64_t quota_unit(enum quota_resource resource);

struct quota_info {
        int64_t limit[QUOTA_RESOURCES];         /* in units; QUOTA_UNLIMITED */
        int64_t used[QUOTA_RESOURCES];          /* octets, or pieces */
        uint64_t modseq;
        bool unsure;                            /* quota_settle() has to be called before `used` can be relied on */
};
/* Used, in whole units (as Cyrus rounds them; RFC 9208 5.1 leaves it open). */
int64_t quota_used_units(const struct quota_info *info, enum quota_resource resource);

/* The root that a mailbox of this name belongs (or would belong) to, appended. false: none. */
bool quota_root_of(struct store *store, const char *name, struct str *root_r) EXCLUDES(quota_class);
/* false: there is no such root. info_r may be NULL. */
bool quota_get(struct store *store, const char *root, struct quota_info *info_r) EXCLUDES(quota_class);
/* The names of all roots that are `prefix` or below it ("": all), in order, in the arena. Returns how many. */
size_t quota_list(struct store *store, const char *prefix, struct arena *arena, const char ***roots_r) EXCLUDES(quota_class);

/* Is there no room for so much more in a mailbox of this name? ERR_QUOTA says which resource; with amounts of 0: is it full already?
 * For early refusals; what counts is the reservation when it is written. */
int quota_check(struct store *store, const char *name, int64_t octets, int64_t messages, struct err *err) EXCLUDES(quota_class);

/* ---- changing: blocks ---- */

/* Make or change a root, durably. Only resources with `which[r]` are changed. A new root takes over the mailboxes at and below it that
 * have no nearer one; without `force` there must be one (ERR_NOTFOUND). ERR_READONLY, ERR_IO. */
int quota_set(struct store *store, const char *root, const int64_t limit[QUOTA_RESOURCES], const bool which[QUOTA_RESOURCES],
              bool force, struct err *err) EXCLUDES(names_class);
/* All limits, and the modseq, as given (replication); the root is made whether or not there is a mailbox. */
int quota_set_exactly(struct store *store, const char *root, const int64_t limit[QUOTA_RESOURCES], uint64_t modseq, struct err *err)
        EXCLUDES(names_class);
/* Remove a root: its mailboxes go to the next one above. ERR_NOTFOUND. */
int quota_remove(struct store *store, const char *root, struct err *err) EXCLUDES(names_class);
/* Add up an unsure root; nothing when it is sure. ERR_NOTFOUND: no such root. */
int quota_settle(struct store *store, const char *root, struct err *err) EXCLUDES(names_class);
/* Add up a root whatever it says, and tell what it was and what it is now (quota -f). Roots without any mailbox are removed:
 * *removed_r. `dry`: only tell. */
int quota_fix(struct store *store, const char *root, bool dry, struct quota_info *before_r, struct quota_info *after_r, bool *removed_r,
              struct err *err) EXCLUDES(names_class);

/* ---- for the modules of the store that change what is counted; the mailbox's lock is held (quota is a leaf below it) ---- */

/*
 * Reserve so much more in a mailbox before it is written; with `enforce` ERR_QUOTA, and nothing reserved, when there is no room.
 * After the write, whether it succeeded or not, quota_report() makes the reservation what became of it.
 */
int quota_take(struct mailbox *mbox, int64_t octets, int64_t messages, bool enforce, struct err *err) EXCLUDES(quota_class);
/* The same for one resource: annotations that are about to be written (QUOTA_ANNOTATION, octets). */
int quota_use(struct mailbox *mbox, enum quota_resource resource, int64_t amount, bool enforce, struct err *err)
        EXCLUDES(quota_class);
/* What the mailbox holds has changed, or may have: its root learns the difference. */
void quota_report(struct mailbox *mbox) EXCLUDES(quota_class);

/* A move within one root: so much will be in two mailboxes for a moment. Returns the root to hand back to quota_moved(), or NULL. */
struct quota_root *quota_moving(struct mailbox *from, struct mailbox *to, int64_t octets, int64_t messages) EXCLUDES(quota_class);
void quota_moved(struct store *store, struct quota_root *r, int64_t octets, int64_t messages) EXCLUDES(quota_class);

#endif
