/*
 * mailbox_append - messages come in. What needs no lock is done before it: the records are laid down with everything but their place,
 * UID and modseq. With blobs in it an append is a job: the octets have to be on disk, and linked, before their record is written.
 */
#include <stdlib.h>

#include "store/annot.h"
#include "store/mailbox_private.h"
#include "store/replica.h"
#include "util/clock.h"
#include "util/must.h"

/* ---- the record of a staged message ---- */

static void front_rest(const struct stage_content *c, struct mlog_message *f, struct str *rest)
{
        const struct mime_result *mime = c->mime;
        uint64_t strings = mime->envelope.len + mime->bodystructure.len + mime->body.len;

        f->envelope_len = (uint32_t)mime->envelope.len;
        f->bodystructure_len = (uint32_t)mime->bodystructure.len;
        f->body_len = (uint32_t)mime->body.len;
        f->parts_n = (uint32_t)mime->parts_n;
        f->header_len = (uint32_t)c->header.len;
        str_reserve(rest, mlog_align(strings) + mime->parts_n * sizeof *mime->parts + c->header.len);
        str_append_span(rest, str_span(&mime->envelope));
        str_append_span(rest, str_span(&mime->bodystructure));
        str_append_span(rest, str_span(&mime->body));
        str_append(rest, "\0\0\0\0\0\0\0", mlog_align(strings) - strings);
        if (mime->parts_n)
                str_append(rest, mime->parts, mime->parts_n * sizeof *mime->parts);
        if (c->header.len)
                str_append_span(rest, c->header);
}

static int add_message(struct mlog_batch *b, const struct append_item *item, uint32_t blob_number, int64_t now, size_t *at_r,
                       struct err *err)
{
        struct stage_content c;
        struct mlog_message f;
        struct str rest = STR_INIT;

        stage_content(item->stage, &c);
        memset(&f, 0, sizeof f);
        f.flags = item->flags & MSG_SYSTEM_FLAGS;
        f.last_updated = now;
        f.internaldate = item->internaldate == INT64_MIN ? now : item->internaldate;
        f.savedate = item->savedate == INT64_MIN ? now : item->savedate;
        f.sentdate = c.mime->has_sentdate ? c.mime->sentdate : INT64_MIN;
        f.size = c.size;
        f.header_size = (uint32_t)c.mime->header_size;
        memcpy(f.guid, c.guid, sizeof f.guid);
        f.thrid = c.mime->thread;
        for (unsigned i = 0; i < 8 && !c.mime->thread; i++)     /* it names no message: a thread of its own */
                f.thrid = f.thrid << 8 | c.guid[i];
        f.octets_crc = c.crc;
        f.blob_number = blob_number;
        front_rest(&c, &f, &rest);
        if (sizeof f + rest.len > MLOG_FRONT_MAX) {
                str_deinit(&rest);
                return err_set(err, ERR_LIMIT, "the structure of the message is larger than %u octets", MLOG_FRONT_MAX);
        }
        *at_r = b->body.len + sizeof(struct mlog_header);
        if (c.memory) {
                mlog_batch_add(b, &b->body, MLOG_MESSAGE, &f, sizeof f, rest.data, rest.len, c.memory, c.size, c.crc);
        } else {
                f.flags |= MSG_BLOB;
                mlog_batch_add(b, &b->body, MLOG_MESSAGE, &f, sizeof f, rest.data, rest.len, NULL, 0, 0);
        }
        str_deinit(&rest);
        return 0;
}

/* ---- annotations that a message brings ---- */

void new_annots_number(const struct new_annots *annots, struct mlog_batch *b, uint32_t first_uid)
{
        for (size_t i = 0; i < annots->list.n; i++)
                ((struct mlog_annotation *)(void *)(b->body.data + annots->list.v[i].at))->uid = first_uid + annots->list.v[i].nth;
}

struct annots_added {
        struct new_annots list;
        struct annot_growths growths;           /* what they take in memory … */
        int64_t values;                         /* … and of a quota */
};

