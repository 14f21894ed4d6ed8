/*
 * annot - annotations: small named values of a mailbox (RFC 5464), of a message (RFC 5257), of the server. A name is a path ("/comment")
 * without /shared or /private in front; `user` is "" for the shared value, else whose private value it is.
 *
 * Those of mailboxes and messages are records of the mailbox's log and go where it goes: renamed, deleted, checkpointed, compacted with
 * it. The server's are in annotations.db. Names are compared octet for octet: those of messages are case-sensitive (RFC 5257 3.2), those of
 * mailboxes are not (RFC 5464 3.1), for them the caller has lower case. What an entry means, who may set it and which values it takes is
 * the caller's business too.
 */
#ifndef STORE_ANNOT_H
#define STORE_ANNOT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/mailbox.h"
#include "util/arena.h"
#include "util/err.h"

#define ANNOT_ENTRY_MAX 1000                    /* octets of a name */
#define ANNOT_VALUE_MAX 65536                   /* octets of a value */
#define ANNOT_COUNT_MAX 1000                    /* shared ones, or private ones of one user: of one mailbox (apart from its messages'), of one
                                                 * message, of the server */
/* What those of one mailbox may take in memory, its messages' included: they are there with it. Each share has a bound of its own, so that
 * nobody who may only read keeps others from writing. */
#define ANNOT_SHARED_BYTES_MAX (16u << 20)      /* all shared ones */
#define ANNOT_PRIVATE_BYTES_MAX (4u << 20)      /* all private ones of one user; of the server: the octets of his values, or of the shared ones */

struct annot {
        const char *entry;                      /* "/comment" */
        const char *user;                       /* "": shared */
        struct span value;                      /* to be set: p NULL removes it. Any octets */
        uint64_t modseq;                        /* of its last change; not for setting */
};

/* Is this a name? Begins with '/', no two in a row, none at the end, no '*', '%', control or 8-bit octets. The err is fit for the client. */
int annot_check_entry(struct span entry, struct err *err);
/* Where, in a list ordered as here: by entry, then user. */
int annot_compare(const struct annot *a, const struct annot *b);

/* ---- of a mailbox and its messages ---- */

/*
 * In the logs of mailboxes a user stands as a key (annot_user.h): when he is renamed his private annotations go with him wherever they
 * are, and when he is removed nobody has them. He must have been given one before private annotations of his are set: ERR_BUSY.
 */
bool annot_user_known(struct store *store, const char *userid);
/* Give him one, durably; nothing when he has one. Blocks. */
int annot_user_make(struct store *store, const char *userid, struct err *err);

/* Those of message `uid` (0: of the mailbox), in order; copied into the arena. Returns how many.
 *   user  the shared ones and this user's; NULL: the shared ones and everybody's */
uint32_t mailbox_annots(struct mailbox *mbox, uint32_t uid, const char *user, struct arena *arena, struct annot **list_r);
/* The names of entries, each once and in order, whose shared value or this user's was changed or removed with a modseq above `since`. 0: of all
 * entries, those that were removed lately among them. */
uint32_t mailbox_annot_names(struct mailbox *mbox, uint32_t uid, const char *user, uint64_t since, struct arena *arena,
                             const char ***entries_r);
/* The values of one entry; p NULL: none. */
void mailbox_annot_values(struct mailbox *mbox, uint32_t uid, const char *entry, const char *user, struct arena *arena,
                          struct span *shared_r, struct span *private_r);
/* Have this mailbox's messages any at all? O(1). */
bool mailbox_has_message_annots(struct mailbox *mbox);
/*
 * Set annotations of the mailbox, all of them or none: durable when the waiter is done. What is the same already is not written.
 * ERR_LIMIT: too many of theirs, or too large together; ERR_QUOTA: as store/quota.h. -1 as mailbox_append().
 */
int mailbox_annotate(struct mailbox *mbox, const struct annot *set, uint32_t n, struct waiter *waiter, struct err *err);

/*
 * Set annotations on messages: each of `uids` that is shown gets all of `set` (how many there may be of one message, and of what size
 * together, is checked as above; then nothing is changed) and, if that changes something, a new modseq, the same for all.
 *   unchangedsince, modified_r, changed_r, modseq_r   as for mailbox_store_flags(); pass so many UIDs that they make no more than some
 *                     thousand annotations and a megabyte together
 *   reader            when all of `set` are one user's private ones: his mailbox_reader_id(), for whom alone it is news; else 0
 * Durable when the waiter is done.
 */
int mailbox_annotate_messages(struct mailbox *mbox, const struct uidset *uids, const struct annot *set, uint32_t n, uint64_t reader,
                              uint64_t unchangedsince, struct uidset *modified_r, struct uidset *changed_r, uint64_t *modseq_r,
                              struct waiter *waiter, struct err *err);

/* ---- of the server: both read and write the database ---- */

/* The shared ones and this user's, in order, in the arena. */
int server_annots(struct store *store, const char *user, struct arena *arena, struct annot **list_r, uint32_t *n_r, struct err *err);
/* Everybody's. */
int server_annots_all(struct store *store, struct arena *arena, struct annot **list_r, uint32_t *n_r, struct err *err);
/* All of them or none; durable when it returns. Blocks. ERR_LIMIT: too many of one user's, or too large together. */
int server_annotate(struct store *store, const struct annot *set, uint32_t n, struct err *err);

#endif
