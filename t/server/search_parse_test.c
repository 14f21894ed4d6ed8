/* Tests of server/imap/search_parse: from a SEARCH command to a program, by what the program finds and by its shape. */
#include "server/imap/search_parse.h"

#include <criterion/criterion.h>
#include <string.h>

#include "store/mailbox.h"
#include "util/array.h"
#include "util/clock.h"

static struct arena arena = ARENA_INIT;
static struct uidset saved = UIDSET_INIT;

static void reset(void)
{
        arena_deinit(&arena);
        uidset_deinit(&saved);
}

TestSuite(search_parse, .fini = reset);

static int parse(const char *text, struct search_request *r, struct err *err)
{
        struct search_sets sets = { .count = 10, .last_uid = 100, .saved = &saved };
        struct imap_parser ip;
        int ret;

        imap_parser_init(&ip, span_of(text), &arena, false);
        ret = search_parse(&ip, &sets, r);
        err_copy(err, &ip.err);
        return ret;
}

/* The program as text: (op children). */
static void show(const struct search_key *k, struct str *out)
{
        static const char *const names[SEARCH_OP_MAX] = {
                [SEARCH_ALL] = "all", [SEARCH_AND] = "and", [SEARCH_OR] = "or", [SEARCH_NOT] = "not", [SEARCH_SEQSET] = "seq",
                [SEARCH_UIDSET] = "uid", [SEARCH_FLAGS] = "flags", [SEARCH_KEYWORD] = "keyword", [SEARCH_BEFORE] = "before",
                [SEARCH_ON] = "on", [SEARCH_SINCE] = "since", [SEARCH_SENTBEFORE] = "sentbefore", [SEARCH_SENTON] = "senton",
                [SEARCH_SENTSINCE] = "sentsince", [SEARCH_LARGER] = "larger", [SEARCH_SMALLER] = "smaller", [SEARCH_MODSEQ] = "modseq",
                [SEARCH_HEADER] = "header", [SEARCH_BODY] = "body", [SEARCH_TEXT] = "text",
        };

        str_printf(out, "(%s", names[k->op]);
        if (k->op == SEARCH_FLAGS)
                str_printf(out, " %x", k->flags);
        if (k->op == SEARCH_SEQSET || k->op == SEARCH_UIDSET) {
                str_append_c(out, ' ');
                uidset_append(k->set, out);
        }
        if (k->op >= SEARCH_BEFORE && k->op <= SEARCH_SENTSINCE)
                str_printf(out, " %d", (int)k->day);
        if (k->op == SEARCH_LARGER || k->op == SEARCH_SMALLER || k->op == SEARCH_MODSEQ)
                str_printf(out, " %d", (int)k->number);
        if (k->op == SEARCH_HEADER)
                str_printf(out, " %.*s", (int)k->field.len, k->field.p);
        if (k->op == SEARCH_KEYWORD || k->op == SEARCH_HEADER || k->op == SEARCH_BODY || k->op == SEARCH_TEXT)
                str_printf(out, " <%.*s>", (int)k->text.len, k->text.p);
        for (const struct search_key *c = k->list; c; c = c->next) {
                str_append_c(out, ' ');
                show(c, out);
        }
        str_append_c(out, ')');
}

