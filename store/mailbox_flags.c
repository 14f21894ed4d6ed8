/*
 * mailbox_flags - changing flags, expunging, and purging what was expunged long ago.
 * A record carries the absolute result for each message, so that replaying it twice, or without what was before, gives the same.
 */
#include <stdlib.h>

#include "store/mailbox_private.h"
#include "util/clock.h"
#include "util/must.h"

#define KWMAP_SLOTS 64

/* ---- flags ---- */

struct flag_work {
        struct mailbox *m;
        const struct flag_change *change;
        struct mlog_batch batch;
        struct kwneed need;
        uint16_t *ids;                          /* the change's keywords; ascending not needed */
        uint32_t ids_n;
        struct { uint32_t from, to; bool used; } sets[KWMAP_SLOTS];     /* results already worked out: few sets are in use */
        ARRAY(struct mlog_flag_entry) entries;
};

/* The set that comes of applying the change to set `from`. */
static int change_set(struct flag_work *w, uint32_t from, uint32_t *to_r, struct err *err)
{
        const struct flag_change *ch = w->change;
        const struct kwset *old = mailbox_kwset(w->m, from);
        uint32_t slot = from % KWMAP_SLOTS, n = 0;
        uint16_t *ids;
        int rc;

        if (w->sets[slot].used && w->sets[slot].from == from) {
                *to_r = w->sets[slot].to;
                return 0;
        }
        ids = xmalloc(((old ? old->n : 0) + w->ids_n + 1) * sizeof *ids);
        if (old && (ch->how != FLAGS_SET || ch->keep_keywords))
                for (uint32_t i = 0; i < old->n; i++)
                        ids[n++] = old->ids[i];
        if (ch->how == FLAGS_REMOVE) {
                uint32_t kept = 0;

                for (uint32_t i = 0; i < n; i++) {
                        bool gone = false;

                        for (uint32_t k = 0; k < w->ids_n && !gone; k++)
                                gone = ids[i] == w->ids[k];
                        if (!gone)
                                ids[kept++] = ids[i];
                }
                n = kept;
        } else if (!ch->keep_keywords) {
                for (uint32_t k = 0; k < w->ids_n; k++)
                        ids[n++] = w->ids[k];
        }
        rc = kw_need_set(w->m, &w->need, ids, n, &w->batch, to_r, err);
        free(ids);
        if (rc == 0) {
                w->sets[slot].from = from;
                w->sets[slot].to = *to_r;
                w->sets[slot].used = true;
        }
        return rc;
}

static uint32_t change_flags(const struct flag_change *ch, uint32_t old)
{
        uint32_t flags = ch->flags & MSG_SYSTEM_FLAGS & ~ch->keep_flags;

        switch (ch->how) {
        case FLAGS_ADD:
                return old | flags;
        case FLAGS_REMOVE:
                return old & ~flags;
        case FLAGS_SET:
                break;
        }
        return (old & ch->keep_flags) | flags;
}

static int resolve_change_locked(struct flag_work *w, struct err *err)
{
        const struct flag_change *ch = w->change;

        if (ch->keyword_count > KEYWORDS_MAX)
                return err_set(err, ERR_LIMIT, "more than %d keywords", KEYWORDS_MAX);
        w->ids = xmalloc((ch->keyword_count + 1) * sizeof *w->ids);
        for (uint32_t i = 0; i < ch->keyword_count; i++) {
                int known = kwtab_find_name(&w->m->kw, ch->keywords[i]);

                if (known >= 0)
                        w->ids[w->ids_n++] = (uint16_t)known;
                else if (ch->how != FLAGS_REMOVE && kw_need_name(w->m, &w->need, ch->keywords[i], &w->batch, &w->ids[w->ids_n++], err) < 0)
                        return -1;
        }
        return 0;
}

/* Work out the results for all of `uids` that are shown. */
static int gather_changes_locked(struct flag_work *w, const struct uidset *uids, uint64_t unchangedsince, struct uidset *modified_r,
                                 struct uidset *changed_r, struct err *err)
{
        struct mailbox *m = w->m;

        for (uint32_t i = 0; i < uids->n; i++) {
                struct index_iter it;
                struct index_rec rec;
                int rc;

                index_iter_init(&it, m->ix, uids->ranges[i].first);
                it.upto_uid = uids->ranges[i].last < m->published_uidnext ? uids->ranges[i].last : m->published_uidnext - 1;
                it.expunged = false;
                if (it.upto_uid < uids->ranges[i].first)
                        break;
                while ((rc = index_next(&it, &rec, err)) == 1) {
                        struct mlog_flag_entry e = { .uid = rec.uid };

                        if (rec.modseq > unchangedsince) {
                                if (modified_r)
                                        uidset_add(modified_r, rec.uid);
                                continue;
                        }
                        e.flags = change_flags(w->change, rec.flags & MSG_SYSTEM_FLAGS);
                        if (change_set(w, rec.kwset, &e.kwset, err) < 0)
                                return -1;
                        if (e.flags == (rec.flags & MSG_SYSTEM_FLAGS) && e.kwset == rec.kwset)
                                continue;
                        *ARRAY_PUSH(&w->entries) = e;
                        if (changed_r)
                                uidset_add(changed_r, rec.uid);
                }
                if (rc < 0)
                        return -1;
        }
        return 0;
}

int mailbox_store_flags(struct mailbox *m, const struct uidset *uids, const struct flag_change *change, uint64_t unchangedsince,
                        struct uidset *modified_r, struct uidset *changed_r, uint64_t *modseq_r, struct waiter *waiter,
                        struct err *err)
{
        struct flag_work w = { .m = m, .change = change, .need = { ARRAY_INIT, ARRAY_INIT }, .entries = ARRAY_INIT };
        struct commit c = { .waiter = waiter };
        int rc;

