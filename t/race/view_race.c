/*
 * view_race: sessions read views while the mailbox's owner makes versions, changes the index and writes checkpoints. Run with
 * SAN=thread. Prints TAP.
 *
 * Every view satisfies a rule that a reader can check by itself: UIDs ascend and stay below uidnext, seqno and UID lead to each other,
 * and what a reader holds never changes. Readers also touch the lazy blocks of a view of a reopened index, all at once, while the
 * owner expunges and purges in that index.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "store/view.h"
#include "t/store/index_gen.h"
#include "util/lock.h"

#define READERS 4
#define ROUNDS 25
#define STEPS 40

static struct mutex mailbox_lock = MUTEX_INIT;  /* stands for the mailbox's lock */
static struct view *published;                  /* under it */
static atomic_bool stop;
static atomic_uint failures, looks;

static struct view *take(void)
{
        struct view *v;

        mutex_lock(&mailbox_lock);
        v = view_ref(published);
        mutex_unlock(&mailbox_lock);
        return v;
}

static void publish(struct view *v)
{
        struct view *old;

        mutex_lock(&mailbox_lock);
        old = published;
        published = v;
        mutex_unlock(&mailbox_lock);
        view_unref(&old);
}

static void check(bool ok)
{
        if (!ok)
                atomic_fetch_add(&failures, 1);
}

static uint64_t sum_of(struct view *v)
{
        uint32_t uids[500], n, last = 0;
        uint64_t sum = 0;

        for (uint32_t at = 1; (n = view_uids(v, at, uids, 500)) > 0; at += n)
                for (uint32_t i = 0; i < n; i++) {
                        check(uids[i] > last && uids[i] < view_uidnext(v));
                        sum = sum * 31 + (last = uids[i]);
                }
        return sum;
}

static void look(struct view *v, unsigned *seed)
{
        for (int i = 0; i < 30 && view_count(v); i++) {
                uint32_t seqno = 1 + (uint32_t)rand_r(seed) % view_count(v), uid = view_uid(v, seqno);

                check(view_seqno(v, uid) == seqno);
        }
        atomic_fetch_add(&looks, 1);
}

/* Each round is a mailbox of its own; the number is in the upper half of the modseq. */
static uint64_t round_of_view(struct view *v)
{
        return view_modseq(v) >> 32;
}

/* A session: holds its view, now and then looks at what is new, sometimes may not announce expunges. */
static void *reader(void *arg)
{
        unsigned seed = (unsigned)(uintptr_t)arg;
        struct view *mine = take();

        while (!atomic_load(&stop)) {
                struct uidset gone = UIDSET_INIT;
                uint64_t sum = sum_of(mine);
                struct view *now = take(), *next;
                uint32_t added;
                bool related = round_of_view(now) == round_of_view(mine);

                look(now, &seed);
                if (related) {
                        view_diff(mine, now, &gone, &added);
                        check(view_count(mine) - uidset_count(&gone) + added == view_count(now));
                }
                uidset_deinit(&gone);
                check(sum_of(mine) == sum);
                next = !related || rand_r(&seed) % 3 ? view_ref(now) : view_extend(mine, now);
                look(next, &seed);
                view_unref(&mine);
                view_unref(&now);
                mine = next;
        }
        view_unref(&mine);
        return NULL;
}

static void random_set(struct uidset *set, uint32_t uidnext, unsigned *seed)
{
        for (int i = 0; i < 3; i++) {
                uint32_t first = 1 + (uint32_t)rand_r(seed) % uidnext;

                uidset_add_range(set, first, first + (uint32_t)rand_r(seed) % (i ? 5 : 60));
        }
}

/* Tombstones in the index for what leaves the view; older ones are purged. */
static void expunge(struct index *ix, struct uidset *set, uint64_t modseq, bool purge)
{
        for (struct uidset_iter it = uidset_iter(set);;) {
                struct index_rec r;
                uint32_t uid;

                if (!uidset_next(&it, &uid))
                        break;
                if (index_find(ix, uid, &r, NULL) != 1)
                        continue;
                r.flags |= MSG_EXPUNGED;
                r.modseq = modseq;
                check(index_put(ix, &r, NULL) == 0);
        }
        if (purge)
                check(index_purge(ix, set, NULL) == 0);
}

