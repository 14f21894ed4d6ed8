/*
 * mlog - a segment's file, a batch of records and a manifest of any content: never a crash, never a loop, and what a scan returns is valid.
 * The first octet chooses: 0 the octets are a whole segment; 1 they are laid behind a proper header, and their records get their
 * checksums, so that what is behind the checksums is met too; 2 a manifest.
 */
#include <stdlib.h>

#include "store/mailbox_private.h"
#include "t/store/fake_store.h"

#define SALT_AT 12
#define RECORD_MAGIC 0x31527943u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What a record means for a mailbox: any valid one may come, in any order. */
static void apply(struct mailbox *m, const struct mlog_record *rec)
{
        struct apply_base base = { .uid = 5, .modseq = 9, .seq = 3, .adopted = true };
        struct err err = ERR_INIT;

        if (rec->h.type < MLOG_TYPE_MAX)
                must(state_apply(m, &rec->h, rec->front, &base, &err) == 0);
}

static void look(struct mailbox *m)
{
        struct index_iter it;
        struct index_rec rec;

        kwtab_fill(&m->kw);
        index_iter_init(&it, m->ix, 1);
        while (index_next(&it, &rec, NULL) == 1) {
                const struct kwset *set = mailbox_kwset(m, rec.kwset);

                for (uint32_t i = 0; set && i < set->n; i++) {
                        const char *name = mailbox_keyword_name(m, set->ids[i]);

                        must(!name || *name);           /* NULL: forgotten */
                }
        }
        state_save_blobs(m);
}

static void scan(const void *image, size_t size)
{
        static struct store store;
        struct mailbox_ident ident = { .uniqueid = "fuzz", .partition_dir = "/nonexistent", .name = "fuzz" };
        struct mailbox *m = mailbox_alloc(&store, NULL, &ident);

        struct mlog_source source = { .memory = image, .size = size };
        struct mlog_scan s;
        struct mlog_record rec;
        struct err err = ERR_INIT;
        uint64_t last = 0, steps = 0;
        int rc;

        m->ix = index_create_empty("/nonexistent/index", "fuzz");
        rc = mlog_scan_begin(&s, &source, 1, "fuzz", 0, 0, &err);

        if (rc == 0)
                s.check_bodies = true;
        while (rc == 0 && (rc = mlog_scan_next(&s, &rec, &err)) > 0) {
                must(++steps <= size / 4 + 2);
                must(s.at >= last && s.at > 0);
                last = s.at;
                if (rc == MLOG_SCAN_RECORD) {
                        must(mlog_front_valid(&rec.h, rec.front));
                        must(rec.h.offset + sizeof rec.h + rec.h.front_len + rec.h.body_len <= size);
                        apply(m, &rec);
                } else {
                        must(s.damage_from < s.damage_to && s.damage_to <= size);
                }
                rc = 0;
        }
        mlog_scan_deinit(&s);
        look(m);
        mailbox_free(&m);
}

/* Checksums, places and lengths as a writer would have left them. */
static void make_whole(uint8_t *image, size_t size, uint32_t salt)
{
        for (size_t at = MLOG_SEGMENT_HEADER; at + sizeof(struct mlog_header) <= size;) {
                struct mlog_header h;
                size_t room = size - at - sizeof h;

                memcpy(&h, image + at, sizeof h);
                h.magic = RECORD_MAGIC;
                h.segment = 1;
                h.offset = at;
                h.type %= MLOG_TYPE_MAX + 2;
                h.front_len %= room + 1 < 4096 ? room + 1 : 4096;
                h.body_len %= (room - h.front_len) + 1 < 4096 ? (room - h.front_len) + 1 : 4096;
                h.front_crc = crc32c(0, image + at + sizeof h, h.front_len);
                h.crc = crc32c(salt, &h, sizeof h - 4);
                memcpy(image + at, &h, sizeof h);
                at += mlog_align(sizeof h + h.front_len + h.body_len);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct err err = ERR_INIT;
        uint8_t *image;

        if (size < 1)
                return 0;
        image = malloc(MLOG_SEGMENT_HEADER + size);
        must(image != NULL);
        if (data[0] == 0) {
                memcpy(image, data + 1, size - 1);
                scan(image, size - 1);
        } else if (data[0] == 1) {
                uint64_t magic = 0x01474f4c44525943ull, id = 1;
                uint32_t version = 1, salt = 7, crc;

                memset(image, 0, MLOG_SEGMENT_HEADER);
                memcpy(image, &magic, 8);
                memcpy(image + 8, &version, 4);
                memcpy(image + SALT_AT, &salt, 4);
                memcpy(image + 16, &id, 8);
                memcpy(image + 24, "fuzz", 4);
                crc = crc32c(0, image, MLOG_SEGMENT_HEADER - 4);
                memcpy(image + MLOG_SEGMENT_HEADER - 4, &crc, 4);
                memcpy(image + MLOG_SEGMENT_HEADER, data + 1, size - 1);
                make_whole(image, MLOG_SEGMENT_HEADER + size - 1, salt);
                scan(image, MLOG_SEGMENT_HEADER + size - 1);
        } else {
                struct manifest m;

                if (manifest_decode(&m, data + 1, size - 1, "fuzz", &err) == 0)
                        manifest_deinit(&m);
        }
        free(image);
        return 0;
}
