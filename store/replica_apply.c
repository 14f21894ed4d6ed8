/*
 * replica_apply - APPLY MAILBOX and APPLY EXPUNGE: see replica.h, and csync 9, whose steps are named here.
 *
 * What decides is looked at twice, by one function: before the octets of new messages are asked for, so that a request that cannot be granted costs
 * little, and again with the lock held over the write. In between others may have changed the mailbox: then it is done again, from the start.
 */
#include <stdlib.h>
#include <string.h>

#include "store/change.h"
#include "store/mailname.h"
#include "store/replica_private.h"
#include "util/log.h"
#include "util/must.h"

#define TRIES 20                                /* until a mailbox that others change all the time counts as locked */
#define CRC_BLOCKS 4                            /* as many blocks are summed up with the lock held */

/* ---- what cannot be, whatever the mailbox is like: step 1 ---- */

static bool annots_ok(const struct annot *list, uint32_t n, struct err *err)
{
        for (uint32_t i = 0; i < n; i++) {
                if (annot_check_entry(span_of(list[i].entry), err) < 0)
                        return false;
                if (!list[i].value.p || list[i].value.len > ANNOT_VALUE_MAX) {
                        err_set(err, ERR_LIMIT, "the value of annotation %s has more than %d octets", list[i].entry, ANNOT_VALUE_MAX);
                        return false;
                }
        }
        return true;
}

static bool record_ok(const struct replica_values *v, const struct replica_record *rec, uint32_t after, struct err *err)
{
        if (rec->uid <= after || rec->uid > v->last_uid || rec->modseq == 0 || rec->modseq > v->highestmodseq) {
                err_set(err, ERR_SYNTAX, "message %u is out of order, or above LAST_UID or HIGHESTMODSEQ", rec->uid);
                return false;
        }
        return replica_check_keywords(rec, err) == 0 && annots_ok(rec->annots, rec->annots_n, err);
}

static bool values_ok(struct store *store, const struct replica_values *v, struct err *err)
{
        if (!v->name || !v->uniqueid || !replica_uniqueid_ok(span_of(v->uniqueid))) {
                err_set(err, ERR_SYNTAX, "impossible unique id");
                return false;
        }
        if (mailname_check_new(v->name, true, err) < 0)
                return false;
        if (v->type != MBTYPE_NORMAL)
                return true;
        if (!v->acl || !replica_acl_ok(v->acl)) {
                err_set(err, ERR_SYNTAX, "impossible access control list");
                return false;
        }
        if (!v->partition || !store_partition_dir(store, v->partition)) {
                err_set(err, ERR_SYNTAX, "there is no partition %s", v->partition ? v->partition : "");
                return false;
        }
        if (v->uidvalidity == 0 || v->last_uid > REPLICA_UID_MAX || v->highestmodseq > REPLICA_MODSEQ_MAX ||
            v->foldermodseq > REPLICA_MODSEQ_MAX || v->createdmodseq > REPLICA_MODSEQ_MAX) {
                err_set(err, ERR_SYNTAX, "a number is out of range");
                return false;
        }
        return annots_ok(v->annots, v->annots_n, err);
}

static bool request_ok(struct store *store, const struct replica_apply *a, struct err *err)
{
        uint32_t after = 0;

        if (!values_ok(store, &a->values, err))
                return false;
        for (uint32_t i = 0; i < a->records_n; i++) {
                if (!record_ok(&a->values, &a->records[i], after, err))
                        return false;
                after = a->records[i].uid;
        }
        return true;
}

/* ---- the plan ---- */

struct work {
        struct store *store;
        const struct replica_apply *a;
        struct mailbox *m;
        struct replica_batch batch;
        struct annot *own;                      /* the mailbox's annotations without the special use */
        uint32_t own_n;
        const char *specialuse;                 /* "" none */
        uint32_t last_uid;                      /* of the mailbox, when the plan was made */
        uint32_t first_new;                     /* of the records: from here on they are above that */
        bool applied;
};

