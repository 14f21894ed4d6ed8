/*
 * mailbox_copy - messages from one mailbox into another, as one batch.
 *
 * The source's records are read without any lock (they never change, their segments are counted); rendered structures are taken over,
 * nothing is parsed again. Blobs are linked. A small set without blobs is done in the caller's thread, any other on a job thread.
 *
 * What is larger than BATCH_BYTES_MAX would hold the target's lock too long for one write. It is built in a segment of its own, with UIDs
 * counted from 1 and modseqs from 0, synced, and listed in the manifest (as adopted, with base UID 0: not yet part of the log). Then one
 * small batch with an ADOPT record gives it its base, and only then the messages exist. A crash before that leaves a segment that no
 * ADOPT record names: it is dropped. Until the manifest knows the base, too, no checkpoint is made (`maintaining`), so that replay
 * meets the ADOPT record.
 */
#include <stdlib.h>
#include <unistd.h>

#include "store/annot.h"
#include "store/annot_user.h"
#include "store/mailbox_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define INLINE_MESSAGES 32
#define INLINE_BYTES (256u << 10)
#define SELECT_SLICE 4096                       /* records looked at before the lock is given up for a moment */

struct carry *carry_create(struct mailbox *from, const struct uidset *uids, struct mailbox *to, const struct copy_mask *mask,
                                 struct uidset *copied_r, struct append_result *result_r, struct waiter *waiter)
{
        struct carry *t = xcalloc(1, sizeof *t);
        char key[ANNOT_USER_KEY_MAX];

        t->from = mailbox_ref(from);
        t->to = mailbox_ref(to);
        uidset_init(&t->uids);
        uidset_copy(&t->uids, uids);
        if (mask)
                t->mask = *mask;
        if (t->mask.private_annots && annot_user_key(from->store, t->mask.private_annots, key))
                t->private_annots = xstrdup(key);
        uidset_init(&t->seen);
        if (mask && mask->seen) {
                uidset_copy(&t->seen, mask->seen);
                t->mask.seen = &t->seen;
        }
        t->copied_r = copied_r;
        t->result = result_r;
        t->waiter = waiter;
        mlog_batch_init(&t->batch);
        return t;
}

/* The messages are in one of the two mailboxes only. */
void carry_counts_once(struct carry *t)
{
        quota_moved(t->to->store, t->in_both, t->in_both_bytes, t->in_both_n);
        t->in_both = NULL;
}

void carry_free(struct carry *t)
{
        carry_counts_once(t);
        for (size_t i = 0; i < t->pins.n; i++)
                blob_unpin(t->to, t->pins.v[i].guid, t->pins.v[i].number);
        ARRAY_FREE(&t->pins);
        ARRAY_FREE(&t->fronts);
        ARRAY_FREE(&t->side_messages);
        mlog_batch_deinit(&t->batch);
        uidset_deinit(&t->uids);
        uidset_deinit(&t->seen);
        uidset_deinit(&t->own_seen);
        uidset_deinit(&t->reserved);
        free((struct unexpunge *)(uintptr_t)t->restore);
        free(t->private_annots);
        ARRAY_FREE(&t->annots.list);
        for (size_t i = 0; i < t->side_annots.n; i++)
                free(t->side_annots.v[i].a);
        ARRAY_FREE(&t->side_annots);
        annot_growths_deinit(&t->annot_growths);
        segment_unref(&t->side);
        if (t->staged)
                append_item_free(t->staged);
        free(t->staged);
        free(t->setmap);
        mailbox_unref(&t->from);
        mailbox_unref(&t->to);
        free(t);
}

