/* DATA's octets, cut at points the input chooses: the same content as a reference that looks at the whole. */
#include "server/lmtp/dots.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "util/str.h"

static void put(void *ctx, char *p, size_t len)
{
        str_append(ctx, p, len);
}

/* RFC 5321 4.5.2 by the letter; returns octets used, 0 when there is no end. */
static size_t reference(const char *p, size_t len, struct str *out, bool *bare)
{
        bool line_start = true;

        *bare = false;
        for (size_t i = 0; i < len;) {
                if (line_start && p[i] == '.') {
                        if (i + 2 < len && p[i + 1] == '\r' && p[i + 2] == '\n')
                                return i + 3;
                        line_start = false;
                        i++;
                        continue;
                }
                if (p[i] == '\r' && i + 1 < len && p[i + 1] == '\n') {
                        str_append(out, "\r\n", 2);
                        line_start = true;
                        i += 2;
                        continue;
                }
                if (p[i] == '\r' ? i + 1 < len : p[i] == '\n' || p[i] == '\0')
                        *bare = true;
                str_append(out, p + i, 1);
                line_start = false;
                i++;
        }
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str want = STR_INIT, have = STR_INIT;
        struct dots d = DOTS_INIT;
        bool bare;
        size_t step, used = 0, end;
        char *copy;

        if (size < 1)
                return 0;
        step = data[0] % 7 + 1;
        data++;
        size--;
        copy = malloc(size + 1);
        memcpy(copy, data, size);
        end = reference(copy, size, &want, &bare);
        while (used < size && d.state != DOTS_END) {
                size_t n = size - used < step ? size - used : step;

                used += dots_feed(&d, copy + used, n, put, &have);
        }
        if ((d.state == DOTS_END) != (end != 0) || (end && used != end))
                abort();
        if (end && d.bare != bare)
                abort();
        if (end && !bare && (have.len != want.len || memcmp(have.data, want.data, have.len) != 0))
                abort();
        free(copy);
        str_deinit(&want);
        str_deinit(&have);
        return 0;
}
