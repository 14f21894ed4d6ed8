/* rolling - order of work, promotion, blame, quarantine, what a stop leaves (csync, section 12), with a replica that does as it is told */
#include "replication/rolling.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/mboxlist.h"
#include "t/replication/fake_peer.h"
#include "t/store/conf_text.h"
#include "util/clock.h"
#include "util/fs.h"

static char dir[100], configdir[120];
static struct err err;
static struct store *store;
static struct conf_live *live;
static struct sync_log *sync_log;

static void open_all(const char *options)
{
        struct store_options o = { .no_threads = false };
        char text[1000];

        snprintf(text, sizeof text, "configdirectory: %s\npartition-default: %s/mail\ndefaultpartition: default\nsync_log: yes\nsync_host: fake\n"
                 "sync_repeat_interval: 0\n%s", configdir, dir, options);
        o.conf = conf_text(text);
        cr_assert_eq(store_open(&o, &store, &err), 0, "%s", err.text);
        cr_assert_eq(sync_log_open(&(struct sync_log_options){ .store = store, .conf = o.conf, .threads = true, .written = rolling_written }, &sync_log, &err),
                     0, "%s", err.text);
        live = conf_live_create(o.conf);
}

static void close_all(void)
{
        rolling_stop(NULL);
        sync_log_store_closing(sync_log);
        store_close(&store);
        sync_log_close(&sync_log);
        conf_live_destroy(&live);
}

