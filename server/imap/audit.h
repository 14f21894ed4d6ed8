/* audit - `auditlog: yes`: a line for each change of messages and mailboxes that a client made, with its session, in the terms of the store. */
#ifndef SERVER_IMAP_AUDIT_H
#define SERVER_IMAP_AUDIT_H

#include "server/imap/imap.h"

/*
 * "audit.<event> session=… user=… mailbox=… uniqueid=… uids=…", and for who copies "from=…": the source. Nothing when the option is off.
 * A long set of UIDs is cut, and ends in "…" then; `messages` counts them all.
 */
void imap_audit_messages(struct imap *imap, const char *event, const struct mbentry *entry, const struct uidset *uids, const char *from);
/* The same for `count` UIDs from first_uid on. */
void imap_audit_range(struct imap *imap, const char *event, const struct mbentry *entry, uint32_t first_uid, uint32_t count, const char *from);
/* After a command that changed names, rights, subscriptions or metadata: by imap->cmd.own_names. */
void imap_audit_names(struct imap *imap);

#endif
