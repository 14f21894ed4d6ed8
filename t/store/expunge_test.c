/* mailbox_expunge - what is expunged can be brought back, or not, as expunge_mode says; keywords that nobody has are forgotten. */
#include <criterion/criterion.h>
#include <sys/stat.h>

#include "store/annot.h"
#include "store/mailbox_private.h"
#include "t/store/fake_store.h"
#include "util/clock.h"

static struct store st;

static void setup(void) { fake_store_init(&st, 0); }
static void teardown(void) { fake_store_deinit(&st); }

TestSuite(expunge, .init = setup, .fini = teardown, .timeout = 60);

#define ID "aaaaaaaaaaaaaaaaaaaaaaaa"
static const char head[] = "From: a@example.org\r\nSubject: hello\r\nDate: Sun, 22 Nov 2026 03:35:22 +0000\r\n\r\n";

/* A message of that many octets, all of them `c` behind the header. */
static char *message(size_t len, char c)
{
        char *p = malloc(len + 1);

        memset(p, c, len);
        p[len] = '\0';
        memcpy(p, head, sizeof head - 1);
        return p;
}

static uint32_t append(struct mailbox *m, size_t len, char c, uint32_t flags, const char *keyword)
{
        struct err err = ERR_INIT;
        char *p = message(len, c);
        uint32_t uid = fake_append(&st, m, p, len, flags, keyword, &err);

        cr_assert(uid, "%s", err.text);
        free(p);
        return uid;
}

static void expunge(struct mailbox *m)
{
        struct waiter w;
        struct err err = ERR_INIT;

        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_expunge(m, NULL, true, NULL, NULL, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
}

static void set_flags(struct mailbox *m, const char *set, int how, uint32_t flags, const char *keyword)
{
        struct uidset uids = UIDSET_INIT;
        struct span kw = keyword ? span_of(keyword) : (struct span){ NULL, 0 };
        struct flag_change change = { .how = how, .flags = flags, .keywords = &kw, .keyword_count = keyword ? 1 : 0 };
        struct waiter w;
        struct err err = ERR_INIT;
        uint64_t modseq;

        cr_assert_eq(uidset_parse(span_of(set), 0, &uids, &err), 0);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0);
        uidset_deinit(&uids);
}

