/* A store's life: whose files these are, one process at a time, epochs, recovery, dumps, partitions. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <dirent.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/journal.h"
#include "store/mailbox_private.h"
#include "store/mailname.h"
#include "store/mlog.h"
#include "store/user.h"
#include "t/store/scratch.h"
#include "util/array.h"

TestSuite(store, .init = scratch_make, .fini = scratch_remove, .timeout = 60);

static struct err err;

/* ---- a listing of everything with its times ---- */

static struct str listing = STR_INIT;

static int list_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)type;
        (void)ftw;
        str_printf(&listing, "%s %o %lld %lld.%09ld %lld.%09ld\n", path, (unsigned)st->st_mode, (long long)st->st_size,
                   (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
        return 0;
}

static char *everything(void)
{
        str_clear(&listing);
        nftw(scratch_dir, list_one, 16, FTW_PHYS);
        return str_take(&listing);
}

static void put(const char *path, const char *content)
{
        char full[300], dir[300];

        snprintf(full, sizeof full, "%s/%s", scratch_dir, path);
        snprintf(dir, sizeof dir, "%s", full);
        *strrchr(dir, '/') = '\0';
        cr_assert_eq(fs_mkdir_p(dir, 0700, NULL), 0);
        cr_assert_eq(fs_replace(full, content, strlen(content), 0600, NULL), 0);
}

Test(store, what_belongs_to_cyrus_is_refused_and_not_touched)
{
        static const char *const files[] = {
                "conf/mailboxes.db", "conf/annotations.db", "conf/quotas.db", "conf/deliver.db", "conf/db/skipstamp", "conf/db/log.1",
                "conf/quota/user.joe", "conf/quota/j/user.joe", "conf/user/uuid/a/b/abc/seen.db", "conf/user/j/joe.sub",
                "conf/sieve/j/joe/x.bc", "conf/db.backup1/mailboxes.db", "conf/user_deny.db", "conf/backups.db",
                "mail/uuid/a/b/abcdef/cyrus.header", "mail/uuid/a/b/abcdef/cyrus.index", "mail/user/joe/cyrus.header", "mail/user/joe/1.",
                "mail/j/user/joe/Sent/cyrus.cache", "mail/domain/e/example.org/j/user/joe/cyrus.index", "mail/x/y/4711.",
        };

        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
                char *before, *after;

                fs_remove_tree(scratch_dir, NULL);
                fs_mkdir_p(scratch_dir, 0700, NULL);
                put(files[i], "x");
                before = everything();
                err_clear(&err);
                cr_expect_null(scratch_try(NULL, false, &err), "%s", files[i]);
                cr_expect_eq(err.code, ERR_FOREIGN, "%s: %s", files[i], err.text);
                cr_expect(strstr(err.text, "migration") && strstr(err.text, scratch_dir), "%s", err.text);
                cr_expect_null(scratch_try(NULL, true, &err));
                after = everything();
                cr_expect_str_eq(after, before, "%s", files[i]);
                free(before);
                free(after);
        }
}

Test(store, empty_directories_of_a_package_are_no_foreign_store)
{
        static const char *const dirs[] = { "conf/quota", "conf/user", "conf/db", "conf/log", "conf/msg", "conf/proc", "conf/socket",
                                            "mail/stage.", "mail/a", "mail/b", "mail/lost+found" };
        struct store *s;

        for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
                char path[300];

                snprintf(path, sizeof path, "%s/%s", scratch_dir, dirs[i]);
                cr_assert_eq(fs_mkdir_p(path, 0700, NULL), 0);
        }
        s = scratch_open(NULL);
        cr_assert_not_null(s);
        store_close(&s);
        s = scratch_open(NULL);
        store_close(&s);
}

Test(store, cyrus_files_that_come_later_are_refused_too)
{
        struct store *s = scratch_open(NULL);

        store_close(&s);
        put("conf/mailboxes.db", "x");
        cr_expect_null(scratch_try(NULL, false, &err));
        cr_expect_eq(err.code, ERR_FOREIGN);
}

