/* seen - what other users have seen: kept apart, written, found again, gone with mailbox and user. */
#include <criterion/criterion.h>

#include "store/seen_private.h"
#include "store/store_private.h"
#include "t/store/scratch.h"
#include "util/clock.h"

static void setup(void) { scratch_make(); }
static void teardown(void) { scratch_remove(); }

TestSuite(seen, .init = setup, .fini = teardown, .timeout = 60);

static struct mailbox *open_box(struct store *store, const char *name)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(store), name);
        struct mbox_create what = { .name = name };
        struct mailbox_ident ident;
        struct mailbox *m;
        struct err err = ERR_INIT;

        if (!e)
                cr_assert_eq(mboxlist_create(store_mboxlist(store), &what, &e, &err), 0, "%s", err.text);
        cr_assert_eq(mbentry_ident(store, e, &ident, &err), 0);
        cr_assert_eq(mailbox_open(store, &ident, &m, &err), 0, "%s", err.text);
        mbentry_unref(&e);
        return m;
}

static void append(struct store *store, struct mailbox *m, unsigned n)
{
        struct append_item *items = calloc(n, sizeof *items);
        struct append_result result;
        struct stage *stage;
        struct waiter w;
        struct err err = ERR_INIT;

        cr_assert_eq(stage_begin(store, store_partition_dir(store, "default"), 0, &stage, &err), 0, "%s", err.text);
        cr_assert_eq(stage_write(stage, "A: b\r\n\r\nc", 9, &err), 0);
        cr_assert_eq(stage_finish(stage, &err), 0);
        for (unsigned i = 0; i < n; i++)
                items[i] = (struct append_item){ .stage = stage, .internaldate = INT64_MIN, .savedate = INT64_MIN };
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_append(m, items, n, &result, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0);
        stage_unref(&stage);
        free(items);
}

static uint64_t mark(struct mailbox *m, struct seen *seen, const char *set, int how)
{
        struct flag_change change = { .how = how, .flags = MSG_SEEN, .seen = seen };
        struct uidset uids = UIDSET_INIT;
        struct waiter w;
        struct err err = ERR_INIT;
        uint64_t modseq;

        cr_assert_eq(uidset_parse(span_of(set), 0, &uids, &err), 0);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        uidset_deinit(&uids);
        return modseq;
}

static struct seen *of(struct store *store, const char *uniqueid, const char *user)
{
        struct seen *seen;
        struct err err = ERR_INIT;

        cr_assert_eq(seen_open(store, uniqueid, user, &seen, &err), 0, "%s", err.text);
        return seen;
}

static const char *text(struct seen *seen)
{
        static char out[200];
        struct seen_state state;
        struct str s = STR_INIT;

        seen_get(seen, &state);
        uidset_append(&state.uids, &s);
        snprintf(out, sizeof out, "%s", s.data);
        uidset_deinit(&state.uids);
        str_deinit(&s);
        return out;
}

Test(seen, is_each_users_own_and_there_after_a_restart)
{
        struct store *store = scratch_open(NULL);
        struct mailbox *m = open_box(store, "box");
        struct seen *ann, *bob, *again;
        struct seen_state state;
        struct msg msg;
        struct mailbox_status status;
        struct err err = ERR_INIT;
        uint64_t modseq;
        char id[40];

        snprintf(id, sizeof id, "%s", mailbox_uniqueid(m));
        append(store, m, 5);
        ann = of(store, id, "ann");
        bob = of(store, id, "bob");
        modseq = mark(m, ann, "2:3", FLAGS_ADD);
        mark(m, bob, "5", FLAGS_ADD);
        cr_assert_str_eq(text(ann), "2:3");
        cr_assert_str_eq(text(bob), "5");
        again = of(store, id, "ann");
        cr_assert_eq(again, ann, "one object for all sessions");
        seen_unref(&again);
        /* The message has a new modseq and the flags that it had. */
        cr_assert_eq(mailbox_message(m, 2, &msg, &err), 0);
        cr_assert_eq(msg.modseq, modseq);
        cr_assert_eq(msg.flags & MSG_SEEN, 0);
        mailbox_status(m, &status);
        cr_assert_eq(status.unseen, 5);
        /* What is the same already changes nothing. */
        cr_assert_eq(mark(m, ann, "2:3", FLAGS_ADD), 0);
        seen_unref(&ann);
        seen_unref(&bob);
        mailbox_unref(&m);
        store_close(&store);

        store = scratch_open(NULL);
        ann = of(store, id, "ann");
        cr_assert_str_eq(text(ann), "2:3");
        seen_get(ann, &state);
        cr_assert_eq(state.lastuid, 5);
        cr_assert(state.lastchange > 1000000000 && state.lastread == state.lastchange);
        uidset_deinit(&state.uids);
        bob = of(store, id, "bob");
        cr_assert_str_eq(text(bob), "5");
        seen_unref(&ann);
        seen_unref(&bob);
        store_close(&store);
}

