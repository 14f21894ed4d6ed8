/*
 * quota_db - roots on the disk, and setting them.
 *
 * quotas.db has one record a root: key 'R' and the root's internal name; value text in lines, first the version, last a checksum of all
 * that stands before it:
 *
 *   v1
 *   STORAGE=<limit> <used>     limit in the resource's units, "-" none; used in octets or pieces as it was last saved. A line for
 *   MESSAGE=…                  each resource (quota_resource_name())
 *   modseq=…
 *   unsure=1                   only when the usage had yet to be added up
 *   crc=xxxxxxxx               CRC-32C, hexadecimal
 *
 * Lines that are not known are skipped. Limits are committed with a sync. Usage is saved without one every now and then, and with one
 * at a clean stop: only then it is taken as it stands. MAILBOX's usage is always counted from the mailbox list.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/change.h"
#include "store/quota_private.h"
#include "util/log.h"
#include "util/must.h"

#define ROW_MAX 4096

/* ---- a row ---- */

static struct span row_key(const char *name, struct str *key)
{
        str_clear(key);
        str_append_c(key, 'R');
        str_append_str(key, name);
        return str_span(key);
}

static void format_row(const struct quota_root *r, struct str *out)
{
        str_append_str(out, "v1\n");
        for (int i = 0; i < QUOTA_RESOURCES; i++) {
                str_printf(out, "%s=", quota_resource_name((enum quota_resource)i));
                if (r->limit[i] < 0)
                        str_append_c(out, '-');
                else
                        str_printf(out, "%" PRId64, r->limit[i]);
                str_printf(out, " %" PRId64 "\n", r->used[i] > 0 ? r->used[i] : 0);
        }
        str_printf(out, "modseq=%" PRIu64 "\n", r->modseq);
        if (r->unsure)
                str_append_str(out, "unsure=1\n");
        str_printf(out, "crc=%08" PRIx32 "\n", crc32c(0, out->data, out->len));
}

static bool read_resource(struct quota_root *r, int resource, struct span value)
{
        size_t blank = span_index(value, ' ');
        struct span limit = { value.p, blank }, used;
        uint64_t n;

        if (blank >= value.len)
                return false;
        used = (struct span){ value.p + blank + 1, value.len - blank - 1 };
        if (span_eq_str(limit, "-"))
                r->limit[resource] = QUOTA_UNLIMITED;
        else if (span_u64(limit, QUOTA_LIMIT_MAX, &n))
                r->limit[resource] = (int64_t)n;
        else
                return false;
        if (!span_u64(used, INT64_MAX, &n))
                return false;
        r->used[resource] = (int64_t)n;
        return true;
}

/* Into a root of memory. false: damaged. */
static bool parse_row(struct span row, struct quota_root *r)
{
        char crc[16];
        struct span rest;

        if (row.len > ROW_MAX || row.len < 3 + 13 || memcmp(row.p, "v1\n", 3) != 0)
                return false;
        snprintf(crc, sizeof crc, "crc=%08" PRIx32 "\n", crc32c(0, row.p, row.len - 13));
        if (memcmp(row.p + row.len - 13, crc, 13) != 0)
                return false;
        rest = (struct span){ row.p + 3, row.len - 3 - 13 };
        while (rest.len) {
                size_t end = span_index(rest, '\n'), equals;
                struct span line = { rest.p, end }, key, value;
                int resource;

                equals = span_index(line, '=');
                if (end >= rest.len || equals >= line.len)
                        return false;
                key = (struct span){ line.p, equals };
                value = (struct span){ line.p + equals + 1, line.len - equals - 1 };
                resource = quota_resource_find(key);
                if (resource >= 0 && !read_resource(r, resource, value))
                        return false;
                if (span_eq_str(key, "unsure"))
                        r->unsure = true;
                if (span_eq_str(key, "modseq") && !span_u64(value, UINT64_MAX, &r->modseq))
                        return false;
                rest = (struct span){ rest.p + end + 1, rest.len - end - 1 };
        }
        return true;
}

