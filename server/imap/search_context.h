/*
 * search_context - results that the server keeps up to date for the client (RFC 5267): RETURN (UPDATE) of SEARCH, SORT and ESEARCH.
 *
 * A context belongs to the selected mailbox of a session and ends with it. It holds the program, parsed for itself, and the UIDs of the
 * result, in order if it was sorted. UPDATE (items) has FETCH replies of new messages sent, too (RFC 5465 7). When news of the mailbox is told, what was changed since is searched again, in slices, and the
 * difference said as ADDTO and REMOVEFROM. Message numbers in a program mean what they meant when the command came (RFC 5267 4.3).
 */
#ifndef SERVER_IMAP_SEARCH_CONTEXT_H
#define SERVER_IMAP_SEARCH_CONTEXT_H

#include "server/imap/search_private.h"

#define SEARCH_CONTEXTS_MAX 16                  /* in a session; more: NO [NOUPDATE] */

struct search_context;

/*
 * At the beginning of a command with UPDATE: `text` is the command from RETURN on, which was parsed without error. False: the tagged BAD
 * was sent (the tag is in use). *c_r may be NULL after true: updates are refused, and the client is told.
 *   sorted  text is that of SORT
 */
bool search_context_create(struct imap *imap, struct span text, bool sorted, struct search_context **c_r);
/* For a command that ends before search_context_keep(). */
void search_context_destroy(struct search_context **c);
/* The answer is out: keep the result up to date from now on. `order`: of SORT, n UIDs, else NULL. Takes the context. */
void search_context_keep(struct imap *imap, struct search_context **c, const struct uidset *result, const uint32_t *order, uint32_t n);

/* These are about to be announced as expunged; the view still has them. */
void search_contexts_expunge(struct imap *imap, const struct uidset *gone);
/* All else was announced. False: the slice is over, or the client has enough to read: call again. */
bool search_contexts_poll(struct imap *imap);
bool search_context_exists(struct imap *imap, struct span tag);
bool search_context_cancel(struct imap *imap, struct span tag);         /* false: there is none */
void search_contexts_end(struct imap_selected *sel);

#endif
