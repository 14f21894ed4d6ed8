/*
 * mailbox_compact - segments of which little is still needed are rewritten. On job threads and housekeeping; nobody waits for it.
 *
 * Victims are sealed segments less than half alive. What they still mean goes into one new segment (MLOG_COMPACTED), with current states:
 * messages, states of messages that are elsewhere but were last changed in a victim, annotations that a victim mentions
 * (or all: mailbox_annot.c), purges (an older segment may still mention those UIDs), moves that are not over, all keywords and the
 * counters. Its records take a range of local sequence numbers reserved when it was begun: what is written to the log meanwhile is newer
 * and wins. It stands in the manifest just before the segment that was written to at that time.
 *
 * Order, and what a crash leaves:
 *   1  the new segment is written and synced            a file that nobody lists: removed
 *   2  manifest: new one in, victims retired            the index may point into victims: it is rebuilt at the next load, then 4
 *   3  places of messages are changed in memory, then a checkpoint
 *   4  manifest without the victims; their files go when the last reader is gone
 * With them goes what was kept of their headers for sorting (store/sort_file.h).
 */
#include <stdlib.h>
#include <unistd.h>

#include "store/mailbox_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define COMPACT_MIN (64u << 10)                 /* smaller segments are left alone … */
#define COMPACT_TOGETHER 8                      /* … unless there are as many as this: each is a file */
#define COMPACT_ACTIVE_MIN (256u << 10)         /* the segment being written is sealed early for its sake when larger, and half dead */
#define COMPACT_OUTPUT_MAX (256ull << 20)
#define RELOCATE_SLICE 512
#define STATES_SLICE 4096

struct relocated {
        uint32_t uid;
        bool stub;                              /* its octets were left behind */
        uint64_t segment, offset;               /* where it was */
        uint64_t new_offset;
};
#define STUB_BYTES (sizeof(struct mlog_header) + sizeof(struct mlog_message))

struct compaction {
        struct mailbox *m;
        ARRAY(struct segment *) victims;        /* with references */
        struct segment *out;
        uint64_t seq;
        uint32_t prev_crc;
        struct mlog_batch batch;
        ARRAY(struct relocated) moved;
        size_t moved_in_batch;                  /* the last so many still have an offset within the batch */
        struct uidset states, purged;
        struct annot_keys annots;               /* that victims mention */
        uint64_t deletedmodseq;
};

static bool is_victim(const struct compaction *c, uint64_t id)
{
        for (size_t i = 0; i < c->victims.n; i++)
                if (c->victims.v[i]->info.id == id)
                        return true;
        return false;
}

/* ---- choosing ---- */

struct live_bytes {
        uint64_t id, bytes;
};

static int measure(struct mailbox *m, struct live_bytes **live_r, uint32_t *n_r, struct err *err) EXCLUDES(mailbox_class)
{
        struct index_iter it;
        struct index_rec rec;
        struct live_bytes *live, *last = NULL;
        uint32_t n, looked = 0;
        int rc;

        mailbox_lock(m);
        n = m->segs_n;
        live = xcalloc(n + 1, sizeof *live);
        for (uint32_t i = 0; i < n; i++)
                live[i].id = m->segs[i]->info.id;
        index_iter_init(&it, m->ix, 1);
        while ((rc = index_next(&it, &rec, err)) == 1) {
                for (uint32_t i = 0; i < n && (!last || last->id != rec.segment); i++)
                        if (live[i].id == rec.segment)
                                last = &live[i];
                if (last && last->id == rec.segment)
                        last->bytes += rec.flags & MSG_UNLINKED ? STUB_BYTES : rec.record_len;
                if (++looked % STATES_SLICE == 0) {
                        mailbox_unlock(m);
                        mailbox_lock(m);
                        it.ix = m->ix;
                }
        }
        mailbox_unlock(m);
        *live_r = live;
        *n_r = n;
        return rc;
}

static uint64_t live_of(const struct live_bytes *live, uint32_t n, uint64_t id)
{
        for (uint32_t i = 0; i < n; i++)
                if (live[i].id == id)
                        return live[i].bytes;
        return 0;
}

