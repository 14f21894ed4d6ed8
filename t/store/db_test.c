/* The database door: transactions, deadlocks, cursors, what a killed process leaves, dumps. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/db.h"
#include "util/fs.h"
#include "util/lock.h"

static char dir[64];

static void make_dir(void)
{
        snprintf(dir, sizeof dir, "/tmp/cyrd-db-test-%d", (int)getpid());
        fs_remove_tree(dir, NULL);
        cr_assert_eq(fs_mkdir_p(dir, 0700, NULL), 0);
}

static void remove_dir(void)
{
        fs_remove_tree(dir, NULL);
}

static void open_both(struct db_env **env_r, struct db **db_r)
{
        struct db_env_options options = { .dir = dir };
        struct err err = ERR_INIT;

        cr_assert_eq(db_env_open(&options, env_r, &err), 0, "%s", err.text);
        cr_assert_eq(db_open(*env_r, "t.db", db_r, &err), 0, "%s", err.text);
}

static void close_both(struct db_env **env, struct db **db)
{
        db_close(db);
        db_env_close(env);
}

TestSuite(db, .init = make_dir, .fini = remove_dir, .timeout = 120);

Test(db, records_come_and_go)
{
        struct db_env *env;
        struct db *db;
        struct str value = STR_INIT;
        struct err err = ERR_INIT;

        open_both(&env, &db);
        cr_expect_eq(db_get(db, NULL, SPAN("k"), &value, &err), 0);
        cr_expect_eq(db_put(db, NULL, SPAN("k"), SPAN("v\0w"), &err), 0);
        cr_expect_eq(db_get(db, NULL, SPAN("k"), &value, &err), 1);
        cr_expect(span_eq(str_span(&value), SPAN("v\0w")));
        cr_expect_eq(db_del(db, NULL, SPAN("k"), &err), 0);
        cr_expect_eq(db_del(db, NULL, SPAN("k"), &err), 0, "deleting what is not there");
        cr_expect_eq(db_get(db, NULL, SPAN("k"), NULL, &err), 0);
        str_deinit(&value);
        close_both(&env, &db);
}

struct fill { struct db *db; unsigned from, n; bool fail; };

static int fill(struct db_txn *txn, void *ctx, struct err *err)
{
        struct fill *f = ctx;

        for (unsigned i = f->from; i < f->from + f->n; i++) {
                char key[32];

                snprintf(key, sizeof key, "key%08u", i);
                if (db_put(f->db, txn, span_of(key), SPAN("value of some length, so that pages fill up"), err) < 0)
                        return -1;
        }
        return f->fail ? err_set(err, ERR_QUOTA, "no") : 0;
}

static unsigned count(struct db *db, const char *prefix)
{
        struct db_cursor *c;
        struct span key, value;
        struct err err = ERR_INIT;
        unsigned n = 0;
        char last[64] = "";
        int rc;

        cr_assert_eq(db_cursor_open(db, NULL, span_of(prefix), &c, &err), 0);
        while ((rc = db_cursor_next(c, &key, &value, &err)) > 0) {
                char now[64];

                snprintf(now, sizeof now, "%.*s", (int)key.len, key.p);
                cr_assert_gt(strcmp(now, last), 0, "out of order");
                cr_assert_eq(strncmp(now, prefix, strlen(prefix)), 0);
                strcpy(last, now);
                n++;
        }
        cr_assert_eq(rc, 0, "%s", err.text);
        db_cursor_close(&c);
        return n;
}

Test(db, a_transaction_is_all_or_nothing)
{
        struct db_env *env;
        struct db *db;
        struct err err = ERR_INIT;

        open_both(&env, &db);
        cr_expect_eq(db_run(env, true, fill, &(struct fill){ db, 0, 100, true }, &err), -1);
        cr_expect_eq(err.code, ERR_QUOTA);
        cr_expect_eq(count(db, ""), 0);
        cr_expect_eq(db_run(env, true, fill, &(struct fill){ db, 0, 100, false }, &err), 0);
        cr_expect_eq(count(db, ""), 100);
        cr_expect_eq(count(db, "key0000001"), 10);
        cr_expect_eq(count(db, "x"), 0);
        close_both(&env, &db);
}

Test(db, a_transaction_of_200_000_records_has_locks_enough)
{
        struct db_env *env;
        struct db *db;
        struct err err = ERR_INIT;

        open_both(&env, &db);
        cr_expect_eq(db_run(env, true, fill, &(struct fill){ db, 0, 200000, false }, &err), 0, "%s", err.text);
        cr_expect_eq(count(db, ""), 200000);
        cr_expect_eq(db_env_checkpoint(env, &err), 0, "%s", err.text);
        close_both(&env, &db);
}

Test(db, what_was_committed_survives_a_process_that_just_ends)
{
        struct db_env *env;
        struct db *db;
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                struct err err = ERR_INIT;
                struct db_env_options options = { .dir = dir };

                if (db_env_open(&options, &env, &err) < 0 || db_open(env, "t.db", &db, &err) < 0 ||
                    db_run(env, true, fill, &(struct fill){ db, 0, 1000, false }, &err) < 0 ||
                    db_run(env, false, fill, &(struct fill){ db, 1000, 1000, false }, &err) < 0 ||
                    db_run(env, true, fill, &(struct fill){ db, 2000, 1000, true }, &err) == 0)
                        _exit(1);
                _exit(0);
        }
        cr_assert_eq(waitpid(pid, &status, 0), pid);
        cr_assert_eq(status, 0);
        open_both(&env, &db);
        cr_expect_eq(count(db, ""), 2000);
        close_both(&env, &db);
}

struct cross { struct db *db; const char *first, *second; };

static int cross(struct db_txn *txn, void *ctx, struct err *err)
{
        struct cross *c = ctx;
        struct str v = STR_INIT;
        int ret = -1;

        if (db_get(c->db, txn, span_of(c->first), &v, err) > 0) {
                uint32_t n = (uint32_t)atoi(v.data) + 1;
                char text[16];

                snprintf(text, sizeof text, "%u", n);
                usleep(200);
                if (db_put(c->db, txn, span_of(c->first), span_of(text), err) == 0) {
                        str_clear(&v);
                        if (db_get(c->db, txn, span_of(c->second), &v, err) > 0)
                                ret = db_put(c->db, txn, span_of(c->second), str_span(&v), err);
                }
        }
        str_deinit(&v);
        return ret;
}

static struct db_env *cross_env;

static void *cross_thread(void *arg)
{
        struct err err = ERR_INIT;

        for (int i = 0; i < 50; i++)
                if (db_run(cross_env, false, cross, arg, &err) < 0)
                        return "failed";
        return NULL;
}

Test(db, deadlocks_are_found_and_tried_again)
{
        struct db *db;
        struct err err = ERR_INIT;
        struct cross ab, ba;
        pthread_t t[4];
        uint64_t commits, retries;
        struct str v = STR_INIT;
        char filler[800];

        open_both(&cross_env, &db);
        /* On pages of their own, or they would just queue up. */
        memset(filler, 'x', sizeof filler);
        for (char c = 'b'; c < 'y'; c++)
                cr_assert_eq(db_put(db, NULL, (struct span){ &c, 1 }, (struct span){ filler, sizeof filler }, &err), 0);
        cr_assert_eq(db_put(db, NULL, SPAN("a"), SPAN("0"), &err), 0);
        cr_assert_eq(db_put(db, NULL, SPAN("z"), SPAN("0"), &err), 0);
        ab = (struct cross){ db, "a", "z" };
        ba = (struct cross){ db, "z", "a" };
        for (int i = 0; i < 4; i++)
                cr_assert_eq(thread_start(&t[i], "cross", 0, cross_thread, i % 2 ? &ab : &ba), 0);
        for (int i = 0; i < 4; i++) {
                void *result;

                pthread_join(t[i], &result);
                cr_expect_null(result);
        }
        db_env_stats(cross_env, &commits, &retries);
        cr_expect_eq(commits, 200);
        cr_expect_gt(retries, 0, "the test makes no deadlocks");
        cr_expect_eq(db_get(db, NULL, SPAN("a"), &v, &err), 1);
        cr_expect_str_eq(v.data, "100");
        str_deinit(&v);
        close_both(&cross_env, &db);
}

