/* store - see store.h. Finding out whose files these are, stamps, epoch and databases are in store_open.c and store_db.c. */
#include "store/store_private.h"

#include <stdio.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store/annot_user.h"
#include "store/change.h"
#include "store/duplicate_private.h"
#include "store/mboxlist_private.h"
#include "store/quota_private.h"
#include "store/seen_private.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define SMALL_JOURNAL_BYTES (96u << 10)
#define SMALL_SEGMENT_BYTES (48u << 10)
#define SYNC_THREADS 16                         /* for those that go by no journal of ours: a file system takes what waits while it commits into its next
                                                 * commit; where flushes are merged more of them is faster */

static void push_conf(struct store *store, struct conf *conf)
{
        struct store_conf *c = xcalloc(1, sizeof *c);

        c->conf = conf_ref(conf);
        c->ns = namespace_create(conf);
        c->former = atomic_load(&store->conf);
        atomic_store(&store->conf, c);
}

static int check_options(const struct store_options *options, struct err *err)
{
        const char *dir = conf_str(options->conf, NULL, "configdirectory");
        const char *def = conf_str(options->conf, NULL, "defaultpartition"), *name, *value;
        size_t pos = 0;

        if (!dir || !*dir)
                return err_set(err, ERR_CONFIG, "configdirectory option not specified in configuration file");
        if (*dir != '/')
                return err_set(err, ERR_CONFIG, "configdirectory: %s is not an absolute path", dir);
        if (def && !conf_partition(options->conf, def))
                return err_set(err, ERR_CONFIG, "partition-%s option not specified in configuration file", def);
        if (!conf_next(options->conf, "partition-", &pos, &name, &value))
                return err_set(err, ERR_CONFIG, "partition-default option not specified in configuration file");
        return 0;
}

static int logstore_open(struct store *store, struct err *err)
{
        struct conf *conf = store_conf(store);
        struct logstore_options options = {
                .sync_threads = store->no_threads ? 0 : SYNC_THREADS,
                .sync_all = strcmp(conf_enum(conf, NULL, "store_sync"), "all") == 0,
                .blob_threshold = conf_bytes(conf, NULL, "blob_threshold"),
                .readonly = store->readonly,
                .journal_all = store->small_files,
                .journal_bytes = store->small_files ? SMALL_JOURNAL_BYTES : 0,
                .segment_bytes = store->small_files ? SMALL_SEGMENT_BYTES : 0,
        };

        return logstore_create(store, &options, &store->ls, err);
}

/* In this order: whose is it, lock, stamps, epoch, databases, names, mailboxes. Until the lock nothing is made. */
static int open_all(struct store *store, struct conf *conf, struct err *err)
{
        struct str path = STR_INIT;
        uint64_t damaged = 0;
        int rc;

        if (store_detect_foreign(store->configdir, conf, err) < 0)
                return -1;
        str_printf(&path, "%s/cyrd.store", store->configdir);
        rc = store->readonly && !fs_exists(path.data) ? err_set(err, ERR_NOTFOUND, "%s: there is no store", store->configdir) : 0;
        str_deinit(&path);
        if (rc < 0)
                return -1;
        if (!store->readonly && fs_mkdir_p_durable(store->configdir, 0700, err) < 0)
                return -1;
        str_printf(&path, "%s/cyrd.lock", store->configdir);
        rc = fs_lock_file(path.data, &store->lock_fd, err);
        str_deinit(&path);
        if (rc < 0 || store_stamp(store, err) < 0 || store_add_partitions(store, conf, err) < 0 || store_begin(store, err) < 0 ||
            store_open_databases(store, err) < 0 || mboxlist_open(store, store->mailboxes_db, &store->ml, &damaged, err) < 0 ||
            mboxlist_after_restore(store->ml, err) < 0 || mboxlist_settle_removals(store->ml, true, err) < 0 || subs_create(store, &store->subs, err) < 0 ||
            seens_create(store, &store->seens) < 0 || annot_users_open(store, &store->annot_users, err) < 0 ||
            quotas_open(store, &store->quotas, err) < 0 || duplicates_create(store, &store->duplicates) < 0 ||
            logstore_open(store, err) < 0)
                return -1;
        quotas_settle_later(store);
        duplicates_start(store->duplicates);
        log_event(LOG_NOTE, NULL, "store.open", "dir=%s id=%s epoch=%u last_stop=%s mailboxes=%llu damaged=%llu", store->configdir,
                  store->id, store->epoch, store->unclean ? "unclean" : "clean", (unsigned long long)mboxlist_count(store->ml),
                  (unsigned long long)damaged);
        return 0;
}

