/*
 * seen - see seen.h. The database:
 *
 *   seen.db   'u' userid NUL uniqueid NUL 'm'        struct seen_meta
 *             'u' userid NUL uniqueid NUL 'c' chunk  the seen UIDs from chunk * 65536 on, chunk as 4 octets with the highest first: one octet 1,
 *                                                    then for each range two uint16_t, first and last within the chunk; or one octet
 *                                                    2 and 8,192 octets, a bit for each UID – whichever is shorter
 *             'm' uniqueid NUL userid                empty: which users a mailbox has
 *
 * Numbers are little-endian. So marking one message in a mailbox of any size writes 8 KiB at most. Commits are not synced; the log is
 * flushed half a second later (logstore_run_soon()), which is what the promise for flag changes says.
 *
 * Locks: the table's is a leaf but for a seen's `lock`; `saving` is held across the database's transaction by job threads only.
 */
#include "store/seen_private.h"

#include <stdlib.h>
#include <string.h>

#include "store/change.h"
#include "store/mailbox_private.h"
#include "store/store_private.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define CHUNK_UIDS 65536u
#define BITMAP_BYTES (CHUNK_UIDS / 8)
#define CHUNK_RANGES 1
#define CHUNK_BITMAP 2
#define META_VERSION 1

struct seen_meta {                              /* as on disk */
        uint32_t version, lastuid;
        int64_t lastread, lastchange;
};
_Static_assert(sizeof(struct seen_meta) == 24, "on the disk");

struct seens {
        struct store *store;
        struct mutex lock;                      /* covers the table */
        struct table *open;                     /* uniqueid NUL userid → struct seen; counted by the seen's own references */
        struct job flush;                       /* queued while `flush_queued` */
        atomic_bool flush_queued;
};

/* ---- the database ---- */

static void user_prefix(const char *userid, struct str *key)
{
        str_clear(key);
        str_append_c(key, 'u');
        str_append(key, userid, strlen(userid) + 1);
}

static void mailbox_prefix(const char *uniqueid, struct str *key)
{
        str_clear(key);
        str_append_c(key, 'm');
        str_append(key, uniqueid, strlen(uniqueid) + 1);
}

static void state_prefix(const struct seen *seen, struct str *key)
{
        user_prefix(seen->userid, key);
        str_append(key, seen->uniqueid, strlen(seen->uniqueid) + 1);
}

static bool load_chunk(struct uidset *uids, uint64_t base, struct span value)
{
        const uint8_t *p = (const uint8_t *)value.p + 1;

        if (value.len >= 1 && value.p[0] == CHUNK_RANGES && value.len % 4 == 1) {
                for (size_t i = 0; i + 4 < value.len; i += 4) {
                        uint64_t first = base + (uint32_t)(p[i] | p[i + 1] << 8), last = base + (uint32_t)(p[i + 2] | p[i + 3] << 8);

                        if (first == 0 || first > last || last > UINT32_MAX)
                                return false;
                        uidset_add_range(uids, (uint32_t)first, (uint32_t)last);
                }
                return true;
        }
        if (value.len != 1 + BITMAP_BYTES || value.p[0] != CHUNK_BITMAP)
                return false;
        for (uint32_t i = 0; i < CHUNK_UIDS; i++)
                if ((p[i / 8] >> (i % 8) & 1) && base + i)
                        uidset_add(uids, (uint32_t)(base + i));
        return true;
}

static int load_row(struct seen *seen, size_t prefix_len, struct span key, struct span value)
{
        const uint8_t *k = (const uint8_t *)key.p + prefix_len;
        size_t left = key.len - prefix_len;
        struct seen_meta meta;

        if (left == 1 && k[0] == 'm' && value.len >= sizeof meta) {
                memcpy(&meta, value.p, sizeof meta);
                if (meta.version != META_VERSION)
                        return -1;
                seen->lastuid = meta.lastuid;
                seen->lastread = meta.lastread;
                seen->lastchange = meta.lastchange;
                return 0;
        }
        if (left == 5 && k[0] == 'c' && k[1] == 0 && k[2] == 0)
                return load_chunk(&seen->uids, (uint64_t)(k[3] << 8 | k[4]) * CHUNK_UIDS, value) ? 0 : -1;
        return -1;
}

