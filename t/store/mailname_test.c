/* Mailbox names: internal ↔ external in every namespace, what may be created, LIST patterns. */
#include <criterion/criterion.h>

#include "store/mailname.h"
#include "t/store/conf_text.h"
#include "util/array.h"

static struct namespace *rules(const char *text)
{
        struct conf *conf = conf_text(text);
        struct namespace *ns = namespace_create(conf);

        conf_unref(&conf);
        return ns;
}

#define PLAIN "altnamespace: no\nunixhierarchysep: no\n"
#define UNIX "altnamespace: no\nunixhierarchysep: yes\n"
#define ALT "altnamespace: yes\nunixhierarchysep: no\n"
#define ALTUNIX "altnamespace: yes\nunixhierarchysep: yes\n"

struct row { const char *userid; bool admin, utf8; const char *external, *internal, *shown; };       /* shown NULL: as external */

static void check_rows(const char *conf, const struct row *rows, size_t n)
{
        struct namespace *ns = rules(conf);
        struct arena arena = ARENA_INIT;
        struct str shown = STR_INIT;

        for (size_t i = 0; i < n; i++) {
                struct namer who = { .ns = ns, .userid = rows[i].userid, .is_admin = rows[i].admin, .utf8 = rows[i].utf8 };
                struct err err = ERR_INIT;
                const char *internal = "";
                int rc = mailname_internal(&who, span_of(rows[i].external), &arena, &internal, &err);

                if (!rows[i].internal) {
                        cr_expect_eq(rc, -1, "%s is accepted as %s", rows[i].external, internal);
                        cr_expect_eq(err.code, ERR_BADNAME, "%s: %s", rows[i].external, err.text);
                        continue;
                }
                cr_expect_eq(rc, 0, "%s: %s", rows[i].external, err.text);
                cr_expect_str_eq(internal, rows[i].internal, "%s", rows[i].external);
                str_clear(&shown);
                mailname_external(&who, rows[i].internal, &shown);
                cr_expect_str_eq(shown.data, rows[i].shown ? rows[i].shown : rows[i].external);
        }
        str_deinit(&shown);
        arena_deinit(&arena);
        namespace_unref(&ns);
}
#define CHECK(conf, rows) check_rows((conf), (rows), ARRAY_LEN(rows))

Test(mailname, plain_namespace_with_dots)
{
        static const struct row rows[] = {
                { "joe", 0, 0, "INBOX", "user.joe", NULL },
                { "joe", 0, 0, "inbox", "user.joe", "INBOX" },
                { "joe", 0, 0, "iNbOx.Sent", "user.joe.Sent", "INBOX.Sent" },
                { "joe", 0, 0, "INBOXES", "INBOXES", NULL },
                { "joe", 0, 0, "user.joe.Sent", "user.joe.Sent", "INBOX.Sent" },
                { "joe", 0, 0, "user.bob.a.b", "user.bob.a.b", NULL },
                { "joe", 0, 0, "user.jo^e", "user.jo^e", NULL },
                { "jo.e", 0, 0, "INBOX.x", "user.jo^e.x", NULL },
                { "joe", 0, 0, "shared.x", "shared.x", NULL },
                { "joe", 0, 0, "user", "user", NULL },
                { "joe", 0, 0, "INBOX.inbox", NULL, NULL },
                { "joe", 0, 0, "INBOX.INBOX.x", NULL, NULL },
                { "joe", 0, 0, "INBOX.a..b", NULL, NULL },
                { "joe", 0, 0, "INBOX.", NULL, NULL },
                { "joe", 0, 0, ".a", NULL, NULL },
                { "joe", 0, 0, "", NULL, NULL },
                { "joe", 0, 0, "a/b", NULL, NULL },
                { "joe", 0, 0, "a!b", NULL, NULL },
                { "joe", 0, 0, "a%b", NULL, NULL },
                { "joe", 0, 0, "a\nb", NULL, NULL },
                { "joe", 0, 0, "a\xc3\xa4", NULL, NULL },               /* not UTF-8 without ENABLE */
                { "joe", 0, 0, "INBOX.Entw&APw-rfe", "user.joe.Entw&APw-rfe", NULL },
                { "joe", 0, 0, "INBOX.&AAo-", NULL, NULL },             /* a line feed in disguise */
                { "joe", 0, 0, "INBOX.&", NULL, NULL },
                { "joe", 0, 0, "INBOX.&AGE-", NULL, NULL },             /* ASCII in disguise */
                { "joe", 0, 1, "INBOX.Entw\xc3\xbcrfe", "user.joe.Entw&APw-rfe", NULL },
                { "joe", 0, 1, "INBOX.Entwu\xcc\x88rfe", "user.joe.Entw&APw-rfe", "INBOX.Entw\xc3\xbcrfe" },
                { "joe", 0, 1, "INBOX.a&b", "user.joe.a&-b", NULL },
                { "joe", 0, 1, "INBOX.\xff", NULL, NULL },
                { "root", 1, 0, "user.joe.Sent", "user.joe.Sent", NULL },
                { "root", 1, 0, "INBOX", "user.root", "user.root" },
                { "", 0, 0, "INBOX", NULL, NULL },
                { NULL, 0, 0, "INBOX", NULL, NULL },
                { NULL, 0, 0, "user.joe", "user.joe", NULL },
        };

        CHECK(PLAIN, rows);
}

