/* uidset: tables for the grammar, and random operations against a plain array of bits. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "store/uidset.h"

#define MAX 400u                                /* the model's universe: 1 … MAX */

static void expect_text(const struct uidset *s, const char *text)
{
        struct str out = STR_INIT;

        uidset_append(s, &out);
        cr_expect_str_eq(out.data, text);
        str_deinit(&out);
}

static const struct {
        const char *text;
        uint32_t star;
        enum err_code code;
        const char *result;
} parse_table[] = {
        { "1", 9, ERR_NONE, "1" },
        { "5:3", 9, ERR_NONE, "3:5" },
        { "1,5:3,7:*", 9, ERR_NONE, "1,3:5,7:9" },
        { "500:*", 42, ERR_NONE, "42:500" },            /* RFC 9051 9, seq-range: the order does not matter */
        { "*:500", 42, ERR_NONE, "42:500" },
        { "*", 42, ERR_NONE, "42" },
        { "*:*", 42, ERR_NONE, "42" },
        { "*", 0, ERR_NONE, "4294967295" },
        { "7:*", 0, ERR_NONE, "7:4294967295" },
        { "4294967295", 1, ERR_NONE, "4294967295" },
        { "3,2,1", 9, ERR_NONE, "1:3" },
        { "1:3,2:9,4", 9, ERR_NONE, "1:9" },
        { "9,1:2,3,20:30,25", 9, ERR_NONE, "1:3,9,20:30" },
        { "", 9, ERR_SYNTAX, NULL },
        { "0", 9, ERR_SYNTAX, NULL },
        { "01", 9, ERR_SYNTAX, NULL },
        { "1:0", 9, ERR_SYNTAX, NULL },
        { "4294967296", 9, ERR_SYNTAX, NULL },
        { "99999999999999999999999", 9, ERR_SYNTAX, NULL },
        { ",1", 9, ERR_SYNTAX, NULL },
        { "1,", 9, ERR_SYNTAX, NULL },
        { "1,,2", 9, ERR_SYNTAX, NULL },
        { "1:", 9, ERR_SYNTAX, NULL },
        { ":1", 9, ERR_SYNTAX, NULL },
        { "1:2:3", 9, ERR_SYNTAX, NULL },
        { "1 2", 9, ERR_SYNTAX, NULL },
        { "-1", 9, ERR_SYNTAX, NULL },
        { "**", 9, ERR_SYNTAX, NULL },
        { "1*", 9, ERR_SYNTAX, NULL },
        { "$", 9, ERR_SYNTAX, NULL },
};

Test(uidset, grammar)
{
        for (size_t i = 0; i < sizeof parse_table / sizeof parse_table[0]; i++) {
                struct uidset s = UIDSET_INIT;
                struct err err = ERR_INIT;
                int rc = uidset_parse(span_of(parse_table[i].text), parse_table[i].star, &s, &err);

                cr_expect_eq(rc, parse_table[i].code ? -1 : 0, "\"%s\"", parse_table[i].text);
                cr_expect_eq(err.code, parse_table[i].code, "\"%s\"", parse_table[i].text);
                if (rc == 0)
                        expect_text(&s, parse_table[i].result);
                uidset_deinit(&s);
        }
}

Test(uidset, star_is_the_last_message_even_when_the_range_starts_above_it)      /* RFC 9051 9, seq-range */
{
        struct uidset s = UIDSET_INIT;
        struct err err = ERR_INIT;

        cr_assert_eq(uidset_parse(SPAN("500:*"), 42, &s, &err), 0, "%s", err.text);
        cr_expect(uidset_has(&s, 42));
        cr_expect(!uidset_has(&s, 41));
        uidset_deinit(&s);
}

Test(uidset, a_failed_parse_leaves_the_set_alone)
{
        struct uidset s = UIDSET_INIT;

        uidset_add_range(&s, 3, 7);
        cr_expect_eq(uidset_parse(SPAN("1,2,x"), 9, &s, NULL), -1);
        expect_text(&s, "3:7");
        uidset_deinit(&s);
}

/* Every other number: no two ranges join. */
static struct span many_ranges(struct str *text, uint32_t n, bool backwards)
{
        for (uint32_t i = 0; i < n; i++)
                str_printf(text, "%s%u", i ? "," : "", 2 * (backwards ? n - i : i + 1));
        return str_span(text);
}

Test(uidset, the_number_of_ranges_is_bounded, .timeout = 20)
{
        struct uidset s = UIDSET_INIT;
        struct err err = ERR_INIT;
        struct str text = STR_INIT;

        cr_expect_eq(uidset_parse(many_ranges(&text, UIDSET_RANGES_MAX, true), 9, &s, &err), 0);
        cr_expect_eq(uidset_count(&s), UIDSET_RANGES_MAX);
        for (int backwards = 0; backwards < 2; backwards++) {
                str_clear(&text);
                cr_expect_eq(uidset_parse(many_ranges(&text, UIDSET_RANGES_MAX + 1, backwards), 9, &s, &err), -1);
                cr_expect_eq(err.code, ERR_LIMIT);
                str_clear(&text);
                cr_expect_eq(uidset_parse(many_ranges(&text, 5 * UIDSET_RANGES_MAX, backwards), 9, &s, &err), -1);
                cr_expect_eq(err.code, ERR_LIMIT);
        }
        str_clear(&text);                               /* many numbers, one range: not many ranges */
        for (uint32_t i = 3 * UIDSET_RANGES_MAX; i > 0; i--)
                str_printf(&text, "%u%s", i, i > 1 ? "," : "");
        cr_expect_eq(uidset_parse(str_span(&text), 9, &s, &err), 0);
        expect_text(&s, "1:300000");
        str_deinit(&text);
        uidset_deinit(&s);
}