        *modseq_r = 0;
        mlog_batch_init(&w.batch);
        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        if (rc == 0)
                rc = resolve_change_locked(&w, err);
        if (rc == 0)
                rc = gather_changes_locked(&w, uids, unchangedsince, modified_r, changed_r, err);
        if (rc == 0 && w.entries.n) {
                struct mlog_flags f = { .last_updated = clock_wall_s(), .n = (uint32_t)w.entries.n };

                mlog_batch_add(&w.batch, &w.batch.body, MLOG_FLAGS, &f, sizeof f, w.entries.v, w.entries.n * sizeof *w.entries.v, NULL,
                               0, 0);
                c.modseq = mailbox_next_modseq_locked(m);
                rc = mailbox_write_locked(m, &w.batch, c.modseq, 0, &c, err);
                if (rc == 0)
                        *modseq_r = c.modseq;
        } else if (rc == 0) {
                commit_queue_locked(m, &c);             /* nothing to write; done when what was before it is published */
        }
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&w.batch);
        kwneed_deinit(&w.need);
        ARRAY_FREE(&w.entries);
        free(w.ids);
        return rc;
}

/* ---- expunge ---- */

static int gather_expunged_locked(struct mailbox *m, const struct uidset *uids, bool only_deleted, struct uidset *out, struct err *err)
        REQUIRES(m->lock, mailbox_class);
static int gather_expunged_locked(struct mailbox *m, const struct uidset *uids, bool only_deleted, struct uidset *out, struct err *err)
{
        static const struct uidrange everything = { 1, UINT32_MAX - 1 };
        const struct uidrange *ranges = uids ? uids->ranges : &everything;
        uint32_t n = uids ? uids->n : 1;

        for (uint32_t i = 0; i < n; i++) {
                struct index_iter it;
                struct index_rec rec;
                int rc;

                index_iter_init(&it, m->ix, ranges[i].first);
                it.upto_uid = ranges[i].last < m->published_uidnext ? ranges[i].last : m->published_uidnext - 1;
                it.expunged = false;
                if (only_deleted)
                        it.with_flags = MSG_DELETED;
                if (it.upto_uid < ranges[i].first)
                        break;
                while ((rc = index_next(&it, &rec, err)) == 1)
                        if (!uidset_has(&m->moving, rec.uid))   /* on its way out already */
                                uidset_add(out, rec.uid);
                if (rc < 0)
                        return -1;
        }
        return 0;
}

int mailbox_expunge(struct mailbox *m, const struct uidset *uids, bool only_deleted, struct uidset *expunged_r,
                    uint64_t *modseq_r, struct waiter *waiter, struct err *err)
{
        struct commit c = { .waiter = waiter, .hard = true };
        struct mlog_batch b;
        int rc;

        if (modseq_r)
                *modseq_r = 0;
        mlog_batch_init(&b);
        uidset_init(&c.expunged);
        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        if (rc == 0)
                rc = gather_expunged_locked(m, uids, only_deleted, &c.expunged, err);
        if (rc == 0 && expunged_r)
                uidset_copy(expunged_r, &c.expunged);
        if (rc == 0 && !uidset_empty(&c.expunged)) {
                struct mlog_uids u = { .last_updated = clock_wall_s(), .n = c.expunged.n };

                mlog_batch_add(&b, &b.body, MLOG_EXPUNGE, &u, sizeof u, c.expunged.ranges, c.expunged.n * sizeof *c.expunged.ranges,
                               NULL, 0, 0);
                c.modseq = mailbox_next_modseq_locked(m);
                if (modseq_r)
                        *modseq_r = c.modseq;
                rc = mailbox_write_locked(m, &b, c.modseq, 0, &c, err);
        } else if (rc == 0) {
                c.hard = false;
                commit_queue_locked(m, &c);
        } else {
                uidset_deinit(&c.expunged);
        }
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&b);
        return rc;
}

/* ---- purge ---- */

int mailbox_purge_expunged(struct mailbox *m, int64_t before, struct err *err)
{
        struct uidset uids = UIDSET_INIT;
        struct commit c = { .waiter = NULL };
        struct mlog_uids u = { .last_updated = clock_wall_s() };
        struct mlog_batch b;
        struct index_iter it;
        struct index_rec rec;
        bool blobs = false;
        int rc;

        mlog_batch_init(&b);
        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        index_iter_init(&it, m->ix, 1);
        it.live = false;
        u.deletedmodseq = index_counters(m->ix)->deletedmodseq;
        while (rc == 0 && (rc = index_next(&it, &rec, err)) == 1) {
                rc = 0;
                /* Not what is not yet shown as expunged: the views still have it. */
                if (rec.last_updated >= before || rec.modseq > m->published_modseq)
                        continue;
                uidset_add(&uids, rec.uid);
                blobs = blobs || (rec.flags & MSG_BLOB);
                if (rec.modseq > u.deletedmodseq)
                        u.deletedmodseq = rec.modseq;
        }
        if (rc == 0 && !uidset_empty(&uids)) {
                u.n = uids.n;
                mlog_batch_add(&b, &b.body, MLOG_PURGE, &u, sizeof u, uids.ranges, uids.n * sizeof *uids.ranges, NULL, 0, 0);
                /* Its record has the highest modseq there is: purging is no change that anybody is told of. */
                rc = mailbox_write_locked(m, &b, index_counters(m->ix)->highestmodseq, 0, &c, err);
                m->compact_wanted = m->compact_wanted || rc == 0;
        }
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&b);
        uidset_deinit(&uids);
        if (rc == 0 && blobs)
                rc = mailbox_sync_wait(m, err) == 0 ? blob_sweep(m, err) : -1;
        return rc;
}
