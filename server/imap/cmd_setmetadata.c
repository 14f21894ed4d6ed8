/*
 * SETMETADATA mailbox (entry value …) (RFC 5464 4.3): all of them or none. Values may be atoms, too: a Cyrus frontend sends them so. Runs off
 * the worker, as what it changes is in several places and each is waited for.
 */
#include <stdio.h>

#include "server/imap/imap_private.h"
#include "server/imap/metadata.h"
#include "store/annot.h"

struct set_state {
        struct imap *imap;
        const char *internal;                   /* "": the server */
        struct metadata *set;
        uint32_t n, rights;
        const struct mbentry *entry;            /* reference */
        enum { CHECKING, SETTING } at;
        struct err err;
};

static void cleanup(struct imap *imap)
{
        struct set_state *st = imap->cmd.state;

        if (st->entry)
                mbentry_unref(&st->entry);
}

static int parse_value(struct imap_parser *ip, struct span *value_r)
{
        bool literal8 = imap_skip_c(ip, '~');

        if (literal8 || imap_peek_c(ip, '"') || imap_peek_c(ip, '{')) {
                if (imap_string(ip, value_r) < 0)
                        return -1;
                if (!value_r->p)
                        *value_r = SPAN("");                    /* empty, not absent */
                return 0;
        }
        if (imap_atom(ip, value_r) < 0)
                return -1;
        if (imap_word_is(*value_r, "NIL"))
                *value_r = (struct span){ NULL, 0 };
        return 0;
}

static int parse_entries(struct imap *imap, struct set_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct span entry;

        st->set = ARENA_ARRAY(&imap->s->arena, struct metadata, METADATA_ENTRIES_MAX);
        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                struct metadata *m = &st->set[st->n];

                if (st->n == METADATA_ENTRIES_MAX)
                        return err_set(&ip->err, ERR_LIMIT, "Too many entries");
                if (imap_astring(ip, &entry) < 0 || metadata_name(entry, false, &imap->s->arena, &m->name, &ip->err) < 0 || imap_sp(ip) < 0 ||
                    parse_value(ip, &m->value) < 0)
                        return -1;
                st->n++;
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

static void set_job(void *arg)
{
        struct set_state *st = arg;
        struct imap *imap = st->imap;
        struct metadata_target t = { .store = imap->store, .conf = imap->conf, .userid = imap->userid, .entry = st->entry };
        struct mailbox_ident ident;

        bool is_admin = imap->is_admin && (st->entry || !mailname_userid_has_domain(imap->userid));     /* the server is more than his domain */

        if (metadata_check(&t, st->set, st->n, st->rights, is_admin, &st->err) < 0)
                return;
        st->at = SETTING;
        if (t.entry && (mbentry_ident(imap->store, t.entry, &ident, &st->err) < 0 ||
                        mailbox_open(imap->store, &ident, &t.mbox, &st->err) < 0))
                return;
        metadata_set(&t, st->set, st->n, &st->err);
        if (t.mbox)
                mailbox_unref(&t.mbox);
}

static enum cmd_result begin(struct imap *imap)
{
        struct set_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct set_state);

        st->imap = imap;
        imap->cmd.cleanup = cleanup;
        if (!parse(imap, st))
                return CMD_DONE;
        imap->cmd.own_names[0] = st->internal;
        if (*st->internal) {
                st->entry = imap_find_mailbox(imap, st->internal, &st->rights);
                if (!st->entry)
                        return CMD_DONE;
        }
        return imap_offload(imap, OFFLOAD_DB, set_job, st);
}

/* Response codes of RFC 5464 4.3. */
static enum cmd_result fail(struct imap *imap, const struct set_state *st)
{
        const struct err *err = &st->err;
        char code[48];

        if (st->at == SETTING)
                return err->code == ERR_LIMIT ? imap_no(imap, "METADATA TOOMANY", "Too many annotations") : imap_fail(imap, err);
        switch (err->code) {
        case ERR_LIMIT:
                snprintf(code, sizeof code, "METADATA MAXSIZE %d", ANNOT_VALUE_MAX);
                return imap_no(imap, code, "The value is too large");
        case ERR_PERM:
                return imap_no(imap, "NOPERM", "%s", err->text);
        case ERR_SYNTAX:
        case ERR_BADNAME:
                return imap_no(imap, "CANNOT", "%s", err->text);
        default:
                return imap_fail(imap, err);
        }
}

enum cmd_result cmd_setmetadata(struct imap *imap)
{
        struct set_state *st = imap->cmd.state;

        if (!st)
                return begin(imap);
        return st->err.code ? fail(imap, st) : imap_ok(imap, NULL, "Completed");
}
