/* replica_private - what the replica*.c files share. Nobody else includes it. */
#ifndef STORE_REPLICA_PRIVATE_H
#define STORE_REPLICA_PRIVATE_H

#include "store/annot.h"
#include "store/mailbox_private.h"
#include "store/replica.h"

/* ---- replica_record.c ---- */

bool replica_is_virtual(const char *entry);     /* one of the three */
int replica_check_keywords(const struct replica_record *rec, struct err *err);  /* ERR_SYNTAX: too many, or one that is none */
/* A message's record, without annotations; keywords in the arena. Names are read without the lock. */
void replica_record_of(struct mailbox *m, const struct index_rec *rec, struct arena *arena, struct replica_record *out);
/* The same with the keywords of a moment that is over: names[0 … n - 1], NULL: none had that id. They last as long as the mailbox is open. */
void replica_record_then(struct mailbox *m, const struct index_rec *rec, const char *const *names, uint32_t n, struct arena *arena,
                         struct replica_record *out);

/* ---- replica_read.c ---- */

/* An open mailbox and its entry, which is what the list says now. NULL: see err. */
const struct mbentry *replica_find(struct store *store, const char *name, struct mailbox **mbox_r, struct err *err);
/* The CRCs of the mailbox as it is now, all that is written among it; from what is kept. Lock held; blocks that are not known are read. */
int replica_crcs_locked(struct mailbox *m, struct replica_crcs *crcs_r, struct err *err) REQUIRES(m->lock, mailbox_class);
/* The same, but 0 when of more than `most` blocks they are not known; else 1, -1. */
int replica_crcs_known_locked(struct mailbox *m, uint32_t most, struct replica_crcs *crcs_r, struct err *err) REQUIRES(m->lock, mailbox_class);
/* See to it that they are known of nearly all blocks, so that the above is quick. `anew`: forget them before. */
int replica_crcs_prepare(struct mailbox *m, bool anew, struct err *err) EXCLUDES(mailbox_class);

/* ---- replica_write.c ---- */

/* One batch in the making, for one mailbox. All zero but m to start with, then replica_batch_begin(). */
struct laid {
        size_t at;                              /* of its struct mlog_message in carry->batch.body */
        const struct replica_record *rec;
};
struct replica_batch {
        struct mailbox *m;                      /* borrowed */
        struct carry *carry;                    /* messages, a segment built aside, pins of blobs */
        struct append_result relative;          /* what carry->result points to: to 1 and 0 */
        struct arena arena;
        ARRAY(struct laid) laid;                /* whose keywords are not in yet */
        ARRAY(uint32_t) live;                   /* UIDs of new messages that are shown, ascending */
        uint64_t octets, messages;              /* of these */
        uint32_t last_uid;                      /* of new ones; 0: none */
        struct kwneed need;
        ARRAY(struct mlog_details_entry) details;
        struct annot_plan annots;
        struct uidset expunged;
        struct mlog_header values_header;
        struct mlog_values values;
};
void replica_batch_begin(struct replica_batch *b, struct mailbox *m);
/* All annotations of users get keys. Blocks. 0, -1: ERR_BADNAME … */
int replica_make_users(struct store *store, const struct annot *list, uint32_t n, struct err *err);
/* Users as in the log, in that order. */
int replica_key_annots(struct mailbox *m, const struct annot *list, uint32_t n, struct arena *arena, struct annot **keyed_r, uint32_t *n_r,
                       struct err *err);
/* A new message. `stage` NULL: without octets. Its octets are checked against rec's GUID and size by the caller. Blocks; nothing is changed. */
int replica_lay_down(struct replica_batch *b, const struct replica_record *rec, struct stage *stage, struct err *err) EXCLUDES(mailbox_class);
/* When all are laid down. */
int replica_laid_down(struct replica_batch *b, struct err *err) EXCLUDES(mailbox_class);
/* With the lock: the state that `rec` has from now on, annotations too; when that is what it has already nothing is written. What is live and
 * becomes expunged is unlinked, if expunge_mode says so. */
int replica_add_details_locked(struct replica_batch *b, struct mailbox *m, const struct index_rec *was, const struct replica_record *rec, struct err *err)
        REQUIRES(m->lock, mailbox_class);
/* It is expunged, and all else stays as it is. */
void replica_expunge_details_locked(struct replica_batch *b, struct mailbox *m, const struct index_rec *was) REQUIRES(m->lock, mailbox_class);
/* The mailbox's own annotations. */
int replica_add_annots_locked(struct replica_batch *b, struct mailbox *m, const struct annot *list, uint32_t n, uint64_t modseq, struct err *err)
        REQUIRES(m->lock, mailbox_class);
/*
 * Write it, with b->values, which the caller has filled in (state_counters() is a start). `quiet` as MLOG_QUIET; not `exact`: values do not go down.
 * Nothing to write: 0, and the waiter is done when what was before is published. After the lock is given back: mailbox_after(), then
 * replica_batch_end() – whatever this returned.
 */
int replica_write_locked(struct replica_batch *b, struct mailbox *m, bool quiet, struct waiter *waiter, struct err *err) REQUIRES(m->lock, mailbox_class);
/* `written`: replica_write_locked() was called and returned 0. No lock held; blocks. */
void replica_batch_end(struct replica_batch *b, bool written) EXCLUDES(mailbox_class);
/* What an ERR_… of the store comes to. */
enum replica_code replica_code_of(const struct err *err);
/* The same of one that comes when the mailbox was found: what is not there then is something else. */
enum replica_code replica_code_within(const struct err *err);

/* ---- replica_names.c ---- */

struct replica_entry_change {                   /* of the mailbox list's entry; NULL and 0: stay */
        const char *acl, *specialuse;
        uint32_t uidvalidity;
        uint64_t createdmodseq, foldermodseq;
};
/* Nothing when all is so already. ERR_NOTFOUND: there is no such mailbox, or it has another unique id. */
int replica_change_entry(struct store *store, const char *name, const char *uniqueid, const struct replica_entry_change *change, struct err *err)
        EXCLUDES(names_class);
/* An intermediate or a tombstone. */
enum replica_code replica_apply_entry(struct store *store, const struct replica_values *v, struct err *err) EXCLUDES(names_class);

#endif
