/*
 * mlog - the log that a mailbox is: segments, records, batches, the manifest. Layout, write order and what each crash leaves: at the
 * top of mlog.c. Nothing here knows what a mailbox does with the records; mailbox_state.c applies them.
 * No locks: a builder, a scan and a manifest belong to one thread at a time.
 */
#ifndef STORE_MLOG_H
#define STORE_MLOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "store/uidset.h"
#include "util/err.h"
#include "util/file.h"
#include "util/hash.h"
#include "util/str.h"

#define MLOG_UNIQUEID_MAX 40                    /* octets of a unique id with its NUL, as on disk */
#define MLOG_FRONT_MAX (48u << 20)              /* a record's front: rendered MIME structures of the worst message */
#define MLOG_BODY_MAX (1ull << 32)
#define MLOG_SEGMENT_ID_MAX 0xffffffu           /* 24 bits: a durable mark packs segment and offset */

enum mlog_type {                                /* on the disk: never change the values */
        MLOG_MESSAGE = 1,                       /* struct mlog_message, strings, parts; body: the octets (none when a blob) */
        MLOG_FLAGS = 2,                         /* struct mlog_flags, then struct mlog_flag_entry[n]: absolute results */
        MLOG_EXPUNGE = 3,                       /* struct mlog_uids, then struct uidrange[n]; of those that were expunged before, too */
        MLOG_KEYWORD = 4,                       /* struct mlog_keyword, then the name */
        MLOG_KWSET = 5,                         /* struct mlog_kwset, then uint16_t[n] ascending keyword ids */
        MLOG_OPTIONS = 6,                       /* struct mlog_options: absolute */
        MLOG_ANNOTATION = 7,                    /* struct mlog_annotation, then entry, user, value. Absolute; no value: removed */
        MLOG_MOVE_INTENT = 8,                   /* struct mlog_move, then struct uidrange[n], then the target's partition directory */
        MLOG_MOVE_ARRIVAL = 9,                  /* struct mlog_move: in the batch that brings the messages; MOVE_WITH_SEEN: as an intent, but for the
                                                 * directory struct uidrange[]: those that the source's owner has seen */
        MLOG_MOVE_DONE = 10,                    /* struct mlog_move: closes an intent or forgets an arrival */
        MLOG_PURGE = 11,                        /* struct mlog_uids, then struct uidrange[n]: tombstones forgotten for good */
        MLOG_ADOPT = 12,                        /* struct mlog_adopt: a segment that was built aside now belongs to the log */
        MLOG_STATE = 13,                        /* struct mlog_flags, then struct mlog_state_entry[n]: explicit modseqs (compaction, replication) */
        MLOG_COUNTERS = 14,                     /* struct mlog_counters: first record of each segment */
        MLOG_FORGET = 15,                       /* struct mlog_kwset (id 0), then uint16_t[n] ascending ids of keywords that have no name any more */
        MLOG_DETAILS = 16,                      /* struct mlog_flags, then struct mlog_details_entry[n]: all of a message's state that can change */
        MLOG_VALUES = 17,                       /* struct mlog_values: a mailbox's numbers as they are, lower than before perhaps (replication) */
        MLOG_TYPE_MAX
};

enum {
        MLOG_ENDS_BATCH = 1,                    /* the commit mark */
        MLOG_RELATIVE = 2,                      /* in a segment built aside: UID and modseq are added to those of its ADOPT */
};

/* A record's header as on the disk, 96 octets. Fields from outside are only believed after the checksum. */
struct mlog_header {
        uint32_t magic;
        uint16_t type;
        uint16_t flags;
        uint64_t segment;
        uint64_t offset;                        /* of this header in its segment */
        uint64_t seq;                           /* local sequence number: ascending through the whole log */
        uint64_t modseq;
        uint64_t durable;                       /* mlog_mark(): all before was on disk when this was written */
        int64_t time;                           /* Unix seconds */
        uint32_t epoch;                         /* store_epoch() */
        uint32_t prev_crc;                      /* checksum of the record before, in this segment; of the segment header for the first */
        uint32_t front_len;
        uint32_t body_crc;                      /* CRC-32C of the body */
        uint64_t body_len;
        uint32_t front_crc;                     /* CRC-32C of the front */
        uint32_t batch_index;                   /* 0 for the first record of a batch */
        uint32_t spare;
        uint32_t crc;                           /* CRC-32C of the fields above, begun with the segment's salt. Apart from the front's so
                                                 * that looking for the next whole record behind damage stays linear */
};
_Static_assert(sizeof(struct mlog_header) == 96, "on the disk");

