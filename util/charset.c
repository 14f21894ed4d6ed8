/*
 * charset - see charset.h. Here: charsets by iconv, and the stream that does transfer encoding, charset and casemap in one.
 *
 * Names come from strangers, so iconv only sees names of charsets that are used in mail: glibc knows hundreds of others, and its
 * rarer converters have had their share of endless loops and failed assertions.
 */
#include "util/charset.h"

#include <errno.h>
#include <iconv.h>
#include <pthread.h>
#include <stdlib.h>

#include "util/charset_private.h"
#include "util/lock.h"
#include "util/must.h"

#define NAME_MAX_LEN 40

/* ---- names ---- */

enum flavour {
        FLAVOUR_UNKNOWN,
        FLAVOUR_UTF8,                           /* no iconv: us-ascii, utf-8 */
        FLAVOUR_SINGLE,                         /* one octet a character, ASCII is ASCII: ASCII may bypass iconv */
        FLAVOUR_OTHER,
        FLAVOUR_STATEFUL,                       /* escape sequences or look-ahead: what iconv makes of broken text depends on where it
                                                   is cut, so it gets whole lines, or UNIT_MAX octets of a longer one */
};

/* Names that mail uses for what iconv calls otherwise, and names of subsets in whose place mail means the superset. */
static const struct { const char *name, *real; enum flavour flavour; } aliases[] = {
        { "", "UTF-8", FLAVOUR_UTF8 },
        { "us-ascii", "UTF-8", FLAVOUR_UTF8 },
        { "ascii", "UTF-8", FLAVOUR_UTF8 },
        { "ansi_x3.4-1968", "UTF-8", FLAVOUR_UTF8 },
        { "iso646-us", "UTF-8", FLAVOUR_UTF8 },
        { "utf-8", "UTF-8", FLAVOUR_UTF8 },
        { "utf8", "UTF-8", FLAVOUR_UTF8 },
        { "utf_8", "UTF-8", FLAVOUR_UTF8 },
        { "unicode-1-1-utf-8", "UTF-8", FLAVOUR_UTF8 },
        { "latin1", "ISO-8859-1", FLAVOUR_SINGLE },
        { "l1", "ISO-8859-1", FLAVOUR_SINGLE },
        { "iso8859-1", "ISO-8859-1", FLAVOUR_SINGLE },
        { "iso-8859-8-i", "ISO-8859-8", FLAVOUR_SINGLE },
        { "iso-8859-8-e", "ISO-8859-8", FLAVOUR_SINGLE },
        { "iso-8859-6-i", "ISO-8859-6", FLAVOUR_SINGLE },
        { "iso-8859-6-e", "ISO-8859-6", FLAVOUR_SINGLE },
        { "x-mac-roman", "MACINTOSH", FLAVOUR_SINGLE },
        { "macintosh", "MACINTOSH", FLAVOUR_SINGLE },
        { "mac", "MACINTOSH", FLAVOUR_SINGLE },
        { "x-mac-cyrillic", "MAC-CYRILLIC", FLAVOUR_SINGLE },
        { "tis-620", "CP874", FLAVOUR_SINGLE },
        { "windows-874", "CP874", FLAVOUR_SINGLE },
        { "viscii", "VISCII", FLAVOUR_OTHER },
        { "gb2312", "GB18030", FLAVOUR_OTHER },
        { "gb_2312-80", "GB18030", FLAVOUR_OTHER },
        { "euc-cn", "GB18030", FLAVOUR_OTHER },
        { "gbk", "GB18030", FLAVOUR_OTHER },
        { "x-gbk", "GB18030", FLAVOUR_OTHER },
        { "cp936", "GB18030", FLAVOUR_OTHER },
        { "gb18030", "GB18030", FLAVOUR_OTHER },
        { "hz-gb-2312", "HZ-GB-2312", FLAVOUR_UNKNOWN },        /* glibc has none */
        { "big5", "BIG5-HKSCS", FLAVOUR_STATEFUL },
        { "big5-hkscs", "BIG5-HKSCS", FLAVOUR_STATEFUL },
        { "cp950", "CP950", FLAVOUR_OTHER },
        { "euc-tw", "EUC-TW", FLAVOUR_OTHER },
        { "shift_jis", "CP932", FLAVOUR_OTHER },
        { "shift-jis", "CP932", FLAVOUR_OTHER },
        { "sjis", "CP932", FLAVOUR_OTHER },
        { "x-sjis", "CP932", FLAVOUR_OTHER },
        { "ms_kanji", "CP932", FLAVOUR_OTHER },
        { "windows-31j", "CP932", FLAVOUR_OTHER },
        { "cp932", "CP932", FLAVOUR_OTHER },
        { "euc-jp", "EUC-JP", FLAVOUR_OTHER },
        { "x-euc-jp", "EUC-JP", FLAVOUR_OTHER },
        { "iso-2022-jp", "ISO-2022-JP-2", FLAVOUR_STATEFUL },
        { "iso-2022-jp-1", "ISO-2022-JP-2", FLAVOUR_STATEFUL },
        { "iso-2022-jp-2", "ISO-2022-JP-2", FLAVOUR_STATEFUL },
        { "euc-kr", "CP949", FLAVOUR_OTHER },
        { "ks_c_5601-1987", "CP949", FLAVOUR_OTHER },
        { "ks_c_5601", "CP949", FLAVOUR_OTHER },
        { "cp949", "CP949", FLAVOUR_OTHER },
        { "uhc", "CP949", FLAVOUR_OTHER },
        { "iso-2022-kr", "ISO-2022-KR", FLAVOUR_STATEFUL },
        { "iso-2022-cn", "ISO-2022-CN", FLAVOUR_STATEFUL },
        { "utf-7", "UTF-7", FLAVOUR_STATEFUL },
        { "utf7", "UTF-7", FLAVOUR_STATEFUL },
        { "unicode-1-1-utf-7", "UTF-7", FLAVOUR_STATEFUL },
        { "utf-16", "UTF-16", FLAVOUR_OTHER },
        { "utf16", "UTF-16", FLAVOUR_OTHER },
        { "utf-16le", "UTF-16LE", FLAVOUR_OTHER },
        { "utf-16be", "UTF-16BE", FLAVOUR_OTHER },
        { "utf-32", "UTF-32", FLAVOUR_OTHER },
        { "utf-32le", "UTF-32LE", FLAVOUR_OTHER },
        { "utf-32be", "UTF-32BE", FLAVOUR_OTHER },
};

