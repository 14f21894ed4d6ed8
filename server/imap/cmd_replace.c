/*
 * REPLACE and UID REPLACE (RFC 8508): a message of the selected mailbox gives way to a new one, there or elsewhere; both or neither.
 * APPENDUID comes in an untagged OK, before the EXPUNGE (RFC 8508 4.3). The rights: the union of what STORE +FLAGS (\Deleted), UID EXPUNGE
 * and APPEND need (RFC 8508 4.1).
 */
#include "server/imap/append.h"
#include "server/imap/audit.h"

/* The message to be replaced goes into target.uids. */
static bool find_message(struct imap *imap, struct append_state *st)
{
        struct err err = ERR_INIT;

        if (imap_message_set(imap, st->request.number, imap->cmd.uid, &st->target.uids, &err) < 0) {
                imap_bad(imap, "%s", err.text);
                return false;
        }
        if (uidset_count(&st->target.uids) == 1)
                return true;
        imap_no(imap, NULL, "No such message");
        return false;
}

static enum cmd_result write_replacement(struct imap *imap, struct append_state *st)
{
        struct err err = ERR_INIT;

        if (append_take_seen(imap, st, &err) < 0)
                return imap_fail(imap, &err);
        st->phase = APPEND_WRITTEN;
        if (mailbox_replace(imap->sel->mbox, st->target.uids.ranges[0].first, st->target.to, st->items, &st->result, imap_waiter(imap),
                            &err) == 0)
                return imap_wait(imap);
        imap_waiter_cancel(imap);
        return append_fail(imap, st, &err);
}

static enum cmd_result reply(struct imap *imap, struct append_state *st)
{
        struct str code = STR_INIT;

        if (st->result.count == 0)
                return imap_no(imap, "EXPUNGEISSUED", "The message no longer exists");
        if (st->phase != APPEND_TOLD) {
                imap_audit_range(imap, "append", st->target.entry, st->result.first_uid, st->result.count, NULL);
                imap_audit_messages(imap, "expunge", imap->sel->entry, &st->target.uids, NULL);
        }
        imap_own_arrivals(imap, st->target.to, st->result.first_uid, st->result.count);
        if (st->phase != APPEND_TOLD && append_code(st, &code))
                imap_untagged(imap, "OK [%s] Replacement message ready", code.data);
        str_deinit(&code);
        st->phase = APPEND_TOLD;
        if (!imap_poll(imap, true))
                return CMD_FLUSH;
        return imap_ok_expunged(imap, imap->cmd.uid ? "UID REPLACE completed" : "REPLACE completed");
}

static bool begin(struct imap *imap)
{
        if (!append_begin(imap, true))
                return false;
        return find_message(imap, imap->cmd.state);
}

enum cmd_result cmd_replace(struct imap *imap)
{
        struct append_state *st;
        struct err err = ERR_INIT;
        enum cmd_result result;
        int more = 0;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->phase == APPEND_TOLD)
                return reply(imap, st);
        if (st->phase == APPEND_WRITTEN) {
                if (imap_waited(imap, &err) < 0 || (st->result.count && (more = append_finish_seen(imap, st, &err)) < 0))
                        return append_fail(imap, st, &err);
                return more ? imap_wait(imap) : reply(imap, st);
        }
        return append_ready(imap, st, &result) ? write_replacement(imap, st) : result;
}