/* What the database has of it, instead of what is in memory. */
static int load_locked(struct seen *seen, struct err *err) REQUIRES(seen->lock);
static int load_locked(struct seen *seen, struct err *err)
{
        struct db *db = seen->seens->store->seen_db;
        struct str prefix = STR_INIT;
        struct db_cursor *cursor;
        struct span key, value;
        bool damaged = false;
        int rc = 0;

        uidset_clear(&seen->uids);
        uidset_clear(&seen->dirty);
        seen->dirty_meta = false;
        seen->lastuid = 0;
        seen->lastread = seen->lastchange = 0;
        state_prefix(seen, &prefix);
        if (db && (rc = db_cursor_open(db, NULL, str_span(&prefix), &cursor, err)) == 0) {
                while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0)
                        damaged |= load_row(seen, prefix.len, key, value) < 0;
                db_cursor_close(&cursor);
        }
        str_deinit(&prefix);
        if (damaged)                            /* what can be read is used: \Seen is no reason to refuse a mailbox */
                log_event(LOG_ERROR, NULL, "seen.damaged", "user=%s uniqueid=%s", seen->userid, seen->uniqueid);
        seen->loaded = rc == 0;
        return rc;
}

struct seen_row {
        struct str key, value;                  /* value empty: the row goes */
};
struct save {
        struct seen *seen;
        ARRAY(struct seen_row) rows;
};

static void save_deinit(struct save *w)
{
        for (size_t i = 0; i < w->rows.n; i++) {
                str_deinit(&w->rows.v[i].key);
                str_deinit(&w->rows.v[i].value);
        }
        ARRAY_FREE(&w->rows);
}

static struct seen_row *add_row(struct save *w)
{
        struct seen_row *row = ARRAY_PUSH(&w->rows);

        str_init(&row->key);
        str_init(&row->value);
        return row;
}

static void put_chunk(const struct uidset *uids, uint32_t chunk, struct str *value)
{
        uint64_t base = (uint64_t)chunk * CHUNK_UIDS, end = base + CHUNK_UIDS - 1;
        uint32_t low = 0, high = uids->n;

        while (low < high) {                    /* the first range that reaches into the chunk */
                uint32_t mid = low + (high - low) / 2;

                if (uids->ranges[mid].last < base)
                        low = mid + 1;
                else
                        high = mid;
        }
        for (uint32_t i = low; i < uids->n && uids->ranges[i].first <= end; i++) {
                uint32_t first = uids->ranges[i].first < base ? 0 : (uint32_t)(uids->ranges[i].first - base);
                uint32_t last = uids->ranges[i].last > end ? CHUNK_UIDS - 1 : (uint32_t)(uids->ranges[i].last - base);

                if (value->len == 0)
                        str_append_c(value, CHUNK_RANGES);
                str_append_c(value, (char)(first & 0xff));
                str_append_c(value, (char)(first >> 8));
                str_append_c(value, (char)(last & 0xff));
                str_append_c(value, (char)(last >> 8));
        }
        if (value->len > 1 + BITMAP_BYTES) {
                uint8_t *bits;

                str_clear(value);
                str_append_c(value, CHUNK_BITMAP);
                bits = (uint8_t *)str_append_space(value, BITMAP_BYTES);
                memset(bits, 0, BITMAP_BYTES);
                for (uint32_t i = low; i < uids->n && uids->ranges[i].first <= end; i++)
                        for (uint64_t uid = uids->ranges[i].first < base ? base : uids->ranges[i].first;
                             uid <= end && uid <= uids->ranges[i].last; uid++)
                                bits[(uid - base) / 8] |= (uint8_t)(1u << ((uid - base) % 8));
        }
}

