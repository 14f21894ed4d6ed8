/* ops_mailbox - list, mailbox and acl: the mailbox list as an administrator works on it. */
#include <stdio.h>
#include <string.h>

#include "server/control/ops.h"
#include "store/acl.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/specialuse.h"
#include "store/user.h"
#include "util/array.h"

static const char *type_name(enum mbtype t)
{
        static const char *const names[] = { "normal", "intermediate", "deleted", "remote", "reserved", "moving" };

        return (unsigned)t < sizeof names / sizeof *names ? names[t] : "unknown";
}

static json_t *entry_json(struct ctl_call *call, const struct mbentry *e)
{
        return json_pack("{s:o, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "mailbox", ctl_mailbox_json(call, e->name), "name", e->name,
                         "type", type_name(e->type), "uniqueid", e->uniqueid ? e->uniqueid : "", "partition", e->partition ? e->partition : "", "acl",
                         e->acl ? e->acl : "", "specialuse", e->specialuse ? e->specialuse : "", "uidvalidity", (json_int_t)e->uidvalidity,
                         "createdmodseq", (json_int_t)e->createdmodseq, "foldermodseq", (json_int_t)e->foldermodseq, "changed",
                         (json_int_t)e->changed);
}

int ctl_list(struct ctl_call *call, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(call->store);
        const char *pattern = ctl_arg(call, "pattern");
        json_int_t limit = json_integer_value(json_object_get(call->args, "limit")), shown = 0;        /* 0: none */
        char after[512] = "";
        struct namespace *ns = namespace_create(call->conf);
        char sep = namespace_separator(ns);

        (void)err;
        namespace_unref(&ns);
        for (;;) {
                const struct mbentry *entries[64];
                unsigned n = mboxlist_next(ml, "", after, entries, 64);

                for (unsigned i = 0; i < n; i++) {
                        json_t *name = ctl_mailbox_json(call, entries[i]->name);

                        if ((!limit || shown < limit) && (!pattern || mailname_match(json_string_value(name), span_of(pattern), sep))) {
                                call->row(call, entry_json(call, entries[i]));
                                shown++;
                        }
                        json_decref(name);
                        snprintf(after, sizeof after, "%s", entries[i]->name);
                        mbentry_unref(&entries[i]);
                }
                if (n < 64 || (limit && shown >= limit) || call->cancelled(call))
                        return 0;
        }
}

static const struct mbentry *find(struct ctl_call *call, char name[512], struct err *err)
{
        const struct mbentry *e;

        if (ctl_arg_mailbox(call, "mailbox", name, err) < 0)
                return NULL;
        e = mboxlist_find(store_mboxlist(call->store), name);
        if (!e)
                err_set(err, ERR_NOTFOUND, "no mailbox %s", ctl_arg(call, "mailbox"));
        return e;
}

/* What the list knows of a mailbox, named by `mailbox`, by its `uniqueid`, or as the INBOX of `user`. */
int ctl_mailbox_entry(struct ctl_call *call, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(call->store);
        const char *id = ctl_arg(call, "uniqueid"), *user = ctl_arg(call, "user");
        char name[512];
        const struct mbentry *e = NULL;

        if (id) {
                e = mboxlist_find_uniqueid(ml, id);
        } else if (user) {
                struct arena arena = ARENA_INIT;
                const char *userid;

                if (user_canonify(call->store, user, &arena, &userid, err) == 0)
                        e = mboxlist_find(ml, mailname_inbox_of(userid, &arena));
                arena_deinit(&arena);
        } else {
                e = find(call, name, err);
        }
        if (!e)
                return err->code ? -1 : err_set(err, ERR_NOTFOUND, "no such mailbox");
        call->row(call, entry_json(call, e));
        mbentry_unref(&e);
        return 0;
}

