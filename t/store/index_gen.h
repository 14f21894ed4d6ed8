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

/* Parts that follow from a modseq: four, of which each modseq replaces one, all of different lengths. */
#define GEN_PARTS 4u

static inline bool gen_part(unsigned k, uint64_t modseq, struct str *text)
{
        uint64_t version = modseq - (modseq + GEN_PARTS - k) % GEN_PARTS;

        str_clear(text);
        if (version > modseq || version < GEN_PARTS)            /* none as yet */
                return false;
        for (uint64_t left = 1 + version * 977 % 9000; left; left--)
                str_append(text, &(char){ (char)(version + left) }, 1);
        return true;
}

static inline void gen_parts_set(struct index *ix, uint64_t modseq)
{
        struct index_part *const *old, *parts[GEN_PARTS];
        struct str want = STR_INIT, have = STR_INIT;
        size_t old_n = index_parts(ix, &old), n = 0;

        for (unsigned k = 0; k < GEN_PARTS; k++) {
                struct index_part *part = NULL;

                if (!gen_part(k, modseq, &want))
                        continue;
                for (size_t i = 0; i < old_n && !part; i++) {
                        must(index_part_read(old[i], &have, NULL) == 0);
                        if (span_eq(str_span(&have), str_span(&want)))
                                part = index_part_ref(old[i]);
                }
                parts[n++] = part ? part : index_part_create(str_span(&want));
        }
        index_set_parts(ix, parts, n);
        while (n)
                index_part_unref(&parts[--n]);
        str_deinit(&want);
        str_deinit(&have);
}

static inline bool gen_parts_are(struct index *ix, uint64_t modseq)
{
        struct index_part *const *parts;
        struct str want = STR_INIT, have = STR_INIT;
        size_t n = index_parts(ix, &parts), at = 0;
        bool same = true;

        for (unsigned k = 0; k < GEN_PARTS && same; k++)
                if (gen_part(k, modseq, &want))
                        same = at < n && index_part_read(parts[at++], &have, NULL) == 0 && span_eq(str_span(&have), str_span(&want));
        str_deinit(&want);
        str_deinit(&have);
        return same && at == n;
}

#endif
