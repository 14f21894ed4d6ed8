/* hash - see hash.h */
#include "util/hash.h"

#include <errno.h>
#include <nettle/sha1.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#include "util/must.h"

/* ---- CRC-32C ---- */

static uint32_t crc_tables[8][256];
static pthread_once_t crc_once = PTHREAD_ONCE_INIT;

static void crc_make_tables(void)
{
        for (unsigned i = 0; i < 256; i++) {
                uint32_t c = i;

                for (int k = 0; k < 8; k++)
                        c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1;
                crc_tables[0][i] = c;
        }
        for (unsigned i = 0; i < 256; i++)
                for (int t = 1; t < 8; t++)
                        crc_tables[t][i] = crc_tables[0][crc_tables[t - 1][i] & 0xff] ^ (crc_tables[t - 1][i] >> 8);
}

static uint32_t crc_soft(uint32_t crc, const unsigned char *p, size_t len)
{
        pthread_once(&crc_once, crc_make_tables);
        while (len >= 8) {
                uint32_t lo, hi;

                memcpy(&lo, p, 4);
                memcpy(&hi, p + 4, 4);
                lo ^= crc;
                crc = crc_tables[7][lo & 0xff] ^ crc_tables[6][(lo >> 8) & 0xff] ^ crc_tables[5][(lo >> 16) & 0xff] ^
                      crc_tables[4][lo >> 24] ^ crc_tables[3][hi & 0xff] ^ crc_tables[2][(hi >> 8) & 0xff] ^
                      crc_tables[1][(hi >> 16) & 0xff] ^ crc_tables[0][hi >> 24];
                p += 8;
                len -= 8;
        }
        while (len--)
                crc = crc_tables[0][(crc ^ *p++) & 0xff] ^ (crc >> 8);
        return crc;
}

