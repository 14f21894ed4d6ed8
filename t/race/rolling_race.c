/*
 * rolling_race - changes, the log for replicas, a channel of rolling replication, administrators, HUP, and a replica with every fault, all at once
 * (SAN=thread). At the end the replica has been told of each thing after its last change. TAP.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/rolling.h"
#include "store/change.h"
#include "store/mboxlist.h"
#include "t/replication/fake_peer.h"
#include "t/store/conf_text.h"
#include "util/clock.h"
#include "util/fs.h"

#define THINGS 200
static struct store *store;
static struct conf_live *live;
static struct sync_log *sync_log;
static atomic_bool stop;
static atomic_uint changed[THINGS], told[THINGS], changes, restarts, looks;
static char dir[100];

/* A quota root "q<n>": the replica gets what there is now. */
static enum client_result race_quota(struct client *c, const char *root, struct err *err)
{
        unsigned n = (unsigned)atoi(root + 1) % THINGS, now = atomic_load(&changed[n]);
        enum client_result result = fake_quota(c, root, err);

        if (result == CLIENT_OK)
                atomic_store(&told[n], now);
        return result;
}

static struct rolling_peer race_peer;

static struct rolling_options options(void)
{
        return (struct rolling_options){ .store = store, .live = live, .log = sync_log, .peer = &race_peer, .interval_ms = -1 };
}

static void *change(void *arg)
{
        unsigned seed = (unsigned)(uintptr_t)arg;

        while (!atomic_load(&stop)) {
                unsigned n = (unsigned)rand_r(&seed) % THINGS;
                char name[40];

                snprintf(name, sizeof name, "q%u", n);
                atomic_fetch_add(&changed[n], 1);
                change_publish(store, &(struct change){ .kind = CHANGE_QUOTA, .name = name });
                snprintf(name, sizeof name, "user.u%u", n);
                change_publish(store, &(struct change){ .kind = CHANGE_MAILBOX, .name = name, .uniqueid = name, .what = CHANGE_ARRIVED });
                atomic_fetch_add(&changes, 1);
                if (n % 16 == 0)
                        usleep(500);
        }
        return NULL;
}

static void *break_it(void *arg)
{
        unsigned seed = 7;

        (void)arg;
        while (!atomic_load(&stop)) {
                char what[20];

                snprintf(what, sizeof what, "q%d", rand_r(&seed) % 20);
                switch (rand_r(&seed) % 6) {
                case 0: fake_set(fake.fails, what); break;
                case 1: fake_set(fake.hangs_up, what); break;
                case 2: fake_set(fake.locked, what); break;
                case 3: fake_set(fake.fails, ""); break;
                case 4: fake_set(fake.hangs_up, ""); break;
                default:
                        mutex_lock(&fake.lock);
                        str_clear(&fake.said);
                        fake.refuses = !fake.refuses;
                        mutex_unlock(&fake.lock);
                }
                usleep(3000);
        }
        return NULL;
}

static void on_status(void *ctx, const struct rolling_status *s)
{
        *(uint64_t *)ctx += s->events + strlen(s->error) + strlen(s->peer);
        atomic_fetch_add(&looks, 1);
}

static void on_quarantined(void *ctx, const struct rolling_quarantined *q)
{
        *(uint64_t *)ctx += strlen(q->item) + strlen(q->reason);
}

static void *administer(void *arg)
{
        unsigned seed = 11;
        uint64_t sum = 0;

        (void)arg;
        while (!atomic_load(&stop)) {
                struct sync_log_stats stats;
                struct err err = ERR_INIT;
                struct rolling_options o = options();

                rolling_each(on_status, &sum);
                rolling_each_quarantined(NULL, on_quarantined, &sum);
                sync_log_stats(sync_log, &stats);
                if (rand_r(&seed) % 4 == 0)
                        rolling_retry(NULL, NULL);
                if (rand_r(&seed) % 4 == 0)
                        rolling_now("");
                if (rand_r(&seed) % 50 == 0)
                        rolling_compare(NULL);
                if (rand_r(&seed) % 20 == 0) {
                        struct conf *conf = conf_live_get(live);

                        sync_log_reconfigure(sync_log, conf);
                        conf_unref(&conf);
                }
                if (rand_r(&seed) % 30 == 0) {
                        rolling_stop("");
                        must(rolling_start(&o, &err) == 0);
                        atomic_fetch_add(&restarts, 1);
                }
                usleep(2000);
        }
        return (void *)(uintptr_t)(sum & 1);
}

static void begin(void)
{
        struct store_options o = { .no_threads = false };
        struct rolling_options r;
        struct err err = ERR_INIT;
        char text[500], name[40];

        race_peer = fake_peer;
        race_peer.quota = race_quota;
        snprintf(dir, sizeof dir, "%s/rolling-race.%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
        must(fs_mkdir_p(dir, 0700, NULL) == 0);
        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\nsync_log: yes\nsync_host: fake\n"
                 "sync_reconnect_maxwait: 1\nsync_log_channels: \"\" unread\n", dir, dir);
        o.conf = conf_text(text);
        must(store_open(&o, &store, &err) == 0);
        must(sync_log_open(&(struct sync_log_options){ .store = store, .conf = o.conf, .threads = true, .written = rolling_written }, &sync_log, &err) == 0);
        live = conf_live_create(o.conf);
        for (unsigned i = 0; i < 20; i++) {
                snprintf(name, sizeof name, "user.u%u", i);
                must(mboxlist_create(store_mboxlist(store), &(struct mbox_create){ .name = name }, NULL, &err) == 0);
        }
        r = options();
        must(rolling_start(&r, &err) == 0);
}

static bool all_told(void)
{
        for (unsigned i = 0; i < THINGS; i++)
                if (atomic_load(&changed[i]) != atomic_load(&told[i]))
                        return false;
        return true;
}

int main(void)
{
        static void *(*const what[])(void *) = { change, change, change, break_it, administer };
        pthread_t threads[sizeof what / sizeof *what];
        unsigned n = sizeof what / sizeof *what;
        const char *seconds = getenv("RACE_SECONDS");
        bool ok[2];

        begin();
        for (unsigned i = 0; i < n; i++)
                must(pthread_create(&threads[i], NULL, what[i], (void *)(uintptr_t)(i + 1)) == 0);
        usleep((useconds_t)(seconds ? atoi(seconds) : 4) * 1000000);
        atomic_store(&stop, true);
        for (unsigned i = 0; i < n; i++)
                pthread_join(threads[i], NULL);
        fake_set(fake.fails, "");
        fake_set(fake.hangs_up, "");
        fake_set(fake.locked, "");
        mutex_lock(&fake.lock);
        fake.refuses = false;
        mutex_unlock(&fake.lock);
        for (int i = 0; i < 300 && !all_told(); i++) {
                rolling_retry(NULL, NULL);
                rolling_now(NULL);
                usleep(50000);
        }
        ok[0] = all_told();
        ok[1] = changes > 100 && looks > 10 && restarts > 0;
        printf("# changes %u, asked %u, connections %u, restarts %u\n", changes, fake.asked, fake.opened, restarts);
        printf("1..2\n%sok 1 - the replica is told of everything after its last change\n%sok 2 - all of it happened\n", ok[0] ? "" : "not ", ok[1] ? "" : "not ");
        rolling_stop(NULL);
        sync_log_store_closing(sync_log);
        store_close(&store);
        sync_log_close(&sync_log);
        conf_live_destroy(&live);
        str_deinit(&fake.said);
        fs_remove_tree(dir, NULL);
        return ok[0] && ok[1] ? 0 : 1;
}