static void gather_rows_locked(struct save *w, struct seen *seen) REQUIRES(seen->lock);
static void gather_rows_locked(struct save *w, struct seen *seen)
{
        struct seen_meta meta = { META_VERSION, seen->lastuid, seen->lastread, seen->lastchange };
        struct uidset_iter it = uidset_iter(&seen->dirty);
        struct seen_row *row = add_row(w);
        uint32_t chunk;

        state_prefix(seen, &row->key);
        str_append_c(&row->key, 'm');
        str_append(&row->value, &meta, sizeof meta);
        while (uidset_next(&it, &chunk)) {
                chunk--;                        /* 0 is no member of a uidset */
                row = add_row(w);
                state_prefix(seen, &row->key);
                str_append_c(&row->key, 'c');
                for (int shift = 24; shift >= 0; shift -= 8)
                        str_append_c(&row->key, (char)(chunk >> shift & 0xff));
                put_chunk(&seen->uids, chunk, &row->value);
        }
        uidset_clear(&seen->dirty);
        seen->dirty_meta = false;
}

static int write_rows(struct db_txn *txn, void *ctx, struct err *err)
{
        struct save *w = ctx;
        struct db *db = w->seen->seens->store->seen_db;
        struct str key = STR_INIT;
        int rc;

        mailbox_prefix(w->seen->uniqueid, &key);
        str_append_str(&key, w->seen->userid);
        rc = db_get(db, txn, str_span(&key), NULL, err);
        if (rc == 0)
                rc = db_put(db, txn, str_span(&key), SPAN(""), err);
        str_deinit(&key);
        for (size_t i = 0; rc >= 0 && i < w->rows.n; i++) {
                struct seen_row *row = &w->rows.v[i];

                rc = row->value.len ? db_put(db, txn, str_span(&row->key), str_span(&row->value), err)
                                    : db_del(db, txn, str_span(&row->key), err);
        }
        return rc < 0 ? -1 : 0;
}

static void run_flush(struct job *job)
{
        struct seens *s = (struct seens *)((char *)job - offsetof(struct seens, flush));
        struct err err = ERR_INIT;

        atomic_store(&s->flush_queued, false);  /* before: what is committed from here on asks again */
        if (db_env_flush(s->store->env, &err) < 0)
                log_event(LOG_ERROR, NULL, "seen.flush", "reason=\"%s\"", err.text);
}

static void flush_soon(struct seens *s)
{
        if (!atomic_exchange(&s->flush_queued, true))
                logstore_run_soon(s->store->ls, &s->flush);
}

/* What was not written is taken back, of all who wait for it. */
static void lose_locked(struct seen *seen) REQUIRES(seen->lock);
static void lose_locked(struct seen *seen)
{
        struct err err = ERR_INIT;

        if (seen->lost_to != seen->saved)
                seen->lost_from = seen->saved + 1;
        seen->lost_to = seen->saved = seen->changes;
        if (load_locked(seen, &err) < 0)
                log_event(LOG_ERROR, NULL, "seen.reload", "user=%s uniqueid=%s reason=\"%s\"", seen->userid, seen->uniqueid, err.text);
}

int seen_save(struct seen *seen, uint64_t change, bool sync, struct err *err)
{
        struct store *store = seen->seens->store;
        struct save w = { .seen = seen, .rows = ARRAY_INIT };
        uint64_t upto;
        int rc = 0;

        sync = sync || !logstore_threaded(store->ls);
        mutex_lock(&seen->saving);
        mutex_lock(&seen->lock);
        upto = seen->changes;
        if (change >= seen->lost_from && change <= seen->lost_to)
                rc = err_set(err, ERR_IO, "what was seen could not be written");
        else if (change > seen->saved && seen->dirty_meta && !seen->gone)
                gather_rows_locked(&w, seen);
        mutex_unlock(&seen->lock);
        if (w.rows.n) {
                if (store->readonly || !store->seen_db)
                        rc = err_set(err, ERR_READONLY, "the store takes no changes now");
                else
                        rc = db_run(store->env, sync, write_rows, &w, err);
                mutex_lock(&seen->lock);
                if (rc < 0)
                        lose_locked(seen);
                else
                        seen->saved = upto;
                mutex_unlock(&seen->lock);
        }
        mutex_unlock(&seen->saving);
        if (rc == 0 && w.rows.n && !sync)
                flush_soon(seen->seens);
        if (rc == 0 && w.rows.n)
                change_publish(store, &(struct change){ .kind = CHANGE_SEEN, .name = seen->userid, .uniqueid = seen->uniqueid });
        save_deinit(&w);
        return rc;
}

