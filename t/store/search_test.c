#include <criterion/criterion.h>

#include "store/search.h"
#include "store/uidset.h"
#include "util/array.h"
#include "util/charset.h"
#include "util/clock.h"

struct message {
        struct span octets;
        struct mime_result parsed;
        size_t reads, octets_read;
        bool broken;
};

static int read_message(void *ctx, uint64_t offset, void *buf, size_t len, struct err *err)
{
        struct message *m = ctx;

        if (m->broken)
                return err_set(err, ERR_IO, "made to fail");
        cr_assert(len > 0 && offset + len <= m->octets.len);
        memcpy(buf, m->octets.p + offset, len);
        m->reads++;
        m->octets_read += len;
        return 0;
}

static bool has_keyword(void *ctx, struct span keyword)
{
        (void)ctx;
        return span_ieq_str(keyword, "$Important");
}

static struct search_message describe(struct message *m)
{
        mime_parse(m->octets, &m->parsed);
        return (struct search_message){
                .uid = 7, .seqno = 3, .flags = 0x5, .modseq = 100, .size = m->octets.len, .internaldate = 1000000000,
                .has_sentdate = m->parsed.has_sentdate, .sentdate = m->parsed.sentdate, .emailid = SPAN("M1"), .threadid = SPAN("T1"),
                .parts = m->parsed.parts, .parts_n = m->parsed.parts_n, .ctx = m, .has_keyword = has_keyword, .read = read_message,
        };
}

static struct arena arena;
static struct search_program *program;
static struct err err;

static void setup(void)
{
        arena_init(&arena);
        program = search_program_create(&arena);
}

static void teardown(void)
{
        arena_deinit(&arena);
}

TestSuite(search, .init = setup, .fini = teardown);

static struct search_key *add(struct search_key *parent, enum search_op op)
{
        struct search_key *k = search_key_add(program, parent, op, &err);

        cr_assert(k);
        return k;
}

static struct search_key *add_text(struct search_key *parent, enum search_op op, const char *field, const char *text)
{
        struct search_key *k = add(parent, op);

        k->field = span_of(field);
        k->text = span_of(text);
        return k;
}

static enum search_result run(struct message *m)
{
        struct search_message d = describe(m);
        struct search_eval *e;
        enum search_result result;

        cr_assert_eq(search_program_finish(program, &err), 0, "%s", err.text);
        e = search_eval_create(program);
        result = search_message(e, &d, &err);
        search_eval_destroy(&e);
        mime_result_deinit(&m->parsed);
        return result;
}

static bool finds(enum search_op op, const char *field, const char *text, const char *message)
{
        struct message m = { .octets = span_of(message) };
        enum search_result result;

        arena_reset(&arena);
        program = search_program_create(&arena);
        add_text(NULL, op, field, text);
        result = run(&m);
        cr_assert(result == SEARCH_YES || result == SEARCH_NO);
        return result == SEARCH_YES;
}

static const char letter[] =
        "From: =?utf-8?q?J=C3=BCrgen?= <juergen@example.com>\r\n"
        "To: alice@example.org,\r\n bob@example.org\r\n"
        "Subject: =?utf-8?q?caf=C3=A9?= and\r\n tea\r\n"
        "Date: Sun, 22 Nov 2026 23:30:00 -0800\r\n"
        "X-Empty:\r\n"
        "Content-Type: multipart/mixed; boundary=b\r\n"
        "\r\n"
        "hidden preamble\r\n"
        "--b\r\n"
        "Content-Type: text/plain; charset=iso-8859-1\r\n"
        "Content-Transfer-Encoding: quoted-printable\r\n"
        "\r\n"
        "Gr=FC=DFe aus dem Wald, soft=\r\nware\r\n"
        "--b\r\n"
        "Content-Type: application/octet-stream; name=report.pdf\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        "\r\n"
        "bm90IHRleHQ=\r\n"
        "--b\r\n"
        "Content-Type: message/rfc822\r\n"
        "\r\n"
        "Subject: forwarded\r\n"
        "Content-Type: text/html; charset=utf-8\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        "\r\n"
        "PGI+5pel5pys6KqePC9iPg==\r\n"
        "--b--\r\n";

