/*
 * RENAME from to [partition] (RFC 9051 6.3.6; the partition is Cyrus's, for admins).
 *
 * What is below goes along, and missing names above the new one become mailboxes. RENAME INBOX is different: a new mailbox is made and
 * INBOX's messages are moved into it, with everybody's annotations of them and everybody's \Seen, in one step; INBOX stays, and so does what is
 * below it. Annotations of INBOX itself are copied (RFC 5464 3.3), and so are its options. Needs x on the old name and k above the new one (RFC 4314 4); for INBOX, whose messages go, r, t and e too.
 * Another user's INBOX takes the whole user along: for admins only. The implicit rights of an owner are not to be had by moving a
 * mailbox into one's own tree: to change whose it is takes the a right on all that moves.
 *
 * RENAME name name partition is something else again: everything stays as it is, but for the partition, of all that is below, too.
 */
#include "server/imap/imap_private.h"
#include "store/annot.h"

struct rename_state {
        struct imap *imap;
        const char *from, *to, *partition;
        struct span given_from, given_to;       /* as the client wrote them */
        bool inbox;
        bool new_owner;                         /* whoever that is, he gets the implicit rights of one; false for admins */
        enum { RENAMING, GOING, CREATING, OPENING_FROM, OPENING_TO, ANNOTATING, MOVING } at;
        struct err err;
        struct imap_open open;
        const struct mbentry *from_entry, *to_entry;
        struct mailbox *from_mbox, *to_mbox;
        struct uidset uids, copied;
        struct append_result result;
};

static void cleanup(struct imap *imap)
{
        struct rename_state *st = imap->cmd.state;

        imap_open_release(&st->open);
        if (st->from_entry)
                mbentry_unref(&st->from_entry);
        if (st->to_entry)
                mbentry_unref(&st->to_entry);
        if (st->from_mbox)
                mailbox_unref(&st->from_mbox);
        if (st->to_mbox)
                mailbox_unref(&st->to_mbox);
        uidset_deinit(&st->uids);
        uidset_deinit(&st->copied);
}

/* Who has the a right on all that moves could have given himself any other. */
static bool may_give_away(struct rename_state *st)
{
        const struct mbentry *entries[64];
        struct mboxlist *ml = store_mboxlist(st->imap->store);
        struct str after = STR_INIT;
        bool may = true;
        unsigned n;

        while (may && (n = mboxlist_next(ml, st->from, after.data, entries, 64)) > 0) {
                str_clear(&after);
                str_append_str(&after, entries[n - 1]->name);
                for (unsigned i = 0; i < n; i++) {
                        may &= entries[i]->type == MBTYPE_INTERMEDIATE || (imap_rights(st->imap, entries[i]) & ACL_ADMIN);
                        mbentry_unref(&entries[i]);
                }
        }
        str_deinit(&after);
        return may;
}

static void rename_job(void *arg)
{
        struct rename_state *st = arg;

        if (st->new_owner && !may_give_away(st)) {
                err_set(&st->err, ERR_PERM, "%s: not all of it may be given to another owner", st->from);
                return;
        }
        mboxlist_rename_tree(store_mboxlist(st->imap->store), st->from, st->to, st->partition, &st->err);
}

static bool must_stop(void *ctx)
{
        (void)ctx;
        return engine_stopping();
}

static void go_job(void *arg)
{
        struct rename_state *st = arg;
        const struct mboxlist_move what = { .name = st->from, .with_children = true, .partition = st->partition, .stopped = must_stop };

        mboxlist_move(store_mboxlist(st->imap->store), &what, &st->err);
}

static void create_job(void *arg)
{
        struct rename_state *st = arg;
        struct mbox_create what = { .name = st->to, .with_parents = true };

        mboxlist_create(store_mboxlist(st->imap->store), &what, &st->to_entry, &st->err);
}

/* ---- arguments and permissions ---- */

/* RENAME INBOX takes the messages away, one by one: besides x. */
#define INBOX_RIGHTS (ACL_READ | ACL_DELETEMSG | ACL_EXPUNGE)

