/* NAMESPACE (RFC 9051 6.3.10, RFC 2342) */
#include "server/imap/imap_private.h"

/* As Cyrus: who has no INBOX has no personal namespace either. */
static bool has_inbox(struct imap *imap)
{
        const struct mbentry *entry = mboxlist_find(store_mboxlist(imap->store), mailname_inbox_of(imap->userid, &imap->s->arena));
        bool has = entry && entry->type != MBTYPE_INTERMEDIATE;

        mbentry_unref(&entry);
        return has;
}

static void put_namespace(struct imap *imap, enum namespace_kind kind)
{
        struct namer who = imap_namer(imap);
        struct str prefix = STR_INIT;

        imap_put(imap, " ");
        if ((kind != NAMESPACE_PERSONAL || has_inbox(imap)) && namespace_prefix(&who, kind, &prefix)) {
                imap_put(imap, "((");
                imap_put_string(imap, str_span(&prefix));
                imap_put(imap, " \"%c\"))", namespace_separator(imap->ns));
        } else {
                imap_put(imap, "NIL");
        }
        str_deinit(&prefix);
}

enum cmd_result cmd_namespace(struct imap *imap)
{
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        imap_put(imap, "* NAMESPACE");
        put_namespace(imap, NAMESPACE_PERSONAL);
        put_namespace(imap, NAMESPACE_OTHER_USERS);
        put_namespace(imap, NAMESPACE_SHARED);
        imap_put(imap, "\r\n");
        return imap_ok(imap, NULL, "Completed");
}