static bool all_digits(const char *s)
{
        size_t n = strspn(s, "0123456789");

        return n > 0 && n <= 4 && s[n] == '\0';
}

/* Families whose names iconv knows as they are. `name` is in lower case, `real` gets what iconv wants. */
static enum flavour family(const char *name, char real[NAME_MAX_LEN])
{
        static const struct { const char *prefix, *real; } families[] = {
                { "iso-8859-", "ISO-8859-" }, { "iso8859-", "ISO-8859-" }, { "iso_8859-", "ISO-8859-" },
                { "windows-125", "CP125" }, { "x-windows-125", "CP125" }, { "cp125", "CP125" }, { "x-cp125", "CP125" },
                { "win-125", "CP125" },
        };
        static const char *const others[] = {
                "koi8-r", "koi8-u", "koi8-ru", "koi8-t", "cp437", "cp850", "cp852", "cp855", "cp857", "cp858", "cp860", "cp861", "cp862",
                "cp863", "cp865", "cp866", "cp874", "ibm437", "ibm850", "ibm852", "ibm855", "ibm866",
        };

        for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
                size_t n = strlen(families[i].prefix);
                const char *rest = name + n;
                size_t digits;

                if (strncmp(name, families[i].prefix, n) != 0)
                        continue;
                digits = strspn(rest, "0123456789");
                if (digits && rest[digits] == ':' && all_digits(rest + digits + 1)) {   /* ISO_8859-1:1987 */
                        memcpy(real, families[i].real, strlen(families[i].real));
                        memcpy(real + strlen(families[i].real), rest, digits);
                        real[strlen(families[i].real) + digits] = '\0';
                        return FLAVOUR_SINGLE;
                }
                if (!all_digits(rest))
                        return FLAVOUR_UNKNOWN;
                memcpy(real, families[i].real, strlen(families[i].real));
                memcpy(real + strlen(families[i].real), rest, digits + 1);
                return FLAVOUR_SINGLE;
        }
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
                if (strcmp(name, others[i]) == 0) {
                        memcpy(real, name, strlen(name) + 1);
                        return FLAVOUR_SINGLE;
                }
        return FLAVOUR_UNKNOWN;
}

