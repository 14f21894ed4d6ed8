/* replica_gen - what the tests of replication share: messages by number, mailboxes as text, a master's request made of what a mailbox has. */
#ifndef T_STORE_REPLICA_GEN_H
#define T_STORE_REPLICA_GEN_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/mailbox_private.h"
#include "store/replica.h"
#include "t/store/scratch.h"

#define ID_1 "aaaaaaaaaaaaaaaaaaaaaaa1"
#define ID_2 "aaaaaaaaaaaaaaaaaaaaaaa2"
#define ACL_JOE "joe\tlrswipkxtecdan\t"

/* Message n, of about `size` octets. */
static inline void gen_text(unsigned n, size_t size, struct str *out)
{
        str_printf(out, "From: a@example.org\r\nSubject: message %u\r\nMessage-ID: <%u@example.org>\r\n\r\n", n, n);
        while (out->len + 2 < size)
                str_append_c(out, (char)('a' + (out->len + n) % 26));
        str_append_str(out, "\r\n");
}

static inline struct stage *gen_stage(struct store *s, unsigned n, size_t size)
{
        struct str text = STR_INIT;
        struct stage *stage;
        struct err err = ERR_INIT;

        gen_text(n, size, &text);
        if (stage_begin(s, store_partition_dir(s, "default"), text.len, &stage, &err) < 0 || stage_write(stage, text.data, text.len, &err) < 0 ||
            stage_finish(stage, &err) < 0) {
                fprintf(stderr, "stage: %s\n", err.text);
                abort();
        }
        str_deinit(&text);
        return stage;
}

/* What was "uploaded": by GUID. */
struct gen_uploads {
        struct store *s;
        struct { struct stage *stage; } list[4096];
        unsigned n, asked;
        bool fail;                              /* message() fails, has() does not */
};

static inline void gen_upload(struct gen_uploads *u, unsigned n, size_t size)
{
        u->list[u->n++].stage = gen_stage(u->s, n, size);
}

static inline void gen_uploads_end(struct gen_uploads *u)
{
        for (unsigned i = 0; i < u->n; i++)
                stage_unref(&u->list[i].stage);
        u->n = 0;
}

static inline struct stage *gen_find(struct gen_uploads *u, const uint8_t guid[GUID_SIZE])
{
        for (unsigned i = 0; i < u->n; i++)
                if (memcmp(stage_guid(u->list[i].stage), guid, GUID_SIZE) == 0)
                        return u->list[i].stage;
        return NULL;
}

static inline bool gen_has(void *ctx, const uint8_t guid[GUID_SIZE])
{
        return gen_find(ctx, guid) != NULL;
}

static inline int gen_message(void *ctx, const uint8_t guid[GUID_SIZE], struct stage **stage_r, struct err *err)
{
        struct gen_uploads *u = ctx;
        struct stage *stage = gen_find(u, guid);

        u->asked++;
        if (!stage || u->fail)
                return err_set(err, ERR_IO, "no such upload");
        *stage_r = stage_ref(stage);
        return 0;
}

/* A record of message n, as a master has it. */
static inline struct replica_record gen_record(struct gen_uploads *u, uint32_t uid, unsigned n, size_t size, uint64_t modseq)
{
        struct stage *stage = gen_stage(u->s, n, size);
        struct replica_record rec = { .uid = uid, .modseq = modseq, .createdmodseq = modseq, .last_updated = 1795310300 + (int64_t)uid,
                .internaldate = 1706781600 + (int64_t)n, .savedate = 1795310300, .size = stage_size(stage) };

        memcpy(rec.guid, stage_guid(stage), GUID_SIZE);
        stage_unref(&stage);
        return rec;
}

static inline struct replica_apply gen_apply(struct gen_uploads *u, const char *name, const char *uniqueid, struct replica_record *records, uint32_t n)
{
        struct replica_apply a = { .values = { .uniqueid = uniqueid, .name = name, .type = MBTYPE_NORMAL, .uidvalidity = 1795310145,
                .options = MBOX_POP3_NEW_UIDL, .highestmodseq = 1, .partition = "default", .acl = ACL_JOE, .recent_time = 1795310144,
                .last_appenddate = 1795310144, .createdmodseq = 1, .foldermodseq = 1,
                .has = REPLICA_HAS_CREATEDMODSEQ | REPLICA_HAS_FOLDERMODSEQ | REPLICA_HAS_CRC | REPLICA_HAS_CRC_ANNOT },
                .records = records, .records_n = n, .has = gen_has, .message = gen_message, .ctx = u };

        a.values.crcs.annot = REPLICA_CRC_ANNOT_EMPTY;
        for (uint32_t i = 0; i < n; i++) {
                replica_crc_record(&a.values.crcs, &records[i]);
                if (records[i].uid > a.values.last_uid)
                        a.values.last_uid = records[i].uid;
                if (records[i].modseq > a.values.highestmodseq)
                        a.values.highestmodseq = records[i].modseq;
        }
        return a;
}