static bool parse(struct imap *imap, struct rename_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct span partition;

        if (imap_sp(ip) < 0)
                goto bad;
        if (!imap_arg_mailbox(imap, &st->from))
                return false;
        st->given_from = imap->cmd.given;
        if (imap_sp(ip) < 0)
                goto bad;
        if (!imap_arg_mailbox(imap, &st->to))
                return false;
        st->given_to = imap->cmd.given;
        if (!imap_at_end(ip)) {
                if (imap_sp(ip) < 0 || imap_astring(ip, &partition) < 0)
                        goto bad;
                st->partition = arena_strndup(&imap->s->arena, partition.p, partition.len);
        }
        if (imap_end(ip) < 0)
                goto bad;
        if (st->partition && !imap->is_admin) {
                imap_no(imap, "NOPERM", "Permission denied");
                return false;
        }
        if (st->partition && !store_partition_dir(imap->store, st->partition)) {
                imap_no(imap, "CANNOT", "There is no such partition");
                return false;
        }
        return true;
bad:
        imap_bad(imap, "%s", ip->err.text);
        return false;
}

static bool target_is_free(struct imap *imap, struct rename_state *st)
{
        struct err err = ERR_INIT;
        const struct mbentry *entry;
        uint32_t rights;

        imap->cmd.own_names[0] = st->from;
        imap->cmd.own_names[1] = st->to;
        if (mailname_check_new(st->to, imap->is_admin, &err) < 0) {
                imap_fail(imap, &err);
                return false;
        }
        if (strcmp(st->from, st->to) == 0 || (!st->inbox && mailname_is_below(st->to, st->from))) {
                imap_no(imap, "CANNOT", "A mailbox cannot be renamed to itself or below itself");
                return false;
        }
        entry = imap_look_up(imap, st->to, &rights);
        if (entry)
                mbentry_unref(&entry);
        if (rights & ACL_LOOKUP) {
                imap_no(imap, "ALREADYEXISTS", "Mailbox already exists");
                return false;
        }
        if (!imap_may_create(imap, st->to)) {
                imap_no(imap, "NOPERM", "Permission denied");
                return false;
        }
        return true;
}

/* specialuse_protect: such a mailbox keeps its place in the tree. */
static bool stays(struct imap *imap, const struct rename_state *st)
{
        const char *from = mailname_parent(st->from, &imap->s->arena), *to = mailname_parent(st->to, &imap->s->arena);
        bool same = from && to ? strcmp(from, to) == 0 : from == to;

        if (imap->is_admin || st->inbox || same || !imap_special_use_protected(imap, st->from_entry))
                return false;
        imap_no(imap, "CANNOT", "Mailbox with a special use is protected");
        return true;
}

static bool changes_owner(struct imap *imap, const struct rename_state *st)
{
        const char *from = mailname_owner(st->from, &imap->s->arena), *to = mailname_owner(st->to, &imap->s->arena);

        return from && to ? strcmp(from, to) != 0 : from != to;
}

static enum cmd_result begin(struct imap *imap)
{
        struct rename_state *st = ARENA_NEW(&imap->s->arena, struct rename_state);
        uint32_t rights;

        st->imap = imap;
        uidset_init(&st->uids);
        uidset_init(&st->copied);
        imap->cmd.state = st;
        imap->cmd.cleanup = cleanup;
        if (!parse(imap, st))
                return CMD_DONE;
        st->inbox = mailname_is_inbox(st->from) && mailname_owned_by(st->from, imap->userid);
        st->from_entry = imap_find_mailbox(imap, st->from, &rights);
        if (!st->from_entry)
                return CMD_DONE;
        if (st->partition && strcmp(st->from, st->to) == 0) {
                imap->cmd.own_names[0] = st->from;
                st->at = GOING;
                return imap_offload(imap, OFFLOAD_CONTROL, go_job, st);
        }
        if (st->inbox && (rights & INBOX_RIGHTS) != INBOX_RIGHTS)
                return imap_no(imap, "NOPERM", "Permission denied");
        if (!st->inbox && mailname_is_inbox(st->from) && !imap->is_admin)
                return imap_no(imap, "NOPERM", "Permission denied");
        if (!st->inbox && mailname_is_inbox(st->from) && strcmp(st->from, st->to) != 0 && !conf_switch(imap->conf, NULL, "allowusermoves"))
                return imap_no(imap, "CANNOT", "Users are not renamed here (allowusermoves)");
        st->new_owner = !imap->is_admin && changes_owner(imap, st);
        if (st->new_owner && !(rights & ACL_ADMIN))
                return imap_no(imap, "NOPERM", "Permission denied");
        if (!target_is_free(imap, st) || stays(imap, st))
                return CMD_DONE;
        st->at = st->inbox ? CREATING : RENAMING;
        return imap_offload(imap, OFFLOAD_DB, st->inbox ? create_job : rename_job, st);
}

