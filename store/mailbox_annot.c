/*
 * mailbox_annot - annotations of a mailbox and its messages: a sorted list in memory, records in the log, a blob of the index.
 *
 * Rows are in order of uid (0: the mailbox's), entry, user. A row whose annotation was removed stays, without a value, as the record
 * that says so may meet an older one later in the log (compaction). At the end of loading, rows of messages that were purged go.
 *
 * INDEX_ANNOTATIONS: u32 n, then n times struct annot_saved, entry, user, value.
 */
#include <stdlib.h>

#include "store/annot.h"
#include "store/mailbox_private.h"
#include "util/clock.h"
#include "util/must.h"

struct annot_saved {                            /* as on disk */
        uint32_t uid, entry_len, user_len;
        uint32_t value_len;                     /* UINT32_MAX: removed */
        uint64_t seq, modseq;
};
_Static_assert(sizeof(struct annot_saved) == 32, "on the disk");

struct annot_row {
        uint32_t uid;
        uint32_t value_len;                     /* UINT32_MAX: removed */
        uint64_t seq, modseq;
        char *entry, *user, *value;             /* one piece of memory, with the struct */
};

static struct annot_row *row_create(uint32_t uid, struct span entry, struct span user, struct span value, uint64_t seq, uint64_t modseq)
{
        struct annot_row *row = xmalloc(sizeof *row + entry.len + user.len + value.len + 3);

        row->uid = uid;
        row->value_len = value.p ? (uint32_t)value.len : UINT32_MAX;
        row->seq = seq;
        row->modseq = modseq;
        row->entry = (char *)(row + 1);
        row->user = row->entry + entry.len + 1;
        row->value = row->user + user.len + 1;
        memcpy(row->entry, entry.p, entry.len);
        row->entry[entry.len] = '\0';
        if (user.len)
                memcpy(row->user, user.p, user.len);
        row->user[user.len] = '\0';
        if (value.len)
                memcpy(row->value, value.p, value.len);
        row->value[value.len] = '\0';
        return row;
}

static int compare_key(const struct annot_row *row, uint32_t uid, const char *entry, const char *user)
{
        int c;

        if (row->uid != uid)
                return row->uid < uid ? -1 : 1;
        c = strcmp(row->entry, entry);
        return c ? c : strcmp(row->user, user);
}