static void begin(void)
{
        snprintf(dir, sizeof dir, "%s/rolling-test.%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
        snprintf(configdir, sizeof configdir, "%s/conf", dir);
        fs_remove_tree(dir, NULL);
        fs_mkdir_p(dir, 0700, NULL);
        err = (struct err)ERR_INIT;
        open_all("");
}

static void end(void)
{
        close_all();
        fs_remove_tree(dir, NULL);
}
TestSuite(rolling, .init = begin, .fini = end, .timeout = 60);

static struct rolling_options options(void)
{
        return (struct rolling_options){ .store = store, .live = live, .log = sync_log, .peer = &fake_peer, .interval_ms = 0 };
}

static void create(const char *name)
{
        cr_assert_eq(mboxlist_create(store_mboxlist(store), &(struct mbox_create){ .name = name }, NULL, &err), 0, "%s", err.text);
}

/* The log is this and nothing else, and there is nothing to compare. */
static void prepare(const char *lines)
{
        struct str path = STR_INIT;

        usleep(20000);                          /* what the log's thread still has to write */
        sync_log_path(configdir, NULL, "log", &path);
        unlink(path.data);
        str_clear(&path);
        sync_log_path(configdir, NULL, "state", &path);
        if (!fs_exists(path.data))
                cr_assert_eq(fs_replace(path.data, "{\"version\":1,\"quarantine\":[]}", 29, 0600, &err), 0, "%s", err.text);
        cr_assert_eq(sync_log_append(configdir, NULL, span_of(lines), false, &err), 0, "%s", err.text);
        str_deinit(&path);
}

/* Run it once. Returns rolling_run()'s result. */
static int run(const char *lines)
{
        struct rolling_options o = options();

        prepare(lines);
        o.once = true;
        err_clear(&err);
        return rolling_run(&o, NULL, NULL, &err);
}

static void expect_said(const char *what)
{
        char *said = fake_take();

        cr_expect_str_eq(said, what, "asked:\n%s\nnot:\n%s", said, what);
        free(said);
}

/* The quarantine, in the file. */
static unsigned in_file(const char *item, const char *reason)
{
        struct str path = STR_INIT, text = STR_INIT;
        unsigned n = 0;
        json_t *j;

        sync_log_path(configdir, NULL, "state", &path);
        cr_assert_eq(fs_slurp(path.data, 1 << 20, &text, &err), 0, "%s", err.text);
        j = json_loadb(text.data, text.len, 0, NULL);
        cr_assert(j);
        for (size_t i = 0; i < json_array_size(json_object_get(j, "quarantine")); i++) {
                json_t *one = json_array_get(json_object_get(j, "quarantine"), i);

                n += (!item || strcmp(json_string_value(json_object_get(one, "item")), item) == 0) &&
                     (!reason || strstr(json_string_value(json_object_get(one, "reason")), reason) != NULL);
        }
        json_decref(j);
        str_deinit(&text);
        str_deinit(&path);
        return n;
}

Test(rolling, a_log_is_done_in_order_and_without_doubles)
{
        cr_expect_eq(run("UNUSER gone\nUSER moved\nMETA sieve\nSIEVE sieve\nUNMAILBOX user.joe.old\nSUB joe user.joe\nUNSUB joe user.joe\nSEEN bea someid\n"
                         "ANNOTATION \"\"\nQUOTA user.joe\nAPPEND user.joe\nMAILBOX user.joe\nMAILBOX shared.x\nMAILBOX user.ann.a\nMAILBOX user.joe.b\n"
                         "DOUBLEMAILBOX user.joe shared.y\nMAILBOX user.joe\nrubbish\nRENAME user.ann.a user.bea.a\n"
                         "MAILBOX DELETED.user.ann.old.6B0242FA\nQUOTA user.joe\n"), 0, "%s", err.text);
        expect_said("MAILBOXES user.joe user.joe.b shared.y\nMAILBOXES shared.x\n"
                    "MAILBOXES user.ann.a user.bea.a DELETED.user.ann.old.6B0242FA\nMAILBOXES user.ann.a user.bea.a\n"
                    "QUOTA user.joe\nANNOTATION \nSEEN bea someid\nSUB joe user.joe\nUNMAILBOX user.joe.old\nMETA sieve\nUSER moved\nUNUSER gone\n");
}

Test(rolling, what_a_user_includes_is_superfluous)
{
        cr_expect_eq(run("SEEN a x\nSUB a m\nMETA a\nUSER a\nSEEN b x\nSUB b m\nMETA b\nSEEN c x\nUSER c\nMETA c\nUNUSER c\nSEEN d x\n"), 0);
        expect_said("SEEN d x\nMETA b\nUSER a\nUNUSER c\n");
}

Test(rolling, failures_are_promoted)
{
        const struct mbentry *e;
        char lines[200], what[400];

        create("user.joe");
        e = mboxlist_find(store_mboxlist(store), "user.joe");
        fake_set(fake.fails, "MAILBOXES");
        cr_expect_eq(run("MAILBOX user.joe\n"), 0, "%s", err.text);
        expect_said("MAILBOXES user.joe\nUSER joe\n");
        fake_set(fake.fails, "SEEN");
        snprintf(lines, sizeof lines, "SEEN joe %s\nSEEN bea %s\n", e->uniqueid, e->uniqueid);
        cr_expect_eq(run(lines), 0);
        snprintf(what, sizeof what, "SEEN joe %s\nSEEN bea %s\nMETA bea\nUSER joe\n", e->uniqueid, e->uniqueid);
        expect_said(what);
        fake_set(fake.fails, "SUB");
        cr_expect_eq(run("SUB joe user.x\n"), 0);
        expect_said("SUB joe user.x\nMETA joe\n");
        fake_set(fake.fails, "META");
        cr_expect_eq(run("META joe\n"), 0);
        expect_said("META joe\nUSER joe\n");
        mbentry_unref(&e);
}

Test(rolling, a_mailbox_that_fails_is_found_and_the_others_are_done)
{
        create("user.joe");
        create("user.joe.bad");
        create("user.joe.good");
        fake_set(fake.fails, "joe.bad");
        cr_expect_eq(run("MAILBOX user.joe\nMAILBOX user.joe.bad\nMAILBOX user.joe.good\nMAILBOX user.ann\n"), 0, "%s", err.text);
        expect_said("MAILBOXES user.joe user.joe.bad user.joe.good\nMAILBOXES user.ann\nUSER joe\n");    /* here USER does not name it */
        fake_set(fake.fails, "joe");
        cr_expect_eq(run("MAILBOX user.joe.bad\n"), -1);
        free(fake_take());
        cr_expect_eq(in_file("USER joe", "NOTSUPPORTED"), 1);
        fake_set(fake.fails, "");
}

Test(rolling, of_shared_mailboxes_only_the_one_is_quarantined)
{
        fake_set(fake.fails, "shared.b");
        cr_expect_eq(run("MAILBOX shared.a\nMAILBOX shared.b\nMAILBOX shared.c\nMAILBOX shared.d\nMAILBOX shared.e\n"), -1);
        expect_said("MAILBOXES shared.a shared.b shared.c shared.d shared.e\nMAILBOXES shared.a shared.b\nMAILBOXES shared.c shared.d shared.e\n"
                    "MAILBOXES shared.a\nMAILBOXES shared.b\n");
        cr_expect_eq(in_file("MAILBOX shared.b", "IMAP_MAILBOX_NOTSUPPORTED"), 1);
        cr_expect_eq(in_file(NULL, NULL), 1);
        /* It is left out from now on, and others with it are not. */
        cr_expect_eq(run("MAILBOX shared.a\nMAILBOX shared.b\n"), 0, "%s", err.text);
        expect_said("MAILBOXES shared.a\n");
}

Test(rolling, what_the_replica_hangs_up_at_waits_for_the_others_and_is_quarantined_at_the_third_time)
{
        fake_set(fake.hangs_up, "joe.bad");
        cr_expect_eq(run("MAILBOX user.joe.bad\nMAILBOX user.ann\nQUOTA user.ann\n"), -1);
        expect_said("MAILBOXES user.joe.bad\nMAILBOXES user.ann\nQUOTA user.ann\nMAILBOXES user.joe.bad\nMAILBOXES user.joe.bad\n");
        cr_expect_eq(in_file("MAILBOX user.joe.bad", "hung up"), 1);
        cr_expect_eq(in_file(NULL, NULL), 1);
}

Test(rolling, of_a_group_that_it_hangs_up_at_only_one_is_quarantined)
{
        fake_set(fake.hangs_up, "joe.bad");
        cr_expect_eq(run("MAILBOX user.joe\nMAILBOX user.joe.bad\nMAILBOX user.joe.c\nMAILBOX user.joe.d\n"), -1);
        free(fake_take());
        cr_expect_eq(in_file("MAILBOX user.joe.bad", "hung up"), 1);
        cr_expect_eq(in_file(NULL, NULL), 1);
}

Test(rolling, a_locked_item_is_put_off_and_not_a_failure)
{
        fake_set(fake.locked, "USER joe");
        cr_expect_eq(run("USER joe\n"), -1);
        cr_expect_eq(in_file("USER joe", "LOCKED"), 1);
}

static bool log_is_there(const char *file)
{
        struct str path = STR_INIT;
        bool there;

        sync_log_path(configdir, NULL, file, &path);
        there = fs_exists(path.data);
        str_deinit(&path);
        return there;
}

Test(rolling, what_cannot_be_noted_as_quarantined_stays_in_the_log)
{
        struct str path = STR_INIT;

        cr_expect_eq(run("QUOTA a\n"), 0, "%s", err.text);
        free(fake_take());
        fake_set(fake.fails, "QUOTA");
        sync_log_path(configdir, NULL, "state", &path);
        prepare("QUOTA b\n");
        unlink(path.data);
        cr_assert_eq(mkdir(path.data, 0700), 0);                /* nothing can be written there */
        cr_expect_eq(rolling_run(&(struct rolling_options){ .store = store, .live = live, .peer = &fake_peer, .once = true }, NULL, NULL, &err), -1);
        cr_expect(log_is_there("log-run"));
        cr_assert_eq(rmdir(path.data), 0);
        cr_expect_eq(rolling_run(&(struct rolling_options){ .store = store, .live = live, .peer = &fake_peer, .once = true }, NULL, NULL, &err), -1);
        cr_expect(!log_is_there("log-run"));
        cr_expect_eq(in_file("QUOTA b", "NOTSUPPORTED"), 1);
        str_deinit(&path);
}

Test(rolling, a_file_is_done_and_stays)
{
        struct rolling_options o = options();
        char path[200];

        prepare("MAILBOX user.log\n");
        snprintf(path, sizeof path, "%s/file", dir);
        cr_assert_eq(fs_replace(path, "MAILBOX user.file\n", 18, 0600, &err), 0);
        o.once = true;
        o.fd = open(path, O_RDONLY);
        cr_expect_eq(rolling_run(&o, NULL, NULL, &err), 0, "%s", err.text);
        expect_said("MAILBOXES user.file\n");
        cr_expect(fs_exists(path));
}

/* ---- with a thread ---- */

struct look { const char *channel; struct rolling_status status; bool found; char error[200]; };

static void look_at(void *ctx, const struct rolling_status *s)
{
        struct look *l = ctx;

        if (strcmp(s->channel, l->channel) == 0) {
                l->status = *s;
                l->found = true;
                snprintf(l->error, sizeof l->error, "%s", s->error);
        }
}

static struct look look(const char *channel)
{
        struct look l = { .channel = channel };

        rolling_each(look_at, &l);
        cr_assert(l.found);
        return l;
}

#define WAIT(cond) do { \
        for (int i_ = 0; i_ < 10000 && !(cond); i_++) \
                usleep(1000); \
        cr_assert(cond); \
} while (0)