static int add_annots(struct mailbox *m, struct mlog_batch *b, const struct append_item *item, uint32_t nth, struct annots_added *added,
                      struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct annot *set = NULL;
        uint32_t n = 0;
        int rc = item->annots_n ? annots_resolve(m, item->annots, item->annots_n, &arena, &set, &n, err) : 0;

        if (rc == 0)
                rc = annots_check_new(set, n, err);
        for (uint32_t i = 0; i < n && rc == 0; i++) {
                if (!set[i].value.p)
                        continue;
                *ARRAY_PUSH(&added->list.list) = (struct new_annot){
                        annots_add_record(b, &b->body, 0, set[i].entry, set[i].user, set[i].value, 0), nth };
                annot_grows(&added->growths, set[i].user, (int64_t)annot_bytes(&set[i]));
                added->values += (int64_t)set[i].value.len;
        }
        arena_deinit(&arena);
        return rc;
}

static int take_annot_room_locked(struct mailbox *m, const struct annots_added *added, bool enforce, struct err *err)
        REQUIRES(m->lock, mailbox_class);
static int take_annot_room_locked(struct mailbox *m, const struct annots_added *added, bool enforce, struct err *err)
{
        if (annots_room_locked(m, &added->growths, err) < 0)
                return -1;
        return added->values ? quota_use(m, QUOTA_ANNOTATION, added->values, enforce, err) : 0;
}

/* ---- a message whose numbers are given ---- */

static void set_modseq_at(struct mlog_batch *b, size_t front_at, uint64_t modseq)
{
        ((struct mlog_header *)(void *)(b->body.data + front_at - sizeof(struct mlog_header)))->modseq = modseq;
}

int append_lay_down_given(struct mlog_batch *b, const struct replica_record *rec, const struct annot *keyed, uint32_t keyed_n, struct stage *stage,
                          uint32_t blob_number, size_t *at_r, struct new_annots *annots, struct err *err)
{
        struct append_item item = { .stage = stage, .flags = rec->flags, .internaldate = rec->internaldate, .savedate = rec->savedate };
        struct mlog_message stub = { .last_updated = rec->last_updated, .sentdate = INT64_MIN, .size = rec->size }, *f;

        if (stage) {
                if (add_message(b, &item, blob_number, rec->last_updated, at_r, err) < 0)
                        return -1;
        } else {
                memcpy(stub.guid, rec->guid, sizeof stub.guid);
                *at_r = b->body.len + sizeof(struct mlog_header);
                mlog_batch_add(b, &b->body, MLOG_MESSAGE, &stub, sizeof stub, NULL, 0, NULL, 0, 0);
        }
        set_modseq_at(b, *at_r, rec->modseq);
        f = (struct mlog_message *)(void *)(b->body.data + *at_r);
        f->uid = rec->uid;
        f->flags |= (rec->flags & MSG_EXPUNGED) | (stage ? 0u : MSG_EXPUNGED | MSG_UNLINKED) | (rec->thrid ? 0u : MSG_OWN_THRID);
        f->flags |= rec->flags & MSG_SYSTEM_FLAGS;
        f->createdmodseq = rec->createdmodseq ? rec->createdmodseq : MLOG_NO_CREATEDMODSEQ;
        f->internaldate = rec->internaldate;
        f->savedate = rec->savedate;
        if (rec->thrid)
                f->thrid = rec->thrid;
        for (uint32_t i = 0; i < keyed_n; i++) {
                size_t at = annots_add_record(b, &b->body, rec->uid, keyed[i].entry, keyed[i].user, keyed[i].value,
                                              keyed[i].modseq ? keyed[i].modseq : rec->modseq);

                set_modseq_at(b, at, rec->modseq);
                *ARRAY_PUSH(&annots->list) = (struct new_annot){ at, 0 };
        }
        return 0;
}

/* ---- appending ---- */

#define INLINE_BYTES (512u << 10)               /* more is not written from the caller's thread */

