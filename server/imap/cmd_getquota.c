/*
 * GETQUOTA root (RFC 9208 4.1.1)
 * For admins, for the owner of what the root is named after, and for whoever may read that mailbox. To all others there is no such root.
 */
#include "server/imap/imap_private.h"
#include "server/imap/quotacmd.h"

struct getquota_state {
        const char *root;
        struct quota_wait wait;
};

static bool may_ask(struct imap *imap, const char *root)
{
        const struct mbentry *entry;
        uint32_t rights;

        if (imap->is_admin || mailname_owned_by(root, imap->userid))
                return true;
        entry = imap_look_up(imap, root, &rights);
        if (entry)
                mbentry_unref(&entry);
        return rights & ACL_READ;
}

static bool begin(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct getquota_state *st;
        const char *root;

        if (imap_sp(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (!imap_arg_mailbox(imap, &root))
                return false;
        if (imap_end(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (!may_ask(imap, root) || !quota_get(imap->store, root, NULL)) {
                imap_no(imap, "NONEXISTENT", "Quota root does not exist");
                return false;
        }
        imap->cmd.state = st = ARENA_NEW(&imap->s->arena, struct getquota_state);
        st->root = root;
        return true;
}

enum cmd_result cmd_getquota(struct imap *imap)
{
        struct getquota_state *st;
        int settled;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        settled = imap_quota_settle(imap, &st->wait, st->root);
        if (settled <= 0)
                return settled == 0 ? CMD_WAIT : CMD_DONE;
        imap_quota_put(imap, st->root);
        return imap_ok(imap, NULL, "Completed");
}
