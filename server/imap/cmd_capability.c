/* CAPABILITY (RFC 9051 6.1.1) */
#include "server/imap/imap_private.h"

enum cmd_result cmd_capability(struct imap *imap)
{
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        imap_put(imap, "* CAPABILITY ");
        imap_put_capabilities(imap, true);
        imap_put(imap, "\r\n");
        return imap_ok(imap, NULL, "Completed");
}
