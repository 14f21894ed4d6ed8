/*
 * db - the environment and its transactions; see db.h. Tables and cursors are in db_table.c, dumps in db_dump.c.
 *
 * Files in the directory: the tables, log.NNNNNNNNNN (removed when neither recovery nor the last backup needs them). There are no region
 * files: the regions are in this process's memory, and every opening runs recovery from the last checkpoint. A clean close makes a
 * checkpoint, so that recovery has nothing to do.
 */
#include "store/db_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"

/* A rename of 100,000 names locks every page it writes, with the old and the new place of each name. */
#define LOCKS_MAX 400000
#define LOCKERS_MAX 20000
#define TRANSACTIONS_MAX 2000
#define LOG_FILE_BYTES (16u << 20)
#define LOG_BUFFER_BYTES (2u << 20)
#define CACHE_BYTES (32u << 20)
#define SMALL_DIVISOR 16                        /* of the locks of a small environment; its square, of the log */
#define CHECKPOINT_BYTES (64u << 20)            /* put since the last checkpoint: the committing thread makes one */
#define TRIES_MAX 200                           /* of one transaction, against deadlocks */

#if defined(__SANITIZE_THREAD__)
/* libdb is built without the sanitizer: it takes its own latches in orders that cannot meet, and its accesses go unseen. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
        return "called_from_lib:libdb-5.3.so\ndeadlock:libdb-5.3.so\nmutex:libdb-5.3.so\nrace:libdb-5.3.so\n";
}
#endif

/*
 * What recovery cannot write makes it panic, as if the files were damaged: who opens an environment has to know the one from the other.
 * Files that cannot be read are not among it, those are damaged.
 */
static atomic_int refused;

static void note_refusal(int why)
{
        if (why != ENOENT && why != EEXIST && why != EINTR)
                atomic_store(&refused, why);
}

int db_refused(void)
{
        return atomic_load(&refused);
}

/* It takes less than all for a failure, and errno as it is then for the reason. With this hook it writes nothing in another way (os_rw.c). */
static ssize_t write_file(int fd, const void *octets, size_t len)
{
        for (size_t done = 0; done < len;) {
                ssize_t n = fs_fails("db write") ? -1 : write(fd, (const char *)octets + done, len - done);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        note_refusal(errno);
                        return -1;
                }
                done += (size_t)n;
        }
        return (ssize_t)len;
}

/*
 * Berkeley DB reports a commit as done when its record was written and only the sync failed (log_put.c, __log_flush_commit). So every
 * sync goes through here, and a commit looks whether one has failed since the environment was opened. The hook is the process's, as
 * Berkeley DB has it: with several environments, one's failure fails them all, which errs on the safe side.
 */
static atomic_uint failed_syncs;

static int sync_fd(int fd)
{
        int rc = fdatasync(fd) == 0 ? 0 : errno;        /* Berkeley DB wants the number itself */

        if (rc != 0) {
                note_refusal(rc);
                atomic_fetch_add(&failed_syncs, 1);
        }
        return rc;
}

/* Berkeley DB never syncs a directory: a new log file could be gone after a power loss, with the commits in it. */
static void sync_dir_of(const char *path)
{
        const char *slash = strrchr(path, '/');
        char *dir = slash ? xstrndup(path, slash == path ? 1 : (size_t)(slash - path)) : xstrdup(".");
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 || fsync(fd) < 0)
                atomic_fetch_add(&failed_syncs, 1);
        if (fd >= 0)
                close(fd);
        free(dir);
}

static int open_file(const char *path, int flags, ...)
{
        bool makes = (flags & O_CREAT) && access(path, F_OK) < 0;
        va_list ap;
        int fd, mode;

        va_start(ap, flags);
        mode = va_arg(ap, int);
        va_end(ap);
        fd = fs_fails("db open") ? -1 : open(path, flags | O_CLOEXEC, (mode_t)mode);
        if (fd < 0)
                note_refusal(errno);
        else if (makes)
                sync_dir_of(path);
        return fd;
}

static int rename_file(const char *from, const char *to)
{
        int rc = rename(from, to);

        if (rc == 0)
                sync_dir_of(to);
        return rc;
}

static void on_error(const DB_ENV *env, const char *prefix, const char *message)
{
        struct db_env *mine = env->app_private;
        char quoted[LOG_QUOTE_MAX];
        uint32_t code = crc32c(0, message, strnlen(message, 7));        /* "BDB0137" */

        (void)prefix;
        /* A full disk says the same for every transaction. */
        if (atomic_exchange(&mine->last_error, code) == code && !log_once(&mine->last_error_logged, 60))
                return;
        log_event(LOG_ERROR, NULL, "db.error", "text=%s", log_quote_str(quoted, message));
}