Test(search_parse, programs)
{
        static const struct { const char *text, *program; } t[] = {
                { "ALL", "(and (all))" },
                { "seen", "(and (flags 10))" },
                { "UNSEEN FLAGGED", "(and (not (flags 10)) (flags 2))" },
                { "NEW", "(and (and (flags 80000000) (not (flags 10))))" },
                { "OLD RECENT", "(and (not (flags 80000000)) (flags 80000000))" },
                { "NOT DELETED", "(and (not (flags 4)))" },
                { "NOT (DELETED DRAFT)", "(and (not (and (flags 4) (flags 8))))" },
                { "NOT NOT ALL", "(and (not (not (all))))" },
                { "OR SEEN DELETED ALL", "(and (or (flags 10) (flags 4)) (all))" },
                { "OR SEEN OR DELETED OR DRAFT ALL", "(and (or (flags 10) (flags 4) (flags 8) (all)))" },
                { "OR OR OR SEEN DELETED DRAFT ALL", "(and (or (flags 10) (flags 4) (flags 8) (all)))" },
                { "OR (SEEN DELETED) NOT ALL SEEN", "(and (or (and (flags 10) (flags 4)) (not (all))) (flags 10))" },
                { "((SEEN) (ALL))", "(and (flags 10) (all))" },
                { "2:4,8", "(and (seq 2:4,8))" },
                { "*", "(and (seq 10))" },
                { "9:*", "(and (seq 9:10))" },
                { "UID 5:*", "(and (uid 5:100))" },
                { "UID 200:*", "(and (uid 100:200))" },
                { "$ SEEN", "(and (uid 3,7) (flags 10))" },
                { "UID $", "(and (uid 3,7))" },
                { "KEYWORD $Junk UNKEYWORD a", "(and (keyword <$Junk>) (not (keyword <a>)))" },
                { "LARGER 5 SMALLER 9", "(and (larger 5) (smaller 9))" },
                { "FROM x TO \"y z\" CC {1}\r\nw BCC b SUBJECT \"\"", "(and (header From <x>) (header To <y z>) (header Cc <w>) (header Bcc <b>) (header Subject <>))" },
                { "HEADER X-Y z", "(and (header X-Y <z>))" },
                { "BODY a TEXT b", "(and (body <a>) (text <b>))" },
                { "BEFORE 1-Jan-1970 ON 02-Jan-1970 SINCE \"3-jan-1970\"", "(and (before 0) (on 1) (since 2))" },
                { "SENTBEFORE 1-Jan-1970 SENTON 2-Jan-1970 SENTSINCE 3-Jan-1970", "(and (sentbefore 0) (senton 1) (sentsince 2))" },
                { "MODSEQ 5", "(and (modseq 5))" },
                { "MODSEQ \"/flags/\\\\draft\" all 620162338", "(and (modseq 620162338))" },
                { "CHARSET utf-8 TEXT \xc3\xa4", NULL },                        /* 8-bit in an atom */
                { "CHARSET utf-8 TEXT {2}\r\n\xc3\xa4", "(and (text <\xc3\xa4>))" },
                { "CHARSET iso-8859-1 TEXT {1}\r\n\xe4", "(and (text <\xc3\xa4>))" },
        };
        struct search_request r;
        struct str out = STR_INIT;
        struct err err;

        uidset_add(&saved, 3);
        uidset_add(&saved, 7);
        for (size_t i = 0; i < ARRAY_LEN(t); i++) {
                if (!t[i].program) {
                        cr_expect_eq(parse(t[i].text, &r, &err), -1, "%s", t[i].text);
                        continue;
                }
                cr_assert_eq(parse(t[i].text, &r, &err), 0, "%s: %s", t[i].text, err.text);
                str_clear(&out);
                show(r.program->root, &out);
                cr_expect_str_eq(out.data, t[i].program, "%s: %s", t[i].text, out.data);
                cr_expect_not(r.extended);
        }
        str_deinit(&out);
}

Test(search_parse, result_options)
{
        static const struct { const char *text; unsigned returns; } t[] = {
                { "RETURN () ALL", SEARCH_RETURN_ALL },                                 /* RFC 4731 3.1 */
                { "RETURN (ALL) ALL", SEARCH_RETURN_ALL },
                { "return (min max) ALL", SEARCH_RETURN_MIN | SEARCH_RETURN_MAX },
                { "RETURN (COUNT SAVE) CHARSET UTF-8 ALL", SEARCH_RETURN_COUNT | SEARCH_RETURN_SAVE },
                { "RETURN (SAVE) ALL", SEARCH_RETURN_SAVE },
        };
        struct search_request r;
        struct err err;

        for (size_t i = 0; i < ARRAY_LEN(t); i++) {
                cr_assert_eq(parse(t[i].text, &r, &err), 0, "%s: %s", t[i].text, err.text);
                cr_expect(r.extended);
                cr_expect_eq(r.returns, t[i].returns, "%s", t[i].text);
        }
}

