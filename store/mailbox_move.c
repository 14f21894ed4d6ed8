/*
 * mailbox_move - messages go from one mailbox to another: never lost, never in both for good.
 *
 * Two logs cannot be written in one piece. In order, each synced before the next is written:
 *   1  source   MOVE_INTENT: id, target, UIDs. Nothing is shown; these messages are now on their way out, nobody else moves or expunges them
 *   2  target   MOVE_ARRIVAL with that id and the messages, one batch; its commit is held back
 *      Where everybody's \Seen goes along (copy_mask.everyones_seen, MOVE_WITH_SEEN), it is now written for the target, in seen.db
 *   3  source   EXPUNGE and MOVE_DONE, one batch; when it is on disk it is shown, and with it the target's commit. (When moves cross,
 *               the source may not show it yet – another move's arrival stands before it – and the target goes ahead: waiting for
 *               each other's being shown, instead of being on disk, would never end.)
 *   4  target   MOVE_DONE, not waited for: the arrival may be forgotten
 *
 * After a crash an intent that is still open is settled when the source is next opened, before its first view, by looking into the
 * target's log: with the arrival the move is finished (3), without it or with an arrival that was undone (MOVE_ABORTED) it is
 * dropped. The target shows an arrival as soon as it is on disk: the source cannot show the messages any more before it has settled.
 *
 * \Seen is written, unless it was, whichever of the two is opened first: the arrival has what it takes as well.
 *
 * REPLACE between two mailboxes (RFC 8508) goes the same way; what arrives is another message than the one that leaves.
 *
 * Within one mailbox none of this is needed: what arrives and what leaves is one batch.
 *
 * What fails alive: nothing arrived – the intent is closed as aborted. The target's sync failed – what is on its disk is not known, the
 * intent stays open, its messages stay reserved until the next start settles it. The source cannot be written for 3 – the arrival is
 * expunged again and marked aborted before anything was shown. The sync of 3 failed – the arrival is shown: the messages may be in both
 * until the next start, but they are not lost.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/mailbox_private.h"
#include "store/mailname.h"
#include "store/seen_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

static void fill_move(struct mlog_move *move, const uint8_t id[16], const char *other, uint32_t outcome)
{
        memset(move, 0, sizeof *move);
        memcpy(move->id, id, sizeof move->id);
        must(strlen(other) < sizeof move->other);
        memcpy(move->other, other, strlen(other));
        move->outcome = outcome;
}

static void add_done(struct mlog_batch *b, const uint8_t id[16], const char *other, uint32_t outcome)
{
        struct mlog_move move;

        fill_move(&move, id, other, outcome);
        mlog_batch_add(b, &b->body, MLOG_MOVE_DONE, &move, sizeof move, NULL, 0, NULL, 0, 0);
}

/* ---- everybody's \Seen ---- */

static const char *owner_of(const char *name, struct arena *arena)
{
        return name ? mailname_owner(name, arena) : NULL;
}

/* Those of `uids` that are \Seen by their flag. */
static int flagged_seen(struct mailbox *m, const struct uidset *uids, struct uidset *out, struct err *err) EXCLUDES(mailbox_class)
{
        struct uidset_iter it = uidset_iter(uids);
        struct index_rec rec;
        uint32_t uid;
        int rc = 0;

        mailbox_lock(m);
        while (rc >= 0 && uidset_next(&it, &uid)) {
                rc = index_find(m->ix, uid, &rec, err);
                if (rc == 1 && (rec.flags & MSG_SEEN))
                        uidset_add(out, uid);
        }
        mailbox_unlock(m);
        return rc < 0 ? -1 : 0;
}

/*
 * Whose \Seen is a flag there? Nobody's but the owners' (seen.h): the target's owner has his as a flag of what arrives, instead of the source's
 * owner, and the others get theirs from take_seen_along().
 */
