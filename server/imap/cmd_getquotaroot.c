/*
 * GETQUOTAROOT mailbox (RFC 9208 4.1.2)
 * Needs the r right (6), or being an admin. A mailbox that does not exist is answered for who could make it: with the root that it would
 * get.
 */
#include "server/imap/imap_private.h"
#include "server/imap/quotacmd.h"

struct getquotaroot_state {
        const char *mailbox, *root;             /* root NULL: none */
        struct quota_wait wait;
};

static bool may_ask(struct imap *imap, const char *mailbox)
{
        const struct mbentry *entry;
        uint32_t rights;

        entry = imap_look_up(imap, mailbox, &rights);
        if (entry)
                mbentry_unref(&entry);
        if (imap_allows(imap, rights) || (!(rights & ACL_LOOKUP) && imap_may_create(imap, mailbox)))
                return true;
        imap_refuse_mailbox(imap, mailbox, rights);
        return false;
}

static bool begin(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct getquotaroot_state *st;
        struct str root = STR_INIT;
        const char *mailbox;

        if (imap_sp(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (!imap_arg_mailbox(imap, &mailbox))
                return false;
        if (imap_end(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (!may_ask(imap, mailbox))
                return false;
        imap->cmd.state = st = ARENA_NEW(&imap->s->arena, struct getquotaroot_state);
        st->mailbox = mailbox;
        if (quota_root_of(imap->store, mailbox, &root))
                st->root = arena_strdup(&imap->s->arena, root.data);
        str_deinit(&root);
        return true;
}

enum cmd_result cmd_getquotaroot(struct imap *imap)
{
        struct getquotaroot_state *st;
        int settled;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        settled = st->root ? imap_quota_settle(imap, &st->wait, st->root) : 1;
        if (settled <= 0)
                return settled == 0 ? CMD_WAIT : CMD_DONE;
        imap_put(imap, "* QUOTAROOT ");
        imap_put_mailbox(imap, st->mailbox);
        if (st->root) {
                imap_put(imap, " ");
                imap_put_mailbox(imap, st->root);
        }
        imap_put(imap, "\r\n");
        if (st->root)
                imap_quota_put(imap, st->root);
        return imap_ok(imap, NULL, "Completed");
}
