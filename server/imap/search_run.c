/*
 * search_run - a search program run over the messages of a mailbox; see search_private.h
 *
 * Messages are taken in batches. First each is asked what can be answered from its state alone; only those that stay open are
 * read, through search_read.c's window. The search may be parked between any two pieces of a message; then it gives back all but
 * that message's body and the evaluator's place.
 */
#include "server/imap/search_private.h"

#define STEP_OCTETS ((uint64_t)64 * 1024)       /* of a message, between two looks at the clock */

/* ---- which messages ---- */

/* Only those of the candidates. */
static int narrow(struct uidset *uids, struct uidset *candidates)
{
        uidset_intersect(uids, candidates);
        uidset_deinit(candidates);
        return 0;
}

/* Keys at the top all must hold: sets and MODSEQ say where to look at all, the latter from the index (RFC 7162 3.1.5). */
static int narrow_by_key(struct search_run *run, const struct search_key *k, struct uidset *uids, struct err *err)
{
        struct uidset candidates = UIDSET_INIT;
        int ret = 0;

        if (k->op == SEARCH_UIDSET)
                view_existing_uids(run->view, k->set, &candidates);
        else if (k->op == SEARCH_SEQSET)
                ret = view_seqnos_to_uids(run->view, k->set, &candidates, err);
        else if (k->op == SEARCH_MODSEQ && k->number > 0)
                ret = mailbox_changed(run->mbox, run->view, k->number - 1, UINT64_MAX, 1, UINT32_MAX, &candidates, err);
        else
                return 0;
        if (ret == 0)
                return narrow(uids, &candidates);
        uidset_deinit(&candidates);
        return -1;
}

static int choose_messages(struct search_run *run, struct uidset *among, struct err *err)
{
        struct uidset all = UIDSET_INIT, uids = UIDSET_INIT;
        uint64_t unreadable = view_unreadable();
        int ret = 0;

        if (among) {
                all = *among;
                uidset_init(among);
        } else {
                uidset_add_range(&all, 1, UINT32_MAX);
        }
        view_existing_uids(run->view, &all, &uids);
        for (const struct search_key *k = run->program->root->list; k && ret == 0; k = k->next)
                ret = narrow_by_key(run, k, &uids, err);
        if (ret == 0)
                ret = imap_uids_read(unreadable, err);
        run->total = uidset_count(&uids);
        walk_init_in(&run->walk, run->own ? run->mbox : NULL, run->view, run->seen, &uids);
        run->walk.no_wait = run->no_wait;
        uidset_deinit(&all);
        uidset_deinit(&uids);
        return ret;
}

void search_run_selected(struct search_run *run, struct imap *imap)
{
        run->imap = imap;
        run->view = imap->sel ? imap->sel->view : NULL;
        run->recent = imap->sel ? &imap->sel->recent : NULL;
}

int search_run_begin(struct search_run *run, struct uidset *among, struct err *err)
{
        run->own = run->mbox != NULL;
        run->before = atomic_load(&run->imap->cmd.progress.done);
        if (!run->own)
                run->mbox = run->imap->sel->mbox;
        run->reader.mbox = run->mbox;
        run->reader.userid = run->imap->userid;
        for (unsigned i = 0; i < run->program->keys_n; i++)
                run->uses_objectids |= run->program->by_index[i]->op == SEARCH_EMAILID || run->program->by_index[i]->op == SEARCH_THREADID;
        arena_init(&run->parts);
        if (choose_messages(run, among, err) < 0) {
                walk_deinit(&run->walk);
                return -1;
        }
        run->cheap = search_eval_create(run->program);
        if (run->program->uses_content)
                run->deep = search_eval_create(run->program);
        return 0;
}

void search_run_end(struct search_run *run)
{
        search_reader_release(&run->reader);
        search_eval_destroy(&run->cheap);
        search_eval_destroy(&run->deep);
        arena_deinit(&run->parts);
        walk_deinit(&run->walk);
}

/* ---- one message ---- */

static struct search_message describe(struct search_run *run, struct search_reader *ctx, const struct msg *m, uint32_t seqno)
{
        struct search_message sm = {
                .uid = m->uid, .seqno = seqno, .flags = m->flags & MSG_SYSTEM_FLAGS, .modseq = m->modseq, .size = m->size,
                .internaldate = m->internaldate, .savedate = m->savedate, .has_savedate = true,
                .has_sentdate = m->sentdate != INT64_MIN, .sentdate = m->sentdate,
                .ctx = ctx, .has_keyword = search_has_keyword, .has_annotation = search_has_annotation, .read = search_read,
                .peek = search_peek,
        };

        if (run->recent && run->recent->n && uidset_has(run->recent, m->uid))
                sm.flags |= SEARCH_FLAG_RECENT;
        if (run->uses_objectids) {
                objectid_email(m, run->emailid);
                objectid_thread(m, run->threadid);
                sm.emailid = span_of(run->emailid);
                sm.threadid = span_of(run->threadid);
        }
        return sm;
}

static void note_failure(struct search_run *run, const struct msg *m, const struct err *err)
{
        if (err->code == ERR_NOTFOUND || (m->flags & MSG_EXPUNGED))
                run->missing = true;
        else if (run->err.code == ERR_NONE)
                err_copy(&run->err, err);
}

