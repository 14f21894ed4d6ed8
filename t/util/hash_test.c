#include <criterion/criterion.h>
#include <stdio.h>

#include "util/array.h"
#include "util/hash.h"

Test(hash, crc32c_of_rfc3720)                                                   /* RFC 3720 B.4 */
{
        unsigned char zeros[32] = { 0 }, ones[32], up[32];

        memset(ones, 0xff, sizeof ones);
        for (unsigned char i = 0; i < 32; i++)
                up[i] = i;
        cr_expect_eq(crc32c(0, "123456789", 9), 0xe3069283);
        cr_expect_eq(crc32c(0, zeros, 32), 0x8a9136aa);
        cr_expect_eq(crc32c(0, ones, 32), 0x62a8ab43);
        cr_expect_eq(crc32c(0, up, 32), 0x46dd794e);
        cr_expect_eq(crc32c(0, "", 0), 0);
}

Test(hash, crc32c_of_pieces_is_that_of_the_whole)
{
        unsigned char data[257];

        for (size_t i = 0; i < sizeof data; i++)
                data[i] = (unsigned char)(i * 31);
        for (size_t cut = 0; cut <= sizeof data; cut++)
                cr_expect_eq(crc32c(crc32c(0, data, cut), data + cut, sizeof data - cut), crc32c(0, data, sizeof data), "cut at %zu", cut);
}

Test(hash, sha1_of_fips180)
{
        struct digest h;
        uint8_t out[GUID_SIZE];
        char hex[2 * GUID_SIZE + 1];

        digest_init(&h);
        digest_update(&h, "a", 1);
        digest_update(&h, "bc", 2);
        digest_final(&h, out);
        hex_encode(hex, out, sizeof out);
        cr_expect_str_eq(hex, "a9993e364706816aba3e25717850c26c9cd0d89d");
}

Test(hash, hex_both_ways)
{
        unsigned char out[4];
        char text[9];

        cr_expect(hex_decode(out, SPAN("00fFaB10")));
        hex_encode(text, out, 4);
        cr_expect_str_eq(text, "00ffab10");
        cr_expect_not(hex_decode(out, SPAN("0")));
        cr_expect_not(hex_decode(out, SPAN("0g")));
        cr_expect_not(hex_decode(out, SPAN("0 ")));
        cr_expect_not(hex_decode(out, SPAN("@0")));
        cr_expect(hex_decode(out, SPAN("")));
}

Test(hash, keyed_hash_depends_on_every_octet_and_the_length)
{
        char a[40] = { 0 };

        for (size_t len = 0; len < sizeof a; len++) {
                uint64_t h = hash_keyed(a, len);

                cr_expect_eq(h, hash_keyed(a, len));
                cr_expect_neq(h, hash_keyed(a, len + 1 < sizeof a ? len + 1 : 0));
                for (size_t i = 0; i < len; i++) {
                        a[i] ^= 1;
                        cr_expect_neq(h, hash_keyed(a, len), "octet %zu of %zu", i, len);
                        a[i] ^= 1;
                }
        }
}

Test(hash, what_is_for_the_disk_never_changes)
{
        unsigned char in[15];

        for (unsigned i = 0; i < sizeof in; i++)
                in[i] = (unsigned char)i;
        cr_expect_eq(hash_fixed(in, sizeof in), UINT64_C(0xd320d86d2a519956));
        cr_expect_neq(hash_fixed(in, 14), hash_fixed(in, 15));
}

Test(hash, numbers_stay_apart)
{
        uint64_t seen[256];

        for (uint64_t i = 0; i < 256; i++) {
                seen[i] = hash_number(i << 32);
                cr_expect_eq(seen[i], hash_number(i << 32));
                for (uint64_t k = 0; k < i; k++)
                        cr_expect_neq(seen[i], seen[k]);
        }
}

Test(hash, random_octets_are_not_all_alike)
{
        unsigned char a[1000], b[1000];

        random_bytes(a, sizeof a);
        random_bytes(b, sizeof b);
        cr_expect_neq(memcmp(a, b, sizeof a), 0);
}

/* Against a plain array of what should be there. */
Test(table, sets_finds_and_removes_like_a_plain_array)
{
        static char values[2000];
        void *expect[2000] = { NULL };
        struct table *t = table_create();
        size_t count = 0;
        unsigned seed = 1;

        for (int round = 0; round < 60000; round++) {
                char key[20];
                unsigned i;
                void *value, *former;

                seed = seed * 1103515245u + 12345u;
                i = (seed >> 16) % 2000;
                value = seed & 0x1000 ? &values[i] : NULL;
                snprintf(key, sizeof key, "key %u", i);
                cr_assert_eq(table_find(t, span_of(key)), expect[i]);
                former = table_set(t, span_of(key), value);
                cr_assert_eq(former, expect[i]);
                count += (value != NULL) - (former != NULL);
                expect[i] = value;
                cr_assert_eq(table_count(t), count);
        }
        table_destroy(&t);
        cr_expect_null(t);
        table_destroy(&t);
}

Test(table, iteration_meets_every_key_once_and_may_remove_it)
{
        struct table *t = table_create();
        bool met[500] = { false };
        struct span key;
        void *value;
        size_t pos = 0, n = 0;

        for (uint16_t i = 0; i < 500; i++)
                table_set(t, (struct span){ (const char *)&i, 2 }, &met[i]);
        while (table_next(t, &pos, &key, &value)) {
                uint16_t i;

                cr_assert_eq(key.len, 2);
                memcpy(&i, key.p, 2);
                cr_assert_eq(value, &met[i]);
                cr_expect_not(met[i]);
                met[i] = true;
                n++;
                if (i % 2)
                        table_set(t, (struct span){ (const char *)&i, 2 }, NULL);
        }
        cr_expect_eq(n, 500);
        cr_expect_eq(table_count(t), 250);
        table_destroy(&t);
}

Test(table, the_empty_key_is_a_key)
{
        struct table *t = table_create();
        struct span none = { NULL, 0 };
        int value;

        cr_expect_null(table_find(t, none));
        table_set(t, none, &value);
        cr_expect_eq(table_find(t, SPAN("")), &value);
        cr_expect_null(table_find(t, SPAN("x")));
        table_destroy(&t);
}
