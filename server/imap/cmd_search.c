/*
 * SEARCH and UID SEARCH (RFC 9051 6.4.4, RFC 3501 6.4.4; ESEARCH: RFC 4731; SEARCHRES: RFC 5182; MODSEQ: RFC 7162 3.1.5, 3.1.10).
 *
 * Messages are taken in batches. First each is asked what can be answered from its state alone; only those that stay open are
 * read, through search_read.c's window. The search may be parked between any two pieces of a message; then it gives back all but
 * that message's body and the evaluator's place.
 */
#include "server/imap/search_private.h"

#include <inttypes.h>

#define STEP_OCTETS ((uint64_t)64 * 1024)       /* of a message, between two looks at the clock */

static void cleanup(struct imap *imap)
{
        struct search_state *st = imap->cmd.state;

        search_reader_release(&st->reader);
        search_eval_destroy(&st->cheap);
        search_eval_destroy(&st->deep);
        arena_deinit(&st->parts);
        walk_deinit(&st->walk);
        uidset_deinit(&st->found);
}

/* ---- the request ---- */

/* Only those of the candidates. */
static int narrow(struct uidset *uids, struct uidset *candidates)
{
        uidset_intersect(uids, candidates);
        uidset_deinit(candidates);
        return 0;
}

/* Keys at the top all must hold: sets and MODSEQ say where to look at all, the latter from the index (RFC 7162 3.1.5). */
static int narrow_by_key(struct imap *imap, const struct search_key *k, struct uidset *uids, struct err *err)
{
        struct imap_selected *sel = imap->sel;
        struct uidset candidates = UIDSET_INIT;
        int ret = 0;

        if (k->op == SEARCH_UIDSET)
                view_existing_uids(sel->view, k->set, &candidates);
        else if (k->op == SEARCH_SEQSET)
                ret = view_seqnos_to_uids(sel->view, k->set, &candidates, err);
        else if (k->op == SEARCH_MODSEQ && k->number > 0)
                ret = mailbox_changed(sel->mbox, sel->view, k->number - 1, UINT64_MAX, 1, UINT32_MAX, &candidates, err);
        else
                return 0;
        if (ret == 0)
                return narrow(uids, &candidates);
        uidset_deinit(&candidates);
        return -1;
}

static int choose_messages(struct imap *imap, struct search_state *st, struct err *err)
{
        struct uidset all = UIDSET_INIT, uids = UIDSET_INIT;
        uint64_t unreadable = view_unreadable();
        int ret = 0;

        uidset_add_range(&all, 1, UINT32_MAX);
        view_existing_uids(imap->sel->view, &all, &uids);
        for (const struct search_key *k = st->req.program->root->list; k && ret == 0; k = k->next)
                ret = narrow_by_key(imap, k, &uids, err);
        if (ret == 0)
                ret = imap_uids_read(unreadable, err);
        walk_init(&st->walk, &uids);
        uidset_deinit(&all);
        uidset_deinit(&uids);
        return ret;
}

/* NO to a search that was to be saved leaves `$` empty (RFC 5182 2.1). */
static void forget_saved(struct imap *imap, const struct search_state *st)
{
        if (st->req.returns & SEARCH_RETURN_SAVE)
                uidset_deinit(&imap->sel->saved);
}

static void answer_parse_failure(struct imap *imap, struct search_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;

        if (ip->err.code != ERR_CHARSET) {
                imap_bad(imap, "%s", ip->err.text);
                return;
        }
        forget_saved(imap, st);
        imap_no(imap, "BADCHARSET (US-ASCII UTF-8)", "%s", ip->err.text);
}

static bool begin(struct imap *imap)
{
        struct search_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct search_state);
        struct imap_selected *sel = imap->sel;
        uint32_t count = view_count(sel->view);
        struct search_sets sets = { .count = count, .last_uid = count ? view_uid(sel->view, count) : 0, .saved = &sel->saved };
        struct err err = ERR_INIT;

        arena_init(&st->parts);
        imap->cmd.cleanup = cleanup;
        if (!imap_selected_readable(imap))
                return false;
        if (imap_sp(&imap->cmd.args) < 0 || search_parse(&imap->cmd.args, &sets, &st->req) < 0) {
                answer_parse_failure(imap, st);
                return false;
        }
        if (st->req.program->uses_modseq)
                imap_enable_condstore(imap);
        st->reader.imap = imap;
        if (choose_messages(imap, st, &err) < 0) {
                forget_saved(imap, st);
                imap_fail(imap, &err);
                return false;
        }
        st->cheap = search_eval_create(st->req.program);
        if (st->req.program->uses_content)
                st->deep = search_eval_create(st->req.program);
        return true;
}