static void free_partitions(struct store *store)
{
        for (struct store_partition *p = atomic_load(&store->partitions), *next; p; p = next) {
                next = atomic_load(&p->next);
                store_free_partition(p);
        }
}

static void release(struct store *store)
{
        if (store->ls)
                logstore_destroy(&store->ls);
        sort_cache_destroy(&store->sort_cache);
        mboxlist_close(&store->ml);
        quotas_destroy(&store->quotas);
        duplicates_destroy(&store->duplicates);
        subs_destroy(&store->subs);
        seens_destroy(&store->seens);
        annot_users_destroy(&store->annot_users);
        store_close_databases(store);
        free_partitions(store);
        for (struct store_conf *c = atomic_load(&store->conf), *former; c; c = former) {
                former = c->former;
                conf_unref(&c->conf);
                namespace_unref(&c->ns);
                free(c);
        }
        if (store->lock_fd >= 0)
                close(store->lock_fd);          /* gives up the lock */
        mutex_deinit(&store->lock);
        mutex_deinit(&store->dumping);
        free(store->fence_why);
        free(store->configdir);
        free(store);
}

int store_open(const struct store_options *options, struct store **store_r, struct err *err)
{
        struct store *store;
        const char *dir;

        *store_r = NULL;
        if (check_options(options, err) < 0)
                return -1;
        store = xcalloc(1, sizeof *store);
        dir = conf_str(options->conf, NULL, "configdirectory");
        store->configdir = xstrdup(dir);
        store->readonly = options->readonly;
        store->no_threads = options->no_threads;
        store->small_databases = options->small_databases;
        store->small_files = options->small_files;
        store->lock_fd = -1;
        mutex_init(&store->lock);
        mutex_init(&store->dumping);
        push_conf(store, options->conf);
        store->sort_cache = sort_cache_create(conf_bytes(options->conf, NULL, "sort_cache_size"));
        if (open_all(store, options->conf, err) < 0) {
                release(store);
                return -1;
        }
        *store_r = store;
        return 0;
}

/* Whatever has failed meanwhile makes the stop an unclean one: what the failed sync lost is found by the next start. */
static bool all_well(struct store *store)
{
        if (db_env_failed(store->env, NULL) || atomic_load(&store->mailbox_failed))
                return false;
        for (struct store_partition *p = atomic_load(&store->partitions); p; p = atomic_load(&p->next))
                if (atomic_load(&p->failed))
                        return false;
        return true;
}

void store_close(struct store **storep)
{
        struct store *store = *storep;
        struct err err = ERR_INIT;
        bool well;

        *storep = NULL;
        if (!store)
                return;
        atomic_store(&store->quotas->closing, true);
        logstore_destroy(&store->ls);
        well = all_well(store);
        if (well && quotas_save(store, true, &err) < 0) {
                log_event(LOG_ERROR, NULL, "quota.save", "reason=\"%s\"", err.text);
                well = false;
        }
        if (!store->readonly && well && store_db_checkpoint(store, &err) < 0) {
                log_event(LOG_ERROR, NULL, "store.checkpoint", "reason=\"%s\"", err.text);
                well = false;
        }
        store_close_databases(store);
        if (!store->readonly && well && store_mark_clean(store, &err) < 0)
                log_event(LOG_ERROR, NULL, "store.close", "reason=\"%s\"", err.text);
        release(store);
}