Test(store, one_process_at_a_time)
{
        struct store *s = scratch_open(NULL);

        cr_expect_null(scratch_try(NULL, false, &err));
        cr_expect_eq(err.code, ERR_BUSY, "%s", err.text);
        store_close(&s);
        s = scratch_open(NULL);
        store_close(&s);
}

Test(store, unclean_stops_are_counted)
{
        struct store *s = scratch_open(NULL);

        cr_expect_eq(store_epoch(s), 1);
        cr_expect_not(store_was_unclean(s));
        store_close(&s);
        s = scratch_open(NULL);
        cr_expect_eq(store_epoch(s), 1);
        store_close(&s);
        for (uint32_t i = 0; i < 3; i++) {
                int status;
                pid_t pid = fork();

                if (pid == 0) {
                        s = scratch_open(NULL);
                        kill(getpid(), SIGKILL);
                }
                waitpid(pid, &status, 0);
                cr_assert(WIFSIGNALED(status));
                s = scratch_open(NULL);
                cr_expect_eq(store_epoch(s), 2 + i);
                cr_expect(store_was_unclean(s));
                store_close(&s);
        }
        s = scratch_open(NULL);
        cr_expect_eq(store_epoch(s), 4);
        cr_expect_not(store_was_unclean(s));
        store_close(&s);
        /* A lost or damaged state file: an epoch above all that were. */
        put("conf/cyrd.state", "cyrd-sta");
        s = scratch_open(NULL);
        cr_expect_gt(store_epoch(s), 400000);
        cr_expect(store_was_unclean(s));
        store_close(&s);
}

Test(store, a_failed_mailbox_makes_the_stop_unclean)
{
        struct store *s = scratch_open(NULL);
        uint32_t epoch = store_epoch(s);

        store_mailbox_failed(s);
        store_close(&s);
        s = scratch_open(NULL);
        cr_expect_eq(store_epoch(s), epoch + 1);
        cr_expect(store_was_unclean(s));
        store_close(&s);
}

Test(store, a_failed_partition_takes_nothing_and_makes_the_stop_unclean)
{
        struct store *s = scratch_open(NULL);
        const char *dir = store_partition_dir(s, "Default");
        struct err why = { ERR_IO, "fdatasync: Input/output error" };
        uint32_t epoch = store_epoch(s);

        cr_assert_not_null(dir);
        cr_expect_not(store_partition_failed(s, dir));
        store_partition_fail(s, dir, &why);
        cr_expect(store_partition_failed(s, dir));
        cr_expect_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "user.joe" }, NULL, &err), -1);
        cr_expect_eq(err.code, ERR_READONLY);
        store_close(&s);
        s = scratch_open(NULL);
        cr_expect_eq(store_epoch(s), epoch + 1);
        cr_expect_not(store_partition_failed(s, store_partition_dir(s, "default")));
        store_close(&s);
}

Test(store, newer_formats_are_refused)
{
        static const char *const files[] = { "conf/cyrd.store", "conf/cyrd.state", "mail/cyrd.partition" };
        static const char *const heads[] = { "cyrd-store", "cyrd-state", "cyrd-partition" };

        for (size_t i = 0; i < ARRAY_LEN(files); i++) {
                struct store *s;
                char text[100], path[300];
                struct str kept = STR_INIT;

                fs_remove_tree(scratch_dir, NULL);
                s = scratch_open(NULL);
                store_close(&s);
                snprintf(path, sizeof path, "%s/%s", scratch_dir, files[i]);
                cr_assert_eq(fs_slurp(path, 10000, &kept, NULL), 0);
                snprintf(text, sizeof text, "%s 2\n", heads[i]);
                put(files[i], text);
                cr_expect_null(scratch_try(NULL, false, &err));
                cr_expect_eq(err.code, ERR_UNSUPPORTED, "%s: %s", files[i], err.text);
                cr_expect(strstr(err.text, "newer"), "%s", err.text);
                put(files[i], kept.data);
                s = scratch_open(NULL);
                store_close(&s);
                str_deinit(&kept);
        }
}

