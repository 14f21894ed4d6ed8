/*
 * mailbox_filter - the mailboxes that ESEARCH looks into (RFC 7377 2.2; the grammar is NOTIFY's, RFC 5465 6), parsed, and walked
 * through one mailbox at a time: nothing is listed ahead, so a user with 100,000 mailboxes costs no more than one with ten.
 */
#ifndef SERVER_IMAP_MAILBOX_FILTER_H
#define SERVER_IMAP_MAILBOX_FILTER_H

#include "server/imap/imap.h"

enum mailbox_filter_kind { FILTER_SELECTED, FILTER_PERSONAL, FILTER_SUBSCRIBED, FILTER_SUBTREE, FILTER_SUBTREE_ONE, FILTER_MAILBOXES };
#define MAILBOX_FILTER_NAMES_MAX 10000          /* in one command */

struct mailbox_filter {
        enum mailbox_filter_kind kind;
        const char **names;                     /* internal; of SUBTREE, SUBTREE_ONE, MAILBOXES */
        uint32_t names_n;
        struct mailbox_filter *next;
};

/*
 * "(selected inboxes mailboxes (a b) subtree c)", from its parenthesis to the closing one. `inboxes` is the same as `personal`: mail may
 * be delivered to each of a user's mailboxes (RFC 5465 6.2). In the command's arena. False: the tagged reply was sent.
 */
bool mailbox_filter_parse(struct imap *imap, struct mailbox_filter **filters_r);

struct mailbox_walk {
        struct imap *imap;
        const struct mailbox_filter *at;        /* NULL: done */
        const char **names;                     /* those of the present filter */
        uint32_t names_n, name;                 /* … and the present one */
        struct str after;                       /* SUBTREE…: the last mailbox looked at */
        bool begun;
        struct table *told;                     /* unique ids */
};
void mailbox_walk_init(struct mailbox_walk *w, struct imap *imap, const struct mailbox_filter *filters);
void mailbox_walk_deinit(struct mailbox_walk *w);
/*
 * The next mailbox that this user may read, with a reference in *entry_r; those that are not named themselves need the l right too. FILTER_SELECTED is
 * passed over. What he may not read is passed over as if it did not exist. 1; 0: no more; -1: err; 2: looked at many, call again.
 */
int mailbox_walk_next(struct mailbox_walk *w, const struct mbentry **entry_r, struct err *err);

#endif