#if defined __x86_64__
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const unsigned char *p, size_t len)
{
        uint64_t c = crc;

        while (len >= 8) {
                uint64_t v;

                memcpy(&v, p, 8);
                c = __builtin_ia32_crc32di(c, v);
                p += 8;
                len -= 8;
        }
        while (len--)
                c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
        return (uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t len)
{
        crc = ~crc;
#if defined __x86_64__
        if (__builtin_cpu_supports("sse4.2"))
                return ~crc_sse42(crc, p, len);
#endif
        return ~crc_soft(crc, p, len);
}

/* ---- SHA-1 ---- */

_Static_assert(sizeof(struct sha1_ctx) <= sizeof(struct digest), "room for nettle's context");

void digest_init(struct digest *h)
{
        nettle_sha1_init((struct sha1_ctx *)(void *)h);
}

void digest_update(struct digest *h, const void *p, size_t len)
{
        nettle_sha1_update((struct sha1_ctx *)(void *)h, len, p);
}

void digest_final(struct digest *h, uint8_t out[GUID_SIZE])
{
        nettle_sha1_digest((struct sha1_ctx *)(void *)h, GUID_SIZE, out);
}

void hex_encode(char *out, const void *p, size_t len)
{
        static const char digits[] = "0123456789abcdef";
        const unsigned char *in = p;

        for (size_t i = 0; i < len; i++) {
                *out++ = digits[in[i] >> 4];
                *out++ = digits[in[i] & 15];
        }
        *out = '\0';
}

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c = ascii_lower(c);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hex_decode(void *out, struct span hex)
{
        unsigned char *o = out;

        if (hex.len % 2)
                return false;
        for (size_t i = 0; i < hex.len; i += 2) {
                int hi = hex_value(hex.p[i]), lo = hex_value(hex.p[i + 1]);

                if (hi < 0 || lo < 0)
                        return false;
                *o++ = (unsigned char)(hi << 4 | lo);
        }
        return true;
}

void random_bytes(void *p, size_t len)
{
        char *out = p;

        while (len) {
                ssize_t n = getrandom(out, len, 0);

                if (n < 0 && errno == EINTR)            /* above 256 octets a signal may come in between */
                        continue;
                must(n > 0);
                out += n;
                len -= (size_t)n;
        }
}

/* ---- SipHash-1-3 ---- */

static uint64_t sip_key[2];
static pthread_once_t sip_once = PTHREAD_ONCE_INIT;

static void sip_make_key(void)
{
        random_bytes(sip_key, sizeof sip_key);
}

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define SIP_ROUND(a, b, c, d) do { \
        a += b; b = ROTL(b, 13); b ^= a; a = ROTL(a, 32); c += d; d = ROTL(d, 16); d ^= c; \
        a += d; d = ROTL(d, 21); d ^= a; c += b; b = ROTL(b, 17); b ^= c; c = ROTL(c, 32); } while (0)

static uint64_t sip(const uint64_t key[2], const void *p, size_t len)
{
        const unsigned char *in = p;
        uint64_t a = key[0] ^ 0x736f6d6570736575u, b = key[1] ^ 0x646f72616e646f6du;
        uint64_t c = key[0] ^ 0x6c7967656e657261u, d = key[1] ^ 0x7465646279746573u, m, last = (uint64_t)len << 56;
        size_t left = len;

        for (; left >= 8; in += 8, left -= 8) {
                memcpy(&m, in, 8);
                d ^= m;
                SIP_ROUND(a, b, c, d);
                a ^= m;
        }
        for (size_t i = 0; i < left; i++)
                last |= (uint64_t)in[i] << (8 * i);
        d ^= last;
        SIP_ROUND(a, b, c, d);
        a ^= last;
        c ^= 0xff;
        for (int i = 0; i < 3; i++)
                SIP_ROUND(a, b, c, d);
        return a ^ b ^ c ^ d;
}

uint64_t hash_keyed(const void *p, size_t len)
{
        pthread_once(&sip_once, sip_make_key);
        return sip(sip_key, p, len);
}

uint64_t hash_fixed(const void *p, size_t len)
{
        static const uint64_t key[2] = { 0x0706050403020100u, 0x0f0e0d0c0b0a0908u };

        return sip(key, p, len);
}

uint64_t hash_number(uint64_t n)
{
        pthread_once(&sip_once, sip_make_key);
        n = (n ^ sip_key[0]) * 0x9e3779b97f4a7c15u;
        n = (n ^ n >> 32) * (sip_key[1] | 1);
        return n ^ n >> 32;
}

/* ---- the table: open addressing with linear probing, grown at 3/4 full; a removed key leaves a grave until the next growth ---- */

struct slot {
        uint64_t hash;
        char *key;                              /* NULL: free or, with hash 1, a grave */
        size_t key_len;
        void *value;
};

struct table {
        struct slot *slots;
        size_t cap, live, used;                 /* used counts graves too */
};

struct table *table_create(void)
{
        return xcalloc(1, sizeof(struct table));
}

void table_destroy(struct table **tp)
{
        struct table *t = *tp;

        *tp = NULL;
        if (!t)
                return;
        for (size_t i = 0; i < t->cap; i++)
                free(t->slots[i].key);
        free(t->slots);
        free(t);
}

static struct slot *slot_find(const struct table *t, struct span key, uint64_t hash)
{
        if (!t->cap)
                return NULL;
        for (size_t i = hash & (t->cap - 1);; i = (i + 1) & (t->cap - 1)) {
                struct slot *s = &t->slots[i];

                if (!s->key && s->hash == 0)
                        return NULL;
                if (s->key && s->hash == hash && span_eq((struct span){ s->key, s->key_len }, key))
                        return s;
        }
}

void *table_find(const struct table *t, struct span key)
{
        struct slot *s = t->live ? slot_find(t, key, hash_keyed(key.p, key.len)) : NULL;

        return s ? s->value : NULL;
}

static void slot_place(struct table *t, struct slot item)
{
        size_t i = item.hash & (t->cap - 1);

        while (t->slots[i].key || t->slots[i].hash)
                i = (i + 1) & (t->cap - 1);
        t->slots[i] = item;
}

static void table_grow(struct table *t)
{
        struct slot *old = t->slots;
        size_t old_cap = t->cap;

        t->cap = 16;
        while (t->cap < t->live * 2 + 2)
                t->cap *= 2;
        t->slots = xcalloc(t->cap, sizeof *t->slots);
        t->used = t->live;
        for (size_t i = 0; i < old_cap; i++)
                if (old[i].key)
                        slot_place(t, old[i]);
        free(old);
}

void *table_set(struct table *t, struct span key, void *value)
{
        uint64_t hash = hash_keyed(key.p, key.len);
        struct slot *s = slot_find(t, key, hash);
        void *former;

        if (s) {
                former = s->value;
                if (value) {
                        s->value = value;
                } else {
                        free(s->key);
                        s->key = NULL;
                        s->hash = 1;
                        s->value = NULL;
                        t->live--;
                }
                return former;
        }
        if (!value)
                return NULL;
        if ((t->used + 1) * 4 > t->cap * 3)
                table_grow(t);
        slot_place(t, (struct slot){ hash, xstrndup(key.p, key.len), key.len, value });
        t->live++;
        t->used++;
        return NULL;
}

size_t table_count(const struct table *t)
{
        return t->live;
}

bool table_next(const struct table *t, size_t *pos, struct span *key_r, void **value_r)
{
        for (; *pos < t->cap; ++*pos) {
                struct slot *s = &t->slots[*pos];

                if (s->key) {
                        *key_r = (struct span){ s->key, s->key_len };
                        *value_r = s->value;
                        ++*pos;
                        return true;
                }
        }
        return false;
}
