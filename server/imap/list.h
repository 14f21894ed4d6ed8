/*
 * list - LIST and LSUB (RFC 9051 6.3.9, RFC 5258, RFC 5819, RFC 6154, RFC 3348; RFC 3501 6.3.9): arguments, the walks through
 * names, and a line's output. The commands themselves are in cmd_list.c and cmd_lsub.c.
 */
#ifndef SERVER_IMAP_LIST_H
#define SERVER_IMAP_LIST_H

#include "server/imap/imap.h"
#include "server/imap/metadata.h"
#include "util/hash.h"

#define LIST_RIGHTS ACL_LOOKUP                  /* on a mailbox that is named */
#define LIST_PATTERNS_MAX 100
#define LIST_BATCH 64

struct list {
        struct imap *imap;
        char sep;
        bool lsub;
        bool xlist;                             /* XLIST: special uses are shown, \\Inbox too */
        /* selection options */
        bool extended;                          /* any syntax of RFC 5258 was used */
        bool subscribed, recursive, special, remote;
        /* return options */
        bool return_subscribed, return_special, return_myrights;
        unsigned status_items;
        struct metadata_request *metadata;      /* RETURN (METADATA …), NULL: not asked for */
        struct span *patterns;                  /* with the reference in front */
        unsigned patterns_n, wildcards;
        size_t pattern_octets;

        /* Walk through the mailbox list: one part of it after the other. */
        enum list_part { PART_ALL, PART_OWN, PART_USERS, PART_SHARED, PART_FIXED, PART_END } part;
        const char *fixed;                      /* PART_FIXED: only below here, as no pattern matches elsewhere */
        bool exact;                             /* no pattern has a wildcard */
        struct span domain;                     /* "dom!": only names of this domain; empty: all, or those without one */
        bool part_over;                         /* the rest of the present part is of other domains */
        const char *prefix;                     /* of the present part */
        struct str after;                       /* the last name looked at */
        const struct mbentry *batch[LIST_BATCH];
        unsigned batch_n, batch_i;
        const struct mbentry *pending;          /* visible; whether it has children the next visible one tells */
        struct str last;                        /* the last visible name */
        bool root_told;                         /* "Other Users" … of this part */

        /* Walk through subscriptions. */
        const char **names;
        size_t names_i;
        struct table *told;                     /* parents that have been told of */

        /* STATUS of the mailbox just listed */
        const struct mbentry *status_entry;     /* STATUS, METADATA: of this one next; reference */
        bool status_wanted, metadata_wanted;
        struct imap_open open;
};

struct list_row {
        const char *internal;                   /* NULL: a name that is no mailbox's, `external` only */
        struct span external;
        const struct mbentry *entry;            /* NULL: there is no such mailbox */
        int children;                           /* 1 has, 0 has not, -1 not known: find out */
        bool subscribed, child_subscribed;
};

/* Everything the walks need; sets cmd.state and cmd.cleanup. */
struct list *list_create(struct imap *imap, bool lsub);
/* Is `name` below `internal` as this client sees it? With altnamespace nothing is below one's INBOX. */
bool list_is_child(struct list *l, const char *name, const char *internal);
/* "" as the only pattern of a plain LIST: the separator is asked for. */
void list_put_root(struct imap *imap);
/* `level`: it is no mailbox, only above some. A pattern that ends in * finds what exists (RFC 5258 3.4, RFC 3501 6.3.8); as Cyrus does. */
bool list_matches(struct list *l, struct span external, bool level);
bool list_visible(struct list *l, const struct mbentry *entry);
/* Write a row if a pattern matches; sets status_entry when its STATUS is wanted. */
void list_emit(struct list *l, const struct list_row *row);
/* One step of a walk: false at the end. */
bool list_walk_step(struct list *l);            /* list_walk.c */
bool list_sub_step(struct list *l);             /* list_sub.c */
void list_walk_begin(struct list *l);
int list_sub_begin(struct list *l, struct err *err);
/* The name of a namespace as a mailbox would be called: prefix without its separator; false: it has none. In the arena. */
bool list_root_of(struct list *l, const char *internal, struct span *root_r);
/* Call fn for each name above `internal` that a client sees, outermost first, without namespaces. `internal` cut at *len. */
bool list_next_ancestor(struct list *l, const char *internal, size_t *pos, struct span *ancestor_r);
/* All steps, STATUS included. */
enum cmd_result list_run(struct list *l, bool (*step)(struct list *l));

#endif
