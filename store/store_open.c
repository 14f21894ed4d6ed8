/*
 * store_open - whose files these are, stamps, and the epoch.
 *
 * cyrd.store, in the configuration directory, is what makes a store ours; it is written before anything else, once:
 *
 *   cyrd-store 1
 *   id <24 characters>
 *   partition <name>          one line for each partition that was ever used, in lower case
 *
 * cyrd.partition, in each partition: "cyrd-partition 1", "id <the store's>", "name <name>". A partition that cyrd.store knows and
 * that has no such file is most likely a file system that is not mounted: refused. A higher number after the first word is a newer
 * format: refused.
 *
 * cyrd.state: "cyrd-state 1", "epoch <n>", "state running" or "state clean". It says running, durably, before anything else is
 * served; when it says so at the next start, the stop was an unclean one and the epoch is one more, durably. A missing or unreadable
 * one counts as unclean, and the epoch goes on from the clock's hours, which is above any count of starts.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/journal.h"
#include "store/mboxlist_private.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define STAMP_VERSION 1
#define STAMP_MAX 65536
#define WALK_ENTRIES_MAX 20000                  /* looked at in a partition without a stamp */
#define WALK_DEPTH_MAX 12

/* ---- foreign files ---- */

static int foreign(struct err *err, const char *path)
{
        return err_set(err, ERR_FOREIGN,
                       "%s belongs to another mail server (a real Cyrus?); nothing was touched. Give cyrd directories of its own and bring "
                       "the mail over by migration (see the manual, cyrd(8), MIGRATION)",
                       path);
}

/* A directory with anything in it. */
static bool dir_not_empty(const char *path)
{
        DIR *d = opendir(path);
        struct dirent *e;
        bool found = false;

        if (!d)
                return false;
        while (!found && (e = readdir(d)) != NULL)
                found = strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
        closedir(d);
        return found;
}

/* What Cyrus keeps in its configuration directory. Empty directories are what a package's installation makes: they tell nothing. */
static int detect_in_configdir(const char *dir, bool ours, struct err *err)
{
        static const char *const files[] = { "mailboxes.db", "annotations.db", "quotas.db", "deliver.db", "tls_sessions.db",
                                             "statuscache.db", "user_deny.db", "backups.db", "db/skipstamp", "db.backup1/mailboxes.db",
                                             "db.backup2/mailboxes.db", "mailboxes" };
        static const char *const dirs[] = { "quota", "user", "sieve", "db", "db.backup1", "db.backup2" };
        struct str path = STR_INIT;
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < ARRAY_LEN(files); i++) {
                str_clear(&path);
                str_printf(&path, "%s/%s", dir, files[i]);
                if (fs_exists(path.data))
                        ret = foreign(err, path.data);
        }
        for (size_t i = 0; ret == 0 && !ours && i < ARRAY_LEN(dirs); i++) {
                str_clear(&path);
                str_printf(&path, "%s/%s", dir, dirs[i]);
                if (dir_not_empty(path.data))
                        ret = foreign(err, path.data);
        }
        str_deinit(&path);
        return ret;
}

/* cyrus.header, cyrus.index … and message files: "123." */
static bool is_cyrus_file(const char *name)
{
        size_t digits = strspn(name, "0123456789");

        return strncmp(name, "cyrus.", 6) == 0 || (digits && strcmp(name + digits, ".") == 0);
}

/* Depth first, as mail lies deep. A tree that holds more than a bound without a sign of Cyrus is not Cyrus's. */
static int detect_in_tree(const char *dir, unsigned depth, unsigned *left, struct err *err)
{
        DIR *d = depth < WALK_DEPTH_MAX ? opendir(dir) : NULL;
        struct dirent *e;
        int ret = 0;

        while (ret == 0 && d && *left && (e = readdir(d)) != NULL) {
                struct str path = STR_INIT;
                struct stat st;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                --*left;
                str_printf(&path, "%s/%s", dir, e->d_name);
                if (lstat(path.data, &st) == 0) {
                        if (S_ISREG(st.st_mode) && is_cyrus_file(e->d_name))
                                ret = foreign(err, path.data);
                        else if (S_ISDIR(st.st_mode))
                                ret = detect_in_tree(path.data, depth + 1, left, err);
                }
                str_deinit(&path);
        }
        if (d)
                closedir(d);
        return ret;
}