struct append_job {
        struct job job;
        struct mailbox *m;
        struct append_item *items;
        uint32_t n;
        uint32_t *blob_numbers;                 /* UINT32_MAX: no blob */
        uint32_t replaces;                      /* a UID that is expunged with it; 0: none */
        struct append_result *result;
        struct waiter *waiter;
};

int append_keywords_locked(struct mailbox *m, struct kwneed *need, const struct append_item *item, struct mlog_batch *b, uint32_t *set_r,
                           struct err *err)
{
        uint16_t *ids;
        int rc = 0;

        *set_r = 0;
        if (item->keyword_count == 0)
                return 0;
        if (item->keyword_count > KEYWORDS_MAX)
                return err_set(err, ERR_LIMIT, "more than %d keywords", KEYWORDS_MAX);
        ids = xmalloc(item->keyword_count * sizeof *ids);
        for (uint32_t i = 0; i < item->keyword_count && rc == 0; i++)
                rc = kw_need_name(m, need, item->keywords[i], b, &ids[i], err);
        if (rc == 0)
                rc = kw_need_set(m, need, ids, item->keyword_count, b, set_r, err);
        free(ids);
        return rc;
}

/* In the same batch: with the new message the old one goes, or neither. */
static void add_replaced(struct mailbox *m, struct mlog_batch *b, uint32_t uid, struct uidset *expunged)
{
        uidset_add(expunged, uid);
        expunge_add_record(b, expunged, expunge_unlinks(m));
}

/* Only what the new message takes more than the one that goes needs room (RFC 8508 3.1). */
static int take_room_locked(struct mailbox *m, const struct append_item *items, uint32_t n, uint32_t replaces, struct err *err)
        REQUIRES(m->lock, mailbox_class);
static int take_room_locked(struct mailbox *m, const struct append_item *items, uint32_t n, uint32_t replaces, struct err *err)
{
        int64_t octets = 0, messages = n;
        struct index_rec rec;

        for (uint32_t i = 0; i < n; i++)
                octets += (int64_t)stage_size(items[i].stage);
        if (replaces && index_find(m->ix, replaces, &rec, NULL) == 1) {
                octets -= (int64_t)rec.size;
                messages--;
        }
        return quota_take(m, octets, messages, !items[0].ignore_quota, err);
}

/* Everything under the lock. `at` has the places of the messages' fronts in b->body. */
static int commit_messages(struct mailbox *m, struct mlog_batch *b, const struct append_item *items, const size_t *at, uint32_t n,
                           const struct annots_added *annots, uint32_t replaces, struct append_result *result, struct waiter *waiter,
                           struct err *err) EXCLUDES(mailbox_class)
{
        struct commit c = { .hard = true, .waiter = waiter, .count = n };
        struct kwneed need = { .names = ARRAY_INIT };
        struct index_counters *counters;
        int rc = 0;

        mailbox_lock(m);
        counters = index_counters(m->ix);
        if (replaces && !mailbox_is_live_locked(m, replaces)) {
                struct commit nothing = { .waiter = waiter };

                *result = (struct append_result){ 0, 0, 0, 0 };
                commit_queue_locked(m, &nothing);
                mailbox_unlock(m);
                return 0;
        }
        if (replaces)
                add_replaced(m, b, replaces, &c.expunged);
        if (counters->uidnext > UINT32_MAX - 1 - n)
                rc = err_set(err, ERR_LIMIT, "mailbox %s has used up its UIDs", m->uniqueid);
        if (rc == 0)
                rc = take_room_locked(m, items, n, replaces, err);
        if (rc == 0)
                rc = take_annot_room_locked(m, annots, !items[0].ignore_quota, err);
        for (uint32_t i = 0; i < n && rc == 0; i++) {
                struct mlog_message *f = (struct mlog_message *)(void *)(b->body.data + at[i]);

                rc = append_keywords_locked(m, &need, &items[i], b, &f->kwset, err);
        }
        if (rc == 0) {
                c.first_uid = counters->uidnext;
                c.modseq = mailbox_next_modseq_locked(m);
                new_annots_number(&annots->list, b, c.first_uid);
                *result = (struct append_result){ .uidvalidity = counters->uidvalidity, .first_uid = c.first_uid, .count = n,
                                                  .modseq = c.modseq };
                rc = mailbox_write_locked(m, b, c.modseq, c.first_uid, &c, err);
        } else {
                uidset_deinit(&c.expunged);
        }
        quota_report(m);
        mailbox_unlock(m);
        kwneed_deinit(&need);
        return rc;
}

