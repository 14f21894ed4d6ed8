/*
 * duplicate_race - many deliver the same messages to the same mailboxes at once, some fail, marks are pruned and read meanwhile
 * (SAN=thread). Each message that anybody delivered was delivered once, and is found afterwards, also in the files. TAP.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/duplicate.h"
#include "store/store.h"
#include "t/store/conf_text.h"
#include "util/fs.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/waiter.h"

#define KEYS 6000
#define THREADS 6
static struct store *store;
static atomic_bool stop;
static atomic_uint delivered[KEYS], failed, waited, looked, seen, wrong, pruned;
static char dir[100];

static void key_of(unsigned i, struct duplicate_key *key)
{
        char id[40], box[25];

        snprintf(id, sizeof id, "<%u@example.org>", i);
        snprintf(box, sizeof box, "%024u", i % 7);
        duplicate_key_make(box, span_of(id), SPAN("today"), key);
}

static enum duplicate ask(struct duplicate_claim *c)
{
        for (;;) {
                struct waiter w;
                struct err err = ERR_INIT;
                enum duplicate answer;

                waiter_init_blocking(&w);
                answer = duplicate_claim(store, c, &w);
                if (answer == DUPLICATE_LOOK) {
                        atomic_fetch_add(&looked, 1);
                        return duplicate_look(store, c);
                }
                if (answer != DUPLICATE_WAIT)
                        return answer;
                atomic_fetch_add(&waited, 1);
                waiter_block(&w, &err);
        }
}

/* All go through the same keys in the same order: there is somebody at the same one nearly always. */
static void *deliverer(void *arg)
{
        unsigned seed = (unsigned)(uintptr_t)arg;

        for (unsigned i = 0; i < KEYS; i++) {
                struct duplicate_claim c;

                key_of(i, &c.key);
                if (ask(&c) == DUPLICATE_SEEN) {
                        atomic_fetch_add(&seen, 1);
                        if (c.found_uid != i + 1 || atomic_load(&delivered[i]) != 1)
                                atomic_fetch_add(&wrong, 1);
                        continue;
                }
                if (rand_r(&seed) % 4 == 0)
                        usleep(20);
                if (rand_r(&seed) % 3 == 0) {
                        atomic_fetch_add(&failed, 1);
                        duplicate_dropped(store, &c);
                        continue;
                }
                if (atomic_fetch_add(&delivered[i], 1) != 0)
                        atomic_fetch_add(&wrong, 1);
                duplicate_delivered(store, &c, i + 1);
        }
        return NULL;
}

/* Marks of another mailbox come and go. One that is being written just now stays until the next time. */
static void *pruner(void *arg)
{
        struct duplicate_expiry own = { "zzzzzzzzzzzzzzzzzzzzzzzz", INT64_MAX };
        unsigned made = 0;

        (void)arg;
        for (unsigned i = 0; !atomic_load(&stop) || made > atomic_load(&pruned); i++) {
                struct duplicate_claim c;
                uint64_t n = 0;
                char id[20];
                struct err err = ERR_INIT;

                snprintf(id, sizeof id, "<%u@z>", i);
                duplicate_key_make(own.uniqueid, span_of(id), SPAN(""), &c.key);
                if (ask(&c) != DUPLICATE_NEW) {
                        atomic_fetch_add(&wrong, 1);
                } else if (atomic_load(&stop)) {
                        duplicate_dropped(store, &c);
                } else {
                        duplicate_delivered(store, &c, 1);
                        made++;
                }
                if (i % 4 == 3 && duplicate_prune(store, 0, &own, 1, &n, NULL, &err) < 0)
                        atomic_fetch_add(&wrong, 1);
                if (atomic_fetch_add(&pruned, (unsigned)n) + n > made)
                        atomic_fetch_add(&wrong, 1);
                usleep(500);
        }
        return NULL;
}

static struct store *open_store(void)
{
        char text[500];
        struct err err = ERR_INIT;
        struct store *s = NULL;
        struct conf *conf;

        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\n", dir, dir);
        conf = conf_text(text);
        if (store_open(&(struct store_options){ .conf = conf }, &s, &err) < 0)
                fprintf(stderr, "store_open: %s\n", err.text);
        conf_unref(&conf);
        return s;
}

static unsigned lost(void)
{
        unsigned n = 0;

        for (unsigned i = 0; i < KEYS; i++) {
                struct duplicate_claim c;
                enum duplicate answer;

                key_of(i, &c.key);
                answer = ask(&c);
                n += (answer == DUPLICATE_SEEN) != (atomic_load(&delivered[i]) == 1);
                if (answer == DUPLICATE_NEW)
                        duplicate_dropped(store, &c);
        }
        return n;
}

int main(void)
{
        pthread_t threads[THREADS + 1];
        unsigned bad, after;

        snprintf(dir, sizeof dir, "/tmp/cyrd-duprace-%d", (int)getpid());
        fs_mkdir_p(dir, 0700, NULL);
        log_set_level(LOG_WARN);
        if (!(store = open_store()))
                return 1;
        for (unsigned i = 0; i < THREADS; i++)
                thread_start(&threads[i], "deliver", 0, deliverer, (void *)(uintptr_t)(i + 1));
        thread_start(&threads[THREADS], "prune", 0, pruner, NULL);
        for (unsigned i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        atomic_store(&stop, true);
        pthread_join(threads[THREADS], NULL);
        printf("# seen %u, failed %u, waited %u, looked %u, pruned %u\n", seen, failed, waited, looked, pruned);
        bad = lost();
        printf("%sok 1 - each was delivered once, and found with its UID\n", wrong || bad ? "not " : "");
        printf("%sok 2 - all of it happened\n", seen && failed && waited && looked && pruned ? "" : "not ");
        store_close(&store);
        if (!(store = open_store()))
                return 1;
        after = lost();                                 /* at first while the files are still being read */
        printf("%sok 3 - and after a restart\n1..3\n", after ? "not " : "");
        store_close(&store);
        fs_remove_tree(dir, NULL);
        return wrong || bad || after;
}
