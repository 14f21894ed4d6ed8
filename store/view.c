/*
 * view - see view.h.
 *
 * A view is a count on a map; a map is an array of descriptors of blocks, each with the number of messages before it and its first
 * UID; a block holds ascending UIDs. Maps and blocks are counted and shared between versions:
 *
 *   nothing but modseq changed   same map
 *   append                       UIDs are written behind the end of the tail block, a descriptor behind the end of the map: older
 *                                views do not look there, since they know their own counts. Only who holds the mailbox's lock
 *                                does that, and only on the newest version (`used` is the end of what any version uses);
 *                                who has no lock (view_extend) copies. Readers need no lock: they got the longer view through
 *                                the mailbox's lock, after it was written.
 *   expunge                      a new map; blocks without an expunged UID are shared
 *
 * Blocks without gaps (most blocks of most mailboxes) have no array at all. A block that comes from the index, with gaps, is lazy:
 * it holds a reference to the version of the index's block that was there when the view was made, which never changes (the
 * index copies before it writes), so it makes no difference when its UIDs are read, and that needs no mailbox lock. Loading takes the
 * block's own lock (view_class), inside it the index's leaf locks; loaded arrays are published by an atomic pointer.
 */
#include "store/view.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "store/index.h"
#include "store/lock_order.h"
#include "util/log.h"
#include "util/must.h"

#define BLOCK_UIDS 1024
#define SMALL_UIDS 256                          /* a tail block below that is copied rather than followed by another block */
#define MERGE_UIDS 512                          /* neighbours that fit together are joined at an expunge */

/* Where the UIDs of a lazy block come from. */
struct source {
        struct mutex lock;                      /* of view_class */
        struct index_block *block GUARDED_BY(view_class);       /* NULL: loaded */
        uint32_t live, last;                    /* how many, and the highest UID */
        uint64_t modseq;                        /* of the view it was made for */
};

struct view_block {
        atomic_uint_fast32_t refs;
        uint32_t first;                         /* immutable */
        bool dense;                             /* immutable: first, first + 1, … and no array */
        uint32_t cap;                           /* immutable: room in the array */
        uint32_t used;                          /* with the mailbox's lock: UIDs that the longest view has here */
        _Atomic(uint32_t *) uids;               /* NULL: dense, or not loaded */
        struct source *source;                  /* lazy blocks only; immutable */
};

struct desc {
        struct view_block *block;               /* the map's reference */
        uint32_t start;                         /* messages in the blocks before */
        uint32_t first;                         /* UID */
};

struct map {
        atomic_uint_fast32_t refs;
        uint32_t cap;
        uint32_t used;                          /* as in view_block */
        struct desc d[];
};

struct view {
        atomic_uint_fast32_t refs;
        struct map *map;                        /* immutable, as are all of these; NULL: empty */
        uint32_t blocks;                        /* of the map's */
        uint32_t count;
        uint32_t uidnext;
        uint64_t modseq;
};

/* ---- blocks ---- */

static struct view_block *block_new(uint32_t first, bool dense, uint32_t cap)
{
        struct view_block *b = xcalloc(1, sizeof *b);

        atomic_init(&b->refs, 1);
        b->first = first;
        b->dense = dense;
        b->cap = dense ? BLOCK_UIDS : cap;
        atomic_init(&b->uids, !dense && cap ? xmalloc(cap * sizeof(uint32_t)) : NULL);
        return b;
}

static struct view_block *block_lazy(struct index_block_range *range, uint64_t modseq) NO_TSA;
static struct view_block *block_lazy(struct index_block_range *range, uint64_t modseq)
{
        struct view_block *b = block_new(range->first_uid, false, 0);

        b->source = xcalloc(1, sizeof *b->source);
        mutex_init(&b->source->lock);
        b->source->block = range->block;        /* its reference */
        b->source->live = b->used = range->live;
        b->source->last = range->last_uid;
        b->source->modseq = modseq;
        range->block = NULL;
        return b;
}

