#include <criterion/criterion.h>
#include <stdio.h>

#include "store/mime.h"
#include "util/array.h"

static const char nested[] =
        "From: \"Doe, Joe\" <joe@example.com>\r\n"                              /* 0 */
        "Subject: outer\r\n"
        "Date: Sun, 22 Nov 2026 03:35:22 +0100\r\n"
        "Content-Type: multipart/mixed; boundary=b1\r\n"
        "\r\n"
        "preamble\r\n"
        "--b1\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "\r\n"
        "one\r\n"
        "two\r\n"
        "--b1\r\n"
        "Content-Type: message/rfc822\r\n"
        "\r\n"
        "Subject: inner\r\n"
        "Content-Type: multipart/alternative; boundary=b2\r\n"
        "\r\n"
        "--b2\r\n"
        "\r\n"
        "plain\r\n"
        "--b2\r\n"
        "Content-Type: text/html\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        "\r\n"
        "PGI+\r\n"
        "--b2--\r\n"
        "\r\n"
        "--b1--\r\n"
        "epilogue\r\n";

static void text_is(const char *what, const struct str *got, const char *want)
{
        cr_expect(span_eq_str(str_span(got), want), "%s:\n got %s\nwant %s", what, got->data, want);
}

static void structure(const char *message, const char *body, const char *bodystructure)
{
        struct mime_result r;

        mime_parse(span_of(message), &r);
        cr_expect(mime_parts_valid(r.parts, r.parts_n, r.size));
        if (body)
                text_is("BODY", &r.body, body);
        if (bodystructure)
                text_is("BODYSTRUCTURE", &r.bodystructure, bodystructure);
        mime_result_deinit(&r);
}

static void envelope(const char *message, const char *want)
{
        struct mime_result r;

        mime_parse(span_of(message), &r);
        text_is(message, &r.envelope, want);
        mime_result_deinit(&r);
}

Test(mime, an_empty_message_is_an_empty_text)
{
        structure("", "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 0)",
                  "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 0 NIL NIL NIL NIL)");
        envelope("", "(NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL)");
}

Test(mime, a_nested_message_is_described_part_by_part)
{
        structure(nested,
                  "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"utf-8\") NIL NIL \"7BIT\" 8 1)"
                  "(\"MESSAGE\" \"RFC822\" NIL NIL NIL \"7BIT\" 165 (NIL \"inner\" NIL NIL NIL NIL NIL NIL NIL NIL) "
                  "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 5 0)"
                  "(\"TEXT\" \"HTML\" NIL NIL NIL \"BASE64\" 4 0) \"ALTERNATIVE\") 12) \"MIXED\")",
                  NULL);
}

Test(mime, extension_data_says_what_the_header_says)
{
        structure("Content-Type: text/plain; charset=utf-8; name*0=a; name*1=\"b c\"\r\n"
                  "Content-Disposition: attachment; filename=\"x \\\"y\\\".txt\"\r\n"
                  "Content-Language: de, en (English)\r\nContent-Location: http://x/\r\nContent-MD5: abc==\r\n"
                  "Content-ID: <1@x>\r\nContent-Description: a\r\n description\r\nContent-Transfer-Encoding: 8bit (c)\r\n\r\nx\r\n", NULL,
                  "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"utf-8\" \"NAME*0\" \"a\" \"NAME*1\" \"b c\") \"<1@x>\" \"a description\" \"8BIT\" 3 1 "
                  "\"abc==\" (\"ATTACHMENT\" (\"FILENAME\" \"x \\\"y\\\".txt\")) (\"de\" \"en\") \"http://x/\")");
}