/* What stands between two seen messages and is no message does not make two ranges. */
Test(seen, gaps_of_expunged_messages_are_bridged_and_counted_as_nothing)
{
        struct store *store = scratch_open(NULL);
        struct mailbox *m = open_box(store, "box");
        struct seen *ann = of(store, mailbox_uniqueid(m), "ann");
        struct uidset gone = UIDSET_INIT;
        struct view *view;
        struct waiter w;
        struct err err = ERR_INIT;
        uint32_t first;

        append(store, m, 10);
        uidset_add_range(&gone, 3, 6);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_expunge(m, &gone, false, NULL, NULL, &w, &err), 0);
        cr_assert_eq(waiter_block(&w, &err), 0);
        mark(m, ann, "1:8", FLAGS_ADD);
        cr_assert_str_eq(text(ann), "1:8");
        view = mailbox_view(m);
        cr_assert_eq(seen_count_unseen(ann, view, &first), 2);
        cr_assert_eq(first, 9);
        mark(m, ann, "1", FLAGS_REMOVE);
        cr_assert_eq(seen_count_unseen(ann, view, &first), 3);
        cr_assert_eq(first, 1);
        mark(m, ann, "1,9:10", FLAGS_ADD);
        cr_assert_eq(seen_count_unseen(ann, view, &first), 0);
        cr_assert_eq(first, 0);
        view_unref(&view);
        uidset_deinit(&gone);
        seen_unref(&ann);
        mailbox_unref(&m);
        store_close(&store);
}

Test(seen, a_large_ragged_set_is_written_in_chunks)
{
        struct store *store = scratch_open(NULL);
        struct seen *ann = of(store, "aaaaaaaaaaaaaaaaaaaaaaaa", "ann");
        struct seen_state state = { .uids = UIDSET_INIT, .lastuid = 300000, .lastread = 7, .lastchange = 6 }, back;
        struct err err = ERR_INIT;

        for (uint32_t uid = 1; uid < 70000; uid += 2)           /* a bitmap, and ranges */
                uidset_add(&state.uids, uid);
        uidset_add_range(&state.uids, 131072 - 5, 131072 * 2 + 5);      /* across chunks */
        uidset_add(&state.uids, UINT32_MAX);
        cr_assert_eq(seen_set(ann, &state, &err), 0, "%s", err.text);
        seen_unref(&ann);
        ann = of(store, "aaaaaaaaaaaaaaaaaaaaaaaa", "ann");
        seen_get(ann, &back);
        cr_assert(uidset_equal(&back.uids, &state.uids));
        cr_assert_eq(back.lastread, 7);
        cr_assert_eq(back.lastchange, 6);
        uidset_deinit(&back.uids);
        /* Less again: what is empty goes. */
        uidset_clear(&state.uids);
        uidset_add(&state.uids, 4);
        cr_assert_eq(seen_set(ann, &state, &err), 0);
        seen_unref(&ann);
        ann = of(store, "aaaaaaaaaaaaaaaaaaaaaaaa", "ann");
        cr_assert_str_eq(text(ann), "4");
        uidset_deinit(&state.uids);
        seen_unref(&ann);
        store_close(&store);
}

static bool count(void *ctx, const char *name)
{
        cr_assert(*name);
        ++*(int *)ctx;
        return true;
}

static int rows(struct store *store)
{
        struct db_cursor *cursor;
        struct span key, value;
        struct err err = ERR_INIT;
        int n = 0;

        cr_assert_eq(db_cursor_open(store->seen_db, NULL, SPAN(""), &cursor, &err), 0);
        while (db_cursor_next(cursor, &key, &value, &err) > 0)
                n += key.p[0] != '!';
        db_cursor_close(&cursor);
        return n;
}