Test(store, what_configuration_must_have)
{
        static const struct { const char *text, *message; } rows[] = {
                { "partition-default: /tmp/x\n", "configdirectory option not specified in configuration file" },
                { "configdirectory: /tmp/x\n", "partition-default option not specified in configuration file" },
                { "configdirectory: /tmp/x\ndefaultpartition: big\npartition-default: /tmp/y\n",
                  "partition-big option not specified in configuration file" },
                { "configdirectory: x\npartition-default: /tmp/y\n", "configdirectory: x is not an absolute path" },
        };

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                struct conf *conf = conf_text(rows[i].text);
                struct store_options options = { .conf = conf };
                struct store *s;

                cr_expect_eq(store_open(&options, &s, &err), -1);
                cr_expect_eq(err.code, ERR_CONFIG);
                cr_expect_str_eq(err.text, rows[i].message);
                conf_unref(&conf);
        }
}

Test(store, a_partition_that_is_not_mounted_is_noticed)
{
        struct store *s = scratch_open(NULL);
        char path[300];

        store_close(&s);
        snprintf(path, sizeof path, "%s/mail", scratch_dir);
        fs_remove_tree(path, NULL);
        fs_mkdir_p(path, 0700, NULL);
        cr_expect_null(scratch_try(NULL, false, &err));
        cr_expect_eq(err.code, ERR_CORRUPT);
        cr_expect(strstr(err.text, "mounted"), "%s", err.text);
}

Test(store, a_partition_of_another_store_is_refused)
{
        struct store *s = scratch_open(NULL);
        char path[300];

        store_close(&s);
        snprintf(path, sizeof path, "%s/conf", scratch_dir);
        fs_remove_tree(path, NULL);
        cr_expect_null(scratch_try(NULL, false, &err));
        cr_expect_eq(err.code, ERR_FOREIGN);
        cr_expect(strstr(err.text, "another store"), "%s", err.text);
}

Test(store, partitions_are_added_by_a_new_configuration)
{
        struct store *s = scratch_open(NULL);
        char text[1000];
        struct conf *conf;
        const struct mbentry *e;

        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\npartition-Big: %s/big/\ndefaultpartition: big\n",
                 scratch_dir, scratch_dir, scratch_dir);
        cr_expect_str_eq(store_default_partition(s), "default");
        cr_expect_null(store_partition_dir(s, "big"));
        conf = conf_text(text);
        store_reconfigure(s, conf);
        conf_unref(&conf);
        cr_expect_str_eq(store_default_partition(s), "big");
        cr_assert_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "user.joe" }, &e, &err), 0, "%s", err.text);
        cr_expect_str_eq(e->partition, "big");
        mbentry_unref(&e);
        cr_assert_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "user.bob", .partition = "default" }, &e, &err), 0);
        cr_expect_str_eq(e->partition, "default");
        mbentry_unref(&e);
        cr_expect_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "user.ann", .partition = "no" }, NULL, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        store_close(&s);
}

static void create_many(struct store *s, unsigned from, unsigned n)
{
        for (unsigned i = from; i < from + n; i++) {
                char name[40];

                snprintf(name, sizeof name, "user.joe.f%05u", i);
                if (mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = name }, NULL, &err) < 0)
                        _exit(3);
        }
}

Test(store, what_was_acknowledged_survives_kill)
{
        struct store *s;
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                s = scratch_open("delete_mode: immediate\n");
                create_many(s, 0, 200);
                if (mboxlist_delete(store_mboxlist(s), "user.joe.f00007", true, &err) < 0 ||
                    mboxlist_rename(store_mboxlist(s), "user.joe.f00008", "user.joe.z", true, NULL, &err) < 0)
                        _exit(4);
                _exit(0);                       /* nothing is closed */
        }
        waitpid(pid, &status, 0);
        cr_assert_eq(status, 0);
        s = scratch_open(NULL);
        cr_expect_eq(mboxlist_count(store_mboxlist(s)), 200, "with the intermediate user.joe");
        cr_expect_null(mboxlist_find(store_mboxlist(s), "user.joe.f00007"));
        cr_expect_null(mboxlist_find(store_mboxlist(s), "user.joe.f00008"));
        {
                const struct mbentry *e = mboxlist_find(store_mboxlist(s), "user.joe.z");

                cr_expect_not_null(e);
                mbentry_unref(&e);
        }
        store_close(&s);
}

