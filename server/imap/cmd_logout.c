/* LOGOUT (RFC 9051 6.1.3) */
#include "server/imap/imap_private.h"

enum cmd_result cmd_logout(struct imap *imap)
{
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        imap_untagged(imap, "BYE LOGOUT received");
        imap_ok(imap, NULL, "Completed");
        return CMD_CLOSE;
}
