/* role - every transition, what is on the disk after it, a file that cannot be read or written, changes that are under way, the fence */
#include "replication/role.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/change.h"
#include "store/mboxlist.h"
#include "store/user.h"
#include "t/store/conf_text.h"
#include "util/fs.h"

static char dir[100], configdir[120], file[160];
static struct err err;
static struct store *store;
static struct conf *conf;
static unsigned told;

static const struct role_epoch five_a = { 5, "aaaaaaaaaaaaaaaa" }, five_b = { 5, "bbbbbbbbbbbbbbbb" }, six = { 6, "cccccccccccccccc" }, four = { 4, "dddddddddddddddd" };

static void changed(void) { told++; }

static void open_all(const char *options, bool daemon)
{
        struct store_options o = { .no_threads = true };
        char text[1000];

        snprintf(text, sizeof text, "configdirectory: %s\npartition-default: %s/mail\ndefaultpartition: default\nsync_log: yes\nsync_host: other.example.org:2005\n%s",
                 configdir, dir, options);
        o.conf = conf = conf_text(text);
        cr_assert_eq(store_open(&o, &store, &err), 0, "%s", err.text);
        role_tell(changed);
        role_open(store, conf, daemon);
}

static void close_all(void)
{
        role_close();
        store_close(&store);
        conf_unref(&conf);
}

static void again(bool daemon)
{
        close_all();
        open_all("sync_failover: yes\n", daemon);
}

