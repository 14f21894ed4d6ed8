/*
 * seen - \Seen as this user has it (store/seen.h): his own for mailboxes that are not his, the message's flag elsewhere.
 * Whoever reads messages' flags for a client does it by imap_messages() or a walk (selected.h), never by mailbox_messages() alone.
 */
#ifndef SERVER_IMAP_SEEN_H
#define SERVER_IMAP_SEEN_H

#include "server/imap/imap.h"
#include "store/seen.h"

/* Is \Seen of the mailbox of this name kept for each user apart? */
bool imap_seen_is_private(struct imap *imap, const char *internal, struct mailbox *mbox);
/* The user's, with a reference; NULL when it is the message's flag. */
int imap_seen_open(struct imap *imap, const char *internal, struct mailbox *mbox, struct seen **seen_r, struct err *err);
/* mailbox_status() with `unseen` and `first_unseen_uid` as this user has them. */
int imap_mailbox_status(struct imap *imap, const char *internal, struct mailbox *mbox, struct mailbox_status *status_r, struct err *err);
/* mailbox_messages() of the selected mailbox, with \Seen as this user has it. */
int imap_messages(struct imap *imap, const uint32_t *uids, uint32_t n, struct msg *msgs_r, struct err *err);

/*
 * \Seen of messages that have just come into a mailbox, by COPY, MOVE, APPEND: where it is kept apart it cannot come with the message.
 */
struct seen_carry {
        struct seen *to;                        /* reference; NULL: nothing to be done */
        struct uidset from;                     /* UIDs of the source that are seen */
        struct uidset uids;                     /* of the target, that are to become so */
        struct uidset_iter at;
        bool begun;
};
/* Before the copy: what the target's messages get, and what will be done after it. `source`: the selected mailbox's \Seen, NULL: flags. */
int seen_carry_begin(struct imap *imap, struct seen_carry *c, const char *internal, struct mailbox *to, struct seen *source,
                     const struct uidset *uids, struct copy_mask *mask, struct err *err);
/* After it: copied[n] became first_uid + n. */
void seen_carry_copied(struct seen_carry *c, const struct uidset *copied, uint32_t first_uid);
/* Mark a slice of c->uids. 1: the command's waiter is out, call again when it is done; 0: all is done; -1: refused, err. */
int seen_carry_step(struct imap *imap, struct seen_carry *c, struct mailbox *to, struct err *err);
void seen_carry_deinit(struct seen_carry *c);

#endif
