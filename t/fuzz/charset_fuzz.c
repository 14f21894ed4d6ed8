/* charset_fuzz - decoders give valid UTF-8 within their stated bounds, wherever the octets are cut. */
#include <stdint.h>

#include "util/charset.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const charsets[] = {
        "utf-8", "us-ascii", "iso-8859-1", "windows-1252", "koi8-r", "iso-2022-jp", "gb2312", "big5", "shift_jis", "euc-kr", "utf-7",
        "utf-16", "utf-16be", "iso-2022-kr", "iso-2022-cn", "euc-tw", "euc-jp", "viscii", "utf-32", "tis-620", "no-such-charset",
};

static void text(struct span in, enum transfer_encoding encoding, struct span charset, bool casemapped, uint32_t seed)
{
        struct str whole = STR_INIT, cut = STR_INIT;
        struct text_stream *t = text_stream_create(encoding, charset, casemapped);

        text_stream_feed(t, in, &whole);
        text_stream_finish(t, &whole);
        text_stream_destroy(&t);
        must(whole.len <= 144 * in.len + 4096);
        must(utf8_valid(str_span(&whole)));
        t = text_stream_create(encoding, charset, casemapped);
        while (in.len) {
                size_t n;

                seed = seed * 1103515245u + 12345u;
                n = 1 + (seed >> 16) % (seed & 0x40 ? 2 : 40);
                n = n < in.len ? n : in.len;
                text_stream_feed(t, (struct span){ in.p, n }, &cut);
                in.p += n;
                in.len -= n;
        }
        text_stream_finish(t, &cut);
        text_stream_destroy(&t);
        must(span_eq(str_span(&whole), str_span(&cut)));
        str_deinit(&whole);
        str_deinit(&cut);
}

static void words(struct span in)
{
        struct str out = STR_INIT, nfc = STR_INIT;
        struct err err;

        rfc2047_decode(in, &out);
        must(utf8_valid(str_span(&out)) && out.len <= 12 * in.len + 64);
        must(!memchr(out.data, '\0', out.len) || out.len == 0);
        must(charset_nfc(str_span(&out), &nfc, &err) == 0 && utf8_valid(str_span(&nfc)));
        str_deinit(&out);
        str_deinit(&nfc);
}

static void names(struct span in)
{
        struct str utf8 = STR_INIT, again = STR_INIT;
        struct err err;

        if (mutf7_to_utf8(in, &utf8, &err) == 0) {
                must(mutf7_valid(in) && utf8_valid(str_span(&utf8)));
                must(mutf7_from_utf8(str_span(&utf8), &again, &err) == 0);
                must(span_eq(str_span(&again), in));            /* strict: there is one form only */
        } else {
                must(!mutf7_valid(in) && utf8.len == 0 && err.code == ERR_BADNAME);
        }
        str_clear(&utf8);
        str_clear(&again);
        if (mutf7_from_utf8(in, &utf8, &err) == 0) {
                must(mutf7_to_utf8(str_span(&utf8), &again, &err) == 0);
                must(span_eq(str_span(&again), in));
        }
        str_deinit(&utf8);
        str_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct span in;

        if (size < 2)
                return 0;
        in = (struct span){ (const char *)data + 2, size - 2 };
        text(in, (enum transfer_encoding)(data[0] >> 1) % 5, span_of(charsets[data[1] % (sizeof charsets / sizeof charsets[0])]), data[0] & 1,
             data[0]);
        words(in);
        names(in);
        charset_known(in);
        return 0;
}
