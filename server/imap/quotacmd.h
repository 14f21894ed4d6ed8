/* quotacmd - what the quota commands (RFC 9208) share, and the warnings that others give. */
#ifndef SERVER_IMAP_QUOTACMD_H
#define SERVER_IMAP_QUOTACMD_H

#include "server/imap/imap.h"
#include "store/quota.h"

/*
 * Have a root's usage added up if need be. 1: it is sure (or there is no such root any more); 0: return CMD_WAIT and call again;
 * -1: the tagged reply was sent.
 */
struct quota_wait {
        bool started;
        struct store *store;
        const char *root;
        struct err err;
};
int imap_quota_settle(struct imap *imap, struct quota_wait *wait, const char *root);
/* "* QUOTA root (resource used limit …)"; nothing when the root is gone. */
void imap_quota_put(struct imap *imap, const char *root);
/* Untagged NO for each resource that is nearly or wholly used up where this mailbox is (quotawarn, quotawarnkb, quotawarnmsg). From
 * memory. After SELECT, and after what adds messages. */
void imap_quota_warn(struct imap *imap, const char *mailbox);
/* Limits are not enforced in this session: imapd -q. */
bool imap_quota_ignored(const struct imap *imap);

#endif
