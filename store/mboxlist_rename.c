/*
 * mboxlist_rename - a mailbox, a tree or a user under another name.
 *
 * Files do not move (they are found by unique id), so a rename is one database transaction of any size, shown at once by mem_apply().
 * When a user is renamed, his subscriptions and his entries in the ACLs of his own mailboxes go with him in the same transaction.
 */
#include <stdlib.h>
#include <string.h>

#include "store/acl.h"
#include "store/annot_user.h"
#include "store/mboxlist_private.h"
#include "store/seen_private.h"
#include "store/server_annot.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/must.h"

struct rename {
        struct mboxlist *ml;
        const char *from, *to;
        const char *from_user, *to_user;        /* a user's INBOX becomes another's, with all below it: else NULL */
        const char *partition;
        bool with_parents;                      /* names above `to` become mailboxes, not intermediates */
        struct name_changes changes;
};

/* from.x → to.x */
static const char *new_name(struct rename *r, const char *name)
{
        return arena_printf(&r->changes.arena, "%s%s", r->to, name + strlen(r->from));
}

/* The old user's rights, positive and negative, become the new one's. */
static void rename_in_acl(const struct rename *r, const char *acl, struct str *out)
{
        const char *pos = acl;
        struct span id;
        uint32_t rights;
        char text[ACL_TEXT_MAX];

        while (acl_next(&pos, &id, &rights)) {
                bool minus = id.len && id.p[0] == '-';
                struct span who = { id.p + minus, id.len - minus };

                if (span_eq_str(who, r->to_user))
                        continue;                       /* what the name had before is not the renamed user's */
                if (minus)
                        str_append_c(out, '-');
                if (span_eq_str(who, r->from_user))
                        str_append_str(out, r->to_user);
                else
                        str_append_span(out, who);
                str_append_c(out, '\t');
                str_append_str(out, acl_format_rights(text, rights));
                str_append_c(out, '\t');
        }
}

static int rename_one(struct rename *r, const struct mbentry *e, struct err *err)
{
        const char *name = new_name(r, e->name);
        const struct mbentry *there = mem_find(&r->ml->mem, name);
        struct mbentry renamed = *e;
        struct str acl = STR_INIT;
        /* a.b → a, and a.b.b would become a.b, which is on its way itself: one step at a time. */
        bool taken = (there && there->type != MBTYPE_INTERMEDIATE) || strcmp(name, r->from) == 0 || mailname_is_below(name, r->from);

        if (taken)
                err_set(err, ERR_EXISTS, "mailbox %s exists", name);
        /* An intermediate does not take the place of another one. */
        if (there && !taken && e->type == MBTYPE_INTERMEDIATE) {
                mbentry_unref(&there);
                return 0;
        }
        mbentry_unref(&there);
        if (taken)
                return -1;
        if (strlen(name) > MAILNAME_MAX)
                return err_set(err, ERR_BADNAME, "%s would become longer than %d octets", e->name, MAILNAME_MAX);
        if (e->type == MBTYPE_NORMAL) {
                if (names_writable(r->ml, e->partition, err) < 0)
                        return -1;
                if (r->partition && strcasecmp(r->partition, e->partition) != 0)
                        return err_set(err, ERR_UNSUPPORTED, "a mailbox is renamed or goes to another partition, not both at once");
        }
        renamed.name = (char *)(uintptr_t)name;
        renamed.foldermodseq = names_next_modseq(r->ml);
        renamed.changed = clock_wall_s();
        if (r->from_user) {
                rename_in_acl(r, e->acl, &acl);
                renamed.acl = acl.data;
        }
        changes_set(&r->changes, name, mbentry_create(&renamed), e->name);
        str_deinit(&acl);
        return 0;
}

static int also_subscriptions(struct db_txn *txn, void *ctx, struct err *err)
{
        struct rename *r = ctx;

        if (seens_rename_user(r->ml->store, txn, r->from_user, r->to_user, err) < 0 ||
            server_annots_rename_user(r->ml->store, txn, r->from_user, r->to_user, err) < 0 ||
            annot_users_rename(r->ml->store, txn, r->from_user, r->to_user, err) < 0)
                return -1;
        return subs_rename_user(r->ml->store, txn, r->from_user, r->to_user, err);
}