static void begin(void)
{
        snprintf(dir, sizeof dir, "%s/role-test.%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
        snprintf(configdir, sizeof configdir, "%s/conf", dir);
        snprintf(file, sizeof file, "%s/sync/role", configdir);
        fs_remove_tree(dir, NULL);
        fs_mkdir_p(dir, 0700, NULL);
        err = (struct err)ERR_INIT;
        open_all("sync_failover: yes\n", false);
        fs_mkdir_p(configdir, 0700, NULL);
}

static void end(void)
{
        close_all();
        fs_remove_tree(dir, NULL);
}

TestSuite(role, .init = begin, .fini = end, .timeout = 60);

static enum role role_now(void)
{
        struct role_state s;

        role_get(&s);
        return s.role;
}

#define EXPECT_ROLE(r) cr_expect_eq(role_now(), r, "%s", role_name(role_now()))
#define EXPECT_ERR(call, e) do { err = (struct err)ERR_INIT; cr_expect_eq(call, -1); cr_expect_eq(err.code, e, "%s", err.text); } while (0)

/* Changes of clients, and whether each is let through. */
static void expect_fence(bool fenced)
{
        struct mbox_create what = { .name = "user.joe", .acl = "joe\tlrswi\t" };
        int rc;

        cr_expect_eq(store_is_fenced(store), fenced);
        cr_expect_eq(role_is_restricted(), fenced);
        err = (struct err)ERR_INIT;
        rc = mboxlist_create(store_mboxlist(store), &what, NULL, &err);
        cr_expect_eq(rc, fenced ? -1 : 0, "%s", err.text);
        if (fenced)
                cr_expect_eq(err.code, ERR_FENCED);
        else
                cr_expect_eq(mboxlist_delete(store_mboxlist(store), "user.joe", true, &err), 0, "%s", err.text);
        rc = sub_set(store, "joe", "user.joe", !fenced, &err);
        cr_expect_eq(rc, fenced ? -1 : 0);
        if (!fenced)
                cr_expect_eq(sub_set(store, "joe", "user.joe", false, &err), 0);
}

static uint64_t hello(const struct role_epoch *e, enum role_mode mode, int rc)
{
        struct role_state mine;
        uint64_t turn;

        err = (struct err)ERR_INIT;
        cr_expect_eq(role_hello(e, mode, &mine, &turn, &err), rc, "%s", err.text);
        cr_expect_eq(turn != 0, rc == 0);
        if (rc < 0)
                cr_expect_eq(err.code, ERR_FENCED);
        return turn;
}

Test(role, of_nobody_changes_nothing)
{
        EXPECT_ROLE(ROLE_NONE);
        expect_fence(true);                     /* also where the file of a former master got lost */
        EXPECT_ERR(role_promote(&five_a, &err), ERR_PERM);
        EXPECT_ERR(role_join(&err), ERR_PERM);
        EXPECT_ERR(role_may_replicate(&err), ERR_UNAVAILABLE);
        cr_expect_eq(role_enter(0, &err), 0);   /* a peer as ever */
        role_leave();
        cr_expect(!fs_exists(file));
}

Test(role, without_the_option_is_none)
{
        cr_assert_eq(role_init(&err), 0, "%s", err.text);
        hello(&six, ROLE_NEVER, -1);
        expect_fence(true);
        close_all();
        open_all("", true);
        cr_expect(!role_on());
        expect_fence(false);
        cr_expect_eq(role_may_replicate(&err), 0);
        cr_expect_eq(role_enter(0, &err), 0);
        role_leave();
}

Test(role, a_master_is_made_once_and_asks_after_a_start)
{
        struct role_state s;

        cr_assert_eq(role_init(&err), 0, "%s", err.text);
        EXPECT_ROLE(ROLE_MASTER);
        cr_expect_eq(told, 1);
        expect_fence(false);
        cr_expect_eq(role_may_replicate(&err), 0);
        EXPECT_ERR(role_init(&err), ERR_EXISTS);
        EXPECT_ERR(role_join(&err), ERR_PERM);
        again(false);                           /* a program asks nobody */
        expect_fence(false);
        again(true);
        expect_fence(true);
        role_get(&s);
        cr_expect(s.asking);
        role_accepted(&five_a, ROLE_NEVER);     /* of another epoch than ours: a word that came late */
        expect_fence(true);
        role_accepted(&s.epoch, ROLE_NEVER);
        expect_fence(false);
}

/* What the replica was told holds until it has been told of less, whatever the configuration says. */
Test(role, a_promise_is_kept)
{
        static const char strict[] = "sync_failover: yes\nsync_mode: synchronous\nsync_degrade_after: never\n";
        static const char *const weaker[] = { "sync_failover: yes\nsync_mode: synchronous\nsync_degrade_after: 1s\n", "sync_failover: yes\n" };
        struct role_state s;

        close_all();
        open_all(strict, false);
        cr_assert_eq(role_init(&err), 0, "%s", err.text);
        role_get(&s);
        for (int i = 0; i < 2; i++) {
                struct conf *now = NULL;
                char text[1000];

                cr_assert_eq(role_promise(&err), 0, "%s", err.text);
                role_accepted(&s.epoch, ROLE_NEVER);
                expect_fence(false);
                snprintf(text, sizeof text, "configdirectory: %s\npartition-default: %s/mail\ndefaultpartition: default\nsync_log: yes\nsync_host: other\n%s", configdir, dir, weaker[i]);
                now = conf_text(text);
                role_reconfigure(now);          /* HUP */
                conf_unref(&now);
                expect_fence(true);
                role_accepted(&s.epoch, ROLE_UNTOLD);
                expect_fence(true);
                role_accepted(&s.epoch, ROLE_DEGRADES);
                expect_fence(false);
                cr_assert_eq(role_promise(&err), 0, "%s", err.text);
                close_all();
                open_all(weaker[i], true);      /* a start */
                expect_fence(true);
                role_accepted(&s.epoch, ROLE_NEVER);    /* from before */
                expect_fence(true);
                role_accepted(&s.epoch, ROLE_ASYNCHRONOUS);
                expect_fence(false);
                EXPECT_ERR(role_alone(&err), ERR_PERM);
                close_all();
                open_all(strict, false);
        }
        cr_assert_eq(role_promise(&err), 0, "%s", err.text);
        close_all();
        open_all(weaker[1], true);
        expect_fence(true);
        cr_assert_eq(role_alone(&err), 0, "%s", err.text);
        expect_fence(false);
        role_get(&s);
        cr_expect_eq(s.epoch.number, 2);
        again(false);
        role_get(&s);
        cr_expect(!s.promised);
}

Test(role, a_replica_follows_its_master_and_higher_ones)
{
        struct role_state s;
        uint64_t turn = hello(&five_a, ROLE_ASYNCHRONOUS, 0);

        EXPECT_ROLE(ROLE_REPLICA);
        expect_fence(true);
        cr_expect_eq(role_enter(turn, &err), 0);
        role_leave();
        EXPECT_ERR(role_enter(0, &err), ERR_FENCED);
        EXPECT_ERR(role_enter(turn + 1, &err), ERR_FENCED);
        hello(&four, ROLE_NEVER, -1);
        hello(&five_b, ROLE_NEVER, -1);
        role_get(&s);
        cr_expect_eq(s.mode, ROLE_ASYNCHRONOUS);
        hello(&five_a, ROLE_NEVER, 0);
        hello(&five_a, ROLE_UNTOLD, 0);
        role_get(&s);
        cr_expect_eq(s.mode, ROLE_NEVER);
        again(true);
        EXPECT_ROLE(ROLE_REPLICA);
        expect_fence(true);
        role_get(&s);
        cr_expect_eq(s.mode, ROLE_NEVER);
        cr_expect(role_epoch_equal(&s.epoch, &five_a));
        hello(&six, ROLE_DEGRADES, 0);
        EXPECT_ERR(role_enter(turn, &err), ERR_FENCED);         /* of the former master */
        role_get(&s);
        cr_expect(role_epoch_equal(&s.epoch, &six));
        cr_expect_eq(s.mode, ROLE_DEGRADES);
}

Test(role, a_promoted_one_does_not_listen_to_the_former)
{
        struct role_epoch e;
        uint64_t turn = hello(&five_a, ROLE_NEVER, 0);
        struct role_state theirs = { .role = ROLE_MASTER, .epoch = six };

        EXPECT_ERR(role_promote(&five_b, &err), ERR_PERM);      /* not above */
        EXPECT_ROLE(ROLE_REPLICA);
        role_next_epoch(&e);
        cr_expect_eq(e.number, 6);
        cr_expect(role_epoch_valid(&e));
        cr_assert_eq(role_promote(&e, &err), 0, "%s", err.text);
        EXPECT_ROLE(ROLE_MASTER);
        expect_fence(false);
        EXPECT_ERR(role_enter(turn, &err), ERR_FENCED);
        hello(&five_a, ROLE_NEVER, -1);
        EXPECT_ROLE(ROLE_MASTER);
        again(false);
        EXPECT_ROLE(ROLE_MASTER);
        /* Another one of the same number. */
        role_refused(&theirs);
        EXPECT_ROLE(ROLE_MASTER);
        expect_fence(true);
        cr_assert_eq(role_join(&err), 0, "%s", err.text);
        EXPECT_ROLE(ROLE_REPLICA);
        hello(&six, ROLE_ASYNCHRONOUS, 0);
}

Test(role, a_master_that_was_replaced_is_fenced_until_it_joins)
{
        struct role_state theirs = { .role = ROLE_MASTER, .epoch = five_a }, s;

        cr_assert_eq(role_init(&err), 0, "%s", err.text);
        role_refused(&theirs);
        EXPECT_ROLE(ROLE_FENCED);
        expect_fence(true);
        EXPECT_ERR(role_may_replicate(&err), ERR_UNAVAILABLE);
        hello(&six, ROLE_NEVER, -1);            /* higher still, and not joined */
        again(true);
        EXPECT_ROLE(ROLE_FENCED);
        expect_fence(true);
        EXPECT_ERR(role_promote(&six, &err), ERR_PERM);
        cr_assert_eq(role_join(&err), 0, "%s", err.text);
        EXPECT_ROLE(ROLE_REPLICA);
        role_get(&s);
        cr_expect(!s.heard);
        hello(&five_a, ROLE_NEVER, -1);         /* not of the highest that was heard of */
        hello(&six, ROLE_NEVER, 0);
        expect_fence(true);
}

Test(role, a_master_learns_from_a_call)
{
        cr_assert_eq(role_init(&err), 0, "%s", err.text);
        hello(&five_a, ROLE_NEVER, -1);
        EXPECT_ROLE(ROLE_FENCED);
        expect_fence(true);
}

Test(role, a_damaged_file_fences)
{
        struct role_state s;

        cr_assert_eq(role_init(&err), 0, "%s", err.text);
        close_all();
        cr_assert_eq(truncate(file, 20), 0);
        open_all("sync_failover: yes\n", true);
        role_get(&s);
        cr_expect(s.broken[0]);
        expect_fence(true);
        EXPECT_ERR(role_init(&err), ERR_CORRUPT);
        EXPECT_ERR(role_enter(0, &err), ERR_FENCED);
        EXPECT_ERR(role_hello(&five_a, ROLE_NEVER, &s, &(uint64_t){ 0 }, &err), ERR_FENCED);
}

/* The disk takes nothing: nobody becomes master, and no fence is left out. */
Test(role, a_file_that_cannot_be_written)
{
        struct role_state theirs = { .role = ROLE_MASTER, .epoch = six };
        char in[200];

        hello(&five_a, ROLE_NEVER, 0);
        cr_assert_eq(unlink(file), 0);
        snprintf(in, sizeof in, "%s/in", file);
        cr_assert_eq(mkdir(file, 0700), 0);
        cr_assert_eq(mkdir(in, 0700), 0);
        err = (struct err)ERR_INIT;
        cr_expect_eq(role_promote(&six, &err), -1);
        EXPECT_ROLE(ROLE_REPLICA);
        expect_fence(true);
        fs_remove_tree(file, NULL);
        cr_assert_eq(role_promote(&(struct role_epoch){ 5 + 1, "eeeeeeeeeeeeeeee" }, &err), 0, "%s", err.text);
        cr_assert_eq(unlink(file), 0);
        cr_assert_eq(mkdir(file, 0700), 0);
        cr_assert_eq(mkdir(in, 0700), 0);
        theirs.epoch.number = 7;
        role_refused(&theirs);
        EXPECT_ROLE(ROLE_FENCED);
        expect_fence(true);
        err = (struct err)ERR_INIT;
        cr_expect_eq(role_join(&err), -1);
        EXPECT_ROLE(ROLE_FENCED);
        expect_fence(true);
        fs_remove_tree(file, NULL);
}

static void *promote(void *arg)
{
        *(int *)arg = role_promote(&six, NULL);
        return NULL;
}

Test(role, a_change_under_way_is_waited_for)
{
        uint64_t turn = hello(&five_a, ROLE_NEVER, 0);
        int rc = 1;
        pthread_t thread;

        cr_assert_eq(role_enter(turn, &err), 0);
        cr_assert_eq(pthread_create(&thread, NULL, promote, &rc), 0);
        usleep(100 * 1000);
        EXPECT_ROLE(ROLE_REPLICA);
        cr_expect_eq(role_enter(turn, &err), -1);       /* no new ones meanwhile */
        role_leave();
        pthread_join(thread, NULL);
        cr_expect_eq(rc, 0);
        EXPECT_ROLE(ROLE_MASTER);
}

static int drained(void *ctx, struct err *e)
{
        cr_expect(store_is_fenced(store));
        cr_expect(!role_is_restricted());       /* what was begun is acknowledged */
        return ctx ? err_set(e, ERR_TIMEOUT, "not yet") : 0;
}

Test(role, a_master_hands_over)
{
        cr_assert_eq(role_init(&err), 0, "%s", err.text);
        EXPECT_ERR(role_hand_over(&five_a, drained, &err, &err), ERR_TIMEOUT);
        EXPECT_ROLE(ROLE_MASTER);
        expect_fence(false);
        cr_assert_eq(role_hand_over(&five_a, drained, NULL, &err), 0, "%s", err.text);
        EXPECT_ROLE(ROLE_REPLICA);
        expect_fence(true);
        EXPECT_ERR(role_hand_over(&six, drained, NULL, &err), ERR_FENCED);
        hello(&five_a, ROLE_NEVER, 0);
        again(true);
        EXPECT_ROLE(ROLE_REPLICA);
}

Test(role, the_fence_lets_replication_through)
{
        struct mbox_create what = { .name = "user.joe", .acl = "joe\tlrswi\t" };
        unsigned was;

        hello(&five_a, ROLE_NEVER, 0);
        EXPECT_ERR(mboxlist_create(store_mboxlist(store), &what, NULL, &err), ERR_FENCED);
        was = change_mark(CHANGE_REPLICATED);
        err = (struct err)ERR_INIT;
        cr_expect_eq(mboxlist_create(store_mboxlist(store), &what, NULL, &err), 0, "%s", err.text);
        change_mark(was);
        EXPECT_ERR(mboxlist_delete(store_mboxlist(store), "user.joe", true, &err), ERR_FENCED);
}
