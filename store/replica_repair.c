/*
 * replica_repair - what the master does to its own mailbox after a conflict (csync 11), as one batch: see replica.h.
 *
 * The plan gives every message that is concerned with its modseq of then. New messages get their UIDs when it is made ready; if others have taken
 * them, or changed a message, by the time of the write, it is all for nothing: REPLICA_CHANGED.
 */
#include <stdlib.h>
#include <string.h>

#include "store/change.h"
#include "store/replica_private.h"
#include "util/clock.h"
#include "util/must.h"

struct repairing {
        struct replica_repair *r;
        struct mailbox *m;
        struct replica_batch batch;
        struct replica_record *fresh;           /* what is to be appended, one for each fix of that kind */
        struct stage **stages;                  /* theirs, or made of our own octets: with a reference */
        uint32_t fresh_n;
        uint32_t last_uid;                      /* of the mailbox, when it was made ready */
        uint64_t modseq;                        /* that all of it gets */
        struct arena arena;
};

static bool is_append(const struct replica_fix *f)
{
        return f->what == REPLICA_FIX_RENUMBER || f->what == REPLICA_FIX_APPEND || f->what == REPLICA_FIX_APPEND_SAME;
}

static bool is_ours(const struct replica_fix *f)
{
        return f->what != REPLICA_FIX_APPEND && f->what != REPLICA_FIX_APPEND_SAME;
}

static enum replica_code changed_meanwhile(struct repairing *w, uint32_t uid, struct err *err)
{
        err_set(err, ERR_BUSY, "%s has changed meanwhile (uid %u)", w->r->name, uid);
        return REPLICA_CHANGED;
}

/* Is each of our messages as the plan has it? */
static enum replica_code check_locked(struct repairing *w, struct err *err) REQUIRES(w->m->lock, mailbox_class);
static enum replica_code check_locked(struct repairing *w, struct err *err)
{
        for (uint32_t i = 0; i < w->r->fixes_n; i++) {
                const struct replica_fix *f = &w->r->fixes[i];
                struct index_rec rec;
                int rc = is_ours(f) ? index_find(w->m->ix, f->uid, &rec, err) : 0;

                if (rc < 0)
                        return REPLICA_FAILED;
                if (is_ours(f) && (rc == 0 || rec.modseq != f->modseq || uidset_has(&w->m->moving, f->uid)))
                        return changed_meanwhile(w, f->uid, err);
        }
        return REPLICA_OK;
}

/* UIDs for what is appended: first those that are given. */
static enum replica_code number_locked(struct repairing *w, struct err *err) REQUIRES(w->m->lock, mailbox_class);
static enum replica_code number_locked(struct repairing *w, struct err *err)
{
        uint32_t next = w->last_uid = index_counters(w->m->ix)->uidnext - 1;

        for (uint32_t i = 0; i < w->r->fixes_n; i++) {
                struct replica_fix *f = &w->r->fixes[i];

                if (f->what != REPLICA_FIX_APPEND_SAME)
                        continue;
                if (f->theirs->uid <= next)
                        return changed_meanwhile(w, f->theirs->uid, err);
                f->new_uid_r = next = f->theirs->uid;
        }
        if (w->r->last_uid > next)
                next = w->r->last_uid;
        for (uint32_t i = 0; i < w->r->fixes_n; i++) {
                struct replica_fix *f = &w->r->fixes[i];

                if (f->what != REPLICA_FIX_APPEND && f->what != REPLICA_FIX_RENUMBER)
                        continue;
                if (next >= UINT32_MAX - 2) {
                        err_set(err, ERR_LIMIT, "mailbox %s has used up its UIDs", w->r->name);
                        return REPLICA_FAILED;
                }
                f->new_uid_r = ++next;
        }
        return REPLICA_OK;
}