Test(mime, types_that_are_no_types)
{
        static const struct { const char *type, *body; } cases[] = {
                { "text", "(\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 3 1)" },
                { "image", "(\"APPLICATION\" \"OCTET-STREAM\" NIL NIL NIL \"7BIT\" 3)" },
                { "", "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 3 1)" },
                { ";charset=x", "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 3 1)" },
                { "(c) text (c) / (c) html (c) ; (c) charset (c) = (c) \"x\" (c)", "(\"TEXT\" \"HTML\" (\"CHARSET\" \"x\") NIL NIL \"7BIT\" 3 1)" },
                { "text/plain; charset=utf-8 format=flowed; a; =b; c=", "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"utf-8\" \"C\" \"\") NIL NIL \"7BIT\" 3 1)" },
                { "multipart/mixed", "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 0) \"MIXED\")" },
                { "multipart/mixed; boundary=\"\"", "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 0) \"MIXED\")" },
                { "application/x; name=\"a\x80\"", "(\"APPLICATION\" \"X\" (\"NAME\" {2}\r\na\x80) NIL NIL \"7BIT\" 3)" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct str message = STR_INIT;

                str_printf(&message, "Content-Type: %s\r\n\r\nx\r\n", cases[i].type);
                structure(message.data, cases[i].body, NULL);
                str_deinit(&message);
        }
}

Test(mime, sections_of_rfc9051)                                                 /* RFC 9051 6.4.5.1 */
{
        static const struct { uint32_t path[3]; size_t n; enum mime_section what; const char *starts; size_t len; } cases[] = {
                { { 0 }, 0, MIME_SECTION_ALL, "From:", sizeof nested - 1 },
                { { 0 }, 0, MIME_SECTION_HEADER, "From:", 137 },
                { { 0 }, 0, MIME_SECTION_TEXT, "preamble", sizeof nested - 1 - 137 },
                { { 1 }, 1, MIME_SECTION_ALL, "one\r\ntwo", 8 },
                { { 1 }, 1, MIME_SECTION_MIME, "Content-Type: text/plain", 43 },
                { { 2 }, 1, MIME_SECTION_ALL, "Subject: inner", 165 },
                { { 2 }, 1, MIME_SECTION_HEADER, "Subject: inner", 68 },
                { { 2 }, 1, MIME_SECTION_TEXT, "--b2", 97 },
                { { 2 }, 1, MIME_SECTION_MIME, "Content-Type: message", 32 },
                { { 2, 1 }, 2, MIME_SECTION_ALL, "plain\r\n--b2", 5 },
                { { 2, 2 }, 2, MIME_SECTION_ALL, "PGI+", 4 },
                { { 2, 2 }, 2, MIME_SECTION_MIME, "Content-Type: text/html", 62 },
                { { 3 }, 1, MIME_SECTION_ALL, NULL, 0 },
                { { 0 }, 1, MIME_SECTION_ALL, NULL, 0 },
                { { 1, 1 }, 2, MIME_SECTION_ALL, NULL, 0 },
                { { 1 }, 1, MIME_SECTION_HEADER, NULL, 0 },
                { { 1 }, 1, MIME_SECTION_TEXT, NULL, 0 },
                { { 2, 2, 1 }, 3, MIME_SECTION_ALL, NULL, 0 },
                { { 0 }, 0, MIME_SECTION_MIME, NULL, 0 },
        };
        struct mime_result r;

        mime_parse(SPAN(nested), &r);
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                uint32_t offset, len;
                bool found = mime_section_find(r.parts, r.parts_n, cases[i].path, cases[i].n, cases[i].what, &offset, &len, NULL);

                cr_expect_eq(found, cases[i].starts != NULL, "case %zu", i);
                if (!found || !cases[i].starts)
                        continue;
                cr_expect_eq(len, cases[i].len, "case %zu: %u octets, not %zu", i, len, cases[i].len);
                cr_expect(strncmp(nested + offset, cases[i].starts, strlen(cases[i].starts)) == 0, "case %zu begins %.20s", i, nested + offset);
        }
        mime_result_deinit(&r);
}

Test(mime, a_message_without_parts_is_its_own_part_1)
{
        struct mime_result r;
        uint32_t path[2] = { 1, 1 }, offset, len;

        mime_parse(SPAN("Subject: x\r\n\r\nbody"), &r);
        cr_expect(mime_section_find(r.parts, r.parts_n, path, 1, MIME_SECTION_ALL, &offset, &len, NULL));
        cr_expect_eq(offset, 14);
        cr_expect_eq(len, 4);
        cr_expect_not(mime_section_find(r.parts, r.parts_n, path, 2, MIME_SECTION_ALL, &offset, &len, NULL));
        mime_result_deinit(&r);
}

Test(mime, a_message_that_is_a_message_has_the_inner_one_below_part_1)
{
        struct mime_result r;
        uint32_t path[2] = { 1, 1 }, offset, len;

        mime_parse(SPAN("Content-Type: message/rfc822\r\n\r\nSubject: x\r\n\r\nbody"), &r);
        cr_expect(mime_section_find(r.parts, r.parts_n, path, 1, MIME_SECTION_HEADER, &offset, &len, NULL));
        cr_expect_eq(offset, 32);
        cr_expect_eq(len, 14);
        cr_expect(mime_section_find(r.parts, r.parts_n, path, 2, MIME_SECTION_ALL, &offset, &len, NULL));
        cr_expect_eq(offset, 46);
        cr_expect_eq(len, 4);
        mime_result_deinit(&r);
}

