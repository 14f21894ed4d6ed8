/*
 * index_private - what index.c (records), index_block.c (blocks in memory), index_part.c and index_file.c (the checkpoint file) share. Nobody
 * else includes this.
 *
 * index_extent   a piece of the file, counted: it goes back to the file's free space when neither a block in memory nor the last
 *                durable checkpoint needs it. That is what lets a view read an old version of a block long after it was replaced.
 * index_block    a version of a block. Immutable while shared (refs > 1); the index changes it in place when it is the only holder.
 * index_shared   what blocks need and what outlives the index while views hold blocks.
 */
#ifndef STORE_INDEX_PRIVATE_H
#define STORE_INDEX_PRIVATE_H

#include <stdatomic.h>
#include <sys/types.h>

#include "store/index.h"
#include "util/array.h"
#include "util/lock.h"

#define INDEX_PAGE 4096u
#define INDEX_MERGE_RECORDS (INDEX_BLOCK_RECORDS / 2)   /* neighbours that fit into this together become one block at a purge */

/* One entry of the table on the disk, and in memory of each block. Little-endian, 96 octets. */
struct index_summary {
        uint32_t first_uid, last_uid;           /* of all records */
        uint32_t records, live;
        uint32_t seen, answered, flagged, deleted, draft;       /* of the live ones */
        uint32_t live_first, live_last;         /* UIDs; 0: none */
        uint32_t crc;                           /* CRC-32C of the records, 0 in memory until it is written */
        uint64_t modseq_max;                    /* of all records */
        uint64_t expunged_modseq_max;           /* of tombstones; 0: none */
        uint64_t size, deleted_size, expunged_size;
        uint32_t page, pages;                   /* where the records are; in memory 0 */
};
_Static_assert(sizeof(struct index_summary) == 96, "on the disk");

struct index_free { uint32_t page, pages; };

struct index_file {
        atomic_uint_fast32_t refs;
        struct mutex lock;                      /* of index_class; covers free and end */
        /* under index_fd.c's lock, once it is shared */
        char *path;
        dev_t dev;
        ino_t ino;
        int fd;                                 /* -1: closed */
        unsigned users;                         /* readers and writers that use fd now */
        bool superseded;                        /* path is another file now: fd stays open */
        bool listed;                            /* fd is open, nobody uses it, it may be closed: then in the list, by last use */
        struct index_file *prev, *next;
        ARRAY(struct index_free) free;          /* ascending, never adjacent */
        uint32_t end;                           /* pages in use, free ones in between included */
};

struct index_extent {
        atomic_uint_fast32_t refs;
        struct index_file *file;                /* with a reference */
        uint32_t page, pages;
};

struct index_shared {
        atomic_uint_fast32_t refs;
        struct mutex lock;                      /* of index_class: `recs` and `extent` of all blocks change under it */
        struct index_repair repair;             /* set before blocks are shared */
        _Atomic(char *) path;                   /* for logs */
        ARRAY(char *) former;                   /* paths before that; with the mailbox's lock */
        uint64_t logged;                        /* log_once(): damage of one index is one line in 10 s */
};

struct index_block {
        atomic_uint_fast32_t refs;
        struct index_shared *shared;            /* with a reference */
        struct index_summary sum;
        uint32_t crc;                           /* of the records at `extent` */
        uint32_t cap;                           /* records that `recs` has room for */
        /* Both change only with the mailbox's lock and shared->lock: one of them is enough to read. */
        struct index_rec *recs;                 /* NULL: only in the file */
        struct index_extent *extent;            /* NULL: not written in this version, or being written */
        bool recent;                            /* touched since the eviction's hand came by; with the mailbox's lock */
        bool passed;                            /* read once since it is only in the file, and not kept; with the mailbox's lock */
        struct index_sums sums;                 /* of its records: index.h; with the mailbox's lock */
        uint64_t serial;                        /* of what it holds while `recs` is NULL: never given twice; with the mailbox's lock */
};

struct index_part {
        atomic_uint_fast32_t refs;
        uint64_t len;
        uint32_t crc;
        /* Both change when a checkpoint is finished. */
        char *text;                             /* NULL: only in the file */
        struct index_extent *extent;            /* NULL: not written yet */
};

struct index_place {
        struct index_extent *extent;            /* NULL: empty; no reference of its own */
        uint64_t len;
        uint32_t crc;
};