static enum flavour resolve(struct span name, char real[NAME_MAX_LEN])
{
        char lower[NAME_MAX_LEN];
        size_t n = 0;

        name = span_trim(name);
        while (name.len >= 2 && (name.p[0] == '"' || name.p[0] == '\'') && name.p[name.len - 1] == name.p[0])
                name = span_trim((struct span){ name.p + 1, name.len - 2 });
        if (name.len >= NAME_MAX_LEN - 8)
                return FLAVOUR_UNKNOWN;
        for (; n < name.len; n++) {
                lower[n] = ascii_lower(name.p[n]);
                if (lower[n] < '+' || lower[n] > 'z')
                        return FLAVOUR_UNKNOWN;
        }
        lower[n] = '\0';
        for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++)
                if (strcmp(lower, aliases[i].name) == 0) {
                        memcpy(real, aliases[i].real, strlen(aliases[i].real) + 1);
                        return aliases[i].flavour;
                }
        return family(lower, real);
}

/* ---- open descriptors, a few kept by each thread: iconv_open() costs some 10 microseconds ---- */

#define CACHED_MAX 8
struct cached {
        char name[NAME_MAX_LEN];
        iconv_t cd;
};
struct descriptor_cache {
        struct cached v[CACHED_MAX];
        unsigned n, next_victim;
};
static _Thread_local struct descriptor_cache *cache;
static pthread_key_t cache_key;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;

/* Opening and closing load and unload converters. glibc locks that itself, but where the thread sanitizer does not see it; with a lock
 * of ours it does, and these calls are rare. A leaf: nothing is locked under it. */
static struct mutex open_lock = MUTEX_INIT;

static iconv_t descriptor_open(const char *name)
{
        iconv_t cd;

        mutex_lock(&open_lock);
        cd = iconv_open("UTF-8", name);
        mutex_unlock(&open_lock);
        return cd;
}

static void descriptor_close(iconv_t cd)
{
        mutex_lock(&open_lock);
        iconv_close(cd);
        mutex_unlock(&open_lock);
}

static void cache_destroy(void *arg)
{
        struct descriptor_cache *c = arg;

        for (unsigned i = 0; i < c->n; i++)
                descriptor_close(c->v[i].cd);
        free(c);
        cache = NULL;
}

static void cache_make_key(void)
{
        must(pthread_key_create(&cache_key, cache_destroy) == 0);
}

static iconv_t descriptor_take(const char *name)
{
        for (unsigned i = 0; cache && i < cache->n; i++) {
                if (strcmp(cache->v[i].name, name) == 0) {
                        iconv_t cd = cache->v[i].cd;

                        cache->v[i] = cache->v[--cache->n];
                        return cd;
                }
        }
        return descriptor_open(name);
}

static void descriptor_give(const char *name, iconv_t cd)
{
        struct cached *slot;

        if (!cache) {
                pthread_once(&cache_once, cache_make_key);
                cache = xcalloc(1, sizeof *cache);
                pthread_setspecific(cache_key, cache);
        }
        iconv(cd, NULL, NULL, NULL, NULL);
        if (cache->n < CACHED_MAX) {
                slot = &cache->v[cache->n++];
        } else {
                slot = &cache->v[cache->next_victim++ % CACHED_MAX];
                descriptor_close(slot->cd);
        }
        memcpy(slot->name, name, strlen(name) + 1);
        slot->cd = cd;
}

bool charset_known(struct span name)
{
        char real[NAME_MAX_LEN];
        enum flavour flavour = resolve(name, real);
        iconv_t cd;

        if (flavour == FLAVOUR_UNKNOWN || flavour == FLAVOUR_UTF8)
                return flavour == FLAVOUR_UTF8;
        cd = descriptor_take(real);
        if (cd == (iconv_t)-1)
                return false;
        descriptor_give(real, cd);
        return true;
}

/* ---- a stream of one charset ---- */

#define HELD_MAX 32
#define UNIT_MAX 512