Test(mime, envelopes)                                                           /* RFC 9051 7.5.2 */
{
#define FROM3 "((NIL NIL \"a\" \"x\")) ((NIL NIL \"a\" \"x\")) ((NIL NIL \"a\" \"x\"))"
        envelope("From: a@x\r\n\r\n", "(NIL NIL " FROM3 " NIL NIL NIL NIL NIL)");
        envelope("From: a@x\r\nSender:\r\nReply-To: b@y\r\n\r\n",
                 "(NIL NIL ((NIL NIL \"a\" \"x\")) ((NIL NIL \"a\" \"x\")) ((NIL NIL \"b\" \"y\")) NIL NIL NIL NIL NIL)");
        envelope("Subject: a\r\n b\r\n\tc\r\nDate:\r\nMessage-ID: <1@x>\r\nIn-Reply-To: <0@x>\r\n\r\n",
                 "(\"\" \"a b\tc\" NIL NIL NIL NIL NIL NIL \"<0@x>\" \"<1@x>\")");
        envelope("Subject: \xc3\xa9\r\n\r\n", "(NIL {2}\r\n\xc3\xa9 NIL NIL NIL NIL NIL NIL NIL NIL)");
        envelope("Subject: say \"\\\"\r\n\r\n", "(NIL \"say \\\"\\\\\\\"\" NIL NIL NIL NIL NIL NIL NIL NIL)");
        envelope("Subject: first\r\nSubject: second\r\n\r\n", "(NIL \"first\" NIL NIL NIL NIL NIL NIL NIL NIL)");
        envelope("To: a@x\r\nTo: b@y\r\n\r\n", "(NIL NIL NIL NIL NIL ((NIL NIL \"a\" \"x\")(NIL NIL \"b\" \"y\")) NIL NIL NIL NIL)");
        envelope("To: g: a@x;\r\n\r\n", "(NIL NIL NIL NIL NIL ((NIL NIL \"g\" NIL)(NIL NIL \"a\" \"x\")(NIL NIL NIL NIL)) NIL NIL NIL NIL)");
        envelope("Subject : obsolete\r\n\r\n", "(NIL \"obsolete\" NIL NIL NIL NIL NIL NIL NIL NIL)");
}

Test(mime, nul_in_a_header_never_reaches_a_client)
{
        struct mime_result r;

        mime_parse(SPAN("Subject: a\0b\r\n\r\nx\0\r\n"), &r);
        text_is("envelope", &r.envelope, "(NIL \"a?b\" NIL NIL NIL NIL NIL NIL NIL NIL)");
        cr_expect(r.has_nul);
        cr_expect(r.parts[0].flags & MIME_PART_NUL);
        mime_result_deinit(&r);
}

Test(mime, addresses)                                                           /* RFC 5322 3.4, 4.4 */
{
        static const struct { const char *list, *want; } cases[] = {
                { "joe@x.org", "-|joe|x.org" },
                { "Joe Doe <joe@x.org>, b@y", "Joe Doe|joe|x.org -|b|y" },
                { "\"Doe, Joe\" <joe@x.org>", "Doe, Joe|joe|x.org" },
                { "\"a \\\"b\\\"\" <c@d>", "a \"b\"|c|d" },
                { "joe@x.org (Joe (the) Doe)", "Joe (the) Doe|joe|x.org" },
                { "(Joe) joe@x.org", "Joe|joe|x.org" },
                { "a@x (A), b@y", "A|a|x -|b|y" },
                { "<@a,@b:joe@x>", "-|@a,@b|joe|x" },
                { "J. R. Doe <j@x>", "J. R. Doe|j|x" },
                { "\"j doe\"@x", "-|j doe|x" },
                { "j . doe @ x . org", "-|j.doe|x.org" },
                { "a@[192.0.2.1], <b@[IPv6:::1]>", "-|a|[192.0.2.1] -|b|[IPv6:::1]" },
                { "undisclosed recipients:;", "{undisclosed recipients }" },
                { "g:a@x,B <b@y>;, c@z", "{g -|a|x B|b|y } -|c|z" },
                { "g: a@x", "{g -|a|x }" },
                { "joe", "-|joe|" },
                { "joe@x.org <joe@x.org>", "joe@x.org|joe|x.org" },
                { "<a@b", "-|a|b" },
                { "<a@b, c@d", "-|a|b -|c|d" },
                { ",,;a@b,,", "-|a|b" },
                { "", "" }, { " \r\n ", "" }, { "<>", "" }, { "(", "" }, { "\"", "" }, { ":", "" },
                { "=?utf-8?q?J=C3=B6?= <j@x>", "=?utf-8?q?J=C3=B6?=|j|x" },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct span list = span_of(cases[i].list);
                struct mime_address a;
                struct str got = STR_INIT;
                bool in_group = false;
                size_t pos = 0;

                mime_address_init(&a);
                while (mime_address_next(list, &pos, &in_group, &a)) {
                        if (got.len)
                                str_append_c(&got, ' ');
                        if (a.kind == MIME_GROUP_START)
                                str_printf(&got, "{%s", a.name.data);
                        else if (a.kind == MIME_GROUP_END)
                                str_append_c(&got, '}');
                        else
                                str_printf(&got, "%s|%s%s%s|%s", a.has_name ? a.name.data : "-", a.route.data, a.has_route ? "|" : "",
                                           a.mailbox.data, a.host.data);
                }
                cr_expect(span_eq_str(str_span(&got), cases[i].want), "%s: got \"%s\", want \"%s\"", cases[i].list, got.data, cases[i].want);
                mime_address_deinit(&a);
                str_deinit(&got);
        }
}

