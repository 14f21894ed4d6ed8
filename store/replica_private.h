/* replica_private - what the replica*.c files share. Nobody else includes it. */
#ifndef STORE_REPLICA_PRIVATE_H
#define STORE_REPLICA_PRIVATE_H

#include "store/mailbox_private.h"
#include "store/replica.h"

/* ---- replica_record.c ---- */

bool replica_is_virtual(const char *entry);     /* one of the three */
/* A message's record, without annotations; keywords in the arena. Names are read without the lock. */
void replica_record_of(struct mailbox *m, const struct index_rec *rec, struct arena *arena, struct replica_record *out);

/* ---- replica_read.c ---- */

/* An open mailbox and its entry, which is what the list says now. NULL: see err. */
const struct mbentry *replica_find(struct store *store, const char *name, struct mailbox **mbox_r, struct err *err);
/* The CRCs of the mailbox as it is now, all that is written among it; from what is kept. Lock held; blocks that are not known are read. */
int replica_crcs_locked(struct mailbox *m, struct replica_crcs *crcs_r, struct err *err) REQUIRES(m->lock, mailbox_class);
/* See to it that they are known of nearly all blocks, so that the above is quick. `anew`: forget them before. */
int replica_crcs_prepare(struct mailbox *m, bool anew, struct err *err) EXCLUDES(mailbox_class);

#endif