static void after_rename(struct rename *r)
{
        for (size_t i = 0; i < r->changes.list.n; i++) {
                const struct name_change *c = &r->changes.list.v[i];

                if (c->former && c->entry && *c->entry->uniqueid)
                        mailbox_set_name(r->ml->store, c->entry->uniqueid, c->name);
        }
        if (r->from_user) {
                subs_forget(r->ml->store, r->from_user);
                subs_forget(r->ml->store, r->to_user);
                seens_forget(r->ml->store, NULL, r->from_user);
                seens_forget(r->ml->store, NULL, r->to_user);
                annot_users_renamed(r->ml->store, r->from_user, r->to_user);
        }
}

static int rename_locked(struct rename *r, bool with_children, struct err *err) REQUIRES(names_class);
static int rename_locked(struct rename *r, bool with_children, struct err *err)
{
        struct entries entries = { ARRAY_INIT };
        int ret = -1;

        entries_collect(r->ml, r->from, with_children, &entries);
        if (entries.list.n == 0 || (!with_children && entries.list.v[0]->type == MBTYPE_INTERMEDIATE)) {
                err_set(err, ERR_NOTFOUND, "no mailbox %s", r->from);
                goto out;
        }
        for (size_t i = 0; i < entries.list.n; i++) {
                const struct mbentry *e = entries.list.v[i];

                if (rename_one(r, e, err) < 0)
                        goto out;
                changes_remove(r->ml, &r->changes, e, with_children, i == 0, r->to);
        }
        if (!r->with_parents)
                changes_add_parents(r->ml, &r->changes, r->to);
        else if (changes_make_parents(r->ml, &r->changes, r->to, entries.list.v[0]->type == MBTYPE_NORMAL ? entries.list.v[0]->partition
                                      : store_default_partition(r->ml->store), err) < 0)
                goto out;
        if (r->from_user) {
                r->changes.also = also_subscriptions;
                r->changes.also_ctx = r;
        }
        if (with_children || !mem_has_children(&r->ml->mem, r->from)) {
                r->changes.roots_from = r->from;
                r->changes.roots_to = r->to;
        }
        ret = mboxlist_commit(r->ml, &r->changes, err);
        if (ret == 0)
                after_rename(r);
out:
        if (ret < 0)
                changes_undo_files(r->ml, &r->changes);
        entries_free(&entries);
        return ret;
}

static int rename_names(struct mboxlist *ml, const char *from, const char *to, bool with_children, bool with_parents,
                        const char *partition, struct err *err)
{
        struct rename r = { .ml = ml, .from = from, .to = to, .partition = partition, .with_parents = with_parents };
        int ret;

        if (names_writable(ml, partition, err) < 0 || mailname_check_new(to, true, err) < 0)
                return -1;
        if (mailname_is_deleted(to, conf_str(store_conf(ml->store), NULL, "deletedprefix")))
                return err_set(err, ERR_BADNAME, "nothing is renamed below %s by hand",
                               conf_str(store_conf(ml->store), NULL, "deletedprefix"));
        if (strcmp(from, to) == 0)
                return err_set(err, ERR_EXISTS, "that is its name already");
        if (mailname_is_below(to, from))
                return err_set(err, ERR_BADNAME, "a mailbox cannot be renamed below itself");
        changes_init(&r.changes);
        if (with_children && mailname_is_inbox(from) && mailname_is_inbox(to)) {
                r.from_user = mailname_owner(from, &r.changes.arena);
                r.to_user = mailname_owner(to, &r.changes.arena);
        }
        names_lock(ml, from, to);
        ret = rename_locked(&r, with_children, err);
        names_unlock(ml, from, to);
        changes_deinit(&r.changes);
        return ret;
}

int mboxlist_rename(struct mboxlist *ml, const char *from, const char *to, bool with_children, const char *partition, struct err *err)
{
        return rename_names(ml, from, to, with_children, false, partition, err);
}

int mboxlist_rename_tree(struct mboxlist *ml, const char *from, const char *to, const char *partition, struct err *err)
{
        return rename_names(ml, from, to, true, true, partition, err);
}
