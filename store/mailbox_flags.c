/*
 * mailbox_flags - changing flags, forgetting keywords.
 * A record carries the absolute result for each message, so that replaying it twice, or without what was before, gives the same.
 *
 * With a \Seen that is not the message's flag (store/seen.h) one change goes to two places: the log gets a record for each message
 * concerned – the flags as they are, and a new modseq – and the user's set of UIDs is changed under the same lock; then a job writes
 * that set to the database, and only then the waiter is done.
 *
 * UNCHANGEDSINCE with one modseq a message (RFC 7162 3.1.12). What "+FLAGS" or "-FLAGS" does not name may have changed: that is no reason to
 * fail. What the flags were before the last changes is remembered, in memory, and where the named ones are now as they were at the client's modseq
 * the change is made. What is not remembered counts as changed.
 */
#include <stdlib.h>

#include "store/mailbox_private.h"
#include "store/seen_private.h"
#include "util/clock.h"
#include "util/must.h"

#define KWMAP_SLOTS 64
#define LOOK_SLICE 4096                         /* records looked at before the lock is given up for a moment */

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
        ARRAY(struct flags_before) was;         /* of the last FLAGS_BEFORE_MAX entries or more; without the new modseq */
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

/* ---- what they were before ---- */

static void remember_one(struct flag_work *w, const struct index_rec *rec)
{
        struct seen *seen = w->change->seen;
        bool is_seen = seen && (uidset_has(&w->seen, rec->uid) || uidset_has(&w->unseen, rec->uid));

        if (w->was.n == 2 * FLAGS_BEFORE_MAX) {
                memcpy(w->was.v, w->was.v + FLAGS_BEFORE_MAX, FLAGS_BEFORE_MAX * sizeof *w->was.v);
                w->was.n = FLAGS_BEFORE_MAX;
        }
        *ARRAY_PUSH(&w->was) = (struct flags_before){ 0, rec->modseq, is_seen ? seen->reader : 0, rec->uid, rec->flags & MSG_SYSTEM_FLAGS,
                                                      rec->kwset };
}

static void remember_locked(struct mailbox *m, const struct flag_work *w, uint64_t modseq) REQUIRES(m->lock, mailbox_class);
static void remember_locked(struct mailbox *m, const struct flag_work *w, uint64_t modseq)
{
        size_t half = FLAGS_BEFORE_MAX / 2;

        for (size_t i = w->was.n > FLAGS_BEFORE_MAX ? w->was.n - FLAGS_BEFORE_MAX : 0; i < w->was.n; i++) {
                if (m->flags_before.n == FLAGS_BEFORE_MAX) {
                        memmove(m->flags_before.v, m->flags_before.v + half, half * sizeof *m->flags_before.v);
                        m->flags_before.n = half;
                }
                *ARRAY_PUSH(&m->flags_before) = w->was.v[i];
                m->flags_before.v[m->flags_before.n - 1].modseq = modseq;
        }
}

/* The change that gave the message this modseq; NULL: not remembered. */
static const struct flags_before *flags_before(struct mailbox *m, uint32_t uid, uint64_t modseq)
{
        size_t low = 0, high = m->flags_before.n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;
                const struct flags_before *b = &m->flags_before.v[mid];

                if (b->modseq == modseq && b->uid == uid)
                        return b;
                if (b->modseq < modseq || (b->modseq == modseq && b->uid < uid))
                        low = mid + 1;
                else
                        high = mid;
        }
        return NULL;
}

static bool kwset_has(struct mailbox *m, uint32_t set_id, uint16_t keyword)
{
        const struct kwset *set = mailbox_kwset(m, set_id);

        for (uint32_t i = 0; set && i < set->n; i++)
                if (set->ids[i] == keyword)
                        return true;
        return false;
}

/* Are the flags that the change names other ones now than they were at `unchangedsince`, or is that not known? */
static bool conflicts(struct flag_work *w, const struct index_rec *rec, uint64_t unchangedsince)
{
        const struct flag_change *ch = w->change;
        uint32_t flags = ch->seen ? ch->flags & ~(uint32_t)MSG_SEEN : ch->flags, old_flags = rec->flags, old_set = rec->kwset;
        uint64_t modseq = rec->modseq;

        if (ch->how == FLAGS_SET)
                return true;
        while (modseq > unchangedsince) {
                const struct flags_before *b = flags_before(w->m, rec->uid, modseq);

                if (!b || (ch->seen && (ch->flags & MSG_SEEN) && b->reader == ch->seen->reader))
                        return true;
                old_flags = b->flags;
                old_set = b->kwset;
                modseq = b->before;
        }
        if ((old_flags ^ rec->flags) & flags)
                return true;
        for (uint32_t i = 0; i < w->ids_n && old_set != rec->kwset; i++)
                if (kwset_has(w->m, old_set, w->ids[i]) != kwset_has(w->m, rec->kwset, w->ids[i]))
                        return true;
        return false;
}

