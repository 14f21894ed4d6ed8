/*
 * mailbox - one open mailbox, shared by every session that selected it, and by deliveries.
 *
 * The first mailbox_open() of a unique id maps the index and replays the log's tail; later ones get the same object. A message's
 * octets never change once it has a UID (RFC 9051 2.3.1.1). Unless a function says otherwise: any thread may call, it takes the
 * mailbox's lock for bounded work, and never waits for a sync – what must be on disk before it may be acknowledged takes a
 * `struct waiter` (util/waiter.h), completed from a sync thread when the change is durable and published, or has failed (nothing
 * is changed then).
 *
 * State and visibility. Changes are applied in memory in log order as they are written. What others may see is bounded by the
 * published view (which messages) and mailbox_published_modseq() (which changes): appends and expunges are published after their
 * sync; a flag change at once unless an unsynced append or expunge stands before it in the log – then together with it.
 * A reader that meets a message with modseq > published_modseq (a flag change not yet published) calls mailbox_wait_published().
 *
 * Permissions are the caller's business, names are mboxlist's: here is only the object with its unique id.
 */
#ifndef STORE_MAILBOX_H
#define STORE_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "store/lock_order.h"
#include "store/uidset.h"
#include "store/view.h"
#include "util/arena.h"
#include "util/err.h"
#include "util/file.h"
#include "util/hash.h"
#include "util/progress.h"
#include "util/str.h"
#include "util/waiter.h"

struct store;
struct mailbox;
struct seen;
struct stage;
struct annot;
struct mime_part;

/* ---- flags and keywords ---- */

enum {                                          /* system flags, as on disk */
        MSG_ANSWERED    = 1u << 0,
        MSG_FLAGGED     = 1u << 1,
        MSG_DELETED     = 1u << 2,
        MSG_DRAFT       = 1u << 3,
        MSG_SEEN        = 1u << 4,
        MSG_SYSTEM_FLAGS = 0x1f,
        MSG_EXPUNGED    = 1u << 16,             /* a tombstone: kept until cyr_expire; in no new view */
        MSG_BLOB        = 1u << 17,             /* the octets are in a file of their own */
        MSG_UNLINKED    = 1u << 18,             /* a tombstone whose octets are not kept: nothing brings it back */
        MSG_OWN_THRID   = 1u << 19,             /* replicated without a thread id: the one that it has is this store's alone */
};

/* Keyword ids are 0..n-1 in the order of first use in this mailbox; names keep their first spelling, compare case-insensitively.
 * A set of keywords is interned: messages carry the id of a set (0 is the empty set). Names and sets are not freed while the mailbox is
 * open, so the pointers stay valid as long as the reference to the mailbox. A keyword that was forgotten has no name; its id may be
 * another one's later. */
#define KEYWORDS_MAX 4096                       /* in one mailbox; ERR_LIMIT beyond */
#define KEYWORD_BYTES_MAX 256
uint32_t mailbox_keyword_count(struct mailbox *mbox);
const char *mailbox_keyword_name(struct mailbox *mbox, uint32_t keyword);       /* NULL: forgotten */
/* Another number whenever one gets or loses its name. */
uint32_t mailbox_keyword_generation(struct mailbox *mbox);
/* The id of a name, -1 when this mailbox has never had it. Never creates. */
int mailbox_keyword_find(struct mailbox *mbox, struct span name);
struct kwset {
        uint32_t n;
        uint16_t ids[];                         /* ascending */
};
const struct kwset *mailbox_kwset(struct mailbox *mbox, uint32_t set_id);       /* NULL for set 0 */

/* ---- a message's state, copied out ---- */

struct msg {
        uint32_t uid;
        uint32_t flags;                         /* MSG_… */
        uint32_t kwset;                         /* see mailbox_kwset() */
        uint64_t modseq;
        uint64_t createdmodseq;
        int64_t last_updated;                   /* Unix seconds, of the last change of metadata (csync LAST_UPDATED) */
        int64_t internaldate, savedate, sentdate;       /* Unix seconds; sentdate INT64_MIN: no Date field */
        uint64_t size;
        uint32_t header_size;                   /* octets of the header with its empty line */
        uint8_t guid[GUID_SIZE];
        uint64_t thrid, emailid;                /* 0: none yet */
        /* where it is; for mailbox_body() and mailbox_front() only */
        uint32_t segment, front_len;
        uint64_t offset;
};

