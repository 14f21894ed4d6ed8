/* Users: canonical ids, subscriptions, autocreation. */
#include <criterion/criterion.h>
#include <sys/wait.h>

#include "store/acl.h"
#include "store/user.h"
#include "t/store/scratch.h"
#include "util/array.h"

TestSuite(user, .init = scratch_make, .fini = scratch_remove, .timeout = 60);

static struct err err;

Test(user, ids_are_made_canonical)
{
        static const struct { const char *conf, *given, *canonical; } rows[] = {
                { "", "joe", "joe" },
                { "", "JOE", "joe" },
                { "username_tolower: no\n", "JOE", "JOE" },
                { "", "jo.e+x", "jo.e+x" },
                { "", "joe@Example.ORG", "joe@example.org" },
                { "virtdomains: userid\ndefaultdomain: main.org\n", "Joe@MAIN.org", "joe" },
                { "virtdomains: userid\ndefaultdomain: main.org\n", "Joe@other.org", "joe@other.org" },
                { "virtdomains: userid\nusername_tolower: no\n", "Joe@Other.org", "Joe@other.org" },
                { "virtdomains: userid\n", "joe@", NULL },
                { "virtdomains: userid\n", "@x.org", NULL },
                { "virtdomains: userid\n", "joe@a..b", NULL },
                { "virtdomains: userid\n", "joe@a/b", NULL },
                { "", "", NULL }, { "", "a b", NULL }, { "", "a/b", NULL }, { "", "..", NULL }, { "", ".", NULL }, { "", "a^b", NULL },
                { "", "anyone", NULL }, { "", "Anyone", NULL }, { "", "group:staff", NULL }, { "", "-joe", NULL }, { "", "a*", NULL },
                { "", "a%", NULL }, { "", "a!b", NULL }, { "", "a\tb", NULL }, { "", "j\xc3\xb6", NULL }, { "", "a&b", NULL },
                { "", "anonymous", "anonymous" },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct store *s = scratch_open(rows[i].conf);
                struct arena arena = ARENA_INIT;
                const char *user = NULL;
                int rc = user_canonify(s, rows[i].given, &arena, &user, &err);

                cr_expect_eq(rc, rows[i].canonical ? 0 : -1, "%s", rows[i].given);
                if (rows[i].canonical)
                        cr_expect_str_eq(user, rows[i].canonical);
                else
                        cr_expect_eq(err.code, ERR_BADNAME);
                arena_deinit(&arena);
                store_close(&s);
        }
}

/* "a b c" */
static const char *subscriptions(struct store *s, const char *user)
{
        static struct str out = STR_INIT;
        struct arena arena = ARENA_INIT;
        const char **names;

        str_clear(&out);
        cr_assert_eq(sub_list(s, user, &arena, &names, &err), 0, "%s", err.text);
        for (; *names; names++)
                str_printf(&out, "%s%s", out.len ? " " : "", *names);
        arena_deinit(&arena);
        return out.data;
}

Test(user, subscriptions_are_kept_per_user_and_in_order)
{
        struct store *s = scratch_open(NULL);
        bool yes;

        cr_expect_str_eq(subscriptions(s, "joe"), "");
        cr_expect_eq(sub_set(s, "joe", "user.joe.b", true, &err), 0);
        cr_expect_eq(sub_set(s, "joe", "user.joe", true, &err), 0);
        cr_expect_eq(sub_set(s, "joe", "user.joe b", true, &err), 0);
        cr_expect_eq(sub_set(s, "joe", "user.joe", true, &err), 0, "twice");
        cr_expect_eq(sub_set(s, "joey", "news", true, &err), 0);
        cr_expect_eq(sub_set(s, "jo", "old", false, &err), 0, "unsubscribing what is not");
        cr_expect_str_eq(subscriptions(s, "joe"), "user.joe user.joe.b user.joe b");
        cr_expect_str_eq(subscriptions(s, "joey"), "news");
        cr_expect_str_eq(subscriptions(s, "jo"), "");
        store_close(&s);
        s = scratch_open(NULL);
        cr_expect_str_eq(subscriptions(s, "joe"), "user.joe user.joe.b user.joe b");
        cr_expect_eq(sub_set(s, "joe", "user.joe.b", false, &err), 0);
        cr_expect_eq(sub_has(s, "joe", "user.joe.b", &yes, &err), 0);
        cr_expect_not(yes);
        cr_expect_eq(sub_has(s, "joe", "user.joe", &yes, &err), 0);
        cr_expect(yes);
        cr_expect_eq(sub_set(s, "joe", "", true, &err), -1);
        cr_expect_eq(sub_set(s, "", "x", true, &err), -1);
        store_close(&s);
}

Test(user, a_subscription_survives_kill)
{
        struct store *s;
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                s = scratch_open(NULL);
                _exit(sub_set(s, "joe", "user.joe", true, &err) == 0 ? 0 : 1);
        }
        waitpid(pid, &status, 0);
        cr_assert_eq(status, 0);
        s = scratch_open(NULL);
        cr_expect_str_eq(subscriptions(s, "joe"), "user.joe");
        store_close(&s);
}