/* ---- one message ---- */

static struct search_message describe(struct imap *imap, struct search_reader *ctx, const struct msg *m, uint32_t seqno)
{
        struct search_message sm = {
                .uid = m->uid, .seqno = seqno, .flags = m->flags & MSG_SYSTEM_FLAGS, .modseq = m->modseq, .size = m->size,
                .internaldate = m->internaldate, .savedate = m->savedate, .has_savedate = true,
                .has_sentdate = m->sentdate != INT64_MIN, .sentdate = m->sentdate,
                .ctx = ctx, .has_keyword = search_has_keyword, .read = search_read, .peek = search_peek,
        };

        if (imap->sel->recent.n && uidset_has(&imap->sel->recent, m->uid))
                sm.flags |= SEARCH_FLAG_RECENT;
        return sm;
}

static void found(struct search_state *st, const struct msg *m)
{
        if (uidset_empty(&st->found))
                st->modseq_first = m->modseq;
        st->modseq_last = m->modseq;
        if (m->modseq > st->modseq_highest)
                st->modseq_highest = m->modseq;
        uidset_add(&st->found, m->uid);
}

static void note_failure(struct search_state *st, const struct msg *m, const struct err *err)
{
        if (err->code == ERR_NOTFOUND || (m->flags & MSG_EXPUNGED))
                st->missing = true;
        else if (st->err.code == ERR_NONE)
                err_copy(&st->err, err);
}

/* Begin to read a message that its state did not decide. False: it cannot be read. */
static bool open_deep(struct imap *imap, struct search_state *st, const struct msg *m, uint32_t seqno)
{
        struct search_message sm = describe(imap, &st->reader, m, seqno);
        struct msg_front front = { 0 };
        struct err err = ERR_INIT;

        arena_reset(&st->parts);
        if (mailbox_front(imap->sel->mbox, m, FRONT_PARTS, &st->parts, &front, &err) < 0) {
                note_failure(st, m, &err);
                return false;
        }
        sm.parts = front.parts;
        sm.parts_n = front.part_count;
        st->reader.kwset = m->kwset;
        st->msg = *m;
        st->in_message = search_begin(st->deep, &sm) == SEARCH_MORE;
        return true;
}

/* Until the message at hand is decided (true) or the slice is over. */
static bool read_on(struct imap *imap, struct search_state *st)
{
        struct err err = ERR_INIT;
        enum search_result result;
        uint64_t budget;

        do {
                budget = STEP_OCTETS;
                result = search_step(st->deep, &budget, &err);
                if (result == SEARCH_MORE && session_slice_over(imap->s))
                        return false;
        } while (result == SEARCH_MORE);
        if (result == SEARCH_YES)
                found(st, &st->msg);
        if (result == SEARCH_ERROR)
                note_failure(st, &st->msg, &err);
        st->in_message = false;
        return true;
}

/* ---- a batch ---- */

/* What their state says: YES, NO, or MORE. */
static void ask_cheaply(struct imap *imap, struct search_state *st, const struct walk_batch *b, enum search_result *results)
{
        struct search_reader ctx = { .imap = imap };

        for (uint32_t i = 0; i < b->n; i++) {
                struct search_message sm;

                if (b->msg[i].uid == 0) {
                        st->missing = true;
                        results[i] = SEARCH_NO;
                        continue;
                }
                ctx.kwset = b->msg[i].kwset;
                sm = describe(imap, &ctx, &b->msg[i], b->seqno[i]);
                results[i] = search_begin(st->cheap, &sm);
        }
}

/* True: nothing more needs to be looked at. */
static bool has_enough(const struct search_state *st)
{
        return st->req.extended && (st->req.returns & ~(unsigned)SEARCH_RETURN_SAVE) == SEARCH_RETURN_MIN && !uidset_empty(&st->found);
}

/* CMD_DONE: the whole batch is decided. */
static enum cmd_result search_batch(struct imap *imap, struct search_state *st, const struct walk_batch *b)
{
        enum search_result results[WALK_MAX];
        struct err err = ERR_INIT;

