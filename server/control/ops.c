/* ops - see ops.h: the table, and what operations share. */
#include "server/control/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/mailname.h"
#include "store/user.h"
#include "util/array.h"
#include "util/must.h"

static const struct ctl_op ops[] = {            /* sorted, for bsearch() */
        { "acl.get", ctl_acl_get, CTL_READS },
        { "acl.set", ctl_acl_set, 0 },
        { "check", ctl_check, CTL_READS },
        { "config", ctl_config, CTL_NO_STORE | CTL_READS },
        { "df", ctl_df, CTL_NO_STORE | CTL_READS },
        { "expire", ctl_expire, 0 },
        { "expunged.list", ctl_expunged_list, CTL_READS },
        { "expunged.restore", ctl_expunged_restore, 0 },
        { "handover", ctl_handover, CTL_NEEDS_DAEMON | CTL_QUICK | CTL_QUIET },
        { "info", ctl_info, CTL_NO_STORE | CTL_READS },
        { "list", ctl_list, CTL_READS },
        { "list.check", ctl_list_check, CTL_READS },
        { "mailbox.create", ctl_mailbox_create, 0 },
        { "mailbox.delete", ctl_mailbox_delete, 0 },
        { "mailbox.entry", ctl_mailbox_entry, CTL_READS },
        { "mailbox.info", ctl_mailbox_info, CTL_READS },
        { "mailbox.load", ctl_mailbox_load, 0 },
        { "mailbox.move", ctl_mailbox_move, 0 },
        { "mailbox.rename", ctl_mailbox_rename, 0 },
        { "mailbox.specialuse", ctl_mailbox_specialuse, 0 },
        { "message.append", ctl_message_append, CTL_QUIET },
        { "message.guids", ctl_message_guids, CTL_READS },
        { "message.purge", ctl_message_purge, 0 },
        { "message.read", ctl_message_read, CTL_READS },
        { "metadata.list", ctl_metadata_list, CTL_READS },
        { "metadata.set", ctl_metadata_set, 0 },
        { "metrics", ctl_metrics, CTL_NEEDS_DAEMON | CTL_READS },
        { "quota.delete", ctl_quota_delete, 0 },
        { "quota.fix", ctl_quota_fix, 0 },
        { "quota.list", ctl_quota_list, CTL_READS },
        { "quota.set", ctl_quota_set, 0 },
        { "readers", ctl_readers, CTL_READS },
        { "readers.prune", ctl_readers_prune, 0 },
        { "reconstruct", ctl_reconstruct, 0 },
        { "seen.own", ctl_seen_own, CTL_READS },
        { "seen.own.remove", ctl_seen_own_remove, 0 },
        { "sessions", ctl_sessions, CTL_NEEDS_DAEMON | CTL_READS },
        { "sessions.kick", ctl_sessions_kick, CTL_NEEDS_DAEMON },
        { "status", ctl_status, CTL_READS },
        { "temporary.end", ctl_temporary_end, CTL_NEEDS_DAEMON | CTL_QUICK },
        { "top", ctl_top, CTL_NEEDS_DAEMON | CTL_READS },
        { "trace.list", ctl_trace_list, CTL_READS },
        { "trace.off", ctl_trace_off, 0 },
        { "trace.on", ctl_trace_on, 0 },
        { "user.create", ctl_user_create, 0 },
        { "user.delete", ctl_user_delete, 0 },
        { "user.info", ctl_user_info, CTL_READS },
        { "user.list", ctl_user_list, CTL_READS },
        { "user.move", ctl_user_move, 0 },
        { "user.rename", ctl_user_rename, 0 },
};

static int compare_op(const void *name, const void *op)
{
        return strcmp(name, ((const struct ctl_op *)op)->name);
}

const struct ctl_op *ctl_op_table(size_t *n_r)
{
        *n_r = ARRAY_LEN(ops);
        return ops;
}

/* Of layers above; set before threads start. */
#define ADDED_MAX 4
static struct { const struct ctl_op *ops; size_t n; } added[ADDED_MAX];

void ctl_ops_add(const struct ctl_op *more, size_t n)
{
        size_t i = 0;

        while (i < ADDED_MAX && added[i].ops)
                i++;
        must(i < ADDED_MAX);
        added[i].ops = more;
        added[i].n = n;
}

const struct ctl_op *ctl_ops_added(size_t i, size_t *n_r)
{
        if (i >= ADDED_MAX || !added[i].ops)
                return NULL;
        *n_r = added[i].n;
        return added[i].ops;
}

