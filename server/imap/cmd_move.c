/*
 * MOVE and UID MOVE (RFC 9051 6.4.8, RFC 6851). COPYUID comes in an untagged OK, before the expunges (RFC 6851 4.3). Within one
 * mailbox the messages get new UIDs. The rights: the union of what STORE +FLAGS (\Deleted), COPY and UID EXPUNGE need (RFC 6851 4.2).
 */
#include "server/imap/audit.h"
#include "server/imap/copy.h"
#include "server/imap/quotacmd.h"

static enum cmd_result write_move(struct imap *imap, struct copy_state *st)
{
        struct copy_mask mask;
        struct err err = ERR_INIT;

        if (copy_prepare(imap, st, &mask, &err) < 0)
                return imap_fail(imap, &err);
        st->phase = COPY_WRITTEN;
        if (mailbox_move(imap->sel->mbox, &st->uids, st->to, &mask, &st->copied, &st->result, imap_waiter(imap), &err) == 0)
                return imap_wait(imap);
        imap_waiter_cancel(imap);
        return imap_fail(imap, &err);
}

static enum cmd_result reply(struct imap *imap, struct copy_state *st)
{
        struct str code = STR_INIT;

        if (uidset_empty(&st->copied) && !st->told)
                return imap_no(imap, "EXPUNGEISSUED", "The messages no longer exist");
        if (!st->told && copy_code(st, &code))
                imap_untagged(imap, "OK [%s] Moved", code.data);
        str_deinit(&code);
        if (!st->told) {
                imap_quota_warn(imap, st->entry->name);
                imap_audit_range(imap, "move", st->entry, st->result.first_uid, st->result.count, imap->sel->entry->name);
                imap_audit_messages(imap, "expunge", imap->sel->entry, &st->copied, NULL);
        }
        st->told = true;
        if (!imap_poll(imap, true))
                return CMD_FLUSH;
        return imap_ok_expunged(imap, imap->cmd.uid ? "UID MOVE completed" : "MOVE completed");
}

static enum cmd_result begin(struct imap *imap)
{
        struct copy_state *st;

        if (!copy_begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (uidset_empty(&st->uids))
                return imap_ok(imap, NULL, "No matching messages, so nothing moved");
        return CMD_AGAIN;
}

enum cmd_result cmd_move(struct imap *imap)
{
        struct copy_state *st = imap->cmd.state;
        struct err err = ERR_INIT;
        int opened, seen;

        if (!st) {
                if (begin(imap) == CMD_DONE)
                        return CMD_DONE;
                st = imap->cmd.state;
        }
        if (st->phase == COPY_OPEN) {
                opened = copy_open(imap);
                if (opened <= 0)
                        return opened == 0 ? CMD_WAIT : CMD_DONE;
                return write_move(imap, st);
        }
        if (!st->told && imap_waited(imap, &err) < 0)
                return imap_fail(imap, &err);
        if (!st->told && !uidset_empty(&st->copied) && (seen = copy_finish_seen(imap, st, &err)) != 0)
                return seen > 0 ? CMD_WAIT : imap_fail(imap, &err);
        return reply(imap, st);
}