static int append_now(struct mailbox *m, const struct append_item *items, uint32_t n, const uint32_t *blob_numbers, uint32_t replaces,
                      struct append_result *result, struct waiter *waiter, struct err *err) EXCLUDES(mailbox_class)
{
        struct mlog_batch b;
        size_t *at = xmalloc(n * sizeof *at);
        struct annots_added annots = { .values = 0 };
        int64_t now = clock_wall_s();
        int rc = 0;

        mlog_batch_init(&b);
        for (uint32_t i = 0; i < n && rc == 0; i++) {
                rc = add_message(&b, &items[i], blob_numbers ? blob_numbers[i] : 0, now, &at[i], err);
                if (rc == 0)
                        rc = add_annots(m, &b, &items[i], i, &annots, err);
        }
        if (rc == 0)
                rc = commit_messages(m, &b, items, at, n, &annots, replaces, result, waiter, err);
        mlog_batch_deinit(&b);
        ARRAY_FREE(&annots.list.list);
        annot_growths_deinit(&annots.growths);
        free(at);
        return rc;
}

void append_item_copy(struct append_item *to, const struct append_item *from)
{
        struct span *keywords = xcalloc(from->keyword_count + 1, sizeof *keywords);
        struct annot *annots = xcalloc(from->annots_n + 1, sizeof *annots);

        *to = *from;
        stage_ref(from->stage);
        for (uint32_t i = 0; i < from->annots_n; i++) {
                const struct annot *a = &from->annots[i];

                annots[i] = (struct annot){ xstrdup(a->entry), xstrdup(a->user), { a->value.p ? xstrndup(a->value.p, a->value.len) : NULL,
                                            a->value.len }, 0 };
        }
        to->annots = annots;
        for (uint32_t k = 0; k < from->keyword_count; k++)
                keywords[k] = (struct span){ xstrndup(from->keywords[k].p, from->keywords[k].len), from->keywords[k].len };
        to->keywords = keywords;
}

void append_item_free(struct append_item *item)
{
        for (uint32_t k = 0; k < item->keyword_count; k++)
                free((char *)(uintptr_t)item->keywords[k].p);
        free((struct span *)(uintptr_t)item->keywords);
        for (uint32_t i = 0; i < item->annots_n; i++) {
                free((char *)(uintptr_t)item->annots[i].entry);
                free((char *)(uintptr_t)item->annots[i].user);
                free((char *)(uintptr_t)item->annots[i].value.p);
        }
        free((struct annot *)(uintptr_t)item->annots);
        stage_unref(&item->stage);
}

static void append_job_free(struct append_job *j)
{
        for (uint32_t i = 0; i < j->n; i++)
                append_item_free(&j->items[i]);
        free(j->items);
        free(j->blob_numbers);
        mailbox_unref(&j->m);
        free(j);
}

static int place_blobs(struct append_job *j, struct err *err)
{
        for (uint32_t i = 0; i < j->n; i++) {
                struct stage_content c;

                stage_content(j->items[i].stage, &c);
                if (!c.path)
                        continue;
                if (stage_sync(j->items[i].stage, err) < 0 ||
                    blob_place(j->m, c.path, c.guid, c.size, &j->blob_numbers[i], err) < 0)
                        return -1;
        }
        return 0;
}

static void run_append_job(struct job *job)
{
        struct append_job *j = (struct append_job *)job;
        struct err err = ERR_INIT;
        int rc = place_blobs(j, &err);

        if (rc == 0)
                rc = append_now(j->m, j->items, j->n, j->blob_numbers, j->replaces, j->result, j->waiter, &err);
        for (uint32_t i = 0; i < j->n; i++)
                if (j->blob_numbers[i] != UINT32_MAX)
                        blob_unpin(j->m, stage_guid(j->items[i].stage), j->blob_numbers[i]);
        if (rc < 0)
                waiter_done(j->waiter, &err);
        mailbox_after(j->m);
        append_job_free(j);
}