/* A segment must stay when it holds the ADOPT record of one that stays, or records of a newer version. 1 may go, 0, -1 */
static int may_go(struct compaction *c, struct segment *s, struct err *err)
{
        struct mlog_source source = { .file = s->file, .size = s->end };
        struct mlog_scan scan;
        struct mlog_record rec;
        bool yes = true;
        int rc = mlog_scan_begin(&scan, &source, s->info.id, c->m->uniqueid, 0, 0, err);

        while (rc == 0 && yes && (rc = mlog_scan_next(&scan, &rec, err)) > 0) {
                rc = 0;
                if (scan.damage_to)                     /* left as it is for those who want to look at it */
                        yes = false;
                else if (rec.h.type >= MLOG_TYPE_MAX)
                        yes = false;
                else if (rec.h.type == MLOG_ADOPT && !is_victim(c, ((const struct mlog_adopt *)(const void *)rec.front)->segment))
                        yes = manifest_find(&c->m->manifest, ((const struct mlog_adopt *)(const void *)rec.front)->segment) < 0;
        }
        yes = yes && !scan.ends_in_garbage;
        mlog_scan_deinit(&scan);
        if (rc < 0 && err->code == ERR_CORRUPT)
                return 0;
        return rc < 0 ? -1 : yes;
}

static void choose(struct compaction *c, const struct live_bytes *live, uint32_t n) EXCLUDES(mailbox_class)
{
        struct mailbox *m = c->m;
        uint64_t total = 0;
        uint32_t small = 0;

        mailbox_lock(m);
        for (uint32_t i = 0; i < m->segs_n; i++)
                small += m->segs[i]->end < COMPACT_MIN && m->segs[i]->sealed;
        for (uint32_t i = 0; i < m->segs_n; i++) {
                struct segment *s = m->segs[i];
                uint64_t alive = live_of(live, n, s->info.id);

                if (!s->sealed || s == m->active || s->durable < s->end || s->kind == MLOG_RETIRED || total + alive > COMPACT_OUTPUT_MAX)
                        continue;
                if (alive * 2 >= s->end && !(s->end < COMPACT_MIN && small >= COMPACT_TOGETHER))
                        continue;
                if (s->end < COMPACT_MIN && small < COMPACT_TOGETHER && alive > 0)
                        continue;
                total += alive;
                *ARRAY_PUSH(&c->victims) = segment_ref(s);
        }
        mailbox_unlock(m);
}

static int weed_out(struct compaction *c, struct err *err)
{
        for (size_t i = 0; i < c->victims.n;) {
                int rc = may_go(c, c->victims.v[i], err);

                if (rc < 0)
                        return -1;
                if (rc == 1) {
                        i++;
                        continue;
                }
                segment_unref(&c->victims.v[i]);
                c->victims.v[i] = c->victims.v[--c->victims.n];
                i = 0;                                  /* another may depend on this one's going */
        }
        return 0;
}

/* ---- writing the new segment ---- */

static int flush(struct compaction *c, struct err *err)
{
        struct mlog_pen pen = { .segment = &c->out->info, .offset = c->out->end, .seq = c->seq, .time = clock_wall_s(), .epoch = c->m->epoch,
                                .prev_crc = c->prev_crc, .modseq = 0 };
        struct iovec iov[2];
        int n;

        if (c->batch.records == 0)
                return 0;
        for (size_t i = c->moved.n - c->moved_in_batch; i < c->moved.n; i++)
                c->moved.v[i].new_offset += c->out->end;
        c->moved_in_batch = 0;
        n = mlog_batch_seal(&c->batch, &pen, iov);
        if (segment_write(c->out, iov, n, c->out->end, err) < 0)
                return -1;
        c->out->end = pen.offset;
        c->seq = pen.seq;
        c->prev_crc = pen.prev_crc;
        mlog_batch_deinit(&c->batch);
        return 0;
}

/* Give the record laid down last in the batch a modseq of its own. */
static void set_modseq(struct compaction *c, size_t at, uint64_t modseq)
{
        ((struct mlog_header *)(void *)(c->batch.body.data + at))->modseq = modseq;
}

static void note_moved(struct compaction *c, const struct segment *s, const struct mlog_record *r, const struct index_rec *rec, size_t at)
{
        set_modseq(c, at, rec->modseq);
        *ARRAY_PUSH(&c->moved) = (struct relocated){ rec->uid, rec->flags & MSG_UNLINKED, s->info.id, r->h.offset, at };
        c->moved_in_batch++;
}

