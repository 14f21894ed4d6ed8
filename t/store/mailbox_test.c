/* mailbox - appended, flagged, expunged, reopened: what was acknowledged is there, what was not is not. */
#include <criterion/criterion.h>

#include "store/mailbox_private.h"
#include "t/store/fake_store.h"

static struct store st;

static void setup(void) { fake_store_init(&st, 0); }
static void teardown(void) { fake_store_deinit(&st); }

TestSuite(mailbox, .init = setup, .fini = teardown, .timeout = 60);

#define ID_A "aaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "bbbbbbbbbbbbbbbbbbbbbbbb"
static const char text[] = "From: a@example.org\r\nSubject: hello\r\nDate: Sun, 22 Nov 2026 03:35:22 +0000\r\n\r\nbody\r\n";

/* Everything a client could see, as text. */
static void dump(struct mailbox *m, struct str *out)
{
        struct mailbox_status s;
        struct view *v = mailbox_view(m);
        struct err err = ERR_INIT;

        mailbox_status(m, &s);
        str_printf(out, "messages=%u unseen=%u deleted=%u uidnext=%u uidvalidity=%u modseq=%llu size=%llu deleted_size=%llu first=%u\n",
                   s.messages, s.unseen, s.deleted, s.uidnext, s.uidvalidity, (unsigned long long)s.highestmodseq,
                   (unsigned long long)s.size, (unsigned long long)s.deleted_size, s.first_unseen_uid);
        for (uint32_t i = 1; i <= view_count(v); i++) {
                struct msg msg;
                struct extent x;
                struct msg_front f;
                struct arena arena = ARENA_INIT;
                const struct kwset *set;
                char *octets;

                cr_assert_eq(mailbox_message(m, view_uid(v, i), &msg, &err), 0, "%s", err.text);
                str_printf(out, "%u uid=%u flags=%x modseq=%llu/%llu dates=%lld,%lld size=%llu", i, msg.uid, msg.flags,
                           (unsigned long long)msg.modseq, (unsigned long long)msg.createdmodseq, (long long)msg.internaldate,
                           (long long)msg.sentdate, (unsigned long long)msg.size);
                set = mailbox_kwset(m, msg.kwset);
                for (uint32_t k = 0; set && k < set->n; k++)
                        str_printf(out, " %s", mailbox_keyword_name(m, set->ids[k]));
                cr_assert_eq(mailbox_body(m, &msg, &x, &err), 0, "%s", err.text);
                cr_assert_eq(x.len, msg.size);
                octets = malloc(x.len + 1);
                cr_assert_eq(file_read(x.file, octets, x.len, x.offset, &err), 0, "%s", err.text);
                str_printf(out, " crc=%x", crc32c(0, octets, x.len));
                free(octets);
                file_unref(&x.file);
                cr_assert_eq(mailbox_front(m, &msg, FRONT_ALL, &arena, NULL, &f, &err), 0, "%s", err.text);
                str_printf(out, " parts=%u %.*s\n", f.part_count, (int)f.envelope.len, f.envelope.p);
                arena_deinit(&arena);
        }
        view_unref(&v);
}

