/* sort_cache - see sort_cache.h */
#include "store/sort_cache.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/mailbox.h"
#include "store/store.h"
#include "util/hash.h"
#include "util/lock.h"
#include "util/must.h"

#define READ_AT_ONCE 64                         /* messages, between two looks at the clock */

struct sort_block {
        atomic_uint refs;
        uint32_t n;
        size_t bytes;                           /* of all of it */
        const uint32_t *uid, *offset;           /* n each, ascending UIDs */
        const char *data;
};

struct entry {
        char key[80];
        struct sort_block *block;               /* reference */
        struct entry *newer, *older;
};

struct sort_cache {
        struct mutex lock;
        /* All below: sort_cache_class. */
        struct table *table;                    /* key → entry */
        struct entry *newest, *oldest;
        size_t bytes, bytes_max;
};

static void cache_lock(struct sort_cache *c) ACQUIRE(c->lock, sort_cache_class);
NO_TSA static void cache_lock(struct sort_cache *c)
{
        mutex_lock(&c->lock);
}

static void cache_unlock(struct sort_cache *c) RELEASE(c->lock, sort_cache_class);
NO_TSA static void cache_unlock(struct sort_cache *c)
{
        mutex_unlock(&c->lock);
}

/* ---- blocks ---- */

static struct sort_block *block_ref(struct sort_block *b)
{
        if (b)
                atomic_fetch_add(&b->refs, 1);
        return b;
}

void sort_block_unref(struct sort_block **bp)
{
        struct sort_block *b = *bp;

        *bp = NULL;
        if (b && atomic_fetch_sub(&b->refs, 1) == 1)
                free(b);
}

static const struct sort_facts *block_find(const struct sort_block *b, uint32_t uid)
{
        uint32_t low = 0, high = b ? b->n : 0;

        while (low < high) {
                uint32_t mid = low + (high - low) / 2;

                if (b->uid[mid] == uid)
                        return (const void *)(b->data + b->offset[mid]);
                if (b->uid[mid] < uid)
                        low = mid + 1;
                else
                        high = mid;
        }
        return NULL;
}

/* One allocation: the struct, UIDs, offsets, records. */
static struct sort_block *block_alloc(uint32_t n, size_t data_len, uint32_t **uid_r, uint32_t **offset_r, char **data_r)
{
        size_t head = sizeof(struct sort_block), bytes = head + (size_t)n * 8 + data_len;
        struct sort_block *b = xmalloc(bytes);

        _Static_assert(sizeof(struct sort_block) % 8 == 0, "records are aligned");
        atomic_init(&b->refs, 1);
        b->n = n;
        b->bytes = bytes;
        *uid_r = (uint32_t *)(void *)((char *)b + head);
        *offset_r = *uid_r + n;
        *data_r = (char *)(*offset_r + n);
        b->uid = *uid_r;
        b->offset = *offset_r;
        b->data = *data_r;
        return b;
}

/* The old block's records and the l->read_n new ones, whose UIDs are not among them, both ascending. */
static struct sort_block *block_merge(const struct sort_loader *l)
{
        const struct sort_block *old = l->old;
        uint32_t old_n = old ? old->n : 0, i = 0, k = 0, *uid, *offset;
        size_t at = 0, old_len = old ? old->bytes - sizeof *old - (size_t)old_n * 8 : 0;
        struct sort_block *b;
        char *data;

        b = block_alloc(old_n + l->read_n, old_len + l->data.len, &uid, &offset, &data);
        for (uint32_t n = 0; n < b->n; n++) {
                bool from_old = k == l->read_n || (i < old_n && old->uid[i] < l->uid[k]);
                const struct sort_facts *f = (const void *)(from_old ? old->data + old->offset[i] : l->data.data + l->offset[k]);
                size_t size = sort_facts_size(f);

                uid[n] = from_old ? old->uid[i++] : l->uid[k++];
                offset[n] = (uint32_t)at;
                memcpy(data + at, f, size);
                at += size;
        }
        must(at == old_len + l->data.len);
        return b;
}

