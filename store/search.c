/*
 * search - see search.h. Here: programs, and what can be decided without a message's octets.
 * A key's answer is yes, no or open. Open ones are those that look at content, until they were found in it or all of it was seen.
 */
#include "store/search_private.h"

#include <stdlib.h>

#include "store/uidset.h"
#include "util/clock.h"
#include "util/must.h"

/* ---- programs ---- */

static struct search_key *key_new(struct search_program *p, enum search_op op)
{
        struct search_key *k = ARENA_NEW(p->arena, struct search_key);

        k->op = op;
        k->needle = -1;
        p->keys_n++;
        return k;
}

struct search_program *search_program_create(struct arena *arena)
{
        struct search_program *p = ARENA_NEW(arena, struct search_program);

        p->arena = arena;
        p->now_s = clock_wall_s();
        p->root = key_new(p, SEARCH_AND);
        return p;
}

struct search_key *search_key_add(struct search_program *p, struct search_key *parent, enum search_op op, struct err *err)
{
        struct search_key *k;

        if (!parent)
                parent = p->root;
        must(parent->op == SEARCH_AND || parent->op == SEARCH_OR || parent->op == SEARCH_NOT);
        if (p->keys_n >= SEARCH_KEYS_MAX) {
                err_set(err, ERR_LIMIT, "more than %d search keys", SEARCH_KEYS_MAX);
                return NULL;
        }
        k = key_new(p, op);
        if (parent->last)
                parent->last->next = k;
        else
                parent->list = k;
        parent->last = k;
        return k;
}

int search_text_convert(struct search_program *p, struct span charset, struct span in, struct span *out_r, struct err *err)
{
        struct str utf8 = STR_INIT;

        if (!charset_known(charset))
                return err_set(err, ERR_CHARSET, "unknown charset");
        charset_to_utf8(charset, in, &utf8);
        *out_r = arena_span(p->arena, str_span(&utf8));
        str_deinit(&utf8);
        return 0;
}

static bool looks_for_text(const struct search_key *k)
{
        return k->op == SEARCH_HEADER || k->op == SEARCH_BODY || k->op == SEARCH_TEXT;
}

static bool is_sent(const struct search_key *k)
{
        return k->op == SEARCH_SENTBEFORE || k->op == SEARCH_SENTON || k->op == SEARCH_SENTSINCE;
}

static int needle_add(struct search_program *p, struct search_key *k, struct err *err)
{
        struct str canonical = STR_INIT;
        int ret = -1;

        k->needle = -1;
        if (k->text.len == 0)
                return 0;
        if (k->text.len > SEARCH_NEEDLE_MAX)
                return err_set(err, ERR_LIMIT, "a search string of %zu octets", k->text.len);
        casemap_span(k->text, &canonical);
        for (unsigned i = 0; i < p->needles_n && k->needle < 0; i++)
                if (span_eq(p->needles[i], str_span(&canonical)))
                        k->needle = (int)i;
        if (k->needle < 0) {
                if (p->needles_n == SEARCH_NEEDLES_MAX || canonical.len > SEARCH_NEEDLE_MAX) {
                        err_set(err, ERR_LIMIT, "search strings are too many or too long");
                        goto out;
                }
                k->needle = (int)p->needles_n;
                p->needles[p->needles_n++] = arena_span(p->arena, str_span(&canonical));
                if (canonical.len > p->needle_max)
                        p->needle_max = canonical.len;
        }
        ret = 0;
out:
        str_deinit(&canonical);
        return ret;
}

static int finish_key(struct search_program *p, struct search_key *k, unsigned depth, unsigned *index, struct err *err)
{
        if (depth > SEARCH_DEPTH_MAX)
                return err_set(err, ERR_LIMIT, "search keys nested deeper than %d", SEARCH_DEPTH_MAX);
        k->index = *index;
        p->by_index[(*index)++] = k;
        if (k->op == SEARCH_MODSEQ)
                p->uses_modseq = true;
        if (k->op == SEARCH_SEQSET)
                p->uses_seqnos = true;
        if (is_sent(k) || looks_for_text(k))
                p->uses_content = true;
        if (k->op == SEARCH_ANNOTATION && ++p->annotations_n > SEARCH_ANNOTATIONS_MAX)
                return err_set(err, ERR_LIMIT, "more than %d ANNOTATION keys", SEARCH_ANNOTATIONS_MAX);
        if ((looks_for_text(k) || k->op == SEARCH_ANNOTATION) && needle_add(p, k, err) < 0)
                return -1;
        for (struct search_key *child = k->list; child; child = child->next)
                if (finish_key(p, child, depth + 1, index, err) < 0)
                        return -1;
        return 0;
}

int search_program_finish(struct search_program *p, struct err *err)
{
        unsigned index = 0;

        p->by_index = ARENA_ARRAY(p->arena, struct search_key *, p->keys_n);
        p->needles = ARENA_ARRAY(p->arena, struct span, SEARCH_NEEDLES_MAX);
        p->needles_n = 0;
        p->annotations_n = 0;
        p->needle_max = 0;
        return finish_key(p, p->root, 0, &index, err);
}

/* ---- answers ---- */

static int64_t day_of(int64_t unix_s)
{
        return unix_s / 86400 - (unix_s % 86400 < 0);
}

static enum tri tri(bool yes)
{
        return yes ? TRI_YES : TRI_NO;
}

enum tri search_sent(const struct search_key *k, int64_t day)
{
        switch (k->op) {
        case SEARCH_SENTBEFORE:
                return tri(day < k->day);
        case SEARCH_SENTON:
                return tri(day == k->day);
        default:
                return tri(day >= k->day);
        }
}

