/*
 * load - a mixed load on a store, for the power-loss test: each thread works on mailboxes of its own and notes in the recording
 * layer's log what it begins ("B <thread> …") and what was acknowledged ("E <thread> …"). powerloss.c reads the notes back.
 *   load ROOT THREADS SECONDS SEED
 * In ROOT are the directories etc, spool and second, each for itself: what makes the configuration directory's name durable must not
 * do so for a partition's. A third partition is on the second's file system. A thread of its own moves mailboxes to and fro between them, all
 * but those of the first worker, which the model has no part in: wherever they are, they hold what they should.
 *
 * Notes, words separated by blanks; new messages are named by their GUID, others by their UID; FLAGS is a number, the keyword k0 256, k1 512 …:
 *   create NAME | delete NAME | rename NAME TO | append NAME FLAGS REMARK GUID… ("-": none) | flags NAME UID FLAGS | copy NAME TO UID… |
 *   move NAME TO UID… (with the other user's \Seen) | expunge NAME UID… | restore NAME UID… (expunged just before) | replace NAME TO UID GUID |
 *   seen NAME UID 0|1 (another user's \Seen) | annotate NAME VALUE (of the mailbox's /comment) |
 *   remark NAME UID VALUE (of the message's /comment) | mine NAME UID VALUE (another user's private one) |
 *   apply NAME UID FLAGS UID GUID… (replication, one batch: the first one's flags, the second is expunged – 0: none –, new ones) |
 *   script NAME TEXT | activate NAME | deactivate NAME | unscript NAME (a Sieve script of the user, called as the mailbox is) |
 *   litter NAME UID N (so many annotations under names that are never used again; 0: they are removed) | subscribe NAME | unsubscribe NAME |
 *   quota NAME LIMIT (0: none; it has a root of its own otherwise)
 * "E" lines: "E <thread> <uidnext> <modseq> <first uid of new messages or 0> <uidvalidity>", of the mailbox that changed.
 * The store's own: opening, closed (a clean stop); dump, dumped (a checkpoint of the databases); second (a second partition is in use);
 * damage, repaired (the load has damaged the databases; the store came back).
 *
 * The load is a row of sessions, each in a process of its own, so that opening and stopping are recorded in all their forms: enum session.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/annot.h"
#include "store/db_private.h"
#include "store/duplicate.h"
#include "store/index.h"
#include "store/journal.h"
#include "store/mailbox.h"
#include "store/mboxlist.h"
#include "store/mlog.h"
#include "store/quota.h"
#include "store/seen.h"
#include "store/sort_cache.h"
#include "store/store.h"
#include "store/store_private.h"
#include "store/user.h"
#include "t/crash/load.h"
#include "t/crash/record.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"

#define LITTER 150                              /* annotations at once, of nearly a kilobyte */

#define OP_MS 6                         /* what an operation may take: on a busy machine there are as many, and it takes longer */
#define QUIET_US 1900000                /* more than powerloss allows for flags */

enum session {
        SESSION_FIRST,          /* a new store; stopped cleanly */
        SESSION_LONG,           /* most of the load; a second partition comes; ends as by kill -9 */
        SESSION_TORN,           /* some logs have a torn tail */
        SESSION_SHORT,          /* ends as by kill -9, with names changed since the last copies */
        SESSION_TABLES_KILLED,  /* the databases' tables were damaged: copies and log; killed in the middle of that */
        SESSION_TABLES,         /* the same, going on from there; killed */
        SESSION_TABLES_AGAIN,   /* the same without being killed */
        SESSION_DUMPS,          /* … and their log and copies: dumps. A manifest is lost, too, and there is a directory of no mailbox */
        SESSIONS
};

void note(const char *fmt, ...)
{
        char line[60000];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(line, sizeof line, fmt, ap);
        va_end(ap);
        if (crash_note)
                crash_note(line);
}

void need(int rc, const char *what, const struct err *err)
{
        if (rc < 0) {
                fprintf(stderr, "load: %s: %s\n", what, err->text);
                abort();
        }
}

#define ACK_FORMAT "E %u %u %llu %u %u"         /* who, UIDNEXT, HIGHESTMODSEQ, the first new UID, UIDVALIDITY */

void ack(struct worker *w, struct box *b, uint32_t first)
{
        struct mailbox_status st = { 0 };

        if (b && b->mbox)
                mailbox_status(b->mbox, &st);
        note(ACK_FORMAT, w->number, st.uidnext, (unsigned long long)st.highestmodseq, first, st.uidvalidity);
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
        bool second = w->second && (w->number == 0 ? b == &w->boxes[BOXES - 1] : rand_r(&w->seed) % 3 == 0);
        struct mbox_create what = { .name = b->name, .partition = second ? "second" : NULL };
        const struct mbentry *e;
        struct err err = ERR_INIT;

        snprintf(b->name, sizeof b->name, "user.u%u.b%u", w->number, w->counter++);
        note("B %u create %s", w->number, b->name);
        need(mboxlist_create(store_mboxlist(w->store), &what, &e, &err), "create", &err);
        mbentry_unref(&e);
        b->there = true;
        b->subscribed = b->script = false;
        b->n = 0;
        open_box(w, b);
        ack(w, b, 0);
}

static void op_subscribe(struct worker *w, struct box *b)
{
        struct err err = ERR_INIT;
        char user[16];

        snprintf(user, sizeof user, "u%u", w->number);
        note("B %u %s %s", w->number, b->subscribed ? "unsubscribe" : "subscribe", b->name);
        need(sub_set(w->store, user, b->name, !b->subscribed, &err), "subscribe", &err);
        b->subscribed = !b->subscribed;
        ack(w, NULL, 0);
}

