/* STATUS mailbox (items) (RFC 9051 6.3.11) */
#include "server/imap/imap_private.h"
#include "server/imap/status.h"

struct status_state {
        unsigned items;
        const struct mbentry *entry;
        struct imap_open open;
};

static void cleanup(struct imap *imap)
{
        struct status_state *st = imap->cmd.state;

        imap_open_release(&st->open);
        mbentry_unref(&st->entry);
}

static bool begin(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct status_state *st;
        const struct mbentry *entry;
        const char *internal;
        unsigned items;

        if (imap_sp(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (!imap_arg_mailbox(imap, &internal))
                return false;
        if (imap_sp(ip) < 0 || !(items = imap_status_parse(ip)) || imap_end(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        entry = imap_find_mailbox(imap, internal, NULL);
        if (!entry)
                return false;
        imap->cmd.state = st = ARENA_NEW(&imap->s->arena, struct status_state);
        imap->cmd.cleanup = cleanup;
        st->items = items;
        st->entry = entry;
        return true;
}

enum cmd_result cmd_status(struct imap *imap)
{
        struct status_state *st;
        struct mailbox *mbox = NULL;
        struct err err = ERR_INIT;
        int rc;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        rc = imap_open_mailbox(imap, &st->open, st->entry, &mbox, &err);
        if (rc == 0)
                return CMD_WAIT;
        if (rc < 0)
                return imap_fail(imap, &err);
        imap_status_asked(imap, st->items);
        imap_status_put(imap, st->entry->name, mbox, st->items);
        mailbox_unref(&mbox);
        return imap_ok(imap, NULL, "Completed");
}