static bool has_said(const char *what)
{
        bool yes;

        mutex_lock(&fake.lock);
        yes = strstr(fake.said.data, what) != NULL;
        mutex_unlock(&fake.lock);
        return yes;
}

static bool is_idle(void)
{
        struct look l = look("");

        return l.status.state == ROLLING_IDLE && !l.status.lag_ms && !l.status.events && !l.status.comparing;
}

static void start(void)
{
        struct rolling_options o = options();

        prepare("");
        cr_assert_eq(rolling_start(&o, &err), 0, "%s", err.text);
        WAIT(is_idle());
}

Test(rolling, a_commit_is_told_at_once)
{
        uint64_t before;

        start();
        cr_expect_eq(rolling_start(&(struct rolling_options){ .store = store, .live = live, .peer = &fake_peer }, &err), -1);
        cr_expect_eq(err.code, ERR_EXISTS);
        for (int i = 0; i < 20; i++) {
                char name[40], what[60];

                snprintf(name, sizeof name, "user.u%d", i);
                snprintf(what, sizeof what, "MAILBOXES %s\n", name);
                create(name);
                before = clock_mono_ms();
                WAIT(has_said(what));
                cr_expect_lt(clock_mono_ms() - before, 500);
        }
        WAIT(is_idle());
        cr_expect_eq(look("").status.items, 20);
        cr_expect_eq(look("").status.lag_counts[ROLLING_LAG_BUCKETS - 1], 0);
}