static int keep_message(struct compaction *c, struct segment *s, const struct mlog_record *r, struct err *err)
{
        struct mlog_message f;
        struct index_rec rec;
        uint32_t uid;
        size_t at = c->batch.body.len;
        char *octets;
        int rc;

        memcpy(&f, r->front, sizeof f);
        uid = r->h.flags & MLOG_RELATIVE ? s->base_uid + f.uid - 1 : f.uid;
        mailbox_lock(c->m);
        rc = index_find(c->m->ix, uid, &rec, err);
        mailbox_unlock(c->m);
        if (rc <= 0 || rec.segment != s->info.id || rec.offset != r->h.offset)
                return rc < 0 ? -1 : 0;
        f.uid = uid;
        f.flags = rec.flags;
        f.kwset = rec.kwset;
        f.createdmodseq = rec.createdmodseq;
        f.last_updated = rec.last_updated;
        f.internaldate = rec.internaldate;
        f.savedate = rec.savedate;
        f.thrid = rec.thrid;
        f.emailid = rec.emailid;
        if (rec.flags & MSG_UNLINKED) {
                f.flags &= ~(uint32_t)MSG_BLOB;
                f.envelope_len = f.bodystructure_len = f.body_len = f.parts_n = f.header_len = 0;
                mlog_batch_add(&c->batch, &c->batch.body, MLOG_MESSAGE, &f, sizeof f, NULL, 0, NULL, 0, 0);
                note_moved(c, s, r, &rec, at);
                return 0;
        }
        octets = try_malloc(r->h.body_len + 1);
        if (!octets)
                return err_set(err, ERR_NOMEM, "a message of %llu octets", (unsigned long long)r->h.body_len);
        rc = file_read(s->file, octets, r->h.body_len, r->h.offset + sizeof r->h + r->h.front_len, err);
        if (rc == 0) {                                  /* damaged octets stay recognisable: with the checksum that they had */
                mlog_batch_add(&c->batch, &c->batch.body, MLOG_MESSAGE, &f, sizeof f, r->front + sizeof f, r->h.front_len - sizeof f, octets,
                               r->h.body_len, r->h.body_crc);
                note_moved(c, s, r, &rec, at);
        }
        free(octets);
        return rc;
}

static void keep_raw(struct compaction *c, const struct mlog_record *r)
{
        size_t at = c->batch.body.len;

        mlog_batch_add(&c->batch, &c->batch.body, (enum mlog_type)r->h.type, r->front, r->h.front_len, NULL, 0, NULL, 0, 0);
        set_modseq(c, at, r->h.modseq);
}

static void note_uids(struct uidset *to, const struct mlog_uids *u)
{
        const struct uidrange *range = (const struct uidrange *)(u + 1);

        for (uint32_t i = 0; i < u->n; i++)
                uidset_add_range(to, range[i].first, range[i].last);
}

static bool move_is_open(struct mailbox *m, const uint8_t id[16], bool intent) EXCLUDES(mailbox_class)
{
        bool yes;

        mailbox_lock(m);
        yes = state_find_move(m, id, intent) != NULL;
        mailbox_unlock(m);
        return yes;
}

