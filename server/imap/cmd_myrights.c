/* MYRIGHTS mailbox (RFC 4314 3.5): for whoever has any of l r i k x a on it. */
#include "server/imap/imap_private.h"

enum cmd_result cmd_myrights(struct imap *imap)
{
        const struct mbentry *entry;
        char text[ACL_TEXT_MAX];
        const char *internal;
        uint32_t rights;

        if (imap_sp(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        if (!imap_arg_mailbox(imap, &internal))
                return CMD_DONE;
        if (imap_end(&imap->cmd.args) < 0)
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        entry = imap_look_up(imap, internal, &rights);
        if (entry)
                mbentry_unref(&entry);
        if (!imap_allows(imap, rights))
                return imap_refuse_mailbox(imap, internal, rights);
        imap_put(imap, "* MYRIGHTS ");
        imap_put_mailbox(imap, internal);
        imap_put(imap, " ");
        imap_put_astring(imap, span_of(acl_format_rights(text, rights)));
        imap_put(imap, "\r\n");
        return imap_ok(imap, NULL, "Completed");
}
