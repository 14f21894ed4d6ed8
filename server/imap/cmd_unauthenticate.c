/*
 * UNAUTHENTICATE (RFC 8437): as after the greeting, but for TLS. There is no NO. What was pipelined behind it counts, unless it came
 * through a layer that ends here; the loop ends layers when the reply has been sent.
 */
#include "server/imap/imap_private.h"

enum cmd_result cmd_unauthenticate(struct imap *imap)
{
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        imap_unselect(imap);
        imap_leave_authenticated(imap);
        imap->loop->end_layers = true;
        return imap_ok(imap, NULL, "Completed");
}