/* The day as written differs from the UTC day by the zone, which only the header knows: open when that matters. */
static enum tri sent_from_record(const struct search_key *k, const struct search_message *m)
{
        int64_t first, last;
        const int64_t zone_max = 25 * 3600;
        enum tri a, b;

        if (!m->has_sentdate)
                return TRI_NO;
        first = day_of(m->sentdate - zone_max);
        last = day_of(m->sentdate + zone_max);
        if (k->op == SEARCH_SENTON)
                return k->day < first || k->day > last ? TRI_NO : TRI_OPEN;
        a = search_sent(k, first);
        b = search_sent(k, last);
        return a == b ? a : TRI_OPEN;
}

static enum tri day_key(enum search_op op, int64_t key_day, int64_t unix_s)
{
        int64_t day = day_of(unix_s);

        if (op == SEARCH_BEFORE || op == SEARCH_SAVEDBEFORE)
                return tri(day < key_day);
        if (op == SEARCH_ON || op == SEARCH_SAVEDON)
                return tri(day == key_day);
        return tri(day >= key_day);
}

/* RFC 5032 2.1: YOUNGER is within the interval, OLDER the opposite or equal to it. */
static enum tri age_key(const struct search_key *k, int64_t now_s, int64_t internaldate)
{
        int64_t edge = k->number > INT64_MAX / 2 ? INT64_MIN / 2 : now_s - (int64_t)k->number;

        return tri(k->op == SEARCH_OLDER ? internaldate <= edge : internaldate >= edge);
}

static enum tri content_key(const struct search_eval *e, const struct search_key *k)
{
        if (is_sent(k) && e->value[k->index] == TRI_OPEN)
                return sent_from_record(k, &e->msg);
        if ((k->op == SEARCH_BODY || k->op == SEARCH_TEXT) && k->needle < 0)
                return TRI_YES;
        return e->value[k->index];
}

/* Asked once for each message: it is not cheap. */
static enum tri annotation_key(const struct search_eval *e, const struct search_key *k)
{
        struct span needle = k->needle < 0 ? SPAN("") : e->program->needles[k->needle];

        if (e->value[k->index] != TRI_OPEN)
                return e->value[k->index];
        return tri(e->msg.has_annotation && e->msg.has_annotation(e->msg.ctx, k, needle));
}

static enum tri leaf(const struct search_eval *e, const struct search_key *k)
{
        const struct search_message *m = &e->msg;

        switch (k->op) {
        case SEARCH_ALL:
                return TRI_YES;
        case SEARCH_SEQSET:
                return tri(uidset_has(k->set, m->seqno));
        case SEARCH_UIDSET:
                return tri(uidset_has(k->set, m->uid));
        case SEARCH_FLAGS:
                return tri((m->flags & k->flags) == k->flags);
        case SEARCH_KEYWORD:
                return tri(m->has_keyword && m->has_keyword(m->ctx, k->text));
        case SEARCH_BEFORE:
        case SEARCH_ON:
        case SEARCH_SINCE:
                return day_key(k->op, k->day, m->internaldate);
        case SEARCH_SAVEDBEFORE:
        case SEARCH_SAVEDON:
        case SEARCH_SAVEDSINCE:
                return day_key(k->op, k->day, m->has_savedate ? m->savedate : m->internaldate);
        case SEARCH_LARGER:
                return tri(m->size > k->number);
        case SEARCH_SMALLER:
                return tri(m->size < k->number);
        case SEARCH_MODSEQ:
                return tri(m->modseq >= k->number);
        case SEARCH_OLDER:
        case SEARCH_YOUNGER:
                return age_key(k, e->program->now_s, m->internaldate);
        case SEARCH_EMAILID:
                return tri(span_eq(m->emailid, k->text));
        case SEARCH_ANNOTATION:
                return annotation_key(e, k);
        case SEARCH_THREADID:
                return tri(m->threadid.len && span_eq(m->threadid, k->text));
        default:
                return content_key(e, k);
        }
}

/* Depth is bounded by search_program_finish(). */
static enum tri answer(struct search_eval *e, const struct search_key *k)
{
        enum tri whole;

        if (k->op != SEARCH_AND && k->op != SEARCH_OR && k->op != SEARCH_NOT)
                return e->value[k->index] = (uint8_t)leaf(e, k);
        whole = k->op == SEARCH_OR ? TRI_NO : TRI_YES;
        for (const struct search_key *c = k->list; c; c = c->next) {
                enum tri one = answer(e, c);

                if (one == TRI_OPEN) {
                        whole = TRI_OPEN;
                } else if (one == (k->op == SEARCH_OR ? TRI_YES : TRI_NO)) {
                        whole = one;                            /* settled, whatever the others say */
                        break;
                }
        }
        if (k->op == SEARCH_NOT && whole != TRI_OPEN)
                whole = whole == TRI_YES ? TRI_NO : TRI_YES;
        return e->value[k->index] = (uint8_t)whole;
}

enum tri search_evaluate(struct search_eval *e)
{
        return answer(e, e->program->root);
}

static void collect(struct search_eval *e, const struct search_key *k)
{
        if (e->value[k->index] != TRI_OPEN)
                return;
        if (k->op == SEARCH_HEADER || is_sent(k))
                e->headers.v[e->headers.n++] = k->index;
        else if (k->op == SEARCH_BODY)
                e->bodies.v[e->bodies.n++] = k->index;
        else if (k->op == SEARCH_TEXT)
                e->texts.v[e->texts.n++] = k->index;
        for (const struct search_key *c = k->list; c; c = c->next)
                collect(e, c);
}

/* Below an open key every child was computed: only a settled one stops answer() early. */
void search_collect(struct search_eval *e)
{
        e->headers.n = e->bodies.n = e->texts.n = 0;
        collect(e, e->program->root);
}