/* As it is for the wire, but with our own dates, which may be before 1970. */
static void record_of_ours(struct mailbox *m, const struct index_rec *was, struct arena *arena, struct replica_record *rec)
{
        replica_record_of(m, was, arena, rec);
        rec->internaldate = was->internaldate;
        rec->savedate = was->savedate;
}

/* One of ours as a record, annotations included. */
static int own_record(struct repairing *w, uint32_t uid, struct replica_record *rec, struct err *err) EXCLUDES(mailbox_class)
{
        struct annot_of *annots;
        struct annot *list;
        struct index_rec was;
        uint32_t n = 0;
        int rc;

        mailbox_lock(w->m);
        rc = index_find(w->m->ix, uid, &was, err);
        if (rc == 1)
                n = annots_of_range_locked(w->m, uid, uid, &w->arena, &annots);
        mailbox_unlock(w->m);
        if (rc <= 0)
                return rc < 0 ? -1 : err_set(err, ERR_BUSY, "message %u is gone", uid);
        record_of_ours(w->m, &was, &w->arena, rec);
        n = annots_name_users(w->m->store, &w->arena, annots, n);
        list = ARENA_ARRAY(&w->arena, struct annot, n ? n : 1);
        for (uint32_t i = 0; i < n; i++)
                list[i] = annots[i].annot;
        rec->annots = list;
        rec->annots_n = n;
        return 0;
}

static int by_uid(const void *a, const void *b)
{
        const struct replica_fix *const *x = a, *const *y = b;

        return (*x)->new_uid_r < (*y)->new_uid_r ? -1 : 1;
}

/* Octets and state of what is to be appended, ascending by UID. */
static int gather_fresh(struct repairing *w, struct err *err) EXCLUDES(mailbox_class)
{
        struct replica_fix **order = ARENA_ARRAY(&w->arena, struct replica_fix *, w->r->fixes_n + 1);

        for (uint32_t i = 0; i < w->r->fixes_n; i++)
                if (is_append(&w->r->fixes[i]))
                        order[w->fresh_n++] = &w->r->fixes[i];
        if (w->fresh_n > 1)
                qsort(order, w->fresh_n, sizeof *order, by_uid);
        w->fresh = ARENA_ARRAY(&w->arena, struct replica_record, w->fresh_n + 1);
        w->stages = ARENA_ARRAY(&w->arena, struct stage *, w->fresh_n + 1);
        for (uint32_t i = 0; i < w->fresh_n; i++) {
                struct replica_fix *f = order[i];
                struct replica_record *rec = &w->fresh[i];

                if (f->what == REPLICA_FIX_RENUMBER) {
                        if (own_record(w, f->uid, rec, err) < 0 ||
                            replica_stage_message(w->m, f->uid, rec->guid, w->m->partition_dir, &w->stages[i], err) < 0)
                                return -1;
                } else {
                        *rec = *f->theirs;
                        if (!rec->stage || stage_size(rec->stage) != rec->size || memcmp(stage_guid(rec->stage), rec->guid, GUID_SIZE) != 0)
                                return err_set(err, ERR_SYNTAX, "message %u: no octets, or not the right ones", rec->uid);
                        w->stages[i] = stage_ref(rec->stage);
                        if (replica_make_users(w->m->store, rec->annots, rec->annots_n, err) < 0)
                                return -1;
                }
                rec->uid = f->new_uid_r;
                rec->flags &= MSG_SYSTEM_FLAGS;
                rec->last_updated = clock_wall_s();
        }
        return 0;
}

static int make_users(struct repairing *w, struct err *err)
{
        if (replica_make_users(w->m->store, w->r->annots, w->r->annots ? w->r->annots_n : 0, err) < 0)
                return -1;
        for (uint32_t i = 0; i < w->r->fixes_n; i++)
                if (w->r->fixes[i].what == REPLICA_FIX_TAKE &&
                    replica_make_users(w->m->store, w->r->fixes[i].theirs->annots, w->r->fixes[i].theirs->annots_n, err) < 0)
                        return -1;
        return 0;
}