/* ---- open ---- */

/* What the mailbox list knows and opening needs. */
struct mailbox_ident {
        const char *uniqueid;                   /* 24 characters a–z0–9 */
        const char *partition_dir;              /* absolute path of the partition */
        const char *name;                       /* internal name, for logs only */
        uint32_t uidvalidity;
};

/* The open mailbox if it is in memory, with a reference, else NULL. Never touches the disk. */
struct mailbox *mailbox_find_open(struct store *store, const char *uniqueid) EXCLUDES(open_class);
/* Open (maps, replays, may rebuild: can take long; not for workers unless the mailbox is small – use mailbox_find_open() first and
 * an offloaded call otherwise). ERR_NOTFOUND: no such directory; ERR_CORRUPT: nothing usable; ERR_IO. */
int mailbox_open(struct store *store, const struct mailbox_ident *ident, struct mailbox **mbox_r, struct err *err)
        EXCLUDES(open_class);
struct mailbox *mailbox_ref(struct mailbox *mbox);
/* The last reference leaves the object in the cache of cold mailboxes; it is checkpointed and closed from there. */
void mailbox_unref(struct mailbox **mbox);

/* Make directory and first segment, durably. Blocks (sync). Job threads and tools only. */
int mailbox_create_files(struct store *store, const struct mailbox_ident *ident, struct err *err);
/* The mailbox was deleted: its directory is removed when the last reference is gone. Sessions see mailbox_is_deleted(). */
void mailbox_mark_deleted(struct store *store, const struct mailbox_ident *ident) EXCLUDES(open_class);
bool mailbox_is_deleted(struct mailbox *mbox);
/* Renamed: the name used in logs. Watchers are told: it may be out of their sight now. */
void mailbox_set_name(struct store *store, const char *uniqueid, const char *name);
/* Something about it has changed that is not kept in it: watchers, if it is open, are told to look. */
void mailbox_tell_watchers(struct store *store, const char *uniqueid);
const char *mailbox_uniqueid(struct mailbox *mbox);
struct store *mailbox_store(struct mailbox *mbox);

/* ---- counters: what SELECT and STATUS need, of the published state, O(1) or O(blocks) ---- */

struct mailbox_status {
        uint32_t messages, unseen, deleted, recent;     /* recent: above recentuid */
        uint32_t uidnext, uidvalidity;
        uint64_t highestmodseq;                 /* published */
        uint64_t deletedmodseq;                 /* expunges up to here are no longer remembered (RFC 7162 3.2.5) */
        uint64_t size, deleted_size;            /* RFC 8438; octets of the \Deleted ones (RFC 9051 DELETED-STORAGE, RFC 9208) */
        int64_t last_append, pop3_last_login, recent_time;
        int64_t pop3_show_after;                /* POP3 shows only messages with a later internal date; 0: all */
        uint32_t recentuid;
        uint32_t first_unseen_uid;              /* 0: none */
        bool readonly;                          /* the partition takes no changes now */
};
void mailbox_status(struct mailbox *mbox, struct mailbox_status *status_r);
uint64_t mailbox_published_modseq(struct mailbox *mbox);

/* Options of a mailbox, as on disk and as Cyrus numbers them. */
enum {
        MBOX_POP3_NEW_UIDL = 1u << 0,
        MBOX_CONDSTORE = 1u << 1,               /* always on; kept for who asks */
        MBOX_SHARED_SEEN = 1u << 2,             /* one \Seen for all users: see seen.h */
        MBOX_DUPLICATE_DELIVER = 1u << 3,
        MBOX_HAS_ALARMS = 1u << 7,
};
uint32_t mailbox_options(struct mailbox *mbox);
/* Set those of `mask` to `options`. The waiter is completed when that is on disk. -1 as mailbox_append(). */
int mailbox_set_options(struct mailbox *mbox, uint32_t mask, uint32_t options, struct waiter *waiter, struct err *err);
/* When POP3 was last used: written, on disk within a second. When POP3 begins to show messages: the waiter is completed when that is on
 * disk. -1 as mailbox_append(). */
int mailbox_set_pop3_login(struct mailbox *mbox, int64_t unix_s, struct err *err);
int mailbox_set_pop3_show_after(struct mailbox *mbox, int64_t unix_s, struct waiter *waiter, struct err *err);
/* Claim \Recent: messages with UID > the returned one are recent for the caller and no longer for later ones. Written lazily. */
uint32_t mailbox_claim_recent(struct mailbox *mbox);
/* Called when a session deselects or is idle for long: nothing but a hint for the cache. */
struct view *mailbox_view(struct mailbox *mbox);                        /* the published view, with a reference */

