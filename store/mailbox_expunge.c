/*
 * mailbox_expunge - messages that go: expunged, brought back, purged.
 *
 * A record of the log marks a message expunged. It stays as a tombstone with its octets, from which mailbox_unexpunge() makes a new
 * message – a copy within the mailbox, in one batch with the record that unlinks the old one. A record that unlinks (MLOG_UNLINK) says that
 * the octets are nobody's any more: compaction leaves them behind, a blob goes with the next sweep. With expunge_mode "semidelayed" and
 * "immediate" messages are unlinked as they are expunged; with the latter housekeeping purges them as well, once they are shown as gone.
 */
#include <stdlib.h>

#include "store/mailbox_private.h"
#include "util/clock.h"
#include "util/must.h"

#define SELECT_SLICE 4096                       /* records looked at before the lock is given up for a moment */

bool expunge_unlinks(struct mailbox *m)
{
        return store_expunge_mode(m->store) != EXPUNGE_DELAYED;
}

void expunge_add_record(struct mlog_batch *b, const struct uidset *uids, bool unlink)
{
        struct mlog_uids u = { .last_updated = clock_wall_s(), .n = uids->n, .how = unlink ? MLOG_UNLINK : 0 };

        mlog_batch_add(b, &b->body, MLOG_EXPUNGE, &u, sizeof u, uids->ranges, uids->n * sizeof *uids->ranges, NULL, 0, 0);
}

void expunge_shown_locked(struct mailbox *m)
{
        m->purge_wanted = m->purge_wanted || store_expunge_mode(m->store) == EXPUNGE_IMMEDIATE;
}

