/* db_private - the inside of db.h's structs, for db.c and db_table.c. */
#ifndef STORE_DB_PRIVATE_H
#define STORE_DB_PRIVATE_H

#include <db.h>
#include <stdatomic.h>

#include "store/db.h"

struct db_env {
        DB_ENV *env;                            /* NULL when readonly */
        char *dir;
        bool readonly;
        unsigned failed_syncs;                  /* of the process, when it was opened */
        atomic_bool failed;
        char why[256];                          /* written once, before `failed` */
        atomic_flag why_taken;
        atomic_uint_fast32_t last_error;        /* of Berkeley DB's messages: so that the same is not logged all the time */
        uint64_t last_error_logged;             /* log_once() */
        atomic_uint_fast64_t commits, retries;
        atomic_uint_fast64_t unchecked_bytes;   /* put since the last checkpoint */
};

struct db {
        DB *db;
        struct db_env *env;
        char *file;
};

struct db_txn {
        DB_TXN *txn;
        bool deadlock;                          /* some operation gave way: abort and try again */
};

/* Turn Berkeley DB's error into ours; notes deadlocks in txn (may be NULL) and a need for recovery in env. Always -1. */
int db_fail(struct db_env *env, struct db_txn *txn, int rc, struct err *err, const char *what);
void db_env_mark_failed(struct db_env *env, const char *what, const char *why);
/* ERR_READONLY when the environment takes no changes. */
int db_writable(struct db_env *env, struct err *err);

#endif
