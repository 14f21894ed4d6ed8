/* preview - a message's preview: any octets give valid UTF-8 of bounded length without control characters; bounded reading. */
#include <stdlib.h>

#include "store/preview.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct octets { const uint8_t *p; size_t n, read; };

static int read_octets(void *ctx, uint64_t offset, void *buf, size_t len, struct err *err)
{
        struct octets *o = ctx;

        (void)err;
        must(offset + len <= o->n);
        memcpy(buf, o->p + offset, len);
        o->read += len;
        return 0;
}

static void check(struct span s)
{
        size_t chars = 0;

        must(utf8_valid(s));
        for (size_t i = 0; i < s.len; i++) {
                must((unsigned char)s.p[i] >= 0x20 && s.p[i] != 0x7f);
                chars += ((unsigned char)s.p[i] & 0xc0) != 0x80;
        }
        must(chars <= PREVIEW_CHARS_MAX);
        must(s.len == 0 || (s.p[0] != ' ' && s.p[s.len - 1] != ' '));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct octets o = { data, size, 0 };
        struct mime_result r;
        struct str out = STR_INIT;
        struct err err = ERR_INIT;

        mime_parse((struct span){ (const char *)data, size }, &r);
        must(preview_make(&(struct preview_source){ .parts = r.parts, .parts_n = r.parts_n, .read = read_octets, .ctx = &o }, &out, &err) == 0);
        must(o.read <= 400 * 1024);
        check(str_span(&out));
        str_clear(&out);
        preview_of_html((struct span){ (const char *)data, size }, &out);
        check(str_span(&out));
        str_clear(&out);
        preview_of_plain((struct span){ (const char *)data, size }, &out);
        check(str_span(&out));
        str_deinit(&out);
        mime_result_deinit(&r);
        return 0;
}
