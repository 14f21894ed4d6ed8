/* Quota roots: limits, reserving, and that a root's usage is the sum over its mailboxes whatever happens to their names. */
#include <criterion/criterion.h>
#include <sys/wait.h>

#include "store/mailname.h"
#include "store/quota.h"
#include "t/store/scratch.h"
#include "util/waiter.h"

TestSuite(quota, .init = scratch_make, .fini = scratch_remove, .timeout = 120);

#define IMMEDIATE "delete_mode: immediate\n"
#define ML(s) store_mboxlist(s)

static struct err err;
static const bool all_of[QUOTA_RESOURCES] = { true, true, true, true };

static void make(struct store *s, const char *name)
{
        cr_assert_eq(mboxlist_create(ML(s), &(struct mbox_create){ .name = name }, NULL, &err), 0, "%s: %s", name, err.text);
}

static int limit(struct store *s, const char *root, int64_t storage, int64_t messages, int64_t mailboxes)
{
        int64_t limits[QUOTA_RESOURCES] = { storage, messages, QUOTA_UNLIMITED, mailboxes };

        return quota_set(s, root, limits, all_of, false, &err);
}

static struct mailbox *mbox_open(struct store *s, const char *name)
{
        const struct mbentry *e = mboxlist_find(ML(s), name);
        struct mailbox_ident ident;
        struct mailbox *m;

        cr_assert_not_null(e, "%s", name);
        cr_assert_eq(mbentry_ident(s, e, &ident, &err), 0);
        cr_assert_eq(mailbox_open(s, &ident, &m, &err), 0, "%s", err.text);
        mbentry_unref(&e);
        return m;
}

static struct stage *stage(struct store *s, size_t octets)
{
        struct stage *st;
        char line[65] = "Subject: x\r\n\r\n";

        cr_assert_eq(stage_begin(s, store_partition_dir(s, "default"), octets, &st, &err), 0);
        cr_assert_eq(stage_write(st, line, 14, &err), 0);
        memset(line, 'x', 62);
        memcpy(line + 62, "\r\n", 3);
        for (size_t left = octets - 14; left; ) {
                size_t n = left < 64 ? left : 64;

                cr_assert_eq(stage_write(st, line, n, &err), 0);
                left -= n;
        }
        cr_assert_eq(stage_finish(st, &err), 0);
        return st;
}

/* A message of so many octets. 0, or -1 with err. */
static int append(struct store *s, const char *name, size_t octets, bool ignore)
{
        struct mailbox *m = mbox_open(s, name);
        struct append_item item = { .stage = stage(s, octets), .internaldate = INT64_MIN, .savedate = INT64_MIN, .ignore_quota = ignore };
        struct append_result result;
        struct waiter w;
        int rc;

        waiter_init_blocking(&w);
        rc = mailbox_append(m, &item, 1, &result, &w, &err);
        if (rc == 0)
                rc = waiter_block(&w, &err);
        stage_unref(&item.stage);
        mailbox_unref(&m);
        return rc;
}

static int transfer(struct store *s, const char *from, const char *to, bool move)
{
        struct mailbox *a = mbox_open(s, from), *b = mbox_open(s, to);
        struct uidset uids = UIDSET_INIT, copied = UIDSET_INIT;
        struct append_result result;
        struct waiter w;
        int rc;

        uidset_add_range(&uids, 1, UINT32_MAX);
        waiter_init_blocking(&w);
        rc = (move ? mailbox_move : mailbox_copy)(a, &uids, b, NULL, &copied, &result, &w, &err);
        if (rc == 0)
                rc = waiter_block(&w, &err);
        uidset_deinit(&uids);
        uidset_deinit(&copied);
        mailbox_unref(&a);
        mailbox_unref(&b);
        return rc;
}

static void expunge(struct store *s, const char *name)
{
        struct mailbox *m = mbox_open(s, name);
        struct uidset uids = UIDSET_INIT;
        struct waiter w;
        uint64_t modseq;

        uidset_add_range(&uids, 1, UINT32_MAX);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_expunge(m, &uids, false, NULL, &modseq, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0);
        uidset_deinit(&uids);
        mailbox_unref(&m);
}

