/*
 * CREATE mailbox [(USE (attributes))] (RFC 9051 6.3.4, RFC 6154 3)
 * Whoever has the k right on the nearest mailbox above may create (RFC 4314 4); an admin may everywhere.
 */
#include "server/imap/imap_private.h"
#include "server/metadata.h"
#include "util/array.h"

struct create_state {
        struct imap *imap;
        struct mbox_create what;
        struct span given;                      /* as the client wrote it, without the separator at the end */
        const struct mbentry *made;             /* reference */
        struct err err;
};

static void cleanup(struct imap *imap)
{
        struct create_state *st = imap->cmd.state;

        if (st->made)
                mbentry_unref(&st->made);
}

/* \All and \Flagged in the sense of virtual mailboxes do not exist here; any other known one is only a mark. */
static const char *special_use(struct imap *imap, struct span flag)
{
        return metadata_special_use(imap->conf, flag, &imap->s->arena);
}

/* SP "(" "USE" SP "(" [use-attr *(SP use-attr)] ")" ")". Returns false: the reply was sent. */
static bool parse_use(struct imap *imap, const char **specialuse_r)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct str list = STR_INIT;
        struct span word;
        const char *name;
        bool unknown = false;
        int rc = -1;

        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0 || imap_atom(ip, &word) < 0)
                goto out;
        if (!imap_word_is(word, "USE")) {
                err_set(&ip->err, ERR_SYNTAX, "Unknown CREATE parameter");
                goto out;
        }
        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                goto out;
        while (!imap_peek_c(ip, ')')) {
                if (list.len && imap_sp(ip) < 0)
                        goto out;
                if (imap_flag(ip, &word) < 0)
                        goto out;
                name = special_use(imap, word);
                unknown |= !name;
                str_printf(&list, "%s%s", list.len ? " " : "", name ? name : "?");
                if (list.len > 1000) {
                        err_set(&ip->err, ERR_LIMIT, "Too many attributes");
                        goto out;
                }
        }
        if (imap_close_paren(ip) == 0 && imap_close_paren(ip) == 0)
                rc = imap_end(ip);
out:
        if (rc < 0)
                imap_bad(imap, "%s", ip->err.text);
        else if (unknown)
                imap_no(imap, "USEATTR", "Special use is not supported");
        else if (list.len)
                *specialuse_r = arena_strdup(&imap->s->arena, list.data);
        str_deinit(&list);
        return rc == 0 && !unknown;
}

/* May it be made? Returns false: the reply was sent. */
static bool may_create(struct imap *imap, const char *internal, const char *specialuse)
{
        const struct mbentry *entry;
        struct err err = ERR_INIT;
        uint32_t rights;

        if (mailname_check_new(internal, imap->is_admin, &err) < 0) {
                imap_fail(imap, &err);
                return false;
        }
        entry = imap_look_up(imap, internal, &rights);
        if (entry)
                mbentry_unref(&entry);
        if (rights & ACL_LOOKUP) {
                imap_no(imap, "ALREADYEXISTS", "Mailbox already exists");
                return false;
        }
        if (!imap_may_create(imap, internal)) {
                imap_no(imap, "NOPERM", "Permission denied");
                return false;
        }
        if (specialuse && !mailname_owned_by(internal, imap->userid) && !imap->is_admin) {
                imap_no(imap, "USEATTR", "Special use is for your own mailboxes");
                return false;
        }
        return true;
}

static void job(void *arg)
{
        struct create_state *st = arg;

        mboxlist_create(store_mboxlist(st->imap->store), &st->what, &st->made, &st->err);
}

static enum cmd_result begin(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct namer who = imap_namer(imap);
        struct create_state *st;
        const char *internal, *specialuse = NULL;
        struct err err = ERR_INIT;
        struct span name;

        if (imap_sp(ip) < 0 || imap_astring(ip, &name) < 0)
                return imap_bad(imap, "%s", ip->err.text);
        if (!imap_at_end(ip) && !parse_use(imap, &specialuse))
                return CMD_DONE;
        if (name.len > 1 && name.p[name.len - 1] == namespace_separator(imap->ns))      /* "names below will follow" */
                name.len--;
        if (mailname_internal(&who, name, &imap->s->arena, &internal, &err) < 0)
                return imap_fail(imap, &err);
        if (!may_create(imap, internal, specialuse))
                return CMD_DONE;
        imap->cmd.state = st = ARENA_NEW(&imap->s->arena, struct create_state);
        imap->cmd.cleanup = cleanup;
        st->imap = imap;
        st->given = name;
        st->what.name = imap->cmd.own_names[0] = internal;
        st->what.specialuse = specialuse;
        return imap_offload(imap, OFFLOAD_DB, job, st);
}

/* The name was normalised: an IMAP4rev2 client is told what became of its own (RFC 9051 6.3.4, OLDNAME). */
static void tell_new_name(struct imap *imap, const struct create_state *st)
{
        struct namer who = imap_namer(imap);
        struct str name = STR_INIT;

        mailname_external(&who, st->what.name, &name);
        if (imap->rev2 && !span_eq(str_span(&name), st->given)) {
                imap_put(imap, "* LIST () \"%c\" ", namespace_separator(imap->ns));
                imap_put_astring(imap, str_span(&name));
                imap_put(imap, " (\"OLDNAME\" (");
                imap_put_astring(imap, st->given);
                imap_put(imap, "))\r\n");
        }
        str_deinit(&name);
}

enum cmd_result cmd_create(struct imap *imap)
{
        struct create_state *st = imap->cmd.state;

        if (!st)
                return begin(imap);
        if (st->err.code)
                return imap_fail(imap, &st->err);
        tell_new_name(imap, st);
        return imap_ok(imap, arena_printf(&imap->s->arena, "MAILBOXID (%s)", st->made->uniqueid), "Completed");        /* RFC 8474 4.1 */
}
