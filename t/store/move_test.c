/* mboxlist_move - trees to another partition: all of it or none, whatever happens meanwhile, and no directory is left over. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/mboxlist_private.h"
#include "store/relocation.h"
#include "store/store_private.h"
#include "t/store/scratch.h"
#include "util/clock.h"

static void setup(void) { scratch_make(); }
static void teardown(void)
{
        fs_fault = NULL;
        scratch_remove();
}

TestSuite(move, .init = setup, .fini = teardown, .timeout = 300);

static struct err err;
static const char text[] = "From: a@example.org\r\nSubject: hello\r\n\r\nbody\r\n";

static struct store *open_store(void)
{
        char more[300];

        snprintf(more, sizeof more, "partition-second: %s/second\npartition-third: %s/third\ndelete_mode: immediate\n", scratch_dir, scratch_dir);
        return scratch_open(more);
}

static const struct mbentry *find(struct store *s, const char *name)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(s), name);

        cr_assert_not_null(e, "%s", name);
        return e;
}

static struct mailbox *open_mailbox(struct store *s, const char *name)
{
        const struct mbentry *e = find(s, name);
        struct mailbox_ident ident;
        struct mailbox *m;

        cr_assert_eq(mbentry_ident(s, e, &ident, &err), 0);
        cr_assert_eq(mailbox_open(s, &ident, &m, &err), 0, "%s: %s", name, err.text);
        mbentry_unref(&e);
        return m;
}

static void deliver(struct store *s, const char *name)
{
        struct mailbox *m = open_mailbox(s, name);
        struct append_item item = { .internaldate = 1000000, .savedate = INT64_MIN };
        struct append_result result;
        struct waiter w;

        cr_assert_eq(stage_begin(s, store_partition_dir(s, "default"), sizeof text, &item.stage, &err), 0);
        cr_assert_eq(stage_write(item.stage, text, sizeof text - 1, &err), 0);
        cr_assert_eq(stage_finish(item.stage, &err), 0);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_append(m, &item, 1, &result, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        stage_unref(&item.stage);
        mailbox_unref(&m);
}

static void make(struct store *s, const char *name, const char *partition, int messages)
{
        cr_assert_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = name, .partition = partition }, NULL, &err), 0, "%s", err.text);
        while (messages-- > 0)
                deliver(s, name);
}

static uint32_t messages(struct store *s, const char *name)
{
        struct mailbox *m = open_mailbox(s, name);
        struct mailbox_status st;

        mailbox_status(m, &st);
        mailbox_unref(&m);
        return st.messages;
}

static const char *where(struct store *s, const char *name)
{
        static char buf[8][40];
        static unsigned n;
        const struct mbentry *e = find(s, name);
        char *is = buf[n++ % 8];

        snprintf(is, 40, "%s", e->partition);
        mbentry_unref(&e);
        return is;
}

/* How many directories of mailboxes a partition has. */
static unsigned directories(const char *partition)
{
        char path[300];
        unsigned n = 0;
        FILE *f;

        snprintf(path, sizeof path, "find %s/%s -mindepth 3 -maxdepth 3 -type d | wc -l", scratch_dir,
                 strcmp(partition, "default") == 0 ? "mail" : partition);
        f = popen(path, "r");
        must(f && fscanf(f, "%u", &n) == 1);
        pclose(f);
        return n;
}

static unsigned problems;
static char last_problem[500];
static void problem(void *ctx, const char *what)
{
        (void)ctx;
        problems++;
        snprintf(last_problem, sizeof last_problem, "%.499s", what);
}

