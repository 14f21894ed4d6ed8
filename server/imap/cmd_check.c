/* CHECK (RFC 3501 6.4.1; not in RFC 9051): what was acknowledged is on the disk when it returns, flags too. */
#include "server/imap/selected.h"

enum cmd_result cmd_check(struct imap *imap)
{
        struct err err = ERR_INIT;

        if (imap->cmd.state)
                return imap_waited(imap, &err) < 0 ? imap_fail(imap, &err) : imap_ok(imap, NULL, "CHECK completed");
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        imap->cmd.state = imap;
        mailbox_wait_synced(imap->sel->mbox, imap_waiter(imap));
        return imap_wait(imap);
}