Test(seen, goes_with_the_mailbox_and_with_the_user)
{
        struct store *store = scratch_open("delete_mode: immediate\n");
        struct mailbox *m = open_box(store, "user.joe");
        struct mailbox *other = open_box(store, "user.ann");
        struct seen *ann = of(store, mailbox_uniqueid(m), "ann"), *bob = of(store, mailbox_uniqueid(m), "bob"), *eve;
        struct err err = ERR_INIT;
        char id[40];
        int n = 0;

        snprintf(id, sizeof id, "%s", mailbox_uniqueid(m));
        append(store, m, 3);
        mark(m, ann, "1", FLAGS_ADD);
        mark(m, bob, "2", FLAGS_ADD);
        cr_assert_eq(seen_each_user(store, id, count, &n, &err), 0);
        cr_assert_eq(n, 2);
        mailbox_unref(&other);
        cr_assert_eq(mboxlist_rename(store_mboxlist(store), "user.ann", "user.eve", true, NULL, &err), 0, "%s", err.text);
        eve = of(store, id, "eve");
        cr_assert_str_eq(text(eve), "1");
        /* A session of ann's that is still there brings nothing back. */
        mark(m, ann, "3", FLAGS_ADD);
        cr_assert_str_eq(text(eve), "1");
        seen_unref(&ann);
        ann = of(store, id, "ann");
        cr_assert_str_eq(text(ann), "");
        n = 0;
        cr_assert_eq(seen_each_mailbox(store, "ann", count, &n, &err), 0);
        cr_assert_eq(n, 0);
        cr_assert_eq(seen_each_mailbox(store, "eve", count, &n, &err), 0);
        cr_assert_eq(n, 1);
        seen_unref(&eve);
        cr_assert_eq(mboxlist_delete_tree(store_mboxlist(store), "user.eve", true, &err), 0, "%s", err.text);
        eve = of(store, id, "eve");
        cr_assert_str_eq(text(eve), "");
        mailbox_unref(&m);
        cr_assert_eq(mboxlist_delete(store_mboxlist(store), "user.joe", true, &err), 0, "%s", err.text);
        cr_assert_eq(rows(store), 0);
        seen_unref(&ann);
        seen_unref(&bob);
        seen_unref(&eve);
        store_close(&store);
}

Test(seen, what_could_not_be_written_is_not_shown_as_seen)
{
        struct store *store = scratch_open(NULL);
        struct mailbox *m = open_box(store, "box");
        struct seen *ann = of(store, mailbox_uniqueid(m), "ann");
        struct flag_change change = { .how = FLAGS_ADD, .flags = MSG_SEEN, .seen = ann };
        struct uidset uids = UIDSET_INIT;
        struct waiter w;
        struct err err = ERR_INIT;
        struct db *db = store->seen_db;
        uint64_t modseq;

        append(store, m, 3);
        mark(m, ann, "1", FLAGS_ADD);
        uidset_add(&uids, 2);
        waiter_init_blocking(&w);
        store->readonly = true;
        cr_assert_eq(mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err), 0);
        cr_assert_lt(waiter_block(&w, &err), 0);
        store->readonly = false;
        cr_assert_eq(store->seen_db, db);
        cr_assert_str_eq(text(ann), "1");
        /* … and it can be done again. */
        mark(m, ann, "2", FLAGS_ADD);
        cr_assert_str_eq(text(ann), "1:2");
        uidset_deinit(&uids);
        seen_unref(&ann);
        mailbox_unref(&m);
        store_close(&store);
}

