/*
 * index - the state of a mailbox's messages in memory, and its checkpoint file. Derived from the log: what is missing or damaged
 * is rebuilt from there. Layout of the file, order of writes and what a crash leaves: at the top of index_file.c.
 *
 * Records live in blocks of up to 1,024, sorted by UID. A block is read and checked when first touched; unchanged ones are given
 * up again when more than INDEX_RESIDENT_BLOCKS are in memory. Each block has a summary (ranges, counts, highest modseqs), kept
 * right by every change, so counts, views and "changed since" do not walk all messages. Blocks are counted and copied on write:
 * a view that has not loaded a block yet, and a checkpoint in progress, keep the version that they began with.
 *
 * Locking: one index belongs to one mailbox; every function with a `struct index *` needs that mailbox's lock (or nobody else may know
 * the index yet). The exceptions: index_snapshot_write() and index_block_*(), which any thread may call. Inside, only leaf locks
 * of index_class are taken.
 */
#ifndef STORE_INDEX_H
#define STORE_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "store/lock_order.h"
#include "store/uidset.h"
#include "util/err.h"
#include "util/hash.h"
#include "util/str.h"

#define INDEX_BLOCK_RECORDS 1024
#define INDEX_RESIDENT_BLOCKS 64                /* unchanged blocks of one index kept in memory: at most 10 MiB */

/* A message, as on the disk: little-endian, so that memory and file are the same (index.c asserts it). 160 octets.
 * A change of meaning means a new INDEX_VERSION; spare fields are written as 0. */
struct index_rec {
        uint32_t uid;                           /* 1 … UINT32_MAX - 1 */
        uint32_t flags;                         /* MSG_… of store/mailbox.h */
        uint64_t modseq;
        uint64_t createdmodseq;
        int64_t last_updated;                   /* Unix seconds; of a tombstone: when it was expunged */
        int64_t internaldate, savedate, sentdate;
        uint64_t size;                          /* octets of the message */
        uint64_t thrid, emailid;                /* 0: none yet */
        uint64_t segment;                       /* where the record is: segment, offset, octets in all */
        uint64_t offset;
        uint64_t record_len;
        uint64_t seq;                           /* local sequence of the log record that made this state: replay keeps the newest */
        uint32_t kwset;
        uint32_t header_size;
        uint32_t front_len;
        uint8_t guid[GUID_SIZE];
        uint32_t spare[4];
};
_Static_assert(sizeof(struct index_rec) == 160, "on the disk");

/* Up to which point of the log the state is complete. */
struct index_position {
        uint64_t segment, offset;
        uint64_t seq;                           /* local sequence of the last record in it */
        uint32_t epoch;                         /* store_epoch() when it was written */
        uint32_t prev_crc;                      /* for the chain: checksum of the last record */
};

/* The mailbox's own counters. Plain fields: read and set them through index_counters(). Nothing here can be derived from records. */
struct index_counters {
        uint32_t uidvalidity, uidnext;
        uint64_t highestmodseq, deletedmodseq;
        uint32_t recentuid, options;
        int64_t recent_time, last_append, pop3_last_login, pop3_show_after;
        uint64_t raclmodseq, xconvmodseq;
        uint64_t created_modseq;                /* of the mailbox */
        struct index_position log;
        uint64_t spare[8];
};

/* Octets whose meaning is the log store's, written with the checkpoint, all of them when one has changed: at most INDEX_BLOB_MAX each. What may
 * become large is better in parts. */
enum index_blob { INDEX_KEYWORDS, INDEX_SEGMENTS, INDEX_MOVES, INDEX_ANNOTATIONS, INDEX_EXTRA, INDEX_BLOBS = 8 };
#define INDEX_BLOB_MAX (64u << 20)

/* Sums over all records. "Live" is: without MSG_EXPUNGED. */
struct index_totals {
        uint64_t records;                       /* with tombstones */
        uint32_t live;
        uint32_t seen, answered, flagged, deleted, draft;       /* of the live ones */
        uint64_t size, deleted_size;            /* octets of the live ones; of the live \Deleted ones */
        uint64_t expunged_size;                 /* octets of tombstones */
};

struct index;

/*
 * Called when a block does not have its checksum: fill recs[] with the present state of all messages with first_uid <= uid <=
 * last_uid (tombstones too, not those purged), ascending, at most `max`, from the log. It may be called with or without the mailbox's
 * lock, from any thread that holds a view: it must not take that lock. view_class may be held, so what it locks has to come after
 * that in the order. Returns 0, or -1 with err.
 */
