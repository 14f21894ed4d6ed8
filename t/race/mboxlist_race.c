/*
 * Readers and writers of the mailbox list at once: for SAN=thread, and for what must hold at every moment. Prints TAP.
 *
 * Writers rename a user's tree of a few hundred names to and fro, create and delete in other users, change ACLs. Readers check that
 * each slice is in order and that they see the whole tree under one name or under the other, never under both or neither.
 */
#include <stdatomic.h>
#include <stdio.h>

#include "store/acl.h"
#include "store/mailname.h"
#include "store/user.h"
#include "t/store/scratch.h"
#include "util/clock.h"
#include "util/lock.h"

#define TREE 300
#define SECONDS 4

static struct store *store;
static atomic_bool stop;
static atomic_uint failures, renames, changes, reads;

static void failed(const char *what, const char *name)
{
        if (atomic_fetch_add(&failures, 1) < 10)
                printf("# %s: %s\n", what, name);
}

static void *renaming(void *arg)
{
        struct err err = ERR_INIT;

        (void)arg;
        for (unsigned i = 0; !atomic_load(&stop); i++) {
                const char *from = i % 2 ? "user.jim" : "user.joe", *to = i % 2 ? "user.joe" : "user.jim";

                if (mboxlist_rename(store_mboxlist(store), from, to, true, NULL, &err) < 0)
                        failed("rename", err.text);
                atomic_fetch_add(&renames, 1);
        }
        return NULL;
}

static void *changing(void *arg)
{
        unsigned seed = (unsigned)(uintptr_t)arg;
        struct mboxlist *ml = store_mboxlist(store);
        struct err err = ERR_INIT;

        while (!atomic_load(&stop)) {
                char name[64], user[16];
                bool yes;

                snprintf(user, sizeof user, "u%u", rand_r(&seed) % 4);
                snprintf(name, sizeof name, "user.%s.f%u", user, rand_r(&seed) % 8);
                switch (rand_r(&seed) % 5) {
                case 0:
                case 1:
                        mboxlist_create(ml, &(struct mbox_create){ .name = name }, NULL, &err);
                        break;
                case 2:
                        mboxlist_delete(ml, name, rand_r(&seed) % 2, &err);
                        break;
                case 3:
                        mboxlist_set_acl(ml, name, "bob", rand_r(&seed) % 3, rand_r(&seed) & ACL_ALL, &err);
                        break;
                case 4:
                        if (sub_set(store, user, name, rand_r(&seed) % 2, &err) < 0 || sub_has(store, user, name, &yes, &err) < 0)
                                failed("subscription", err.text);
                        break;
                }
                atomic_fetch_add(&changes, 1);
        }
        return NULL;
}

/* All of user.joe's and user.jim's names in one slice: what one call returns is one state. */
static void read_once(void)
{
        static const unsigned max = 2 * TREE + 2000;
        const struct mbentry **found = calloc(max, sizeof *found);
        unsigned n = mboxlist_next(store_mboxlist(store), "user", "", found, max), joe = 0, jim = 0;

        for (unsigned i = 0; i < n; i++) {
                joe += strncmp(found[i]->name, "user.joe", 8) == 0;
                jim += strncmp(found[i]->name, "user.jim", 8) == 0;
                if (i && mailname_compare(found[i - 1]->name, found[i]->name) >= 0)
                        failed("order", found[i]->name);
        }
        if (!(joe == TREE && jim == 0) && !(jim == TREE && joe == 0)) {
                char text[64];

                snprintf(text, sizeof text, "%u joe, %u jim", joe, jim);
                failed("half a rename", text);
        }
        for (unsigned i = 0; i < n; i++)
                mbentry_unref(&found[i]);
        free(found);
}

static void *reading(void *arg)
{
        unsigned seed = (unsigned)(uintptr_t)arg;
        struct mboxlist *ml = store_mboxlist(store);

        while (!atomic_load(&stop)) {
                char name[64];
                const struct mbentry *e, *again;

                read_once();
                snprintf(name, sizeof name, "user.u%u.f%u", rand_r(&seed) % 4, rand_r(&seed) % 8);
                e = mboxlist_find(ml, name);
                if (e && strcmp(e->name, name) != 0)
                        failed("find", name);
                if (e && *e->uniqueid && (again = mboxlist_find_uniqueid(ml, e->uniqueid)) != NULL) {
                        if (strcmp(again->uniqueid, e->uniqueid) != 0)
                                failed("find by id", name);
                        mbentry_unref(&again);
                }
                mbentry_unref(&e);
                mboxlist_has_children(ml, "user.u1");
                atomic_fetch_add(&reads, 1);
        }
        return NULL;
}

int main(void)
{
        pthread_t threads[9];
        struct err err = ERR_INIT;
        uint64_t count;

        scratch_make();
        store = scratch_open(NULL);
        for (unsigned i = 0; i < TREE; i++) {
                char name[64];

                snprintf(name, sizeof name, i ? "user.joe.f%u" : "user.joe", i);
                if (mboxlist_create(store_mboxlist(store), &(struct mbox_create){ .name = name }, NULL, &err) < 0) {
                        printf("Bail out! %s\n", err.text);
                        return 1;
                }
        }
        thread_start(&threads[0], "rename", 0, renaming, NULL);
        for (uintptr_t i = 1; i < 5; i++)
                thread_start(&threads[i], "change", 0, changing, (void *)i);
        for (uintptr_t i = 5; i < 9; i++)
                thread_start(&threads[i], "read", 0, reading, (void *)i);
        for (uint64_t end = clock_mono_ms() + SECONDS * 1000; clock_mono_ms() < end;) {
                usleep(300000);
                if (store_db_checkpoint(store, &err) < 0 || mboxlist_check(store_mboxlist(store), true, NULL, NULL, &err) < 0)
                        failed("checkpoint or check", err.text);
        }
        atomic_store(&stop, true);
        for (unsigned i = 0; i < 9; i++)
                pthread_join(threads[i], NULL);
        count = mboxlist_count(store_mboxlist(store));
        store_close(&store);
        store = scratch_open(NULL);
        printf("# %u renames, %u changes, %u reads, %llu names\n", atomic_load(&renames), atomic_load(&changes), atomic_load(&reads),
               (unsigned long long)count);
        printf("1..3\n%s 1 - readers see whole changes in order\n", atomic_load(&failures) ? "not ok" : "ok");
        printf("%s 2 - memory and disk agree\n", count == mboxlist_count(store_mboxlist(store)) ? "ok" : "not ok");
        printf("%s 3 - all had their turn\n", atomic_load(&renames) > 2 && atomic_load(&changes) > 50 && atomic_load(&reads) > 10 ? "ok" : "not ok");
        count = count != mboxlist_count(store_mboxlist(store));
        store_close(&store);
        scratch_remove();
        return atomic_load(&failures) || count;
}