void store_reconfigure(struct store *store, struct conf *conf)
{
        struct err err = ERR_INIT;

        mutex_lock(&store->lock);
        push_conf(store, conf);
        sort_cache_resize(store->sort_cache, conf_bytes(conf, NULL, "sort_cache_size"));
        if (store_add_partitions(store, conf, &err) < 0)
                log_event(LOG_ERROR, NULL, "store.partition", "reason=\"%s\" consequence=\"it is not used\"", err.text);
        mutex_unlock(&store->lock);
}

/* ---- what there is ---- */

struct conf *store_conf(struct store *store)
{
        return atomic_load(&store->conf)->conf;
}

struct namespace *store_namespace(struct store *store)
{
        return atomic_load(&store->conf)->ns;
}

struct mboxlist *store_mboxlist(struct store *store)
{
        return store->ml;
}

enum expunge_mode store_expunge_mode(struct store *store)
{
        const char *mode = conf_enum(store_conf(store), NULL, "expunge_mode");

        return strcmp(mode, "immediate") == 0 ? EXPUNGE_IMMEDIATE : strcmp(mode, "semidelayed") == 0 ? EXPUNGE_SEMIDELAYED : EXPUNGE_DELAYED;
}

struct db_env *store_db(struct store *store)
{
        return store->env;
}

struct logstore *store_logstore(struct store *store)
{
        return store->ls;
}

struct sort_cache *store_sort_cache(struct store *store)
{
        return store->sort_cache;
}

struct quotas *store_quotas(struct store *store)
{
        return store->quotas;
}

struct annot_users *store_annot_users(struct store *store)
{
        return store->annot_users;
}

void store_mailbox_loaded(struct mailbox *m)
{
        quota_bind(m);
}

uint32_t store_epoch(struct store *store)
{
        return store->epoch;
}

const char *store_configdir(struct store *store)
{
        return store->configdir;
}

bool store_was_unclean(struct store *store)
{
        return store->unclean;
}

bool store_db_failed(struct store *store, const char **why_r)
{
        return db_env_failed(store->env, why_r);
}

/* ---- partitions ---- */

static struct store_partition *partition_named(struct store *store, const char *name)
{
        for (struct store_partition *p = atomic_load(&store->partitions); p; p = atomic_load(&p->next))
                if (strcasecmp(p->name, name) == 0)
                        return p;
        return NULL;
}

static struct store_partition *partition_in(struct store *store, const char *dir)
{
        for (struct store_partition *p = atomic_load(&store->partitions); p; p = atomic_load(&p->next))
                if (strcmp(p->dir, dir) == 0)
                        return p;
        return NULL;
}

const char *store_partition_dir(struct store *store, const char *partition)
{
        struct store_partition *p = partition_named(store, partition);

        return p ? p->dir : NULL;
}

const char *store_partition_name(struct store *store, const char *partition)
{
        struct store_partition *p = partition_named(store, partition);

        return p ? p->name : NULL;
}

const char *store_mailbox_partition_dir(struct store *store, const char *uniqueid)
{
        const struct mbentry *e = store->ml ? mboxlist_find_uniqueid(store->ml, uniqueid) : NULL;
        const char *dir = e && e->type == MBTYPE_NORMAL ? store_partition_dir(store, e->partition) : NULL;

        mbentry_unref(&e);
        return dir;
}

void store_mailbox_changed(struct store *store, struct change *change)
{
        const struct mbentry *e = store->ml && change_entries_wanted(store) ? mboxlist_find_uniqueid(store->ml, change->uniqueid) : NULL;

        change->after = e;
        change_publish(store, change);
        mbentry_unref(&e);
}

char *store_mailbox_name(struct store *store, const char *uniqueid)
{
        const struct mbentry *e = store->ml ? mboxlist_find_uniqueid(store->ml, uniqueid) : NULL;
        char *name = e ? xstrdup(e->name) : NULL;

        mbentry_unref(&e);
        return name;
}

