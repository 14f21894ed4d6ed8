/* server_annot - what changes of names call for the server's annotations. The rest is in annot.h. */
#ifndef STORE_SERVER_ANNOT_H
#define STORE_SERVER_ANNOT_H

#include "store/db.h"

struct store;

/* Within a transaction: a user's private ones go to `to` (NULL: are forgotten). */
int server_annots_rename_user(struct store *store, struct db_txn *txn, const char *from, const char *to, struct err *err);

#endif
