/* server/imap/parse, server/imap/gather */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/imap/parse.h"
#include "store/mailbox.h"
#include "util/array.h"

static struct arena arena = ARENA_INIT;

static struct imap_parser parser(const char *text)
{
        struct imap_parser ip;

        imap_parser_init(&ip, span_of(text), &arena, false);
        return ip;
}

Test(imap_parse, astring_is_an_atom_or_a_quoted_string_or_a_literal)
{
        static const struct { const char *text, *value; size_t rest; } good[] = {
                { "INBOX x", "INBOX", 2 }, { "a]b", "a]b", 0 }, { "\"\"", "", 0 }, { "\"a \\\"b\\\\\" x", "a \"b\\", 2 },
                { "{3}\r\na\nb)", "a\nb", 1 }, { "{0}\r\n", "", 0 }, { "{2+}\r\n\"(", "\"(", 0 }, { "&AOQ-", "&AOQ-", 0 },
        };
        static const char *const bad[] = {
                "", " a", "(a", "*", "%", "\"open", "\"a\\x\"", "\"a\\", "{3}\r\nab", "{3}abc", "{}\r\n", "{-1}\r\n", "{99999999999}\r\n",
                "{1", "\\Seen", "\x80", "\"\xc3\xa4\"", "\"a\rb\"", "{#0}",
        };

        for (size_t i = 0; i < ARRAY_LEN(good); i++) {
                struct imap_parser ip = parser(good[i].text);
                struct span s;

                cr_assert_eq(imap_astring(&ip, &s), 0, "%s: %s", good[i].text, ip.err.text);
                cr_expect(span_eq_str(s, good[i].value), "%s gave %.*s", good[i].text, (int)s.len, s.p);
                cr_expect_eq((size_t)(ip.end - ip.p), good[i].rest, "%s", good[i].text);
        }
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct imap_parser ip = parser(bad[i]);
                struct span s;

                cr_expect_eq(imap_astring(&ip, &s), -1, "%s", bad[i]);
                cr_expect_eq(ip.err.code, ERR_SYNTAX);
        }
}

Test(imap_parse, quoted_utf8_only_where_it_was_agreed_on)
{
        struct imap_parser ip = parser("\"\xc3\xa4\"");
        struct span s;

        ip.utf8 = true;
        cr_expect_eq(imap_astring(&ip, &s), 0);
        ip = parser("\"\xc3\"");
        ip.utf8 = true;
        cr_expect_eq(imap_astring(&ip, &s), -1);
}

Test(imap_parse, long_words_are_over_the_limit)
{
        struct imap_parser ip = parser("abcdef \"abcdef\"");
        struct span s;

        ip.word_max = 5;
        cr_expect_eq(imap_atom(&ip, &s), -1);
        cr_expect_eq(ip.err.code, ERR_LIMIT);
        ip = parser("\"ab\\\\\\\\\"");
        ip.quoted_max = 4;
        cr_expect_eq(imap_string(&ip, &s), 0);
        ip.quoted_max = 3;
        ip.p -= 8;
        cr_expect_eq(imap_string(&ip, &s), -1);
        cr_expect_eq(ip.err.code, ERR_LIMIT);
}

Test(imap_parse, numbers_have_bounds)
{
        static const struct { const char *text; bool ok32, ok64; } table[] = {
                { "0", true, true }, { "4294967295", true, true }, { "4294967296", false, true }, { "9223372036854775807", false, true },
                { "9223372036854775808", false, false }, { "99999999999999999999999", false, false }, { "-1", false, false },
                { "+1", false, false }, { "", false, false }, { "x", false, false }, { "007", true, true },
        };

        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                struct imap_parser a = parser(table[i].text), b = parser(table[i].text);
                uint32_t n;
                uint64_t m;

                cr_expect_eq(imap_number(&a, &n) == 0, table[i].ok32, "%s", table[i].text);
                cr_expect_eq(imap_number64(&b, &m) == 0, table[i].ok64, "%s", table[i].text);
        }
}

Test(imap_parse, dates_that_exist_and_dates_that_do_not)
{
        static const struct { const char *text; int64_t days; } good[] = {
                { "1-Jan-1970", 0 }, { "\"29-Feb-2024\"", 19782 }, { "01-feb-1970", 31 }, { "31-DEC-1969", -1 },
        };
        static const char *const bad[] = {
                "29-Feb-2023", "0-Jan-2000", "32-Jan-2000", "31-Apr-2000", "1-Foo-2000", "1-Jan-20", "1-Jan-20000x", "1Jan2000", "",
                "\"1-Jan-2000", "111-Jan-2000", "29-Feb-1900",
        };

        for (size_t i = 0; i < ARRAY_LEN(good); i++) {
                struct imap_parser ip = parser(good[i].text);
                int64_t days;

                cr_assert_eq(imap_date(&ip, &days), 0, "%s: %s", good[i].text, ip.err.text);
                cr_expect_eq(days, good[i].days, "%s", good[i].text);
        }
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct imap_parser ip = parser(bad[i]);
                int64_t days;

                cr_expect(imap_date(&ip, &days) < 0 || imap_end(&ip) < 0, "%s", bad[i]);
        }
}