static int keep_record(struct compaction *c, struct segment *s, const struct mlog_record *r, struct err *err)
{
        const struct mlog_flags *f = (const void *)r->front;

        switch ((enum mlog_type)r->h.type) {
        case MLOG_MESSAGE:
                return keep_message(c, s, r, err);
        case MLOG_FLAGS:
                for (uint32_t i = 0; i < f->n; i++)
                        uidset_add(&c->states, ((const struct mlog_flag_entry *)(f + 1))[i].uid);
                return 0;
        case MLOG_STATE:
                for (uint32_t i = 0; i < f->n; i++)
                        uidset_add(&c->states, ((const struct mlog_state_entry *)(f + 1))[i].uid);
                return 0;
        case MLOG_DETAILS:
                for (uint32_t i = 0; i < f->n; i++)
                        uidset_add(&c->states, ((const struct mlog_details_entry *)(f + 1))[i].uid);
                return 0;
        case MLOG_EXPUNGE:
                note_uids(&c->states, (const void *)r->front);
                return 0;
        case MLOG_PURGE:
                note_uids(&c->purged, (const void *)r->front);
                return 0;
        case MLOG_MOVE_INTENT:
        case MLOG_MOVE_ARRIVAL:
                if (move_is_open(c->m, ((const struct mlog_move *)(const void *)r->front)->id, r->h.type == MLOG_MOVE_INTENT))
                        keep_raw(c, r);
                return 0;
        case MLOG_ANNOTATION: {                         /* rewritten as it is now: a newer one may be in a segment that stays */
                const struct mlog_annotation *a = (const void *)r->front;

                annots_note(&c->annots, r->h.flags & MLOG_RELATIVE ? s->base_uid + a->uid - 1 : a->uid, a);
                return 0;
        }
        case MLOG_MOVE_DONE:                            /* what it ends may be in an older segment */
                keep_raw(c, r);
                return 0;
        case MLOG_KEYWORD:
        case MLOG_KWSET:
        case MLOG_FORGET:
        case MLOG_OPTIONS:
        case MLOG_COUNTERS:
        case MLOG_VALUES:                               /* the mailbox's, as they are now, come last */
        case MLOG_ADOPT:
        case MLOG_TYPE_MAX:
                return 0;
        }
        return 0;
}

static int keep_segment(struct compaction *c, struct segment *s, struct err *err)
{
        struct mlog_source source = { .file = s->file, .size = s->end };
        struct mlog_scan scan;
        struct mlog_record rec;
        int rc = mlog_scan_begin(&scan, &source, s->info.id, c->m->uniqueid, 0, 0, err);

        while (rc == 0 && (rc = mlog_scan_next(&scan, &rec, err)) > 0) {
                rc = rc == MLOG_SCAN_DAMAGE ? err_set(err, ERR_CORRUPT, "segment %llx is damaged", (unsigned long long)s->info.id)
                                            : keep_record(c, s, &rec, err);
                if (rc == 0 && c->batch.body.len >= BATCH_BYTES_MAX)
                        rc = flush(c, err);
        }
        mlog_scan_deinit(&scan);
        return rc < 0 ? -1 : 0;
}

/* States of messages that are not in a victim, but were changed there. */
static int keep_states(struct compaction *c, struct err *err)
{
        struct mailbox *m = c->m;
        struct uidset_iter it = uidset_iter(&c->states);
        ARRAY(struct mlog_details_entry) entries = ARRAY_INIT;
        bool more = true;
        uint32_t uid;
        int rc = 0;

        while (rc == 0 && more) {
                entries.n = 0;
                mailbox_lock(m);
                while (rc >= 0 && entries.n < STATES_SLICE && (more = uidset_next(&it, &uid))) {
                        struct index_rec rec;

                        rc = index_find(m->ix, uid, &rec, err);
                        if (rc == 1 && !is_victim(c, rec.segment))
                                *ARRAY_PUSH(&entries) = (struct mlog_details_entry){ .uid = uid, .flags = rec.flags & ~(uint32_t)MSG_BLOB,
                                        .kwset = rec.kwset, .modseq = rec.modseq, .createdmodseq = rec.createdmodseq, .thrid = rec.thrid,
                                        .last_updated = rec.last_updated, .internaldate = rec.internaldate, .savedate = rec.savedate };
                }
                mailbox_unlock(m);
                if (rc > 0)
                        rc = 0;
                if (rc == 0 && entries.n) {
                        struct mlog_flags f = { .n = (uint32_t)entries.n };

                        mlog_batch_add(&c->batch, &c->batch.body, MLOG_DETAILS, &f, sizeof f, entries.v, entries.n * sizeof *entries.v, NULL, 0, 0);
                        if (c->batch.body.len >= BATCH_BYTES_MAX)
                                rc = flush(c, err);
                }
        }
        ARRAY_FREE(&entries);
        return rc;
}