/* Cyrus keeps the special use as the owner's annotation. */
static void split_annots(struct work *w, struct arena *arena)
{
        const struct replica_values *v = &w->a->values;
        const char *owner = mailname_owner(v->name, arena);

        w->specialuse = "";
        w->own = ARENA_ARRAY(arena, struct annot, v->annots_n + 1);
        for (uint32_t i = 0; i < v->annots_n; i++) {
                const struct annot *a = &v->annots[i];

                if (strcmp(a->entry, "/specialuse") == 0 && strcmp(a->user, owner ? owner : "") == 0 && !memchr(a->value.p, '\n', a->value.len) &&
                    !memchr(a->value.p, '\r', a->value.len) && !memchr(a->value.p, 0, a->value.len))
                        w->specialuse = arena_strndup(arena, a->value.p, a->value.len);
                else
                        w->own[w->own_n++] = *a;
        }
}

/* Steps 4, 6. */
static enum replica_code check_values_locked(struct work *w, struct err *err) REQUIRES(w->m->lock, mailbox_class);
static enum replica_code check_values_locked(struct work *w, struct err *err)
{
        const struct index_counters *c = index_counters(w->m->ix);
        const struct replica_values *v = &w->a->values;
        struct replica_crcs crcs;

        if (w->a->since_modseq) {
                if (c->highestmodseq != w->a->since_modseq) {
                        err_set(err, ERR_BUSY, "%s: the highest modseq is %llu, not %llu", v->name, (unsigned long long)c->highestmodseq,
                                (unsigned long long)w->a->since_modseq);
                        return REPLICA_CHANGED;
                }
                if (replica_crcs_locked(w->m, &crcs, err) < 0)
                        return REPLICA_FAILED;
                if (!replica_crcs_match(crcs, w->a->since_crcs)) {
                        err_set(err, ERR_BUSY, "%s: the CRCs are %u, %u, not %u, %u", v->name, crcs.basic, crcs.annot, w->a->since_crcs.basic,
                                w->a->since_crcs.annot);
                        return REPLICA_CHANGED;
                }
        }
        if (!w->a->force && (c->highestmodseq > v->highestmodseq || c->uidvalidity > v->uidvalidity || c->uidnext - 1 > v->last_uid ||
                             ((v->has & REPLICA_HAS_XCONVMODSEQ) && c->xconvmodseq > v->xconvmodseq))) {
                err_set(err, ERR_BUSY, "%s is ahead: modseq %llu, uidvalidity %u, last uid %u", v->name, (unsigned long long)c->highestmodseq,
                        c->uidvalidity, c->uidnext - 1);
                return REPLICA_CHECKSUM;
        }
        return REPLICA_OK;
}

/* Step 7, of one that is there. */
static enum replica_code check_record(struct work *w, const struct index_rec *was, const struct replica_record *rec, struct err *err)
{
        bool gone = rec->flags & MSG_EXPUNGED;
        const char *why = NULL;

        if (gone && (was->flags & MSG_EXPUNGED))
                return REPLICA_OK;
        if (memcmp(was->guid, rec->guid, GUID_SIZE) != 0)
                why = "another message";
        else if (was->modseq > rec->modseq && !w->a->force)
                why = "a newer state";
        else if (!gone && (was->flags & MSG_EXPUNGED))
                why = "an expunged one";
        if (why) {
                err_set(err, ERR_BUSY, "%s: here %u is %s", w->a->values.name, rec->uid, why);
                return REPLICA_CHECKSUM;
        }
        if (uidset_has(&w->m->moving, rec->uid)) {
                err_set(err, ERR_BUSY, "%s: message %u is being moved", w->a->values.name, rec->uid);
                return REPLICA_LOCKED;
        }
        return REPLICA_OK;
}

/* Step 7. `write`: put what is different into the batch. */
static enum replica_code check_records_locked(struct work *w, bool write, struct err *err) REQUIRES(w->m->lock, mailbox_class);
static enum replica_code check_records_locked(struct work *w, bool write, struct err *err)
{
        for (uint32_t i = 0; i < w->first_new; i++) {
                const struct replica_record *rec = &w->a->records[i];
                enum replica_code code;
                struct index_rec was;
                int rc = index_find(w->m->ix, rec->uid, &was, err);

                if (rc < 0)
                        return REPLICA_FAILED;
                if (rc == 0 && (rec->flags & MSG_EXPUNGED))
                        continue;
                if (rc == 0) {
                        err_set(err, ERR_BUSY, "%s: message %u is not here", w->a->values.name, rec->uid);
                        return REPLICA_CHECKSUM;
                }
                code = check_record(w, &was, rec, err);
                if (code != REPLICA_OK)
                        return code;
                if ((was.flags & MSG_EXPUNGED) || !write)
                        continue;
                if (replica_add_details_locked(&w->batch, w->m, &was, rec, err) < 0)
                        return replica_code_within(err);
        }
        return REPLICA_OK;
}

