/* aclcmd - see aclcmd.h */
#include "server/imap/aclcmd.h"

#include "server/imap/imap_private.h"

struct change {
        struct imap *imap;
        const char *name, *identifier;
        enum acl_mode mode;
        uint32_t rights;
        struct err err;
};

const struct mbentry *imap_acl_mailbox(struct imap *imap)
{
        const char *internal;

        if (imap_sp(&imap->cmd.args) < 0) {
                imap_bad(imap, "%s", imap->cmd.args.err.text);
                return NULL;
        }
        return imap_arg_mailbox(imap, &internal) ? imap_find_mailbox(imap, internal, NULL) : NULL;
}

bool imap_acl_identifier(struct imap *imap, const char **identifier_r)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct span s, name;
        struct err err = ERR_INIT;

        if (imap_sp(ip) < 0 || imap_astring(ip, &s) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        name = s;
        if (name.len && name.p[0] == '-')               /* negative rights */
                name.p++, name.len--;
        if (!name.len || s.len > ACL_IDENTIFIER_MAX || !utf8_valid(s)) {
                imap_bad(imap, "Invalid identifier");
                return false;
        }
        for (size_t i = 0; i < s.len; i++)
                if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f) {
                        imap_bad(imap, "Invalid identifier");
                        return false;
                }
        if (span_eq_str(name, "anyone") || span_eq_str(name, "anonymous") || span_istarts(name, "group:")) {
                *identifier_r = arena_strndup(&imap->s->arena, s.p, s.len);
                return true;
        }
        if (user_canonify(imap->store, arena_strndup(&imap->s->arena, name.p, name.len), &imap->s->arena, identifier_r, &err) < 0) {
                imap_no(imap, "CANNOT", "Invalid identifier");
                return false;
        }
        if (name.len < s.len)
                *identifier_r = arena_printf(&imap->s->arena, "-%s", *identifier_r);
        return true;
}

static void job(void *arg)
{
        struct change *ch = arg;

        mboxlist_set_acl(store_mboxlist(ch->imap->store), ch->name, ch->identifier, (int)ch->mode, ch->rights, &ch->err);
}

enum cmd_result imap_acl_change(struct imap *imap, const struct mbentry *entry, const char *identifier, enum acl_mode mode, uint32_t rights)
{
        struct change *ch = imap->cmd.state;

        if (ch)
                return ch->err.code ? imap_fail(imap, &ch->err) : imap_ok(imap, NULL, "Completed");
        /* Others may shorten the owner's rights; he himself would not know how to get a lost one back. */
        if (!imap->is_admin && mailname_owned_by(entry->name, identifier) && (imap->owner_rights & ACL_ADMIN) &&
            ((mode == ACL_SET && !(rights & ACL_ADMIN)) || (mode == ACL_REMOVE && (rights & ACL_ADMIN))))
                return imap_no(imap, "NOPERM", "You cannot take the right a from yourself");
        imap->cmd.state = ch = ARENA_NEW(&imap->s->arena, struct change);
        ch->imap = imap;
        ch->name = imap->cmd.own_names[0] = arena_strdup(&imap->s->arena, entry->name);
        ch->identifier = identifier;
        ch->mode = mode;
        ch->rights = rights;
        return imap_offload(imap, OFFLOAD_DB, job, ch);
}
