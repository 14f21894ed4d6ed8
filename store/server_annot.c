/*
 * server_annot - annotations of the server, see annot.h; and the rows of annot_user.h.
 *
 *   annotations.db   user NUL entry → value; user "" has the shared ones
 *                    0x01 user → his key, 16 hexadecimal digits at random: none is given twice, whatever becomes of this table
 */
#include "store/server_annot.h"

#include <stdio.h>
#include <stdlib.h>

#include "store/annot.h"
#include "store/annot_user.h"
#include "store/change.h"
#include "store/store_private.h"
#include "util/array.h"
#include "util/hash.h"
#include "util/log.h"

static void user_prefix(const char *user, struct str *key)
{
        str_clear(key);
        str_append(key, user, strlen(user) + 1);
}

struct annot_list { ARRAY(struct annot) list; };

static int read_user(struct store *store, struct db_txn *txn, const char *user, struct arena *arena, struct annot_list *out, struct err *err)
{
        struct str prefix = STR_INIT;
        struct db_cursor *cursor;
        struct span key, value;
        int rc;

        user_prefix(user, &prefix);
        rc = db_cursor_open(store->annotations_db, txn, str_span(&prefix), &cursor, err);
        if (rc == 0) {
                while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0)
                        *ARRAY_PUSH(&out->list) = (struct annot){ arena_strndup(arena, key.p + prefix.len, key.len - prefix.len),
                                                                  arena_strdup(arena, user), arena_span(arena, value), 0 };
                db_cursor_close(&cursor);
        }
        str_deinit(&prefix);
        return rc;
}

static int by_order(const void *a, const void *b)
{
        return annot_compare(a, b);
}

int server_annots(struct store *store, const char *user, struct arena *arena, struct annot **list_r, uint32_t *n_r, struct err *err)
{
        struct annot_list out = { ARRAY_INIT };
        int rc = 0;

        *list_r = NULL;
        *n_r = 0;
        if (!store->annotations_db)
                return 0;
        rc = read_user(store, NULL, "", arena, &out, err);
        if (rc == 0 && *user)
                rc = read_user(store, NULL, user, arena, &out, err);
        if (rc == 0 && out.list.n) {
                qsort(out.list.v, out.list.n, sizeof *out.list.v, by_order);
                *list_r = ARENA_ARRAY(arena, struct annot, out.list.n);
                memcpy(*list_r, out.list.v, out.list.n * sizeof *out.list.v);
                *n_r = (uint32_t)out.list.n;
        }
        ARRAY_FREE(&out.list);
        return rc;
}

/* The rows that are no annotations (keys of users, marks of the table) have no NUL, or begin otherwise. */
static bool is_annotation(struct span key, struct span *user_r, struct span *entry_r)
{
        const char *nul = key.len ? memchr(key.p, '\0', key.len) : NULL;

        if (!nul || key.p[0] == '\x01')
                return false;
        *user_r = (struct span){ key.p, (size_t)(nul - key.p) };
        *entry_r = (struct span){ nul + 1, key.len - user_r->len - 1 };
        return entry_r->len && entry_r->p[0] == '/';
}

int server_annots_all(struct store *store, struct arena *arena, struct annot **list_r, uint32_t *n_r, struct err *err)
{
        struct annot_list out = { ARRAY_INIT };
        struct span key, value, user, entry;
        struct db_cursor *cursor;
        int rc;

        *list_r = NULL;
        *n_r = 0;
        if (!store->annotations_db)
                return 0;
        rc = db_cursor_open(store->annotations_db, NULL, SPAN(""), &cursor, err);
        if (rc == 0) {
                while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0)
                        if (is_annotation(key, &user, &entry))
                                *ARRAY_PUSH(&out.list) = (struct annot){ arena_strndup(arena, entry.p, entry.len),
                                                                         arena_strndup(arena, user.p, user.len), arena_span(arena, value), 0 };
                db_cursor_close(&cursor);
        }
        if (rc == 0 && out.list.n) {
                qsort(out.list.v, out.list.n, sizeof *out.list.v, by_order);
                *list_r = ARENA_ARRAY(arena, struct annot, out.list.n);
                memcpy(*list_r, out.list.v, out.list.n * sizeof *out.list.v);
                *n_r = (uint32_t)out.list.n;
        }
        ARRAY_FREE(&out.list);
        return rc;
}