static void on_message(const DB_ENV *env, const char *message)
{
        char quoted[LOG_QUOTE_MAX];

        (void)env;
        log_event(LOG_INFORM, NULL, "db.message", "text=%s", log_quote_str(quoted, message));
}

static void on_event(DB_ENV *dbenv, u_int32_t event, void *detail)
{
        (void)detail;
        if (event == DB_EVENT_PANIC)
                db_env_mark_failed(dbenv->app_private, "environment", "Berkeley DB needs recovery");
}

void db_env_mark_failed(struct db_env *env, const char *what, const char *why)
{
        char quoted[LOG_QUOTE_MAX];

        if (atomic_flag_test_and_set(&env->why_taken))
                return;
        snprintf(env->why, sizeof env->why, "%s: %s", what, why);
        atomic_store(&env->failed, true);
        log_event(LOG_ERROR, NULL, "db.failed", "dir=%s reason=%s consequence=\"no changes until the next start\"", env->dir,
                  log_quote_str(quoted, env->why));
}

bool db_env_failed(struct db_env *env, const char **why_r)
{
        bool failed = atomic_load(&env->failed);

        if (why_r)
                *why_r = failed ? env->why : NULL;
        return failed;
}

int db_writable(struct db_env *env, struct err *err)
{
        if (env->readonly)
                return err_set(err, ERR_READONLY, "%s is open for reading only", env->dir);
        if (atomic_load(&env->failed))
                return err_set(err, ERR_READONLY, "the database in %s has failed (%s)", env->dir, env->why);
        return 0;
}

int db_fail(struct db_env *env, struct db_txn *txn, int rc, struct err *err, const char *what)
{
        switch (rc) {
        case DB_LOCK_DEADLOCK:
        case DB_LOCK_NOTGRANTED:
                if (txn)
                        txn->deadlock = true;
                return err_set(err, ERR_BUSY, "%s: gave way to another transaction", what);
        case DB_RUNRECOVERY:
                db_env_mark_failed(env, what, "Berkeley DB needs recovery");
                return err_set(err, ERR_READONLY, "%s: %s", what, db_strerror(rc));
        case DB_VERIFY_BAD:
        case DB_PAGE_NOTFOUND:
        case DB_OLD_VERSION:
        case EINVAL:
                return err_set(err, ERR_CORRUPT, "%s: %s", what, db_strerror(rc));
        case ENOENT:
                return err_set(err, ERR_NOTFOUND, "%s: %s", what, db_strerror(rc));
        }
        if (rc > 0)
                return err_errno(err, rc, "%s", what);
        return err_set(err, ERR_IO, "%s: %s", what, db_strerror(rc));
}

static int configure(struct db_env *env, uint64_t cache_bytes, unsigned divisor)
{
        DB_ENV *e = env->env;
        int rc;

        e->app_private = env;
        e->set_errcall(e, on_error);
        e->set_msgcall(e, on_message);
        if ((rc = e->set_event_notify(e, on_event)) != 0 ||
            (rc = e->set_cachesize(e, (u_int32_t)(cache_bytes >> 30), (u_int32_t)(cache_bytes & 0x3fffffff), 1)) != 0 ||
            (rc = e->set_lk_max_locks(e, LOCKS_MAX / divisor)) != 0 || (rc = e->set_lk_max_objects(e, LOCKS_MAX / divisor)) != 0 ||
            (rc = e->set_lk_max_lockers(e, LOCKERS_MAX / divisor)) != 0 || (rc = e->set_lk_detect(e, DB_LOCK_MINWRITE)) != 0 ||
            (rc = e->set_tx_max(e, TRANSACTIONS_MAX / divisor)) != 0 || (rc = e->set_lg_max(e, LOG_FILE_BYTES / (divisor * divisor))) != 0 ||
            (rc = e->set_lg_bsize(e, LOG_BUFFER_BYTES / (divisor * divisor))) != 0)
                return rc;
        return 0;
}

/*
 * Berkeley DB takes what it finds for durable. What a life before this one wrote and did not come to sync – a log's end that was committed
 * without a sync, pages that left its cache – is only in the kernel's memory when that life was killed: recovery would go on behind it, in a
 * new log file even, or forget the log that pages were made from, and a power loss leave a gap.
 */
static int sync_what_is_there(const char *dir, struct err *err)
{
        DIR *d = opendir(dir);
        struct dirent *e;
        int rc = 0;

        if (!d)
                return errno == ENOENT ? 0 : err_errno(err, errno, "%s", dir);
        while (rc == 0 && (e = readdir(d)) != NULL) {
                struct stat st;
                int fd, why;

                if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
                        continue;
                fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
                why = fd < 0 ? errno : sync_fd(fd);
                if (why != 0)
                        rc = err_errno(err, why, "%s/%s", dir, e->d_name);
                if (fd >= 0)
                        close(fd);
        }
        if (rc == 0 && fsync(dirfd(d)) < 0)
                rc = err_errno(err, errno, "%s", dir);
        closedir(d);
        return rc;
}