static int prepare_seen(struct carry *t, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *from_owner = owner_of(atomic_load(&t->from->name), &arena), *to_owner = owner_of(atomic_load(&t->to->name), &arena);
        struct seen_state state;
        struct seen *seen;
        int rc = 0;

        t->with_seen = t->mask.everyones_seen && !((mailbox_options(t->from) | mailbox_options(t->to)) & MBOX_SHARED_SEEN);
        if (t->with_seen && (from_owner && to_owner ? strcmp(from_owner, to_owner) != 0 : from_owner != to_owner)) {
                t->mask.seen = &t->seen;
                if (to_owner && (rc = seen_open(t->from->store, t->from->uniqueid, to_owner, &seen, err)) == 0) {
                        seen_get(seen, &state);
                        uidset_copy(&t->seen, &state.uids);
                        uidset_deinit(&state.uids);
                        seen_unref(&seen);
                }
        }
        arena_deinit(&arena);
        return rc;
}

/* A mailbox at one end of a move. */
struct move_end {
        const char *uniqueid, *name;            /* name NULL: it is not known */
};

/* Before the source's messages go. Blocks. */
static int take_seen_along(struct store *store, struct move_end from, struct move_end to, const struct uidset *uids,
                           const struct uidset *own_seen, uint32_t first_uid, struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct seen_move move = { .from = from.uniqueid, .to = to.uniqueid, .from_owner = owner_of(from.name, &arena),
                                  .to_owner = owner_of(to.name, &arena), .uids = uids, .from_seen = own_seen, .first_uid = first_uid };
        int rc = uidset_empty(uids) ? 0 : seens_move(store, &move, err);

        arena_deinit(&arena);
        return rc;
}

/* ---- alive ---- */

bool mailbox_is_live_locked(struct mailbox *m, uint32_t uid)
{
        struct index_rec rec;

        return uid < m->published_uidnext && !uidset_has(&m->moving, uid) && index_find(m->ix, uid, &rec, NULL) == 1 &&
               !(rec.flags & MSG_EXPUNGED);
}

/* Of those that were asked for what is still there and nobody else moves. */
static void keep_live_locked(struct mailbox *m, struct uidset *uids) REQUIRES(m->lock, mailbox_class);
static void keep_live_locked(struct mailbox *m, struct uidset *uids)
{
        struct uidset mine = UIDSET_INIT;
        struct uidset_iter it = uidset_iter(uids);
        uint32_t uid;

        while (uidset_next(&it, &uid))
                if (mailbox_is_live_locked(m, uid))
                        uidset_add(&mine, uid);
        uidset_deinit(uids);
        *uids = mine;
}

static int write_intent(struct carry *t, struct err *err)
{
        struct mailbox *m = t->from;
        struct commit c = { .hard = true };
        struct mlog_batch b;
        struct mlog_move move;
        struct str rest = STR_INIT;
        uint64_t bytes;
        bool blobs;
        int rc;

        mlog_batch_init(&b);
        carry_select(t, UINT32_MAX - 1, &bytes, &blobs);
        mailbox_lock(m);                                /* what goes between the two is left out when it is read */
        keep_live_locked(m, &t->uids);
        rc = mailbox_writable_locked(m, err);
        if (rc == 0 && !uidset_empty(&t->uids)) {
                fill_move(&move, t->move_id, t->to->uniqueid, t->with_seen ? MOVE_WITH_SEEN : 0);
                move.n = t->uids.n;
                move.dir_len = (uint32_t)strlen(t->to->partition_dir);
                str_append(&rest, t->uids.ranges, t->uids.n * sizeof *t->uids.ranges);
                str_append(&rest, t->to->partition_dir, move.dir_len);
                mlog_batch_add(&b, &b.body, MLOG_MOVE_INTENT, &move, sizeof move, rest.data, rest.len, NULL, 0, 0);
                rc = mailbox_write_locked(m, &b, index_counters(m->ix)->highestmodseq, 0, &c, err);
                if (rc == 0)
                        uidset_add_set(&m->moving, &t->uids);
        }
        mailbox_unlock(m);
        str_deinit(&rest);
        mlog_batch_deinit(&b);
        return rc < 0 ? -1 : mailbox_sync_wait(m, err);
}

void mailbox_not_moving_locked(struct mailbox *m, const struct uidset *uids)
{
        for (uint32_t i = 0; i < uids->n; i++)
                uidset_remove_range(&m->moving, uids->ranges[i].first, uids->ranges[i].last);
}