static uint32_t restore(struct mailbox *m, const char *set, const struct unexpunge *how, uint32_t *first_r)
{
        struct uidset uids = UIDSET_INIT, restored = UIDSET_INIT;
        struct append_result result;
        struct waiter w;
        struct err err = ERR_INIT;
        uint32_t n;

        if (set)
                cr_assert_eq(uidset_parse(span_of(set), 0, &uids, &err), 0);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_unexpunge(m, set ? &uids : NULL, how, &restored, &result, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        n = (uint32_t)uidset_count(&restored);
        cr_assert_eq(n, result.count);
        if (first_r)
                *first_r = result.first_uid;
        uidset_deinit(&uids);
        uidset_deinit(&restored);
        return n;
}

static const struct unexpunge as_it_was = { .since = INT64_MIN };

static int expunged(struct mailbox *m)
{
        struct msg msgs[64];
        struct err err = ERR_INIT;
        int n = mailbox_expunged(m, 1, 64, msgs, &err);

        cr_assert_geq(n, 0, "%s", err.text);
        return n;
}

static void expect_octets(struct mailbox *m, uint32_t uid, size_t len, char c)
{
        struct msg msg;
        struct extent x;
        struct err err = ERR_INIT;
        char *want = message(len, c), *is = malloc(len + 1);

        cr_assert_eq(mailbox_message(m, uid, &msg, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_body(m, &msg, &x, &err), 0, "%s", err.text);
        cr_assert_eq(x.len, len);
        cr_assert_eq(file_read(x.file, is, len, x.offset, &err), 0, "%s", err.text);
        cr_assert_arr_eq(is, want, len);
        file_unref(&x.file);
        free(want);
        free(is);
}

static struct mailbox *reopen(struct mailbox *m)
{
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        fake_store_start(&st, 0);
        m = fake_open(&st, ID);
        cr_assert_not_null(m);
        return m;
}

static void count_problem(void *ctx, const char *mailbox, uint32_t uid, const char *text)
{
        (void)ctx;
        cr_assert_fail("%s uid %u: %s", mailbox, uid, text);
}

static void check_clean(void)
{
        struct mailbox_ident ident = fake_ident(&st, ID);
        struct check_report report = { .problem = count_problem };
        struct err err = ERR_INIT;

        cr_assert_eq(mailbox_check_files(&st, &ident, &report, &err), 0, "%s", err.text);
}

static const char *keywords_of(struct mailbox *m, uint32_t uid, char buf[200])
{
        struct msg msg;
        const struct kwset *set;
        struct err err = ERR_INIT;

        cr_assert_eq(mailbox_message(m, uid, &msg, &err), 0, "%s", err.text);
        set = mailbox_kwset(m, msg.kwset);
        buf[0] = '\0';
        for (uint32_t i = 0; set && i < set->n; i++)
                snprintf(buf + strlen(buf), 200 - strlen(buf), "%s%s", i ? " " : "", mailbox_keyword_name(m, set->ids[i]));
        return buf;
}

Test(expunge, what_comes_back_is_as_it_was_under_a_new_uid)
{
        struct mailbox *m = fake_create(&st, ID);
        struct annot note = { "/comment", "ann", SPAN("mine"), 0 }, *list;
        struct uidset first = UIDSET_INIT;
        struct arena arena = ARENA_INIT;
        struct waiter w;
        struct msg old, new;
        struct err err = ERR_INIT;
        uint64_t modseq;
        char buf[200];

        append(m, 300, 'a', MSG_SEEN | MSG_FLAGGED, "work");
        append(m, 200000, 'b', MSG_DELETED, NULL);      /* a blob */
        append(m, 400, 'c', 0, NULL);
        uidset_add(&first, 1);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_annotate_messages(m, &first, &note, 1, 0, UINT64_MAX, NULL, NULL, &modseq, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0);
        set_flags(m, "1", FLAGS_ADD, MSG_DELETED, NULL);
        expunge(m);
        cr_assert_eq(expunged(m), 2);
        cr_assert_eq(mailbox_message(m, 1, &old, &err), 0);
        cr_assert_eq(restore(m, "1,3", &as_it_was, NULL), 1);    /* 3 was never expunged */
        cr_assert_eq(expunged(m), 1);
        cr_assert_eq(restore(m, "1", &as_it_was, NULL), 0);      /* it is back already */
        cr_assert_eq(restore(m, NULL, &as_it_was, NULL), 1);
        for (int round = 0; round < 3; round++) {
                struct mailbox_status s;

                mailbox_status(m, &s);
                cr_assert_eq(s.messages, 3);
                cr_assert_eq(s.deleted, 2);
                cr_assert_eq(s.uidnext, 6);
                expect_octets(m, 4, 300, 'a');
                expect_octets(m, 5, 200000, 'b');
                cr_assert_eq(mailbox_message(m, 4, &new, &err), 0);
                cr_assert_eq(new.flags, MSG_SEEN | MSG_FLAGGED | MSG_DELETED);
                cr_assert_eq(new.internaldate, old.internaldate);
                cr_assert_eq(new.sentdate, old.sentdate);
                cr_assert_eq(new.thrid, old.thrid);
                cr_assert_gt(new.modseq, old.modseq);
                cr_assert_str_eq(keywords_of(m, 4, buf), "work");
                cr_assert_eq(mailbox_annots(m, 4, NULL, &arena, &list), 1);
                cr_assert_str_eq(list[0].user, "ann");
                cr_assert_eq(expunged(m), 0);
                check_clean();
                if (round == 0)
                        m = reopen(m);
                else if (round == 1)
                        cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
        }
        arena_deinit(&arena);
        uidset_deinit(&first);
        mailbox_unref(&m);
}

Test(expunge, a_keyword_is_added_and_deleted_taken_away_and_the_time_of_the_expunge_counts)
{
        struct mailbox *m = fake_create(&st, ID);
        struct unexpunge how = { .since = clock_wall_s() + 100, .undelete = true, .keyword = SPAN("Found") };
        struct msg msg;
        struct err err = ERR_INIT;
        uint32_t first;
        char buf[200];

        append(m, 300, 'a', MSG_DELETED | MSG_DRAFT, "work");
        append(m, 301, 'b', MSG_DELETED, NULL);
        expunge(m);
        cr_assert_eq(restore(m, NULL, &how, NULL), 0);
        how.since = clock_wall_s() - 100;
        cr_assert_eq(restore(m, NULL, &how, &first), 2);
        cr_assert_eq(first, 3);
        cr_assert_eq(mailbox_message(m, 3, &msg, &err), 0);
        cr_assert_eq(msg.flags, MSG_DRAFT);
        cr_assert_str_eq(keywords_of(m, 3, buf), "work Found");
        cr_assert_str_eq(keywords_of(m, 4, buf), "Found");
        mailbox_unref(&m);
}

/* More than a batch holds: built aside, and in one piece all the same. */
Test(expunge, many_come_back_in_one_piece)
{
        struct mailbox *m = fake_create(&st, ID);
        struct unexpunge how = { .since = INT64_MIN, .undelete = true };
        struct err err = ERR_INIT;

        for (int i = 0; i < 60; i++)
                append(m, 40000 + (size_t)i, (char)('A' + i % 26), MSG_DELETED, i % 2 ? "odd" : NULL);
        expunge(m);
        cr_assert_eq(restore(m, NULL, &how, NULL), 60);
        for (int round = 0; round < 2; round++) {
                for (int i = 0; i < 60; i++)
                        expect_octets(m, (uint32_t)(61 + i), 40000 + (size_t)i, (char)('A' + i % 26));
                cr_assert_eq(expunged(m), 0);
                check_clean();
                m = reopen(m);
        }
        cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
        cr_assert_eq(expunged(m), 0);
        mailbox_unref(&m);
}

static off_t octets_on_disk(void)
{
        struct str path = STR_INIT;
        off_t sum = 0;
        struct stat s;

        for (unsigned id = 1; id < 20; id++) {
                char dir[100];

                str_clear(&path);
                snprintf(dir, sizeof dir, "%s/a/a/%s", st.dir, ID);
                mlog_segment_path(&path, dir, id);
                if (stat(path.data, &s) == 0)
                        sum += s.st_size;
        }
        str_deinit(&path);
        return sum;
}

static bool blob_there(struct mailbox *m, uint32_t uid)
{
        struct str path = STR_INIT;
        struct msg msg;
        struct err err = ERR_INIT;
        bool there;

        cr_assert_eq(mailbox_message(m, uid, &msg, &err), 0, "%s", err.text);
        str_printf(&path, "%s/a/a/%s/", st.dir, ID);
        blob_name(&path, msg.guid, 0);
        there = fs_exists(path.data);
        str_deinit(&path);
        return there;
}

Test(expunge, semidelayed_keeps_no_octets_and_remembers_that_there_were_messages)
{
        struct mailbox *m = fake_create(&st, ID);
        struct msg before, blob;
        struct extent x;
        struct err err = ERR_INIT;
        struct uidset gone = UIDSET_INIT;
        bool complete;
        off_t full;

        st.expunge_mode = EXPUNGE_SEMIDELAYED;
        for (int i = 0; i < 40; i++)
                append(m, 40000, 'x', i < 30 ? MSG_DELETED : 0, NULL);
        append(m, 200000, 'b', MSG_DELETED, NULL);
        append(m, 200001, 'c', 0, NULL);
        cr_assert_eq(mailbox_message(m, 1, &before, &err), 0);
        cr_assert_eq(mailbox_message(m, 41, &blob, &err), 0);
        expunge(m);
        cr_assert_eq(expunged(m), 0);
        cr_assert_eq(restore(m, NULL, &as_it_was, NULL), 0);
        cr_assert_eq(mailbox_body(m, &before, &x, &err), 0, "a session that was not told yet still gets it: %s", err.text);
        file_unref(&x.file);
        full = octets_on_disk();
        cr_assert_geq(m->dead_bytes, 30 * 40000u);
        mailbox_maintain_begin(m);
        cr_assert_eq(mailbox_roll(m, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_begin_next(m, &err), 0, "%s", err.text);
        mailbox_maintain_end(m);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        cr_assert_lt(octets_on_disk(), full / 2);
        mailbox_maintain(m, true);                              /* sweeps */
        cr_assert(!blob_there(m, 41));
        cr_assert(blob_there(m, 42));
        for (int round = 0; round < 3; round++) {
                struct msg stub;

                cr_assert_eq(mailbox_body(m, &before, &x, &err), -1);
                cr_assert_eq(err.code, ERR_NOTFOUND, "%s", err.text);
                cr_assert_eq(mailbox_body(m, &blob, &x, &err), -1);
                cr_assert_eq(err.code, ERR_NOTFOUND, "%s", err.text);
                cr_assert_eq(mailbox_message(m, 2, &stub, &err), 0);
                cr_assert_eq(stub.size, 40000);
                cr_assert_eq(mailbox_body(m, &stub, &x, &err), -1);
                cr_assert_eq(err.code, ERR_NOTFOUND, "%s", err.text);
                cr_assert_eq(m->damage, 0);                     /* that is nothing to report */
                uidset_clear(&gone);
                cr_assert_eq(mailbox_vanished(m, 1, 1, UINT32_MAX - 1, &gone, &complete, &err), 0);
                cr_assert(complete);
                cr_assert_eq(uidset_count(&gone), 31);
                expect_octets(m, 31, 40000, 'x');
                check_clean();
                if (round == 0)
                        m = reopen(m);
                else if (round == 1)
                        cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
        }
        uidset_deinit(&gone);
        mailbox_unref(&m);
}

Test(expunge, immediate_forgets_by_the_next_housekeeping)
{
        struct mailbox *m;
        struct mailbox_status s = { 0 };
        struct err err = ERR_INIT;
        struct msg msg;

        logstore_destroy(&st.ls);
        fake_store_start(&st, 2);
        m = fake_create(&st, ID);
        st.expunge_mode = EXPUNGE_IMMEDIATE;
        append(m, 300, 'a', MSG_DELETED, NULL);
        append(m, 300, 'b', 0, NULL);
        expunge(m);
        for (int i = 0; i < 500 && s.deletedmodseq == 0; i++) {
                usleep(10000);
                mailbox_status(m, &s);
        }
        cr_assert_gt(s.deletedmodseq, 0);
        cr_assert_eq(s.messages, 1);
        cr_assert_eq(mailbox_message(m, 1, &msg, &err), -1);
        cr_assert_eq(err.code, ERR_NOTFOUND);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        fake_store_start(&st, 0);                               /* without housekeeping: when the mailbox is closed */
        m = fake_open(&st, ID);
        set_flags(m, "2", FLAGS_ADD, MSG_DELETED, NULL);
        expunge(m);
        m = reopen(m);
        cr_assert_eq(mailbox_message(m, 2, &msg, &err), -1);
        mailbox_unref(&m);
}

Test(expunge, a_purge_takes_what_is_old_enough_and_what_nobody_can_have_back)
{
        struct mailbox *m = fake_create(&st, ID);
        struct purged purged;
        struct err err = ERR_INIT;

        for (int i = 0; i < 5; i++)
                append(m, 300, 'a', i < 3 ? MSG_DELETED : 0, NULL);
        expunge(m);
        restore(m, "2", &as_it_was, NULL);
        cr_assert_eq(mailbox_purge_expunged(m, clock_wall_s() - 1000, &purged, &err), 0, "%s", err.text);
        cr_expect_eq(purged.records, 6);
        cr_expect_eq(purged.messages, 0);
        cr_assert_eq(mailbox_purge_expunged(m, clock_wall_s() + 1, &purged, &err), 0, "%s", err.text);
        cr_expect_eq(purged.records, 5);                        /* the one that came back under another UID went before */
        cr_expect_eq(purged.messages, 2);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, &purged, &err), 0, "%s", err.text);
        cr_expect_eq(purged.records, 3);
        cr_expect_eq(purged.messages, 0);
        mailbox_unref(&m);
}

/* ---- keywords ---- */

static unsigned forgotten;
static void forgot(void *ctx, uint32_t keyword, const char *name)
{
        (void)keyword;
        forgotten++;
        str_append_str(ctx, name);
        str_append_c(ctx, ' ');
}

static void list_keywords(struct mailbox *m, struct str *out)
{
        str_clear(out);
        for (uint32_t i = 0; i < mailbox_keyword_count(m); i++)
                if (mailbox_keyword_name(m, i))
                        str_printf(out, "%s ", mailbox_keyword_name(m, i));
}

Test(expunge, keywords_that_no_message_has_are_forgotten)
{
        struct mailbox *m = fake_create(&st, ID);
        struct str names = STR_INIT, told = STR_INIT;
        struct err err = ERR_INIT;
        uint32_t generation;
        char buf[200];

        append(m, 300, 'a', 0, "kept");
        append(m, 300, 'b', MSG_DELETED, "gone");
        append(m, 300, 'c', 0, "never");
        set_flags(m, "2", FLAGS_ADD, 0, "kept");
        set_flags(m, "3", FLAGS_REMOVE, 0, "never");
        expunge(m);
        generation = mailbox_keyword_generation(m);
        cr_assert_eq(mailbox_forget_keywords(m, forgot, &told, &err), 0, "%s", err.text);
        cr_expect_str_eq(told.data, "gone never ");
        cr_expect_neq(mailbox_keyword_generation(m), generation);
        cr_expect_eq(mailbox_keyword_find(m, SPAN("gone")), -1);
        list_keywords(m, &names);
        cr_expect_str_eq(names.data, "kept ");
        restore(m, NULL, &as_it_was, NULL);
        cr_expect_str_eq(keywords_of(m, 4, buf), "kept");
        set_flags(m, "1", FLAGS_ADD, 0, "never");               /* it may come again */
        for (int round = 0; round < 3; round++) {
                list_keywords(m, &names);
                cr_expect_str_eq(names.data, "kept never ");
                cr_expect_str_eq(keywords_of(m, 1, buf), "kept never");
                check_clean();
                if (round == 0)
                        m = reopen(m);
                else if (round == 1)
                        cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
        }
        mailbox_unref(&m);
        str_deinit(&names);
        str_deinit(&told);
}

/* An index made anew by an object that knows its keywords has them too, not only what is in the object's memory. */
Test(expunge, a_rebuilt_index_has_the_keywords)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        char buf[200];

        append(m, 300, 'a', 0, "kept");
        m = reopen(m);
        for (int round = 0; round < 2; round++) {
                cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
                m = reopen(m);
                cr_expect_str_eq(keywords_of(m, 1, buf), "kept");
        }
        mailbox_unref(&m);
}

