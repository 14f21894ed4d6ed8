/*
 * notify - NOTIFY (RFC 5465): what a client wants to hear of without asking, and telling it.
 *
 * The selected mailbox is watched as in IDLE. For everything else there is one subscriber of the store's change feed for all sessions
 * (notify_feed.c): it finds the watching sessions by the user whose mailbox it is, puts the change into their queues – a mailbox once,
 * however often it changes – and wakes them. What is in a queue is looked at by the session itself: rights, names, what was asked for; what it
 * may not hear of does not get there. A queue that is full switches the session's notifications off, and says so (NOTIFICATIONOVERFLOW).
 */
#ifndef SERVER_IMAP_NOTIFY_H
#define SERVER_IMAP_NOTIFY_H

#include "server/imap/fetch_private.h"
#include "store/change.h"

enum {
        NOTIFY_NEW              = 1u << 0,
        NOTIFY_EXPUNGE          = 1u << 1,
        NOTIFY_FLAGS            = 1u << 2,
        NOTIFY_NAME             = 1u << 3,
        NOTIFY_SUBSCRIPTION     = 1u << 4,
        NOTIFY_METADATA         = 1u << 5,      /* of a mailbox */
        NOTIFY_SERVER           = 1u << 6,      /* metadata of the server: whatever the mailboxes */
        NOTIFY_ANNOTATIONS      = 1u << 7,      /* of messages */
        NOTIFY_MESSAGES         = NOTIFY_NEW | NOTIFY_EXPUNGE | NOTIFY_FLAGS | NOTIFY_ANNOTATIONS,
};
#define NOTIFY_RIGHTS (ACL_LOOKUP | ACL_READ)    /* on a mailbox of which something is told (RFC 5465 5) */
#define NOTIFY_GROUPS_MAX 64
#define NOTIFY_NAMES_MAX 1000                   /* of all groups */
#define NOTIFY_QUEUE_MAX 256

struct notify_group {
        enum notify_which { NOTIFY_SELECTED, NOTIFY_SELECTED_DELAYED, NOTIFY_INBOXES, NOTIFY_PERSONAL, NOTIFY_SUBSCRIBED, NOTIFY_SUBTREE,
                            NOTIFY_MAILBOXES } which;
        unsigned events;
        const char **names;                     /* internal */
        unsigned names_n;
};

/* ---- the feed: notify_feed.c ---- */

struct notify_event {
        enum change_kind kind;
        unsigned what;                          /* CHANGE_MAILBOX: CHANGE_… */
        char uniqueid[32];                      /* CHANGE_MAILBOX */
        char *name, *other;                     /* CHANGE_NAME, CHANGE_SUBSCRIPTION (name: the mailbox), CHANGE_ANNOTATION (other: the entry) */
        char *user;                             /* CHANGE_SUBSCRIPTION; CHANGE_ANNOTATION: of a private one. Nobody else is told */
        const struct mbentry *before, *after;   /* references */
        bool moved, follows;
};
void notify_event_deinit(struct notify_event *e);

struct notify_watch;
/* Who watches: by it the feed leaves out what he may not hear of, so that it takes no place in his queue. */
struct notify_identity {
        struct acl_identity who;                /* but for is_owner */
        const char *deleted_prefix;             /* NULL: there are no deleted mailboxes */
        bool hides_users, hides_shared;         /* disable_user_namespace, disable_shared_namespace */
};
/*
 * Watch for a session from now on.
 *   whose   copied; NULL: whoever may hear of everything (tests)
 *   owners  whose mailboxes: user ids, "" for shared ones; NULL: everybody's
 *   events  NOTIFY_…
 */
struct notify_watch *notify_watch_create(struct store *store, struct session_id id, const struct notify_identity *whose,
                                         const char *const *owners, unsigned n, unsigned events);
void notify_watch_destroy(struct notify_watch **w);     /* when it returns no wake will come from it */
/* Take the next event: false when there is none. *overflow_r: some were lost. */
bool notify_watch_take(struct notify_watch *w, struct notify_event *e, bool *overflow_r);

/* Drop events of names and subscriptions about this one. */
void notify_watch_forget(struct notify_watch *w, const char *internal);

/* ---- a session's ---- */

struct notify {
        struct arena arena;                     /* of groups */
        struct notify_group groups[NOTIFY_GROUPS_MAX];
        unsigned groups_n, names_n;
        bool has_selected, delayed;             /* SELECTED or SELECTED-DELAYED; the latter */
        unsigned selected_events;
        struct span fetch;                      /* "(uid flags)" of the selected mailbox's MessageNew; len 0: none */
        struct notify_watch *watch;             /* NULL: nothing but the selected mailbox */
        struct uidset fresh;                    /* of the selected mailbox: EXISTS was told, FETCH not yet */
        struct fetch_state *fetching;           /* … and is on its way */
        struct notify_event event;              /* being told */
        bool has_event;
};

/* notify_parse.c. Fills n->groups and the rest that was asked for; returns 0, or -1 with ip->err. ERR_UNSUPPORTED: an event that is not
 * known (BADEVENT). */
int notify_parse(struct imap_parser *ip, const struct namer *who, struct notify *n, bool *status_r);
extern const char notify_known_events[];        /* for BADEVENT */

/* The events asked for a mailbox that is not selected, all groups together. `upto`: only of the groups before that one. */
unsigned notify_events_of(struct imap *imap, const struct notify *n, const char *internal, unsigned upto);

/* Install (takes n over, NULL: as before the first NOTIFY), with watches. */
void notify_install(struct imap *imap, struct notify *n);
/* Tell what there is. False: the rope is full. Between commands, and in IDLE. */
bool notify_tell(struct imap *imap);
/* Which events of the selected mailbox are told; all when there was no NOTIFY. */
unsigned notify_selected_events(const struct imap *imap);
/* Is the selected mailbox to be watched without IDLE? */
bool notify_watches_selected(const struct imap *imap);
/* The selected mailbox was left. */
void notify_deselect(struct imap *imap);
/* STATUS of a mailbox for these events; `first`: as NOTIFY SET STATUS tells it (RFC 5465 3.1). */
void notify_put_status(struct imap *imap, const char *internal, struct mailbox *mbox, unsigned events, bool first);
/* This session has just changed a name: its events are not for it (RFC 5465 5). */
void notify_forget_name(struct imap *imap, const char *internal);

/* An own opening of a mailbox, that outlives a NOTIFY: imap->notify_open. */
struct notify_open {
        bool out;                               /* the offload was started and its result not taken */
        struct offload offload;
        struct imap_open open;
};
void notify_open_release(struct imap *imap);

/* list.c: a LIST line with all attributes (RFC 5465 5.4, 5.5); entry NULL: \NonExistent. former NULL: no OLDNAME. */
void list_put_changed(struct imap *imap, const char *internal, const struct mbentry *entry, const char *former, const char *extra);

#endif