#define AUTO "autocreate_quota: 0\nautocreate_inbox_folders: Sent | Drafts|Entw\xc3\xbcrfe | bad//name |Lists/a.b\n" \
             "autocreate_subscribe_folders: Sent\nxlist-sent: Sent\nxlist-drafts: Drafts\n" \
             "autocreate_acl: Sent bob lrs\nautocreate_acl: INBOX anyone p\nautocreate_acl: INBOX anyone zzz\n"

static const char *entry(struct store *s, const char *name)
{
        static struct str out = STR_INIT;
        const struct mbentry *e = mboxlist_find(store_mboxlist(s), name);

        str_clear(&out);
        if (e)
                str_printf(&out, "%d %s%s", (int)e->type, e->acl, e->specialuse);
        mbentry_unref(&e);
        return out.data;
}

Test(user, autocreation_makes_what_is_configured)
{
        struct store *s = scratch_open(AUTO "altnamespace: yes\nunixhierarchysep: yes\n");

        cr_assert(user_autocreate_wanted(s, "joe", AUTOCREATE_LOGIN));
        cr_expect_not(user_autocreate_wanted(s, "joe", AUTOCREATE_POST));
        cr_assert_eq(user_autocreate(s, "joe", AUTOCREATE_LOGIN, &err), 0, "%s", err.text);
        cr_expect_not(user_autocreate_wanted(s, "joe", AUTOCREATE_LOGIN));
        cr_expect_eq(user_autocreate(s, "joe", AUTOCREATE_LOGIN, &err), 0, "twice");
        cr_expect_str_eq(entry(s, "user.joe"), "0 joe\tlrswipkxtecdan\tanyone\tp\t");
        cr_expect_str_eq(entry(s, "user.joe.Sent"), "0 joe\tlrswipkxtecdan\tbob\tlrs\t\\Sent");
        cr_expect_str_eq(entry(s, "user.joe.Drafts"), "0 joe\tlrswipkxtecdan\t\\Drafts");
        cr_expect_str_eq(entry(s, "user.joe.Entw&APw-rfe"), "0 joe\tlrswipkxtecdan\t");
        cr_expect_str_eq(entry(s, "user.joe.Lists.a^b"), "0 joe\tlrswipkxtecdan\t");
        cr_expect_eq(mboxlist_count(store_mboxlist(s)), 6);
        cr_expect_str_eq(subscriptions(s, "joe"), "user.joe user.joe.Sent");
        store_close(&s);
}

Test(user, autocreation_in_a_plain_namespace_and_at_delivery)
{
        struct store *s = scratch_open("autocreate_quota: 1000\nautocreate_post: yes\nautocreate_inbox_folders: a.b\naltnamespace: no\n"
                                       "unixhierarchysep: no\n");

        cr_assert_eq(user_autocreate(s, "jo.e", AUTOCREATE_POST, &err), 0, "%s", err.text);
        cr_expect_str_eq(entry(s, "user.jo^e"), "0 jo.e\tlrswipkxtecdan\t");
        cr_expect_str_eq(entry(s, "user.jo^e.a"), "0 jo.e\tlrswipkxtecdan\t", "made with what is below it");
        cr_expect_str_eq(entry(s, "user.jo^e.a.b"), "0 jo.e\tlrswipkxtecdan\t");
        store_close(&s);
}

Test(user, who_gets_nothing)
{
        static const struct { const char *conf, *user; bool wanted; } rows[] = {
                { "", "joe", false },
                { "autocreate_quota: -1\n", "joe", false },
                { "autocreate_quota: 0\n", "joe", true },
                { "autocreate_quota: 0\n", "", false },
                { "autocreate_quota: 0\n", "anonymous", false },
                { "autocreate_quota: 0\nadmins: root joe\n", "joe", false },
                { "autocreate_quota: 0\nautocreate_users: ann bob\n", "joe", false },
                { "autocreate_quota: 0\nautocreate_users: ann bob\n", "bob", true },
                { "autocreate_quota: 0\nreadonly: yes\n", "joe", false },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct store *s = scratch_open(rows[i].conf);

                cr_expect_eq(user_autocreate_wanted(s, rows[i].user, AUTOCREATE_LOGIN), rows[i].wanted, "row %zu", i);
                cr_expect_eq(user_autocreate(s, rows[i].user, AUTOCREATE_LOGIN, &err), 0);
                cr_expect_eq(mboxlist_count(store_mboxlist(s)), rows[i].wanted ? 1 : 0);
                store_close(&s);
                fs_remove_tree(scratch_dir, NULL);
        }
}

Test(user, shared_folders_are_subscribed)
{
        struct store *s = scratch_open("autocreate_quota: 0\nautocreate_subscribe_sharedfolders: news | secret | none | news/x\n");

        cr_assert_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "news" }, NULL, &err), 0);
        cr_assert_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "news.x" }, NULL, &err), 0);
        cr_assert_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "secret", .acl = "" }, NULL, &err), 0);
        cr_assert_eq(user_autocreate(s, "joe", AUTOCREATE_LOGIN, &err), 0);
        cr_expect_str_eq(subscriptions(s, "joe"), "news news.x user.joe");
        store_close(&s);
        s = scratch_open("autocreate_quota: 0\nautocreate_subscribe_sharedfolders_all: yes\n");
        cr_assert_eq(user_autocreate(s, "bob", AUTOCREATE_LOGIN, &err), 0);
        cr_expect_str_eq(subscriptions(s, "bob"), "news news.x user.bob");
        store_close(&s);
}