/* The table is full: what is forgotten makes room, and an id that two keywords had, one after the other, is the later one's whatever is read. */
Test(expunge, room_for_keywords_comes_back)
{
        struct mailbox *m = fake_create(&st, ID);
        struct str told = STR_INIT;
        struct err err = ERR_INIT;
        struct span *kw = calloc(KEYWORDS_MAX, sizeof *kw);
        struct uidset uids = UIDSET_INIT;
        struct waiter w;
        uint64_t modseq;
        char buf[200];

        append(m, 300, 'a', 0, "first");
        append(m, 300, 'b', 0, NULL);
        for (int i = 0; i < KEYWORDS_MAX - 1; i++) {
                char *name = malloc(20);

                snprintf(name, 20, "k%d", i);
                kw[i] = span_of(name);
        }
        uidset_add(&uids, 2);
        for (int remove = 0; remove < 2; remove++) {
                struct flag_change change = { .how = remove ? FLAGS_REMOVE : FLAGS_ADD, .keywords = kw, .keyword_count = KEYWORDS_MAX - 1 };

                waiter_init_blocking(&w);
                cr_assert_eq(mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err), 0, "%s", err.text);
                cr_assert_eq(waiter_block(&w, &err), 0);
        }
        {
                struct span more = SPAN("more");
                struct flag_change change = { .how = FLAGS_ADD, .keywords = &more, .keyword_count = 1 };

                waiter_init_blocking(&w);
                cr_assert_eq(mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err), -1);
                cr_assert_eq(err.code, ERR_LIMIT);
        }
        forgotten = 0;
        cr_assert_eq(mailbox_forget_keywords(m, forgot, &told, &err), 0, "%s", err.text);
        cr_assert_eq(forgotten, KEYWORDS_MAX - 1);
        set_flags(m, "2", FLAGS_ADD, 0, "more");
        set_flags(m, "1", FLAGS_ADD, 0, "again");
        for (int round = 0; round < 4; round++) {
                cr_expect_str_eq(keywords_of(m, 1, buf), "first again");
                cr_expect_str_eq(keywords_of(m, 2, buf), "more");
                check_clean();
                if (round == 0) {
                        m = reopen(m);
                } else if (round == 1) {
                        cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
                } else if (round == 2) {                        /* compaction writes them again, behind which older records stand */
                        for (int i = 0; i < 10; i++)
                                append(m, 60000, 'z', MSG_DELETED, NULL);
                        expunge(m);
                        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
                        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
                        cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
                }
        }
        for (int i = 0; i < KEYWORDS_MAX - 1; i++)
                free((char *)(uintptr_t)kw[i].p);
        free(kw);
        uidset_deinit(&uids);
        str_deinit(&told);
        mailbox_unref(&m);
}