struct index_repair {
        int (*fn)(void *ctx, uint32_t first_uid, uint32_t last_uid, struct index_rec *recs, uint32_t max, uint32_t *n_r,
                  struct err *err);
        void *ctx;                              /* lives as long as the index and every view made from it */
};

/* ---- birth and death ---- */

/* An empty index in memory, for a new mailbox or to rebuild into; the first checkpoint makes the file (aside, then renamed to `path`).
 * `uniqueid`: up to 63 octets. Both are copied. */
struct index *index_create_empty(const char *path, const char *uniqueid);
/* Read header, summaries, blobs and the list of parts. O(blocks). ERR_NOTFOUND; ERR_CORRUPT (no valid header, another mailbox's, summaries that cannot be,
 * a newer version): rebuild from the log; ERR_IO, ERR_NOMEM. */
int index_open(const char *path, const char *uniqueid, struct index **ix_r, struct err *err);
/* Views made from it go on: they hold their blocks. A snapshot must be finished before. Nothing is written. */
void index_destroy(struct index **ix);
/* Its file was copied to `path` and is going to be unlinked where it was. No snapshot may be out; the mailbox's lock is held. */
void index_move(struct index *ix, const char *path);
void index_set_repair(struct index *ix, const struct index_repair *repair);     /* copied; before the first view is made */
/* For a cold mailbox: unchanged blocks leave memory, the descriptor is closed (and opened again when needed) – but not while a view
 * has blocks that it has not read yet: let go of the mailbox's own view before, it is made again in O(blocks). */
void index_shed(struct index *ix);
/* All indexes: close descriptors that nobody uses at the moment, all but `keep`. They are opened again when they are needed. */
void index_fds_shed(unsigned keep);
/* A file of more pages, two thirds of which are free, is written anew by the next snapshot. For tests; before any index is opened. */
extern uint32_t index_sparse_pages;

/* ---- counters, blobs, sums ---- */

struct index_counters *index_counters(struct index *ix);                /* changes mark nothing dirty: say index_touch() */
void index_touch(struct index *ix);                                     /* counters or blobs changed: index_dirty() is true */
struct span index_blob(struct index *ix, enum index_blob which);        /* borrowed until it is set; len 0: none */
void index_set_blob(struct index *ix, enum index_blob which, const void *p, size_t len);        /* copied; must: len <= INDEX_BLOB_MAX */
const struct index_totals *index_totals(const struct index *ix);        /* O(1) */
bool index_dirty(const struct index *ix);                               /* something changed since the last snapshot */
/* How many blocks a checkpoint would write now: to decide whether it is time. */
uint32_t index_dirty_blocks(const struct index *ix);
uint32_t index_last_uid(const struct index *ix);                        /* highest UID with a record, tombstones too; 0: none */

/*
 * Parts: a list of octet strings whose meaning is the log store's. A part never changes; each has a place of its own in the file, so a checkpoint
 * writes those that are new, and the list. Once written they are no longer in memory. All with the mailbox's lock.
 */
#define INDEX_PART_MAX (64u << 20)
#define INDEX_PARTS_MAX (16u << 20)
struct index_part;                                                      /* counted */
struct index_part *index_part_create(struct span text);                 /* copied; must: 0 < len <= INDEX_PART_MAX */
struct index_part *index_part_ref(struct index_part *part);
void index_part_unref(struct index_part **part);
size_t index_parts(const struct index *ix, struct index_part *const **parts_r);         /* borrowed until they are set */
void index_set_parts(struct index *ix, struct index_part *const *parts, size_t n);      /* takes references of its own */
/* What is in it takes the place of what is in `text`. ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
int index_part_read(const struct index_part *part, struct str *text, struct err *err);

/* ---- records. -1 is only ever damage or a read error of a block (ERR_CORRUPT after index_repair failed, ERR_IO, ERR_NOMEM) ---- */

int index_find(struct index *ix, uint32_t uid, struct index_rec *rec_r, struct err *err);       /* 1 found, 0 not there, -1 */
/*
 * Set the state of rec->uid: replaces the record, appends it (cheap, the normal case) or puts it in between (rebuild; blocks are
 * split). The sums and summaries follow. Bytes equal to what is there change nothing and dirty nothing. Returns 0 or -1.
 */