Test(imap_parse, date_times)
{
        static const struct { const char *text; int64_t unix_s; } good[] = {
                { "\" 1-Jan-1970 00:00:00 +0000\"", 0 }, { "\"01-Jan-1970 01:00:00 +0100\"", 0 }, { "\" 1-Jan-1970 00:00:01 -0130\"", 5401 },
                { "\"31-Dec-2016 23:59:60 +0000\"", 1483228800 },
        };
        static const char *const bad[] = {
                "\" 1-Jan-1970 24:00:00 +0000\"", "\" 1-Jan-1970 00:60:00 +0000\"", "\" 1-Jan-1970 00:00:61 +0000\"",
                "\" 1-Jan-1970 00:00:00 +0060\"", "\" 1-Jan-1970 00:00:00 0000\"", "\" 1-Jan-1970 00:00:00\"", " 1-Jan-1970 00:00:00 +0000",
                "\"31-Feb-1970 00:00:00 +0000\"", "\" 1-Jan-1970 0:00:00 +0000\"",
        };

        for (size_t i = 0; i < ARRAY_LEN(good); i++) {
                struct imap_parser ip = parser(good[i].text);
                int64_t s;

                cr_assert_eq(imap_date_time(&ip, &s), 0, "%s: %s", good[i].text, ip.err.text);
                cr_expect_eq(s, good[i].unix_s, "%s", good[i].text);
        }
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct imap_parser ip = parser(bad[i]);
                int64_t s;

                cr_expect_eq(imap_date_time(&ip, &s), -1, "%s", bad[i]);
        }
}

Test(imap_parse, flag_lists)
{
        struct imap_parser ip = parser("(\\Seen $Junk \\DELETED kw)");
        struct span *keywords;
        uint32_t flags, n;

        cr_assert_eq(imap_flag_list(&ip, false, &flags, &keywords, &n), 0);
        cr_expect_eq(flags, MSG_SEEN | MSG_DELETED);
        cr_assert_eq(n, 2);
        cr_expect(span_eq_str(keywords[1], "kw"));
        ip = parser("()");
        cr_expect_eq(imap_flag_list(&ip, true, &flags, &keywords, &n), 0);
        cr_expect(flags == 0 && n == 0);
        ip = parser("a b");
        cr_expect_eq(imap_flag_list(&ip, true, &flags, &keywords, &n), 0);
        cr_expect_eq(n, 2);
        for (const char *const *p = (const char *const[]){ "a", "(\\Recent)", "(\\Foo)", "(a", "(a  b)", "(a )", "(\\)", NULL }; *p; p++) {
                ip = parser(*p);
                cr_expect_eq(imap_flag_list(&ip, false, &flags, &keywords, &n), -1, "%s", *p);
        }
}

Test(imap_parse, parentheses_nest_to_a_bound)
{
        char text[200];
        struct imap_parser ip;
        int depth = 0;

        memset(text, '(', sizeof text);
        imap_parser_init(&ip, (struct span){ text, sizeof text }, &arena, false);
        while (imap_open_paren(&ip) == 0)
                depth++;
        cr_expect_eq(depth, IMAP_DEPTH_MAX);
        cr_expect_eq(ip.err.code, ERR_LIMIT);
}

/* ---- gathering ---- */


