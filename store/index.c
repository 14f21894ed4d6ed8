/*
 * index - records, summaries and sums in memory: see index.h. The file is in index_file.c.
 *
 * Every change goes through writable(): it makes sure that the records of the block are in memory and that nobody else holds this
 * version, else it copies. So views and a checkpoint in progress never see a change, and a burst of flag changes copies a block
 * once for each checkpoint, not once for each change.
 *
 * The summary of a block is exact at any time, not a bound: it is compared with the records when they are read back.
 */
#include "store/index_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/mailbox.h"
#include "util/must.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are used as they are on the disk");

struct index *index_create_empty(const char *path, const char *uniqueid)
{
        struct index *ix = xcalloc(1, sizeof *ix);

        must(strlen(uniqueid) < 64);
        ix->shared = index_shared_create(path);
        ix->path = xstrdup(path);
        ix->uniqueid = xstrdup(uniqueid);
        for (int i = 0; i < INDEX_BLOBS; i++)
                str_init(&ix->blob[i]);
        ix->dirty = ix->blobs_changed = ix->blocks_changed = ix->parts_changed = true;
        return ix;
}

void index_destroy(struct index **ix_p)
{
        struct index *ix = *ix_p;

        *ix_p = NULL;
        if (!ix)
                return;
        must(!ix->snapshot);
        for (size_t i = 0; i < ix->blocks.n; i++)
                index_block_unref(&ix->blocks.v[i]);
        ARRAY_FREE(&ix->blocks);
        for (size_t i = 0; i < ix->durable.n; i++)
                index_extent_unref(&ix->durable.v[i]);
        ARRAY_FREE(&ix->durable);
        for (int i = 0; i < INDEX_BLOBS; i++)
                str_deinit(&ix->blob[i]);
        for (size_t i = 0; i < ix->parts.n; i++)
                index_part_unref(&ix->parts.v[i]);
        ARRAY_FREE(&ix->parts);
        index_file_unref(&ix->file);
        index_shared_unref(&ix->shared);
        free(ix->path);
        free(ix->uniqueid);
        free(ix);
}

void index_move(struct index *ix, const char *path)
{
        must(!ix->snapshot);
        free(ix->path);
        ix->path = xstrdup(path);
        *ARRAY_PUSH(&ix->shared->former) = atomic_exchange(&ix->shared->path, xstrdup(path));
        if (ix->file)
                index_file_move(ix->file, path);
}

void index_set_repair(struct index *ix, const struct index_repair *repair)
{
        ix->shared->repair = *repair;
}

/* ---- counters, blobs, sums ---- */

struct index_counters *index_counters(struct index *ix)
{
        return &ix->counters;
}

void index_touch(struct index *ix)
{
        ix->dirty = true;
}

struct span index_blob(struct index *ix, enum index_blob which)
{
        must((unsigned)which < INDEX_BLOBS);
        return str_span(&ix->blob[which]);
}

void index_set_blob(struct index *ix, enum index_blob which, const void *p, size_t len)
{
        struct str *blob = &ix->blob[which];

        must((unsigned)which < INDEX_BLOBS && len <= INDEX_BLOB_MAX);
        if (blob->len == len && (len == 0 || memcmp(blob->data, p, len) == 0))
                return;
        str_clear(blob);
        str_append(blob, p, len);
        ix->dirty = ix->blobs_changed = true;
}

const struct index_totals *index_totals(const struct index *ix)
{
        return &ix->totals;
}

bool index_dirty(const struct index *ix)
{
        return ix->dirty;
}

uint32_t index_dirty_blocks(const struct index *ix)
{
        return ix->dirty_blocks;
}

uint32_t index_last_uid(const struct index *ix)
{
        return ix->blocks.n ? ix->blocks.v[ix->blocks.n - 1]->sum.last_uid : 0;
}

