/*
 * load - a mixed load on a store, for the power-loss test: each thread works on mailboxes of its own and notes in the recording
 * layer's log what it begins ("B <thread> …") and what was acknowledged ("E <thread> …"). powerloss.c reads the notes back.
 *   load CONF THREADS SECONDS SEED
 *
 * Notes, words separated by blanks; new messages are named by their GUID, others by their UID:
 *   create NAME | delete NAME | rename NAME TO | append NAME FLAGS GUID… | flags NAME UID FLAGS | copy NAME TO UID… |
 *   move NAME TO UID… | expunge NAME UID… | replace NAME TO UID GUID | seen NAME UID 0|1 (another user's \Seen) |
 *   annotate NAME VALUE (of the mailbox's /comment)
 * "E" lines: "E <thread> <uidnext> <modseq> <first uid of new messages or 0>", uidnext and modseq of the mailbox that changed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/annot.h"
#include "store/mailbox.h"
#include "store/mboxlist.h"
#include "store/seen.h"
#include "store/store.h"
#include "t/crash/record.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define BOXES 4
#define MSGS_MAX 400

struct box {
        char name[64];
        bool there;
        struct mailbox *mbox;
        struct { uint32_t uid; char guid[41]; bool deleted; } msgs[MSGS_MAX];
        unsigned n;
};

struct worker {
        struct store *store;
        unsigned number, seed, counter, renames;
        uint64_t end_ms;
        struct box boxes[BOXES];
        pthread_t thread;
};

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void note(const char *fmt, ...)
{
        char line[60000];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(line, sizeof line, fmt, ap);
        va_end(ap);
        if (crash_note)
                crash_note(line);
}

static void need(int rc, const char *what, const struct err *err)
{
        if (rc < 0) {
                fprintf(stderr, "load: %s: %s\n", what, err->text);
                abort();
        }
}

static void ack(struct worker *w, struct box *b, uint32_t first)
{
        struct mailbox_status st = { 0 };

        if (b && b->mbox)
                mailbox_status(b->mbox, &st);
        note("E %u %u %llu %u", w->number, st.uidnext, (unsigned long long)st.highestmodseq, first);
}

static void open_box(struct worker *w, struct box *b)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(w->store), b->name);
        struct mailbox_ident ident;
        struct err err = ERR_INIT;

        must(e != NULL);
        need(mbentry_ident(w->store, e, &ident, &err), "ident", &err);
        need(mailbox_open(w->store, &ident, &b->mbox, &err), "open", &err);
        mbentry_unref(&e);
}

static void op_create(struct worker *w, struct box *b)
{
        struct mbox_create what = { .name = b->name };
        const struct mbentry *e;
        struct err err = ERR_INIT;

        snprintf(b->name, sizeof b->name, "user.u%u.b%u", w->number, w->counter++);
        note("B %u create %s", w->number, b->name);
        need(mboxlist_create(store_mboxlist(w->store), &what, &e, &err), "create", &err);
        mbentry_unref(&e);
        b->there = true;
        b->n = 0;
        open_box(w, b);
        ack(w, b, 0);
}

static void op_delete(struct worker *w, struct box *b)
{
        struct err err = ERR_INIT;

        mailbox_unref(&b->mbox);
        note("B %u delete %s", w->number, b->name);
        need(mboxlist_delete(store_mboxlist(w->store), b->name, true, &err), "delete", &err);
        b->there = false;
        ack(w, NULL, 0);
}

static void op_rename(struct worker *w, struct box *b)
{
        char to[64];
        struct err err = ERR_INIT;

        snprintf(to, sizeof to, "user.u%u.b%u", w->number, w->counter++);
        note("B %u rename %s %s", w->number, b->name, to);
        need(mboxlist_rename(store_mboxlist(w->store), b->name, to, true, NULL, &err), "rename", &err);
        strcpy(b->name, to);
        ack(w, b, 0);
}

static size_t body_size(struct worker *w)
{
        switch (rand_r(&w->seed) % 24) {
        case 0:
                return 70000 + (size_t)(rand_r(&w->seed) % 30000);       /* a blob */
        case 1:
                return 20000;
        default:
                return 50 + (size_t)(rand_r(&w->seed) % 3000);
        }
}

