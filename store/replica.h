/*
 * replica - the store's side of replication: mailboxes as csync sees them, read and written with every value explicit. Sections named
 * "csync N" are those of the protocol's description (reference/csync.md).
 *
 * Everything here blocks (opening, disk, syncs) unless it says otherwise: offloaded calls, threads of their own and tools only. Any thread may
 * call anything; a reader or a plan belongs to one thread at a time. Strings and lists that are given are borrowed for the call; what is
 * returned lives in the arena that was given.
 *
 * "Silent": what is applied is not numbered anew. No modseq, date or UID comes from this store, but from the caller; sessions that have the
 * mailbox selected, and the change feed, are told as of any other change, the latter with CHANGE_REPLICATED (change.h). All changes that are
 * answered REPLICA_OK are on disk.
 */
#ifndef STORE_REPLICA_H
#define STORE_REPLICA_H

#include <stdbool.h>
#include <stdint.h>

#include "store/annot.h"
#include "store/mailbox.h"
#include "store/mboxlist.h"
#include "store/quota.h"
#include "store/seen.h"
#include "util/arena.h"
#include "util/err.h"
#include "util/hash.h"

struct store;

/* What comes of a call: each is one of csync 15's replies. With all but REPLICA_OK err says more, for the operator's log. */
enum replica_code {
        REPLICA_OK,
        REPLICA_NONEXISTENT,                    /* IMAP_MAILBOX_NONEXISTENT */
        REPLICA_LOCKED,                         /* IMAP_MAILBOX_LOCKED: busy, try again later */
        REPLICA_MOVED,                          /* IMAP_MAILBOX_MOVED: exists with another name or unique id */
        REPLICA_NOTSUPPORTED,                   /* IMAP_MAILBOX_NOTSUPPORTED */
        REPLICA_CHECKSUM,                       /* IMAP_SYNC_CHECKSUM */
        REPLICA_CHANGED,                        /* IMAP_SYNC_CHANGED */
        REPLICA_BAD,                            /* IMAP_PROTOCOL_BAD_PARAMETERS: out of range, out of order, not possible */
        REPLICA_FAILED,                         /* "Unknown error": disk, limits, type differs */
};
/* "IMAP_MAILBOX_NONEXISTENT No Such Mailbox" …: as csync 15 has it, without the "NO "; of REPLICA_FAILED "Unknown error". */
const char *replica_code_text(enum replica_code code);

/* ---- values of a mailbox (csync 6) ---- */

#define REPLICA_CRC_ANNOT_EMPTY 12345678u       /* the basic one of no records is 0 */
struct replica_crcs {
        uint32_t basic, annot;                  /* csync 8 */
};
/* Are they equal, as csync 8 compares them: 0 is unknown? */
bool replica_crcs_match(struct replica_crcs a, struct replica_crcs b);

/* In `has` of struct replica_values: what was given of what is optional. In what is read all are set whose value is not 0. */
enum {
        REPLICA_HAS_POP3_SHOW_AFTER = 1, REPLICA_HAS_CREATEDMODSEQ = 2, REPLICA_HAS_FOLDERMODSEQ = 4, REPLICA_HAS_RACLMODSEQ = 8,
        REPLICA_HAS_XCONVMODSEQ = 16,
        REPLICA_HAS_CRC = 32, REPLICA_HAS_CRC_ANNOT = 64,
};
struct replica_values {
        const char *uniqueid, *name;            /* name: internal */
        enum mbtype type;                       /* MBTYPE_NORMAL, MBTYPE_INTERMEDIATE; MBTYPE_DELETED: a tombstone */
        unsigned has;
        struct replica_crcs crcs;
        uint32_t last_uid, recentuid, uidvalidity;
        uint32_t options;                       /* MBOX_…: of them those that have letters, see replica_options_text() */
        uint64_t highestmodseq, createdmodseq, foldermodseq, raclmodseq, xconvmodseq;
        int64_t recent_time, last_appenddate, pop3_last_login, pop3_show_after; /* Unix seconds */
        const char *partition;                  /* name; an intermediate's, as read: NULL */
        const char *acl;                        /* "id<TAB>rights<TAB>…", "": none */
        const char *quotaroot;                  /* NULL: none. As read only */
        const struct annot *annots;             /* the mailbox's own, all users', by entry and user; /specialuse of the owner among them */
        uint32_t annots_n;
        uint64_t deletedmodseq;                 /* as read only: expunges up to here are forgotten. Not on the wire */
        uint32_t messages;                      /* as read only: not expunged */
};
/* "P", "PS" …, appended; and back: unknown letters are passed over. */
void replica_options_text(uint32_t options, struct str *out);
uint32_t replica_options_parse(struct span letters);
/* 24 letters or digits, or 16 hex digits? Intermediates of this store have none until they are asked for: then one made from the name. */
bool replica_uniqueid_ok(struct span id);
/* An atom of IMAP (RFC 9051 9, and "]", which Cyrus takes too) of at most KEYWORD_BYTES_MAX? Clients are shown it as it is. */
bool replica_keyword_ok(struct span keyword);
/* Pairs of id and rights, each with a TAB behind it, no control characters, not too long? */
bool replica_acl_ok(const char *acl);
/* The most that a peer may say. What happens here afterwards goes on above it: modseqs have 63 bits in IMAP (RFC 7162 3.1), UIDs 32. */
#define REPLICA_MODSEQ_MAX ((uint64_t)1 << 62)
#define REPLICA_UID_MAX (UINT32_MAX - 2)