/* Begin to read a message that its state did not decide. False: it cannot be read. */
static bool open_deep(struct search_run *run, const struct msg *m, uint32_t seqno)
{
        struct search_message sm = describe(run, &run->reader, m, seqno);
        struct msg_front front = { 0 };
        struct err err = ERR_INIT;

        arena_reset(&run->parts);
        if (mailbox_front(run->mbox, m, FRONT_PARTS, &run->parts, NULL, &front, &err) < 0) {
                note_failure(run, m, &err);
                return false;
        }
        sm.parts = front.parts;
        sm.parts_n = front.part_count;
        run->reader.uid = m->uid;
        run->reader.kwset = m->kwset;
        run->msg = *m;
        run->seqno = seqno;
        run->in_message = search_begin(run->deep, &sm) == SEARCH_MORE;
        return true;
}

/* Until the message at hand is decided (true) or the slice is over. */
static bool read_on(struct search_run *run)
{
        struct err err = ERR_INIT;
        enum search_result result;
        uint64_t budget;

        do {
                budget = STEP_OCTETS;
                result = search_step(run->deep, &budget, &err);
                if (result == SEARCH_MORE && session_slice_over(run->imap->s))
                        return false;
        } while (result == SEARCH_MORE);
        if (result == SEARCH_YES)
                run->found(run->ctx, &run->msg, run->seqno);
        if (result == SEARCH_ERROR)
                note_failure(run, &run->msg, &err);
        run->in_message = false;
        return true;
}

/* ---- a batch ---- */

/* What their state says: YES, NO, or MORE. */
static void ask_cheaply(struct search_run *run, const struct walk_batch *b, enum search_result *results)
{
        struct search_reader *ctx = &run->reader;

        for (uint32_t i = 0; i < b->n; i++) {
                struct search_message sm;

                if (b->msg[i].uid == 0) {
                        run->missing = true;
                        results[i] = SEARCH_NO;
                        continue;
                }
                ctx->uid = b->msg[i].uid;
                ctx->kwset = b->msg[i].kwset;
                sm = describe(run, ctx, &b->msg[i], b->seqno[i]);
                results[i] = search_begin(run->cheap, &sm);
        }
}

static bool has_enough(const struct search_run *run)
{
        return run->enough && run->enough(run->ctx);
}

/* CMD_DONE: the whole batch is decided. */
static enum cmd_result search_batch(struct search_run *run, const struct walk_batch *b)
{
        enum search_result results[WALK_MAX];
        struct err err = ERR_INIT;

        ask_cheaply(run, b, results);
        for (uint32_t i = 0; i < b->n && !has_enough(run); i++) {
                walk_done(&run->walk, 1);
                run->looked++;
                if (results[i] == SEARCH_YES)
                        run->found(run->ctx, &b->msg[i], b->seqno[i]);
                if (results[i] != SEARCH_MORE)
                        continue;
                search_reader_ahead(&run->reader, b, i, results);
                if (search_reader_open(&run->reader, &b->msg[i], b->n, i, &err) < 0) {
                        note_failure(run, &b->msg[i], &err);
                        err_clear(&err);
                        continue;
                }
                if (!open_deep(run, &b->msg[i], b->seqno[i]))
                        continue;
                if ((run->in_message && !read_on(run)) || session_slice_over(run->imap->s))
                        return CMD_AGAIN;
        }
        search_reader_end_batch(&run->reader);
        return session_slice_over(run->imap->s) ? CMD_AGAIN : CMD_DONE;
}

static enum cmd_result evaluate(struct search_run *run)
{
        struct walk_batch b;
        struct err err = ERR_INIT;
        enum cmd_result result = run->in_message && !read_on(run) ? CMD_AGAIN : CMD_DONE;

        while (result == CMD_DONE && !has_enough(run)) {
                if (!run->own) {                                /* the right to read may be lost meanwhile */
                        imap_selected_refresh(run->imap);
                        if (run->imap->sel->revoked) {
                                err_set(&run->err, ERR_PERM, "may no longer read the mailbox");
                                return CMD_DONE;
                        }
                }
                switch (walk_fill(run->imap, &run->walk, &b, &err)) {
                case WALK_END:
                        return CMD_DONE;
                case WALK_WAIT:
                        return CMD_WAIT;
                case WALK_FAILED:
                        err_copy(&run->err, &err);
                        return CMD_DONE;
                case WALK_BATCH:
                        result = search_batch(run, &b);
                }
        }
        return result;
}

/* A goal does not change (RFC 9585 4), so that of several mailboxes there is none. */
static void tell_progress(const struct search_run *run)
{
        if (!run->several)
                progress_begin(&run->imap->cmd.progress, run->total);
        progress_set(&run->imap->cmd.progress, run->before + run->looked - run->in_message);
}

enum cmd_result search_run_step(struct search_run *run)
{
        enum cmd_result result = evaluate(run);

        /* In the midst of a message its body stays: to find it again is to read and check its whole record. */
        if (result != CMD_DONE && run->in_message)
                search_reader_pause(&run->reader);
        else
                search_reader_release(&run->reader);
        if (!run->no_wait)
                tell_progress(run);
        if (result != CMD_DONE && run->deep)
                search_eval_idle(run->deep);
        return result;
}