/* The first row that is not before this key. */
static size_t lower_bound(const struct annot_tab *t, uint32_t uid, const char *entry, const char *user)
{
        size_t low = 0, high = t->rows.n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (compare_key(t->rows.v[mid], uid, entry, user) < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

static struct annot_row *find_row(const struct annot_tab *t, uint32_t uid, const char *entry, const char *user)
{
        size_t at = lower_bound(t, uid, entry, user);

        return at < t->rows.n && compare_key(t->rows.v[at], uid, entry, user) == 0 ? t->rows.v[at] : NULL;
}

static uint64_t row_bytes(const struct annot_row *row)
{
        return row->value_len == UINT32_MAX ? 0 : (uint64_t)strlen(row->entry) + strlen(row->user) + row->value_len;
}

static void count_row(struct annot_tab *t, const struct annot_row *row, int sign)
{
        t->bytes += (uint64_t)sign * row_bytes(row);
        t->values += (uint64_t)sign * (row->value_len == UINT32_MAX ? 0 : row->value_len);
        if (row->uid && row->value_len != UINT32_MAX)
                t->of_messages += (uint64_t)sign;
}

/* Takes the row. */
static void put_row(struct annot_tab *t, struct annot_row *row)
{
        size_t at = lower_bound(t, row->uid, row->entry, row->user);

        count_row(t, row, 1);
        t->changed = true;
        if (at < t->rows.n && compare_key(t->rows.v[at], row->uid, row->entry, row->user) == 0) {
                count_row(t, t->rows.v[at], -1);
                free(t->rows.v[at]);
                t->rows.v[at] = row;
                return;
        }
        ARRAY_RESERVE(&t->rows, 1);
        memmove(t->rows.v + at + 1, t->rows.v + at, (t->rows.n - at) * sizeof *t->rows.v);
        t->rows.v[at] = row;
        t->rows.n++;
}

/* ---- state ---- */

void annots_forget(struct mailbox *m)
{
        struct annot_tab *t = &m->annots;

        for (size_t i = 0; i < t->rows.n; i++)
                free(t->rows.v[i]);
        ARRAY_FREE(&t->rows);
        memset(t, 0, sizeof *t);
}

void annots_apply(struct mailbox *m, uint32_t uid, uint64_t seq, uint64_t modseq, const struct mlog_annotation *a)
{
        struct span entry = { (const char *)(a + 1), a->entry_len };
        struct span user = { entry.p + entry.len, a->user_len };
        struct span value = { a->value_len == UINT32_MAX ? NULL : user.p + user.len, a->value_len == UINT32_MAX ? 0 : a->value_len };
        struct annot_row *row, *old;

        if (entry.len == 0 || entry.len > ANNOT_ENTRY_MAX || user.len > MLOG_ANNOT_USER_MAX || memchr(entry.p, 0, entry.len) ||
            memchr(user.p, 0, user.len))
                return;
        row = row_create(uid, entry, user, value, seq, modseq);
        old = find_row(&m->annots, uid, row->entry, row->user);
        if (old && old->seq >= seq)
                free(row);
        else
                put_row(&m->annots, row);
}

void annots_purge(struct mailbox *m, const struct uidset *uids)
{
        struct annot_tab *t = &m->annots;
        size_t kept = 0;

        for (size_t i = 0; i < t->rows.n; i++) {
                struct annot_row *row = t->rows.v[i];

                if (row->uid && uidset_has(uids, row->uid)) {
                        count_row(t, row, -1);
                        free(row);
                        t->changed = true;
                } else {
                        t->rows.v[kept++] = row;
                }
        }
        t->rows.n = kept;
}

int annots_settle(struct mailbox *m, struct err *err)
{
        struct uidset gone = UIDSET_INIT;
        uint32_t last = 0;
        int rc = 0;

        m->annots.unsettled = false;
        for (size_t i = 0; i < m->annots.rows.n && rc >= 0; i++) {
                uint32_t uid = m->annots.rows.v[i]->uid;
                struct index_rec rec;

                if (uid == 0 || uid == last)
                        continue;
                last = uid;
                rc = index_find(m->ix, uid, &rec, err);
                if (rc == 0)
                        uidset_add(&gone, uid);
        }
        if (rc >= 0 && !uidset_empty(&gone))
                annots_purge(m, &gone);
        uidset_deinit(&gone);
        return rc < 0 ? -1 : 0;
}

void annots_save(struct mailbox *m)
{
        struct annot_tab *t = &m->annots;
        uint32_t n = (uint32_t)t->rows.n;
        struct str s = STR_INIT;

        if (!t->changed)
                return;
        str_append(&s, &n, sizeof n);
        for (size_t i = 0; i < t->rows.n; i++) {
                const struct annot_row *row = t->rows.v[i];
                struct annot_saved saved = { row->uid, (uint32_t)strlen(row->entry), (uint32_t)strlen(row->user), row->value_len, row->seq,
                                             row->modseq };

                str_append(&s, &saved, sizeof saved);
                str_append(&s, row->entry, saved.entry_len);
                str_append(&s, row->user, saved.user_len);
                if (row->value_len != UINT32_MAX)
                        str_append(&s, row->value, row->value_len);
        }
        index_set_blob(m->ix, INDEX_ANNOTATIONS, s.data, n ? s.len : 0);
        t->changed = false;
        str_deinit(&s);
}

bool annots_load(struct mailbox *m)
{
        struct span s = index_blob(m->ix, INDEX_ANNOTATIONS);
        struct annot_saved saved;
        uint32_t n;

        annots_forget(m);
        if (s.len == 0)
                return true;
        if (s.len < sizeof n)
                return false;
        memcpy(&n, s.p, sizeof n);
        s = (struct span){ s.p + sizeof n, s.len - sizeof n };
        while (n--) {
                uint64_t need;
                struct span value = { NULL, 0 };

                if (s.len < sizeof saved)
                        return false;
                memcpy(&saved, s.p, sizeof saved);
                s = (struct span){ s.p + sizeof saved, s.len - sizeof saved };
                need = (uint64_t)saved.entry_len + saved.user_len + (saved.value_len == UINT32_MAX ? 0 : saved.value_len);
                if (need > s.len || saved.entry_len == 0 || saved.entry_len > ANNOT_ENTRY_MAX)
                        return false;
                if (saved.value_len != UINT32_MAX)
                        value = (struct span){ s.p + saved.entry_len + saved.user_len, saved.value_len };
                put_row(&m->annots, row_create(saved.uid, (struct span){ s.p, saved.entry_len },
                                               (struct span){ s.p + saved.entry_len, saved.user_len }, value, saved.seq, saved.modseq));
                s = (struct span){ s.p + need, s.len - need };
        }
        m->annots.changed = false;
        return true;
}

/* ---- compaction: what the victims mention is written again as it is now ---- */

void annots_note(struct annot_keys *keys, uint32_t uid, const struct mlog_annotation *a)
{
        struct span entry = { (const char *)(a + 1), a->entry_len };
        struct span user = { entry.p + entry.len, a->user_len };

        if (entry.len == 0 || entry.len > ANNOT_ENTRY_MAX || memchr(entry.p, 0, entry.len) || memchr(user.p, 0, user.len))
                return;
        *ARRAY_PUSH(&keys->list) = row_create(uid, entry, user, SPAN(""), 0, 0);
}

static int by_key(const void *a, const void *b)
{
        const struct annot_row *x = *(struct annot_row *const *)a, *y = *(struct annot_row *const *)b;

        return compare_key(x, y->uid, y->entry, y->user);
}

size_t annots_sort(struct annot_keys *keys)
{
        size_t kept = 0;

        if (keys->list.n)
                qsort(keys->list.v, keys->list.n, sizeof *keys->list.v, by_key);
        for (size_t i = 0; i < keys->list.n; i++) {
                if (kept && by_key(&keys->list.v[kept - 1], &keys->list.v[i]) == 0)
                        free(keys->list.v[i]);
                else
                        keys->list.v[kept++] = keys->list.v[i];
        }
        return keys->list.n = kept;
}

void annots_add_noted(struct mailbox *m, const struct annot_keys *keys, size_t from, size_t upto, struct mlog_batch *b, struct str *part)
{
        for (size_t i = from; i < upto; i++) {
                const struct annot_row *key = keys->list.v[i], *row = find_row(&m->annots, key->uid, key->entry, key->user);

                if (row && row->seq != 0)
                        annots_add_record(b, part, row->uid, row->entry, row->user,
                                          (struct span){ row->value_len == UINT32_MAX ? NULL : row->value,
                                                         row->value_len == UINT32_MAX ? 0 : row->value_len }, row->modseq);
        }
}

void annots_keys_deinit(struct annot_keys *keys)
{
        for (size_t i = 0; i < keys->list.n; i++)
                free(keys->list.v[i]);
        ARRAY_FREE(&keys->list);
}

size_t annots_add_record(struct mlog_batch *b, struct str *part, uint32_t uid, const char *entry, const char *user, struct span value,
                         uint64_t modseq)
{
        struct mlog_annotation a = { .uid = uid, .entry_len = (uint32_t)strlen(entry), .user_len = (uint32_t)strlen(user),
                                     .value_len = value.p ? (uint32_t)value.len : UINT32_MAX, .modseq = modseq };
        size_t at = part->len + sizeof(struct mlog_header);
        struct str rest = STR_INIT;

        str_append(&rest, entry, a.entry_len);
        str_append(&rest, user, a.user_len);
        if (value.p && value.len)
                str_append(&rest, value.p, value.len);
        mlog_batch_add(b, part, MLOG_ANNOTATION, &a, sizeof a, rest.data, rest.len, NULL, 0, 0);
        str_deinit(&rest);
        return at;
}

/* ---- reading ---- */

int annot_compare(const struct annot *a, const struct annot *b)
{
        int c = strcmp(a->entry, b->entry);

        return c ? c : strcmp(a->user, b->user);
}

int annot_check_entry(struct span entry, struct err *err)
{
        if (entry.len < 2 || entry.p[0] != '/' || entry.p[entry.len - 1] == '/')
                return err_set(err, ERR_SYNTAX, "An entry's name begins with / and does not end with it");
        if (entry.len > ANNOT_ENTRY_MAX)
                return err_set(err, ERR_SYNTAX, "An entry's name has at most %d octets", ANNOT_ENTRY_MAX);
        for (size_t i = 0; i < entry.len; i++) {
                unsigned char c = (unsigned char)entry.p[i];

                if (c < 0x20 || c >= 0x7f || c == '*' || c == '%' || (c == '/' && entry.p[i + 1] == '/'))
                        return err_set(err, ERR_SYNTAX, "Impossible entry name");
        }
        return 0;
}

uint32_t mailbox_annots(struct mailbox *m, uint32_t uid, struct arena *arena, struct annot **list_r)
{
        uint32_t n = 0, cap = 0;
        size_t at, end;

        *list_r = NULL;
        mailbox_lock(m);
        at = lower_bound(&m->annots, uid, "", "");
        for (end = at; end < m->annots.rows.n && m->annots.rows.v[end]->uid == uid; end++)
                cap += m->annots.rows.v[end]->value_len != UINT32_MAX;
        if (cap)
                *list_r = ARENA_ARRAY(arena, struct annot, cap);
        for (; at < end; at++) {
                const struct annot_row *row = m->annots.rows.v[at];

                if (row->value_len == UINT32_MAX)
                        continue;
                (*list_r)[n++] = (struct annot){ arena_strdup(arena, row->entry), arena_strdup(arena, row->user),
                                                 arena_span(arena, (struct span){ row->value, row->value_len }), row->modseq };
        }
        mailbox_unlock(m);
        return n;
}

bool mailbox_has_message_annots(struct mailbox *m)
{
        bool yes;

        mailbox_lock(m);
        yes = m->annots.of_messages > 0;
        mailbox_unlock(m);
        return yes;
}

/* ---- changing ---- */

static uint32_t count_of(const struct annot_tab *t, uint32_t uid)
{
        uint32_t n = 0;

        for (size_t i = lower_bound(t, uid, "", ""); i < t->rows.n && t->rows.v[i]->uid == uid; i++)
                n += t->rows.v[i]->value_len != UINT32_MAX;
        return n;
}

/* Is it as wanted already? */
static bool is_same(const struct annot_row *row, struct span value)
{
        if (!row || row->value_len == UINT32_MAX)
                return value.p == NULL;
        return value.p && value.len == row->value_len && memcmp(row->value, value.p, value.len) == 0;
}

int annots_plan_locked(struct mailbox *m, uint32_t uid, const struct annot *set, uint32_t n, struct annot_plan *plan, struct mlog_batch *b,
                       uint32_t *written_r, struct err *err)
{
        uint32_t count = count_of(&m->annots, uid);
        int64_t values = 0;

        *written_r = 0;
        for (uint32_t i = 0; i < n; i++) {
                const struct annot_row *row = find_row(&m->annots, uid, set[i].entry, set[i].user);
                bool there = row && row->value_len != UINT32_MAX;

                if (is_same(row, set[i].value))
                        continue;
                if (set[i].value.p && !there && ++count > ANNOT_COUNT_MAX)
                        return err_set(err, ERR_LIMIT, "more than %d annotations", ANNOT_COUNT_MAX);
                if (set[i].value.p) {
                        plan->bytes += set[i].value.len + strlen(set[i].entry) + strlen(set[i].user) - (there ? row_bytes(row) : 0);
                        if (plan->bytes > 0 && m->annots.bytes + (uint64_t)plan->bytes > ANNOT_BYTES_MAX)
                                return err_set(err, ERR_QUOTA, "the annotations of this mailbox are larger than %u octets", ANNOT_BYTES_MAX);
                } else {
                        plan->bytes -= (int64_t)row_bytes(row);
                }
                values += (set[i].value.p ? (int64_t)set[i].value.len : 0) - (there ? (int64_t)row->value_len : 0);
                annots_add_record(b, &b->body, uid, set[i].entry, set[i].user, set[i].value, 0);
                ++*written_r;
        }
        return quota_use(m, QUOTA_ANNOTATION, values, true, err);       /* what is not written is given back by mailbox_write_locked() */
}

struct annotating {
        struct mlog_batch batch;
        ARRAY(struct mlog_flag_entry) entries;  /* of messages that change: their flags as they are, for the new modseq */
        ARRAY(uint64_t) before;
        struct annot_plan plan;
};

static int plan_messages_locked(struct mailbox *m, struct annotating *w, const struct uidset *uids, const struct annot *set, uint32_t n,
                                uint64_t unchangedsince, struct uidset *modified_r, struct uidset *changed_r, struct err *err)
        REQUIRES(m->lock, mailbox_class);
static int plan_messages_locked(struct mailbox *m, struct annotating *w, const struct uidset *uids, const struct annot *set, uint32_t n,
                                uint64_t unchangedsince, struct uidset *modified_r, struct uidset *changed_r, struct err *err)
{
        int rc = 0;

        for (uint32_t i = 0; i < uids->n && rc >= 0; i++) {
                struct index_iter it;
                struct index_rec rec;
                uint32_t written;

                index_iter_init(&it, m->ix, uids->ranges[i].first);
                it.upto_uid = uids->ranges[i].last < m->published_uidnext ? uids->ranges[i].last : m->published_uidnext - 1;
                it.expunged = false;
                if (it.upto_uid < uids->ranges[i].first)
                        break;
                while ((rc = index_next(&it, &rec, err)) == 1) {
                        if (rec.modseq > unchangedsince) {
                                if (modified_r)
                                        uidset_add(modified_r, rec.uid);
                                continue;
                        }
                        if (annots_plan_locked(m, rec.uid, set, n, &w->plan, &w->batch, &written, err) < 0)
                                return -1;
                        if (!written)
                                continue;
                        *ARRAY_PUSH(&w->entries) = (struct mlog_flag_entry){ rec.uid, rec.flags & MSG_SYSTEM_FLAGS, rec.kwset };
                        *ARRAY_PUSH(&w->before) = rec.modseq;
                        if (changed_r)
                                uidset_add(changed_r, rec.uid);
                }
        }
        return rc < 0 ? -1 : 0;
}

int mailbox_annotate_messages(struct mailbox *m, const struct uidset *uids, const struct annot *set, uint32_t n, uint64_t reader,
                              uint64_t unchangedsince, struct uidset *modified_r, struct uidset *changed_r, uint64_t *modseq_r,
                              struct waiter *waiter, struct err *err)
{
        struct commit c = { .waiter = waiter, .hard = true };
        struct annotating w = { .entries = ARRAY_INIT, .before = ARRAY_INIT };
        int rc;

        *modseq_r = 0;
        mlog_batch_init(&w.batch);
        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        if (rc == 0)
                rc = plan_messages_locked(m, &w, uids, set, n, unchangedsince, modified_r, changed_r, err);
        if (rc == 0 && w.entries.n) {
                struct mlog_flags f = { .last_updated = clock_wall_s(), .n = (uint32_t)w.entries.n };

                mlog_batch_add(&w.batch, &w.batch.body, MLOG_FLAGS, &f, sizeof f, w.entries.v, w.entries.n * sizeof *w.entries.v, NULL, 0, 0);
                c.modseq = mailbox_next_modseq_locked(m);
                rc = mailbox_write_locked(m, &w.batch, c.modseq, 0, &c, err);
                if (rc == 0)
                        *modseq_r = c.modseq;
                for (size_t i = 0; i < w.entries.n && rc == 0 && reader; i++)
                        mailbox_note_private_locked(m, w.entries.v[i].uid, c.modseq, w.before.v[i], reader);
        } else if (rc == 0) {
                c.hard = false;
                commit_queue_locked(m, &c);
        }
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&w.batch);
        ARRAY_FREE(&w.entries);
        ARRAY_FREE(&w.before);
        return rc;
}

int mailbox_annotate(struct mailbox *m, const struct annot *set, uint32_t n, struct waiter *waiter, struct err *err)
{
        struct commit c = { .waiter = waiter, .hard = true };
        struct annot_plan plan = { 0 };
        struct mlog_batch b;
        uint32_t written;
        int rc;

        mlog_batch_init(&b);
        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        if (rc == 0)
                rc = annots_plan_locked(m, 0, set, n, &plan, &b, &written, err);
        if (rc == 0 && written) {
                c.modseq = mailbox_next_modseq_locked(m);
                rc = mailbox_write_locked(m, &b, c.modseq, 0, &c, err);
        } else if (rc == 0) {
                c.hard = false;
                commit_queue_locked(m, &c);
        }
        quota_report(m);
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&b);
        return rc;
}
