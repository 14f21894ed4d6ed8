/* charset_utf8 - UTF-8 one character at a time, and the canonical form of i;unicode-casemap; see charset.h */
#include "util/charset.h"

#include <pthread.h>
#include <stdlib.h>
#include <utf8proc.h>

#include "util/charset_private.h"
#include "util/must.h"

size_t utf8_next(const uint8_t *p, size_t n, bool last, uint32_t *cp_r, bool *broken_r)
{
        unsigned c = p[0], more, low = 0x80, high = 0xbf;
        uint32_t cp;
        size_t i;

        *broken_r = false;
        if (c < 0x80) {
                *cp_r = c;
                return 1;
        }
        if (c >= 0xc2 && c <= 0xdf) {
                more = 1;
                cp = c & 0x1f;
        } else if (c >= 0xe0 && c <= 0xef) {
                more = 2;
                cp = c & 0x0f;
                low = c == 0xe0 ? 0xa0 : low;           /* no overlong forms */
                high = c == 0xed ? 0x9f : high;         /* no surrogates */
        } else if (c >= 0xf0 && c <= 0xf4) {
                more = 3;
                cp = c & 0x07;
                low = c == 0xf0 ? 0x90 : low;
                high = c == 0xf4 ? 0x8f : high;         /* nothing above U+10FFFF */
        } else {
                goto broken_first;
        }
        for (i = 1; i <= more; i++) {
                if (i == n) {
                        if (!last)
                                return 0;
                        break;
                }
                if (p[i] < low || p[i] > high)
                        break;
                cp = cp << 6 | (p[i] & 0x3f);
                low = 0x80;
                high = 0xbf;
        }
        if (i > more) {
                *cp_r = cp;
                return i;
        }
        *cp_r = REPLACEMENT_CHARACTER;
        *broken_r = true;
        return i;
broken_first:
        *cp_r = REPLACEMENT_CHARACTER;
        *broken_r = true;
        return 1;
}

size_t utf8_put(char out[4], uint32_t cp)
{
        if (cp < 0x80) {
                out[0] = (char)cp;
                return 1;
        }
        if (cp < 0x800) {
                out[0] = (char)(0xc0 | cp >> 6);
                out[1] = (char)(0x80 | (cp & 0x3f));
                return 2;
        }
        if (cp < 0x10000) {
                out[0] = (char)(0xe0 | cp >> 12);
                out[1] = (char)(0x80 | (cp >> 6 & 0x3f));
                out[2] = (char)(0x80 | (cp & 0x3f));
                return 3;
        }
        out[0] = (char)(0xf0 | cp >> 18);
        out[1] = (char)(0x80 | (cp >> 12 & 0x3f));
        out[2] = (char)(0x80 | (cp >> 6 & 0x3f));
        out[3] = (char)(0x80 | (cp & 0x3f));
        return 4;
}

size_t ascii_run(const uint8_t *p, size_t n)
{
        size_t i = 0;

        for (; n - i >= 32; i += 32) {
                uint64_t w[4];

                memcpy(w, p + i, 32);
                if ((w[0] | w[1] | w[2] | w[3]) & 0x8080808080808080u)
                        break;
        }
        while (i < n && p[i] < 0x80)
                i++;
        return i;
}

bool charset_is_ascii(struct span s)
{
        return ascii_run((const uint8_t *)s.p, s.len) == s.len;
}

void casemap_ascii(char *out, const char *in, size_t len)
{
        size_t i = 0;

        for (; len - i >= 32; i += 32) {                /* the fixed count lets gcc make vectors of this at -O2 */
                unsigned char block[32];

                memcpy(block, in + i, 32);
                for (size_t k = 0; k < 32; k++)
                        block[k] = (unsigned char)(block[k] - ((unsigned char)(block[k] - 'a') < 26 ? 32 : 0));
                memcpy(out + i, block, 32);
        }
        for (; i < len; i++)
                out[i] = ascii_upper(in[i]);
}

/*
 * The canonical forms of U+0080..U+33FF, which is most of what is not ideographs, are made once: utf8proc takes some 40 ns for a
 * character, this takes 2. Everything above is computed, except that the ideographs up to U+9FFF are their own form.
 */
#define TABLE_END 0x3400
#define IDEOGRAPHS_END 0xa000
struct mapped {
        uint8_t len;                            /* 0xff: longer than fits, compute */
        char octets[7];
};
static struct mapped *mapped_table;             /* immutable once made */
static pthread_once_t mapped_once = PTHREAD_ONCE_INIT;

#define CASEMAP_OUT_MAX (32 * 4)                /* U+FDFA, the longest, has 18 characters */

