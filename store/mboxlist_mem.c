/*
 * mboxlist_mem - the mailbox list in memory.
 *
 * Names are spread over 24 shards by a hash of their first two components, so that a user's whole tree is in one. A shard is a
 * sorted array of leaves of up to 128 sorted entries. Order is mailname_compare()'s everywhere.
 *
 *   reading    one shard's read lock, or for names above the second component ("", "user", "shared") those of all shards at once
 *              and a merge; for a moment, to take references.
 *   changing   holds the `writing` mutex of each shard concerned (in order), so that nobody else changes them. A few changes are
 *              made in place under the write locks of all shards concerned together. Many (a rename of 10,000 names) are first
 *              merged into new leaves aside, while readers go on; then the write locks of all shards concerned are taken
 *              together for as long as it takes to exchange pointers. Either way a reader, which holds all the locks it needs
 *              for one call, sees all of a change or nothing.
 */
#include <stdlib.h>
#include <string.h>

#include "store/mboxlist_private.h"
#include "util/hash.h"
#include "util/must.h"

#define LEAF_MAX 128
#define IN_PLACE_MAX 64                         /* changes made under the write lock one by one */

struct mem_leaf {
        unsigned n;                             /* 1 … LEAF_MAX */
        const struct mbentry *v[LEAF_MAX];
};
typedef ARRAY(struct mem_leaf *) leaf_array;

/* ---- where a name is ---- */

/* The length of "domain!first.second", or 0 when the name has no second component. */
static size_t top_two(const char *name)
{
        const char *bang = strchr(name, '!'), *local = bang ? bang + 1 : name, *dot = strchr(local, '.');

        return dot ? (size_t)(dot - name) + 1 + strcspn(dot + 1, ".") : 0;
}

static unsigned shard_of(const char *name)
{
        size_t n = top_two(name);

        return (unsigned)(hash_keyed(name, n ? n : strlen(name)) % MEM_SHARDS);
}