Test(db, logs_that_no_backup_needs_are_removed)
{
        static const char *const tables[] = { "t.db", NULL };
        struct db_env *env;
        struct db *db;
        struct err err = ERR_INIT;
        char path[128], backup[128];
        uint32_t log;

        open_both(&env, &db);
        for (unsigned i = 0; i < 5; i++)
                cr_assert_eq(db_run(env, false, fill, &(struct fill){ db, i * 50000, 50000, false }, &err), 0);
        snprintf(backup, sizeof backup, "%s/backup", dir);
        cr_assert_eq(fs_mkdir_p(backup, 0700, NULL), 0);
        cr_assert_eq(db_env_checkpoint(env, &err), 0);
        snprintf(path, sizeof path, "%s/log.0000000001", dir);
        cr_expect(fs_exists(path));
        cr_assert_eq(db_env_backup(env, tables, backup, &log, &err), 0, "%s", err.text);
        cr_expect_gt(log, 1);
        cr_assert_eq(db_env_remove_logs(env, log, &err), 0);
        cr_expect_not(fs_exists(path));
        snprintf(path, sizeof path, "%s/log.%010u", dir, log);
        cr_expect(fs_exists(path));
        close_both(&env, &db);
}

Test(db, dumps_bring_every_octet_back)
{
        struct db_env *env;
        struct db *db, *other;
        struct err err = ERR_INIT;
        struct str v = STR_INIT;
        char path[128], octets[256];
        uint64_t n;

        for (int i = 0; i < 256; i++)
                octets[i] = (char)i;
        open_both(&env, &db);
        cr_assert_eq(db_put(db, NULL, (struct span){ octets, 256 }, (struct span){ octets, 256 }, &err), 0);
        cr_assert_eq(db_put(db, NULL, SPAN("b"), SPAN(""), &err), 0);
        snprintf(path, sizeof path, "%s/dump", dir);
        cr_assert_eq(db_dump(db, path, &err), 0, "%s", err.text);
        cr_assert_eq(db_open(env, "other.db", &other, &err), 0);
        cr_assert_eq(db_restore(other, path, &n, &err), 0, "%s", err.text);
        cr_expect_eq(n, 2);
        cr_expect_eq(db_get(other, NULL, (struct span){ octets, 256 }, &v, &err), 1);
        cr_expect(span_eq(str_span(&v), (struct span){ octets, 256 }));
        db_close(&other);
        str_deinit(&v);

        /* Cut anywhere, it is refused, and nothing of it is in the table. */
        cr_assert_eq(fs_slurp(path, 1 << 20, &v, &err), 0);
        cr_assert_eq(db_open(env, "third.db", &other, &err), 0);
        for (size_t len = 0; len < v.len - 1; len += 7) {
                cr_assert_eq(fs_replace(path, v.data, len, 0600, &err), 0);
                cr_assert_eq(db_restore(other, path, &n, &err), -1);
                cr_assert_eq(err.code, ERR_CORRUPT);
        }
        cr_expect_eq(count(other, ""), 0);
        db_close(&other);
        str_deinit(&v);
        close_both(&env, &db);
}

