/*
 * store_db - the store's tables: opening them, and bringing them back from dumps.
 *
 * A table is ours when it has the key "!format". One without it was made anew by db_open() – the file had been removed, or the whole
 * environment was set aside because it could not be recovered – and gets the last dump's records, and then that key, before it is used.
 * "!restored" in mailboxes.db says so until mboxlist_after_restore() has seen to it. So whatever is interrupted is done again at the next start.
 *
 * Two nets below the environment, renewed by store_db_checkpoint():
 *   db.backup/tables/   copies of the tables, with all log files since then kept in db/: when an environment cannot be recovered, as after
 *                       a power loss that tore a page, the copies and the log bring everything back. A new environment gets its first
 *                       copies when it is opened
 *   db.backup/X.jsonl   dumps as text, for when the log is damaged as well; what was changed since then is lost, and said to be
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/mboxlist_private.h"
#include "store/quota_private.h"
#include "store/store_private.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"

#define FORMAT_KEY SPAN("!format")
#define FORMAT "1"
#define ASIDE_PREFIX "db.damaged."
#define COPY_MAX (8ull << 30)                   /* octets of a table or a log file */

static void dump_path(struct store *store, const char *table, const char *suffix, struct str *path)
{
        str_clear(path);
        str_printf(path, "%s/db.backup/%s.jsonl%s", store->configdir, table, suffix);
}

static void copies_path(struct store *store, const char *suffix, struct str *path)
{
        str_printf(path, "%s/db.backup/tables%s", store->configdir, suffix);
}

static int put_restored(struct db_txn *txn, void *table, struct err *err)
{
        return db_put(table, txn, DB_RESTORED_KEY, SPAN(""), err);
}

/* Was an environment of this store set aside? Appends its path. */
static bool find_aside(struct store *store, struct str *path)
{
        DIR *d = opendir(store->configdir);
        const struct dirent *e;
        bool found = false;

        while (d && !found && (e = readdir(d)) != NULL)
                if (strncmp(e->d_name, ASIDE_PREFIX, sizeof ASIDE_PREFIX - 1) == 0) {
                        str_printf(path, "%s/%s", store->configdir, e->d_name);
                        found = true;
                }
        if (d)
                closedir(d);
        return found;
}

/* There is none. Fine, where the table is a new one, or has no dumps; but a store that had mailboxes does not begin again without them. */
static int without_dump(struct store *store, const char *table, struct err *err)
{
        struct str aside = STR_INIT;
        int rc = 0;

        if (strcmp(table, "mailboxes.db") == 0 && find_aside(store, &aside))
                rc = err_set(err, ERR_NOTFOUND, "the list of mailboxes is lost: its database could not be recovered, it is %s now, and there is no dump of it "
                             "(to begin with no mailboxes, move that directory away)", aside.data);
        str_deinit(&aside);
        return rc;
}

/* From the newest dump that is whole. */
static int restore(struct store *store, struct db *db, const char *table, struct err *err)
{
        static const char *const suffixes[] = { "", ".1" };
        struct str path = STR_INIT;
        bool any = false, done = false;
        int rc = -1;

        for (size_t i = 0; !done && i < ARRAY_LEN(suffixes); i++) {
                struct err mine = ERR_INIT;
                uint64_t records;

                dump_path(store, table, suffixes[i], &path);
                if (!fs_exists(path.data))
                        continue;
                any = true;
                /* Before the records: they bring the key "!format" along. */
                if (strcmp(table, "mailboxes.db") == 0 && db_run(store->env, false, put_restored, db, err) < 0)
                        goto out;
                if (db_restore(db, path.data, &records, &mine) == 0) {
                        done = true;
                        log_event(LOG_ERROR, NULL, "db.restored",
                                  "table=%s from=%s records=%llu consequence=\"changes since that dump are lost: run cyrctl check\"",
                                  table, path.data, (unsigned long long)records);
                } else {
                        log_event(LOG_ERROR, NULL, "db.restore", "from=%s reason=\"%s\"", path.data, mine.text);
                }
        }
        rc = !any ? without_dump(store, table, err)
                  : done ? 0 : err_set(err, ERR_NOTFOUND, "table %s is lost and none of its dumps is whole", table);
out:
        str_deinit(&path);
        return rc;
}