/* ---- the change ---- */

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

                        if (rec.modseq > unchangedsince && conflicts(w, &rec, unchangedsince)) {
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
                        remember_one(w, &rec);
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
        struct flag_work w = { .m = m, .change = change, .need = { .names = ARRAY_INIT }, .entries = ARRAY_INIT };
        struct commit c = { .waiter = change->seen ? NULL : waiter };
        int rc;

        *modseq_r = 0;
        mlog_batch_init(&w.batch);
        mailbox_lock(m);
        seen_hold(change->seen);
        rc = mailbox_changeable_locked(m, err);
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
                if (rc == 0) {
                        *modseq_r = c.modseq;
                        remember_locked(m, &w, c.modseq);
                }
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
        ARRAY_FREE(&w.was);
        uidset_deinit(&w.seen);
        uidset_deinit(&w.unseen);
        free(w.ids);
        return rc;
}

/* ---- forgetting keywords ---- */

struct forget_work {
        struct mailbox *m;
        uint8_t sets[KWSETS_MAX / 8], names[KEYWORDS_MAX / 8];  /* those that messages have */
        uint16_t ids[KEYWORDS_MAX];             /* to be forgotten, ascending */
        uint32_t ids_n;
        uint32_t to[KWSETS_MAX];                /* a set without them, + 1; 0: not known yet */
        struct kwneed need;
        struct mlog_batch batch;
};

static void note_used(struct forget_work *w, uint32_t set_id)
{
        const struct kwset *set = mailbox_kwset(w->m, set_id);

        if (!set || (w->sets[set_id / 8] >> set_id % 8 & 1))
                return;
        w->sets[set_id / 8] |= (uint8_t)(1u << set_id % 8);
        for (uint32_t i = 0; i < set->n; i++)
                w->names[set->ids[i] / 8] |= (uint8_t)(1u << set->ids[i] % 8);
}

/* What live messages that changed after `since` have. The lock is given up now and then, unless `all_at_once`. */
static int look_at_used_locked(struct mailbox *m, struct forget_work *w, uint64_t since, bool all_at_once, struct err *err)
        REQUIRES(m->lock, mailbox_class);
static int look_at_used_locked(struct mailbox *m, struct forget_work *w, uint64_t since, bool all_at_once, struct err *err)
{
        struct index_iter it;
        struct index_rec rec;
        uint32_t looked = 0;
        int rc;

        index_iter_init(&it, m->ix, 1);
        it.modseq_above = since;
        it.expunged = false;
        while ((rc = index_next(&it, &rec, err)) == 1) {
                note_used(w, rec.kwset);
                if (++looked % LOOK_SLICE == 0 && !all_at_once) {
                        mailbox_unlock(m);
                        mailbox_lock(m);
                        it.ix = m->ix;
                }
        }
        return rc;
}