static void damage(const char *path)
{
        char full[300];

        snprintf(full, sizeof full, "%s/%s", scratch_dir, path);
        cr_assert(fs_exists(full), "%s", full);
        put(path, "this is not a database, whatever it says it is, and it is long enough to be read as a page of one.........."
                  ".........................................................................................................");
}

/* ---- a start that cannot write ---- */

static atomic_int db_calls_left;
static const char *db_call;
static int db_error;
static int refuse_db(const char *call)
{
        return strcmp(call, db_call) == 0 && atomic_fetch_sub(&db_calls_left, 1) <= 0 ? db_error : 0;
}

static bool is_aside(void)
{
        DIR *d;
        struct dirent *e;
        char path[200];
        bool found = false;

        snprintf(path, sizeof path, "%s/conf", scratch_dir);
        d = opendir(path);
        while (d && (e = readdir(d)) != NULL)
                found = found || strncmp(e->d_name, "db.damaged", 10) == 0;
        closedir(d);
        return found;
}

static void create_and_die(unsigned from, unsigned n)
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                create_many(scratch_open(NULL), from, n);
                _exit(0);                       /* nothing is closed */
        }
        waitpid(pid, &status, 0);
        cr_assert_eq(status, 0);
}

/* Recovery from the log writes: Berkeley DB panics where it cannot, and nothing is damaged by that. */
static void refuse_at_each_call(const char *call, int error, enum err_code code)
{
        bool started = false;
        unsigned n = 40;

        create_and_die(0, n);
        db_call = call;
        db_error = error;
        for (int at = 0; !started; at += 1 + at / 2) {
                struct store *s;

                cr_assert_lt(at, 100000);
                atomic_store(&db_calls_left, at);
                err_clear(&err);
                fs_fault = refuse_db;
                s = scratch_try(NULL, false, &err);
                fs_fault = NULL;
                started = s != NULL;
                if (started) {
                        store_close(&s);
                        cr_expect_gt(at, 3, "the fault does not come");
                        break;
                }
                cr_expect_eq(err.code, code, "%s %d: %s", call, at, err.text);
                cr_expect_not(is_aside(), "%s %d", call, at);
                s = scratch_open(NULL);                         /* there is room again */
                cr_assert_eq(mboxlist_count(store_mboxlist(s)), n + 1, "%s %d", call, at);
                store_close(&s);
                create_and_die(n++, 1);
        }
}

Test(store, a_start_without_room_changes_nothing, .timeout = 300) { refuse_at_each_call("db write", ENOSPC, ERR_NOSPACE); }
Test(store, a_start_on_a_disk_that_takes_nothing_changes_nothing, .timeout = 300) { refuse_at_each_call("db write", EIO, ERR_IO); }
Test(store, a_start_without_descriptors_changes_nothing, .timeout = 300) { refuse_at_each_call("db open", EMFILE, ERR_IO); }

/* Without dumps and copies a list that is lost is not taken for an empty one. */
Test(store, mailboxes_that_are_lost_are_told_of)
{
        char path[300];
        struct store *s = scratch_open(NULL);

        create_many(s, 0, 5);
        store_close(&s);
        snprintf(path, sizeof path, "%s/conf/db.backup", scratch_dir);
        fs_remove_tree(path, NULL);
        damage("conf/db/mailboxes.db");
        for (unsigned i = 0; i < 3; i++) {
                cr_expect_null(scratch_try(NULL, false, &err));
                cr_expect_not_null(strstr(err.text, "db.damaged."), "%s", err.text);
        }
        cr_expect(is_aside());
        snprintf(path, sizeof path, "mv %s/conf/db.damaged.* %s/", scratch_dir, scratch_dir);
        cr_expect_eq(system(path), 0, "there is one of it, however often it was tried");
        s = scratch_open(NULL);                                 /* the operator wants to begin again */
        cr_expect_eq(mboxlist_count(store_mboxlist(s)), 0);
        store_close(&s);
}

static unsigned problems;

