/*
 * mailbox_private - what the files of a mailbox share: mailbox.c (reading), mailbox_state.c (records → state), mailbox_open.c,
 * mailbox_commit.c (writing, publishing, failing), mailbox_append.c, mailbox_flags.c, mailbox_copy.c, mailbox_move.c,
 * mailbox_compact.c, mailbox_check.c, stage.c, blob.c, logstore.c. Nobody else includes it.
 *
 * A change goes: build a batch unlocked → lock → mailbox_write_locked() (one pwritev into the page cache, then the very octets that
 * were written are applied to the state, by the code that replays a log) → a commit is queued → unlock → mailbox_after().
 * Commits are published in log order by publish_locked(), hard ones after their sync.
 */
#ifndef STORE_MAILBOX_PRIVATE_H
#define STORE_MAILBOX_PRIVATE_H

#include <stdatomic.h>

#include "store/annot.h"
#include "store/index.h"
#include "store/lock_order.h"
#include "store/logstore.h"
#include "store/mailbox.h"
#include "store/mime.h"
#include "store/mlog.h"
#include "store/quota.h"
#include "store/relocation.h"
#include "store/store.h"
#include "util/array.h"
#include "util/fs.h"
#include "util/lock.h"

#define BLOB_THRESHOLD STAGE_IN_MEMORY
#define BATCH_BYTES_MAX (1u << 20)              /* a larger batch is built in a segment of its own */
#define SEQ_RESERVED (1ull << 32)                /* local sequence numbers that a compaction takes for its records */
#define SEGMENT_ROLL_BYTES (16u << 20)          /* a new segment is prepared when the present one is larger */
#define KWSETS_MAX 65536
#define KWSET_IDS_MAX (4u << 20)                /* in all sets together: they are in memory, and with every checkpoint */
#define SOFT_SYNC_MS 500                        /* a flag change is on its way to the disk after this */
#define UNSYNCED_MODSEQS_MAX 65000              /* published but not synced: below the jump of 65,536 after an unclean stop */
#define MODSEQ_JUMP 65536
#define CHECKPOINT_RECORDS 1000
#define CHECKPOINT_BYTES (4u << 20)

struct logstore;

/* ---- keywords: names and sets are only ever added; read without the lock below the published counts ---- */

struct kwtab {
        _Atomic uint32_t names, sets;           /* sets: ids 1 … sets - 1 exist; 0 is the empty one */
        _Atomic uint32_t generation;
        _Atomic(const char *) *name_chunks[64]; /* of 64; NULL: forgotten */
        uint32_t forgotten;                     /* of the names */
        struct kwset **set_chunks[256];         /* of 256 */
        struct table *by_name;                  /* lower-case name → id + 1 */
        struct table *by_ids;                   /* ids → set id */
        uint64_t set_ids;                       /* in all sets together */
        bool changed;                           /* since the last checkpoint */
        ARRAY(void *) former;                   /* names and sets that were replaced */
        uint32_t set_seen;                      /* the highest id that a message names */
};

/* ---- segments ---- */

struct segment {
        atomic_uint refs;
        struct mlog_segment_info info;          /* immutable */
        struct file *file;                      /* immutable: for reading */
        enum mlog_kind kind;                    /* under the mailbox's lock from here on */
        uint64_t end;                           /* octets that are log */
        uint64_t durable;                       /* of them, known to be on disk */
        uint64_t allocated;                     /* fallocate()d up to here */
        int fd;                                 /* for writing, -1: closed */
        bool sealed;
        uint32_t base_uid;                      /* MLOG_ADOPTED */
        uint64_t base_modseq, seq;
        uint64_t journal_lap;                   /* store/journal.h's, of whoever is `syncing` the mailbox */
};
struct segment *segment_ref(struct segment *s);
void segment_unref(struct segment **s);
void segment_set_fd(struct segment *s, int fd);
void segment_close_fd(struct segment *s);        /* mailbox_commit.c: they are counted */

/* ---- moves that are not over ---- */

struct move_note {
        struct mlog_move move;
        bool intent;                            /* else an arrival */
        struct uidset uids;                     /* in the source; arrival: only with \Seen, and then … */
        struct uidset own_seen;                 /* … those that the source's owner has seen */
        char *dir;                              /* intent: the target's partition directory */
        bool live;                              /* a job of this process is at it: not to be settled */
};

/* ---- commits: written, not yet published ---- */

struct totals_delta {
        int64_t live, seen, deleted, size, deleted_size;
};

struct commit {
        struct commit *next;
        uint64_t end;                           /* mlog_mark() behind its last record */
        bool hard;                              /* published after its sync only */
        bool held;                              /* MOVE: not before the other mailbox is ready */
        enum { COMMIT_OF_FLAGS, COMMIT_OF_ANNOTATIONS, COMMIT_OF_MAILBOX } about;       /* when nothing arrives or is expunged: messages'
                                                 * flags, their annotations, something of the mailbox */
        uint64_t modseq;                        /* 0: shows nothing */
        uint32_t first_uid, count;              /* appended */
        /* Replication, whose numbers are given (replica.h). */
        uint32_t *uids;                         /* those that were appended, `count` of them, ascending; NULL: first_uid … Owned */
        uint32_t uidnext;                       /* 0: it follows from what was appended */
        bool sets_modseq;                       /* the mailbox's highest is `modseq` now, even if it was higher */
        struct uidset expunged;
        struct totals_delta delta;
        struct waiter *waiter;                  /* may be NULL */
        void (*fn)(void *ctx, const struct err *err);   /* instead of a waiter: called when on disk (err NULL), at the latest when shown */
        void *ctx;
        struct err err;                         /* on the way to the waiter */
        bool failed;
        unsigned marks;                         /* for the change feed; the writing thread's are added */
        char *copied_from;                      /* name of the mailbox that the messages are from, of another one; owned, NULL */
        /* Called while the batch is applied, for what an ADOPT record brings; NULL: nothing. Not kept. */
        int (*also)(struct mailbox *m, void *also_ctx, uint64_t seq, struct err *err);
        void *also_ctx;
};
struct commit_list {
        struct commit *head, *tail;
};