        ask_cheaply(imap, st, b, results);
        for (uint32_t i = 0; i < b->n && !has_enough(st); i++) {
                walk_done(&st->walk, 1);
                if (results[i] == SEARCH_YES)
                        found(st, &b->msg[i]);
                if (results[i] != SEARCH_MORE)
                        continue;
                search_reader_ahead(&st->reader, b, i, results);
                if (search_reader_open(&st->reader, &b->msg[i], b->n, i, &err) < 0) {
                        note_failure(st, &b->msg[i], &err);
                        err_clear(&err);
                        continue;
                }
                if (!open_deep(imap, st, &b->msg[i], b->seqno[i]))
                        continue;
                if ((st->in_message && !read_on(imap, st)) || session_slice_over(imap->s))
                        return CMD_AGAIN;
        }
        search_reader_end_batch(&st->reader);
        return session_slice_over(imap->s) ? CMD_AGAIN : CMD_DONE;
}

/* CMD_DONE: all messages are decided. */
static enum cmd_result evaluate(struct imap *imap, struct search_state *st)
{
        struct walk_batch b;
        struct err err = ERR_INIT;
        enum cmd_result result = st->in_message && !read_on(imap, st) ? CMD_AGAIN : CMD_DONE;

        while (result == CMD_DONE && !has_enough(st)) {
                imap_selected_refresh(imap);                    /* the right to read may be lost meanwhile */
                if (imap->sel->revoked) {
                        err_set(&st->err, ERR_PERM, "may no longer read the mailbox");
                        return CMD_DONE;
                }
                switch (walk_fill(imap, &st->walk, &b, &err)) {
                case WALK_END:
                        return CMD_DONE;
                case WALK_WAIT:
                        return CMD_WAIT;
                case WALK_FAILED:
                        err_copy(&st->err, &err);
                        return CMD_DONE;
                case WALK_BATCH:
                        result = search_batch(imap, st, &b);
                }
        }
        return result;
}

/* ---- the answer ---- */

static uint32_t lowest(const struct uidset *s)
{
        return s->ranges[0].first;
}

static uint32_t highest(const struct uidset *s)
{
        return s->ranges[s->n - 1].last;
}

/* `$` is what was found – only its ends, if MIN or MAX alone were wanted (RFC 5182 2.4). */
static void save(struct imap *imap, const struct search_state *st)
{
        struct uidset *saved = &imap->sel->saved;
        unsigned ends = st->req.returns & (SEARCH_RETURN_MIN | SEARCH_RETURN_MAX);

        uidset_clear(saved);
        if (!ends || (st->req.returns & (SEARCH_RETURN_ALL | SEARCH_RETURN_COUNT))) {
                uidset_copy(saved, &st->found);
                return;
        }
        if (uidset_empty(&st->found))
                return;
        if (ends & SEARCH_RETURN_MIN)
                uidset_add(saved, lowest(&st->found));
        if (ends & SEARCH_RETURN_MAX)
                uidset_add(saved, highest(&st->found));
}

/* RFC 4731 3.2, RFC 7162 3.1.10: of the messages that are returned. */
static uint64_t modseq_of_answer(const struct search_state *st)
{
        switch (st->req.extended ? st->req.returns & ~(unsigned)SEARCH_RETURN_SAVE : (unsigned)SEARCH_RETURN_ALL) {
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

        imap_put(imap, "* ESEARCH (TAG ");
        imap_put_string(imap, imap->cmd.tag);
        str_append_str(&out, imap->cmd.uid ? ") UID" : ")");
        if (numbers->n && (returns & SEARCH_RETURN_MIN))
                str_printf(&out, " MIN %" PRIu32, lowest(numbers));
        if (numbers->n && (returns & SEARCH_RETURN_MAX))
                str_printf(&out, " MAX %" PRIu32, highest(numbers));
        if (returns & SEARCH_RETURN_COUNT)
                str_printf(&out, " COUNT %" PRIu64, uidset_count(numbers));
        if (numbers->n && (returns & SEARCH_RETURN_ALL)) {
                str_append_str(&out, " ALL ");
                uidset_append(numbers, &out);
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

        search_reader_release(&st->reader);
        if (st->req.returns & SEARCH_RETURN_SAVE)
                save(imap, st);
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
        if (st->err.code != ERR_NONE) {
                forget_saved(imap, st);
                return imap_fail(imap, &st->err);
        }
        return imap_ok(imap, st->missing ? "EXPUNGEISSUED" : NULL, "%s completed", imap->cmd.uid ? "UID SEARCH" : "SEARCH");
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

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (!st->answering) {
                result = evaluate(imap, st);
                if (result != CMD_DONE) {
                        /* In the midst of a message its body stays: to find it again is to read and check its whole record. */
                        if (st->in_message)
                                search_reader_pause(&st->reader);
                        else
                                search_reader_release(&st->reader);
                        if (st->deep)
                                search_eval_idle(st->deep);
                        return result;
                }
        }
        return answer(imap, st);
}