Test(search_parse, what_is_out_of_grammar)
{
        static const char *const t[] = {
                "", " ", "ALL ", "FOO", "NOT", "NOT ", "OR SEEN", "OR SEEN ", "OR", "(", "()", "(ALL", "(ALL ", "ALL)", "(ALL))", "((ALL)", "ALL  ALL",
                "NOT)", "OR ALL)", "(OR ALL)", "(NOT)", "0", "UID", "UID x", "UID 0", "UID 1,", "1:", "FROM", "FROM ", "HEADER a", "BODY",
                "LARGER x", "LARGER -1", "LARGER 99999999999999999999", "ON 31-Feb-2020", "ON 1-Foo-2020", "BEFORE 1-Jan-20", "ON \"1-Jan-2020",
                "KEYWORD", "KEYWORD (", "MODSEQ", "MODSEQ \"/flags/x\" 5", "MODSEQ \"/flags/x\" foo 5", "MODSEQ \"x\" all 5", "MODSEQ \"/flags/\" all 5",
                "RETURN ALL", "RETURN (FOO) ALL", "RETURN (ALL)", "RETURN (ALL )  ALL", "RETURN (ALL", "CHARSET", "CHARSET UTF-8", "ALL CHARSET UTF-8 ALL",
                "RETURN (PARTIAL 0:2) ALL", "$1", "$,1",
        };
        struct search_request r;
        struct err err;

        for (size_t i = 0; i < ARRAY_LEN(t); i++) {
                cr_expect_eq(parse(t[i], &r, &err), -1, "%s", t[i]);
                cr_expect_eq(err.code, ERR_SYNTAX, "%s: %s", t[i], err.text);
        }
}

Test(search_parse, an_unknown_charset_is_no_syntax_error)
{
        struct search_request r;
        struct err err;

        cr_expect_eq(parse("RETURN (SAVE) CHARSET x-nonesuch TEXT a", &r, &err), -1);
        cr_expect_eq(err.code, ERR_CHARSET);
        cr_expect_eq(r.returns, SEARCH_RETURN_SAVE, "known when it fails: `$` becomes empty (RFC 5182 2.1)");
}

Test(search_parse, an_empty_mailbox_has_no_star)
{
        struct search_sets sets = { .saved = &saved };
        struct imap_parser ip;
        struct search_request r;

        imap_parser_init(&ip, SPAN("1:* UID 1:*"), &arena, false);
        cr_assert_eq(search_parse(&ip, &sets, &r), 0, "%s", ip.err.text);
        cr_expect(uidset_empty(r.program->root->list->set));
        imap_parser_init(&ip, SPAN("1"), &arena, false);
        cr_assert_eq(search_parse(&ip, &sets, &r), 0, "beyond the end is no error (RFC 7377 2)");
        cr_expect(uidset_empty(r.program->root->list->set));
}

static void repeat(struct str *s, const char *what, int n)
{
        while (n-- > 0)
                str_append_str(s, what);
}

Test(search_parse, bounds_of_nesting_and_number)
{
        static const struct { const char *head, *tail; int n; bool ok; } t[] = {
                { "NOT ", "", 60, true },
                { "NOT ", "", 100, false },
                { "NOT ", "", 50000, false },
                { "(", ")", 60, true },
                { "(", ")", 100, false },
                { "(", ")", 50000, false },
                { "OR ALL ", "", 500, true },                           /* chains stay flat */
                { "OR ", " ALL", 500, true },
                { "OR ", " ALL", 50000, false },
                { "OR ALL NOT ", "", 50000, false },
        };
        struct search_request r;
        struct str text = STR_INIT;
        struct err err;

        for (size_t i = 0; i < ARRAY_LEN(t); i++) {
                str_clear(&text);
                repeat(&text, t[i].head, t[i].n);
                str_append_str(&text, "ALL");
                repeat(&text, t[i].tail, t[i].n);
                cr_expect_eq(parse(text.data, &r, &err), t[i].ok ? 0 : -1, "%s x %d: %s", t[i].head, t[i].n, err.text);
                if (!t[i].ok)
                        cr_expect_eq(err.code, ERR_LIMIT, "%s x %d: %s", t[i].head, t[i].n, err.text);
                arena_reset(&arena);
        }
        str_deinit(&text);
}