static void check(struct store *s, bool repair, unsigned want)
{
        problems = 0;
        last_problem[0] = '\0';
        cr_assert_eq(mboxlist_check(store_mboxlist(s), repair, problem, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(problems, want, "%u: %s", problems, last_problem);
}

static unsigned rows(struct store *s)
{
        struct db_cursor *cursor;
        struct span key, value;
        unsigned n = 0;

        cr_assert_eq(db_cursor_open(s->removals_db, NULL, SPAN(""), &cursor, &err), 0);
        while (db_cursor_next(cursor, &key, &value, &err) > 0)
                n += key.p[0] != '!';
        db_cursor_close(&cursor);
        return n;
}

static struct store *live;
static void (*meanwhile)(void);
static unsigned asked;
static bool stop_now;

/* What others do while files are copied. */
static bool stopped(void *ctx)
{
        (void)ctx;
        if (asked++ == 2 && meanwhile)
                meanwhile();
        return stop_now;
}

static unsigned told;
static uint64_t octets;
static void moved(void *ctx, const struct mbentry *from, const char *to, uint64_t n)
{
        (void)ctx;
        (void)to;
        cr_expect_str_eq(from->partition, "default");
        told++;
        octets += n;
}

static int go(struct store *s, const char *name, bool children, const char *partition, const char *from)
{
        struct mboxlist_move what = { .name = name, .with_children = children, .partition = partition, .from = from, .stopped = stopped };

        live = s;
        asked = 0;
        err_clear(&err);
        return mboxlist_move(store_mboxlist(s), &what, &err);
}

static void tree(struct store *s)
{
        make(s, "user.joe", NULL, 3);
        make(s, "user.joe.a", NULL, 2);
        make(s, "user.joe.a.b.c", NULL, 1);             /* user.joe.a.b is an intermediate */
        make(s, "user.joel", NULL, 1);
        make(s, "user.ann", NULL, 1);
}

static void expect_tree(struct store *s, const char *partition)
{
        cr_expect_str_eq(where(s, "user.joe"), partition);
        cr_expect_str_eq(where(s, "user.joe.a"), partition);
        cr_expect_str_eq(where(s, "user.joe.a.b.c"), partition);
        cr_expect_str_eq(where(s, "user.joel"), "default");
        cr_expect_eq(messages(s, "user.joe"), 3);
        cr_expect_eq(messages(s, "user.joe.a"), 2);
        cr_expect_eq(messages(s, "user.joe.a.b.c"), 1);
        cr_expect_eq(messages(s, "user.joel"), 1);
}

Test(move, a_tree_goes_and_what_is_beside_it_stays)
{
        struct store *s = open_store();
        struct mailbox *open;
        struct mboxlist_move what = { .name = "user.joe", .with_children = true, .partition = "SECOND", .moved = moved };

        tree(s);
        open = open_mailbox(s, "user.joe");
        cr_assert_eq(mboxlist_move(store_mboxlist(s), &what, &err), 0, "%s", err.text);
        cr_expect_eq(told, 3);
        cr_expect_gt(octets, 3 * sizeof text);
        expect_tree(s, "second");
        cr_expect_eq(directories("second"), 3);
        cr_expect_eq(directories("default"), 2);
        cr_expect_eq(rows(s), 0);
        check(s, false, 0);
        deliver(s, "user.joe");
        cr_expect_eq(go(s, "user.joe", true, "second", NULL), -1);
        cr_expect_eq(err.code, ERR_EXISTS);
        cr_expect_eq(go(s, "user.nobody", true, "second", NULL), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        cr_expect_eq(go(s, "user.joe.a.b", false, "second", NULL), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND, "an intermediate by itself");
        cr_expect_eq(go(s, "user.joe", true, "nowhere", NULL), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        cr_expect_eq(go(s, "user.joe", true, "third", "default"), -1);
        cr_expect_eq(err.code, ERR_EXISTS);
        cr_assert_eq(go(s, "user.joe.a", false, "default", NULL), 0, "%s", err.text);
        cr_expect_str_eq(where(s, "user.joe.a"), "default");
        cr_expect_str_eq(where(s, "user.joe.a.b.c"), "second");
        cr_assert_eq(go(s, "user.joe", true, "second", NULL), 0, "%s", err.text);
        mailbox_unref(&open);
        store_close(&s);
        s = open_store();
        cr_expect_eq(messages(s, "user.joe"), 4);
        cr_expect_str_eq(where(s, "user.joe.a"), "second");
        cr_expect_eq(directories("default"), 2);
        /* Everybody, from one partition. */
        cr_assert_eq(go(s, "user", true, "third", "default"), 0, "%s", err.text);
        cr_expect_str_eq(where(s, "user.ann"), "third");
        cr_expect_str_eq(where(s, "user.joe"), "second");
        cr_expect_eq(directories("default"), 0);
        check(s, false, 0);
        store_close(&s);
}

static void change_names(void)
{
        struct mboxlist *ml = store_mboxlist(live);

        cr_assert_eq(mboxlist_delete(ml, "user.joe.a", true, &err), 0, "%s", err.text);
        cr_assert_eq(mboxlist_rename(ml, "user.joe.x", "user.joe.y", true, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(mboxlist_rename(ml, "user.joe.out", "user.ann.out", true, NULL, &err), 0, "%s", err.text);
        make(live, "user.joe.new", NULL, 1);
        deliver(live, "user.joe");
        meanwhile = NULL;
}

Test(move, names_that_change_meanwhile)
{
        struct store *s = open_store();

        tree(s);
        make(s, "user.joe.x", NULL, 1);
        make(s, "user.joe.out", NULL, 1);
        meanwhile = change_names;
        cr_assert_eq(go(s, "user.joe", true, "second", NULL), 0, "%s", err.text);
        cr_expect_str_eq(where(s, "user.joe.y"), "second");
        cr_expect_str_eq(where(s, "user.joe.new"), "second");
        cr_expect_str_eq(where(s, "user.ann.out"), "default");
        cr_expect_eq(messages(s, "user.ann.out"), 1);
        cr_expect_eq(messages(s, "user.joe"), 4);
        cr_expect_eq(messages(s, "user.joe.y"), 1);
        cr_expect_eq(directories("second"), 4);
        cr_expect_eq(directories("default"), 3);
        cr_expect_eq(rows(s), 1, "of the mailbox that was deleted, until it is seen to be gone");
        check(s, false, 0);
        cr_assert_eq(store_db_checkpoint(s, &err), 0, "%s", err.text);
        cr_expect_eq(rows(s), 0);
        store_close(&s);
}

Test(move, whoever_stops_it_finds_everything_as_it_was)
{
        struct store *s = open_store();

        tree(s);
        stop_now = true;
        cr_expect_eq(go(s, "user.joe", true, "second", NULL), -1);
        cr_expect_eq(err.code, ERR_BUSY);
        expect_tree(s, "default");
        cr_expect_eq(directories("second"), 0);
        cr_expect_eq(rows(s), 0);
        check(s, false, 0);
        store_close(&s);
}

static void make_more(void)
{
        static unsigned n;
        char name[40];

        snprintf(name, sizeof name, "user.joe.m%u", n++);
        make(live, name, "default", 0);                 /* else it would be made where the others have gone */
}

static unsigned until;
static bool stop_later(void *ctx)
{
        (void)ctx;
        if (until < 100)
                make_more();
        return ++until > 60;
}

/* Who makes mailboxes all the time does not keep others from going. */
Test(move, mailboxes_that_are_made_all_the_time)
{
        struct store *s = open_store();
        struct mboxlist_move what = { .name = "user.joe", .with_children = true, .partition = "second", .stopped = stop_later };

        tree(s);
        live = s;
        cr_expect_eq(mboxlist_move(store_mboxlist(s), &what, &err), -1);
        cr_expect_eq(err.code, ERR_BUSY);
        expect_tree(s, "second");
        check(s, false, 0);
        store_close(&s);
}

/* ---- failures and stops ---- */

static int calls, failing_at, failing_errno;

/* Berkeley DB's own calls have tests of their own: without what it opens to take a transaction back it fails as a whole. */
static int fail_one(const char *call)
{
        if (strncmp(call, "db ", 3) == 0)
                return 0;
        return ++calls == failing_at ? failing_errno : 0;
}

/* A store with the tree, made once. */
static void copy_store(const char *from, const char *to)
{
        char cmd[600];

        snprintf(cmd, sizeof cmd, "rm -rf %s%s && cp -r %s%s %s%s", scratch_dir, to, scratch_dir, from, scratch_dir, to);
        must(system(cmd) == 0);
}

static void make_model(void)
{
        struct store *s = open_store();

        tree(s);
        store_close(&s);
        copy_store("", ".model");
}

static void remove_model(void)
{
        char path[200];

        snprintf(path, sizeof path, "%s.model", scratch_dir);
        fs_remove_tree(path, NULL);
}

static void each_call_fails(int with_errno)
{
        bool reached = true;
        unsigned went = 0;

        make_model();
        for (failing_at = 1; reached; failing_at++) {
                struct store *s;
                int rc;

                copy_store(".model", "");
                s = open_store();
                calls = 0;
                failing_errno = with_errno;
                fs_fault = fail_one;
                rc = go(s, "user.joe", true, "second", NULL);
                fs_fault = NULL;
                reached = calls >= failing_at;
                went += rc == 0;
                cr_expect_str_eq(where(s, "user.joe"), rc == 0 ? "second" : "default", "at call %d: %s", failing_at, err.text);
                expect_tree(s, rc == 0 ? "second" : "default");
                if (with_errno == ENOSPC) {             /* nothing else comes of it */
                        cr_assert_not(db_env_failed(s->env, NULL), "at call %d", failing_at);
                        if (rc < 0 && !store_partition_failed(s, store_partition_dir(s, "second")))
                                cr_assert_eq(go(s, "user.joe", true, "second", NULL), 0, "at call %d: %s", failing_at, err.text);
                        rc = strcmp(where(s, "user.joe"), "second") == 0 ? 0 : -1;
                }
                store_close(&s);
                s = open_store();
                if (rc < 0 && strcmp(where(s, "user.joe"), "second") == 0)
                        rc = 0;                         /* the commit was in doubt */
                expect_tree(s, rc == 0 ? "second" : "default");
                cr_expect_eq(directories("second"), rc == 0 ? 3 : 0, "at call %d", failing_at);
                cr_expect_eq(directories("default"), rc == 0 ? 2 : 5, "at call %d", failing_at);
                check(s, false, 0);
                deliver(s, "user.joe");
                store_close(&s);
        }
        remove_model();
        cr_expect_gt(failing_at, 20);
        cr_expect_gt(went, 0);
}

Test(move, a_full_disk_at_each_call) { each_call_fails(ENOSPC); }
Test(move, a_broken_disk_at_each_call) { each_call_fails(EIO); }

static int stop_one(const char *call)
{
        (void)call;
        if (++calls == failing_at)
                _exit(7);
        return 0;
}

/* kill -9 at each call: it is all there or not at all, and what is left over goes at the next start. */
Test(move, killed_at_each_call)
{
        int status = 7 << 8;
        unsigned before = 0, after = 0;

        make_model();
        for (failing_at = 1; status == 7 << 8; failing_at++) {
                struct store *s;
                bool went;
                pid_t pid;

                copy_store(".model", "");
                if ((pid = fork()) == 0) {
                        s = open_store();
                        calls = 0;
                        fs_fault = stop_one;
                        _exit(go(s, "user.joe", true, "second", NULL) == 0 ? 0 : 1);
                }
                cr_assert_eq(waitpid(pid, &status, 0), pid);
                cr_assert(status == 7 << 8 || status == 0, "%d: %x", failing_at, status);
                s = open_store();
                went = strcmp(where(s, "user.joe"), "second") == 0;
                cr_assert(went || status, "at the end");
                before += !went;
                after += went;
                expect_tree(s, went ? "second" : "default");
                cr_expect_eq(directories("second"), went ? 3 : 0, "call %d", failing_at);
                cr_expect_eq(directories("default"), went ? 2 : 5, "call %d", failing_at);
                check(s, false, 0);
                if (failing_at % 5 == 0)
                        cr_assert_eq(go(s, "user.joe", true, went ? "default" : "second", NULL), 0, "%s", err.text);
                store_close(&s);
        }
        remove_model();
        cr_expect_gt(before, 20);
        cr_expect_gt(after, 0);
}

/* ---- an older list ---- */

/* Only a dump is left of the list, from before the mailboxes went. */
static struct store *restore_dumps(void)
{
        char cmd[400];

        snprintf(cmd, sizeof cmd, "cd %s/conf && rm -rf db/* db.backup/tables*", scratch_dir);
        must(system(cmd) == 0);
        return open_store();
}

Test(move, a_list_from_before_it)
{
        struct store *s = open_store();
        char cmd[400];

        tree(s);
        cr_assert_eq(store_db_checkpoint(s, &err), 0, "%s", err.text);
        cr_assert_eq(go(s, "user.joe", true, "second", NULL), 0, "%s", err.text);
        deliver(s, "user.ann");
        /* The stop would make a dump of its own. */
        if (fork() == 0) {
                cr_assert_eq(go(s, "user.ann", true, "third", NULL), 0);
                _exit(0);
        }
        wait(NULL);
        snprintf(cmd, sizeof cmd, "cp -r %s/conf/db.backup %s/kept", scratch_dir, scratch_dir);
        must(system(cmd) == 0);
        store_close(&s);
        snprintf(cmd, sizeof cmd, "rm -rf %s/conf/db.backup && mv %s/kept %s/conf/db.backup", scratch_dir, scratch_dir, scratch_dir);
        must(system(cmd) == 0);
        s = restore_dumps();
        expect_tree(s, "second");
        cr_expect_eq(messages(s, "user.joe"), 3);
        check(s, false, 0);
        store_close(&s);
}

/* A copy of an older list, put in place by hand: the check tells, and repairs. */
Test(move, listed_where_it_is_not)
{
        struct store *s = open_store();
        const struct mbentry *e;
        struct mbentry wrong;

        tree(s);
        cr_assert_eq(go(s, "user.joe", true, "second", NULL), 0, "%s", err.text);
        for (int i = 0; i < 2; i++) {
                e = find(s, i ? "user.joe.a" : "user.joe");
                wrong = *e;
                names_lock(store_mboxlist(s), e->name, NULL);
                cr_assert_eq(mboxlist_set_partition(store_mboxlist(s), &wrong, i ? "third" : "default", &err), 0);
                names_unlock(store_mboxlist(s), e->name, NULL);
                mbentry_unref(&e);
        }
        store_close(&s);
        s = open_store();
        check(s, false, 2);
        check(s, true, 2);
        check(s, false, 0);
        expect_tree(s, "second");
        store_close(&s);
}

/* A directory of a mailbox that is elsewhere, and whole there: somebody's copy. */
Test(move, a_copy_that_nobody_knows_of)
{
        struct store *s = open_store();
        const struct mbentry *e;
        char cmd[600];

        tree(s);
        e = find(s, "user.joe");
        snprintf(cmd, sizeof cmd, "mkdir -p %s/third/%c/%c && cp -r %s/mail/%c/%c/%s %s/third/%c/%c/", scratch_dir, e->uniqueid[0], e->uniqueid[1],
                 scratch_dir, e->uniqueid[0], e->uniqueid[1], e->uniqueid, scratch_dir, e->uniqueid[0], e->uniqueid[1]);
        mbentry_unref(&e);
        must(system(cmd) == 0);
        check(s, false, 1);
        cr_expect_not_null(strstr(last_problem, "a copy of user.joe"), "%s", last_problem);
        check(s, true, 2);
        check(s, false, 0);
        expect_tree(s, "default");
        store_close(&s);
}

/* More than go together in one transaction. */
Test(move, one_group_after_the_other)
{
        struct store *s = open_store();
        char name[40];

        store_mboxlist(s)->move_together = 7;
        for (int i = 0; i < 40; i++) {
                snprintf(name, sizeof name, "lists.l%d", i);
                make(s, name, NULL, i % 10 == 0);
        }
        cr_assert_eq(go(s, "lists", true, "second", NULL), 0, "%s", err.text);
        for (int i = 0; i < 40; i++) {
                snprintf(name, sizeof name, "lists.l%d", i);
                cr_assert_str_eq(where(s, name), "second");
        }
        cr_expect_eq(directories("default"), 0);
        cr_expect_eq(rows(s), 0);
        cr_expect_eq(messages(s, "lists.l10"), 1);
        store_close(&s);
}