uint32_t carry_select(struct carry *t, uint32_t stop_above, uint64_t *bytes_r, bool *blobs_r)
{
        struct mailbox *m = t->from;
        struct uidset there = UIDSET_INIT;
        uint32_t count = 0, looked = 0;

        *bytes_r = 0;
        *blobs_r = false;
        mailbox_lock(m);
        for (uint32_t i = 0; i < t->uids.n && count <= stop_above; i++) {
                struct index_iter it;
                struct index_rec rec;

                index_iter_init(&it, m->ix, t->uids.ranges[i].first);
                it.upto_uid = t->uids.ranges[i].last < m->published_uidnext ? t->uids.ranges[i].last : m->published_uidnext - 1;
                it.expunged = false;
                if (it.upto_uid < t->uids.ranges[i].first)
                        break;
                while (count <= stop_above && index_next(&it, &rec, NULL) == 1) {
                        uidset_add(&there, rec.uid);
                        *bytes_r += rec.record_len;
                        *blobs_r = *blobs_r || (rec.flags & MSG_BLOB);
                        count++;
                        if (++looked % SELECT_SLICE == 0) {
                                mailbox_unlock(m);
                                mailbox_lock(m);
                                it.ix = m->ix;
                        }
                }
        }
        mailbox_unlock(m);
        if (count <= stop_above) {
                uidset_deinit(&t->uids);
                t->uids = there;
        } else {
                uidset_deinit(&there);
        }
        return count;
}

/* ---- reading the source ---- */

struct source_message {
        uint32_t uid, flags, kwset;
        int64_t internaldate;
        uint64_t offset;
        struct segment *seg;                    /* with a reference */
};

/* The state of a message and where it is. 1, 0: gone, or expunged since it was chosen, -1. */
static int locate(struct mailbox *m, uint32_t uid, bool expunged, struct source_message *s, struct err *err) EXCLUDES(mailbox_class)
{
        struct index_rec rec;
        int rc;

        mailbox_lock(m);
        rc = index_find(m->ix, uid, &rec, err);
        if (rc == 1 && (rec.flags & (MSG_EXPUNGED | MSG_UNLINKED)) != (expunged ? MSG_EXPUNGED : 0))
                rc = 0;
        if (rc == 1) {
                struct segment *seg = mailbox_segment(m, rec.segment);

                *s = (struct source_message){ .uid = uid, .flags = rec.flags, .kwset = rec.kwset, .internaldate = rec.internaldate,
                                              .offset = rec.offset, .seg = seg ? segment_ref(seg) : NULL };
        }
        mailbox_unlock(m);
        if (rc == 1 && !s->seg)
                return err_set(err, ERR_CORRUPT, "mailbox %s: the segment of message %u is missing", m->uniqueid, uid);
        return rc;
}

static int copy_blob(struct carry *t, const struct mlog_message *f, uint32_t *number_r, struct err *err)
{
        struct str path = STR_INIT;
        struct blob_pin *pin;
        int rc;

        for (;;) {
                const char *dir = t->from->dir;

                str_printf(&path, "%s/", dir);
                blob_name(&path, f->guid, f->blob_number);
                rc = blob_place(t->to, path.data, f->guid, f->size, number_r, err);
                if (rc == 0 || dir == t->from->dir)
                        break;
                err_clear(err);                         /* its mailbox has gone to another partition meanwhile */
                str_clear(&path);
        }
        str_deinit(&path);
        if (rc == 0) {
                pin = ARRAY_PUSH(&t->pins);
                memcpy(pin->guid, f->guid, sizeof pin->guid);
                pin->number = *number_r;
        }
        return rc;
}

static uint32_t carried_flags(struct carry *t, const struct source_message *s)
{
        uint32_t flags = s->flags & MSG_SYSTEM_FLAGS;

        if (t->mask.seen)
                flags = (flags & ~(uint32_t)MSG_SEEN) | (uidset_has(t->mask.seen, s->uid) ? MSG_SEEN : 0);
        if ((flags & MSG_SEEN) && t->mask.seen_r)
                uidset_add(t->mask.seen_r, s->uid);
        return flags & ~t->mask.drop_flags;
}