Test(rolling, what_another_program_logs_is_found)
{
        start();
        cr_assert_eq(sync_log_append(configdir, NULL, SPAN("USER by-hand\n"), false, &err), 0);
        WAIT(has_said("USER by-hand\n"));
}

Test(rolling, between_two_runs_is_the_interval_unless_somebody_is_in_a_hurry)
{
        struct rolling_options o = options();
        uint64_t before;

        prepare("");
        o.interval_ms = 3000;
        cr_assert_eq(rolling_start(&o, &err), 0);
        usleep(50000);
        create("user.a");
        WAIT(has_said("user.a\n"));
        before = clock_mono_ms();
        create("user.b");
        usleep(300000);
        cr_expect(!has_said("user.b"));
        cr_expect_gt(look("").status.lag_ms, 200);
        cr_expect_eq(rolling_now(NULL), 1);
        WAIT(has_said("user.b\n"));
        cr_expect_lt(clock_mono_ms() - before, 2000);
}

Test(rolling, a_quarantined_item_does_not_hold_up_the_others_and_comes_out_when_it_is_well)
{
        start();
        fake_set(fake.hangs_up, "user.bad");
        create("user.bad");
        WAIT(look("").status.quarantined == 1);
        for (int i = 0; i < 10; i++) {
                char name[40], what[60];
                uint64_t before = clock_mono_ms();

                snprintf(name, sizeof name, "user.u%d", i);
                snprintf(what, sizeof what, "MAILBOXES %s\n", name);
                create(name);
                WAIT(has_said(what));
                cr_expect_lt(clock_mono_ms() - before, 1000);
        }
        fake_set(fake.hangs_up, "");
        free(fake_take());
        cr_expect_eq(rolling_retry("", "MAILBOX nobody"), 0);
        cr_expect_eq(rolling_retry("", "MAILBOX user.bad"), 1);
        WAIT(look("").status.quarantined == 0);
        cr_expect(has_said("MAILBOXES user.bad\n"));
}

