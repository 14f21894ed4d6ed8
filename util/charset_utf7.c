/* charset_utf7 - modified UTF-7 (RFC 3501 5.1.3); see charset.h */
#include "util/charset.h"

#include "util/charset_private.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static int digit_value(char c)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        return c == '+' ? 62 : c == ',' ? 63 : -1;
}

/* One base64 sequence, from after the '&' to before the '-'. NULL, or what is wrong. */
static const char *decode_sequence(struct span in, struct str *out)
{
        uint32_t bits = 0, high = 0;
        unsigned bits_n = 0;

        for (size_t i = 0; i < in.len; i++) {
                uint32_t unit;
                char octets[4];

                bits = bits << 6 | (uint32_t)digit_value(in.p[i]);
                bits_n += 6;
                if (bits_n < 16)
                        continue;
                bits_n -= 16;
                unit = bits >> bits_n & 0xffff;
                bits &= (1u << bits_n) - 1;
                if (high) {
                        if (unit < 0xdc00 || unit > 0xdfff)
                                return "a surrogate without its other half";
                        unit = 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00);
                        high = 0;
                } else if (unit >= 0xd800 && unit <= 0xdbff) {
                        high = unit;
                        continue;
                } else if (unit >= 0xdc00 && unit <= 0xdfff) {
                        return "a surrogate without its other half";
                } else if (unit < 0x20 || unit == 0x7f) {
                        return "an encoded control character";
                } else if (unit < 0x7f) {
                        return "an ASCII character is encoded";
                }
                str_append(out, octets, utf8_put(octets, unit));
        }
        if (high)
                return "a surrogate without its other half";
        if (bits_n >= 6 || bits)
                return "the base64 does not end with the last character";
        return NULL;
}

static const char *decode(struct span in, struct str *out)
{
        bool after_sequence = false;

        for (size_t i = 0; i < in.len; i++) {
                size_t end = i + 1;
                const char *wrong;

                if (in.p[i] < 0x20 || in.p[i] > 0x7e)
                        return "a control character or an octet above 0x7e";
                if (in.p[i] != '&') {
                        str_append_c(out, in.p[i]);
                        after_sequence = false;
                        continue;
                }
                while (end < in.len && digit_value(in.p[end]) >= 0)
                        end++;
                if (end == in.len || in.p[end] != '-')
                        return "'&' without a '-' after its base64";
                if (end == i + 1) {
                        str_append_c(out, '&');
                        after_sequence = false;
                } else {
                        if (after_sequence)
                                return "two base64 sequences side by side";
                        wrong = decode_sequence((struct span){ in.p + i + 1, end - i - 1 }, out);
                        if (wrong)
                                return wrong;
                        after_sequence = true;
                }
                i = end;
        }
        return NULL;
}

int mutf7_to_utf8(struct span in, struct str *out, struct err *err)
{
        size_t before = out->len;
        const char *wrong = decode(in, out);

        if (!wrong)
                return 0;
        str_truncate(out, before);
        return err_set(err, ERR_BADNAME, "not modified UTF-7: %s", wrong);
}

bool mutf7_valid(struct span in)
{
        struct str out = STR_INIT;
        bool valid = decode(in, &out) == NULL;

        str_deinit(&out);
        return valid;
}

struct encoder {
        uint32_t bits;
        unsigned bits_n;
        bool shifted;
};

static void encode_unit(struct encoder *e, uint32_t unit, struct str *out)
{
        if (!e->shifted) {
                str_append_c(out, '&');
                e->shifted = true;
        }
        e->bits = e->bits << 16 | unit;
        e->bits_n += 16;
        while (e->bits_n >= 6) {
                e->bits_n -= 6;
                str_append_c(out, digits[e->bits >> e->bits_n & 0x3f]);
        }
}

static void encode_end(struct encoder *e, struct str *out)
{
        if (!e->shifted)
                return;
        if (e->bits_n)
                str_append_c(out, digits[e->bits << (6 - e->bits_n) & 0x3f]);
        str_append_c(out, '-');
        *e = (struct encoder){ 0, 0, false };
}

int mutf7_from_utf8(struct span utf8, struct str *out, struct err *err)
{
        const uint8_t *p = (const uint8_t *)utf8.p, *end = p + utf8.len;
        struct encoder e = { 0, 0, false };
        size_t before = out->len;

        while (p < end) {
                uint32_t cp;
                bool broken;

                p += utf8_next(p, (size_t)(end - p), true, &cp, &broken);
                if (broken || cp < 0x20 || cp == 0x7f) {
                        str_truncate(out, before);
                        return err_set(err, ERR_BADNAME, broken ? "not valid UTF-8" : "a control character");
                }
                if (cp < 0x7f) {
                        encode_end(&e, out);
                        str_append_c(out, (char)cp);
                        if (cp == '&')
                                str_append_c(out, '-');
                } else if (cp < 0x10000) {
                        encode_unit(&e, cp, out);
                } else {
                        encode_unit(&e, 0xd800 + ((cp - 0x10000) >> 10), out);
                        encode_unit(&e, 0xdc00 + ((cp - 0x10000) & 0x3ff), out);
                }
        }
        encode_end(&e, out);
        return 0;
}
