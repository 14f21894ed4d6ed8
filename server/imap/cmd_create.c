/*
 * CREATE mailbox [(USE (attributes) PARTITION name)] (RFC 9051 6.3.4, RFC 4466 2.2, RFC 6154 3); CREATE mailbox partition, as cyradm says it.
 * Missing names above become mailboxes too. Whoever has the k right on the nearest mailbox above may create (RFC 4314 4); an admin may
 * everywhere, and choose the partition.
 */
#include "server/imap/imap_private.h"
#include "store/specialuse.h"

struct create_state {
        struct imap *imap;
        struct mbox_create what;
        struct span given;                      /* as the client wrote it, without the separator at the end */
        const struct mbentry *made;             /* reference */
        bool taken;                             /* another mailbox of the user has the special use */
        struct err err;
};

struct create_params {
        const char *specialuse, *partition;     /* NULL: not given */
        bool unknown_use;
};

static void cleanup(struct imap *imap)
{
        struct create_state *st = imap->cmd.state;

        if (st->made)
                mbentry_unref(&st->made);
}

/* SP "(" [use-attr *(SP use-attr)] ")" */
static int parse_use(struct imap *imap, struct create_params *params)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct str list = STR_INIT;
        struct span word;
        const char *name;
        int rc = -1;

        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                goto out;
        while (!imap_peek_c(ip, ')')) {
                if (list.len && imap_sp(ip) < 0)
                        goto out;
                if (imap_flag(ip, &word) < 0)
                        goto out;
                name = specialuse_known(imap->conf, imap_service(imap), word, &imap->s->arena);
                params->unknown_use |= !name;
                str_printf(&list, "%s%s", list.len ? " " : "", name ? name : "?");
                if (list.len > 1000) {
                        err_set(&ip->err, ERR_LIMIT, "Too many attributes");
                        goto out;
                }
        }
        rc = imap_close_paren(ip);
        if (list.len)
                params->specialuse = arena_strdup(&imap->s->arena, list.data);
out:
        str_deinit(&list);
        return rc;
}

static int parse_partition(struct imap *imap, struct create_params *params)
{
        struct span name;

        if (imap_astring(&imap->cmd.args, &name) < 0)
                return -1;
        params->partition = arena_strndup(&imap->s->arena, name.p, name.len);
        return 0;
}

/* "(" create-param *(SP create-param) ")", each at most once. */
static int parse_list(struct imap *imap, struct create_params *params)
{
        struct imap_parser *ip = &imap->cmd.args;
        bool use = false;
        struct span word;

        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                if (imap_atom(ip, &word) < 0)
                        return -1;
                if (imap_word_is(word, "USE") && !use) {
                        if (parse_use(imap, params) < 0)
                                return -1;
                        use = true;
                } else if (imap_word_is(word, "PARTITION") && !params->partition) {
                        if (imap_sp(ip) < 0 || parse_partition(imap, params) < 0)
                                return -1;
                } else {
                        return err_set(&ip->err, ERR_SYNTAX, "Unknown CREATE parameter, or given twice: %.*s",
                                       (int)(word.len < 40 ? word.len : 40), word.p);
                }
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

/* What follows the name. Returns false: the reply was sent. */
static bool parse_params(struct imap *imap, struct create_params *params)
{
        struct imap_parser *ip = &imap->cmd.args;

        memset(params, 0, sizeof *params);
        if (!imap_at_end(ip) && (imap_sp(ip) < 0 || (imap_peek_c(ip, '(') ? parse_list : parse_partition)(imap, params) < 0))
                goto bad;
        if (imap_end(ip) < 0)
                goto bad;
        if (params->unknown_use)
                imap_no(imap, "USEATTR", "Special use is not supported");
        else if (params->partition && !imap->is_admin)
                imap_no(imap, "NOPERM", "Partitions are for administrators to choose");
        else if (params->partition && !store_partition_dir(imap->store, params->partition))
                imap_no(imap, "CANNOT", "There is no such partition");
        else
                return true;
        return false;
bad:
        imap_bad(imap, "%s", ip->err.text);
        return false;
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
        struct mboxlist *ml = store_mboxlist(st->imap->store);

        st->taken = st->what.specialuse && specialuse_taken(ml, st->what.name, st->what.specialuse);
        if (!st->taken)
                mboxlist_create(ml, &st->what, &st->made, &st->err);
}

static enum cmd_result begin(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct namer who = imap_namer(imap);
        struct create_state *st;
        struct create_params params;
        const char *internal;
        struct err err = ERR_INIT;
        struct span name;

        if (imap_sp(ip) < 0 || imap_astring(ip, &name) < 0)
                return imap_bad(imap, "%s", ip->err.text);
        if (!parse_params(imap, &params))
                return CMD_DONE;
        if (name.len > 1 && name.p[name.len - 1] == namespace_separator(imap->ns))      /* "names below will follow" */
                name.len--;
        if (mailname_internal(&who, name, &imap->s->arena, &internal, &err) < 0)
                return imap_fail(imap, &err);
        imap_note_named(imap, internal);
        if (!may_create(imap, internal, params.specialuse))
                return CMD_DONE;
        imap->cmd.state = st = ARENA_NEW(&imap->s->arena, struct create_state);
        imap->cmd.cleanup = cleanup;
        st->imap = imap;
        st->given = name;
        st->what.name = imap->cmd.own_names[0] = internal;
        st->what.specialuse = params.specialuse;
        st->what.partition = params.partition;
        st->what.with_parents = true;
        return imap_offload(imap, OFFLOAD_DB, job, st);
}

enum cmd_result cmd_create(struct imap *imap)
{
        struct create_state *st = imap->cmd.state;

        if (!st)
                return begin(imap);
        if (st->taken)
                return imap_no(imap, "USEATTR", "Another mailbox has this special use");
        if (st->err.code)
                return imap_create_failed(imap, st->what.name, &st->err);
        if (imap_normalised(imap, st->what.name, st->given))    /* RFC 9051 6.3.4 */
                imap_put_list_oldname(imap, "", st->what.name, st->given);
        return imap_ok(imap, arena_printf(&imap->s->arena, "MAILBOXID (%s)", st->made->uniqueid), "Completed");        /* RFC 8474 4.1 */
}
