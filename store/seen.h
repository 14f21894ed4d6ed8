/*
 * seen - whose \Seen is it? The owner's is the message's own flag, in the mailbox's log. Everybody else's, and everybody's in a mailbox
 * without an owner, is kept for each user and mailbox as a set of UIDs, in seen.db – unless the mailbox's option MBOX_SHARED_SEEN says
 * that all use the message's flag.
 *
 * A `struct seen` is one user's \Seen in one mailbox: one object in the process, counted, shared by all sessions of that user. It is
 * changed by mailbox_store_flags() (struct flag_change, `seen`): written to seen.db before its waiter is done, on disk within half a
 * second (`store_sync: all`: before). The message gets a new modseq as for any change of flags, as Cyrus does it, so that what this
 * user's clients synchronise by modseq is right; mailbox_news_modseq() tells other users' sessions that it is none of their business.
 *
 * Any thread may call; what reads or writes the database says so.
 */
#ifndef STORE_SEEN_H
#define STORE_SEEN_H

#include <stdbool.h>
#include <stdint.h>

#include "store/mailbox.h"
#include "store/uidset.h"
#include "store/view.h"
#include "util/err.h"

struct seen;
struct store;

/* The object, with a reference. The first opening reads the database (one look-up, cached). A user who has seen nothing has an empty set. */
int seen_open(struct store *store, const char *uniqueid, const char *userid, struct seen **seen_r, struct err *err);
struct seen *seen_ref(struct seen *seen);
void seen_unref(struct seen **seen);

bool seen_has(struct seen *seen, uint32_t uid);
/* Put this user's \Seen into the flags of messages as copied out of the mailbox; those with uid 0 are left alone. */
void seen_overlay(struct seen *seen, struct msg *msgs, uint32_t n);
/* How many of the view's messages this user has not seen, and the lowest UID of them (0: none). O(ranges). */
uint32_t seen_count_unseen(struct seen *seen, struct view *view, uint32_t *first_uid_r);
/* Which of `uids` are seen; `out` is initialised before, what it held is replaced. */
void seen_among(struct seen *seen, const struct uidset *uids, struct uidset *out);

/* What csync calls SEEN: the whole of it. */
struct seen_state {
        struct uidset uids;                     /* the caller's to end */
        uint32_t lastuid;                       /* the highest UID there was when it was last changed */
        int64_t lastread, lastchange;           /* Unix seconds */
};
void seen_get(struct seen *seen, struct seen_state *state_r);
/* Replace all of it (replication, import): written when it returns. Blocks. Sessions that have the mailbox selected are not told. */
int seen_set(struct seen *seen, const struct seen_state *state, struct err *err);

/* The user has selected the mailbox: it is remembered (`lastread`), to the hour, by a job. */
#define SEEN_TOUCH_S 3600
void seen_touch(struct seen *seen);

/* All mailboxes in which a user has a seen state, or all users of a mailbox: fn for each, until it returns false. Reads the database. */
int seen_each_mailbox(struct store *store, const char *userid, bool (*fn)(void *ctx, const char *uniqueid), void *ctx, struct err *err);
int seen_each_user(struct store *store, const char *uniqueid, bool (*fn)(void *ctx, const char *userid), void *ctx, struct err *err);
/* When did this user last read there? Unix seconds; 0: never. May read a row of the database. */
int seen_last_read(struct store *store, const char *uniqueid, const char *userid, int64_t *lastread_r, struct err *err);
/* Forget what this user has seen there, durably; not while he has the mailbox selected: *gone_r says. Blocks. */
int seen_forget(struct store *store, const char *uniqueid, const char *userid, bool *gone_r, struct err *err);

#endif
