/*
 * relocation - one mailbox goes to another partition: what mboxlist_move.c needs of it. How that is done: mailbox_relocate.c.
 * All of it blocks.
 */
#ifndef STORE_RELOCATION_H
#define STORE_RELOCATION_H

#include <stdbool.h>
#include <stdint.h>

#include "store/lock_order.h"
#include "store/mailbox.h"
#include "util/err.h"

struct relocation;

/* The reference to `m` is the caller's, and stays until the relocation is over. What the target's directory has from an earlier time
 * goes; it is written down already that it may have to be removed. ERR_READONLY, ERR_CONFIG (both are one directory), ERR_IO. */
int relocation_begin(struct mailbox *m, const char *partition_dir, struct relocation **r_r, struct err *err) EXCLUDES(mailbox_class);
/* What can be copied while all goes on. `stopped` (may be NULL) is asked now and then. ERR_NOSPACE, ERR_IO, ERR_BUSY: stopped. */
int relocation_copy(struct relocation *r, bool (*stopped)(void *ctx), void *ctx, struct err *err) EXCLUDES(mailbox_class);
/* The rest. From now on what is acknowledged is in both directories, on disk; checkpoints, compaction and large copies wait until the end. */
int relocation_join(struct relocation *r, bool (*stopped)(void *ctx), void *ctx, struct err *err) EXCLUDES(mailbox_class);
/* It is about to be written down that the mailbox is there: from now on the copy's failing is the mailbox's. */
int relocation_decide(struct relocation *r, struct err *err) EXCLUDES(mailbox_class);
/* It is there. Ends `r`; the former directory is left: relocation_remove_old(). */
void relocation_finish(struct relocation **r) EXCLUDES(mailbox_class);
/* It is not: ends `r`, and the copy goes. With `in_doubt` nothing goes, and the mailbox takes no changes until the next start. */
void relocation_abort(struct relocation **r, const struct err *in_doubt) EXCLUDES(mailbox_class);
uint64_t relocation_octets(const struct relocation *r);         /* of files copied or linked so far */
/* Remove what a partition has of a mailbox that is not there any more. false: not now (its files are read), or it failed. */
bool relocation_remove_old(struct store *store, const char *uniqueid, const char *partition_dir) EXCLUDES(open_class);
/* Has the partition no directory of it, for good: will not even a power loss bring it back? */
bool relocation_is_gone(const char *partition_dir, const char *uniqueid, struct err *err);
/* Of a directory: how far its log goes, which decides; how many blobs it has; the generation of its manifest. The higher, the newer. 0: damaged,
 * or not there. */
struct relocation_found { uint64_t seq, blobs, generation; };
/* Has this partition a directory of this mailbox? Reads the end of its log. */
bool relocation_look(const char *partition_dir, const char *uniqueid, struct relocation_found *found_r);

#endif
