#include <criterion/criterion.h>

#include "util/array.h"
#include "util/str.h"

Test(str, an_empty_one_owns_nothing_and_is_a_string)
{
        struct str s = STR_INIT;

        cr_expect_eq(s.data[0], '\0');
        str_append(&s, NULL, 0);
        str_clear(&s);
        str_shrink(&s);
        str_truncate(&s, 0);
        str_consume(&s, 0);
        cr_expect_eq(s.cap, 0);
        cr_expect_eq(s.data, str_empty_data);
        str_deinit(&s);
}

Test(str, appends_keep_a_nul_behind_the_octets)
{
        struct str s = STR_INIT;

        for (int i = 0; i < 5000; i++) {
                str_append_c(&s, (char)i);
                cr_assert_eq(s.data[s.len], '\0');
                cr_assert_lt(s.len, s.cap);
        }
        cr_expect_eq(s.len, 5000);
        for (int i = 0; i < 5000; i++)
                cr_assert_eq(s.data[i], (char)i);
        str_deinit(&s);
}

Test(str, printf_appends_what_is_longer_than_the_room)
{
        struct str s = STR_INIT;
        char longest[1000];

        memset(longest, 'y', sizeof longest - 1);
        longest[sizeof longest - 1] = '\0';
        str_append_str(&s, "x");
        str_printf(&s, "%d-%s", 42, longest);
        cr_expect_eq(s.len, 1 + 3 + 999);
        cr_expect(strncmp(s.data, "x42-yyy", 7) == 0);
        str_printf(&s, "%s", "");
        cr_expect_eq(s.len, 1003);
        for (size_t n = 60; n < 70; n++) {              /* around the room that is tried first */
                struct str t = STR_INIT;

                str_printf(&t, "%.*s", (int)n, longest);
                cr_expect_eq(t.len, n);
                cr_expect_eq(strlen(t.data), n);
                str_deinit(&t);
        }
        str_deinit(&s);
}

Test(str, numbers)
{
        struct str s = STR_INIT;

        str_append_u64(&s, 0);
        str_append_c(&s, ' ');
        str_append_u64(&s, UINT64_MAX);
        cr_expect_str_eq(s.data, "0 18446744073709551615");
        str_deinit(&s);
}

Test(str, consume_truncate_shrink_take)
{
        struct str s = STR_INIT;
        char *taken;

        str_append_str(&s, "hello world");
        str_consume(&s, 6);
        cr_expect_str_eq(s.data, "world");
        str_truncate(&s, 3);
        cr_expect_str_eq(s.data, "wor");
        str_reserve(&s, 10000);
        str_shrink(&s);
        cr_expect_eq(s.cap, 4);
        cr_expect_str_eq(s.data, "wor");
        memcpy(str_append_space(&s, 2), "ld", 2);
        cr_expect_str_eq(s.data, "world");
        taken = str_take(&s);
        cr_expect_str_eq(taken, "world");
        cr_expect_eq(s.cap, 0);
        free(taken);
        taken = str_take(&s);
        cr_expect_str_eq(taken, "");
        free(taken);
}

Test(str, spans_compare_by_octets_or_ascii_letters)
{
        struct span none = { NULL, 0 };

        cr_expect(span_eq(none, SPAN("")));
        cr_expect_not(span_eq(SPAN("a"), SPAN("A")));
        cr_expect(span_ieq(SPAN("aZ[1"), SPAN("Az[1")));
        cr_expect_not(span_ieq(SPAN("@"), SPAN("`")));          /* 0x40 and 0x60 are no letters */
        cr_expect_not(span_ieq(SPAN("\xe4"), SPAN("\xc4")));
        cr_expect_eq(span_icmp(SPAN("abc"), SPAN("ABD")), -1);
        cr_expect_eq(span_icmp(SPAN("ab"), SPAN("ABD")), -1);
        cr_expect_eq(span_icmp(SPAN("abd"), SPAN("AB")), 1);
        cr_expect_eq(span_icmp(SPAN("a\xff"), SPAN("az")), 1);
        cr_expect_eq(span_icmp(none, none), 0);
        cr_expect(span_istarts(SPAN("INBOX/x"), "inbox"));
        cr_expect_not(span_istarts(SPAN("INB"), "inbox"));
        cr_expect_eq(span_index(SPAN("abc"), 'c'), 2);
        cr_expect_eq(span_index(SPAN("abc"), 'x'), 3);
        cr_expect_eq(span_index(none, 'x'), 0);
        cr_expect(span_eq_str(span_trim(SPAN(" \t\r\na b\n ")), "a b"));
        cr_expect_eq(span_trim(SPAN(" \r\n")).len, 0);
}

Test(str, decimal_numbers_are_digits_within_a_bound)
{
        static const struct { const char *text; uint64_t max; bool valid; uint64_t value; } cases[] = {
                { "0", 10, true, 0 }, { "10", 10, true, 10 }, { "11", 10, false, 0 }, { "", 10, false, 0 }, { "-1", 10, false, 0 },
                { "+1", 10, false, 0 }, { "1 ", 10, false, 0 }, { "0x1", 10, false, 0 },
                { "18446744073709551615", UINT64_MAX, true, UINT64_MAX }, { "18446744073709551616", UINT64_MAX, false, 0 },
                { "99999999999999999999999", UINT64_MAX, false, 0 }, { "007", 10, true, 7 },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                uint64_t value = 0;

                cr_expect_eq(span_u64(span_of(cases[i].text), cases[i].max, &value), cases[i].valid, "%s", cases[i].text);
                if (cases[i].valid)
                        cr_expect_eq(value, cases[i].value, "%s", cases[i].text);
        }
}

Test(str, utf8_is_valid_or_not)                                                 /* RFC 3629 4 */
{
        static const struct { const char *text; bool valid; } cases[] = {
                { "", true }, { "abc", true }, { "\xc3\xa9", true }, { "\xe2\x82\xac", true }, { "\xf0\x9f\x98\x80", true },
                { "\xf4\x8f\xbf\xbf", true }, { "\xed\x9f\xbf", true }, { "\xee\x80\x80", true },
                { "\x80", false }, { "\xc0\x80", false }, { "\xc1\xbf", false }, { "\xe0\x9f\xbf", false }, { "\xf0\x8f\xbf\xbf", false },
                { "\xed\xa0\x80", false }, { "\xf4\x90\x80\x80", false }, { "\xf5\x80\x80\x80", false }, { "\xff", false },
                { "\xc3", false }, { "\xe2\x82", false }, { "\xf0\x9f\x98", false }, { "\xc3(", false }, { "\xe2\x82(", false },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                cr_expect_eq(utf8_valid(span_of(cases[i].text)), cases[i].valid, "case %zu", i);
}