static enum replica_code plan(struct work *w, struct err *err) EXCLUDES(mailbox_class)
{
        enum replica_code code;

        if (w->a->since_modseq && replica_crcs_prepare(w->m, false, err) < 0)
                return REPLICA_FAILED;
        mailbox_lock(w->m);
        if (mailbox_writable_locked(w->m, err) < 0) {
                code = err->code == ERR_NOTFOUND ? REPLICA_LOCKED : REPLICA_FAILED;
        } else {
                w->last_uid = index_counters(w->m->ix)->uidnext - 1;
                for (w->first_new = 0; w->first_new < w->a->records_n && w->a->records[w->first_new].uid <= w->last_uid; w->first_new++)
                        ;
                code = check_values_locked(w, err);
                if (code == REPLICA_OK)
                        code = check_records_locked(w, false, err);
        }
        mailbox_unlock(w->m);
        return code;
}

static bool has_octets(const struct replica_apply *a, const struct replica_record *rec)
{
        return a->has && a->message && a->has(a->ctx, rec->guid);
}

/* Are the octets of all that is new there? */
static enum replica_code check_octets(const struct replica_apply *a, uint32_t from, struct err *err)
{
        for (uint32_t i = from; i < a->records_n; i++) {
                const struct replica_record *rec = &a->records[i];

                if ((rec->flags & MSG_EXPUNGED) || has_octets(a, rec))
                        continue;
                err_set(err, ERR_SYNTAX, "%s: the octets of message %u were not uploaded", a->values.name, rec->uid);
                return REPLICA_BAD;
        }
        return REPLICA_OK;
}

/* ---- building ---- */

static enum replica_code lay_down_one(struct work *w, const struct replica_record *rec, struct err *err)
{
        struct stage *stage = NULL;
        enum replica_code code = REPLICA_OK;

        if (!(rec->flags & MSG_EXPUNGED) || has_octets(w->a, rec)) {
                if (w->a->message(w->a->ctx, rec->guid, &stage, err) < 0)
                        return REPLICA_FAILED;
                if (memcmp(stage_guid(stage), rec->guid, GUID_SIZE) != 0 || stage_size(stage) != rec->size) {
                        err_set(err, ERR_SYNTAX, "%s: the octets of message %u do not have its GUID or size", w->a->values.name, rec->uid);
                        code = REPLICA_BAD;
                }
        }
        if (code == REPLICA_OK && replica_lay_down(&w->batch, rec, stage, err) < 0)
                code = replica_code_within(err);
        stage_unref(&stage);
        return code;
}

static enum replica_code lay_down(struct work *w, struct err *err)
{
        for (uint32_t i = w->first_new; i < w->a->records_n; i++) {
                enum replica_code code = lay_down_one(w, &w->a->records[i], err);

                if (code != REPLICA_OK)
                        return code;
        }
        return replica_laid_down(&w->batch, err) < 0 ? replica_code_within(err) : REPLICA_OK;
}

static int make_users(struct work *w, struct err *err)
{
        if (replica_make_users(w->store, w->own, w->own_n, err) < 0)
                return -1;
        for (uint32_t i = 0; i < w->a->records_n; i++)
                if (replica_make_users(w->store, w->a->records[i].annots, w->a->records[i].annots_n, err) < 0)
                        return -1;
        return 0;
}