Test(search, strings_are_found_decoded_and_without_case)                       /* RFC 9051 6.4.4, RFC 5051 */
{
        static const struct { enum search_op op; const char *field, *text; bool found; } cases[] = {
                { SEARCH_HEADER, "Subject", "CAFÉ AND TEA", true },
                { SEARCH_HEADER, "subject", "café", true },
                { SEARCH_HEADER, "Subject", "cafe\xcc\x81", true },             /* decomposed */
                { SEARCH_HEADER, "Subject", "forwarded", false },               /* another message's subject */
                { SEARCH_HEADER, "Subject", "Subject", false },
                { SEARCH_HEADER, "From", "JÜRGEN", true },
                { SEARCH_HEADER, "From", "juergen@EXAMPLE", true },
                { SEARCH_HEADER, "To", "org, bob", true },                      /* across the fold */
                { SEARCH_HEADER, "Cc", "bob", false },
                { SEARCH_HEADER, "X-Empty", "", true },
                { SEARCH_HEADER, "X-None", "", false },
                { SEARCH_BODY, "", "grüße", true },
                { SEARCH_BODY, "", "software", true },                          /* across a soft line break */
                { SEARCH_BODY, "", "日本語", true },
                { SEARCH_BODY, "", "<B>", true },
                { SEARCH_BODY, "", "not text", false },                         /* an attachment that is no text */
                { SEARCH_BODY, "", "forwarded", false },                        /* a header */
                { SEARCH_BODY, "", "café", false },
                { SEARCH_BODY, "", "preamble", false },
                { SEARCH_BODY, "", "", true },
                { SEARCH_TEXT, "", "café", true },
                { SEARCH_TEXT, "", "wald", true },
                { SEARCH_TEXT, "", "forwarded", true },
                { SEARCH_TEXT, "", "REPORT.PDF", true },
                { SEARCH_TEXT, "", "subject: caf", true },
                { SEARCH_TEXT, "", "nowhere", false },
                { SEARCH_TEXT, "", "", true },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++)
                cr_expect_eq(finds(cases[i].op, cases[i].field, cases[i].text, letter), cases[i].found, "case %zu: %s %s", i, cases[i].field,
                             cases[i].text);
}

Test(search, what_the_record_knows_is_not_read)
{
        static const struct { enum search_op op; uint64_t number; int64_t day; const char *text; bool found; } cases[] = {
                { SEARCH_ALL, 0, 0, "", true },
                { SEARCH_LARGER, 10, 0, "", true }, { SEARCH_SMALLER, 10, 0, "", false },
                { SEARCH_MODSEQ, 100, 0, "", true }, { SEARCH_MODSEQ, 101, 0, "", false },
                { SEARCH_BEFORE, 0, 11574, "", false }, { SEARCH_BEFORE, 0, 11575, "", true },  /* 9 September 2001 is day 11574 */
                { SEARCH_ON, 0, 11574, "", true }, { SEARCH_ON, 0, 11575, "", false },
                { SEARCH_SINCE, 0, 11574, "", true }, { SEARCH_SINCE, 0, 11575, "", false },
                { SEARCH_SAVEDON, 0, 11574, "", true },
                { SEARCH_OLDER, 60, 0, "", true }, { SEARCH_OLDER, 61, 0, "", false },
                { SEARCH_YOUNGER, 60, 0, "", true }, { SEARCH_YOUNGER, 59, 0, "", false },
                { SEARCH_YOUNGER, UINT64_MAX, 0, "", true },
                { SEARCH_EMAILID, 0, 0, "M1", true }, { SEARCH_EMAILID, 0, 0, "m1", false }, { SEARCH_THREADID, 0, 0, "T1", true },
                { SEARCH_KEYWORD, 0, 0, "$important", true }, { SEARCH_KEYWORD, 0, 0, "other", false },
                { SEARCH_SENTBEFORE, 0, 20700, "", true }, { SEARCH_SENTSINCE, 0, 20700, "", false }, { SEARCH_SENTON, 0, 20700, "", false },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct message m = { .octets = SPAN("Date: 1 Jan 2026 00:00:00 +0000\r\n\r\nbody") };
                struct search_key *k;

                arena_reset(&arena);
                program = search_program_create(&arena);
                program->now_s = 1000000060;
                k = add_text(NULL, cases[i].op, "", cases[i].text);
                k->number = cases[i].number;
                k->day = cases[i].day;
                cr_expect_eq(run(&m), cases[i].found ? SEARCH_YES : SEARCH_NO, "case %zu", i);
                cr_expect_eq(m.reads, 0, "case %zu", i);
        }
}

Test(search, flags_are_bits_that_must_all_be_set)
{
        static const struct { uint32_t flags; bool found; } cases[] = { { 1, true }, { 5, true }, { 2, false }, { 7, false }, { 0, true } };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct message m = { .octets = SPAN("") };

                arena_reset(&arena);
                program = search_program_create(&arena);
                add(NULL, SEARCH_FLAGS)->flags = cases[i].flags;
                cr_expect_eq(run(&m), cases[i].found ? SEARCH_YES : SEARCH_NO, "case %zu", i);
        }
}