static void op_append(struct worker *w, struct box *b)
{
        unsigned n = rand_r(&w->seed) % 5 == 0 ? 3 : 1;
        struct append_item items[3];
        struct append_result result;
        struct waiter waiter;
        struct err err = ERR_INIT;
        const struct mbentry *e;
        char guids[200] = "";
        unsigned flags = rand_r(&w->seed) % 2 ? MSG_SEEN : 0;

        if (b->n + n > MSGS_MAX)
                return;
        e = mboxlist_find(store_mboxlist(w->store), b->name);
        for (unsigned i = 0; i < n; i++) {
                char head[200];
                size_t size = body_size(w);
                char *body = malloc(size);
                struct stage *stage;
                int len = snprintf(head, sizeof head, "From: a@b\r\nSubject: %u.%u\r\n\r\n", w->number, w->counter++);

                memset(body, 'a' + rand_r(&w->seed) % 26, size);
                need(stage_begin(w->store, store_partition_dir(w->store, e->partition), 0, &stage, &err), "stage", &err);
                need(stage_write(stage, head, (size_t)len, &err), "stage", &err);
                need(stage_write(stage, body, size, &err), "stage", &err);
                need(stage_finish(stage, &err), "stage", &err);
                free(body);
                items[i] = (struct append_item){ .stage = stage, .flags = flags, .internaldate = INT64_MIN, .savedate = INT64_MIN };
                hex_encode(b->msgs[b->n + i].guid, stage_guid(stage), GUID_SIZE);
                strcat(guids, " ");
                strcat(guids, b->msgs[b->n + i].guid);
        }
        mbentry_unref(&e);
        note("B %u append %s %u%s", w->number, b->name, flags, guids);
        waiter_init_blocking(&waiter);
        need(mailbox_append(b->mbox, items, n, &result, &waiter, &err), "append", &err);
        need(waiter_block(&waiter, &err), "append", &err);
        for (unsigned i = 0; i < n; i++) {
                b->msgs[b->n + i].uid = result.first_uid + i;
                b->msgs[b->n + i].deleted = false;
                stage_unref(&items[i].stage);
        }
        b->n += n;
        ack(w, b, result.first_uid);
}

static void op_flags(struct worker *w, struct box *b)
{
        static const uint32_t choices[] = { 0, MSG_SEEN, MSG_FLAGGED, MSG_SEEN | MSG_ANSWERED, MSG_DRAFT };
        struct flag_change change = { .how = FLAGS_SET, .flags = choices[rand_r(&w->seed) % 5] };
        unsigned i = b->n ? (unsigned)rand_r(&w->seed) % b->n : 0;
        struct uidset uids = UIDSET_INIT, modified = UIDSET_INIT;
        struct waiter waiter;
        uint64_t modseq;
        struct err err = ERR_INIT;

        if (!b->n)
                return;
        note("B %u flags %s %u %u", w->number, b->name, b->msgs[i].uid, change.flags);
        uidset_add(&uids, b->msgs[i].uid);
        waiter_init_blocking(&waiter);
        need(mailbox_store_flags(b->mbox, &uids, &change, UINT64_MAX, &modified, NULL, &modseq, &waiter, &err), "flags", &err);
        need(waiter_block(&waiter, &err), "flags", &err);
        uidset_deinit(&uids);
        uidset_deinit(&modified);
        ack(w, b, 0);
}

static void op_seen(struct worker *w, struct box *b)
{
        unsigned i = b->n ? (unsigned)rand_r(&w->seed) % b->n : 0, yes = (unsigned)rand_r(&w->seed) % 3 > 0;
        struct flag_change change = { .how = yes ? FLAGS_ADD : FLAGS_REMOVE, .flags = MSG_SEEN };
        struct uidset uids = UIDSET_INIT;
        struct waiter waiter;
        uint64_t modseq;
        struct err err = ERR_INIT;

        if (!b->n)
                return;
        note("B %u seen %s %u %u", w->number, b->name, b->msgs[i].uid, yes);
        need(seen_open(w->store, mailbox_uniqueid(b->mbox), "other", &change.seen, &err), "seen", &err);
        uidset_add(&uids, b->msgs[i].uid);
        waiter_init_blocking(&waiter);
        need(mailbox_store_flags(b->mbox, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &waiter, &err), "seen", &err);
        need(waiter_block(&waiter, &err), "seen", &err);
        seen_unref(&change.seen);
        uidset_deinit(&uids);
        ack(w, b, 0);
}

