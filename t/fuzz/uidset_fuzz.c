/* Fuzz sequence sets: the first octets choose `*`, the rest is text. What was parsed keeps the invariant and survives being written
 * and read again. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "store/uidset.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct uidset *s)
{
        for (uint32_t i = 0; i < s->n; i++) {
                must(s->ranges[i].first >= 1 && s->ranges[i].first <= s->ranges[i].last);
                must(i == 0 || s->ranges[i].first > (uint64_t)s->ranges[i - 1].last + 1);
                must(uidset_has(s, s->ranges[i].first) && uidset_has(s, s->ranges[i].last));
        }
        must(s->n <= UIDSET_RANGES_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct uidset s = UIDSET_INIT, again = UIDSET_INIT;
        struct str text = STR_INIT;
        struct err err = ERR_INIT;
        uint32_t star;

        if (size < 4)
                return 0;
        memcpy(&star, data, 4);
        if (uidset_parse((struct span){ (const char *)data + 4, size - 4 }, star, &s, &err) == 0) {
                must(s.n > 0);
                check(&s);
                uidset_append(&s, &text);
                must(uidset_parse(str_span(&text), 0, &again, &err) == 0 && uidset_equal(&s, &again));
                uidset_remove_range(&again, s.ranges[0].first, s.ranges[0].first);
                check(&again);
                uidset_add_set(&again, &s);
                must(uidset_equal(&s, &again));
                uidset_intersect(&again, &s);
                must(uidset_equal(&s, &again));
        } else {
                must(err.code == ERR_SYNTAX || err.code == ERR_LIMIT);
        }
        uidset_deinit(&s);
        uidset_deinit(&again);
        str_deinit(&text);
        return 0;
}
