/* notify_race - changes are published while sessions begin to watch, take what is queued, and leave (SAN=thread): nothing wrong comes out,
 * nothing is lost but when the queue says so. TAP. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/imap/notify.h"
#include "t/store/scratch.h"
#include "util/must.h"

#define PUBLISHERS 3
#define WATCHERS 4
#define CHANGES 20000

static struct store *store;
static atomic_bool stop;
static atomic_uint taken, overflows, foreign;

static void *publisher(void *arg)
{
        unsigned me = (unsigned)(uintptr_t)arg;
        char name[64], id[32];

        for (unsigned i = 0; i < CHANGES; i++) {
                struct change c = { .kind = i % 5 == 4 ? CHANGE_NAME : i % 7 == 6 ? CHANGE_SUBSCRIPTION : CHANGE_MAILBOX, .name = name,
                                    .uniqueid = id, .what = 1u << i % 3, .other = i % 10 == 9 ? "user.joe.other" : NULL };

                snprintf(name, sizeof name, i % 2 ? "user.joe.box%u" : "user.ann.box%u", i % 40);
                snprintf(id, sizeof id, "id%u.%u", me, i % 40);
                if (c.kind == CHANGE_SUBSCRIPTION) {
                        c.other = "user.joe.box1";
                        c.name = "joe";
                }
                change_publish(store, &c);
        }
        return NULL;
}

static void drain(struct notify_watch *w, bool joe_only)
{
        struct notify_event e;
        bool lost;

        while (notify_watch_take(w, &e, &lost)) {
                atomic_fetch_add(&taken, 1);
                if (joe_only && e.kind == CHANGE_NAME && strncmp(e.name, "user.joe.", 9) != 0)
                        atomic_fetch_add(&foreign, 1);
                if (e.kind == CHANGE_MAILBOX && (!e.what || !e.uniqueid[0]))
                        atomic_fetch_add(&foreign, 1);
                notify_event_deinit(&e);
        }
        if (lost)
                atomic_fetch_add(&overflows, 1);
}

static void *watcher(void *arg)
{
        bool joe_only = (uintptr_t)arg % 2;
        const char *owners[] = { "joe", "" };

        for (unsigned i = 0; !atomic_load(&stop); i++) {
                struct session_id nobody = { 0, 1 };
                struct notify_watch *w = notify_watch_create(store, nobody, NULL, joe_only ? owners : NULL, joe_only ? 2 : 0,
                                                             NOTIFY_MESSAGES | NOTIFY_NAME | NOTIFY_SUBSCRIPTION);

                for (unsigned k = 0; k < i % 20; k++) {
                        drain(w, joe_only);
                        if (k % 3 == 0)
                                notify_watch_forget(w, "user.joe.box1");
                        if (i % 4 == 0)
                                usleep(500);
                }
                notify_watch_destroy(&w);
        }
        return NULL;
}

int main(void)
{
        pthread_t publishers[PUBLISHERS], watchers[WATCHERS];
        struct notify_watch *steady;
        const char *owners[] = { "ann" };
        unsigned before;

        scratch_make();
        store = scratch_open(NULL);
        steady = notify_watch_create(store, (struct session_id){ 0, 1 }, NULL, owners, 1, NOTIFY_MESSAGES);
        for (unsigned i = 0; i < WATCHERS; i++)
                must(pthread_create(&watchers[i], NULL, watcher, (void *)(uintptr_t)i) == 0);
        for (unsigned i = 0; i < PUBLISHERS; i++)
                must(pthread_create(&publishers[i], NULL, publisher, (void *)(uintptr_t)i) == 0);
        for (unsigned i = 0; i < PUBLISHERS; i++)
                pthread_join(publishers[i], NULL);
        atomic_store(&stop, true);
        for (unsigned i = 0; i < WATCHERS; i++)
                pthread_join(watchers[i], NULL);
        before = atomic_load(&taken);
        drain(steady, false);
        printf("# %u taken, %u overflows, the steady one %u\n1..2\n", atomic_load(&taken), atomic_load(&overflows),
               atomic_load(&taken) - before);
        printf("%s 1 - nobody gets what is not his\n", atomic_load(&foreign) == 0 ? "ok" : "not ok");
        /* ann's mailboxes of each publisher: the even ones of 40, without those whose names change; each is queued once */
        printf("%s 2 - a mailbox is queued once\n", atomic_load(&taken) - before == PUBLISHERS * 16 ? "ok" : "not ok");
        notify_watch_destroy(&steady);
        store_close(&store);
        scratch_remove();
        return atomic_load(&foreign) != 0 || atomic_load(&taken) - before != PUBLISHERS * 16;
}