struct writing {
        struct store *store;
        const struct annot *set;
        uint32_t n;
};

/* As it is now, with what was written. */
static int check_room(struct writing *w, struct db_txn *txn, const char *user, struct err *err)
{
        struct annot_list out = { ARRAY_INIT };
        struct arena arena = ARENA_INIT;
        uint64_t bytes = 0;
        int rc = read_user(w->store, txn, user, &arena, &out, err);

        for (size_t i = 0; i < out.list.n; i++)
                bytes += out.list.v[i].value.len;
        if (rc == 0 && out.list.n > ANNOT_COUNT_MAX)
                rc = err_set(err, ERR_LIMIT, "more than %d annotations", ANNOT_COUNT_MAX);
        if (rc == 0 && bytes > ANNOT_PRIVATE_BYTES_MAX)
                rc = err_set(err, ERR_LIMIT, "annotations of more than %u octets", ANNOT_PRIVATE_BYTES_MAX);
        ARRAY_FREE(&out.list);
        arena_deinit(&arena);
        return rc;
}

static bool was_user_before(const struct writing *w, uint32_t i)
{
        for (uint32_t k = 0; k < i; k++)
                if (w->set[k].value.p && strcmp(w->set[k].user, w->set[i].user) == 0)
                        return true;
        return false;
}

static int write_all(struct db_txn *txn, void *ctx, struct err *err)
{
        struct writing *w = ctx;
        struct str key = STR_INIT;
        int rc = 0;

        for (uint32_t i = 0; i < w->n && rc >= 0; i++) {
                const struct annot *a = &w->set[i];

                user_prefix(a->user, &key);
                str_append_str(&key, a->entry);
                if (!a->value.p) {
                        rc = db_del(w->store->annotations_db, txn, str_span(&key), err);
                        continue;
                }
                rc = db_put(w->store->annotations_db, txn, str_span(&key), a->value, err);
        }
        for (uint32_t i = 0; i < w->n && rc >= 0; i++)          /* once for each user: they are few, and this is rare */
                if (w->set[i].value.p && !was_user_before(w, i))
                        rc = check_room(w, txn, w->set[i].user, err);
        str_deinit(&key);
        return rc < 0 ? -1 : 0;
}

int server_annotate(struct store *store, const struct annot *set, uint32_t n, struct err *err)
{
        struct writing w = { store, set, n };
        int rc;

        if (store_may_change(store, err) < 0)
                return -1;
        if (store->readonly || !store->annotations_db || conf_switch(store_conf(store), NULL, "readonly"))
                return err_set(err, ERR_READONLY, "annotations take no changes now");
        rc = db_run(store->env, true, write_all, &w, err);
        if (rc == 0)
                change_publish(store, &(struct change){ .kind = CHANGE_ANNOTATION, .name = "" });
        return rc;
}

int server_annots_rename_user(struct store *store, struct db_txn *txn, const char *from, const char *to, struct err *err)
{
        struct annot_list out = { ARRAY_INIT };
        struct arena arena = ARENA_INIT;
        struct str key = STR_INIT;
        int rc = store->annotations_db ? read_user(store, txn, from, &arena, &out, err) : 0;

        for (size_t i = 0; i < out.list.n && rc == 0; i++) {
                user_prefix(from, &key);
                str_append_str(&key, out.list.v[i].entry);
                rc = db_del(store->annotations_db, txn, str_span(&key), err);
                if (rc < 0 || !to)
                        continue;
                user_prefix(to, &key);
                str_append_str(&key, out.list.v[i].entry);
                rc = db_put(store->annotations_db, txn, str_span(&key), out.list.v[i].value, err);
        }
        str_deinit(&key);
        ARRAY_FREE(&out.list);
        arena_deinit(&arena);
        return rc;
}

/* ---- keys of users ---- */

#define USER_KEYS SPAN("\x01")

static void key_row(const char *userid, struct str *row)
{
        str_clear(row);
        str_append_span(row, USER_KEYS);
        str_append_str(row, userid);
}