Test(db, readonly_looks_and_does_not_touch)
{
        struct db_env *env;
        struct db *db;
        struct err err = ERR_INIT;
        struct db_env_options options = { .dir = dir, .readonly = true };

        open_both(&env, &db);
        cr_assert_eq(db_put(db, NULL, SPAN("k"), SPAN("v"), &err), 0);
        close_both(&env, &db);
        cr_assert_eq(db_env_open(&options, &env, &err), 0);
        cr_assert_eq(db_open(env, "t.db", &db, &err), 0, "%s", err.text);
        cr_expect_eq(count(db, ""), 1);
        cr_expect_eq(db_put(db, NULL, SPAN("k"), SPAN("w"), &err), -1);
        cr_expect_eq(err.code, ERR_READONLY);
        close_both(&env, &db);
}

/* ---- when the disk fails ---- */

static bool syncs_fail;

/* While a watch is on: what was synced before anything was written. */
static bool watching;
static struct { char name[64]; bool synced; } watched[20];
static unsigned watched_n, written_early;

static unsigned watched_file(int fd)
{
        char link[64], path[PATH_MAX];
        unsigned i = 0;
        ssize_t n;

        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof path - 1);
        path[n < 0 ? 0 : n] = '\0';
        while (i < watched_n && (!strrchr(path, '/') || strcmp(strrchr(path, '/') + 1, watched[i].name) != 0))
                i++;
        return i;
}

static void note_sync(int fd)
{
        unsigned i = watching ? watched_file(fd) : watched_n;

        if (i < watched_n)
                watched[i].synced = true;
}

static void note_write(void)
{
        for (unsigned i = 0; watching && i < watched_n; i++)
                written_early += !watched[i].synced;
        watching = false;
}

static ssize_t noted_write(int fd, const void *buf, size_t len, off_t offset)
{
        note_write();
        return syscall(SYS_pwrite64, fd, buf, len, offset);
}

ssize_t write(int fd, const void *buf, size_t len)
{
        note_write();
        return syscall(SYS_write, fd, buf, len);
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t offset)               /* Berkeley DB's, too */
{
        return noted_write(fd, buf, len, offset);
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off_t offset)
{
        return noted_write(fd, buf, len, offset);
}
int fdatasync(int fd)                           /* takes the place of the C library's */
{
        if (syncs_fail) {
                errno = EIO;
                return -1;
        }
        note_sync(fd);
        return fsync(fd);
}

