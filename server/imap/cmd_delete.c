/*
 * DELETE mailbox (RFC 9051 6.3.5). One that has others below it is refused, as by Cyrus. Needs the x right (RFC 4314 4). An admin who deletes user/joe
 * deletes the user's whole tree, as with Cyrus; nobody else can, as the x right on an INBOX says nothing about what is below it.
 */
#include "server/imap/imap_private.h"

struct delete_state {
        struct imap *imap;
        const char *name;
        bool tree, immediately, unsubscribe;
        struct err err;
};

static void job(void *arg)
{
        struct delete_state *st = arg;
        struct mboxlist *ml = store_mboxlist(st->imap->store);
        int rc;

        rc = st->tree ? mboxlist_delete_tree(ml, st->name, st->immediately, &st->err)
                      : mboxlist_delete(ml, st->name, st->immediately, &st->err);
        if (rc == 0 && st->unsubscribe)
                sub_set(st->imap->store, st->imap->userid, st->name, false, NULL);
}

bool imap_special_use_protected(struct imap *imap, const struct mbentry *entry)
{
        const char *protected = conf_str(imap->conf, imap_service(imap), "specialuse_protect");
        struct span rest = span_of(entry->specialuse ? entry->specialuse : "");

        while (rest.len) {
                size_t n = span_index(rest, ' ');

                if (n && conf_words_have(protected, arena_strndup(&imap->s->arena, rest.p, n)))
                        return true;
                n += n < rest.len;
                rest = (struct span){ rest.p + n, rest.len - n };
        }
        return false;
}

/* Is there a mailbox below that this user knows of? What he may not look up he is not told of: then the name stays, as one that only
 * holds others. A bounded look. */
static bool has_children(struct imap *imap, const char *internal)
{
        const struct mbentry *entries[64];
        const char *after = internal;
        bool found = false;

        for (unsigned round = 0; round < 64 && !found; round++) {
                unsigned n = mboxlist_next(store_mboxlist(imap->store), internal, after, entries, 64);

                if (!n)
                        break;
                after = arena_strdup(&imap->s->arena, entries[n - 1]->name);
                for (unsigned i = 0; i < n; i++) {
                        found |= entries[i]->type != MBTYPE_INTERMEDIATE && !imap_name_hidden(imap, entries[i]->name) &&
                                 (imap_rights(imap, entries[i]) & ACL_LOOKUP);
                        mbentry_unref(&entries[i]);
                }
        }
        return found;
}

static enum cmd_result begin(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        const char *prefix = conf_str(imap->conf, NULL, "deletedprefix");
        const struct mbentry *entry;
        struct delete_state *st;
        const char *internal;
        uint32_t rights;
        bool keep, purge;

        if (imap_sp(ip) < 0)
                return imap_bad(imap, "%s", ip->err.text);
        if (!imap_arg_mailbox(imap, &internal))
                return CMD_DONE;
        if (imap_end(ip) < 0)
                return imap_bad(imap, "%s", ip->err.text);
        if (mailname_is_inbox(internal) && mailname_owned_by(internal, imap->userid))
                return imap_no(imap, "CANNOT", "INBOX cannot be deleted");
        /* What is deleted already, admins take away for good: no right is asked for, as with Cyrus. */
        purge = imap->is_admin && prefix && mailname_is_deleted(internal, prefix);
        entry = purge ? imap_look_up(imap, internal, &rights) : imap_find_mailbox(imap, internal, NULL);
        if (!entry)
                return purge ? imap_refuse_mailbox(imap, internal, rights) : CMD_DONE;
        keep = !imap->is_admin && imap_special_use_protected(imap, entry);
        mbentry_unref(&entry);
        if (mailname_is_inbox(internal) && !imap->is_admin)
                return imap_no(imap, "NOPERM", "Permission denied");
        if (keep)
                return imap_no(imap, "CANNOT", "Mailbox with a special use is protected");
        if (!mailname_is_inbox(internal) && has_children(imap, internal))
                return imap_no(imap, "HASCHILDREN", "There are mailboxes below it");
        imap->cmd.state = st = ARENA_NEW(&imap->s->arena, struct delete_state);
        st->imap = imap;
        st->name = imap->cmd.own_names[0] = internal;
        st->tree = mailname_is_inbox(internal);
        st->immediately = strcmp(conf_enum(imap->conf, NULL, "delete_mode"), "immediate") == 0 || purge;
        st->unsubscribe = conf_switch(imap->conf, NULL, "delete_unsubscribe") && mailname_owned_by(internal, imap->userid);
        return imap_offload(imap, OFFLOAD_DB, job, st);
}

enum cmd_result cmd_delete(struct imap *imap)
{
        struct delete_state *st = imap->cmd.state;

        if (!st)
                return begin(imap);
        if (st->err.code)
                return imap_fail(imap, &st->err);
        if (imap_normalised(imap, st->name, imap->cmd.given))   /* RFC 9051 6.3.5 */
                imap_put_list_oldname(imap, "\\NonExistent", st->name, imap->cmd.given);
        return imap_ok(imap, NULL, "Completed");
}