static int compare_keywords(const void *a, const void *b)
{
        return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

static bool is_forgotten(const struct forget_work *w, uint16_t id)
{
        return bsearch(&id, w->ids, w->ids_n, sizeof id, compare_keywords) != NULL;
}

/* The set that is left of a tombstone's. */
static int reduced_set(struct forget_work *w, uint32_t set_id, uint32_t *to_r, struct err *err)
{
        const struct kwset *set = mailbox_kwset(w->m, set_id);
        uint16_t ids[KEYWORDS_MAX];
        uint32_t n = 0;

        *to_r = set_id;
        if (!set)
                return 0;
        if (!w->to[set_id]) {
                for (uint32_t i = 0; i < set->n; i++)
                        if (!is_forgotten(w, set->ids[i]))
                                ids[n++] = set->ids[i];
                if (n < set->n && kw_need_set(w->m, &w->need, ids, n, &w->batch, to_r, err) < 0)
                        return -1;
                w->to[set_id] = *to_r + 1;
        }
        *to_r = w->to[set_id] - 1;
        return 0;
}

static void add_states(struct forget_work *w, struct mlog_state_entry *entries, size_t n)
{
        struct mlog_flags f = { .last_updated = 0, .n = (uint32_t)n };

        if (n)
                mlog_batch_add(&w->batch, &w->batch.body, MLOG_STATE, &f, sizeof f, entries, n * sizeof *entries, NULL, 0, 0);
}

/* Tombstones lose them, and stay as they are else: brought back, they must not have another keyword that got the id meanwhile. */
static int strip_tombstones_locked(struct mailbox *m, struct forget_work *w, struct err *err) REQUIRES(m->lock, mailbox_class);
static int strip_tombstones_locked(struct mailbox *m, struct forget_work *w, struct err *err)
{
        ARRAY(struct mlog_state_entry) entries = ARRAY_INIT;
        struct index_iter it;
        struct index_rec rec;
        uint32_t to;
        int rc;

        index_iter_init(&it, m->ix, 1);
        it.live = false;
        while ((rc = index_next(&it, &rec, err)) == 1) {
                if (reduced_set(w, rec.kwset, &to, err) < 0) {
                        rc = -1;
                        break;
                }
                if (to == rec.kwset)
                        continue;
                *ARRAY_PUSH(&entries) = (struct mlog_state_entry){ .uid = rec.uid, .flags = rec.flags & ~(uint32_t)MSG_BLOB, .kwset = to,
                                                                   .modseq = rec.modseq, .last_updated = rec.last_updated };
                if (entries.n == LOOK_SLICE) {
                        add_states(w, entries.v, entries.n);
                        entries.n = 0;
                }
        }
        add_states(w, entries.v, entries.n);
        ARRAY_FREE(&entries);
        return rc;
}

/* Most of the looking is done before, with pauses; under the lock only at what changed since: at all when modseqs were given meanwhile. */
static int forget_locked(struct mailbox *m, struct forget_work *w, uint64_t since, const char **names, struct err *err)
        REQUIRES(m->lock, mailbox_class);
static int forget_locked(struct mailbox *m, struct forget_work *w, uint64_t since, const char **names, struct err *err)
{
        struct commit c = { .waiter = NULL };

        if (look_at_used_locked(m, w, since, true, err) < 0)
                return -1;
        for (uint32_t i = 0; i < atomic_load(&m->kw.names); i++)
                if (kwtab_name(&m->kw, i) && !(w->names[i / 8] >> i % 8 & 1)) {
                        names[w->ids_n] = kwtab_name(&m->kw, i);
                        w->ids[w->ids_n++] = (uint16_t)i;
                }
        if (w->ids_n == 0)
                return 0;
        if (strip_tombstones_locked(m, w, err) < 0)
                return -1;
        m->flags_before.n = 0;                                  /* an id in there may be another keyword's soon */
        kw_add_forget(&w->batch, &w->batch.body, w->ids, w->ids_n);
        return mailbox_write_locked(m, &w->batch, index_counters(m->ix)->highestmodseq, 0, &c, err);
}

int mailbox_forget_keywords(struct mailbox *m, void (*forgot)(void *ctx, uint32_t keyword, const char *name), void *ctx, struct err *err)
{
        struct forget_work *w;
        const char **names;
        uint64_t since, given;
        int rc;

        if (mailbox_keyword_count(m) == 0)
                return 0;
        w = xcalloc(1, sizeof *w);
        names = xcalloc(KEYWORDS_MAX, sizeof *names);
        w->m = m;
        mlog_batch_init(&w->batch);
        mailbox_maintain_begin(m);                      /* what is built aside has keywords that no message has yet */
        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        since = index_counters(m->ix)->highestmodseq;
        given = m->given;
        if (rc == 0)
                rc = look_at_used_locked(m, w, 0, false, err);
        if (rc == 0)
                rc = forget_locked(m, w, m->given == given ? since : 0, names, err);
        mailbox_unlock(m);
        mailbox_maintain_end(m);
        mailbox_after(m);
        if (rc == 0)
                rc = mailbox_sync_wait(m, err);
        for (uint32_t i = 0; rc == 0 && forgot && i < w->ids_n; i++)
                forgot(ctx, w->ids[i], names[i]);
        mlog_batch_deinit(&w->batch);
        kwneed_deinit(&w->need);
        free(names);
        free(w);
        return rc;
}