/* A root of the mailbox's own, with limits that are never reached; it goes where the mailbox goes. */
static void op_quota(struct worker *w, struct box *b)
{
        struct err err = ERR_INIT;
        int64_t limit[QUOTA_RESOURCES] = { 0 };
        bool which[QUOTA_RESOURCES] = { [QUOTA_STORAGE] = true, [QUOTA_MESSAGE] = true };

        if (b->limit && rand_r(&w->seed) % 3 == 0) {
                b->limit = 0;
                note("B %u quota %s 0", w->number, b->name);
                need(quota_remove(w->store, b->name, &err), "quota", &err);
        } else {
                b->limit = 1000000 + (unsigned)rand_r(&w->seed) % 1000;
                limit[QUOTA_STORAGE] = limit[QUOTA_MESSAGE] = b->limit;
                note("B %u quota %s %u", w->number, b->name, b->limit);
                need(quota_set(w->store, b->name, limit, which, false, &err), "quota", &err);
                need(quota_settle(w->store, b->name, &err), "settle quota", &err);      /* a clean stop keeps what is used, then */
        }
        ack(w, NULL, 0);
}

static void op_delete(struct worker *w, struct box *b)
{
        struct err err = ERR_INIT;

        if (b->subscribed)
                op_subscribe(w, b);
        mailbox_unref(&b->mbox);
        note("B %u delete %s", w->number, b->name);
        need(mboxlist_delete(store_mboxlist(w->store), b->name, true, &err), "delete", &err);
        b->there = false;
        b->limit = 0;
        ack(w, NULL, 0);
}

static void op_rename(struct worker *w, struct box *b)
{
        char to[64];
        struct err err = ERR_INIT;

        if (b->subscribed)
                op_subscribe(w, b);
        snprintf(to, sizeof to, "user.u%u.b%u", w->number, w->counter++);
        note("B %u rename %s %s", w->number, b->name, to);
        need(mboxlist_rename(store_mboxlist(w->store), b->name, to, true, NULL, &err), "rename", &err);
        strcpy(b->name, to);
        b->script = false;
        ack(w, b, 0);
}

size_t body_size(struct worker *w)
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

/* As LMTP does for a message that is to be delivered once; here the GUID is the message id. */
static void claim(struct worker *w, struct box *b, const char *guid, struct duplicate_claim *c)
{
        struct waiter waiter;
        enum duplicate answer;
        struct err err = ERR_INIT;

        duplicate_key_make(mailbox_uniqueid(b->mbox), span_of(guid), SPAN(""), &c->key);
        do {
                waiter_init_blocking(&waiter);
                answer = duplicate_claim(w->store, c, &waiter);
                if (answer == DUPLICATE_WAIT)           /* the marks are still being read */
                        need(waiter_block(&waiter, &err), "claim", &err);
        } while (answer == DUPLICATE_WAIT);
        if (answer == DUPLICATE_LOOK)
                answer = duplicate_look(w->store, c);
        must(answer == DUPLICATE_NEW);
}