int quota_write_row(struct store *store, struct db_txn *txn, const char *name, const struct quota_root *r, struct err *err)
{
        struct str key = STR_INIT, value = STR_INIT;
        int rc;

        row_key(name, &key);
        if (r)
                format_row(r, &value);
        rc = r ? db_put(store->quotas_db, txn, str_span(&key), str_span(&value), err) : db_del(store->quotas_db, txn, str_span(&key), err);
        str_deinit(&key);
        str_deinit(&value);
        return rc;
}

/* ---- loading, saving ---- */

static int load(struct quotas *q, struct err *err)
{
        struct db_cursor *cursor;
        struct span key, value;
        int rc;

        if (!q->store->quotas_db)
                return 0;
        if (db_cursor_open(q->store->quotas_db, NULL, SPAN("R"), &cursor, err) < 0)
                return -1;
        while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0) {
                struct quota_root *r;
                char *name = xstrndup(key.p + 1, key.len - 1);

                quota_lock(q);
                r = quota_add_locked(q, name);
                r->unsure = q->store->unclean;
                if (!parse_row(value, r)) {
                        log_event(LOG_ERROR, NULL, "quota.damaged", "root=%s consequence=\"it has no limits until they are set again\"", name);
                        for (int i = 0; i < QUOTA_RESOURCES; i++)
                                r->limit[i] = QUOTA_UNLIMITED;
                        r->unsure = true;
                }
                r->used[QUOTA_MAILBOX] = 0;
                r->dirty = r->unsure;
                quota_unlock(q);
                free(name);
        }
        db_cursor_close(&cursor);
        return rc;
}

static void count_mailboxes(struct quotas *q)
{
        const struct mbentry *found[64];
        struct str after = STR_INIT;
        unsigned n;

        while ((n = mboxlist_next(q->store->ml, "", after.data, found, 64)) > 0) {
                quota_lock(q);
                for (unsigned i = 0; i < n; i++) {
                        struct quota_root *r = found[i]->type == MBTYPE_NORMAL ? quota_resolve_locked(q, found[i]->name, NULL, NULL) : NULL;

                        if (r)
                                r->used[QUOTA_MAILBOX]++;
                }
                quota_unlock(q);
                str_clear(&after);
                str_append_str(&after, found[n - 1]->name);
                for (unsigned i = 0; i < n; i++)
                        mbentry_unref(&found[i]);
        }
        str_deinit(&after);
}

int quotas_open(struct store *store, struct quotas **quotas_r, struct err *err)
{
        struct quotas *q = xcalloc(1, sizeof *q);

        q->store = store;
        q->roots = table_create();
        mutex_init(&q->lock);
        mutex_init(&q->setting);
        *quotas_r = q;
        if (load(q, err) < 0)
                return -1;
        if (atomic_load(&q->count))
                count_mailboxes(q);
        return 0;
}

void quotas_destroy(struct quotas **qp)
{
        struct quotas *q = *qp;

        *qp = NULL;
        if (!q)
                return;
        for (size_t i = 0; i < q->all.n; i++) {
                free(q->all.v[i]->name);
                free(q->all.v[i]);
        }
        for (size_t i = 0; i < q->old_names.n; i++)
                free(q->old_names.v[i]);
        ARRAY_FREE(&q->all);
        ARRAY_FREE(&q->old_names);
        table_destroy(&q->roots);
        mutex_deinit(&q->lock);
        mutex_deinit(&q->setting);
        free(q);
}

struct saving { struct store *store; struct quota_root *rows; size_t n; };

static int save_rows(struct db_txn *txn, void *ctx, struct err *err)
{
        struct saving *s = ctx;

        for (size_t i = 0; i < s->n; i++)
                if (quota_write_row(s->store, txn, s->rows[i].name, &s->rows[i], err) < 0)
                        return -1;
        return 0;
}