/* ---- expunging ---- */

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
        rc = mailbox_changeable_locked(m, err);
        if (rc == 0)
                rc = gather_expunged_locked(m, uids, only_deleted, &c.expunged, err);
        if (rc == 0 && expunged_r)
                uidset_copy(expunged_r, &c.expunged);
        if (rc == 0 && !uidset_empty(&c.expunged)) {
                expunge_add_record(&b, &c.expunged, expunge_unlinks(m));
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

/* ---- what was expunged ---- */

/* Not what is not yet shown as expunged: the views still have it. */
static bool can_be_brought_back(struct mailbox *m, const struct index_rec *rec)
{
        return !(rec->flags & MSG_UNLINKED) && rec->modseq <= m->published_modseq;
}

int mailbox_expunged(struct mailbox *m, uint32_t from, uint32_t max, struct msg *msgs_r, struct err *err)
{
        struct index_iter it;
        struct index_rec rec;
        uint32_t n = 0, looked = 0;
        int rc = 0;

        mailbox_lock(m);
        index_iter_init(&it, m->ix, from);
        it.live = false;
        while (n < max && (rc = index_next(&it, &rec, err)) == 1) {
                if (can_be_brought_back(m, &rec))
                        mailbox_copy_out(&rec, &msgs_r[n++]);
                if (++looked % SELECT_SLICE == 0) {
                        mailbox_unlock(m);
                        mailbox_lock(m);
                        it.ix = m->ix;
                }
        }
        mailbox_unlock(m);
        return rc < 0 ? -1 : (int)n;
}

/* ---- bringing back ---- */

/* Choose, and reserve what was chosen: two who bring back the same do not get it twice. */
static int choose(struct carry *t, const struct uidset *among, int64_t since, struct err *err) EXCLUDES(mailbox_class)
{
        struct mailbox *m = t->from;
        struct index_iter it;
        struct index_rec rec;
        uint32_t looked = 0;
        int rc;

        mailbox_lock(m);
        rc = mailbox_changeable_locked(m, err);
        index_iter_init(&it, m->ix, 1);
        it.live = false;
        while (rc >= 0 && (rc = index_next(&it, &rec, err)) == 1) {
                if (can_be_brought_back(m, &rec) && rec.last_updated >= since && (!among || uidset_has(among, rec.uid)) &&
                    !uidset_has(&m->moving, rec.uid)) {
                        uidset_add(&t->uids, rec.uid);
                        uidset_add(&m->moving, rec.uid);
                }
                if (++looked % SELECT_SLICE == 0) {
                        mailbox_unlock(m);
                        mailbox_lock(m);
                        it.ix = m->ix;
                }
        }
        mailbox_unlock(m);
        uidset_copy(&t->reserved, &t->uids);
        return rc;
}

int mailbox_unexpunge(struct mailbox *m, const struct uidset *uids, const struct unexpunge *how, struct uidset *restored_r,
                      struct append_result *result_r, struct waiter *waiter, struct err *err)
{
        static const struct uidset none = UIDSET_INIT;
        struct copy_mask mask = { .drop_flags = how->undelete ? MSG_DELETED : 0, .shared_annots = true, .all_private_annots = true,
                                  .ignore_quota = true };
        struct carry *t = carry_create(m, &none, m, &mask, restored_r, result_r, waiter);
        struct unexpunge *own = xmalloc(sizeof *own + how->keyword.len);

        *own = *how;
        own->keyword.p = memcpy(own + 1, how->keyword.len ? how->keyword.p : "", how->keyword.len);
        t->restore = own;
        if (choose(t, uids, how->since, err) < 0) {
                mailbox_lock(m);
                mailbox_not_moving_locked(m, &t->reserved);
                mailbox_unlock(m);
                carry_free(t);
                return -1;
        }
        t->job.fn = carry_run_reserved;
        t->job.slow = true;
        logstore_run(m->ls, &t->job);
        return 0;
}

/* ---- purging ---- */

/* Of what was unlinked all, of the rest what was expunged before `before`; not what is not yet shown as expunged. */
static int gather_purged_locked(struct mailbox *m, int64_t before, struct uidset *uids, uint64_t *deletedmodseq, bool *blobs,
                                uint64_t *messages, struct err *err) REQUIRES(m->lock, mailbox_class);
static int gather_purged_locked(struct mailbox *m, int64_t before, struct uidset *uids, uint64_t *deletedmodseq, bool *blobs,
                                uint64_t *messages, struct err *err)
{
        struct index_iter it;
        struct index_rec rec;
        int rc;

        index_iter_init(&it, m->ix, 1);
        it.live = false;
        while ((rc = index_next(&it, &rec, err)) == 1) {
                bool unlinked = rec.flags & MSG_UNLINKED;

                if (rec.modseq > m->published_modseq || (!unlinked && rec.last_updated >= before))
                        continue;
                uidset_add(uids, rec.uid);
                *messages += !unlinked;
                *blobs = *blobs || (rec.flags & MSG_BLOB);
                if (rec.modseq > *deletedmodseq)
                        *deletedmodseq = rec.modseq;
        }
        return rc;
}

static int purge(struct mailbox *m, int64_t before, bool compact, struct purged *purged_r, struct err *err) EXCLUDES(mailbox_class)
{
        struct uidset uids = UIDSET_INIT;
        struct commit c = { .waiter = NULL };
        struct mlog_uids u = { .last_updated = clock_wall_s() };
        struct purged purged = { 0 };
        struct mlog_batch b;
        bool blobs = false;
        int rc;

        mlog_batch_init(&b);
        mailbox_lock(m);
        m->purge_wanted = false;
        rc = mailbox_writable_locked(m, err);
        purged.records = index_totals(m->ix)->records;
        u.deletedmodseq = index_counters(m->ix)->deletedmodseq;
        if (rc == 0)
                rc = gather_purged_locked(m, before, &uids, &u.deletedmodseq, &blobs, &purged.messages, err);
        if (rc == 0 && !uidset_empty(&uids)) {
                u.n = uids.n;
                mlog_batch_add(&b, &b.body, MLOG_PURGE, &u, sizeof u, uids.ranges, uids.n * sizeof *uids.ranges, NULL, 0, 0);
                /* Its record has the highest modseq there is: purging is no change that anybody is told of. */
                rc = mailbox_write_locked(m, &b, index_counters(m->ix)->highestmodseq, 0, &c, err);
                m->compact_wanted = m->compact_wanted || (compact && rc == 0);
        }
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&b);
        uidset_deinit(&uids);
        if (rc == 0 && blobs)
                rc = mailbox_sync_wait(m, err) == 0 ? blob_sweep(m, err) : -1;
        if (rc == 0 && purged_r)
                *purged_r = purged;
        return rc;
}

int mailbox_purge_expunged(struct mailbox *m, int64_t before, struct purged *purged_r, struct err *err)
{
        return purge(m, before, true, purged_r, err);
}

/* Their octets are counted (dead_bytes): when they are many, compaction is due without being asked for. */
int expunge_forget(struct mailbox *m, struct err *err)
{
        bool wanted;

        mailbox_lock(m);
        wanted = m->purge_wanted && !m->failed && !m->readonly_store;
        mailbox_unlock(m);
        return wanted ? purge(m, INT64_MIN, false, NULL, err) : 0;
}