/* Nothing arrived. Should even this not be written, the next start settles it. */
static void close_intent(struct carry *t, const struct uidset *reserved) EXCLUDES(mailbox_class)
{
        struct mailbox *m = t->from;
        struct commit c = { .waiter = NULL };
        struct mlog_batch b;
        struct err err = ERR_INIT;

        mlog_batch_init(&b);
        add_done(&b, t->move_id, t->to->uniqueid, MOVE_ABORTED);
        mailbox_lock(m);
        if (mailbox_write_locked(m, &b, index_counters(m->ix)->highestmodseq, 0, &c, &err) == 0)
                mailbox_not_moving_locked(m, reserved);
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&b);
}

/* Take the arrival back: expunged and marked in one batch, synced, then shown together with it, which is: never. */
static void undo_arrival(struct carry *t, const struct err *why) EXCLUDES(mailbox_class)
{
        struct mailbox *m = t->to;
        struct commit c = { .hard = true };
        struct mlog_batch b;
        struct err err = ERR_INIT;
        int rc;

        mlog_batch_init(&b);
        uidset_init(&c.expunged);
        uidset_add_range(&c.expunged, t->result->first_uid, t->result->first_uid + t->result->count - 1);
        expunge_add_record(&b, &c.expunged, true);
        add_done(&b, t->move_id, t->from->uniqueid, MOVE_ABORTED);
        mailbox_lock(m);
        c.modseq = mailbox_next_modseq_locked(m);
        rc = mailbox_write_locked(m, &b, c.modseq, 0, &c, &err);
        mailbox_unlock(m);
        if (rc == 0)
                rc = mailbox_sync_wait(m, &err);
        if (rc < 0)
                log_event(LOG_ERROR, NULL, "mailbox.move", "from=%s to=%s reason=\"%s\" undo=\"%s\"", t->from->uniqueid, m->uniqueid,
                          why->text, err.text);
        mailbox_release_held(m, t->held_end, why);
        mlog_batch_deinit(&b);
}

/* Step 4, and the end. From the thread that synced the source's expunge; err: that failed. */
static void source_durable(void *ctx, const struct err *err)
{
        struct carry *t = ctx;
        struct mailbox *m = t->to;
        struct commit c = { .waiter = NULL };
        struct mlog_batch b;
        struct err ignored = ERR_INIT;

        mailbox_release_held(m, t->held_end, err);
        if (!err) {
                mlog_batch_init(&b);
                add_done(&b, t->move_id, t->from->uniqueid, MOVE_MOVED);
                mailbox_lock(m);
                (void)mailbox_write_locked(m, &b, index_counters(m->ix)->highestmodseq, 0, &c, &ignored);
                mailbox_unlock(m);
                mlog_batch_deinit(&b);
                mailbox_after(m);
        }
        carry_free(t);
}

static int write_expunge(struct carry *t, struct err *err) EXCLUDES(mailbox_class)
{
        struct mailbox *m = t->from;
        struct commit c = { .hard = true, .fn = source_durable, .ctx = t };
        struct mlog_batch b;
        int rc;

        mlog_batch_init(&b);
        uidset_init(&c.expunged);
        uidset_copy(&c.expunged, &t->uids);
        expunge_add_record(&b, &t->uids, expunge_unlinks(m));
        add_done(&b, t->move_id, t->to->uniqueid, MOVE_MOVED);
        mailbox_lock(m);
        c.modseq = mailbox_next_modseq_locked(m);
        rc = mailbox_write_locked(m, &b, c.modseq, 0, &c, err);
        if (rc == 0) {
                mailbox_not_moving_locked(m, &t->uids);
                carry_counts_once(t);                   /* t may be gone when the lock is */
        }
        mailbox_unlock(m);
        mlog_batch_deinit(&b);
        return rc;
}

/* Octets of these messages, of the live ones. */
static int64_t size_of(struct mailbox *m, const struct uidset *uids) EXCLUDES(mailbox_class)
{
        struct uidset_iter it = uidset_iter(uids);
        struct index_rec rec;
        int64_t octets = 0;
        uint32_t uid;

        mailbox_lock(m);
        while (uidset_next(&it, &uid))
                if (index_find(m->ix, uid, &rec, NULL) == 1 && !(rec.flags & MSG_EXPUNGED))
                        octets += (int64_t)rec.size;
        mailbox_unlock(m);
        return octets;
}