/* ---- the table ---- */

int seens_create(struct store *store, struct seens **seens_r)
{
        struct seens *s = xcalloc(1, sizeof *s);

        s->store = store;
        s->flush.fn = run_flush;
        mutex_init(&s->lock);
        s->open = table_create();
        *seens_r = s;
        return 0;
}

void seens_destroy(struct seens **sp)
{
        struct seens *s = *sp;

        *sp = NULL;
        if (!s)
                return;
        must(table_count(s->open) == 0);        /* somebody kept a reference */
        table_destroy(&s->open);
        mutex_deinit(&s->lock);
        free(s);
}

static void table_key(const char *uniqueid, const char *userid, struct str *key)
{
        str_append(key, uniqueid, strlen(uniqueid) + 1);
        str_append_str(key, userid);
}

static void seen_free(struct seen *seen)
{
        uidset_deinit(&seen->uids);
        uidset_deinit(&seen->dirty);
        mutex_deinit(&seen->saving);
        mutex_deinit(&seen->lock);
        free(seen->uniqueid);
        free(seen->userid);
        free(seen);
}

struct seen *seen_ref(struct seen *seen)
{
        must(atomic_fetch_add(&seen->refs, 1) > 0);
        return seen;
}

void seen_unref(struct seen **seenp)
{
        struct seen *seen = *seenp;
        struct str key = STR_INIT;
        struct seens *s;
        bool last;

        *seenp = NULL;
        if (!seen)
                return;
        s = seen->seens;
        mutex_lock(&s->lock);
        last = atomic_fetch_sub(&seen->refs, 1) == 1;
        if (last) {
                table_key(seen->uniqueid, seen->userid, &key);
                if (table_find(s->open, str_span(&key)) == seen)
                        table_set(s->open, str_span(&key), NULL);
        }
        mutex_unlock(&s->lock);
        str_deinit(&key);
        if (last)
                seen_free(seen);
}

int seen_open(struct store *store, const char *uniqueid, const char *userid, struct seen **seen_r, struct err *err)
{
        struct seens *s = store->seens;
        struct str key = STR_INIT;
        struct seen *seen;
        int rc = 0;

        table_key(uniqueid, userid, &key);
        mutex_lock(&s->lock);
        seen = table_find(s->open, str_span(&key));
        if (seen) {
                atomic_fetch_add(&seen->refs, 1);
        } else {
                seen = xcalloc(1, sizeof *seen);
                seen->seens = s;
                seen->uniqueid = xstrdup(uniqueid);
                seen->userid = xstrdup(userid);
                seen->reader = mailbox_reader_id(userid);
                atomic_init(&seen->refs, 1);
                mutex_init(&seen->saving);
                mutex_init(&seen->lock);
                uidset_init(&seen->uids);
                uidset_init(&seen->dirty);
                table_set(s->open, str_span(&key), seen);
        }
        mutex_unlock(&s->lock);
        str_deinit(&key);
        mutex_lock(&seen->lock);
        if (!seen->loaded)
                rc = load_locked(seen, err);
        mutex_unlock(&seen->lock);
        if (rc < 0)
                seen_unref(&seen);
        *seen_r = seen;
        return rc;
}

void seens_forget(struct store *store, const char *uniqueid, const char *userid)
{
        struct seens *s = store->seens;
        ARRAY(struct seen *) list = ARRAY_INIT;
        size_t pos = 0;
        struct span key;
        void *value;

        mutex_lock(&s->lock);
        while (table_next(s->open, &pos, &key, &value)) {
                struct seen *seen = value;

                if ((uniqueid && strcmp(seen->uniqueid, uniqueid) != 0) || (userid && strcmp(seen->userid, userid) != 0))
                        continue;
                table_set(s->open, key, NULL);
                *ARRAY_PUSH(&list) = seen;
                atomic_fetch_add(&seen->refs, 1);
        }
        mutex_unlock(&s->lock);
        for (size_t i = 0; i < list.n; i++) {
                mutex_lock(&list.v[i]->lock);
                list.v[i]->gone = true;
                mutex_unlock(&list.v[i]->lock);
                seen_unref(&list.v[i]);
        }
        ARRAY_FREE(&list);
}