Test(mime, dates)                                                               /* RFC 5322 3.3, 4.3 */
{
        static const struct { const char *text; int64_t unix_s; int32_t zone_s; } cases[] = {
                { "Sun, 22 Nov 2026 03:35:22 +0000", 1795318522, 0 },
                { "22 Nov 2026 03:35:22 +0100", 1795314922, 3600 },
                { "Sun, 22 Nov 2026 03:35:22 -0800 (PST)", 1795347322, -28800 },
                { "Sun,22 Nov 2026 03:35 +0000", 1795318500, 0 },
                { "Thu, 1 Jan 70 00:00:00 GMT", 0, 0 },
                { "1 Jan 49 0:0:0 UT", 2493072000, 0 },
                { "1 Jan 101 00:00:00 Z", 978307200, 0 },
                { "Sun Nov 22 03:35:22 2026", 1795318522, 0 },
                { "Sun Nov 22 03:35:22 PST 2026", 1795347322, -28800 },
                { "22-Nov-2026 03:35:22 EST", 1795336522, -18000 },
                { "2026-11-22T03:35:22Z", 1795318522, 0 },
                { "2026-11-22 03:35:22.5+01:00", 1795314922, 3600 },
                { "Nov 22, 2026 03:35:22", 1795318522, 0 },
                { " (c) Sun (c) , 22 (c) November (c) 2026 (c) 03 : 35 : 22 (c) +0000", 1795318522, 0 },
                { "22 Nov 2026 23:59:60 +0000", 1795392000, 0 },
                { "29 Feb 2024 00:00:00 +0000", 1709164800, 0 },
                { "31 Dec 1969 23:59:59 +0000", -1, 0 },
                { "22 Nov 2026", 1795305600, 0 },
                { "22 Nov 2026 03:35:22 A", 1795318522, 0 },
                { "22 Nov 2026 03:35:22 GMT+0200", 1795311322, 7200 },
        };
        static const char *const bad[] = { "", "yesterday", "30 Feb 2026 00:00:00 +0000", "29 Feb 2023 00:00 +0000", "1 Foo 2026 00:00", "0 Jan 2026 00:00",
                                           "1 Jan 2026 24:00", "1 Jan 2026 00:60", "123 Jan 2026 00:00", "1 Jan", "1 Jan 20261 00:00", "Sun, ",
                                           "2026-13-01", "99999999999999999999" };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct mime_date date = { 0 };

                cr_expect(mime_date_parse(span_of(cases[i].text), &date), "%s", cases[i].text);
                cr_expect_eq(date.unix_s, cases[i].unix_s, "%s: %lld", cases[i].text, (long long)date.unix_s);
                cr_expect_eq(date.zone_s, cases[i].zone_s, "%s: zone %d", cases[i].text, date.zone_s);
        }
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct mime_date date;

                cr_expect_not(mime_date_parse(span_of(bad[i]), &date), "%s", bad[i]);
        }
}

Test(mime, header_subsets_keep_folds_and_end_with_an_empty_line)               /* RFC 9051 6.4.5.1 */
{
        struct span header = SPAN("A: 1\r\nb : 2\r\n folded\r\njunk\r\nC:3\r\na: 4\r\n\r\nA: body\r\n");
        struct span names[2] = { SPAN("a"), SPAN("B") };
        struct str out = STR_INIT;

        mime_header_fields(header, names, 2, false, &out);
        text_is("FIELDS", &out, "A: 1\r\nb : 2\r\n folded\r\na: 4\r\n\r\n");
        str_clear(&out);
        mime_header_fields(header, names, 2, true, &out);
        text_is("FIELDS.NOT", &out, "C:3\r\n\r\n");
        str_clear(&out);
        mime_header_fields(SPAN("A: no end"), names, 2, false, &out);
        text_is("cut", &out, "A: no end\r\n\r\n");
        str_deinit(&out);
}

