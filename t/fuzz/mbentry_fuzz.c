/* mbentry_fuzz - a record of mailboxes.db, with a checksum that holds and as it is. What is read is written and read back equal. */
#include <inttypes.h>
#include <stdint.h>

#include "store/mboxlist_private.h"
#include "util/hash.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct span record)
{
        const struct mbentry *e, *again;
        struct str text = STR_INIT, twice = STR_INIT;
        struct err err = ERR_INIT;

        if (mbentry_parse(SPAN("user.joe"), record, &e, &err) < 0) {
                must(err.code == ERR_CORRUPT || err.code == ERR_UNSUPPORTED);
                return;
        }
        mbentry_format(e, &text);
        must(mbentry_parse(SPAN("user.joe"), str_span(&text), &again, &err) == 0);
        mbentry_format(again, &twice);
        must(span_eq(str_span(&text), str_span(&twice)));
        mbentry_unref(&e);
        mbentry_unref(&again);
        str_deinit(&text);
        str_deinit(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str record = STR_INIT;

        check((struct span){ (const char *)data, size });
        str_append_str(&record, "v1\n");
        str_append(&record, data, size);
        str_printf(&record, "\ncrc=%08" PRIx32 "\n", crc32c(0, record.data, record.len + 1 - 1));
        check(str_span(&record));
        str_clear(&record);
        str_append_str(&record, "v1\n");
        str_append(&record, data, size);
        str_printf(&record, "crc=%08" PRIx32 "\n", crc32c(0, record.data, record.len));
        check(str_span(&record));
        str_deinit(&record);
        return 0;
}
