/*
 * SETANNOTATION mailbox entry (attribute value …): METADATA as it was before RFC 5464 (draft-daboo-imap-annotatemore-05), as Cyrus has it.
 * With a pattern all mailboxes that it matches are changed, one after the other, up to the first that refuses. Only with
 * annotation_enable_legacy_commands.
 */
#include "server/imap/imap_private.h"
#include "server/imap/metadata.h"

struct set_state {
        struct annotated where;
        struct metadata_setting what;
        bool setting;                           /* the job was sent */
};

static void cleanup(struct imap *imap)
{
        struct set_state *st = imap->cmd.state;

        if (st->what.entry)
                mbentry_unref(&st->what.entry);
        str_deinit(&st->where.after);
}

/* attribute SP value. 1: it is one that can be set, 0: not. */
static int parse_attribute(struct imap *imap, struct set_state *st, struct span entry)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct metadata *m = &st->what.set[st->what.n];
        struct span attribute, name;
        bool private;

        if (st->what.n == METADATA_ENTRIES_MAX)
                return err_set(&ip->err, ERR_LIMIT, "Too many entries");
        if (imap_astring(ip, &attribute) < 0 || imap_sp(ip) < 0 || imap_metadata_value(ip, &m->value) < 0)
                return -1;
        if (entry.len == 0 || *entry.p != '/')
                return err_set(&ip->err, ERR_SYNTAX, "Entry names begin with /");
        private = imap_word_is(attribute, "value.priv");
        if (!private && !imap_word_is(attribute, "value.shared"))
                return 0;
        name = span_of(arena_printf(&imap->s->arena, "%s%.*s", private ? "/private" : "/shared", (int)entry.len, entry.p));
        if (metadata_name(name, false, &imap->s->arena, &m->name, &ip->err) < 0)
                return -1;
        st->what.n++;
        return 1;
}

/* entry SP "(" attribute SP value … ")" */
static int parse_entry(struct imap *imap, struct set_state *st, bool *known)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct span entry;
        int rc;

        if (imap_astring(ip, &entry) < 0 || imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                return -1;
        do {
                rc = parse_attribute(imap, st, entry);
                if (rc < 0)
                        return -1;
                *known &= rc > 0;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

static int parse_entries(struct imap *imap, struct set_state *st, bool *known)
{
        struct imap_parser *ip = &imap->cmd.args;

        st->what.set = ARENA_ARRAY(&imap->s->arena, struct metadata, METADATA_ENTRIES_MAX);
        if (imap_sp(ip) < 0)
                return -1;
        if (!imap_peek_c(ip, '('))
                return parse_entry(imap, st, known) < 0 ? -1 : imap_end(ip);
        if (imap_open_paren(ip) < 0)
                return -1;
        do
                if (parse_entry(imap, st, known) < 0)
                        return -1;
        while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip) < 0 ? -1 : imap_end(ip);
}

static bool begin(struct imap *imap)
{
        struct set_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct set_state);
        bool known = true;

        imap->cmd.cleanup = cleanup;
        st->what.imap = imap;
        if (!imap_annotated_parse(imap, &st->where))
                return false;
        if (parse_entries(imap, st, &known) < 0) {
                imap_bad(imap, "%s", imap->cmd.args.err.text);
                return false;
        }
        if (!known) {
                imap_no(imap, "CANNOT", "Only value.shared and value.priv can be set");
                return false;
        }
        return true;
}

enum cmd_result cmd_setannotation(struct imap *imap)
{
        struct set_state *st;
        enum cmd_result result;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->setting) {
                if (st->what.err.code)
                        return imap_metadata_set_failed(imap, &st->what);
                st->setting = false;
                if (st->what.entry)
                        mbentry_unref(&st->what.entry);
        }
        result = imap_annotated_next(imap, &st->where, &st->what.entry, &st->what.rights);
        if (result == CMD_CLOSE)
                return imap->loop->tagged.len ? CMD_DONE : imap_ok(imap, NULL, "Completed");
        if (result != CMD_DONE)
                return result;
        st->setting = true;
        imap->cmd.own_names[0] = st->what.entry ? arena_strdup(&imap->s->arena, st->what.entry->name) : "";
        st->what.at = METADATA_CHECKING;
        return imap_offload(imap, OFFLOAD_DB, imap_metadata_set_job, &st->what);
}