Test(mime, header_subsets_are_the_same_however_the_header_is_cut)
{
        static const struct span headers[] = {
                { "A: 1\r\nb \t: 2\r\n folded\r\n\tmore\r\njunk\r\n of junk\r\nC:3\r\na: 4\r\n\r\nA: body\r\n", 65 },
                SPAN(" A: begins with a blank\r\n\tB: still\r\nA:\r\nB:x\n\nA: body"), SPAN("\r\nA: body"), SPAN("A: no end"), SPAN("A\r"),
                SPAN("\rA: 1\r\n\r\r\nA: 2\r\n:empty\r\n: A\r\nA B: no\r\nA\x80: no\r\nB: 3\r\n \r\n\r\n"), SPAN(""),
        };
        struct span names[2] = { SPAN("a"), SPAN("B") };

        for (size_t h = 0; h < sizeof headers / sizeof headers[0]; h++)
                for (int not = 0; not < 2; not++) {
                        struct str whole = STR_INIT, fields = STR_INIT;
                        struct mime_field f;
                        size_t pos = 0;

                        mime_header_fields(headers[h], names, 2, not, &whole);
                        while (mime_field_next(headers[h], &pos, &f))
                                if ((span_ieq(f.name, names[0]) || span_ieq(f.name, names[1])) != not)
                                        str_append_span(&fields, f.whole);
                        if (fields.len && fields.data[fields.len - 1] != '\n')
                                str_append_str(&fields, "\r\n");
                        str_append_str(&fields, "\r\n");
                        text_is("as by fields", &whole, fields.data);
                        for (size_t cut = 0; cut <= headers[h].len; cut++) {
                                struct mime_pick *p = mime_pick_create(names, 2, not);
                                struct str out = STR_INIT;

                                for (int round = 0; round < 2; round++) {
                                        str_clear(&out);
                                        mime_pick_restart(p);
                                        mime_pick_feed(p, (struct span){ headers[h].p, cut }, false, &out);
                                        mime_pick_feed(p, (struct span){ headers[h].p + cut, headers[h].len - cut }, true, &out);
                                        text_is("cut", &out, whole.data);
                                }
                                mime_pick_destroy(&p);
                                str_deinit(&out);
                        }
                        str_deinit(&whole);
                        str_deinit(&fields);
                }
}

Test(mime, header_subsets_by_many_names)
{
        struct str header = STR_INIT, out = STR_INIT, want = STR_INIT, rest = STR_INIT;
        char texts[100][12];
        struct span names[100];

        for (int i = 0; i < 300; i++) {
                str_printf(&header, "Name-%d: %d\r\n", i, i);
                str_printf(i % 3 ? &rest : &want, "Name-%d: %d\r\n", i, i);
        }
        str_append_str(&want, "\r\n");
        str_append_str(&rest, "\r\n");
        for (int i = 0; i < 100; i++) {
                snprintf(texts[i], sizeof texts[i], "nAmE-%d", 3 * i);
                names[i] = span_of(texts[i]);
        }
        mime_header_fields(str_span(&header), names, 100, false, &out);
        text_is("FIELDS", &out, want.data);
        str_clear(&out);
        mime_header_fields(str_span(&header), names, 100, true, &out);
        text_is("FIELDS.NOT", &out, rest.data);
        str_deinit(&header);
        str_deinit(&out);
        str_deinit(&want);
        str_deinit(&rest);
}

Test(mime, unfolding_drops_line_ends_before_blanks)
{
        struct str out = STR_INIT;

        mime_unfold(SPAN("  a\r\n b\n\tc\r\rd \r\n"), &out);
        text_is("unfolded", &out, "a b\tc d");
        str_deinit(&out);
}

/* ---- boundaries ---- */

static void parts(const char *message, const char *want)
{
        struct mime_result r;
        struct str got = STR_INIT;

        mime_parse(span_of(message), &r);
        for (size_t i = 1; i < r.parts_n; i++) {
                str_printf(&got, "%s[", i > 1 ? " " : "");
                str_append(&got, message + r.parts[i].body_off, r.parts[i].body_len);
                str_append_c(&got, ']');
        }
        text_is(message, &got, want);
        str_deinit(&got);
        mime_result_deinit(&r);
}