Test(rolling, an_item_to_which_the_replica_says_nothing_does_not_hold_up_the_others)
{
        struct rolling_options o = options();

        prepare("");
        o.patience_ms = 200;
        cr_assert_eq(rolling_start(&o, &err), 0, "%s", err.text);
        WAIT(is_idle());
        fake_set(fake.stalls, "user.stall");
        create("user.stall");
        create("user.stall.x");
        WAIT(look("").status.quarantined >= 2);
        rolling_retry(NULL, NULL);              /* from now on it is the second connection that waits */
        for (int i = 0; i < 10; i++) {
                char name[40], what[60];
                uint64_t before = clock_mono_ms();

                snprintf(name, sizeof name, "user.u%d", i);
                snprintf(what, sizeof what, "MAILBOXES %s\n", name);
                create(name);
                WAIT(has_said(what));
                cr_expect_lt(clock_mono_ms() - before, 150);
        }
        mutex_lock(&fake.lock);
        fake.silent = true;                     /* altogether: then it is not the item's fault */
        mutex_unlock(&fake.lock);
        create("user.stall2");
        usleep(1500000);
        cr_expect_leq(look("").status.quarantined, 2);
        mutex_lock(&fake.lock);
        fake.silent = false;
        mutex_unlock(&fake.lock);
        fake_set(fake.stalls, "");
        WAIT((rolling_retry(NULL, NULL), look("").status.quarantined == 0) && is_idle());
}

Test(rolling, a_locked_item_is_tried_again_after_two_seconds)
{
        start();
        fake_set(fake.locked, "user.joe");
        create("user.joe");
        WAIT(look("").status.put_off == 1);
        cr_expect_eq(look("").status.quarantined, 0);
        fake_set(fake.locked, "");
        WAIT(look("").status.put_off == 0);
        WAIT(is_idle());
}

Test(rolling, it_connects_again)
{
        fake.refuses = true;
        prepare("");
        cr_assert_eq(rolling_start(&(struct rolling_options){ .store = store, .live = live, .log = sync_log, .peer = &fake_peer }, &err), 0);
        WAIT(look("").status.state == ROLLING_WAITING);
        cr_expect_str_eq(look("").error, "nobody there");
        create("user.joe");
        usleep(100000);
        cr_expect_gt(look("").status.lag_ms, 50);
        mutex_lock(&fake.lock);
        fake.refuses = false;
        mutex_unlock(&fake.lock);
        WAIT(has_said("user.joe\n"));
        WAIT(is_idle());
}

Test(rolling, a_replica_that_says_nothing_is_noticed)
{
        start();
        mutex_lock(&fake.lock);
        fake.silent = true;
        mutex_unlock(&fake.lock);
        WAIT(look("").status.silent_ms > 500);
        WAIT(look("").status.losses == 1);
        mutex_lock(&fake.lock);
        fake.silent = false;
        mutex_unlock(&fake.lock);
        create("user.joe");
        WAIT(has_said("user.joe\n"));
}