/* All new modseqs, those of what is laid down before among them, are above both sides' highest. */
static uint64_t modseq_above(const struct repairing *w, uint64_t highest)
{
        return (highest > w->r->highestmodseq ? highest : w->r->highestmodseq) + 1;
}

static int fix_one_locked(struct repairing *w, const struct replica_fix *f, int64_t now, struct err *err) REQUIRES(w->m->lock, mailbox_class);
static int fix_one_locked(struct repairing *w, const struct replica_fix *f, int64_t now, struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct annot_of *annots;
        struct replica_record rec;
        struct index_rec was;
        uint32_t n;
        int rc = index_find(w->m->ix, f->uid, &was, err);

        if (rc <= 0)
                return rc < 0 ? -1 : err_set(err, ERR_BUSY, "message %u is gone", f->uid);
        record_of_ours(w->m, &was, &arena, &rec);
        if (f->what == REPLICA_FIX_TAKE) {
                rec.flags = (rec.flags & MSG_EXPUNGED) | (f->theirs->flags & MSG_SYSTEM_FLAGS);
                rec.keywords = f->theirs->keywords;
                rec.keywords_n = f->theirs->keywords_n;
                if (f->theirs->thrid)
                        rec.thrid = f->theirs->thrid;
                rec.annots = f->theirs->annots;
                rec.annots_n = f->theirs->annots_n;
        } else {
                struct annot *list;

                n = annots_of_range_locked(w->m, f->uid, f->uid, &arena, &annots);
                n = annots_name_users(w->m->store, &arena, annots, n);
                list = ARENA_ARRAY(&arena, struct annot, n ? n : 1);
                for (uint32_t i = 0; i < n; i++)
                        list[i] = annots[i].annot;
                rec.annots = list;
                rec.annots_n = n;
        }
        if (f->what == REPLICA_FIX_EXPUNGE || f->what == REPLICA_FIX_RENUMBER)
                rec.flags |= MSG_EXPUNGED;
        rec.modseq = w->modseq;
        rec.last_updated = now;
        rc = replica_add_details_locked(&w->batch, w->m, &was, &rec, err);
        arena_deinit(&arena);
        return rc;
}

static int write_locked(struct repairing *w, struct waiter *waiter, struct err *err) REQUIRES(w->m->lock, mailbox_class);
static int write_locked(struct repairing *w, struct waiter *waiter, struct err *err)
{
        struct mlog_counters *c = &w->batch.values.counters;
        int64_t now = clock_wall_s();

        state_counters(w->m, c);
        c->highestmodseq = w->modseq;
        if (w->r->uidvalidity > c->uidvalidity)
                c->uidvalidity = w->r->uidvalidity;
        if (w->r->last_uid >= c->uidnext)
                c->uidnext = w->r->last_uid + 1;
        if (w->fresh_n)
                c->last_append = now;
        for (uint32_t i = 0; i < w->r->fixes_n; i++)
                if (is_ours(&w->r->fixes[i]) && fix_one_locked(w, &w->r->fixes[i], now, err) < 0)
                        return -1;
        if (w->r->annots && replica_add_annots_locked(&w->batch, w->m, w->r->annots, w->r->annots_n, w->modseq, err) < 0)
                return -1;
        return replica_write_locked(&w->batch, w->m, false, waiter, err);
}

static enum replica_code commit(struct repairing *w, struct waiter *waiter, struct err *err) EXCLUDES(mailbox_class)
{
        enum replica_code code;

        mailbox_lock(w->m);
        code = mailbox_writable_locked(w->m, err) < 0 ? replica_code_within(err) : check_locked(w, err);
        if (code == REPLICA_OK && (index_counters(w->m->ix)->uidnext - 1 != w->last_uid ||
                                   modseq_above(w, index_counters(w->m->ix)->highestmodseq) != w->modseq))
                code = changed_meanwhile(w, 0, err);
        if (code == REPLICA_OK && write_locked(w, waiter, err) < 0)
                code = replica_code_within(err);
        quota_report(w->m);
        mailbox_unlock(w->m);
        mailbox_after(w->m);
        return code;
}