int ctl_mailbox_info(struct ctl_call *call, struct err *err)
{
        char name[512];
        const struct mbentry *e = find(call, name, err);
        struct mailbox_ident ident;
        struct mailbox *mbox = NULL;
        json_t *row;

        if (!e)
                return -1;
        row = entry_json(call, e);
        if (e->type == MBTYPE_NORMAL) {
                struct mailbox_status st;

                if (mbentry_ident(call->store, e, &ident, err) < 0 || mailbox_open(call->store, &ident, &mbox, err) < 0) {
                        json_decref(row);
                        mbentry_unref(&e);
                        return -1;
                }
                mailbox_status(mbox, &st);
                json_object_set_new(row, "messages", json_integer(st.messages));
                json_object_set_new(row, "unseen", json_integer(st.unseen));
                json_object_set_new(row, "uidnext", json_integer(st.uidnext));
                json_object_set_new(row, "highestmodseq", json_integer((json_int_t)st.highestmodseq));
                json_object_set_new(row, "octets", json_integer((json_int_t)st.size));
                json_object_set_new(row, "readonly", json_boolean(st.readonly));
                json_object_set_new(row, "directory", json_sprintf("%s/%.1s/%.1s/%s", ident.partition_dir, ident.uniqueid,
                                                                   ident.uniqueid + 1, ident.uniqueid));
                mailbox_unref(&mbox);
        }
        call->row(call, row);
        mbentry_unref(&e);
        return 0;
}

/* The special uses that were asked for; *uses_r is in the arena. */
static int arg_specialuse(struct ctl_call *call, const char *name, struct arena *arena, const char **uses_r, struct err *err)
{
        const char *given = ctl_arg(call, "specialuse");

        if (specialuse_check(store_conf(call->store), given ? given : "", arena, uses_r, err) < 0)
                return -1;
        if (specialuse_taken(store_mboxlist(call->store), name, *uses_r))
                return err_set(err, ERR_EXISTS, "another mailbox of the user has the special use %s", *uses_r);
        return 0;
}

/* A user is made by his INBOX. */
static int check_owner(struct ctl_call *call, const char *name, struct arena *arena, struct err *err)
{
        const char *owner = mailname_owner(name, arena);
        const struct mbentry *e;
        bool there;

        if (!owner || mailname_is_inbox(name))
                return 0;
        e = mboxlist_find(store_mboxlist(call->store), mailname_inbox_of(owner, arena));
        there = e && e->type != MBTYPE_INTERMEDIATE;
        mbentry_unref(&e);
        return there ? 0 : err_set(err, ERR_NOTFOUND, "no user %s (cyrctl user create makes one)", owner);
}

int ctl_mailbox_create(struct ctl_call *call, struct err *err)
{
        char name[512];
        struct arena arena = ARENA_INIT;
        int rc;
        struct mbox_create what = { .name = name, .partition = ctl_arg(call, "partition"),
                                    .with_parents = true };
        const struct mbentry *e = NULL;

        if (ctl_arg_mailbox(call, "mailbox", name, err) < 0 || mailname_check_new(name, true, err) < 0)
                return -1;
        if (what.partition && !store_partition_dir(call->store, what.partition))
                return err_set(err, ERR_NOTFOUND, "there is no partition %s", what.partition);
        rc = check_owner(call, name, &arena, err);
        if (rc == 0)
                rc = arg_specialuse(call, name, &arena, &what.specialuse, err);
        if (rc == 0 && mboxlist_create(store_mboxlist(call->store), &what, &e, err) < 0)
                rc = ctl_fail(call, name, err);
        arena_deinit(&arena);
        if (rc < 0)
                return -1;
        call->row(call, entry_json(call, e));
        mbentry_unref(&e);
        return 0;
}

int ctl_mailbox_delete(struct ctl_call *call, struct err *err)
{
        char name[512];
        const struct mbentry *e = find(call, name, err);
        bool now = ctl_arg_bool(call, "immediately");
        int rc;

        if (!e)
                return -1;
        mbentry_unref(&e);
        if (!ctl_arg_bool(call, "recursive") && mboxlist_has_children(store_mboxlist(call->store), name))
                return err_set(err, ERR_EXISTS, "%s has mailboxes below it (-r deletes them too)", ctl_arg(call, "mailbox"));
        rc = ctl_arg_bool(call, "recursive") ? mboxlist_delete_tree(store_mboxlist(call->store), name, now, err)
                                             : mboxlist_delete(store_mboxlist(call->store), name, now, err);
        return rc < 0 ? ctl_fail(call, name, err) : 0;
}