/* A modseq that a message got for something that concerns one user only. */
struct private_change {
        uint64_t modseq, before;                /* and the one that it had */
        uint64_t reader;
        uint32_t uid;
};
#define PRIVATE_CHANGES_MAX 32768               /* remembered in a mailbox: the older half is forgotten then */
/* What the flags of a message were before a change of them (mailbox_flags.c). */
struct flags_before {
        uint64_t modseq, before;                /* that it got, and the one that it had */
        uint64_t reader;                        /* whose own \Seen was changed, 0: nobody's */
        uint32_t uid;
        uint32_t flags, kwset;                  /* system flags as in the record */
};
#define FLAGS_BEFORE_MAX 1024                   /* remembered in a mailbox: the older half is forgotten then */
/* What a mailbox in memory has contributed to which quota root (quota_private.h): changed under the mailbox's lock and quota_class. */
struct quota_part {
        struct quota_root *root;                /* NULL: none */
        int64_t part[QUOTA_RESOURCES];
        uint64_t round;                         /* of the root's adding up that it was last counted in */
};

/* ---- annotations (mailbox_annot.c) ---- */

#define MLOG_ANNOT_USER_MAX 255
#define ANNOT_CHUNK 256
struct annot_row;
struct annot_share {                            /* of one user's rows, or of the shared ones; while there are any */
        uint64_t rows, bytes;                   /* all, and what they take */
        uint64_t removed;                       /* of bytes: rows without a value */
        uint32_t of_mailbox;                    /* with a value, of uid 0 */
        bool shared;
};
struct annot_chunk {
        uint32_t n;                             /* never 0 in a table */
        uint64_t bytes;                         /* of its rows */
        struct index_part *saved;               /* what the index has of it; NULL: it has changed since */
        struct annot_row *v[ANNOT_CHUNK];
};
struct annot_tab {
        ARRAY(struct annot_chunk *) chunks;     /* rows in order of uid (0: the mailbox's), entry, user */
        uint64_t rows, bytes;                   /* all, and what they take */
        uint64_t removed;                       /* of bytes: rows without a value */
        struct table *shares;                   /* user as in rows, "" the shared ones → struct annot_share; NULL: none */
        uint64_t of_messages;                   /* those of messages that have a value */
        uint64_t values;                        /* octets of the values alone: what a quota counts */
        uint64_t floor;                         /* records with a lower local sequence number are void */
        uint64_t version;                       /* another number when one of a message has changed */
        bool changed;                           /* chunks, floor: since the last checkpoint */
        bool unsettled;                         /* all of the log was read, perhaps not in its order */
};

struct blob_file {
        struct file *file;
        bool checked;
};

/* The logstore's queues that a mailbox can stand in. */
enum mailbox_queue { QUEUE_SYNC, QUEUE_ALONE, QUEUE_SOFT, QUEUE_MAINTENANCE, MAILBOX_QUEUES };

struct rotten {
        uint32_t uid;
        uint64_t segment, offset;               /* of the record */
};
struct mailbox {
        /* immutable */
        struct store *store;
        struct logstore *ls;                    /* NULL: private to a check */
        char *uniqueid;
        bool readonly_store;                    /* look only: nothing is written */

        /* Where it is: changes under the lock, by mailbox_set_place() only; what they pointed to stays until the end. Who goes there without the
         * lock, not `maintaining` and finds nothing, looks whether they have changed. */
        _Atomic(char *) partition_dir, dir, index_path;
        ARRAY(char *) former_places;            /* under the lock */

        atomic_uint refs;
        atomic_bool deleted;
        _Atomic(char *) name;                   /* for logs; former ones are kept in old_names */
        ARRAY(char *) old_names;                /* under open_class */
        struct kwtab kw;                        /* added to under the lock */