Test(search, sets_of_numbers)
{
        struct message m = { .octets = SPAN("") };
        struct uidset uids = UIDSET_INIT, seqnos = UIDSET_INIT;

        uidset_add_range(&uids, 5, 7);
        uidset_add(&seqnos, 3);
        add(NULL, SEARCH_UIDSET)->set = &uids;
        add(NULL, SEARCH_SEQSET)->set = &seqnos;
        cr_expect_eq(run(&m), SEARCH_YES);
        uidset_clear(&seqnos);
        uidset_add(&seqnos, 7);
        cr_expect_eq(run(&m), SEARCH_NO);
        uidset_deinit(&uids);
        uidset_deinit(&seqnos);
}

Test(search, the_day_sent_is_the_one_written_whatever_its_zone)               /* RFC 9051 6.4.4, SENTON */
{
        int64_t day = clock_days_from_civil(2026, 11, 22);      /* in UTC it is the 23rd */
        static const struct { enum search_op op; int offset; bool found, read; } cases[] = {
                { SEARCH_SENTON, 0, true, true }, { SEARCH_SENTON, 1, false, true }, { SEARCH_SENTON, 9, false, false },
                { SEARCH_SENTBEFORE, 0, false, false }, { SEARCH_SENTBEFORE, 1, true, true }, { SEARCH_SENTBEFORE, 9, true, false },
                { SEARCH_SENTSINCE, 0, true, false }, { SEARCH_SENTSINCE, 1, false, true }, { SEARCH_SENTSINCE, -9, true, false },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct message m = { .octets = SPAN(letter) };

                arena_reset(&arena);
                program = search_program_create(&arena);
                add(NULL, cases[i].op)->day = day + cases[i].offset;
                cr_expect_eq(run(&m), cases[i].found ? SEARCH_YES : SEARCH_NO, "case %zu", i);
                cr_expect_eq(m.reads > 0, cases[i].read, "case %zu", i);
        }
}

Test(search, a_message_without_date_was_never_sent)
{
        struct message m = { .octets = SPAN("\r\n") };

        add(add(NULL, SEARCH_NOT), SEARCH_SENTSINCE)->day = 0;
        cr_expect_eq(run(&m), SEARCH_YES);
}

Test(search, combinations)
{
        struct message m = { .octets = SPAN(letter) };
        struct search_key *either = add(NULL, SEARCH_OR), *none = add(NULL, SEARCH_NOT);

        add_text(either, SEARCH_BODY, "", "nowhere");
        add_text(either, SEARCH_HEADER, "Subject", "tea");
        add_text(none, SEARCH_TEXT, "", "nowhere");
        cr_expect_eq(run(&m), SEARCH_YES);
        add_text(NULL, SEARCH_BODY, "", "nowhere");
        cr_expect_eq(run(&m), SEARCH_NO);
}

Test(search, reading_stops_when_the_answer_is_known)
{
        struct str big = STR_INIT;
        struct message m;

        str_append_str(&big, "Subject: tea\r\n\r\n");
        while (big.len < 1000000)
                str_append_str(&big, "a line of a long text\r\n");
        m = (struct message){ .octets = str_span(&big) };
        add_text(NULL, SEARCH_HEADER, "Subject", "tea");
        cr_expect_eq(run(&m), SEARCH_YES);
        cr_expect_eq(m.octets_read, 16);
        add_text(NULL, SEARCH_BODY, "", "a long");
        m.octets_read = 0;
        cr_expect_eq(run(&m), SEARCH_YES);
        cr_expect_lt(m.octets_read, 50000);
        add(NULL, SEARCH_FLAGS)->flags = 2;
        m.octets_read = 0;
        cr_expect_eq(run(&m), SEARCH_NO);
        cr_expect_eq(m.octets_read, 0);
        str_deinit(&big);
}

Test(search, a_step_looks_at_its_budget_and_no_more)
{
        struct str big = STR_INIT;
        struct message m;
        struct search_message d;
        struct search_eval *e;
        enum search_result result;
        size_t steps = 0;

        str_append_str(&big, "Subject: tea\r\n\r\n");
        while (big.len < 1000000)
                str_append_str(&big, "a line of a long text\r\n");
        str_append_str(&big, "needle");
        m = (struct message){ .octets = str_span(&big) };
        add_text(NULL, SEARCH_BODY, "", "text\r\nneedle");
        d = describe(&m);
        cr_assert_eq(search_program_finish(program, &err), 0);
        e = search_eval_create(program);
        for (result = search_begin(e, &d); result == SEARCH_MORE; steps++) {
                uint64_t budget = 50000;
                size_t before = m.octets_read;

                result = search_step(e, &budget, &err);
                cr_expect_leq(m.octets_read - before, 50000 + 16384);
                cr_expect(result != SEARCH_MORE || budget == 0);
                search_eval_idle(e);
        }
        cr_expect_eq(result, SEARCH_YES);
        cr_expect_gt(steps, 15);
        search_eval_destroy(&e);
        mime_result_deinit(&m.parsed);
        str_deinit(&big);
}

