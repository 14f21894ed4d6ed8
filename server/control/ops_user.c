/* ops_user - users: their mailboxes as a whole. Passwords are saslpasswd2's and saslauthd's business. */
#include <stdio.h>
#include <string.h>

#include "server/control/ops.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/user.h"

/* The canonical user id and its INBOX's internal name, both in the arena. */
static int arg_user(struct ctl_call *call, const char *key, struct arena *arena, const char **userid_r, const char **inbox_r, struct err *err)
{
        const char *given = ctl_arg(call, key);

        if (!given || !*given)
                return err_set(err, ERR_SYNTAX, "%s: a user is wanted", key);
        if (user_canonify(call->store, given, arena, userid_r, err) < 0)
                return -1;
        *inbox_r = mailname_inbox_of(*userid_r, arena);
        return 0;
}

int ctl_user_list(struct ctl_call *call, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(call->store);
        char after[512] = "", owner[512] = "";
        uint64_t mailboxes = 0;
        bool more = true;

        (void)err;
        while (more && !call->cancelled(call)) {
                const struct mbentry *entries[64];
                unsigned n = mboxlist_next(ml, "", after, entries, 64);

                more = n == 64;
                for (unsigned i = 0; i < n; i++) {
                        struct arena arena = ARENA_INIT;
                        const char *user = mailname_owner(entries[i]->name, &arena);

                        if (strcmp(user ? user : "", owner) != 0) {
                                if (owner[0])
                                        call->row(call, json_pack("{s:s, s:I}", "user", owner, "mailboxes", (json_int_t)mailboxes));
                                snprintf(owner, sizeof owner, "%s", user ? user : "");
                                mailboxes = 0;
                        }
                        mailboxes += entries[i]->type == MBTYPE_NORMAL;
                        snprintf(after, sizeof after, "%s", entries[i]->name);
                        arena_deinit(&arena);
                        mbentry_unref(&entries[i]);
                }
        }
        if (owner[0])
                call->row(call, json_pack("{s:s, s:I}", "user", owner, "mailboxes", (json_int_t)mailboxes));
        return 0;
}

static int mailbox_row(struct ctl_call *call, const struct mbentry *e, struct err *err)
{
        struct mailbox_ident ident;
        struct mailbox_status st;
        struct mailbox *mbox;

        if (mbentry_ident(call->store, e, &ident, err) < 0 || mailbox_open(call->store, &ident, &mbox, err) < 0)
                return -1;
        mailbox_status(mbox, &st);
        mailbox_unref(&mbox);
        call->row(call, json_pack("{s:o, s:I, s:I, s:I}", "mailbox", ctl_mailbox_json(call, e->name), "messages", (json_int_t)st.messages,
                                  "unseen", (json_int_t)st.unseen, "octets", (json_int_t)st.size));
        return 0;
}

int ctl_user_info(struct ctl_call *call, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *userid, *inbox;
        char after[512] = "";
        uint64_t seen = 0;
        int rc = arg_user(call, "user", &arena, &userid, &inbox, err);
        unsigned n = 64;

        while (rc == 0 && n == 64 && !call->cancelled(call)) {
                const struct mbentry *entries[64];

                n = mboxlist_next(store_mboxlist(call->store), inbox, after, entries, 64);
                seen += n;
                for (unsigned i = 0; i < n; i++) {
                        if (rc == 0 && entries[i]->type == MBTYPE_NORMAL)
                                rc = mailbox_row(call, entries[i], err);
                        snprintf(after, sizeof after, "%s", entries[i]->name);
                        mbentry_unref(&entries[i]);
                }
        }
        if (rc == 0 && seen == 0)
                rc = err_set(err, ERR_NOTFOUND, "no user %s", userid);
        arena_deinit(&arena);
        return rc;
}

int ctl_user_create(struct ctl_call *call, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *userid, *inbox;
        const struct mbentry *e = NULL;
        struct mbox_create what = { .partition = ctl_arg(call, "partition") };
        int rc = arg_user(call, "user", &arena, &userid, &inbox, err);

        if (rc == 0)
                rc = mailname_check_new(inbox, true, err);
        if (rc == 0) {
                what.name = inbox;
                rc = mboxlist_create(store_mboxlist(call->store), &what, &e, err);
                if (rc < 0)
                        ctl_fail(call, inbox, err);
        }
        if (rc == 0) {
                call->row(call, json_pack("{s:s, s:o}", "user", userid, "mailbox", ctl_mailbox_json(call, inbox)));
                mbentry_unref(&e);
        }
        arena_deinit(&arena);
        return rc;
}

/* What has failed for a user as a whole: he may not be there. */
static int fail(struct ctl_call *call, const char *userid, const char *inbox, struct err *err)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(call->store), inbox);

        if (err->code == ERR_NOTFOUND && !e)
                err_set(err, ERR_NOTFOUND, "no user %s", userid);
        mbentry_unref(&e);
        return ctl_fail(call, inbox, err);
}

int ctl_user_delete(struct ctl_call *call, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *userid, *inbox;
        int rc = arg_user(call, "user", &arena, &userid, &inbox, err);

        if (rc == 0 && mboxlist_delete_tree(store_mboxlist(call->store), inbox, ctl_arg_bool(call, "immediately"), err) < 0)
                rc = fail(call, userid, inbox, err);
        arena_deinit(&arena);
        return rc;
}

int ctl_user_rename(struct ctl_call *call, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *userid, *inbox, *new_id, *new_inbox;
        int rc = arg_user(call, "user", &arena, &userid, &inbox, err);

        if (rc == 0)
                rc = arg_user(call, "to", &arena, &new_id, &new_inbox, err);
        if (rc == 0 && mboxlist_rename(store_mboxlist(call->store), inbox, new_inbox, true, NULL, err) < 0) {
                rc = fail(call, userid, inbox, err);
                ctl_fail(call, new_inbox, err);
        }
        arena_deinit(&arena);
        return rc;
}

int ctl_user_move(struct ctl_call *call, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *userid, *inbox;
        int rc = arg_user(call, "user", &arena, &userid, &inbox, err);

        if (rc == 0 && ctl_move(call, inbox, true, err) < 0)
                rc = fail(call, userid, inbox, err);
        arena_deinit(&arena);
        return rc;
}