        struct mutex lock;                      /* mailbox_class; covers all from here to `watch_lock` */
        struct index *ix;
        struct segment **segs;                  /* in order of the log; the last MLOG_MAIN one is written */
        uint32_t segs_n;
        struct segment *active;                 /* borrowed from segs */
        struct segment *next_active;            /* prepared, in the manifest, not yet in segs */
        struct manifest manifest;               /* as on disk; owned by whoever holds `maintaining`, changed under the lock */
        bool snapshot_out;                      /* a checkpoint is being written from ix: it may not be replaced now */
        bool reload_wanted;                     /* it failed while somebody was `maintaining`: read back from the disk at the end of that */
        bool cut_wanted;                        /* it failed while somebody was `syncing`: what is durable is known at the end of that */
        bool manifest_behind;                   /* an adopted segment's base is not yet in it on the disk: no checkpoint before. Owned
                                                 * as the manifest is */
        bool maintaining;                       /* one checkpoint, roll, compaction or adoption at a time */
        struct cond maintained;
        uint64_t seq;                           /* of the next record */
        uint32_t prev_crc;
        uint32_t epoch;                         /* written into records */
        uint64_t end_mark, durable_mark;
        uint64_t durable_modseq;                /* highest modseq known to be on disk */
        uint64_t given;                         /* how often modseqs were given by replication: they need not be above all that were before */
        uint64_t options_seq;                   /* of the record that set the options */
        bool options_dirty;                     /* recent uid and the like: go with the next batch */
        ARRAY(struct move_note *) moves;
        struct annot_tab annots;
        struct uidset moving;                   /* UIDs on their way out: not expunged or moved by others meanwhile */
        struct commit_list commits;
        struct totals_delta pending;            /* sum of the commits' */
        uint32_t hard_pending;
        bool failed;                            /* takes no changes until the next start */
        struct err failure;
        struct view *view;                      /* published */
        bool view_stale;                        /* only its modseq is behind published_modseq */
        unsigned published_what GUARDED_BY(mailbox_class);      /* CHANGE_… since the change feed was told last */
        unsigned published_lacks GUARDED_BY(mailbox_class);     /* … marks that some of it does not have (there are never all); 0: nothing was */
        uint64_t published_modseq;
        uint32_t published_uidnext;
        ARRAY(struct private_change) private_changes;   /* ascending by modseq, then uid */
        ARRAY(struct flags_before) flags_before;        /* likewise */
        ARRAY(struct rotten) rotten;            /* LOAD_CHECK_BODIES: records of messages whose octets do not have their checksum */
        uint64_t *checked;                      /* a bit for each UID whose octets were compared with their checksum since load */
        uint32_t checked_words;
        struct table *blobs;                    /* file name → struct blob_file: those read since load */
        struct table *blob_pins;                /* file name → count: linked, record not yet written */
        struct relocation *relocation;          /* it is being copied to another partition: blobs are placed there too, and none are removed */
        unsigned placing[2], relocations;       /* calls of blob_place() under way, by how many relocations had begun before them */
        struct cond placed;
        struct segment *mirror;                 /* … the copy of `active`: every batch is written to both, and synced in both */
        bool mirror_counts;                     /* its failing is the mailbox's; else there is no copy then */
        uint64_t records_since_checkpoint, bytes_since_checkpoint;
        bool syncing;                           /* a thread is in fdatasync for this mailbox */
        struct cond synced;
        bool compact_wanted;                    /* something was purged */
        bool moves_left;                        /* of an interrupted move nothing is known until its target is repaired: opened anew each time */
        uint64_t dead_bytes;                    /* of records whose octets are not kept, since the last compaction */
        bool purge_wanted;                      /* expunge_mode: immediate, and something was expunged */
        bool sweep_wanted;                      /* a blob that nobody needs was being read when it was to go, or lost its last record */
        bool retired_left;                      /* compaction was interrupted: finish it */
        uint64_t damage;                        /* problems found while loading */
        struct quota_part quota;

        struct mutex watch_lock;                /* watch_class */
        struct mailbox_watch *watches;

        /* the logstore's, under sync_class */
        uint64_t soft_deadline_ms;
        struct { struct mailbox *next; bool is; } queued[MAILBOX_QUEUES];
        /* the logstore's, under open_class */
        struct mailbox *cold_prev, *cold_next;
        bool cold, shed;                        /* nobody has it open; its descriptors and blocks were given up */
        uint64_t cold_since_ms;
        enum { MB_OPENING, MB_OPEN, MB_CLOSING } phase;
};

/* Make the directory of a mailbox, durably: those on the way there too, whoever made them. */
int mailbox_make_dir(const char *partition_dir, const char *uniqueid, struct err *err);
/* The three strings, for this partition. Lock held, or nobody else has the mailbox. */
void mailbox_set_place(struct mailbox *m, const char *partition_dir);

static inline void mailbox_lock(struct mailbox *m) ACQUIRE(m->lock, mailbox_class);
static inline void mailbox_lock(struct mailbox *m) NO_TSA
{
        mutex_lock(&m->lock);
}
static inline bool mailbox_trylock(struct mailbox *m) TRY_ACQUIRE(true, m->lock, mailbox_class);
static inline bool mailbox_trylock(struct mailbox *m) NO_TSA
{
        return mutex_trylock(&m->lock);
}
static inline void mailbox_unlock(struct mailbox *m) RELEASE(m->lock, mailbox_class);
static inline void mailbox_unlock(struct mailbox *m) NO_TSA
{
        mutex_unlock(&m->lock);
}

/* ---- mailbox_state.c: nobody else has the mailbox yet, or its lock is held ---- */

void kwtab_init(struct kwtab *kw);
void kwtab_deinit(struct kwtab *kw);
void kwtab_fill(struct kwtab *kw);               /* sets whose records are lost to damage become empty ones */
const char *kwtab_name(const struct kwtab *kw, uint32_t id);
const struct kwset *kwtab_set(const struct kwtab *kw, uint32_t id);
int kwtab_find_name(const struct kwtab *kw, struct span name);                  /* -1: none */
/* What a batch needs that is not there yet. The ids are only taken when the batch has been written and applied. */
struct kwneed {
        ARRAY(struct { struct span name; uint16_t id; }) names; /* borrowed */
        ARRAY(struct kwset *) sets;
        struct table *by_name, *by_ids;         /* where they are, + 1: a batch of replication may bring thousands. NULL: none yet */
        uint64_t set_ids;                       /* in all sets together */
};
void kwneed_deinit(struct kwneed *need);
/* Ids for names, and a set id for ids (sorted here, doubles dropped); for new ones a record is added to b->head. ERR_LIMIT. */
int kw_need_name(struct mailbox *m, struct kwneed *need, struct span name, struct mlog_batch *b, uint16_t *id_r, struct err *err);
int kw_need_set(struct mailbox *m, struct kwneed *need, uint16_t *ids, uint32_t n, struct mlog_batch *b, uint32_t *set_r,
                struct err *err);
