/* COPY and UID COPY (RFC 9051 6.4.7; COPYUID: RFC 4315 3; rights: RFC 4314 4), and what MOVE shares with it. */
#include "server/imap/audit.h"
#include "server/imap/copy.h"
#include "server/imap/quotacmd.h"

#include <inttypes.h>

static void cleanup(struct imap *imap)
{
        struct copy_state *st = imap->cmd.state;

        imap_open_release(&st->open);
        mailbox_unref(&st->to);
        mbentry_unref(&st->entry);
        uidset_deinit(&st->uids);
        uidset_deinit(&st->copied);
        seen_carry_deinit(&st->seen);
}

uint32_t copy_forbidden_flags(uint32_t rights)
{
        uint32_t forbidden = 0;

        if (!(rights & ACL_DELETEMSG))
                forbidden |= MSG_DELETED;
        if (!(rights & ACL_SEEN))
                forbidden |= MSG_SEEN;
        if (!(rights & ACL_WRITE))
                forbidden |= MSG_SYSTEM_FLAGS & ~(uint32_t)(MSG_DELETED | MSG_SEEN);
        return forbidden;
}

int copy_prepare(struct imap *imap, struct copy_state *st, struct copy_mask *mask, struct err *err)
{
        *mask = (struct copy_mask){ .drop_flags = copy_forbidden_flags(st->rights), .drop_keywords = !(st->rights & ACL_WRITE),
                                    .ignore_quota = imap_quota_ignored(imap), .progress = &imap->cmd.progress,
                                    .shared_annots = st->rights & ACL_ANNOTATE,
                                    .private_annots = st->rights & ACL_READ ? imap->userid : NULL };           /* RFC 5257 3.4, 4.6 */
        return seen_carry_begin(imap, &st->seen, st->entry->name, st->to, imap->sel->seen, &st->uids, mask, err);
}

int copy_finish_seen(struct imap *imap, struct copy_state *st, struct err *err)
{
        int rc;

        if (!st->seen.begun)
                seen_carry_copied(&st->seen, &st->copied, st->result.first_uid);
        rc = seen_carry_step(imap, &st->seen, st->to, err);
        if (rc == 1)
                imap_wait(imap);
        return rc;
}

bool copy_begin(struct imap *imap)
{
        struct copy_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct copy_state);
        struct imap_parser *ip = &imap->cmd.args;
        const char *name;

        imap->cmd.cleanup = cleanup;
        if (!imap_arg_messages(imap, &st->uids))
                return false;
        if (imap_sp(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (!imap_arg_mailbox(imap, &name))
                return false;
        if (imap_end(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        st->entry = imap_find_mailbox(imap, name, &st->rights);
        return st->entry != NULL;
}

int copy_open(struct imap *imap)
{
        struct copy_state *st = imap->cmd.state;
        struct err err = ERR_INIT;
        int opened = imap_open_mailbox(imap, &st->open, st->entry, &st->to, &err);

        if (opened < 0)
                imap_fail(imap, &err);
        return opened;
}

bool copy_code(const struct copy_state *st, struct str *code)
{
        uint32_t last = st->result.first_uid + st->result.count - 1;

        if (!(st->rights & ACL_READ))
                return false;
        str_printf(code, "COPYUID %" PRIu32 " ", st->result.uidvalidity);
        uidset_append(&st->copied, code);
        str_printf(code, " %" PRIu32, st->result.first_uid);
        if (st->result.count > 1)
                str_printf(code, ":%" PRIu32, last);
        return true;
}

static enum cmd_result reply(struct imap *imap, const struct copy_state *st)
{
        struct str code = STR_INIT;
        bool told = copy_code(st, &code);

        imap_audit_range(imap, "copy", st->entry, st->result.first_uid, st->result.count, imap->sel->entry->name);
        imap_own_arrivals(imap, st->to, st->result.first_uid, st->result.count);
        imap_quota_warn(imap, st->entry->name);
        imap_ok(imap, told ? code.data : NULL, "%s completed", imap->cmd.uid ? "UID COPY" : "COPY");
        str_deinit(&code);
        return CMD_DONE;
}

enum cmd_result cmd_copy(struct imap *imap)
{
        struct copy_state *st;
        struct copy_mask mask;
        struct err err = ERR_INIT;
        int opened;

        if (!imap->cmd.state && !copy_begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->phase == COPY_WRITTEN) {
                if (imap_waited(imap, &err) < 0)
                        return imap_fail(imap, &err);
                if (uidset_empty(&st->copied))
                        return imap_no(imap, "EXPUNGEISSUED", "The messages no longer exist");
                switch (copy_finish_seen(imap, st, &err)) {
                case 1:
                        return CMD_WAIT;
                case 0:
                        return reply(imap, st);
                }
                return imap_fail(imap, &err);
        }
        if (uidset_empty(&st->uids))                            /* RFC 4315 3, example A005 */
                return imap_ok(imap, NULL, "No matching messages, so nothing copied");
        opened = copy_open(imap);
        if (opened <= 0)
                return opened == 0 ? CMD_WAIT : CMD_DONE;
        if (copy_prepare(imap, st, &mask, &err) < 0)
                return imap_fail(imap, &err);
        st->phase = COPY_WRITTEN;
        if (mailbox_copy(imap->sel->mbox, &st->uids, st->to, &mask, &st->copied, &st->result, imap_waiter(imap), &err) < 0) {
                imap_waiter_cancel(imap);
                return imap_fail(imap, &err);
        }
        return imap_wait(imap);
}
