/* ops_metadata - entries of METADATA (RFC 5464), of mailboxes and of the server, by the rules of server/metadata.h. */
#include <string.h>

#include "server/control/ops.h"
#include "server/metadata.h"
#include "store/acl.h"

struct opened {
        struct metadata_target t;
        const struct mbentry *entry;            /* reference; NULL: the server */
        struct mailbox *mbox;                   /* reference */
        char name[512];
};

static void opened_deinit(struct opened *o)
{
        if (o->mbox)
                mailbox_unref(&o->mbox);
        if (o->entry)
                mbentry_unref(&o->entry);
}

/* No mailbox, or "": the server. */
static int target(struct ctl_call *call, struct opened *o, struct err *err)
{
        const char *given = ctl_arg(call, "mailbox"), *user = ctl_arg(call, "user");
        struct mailbox_ident ident;

        memset(o, 0, sizeof *o);
        o->t = (struct metadata_target){ .store = call->store, .conf = call->conf, .userid = user ? user : "" };
        if (!given || !*given)
                return 0;
        if (ctl_arg_mailbox(call, "mailbox", o->name, err) < 0)
                return -1;
        o->entry = mboxlist_find(store_mboxlist(call->store), o->name);
        if (!o->entry)
                return err_set(err, ERR_NOTFOUND, "no mailbox %s", given);
        if (mbentry_ident(call->store, o->entry, &ident, err) < 0 || mailbox_open(call->store, &ident, &o->mbox, err) < 0)
                return -1;
        o->t.entry = o->entry;
        o->t.mbox = o->mbox;
        return 0;
}

/* Octets that JSON cannot have are shown as what Latin-1 makes of them. */
static json_t *value_json(struct span value)
{
        struct str out = STR_INIT;
        json_t *json;

        if (!value.p)
                return json_null();
        json = json_stringn(value.p, value.len);
        for (size_t i = 0; !json && i < value.len; i++) {
                unsigned char c = (unsigned char)value.p[i];

                if (c < 0x80) {
                        str_append_c(&out, (char)c);
                } else {
                        str_append_c(&out, (char)(0xc0 | c >> 6));
                        str_append_c(&out, (char)(0x80 | (c & 0x3f)));
                }
        }
        if (!json)
                json = json_stringn(out.data, out.len);
        str_deinit(&out);
        return json;
}

static void row(struct ctl_call *call, const char *name, struct span value)
{
        call->row(call, json_pack("{s:s, s:o}", "entry", name, "value", value_json(value)));
}

int ctl_metadata_list(struct ctl_call *call, struct err *err)
{
        const char *wanted = ctl_arg(call, "entry"), *name = NULL;
        struct arena arena = ARENA_INIT;
        struct metadata *list;
        struct opened o;
        uint32_t n;
        int rc = target(call, &o, err);

        if (rc == 0 && wanted)
                rc = metadata_name(span_of(wanted), true, &arena, &name, err);
        if (rc == 0)
                rc = metadata_list(&o.t, &arena, &list, &n, err);
        for (uint32_t i = 0; rc == 0 && i < n; i++)
                if (!name || metadata_matches(name, list[i].name, METADATA_DEPTH_0))
                        row(call, list[i].name, list[i].value);
        opened_deinit(&o);
        arena_deinit(&arena);
        return rc;
}

int ctl_metadata_set(struct ctl_call *call, struct err *err)
{
        const char *entry = ctl_arg(call, "entry"), *value = ctl_arg(call, "value");
        struct arena arena = ARENA_INIT;
        struct metadata set = { NULL, { NULL, 0 } };
        struct opened o;
        int rc = target(call, &o, err);

        if (rc == 0 && !entry)
                rc = err_set(err, ERR_SYNTAX, "entry: a name is wanted");
        if (rc == 0)
                rc = metadata_name(span_of(entry), false, &arena, &set.name, err);
        if (rc == 0 && strncmp(set.name, "/private", 8) == 0 && !*o.t.userid && strcmp(set.name, "/private/specialuse") != 0)
                rc = err_set(err, ERR_SYNTAX, "%s: whose? Name the user with -u", set.name);
        if (rc == 0 && value)
                set.value = span_of(value);
        if (rc == 0)
                rc = metadata_check(&o.t, &set, 1, ACL_FULL, true, err);
        if (rc == 0)
                rc = metadata_set(&o.t, &set, 1, err);
        if (rc == 0)
                row(call, set.name, set.value);
        opened_deinit(&o);
        arena_deinit(&arena);
        return rc;
}