/* Fronts that are read in one go are those that are read one by one. */
Test(mailbox, fronts_through_a_window)
{
        static const size_t sizes[] = { 10, 3000, 100, 9000, 30000, 100000, 200, 200 };
        struct mailbox *m = fake_create(&st, ID_A);
        struct front_window window = { 0 };
        struct msg msgs[64];
        uint32_t uids[64];
        struct err err = ERR_INIT;
        unsigned read_ahead = 0;

        for (uint32_t i = 0; i < 64; i++) {
                size_t len = sizeof text - 1 + sizes[i % 8];
                char *body = malloc(len);

                memset(body, 'x', len);
                memcpy(body, text, sizeof text - 1);
                uids[i] = fake_append(&st, m, body, len, 0, NULL, &err);
                cr_assert(uids[i] > 0, "%s", err.text);
                free(body);
        }
        cr_assert_eq(mailbox_messages(m, uids, 64, msgs, &err), 0, "%s", err.text);
        for (uint32_t i = 0; i < 64; i++) {
                struct arena arena = ARENA_INIT;
                struct msg_front one, other;

                front_window_plan(&window, &msgs[i], 64 - i, false);
                cr_assert_eq(mailbox_front(m, &msgs[i], FRONT_ALL, &arena, &window, &one, &err), 0, "%s", err.text);
                cr_assert_eq(mailbox_front(m, &msgs[i], FRONT_ALL, &arena, NULL, &other, &err), 0, "%s", err.text);
                cr_assert(span_eq(one.envelope, other.envelope) && one.envelope.len > 10);
                cr_assert(span_eq(one.bodystructure, other.bodystructure) && span_eq(one.body, other.body) && span_eq(one.header, other.header));
                cr_assert_eq(one.part_count, other.part_count);
                cr_assert_eq(memcmp(one.parts, other.parts, one.part_count * sizeof *one.parts), 0);
                read_ahead += window.len > 0 && window.offset < msgs[i].offset;
                arena_deinit(&arena);
        }
        cr_expect_gt(read_ahead, 20);
        front_window_deinit(&window);
        mailbox_unref(&m);
}

static void restart(bool kill)
{
        (void)kill;
        logstore_destroy(&st.ls);
        fake_store_start(&st, 0);
}

static void store_flags(struct mailbox *m, const char *set, int how, uint32_t flags, const char *keyword)
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

static void expunge(struct mailbox *m)
{
        struct waiter w;
        struct err err = ERR_INIT;

        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_expunge(m, NULL, true, NULL, NULL, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
}

Test(mailbox, is_the_same_after_it_was_closed_and_opened)
{
        struct mailbox *m = fake_create(&st, ID_A);
        struct str before = STR_INIT, after = STR_INIT;
        struct err err = ERR_INIT;
        char *big = malloc(200000);

        memset(big, 'x', 200000);
        memcpy(big, text, sizeof text - 1);
        cr_assert_eq(fake_append(&st, m, text, sizeof text - 1, MSG_SEEN, "$Junk", &err), 1);
        cr_assert_eq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 2);
        cr_assert_eq(fake_append(&st, m, big, 200000, MSG_FLAGGED, "work", &err), 3, "%s", err.text);
        cr_assert_eq(fake_append(&st, m, "", 0, 0, NULL, &err), 4, "%s", err.text);
        store_flags(m, "2:3", FLAGS_ADD, MSG_ANSWERED, "Work");
        store_flags(m, "4", FLAGS_SET, MSG_DELETED, NULL);
        expunge(m);
        cr_assert_eq(fake_append(&st, m, text, sizeof text - 1, MSG_DELETED, "later", &err), 5);
        dump(m, &before);
        mailbox_unref(&m);
        restart(false);
        m = fake_open(&st, ID_A);
        cr_assert_not_null(m);
        dump(m, &after);
        cr_assert_str_eq(after.data, before.data);
        cr_assert(strstr(after.data, "messages=4 ") != NULL, "%s", after.data);
        mailbox_unref(&m);
        free(big);
        str_deinit(&before);
        str_deinit(&after);
}

Test(mailbox, is_the_same_when_the_index_is_lost)
{
        struct mailbox *m = fake_create(&st, ID_A);
        struct str before = STR_INIT, after = STR_INIT, path = STR_INIT;
        struct err err = ERR_INIT;

        for (int i = 0; i < 50; i++)
                cr_assert(fake_append(&st, m, text, sizeof text - 1, i % 3 ? MSG_SEEN : 0, i % 5 ? NULL : "five", &err) > 0);
        store_flags(m, "10:20", FLAGS_ADD, MSG_DELETED, "$Forwarded");
        store_flags(m, "12", FLAGS_REMOVE, MSG_DELETED, NULL);
        expunge(m);
        dump(m, &before);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        str_printf(&path, "%s/a/a/%s/index", st.dir, ID_A);
        cr_assert_eq(unlink(path.data), 0);
        fake_store_start(&st, 0);
        m = fake_open(&st, ID_A);
        cr_assert_not_null(m);
        dump(m, &after);
        cr_assert_str_eq(after.data, before.data);
        mailbox_unref(&m);
        str_deinit(&before);
        str_deinit(&after);
        str_deinit(&path);
}