int db_env_open(const struct db_env_options *options, struct db_env **env_r, struct err *err)
{
        struct db_env *env = xcalloc(1, sizeof *env);
        int rc;

        env->dir = xstrdup(options->dir);
        env->readonly = options->readonly;
        atomic_flag_clear(&env->why_taken);
        if (env->readonly) {
                *env_r = env;
                return 0;
        }
        if (sync_what_is_there(env->dir, err) < 0) {
                free(env->dir);
                free(env);
                return -1;
        }
        env->failed_syncs = atomic_load(&failed_syncs);
        atomic_store(&refused, 0);
        db_env_set_func_write(write_file);
        db_env_set_func_fsync(sync_fd);
        db_env_set_func_open(open_file);
        db_env_set_func_rename(rename_file);
        rc = db_env_create(&env->env, 0);
        if (rc == 0)
                rc = configure(env, options->cache_bytes ? options->cache_bytes : CACHE_BYTES, options->small ? SMALL_DIVISOR : 1);
        if (rc == 0)
                rc = env->env->open(env->env, env->dir,
                                    DB_CREATE | DB_PRIVATE | DB_THREAD | (options->from_backup ? DB_RECOVER_FATAL : DB_RECOVER) | DB_INIT_TXN | DB_INIT_LOG | DB_INIT_LOCK |
                                            DB_INIT_MPOOL,
                                    0600);
        if (rc == 0) {
                *env_r = env;
                return 0;
        }
        if (rc == DB_RUNRECOVERY || rc == DB_VERIFY_BAD || rc == EINVAL || rc == DB_NOTFOUND)
                err_set(err, ERR_CORRUPT, "open database environment %s: %s", env->dir, db_strerror(rc));
        else
                db_fail(env, NULL, rc, err, env->dir);
        if (env->env)
                env->env->close(env->env, 0);
        free(env->dir);
        free(env);
        return -1;
}

void db_env_close(struct db_env **envp)
{
        struct db_env *env = *envp;
        struct err err = ERR_INIT;
        int rc;

        *envp = NULL;
        if (!env)
                return;
        if (env->env) {
                if (!atomic_load(&env->failed) && db_env_checkpoint(env, &err) < 0)
                        log_event(LOG_WARN, NULL, "db.checkpoint", "reason=\"%s\"", err.text);
                rc = env->env->close(env->env, 0);
                if (rc != 0 && !atomic_load(&env->failed))
                        log_event(LOG_WARN, NULL, "db.close", "reason=\"%s\"", db_strerror(rc));
        }
        free(env->dir);
        free(env);
}

int db_env_checkpoint(struct db_env *env, struct err *err)
{
        int rc;

        if (db_writable(env, err) < 0)
                return -1;
        atomic_store(&env->unchecked_bytes, 0);
        rc = env->env->txn_checkpoint(env->env, 0, 0, 0);
        if (atomic_load(&failed_syncs) != env->failed_syncs) {
                db_env_mark_failed(env, "checkpoint", "a sync failed");
                return err_set(err, ERR_IO, "checkpoint: a sync of %s failed", env->dir);
        }
        return rc == 0 ? 0 : db_fail(env, NULL, rc, err, "checkpoint");
}

int db_env_flush(struct db_env *env, struct err *err)
{
        int rc;

        if (db_writable(env, err) < 0)
                return -1;
        rc = env->env->log_flush(env->env, NULL);
        if (atomic_load(&failed_syncs) != env->failed_syncs) {
                db_env_mark_failed(env, "flush", "a sync failed");
                return err_set(err, ERR_IO, "flush: a sync of %s failed", env->dir);
        }
        return rc == 0 ? 0 : db_fail(env, NULL, rc, err, "flush");
}

/* The log file that is being written. */
static int current_log(struct db_env *env, uint32_t *log_r, struct err *err)
{
        DB_LOG_STAT *stat = NULL;
        int rc = env->env->log_stat(env->env, &stat, 0);

        if (rc != 0)
                return db_fail(env, NULL, rc, err, "log");
        *log_r = stat->st_cur_file;
        free(stat);
        return 0;
}

static int sync_copy(const char *dir, const char *file, struct err *err)
{
        struct str path = STR_INIT;
        int fd, rc;

        str_printf(&path, "%s/%s", dir, file);
        fd = open(path.data, O_RDONLY | O_CLOEXEC);
        rc = fd < 0 ? err_errno(err, errno, "open %s", path.data) : fs_datasync(fd, path.data, err);
        if (fd >= 0)
                close(fd);
        str_deinit(&path);
        return rc;
}