/* ---- a message's record (csync 7) ---- */

struct replica_record {
        uint32_t uid;
        uint32_t flags;                         /* MSG_SYSTEM_FLAGS | MSG_EXPUNGED | MSG_UNLINKED (its octets are gone) */
        const char *const *keywords;            /* in the mailbox's order */
        uint32_t keywords_n;
        uint64_t modseq, createdmodseq;         /* createdmodseq 0: not known */
        uint64_t thrid;                         /* 0: none */
        int64_t last_updated, internaldate, savedate;   /* Unix seconds; savedate 0: not known */
        uint64_t size;
        uint8_t guid[GUID_SIZE];
        const struct annot *annots;             /* the real ones by entry, user (basethrid is one of them); without the three virtual ones */
        uint32_t annots_n;
        struct stage *stage;                    /* struct replica_fix only: its octets, borrowed. As read: NULL */
};
#define REPLICA_THRID "/vendor/cmu/cyrus-imapd/thrid"
#define REPLICA_SAVEDATE "/vendor/cmu/cyrus-imapd/savedate"
#define REPLICA_CREATEDMODSEQ "/vendor/cmu/cyrus-imapd/createdmodseq"
/* All annotations as they stand on the wire: the real ones, then the virtual ones of those of the three that are not 0. */
uint32_t replica_wire_annots(const struct replica_record *rec, struct arena *arena, struct annot **list_r);
/* The way back: takes the virtual ones out of `list` into the record, the rest is rec->annots (in the arena, sorted). ERR_SYNTAX: a value cannot be. */
int replica_take_annots(struct replica_record *rec, const struct annot *list, uint32_t n, struct arena *arena, struct err *err);
/* Into the CRCs, or out of them again (it is the same); expunged ones do not count. */
void replica_crc_record(struct replica_crcs *crcs, const struct replica_record *rec);

/* ---- reading ---- */

/* The mailbox list's entry of a name alone: values of the list only (counters, CRCs and annotations are 0), whatever its type. Never blocks on
 * a mailbox. false: there is none; tombstones are not found here. */
bool replica_entry(struct store *store, const char *name, struct arena *arena, struct replica_values *values_r);
/* The internal names of all mailboxes of a user, in order: intermediates too, and with `deleted` those below deletedprefix. Does not block. */
size_t replica_user_mailboxes(struct store *store, const char *userid, bool deleted, struct arena *arena, const char ***names_r);
/* The name that a unique id has now, NULL: none. Does not block. */
const char *replica_find_uniqueid(struct store *store, const char *uniqueid, struct arena *arena);
/* What is remembered of a name that is gone. false: nothing, or it exists. */
bool replica_tombstone(struct store *store, const char *name, struct arena *arena, struct replica_values *values_r, struct err *err);
/* All tombstones (of users whose INBOX is gone, say), one pass through the table, until fn returns false. The values are borrowed. */
int replica_each_tombstone(struct store *store, bool (*fn)(void *ctx, const struct replica_values *values), void *ctx, struct err *err);

/*
 * The values of a mailbox by name, of one moment at which all that was written is on disk and shown. CRCs are kept for each block of the index:
 * O(blocks that changed since they were asked for last). Of an intermediate what the list has.
 * ERR_NOTFOUND; ERR_BUSY: changes all the time; ERR_IO, ERR_CORRUPT.
 */
int replica_read(struct store *store, const char *name, struct arena *arena, struct replica_values *values_r, struct err *err);

/*
 * The same, and a reader of the records as they were at that moment, expunged ones too; later changes make no difference to it. Holds the
 * mailbox open and no lock.
 *   since        only records with a higher modseq; 0: all. Blocks without any are not read
 *   from_scratch the CRCs are computed anew, from every record; what was kept is replaced
 */
struct replica_reader;
int replica_reader_open(struct store *store, const char *name, uint64_t since, bool from_scratch, struct arena *arena,
                        struct replica_values *values_r, struct replica_reader **reader_r, struct err *err);
/* The next records, at most `max` (REPLICA_SLICE is a good number), ascending; in the arena (which may be another one each time, and reset in
 * between). Returns how many, 0 at the end, -1. */