/* ---- reading ---- */

/* Copy the state of one message. ERR_NOTFOUND when the UID was never there or is purged; expunged ones are found (MSG_EXPUNGED). */
int mailbox_message(struct mailbox *mbox, uint32_t uid, struct msg *msg_r, struct err *err);
/* Copy the states of the messages uids[0..n-1] (ascending) in one go, at most 256; those that are gone get uid 0. */
int mailbox_messages(struct mailbox *mbox, const uint32_t *uids, uint32_t n, struct msg *msgs_r, struct err *err);

/*
 * UIDs of messages of `view` whose modseq is above `since` and at most `upto`, ascending, at most `max` of them (the caller goes on
 * from the last one with `from_uid`). Blocks without changes are skipped: O(changed blocks).
 */
int mailbox_changed(struct mailbox *mbox, struct view *view, uint64_t since, uint64_t upto, uint32_t from_uid, uint32_t max,
                    struct uidset *uids_r, struct err *err);
/* UIDs from first to last that were expunged with a modseq above `since` (VANISHED), added to uids_r; blocks without changes are skipped. Sets
 * *complete_r false when deletedmodseq > since: then the caller has to name every UID that is not in the view. */
int mailbox_vanished(struct mailbox *mbox, uint64_t since, uint32_t first, uint32_t last, struct uidset *uids_r, bool *complete_r,
                     struct err *err);

/*
 * The modseq of the last change of a message that concerns this reader: \Seen of other users (and their private annotations) give a
 * message new modseqs that are no news for him. Known of recent changes only; of others it is the message's modseq.
 *   reader  mailbox_reader_id() of the user
 */
uint64_t mailbox_news_modseq(struct mailbox *mbox, uint32_t uid, uint64_t modseq, uint64_t reader);
uint64_t mailbox_reader_id(const char *userid);

/* The whole message's octets: a referenced extent (the caller ends it with file_unref(&extent.file)). Checks the checksum once
 * since load. ERR_CORRUPT: damaged, named in the log. */
int mailbox_body(struct mailbox *mbox, const struct msg *msg, struct extent *extent_r, struct err *err);

/* The message's header, with its empty line. One read, mostly; `buf` is overwritten and holds what *header_r points to. Checks and errors as
 * mailbox_body(). */
int mailbox_header(struct mailbox *mbox, const struct msg *msg, struct str *buf, struct span *header_r, struct err *err);

/* What was rendered at arrival. Spans live in the arena. */
struct msg_front {
        struct span envelope;                   /* parenthesised list, as after "ENVELOPE " */
        struct span bodystructure, body;
        const struct mime_part *parts;          /* store/mime.h */
        uint32_t part_count;
        struct span header;                     /* the top-level header if it was kept in the record (blobs up to 16 KiB), else len 0 */
        /* With FRONT_PLACES: of the three texts above those of FRONT_LARGE octets and more are not copied (p NULL, len as it is); they stand
         * in this file, the caller's reference (file_unref(); NULL when none is large), at these offsets. */
        struct file *file;
        uint64_t envelope_at, bodystructure_at, body_at;
};
enum { FRONT_ENVELOPE = 1, FRONT_BODYSTRUCTURE = 2, FRONT_BODY = 4, FRONT_PARTS = 8, FRONT_HEADER = 16, FRONT_ALL = 31,
       FRONT_PLACES = 32 };
#define FRONT_LARGE ((size_t)32 * 1024)
/*
 * Octets that were read in one go for the fronts of several messages, kept by who reads them for one mailbox. Begins as { 0 }; any thread, one
 * at a time. front_window_deinit() gives the memory back (and may be followed by further use).
 */
struct front_window {
        char *buf;
        uint32_t segment;
        uint64_t offset;
        size_t len, ahead;
};
/* Before mailbox_front() of msgs[0]: msgs[1] … msgs[n - 1] are likely to be next. Those that lie near are read with it; `octets`: so are
 * their octets, for mailbox_body_near(). */
void front_window_plan(struct front_window *w, const struct msg *msgs, uint32_t n, bool octets);
/* The whole message's octets, from what was read with the messages around it; checked as by mailbox_body(). Valid until the window is used again or
 * given back. False: they are not to be had so, mailbox_body() has them or says why not. */