/* Every page is read once: damage is to be found now, while there is something to be done about it. */
static int read_all(struct db *db, struct err *err)
{
        struct db_cursor *cursor;
        struct span key, value;
        int rc;

        if (db_cursor_open(db, NULL, SPAN(""), &cursor, err) < 0)
                return -1;
        while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0)
                ;
        db_cursor_close(&cursor);
        return rc;
}

static int put_format(struct db_txn *txn, void *table, struct err *err)
{
        return db_put(table, txn, FORMAT_KEY, SPAN(FORMAT), err);
}

static int open_table(struct store *store, const char *table, struct db **db_r, struct err *err)
{
        struct str format = STR_INIT;
        struct err mine = ERR_INIT;
        int rc;

        if (db_open(store->env, table, db_r, &mine) < 0) {
                if (store->readonly && mine.code == ERR_NOTFOUND)
                        return 0;
                err_copy(err, &mine);
                return -1;
        }
        rc = db_get(*db_r, NULL, FORMAT_KEY, &format, err);
        if (rc > 0 && strspn(format.data, "0123456789") != format.len + (format.len == 0))
                rc = err_set(err, ERR_CORRUPT, "table %s is damaged", table);
        else if (rc > 0 && strcmp(format.data, FORMAT) != 0)
                rc = err_set(err, ERR_UNSUPPORTED, "table %s has format %s, this version of cyrd knows %s", table, format.data, FORMAT);
        else if (rc > 0 && !store->readonly)
                rc = read_all(*db_r, err);
        else if (rc == 0 && !store->readonly)
                rc = restore(store, *db_r, table, err) < 0 ? -1 : db_run(store->env, false, put_format, *db_r, err);
        str_deinit(&format);
        return rc < 0 ? -1 : 0;
}

/* An environment that cannot be recovered is set aside whole, for whoever wants to look into it; *aside_r is where. Its name is durable
 * with that of what takes its place. */
static int set_aside(struct store *store, const char *dir, struct str *aside_r, struct err *err)
{
        int rc = 0;

        str_clear(aside_r);
        for (int64_t now = clock_wall_s(); !aside_r->len || fs_exists(aside_r->data); now++) {
                str_clear(aside_r);
                str_printf(aside_r, "%s/" ASIDE_PREFIX "%lld", store->configdir, (long long)now);
        }
        if (rename(dir, aside_r->data) < 0)
                rc = err_errno(err, errno, "rename %s", dir);
        if (rc == 0)
                log_event(LOG_ERROR, NULL, "db.damaged", "aside=%s", aside_r->data);
        return rc;
}

static int open_all(struct store *store, const char *dir, bool from_backup, struct err *err)
{
        struct db_env_options options = { .dir = dir, .readonly = store->readonly, .small = store->small_databases,
                                          .from_backup = from_backup };

        if (db_env_open(&options, &store->env, err) < 0 || open_table(store, "mailboxes.db", &store->mailboxes_db, err) < 0 ||
            open_table(store, "subscriptions.db", &store->subscriptions_db, err) < 0 ||
            open_table(store, "removals.db", &store->removals_db, err) < 0 || open_table(store, "seen.db", &store->seen_db, err) < 0 ||
            open_table(store, "annotations.db", &store->annotations_db, err) < 0 ||
            open_table(store, "urlkeys.db", &store->urlkeys_db, err) < 0 || open_table(store, "quotas.db", &store->quotas_db, err) < 0)
                return -1;
        return 0;
}