static void totals_apply(struct index_totals *t, const struct index_summary *sum, uint64_t by)
{
        uint32_t by32 = (uint32_t)by;           /* 1 or -1, modulo 2^32 and 2^64 */

        t->records += sum->records * by;
        t->live += sum->live * by32;
        t->seen += sum->seen * by32;
        t->answered += sum->answered * by32;
        t->flagged += sum->flagged * by32;
        t->deleted += sum->deleted * by32;
        t->draft += sum->draft * by32;
        t->size += sum->size * by;
        t->deleted_size += sum->deleted_size * by;
        t->expunged_size += sum->expunged_size * by;
}

void index_totals_add(struct index_totals *t, const struct index_summary *sum)
{
        totals_apply(t, sum, 1);
}

/* ---- which blocks are in memory ---- */

void index_ring_remove(struct index *ix, struct index_block *b)
{
        for (unsigned i = 0; i < INDEX_RESIDENT_BLOCKS; i++)
                if (ix->ring[i] == b)
                        ix->ring[i] = NULL;
}

static void evict(struct index_block *b)
{
        struct index_rec *recs;

        must(b->extent);
        mutex_lock(&b->shared->lock);
        recs = b->recs;
        b->recs = NULL;
        b->cap = 0;
        mutex_unlock(&b->shared->lock);
        free(recs);
}

/* Second chance: the hand passes over blocks touched since it came by last. */
void index_ring_add(struct index *ix, struct index_block *b)
{
        struct index_block **slot;

        b->recent = true;
        for (;;) {
                slot = &ix->ring[ix->hand];
                ix->hand = (ix->hand + 1) % INDEX_RESIDENT_BLOCKS;
                if (!*slot || !(*slot)->recent)
                        break;
                (*slot)->recent = false;
        }
        if (*slot)
                evict(*slot);
        *slot = b;
}

void index_shed(struct index *ix)
{
        for (unsigned i = 0; i < INDEX_RESIDENT_BLOCKS; i++) {
                if (ix->ring[i])
                        evict(ix->ring[i]);
                ix->ring[i] = NULL;
        }
        for (size_t i = 0; i < ix->blocks.n; i++)
                if (!index_block_is_ours(ix->blocks.v[i]))
                        return;                         /* a view may have to read, and it cannot say that no descriptor is left */
        if (ix->file)
                index_file_shed(ix->file);
}

/* ---- changing blocks ---- */

