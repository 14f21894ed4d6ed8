/*
 * slice_sort - a stable sort that can be done in pieces: merge sort, bottom-up, so that a session's worker sorts a million items without
 * keeping others waiting.
 */
#ifndef UTIL_SLICE_SORT_H
#define UTIL_SLICE_SORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sort_item {
        uint64_t key;                           /* compared first */
        uint32_t at;                            /* the caller's number of the item */
        uint32_t spare;
};

/* Items of equal keys: <0, 0, >0. May be NULL: equal keys keep their order. */
typedef int slice_sort_compare(void *ctx, uint32_t at_a, uint32_t at_b);

struct slice_sort {
        struct sort_item *items, *other;        /* items: the caller's; at the end the result is there */
        size_t n, width, pos;
        size_t a_at, b_at;                      /* within the pair of runs at pos: so many of each are merged */
        bool in_other;                          /* what is sorted so far is in `other` */
        slice_sort_compare *compare;
        void *ctx;
};
/* `items` stays the caller's and in place. */
void slice_sort_init(struct slice_sort *s, struct sort_item *items, size_t n, slice_sort_compare *compare, void *ctx);
/* Handle about `budget` items. True: items[] is sorted. */
bool slice_sort_run(struct slice_sort *s, size_t budget);
void slice_sort_deinit(struct slice_sort *s);

#endif