struct index {
        struct index_shared *shared;
        char *path, *uniqueid;
        struct index_file *file;                /* NULL: none written yet */
        ARRAY(struct index_block *) blocks;     /* ascending, disjoint, none empty; a reference each */
        struct index_totals totals;
        struct index_counters counters;
        struct str blob[INDEX_BLOBS];
        ARRAY(struct index_part *) parts;       /* a reference each */
        bool blobs_changed, blocks_changed, parts_changed;      /* since meta, the table, the list of parts was written */
        bool dirty;
        struct { size_t block; uint32_t at; } next;             /* a guess of index_find()'s: where what it is asked for next may be */
        uint32_t dirty_blocks;                  /* without an extent */
        struct index_block *ring[INDEX_RESIDENT_BLOCKS];        /* clean blocks with recs; no references */
        unsigned hand;
        /* The last durable checkpoint. */
        uint64_t generation;
        ARRAY(struct index_extent *) durable;   /* every extent that it needs; references */
        struct index_place table, meta, part_list;      /* among them */
        bool maybe_unsynced;                    /* opened: its header may not be on the disk yet, only in the page cache */
        bool failed;                            /* a sync of the file failed: the next checkpoint makes a new file */
        struct index_snapshot *snapshot;        /* in progress */
};

/* ---- index_block.c ---- */

struct index_shared *index_shared_create(const char *path);
struct index_shared *index_shared_ref(struct index_shared *s);
void index_shared_unref(struct index_shared **s);
uint64_t index_block_serial(void);              /* a new one */
struct index_block *index_block_create(struct index_shared *shared, uint32_t cap);      /* NULL: no memory */
struct index_block *index_block_ref(struct index_block *b);
bool index_block_is_ours(const struct index_block *b);          /* one reference: nobody else can be reading it */
void index_summary_of(const struct index_rec *recs, uint32_t n, struct index_summary *sum_r);
/* Take a record into a summary; take one out (the maxima and the edges of the live range are left as they are). Neither touches
 * first_uid, last_uid. */
void index_summary_add(struct index_summary *sum, const struct index_rec *rec);
void index_summary_subtract(struct index_summary *sum, const struct index_rec *rec);
void index_log_damage(struct index_block *b, const struct err *err);
/* Read the records of a block from its extent and check them against checksum and summary. ERR_CORRUPT, ERR_IO. Any thread. */
int index_block_read(struct index_block *b, struct index_extent *extent, struct index_rec *recs, struct err *err) EXCLUDES(index_class);
/*
 * The records of a block that is only in the file, read into memory of this thread, where the next such block goes too: who walks through a large
 * mailbox once neither fills memory with its index nor has the kernel find it. They are good until the mailbox's lock is given back. NULL: it
 * is needed for the second time, or could not be read: load it. With the mailbox's lock.
 */
const struct index_rec *index_block_passing(struct index_block *b) EXCLUDES(index_class);

/* ---- index_fd.c ---- */

#define INDEX_HEADER_PAGES 2

/* A file with an open descriptor, in use by the caller until index_file_release(). dev and ino are the caller's to set. */
struct index_file *index_file_new(const char *path, int fd);
struct index_file *index_file_ref(struct index_file *f);
void index_file_unref(struct index_file **f);
int index_file_open(const char *path);                                  /* as open(2): for writing if that is allowed */
int index_file_use(struct index_file *f, int *fd_r, struct err *err);   /* a descriptor that stays until index_file_release() */
void index_file_release(struct index_file *f);
int index_file_read(struct index_file *f, void *buf, size_t len, uint64_t offset, struct err *err);
void index_file_shed(struct index_file *f);                             /* close it unless it is in use */
/* The path is about to be another file's: from now on only the descriptor leads here. */
void index_file_supersede(struct index_file *f);
/* The file was copied to `path`, which has the same octets, and goes: from now on that is it. */
void index_file_move(struct index_file *f, const char *path) EXCLUDES(index_class);

/* ---- index_file.c ---- */

struct index_extent *index_extent_ref(struct index_extent *e);
void index_extent_unref(struct index_extent **e) EXCLUDES(index_class);

/* ---- index_part.c ---- */

struct index_part *index_part_at(struct index_extent *extent, uint64_t len, uint32_t crc);     /* takes the reference */
/* Read from there; *text_r is for free(). No lock. */
int index_part_load(const struct index_part *part, struct index_extent *extent, char **text_r, struct err *err);

/* ---- index.c ---- */

void index_totals_add(struct index_totals *t, const struct index_summary *sum);
void index_ring_remove(struct index *ix, struct index_block *b);
/* A block became clean with its records in memory: it may be evicted from now on. */
void index_ring_add(struct index *ix, struct index_block *b);

#endif