/* The octets are durable, the name is the caller's business. */
static int copy_file(const char *from, const char *to, struct err *err)
{
        struct str content = STR_INIT;
        int rc = fs_slurp(from, COPY_MAX, &content, err), fd;

        if (rc == 0) {
                fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (fd < 0)
                        rc = err_errno(err, errno, "open %s", to);
                else if (fs_write_all(fd, content.data, content.len, err) < 0 || fs_datasync(fd, to, err) < 0)
                        rc = -1;
                if (fd >= 0)
                        close(fd);
        }
        str_deinit(&content);
        return rc;
}

/*
 * Which environment a directory belongs to: the name of an empty file in it, "id.…", made before the environment. Its name is durable with
 * that of the first log file. Copies go with the log of their own environment only: with another's, recovery would find tables that are
 * newer than all it reads, and take them for whole.
 */
static void environment_id(const char *dir, struct str *id)
{
        DIR *d = opendir(dir);
        struct dirent *e;

        while (d && (e = readdir(d)) != NULL)
                if (strncmp(e->d_name, "id.", 3) == 0) {
                        str_clear(id);
                        str_printf(id, "%s", e->d_name);
                }
        if (d)
                closedir(d);
}

static bool copies_fit(struct store *store, const char *dir)
{
        struct str copies = STR_INIT, mine = STR_INIT, theirs = STR_INIT;
        bool fit;

        copies_path(store, "", &copies);
        environment_id(dir, &mine);
        environment_id(copies.data, &theirs);
        fit = fs_exists(copies.data) && span_eq(str_span(&mine), str_span(&theirs));
        str_deinit(&copies);
        str_deinit(&mine);
        str_deinit(&theirs);
        return fit;
}

static int make_file(const char *path, struct err *err)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
                return err_errno(err, errno, "open %s", path);
        close(fd);
        return 0;
}

/* An empty file: there is nothing of it but its name. */
static int make_mark(const char *path, const char *dir, struct err *err)
{
        return make_file(path, err) < 0 ? -1 : fs_sync_dir(dir, err);
}

/* Copy all files of a directory. Returns how many, -1 with err. */
static int copy_files(const char *from, const char *to, struct err *err)
{
        DIR *d = opendir(from);
        struct dirent *e;
        int n = 0;

        while (d && n >= 0 && (e = readdir(d)) != NULL) {
                struct str source = STR_INIT, target = STR_INIT;

                if (e->d_name[0] == '.')
                        continue;
                str_printf(&source, "%s/%s", from, e->d_name);
                str_printf(&target, "%s/%s", to, e->d_name);
                n = copy_file(source.data, target.data, err) < 0 ? -1 : n + 1;
                str_deinit(&source);
                str_deinit(&target);
        }
        if (d)
                closedir(d);
        return n;
}

static unsigned long newest_log(const char *dir)
{
        DIR *d = opendir(dir);
        struct dirent *e;
        unsigned long newest = 0;

        while (d && (e = readdir(d)) != NULL)
                if (strncmp(e->d_name, "log.", 4) == 0 && strtoul(e->d_name + 4, NULL, 10) > newest)
                        newest = strtoul(e->d_name + 4, NULL, 10);
        if (d)
                closedir(d);
        return newest;
}

/*
 * The log files from the newest back to one that is missing. What is older was removed after a backup, several files at a time, and a power
 * loss may bring some of them back and others not: recovery would take such a log for damaged. Returns how many, -1 with err.
 */
static int copy_log(const char *from, const char *to, struct err *err)
{
        struct str source = STR_INIT, target = STR_INIT;
        int n = 0;

        for (unsigned long i = newest_log(from); i > 0 && n >= 0; i--) {
                str_clear(&source);
                str_clear(&target);
                str_printf(&source, "%s/log.%010lu", from, i);
                str_printf(&target, "%s/log.%010lu", to, i);
                if (!fs_exists(source.data))
                        break;
                n = copy_file(source.data, target.data, err) < 0 ? -1 : n + 1;
        }
        str_deinit(&source);
        str_deinit(&target);
        return n;
}

