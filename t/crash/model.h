/*
 * model - what the mailboxes of the load's threads should hold, by the notes of what was begun and what was acknowledged (load.c). One thread.
 */
#ifndef T_CRASH_MODEL_H
#define T_CRASH_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "util/array.h"

struct flag_at { uint32_t flags; uint64_t time_us; };
struct msg_model { char guid[41], remark[32], mine[32]; uint32_t uid; unsigned litter; ARRAY(struct flag_at) flags, other; };   /* other: another user's \Seen */
struct box_model { char name[64], comment[32], script[32]; ARRAY(struct msg_model) msgs, gone; /* expunged, and not purged yet for all that is known */
                   uint32_t uidnext, uidvalidity; uint64_t modseq; unsigned limit;   /* of its quota root, 0: none */
                   bool subscribed, active, dumping, dumped; };
struct thread_model { ARRAY(struct box_model) boxes; const char *in_flight; uint64_t in_flight_us; };

/* A copy of its own: model_deinit() it too. */
void model_copy(struct thread_model *to, const struct thread_model *from);
void model_deinit(struct thread_model *t);
/* Do one operation of the notes. `first_uid` 0: in flight, UIDs are unknown. Returns the box that E's numbers are about. */
struct box_model *model_apply(struct thread_model *t, const char *op, uint32_t first_uid, uint64_t time_us);

#endif
