/* mlog - records, batches, segments and the manifest, byte by byte. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/mailbox.h"
#include "store/mlog.h"
#include "util/fs.h"
#include "util/must.h"

#define UNIQUEID "mmmmmmmmmmmmmmmmmmmmmmmm"

static char dir[64];
static struct mlog_segment_info info;
static int fd;

static void setup(void)
{
        struct err err = ERR_INIT;

        snprintf(dir, sizeof dir, "/tmp/cyrd-mlog-XXXXXX");
        must(mkdtemp(dir) != NULL);
        must(mlog_segment_create(dir, 1, UNIQUEID, 3, &fd, &info, &err) == 0);
}

static void teardown(void)
{
        close(fd);
        fs_remove_tree(dir, NULL);
}

TestSuite(mlog, .init = setup, .fini = teardown, .timeout = 30);

/* A segment with `n` batches of two expunge records each, in memory. */
static uint64_t build(struct str *image, unsigned n)
{
        struct mlog_pen pen = { .segment = &info, .offset = MLOG_SEGMENT_HEADER, .seq = 10, .modseq = 5, .time = 99, .epoch = 3,
                                .prev_crc = info.crc };
        struct err err = ERR_INIT;

        must(fs_pread_all(fd, str_append_space(image, MLOG_SEGMENT_HEADER), MLOG_SEGMENT_HEADER, 0, &err) == 0);
        for (unsigned i = 0; i < n; i++) {
                struct mlog_batch b;
                struct mlog_uids u = { .n = 1 };
                struct uidrange range = { 1 + i, 1 + i };
                struct iovec iov[2];
                int pieces;

                mlog_batch_init(&b);
                mlog_batch_add(&b, &b.head, MLOG_EXPUNGE, &u, sizeof u, &range, sizeof range, NULL, 0, 0);
                mlog_batch_add(&b, &b.body, MLOG_EXPUNGE, &u, sizeof u, &range, sizeof range, NULL, 0, 0);
                pen.durable = mlog_mark(1, pen.offset);
                pieces = mlog_batch_seal(&b, &pen, iov);
                for (int k = 0; k < pieces; k++)
                        str_append(image, iov[k].iov_base, iov[k].iov_len);
                mlog_batch_deinit(&b);
        }
        cr_assert_eq(pen.offset, image->len);
        return image->len;
}

static void scan_begin(struct mlog_scan *s, const struct str *image)
{
        struct mlog_source source = { .memory = image->data, .size = image->len };
        struct err err = ERR_INIT;

        cr_assert_eq(mlog_scan_begin(s, &source, 1, UNIQUEID, 0, 0, &err), 0, "%s", err.text);
}

Test(mlog, a_batch_comes_back_chained_and_marked)
{
        struct str image = STR_INIT;
        struct mlog_scan s;
        struct mlog_record rec;
        struct err err = ERR_INIT;
        unsigned n = 0;

        build(&image, 3);
        scan_begin(&s, &image);
        while (mlog_scan_next(&s, &rec, &err) == MLOG_SCAN_RECORD) {
                cr_expect(rec.chained);
                cr_expect_eq(rec.h.seq, 10 + n);
                cr_expect_eq(rec.h.batch_index, n % 2);
                cr_expect_eq(rec.h.flags, n % 2 ? MLOG_ENDS_BATCH : 0);
                cr_expect_eq(rec.h.modseq, 5);
                cr_expect_eq(rec.h.epoch, 3);
                n++;
        }
        cr_expect_eq(n, 6);
        cr_expect(!s.ends_in_garbage);
        mlog_scan_deinit(&s);
        str_deinit(&image);
}

Test(mlog, every_flipped_bit_is_noticed_and_costs_one_record)
{
        struct str image = STR_INIT;
        uint64_t len = build(&image, 3);

        for (uint64_t at = MLOG_SEGMENT_HEADER; at < len; at++) {
                struct mlog_scan s;
                struct mlog_record rec;
                struct err err = ERR_INIT;
                unsigned whole = 0, damage = 0;
                int rc;

                image.data[at] ^= 1 << (at % 8);
                scan_begin(&s, &image);
                while ((rc = mlog_scan_next(&s, &rec, &err)) > 0) {
                        whole += rc == MLOG_SCAN_RECORD;
                        damage += rc == MLOG_SCAN_DAMAGE;
                }
                cr_assert_eq(rc, 0);
                cr_assert_eq(whole, 5, "octet %llu: %u records", (unsigned long long)at, whole);
                cr_assert_eq(damage + s.ends_in_garbage, 1);
                mlog_scan_deinit(&s);
                image.data[at] ^= 1 << (at % 8);
        }
        str_deinit(&image);
}