Test(uidset, the_ends_of_the_number_range)
{
        struct uidset s = UIDSET_INIT;
        struct uidset_iter it;
        uint32_t n, count = 0;

        uidset_add_range(&s, UINT32_MAX - 2, UINT32_MAX);
        uidset_add(&s, 1);
        uidset_add(&s, UINT32_MAX);
        uidset_add_range(&s, 2, 2);
        expect_text(&s, "1:2,4294967293:4294967295");
        for (it = uidset_iter(&s); uidset_next(&it, &n);)
                count++;
        cr_expect_eq(count, 5);
        uidset_remove_range(&s, UINT32_MAX, UINT32_MAX);
        uidset_remove_range(&s, 1, 1);
        expect_text(&s, "2,4294967293:4294967294");
        uidset_add_range(&s, 1, UINT32_MAX);
        cr_expect_eq(uidset_count(&s), UINT32_MAX);
        uidset_deinit(&s);
}

/* ---- model ---- */

struct model {
        struct uidset s;
        bool bits[MAX + 1];
};

static void check(const struct model *m)
{
        struct uidset_iter it = uidset_iter(&m->s);
        uint32_t n, count = 0;

        for (uint32_t i = 0; i < m->s.n; i++) {
                cr_assert_leq(m->s.ranges[i].first, m->s.ranges[i].last);
                if (i)
                        cr_assert_gt(m->s.ranges[i].first, m->s.ranges[i - 1].last + 1);
        }
        for (uint32_t i = 1; i <= MAX; i++) {
                cr_assert_eq(uidset_has(&m->s, i), m->bits[i], "%u", i);
                if (m->bits[i]) {
                        cr_assert(uidset_next(&it, &n));
                        cr_assert_eq(n, i);
                        count++;
                }
        }
        cr_assert(!uidset_next(&it, &n));
        cr_assert_eq(uidset_count(&m->s), count);
        cr_assert_eq(uidset_empty(&m->s), count == 0);
}

static void set_bits(struct model *m, uint32_t first, uint32_t last, bool to)
{
        for (uint32_t i = first; i <= last; i++)
                m->bits[i] = to;
}

static void random_step(struct model *a, const struct model *b)
{
        uint32_t first = 1 + (uint32_t)rand() % MAX, width = (uint32_t)rand() % (rand() % 8 ? 4 : 90);
        uint32_t last = first + width > MAX ? MAX : first + width;

        switch (rand() % 12) {
        case 0:
                uidset_intersect(&a->s, &b->s);
                for (uint32_t i = 1; i <= MAX; i++)
                        a->bits[i] &= b->bits[i];
                break;
        case 1:
                uidset_add_set(&a->s, &b->s);
                for (uint32_t i = 1; i <= MAX; i++)
                        a->bits[i] |= b->bits[i];
                break;
        case 2:
                uidset_copy(&a->s, &b->s);
                memcpy(a->bits, b->bits, sizeof a->bits);
                break;
        case 3:
                uidset_subtract(&a->s, &b->s);
                for (uint32_t i = 1; i <= MAX; i++)
                        a->bits[i] &= !b->bits[i];
                break;
        case 4: case 5: case 6:
                uidset_remove_range(&a->s, first, last);
                set_bits(a, first, last, false);
                break;
        case 7:
                uidset_add(&a->s, first);
                a->bits[first] = true;
                break;
        default:
                uidset_add_range(&a->s, first, last);
                set_bits(a, first, last, true);
        }
}

static void check_text(const struct model *m)
{
        struct uidset again = UIDSET_INIT;
        struct str text = STR_INIT;

        uidset_append(&m->s, &text);
        if (m->s.n == 0) {
                cr_assert_eq(text.len, 0);
        } else {
                cr_assert_eq(uidset_parse(str_span(&text), MAX, &again, NULL), 0);
                cr_assert(uidset_equal(&again, &m->s));
        }
        uidset_deinit(&again);
        str_deinit(&text);
}

Test(uidset, random_operations_agree_with_an_array_of_bits, .timeout = 60)
{
        static struct model m[3];

        srand(1);
        for (int i = 0; i < 20000; i++) {
                struct model *a = &m[rand() % 3];

                random_step(a, &m[rand() % 3]);
                check(a);
                if (i % 16 == 0)
                        check_text(a);
        }
        for (int i = 0; i < 3; i++)
                uidset_deinit(&m[i].s);
}