/* `size_wanted` 0: any. */
static void op_append(struct worker *w, struct box *b, unsigned n, size_t size_wanted)
{
        struct append_item items[PICK_MAX];
        struct duplicate_claim claims[PICK_MAX];
        struct append_result result;
        struct waiter waiter;
        struct err err = ERR_INIT;
        const struct mbentry *e;
        char guids[PICK_MAX * 41 + 1] = "", value[32] = "-";
        struct annot remark = { "/comment", "", { value, 1 }, 0 };
        unsigned flags = rand_r(&w->seed) % 2 ? MSG_SEEN : 0;

        if (b->n + n > MSGS_MAX)
                return;
        if (rand_r(&w->seed) % 4 == 0)
                remark.value.len = (size_t)snprintf(value, sizeof value, "%u.%u", w->number, w->counter++);
        e = mboxlist_find(store_mboxlist(w->store), b->name);
        for (unsigned i = 0; i < n; i++) {
                char head[200];
                size_t size = size_wanted ? size_wanted : body_size(w);
                char *body = malloc(size);
                struct stage *stage;
                int len = snprintf(head, sizeof head, "From: a@b\r\nSubject: %u.%u\r\n\r\n", w->number, w->counter++);

                memset(body, 'a' + rand_r(&w->seed) % 26, size);
                need(stage_begin(w->store, store_partition_dir(w->store, e->partition), 0, &stage, &err), "stage", &err);
                need(stage_write(stage, head, (size_t)len, &err), "stage", &err);
                need(stage_write(stage, body, size, &err), "stage", &err);
                need(stage_finish(stage, &err), "stage", &err);
                free(body);
                items[i] = (struct append_item){ .stage = stage, .flags = flags, .internaldate = INT64_MIN, .savedate = INT64_MIN,
                                                 .annots = &remark, .annots_n = remark.value.len > 1 };
                hex_encode(b->msgs[b->n + i].guid, stage_guid(stage), GUID_SIZE);
                strcat(guids, " ");
                strcat(guids, b->msgs[b->n + i].guid);
        }
        mbentry_unref(&e);
        note("B %u append %s %u %s%s", w->number, b->name, flags, value, guids);
        waiter_init_blocking(&waiter);
        for (unsigned i = 0; i < n; i++)
                claim(w, b, b->msgs[b->n + i].guid, &claims[i]);
        need(mailbox_append(b->mbox, items, n, &result, &waiter, &err), "append", &err);
        need(waiter_block(&waiter, &err), "append", &err);
        for (unsigned i = 0; i < n; i++) {
                duplicate_delivered(w->store, &claims[i], result.first_uid + i);
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
        unsigned keyword = (unsigned)rand_r(&w->seed) % 6;      /* 4 and 5: none */
        char name[8];
        struct span names = { name, 2 };
        struct flag_change change = { .how = FLAGS_SET, .flags = choices[rand_r(&w->seed) % 5], .keywords = &names, .keyword_count = keyword < 4 };
        unsigned i = b->n ? (unsigned)rand_r(&w->seed) % b->n : 0;
        struct uidset uids = UIDSET_INIT, modified = UIDSET_INIT;
        struct waiter waiter;
        uint64_t modseq;
        struct err err = ERR_INIT;

        if (!b->n)
                return;
        snprintf(name, sizeof name, "k%u", keyword);
        note("B %u flags %s %u %u", w->number, b->name, b->msgs[i].uid, change.flags | (keyword < 4 ? 256u << keyword : 0));
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

static void annotate_one(struct worker *w, struct box *b, unsigned i, const struct annot *set, unsigned n, const char *what)
{
        struct uidset uids = UIDSET_INIT;
        struct waiter waiter;
        struct err err = ERR_INIT;
        uint64_t modseq;

        uidset_add(&uids, b->msgs[i].uid);
        waiter_init_blocking(&waiter);
        need(mailbox_annotate_messages(b->mbox, &uids, set, n, 0, UINT64_MAX, NULL, NULL, &modseq, &waiter, &err), what, &err);
        need(waiter_block(&waiter, &err), what, &err);
        uidset_deinit(&uids);
        ack(w, b, 0);
}

/* Shared ones, and another user's, who may have none yet. */
static void op_remark(struct worker *w, struct box *b)
{
        unsigned i = b->n ? (unsigned)rand_r(&w->seed) % b->n : 0;
        bool mine = rand_r(&w->seed) % 2;
        char value[32];
        struct annot a = { "/comment", mine ? "other" : "", { value, 0 }, 0 };
        struct err err = ERR_INIT;

        if (!b->n)
                return;
        if (mine)
                need(annot_user_make(w->store, "other", &err), "key", &err);
        a.value.len = (size_t)snprintf(value, sizeof value, "%u.%u", w->number, w->counter++);
        note("B %u %s %s %u %s", w->number, mine ? "mine" : "remark", b->name, b->msgs[i].uid, value);
        annotate_one(w, b, i, &a, 1, "remark");
}

/* What is set and removed under ever new names leaves rows behind, until compaction writes all others anew. */
static void op_litter(struct worker *w, struct box *b)
{
        unsigned i = b->n ? (unsigned)rand_r(&w->seed) % b->n : 0;
        static _Thread_local char names[LITTER][900];
        struct annot set[LITTER];

        if (!b->n)
                return;
        for (unsigned k = 0; k < LITTER; k++) {
                int n = snprintf(names[k], sizeof names[k], "/litter/%u/%u/%u/", w->number, w->counter, k);

                memset(names[k] + n, 'x', sizeof names[k] - 1 - (size_t)n);
                set[k] = (struct annot){ names[k], "", SPAN("1"), 0 };
        }
        w->counter++;
        note("B %u litter %s %u %u", w->number, b->name, b->msgs[i].uid, LITTER);
        annotate_one(w, b, i, set, LITTER, "litter");
        for (unsigned k = 0; k < LITTER; k++)
                set[k].value.p = NULL;
        note("B %u litter %s %u 0", w->number, b->name, b->msgs[i].uid);
        annotate_one(w, b, i, set, LITTER, "litter");
}

/* Some of the box's messages, with PICK_MAX the last so many: their places in *which, their UIDs as text (12 octets each) and as a set. */
static unsigned pick(struct worker *w, struct box *b, unsigned max, unsigned *which, char *text, struct uidset *uids)
{
        unsigned n = 0, from = max == PICK_MAX && b->n > max ? b->n - max : 0;

        *text = '\0';
        for (unsigned i = from; i < b->n && n < max; i++)
                if (max == PICK_MAX || rand_r(&w->seed) % 4 == 0) {
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

static void transfer(struct box *b, struct box *to, const unsigned *which, unsigned n, uint32_t first_uid, bool move)
{
        for (unsigned i = 0; i < n; i++) {
                to->msgs[to->n] = b->msgs[which[i]];
                to->msgs[to->n++].uid = first_uid + i;
        }
        if (move)
                drop(b, which, n);
}

/* What became of the move that the last process was killed in: it happened ("E"), or did not ("A", whose effect is none). */
static void settle(struct worker *w)
{
        struct box *b = &w->boxes[w->moving.from], *to = &w->boxes[w->moving.to];
        struct msg msg;
        struct err err = ERR_INIT;

        if (!w->moving.on)
                return;
        w->moving.on = false;
        if (mailbox_message(b->mbox, b->msgs[w->moving.which[0]].uid, &msg, &err) == 0 && !(msg.flags & MSG_EXPUNGED)) {
                note("A %u", w->number);
                return;
        }
        must(mailbox_message(to->mbox, w->moving.to_uidnext, &msg, &err) == 0);
        transfer(b, to, w->moving.which, w->moving.n, w->moving.to_uidnext, true);
        ack(w, to, w->moving.to_uidnext);
}

struct moved { struct worker *w; struct box *b, *to; const unsigned *which; unsigned n; uint32_t first_uid; };

static void note_moved(void *ctx)
{
        struct moved *m = ctx;

        m->w->moving.on = false;
        transfer(m->b, m->to, m->which, m->n, m->first_uid, true);
}

/* What the next session takes for settled is what is noted as acknowledged. */
static void ack_move(struct worker *w, struct box *to, struct moved *moved)
{
        struct mailbox_status st;
        char line[200];

        mailbox_status(to->mbox, &st);
        snprintf(line, sizeof line, ACK_FORMAT, w->number, st.uidnext, (unsigned long long)st.highestmodseq, moved->first_uid, st.uidvalidity);
        if (crash_note_then)
                crash_note_then(line, note_moved, moved);
        else
                note_moved(moved);
}

static atomic_uint stopping;              /* so many threads may be killed at any moment */

static void op_copy(struct worker *w, struct box *b, struct box *to, bool move, unsigned max)
{
        struct uidset uids = UIDSET_INIT, copied = UIDSET_INIT;
        struct copy_mask mask = { .shared_annots = true, .private_annots = "other", .everyones_seen = move };
        struct append_result result;
        struct waiter waiter;
        struct err err = ERR_INIT;
        unsigned which[PICK_MAX], n;
        char text[PICK_MAX * 12 + 1];

        if (b == to || !to->there || to->n + max > MSGS_MAX)
                return;
        for (unsigned i = 0; move && i < max && i < 5; i++)     /* what is to go along */
                if (!atomic_load(&stopping))            /* nothing but the move is half done then */
                        op_seen(w, b);
        n = pick(w, b, max, which, text, &uids);
        if (n && move) {
                struct mailbox_status st;

                mailbox_status(to->mbox, &st);
                w->moving.from = (unsigned)(b - w->boxes);
                w->moving.to = (unsigned)(to - w->boxes);
                w->moving.n = n;
                memcpy(w->moving.which, which, sizeof which);
                w->moving.to_uidnext = st.uidnext;
                w->moving.on = true;
        }
        if (n) {
                note("B %u %s %s %s%s", w->number, move ? "move" : "copy", b->name, to->name, text);
                waiter_init_blocking(&waiter);
                need((move ? mailbox_move : mailbox_copy)(b->mbox, &uids, to->mbox, &mask, &copied, &result, &waiter, &err), "copy", &err);
                need(waiter_block(&waiter, &err), "copy", &err);
                must(uidset_count(&copied) == n);
                if (move) {
                        ack_move(w, to, &(struct moved){ w, b, to, which, n, result.first_uid });
                } else {
                        transfer(b, to, which, n, result.first_uid, false);
                        ack(w, to, result.first_uid);
                }
        }
        uidset_deinit(&uids);
        uidset_deinit(&copied);
}

static void op_replace(struct worker *w, struct box *b, struct box *to, size_t size)
{
        unsigned at[1] = { b->n ? (unsigned)rand_r(&w->seed) % b->n : 0 };
        struct append_item item = { .internaldate = INT64_MIN, .savedate = INT64_MIN };
        const struct mbentry *e;
        struct append_result result;
        struct waiter waiter;
        struct err err = ERR_INIT;
        char guid[41], head[100];
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
        unsigned which[PICK_MAX], n;
        char text[PICK_MAX * 12 + 1];
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

/* Expunged, and brought back under new UIDs. */
static void op_restore(struct worker *w, struct box *b, unsigned max)
{
        struct unexpunge how = { .since = INT64_MIN };
        struct uidset uids = UIDSET_INIT, gone = UIDSET_INIT, back = UIDSET_INIT;
        struct append_result result;
        struct waiter waiter;
        struct err err = ERR_INIT;
        unsigned which[PICK_MAX], n;
        char text[PICK_MAX * 12 + 1];
        uint64_t modseq;

        if (w->unlinks)
                return;
        n = pick(w, b, max, which, text, &uids);
        if (n) {
                note("B %u expunge %s%s", w->number, b->name, text);
                waiter_init_blocking(&waiter);
                need(mailbox_expunge(b->mbox, &uids, false, &gone, &modseq, &waiter, &err), "expunge", &err);
                need(waiter_block(&waiter, &err), "expunge", &err);
                must(uidset_count(&gone) == n);
                ack(w, b, 0);
                note("B %u restore %s%s", w->number, b->name, text);
                waiter_init_blocking(&waiter);
                need(mailbox_unexpunge(b->mbox, &uids, &how, &back, &result, &waiter, &err), "restore", &err);
                need(waiter_block(&waiter, &err), "restore", &err);
                must(uidset_count(&back) == n);
                transfer(b, b, which, n, result.first_uid, true);
                ack(w, b, result.first_uid);
        }
        uidset_deinit(&uids);
        uidset_deinit(&gone);
        uidset_deinit(&back);
}

static bool never_over(void *ctx)
{
        (void)ctx;
        return false;
}

/* Its headers are read, and what they say is filed (store/sort_file.h). That is derived: nothing is acknowledged. */
static void op_sort(struct box *b)
{
        struct sort_wanted wanted[MSGS_MAX];
        const struct sort_facts *facts[MSGS_MAX];
        struct sort_loader loader;
        struct err err = ERR_INIT;
        uint32_t done = 0;

        for (unsigned i = 0; i < b->n; i++) {
                struct msg msg;

                need(mailbox_message(b->mbox, b->msgs[i].uid, &msg, &err), "message", &err);
                wanted[i] = (struct sort_wanted){ msg.uid, sort_check(msg.guid) };
        }
        sort_loader_init(&loader, b->mbox);
        must(sort_loader_run(&loader, wanted, facts, b->n, &done, never_over, NULL));
        sort_loader_deinit(&loader);
}

/* More than one batch holds: built in a segment of its own, and adopted. */
static void op_big(struct worker *w, struct box *b)
{
        struct box *to = &w->boxes[b == w->boxes], *other = &w->boxes[BOXES - 1];
        struct err err = ERR_INIT;

        if (b == other || !to->there || b->n + PICK_MAX > MSGS_MAX || to->n + 4 * PICK_MAX > MSGS_MAX)
                return;
        w->big_done = true;
        if (other->there)
                op_delete(w, other);
        op_create(w, other);
        op_append(w, b, 1, 70000);                      /* its blob is no link there, but a copy */
        op_copy(w, b, other, false, PICK_MAX);
        op_replace(w, b, other, 70000);
        op_append(w, b, PICK_MAX, 50000);
        need(mailbox_checkpoint(to->mbox, &err), "checkpoint", &err);
        op_copy(w, b, to, false, PICK_MAX);
        need(mailbox_checkpoint(to->mbox, &err), "checkpoint", &err);
        op_append(w, to, 1, 100);
        op_copy(w, b, to, true, PICK_MAX);
        op_restore(w, to, PICK_MAX);
        /* Most of it goes again: the segment that is written to is left, and compacted. */
        while (b->n > 3)
                op_expunge(w, b);
        if (mailbox_purge_expunged(b->mbox, clock_wall_s() + 1, NULL, &err) < 0 || mailbox_compact(b->mbox, &err) < 0)
                need(-1, "purge and compact", &err);
        op_append(w, b, 1, 100);
        op_apply(w, b, PICK_MAX, 50000);                /* built aside as well */
        op_apply(w, b, 1, 70000);
        for (unsigned i = 0; i < 2; i++)                /* so many are worth filing what their headers say */
                op_append(w, to, PICK_MAX, 500);
        op_sort(to);
}

/* Its mailbox moves while blobs come in: they are placed in both partitions. */
static atomic_bool moved;

static void *move_box(void *arg)
{
        struct worker *w = arg;
        struct mboxlist_move what = { .name = w->boxes[0].name };
        const struct mbentry *e = mboxlist_find(store_mboxlist(w->store), what.name);
        struct err err = ERR_INIT;
        int rc;

        must(e != NULL);
        what.partition = strcmp(e->partition, "second") == 0 ? "default" : "second";
        mbentry_unref(&e);
        note("moving %s to %s", what.name, what.partition);
        rc = mboxlist_move(store_mboxlist(w->store), &what, &err);
        note("moved %d", rc);
        if (rc < 0 && err.code != ERR_EXISTS)
                need(rc, "move", &err);
        atomic_store(&moved, true);
        return NULL;
}

static void op_blobs(struct worker *w)
{
        struct box *b = w->boxes;
        pthread_t thread;

        w->blobs_done = true;
        if (!b->there)
                op_create(w, b);
        atomic_store(&moved, false);
        must(thread_start(&thread, "move", 1 << 20, move_box, w) == 0);
        while (!atomic_load(&moved)) {
                while (b->n + 2 > MSGS_MAX / 2)
                        op_expunge(w, b);
                op_append(w, b, 1, 70000);
        }
        pthread_join(thread, NULL);
}

/* For the sessions that end as by kill -9: some checkpoints and moves are half done then. */
static atomic_uint working;
static atomic_bool dumped;               /* the last time in this session */

/* The source's name comes before the target's: the next session opens it before, and finds what arrived in files only. */
static void choose_move(struct worker *w, struct box **from_r, struct box **to_r)
{
        struct box *from, *to;
        struct err err = ERR_INIT;

        for (unsigned i = 0; i < 2; i++)
                if (!w->boxes[i].there)
                        op_create(w, &w->boxes[i]);
        from = &w->boxes[strcmp(w->boxes[0].name, w->boxes[1].name) > 0];
        to = &w->boxes[from == w->boxes];
        if (from->n < 2)
                op_append(w, from, 2, 0);
        while (to->n + 2 > MSGS_MAX)
                op_expunge(w, to);
        need(mailbox_checkpoint(to->mbox, &err), "checkpoint", &err);   /* nothing else of it is synced until then */
        *from_r = from;
        *to_r = to;
}

struct scrap { struct db *db; size_t len; };

static int put_scrap(struct db_txn *txn, void *ctx, struct err *err)
{
        static const char zeros[8192];
        struct scrap *s = ctx;

        return db_put(s->db, txn, SPAN("scrap"), (struct span){ zeros, s->len }, err) < 0 || db_del(s->db, txn, SPAN("scrap"), err) < 0 ? -1 : 0;
}

/* Commits that are not synced fill the databases' log to its last octets: the next process has to go on in a new file, while the end of the
 * old one is in the page cache only. */
static void fill_database_log(struct worker *w)
{
        DB_ENV *env = w->store->env->env;
        unsigned left = UINT_MAX;

        for (unsigned i = 0; i < 2000 && left >= 48; i++) {
                struct scrap scrap = { w->store->seen_db, left < 40000 ? (size_t)(rand_r(&w->seed) % 60) : 8000 };
                DB_LOG_STAT *stat;
                struct err err = ERR_INIT;

                must(env->log_stat(env, &stat, 0) == 0);
                left = stat->st_lg_size - stat->st_cur_offset;
                free(stat);
                if (left >= 48)
                        need(db_run(w->store->env, false, put_scrap, &scrap, &err), "fill the log", &err);
        }
}

static void stop_in_checkpoints(struct worker *w)
{
        struct box *from = NULL, *to = NULL;
        struct err err = ERR_INIT;

        for (unsigned i = 0; i < BOXES; i++)
                if (w->boxes[i].there)
                        op_flags(w, &w->boxes[i]);
        if (w->boxes[0].there)
                op_rename(w, &w->boxes[0]);
        if (w->number == 0 && w->in_move)
                choose_move(w, &from, &to);
        atomic_fetch_add(&stopping, 1);
        if (w->number == 1 && w->in_header && crash_stop_at_header) {
                while (atomic_load(&stopping) < w->threads)
                        usleep(1000);
                fill_database_log(w);
                crash_stop_at_header();
        }
        for (unsigned i = 0; i < BOXES && w->number % 2; i++)
                if (w->boxes[i].there)
                        (void)mailbox_checkpoint(w->boxes[i].mbox, &err);
        /* One move is half done for certain: what has arrived is in the page cache only. */
        if (from) {
                while (atomic_load(&stopping) < w->threads)
                        usleep(1000);
                if (crash_stop_at_sync_of)
                        crash_stop_at_sync_of(mailbox_uniqueid(to->mbox));
                op_copy(w, from, to, true, 2);
        }
        /* The source is opened before its target then. */
        for (unsigned i = 0; w->number % 2 == 0; i++)
                if (w->boxes[i % (BOXES - 1)].there && w->boxes[i % (BOXES - 1) + 1].there)
                        op_copy(w, &w->boxes[i % (BOXES - 1)], &w->boxes[i % (BOXES - 1) + 1], true, 2);
        for (;;)
                pause();
}

static void *work(void *arg)
{
        struct worker *w = arg;

        for (unsigned i = 0; i < BOXES; i++)
                if (w->boxes[i].there)
                        open_box(w, &w->boxes[i]);
        settle(w);
        for (unsigned n = 0; n < w->ops || clock_mono_ms() < w->end_ms; n++) {
                struct box *b = &w->boxes[rand_r(&w->seed) % BOXES];
                int what = rand_r(&w->seed) % 100;
                struct err err = ERR_INIT;

                /* Slow enough that flag changes get older than the second they may take. */
                usleep((useconds_t)(rand_r(&w->seed) % 6000));
                if (!b->there)
                        op_create(w, b);
                else if (w->number == 0 && w->second && !w->big_done)
                        op_big(w, b);
                else if (w->number == 1 && w->second && !w->blobs_done)
                        op_blobs(w);
                else if (what < 3)
                        op_restore(w, b, 8);
                else if (what < 8)
                        op_apply(w, b, (unsigned)rand_r(&w->seed) % 3, 0);
                else if (what < 43)
                        op_append(w, b, rand_r(&w->seed) % 5 == 0 ? 3 : 1, 0);
                else if (what < 55)
                        op_flags(w, b);
                else if (what < 61)
                        op_seen(w, b);
                else if (what < 63)
                        op_sieve(w, b);
                else if (what < 64)
                        op_annotate(w, b);
                else if (what < 66)
                        op_remark(w, b);
                else if (what < 68)
                        op_litter(w, b);
                else if (what < 73)
                        op_copy(w, b, &w->boxes[rand_r(&w->seed) % BOXES], false, 8);
                else if (what < 80)
                        op_copy(w, b, &w->boxes[rand_r(&w->seed) % BOXES], true, 8);
                else if (what < 83)
                        op_replace(w, b, what % 2 ? b : &w->boxes[rand_r(&w->seed) % BOXES], body_size(w));
                else if (what < 89)
                        op_expunge(w, b);
                else if (what < 92)
                        op_rename(w, b);
                else if (what < 94)
                        op_delete(w, b);
                else if (what < 95)
                        op_subscribe(w, b);
                else if (what < 96)
                        op_sort(b);
                else if (what < 97)
                        op_quota(w, b);
                else if (what < 98)
                        need(mailbox_forget_keywords(b->mbox, NULL, NULL, &err), "forget keywords", &err);
                else if (what < 99)
                        need(mailbox_checkpoint(b->mbox, &err), "checkpoint", &err);
                else if (mailbox_purge_expunged(b->mbox, clock_wall_s() + 1, NULL, &err) < 0 || mailbox_compact(b->mbox, &err) < 0)
                        need(-1, "purge and compact", &err);
        }
        atomic_fetch_sub(&working, 1);
        if (w->quiet) {
                while (!atomic_load(&dumped))
                        usleep(1000);
                for (unsigned i = 0; i < BOXES; i++)
                        if (w->boxes[i].there)
                                op_seen(w, &w->boxes[i]);
                usleep(QUIET_US);
        }
        if (w->killed)
                stop_in_checkpoints(w);
        for (unsigned i = 0; i < BOXES; i++)
                mailbox_unref(&w->boxes[i].mbox);
        return NULL;
}

/* ---- partitions ---- */

struct mover {
        struct store *store;
        unsigned threads, seed;
        bool killed;
        pthread_t thread;
};

/* A mailbox of the user, or himself with all that is his. */
static void pick_name(struct mover *mv, char name[64], bool *tree_r)
{
        const struct mbentry *found[BOXES + 2];
        char user[16];
        unsigned n;

        snprintf(user, sizeof user, "user.u%hhu", (unsigned char)(1 + (unsigned)rand_r(&mv->seed) % (mv->threads - 1)));
        n = mboxlist_next(store_mboxlist(mv->store), user, "", found, BOXES + 2);
        snprintf(name, 64, "%.63s", n ? found[rand_r(&mv->seed) % n]->name : user);
        for (unsigned i = 0; i < n; i++)
                mbentry_unref(&found[i]);
        *tree_r = strcmp(name, user) == 0;
}

static void *move_about(void *arg)
{
        static const char *const partitions[] = { "default", "second", "third", "second", "third" };
        struct mover *mv = arg;

        while (mv->killed || atomic_load(&working)) {
                char name[64];
                struct err err = ERR_INIT;
                struct mboxlist_move what = { .name = name, .partition = partitions[rand_r(&mv->seed) % 5] };
                int rc;

                pick_name(mv, name, &what.with_children);
                note("moving %s to %s", name, what.partition);
                rc = mboxlist_move(store_mboxlist(mv->store), &what, &err);
                note("moved %d", rc);
                if (rc < 0 && err.code != ERR_EXISTS && err.code != ERR_NOTFOUND)
                        need(rc, "move", &err);
                usleep((useconds_t)(rand_r(&mv->seed) % 60000));
        }
        return NULL;
}

/* ---- sessions ---- */

struct load { const char *root; unsigned threads; uint64_t ms; struct worker *workers; struct store *store; };

/* `mode`: of expunging, NULL: the default. */
static struct conf *configuration(const struct load *l, bool second, const char *mode)
{
        char path[4200], text[13000];
        struct conf *conf;
        struct diag diag;
        struct err err = ERR_INIT;
        int n = snprintf(text, sizeof text, "configdirectory: %s/etc/conf\npartition-default: %s/spool/data\ndefaultpartition: default\n"
                         "sievedir: %s/etc/sieve\n", l->root, l->root, l->root);

        if (second)
                n += snprintf(text + n, sizeof text - (size_t)n, "partition-second: %s/second/data\npartition-third: %s/second/third\n", l->root,
                              l->root);
        if (mode)
                n += snprintf(text + n, sizeof text - (size_t)n, "expunge_mode: %s\n", mode);
        snprintf(path, sizeof path, "%s.conf", l->root);
        need(fs_replace(path, text, (size_t)n, 0600, &err), "configuration", &err);
        diag_init(&diag);
        need(conf_load(path, NULL, &conf, &diag, &err), "configuration", &err);
        diag_deinit(&diag);
        return conf;
}

static void make_users(struct load *l)
{
        for (unsigned i = 0; i < l->threads; i++) {
                char name[32];
                struct mbox_create what = { .name = name };
                const struct mbentry *e;
                struct err err = ERR_INIT;

                snprintf(name, sizeof name, "user.u%u", i);
                note("B %u create %s", i, name);
                need(mboxlist_create(store_mboxlist(l->store), &what, &e, &err), "user", &err);
                mbentry_unref(&e);
                note("E %u 0 0 0 0", i);
        }
}

static const char *expunge_mode(enum session session)
{
        return session == SESSION_TORN ? "semidelayed" : session == SESSION_TABLES_AGAIN ? "immediate" : NULL;
}

static void run_load(struct load *l, uint64_t ms, bool second, bool killed, enum session session)
{
        static struct mover mover;
        bool quiet = session == SESSION_SHORT, moves = second && l->threads > 1;

        mover = (struct mover){ .store = l->store, .threads = l->threads, .seed = (unsigned)rand_r(&l->workers[0].seed),
                                .killed = killed && !quiet };
        atomic_store(&working, l->threads);
        atomic_store(&dumped, false);
        if (moves)
                must(thread_start(&mover.thread, "mover", 1 << 20, move_about, &mover) == 0);
        for (unsigned i = 0; i < l->threads; i++) {
                struct worker *w = &l->workers[i];

                w->store = l->store;
                w->second = second;
                w->killed = killed;
                w->in_header = session == SESSION_LONG;
                w->quiet = quiet;
                w->unlinks = expunge_mode(session) != NULL;
                w->in_move = session == SESSION_TABLES;
                w->threads = l->threads;
                w->ops = (unsigned)(ms / OP_MS);
                w->end_ms = clock_mono_ms() + ms;
                must(thread_start(&w->thread, "load", 1 << 20, work, w) == 0);
        }
        while (atomic_load(&working)) {
                struct err err = ERR_INIT;

                usleep(400000);
                note("dump");
                need(store_db_checkpoint(l->store, &err), "checkpoint", &err);
                note("dumped");
                need(duplicate_prune(l->store, clock_wall_s() - 1, NULL, 0, NULL, NULL, &err), "prune", &err);
        }
        if (moves && quiet)                             /* it would sync the databases in the pause */
                pthread_join(mover.thread, NULL);
        atomic_store(&dumped, true);
        while (killed && atomic_load(&stopping) < l->threads)
                usleep(100);
        if (killed) {
                if (session == SESSION_TABLES)
                        usleep(500000);                 /* worker 0 ends it */
                usleep((useconds_t)(rand_r(&l->workers[1].seed) % 50000));
                if (crash_exit)
                        crash_exit();
                _exit(0);
        }
        for (unsigned i = 0; i < l->threads; i++)
                pthread_join(l->workers[i].thread, NULL);
        if (moves && !quiet)
                pthread_join(mover.thread, NULL);
}

static void in_each(const char *dir, void (*fn)(const char *path, const char *name, bool is_dir))
{
        DIR *d = opendir(dir);
        struct dirent *e;

        while (d && (e = readdir(d)) != NULL) {
                char path[4200];
                struct stat st;

                snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
                if (e->d_name[0] != '.' && lstat(path, &st) == 0)
                        fn(path, e->d_name, S_ISDIR(st.st_mode));
        }
        if (d)
                closedir(d);
}

static void spoil(const char *path, off_t at, size_t len)
{
        char garbage[16384];
        int fd = open(path, O_WRONLY);

        memset(garbage, 'x', sizeof garbage);
        /* Damage stays. Were it gone after the power loss, what recovery had made of the log in view of it would be wrong. */
        must(fd >= 0 && pwrite(fd, garbage, len, at) == (ssize_t)len && fsync(fd) == 0);
        close(fd);
}

static bool has_records(const char *dir, uint64_t id, off_t *end_r, struct str *path)
{
        struct stat st;

        str_clear(path);
        mlog_segment_path(path, dir, id);
        *end_r = stat(path->data, &st) == 0 ? st.st_size : 0;
        return *end_r > MLOG_SEGMENT_HEADER;
}

/* The end of a batch that was never finished. A segment that the log went on behind has none. */
static void tear_log(const char *dir, const char *uniqueid)
{
        struct manifest manifest;
        struct str path = STR_INIT;
        struct err err = ERR_INIT;
        bool last = true;
        off_t end;

        if (manifest_read(&manifest, dir, uniqueid, &err) < 0)
                return;                         /* it was being made, or removed */
        for (uint32_t i = manifest.n; i-- > 0;) {
                bool is_main = manifest.entries[i].kind == MLOG_MAIN, has = has_records(dir, manifest.entries[i].id, &end, &path);

                if (end && (!is_main || last))
                        spoil(path.data, end, 100);
                last = last && !(is_main && has);
        }
        manifest_deinit(&manifest);
        str_deinit(&path);
}

static void tear(const char *path, const char *name, bool is_dir)
{
        if (!is_dir)
                return;
        if (strlen(name) > 1)
                tear_log(path, name);
        else
                in_each(path, tear);
}

static void damage_table(const char *path, const char *name, bool is_dir)
{
        size_t len = strlen(name);

        if (!is_dir && len > 3 && strcmp(name + len - 3, ".db") == 0)
                spoil(path, 0, 16384);
}

static void damage_log(const char *path, const char *name, bool is_dir)
{
        if (!is_dir && strncmp(name, "log.", 4) == 0)
                must(unlink(path) == 0);
}

/* Of so many mailboxes; with their copies, or without. */
static unsigned manifests_to_lose, manifests_lost, copies_to_lose;

static bool same_octets(const char *a, const char *b)
{
        struct str x = STR_INIT, y = STR_INIT;
        bool same = fs_slurp(a, 1 << 20, &x, NULL) == 0 && fs_slurp(b, 1 << 20, &y, NULL) == 0 && span_eq(str_span(&x), str_span(&y));

        str_deinit(&x);
        str_deinit(&y);
        return same;
}

/* A copy is refused when it may be older: the last process may have been killed before it wrote it, or when a new segment was there already. */
static bool copy_stands_in(const char *path)
{
        char dir[4200];
        struct manifest manifest;
        struct err err = ERR_INIT;
        bool does;

        snprintf(dir, sizeof dir, "%s", path);
        *strrchr(dir, '/') = '\0';
        if (manifest_read(&manifest, dir, strrchr(dir, '/') + 1, &err) < 0)
                return false;
        does = manifest_fits(&manifest, dir);
        manifest_deinit(&manifest);
        return does;
}

static void lose_manifest(const char *path, const char *name, bool is_dir)
{
        char copy[4300];

        snprintf(copy, sizeof copy, "%s.copy", path);
        if (is_dir) {
                in_each(path, lose_manifest);
        } else if (manifests_to_lose && strcmp(name, "manifest") == 0 && same_octets(path, copy) && (copies_to_lose || copy_stands_in(path))) {
                manifests_to_lose--;
                manifests_lost++;
                must(unlink(path) == 0);
                if (copies_to_lose) {
                        copies_to_lose--;
                        must(unlink(copy) == 0);
                }
        }
}

/* A start with so few descriptors that logs are left, and the journal is kept; it is used again meanwhile. The next start has all. */
static void leave_logs(const char *dir)
{
        struct rlimit limit, few;
        struct table *left = table_create();
        struct err err = ERR_INIT;
        struct journal *j;
        uint64_t lap = 0;
        struct journal_piece piece = { .uniqueid = "nobody", .segment = 1, .offset = MLOG_SEGMENT_HEADER, .len = 8, .path = "/nowhere", .lap = &lap };
        struct span key;
        void *why, *octets;
        int fd = open("/dev/null", O_RDONLY);

        must(fd >= 0 && close(fd) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0);
        few = limit;
        few.rlim_cur = (rlim_t)fd + 2;                  /* the lap and one log */
        must(setrlimit(RLIMIT_NOFILE, &few) == 0);
        need(journal_recover(dir, left, &err), "journal", &err);
        must(setrlimit(RLIMIT_NOFILE, &limit) == 0);
        for (size_t pos = 0; table_next(left, &pos, &key, &why);)
                free(why);
        note("left %zu", table_count(left));
        table_destroy(&left);

        j = journal_create(dir, 1u << 16);
        journal_begin(j);
        octets = journal_add(j, &piece);
        must(octets);
        memset(octets, 0, piece.len);
        need(journal_commit(j, &err), "journal", &err);
        journal_destroy(&j);
}

static void before(const struct load *l, enum session session)
{
        char path[4200];
        struct err err = ERR_INIT;

        if (session == SESSION_TORN) {
                snprintf(path, sizeof path, "%s/spool/data", l->root);
                leave_logs(path);
                in_each(path, tear);
        }
        if (session == SESSION_TABLES_KILLED || session == SESSION_TABLES_AGAIN || session == SESSION_DUMPS) {
                note("damage");
                snprintf(path, sizeof path, "%s/etc/conf/db", l->root);
                in_each(path, damage_table);
        }
        if (session >= SESSION_TABLES_AGAIN) {
                char data[4200];

                /* All, as some are of mailboxes that were deleted, which nobody opens; a reconstruction is for one only. */
                manifests_to_lose = session == SESSION_DUMPS ? 1 : UINT_MAX;
                copies_to_lose = session == SESSION_DUMPS;
                snprintf(data, sizeof data, "%s/second/data", l->root);        /* no torn logs there: what a copy has behind the end is left behind */
                lose_manifest(data, "", true);
                must(manifests_lost > 0);
        }
        if (session == SESSION_DUMPS) {
                in_each(path, damage_log);
                snprintf(path, sizeof path, "%s/etc/conf/db.backup/tables", l->root);
                need(fs_remove_tree(path, &err), "remove", &err);
                snprintf(path, sizeof path, "%s/spool/data/z/z/zzz0123456789abcdefghijk", l->root);
                need(fs_mkdir_p_durable(path, 0700, &err), "orphan", &err);
                strcat(path, "/orphan.mark");
                need(fs_replace(path, "mail", 4, 0600, &err), "orphan", &err);
                note("orphan");
        }
}

/* Each mailbox is opened, or reconstructed from its log where one has lost its manifest and the copy. */
static void each_mailbox(struct load *l, bool reconstruct)
{
        const struct mbentry *e;
        char after[512] = "";

        while (mboxlist_next(store_mboxlist(l->store), "", after, &e, 1)) {
                struct mailbox_ident ident;
                struct mailbox *mbox;
                struct err err = ERR_INIT;

                snprintf(after, sizeof after, "%s", e->name);
                if (e->type == MBTYPE_NORMAL) {
                        need(mbentry_ident(l->store, e, &ident, &err), "ident", &err);
                        if (reconstruct) {
                                need(mailbox_reconstruct(l->store, &ident, &err), "reconstruct", &err);
                        } else {
                                need(mailbox_open(l->store, &ident, &mbox, &err), "open", &err);
                                mailbox_unref(&mbox);
                        }
                }
                mbentry_unref(&e);
        }
}

/* What a damaged one has of an interrupted move is known to the other when that is opened later. */
static void settle_all(struct load *l, bool reconstruct)
{
        if (reconstruct)
                each_mailbox(l, true);
        each_mailbox(l, false);
}

static void ignore(void *ctx, const char *text)
{
        (void)ctx;
        (void)text;
}

static void run_session(struct load *l, enum session session)
{
        struct store_options options = { .conf = configuration(l, session > SESSION_LONG, expunge_mode(session)), .small_databases = true,
                                         .small_files = session % 2 };
        struct err err = ERR_INIT;
        uint64_t ms = l->ms / 8;

        before(l, session);
        note("opening");
        if (session == SESSION_TABLES_KILLED)
                setenv("CRASH_STOP_AT", "/db.recover", 1);
        need(store_open(&options, &l->store, &err), "store", &err);
        if (session >= SESSION_TABLES_AGAIN)
                settle_all(l, session == SESSION_DUMPS);
        if (session >= SESSION_TABLES)
                note("repaired");
        if (session == SESSION_FIRST)
                make_users(l);
        if (session == SESSION_LONG) {
                run_load(l, ms, false, false, SESSION_FIRST);
                store_reconfigure(l->store, configuration(l, true, NULL));
                note("second");
                ms = l->ms;
        }
        run_load(l, ms, session >= SESSION_LONG, session == SESSION_LONG || session == SESSION_SHORT || session == SESSION_TABLES, session);
        if (session == SESSION_DUMPS)
                need(mboxlist_check(store_mboxlist(l->store), true, ignore, NULL, &err), "check", &err);
        note("dump");
        store_close(&l->store);
        note("dumped");
        note("closed");
        exit(0);
}

int main(int argc, char **argv)
{
        struct load l;

        if (argc != 5) {
                fprintf(stderr, "usage: load ROOT THREADS SECONDS SEED\n");
                return 2;
        }
        log_open(LOG_TO_STDERR, "load", -1, LOG_ERROR);
        index_sparse_pages = 4;                         /* small as the mailboxes are */
        l = (struct load){ .root = argv[1], .threads = (unsigned)atoi(argv[2]), .ms = (uint64_t)atoi(argv[3]) * 1000 };
        /* Shared: what one session has done is where the next goes on. */
        l.workers = mmap(NULL, l.threads * sizeof *l.workers, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        must(l.workers != MAP_FAILED);
        for (unsigned i = 0; i < l.threads; i++) {
                l.workers[i].number = i;
                l.workers[i].seed = (unsigned)atoi(argv[4]) * 1000 + i;
        }
        for (enum session s = 0; s < SESSIONS; s++) {
                pid_t pid = fork();
                int status;

                if (pid == 0)
                        run_session(&l, s);
                if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status)) {
                        fprintf(stderr, "load: session %d failed\n", (int)s);
                        return 1;
                }
        }
        return 0;
}