#define MIXED "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
Test(mime, boundaries_end_parts)                                                /* RFC 2046 5.1.1 */
{
        parts(MIXED "--b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n", "[one] [two]");
        parts(MIXED "--b\n\none\n--b \t\n\ntwo\n--b--", "[one] [two]");
        parts(MIXED "--b\r\n\r\none", "[one]");                                 /* no closing one */
        parts(MIXED "--b\r\n\r\none\r\n", "[one\r\n]");
        parts(MIXED "--b\r\n\r\n\r\n--b--", "[]");
        parts(MIXED "--b\r\n\r\n--b--", "[]");
        parts(MIXED "--b\r\n--b\r\n--b--", "[] []");
        parts(MIXED "--b--\r\n--b\r\n\r\nx", "");                               /* closed is closed */
        parts(MIXED "-b\r\n--\r\n---b\r\n", "");
        parts(MIXED "--b\r\nA: 1\r\n--b\r\n\r\ntwo", "[] [two]");               /* a header without its empty line */
        parts("Content-Type: multipart/x; boundary=\"b c \"\r\n\r\n--b c\r\n\r\none\r\n--b c--", "[one]");
}

Test(mime, an_outer_boundary_ends_what_is_open_inside)                         /* RFC 2046 5.1.2 */
{
        parts(MIXED "--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\nin\r\n--b\r\n\r\nout\r\n--b--\r\n",
              "[--bb\r\n\r\nin] [in] [out]");
        parts(MIXED "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: x\r\n--b--", "[Subject: x] []");
        parts(MIXED "--b\r\nContent-Type: message/rfc822\r\n--b--", "[] []");
}

Test(mime, digests_hold_messages_by_default)                                   /* RFC 2046 5.1.5 */
{
        structure("Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\ny\r\n--b--",
                  "((\"MESSAGE\" \"RFC822\" NIL NIL NIL \"7BIT\" 15 (NIL \"x\" NIL NIL NIL NIL NIL NIL NIL NIL) "
                  "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 1 0) 2) \"DIGEST\")", NULL);
}

/* ---- bounds ---- */

Test(mime, nesting_ends_at_its_bound)
{
        struct str message = STR_INIT;
        struct mime_result r;
        size_t deepest = 0;

        for (int i = 0; i < 1000; i++)
                str_printf(&message, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i);
        mime_parse(str_span(&message), &r);
        for (size_t i = 0; i < r.parts_n; i++) {
                size_t depth = 0;

                for (size_t at = i; r.parts[at].parent != MIME_PART_NO_PARENT; at = r.parts[at].parent)
                        depth++;
                deepest = depth > deepest ? depth : deepest;
        }
        cr_expect_eq(deepest, MIME_DEPTH_MAX);
        cr_expect_eq(r.parts[r.parts_n - 1].kind, MIME_LEAF);
        mime_result_deinit(&r);
        str_clear(&message);
        for (int i = 0; i < 1000; i++)
                str_append_str(&message, "Content-Type: message/rfc822\r\n\r\n");
        mime_parse(str_span(&message), &r);
        cr_expect_eq(r.parts_n, MIME_DEPTH_MAX + 1);
        mime_result_deinit(&r);
        str_deinit(&message);
}

Test(mime, parts_end_at_their_bound)
{
        struct str message = STR_INIT;
        struct mime_result r;

        str_append_str(&message, MIXED);
        for (int i = 0; i < MIME_PARTS_MAX + 500; i++)
                str_append_str(&message, "--b\r\n\r\nx\r\n");
        mime_parse(str_span(&message), &r);
        cr_expect_eq(r.parts_n, MIME_PARTS_MAX);
        cr_expect(mime_parts_valid(r.parts, r.parts_n, r.size));
        mime_result_deinit(&r);
        str_deinit(&message);
}

Test(mime, addresses_end_at_their_bound)
{
        struct str message = STR_INIT;
        struct mime_result r;

        str_append_str(&message, "To: ");
        for (int i = 0; i < 200000; i++)
                str_append_str(&message, "a,");
        str_append_str(&message, "\r\nCc: g: x@y\r\n\r\n");
        mime_parse(str_span(&message), &r);
        cr_expect_lt(r.envelope.len, 40 * MIME_ADDRESSES_MAX);
        cr_expect_gt(r.envelope.len, 20 * MIME_ADDRESSES_MAX);
        mime_result_deinit(&r);
        str_deinit(&message);
}

Test(mime, a_long_header_line_is_cut_and_not_kept)
{
        struct mime_parser *p = mime_parser_create();
        struct mime_result r;
        char block[65536];

        memset(block, 'x', sizeof block);
        mime_parser_feed(p, "Subject: ", 9);
        for (int i = 0; i < 64; i++)
                mime_parser_feed(p, block, sizeof block);
        mime_parser_feed(p, "\r\nTo: a@b\r\n\r\nbody", 17);
        mime_parser_finish(p, &r);
        mime_parser_destroy(&p);
        cr_expect_lt(r.envelope.len, MIME_LINE_MAX + 1000);
        cr_expect(strstr(r.envelope.data, "((NIL NIL \"a\" \"b\"))") != NULL);
        cr_expect_eq(r.header_size, 9 + 64 * sizeof block + 13);
        cr_expect_eq(r.parts[0].body_len, 4);
        mime_result_deinit(&r);
}