/* ---- reading and changing ---- */

bool seen_has(struct seen *seen, uint32_t uid)
{
        bool yes;

        mutex_lock(&seen->lock);
        yes = uidset_has(&seen->uids, uid);
        mutex_unlock(&seen->lock);
        return yes;
}

void seen_overlay(struct seen *seen, struct msg *msgs, uint32_t n)
{
        mutex_lock(&seen->lock);
        for (uint32_t i = 0; i < n; i++) {
                if (msgs[i].uid == 0)
                        continue;
                msgs[i].flags &= ~(uint32_t)MSG_SEEN;
                if (uidset_has(&seen->uids, msgs[i].uid))
                        msgs[i].flags |= MSG_SEEN;
        }
        mutex_unlock(&seen->lock);
}

/* The view may have to read the index: not under the lock. */
uint32_t seen_count_unseen(struct seen *seen, struct view *view, uint32_t *first_uid_r)
{
        struct seen_state state;
        uint32_t count = view_count(view), unseen = count, next = 1;

        seen_get(seen, &state);
        *first_uid_r = 0;
        for (uint32_t i = 0; i < state.uids.n && count; i++) {
                struct uidrange r = state.uids.ranges[i];
                uint32_t first = view_seqno_from(view, r.first), end;

                if (first > count)
                        break;
                end = r.last == UINT32_MAX ? count + 1 : view_seqno_from(view, r.last + 1);
                unseen -= end - first;
                if (first <= next)              /* no gap between what was before and this one */
                        next = end > next ? end : next;
        }
        if (next <= count)
                *first_uid_r = view_uid(view, next);
        uidset_deinit(&state.uids);
        return unseen;
}

void seen_among(struct seen *seen, const struct uidset *uids, struct uidset *out)
{
        uidset_copy(out, uids);
        mutex_lock(&seen->lock);
        uidset_intersect(out, &seen->uids);
        mutex_unlock(&seen->lock);
}

void seen_get(struct seen *seen, struct seen_state *state_r)
{
        uidset_init(&state_r->uids);
        mutex_lock(&seen->lock);
        uidset_copy(&state_r->uids, &seen->uids);
        state_r->lastuid = seen->lastuid;
        state_r->lastread = seen->lastread;
        state_r->lastchange = seen->lastchange;
        mutex_unlock(&seen->lock);
}

static void mark_dirty(struct seen *seen, const struct uidset *uids)
{
        for (uint32_t i = 0; i < uids->n; i++)
                uidset_add_range(&seen->dirty, uids->ranges[i].first / CHUNK_UIDS + 1, uids->ranges[i].last / CHUNK_UIDS + 1);
}

uint64_t seen_change_locked(struct seen *seen, const struct uidset *add, const struct uidset *remove, uint32_t lastuid, int64_t now)
{
        mutex_assert_held(&seen->lock);
        for (uint32_t i = 0; i < add->n; i++)
                uidset_add_range(&seen->uids, add->ranges[i].first, add->ranges[i].last);
        for (uint32_t i = 0; i < remove->n; i++)
                uidset_remove_range(&seen->uids, remove->ranges[i].first, remove->ranges[i].last);
        mark_dirty(seen, add);
        mark_dirty(seen, remove);
        if (lastuid > seen->lastuid)
                seen->lastuid = lastuid;
        seen->lastread = seen->lastchange = now;
        seen->dirty_meta = true;
        return ++seen->changes;
}

int seen_set(struct seen *seen, const struct seen_state *state, struct err *err)
{
        uint64_t change;

        mutex_lock(&seen->lock);
        mark_dirty(seen, &seen->uids);
        uidset_copy(&seen->uids, &state->uids);
        mark_dirty(seen, &seen->uids);
        seen->lastuid = state->lastuid;
        seen->lastread = state->lastread;
        seen->lastchange = state->lastchange;
        seen->dirty_meta = true;
        change = ++seen->changes;
        mutex_unlock(&seen->lock);
        return seen_save(seen, change, true, err);
}

/* ---- selecting ---- */

struct touch { struct job job; struct seen *seen; uint64_t change; };