/* ---- RENAME INBOX ---- */

static void annotate_job(void *arg)
{
        struct rename_state *st = arg;
        struct arena arena = ARENA_INIT;
        struct annot *list;
        struct waiter w;
        uint32_t n = mailbox_annots(st->from_mbox, 0, NULL, &arena, &list);
        uint32_t options = mailbox_options(st->from_mbox) & MBOX_SHARED_SEEN;
        int rc = 0;

        if (n) {
                waiter_init_blocking(&w);
                rc = mailbox_annotate(st->to_mbox, list, n, &w, &st->err) < 0 ? -1 : waiter_block(&w, &st->err);
        }
        if (rc == 0 && options) {
                waiter_init_blocking(&w);
                if (mailbox_set_options(st->to_mbox, options, options, &w, &st->err) == 0)
                        waiter_block(&w, &st->err);
        }
        arena_deinit(&arena);
}

static enum cmd_result done(struct imap *imap, const struct rename_state *st)
{
        bool from = !st->inbox && imap_normalised(imap, st->from, st->given_from);

        if (from || imap_normalised(imap, st->to, st->given_to))        /* RFC 9051 6.3.6 */
                imap_put_list_oldname(imap, "", st->to, st->given_from);
        return imap_ok(imap, NULL, "Completed");
}

static enum cmd_result start_move(struct imap *imap, struct rename_state *st)
{
        struct copy_mask mask = { .shared_annots = true, .all_private_annots = true, .everyones_seen = true, .progress = &imap->cmd.progress };
        struct view *view = mailbox_view(st->from_mbox);
        struct uidset all = UIDSET_INIT;
        struct err err = ERR_INIT;

        uidset_add_range(&all, 1, UINT32_MAX);
        view_existing_uids(view, &all, &st->uids);
        uidset_deinit(&all);
        view_unref(&view);
        if (uidset_empty(&st->uids))
                return done(imap, st);
        st->at = MOVING;
        if (mailbox_move(st->from_mbox, &st->uids, st->to_mbox, &mask, &st->copied, &st->result, imap_waiter(imap), &err) < 0) {
                imap_waiter_cancel(imap);
                return imap_fail(imap, &err);
        }
        imap->cmd.waiting = true;
        return CMD_WAIT;
}

static enum cmd_result go_on(struct imap *imap, struct rename_state *st)
{
        struct err err = ERR_INIT;
        int rc;

        if (st->at == CREATING)
                st->at = OPENING_FROM;
        if (st->at == OPENING_FROM) {
                rc = imap_open_mailbox(imap, &st->open, st->from_entry, &st->from_mbox, &err);
                if (rc <= 0)
                        return rc == 0 ? CMD_WAIT : imap_fail(imap, &err);
                st->at = OPENING_TO;
        }
        if (st->at == OPENING_TO) {
                rc = imap_open_mailbox(imap, &st->open, st->to_entry, &st->to_mbox, &err);
                if (rc <= 0)
                        return rc == 0 ? CMD_WAIT : imap_fail(imap, &err);
                st->at = ANNOTATING;
                return imap_offload(imap, OFFLOAD_DB, annotate_job, st);
        }
        if (st->at == ANNOTATING)
                return start_move(imap, st);
        if (imap->cmd.waiter.err.code)
                return imap_fail(imap, &imap->cmd.waiter.err);
        return done(imap, st);
}

enum cmd_result cmd_rename(struct imap *imap)
{
        struct rename_state *st = imap->cmd.state;

        if (!st)
                return begin(imap);
        if (st->err.code)
                return imap_create_failed(imap, st->to, &st->err);
        return st->at == RENAMING || st->at == GOING ? done(imap, st) : go_on(imap, st);
}