bool mailbox_body_near(struct mailbox *mbox, const struct msg *msg, struct front_window *window, struct span *octets_r);
void front_window_deinit(struct front_window *w);
/* `window` may be NULL. */
int mailbox_front(struct mailbox *mbox, const struct msg *msg, unsigned want, struct arena *arena, struct front_window *window,
                  struct msg_front *front_r, struct err *err);

/* ---- staging: octets that are about to become a message ---- */

/*
 * A stage takes a message's octets as they arrive (any thread, one at a time), parses MIME and computes the GUID on the way. Up to
 * the blob threshold (64 KiB) they stay in memory, beyond in a file under the partition's `stage./`. One stage can be appended to
 * many mailboxes (a delivery to several recipients); it is immutable after stage_finish().
 *   size_hint  the announced size, 0: unknown
 */
int stage_begin(struct store *store, const char *partition_dir, uint64_t size_hint, struct stage **stage_r, struct err *err);
#define STAGE_IN_MEMORY (64u << 10)             /* octets of a message that is not put into a file */
/* Before the first octet: keep at most `bytes` of it in memory (never more than the blob threshold). */
void stage_limit_memory(struct stage *stage, uint64_t bytes);
/* Before the first octet: it is only a piece of a message (CATENATE): can be read back, not appended. Has no GUID and no structure. */
void stage_set_piece(struct stage *stage);
int stage_write(struct stage *stage, const void *p, size_t len, struct err *err);       /* ERR_NOSPACE, ERR_IO; then only stage_unref() */
int stage_finish(struct stage *stage, struct err *err);
uint64_t stage_size(const struct stage *stage);
const char *stage_partition_dir(const struct stage *stage);
const uint8_t *stage_guid(const struct stage *stage);                                   /* after finish */
bool stage_has_nul(const struct stage *stage);          /* after finish; not for a piece */
struct mime_result;
const struct mime_result *stage_mime(const struct stage *stage);        /* the same */
bool stage_has_part(const struct stage *stage, const uint32_t *path, size_t n);         /* the same: part 1.2 … */
/*
 * Write `from` into `to`, which was just begun, with the parts that have NULs in base64, and finish it. Blocks. ERR_UNSUPPORTED: there
 * are NULs in a header, or in a part that claims to be encoded already.
 */
int stage_encode_binary(struct stage *from, struct stage *to, struct err *err);
/* Read octets back (LMTP: headers; CATENATE; Sieve later). */
int stage_read(struct stage *stage, uint64_t offset, void *buf, size_t len, struct err *err);
struct stage *stage_ref(struct stage *stage);
void stage_unref(struct stage **stage);

/* ---- changing ---- */

struct append_item {
        struct stage *stage;                    /* borrowed for the call; the mailbox takes its own reference */
        uint32_t flags;                         /* MSG_SYSTEM_FLAGS only */
        const struct span *keywords;            /* borrowed */
        uint32_t keyword_count;
        int64_t internaldate;                   /* INT64_MIN: now */
        int64_t savedate;                       /* INT64_MIN: now */
        const struct annot *annots;             /* store/annot.h; borrowed. Private ones: see annot_user_make() */
        uint32_t annots_n;
        bool ignore_quota;                      /* of the first item, for all: counted, but not refused */
};

struct append_result {
        uint32_t uidvalidity;
        uint32_t first_uid, count;              /* the items got first_uid … first_uid + count - 1; valid when the waiter is done */
        uint64_t modseq;
};

/*
 * Append messages as one batch: all or none; ERR_QUOTA (store/quota.h) when there is no room for all. The waiter is completed when they are durable and published; *result_r is filled by
 * then (it must live as long as the waiter). Returns 0 when the work was taken on, -1 when it was refused at once (ERR_READONLY,
 * ERR_LIMIT keyword or UID range, ERR_IO, ERR_NOTFOUND deleted): then the waiter is not called.
 */
int mailbox_append(struct mailbox *mbox, const struct append_item *items, uint32_t n, struct append_result *result_r,
                   struct waiter *waiter, struct err *err);

/*
 * Copy messages (octets, flags, keywords, internal date; save date is now) into another mailbox as one batch, UIDs ascending as in
 * the source. `uids` must exist in the source, those that are gone by now are left out: *copied_r tells which were taken (the n-th
 * of them became first_uid + n - 1), filled like result_r. `drop_flags`/`keep_keywords`: what the target's ACL does not let the
 * user set is removed (RFC 4314 4). Same return convention as mailbox_append(). Never O(messages) in the caller's thread for large
 * sets: the copying is done on a store thread.
 */