static inline void gen_guid(struct str *out, const uint8_t guid[GUID_SIZE])
{
        char hex[2 * GUID_SIZE + 1];

        hex_encode(hex, guid, GUID_SIZE);
        str_append(out, hex, 8);
}

static inline void gen_dump_record(struct str *out, const struct replica_record *rec)
{
        str_printf(out, "%u flags=%x modseq=%" PRIu64 "/%" PRIu64 " dates=%" PRId64 ",%" PRId64 ",%" PRId64 " thrid=%" PRIx64 " size=%" PRIu64 " ",
                   rec->uid, rec->flags, rec->modseq, rec->createdmodseq, rec->last_updated, rec->internaldate, rec->savedate, rec->thrid, rec->size);
        gen_guid(out, rec->guid);
        for (uint32_t i = 0; i < rec->keywords_n; i++)
                str_printf(out, " %s", rec->keywords[i]);
        for (uint32_t i = 0; i < rec->annots_n; i++)
                str_printf(out, " %s[%s]=%.*s", rec->annots[i].entry, rec->annots[i].user, (int)rec->annots[i].value.len, rec->annots[i].value.p);
        str_append_c(out, '\n');
}

static inline void gen_dump_values(struct str *out, const struct replica_values *v)
{
        str_printf(out, "%s %s type=%d last_uid=%u modseq=%" PRIu64 " recent=%u,%" PRId64 " uidvalidity=%u append=%" PRId64 " pop3=%" PRId64 ",%" PRId64
                   " options=%x partition=%s acl=%s created=%" PRIu64 " folder=%" PRIu64 "\n", v->name, v->uniqueid, v->type, v->last_uid,
                   v->highestmodseq, v->recentuid, v->recent_time, v->uidvalidity, v->last_appenddate, v->pop3_last_login, v->pop3_show_after,
                   v->options, v->partition ? v->partition : "NIL", v->acl, v->createdmodseq, v->foldermodseq);
        for (uint32_t i = 0; i < v->annots_n; i++)
                str_printf(out, " %s[%s]=%.*s\n", v->annots[i].entry, v->annots[i].user, (int)v->annots[i].value.len, v->annots[i].value.p);
}

/* All that replication sees of a mailbox; also that its CRCs are those of its records. */
static inline const char *gen_dump(struct store *s, const char *name, bool from_scratch)
{
        static struct str out = STR_INIT;
        struct arena arena = ARENA_INIT, slice = ARENA_INIT;
        struct replica_record recs[7];
        struct replica_reader *r;
        struct replica_values v;
        struct replica_crcs crcs = { 0, REPLICA_CRC_ANNOT_EMPTY };
        struct err err = ERR_INIT;
        int n;

        str_clear(&out);
        if (replica_reader_open(s, name, 0, from_scratch, &arena, &v, &r, &err) < 0) {
                str_printf(&out, "error %s: %s", err_code_name(err.code), err.text);
                arena_deinit(&arena);
                return out.data;
        }
        gen_dump_values(&out, &v);
        while ((n = replica_reader_next(r, 7, &slice, recs, &err)) > 0) {
                for (int i = 0; i < n; i++) {
                        gen_dump_record(&out, &recs[i]);
                        replica_crc_record(&crcs, &recs[i]);
                }
                arena_reset(&slice);
        }
        if (n < 0)
                str_printf(&out, "error %s\n", err.text);
        if (crcs.basic != v.crcs.basic || crcs.annot != v.crcs.annot)
                str_printf(&out, "CRCs %u %u, of the records %u %u\n", v.crcs.basic, v.crcs.annot, crcs.basic, crcs.annot);
        replica_reader_close(&r);
        arena_deinit(&slice);
        arena_deinit(&arena);
        return out.data;
}

/* What a mailbox has and these records say is the same: nothing, or the difference. */
static inline char *gen_expected(const struct replica_apply *a)
{
        struct str out = STR_INIT;

        gen_dump_values(&out, &a->values);
        for (uint32_t i = 0; i < a->records_n; i++)
                gen_dump_record(&out, &a->records[i]);
        return str_take(&out);
}

#endif