/* ---- the cache ---- */

struct sort_cache *sort_cache_create(size_t bytes_max)
{
        struct sort_cache *c = xcalloc(1, sizeof *c);

        mutex_init(&c->lock);
        c->table = table_create();
        c->bytes_max = bytes_max;
        return c;
}

static void unlink_entry(struct sort_cache *c, struct entry *e)
{
        *(e->newer ? &e->newer->older : &c->newest) = e->older;
        *(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

static void link_newest(struct sort_cache *c, struct entry *e)
{
        e->newer = NULL;
        e->older = c->newest;
        *(c->newest ? &c->newest->newer : &c->oldest) = e;
        c->newest = e;
}

static void drop_locked(struct sort_cache *c, struct entry *e)
{
        unlink_entry(c, e);
        table_set(c->table, span_of(e->key), NULL);
        c->bytes -= e->block->bytes;
        sort_block_unref(&e->block);
        free(e);
}

static void make_room_locked(struct sort_cache *c)
{
        while (c->bytes > c->bytes_max && c->oldest)
                drop_locked(c, c->oldest);
}

void sort_cache_destroy(struct sort_cache **cp)
{
        struct sort_cache *c = *cp;

        *cp = NULL;
        if (!c)
                return;
        while (c->oldest)
                drop_locked(c, c->oldest);
        table_destroy(&c->table);
        mutex_deinit(&c->lock);
        free(c);
}

void sort_cache_resize(struct sort_cache *c, size_t bytes_max)
{
        cache_lock(c);
        c->bytes_max = bytes_max;
        make_room_locked(c);
        cache_unlock(c);
}

size_t sort_cache_bytes(struct sort_cache *c)
{
        size_t bytes;

        cache_lock(c);
        bytes = c->bytes;
        cache_unlock(c);
        return bytes;
}

static void make_key(const struct sort_loader *l, uint32_t number, char key[80])
{
        snprintf(key, 80, "%.63s.%x", mailbox_uniqueid(l->mbox), number);
}

static struct sort_block *cache_find(struct sort_loader *l, uint32_t number) EXCLUDES(sort_cache_class)
{
        struct sort_cache *c = l->cache;
        struct sort_block *b = NULL;
        struct entry *e;
        char key[80];

        make_key(l, number, key);
        cache_lock(c);
        e = table_find(c->table, span_of(key));
        if (e) {
                unlink_entry(c, e);
                link_newest(c, e);
                b = block_ref(e->block);
        }
        cache_unlock(c);
        return b;
}

/* The newest word on a block; somebody else's, who knew other messages, is replaced. */
static void cache_put(struct sort_loader *l, uint32_t number, struct sort_block *b) EXCLUDES(sort_cache_class)
{
        struct sort_cache *c = l->cache;
        struct entry *e;
        char key[80];

        make_key(l, number, key);
        cache_lock(c);
        e = table_find(c->table, span_of(key));
        if (e)
                drop_locked(c, e);
        e = xcalloc(1, sizeof *e);
        memcpy(e->key, key, sizeof key);
        e->block = block_ref(b);
        link_newest(c, e);
        table_set(c->table, span_of(key), e);
        c->bytes += b->bytes;
        make_room_locked(c);
        cache_unlock(c);
}

/* ---- loading ---- */

void sort_loader_init(struct sort_loader *l, struct mailbox *mbox)
{
        memset(l, 0, sizeof *l);
        l->mbox = mbox;
        l->cache = store_sort_cache(mailbox_store(mbox));
        str_init(&l->data);
        str_init(&l->header);
        str_init(&l->scratch);
}

void sort_loader_deinit(struct sort_loader *l)
{
        for (uint32_t i = 0; i < l->blocks_n; i++)
                sort_block_unref(&l->blocks[i]);
        free(l->blocks);
        sort_block_unref(&l->old);
        str_deinit(&l->data);
        str_deinit(&l->header);
        str_deinit(&l->scratch);
        free(l->uid);
        free(l->offset);
        memset(l, 0, sizeof *l);
        str_init(&l->data);
        str_init(&l->header);
        str_init(&l->scratch);
}

/* Takes the reference. */
static void keep(struct sort_loader *l, struct sort_block *b)
{
        if (l->blocks_n == l->blocks_cap) {
                l->blocks_cap += l->blocks_cap / 2 + 16;
                l->blocks = xrealloc(l->blocks, l->blocks_cap * sizeof *l->blocks);
        }
        l->blocks[l->blocks_n++] = b;
}

/* A message that cannot be read sorts like one without a header; it is tried again the next time. */
static void read_one(struct sort_loader *l, const struct msg *m)
{
        struct err err = ERR_INIT;
        struct span header;

        if (m->uid == 0 || mailbox_header(l->mbox, m, &l->header, &header, &err) < 0)
                return;
        l->uid[l->read_n] = m->uid;
        l->offset[l->read_n++] = (uint32_t)l->data.len;
        sort_facts_append(header, &l->data, &l->scratch);
}

/* Read those of uids[l->looked … n - 1] that the old block does not have. False: the slice is over. */
static bool read_missing(struct sort_loader *l, const uint32_t *uids, uint32_t n, bool (*over)(void *ctx), void *ctx)
{
        struct msg msgs[READ_AT_ONCE];
        uint32_t want[READ_AT_ONCE], k;
        struct err err = ERR_INIT;

        while (l->looked < n) {
                for (k = 0; l->looked < n && k < READ_AT_ONCE; l->looked++)
                        if (!block_find(l->old, uids[l->looked]))
                                want[k++] = uids[l->looked];
                if (k == 0)
                        return true;
                if (!l->uid) {
                        l->uid = xcalloc(SORT_BLOCK_UIDS, sizeof *l->uid);
                        l->offset = xcalloc(SORT_BLOCK_UIDS, sizeof *l->offset);
                }
                if (mailbox_messages(l->mbox, want, k, msgs, &err) == 0)
                        for (uint32_t i = 0; i < k; i++)
                                read_one(l, &msgs[i]);
                err_clear(&err);
                if (l->looked < n && over(ctx))
                        return false;
        }
        return true;
}

/* uids[0 … n - 1] are those of one block. */
static bool run_block(struct sort_loader *l, uint32_t number, const uint32_t *uids, const struct sort_facts **facts, uint32_t n,
                      bool (*over)(void *ctx), void *ctx) EXCLUDES(sort_cache_class)
{
        if (!l->building) {
                l->old = cache_find(l, number);
                l->looked = l->read_n = 0;
                str_clear(&l->data);
                l->building = true;
        }
        if (!read_missing(l, uids, n, over, ctx))
                return false;
        if (l->read_n) {
                struct sort_block *b = block_merge(l);

                cache_put(l, number, b);
                sort_block_unref(&l->old);
                l->old = b;
        }
        for (uint32_t i = 0; i < n; i++) {
                facts[i] = block_find(l->old, uids[i]);
                if (!facts[i])
                        facts[i] = &sort_facts_none;
        }
        if (l->old)
                keep(l, l->old);
        l->old = NULL;
        l->building = false;
        return true;
}

bool sort_loader_run(struct sort_loader *l, const uint32_t *uids, const struct sort_facts **facts, uint32_t n, uint32_t *done,
                     bool (*over)(void *ctx), void *ctx)
{
        while (*done < n) {
                uint32_t number = uids[*done] / SORT_BLOCK_UIDS, end = *done;

                while (end < n && uids[end] / SORT_BLOCK_UIDS == number)
                        end++;
                if (!run_block(l, number, uids + *done, facts + *done, end - *done, over, ctx))
                        return false;
                *done = end;
                if (*done < n && over(ctx))
                        return false;
        }
        str_deinit(&l->header);
        str_deinit(&l->data);
        return true;
}