/* Feed `input` cut at `cut`, taking APPEND's literals as an owner would. */
static void gather(struct span input, size_t cut, bool authenticated, struct str *log)
{
        struct imap_limits limits = IMAP_LIMITS_DEFAULT;
        struct imap_gather *g;
        struct err err = ERR_INIT;
        size_t at = 0, used, stop = cut;

        limits.line_max = limits.total_max = 200;
        limits.literal_max = 50;
        limits.unauth_literal_max = 10;
        limits.skip_max = 1000;
        limits.unauth_skip_max = 100;
        g = imap_gather_create(&limits);
        imap_gather_reset(g, authenticated);
        for (;;) {
                struct span in = { input.p + at, stop - at };
                enum gather_result r = imap_gather_feed(g, in, &used, &err);

                at += used;
                switch (r) {
                case GATHER_MORE:
                        if (at == input.len)
                                goto out;
                        cr_assert_eq(at, stop);
                        stop = input.len;
                        break;
                case GATHER_CONTINUE:
                        str_append_str(log, "+|");
                        break;
                case GATHER_LITERAL:
                        str_printf(log, "literal %d%s|", (int)imap_gather_literal_bytes(g), imap_gather_literal_sync(g) ? "" : "+");
                        at += (size_t)imap_gather_literal_bytes(g);
                        cr_assert(at <= input.len);
                        if (at > stop)
                                stop = input.len;
                        imap_gather_literal_taken(g);
                        break;
                case GATHER_COMMAND:
                        str_append_span(log, imap_gather_text(g));
                        str_append_c(log, '|');
                        imap_gather_reset(g, authenticated);
                        break;
                case GATHER_BAD:
                        str_append_str(log, "BAD ");
                        str_append_span(log, imap_gather_tag(g));
                        str_printf(log, ": %s|", err.text);
                        imap_gather_reset(g, authenticated);
                        break;
                case GATHER_CLOSE:
                        str_append_str(log, err.code == ERR_UNSUPPORTED ? "hang up|" : "BYE|");
                        goto out;
                }
        }
out:
        imap_gather_destroy(&g);
}

Test(imap_gather, commands_come_out_the_same_wherever_they_are_cut)
{
        static const struct { bool authenticated; const char *input, *log; } table[] = {
                { true, "a NOOP\r\nb NOOP\r\n", "a NOOP|b NOOP|" },
                { true, "a LOGIN {2}\r\nab {3+}\r\ncde\r\nb NOOP\r\n", "+|a LOGIN {2}\r\nab {3+}\r\ncde|b NOOP|" },
                { true, "a LOGIN \"x{5}\"\r\nb NOOP\r\n", "a LOGIN \"x{5}\"|b NOOP|" },
                { true, "a X {0}\r\n\r\n", "+|a X {0}\r\n|" },
                { true, "a APPEND INBOX {5+}\r\nhello\r\nb NOOP\r\n", "literal 5+|a APPEND INBOX {#0}|b NOOP|" },
                { true, "a APPEND {5+}\r\nINBOX ~{3}\r\nabc {2}\r\nde\r\n", "literal 3|literal 2|a APPEND {5+}\r\nINBOX ~{#0} {#1}|" },
                { false, "a APPEND x {5+}\r\nhello\r\n", "a APPEND x {5+}\r\nhello|" },
                { true, "a X {51}\r\nb NOOP\r\n", "BAD a: Literal is too large|b NOOP|" },
                { true, "a X {51+}\r\n012345678901234567890123456789012345678901234567890 {1+}\r\nx y\r\nb NOOP\r\n",
                  "BAD a: Literal is too large|b NOOP|" },
                { true, "a X {5000+}\r\n", "BYE|" },
                { true, "a X {99999999999999999999+}\r\n", "BYE|" },
                { false, "a X {11}\r\nb NOOP\r\n", "BAD a: Literal is too large before login|b NOOP|" },
                { true, "a X \"open\r\nb NOOP\r\n", "BAD a: Quoted string is not closed at the end of the line|b NOOP|" },
                { true, "a X\nb NOOP\r\n", "BAD a: Line ends with LF, not CRLF|b NOOP|" },
                { true, "a X\ry\r\nb NOOP\r\n", "BAD a: CR without LF in the command|b NOOP|" },
                { true, "a X\r\ry {2+}\r\nzz\r\nb NOOP\r\n", "BAD a: CR without LF in the command|b NOOP|" },
                { true, "a X {#0}\r\nb NOOP\r\n", "BAD a: Malformed literal|b NOOP|" },
                { true, "\r\nb NOOP\r\n", "|b NOOP|" },
                { false, "GET / HTTP/1.0\r\n", "hang up|" },
                { false, "GET /x", "hang up|" },
                { false, "CONNECT a.b:443 HTTP/1.1\r\n", "hang up|" },
                { false, "GET NOOP\r\n", "GET NOOP|" },
                { false, "OPTIONS * HTTP/1.1\r\n", "hang up|" },
                { false, "\x16\x03\x01", "hang up|" },
                { true, "a SEARCH TEXT HTTP/1.1\r\n", "a SEARCH TEXT HTTP/1.1|" },
                { true, "a X {1}\r\n\"{1}\r\n\"\r\n", "+|+|a X {1}\r\n\"{1}\r\n\"|" },
        };

        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                struct span input = span_of(table[i].input);

                for (size_t cut = 0; cut <= input.len; cut++) {
                        struct str log = STR_INIT;

                        gather(input, cut, table[i].authenticated, &log);
                        cr_assert_str_eq(log.data, table[i].log, "input %zu cut at %zu gave %s", i, cut, log.data);
                        str_deinit(&log);
                }
        }
}