/* RFC 5257 4.6: the shared ones, and of the private ones only this user's. */
static bool is_carried(const struct carry *t, const struct annot *a)
{
        if (!*a->user)
                return t->mask.shared_annots;
        return t->mask.all_private_annots || (t->private_annots && strcmp(a->user, t->private_annots) == 0);
}

static void add_annots(struct carry *t, uint32_t uid)
{
        struct arena arena = ARENA_INIT;
        struct annot *list;
        uint32_t n = 0;

        if (t->mask.shared_annots || t->mask.all_private_annots || t->private_annots)
                n = annots_as_logged(t->from, uid, &arena, &list);
        for (uint32_t i = 0; i < n; i++) {
                if (!is_carried(t, &list[i]))
                        continue;
                if (!t->mask.all_private_annots || !*list[i].user)      /* what belongs to others is no reason to refuse */
                        annot_grows(&t->annot_growths, list[i].user, (int64_t)annot_bytes(&list[i]));
                t->annot_values += (int64_t)list[i].value.len;
                *ARRAY_PUSH(&t->annots.list) = (struct new_annot){
                        annots_add_record(&t->batch, &t->batch.body, 0, list[i].entry, list[i].user, list[i].value, 0), (uint32_t)t->fronts.n - 1 };
        }
        arena_deinit(&arena);
}

/* Read one record whole and lay it down for the target. kwset stays the source's for now. */
static int add_one(struct carry *t, const struct source_message *s, int64_t now, struct err *err)
{
        struct mlog_header h;
        struct mlog_message f;
        struct str front = STR_INIT;
        char *octets = NULL;
        int ret = -1;

        if (mlog_read_record(s->seg->file, &s->seg->info, s->offset, &h, &front, err) < 0)
                goto out;
        if (h.type != MLOG_MESSAGE) {
                err_set(err, ERR_CORRUPT, "mailbox %s: message %u is not where it should be", t->from->uniqueid, s->uid);
                goto out;
        }
        memcpy(&f, front.data, sizeof f);
        octets = try_malloc(h.body_len + 1);
        if (!octets) {
                err_set(err, ERR_NOMEM, "a message of %llu octets", (unsigned long long)h.body_len);
                goto out;
        }
        if (file_read(s->seg->file, octets, h.body_len, s->offset + sizeof h + h.front_len, err) < 0)
                goto out;
        if (crc32c(0, octets, h.body_len) != h.body_crc) {
                err_set(err, ERR_CORRUPT, "mailbox %s: the octets of message %u are damaged", t->from->uniqueid, s->uid);
                goto out;
        }
        t->bytes += f.size;
        f.uid = 0;
        f.createdmodseq = 0;
        f.last_updated = f.savedate = now;
        f.internaldate = s->internaldate;
        f.flags = carried_flags(t, s) | (f.flags & MSG_BLOB);
        f.kwset = t->mask.drop_keywords ? 0 : s->kwset;
        if ((f.flags & MSG_BLOB) && copy_blob(t, &f, &f.blob_number, err) < 0)
                goto out;
        *ARRAY_PUSH(&t->fronts) = t->batch.body.len + sizeof h;
        mlog_batch_add(&t->batch, &t->batch.body, MLOG_MESSAGE, &f, sizeof f, front.data + sizeof f, front.len - sizeof f, octets, h.body_len,
                       h.body_crc);
        add_annots(t, s->uid);
        ret = 0;
out:
        str_deinit(&front);
        free(octets);
        return ret;
}

/* ---- keywords ---- */

