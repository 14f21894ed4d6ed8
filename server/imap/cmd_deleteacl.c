/* DELETEACL mailbox identifier (RFC 4314 3.2) */
#include "server/imap/aclcmd.h"
#include "server/imap/imap_private.h"

enum cmd_result cmd_deleteacl(struct imap *imap)
{
        const struct mbentry *entry;
        const char *identifier;
        enum cmd_result r = CMD_DONE;

        if (imap->cmd.state)
                return imap_acl_change(imap, NULL, NULL, ACL_SET, 0);
        if (!imap->is_admin && !conf_switch(imap->conf, imap_service(imap), "allowsetacl"))
                return imap_no(imap, "NOPERM", "DELETEACL is not allowed");
        entry = imap_acl_mailbox(imap);
        if (!entry)
                return CMD_DONE;
        if (imap_acl_identifier(imap, &identifier)) {
                if (imap_end(&imap->cmd.args) < 0)
                        r = imap_bad(imap, "%s", imap->cmd.args.err.text);
                else
                        r = imap_acl_change(imap, entry, identifier, ACL_SET, 0);
        }
        mbentry_unref(&entry);
        return r;
}