struct mlog_message {
        uint32_t uid, flags;                    /* MSG_SYSTEM_FLAGS | MSG_EXPUNGED | MSG_BLOB | MSG_UNLINKED: then without strings and octets */
        uint64_t createdmodseq;
        int64_t last_updated, internaldate, savedate, sentdate;
        uint64_t size, thrid, emailid;
        uint32_t kwset, header_size;
        uint8_t guid[GUID_SIZE];
        uint32_t blob_number;                   /* tells blobs of one GUID with different octets apart: 0 */
        uint32_t octets_crc;                    /* CRC-32C of the message, also of a blob */
        uint32_t envelope_len, bodystructure_len, body_len;     /* these strings follow, in this order */
        uint32_t parts_n;                       /* then, after padding to 8, struct mime_part[] */
        uint32_t header_len;                    /* then the kept header */
};
_Static_assert(sizeof(struct mlog_message) == 128, "on the disk");

struct mlog_flag_entry {
        uint32_t uid, flags, kwset;
};
struct mlog_state_entry {
        uint32_t uid, flags, kwset, pad;
        uint64_t modseq;
        int64_t last_updated;
};
struct mlog_details_entry {
        uint32_t uid, flags, kwset, pad;        /* flags: also MSG_OWN_THRID */
        uint64_t modseq, createdmodseq, thrid;
        int64_t last_updated, internaldate, savedate;
};
_Static_assert(sizeof(struct mlog_details_entry) == 64, "on the disk");
struct mlog_flags {
        int64_t last_updated;
        uint32_t n, pad;
};
enum { MLOG_UNLINK = 1 };
struct mlog_uids {
        int64_t last_updated;
        uint64_t deletedmodseq;                 /* MLOG_PURGE only */
        uint32_t n;
        uint32_t how;                           /* MLOG_EXPUNGE only: MLOG_UNLINK, they become MSG_UNLINKED */
};
struct mlog_keyword {
        uint32_t id, len;
};
struct mlog_kwset {
        uint32_t id, n;
};
struct mlog_options {
        uint32_t recentuid, options;
        int64_t recent_time, pop3_last_login, pop3_show_after;
        uint64_t raclmodseq, xconvmodseq;
};
struct mlog_annotation {
        uint32_t uid;                           /* 0: of the mailbox */
        uint32_t entry_len, user_len;
        uint32_t value_len;                     /* UINT32_MAX: none any more */
        uint64_t modseq;
};
struct mlog_move {
        uint8_t id[16];
        char other[MLOG_UNIQUEID_MAX];          /* unique id of the target (intent) or source (arrival) */
        uint32_t n;                             /* ranges of UIDs in the source */
        uint32_t outcome;                       /* done: enum mlog_move_outcome; else MOVE_WITH_SEEN or 0 */
        uint32_t dir_len;                       /* octets of what comes last */
        uint32_t first_uid;                     /* arrival: of its messages, which are in the order of those of the intent; older ones: 0 */
};
_Static_assert(sizeof(struct mlog_move) == 72, "on the disk");
enum mlog_move_outcome { MOVE_MOVED = 1, MOVE_ABORTED = 2, MOVE_WITH_SEEN = 3 };        /* the last: everybody's \Seen goes along;
                                                 * done, in the target: that has been seen to, all else is open */
struct mlog_adopt {
        uint64_t segment, valid_len;
        uint32_t base_uid, n;                   /* its messages have the UIDs base_uid … base_uid + n - 1 */
        uint64_t base_modseq;
};
struct mlog_counters {
        uint32_t uidvalidity, uidnext;
        uint64_t highestmodseq, deletedmodseq, created_modseq;
        int64_t last_append;
        uint64_t prev_segment, prev_end;        /* the log before ends there; 0: nothing before */
        struct mlog_options options;
};
_Static_assert(sizeof(struct mlog_counters) == 104, "on the disk");

enum { MLOG_QUIET = 1 };
struct mlog_values {
        struct mlog_counters counters;          /* prev_… unused. uidnext is at least above all messages */
        uint32_t how;                           /* MLOG_QUIET: no modseq of this store's making was shown since (mailbox_private.h) */
        uint32_t pad;
};
_Static_assert(sizeof(struct mlog_values) == 112, "on the disk");
#define MLOG_NO_CREATEDMODSEQ UINT64_MAX        /* in struct mlog_message: 0, for good */