/*
 * Coming back from copies and log is made so that it can stop anywhere: db.recover/ gets the copies, the log of db/, and last the file
 * "from_backup"; then db/ is set aside and db.recover/ takes its name. Without db/, a db.recover/ with that file in it is taken at the
 * next start; and while db/ has that file, opening applies all of the log. It goes when that is done and checkpointed.
 */
static int prepare_recovery(struct store *store, const char *dir, const char *fresh, struct err *err)
{
        struct str path = STR_INIT;
        int n;

        copies_path(store, "", &path);
        n = fs_remove_tree(fresh, err);
        if (n == 0 && !copies_fit(store, dir))
                n = err_set(err, ERR_NOTFOUND, "there is no backup of this environment in %s", path.data);
        if (n == 0)
                n = fs_mkdir_p_durable(fresh, 0700, err);
        if (n == 0 && (n = copy_files(path.data, fresh, err)) == 0)
                n = err_set(err, ERR_NOTFOUND, "there is no backup in %s", path.data);
        if (n > 0 && (n = copy_log(dir, fresh, err)) == 0)
                n = err_set(err, ERR_NOTFOUND, "there is no log in %s", dir);
        if (n > 0) {                                    /* its sync is for the names of the copies, too: db/ is there until it has returned */
                str_clear(&path);
                str_printf(&path, "%s/from_backup", fresh);
                n = make_mark(path.data, fresh, err);
        }
        str_deinit(&path);
        return n < 0 ? -1 : 0;
}

static int rename_durably(struct store *store, const char *from, const char *to, struct err *err)
{
        if (rename(from, to) < 0)
                return err_errno(err, errno, "rename %s", from);
        return fs_sync_dir(store->configdir, err);
}

/* Open db/, with all of the log when it came from a backup. */
static int open_dir(struct store *store, const char *dir, bool *from_backup_r, struct err *err)
{
        struct str mark = STR_INIT;
        int rc;

        str_printf(&mark, "%s/from_backup", dir);
        *from_backup_r = fs_exists(mark.data);
        rc = open_all(store, dir, *from_backup_r, err);
        if (rc == 0 && *from_backup_r && !store->readonly) {
                rc = db_env_checkpoint(store->env, err);
                if (rc == 0 && unlink(mark.data) < 0)
                        rc = err_errno(err, errno, "unlink %s", mark.data);
                if (rc == 0)
                        rc = fs_sync_dir(dir, err);
                if (rc == 0)
                        log_event(LOG_ERROR, NULL, "db.recovered", "from=\"backup and log\" lost=nothing");
        }
        str_deinit(&mark);
        return rc;
}

static int open_from_backup(struct store *store, const char *dir, const char *fresh, struct err *err)
{
        struct str aside = STR_INIT;
        bool from_backup;
        int rc = prepare_recovery(store, dir, fresh, err);

        if (rc < 0)                                     /* where there is too little room, this is some of it */
                fs_remove_tree(fresh, NULL);
        if (rc == 0)
                rc = set_aside(store, dir, &aside, err);
        if (rc == 0)
                rc = rename_durably(store, fresh, dir, err);
        if (rc == 0)
                rc = open_dir(store, dir, &from_backup, err);
        str_deinit(&aside);
        return rc;
}

/* The last net: an empty environment, whose tables open_table() fills from the dumps. */
static int make_empty(const char *dir, struct err *err)
{
        struct str path = STR_INIT;
        uint8_t id[8];
        char hex[17];
        int rc = fs_mkdir_p_durable(dir, 0700, err);

        random_bytes(id, sizeof id);
        hex_encode(hex, id, sizeof id);
        str_printf(&path, "%s/id.%s", dir, hex);
        if (rc == 0)
                rc = make_file(path.data, err);
        str_deinit(&path);
        return rc;
}

