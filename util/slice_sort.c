/*
 * slice_sort - see slice_sort.h. First runs of RUN items by insertion, then merges of neighbours, from the one array into the other. Neighbours
 * that are in order already are copied, so sorted input (a mailbox by date, mostly) costs one comparison a run.
 */
#include "util/slice_sort.h"

#include <stdlib.h>
#include <string.h>

#include "util/must.h"

#define RUN 16

void slice_sort_init(struct slice_sort *s, struct sort_item *items, size_t n, slice_sort_compare *compare, void *ctx)
{
        *s = (struct slice_sort){ .items = items, .n = n, .compare = compare, .ctx = ctx };
}

void slice_sort_deinit(struct slice_sort *s)
{
        free(s->other);
        s->other = NULL;
}

static inline bool after(const struct slice_sort *s, const struct sort_item *a, const struct sort_item *b)
{
        if (a->key != b->key)
                return a->key > b->key;
        return s->compare && s->compare(s->ctx, a->at, b->at) > 0;
}

static void insertion(const struct slice_sort *s, struct sort_item *v, size_t n)
{
        for (size_t i = 1; i < n; i++) {
                struct sort_item x = v[i];
                size_t k = i;

                while (k > 0 && after(s, &v[k - 1], &x)) {
                        v[k] = v[k - 1];
                        k--;
                }
                v[k] = x;
        }
}

/* Merge on with the pair of runs at s->pos. False: the budget is used up. */
static bool merge(struct slice_sort *s, const struct sort_item *from, struct sort_item *to, size_t *budget)
{
        size_t left = s->n - s->pos, a_n = left < s->width ? left : s->width;
        size_t b_n = left - a_n < s->width ? left - a_n : s->width;
        const struct sort_item *a = from + s->pos, *b = a + a_n;
        size_t a_at = s->a_at, b_at = s->b_at, steps = *budget;

        to += s->pos;
        if (a_at + b_at == 0 && (b_n == 0 || !after(s, b - 1, b))) {
                memcpy(to, a, (a_n + b_n) * sizeof *to);
                steps -= steps < (a_n + b_n) / 8 ? steps : (a_n + b_n) / 8;
        } else {
                while (a_at < a_n && b_at < b_n && steps > 0) {
                        bool second = after(s, &a[a_at], &b[b_at]);

                        to[a_at + b_at] = second ? b[b_at] : a[a_at];
                        a_at += !second;
                        b_at += second;
                        steps--;
                }
                if (a_at < a_n && b_at < b_n) {
                        s->a_at = a_at;
                        s->b_at = b_at;
                        return false;
                }
                memcpy(to + a_at + b_at, a + a_at, (a_n - a_at) * sizeof *to);
                memcpy(to + a_n + b_at, b + b_at, (b_n - b_at) * sizeof *to);
        }
        s->a_at = s->b_at = 0;
        s->pos += a_n + b_n;
        *budget = steps;
        return true;
}

bool slice_sort_run(struct slice_sort *s, size_t budget)
{
        if (s->width == 0) {
                for (; s->pos < s->n && budget; s->pos += RUN, budget -= budget < RUN ? budget : RUN)
                        insertion(s, s->items + s->pos, s->n - s->pos < RUN ? s->n - s->pos : RUN);
                if (s->pos < s->n)
                        return false;
                s->width = RUN;
                s->pos = 0;
        }
        while (s->width < s->n) {
                if (!s->other)
                        s->other = xmalloc(s->n * sizeof *s->other);
                while (s->pos < s->n)
                        if (!budget || !merge(s, s->in_other ? s->other : s->items, s->in_other ? s->items : s->other, &budget))
                                return false;
                s->in_other = !s->in_other;
                s->width *= 2;
                s->pos = 0;
        }
        if (s->in_other) {
                memcpy(s->items, s->other, s->n * sizeof *s->items);
                s->in_other = false;
        }
        return true;
}
