/*
 * role_race: peers that greet with rising epochs and change things, an administrator who promotes and joins, others who look (SAN=thread). When a promotion
 * has returned no change of a peer is under way, and none begins before the role has changed again; while the store is a replica's or fenced, a client's
 * change is refused.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/role.h"
#include "store/change.h"
#include "t/store/conf_text.h"
#include "util/fs.h"
#include "util/log.h"

#define PEERS 3
#define RUN_MS 4000

static struct store *store;
static atomic_int inside;
static atomic_bool over, wrong;
static atomic_uint_fast64_t highest = 1, changes, promotions, tries, refusals, let_through;

static void check(bool good, const char *what)
{
        if (good)
                return;
        printf("# %s\n", what);
        atomic_store(&wrong, true);
}

static void *peer(void *arg)
{
        unsigned seed = (unsigned)(uintptr_t)arg;
        struct role_epoch epoch = { 0 };
        uint64_t turn = 0;

        while (!atomic_load(&over)) {
                struct role_state mine;

                if (!turn) {
                        epoch.number = atomic_fetch_add(&highest, 1) + 1;
                        snprintf(epoch.id, sizeof epoch.id, "%016x", rand_r(&seed));
                        if (role_hello(&epoch, ROLE_NEVER, &mine, &turn, NULL) < 0)
                                turn = 0;
                }
                if (turn && role_enter(turn, NULL) == 0) {
                        unsigned was = change_mark(CHANGE_REPLICATED);

                        atomic_fetch_add(&inside, 1);
                        check(store_may_change(store, NULL) == 0, "a master's change does not pass the fence");
                        atomic_fetch_add(&changes, 1);
                        if (rand_r(&seed) % 8 == 0)
                                usleep(rand_r(&seed) % 300);
                        atomic_fetch_sub(&inside, 1);
                        (void)change_mark(was);
                        role_leave();
                } else {
                        turn = 0;
                        atomic_fetch_add(&refusals, 1);
                        usleep(rand_r(&seed) % 8000);
                }
        }
        return NULL;
}

static void *administrator(void *unused)
{
        while (!atomic_load(&over)) {
                struct role_epoch epoch;
                struct role_state s;

                role_next_epoch(&epoch);
                atomic_fetch_add(&tries, 1);
                if (role_promote(&epoch, NULL) == 0) {
                        atomic_fetch_add(&promotions, 1);
                        role_get(&s);
                        /* Whoever is within now was let in by a role that came after: then ours is no longer what it was. */
                        if (atomic_load(&inside) != 0) {
                                role_get(&s);
                                check(s.role != ROLE_MASTER, "a peer changes a master");
                        }
                }
                usleep(500);
                (void)role_join(NULL);
                usleep(500);
        }
        return unused;
}

/* Fenced before and after, and in between nobody was promoted: a client's change is refused. */
static void *client(void *unused)
{
        while (!atomic_load(&over)) {
                uint64_t before = atomic_load(&tries);
                bool fenced = store_is_fenced(store), may = store_may_change(store, NULL) == 0;
                struct role_state s;

                role_get(&s);
                atomic_fetch_add(&let_through, may);
                if (fenced && may && s.role != ROLE_MASTER)
                        check(atomic_load(&tries) != before, "a client changes a replica");
                usleep(50);
        }
        return unused;
}

int main(void)
{
        struct store_options o = { .no_threads = true };
        struct conf *conf;
        struct err err = ERR_INIT;
        char dir[100], text[500];
        pthread_t threads[PEERS + 2];

        log_set_level(LOG_ERROR);
        snprintf(dir, sizeof dir, "%s/role-race.%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", (int)getpid());
        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\nsync_log: yes\nsync_host: other\nsync_failover: yes\n", dir, dir);
        fs_mkdir_p(dir, 0700, NULL);
        o.conf = conf = conf_text(text);
        if (store_open(&o, &store, &err) < 0) {
                printf("not ok - %s\n", err.text);
                return 1;
        }
        role_open(store, conf, false);
        for (uintptr_t i = 0; i < PEERS; i++)
                pthread_create(&threads[i], NULL, peer, (void *)(i + 1));
        pthread_create(&threads[PEERS], NULL, administrator, NULL);
        pthread_create(&threads[PEERS + 1], NULL, client, NULL);
        usleep(RUN_MS * 1000);
        atomic_store(&over, true);
        for (int i = 0; i < PEERS + 2; i++)
                pthread_join(threads[i], NULL);
        role_close();
        store_close(&store);
        conf_unref(&conf);
        fs_remove_tree(dir, NULL);
        printf("# %llu changes by peers, %llu refused, %llu promotions\n", (unsigned long long)changes, (unsigned long long)refusals, (unsigned long long)promotions);
        if (!changes || !promotions || !refusals)
                atomic_store(&wrong, true);
        printf("%sok - role_race\n", atomic_load(&wrong) ? "not " : "");
        return atomic_load(&wrong);
}
