/*
 * replica_race - what a master sends, changes here, housekeeping and readers of one mailbox, all at once (SAN=thread). No keyword of a message is
 * forgotten, what is kept of CRCs is right, and the log says the same as the index. TAP.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/mailbox_private.h"
#include "store/replica.h"
#include "t/store/conf_text.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"

#define NAME "user.joe"
#define ID "aaaaaaaaaaaaaaaaaaaaaaa1"
#define RECORDS 6000u                           /* without octets, behind the one that has keywords: looking at them takes a while */
static struct store *store;
static atomic_bool stop;
static atomic_uint applied, forgotten, read_once, changed, failures;
static struct stage *stage;
static char dir[100];

static void failed(const char *what, const char *why)
{
        if (atomic_fetch_add(&failures, 1) < 5)
                printf("# %s: %s\n", what, why);
}

static bool has(void *ctx, const uint8_t guid[GUID_SIZE])
{
        (void)ctx;
        return memcmp(guid, stage_guid(stage), GUID_SIZE) == 0;
}

static int message(void *ctx, const uint8_t guid[GUID_SIZE], struct stage **stage_r, struct err *err)
{
        (void)ctx;
        (void)guid;
        (void)err;
        *stage_r = stage_ref(stage);
        return 0;
}

static struct replica_record record(uint32_t uid)
{
        struct replica_record rec = { .uid = uid, .modseq = 5, .createdmodseq = 1, .last_updated = 1795310300, .internaldate = 1706781600,
                                      .savedate = 1795310300, .size = stage_size(stage) };

        memcpy(rec.guid, stage_guid(stage), GUID_SIZE);
        return rec;
}

static struct replica_apply apply_of(struct replica_record *records, uint32_t n)
{
        return (struct replica_apply){ .values = { .uniqueid = ID, .name = NAME, .type = MBTYPE_NORMAL, .uidvalidity = 1795310145, .last_uid = RECORDS + 1,
                .highestmodseq = 5, .partition = "default", .acl = "joe\tlrswipkxtecdan\t", .createdmodseq = 1 }, .records = records, .records_n = n,
                .force = true, .has = has, .message = message };
}

/* The first message gets a keyword of its own, at a modseq that is not new. */
static void *master(void *arg)
{
        char word[20];
        const char *words[] = { word };

        (void)arg;
        for (unsigned i = 0; !atomic_load(&stop); i++) {
                struct replica_record rec = record(1);
                struct replica_apply a = apply_of(&rec, 1);
                struct err err = ERR_INIT;
                struct replica_record now;
                struct arena arena = ARENA_INIT;
                struct replica_reader *r;
                struct replica_values v;
                enum replica_code code;

                snprintf(word, sizeof word, "word%u", i % 3000);
                rec.keywords = words;
                rec.keywords_n = 1;
                code = replica_apply(store, &a, &err);
                if (code != REPLICA_OK && code != REPLICA_LOCKED)
                        failed("apply", err.text);
                if (code != REPLICA_OK)
                        continue;
                atomic_fetch_add(&applied, 1);
                usleep(300);
                if (replica_reader_open(store, NAME, 0, false, &arena, &v, &r, &err) < 0) {
                        failed("read", err.text);
                } else {
                        if (replica_reader_next(r, 1, &arena, &now, &err) != 1 || now.keywords_n != 1 || strcmp(now.keywords[0], word) != 0)
                                failed(word, "the keyword is not there");
                        replica_reader_close(&r);
                }
                arena_deinit(&arena);
        }
        return NULL;
}

static void *forget(void *arg)
{
        struct mailbox *m = arg;

        while (!atomic_load(&stop)) {
                struct err err = ERR_INIT;

                if (mailbox_forget_keywords(m, NULL, NULL, &err) < 0)
                        failed("forget", err.text);
                atomic_fetch_add(&forgotten, 1);
                usleep(1000);                   /* the lock is for all of them */
        }
        return NULL;
}