/* Some hundred roots in one transaction. The setting lock keeps limits from being changed between reading and writing. */
int quotas_save(struct store *store, bool sync, struct err *err)
{
        enum { BATCH = 250 };
        struct quotas *q = store->quotas;
        struct saving s = { .store = store };
        size_t at = 0, all = 0;
        int rc = 0;

        if (!q || store->readonly || !store->quotas_db)
                return 0;
        mutex_lock(&q->setting);
        s.rows = xcalloc(BATCH, sizeof *s.rows);
        do {
                s.n = 0;
                quota_lock(q);
                all = q->all.n;
                for (; at < all && s.n < BATCH; at++) {
                        struct quota_root *r = q->all.v[at];

                        if (!r->dirty || r->gone)
                                continue;
                        r->dirty = false;
                        s.rows[s.n] = *r;
                        s.rows[s.n++].name = xstrdup(r->name);
                }
                quota_unlock(q);
                if (s.n)
                        rc = db_run(store->env, sync, save_rows, &s, err);
                for (size_t i = 0; i < s.n; i++)
                        free(s.rows[i].name);
        } while (rc == 0 && at < all);
        free(s.rows);
        mutex_unlock(&q->setting);
        return rc;
}

/* ---- setting ---- */

struct setting { struct store *store; const char *name; struct quota_root *row; };

static int write_setting(struct db_txn *txn, void *ctx, struct err *err)
{
        struct setting *s = ctx;

        return quota_write_row(s->store, txn, s->name, s->row, err);
}

static int writable(struct store *store, struct err *err)
{
        if (store_may_change(store, err) < 0)
                return -1;
        if (store->readonly || !store->quotas_db || conf_switch(store_conf(store), NULL, "readonly"))
                return err_set(err, ERR_READONLY, "quotas cannot be changed now");
        return 0;
}

/* Is there a mailbox at or below this name? */
static bool anything_there(struct store *store, const char *name)
{
        const struct mbentry *e = mboxlist_find(store->ml, name);
        bool there = e && e->type == MBTYPE_NORMAL;

        mbentry_unref(&e);
        return there || mboxlist_has_children(store->ml, name);
}

static int set_in_memory(struct quotas *q, const char *root, const struct quota_root *row, struct err *err)
{
        struct quota_root *r, *above = NULL;
        bool fresh;

        quota_lock(q);
        r = table_find(q->roots, span_of(root));
        fresh = !r;
        if (fresh) {
                above = quota_resolve_locked(q, root, NULL, NULL);
                r = quota_add_locked(q, root);
                quota_doubt(r);
                quota_doubt(above);
        }
        memcpy(r->limit, row->limit, sizeof r->limit);
        r->modseq = row->modseq;
        r->dirty = true;
        quota_unlock(q);
        if (!fresh)
                return 0;
        /* Durable it is already; should adding up fail, both stay unsure, and the next who asks tries again. */
        if (quota_settle_root(q, r, err) < 0)
                return -1;
        return above ? quota_settle_root(q, above, err) : 0;
}

static int set_root(struct store *store, const char *root, const int64_t limit[QUOTA_RESOURCES], const bool which[QUOTA_RESOURCES], bool force,
                    uint64_t modseq, struct err *err)
{
        struct quotas *q = store->quotas;
        struct quota_root row = { .name = NULL }, *r;
        int rc;

        if (writable(store, err) < 0)
                return -1;
        if (strlen(root) > MAILNAME_MAX || strchr(root, '\n'))
                return err_set(err, ERR_BADNAME, "impossible name of a quota root");
        for (int i = 0; i < QUOTA_RESOURCES; i++)
                if (which[i] && limit[i] > QUOTA_LIMIT_MAX)
                        return err_set(err, ERR_LIMIT, "a limit of more than %" PRId64, QUOTA_LIMIT_MAX);
        mutex_lock(&q->setting);
        quota_lock(q);
        r = table_find(q->roots, span_of(root));
        if (r)
                row = *r;
        quota_unlock(q);
        for (int i = 0; i < QUOTA_RESOURCES; i++) {
                if (!r)
                        row.limit[i] = QUOTA_UNLIMITED;
                if (which[i])
                        row.limit[i] = limit[i] < 0 ? QUOTA_UNLIMITED : limit[i];
        }
        row.modseq = modseq ? modseq : names_next_modseq(store->ml);
        if (!r && !force && !anything_there(store, root))
                rc = err_set(err, ERR_NOTFOUND, "no mailbox %s", root);
        else
                rc = db_run(store->env, true, write_setting, &(struct setting){ store, root, &row }, err);
        if (rc == 0)
                rc = set_in_memory(q, root, &row, err);
        mutex_unlock(&q->setting);
        if (rc == 0)
                change_publish(store, &(struct change){ .kind = CHANGE_QUOTA, .name = root, .modseq = row.modseq });
        return rc;
}