static void count_problem(void *ctx, const char *text)
{
        (void)ctx;
        problems++;
        fprintf(stderr, "# %s\n", text);
}

/* kill -9 in the middle of things: each acknowledged name is there, with its directory, and the list is whole. */
Test(store, killed_at_random_moments, .timeout = 180)        /* hundreds of synced changes: a slow disk takes a minute */
{
        for (unsigned round = 0; round < 12; round++) {
                unsigned done[2] = { 0, 0 };
                int pipes[2], status;
                struct store *s;
                pid_t pid;
                char byte;

                cr_assert_eq(pipe(pipes), 0);
                pid = fork();
                if (pid == 0) {
                        s = scratch_open(NULL);
                        for (unsigned i = 0;; i++) {
                                create_many(s, round * 10000 + i, 1);
                                if (mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "x" }, NULL, &err) < 0 ||
                                    mboxlist_delete(store_mboxlist(s), "x", true, &err) < 0)
                                        _exit(2);
                                if (write(pipes[1], "c", 1) != 1)
                                        _exit(1);
                        }
                }
                close(pipes[1]);
                while (done[0] < 5 + round * 4 && read(pipes[0], &byte, 1) == 1)
                        done[0]++;
                kill(pid, SIGKILL);
                while (read(pipes[0], &byte, 1) == 1)
                        done[0]++;
                close(pipes[0]);
                waitpid(pid, &status, 0);
                cr_assert(WIFSIGNALED(status));
                s = scratch_open(NULL);
                for (unsigned i = 0; i < done[0]; i++) {
                        char name[40];
                        const struct mbentry *e;

                        snprintf(name, sizeof name, "user.joe.f%05u", round * 10000 + i);
                        e = mboxlist_find(store_mboxlist(s), name);
                        cr_assert_not_null(e, "%s", name);
                        mbentry_unref(&e);
                }
                cr_assert_eq(mboxlist_check(store_mboxlist(s), true, count_problem, NULL, &err), 0, "%s", err.text);
                cr_assert_eq(problems, 0);
                if (mboxlist_delete(store_mboxlist(s), "x", true, &err) < 0)
                        cr_assert_eq(err.code, ERR_NOTFOUND);
                store_close(&s);
        }
}

Test(store, tables_come_back_from_dumps)
{
        static const char *const ways[] = { "damaged", "removed", "environment removed", "damaged with a damaged dump", "log removed",
                                             "damaged without a backup" };

        for (size_t way = 0; way < ARRAY_LEN(ways); way++) {
                struct store *s;
                char path[300];
                const struct mbentry *e;
                bool yes;

                fs_remove_tree(scratch_dir, NULL);
                s = scratch_open(NULL);
                create_many(s, 0, 50);
                cr_assert_eq(sub_set(s, "joe", "user.joe", true, &err), 0);
                cr_assert_eq(store_db_checkpoint(s, &err), 0, "%s", err.text);
                create_many(s, 50, 1);
                store_close(&s);
                snprintf(path, sizeof path, "%s/conf/%s", scratch_dir, way == 2 ? "db" : "db/mailboxes.db");
                if (way == 4)
                        snprintf(path, sizeof path, "%s/conf/db/log.0000000001", scratch_dir);
                cr_assert(fs_exists(path), "%s", path);
                if (way == 0 || way == 3)
                        damage("conf/db/mailboxes.db");
                else if (way != 5)
                        fs_remove_tree(path, NULL);
                if (way == 5) {
                        snprintf(path, sizeof path, "%s/conf/db.backup/tables", scratch_dir);
                        fs_remove_tree(path, NULL);
                        damage("conf/db/mailboxes.db");
                }
                if (way == 3)
                        put("conf/db.backup/mailboxes.db.jsonl", "{\"cyrd-dump\":1,\"table\":\"mailboxes.db\"}\n{\"k\":");
                s = scratch_open(NULL);
                cr_expect_eq(mboxlist_count(store_mboxlist(s)), 52, "%s", ways[way]);
                e = mboxlist_find(store_mboxlist(s), "user.joe.f00049");
                cr_expect_not_null(e, "%s", ways[way]);
                mbentry_unref(&e);
                cr_expect_eq(sub_has(s, "joe", "user.joe", &yes, &err), 0);
                cr_expect(yes, "%s", ways[way]);
                create_many(s, 900, 3);
                store_close(&s);
                s = scratch_open(NULL);
                cr_expect_eq(mboxlist_count(store_mboxlist(s)), 55, "%s", ways[way]);
                store_close(&s);
        }
}