/* What the books say, and that adding up says the same. */
static void expect_usage(struct store *s, const char *root, int64_t octets, int64_t messages, int64_t mailboxes)
{
        struct quota_info before, after;
        bool removed;

        cr_assert(quota_get(s, root, &before), "%s", root);
        cr_expect_eq(before.used[QUOTA_STORAGE], octets, "%s: %ld octets, not %ld", root, (long)before.used[QUOTA_STORAGE], (long)octets);
        cr_expect_eq(before.used[QUOTA_MESSAGE], messages, "%s: %ld messages", root, (long)before.used[QUOTA_MESSAGE]);
        cr_expect_eq(before.used[QUOTA_MAILBOX], mailboxes, "%s: %ld mailboxes", root, (long)before.used[QUOTA_MAILBOX]);
        cr_assert_eq(quota_fix(s, root, false, &before, &after, &removed, &err), 0, "%s", err.text);
        cr_assert(!removed);
        for (int i = 0; i < QUOTA_RESOURCES; i++)
                cr_expect_eq(before.used[i], after.used[i], "%s: %s was %ld, adds up to %ld", root,
                             quota_resource_name((enum quota_resource)i), (long)before.used[i], (long)after.used[i]);
}

Test(quota, a_limit_stops_what_does_not_fit_and_nothing_is_counted_for_it)
{
        struct store *s = scratch_open(NULL);

        make(s, "user.joe");
        make(s, "user.joe.Sent");
        cr_assert_eq(limit(s, "user.joe", 10, 3, -1), 0, "%s", err.text);
        cr_assert_eq(append(s, "user.joe", 6000, false), 0, "%s", err.text);
        cr_assert_eq(append(s, "user.joe.Sent", 4240, false), 0, "exactly full: %s", err.text);
        cr_assert_eq(append(s, "user.joe", 100, false), -1);
        cr_expect_eq(err.code, ERR_QUOTA);
        cr_expect_eq(quota_check(s, "user.joe.Sent", 1, 1, &err), -1);
        cr_expect_eq(quota_check(s, "user.joe.Sent", 0, 0, &err), -1, "full");
        expect_usage(s, "user.joe", 10240, 2, 2);
        cr_assert_eq(append(s, "user.joe", 100, true), 0, "whoever ignores the quota is not stopped");
        expect_usage(s, "user.joe", 10340, 3, 2);
        expunge(s, "user.joe");
        expect_usage(s, "user.joe", 4240, 1, 2);
        store_close(&s);
        s = scratch_open(NULL);
        expect_usage(s, "user.joe", 4240, 1, 2);
        store_close(&s);
}

Test(quota, messages_of_a_blobs_size_are_counted_and_refused_as_well)
{
        struct store *s = scratch_open(NULL);

        make(s, "user.joe");
        cr_assert_eq(limit(s, "user.joe", 200, -1, -1), 0);
        cr_assert_eq(append(s, "user.joe", 150000, false), 0, "%s", err.text);
        cr_assert_eq(append(s, "user.joe", 150000, false), -1);
        cr_expect_eq(err.code, ERR_QUOTA);
        expect_usage(s, "user.joe", 150000, 1, 1);
        store_close(&s);
}

Test(quota, copying_needs_room_moving_within_a_root_does_not)
{
        struct store *s = scratch_open(NULL);

        make(s, "user.joe");
        make(s, "user.joe.Sent");
        make(s, "user.bob");
        cr_assert_eq(limit(s, "user.joe", 10, -1, -1), 0);
        cr_assert_eq(limit(s, "user.bob", 4, -1, -1), 0);
        cr_assert_eq(append(s, "user.joe", 6000, false), 0);
        cr_assert_eq(transfer(s, "user.joe", "user.joe.Sent", false), -1);
        cr_expect_eq(err.code, ERR_QUOTA);
        cr_assert_eq(transfer(s, "user.joe", "user.joe.Sent", true), 0, "%s", err.text);
        expect_usage(s, "user.joe", 6000, 1, 2);
        cr_assert_eq(transfer(s, "user.joe.Sent", "user.bob", true), -1);
        cr_expect_eq(err.code, ERR_QUOTA);
        expect_usage(s, "user.joe", 6000, 1, 2);
        expect_usage(s, "user.bob", 0, 0, 1);
        cr_assert_eq(limit(s, "user.bob", 40, -1, -1), 0);
        cr_assert_eq(transfer(s, "user.joe.Sent", "user.bob", true), 0, "%s", err.text);
        expect_usage(s, "user.joe", 0, 0, 2);
        expect_usage(s, "user.bob", 6000, 1, 1);
        store_close(&s);
}