struct charset_stream {
        enum flavour flavour;                   /* FLAVOUR_UTF8 for unknown ones, too */
        iconv_t cd;                             /* unless FLAVOUR_UTF8 */
        char name[NAME_MAX_LEN];
        char held[UNIT_MAX];                    /* an incomplete character; of FLAVOUR_STATEFUL an incomplete unit */
        size_t held_n;
};

struct charset_stream *charset_stream_create(struct span charset)
{
        struct charset_stream *s = xcalloc(1, sizeof *s);

        s->flavour = resolve(charset, s->name);
        if (s->flavour != FLAVOUR_UNKNOWN && s->flavour != FLAVOUR_UTF8) {
                s->cd = descriptor_take(s->name);
                if (s->cd != (iconv_t)-1)
                        return s;
        }
        s->flavour = FLAVOUR_UTF8;
        return s;
}

void charset_stream_destroy(struct charset_stream **sp)
{
        struct charset_stream *s = *sp;

        *sp = NULL;
        if (!s)
                return;
        if (s->flavour != FLAVOUR_UTF8)
                descriptor_give(s->name, s->cd);
        free(s);
}

bool charset_stream_is_utf8(const struct charset_stream *s)
{
        return s->flavour == FLAVOUR_UTF8;
}

/* Returns what is left: an incomplete character, unless `last`. */
static size_t repair_run(const uint8_t *p, size_t n, bool last, struct str *out)
{
        while (n) {
                size_t used = ascii_run(p, n);
                uint32_t cp;
                bool broken = false;

                if (used == 0)
                        used = utf8_next(p, n, last, &cp, &broken);
                if (used == 0)
                        return n;
                if (broken)
                        str_append_str(out, UTF8_REPLACEMENT);
                else
                        str_append(out, p, used);
                p += used;
                n -= used;
        }
        return 0;
}

/* Returns how many octets at the end were not used: the beginning of a character. */
static size_t iconv_run(struct charset_stream *s, const char *p, size_t n, struct str *out)
{
        char *in = (char *)(uintptr_t)p;                /* iconv() takes char ** but does not write */

        while (n) {
                size_t room = n * 4 + 64, left = room, rc;
                char *to;

                str_reserve(out, room);
                to = out->data + out->len;
                rc = iconv(s->cd, &in, &n, &to, &left);
                str_append_space(out, room - left);
                if (rc != (size_t)-1 || errno == E2BIG)
                        continue;
                if (errno == EINVAL && n < HELD_MAX)
                        return n;
                str_append_str(out, UTF8_REPLACEMENT);          /* EILSEQ */
                in++;
                n--;
        }
        return 0;
}

static size_t decode_run(struct charset_stream *s, const char *p, size_t n, bool last, struct str *out)
{
        if (s->flavour == FLAVOUR_UTF8)
                return repair_run((const uint8_t *)p, n, last, out);
        return iconv_run(s, p, n, out);
}

static void unit_done(struct charset_stream *s, struct str *out)
{
        size_t left = iconv_run(s, s->held, s->held_n, out);

        memmove(s->held, s->held + s->held_n - left, left);
        s->held_n = left;
}

/* Where the units end depends on the text alone. */
static void feed_units(struct charset_stream *s, struct span in, struct str *out)
{
        while (in.len) {
                size_t room = UNIT_MAX - s->held_n, n = in.len < room ? in.len : room;
                const char *lf = memchr(in.p, '\n', n);

                if (lf)
                        n = (size_t)(lf - in.p) + 1;
                memcpy(s->held + s->held_n, in.p, n);
                s->held_n += n;
                if (lf || s->held_n == UNIT_MAX)
                        unit_done(s, out);
                in.p += n;
                in.len -= n;
        }
}

void charset_stream_feed(struct charset_stream *s, struct span in, struct str *out)
{
        if (s->flavour == FLAVOUR_STATEFUL) {
                feed_units(s, in, out);
                return;
        }
        while (in.len && s->held_n) {                   /* complete the cut character, octet by octet */
                char joined[HELD_MAX];
                size_t n = s->held_n, left;

                memcpy(joined, s->held, n);
                joined[n++] = *in.p++;
                in.len--;
                left = decode_run(s, joined, n, false, out);
                memcpy(s->held, joined + n - left, left);
                s->held_n = left;
        }
        if (in.len) {
                size_t left = decode_run(s, in.p, in.len, false, out);

                memcpy(s->held, in.p + in.len - left, left);
                s->held_n = left;
        }
}

