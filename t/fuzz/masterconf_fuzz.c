/* Fuzz cyrus.conf: whatever the text, reading ends, and what is accepted is complete. */
#include <stddef.h>
#include <stdint.h>

#include "server/masterconf.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct diag diag = DIAG_INIT;
        struct masterconf *mc;
        struct err err = ERR_INIT;

        if (masterconf_parse("f", (struct span){ (const char *)data, size }, &mc, &diag, &err) == 0) {
                for (size_t i = 0; i < mc->n; i++) {
                        must(mc->v[i]->argc > 0 && mc->v[i]->program != NULL);
                        must(mc->v[i]->section != MASTER_SERVICES || mc->v[i]->listen != NULL);
                        must(master_entry_same(mc->v[i], mc->v[i]));
                }
                masterconf_destroy(&mc);
        } else {
                must(diag.errors > 0);
        }
        diag_deinit(&diag);
        return 0;
}