int store_detect_foreign(const char *configdir, struct conf *conf, struct err *err)
{
        struct str path = STR_INIT;
        const char *name, *dir;
        size_t pos = 0;
        int ret;

        str_printf(&path, "%s/cyrd.store", configdir);
        ret = detect_in_configdir(configdir, fs_exists(path.data), err);
        while (ret == 0 && conf_next(conf, "partition-", &pos, &name, &dir)) {
                unsigned left = WALK_ENTRIES_MAX;

                str_clear(&path);
                str_printf(&path, "%s/cyrd.partition", dir);
                if (!fs_exists(path.data))
                        ret = detect_in_tree(dir, 0, &left, err);
        }
        str_deinit(&path);
        return ret;
}

/* ---- small text files: a head line with a version, then "key value" lines ---- */

/* The value of the n-th line `key`, in the arena; NULL when there is none. */
static const char *text_value(const struct str *text, const char *key, unsigned n, struct arena *arena)
{
        size_t len = strlen(key);

        for (const char *p = text->data; *p; p += strcspn(p, "\n"), p += *p == '\n') {
                if (strncmp(p, key, len) == 0 && p[len] == ' ' && n-- == 0)
                        return arena_strndup(arena, p + len + 1, strcspn(p + len + 1, "\n"));
        }
        return NULL;
}

/* 0 read, 1 there is none, -1 error. */
static int read_text(const char *path, const char *head, struct str *text, struct arena *arena, struct err *err)
{
        struct err mine = ERR_INIT;
        const char *version;

        if (fs_slurp(path, STAMP_MAX, text, &mine) < 0) {
                if (mine.code == ERR_NOTFOUND)
                        return 1;
                err_copy(err, &mine);
                return -1;
        }
        version = text_value(text, head, 0, arena);
        if (!version || strncmp(text->data, head, strlen(head)) != 0 || atoi(version) < 1)
                return err_set(err, ERR_CORRUPT, "%s is damaged", path);
        if (atoi(version) > STAMP_VERSION)
                return err_set(err, ERR_UNSUPPORTED, "%s was written by a newer version of cyrd (format %s, this one knows %d)", path,
                               version, STAMP_VERSION);
        return 0;
}

/* ---- stamps ---- */

static void stamp_path(struct store *store, struct str *path)
{
        str_clear(path);
        str_printf(path, "%s/cyrd.store", store->configdir);
}

static bool knows_partition(const struct str *text, const char *name, struct arena *arena)
{
        const char *value;

        for (unsigned n = 0; (value = text_value(text, "partition", n, arena)) != NULL; n++)
                if (strcmp(value, name) == 0)
                        return true;
        return false;
}

int store_stamp(struct store *store, struct err *err)
{
        struct str path = STR_INIT, text = STR_INIT;
        struct arena arena = ARENA_INIT;
        const char *id;
        int rc;

        stamp_path(store, &path);
        rc = read_text(path.data, "cyrd-store", &text, &arena, err);
        if (rc == 1 && store->readonly) {
                rc = err_set(err, ERR_NOTFOUND, "%s: there is no store", store->configdir);
        } else if (rc == 1) {
                mboxlist_new_uniqueid(store->id);
                str_clear(&text);
                str_printf(&text, "cyrd-store %d\nid %s\n", STAMP_VERSION, store->id);
                rc = fs_replace(path.data, text.data, text.len, 0600, err);
        } else if (rc == 0) {
                id = text_value(&text, "id", 0, &arena);
                if (!id || strlen(id) != 24)
                        rc = err_set(err, ERR_CORRUPT, "%s is damaged", path.data);
                else
                        memcpy(store->id, id, 25);
        }
        arena_deinit(&arena);
        str_deinit(&path);
        str_deinit(&text);
        return rc;
}

