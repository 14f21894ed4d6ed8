/*
 * journal_private - the journal's files. Only journal.c and journal_recover.c include it.
 *
 * A lap's file is a row of groups, from its beginning. A group: struct group_head, then for each log struct piece_head and its octets, each
 * padded to 8. The checksum covers all of the group behind it and continues the former group's (the first: 0); with the lap's salt in it, drawn
 * anew for each, a row ends where the lap ends, though the file goes on with groups of an earlier lap.
 *
 * A file that has LAP_CLOSED in place of its first group's magic has nothing in it, whatever follows: it was just made, or all that it had is in the
 * logs. Files keep their size and their blocks for as long as there is a partition, so that they are only written over.
 */
#ifndef STORE_JOURNAL_PRIVATE_H
#define STORE_JOURNAL_PRIVATE_H

#include "store/journal.h"
#include "store/mlog.h"

#define JOURNAL_LAPS 2
#define GROUP_MAGIC 0x6a72796387a1c05bull
#define LAP_CLOSED 0x6465736f6c637972ull
#define GROUP_BYTES_MAX (sizeof(struct group_head) + JOURNAL_GROUP_MAX * (sizeof(struct piece_head) + JOURNAL_TAIL_MAX))
#define GROUP_SEALED offsetof(struct group_head, pieces)        /* what the checksum covers begins here */

struct group_head {
        uint64_t magic;
        uint32_t crc;                           /* CRC-32C of what follows, the pieces included; continues the former group's */
        uint32_t pieces;
        uint64_t salt;
        uint64_t len;                           /* of the group, with this head: a multiple of 8 */
};
_Static_assert(sizeof(struct group_head) == 32, "on the disk");

struct piece_head {
        char uniqueid[MLOG_UNIQUEID_MAX];
        uint64_t segment, offset;
        uint32_t segment_crc, len;
};
_Static_assert(sizeof(struct piece_head) == 64, "on the disk");

/* Appends the path of a lap's file. */
void journal_path(struct str *out, const char *dir, unsigned lap);
/* Mark it as one that has nothing in it. Not synced: should the mark be lost, what it has is written again, which changes nothing. */
void journal_close_lap(int fd, const char *dir);

#endif
