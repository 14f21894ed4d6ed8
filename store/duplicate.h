/*
 * duplicate - which messages have been delivered to which mailboxes lately, so that one that comes again (the same Message-ID and Date
 * for the same mailbox) is not delivered twice.
 *
 * Who delivers claims the key first, and says then what became of it. A claim is in memory only: while one delivery is under way, another
 * of the same message to the same mailbox waits for its end. A mark is made once the message is durable, never before: what was not
 * acknowledged is not suppressed when it is sent again, whatever happens. Marks are written at once and not synced: kill -9 loses at
 * most those of this very moment, power loss those of the last seconds; such messages may be delivered a second time.
 *
 * Marks are kept until duplicate_prune(), `duplicate_entries_max` of them at most: beyond, the oldest go. The files are described in
 * duplicate.c. Any thread may call; what blocks says so.
 */
#ifndef STORE_DUPLICATE_H
#define STORE_DUPLICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/lock_order.h"
#include "util/err.h"
#include "util/str.h"
#include "util/waiter.h"

struct store;

struct duplicate_key {
        uint8_t message[16];                    /* a digest of mailbox, message id and date */
        uint8_t mailbox[8];                     /* a digest of the mailbox's unique id */
};
/* `id` and `date` are values of header fields as they stand there; how they are folded, and blanks around them, do not matter. An absent
 * date is "". */
void duplicate_key_make(const char *uniqueid, struct span id, struct span date, struct duplicate_key *key_r);

enum duplicate {
        DUPLICATE_NEW,                          /* the claim is held: deliver, then call duplicate_delivered() or duplicate_dropped() */
        DUPLICATE_SEEN,                         /* it was delivered: found_uid and found_at say which and when. Nothing is held */
        DUPLICATE_WAIT,                         /* somebody else delivers it now: the waiter is done when that has ended; then claim again */
        DUPLICATE_LOOK,                         /* probably SEEN; the claim is held: call duplicate_look() on a thread that may block */
};

struct duplicate_claim {                        /* the caller's, in place while it is held or waited for */
        struct duplicate_key key;               /* set before duplicate_claim() */
        uint32_t found_uid;
        int64_t found_at;                       /* Unix seconds */
        /* duplicate.c's own: */
        struct duplicate_claim *next, *waiting;
        struct waiter *waiter;
        uint32_t candidates[8];
        unsigned candidates_n;
};

/* The waiter is only used when the answer is DUPLICATE_WAIT. Never blocks. */
enum duplicate duplicate_claim(struct store *store, struct duplicate_claim *claim, struct waiter *waiter) EXCLUDES(duplicate_class);
/* After DUPLICATE_LOOK: reads the disk. DUPLICATE_NEW or DUPLICATE_SEEN, as above. */
enum duplicate duplicate_look(struct store *store, struct duplicate_claim *claim) EXCLUDES(duplicate_class);
/* The message is durable in the mailbox, as `uid`: a mark is made, the claim ends. */
void duplicate_delivered(struct store *store, struct duplicate_claim *claim, uint32_t uid) EXCLUDES(duplicate_class);
/* It was not delivered: the claim ends without a mark. */
void duplicate_dropped(struct store *store, struct duplicate_claim *claim) EXCLUDES(duplicate_class);

struct duplicate_expiry {
        const char *uniqueid;
        int64_t before;                         /* INT64_MIN: this mailbox's marks stay */
};
/*
 * Forget the marks made before `before` (Unix seconds); for the mailboxes in `own` (n of them, in any order) their own time counts
 * instead. *pruned_r of *marks_r marks went (both may be NULL). Blocks. ERR_READONLY, ERR_IO: some may be there again after a restart.
 */
int duplicate_prune(struct store *store, int64_t before, const struct duplicate_expiry *own, size_t n, uint64_t *pruned_r,
                    uint64_t *marks_r, struct err *err) EXCLUDES(duplicate_class);

struct duplicate_mark {
        struct duplicate_key key;
        uint32_t uid;
        int64_t at;                             /* Unix seconds */
};
/* All marks, oldest file first, read from the disk; until fn returns false. Blocks. */
int duplicate_each(struct store *store, bool (*fn)(void *ctx, const struct duplicate_mark *mark), void *ctx, struct err *err)
        EXCLUDES(duplicate_class);

struct duplicate_stats {
        uint64_t marks;                         /* kept now */
        uint64_t suppressed, delivered;         /* since the start: SEEN, and marks made */
};
void duplicate_stats(struct store *store, struct duplicate_stats *stats_r);

#endif