void kw_add_forget(struct mlog_batch *b, struct str *part, const uint16_t *ids, uint32_t n);
/* Add records for everything that is there (compaction). */
void kwtab_add_all(struct mailbox *m, struct mlog_batch *b, struct str *part);

struct apply_base {                             /* MLOG_RELATIVE records */
        uint32_t uid;
        uint64_t modseq, seq;
        bool adopted;
};
/* Apply one record. ERR_CORRUPT etc. from the index only. */
int state_apply(struct mailbox *m, const struct mlog_header *h, const void *front, const struct apply_base *base, struct err *err);
/* Apply the batch just sealed in `b`. */
int state_apply_batch(struct mailbox *m, const struct mlog_batch *b, struct err *err);
void state_save_blobs(struct mailbox *m);       /* keywords, moves, extra: into the index, before a snapshot */
int state_load_blobs(struct mailbox *m, struct err *err);
struct move_note *state_find_move(struct mailbox *m, const uint8_t id[16], bool intent);
void state_forget_moves(struct mailbox *m);
/*
 * Quiet: since the last MLOG_VALUES of replication nothing was given a modseq here. All that is shown of such a mailbox is on disk, so after a stop
 * that was no clean one it need not jump over modseqs that somebody may have seen – a replica would be ahead of its master, in every mailbox.
 * Whoever ends that waits for the disk (mailbox_write_locked()).
 */
bool state_is_quiet(struct mailbox *m);
void state_set_quiet(struct mailbox *m, bool quiet);
void state_counters(struct mailbox *m, struct mlog_counters *c_r);              /* prev_* are 0 */
struct totals_delta state_totals(struct mailbox *m);

/* ---- mailbox.c ---- */

void mailbox_copy_out(const struct index_rec *rec, struct msg *msg);
/* store/sort_file.h: a descriptor to read it, or to append to it. -1: there is none, or nothing may be written. The mailbox does not go to
 * another directory meanwhile. */
int mailbox_open_sort_file(struct mailbox *m, bool append) EXCLUDES(mailbox_class);
void mailbox_remove_sort_file(struct mailbox *m) EXCLUDES(mailbox_class);

/* ---- mailbox_open.c ---- */

enum {
        LOAD_REBUILD = 1,                       /* do not use the index */
        LOAD_READONLY = 2,                      /* write nothing: neither seal nor settle */
        LOAD_ROLLBACK = 4,                      /* only up to the mailbox's durable_mark */
        LOAD_CHECK_BODIES = 8,                  /* all of them */
};
void mailbox_dir(struct str *out, const char *partition_dir, const char *uniqueid);
struct mailbox *mailbox_alloc(struct store *store, struct logstore *ls, const struct mailbox_ident *ident);
void mailbox_free(struct mailbox **m);
/* Read manifest, index, log into `m` (empty, or emptied by mailbox_unload()). */
int mailbox_load(struct mailbox *m, const struct mailbox_ident *ident, unsigned flags, struct check_report *report, struct err *err);
/* Bring what is in the page cache of a segment to the disk; one that is not there has nothing. -1: as mailbox_guard(). */
int mailbox_sync_file(struct mailbox *m, const char *path, struct err *err);
void mailbox_unload(struct mailbox *m);
struct segment *mailbox_segment(struct mailbox *m, uint64_t id);                /* NULL: none. Lock held */
void mailbox_problem(struct mailbox *m, struct check_report *report, uint32_t uid, const char *fmt, ...)
        __attribute__((format(printf, 4, 5)));
struct segment *segment_open(struct mailbox *m, const struct manifest_entry *e, const struct mlog_segment_info *info);
/* Make segment `id`, not synced, not yet listed; with a batch of its COUNTERS record if wanted. */
int segment_begin(struct mailbox *m, uint64_t id, bool counters, struct segment **seg_r, struct err *err);
/* What was written to the segment and its name are durable: a manifest may list it. `listed_in_new`: by the mailbox's first manifest, whose
 * own sync of the directory makes both names durable (without that manifest there is no mailbox). */
int segment_settle(struct mailbox *m, struct segment *s, bool listed_in_new, struct err *err);
void mailbox_set_view(struct mailbox *m);       /* after load: everything is published */

/* ---- mailbox_commit.c ---- */

/* May it be changed now? ERR_READONLY, ERR_NOTFOUND (deleted). */
int mailbox_writable_locked(struct mailbox *m, struct err *err) REQUIRES(m->lock, mailbox_class);
/* The same for a client's change: store_may_change(), too. */
int mailbox_changeable_locked(struct mailbox *m, struct err *err) REQUIRES(m->lock, mailbox_class);
uint64_t mailbox_next_modseq_locked(struct mailbox *m) REQUIRES(m->lock, mailbox_class);
/*
 * Write a batch, apply it, queue its commit (copied from *c; end, delta and list fields are filled in here). With modseq and first_uid
 * for records that have none. Takes what `c` owns (expunged) also when it fails. Nothing was changed when it fails.
 */
