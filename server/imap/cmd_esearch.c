/*
 * ESEARCH (MULTISEARCH, RFC 7377): a search through several mailboxes, one after the other; each that has something gets its
 * ESEARCH response. Mailboxes without the r right are passed over as if they did not exist, and so are those that cannot be opened.
 *
 * What a program says of message sets depends on the mailbox, so it is parsed once more for each. The first parse, against nothing,
 * finds what is out of grammar before anything is looked at.
 */
#include "server/imap/search_context.h"

#include <inttypes.h>

#include "server/imap/mailbox_filter.h"
#include "server/imap/seen.h"
#include "util/log.h"

struct esearch_state {
        struct mailbox_filter *filters;
        struct imap_parser program;             /* at the search program, after the options */
        struct search_request options;          /* what RETURN said */
        struct search_context *context;         /* UPDATE: of the selected mailbox; NULL: none */
        struct mailbox_walk walk;
        bool walking, selected, selected_done;
        bool missing;
        /* the mailbox at hand */
        const struct mbentry *entry;            /* reference; NULL: none */
        struct imap_open open;
        struct mailbox *mbox;                   /* reference; NULL: it is the selected one, or not open yet */
        struct view *view;                      /* reference */
        struct seen *seen;                      /* reference */
        struct arena arena;
        struct search_request req;
        struct search_run run;
        bool running;
        struct search_found found;
        bool searched;
};

static void end_mailbox(struct esearch_state *st)
{
        if (st->running)
                search_run_end(&st->run);
        st->running = st->searched = false;
        memset(&st->run, 0, sizeof st->run);
        search_found_deinit(&st->found);
        view_unref(&st->view);
        seen_unref(&st->seen);
        if (st->mbox)
                mailbox_unref(&st->mbox);
        if (st->entry)
                mbentry_unref(&st->entry);
        arena_reset(&st->arena);
}

static void cleanup(struct imap *imap)
{
        struct esearch_state *st = imap->cmd.state;

        imap_open_release(&st->open);
        search_context_destroy(&st->context);
        end_mailbox(st);
        arena_deinit(&st->arena);
        if (st->walking)
                mailbox_walk_deinit(&st->walk);
}

/* ---- the request ---- */

static bool bad(struct imap *imap, const char *text)
{
        imap_bad(imap, "%s", text);
        return false;
}

/* Nothing that the options say may be impossible (RFC 7377 2.2). */
static bool check_options(struct imap *imap, struct esearch_state *st)
{
        bool others = false;

        for (const struct mailbox_filter *f = st->filters; f; f = f->next)
                if (f->kind == FILTER_SELECTED)
                        st->selected = true;
                else
                        others = true;
        if (!st->filters)
                st->selected = true;
        if (st->selected && !imap->sel)
                return bad(imap, "No mailbox is selected");
        if ((st->options.returns & SEARCH_RETURN_UPDATE) && !st->selected)
                return bad(imap, "UPDATE is for the selected mailbox");
        if (others && (st->options.returns & SEARCH_RETURN_SAVE))
                return bad(imap, "SAVE is for the selected mailbox alone");
        return true;
}

static bool begin(struct imap *imap)
{
        struct esearch_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct esearch_state);
        struct imap_parser *ip = &imap->cmd.args, copy;
        struct uidset none = UIDSET_INIT;
        struct search_sets sets = { .count = 0, .last_uid = 0, .saved = &none,
                                    .filter = search_filter_find, .filter_ctx = imap->cmd.filters };
        struct span w;

        arena_init(&st->arena);
        imap->cmd.cleanup = cleanup;
        if (imap_sp(ip) < 0)
                return bad(imap, ip->err.text);
        copy = *ip;
        if (imap_atom(&copy, &w) == 0 && imap_word_is(w, "IN") && imap_peek_c(&copy, ' ')) {
                *ip = copy;
                if (imap_sp(ip) < 0)
                        return bad(imap, ip->err.text);
                if (!mailbox_filter_parse(imap, &st->filters))
                        return false;
                if (imap_sp(ip) < 0)
                        return bad(imap, ip->err.text);
        }
        st->program = *ip;
        if (search_parse(ip, &sets, &st->options) < 0) {
                search_parse_failed(imap, &st->options);
                return false;
        }
        if (!st->options.extended)
                st->options.returns = SEARCH_RETURN_ALL;        /* RFC 7377 2.1 */
        if (!check_options(imap, st))
                return false;
        if (!search_program_allowed(imap, &st->options))
                return false;
        if ((st->options.returns & SEARCH_RETURN_UPDATE) &&
            !search_context_create(imap, (struct span){ st->program.p, (size_t)(st->program.end - st->program.p) }, false, &st->context))
                return false;
        if (st->options.program->uses_modseq)
                imap_enable_condstore(imap);
        mailbox_walk_init(&st->walk, imap, st->filters);
        st->walking = true;
        if (st->selected)
                imap_selected_refresh(imap);
        if (st->options.returns & SEARCH_RETURN_SAVE)
                uidset_clear(&imap->sel->saved);
        return true;
}

/* ---- one mailbox ---- */