static int lay_down_arrival(struct carry *t, struct err *err)
{
        struct mlog_move arrival;
        struct str rest = STR_INIT;

        if (t->with_seen && flagged_seen(t->from, &t->uids, &t->own_seen, err) < 0)
                return -1;
        fill_move(&arrival, t->move_id, t->from->uniqueid, t->with_seen ? MOVE_WITH_SEEN : 0);
        if (t->with_seen && (uint64_t)t->uids.n + t->own_seen.n < MLOG_FRONT_MAX / 2 / sizeof(struct uidrange)) {
                arrival.n = t->uids.n;
                arrival.dir_len = (uint32_t)(t->own_seen.n * sizeof(struct uidrange));
                str_append(&rest, t->uids.ranges, arrival.n * sizeof(struct uidrange));
                if (arrival.dir_len)
                        str_append(&rest, t->own_seen.ranges, arrival.dir_len);
        }
        t->arrival_at = t->batch.head.len + sizeof(struct mlog_header);
        mlog_batch_add(&t->batch, &t->batch.head, MLOG_MOVE_ARRIVAL, &arrival, sizeof arrival, rest.data, rest.len, NULL, 0, 0);
        str_deinit(&rest);
        return 0;
}

/* 0: the waiter's commit is on its way, and t with it. -1: the waiter has to be told; the move did not happen. */
static int move_now(struct carry *t, struct uidset *reserved, struct err *err)
{
        struct commit c = { .waiter = t->waiter, .held = true };
        struct mailbox *from = t->from;

        if (prepare_seen(t, err) < 0 || write_intent(t, err) < 0)
                return -1;
        uidset_copy(reserved, &t->uids);
        if (uidset_empty(&t->uids)) {
                *t->result = (struct append_result){ 0, 0, 0, 0 };
                if (t->copied_r)
                        uidset_clear(t->copied_r);
                waiter_done(t->waiter, NULL);
                carry_free(t);
                return 0;
        }
        if (carry_build(t, err) < 0) {
                close_intent(t, reserved);
                return -1;
        }
        t->in_both_n = (int64_t)uidset_count(&t->uids);
        t->in_both_bytes = t->staged ? size_of(t->from, &t->uids) : (int64_t)t->bytes;
        t->in_both = quota_moving(t->from, t->to, t->in_both_bytes, t->in_both_n);
        if (lay_down_arrival(t, err) < 0 || carry_commit(t, &c, err) < 0) {
                close_intent(t, reserved);
                return -1;
        }
        if (mailbox_sync_wait(t->to, err) < 0) {
                /* The held commit failed with the mailbox: its waiter is completed by whoever publishes next. */
                carry_settle(t);
                mailbox_after(t->to);
                carry_free(t);
                return 0;
        }
        carry_settle(t);
        mailbox_ref(from);                              /* t may be gone the moment the expunge is written */
        if ((t->with_seen && take_seen_along(from->store, (struct move_end){ from->uniqueid, atomic_load(&from->name) },
                                             (struct move_end){ t->to->uniqueid, atomic_load(&t->to->name) }, &t->uids, &t->own_seen,
                                             t->result->first_uid, err) < 0) || write_expunge(t, err) < 0) {
                mailbox_unref(&from);
                undo_arrival(t, err);                   /* completes the waiter */
                close_intent(t, reserved);
                carry_free(t);
                return 0;
        }
        mailbox_after(from);
        mailbox_unref(&from);
        return 0;
}

static void run_move_job(struct job *job)
{
        struct carry *t = (struct carry *)job;
        struct waiter *waiter = t->waiter;
        struct uidset reserved = UIDSET_INIT;
        struct err err = ERR_INIT;

        if (move_now(t, &reserved, &err) < 0) {
                mailbox_after(t->from);
                mailbox_after(t->to);
                carry_free(t);
                waiter_done(waiter, &err);
        }
        uidset_deinit(&reserved);
}

