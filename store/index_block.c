/* index_block - versions of blocks: see index_private.h */
#include "store/index_private.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/mailbox.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

struct index_shared *index_shared_create(const char *path)
{
        struct index_shared *s = xcalloc(1, sizeof *s);

        atomic_init(&s->refs, 1);
        mutex_init(&s->lock);
        s->path = xstrdup(path);
        return s;
}

struct index_shared *index_shared_ref(struct index_shared *s)
{
        atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
        return s;
}

void index_shared_unref(struct index_shared **s_p)
{
        struct index_shared *s = *s_p;

        *s_p = NULL;
        if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
                return;
        mutex_deinit(&s->lock);
        free(s->path);
        for (size_t i = 0; i < s->former.n; i++)
                free(s->former.v[i]);
        ARRAY_FREE(&s->former);
        free(s);
}

uint64_t index_block_serial(void)
{
        static atomic_uint_fast64_t last;

        return atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
}

struct index_block *index_block_create(struct index_shared *shared, uint32_t cap)
{
        struct index_block *b = xcalloc(1, sizeof *b);

        if (cap) {
                b->recs = try_malloc(cap * sizeof *b->recs);
                if (!b->recs) {
                        free(b);
                        return NULL;
                }
                b->cap = cap;
        }
        atomic_init(&b->refs, 1);
        b->serial = index_block_serial();
        b->shared = index_shared_ref(shared);
        return b;
}

struct index_block *index_block_ref(struct index_block *b)
{
        atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
        return b;
}

void index_block_unref(struct index_block **b_p)
{
        struct index_block *b = *b_p;

        *b_p = NULL;
        if (!b || atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) != 1)
                return;
        index_extent_unref(&b->extent);
        free(b->recs);
        index_shared_unref(&b->shared);
        free(b);
}

bool index_block_is_ours(const struct index_block *b)
{
        /* Acquire: whoever dropped a reference has finished reading. */
        return atomic_load_explicit(&((struct index_block *)b)->refs, memory_order_acquire) == 1;
}

/* ---- summaries ---- */

static void count_flags(struct index_summary *sum, uint32_t flags, uint32_t by)
{
        sum->live += by;
        sum->seen += flags & MSG_SEEN ? by : 0;
        sum->answered += flags & MSG_ANSWERED ? by : 0;
        sum->flagged += flags & MSG_FLAGGED ? by : 0;
        sum->deleted += flags & MSG_DELETED ? by : 0;
        sum->draft += flags & MSG_DRAFT ? by : 0;
}

void index_summary_add(struct index_summary *sum, const struct index_rec *rec)
{
        sum->records++;
        if (rec->modseq > sum->modseq_max)
                sum->modseq_max = rec->modseq;
        if (rec->flags & MSG_EXPUNGED) {
                if (rec->modseq > sum->expunged_modseq_max)
                        sum->expunged_modseq_max = rec->modseq;
                sum->expunged_size += rec->size;
                return;
        }
        count_flags(sum, rec->flags, 1);
        sum->size += rec->size;
        if (rec->flags & MSG_DELETED)
                sum->deleted_size += rec->size;
        if (sum->live_first == 0 || rec->uid < sum->live_first)
                sum->live_first = rec->uid;
        if (rec->uid > sum->live_last)
                sum->live_last = rec->uid;
}

void index_summary_subtract(struct index_summary *sum, const struct index_rec *rec)
{
        sum->records--;
        if (rec->flags & MSG_EXPUNGED) {
                sum->expunged_size -= rec->size;
                return;
        }
        count_flags(sum, rec->flags, -1u);
        sum->size -= rec->size;
        if (rec->flags & MSG_DELETED)
                sum->deleted_size -= rec->size;
}

void index_summary_of(const struct index_rec *recs, uint32_t n, struct index_summary *sum_r)
{
        memset(sum_r, 0, sizeof *sum_r);
        for (uint32_t i = 0; i < n; i++)
                index_summary_add(sum_r, &recs[i]);
        if (n) {
                sum_r->first_uid = recs[0].uid;
                sum_r->last_uid = recs[n - 1].uid;
        }
}

/* ---- reading ---- */

/* The checksum says that these are the octets written; this, that whoever wrote them (a fuzzer, say) kept the rules. */
static int check_records(const struct index_rec *recs, const struct index_summary *expected, struct err *err)
{
        struct index_summary sum;

        for (uint32_t i = 1; i < expected->records; i++)
                if (recs[i].uid <= recs[i - 1].uid)
                        return err_set(err, ERR_CORRUPT, "UIDs out of order");
        index_summary_of(recs, expected->records, &sum);
        if (memcmp(&sum, expected, sizeof sum) != 0)
                return err_set(err, ERR_CORRUPT, "the records and their summary differ");
        return 0;
}

void index_log_damage(struct index_block *b, const struct err *err)
{
        if (log_once(&b->shared->logged, 10))
                log_event(LOG_ERROR, NULL, "index.damaged", "path=%s first_uid=%" PRIu32 " last_uid=%" PRIu32 " reason=\"%s\"",
                          b->shared->path, b->sum.first_uid, b->sum.last_uid, err ? err->text : "");
}

