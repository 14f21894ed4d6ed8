/*
 * array - a growing array of any type, as a struct of pointer, length and capacity.
 *   struct { struct span *v; size_t n, cap; } words = ARRAY_INIT;
 *   *ARRAY_PUSH(&words) = span;
 *   ARRAY_FREE(&words);
 */
#ifndef UTIL_ARRAY_H
#define UTIL_ARRAY_H

#include <stdlib.h>

#include "util/must.h"

#define ARRAY(type) struct { type *v; size_t n, cap; }
#define ARRAY_INIT { NULL, 0, 0 }
static inline void *array_grow(void *v, size_t *cap, size_t need, size_t size)
{
        size_t c = *cap ? *cap : 8, bytes;

        while (c < need)
                c += c / 2 + 1;
        must(!__builtin_mul_overflow(c, size, &bytes));
        *cap = c;
        return xrealloc(v, bytes);
}
/* Make room for `more` elements after n. */
#define ARRAY_RESERVE(a, more) \
        ((a)->n + (more) > (a)->cap ? \
         (void)((a)->v = array_grow((a)->v, &(a)->cap, (a)->n + (more), sizeof *(a)->v)) : (void)0)
/* The address of a new last element, not cleared. */
#define ARRAY_PUSH(a) (ARRAY_RESERVE(a, 1), &(a)->v[(a)->n++])
#define ARRAY_FREE(a) (free((a)->v), (a)->v = NULL, (a)->n = (a)->cap = 0)
#define ARRAY_LEN(fixed) (sizeof(fixed) / sizeof((fixed)[0]))

#endif
