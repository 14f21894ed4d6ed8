/*
 * fake_store - just enough of store.h for tests of the mailbox log: one partition, an epoch, a log store. A program that includes this
 * must not pull in store.c.
 */
#ifndef T_FAKE_STORE_H
#define T_FAKE_STORE_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/change.h"
#include "store/logstore.h"
#include "store/mailbox.h"
#include "store/store.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

struct store {
        struct logstore *ls;
        uint32_t epoch;
        char dir[64];                           /* the partition */
        bool failed, mailbox_failed;
        bool other_failed;                      /* any other partition */
        char not_whole[MLOG_UNIQUEID_MAX];      /* what the journal has of this mailbox could not be written back; "": of none */
        char moved_to[80];                      /* every mailbox is there, says the list of mailboxes; "": it does not list them */
        struct sort_cache *sort_cache;          /* the test's, if it needs one */
        enum expunge_mode expunge_mode;
};

struct logstore *store_logstore(struct store *store) { return store->ls; }
struct sort_cache *store_sort_cache(struct store *store) { return store->sort_cache; }
uint32_t store_epoch(struct store *store) { return store->epoch; }
enum expunge_mode store_expunge_mode(struct store *store) { return store->expunge_mode; }
struct quotas *store_quotas(struct store *store) { (void)store; return NULL; }
struct annot_users *store_annot_users(struct store *store) { (void)store; return NULL; }
void store_mailbox_loaded(struct mailbox *m) { (void)m; }
bool store_partition_failed(struct store *store, const char *dir)
{
        return strcmp(dir, store->dir) == 0 ? store->failed : store->other_failed;
}
void store_partition_fail(struct store *store, const char *dir, const struct err *why)
{
        (void)why;
        *(strcmp(dir, store->dir) == 0 ? &store->failed : &store->other_failed) = true;
}

int store_mailbox_is_whole(struct store *store, const char *dir, const char *uniqueid, struct err *err)
{
        (void)dir;
        return strcmp(uniqueid, store->not_whole) == 0 ? err_set(err, ERR_IO, "mailbox %s is not whole", uniqueid) : 0;
}

const char *store_mailbox_partition_dir(struct store *store, const char *uniqueid)
{
        (void)uniqueid;
        return store->moved_to[0] ? store->moved_to : NULL;
}

void store_mailbox_changed(struct store *store, struct change *change) { change_publish(store, change); }

char *store_mailbox_name(struct store *store, const char *uniqueid)
{
        (void)store;
        (void)uniqueid;
        return NULL;
}

void store_mailbox_failed(struct store *store) { store->mailbox_failed = true; }

void store_each_partition(struct store *store, void (*fn)(void *ctx, const char *name, const char *dir, bool readonly, const char *why),
                          void *ctx)
{
        fn(ctx, "default", store->dir, store->failed, NULL);
}

bool store_is_fenced(struct store *store)
{
        (void)store;
        return false;
}

int store_may_change(struct store *store, struct err *err)
{
        (void)store;
        (void)err;
        return 0;
}

int store_db_checkpoint(struct store *store, struct err *err)
{
        (void)store;
        (void)err;
        return 0;
}

static inline void fake_store_start(struct store *s, unsigned threads)
{
        struct logstore_options options = { .sync_threads = threads };
        struct err err = ERR_INIT;

        s->failed = s->other_failed = false;
        must(logstore_create(s, &options, &s->ls, &err) == 0);
}

static inline void fake_store_init(struct store *s, unsigned threads)
{
        memset(s, 0, sizeof *s);
        log_open(LOG_TO_STDERR, "test", -1, getenv("TEST_LOG") ? LOG_DBG : LOG_ERROR);
        if (!getenv("TEST_LOG"))
                log_set_level((enum log_level)-1);
        s->epoch = 1;
        snprintf(s->dir, sizeof s->dir, "/tmp/cyrd-test-XXXXXX");
        must(mkdtemp(s->dir) != NULL);
        fake_store_start(s, threads);
}

static inline void fake_store_deinit(struct store *s)
{
        logstore_destroy(&s->ls);
        fs_remove_tree(s->dir, NULL);
}

static inline struct mailbox_ident fake_ident(struct store *s, const char *uniqueid)
{
        return (struct mailbox_ident){ .uniqueid = uniqueid, .partition_dir = s->dir, .name = "user.test", .uidvalidity = 4711 };
}

static inline struct mailbox *fake_open(struct store *s, const char *uniqueid)
{
        struct mailbox_ident ident = fake_ident(s, uniqueid);
        struct mailbox *m;
        struct err err = ERR_INIT;

        if (mailbox_open(s, &ident, &m, &err) < 0) {
                fprintf(stderr, "open %s: %s\n", uniqueid, err.text);
                return NULL;
        }
        return m;
}

static inline struct mailbox *fake_create(struct store *s, const char *uniqueid)
{
        struct mailbox_ident ident = fake_ident(s, uniqueid);
        struct err err = ERR_INIT;

        if (mailbox_create_files(s, &ident, &err) < 0) {
                fprintf(stderr, "create %s: %s\n", uniqueid, err.text);
                return NULL;
        }
        return fake_open(s, uniqueid);
}

static inline struct stage *fake_stage(struct store *s, const char *p, size_t len)
{
        struct stage *stage;
        struct err err = ERR_INIT;

        must(stage_begin(s, s->dir, len, &stage, &err) == 0);
        must(stage_write(stage, p, len, &err) == 0);
        must(stage_finish(stage, &err) == 0);
        return stage;
}

/* Append one message and wait. Returns its UID, 0 with err. */
static inline uint32_t fake_append(struct store *s, struct mailbox *m, const char *text, size_t len, uint32_t flags, const char *keyword,
                                   struct err *err)
{
        struct stage *stage = fake_stage(s, text, len);
        struct span kw = keyword ? span_of(keyword) : (struct span){ NULL, 0 };
        struct append_item item = { .stage = stage, .flags = flags, .keywords = &kw, .keyword_count = keyword ? 1 : 0,
                                    .internaldate = 1000000, .savedate = INT64_MIN };
        struct append_result result = { 0, 0, 0, 0 };
        struct waiter w;
        int rc;

        waiter_init_blocking(&w);
        rc = mailbox_append(m, &item, 1, &result, &w, err);
        if (rc == 0)
                rc = waiter_block(&w, err);
        stage_unref(&stage);
        return rc < 0 ? 0 : result.first_uid;
}

#endif