int mailbox_write_locked(struct mailbox *m, struct mlog_batch *b, uint64_t modseq, uint32_t first_uid, struct commit *c, struct err *err)
        REQUIRES(m->lock, mailbox_class);
void commit_queue_locked(struct mailbox *m, struct commit *c) REQUIRES(m->lock, mailbox_class);
/* After unlocking: complete what became publishable, see to it that the rest is synced. With no sync threads: syncs here. */
void mailbox_after(struct mailbox *m) EXCLUDES(mailbox_class);
void mailbox_note_private_locked(struct mailbox *m, uint32_t uid, uint64_t modseq, uint64_t before, uint64_t reader)
        REQUIRES(m->lock, mailbox_class);
/* Sync the log and publish; from sync threads. */
void mailbox_sync(struct mailbox *m) EXCLUDES(mailbox_class);
/* The same for several mailboxes of the partition in `dir`, by its journal. What it does not take is left to logstore_want_sync_alone(). */
struct journal;
void mailbox_sync_together(struct journal *j, const char *dir, struct mailbox *const *list, unsigned n) EXCLUDES(mailbox_class);
/* Block until all that was written before is on disk. Job threads. */
int mailbox_sync_wait(struct mailbox *m, struct err *err) EXCLUDES(mailbox_class);
/* Write octets at the end of a segment, growing it in chunks. ERR_NOSPACE, ERR_IO: nothing is there then. */
int segment_write(struct segment *seg, struct iovec *iov, int n, uint64_t at, struct err *err);
/* Something failed that memory cannot be trusted after: fail waiters, go back to what is on disk. */
void mailbox_fail_locked(struct mailbox *m, const struct err *why, bool partition) REQUIRES(m->lock, mailbox_class);
void mailbox_complete(struct mailbox *m, struct commit_list *done, bool notify) EXCLUDES(mailbox_class);
void mailbox_notify(struct mailbox *m) EXCLUDES(mailbox_class);
void mailbox_release_held(struct mailbox *m, uint64_t end, const struct err *err) EXCLUDES(mailbox_class);
/* Around a call that syncs files of this mailbox: when a sync failed in it, the partition takes no more changes. Its value is the call's.
 * A lock may be held. */
#define mailbox_guard(m, call, err) ((void)fs_take_sync_failure(), mailbox_guarded((m), (call), (err)))
int mailbox_guarded(struct mailbox *m, int rc, const struct err *err);
/* maintaining */
void mailbox_maintain_begin(struct mailbox *m) EXCLUDES(mailbox_class);
void mailbox_maintain_end(struct mailbox *m) EXCLUDES(mailbox_class);
/* In a manifest that is about to be written: what is sealed and on disk by now. */
void mailbox_seal_entries_locked(struct mailbox *m, struct manifest *manifest) REQUIRES(m->lock, mailbox_class);
int mailbox_roll(struct mailbox *m, struct err *err) EXCLUDES(mailbox_class);   /* prepare the next segment; while maintaining */
int mailbox_begin_next(struct mailbox *m, struct err *err) EXCLUDES(mailbox_class);     /* … and go on in it */
int mailbox_checkpoint_inner(struct mailbox *m, struct err *err) EXCLUDES(mailbox_class);       /* while maintaining */
void mailbox_close_fds(struct mailbox *m) EXCLUDES(mailbox_class);
void mailbox_shed(struct mailbox *m) EXCLUDES(mailbox_class);           /* a cold one gives up blocks in memory */

/* ---- mailbox_copy.c: what copy and move share ---- */

struct job {
        struct job *next;
        void (*fn)(struct job *job);            /* ends the job's memory itself */
        bool slow;                              /* may take long (copies): never occupies all job threads */
};

struct blob_pin {
        uint8_t guid[GUID_SIZE];
        uint32_t number;
};
/* Annotations of messages that have no UID yet: where their records are. */
struct new_annot {
        size_t at;                              /* of its struct mlog_annotation in the batch's body */
        uint32_t nth;                           /* of the messages in the batch, from 0 */
};
struct new_annots { ARRAY(struct new_annot) list; };
void new_annots_number(const struct new_annots *annots, struct mlog_batch *b, uint32_t first_uid);