int db_env_backup(struct db_env *env, const char *const *tables, const char *to, uint32_t *log_r, struct err *err)
{
        int rc;

        /* What transactions that run now have written before the checkpoint may be in the file before the present one. */
        if (current_log(env, log_r, err) < 0 || db_env_checkpoint(env, err) < 0)
                return -1;
        if (*log_r > 1)
                --*log_r;
        for (; *tables; tables++) {
                rc = env->env->dbbackup(env->env, *tables, to, 0);
                if (rc != 0)
                        return db_fail(env, NULL, rc, err, *tables);
                if (sync_copy(to, *tables, err) < 0)
                        return -1;
        }
        return 0;                                       /* open_file() has made the names durable */
}

int db_env_remove_logs(struct db_env *env, uint32_t log, struct err *err)
{
        char **list = NULL;
        int rc = env->env->log_archive(env->env, &list, 0), ret = 0;

        if (rc != 0)
                return db_fail(env, NULL, rc, err, "log");
        for (char **name = list; name && *name && ret == 0; name++) {
                struct str path = STR_INIT;
                const char *dot = strrchr(*name, '.');

                str_printf(&path, "%s/%s", env->dir, *name);
                if (dot && strtoul(dot + 1, NULL, 10) < log && unlink(path.data) < 0 && errno != ENOENT)
                        ret = err_errno(err, errno, "unlink %s", path.data);
                str_deinit(&path);
        }
        free(list);
        return ret;
}

void db_env_stats(struct db_env *env, uint64_t *commits_r, uint64_t *retries_r)
{
        *commits_r = atomic_load(&env->commits);
        *retries_r = atomic_load(&env->retries);
}

/* Nothing can be written: Berkeley DB has taken the transaction back (it turns a commit record that is not yet written into an abort),
 * and goes on when there is room again. */
static bool is_no_space(int rc)
{
        return rc == ENOSPC || rc == EDQUOT || rc == EFBIG;
}

/* Any other failure of a commit leaves in doubt whether its record is in the log: nothing may build on it, and nothing may be tried
 * again (a second fsync may report success for pages that the first one lost). */
static int commit(struct db_env *env, struct db_txn *txn, bool sync, struct err *err)
{
        int rc = txn->txn->commit(txn->txn, sync ? DB_TXN_SYNC : DB_TXN_WRITE_NOSYNC);

        if (atomic_load(&failed_syncs) != env->failed_syncs) {
                db_env_mark_failed(env, "commit", "a sync failed");
                return err_set(err, ERR_IO, "commit: a sync of %s failed", env->dir);
        }
        if (rc == 0) {
                atomic_fetch_add(&env->commits, 1);
                return 0;
        }
        if (rc != DB_LOCK_DEADLOCK && !is_no_space(rc))
                db_env_mark_failed(env, "commit", db_strerror(rc));
        return db_fail(env, txn, rc, err, "commit");
}

/* One try. 0, or -1; *again_r when it gave way to another transaction. */
static int run_once(struct db_env *env, bool sync, int (*fn)(struct db_txn *, void *, struct err *), void *ctx, bool *again_r,
                    struct err *err)
{
        struct db_txn txn = { NULL, false };
        int rc = env->env->txn_begin(env->env, NULL, &txn.txn, 0), ret;

        if (rc != 0)
                return db_fail(env, NULL, rc, err, "begin");
        ret = fn(&txn, ctx, err);
        if (ret == 0 && !txn.deadlock) {
                ret = commit(env, &txn, sync, err);
        } else {
                rc = txn.txn->abort(txn.txn);
                if (rc != 0)
                        db_env_mark_failed(env, "abort", db_strerror(rc));
                ret = -1;
        }
        *again_r = txn.deadlock;
        return ret;
}

int db_run(struct db_env *env, bool sync, int (*fn)(struct db_txn *, void *, struct err *), void *ctx, struct err *err)
{
        unsigned wait_us = 100;

        for (int tries = 0; tries < TRIES_MAX; tries++) {
                struct err mine = ERR_INIT;
                bool again = false;

                if (db_writable(env, err) < 0)
                        return -1;
                if (run_once(env, sync, fn, ctx, &again, &mine) == 0) {
                        if (atomic_load(&env->unchecked_bytes) > CHECKPOINT_BYTES &&
                            db_env_checkpoint(env, &mine) < 0)
                                log_event(LOG_WARN, NULL, "db.checkpoint", "reason=\"%s\"", mine.text);
                        return 0;
                }
                if (!again) {
                        err_copy(err, &mine);
                        return -1;
                }
                atomic_fetch_add(&env->retries, 1);
                usleep(wait_us);
                if (wait_us < 20000)
                        wait_us *= 2;
        }
        return err_set(err, ERR_BUSY, "database transaction gave way %d times", TRIES_MAX);
}

const char *db_library_version(void)
{
        return db_version(NULL, NULL, NULL);
}
