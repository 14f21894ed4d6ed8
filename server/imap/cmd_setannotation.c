/*
 * SETANNOTATION mailbox entry (attribute value …): METADATA as it was before RFC 5464 (draft-daboo-imap-annotatemore-05), as Cyrus has it.
 * With a pattern all mailboxes that it matches are changed, or none, as in Cyrus: they are gone through to look whether each may be, and what
 * it has now; then they are set, and when one of them refuses all the same (quota), those before it are set back. What a pattern matches
 * nothing of does not exist. Only with annotation_enable_legacy_commands.
 */
#include "server/imap/imap_private.h"
#include "server/imap/metadata.h"
#include "util/array.h"
#include "util/log.h"

#define WAS_BYTES_MAX (16u << 20)               /* of former values */

struct set_step {
        const struct mbentry *entry;            /* reference; NULL: the server */
        struct metadata *was;                   /* with a pattern */
};

struct set_state {
        struct annotated where;
        struct metadata_setting what;           /* of the present step; its entry is borrowed */
        ARRAY(struct set_step) steps;
        size_t done;                            /* steps that were set */
        struct arena was;
        struct err why;                         /* of what is being undone */
        enum { LOOKING, CHECKING, SETTING, UNDOING } at;
};

static void cleanup(struct imap *imap)
{
        struct set_state *st = imap->cmd.state;

        for (size_t i = 0; i < st->steps.n; i++)
                if (st->steps.v[i].entry)
                        mbentry_unref(&st->steps.v[i].entry);
        ARRAY_FREE(&st->steps);
        arena_deinit(&st->was);
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

static enum cmd_result run(struct imap *imap, struct set_state *st, const struct set_step *step, void (*job)(void *setting))
{
        st->what.entry = step->entry;
        imap->cmd.own_names[0] = step->entry ? arena_strdup(&imap->s->arena, step->entry->name) : "";
        return imap_offload(imap, OFFLOAD_DB, job, &st->what);
}

/* The next mailbox, and what it has now. Nothing is changed yet. */
static enum cmd_result look(struct imap *imap, struct set_state *st)
{
        const struct mbentry *entry;
        enum cmd_result result = imap_annotated_next(imap, &st->where, &entry, &st->what.rights);

        if (result == CMD_CLOSE) {
                st->at = SETTING;
                return imap->loop->tagged.len ? CMD_DONE : st->steps.n ? CMD_AGAIN
                        : imap_no(imap, "NONEXISTENT", "Mailbox does not exist");
        }
        if (result != CMD_DONE)
                return result;
        if (st->was.used > WAS_BYTES_MAX)
                return imap_no(imap, "LIMIT", "Too many mailboxes at once");
        *ARRAY_PUSH(&st->steps) = (struct set_step){ entry, NULL };
        st->what.was_arena = st->where.wild ? &st->was : NULL;
        st->at = CHECKING;
        return run(imap, st, &st->steps.v[st->steps.n - 1], imap_metadata_check_job);
}

static enum cmd_result undo(struct imap *imap, struct set_state *st)
{
        if (st->what.err.code)
                log_event(LOG_ERROR, imap->s->name, "imap.setannotation.undo", "reason=\"%s\"", st->what.err.text);
        err_clear(&st->what.err);
        if (st->done == 0) {
                err_copy(&st->what.err, &st->why);
                st->what.at = METADATA_SETTING;
                return imap_metadata_set_failed(imap, &st->what);
        }
        st->done--;
        st->what.set = st->steps.v[st->done].was;
        return run(imap, st, &st->steps.v[st->done], imap_metadata_write_job);
}

enum cmd_result cmd_setannotation(struct imap *imap)
{
        struct set_state *st;
        enum cmd_result result = CMD_AGAIN;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->at == CHECKING) {
                if (st->what.err.code)
                        return imap_metadata_set_failed(imap, &st->what);
                st->steps.v[st->steps.n - 1].was = st->what.was;
                st->at = LOOKING;
        }
        if (st->at == LOOKING) {
                result = look(imap, st);
                if (st->at != SETTING || result != CMD_AGAIN)
                        return result;
        } else if (st->at == SETTING && st->what.err.code) {
                err_copy(&st->why, &st->what.err);
                err_clear(&st->what.err);
                st->at = UNDOING;
        } else if (st->at == SETTING) {
                st->done++;
        }
        if (st->at == UNDOING)
                return undo(imap, st);
        return st->done == st->steps.n ? imap_ok(imap, NULL, "Completed") : run(imap, st, &st->steps.v[st->done], imap_metadata_write_job);
}