struct annot_growth {                           /* by how much annotations that are about to be written make a share larger */
        char *user;                             /* as in the log; "": the shared ones */
        int64_t bytes;
};
struct annot_growths { ARRAY(struct annot_growth) list; };      /* few: one user's and the shared ones, mostly */
struct side_message {
        struct mlog_header h;
        struct mlog_message f;
};
struct side_annot {
        struct mlog_header h;
        struct mlog_annotation *a;              /* with what follows it */
};
struct carry {
        struct job job;
        struct mailbox *from, *to;              /* with references */
        struct uidset uids;                     /* asked for; then: those that are taken */
        struct copy_mask mask;
        struct uidset seen;                     /* what mask.seen points to */
        bool with_seen;                         /* move: users' own \Seen states of the messages are to be carried over */
        struct uidset own_seen;                 /* … those that the source's owner has seen */
        size_t arrival_at;                      /* move: of its struct mlog_move in batch.head; 0: none */
        char *private_annots;                   /* of the user of mask.private_annots: as in the log; NULL: none */
        struct new_annots annots;               /* in the batch */
        ARRAY(struct side_annot) side_annots;
        struct annot_growths annot_growths;     /* what they take in memory of the shares that are checked … */
        int64_t annot_values;                   /* … and all of a quota */
        struct uidset *copied_r;
        struct append_result *result;
        struct waiter *waiter;
        struct mlog_batch batch;                /* for `to` */
        ARRAY(size_t) fronts;                   /* places of struct mlog_message in batch.body; kwset is the source's */
        ARRAY(struct blob_pin) pins;      /* blobs placed in `to` */
        uint32_t *setmap;                       /* source set id → target set id + 1, 0: not yet known */
        uint32_t setmap_n;
        struct segment *side;                   /* in `to`, for a large set */
        ARRAY(struct side_message) side_messages;
        uint32_t side_seq;
        bool given;                             /* UIDs, modseqs and kwsets of what is laid down are final (replica_write.c): relative to 1 and 0 */
        uint8_t move_id[16];
        uint64_t held_end;                      /* move: of the target's commit */
        struct append_item *staged;             /* replace: this one arrives instead of what leaves; owned, with its stage and keywords */
        const struct unexpunge *restore;        /* mailbox_unexpunge(): `from` is `to`, and these are expunged ones. What it points to is owned */
        bool within;                            /* mailbox_move() where `from` is `to` */
        struct uidset reserved;                 /* of either: in the mailbox's `moving` */
        uint64_t bytes;                         /* octets of the messages that were laid down */
        struct quota_root *in_both;             /* move within one quota root: they count once; NULL: not, or not any more */
        int64_t in_both_bytes, in_both_n;       /* … what leaves */
};
struct carry *carry_create(struct mailbox *from, const struct uidset *uids, struct mailbox *to, const struct copy_mask *mask,
                                 struct uidset *copied_r, struct append_result *result_r, struct waiter *waiter);
void carry_free(struct carry *t);
void carry_counts_once(struct carry *t);
/* Leave in t->uids what is there; returns how many messages, *bytes_r their octets, *blobs_r whether one is a blob. Stops, with t->uids
 * as it was, when there are more than `stop_above`. */
uint32_t carry_select(struct carry *t, uint32_t stop_above, uint64_t *bytes_r, bool *blobs_r) EXCLUDES(mailbox_class);
/* Read the source, lay down the target's records (aside, when they are many). No lock held; may block. */
int carry_build(struct carry *t, struct err *err);
/* Write them; `c` as for mailbox_write_locked(), with first_uid, count and modseq filled in here. No lock held. */
int carry_commit(struct carry *t, struct commit *c, struct err *err);
/* After that: what has to be written down about a segment built aside (blocks). */
void carry_settle(struct carry *t);
/*
 * The segment built aside, for those who lay down records themselves: begin (the mailbox is being maintained from then on), flush what is in
 * t->batch, list it in the manifest. carry_apply_side() is for commit.also, with `t`; after the write carry_settle(), or without one carry_side_drop(),
 * which does nothing when none was begun.
 */
int carry_side_begin(struct carry *t, struct err *err) EXCLUDES(mailbox_class);
int carry_side_flush(struct carry *t, struct err *err) EXCLUDES(mailbox_class);
int carry_side_list(struct carry *t, struct err *err) EXCLUDES(mailbox_class);
void carry_side_drop(struct carry *t) EXCLUDES(mailbox_class);
int carry_apply_side(struct mailbox *m, void *carry, uint64_t seq, struct err *err);
/* All of it. Returns 0 when the waiter will be completed, -1 when not. */
int carry_now(struct carry *t, struct err *err);
/* The job of one within a mailbox: all of it, then `reserved` is free again, and t, too. */
void carry_run_reserved(struct job *job);
void mailbox_not_moving_locked(struct mailbox *m, const struct uidset *uids) REQUIRES(m->lock, mailbox_class);

/* ---- mailbox_annot.c: as mailbox_state.c, whose part it is ---- */

void annots_forget(struct mailbox *m);
void annots_apply(struct mailbox *m, uint32_t uid, uint64_t seq, uint64_t modseq, const struct mlog_annotation *a);
void annots_purge(struct mailbox *m, const struct uidset *uids);
int annots_settle(struct mailbox *m, struct err *err);  /* at the end of loading */
void annots_save(struct mailbox *m);
int annots_load(struct mailbox *m, struct err *err);
/* Those that have a value of messages first … last (0: of the mailbox), users as in the log, in order; copied. */
struct annot_of {
        uint32_t uid;
        struct annot annot;
};
uint32_t annots_of_range_locked(struct mailbox *m, uint32_t first, uint32_t last, struct arena *arena, struct annot_of **list_r)
        REQUIRES(m->lock, mailbox_class);
/* Keys become user ids, those of nobody any more go; by uid, entry, user. Returns how many are left. */
uint32_t annots_name_users(struct store *store, struct arena *arena, struct annot_of *list, uint32_t n);
/* Lay down a record; returns where its struct mlog_annotation is in `part`. value.p NULL: none any more. */
size_t annots_add_record(struct mlog_batch *b, struct str *part, uint32_t uid, const char *entry, const char *user, struct span value,
                         uint64_t modseq);
/* All of a message (0: of the mailbox) that have a value, users as in the log. */
uint32_t annots_as_logged(struct mailbox *m, uint32_t uid, struct arena *arena, struct annot **list_r) EXCLUDES(mailbox_class);
/* The annotations to be set as the log has them: users as keys (annot_user.h), each entry of a user once. ERR_BUSY: a user has none. */
int annots_resolve(struct mailbox *m, const struct annot *set, uint32_t n, struct arena *arena, struct annot **keyed_r, uint32_t *n_r,
                   struct err *err) EXCLUDES(mailbox_class);
