/*
 * sync_mode_race - synchronous replication with every fault of a replica, both threads of the channel, administrators, HUP, restarts of the channel, and
 * sessions that change something, ask, wait, give up (SAN=thread). With sync_degrade_after: never nobody may be told before the replica has it; and when
 * the faults end, everybody gets an answer. TAP.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/rolling.h"
#include "replication/sync_mode.h"
#include "server/acknowledge.h"
#include "store/change.h"
#include "store/mboxlist.h"
#include "t/replication/fake_peer.h"
#include "t/store/conf_text.h"
#include "util/clock.h"
#include "util/fs.h"

#define THINGS 60
#define ASKERS 8
static struct store *store;
static struct conf_live *live;
static struct sync_log *sync_log;
static atomic_bool stop, calm;
static atomic_uint changed[2][THINGS], has[2][THINGS], asked, told, refused, given_up, early, waiting, restarts;
static char dir[100];

static void raise_to(atomic_uint *to, unsigned value)
{
        unsigned was = atomic_load(to);

        while (was < value && !atomic_compare_exchange_weak(to, &was, value))
                ;
}

/* A quota root "q<n>": the replica gets what there is when it is asked to; it has it when it has said OK. */
static enum client_result race_quota(struct client *c, const char *root, struct err *err)
{
        unsigned n = (unsigned)atoi(root + 1) % THINGS, now = atomic_load(&changed[0][n]);
        enum client_result result;

        usleep(n % 7 * 100);
        result = fake_quota(c, root, err);
        if (result == CLIENT_OK)
                raise_to(&has[0][n], now);
        return result;
}

/* Thing n of the other kind is a mailbox: two of each user. */
static unsigned number_of(const char *mailbox)
{
        return (unsigned)atoi(mailbox + strlen("user.u")) * 2 % THINGS + (strchr(mailbox + strlen("user."), '.') != NULL);
}

static enum client_result race_mailboxes(struct client *c, const char *const *names, size_t n, struct err *err)
{
        unsigned now[THINGS];
        enum client_result result;

        for (unsigned i = 0; i < THINGS; i++)
                now[i] = atomic_load(&changed[1][i]);
        result = fake_mailboxes(c, names, n, err);
        for (size_t i = 0; result == CLIENT_OK && i < n; i++)
                raise_to(&has[1][number_of(names[i])], now[number_of(names[i])]);
        return result;
}

static enum client_result race_user(struct client *c, const char *userid, struct err *err)
{
        unsigned first = (unsigned)atoi(userid + 1) * 2 % THINGS, now[2] = { atomic_load(&changed[1][first]), atomic_load(&changed[1][first + 1]) };
        enum client_result result;

        usleep(first % 7 * 300);
        result = fake_user(c, userid, err);
        for (unsigned i = 0; result == CLIENT_OK && i < 2; i++)
                raise_to(&has[1][first + i], now[i]);
        return result;
}

static struct rolling_peer race_peer;

static struct rolling_options options(void)
{
        return (struct rolling_options){ .store = store, .live = live, .log = sync_log, .peer = &race_peer, .interval_ms = -1 };
}

/* A session: change, ask, wait. */
static void *ask(void *arg)
{
        unsigned seed = (unsigned)(uintptr_t)arg;

        while (!atomic_load(&stop)) {
                unsigned n = (unsigned)rand_r(&seed) % THINGS, mine;
                bool patient = rand_r(&seed) % 10 > 0;
                uint64_t give_up_ms = clock_mono_ms() + 20;
                enum acknowledge_answer answer = ACKNOWLEDGE_TELL;
                struct acknowledge *a;
                char name[40];
                unsigned kind = (unsigned)rand_r(&seed) / 8 % 2;

                snprintf(name, sizeof name, kind ? "user.u%u%s" : "q%u", kind ? n / 2 : n, n % 2 ? ".b" : "");
                mine = atomic_fetch_add(&changed[kind][n], 1) + 1;
                change_publish(store, &(struct change){ .kind = kind ? CHANGE_MAILBOX : CHANGE_QUOTA, .name = name, .uniqueid = "", .what = CHANGE_ARRIVED });
                atomic_fetch_add(&asked, 1);
                atomic_fetch_add(&waiting, 1);
                a = acknowledge_begin((struct session_id){ UINT32_MAX, 1 }, &(struct acknowledge_about){ .names = { name }, .structure = !kind });
                while (a && (answer = acknowledge_answer(a)) == ACKNOWLEDGE_WAIT && (patient || clock_mono_ms() < give_up_ms))
                        usleep(300);
                if (answer == ACKNOWLEDGE_TELL && atomic_load(&has[kind][n]) < mine)
                        atomic_fetch_add(&early, 1);
                acknowledge_end(&a);
                atomic_fetch_sub(&waiting, 1);
                atomic_fetch_add(answer == ACKNOWLEDGE_TELL ? &told : answer == ACKNOWLEDGE_REFUSE ? &refused : &given_up, 1);
        }
        return NULL;
}