static int open_from_dumps(struct store *store, const char *dir, struct err *err)
{
        struct str aside = STR_INIT;
        int rc = fs_exists(dir) ? set_aside(store, dir, &aside, err) : 0;

        if (rc == 0)
                rc = make_empty(dir, err);
        if (rc == 0)
                rc = open_all(store, dir, false, err);
        str_deinit(&aside);
        return rc;
}

/* Or is it whole, and only cannot be recovered now? */
static bool is_damage(struct store *store, const struct err *err)
{
        return (err->code == ERR_CORRUPT || (store->env && db_env_failed(store->env, NULL))) && !db_refused();
}

/* What `dir` holds cannot be used. */
static int recover(struct store *store, const char *dir, const char *fresh, bool from_backup, struct err *err)
{
        struct err mine = ERR_INIT;

        if (!from_backup && open_from_backup(store, dir, fresh, &mine) == 0)
                return 0;
        if (!from_backup && mine.code != ERR_NOTFOUND && !is_damage(store, &mine)) {
                store_close_databases(store);
                err_copy(err, &mine);
                return err_prefix(err, "the databases come back from their copies and the log, at the next start");
        }
        if (!from_backup)
                log_event(LOG_ERROR, NULL, "db.backup", "reason=\"%s\" consequence=\"the tables come back from their dumps\"", mine.text);
        store_close_databases(store);
        return open_from_dumps(store, dir, err);
}

static int find_dir(struct store *store, const char *dir, const char *fresh, struct err *err)
{
        struct str mark = STR_INIT;
        int rc = 0;

        str_printf(&mark, "%s/from_backup", fresh);
        if (!fs_exists(dir) && fs_exists(mark.data))
                rc = rename_durably(store, fresh, dir, err);
        else if (!fs_exists(dir))
                rc = make_empty(dir, err);
        str_deinit(&mark);
        return rc;
}

/* The new copies change places with the last ones (atomically), and only then may log files go. */
static int back_up(struct store *store, struct err *err)
{
        static const char *const names[] = { "mailboxes.db", "subscriptions.db", "removals.db", "seen.db", "annotations.db", "urlkeys.db",
                                             "quotas.db", NULL };
        struct str fresh = STR_INIT, place = STR_INIT, parent = STR_INIT, id = STR_INIT, path = STR_INIT;
        uint32_t log = 0;
        int rc;

        str_printf(&parent, "%s/db.backup", store->configdir);
        copies_path(store, ".new", &fresh);
        copies_path(store, "", &place);
        rc = fs_remove_tree(fresh.data, err);
        if (rc == 0)
                rc = fs_mkdir_p_durable(fresh.data, 0700, err);
        str_printf(&path, "%s/db", store->configdir);
        environment_id(path.data, &id);
        str_clear(&path);
        str_printf(&path, "%s/%s", fresh.data, id.len ? id.data : "");
        if (rc == 0 && id.len)
                rc = make_file(path.data, err);
        if (rc == 0)
                rc = db_env_backup(store->env, names, fresh.data, &log, err);
        if (rc == 0 && renameat2(AT_FDCWD, fresh.data, AT_FDCWD, place.data, RENAME_EXCHANGE) < 0 &&
            rename(fresh.data, place.data) < 0)
                rc = err_errno(err, errno, "rename %s", fresh.data);
        if (rc == 0)
                rc = fs_sync_dir(parent.data, err);
        if (rc == 0)
                rc = fs_remove_tree(fresh.data, err);
        if (rc == 0)
                rc = db_env_remove_logs(store->env, log, err);
        str_deinit(&fresh);
        str_deinit(&place);
        str_deinit(&parent);
        str_deinit(&id);
        str_deinit(&path);
        return rc;
}

