/*
 * mailbox_flags - changing flags, expunging, and purging what was expunged long ago.
 * A record carries the absolute result for each message, so that replaying it twice, or without what was before, gives the same.
 *
 * With a \Seen that is not the message's flag (store/seen.h) one change goes to two places: the log gets a record for each message
 * concerned – the flags as they are, and a new modseq – and the user's set of UIDs is changed under the same lock; then a job writes
 * that set to the database, and only then the waiter is done.
 */
#include <stdlib.h>

#include "store/mailbox_private.h"
#include "store/seen_private.h"
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
        ARRAY(uint64_t) before;                 /* change->seen: a message's modseq when nothing but \Seen changes, else 0 */
        struct uidset seen, unseen;             /* … that become it */
        uint64_t seen_change;
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

/*
 * What becomes of one message. True: something changes. *seen_before is the message before it if this user has seen that, else 0: what is
 * between the two is no message, and the set stays one range.
 */
static bool change_one(struct flag_work *w, const struct index_rec *rec, struct mlog_flag_entry *e, uint32_t *seen_before)
{
        struct seen *seen = w->change->seen;
        uint32_t old = rec->flags & MSG_SYSTEM_FLAGS, now;
        bool was, is;

        if (!seen) {
                e->flags = change_flags(w->change, old);
                return e->flags != old || e->kwset != rec->kwset;
        }
        was = uidset_has(&seen->uids, rec->uid);
        now = change_flags(w->change, (old & ~(uint32_t)MSG_SEEN) | (was ? MSG_SEEN : 0));
        is = now & MSG_SEEN;
        e->flags = (now & ~(uint32_t)MSG_SEEN) | (old & MSG_SEEN);
        if (is && !was)
                uidset_add_range(&w->seen, *seen_before ? *seen_before + 1 : rec->uid, rec->uid);
        else if (was && !is)
                uidset_add(&w->unseen, rec->uid);
        *seen_before = is ? rec->uid : 0;
        if (e->flags == old && e->kwset == rec->kwset && is == was)
                return false;
        *ARRAY_PUSH(&w->before) = e->flags == old && e->kwset == rec->kwset ? rec->modseq : 0;
        return true;
}

/* Work out the results for all of `uids` that are shown. With change->seen its lock is held. */
static int gather_changes_locked(struct flag_work *w, const struct uidset *uids, uint64_t unchangedsince, struct uidset *modified_r,
                                 struct uidset *changed_r, struct err *err)
{
        struct mailbox *m = w->m;

        for (uint32_t i = 0; i < uids->n; i++) {
                struct index_iter it;
                struct index_rec rec;
                uint32_t seen_before = 0;
                int rc;

                index_iter_init(&it, m->ix, uids->ranges[i].first);
                it.upto_uid = uids->ranges[i].last < m->published_uidnext ? uids->ranges[i].last : m->published_uidnext - 1;
                it.expunged = false;
                if (it.upto_uid < uids->ranges[i].first)
                        break;
                while ((rc = index_next(&it, &rec, err)) == 1) {
                        struct mlog_flag_entry e = { .uid = rec.uid };

                        if (rec.modseq > unchangedsince) {
                                seen_before = 0;
                                if (modified_r)
                                        uidset_add(modified_r, rec.uid);
                                continue;
                        }
                        if (change_set(w, rec.kwset, &e.kwset, err) < 0)
                                return -1;
                        if (!change_one(w, &rec, &e, &seen_before))
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

struct seen_job {
        struct job job;
        struct mailbox *m;                      /* reference */
        struct seen *seen;                      /* reference */
        uint64_t change;
        struct waiter *waiter;
};

static void run_seen_job(struct job *job)
{
        struct seen_job *j = (struct seen_job *)job;
        struct err err = ERR_INIT;

        if (seen_save(j->seen, j->change, logstore_options(j->m->ls)->sync_all, &err) < 0)
                waiter_done(j->waiter, &err);
        else
                mailbox_wait_published(j->m, j->waiter);
        seen_unref(&j->seen);
        mailbox_unref(&j->m);
        free(j);
}

static void save_seen(struct flag_work *w, struct waiter *waiter)
{
        struct seen_job *j = xcalloc(1, sizeof *j);

        j->job.fn = run_seen_job;
        j->m = mailbox_ref(w->m);
        j->seen = seen_ref(w->change->seen);
        j->change = w->seen_change;
        j->waiter = waiter;
        logstore_run(w->m->ls, &j->job);
}

static void apply_seen_locked(struct mailbox *m, struct flag_work *w, uint64_t modseq, int64_t now) REQUIRES(m->lock, mailbox_class);
static void apply_seen_locked(struct mailbox *m, struct flag_work *w, uint64_t modseq, int64_t now)
{
        struct seen *seen = w->change->seen;

        if (!uidset_empty(&w->seen) || !uidset_empty(&w->unseen))
                w->seen_change = seen_change_locked(seen, &w->seen, &w->unseen, m->published_uidnext - 1, now);
        for (size_t i = 0; i < w->entries.n; i++)
                if (w->before.v[i])
                        mailbox_note_private_locked(m, w->entries.v[i].uid, modseq, w->before.v[i], seen->reader);
}

int mailbox_store_flags(struct mailbox *m, const struct uidset *uids, const struct flag_change *change, uint64_t unchangedsince,
                        struct uidset *modified_r, struct uidset *changed_r, uint64_t *modseq_r, struct waiter *waiter,
                        struct err *err)
{
        struct flag_work w = { .m = m, .change = change, .need = { ARRAY_INIT, ARRAY_INIT }, .entries = ARRAY_INIT };
        struct commit c = { .waiter = change->seen ? NULL : waiter };
        int rc;

        *modseq_r = 0;
        mlog_batch_init(&w.batch);
        mailbox_lock(m);
        seen_hold(change->seen);
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
                if (rc == 0 && change->seen)
                        apply_seen_locked(m, &w, c.modseq, f.last_updated);
        } else if (rc == 0 && !change->seen) {
                commit_queue_locked(m, &c);             /* nothing to write; done when what was before it is published */
        }
        seen_release(change->seen);
        mailbox_unlock(m);
        mailbox_after(m);
        if (rc == 0 && w.seen_change)
                save_seen(&w, waiter);
        else if (rc == 0 && change->seen)
                mailbox_wait_published(m, waiter);
        mlog_batch_deinit(&w.batch);
        kwneed_deinit(&w.need);
        ARRAY_FREE(&w.entries);
        ARRAY_FREE(&w.before);
        uidset_deinit(&w.seen);
        uidset_deinit(&w.unseen);
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