/* Step 10. */
static void set_values(struct mailbox *m, const struct replica_values *v, struct mlog_values *values)
{
        const uint32_t letters = MBOX_POP3_NEW_UIDL | MBOX_SHARED_SEEN | MBOX_DUPLICATE_DELIVER | MBOX_HAS_ALARMS;
        struct mlog_counters *c = &values->counters;
        struct mlog_options *o = &c->options;

        state_counters(m, c);
        c->uidvalidity = v->uidvalidity;
        c->uidnext = v->last_uid + 1;
        c->highestmodseq = v->highestmodseq;
        c->last_append = v->last_appenddate;
        if ((v->has & REPLICA_HAS_CREATEDMODSEQ) && v->createdmodseq)
                c->created_modseq = v->createdmodseq;
        o->recentuid = v->recentuid;
        o->recent_time = v->recent_time;
        o->options = (o->options & ~letters) | (v->options & letters);
        o->pop3_last_login = v->pop3_last_login;
        if (v->has & REPLICA_HAS_POP3_SHOW_AFTER)
                o->pop3_show_after = v->pop3_show_after;
        if (v->has & REPLICA_HAS_RACLMODSEQ)
                o->raclmodseq = v->raclmodseq;
        if (v->has & REPLICA_HAS_XCONVMODSEQ)
                o->xconvmodseq = v->xconvmodseq;
}

/* Step 11. 1: known to be right; 0: too much to sum up now; -1: they differ. */
static int compare_crcs_locked(struct work *w, uint32_t most) REQUIRES(w->m->lock, mailbox_class);
static int compare_crcs_locked(struct work *w, uint32_t most)
{
        const struct replica_values *v = &w->a->values;
        struct replica_crcs crcs, given = { v->has & REPLICA_HAS_CRC ? v->crcs.basic : 0, v->has & REPLICA_HAS_CRC_ANNOT ? v->crcs.annot : 0 };
        int rc;

        if (!given.basic && !given.annot)
                return 1;
        rc = replica_crcs_known_locked(w->m, most, &crcs, NULL);
        if (rc <= 0)
                return rc;
        if (replica_crcs_match(crcs, given))
                return 1;
        log_event(LOG_WARN, NULL, "replica.checksum", "mailbox=%s crc=%u/%u given=%u/%u", v->name, crcs.basic, crcs.annot, given.basic,
                  given.annot);
        return -1;
}

/* They are summed up once more, from scratch, before they count as different. */
static bool crcs_differ(struct work *w, int known) EXCLUDES(mailbox_class)
{
        for (int i = 0; i < 2 && known < 1; i++) {
                bool from_scratch = known < 0;

                if (replica_crcs_prepare(w->m, from_scratch, NULL) < 0)
                        return true;
                mailbox_lock(w->m);
                known = compare_crcs_locked(w, UINT32_MAX);
                mailbox_unlock(w->m);
                if (from_scratch)
                        break;
        }
        return known < 0;
}

/* ---- writing ---- */

enum { WORK_AGAIN = 1, WORK_DONE = 0 };

static enum replica_code write_values_locked(struct work *w, struct waiter *waiter, struct err *err) REQUIRES(w->m->lock, mailbox_class);
static enum replica_code write_values_locked(struct work *w, struct waiter *waiter, struct err *err)
{
        struct replica_batch *b = &w->batch;

        set_values(w->m, &w->a->values, &b->values);
        if (replica_add_annots_locked(b, w->m, w->own, w->own_n, b->values.counters.highestmodseq, err) < 0 ||
            replica_write_locked(b, w->m, true, waiter, err) < 0)
                return replica_code_within(err);
        return REPLICA_OK;
}

/* The last look, and the write. */
static int commit(struct work *w, struct waiter *waiter, enum replica_code *code_r, int *crcs_r, struct err *err) EXCLUDES(mailbox_class)
{
        int rc = WORK_DONE;

        mailbox_lock(w->m);
        if (mailbox_writable_locked(w->m, err) < 0) {
                *code_r = err->code == ERR_NOTFOUND ? REPLICA_LOCKED : REPLICA_FAILED;
        } else if (index_counters(w->m->ix)->uidnext - 1 != w->last_uid) {
                rc = WORK_AGAIN;
        } else {
                *code_r = check_values_locked(w, err);
                if (*code_r == REPLICA_OK)
                        *code_r = check_records_locked(w, true, err);
                if (*code_r == REPLICA_OK)
                        *code_r = write_values_locked(w, waiter, err);
                if (*code_r == REPLICA_OK)
                        *crcs_r = compare_crcs_locked(w, CRC_BLOCKS);
        }
        quota_report(w->m);
        mailbox_unlock(w->m);
        mailbox_after(w->m);
        return rc;
}

