/* imap_url_test - IMAP URLs (RFC 5092 11, RFC 4467 9) */
#include <stdio.h>

#include <criterion/criterion.h>

#include "server/imap/url.h"

static struct arena arena = ARENA_INIT;

static int parse(const char *text, struct imap_url *u)
{
        struct err err = ERR_INIT;

        return imap_url_parse(span_of(text), &arena, u, &err);
}

static bool is(struct span s, const char *text)
{
        return span_eq_str(s, text);
}

Test(imap_url, a_relative_url_names_mailbox_message_and_section)
{
        struct imap_url u;

        cr_assert_eq(parse("/Drafts;UIDVALIDITY=385759045/;UID=20/;section=1.5.9/;PARTIAL=7.1024", &u), 0);
        cr_expect(!u.absolute && u.rooted && is(u.mailbox, "Drafts"));
        cr_expect(u.uidvalidity == 385759045 && u.uid == 20 && is(u.section, "1.5.9"));
        cr_expect(u.partial && u.first == 7 && u.count == 1024 && u.access == URL_NO_ACCESS);
        cr_assert_eq(parse("/Drafts/;UID=3002", &u), 0);
        cr_expect(is(u.mailbox, "Drafts") && u.uid == 3002 && !u.has_section && !u.partial);
        cr_assert_eq(parse(";uid=1", &u), 0);
        cr_expect(!u.rooted && u.mailbox.len == 0 && u.uid == 1);
        cr_assert_eq(parse("/a/b/;UID=1/;PARTIAL=5", &u), 0);
        cr_expect(is(u.mailbox, "a/b") && u.first == 5 && u.count == 0);
}

Test(imap_url, percent_encoding_is_undone)
{
        struct imap_url u;

        cr_assert_eq(parse("/Entw%C3%BCrfe%3b%20x/;UID=1/;SECTION=HEADER.FIELDS%20(FROM)", &u), 0);
        cr_expect(is(u.mailbox, "Entw\xc3\xbcrfe; x") && is(u.section, "HEADER.FIELDS (FROM)"));
}

Test(imap_url, the_rump_ends_with_the_access_identifier)      /* RFC 4467 6 */
{
        static const char rump[] = "imap://joe@Example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fr%65d";
        char full[200];
        struct imap_url u;

        snprintf(full, sizeof full, "%s:internal:91354a473744909de610943775f92038", rump);
        cr_assert_eq(parse(full, &u), 0);
        cr_expect(u.absolute && is(u.user, "joe") && is(u.host, "example.com"));
        cr_expect(u.access == URL_SUBMIT && is(u.access_user, "fred") && is(u.rump, rump) && u.rump.p == full);
        cr_expect(is(u.mechanism, "internal") && u.token_n == 16 && u.token[0] == 0x91 && u.token[15] == 0x38);
        cr_assert_eq(parse(rump, &u), 0);
        cr_expect(is(u.rump, rump) && !u.mechanism.p);
}

Test(imap_url, expire_is_a_date_of_rfc_3339)
{
        static const struct { const char *date; int64_t unix_s; } dates[] = {
                { "1970-01-01T00:00:00Z", 0 }, { "2026-11-29T17:00:00Z", 1795971600 }, { "2026-11-29t18:30:00.25+01:30", 1795971600 },
                { "2000-02-29T23:59:60-00:00", 951868800 },
        };
        static const char *const wrong[] = { "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-1-01T00:00:00Z", "2026-01-01", "",
                                             "2026-01-01T00:00:00", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00.Z", "2026-00-01T00:00:00Z" };
        char url[120];
        struct imap_url u;

        for (size_t i = 0; i < sizeof dates / sizeof dates[0]; i++) {
                snprintf(url, sizeof url, "imap://j@h/x/;UID=1;EXPIRE=%s;URLAUTH=anonymous", dates[i].date);
                cr_assert_eq(parse(url, &u), 0, "%s", url);
                cr_expect(u.has_expire && u.expire == dates[i].unix_s, "%s: %lld", dates[i].date, (long long)u.expire);
        }
        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
                snprintf(url, sizeof url, "imap://j@h/x/;UID=1;EXPIRE=%s;URLAUTH=anonymous", wrong[i]);
                cr_expect_eq(parse(url, &u), -1, "%s", url);
        }
}

Test(imap_url, what_is_out_of_grammar_is_refused)
{
        static const char *const wrong[] = {
                "http://x/y", "imap://", "imap:///x/;UID=1", "imap://a b@h/x", "imap://j@h:14x/", "imap://j@[::1/x", "/x/;UID=0", "/x/;UID=4294967296", "/x/;UID=",
                "/x/;UID=1/;UID=2", "/x/;SECTION=1", "/x/;SECTION=1/;UID=1", "/x/;UID=1/;PARTIAL=1.0", "/x/;UID=1/;PARTIAL=.5", "/x/;FOO=1",
                "/x/;UID=1;URLAUTH=", "/x/;UID=1;URLAUTH=user+", "/x/;UID=1;URLAUTH=nobody", "/x/;UID=1;URLAUTH=anonymous:",
                "/x/;UID=1;URLAUTH=anonymous:internal", "/x/;UID=1;URLAUTH=anonymous:internal:12",
                "/x/;UID=1;URLAUTH=anonymous:internal:91354a473744909de610943775f9203g", "/x/;UID=1;URLAUTH=anonymous/",
                "/x/;UID=1;EXPIRE=2026-11-29T17:00:00Z", "/x%zz/;UID=1", "/x%/;UID=1", "/x%4", "/x%00", "/x%c3", "/x y", "/x/;UID=1?ALL",
        };
        struct imap_url u;

        for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
                cr_expect_eq(parse(wrong[i], &u), -1, "%s", wrong[i]);
}

Test(imap_url, servers_mailboxes_and_searches_are_told_apart_from_messages)
{
        struct imap_url u;

        cr_assert_eq(parse("imap://joe@example.com", &u), 0);
        cr_expect(u.mailbox.len == 0 && u.uid == 0);
        cr_assert_eq(parse("imap://example.com/INBOX;UIDVALIDITY=5/", &u), 0);
        cr_expect(is(u.mailbox, "INBOX/") || is(u.mailbox, "INBOX"));
        cr_expect(u.uid == 0 && !u.is_list && !u.user.p);
        cr_assert_eq(parse("imap://joe;AUTH=*@[::1]:993/INBOX?SUBJECT%20x", &u), 0);
        cr_expect(u.is_list && is(u.host, "[::1]") && is(u.user, "joe"));
}
