/*
 * mboxlist_removal - directories on their way out, or not yet in.
 *
 * removals.db: key unique id, or "<unique id>@<partition>" of a mailbox that is moved; value name of the partition. A row is written in the
 * transaction that takes a mailbox's entry away, and before a new mailbox's directory is made; the latter goes in the transaction
 * that commits the entry. The row of a deleted mailbox stays until its directory is seen to be gone (at a checkpoint or the next start). So
 * whatever directory a kill -9 leaves without an entry has a row, and the next start removes it – unless an entry has that
 * unique id and is in that partition, which always wins.
 *
 * One that is moved has a row for the directory that it gets, before that is made, and synced. The transaction that moves the entry turns it
 * into one for the directory that it leaves, which stays until that is gone for good: nobody would ever miss a second directory.
 */
#include <string.h>
#include <strings.h>

#include "store/mboxlist_private.h"
#include "store/relocation.h"
#include "store/seen_private.h"
#include "store/store_private.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

void changes_removal(struct name_changes *changes, const struct mbentry *e, bool settled)
{
        *ARRAY_PUSH(&changes->removals) = (struct removal){ arena_strdup(&changes->arena, e->uniqueid),
                                                            arena_strdup(&changes->arena, e->partition), settled, false };
}

void changes_moved(struct name_changes *changes, const struct mbentry *from, const struct mbentry *to)
{
        changes_removal(changes, from, false);
        changes_removal(changes, to, true);
        for (size_t i = 1; i <= 2; i++)
                changes->removals.v[changes->removals.n - i].moved = true;
}

static struct span moved_key(const char *uniqueid, const char *partition, struct str *buf)
{
        str_clear(buf);
        str_printf(buf, "%s@%s", uniqueid, partition);
        return str_span(buf);
}

int removals_write(struct store *store, struct db_txn *txn, const struct name_changes *changes, struct err *err)
{
        struct str buf = STR_INIT;
        int rc = 0;

        for (size_t i = 0; i < changes->removals.n && rc == 0; i++) {
                const struct removal *r = &changes->removals.v[i];
                struct span key = r->moved ? moved_key(r->uniqueid, r->partition, &buf) : span_of(r->uniqueid);

                rc = r->settled ? db_del(store->removals_db, txn, key, err)
                                : db_put(store->removals_db, txn, key, span_of(r->partition), err);
                if (rc == 0 && !r->settled && !r->moved)
                        rc = seens_forget_mailbox(store, txn, r->uniqueid, err);
        }
        str_deinit(&buf);
        return rc;
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

struct moved_rows { struct store *store; const char *const *uniqueids; size_t n; const char *partition; bool forget; };

static int write_moved_rows(struct db_txn *txn, void *ctx, struct err *err)
{
        struct moved_rows *r = ctx;
        struct str buf = STR_INIT;
        int rc = 0;

        for (size_t i = 0; i < r->n && rc == 0; i++) {
                struct span key = moved_key(r->uniqueids[i], r->partition, &buf);

                rc = r->forget ? db_del(r->store->removals_db, txn, key, err)
                               : db_put(r->store->removals_db, txn, key, span_of(r->partition), err);
        }
        str_deinit(&buf);
        return rc;
}

int removals_announce(struct mboxlist *ml, const char *const *uniqueids, size_t n, const char *partition, struct err *err)
{
        return db_run(ml->store->env, true, write_moved_rows, &(struct moved_rows){ ml->store, uniqueids, n, partition, false }, err);
}

int removals_forget(struct mboxlist *ml, const char *const *uniqueids, size_t n, const char *partition, struct err *err)
{
        return db_run(ml->store->env, false, write_moved_rows, &(struct moved_rows){ ml->store, uniqueids, n, partition, true }, err);
}

bool removal_pending(struct mboxlist *ml, const char *uniqueid, const char *partition)
{
        struct str buf = STR_INIT;
        bool pending;

        if (!ml->store->removals_db)
                return false;
        pending = db_get(ml->store->removals_db, NULL, span_of(uniqueid), NULL, NULL) > 0 ||
                  db_get(ml->store->removals_db, NULL, moved_key(uniqueid, partition, &buf), NULL, NULL) > 0;
        str_deinit(&buf);
        return pending;
}

struct known_row { const char *key, *uniqueid, *partition; bool moved; };
struct rows { struct store *store; ARRAY(struct known_row) list; ARRAY(const char *) done; struct arena arena; };

static int read_rows(struct rows *rows, struct err *err)
{
        struct db_cursor *cursor;
        struct span key, value;
        int rc;

        if (db_cursor_open(rows->store->removals_db, NULL, SPAN(""), &cursor, err) < 0)
                return -1;
        while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0) {
                const char *at = memchr(key.p, '@', key.len);
                size_t len = at ? (size_t)(at - key.p) : key.len;

                if (len >= 4 && key.p[0] != '!' && !memchr(key.p, '/', key.len) && key.p[0] != '.')
                        *ARRAY_PUSH(&rows->list) = (struct known_row){ arena_strndup(&rows->arena, key.p, key.len),
                                arena_strndup(&rows->arena, key.p, len), arena_strndup(&rows->arena, value.p, value.len), at != NULL };
        }
        db_cursor_close(&cursor);
        return rc;
}

