/*
 * mboxlist_removal - directories on their way out, or not yet in.
 *
 * removals.db: key unique id, value name of the partition. A row is written in the transaction that takes a mailbox's entry away, and
 * before a new mailbox's directory is made; the latter goes in the transaction that commits the entry. The row of a deleted mailbox
 * stays until its directory is seen to be gone (at a checkpoint or the next start). So whatever directory a kill -9 leaves without
 * an entry has a row, and the next start removes it – unless an entry has that unique id, which always wins.
 */
#include <string.h>

#include "store/mboxlist_private.h"
#include "store/seen_private.h"
#include "store/store_private.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

void changes_removal(struct name_changes *changes, const struct mbentry *e, bool settled)
{
        *ARRAY_PUSH(&changes->removals) = (struct removal){ arena_strdup(&changes->arena, e->uniqueid),
                                                            arena_strdup(&changes->arena, e->partition), settled };
}

int removals_write(struct store *store, struct db_txn *txn, const struct name_changes *changes, struct err *err)
{
        for (size_t i = 0; i < changes->removals.n; i++) {
                const struct removal *r = &changes->removals.v[i];
                int rc = r->settled ? db_del(store->removals_db, txn, span_of(r->uniqueid), err)
                                    : db_put(store->removals_db, txn, span_of(r->uniqueid), span_of(r->partition), err);

                if (rc < 0 || (!r->settled && seens_forget_mailbox(store, txn, r->uniqueid, err) < 0))
                        return -1;
        }
        return 0;
}

struct row { struct store *store; const char *uniqueid, *partition; };

static int put_row(struct db_txn *txn, void *ctx, struct err *err)
{
        struct row *r = ctx;

        return db_put(r->store->removals_db, txn, span_of(r->uniqueid), span_of(r->partition), err);
}

int removal_announce(struct mboxlist *ml, const struct mbentry *e, struct err *err)
{
        return db_run(ml->store->env, false, put_row, &(struct row){ ml->store, e->uniqueid, e->partition }, err);
}

bool removal_pending(struct mboxlist *ml, const char *uniqueid)
{
        return ml->store->removals_db && db_get(ml->store->removals_db, NULL, span_of(uniqueid), NULL, NULL) > 0;
}

struct rows { struct store *store; ARRAY(struct row) list; ARRAY(const char *) done; struct arena arena; };

static int read_rows(struct rows *rows, struct err *err)
{
        struct db_cursor *cursor;
        struct span key, value;
        int rc;

        if (db_cursor_open(rows->store->removals_db, NULL, SPAN(""), &cursor, err) < 0)
                return -1;
        while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0)
                if (key.len >= 4 && key.p[0] != '!' && !memchr(key.p, '/', key.len) && key.p[0] != '.')
                        *ARRAY_PUSH(&rows->list) = (struct row){ rows->store, arena_strndup(&rows->arena, key.p, key.len),
                                                                 arena_strndup(&rows->arena, value.p, value.len) };
        db_cursor_close(&cursor);
        return rc;
}

/* May the row go? */
static bool settle(struct mboxlist *ml, const struct row *row, bool remove)
{
        const struct mbentry *e = mem_find_id(&ml->mem, row->uniqueid);
        const char *dir = store_partition_dir(ml->store, row->partition);
        struct str path = STR_INIT;
        struct err err = ERR_INIT;
        bool done;

        if (e) {
                mbentry_unref(&e);
                return true;
        }
        if (!dir)
                return false;                           /* perhaps it is configured again some day */
        str_printf(&path, "%s/%c/%c/%s", dir, row->uniqueid[0], row->uniqueid[1], row->uniqueid);
        done = !fs_exists(path.data);
        if (!done && remove) {
                done = fs_remove_tree(path.data, &err) == 0;
                log_event(done ? LOG_INFORM : LOG_WARN, NULL, "mboxlist.removed", "path=%s%s%s", path.data, done ? "" : " reason=",
                          err.text);
        }
        str_deinit(&path);
        return done;
}

static int forget_rows(struct db_txn *txn, void *ctx, struct err *err)
{
        struct rows *rows = ctx;

        for (size_t i = 0; i < rows->done.n; i++)
                if (db_del(rows->store->removals_db, txn, span_of(rows->done.v[i]), err) < 0)
                        return -1;
        return 0;
}

int mboxlist_settle_removals(struct mboxlist *ml, bool remove, struct err *err)
{
        struct rows rows = { .store = ml->store };
        int rc;

        if (ml->store->readonly || !ml->store->removals_db)
                return 0;
        /* No creation is between its row and its directory, or between its directory and its entry. */
        names_lock_all(ml);
        rc = read_rows(&rows, err);
        for (size_t i = 0; rc == 0 && i < rows.list.n; i++)
                if (settle(ml, &rows.list.v[i], remove))
                        *ARRAY_PUSH(&rows.done) = rows.list.v[i].uniqueid;
        if (rc == 0 && rows.done.n)
                rc = db_run(ml->store->env, false, forget_rows, &rows, err);
        names_unlock_all(ml);
        ARRAY_FREE(&rows.list);
        ARRAY_FREE(&rows.done);
        arena_deinit(&rows.arena);
        return rc;
}
