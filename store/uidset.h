/*
 * uidset - a set of 32-bit numbers (UIDs or message sequence numbers) as sorted, disjoint, non-adjacent ranges.
 * A value: uidset_init() / uidset_deinit(). One thread at a time; a const set may be read by many.
 */
#ifndef STORE_UIDSET_H
#define STORE_UIDSET_H

#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"
#include "util/str.h"

struct uidrange {
        uint32_t first, last;                   /* both in the set; first <= last */
};

struct uidset {
        struct uidrange *ranges;
        uint32_t n, cap;
};
#define UIDSET_INIT { 0, 0, 0 }
#define UIDSET_RANGES_MAX 100000                /* a parsed set with more ranges is ERR_LIMIT */

void uidset_init(struct uidset *s);
void uidset_deinit(struct uidset *s);
void uidset_clear(struct uidset *s);
/* Add one number or a range (first <= last, first >= 1). Amortised O(1) at the end, else O(ranges). */
void uidset_add(struct uidset *s, uint32_t n);
void uidset_add_range(struct uidset *s, uint32_t first, uint32_t last);
void uidset_remove_range(struct uidset *s, uint32_t first, uint32_t last);
void uidset_add_set(struct uidset *s, const struct uidset *other);
void uidset_intersect(struct uidset *s, const struct uidset *other);
void uidset_subtract(struct uidset *s, const struct uidset *other);    /* O(ranges of both) */
void uidset_copy(struct uidset *to, const struct uidset *from);        /* `to` is initialised before */
bool uidset_has(const struct uidset *s, uint32_t n);                    /* O(log ranges) */
bool uidset_equal(const struct uidset *a, const struct uidset *b);
uint64_t uidset_count(const struct uidset *s);                          /* how many numbers */
static inline bool uidset_empty(const struct uidset *s) { return s->n == 0; }

/*
 * Parse RFC 9051 9 sequence-set: "1,5:3,7:*". `*` is `star` (the highest number in use); when star is 0 (nothing there), `*`
 * stands for UINT32_MAX for UIDs, so that "*" and "n:*" select nothing that exists. "500:*" with star 42 is 42:500.
 * Ranges are put in order; numbers need not exist. Returns 0, or -1 with ERR_SYNTAX (0, empty, over 32 bits, not the
 * grammar) or ERR_LIMIT.
 * set_r is initialised before; on success what it held is replaced.
 */
int uidset_parse(struct span text, uint32_t star, struct uidset *set_r, struct err *err);
/* Append as "1,3:5,9"; appends nothing for the empty set. */
void uidset_append(const struct uidset *s, struct str *out);

/* for (struct uidset_iter it = uidset_iter(set); uidset_next(&it, &uid);) */
struct uidset_iter {
        const struct uidset *set;
        uint32_t range;
        uint64_t next;
};
struct uidset_iter uidset_iter(const struct uidset *s);
bool uidset_next(struct uidset_iter *it, uint32_t *n_r);

#endif
