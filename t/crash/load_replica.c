/* load_replica - replication's operations of the load: see load.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/replica.h"
#include "store/sieve_files.h"
#include "store/store.h"
#include "t/crash/load.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/must.h"

struct uploads { struct stage *stages[PICK_MAX]; unsigned n; };

static struct stage *find_upload(struct uploads *u, const uint8_t guid[GUID_SIZE])
{
        for (unsigned i = 0; i < u->n; i++)
                if (memcmp(stage_guid(u->stages[i]), guid, GUID_SIZE) == 0)
                        return u->stages[i];
        return NULL;
}

static bool has_upload(void *ctx, const uint8_t guid[GUID_SIZE])
{
        return find_upload(ctx, guid) != NULL;
}

static int take_upload(void *ctx, const uint8_t guid[GUID_SIZE], struct stage **stage_r, struct err *err)
{
        struct stage *stage = find_upload(ctx, guid);

        *stage_r = stage ? stage_ref(stage) : NULL;
        return stage ? 0 : err_set(err, ERR_NOTFOUND, "no such upload");
}

static void upload(struct worker *w, struct uploads *u, size_t size, struct err *err)
{
        char *body = malloc(size), head[200];
        struct stage *stage;
        int len = snprintf(head, sizeof head, "From: a@b\r\nSubject: %u.%u\r\n\r\n", w->number, w->counter++);

        memset(body, 'a' + rand_r(&w->seed) % 26, size);
        need(stage_begin(w->store, store_partition_dir(w->store, "default"), 0, &stage, err), "stage", err);
        need(stage_write(stage, head, (size_t)len, err), "stage", err);
        need(stage_write(stage, body, size, err), "stage", err);
        need(stage_finish(stage, err), "stage", err);
        free(body);
        u->stages[u->n++] = stage;
}

/* What a master would send: one message with other flags, one expunged, new ones behind a gap. The CRCs have to come out as they say. */
void op_apply(struct worker *w, struct box *b, unsigned n, size_t size_wanted)
{
        static const char *const names[] = { "k0", "k1", "k2", "k3" };
        unsigned flagged = b->n ? (unsigned)rand_r(&w->seed) % b->n : 0, gone = b->n > 1 ? (flagged + 1) % b->n : 0, k = rand_r(&w->seed) % 6;
        uint32_t flags = rand_r(&w->seed) % 2 ? MSG_SEEN : MSG_FLAGGED, gone_uid = b->n > 1 ? b->msgs[gone].uid : 0;
        struct replica_record *recs = calloc(MSGS_MAX * 4 + PICK_MAX, sizeof *recs);
        struct replica_apply a = { .has = has_upload, .message = take_upload };
        struct arena arena = ARENA_INIT;
        struct replica_reader *reader;
        struct uploads u = { .n = 0 };
        char guids[PICK_MAX * 41 + 1] = "";
        struct err err = ERR_INIT;
        uint32_t first = 0;
        int all;

        if (b->n + n > MSGS_MAX || b->n == 0) {
                free(recs);
                return;
        }
        need(replica_reader_open(w->store, b->name, 0, false, &arena, &a.values, &reader, &err), "read", &err);
        all = replica_reader_next(reader, MSGS_MAX * 4, &arena, recs, &err);
        need(all, "read", &err);
        must(all < MSGS_MAX * 4);
        replica_reader_close(&reader);
        a.since_modseq = a.values.highestmodseq;
        a.since_crcs = a.values.crcs;
        for (int i = 0; i < all; i++) {
                struct replica_record *rec = &recs[i];

                if (rec->uid != b->msgs[flagged].uid && rec->uid != gone_uid)
                        continue;
                replica_crc_record(&a.values.crcs, rec);
                rec->modseq = ++a.values.highestmodseq;
                rec->last_updated = clock_wall_s();
                if (rec->uid == gone_uid) {
                        rec->flags |= MSG_EXPUNGED;
                } else {
                        rec->flags = flags;
                        rec->keywords = &names[k % 4];
                        rec->keywords_n = k < 4;
                        rec->internaldate++;
                }
                replica_crc_record(&a.values.crcs, rec);
                recs[a.records_n++] = *rec;
        }
        first = a.values.last_uid + 1 + (uint32_t)(rand_r(&w->seed) % 3);
        for (unsigned i = 0; i < n; i++) {
                struct replica_record *rec = &recs[a.records_n++];

                upload(w, &u, size_wanted ? size_wanted : body_size(w), &err);
                *rec = (struct replica_record){ .uid = first + i, .modseq = ++a.values.highestmodseq, .createdmodseq = 1,
                        .last_updated = clock_wall_s(), .internaldate = 1000 + i, .savedate = 2000, .size = stage_size(u.stages[i]) };
                memcpy(rec->guid, stage_guid(u.stages[i]), GUID_SIZE);
                replica_crc_record(&a.values.crcs, rec);
                a.values.last_uid = rec->uid;
                hex_encode(b->msgs[b->n + i].guid, rec->guid, GUID_SIZE);
                strcat(guids, " ");
                strcat(guids, b->msgs[b->n + i].guid);
        }
        a.records = recs;
        a.ctx = &u;
        note("B %u apply %s %u %u %u%s", w->number, b->name, b->msgs[flagged].uid, flags | (k < 4 ? 256u << k : 0), gone_uid, guids);
        if (replica_apply(w->store, &a, &err) != REPLICA_OK)
                need(-1, "apply", &err);
        for (unsigned i = 0; i < n; i++) {
                b->msgs[b->n + i].uid = first + i;
                b->msgs[b->n + i].deleted = false;
                stage_unref(&u.stages[i]);
        }
        b->n += n;
        if (gone_uid) {
                memmove(&b->msgs[gone], &b->msgs[gone + 1], (b->n - gone - 1) * sizeof b->msgs[0]);
                b->n--;
        }
        arena_deinit(&arena);
        free(recs);
        ack(w, b, n ? first : 0);
}

/* The user's script that is called as the mailbox is. */
void op_sieve(struct worker *w, struct box *b)
{
        struct err err = ERR_INIT;
        char user[16], text[32];

        snprintf(user, sizeof user, "u%u", w->number);
        if (b->script && rand_r(&w->seed) % 2) {
                note("B %u unscript %s", w->number, b->name);
                need(sieve_files_remove(w->store, user, b->name + 5, &err), "remove a script", &err);
                b->script = false;
                ack(w, NULL, 0);
                return;
        }
        if (rand_r(&w->seed) % 4 == 0) {
                note("B %u deactivate %s", w->number, b->name);
                need(sieve_files_activate(w->store, user, NULL, &err), "deactivate", &err);
                ack(w, NULL, 0);
        }
        b->script = true;
        snprintf(text, sizeof text, "%u.%u", w->number, w->counter++);
        note("B %u script %s %s", w->number, b->name, text);
        need(sieve_files_write(w->store, user, b->name + 5, 1000, span_of(text), &err), "script", &err);
        ack(w, NULL, 0);
        note("B %u activate %s", w->number, b->name);
        need(sieve_files_activate(w->store, user, b->name + 5, &err), "activate", &err);
        ack(w, NULL, 0);
}
