/* aclcmd - what the ACL commands (RFC 4314) share. */
#ifndef SERVER_IMAP_ACLCMD_H
#define SERVER_IMAP_ACLCMD_H

#include "server/imap/imap.h"

/* SP mailbox. The entry with the `a` right on it; NULL: the reply was sent. A name without the right to look it up does not exist. */
const struct mbentry *imap_acl_mailbox(struct imap *imap);
/* SP identifier, in the arena; false: the reply was sent. */
bool imap_acl_identifier(struct imap *imap, const char **identifier_r);
/* Change the list: the whole of SETACL and DELETEACL after parsing. Called again while it waits. */
enum cmd_result imap_acl_change(struct imap *imap, const struct mbentry *entry, const char *identifier, enum acl_mode mode, uint32_t rights);

#endif
