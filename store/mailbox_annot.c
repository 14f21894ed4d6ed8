/*
 * mailbox_annot - annotations of a mailbox and its messages: a sorted list in memory, records in the log, a blob of the index.
 *
 * Rows are in order of uid (0: the mailbox's), entry, user, in chunks, so that a row is put between others without moving them all. A row
 * whose annotation was removed stays, without a value, as the record that says so may meet an older one later in the log (compaction).
 * When such rows become many, compaction writes all annotations anew behind a *floor*: a record that says that all with a lower local
 * sequence number are void (entry_len 0, its modseq is the floor). At the end of loading, rows of messages that were purged go.
 *
 * Users stand in rows and records as annot_user.h makes them.
 *
 * In the index each chunk is a part, so that a checkpoint writes those that changed: u32 n, then n times struct annot_saved, entry, user, value.
 * INDEX_ANNOTATIONS is u32 0 and u64 the floor; older ones have all rows there, n of them before the floor, and no parts.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "store/annot.h"
#include "store/annot_user.h"
#include "store/mailbox_private.h"
#include "util/clock.h"
#include "util/must.h"

#define CHUNK_BYTES (32u << 10)                 /* … of a chunk of more than one row, about */
#define ROW_BYTES 64                            /* what a row takes besides its texts, about */
#define REWRITE_BYTES (256u << 10)              /* removed rows that are worth writing all others anew for */

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
        struct annot_share *share;              /* of the table that it is in */
        char *entry, *user, *value;             /* one piece of memory, with the struct */
};

static struct annot_row *row_create(uint32_t uid, struct span entry, struct span user, struct span value, uint64_t seq, uint64_t modseq)
{
        struct annot_row *row = xmalloc(sizeof *row + entry.len + user.len + value.len + 3);

        row->uid = uid;
        row->value_len = value.p ? (uint32_t)value.len : UINT32_MAX;
        row->seq = seq;
        row->modseq = modseq;
        row->share = NULL;
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

static bool is_removed(const struct annot_row *row)
{
        return row->value_len == UINT32_MAX;
}

static struct span value_of(const struct annot_row *row)
{
        return is_removed(row) ? (struct span){ NULL, 0 } : (struct span){ row->value, row->value_len };
}

static int compare_key(const struct annot_row *row, uint32_t uid, const char *entry, const char *user)
{
        int c;

        if (row->uid != uid)
                return row->uid < uid ? -1 : 1;
        c = strcmp(row->entry, entry);
        return c ? c : strcmp(row->user, user);
}

/* ---- rows in chunks ---- */

struct place {                                  /* of a row; at the end chunk is chunks.n */
        size_t chunk;
        uint32_t at;
};

static struct annot_row *row_at(const struct annot_tab *t, struct place p)
{
        return p.chunk < t->chunks.n ? t->chunks.v[p.chunk]->v[p.at] : NULL;
}

static struct place next_place(const struct annot_tab *t, struct place p)
{
        if (++p.at < t->chunks.v[p.chunk]->n)
                return p;
        return (struct place){ p.chunk + 1, 0 };
}

/* The first row that is not before this key. */
static struct place lower_bound(const struct annot_tab *t, uint32_t uid, const char *entry, const char *user)
{
        struct place p = { 0, 0 };
        size_t low = 0, high = t->chunks.n;