int ctl_mailbox_rename(struct ctl_call *call, struct err *err)
{
        char name[512], to[512];
        const struct mbentry *e = find(call, name, err);

        if (!e)
                return -1;
        mbentry_unref(&e);
        if (ctl_arg_mailbox(call, "to", to, err) < 0 || mailname_check_new(to, true, err) < 0)
                return -1;
        if (mboxlist_rename_tree(store_mboxlist(call->store), name, to, NULL, err) == 0)
                return 0;
        ctl_fail(call, name, err);
        return ctl_fail(call, to, err);
}

static bool must_stop(void *ctx)
{
        struct ctl_call *call = ctx;

        return call->cancelled(call);
}

static void tell_moved(void *ctx, const struct mbentry *from, const char *to, uint64_t octets)
{
        struct ctl_call *call = ctx;

        call->row(call, json_pack("{s:o, s:s, s:s, s:I}", "mailbox", ctl_mailbox_json(call, from->name), "from", from->partition, "to", to, "octets",
                                  (json_int_t)octets));
}

int ctl_move(struct ctl_call *call, const char *name, bool with_children, struct err *err)
{
        const struct mboxlist_move what = { .name = name, .with_children = with_children, .partition = ctl_arg(call, "partition"),
                                            .from = ctl_arg(call, "from"), .stopped = must_stop, .moved = tell_moved, .ctx = call };

        if (!what.partition)
                return err_set(err, ERR_SYNTAX, "a partition is wanted");
        if (what.from && !store_partition_dir(call->store, what.from))
                return err_set(err, ERR_NOTFOUND, "there is no partition %s", what.from);
        return mboxlist_move(store_mboxlist(call->store), &what, err) < 0 ? ctl_fail(call, name, err) : 0;
}

int ctl_mailbox_move(struct ctl_call *call, struct err *err)
{
        char name[512];

        if (ctl_arg_mailbox(call, "mailbox", name, err) < 0)
                return -1;
        return ctl_move(call, name, !ctl_arg_bool(call, "only"), err);
}

int ctl_mailbox_specialuse(struct ctl_call *call, struct err *err)
{
        char name[512];
        const struct mbentry *e = find(call, name, err);
        struct arena arena = ARENA_INIT;
        const char *uses;
        int rc;

        if (!e)
                return -1;
        mbentry_unref(&e);
        rc = arg_specialuse(call, name, &arena, &uses, err);
        if (rc == 0 && mboxlist_set_specialuse(store_mboxlist(call->store), name, uses, err) < 0)
                rc = ctl_fail(call, name, err);
        arena_deinit(&arena);
        return rc;
}

int ctl_acl_get(struct ctl_call *call, struct err *err)
{
        char name[512], text[ACL_TEXT_MAX];
        const struct mbentry *e = find(call, name, err);
        const char *pos;
        struct span id;
        uint32_t rights;

        if (!e)
                return -1;
        for (pos = e->acl; pos && acl_next(&pos, &id, &rights);)
                call->row(call, json_pack("{s:s%, s:s}", "identifier", id.p, id.len, "rights", acl_format_rights(text, rights)));
        mbentry_unref(&e);
        return 0;
}

/* cyradm's words, each of which is letters of rights as well. */
static const char *rights_of_word(const char *text)
{
        static const char *const words[][2] = { { "none", "" }, { "read", "lrs" }, { "post", "lrsp" }, { "append", "lrsip" },
                                                { "write", "lrswipkxte" }, { "delete", "lrxte" }, { "all", "lrswipkxtea" } };

        for (size_t i = 0; i < ARRAY_LEN(words); i++)
                if (strcmp(text, words[i][0]) == 0)
                        return words[i][1];
        return text;
}

int ctl_acl_set(struct ctl_call *call, struct err *err)
{
        char name[512];
        const char *id = ctl_arg(call, "identifier"), *text = ctl_arg(call, "rights");
        const struct mbentry *e = find(call, name, err);
        enum acl_mode mode = ACL_SET;
        uint32_t rights;

        if (!e)
                return -1;
        mbentry_unref(&e);
        if (!id || !*id || !text)
                return err_set(err, ERR_SYNTAX, "an identifier and rights are wanted");
        if (*text == '+' || *text == '-')
                mode = *text++ == '+' ? ACL_ADD : ACL_REMOVE;
        if (acl_parse_rights(span_of(rights_of_word(text)), &rights, err) < 0)
                return -1;
        return mboxlist_set_acl(store_mboxlist(call->store), name, id, mode, rights, err) < 0 ? ctl_fail(call, name, err) : 0;
}