/* Is the mailbox where this row is about? */
static bool is_there(struct mboxlist *ml, const struct known_row *row)
{
        const struct mbentry *e = mem_find_id(&ml->mem, row->uniqueid);
        bool yes = e && (!row->moved || strcasecmp(e->partition, row->partition) == 0);

        mbentry_unref(&e);
        return yes;
}

/* May the row go? */
static bool settle(struct mboxlist *ml, const struct known_row *row, bool remove)
{
        const char *dir = store_partition_dir(ml->store, row->partition);
        struct str path = STR_INIT;
        struct err err = ERR_INIT;
        bool done;

        if (is_there(ml, row))
                return true;
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
        return done && (!row->moved || relocation_is_gone(dir, row->uniqueid, &err));
}

/* What mailboxes left that are elsewhere now: with ml->moving, so that none of them comes back meanwhile. */
static int remove_left(struct mboxlist *ml, struct err *err)
{
        struct rows rows = { .store = ml->store };
        int rc = read_rows(&rows, err);

        for (size_t i = 0; rc == 0 && i < rows.list.n; i++) {
                const struct known_row *row = &rows.list.v[i];
                const char *dir = store_partition_dir(ml->store, row->partition);

                if (row->moved && dir && !is_there(ml, row))
                        (void)relocation_remove_old(ml->store, row->uniqueid, dir);
        }
        ARRAY_FREE(&rows.list);
        arena_deinit(&rows.arena);
        return rc;
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
        int rc = 0;

        if (ml->store->readonly || !ml->store->removals_db)
                return 0;
        if (!remove && mutex_trylock(&ml->moving)) {
                rc = remove_left(ml, err);
                mutex_unlock(&ml->moving);
        }
        if (rc < 0)
                return -1;
        /* No creation is between its row and its directory, or between its directory and its entry. */
        names_lock_all(ml);
        rc = read_rows(&rows, err);
        for (size_t i = 0; rc == 0 && i < rows.list.n; i++)
                if (!(rows.list.v[i].moved && atomic_load(&ml->is_moving)) && settle(ml, &rows.list.v[i], remove))
                        *ARRAY_PUSH(&rows.done) = rows.list.v[i].key;
        if (rc == 0 && rows.done.n)
                rc = db_run(ml->store->env, false, forget_rows, &rows, err);
        names_unlock_all(ml);
        ARRAY_FREE(&rows.list);
        ARRAY_FREE(&rows.done);
        arena_deinit(&rows.arena);
        return rc;
}
