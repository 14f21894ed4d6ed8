/* CLOSE (RFC 9051 6.4.1): expunge without a word, as far as that is allowed (RFC 4314 4), and deselect. */
#include "server/imap/selected.h"

static bool may_expunge(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;

        imap_selected_refresh(imap);
        return !sel->examined && !sel->vanished && (sel->rights & ACL_EXPUNGE);
}

enum cmd_result cmd_close(struct imap *imap)
{
        struct err err = ERR_INIT;
        uint64_t modseq;

        if (imap->cmd.state) {
                if (imap_waited(imap, &err) < 0)
                        return imap_fail(imap, &err);
                imap_unselect(imap);
                return imap_ok(imap, NULL, "CLOSE completed");
        }
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        if (may_expunge(imap)) {
                if (mailbox_expunge(imap->sel->mbox, NULL, true, NULL, &modseq, imap_waiter(imap), &err) < 0) {
                        imap_waiter_cancel(imap);
                        return imap_fail(imap, &err);
                }
                imap->cmd.state = imap;                         /* nothing to remember but that we were here */
                return imap_wait(imap);
        }
        imap_unselect(imap);
        return imap_ok(imap, NULL, "CLOSE completed");
}
