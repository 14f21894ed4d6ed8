/* annot - annotations of mailboxes: set all or none, there after a restart, a rebuild and compaction, within limits. */
#include <criterion/criterion.h>

#include "store/annot.h"
#include "store/mailbox_private.h"
#include "t/store/fake_store.h"
#include "util/clock.h"

static struct store st;

static void setup(void) { fake_store_init(&st, 0); }
static void teardown(void) { fake_store_deinit(&st); }

TestSuite(annot, .init = setup, .fini = teardown, .timeout = 60);

#define ID "aaaaaaaaaaaaaaaaaaaaaaaa"

static int try_set(struct mailbox *m, const char *entry, const char *user, const char *value, struct err *err)
{
        struct annot a = { entry, user, value ? span_of(value) : (struct span){ NULL, 0 }, 0 };
        struct waiter w;

        waiter_init_blocking(&w);
        if (mailbox_annotate(m, &a, 1, &w, err) < 0)
                return -1;
        return waiter_block(&w, err);
}

static void set(struct mailbox *m, const char *entry, const char *user, const char *value)
{
        struct err err = ERR_INIT;

        cr_assert_eq(try_set(m, entry, user, value, &err), 0, "%s", err.text);
}

static const char *all(struct mailbox *m, uint32_t uid)
{
        static char out[4000];
        struct arena arena = ARENA_INIT;
        struct annot *list;
        uint32_t n = mailbox_annots(m, uid, &arena, &list);

        *out = '\0';
        for (uint32_t i = 0; i < n; i++)
                snprintf(out + strlen(out), sizeof out - strlen(out), "%s%s|%s=%.*s", i ? " " : "", list[i].entry, list[i].user,
                         (int)list[i].value.len, list[i].value.p);
        arena_deinit(&arena);
        return out;
}

static struct mailbox *restart(struct mailbox *m, bool rebuild)
{
        struct mailbox_ident ident = fake_ident(&st, ID);
        struct err err = ERR_INIT;

        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        fake_store_start(&st, 0);
        if (rebuild)
                cr_assert_eq(mailbox_reconstruct(&st, &ident, &err), 0, "%s", err.text);
        return fake_open(&st, ID);
}

Test(annot, they_are_set_replaced_removed_and_there_after_a_restart)
{
        struct mailbox *m = fake_create(&st, ID);
        struct mailbox_status s;
        uint64_t modseq;

        set(m, "/comment", "", "hello");
        set(m, "/comment", "ann", "private");
        set(m, "/vendor/x", "", "");
        set(m, "/comment", "", "hello again");
        set(m, "/gone", "", "1");
        set(m, "/gone", "", NULL);
        set(m, "/never", "", NULL);
        cr_assert_str_eq(all(m, 0), "/comment|=hello again /comment|ann=private /vendor/x|=");
        mailbox_status(m, &s);
        modseq = s.highestmodseq;
        set(m, "/comment", "", "hello again");          /* no change: no record */
        mailbox_status(m, &s);
        cr_assert_eq(s.highestmodseq, modseq);
        for (int rebuild = 0; rebuild < 3; rebuild++) {
                m = restart(m, rebuild == 1);
                cr_assert_str_eq(all(m, 0), "/comment|=hello again /comment|ann=private /vendor/x|=");
        }
        mailbox_unref(&m);
}

Test(annot, one_that_fails_leaves_the_others_as_they_were)
{
        struct mailbox *m = fake_create(&st, ID);
        struct annot many[3] = { { "/a", "", SPAN("1"), 0 }, { "/b", "", SPAN("2"), 0 }, { "/c", "", SPAN("3"), 0 } };
        struct waiter w;
        struct err err = ERR_INIT;

        for (unsigned i = 0; i < ANNOT_COUNT_MAX - 2; i++) {
                char name[32];

                snprintf(name, sizeof name, "/x/%u", i);
                set(m, name, "", "v");
        }
        waiter_init_blocking(&w);
        cr_assert_lt(mailbox_annotate(m, many, 3, &w, &err), 0);
        cr_assert_eq(err.code, ERR_LIMIT);
        cr_assert_eq(strncmp(all(m, 0), "/x/0", 4), 0, "%s", all(m, 0));
        cr_assert_eq(mailbox_annotate(m, many, 2, &w, &err), 0);
        cr_assert_eq(waiter_block(&w, &err), 0);
        err_clear(&err);
        cr_assert_lt(try_set(m, "/d", "", "4", &err), 0);
        set(m, "/a", "", NULL);
        set(m, "/d", "", "4");
        mailbox_unref(&m);
}

