/* UNSELECT (RFC 9051 6.4.2, RFC 3691): CLOSE without expunging. */
#include "server/imap/selected.h"

enum cmd_result cmd_unselect(struct imap *imap)
{
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        imap_unselect(imap);
        return imap_ok(imap, NULL, "UNSELECT completed");
}