struct copy_mask {
        uint32_t drop_flags;                    /* system flags not to be carried over */
        bool drop_keywords;
        bool shared_annots;                     /* shared annotations of the messages go along … */
        const char *private_annots;             /* … and this user's private ones (NULL: nobody's) … */
        bool all_private_annots;                /* … or everybody's */
        const struct uidset *seen;              /* not NULL: these of the source are \Seen for the user, whatever their flags say; copied */
        struct uidset *seen_r;                  /* not NULL: gets those that were taken and are \Seen, dropped or not, by the time the waiter is
                                                 * done; initialised before */
        bool everyones_seen;                    /* mailbox_move(): what everybody has seen of the messages goes along, in the same step, between flags
                                                 * and users' own states (seen.h) as the two mailboxes' owners are; not with drop_flags of it, seen */
        bool ignore_quota;                      /* counted, but not refused */
        struct progress *progress;              /* not NULL: messages are counted in it until the waiter is done */
};
int mailbox_copy(struct mailbox *from, const struct uidset *uids, struct mailbox *to, const struct copy_mask *mask,
                 struct uidset *copied_r, struct append_result *result_r, struct waiter *waiter, struct err *err);
/* The same, and the source's messages are expunged: both are shown together, neither is lost or doubled whatever happens (intent
 * in the source's log, blueprint 3). Within one mailbox that is one batch, and takes no more room of a quota. Messages that another move is
 * about are left out, as those that are gone. */
int mailbox_move(struct mailbox *from, const struct uidset *uids, struct mailbox *to, const struct copy_mask *mask,
                 struct uidset *copied_r, struct append_result *result_r, struct waiter *waiter, struct err *err);

/*
 * Append one message to `to` and expunge `uid` of `from` (RFC 8508): both or neither, shown together. In one mailbox that is one batch,
 * between two the way of mailbox_move(). When the message is gone already nothing is done: result_r->count is 0. Same return
 * convention as mailbox_append().
 */
int mailbox_replace(struct mailbox *from, uint32_t uid, struct mailbox *to, const struct append_item *item,
                    struct append_result *result_r, struct waiter *waiter, struct err *err);

struct flag_change {
        enum { FLAGS_SET, FLAGS_ADD, FLAGS_REMOVE } how;
        uint32_t flags;                         /* MSG_SYSTEM_FLAGS only */
        const struct span *keywords;            /* created when missing (not for FLAGS_REMOVE) */
        uint32_t keyword_count;
        uint32_t keep_flags;                    /* system flags that FLAGS_SET leaves alone (no right to change them) */
        bool keep_keywords;
        struct seen *seen;                      /* not NULL: MSG_SEEN is this user's, not the message's flag (store/seen.h); borrowed */
};

/*
 * Change flags. Messages whose flags would stay the same get no new modseq. All changed ones get one modseq above all earlier.
 *   unchangedsince  skip messages with a higher modseq, reported in modified_r (RFC 7162 3.1.3); UINT64_MAX: skip none. With FLAGS_ADD and
 *                   FLAGS_REMOVE not those of which it is known that the flags named are what they were at that modseq (3.1.12)
 *   changed_r       UIDs that have a new modseq, may be NULL
 *   modseq_r        that modseq, 0 when nothing was changed
 * Written (not synced) on return. The waiter is completed when the change is published – mostly before the call returns; within
 * a second it is on disk (with `store_sync: all` before it is published). With change->seen it is completed from a job, when seen.db has it. Callers pass at most a few thousand UIDs a call so that
 * the lock is held for bounded time. Errors at once: ERR_READONLY, ERR_LIMIT (keywords), ERR_IO, ERR_NOSPACE; then nothing was
 * changed and the waiter is not called.
 */
int mailbox_store_flags(struct mailbox *mbox, const struct uidset *uids, const struct flag_change *change, uint64_t unchangedsince,
                        struct uidset *modified_r, struct uidset *changed_r, uint64_t *modseq_r, struct waiter *waiter,
                        struct err *err);

/* Expunge those of `uids` (NULL: all) that have \Deleted – with only_deleted false, all of `uids` – as one batch.
 * *expunged_r (may be NULL) and *modseq_r are filled on return; published when the waiter is done. */
