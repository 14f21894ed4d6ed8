/*
 * csync - the MAILBOX item and its records as a peer sends them: whatever comes, what is taken is within the rules, and written again by the
 * server it is read back as the same, CRCs included.
 */
#include <stdlib.h>

#include "replication/server_private.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct read { struct sync_records records; struct arena scratch; };

static bool streams(void *ctx, struct span key) { (void)ctx; return span_eq_str(key, "RECORD"); }

static int element(void *ctx, struct span key, const struct dlist *d, struct err *err)
{
        struct read *r = ctx;
        int rc = sync_read_record(&r->records, d, &r->scratch, err);

        (void)key;
        must(rc == 0 || err->code == ERR_SYNTAX || err->code == ERR_LIMIT);
        arena_reset(&r->scratch);
        return rc;
}

static void check(const struct replica_record *rec)
{
        must(rec->uid > 0 && (rec->flags & ~(uint32_t)(MSG_SYSTEM_FLAGS | MSG_EXPUNGED)) == 0);
        for (uint32_t i = 0; i < rec->keywords_n; i++)
                must(replica_keyword_ok(span_of(rec->keywords[i])));
        for (uint32_t i = 0; i < rec->annots_n; i++)
                must(rec->annots[i].entry[0] == '/' && (i == 0 || annot_compare(&rec->annots[i - 1], &rec->annots[i]) < 0));
}

static struct replica_crcs crcs_of(const struct read *r)
{
        struct replica_crcs crcs = { 0, REPLICA_CRC_ANNOT_EMPTY };

        for (size_t i = 0; i < r->records.list.n; i++)
                replica_crc_record(&crcs, &r->records.list.v[i]);
        return crcs;
}

/* The item of a line and its records. False: it was refused, or is none. */
static bool read_line(struct span line, struct arena *arena, struct read *r, struct replica_values *values_r)
{
        static const struct dlist_limits limits = DLIST_LIMITS_DEFAULT;
        const struct dlist_hooks hooks = { .ctx = r, .streams = streams, .element = element };
        struct dlist_parser *p = dlist_parser_create(arena, &limits, &hooks);
        struct err err = ERR_INIT;
        struct dlist *item;
        const char *why = NULL;
        size_t used;
        bool good = dlist_parse(p, line, &used, &item, &err) == 1;

        if (good && !sync_read_values(item, arena, values_r, &why)) {
                must(why);
                good = false;
        }
        dlist_parser_destroy(&p);
        return good;
}

static void write_line(const struct replica_values *values, const struct read *r, struct str *out)
{
        struct arena scratch = ARENA_INIT;
        struct dlist_writer w;

        dlist_writer_init(&w, out, DLIST_SERVER);
        sync_write_values(&w, values);
        dlist_write_list(&w, "RECORD");
        for (size_t i = 0; i < r->records.list.n; i++)
                sync_write_record(&w, &r->records.list.v[i], &scratch);
        dlist_write_end(&w);
        dlist_write_end(&w);
        str_append(out, "\r\n", 2);
        arena_deinit(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct arena arena = ARENA_INIT;
        struct read first = { .scratch = ARENA_INIT }, second = { .scratch = ARENA_INIT };
        struct replica_values values, again;
        struct str one = STR_INIT, two = STR_INIT;

        if (read_line((struct span){ (const char *)data, size }, &arena, &first, &values)) {
                for (size_t i = 0; i < first.records.list.n; i++)
                        check(&first.records.list.v[i]);
                must(sync_name_ok(values.name) && replica_uniqueid_ok(span_of(values.uniqueid)));
                if (values.type == MBTYPE_NORMAL) {
                        struct replica_crcs a = crcs_of(&first), b;

                        write_line(&values, &first, &one);
                        must(read_line(str_span(&one), &arena, &second, &again));
                        b = crcs_of(&second);
                        must(a.basic == b.basic && a.annot == b.annot);
                        write_line(&again, &second, &two);
                        must(span_eq(str_span(&one), str_span(&two)));
                }
        }
        sync_records_deinit(&first.records);
        sync_records_deinit(&second.records);
        arena_deinit(&first.scratch);
        arena_deinit(&second.scratch);
        arena_deinit(&arena);
        str_deinit(&one);
        str_deinit(&two);
        return 0;
}
