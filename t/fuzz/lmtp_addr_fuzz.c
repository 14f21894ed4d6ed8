/* MAIL and RCPT arguments from anybody. */
#include "server/lmtp/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        for (int round = 0; round < 3; round++) {
                struct arena arena = ARENA_INIT;
                struct err err = ERR_INIT;
                struct lmtp_path path;
                struct lmtp_params params;
                struct span rest;
                const char *auth;

                if (lmtp_path_parse((struct span){ (const char *)data, size }, (enum lmtp_8bit)round, true, &arena, &path, &rest, &err) == 0 &&
                    lmtp_params_parse(rest, round == 1, &params, &err) == 0)
                        lmtp_xtext_decode(params.auth, &arena, &auth, &err);
                arena_deinit(&arena);
        }
        return 0;
}