static size_t casemap_compute(uint32_t cp, char out[CASEMAP_OUT_MAX])
{
        utf8proc_int32_t parts[32];
        utf8proc_ssize_t n;
        size_t len = 0;

        /* utf8proc has U+1E9E as the upper case of U+00DF; UnicodeData.txt, by which RFC 5051 goes, has none. */
        if (cp != 0xdf)
                cp = (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp);
        n = utf8proc_decompose_char((utf8proc_int32_t)cp, parts, 32, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, NULL);
        if (n <= 0 || n > 32)                           /* it has no such characters; keep what we have */
                return utf8_put(out, cp);
        for (utf8proc_ssize_t i = 0; i < n; i++)
                len += utf8_put(out + len, (uint32_t)parts[i]);
        return len;
}

static void make_table(void)
{
        mapped_table = xcalloc(TABLE_END - 0x80, sizeof *mapped_table);
        for (uint32_t cp = 0x80; cp < TABLE_END; cp++) {
                char octets[CASEMAP_OUT_MAX];
                size_t len = casemap_compute(cp, octets);
                struct mapped *m = &mapped_table[cp - 0x80];

                m->len = len <= sizeof m->octets ? (uint8_t)len : 0xff;
                if (m->len != 0xff)
                        memcpy(m->octets, octets, len);
        }
}

static void casemap_char(uint32_t cp, struct str *out)
{
        char octets[CASEMAP_OUT_MAX];

        if (cp < 0x80) {
                str_append_c(out, ascii_upper((char)cp));
        } else if (cp < TABLE_END && mapped_table[cp - 0x80].len != 0xff) {
                str_append(out, mapped_table[cp - 0x80].octets, mapped_table[cp - 0x80].len);
        } else if (cp >= TABLE_END && cp < IDEOGRAPHS_END) {
                str_append(out, octets, utf8_put(octets, cp));
        } else {
                str_append(out, octets, casemap_compute(cp, octets));
        }
}

/* Everything but a character that the end cuts, which goes to m->held. */
static void casemap_run(struct casemap *m, const uint8_t *p, size_t n, bool last, struct str *out)
{
        while (n) {
                size_t run = ascii_run(p, n), used;
                uint32_t cp;
                bool broken;

                if (run) {
                        casemap_ascii(str_append_space(out, run), (const char *)p, run);
                        p += run;
                        n -= run;
                        continue;
                }
                used = utf8_next(p, n, last, &cp, &broken);
                if (used == 0) {
                        memcpy(m->held, p, n);
                        m->held_n = (uint8_t)n;
                        return;
                }
                casemap_char(cp, out);
                p += used;
                n -= used;
        }
}

void casemap_feed(struct casemap *m, struct span in, struct str *out)
{
        const uint8_t *p = (const uint8_t *)in.p;
        size_t n = in.len;

        pthread_once(&mapped_once, make_table);
        while (m->held_n && n) {                        /* complete the character that was cut, octet by octet */
                uint8_t joined[4];
                size_t have = m->held_n;

                memcpy(joined, m->held, have);
                joined[have++] = *p++;
                n--;
                m->held_n = 0;
                casemap_run(m, joined, have, false, out);
        }
        if (n)
                casemap_run(m, p, n, false, out);
}

void casemap_finish(struct casemap *m, struct str *out)
{
        uint8_t rest[4];
        size_t n = m->held_n;

        if (n == 0)
                return;
        pthread_once(&mapped_once, make_table);
        memcpy(rest, m->held, n);
        m->held_n = 0;
        casemap_run(m, rest, n, true, out);
}

void casemap_span(struct span utf8, struct str *out)
{
        struct casemap m = CASEMAP_INIT;

        casemap_feed(&m, utf8, out);
        casemap_finish(&m, out);
}

void charset_repair_utf8(struct span in, struct str *out)
{
        const uint8_t *p = (const uint8_t *)in.p;
        size_t n = in.len;

        while (n) {
                size_t used = ascii_run(p, n);
                uint32_t cp;
                bool broken = false;

                if (used == 0)
                        used = utf8_next(p, n, true, &cp, &broken);
                if (broken)
                        str_append_str(out, UTF8_REPLACEMENT);
                else
                        str_append(out, p, used);
                p += used;
                n -= used;
        }
}

int charset_nfc(struct span utf8, struct str *out, struct err *err)
{
        utf8proc_uint8_t *nfc = NULL;
        utf8proc_ssize_t n;

        if (charset_is_ascii(utf8)) {
                str_append_span(out, utf8);
                return 0;
        }
        if (!utf8_valid(utf8))
                return err_set(err, ERR_SYNTAX, "not valid UTF-8");
        n = utf8proc_map((const utf8proc_uint8_t *)utf8.p, (utf8proc_ssize_t)utf8.len, &nfc, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (n < 0)
                return err_set(err, ERR_SYNTAX, "not normalisable: %s", utf8proc_errmsg(n));
        str_append(out, nfc, (size_t)n);
        free(nfc);
        return 0;
}
