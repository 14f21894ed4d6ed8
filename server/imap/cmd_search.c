/*
 * SEARCH and UID SEARCH (RFC 9051 6.4.4, RFC 3501 6.4.4; ESEARCH: RFC 4731; SEARCHRES: RFC 5182; MODSEQ: RFC 7162 3.1.5, 3.1.10;
 * PARTIAL: RFC 9394; RELEVANCY: RFC 6203).
 * The search itself is search_run.c's.
 */
#include "server/imap/search_context.h"

#include <inttypes.h>

struct search_state {
        struct search_request req;
        struct search_run run;
        struct search_context *context;         /* UPDATE; NULL: none, or refused */
        struct search_found found;
        struct uidset seqnos;                   /* when answering, without UID: the found ones */
        const struct uidset *numbers;           /* … as the client counts: those or the UIDs */
        bool searched, answering;
        struct uidset_iter at;
};

static void cleanup(struct imap *imap)
{
        struct search_state *st = imap->cmd.state;

        search_run_end(&st->run);
        search_context_destroy(&st->context);
        search_found_deinit(&st->found);
        uidset_deinit(&st->seqnos);
}

/* ---- the request ---- */

/* NO to a search that was to be saved leaves `$` empty (RFC 5182 2.1). */
static void forget_saved(struct imap *imap, const struct search_state *st)
{
        if (st->req.returns & SEARCH_RETURN_SAVE)
                uidset_deinit(&imap->sel->saved);
}

/* MIN alone: the first one is all that is wanted. */
static bool has_first(void *ctx)
{
        return !uidset_empty(&((struct search_found *)ctx)->uids);
}

static bool begin(struct imap *imap)
{
        struct search_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct search_state);
        struct imap_parser *ip = &imap->cmd.args;
        struct search_sets sets;
        struct span text;
        struct err err = ERR_INIT;
        int rc;

        imap->cmd.cleanup = cleanup;
        sets = search_sets_selected(imap);
        rc = imap_sp(ip);
        text = (struct span){ ip->p, (size_t)(ip->end - ip->p) };
        if (rc < 0 || search_parse(ip, &sets, &st->req) < 0) {
                if (imap->cmd.args.err.code == ERR_CHARSET)
                        forget_saved(imap, st);
                search_parse_failed(imap, &st->req);
                return false;
        }
        if (!search_program_allowed(imap, &st->req))
                return false;
        if ((st->req.returns & SEARCH_RETURN_UPDATE) && !search_context_create(imap, text, false, &st->context))
                return false;
        if (st->req.program->uses_modseq)
                imap_enable_condstore(imap);
        search_run_selected(&st->run, imap);
        st->run.program = st->req.program;
        st->run.found = search_found_add;
        st->run.ctx = &st->found;
        st->found.req = &st->req;
        if (st->req.extended && (st->req.returns & ~(unsigned)(SEARCH_RETURN_SAVE | SEARCH_RETURN_CONTEXT)) == SEARCH_RETURN_MIN)
                st->run.enough = has_first;
        if (search_run_begin(&st->run, NULL, &err) < 0) {
                forget_saved(imap, st);
                imap_fail(imap, &err);
                return false;
        }
        return true;
}

/* ---- the answer ---- */

static void put_esearch(struct imap *imap, const struct search_state *st)
{
        struct str out = STR_INIT;

        search_put_esearch(imap, &out);
        search_found_append(&st->found, st->numbers, &out);
        rope_append_span(&imap->s->out, str_span(&out));
        str_deinit(&out);
}

/* Some of the numbers of "* SEARCH …", which may be many. False: the client reads first. */
static bool put_numbers(struct imap *imap, struct search_state *st)
{
        struct str out = STR_INIT;
        uint32_t n;
        bool more = true;

        while (more && imap->s->out.bytes <= ROPE_HIGH) {
                str_clear(&out);
                for (unsigned i = 0; i < 4096 && (more = uidset_next(&st->at, &n)); i++) {
                        str_append_c(&out, ' ');
                        str_append_u64(&out, n);
                }
                rope_append_span(&imap->s->out, str_span(&out));
        }
        str_deinit(&out);
        return !more;
}

/* Numbers as the client counts; sequence numbers stand still while SEARCH is in progress (RFC 9051 7.5.1). */
static void begin_answer(struct imap *imap, struct search_state *st)
{
        if (st->req.returns & SEARCH_RETURN_SAVE)
                search_save(imap, &st->req, &st->found.uids);
        search_context_keep(imap, &st->context, &st->found.uids, NULL, 0);
        if (!imap->cmd.uid)
                imap_uids_to_seqnos(imap, &st->found.uids, &st->seqnos);
        st->numbers = imap->cmd.uid ? &st->found.uids : &st->seqnos;
        st->at = uidset_iter(st->numbers);
        st->answering = true;
        if (st->req.extended || imap->rev2) {
                if (!st->req.extended || (st->req.returns & ~(unsigned)SEARCH_RETURN_SAVE))
                        put_esearch(imap, st);      /* saved only: nothing is said (RFC 5182 2.2) */
        } else {
                imap_put(imap, "* SEARCH");
        }
}

static enum cmd_result finish(struct imap *imap, struct search_state *st)
{
        if (st->run.err.code != ERR_NONE)
                forget_saved(imap, st);
        return search_run_reply(imap, &st->run, "SEARCH");
}

static enum cmd_result answer(struct imap *imap, struct search_state *st)
{
        if (!st->answering)
                begin_answer(imap, st);
        if (!st->req.extended && !imap->rev2) {
                if (!put_numbers(imap, st))
                        return CMD_FLUSH;
                if (st->numbers->n && st->req.program->uses_modseq)
                        imap_put(imap, " (MODSEQ %" PRIu64 ")", search_found_modseq(&st->found));
                imap_put(imap, "\r\n");
        }
        return finish(imap, st);
}

enum cmd_result cmd_search(struct imap *imap)
{
        struct search_state *st;
        enum cmd_result result;

        if (!imap->cmd.state && !search_cmd_begin(imap, begin, &result))
                return result;
        st = imap->cmd.state;
        if (!st->answering) {
                if (!st->searched) {
                        result = search_run_step(&st->run);
                        if (result != CMD_DONE)
                                return result;
                        st->searched = true;
                }
                if (!search_found_score(&st->found, imap->sel->mbox, imap->s))
                        return CMD_AGAIN;
        }
        return answer(imap, st);
}
