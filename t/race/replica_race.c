/*
 * replica_race - a mailbox is used, read by replication and copied to another one all the while, which is read, compacted and applied to by a
 * second master, too (SAN=thread). Every reader's CRCs are those of its records; every request is granted or refused as a whole; in the end both
 * mailboxes are the same. TAP. Under SAN=address it shows leaks: criterion hides them.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/annot.h"
#include "store/change.h"
#include "store/mailbox_private.h"
#include "store/replica.h"
#include "t/store/scratch.h"
#include "util/clock.h"

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbb"
#define RECORDS_MAX 20000

static struct store *store;
static struct mailbox *master, *replica;
static atomic_bool stop;
static atomic_uint rounds, readings, refused, wrong;

static void complain(const char *what, const struct err *err)
{
        printf("# %s: %s\n", what, err->text);
        atomic_fetch_add(&wrong, 1);
}

static int wait_for(int rc, struct waiter *w, struct err *err)
{
        return rc == 0 ? waiter_block(w, err) : rc;
}

static void append(unsigned i)
{
        static const char text[] = "Subject: race %u\r\n\r\nbody\r\n";
        struct append_item item = { .internaldate = INT64_MIN, .savedate = INT64_MIN, .flags = i % 3 ? 0 : MSG_SEEN };
        struct append_result result;
        struct err err = ERR_INIT;
        struct waiter w;
        char buf[100];

        snprintf(buf, sizeof buf, text, i);
        waiter_init_blocking(&w);
        if (stage_begin(store, store_partition_dir(store, "default"), 0, &item.stage, &err) < 0 ||
            stage_write(item.stage, buf, strlen(buf), &err) < 0 || stage_finish(item.stage, &err) < 0 ||
            wait_for(mailbox_append(master, &item, 1, &result, &w, &err), &w, &err) < 0)
                complain("append", &err);
        stage_unref(&item.stage);
}

static void *user(void *arg)
{
        (void)arg;
        for (unsigned i = 1; !atomic_load(&stop); i++) {
                struct span kw = span_of(i % 2 ? "alpha" : "beta");
                struct flag_change change = { .how = i % 3 ? FLAGS_ADD : FLAGS_REMOVE, .flags = i % 5 ? MSG_FLAGGED : MSG_ANSWERED, .keywords = &kw,
                                              .keyword_count = 1 };
                struct annot note = { "/comment", i % 4 ? "" : "mary", { "note", i % 5 ? 4 : 2 }, 0 };
                struct uidset uids = UIDSET_INIT;
                struct err err = ERR_INIT;
                struct waiter w;
                uint64_t modseq;
                int rc = 0;

                append(i);
                uidset_add_range(&uids, 1 + i / 2, 3 + i / 2);
                waiter_init_blocking(&w);
                if (i % 4 == 0)
                        rc = mailbox_expunge(master, &uids, false, NULL, NULL, &w, &err);
                else if (i % 4 == 1)
                        rc = mailbox_annotate_messages(master, &uids, &note, 1, 0, UINT64_MAX, NULL, NULL, &modseq, &w, &err);
                else
                        rc = mailbox_store_flags(master, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err);
                if (wait_for(rc, &w, &err) < 0)
                        complain("change", &err);
                uidset_deinit(&uids);
                usleep(1000);
        }
        return NULL;
}

/* ---- one round of a master's client ---- */

struct round {
        struct replica_record *records;
        int n;
};

static const struct replica_record *find(const struct round *r, const uint8_t guid[GUID_SIZE])
{
        for (int i = 0; i < r->n; i++)
                if (memcmp(r->records[i].guid, guid, GUID_SIZE) == 0 && !(r->records[i].flags & MSG_UNLINKED))
                        return &r->records[i];
        return NULL;
}

static bool has(void *ctx, const uint8_t guid[GUID_SIZE])
{
        return find(ctx, guid) != NULL;
}

