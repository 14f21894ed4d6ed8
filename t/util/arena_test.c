#include <criterion/criterion.h>

#include "util/arena.h"

Test(arena, pieces_are_aligned_and_apart)
{
        struct arena a = ARENA_INIT;
        char *pieces[300];
        size_t total = 0;

        for (size_t i = 0; i < 300; i++) {
                size_t size = i * i % 9000;

                pieces[i] = arena_alloc(&a, size);
                cr_assert_eq((uintptr_t)pieces[i] % 16, 0);
                memset(pieces[i], (int)i, size);
                total += size;
        }
        for (size_t i = 0; i < 300; i++)
                for (size_t k = 0; k < i * i % 9000; k++)
                        cr_assert_eq(pieces[i][k], (char)i);
        cr_expect_geq(a.used, total);
        arena_deinit(&a);
        cr_expect_eq(a.used, 0);
        cr_expect_null(a.chunks);
}

Test(arena, a_reset_one_holds_nothing_and_works_again)
{
        struct arena a;

        arena_init(&a);
        for (int round = 0; round < 3; round++) {
                cr_expect_str_eq(arena_strdup(&a, "hello"), "hello");
                cr_expect_str_eq(arena_printf(&a, "%s %d", "number", round), round == 0 ? "number 0" : round == 1 ? "number 1" : "number 2");
                arena_reset(&a);
                cr_expect_null(a.chunks);
        }
}

Test(arena, copies_end_with_a_nul)
{
        struct arena a = ARENA_INIT;
        struct span none = { NULL, 0 }, s = arena_span(&a, (struct span){ "a\0b", 3 });

        cr_expect_eq(s.len, 3);
        cr_expect_eq(memcmp(s.p, "a\0b", 4), 0);
        cr_expect_eq(arena_span(&a, none).len, 0);
        cr_expect_str_eq(arena_strndup(&a, "abcdef", 2), "ab");
        arena_deinit(&a);
}

Test(arena, cleared_pieces_are_clear_and_a_printed_one_may_be_long)
{
        struct arena a = ARENA_INIT;
        char *dirty, longest[70001];
        int *numbers;

        dirty = arena_alloc(&a, 3000);
        memset(dirty, 0xff, 3000);
        arena_reset(&a);
        numbers = ARENA_ARRAY(&a, int, 500);
        for (int i = 0; i < 500; i++)
                cr_assert_eq(numbers[i], 0);
        memset(longest, 'x', sizeof longest - 1);
        longest[sizeof longest - 1] = '\0';
        cr_expect_eq(strlen(arena_printf(&a, "%s", longest)), 70000);
        arena_deinit(&a);
}
