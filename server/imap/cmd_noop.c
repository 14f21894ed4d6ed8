/* NOOP (RFC 9051 6.1.2): the dispatcher tells the news. */
#include "server/imap/imap_private.h"

enum cmd_result cmd_noop(struct imap *imap)
{
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        return imap_ok(imap, NULL, "Completed");
}
