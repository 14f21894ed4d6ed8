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
#define SAVE_AT_LEAST 64                        /* records that are not in the file yet: fewer are read again after the next start */

struct sort_block {
        atomic_uint refs;
        uint32_t unsaved;                       /* records that are not in the mailbox's file */
        size_t bytes;                           /* of all of it */
        struct sort_piece piece;                /* what is known, in one allocation with this */
        uint64_t saved[SORT_BLOCK_UIDS / 64];   /* by uid % SORT_BLOCK_UIDS */
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

static const struct sort_facts *facts_at(const struct sort_piece *p, uint32_t i)
{
        return (const void *)(p->data + p->offset[i]);
}

/* Whoever looks up ascending UIDs keeps *at, which begins with 0: the next one is mostly where the last one was, or behind it. */
static const struct sort_facts *block_find(const struct sort_block *b, struct sort_wanted w, uint32_t *at)
{
        uint32_t low = *at, high = b ? b->piece.n : 0;

        if (low + 1 < high && b->piece.uid[low] < w.uid)
                low++;
        if (low < high && b->piece.uid[low] == w.uid)
                high = low;
        while (low < high) {
                uint32_t mid = low + (high - low) / 2;

                if (b->piece.uid[mid] < w.uid)
                        low = mid + 1;
                else
                        high = mid;
        }
        *at = low;
        if (!b || low == b->piece.n || b->piece.uid[low] != w.uid || b->piece.check[low] != w.check)
                return NULL;
        return facts_at(&b->piece, low);
}

/* A piece that is built: the arrays of one that has room for so much. */
struct draft {
        uint32_t *uid, *check, *offset, n;
        char *data;
        size_t data_len;
};

static void draft_add(struct draft *d, const struct sort_piece *from, uint32_t i)
{
        const struct sort_facts *f = facts_at(from, i);
        size_t size = sort_facts_size(f);

        d->uid[d->n] = from->uid[i];
        d->check[d->n] = from->check[i];
        d->offset[d->n++] = (uint32_t)d->data_len;
        memcpy(d->data + d->data_len, f, size);
        d->data_len += size;
}

static struct sort_piece draft_piece(const struct draft *d)
{
        return (struct sort_piece){ d->n, d->uid, d->check, d->offset, d->data, d->data_len };
}

static struct draft draft_at(char *p, uint32_t room)
{
        uint32_t *v = (uint32_t *)(void *)p;

        return (struct draft){ .uid = v, .check = v + room, .offset = v + 2 * room, .data = p + (((size_t)room * 12 + 7) & ~(size_t)7) };
}

static size_t draft_bytes(uint32_t room, size_t data_len)
{
        return (((size_t)room * 12 + 7) & ~(size_t)7) + data_len;
}

static bool is_saved(const struct sort_block *b, uint32_t uid)
{
        return b->saved[uid % SORT_BLOCK_UIDS / 64] >> (uid % 64) & 1;
}

static void set_saved(struct sort_block *b, uint32_t uid, bool saved)
{
        uint64_t bit = UINT64_C(1) << (uid % 64), *word = &b->saved[uid % SORT_BLOCK_UIDS / 64];

        *word = saved ? *word | bit : *word & ~bit;
}

/* What the old block, which may be NULL, and a piece know; of two records of a message the piece's stays. `saved`: the piece is from the file. */
static struct sort_block *block_merge(const struct sort_block *old, const struct sort_piece *more, bool saved)
{
        static const struct sort_piece nothing;
        const struct sort_piece *was = old ? &old->piece : &nothing;
        uint32_t room = was->n + more->n, i = 0, k = 0;
        size_t head = sizeof(struct sort_block), bytes = head + draft_bytes(room, was->data_len + more->data_len);
        struct sort_block *b = xmalloc(bytes);
        struct draft d = draft_at((char *)b + head, room);
        bool same;

        _Static_assert(sizeof(struct sort_block) % 8 == 0, "records are aligned");
        atomic_init(&b->refs, 1);
        b->bytes = bytes;
        memset(b->saved, 0, sizeof b->saved);
        if (old)
                memcpy(b->saved, old->saved, sizeof b->saved);
        while (i < was->n || k < more->n) {
                if (k == more->n || (i < was->n && was->uid[i] < more->uid[k])) {
                        draft_add(&d, was, i++);
                        continue;
                }
                same = i < was->n && was->uid[i] == more->uid[k] && was->check[i] == more->check[k];
                set_saved(b, more->uid[k], saved || (same && is_saved(b, more->uid[k])));
                i += i < was->n && was->uid[i] == more->uid[k];
                draft_add(&d, more, k++);
        }
        b->piece = draft_piece(&d);
        b->unsaved = d.n;
        for (unsigned w = 0; w < SORT_BLOCK_UIDS / 64; w++)
                b->unsaved -= (unsigned)__builtin_popcountll(b->saved[w]);
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

/* ---- the loader ---- */

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
        sort_file_close(&l->file);
        str_deinit(&l->data);
        str_deinit(&l->header);
        str_deinit(&l->scratch);
        free(l->uid);
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

/* ---- the file ---- */

/* What the mailbox's file knows of a block. NULL: nothing. */
static struct sort_block *load_block(struct sort_loader *l, uint32_t number)
{
        struct sort_block *b = NULL;
        struct sort_piece piece;
        uint32_t pos = 0;