/* A page that is half old and half new, as a power loss in the middle of a checkpoint leaves it; the clean copies and the log bring
 * everything back, also what was changed after the backup. */
Test(store, a_torn_page_costs_nothing)
{
        for (int changed_later = 0; changed_later < 2; changed_later++) {
                struct store *s;
                struct str file = STR_INIT;
                char path[300];
                int status;
                pid_t pid;
                char *at;

                fs_remove_tree(scratch_dir, NULL);
                s = scratch_open(NULL);
                create_many(s, 0, 100);
                store_close(&s);
                pid = fork();
                if (pid == 0) {
                        s = scratch_open(NULL);
                        if (changed_later)
                                create_many(s, 100, 50);
                        _exit(0);
                }
                waitpid(pid, &status, 0);
                cr_assert_eq(status, 0);
                snprintf(path, sizeof path, "%s/conf/db/mailboxes.db", scratch_dir);
                cr_assert_eq(fs_slurp(path, 10 << 20, &file, NULL), 0);
                /* Not the first sector of a page. */
                for (at = file.data; at && ((at - file.data) % 4096 < 512 || at == file.data);)
                        at = memmem(at + 1, file.len - (size_t)(at + 1 - file.data), "partition=default", 17);
                cr_assert_not_null(at);
                memset(at - ((at - file.data) % 512), 0, 512);
                cr_assert_eq(fs_replace(path, file.data, file.len, 0600, NULL), 0);
                str_deinit(&file);
                s = scratch_open(NULL);
                cr_expect_eq(mboxlist_count(store_mboxlist(s)), 101 + 50 * changed_later);
                create_many(s, 500, 10);
                store_close(&s);
                s = scratch_open(NULL);
                cr_expect_eq(mboxlist_count(store_mboxlist(s)), 111 + 50 * changed_later);
                store_close(&s);
        }
}

static struct store *open_small(void)
{
        struct conf *conf;
        char text[400];
        struct store_options options = { .no_threads = true, .small_databases = true };
        struct store *s;

        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\n", scratch_dir, scratch_dir);
        options.conf = conf = conf_text(text);
        cr_assert_eq(store_open(&options, &s, &err), 0, "%s", err.text);
        conf_unref(&conf);
        return s;
}

/* Of log files that were removed together a power loss may bring back the older one. */
Test(store, a_log_file_that_came_back_does_no_harm)
{
        struct store *s = open_small();
        struct str first = STR_INIT;
        char path[300], second[300];
        unsigned n = 20;
        int status;
        pid_t pid;

        create_many(s, 0, n);
        snprintf(path, sizeof path, "%s/conf/db/log.0000000001", scratch_dir);
        snprintf(second, sizeof second, "%s/conf/db/log.0000000002", scratch_dir);
        while (!fs_exists(second) && n < 5000) {
                create_many(s, n, 20);
                n += 20;
        }
        cr_assert_eq(fs_slurp(path, 10 << 20, &first, &err), 0, "%s", err.text);
        while (fs_exists(second) && n < 5000) {
                create_many(s, n, 20);
                n += 20;
                cr_assert_eq(store_db_checkpoint(s, &err), 0, "%s", err.text);
        }
        cr_assert(!fs_exists(path) && !fs_exists(second));
        store_close(&s);
        pid = fork();
        if (pid == 0) {
                s = open_small();
                create_many(s, n, 10);
                _exit(0);
        }
        waitpid(pid, &status, 0);
        cr_assert_eq(status, 0);
        cr_assert_eq(fs_replace(path, first.data, first.len, 0600, &err), 0, "%s", err.text);
        damage("conf/db/mailboxes.db");
        s = open_small();
        cr_expect_eq(mboxlist_count(store_mboxlist(s)), n + 11, "%zu of %u", (size_t)mboxlist_count(store_mboxlist(s)), n + 11);
        store_close(&s);
        str_deinit(&first);
}

