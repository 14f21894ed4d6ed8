/* The words of annotation_callout; the conversation itself is in t/imap/callout.t. */
#include <criterion/criterion.h>
#include <string.h>

#include "server/callout.h"
#include "util/array.h"
#include "util/must.h"

static struct arena arena;
static const struct span had[] = { SPAN("old"), SPAN("kept") };
static const struct callout_message message = { .flags = MSG_SEEN | MSG_FLAGGED, .keywords = had, .keyword_count = 2 };

static void setup(void) { arena_init(&arena); }
static void teardown(void) { arena_deinit(&arena); }
TestSuite(callout, .init = setup, .fini = teardown);

static int parse(const char *text, struct callout_answer *a)
{
        size_t len = strlen(text);
        char *copy = xmalloc(len + 1);          /* its own, so that reading beyond its end is found */
        int rc;

        memcpy(copy, text, len);
        rc = callout_parse(arena_span(&arena, (struct span){ copy, len }), &message, &arena, a);
        free(copy);
        return rc;
}

static bool has(const struct callout_answer *a, const char *keyword)
{
        for (uint32_t i = 0; i < a->keyword_count; i++)
                if (span_eq_str(a->keywords[i], keyword))
                        return true;
        return false;
}

Test(callout, flags_come_and_go)
{
        struct callout_answer a;

        cr_expect(parse("(+FLAGS \\Answered -flags (OLD \\seen) +FLAGS (new \"quoted\" {3+}\r\nabc) )\n", &a) == 1);
        cr_expect(a.flags == (MSG_FLAGGED | MSG_ANSWERED) && !a.odd);
        cr_expect(a.keyword_count == 4 && has(&a, "kept") && has(&a, "new") && has(&a, "quoted") && has(&a, "abc"));
        cr_expect(parse("()", &a) == 1 && a.flags == message.flags && a.keyword_count == 2 && !a.odd);
        cr_expect(parse("(+FLAGS (kept KEPT))", &a) == 1 && a.keyword_count == 2);
}

Test(callout, annotations_have_an_entry_and_pairs)
{
        struct callout_answer a;

        cr_expect(parse("(ANNOTATION (/a (value.shared \"x\\\"y\") (VALUE.PRIV NIL)) annotation (\"/b\" (value.shared {2}\r\n\"))))", &a) == 1);
        cr_expect(a.annots_n == 3 && !a.odd);
        cr_expect(strcmp(a.annots[0].entry, "/a") == 0 && !a.annots[0].private && span_eq_str(a.annots[0].value, "x\"y"));
        cr_expect(a.annots[1].private && !a.annots[1].value.p);
        cr_expect(strcmp(a.annots[2].entry, "/b") == 0 && span_eq_str(a.annots[2].value, "\")"));
        cr_expect(parse("(ANNOTATION (/a (value.shared \"\")))", &a) == 1 && a.annots[0].value.p && a.annots[0].value.len == 0);
}

Test(callout, what_is_odd_ends_it)
{
        static const char *const odd[] = {
                "(+FLAGS new FOO x +FLAGS late)", "(+FLAGS new ANNOTATION x +FLAGS late)", "(+FLAGS new (x) +FLAGS late)",
                "(+FLAGS new ANNOTATION (/a value.shared x) +FLAGS late)", "(+FLAGS new ANNOTATION (/a (value.shared x y)) +FLAGS late)",
                "(+FLAGS new ANNOTATION ((x)) +FLAGS late)", "(+FLAGS new +FLAGS ((late)))", "(+FLAGS new NIL x +FLAGS late)",
        };
        struct callout_answer a;

        for (size_t i = 0; i < ARRAY_LEN(odd); i++)
                cr_expect(parse(odd[i], &a) == 1 && a.odd && has(&a, "new") && !has(&a, "late"), "%s", odd[i]);
        cr_expect(parse("(+FLAGS (\\Recent new \"a b\" ok))", &a) == 1 && a.odd && has(&a, "new") && has(&a, "ok") && a.keyword_count == 4);
        cr_expect(parse("(ANNOTATION (/a (size.shared 3) (value.shared v)))", &a) == 1 && a.odd && a.annots_n == 1);
}

Test(callout, it_is_whole_or_it_is_not)
{
        static const char whole[] = " \r\n(+FLAGS (\\Seen \"q\\\"\") ANNOTATION (/a (value.shared {3}\r\n)))) (value.priv NIL)))";
        static const char *const none[] = { "hello", ")", "\"x\"", "({x}\r\n)", "({99999999999999999999}\r\n)" };
        struct callout_answer a;

        for (size_t n = 0; n + 1 < sizeof whole; n++) {
                char *cut = arena_strndup(&arena, whole, n);

                cr_expect(parse(cut, &a) == 0, "%zu: %s", n, cut);
        }
        cr_expect(parse(whole, &a) == 1 && a.annots_n == 2);
        for (size_t i = 0; i < ARRAY_LEN(none); i++)
                cr_expect(parse(none[i], &a) == -1, "%s", none[i]);
}
