/* RLSUB (RFC 2193 5.2): LSUB by a client that follows referrals. All mailboxes are here, so there is nothing to refer to. */
#include "server/imap/imap_private.h"

enum cmd_result cmd_rlsub(struct imap *imap)
{
        return cmd_lsub(imap);
}