static int write_once(struct work *w, enum replica_code *code_r, struct err *err) EXCLUDES(mailbox_class)
{
        struct waiter waiter;
        int rc = WORK_DONE, crcs = 1;

        *code_r = plan(w, err);
        if (*code_r == REPLICA_OK)
                *code_r = check_octets(w->a, w->first_new, err);
        if (*code_r != REPLICA_OK)
                return WORK_DONE;
        replica_batch_begin(&w->batch, w->m);
        *code_r = lay_down(w, err);
        waiter_init_blocking(&waiter);
        if (*code_r == REPLICA_OK)
                rc = commit(w, &waiter, code_r, &crcs, err);
        replica_batch_end(&w->batch, rc == WORK_DONE && *code_r == REPLICA_OK);
        if (rc == WORK_AGAIN || *code_r != REPLICA_OK)
                return rc;
        w->applied = waiter_block(&waiter, err) == 0;
        if (!w->applied)
                *code_r = REPLICA_FAILED;
        else if (crcs != 1 && crcs_differ(w, crcs))
                *code_r = REPLICA_CHECKSUM;
        return WORK_DONE;
}

static enum replica_code write_mailbox(struct work *w, struct err *err)
{
        enum replica_code code;

        for (unsigned i = 0; i < TRIES; i++) {
                err_clear(err);
                if (write_once(w, &code, err) == WORK_DONE)
                        return code;
        }
        err_set(err, ERR_BUSY, "%s: messages arrive all the time", w->a->values.name);
        return REPLICA_LOCKED;
}

/* The list's entry: ACL, modseqs, special use. */
static int change_entry(struct work *w, struct err *err)
{
        const struct replica_values *v = &w->a->values;
        struct replica_entry_change change = { .acl = v->acl, .specialuse = w->specialuse, .uidvalidity = v->uidvalidity,
                .createdmodseq = v->has & REPLICA_HAS_CREATEDMODSEQ ? v->createdmodseq : 0,
                .foldermodseq = (v->has & REPLICA_HAS_FOLDERMODSEQ) && v->foldermodseq ? v->foldermodseq : v->highestmodseq };

        return replica_change_entry(w->store, v->name, v->uniqueid, &change, err);
}

/* ---- steps 2 and 3 ---- */

static int create(struct work *w, struct err *err)
{
        const struct replica_values *v = &w->a->values;
        struct mbox_create what = { .name = v->name, .partition = v->partition, .acl = v->acl, .specialuse = *w->specialuse ? w->specialuse : NULL,
                .uniqueid = v->uniqueid, .uidvalidity = v->uidvalidity, .deleted = true, .ignore_quota = true,
                .createdmodseq = v->has & REPLICA_HAS_CREATEDMODSEQ ? v->createdmodseq : 0,
                .foldermodseq = (v->has & REPLICA_HAS_FOLDERMODSEQ) && v->foldermodseq ? v->foldermodseq : v->highestmodseq };

        return mboxlist_create(store_mboxlist(w->store), &what, NULL, err);
}

/* What is there of that name is one that the request is about: 1. 0: there is none. Else *code_r. */
static int find_target(struct work *w, bool *replace_r, enum replica_code *code_r, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(w->store);
        const struct replica_values *v = &w->a->values;
        const struct mbentry *e = mboxlist_find(ml, v->name), *twin = mboxlist_find_uniqueid(ml, v->uniqueid);
        bool same = e && strcmp(e->uniqueid, v->uniqueid) == 0;
        int rc = e && e->type != MBTYPE_INTERMEDIATE;

        *replace_r = false;
        if (rc && e->type != MBTYPE_NORMAL) {
                err_set(err, ERR_UNSUPPORTED, "%s is not a mailbox of this server", v->name);
                *code_r = REPLICA_NOTSUPPORTED;
                rc = -1;
        } else if (twin && !same && twin->type != MBTYPE_INTERMEDIATE) {
                err_set(err, ERR_EXISTS, "unique id %s is that of %s", v->uniqueid, twin->name);
                *code_r = REPLICA_MOVED;
                rc = -1;
        } else if (rc && !same) {
                *replace_r = true;
        }
        mbentry_unref(&e);
        mbentry_unref(&twin);
        return rc;
}