static uint64_t free_bytes(const char *dir)
{
        struct statvfs v;

        return statvfs(dir, &v) == 0 ? (uint64_t)v.f_bavail * v.f_frsize : 0;
}

const char *store_default_partition(struct store *store)
{
        struct conf *conf = store_conf(store);
        const char *def = conf_str(conf, NULL, "defaultpartition"), *exclude = conf_str(conf, NULL, "partition_select_exclude");
        struct store_partition *p = def ? partition_named(store, def) : NULL, *best = NULL;
        uint64_t most = 0;

        if (p)
                return p->name;
        for (p = atomic_load(&store->partitions); p; p = atomic_load(&p->next)) {
                uint64_t bytes;

                if (best && (atomic_load(&p->failed) || conf_words_have(exclude, p->name)))
                        continue;
                bytes = free_bytes(p->dir);
                if (!best || atomic_load(&best->failed) || bytes > most) {
                        best = p;
                        most = bytes;
                }
        }
        return best->name;                      /* there is at least one */
}

void store_mark_failed(struct store_partition *p, const struct err *why)
{
        char quoted[LOG_QUOTE_MAX];

        if (atomic_load(&p->failed))
                return;
        snprintf(p->why, sizeof p->why, "%.199s", why->text);
        atomic_store(&p->failed, true);
        log_event(LOG_ERROR, NULL, "partition.failed", "partition=%s dir=%s reason=%s consequence=\"no changes until the next start\"", p->name,
                  p->dir, log_quote_str(quoted, why->text));
}

void store_partition_fail(struct store *store, const char *partition_dir, const struct err *why)
{
        struct store_partition *p = partition_in(store, partition_dir);

        if (!p)
                return;
        mutex_lock(&store->lock);
        store_mark_failed(p, why);
        mutex_unlock(&store->lock);
}

bool store_partition_failed(struct store *store, const char *partition_dir)
{
        struct store_partition *p = partition_in(store, partition_dir);

        return p && atomic_load(&p->failed);
}

int store_mailbox_is_whole(struct store *store, const char *partition_dir, const char *uniqueid, struct err *err)
{
        const struct store_partition *p = partition_in(store, partition_dir);
        const char *why = p && p->left ? table_find(p->left, (struct span){ uniqueid, strlen(uniqueid) }) : NULL;

        if (!why)
                return 0;
        return err_set(err, ERR_IO, "changes of mailbox %s are in the journal of %s only, and could not be written back to its log when cyrd was started: %s",
                       uniqueid, partition_dir, why);
}

void store_mailbox_failed(struct store *store)
{
        atomic_store(&store->mailbox_failed, true);
}

void store_fence(struct store *store, const char *why)
{
        mutex_lock(&store->lock);
        if (why) {
                free(store->fence_why);
                store->fence_why = xstrdup(why);
        }
        atomic_store(&store->fenced, why != NULL);
        mutex_unlock(&store->lock);
}

bool store_is_fenced(struct store *store)
{
        return atomic_load_explicit(&store->fenced, memory_order_acquire);
}

int store_may_change(struct store *store, struct err *err)
{
        if (__builtin_expect(!store_is_fenced(store), true) || change_marks() & CHANGE_REPLICATED)
                return 0;
        mutex_lock(&store->lock);
        err_set(err, ERR_FENCED, "%s", store->fence_why);
        mutex_unlock(&store->lock);
        return -1;
}

void store_each_partition(struct store *store,
                          void (*fn)(void *ctx, const char *name, const char *dir, bool readonly, const char *why), void *ctx)
{
        for (struct store_partition *p = atomic_load(&store->partitions); p; p = atomic_load(&p->next)) {
                bool failed = atomic_load(&p->failed);

                fn(ctx, p->name, p->dir, failed || store->readonly, failed ? p->why : store->readonly ? "open for reading only" : p->left_why);
        }
}