/* The partition's own stamp. `known`: it has been used before. */
int store_stamp_partition(struct store *store, const struct store_partition *p, bool known, struct err *err)
{
        struct str path = STR_INIT, text = STR_INIT;
        struct arena arena = ARENA_INIT;
        const char *id;
        int rc;

        str_printf(&path, "%s/cyrd.partition", p->dir);
        rc = read_text(path.data, "cyrd-partition", &text, &arena, err);
        if (rc == 1 && known) {
                rc = err_set(err, ERR_CORRUPT, "%s is missing: partition %s has been used before. Is its file system mounted?", path.data,
                             p->name);
        } else if (rc == 1) {
                str_clear(&text);
                str_printf(&text, "cyrd-partition %d\nid %s\nname %s\n", STAMP_VERSION, store->id, p->name);
                rc = fs_replace(path.data, text.data, text.len, 0600, err);
        } else if (rc == 0) {
                id = text_value(&text, "id", 0, &arena);
                if (!id || strcmp(id, store->id) != 0)
                        rc = err_set(err, ERR_FOREIGN, "%s belongs to another store than %s", p->dir, store->configdir);
        }
        arena_deinit(&arena);
        str_deinit(&path);
        str_deinit(&text);
        return rc;
}

static int remember_partition(const char *path, struct str *text, const char *name, struct err *err)
{
        str_printf(text, "partition %s\n", name);
        return fs_replace(path, text->data, text->len, 0600, err);
}

/* Two names of one directory have one journal, and one lane (logstore.c): the path that was there first. NULL: nobody has it. */
static const char *same_directory(struct store *store, const char *dir)
{
        struct stat mine, other;

        if (stat(dir, &mine) < 0)
                return NULL;
        for (const struct store_partition *p = atomic_load(&store->partitions); p; p = atomic_load(&p->next))
                if (stat(p->dir, &other) == 0 && other.st_dev == mine.st_dev && other.st_ino == mine.st_ino)
                        return p->dir;
        return NULL;
}

/* Returns 1 with err: it may take no changes. */
static int recover_journal(struct store_partition *p, struct err *err)
{
        struct table *left = table_create();
        int rc = journal_recover(p->dir, left, err);

        if (!table_count(left)) {
                table_destroy(&left);
                return rc;
        }
        p->left = left;
        snprintf(p->left_why, sizeof p->left_why, "%zu mailbox%s not used until the next start: see the log", table_count(left),
                 table_count(left) == 1 ? " is" : "es are");
        return rc;
}

void store_free_partition(struct store_partition *p)
{
        struct span key;
        void *why;

        for (size_t pos = 0; p->left && table_next(p->left, &pos, &key, &why);)
                free(why);
        table_destroy(&p->left);
        free(p->name);
        free(p->dir);
        free(p);
}

static int add_partition(struct store *store, const char *name, const char *dir, const char *path, struct str *text, struct err *err)
{
        struct store_partition *p = xcalloc(1, sizeof *p);
        struct arena arena = ARENA_INIT;
        bool known = knows_partition(text, name, &arena);
        struct store_partition *_Atomic *last = &store->partitions;
        const char *there;
        int rc = 0;

        p->name = xstrdup(name);
        p->dir = xstrdup(dir);
        while (p->dir[0] && p->dir[1] && p->dir[strlen(p->dir) - 1] == '/')
                p->dir[strlen(p->dir) - 1] = '\0';
        /* Its own stamp first: known without one would be refused for ever. */
        if (!store->readonly && !known)
                rc = fs_mkdir_p_durable(p->dir, 0700, err);
        if (rc == 0 && !store->readonly)
                rc = store_stamp_partition(store, p, known, err);
        if (rc == 0 && !store->readonly && !known)
                rc = remember_partition(path, text, name, err);
        there = rc == 0 ? same_directory(store, p->dir) : NULL;
        if (there) {
                free(p->dir);
                p->dir = xstrdup(there);
        } else if (rc == 0 && !store->readonly) {
                rc = recover_journal(p, err);
        }
        arena_deinit(&arena);
        if (rc < 0) {
                store_free_partition(p);
                return -1;
        }
        if (rc == 1)
                store_mark_failed(p, err);
        while (atomic_load(last))
                last = &atomic_load(last)->next;
        atomic_store(last, p);
        return 0;
}