/* What is to be set on one message (0: the mailbox): records for what is different, counted in *written_r. ERR_LIMIT, ERR_QUOTA. Whatever
 * comes of it, quota_report() is owed. */
struct annot_plan {
        struct annot_growths growths;           /* of all that was planned so far */
        int64_t values;                         /* … what was planned last, its values */
};
int annots_plan_locked(struct mailbox *m, uint32_t uid, const struct annot *set, uint32_t n, struct annot_plan *plan, struct mlog_batch *b,
                       uint32_t *written_r, struct err *err) REQUIRES(m->lock, mailbox_class);
/* These (users as in the log, in order of entry and that) in the place of all that a message (0: the mailbox) has: records for what is different,
 * removals among them, counted in *written_r. `modseq` for those that have none. Quotas count it and do not refuse it. ERR_LIMIT: too many;
 * annots_room_locked() with what is in the plan is the caller's business, and quota_report(). */
int annots_replace_locked(struct mailbox *m, uint32_t uid, const struct annot *set, uint32_t n, uint64_t modseq, struct annot_plan *plan,
                          struct mlog_batch *b, uint32_t *written_r, struct err *err) REQUIRES(m->lock, mailbox_class);
/* Of a message that is new: not too many? ERR_LIMIT. */
int annots_check_new(const struct annot *set, uint32_t n, struct err *err);
/* What one takes in memory, of the bound of its share; note that; is there room for all that was noted? Else ERR_LIMIT. */
uint64_t annot_bytes(const struct annot *a);
void annot_grows(struct annot_growths *growths, const char *user, int64_t bytes);
void annot_growths_deinit(struct annot_growths *growths);
int annots_room_locked(struct mailbox *m, const struct annot_growths *growths, struct err *err) REQUIRES(m->lock, mailbox_class);
/* Compaction: note what records mention; then write those from … upto as they are now. Lock held for the latter. */
struct annot_keys {
        ARRAY(struct annot_row *) list;
        uint64_t floor;                         /* that victims mention, or the new one */
        bool rewrite;                           /* all are written anew, above the floor: what was removed needs no record */
};
bool annots_want_rewrite(const struct mailbox *m);
void annots_note(struct annot_keys *keys, uint32_t uid, const struct mlog_annotation *a);
void annots_note_all(struct annot_keys *keys, const struct mailbox *m);
size_t annots_sort(struct annot_keys *keys);            /* each once; returns how many are left */
void annots_add_noted(struct mailbox *m, const struct annot_keys *keys, size_t from, size_t upto, struct mlog_batch *b, struct str *part);
void annots_add_floor(uint64_t floor, struct mlog_batch *b, struct str *part);
void annots_rewritten(struct mailbox *m, uint64_t floor);       /* it is on disk and in the manifest */
void annots_keys_deinit(struct annot_keys *keys);

/* ---- mailbox_expunge.c ---- */

/* Does `expunge_mode` keep no octets of what is expunged now? */
bool expunge_unlinks(struct mailbox *m);
void expunge_add_record(struct mlog_batch *b, const struct uidset *uids, bool unlink);
/* Something that was expunged is shown as such: is it to be forgotten as well? */
void expunge_shown_locked(struct mailbox *m) REQUIRES(m->lock, mailbox_class);
/* If so, forget it. Maintenance, and whoever closes the mailbox. */
int expunge_forget(struct mailbox *m, struct err *err) EXCLUDES(mailbox_class);

/* ---- mailbox_move.c ---- */

/* After load, before the first view: intents that a crash left open are carried out or dropped, as the target's log says. */
int mailbox_settle_moves(struct mailbox *m, struct err *err);

/* mailbox_replace() between two mailboxes. */
int mailbox_move_replaced(struct mailbox *from, uint32_t uid, struct mailbox *to, const struct append_item *item,
                          struct append_result *result_r, struct waiter *waiter, struct err *err) EXCLUDES(mailbox_class);
bool mailbox_is_live_locked(struct mailbox *m, uint32_t uid) REQUIRES(m->lock, mailbox_class);      /* shown, and not on its way out */

/* ---- mailbox_append.c: what append, copy and move share ---- */

/* An item that outlives the caller's; ends with append_item_free(). */
void append_item_copy(struct append_item *to, const struct append_item *from);
void append_item_free(struct append_item *item);
/*
 * Lay down a message whose numbers are given, with its annotations (users as in the log, by `keyed`): uid, modseq, dates, flags are final, kwset
 * is not. `stage` NULL: it has no octets any more. *at_r: where its struct mlog_message is in b->body. *annots_r are where its annotations are.
 */
struct replica_record;
int append_lay_down_given(struct mlog_batch *b, const struct replica_record *rec, const struct annot *keyed, uint32_t keyed_n, struct stage *stage,
                          uint32_t blob_number, size_t *at_r, struct new_annots *annots, struct err *err);
/* Lay down t->staged in t->batch; may block for its blob. */
int append_build_staged(struct carry *t, struct err *err);
/* The target's set for an item's keywords. */
int append_keywords_locked(struct mailbox *m, struct kwneed *need, const struct append_item *item, struct mlog_batch *b, uint32_t *set_r,
                           struct err *err) REQUIRES(m->lock, mailbox_class);

