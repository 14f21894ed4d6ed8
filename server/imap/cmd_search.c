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
        struct sort_set set;                    /* RELEVANCY: the found ones */
        struct uidset found;                    /* UIDs; when answering: as the client counts */
        uint64_t modseq_first, modseq_last, modseq_highest;     /* of the found ones */
        bool searched, answering;
        struct uidset_iter at;
};

static void cleanup(struct imap *imap)
{
        struct search_state *st = imap->cmd.state;

        search_run_end(&st->run);
        search_context_destroy(&st->context);
        uidset_deinit(&st->found);
        sort_set_deinit(&st->set);
}

/* ---- the request ---- */

/* NO to a search that was to be saved leaves `$` empty (RFC 5182 2.1). */
static void forget_saved(struct imap *imap, const struct search_state *st)
{
        if (st->req.returns & SEARCH_RETURN_SAVE)
                uidset_deinit(&imap->sel->saved);
}

static void found(void *ctx, const struct msg *m, uint32_t seqno)
{
        struct search_state *st = ctx;

        if (st->req.returns & SEARCH_RETURN_RELEVANCY)
                sort_set_found(&st->set, m, seqno);
        if (uidset_empty(&st->found))
                st->modseq_first = m->modseq;
        st->modseq_last = m->modseq;
        if (m->modseq > st->modseq_highest)
                st->modseq_highest = m->modseq;
        uidset_add(&st->found, m->uid);
}

/* MIN alone: the first one is all that is wanted. */
static bool has_first(void *ctx)
{
        return !uidset_empty(&((struct search_state *)ctx)->found);
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
        st->run.found = found;
        st->run.ctx = st;
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

/* RFC 4731 3.2, RFC 7162 3.1.10: of the messages that are returned. */
static uint64_t modseq_of_answer(const struct search_state *st)
{
        switch (st->req.extended ? st->req.returns & ~(unsigned)SEARCH_RETURN_NO_DATA : (unsigned)SEARCH_RETURN_ALL) {
        case SEARCH_RETURN_MIN:
                return st->modseq_first;
        case SEARCH_RETURN_MAX:
                return st->modseq_last;
        case SEARCH_RETURN_MIN | SEARCH_RETURN_MAX:
                return st->modseq_first > st->modseq_last ? st->modseq_first : st->modseq_last;
        default:
                return st->modseq_highest;
        }
}

static void put_esearch(struct imap *imap, const struct search_state *st, const struct uidset *numbers)
{
        unsigned returns = st->req.extended ? st->req.returns : (unsigned)SEARCH_RETURN_ALL;
        struct str out = STR_INIT;

        search_put_esearch(imap, &out);
        search_append_results(&st->req, numbers, &out);
        if (returns & SEARCH_RETURN_RELEVANCY) {
                size_t from = 0, to = st->set.n;

                if (returns & SEARCH_RETURN_PARTIAL)
                        search_partial_range(&st->req.partial, st->set.n, &from, &to);
                sort_set_append_relevancy(&st->set, NULL, from, to, &out);
        }
        if (numbers->n && st->req.program->uses_modseq)
                str_printf(&out, " MODSEQ %" PRIu64, modseq_of_answer(st));
        str_append_str(&out, "\r\n");
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
        struct uidset seqnos;

        if (st->req.returns & SEARCH_RETURN_SAVE)
                search_save(imap, &st->req, &st->found);
        search_context_keep(imap, &st->context, &st->found, NULL, 0);
        if (!imap->cmd.uid) {
                imap_uids_to_seqnos(imap, &st->found, &seqnos);
                uidset_deinit(&st->found);
                st->found = seqnos;
        }
        st->at = uidset_iter(&st->found);
        st->answering = true;
        if (st->req.extended || imap->rev2) {
                if (!st->req.extended || (st->req.returns & ~(unsigned)SEARCH_RETURN_SAVE))
                        put_esearch(imap, st, &st->found);      /* saved only: nothing is said (RFC 5182 2.2) */
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
                if (st->found.n && st->req.program->uses_modseq)
                        imap_put(imap, " (MODSEQ %" PRIu64 ")", modseq_of_answer(st));
                imap_put(imap, "\r\n");
        }
        return finish(imap, st);
}

enum cmd_result cmd_search(struct imap *imap)
{
        struct search_state *st;
        enum cmd_result result;

        if (!imap->cmd.state) {
                result = search_filters_load(imap);
                if (result != CMD_DONE)
                        return result == CMD_CLOSE ? search_filters_failed(imap) : result;
                if (!begin(imap))
                        return CMD_DONE;
        }
        st = imap->cmd.state;
        if (!st->answering) {
                if (!st->searched) {
                        result = search_run_step(&st->run);
                        if (result != CMD_DONE)
                                return result;
                        st->searched = true;
                }
                if ((st->req.returns & SEARCH_RETURN_RELEVANCY) &&
                    (!sort_set_load(&st->set, imap->sel->mbox, imap->s) || !sort_set_score(&st->set, &st->req, imap->s)))
                        return CMD_AGAIN;
        }
        return answer(imap, st);
}
