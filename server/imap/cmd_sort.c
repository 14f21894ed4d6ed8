/*
 * SORT and UID SORT (RFC 5256; DISPLAYFROM, DISPLAYTO: RFC 5957; RETURN: RFC 5267 3, RFC 9394; MODSEQ: RFC 7162 3.1.5).
 * Search, learn what the criteria need, sort, answer: each in slices.
 */
#include "server/imap/search_context.h"

#include <inttypes.h>
#include <stdlib.h>

#include "util/must.h"

#define NUMBERS_AT_ONCE 4096

struct sort_state {
        struct search_request req;
        struct sort_criteria criteria;
        struct search_run run;
        struct span text;                       /* from RETURN on */
        struct search_context *context;         /* UPDATE; NULL: none, or refused */
        struct sort_set set;
        struct sort_order order;
        enum { SORT_SEARCH, SORT_LOAD, SORT_ORDER, SORT_ANSWER } at;
        uint32_t *numbers;                      /* the answer, in order, as the client counts */
        uint32_t answered;                      /* … so many of them were sent */
};

static void cleanup(struct imap *imap)
{
        struct sort_state *st = imap->cmd.state;

        search_run_end(&st->run);
        search_context_destroy(&st->context);
        sort_order_deinit(&st->order);
        sort_set_deinit(&st->set);
        free(st->numbers);
}

static bool wants_scores(const struct sort_state *st)
{
        bool wants = st->req.returns & SEARCH_RETURN_RELEVANCY;

        for (unsigned i = 0; i < st->criteria.n; i++)
                wants |= st->criteria.v[i].by == SORT_RELEVANCY;
        return wants;
}

static bool parse(struct imap *imap, struct sort_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct search_sets sets = search_sets_selected(imap);

        if (imap_sp(ip) < 0)
                return false;
        st->text = (struct span){ ip->p, (size_t)(ip->end - ip->p) };
        if (search_parse_return(ip, &st->req) < 0 || sort_criteria_parse(ip, &st->criteria) < 0 ||
            imap_sp(ip) < 0 || search_parse_charset_keys(ip, &sets, &st->req) < 0)
                return false;
        if (!st->req.fuzzy && wants_scores(st)) {
                err_set(&ip->err, ERR_SYNTAX, "RELEVANCY needs a FUZZY key");           /* RFC 6203 6 */
                return false;
        }
        return true;
}

static bool begin(struct imap *imap)
{
        struct sort_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct sort_state);
        struct err err = ERR_INIT;

        imap->cmd.cleanup = cleanup;
        if (!parse(imap, st)) {
                search_parse_failed(imap, &st->req);
                return false;
        }
        if (!search_program_allowed(imap, &st->req))
                return false;
        if ((st->req.returns & SEARCH_RETURN_UPDATE) && !search_context_create(imap, st->text, true, &st->context))
                return false;
        if (st->req.program->uses_modseq)
                imap_enable_condstore(imap);
        search_run_selected(&st->run, imap);
        st->run.program = st->req.program;
        st->run.found = sort_set_found;
        st->run.ctx = &st->set;
        if (search_run_begin(&st->run, NULL, &err) < 0) {
                imap_fail(imap, &err);
                return false;
        }
        return true;
}

/* ---- the answer ---- */

/* RFC 4731 3.2: of the messages that are returned. */
static uint64_t modseq_of_answer(const struct sort_state *st)
{
        unsigned returns = st->req.extended ? st->req.returns & ~(unsigned)SEARCH_RETURN_NO_DATA : (unsigned)SEARCH_RETURN_ALL;
        const unsigned ends = SEARCH_RETURN_MIN | SEARCH_RETURN_MAX;
        uint64_t highest = 0;

        for (uint32_t i = 0; i < st->set.n; i++) {
                const struct sort_message *m = &st->set.v[st->order.items[i].at];
                bool returned = !(returns & ends) || (returns & ~ends) || (i == 0 && (returns & SEARCH_RETURN_MIN)) ||
                                (i == st->set.n - 1 && (returns & SEARCH_RETURN_MAX));

                if (returned && m->modseq > highest)
                        highest = m->modseq;
        }
        return highest;
}

/* In the mailbox's order: a set to which they were added in the answer's would be moved about for each of them. */
static void save_some(struct uidset *saved, const struct sort_state *st, size_t from, size_t to)
{
        bool *wanted = xcalloc((size_t)st->set.n + 1, sizeof *wanted);

        for (; from < to; from++)
                wanted[st->order.items[from].at] = true;
        for (uint32_t i = 0; i < st->set.n; i++)
                if (wanted[i])
                        uidset_add(saved, st->set.v[i].uid);
        free(wanted);
}

/* As SEARCH does (RFC 5182 2.1, 2.4; RFC 9394 3.2). */
static void save(struct imap *imap, const struct sort_state *st)
{
        unsigned parts = st->req.returns & (SEARCH_RETURN_MIN | SEARCH_RETURN_MAX | SEARCH_RETURN_PARTIAL);
        struct uidset *saved = &imap->sel->saved;
        size_t n = st->set.n, from, to;

        uidset_clear(saved);
        if (!parts || (st->req.returns & (SEARCH_RETURN_ALL | SEARCH_RETURN_COUNT))) {
                for (uint32_t i = 0; i < n; i++)
                        uidset_add(saved, st->set.v[i].uid);
                return;
        }
        if (parts & SEARCH_RETURN_PARTIAL) {
                search_partial_range(&st->req.partial, n, &from, &to);
                save_some(saved, st, from, to);
        }
        if (parts & SEARCH_RETURN_MIN)
                save_some(saved, st, 0, n > 0);
        if (parts & SEARCH_RETURN_MAX)
                save_some(saved, st, n - (n > 0), n);
}

