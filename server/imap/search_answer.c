/* search_answer - what SEARCH, SORT and their like share in answering; see search_private.h */
#include "server/imap/search_private.h"

#include <inttypes.h>
#include <stdio.h>

#include "util/clock.h"

struct search_sets search_sets_selected(struct imap *imap)
{
        struct imap_selected *sel = imap->sel;
        uint32_t count = view_count(sel->view);

        return (struct search_sets){ .count = count, .last_uid = count ? view_uid(sel->view, count) : 0, .saved = &sel->saved,
                                     .filter = search_filter_find, .filter_ctx = imap->cmd.filters };
}

void search_parse_failed(struct imap *imap, const struct search_request *req)
{
        const struct err *err = &imap->cmd.args.err;
        char code[200];

        switch (err->code) {
        case ERR_CHARSET:
                imap_no(imap, "BADCHARSET (US-ASCII UTF-8)", "%s", err->text);
                break;
        case ERR_NOTFOUND:
                snprintf(code, sizeof code, "UNDEFINED-FILTER %.*s", (int)(req->undefined_filter.len < 150 ? req->undefined_filter.len : 150),
                         req->undefined_filter.p);
                imap_no(imap, code, "%s", err->text);
                break;
        case ERR_UNSUPPORTED:
                imap_bad(imap, "[BADCHARSET (US-ASCII UTF-8)] %s", err->text);
                break;
        default:
                imap_bad(imap, "%s", err->text);
        }
}

bool search_program_allowed(struct imap *imap, const struct search_request *req)
{
        imap->cmd.seqnos = req->program->uses_seqnos;
        if (!imap_numbers_allowed(imap))
                return false;
        if (imap->utf8 && req->charset_conflicts) {
                imap_bad(imap, "With UTF8=ACCEPT there is no other charset");
                return false;
        }
        return true;
}

enum cmd_result search_run_reply(struct imap *imap, const struct search_run *run, const char *command)
{
        if (run->err.code != ERR_NONE)
                return imap_fail(imap, &run->err);
        return imap_ok(imap, run->missing ? "EXPUNGEISSUED" : NULL, "%s%s completed", imap->cmd.uid ? "UID " : "", command);
}

void search_put_esearch(struct imap *imap, struct str *out)
{
        imap_put(imap, "* ESEARCH (TAG ");
        imap_put_string(imap, imap->cmd.tag);
        str_append_str(out, imap->cmd.uid ? ") UID" : ")");
}

void search_append_ordered(const uint32_t *numbers, size_t n, struct str *out)
{
        for (size_t i = 0; i < n;) {
                size_t last = i;

                while (last + 1 < n && numbers[last + 1] == numbers[last] + 1)
                        last++;
                if (i)
                        str_append_c(out, ',');
                str_append_u64(out, numbers[i]);
                if (last > i) {
                        str_append_c(out, ':');
                        str_append_u64(out, numbers[last]);
                }
                i = last + 1;
        }
}

void search_partial_range(const struct search_partial *partial, size_t n, size_t *from_r, size_t *to_r)
{
        size_t first = partial->first - 1, last = partial->last < n ? partial->last : n;

        if (first > last)
                first = last;
        *from_r = partial->from_end ? n - last : first;
        *to_r = partial->from_end ? n - first : last;
}

void search_append_partial(const struct search_partial *partial, const uint32_t *numbers, size_t n, struct str *out)
{
        size_t from, to;

        search_partial_range(partial, n, &from, &to);
        str_append_str(out, " PARTIAL (");
        str_append_span(out, partial->text);
        str_append_c(out, ' ');
        if (from < to)
                search_append_ordered(numbers + from, to - from, out);
        else
                str_append_str(out, "NIL");
        str_append_c(out, ')');
}

void search_slice(const struct uidset *set, size_t from, size_t to, struct uidset *out)
{
        size_t before = 0;

        for (uint32_t i = 0; i < set->n && before < to; i++) {
                struct uidrange r = set->ranges[i];
                size_t n = (size_t)r.last - r.first + 1;
                size_t skip = from > before ? from - before : 0, end = to - before < n ? to - before : n;

                if (skip < end)
                        uidset_add_range(out, r.first + (uint32_t)skip, r.first + (uint32_t)end - 1);
                before += n;
        }
}

/* ---- what SEARCH and ESEARCH say of UIDs or sequence numbers in mailbox order ---- */

static uint32_t lowest(const struct uidset *s)
{
        return s->ranges[0].first;
}

static uint32_t highest(const struct uidset *s)
{
        return s->ranges[s->n - 1].last;
}

static void partial_of(const struct search_request *req, const struct uidset *set, struct uidset *out)
{
        size_t from, to;

        search_partial_range(&req->partial, uidset_count(set), &from, &to);
        search_slice(set, from, to, out);
}