static int message(void *ctx, const uint8_t guid[GUID_SIZE], struct stage **stage_r, struct err *err)
{
        const struct replica_record *rec = find(ctx, guid);

        return rec ? replica_stage_message(master, rec->uid, guid, store_partition_dir(store, "default"), stage_r, err)
                   : err_set(err, ERR_NOTFOUND, "not there");
}

static enum replica_code synchronise(struct err *err)
{
        struct round r = { .records = calloc(RECORDS_MAX, sizeof *r.records) };
        struct replica_apply a = { .has = has, .message = message, .ctx = &r };
        enum replica_code code = REPLICA_FAILED;
        struct arena arena = ARENA_INIT;
        struct replica_reader *reader;
        struct replica_values there;

        if (replica_read(store, "user.replica", &arena, &there, err) == 0 &&
            replica_reader_open(store, "user.master", there.last_uid ? there.highestmodseq : 0, false, &arena, &a.values, &reader, err) == 0) {
                r.n = replica_reader_next(reader, RECORDS_MAX, &arena, r.records, err);
                replica_reader_close(&reader);
                a.records = r.records;
                a.records_n = r.n < 0 ? 0 : (uint32_t)r.n;
                a.values.name = there.name;
                a.values.uniqueid = there.uniqueid;
                a.since_modseq = there.last_uid ? there.highestmodseq : 0;
                a.since_crcs = there.crcs;
                if (r.n >= 0)
                        code = replica_apply(store, &a, err);
        }
        arena_deinit(&arena);
        free(r.records);
        return code;
}

/* There are two of them: one may find that the other was faster. */
static void *syncer(void *arg)
{
        (void)arg;
        while (!atomic_load(&stop)) {
                struct err err = ERR_INIT;
                enum replica_code code = synchronise(&err);

                if (code == REPLICA_OK)
                        atomic_fetch_add(&rounds, 1);
                else if (code == REPLICA_CHANGED || code == REPLICA_CHECKSUM || code == REPLICA_LOCKED)
                        atomic_fetch_add(&refused, 1);
                else
                        complain("apply", &err);
        }
        return NULL;
}

static void *reader(void *arg)
{
        const char *name = arg;

        for (unsigned i = 0; !atomic_load(&stop); i++) {
                struct replica_crcs crcs = { 0, REPLICA_CRC_ANNOT_EMPTY };
                struct arena arena = ARENA_INIT;
                struct replica_record recs[64];
                struct replica_reader *r;
                struct replica_values v;
                struct err err = ERR_INIT;
                int n;

                if (replica_reader_open(store, name, 0, i % 8 == 0, &arena, &v, &r, &err) < 0) {
                        if (err.code != ERR_BUSY)
                                complain("read", &err);
                } else {
                        while ((n = replica_reader_next(r, 64, &arena, recs, &err)) > 0)
                                for (int k = 0; k < n; k++)
                                        replica_crc_record(&crcs, &recs[k]);
                        if (n < 0 || crcs.basic != v.crcs.basic || crcs.annot != v.crcs.annot)
                                complain("CRCs of a reader", &err);
                        replica_reader_close(&r);
                        atomic_fetch_add(&readings, 1);
                }
                arena_deinit(&arena);
                usleep(2000);
        }
        return NULL;
}

static void *maintainer(void *arg)
{
        (void)arg;
        for (unsigned i = 0; !atomic_load(&stop); i++) {
                struct mailbox *m = i % 2 ? master : replica;
                struct view *v = mailbox_view(m);
                struct err err = ERR_INIT;

                if (view_count(v))
                        (void)view_uid(v, view_count(v));
                view_unref(&v);
                if ((i % 4 < 2 ? mailbox_checkpoint(m, &err) : mailbox_compact(m, &err)) < 0)
                        complain("maintenance", &err);
                usleep(20000);
        }
        return NULL;
}

