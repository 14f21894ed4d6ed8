/*
 * APPEND (RFC 9051 6.3.12, RFC 3501 6.3.11; MULTIAPPEND: RFC 3502; CATENATE: RFC 4469; APPENDUID: RFC 4315 3; rights: RFC 4314 4).
 * All messages are one batch of the mailbox's log: all of them are there, or none.
 */
#include "server/imap/append.h"
#include "server/imap/audit.h"
#include "server/imap/quotacmd.h"

static enum cmd_result reply(struct imap *imap, const struct append_state *st)
{
        struct str code = STR_INIT;
        bool told = append_code(st, &code);

        imap_audit_range(imap, "append", st->target.entry, st->result.first_uid, st->result.count, NULL);
        imap_own_arrivals(imap, st->target.to, st->result.first_uid, st->result.count);
        if (imap_normalised(imap, st->target.entry->name, st->request.mailbox) && !imap_word_is(st->request.mailbox, "INBOX"))
                imap_put_list_oldname(imap, "", st->target.entry->name, st->request.mailbox);           /* RFC 9051 6.3.12 */
        imap_quota_warn(imap, st->target.entry->name);
        imap_ok(imap, told ? code.data : NULL, "APPEND completed");
        str_deinit(&code);
        return CMD_DONE;
}

static enum cmd_result write_messages(struct imap *imap, struct append_state *st)
{
        struct err err = ERR_INIT;

        if (append_take_seen(imap, st, &err) < 0)
                return imap_fail(imap, &err);
        st->phase = APPEND_WRITTEN;
        if (mailbox_append(st->target.to, st->items, st->request.messages_n, &st->result, imap_waiter(imap), &err) == 0)
                return imap_wait(imap);
        imap_waiter_cancel(imap);
        return append_fail(imap, st, &err);
}

enum cmd_result cmd_append(struct imap *imap)
{
        struct append_state *st;
        struct err err = ERR_INIT;
        enum cmd_result result;
        int more;

        if (!imap->cmd.state && !append_begin(imap, false))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->phase == APPEND_WRITTEN) {
                if (imap_waited(imap, &err) < 0 || (more = append_finish_seen(imap, st, &err)) < 0)
                        return append_fail(imap, st, &err);
                return more ? imap_wait(imap) : reply(imap, st);
        }
        return append_ready(imap, st, &result) ? write_messages(imap, st) : result;
}