Test(db, a_failed_sync_is_never_taken_for_a_commit)
{
        struct db_env *env;
        struct db *db;
        struct err err = ERR_INIT;
        const char *why;

        open_both(&env, &db);
        cr_assert_eq(db_run(env, true, fill, &(struct fill){ db, 0, 10, false }, &err), 0);
        syncs_fail = true;
        cr_expect_eq(db_run(env, true, fill, &(struct fill){ db, 10, 10, false }, &err), -1);
        cr_expect_eq(err.code, ERR_IO, "%s", err.text);
        syncs_fail = false;
        cr_expect(db_env_failed(env, &why));
        cr_expect(why && *why);
        cr_expect_eq(db_run(env, true, fill, &(struct fill){ db, 20, 10, false }, &err), -1);
        cr_expect_eq(err.code, ERR_READONLY, "%s", err.text);
        cr_expect_eq(db_env_checkpoint(env, &err), -1);
        close_both(&env, &db);
        open_both(&env, &db);
        cr_expect_eq(count(db, "key0000000"), 10, "what was acknowledged");
        cr_expect_eq(count(db, "key0000002"), 0, "what was refused");
        cr_expect_eq(db_run(env, true, fill, &(struct fill){ db, 20, 10, false }, &err), 0);
        close_both(&env, &db);
}

/* Its log goes on in a new file after the restart: what the killed one wrote must be on the disk by then, or there is a gap. */
Test(db, what_a_killed_process_wrote_is_synced_before_anything_is_written)
{
        struct db_env *env;
        struct db *db;
        struct err err = ERR_INIT;
        pid_t pid = fork();
        struct dirent *e;
        DIR *d;
        int status;

        if (pid == 0) {
                open_both(&env, &db);
                for (unsigned i = 0; i < 50; i++)
                        if (db_run(env, false, fill, &(struct fill){ db, i * 20, 20, false }, &err) < 0)
                                _exit(1);
                _exit(0);                       /* nothing is closed */
        }
        waitpid(pid, &status, 0);
        cr_assert_eq(status, 0);
        d = opendir(dir);
        while ((e = readdir(d)) != NULL)
                if (e->d_name[0] != '.' && watched_n < 20)
                        snprintf(watched[watched_n++].name, sizeof watched[0].name, "%.60s", e->d_name);
        closedir(d);
        cr_assert_geq(watched_n, 2, "a table and a log");
        watching = true;
        open_both(&env, &db);
        cr_expect_not(watching, "nothing was written");
        cr_expect_eq(written_early, 0);
        cr_expect_eq(count(db, ""), 1000);
        close_both(&env, &db);
        syncs_fail = true;
        cr_expect_eq(db_env_open(&(struct db_env_options){ .dir = dir }, &env, &err), -1);
        cr_expect_eq(err.code, ERR_IO, "%s", err.text);
        syncs_fail = false;
        open_both(&env, &db);
        cr_expect_eq(count(db, ""), 1000);
        close_both(&env, &db);
}

static void limit_files(rlim_t bytes)
{
        struct rlimit limit;

        getrlimit(RLIMIT_FSIZE, &limit);
        limit.rlim_cur = bytes;
        setrlimit(RLIMIT_FSIZE, &limit);
}

/* A file size limit stands for a full disk: writes fail, the process goes on. */
Test(db, a_full_disk_fails_transactions_and_nothing_else)
{
        struct db_env *env;
        struct db *db;
        struct err err = ERR_INIT;
        unsigned done = 0, failed = 0;

        signal(SIGXFSZ, SIG_IGN);
        open_both(&env, &db);
        limit_files(300 * 1024);
        for (unsigned i = 0; i < 1500; i++) {
                if (db_run(env, true, fill, &(struct fill){ db, done * 20, 20, false }, &err) == 0)
                        done++;
                else
                        failed++;
        }
        limit_files(RLIM_INFINITY);
        cr_expect_gt(done, 10);
        cr_expect_gt(failed, 10);
        cr_expect_not(db_env_failed(env, NULL));
        cr_expect_eq(count(db, ""), done * 20);
        for (unsigned i = 0; i < 20; i++, done++)
                cr_expect_eq(db_run(env, true, fill, &(struct fill){ db, done * 20, 20, false }, &err), 0, "%s", err.text);
        close_both(&env, &db);
        open_both(&env, &db);
        cr_expect_eq(count(db, ""), done * 20);
        close_both(&env, &db);
}