/* Stopped between setting the damaged environment aside and giving the prepared one its name; and before its log was applied. */
Test(store, an_interrupted_recovery_goes_on)
{
        for (int stage = 0; stage < 2; stage++) {
                struct store *s;
                char db[200], prepared[300], command[2000];

                fs_remove_tree(scratch_dir, NULL);
                s = scratch_open(NULL);
                create_many(s, 0, 30);
                cr_assert_eq(store_db_checkpoint(s, &err), 0);
                create_many(s, 30, 30);
                cr_assert_eq(sub_set(s, "joe", "news", true, &err), 0);
                snprintf(db, sizeof db, "%s/conf/db", scratch_dir);
                snprintf(prepared, sizeof prepared, "%s/conf/db.recover", scratch_dir);
                /* The log as it is now, the tables as they were at the checkpoint. */
                snprintf(command, sizeof command, "mkdir %s && cp %s/conf/db.backup/tables/* %s/log.* %s && touch %s/from_backup", prepared,
                         scratch_dir, db, prepared, prepared);
                cr_assert_eq(system(command), 0, "%s", command);
                store_close(&s);
                cr_assert_eq(fs_remove_tree(db, NULL), 0);
                if (stage == 1)
                        cr_assert_eq(rename(prepared, db), 0);
                s = scratch_open(NULL);
                cr_expect_eq(mboxlist_count(store_mboxlist(s)), 61);
                snprintf(prepared, sizeof prepared, "%s/from_backup", db);
                cr_expect_not(fs_exists(prepared));
                store_close(&s);
        }
}

Test(store, readonly_looks_and_changes_nothing)
{
        struct store *s = scratch_open(NULL);
        char *before, *after;

        create_many(s, 0, 5);
        store_close(&s);
        before = everything();
        s = scratch_try(NULL, true, &err);
        cr_assert_not_null(s, "%s", err.text);
        cr_expect_eq(mboxlist_count(store_mboxlist(s)), 6);
        cr_expect_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "user.bob" }, NULL, &err), -1);
        cr_expect_eq(err.code, ERR_READONLY);
        cr_expect_eq(mboxlist_check(store_mboxlist(s), false, NULL, NULL, &err), 0);
        store_close(&s);
        after = everything();
        cr_expect_str_eq(after, before);
        free(before);
        free(after);
        fs_remove_tree(scratch_dir, NULL);
        cr_expect_null(scratch_try(NULL, true, &err));
        cr_expect_eq(err.code, ERR_NOTFOUND, "%s", err.text);
        cr_expect_not(fs_exists(scratch_dir));
}

Test(store, a_directory_without_permission_is_an_error_and_no_crash)
{
        char path[300];

        if (geteuid() == 0)
                cr_skip_test("root may do anything");
        snprintf(path, sizeof path, "%s/conf", scratch_dir);
        cr_assert_eq(fs_mkdir_p(path, 0500, NULL), 0);
        cr_expect_null(scratch_try(NULL, false, &err));
        cr_expect_eq(err.code, ERR_IO, "%s", err.text);
}

/* ---- what the journal has of a mailbox (store/journal.h) ---- */

static void put_into_journal(const char *partition, const char *uniqueid, const char *log, uint32_t crc)
{
        uint64_t lap = 0;
        struct journal *j = journal_create(partition, 64u << 10);
        struct journal_piece piece = { .uniqueid = uniqueid, .segment = 1, .segment_crc = crc, .offset = 328, .len = 8, .path = log, .lap = &lap };

        journal_begin(j);
        memset(journal_add(j, &piece), 1, 8);
        cr_assert_eq(journal_commit(j, &err), 0, "%s", err.text);
        journal_destroy(&j);
}

static int no_datasync(const char *call) { return strcmp(call, "fdatasync") == 0 ? EIO : 0; }