        if (!l->file)
                l->file = sort_file_open(l->mbox);
        while (sort_file_next(l->file, number, &pos, &l->scratch, &piece)) {
                struct sort_block *old = b;

                b = block_merge(old, &piece, true);
                sort_block_unref(&old);
        }
        if (b)
                cache_put(l, number, b);
        return b;
}

/*
 * Those records of `b` that are not in the file go there, if they are of messages that were asked for: those are not expunged. They count as
 * saved from before the block is shown to others, who would write them once more; if writing fails the file goes.
 */
static void save_block(struct sort_loader *l, uint32_t number, struct sort_block *b, const struct sort_wanted *wanted, uint32_t n)
{
        const struct sort_piece *p = &b->piece;
        char *room = xmalloc(draft_bytes(p->n, p->data_len));
        struct draft d = draft_at(room, p->n);
        struct sort_piece piece;

        for (uint32_t i = 0, k = 0; i < p->n; i++) {
                while (k < n && wanted[k].uid < p->uid[i])
                        k++;
                if (k < n && wanted[k].uid == p->uid[i] && !is_saved(b, p->uid[i]))
                        draft_add(&d, p, i);
        }
        for (uint32_t i = 0; i < d.n; i++)
                set_saved(b, d.uid[i], true);
        b->unsaved -= d.n;
        cache_put(l, number, b);
        piece = draft_piece(&d);
        if (d.n)
                sort_file_append(l->mbox, number, &piece);
        free(room);
}

/* ---- loading ---- */

/* A message that cannot be read sorts like one without a header; it is tried again the next time. */
static void read_one(struct sort_loader *l, const struct msg *m)
{
        struct err err = ERR_INIT;
        struct span header;

        if (m->uid == 0 || mailbox_header(l->mbox, m, &l->header, &header, &err) < 0)
                return;
        l->uid[l->read_n] = m->uid;
        l->check[l->read_n] = sort_check(m->guid);
        l->offset[l->read_n++] = (uint32_t)l->data.len;
        sort_facts_append(header, &l->data, &l->scratch);
}

/* Read those of wanted[l->looked … n - 1] that the old block does not have. False: the slice is over. */
static bool read_missing(struct sort_loader *l, const struct sort_wanted *wanted, uint32_t n, bool (*over)(void *ctx), void *ctx)
{
        struct msg msgs[READ_AT_ONCE];
        uint32_t uids[READ_AT_ONCE], k;
        struct err err = ERR_INIT;

        while (l->looked < n) {
                for (k = 0; l->looked < n && k < READ_AT_ONCE; l->looked++)
                        if (!block_find(l->old, wanted[l->looked], &l->find_at))
                                uids[k++] = wanted[l->looked].uid;
                if (k == 0)
                        return true;
                if (!l->uid) {
                        l->uid = xcalloc(3 * SORT_BLOCK_UIDS, sizeof *l->uid);
                        l->check = l->uid + SORT_BLOCK_UIDS;
                        l->offset = l->check + SORT_BLOCK_UIDS;
                }
                if (mailbox_messages(l->mbox, uids, k, msgs, &err) == 0)
                        for (uint32_t i = 0; i < k; i++)
                                read_one(l, &msgs[i]);
                err_clear(&err);
                if (l->looked < n && over(ctx))
                        return false;
        }
        return true;
}

/* What was read joins what was known, and what others have learned meanwhile. */
static void add_read(struct sort_loader *l, uint32_t number, const struct sort_wanted *wanted, uint32_t n)
{
        struct sort_piece read = { l->read_n, l->uid, l->check, l->offset, l->data.data, l->data.len };
        struct sort_block *theirs = cache_find(l, number), *b;

        if (theirs && theirs != l->old && l->old) {
                b = block_merge(l->old, &theirs->piece, false);
                for (unsigned w = 0; w < SORT_BLOCK_UIDS / 64; w++)
                        b->saved[w] |= theirs->saved[w] | l->old->saved[w];
                sort_block_unref(&theirs);
                theirs = b;
        }
        b = block_merge(theirs ? theirs : l->old, &read, false);
        sort_block_unref(&theirs);
        sort_block_unref(&l->old);
        l->old = b;
        if (b->unsaved >= SAVE_AT_LEAST)
                save_block(l, number, b, wanted, n);
        else
                cache_put(l, number, b);
}

/* wanted[0 … n - 1] are those of one block. */
static bool run_block(struct sort_loader *l, uint32_t number, const struct sort_wanted *wanted, const struct sort_facts **facts, uint32_t n,
                      bool (*over)(void *ctx), void *ctx) EXCLUDES(sort_cache_class)
{
        uint32_t at = 0;

        if (!l->building) {
                l->old = cache_find(l, number);
                if (!l->old)
                        l->old = load_block(l, number);
                l->looked = l->read_n = l->find_at = 0;
                str_clear(&l->data);
                l->building = true;
        }
        if (!read_missing(l, wanted, n, over, ctx))
                return false;
        if (l->read_n)
                add_read(l, number, wanted, n);
        for (uint32_t i = 0; i < n; i++) {
                facts[i] = block_find(l->old, wanted[i], &at);
                if (!facts[i])
                        facts[i] = &sort_facts_none;
        }
        if (l->old)
                keep(l, l->old);
        l->old = NULL;
        l->building = false;
        return true;
}

bool sort_loader_run(struct sort_loader *l, const struct sort_wanted *wanted, const struct sort_facts **facts, uint32_t n, uint32_t *done,
                     bool (*over)(void *ctx), void *ctx)
{
        while (*done < n) {
                uint32_t number = wanted[*done].uid / SORT_BLOCK_UIDS, end = *done;

                while (end < n && wanted[end].uid / SORT_BLOCK_UIDS == number)
                        end++;
                if (!run_block(l, number, wanted + *done, facts + *done, end - *done, over, ctx))
                        return false;
                *done = end;
                if (*done < n && over(ctx))
                        return false;
        }
        str_deinit(&l->header);
        str_deinit(&l->data);
        str_deinit(&l->scratch);
        sort_file_close(&l->file);
        return true;
}