Test(quota, a_new_root_takes_over_what_is_below_it_and_gives_it_back)
{
        struct store *s = scratch_open(NULL);
        struct str root = STR_INIT;

        make(s, "user.joe");
        make(s, "user.joe.work");
        make(s, "user.joe.work.a");
        make(s, "user.joe.worker");
        cr_assert_eq(limit(s, "user.joe", 100, -1, -1), 0);
        cr_assert_eq(append(s, "user.joe", 1000, false), 0);
        cr_assert_eq(append(s, "user.joe.work.a", 2000, false), 0);
        cr_assert_eq(append(s, "user.joe.worker", 4000, false), 0);
        expect_usage(s, "user.joe", 7000, 3, 4);
        cr_assert_eq(limit(s, "user.joe.work", -1, 5, -1), 0);
        expect_usage(s, "user.joe", 5000, 2, 2);
        expect_usage(s, "user.joe.work", 2000, 1, 2);
        cr_assert(quota_root_of(s, "user.joe.work.new", &root));
        cr_expect_str_eq(root.data, "user.joe.work");
        str_deinit(&root);
        cr_assert_eq(quota_remove(s, "user.joe.work", &err), 0);
        expect_usage(s, "user.joe", 7000, 3, 4);
        cr_expect_eq(limit(s, "user.nobody", 1, 1, 1), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        store_close(&s);
}

Test(quota, mailboxes_are_counted_and_limited)
{
        struct store *s = scratch_open(IMMEDIATE);

        make(s, "user.joe");
        make(s, "user.joe.a");
        cr_assert_eq(limit(s, "user.joe", -1, -1, 3), 0);
        make(s, "user.joe.b");
        cr_expect_eq(mboxlist_create(ML(s), &(struct mbox_create){ .name = "user.joe.c" }, NULL, &err), -1);
        cr_expect_eq(err.code, ERR_QUOTA);
        expect_usage(s, "user.joe", 0, 0, 3);
        cr_assert_eq(mboxlist_delete(ML(s), "user.joe.a", true, &err), 0);
        make(s, "user.joe.c");
        expect_usage(s, "user.joe", 0, 0, 3);
        store_close(&s);
}

Test(quota, usage_follows_renames_and_deletions)
{
        struct store *s = scratch_open(NULL);

        make(s, "user.joe");
        make(s, "user.joe.a");
        make(s, "user.joe.a.b");
        make(s, "shared");
        cr_assert_eq(limit(s, "user.joe", 100, -1, -1), 0);
        cr_assert_eq(limit(s, "shared", 5, -1, -1), 0);
        cr_assert_eq(append(s, "user.joe", 1000, false), 0);
        cr_assert_eq(append(s, "user.joe.a", 2000, false), 0);
        cr_assert_eq(append(s, "user.joe.a.b", 4000, false), 0);
        store_close(&s);                                /* nothing is in memory */
        s = scratch_open(NULL);
        cr_expect_eq(mboxlist_rename(ML(s), "user.joe.a", "shared.a", true, NULL, &err), -1);
        cr_expect_eq(err.code, ERR_QUOTA, "no room: %s", err.text);
        expect_usage(s, "user.joe", 7000, 3, 3);
        cr_assert_eq(limit(s, "shared", 50, -1, -1), 0);
        cr_assert_eq(mboxlist_rename(ML(s), "user.joe.a", "shared.a", true, NULL, &err), 0, "%s", err.text);
        expect_usage(s, "user.joe", 1000, 1, 1);
        expect_usage(s, "shared", 6000, 2, 3);
        cr_assert_eq(mboxlist_rename(ML(s), "shared.a.b", "elsewhere", true, NULL, &err), 0, "%s", err.text);
        expect_usage(s, "shared", 2000, 1, 2);
        cr_assert_eq(append(s, "elsewhere", 1000, false), 0);
        cr_assert_eq(mboxlist_delete(ML(s), "shared.a", false, &err), 0);
        expect_usage(s, "shared", 0, 0, 1);
        cr_assert_eq(append(s, "shared", 1000, false), 0);
        expect_usage(s, "shared", 1000, 1, 1);
        store_close(&s);
}

Test(quota, a_users_root_goes_with_him_and_goes_away_with_his_last_mailbox)
{
        struct store *s = scratch_open(NULL);

        make(s, "user.joe");
        make(s, "user.joe.a");
        cr_assert_eq(limit(s, "user.joe", 100, -1, -1), 0);
        cr_assert_eq(limit(s, "user.joe.a", 50, -1, -1), 0);
        cr_assert_eq(append(s, "user.joe", 1000, false), 0);
        cr_assert_eq(append(s, "user.joe.a", 2000, false), 0);
        cr_assert_eq(mboxlist_rename(ML(s), "user.joe", "user.jim", true, NULL, &err), 0, "%s", err.text);
        cr_expect(!quota_get(s, "user.joe", NULL));
        expect_usage(s, "user.jim", 1000, 1, 1);
        expect_usage(s, "user.jim.a", 2000, 1, 1);
        cr_assert_eq(append(s, "user.jim.a", 60000, false), -1);
        store_close(&s);
        s = scratch_open(NULL);
        cr_expect(!quota_get(s, "user.joe", NULL));
        expect_usage(s, "user.jim", 1000, 1, 1);
        cr_assert_eq(mboxlist_delete_tree(ML(s), "user.jim", false, &err), 0);
        cr_expect(!quota_get(s, "user.jim", NULL));
        cr_expect(!quota_get(s, "user.jim.a", NULL));
        store_close(&s);
        s = scratch_open(NULL);
        cr_expect(!quota_get(s, "user.jim", NULL));
        store_close(&s);
}

Test(quota, after_an_unclean_stop_usage_is_added_up)
{
        struct store *s = scratch_open(NULL);
        struct quota_info info;
        pid_t pid;
        int status;

        make(s, "user.joe");
        make(s, "user.joe.a");
        cr_assert_eq(limit(s, "user.joe", 100, -1, -1), 0);
        cr_assert_eq(append(s, "user.joe", 1000, false), 0);
        store_close(&s);
        pid = fork();
        if (pid == 0) {
                s = scratch_open(NULL);
                if (append(s, "user.joe.a", 3000, false) < 0)
                        _exit(1);
                _exit(0);                               /* as kill -9 would */
        }
        waitpid(pid, &status, 0);
        cr_assert_eq(status, 0);
        s = scratch_open(NULL);
        cr_assert(quota_get(s, "user.joe", &info));
        cr_expect(info.unsure);
        cr_assert_eq(quota_settle(s, "user.joe", &err), 0, "%s", err.text);
        cr_assert(quota_get(s, "user.joe", &info));
        cr_expect(!info.unsure);
        expect_usage(s, "user.joe", 4000, 2, 2);
        store_close(&s);
}

Test(quota, a_root_without_mailboxes_is_removed_by_fixing)
{
        struct store *s = scratch_open(NULL);
        struct quota_info before, after;
        const char **list;
        struct arena arena = ARENA_INIT;
        bool removed;

        make(s, "user.joe");
        make(s, "user.bob.x");
        cr_assert_eq(limit(s, "user.joe", 100, -1, -1), 0);
        cr_assert_eq(limit(s, "user.bob", 100, -1, -1), 0);
        cr_expect_eq(quota_list(s, "", &arena, &list), 2);
        cr_expect_str_eq(list[0], "user.bob");
        cr_assert_eq(quota_fix(s, "user.bob", false, &before, &after, &removed, &err), 0);
        cr_expect(!removed, "there is something below it");
        cr_expect_eq(quota_fix(s, "user.none", false, &before, &after, &removed, &err), -1);
        arena_deinit(&arena);
        store_close(&s);
}

Test(quota, replacing_needs_room_only_for_what_is_more)
{
        struct store *s = scratch_open(NULL);
        static const struct { const char *from, *to; size_t octets; int rc; int64_t used; } cases[] = {
                { "user.joe", "user.joe", 9000, 0, 9000 }, { "user.joe", "user.joe", 11000, -1, 9000 },
                { "user.joe", "user.joe.a", 10000, 0, 10000 }, { "user.joe.a", "user.joe", 10241, -1, 10000 },
                { "user.joe.a", "user.joe", 10240, 0, 10240 },
        };

        make(s, "user.joe");
        make(s, "user.joe.a");
        cr_assert_eq(limit(s, "user.joe", 10, 1, -1), 0);
        cr_assert_eq(append(s, "user.joe", 8000, false), 0);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct mailbox *from = mbox_open(s, cases[i].from), *to = mbox_open(s, cases[i].to);
                struct append_item item = { .stage = stage(s, cases[i].octets), .internaldate = INT64_MIN, .savedate = INT64_MIN };
                struct append_result result;
                struct mailbox_status st;
                struct waiter w;
                int rc;

                mailbox_status(from, &st);
                waiter_init_blocking(&w);
                rc = mailbox_replace(from, st.uidnext - 1, to, &item, &result, &w, &err);
                if (rc == 0)
                        rc = waiter_block(&w, &err);
                cr_expect_eq(rc, cases[i].rc, "case %zu: %s", i, err.text);
                stage_unref(&item.stage);
                mailbox_unref(&from);
                mailbox_unref(&to);
                expect_usage(s, "user.joe", cases[i].used, 1, 2);
        }
        store_close(&s);
}
