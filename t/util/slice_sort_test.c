/* slice_sort: sorted, stable, the same whatever the slices. */
#include "util/slice_sort.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static int by_tens(void *ctx, uint32_t a, uint32_t b)
{
        (void)ctx;
        return (int)(a % 7) - (int)(b % 7);
}

static void check(size_t n, size_t budget, unsigned keys, slice_sort_compare *compare)
{
        struct sort_item *v = calloc(n + 1, sizeof *v);
        struct slice_sort s;
        size_t rounds = 0;

        for (size_t i = 0; i < n; i++)
                v[i] = (struct sort_item){ (uint64_t)rand() % keys, (uint32_t)i, 0 };
        slice_sort_init(&s, v, n, compare, NULL);
        while (!slice_sort_run(&s, budget))
                rounds++;
        cr_assert(n <= 16 || budget >= n || rounds > 0, "%zu items in slices of %zu", n, budget);
        for (size_t i = 1; i < n; i++) {
                int c = v[i - 1].key != v[i].key ? (v[i - 1].key > v[i].key) - (v[i - 1].key < v[i].key) : 0;

                if (c == 0 && compare)
                        c = compare(NULL, v[i - 1].at, v[i].at);
                cr_assert(c < 0 || (c == 0 && v[i - 1].at < v[i].at), "%zu items, %zu a slice, at %zu", n, budget, i);
        }
        slice_sort_deinit(&s);
        free(v);
}

Test(slice_sort, any_number_of_items_in_any_slices_is_sorted_and_stable)
{
        static const size_t numbers[] = { 0, 1, 2, 15, 16, 17, 31, 33, 100, 1000, 4097 };
        static const size_t budgets[] = { 1, 7, 100, 1000000 };

        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
                for (size_t k = 0; k < sizeof budgets / sizeof *budgets; k++)
                        for (unsigned keys = 1; keys < 100000; keys *= 30) {
                                check(numbers[i], budgets[k], keys, NULL);
                                check(numbers[i], budgets[k], keys, by_tens);
                        }
}