int mailbox_expunge(struct mailbox *mbox, const struct uidset *uids, bool only_deleted, struct uidset *expunged_r,
                    uint64_t *modseq_r, struct waiter *waiter, struct err *err);

/*
 * What becomes of an expunged message is `expunge_mode`'s: with "delayed" it can be brought back until it is purged; with "semidelayed" its
 * octets go at the next compaction and only that there was a message is remembered (VANISHED, RFC 7162 3.2.10); with "immediate"
 * that is forgotten too, by the next housekeeping. Sessions that were not told of the expunge yet may find it gone.
 */

/* States of those that can be brought back, from UID `from` on, ascending, at most `max`. Returns how many, or -1. */
int mailbox_expunged(struct mailbox *mbox, uint32_t from, uint32_t max, struct msg *msgs_r, struct err *err);

struct unexpunge {
        int64_t since;                          /* only what was expunged then (Unix seconds) or later; INT64_MIN: all */
        bool undelete;                          /* without \Deleted */
        struct span keyword;                    /* added to each; len 0: none. Copied */
};
/*
 * Bring expunged messages back, all of `uids` (NULL: all there are): octets, flags, keywords, dates and annotations as they were, new UIDs,
 * ascending like the old ones, which cannot be brought back again. One batch: all or none. Quotas count it and do not refuse it.
 * *restored_r gets the old UIDs. Return convention and waiter as mailbox_copy().
 */
int mailbox_unexpunge(struct mailbox *mbox, const struct uidset *uids, const struct unexpunge *how, struct uidset *restored_r,
                      struct append_result *result_r, struct waiter *waiter, struct err *err);

/* Complete the waiter when everything written so far is published. */
void mailbox_wait_published(struct mailbox *mbox, struct waiter *waiter);
/* Complete the waiter when everything written so far is on disk (CHECK, LOGOUT of careful callers). */
void mailbox_wait_synced(struct mailbox *mbox, struct waiter *waiter);

/* ---- watching ---- */

/* Be told (fn, from a sync or other thread, no lock of the mailbox held by the caller's code) that something was published, the
 * mailbox was deleted, or its partition became read-only. Coalescing is the callee's. The struct is the watcher's and stays in
 * place until mailbox_unwatch(), after which fn is not running and will not run. */
struct mailbox_watch {
        void (*fn)(struct mailbox_watch *w);
        void *owner;
        struct mailbox_watch *prev, *next;      /* the mailbox's */
};
void mailbox_watch(struct mailbox *mbox, struct mailbox_watch *w);
void mailbox_unwatch(struct mailbox *mbox, struct mailbox_watch *w);

/* ---- maintenance: job threads and tools ---- */

int mailbox_checkpoint(struct mailbox *mbox, struct err *err);          /* log synced, index written; blocks */
int mailbox_compact(struct mailbox *mbox, struct err *err);             /* rewrite segments with little live in them; blocks */
/* Purge tombstones expunged before `before` (Unix seconds) for good, and all that cannot be brought back anyway. Blocks. */
struct purged {
        uint64_t records;                       /* there were, tombstones included */
        uint64_t messages;                      /* of them gone now, and could have been brought back */
};
int mailbox_purge_expunged(struct mailbox *mbox, int64_t before, struct purged *purged_r, struct err *err);
/* Forget the keywords that no message has; expunged ones lose them. Told of each; its name is borrowed. Blocks. */
int mailbox_forget_keywords(struct mailbox *mbox, void (*forgot)(void *ctx, uint32_t keyword, const char *name), void *ctx, struct err *err);
/* mailbox_compact(), if something was purged since the last one. */
int mailbox_tidy(struct mailbox *mbox, struct err *err);

struct check_report {                           /* cyrctl check */
        uint64_t messages, tombstones, segments, blobs, octets;
        uint64_t problems;
        void (*problem)(void *ctx, const char *mailbox, uint32_t uid, const char *text);
        void *ctx;
};
/* Read everything back: every record's checksum and chain, every blob's GUID, the index against the log, counters. Changes nothing. */
int mailbox_check_files(struct store *store, const struct mailbox_ident *ident, struct check_report *report, struct err *err);
/* Throw the index away and rebuild it and all counters from the log. The mailbox may be open: then under its lock. */
int mailbox_reconstruct(struct store *store, const struct mailbox_ident *ident, struct err *err);

#endif