        while (low < high) {                    /* the first chunk whose last row is not before it */
                size_t mid = low + (high - low) / 2;
                const struct annot_chunk *c = t->chunks.v[mid];

                if (compare_key(c->v[c->n - 1], uid, entry, user) < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        p.chunk = low;
        if (low == t->chunks.n)
                return p;
        for (low = 0, high = t->chunks.v[p.chunk]->n; low < high;) {
                size_t mid = low + (high - low) / 2;

                if (compare_key(t->chunks.v[p.chunk]->v[mid], uid, entry, user) < 0)
                        low = mid + 1;
                else
                        high = mid;
        }
        p.at = (uint32_t)low;
        return p;
}

static struct annot_row *find_row(const struct annot_tab *t, uint32_t uid, const char *entry, const char *user)
{
        struct annot_row *row = row_at(t, lower_bound(t, uid, entry, user));

        return row && compare_key(row, uid, entry, user) == 0 ? row : NULL;
}

static uint64_t row_bytes(const struct annot_row *row)
{
        return ROW_BYTES + (uint64_t)strlen(row->entry) + strlen(row->user) + (is_removed(row) ? 0 : row->value_len);
}

static struct annot_chunk *add_chunk(struct annot_tab *t, size_t at)
{
        struct annot_chunk *c = xcalloc(1, sizeof *c);

        ARRAY_RESERVE(&t->chunks, 1);
        memmove(t->chunks.v + at + 1, t->chunks.v + at, (t->chunks.n - at) * sizeof *t->chunks.v);
        t->chunks.v[at] = c;
        t->chunks.n++;
        return c;
}

static void chunk_changed(struct annot_tab *t, struct annot_chunk *c)
{
        index_part_unref(&c->saved);
        t->changed = true;
}

static void chunk_free(struct annot_chunk *c)
{
        index_part_unref(&c->saved);
        free(c);
}

/* What is behind the first `stay` rows becomes a chunk of its own; returns that. */
static struct annot_chunk *split_chunk(struct annot_tab *t, size_t at, uint32_t stay)
{
        struct annot_chunk *c = t->chunks.v[at], *more = add_chunk(t, at + 1);

        more->n = c->n - stay;
        memcpy(more->v, c->v + stay, more->n * sizeof *more->v);
        for (uint32_t i = 0; i < more->n; i++)
                more->bytes += row_bytes(more->v[i]);
        c->n = stay;
        c->bytes -= more->bytes;
        chunk_changed(t, c);
        return more;
}

/* Before what is at `p`. Rows that come in order fill one chunk after the other; others halve a full one. */
static void insert_row(struct annot_tab *t, struct place p, struct annot_row *row)
{
        struct annot_chunk *c;

        if (p.chunk == t->chunks.n && p.chunk > 0) {
                p.chunk--;
                p.at = t->chunks.v[p.chunk]->n;
        }
        c = p.chunk < t->chunks.n ? t->chunks.v[p.chunk] : add_chunk(t, 0);
        if (c->n == ANNOT_CHUNK || (c->n && c->bytes + row_bytes(row) > CHUNK_BYTES)) {
                if (p.at == c->n) {
                        c = add_chunk(t, p.chunk + 1);
                        p.at = 0;
                } else if (p.at == 0) {
                        c = add_chunk(t, p.chunk);
                } else {
                        uint32_t stay = c->n / 2;
                        struct annot_chunk *more = split_chunk(t, p.chunk, stay);

                        if (p.at > stay) {
                                c = more;
                                p.at -= stay;
                        }
                }
        }
        memmove(c->v + p.at + 1, c->v + p.at, (c->n - p.at) * sizeof *c->v);
        c->v[p.at] = row;
        c->n++;
        c->bytes += row_bytes(row);
        chunk_changed(t, c);
}

/* Frees the former row. */
static void replace_row(struct annot_tab *t, struct place p, struct annot_row *row)
{
        struct annot_chunk *c = t->chunks.v[p.chunk];

        c->bytes += row_bytes(row) - row_bytes(c->v[p.at]);
        free(c->v[p.at]);
        c->v[p.at] = row;
        chunk_changed(t, c);
        if (c->bytes > 2 * CHUNK_BYTES && c->n > 1)
                split_chunk(t, p.chunk, c->n / 2);
}

/* ---- shares ---- */

static struct annot_share *find_share(const struct annot_tab *t, const char *user)
{
        return t->shares ? table_find(t->shares, span_of(user)) : NULL;
}

static struct annot_share *need_share(struct annot_tab *t, const char *user)
{
        struct annot_share *share = find_share(t, user);

        if (share)
                return share;
        if (!t->shares)
                t->shares = table_create();
        share = xcalloc(1, sizeof *share);
        share->shared = !*user;
        table_set(t->shares, span_of(user), share);
        return share;
}

static void forget_shares(struct annot_tab *t)
{
        struct span user;
        void *share;

        for (size_t pos = 0; t->shares && table_next(t->shares, &pos, &user, &share);)
                free(share);
        if (t->shares)
                table_destroy(&t->shares);
}

static uint64_t share_max(bool shared)
{
        return shared ? ANNOT_SHARED_BYTES_MAX : ANNOT_PRIVATE_BYTES_MAX;
}

/* Are there so many removed rows of this share that all annotations should be written anew? */
static bool share_wants_rewrite(const struct annot_share *share)
{
        return share->removed > share_max(share->shared) / 2;
}

static void count_row(struct annot_tab *t, const struct annot_row *row, int sign)
{
        struct annot_share *share = row->share;
        uint64_t by = (uint64_t)(int64_t)sign, bytes = by * row_bytes(row);

        t->bytes += bytes;
        t->rows += by;
        share->bytes += bytes;
        share->rows += by;
        if (is_removed(row)) {
                t->removed += bytes;
                share->removed += bytes;
        } else {
                t->values += by * row->value_len;
                if (row->uid)
                        t->of_messages += by;
                else
                        share->of_mailbox += (uint32_t)sign;
        }
        if (share->rows == 0) {
                table_set(t->shares, span_of(row->user), NULL);
                free(share);
        }
}

/* Takes the row. */
static void put_row(struct annot_tab *t, struct annot_row *row)
{
        struct place p = lower_bound(t, row->uid, row->entry, row->user);
        struct annot_row *old = row_at(t, p);

        row->share = need_share(t, row->user);
        count_row(t, row, 1);
        if (old && compare_key(old, row->uid, row->entry, row->user) == 0) {
                count_row(t, old, -1);
                replace_row(t, p, row);
                return;
        }
        insert_row(t, p, row);
}

/* Small neighbours become one: the former takes the rows of `c`. */
static bool join_chunk(struct annot_tab *t, struct annot_chunk *to, struct annot_chunk *c)
{
        if (to->n + c->n > ANNOT_CHUNK / 2 || to->bytes + c->bytes > CHUNK_BYTES / 2)
                return false;
        memcpy(to->v + to->n, c->v, c->n * sizeof *c->v);
        to->n += c->n;
        to->bytes += c->bytes;
        chunk_changed(t, to);
        return true;
}

/* Rows for which `goes` says so go. */
static void drop_rows(struct annot_tab *t, bool (*goes)(const struct annot_row *row, const void *ctx), const void *ctx)
{
        size_t chunks = 0;

        for (size_t i = 0; i < t->chunks.n; i++) {
                struct annot_chunk *c = t->chunks.v[i];
                uint32_t kept = 0;

                for (uint32_t k = 0; k < c->n; k++) {
                        struct annot_row *row = c->v[k];

                        if (!goes(row, ctx)) {
                                c->v[kept++] = row;
                                continue;
                        }
                        c->bytes -= row_bytes(row);
                        count_row(t, row, -1);
                        free(row);
                        chunk_changed(t, c);
                }
                c->n = kept;
                if (kept && !(chunks && join_chunk(t, t->chunks.v[chunks - 1], c)))
                        t->chunks.v[chunks++] = c;
                else
                        chunk_free(c);
        }
        t->chunks.n = chunks;
}

/* ---- state ---- */

void annots_forget(struct mailbox *m)
{
        struct annot_tab *t = &m->annots;

        for (size_t i = 0; i < t->chunks.n; i++) {
                for (uint32_t k = 0; k < t->chunks.v[i]->n; k++)
                        free(t->chunks.v[i]->v[k]);
                chunk_free(t->chunks.v[i]);
        }
        ARRAY_FREE(&t->chunks);
        forget_shares(t);
        memset(t, 0, sizeof *t);
}

static bool mostly_removed(const struct annot_tab *t)
{
        return t->removed >= REWRITE_BYTES && t->removed > t->bytes / 2;
}

static bool is_below_floor(const struct annot_row *row, const void *floor)
{
        return row->seq < *(const uint64_t *)floor;
}

void annots_apply(struct mailbox *m, uint32_t uid, uint64_t seq, uint64_t modseq, const struct mlog_annotation *a)
{
        struct span entry = { (const char *)(a + 1), a->entry_len };
        struct span user = { entry.p + entry.len, a->user_len };
        struct span value = { a->value_len == UINT32_MAX ? NULL : user.p + user.len, a->value_len == UINT32_MAX ? 0 : a->value_len };
        struct annot_tab *t = &m->annots;
        struct annot_row *row, *old;

        if (entry.len == 0 && a->modseq > t->floor) {
                t->floor = a->modseq;
                t->changed = true;
                drop_rows(t, is_below_floor, &t->floor);
        }
        if (entry.len == 0 || entry.len > ANNOT_ENTRY_MAX || user.len > MLOG_ANNOT_USER_MAX || memchr(entry.p, 0, entry.len) ||
            memchr(user.p, 0, user.len) || seq < t->floor)
                return;
        row = row_create(uid, entry, user, value, seq, modseq);
        old = find_row(t, uid, row->entry, row->user);
        if (old && old->seq >= seq) {
                free(row);
                return;
        }
        put_row(t, row);
        t->version++;
        if (uid)
                index_forget_sums(m->ix, uid);
        if (mostly_removed(t) || share_wants_rewrite(row->share))
                m->compact_wanted = true;
}

static bool is_of(const struct annot_row *row, const void *uids)
{
        return row->uid && uidset_has(uids, row->uid);
}

void annots_purge(struct mailbox *m, const struct uidset *uids)
{
        if (m->annots.rows)
                drop_rows(&m->annots, is_of, uids);
}

int annots_settle(struct mailbox *m, struct err *err)
{
        struct uidset gone = UIDSET_INIT;
        struct place p = { 0, 0 };
        uint32_t last = 0;
        struct annot_row *row;
        int rc = 0;

        m->annots.unsettled = false;
        for (; (row = row_at(&m->annots, p)) && rc >= 0; p = next_place(&m->annots, p)) {
                struct index_rec rec;

                if (row->uid == 0 || row->uid == last)
                        continue;
                last = row->uid;
                rc = index_find(m->ix, row->uid, &rec, err);
                if (rc == 0)
                        uidset_add(&gone, row->uid);
        }
        if (rc >= 0 && !uidset_empty(&gone))
                annots_purge(m, &gone);
        uidset_deinit(&gone);
        return rc < 0 ? -1 : 0;
}

static void save_row(struct str *s, const struct annot_row *row)
{
        struct annot_saved saved = { row->uid, (uint32_t)strlen(row->entry), (uint32_t)strlen(row->user), row->value_len, row->seq,
                                     row->modseq };

        str_append(s, &saved, sizeof saved);
        str_append(s, row->entry, saved.entry_len);
        str_append(s, row->user, saved.user_len);
        str_append_span(s, value_of(row));
}

static void save_chunk(struct annot_chunk *c)
{
        struct str s = STR_INIT;

        str_append(&s, &c->n, sizeof c->n);
        for (uint32_t i = 0; i < c->n; i++)
                save_row(&s, c->v[i]);
        c->saved = index_part_create(str_span(&s));
        str_deinit(&s);
}

void annots_save(struct mailbox *m)
{
        struct annot_tab *t = &m->annots;
        ARRAY(struct index_part *) parts = ARRAY_INIT;
        char blob[sizeof(uint32_t) + sizeof t->floor] = { 0 };

        if (!t->changed)
                return;
        ARRAY_RESERVE(&parts, t->chunks.n);
        for (size_t i = 0; i < t->chunks.n; i++) {
                if (!t->chunks.v[i]->saved)
                        save_chunk(t->chunks.v[i]);
                *ARRAY_PUSH(&parts) = t->chunks.v[i]->saved;
        }
        index_set_parts(m->ix, parts.v, parts.n);
        memcpy(blob + sizeof(uint32_t), &t->floor, sizeof t->floor);
        index_set_blob(m->ix, INDEX_ANNOTATIONS, blob, t->floor ? sizeof blob : 0);
        t->changed = false;
        ARRAY_FREE(&parts);
}

/* Take the next row off; NULL: it cannot be. */
static struct annot_row *load_row(struct span *s)
{
        struct span entry, user, value = { NULL, 0 };
        struct annot_saved saved;
        uint64_t need;

        if (s->len < sizeof saved)
                return NULL;
        memcpy(&saved, s->p, sizeof saved);
        *s = (struct span){ s->p + sizeof saved, s->len - sizeof saved };
        need = (uint64_t)saved.entry_len + saved.user_len + (saved.value_len == UINT32_MAX ? 0 : saved.value_len);
        if (need > s->len || saved.entry_len == 0 || saved.entry_len > ANNOT_ENTRY_MAX || saved.user_len > MLOG_ANNOT_USER_MAX)
                return NULL;
        entry = (struct span){ s->p, saved.entry_len };
        user = (struct span){ entry.p + entry.len, saved.user_len };
        if (saved.value_len != UINT32_MAX)
                value = (struct span){ user.p + user.len, saved.value_len };
        *s = (struct span){ s->p + need, s->len - need };
        return row_create(saved.uid, entry, user, value, saved.seq, saved.modseq);
}

static int not_saved_so(struct err *err)
{
        return err_set(err, ERR_CORRUPT, "annotations of the index cannot be");
}

/* One part is one chunk, behind those that were loaded before. */
static int load_chunk(struct annot_tab *t, struct index_part *part, struct span s, struct err *err)
{
        struct annot_chunk *before = t->chunks.n ? t->chunks.v[t->chunks.n - 1] : NULL, *c;
        const struct annot_row *last = before ? before->v[before->n - 1] : NULL;
        struct annot_row *row;
        uint32_t n;

        if (s.len < sizeof n)
                return not_saved_so(err);
        memcpy(&n, s.p, sizeof n);
        s = (struct span){ s.p + sizeof n, s.len - sizeof n };
        if (n == 0 || n > ANNOT_CHUNK)
                return not_saved_so(err);
        c = add_chunk(t, t->chunks.n);
        while (n--) {
                row = load_row(&s);
                if (!row || (last && compare_key(last, row->uid, row->entry, row->user) >= 0)) {
                        free(row);
                        return not_saved_so(err);
                }
                row->share = need_share(t, row->user);
                count_row(t, row, 1);
                c->bytes += row_bytes(row);
                c->v[c->n++] = row;
                last = row;
        }
        c->saved = index_part_ref(part);
        return s.len == 0 ? 0 : not_saved_so(err);
}

/* As an older index has them: all rows in the blob. */
static int load_blob(struct annot_tab *t, struct span s, struct err *err)
{
        struct annot_row *row;
        uint32_t n;

        if (s.len == 0)
                return 0;
        if (s.len < sizeof n)
                return not_saved_so(err);
        memcpy(&n, s.p, sizeof n);
        s = (struct span){ s.p + sizeof n, s.len - sizeof n };
        while (n--) {
                row = load_row(&s);
                if (!row)
                        return not_saved_so(err);
                put_row(t, row);
        }
        if (s.len >= sizeof t->floor)
                memcpy(&t->floor, s.p, sizeof t->floor);
        return 0;
}

int annots_load(struct mailbox *m, struct err *err)
{
        struct annot_tab *t = &m->annots;
        struct index_part *const *parts;
        struct str text = STR_INIT;
        size_t n = index_parts(m->ix, &parts);
        int rc;

        annots_forget(m);
        rc = load_blob(t, index_blob(m->ix, INDEX_ANNOTATIONS), err);
        if (rc == 0 && n && t->rows)
                rc = not_saved_so(err);
        for (size_t i = 0; i < n && rc == 0; i++) {
                rc = index_part_read(parts[i], &text, err);
                if (rc == 0)
                        rc = load_chunk(t, parts[i], str_span(&text), err);
        }
        str_deinit(&text);
        return rc;
}

/* ---- compaction: what the victims mention is written again as it is now, or all of it ---- */

bool annots_want_rewrite(const struct mailbox *m)
{
        const struct annot_tab *t = &m->annots;
        struct span user;
        void *share;

        for (size_t pos = 0; t->shares && table_next(t->shares, &pos, &user, &share);)
                if (share_wants_rewrite(share))
                        return true;
        return mostly_removed(t);
}

void annots_note(struct annot_keys *keys, uint32_t uid, const struct mlog_annotation *a)
{
        struct span entry = { (const char *)(a + 1), a->entry_len };
        struct span user = { entry.p + entry.len, a->user_len };

        if (entry.len == 0 && a->modseq > keys->floor)
                keys->floor = a->modseq;
        if (entry.len == 0 || entry.len > ANNOT_ENTRY_MAX || user.len > MLOG_ANNOT_USER_MAX || memchr(entry.p, 0, entry.len) ||
            memchr(user.p, 0, user.len))
                return;
        *ARRAY_PUSH(&keys->list) = row_create(uid, entry, user, SPAN(""), 0, 0);
}

void annots_note_all(struct annot_keys *keys, const struct mailbox *m)
{
        struct place p = { 0, 0 };
        struct annot_row *row;

        for (; (row = row_at(&m->annots, p)); p = next_place(&m->annots, p))
                if (!is_removed(row))
                        *ARRAY_PUSH(&keys->list) = row_create(row->uid, span_of(row->entry), span_of(row->user), SPAN(""), 0, 0);
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

                if (row && row->seq != 0 && !(keys->rewrite && (is_removed(row) || row->seq >= keys->floor)))
                        annots_add_record(b, part, row->uid, row->entry, row->user, value_of(row), row->modseq);
        }
}

void annots_add_floor(uint64_t floor, struct mlog_batch *b, struct str *part)
{
        struct mlog_annotation a = { .value_len = UINT32_MAX, .modseq = floor };

        mlog_batch_add(b, part, MLOG_ANNOTATION, &a, sizeof a, NULL, 0, NULL, 0, 0);
}

static bool is_removed_below(const struct annot_row *row, const void *floor)
{
        return is_removed(row) && is_below_floor(row, floor);
}

void annots_rewritten(struct mailbox *m, uint64_t floor)
{
        struct annot_tab *t = &m->annots;
        struct place p = { 0, 0 };
        struct annot_row *row;

        drop_rows(t, is_removed_below, &floor);
        for (; (row = row_at(t, p)); p = next_place(t, p)) {
                if (row->seq >= floor)
                        continue;
                row->seq = floor;
                chunk_changed(t, t->chunks.v[p.chunk]);
        }
        t->floor = floor;
        t->changed = true;
        index_touch(m->ix);                             /* a checkpoint is to follow, whether or not messages were moved */
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

/* One user's, or everybody's: his key is looked up before, and names after the lock was held. */
static uint32_t copy_rows(struct mailbox *m, uint32_t uid, const char *user, const char *key, struct arena *arena, struct annot **list_r)
        EXCLUDES(mailbox_class);
static uint32_t copy_rows(struct mailbox *m, uint32_t uid, const char *user, const char *key, struct arena *arena, struct annot **list_r)
{
        const struct annot_row *row;
        struct place p, begin;
        uint32_t n = 0, cap = 0;

        *list_r = NULL;
        mailbox_lock(m);
        begin = p = lower_bound(&m->annots, uid, "", "");
        for (; (row = row_at(&m->annots, p)) && row->uid == uid; p = next_place(&m->annots, p))
                cap += !is_removed(row);
        if (cap)
                *list_r = ARENA_ARRAY(arena, struct annot, cap);
        for (p = begin; n < cap && (row = row_at(&m->annots, p)) && row->uid == uid; p = next_place(&m->annots, p)) {
                if (is_removed(row) || (user && *row->user && strcmp(row->user, key) != 0))
                        continue;
                (*list_r)[n++] = (struct annot){ arena_strdup(arena, row->entry),
                                                 !*row->user ? "" : user ? user : arena_strdup(arena, row->user),
                                                 arena_span(arena, value_of(row)), row->modseq };
        }
        mailbox_unlock(m);
        return n;
}

static int by_name(const void *a, const void *b)
{
        return annot_compare(a, b);
}

/* Keys become names; those of nobody any more go. */
static uint32_t name_users(struct store *store, struct arena *arena, struct annot *list, uint32_t n)
{
        uint32_t kept = 0;

        for (uint32_t i = 0; i < n; i++) {
                const char *name = *list[i].user ? annot_user_name(store, list[i].user, arena) : "";

                if (!name)
                        continue;
                list[kept] = list[i];
                list[kept++].user = name;
        }
        if (kept)
                qsort(list, kept, sizeof *list, by_name);
        return kept;
}

uint32_t annots_of_range_locked(struct mailbox *m, uint32_t first, uint32_t last, struct arena *arena, struct annot_of **list_r)
{
        struct place p, begin = lower_bound(&m->annots, first, "", "");
        const struct annot_row *row;
        uint32_t n = 0, cap = 0;

        for (p = begin; (row = row_at(&m->annots, p)) && row->uid <= last; p = next_place(&m->annots, p))
                cap += !is_removed(row);
        *list_r = cap ? ARENA_ARRAY(arena, struct annot_of, cap) : NULL;
        for (p = begin; n < cap && (row = row_at(&m->annots, p)); p = next_place(&m->annots, p))
                if (!is_removed(row))
                        (*list_r)[n++] = (struct annot_of){ row->uid, { arena_strdup(arena, row->entry), arena_strdup(arena, row->user),
                                                                        arena_span(arena, value_of(row)), row->modseq } };
        return n;
}

static int by_uid_and_name(const void *a, const void *b)
{
        const struct annot_of *x = a, *y = b;

        return x->uid != y->uid ? (x->uid < y->uid ? -1 : 1) : annot_compare(&x->annot, &y->annot);
}

uint32_t annots_name_users(struct store *store, struct arena *arena, struct annot_of *list, uint32_t n)
{
        uint32_t kept = 0;

        for (uint32_t i = 0; i < n; i++) {
                const char *name = *list[i].annot.user ? annot_user_name(store, list[i].annot.user, arena) : "";

                if (!name)
                        continue;
                list[kept] = list[i];
                list[kept++].annot.user = name;
        }
        if (kept > 1)
                qsort(list, kept, sizeof *list, by_uid_and_name);
        return kept;
}

uint32_t annots_as_logged(struct mailbox *m, uint32_t uid, struct arena *arena, struct annot **list_r)
{
        return copy_rows(m, uid, NULL, "", arena, list_r);
}

uint32_t mailbox_annots(struct mailbox *m, uint32_t uid, const char *user, struct arena *arena, struct annot **list_r)
{
        char key[ANNOT_USER_KEY_MAX] = "";
        uint32_t n;

        if (user && !annot_user_key(m->store, user, key))
                key[0] = '\0';                          /* nobody's: only the shared ones are */
        n = copy_rows(m, uid, user, key, arena, list_r);
        return user ? n : name_users(m->store, arena, *list_r, n);
}

uint32_t mailbox_annot_names(struct mailbox *m, uint32_t uid, const char *user, uint64_t since, struct arena *arena,
                             const char ***entries_r)
{
        char key[ANNOT_USER_KEY_MAX] = "";
        const struct annot_row *row;
        const char **entries = NULL;
        uint32_t n = 0, cap = 0;
        struct place p;

        if (!annot_user_key(m->store, user, key))
                key[0] = '\0';
        mailbox_lock(m);
        for (p = lower_bound(&m->annots, uid, "", ""); (row = row_at(&m->annots, p)) && row->uid == uid; p = next_place(&m->annots, p)) {
                if (row->modseq <= since || (*row->user && strcmp(row->user, key) != 0) || (n && strcmp(entries[n - 1], row->entry) == 0))
                        continue;
                if (n == cap) {
                        const char **more = ARENA_ARRAY(arena, const char *, cap = cap ? 2 * cap : 8);

                        if (n)
                                memcpy(more, entries, n * sizeof *more);
                        entries = more;
                }
                entries[n++] = arena_strdup(arena, row->entry);
        }
        mailbox_unlock(m);
        *entries_r = entries;
        return n;
}

void mailbox_annot_values(struct mailbox *m, uint32_t uid, const char *entry, const char *user, struct arena *arena,
                          struct span *shared_r, struct span *private_r)
{
        char key[ANNOT_USER_KEY_MAX];
        bool known = annot_user_key(m->store, user, key);
        const struct annot_row *row;

        mailbox_lock(m);
        row = find_row(&m->annots, uid, entry, "");
        *shared_r = row && !is_removed(row) ? arena_span(arena, value_of(row)) : (struct span){ NULL, 0 };
        row = known ? find_row(&m->annots, uid, entry, key) : NULL;
        *private_r = row && !is_removed(row) ? arena_span(arena, value_of(row)) : (struct span){ NULL, 0 };
        mailbox_unlock(m);
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

struct placed {
        struct annot annot;
        uint32_t at;
};

static int by_name_and_place(const void *a, const void *b)
{
        const struct placed *x = a, *y = b;
        int c = annot_compare(&x->annot, &y->annot);

        return c ? c : (x->at > y->at) - (x->at < y->at);
}

int annots_resolve(struct mailbox *m, const struct annot *set, uint32_t n, struct arena *arena, struct annot **keyed_r, uint32_t *n_r,
                   struct err *err)
{
        struct placed *in = ARENA_ARRAY(arena, struct placed, n ? n : 1);
        struct annot *keyed = ARENA_ARRAY(arena, struct annot, n ? n : 1);
        char key[ANNOT_USER_KEY_MAX];
        uint32_t kept = 0;

        for (uint32_t i = 0; i < n; i++)
                in[i] = (struct placed){ set[i], i };
        if (n > 1)
                qsort(in, n, sizeof *in, by_name_and_place);
        for (uint32_t i = 0; i < n; i++) {
                const struct annot *a = &in[i].annot;

                if (i + 1 < n && annot_compare(a, &in[i + 1].annot) == 0)       /* the last one counts */
                        continue;
                keyed[kept] = *a;
                if (*a->user) {
                        if (!annot_user_key(m->store, a->user, key)) {
                                if (!a->value.p)        /* he has none that could be removed */
                                        continue;
                                return err_set(err, ERR_BUSY, "user %s has no key for annotations, or not any more", a->user);
                        }
                        keyed[kept].user = arena_strdup(arena, key);
                }
                kept++;
        }
        *keyed_r = keyed;
        *n_r = kept;
        return 0;
}

/* Those with a value: shared ones, or one user's. */
static uint32_t count_of(const struct annot_tab *t, uint32_t uid, const char *user)
{
        const struct annot_share *share = find_share(t, user);
        struct place p = lower_bound(t, uid, "", "");
        const struct annot_row *row;
        uint32_t n = 0;

        if (!share || uid == 0)
                return share ? share->of_mailbox : 0;
        for (; (row = row_at(t, p)) && row->uid == uid; p = next_place(t, p))
                n += !is_removed(row) && strcmp(row->user, user) == 0;
        return n;
}

/* Is it as wanted already? */
static bool is_same(const struct annot_row *row, struct span value)
{
        if (!row || is_removed(row))
                return value.p == NULL;
        return value.p && value.len == row->value_len && memcmp(row->value, value.p, value.len) == 0;
}

/* How many of each user, "" among them, there will be: there are few in one call. */
struct user_count {
        const char *user;
        uint32_t count;
};
struct user_counts { ARRAY(struct user_count) list; };

static uint32_t *count_for(const struct annot_tab *t, uint32_t uid, const char *user, struct user_counts *counts)
{
        for (size_t i = 0; i < counts->list.n; i++)
                if (strcmp(counts->list.v[i].user, user) == 0)
                        return &counts->list.v[i].count;
        *ARRAY_PUSH(&counts->list) = (struct user_count){ user, count_of(t, uid, user) };
        return &counts->list.v[counts->list.n - 1].count;
}

int annots_check_new(const struct annot *set, uint32_t n, struct err *err)
{
        const struct annot_tab none = { .rows = 0 };
        struct user_counts counts = { ARRAY_INIT };
        int rc = 0;

        for (uint32_t i = 0; i < n && rc == 0; i++)
                if (set[i].value.p && ++*count_for(&none, 0, set[i].user, &counts) > ANNOT_COUNT_MAX)
                        rc = err_set(err, ERR_LIMIT, "more than %d annotations", ANNOT_COUNT_MAX);
        ARRAY_FREE(&counts.list);
        return rc;
}

static int plan_one(const struct annot_tab *t, uint32_t uid, const struct annot *a, struct user_counts *counts, struct annot_plan *plan,
                    struct err *err)
{
        const struct annot_row *row = find_row(t, uid, a->entry, a->user);
        bool there = row && !is_removed(row);

        if (is_same(row, a->value))
                return 0;
        if (a->value.p && !there && ++*count_for(t, uid, a->user, counts) > ANNOT_COUNT_MAX)
                return err_set(err, ERR_LIMIT, "more than %d annotations", ANNOT_COUNT_MAX);
        if (!a->value.p)
                --*count_for(t, uid, a->user, counts);
        annot_grows(&plan->growths, a->user, (int64_t)(a->value.p ? annot_bytes(a) : 0) - (int64_t)(there ? row_bytes(row) : 0));
        plan->values += (a->value.p ? (int64_t)a->value.len : 0) - (there ? (int64_t)row->value_len : 0);
        return 1;
}

int annots_plan_locked(struct mailbox *m, uint32_t uid, const struct annot *set, uint32_t n, struct annot_plan *plan, struct mlog_batch *b,
                       uint32_t *written_r, struct err *err)
{
        struct user_counts counts = { ARRAY_INIT };
        int rc = 0;

        *written_r = 0;
        plan->values = 0;
        for (uint32_t i = 0; i < n && rc >= 0; i++) {
                rc = plan_one(&m->annots, uid, &set[i], &counts, plan, err);
                if (rc == 1) {
                        annots_add_record(b, &b->body, uid, set[i].entry, set[i].user, set[i].value, 0);
                        ++*written_r;
                }
        }
        ARRAY_FREE(&counts.list);
        if (rc < 0 || annots_room_locked(m, &plan->growths, err) < 0)
                return -1;
        return quota_use(m, QUOTA_ANNOTATION, plan->values, true, err);         /* what is not written is given back by quota_report() */
}

int annots_replace_locked(struct mailbox *m, uint32_t uid, const struct annot *set, uint32_t n, uint64_t modseq, struct annot_plan *plan,
                          struct mlog_batch *b, uint32_t *written_r, struct err *err)
{
        struct place p = lower_bound(&m->annots, uid, "", "");
        const struct annot_row *row;
        uint32_t i = 0;

        *written_r = 0;
        plan->values = 0;
        if (annots_check_new(set, n, err) < 0)
                return -1;
        for (;;) {
                struct span gone = { NULL, 0 };
                int c;

                row = row_at(&m->annots, p);
                if (row && row->uid != uid)
                        row = NULL;
                if (!row && i == n)
                        break;
                c = !row ? 1 : i == n ? -1 : compare_key(row, uid, set[i].entry, set[i].user);
                if (c < 0 && !is_removed(row)) {
                        annots_add_record(b, &b->body, uid, row->entry, row->user, gone, modseq);
                        annot_grows(&plan->growths, row->user, -(int64_t)row_bytes(row));
                        plan->values -= (int64_t)row->value_len;
                        ++*written_r;
                } else if (c >= 0 && !is_same(c == 0 ? row : NULL, set[i].value)) {
                        bool there = c == 0 && !is_removed(row);

                        annots_add_record(b, &b->body, uid, set[i].entry, set[i].user, set[i].value, set[i].modseq ? set[i].modseq : modseq);
                        annot_grows(&plan->growths, set[i].user, (int64_t)annot_bytes(&set[i]) - (int64_t)(there ? row_bytes(row) : 0));
                        plan->values += (int64_t)set[i].value.len - (there ? (int64_t)row->value_len : 0);
                        ++*written_r;
                }
                if (c <= 0)
                        p = next_place(&m->annots, p);
                if (c >= 0)
                        i++;
        }
        return quota_use(m, QUOTA_ANNOTATION, plan->values, false, err);
}

uint64_t annot_bytes(const struct annot *a)
{
        return ROW_BYTES + (uint64_t)strlen(a->entry) + strlen(a->user) + a->value.len;
}

void annot_grows(struct annot_growths *growths, const char *user, int64_t bytes)
{
        for (size_t i = 0; i < growths->list.n; i++) {
                if (strcmp(growths->list.v[i].user, user) == 0) {
                        growths->list.v[i].bytes += bytes;
                        return;
                }
        }
        *ARRAY_PUSH(&growths->list) = (struct annot_growth){ xstrdup(user), bytes };
}

void annot_growths_deinit(struct annot_growths *growths)
{
        for (size_t i = 0; i < growths->list.n; i++)
                free(growths->list.v[i].user);
        ARRAY_FREE(&growths->list);
}

/* Removed rows have as much room again: where the log cannot be compacted they must not grow for ever. */
int annots_room_locked(struct mailbox *m, const struct annot_growths *growths, struct err *err)
{
        for (size_t i = 0; i < growths->list.n; i++) {
                const struct annot_growth *g = &growths->list.v[i];
                const struct annot_share *share = find_share(&m->annots, g->user);
                uint64_t max = share_max(!*g->user), bytes = share ? share->bytes : 0, removed = share ? share->removed : 0;

                if (g->bytes > 0 && (bytes - removed + (uint64_t)g->bytes > max || bytes + (uint64_t)g->bytes > 2 * max))
                        return err_set(err, ERR_LIMIT, "the %s annotations of this mailbox take more than %" PRIu64 " octets",
                                       *g->user ? "user's private" : "shared", max);
        }
        return 0;
}

struct annotating {
        struct arena arena;
        struct annot *set;                      /* with users as in the log */
        uint32_t n;
        struct mlog_batch batch;
        ARRAY(struct mlog_flag_entry) entries;  /* of messages that change: their flags as they are, for the new modseq */
        ARRAY(uint64_t) before;
        struct annot_plan plan;
};

static int plan_messages_locked(struct mailbox *m, struct annotating *w, const struct uidset *uids, uint64_t unchangedsince,
                                struct uidset *modified_r, struct uidset *changed_r, struct err *err) REQUIRES(m->lock, mailbox_class);
static int plan_messages_locked(struct mailbox *m, struct annotating *w, const struct uidset *uids, uint64_t unchangedsince,
                                struct uidset *modified_r, struct uidset *changed_r, struct err *err)
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
                        if (annots_plan_locked(m, rec.uid, w->set, w->n, &w->plan, &w->batch, &written, err) < 0)
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
        struct commit c = { .waiter = waiter, .hard = true, .about = COMMIT_OF_ANNOTATIONS };
        struct annotating w = { .arena = ARENA_INIT, .entries = ARRAY_INIT, .before = ARRAY_INIT };
        int rc;

        *modseq_r = 0;
        mlog_batch_init(&w.batch);
        rc = annots_resolve(m, set, n, &w.arena, &w.set, &w.n, err);
        mailbox_lock(m);
        if (rc == 0)
                rc = mailbox_changeable_locked(m, err);
        if (rc == 0)
                rc = plan_messages_locked(m, &w, uids, unchangedsince, modified_r, changed_r, err);
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
        quota_report(m);
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&w.batch);
        annot_growths_deinit(&w.plan.growths);
        ARRAY_FREE(&w.entries);
        ARRAY_FREE(&w.before);
        arena_deinit(&w.arena);
        return rc;
}

int mailbox_annotate(struct mailbox *m, const struct annot *set, uint32_t n, struct waiter *waiter, struct err *err)
{
        struct commit c = { .waiter = waiter, .hard = true, .about = COMMIT_OF_MAILBOX };
        struct annot_plan plan = { .values = 0 };
        struct arena arena = ARENA_INIT;
        struct mlog_batch b;
        struct annot *keyed;
        uint32_t written;
        int rc;

        mlog_batch_init(&b);
        rc = annots_resolve(m, set, n, &arena, &keyed, &n, err);
        mailbox_lock(m);
        if (rc == 0)
                rc = mailbox_changeable_locked(m, err);
        if (rc == 0)
                rc = annots_plan_locked(m, 0, keyed, n, &plan, &b, &written, err);
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
        annot_growths_deinit(&plan.growths);
        arena_deinit(&arena);
        return rc;
}