void charset_stream_finish(struct charset_stream *s, struct str *out)
{
        if (s->flavour == FLAVOUR_STATEFUL && s->held_n)
                unit_done(s, out);
        if (s->held_n) {                                /* cut by the end: one replacement for what there is of it */
                str_append_str(out, UTF8_REPLACEMENT);
                s->held_n = 0;
        }
        if (s->flavour != FLAVOUR_UTF8) {
                char rest[64], *to = rest;
                size_t left = sizeof rest;

                iconv(s->cd, NULL, NULL, &to, &left);   /* what a converter keeps back, and its initial state */
                str_append(out, rest, sizeof rest - left);
        }
}

void charset_to_utf8(struct span charset, struct span in, struct str *out)
{
        struct charset_stream *s = charset_stream_create(charset);

        charset_stream_feed(s, in, out);
        charset_stream_finish(s, out);
        charset_stream_destroy(&s);
}

/* ---- all in one ---- */

#define SLICE 4096                              /* of input taken at a time, which bounds the two buffers */

struct text_stream {
        struct transfer transfer;
        struct charset_stream *charset;
        struct casemap casemap;
        bool casemapped;
        struct str decoded, utf8;
};

struct text_stream *text_stream_create(enum transfer_encoding encoding, struct span charset, bool casemapped)
{
        struct text_stream *t = xmalloc(sizeof *t);

        transfer_init(&t->transfer, encoding);
        t->charset = charset_stream_create(charset);
        t->casemap = (struct casemap)CASEMAP_INIT;
        t->casemapped = casemapped;
        str_init(&t->decoded);
        str_init(&t->utf8);
        return t;
}

void text_stream_destroy(struct text_stream **tp)
{
        struct text_stream *t = *tp;

        *tp = NULL;
        if (!t)
                return;
        charset_stream_destroy(&t->charset);
        str_deinit(&t->decoded);
        str_deinit(&t->utf8);
        free(t);
}

/* Decoded octets → charset → out. ASCII in a charset that contains it needs no iconv and no casemap tables. */
static void decoded_feed(struct text_stream *t, struct span in, struct str *out)
{
        bool ascii_passes = (t->charset->flavour == FLAVOUR_UTF8 || t->charset->flavour == FLAVOUR_SINGLE) && t->charset->held_n == 0 && t->casemap.held_n == 0;

        if (ascii_passes && charset_is_ascii(in)) {
                if (t->casemapped)
                        casemap_ascii(str_append_space(out, in.len), in.p, in.len);
                else
                        str_append_span(out, in);
                return;
        }
        if (!t->casemapped) {
                charset_stream_feed(t->charset, in, out);
                return;
        }
        if (t->charset->flavour == FLAVOUR_UTF8) {      /* casemap repairs UTF-8 just as well */
                casemap_feed(&t->casemap, in, out);
                return;
        }
        str_clear(&t->utf8);
        charset_stream_feed(t->charset, in, &t->utf8);
        casemap_feed(&t->casemap, str_span(&t->utf8), out);
}

void text_stream_feed(struct text_stream *t, struct span in, struct str *out)
{
        while (in.len) {
                struct span slice = { in.p, in.len < SLICE ? in.len : SLICE };

                if (t->transfer.encoding == TRANSFER_BASE64 || t->transfer.encoding == TRANSFER_QUOTED_PRINTABLE) {
                        str_clear(&t->decoded);
                        transfer_feed(&t->transfer, slice, &t->decoded);
                        decoded_feed(t, str_span(&t->decoded), out);
                } else {
                        decoded_feed(t, slice, out);
                }
                in.p += slice.len;
                in.len -= slice.len;
        }
}

void text_stream_finish(struct text_stream *t, struct str *out)
{
        str_clear(&t->decoded);
        transfer_finish(&t->transfer, &t->decoded);
        decoded_feed(t, str_span(&t->decoded), out);
        str_clear(&t->utf8);
        charset_stream_finish(t->charset, &t->utf8);
        if (t->casemapped) {
                casemap_feed(&t->casemap, str_span(&t->utf8), out);
                casemap_finish(&t->casemap, out);
        } else {
                str_append_span(out, str_span(&t->utf8));
        }
}
