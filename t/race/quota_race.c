/*
 * quota_race - appends, moves, expunges, renames between quota roots, new and removed roots, and adding up, all at once (SAN=thread). At the
 * end each root's usage is what adding up says, and nothing went beyond a limit. TAP.
 */
#include <pthread.h>
#include <unistd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "store/mailbox_private.h"
#include "store/mboxlist.h"
#include "store/quota.h"
#include "t/store/conf_text.h"
#include "util/clock.h"
#include "util/waiter.h"

#define BOXES 6
static struct store *store;
static atomic_bool stop;
static atomic_uint appended, refused, moved, renamed, settled;
static char dir[100];
static const char text[] = "Subject: race\r\n\r\nbody of a message\r\n";

static const struct mbentry *entry_of(unsigned box)
{
        char name[2][40];
        const struct mbentry *e;

        snprintf(name[0], sizeof name[0], "user.joe.b%u", box);
        snprintf(name[1], sizeof name[1], "user.ann.b%u", box);
        e = mboxlist_find(store_mboxlist(store), name[0]);
        return e ? e : mboxlist_find(store_mboxlist(store), name[1]);
}

static struct mailbox *open_box(unsigned box)
{
        const struct mbentry *e = entry_of(box);
        struct mailbox_ident ident;
        struct mailbox *m = NULL;
        struct err err = ERR_INIT;

        if (e && (mbentry_ident(store, e, &ident, &err) < 0 || mailbox_open(store, &ident, &m, &err) < 0))
                m = NULL;
        if (e)
                mbentry_unref(&e);
        return m;
}

static void *appender(void *arg)
{
        for (unsigned i = (unsigned)(uintptr_t)arg; !atomic_load(&stop); i++) {
                struct mailbox *m = open_box(i % BOXES);
                struct append_item item = { .internaldate = INT64_MIN, .savedate = INT64_MIN };
                struct append_result result;
                struct err err = ERR_INIT;
                struct waiter w;

                if (!m)
                        continue;
                must(stage_begin(store, store_partition_dir(store, "default"), sizeof text, &item.stage, &err) == 0);
                must(stage_write(item.stage, text, sizeof text - 1, &err) == 0 && stage_finish(item.stage, &err) == 0);
                waiter_init_blocking(&w);
                if (mailbox_append(m, &item, 1, &result, &w, &err) == 0 && waiter_block(&w, &err) == 0)
                        atomic_fetch_add(&appended, 1);
                else if (err.code == ERR_QUOTA)
                        atomic_fetch_add(&refused, 1);
                stage_unref(&item.stage);
                mailbox_unref(&m);
        }
        return NULL;
}

static void *mover(void *arg)
{
        for (unsigned i = (unsigned)(uintptr_t)arg; !atomic_load(&stop); i++) {
                struct mailbox *from = open_box(i % BOXES), *to = open_box((i + 1) % BOXES);
                struct uidset uids = UIDSET_INIT;
                struct append_result result;
                struct err err = ERR_INIT;
                struct waiter w;
                uint64_t modseq;

                uidset_add_range(&uids, 1, UINT32_MAX);
                waiter_init_blocking(&w);
                if (from && to && i % 3 && mailbox_move(from, &uids, to, NULL, NULL, &result, &w, &err) == 0 && waiter_block(&w, &err) == 0)
                        atomic_fetch_add(&moved, 1);
                else if (from && i % 3 == 0 && mailbox_expunge(from, &uids, false, NULL, &modseq, &w, &err) == 0)
                        waiter_block(&w, &err);
                uidset_deinit(&uids);
                mailbox_unref(&from);
                mailbox_unref(&to);
        }
        return NULL;
}

static void *renamer(void *arg)
{
        (void)arg;
        for (unsigned i = 0; !atomic_load(&stop); i++) {
                const struct mbentry *e = entry_of(i % BOXES);
                struct err err = ERR_INIT;
                char to[40];

                if (!e)
                        continue;
                snprintf(to, sizeof to, "user.%s.b%u", strncmp(e->name, "user.joe", 8) == 0 ? "ann" : "joe", i % BOXES);
                if (mboxlist_rename(store_mboxlist(store), e->name, to, true, NULL, &err) == 0)
                        atomic_fetch_add(&renamed, 1);
                mbentry_unref(&e);
        }
        return NULL;
}