int quota_set(struct store *store, const char *root, const int64_t limit[QUOTA_RESOURCES], const bool which[QUOTA_RESOURCES],
              bool force, struct err *err)
{
        return set_root(store, root, limit, which, force, 0, err);
}

int quota_set_exactly(struct store *store, const char *root, const int64_t limit[QUOTA_RESOURCES], uint64_t modseq, struct err *err)
{
        static const bool all[QUOTA_RESOURCES] = { true, true, true, true };

        return set_root(store, root, limit, all, true, modseq, err);
}

/* The setting lock is held. */
static int remove_root(struct store *store, const char *root, struct err *err)
{
        struct quotas *q = store->quotas;
        struct quota_root *r, *above = NULL;

        if (db_run(store->env, true, write_setting, &(struct setting){ store, root, NULL }, err) < 0)
                return -1;
        quota_lock(q);
        r = table_find(q->roots, span_of(root));
        if (r) {
                quota_drop_locked(q, r);
                above = quota_resolve_locked(q, root, NULL, NULL);
                quota_doubt(above);
        }
        quota_unlock(q);
        return above ? quota_settle_root(q, above, err) : 0;
}

int quota_remove(struct store *store, const char *root, struct err *err)
{
        struct quotas *q = store->quotas;
        int rc;

        if (writable(store, err) < 0)
                return -1;
        mutex_lock(&q->setting);
        rc = quota_get(store, root, NULL) ? remove_root(store, root, err) : err_set(err, ERR_NOTFOUND, "no quota root %s", root);
        mutex_unlock(&q->setting);
        if (rc == 0)
                change_publish(store, &(struct change){ .kind = CHANGE_QUOTA, .name = root });
        return rc;
}

/* As it was before it was added up. */
static void undo(struct quotas *q, struct quota_root *r, const struct quota_info *before, const struct quota_info *after)
{
        quota_lock(q);
        for (int i = 0; i < QUOTA_RESOURCES; i++)
                r->used[i] += before->used[i] - after->used[i];
        if (before->unsure)
                quota_doubt(r);
        quota_unlock(q);
}

int quota_fix(struct store *store, const char *root, bool dry, struct quota_info *before_r, struct quota_info *after_r, bool *removed_r,
              struct err *err)
{
        struct quotas *q = store->quotas;
        struct quota_root *r;
        int rc = 0;

        *removed_r = false;
        mutex_lock(&q->setting);
        quota_lock(q);
        r = table_find(q->roots, span_of(root));
        if (r) {
                quota_copy_out(r, before_r);
                quota_doubt(r);
        }
        quota_unlock(q);
        if (!r) {
                rc = err_set(err, ERR_NOTFOUND, "no quota root %s", root);
        } else if (!anything_there(store, root) && writable(store, NULL) == 0) {
                *after_r = *before_r;
                rc = dry ? 0 : remove_root(store, root, err);
                *removed_r = rc == 0;
        } else {
                rc = quota_settle_root(q, r, err);
                if (rc == 0)
                        quota_get(store, root, after_r);
                if (rc == 0 && dry)
                        undo(q, r, before_r, after_r);
        }
        mutex_unlock(&q->setting);
        return rc;
}
