/*
 * mailbox_append - messages come in. What needs no lock is done before it: the records are laid down with everything but their place,
 * UID and modseq. With blobs in it an append is a job: the octets have to be on disk, and linked, before their record is written.
 */
#include <stdlib.h>

#include "store/mailbox_private.h"
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

/* ---- appending ---- */

#define INLINE_BYTES (512u << 10)               /* more is not written from the caller's thread */

struct append_job {
        struct job job;
        struct mailbox *m;
        struct append_item *items;
        uint32_t n;
        uint32_t *blob_numbers;                 /* UINT32_MAX: no blob */
        struct append_result *result;
        struct waiter *waiter;
};

static int resolve_keywords_locked(struct mailbox *m, struct kwneed *need, const struct append_item *item, struct mlog_batch *b,
                                   uint32_t *set_r, struct err *err) REQUIRES(m->lock, mailbox_class);
static int resolve_keywords_locked(struct mailbox *m, struct kwneed *need, const struct append_item *item, struct mlog_batch *b,
                                   uint32_t *set_r, struct err *err)
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

/* Everything under the lock. `at` has the places of the messages' fronts in b->body. */
static int commit_messages(struct mailbox *m, struct mlog_batch *b, const struct append_item *items, const size_t *at, uint32_t n,
                           struct append_result *result, struct waiter *waiter, struct err *err) EXCLUDES(mailbox_class)
{
        struct commit c = { .hard = true, .waiter = waiter, .count = n };
        struct kwneed need = { ARRAY_INIT, ARRAY_INIT };
        struct index_counters *counters;
        int rc = 0;

        mailbox_lock(m);
        counters = index_counters(m->ix);
        if (counters->uidnext > UINT32_MAX - 1 - n)
                rc = err_set(err, ERR_LIMIT, "mailbox %s has used up its UIDs", m->uniqueid);
        for (uint32_t i = 0; i < n && rc == 0; i++) {
                struct mlog_message *f = (struct mlog_message *)(void *)(b->body.data + at[i]);

                rc = resolve_keywords_locked(m, &need, &items[i], b, &f->kwset, err);
        }
        if (rc == 0) {
                c.first_uid = counters->uidnext;
                c.modseq = mailbox_next_modseq_locked(m);
                *result = (struct append_result){ .uidvalidity = counters->uidvalidity, .first_uid = c.first_uid, .count = n,
                                                  .modseq = c.modseq };
                rc = mailbox_write_locked(m, b, c.modseq, c.first_uid, &c, err);
        }
        mailbox_unlock(m);
        kwneed_deinit(&need);
        return rc;
}

static int append_now(struct mailbox *m, const struct append_item *items, uint32_t n, const uint32_t *blob_numbers,
                      struct append_result *result, struct waiter *waiter, struct err *err) EXCLUDES(mailbox_class)
{
        struct mlog_batch b;
        size_t *at = xmalloc(n * sizeof *at);
        int64_t now = clock_wall_s();
        int rc = 0;

        mlog_batch_init(&b);
        for (uint32_t i = 0; i < n && rc == 0; i++)
                rc = add_message(&b, &items[i], blob_numbers ? blob_numbers[i] : 0, now, &at[i], err);
        if (rc == 0)
                rc = commit_messages(m, &b, items, at, n, result, waiter, err);
        mlog_batch_deinit(&b);
        free(at);
        return rc;
}

static void append_job_free(struct append_job *j)
{
        for (uint32_t i = 0; i < j->n; i++) {
                for (uint32_t k = 0; k < j->items[i].keyword_count; k++)
                        free((char *)(uintptr_t)j->items[i].keywords[k].p);
                free((struct span *)(uintptr_t)j->items[i].keywords);
                stage_unref(&j->items[i].stage);
        }
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
                rc = append_now(j->m, j->items, j->n, j->blob_numbers, j->result, j->waiter, &err);
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
                struct span *keywords = xcalloc(items[i].keyword_count + 1, sizeof *keywords);

                j->items[i] = items[i];
                stage_ref(items[i].stage);
                for (uint32_t k = 0; k < items[i].keyword_count; k++) {
                        struct span from = items[i].keywords[k];

                        keywords[k] = (struct span){ xstrndup(from.p, from.len), from.len };
                }
                j->items[i].keywords = keywords;
                j->blob_numbers[i] = UINT32_MAX;
        }
        return j;
}

static int writable_now(struct mailbox *m, struct err *err) EXCLUDES(mailbox_class)
{
        int rc;

        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        mailbox_unlock(m);
        return rc;
}

int mailbox_append(struct mailbox *m, const struct append_item *items, uint32_t n, struct append_result *result_r,
                   struct waiter *waiter, struct err *err)
{
        bool blobs = false;
        uint64_t bytes = 0;

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

                j->result = result_r;
                j->waiter = waiter;
                logstore_run(m->ls, &j->job);
                return 0;
        }
        if (append_now(m, items, n, NULL, result_r, waiter, err) < 0) {
                mailbox_after(m);                       /* others' waiters, if the mailbox failed with it */
                return -1;
        }
        mailbox_after(m);
        return 0;
}