Test(imap_gather, a_nul_in_a_line_or_literal_is_bad_but_not_in_literal8)
{
        static const char line[] = "a X\0Y\r\nb NOOP\r\n", literal[] = "a X {3+}\r\na\0b\r\nb NOOP\r\n", literal8[] = "a X ~{3+}\r\na\0b\r\n";
        struct str log = STR_INIT;

        gather((struct span){ line, sizeof line - 1 }, 0, true, &log);
        cr_expect_str_eq(log.data, "BAD a: NUL in the command|b NOOP|");
        str_clear(&log);
        gather((struct span){ literal, sizeof literal - 1 }, 0, true, &log);
        cr_expect_str_eq(log.data, "BAD a: NUL in a literal|b NOOP|");
        str_clear(&log);
        gather((struct span){ literal8, sizeof literal8 - 1 }, 0, true, &log);
        cr_expect_eq(log.len, sizeof "a X ~{3+}\r\naXb|" - 1);
        str_deinit(&log);
}

Test(imap_gather, an_endless_line_is_skipped_to_its_end)
{
        struct str input = STR_INIT, log = STR_INIT;

        str_append_str(&input, "a X ");
        for (int i = 0; i < 1000; i++)
                str_append_str(&input, "0123456789");
        str_append_str(&input, " {3+}\r\nabc\r\nb NOOP\r\n");
        for (size_t cut = 0; cut < input.len; cut += 7) {
                gather(str_span(&input), cut, true, &log);
                cr_assert_str_eq(log.data, "BAD a: Command line is too long|b NOOP|");
                str_clear(&log);
        }
        str_deinit(&input);
        str_deinit(&log);
}

Test(imap_gather, the_limit_of_a_line_does_not_hide_the_literal_at_its_end)
{
        for (int fill = 180; fill < 205; fill++) {
                struct str input = STR_INIT, log = STR_INIT;

                str_append_str(&input, "a X ");
                for (int i = 0; i < fill; i++)
                        str_append_c(&input, 'x');
                str_append_str(&input, " {10+}\r\na LOGOUT\r\n");
                str_append_str(&input, "\r\nb NOOP\r\n");
                gather(str_span(&input), 0, true, &log);
                cr_expect(strstr(log.data, "|b NOOP|") && !strstr(log.data, "LOGOUT|"), "%d gave %s",
                          fill, log.data);
                str_deinit(&input);
                str_deinit(&log);
        }
}

Test(imap_gather, little_is_held_of_a_command_before_login)
{
        struct imap_limits limits = IMAP_LIMITS_DEFAULT;
        struct imap_gather *g = imap_gather_create(&limits);
        struct str input = STR_INIT;
        struct err err = ERR_INIT;
        size_t used;

        str_append_str(&input, "a X");
        for (int i = 0; i < 20; i++) {
                str_append_str(&input, " {4096+}\r\n");
                for (int k = 0; k < 4096; k++)
                        str_append_c(&input, 'x');
        }
        str_append_str(&input, "\r\n");
        imap_gather_reset(g, false);
        cr_assert_eq(imap_gather_feed(g, str_span(&input), &used, &err), GATHER_BAD);
        cr_expect_str_eq(err.text, "Command is too large");
        cr_expect_eq(used, input.len);
        cr_expect_lt(imap_gather_text(g).len, (size_t)33 * 1024);
        str_deinit(&input);
        imap_gather_destroy(&g);
}

Test(imap_gather, a_refused_literal_is_skipped_and_the_command_ends_bad)
{
        struct imap_limits limits = IMAP_LIMITS_DEFAULT;
        struct imap_gather *g = imap_gather_create(&limits);
        static const char text[] = "a APPEND x {6+}\r\nabcdef\r\nb NOOP\r\n";
        struct err err = ERR_INIT;
        size_t used, at;

        imap_gather_reset(g, true);
        cr_assert_eq(imap_gather_feed(g, SPAN(text), &used, &err), GATHER_LITERAL);
        at = used + 2;
        cr_assert_eq(imap_gather_literal_refuse(g, "no room", true, 2, &err), GATHER_MORE);
        cr_assert_eq(imap_gather_feed(g, (struct span){ text + at, sizeof text - 1 - at }, &used, &err), GATHER_BAD);
        cr_expect_str_eq(err.text, "no room");
        cr_expect(span_eq_str(imap_gather_tag(g), "a"));
        cr_expect_str_eq(text + at + used, "b NOOP\r\n");
        imap_gather_destroy(&g);
}
