/* GETACL mailbox (RFC 4314 3.3) */
#include "server/imap/aclcmd.h"
#include "server/imap/imap_private.h"

enum cmd_result cmd_getacl(struct imap *imap)
{
        const struct mbentry *entry = imap_acl_mailbox(imap);
        char text[ACL_TEXT_MAX];
        struct span identifier;
        const char *pos;
        uint32_t rights;

        if (!entry)
                return CMD_DONE;
        if (imap_end(&imap->cmd.args) < 0) {
                mbentry_unref(&entry);
                return imap_bad(imap, "%s", imap->cmd.args.err.text);
        }
        imap_put(imap, "* ACL ");
        imap_put_mailbox(imap, entry->name);
        pos = entry->acl;
        while (acl_next(&pos, &identifier, &rights)) {
                imap_put(imap, " ");
                imap_put_astring(imap, identifier);
                imap_put(imap, " ");
                imap_put_astring(imap, span_of(acl_format_rights(text, rights)));
        }
        imap_put(imap, "\r\n");
        mbentry_unref(&entry);
        return imap_ok(imap, NULL, "Completed");
}