/* Parse for this mailbox, and begin. False: err. */
static bool begin_search(struct imap *imap, struct esearch_state *st, struct err *err)
{
        static const struct uidset none = UIDSET_INIT;
        uint32_t count = view_count(st->view);
        struct search_sets sets = { .count = count, .last_uid = count ? view_uid(st->view, count) : 0,
                                    .saved = st->mbox ? &none : &imap->sel->saved,
                                    .filter = search_filter_find, .filter_ctx = imap->cmd.filters };
        struct imap_parser ip = st->program;

        ip.arena = &st->arena;
        if (search_parse(&ip, &sets, &st->req) < 0) {
                err_copy(err, &ip.err);
                return false;
        }
        st->req.returns = st->options.returns;
        memset(&st->run, 0, sizeof st->run);
        search_run_selected(&st->run, imap);
        st->run.mbox = st->mbox;
        st->run.view = st->view;
        st->run.seen = st->seen;
        if (st->mbox)
                st->run.recent = NULL;
        st->run.program = st->req.program;
        st->run.found = search_found_add;
        st->run.ctx = &st->found;
        st->found.req = &st->req;
        st->run.several = true;
        if (search_run_begin(&st->run, NULL, err) < 0)
                return false;
        st->running = true;
        return true;
}

/* The one that is selected, as this client sees it. */
static bool take_selected(struct imap *imap, struct esearch_state *st, struct err *err)
{
        st->selected_done = true;
        if (imap->sel->vanished || imap->sel->revoked)
                return false;
        table_set(st->walk.told, span_of(imap->sel->entry->uniqueid), st);
        st->entry = mbentry_ref(imap->sel->entry);
        st->view = view_ref(imap->sel->view);
        return begin_search(imap, st, err);
}

/* ---- the answer ---- */

static void put_answer(struct imap *imap, struct esearch_state *st)
{
        struct mailbox *mbox = st->mbox ? st->mbox : imap->sel->mbox;
        unsigned returns = st->req.returns;
        struct mailbox_status status;
        struct str out = STR_INIT;

        if (!st->mbox && (returns & SEARCH_RETURN_SAVE))
                search_save(imap, &st->req, &st->found.uids);
        if (!st->mbox)
                search_context_keep(imap, &st->context, &st->found.uids, NULL, 0);
        if (uidset_empty(&st->found.uids) || !(returns & ~(unsigned)SEARCH_RETURN_SAVE))
                return;
        mailbox_status(mbox, &status);
        imap_put(imap, "* ESEARCH (TAG ");
        imap_put_string(imap, imap->cmd.tag);
        imap_put(imap, " MAILBOX ");
        imap_put_mailbox(imap, st->entry->name);
        str_printf(&out, " UIDVALIDITY %" PRIu32 ") UID", status.uidvalidity);
        search_found_append(&st->found, &st->found.uids, &out);
        rope_append_span(&imap->s->out, str_span(&out));
        str_deinit(&out);
}

/* ---- all of them ---- */

/* A mailbox that cannot be searched is the operator's business; the others are searched all the same. */
static void pass_over(struct imap *imap, struct esearch_state *st, struct err *err)
{
        if (err->code != ERR_NOTFOUND)
                log_event(LOG_ERROR, imap->s->name, "imap.esearch.failed", "mailbox=%s reason=\"%s\"", st->entry ? st->entry->name : "-",
                          err->text);
        st->missing = true;
        err_clear(err);
        end_mailbox(st);
}

/* The next mailbox is open and its search begun: CMD_DONE. CMD_CLOSE: there is none any more. */
static enum cmd_result next_mailbox(struct imap *imap, struct esearch_state *st, struct err *err)
{
        int rc;

        if (st->selected && !st->selected_done && take_selected(imap, st, err))
                return CMD_DONE;
        if (err->code != ERR_NONE)
                return CMD_AGAIN;
        if (!st->entry) {
                rc = mailbox_walk_next(&st->walk, &st->entry, err);
                if (rc != 1)
                        return rc == 0 ? CMD_CLOSE : CMD_AGAIN;
        }
        rc = imap_open_mailbox(imap, &st->open, st->entry, &st->mbox, err);
        if (rc == 0)
                return CMD_WAIT;
        if (rc < 0 || imap_seen_open(imap, st->entry->name, st->mbox, &st->seen, err) < 0)
                return CMD_AGAIN;
        st->view = mailbox_view(st->mbox);
        return begin_search(imap, st, err) ? CMD_DONE : CMD_AGAIN;
}

static enum cmd_result search_mailbox(struct imap *imap, struct esearch_state *st, struct err *err)
{
        struct mailbox *mbox = st->mbox ? st->mbox : imap->sel->mbox;

        if (!st->searched) {
                enum cmd_result result = search_run_step(&st->run);

                if (result != CMD_DONE)
                        return result;
                st->searched = true;
        }
        st->missing |= st->run.missing;
        if (st->run.err.code != ERR_NONE) {
                err_copy(err, &st->run.err);
                return CMD_DONE;
        }
        if (!search_found_score(&st->found, mbox, imap->s))
                return CMD_AGAIN;
        put_answer(imap, st);
        end_mailbox(st);
        return CMD_DONE;
}

enum cmd_result cmd_esearch(struct imap *imap)
{
        struct esearch_state *st;
        enum cmd_result result;

        if (!imap->cmd.state && !search_cmd_begin(imap, begin, &result))
                return result;
        st = imap->cmd.state;
        for (;;) {
                struct err err = ERR_INIT;

                if (imap->s->out.bytes > ROPE_HIGH)
                        return CMD_FLUSH;
                result = st->running ? search_mailbox(imap, st, &err) : next_mailbox(imap, st, &err);
                if (err.code != ERR_NONE)
                        pass_over(imap, st, &err);
                else if (result == CMD_CLOSE)
                        return imap_ok(imap, st->missing ? "EXPUNGEISSUED" : NULL, "ESEARCH completed");
                else if (result == CMD_WAIT || (result == CMD_AGAIN && st->running))
                        return result;
                if (session_slice_over(imap->s))
                        return CMD_AGAIN;
        }
}