/* `$` is what was found – only its ends, if MIN or MAX alone were wanted (RFC 5182 2.4), or a part of it (RFC 9394 3.2). */
void search_save(struct imap *imap, const struct search_request *req, const struct uidset *found)
{
        struct uidset *saved = &imap->sel->saved;
        unsigned parts = req->returns & (SEARCH_RETURN_MIN | SEARCH_RETURN_MAX | SEARCH_RETURN_PARTIAL);

        uidset_clear(saved);
        if (!parts || (req->returns & (SEARCH_RETURN_ALL | SEARCH_RETURN_COUNT))) {
                uidset_copy(saved, found);
                return;
        }
        if (uidset_empty(found))
                return;
        if (parts & SEARCH_RETURN_PARTIAL)
                partial_of(req, found, saved);
        if (parts & SEARCH_RETURN_MIN)
                uidset_add(saved, lowest(found));
        if (parts & SEARCH_RETURN_MAX)
                uidset_add(saved, highest(found));
}

static void append_partial(const struct search_request *req, const struct uidset *numbers, struct str *out)
{
        struct uidset part = UIDSET_INIT;

        partial_of(req, numbers, &part);
        str_append_str(out, " PARTIAL (");
        str_append_span(out, req->partial.text);
        str_append_c(out, ' ');
        if (part.n)
                uidset_append(&part, out);
        else
                str_append_str(out, "NIL");
        str_append_c(out, ')');
        uidset_deinit(&part);
}

/* What a request returns that does not say. */
static unsigned search_returns(const struct search_request *req)
{
        return req->extended ? req->returns : (unsigned)SEARCH_RETURN_ALL;
}

void search_append_results(const struct search_request *req, const struct uidset *numbers, struct str *out)
{
        unsigned returns = search_returns(req);

        if (numbers->n && (returns & SEARCH_RETURN_MIN))
                str_printf(out, " MIN %" PRIu32, lowest(numbers));
        if (numbers->n && (returns & SEARCH_RETURN_MAX))
                str_printf(out, " MAX %" PRIu32, highest(numbers));
        if (returns & SEARCH_RETURN_COUNT)
                str_printf(out, " COUNT %" PRIu64, uidset_count(numbers));
        if (numbers->n && (returns & SEARCH_RETURN_ALL)) {
                str_append_str(out, " ALL ");
                uidset_append(numbers, out);
        }
        if (returns & SEARCH_RETURN_PARTIAL)
                append_partial(req, numbers, out);
}

void search_append_relevancy(const struct search_request *req, const struct sort_set *set, const struct sort_order *o, struct str *out)
{
        size_t from = 0, to = set->n;

        if (!(req->returns & SEARCH_RETURN_RELEVANCY))
                return;
        if (req->returns & SEARCH_RETURN_PARTIAL)
                search_partial_range(&req->partial, set->n, &from, &to);
        sort_set_append_relevancy(set, o, from, to, out);
}

/* ---- what was found ---- */

void search_found_add(void *ctx, const struct msg *m, uint32_t seqno)
{
        struct search_found *f = ctx;

        if (uidset_empty(&f->uids))
                f->modseq_first = m->modseq;
        f->modseq_last = m->modseq;
        if (m->modseq > f->modseq_highest)
                f->modseq_highest = m->modseq;
        uidset_add(&f->uids, m->uid);
        if (f->req->returns & SEARCH_RETURN_RELEVANCY)
                sort_set_found(&f->set, m, seqno);
}

bool search_found_score(struct search_found *f, struct mailbox *mbox, struct session *s)
{
        return !(f->req->returns & SEARCH_RETURN_RELEVANCY) || (sort_set_load(&f->set, mbox, s) && sort_set_score(&f->set, f->req, s));
}

uint64_t search_found_modseq(const struct search_found *f)
{
        switch (search_returns(f->req) & ~(unsigned)SEARCH_RETURN_NO_DATA) {
        case SEARCH_RETURN_MIN:
                return f->modseq_first;
        case SEARCH_RETURN_MAX:
                return f->modseq_last;
        case SEARCH_RETURN_MIN | SEARCH_RETURN_MAX:
                return f->modseq_first > f->modseq_last ? f->modseq_first : f->modseq_last;
        default:
                return f->modseq_highest;
        }
}

void search_found_append(const struct search_found *f, const struct uidset *numbers, struct str *out)
{
        search_append_results(f->req, numbers, out);
        search_append_relevancy(f->req, &f->set, NULL, out);
        if (!uidset_empty(numbers) && f->req->program->uses_modseq)
                str_printf(out, " MODSEQ %" PRIu64, search_found_modseq(f));
        str_append_str(out, "\r\n");
}

void search_found_deinit(struct search_found *f)
{
        uidset_deinit(&f->uids);
        sort_set_deinit(&f->set);
        *f = (struct search_found){ .req = NULL };
}