static void key_of(struct span value, char key[ANNOT_USER_KEY_MAX])
{
        snprintf(key, ANNOT_USER_KEY_MAX, "/%.*s", (int)(value.len < 64 ? value.len : 64), value.p);
}

int annot_users_open(struct store *store, struct annot_users **users_r, struct err *err)
{
        struct annot_users *u = *users_r = annot_users_create_empty();
        struct str name = STR_INIT;
        char key[ANNOT_USER_KEY_MAX];
        struct db_cursor *cursor;
        struct span row, value;
        int rc;

        if (!store->annotations_db)
                return 0;
        if (db_cursor_open(store->annotations_db, NULL, USER_KEYS, &cursor, err) < 0)
                return -1;
        while ((rc = db_cursor_next(cursor, &row, &value, err)) > 0) {
                str_clear(&name);
                str_append(&name, row.p + 1, row.len - 1);
                key_of(value, key);
                if (name.len)
                        annot_users_set(u, name.data, key);
        }
        db_cursor_close(&cursor);
        str_deinit(&name);
        return rc;
}

/* What the database says now. Whoever has changed it asks after his commit. */
static void refresh(struct store *store, const char *userid)
{
        struct annot_users *u = store->annot_users;
        struct mutex *refreshing = annot_users_refreshing(u);
        struct str row = STR_INIT, value = STR_INIT;
        char key[ANNOT_USER_KEY_MAX];
        struct err err = ERR_INIT;
        int rc;

        key_row(userid, &row);
        mutex_lock(refreshing);
        rc = store->annotations_db ? db_get(store->annotations_db, NULL, str_span(&row), &value, &err) : 0;
        if (rc < 0)
                log_event(LOG_ERROR, NULL, "annotations.user", "user=%s reason=\"%s\"", userid, err.text);
        if (rc > 0)
                key_of(str_span(&value), key);
        if (rc >= 0)
                annot_users_set(u, userid, rc > 0 ? key : NULL);
        mutex_unlock(refreshing);
        str_deinit(&row);
        str_deinit(&value);
}

struct making { struct store *store; const char *userid; };

static int make_key(struct db_txn *txn, void *ctx, struct err *err)
{
        struct making *w = ctx;
        struct db *db = w->store->annotations_db;
        struct str row = STR_INIT;
        uint8_t random[8];
        char value[2 * sizeof random + 1];
        int rc;

        random_bytes(random, sizeof random);
        hex_encode(value, random, sizeof random);
        key_row(w->userid, &row);
        rc = db_get(db, txn, str_span(&row), NULL, err);
        if (rc == 0)
                rc = db_put(db, txn, str_span(&row), span_of(value), err);
        str_deinit(&row);
        return rc < 0 ? -1 : 0;
}

int annot_user_make(struct store *store, const char *userid, struct err *err)
{
        struct making w = { store, userid };

        if (annot_user_known(store, userid))
                return 0;
        if (store_may_change(store, err) < 0)
                return -1;
        if (store->readonly || !store->annotations_db || conf_switch(store_conf(store), NULL, "readonly"))
                return err_set(err, ERR_READONLY, "annotations take no changes now");
        if (db_run(store->env, true, make_key, &w, err) < 0)
                return -1;
        refresh(store, userid);
        return 0;
}

int annot_users_rename(struct store *store, struct db_txn *txn, const char *from, const char *to, struct err *err)
{
        struct db *db = store->annotations_db;
        struct str row = STR_INIT, value = STR_INIT;
        int rc, had;

        if (!db)
                return 0;
        key_row(from, &row);
        rc = had = db_get(db, txn, str_span(&row), &value, err);
        if (had > 0)
                rc = db_del(db, txn, str_span(&row), err);
        if (rc >= 0 && to) {
                key_row(to, &row);
                rc = had > 0 ? db_put(db, txn, str_span(&row), str_span(&value), err) : db_del(db, txn, str_span(&row), err);
        }
        str_deinit(&row);
        str_deinit(&value);
        return rc < 0 ? -1 : 0;
}

void annot_users_renamed(struct store *store, const char *from, const char *to)
{
        refresh(store, from);
        if (to)
                refresh(store, to);
}
