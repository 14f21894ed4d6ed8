/* What the tests of index and view share: records made up from numbers, and a naive model of an index. */
#ifndef T_STORE_INDEX_GEN_H
#define T_STORE_INDEX_GEN_H

#include <stdlib.h>
#include <string.h>

#include "store/index.h"
#include "store/mailbox.h"
#include "util/must.h"

/* Records by UID; recs[uid].uid == 0: not there. */
struct index_model {
        struct index_rec *recs;
        uint32_t cap;                           /* UIDs below it */
        uint64_t modseq;
};

static inline void model_init(struct index_model *m, uint32_t cap)
{
        *m = (struct index_model){ xcalloc(cap, sizeof(struct index_rec)), cap, 1 };
}

static inline void model_copy(struct index_model *to, const struct index_model *from)
{
        to->modseq = from->modseq;
        must(to->cap == from->cap);
        memcpy(to->recs, from->recs, from->cap * sizeof *from->recs);
}

static inline struct index_rec gen_rec(uint32_t uid, uint64_t modseq)
{
        struct index_rec r;

        memset(&r, 0, sizeof r);
        r.uid = uid;
        r.flags = (uint32_t)rand() & MSG_SYSTEM_FLAGS;
        r.modseq = modseq;
        r.createdmodseq = modseq;
        r.internaldate = 1700000000 + uid;
        r.size = 100 + (uint64_t)rand() % 5000;
        r.segment = 1 + modseq / 1000;
        r.offset = modseq * 17;
        memset(r.guid, (int)(uid & 0xff), sizeof r.guid);
        return r;
}

#endif
