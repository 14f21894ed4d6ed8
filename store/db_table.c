/* db_table - tables, records, cursors; see db.h. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/db_private.h"
#include "util/must.h"

static DBT dbt_of(struct span s)
{
        DBT t = { 0 };

        t.data = (void *)(uintptr_t)s.p;                /* Berkeley DB has no const; it does not write to it */
        t.size = (u_int32_t)s.len;
        return t;
}

int db_open(struct db_env *env, const char *file, struct db **db_r, struct err *err)
{
        struct db *db = xcalloc(1, sizeof *db);
        struct str path = STR_INIT;
        int rc = db_create(&db->db, env->env, 0);

        db->env = env;
        db->file = xstrdup(file);
        str_printf(&path, "%s/%s", env->dir, file);
        if (rc == 0 && env->readonly)
                rc = db->db->open(db->db, NULL, path.data, NULL, DB_BTREE, DB_RDONLY | DB_THREAD, 0);
        else if (rc == 0 && (rc = db->db->set_flags(db->db, DB_CHKSUM)) == 0)  /* a page torn by a power loss is noticed */
                rc = db->db->open(db->db, NULL, file, NULL, DB_BTREE, DB_CREATE | DB_AUTO_COMMIT | DB_THREAD, 0600);
        str_deinit(&path);
        if (rc == 0) {
                *db_r = db;
                return 0;
        }
        db_fail(env, NULL, rc, err, file);
        db_close(&db);
        return -1;
}

void db_close(struct db **dbp)
{
        struct db *db = *dbp;

        *dbp = NULL;
        if (!db)
                return;
        /* Its pages stay in the environment's cache: the checkpoint that closes that writes and syncs them, and until then there is the log. */
        if (db->db)
                db->db->close(db->db, DB_NOSYNC);
        free(db->file);
        free(db);
}

/* What is done on its own is its own transaction, which may have to give way: try again. */
static bool try_again(struct db_txn *txn, int rc, int *tries)
{
        if (txn || (rc != DB_LOCK_DEADLOCK && rc != DB_LOCK_NOTGRANTED) || ++*tries > 200)
                return false;
        usleep(1000);
        return true;
}

int db_get(struct db *db, struct db_txn *txn, struct span key, struct str *value, struct err *err)
{
        DBT k = dbt_of(key), v = { 0 };
        int rc, tries = 0;

        v.flags = DB_DBT_MALLOC;
        do
                rc = db->db->get(db->db, txn ? txn->txn : NULL, &k, &v, txn ? DB_RMW : 0);
        while (try_again(txn, rc, &tries));
        if (rc == 0) {
                if (value)
                        str_append(value, v.data, v.size);
                free(v.data);
                return 1;
        }
        return rc == DB_NOTFOUND ? 0 : db_fail(db->env, txn, rc, err, db->file);
}

int db_put(struct db *db, struct db_txn *txn, struct span key, struct span value, struct err *err)
{
        DBT k = dbt_of(key), v = dbt_of(value);
        int rc, tries = 0;

        must(key.len && key.len < UINT32_MAX && value.len < UINT32_MAX);
        if (db_writable(db->env, err) < 0)
                return -1;
        do
                rc = db->db->put(db->db, txn ? txn->txn : NULL, &k, &v, txn ? 0 : DB_AUTO_COMMIT);
        while (try_again(txn, rc, &tries));
        if (rc != 0)
                return db_fail(db->env, txn, rc, err, db->file);
        atomic_fetch_add(&db->env->unchecked_bytes, key.len + value.len);
        return 0;
}

int db_del(struct db *db, struct db_txn *txn, struct span key, struct err *err)
{
        DBT k = dbt_of(key);
        int rc, tries = 0;

        if (db_writable(db->env, err) < 0)
                return -1;
        do
                rc = db->db->del(db->db, txn ? txn->txn : NULL, &k, txn ? 0 : DB_AUTO_COMMIT);
        while (try_again(txn, rc, &tries));
        if (rc != 0 && rc != DB_NOTFOUND)
                return db_fail(db->env, txn, rc, err, db->file);
        atomic_fetch_add(&db->env->unchecked_bytes, key.len);
        return 0;
}

struct db_cursor {
        DBC *dbc;
        struct db *db;
        struct db_txn *txn;
        struct str prefix;
        DBT key, value;                         /* DB_DBT_REALLOC: ours to free */
        bool started;
};

int db_cursor_open(struct db *db, struct db_txn *txn, struct span prefix, struct db_cursor **cursor_r, struct err *err)
{
        struct db_cursor *c = xcalloc(1, sizeof *c);
        /* Without a transaction only the page under the cursor is locked: a long reading holds up no writer. */
        int rc = db->db->cursor(db->db, txn ? txn->txn : NULL, &c->dbc, txn || db->env->readonly ? 0 : DB_READ_COMMITTED);

        if (rc != 0) {
                free(c);
                return db_fail(db->env, txn, rc, err, db->file);
        }
        c->db = db;
        c->txn = txn;
        str_init(&c->prefix);
        str_append_span(&c->prefix, prefix);
        c->key.flags = c->value.flags = DB_DBT_REALLOC;
        *cursor_r = c;
        return 0;
}

static bool begins_with(const DBT *key, const struct str *prefix)
{
        return key->size >= prefix->len && memcmp(key->data, prefix->data, prefix->len) == 0;
}

int db_cursor_next(struct db_cursor *c, struct span *key_r, struct span *value_r, struct err *err)
{
        u_int32_t how = c->started ? DB_NEXT : c->prefix.len ? DB_SET_RANGE : DB_FIRST;
        int rc;

        if (how == DB_SET_RANGE) {
                free(c->key.data);
                c->key.data = xmalloc(c->prefix.len);
                memcpy(c->key.data, c->prefix.data, c->prefix.len);
                c->key.size = (u_int32_t)c->prefix.len;
        }
        rc = c->dbc->get(c->dbc, &c->key, &c->value, how);
        if (rc == DB_NOTFOUND)
                return 0;
        if (rc != 0)
                return db_fail(c->db->env, c->txn, rc, err, c->db->file);
        c->started = true;
        if (c->prefix.len && !begins_with(&c->key, &c->prefix))
                return 0;
        *key_r = (struct span){ c->key.data, c->key.size };
        *value_r = (struct span){ c->value.data, c->value.size };
        return 1;
}

void db_cursor_close(struct db_cursor **cp)
{
        struct db_cursor *c = *cp;

        *cp = NULL;
        if (!c)
                return;
        c->dbc->close(c->dbc);
        free(c->key.data);
        free(c->value.data);
        str_deinit(&c->prefix);
        free(c);
}