static struct append_result copy_or_move(struct mailbox *from, struct mailbox *to, const char *set, bool move, struct uidset *copied)
{
        struct uidset uids = UIDSET_INIT;
        struct append_result r = { 0, 0, 0, 0 };
        struct waiter w;
        struct err err = ERR_INIT;
        int rc;

        cr_assert_eq(uidset_parse(span_of(set), 1000000, &uids, &err), 0);
        waiter_init_blocking(&w);
        if (move)
                rc = mailbox_move(from, &uids, to, NULL, copied, &r, &w, &err);
        else
                rc = mailbox_copy(from, &uids, to, NULL, copied, &r, &w, &err);
        cr_assert_eq(rc, 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        uidset_deinit(&uids);
        return r;
}

static void check_reopens_equal(const char *id)
{
        struct mailbox *m = fake_open(&st, id);
        struct str before = STR_INIT, after = STR_INIT, rebuilt = STR_INIT, path = STR_INIT;

        dump(m, &before);
        mailbox_unref(&m);
        restart(false);
        m = fake_open(&st, id);
        dump(m, &after);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        str_printf(&path, "%s/%c/%c/%s/index", st.dir, id[0], id[1], id);
        unlink(path.data);
        fake_store_start(&st, 0);
        m = fake_open(&st, id);
        dump(m, &rebuilt);
        mailbox_unref(&m);
        cr_expect_str_eq(after.data, before.data);
        cr_expect_str_eq(rebuilt.data, before.data);
        str_deinit(&before);
        str_deinit(&after);
        str_deinit(&rebuilt);
        str_deinit(&path);
}

Test(mailbox, copies_with_flags_keywords_and_dates)
{
        struct mailbox *a = fake_create(&st, ID_A), *b = fake_create(&st, ID_B);
        struct uidset copied = UIDSET_INIT;
        struct append_result r;
        struct msg msg;
        struct err err = ERR_INIT;
        char *big = malloc(100000);

        memset(big, 'y', 100000);
        for (int i = 0; i < 10; i++)
                fake_append(&st, a, text, sizeof text - 1, MSG_SEEN, i % 2 ? "odd" : NULL, &err);
        fake_append(&st, a, big, 100000, MSG_FLAGGED, "big", &err);
        fake_append(&st, b, text, sizeof text - 1, 0, "first", &err);
        r = copy_or_move(a, b, "3:5,11,99", false, &copied);
        cr_expect_eq(r.first_uid, 2);
        cr_expect_eq(r.count, 4);
        cr_expect_eq(uidset_count(&copied), 4);
        cr_assert_eq(mailbox_message(b, 3, &msg, &err), 0);
        cr_expect_eq(msg.flags, MSG_SEEN);
        cr_expect_eq(msg.internaldate, 1000000);
        cr_assert_not_null(mailbox_kwset(b, msg.kwset));
        cr_expect_str_eq(mailbox_keyword_name(b, mailbox_kwset(b, msg.kwset)->ids[0]), "odd");
        cr_expect_eq(view_count(b->view), 5);
        mailbox_unref(&a);
        mailbox_unref(&b);
        check_reopens_equal(ID_A);
        check_reopens_equal(ID_B);
        uidset_deinit(&copied);
        free(big);
}

Test(mailbox, a_large_copy_is_adopted)
{
        struct mailbox *a = fake_create(&st, ID_A), *b = fake_create(&st, ID_B);
        struct append_result r;
        struct err err = ERR_INIT;
        char *body = malloc(30000);

        memset(body, 'z', 30000);
        fake_append(&st, b, text, sizeof text - 1, 0, "first", &err);
        for (int i = 0; i < 120; i++) {
                body[0] = (char)i;
                cr_assert(fake_append(&st, a, body, 30000, i % 2 ? MSG_SEEN : 0, i % 3 ? "third" : "other", &err) > 0);
        }
        r = copy_or_move(a, b, "1:*", false, NULL);
        cr_expect_eq(r.first_uid, 2);
        cr_expect_eq(r.count, 120);
        store_flags(b, "5:50", FLAGS_ADD, MSG_DELETED, "x");
        fake_append(&st, b, text, sizeof text - 1, 0, "last", &err);
        expunge(b);
        mailbox_unref(&a);
        mailbox_unref(&b);
        check_reopens_equal(ID_B);
        free(body);
}

Test(mailbox, a_move_takes_messages_from_one_to_the_other)
{
        struct mailbox *a = fake_create(&st, ID_A), *b = fake_create(&st, ID_B);
        struct mailbox_status s;
        struct append_result r;
        struct err err = ERR_INIT;

        for (int i = 0; i < 10; i++)
                fake_append(&st, a, text, sizeof text - 1, 0, "k", &err);
        r = copy_or_move(a, b, "2:4", true, NULL);
        cr_expect_eq(r.count, 3);
        mailbox_status(a, &s);
        cr_expect_eq(s.messages, 7);
        mailbox_status(b, &s);
        cr_expect_eq(s.messages, 3);
        cr_expect_eq(a->moves.n, 0);
        cr_expect_eq(b->moves.n, 0);
        mailbox_unref(&a);
        mailbox_unref(&b);
        check_reopens_equal(ID_A);
        check_reopens_equal(ID_B);
}

/* Both are asked for the same messages, neither waits for the other. */
Test(mailbox, moves_within_a_mailbox_take_each_message_once)
{
        struct mailbox *m = fake_create(&st, ID_A);
        struct uidset uids = UIDSET_INIT, copied[2] = { UIDSET_INIT, UIDSET_INIT };
        struct append_result r[2];
        struct waiter w[2];
        struct mailbox_status s;
        struct err err = ERR_INIT;

        for (int i = 0; i < 10; i++)
                fake_append(&st, m, text, sizeof text - 1, i % 2 ? MSG_FLAGGED : 0, "k", &err);
        uidset_add_range(&uids, 2, 9);
        for (int i = 0; i < 2; i++) {
                waiter_init_blocking(&w[i]);
                cr_assert_eq(mailbox_move(m, &uids, m, NULL, &copied[i], &r[i], &w[i], &err), 0, "%s", err.text);
        }
        for (int i = 0; i < 2; i++)
                cr_assert_eq(waiter_block(&w[i], &err), 0, "%s", err.text);
        cr_expect_eq(r[0].count + r[1].count, 8);
        cr_expect(uidset_empty(&copied[0]) != uidset_empty(&copied[1]));
        mailbox_status(m, &s);
        cr_expect_eq(s.messages, 10);
        cr_expect_eq(s.uidnext, 19);
        r[0] = copy_or_move(m, m, "1,10", true, NULL);
        cr_expect_eq(r[0].first_uid, 19);
        cr_expect(uidset_empty(&m->moving));
        for (int i = 0; i < 2; i++)
                uidset_deinit(&copied[i]);
        uidset_deinit(&uids);
        mailbox_unref(&m);
        check_reopens_equal(ID_A);
}

/* A reader still has the file of a message that was purged; the same message comes again and shares it. */
Test(mailbox, a_blob_that_is_read_while_purged_may_come_again)
{
        struct mailbox *m = fake_create(&st, ID_A);
        struct err err = ERR_INIT;
        struct extent reading, again;
        struct msg msg;
        char *big = malloc(200000), *back = malloc(200000);

        memset(big, 'x', 200000);
        memcpy(big, text, sizeof text - 1);
        cr_assert_eq(fake_append(&st, m, big, 200000, MSG_DELETED, NULL, &err), 1, "%s", err.text);
        cr_assert_eq(mailbox_message(m, 1, &msg, &err), 0);
        cr_assert_eq(mailbox_body(m, &msg, &reading, &err), 0, "%s", err.text);
        expunge(m);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(file_read(reading.file, back, 200000, 0, &err), 0, "%s", err.text);
        cr_assert_eq(fake_append(&st, m, big, 200000, 0, NULL, &err), 2, "%s", err.text);
        file_unref(&reading.file);                      /* the reader is done: the new message's octets stay */
        cr_assert_eq(mailbox_message(m, 2, &msg, &err), 0);
        cr_assert_eq(mailbox_body(m, &msg, &again, &err), 0, "%s", err.text);
        file_shed(0);
        cr_assert_eq(file_read(again.file, back, 200000, 0, &err), 0, "%s", err.text);
        cr_assert_arr_eq(back, big, 200000);
        file_unref(&again.file);

        store_flags(m, "2", FLAGS_ADD, MSG_DELETED, NULL);
        expunge(m);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
        {
                struct str path = STR_INIT;

                str_printf(&path, "%s/a/a/%s/", st.dir, ID_A);
                blob_name(&path, msg.guid, 0);
                cr_assert(!fs_exists(path.data), "nobody needs it, and it is still there");
                str_deinit(&path);
        }
        mailbox_unref(&m);
        free(big);
        free(back);
}

/* Sets of keywords are kept in memory and in every checkpoint: their sum is bounded, and reaching it is an error like others. */
Test(mailbox, sets_of_keywords_have_a_bound)
{
        struct mailbox *m = fake_create(&st, ID_A);
        static char names[KEYWORDS_MAX][8];
        static struct span spans[KEYWORDS_MAX];
        struct flag_change change = { .how = FLAGS_SET, .keywords = spans, .keyword_count = KEYWORDS_MAX };
        struct uidset uids = UIDSET_INIT;
        struct err err = ERR_INIT;
        uint64_t modseq;
        uint32_t made = 0;

        for (uint32_t i = 0; i < KEYWORDS_MAX; i++) {
                snprintf(names[i], sizeof names[i], "k%u", i);
                spans[i] = span_of(names[i]);
        }
        cr_assert_eq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 1);
        uidset_add(&uids, 1);
        for (; made < 2 * KWSET_IDS_MAX / KEYWORDS_MAX; made++) {
                struct waiter w;

                waiter_init_blocking(&w);
                if (mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err) < 0)
                        break;
                cr_assert_eq(waiter_block(&w, &err), 0);
                change.keywords++;                      /* another set each time */
                change.keyword_count--;
        }
        cr_assert_eq(err.code, ERR_LIMIT, "%s", err.text);
        cr_assert_geq(made, KWSET_IDS_MAX / KEYWORDS_MAX);
        cr_assert_eq(mailbox_checkpoint(m, &err), 0, "%s", err.text);
        uidset_deinit(&uids);
        mailbox_unref(&m);
}