Test(mime, cuts_do_not_matter)
{
        struct mime_result whole;

        mime_parse(SPAN(nested), &whole);
        for (size_t piece = 1; piece < 40; piece++) {
                struct mime_parser *p = mime_parser_create();
                struct mime_result r;

                for (size_t at = 0; at < sizeof nested - 1; at += piece)
                        mime_parser_feed(p, nested + at, sizeof nested - 1 - at < piece ? sizeof nested - 1 - at : piece);
                mime_parser_finish(p, &r);
                mime_parser_destroy(&p);
                cr_expect(span_eq(str_span(&r.bodystructure), str_span(&whole.bodystructure)), "in pieces of %zu", piece);
                cr_expect(span_eq(str_span(&r.envelope), str_span(&whole.envelope)), "in pieces of %zu", piece);
                cr_assert_eq(r.parts_n, whole.parts_n);
                cr_expect(memcmp(r.parts, whole.parts, r.parts_n * sizeof *r.parts) == 0, "in pieces of %zu", piece);
                mime_result_deinit(&r);
        }
        cr_expect(whole.has_sentdate);
        cr_expect_eq(whole.sentdate, 1795314922);
        cr_expect_eq(whole.size, sizeof nested - 1);
        cr_expect_eq(whole.lines, 29);
        cr_expect_not(whole.has_8bit || whole.has_nul || whole.has_bare_cr || whole.has_bare_lf);
        mime_result_deinit(&whole);
}

Test(mime, odd_octets_are_noticed)
{
        static const struct { struct span message; bool high, nul, cr, lf; } cases[] = {
                { { "a\r\n", 3 }, false, false, false, false }, { { "a\n", 2 }, false, false, false, true },
                { { "a\rb\r\n", 5 }, false, false, true, false }, { { "a\r", 2 }, false, false, true, false },
                { { "a\xff\0", 3 }, true, true, false, false }, { { "\r\r\n", 3 }, false, false, true, false },
        };

        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                struct mime_result r;

                mime_parse(cases[i].message, &r);
                cr_expect_eq(r.has_8bit, cases[i].high, "case %zu", i);
                cr_expect_eq(r.has_nul, cases[i].nul, "case %zu", i);
                cr_expect_eq(r.has_bare_cr, cases[i].cr, "case %zu", i);
                cr_expect_eq(r.has_bare_lf, cases[i].lf, "case %zu", i);
                mime_result_deinit(&r);
        }
}

Test(mime, part_tables_from_the_disk_are_checked)
{
        struct mime_part good[2] = {
                { .header_len = 10, .body_off = 10, .body_len = 20, .parent = MIME_PART_NO_PARENT, .kind = MIME_MULTIPART },
                { .header_off = 12, .header_len = 2, .body_off = 14, .body_len = 3, .parent = 0, .number = 1, .kind = MIME_TEXT },
        }, bad[2];

        cr_expect(mime_parts_valid(good, 2, 30));
        cr_expect_not(mime_parts_valid(good, 0, 30));
        cr_expect_not(mime_parts_valid(good, 2, 29));
#define SPOILED(change) (memcpy(bad, good, sizeof bad), (change), mime_parts_valid(bad, 2, 30))
        cr_expect_not(SPOILED(bad[1].parent = 1));
        cr_expect_not(SPOILED(bad[1].kind = 0));
        cr_expect_not(SPOILED(bad[1].kind = 9));
        cr_expect_not(SPOILED(bad[1].body_len = 17));
        cr_expect_not(SPOILED(bad[1].body_off = 15));
        cr_expect_not(SPOILED(bad[1].number = 0));
        cr_expect_not(SPOILED(bad[0].kind = MIME_TEXT));
        cr_expect_not(SPOILED(bad[0].parent = 0));
        cr_expect_not(SPOILED(bad[1].header_off = 0xfffffff0));
}

