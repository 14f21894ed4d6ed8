/* mailbox - appended, flagged, expunged, reopened: what was acknowledged is there, what was not is not. */
#include <criterion/criterion.h>

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
                cr_assert_eq(mailbox_front(m, &msg, FRONT_ALL, &arena, &f, &err), 0, "%s", err.text);
                str_printf(out, " parts=%u %.*s\n", f.part_count, (int)f.envelope.len, f.envelope.p);
                arena_deinit(&arena);
        }
        view_unref(&v);
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
