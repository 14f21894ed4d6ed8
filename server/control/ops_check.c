/* ops_check - check reads everything back and changes nothing; reconstruct rebuilds indexes and counters from the logs. */
#include <stdio.h>
#include <string.h>

#include "server/control/ops.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "store/mboxlist.h"

struct walk {
        struct ctl_call *call;
        uint64_t total, mailboxes, messages, octets, problems;
        bool any;                               /* was there such a mailbox? */
        int (*one)(struct walk *w, const struct mbentry *e, const struct mailbox_ident *ident, struct err *err);
};

static void problem_row(struct walk *w, const char *mailbox, uint32_t uid, const char *text)
{
        w->problems++;
        w->call->row(w->call, json_pack("{s:s, s:o, s:I, s:s}", "kind", "problem", "mailbox",
                                        mailbox ? ctl_mailbox_json(w->call, mailbox) : json_string(""), "uid", (json_int_t)uid, "problem",
                                        text));
}

static void on_problem(void *ctx, const char *mailbox, uint32_t uid, const char *text)
{
        problem_row(ctx, mailbox, uid, text);
}

static void on_list_problem(void *ctx, const char *text)
{
        problem_row(ctx, NULL, 0, text);
}

static int check_one(struct walk *w, const struct mbentry *e, const struct mailbox_ident *ident, struct err *err)
{
        struct check_report report = { .problem = on_problem, .ctx = w };

        (void)e;
        if (mailbox_check_files(w->call->store, ident, &report, err) < 0)
                return -1;
        w->messages += report.messages;
        w->octets += report.octets;
        return 0;
}

/* The index is made anew; what is damaged in the log itself is not mended by that, so it is looked for, and told. */
static int reconstruct_one(struct walk *w, const struct mbentry *e, const struct mailbox_ident *ident, struct err *err)
{
        struct mailbox *mbox;
        struct mailbox_status st;

        if (mailbox_reconstruct(w->call->store, ident, err) < 0 || mailbox_open(w->call->store, ident, &mbox, err) < 0)
                return -1;
        mailbox_status(mbox, &st);
        mailbox_unref(&mbox);
        if (check_one(w, e, ident, err) < 0)
                return -1;
        if (!ctl_arg_bool(w->call, "quiet"))
                w->call->row(w->call, json_pack("{s:s, s:o, s:I}", "kind", "mailbox", "mailbox", ctl_mailbox_json(w->call, e->name),
                                                "messages", (json_int_t)st.messages));
        return 0;
}

/* For the progress: mailboxes at and below a name. */
static uint64_t count_below(struct ctl_call *call, const char *prefix)
{
        char after[512] = "";
        uint64_t total = 0;
        unsigned n;

        do {
                const struct mbentry *entries[64];

                n = mboxlist_next(store_mboxlist(call->store), prefix, after, entries, 64);
                for (unsigned i = 0; i < n; i++) {
                        total += entries[i]->type == MBTYPE_NORMAL && !entries[i]->server;
                        snprintf(after, sizeof after, "%s", entries[i]->name);
                        mbentry_unref(&entries[i]);
                }
        } while (n == 64);
        return total;
}

static void visit(struct walk *w, const struct mbentry *e)
{
        struct mailbox_ident ident;
        struct err err = ERR_INIT;

        w->any = true;
        if (e->type != MBTYPE_NORMAL || e->server)
                return;
        if (mbentry_ident(w->call->store, e, &ident, &err) < 0 || w->one(w, e, &ident, &err) < 0)
                problem_row(w, e->name, 0, err.text);
        w->mailboxes++;
        w->call->progress(w->call, w->mailboxes, w->total, "mailboxes");
}

/* Every real mailbox that is `prefix` or below it; "": all. A failure of one is a problem, not the end. */
static void walk_below(struct walk *w, const char *prefix)
{
        char after[512] = "";
        bool more = true;

        while (more && !w->call->cancelled(w->call)) {
                const struct mbentry *entries[32];
                unsigned n = mboxlist_next(store_mboxlist(w->call->store), prefix, after, entries, 32);

                more = n == 32;
                for (unsigned i = 0; i < n; i++) {
                        snprintf(after, sizeof after, "%s", entries[i]->name);
                        visit(w, entries[i]);
                        mbentry_unref(&entries[i]);
                }
        }
}

/* All that is a user's: INBOX, what is below it, and what of these was deleted. */
static int walk_user(struct walk *w, const char *userid, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *roots[2];
        int rc = ctl_user_roots(w->call, userid, &arena, roots, err);

        if (rc == 0) {
                w->total = count_below(w->call, roots[0]) + count_below(w->call, roots[1]);
                walk_below(w, roots[0]);
                walk_below(w, roots[1]);
                if (!w->any)
                        rc = err_set(err, ERR_NOTFOUND, "no mailbox of a user %s", userid);
        }
        arena_deinit(&arena);
        return rc;
}

/* "user": a userid. "mailbox": with what is below it, or "alone". Neither: all. */
static int walk(struct walk *w, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(w->call->store);
        const struct mbentry *e;
        char name[512] = "";

        if (ctl_arg(w->call, "user"))
                return walk_user(w, ctl_arg(w->call, "user"), err);
        if (ctl_arg(w->call, "mailbox") && ctl_arg_mailbox(w->call, "mailbox", name, err) < 0)
                return -1;
        if (name[0] && ctl_arg_bool(w->call, "alone")) {
                w->total = 1;
                e = mboxlist_find(ml, name);
                if (e) {
                        visit(w, e);
                        mbentry_unref(&e);
                }
        } else {
                w->total = name[0] ? count_below(w->call, name) : mboxlist_count(ml);
                walk_below(w, name);
        }
        if (name[0] && !w->any)
                return err_set(err, ERR_NOTFOUND, "no mailbox %s", ctl_arg(w->call, "mailbox"));
        return 0;
}

static int finish(struct walk *w, struct err *err)
{
        w->call->row(w->call, json_pack("{s:s, s:I, s:I, s:I, s:I}", "kind", "summary", "mailboxes", (json_int_t)w->mailboxes, "messages",
                                        (json_int_t)w->messages, "octets", (json_int_t)w->octets, "problems", (json_int_t)w->problems));
        if (w->problems)
                return err_set(err, ERR_CORRUPT, "%llu problem%s", (unsigned long long)w->problems, w->problems == 1 ? "" : "s");
        return 0;
}

/* The list against the partitions' directories, without reading mail. */
int ctl_list_check(struct ctl_call *call, struct err *err)
{
        struct walk w = { .call = call };

        return mboxlist_check(store_mboxlist(call->store), false, on_list_problem, &w, err);
}

int ctl_check(struct ctl_call *call, struct err *err)
{
        struct walk w = { .call = call, .one = check_one };

        if (!ctl_arg(call, "mailbox") && mboxlist_check(store_mboxlist(call->store), false, on_list_problem, &w, err) < 0)
                return -1;
        if (walk(&w, err) < 0)
                return -1;
        return finish(&w, err);
}

int ctl_reconstruct(struct ctl_call *call, struct err *err)
{
        struct walk w = { .call = call, .one = reconstruct_one };

        if (walk(&w, err) < 0)
                return -1;
        return finish(&w, err);
}