/* Within one mailbox: one batch, and nobody else moves or expunges the messages until it is written. */
static void run_within_job(struct job *job)
{
        struct carry *t = (struct carry *)job;
        struct mailbox *m = t->from;
        uint64_t bytes;
        bool blobs;

        carry_select(t, UINT32_MAX - 1, &bytes, &blobs);
        mailbox_lock(m);
        keep_live_locked(m, &t->uids);
        uidset_copy(&t->reserved, &t->uids);
        uidset_add_set(&m->moving, &t->uids);
        mailbox_unlock(m);
        carry_run_reserved(job);
}

/* `staged`: this arrives instead of the messages themselves. */
static int start_move(struct mailbox *from, const struct uidset *uids, struct mailbox *to, const struct copy_mask *mask,
                      const struct append_item *staged, struct uidset *copied_r, struct append_result *result_r, struct waiter *waiter,
                      struct err *err) EXCLUDES(mailbox_class)
{
        struct carry *t;
        int rc;

        mailbox_lock(from);
        rc = mailbox_changeable_locked(from, err);
        mailbox_unlock(from);
        if (rc == 0 && to != from) {
                mailbox_lock(to);
                rc = mailbox_writable_locked(to, err);
                mailbox_unlock(to);
        }
        if (rc < 0)
                return -1;
        t = carry_create(from, uids, to, mask, copied_r, result_r, waiter);
        if (staged) {
                t->staged = xcalloc(1, sizeof *t->staged);
                append_item_copy(t->staged, staged);
                t->mask.ignore_quota = staged->ignore_quota;
        }
        random_bytes(t->move_id, sizeof t->move_id);
        t->within = from == to;
        t->mask.ignore_quota |= t->within;
        t->job.fn = t->within ? run_within_job : run_move_job;
        t->job.slow = !staged;
        logstore_run(from->ls, &t->job);
        return 0;
}

int mailbox_move(struct mailbox *from, const struct uidset *uids, struct mailbox *to, const struct copy_mask *mask,
                 struct uidset *copied_r, struct append_result *result_r, struct waiter *waiter, struct err *err)
{
        return start_move(from, uids, to, mask, NULL, copied_r, result_r, waiter, err);
}

int mailbox_move_replaced(struct mailbox *from, uint32_t uid, struct mailbox *to, const struct append_item *item,
                          struct append_result *result_r, struct waiter *waiter, struct err *err)
{
        struct uidset uids = UIDSET_INIT;
        int rc;

        uidset_add(&uids, uid);
        rc = start_move(from, &uids, to, NULL, item, NULL, result_r, waiter, err);
        uidset_deinit(&uids);
        return rc;
}

/* ---- after a crash ---- */

enum peeked { PEEK_ABSENT, PEEK_ARRIVED, PEEK_ABORTED, PEEK_UNREADABLE };

static enum peeked arrival_state(struct mailbox *m, const uint8_t id[16], uint32_t *first_uid_r)
{
        const struct move_note *note = state_find_move(m, id, false);

        *first_uid_r = note ? note->move.first_uid : 0;
        return !note ? PEEK_ABSENT : note->move.outcome == MOVE_ABORTED ? PEEK_ABORTED : PEEK_ARRIVED;
}

/* What was read may be in the page cache only: on disk before anything is built on it. What comes behind the log's end was prepared, and has nothing. */
static int sync_files(struct mailbox *m, struct err *err)
{
        for (uint32_t i = 0; i < m->segs_n; i++) {
                const struct segment *s = m->segs[i];

                if (!s->sealed && s->kind == MLOG_MAIN && s->info.id <= m->active->info.id && mailbox_sync_file(m, file_path(s->file), err) < 0)
                        return -1;
        }
        return 0;
}

struct partition_search {
        const char *uniqueid;
        char *found;                            /* directory of the partition that has the mailbox */
};

static void try_partition(void *ctx, const char *name, const char *dir, bool readonly, const char *why)
{
        struct partition_search *search = ctx;
        struct str path = STR_INIT;

        (void)name;
        (void)readonly;
        (void)why;
        mailbox_dir(&path, dir, search->uniqueid);
        if (!search->found && fs_exists(path.data))
                search->found = xstrdup(dir);
        str_deinit(&path);
}