/* More cold mailboxes than are kept: housekeeping closes them, checkpointed, and they are the same afterwards. */
Test(mailbox, cold_ones_beyond_the_limit_are_closed)
{
        struct logstore_stats stats;
        struct err err = ERR_INIT;
        char id[25];

        logstore_destroy(&st.ls);
        fake_store_start(&st, 2);
        for (unsigned i = 0; i < 1040; i++) {
                struct mailbox *m;

                snprintf(id, sizeof id, "cccccccccccccccccccc%04u", i);
                m = fake_create(&st, id);
                cr_assert_eq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 1, "%s", err.text);
                mailbox_unref(&m);
        }
        for (unsigned tries = 0; tries < 200; tries++) {
                logstore_stats(st.ls, &stats);
                if (stats.open_mailboxes <= 1000)
                        break;
                usleep(100000);
        }
        cr_assert_leq(stats.open_mailboxes, 1000);
        for (unsigned i = 0; i < 1040; i += 39) {
                struct mailbox_status s;
                struct mailbox *m;

                snprintf(id, sizeof id, "cccccccccccccccccccc%04u", i);
                m = fake_open(&st, id);
                cr_assert_not_null(m);
                mailbox_status(m, &s);
                cr_assert_eq(s.messages, 1);
                mailbox_unref(&m);
        }
}
