/*
 * SETMETADATA mailbox (entry value …) (RFC 5464 4.3): all of them or none. Values may be atoms, too: a Cyrus frontend sends them so. Runs off
 * the worker, as what it changes is in several places and each is waited for.
 */
#include "server/imap/imap_private.h"
#include "server/imap/metadata.h"

struct set_state {
        struct metadata_setting what;
        const char *internal;                   /* "": the server */
};

static void cleanup(struct imap *imap)
{
        struct set_state *st = imap->cmd.state;

        if (st->what.entry)
                mbentry_unref(&st->what.entry);
}

static int parse_entries(struct imap *imap, struct set_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct span entry;

        st->what.set = ARENA_ARRAY(&imap->s->arena, struct metadata, METADATA_ENTRIES_MAX);
        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                struct metadata *m = &st->what.set[st->what.n];

                if (st->what.n == METADATA_ENTRIES_MAX)
                        return err_set(&ip->err, ERR_LIMIT, "Too many entries");
                if (imap_astring(ip, &entry) < 0 || metadata_name(entry, false, &imap->s->arena, &m->name, &ip->err) < 0 || imap_sp(ip) < 0 ||
                    imap_metadata_value(ip, &m->value) < 0)
                        return -1;
                st->what.n++;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip) < 0 ? -1 : imap_end(ip);
}

static bool parse(struct imap *imap, struct set_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;

        if (imap_sp(ip) < 0)
                goto bad;
        if (ip->end - ip->p >= 2 && ip->p[0] == '"' && ip->p[1] == '"') {
                ip->p += 2;
                st->internal = "";
        } else if (!imap_arg_mailbox(imap, &st->internal)) {
                return false;
        }
        if (imap_sp(ip) < 0 || parse_entries(imap, st) < 0)
                goto bad;
        return true;
bad:
        imap_bad(imap, "%s", ip->err.text);
        return false;
}

static enum cmd_result begin(struct imap *imap)
{
        struct set_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct set_state);

        st->what.imap = imap;
        imap->cmd.cleanup = cleanup;
        if (!parse(imap, st))
                return CMD_DONE;
        imap->cmd.own_names[0] = st->internal;
        if (*st->internal) {
                st->what.entry = imap_find_mailbox(imap, st->internal, &st->what.rights);
                if (!st->what.entry)
                        return CMD_DONE;
        }
        return imap_offload(imap, OFFLOAD_DB, imap_metadata_set_job, &st->what);
}

enum cmd_result cmd_setmetadata(struct imap *imap)
{
        struct set_state *st = imap->cmd.state;

        if (!st)
                return begin(imap);
        return st->what.err.code ? imap_metadata_set_failed(imap, &st->what) : imap_ok(imap, NULL, "Completed");
}