static void *reader(void *arg)
{
        (void)arg;
        while (!atomic_load(&stop)) {
                struct arena arena = ARENA_INIT;
                struct replica_record recs[REPLICA_SLICE];
                struct replica_crcs crcs = { 0, REPLICA_CRC_ANNOT_EMPTY };
                struct replica_reader *r;
                struct replica_values v;
                struct err err = ERR_INIT;
                int n;

                if (replica_reader_open(store, NAME, 0, false, &arena, &v, &r, &err) == 0) {
                        while ((n = replica_reader_next(r, REPLICA_SLICE, &arena, recs, &err)) > 0)
                                for (int i = 0; i < n; i++)
                                        replica_crc_record(&crcs, &recs[i]);
                        if (n < 0 || crcs.basic != v.crcs.basic || crcs.annot != v.crcs.annot)
                                failed("reader", n < 0 ? err.text : "the CRCs are not those of the records");
                        replica_reader_close(&r);
                        atomic_fetch_add(&read_once, 1);
                } else if (err.code != ERR_BUSY) {
                        failed("reader", err.text);
                }
                arena_deinit(&arena);
        }
        return NULL;
}

static void *change(void *arg)
{
        struct mailbox *m = arg;
        unsigned seed = 3;

        while (!atomic_load(&stop)) {
                struct uidset uids = UIDSET_INIT;
                struct flag_change flags = { .how = FLAGS_SET, .flags = (uint32_t)rand_r(&seed) & MSG_SYSTEM_FLAGS };
                struct waiter w;
                struct err err = ERR_INIT;
                uint64_t modseq;
                uint32_t first = 2 + (uint32_t)rand_r(&seed) % RECORDS;

                uidset_add_range(&uids, first, first + 5);
                waiter_init_blocking(&w);
                if (mailbox_store_flags(m, &uids, &flags, UINT64_MAX, NULL, NULL, &modseq, &w, &err) < 0 || waiter_block(&w, &err) < 0)
                        failed("flags", err.text);
                if (rand_r(&seed) % 50 == 0 && mailbox_checkpoint(m, &err) < 0)
                        failed("checkpoint", err.text);
                atomic_fetch_add(&changed, 1);
                uidset_deinit(&uids);
                usleep(2000);
        }
        return NULL;
}

static void begin(void)
{
        char text[400];
        struct store_options options = { .readonly = false };
        struct replica_record *recs = calloc(RECORDS + 1, sizeof *recs);
        struct replica_apply a;
        struct err err = ERR_INIT;

        snprintf(dir, sizeof dir, "/tmp/cyrd-replica-race-%d", (int)getpid());
        fs_mkdir_p(dir, 0700, NULL);
        log_set_level((enum log_level)-1);
        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\n", dir, dir);
        options.conf = conf_text(text);
        if (store_open(&options, &store, &err) < 0 || stage_begin(store, store_partition_dir(store, "default"), 20, &stage, &err) < 0 ||
            stage_write(stage, "Subject: x\r\n\r\ntext\r\n", 20, &err) < 0 || stage_finish(stage, &err) < 0) {
                printf("Bail out! %s\n", err.text);
                exit(1);
        }
        conf_unref(&options.conf);
        for (uint32_t i = 0; i <= RECORDS; i++)
                recs[i] = record(i + 1);
        a = apply_of(recs, RECORDS + 1);
        if (replica_apply(store, &a, &err) != REPLICA_OK) {
                printf("Bail out! %s\n", err.text);
                exit(1);
        }
        free(recs);
}

int main(void)
{
        void *(*const fns[])(void *) = { master, forget, reader, change };
        pthread_t threads[4];
        struct mailbox *m;
        struct err err = ERR_INIT;
        uint64_t until;

        begin();
        if (replica_open(store, NAME, &m, &err) < 0)
                return 1;
        until = clock_mono_us() + (getenv("RACE_SECONDS") ? (uint64_t)atoi(getenv("RACE_SECONDS")) : 4) * 1000000;
        for (int i = 0; i < 4; i++)
                pthread_create(&threads[i], NULL, fns[i], m);
        while (clock_mono_us() < until)
                usleep(10000);
        atomic_store(&stop, true);
        for (int i = 0; i < 4; i++)
                pthread_join(threads[i], NULL);
        mailbox_unref(&m);
        printf("# applied %u, forgot %u times, read %u, changed %u\n", applied, forgotten, read_once, changed);
        printf("%sok 1 - nothing was lost or summed up wrongly\n", failures ? "not " : "");
        printf("%sok 2 - all of them ran\n", applied && forgotten && read_once && changed ? "" : "not ");
        printf("1..2\n");
        stage_unref(&stage);
        store_close(&store);
        fs_remove_tree(dir, NULL);
        return failures != 0;
}
