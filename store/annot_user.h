/*
 * annot_user - whose private annotations? In the logs of mailboxes users stand as keys, so that the rename or removal of one is a row of a
 * table and no change of any log: he takes his annotations along, in whatever mailboxes they are, and who is given his name later
 * finds none. Rows stand with the server's annotations (server_annot.c), and all in memory. For the files of the store; others see annot.h.
 *
 * A store without databases (a tool that looks at one mailbox) has no keys: users stand for themselves.
 */
#ifndef STORE_ANNOT_USER_H
#define STORE_ANNOT_USER_H

#include <stdbool.h>

#include "store/db.h"
#include "util/arena.h"
#include "util/lock.h"

struct store;
struct annot_users;

#define ANNOT_USER_KEY_MAX 256

/* As the log has him: "/" and digits, which is no user id. false: he has no key. */
bool annot_user_key(struct store *store, const char *userid, char key[ANNOT_USER_KEY_MAX]);
/* Who that is now, in the arena; NULL: nobody any more. */
const char *annot_user_name(struct store *store, const char *key, struct arena *arena);

/* Another number, never 0, whenever a user has got, lost or changed his key. */
uint64_t annot_users_generation(struct store *store);

/* ---- the table ---- */

struct annot_users *annot_users_create_empty(void);
void annot_users_destroy(struct annot_users **users);
/* He is this one from now on; key NULL: he has none. */
void annot_users_set(struct annot_users *users, const char *userid, const char *key);
/* Held while rows are read again and set: whoever is last has the last state. */
struct mutex *annot_users_refreshing(struct annot_users *users);

/* ---- server_annot.c ---- */

/* Read them from the database, which is open. */
int annot_users_open(struct store *store, struct annot_users **users_r, struct err *err);
/* Within a transaction: he is now called `to` (NULL: he is removed); what annotations were `to`'s are nobody's. */
int annot_users_rename(struct store *store, struct db_txn *txn, const char *from, const char *to, struct err *err);
/* After it. */
void annot_users_renamed(struct store *store, const char *from, const char *to);

#endif