/* The target's set for a source's; new names and sets go to the head of `b`. */
static int map_set_locked(struct carry *t, struct kwneed *need, uint32_t set, struct mlog_batch *b, uint32_t *to_r, struct err *err)
{
        const struct kwset *from = mailbox_kwset(t->from, set);
        struct span more = t->restore ? t->restore->keyword : SPAN("");
        uint32_t n = from ? from->n : 0, named = 0;
        uint16_t *ids;
        int rc = 0;

        *to_r = 0;
        if (n == 0 && more.len == 0)
                return 0;
        if (set >= t->setmap_n) {
                uint32_t size = set + 64;

                t->setmap = xrealloc(t->setmap, size * sizeof *t->setmap);
                memset(t->setmap + t->setmap_n, 0, (size - t->setmap_n) * sizeof *t->setmap);
                t->setmap_n = size;
        }
        if (t->setmap[set]) {
                *to_r = t->setmap[set] - 1;
                return 0;
        }
        ids = xmalloc((n + 1) * sizeof *ids);
        for (uint32_t i = 0; i < n && rc == 0; i++) {
                const char *name = mailbox_keyword_name(t->from, from->ids[i]);

                if (name)
                        rc = kw_need_name(t->to, need, span_of(name), b, &ids[named++], err);
        }
        if (rc == 0 && more.len)
                rc = kw_need_name(t->to, need, more, b, &ids[named++], err);
        if (rc == 0)
                rc = kw_need_set(t->to, need, ids, named, b, to_r, err);
        free(ids);
        if (rc == 0)
                t->setmap[set] = *to_r + 1;
        return rc;
}

static int map_all_locked(struct carry *t, struct kwneed *need, struct mlog_batch *b, struct err *err)
{
        for (size_t i = 0; i < t->fronts.n; i++) {
                struct mlog_message *f = (struct mlog_message *)(void *)(t->batch.body.data + t->fronts.v[i]);

                if (map_set_locked(t, need, f->kwset, b, &f->kwset, err) < 0)
                        return -1;
        }
        return 0;
}

/* ---- built aside ---- */

int carry_side_begin(struct carry *t, struct err *err)
{
        struct mailbox *m = t->to;

        mailbox_maintain_begin(m);
        if (segment_begin(m, m->manifest.next_id, false, &t->side, err) < 0) {
                mailbox_maintain_end(m);
                return -1;
        }
        m->manifest.next_id++;
        t->side->kind = MLOG_ADOPTED;
        t->side_seq = 1;
        return 0;
}

/* Keywords have to be the target's before the records are written: needed ones are made now, in a small batch. */
static int side_keywords(struct carry *t, struct err *err)
{
        struct mailbox *m = t->to;
        struct kwneed need = { .names = ARRAY_INIT };
        struct mlog_batch b;
        struct commit c = { .waiter = NULL };
        int rc;

        mlog_batch_init(&b);
        mailbox_lock(m);
        rc = map_all_locked(t, &need, &b, err);
        if (rc == 0 && b.records)
                rc = mailbox_write_locked(m, &b, index_counters(m->ix)->highestmodseq, 0, &c, err);
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&b);
        kwneed_deinit(&need);
        return rc;
}

/* What has been gathered goes into the side segment. */
int carry_side_flush(struct carry *t, struct err *err)
{
        struct segment *s = t->side;
        struct mlog_pen pen = { .segment = &s->info, .offset = s->end, .seq = t->side_seq, .time = clock_wall_s(), .epoch = t->to->epoch,
                                .prev_crc = s->seq ? (uint32_t)s->seq : s->info.crc,
                                .first_uid = (uint32_t)t->side_messages.n + 1, .flags = MLOG_RELATIVE };
        struct iovec iov[2];
        int n;

        if (t->batch.records == 0)
                return 0;
        if (!t->given && side_keywords(t, err) < 0)
                return -1;
        if (!t->given)
                new_annots_number(&t->annots, &t->batch, pen.first_uid);
        n = mlog_batch_seal(&t->batch, &pen, iov);
        if (segment_write(s, iov, n, s->end, err) < 0)
                return -1;
        for (size_t i = 0; i < t->annots.list.n; i++) {
                struct side_annot *side = ARRAY_PUSH(&t->side_annots);
                const char *front = t->batch.body.data + t->annots.list.v[i].at;

                memcpy(&side->h, front - sizeof side->h, sizeof side->h);
                side->a = xmalloc(side->h.front_len);
                memcpy(side->a, front, side->h.front_len);
        }
        t->annots.list.n = 0;
        for (size_t i = 0; i < t->fronts.n; i++) {
                struct side_message *side = ARRAY_PUSH(&t->side_messages);
                const char *front = t->batch.body.data + t->fronts.v[i];

                memcpy(&side->h, front - sizeof side->h, sizeof side->h);
                memcpy(&side->f, front, sizeof side->f);
        }
        t->side_seq = (uint32_t)pen.seq;
        s->seq = pen.prev_crc;                          /* borrowed for the chain until it is adopted */
        s->end = pen.offset;
        t->fronts.n = 0;
        mlog_batch_deinit(&t->batch);
        return 0;
}