Test(mlog, a_record_of_another_place_or_segment_is_none)
{
        struct str image = STR_INIT;
        struct mlog_scan s;
        struct mlog_record rec;
        struct err err = ERR_INIT;
        uint64_t first = build(&image, 1) - MLOG_SEGMENT_HEADER;

        str_reserve(&image, first);
        str_append(&image, image.data + MLOG_SEGMENT_HEADER, first);   /* the same octets once more, where they do not belong */
        scan_begin(&s, &image);
        cr_expect_eq(mlog_scan_next(&s, &rec, &err), MLOG_SCAN_RECORD);
        cr_expect_eq(mlog_scan_next(&s, &rec, &err), MLOG_SCAN_RECORD);
        cr_expect_eq(mlog_scan_next(&s, &rec, &err), MLOG_SCAN_END);
        cr_expect(s.ends_in_garbage);
        mlog_scan_deinit(&s);
        str_deinit(&image);
}

Test(mlog, a_segment_header_names_its_mailbox)
{
        char header[MLOG_SEGMENT_HEADER];
        struct mlog_segment_info got;
        struct err err = ERR_INIT;

        cr_assert_eq(fs_pread_all(fd, header, sizeof header, 0, &err), 0);
        cr_expect_eq(mlog_segment_decode(header, 1, UNIQUEID, &got, &err), 0);
        cr_expect_eq(got.salt, info.salt);
        cr_expect_eq(mlog_segment_decode(header, 2, UNIQUEID, &got, &err), -1);
        cr_expect_eq(mlog_segment_decode(header, 1, "nnnnnnnnnnnnnnnnnnnnnnnn", &got, &err), -1);
        for (unsigned at = 0; at < sizeof header; at++) {
                header[at] ^= 4;
                cr_assert_eq(mlog_segment_decode(header, 1, UNIQUEID, &got, &err), -1, "octet %u", at);
                header[at] ^= 4;
        }
}

Test(mlog, a_manifest_is_read_as_written_or_refused)
{
        struct manifest m, got;
        struct str path = STR_INIT, text = STR_INIT;
        struct err err = ERR_INIT;

        manifest_init(&m, UNIQUEID);
        *manifest_add(&m, 0) = (struct manifest_entry){ .id = 3, .valid_len = MLOG_OPEN_END, .kind = MLOG_MAIN, .crc = 7, .salt = 8 };
        *manifest_add(&m, 0) = (struct manifest_entry){ .id = 1, .valid_len = 4096, .kind = MLOG_MAIN };
        *manifest_add(&m, 1) = (struct manifest_entry){ .id = 2, .valid_len = 999, .kind = MLOG_COMPACTED };
        m.next_id = 4;
        cr_assert_eq(manifest_write(&m, dir, &err), 0, "%s", err.text);
        cr_assert_eq(manifest_read(&got, dir, UNIQUEID, &err), 0, "%s", err.text);
        cr_expect_eq(got.n, 3);
        cr_expect_eq(memcmp(got.entries, m.entries, 3 * sizeof *m.entries), 0);
        cr_expect_eq(got.next_id, 4);
        cr_expect_eq(got.generation, 1);
        manifest_deinit(&got);
        str_printf(&path, "%s/manifest", dir);
        cr_assert_eq(fs_slurp(path.data, 10000, &text, &err), 0);
        for (size_t i = 0; i < text.len; i++) {
                text.data[i] ^= 0x20;
                cr_assert_eq(manifest_decode(&got, text.data, text.len, UNIQUEID, &err), -1, "octet %zu", i);
                text.data[i] ^= 0x20;
        }
        for (size_t len = 0; len < text.len; len++)
                cr_assert_eq(manifest_decode(&got, text.data, len, UNIQUEID, &err), -1);
        manifest_deinit(&m);
        str_deinit(&path);
        str_deinit(&text);
}

/* The records of replication: their lengths are what their counts say, and a UIDNEXT is one. */
Test(mlog, details_and_values_are_whole_or_refused)
{
        struct { struct mlog_flags f; struct mlog_details_entry e[2]; } details = { .f = { .n = 2 } };
        struct mlog_values values = { .counters = { .uidnext = 1 } };
        struct mlog_header h = { .type = MLOG_DETAILS, .front_len = sizeof details };

        cr_expect(mlog_front_valid(&h, &details));
        details.f.n = 3;
        cr_expect_not(mlog_front_valid(&h, &details));
        details.f.n = UINT32_MAX;
        cr_expect_not(mlog_front_valid(&h, &details));
        details.f.n = 2;
        h.body_len = 1;
        cr_expect_not(mlog_front_valid(&h, &details));
        h = (struct mlog_header){ .type = MLOG_VALUES, .front_len = sizeof values };
        cr_expect(mlog_front_valid(&h, &values));
        values.counters.uidnext = 0;
        cr_expect_not(mlog_front_valid(&h, &values));
        values.counters.uidnext = UINT32_MAX;
        cr_expect_not(mlog_front_valid(&h, &values));
        values.counters.uidnext = 5;
        h.front_len -= 8;
        cr_expect_not(mlog_front_valid(&h, &values));
}