Test(mailname, plain_namespace_with_slashes)
{
        static const struct row rows[] = {
                { "joe", 0, 0, "INBOX/Sent", "user.joe.Sent", NULL },
                { "joe", 0, 0, "INBOX/a.b", "user.joe.a^b", NULL },
                { "jo.e", 0, 0, "INBOX/a.b/c", "user.jo^e.a^b.c", NULL },
                { "joe", 0, 0, "user/jo.e/x", "user.jo^e.x", NULL },
                { "joe", 0, 0, "INBOX.x", "INBOX^x", NULL },
                { "joe", 0, 0, "INBOX/a^b", NULL, NULL },
                { "joe", 0, 0, "INBOX//b", NULL, NULL },
                { "joe", 0, 0, "/b", NULL, NULL },
                { "joe", 0, 0, "b/", NULL, NULL },
                { "root", 1, 0, "user/jo.e/x", "user.jo^e.x", NULL },
        };

        CHECK(UNIX, rows);
}

Test(mailname, alternative_namespace)
{
        static const struct row slashes[] = {
                { "joe", 0, 0, "INBOX", "user.joe", NULL },
                { "joe", 0, 0, "Inbox", "user.joe", "INBOX" },
                { "joe", 0, 0, "INBOX/x", NULL, NULL },
                { "joe", 0, 0, "Sent", "user.joe.Sent", NULL },
                { "joe", 0, 0, "a/b.c", "user.joe.a.b^c", NULL },
                { "joe", 0, 0, "user/bob", "user.joe.user.bob", NULL },
                { "joe", 0, 0, "Other Users/bob/Sent", "user.bob.Sent", NULL },
                { "joe", 0, 0, "Other Users/joe/Sent", "user.joe.Sent", "Sent" },
                { "joe", 0, 0, "Other Users", "user", NULL },
                { "joe", 0, 0, "other users", "user.joe.other users", NULL },
                { "joe", 0, 0, "Shared Folders/x/y", "x.y", NULL },
                { "joe", 0, 0, "Shared Folders", NULL, NULL },
                { "joe", 0, 0, "Alt Folders/Shared Folders", "user.joe.Shared Folders", NULL },
                { "joe", 0, 0, "Alt Folders/INBOX/x", "user.joe.INBOX.x", NULL },
                { "joe", 0, 0, "Alt Folders/Sent", "user.joe.Sent", "Sent" },
                { "joe", 0, 0, "Alt Folders/Other Users/a", "user.joe.Other Users.a", NULL },
                { "joe", 0, 1, "\xc3\x84rger", "user.joe.&AMQ-rger", NULL },
                { "root", 1, 0, "user/joe/Sent", "user.joe.Sent", NULL },
                { "root", 1, 0, "shared/x", "shared.x", NULL },
                { "root", 1, 0, "INBOX/x", "user.root.x", "user/root/x" },
        };
        static const struct row dots[] = {
                { "joe", 0, 0, "Sent.2026", "user.joe.Sent.2026", NULL },
                { "joe", 0, 0, "Leute.bob.Sent", "user.bob.Sent", NULL },
                { "joe", 0, 1, "\xc3\x96" "ffentlich.x", "x", NULL },
                { "joe", 0, 0, "&ANY-ffentlich.x", "x", NULL },
        };

        CHECK(ALTUNIX, slashes);
        CHECK(ALT "userprefix: Leute.\nsharedprefix: \xc3\x96" "ffentlich\n", dots);
}

