/*
 * vanished - QRESYNC (RFC 7162 3.2): VANISHED responses, and the parameter of SELECT; see selected.h
 *
 * A set of UIDs is gone through in spans. For each the store tells what was expunged since the modseq; when it has forgotten some of
 * that (tombstones were purged), everything of the span that is not in the view counts as vanished. So neither a large mailbox nor
 * millions of missing UIDs hold the worker or fill memory.
 */
#include "server/imap/selected.h"

#include "util/must.h"

#define RANGES_IN_A_LINE 512                    /* some 10 KiB at most */
#define SPAN_UIDS 65536                         /* gone through in one go */

void imap_put_vanished(struct imap *imap, const struct uidset *uids, bool earlier)
{
        struct str out = STR_INIT;

        for (uint32_t i = 0; i < uids->n; i += RANGES_IN_A_LINE) {
                uint32_t n = uids->n - i < RANGES_IN_A_LINE ? uids->n - i : RANGES_IN_A_LINE;
                const struct uidset part = { uids->ranges + i, n, n };

                str_append_str(&out, earlier ? "* VANISHED (EARLIER) " : "* VANISHED ");
                uidset_append(&part, &out);
                str_append(&out, "\r\n", 2);
        }
        rope_append_span(&imap->s->out, str_span(&out));
        str_deinit(&out);
}

/* ---- what is gone of a set ---- */

void vanished_init(struct imap *imap, struct vanished *v, struct uidset *asked, uint64_t since)
{
        *v = (struct vanished){ .asked = *asked, .since = since, .next = 1 };
        uidset_init(asked);
        uidset_remove_range(&v->asked, view_uidnext(imap->sel->view), UINT32_MAX);
}

void vanished_deinit(struct vanished *v)
{
        uidset_deinit(&v->asked);
}

/* The next span of what was asked for. False: the end. */
static bool next_span(struct vanished *v, struct uidset *span)
{
        uint64_t end;

        uidset_clear(span);
        if (v->range == v->asked.n)
                return false;
        if (v->next < v->asked.ranges[v->range].first)
                v->next = v->asked.ranges[v->range].first;
        end = v->next + SPAN_UIDS - 1;
        while (v->range < v->asked.n && v->asked.ranges[v->range].first <= end) {
                const struct uidrange *r = &v->asked.ranges[v->range];
                uint64_t first = r->first < v->next ? v->next : r->first;

                uidset_add_range(span, (uint32_t)first, r->last < end ? r->last : (uint32_t)end);
                if (r->last > end)
                        break;
                v->range++;
        }
        v->next = end + 1;
        return true;
}

static int tell_span(struct imap *imap, struct vanished *v, struct uidset *span, struct err *err)
{
        struct uidset known = UIDSET_INIT, there = UIDSET_INIT;
        bool complete = true;
        int ret = mailbox_vanished(imap->sel->mbox, v->since, span->ranges[0].first, span->ranges[span->n - 1].last, &known, &complete, err);

        if (ret == 0) {
                if (complete)
                        uidset_intersect(span, &known);
                view_existing_uids(imap->sel->view, span, &there);
                uidset_subtract(span, &there);
                imap_put_vanished(imap, span, true);
        }
        uidset_deinit(&known);
        uidset_deinit(&there);
        return ret;
}

enum cmd_result vanished_tell(struct imap *imap, struct vanished *v, bool *failed, struct err *err)
{
        struct uidset span = UIDSET_INIT;
        enum cmd_result result = CMD_DONE;

        *failed = false;
        while (result == CMD_DONE && next_span(v, &span)) {
                *failed = tell_span(imap, v, &span, err) < 0;
                if (*failed)
                        break;
                result = imap_yield(imap);
        }
        uidset_deinit(&span);
        return result;
}

/* ---- the parameter of SELECT ---- */