int store_add_partitions(struct store *store, struct conf *conf, struct err *err)
{
        struct str path = STR_INIT, text = STR_INIT;
        struct arena arena = ARENA_INIT;
        const char *name, *dir;
        size_t pos = 0;
        int rc;

        stamp_path(store, &path);
        rc = read_text(path.data, "cyrd-store", &text, &arena, err);
        while (rc == 0 && conf_next(conf, "partition-", &pos, &name, &dir)) {
                const char *short_name = strchr(name, '-') + 1;
                const char *there = store_partition_dir(store, short_name);

                if (*dir != '/')
                        rc = err_set(err, ERR_CONFIG, "%s: %s is not an absolute path", name, dir);
                else if (!there)
                        rc = add_partition(store, short_name, dir, path.data, &text, err);
        }
        if (rc == 1)
                rc = err_set(err, ERR_CORRUPT, "%s is gone", path.data);
        arena_deinit(&arena);
        str_deinit(&path);
        str_deinit(&text);
        return rc;
}

/* ---- epoch ---- */

static int write_state(struct store *store, const char *state, struct err *err)
{
        struct str path = STR_INIT, text = STR_INIT;
        int rc;

        str_printf(&path, "%s/cyrd.state", store->configdir);
        str_printf(&text, "cyrd-state %d\nepoch %u\nstate %s\n", STAMP_VERSION, store->epoch, state);
        rc = fs_replace(path.data, text.data, text.len, 0600, err);
        str_deinit(&path);
        str_deinit(&text);
        return rc;
}

/* Epochs of a lost state file: hours since 1970 are above any number of starts that was. */
static uint32_t epoch_from_clock(void)
{
        int64_t hours = clock_wall_s() / 3600;

        return hours > 0 && hours < INT32_MAX ? (uint32_t)hours : 1;
}

int store_begin(struct store *store, struct err *err)
{
        struct str path = STR_INIT, text = STR_INIT;
        struct arena arena = ARENA_INIT;
        struct err mine = ERR_INIT;
        const char *epoch, *state;
        uint64_t n = 0;
        int rc;

        str_printf(&path, "%s/cyrd.state", store->configdir);
        rc = read_text(path.data, "cyrd-state", &text, &arena, &mine);
        epoch = rc == 0 ? text_value(&text, "epoch", 0, &arena) : NULL;
        state = rc == 0 ? text_value(&text, "state", 0, &arena) : NULL;
        str_clear(&path);
        str_printf(&path, "%s/db", store->configdir);
        if (rc < 0 && mine.code != ERR_CORRUPT) {
                err_copy(err, &mine);
        } else if (epoch && span_u64(span_of(epoch), UINT32_MAX - 1, &n) && n) {
                store->unclean = !state || strcmp(state, "clean") != 0;
                store->epoch = (uint32_t)n + (store->unclean ? 1 : 0);
                rc = 0;
        } else if (rc == 1 && !dir_not_empty(path.data)) {
                store->epoch = 1;               /* a new store */
                rc = 0;
        } else {
                log_event(LOG_ERROR, NULL, "store.state", "dir=%s reason=\"cyrd.state is missing or damaged\"", store->configdir);
                store->unclean = true;
                store->epoch = epoch_from_clock();
                rc = 0;
        }
        if (rc == 0 && !store->readonly)
                rc = write_state(store, "running", err);
        arena_deinit(&arena);
        str_deinit(&path);
        str_deinit(&text);
        return rc;
}

int store_mark_clean(struct store *store, struct err *err)
{
        return write_state(store, "clean", err);
}