Test(mailname, virtual_domains)
{
        static const struct row rows[] = {
                { "joe@b.org", 0, 0, "INBOX/x", "b.org!user.joe.x", NULL },
                { "joe@b.org", 0, 0, "user/bob", "b.org!user.bob", NULL },
                { "joe@b.org", 0, 0, "news", "b.org!news", NULL },
                { "joe@b.org", 0, 0, "INBOX/a@c.org", "b.org!user.joe.a@c^org", NULL },
                { "joe", 0, 0, "INBOX", "user.joe", NULL },
                { "root", 1, 0, "user/jo.e/x@b.org", "b.org!user.jo^e.x", NULL },
                { "root", 1, 0, "user/joe@B.ORG", "b.org!user.joe", "user/joe@b.org" },
                { "root", 1, 0, "user/joe@main.org", "user.joe", "user/joe" },
                { "root", 1, 0, "user/joe@b..org", NULL, NULL },
                { "root", 1, 0, "user/joe@", NULL, NULL },
                { "root", 1, 0, "user/joe/a@c.org@main.org", "user.joe.a@c^org", NULL },
                { "root@b.org", 1, 0, "user/joe/a@c@b.org", "b.org!user.joe.a@c", NULL },
                { "root@b.org", 1, 0, "user/joe", "b.org!user.joe", "user/joe@b.org" },
                { "root@b.org", 1, 0, "user/joe@b.org", "b.org!user.joe", NULL },
                { "root@b.org", 1, 0, "user/joe@c.org", NULL, NULL },
        };
        static const struct row off[] = {
                { "joe@b.org", 0, 0, "INBOX/x", "user.joe@b^org.x", NULL },
                { "root", 1, 0, "user/joe@b.org/x", "user.joe@b^org.x", NULL },
        };

        CHECK(UNIX "virtdomains: userid\ndefaultdomain: main.org\n", rows);
        CHECK(UNIX "virtdomains: off\n", off);
}

Test(mailname, length_is_bounded)
{
        struct namespace *ns = rules(ALTUNIX);
        struct namer who = { .ns = ns, .userid = "joe" };
        struct arena arena = ARENA_INIT;
        struct err err = ERR_INIT;
        const char *internal;
        char name[5000];

        memset(name, 'a', sizeof name);
        cr_expect_eq(mailname_internal(&who, (struct span){ name, MAILNAME_MAX - 9 }, &arena, &internal, &err), 0);
        cr_expect_eq(strlen(internal), MAILNAME_MAX);
        cr_expect_eq(mailname_internal(&who, (struct span){ name, MAILNAME_MAX - 8 }, &arena, &internal, &err), -1);
        cr_expect_eq(mailname_internal(&who, (struct span){ name, sizeof name }, &arena, &internal, &err), -1);
        cr_expect_eq(err.code, ERR_BADNAME);
        arena_deinit(&arena);
        namespace_unref(&ns);
}

Test(mailname, what_may_be_created)
{
        static const struct { const char *name; bool by_admin, ok; } rows[] = {
                { "user.joe", true, true }, { "user.joe.a", false, true }, { "shared", true, true },
                { "example.org!user.joe", true, true }, { "user.joe.a b#$'()*+,-:=?@[]^_~", false, true },
                { "user.joe.&APw-", false, true },
                { "user", true, false }, { "user.anyone", true, false }, { "user.anonymous.x", true, false },
                { "user.%x", true, false }, { "$x", true, false }, { "~x", true, false }, { ".x", true, false },
                { "x.", true, false }, { "x..y", true, false }, { "", true, false }, { "d!", true, false }, { "!x", true, false },
                { "a..b!x", true, false }, { "a!b!x", true, false }, { "INBOX", true, false }, { "Inbox.x", true, false },
                { "user.joe.INBOX", false, false }, { "user.joe.INBOX", true, true }, { "user.joe.x.INBOX", false, true },
                { "x&y", true, false }, { "x\x7f", true, false }, { "x\xc3\xbc", true, false }, { "a\tb", true, false },
                { "user.joe.$x", false, true }, { "user.joe.~x", false, true }, { "users", true, true },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct err err = ERR_INIT;

                cr_expect_eq(mailname_check_new(rows[i].name, rows[i].by_admin, &err), rows[i].ok ? 0 : -1, "%s: %s", rows[i].name,
                             err.text);
                if (!rows[i].ok)
                        cr_expect_eq(err.code, ERR_BADNAME);
        }
        for (const char *c = "!\"%&/;<>\\`{|}"; *c; c++) {
                char name[] = { 'd', '!', 'x', *c, 'y', '\0' };

                cr_expect_eq(mailname_check_new(name, true, NULL), -1, "%s", name);
        }
}