void qresync_deinit(struct qresync *q)
{
        uidset_deinit(&q->known);
        uidset_deinit(&q->match_seqnos);
        uidset_deinit(&q->match_uids);
}

/* sequence-set without "*" (RFC 7162 7) */
static int plain_set(struct imap_parser *ip, struct uidset *set_r)
{
        struct span text;

        if (imap_sequence(ip, &text) < 0)
                return -1;
        if (span_index(text, '*') < text.len || span_index(text, '$') < text.len)
                return err_set(&ip->err, ERR_SYNTAX, "QRESYNC takes numbers only in its sets");
        return uidset_parse(text, 1, set_r, &ip->err);
}

/* seq-match-data = "(" known-sequence-set SP known-uid-set ")" */
static int match_data(struct imap_parser *ip, struct qresync *q)
{
        if (imap_open_paren(ip) < 0 || plain_set(ip, &q->match_seqnos) < 0 || imap_sp(ip) < 0 || plain_set(ip, &q->match_uids) < 0 ||
            imap_close_paren(ip) < 0)
                return -1;
        if (uidset_count(&q->match_seqnos) != uidset_count(&q->match_uids))
                return err_set(&ip->err, ERR_SYNTAX, "The match data's sets are not of the same size");
        return 0;
}

int qresync_parse(struct imap_parser *ip, struct qresync *q)
{
        *q = (struct qresync){ .given = true };
        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0 || imap_number(ip, &q->uidvalidity) < 0 || imap_sp(ip) < 0 ||
            imap_number64(ip, &q->since) < 0)
                return -1;
        if (q->uidvalidity == 0 || q->since == 0)
                return err_set(&ip->err, ERR_SYNTAX, "UIDVALIDITY and modseq are never 0");
        if (imap_skip_c(ip, ' ')) {
                q->has_known = !imap_peek_c(ip, '(');
                if (q->has_known && plain_set(ip, &q->known) < 0)
                        return -1;
                if ((!q->has_known || imap_skip_c(ip, ' ')) && match_data(ip, q) < 0)
                        return -1;
        }
        return imap_close_paren(ip);
}

/* The n-th number of a set, from 0. */
static uint32_t nth(const struct uidset *set, uint64_t n)
{
        for (uint32_t i = 0; i < set->n; i++) {
                uint64_t count = (uint64_t)set->ranges[i].last - set->ranges[i].first + 1;

                if (n < count)
                        return set->ranges[i].first + (uint32_t)n;
                n -= count;
        }
        must(!"within the set");
        return 0;
}

static bool pair_matches(struct imap *imap, const struct qresync *q, uint64_t n)
{
        uint32_t seqno = nth(&q->match_seqnos, n);

        return seqno <= view_count(imap->sel->view) && view_uid(imap->sel->view, seqno) == nth(&q->match_uids, n);
}

/*
 * The highest UID of a pair that matches; 0: none. If a message still has the number that the client knows, none below it is gone, so
 * those below match as well: the last one is found by halving.
 */
static uint32_t matched_uid(struct imap *imap, const struct qresync *q)
{
        uint64_t low = 0, high = uidset_count(&q->match_seqnos);

        while (low < high) {
                uint64_t middle = low + (high - low) / 2;

                if (pair_matches(imap, q, middle))
                        low = middle + 1;
                else
                        high = middle;
        }
        return low ? nth(&q->match_uids, low - 1) : 0;
}

void qresync_wanted(struct imap *imap, struct qresync *q, struct uidset *known_r, struct uidset *vanished_r)
{
        uint32_t uidnext = view_uidnext(imap->sel->view), matched = matched_uid(imap, q);

        if (!q->has_known && uidnext > 1)                       /* RFC 7162 3.2.5.1 */
                uidset_add_range(&q->known, 1, uidnext - 1);
        *known_r = q->known;
        uidset_init(&q->known);
        uidset_copy(vanished_r, known_r);
        if (matched)
                uidset_remove_range(vanished_r, 1, matched);
}