/* The first block whose last UID is >= uid; blocks.n when there is none. */
static size_t block_at(const struct index *ix, uint64_t uid)
{
        size_t low = 0, high = ix->blocks.n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (ix->blocks.v[mid]->sum.last_uid < uid)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

/* The first of n records whose UID is >= uid. */
static uint32_t record_in(const struct index_rec *recs, uint32_t n, uint32_t uid)
{
        uint32_t low = 0, high = n;

        while (low < high) {
                uint32_t mid = low + (high - low) / 2;

                if (recs[mid].uid < uid)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

static uint32_t record_at(const struct index_block *b, uint32_t uid)
{
        return record_in(b->recs, b->sum.records, uid);
}

/* Put another block, of other content maybe, in the place of block i. Takes over the reference. */
static void replace_block(struct index *ix, size_t i, struct index_block *b)
{
        struct index_block *old = ix->blocks.v[i];

        index_ring_remove(ix, old);
        if (!old->extent)
                ix->dirty_blocks--;
        if (!b->extent)
                ix->dirty_blocks++;
        totals_apply(&ix->totals, &old->sum, (uint64_t)-1);
        totals_apply(&ix->totals, &b->sum, 1);
        ix->blocks.v[i] = b;
        ix->dirty = ix->blocks_changed = true;
        index_block_unref(&old);
}

static void insert_block(struct index *ix, size_t i, struct index_block *b)
{
        ARRAY_RESERVE(&ix->blocks, 1);
        memmove(ix->blocks.v + i + 1, ix->blocks.v + i, (ix->blocks.n - i) * sizeof *ix->blocks.v);
        ix->blocks.v[i] = b;
        ix->blocks.n++;
        ix->dirty_blocks += !b->extent;
        totals_apply(&ix->totals, &b->sum, 1);
        ix->dirty = ix->blocks_changed = true;
}

static void remove_block(struct index *ix, size_t i)
{
        struct index_block *b = ix->blocks.v[i];

        index_ring_remove(ix, b);
        ix->dirty_blocks -= !b->extent;
        totals_apply(&ix->totals, &b->sum, (uint64_t)-1);
        memmove(ix->blocks.v + i, ix->blocks.v + i + 1, (ix->blocks.n - i - 1) * sizeof *ix->blocks.v);
        ix->blocks.n--;
        ix->dirty = ix->blocks_changed = true;
        index_block_unref(&b);
}

/* Room for at least n records: blocks of small mailboxes stay small. */
static uint32_t cap_for(uint32_t n)
{
        uint32_t cap = 8;

        while (cap < n)
                cap *= 2;
        must(cap <= INDEX_BLOCK_RECORDS);
        return cap;
}

/* A block of its own with these records, which are checked to be in order. NULL: no memory (err). */
static struct index_block *block_from(struct index *ix, const struct index_rec *recs, uint32_t n, struct err *err)
{
        struct index_block *b = index_block_create(ix->shared, cap_for(n));

        if (!b) {
                err_set(err, ERR_NOMEM, "a block of %s", ix->path);
                return NULL;
        }
        memcpy(b->recs, recs, n * sizeof *recs);
        index_summary_of(b->recs, n, &b->sum);
        return b;
}

/* Block i is damaged: get its records from the log. Returns 1, or 0 when no record is left there (the block is gone), or -1. */
static int repair_block(struct index *ix, size_t i, struct index_rec *recs, struct err *err)
{
        struct index_block *b = ix->blocks.v[i], *fresh;
        struct index_repair *repair = &ix->shared->repair;
        uint32_t first = b->sum.first_uid, last = b->sum.last_uid, n = 0;

        index_log_damage(b, err);
        if (!repair->fn || repair->fn(repair->ctx, first, last, recs, INDEX_BLOCK_RECORDS, &n, err) < 0)
                return -1;
        must(n <= INDEX_BLOCK_RECORDS);
        for (uint32_t k = 0; k < n; k++)
                if (recs[k].uid < first || recs[k].uid > last || (k > 0 && recs[k].uid <= recs[k - 1].uid))
                        return err_set(err, ERR_CORRUPT, "%s: uid %" PRIu32 " of the log is out of order", ix->path, recs[k].uid);
        if (n == 0) {
                remove_block(ix, i);
                return 0;
        }
        fresh = block_from(ix, recs, n, err);
        if (!fresh)
                return -1;
        replace_block(ix, i, fresh);
        return 1;
}

/* Bring the records of block i into memory. 1; 0: repaired away, the block does not exist any more; -1. */
static int load(struct index *ix, size_t i, struct err *err)
{
        struct index_block *b = ix->blocks.v[i];
        struct err mine = ERR_INIT;
        struct index_rec *recs;
        int ret;

        if (b->recs) {
                b->recent = true;
                return 1;
        }
        recs = try_malloc(b->sum.records * sizeof *recs);
        if (!recs)
                return err_set(err, ERR_NOMEM, "a block of %s", ix->path);
        if (index_block_read(b, b->extent, recs, &mine) == 0) {
                mutex_lock(&b->shared->lock);
                b->recs = recs;
                b->cap = b->sum.records;
                mutex_unlock(&b->shared->lock);
                b->serial = index_block_serial();       /* it may be changed from now on */
                b->passed = false;
                index_ring_add(ix, b);
                return 1;
        }
        free(recs);
        if (mine.code != ERR_CORRUPT) {
                err_copy(err, &mine);
                return -1;
        }
        recs = try_malloc(INDEX_BLOCK_RECORDS * sizeof *recs);
        if (!recs)
                return err_set(err, ERR_NOMEM, "a block of %s", ix->path);
        ret = repair_block(ix, i, recs, &mine);
        free(recs);
        if (ret < 0)
                err_copy(err, &mine);
        return ret;
}

/* Make block i ours alone, its records in memory with room for `need` of them, and dirty. The caller changes it at once and says
 * changed(). 1, 0, -1 as load(). */
static int writable(struct index *ix, size_t i, uint32_t need, struct err *err)
{
        struct index_block *b, *copy;
        struct index_extent *extent;
        int rc = load(ix, i, err);

        if (rc <= 0)
                return rc;
        b = ix->blocks.v[i];
        if (need < b->sum.records)
                need = b->sum.records;
        if (!index_block_is_ours(b)) {
                copy = block_from(ix, b->recs, b->sum.records, err);
                if (!copy)
                        return -1;
                replace_block(ix, i, copy);
                b = copy;
        }
        if (need > b->cap) {
                uint32_t cap = cap_for(need);
                struct index_rec *more = try_malloc(cap * sizeof *more);

                if (!more)
                        return err_set(err, ERR_NOMEM, "a block of %s", ix->path);
                memcpy(more, b->recs, b->sum.records * sizeof *more);
                free(b->recs);
                b->recs = more;
                b->cap = cap;
        }
        if (b->extent) {                                /* the durable checkpoint keeps the extent itself */
                index_ring_remove(ix, b);
                extent = b->extent;
                b->extent = NULL;
                index_extent_unref(&extent);
                ix->dirty_blocks++;
        }
        b->sums.known = false;
        ix->dirty = ix->blocks_changed = true;
        return 1;
}

/* The summary of a writable block was `before`: bring the sums in line. */
static void changed(struct index *ix, const struct index_block *b, const struct index_summary *before)
{
        totals_apply(&ix->totals, before, (uint64_t)-1);
        totals_apply(&ix->totals, &b->sum, 1);
}

/* ---- records ---- */

int index_find(struct index *ix, uint32_t uid, struct index_rec *rec_r, struct err *err)
{
        const struct index_rec *recs = NULL;
        const struct index_block *b;
        uint32_t at = ix->next.at;
        size_t i = ix->next.block;
        int rc;

        /* Most often it is the one after the last that was looked for. */
        if (i >= ix->blocks.n || ix->blocks.v[i]->sum.first_uid > uid || ix->blocks.v[i]->sum.last_uid < uid)
                i = block_at(ix, uid);
        if (i == ix->blocks.n || ix->blocks.v[i]->sum.first_uid > uid)
                return 0;
        if (ix->blocks.v[i]->recs || !(recs = index_block_passing(ix->blocks.v[i]))) {
                rc = load(ix, i, err);
                if (rc <= 0)
                        return rc;
                recs = ix->blocks.v[i]->recs;
        }
        b = ix->blocks.v[i];
        if (at >= b->sum.records || recs[at].uid != uid)
                at = record_in(recs, b->sum.records, uid);
        if (at == b->sum.records || recs[at].uid != uid)
                return 0;
        ix->next.block = i;
        ix->next.at = at + 1;
        *rec_r = recs[at];
        return 1;
}

static int add_block(struct index *ix, size_t i, const struct index_rec *rec, struct err *err)
{
        struct index_block *b = block_from(ix, rec, 1, err);

        if (!b)
                return -1;
        insert_block(ix, i, b);
        return 0;
}

/* Block i becomes two. The upper half is made first, so that nothing is changed when memory runs out. */
static int split(struct index *ix, size_t i, struct err *err)
{
        struct index_block *b = ix->blocks.v[i], *low, *high;
        uint32_t half = b->sum.records / 2;

        high = block_from(ix, b->recs + half, b->sum.records - half, err);
        if (!high)
                return -1;
        low = block_from(ix, b->recs, half, err);
        if (!low) {
                index_block_unref(&high);
                return -1;
        }
        replace_block(ix, i, low);
        insert_block(ix, i + 1, high);
        return 0;
}

/* Put a record that is not there yet before position `at` of block i, whose records are in memory. */
static int insert_record(struct index *ix, size_t i, uint32_t at, const struct index_rec *rec, struct err *err)
{
        struct index_summary before;
        struct index_block *b = ix->blocks.v[i];

        if (b->sum.records == INDEX_BLOCK_RECORDS) {
                if (split(ix, i, err) < 0)
                        return -1;
                if (at > ix->blocks.v[i]->sum.records)
                        at -= ix->blocks.v[i++]->sum.records;
        }
        must(ix->blocks.v[i]->recs);
        if (writable(ix, i, ix->blocks.v[i]->sum.records + 1, err) < 0)
                return -1;
        b = ix->blocks.v[i];
        before = b->sum;
        memmove(b->recs + at + 1, b->recs + at, (b->sum.records - at) * sizeof *b->recs);
        b->recs[at] = *rec;
        index_summary_add(&b->sum, rec);
        b->sum.first_uid = b->recs[0].uid;
        b->sum.last_uid = b->recs[b->sum.records - 1].uid;
        changed(ix, b, &before);
        return 0;
}

/* Is the summary of `b` still right after taking out `old` and adding `rec`, or does a maximum have to be looked for again? */
static bool maxima_hold(const struct index_summary *sum, const struct index_rec *old, const struct index_rec *rec)
{
        if (old->modseq == sum->modseq_max && rec->modseq < old->modseq)
                return false;                           /* replication may lower a modseq */
        if (!(old->flags & MSG_EXPUNGED) || old->modseq != sum->expunged_modseq_max)
                return true;
        return (rec->flags & MSG_EXPUNGED) && rec->modseq >= old->modseq;
}

/* Record `at` was live and is a tombstone now. The next live ones are mostly near. */
static void move_edges(struct index_block *b, uint32_t at)
{
        struct index_summary *sum = &b->sum;
        uint32_t uid = b->recs[at].uid, first = at, last = at;

        if (sum->live == 0) {
                sum->live_first = sum->live_last = 0;
                return;
        }
        if (uid == sum->live_first) {
                while (b->recs[first].flags & MSG_EXPUNGED)
                        first++;
                sum->live_first = b->recs[first].uid;
        }
        if (uid == sum->live_last) {
                while (b->recs[last].flags & MSG_EXPUNGED)
                        last--;
                sum->live_last = b->recs[last].uid;
        }
}

static int replace_record(struct index *ix, size_t i, uint32_t at, const struct index_rec *rec, struct err *err)
{
        struct index_summary before;
        struct index_rec old;
        struct index_block *b = ix->blocks.v[i];

        if (memcmp(&b->recs[at], rec, sizeof *rec) == 0)
                return 0;
        if (writable(ix, i, 0, err) < 0)
                return -1;
        b = ix->blocks.v[i];
        before = b->sum;
        old = b->recs[at];
        b->recs[at] = *rec;
        if (maxima_hold(&before, &old, rec)) {
                index_summary_subtract(&b->sum, &old);
                index_summary_add(&b->sum, rec);
                if (!(old.flags & MSG_EXPUNGED) && (rec->flags & MSG_EXPUNGED))
                        move_edges(b, at);
        } else {
                index_summary_of(b->recs, b->sum.records, &b->sum);
        }
        changed(ix, b, &before);
        return 0;
}

int index_put(struct index *ix, const struct index_rec *rec, struct err *err)
{
        size_t i = block_at(ix, rec->uid);
        uint32_t at;
        int rc;

        must(rec->uid != 0 && rec->uid != UINT32_MAX);
        if (i == ix->blocks.n && (i == 0 || ix->blocks.v[i - 1]->sum.records == INDEX_BLOCK_RECORDS))
                return add_block(ix, i, rec, err);
        if (i == ix->blocks.n)
                i--;
        rc = load(ix, i, err);
        if (rc < 0)
                return -1;
        if (rc == 0)                                    /* repaired away: look again */
                return index_put(ix, rec, err);
        at = record_at(ix->blocks.v[i], rec->uid);
        if (at < ix->blocks.v[i]->sum.records && ix->blocks.v[i]->recs[at].uid == rec->uid)
                return replace_record(ix, i, at, rec, err);
        return insert_record(ix, i, at, rec, err);
}

/* Take the records of `uids` out of block i. 1: the block is still there, 0: it is gone, -1. */
static int purge_block(struct index *ix, size_t i, const struct uidset *uids, struct err *err)
{
        struct index_summary before;
        struct index_block *b;
        uint32_t kept = 0, n;
        int rc = load(ix, i, err);

        if (rc <= 0)
                return rc;
        b = ix->blocks.v[i];
        n = b->sum.records;
        for (uint32_t k = 0; k < n; k++)
                kept += !uidset_has(uids, b->recs[k].uid);
        if (kept == n)
                return 1;
        if (kept == 0) {
                remove_block(ix, i);
                return 0;
        }
        if (writable(ix, i, 0, err) < 0)
                return -1;
        b = ix->blocks.v[i];
        before = b->sum;
        kept = 0;
        for (uint32_t k = 0; k < n; k++)
                if (!uidset_has(uids, b->recs[k].uid))
                        b->recs[kept++] = b->recs[k];
        index_summary_of(b->recs, kept, &b->sum);
        changed(ix, b, &before);
        return 1;
}

/* Join block i with the one after it when both are small: 1 when they were, 0, -1. */
static int merge(struct index *ix, size_t i, struct err *err)
{
        struct index_summary before;
        struct index_block *a, *b;
        int rc;

        if (i + 1 >= ix->blocks.n || ix->blocks.v[i]->sum.records + ix->blocks.v[i + 1]->sum.records > INDEX_MERGE_RECORDS)
                return 0;
        rc = load(ix, i + 1, err);
        if (rc <= 0)
                return rc;
        b = index_block_ref(ix->blocks.v[i + 1]);       /* the other load may evict its records: then they are not merged now */
        rc = writable(ix, i, ix->blocks.v[i]->sum.records + b->sum.records, err);
        if (rc <= 0 || !b->recs) {
                index_block_unref(&b);
                return rc < 0 ? -1 : 0;
        }
        a = ix->blocks.v[i];
        before = a->sum;
        memcpy(a->recs + a->sum.records, b->recs, b->sum.records * sizeof *b->recs);
        index_summary_of(a->recs, a->sum.records + b->sum.records, &a->sum);
        changed(ix, a, &before);
        index_block_unref(&b);
        remove_block(ix, i + 1);
        return 1;
}

int index_purge(struct index *ix, const struct uidset *uids, struct err *err)
{
        for (uint32_t r = 0; r < uids->n; r++) {
                uint64_t uid = uids->ranges[r].first;

                /* A block is taken once, for all ranges that touch it. */
                while (uid <= uids->ranges[r].last) {
                        size_t i = block_at(ix, uid);
                        uint32_t last;
                        int rc;

                        if (i == ix->blocks.n)
                                return 0;
                        if (ix->blocks.v[i]->sum.first_uid > uids->ranges[r].last)
                                break;
                        last = ix->blocks.v[i]->sum.last_uid;
                        rc = purge_block(ix, i, uids, err);
                        if (rc > 0 && (rc = merge(ix, i, err)) == 0 && i > 0)
                                rc = merge(ix, i - 1, err);
                        if (rc < 0)
                                return -1;
                        uid = (uint64_t)last + 1;
                        while (r + 1 < uids->n && uids->ranges[r].last < last && uids->ranges[r + 1].first <= last)
                                r++;
                }
        }
        return 0;
}

/* ---- iteration ---- */

void index_iter_init(struct index_iter *it, struct index *ix, uint32_t from_uid)
{
        *it = (struct index_iter){ .ix = ix, .next_uid = from_uid, .upto_uid = UINT32_MAX, .live = true, .expunged = true };
}

static bool record_fits(const struct index_iter *it, const struct index_rec *rec)
{
        return (!it->modseq_above || rec->modseq > it->modseq_above) && (rec->flags & MSG_EXPUNGED ? it->expunged : it->live)
                && (rec->flags & it->without_flags) == 0 && (rec->flags & it->with_flags) == it->with_flags;
}

/* Could a record of this block fit? For flags the counts are those of live messages. */
static bool block_fits(const struct index_iter *it, const struct index_summary *sum)
{
        if (it->modseq_above && sum->modseq_max <= it->modseq_above)
                return false;
        if (it->expunged && sum->records > sum->live)
                return it->live || !it->modseq_above || sum->expunged_modseq_max > it->modseq_above;
        if (!it->live || sum->live == 0)
                return false;
        if (((it->without_flags & MSG_SEEN) && sum->seen == sum->live)
            || ((it->with_flags & MSG_SEEN) && sum->seen == 0)
            || ((it->with_flags & MSG_DELETED) && sum->deleted == 0)
            || ((it->with_flags & MSG_FLAGGED) && sum->flagged == 0))
                return false;
        return true;
}

int index_next(struct index_iter *it, struct index_rec *rec_r, struct err *err)
{
        struct index *ix = it->ix;

        for (size_t i = block_at(ix, it->next_uid); i < ix->blocks.n;) {
                struct index_block *b = ix->blocks.v[i];
                int rc;

                if (b->sum.first_uid > it->upto_uid)
                        return 0;
                if (!block_fits(it, &b->sum)) {
                        it->next_uid = (uint64_t)b->sum.last_uid + 1;
                        i++;
                        continue;
                }
                rc = load(ix, i, err);
                if (rc < 0)
                        return -1;
                if (rc == 0)
                        continue;                       /* repaired away: the next one is here now */
                b = ix->blocks.v[i];
                for (uint32_t k = record_at(b, it->next_uid > UINT32_MAX ? UINT32_MAX : (uint32_t)it->next_uid); k < b->sum.records; k++) {
                        if (b->recs[k].uid > it->upto_uid)
                                return 0;
                        if (!record_fits(it, &b->recs[k]))
                                continue;
                        *rec_r = b->recs[k];
                        it->next_uid = (uint64_t)rec_r->uid + 1;
                        return 1;
                }
                it->next_uid = (uint64_t)b->sum.last_uid + 1;
                i++;
        }
        return 0;
}

int index_first_unseen(struct index *ix, uint32_t upto_uid, uint32_t *uid_r, struct err *err)
{
        struct index_iter it;
        struct index_rec rec;
        size_t i = 0;
        int rc;

        while (i < ix->blocks.n && ix->blocks.v[i]->sum.seen == ix->blocks.v[i]->sum.live)
                i++;
        if (i == ix->blocks.n || ix->blocks.v[i]->sum.first_uid > upto_uid)
                return 0;
        *uid_r = ix->blocks.v[i]->sum.first_uid;
        if (ix->blocks.v[i]->sum.seen == 0 && ix->blocks.v[i]->sum.live == ix->blocks.v[i]->sum.records)
                return 1;
        index_iter_init(&it, ix, *uid_r);
        it.expunged = false;
        it.without_flags = MSG_SEEN;
        it.upto_uid = upto_uid;
        rc = index_next(&it, &rec, err);
        if (rc == 1)
                *uid_r = rec.uid;
        return rc;
}

/* ---- for views ---- */

uint32_t index_live_blocks(struct index *ix, struct index_block_range **ranges_r)
{
        struct index_block_range *ranges = xcalloc(ix->blocks.n ? ix->blocks.n : 1, sizeof *ranges);
        uint32_t n = 0;

        for (size_t i = 0; i < ix->blocks.n; i++) {
                struct index_block *b = ix->blocks.v[i];

                if (b->sum.live)
                        ranges[n++] = (struct index_block_range){ index_block_ref(b), b->sum.live, b->sum.live_first, b->sum.live_last };
        }
        *ranges_r = ranges;
        return n;
}

/* ---- for replication ---- */

uint32_t index_blocks_above(struct index *ix, uint64_t modseq, struct index_block_part **parts_r)
{
        struct index_block_part *parts = xcalloc(ix->blocks.n ? ix->blocks.n : 1, sizeof *parts);
        uint32_t n = 0;

        for (size_t i = 0; i < ix->blocks.n; i++) {
                struct index_block *b = ix->blocks.v[i];

                if (!modseq || b->sum.modseq_max > modseq)
                        parts[n++] = (struct index_block_part){ index_block_ref(b), b->sum.records, b->sum.first_uid, b->sum.last_uid };
        }
        *parts_r = parts;
        return n;
}

struct index_sums *index_block_sums(struct index_block *b)
{
        return &b->sums;
}

void index_forget_sums(struct index *ix, uint32_t uid)
{
        size_t i = block_at(ix, uid);

        if (i < ix->blocks.n && ix->blocks.v[i]->sum.first_uid <= uid)
                ix->blocks.v[i]->sums.known = false;
}