/* Where in the leaf is the first entry with a name >= name? */
static unsigned leaf_lower(const struct mem_leaf *leaf, const char *name)
{
        unsigned low = 0, high = leaf->n;

        while (low < high) {
                unsigned mid = (low + high) / 2;

                if (mailname_compare(leaf->v[mid]->name, name) < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

/* The leaf where `name` is or belongs: the last one that begins at or before it. */
static size_t shard_leaf(const struct mem_shard *s, const char *name)
{
        size_t low = 0, high = s->leaves.n;

        while (low < high) {
                size_t mid = (low + high) / 2;

                if (mailname_compare(s->leaves.v[mid]->v[0]->name, name) <= 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low ? low - 1 : 0;
}

/* A place in a shard: leaf and index of the first entry >= name (leaf == n: the end). */
struct place { size_t leaf; unsigned at; };

static struct place shard_lower(const struct mem_shard *s, const char *name)
{
        struct place p = { shard_leaf(s, name), 0 };

        if (p.leaf >= s->leaves.n)
                return p;
        p.at = leaf_lower(s->leaves.v[p.leaf], name);
        if (p.at == s->leaves.v[p.leaf]->n)
                p = (struct place){ p.leaf + 1, 0 };
        return p;
}

static const struct mbentry *place_entry(const struct mem_shard *s, struct place p)
{
        return p.leaf < s->leaves.n ? s->leaves.v[p.leaf]->v[p.at] : NULL;
}

static struct place place_next(const struct mem_shard *s, struct place p)
{
        if (++p.at >= s->leaves.v[p.leaf]->n)
                p = (struct place){ p.leaf + 1, 0 };
        return p;
}

/* ---- reading ---- */

const struct mbentry *mem_find(struct mem *mem, const char *name)
{
        struct mem_shard *s = &mem->shards[shard_of(name)];
        const struct mbentry *e;

        rwlock_rdlock(&s->lock);
        e = place_entry(s, shard_lower(s, name));
        e = e && strcmp(e->name, name) == 0 ? mbentry_ref(e) : NULL;
        rwlock_rdunlock(&s->lock);
        return e;
}

const struct mbentry *mem_find_id(struct mem *mem, const char *uniqueid)
{
        const struct mbentry *e;

        rwlock_rdlock(&mem->ids_lock);
        e = table_find(mem->ids, span_of(uniqueid));
        if (e)
                mbentry_ref(e);
        rwlock_rdunlock(&mem->ids_lock);
        return e;
}

static bool in_prefix(const char *name, const char *prefix)
{
        return !*prefix || strcmp(name, prefix) == 0 || mailname_is_below(name, prefix);
}

/* The first entry of this shard that counts, or the end. */
static struct place first_in(const struct mem_shard *s, const char *prefix, const char *after)
{
        const char *from = *after && mailname_compare(after, prefix) >= 0 ? after : prefix;
        struct place p = shard_lower(s, from);
        const struct mbentry *e = place_entry(s, p);

        if (e && from == after && strcmp(e->name, after) == 0)
                p = place_next(s, p);
        return p;
}

static unsigned next_in_shard(struct mem_shard *s, const char *prefix, const char *after, const struct mbentry **entries_r,
                              unsigned n)
{
        unsigned found = 0;
        const struct mbentry *e;

        rwlock_rdlock(&s->lock);
        for (struct place p = first_in(s, prefix, after); found < n && (e = place_entry(s, p)) != NULL && in_prefix(e->name, prefix);
             p = place_next(s, p))
                entries_r[found++] = mbentry_ref(e);
        rwlock_rdunlock(&s->lock);
        return found;
}

/* A heap of the shards' next entries, the lowest name on top. */
struct head { const struct mbentry *e; struct place p; unsigned shard; };

static void heap_down(struct head *heap, unsigned n, unsigned i)
{
        for (;;) {
                unsigned child = 2 * i + 1;
                struct head swap;

                if (child >= n)
                        return;
                if (child + 1 < n && mailname_compare(heap[child + 1].e->name, heap[child].e->name) < 0)
                        child++;
                if (mailname_compare(heap[i].e->name, heap[child].e->name) <= 0)
                        return;
                swap = heap[i];
                heap[i] = heap[child];
                heap[child] = swap;
                i = child;
        }
}

/* All read locks at once: what is returned is one state of the list. */
static unsigned next_in_all(struct mem *mem, const char *prefix, const char *after, const struct mbentry **entries_r,
                            unsigned n) NO_TSA
{
        struct head heap[MEM_SHARDS];
        unsigned heads = 0, found = 0;

        for (unsigned i = 0; i < MEM_SHARDS; i++)
                rwlock_rdlock(&mem->shards[i].lock);
        for (unsigned i = 0; i < MEM_SHARDS; i++) {
                struct place p = first_in(&mem->shards[i], prefix, after);
                const struct mbentry *e = place_entry(&mem->shards[i], p);

                if (e && in_prefix(e->name, prefix))
                        heap[heads++] = (struct head){ e, p, i };
        }
        for (unsigned i = heads; i-- > 0;)
                heap_down(heap, heads, i);
        while (found < n && heads) {
                struct mem_shard *s = &mem->shards[heap[0].shard];

                entries_r[found++] = mbentry_ref(heap[0].e);
                heap[0].p = place_next(s, heap[0].p);
                heap[0].e = place_entry(s, heap[0].p);
                if (!heap[0].e || !in_prefix(heap[0].e->name, prefix))
                        heap[0] = heap[--heads];
                heap_down(heap, heads, 0);
        }
        for (unsigned i = MEM_SHARDS; i-- > 0;)
                rwlock_rdunlock(&mem->shards[i].lock);
        return found;
}

unsigned mem_next(struct mem *mem, const char *prefix, const char *after, const struct mbentry **entries_r, unsigned n)
{
        if (*prefix && top_two(prefix))
                return next_in_shard(&mem->shards[shard_of(prefix)], prefix, after, entries_r, n);
        return next_in_all(mem, prefix, after, entries_r, n);
}

static bool shard_has_below(struct mem_shard *s, const char *name)
{
        struct place p;
        const struct mbentry *e;
        bool yes;

        rwlock_rdlock(&s->lock);
        p = first_in(s, name, name);
        e = place_entry(s, p);
        yes = e && mailname_is_below(e->name, name);
        rwlock_rdunlock(&s->lock);
        return yes;
}

bool mem_has_children(struct mem *mem, const char *name)
{
        if (top_two(name))
                return shard_has_below(&mem->shards[shard_of(name)], name);
        for (unsigned i = 0; i < MEM_SHARDS; i++)
                if (shard_has_below(&mem->shards[i], name))
                        return true;
        return false;
}

/* ---- changing one shard in place ---- */

static void leaf_insert_at(leaf_array *leaves, size_t at, struct mem_leaf *leaf)
{
        ARRAY_RESERVE(leaves, 1);
        memmove(leaves->v + at + 1, leaves->v + at, (leaves->n - at) * sizeof *leaves->v);
        leaves->v[at] = leaf;
        leaves->n++;
}

static void leaf_remove_at(leaf_array *leaves, size_t at)
{
        free(leaves->v[at]);
        leaves->n--;
        memmove(leaves->v + at, leaves->v + at + 1, (leaves->n - at) * sizeof *leaves->v);
}

/* A full leaf in two. At the end of the shard (loading in order) the new one stays empty but for what comes, so leaves get full. */
static void split_leaf(leaf_array *leaves, size_t at)
{
        struct mem_leaf *left = leaves->v[at], *right = xmalloc(sizeof *right);
        unsigned keep = at + 1 == leaves->n ? LEAF_MAX - 1 : LEAF_MAX / 2;

        right->n = LEAF_MAX - keep;
        memcpy(right->v, left->v + keep, right->n * sizeof *right->v);
        left->n = keep;
        leaf_insert_at(leaves, at + 1, right);
}

/* Two neighbours that fill a half together become one. */
static void join_leaves(leaf_array *leaves, size_t at)
{
        struct mem_leaf *left, *right;

        if (at + 1 >= leaves->n)
                return;
        left = leaves->v[at];
        right = leaves->v[at + 1];
        if (left->n + right->n > LEAF_MAX / 2)
                return;
        memcpy(left->v + left->n, right->v, right->n * sizeof *right->v);
        left->n += right->n;
        leaf_remove_at(leaves, at + 1);
}

/* Set or remove one name; returns the former entry, whose reference is the caller's now. */
static const struct mbentry *shard_set(struct mem_shard *s, const char *name, const struct mbentry *e)
{
        leaf_array *leaves = (leaf_array *)&s->leaves;
        size_t at = shard_leaf(s, name);
        struct mem_leaf *leaf;
        unsigned i;
        const struct mbentry *old;

        if (leaves->n == 0) {
                if (!e)
                        return NULL;
                leaf = xmalloc(sizeof *leaf);
                leaf->n = 0;
                leaf_insert_at(leaves, 0, leaf);
        }
        leaf = leaves->v[at];
        i = leaf_lower(leaf, name);
        old = i < leaf->n && strcmp(leaf->v[i]->name, name) == 0 ? leaf->v[i] : NULL;
        if (old && e) {
                leaf->v[i] = e;
        } else if (old) {
                leaf->n--;
                memmove(leaf->v + i, leaf->v + i + 1, (leaf->n - i) * sizeof *leaf->v);
                if (leaf->n == 0)
                        leaf_remove_at(leaves, at);
                else
                        join_leaves(leaves, at);
        } else if (e) {
                if (leaf->n == LEAF_MAX) {
                        split_leaf(leaves, at);
                        if (i > leaves->v[at]->n) {
                                i -= leaves->v[at]->n;
                                at++;
                        }
                        leaf = leaves->v[at];
                }
                memmove(leaf->v + i + 1, leaf->v + i, (leaf->n - i) * sizeof *leaf->v);
                leaf->v[i] = e;
                leaf->n++;
        }
        return old;
}

/* ---- many changes: a shard rebuilt aside ---- */

static int by_name(const void *a, const void *b)
{
        return mailname_compare((*(const struct mem_change *const *)a)->name, (*(const struct mem_change *const *)b)->name);
}

static void push_entry(leaf_array *leaves, const struct mbentry *e)
{
        struct mem_leaf *last = leaves->n ? leaves->v[leaves->n - 1] : NULL;

        if (!last || last->n == LEAF_MAX * 3 / 4) {
                last = xmalloc(sizeof *last);
                last->n = 0;
                *ARRAY_PUSH(leaves) = last;
        }
        last->v[last->n++] = e;
}

/* The shard as it will be, in new leaves; entries that go are added to `gone`. Needs `writing`. */
static void merge_shard(struct mem_shard *s, const struct mem_change **changes, size_t n, leaf_array *out, struct entries *gone)
{
        struct place p = { 0, 0 };
        const struct mbentry *e;
        size_t c = 0;

        qsort(changes, n, sizeof *changes, by_name);
        for (;;) {
                int order;

                e = place_entry(s, p);
                if (!e && c == n)
                        return;
                order = !e ? 1 : c == n ? -1 : mailname_compare(e->name, changes[c]->name);
                if (order < 0) {
                        push_entry(out, e);
                } else {
                        if (changes[c]->entry)
                                push_entry(out, mbentry_ref(changes[c]->entry));
                        if (order == 0)
                                *ARRAY_PUSH(&gone->list) = e;
                        c++;
                }
                if (order <= 0)
                        p = place_next(s, p);
        }
}

/* ---- applying ---- */

static void ids_update(struct mem *mem, const struct mem_change *changes, size_t n, const struct entries *gone)
{
        struct entries unref = { ARRAY_INIT };

        ARRAY_RESERVE(&unref.list, gone->list.n + n);
        rwlock_wrlock(&mem->ids_lock);
        for (size_t i = 0; i < gone->list.n; i++) {
                const struct mbentry *e = gone->list.v[i];

                /* Only if the id still belongs to that name: a rename has it under the new one already, or will. */
                if (*e->uniqueid && table_find(mem->ids, span_of(e->uniqueid)) == e)
                        *ARRAY_PUSH(&unref.list) = table_set(mem->ids, span_of(e->uniqueid), NULL);
        }
        for (size_t i = 0; i < n; i++) {
                const struct mbentry *e = changes[i].entry, *old;

                if (!e || !*e->uniqueid)
                        continue;
                old = table_set(mem->ids, span_of(e->uniqueid), (void *)(uintptr_t)mbentry_ref(e));
                if (old)
                        *ARRAY_PUSH(&unref.list) = old;
        }
        rwlock_wrunlock(&mem->ids_lock);
        entries_free(&unref);
}

static void apply_in_place(struct mem *mem, const struct mem_change *changes, const unsigned char *shard, size_t n, uint64_t mask,
                           struct entries *gone) NO_TSA
{
        for (unsigned i = 0; i < MEM_SHARDS; i++)
                if (mask >> i & 1)
                        rwlock_wrlock(&mem->shards[i].lock);
        for (size_t i = 0; i < n; i++) {
                const struct mbentry *e = changes[i].entry ? mbentry_ref(changes[i].entry) : NULL, *old;

                old = shard_set(&mem->shards[shard[i]], changes[i].name, e);
                if (old)
                        *ARRAY_PUSH(&gone->list) = old;
        }
        for (unsigned i = MEM_SHARDS; i-- > 0;)
                if (mask >> i & 1)
                        rwlock_wrunlock(&mem->shards[i].lock);
}

static void apply_rebuilt(struct mem *mem, const struct mem_change *changes, const unsigned char *shard, size_t n, uint64_t mask,
                          struct entries *gone) NO_TSA
{
        leaf_array fresh[MEM_SHARDS] = { ARRAY_INIT };
        const struct mem_change **mine = xcalloc(n, sizeof *mine);

        for (unsigned i = 0; i < MEM_SHARDS; i++) {
                size_t count = 0;

                if (!(mask >> i & 1))
                        continue;
                for (size_t c = 0; c < n; c++)
                        if (shard[c] == i)
                                mine[count++] = &changes[c];
                merge_shard(&mem->shards[i], mine, count, &fresh[i], gone);
        }
        free(mine);
        for (unsigned i = 0; i < MEM_SHARDS; i++)
                if (mask >> i & 1)
                        rwlock_wrlock(&mem->shards[i].lock);
        for (unsigned i = 0; i < MEM_SHARDS; i++)
                if (mask >> i & 1) {
                        leaf_array *leaves = (leaf_array *)&mem->shards[i].leaves, old = *leaves;

                        *leaves = fresh[i];
                        fresh[i] = old;
                }
        for (unsigned i = MEM_SHARDS; i-- > 0;)
                if (mask >> i & 1)
                        rwlock_wrunlock(&mem->shards[i].lock);
        for (unsigned i = 0; i < MEM_SHARDS; i++) {
                for (size_t l = 0; l < fresh[i].n; l++)
                        free(fresh[i].v[l]);
                ARRAY_FREE(&fresh[i]);
        }
}

void mem_apply(struct mem *mem, const struct mem_change *changes, size_t n) NO_TSA
{
        unsigned char *shard = xmalloc(n + 1);
        struct entries gone = { ARRAY_INIT };
        uint64_t mask = 0;
        size_t come = 0;

        ARRAY_RESERVE(&gone.list, n + 1);
        for (size_t i = 0; i < n; i++) {
                shard[i] = (unsigned char)shard_of(changes[i].name);
                mask |= UINT64_C(1) << shard[i];
                come += changes[i].entry != NULL;
        }
        for (unsigned i = 0; i < MEM_SHARDS; i++)
                if (mask >> i & 1)
                        mutex_lock(&mem->shards[i].writing);
        if (n <= IN_PLACE_MAX)
                apply_in_place(mem, changes, shard, n, mask, &gone);
        else
                apply_rebuilt(mem, changes, shard, n, mask, &gone);
        atomic_fetch_add(&mem->count, come - gone.list.n);
        ids_update(mem, changes, n, &gone);
        for (unsigned i = MEM_SHARDS; i-- > 0;)
                if (mask >> i & 1)
                        mutex_unlock(&mem->shards[i].writing);
        entries_free(&gone);
        free(shard);
}

void entries_free(struct entries *entries)
{
        for (size_t i = 0; i < entries->list.n; i++)
                mbentry_unref(&entries->list.v[i]);
        ARRAY_FREE(&entries->list);
}

/* A lock that does not let a stream of readers keep a writer out for ever, as the default kind does (measured: 20 changes a second
 * beside four threads that list everything). No thread takes it twice for reading, and all take shards in order of their numbers. */
static void init_fair(struct rwlock *lock)
{
        pthread_rwlockattr_t attr;

        must(pthread_rwlockattr_init(&attr) == 0);
        must(pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
        must(pthread_rwlock_init(&lock->l, &attr) == 0);
        pthread_rwlockattr_destroy(&attr);
}

void mem_init(struct mem *mem)
{
        memset(mem, 0, sizeof *mem);
        for (unsigned i = 0; i < MEM_SHARDS; i++) {
                mutex_init(&mem->shards[i].writing);
                init_fair(&mem->shards[i].lock);
        }
        init_fair(&mem->ids_lock);
        mem->ids = table_create();
        atomic_init(&mem->count, 0);
}

void mem_deinit(struct mem *mem)
{
        size_t pos = 0;
        struct span key;
        void *value;

        while (table_next(mem->ids, &pos, &key, &value)) {
                const struct mbentry *e = value;

                mbentry_unref(&e);
        }
        table_destroy(&mem->ids);
        for (unsigned i = 0; i < MEM_SHARDS; i++) {
                struct mem_shard *s = &mem->shards[i];

                for (size_t l = 0; l < s->leaves.n; l++) {
                        for (unsigned v = 0; v < s->leaves.v[l]->n; v++)
                                mbentry_unref(&s->leaves.v[l]->v[v]);
                        free(s->leaves.v[l]);
                }
                ARRAY_FREE(&s->leaves);
                mutex_deinit(&s->writing);
                rwlock_deinit(&s->lock);
        }
        rwlock_deinit(&mem->ids_lock);
}