static void run_touch(struct job *job)
{
        struct touch *t = (struct touch *)job;
        struct err err = ERR_INIT;
        char quoted[2][LOG_QUOTE_MAX];

        if (seen_save(t->seen, t->change, false, &err) < 0)
                log_event(LOG_WARN, NULL, "seen.touch", "user=%s reason=%s", log_quote_str(quoted[0], t->seen->userid),
                          log_quote_str(quoted[1], err.text));
        seen_unref(&t->seen);
        free(t);
}

void seen_touch(struct seen *seen)
{
        struct store *store = seen->seens->store;
        int64_t now = clock_wall_s();
        struct touch *t = NULL;

        if (store->readonly || db_env_failed(store->env, NULL))
                return;
        mutex_lock(&seen->lock);
        if (now - seen->lastread >= SEEN_TOUCH_S) {
                t = xcalloc(1, sizeof *t);
                seen->lastread = now;
                seen->dirty_meta = true;
                t->change = ++seen->changes;
        }
        mutex_unlock(&seen->lock);
        if (!t)
                return;
        t->job.fn = run_touch;
        t->seen = seen_ref(seen);
        logstore_run(store->ls, &t->job);
}

/* ---- all of a user, all of a mailbox ---- */

struct names {
        struct arena arena;
        ARRAY(const char *) list;
};

static void names_deinit(struct names *names)
{
        ARRAY_FREE(&names->list);
        arena_deinit(&names->arena);
}

/* What follows the prefix in the keys, up to a NUL or the end; each once. */
static int collect(struct store *store, struct db_txn *txn, struct span prefix, struct names *names, struct err *err)
{
        struct db_cursor *cursor;
        struct span key, value;
        int rc;

        if (!store->seen_db)
                return 0;
        if (db_cursor_open(store->seen_db, txn, prefix, &cursor, err) < 0)
                return -1;
        while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0) {
                struct span rest = { key.p + prefix.len, key.len - prefix.len };
                const char *last = names->list.n ? names->list.v[names->list.n - 1] : NULL;

                rest.len = span_index(rest, '\0');
                if (!last || !span_eq_str(rest, last))
                        *ARRAY_PUSH(&names->list) = arena_strndup(&names->arena, rest.p, rest.len);
        }
        db_cursor_close(&cursor);
        return rc;
}

static int each(struct store *store, struct str *prefix, bool (*fn)(void *ctx, const char *name), void *ctx, struct err *err)
{
        struct names names = { ARENA_INIT, ARRAY_INIT };
        int rc = collect(store, NULL, str_span(prefix), &names, err);

        for (size_t i = 0; rc == 0 && i < names.list.n; i++)
                if (!fn(ctx, names.list.v[i]))
                        break;
        names_deinit(&names);
        str_deinit(prefix);
        return rc;
}

int seen_each_mailbox(struct store *store, const char *userid, bool (*fn)(void *ctx, const char *uniqueid), void *ctx, struct err *err)
{
        struct str prefix = STR_INIT;

        user_prefix(userid, &prefix);
        return each(store, &prefix, fn, ctx, err);
}

int seen_each_user(struct store *store, const char *uniqueid, bool (*fn)(void *ctx, const char *userid), void *ctx, struct err *err)
{
        struct str prefix = STR_INIT;

        mailbox_prefix(uniqueid, &prefix);
        return each(store, &prefix, fn, ctx, err);
}

struct pair {
        struct span key, value;
};

/* All rows with this prefix: deleted, and with `to` put again under it. */
static int move_rows(struct store *store, struct db_txn *txn, struct span prefix, const struct str *to, struct err *err)
{
        struct arena arena = ARENA_INIT;
        ARRAY(struct pair) rows = ARRAY_INIT;
        struct db_cursor *cursor;
        struct span key, value;
        struct str fresh = STR_INIT;
        int rc = db_cursor_open(store->seen_db, txn, prefix, &cursor, err);

        if (rc == 0) {
                while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0)
                        *ARRAY_PUSH(&rows) = (struct pair){ arena_span(&arena, key), arena_span(&arena, value) };
                db_cursor_close(&cursor);
        }
        for (size_t i = 0; rc == 0 && i < rows.n; i++) {
                rc = db_del(store->seen_db, txn, rows.v[i].key, err);
                if (rc < 0 || !to)
                        continue;
                str_clear(&fresh);
                str_append_span(&fresh, str_span(to));
                str_append(&fresh, rows.v[i].key.p + prefix.len, rows.v[i].key.len - prefix.len);
                rc = db_put(store->seen_db, txn, str_span(&fresh), rows.v[i].value, err);
        }
        str_deinit(&fresh);
        ARRAY_FREE(&rows);
        arena_deinit(&arena);
        return rc;
}