Test(annot, all_of_a_mailbox_have_a_limit_in_octets)
{
        struct mailbox *m = fake_create(&st, ID);
        char *big = calloc(1, ANNOT_VALUE_MAX + 1);
        struct err err = ERR_INIT;
        unsigned i = 0;
        char name[32];

        memset(big, 'x', ANNOT_VALUE_MAX);
        for (; i < 300; i++) {
                snprintf(name, sizeof name, "/x/%u", i);
                if (try_set(m, name, "", big, &err) < 0)
                        break;
        }
        cr_assert_eq(err.code, ERR_QUOTA);
        cr_assert_eq(i, 255);
        set(m, "/x/1", "", NULL);
        set(m, name, "", big);
        m = restart(m, false);
        cr_assert_lt(try_set(m, "/x/1", "", big, &err), 0);
        free(big);
        mailbox_unref(&m);
}

/* The old value is in a segment that is rewritten, the newer one or its removal in one that stays, and the other way round. */
Test(annot, compaction_keeps_the_newest)
{
        static const char text[] = "A: b\r\n\r\n";
        struct mailbox *m = fake_create(&st, ID);
        char *big = malloc(300000);
        struct err err = ERR_INIT;
        struct waiter w;

        memset(big, 'x', 300000);
        memcpy(big, text, sizeof text - 1);
        set(m, "/stays", "", "1");
        set(m, "/changes", "", "old");
        set(m, "/goes", "", "1");
        for (int round = 0; round < 4; round++) {
                for (int i = 0; i < 10; i++)
                        cr_assert_neq(fake_append(&st, m, text, sizeof text - 1, MSG_DELETED, NULL, &err), 0, "%s", err.text);
                for (int i = 0; i < 8; i++) {
                        char name[40], *value = malloc(60001);

                        memset(value, 'a' + i, 60000);
                        value[60000] = '\0';
                        snprintf(name, sizeof name, "/big/%d", i);
                        set(m, name, "", value);
                        set(m, name, "", "small");
                        free(value);
                }
                waiter_init_blocking(&w);
                cr_assert_eq(mailbox_expunge(m, NULL, true, NULL, NULL, &w, &err), 0);
                cr_assert_eq(waiter_block(&w, &err), 0);
                cr_assert_eq(mailbox_purge_expunged(m, clock_wall_s() + 10, &err), 0);
                cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
                if (round == 0)
                        set(m, "/changes", "", "new");
                if (round == 1)
                        set(m, "/goes", "", NULL);
                m = restart(m, round % 2);
                cr_assert_eq(strncmp(all(m, 0), "/big/0|=small /big/1|=small", 27), 0, "%s", all(m, 0));
                cr_assert(strstr(all(m, 0), "/changes|=new ") != NULL, "%s", all(m, 0));
                cr_assert_eq(strstr(all(m, 0), "/goes|=1") != NULL, round == 0, "%s", all(m, 0));
                cr_assert(strstr(all(m, 0), "/stays|=1") != NULL);
        }
        free(big);
        mailbox_unref(&m);
}

Test(annot, names_out_of_rule)
{
        static const char *const bad[] = { "", "/", "comment", "/a/", "/a//b", "/a*", "/%", "/a\1", "/\303\244" };
        struct err err = ERR_INIT;

        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                cr_assert_lt(annot_check_entry(span_of(bad[i]), &err), 0, "%s", bad[i]);
        cr_assert_eq(annot_check_entry(SPAN("/vendor/x y/\\\""), &err), 0);
}
