/*
 * Fuzz the checkpoint file: whatever its octets, opening, walking, viewing, changing and writing it neither crash nor hang; what cannot
 * be is ERR_CORRUPT.
 *
 * The input is: one octet of choices, a header (464 octets), then pages 2 … of the file. Checksums would keep a fuzzer out, so unless
 * the choices say otherwise they are made right here: header, table, meta, and blocks as far as the table leads to them.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/index.h"
#include "store/view.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define PAGE 4096u
#define HEADER 464u
#define AT_CRC 12
#define AT_TABLE 104                            /* page, pages, u64 len, crc */
#define AT_META 128
#define AT_PARTS 336
#define PLACE 24
#define SUMMARY 96
#define KEEP_HEADER_CRC 1
#define KEEP_PLACE_CRC 2
#define KEEP_BLOCK_CRC 4

static uint8_t image[2 * PAGE + 32768];
static char path[100];

static uint32_t get32(const uint8_t *p)
{
        uint32_t v;

        memcpy(&v, p, 4);
        return v;
}

/* The octets that (page, len) names, or NULL when they are not all there. */
static uint8_t *place(uint32_t page, uint64_t len, size_t size)
{
        uint64_t at = (uint64_t)page * PAGE;

        return page >= 2 && at <= size && len <= size - at ? image + at : NULL;
}

static void fix_place(uint8_t *entry, size_t size)
{
        uint64_t len;
        uint8_t *p;
        uint32_t crc;

        memcpy(&len, entry + 8, 8);
        p = place(get32(entry), len, size);
        if (!p)
                return;
        crc = crc32c(0, p, len);
        memcpy(entry + 16, &crc, 4);
}

static void fix_blocks(size_t size)
{
        uint64_t len;
        uint8_t *table;

        memcpy(&len, image + AT_TABLE + 8, 8);
        table = place(get32(image + AT_TABLE), len, size);
        if (!table)
                return;
        for (uint64_t at = 0; at + SUMMARY <= len; at += SUMMARY) {
                uint8_t *sum = table + at;
                uint64_t records = get32(sum + 8) & 2047;
                uint8_t *p = place(get32(sum + 88), records * sizeof(struct index_rec), size);
                uint32_t crc = p ? crc32c(0, p, records * sizeof(struct index_rec)) : 0;

                memcpy(sum + 44, &crc, 4);
        }
}

static void fix_parts(size_t size)
{
        uint8_t *list;
        uint64_t len;

        memcpy(&len, image + AT_PARTS + 8, 8);
        list = place(get32(image + AT_PARTS), len, size);
        for (uint64_t at = 0; list && at + PLACE <= len; at += PLACE)
                fix_place(list + at, size);
}

static size_t build(const uint8_t *data, size_t size)
{
        uint8_t choices = data[0];
        size_t rest = size - 1 - HEADER, total = 2 * PAGE + rest;
        uint32_t crc = 0;

        memset(image, 0, 2 * PAGE);
        memcpy(image, data + 1, HEADER);
        memcpy(image + 2 * PAGE, data + 1 + HEADER, rest);
        if (!(choices & KEEP_BLOCK_CRC))
                fix_blocks(total);
        if (!(choices & KEEP_PLACE_CRC)) {
                fix_place(image + AT_TABLE, total);
                fix_place(image + AT_META, total);
                fix_parts(total);
                fix_place(image + AT_PARTS, total);
        }
        if (!(choices & KEEP_HEADER_CRC)) {
                memcpy(image + AT_CRC, &crc, 4);
                crc = crc32c(0, image, HEADER);
                memcpy(image + AT_CRC, &crc, 4);
        }
        return total;
}

static void use_view(struct index *ix)
{
        struct view *v = view_create_from_index(ix, UINT32_MAX, 1);
        uint32_t uids[64], n, last = 0;

        for (uint32_t at = 1; (n = view_uids(v, at, uids, 64)) > 0; at += n)
                for (uint32_t i = 0; i < n; i++) {
                        must(uids[i] > last);
                        last = uids[i];
                }
        must(view_seqno(v, last) == view_count(v));
        view_unref(&v);
}

/* Read them, and let one go and another come. */
static void use_parts(struct index *ix, struct err *err)
{
        struct index_part *const *list, *parts[2] = { index_part_create(SPAN("new")) };
        struct str text = STR_INIT;
        size_t n = index_parts(ix, &list);

        for (size_t i = 0; i < n; i++)
                must(index_part_read(list[i], &text, err) == 0 || err->code == ERR_CORRUPT);
        if (n)
                parts[1] = index_part_ref(list[n - 1]);
        index_set_parts(ix, parts, n ? 2 : 1);
        index_part_unref(&parts[0]);
        index_part_unref(&parts[1]);
        str_deinit(&text);
}

static void use(struct index *ix)
{
        struct uidset purge = UIDSET_INIT;
        struct err err = ERR_INIT;
        struct index_iter it;
        struct index_rec r;
        uint64_t n = 0;
        int rc;

        for (index_iter_init(&it, ix, 0); (rc = index_next(&it, &r, &err)) == 1;)
                n++;
        must(rc == 0 ? n == index_totals(ix)->records : err.code == ERR_CORRUPT);
        use_view(ix);
        use_parts(ix, &err);
        r = (struct index_rec){ .uid = 1000, .modseq = 5 };
        index_put(ix, &r, &err);
        uidset_add_range(&purge, 3, 500);
        index_purge(ix, &purge, &err);
        uidset_deinit(&purge);
        index_checkpoint(ix, &err);
}

static void write_file(const uint8_t *p, size_t len)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        must(fd >= 0 && write(fd, p, len) == (ssize_t)len);
        close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
        (void)argc;
        (void)argv;
        snprintf(path, sizeof path, "%s/index_fuzz.%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
        log_set_level((enum log_level)-1);              /* damage is the rule here: no lines about it */
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct index *ix = NULL;
        struct err err = ERR_INIT;

        if (size < 1 + HEADER || size - 1 - HEADER > sizeof image - 2 * PAGE)
                return 0;
        write_file(image, build(data, size));
        if (index_open(path, "u", &ix, &err) == 0) {
                use(ix);
                index_destroy(&ix);
        } else {
                must(err.code == ERR_CORRUPT);
        }
        unlink(path);
        return 0;
}
