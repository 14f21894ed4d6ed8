/* sasl_base64 - base64 as RFC 4648 section 4 has it, for SASL exchanges: no line breaks, no other alphabet, canonical padding. */
#include "server/sasl.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct span in, struct str *out)
{
        const unsigned char *p = (const unsigned char *)in.p;
        size_t left = in.len;

        str_reserve(out, (in.len + 2) / 3 * 4);
        for (; left >= 3; p += 3, left -= 3) {
                str_append_c(out, alphabet[p[0] >> 2]);
                str_append_c(out, alphabet[(p[0] & 3) << 4 | p[1] >> 4]);
                str_append_c(out, alphabet[(p[1] & 15) << 2 | p[2] >> 6]);
                str_append_c(out, alphabet[p[2] & 63]);
        }
        if (left > 0) {
                unsigned second = left == 2 ? p[1] : 0;

                str_append_c(out, alphabet[p[0] >> 2]);
                str_append_c(out, alphabet[(p[0] & 3) << 4 | second >> 4]);
                str_append_c(out, left == 2 ? alphabet[(second & 15) << 2] : '=');
                str_append_c(out, '=');
        }
}

/* The value of a digit, 64 and more for what is none. */
static unsigned digit(char c)
{
        if (c >= 'A' && c <= 'Z')
                return (unsigned)(c - 'A');
        if (c >= 'a' && c <= 'z')
                return (unsigned)(c - 'a') + 26;
        if (c >= '0' && c <= '9')
                return (unsigned)(c - '0') + 52;
        return c == '+' ? 62 : c == '/' ? 63 : 64;
}

/* One group of four; the last one may end in '=' or "==", and what it leaves over must be zero bits (RFC 4648 3.5). */
static bool decode_group(const char *p, bool last, struct str *out)
{
        unsigned d[4], pad = 0;
        char octets[3];

        if (last && p[3] == '=')
                pad = p[2] == '=' ? 2 : 1;
        for (unsigned i = 0; i < 4; i++) {
                d[i] = i >= 4 - pad ? 0 : digit(p[i]);
                if (d[i] > 63)
                        return false;
        }
        if ((pad == 2 && d[1] & 15) || (pad == 1 && d[2] & 3))
                return false;
        octets[0] = (char)(d[0] << 2 | d[1] >> 4);
        octets[1] = (char)((d[1] & 15) << 4 | d[2] >> 2);
        octets[2] = (char)((d[2] & 3) << 6 | d[3]);
        str_append(out, octets, 3 - pad);
        return true;
}

int base64_decode(struct span in, struct str *out, struct err *err)
{
        if (in.len % 4 != 0)
                return err_set(err, ERR_SYNTAX, "base64 of %zu octets, which is not a multiple of four", in.len);
        str_reserve(out, in.len / 4 * 3);
        for (size_t i = 0; i < in.len; i += 4)
                if (!decode_group(in.p + i, i + 4 == in.len, out))
                        return err_set(err, ERR_SYNTAX, "no base64 at octet %zu", i);
        return 0;
}
