/*
 * ops_readers - who reads which mailbox, and who has subscribed to it (arbitron); what is kept of users who no longer do.
 * Readers are users with a \Seen of their own in a mailbox (store/seen.h): the owner of a mailbox is none of its readers.
 */
#include <stdlib.h>
#include <string.h>

#include "server/control/ops.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/seen.h"
#include "store/user.h"
#include "util/array.h"
#include "util/hash.h"
#include "util/must.h"

struct reported {                               /* a mailbox that is reported */
        char *name;                             /* internal */
        json_t *row;
};

struct readers {
        struct ctl_call *call;
        struct namespace *ns;
        int64_t since, until;
        json_t *patterns;                       /* array of strings; NULL or empty: all */
        ARRAY(struct reported) list;
        struct table *by_name;                  /* internal name → its row */
        struct err err;
        /* the mailbox that is looked at */
        const struct mbentry *entry;
        json_t *found;
        uint64_t pruned;
};

static void begin(struct readers *r, struct ctl_call *call)
{
        json_t *until = json_object_get(call->args, "until");

        *r = (struct readers){ .call = call, .ns = namespace_create(call->conf), .list = ARRAY_INIT, .err = ERR_INIT };
        r->since = json_integer_value(json_object_get(call->args, "since"));
        r->until = until ? json_integer_value(until) : INT64_MAX;
        r->patterns = json_object_get(call->args, "patterns");
        r->by_name = table_create();
}

static void end(struct readers *r)
{
        for (size_t i = 0; i < r->list.n; i++) {
                free(r->list.v[i].name);
                json_decref(r->list.v[i].row);
        }
        ARRAY_FREE(&r->list);
        table_destroy(&r->by_name);
        namespace_unref(&r->ns);
}

/* As an administrator sees it, in modified UTF-7 as Cyrus prints it, or in UTF-8. */
static void external(const struct readers *r, const char *internal, bool utf8, struct str *out)
{
        struct namer admin = { .ns = r->ns, .userid = "", .is_admin = true, .utf8 = utf8 };

        str_clear(out);
        mailname_external(&admin, internal, out);
}

static bool is_wanted(const struct readers *r, const char *internal)
{
        struct str name[2] = { STR_INIT, STR_INIT };
        bool wanted = json_array_size(r->patterns) == 0;
        json_t *pattern;
        size_t i;

        external(r, internal, false, &name[0]);
        external(r, internal, true, &name[1]);
        json_array_foreach(r->patterns, i, pattern) {
                const char *p = json_string_value(pattern);

                wanted = wanted || (p && (mailname_match(name[0].data, span_of(p), namespace_separator(r->ns)) ||
                                          mailname_match(name[1].data, span_of(p), namespace_separator(r->ns))));
        }
        str_deinit(&name[0]);
        str_deinit(&name[1]);
        return wanted;
}

/* All mailboxes that the arguments ask for. fn: 0, or -1 with r->err. */
static int each_mailbox(struct readers *r, int (*fn)(struct readers *r))
{
        struct mboxlist *ml = store_mboxlist(r->call->store);
        uint64_t done = 0, total = mboxlist_count(ml);
        struct str after = STR_INIT;
        const struct mbentry *e;
        int rc = 0;

        while (rc == 0 && !r->call->cancelled(r->call) && mboxlist_next(ml, "", after.data, &e, 1)) {
                str_clear(&after);
                str_append_str(&after, e->name);
                r->entry = e;
                if (e->type == MBTYPE_NORMAL && !e->server &&
                    !mailname_is_deleted(e->name, conf_str(r->call->conf, NULL, "deletedprefix")) && is_wanted(r, e->name))
                        rc = fn(r);
                mbentry_unref(&e);
                r->call->progress(r->call, ++done, total, "mailboxes");
        }
        str_deinit(&after);
        return rc;
}

/* ---- readers and subscribers ---- */

static bool look_at_reader(void *ctx, const char *userid)
{
        struct readers *r = ctx;
        int64_t lastread;

        if (mailname_owned_by(r->entry->name, userid))
                return true;
        if (seen_last_read(r->call->store, r->entry->uniqueid, userid, &lastread, &r->err) < 0)
                return false;
        if (lastread && lastread >= r->since && lastread <= r->until)
                json_array_append_new(r->found, json_string(userid));
        return true;
}