static void *break_it(void *arg)
{
        unsigned seed = 7;

        (void)arg;
        while (!atomic_load(&calm)) {
                static const char *const forms[] = { "q%d", "user.u%d", "USER u%d", "u%d.b" };
                char what[20];

                snprintf(what, sizeof what, forms[rand_r(&seed) / 8 % 4], rand_r(&seed) % 20);
                switch (rand_r(&seed) % 8) {
                case 0: fake_set(fake.fails, what); break;
                case 1: fake_set(fake.hangs_up, what); break;
                case 2: fake_set(fake.locked, what); break;
                case 3: fake_set(fake.fails, ""); break;
                case 4: fake_set(fake.hangs_up, ""); break;
                case 5: fake_set(fake.locked, ""); break;
                default:
                        mutex_lock(&fake.lock);
                        str_clear(&fake.said);
                        fake.refuses = !fake.refuses;
                        mutex_unlock(&fake.lock);
                }
                usleep(5000);
        }
        fake_set(fake.fails, "");
        fake_set(fake.hangs_up, "");
        fake_set(fake.locked, "");
        mutex_lock(&fake.lock);
        fake.refuses = false;
        mutex_unlock(&fake.lock);
        return NULL;
}

static void *administer(void *arg)
{
        unsigned seed = 11;

        while (!atomic_load(&calm)) {
                struct sync_mode_status status;
                struct err err = ERR_INIT;
                struct rolling_options o = options();
                struct conf *conf = conf_live_get(live);

                sync_mode_status("", &status);
                rolling_retry(NULL, NULL);
                rolling_now("");
                if (rand_r(&seed) % 20 == 0)
                        rolling_compare(NULL);
                if (rand_r(&seed) % 20 == 0) {
                        sync_log_reconfigure(sync_log, conf);
                        sync_mode_reconfigure(conf);
                }
                if (rand_r(&seed) % 40 == 0) {
                        rolling_stop("");
                        must(rolling_start(&o, &err) == 0);
                        atomic_fetch_add(&restarts, 1);
                }
                conf_unref(&conf);
                usleep(3000);
        }
        return arg;
}

static void begin(void)
{
        struct store_options o = { .no_threads = false };
        struct rolling_options r;
        struct err err = ERR_INIT;
        char text[500];

        race_peer = fake_peer;
        race_peer.quota = race_quota;
        race_peer.mailboxes = race_mailboxes;
        race_peer.user = race_user;
        snprintf(dir, sizeof dir, "%s/sync-mode-race.%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
        must(fs_mkdir_p(dir, 0700, NULL) == 0);
        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\nsync_log: yes\nsync_host: fake\n"
                 "sync_reconnect_maxwait: 1\nsync_mode: synchronous\nsync_degrade_after: never\n", dir, dir);
        o.conf = conf_text(text);
        must(store_open(&o, &store, &err) == 0);
        must(sync_log_open(&(struct sync_log_options){ .store = store, .conf = o.conf, .threads = true, .written = rolling_written }, &sync_log, &err) == 0);
        live = conf_live_create(o.conf);
        for (unsigned i = 0; i < THINGS; i++) {
                char name[40];

                snprintf(name, sizeof name, "user.u%u%s", i / 2, i % 2 ? ".b" : "");
                must(mboxlist_create(store_mboxlist(store), &(struct mbox_create){ .name = name }, NULL, &err) == 0);
        }
        sync_mode_register();
        must(sync_mode_open(sync_log, o.conf, &err) == 0);
        r = options();
        must(rolling_start(&r, &err) == 0);
}

int main(void)
{
        pthread_t askers[ASKERS], others[2];
        uint64_t deadline;
        bool good;

        begin();
        for (uintptr_t i = 0; i < ASKERS; i++)
                must(thread_start(&askers[i], "asker", 0, ask, (void *)(i + 1)) == 0);
        must(thread_start(&others[0], "break", 0, break_it, NULL) == 0);
        must(thread_start(&others[1], "admin", 0, administer, NULL) == 0);
        sleep(4);
        atomic_store(&calm, true);
        pthread_join(others[0], NULL);
        pthread_join(others[1], NULL);
        sleep(1);
        atomic_store(&stop, true);
        deadline = clock_mono_ms() + 30000;
        while (atomic_load(&waiting) && clock_mono_ms() < deadline) {
                rolling_now("");
                usleep(20000);
        }
        printf("# %u asked, %u told, %u refused, %u given up, %u restarts\n", atomic_load(&asked), atomic_load(&told), atomic_load(&refused),
               atomic_load(&given_up), atomic_load(&restarts));
        good = atomic_load(&early) == 0;
        printf("%sok 1 - nobody was told before the replica had it (%u)\n", good ? "" : "not ", atomic_load(&early));
        good = good && atomic_load(&waiting) == 0;
        printf("%sok 2 - everybody got an answer (%u wait)\n", atomic_load(&waiting) == 0 ? "" : "not ", atomic_load(&waiting));
        good = good && atomic_load(&told) > 100 && atomic_load(&refused) > 0 && atomic_load(&given_up) > 0;
        printf("%sok 3 - there was something to race for\n", good ? "" : "not ");
        printf("1..3\n");
        fflush(stdout);
        if (atomic_load(&waiting))
                _exit(1);
        for (unsigned i = 0; i < ASKERS; i++)
                pthread_join(askers[i], NULL);
        rolling_stop(NULL);
        sync_mode_close();
        sync_log_store_closing(sync_log);
        store_close(&store);
        sync_log_close(&sync_log);
        conf_live_destroy(&live);
        must(fs_remove_tree(dir, NULL) == 0);
        return good ? 0 : 1;
}