static struct append_job *append_job_create(struct mailbox *m, const struct append_item *items, uint32_t n)
{
        struct append_job *j = xcalloc(1, sizeof *j);

        j->job.fn = run_append_job;
        j->m = mailbox_ref(m);
        j->items = xcalloc(n, sizeof *j->items);
        j->blob_numbers = xmalloc(n * sizeof *j->blob_numbers);
        j->n = n;
        for (uint32_t i = 0; i < n; i++) {
                append_item_copy(&j->items[i], &items[i]);
                j->blob_numbers[i] = UINT32_MAX;
        }
        return j;
}

static int writable_now(struct mailbox *m, struct err *err) EXCLUDES(mailbox_class)
{
        int rc;

        mailbox_lock(m);
        rc = mailbox_changeable_locked(m, err);
        mailbox_unlock(m);
        return rc;
}

/* `replaces` 0: nothing. */
static int append(struct mailbox *m, const struct append_item *items, uint32_t n, uint32_t replaces, struct append_result *result_r,
                  struct waiter *waiter, struct err *err) EXCLUDES(mailbox_class)
{
        bool blobs = false;
        uint64_t bytes = 0;
        int rc;

        if (n == 0 || writable_now(m, err) < 0)
                return n == 0 ? err_set(err, ERR_INTERNAL, "append of nothing") : -1;
        for (uint32_t i = 0; i < n; i++) {
                struct stage_content c;

                stage_content(items[i].stage, &c);
                blobs = blobs || c.path;
                bytes += c.size;
        }
        if (blobs || bytes > INLINE_BYTES) {
                struct append_job *j = append_job_create(m, items, n);

                j->replaces = replaces;
                j->result = result_r;
                j->waiter = waiter;
                logstore_run(m->ls, &j->job);
                return 0;
        }
        rc = append_now(m, items, n, NULL, replaces, result_r, waiter, err);
        mailbox_after(m);                               /* when it failed too: others' waiters, if the mailbox failed with it */
        return rc;
}

int mailbox_append(struct mailbox *m, const struct append_item *items, uint32_t n, struct append_result *result_r,
                   struct waiter *waiter, struct err *err)
{
        return append(m, items, n, 0, result_r, waiter, err);
}

/* ---- replacing ---- */

int append_build_staged(struct carry *t, struct err *err)
{
        struct stage_content c;
        struct blob_pin *pin;
        struct annots_added annots = { .values = 0 };
        uint32_t number = 0;
        size_t at;

        stage_content(t->staged->stage, &c);
        if (c.path) {
                if (stage_sync(t->staged->stage, err) < 0 || blob_place(t->to, c.path, c.guid, c.size, &number, err) < 0)
                        return -1;
                pin = ARRAY_PUSH(&t->pins);
                memcpy(pin->guid, c.guid, sizeof pin->guid);
                pin->number = number;
        }
        if (add_message(&t->batch, t->staged, number, clock_wall_s(), &at, err) < 0)
                return -1;
        *ARRAY_PUSH(&t->fronts) = at;
        t->bytes = c.size;
        if (add_annots(t->to, &t->batch, t->staged, 0, &annots, err) == 0) {
                t->annots = annots.list;
                t->annot_growths = annots.growths;
                t->annot_values = annots.values;
                return 0;
        }
        ARRAY_FREE(&annots.list.list);
        annot_growths_deinit(&annots.growths);
        return -1;
}

int mailbox_replace(struct mailbox *from, uint32_t uid, struct mailbox *to, const struct append_item *item,
                    struct append_result *result_r, struct waiter *waiter, struct err *err)
{
        return from == to ? append(from, item, 1, uid, result_r, waiter, err)
                          : mailbox_move_replaced(from, uid, to, item, result_r, waiter, err);
}