/*
 * The target's files, read without opening it: its own opening may be going on in another thread, so it is read again until its manifest
 * stayed the same meanwhile. Where it is now the list of mailboxes says; should it not know, it is looked for in all partitions: they, and
 * the mailbox, may have been moved since the intent was written. A target that is nowhere was deleted. One that is damaged leaves the
 * messages where they are for now: whether it has them is known when it was reconstructed, and the next opening settles it. So does one that is
 * not whole (store_mailbox_is_whole()).
 */
static int peek_files(struct mailbox *m, const struct move_note *note, enum peeked *state_r, uint32_t *first_uid_r, struct err *err)
{
        struct partition_search search = { .uniqueid = note->move.other };
        struct mailbox_ident ident = { .uniqueid = note->move.other, .name = note->move.other };
        const char *now;
        bool whole;
        int rc = 0;

        *state_r = PEEK_ABSENT;
        logstore_look_begin(store_logstore(m->store));
        now = store_mailbox_partition_dir(m->store, note->move.other);
        if (now)
                try_partition(&search, NULL, now, false, NULL);
        if (!search.found)
                store_each_partition(m->store, try_partition, &search);
        ident.partition_dir = search.found;
        whole = !search.found || (rc = store_mailbox_is_whole(m->store, search.found, note->move.other, err)) == 0;
        for (int attempt = 0; search.found && whole && attempt < 5; attempt++) {
                struct mailbox *other = mailbox_alloc(m->store, NULL, &ident);
                struct manifest again;
                bool same = false;

                err_clear(err);
                rc = mailbox_load(other, &ident, LOAD_READONLY, NULL, err);
                if (rc == 0 && manifest_read(&again, other->dir, other->uniqueid, err) == 0) {
                        same = again.generation == other->manifest.generation;
                        manifest_deinit(&again);
                }
                if (same) {
                        *state_r = arrival_state(other, note->move.id, first_uid_r);
                        if (*state_r == PEEK_ARRIVED && !m->readonly_store)
                                rc = sync_files(other, err);
                }
                mailbox_free(&other);
                if (rc == 0 && same)
                        break;
                if (rc == 0)
                        rc = err_set(err, ERR_BUSY, "mailbox %s does not hold still", note->move.other);
        }
        logstore_look_end(store_logstore(m->store));
        free(search.found);
        if (rc < 0 && (!whole || err->code == ERR_CORRUPT || err->code == ERR_NOTFOUND)) {
                log_event(LOG_ERROR, NULL, "mailbox.settle", "uniqueid=%s target=%s reason=\"%s\"", m->uniqueid, note->move.other, err->text);
                *state_r = err->code == ERR_NOTFOUND ? PEEK_ABSENT : PEEK_UNREADABLE;
                err_clear(err);
                rc = 0;
        }
        return rc;
}

static int peek(struct mailbox *m, const struct move_note *note, enum peeked *state_r, uint32_t *first_uid_r, struct err *err)
{
        struct mailbox *other = mailbox_find_open(m->store, note->move.other);

        if (!other)
                return peek_files(m, note, state_r, first_uid_r, err);
        mailbox_lock(other);
        *state_r = arrival_state(other, note->move.id, first_uid_r);
        mailbox_unlock(other);
        mailbox_unref(&other);
        return 0;
}

static int settle(struct mailbox *m, const struct move_note *note, enum peeked state, struct err *err) EXCLUDES(mailbox_class)
{
        struct commit c = { .hard = true };
        struct mlog_batch b;
        uint8_t id[16];
        int rc;

        log_event(LOG_NOTE, NULL, "mailbox.settle", "uniqueid=%s target=%s messages=%llu moved=%d", m->uniqueid, note->move.other,
                  (unsigned long long)uidset_count(&note->uids), state == PEEK_ARRIVED);
        mlog_batch_init(&b);
        memcpy(id, note->move.id, sizeof id);           /* the note goes when its record is applied */
        if (state == PEEK_ARRIVED)
                expunge_add_record(&b, &note->uids, expunge_unlinks(m));
        add_done(&b, id, note->move.other, state == PEEK_ARRIVED ? MOVE_MOVED : MOVE_ABORTED);
        mailbox_lock(m);
        c.modseq = mailbox_next_modseq_locked(m);
        rc = mailbox_write_locked(m, &b, c.modseq, 0, &c, err);
        mailbox_unlock(m);
        mlog_batch_deinit(&b);
        return rc;
}