static struct mailbox *compacting;
static unsigned syncs;
static bool behind;

/* While the checkpoint that compaction begins with writes the index, having synced the log, more is purged. */
static int purge_meanwhile(const char *call)
{
        struct err err = ERR_INIT;

        if (strcmp(call, "fdatasync") == 0 && ++syncs == 2) {
                fs_fault = NULL;
                cr_assert_eq(mailbox_purge_expunged(compacting, INT64_MAX, NULL, &err), 0, "%s", err.text);
                cr_assert_lt(compacting->durable_mark, compacting->end_mark, "the purge is not waited for");
                fs_fault = purge_meanwhile;
        }
        if (strcmp(call, "rename") == 0)
                behind = behind || compacting->durable_mark < compacting->end_mark;
        return 0;
}

/* What compaction leaves out is gone for good only when the record that says so is on disk: before its manifest is. */
Test(expunge, what_is_purged_stays_so_when_its_segment_is_compacted)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;

        for (int i = 0; i < 20; i++)
                append(m, 60000, 'a', i < 15 ? MSG_DELETED : 0, NULL);
        expunge(m);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
        set_flags(m, "16:18", FLAGS_ADD, MSG_DELETED, NULL);
        expunge(m);
        mailbox_maintain_begin(m);
        cr_assert_eq(mailbox_roll(m, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_begin_next(m, &err), 0, "%s", err.text);
        mailbox_maintain_end(m);
        append(m, 100, 'b', 0, NULL);
        compacting = m;
        fs_fault = purge_meanwhile;
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        fs_fault = NULL;
        cr_expect_gt(syncs, 4u);
        cr_expect(!behind);
        check_clean();
        mailbox_unref(&m);
}

