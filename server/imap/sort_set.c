/*
 * sort_set - messages that a search found, what is to be known of them, and their order; see search_private.h
 *
 * Dates and sizes come with the message's state. What stands in headers is only looked up when a criterion asks for it, from the store's
 * cache of facts. Sorting is by a 64-bit key of the first criterion – for texts their first eight octets –, so that most comparisons
 * touch nothing else.
 */
#include "server/imap/search_private.h"
#include "store/annot.h"

#include <stdlib.h>

#include "util/array.h"
#include "util/charset.h"
#include "util/must.h"

#define AT_ONCE 8192                            /* items, between two looks at the clock */

/* ---- the set ---- */

void sort_set_found(void *ctx, const struct msg *m, uint32_t seqno)
{
        struct sort_set *set = ctx;

        if (set->n == set->cap) {
                set->cap += set->cap / 2 + 256;
                set->v = xrealloc(set->v, set->cap * sizeof *set->v);
        }
        set->v[set->n++] = (struct sort_message){
                .uid = m->uid, .seqno = seqno, .check = sort_check(m->guid), .internaldate = m->internaldate, .size = m->size, .modseq = m->modseq,
                .sent = m->sentdate != INT64_MIN ? m->sentdate : m->internaldate,
        };
}

static bool slice_over(void *ctx)
{
        return session_slice_over(ctx);
}

bool sort_set_load(struct sort_set *set, struct mailbox *mbox, struct session *s)
{
        if (set->facts && set->loaded == set->n)
                return true;
        if (!set->facts) {
                sort_loader_init(&set->loader, mbox);
                set->facts = xcalloc(set->n ? set->n : 1, sizeof *set->facts);
                set->wanted = xcalloc(set->n ? set->n : 1, sizeof *set->wanted);
                for (uint32_t i = 0; i < set->n; i++)
                        set->wanted[i] = (struct sort_wanted){ set->v[i].uid, set->v[i].check };
        }
        if (!sort_loader_run(&set->loader, set->wanted, set->facts, set->n, &set->loaded, slice_over, s))
                return false;
        free(set->wanted);
        set->wanted = NULL;
        return true;
}

static struct span annotation_text(struct sort_set *set, struct mailbox *mbox, const struct sort_annotation *a, const char *userid,
                                   uint32_t uid)
{
        struct arena arena = ARENA_INIT;
        struct span shared, private, *value = a->private ? &private : &shared, text = { NULL, 0 };
        struct str canonical = STR_INIT;

        mailbox_annot_values(mbox, uid, a->entry.p, userid, &arena, &shared, &private);
        if (value->len) {
                casemap_span(*value, &canonical);
                if (canonical.len > SORT_TEXT_MAX)
                        str_truncate(&canonical, SORT_TEXT_MAX);
                text = arena_span(&set->annots_arena, str_span(&canonical));
        }
        str_deinit(&canonical);
        arena_deinit(&arena);
        return text;
}

bool sort_set_load_annots(struct sort_set *set, const struct sort_criteria *criteria, struct mailbox *mbox, const char *userid,
                          struct session *s)
{
        if (!criteria->uses_annotations)
                return true;
        for (unsigned i = 0; i < criteria->n; i++)
                if (criteria->v[i].by == SORT_ANNOTATION && !set->annots[i])
                        set->annots[i] = xcalloc(set->n ? set->n : 1, sizeof *set->annots[i]);
        for (; set->annots_loaded < set->n; set->annots_loaded++) {
                if (set->annots_loaded % 256 == 255 && session_slice_over(s))
                        return false;
                for (unsigned i = 0; i < criteria->n; i++)
                        if (set->annots[i])
                                set->annots[i][set->annots_loaded] =
                                        annotation_text(set, mbox, &criteria->v[i].annotation, userid, set->v[set->annots_loaded].uid);
        }
        return true;
}

/*
 * Relevancy is where the words of FUZZY keys are found: most in the subject, then in whom it is from, then in whom it is to; that they are in
 * what was searched is what all found messages share. Weights first, spread over 1 to 100 in the end.
 */
