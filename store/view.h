/*
 * view - which messages a mailbox shows, as a map sequence number ↔ UID: immutable, counted, shared by all sessions.
 * Blocks of up to 1,024 UIDs are shared between versions (copy-on-write) and loaded from the index when first touched:
 * taking a view of a large mailbox is O(blocks). An append extends the shared map, an expunge makes a new version.
 * Any thread may read a view it holds a reference to. Sequence numbers run from 1.
 */
#ifndef STORE_VIEW_H
#define STORE_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "store/uidset.h"

struct view;

struct view *view_ref(struct view *v);
void view_unref(struct view **v);
uint32_t view_count(const struct view *v);                              /* EXISTS */
uint32_t view_uidnext(const struct view *v);                            /* UIDNEXT at the time it was published */
uint64_t view_modseq(const struct view *v);                             /* all published changes up to here are in it */
/* seqno in 1..count (must()). May read the index's file. On damage the UIDs come from the log (struct index_repair); if not even that
 * works, others of the same range stand in for them, so that sequence numbers stay right: fetching these finds nothing. */
uint32_t view_uid(struct view *v, uint32_t seqno);
/* How often this thread has been given such others because the index could not be read *now* (a read error, no descriptor): they are
 * not to be shown. Who answers from UIDs compares before and after, and fails when it grew; the next look tries the disk again. */
uint64_t view_unreadable(void);
uint32_t view_seqno(struct view *v, uint32_t uid);                      /* 0: not in the view */
/* The first sequence number whose UID is >= uid; count + 1 when there is none. */
uint32_t view_seqno_from(struct view *v, uint32_t uid);
/* Copy UIDs of sequence numbers seqno … seqno + n - 1 (fewer at the end) into uids[]; returns how many. */
uint32_t view_uids(struct view *v, uint32_t seqno, uint32_t *uids, uint32_t n);

/* Sequence numbers → UIDs that are in the view. Numbers above count are ERR_SYNTAX (RFC 9051 6.4.4 says BAD). */
int view_seqnos_to_uids(struct view *v, const struct uidset *seqnos, struct uidset *uids_r, struct err *err);
/* Keep only those of `uids` that are in the view. O(ranges + blocks) where UIDs have no gaps, O(UIDs) in blocks that have some: the
 * result names exactly what is there. All uids_r here are initialised before; what they held is replaced. They may be the input. */
void view_existing_uids(struct view *v, const struct uidset *uids, struct uidset *uids_r);

/*
 * What is different in `now` from `before`, two views of one mailbox (`now` is the later one): UIDs that are gone, and how many
 * were added at the end. Blocks that both share are skipped.
 */
void view_diff(struct view *before, struct view *now, struct uidset *gone_r, uint32_t *added_r);
/* A private view: `before` with what `now` has added at the end, still with the expunged ones (for sessions that may not announce
 * expunges yet but may announce new messages). */
struct view *view_extend(struct view *before, struct view *now);

/*
 * ---- for the owner of the mailbox's published view, with the mailbox's lock ----
 * Each makes a new version with one reference and leaves `v` and the caller's reference to it alone; what did not change is shared.
 * `uidnext` and `modseq` are what the new version answers.
 */
struct index;
struct view *view_create_empty(uint32_t uidnext, uint64_t modseq);
/* The live messages of the index as it is now. O(blocks): UIDs are read from the index's blocks, as they are now, when first touched. */
struct view *view_create_from_index(struct index *ix, uint32_t uidnext, uint64_t modseq);
/* Add UIDs, ascending and all above those in `v`. Amortised O(n + blocks). */
struct view *view_append(struct view *v, const uint32_t *uids, uint32_t n, uint32_t uidnext, uint64_t modseq);
/* Without these UIDs (those not in it are ignored). O(blocks + UIDs in the blocks concerned). */
struct view *view_expunge(struct view *v, const struct uidset *uids, uint64_t modseq);
struct view *view_with_modseq(struct view *v, uint64_t modseq);         /* nothing else changed */

#endif