/* A new environment has no copies yet: without them, damage before the first checkpoint would bring back no more than the dumps again. */
static void first_copies(struct store *store, const char *dir)
{
        struct err err = ERR_INIT;

        if (!copies_fit(store, dir) && back_up(store, &err) < 0)
                log_event(LOG_WARN, NULL, "db.backup", "reason=\"%s\" consequence=\"the next checkpoint makes the copies\"", err.text);
}

int store_open_databases(struct store *store, struct err *err)
{
        struct str dir = STR_INIT, fresh = STR_INIT;
        struct err mine = ERR_INIT;
        bool from_backup = false;
        int rc = 0;

        str_printf(&dir, "%s/db", store->configdir);
        str_printf(&fresh, "%s/db.recover", store->configdir);
        if (!store->readonly)
                rc = find_dir(store, dir.data, fresh.data, err);
        if (rc == 0 && open_dir(store, dir.data, &from_backup, &mine) < 0) {
                bool damaged = is_damage(store, &mine);

                log_event(LOG_ERROR, NULL, "db.open", "dir=%s reason=\"%s\"", dir.data, mine.text);
                store_close_databases(store);
                if (damaged && !store->readonly) {
                        rc = recover(store, dir.data, fresh.data, from_backup, err);
                } else {
                        rc = -1;
                        err_copy(err, &mine);
                        if (db_refused())
                                err_errno(err, db_refused(), "the databases in %s cannot be recovered now, and are left as they are", dir.data);
                }
        }
        if (rc == 0 && !store->readonly)
                first_copies(store, dir.data);
        str_deinit(&dir);
        str_deinit(&fresh);
        return rc;
}

void store_close_databases(struct store *store)
{
        db_close(&store->mailboxes_db);
        db_close(&store->subscriptions_db);
        db_close(&store->removals_db);
        db_close(&store->seen_db);
        db_close(&store->annotations_db);
        db_close(&store->urlkeys_db);
        db_close(&store->quotas_db);
        db_env_close(&store->env);
}

/* The last dump becomes ".1", a new one takes its place. */
static int dump(struct store *store, struct db *db, const char *table, struct err *err)
{
        struct str path = STR_INIT, former = STR_INIT;
        int rc;

        dump_path(store, table, "", &path);
        dump_path(store, table, ".1", &former);
        unlink(former.data);
        if (link(path.data, former.data) < 0 && errno != ENOENT)
                rc = err_errno(err, errno, "link %s", former.data);
        else
                rc = db_dump(db, path.data, err);
        str_deinit(&path);
        str_deinit(&former);
        return rc;
}

int store_db_checkpoint(struct store *store, struct err *err)
{
        struct str dir = STR_INIT;
        uint64_t commits, retries;
        int rc;

        if (store->readonly)
                return 0;
        if (mboxlist_settle_removals(store->ml, false, err) < 0)
                return -1;
        if (quotas_save(store, false, err) < 0)
                return -1;
        mutex_lock(&store->dumping);
        db_env_stats(store->env, &commits, &retries);
        rc = db_env_checkpoint(store->env, err);
        str_printf(&dir, "%s/db.backup", store->configdir);
        if (rc == 0 && commits != store->dumped_commits) {
                rc = fs_mkdir_p_durable(dir.data, 0700, err);
                if (rc == 0)
                        rc = dump(store, store->mailboxes_db, "mailboxes.db", err);
                if (rc == 0)
                        rc = dump(store, store->subscriptions_db, "subscriptions.db", err);
                if (rc == 0)
                        rc = dump(store, store->seen_db, "seen.db", err);
                if (rc == 0)
                        rc = dump(store, store->annotations_db, "annotations.db", err);
                if (rc == 0)
                        rc = dump(store, store->urlkeys_db, "urlkeys.db", err);
                if (rc == 0)
                        rc = dump(store, store->quotas_db, "quotas.db", err);
                if (rc == 0)
                        rc = back_up(store, err);
                if (rc == 0)
                        store->dumped_commits = commits;
        }
        mutex_unlock(&store->dumping);
        str_deinit(&dir);
        return rc;
}