/* RFC 8474 leaves it to the server; ours is the first message of the thread, as this message names it. */
Test(mime, a_thread_is_named_by_its_first_message)
{
        static const struct { const char *message; bool same; } t[] = {
                { "Message-ID: <one@x>\r\n\r\n", true },
                { "References: <one@x> <two@x>\r\nIn-Reply-To: <two@x>\r\nMessage-ID: <three@x>\r\n\r\n", true },
                { "References:\r\n <one@x>\r\n <two@x>\r\n\r\n", true },
                { "References: \r\nIn-Reply-To: your message <one@x> of today\r\n\r\n", true },
                { "references: < one@x >\r\n\r\n", true },
                { "Message-ID: one@x\r\n\r\n", true },
                { "References: nonsense\r\nMessage-ID: <one@x>\r\n\r\n", true },
                { "Message-ID: <two@x>\r\n\r\n", false },
                { "Message-ID: <ONE@x>\r\n\r\n", false },
                { "References: <one@x\r\nMessage-ID: <two@x>\r\n\r\n", true },
                { "Content-Type: message/rfc822\r\nMessage-ID: <two@x>\r\n\r\nMessage-ID: <one@x>\r\n\r\n", false },
        };
        uint64_t thread = 0;

        for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
                struct mime_result r;

                mime_parse(span_of(t[i].message), &r);
                cr_expect_neq(r.thread, 0);
                if (i == 0)
                        thread = r.thread;
                cr_expect_eq(r.thread == thread, t[i].same, "%s", t[i].message);
                mime_result_deinit(&r);
        }
        for (int i = 0; i < 2; i++) {
                struct mime_result r;

                mime_parse(span_of(i ? "Message-ID: <>\r\nReferences: <  >\r\n\r\n" : "Subject: x\r\n\r\n"), &r);
                cr_expect_eq(r.thread, 0);
                mime_result_deinit(&r);
        }
}

/* ---- a part's structure within its message's ---- */

static struct span piece(struct span s, size_t begin, size_t end)
{
        return (struct span){ s.p + begin, end - begin };
}

Test(mime, a_parts_structure_is_found)                                          /* RFC 5524 3.2 */
{
        static const char *const want[] = {
                NULL,
                "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"utf-8\") NIL NIL \"7BIT\" 8 1 NIL NIL NIL NIL)",
                NULL,
                "((\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 5 0 NIL NIL NIL NIL)"
                "(\"TEXT\" \"HTML\" NIL NIL NIL \"BASE64\" 4 0 NIL NIL NIL NIL) \"ALTERNATIVE\" (\"BOUNDARY\" \"b2\") NIL NIL NIL)",
                "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 5 0 NIL NIL NIL NIL)",
                "(\"TEXT\" \"HTML\" NIL NIL NIL \"BASE64\" 4 0 NIL NIL NIL NIL)",
        };
        struct mime_structure at;
        struct mime_result r;
        struct span all;

        mime_parse(SPAN(nested), &r);
        all = str_span(&r.bodystructure);
        cr_assert(r.parts_n == ARRAY_LEN(want));
        for (size_t i = 0; i < r.parts_n; i++) {
                cr_assert(mime_structure_find(all, r.parts, r.parts_n, i, &at));
                cr_expect(!want[i] || span_eq_str(piece(all, at.begin, at.end), want[i]), "%zu: %.*s", i, (int)(at.end - at.begin),
                          all.p + at.begin);
        }
        cr_expect(mime_structure_find(all, r.parts, r.parts_n, 0, &at) && at.begin == 0 && at.end == all.len && at.rest == 0);
        cr_expect(mime_structure_find(all, r.parts, r.parts_n, 5, &at));
        cr_expect(span_eq_str(piece(all, at.encoding, at.rest), "\"BASE64\" 4 0") && span_eq_str(piece(all, at.size, at.lines), "4 "));
        cr_expect(!mime_structure_find(all, r.parts, r.parts_n, 6, &at));
        mime_result_deinit(&r);
}

Test(mime, a_structure_that_is_not_of_these_parts_is_refused)
{
        struct mime_structure at;
        struct mime_result r;
        struct span all;
        char *copy;

        mime_parse(SPAN(nested), &r);
        all = str_span(&r.bodystructure);
        for (size_t len = 0; len < all.len; len++) {                            /* copies, so that reading beyond them is found */
                copy = xmalloc(len + !len);
                memcpy(copy, all.p, len);
                for (size_t i = 0; i < r.parts_n; i++)
                        if (mime_structure_find((struct span){ copy, len }, r.parts, r.parts_n, i, &at))
                                cr_expect(at.begin < at.end && at.end <= len && at.encoding <= at.rest && at.rest <= at.end);
                cr_expect(!mime_structure_find((struct span){ copy, len }, r.parts, r.parts_n, 0, &at));
                free(copy);
        }
        cr_expect(!mime_structure_find(SPAN("(\"TEXT\""), r.parts, r.parts_n, 1, &at));
        cr_expect(!mime_structure_find(SPAN("({99999999999999999999}\r\nx)"), r.parts, r.parts_n, 0, &at));
        cr_expect(!mime_structure_find(SPAN("(\"x\\"), r.parts, r.parts_n, 0, &at));
        mime_result_deinit(&r);
}