Test(rolling, the_shutdown_file_ends_it)
{
        struct rolling_options o = options();
        char path[200];

        snprintf(path, sizeof path, "%s/shut", dir);
        prepare("");
        o.shutdown_file = path;
        cr_assert_eq(rolling_start(&o, &err), 0);
        cr_assert_eq(fs_replace(path, "", 0, 0600, &err), 0);
        WAIT(look("").status.state == ROLLING_ENDED);
        cr_expect(!fs_exists(path));
        cr_expect_eq(rolling_start(&o, &err), 0, "%s", err.text);       /* it may begin again */
        WAIT(is_idle());
}

Test(rolling, what_a_stop_interrupts_is_done_again)
{
        start();
        fake_set(fake.slow, "user.");
        create("user.a");
        WAIT(has_said("user.a\n"));
        for (int i = 0; i < 20; i++) {
                char name[40];

                snprintf(name, sizeof name, "user.b%d", i);
                create(name);
        }
        WAIT(has_said("user.b0\n"));
        rolling_stop(NULL);
        cr_expect(log_is_there("log-run"));
        fake_set(fake.slow, "");
        free(fake_take());
        cr_assert_eq(rolling_start(&(struct rolling_options){ .store = store, .live = live, .log = sync_log, .peer = &fake_peer }, &err), 0);
        WAIT(has_said("user.b19\n"));
        WAIT(is_idle());
        cr_expect(!log_is_there("log-run"));
}

Test(rolling, the_first_time_and_after_a_kill_everything_is_compared)
{
        char *said;

        create("user.joe");
        create("user.joe.x");
        create("user.ann");
        create("shared");
        create("shared.x");
        cr_assert_eq(mboxlist_create(store_mboxlist(store), &(struct mbox_create){ .name = "user.gone" }, NULL, &err), 0);
        cr_assert_eq(mboxlist_delete_tree(store_mboxlist(store), "user.gone", true, &err), 0);
        usleep(50000);
        {
                struct str path = STR_INIT;

                sync_log_path(configdir, NULL, "log", &path);
                unlink(path.data);              /* a kill took it */
                str_deinit(&path);
        }
        cr_assert_eq(rolling_start(&(struct rolling_options){ .store = store, .live = live, .log = sync_log, .peer = &fake_peer }, &err), 0);
        WAIT(is_idle());
        said = fake_take();
        cr_expect(strstr(said, "USER joe\n"), "%s", said);
        cr_expect(strstr(said, "USER ann\n"), "%s", said);
        cr_expect(strstr(said, "MAILBOXES shared shared.x\n"), "%s", said);
        cr_expect(strstr(said, "UNUSER gone\n"), "%s", said);
        cr_expect(strstr(said, "ANNOTATION \n"), "%s", said);
        free(said);
        close_all();
        open_all("");
        cr_assert_eq(rolling_start(&(struct rolling_options){ .store = store, .live = live, .log = sync_log, .peer = &fake_peer }, &err), 0);
        WAIT(is_idle());
        expect_said("");                        /* a clean stop */
        cr_assert_eq(sync_log_append(configdir, NULL, SPAN("RESYNC\n"), false, &err), 0);
        WAIT(has_said("UNUSER gone\n"));
        WAIT(is_idle());
        cr_expect_eq(rolling_compare(NULL), 1);
        WAIT(is_idle());
}

Test(rolling, a_replica_that_is_sick_altogether_does_not_fill_the_quarantine)
{
        start();
        mutex_lock(&fake.lock);
        fake.dies_at_noop = true;
        mutex_unlock(&fake.lock);
        fake_set(fake.hangs_up, " ");
        create("user.a");
        create("user.b");
        WAIT(look("").status.losses >= 6);
        usleep(200000);
        cr_expect_eq(look("").status.quarantined, 0);
        fake_set(fake.hangs_up, "");
        mutex_lock(&fake.lock);
        fake.dies_at_noop = false;
        mutex_unlock(&fake.lock);
        WAIT(is_idle());
        cr_expect(has_said("user.b"));
}
