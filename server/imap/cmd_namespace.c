/* NAMESPACE (RFC 9051 6.3.10, RFC 2342) */
#include "server/imap/imap_private.h"

static void put_namespace(struct imap *imap, enum namespace_kind kind)
{
        struct namer who = imap_namer(imap);
        struct str prefix = STR_INIT;

        imap_put(imap, " ");
        if (namespace_prefix(&who, kind, &prefix)) {
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
