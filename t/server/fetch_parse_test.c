/* Tests of server/imap/fetch_parse: what FETCH asks for, and how its sections are called in the reply. */
#include "server/imap/fetch.h"

#include <criterion/criterion.h>
#include <string.h>

#include "util/array.h"

static struct arena arena = ARENA_INIT;

static void reset(void)
{
        arena_deinit(&arena);
}

static int parse(const char *text, struct fetch_request *r, struct err *err)
{
        struct imap_parser ip;
        int ret;

        imap_parser_init(&ip, span_of(text), &arena, false);
        ret = fetch_parse(&ip, r);
        err_copy(err, &ip.err);
        return ret;
}

TestSuite(fetch_parse, .fini = reset);

Test(fetch_parse, items_and_macros)
{
        static const struct { const char *text; unsigned items; } t[] = {
                { "FLAGS", FETCH_FLAGS },
                { "(UID FLAGS)", FETCH_UID | FETCH_FLAGS },
                { "(rfc822.size internaldate)", FETCH_SIZE | FETCH_INTERNALDATE },
                { "ALL", FETCH_FLAGS | FETCH_INTERNALDATE | FETCH_SIZE | FETCH_ENVELOPE },
                { "fast", FETCH_FLAGS | FETCH_INTERNALDATE | FETCH_SIZE },
                { "FULL", FETCH_FLAGS | FETCH_INTERNALDATE | FETCH_SIZE | FETCH_ENVELOPE | FETCH_BODY },
                { "BODY", FETCH_BODY },
                { "(BODY BODYSTRUCTURE ENVELOPE)", FETCH_BODY | FETCH_BODYSTRUCTURE | FETCH_ENVELOPE },
                { "(MODSEQ)", FETCH_MODSEQ },
        };
        struct fetch_request r;
        struct err err;

        for (size_t i = 0; i < ARRAY_LEN(t); i++) {
                cr_assert_eq(parse(t[i].text, &r, &err), 0, "%s: %s", t[i].text, err.text);
                cr_expect_eq(r.items, t[i].items, "%s", t[i].text);
                cr_expect_null(r.sections);
                cr_expect_not(r.sets_seen);
        }
}

Test(fetch_parse, sections_are_called_as_the_reply_says_them)
{
        static const struct { const char *text, *label; bool seen; enum mime_section what; size_t path_n; } t[] = {
                { "BODY[]", "BODY[]", true, MIME_SECTION_ALL, 0 },
                { "BODY.PEEK[]", "BODY[]", false, MIME_SECTION_ALL, 0 },
                { "BODY.PEEK[]<0.10>", "BODY[]<0>", false, MIME_SECTION_ALL, 0 },
                { "body[header]", "BODY[HEADER]", true, MIME_SECTION_HEADER, 0 },
                { "BODY[TEXT]<7.1>", "BODY[TEXT]<7>", true, MIME_SECTION_TEXT, 0 },
                { "BODY[1]", "BODY[1]", true, MIME_SECTION_ALL, 1 },
                { "BODY[1.2.3]", "BODY[1.2.3]", true, MIME_SECTION_ALL, 3 },
                { "BODY[2.MIME]", "BODY[2.MIME]", true, MIME_SECTION_MIME, 1 },
                { "BODY[4.2.HEADER]", "BODY[4.2.HEADER]", true, MIME_SECTION_HEADER, 2 },
                { "BODY.PEEK[1.HEADER.FIELDS (DATE \"From\")]", "BODY[1.HEADER.FIELDS (DATE From)]", false, MIME_SECTION_HEADER, 1 },
                { "BODY[HEADER.FIELDS.NOT (\"a b\")]", "BODY[HEADER.FIELDS.NOT (\"a b\")]", true, MIME_SECTION_HEADER, 0 },
                { "RFC822", "RFC822", true, MIME_SECTION_ALL, 0 },
                { "RFC822.HEADER", "RFC822.HEADER", false, MIME_SECTION_HEADER, 0 },
                { "RFC822.TEXT", "RFC822.TEXT", true, MIME_SECTION_TEXT, 0 },
                { "BINARY[1]", "BINARY[1]", true, MIME_SECTION_ALL, 1 },
                { "BINARY.PEEK[1.1]<5.6>", "BINARY[1.1]<5>", false, MIME_SECTION_ALL, 2 },
                { "BINARY.SIZE[2]", "BINARY.SIZE[2]", false, MIME_SECTION_ALL, 1 },
        };
        struct fetch_request r;
        struct err err;

        for (size_t i = 0; i < ARRAY_LEN(t); i++) {
                cr_assert_eq(parse(t[i].text, &r, &err), 0, "%s: %s", t[i].text, err.text);
                cr_assert_not_null(r.sections, "%s", t[i].text);
                cr_expect_str_eq(r.sections->label.p, t[i].label);
                cr_expect_eq(r.sets_seen, t[i].seen, "%s", t[i].text);
                cr_expect_eq(r.sections->what, t[i].what, "%s", t[i].text);
                cr_expect_eq(r.sections->path_n, t[i].path_n, "%s", t[i].text);
        }
}

