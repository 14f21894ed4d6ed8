/*
 * replica_write - what replication writes to a mailbox: one batch of its log, in which every number is given.
 *
 * New messages are laid down without the lock, as their octets come; many are written into a segment built aside (mailbox_copy.c), with UIDs and
 * modseqs that are relative to 1 and 0, that is, to nothing. Then, with the lock, follow states of messages that are there (MLOG_DETAILS),
 * annotations, the record that adopts the segment, and last the mailbox's numbers (MLOG_VALUES), which may be lower than what the records before
 * brought about. A crash before the batch is on disk leaves what was before, and a segment that nobody adopted (dropped at the next opening).
 */
#include <stdlib.h>
#include <string.h>

#include "store/annot_user.h"
#include "store/replica_private.h"
#include "util/clock.h"
#include "util/must.h"

#define DETAILS_TOGETHER 4096                   /* in one record */

void replica_batch_begin(struct replica_batch *b, struct mailbox *m)
{
        static const struct uidset none = UIDSET_INIT;

        memset(b, 0, sizeof *b);
        b->m = m;
        b->relative = (struct append_result){ 0, 1, 0, 0 };
        b->carry = carry_create(m, &none, m, NULL, NULL, &b->relative, NULL);
        b->carry->given = true;
        uidset_init(&b->expunged);
}

void replica_batch_end(struct replica_batch *b, bool written)
{
        if (written)
                carry_settle(b->carry);
        else
                carry_side_drop(b->carry);
        carry_free(b->carry);
        b->carry = NULL;
        kwneed_deinit(&b->need);
        annot_growths_deinit(&b->annots.growths);
        uidset_deinit(&b->expunged);
        ARRAY_FREE(&b->laid);
        ARRAY_FREE(&b->live);
        ARRAY_FREE(&b->details);
        arena_deinit(&b->arena);
}

enum replica_code replica_code_of(const struct err *err)
{
        switch (err->code) {
        case ERR_NOTFOUND:
                return REPLICA_NONEXISTENT;
        case ERR_BUSY:
                return REPLICA_LOCKED;
        case ERR_BADNAME:
        case ERR_SYNTAX:
                return REPLICA_BAD;
        default:
                return REPLICA_FAILED;
        }
}

enum replica_code replica_code_within(const struct err *err)
{
        return err->code == ERR_NOTFOUND ? REPLICA_FAILED : replica_code_of(err);
}

/* ---- annotations ---- */

int replica_make_users(struct store *store, const struct annot *list, uint32_t n, struct err *err)
{
        for (uint32_t i = 0; i < n; i++) {
                const char *user = list[i].user;

                if (!*user)
                        continue;
                if (strlen(user) > MLOG_ANNOT_USER_MAX)
                        return err_set(err, ERR_BADNAME, "the id of a user has at most %d octets", MLOG_ANNOT_USER_MAX);
                for (const char *p = user; *p; p++)
                        if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '/')
                                return err_set(err, ERR_BADNAME, "impossible id of a user");
                if (annot_user_make(store, user, err) < 0)
                        return -1;
        }
        return 0;
}

static int by_name(const void *a, const void *b)
{
        return annot_compare(a, b);
}

int replica_key_annots(struct mailbox *m, const struct annot *list, uint32_t n, struct arena *arena, struct annot **keyed_r, uint32_t *n_r,
                       struct err *err)
{
        *keyed_r = NULL;
        *n_r = 0;
        if (n == 0)
                return 0;
        if (annots_resolve(m, list, n, arena, keyed_r, n_r, err) < 0)
                return -1;
        if (*n_r > 1)
                qsort(*keyed_r, *n_r, sizeof **keyed_r, by_name);
        return 0;
}

/* ---- keywords ---- */

static int need_set(struct mailbox *m, struct kwneed *need, const struct replica_record *rec, struct mlog_batch *b, uint32_t *set_r,
                    struct err *err)
{
        uint16_t few[32], *ids = rec->keywords_n <= ARRAY_LEN(few) ? few : xmalloc(rec->keywords_n * sizeof *ids);
        int rc = 0;