/* Those that victims mention as they are now, or all; then the floor, of now or of a record in a victim. */
static int keep_annotations(struct compaction *c, struct err *err)
{
        size_t n;
        int rc = 0;

        mailbox_lock(c->m);
        if (c->annots.rewrite)
                annots_note_all(&c->annots, c->m);
        mailbox_unlock(c->m);
        n = annots_sort(&c->annots);
        for (size_t at = 0; at < n && rc == 0; at += STATES_SLICE) {
                mailbox_lock(c->m);
                annots_add_noted(c->m, &c->annots, at, at + STATES_SLICE < n ? at + STATES_SLICE : n, &c->batch, &c->batch.body);
                mailbox_unlock(c->m);
                if (c->batch.body.len >= BATCH_BYTES_MAX)
                        rc = flush(c, err);
        }
        if (rc == 0 && c->annots.floor)
                annots_add_floor(c->annots.floor, &c->batch, &c->batch.body);
        return rc;
}

/* Behind all that could raise them (mailbox_state.c). */
static void keep_values(struct compaction *c) EXCLUDES(mailbox_class)
{
        struct mlog_values v = { .how = 0 };
        size_t at = c->batch.body.len;

        mailbox_lock(c->m);
        state_counters(c->m, &v.counters);
        v.how = state_is_quiet(c->m) ? MLOG_QUIET : 0;
        mailbox_unlock(c->m);
        mlog_batch_add(&c->batch, &c->batch.body, MLOG_VALUES, &v, sizeof v, NULL, 0, NULL, 0, 0);
        set_modseq(c, at, v.counters.highestmodseq);
}

static int write_out(struct compaction *c, struct err *err)
{
        struct mailbox *m = c->m;
        struct mlog_counters counters;

        if (segment_begin(m, m->manifest.next_id, false, &c->out, err) < 0)
                return -1;
        m->manifest.next_id++;
        c->out->kind = MLOG_COMPACTED;
        c->prev_crc = c->out->info.crc;
        mailbox_lock(m);
        c->seq = m->seq;
        m->seq += SEQ_RESERVED;
        c->out->seq = m->seq - 1;
        state_counters(m, &counters);
        c->deletedmodseq = counters.deletedmodseq;
        mlog_batch_add(&c->batch, &c->batch.body, MLOG_COUNTERS, &counters, sizeof counters, NULL, 0, NULL, 0, 0);
        kwtab_add_all(m, &c->batch, &c->batch.body);
        mailbox_unlock(m);
        for (size_t i = 0; i < c->victims.n; i++)
                if (keep_segment(c, c->victims.v[i], err) < 0)
                        return -1;
        if (keep_states(c, err) < 0 || keep_annotations(c, err) < 0)
                return -1;
        if (!uidset_empty(&c->purged)) {
                struct mlog_uids u = { .last_updated = clock_wall_s(), .deletedmodseq = c->deletedmodseq, .n = c->purged.n };

                mlog_batch_add(&c->batch, &c->batch.body, MLOG_PURGE, &u, sizeof u, c->purged.ranges, c->purged.n * sizeof *c->purged.ranges,
                               NULL, 0, 0);
        }
        keep_values(c);
        if (flush(c, err) < 0 || segment_settle(m, c->out, false, err) < 0)
                return -1;
        c->out->sealed = true;
        segment_close_fd(c->out);
        return 0;
}

/* ---- taking its place ---- */

static int list_out(struct compaction *c, uint64_t before_id, struct err *err)
{
        struct mailbox *m = c->m;
        struct manifest former;
        int at, rc;

        /* Of what is purged nothing was copied, not even that it was expunged: the record that says so has to be on disk, or it would be back. */
        if (mailbox_sync_wait(m, err) < 0)
                return -1;
        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);           /* what was copied may have been rolled back meanwhile */
        mailbox_unlock(m);
        if (rc < 0)
                return -1;
        manifest_copy(&former, &m->manifest);
        mailbox_lock(m);
        mailbox_seal_entries_locked(m, &m->manifest);
        mailbox_unlock(m);
        for (size_t i = 0; i < c->victims.n; i++) {
                at = manifest_find(&m->manifest, c->victims.v[i]->info.id);
                must(at >= 0);
                m->manifest.entries[at].kind = MLOG_RETIRED;
        }
        at = manifest_find(&m->manifest, before_id);
        must(at >= 0);
        *manifest_add(&m->manifest, (uint32_t)at) = (struct manifest_entry){ .id = c->out->info.id, .valid_len = c->out->end,
                .kind = MLOG_COMPACTED, .seq = c->out->seq, .crc = c->out->info.crc, .salt = c->out->info.salt };
        if (mailbox_guard(m, manifest_write(&m->manifest, m->dir, err), err) < 0) {
                /* Perhaps it is there all the same: then the next load rebuilds the index, from a log that says the same. */
                former.generation = m->manifest.generation;
                former.next_id = m->manifest.next_id;
                manifest_deinit(&m->manifest);
                m->manifest = former;
                return -1;
        }
        manifest_deinit(&former);
        return 0;
}