/* A place in the log as one ascending number. */
static inline uint64_t mlog_mark(uint64_t segment, uint64_t offset) { return segment << 40 | offset; }
static inline uint64_t mlog_align(uint64_t n) { return (n + 7) & ~7ull; }

/* ---- segments ---- */

#define MLOG_SEGMENT_HEADER 128                 /* octets: where the first record begins */

struct mlog_segment_info {
        uint64_t id;
        uint32_t salt;                          /* random: no stranger's message can look like a record of this segment */
        uint32_t crc;                           /* of the segment header: the chain begins with it */
        uint32_t epoch;
        int64_t created;
};
/* "<dir>/log.<16 hex digits>" */
void mlog_segment_path(struct str *out, const char *dir, uint64_t id);
/* Make a segment file with its header; not synced. *fd_r is open for writing. ERR_EXISTS: never overwrites. */
int mlog_segment_create(const char *dir, uint64_t id, const char *uniqueid, uint32_t epoch, int *fd_r,
                        struct mlog_segment_info *info_r, struct err *err);
/* Check MLOG_SEGMENT_HEADER octets. ERR_CORRUPT. */
int mlog_segment_decode(const void *header, uint64_t id, const char *uniqueid, struct mlog_segment_info *info_r, struct err *err);

/* Is this the whole header of a record of that segment, at that offset? What follows it is not looked at. */
bool mlog_header_valid(const struct mlog_header *h, const struct mlog_segment_info *info, uint64_t offset);

/* ---- writing ---- */

/*
 * A batch in the making. Records are laid down with what is known without the mailbox's lock; mlog_batch_seal() gives them their place.
 * `head` is for records (keywords) that turn out to be needed once the lock is held: they go in front of the others.
 */
struct mlog_batch {
        struct str head, body;
        uint32_t records;
};
void mlog_batch_init(struct mlog_batch *b);
void mlog_batch_deinit(struct mlog_batch *b);
/* One record. `front` may be filled in two pieces (fixed struct, rest). The body is copied. */
void mlog_batch_add(struct mlog_batch *b, struct str *part, enum mlog_type type, const void *fixed, size_t fixed_len,
                    const void *rest, size_t rest_len, const void *octets, size_t octets_len, uint32_t octets_crc);
static inline uint64_t mlog_batch_bytes(const struct mlog_batch *b) { return b->head.len + b->body.len; }

/* Where and as what a batch is written. */
struct mlog_pen {
        const struct mlog_segment_info *segment;
        uint64_t offset;
        uint64_t seq;                           /* of the first record; seal leaves the next free one */
        uint64_t modseq;                        /* for records that have none of their own */
        uint64_t durable;
        int64_t time;
        uint32_t epoch;
        uint32_t prev_crc;                      /* in and out */
        uint32_t first_uid;                     /* for MLOG_MESSAGE records with uid 0: ascending from here; in and out */
        uint16_t flags;                         /* MLOG_RELATIVE */
};
/* Fill in headers and checksums; *iov gets one or two pieces to be written at pen->offset, which is advanced. Returns their number. */
int mlog_batch_seal(struct mlog_batch *b, struct mlog_pen *pen, struct iovec iov[2]);

/* ---- reading ---- */

/* Where a scan gets octets from: a file, or memory (fuzzer, batch just written). */
struct mlog_source {
        struct file *file;                      /* borrowed */
        const void *memory;                     /* used when file is NULL */
        uint64_t size;                          /* octets there are; what is beyond does not exist */
};

struct mlog_record {
        struct mlog_header h;
        uint64_t total_len;                     /* with padding: the next record is at h.offset + total_len */
        const uint8_t *front;                   /* h.front_len octets, 8-aligned, until the next call */
        bool body_ok;                           /* checked and right; false when not looked at, or damaged */
        bool chained;                           /* prev_crc is that of the record before */
};

enum { MLOG_SCAN_END = 0, MLOG_SCAN_RECORD = 1, MLOG_SCAN_DAMAGE = 2 };
struct mlog_scan {
        struct mlog_source source;
        struct mlog_segment_info info;
        uint64_t at;                            /* where the next record is looked for */
        uint32_t prev_crc;
        bool prev_known;                        /* false behind damage */
        bool check_bodies;
        uint64_t damage_from, damage_to;        /* after MLOG_SCAN_DAMAGE */
        bool ends_in_garbage;                   /* after MLOG_SCAN_END: something other than the end of the file follows */
        uint8_t *window;
        uint64_t window_at, window_len, window_cap, window_next;
        struct str front;
};
/* Start at `offset` (0: the first record) whose predecessor's checksum is prev_crc (ignored for 0). ERR_CORRUPT: the segment's header. */
int mlog_scan_begin(struct mlog_scan *s, const struct mlog_source *source, uint64_t id, const char *uniqueid, uint64_t offset,
                    uint32_t prev_crc, struct err *err);