Test(mailname, owners_parents_and_kinds)
{
        struct namespace *ns = rules(UNIX "virtdomains: userid\n");
        struct arena a = ARENA_INIT;

        cr_expect_str_eq(mailname_owner("d.org!user.jo^e.Sent", &a), "jo.e@d.org");
        cr_expect_str_eq(mailname_owner("user.joe", &a), "joe");
        cr_expect_null(mailname_owner("shared.joe", &a));
        cr_expect_null(mailname_owner("user", &a));
        cr_expect_null(mailname_owner("DELETED.user.joe.x.5C0FFEE0", &a));
        cr_expect(mailname_owned_by("user.jo^e.x", "jo.e"));
        cr_expect(mailname_owned_by("d.org!user.joe", "joe@d.org"));
        cr_expect_not(mailname_owned_by("user.joe", "joe@d.org"));
        cr_expect_not(mailname_owned_by("d.org!user.joe", "joe"));
        cr_expect_not(mailname_owned_by("user.joey", "joe"));
        cr_expect_not(mailname_owned_by("user.jo", "joe"));
        cr_expect_not(mailname_owned_by("user.joe", ""));
        cr_expect(mailname_in_domain_of("d.org!user.joe", "ann@d.org") && mailname_in_domain_of("news", "ann"));
        cr_expect(!mailname_in_domain_of("d.org!user.joe", "ann@e.org") && !mailname_in_domain_of("d.org!news", "ann") &&
                  !mailname_in_domain_of("news", "ann@d.org"));
        cr_expect(mailname_userid_has_domain("ann@d.org") && !mailname_userid_has_domain("ann"));
        cr_expect_str_eq(mailname_inbox_of("jo.e@d.org", &a), "d.org!user.jo^e");
        cr_expect_str_eq(mailname_parent("user.joe.a.b", &a), "user.joe.a");
        cr_expect_str_eq(mailname_parent("user.joe.a", &a), "user.joe");
        cr_expect_null(mailname_parent("user.joe", &a));
        cr_expect_null(mailname_parent("d.org!user.joe", &a));
        cr_expect_null(mailname_parent("d.org!shared", &a));
        cr_expect_str_eq(mailname_parent("d.org!shared.x", &a), "d.org!shared");
        cr_expect(mailname_is_user("user.joe.x") && mailname_is_user("d!user.joe") && !mailname_is_user("user") &&
                  !mailname_is_user("user.") && !mailname_is_user("users.joe"));
        cr_expect(mailname_is_inbox("user.joe") && !mailname_is_inbox("user.joe.x") && mailname_is_inbox("d.org!user.joe"));
        cr_expect(mailname_is_deleted("DELETED.user.joe", "DELETED") && !mailname_is_deleted("DELETED", "DELETED") &&
                  !mailname_is_deleted("DELETEDx.y", "DELETED") && mailname_is_deleted("d.org!DELETED.x", "DELETED"));
        cr_expect(mailname_is_below("a.b", "a") && !mailname_is_below("a", "a") && !mailname_is_below("ab", "a"));
        arena_deinit(&a);
        namespace_unref(&ns);
}

Test(mailname, children_sort_directly_after_their_parent)
{
        static const char *const ordered[] = { "a", "a.a", "a.b", "a.b.c", "a b", "a!b", "a-b", "ab", "b" };

        for (size_t i = 0; i < ARRAY_LEN(ordered); i++)
                for (size_t j = 0; j < ARRAY_LEN(ordered); j++) {
                        int c = mailname_compare(ordered[i], ordered[j]);

                        cr_expect((c < 0) == (i < j) && (c > 0) == (i > j), "%s %s", ordered[i], ordered[j]);
                }
}