static struct view_block *block_ref(struct view_block *b)
{
        atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
        return b;
}

static void block_unref(struct view_block *b) NO_TSA;   /* the last one needs no lock */
static void block_unref(struct view_block *b)
{
        if (atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
                return;
        if (b->source) {
                index_block_unref(&b->source->block);
                mutex_deinit(&b->source->lock);
                free(b->source);
        }
        free(atomic_load_explicit(&b->uids, memory_order_relaxed));
        free(b);
}

/* What stands in for a block that is damaged and that the log does not know either: the right number of UIDs in the right range, so
 * that sequence numbers go on; fetching them says that they are not there. */
static uint32_t stand_in(const struct source *src, uint32_t first, uint32_t k)
{
        return k == src->live - 1 ? src->last : first + k;
}

static void source_lock(struct source *src) ACQUIRE(src->lock, view_class);
static void source_unlock(struct source *src) RELEASE(src->lock, view_class);
static void source_lock(struct source *src) NO_TSA
{
        mutex_lock(&src->lock);
}

static void source_unlock(struct source *src) NO_TSA
{
        mutex_unlock(&src->lock);
}

/* Read the UIDs. NULL: not now (no descriptor, no memory, read error), it is tried again the next time. */
static uint32_t *load_locked(struct view_block *b, struct source *src) REQUIRES(src->lock, view_class);
static uint32_t *load_locked(struct view_block *b, struct source *src)
{
        uint32_t *uids = xmalloc(src->live * sizeof *uids);
        struct err err = ERR_INIT;
        static uint64_t logged;                 /* log_once(): a full disk or no descriptors is not a line for each look */

        if (index_block_live_uids(src->block, src->live, src->modseq, uids, &err) < 0) {
                if (log_once(&logged, 10))
                        log_event(LOG_ERROR, NULL, "view.unreadable", "first_uid=%" PRIu32 " last_uid=%" PRIu32 " reason=\"%s\"",
                                  b->first, src->last, err.text);
                if (err.code != ERR_CORRUPT) {
                        free(uids);
                        return NULL;
                }
                for (uint32_t k = 0; k < src->live; k++)
                        uids[k] = stand_in(src, b->first, k);
        }
        atomic_store_explicit(&b->uids, uids, memory_order_release);
        index_block_unref(&src->block);
        return uids;
}

/* A block's UIDs, to be asked with uid_of(). */
struct reading {
        const struct view_block *block;
        const uint32_t *uids;                   /* NULL: dense, or not readable now */
};

static _Thread_local uint64_t unreadable;

uint64_t view_unreadable(void)
{
        return unreadable;
}

static struct reading read_block(struct view_block *b)
{
        struct reading r = { b, atomic_load_explicit(&b->uids, memory_order_acquire) };
        struct source *src = b->source;

        if (r.uids || !src)
                return r;
        source_lock(src);
        r.uids = atomic_load_explicit(&b->uids, memory_order_relaxed);
        if (!r.uids)
                r.uids = load_locked(b, src);
        source_unlock(src);
        unreadable += !r.uids;
        return r;
}

static inline uint32_t uid_of(const struct reading *r, uint32_t k)
{
        if (r->uids)
                return r->uids[k];
        return r->block->source ? stand_in(r->block->source, r->block->first, k) : r->block->first + k;
}

/* The first of n positions whose UID is >= uid; n when there is none. */
static uint32_t position(const struct reading *r, uint32_t n, uint32_t uid)
{
        uint32_t low = 0, high = n;

        if (r->block->dense)
                return uid <= r->block->first ? 0 : uid - r->block->first < n ? uid - r->block->first : n;
        while (low < high) {
                uint32_t mid = low + (high - low) / 2;

                if (uid_of(r, mid) < uid)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

/* Add positions from … to - 1 to a set. */
static void add_positions(const struct reading *r, uint32_t from, uint32_t to, struct uidset *set)
{
        if (from >= to)
                return;
        if (r->block->dense) {
                uidset_add_range(set, r->block->first + from, r->block->first + to - 1);
                return;
        }
        for (uint32_t k = from; k < to; k++)
                uidset_add(set, uid_of(r, k));
}

/* ---- maps ---- */

static struct map *map_new(uint32_t cap)
{
        struct map *m = xmalloc(sizeof *m + cap * sizeof m->d[0]);

        atomic_init(&m->refs, 1);
        m->cap = cap;
        m->used = 0;
        return m;
}

static void map_unref(struct map *m)
{
        if (!m || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
                return;
        for (uint32_t i = 0; i < m->used; i++)
                block_unref(m->d[i].block);
        free(m);
}

static struct map *map_ref(struct map *m)
{
        if (m)
                atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
        return m;
}

/* ---- views ---- */

/* Takes over the reference to the map. */
static struct view *view_new(struct map *m, uint32_t blocks, uint32_t count, uint32_t uidnext, uint64_t modseq)
{
        struct view *v = xcalloc(1, sizeof *v);

        atomic_init(&v->refs, 1);
        v->map = m;
        v->blocks = blocks;
        v->count = count;
        v->uidnext = uidnext;
        v->modseq = modseq;
        return v;
}

struct view *view_ref(struct view *v)
{
        atomic_fetch_add_explicit(&v->refs, 1, memory_order_relaxed);
        return v;
}

void view_unref(struct view **v_p)
{
        struct view *v = *v_p;

        *v_p = NULL;
        if (!v || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1)
                return;
        map_unref(v->map);
        free(v);
}

uint32_t view_count(const struct view *v)
{
        return v->count;
}

uint32_t view_uidnext(const struct view *v)
{
        return v->uidnext;
}

uint64_t view_modseq(const struct view *v)
{
        return v->modseq;
}

/* How many messages this view has in block i. */
static inline uint32_t in_block(const struct view *v, uint32_t i)
{
        return (i + 1 < v->blocks ? v->map->d[i + 1].start : v->count) - v->map->d[i].start;
}

/* The block that holds message number `before` + 1. */
static uint32_t block_of_seqno(const struct view *v, uint32_t before)
{
        uint32_t low = 0, high = v->blocks - 1;

        while (low < high) {
                uint32_t mid = low + (high - low + 1) / 2;

                if (v->map->d[mid].start <= before)
                        low = mid;
                else
                        high = mid - 1;
        }
        return low;
}

/* The last block whose first UID is <= uid, from block `low` on; `low` itself when there is none. */
static uint32_t block_of_uid(const struct view *v, uint32_t low, uint32_t uid)
{
        uint32_t high = v->blocks - 1;

        while (low < high) {
                uint32_t mid = low + (high - low + 1) / 2;

                if (v->map->d[mid].first <= uid)
                        low = mid;
                else
                        high = mid - 1;
        }
        return low;
}

/* The highest UID of block i, without loading it. */
static uint32_t last_in_block(const struct view *v, uint32_t i)
{
        struct view_block *b = v->map->d[i].block;
        const uint32_t *uids = atomic_load_explicit(&b->uids, memory_order_acquire);
        uint32_t n = in_block(v, i);

        if (b->dense)
                return b->first + n - 1;
        return uids ? uids[n - 1] : b->source->last;
}

static uint32_t last_uid(const struct view *v)
{
        return v->count ? last_in_block(v, v->blocks - 1) : 0;
}

uint32_t view_uid(struct view *v, uint32_t seqno)
{
        struct reading r;
        uint32_t i;

        must(seqno >= 1 && seqno <= v->count);
        i = block_of_seqno(v, seqno - 1);
        r = read_block(v->map->d[i].block);
        return uid_of(&r, seqno - 1 - v->map->d[i].start);
}

uint32_t view_seqno_from(struct view *v, uint32_t uid)
{
        struct reading r;
        uint32_t i, n;

        if (v->count == 0)
                return 1;
        i = block_of_uid(v, 0, uid);
        n = in_block(v, i);
        if (uid <= v->map->d[i].first)
                return v->map->d[i].start + 1;
        if (uid > last_in_block(v, i))
                return v->map->d[i].start + n + 1;
        r = read_block(v->map->d[i].block);
        return v->map->d[i].start + position(&r, n, uid) + 1;
}

uint32_t view_seqno(struct view *v, uint32_t uid)
{
        uint32_t seqno = view_seqno_from(v, uid);

        return seqno <= v->count && view_uid(v, seqno) == uid ? seqno : 0;
}

uint32_t view_uids(struct view *v, uint32_t seqno, uint32_t *uids, uint32_t n)
{
        uint32_t done = 0, i;

        must(seqno >= 1);
        if (seqno > v->count)
                return 0;
        i = block_of_seqno(v, seqno - 1);
        for (uint32_t k = seqno - 1 - v->map->d[i].start; done < n && i < v->blocks; i++, k = 0) {
                struct reading r = read_block(v->map->d[i].block);
                uint32_t end = in_block(v, i);

                for (; k < end && done < n; k++)
                        uids[done++] = uid_of(&r, k);
        }
        return done;
}

static void set_take(struct uidset *to, struct uidset *from)
{
        uidset_deinit(to);
        *to = *from;
}

int view_seqnos_to_uids(struct view *v, const struct uidset *seqnos, struct uidset *uids_r, struct err *err)
{
        struct uidset found = UIDSET_INIT;

        if (seqnos->n && seqnos->ranges[seqnos->n - 1].last > v->count)
                return err_set(err, ERR_SYNTAX, "sequence number %" PRIu32 " is above the number of messages, %" PRIu32,
                               seqnos->ranges[seqnos->n - 1].last, v->count);
        for (uint32_t r = 0; r < seqnos->n; r++) {
                uint32_t at = seqnos->ranges[r].first - 1, end = seqnos->ranges[r].last;

                for (uint32_t i = block_of_seqno(v, at); at < end; i++) {
                        struct reading reading = read_block(v->map->d[i].block);
                        uint32_t start = v->map->d[i].start, n = in_block(v, i);
                        uint32_t to = end - start < n ? end - start : n;

                        add_positions(&reading, at - start, to, &found);
                        at = start + to;
                }
        }
        set_take(uids_r, &found);
        return 0;
}

void view_existing_uids(struct view *v, const struct uidset *uids, struct uidset *uids_r)
{
        struct uidset found = UIDSET_INIT;
        uint32_t i = 0;

        for (uint32_t r = 0; r < uids->n && v->count; r++) {
                uint32_t first = uids->ranges[r].first, last = uids->ranges[r].last;

                for (i = block_of_uid(v, i, first); i < v->blocks && v->map->d[i].first <= last; i++) {
                        struct reading reading;
                        uint32_t n = in_block(v, i);

                        if (last_in_block(v, i) < first)
                                continue;
                        reading = read_block(v->map->d[i].block);
                        add_positions(&reading, position(&reading, n, first),
                                      last == UINT32_MAX ? n : position(&reading, n, last + 1), &found);
                }
                if (i)
                        i--;                            /* the next range may begin in the same block */
        }
        set_take(uids_r, &found);
}

/* ---- differences ---- */

struct cursor {
        struct view *v;
        uint32_t block, at, n;                  /* position in the block, and how many it has */
        struct reading reading;
};

/* False at the end. Skips to the next block when this one is done. */
static bool cursor_ready(struct cursor *c)
{
        while (c->block < c->v->blocks && c->at == c->n) {
                c->at = 0;
                c->n = ++c->block < c->v->blocks ? in_block(c->v, c->block) : 0;
                c->reading.block = NULL;
        }
        return c->block < c->v->blocks;
}

static struct cursor cursor_at_start(struct view *v)
{
        return (struct cursor){ .v = v, .n = v->blocks ? in_block(v, 0) : 0 };
}

static uint32_t cursor_uid(struct cursor *c)
{
        if (!c->reading.block)
                c->reading = read_block(c->v->map->d[c->block].block);
        return uid_of(&c->reading, c->at);
}

void view_diff(struct view *before, struct view *now, struct uidset *gone_r, uint32_t *added_r)
{
        struct cursor a = cursor_at_start(before), b = cursor_at_start(now);
        struct uidset gone = UIDSET_INIT;
        uint32_t last = last_uid(before);

        while (before->map != now->map && cursor_ready(&a)) {
                bool more = cursor_ready(&b);
                uint32_t x, y;

                if (more && a.at == b.at && before->map->d[a.block].block == now->map->d[b.block].block) {
                        uint32_t n = a.n < b.n ? a.n : b.n;

                        a.at = b.at = n;
                        continue;
                }
                x = cursor_uid(&a);
                y = more ? cursor_uid(&b) : UINT32_MAX;
                if (x < y)
                        uidset_add(&gone, x);
                a.at += x <= y;
                b.at += more && y <= x;
        }
        *added_r = last == UINT32_MAX ? 0 : now->count - (view_seqno_from(now, last + 1) - 1);
        set_take(gone_r, &gone);
}

/* ---- making versions ---- */

/* A map under construction: v's own as long as that will do. */
struct builder {
        struct map *map;                        /* a reference; NULL: none yet */
        uint32_t blocks, count;
        bool in_place;                          /* the caller has the mailbox's lock: what v shares may be extended */
        bool own_map;                           /* made here */
        struct view_block *own_tail;            /* the tail block was made here */
};

static void builder_start(struct builder *bd, struct view *v, bool in_place)
{
        *bd = (struct builder){ map_ref(v->map), v->blocks, v->count, in_place, false, NULL };
}

static struct view *builder_finish(struct builder *bd, uint32_t uidnext, uint64_t modseq)
{
        return view_new(bd->map, bd->blocks, bd->count, uidnext, modseq);
}

/* A copy with the first `keep` blocks and room for more. */
static void copy_map(struct builder *bd, uint32_t keep)
{
        struct map *m = map_new(keep + keep / 8 + 4);

        for (uint32_t i = 0; i < keep; i++) {
                m->d[i] = bd->map->d[i];
                block_ref(m->d[i].block);
        }
        m->used = keep;
        map_unref(bd->map);
        bd->map = m;
        bd->own_map = true;
        bd->blocks = keep;
}

/* Put a block at the end; takes over the reference. */
static void push_block(struct builder *bd, struct view_block *b, uint32_t n)
{
        bool fits = bd->map && (bd->own_map || bd->in_place) && bd->map->used == bd->blocks && bd->blocks < bd->map->cap;

        if (!fits)
                copy_map(bd, bd->blocks);
        bd->map->d[bd->blocks] = (struct desc){ b, bd->count, b->first };
        bd->map->used = ++bd->blocks;
        bd->count += n;
        bd->own_tail = NULL;
}

/* A block for these UIDs, dense if they are. cap 0: as many as needed. */
static struct view_block *block_of(const uint32_t *uids, uint32_t n, uint32_t cap)
{
        struct view_block *b = block_new(uids[0], cap == 0 && uids[n - 1] - uids[0] == n - 1, cap ? cap : n);

        if (!b->dense)
                memcpy(atomic_load_explicit(&b->uids, memory_order_relaxed), uids, n * sizeof *uids);
        b->used = n;
        return b;
}

static uint32_t tail_count(const struct builder *bd)
{
        return bd->blocks ? bd->count - bd->map->d[bd->blocks - 1].start : 0;
}

/* Write one more UID behind the tail block's end, if that is allowed and there is room. */
static bool extend_tail(struct builder *bd, uint32_t uid)
{
        struct view_block *b;
        uint32_t n = tail_count(bd);

        if (n == 0)
                return false;
        b = bd->map->d[bd->blocks - 1].block;
        if ((!bd->in_place && b != bd->own_tail) || b->source || b->used != n || n >= b->cap)
                return false;
        if (b->dense && uid != b->first + n)
                return false;
        if (!b->dense)
                atomic_load_explicit(&b->uids, memory_order_relaxed)[n] = uid;
        b->used = n + 1;
        bd->count++;
        return true;
}

/* The tail block cannot take it: copy a small one into one with room, or begin another. */
static void append_uid(struct builder *bd, uint32_t uid)
{
        uint32_t n = tail_count(bd), uids[SMALL_UIDS + 1];
        struct view_block *b = n ? bd->map->d[bd->blocks - 1].block : NULL;

        if (extend_tail(bd, uid))
                return;
        if (!b || b->source || (b->dense ? n >= SMALL_UIDS : n >= SMALL_UIDS || b->cap >= BLOCK_UIDS)) {
                b = block_new(uid, true, 0);
                b->used = 1;
                push_block(bd, b, 1);
                bd->own_tail = b;
                return;
        }
        struct reading r = read_block(b);

        for (uint32_t k = 0; k < n; k++)
                uids[k] = uid_of(&r, k);
        uids[n] = uid;
        b = block_of(uids, n + 1, uid == uids[0] + n ? 0 : n < 16 ? 32 : n * 4 < BLOCK_UIDS ? n * 4 : BLOCK_UIDS);
        bd->count -= n;
        copy_map(bd, bd->blocks - 1);
        push_block(bd, b, n + 1);
        bd->own_tail = b;
}

struct view *view_create_empty(uint32_t uidnext, uint64_t modseq)
{
        return view_new(NULL, 0, 0, uidnext, modseq);
}

struct view *view_create_from_index(struct index *ix, uint32_t uidnext, uint64_t modseq)
{
        struct index_block_range *ranges;
        uint32_t n = index_live_blocks(ix, &ranges), count = 0;
        struct map *m = n ? map_new(n + 2) : NULL;

        for (uint32_t i = 0; i < n; i++) {
                struct index_block_range *r = &ranges[i];
                struct view_block *b;

                if (r->last_uid - r->first_uid == r->live - 1) {
                        b = block_new(r->first_uid, true, 0);
                        b->used = r->live;
                        index_block_unref(&r->block);
                } else {
                        b = block_lazy(r, modseq);
                }
                m->d[i] = (struct desc){ b, count, r->first_uid };
                m->used = i + 1;
                count += r->live;
        }
        free(ranges);
        return view_new(m, n, count, uidnext, modseq);
}

struct view *view_with_modseq(struct view *v, uint64_t modseq)
{
        return view_new(map_ref(v->map), v->blocks, v->count, v->uidnext, modseq);
}

struct view *view_append(struct view *v, const uint32_t *uids, uint32_t n, uint32_t uidnext, uint64_t modseq)
{
        struct builder bd;

        must(n == 0 || uids[0] > last_uid(v));
        builder_start(&bd, v, true);
        for (uint32_t i = 0; i < n; i++) {
                must(i == 0 || uids[i] > uids[i - 1]);
                append_uid(&bd, uids[i]);
        }
        return builder_finish(&bd, uidnext, modseq);
}

/* The first range from `r` on that ends at or above uid. Galloping: a few wide steps, then a search between. */
static uint32_t range_from(const struct uidset *set, uint32_t r, uint32_t uid)
{
        uint32_t step = 1, low = r, high;

        while (low < set->n && set->ranges[low].last < uid) {
                r = low + 1;
                low += step;
                step *= 2;
        }
        high = low < set->n ? low : set->n;
        while (r < high) {
                uint32_t mid = r + (high - r) / 2;

                if (set->ranges[mid].last < uid)
                        r = mid + 1;
                else
                        high = mid;
        }
        return r;
}

/* Is any of block i, whose UIDs are first … last, in the set? *all_r: is the whole range? */
static bool block_hit(const struct uidset *set, uint32_t *range, uint32_t first, uint32_t last, bool *all_r)
{
        const struct uidrange *r;

        *range = range_from(set, *range, first);
        if (*range == set->n || set->ranges[*range].first > last)
                return false;
        r = &set->ranges[*range];
        *all_r = r->first <= first && r->last >= last;
        return true;
}

/* The UIDs of a block of the view that are not in the set. */
static uint32_t kept_uids(const struct reading *r, uint32_t n, const struct uidset *set, uint32_t range, uint32_t *uids)
{
        uint32_t kept = 0;

        for (uint32_t k = 0; k < n; k++) {
                uint32_t uid = uid_of(r, k);

                while (range < set->n && set->ranges[range].last < uid)
                        range++;
                if (range == set->n || set->ranges[range].first > uid)
                        uids[kept++] = uid;
        }
        return kept;
}

/* Put changed UIDs at the end of the map, together with the block before when both are small. */
static void push_uids(struct builder *bd, const uint32_t *uids, uint32_t n)
{
        uint32_t before = tail_count(bd), both[MERGE_UIDS];
        struct view_block *b = before ? bd->map->d[bd->blocks - 1].block : NULL;
        struct reading r;

        if (!b || before + n > MERGE_UIDS) {
                push_block(bd, block_of(uids, n, 0), n);
                return;
        }
        r = read_block(b);
        for (uint32_t k = 0; k < before; k++)
                both[k] = uid_of(&r, k);
        memcpy(both + before, uids, n * sizeof *uids);
        bd->count -= before;
        bd->map->used = --bd->blocks;
        block_unref(b);
        push_block(bd, block_of(both, before + n, 0), before + n);
}

struct view *view_expunge(struct view *v, const struct uidset *uids, uint64_t modseq)
{
        struct builder bd = { .own_map = true };
        uint32_t range = 0, kept[BLOCK_UIDS];
        bool any = false;

        if (v->count == 0 || uids->n == 0)
                return view_with_modseq(v, modseq);
        bd.map = map_new(v->blocks + 2);
        for (uint32_t i = 0; i < v->blocks; i++) {
                struct view_block *b = v->map->d[i].block;
                uint32_t n = in_block(v, i), left = n;
                bool all = false, hit = block_hit(uids, &range, v->map->d[i].first, last_in_block(v, i), &all);

                if (all)
                        left = 0;
                else if (hit) {
                        struct reading r = read_block(b);

                        left = kept_uids(&r, n, uids, range, kept);
                }
                any |= left != n;
                if (left == n)
                        push_block(&bd, block_ref(b), n);
                else if (left)
                        push_uids(&bd, kept, left);
        }
        if (!any) {
                map_unref(bd.map);
                return view_with_modseq(v, modseq);
        }
        return builder_finish(&bd, v->uidnext, modseq);
}

struct view *view_extend(struct view *before, struct view *now)
{
        uint32_t last = last_uid(before), from, at;
        struct builder bd;

        from = last == UINT32_MAX ? now->count + 1 : view_seqno_from(now, last + 1);
        if (from - 1 == before->count)                  /* nothing was expunged */
                return view_ref(now);
        builder_start(&bd, before, false);
        at = from - 1;
        for (uint32_t i = at < now->count ? block_of_seqno(now, at) : now->blocks; i < now->blocks; i++) {
                struct view_block *b = now->map->d[i].block;
                uint32_t n = in_block(now, i), k = at - now->map->d[i].start;

                at += n - k;
                if (k == 0 && n >= SMALL_UIDS) {
                        push_block(&bd, block_ref(b), n);
                        continue;
                }
                for (struct reading r = read_block(b); k < n; k++)
                        append_uid(&bd, uid_of(&r, k));
        }
        return builder_finish(&bd, now->uidnext, now->modseq);
}