Test(search, needles_are_found_across_every_cut_of_a_long_text)
{
        for (size_t at = 16300; at < 16500; at++) {
                struct str text = STR_INIT;

                str_append_str(&text, "\r\n");
                while (text.len < at)
                        str_append_c(&text, 'x');
                str_append_str(&text, "needle in the hay");
                while (text.len < 40000)
                        str_append_c(&text, 'x');
                cr_expect(finds(SEARCH_BODY, "", "needle in the hay", text.data), "at %zu", at);
                str_deinit(&text);
        }
}

Test(search, a_field_longer_than_any_buffer_is_searched_to_its_end)
{
        struct str text = STR_INIT;

        str_append_str(&text, "To: first@example.org");
        while (text.len < 100000)
                str_append_str(&text, ",\r\n somebody@example.com");
        str_append_str(&text, ",\r\n =?utf-8?q?J=C3=BCrgen?= <last@example.org>\r\nCc: other@example.org\r\n\r\n");
        cr_expect(finds(SEARCH_HEADER, "To", "jürgen <last", text.data));
        cr_expect(finds(SEARCH_HEADER, "To", "somebody@example.com, jürgen", text.data));
        cr_expect_not(finds(SEARCH_HEADER, "To", "other", text.data));
        cr_expect(finds(SEARCH_HEADER, "Cc", "other", text.data));
        cr_expect(finds(SEARCH_TEXT, "", "last@example.org", text.data));
        cr_expect_not(finds(SEARCH_TEXT, "", "first@example.orgcc", text.data));
        str_deinit(&text);
}

Test(search, a_failed_read_is_an_error_of_this_message_only)
{
        struct message bad = { .octets = SPAN(letter), .broken = true }, good = { .octets = SPAN(letter) };
        struct search_message d;
        struct search_eval *e;

        add_text(NULL, SEARCH_TEXT, "", "wald");
        cr_assert_eq(search_program_finish(program, &err), 0);
        e = search_eval_create(program);
        d = describe(&bad);
        cr_expect_eq(search_message(e, &d, &err), SEARCH_ERROR);
        cr_expect_eq(err.code, ERR_IO);
        d = describe(&good);
        cr_expect_eq(search_message(e, &d, &err), SEARCH_YES);
        search_eval_destroy(&e);
        mime_result_deinit(&bad.parsed);
        mime_result_deinit(&good.parsed);
}

Test(search, a_damaged_part_table_is_reported)
{
        struct message m = { .octets = SPAN(letter) };
        struct search_message d = describe(&m);
        struct search_eval *e;

        m.parsed.parts[1].body_len = 1u << 30;
        add_text(NULL, SEARCH_TEXT, "", "wald");
        cr_assert_eq(search_program_finish(program, &err), 0);
        e = search_eval_create(program);
        cr_expect_eq(search_message(e, &d, &err), SEARCH_ERROR);
        cr_expect_eq(err.code, ERR_CORRUPT);
        search_eval_destroy(&e);
        mime_result_deinit(&m.parsed);
}

Test(search, programs_are_bounded)
{
        struct search_key *k = NULL;
        struct str longest = STR_INIT;

        for (int i = 0; i <= SEARCH_DEPTH_MAX; i++)
                k = add(k, SEARCH_NOT);
        cr_expect_eq(search_program_finish(program, &err), -1);
        cr_expect_eq(err.code, ERR_LIMIT);
        program = search_program_create(&arena);
        for (int i = 0; i < SEARCH_KEYS_MAX - 1; i++)
                add(NULL, SEARCH_ALL);
        cr_expect_null(search_key_add(program, NULL, SEARCH_ALL, &err));
        cr_expect_eq(err.code, ERR_LIMIT);
        program = search_program_create(&arena);
        for (int i = 0; i <= SEARCH_NEEDLES_MAX; i++)
                add_text(NULL, SEARCH_TEXT, "", arena_printf(&arena, "needle %d", i));
        cr_expect_eq(search_program_finish(program, &err), -1);
        cr_expect_eq(err.code, ERR_LIMIT);
        program = search_program_create(&arena);
        while (longest.len <= SEARCH_NEEDLE_MAX)
                str_append_c(&longest, 'x');
        add_text(NULL, SEARCH_TEXT, "", longest.data);
        cr_expect_eq(search_program_finish(program, &err), -1);
        cr_expect_eq(err.code, ERR_LIMIT);
        str_deinit(&longest);
}

Test(search, arguments_come_in_many_charsets)
{
        struct span out;

        cr_expect_eq(search_text_convert(program, SPAN("ISO-8859-1"), SPAN("caf\xe9"), &out, &err), 0);
        cr_expect(span_eq_str(out, "café"));
        cr_expect_eq(search_text_convert(program, SPAN("X-NONE"), SPAN("x"), &out, &err), -1);
        cr_expect_eq(err.code, ERR_CHARSET);
}