int seen_last_read(struct store *store, const char *uniqueid, const char *userid, int64_t *lastread_r, struct err *err)
{
        struct str key = STR_INIT, value = STR_INIT;
        struct seen *open;
        struct seen_meta meta;
        int rc = 0;

        *lastread_r = 0;
        table_key(uniqueid, userid, &key);
        mutex_lock(&store->seens->lock);
        open = table_find(store->seens->open, str_span(&key));
        if (open)
                seen_ref(open);
        mutex_unlock(&store->seens->lock);
        if (open) {
                mutex_lock(&open->lock);
                *lastread_r = open->loaded ? open->lastread : 0;
                mutex_unlock(&open->lock);
                seen_unref(&open);
        }
        if (*lastread_r) {
                str_deinit(&key);
                return 0;
        }
        user_prefix(userid, &key);
        str_append(&key, uniqueid, strlen(uniqueid) + 1);
        str_append_c(&key, 'm');
        if (store->seen_db)
                rc = db_get(store->seen_db, NULL, str_span(&key), &value, err);
        if (rc > 0 && value.len >= sizeof meta) {
                memcpy(&meta, value.data, sizeof meta);
                *lastread_r = meta.version == META_VERSION ? meta.lastread : 0;
        }
        str_deinit(&key);
        str_deinit(&value);
        return rc < 0 ? -1 : 0;
}

struct forgetting { struct store *store; const char *uniqueid, *userid; };

static int forget_rows(struct db_txn *txn, void *ctx, struct err *err)
{
        const struct forgetting *f = ctx;
        struct str key = STR_INIT;
        int rc;

        user_prefix(f->userid, &key);
        str_append(&key, f->uniqueid, strlen(f->uniqueid) + 1);
        rc = move_rows(f->store, txn, str_span(&key), NULL, err);
        if (rc == 0) {
                mailbox_prefix(f->uniqueid, &key);
                str_append_str(&key, f->userid);
                rc = db_del(f->store->seen_db, txn, str_span(&key), err);
        }
        str_deinit(&key);
        return rc;
}

int seen_forget(struct store *store, const char *uniqueid, const char *userid, bool *gone_r, struct err *err)
{
        struct forgetting f = { store, uniqueid, userid };
        struct str key = STR_INIT;
        bool open;

        table_key(uniqueid, userid, &key);
        mutex_lock(&store->seens->lock);
        open = table_find(store->seens->open, str_span(&key)) != NULL;
        mutex_unlock(&store->seens->lock);
        str_deinit(&key);
        *gone_r = false;
        if (open)
                return 0;
        if (store->readonly || !store->seen_db)
                return err_set(err, ERR_READONLY, "the store takes no changes now");
        if (db_run(store->env, true, forget_rows, &f, err) < 0)
                return -1;
        seens_forget(store, uniqueid, userid);  /* opened meanwhile: what it has read is gone */
        *gone_r = true;
        change_publish(store, &(struct change){ .kind = CHANGE_SEEN, .name = userid, .uniqueid = uniqueid });
        return 0;
}

int seens_forget_mailbox(struct store *store, struct db_txn *txn, const char *uniqueid, struct err *err)
{
        struct names users = { ARENA_INIT, ARRAY_INIT };
        struct str prefix = STR_INIT;
        int rc;

        if (!store->seen_db)
                return 0;
        mailbox_prefix(uniqueid, &prefix);
        rc = collect(store, txn, str_span(&prefix), &users, err);
        if (rc == 0 && users.list.n)
                rc = move_rows(store, txn, str_span(&prefix), NULL, err);
        for (size_t i = 0; rc == 0 && i < users.list.n; i++) {
                user_prefix(users.list.v[i], &prefix);
                str_append(&prefix, uniqueid, strlen(uniqueid) + 1);
                rc = move_rows(store, txn, str_span(&prefix), NULL, err);
        }
        str_deinit(&prefix);
        names_deinit(&users);
        return rc;
}

