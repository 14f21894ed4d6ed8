/* callout - answers of an annotation_callout: whatever it says is understood, or is none; and never half of it */
#include <stdlib.h>

#include "server/callout.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct span had[] = { SPAN("one"), SPAN("two") };
        const struct callout_message m = { .flags = MSG_SEEN, .keywords = had, .keyword_count = 2 };
        struct arena arena = ARENA_INIT;
        struct callout_answer a;
        char *copy = malloc(size + 1);                  /* its own, so that reading beyond its end is found */
        size_t cut;
        int rc;

        must(copy != NULL);
        memcpy(copy, data, size);
        rc = callout_parse((struct span){ copy, size }, &m, &arena, &a);
        if (rc == 1) {
                must((a.flags & ~(uint32_t)MSG_SYSTEM_FLAGS) == 0 && a.keyword_count <= 2 + CALLOUT_CHANGES_MAX);
                for (uint32_t i = 0; i < a.keyword_count; i++)
                        must(a.keywords[i].len > 0 && a.keywords[i].len <= KEYWORD_BYTES_MAX);
                for (uint32_t i = 0; i < a.annots_n; i++)
                        must(a.annots[i].entry && (a.annots[i].value.p || a.annots[i].value.len == 0));
                cut = size ? data[0] % size : 0;        /* something shorter is not whole, or is the same */
                (void)callout_parse((struct span){ copy, cut }, &m, &arena, &a);
        }
        arena_deinit(&arena);
        free(copy);
        return 0;
}