/* A user's mailbox is reported when others read it, a shared one always. */
static int look_at_mailbox(struct readers *r)
{
        struct str name = STR_INIT;

        r->found = json_array();
        if (seen_each_user(r->call->store, r->entry->uniqueid, look_at_reader, r, &r->err) < 0 || r->err.code) {
                json_decref(r->found);
                return -1;
        }
        if (json_array_size(r->found) || !mailname_is_user(r->entry->name)) {
                struct reported *one = ARRAY_PUSH(&r->list);

                external(r, r->entry->name, false, &name);
                one->name = xstrdup(r->entry->name);
                one->row = json_pack("{s:s, s:O, s:[]}", "mailbox", name.data, "readers", r->found, "subscribers");
                must(one->row);
        }
        json_decref(r->found);
        str_deinit(&name);
        return 0;
}

static bool look_at_subscription(void *ctx, const char *userid, const char *name)
{
        struct readers *r = ctx;
        json_t *row = table_find(r->by_name, span_of(name));

        if (row && !mailname_owned_by(name, userid))
                json_array_append_new(json_object_get(row, "subscribers"), json_string(userid));
        return true;
}

int ctl_readers(struct ctl_call *call, struct err *err)
{
        struct readers r;
        int rc;

        begin(&r, call);
        rc = each_mailbox(&r, look_at_mailbox);
        for (size_t i = 0; i < r.list.n; i++)
                table_set(r.by_name, span_of(r.list.v[i].name), r.list.v[i].row);
        if (rc == 0)
                rc = sub_each(call->store, look_at_subscription, &r, &r.err);
        for (size_t i = 0; rc == 0 && i < r.list.n; i++)
                call->row(call, json_incref(r.list.v[i].row));
        if (rc < 0)
                err_copy(err, &r.err);
        end(&r);
        return rc;
}

/* ---- forgetting those who have not been there for long ---- */

static bool prune_reader(void *ctx, const char *userid)
{
        struct readers *r = ctx;
        int64_t lastread;
        bool gone = false;

        if (seen_last_read(r->call->store, r->entry->uniqueid, userid, &lastread, &r->err) < 0 ||
            (lastread < r->since && seen_forget(r->call->store, r->entry->uniqueid, userid, &gone, &r->err) < 0))
                return false;
        r->pruned += gone;
        return true;
}

static int prune_mailbox(struct readers *r)
{
        return seen_each_user(r->call->store, r->entry->uniqueid, prune_reader, r, &r->err) < 0 || r->err.code ? -1 : 0;
}

int ctl_readers_prune(struct ctl_call *call, struct err *err)
{
        struct readers r;
        int rc;

        if (!json_is_integer(json_object_get(call->args, "since")))
                return err_set(err, ERR_SYNTAX, "since: a time is wanted");
        begin(&r, call);
        rc = each_mailbox(&r, prune_mailbox);
        call->row(call, json_pack("{s:I}", "pruned", (json_int_t)r.pruned));
        if (rc < 0)
                err_copy(err, &r.err);
        end(&r);
        return rc;
}

/* ---- an owner's \Seen is the message's flag: what is kept beside it, from times when the mailbox was another's, means nothing ---- */

static int own_mailbox(struct readers *r, bool remove)
{
        struct arena arena = ARENA_INIT;
        const char *owner = mailname_owner(r->entry->name, &arena);
        bool gone;
        int rc = 0;

        if (owner) {
                r->call->row(r->call, json_pack("{s:s, s:s}", "user", owner, "mailbox", r->entry->name));
                rc = remove ? seen_forget(r->call->store, r->entry->uniqueid, owner, &gone, &r->err) : 0;
        }
        arena_deinit(&arena);
        return rc;
}

static int tell_own(struct readers *r)
{
        return own_mailbox(r, false);
}

static int remove_own(struct readers *r)
{
        return own_mailbox(r, true);
}

static int seen_own(struct ctl_call *call, int (*fn)(struct readers *r), struct err *err)
{
        struct readers r;
        int rc;

        begin(&r, call);
        rc = each_mailbox(&r, fn);
        if (rc < 0)
                err_copy(err, &r.err);
        end(&r);
        return rc;
}

int ctl_seen_own(struct ctl_call *call, struct err *err)
{
        return seen_own(call, tell_own, err);
}

int ctl_seen_own_remove(struct ctl_call *call, struct err *err)
{
        return seen_own(call, remove_own, err);
}