static enum replica_code ready(struct repairing *w, struct err *err) EXCLUDES(mailbox_class)
{
        enum replica_code code;

        mailbox_lock(w->m);
        code = mailbox_writable_locked(w->m, err) < 0 ? replica_code_within(err) : check_locked(w, err);
        w->modseq = modseq_above(w, index_counters(w->m->ix)->highestmodseq);
        if (code == REPLICA_OK)
                code = number_locked(w, err);
        mailbox_unlock(w->m);
        if (code == REPLICA_OK && (make_users(w, err) < 0 || gather_fresh(w, err) < 0))
                code = replica_code_within(err);
        return code;
}

static enum replica_code repair_mailbox(struct repairing *w, struct err *err) EXCLUDES(mailbox_class)
{
        enum replica_code code = ready(w, err);
        struct waiter waiter;

        if (code != REPLICA_OK)
                return code;
        replica_batch_begin(&w->batch, w->m);
        waiter_init_blocking(&waiter);
        for (uint32_t i = 0; i < w->fresh_n && code == REPLICA_OK; i++) {
                w->fresh[i].modseq = w->modseq;
                if (replica_lay_down(&w->batch, &w->fresh[i], w->stages[i], err) < 0)
                        code = replica_code_within(err);
        }
        if (code == REPLICA_OK && replica_laid_down(&w->batch, err) < 0)
                code = replica_code_within(err);
        if (code == REPLICA_OK)
                code = commit(w, &waiter, err);
        replica_batch_end(&w->batch, code == REPLICA_OK);
        if (code == REPLICA_OK && waiter_block(&waiter, err) < 0)
                code = REPLICA_FAILED;
        return code;
}

/* What the replica said is not believed when afterwards nothing could be given a number here, or clients be shown what they cannot read. */
static int check_theirs(const struct replica_repair *r, struct err *err)
{
        if (r->highestmodseq > REPLICA_MODSEQ_MAX || r->last_uid > REPLICA_UID_MAX)
                return err_set(err, ERR_SYNTAX, "%s: a number is out of range", r->name);
        for (uint32_t i = 0; i < r->fixes_n; i++) {
                const struct replica_record *theirs = r->fixes[i].theirs;

                if (theirs && theirs->uid > REPLICA_UID_MAX)
                        return err_set(err, ERR_SYNTAX, "%s: a number is out of range", r->name);
                if (theirs && replica_check_keywords(theirs, err) < 0)
                        return -1;
        }
        return 0;
}

enum replica_code replica_repair(struct store *store, struct replica_repair *r, struct err *err)
{
        struct repairing w = { .r = r, .arena = ARENA_INIT };
        struct replica_entry_change change = { .uidvalidity = 0 };
        enum replica_code code;

        if (check_theirs(r, err) < 0)
                return replica_code_of(err);
        if (replica_open(store, r->name, &w.m, err) < 0)
                return replica_code_of(err);
        if (strcmp(w.m->uniqueid, r->uniqueid) != 0) {
                err_set(err, ERR_EXISTS, "%s has another unique id", r->name);
                code = REPLICA_MOVED;
        } else {
                code = repair_mailbox(&w, err);
        }
        for (uint32_t i = 0; i < w.fresh_n; i++)
                stage_unref(&w.stages[i]);
        if (code == REPLICA_OK && r->uidvalidity) {
                mailbox_lock(w.m);
                change.uidvalidity = index_counters(w.m->ix)->uidvalidity;
                mailbox_unlock(w.m);
                if (replica_change_entry(store, r->name, r->uniqueid, &change, err) < 0)
                        code = replica_code_of(err);
        }
        mailbox_unref(&w.m);
        arena_deinit(&w.arena);
        return code;
}