int carry_side_list(struct carry *t, struct err *err)
{
        struct mailbox *m = t->to;
        struct segment *s = t->side;
        struct manifest_entry *e;

        /* Its name is durable with the manifest's, and before that no record adopts it. */
        if (segment_settle(m, s, true, err) < 0)
                return -1;
        s->sealed = true;
        s->seq = 0;
        segment_close_fd(s);
        e = manifest_add(&m->manifest, 0);
        *e = (struct manifest_entry){ .id = s->info.id, .valid_len = s->end, .kind = MLOG_ADOPTED, .crc = s->info.crc, .salt = s->info.salt };
        if (mailbox_guard(m, manifest_write(&m->manifest, m->dir, err), err) < 0)
                return -1;
        return 0;
}

/* The side segment did not become part of the log. Its entry in the manifest, if there is one, is dropped when it is next loaded. */
void carry_side_drop(struct carry *t)
{
        struct mailbox *m = t->to;
        int at;

        if (!t->side)
                return;
        at = manifest_find(&m->manifest, t->side->info.id);
        if (at >= 0) {
                struct err err = ERR_INIT;

                manifest_remove(&m->manifest, (uint32_t)at);
                if (mailbox_guard(m, manifest_write(&m->manifest, m->dir, &err), &err) < 0)
                        log_event(LOG_WARN, NULL, "mailbox.adopt", "uniqueid=%s reason=\"%s\"", m->uniqueid, err.text);
        }
        file_unlink_last(t->side->file);
        segment_unref(&t->side);
        mailbox_maintain_end(m);
}

int carry_apply_side(struct mailbox *m, void *ctx, uint64_t seq, struct err *err)
{
        struct carry *t = ctx;
        struct apply_base base = { .uid = t->result->first_uid, .modseq = t->result->modseq, .seq = seq, .adopted = true };
        struct segment *s = t->side;

        for (size_t i = 0; i < t->side_messages.n; i++)
                if (state_apply(m, &t->side_messages.v[i].h, &t->side_messages.v[i].f, &base, err) < 0)
                        return -1;
        for (size_t i = 0; i < t->side_annots.n; i++)
                if (state_apply(m, &t->side_annots.v[i].h, t->side_annots.v[i].a, &base, err) < 0)
                        return -1;
        s->base_uid = base.uid;
        s->base_modseq = base.modseq;
        s->seq = seq;
        m->segs = xrealloc(m->segs, (m->segs_n + 1) * sizeof *m->segs);
        memmove(m->segs + 1, m->segs, m->segs_n * sizeof *m->segs);
        m->segs[0] = segment_ref(s);
        m->segs_n++;
        return 0;
}