const struct ctl_op *ctl_op_find(const char *name)
{
        const struct ctl_op *op = bsearch(name, ops, ARRAY_LEN(ops), sizeof ops[0], compare_op);

        for (size_t i = 0; !op && i < ADDED_MAX && added[i].ops; i++)
                for (size_t k = 0; !op && k < added[i].n; k++)
                        op = strcmp(added[i].ops[k].name, name) == 0 ? &added[i].ops[k] : NULL;
        return op;
}

const char *ctl_arg(struct ctl_call *call, const char *key)
{
        return json_string_value(json_object_get(call->args, key));
}

bool ctl_arg_bool(struct ctl_call *call, const char *key)
{
        return json_is_true(json_object_get(call->args, key));
}

int ctl_arg_mailbox(struct ctl_call *call, const char *key, char buf[512], struct err *err)
{
        const char *given = ctl_arg(call, key), *internal;
        struct arena arena = ARENA_INIT;
        struct namespace *ns;
        struct namer admin = { .userid = "", .is_admin = true, .utf8 = true };
        int rc;

        if (!given || !*given)
                return err_set(err, ERR_SYNTAX, "%s: a mailbox name is wanted", key);
        ns = namespace_create(call->conf);
        admin.ns = ns;
        rc = mailname_internal(&admin, span_of(given), &arena, &internal, err);
        if (rc == 0)
                snprintf(buf, 512, "%s", internal);
        arena_deinit(&arena);
        namespace_unref(&ns);
        return rc;
}

int ctl_user_roots(struct ctl_call *call, const char *given, struct arena *arena, const char *roots_r[2], struct err *err)
{
        const char *prefix = conf_str(call->conf, NULL, "deletedprefix"), *userid, *inbox, *bang;

        if (user_canonify(call->store, given, arena, &userid, err) < 0)
                return -1;
        inbox = mailname_inbox_of(userid, arena);
        bang = strchr(inbox, '!');
        roots_r[0] = inbox;
        roots_r[1] = arena_printf(arena, "%.*s%s.%s", bang ? (int)(bang + 1 - inbox) : 0, inbox, prefix, bang ? bang + 1 : inbox);
        return 0;
}

json_t *ctl_mailbox_json(struct ctl_call *call, const char *internal)
{
        struct namespace *ns = namespace_create(call->conf);
        struct namer admin = { .ns = ns, .userid = "", .is_admin = true, .utf8 = true };
        struct str out = STR_INIT;
        json_t *json;

        mailname_external(&admin, internal, &out);
        json = json_string(out.data);
        if (!json)
                json = json_string(internal);
        str_deinit(&out);
        namespace_unref(&ns);
        return json;
}

/* How long is the name at p, that begins with `len` octets? What is below it is a mailbox, which may have blanks in its name; else a word. */
static size_t name_length(struct ctl_call *call, const char *p, size_t len)
{
        size_t word = len + strcspn(p + len, " ");

        if (p[len] != '.')
                return len;
        for (size_t n = strlen(p); n > len; n--) {
                const struct mbentry *e = NULL;
                struct arena arena = ARENA_INIT;

                if (p[n] == '\0' || p[n] == ' ')
                        e = mboxlist_find(store_mboxlist(call->store), arena_strndup(&arena, p, n));
                arena_deinit(&arena);
                if (e) {
                        mbentry_unref(&e);
                        return n;
                }
        }
        return word;
}

int ctl_fail(struct ctl_call *call, const char *internal, struct err *err)
{
        size_t len = strlen(internal), n;
        struct str text = STR_INIT;
        json_t *name;
        char *inside;

        for (char *p = err->text; (p = strstr(p, internal)) != NULL; p += len) {
                if ((p > err->text && p[-1] != ' ') || (p[len] && p[len] != ' ' && p[len] != '.'))
                        continue;
                n = name_length(call, p, len);
                inside = xstrndup(p, n);
                name = ctl_mailbox_json(call, inside);
                str_append(&text, err->text, (size_t)(p - err->text));
                str_append_str(&text, name ? json_string_value(name) : inside);
                str_append_str(&text, p + n);
                err_set(err, err->code, "%s", text.data);
                json_decref(name);
                free(inside);
                break;
        }
        str_deinit(&text);
        return -1;
}

int ctl_mailbox_open(struct ctl_call *call, const struct mbentry *e, struct mailbox **mbox_r, struct err *err)
{
        struct mailbox_ident ident;

        if (mbentry_ident(call->store, e, &ident, err) < 0)
                return -1;
        return mailbox_open(call->store, &ident, mbox_r, err);
}
