/*
 * duplicate_private - the inside of the duplicate-delivery marks, for duplicate.c (claims, the table in memory), duplicate_file.c (files)
 * and duplicate_prune.c (reading and forgetting them), and what store.c calls. Nobody else includes it.
 */
#ifndef STORE_DUPLICATE_PRIVATE_H
#define STORE_DUPLICATE_PRIVATE_H

#include <stdatomic.h>

#include "store/duplicate.h"
#include "store/mailbox_private.h"
#include "store/store_private.h"
#include "util/array.h"
#include "util/lock.h"

#define DUP_SHARDS 64u                          /* a power of two */
#define DUP_BUCKETS 64u                         /* of claims, in a shard; a power of two */
#define DUP_SEGMENT_RECORDS 65536u
#define DUP_SEGMENTS_MAX 4095u
#define DUP_PENDING_MAX 65536u                  /* marks that could not be written so far; beyond, the oldest are given up */

struct dup_record {                             /* as on disk */
        struct duplicate_key key;
        int64_t at;
        uint32_t uid;
        uint32_t crc;                           /* CRC-32C of all before, begun with the segment's number: octets of another file do not count */
};
_Static_assert(sizeof(struct dup_record) == 40, "struct dup_record is on the disk");

struct dup_segment {
        uint64_t number;                        /* the file's name; rises */
        uint32_t place;                         /* in struct duplicates.segments */
        uint32_t records;                       /* given out so far */
        atomic_bool made;                       /* the file has its head */
        int fd;                                 /* the writer's, whoever has set `writing`; -1: not open */
};

struct dup_slot {
        uint32_t tag;                           /* upper half of the key's keyed hash; its place, too */
        uint32_t where;                         /* segment's place << 16 | record in it; 0: free, as places begin with 1 */
};

struct dup_shard {                              /* all under its lock */
        struct mutex lock;                      /* duplicate_class */
        struct dup_slot *slots;                 /* open addressing, at most three quarters in use */
        uint32_t cap, n;
        struct duplicate_claim *claims[DUP_BUCKETS];
};

struct dup_pending { struct dup_segment *segment; uint32_t index; struct dup_record record; };

struct duplicates {
        struct store *store;
        char *dir;
        struct dup_shard shards[DUP_SHARDS];
        struct mutex pruning;                   /* one at a time; taken before all others */
        struct mutex lock;                      /* duplicate_file_class; all below, but for atomics */
        struct cond loaded_wake;
        struct dup_segment *segments[DUP_SEGMENTS_MAX + 1];     /* [0] is not used */
        struct dup_segment *current;            /* NULL: the next mark begins one */
        uint64_t last_number;
        ARRAY(struct dup_pending) pending;      /* marks not yet written, in order */
        bool writing;                           /* somebody is */
        bool loading;
        struct duplicate_claim *for_load;       /* claims that wait until the files are read */
        atomic_bool loaded;
        atomic_bool shrinking;                  /* the job is queued or running */
        struct job load, shrink;
        atomic_uint_fast64_t marks, suppressed, delivered;
        uint64_t failure_logged;
};

static inline void dup_lock(struct duplicates *d) ACQUIRE(d->lock, duplicate_file_class);
static inline void dup_lock(struct duplicates *d) NO_TSA
{
        mutex_lock(&d->lock);
}
static inline void dup_unlock(struct duplicates *d) RELEASE(d->lock, duplicate_file_class);
static inline void dup_unlock(struct duplicates *d) NO_TSA
{
        mutex_unlock(&d->lock);
}
static inline void dup_shard_lock(struct dup_shard *s) ACQUIRE(s->lock, duplicate_class);
static inline void dup_shard_lock(struct dup_shard *s) NO_TSA
{
        mutex_lock(&s->lock);
}
static inline void dup_shard_unlock(struct dup_shard *s) RELEASE(s->lock, duplicate_class);
static inline void dup_shard_unlock(struct dup_shard *s) NO_TSA
{
        mutex_unlock(&s->lock);
}

/* ---- duplicate.c ---- */

struct dup_shard *dup_shard_of(struct duplicates *d, const struct duplicate_key *key, uint32_t *tag_r);
void dup_insert_locked(struct dup_shard *s, uint32_t tag, uint32_t where) REQUIRES(s->lock, duplicate_class);

/* ---- duplicate_file.c ---- */

void dup_path(const struct duplicates *d, uint64_t number, struct str *path);
/* Room for one more record: which. 0: there is none (thousands of files that could not be pruned). Its mark is pending then. */
uint32_t dup_append(struct duplicates *d, const struct dup_record *record) EXCLUDES(duplicate_file_class);
/* The record, if it is still pending. */
bool dup_find_pending(struct duplicates *d, uint32_t where, struct dup_record *record_r) EXCLUDES(duplicate_file_class);
/* Read it from its file. false: it is not there. */
bool dup_read(struct duplicates *d, uint32_t where, struct dup_record *record_r) EXCLUDES(duplicate_file_class);
/* Write what is pending, unless somebody else is at it. -1: a write failed, the rest is kept for the next time. */
int dup_write(struct duplicates *d, struct err *err) EXCLUDES(duplicate_file_class);
/* A whole file: valid records are handed to fn with their index. */
int dup_scan(const struct duplicates *d, uint64_t number, void (*fn)(void *ctx, uint32_t index, const struct dup_record *record), void *ctx,
             struct err *err);
/* Read all files, once; waits for who does it already. */
void dup_load(struct duplicates *d) EXCLUDES(duplicate_class, duplicate_file_class);

/* ---- duplicate_prune.c ---- */

/* When there are more marks than are to be kept, the oldest files go, in a job. */
void dup_shrink_if_needed(struct duplicates *d);
void dup_shrink_job(struct job *job);

/* ---- for store.c ---- */

int duplicates_create(struct store *store, struct duplicates **d_r);
/* The threads are there: read the files in the background. */
void duplicates_start(struct duplicates *d);
void duplicates_destroy(struct duplicates **d);

#endif
