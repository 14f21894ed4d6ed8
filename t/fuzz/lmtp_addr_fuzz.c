/* MAIL and RCPT arguments from anybody. */
#include "server/lmtp/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        for (int round = 0; round < 2; round++) {
                struct arena arena = ARENA_INIT;
                struct err err = ERR_INIT;
                struct lmtp_path path;
                struct lmtp_params params;
                struct span rest;

                if (lmtp_path_parse((struct span){ (const char *)data, size }, round, true, &arena, &path, &rest, &err) == 0)
                        lmtp_params_parse(rest, round, &params, &err);
                arena_deinit(&arena);
        }
        return 0;
}