static void op_annotate(struct worker *w, struct box *b)
{
        char value[32];
        struct annot a = { "/comment", "", { value, 0 }, 0 };
        struct waiter waiter;
        struct err err = ERR_INIT;

        a.value.len = (size_t)snprintf(value, sizeof value, "%u.%u", w->number, w->counter++);
        note("B %u annotate %s %s", w->number, b->name, value);
        waiter_init_blocking(&waiter);
        need(mailbox_annotate(b->mbox, &a, 1, &waiter, &err), "annotate", &err);
        need(waiter_block(&waiter, &err), "annotate", &err);
        ack(w, b, 0);
}

/* Some of the box's messages: their places in *which, their UIDs as text (12 octets each) and as a set. */
static unsigned pick(struct worker *w, struct box *b, unsigned max, unsigned *which, char *text, struct uidset *uids)
{
        unsigned n = 0;

        *text = '\0';
        for (unsigned i = 0; i < b->n && n < max; i++)
                if (rand_r(&w->seed) % 4 == 0) {
                        which[n++] = i;
                        text += sprintf(text, " %u", b->msgs[i].uid);
                        uidset_add(uids, b->msgs[i].uid);
                }
        return n;
}

static void drop(struct box *b, const unsigned *which, unsigned n)
{
        for (unsigned k = n; k-- > 0;) {
                memmove(&b->msgs[which[k]], &b->msgs[which[k] + 1], (b->n - which[k] - 1) * sizeof b->msgs[0]);
                b->n--;
        }
}

static void op_copy(struct worker *w, struct box *b, struct box *to, bool move)
{
        struct uidset uids = UIDSET_INIT, copied = UIDSET_INIT;
        struct copy_mask mask = { .drop_flags = 0 };
        struct append_result result;
        struct waiter waiter;
        struct err err = ERR_INIT;
        unsigned which[8], n;
        char text[8 * 12 + 1];

        if (b == to || !to->there || to->n + 8 > MSGS_MAX)
                return;
        n = pick(w, b, 8, which, text, &uids);
        if (n) {
                note("B %u %s %s %s%s", w->number, move ? "move" : "copy", b->name, to->name, text);
                waiter_init_blocking(&waiter);
                need((move ? mailbox_move : mailbox_copy)(b->mbox, &uids, to->mbox, &mask, &copied, &result, &waiter, &err), "copy", &err);
                need(waiter_block(&waiter, &err), "copy", &err);
                must(uidset_count(&copied) == n);
                for (unsigned i = 0; i < n; i++) {
                        to->msgs[to->n] = b->msgs[which[i]];
                        to->msgs[to->n++].uid = result.first_uid + i;
                }
                if (move)
                        drop(b, which, n);
                ack(w, to, result.first_uid);
        }
        uidset_deinit(&uids);
        uidset_deinit(&copied);
}

static void op_replace(struct worker *w, struct box *b, struct box *to)
{
        unsigned at[1] = { b->n ? (unsigned)rand_r(&w->seed) % b->n : 0 };
        struct append_item item = { .internaldate = INT64_MIN, .savedate = INT64_MIN };
        const struct mbentry *e;
        struct append_result result;
        struct waiter waiter;
        struct err err = ERR_INIT;
        char guid[41], head[100];
        size_t size = body_size(w);
        char *body;
        int len;

        if (!b->n || !to->there || to->n + 1 > MSGS_MAX)
                return;
        e = mboxlist_find(store_mboxlist(w->store), to->name);
        body = malloc(size);
        memset(body, 'A' + rand_r(&w->seed) % 26, size);
        len = snprintf(head, sizeof head, "Subject: %u.%u\r\n\r\n", w->number, w->counter++);
        need(stage_begin(w->store, store_partition_dir(w->store, e->partition), 0, &item.stage, &err), "stage", &err);
        need(stage_write(item.stage, head, (size_t)len, &err), "stage", &err);
        need(stage_write(item.stage, body, size, &err), "stage", &err);
        need(stage_finish(item.stage, &err), "stage", &err);
        free(body);
        mbentry_unref(&e);
        hex_encode(guid, stage_guid(item.stage), GUID_SIZE);
        note("B %u replace %s %s %u %s", w->number, b->name, to->name, b->msgs[at[0]].uid, guid);
        waiter_init_blocking(&waiter);
        need(mailbox_replace(b->mbox, b->msgs[at[0]].uid, to->mbox, &item, &result, &waiter, &err), "replace", &err);
        need(waiter_block(&waiter, &err), "replace", &err);
        must(result.count == 1);
        stage_unref(&item.stage);
        drop(b, at, 1);
        to->msgs[to->n].uid = result.first_uid;
        to->msgs[to->n].deleted = false;
        strcpy(to->msgs[to->n++].guid, guid);
        ack(w, to, result.first_uid);
}