#define REPLICA_SLICE 256
int replica_reader_next(struct replica_reader *reader, uint32_t max, struct arena *arena, struct replica_record *records_r, struct err *err);
/* Begin again with the first record of the same moment. */
void replica_reader_rewind(struct replica_reader *reader);
struct mailbox *replica_reader_mailbox(struct replica_reader *reader);         /* borrowed */
void replica_reader_close(struct replica_reader **reader);

/* Open a mailbox by name. ERR_NOTFOUND: none, or an intermediate. mailbox_unref(). */
int replica_open(struct store *store, const char *name, struct mailbox **mbox_r, struct err *err);
/* A message's octets by UID: an extent to be sent (file_unref(&extent_r->file)). guid_r may be NULL. ERR_NOTFOUND: none, or unlinked. */
int replica_octets(struct mailbox *mbox, uint32_t uid, uint8_t guid_r[GUID_SIZE], struct extent *extent_r, struct err *err);

/*
 * RESERVE: which of `guids` are in one of these mailboxes, expunged but still there among them? found() for each that is, until it returns true
 * for one (false: not usable, look for another); each GUID is reported at most until then. Names that do not exist are passed over. One walk
 * through the index of each mailbox until all are found; no octets are read. The mailbox is borrowed for the call of found(), no lock is held.
 */
int replica_find_guids(struct store *store, const char *const *names, size_t names_n, const uint8_t (*guids)[GUID_SIZE], size_t guids_n,
                       bool (*found)(void *ctx, size_t which, struct mailbox *mbox, uint32_t uid), void *ctx, struct err *err);
/* A finished stage with the octets of that message, whose SHA-1 is looked at again: ERR_CORRUPT when it is not `guid`. */
int replica_stage_message(struct mailbox *mbox, uint32_t uid, const uint8_t guid[GUID_SIZE], const char *partition_dir, struct stage **stage_r,
                          struct err *err);

/* ---- applying: the replica's side ---- */

/*
 * APPLY MAILBOX (csync 9), from step 2 on. All is looked at before anything is written; then entry and ACL are one transaction of the list, all
 * the rest – records, messages, values, annotations – one batch of the log. A mailbox that is not there is made.
 *   values       all but what `has` says is not given; crcs when REPLICA_HAS_CRC…: 0 is not compared. MBTYPE_INTERMEDIATE, MBTYPE_DELETED: only the
 *                list's entry is written, of name, unique id and modseqs. /specialuse of the owner becomes the mailbox's special use
 *   records      ascending by UID. Those that are to be appended are asked for by GUID: first all with has(), then one after the other with
 *                message(), each of which is let go of when it is written. An expunged one that there is not is stored as unlinked
 *   since_…      since_modseq 0: not given
 * Returns REPLICA_OK; REPLICA_MOVED, CHANGED, CHECKSUM of steps 2 to 7; CHECKSUM of step 11, with all of it applied; BAD: records out of order, a
 * live one above LAST_UID without octets of its GUID, impossible names, ids, ACLs, annotations. With all others nothing was changed.
 */
struct replica_apply {
        struct replica_values values;
        const struct replica_record *records;
        uint32_t records_n;
        uint64_t since_modseq;
        struct replica_crcs since_crcs;
        bool force;
        bool local;                             /* LOCAL_MAILBOX: MUPDATE is not told */
        /* Called by the calling thread, no lock held. has: are these octets there? message: a finished stage, with a reference. Its failing after
         * has() said yes is REPLICA_FAILED, with nothing applied. NULL: nothing is there. */
        bool (*has)(void *ctx, const uint8_t guid[GUID_SIZE]);
        int (*message)(void *ctx, const uint8_t guid[GUID_SIZE], struct stage **stage_r, struct err *err);
        void *ctx;
};
enum replica_code replica_apply(struct store *store, const struct replica_apply *apply, struct err *err);

/* APPLY EXPUNGE: expunged silently, modseqs and dates stay; UIDs that are not there are passed over. NONEXISTENT, MOVED. */
enum replica_code replica_expunge(struct store *store, const char *name, const char *uniqueid, const struct uidset *uids, struct err *err);

/* APPLY UNMAILBOX: at once, whatever delete_mode says; a tombstone stays. NONEXISTENT. Children stay. */
enum replica_code replica_delete(struct store *store, const char *name, bool local, struct err *err);

/*
 * APPLY RENAME: this mailbox only, its children and subscriptions stay; to names below deletedprefix too, and to another partition (NULL: it
 * stays), or only that. uidvalidity 0: as it is. NONEXISTENT; MOVED: the new name exists; NOTSUPPORTED: a user's INBOX without allowusermoves,
 * unless it goes below deletedprefix or only to another partition; BAD: impossible name, no such partition.
 */