/* Of another unique id: it gives way when nothing was ever in it, or the master insists. */
static enum replica_code give_way(struct work *w, struct err *err)
{
        const struct replica_values *v = &w->a->values;
        bool empty;

        mailbox_lock(w->m);
        empty = index_counters(w->m->ix)->uidnext <= 1;
        mailbox_unlock(w->m);
        if (!empty && !w->a->force) {
                err_set(err, ERR_EXISTS, "%s has another unique id", v->name);
                return REPLICA_MOVED;
        }
        if (w->a->since_modseq) {
                err_set(err, ERR_BUSY, "%s is not the one that was there", v->name);
                return REPLICA_CHANGED;
        }
        log_event(LOG_WARN, NULL, "replica.replaced", "mailbox=%s uniqueid=%s by=%s", v->name, w->m->uniqueid, v->uniqueid);
        return REPLICA_OK;
}

static enum replica_code apply_to_new(struct work *w, struct err *err)
{
        const struct replica_values *v = &w->a->values;
        struct err second = ERR_INIT;
        enum replica_code code;

        if (w->a->since_modseq) {
                err_set(err, ERR_BUSY, "%s is not there", v->name);
                return REPLICA_CHANGED;
        }
        code = check_octets(w->a, 0, err);
        if (code != REPLICA_OK)
                return code;
        if (create(w, err) < 0)
                return err->code == ERR_EXISTS ? REPLICA_LOCKED : replica_code_of(err);
        if (replica_open(w->store, v->name, &w->m, err) < 0)
                return REPLICA_FAILED;
        code = write_mailbox(w, err);
        mailbox_unref(&w->m);
        if (code != REPLICA_OK && code != REPLICA_CHECKSUM && mboxlist_delete(store_mboxlist(w->store), v->name, true, &second) < 0)
                log_event(LOG_ERROR, NULL, "replica.undo", "mailbox=%s reason=\"%s\"", v->name, second.text);
        return code;
}

/*
 * The one that is there is put aside, below deletedprefix, until its successor is on the disk; one that is refused, or cannot be written, gives it its name
 * back. So a stop at any moment leaves one of them here: the former as a deleted mailbox, then, which unlike the request has nobody who sends it again.
 */
static enum replica_code replace(struct work *w, struct err *err)
{
        const struct replica_values *v = &w->a->values;
        struct arena arena = ARENA_INIT;
        struct err second = ERR_INIT;
        const char *aside = mboxlist_deleted_name(store_mboxlist(w->store), v->name, &arena);
        enum replica_code code = check_octets(w->a, 0, err);

        if (code == REPLICA_OK)
                code = replica_rename(w->store, v->name, aside, NULL, 0, w->a->local, err);
        if (code != REPLICA_OK) {
                arena_deinit(&arena);
                return code;
        }
        code = apply_to_new(w, err);
        if (code == REPLICA_OK || code == REPLICA_CHECKSUM) {
                if (mboxlist_delete(store_mboxlist(w->store), aside, true, &second) < 0)
                        log_event(LOG_ERROR, NULL, "replica.aside", "mailbox=%s reason=\"%s\"", aside, second.text);
        } else if (replica_rename(w->store, aside, v->name, NULL, 0, w->a->local, &second) != REPLICA_OK) {
                log_event(LOG_ERROR, NULL, "replica.aside", "mailbox=%s of=%s reason=\"%s\" consequence=\"it stays as a deleted one\"", aside, v->name, second.text);
        }
        arena_deinit(&arena);
        return code;
}

static enum replica_code apply_to_there(struct work *w, bool replaces, struct err *err)
{
        const struct replica_values *v = &w->a->values;
        struct err second = ERR_INIT;
        enum replica_code code;

        if (replica_open(w->store, v->name, &w->m, err) < 0)
                return replica_code_of(err);
        code = replaces ? give_way(w, err) : write_mailbox(w, err);
        mailbox_unref(&w->m);
        if (replaces)
                return code == REPLICA_OK ? replace(w, err) : code;
        /* Step 8. Its failing after the batch was written leaves what the master notices, and sends again. A request that was refused sets no ACL. */
        if (w->applied && change_entry(w, &second) < 0) {
                err_copy(err, &second);
                code = replica_code_of(err);
        }
        return code;
}