static void op_expunge(struct worker *w, struct box *b)
{
        struct uidset uids = UIDSET_INIT, gone = UIDSET_INIT;
        struct waiter waiter;
        struct err err = ERR_INIT;
        unsigned which[8], n;
        char text[8 * 12 + 1];
        uint64_t modseq;

        n = pick(w, b, 8, which, text, &uids);
        if (n) {
                note("B %u expunge %s%s", w->number, b->name, text);
                waiter_init_blocking(&waiter);
                need(mailbox_expunge(b->mbox, &uids, false, &gone, &modseq, &waiter, &err), "expunge", &err);
                need(waiter_block(&waiter, &err), "expunge", &err);
                must(uidset_count(&gone) == n);
                drop(b, which, n);
                ack(w, b, 0);
        }
        uidset_deinit(&uids);
        uidset_deinit(&gone);
}

static void *work(void *arg)
{
        struct worker *w = arg;

        while (clock_mono_ms() < w->end_ms) {
                struct box *b = &w->boxes[rand_r(&w->seed) % BOXES];
                int what = rand_r(&w->seed) % 100;
                struct err err = ERR_INIT;

                /* Slow enough that flag changes get older than the second they may take. */
                usleep((useconds_t)(rand_r(&w->seed) % 6000));
                if (!b->there)
                        op_create(w, b);
                else if (what < 45)
                        op_append(w, b);
                else if (what < 55)
                        op_flags(w, b);
                else if (what < 62)
                        op_seen(w, b);
                else if (what < 65)
                        op_annotate(w, b);
                else if (what < 74)
                        op_copy(w, b, &w->boxes[rand_r(&w->seed) % BOXES], false);
                else if (what < 81)
                        op_copy(w, b, &w->boxes[rand_r(&w->seed) % BOXES], true);
                else if (what < 85)
                        op_replace(w, b, what % 2 ? b : &w->boxes[rand_r(&w->seed) % BOXES]);
                else if (what < 91)
                        op_expunge(w, b);
                else if (what < 94)
                        op_rename(w, b);
                else if (what < 96)
                        op_delete(w, b);
                else if (what < 98)
                        need(mailbox_checkpoint(b->mbox, &err), "checkpoint", &err);
                else if (mailbox_purge_expunged(b->mbox, clock_wall_s() + 1, &err) < 0 || mailbox_compact(b->mbox, &err) < 0)
                        need(-1, "purge and compact", &err);
        }
        for (unsigned i = 0; i < BOXES; i++)
                mailbox_unref(&w->boxes[i].mbox);
        return NULL;
}

int main(int argc, char **argv)
{
        struct store_options options = { 0 };
        struct worker *workers;
        struct store *store;
        struct diag diag;
        struct err err = ERR_INIT;
        unsigned threads;

        if (argc != 5) {
                fprintf(stderr, "usage: load CONF THREADS SECONDS SEED\n");
                return 2;
        }
        log_open(LOG_TO_STDERR, "load", -1, LOG_WARN);
        threads = (unsigned)atoi(argv[2]);
        diag_init(&diag);
        need(conf_load(argv[1], NULL, &options.conf, &diag, &err), "configuration", &err);
        need(store_open(&options, &store, &err), "store", &err);
        for (unsigned i = 0; i < threads; i++) {
                char name[32];
                struct mbox_create what = { .name = name };
                const struct mbentry *e;

                snprintf(name, sizeof name, "user.u%u", i);
                need(mboxlist_create(store_mboxlist(store), &what, &e, &err), "user", &err);
                mbentry_unref(&e);
        }
        note("start");
        workers = calloc(threads, sizeof *workers);
        for (unsigned i = 0; i < threads; i++) {
                workers[i].store = store;
                workers[i].number = i;
                workers[i].seed = (unsigned)atoi(argv[4]) * 1000 + i;
                workers[i].end_ms = clock_mono_ms() + (uint64_t)atoi(argv[3]) * 1000;
                must(thread_start(&workers[i].thread, "load", 1 << 20, work, &workers[i]) == 0);
        }
        for (unsigned i = 0; i < threads; i++)
                pthread_join(workers[i].thread, NULL);
        note("stop");
        store_close(&store);
        conf_unref(&options.conf);
        diag_deinit(&diag);
        free(workers);
        return 0;
}