Test(fetch_parse, modifiers)
{
        struct fetch_request r;
        struct err err;

        cr_assert_eq(parse("(FLAGS) (CHANGEDSINCE 12345)", &r, &err), 0, "%s", err.text);
        cr_expect(r.changedsince);
        cr_expect_eq(r.since, 12345);
        cr_expect_eq(r.items, FETCH_FLAGS | FETCH_MODSEQ, "CHANGEDSINCE implies MODSEQ (RFC 7162 3.1.4.1)");
}

Test(fetch_parse, what_is_out_of_grammar)
{
        static const char *const t[] = {
                "", "(", "()", "(FLAGS", "FLAGS)", "(FLAGS )", "(FLAGS  UID)", "FLAGS UID", "FOO", "(ALL)", "(FLAGS FAST)", "BODY[", "BODY[]<",
                "BODY[]<0>", "BODY[]<0.0>", "BODY[]<-1.5>", "BODY[]<0.99999999999999999999>", "BODY[0]", "BODY[1.0]", "BODY[1.]", "BODY[.1]",
                "BODY[1..2]", "BODY[MIME]", "BODY[HEADER.FIELDS]", "BODY[HEADER.FIELDS ()]", "BODY[HEADER.FIELDS (A B]", "BODY[1 2]",
                "BODY[HEADER.FIELDS (\"a\x01\")]", "BODY[4294967296]", "BINARY[HEADER]", "BINARY[1.MIME]", "BINARY.SIZE[1]<0.1>", "BODY.PEEK",
                "RFC822[]", "ENVELOPE[]", "FLAGS (CHANGEDSINCE)", "FLAGS (VANISHED)", "FLAGS (CHANGEDSINCE VANISHED)", "FLAGS (CHANGEDSINCE x)", "FLAGS (FOO 1)", "FLAGS CHANGEDSINCE 1", "FLAGS ()",
        };
        struct fetch_request r;
        struct err err;

        for (size_t i = 0; i < ARRAY_LEN(t); i++) {
                cr_expect_eq(parse(t[i], &r, &err), -1, "%s", t[i]);
                cr_expect_neq(err.text[0], '\0', "%s", t[i]);
        }
}

Test(fetch_parse, bounds)
{
        struct str text = STR_INIT;
        struct fetch_request r;
        struct err err;

        str_append_str(&text, "(BODY[]");
        for (int i = 1; i < FETCH_SECTIONS_MAX; i++)
                str_append_str(&text, " BODY[1]");
        str_append_c(&text, ')');
        cr_expect_eq(parse(text.data, &r, &err), 0, "%s", err.text);
        cr_expect_eq(r.sections_n, FETCH_SECTIONS_MAX);
        str_truncate(&text, text.len - 1);
        str_append_str(&text, " BODY[1])");
        cr_expect_eq(parse(text.data, &r, &err), -1);
        cr_expect_eq(err.code, ERR_LIMIT);

        str_clear(&text);
        str_append_str(&text, "BODY[1");
        for (int i = 0; i < FETCH_PATH_MAX; i++)
                str_append_str(&text, ".1");
        str_append_c(&text, ']');
        cr_expect_eq(parse(text.data, &r, &err), -1);
        cr_expect_eq(err.code, ERR_LIMIT);

        str_clear(&text);
        str_append_str(&text, "BODY[HEADER.FIELDS (a");
        for (int i = 0; i < FETCH_NAMES_MAX; i++)
                str_append_str(&text, " a");
        str_append_str(&text, ")]");
        cr_expect_eq(parse(text.data, &r, &err), -1);
        str_deinit(&text);
}