        for (uint32_t i = 0; i < rec->keywords_n && rc == 0; i++)
                rc = kw_need_name(m, need, span_of(rec->keywords[i]), b, &ids[i], err);
        if (rc == 0)
                rc = kw_need_set(m, need, ids, rec->keywords_n, b, set_r, err);
        if (ids != few)
                free(ids);
        return rc;
}

static int resolve_locked(struct replica_batch *b, struct mailbox *m, struct kwneed *need, struct mlog_batch *batch, struct err *err)
        REQUIRES(m->lock, mailbox_class);
static int resolve_locked(struct replica_batch *b, struct mailbox *m, struct kwneed *need, struct mlog_batch *batch, struct err *err)
{
        for (size_t i = 0; i < b->laid.n; i++) {
                struct mlog_message *f = (struct mlog_message *)(void *)(b->carry->batch.body.data + b->laid.v[i].at);

                if (need_set(m, need, b->laid.v[i].rec, batch, &f->kwset, err) < 0)
                        return -1;
        }
        return 0;
}

/* Before records go into the segment built aside their keywords are made, in a small batch: a keyword that no message has does no harm. */
static int resolve_now(struct replica_batch *b, struct err *err) EXCLUDES(mailbox_class)
{
        struct mailbox *m = b->m;
        struct kwneed need = { .names = ARRAY_INIT };
        struct commit c = { .waiter = NULL };
        struct mlog_batch batch;
        int rc;

        mlog_batch_init(&batch);
        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        if (rc == 0)
                rc = resolve_locked(b, m, &need, &batch, err);
        if (rc == 0 && batch.records)
                rc = mailbox_write_locked(m, &batch, index_counters(m->ix)->highestmodseq, 0, &c, err);
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&batch);
        kwneed_deinit(&need);
        return rc;
}

/* ---- new messages ---- */

static int flush_aside(struct replica_batch *b, struct err *err) EXCLUDES(mailbox_class)
{
        if (!b->carry->side && carry_side_begin(b->carry, err) < 0)
                return -1;
        if (resolve_now(b, err) < 0 || carry_side_flush(b->carry, err) < 0)
                return -1;
        b->laid.n = 0;
        return 0;
}

static int place_blob(struct replica_batch *b, struct stage *stage, uint32_t *number_r, struct err *err) EXCLUDES(mailbox_class)
{
        struct stage_content c;
        struct blob_pin *pin;

        *number_r = 0;
        stage_content(stage, &c);
        if (!c.path)
                return 0;
        if (stage_sync(stage, err) < 0 || blob_place(b->m, c.path, c.guid, c.size, number_r, err) < 0)
                return -1;
        pin = ARRAY_PUSH(&b->carry->pins);
        memcpy(pin->guid, c.guid, sizeof pin->guid);
        pin->number = *number_r;
        return 0;
}

int replica_lay_down(struct replica_batch *b, const struct replica_record *rec, struct stage *stage, struct err *err)
{
        struct carry *t = b->carry;
        struct annot *keyed;
        uint32_t n, number = 0;
        size_t at;

        must(rec->uid > b->last_uid);
        if (replica_key_annots(b->m, rec->annots, rec->annots_n, &b->arena, &keyed, &n, err) < 0 || annots_check_new(keyed, n, err) < 0)
                return -1;
        if (stage && place_blob(b, stage, &number, err) < 0)
                return -1;
        if (append_lay_down_given(&t->batch, rec, keyed, n, stage, number, &at, &t->annots, err) < 0)
                return -1;
        *ARRAY_PUSH(&t->fronts) = at;
        *ARRAY_PUSH(&b->laid) = (struct laid){ at, rec };
        b->last_uid = rec->uid;
        if (stage && !(rec->flags & MSG_EXPUNGED)) {
                *ARRAY_PUSH(&b->live) = rec->uid;
                b->octets += rec->size;
                b->messages++;
        }
        for (uint32_t i = 0; i < n; i++) {
                annot_grows(&b->annots.growths, keyed[i].user, (int64_t)annot_bytes(&keyed[i]));
                t->annot_values += (int64_t)keyed[i].value.len;
        }
        arena_reset(&b->arena);
        return mlog_batch_bytes(&t->batch) >= BATCH_BYTES_MAX ? flush_aside(b, err) : 0;
}

int replica_laid_down(struct replica_batch *b, struct err *err)
{
        if (!b->carry->side)
                return 0;
        return flush_aside(b, err) < 0 ? -1 : carry_side_list(b->carry, err);
}