Test(seen, other_users_changes_are_no_news)
{
        struct store *store = scratch_open(NULL);
        struct mailbox *m = open_box(store, "box");
        struct seen *ann = of(store, mailbox_uniqueid(m), "ann"), *bob = of(store, mailbox_uniqueid(m), "bob");
        struct uidset one = UIDSET_INIT;
        struct flag_change flagged = { .how = FLAGS_ADD, .flags = MSG_FLAGGED };
        uint64_t created, a, b, f, joe = mailbox_reader_id("joe");
        struct msg msg;
        struct waiter w;
        struct err err = ERR_INIT;

        append(store, m, 2);
        mailbox_message(m, 1, &msg, &err);
        created = msg.modseq;
        a = mark(m, ann, "1:2", FLAGS_ADD);
        b = mark(m, bob, "1", FLAGS_ADD);
        cr_assert_eq(mailbox_news_modseq(m, 1, b, joe), created);
        cr_assert_eq(mailbox_news_modseq(m, 1, b, ann->reader), a);
        cr_assert_eq(mailbox_news_modseq(m, 1, b, bob->reader), b);
        cr_assert_eq(mailbox_news_modseq(m, 2, a, bob->reader), created);
        uidset_add(&one, 1);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_store_flags(m, &one, &flagged, UINT64_MAX, NULL, NULL, &f, &w, &err), 0);
        cr_assert_eq(waiter_block(&w, &err), 0);
        a = mark(m, ann, "1", FLAGS_REMOVE);
        cr_assert_eq(mailbox_news_modseq(m, 1, a, joe), f);
        uidset_deinit(&one);
        seen_unref(&ann);
        seen_unref(&bob);
        mailbox_unref(&m);
        store_close(&store);
}

static int64_t now = 1700000000;
static int64_t fake_now(void) { return now; }

Test(seen, selecting_is_remembered_to_the_hour_and_makes_a_reader)
{
        struct store *store = scratch_open(NULL);
        struct mailbox *m = open_box(store, "user.joe");
        char id[25];
        struct seen *ann;
        int64_t at;
        struct err err = ERR_INIT;

        clock_inject_wall(fake_now);
        snprintf(id, sizeof id, "%s", mailbox_uniqueid(m));
        mailbox_unref(&m);
        cr_assert_eq(seen_last_read(store, id, "ann", &at, &err), 0);
        cr_expect_eq(at, 0);
        cr_assert_eq(seen_open(store, id, "ann", &ann, &err), 0);
        seen_touch(ann);
        now += SEEN_TOUCH_S - 1;
        seen_touch(ann);
        cr_assert_eq(seen_last_read(store, id, "ann", &at, &err), 0);
        cr_expect_eq(at, now - SEEN_TOUCH_S + 1);
        seen_unref(&ann);
        store_close(&store);
        store = scratch_open(NULL);
        cr_assert_eq(seen_last_read(store, id, "ann", &at, &err), 0);
        cr_expect_eq(at, now - SEEN_TOUCH_S + 1, "after a restart");
        cr_assert_eq(seen_open(store, id, "ann", &ann, &err), 0);
        now++;
        seen_touch(ann);
        cr_assert_eq(seen_last_read(store, id, "ann", &at, &err), 0);
        cr_expect_eq(at, now);
        seen_unref(&ann);
        store_close(&store);
        clock_inject_wall(NULL);
}

static bool count_user(void *ctx, const char *userid)
{
        (void)userid;
        ++*(unsigned *)ctx;
        return true;
}

Test(seen, what_is_forgotten_is_gone_but_not_under_somebody)
{
        struct store *store = scratch_open(NULL);
        struct mailbox *m = open_box(store, "user.joe");
        struct seen *ann, *bob;
        char id[25];
        unsigned n = 0;
        bool gone;
        struct err err = ERR_INIT;

        snprintf(id, sizeof id, "%s", mailbox_uniqueid(m));
        append(store, m, 3);
        cr_assert_eq(seen_open(store, id, "ann", &ann, &err), 0);
        cr_assert_eq(seen_open(store, id, "bob", &bob, &err), 0);
        mark(m, ann, "1:3", FLAGS_ADD);
        mark(m, bob, "2", FLAGS_ADD);
        cr_assert_eq(seen_forget(store, id, "ann", &gone, &err), 0);
        cr_expect(!gone, "she has it open");
        cr_expect(seen_has(ann, 1));
        seen_unref(&ann);
        cr_assert_eq(seen_forget(store, id, "ann", &gone, &err), 0);
        cr_expect(gone);
        cr_assert_eq(seen_each_user(store, id, count_user, &n, &err), 0);
        cr_expect_eq(n, 1, "bob is left");
        cr_assert_eq(seen_open(store, id, "ann", &ann, &err), 0);
        cr_expect(!seen_has(ann, 1));
        cr_expect(seen_has(bob, 2));
        seen_unref(&ann);
        seen_unref(&bob);
        mailbox_unref(&m);
        store_close(&store);
}