int index_put(struct index *ix, const struct index_rec *rec, struct err *err);
/* Forget these records for good (tombstones mostly). UIDs that are not there are fine. */
int index_purge(struct index *ix, const struct uidset *uids, struct err *err);

/*
 * for (index_iter_init(&it, ix, from_uid); (rc = index_next(&it, &rec, err)) == 1;)
 * Ascending UIDs. The index may change between calls: it goes on after the last UID returned. The fields may be set after init to
 * narrow it; blocks whose summary says that nothing fits are skipped unread.
 */
struct index_iter {
        struct index *ix;
        uint64_t next_uid;
        uint32_t upto_uid;                      /* UINT32_MAX */
        uint64_t modseq_above;                  /* 0: only records with a higher modseq */
        bool live, expunged;                    /* true, true: which to return */
        uint32_t without_flags;                 /* 0: only records that lack all these flags (MSG_SEEN: the unseen) */
        uint32_t with_flags;                    /* 0: only records that have all these flags (MSG_DELETED) */
};
void index_iter_init(struct index_iter *it, struct index *ix, uint32_t from_uid);
int index_next(struct index_iter *it, struct index_rec *rec_r, struct err *err);
/* The first message up to upto_uid that is neither expunged nor \Seen: 1, 0 there is none, -1. No block is read where summaries tell. */
int index_first_unseen(struct index *ix, uint32_t upto_uid, uint32_t *uid_r, struct err *err);

/* ---- checkpoints ---- */

/*
 *   index_snapshot()        with the lock: O(blocks) memory copies, no disk
 *   index_snapshot_write()  without: writes changed blocks, syncs, writes the header, syncs. Before it the caller has synced the log
 *                           up to the snapshot's position: the index must not know more than the log.
 *   index_snapshot_finish() with the lock: `written` true when write returned 0. Afterwards, and not before, log segments that only
 *                           the former checkpoint needed may go.
 * One at a time. After a failed write the state on disk is the former checkpoint; the next one writes everything into a new file.
 */
struct index_snapshot;
struct index_snapshot *index_snapshot(struct index *ix);
int index_snapshot_write(struct index_snapshot *snap, struct err *err);
void index_snapshot_finish(struct index *ix, struct index_snapshot **snap, bool written);
/* The three in a row, for tools and tests. */
int index_checkpoint(struct index *ix, struct err *err);

/*
 * ---- sums over the records of a block, for replication ----
 * What they are of is the caller's business. They are kept with the version of a block, and forgotten when that changes.
 */
struct index_sums {
        bool known;
        uint32_t basic, annot;
        uint64_t of;                            /* the caller's: what else they depend on, 0: nothing */
};
struct index_block;
struct index_block_part {                       /* a version of a block, of which records are wanted */
        struct index_block *block;              /* with a reference */
        uint32_t records, first_uid, last_uid;
};
/* All blocks with a record of a higher modseq (0: all), in order, as they are now: what is changed later is changed in other versions. The caller
 * owns the array, free(), and the references. */
uint32_t index_blocks_above(struct index *ix, uint64_t modseq, struct index_block_part **parts_r);
/* The records of this version, `records` of them. Any thread. ERR_CORRUPT, ERR_IO, ERR_NOMEM: this version is lost; index_put() and others, which
 * look at the index as it is now, may repair that. */
int index_block_records(struct index_block *b, struct index_rec *recs, struct err *err) EXCLUDES(index_class);
/* With the lock: */
struct index_sums *index_block_sums(struct index_block *b);
void index_forget_sums(struct index *ix, uint32_t uid);                 /* of the block with this UID */

/* ---- blocks, for store/view.c ---- */

struct index_block;
struct index_block_range {
        struct index_block *block;              /* with a reference */
        uint32_t live, first_uid, last_uid;     /* live messages, the lowest and highest UID of theirs */
};
/* All blocks that hold live messages, in order. The caller owns the array, free(), and the references. */
uint32_t index_live_blocks(struct index *ix, struct index_block_range **ranges_r);
void index_block_unref(struct index_block **b);
/* The UIDs of the live messages of this version of the block, exactly `live` of them, into uids[]. `modseq`: of the view, for blocks that
 * have to be repaired. Returns 0, or -1: damaged and not repaired. Any thread. */
int index_block_live_uids(struct index_block *b, uint32_t live, uint64_t modseq, uint32_t *uids, struct err *err) EXCLUDES(index_class);

#endif