struct new_message {
        struct mlog_message fixed;              /* uid 0, kwset filled in under the lock */
        const void *rest;                       /* strings, parts, header: front behind the fixed part */
        size_t rest_len;
        const void *octets;                     /* NULL: a blob */
        char *blob_name;                        /* of a blob: "b.…", linked and pinned */
};
/* The name of a blob's file. */
void blob_name(struct str *out, const uint8_t guid[GUID_SIZE], uint32_t number);
/*
 * Make the octets of `path` (a file that never changes, synced by the caller) the blob with this GUID in the mailbox: link or copy;
 * an existing one is compared. Synced with its directory. *number_r tells it from others of the same GUID. The name stays pinned
 * against removal until blob_unpin(). Blocks.
 */
int blob_place(struct mailbox *m, const char *path, const uint8_t guid[GUID_SIZE], uint64_t size, uint32_t *number_r,
               struct err *err) EXCLUDES(mailbox_class);
void blob_unpin(struct mailbox *m, const uint8_t guid[GUID_SIZE], uint32_t number) EXCLUDES(mailbox_class);
/* The counted file of a blob. Lock held. */
struct blob_file *blob_open_locked(struct mailbox *m, const uint8_t guid[GUID_SIZE], uint32_t number) REQUIRES(m->lock, mailbox_class);
/* Remove the blobs that no record names any more; the log must be synced. */
int blob_sweep(struct mailbox *m, struct err *err) EXCLUDES(mailbox_class);

/* stage.c */
struct stage_content {
        uint64_t size;
        const uint8_t *guid;
        uint32_t crc;
        const void *memory;                     /* NULL: in a file */
        const char *path;
        const struct mime_result *mime;
        struct span header;                     /* the kept header of a blob */
};
void stage_content(const struct stage *stage, struct stage_content *c_r);
int stage_sync(struct stage *stage, struct err *err);                           /* fdatasync of the file, once */

/* ---- mailbox_check.c ---- */

/* What a segment's file on its own tells; seq is that of its last record. 0, or -1: not one of this mailbox's. */
int segment_entry_of_file(const char *dir, const char *uniqueid, uint64_t id, struct manifest_entry *e);

/* ---- mailbox_relocate.c (relocation.h) ---- */

const char *relocation_partition(const struct relocation *r);   /* the target's directory; stays as long as the mailbox */
/* The copy of what was just written to `active`; it cannot be written or synced, and does not count. */
int relocation_write_locked(struct mailbox *m, const struct iovec *iov, int n, struct err *err) REQUIRES(m->lock, mailbox_class);
void relocation_failed_locked(struct mailbox *m, const struct err *err) REQUIRES(m->lock, mailbox_class);
/* Where a blob has to be placed; then that it was, or was not. */
struct blob_places {
        const char *partition_dir, *dir;        /* as long as the mailbox */
        const char *also;                       /* NULL: nowhere else */
        unsigned relocations;
};
void relocation_placing(struct mailbox *m, struct blob_places *places_r) EXCLUDES(mailbox_class);
void relocation_placed(struct mailbox *m, const struct blob_places *places) EXCLUDES(mailbox_class);
/* … and that it could not be placed in the other one. 0: that is the copy's failure only. */
int relocation_blob_failed(struct mailbox *m, const struct blob_places *places, const struct err *err, bool sync_failed) EXCLUDES(mailbox_class);
/* Link, or copy and sync, a blob from directory to directory. One that is there already is the same. */
int blob_copy(const char *from, const char *to, uint64_t *octets, struct err *err);

/* ---- logstore.c ---- */

/* Run on a job thread (without threads: here and now). */
void logstore_run(struct logstore *ls, struct job *job);
/* Run on a sync thread within SOFT_SYNC_MS. One job at a time may be waiting: there is only one kind, the database's flush. Without threads,
 * and when they are stopping: here and now. */
void logstore_run_soon(struct logstore *ls, struct job *job);
void logstore_want_sync(struct logstore *ls, struct mailbox *m, bool soft);     /* takes a reference while queued */
void logstore_want_sync_alone(struct logstore *ls, struct mailbox *m);          /* … in its own file */
void logstore_want_maintenance(struct logstore *ls, struct mailbox *m);
bool logstore_threaded(const struct logstore *ls);
const struct logstore_options *logstore_options(const struct logstore *ls);
struct logstore_counts {
        _Atomic uint64_t commits, syncs, groups, grouped, sync_us, bytes, checkpoints, compactions, added, expunged;
        _Atomic uint64_t sync_buckets[LOGSTORE_SYNC_BUCKETS];
};
struct change_subscriber;
struct change_feed {
        struct mutex lock;                      /* change_class */
        struct change_subscriber *first;
        atomic_int entries_wanted;
};
struct change_feed *logstore_feed(struct logstore *ls);
/* Is it time for a checkpoint, a new segment, compaction? From housekeeping. */
void mailbox_maintain(struct mailbox *m, bool old);
struct logstore_counts *logstore_counts(struct logstore *ls);
void logstore_unref(struct logstore *ls, struct mailbox *m) EXCLUDES(open_class);
/* Around reading a mailbox's files without having it open; where they are is looked up in between. No directory that a mailbox has left is
 * removed meanwhile. */
void logstore_look_begin(struct logstore *ls);
void logstore_look_end(struct logstore *ls);
bool logstore_is_looked_at(struct logstore *ls);

#endif