/* The new UIDs of those that are in `seen`. */
static void translate(const struct seen_move *move, const struct uidset *seen, struct uidset *out)
{
        struct uidset_iter it = uidset_iter(move->uids);
        uint64_t now = move->first_uid;
        uint32_t uid;

        for (; uidset_next(&it, &uid) && now < UINT32_MAX; now++)
                if (uidset_has(seen, uid))
                        uidset_add(out, (uint32_t)now);
}

/* `lastuid` is what tells that it was done. */
static int add_seen(struct store *store, const struct seen_move *move, const char *userid, const struct uidset *seen_there, struct err *err)
{
        const struct uidset none = UIDSET_INIT;
        uint32_t last = move->first_uid + (uint32_t)uidset_count(move->uids) - 1;
        struct uidset here = UIDSET_INIT;
        struct seen *seen;
        uint64_t change = 0;                    /* none */
        int rc = 0;

        translate(move, seen_there, &here);
        if (!uidset_empty(&here) && (rc = seen_open(store, move->to, userid, &seen, err)) == 0) {
                mutex_lock(&seen->lock);
                if (seen->lastuid < last)
                        change = seen_change_locked(seen, &here, &none, last, clock_wall_s());
                mutex_unlock(&seen->lock);
                if (change)
                        rc = seen_save(seen, change, true, err);
                seen_unref(&seen);
        }
        uidset_deinit(&here);
        return rc;
}

static bool is_user(const char *userid, const char *owner)
{
        return owner && strcmp(userid, owner) == 0;
}

int seens_move(struct store *store, const struct seen_move *move, struct err *err)
{
        struct names users = { ARENA_INIT, ARRAY_INIT };
        struct str prefix = STR_INIT;
        int rc;

        mailbox_prefix(move->from, &prefix);
        rc = collect(store, NULL, str_span(&prefix), &users, err);
        for (size_t i = 0; rc == 0 && i < users.list.n; i++) {
                struct seen_state state;
                struct seen *seen;

                if (is_user(users.list.v[i], move->to_owner) || is_user(users.list.v[i], move->from_owner))
                        continue;
                rc = seen_open(store, move->from, users.list.v[i], &seen, err);
                if (rc < 0)
                        break;
                seen_get(seen, &state);
                rc = add_seen(store, move, users.list.v[i], &state.uids, err);
                uidset_deinit(&state.uids);
                seen_unref(&seen);
        }
        if (rc == 0 && move->from_owner && !is_user(move->from_owner, move->to_owner))
                rc = add_seen(store, move, move->from_owner, move->from_seen, err);
        str_deinit(&prefix);
        names_deinit(&users);
        return rc;
}

int seens_rename_user(struct store *store, struct db_txn *txn, const char *from, const char *to, struct err *err)
{
        struct names boxes = { ARENA_INIT, ARRAY_INIT };
        struct str prefix = STR_INIT, target = STR_INIT, key = STR_INIT;
        int rc = 0;

        if (!store->seen_db)
                return 0;
        user_prefix(from, &prefix);
        if (to)
                user_prefix(to, &target);
        rc = collect(store, txn, str_span(&prefix), &boxes, err);
        if (rc == 0 && boxes.list.n)
                rc = move_rows(store, txn, str_span(&prefix), to ? &target : NULL, err);
        for (size_t i = 0; rc == 0 && i < boxes.list.n; i++) {
                mailbox_prefix(boxes.list.v[i], &key);
                str_append_str(&key, from);
                rc = db_del(store->seen_db, txn, str_span(&key), err);
                if (rc < 0 || !to)
                        continue;
                str_truncate(&key, key.len - strlen(from));
                str_append_str(&key, to);
                rc = db_put(store->seen_db, txn, str_span(&key), SPAN(""), err);
        }
        str_deinit(&prefix);
        str_deinit(&target);
        str_deinit(&key);
        names_deinit(&boxes);
        return rc;
}