Test(mailname, namespaces_are_named)
{
        static const struct { const char *conf; bool admin; const char *own, *others, *shared; } rows[] = {
                { PLAIN, false, "INBOX.", "user.", "" },
                { UNIX, false, "INBOX/", "user/", "" },
                { ALT, false, "", "Other Users.", "Shared Folders." },
                { ALTUNIX, false, "", "Other Users/", "Shared Folders/" },
                { ALTUNIX, true, "INBOX/", "user/", "" },
                { ALTUNIX "disable_user_namespace: yes\n", false, "", NULL, "Shared Folders/" },
                { ALTUNIX "disable_shared_namespace: yes\n", false, "", "Other Users/", NULL },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct namespace *ns = rules(rows[i].conf);
                struct namer who = { .ns = ns, .userid = "joe", .is_admin = rows[i].admin };
                const char *expected[] = { rows[i].own, rows[i].others, rows[i].shared };

                for (int kind = 0; kind < 3; kind++) {
                        struct str out = STR_INIT;

                        cr_expect_eq(namespace_prefix(&who, kind, &out), expected[kind] != NULL);
                        cr_expect_str_eq(out.data, expected[kind] ? expected[kind] : "");
                        str_deinit(&out);
                }
                namespace_unref(&ns);
        }
}

/* The grammar's words, as simple as can be. */
static bool naive(const char *name, const char *pattern, char sep)
{
        switch (*pattern) {
        case '\0':
                return !*name;
        case '*':
                return naive(name, pattern + 1, sep) || (*name && naive(name + 1, pattern, sep));
        case '%':
                return naive(name, pattern + 1, sep) || (*name && *name != sep && naive(name + 1, pattern, sep));
        default:
                return *name == *pattern && naive(name + 1, pattern + 1, sep);
        }
}

Test(mailname, patterns)
{
        static const struct { const char *name, *pattern; bool yes; } rows[] = {
                { "a/b", "*", true }, { "a/b", "%", false }, { "a", "%", true }, { "a/b", "%/%", true }, { "a/b", "a/b", true },
                { "a/b", "a%", false }, { "a/b", "a*", true }, { "a/b", "A*", false }, { "", "", true }, { "a", "", false },
                { "", "*", true }, { "a/b/c", "*/c", true }, { "a/b/c", "%/c", false }, { "a/b/c", "*%", true },
                { "a/b/c", "%*%", true }, { "INBOX", "inbox", true }, { "INBOX", "inb%", true }, { "INBOX/x", "inbox/x", true },
                { "INBOX/x", "inbox/X", false }, { "INBOXES", "inboxes", false }, { "INBOX/Sent", "*x/Sent", true },
                { "aXbXc", "a*X%c", true }, { "a/", "a/%", true }, { "abc", "abcd", false }, { "abcd", "abc", false },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                cr_expect_eq(mailname_match(rows[i].name, span_of(rows[i].pattern), '/'), rows[i].yes, "%s %s", rows[i].name,
                             rows[i].pattern);
}

Test(mailname, patterns_agree_with_a_naive_matcher)
{
        unsigned seed = 1;

        for (int i = 0; i < 200000; i++) {
                char name[9] = "", pattern[9] = "";

                for (int j = rand_r(&seed) % 8, k = 0; k < j; k++)
                        name[k] = "ab/"[rand_r(&seed) % 3];
                for (int j = rand_r(&seed) % 8, k = 0; k < j; k++)
                        pattern[k] = "ab/*%"[rand_r(&seed) % 5];
                cr_assert_eq(mailname_match(name, span_of(pattern), '/'), naive(name, pattern, '/'), "%s %s", name, pattern);
        }
}

Test(mailname, hostile_patterns_are_cheap, .timeout = 20)
{
        char name[MAILNAME_MAX + 1] = "", pattern[400];

        memset(name, 'a', MAILNAME_MAX);
        for (int i = 0; i < 199; i++)
                memcpy(pattern + 2 * i, "*a", 2);
        pattern[398] = 'b';
        for (int i = 0; i < 1000; i++)
                cr_assert_not(mailname_match(name, (struct span){ pattern, 399 }, '.'));
        for (int i = 0; i < 200; i++)
                memcpy(pattern + 2 * i, "a%", 2);
        cr_expect(mailname_match(name, (struct span){ pattern, 400 }, '.'));
        {
                char many[2 * (MAILNAME_WILDCARDS_MAX + 1)];

                for (int i = 0; i <= MAILNAME_WILDCARDS_MAX; i++)
                        memcpy(many + 2 * i, "a%", 2);
                cr_expect_not(mailname_match(name, (struct span){ many, sizeof many }, '.'));
                memset(many, '%', sizeof many);
                cr_expect(mailname_match(name, (struct span){ many, sizeof many }, '.'), "a run counts as one");
        }
}
