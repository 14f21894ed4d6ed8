/*
 * ops_load - mailbox.load: make the mailbox list agree with one entry of a dump (ctl_mboxlist -d, ours or a real Cyrus's). A mailbox that
 * is not there is made, with the entry's unique id and uidvalidity; of one that is there the ACL is set. No mail comes with it.
 */
#include <stdlib.h>
#include <string.h>

#include "server/control/ops.h"
#include "store/acl.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "util/must.h"

static const char *text(json_t *entry, const char *key)
{
        const char *s = json_string_value(json_object_get(entry, key));

        return s ? s : "";
}

static int build_acl(json_t *wanted, struct str *acl, struct err *err)
{
        const char *id;
        json_t *value;
        struct str next = STR_INIT;
        uint32_t rights;
        int rc = 0;

        json_object_foreach(wanted, id, value) {
                if (!json_is_string(value))
                        rc = err_set(err, ERR_SYNTAX, "acl: rights of %s: a string is wanted", id);
                else if (acl_parse_rights(span_of(json_string_value(value)), &rights, err) < 0 ||
                         acl_change(acl->data, id, ACL_SET, rights, &next, err) < 0)
                        rc = -1;
                if (rc < 0)
                        break;
                str_clear(acl);
                str_append_span(acl, str_span(&next));
                str_clear(&next);
        }
        str_deinit(&next);
        return rc;
}

/* Identifier by identifier: there is no change of a whole ACL at once, and none is needed for a load that can be run again. */
static int set_acl(struct mboxlist *ml, const struct mbentry *e, const char *wanted, struct err *err)
{
        struct span id, other;
        uint32_t rights, there;
        const char *pos, *at;

        for (pos = e->acl; pos && acl_next(&pos, &id, &rights);) {
                char *name;
                bool keep = false;
                int rc = 0;

                for (at = wanted; acl_next(&at, &other, &there);)
                        keep = keep || span_eq(id, other);
                if (keep)
                        continue;
                name = xstrndup(id.p, id.len);
                rc = mboxlist_set_acl(ml, e->name, name, ACL_SET, 0, err);
                free(name);
                if (rc < 0)
                        return -1;
        }
        for (at = wanted; acl_next(&at, &other, &there);) {
                char *name = xstrndup(other.p, other.len);
                int rc = mboxlist_set_acl(ml, e->name, name, ACL_SET, there, err);

                free(name);
                if (rc < 0)
                        return -1;
        }
        return 0;
}

static bool uniqueid_fits(const char *id)
{
        return strlen(id) == 24 && strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789") == 24;
}

static int make(struct ctl_call *call, const char *name, json_t *entry, const char *acl, struct err *err)
{
        const char *partition = text(entry, "partition"), *id = text(entry, "uniqueid");
        struct mbox_create what = { .name = name, .acl = acl, .partition = *partition ? partition : NULL, .deleted = true };
        const struct mbentry *e = NULL;
        uint64_t uidvalidity = 0;

        if (what.partition && !store_partition_dir(call->store, partition))
                return err_set(err, ERR_NOTFOUND, "there is no partition %s", partition);
        if (*text(entry, "uidvalidity") && !span_u64(span_of(text(entry, "uidvalidity")), UINT32_MAX, &uidvalidity))
                return err_set(err, ERR_SYNTAX, "uidvalidity \"%s\"", text(entry, "uidvalidity"));
        what.uidvalidity = (uint32_t)uidvalidity;
        if (uniqueid_fits(id))                  /* those of older Cyrus are shorter: a new one then */
                what.uniqueid = id;
        if (mboxlist_create(store_mboxlist(call->store), &what, &e, err) < 0)
                return -1;
        mbentry_unref(&e);
        return 0;
}

int ctl_mailbox_load(struct ctl_call *call, struct err *err)
{
        const char *name = ctl_arg(call, "name");
        json_t *entry = json_object_get(call->args, "entry");
        const struct mbentry *e;
        struct str acl = STR_INIT;
        int rc;

        if (!name || !json_is_object(entry))
                return err_set(err, ERR_SYNTAX, "a name and its entry are wanted");
        if (strcmp(text(entry, "mbtype"), "i") == 0)
                return 0;                       /* comes with what is below it */
        if (strpbrk(text(entry, "mbtype"), "rzm"))
                return err_set(err, ERR_UNSUPPORTED, "mailboxes of other servers cannot be loaded");
        if (strlen(name) > MAILNAME_MAX || mailname_check_new(name, true, err) < 0)
                return err->code ? -1 : err_set(err, ERR_BADNAME, "the name is too long");
        rc = build_acl(json_object_get(entry, "acl"), &acl, err);
        e = rc == 0 ? mboxlist_find(store_mboxlist(call->store), name) : NULL;
        if (rc == 0)
                rc = e && e->type == MBTYPE_NORMAL ? set_acl(store_mboxlist(call->store), e, acl.data, err)
                                                   : make(call, name, entry, acl.data, err);
        mbentry_unref(&e);
        str_deinit(&acl);
        return rc;
}
