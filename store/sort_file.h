/*
 * sort_file - facts for sorting (store/sort_facts.h) that a mailbox's headers were read for once, in a file beside its log.
 *
 * The file is derived, and never synced: lost, torn or damaged it is removed, and the headers are read again. It cannot be wrong either: each
 * record has some octets of the message's GUID, and whoever asks knows what they should be. store/sort_cache.h is the only user.
 *
 * What stands of a message in there, its octets have in the log; compaction, which is when those of expunged messages go, removes the
 * file. A mailbox that goes to another partition leaves it behind.
 */
#ifndef STORE_SORT_FILE_H
#define STORE_SORT_FILE_H

#include "store/lock_order.h"
#include "store/sort_facts.h"

struct mailbox;

#define SORT_BLOCK_UIDS 1024                    /* messages whose UIDs have the same quotient by this are kept together */

/* Records of messages of one block: ascending UIDs, what tells the message from another one with that UID, and where in `data` the record is. */
struct sort_piece {
        uint32_t n;
        const uint32_t *uid, *check, *offset;
        const char *data;                       /* 8-aligned */
        size_t data_len;                        /* a multiple of 8 */
};

/* A message's check, of its GUID. */
static inline uint32_t sort_check(const uint8_t *guid)
{
        uint32_t check;

        memcpy(&check, guid, sizeof check);
        return check;
}

struct sort_file;
/* What the mailbox's file has; an empty one when there is none. For one thread. */
struct sort_file *sort_file_open(struct mailbox *mbox) EXCLUDES(mailbox_class);
void sort_file_close(struct sort_file **f);
/*
 * The next piece of block `number`, older ones first: start with *pos = 0. False: there is none any more. What is in the file twice comes
 * twice. The piece is in `buf`, which is overwritten.
 */
bool sort_file_next(struct sort_file *f, uint32_t number, uint32_t *pos, struct str *buf, struct sort_piece *piece_r);
/* Add a piece. Where that fails nothing is said: it is the next start that has to read those headers. */
void sort_file_append(struct mailbox *mbox, uint32_t number, const struct sort_piece *piece) EXCLUDES(mailbox_class);

#endif