static void put_esearch(struct imap *imap, const struct sort_state *st)
{
        const uint32_t *numbers = st->numbers;
        uint32_t n = st->set.n;
        struct str out = STR_INIT;

        search_put_esearch(imap, &out);
        if (n && (st->req.returns & SEARCH_RETURN_MIN))
                str_printf(&out, " MIN %" PRIu32, numbers[0]);
        if (n && (st->req.returns & SEARCH_RETURN_MAX))
                str_printf(&out, " MAX %" PRIu32, numbers[n - 1]);
        if (st->req.returns & SEARCH_RETURN_COUNT)
                str_printf(&out, " COUNT %" PRIu32, n);
        if (n && (st->req.returns & SEARCH_RETURN_ALL)) {
                str_append_str(&out, " ALL ");
                search_append_ordered(numbers, n, &out);
        }
        if (st->req.returns & SEARCH_RETURN_PARTIAL)
                search_append_partial(&st->req.partial, numbers, n, &out);
        search_append_relevancy(&st->req, &st->set, &st->order, &out);
        if (n && st->req.program->uses_modseq)
                str_printf(&out, " MODSEQ %" PRIu64, modseq_of_answer(st));
        str_append_str(&out, "\r\n");
        rope_append_span(&imap->s->out, str_span(&out));
        str_deinit(&out);
}

/* The context wants UIDs, whatever the client counts by. */
static void keep_context(struct imap *imap, struct sort_state *st)
{
        struct uidset found = UIDSET_INIT;
        uint32_t *order;

        if (!st->context)
                return;
        order = xcalloc(st->set.n ? st->set.n : 1, sizeof *order);
        for (uint32_t i = 0; i < st->set.n; i++) {
                order[i] = st->set.v[st->order.items[i].at].uid;
                uidset_add(&found, st->set.v[i].uid);
        }
        search_context_keep(imap, &st->context, &found, order, st->set.n);
        uidset_deinit(&found);
        free(order);
}

static void begin_answer(struct imap *imap, struct sort_state *st)
{
        st->numbers = xcalloc(st->set.n ? st->set.n : 1, sizeof *st->numbers);
        for (uint32_t i = 0; i < st->set.n; i++) {
                const struct sort_message *m = &st->set.v[st->order.items[i].at];

                st->numbers[i] = imap->cmd.uid ? m->uid : m->seqno;
        }
        if (st->req.returns & SEARCH_RETURN_SAVE)
                save(imap, st);
        keep_context(imap, st);
        if (!st->req.extended)
                imap_put(imap, "* SORT");
        else if (st->req.returns & ~(unsigned)SEARCH_RETURN_SAVE)
                put_esearch(imap, st);
}

/* Some of the numbers of "* SORT …". False: the client reads first. */
static bool put_numbers(struct imap *imap, struct sort_state *st)
{
        struct str out = STR_INIT;

        while (st->answered < st->set.n && imap->s->out.bytes <= ROPE_HIGH) {
                str_clear(&out);
                for (unsigned k = 0; k < NUMBERS_AT_ONCE && st->answered < st->set.n; k++) {
                        str_append_c(&out, ' ');
                        str_append_u64(&out, st->numbers[st->answered++]);
                }
                rope_append_span(&imap->s->out, str_span(&out));
        }
        str_deinit(&out);
        return st->answered == st->set.n;
}

static enum cmd_result answer(struct imap *imap, struct sort_state *st)
{
        if (!st->numbers)
                begin_answer(imap, st);
        if (!st->req.extended) {
                if (!put_numbers(imap, st))
                        return CMD_FLUSH;
                if (st->set.n && st->req.program->uses_modseq)
                        imap_put(imap, " (MODSEQ %" PRIu64 ")", modseq_of_answer(st));
                imap_put(imap, "\r\n");
        }
        return search_run_reply(imap, &st->run, "SORT");
}

enum cmd_result cmd_sort(struct imap *imap)
{
        struct sort_state *st;
        enum cmd_result result;

        if (!imap->cmd.state && !search_cmd_begin(imap, begin, &result))
                return result;
        st = imap->cmd.state;
        switch (st->at) {
        case SORT_SEARCH:
                result = search_run_step(&st->run);
                if (result != CMD_DONE)
                        return result;
                if (st->run.err.code != ERR_NONE)
                        return search_run_reply(imap, &st->run, "SORT");
                st->at = SORT_LOAD;
                /* fall through */
        case SORT_LOAD:
                if ((st->criteria.uses_facts || wants_scores(st)) && !sort_set_load(&st->set, imap->sel->mbox, imap->s))
                        return CMD_AGAIN;
                if (!sort_set_load_annots(&st->set, &st->criteria, imap->sel->mbox, imap->userid, imap->s))
                        return CMD_AGAIN;
                if (wants_scores(st) && !sort_set_score(&st->set, &st->req, imap->s))
                        return CMD_AGAIN;
                sort_order_init(&st->order, &st->criteria, &st->set);
                st->at = SORT_ORDER;
                /* fall through */
        case SORT_ORDER:
                if (!sort_order_run(&st->order, imap->s))
                        return CMD_AGAIN;
                st->at = SORT_ANSWER;
                /* fall through */
        case SORT_ANSWER:
                break;
        }
        return answer(imap, st);
}