static void *write_snapshot(void *arg)
{
        struct err err = ERR_INIT;

        if (index_snapshot_write(arg, &err) < 0) {
                printf("# %s\n", err.text);
                check(false);
        }
        return NULL;
}

static struct index *reopened_index(const char *path, uint32_t messages)
{
        struct index *ix = index_create_empty(path, "u");

        for (uint32_t uid = 1; uid <= messages; uid++) {
                struct index_rec r = gen_rec(uid, uid);

                if (uid % 5 == 0)
                        r.flags |= MSG_EXPUNGED;
                index_put(ix, &r, NULL);
        }
        check(index_checkpoint(ix, NULL) == 0);
        index_destroy(&ix);
        check(index_open(path, "u", &ix, NULL) == 0);
        return ix;
}

/* One change of the mailbox, as its owner makes it; only this thread makes versions, so it may read `published`. */
static void owner_step(struct index *ix, uint32_t *uidnext, uint64_t modseq, unsigned *seed)
{
        struct uidset set = UIDSET_INIT;
        uint32_t uids[60], n = (uint32_t)rand_r(seed) % 60;

        switch (rand_r(seed) % 4) {
        case 0:
                random_set(&set, *uidnext, seed);
                expunge(ix, &set, modseq, rand_r(seed) % 2);
                publish(view_expunge(published, &set, modseq));
                break;
        case 1:
                publish(view_with_modseq(published, modseq));
                index_shed(ix);
                break;
        default:
                for (uint32_t i = 0; i < n; i++) {
                        struct index_rec r = gen_rec(uids[i] = (*uidnext)++, modseq);

                        check(index_put(ix, &r, NULL) == 0);
                }
                publish(view_append(published, uids, n, *uidnext, modseq));
        }
        uidset_deinit(&set);
}

static void one_round(const char *path, uint64_t round, unsigned *seed)
{
        uint32_t messages = 1 + (uint32_t)rand_r(seed) % 8000, uidnext = messages + 1;
        struct index *ix = reopened_index(path, messages);

        for (uint32_t uid = 1; round % 2 && uid <= messages; uid += 300) {      /* blocks that are only in memory yet */
                struct index_rec r;

                check(index_find(ix, uid, &r, NULL) == 1);
                r.modseq = round << 32;
                check(index_put(ix, &r, NULL) == 0);
        }
        publish(view_create_from_index(ix, uidnext, round << 32));
        for (int i = 0; i < STEPS; i++) {
                struct index_snapshot *snap = i % 8 == 3 ? index_snapshot(ix) : NULL;
                pthread_t writer;

                if (snap)
                        pthread_create(&writer, NULL, write_snapshot, snap);
                for (int k = 0; k < 3; k++)
                        owner_step(ix, &uidnext, (round << 32) + (uint64_t)i + 1, seed);
                if (snap) {
                        pthread_join(writer, NULL);
                        index_snapshot_finish(ix, &snap, true);
                }
        }
        index_destroy(&ix);                             /* readers still have lazy blocks of it */
}

int main(void)
{
        pthread_t threads[READERS];
        unsigned seed = 7;
        char path[100];

        snprintf(path, sizeof path, "/tmp/view_race.%d", (int)getpid());
        published = view_create_empty(1, 1);
        for (int i = 0; i < READERS; i++)
                pthread_create(&threads[i], NULL, reader, (void *)(uintptr_t)(i + 1));
        for (int i = 0; i < ROUNDS; i++)
                one_round(path, (uint64_t)i + 1, &seed);
        atomic_store(&stop, true);
        for (int i = 0; i < READERS; i++)
                pthread_join(threads[i], NULL);
        view_unref(&published);
        unlink(path);
        printf("# %u looks\n", atomic_load(&looks));
        printf("%s 1 - views stay what they were while versions are made\n1..1\n", atomic_load(&failures) ? "not ok" : "ok");
        return atomic_load(&failures) != 0;
}