int index_block_read(struct index_block *b, struct index_extent *extent, struct index_rec *recs, struct err *err)
{
        size_t len = b->sum.records * sizeof *recs;

        if (index_file_read(extent->file, recs, len, (uint64_t)extent->page * INDEX_PAGE, err) < 0)
                goto fail;
        if (crc32c(0, recs, len) != b->crc) {
                err_set(err, ERR_CORRUPT, "checksum differs");
                goto fail;
        }
        if (check_records(recs, &b->sum, err) < 0)
                goto fail;
        return 0;
fail:
        return err_prefix(err, "%s: uids %" PRIu32 ":%" PRIu32, b->shared->path, b->sum.first_uid, b->sum.last_uid);
}

/* ---- reading in passing ---- */

struct passing {                                /* a thread's */
        uint64_t serial;                        /* of the block whose records these are; 0: of none */
        struct index_rec recs[INDEX_BLOCK_RECORDS];
};
static pthread_key_t passing_key;
static pthread_once_t passing_once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
        must(pthread_key_create(&passing_key, free) == 0);
}

const struct index_rec *index_block_passing(struct index_block *b)
{
        struct passing *p;

        pthread_once(&passing_once, make_key);
        p = pthread_getspecific(passing_key);
        if (p && p->serial == b->serial)
                return p->recs;
        if (b->passed || (!p && !(p = try_malloc(sizeof *p))))
                return NULL;
        must(pthread_setspecific(passing_key, p) == 0);
        p->serial = 0;
        if (index_block_read(b, b->extent, p->recs, NULL) < 0)
                return NULL;
        p->serial = b->serial;
        b->passed = true;
        return p->recs;
}

static uint32_t live_uids(const struct index_rec *recs, uint32_t n, uint32_t *uids, uint32_t max)
{
        uint32_t found = 0;

        for (uint32_t i = 0; i < n && found < max; i++)
                if (!(recs[i].flags & MSG_EXPUNGED))
                        uids[found++] = recs[i].uid;
        return found;
}

/* The log knows the present state: what was expunged after `modseq` was still shown then. */
static int repaired_uids(struct index_block *b, uint32_t live, uint64_t modseq, struct index_rec *recs, uint32_t *uids, struct err *err)
{
        struct index_repair *repair = &b->shared->repair;
        uint32_t n = 0, found = 0;

        if (!repair->fn)
                return -1;
        if (repair->fn(repair->ctx, b->sum.first_uid, b->sum.last_uid, recs, INDEX_BLOCK_RECORDS, &n, err) < 0)
                return -1;
        for (uint32_t i = 0; i < n && found < live; i++)
                if (recs[i].uid >= b->sum.live_first && recs[i].uid <= b->sum.live_last
                    && (!(recs[i].flags & MSG_EXPUNGED) || recs[i].modseq > modseq))
                        uids[found++] = recs[i].uid;
        return found == live ? 0 : err_set(err, ERR_CORRUPT, "%s: the log has %" PRIu32 " of %" PRIu32 " messages from uid %" PRIu32,
                                           b->shared->path, found, live, b->sum.first_uid);
}

int index_block_live_uids(struct index_block *b, uint32_t live, uint64_t modseq, uint32_t *uids, struct err *err)
{
        struct index_extent *extent = NULL;
        struct index_rec *recs;
        int ret = -1;

        must(live == b->sum.live);
        mutex_lock(&b->shared->lock);
        if (b->recs)
                ret = live_uids(b->recs, b->sum.records, uids, live) == live ? 0 : -1;
        else
                extent = index_extent_ref(b->extent);
        mutex_unlock(&b->shared->lock);
        if (!extent) {
                must(ret == 0);                         /* in memory the summary is always right */
                return 0;
        }
        recs = try_malloc(INDEX_BLOCK_RECORDS * sizeof *recs);
        if (!recs) {
                err_set(err, ERR_NOMEM, "a block of %s", b->shared->path);
                goto out;
        }
        if (index_block_read(b, extent, recs, err) == 0) {
                must(live_uids(recs, b->sum.records, uids, live) == live);
                ret = 0;
                goto out;
        }
        index_log_damage(b, err);
        ret = repaired_uids(b, live, modseq, recs, uids, err);
out:
        free(recs);
        index_extent_unref(&extent);
        return ret;
}

int index_block_records(struct index_block *b, struct index_rec *recs, struct err *err)
{
        struct index_extent *extent = NULL;
        int ret = 0;

        mutex_lock(&b->shared->lock);
        if (b->recs)
                memcpy(recs, b->recs, b->sum.records * sizeof *recs);
        else
                extent = index_extent_ref(b->extent);
        mutex_unlock(&b->shared->lock);
        if (extent) {
                ret = index_block_read(b, extent, recs, err);
                index_extent_unref(&extent);
        }
        return ret;
}
