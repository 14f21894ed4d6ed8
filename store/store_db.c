/*
 * store_db - the store's tables: opening them, and bringing them back from dumps.
 *
 * A table is ours when it has the key "!format". One without it was made anew by db_open() – the file had been removed, or the whole
 * environment was set aside because it could not be recovered – and gets the last dump's records, and then that key, before it is used.
 * So whatever is interrupted is done again at the next start.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/store_private.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"

#define FORMAT_KEY SPAN("!format")
#define FORMAT "1"

static void dump_path(struct store *store, const char *table, const char *suffix, struct str *path)
{
        str_clear(path);
        str_printf(path, "%s/db.backup/%s.jsonl%s", store->configdir, table, suffix);
}

/* From the newest dump that is whole. None at all is fine: the table is a new one. */
static int restore(struct store *store, struct db *db, const char *table, struct err *err)
{
        static const char *const suffixes[] = { "", ".1" };
        struct str path = STR_INIT;
        bool any = false, done = false;

        for (size_t i = 0; !done && i < ARRAY_LEN(suffixes); i++) {
                struct err mine = ERR_INIT;
                uint64_t records;

                dump_path(store, table, suffixes[i], &path);
                if (!fs_exists(path.data))
                        continue;
                any = true;
                if (db_restore(db, path.data, &records, &mine) == 0) {
                        done = true;
                        log_event(LOG_ERROR, NULL, "db.restored",
                                  "table=%s from=%s records=%llu consequence=\"changes since that dump are lost: run cyrctl check\"",
                                  table, path.data, (unsigned long long)records);
                } else {
                        log_event(LOG_ERROR, NULL, "db.restore", "from=%s reason=\"%s\"", path.data, mine.text);
                }
        }
        str_deinit(&path);
        if (any && !done)
                return err_set(err, ERR_CORRUPT, "table %s is lost and none of its dumps is whole", table);
        return 0;
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
        if (rc > 0 && strcmp(format.data, FORMAT) != 0)
                rc = err_set(err, ERR_UNSUPPORTED, "table %s has format %s, this version of cyrd knows %s", table, format.data, FORMAT);
        else if (rc == 0 && !store->readonly)
                rc = restore(store, *db_r, table, err) < 0 ? -1 : db_put(*db_r, NULL, FORMAT_KEY, SPAN(FORMAT), err);
        str_deinit(&format);
        return rc < 0 ? -1 : 0;
}

/* An environment that cannot be recovered is set aside whole, for whoever wants to look into it. */
static int set_aside(struct store *store, const char *dir, struct err *err)
{
        struct str aside = STR_INIT;
        int rc = 0;

        str_printf(&aside, "%s/db.damaged.%lld", store->configdir, (long long)clock_wall_s());
        if (rename(dir, aside.data) < 0)
                rc = err_errno(err, errno, "rename %s", dir);
        if (rc == 0)
                rc = fs_sync_dir(store->configdir, err);
        if (rc == 0)
                rc = fs_mkdir_p_durable(dir, 0700, err);
        if (rc == 0)
                log_event(LOG_ERROR, NULL, "db.damaged", "aside=%s consequence=\"the tables come back from their dumps\"", aside.data);
        str_deinit(&aside);
        return rc;
}

static int open_all(struct store *store, const char *dir, struct err *err)
{
        struct db_env_options options = { .dir = dir, .readonly = store->readonly };

        if (db_env_open(&options, &store->env, err) < 0 || open_table(store, "mailboxes.db", &store->mailboxes_db, err) < 0 ||
            open_table(store, "subscriptions.db", &store->subscriptions_db, err) < 0)
                return -1;
        return 0;
}

int store_open_databases(struct store *store, struct err *err)
{
        struct str dir = STR_INIT;
        struct err mine = ERR_INIT;
        int rc = 0;

        str_printf(&dir, "%s/db", store->configdir);
        if (!store->readonly)
                rc = fs_mkdir_p_durable(dir.data, 0700, err);
        if (rc == 0 && open_all(store, dir.data, &mine) < 0) {
                bool damaged = mine.code == ERR_CORRUPT || (store->env && db_env_failed(store->env, NULL));

                log_event(LOG_ERROR, NULL, "db.open", "dir=%s reason=\"%s\"", dir.data, mine.text);
                store_close_databases(store);
                if (!damaged || store->readonly) {
                        err_copy(err, &mine);
                        rc = -1;
                } else {
                        rc = set_aside(store, dir.data, err);
                        if (rc == 0)
                                rc = open_all(store, dir.data, err);
                }
        }
        str_deinit(&dir);
        return rc;
}

void store_close_databases(struct store *store)
{
        db_close(&store->mailboxes_db);
        db_close(&store->subscriptions_db);
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
                        store->dumped_commits = commits;
        }
        mutex_unlock(&store->dumping);
        str_deinit(&dir);
        return rc;
}