void carry_settle(struct carry *t)
{
        struct mailbox *m = t->to;
        struct err err = ERR_INIT;
        int at;

        if (!t->side)
                return;
        if (mailbox_sync_wait(m, &err) == 0 && (at = manifest_find(&m->manifest, t->side->info.id)) >= 0) {
                m->manifest.entries[at].base_uid = t->side->base_uid;
                m->manifest.entries[at].base_modseq = t->side->base_modseq;
                m->manifest.entries[at].seq = t->side->seq;
                if (mailbox_guard(m, manifest_write(&m->manifest, m->dir, &err), &err) < 0) {
                        /* A full disk, say. A checkpoint now would hide the ADOPT record from replay: it comes with the manifest. */
                        m->manifest_behind = true;
                        log_event(LOG_WARN, NULL, "mailbox.adopt", "uniqueid=%s reason=\"%s\"", m->uniqueid, err.text);
                }
        }
        segment_unref(&t->side);
        mailbox_maintain_end(m);
}

/* ---- building, committing ---- */

int carry_build(struct carry *t, struct err *err)
{
        struct uidset taken = UIDSET_INIT;
        struct uidset_iter it = uidset_iter(&t->uids);
        int64_t now = clock_wall_s();
        uint64_t n = 0;
        uint32_t uid;
        int rc = 0;

        if (t->staged)
                return append_build_staged(t, err);
        if (t->mask.progress)
                progress_begin(t->mask.progress, uidset_count(&t->uids));
        while (rc == 0 && uidset_next(&it, &uid)) {
                struct source_message s;

                if (t->mask.progress)
                        progress_set(t->mask.progress, n++);

                rc = locate(t->from, uid, t->restore, &s, err);
                if (rc <= 0)
                        continue;
                rc = add_one(t, &s, now, err);
                segment_unref(&s.seg);
                if (rc < 0)
                        break;
                uidset_add(&taken, uid);
                if (t->batch.body.len < BATCH_BYTES_MAX)
                        continue;
                if (!t->side)
                        rc = carry_side_begin(t, err);
                if (rc == 0)
                        rc = carry_side_flush(t, err);
        }
        if (rc == 0 && t->side) {
                rc = carry_side_flush(t, err);
                if (rc == 0)
                        rc = carry_side_list(t, err);
        }
        if (rc < 0)
                carry_side_drop(t);
        uidset_deinit(&t->uids);
        t->uids = taken;
        return rc;
}

int carry_commit(struct carry *t, struct commit *c, struct err *err)
{
        struct mailbox *m = t->to;
        struct kwneed need = { .names = ARRAY_INIT };
        uint32_t n = (uint32_t)(t->side ? t->side_messages.n : t->fronts.n);
        struct index_counters *counters;
        int rc = 0;

        mailbox_lock(m);
        counters = index_counters(m->ix);
        if (counters->uidnext > UINT32_MAX - 1 - n)
                rc = err_set(err, ERR_LIMIT, "mailbox %s has used up its UIDs", m->uniqueid);
        if (rc == 0)
                rc = annots_room_locked(m, &t->annot_growths, err);
        c->hard = true;
        c->first_uid = counters->uidnext;
        c->count = n;
        c->modseq = mailbox_next_modseq_locked(m);
        *t->result = (struct append_result){ counters->uidvalidity, c->first_uid, n, c->modseq };
        if (t->copied_r)
                uidset_copy(t->copied_r, &t->uids);
        if (t->arrival_at)
                ((struct mlog_move *)(void *)(t->batch.head.data + t->arrival_at))->first_uid = c->first_uid;
        if (rc == 0 && t->side) {
                struct mlog_adopt a = { .segment = t->side->info.id, .valid_len = t->side->end, .base_uid = c->first_uid, .n = n,
                                        .base_modseq = c->modseq };

                mlog_batch_add(&t->batch, &t->batch.body, MLOG_ADOPT, &a, sizeof a, NULL, 0, NULL, 0, 0);
                c->also = carry_apply_side;
                c->also_ctx = t;
        } else if (rc == 0 && t->staged) {
                struct mlog_message *f = (struct mlog_message *)(void *)(t->batch.body.data + t->fronts.v[0]);

                rc = append_keywords_locked(m, &need, t->staged, &t->batch, &f->kwset, err);
        } else if (rc == 0) {
                rc = map_all_locked(t, &need, &t->batch, err);
        }
        if (!t->side)
                new_annots_number(&t->annots, &t->batch, c->first_uid);
        if (rc == 0 && (t->restore || t->within))
                expunge_add_record(&t->batch, &t->uids, t->restore || expunge_unlinks(m));
        /* What takes no more room than what leaves the same quota root fits, full or not. */
        if (rc == 0)
                rc = quota_take(m, (int64_t)t->bytes, n, !t->mask.ignore_quota && !(t->in_both && (int64_t)t->bytes <= t->in_both_bytes), err);
        if (rc == 0 && t->annot_values)
                rc = quota_use(m, QUOTA_ANNOTATION, t->annot_values, !t->mask.ignore_quota && (t->staged || !t->in_both), err);
        if (rc == 0 && t->within)
                uidset_copy(&c->expunged, &t->uids);
        if (rc == 0 && t->from != m && !t->staged)
                c->copied_from = xstrdup(atomic_load(&t->from->name));
        if (rc == 0)
                rc = mailbox_write_locked(m, &t->batch, c->modseq, c->first_uid, c, err);
        if (rc == 0)
                t->held_end = m->end_mark;
        quota_report(m);
        mailbox_unlock(m);
        kwneed_deinit(&need);
        if (rc < 0)
                carry_side_drop(t);
        return rc;
}

