/* EXPUNGE (RFC 9051 6.4.3) and UID EXPUNGE (RFC 9051 6.4.9, RFC 4315 2.1): the `e` right (RFC 4314 4). */
#include "server/imap/audit.h"
#include "server/imap/selected.h"

struct expunge_state {
        struct uidset uids;                     /* of UID EXPUNGE */
        struct uidset gone;
        bool written;
};

static void cleanup(struct imap *imap)
{
        struct expunge_state *st = imap->cmd.state;

        uidset_deinit(&st->uids);
        uidset_deinit(&st->gone);
}

/* Take the messages away; the reply is said when that is durable. */
static enum cmd_result begin(struct imap *imap)
{
        struct expunge_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct expunge_state);
        struct err err = ERR_INIT;
        uint64_t modseq;

        imap->cmd.cleanup = cleanup;
        if (imap->cmd.uid && !imap_arg_messages(imap, &st->uids))
                return CMD_DONE;
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        if (mailbox_expunge(imap->sel->mbox, imap->cmd.uid ? &st->uids : NULL, true, &st->gone, &modseq, imap_waiter(imap), &err) < 0) {
                imap_waiter_cancel(imap);
                return imap_fail(imap, &err);
        }
        return imap_wait(imap);
}

enum cmd_result cmd_expunge(struct imap *imap)
{
        struct expunge_state *st = imap->cmd.state;
        struct err err = ERR_INIT;

        if (!st)
                return begin(imap);
        if (!st->written && imap_waited(imap, &err) < 0)
                return imap_fail(imap, &err);
        if (!st->written)
                imap_audit_messages(imap, "expunge", imap->sel->entry, &st->gone, NULL);
        st->written = true;
        if (!imap_poll(imap, true))                             /* all of it before the tagged reply */
                return CMD_FLUSH;
        return imap_ok_expunged(imap, imap->cmd.uid ? "UID EXPUNGE completed" : "EXPUNGE completed");
}
