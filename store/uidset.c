/* uidset - see uidset.h. Invariant: ranges ascending, and between two of them at least one number that is in neither. */
#include "store/uidset.h"

#include <stdlib.h>
#include <string.h>

#include "util/must.h"

void uidset_init(struct uidset *s)
{
        *s = (struct uidset)UIDSET_INIT;
}

void uidset_deinit(struct uidset *s)
{
        free(s->ranges);
        uidset_init(s);
}

void uidset_clear(struct uidset *s)
{
        s->n = 0;
}

static void reserve(struct uidset *s, uint64_t n)
{
        uint64_t cap = s->cap ? s->cap : 4;

        if (n <= s->cap)
                return;
        while (cap < n)
                cap += cap / 2 + 1;
        must(cap <= UINT32_MAX);
        s->ranges = xrealloc(s->ranges, cap * sizeof *s->ranges);
        s->cap = (uint32_t)cap;
}

/* The first range whose last number is >= n; s->n when there is none. */
static uint32_t range_at(const struct uidset *s, uint32_t n)
{
        uint32_t low = 0, high = s->n;

        while (low < high) {
                uint32_t mid = low + (high - low) / 2;

                if (s->ranges[mid].last < n)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

/* Add a range that begins at or after the last one's beginning. */
static void push(struct uidset *s, uint32_t first, uint32_t last)
{
        struct uidrange *tail = s->n ? &s->ranges[s->n - 1] : NULL;

        if (tail && (first <= tail->last || first - 1 == tail->last)) {
                if (last > tail->last)
                        tail->last = last;
                return;
        }
        reserve(s, (uint64_t)s->n + 1);
        s->ranges[s->n++] = (struct uidrange){ first, last };
}

void uidset_add(struct uidset *s, uint32_t n)
{
        uidset_add_range(s, n, n);
}

void uidset_add_range(struct uidset *s, uint32_t first, uint32_t last)
{
        uint32_t from, to;

        must(first >= 1 && first <= last);
        if (s->n == 0 || first >= s->ranges[s->n - 1].first) {
                push(s, first, last);
                return;
        }
        /* from … to - 1 are the ranges that touch the new one. */
        from = range_at(s, first == 1 ? 1 : first - 1);
        for (to = from; to < s->n && (last == UINT32_MAX || s->ranges[to].first <= last + 1); to++)
                ;
        if (from == to) {
                reserve(s, (uint64_t)s->n + 1);
                memmove(s->ranges + from + 1, s->ranges + from, (s->n - from) * sizeof *s->ranges);
                s->ranges[from] = (struct uidrange){ first, last };
                s->n++;
                return;
        }
        if (s->ranges[from].first < first)
                first = s->ranges[from].first;
        if (s->ranges[to - 1].last > last)
                last = s->ranges[to - 1].last;
        s->ranges[from] = (struct uidrange){ first, last };
        memmove(s->ranges + from + 1, s->ranges + to, (s->n - to) * sizeof *s->ranges);
        s->n -= to - from - 1;
}

void uidset_remove_range(struct uidset *s, uint32_t first, uint32_t last)
{
        uint32_t from, to;

        must(first <= last);
        from = range_at(s, first);
        if (from == s->n || s->ranges[from].first > last)
                return;
        if (s->ranges[from].first < first && s->ranges[from].last > last) {     /* out of the middle of one */
                reserve(s, (uint64_t)s->n + 1);
                memmove(s->ranges + from + 1, s->ranges + from, (s->n - from) * sizeof *s->ranges);
                s->n++;
                s->ranges[from].last = first - 1;
                s->ranges[from + 1].first = last + 1;
                return;
        }
        if (s->ranges[from].first < first)
                s->ranges[from++].last = first - 1;
        for (to = from; to < s->n && s->ranges[to].last <= last; to++)
                ;
        if (to < s->n && s->ranges[to].first <= last)
                s->ranges[to].first = last + 1;
        memmove(s->ranges + from, s->ranges + to, (s->n - to) * sizeof *s->ranges);
        s->n -= to - from;
}

void uidset_add_set(struct uidset *s, const struct uidset *other)
{
        struct uidset sum = UIDSET_INIT;
        uint32_t i = 0, j = 0;

        if (other->n == 0 || s == other)
                return;
        if (s->n == 0 || other->ranges[0].first >= s->ranges[s->n - 1].first) {
                for (; j < other->n; j++)
                        push(s, other->ranges[j].first, other->ranges[j].last);
                return;
        }
        reserve(&sum, (uint64_t)s->n + other->n);
        while (i < s->n || j < other->n) {
                const struct uidrange *r;

                if (j == other->n || (i < s->n && s->ranges[i].first <= other->ranges[j].first))
                        r = &s->ranges[i++];
                else
                        r = &other->ranges[j++];
                push(&sum, r->first, r->last);
        }
        free(s->ranges);
        *s = sum;
}

void uidset_intersect(struct uidset *s, const struct uidset *other)
{
        struct uidset both = UIDSET_INIT;
        uint32_t i = 0, j = 0;

        if (s == other)
                return;
        while (i < s->n && j < other->n) {
                struct uidrange a = s->ranges[i], b = other->ranges[j];
                uint32_t first = a.first > b.first ? a.first : b.first;
                uint32_t last = a.last < b.last ? a.last : b.last;

                if (first <= last)
                        push(&both, first, last);
                if (a.last < b.last)
                        i++;
                else
                        j++;
        }
        free(s->ranges);
        *s = both;
}

void uidset_subtract(struct uidset *s, const struct uidset *other)
{
        struct uidset left = UIDSET_INIT;
        uint32_t k = 0;

        for (uint32_t i = 0; i < s->n; i++) {
                uint64_t first = s->ranges[i].first, last = s->ranges[i].last;

                while (k < other->n && other->ranges[k].last < first)
                        k++;
                for (; k < other->n && other->ranges[k].first <= last; k++) {
                        if (other->ranges[k].first > first)
                                uidset_add_range(&left, (uint32_t)first, other->ranges[k].first - 1);
                        first = (uint64_t)other->ranges[k].last + 1;
                        if (first > last)
                                break;                  /* it may reach into the next range too */
                }
                if (first <= last)
                        uidset_add_range(&left, (uint32_t)first, (uint32_t)last);
        }
        free(s->ranges);
        *s = left;
}

void uidset_copy(struct uidset *to, const struct uidset *from)
{
        if (to == from)
                return;
        to->n = 0;
        if (from->n == 0)
                return;
        reserve(to, from->n);
        memcpy(to->ranges, from->ranges, from->n * sizeof *to->ranges);
        to->n = from->n;
}

bool uidset_has(const struct uidset *s, uint32_t n)
{
        uint32_t i = range_at(s, n);

        return i < s->n && s->ranges[i].first <= n;
}

bool uidset_equal(const struct uidset *a, const struct uidset *b)
{
        return a->n == b->n && (a->n == 0 || memcmp(a->ranges, b->ranges, a->n * sizeof *a->ranges) == 0);
}

uint64_t uidset_count(const struct uidset *s)
{
        uint64_t count = 0;

        for (uint32_t i = 0; i < s->n; i++)
                count += (uint64_t)s->ranges[i].last - s->ranges[i].first + 1;
        return count;
}

/* ---- text ---- */

static int compare_first(const void *a, const void *b)
{
        const struct uidrange *x = a, *y = b;

        return x->first < y->first ? -1 : x->first > y->first;
}

/* Put ranges in any order into the invariant's form. */
static void normalise(struct uidset *s)
{
        uint32_t n = s->n;

        if (n == 0)
                return;
        qsort(s->ranges, n, sizeof *s->ranges, compare_first);
        s->n = 0;
        for (uint32_t i = 0; i < n; i++)                /* push() writes at or before i */
                push(s, s->ranges[i].first, s->ranges[i].last);
}

/* seq-number = nz-number / "*" */
static int parse_number(const char **p, const char *end, uint32_t star, uint32_t *n_r, struct err *err)
{
        uint64_t n = 0;

        if (*p < end && **p == '*') {
                ++*p;
                *n_r = star ? star : UINT32_MAX;
                return 0;
        }
        if (*p == end || !ascii_isdigit(**p))
                return err_set(err, ERR_SYNTAX, "a number or * was expected in the sequence set");
        if (**p == '0')
                return err_set(err, ERR_SYNTAX, "a number in a sequence set does not begin with 0");
        for (; *p < end && ascii_isdigit(**p); ++*p) {
                n = n * 10 + (uint64_t)(**p - '0');
                if (n > UINT32_MAX)
                        return err_set(err, ERR_SYNTAX, "a number in the sequence set is above 4294967295");
        }
        *n_r = (uint32_t)n;
        return 0;
}

/* Collect a range in any order; twice the limit is the most that is held, so that sorting stays O(n log n) in all. */
static int collect(struct uidset *s, uint32_t a, uint32_t b, struct err *err)
{
        struct uidrange r = { a < b ? a : b, a < b ? b : a };

        if (s->n && r.first >= s->ranges[s->n - 1].first) {
                push(s, r.first, r.last);               /* the usual ascending set never needs sorting */
        } else {
                reserve(s, (uint64_t)s->n + 1);
                s->ranges[s->n++] = r;
        }
        if (s->n < 2 * UIDSET_RANGES_MAX)
                return 0;
        normalise(s);
        return s->n <= UIDSET_RANGES_MAX ? 0 : err_set(err, ERR_LIMIT, "a sequence set of more than %d ranges", UIDSET_RANGES_MAX);
}

int uidset_parse(struct span text, uint32_t star, struct uidset *set_r, struct err *err)
{
        struct uidset set = UIDSET_INIT;
        const char *p = text.p, *end = text.p + text.len;

        if (text.len == 0)
                return err_set(err, ERR_SYNTAX, "the sequence set is empty");
        for (;;) {
                uint32_t a, b;

                if (parse_number(&p, end, star, &a, err) < 0)
                        goto fail;
                b = a;
                if (p < end && *p == ':') {
                        p++;
                        if (parse_number(&p, end, star, &b, err) < 0)
                                goto fail;
                }
                if (collect(&set, a, b, err) < 0)
                        goto fail;
                if (p == end)
                        break;
                if (*p++ != ',') {
                        err_set(err, ERR_SYNTAX, "the sequence set holds a character that is not of its grammar");
                        goto fail;
                }
        }
        normalise(&set);
        if (set.n > UIDSET_RANGES_MAX) {
                err_set(err, ERR_LIMIT, "a sequence set of more than %d ranges", UIDSET_RANGES_MAX);
                goto fail;
        }
        free(set_r->ranges);
        *set_r = set;
        return 0;
fail:
        uidset_deinit(&set);
        return -1;
}

void uidset_append(const struct uidset *s, struct str *out)
{
        for (uint32_t i = 0; i < s->n; i++) {
                if (i)
                        str_append_c(out, ',');
                str_append_u64(out, s->ranges[i].first);
                if (s->ranges[i].last != s->ranges[i].first) {
                        str_append_c(out, ':');
                        str_append_u64(out, s->ranges[i].last);
                }
        }
}

struct uidset_iter uidset_iter(const struct uidset *s)
{
        return (struct uidset_iter){ s, 0, 0 };
}

bool uidset_next(struct uidset_iter *it, uint32_t *n_r)
{
        const struct uidrange *r;

        if (it->range >= it->set->n)
                return false;
        r = &it->set->ranges[it->range];
        if (it->next < r->first)
                it->next = r->first;
        *n_r = (uint32_t)it->next;
        if (it->next++ == r->last)
                it->range++;
        return true;
}