static bool seen_taken(struct mailbox *m, const struct move_note *note, int rc, const struct err *err)
{
        if (rc < 0)
                log_event(LOG_ERROR, NULL, "mailbox.settle", "uniqueid=%s other=%s reason=\"%s\"", m->uniqueid, note->move.other, err->text);
        return rc == 0;
}

/* Of an intent that is about to be carried out. What cannot be written now is left for the next opening, with the messages. */
static bool settle_seen(struct mailbox *m, const struct move_note *note, uint32_t first_uid) EXCLUDES(mailbox_class)
{
        struct uidset own_seen = UIDSET_INIT;
        struct err err = ERR_INIT;
        char *to;
        int rc;

        if (note->move.outcome != MOVE_WITH_SEEN || first_uid == 0)
                return true;
        to = store_mailbox_name(m->store, note->move.other);
        rc = flagged_seen(m, &note->uids, &own_seen, &err);
        if (rc == 0)
                rc = take_seen_along(m->store, (struct move_end){ m->uniqueid, atomic_load(&m->name) },
                                     (struct move_end){ note->move.other, to }, &note->uids, &own_seen, first_uid, &err);
        uidset_deinit(&own_seen);
        free(to);
        return seen_taken(m, note, rc, &err);
}

/* Of an arrival, which may be shown before the source is opened and settles it. */
static int settle_arrival(struct mailbox *m, const struct move_note *note, bool *wrote_r, struct err *err) EXCLUDES(mailbox_class)
{
        struct commit c = { .waiter = NULL };
        struct err why = ERR_INIT;
        struct mlog_batch b;
        uint8_t id[16];
        char other[MLOG_UNIQUEID_MAX], *from = store_mailbox_name(m->store, note->move.other);
        int rc = take_seen_along(m->store, (struct move_end){ note->move.other, from },
                                 (struct move_end){ m->uniqueid, atomic_load(&m->name) }, &note->uids, &note->own_seen, note->move.first_uid, &why);

        free(from);
        if (!seen_taken(m, note, rc, &why))
                return 0;
        memcpy(id, note->move.id, sizeof id);
        memcpy(other, note->move.other, sizeof other);
        mlog_batch_init(&b);
        add_done(&b, id, other, MOVE_WITH_SEEN);
        mailbox_lock(m);
        rc = mailbox_write_locked(m, &b, index_counters(m->ix)->highestmodseq, 0, &c, err);
        mailbox_unlock(m);
        mlog_batch_deinit(&b);
        *wrote_r |= rc == 0;
        return rc;
}

int mailbox_settle_moves(struct mailbox *m, struct err *err)
{
        uint32_t first_uid = 0;
        bool wrote = false;

        for (size_t i = 0; i < m->moves.n;) {
                enum peeked state = PEEK_ABSENT;
                int rc;

                if (!m->moves.v[i]->intent && m->moves.v[i]->move.outcome != MOVE_WITH_SEEN) {
                        i++;
                        continue;
                }
                if (m->failed || m->readonly_store || store_partition_failed(m->store, m->partition_dir))
                        return 0;                       /* not now: nothing of it can be changed anyway */
                if (!m->moves.v[i]->intent) {
                        if (settle_arrival(m, m->moves.v[i++], &wrote, err) < 0) {
                                mailbox_sync(m);
                                return -1;
                        }
                        continue;
                }
                rc = peek(m, m->moves.v[i], &state, &first_uid, err);
                if (rc == 0 && state == PEEK_ARRIVED && !settle_seen(m, m->moves.v[i], first_uid))
                        state = PEEK_UNREADABLE;
                if (rc < 0 ||
                    (state != PEEK_UNREADABLE && settle(m, m->moves.v[i], state, err) < 0)) {
                        mailbox_sync(m);                /* the commits of those settled before end here: the caller frees the mailbox */
                        return -1;
                }
                if (state == PEEK_UNREADABLE) {
                        m->moves_left = true;
                        i++;
                        continue;
                }
                wrote = true;
                i = 0;                                  /* the list has changed */
        }
        return wrote ? mailbox_sync_wait(m, err) : 0;
}
