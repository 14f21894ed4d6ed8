/*
 * RESETKEY (RFC 4467 7): a new key for one mailbox, or no keys at all; URLs made with the former ones are worthless from then on.
 */
#include "server/imap/urlauth.h"

#include "store/urlkey.h"

struct resetkey_state {
        struct imap *imap;
        const struct mbentry *entry;            /* reference; NULL: all of the user's */
        struct err err;
        bool started;
};

static void cleanup(struct imap *imap)
{
        struct resetkey_state *st = imap->cmd.state;

        mbentry_unref(&st->entry);
}

/* [SP mailbox *(SP mechanism)] */
static bool begin(struct imap *imap)
{
        struct resetkey_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct resetkey_state);
        struct imap_parser *ip = &imap->cmd.args;
        const char *internal;
        struct span mechanism;

        imap->cmd.cleanup = cleanup;
        st->imap = imap;
        if (imap_at_end(ip))
                return true;
        if (imap_sp(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (!imap_arg_mailbox(imap, &internal))
                return false;
        while (!imap_at_end(ip)) {
                if (imap_sp(ip) < 0 || imap_atom(ip, &mechanism) < 0) {
                        imap_bad(imap, "%s", ip->err.text);
                        return false;
                }
                if (!urlauth_is_internal(mechanism)) {
                        imap_no(imap, "CANNOT", "Unknown mechanism; there is %s", URLAUTH_MECHANISMS);
                        return false;
                }
        }
        st->entry = imap_find_mailbox(imap, internal, NULL);
        return st->entry != NULL;
}

static void work(void *arg)
{
        struct resetkey_state *st = arg;

        if (st->entry)
                urlkey_reset(st->imap->store, st->imap->userid, st->entry->uniqueid, &st->err);
        else
                urlkey_remove_all(st->imap->store, st->imap->userid, &st->err);
}

enum cmd_result cmd_resetkey(struct imap *imap)
{
        struct resetkey_state *st;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (!st->started) {
                st->started = true;
                return imap_offload(imap, OFFLOAD_DB, work, st);
        }
        if (st->err.code != ERR_NONE)
                return imap_fail(imap, &st->err);
        if (st->entry && imap->sel && strcmp(imap->sel->entry->uniqueid, st->entry->uniqueid) == 0)     /* the tagged reply says it */
                imap->sel->key_resets = urlkey_resets(imap->store, imap->sel->key_slot);
        return st->entry ? imap_ok(imap, "URLMECH " URLAUTH_MECHANISMS, "Key is reset") : imap_ok(imap, NULL, "All keys removed");
}