/* A long life with few keywords, often forgotten: whatever is read back – index, log, compacted log – messages have theirs. */
Test(expunge, keywords_stay_with_their_messages_over_forgetting_and_compaction)
{
        struct mailbox *m = fake_create(&st, ID);
        char want[400][200] = { "" };
        struct err err = ERR_INIT;
        unsigned seed = 7;

        for (int step = 0; step < 1500; step++) {
                struct mailbox_status s;
                struct view *v = mailbox_view(m);
                uint32_t n = view_count(v), uid = n ? view_uid(v, 1 + (uint32_t)rand_r(&seed) % n) : 0;
                char set[16], name[8], buf[200];

                view_unref(&v);
                snprintf(set, sizeof set, "%u", uid);
                snprintf(name, sizeof name, "k%d", rand_r(&seed) % 4);
                switch (rand_r(&seed) % 12) {
                case 0: case 1: case 2:
                        if (uid < 390)
                                want[append(m, 200 + (size_t)(rand_r(&seed) % 30000), 'q', 0, NULL)][0] = '\0';
                        break;
                case 3: case 4: case 5:
                        if (uid) {
                                set_flags(m, set, FLAGS_SET, 0, name);
                                snprintf(want[uid], sizeof want[uid], "%s", name);
                        }
                        break;
                case 6:
                        if (uid) {
                                set_flags(m, set, FLAGS_ADD, MSG_DELETED, NULL);
                                expunge(m);
                        }
                        break;
                case 7: case 8:
                        cr_assert_eq(mailbox_forget_keywords(m, NULL, NULL, &err), 0, "%s", err.text);
                        break;
                case 9:
                        cr_assert_eq(mailbox_checkpoint(m, &err), 0, "%s", err.text);
                        break;
                case 10:
                        if (rand_r(&seed) % 3 == 0)
                                cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
                        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
                        break;
                default:
                        m = reopen(m);
                        if (rand_r(&seed) % 2)
                                cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
                        break;
                }
                mailbox_status(m, &s);
                v = mailbox_view(m);
                for (uint32_t i = 1; i <= view_count(v); i++)
                        cr_assert_str_eq(keywords_of(m, view_uid(v, i), buf), want[view_uid(v, i)], "step %d, uid %u", step, view_uid(v, i));
                view_unref(&v);
        }
        check_clean();
        mailbox_unref(&m);
}