static enum replica_code apply(struct store *store, const struct replica_apply *a, struct err *err)
{
        struct work w = { .store = store, .a = a };
        struct arena arena = ARENA_INIT;
        enum replica_code code = REPLICA_OK;
        bool replace;
        int rc;

        if (!request_ok(store, a, err))
                return REPLICA_BAD;
        if (a->values.type == MBTYPE_INTERMEDIATE || a->values.type == MBTYPE_DELETED)
                return replica_apply_entry(store, &a->values, err);
        if (a->values.type != MBTYPE_NORMAL) {
                err_set(err, ERR_UNSUPPORTED, "%s: mailboxes of that type are not kept here", a->values.name);
                return REPLICA_NOTSUPPORTED;
        }
        split_annots(&w, &arena);
        rc = find_target(&w, &replace, &code, err);
        if (rc >= 0 && make_users(&w, err) < 0)
                code = replica_code_of(err);
        else if (rc >= 0)
                code = rc ? apply_to_there(&w, replace, err) : apply_to_new(&w, err);
        arena_deinit(&arena);
        return code;
}

enum replica_code replica_apply(struct store *store, const struct replica_apply *a, struct err *err)
{
        unsigned was = change_mark(change_marks() | CHANGE_REPLICATED | (a->local ? CHANGE_LOCAL : 0u));
        enum replica_code code = apply(store, a, err);

        change_mark(was);
        return code;
}

/* ---- APPLY EXPUNGE ---- */

static int expunge_locked(struct replica_batch *b, struct mailbox *m, const struct uidset *uids, struct err *err) REQUIRES(m->lock, mailbox_class);
static int expunge_locked(struct replica_batch *b, struct mailbox *m, const struct uidset *uids, struct err *err)
{
        for (uint32_t i = 0; i < uids->n; i++) {
                struct index_iter it;
                struct index_rec was;
                int rc;

                index_iter_init(&it, m->ix, uids->ranges[i].first);
                it.upto_uid = uids->ranges[i].last;
                it.expunged = false;
                while ((rc = index_next(&it, &was, err)) == 1) {
                        if (uidset_has(&m->moving, was.uid))
                                return err_set(err, ERR_BUSY, "message %u is being moved", was.uid);
                        replica_expunge_details_locked(b, m, &was);
                }
                if (rc < 0)
                        return -1;
        }
        return 0;
}

static enum replica_code expunge(struct store *store, const char *name, const char *uniqueid, const struct uidset *uids, struct err *err)
{
        enum replica_code code = REPLICA_OK;
        struct replica_batch b;
        struct mailbox *m;
        struct waiter waiter;

        if (replica_open(store, name, &m, err) < 0)
                return replica_code_of(err);
        if (strcmp(m->uniqueid, uniqueid) != 0) {
                mailbox_unref(&m);
                err_set(err, ERR_EXISTS, "%s has another unique id", name);
                return REPLICA_MOVED;
        }
        replica_batch_begin(&b, m);
        waiter_init_blocking(&waiter);
        mailbox_lock(m);
        state_counters(m, &b.values.counters);
        if (mailbox_writable_locked(m, err) < 0 || expunge_locked(&b, m, uids, err) < 0 ||
            replica_write_locked(&b, m, state_is_quiet(m), &waiter, err) < 0)
                code = replica_code_within(err);
        mailbox_unlock(m);
        mailbox_after(m);
        replica_batch_end(&b, code == REPLICA_OK);
        if (code == REPLICA_OK && waiter_block(&waiter, err) < 0)
                code = REPLICA_FAILED;
        mailbox_unref(&m);
        return code;
}

enum replica_code replica_expunge(struct store *store, const char *name, const char *uniqueid, const struct uidset *uids, struct err *err)
{
        unsigned was = change_mark(change_marks() | CHANGE_REPLICATED);
        enum replica_code code = expunge(store, name, uniqueid, uids, err);

        change_mark(was);
        return code;
}