void mlog_scan_deinit(struct mlog_scan *s);
/*
 * The next record, or damage up to the next one that is whole (from, to), or the end. -1 with ERR_IO only. A record whose body was
 * asked for (check_bodies) and does not match is returned with body_ok false. Always advances: at most size/8 calls.
 */
int mlog_scan_next(struct mlog_scan *s, struct mlog_record *rec_r, struct err *err);

/* Read and check one record's header and front at a known place (not its body). `front` gets the octets. ERR_CORRUPT. */
int mlog_read_record(struct file *file, const struct mlog_segment_info *info, uint64_t offset, struct mlog_header *header_r,
                     struct str *front, struct err *err);
/* The same of a record whose header and front are in memory: `n` octets from `p` (8-aligned) on, which stand at `offset` of the segment. NULL
 * when it is not whole or not there, else its front, within `p`. */
const char *mlog_record_at(const char *p, size_t n, const struct mlog_segment_info *info, uint64_t offset, struct mlog_header *header_r);
/* Is this front what its type says, all lengths inside? What follows may rely on it. */
bool mlog_front_valid(const struct mlog_header *h, const void *front);

/* ---- manifest ---- */

enum mlog_kind {                                /* on the disk */
        MLOG_MAIN = 1,                          /* written as the log grew */
        MLOG_ADOPTED = 2,                       /* built aside for one large batch */
        MLOG_COMPACTED = 3,                     /* stands for older ones, in their place */
        MLOG_RETIRED = 4,                       /* replaced; kept until no index checkpoint points there. Not replayed */
};
#define MLOG_OPEN_END UINT64_MAX

struct manifest_entry {
        uint64_t id;
        uint64_t valid_len;                     /* MLOG_OPEN_END: not sealed, read until it ends */
        uint32_t kind;
        uint32_t base_uid;                      /* MLOG_ADOPTED: of its ADOPT record */
        uint64_t base_modseq;
        uint64_t seq;                           /* MLOG_ADOPTED: local sequence of the ADOPT record. MLOG_COMPACTED: none of its records has
                                                   a higher one; 0: unknown, an older version did not write it */
        uint32_t crc, salt;                     /* of the segment header: known without reading it */
        uint64_t spare;
};
_Static_assert(sizeof(struct manifest_entry) == 56, "on the disk");
#define MANIFEST_ENTRIES_MAX 1000000u

struct manifest {
        char uniqueid[MLOG_UNIQUEID_MAX];
        uint64_t generation;
        uint64_t next_id;                       /* no segment ever had this id or a higher one */
        struct manifest_entry *entries;         /* in order of the log */
        uint32_t n, cap;
        bool from_copy;                         /* the manifest was damaged, this is its copy: to be written again */
};
#define MANIFEST_COPY "manifest.copy"
void manifest_init(struct manifest *m, const char *uniqueid);
void manifest_deinit(struct manifest *m);
struct manifest_entry *manifest_add(struct manifest *m, uint32_t at);           /* a zeroed entry at this place */
void manifest_remove(struct manifest *m, uint32_t at);
int manifest_find(const struct manifest *m, uint64_t id);                       /* -1: not there */
void manifest_copy(struct manifest *to, const struct manifest *from);           /* `to` is initialised by this */
/* Replace "<dir>/manifest" (synced, renamed, directory synced); raises the generation. */
int manifest_write(struct manifest *m, const char *dir, struct err *err);
/* The same without the directory's sync: after a power loss it may be the former one. For what that one can do without. */
int manifest_write_lazily(struct manifest *m, const char *dir, struct err *err);
int manifest_read(struct manifest *m, const char *dir, const char *uniqueid, struct err *err);
int manifest_decode(struct manifest *m, const void *p, size_t len, const char *uniqueid, struct err *err);
/* Are the segments in `dir` those that it lists, and older ones? A copy that does not fit is an older one, and does not stand in. */
bool manifest_fits(const struct manifest *m, const char *dir);

#endif