static uint8_t weigh(const struct sort_facts *f, const struct span *words, unsigned n)
{
        static const struct { enum sort_text where; unsigned weight; } places[] = {
                { SORT_TEXT_SUBJECT, 60 }, { SORT_TEXT_DISPLAYFROM, 25 }, { SORT_TEXT_FROM, 15 }, { SORT_TEXT_DISPLAYTO, 10 },
                { SORT_TEXT_CC, 5 },
        };
        unsigned sum = 0;

        for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
                struct span text = sort_facts_text(f, places[i].where);

                for (unsigned k = 0; k < n; k++)
                        if (text.len >= words[k].len && memmem(text.p, text.len, words[k].p, words[k].len))
                                sum += places[i].weight;
        }
        return (uint8_t)(n ? sum / n : 0);
}

static void spread(uint8_t *scores, uint32_t n)
{
        uint8_t low = UINT8_MAX, high = 0;

        for (uint32_t i = 0; i < n; i++) {
                low = scores[i] < low ? scores[i] : low;
                high = scores[i] > high ? scores[i] : high;
        }
        for (uint32_t i = 0; i < n; i++)
                scores[i] = (uint8_t)(high == low ? 100 : 1 + (scores[i] - low) * 99u / (unsigned)(high - low));
}

bool sort_set_score(struct sort_set *set, const struct search_request *req, struct session *s)
{
        struct span words[SEARCH_FUZZY_WORDS_MAX];
        struct str canonical[SEARCH_FUZZY_WORDS_MAX];
        bool done;

        if (!set->scores)
                set->scores = xcalloc(set->n ? set->n : 1, sizeof *set->scores);
        for (unsigned i = 0; i < req->fuzzy_words_n; i++) {
                str_init(&canonical[i]);
                casemap_span(req->fuzzy_words[i], &canonical[i]);
                words[i] = str_span(&canonical[i]);
        }
        for (; set->scored < set->n; set->scored++) {
                if (set->scored % 1024 == 1023 && session_slice_over(s))
                        break;
                set->scores[set->scored] = weigh(set->facts[set->scored], words, req->fuzzy_words_n);
        }
        done = set->scored == set->n;
        if (done)
                spread(set->scores, set->n);
        for (unsigned i = 0; i < req->fuzzy_words_n; i++)
                str_deinit(&canonical[i]);
        return done;
}

void sort_set_append_relevancy(const struct sort_set *set, const struct sort_order *o, size_t from, size_t to, struct str *out)
{
        str_append_str(out, " RELEVANCY (");
        for (size_t i = from; i < to; i++) {
                if (i > from)
                        str_append_c(out, ' ');
                str_append_u64(out, set->scores[o ? o->items[i].at : i]);
        }
        str_append_c(out, ')');
}

void sort_set_deinit(struct sort_set *set)
{
        if (set->facts)
                sort_loader_deinit(&set->loader);
        free(set->v);
        free(set->facts);
        free(set->wanted);
        free(set->scores);
        for (unsigned i = 0; i < SORT_CRITERIA_MAX; i++)
                free(set->annots[i]);
        arena_deinit(&set->annots_arena);
        memset(set, 0, sizeof *set);
}

/* ---- its order ---- */

static enum sort_text text_of(enum sort_criterion by)
{
        switch (by) {
        case SORT_CC:
                return SORT_TEXT_CC;
        case SORT_FROM:
                return SORT_TEXT_FROM;
        case SORT_TO:
                return SORT_TEXT_TO;
        case SORT_DISPLAYFROM:
                return SORT_TEXT_DISPLAYFROM;
        case SORT_DISPLAYTO:
                return SORT_TEXT_DISPLAYTO;
        default:
                return SORT_TEXT_SUBJECT;
        }
}

static uint64_t signed_key(int64_t n)
{
        return (uint64_t)n ^ (UINT64_C(1) << 63);
}

