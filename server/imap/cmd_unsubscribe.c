/* UNSUBSCRIBE mailbox (RFC 9051 6.3.8): also of one that is gone or hidden. The work is in cmd_subscribe.c. */
#include "server/imap/cmds.h"
#include "server/imap/imap_private.h"

enum cmd_result cmd_unsubscribe(struct imap *imap)
{
        return imap_subscribe_command(imap, false);
}