enum replica_code replica_rename(struct store *store, const char *from, const char *to, const char *partition, uint32_t uidvalidity, bool local,
                                 struct err *err);

/* APPLY UNUSER: all mailboxes of the user (delayed, if delete_mode is), subscriptions, seen states, private annotations, quota roots, Sieve
 * scripts. REPLICA_OK when there is no such user. */
enum replica_code replica_delete_user(struct store *store, const char *userid, bool local, struct err *err);

/* ---- what is not a mailbox's ---- */

/* APPLY SEEN: overwritten; the mailbox need not exist. */
enum replica_code replica_set_seen(struct store *store, const char *userid, const char *uniqueid, const struct seen_state *state, struct err *err);
struct replica_seen {
        const char *uniqueid, *uids;            /* uids: a sequence set, "" none */
        uint32_t lastuid;
        int64_t lastread, lastchange;
};
/* All seen states of a user, in order of unique id. -1: ERR_IO. One: of that unique id only (NULL: all). */
int replica_list_seen(struct store *store, const char *userid, const char *uniqueid, struct arena *arena, struct replica_seen **list_r,
                      uint32_t *n_r, struct err *err);

/* Subscriptions: sub_list() of user.h; this sets one as replication does. */
enum replica_code replica_set_sub(struct store *store, const char *userid, const char *name, bool subscribed, struct err *err);

/* APPLY QUOTA: all limits are replaced, in quota_unit()s (QUOTA_UNLIMITED), and the modseq; the root is made, whether or not there is a mailbox.
 * Reading: quota_get(), quota_root_of(), quota_list() of quota.h. */
enum replica_code replica_set_quota(struct store *store, const char *root, const int64_t limit[QUOTA_RESOURCES], uint64_t modseq, struct err *err);
/* APPLY UNQUOTA; no such root: REPLICA_OK. */
enum replica_code replica_remove_quota(struct store *store, const char *root, struct err *err);

/* Annotations of a mailbox, or with name "" of the server, everybody's, by entry and user. ERR_NOTFOUND. */
int replica_list_annots(struct store *store, const char *name, struct arena *arena, struct annot **list_r, uint32_t *n_r, struct err *err);
/* APPLY ANNOTATION, UNANNOTATION (value.p NULL). The mailbox's modseq goes up, as with any change that has none given. NONEXISTENT, BAD. */
enum replica_code replica_set_annot(struct store *store, const char *name, const char *entry, const char *userid, struct span value,
                                    struct err *err);

/* ---- the master's repair after a conflict (csync 11) ---- */

/* One message, in a plan. All new modseqs are above both mailboxes' highest ones. */
struct replica_fix {
        enum {
                REPLICA_FIX_BUMP,               /* a new modseq */
                REPLICA_FIX_TAKE,               /* flags, keywords, thrid and annotations become those of `theirs`, with a new modseq */
                REPLICA_FIX_EXPUNGE,            /* expunged, with a new modseq */
                REPLICA_FIX_RENUMBER,           /* copied to a new UID, the old one is expunged */
                REPLICA_FIX_APPEND,             /* theirs->stage, flags, dates, annotations of `theirs`, under a new UID */
                REPLICA_FIX_APPEND_SAME,        /* … under theirs->uid, which is above LAST_UID */
        } what;
        uint32_t uid;                           /* of ours; not for the last two */
        uint64_t modseq;                        /* of ours as it was when this was decided */
        const struct replica_record *theirs;    /* borrowed; where it is needed */
        uint32_t new_uid_r;                     /* of the last three: what it got */
};
/*
 * All of it in one batch: the fixes in their order (new UIDs ascending in that order, behind those of APPEND_SAME), and
 *   uidvalidity    if higher than ours
 *   highestmodseq  ours goes on above it
 *   last_uid       if higher than ours: new UIDs are above it
 *   annots         not NULL: the mailbox's annotations are replaced by these (csync 11: when the replica's highest modseq was higher)
 * REPLICA_CHANGED: a message is not as it was when the plan was made; nothing was done, read again.
 * Local changes of the mailbox's owner's making: the change feed gets them as any other.
 */
struct replica_repair {
        const char *name, *uniqueid;
        uint32_t uidvalidity, last_uid;
        uint64_t highestmodseq;
        const struct annot *annots;
        uint32_t annots_n;
        struct replica_fix *fixes;
        uint32_t fixes_n;
};
enum replica_code replica_repair(struct store *store, struct replica_repair *repair, struct err *err);
/* The master takes over what its replica has more of: uidvalidity (csync 10.3, 3), foldermodseq, raclmodseq; what is not higher is passed over. */
enum replica_code replica_lift(struct store *store, const char *name, uint32_t uidvalidity, uint64_t foldermodseq, uint64_t raclmodseq,
                               struct err *err);

#endif
