/*
 * change - the change feed: each published commit tells subscribers what changed. Watching sessions use mailbox_watch(); this is
 * for the few who want everything: replication log writer, MUPDATE announcer, search indexer, audit.
 */
#ifndef STORE_CHANGE_H
#define STORE_CHANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/lock_order.h"

struct store;
struct mbentry;

/* What was published in a mailbox: bits of struct change.what. */
enum { CHANGE_ARRIVED = 1, CHANGE_EXPUNGED = 2, CHANGE_FLAGS = 4, CHANGE_ANNOTATED = 8,        /* annotated: annotations of messages */
       CHANGE_QUIET = 16 };                     /* nothing a client sees: what is recent, POP3's last login */

/* Where a change comes from and who need not hear of it: bits of struct change.marks. */
enum {
        CHANGE_REPLICATED = 1,                  /* applied by replication: not for the replication log, unless sync_log_chain */
        CHANGE_LOCAL = 2,                       /* … with LOCAL_…: not for MUPDATE */
};

/* CHANGE_COPIED: just before the CHANGE_MAILBOX of what messages were copied or moved to; CHANGE_SIEVE: scripts of the user `name`. */
enum change_kind { CHANGE_MAILBOX, CHANGE_NAME, CHANGE_SUBSCRIPTION, CHANGE_QUOTA, CHANGE_SEEN, CHANGE_ANNOTATION, CHANGE_SIEVE, CHANGE_COPIED };

struct change {
        enum change_kind kind;
        const char *name;                       /* internal mailbox name or user */
        const char *other;                      /* rename: the former name; CHANGE_COPIED: the source; CHANGE_SUBSCRIPTION: the mailbox; else NULL */
        const char *uniqueid;
        const char *user;                       /* CHANGE_ANNOTATION: whose private one it is; NULL: everybody's. Its entry is `other`. */
        uint64_t modseq;
        unsigned marks;                         /* CHANGE_REPLICATED …; filled in by change_publish() with the thread's, too. Of a mailbox whose changes
                                                 * are told together: only when all of them have it */
        unsigned what;                          /* CHANGE_MAILBOX: CHANGE_ARRIVED …, 0: something else (its partition, its name) */
        /* CHANGE_NAME: borrowed for the call, NULL: there was, there is none. CHANGE_MAILBOX, CHANGE_ANNOTATION of a mailbox: `after` is its entry where
         * somebody wants it, NULL: not known. */
        const struct mbentry *before, *after;
        bool moved;                             /* CHANGE_NAME, gone: the change with this name as `other` tells where to */
        bool follows;                           /* CHANGE_NAME, renamed or moved: because a name above it was */
};

struct change_subscriber {
        void (*fn)(void *ctx, const struct change *change);     /* from the publishing thread: short, no store calls */
        void *ctx;
        struct change_subscriber *next;
};
void change_subscribe(struct store *store, struct change_subscriber *s) EXCLUDES(change_class);
void change_unsubscribe(struct store *store, struct change_subscriber *s) EXCLUDES(change_class);
/* What this thread publishes from now on is marked so, until it is set again; returns what it was. Commits of mailboxes, which other threads
 * publish, keep the marks of the thread that wrote them. */
unsigned change_mark(unsigned marks);
unsigned change_marks(void);                    /* those of this thread */
/* Entries of mailboxes that change are wanted, or not any more: counted. What looks them up for each commit else need not. */
void change_want_entries(struct store *store, bool wanted);
bool change_entries_wanted(struct store *store);
void change_publish(struct store *store, const struct change *change) EXCLUDES(change_class);

#endif
