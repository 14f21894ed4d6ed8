/* SETACL mailbox identifier [+|-]rights (RFC 4314 3.1) */
#include "server/imap/aclcmd.h"
#include "server/imap/imap_private.h"

static bool parse_rights(struct imap *imap, enum acl_mode *mode_r, uint32_t *rights_r)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct err err = ERR_INIT;
        struct span text;

        if (imap_sp(ip) < 0 || imap_astring(ip, &text) < 0 || imap_end(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        *mode_r = ACL_SET;
        if (text.len && (text.p[0] == '+' || text.p[0] == '-')) {
                *mode_r = text.p[0] == '+' ? ACL_ADD : ACL_REMOVE;
                text.p++, text.len--;
        }
        if (acl_parse_rights(text, rights_r, &err) < 0) {               /* RFC 4314 3.1: unknown rights are BAD */
                imap_bad(imap, "%s", err.text);
                return false;
        }
        return true;
}

static enum cmd_result set(struct imap *imap, const struct mbentry *entry)
{
        const char *identifier;
        enum acl_mode mode;
        uint32_t rights;

        if (!imap_acl_identifier(imap, &identifier) || !parse_rights(imap, &mode, &rights))
                return CMD_DONE;
        if (!imap->is_admin && mode != ACL_REMOVE && rights && strcmp(identifier, "anyone") == 0 &&
            !conf_switch(imap->conf, imap_service(imap), "anyoneuseracl") && mailname_is_user(entry->name))
                return imap_no(imap, "NOPERM", "Rights for anyone are not allowed here");
        return imap_acl_change(imap, entry, identifier, mode, rights);
}

enum cmd_result cmd_setacl(struct imap *imap)
{
        const struct mbentry *entry;
        enum cmd_result r;

        if (imap->cmd.state)
                return imap_acl_change(imap, NULL, NULL, ACL_SET, 0);
        if (!imap->is_admin && !conf_switch(imap->conf, imap_service(imap), "allowsetacl"))
                return imap_no(imap, "NOPERM", "SETACL is not allowed");
        entry = imap_acl_mailbox(imap);
        if (!entry)
                return CMD_DONE;
        r = set(imap, entry);
        mbentry_unref(&entry);
        return r;
}