static int relocate(struct compaction *c, struct err *err) EXCLUDES(mailbox_class)
{
        struct mailbox *m = c->m;
        int rc = 0;

        mailbox_lock(m);
        m->segs = xrealloc(m->segs, (m->segs_n + 1) * sizeof *m->segs);
        memmove(m->segs + 1, m->segs, m->segs_n * sizeof *m->segs);
        m->segs[0] = segment_ref(c->out);
        m->segs_n++;
        if (c->annots.rewrite)
                annots_rewritten(m, c->annots.floor);
        mailbox_unlock(m);
        for (size_t i = 0; rc >= 0 && i < c->moved.n; i += RELOCATE_SLICE) {
                mailbox_lock(m);
                for (size_t k = i; rc >= 0 && k < i + RELOCATE_SLICE && k < c->moved.n; k++) {
                        const struct relocated *mv = &c->moved.v[k];
                        struct index_rec rec;

                        rc = index_find(m->ix, mv->uid, &rec, err);
                        if (rc != 1 || rec.segment != mv->segment || rec.offset != mv->offset)
                                continue;
                        rec.segment = c->out->info.id;
                        rec.offset = mv->new_offset;
                        if (mv->stub) {
                                m->sweep_wanted = m->sweep_wanted || (rec.flags & MSG_BLOB);
                                rec.flags &= ~(uint32_t)MSG_BLOB;
                                rec.record_len = STUB_BYTES;
                                rec.front_len = sizeof(struct mlog_message);
                        }
                        rc = index_put(m->ix, &rec, err);
                }
                mailbox_unlock(m);
        }
        return rc < 0 ? -1 : 0;
}

/* Retired segments go: no checkpoint points there any more. */
static int drop_retired(struct mailbox *m, struct err *err) EXCLUDES(mailbox_class)
{
        struct str path = STR_INIT;
        ARRAY(uint64_t) gone = ARRAY_INIT;
        bool failed;
        int rc;

        mailbox_lock(m);
        failed = m->failed;                             /* then no checkpoint was made: the one on the disk still points there */
        mailbox_unlock(m);
        if (failed)
                return err_set(err, ERR_READONLY, "mailbox %s takes no changes", m->uniqueid);
        for (uint32_t i = m->manifest.n; i-- > 0;) {
                if (m->manifest.entries[i].kind == MLOG_RETIRED) {
                        *ARRAY_PUSH(&gone) = m->manifest.entries[i].id;
                        manifest_remove(&m->manifest, i);
                }
        }
        /* The former manifest lists them as retired: whoever reads that does not look for them. */
        rc = gone.n ? mailbox_guard(m, manifest_write_lazily(&m->manifest, m->dir, err), err) : 0;
        for (size_t i = 0; rc == 0 && i < gone.n; i++) {
                bool held = false;

                mailbox_lock(m);
                for (uint32_t k = 0; k < m->segs_n; k++) {
                        if (m->segs[k]->info.id != gone.v[i])
                                continue;
                        held = true;
                        file_unlink_last(m->segs[k]->file);
                        segment_unref(&m->segs[k]);
                        m->segs_n--;
                        memmove(m->segs + k, m->segs + k + 1, (m->segs_n - k) * sizeof *m->segs);
                        break;
                }
                mailbox_unlock(m);
                if (!held) {
                        str_clear(&path);
                        mlog_segment_path(&path, m->dir, gone.v[i]);
                        unlink(path.data);
                }
        }
        if (rc == 0)
                m->retired_left = false;
        ARRAY_FREE(&gone);
        str_deinit(&path);
        return rc;
}