static void on_change(void *ctx, const struct change *c)
{
        (void)ctx;
        /* What was applied says so, whatever thread publishes it. */
        if (c->kind == CHANGE_MAILBOX && strcmp(c->uniqueid, ID_B) == 0 && !(c->marks & CHANGE_REPLICATED))
                atomic_fetch_add(&wrong, 1);
        if (c->kind == CHANGE_MAILBOX && strcmp(c->uniqueid, ID_A) == 0 && (c->marks & CHANGE_REPLICATED))
                atomic_fetch_add(&wrong, 1);
}

static struct store *open_threaded(void)
{
        char text[1000];
        struct store_options options = { .readonly = false };
        struct err err = ERR_INIT;
        struct store *s;

        snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/mail\ndefaultpartition: default\n", scratch_dir, scratch_dir);
        options.conf = conf_text(text);
        if (store_open(&options, &s, &err) < 0) {
                fprintf(stderr, "%s\n", err.text);
                abort();
        }
        conf_unref(&options.conf);
        return s;
}

static struct mailbox *make(const char *name, const char *id)
{
        struct mbox_create what = { .name = name, .uniqueid = id, .acl = "joe\tlrswipkxtecdan\t", .uidvalidity = 77 };
        struct err err = ERR_INIT;
        struct mailbox *m;

        if (mboxlist_create(store_mboxlist(store), &what, NULL, &err) < 0 || replica_open(store, name, &m, &err) < 0) {
                fprintf(stderr, "%s\n", err.text);
                abort();
        }
        return m;
}

static bool both_are_the_same(void)
{
        struct arena arena = ARENA_INIT;
        struct replica_values a, b;
        struct err err = ERR_INIT;
        enum replica_code code = synchronise(&err);
        bool same = code == REPLICA_OK && replica_read(store, "user.master", &arena, &a, &err) == 0 &&
                    replica_read(store, "user.replica", &arena, &b, &err) == 0 && a.crcs.basic == b.crcs.basic && a.crcs.annot == b.crcs.annot &&
                    a.highestmodseq == b.highestmodseq && a.last_uid == b.last_uid && a.messages == b.messages;

        if (!same)
                printf("# code %d: %s\n", code, err.text);
        arena_deinit(&arena);
        return same;
}

int main(void)
{
        struct change_subscriber subscriber = { .fn = on_change };
        pthread_t threads[7];
        struct err err = ERR_INIT;
        bool same;

        scratch_make();
        store = open_threaded();
        master = make("user.master", ID_A);
        replica = make("user.replica", ID_B);
        if (annot_user_make(store, "mary", &err) < 0)
                abort();
        change_subscribe(store, &subscriber);
        pthread_create(&threads[0], NULL, user, NULL);
        pthread_create(&threads[1], NULL, syncer, NULL);
        pthread_create(&threads[2], NULL, syncer, NULL);
        pthread_create(&threads[3], NULL, reader, (void *)(uintptr_t)"user.master");
        pthread_create(&threads[4], NULL, reader, (void *)(uintptr_t)"user.replica");
        pthread_create(&threads[5], NULL, maintainer, NULL);
        sleep(4);
        atomic_store(&stop, true);
        for (unsigned i = 0; i < 6; i++)
                pthread_join(threads[i], NULL);
        same = both_are_the_same();
        change_unsubscribe(store, &subscriber);
        mailbox_unref(&master);
        mailbox_unref(&replica);
        store_close(&store);
        scratch_remove();
        printf("%sok 1 - nothing was wrong\n", atomic_load(&wrong) ? "not " : "");
        printf("%sok 2 - it went on: %u rounds, %u refused, %u readings\n", atomic_load(&rounds) > 5 && atomic_load(&readings) > 5 ? "" : "not ",
               atomic_load(&rounds), atomic_load(&refused), atomic_load(&readings));
        printf("%sok 3 - both mailboxes are the same\n1..3\n", same ? "" : "not ");
        return !same || atomic_load(&wrong) || atomic_load(&rounds) <= 5;
}
