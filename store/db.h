/*
 * db - Berkeley DB 5.3 behind a small door: one transactional environment in one directory, tables of octet strings in key order.
 *
 * The environment's regions are private to this process (DB_PRIVATE): the caller must hold a lock that keeps all other processes
 * out (store.c: cyrd.lock), because opening runs recovery. Any thread may call anything here except open and close. Nothing in it
 * is on the path of a message commit.
 *
 * Deadlocks are detected when they form (the locker with the fewest writes gives way) and db_run() tries again. A full
 * disk fails transactions (ERR_NOSPACE) and nothing else: they are taken back, and later ones go on when there is room. When a sync or
 * a commit fails in any other way, or Berkeley DB says that it needs recovery, the environment has failed: reads may go on, every
 * change is ERR_READONLY until the next start.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"
#include "util/str.h"

struct db_env;
struct db;                                      /* one table: a file in the environment's directory */
struct db_txn;
struct db_cursor;

struct db_env_options {
        const char *dir;                        /* exists */
        uint64_t cache_bytes;                   /* 0: 32 MiB */
        bool readonly;                          /* look at the files as they are: no log, no recovery, no change */
        bool small;                             /* tests: log files soon roll over, and opening costs little */
        bool from_backup;                       /* the tables were copied from a backup: all of the log is applied to them */
};

/* Recover from the log and open. ERR_CORRUPT: not recoverable (the files are left as they are), ERR_IO, ERR_NOSPACE. */
int db_env_open(const struct db_env_options *options, struct db_env **env_r, struct err *err);
/* The errno of a call that the system refused since an environment was opened last (no space, no descriptors, no permission, a failed sync …), 0: none did.
 * What fails then is not damaged, whatever Berkeley DB says: it can be recovered once there is what was missing. */
int db_refused(void);
/* Checkpoint and close; all tables must be closed before. */
void db_env_close(struct db_env **env);
/* No changes are taken any more; *why_r (may be NULL) is a text for the operator, valid while the environment is open. */
bool db_env_failed(struct db_env *env, const char **why_r);
/* What was committed without `sync` is on the disk when this returns. Blocks. */
int db_env_flush(struct db_env *env, struct err *err);
/* Write what is dirty into the tables. Blocks. Log files stay until db_env_backup(). */
int db_env_checkpoint(struct db_env *env, struct err *err);
/*
 * Copy these tables (NULL-terminated) into the directory `to`, which exists and is empty, durably, while others go on changing them;
 * from the copies and the log files of that time on, everything can be recovered (from_backup), also when a power loss has torn a
 * page of a table. *log_r is the number of the first log file that this backup needs.
 */
int db_env_backup(struct db_env *env, const char *const *tables, const char *to, uint32_t *log_r, struct err *err);
/* Remove log files with a number below `log` that recovery does not need. */
int db_env_remove_logs(struct db_env *env, uint32_t log, struct err *err);
/* How many times transactions were committed, and how many were tried again after a deadlock. */
void db_env_stats(struct db_env *env, uint64_t *commits_r, uint64_t *retries_r);

/* Open a table, made when it is missing (not when readonly: ERR_NOTFOUND). */
int db_open(struct db_env *env, const char *file, struct db **db_r, struct err *err);
void db_close(struct db **db);

/*
 * Run `fn` in a transaction and commit it: with `sync` it is on the disk when this returns 0 (commits of several threads share the
 * sync), else it is with the operating system (kill -9 does not lose it, power loss may). fn may be called several times; each
 * time nothing of the former call is left. When fn returns -1 the transaction is aborted and its error handed up.
 */
int db_run(struct db_env *env, bool sync, int (*fn)(struct db_txn *txn, void *ctx, struct err *err), void *ctx, struct err *err);

/* txn NULL: on its own (changes are synced then). Get: 1 found (appended to `value`, which may be NULL), 0 there is none, -1 error. */
int db_get(struct db *db, struct db_txn *txn, struct span key, struct str *value, struct err *err);
int db_put(struct db *db, struct db_txn *txn, struct span key, struct span value, struct err *err);
int db_del(struct db *db, struct db_txn *txn, struct span key, struct err *err);       /* missing is fine */

/* All records whose key begins with `prefix`, in key order. Without a transaction each record is as it was when it was read. The
 * spans are valid until the next call. db_cursor_next: 1 a record, 0 the end, -1 error. */
int db_cursor_open(struct db *db, struct db_txn *txn, struct span prefix, struct db_cursor **cursor_r, struct err *err);
int db_cursor_next(struct db_cursor *cursor, struct span *key_r, struct span *value_r, struct err *err);
void db_cursor_close(struct db_cursor **cursor);

/*
 * Dumps: a table as text, one JSON object a line ({"k":"…","v":"…"}, octets as code points 0–255), a first line that says what it
 * is and a last one that says how many records there are: a dump without it is not whole. db_dump() replaces `path`: its octets
 * are synced, its name is with the directory.
 * db_restore() puts the records of a dump into a table, in one transaction; ERR_NOTFOUND no file, ERR_CORRUPT not whole.
 */
int db_dump(struct db *db, const char *path, struct err *err);
int db_restore(struct db *db, const char *path, uint64_t *records_r, struct err *err);
const char *db_library_version(void);           /* "Berkeley DB 5.3.28: …" */

#endif