static void compaction_deinit(struct compaction *c, bool failed)
{
        if (c->out && failed)
                file_unlink_last(c->out->file);
        segment_unref(&c->out);
        for (size_t i = 0; i < c->victims.n; i++)
                segment_unref(&c->victims.v[i]);
        ARRAY_FREE(&c->victims);
        ARRAY_FREE(&c->moved);
        uidset_deinit(&c->states);
        uidset_deinit(&c->purged);
        annots_keys_deinit(&c->annots);
        mlog_batch_deinit(&c->batch);
}

static int compact_victims(struct compaction *c, struct err *err)
{
        struct mailbox *m = c->m;
        uint64_t before_id;

        /* What is below a new floor is on disk after the checkpoint. If it were not, the new segment might after a stop be the only one to know
         * of annotations, of messages that are not there, or not the same. */
        mailbox_lock(m);
        c->annots.rewrite = annots_want_rewrite(m);
        c->annots.floor = c->annots.rewrite ? m->seq : 0;
        mailbox_unlock(m);
        if (mailbox_checkpoint_inner(m, err) < 0) {     /* its position leaves the victims */
                compaction_deinit(c, false);
                return -1;
        }
        mailbox_lock(m);
        before_id = m->failed || !m->active ? 0 : m->active->info.id;
        mailbox_unlock(m);
        if (!before_id) {
                compaction_deinit(c, false);
                return err_set(err, ERR_READONLY, "mailbox %s takes no changes", m->uniqueid);
        }
        if (write_out(c, err) < 0) {
                compaction_deinit(c, true);
                return -1;
        }
        if (list_out(c, before_id, err) < 0) {          /* the manifest on the disk may name it: the file stays */
                compaction_deinit(c, false);
                return -1;
        }
        m->retired_left = true;
        if (relocate(c, err) < 0 || mailbox_checkpoint_inner(m, err) < 0) {
                compaction_deinit(c, false);
                return -1;
        }
        log_event(LOG_INFORM, NULL, "mailbox.compacted", "mailbox=%s uniqueid=%s segments=%zu messages=%zu octets=%llu", atomic_load(&m->name),
                  m->uniqueid, c->victims.n, c->moved.n, (unsigned long long)c->out->end);
        compaction_deinit(c, false);
        mailbox_remove_sort_file(m);
        if (m->ls)
                atomic_fetch_add(&logstore_counts(m->ls)->compactions, 1);
        return drop_retired(m, err);
}

static int compact_inner(struct mailbox *m, struct err *err)
{
        struct compaction c = { .m = m, .victims = ARRAY_INIT, .moved = ARRAY_INIT };
        struct live_bytes *live = NULL;
        bool roll, rewrite;
        uint32_t n;
        int rc = 0;

        if (m->retired_left)
                rc = mailbox_checkpoint_inner(m, err) == 0 ? drop_retired(m, err) : -1;
        if (rc == 0)
                rc = measure(m, &live, &n, err);
        if (rc == 0) {
                mailbox_lock(m);
                roll = m->active && m->active->end >= COMPACT_ACTIVE_MIN && live_of(live, n, m->active->info.id) * 2 < m->active->end;
                mailbox_unlock(m);
                if (roll && mailbox_roll(m, err) == 0)
                        rc = mailbox_begin_next(m, err);
        }
        if (rc == 0) {
                choose(&c, live, n);
                rc = weed_out(&c, err);
        }
        free(live);
        mailbox_lock(m);
        rewrite = annots_want_rewrite(m);
        mailbox_unlock(m);
        if (rc == 0 && (c.victims.n || rewrite))
                return compact_victims(&c, err);
        compaction_deinit(&c, false);
        return rc;
}

int mailbox_compact(struct mailbox *m, struct err *err)
{
        bool can;
        int rc = 0;

        mailbox_maintain_begin(m);
        mailbox_lock(m);
        m->compact_wanted = false;
        m->dead_bytes = 0;
        can = mailbox_writable_locked(m, err) == 0;
        mailbox_unlock(m);
        if (can)
                rc = compact_inner(m, err);
        mailbox_maintain_end(m);
        mailbox_after(m);
        return can ? rc : -1;
}

int mailbox_tidy(struct mailbox *m, struct err *err)
{
        bool wanted;

        mailbox_lock(m);
        wanted = m->compact_wanted || m->retired_left;
        mailbox_unlock(m);
        return wanted ? mailbox_compact(m, err) : 0;
}