/* ---- what is there ---- */

static bool same_details(const struct index_rec *was, const struct mlog_details_entry *e)
{
        const uint32_t mask = MSG_SYSTEM_FLAGS | MSG_EXPUNGED | MSG_UNLINKED | MSG_OWN_THRID;

        return (was->flags & mask) == e->flags && was->kwset == e->kwset && was->modseq == e->modseq && was->createdmodseq == e->createdmodseq &&
               was->thrid == e->thrid && was->last_updated == e->last_updated && was->internaldate == e->internaldate &&
               was->savedate == e->savedate;
}

static void put_details(struct replica_batch *b)
{
        struct mlog_flags f = { .n = (uint32_t)b->details.n };

        if (f.n)
                mlog_batch_add(&b->carry->batch, &b->carry->batch.body, MLOG_DETAILS, &f, sizeof f, b->details.v,
                               b->details.n * sizeof *b->details.v, NULL, 0, 0);
        b->details.n = 0;
}

int replica_add_details_locked(struct replica_batch *b, struct mailbox *m, const struct index_rec *was, const struct replica_record *rec, struct err *err)
{
        struct mlog_details_entry e = { .uid = was->uid, .modseq = rec->modseq, .createdmodseq = rec->createdmodseq,
                .thrid = rec->thrid ? rec->thrid : was->thrid, .last_updated = rec->last_updated, .internaldate = rec->internaldate,
                .savedate = rec->savedate };
        struct annot *keyed;
        uint32_t n, written = 0;

        e.flags = (rec->flags & (MSG_SYSTEM_FLAGS | MSG_EXPUNGED)) | (was->flags & MSG_UNLINKED) | (rec->thrid ? 0u : MSG_OWN_THRID);
        if ((e.flags & MSG_EXPUNGED) && !(was->flags & MSG_EXPUNGED)) {
                uidset_add(&b->expunged, was->uid);
                if (expunge_unlinks(m))
                        e.flags |= MSG_UNLINKED;
        }
        if (need_set(m, &b->need, rec, &b->carry->batch, &e.kwset, err) < 0)
                return -1;
        if (!same_details(was, &e)) {
                *ARRAY_PUSH(&b->details) = e;
                if (b->details.n == DETAILS_TOGETHER)
                        put_details(b);
        }
        if (!rec->annots_n && !m->annots.rows)
                return 0;
        if (replica_key_annots(m, rec->annots, rec->annots_n, &b->arena, &keyed, &n, err) < 0 ||
            annots_replace_locked(m, was->uid, keyed, n, rec->modseq, &b->annots, &b->carry->batch, &written, err) < 0)
                return -1;
        arena_reset(&b->arena);
        return 0;
}

void replica_expunge_details_locked(struct replica_batch *b, struct mailbox *m, const struct index_rec *was)
{
        const uint32_t mask = MSG_SYSTEM_FLAGS | MSG_UNLINKED | MSG_OWN_THRID;

        *ARRAY_PUSH(&b->details) = (struct mlog_details_entry){ .uid = was->uid, .flags = (was->flags & mask) | MSG_EXPUNGED |
                (expunge_unlinks(m) ? MSG_UNLINKED : 0u), .kwset = was->kwset, .modseq = was->modseq, .createdmodseq = was->createdmodseq,
                .thrid = was->thrid, .last_updated = was->last_updated, .internaldate = was->internaldate, .savedate = was->savedate };
        uidset_add(&b->expunged, was->uid);
        if (b->details.n == DETAILS_TOGETHER)
                put_details(b);
}

int replica_add_annots_locked(struct replica_batch *b, struct mailbox *m, const struct annot *list, uint32_t n, uint64_t modseq, struct err *err)
{
        struct annot *keyed;
        uint32_t written;
        int rc;

        if (replica_key_annots(m, list, n, &b->arena, &keyed, &n, err) < 0)
                return -1;
        rc = annots_replace_locked(m, 0, keyed, n, modseq, &b->annots, &b->carry->batch, &written, err);
        arena_reset(&b->arena);
        return rc;
}

/* ---- writing ---- */