Test(store, a_partition_that_comes_back_with_a_journal_that_fails)
{
        char more[300], big[200], text[1000];
        struct str dir = STR_INIT, log = STR_INIT;
        struct mlog_segment_info info;
        struct store *s;
        int fd;

        snprintf(big, sizeof big, "%s/big", scratch_dir);
        snprintf(more, sizeof more, "partition-big: %s\n", big);
        s = scratch_open(more);
        store_close(&s);
        mailbox_dir(&dir, big, "abcdefghijklmnopqrstuvwx");
        cr_assert_eq(fs_mkdir_p(dir.data, 0700, &err), 0);
        cr_assert_eq(mlog_segment_create(dir.data, 1, "abcdefghijklmnopqrstuvwx", 1, &fd, &info, &err), 0);
        close(fd);
        mlog_segment_path(&log, dir.data, 1);
        put_into_journal(big, "abcdefghijklmnopqrstuvwx", log.data, info.crc);
        s = scratch_open(NULL);                                 /* without it */
        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\npartition-big: %s\ndefaultpartition: default\n",
                 scratch_dir, scratch_dir, big);
        fs_fault = no_datasync;
        store_reconfigure(s, conf_text(text));                  /* … and it comes back, under the store's lock */
        fs_fault = NULL;
        cr_expect(store_partition_failed(s, big));
        cr_expect_not(store_partition_failed(s, store_partition_dir(s, "default")));
        store_close(&s);
        s = scratch_open(more);                                 /* the next start tries again */
        cr_expect_not(store_partition_failed(s, big));
        store_close(&s);
        str_deinit(&dir);
        str_deinit(&log);
}

Test(store, reconstruct_leaves_one_alone_that_is_not_whole)
{
        struct str dir = STR_INIT, log = STR_INIT, kept = STR_INIT, manifest = STR_INIT;
        unsigned char head[MLOG_SEGMENT_HEADER];
        char mail[200], id[MLOG_UNIQUEID_MAX];
        struct mlog_segment_info info;
        struct store *s = scratch_open(NULL);
        struct mailbox_ident ident = { .uniqueid = id, .partition_dir = mail, .name = "user.joe", .uidvalidity = 1 };
        const struct mbentry *e;
        struct stat st;
        int fd;

        snprintf(mail, sizeof mail, "%s/mail", scratch_dir);
        cr_assert_eq(mboxlist_create(store_mboxlist(s), &(struct mbox_create){ .name = "user.joe" }, &e, &err), 0, "%s", err.text);
        snprintf(id, sizeof id, "%s", e->uniqueid);
        mbentry_unref(&e);
        store_close(&s);
        mailbox_dir(&dir, mail, id);
        mlog_segment_path(&log, dir.data, 1);
        fd = open(log.data, O_RDONLY);
        cr_assert_eq(pread(fd, head, sizeof head, 0), (ssize_t)sizeof head);
        close(fd);
        cr_assert_eq(mlog_segment_decode(head, 1, id, &info, &err), 0);
        put_into_journal(mail, id, log.data, info.crc);
        /* Its log cannot be opened, another one is there, and nothing says which it has. */
        str_printf(&kept, "%s.kept", log.data);
        cr_assert_eq(rename(log.data, kept.data), 0);
        cr_assert_eq(mkdir(log.data, 0700), 0);
        cr_assert_eq(mlog_segment_create(dir.data, 2, id, 1, &fd, &info, &err), 0);
        close(fd);
        str_printf(&manifest, "%s/manifest", dir.data);
        cr_assert_eq(truncate(manifest.data, 5), 0);
        str_append_str(&manifest, ".copy");
        cr_assert_eq(unlink(manifest.data), 0);
        str_truncate(&manifest, manifest.len - strlen(".copy"));
        s = scratch_open(NULL);
        cr_expect_eq(mailbox_reconstruct(s, &ident, &err), -1);
        cr_expect_eq(err.code, ERR_IO, "%s", err.text);
        cr_assert_eq(stat(manifest.data, &st), 0);
        cr_expect_eq(st.st_size, 5, "a manifest was made without the segment that is to be written back");
        store_close(&s);
        str_deinit(&dir);
        str_deinit(&log);
        str_deinit(&kept);
        str_deinit(&manifest);
}
