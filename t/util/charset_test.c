#include <criterion/criterion.h>

#include "util/array.h"
#include "util/charset.h"

static void eq(const struct str *got, const char *want)
{
        cr_expect(span_eq_str(str_span(got), want), "got \"%s\", want \"%s\"", got->data, want);
}

Test(charset, words_of_rfc2047_are_decoded_and_others_left)
{
        static const struct { const char *in, *out; } cases[] = {
                { "plain", "plain" },
                { "=?utf-8?q?caf=C3=A9?=", "café" },
                { "=?UTF-8?B?Y2Fmw6k=?= end", "café end" },
                { "=?iso-8859-1?q?=E9_x?=", "é x" },
                { "=?iso-8859-1*en?q?=E9?=", "é" },                             /* RFC 2231 5 */
                { "(=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=)", "(ab)" },          /* RFC 2047 8 */
                { "=?ISO-8859-1?Q?a?=\r\n   =?ISO-8859-1?Q?b?=", "ab" },
                { "=?ISO-8859-1?Q?a?= b", "a b" },
                { "=?ISO-8859-1?Q?a_?= =?ISO-8859-2?Q?_b?=", "a  b" },
                { "=?utf-8?q?caf=C3?= =?utf-8?q?=A9?=", "café" },               /* a character cut in two */
                { "=?utf-8?q?caf=C3?= x", "caf\xef\xbf\xbd x" },
                { "=?utf-8?x?abc?=", "=?utf-8?x?abc?=" },
                { "=?utf-8?q?abc", "=?utf-8?q?abc" },
                { "=?utf-8?q?a b?=", "=?utf-8?q?a b?=" },
                { "=??q?a?=", "=??q?a?=" },
                { "=?=?utf-8?q?a?=", "=?a" },
                { "a\r\n b\r\n\tc", "a b\tc" },
                { "a\r\nb", "a b" },
                { "gr\xfcn", "gr\xef\xbf\xbdn" },
                { "=?iso-2022-jp?B?GyRCRnxLXBsoQg==?= =?iso-2022-jp?B?GyRCOGwbKEI=?=", "日本語" },
                { "=?gb2312?B?xOO6ww==?=", "你好" },
                { "=?utf-8?q?=00?=", "\xef\xbf\xbd" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct str out = STR_INIT;

                rfc2047_decode(span_of(cases[i].in), &out);
                cr_expect(span_eq_str(str_span(&out), cases[i].out), "%s: got \"%s\"", cases[i].in, out.data);
                str_deinit(&out);
        }
}

Test(charset, modified_utf7_is_taken_strictly)                                  /* RFC 3501 5.1.3 */
{
        static const struct { const char *in, *out; } cases[] = {
                { "Entw&APw-rfe", "Entwürfe" },
                { "~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語" },
                { "a&-b", "a&b" },
                { "&-&-", "&&" },
                { "&AOk-&-", "é&" },
                { "&2D3eAA-", "😀" },
                { "", "" },
                { "&AGE-", NULL },                      /* ASCII encoded */
                { "&AOk-&AOk-", NULL },                 /* side by side: must be one sequence */
                { "&AOk", NULL },
                { "&", NULL },
                { "a&b", NULL },
                { "&2D0-", NULL },                      /* half a surrogate */
                { "&3gA-", NULL },
                { "&AOl-", NULL },                      /* bits left over are not zero */
                { "&AOkA-", NULL },                     /* too many characters */
                { "&A-", NULL },
                { "&AAE-", NULL },                      /* a control character */
                { "\xc3\xa9", NULL },
                { "a\tb", NULL },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct str out = STR_INIT, back = STR_INIT;
                struct err err = ERR_INIT;
                int rc = mutf7_to_utf8(span_of(cases[i].in), &out, &err);

                cr_expect_eq(rc, cases[i].out ? 0 : -1, "%s: %s", cases[i].in, err.text);
                cr_expect_eq(mutf7_valid(span_of(cases[i].in)), cases[i].out != NULL, "%s", cases[i].in);
                if (cases[i].out) {
                        eq(&out, cases[i].out);
                        cr_expect_eq(mutf7_from_utf8(str_span(&out), &back, &err), 0);
                        eq(&back, cases[i].in);
                } else {
                        cr_expect_eq(err.code, ERR_BADNAME);
                        cr_expect_eq(out.len, 0);
                }
                str_deinit(&out);
                str_deinit(&back);
        }
}

Test(charset, utf8_names_with_broken_octets_or_controls_have_no_utf7)
{
        struct str out = STR_INIT;
        struct err err = ERR_INIT;

        str_append_str(&out, "before");
        cr_expect_eq(mutf7_from_utf8(SPAN("a\xff"), &out, &err), -1);
        cr_expect_eq(mutf7_from_utf8(SPAN("a\x01"), &out, &err), -1);
        cr_expect_eq(mutf7_from_utf8(SPAN("a\x7f"), &out, &err), -1);
        cr_expect_eq(err.code, ERR_BADNAME);
        eq(&out, "before");
        str_deinit(&out);
}

Test(charset, casemap_makes_equal_what_readers_take_as_equal)                  /* RFC 5051 */
{
        static const struct { const char *a, *b; } cases[] = {
                { "Hello", "hELLO" }, { "ÄÖÜ", "äöü" }, { "é", "e\xcc\x81" }, { "ПРИВЕТ", "привет" }, { "ﬁ", "fi" }, { "Ω", "ω" },
                { "\xe2\x84\xab", "å" },                /* U+212B ANGSTROM SIGN */
                { "각", "\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct str a = STR_INIT, b = STR_INIT;

                casemap_span(span_of(cases[i].a), &a);
                casemap_span(span_of(cases[i].b), &b);
                if (strcmp(cases[i].a, "ﬁ") == 0)       /* decomposed after titlecasing: "fi" stays lower case, RFC 5051 2 */
                        eq(&a, "fi");
                else
                        eq(&a, b.data);
                str_deinit(&a);
                str_deinit(&b);
        }
}

Test(charset, casemap_of_rfc5051s_example)
{
        struct str out = STR_INIT;

        casemap_span(SPAN("\xc7\x84"), &out);           /* U+01C4 → U+01C5 → D z U+030C */
        eq(&out, "Dz\xcc\x8c");
        str_deinit(&out);
}

/* Every piece length from one octet to all of it gives the same. */
static void decoded_in_pieces(enum transfer_encoding encoding, const char *charset, bool casemapped, struct span in, const char *want)
{
        for (size_t piece = 1; piece <= in.len + 1; piece++) {
                struct text_stream *t = text_stream_create(encoding, span_of(charset), casemapped);
                struct str out = STR_INIT;

                for (size_t i = 0; i < in.len; i += piece)
                        text_stream_feed(t, (struct span){ in.p + i, in.len - i < piece ? in.len - i : piece }, &out);
                text_stream_finish(t, &out);
                cr_expect(span_eq_str(str_span(&out), want), "%s in pieces of %zu: got \"%s\", want \"%s\"", charset, piece, out.data, want);
                text_stream_destroy(&t);
                str_deinit(&out);
        }
}

Test(charset, bodies_decode_the_same_however_they_are_cut)
{
        decoded_in_pieces(TRANSFER_QUOTED_PRINTABLE, "utf-8", false, SPAN("caf=C3=A9 =\r\nsoft  \r\n=zz =\r\n"), "café soft\r\n=zz ");
        decoded_in_pieces(TRANSFER_QUOTED_PRINTABLE, "utf-8", true, SPAN("caf=c3=a9"), "CAFE\xcc\x81");
        decoded_in_pieces(TRANSFER_QUOTED_PRINTABLE, "iso-8859-1", false, SPAN("=E9=  \n=E8=4"), "éè=4");
        decoded_in_pieces(TRANSFER_BASE64, "utf-8", false, SPAN("Y2Fm\r\nw6kgZ3LDvG4=\r\n"), "café grün");
        decoded_in_pieces(TRANSFER_BASE64, "utf-8", false, SPAN("YQ==Yg==!Yw"), "abc");
        decoded_in_pieces(TRANSFER_8BIT, "shift_jis", false, SPAN("\x93\xfa\x96\x7b\x8c\xea"), "日本語");
        decoded_in_pieces(TRANSFER_7BIT, "iso-2022-jp", false, SPAN("\x1b$BF|K\\8l\x1b(B."), "日本語.");
        decoded_in_pieces(TRANSFER_7BIT, "utf-7", false, SPAN("+AOk-t+AOk-"), "été");
        decoded_in_pieces(TRANSFER_8BIT, "koi8-r", true, SPAN("\xd0\xd2\xc9\xd7\xc5\xd4"), "ПРИВЕТ");
        decoded_in_pieces(TRANSFER_8BIT, "", true, SPAN("a\xff\xe2\x82z\xf0\x9f\x98\x80"), "A\xef\xbf\xbd\xef\xbf\xbdZ😀");
        decoded_in_pieces(TRANSFER_8BIT, "utf-8", false, SPAN("cut\xe2\x82"), "cut\xef\xbf\xbd");
        decoded_in_pieces(TRANSFER_8BIT, "gb2312", false, SPAN("\xc4\xe3\xba\xc3\xff"), "你好\xef\xbf\xbd");
}

Test(charset, quoted_printable_says_when_it_was_damaged)
{
        static const struct { const char *in; bool damaged; } cases[] = {
                { "a=3Db=\r\n", false }, { "a=3", true }, { "=zz", true }, { "a = \r\nb", false }, { "a  ", false },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct transfer t;
                struct str out = STR_INIT;

                transfer_init(&t, TRANSFER_QUOTED_PRINTABLE);
                transfer_feed(&t, span_of(cases[i].in), &out);
                transfer_finish(&t, &out);
                cr_expect_eq(t.damaged, cases[i].damaged, "%s", cases[i].in);
                str_deinit(&out);
        }
}

Test(charset, base64_says_when_it_was_damaged)
{
        static const struct { const char *in; bool damaged; } cases[] = {
                { "YWJj", false }, { "YWI=", false }, { "YQ==\r\n", false }, { "YQ=", true }, { "YQ", true }, { "Y!Q==", true }, { "=", true },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct transfer t;
                struct str out = STR_INIT;

                transfer_init(&t, TRANSFER_BASE64);
                transfer_feed(&t, span_of(cases[i].in), &out);
                transfer_finish(&t, &out);
                cr_expect_eq(t.damaged, cases[i].damaged, "%s", cases[i].in);
                str_deinit(&out);
        }
}

Test(charset, many_blanks_before_a_line_end_do_not_need_memory)
{
        struct transfer t;
        struct str out = STR_INIT;

        transfer_init(&t, TRANSFER_QUOTED_PRINTABLE);
        for (int i = 0; i < 100000; i++)
                transfer_feed(&t, SPAN(" "), &out);
        transfer_feed(&t, SPAN("x"), &out);
        cr_expect_eq(out.len, 100001);
        str_deinit(&out);
}

Test(charset, names_are_known_by_their_aliases_and_no_others)
{
        static const char *const known[] = { "", "utf8", "UTF-8", " us-ascii ", "\"iso-8859-15\"", "ISO_8859-1:1987", "windows-1251", "x-sjis",
                                             "ks_c_5601-1987", "KOI8-R", "unicode-1-1-utf-7", "big5" };
        static const char *const unknown[] = { "no-such", "../../tmp/x", "utf-8//TRANSLIT", "IBM930", "iso-8859-", "iso-8859-99",
                                               "a-very-long-name-that-goes-on-and-on-and-on-and-on", "\xff" };

        for (size_t i = 0; i < ARRAY_LEN(known); i++)
                cr_expect(charset_known(span_of(known[i])), "%s", known[i]);
        for (size_t i = 0; i < ARRAY_LEN(unknown); i++)
                cr_expect_not(charset_known(span_of(unknown[i])), "%s", unknown[i]);
}

Test(charset, nfc_composes_and_refuses_what_is_not_utf8)
{
        struct str out = STR_INIT;
        struct err err = ERR_INIT;

        cr_expect_eq(charset_nfc(SPAN("e\xcc\x81t\xc3\xa9"), &out, &err), 0);
        eq(&out, "été");
        cr_expect_eq(charset_nfc(SPAN("\xc3("), &out, &err), -1);
        cr_expect_eq(err.code, ERR_SYNTAX);
        str_deinit(&out);
}

Test(charset, transfer_encodings_by_name)
{
        cr_expect_eq(transfer_by_name(SPAN(" Base64 ")), TRANSFER_BASE64);
        cr_expect_eq(transfer_by_name(SPAN("QUOTED-PRINTABLE")), TRANSFER_QUOTED_PRINTABLE);
        cr_expect_eq(transfer_by_name(SPAN("")), TRANSFER_7BIT);
        cr_expect_eq(transfer_by_name(SPAN("x-uuencode")), TRANSFER_UNKNOWN);
}