/* ---- copy ---- */

int carry_now(struct carry *t, struct err *err)
{
        struct commit c = { .waiter = t->waiter };
        struct mailbox *to = t->to;
        int rc = carry_build(t, err);

        if (rc == 0 && uidset_empty(&t->uids)) {
                *t->result = (struct append_result){ 0, 0, 0, 0 };
                if (t->copied_r)
                        uidset_clear(t->copied_r);
                waiter_done(t->waiter, NULL);
                return 0;
        }
        if (rc == 0)
                rc = carry_commit(t, &c, err);
        mailbox_after(to);
        if (rc == 0)
                carry_settle(t);
        return rc;
}

void carry_run_reserved(struct job *job)
{
        struct carry *t = (struct carry *)job;
        struct mailbox *m = t->from;
        struct err err = ERR_INIT;

        if (carry_now(t, &err) < 0)
                waiter_done(t->waiter, &err);
        mailbox_lock(m);
        mailbox_not_moving_locked(m, &t->reserved);
        mailbox_unlock(m);
        carry_free(t);
}

static void run_copy_job(struct job *job)
{
        struct carry *t = (struct carry *)job;
        struct err err = ERR_INIT;
        uint64_t bytes;
        bool blobs;

        carry_select(t, UINT32_MAX - 1, &bytes, &blobs);
        if (carry_now(t, &err) < 0)
                waiter_done(t->waiter, &err);
        carry_free(t);
}

int mailbox_copy(struct mailbox *from, const struct uidset *uids, struct mailbox *to, const struct copy_mask *mask,
                 struct uidset *copied_r, struct append_result *result_r, struct waiter *waiter, struct err *err)
{
        struct carry *t;
        uint64_t bytes;
        uint32_t n;
        bool blobs;
        int rc;

        mailbox_lock(to);
        rc = mailbox_changeable_locked(to, err);
        mailbox_unlock(to);
        if (rc < 0)
                return -1;
        t = carry_create(from, uids, to, mask, copied_r, result_r, waiter);
        n = carry_select(t, INLINE_MESSAGES, &bytes, &blobs);
        if (blobs || n > INLINE_MESSAGES || bytes > INLINE_BYTES) {
                t->job.fn = run_copy_job;
                t->job.slow = true;
                logstore_run(from->ls, &t->job);
                return 0;
        }
        rc = carry_now(t, err);
        carry_free(t);
        return rc;
}