static void *settler(void *arg)
{
        int64_t limit[QUOTA_RESOURCES] = { QUOTA_UNLIMITED, 1000, QUOTA_UNLIMITED, QUOTA_UNLIMITED };
        const bool which[QUOTA_RESOURCES] = { false, true };

        (void)arg;
        for (unsigned i = 0; !atomic_load(&stop); i++) {
                struct quota_info before, after;
                struct err err = ERR_INIT;
                bool removed;

                if (quota_fix(store, i % 2 ? "user.joe" : "user.ann", false, &before, &after, &removed, &err) == 0)
                        atomic_fetch_add(&settled, 1);
                err_clear(&err);
                if (i % 4 == 0)
                        quota_set(store, "user.joe.b1", limit, which, true, &err);
                else if (i % 4 == 2)
                        quota_remove(store, "user.joe.b1", &err);
                usleep(1000);
        }
        return NULL;
}

static bool sound(const char *root)
{
        struct quota_info before, after;
        struct err err = ERR_INIT;
        bool removed, same = true;

        if (!quota_get(store, root, NULL))
                return true;
        if (quota_settle(store, root, &err) < 0 || quota_fix(store, root, true, &before, &after, &removed, &err) < 0) {
                printf("# %s: %s\n", root, err.text);
                return false;
        }
        for (int i = 0; i < QUOTA_RESOURCES; i++) {
                if (before.used[i] != after.used[i])
                        printf("# %s: %s is %lld, adds up to %lld\n", root, quota_resource_name((enum quota_resource)i),
                               (long long)before.used[i], (long long)after.used[i]);
                same = same && before.used[i] == after.used[i];
        }
        printf("# %s: %lld messages, %lld mailboxes\n", root, (long long)after.used[QUOTA_MESSAGE], (long long)after.used[QUOTA_MAILBOX]);
        return same;
}

static void begin(void)
{
        int64_t limit[QUOTA_RESOURCES] = { QUOTA_UNLIMITED, 60, QUOTA_UNLIMITED, QUOTA_UNLIMITED };
        const bool which[QUOTA_RESOURCES] = { true, true, true, true };
        struct store_options options = { .no_threads = false };
        struct err err = ERR_INIT;
        char conf[400], name[40];

        snprintf(dir, sizeof dir, "%s/quota-race.%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
        snprintf(conf, sizeof conf, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\n", dir, dir);
        options.conf = conf_text(conf);
        must(fs_mkdir_p(dir, 0700, NULL) == 0);
        must(store_open(&options, &store, &err) == 0);
        conf_unref(&options.conf);
        must(mboxlist_create(store_mboxlist(store), &(struct mbox_create){ .name = "user.joe" }, NULL, &err) == 0);
        must(mboxlist_create(store_mboxlist(store), &(struct mbox_create){ .name = "user.ann" }, NULL, &err) == 0);
        for (unsigned i = 0; i < BOXES; i++) {
                snprintf(name, sizeof name, "user.joe.b%u", i);
                must(mboxlist_create(store_mboxlist(store), &(struct mbox_create){ .name = name }, NULL, &err) == 0);
        }
        must(quota_set(store, "user.joe", limit, which, false, &err) == 0);
        must(quota_set(store, "user.ann", limit, which, false, &err) == 0);
}

int main(void)
{
        static void *(*const what[])(void *) = { appender, appender, mover, mover, renamer, settler };
        pthread_t threads[sizeof what / sizeof *what];
        unsigned n = sizeof what / sizeof *what;
        const char *seconds = getenv("RACE_SECONDS");
        bool ok[3];

        begin();
        for (unsigned i = 0; i < n; i++)
                must(pthread_create(&threads[i], NULL, what[i], (void *)(uintptr_t)(i * 3)) == 0);
        usleep((useconds_t)(seconds ? atoi(seconds) : 4) * 1000000);
        atomic_store(&stop, true);
        for (unsigned i = 0; i < n; i++)
                pthread_join(threads[i], NULL);
        ok[0] = sound("user.joe");
        ok[1] = sound("user.ann");
        ok[2] = sound("user.joe.b1");
        printf("# appended %u refused %u moved %u renamed %u added up %u\n", appended, refused, moved, renamed, settled);
        printf("1..4\n");
        for (int i = 0; i < 3; i++)
                printf("%sok %d - a root's usage is what its mailboxes hold\n", ok[i] ? "" : "not ", i + 1);
        printf("%sok 4 - all of it happened\n", appended && moved && renamed && settled ? "" : "not ");
        store_close(&store);
        fs_remove_tree(dir, NULL);
        return ok[0] && ok[1] && ok[2] && appended && moved && renamed && settled ? 0 : 1;
}