/* The first octets as a number; the canonical form has no NULs, so a shorter text is a smaller number. */
static uint64_t text_key(struct span text)
{
        uint64_t key = 0;

        for (size_t i = 0; i < 8; i++)
                key = key << 8 | (i < text.len ? (unsigned char)text.p[i] : 0);
        return key;
}

static bool is_number(enum sort_criterion by)
{
        return by == SORT_ARRIVAL || by == SORT_DATE || by == SORT_SIZE || by == SORT_RELEVANCY;
}

/* Criterion i of a message, when it is a text. */
static struct span text_by(const struct sort_order *o, unsigned i, uint32_t at)
{
        enum sort_criterion by = o->criteria->v[i].by;

        return by == SORT_ANNOTATION ? o->set->annots[i][at] : sort_facts_text(o->set->facts[at], text_of(by));
}

static uint64_t key_of(const struct sort_order *o, unsigned i, uint32_t at)
{
        const struct sort_set *set = o->set;

        switch (o->criteria->v[i].by) {
        case SORT_ARRIVAL:
                return signed_key(set->v[at].internaldate);
        case SORT_DATE:
                return signed_key(set->v[at].sent);
        case SORT_SIZE:
                return set->v[at].size;
        case SORT_RELEVANCY:
                return 100u - set->scores[at];                  /* the highest first (RFC 6203 6) */
        default:
                return text_key(text_by(o, i, at));
        }
}

static int compare_texts(struct span a, struct span b)
{
        size_t n = a.len < b.len ? a.len : b.len;
        int c = n ? memcmp(a.p, b.p, n) : 0;

        return c ? c : (a.len > b.len) - (a.len < b.len);
}

static int compare_by(const struct sort_order *o, unsigned i, uint32_t a, uint32_t b)
{
        uint64_t ka, kb;

        if (!is_number(o->criteria->v[i].by))
                return compare_texts(text_by(o, i, a), text_by(o, i, b));
        ka = key_of(o, i, a);
        kb = key_of(o, i, b);
        return (ka > kb) - (ka < kb);
}

/* The sort is stable: what no criterion tells apart stays in mailbox order (RFC 5256 3, SORT). */
static int compare(void *ctx, uint32_t a, uint32_t b)
{
        const struct sort_order *o = ctx;

        for (unsigned i = 0; i < o->criteria->n; i++) {
                int c = compare_by(o, i, a, b);

                if (c)
                        return o->criteria->v[i].reverse ? -c : c;
        }
        return 0;
}

int sort_order_compare(const struct sort_order *o, uint32_t a, uint32_t b)
{
        int c = compare((void *)(uintptr_t)o, a, b);

        return c ? c : (o->set->v[a].uid > o->set->v[b].uid) - (o->set->v[a].uid < o->set->v[b].uid);
}

void sort_order_init(struct sort_order *o, const struct sort_criteria *criteria, const struct sort_set *set)
{
        *o = (struct sort_order){ .criteria = criteria, .set = set };
        o->items = xcalloc(set->n ? set->n : 1, sizeof *o->items);
}

/* A number as first criterion that is the only one needs no further comparison. */
static bool key_decides(const struct sort_criteria *c)
{
        return c->n == 1 && is_number(c->v[0].by);
}

bool sort_order_run(struct sort_order *o, struct session *s)
{
        uint64_t flip = o->criteria->v[0].reverse ? UINT64_MAX : 0;

        for (; o->keyed < o->set->n; o->keyed++) {
                if (o->keyed % AT_ONCE == AT_ONCE - 1 && session_slice_over(s))
                        return false;
                o->items[o->keyed] = (struct sort_item){ key_of(o, 0, o->keyed) ^ flip, o->keyed, 0 };
        }
        if (!o->sorting) {
                slice_sort_init(&o->sort, o->items, o->set->n, key_decides(o->criteria) ? NULL : compare, o);
                o->sorting = true;
        }
        while (!slice_sort_run(&o->sort, AT_ONCE))
                if (session_slice_over(s))
                        return false;
        return true;
}

void sort_order_deinit(struct sort_order *o)
{
        slice_sort_deinit(&o->sort);
        free(o->items);
        o->items = NULL;
}