/* What the segment built aside brings, and behind it the numbers once more, as a replay of the log has it. */
static int apply_aside(struct mailbox *m, void *ctx, uint64_t seq, struct err *err)
{
        struct replica_batch *b = ctx;

        if (b->carry->side && carry_apply_side(m, b->carry, seq, err) < 0)
                return -1;
        b->values_header.seq = seq;
        return state_apply(m, &b->values_header, &b->values, NULL, err);
}

static void add_adoption(struct replica_batch *b)
{
        struct mlog_adopt a = { .segment = b->carry->side->info.id, .valid_len = b->carry->side->end, .base_uid = b->relative.first_uid, .n = 1 };

        mlog_batch_add(&b->carry->batch, &b->carry->batch.body, MLOG_ADOPT, &a, sizeof a, NULL, 0, NULL, 0, 0);
}

static bool same_values(struct mailbox *m, const struct mlog_values *v)
{
        struct mlog_counters now;

        state_counters(m, &now);
        return memcmp(&now, &v->counters, sizeof now) == 0 && state_is_quiet(m) == (v->how == MLOG_QUIET) && !m->options_dirty;
}

/* Numbers went down: what is remembered of changes by their modseqs is of no use any more. */
static void forget_changes_locked(struct mailbox *m) REQUIRES(m->lock, mailbox_class);
static void forget_changes_locked(struct mailbox *m)
{
        m->private_changes.n = 0;
        m->flags_before.n = 0;
        if (m->durable_modseq > index_counters(m->ix)->highestmodseq)
                m->durable_modseq = index_counters(m->ix)->highestmodseq;
}

static int write_locked(struct replica_batch *b, struct mailbox *m, struct waiter *waiter, struct err *err) REQUIRES(m->lock, mailbox_class);
static int write_locked(struct replica_batch *b, struct mailbox *m, struct waiter *waiter, struct err *err)
{
        struct mlog_batch *batch = &b->carry->batch;
        uint64_t before = index_counters(m->ix)->highestmodseq, modseq = b->values.counters.highestmodseq;
        struct commit c = { .hard = true, .waiter = waiter, .modseq = modseq, .sets_modseq = true, .uidnext = b->values.counters.uidnext,
                            .count = (uint32_t)b->live.n, .about = b->details.n ? COMMIT_OF_FLAGS : COMMIT_OF_MAILBOX };

        put_details(b);
        if (b->carry->side)
                add_adoption(b);
        if (!batch->records && same_values(m, &b->values)) {
                struct commit nothing = { .waiter = waiter };

                commit_queue_locked(m, &nothing);
                return 0;
        }
        b->values_header = (struct mlog_header){ .type = MLOG_VALUES, .modseq = modseq };
        mlog_batch_add(batch, &batch->body, MLOG_VALUES, &b->values, sizeof b->values, NULL, 0, NULL, 0, 0);
        if (annots_room_locked(m, &b->annots.growths, err) < 0 || quota_take(m, (int64_t)b->octets, (int64_t)b->messages, false, err) < 0 ||
            (b->carry->annot_values && quota_use(m, QUOTA_ANNOTATION, b->carry->annot_values, false, err) < 0))
                return -1;
        c.also = apply_aside;
        c.also_ctx = b;
        uidset_init(&c.expunged);
        uidset_copy(&c.expunged, &b->expunged);
        if (b->live.n) {
                c.uids = xmalloc(b->live.n * sizeof *c.uids);
                memcpy(c.uids, b->live.v, b->live.n * sizeof *c.uids);
        }
        if (mailbox_write_locked(m, batch, modseq, 0, &c, err) < 0)
                return -1;
        if (modseq < before)
                forget_changes_locked(m);
        return 0;
}

int replica_write_locked(struct replica_batch *b, struct mailbox *m, bool quiet, struct waiter *waiter, struct err *err)
{
        uint32_t last = index_last_uid(m->ix);
        int rc = 0;

        if (b->last_uid > last)
                last = b->last_uid;
        if (b->values.counters.uidnext <= last)
                b->values.counters.uidnext = last + 1;
        b->values.how = quiet ? MLOG_QUIET : 0;
        if (!b->carry->side)
                rc = resolve_locked(b, m, &b->need, &b->carry->batch, err);
        if (rc == 0)
                rc = write_locked(b, m, waiter, err);
        quota_report(m);
        return rc;
}
