/* annot - annotations of mailboxes: set all or none, there after a restart, a rebuild and compaction, within limits. */
#include <criterion/criterion.h>

#include "store/annot.h"
#include "store/index_private.h"
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
        uint32_t n = mailbox_annots(m, uid, NULL, &arena, &list);

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

/* As many values of the largest size as there is room for; returns how many, with the name that did not fit. */
static unsigned fill(struct mailbox *m, const char *user, const char *big, char name[32])
{
        struct err err = ERR_INIT;

        for (unsigned i = 0; i < 300; i++) {
                snprintf(name, 32, "/x/%u", i);
                if (try_set(m, name, user, big, &err) < 0) {
                        cr_assert_eq(err.code, ERR_LIMIT);
                        return i;
                }
        }
        return 300;
}

Test(annot, each_share_of_a_mailbox_has_a_limit_in_octets)
{
        struct mailbox *m = fake_create(&st, ID);
        char *big = calloc(1, ANNOT_VALUE_MAX + 1), name[32];
        struct err err = ERR_INIT;

        memset(big, 'x', ANNOT_VALUE_MAX);
        cr_assert_eq(fill(m, "ann", big, name), 63);
        cr_assert_eq(fill(m, "bob", big, name), 63);            /* ann keeps nobody from writing */
        cr_assert_eq(fill(m, "", big, name), 255);
        set(m, "/x/1", "", NULL);
        set(m, name, "", big);
        m = restart(m, false);
        cr_assert_lt(try_set(m, "/x/1", "", big, &err), 0);
        err_clear(&err);
        cr_assert_lt(try_set(m, "/y", "ann", big, &err), 0);
        set(m, "/y", "carl", big);
        set(m, "/x/1", "bob", "small");                         /* what does not grow may always be set */
        set(m, "/y", "bob", big + ANNOT_VALUE_MAX / 2);
        free(big);
        mailbox_unref(&m);
}

#define LITTER 250

/* So many of ann's annotations, whose names take most of them, set or removed. */
static int litter(struct mailbox *m, unsigned from, const char *value, struct err *err)
{
        static char names[LITTER][ANNOT_ENTRY_MAX + 1];
        struct annot set[LITTER];
        struct waiter w;

        for (unsigned i = 0; i < LITTER; i++) {
                memset(names[i], 'n', ANNOT_ENTRY_MAX);
                names[i][snprintf(names[i], 12, "/%09u", from + i)] = 'n';
                set[i] = (struct annot){ names[i], "ann", value ? span_of(value) : (struct span){ NULL, 0 }, 0 };
        }
        waiter_init_blocking(&w);
        return mailbox_annotate(m, set, LITTER, &w, err) < 0 ? -1 : waiter_block(&w, err);
}

/* Somebody who sets and removes fills the mailbox neither for others nor, once the log was compacted, for himself. */
Test(annot, what_one_user_removed_is_written_off_whatever_the_others_have)
{
        struct mailbox *m = fake_create(&st, ID);
        char *big = calloc(1, ANNOT_VALUE_MAX + 1), name[32];
        struct err err = ERR_INIT;
        unsigned i = 0;

        memset(big, 'x', ANNOT_VALUE_MAX);
        for (char user[8] = "u0"; user[1] < '3'; user[1]++)
                fill(m, user, big, (char[32]){ 0 });
        while (i < 10000 && litter(m, i, "v", &err) == 0) {
                cr_assert_eq(litter(m, i, NULL, &err), 0, "%s", err.text);
                i += LITTER;
        }
        cr_assert_eq(err.code, ERR_LIMIT);
        cr_assert(i > 7000 && i < 8500, "%u", i);
        set(m, "/other", "bob", "v");
        cr_assert(m->compact_wanted);
        err_clear(&err);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        set(m, "/room again", "ann", "v");
        set(m, "/room again", "ann", NULL);
        m = restart(m, false);
        cr_assert_eq(fill(m, "ann", big, name), 63);
        free(big);
        mailbox_unref(&m);
}

static unsigned unsaved(struct mailbox *m)
{
        unsigned n = 0;

        for (size_t i = 0; i < m->annots.chunks.n; i++)
                n += !m->annots.chunks.v[i]->saved;
        return n;
}

static void checkpoint(struct mailbox *m)
{
        struct err err = ERR_INIT;

        cr_assert_eq(mailbox_checkpoint(m, &err), 0, "%s", err.text);
        cr_assert_eq(unsaved(m), 0);
}

/* A checkpoint writes what has changed, however many annotations there are. */
Test(annot, a_checkpoint_writes_the_chunks_that_changed)
{
        struct mailbox *m = fake_create(&st, ID);
        char *big = calloc(1, ANNOT_VALUE_MAX + 1), name[32], user[8] = "";
        struct err err = ERR_INIT;

        memset(big, 'x', ANNOT_VALUE_MAX);
        fill(m, "ann", big, name);
        for (unsigned i = 0; i < 900; i++) {
                snprintf(name, sizeof name, "/small/%03u", i * 7 % 900);
                snprintf(user, sizeof user, "u%u", i % 3);
                set(m, name, i % 4 ? user : "", "value");
        }
        cr_assert_gt(unsaved(m), 64);
        checkpoint(m);
        for (size_t i = 0; i < m->annots.chunks.n; i++) {
                const struct annot_chunk *c = m->annots.chunks.v[i];

                cr_assert_null(c->saved->text);                 /* not twice in memory */
                cr_assert(c->n == 1 || c->bytes < 4u * 65536, "%u rows, %u octets", c->n, (unsigned)c->bytes);
        }
        for (unsigned round = 0; round < 3; round++) {
                set(m, "/small/400", "", round % 2 ? "other" : NULL);
                set(m, "/small/401", "u1", round % 2 ? big : "small again");
                cr_assert_leq(unsaved(m), 3);
                checkpoint(m);
                m = restart(m, round == 2);
                cr_assert_eq(unsaved(m), 0);
        }
        cr_assert_eq(m->annots.rows, 63 + 900 + 1);             /* u1 had no /small/401 */
        cr_assert_lt(try_set(m, "/more", "ann", big, &err), 0);
        free(big);
        mailbox_unref(&m);
}

/* Indexes had all annotations in one blob. */
Test(annot, what_an_older_index_has_is_read)
{
        struct mailbox *m = fake_create(&st, ID);
        struct str blob = STR_INIT;
        uint32_t n = 0;
        uint64_t floor;
        const char *want = "/a|=1 /b|ann=2 /c|=3";

        set(m, "/a", "", "1");
        set(m, "/b", "ann", "2");
        set(m, "/c", "", "3");
        set(m, "/gone", "", "4");
        set(m, "/gone", "", NULL);
        checkpoint(m);
        str_append(&blob, &n, sizeof n);
        for (size_t i = 0; i < m->annots.chunks.n; i++) {
                struct str text = STR_INIT;

                cr_assert_eq(index_part_read(m->annots.chunks.v[i]->saved, &text, NULL), 0);
                n += m->annots.chunks.v[i]->n;
                str_append(&blob, text.data + sizeof n, text.len - sizeof n);
                str_deinit(&text);
        }
        cr_assert_eq(n, 4);
        memcpy(blob.data, &n, sizeof n);
        floor = m->annots.floor;
        str_append(&blob, &floor, sizeof floor);
        index_set_parts(m->ix, NULL, 0);
        index_set_blob(m->ix, INDEX_ANNOTATIONS, blob.data, blob.len);
        cr_assert_eq(index_checkpoint(m->ix, NULL), 0);
        str_deinit(&blob);
        for (int i = 0; i < 3; i++) {
                m = restart(m, false);
                cr_assert_str_eq(all(m, 0), want);
                if (i == 1) {
                        set(m, "/d", "", "4");                  /* now it is written as it is today */
                        want = "/a|=1 /b|ann=2 /c|=3 /d|=4";
                        checkpoint(m);
                }
        }
        mailbox_unref(&m);
}

Test(annot, a_message_takes_no_more_along_than_there_is_room_for)
{
        struct mailbox *m = fake_create(&st, ID);
        char *big = calloc(1, ANNOT_VALUE_MAX + 1), name[32];
        struct err err = ERR_INIT;

        memset(big, 'x', ANNOT_VALUE_MAX);
        fill(m, "ann", big, name);
        for (int of = 0; of < 2; of++) {
                struct annot a = { "/c", of ? "bob" : "ann", { big, ANNOT_VALUE_MAX }, 0 };
                struct append_item item;
                struct append_result result;
                struct waiter w;

                item = (struct append_item){ .stage = fake_stage(&st, "X: y\r\n\r\nz", 9) };
                item.annots = &a;
                item.internaldate = item.savedate = INT64_MIN;
                item.annots_n = 1;
                waiter_init_blocking(&w);
                err_clear(&err);
                cr_assert_eq(mailbox_append(m, &item, 1, &result, &w, &err) == 0 && waiter_block(&w, &err) == 0, of == 1, "%s", err.text);
                cr_assert_eq(err.code, of ? ERR_NONE : ERR_LIMIT);
                stage_unref(&item.stage);
        }
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
                cr_assert_eq(mailbox_purge_expunged(m, clock_wall_s() + 10, NULL, &err), 0);
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

/* ---- of messages ---- */

static uint64_t annotate(struct mailbox *m, const char *uids_text, const char *entry, const char *user, const char *value)
{
        struct annot a = { entry, user, value ? span_of(value) : (struct span){ NULL, 0 }, 0 };
        struct uidset uids = UIDSET_INIT;
        struct waiter w;
        struct err err = ERR_INIT;
        uint64_t modseq;

        cr_assert_eq(uidset_parse(span_of(uids_text), 0, &uids, &err), 0);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_annotate_messages(m, &uids, &a, 1, *user ? mailbox_reader_id(user) : 0, UINT64_MAX, NULL, NULL, &modseq, &w, &err),
                     0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        uidset_deinit(&uids);
        return modseq;
}

Test(annot, a_message_that_is_annotated_has_a_new_modseq_and_its_flags)
{
        static const char text[] = "A: b\r\n\r\n";
        struct mailbox *m = fake_create(&st, ID);
        struct uidset uids = UIDSET_INIT, modified = UIDSET_INIT;
        struct annot a = { "/comment", "", SPAN("late"), 0 };
        struct err err = ERR_INIT;
        struct waiter w;
        struct msg msg;
        uint64_t first, modseq;

        for (int i = 0; i < 3; i++)
                cr_assert_neq(fake_append(&st, m, text, sizeof text - 1, MSG_SEEN, "kw", &err), 0);
        first = annotate(m, "1:2", "/comment", "", "hello");
        cr_assert_eq(mailbox_message(m, 1, &msg, &err), 0);
        cr_assert_eq(msg.modseq, first);
        cr_assert_eq(msg.flags, MSG_SEEN);
        cr_assert_neq(msg.kwset, 0);
        cr_assert_eq(annotate(m, "1:2", "/comment", "", "hello"), 0);
        modseq = annotate(m, "1", "/comment", "ann", "mine");
        cr_assert_eq(mailbox_news_modseq(m, 1, modseq, mailbox_reader_id("bob")), first);
        cr_assert_eq(mailbox_news_modseq(m, 1, modseq, mailbox_reader_id("ann")), modseq);
        uidset_add_range(&uids, 1, 3);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_annotate_messages(m, &uids, &a, 1, 0, first, &modified, NULL, &modseq, &w, &err), 0);
        cr_assert_eq(waiter_block(&w, &err), 0);
        cr_assert(uidset_has(&modified, 1) && !uidset_has(&modified, 2));
        for (int rebuild = 0; rebuild < 2; rebuild++) {
                m = restart(m, rebuild);
                cr_assert(mailbox_has_message_annots(m));
                cr_assert_str_eq(all(m, 1), "/comment|=hello /comment|ann=mine");
                cr_assert_str_eq(all(m, 2), "/comment|=late");
                cr_assert_str_eq(all(m, 3), "/comment|=late");
                cr_assert_str_eq(all(m, 0), "");
        }
        uidset_deinit(&uids);
        uidset_deinit(&modified);
        mailbox_unref(&m);
}

Test(annot, they_go_with_the_message_that_is_purged)
{
        static const char text[] = "A: b\r\n\r\n";
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        struct waiter w;

        cr_assert_eq(fake_append(&st, m, text, sizeof text - 1, MSG_DELETED, NULL, &err), 1);
        cr_assert_eq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 2);
        annotate(m, "1:2", "/comment", "", "hello");
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_expunge(m, NULL, true, NULL, NULL, &w, &err), 0);
        cr_assert_eq(waiter_block(&w, &err), 0);
        m = restart(m, false);
        cr_assert_str_eq(all(m, 1), "/comment|=hello");
        cr_assert_eq(mailbox_purge_expunged(m, clock_wall_s() + 10, NULL, &err), 0);
        cr_assert_str_eq(all(m, 1), "");
        for (int rebuild = 0; rebuild < 2; rebuild++) {
                m = restart(m, rebuild);
                cr_assert_str_eq(all(m, 1), "");
                cr_assert_str_eq(all(m, 2), "/comment|=hello");
        }
        mailbox_unref(&m);
}

#define ID_TO "bbbbbbbbbbbbbbbbbbbbbbbb"

static struct mailbox *reopen_to(struct mailbox **from, struct mailbox *to, bool rebuild)
{
        struct mailbox_ident ident = fake_ident(&st, ID_TO);
        struct err err = ERR_INIT;

        mailbox_unref(&to);
        *from = restart(*from, false);
        if (rebuild)
                cr_assert_eq(mailbox_reconstruct(&st, &ident, &err), 0, "%s", err.text);
        return fake_open(&st, ID_TO);
}

/* `many`: built in a segment of its own. */
static void carry_annots(bool move, bool many)
{
        struct mailbox *from = fake_create(&st, ID), *to = fake_create(&st, ID_TO);
        unsigned n = many ? 60 : 3;
        size_t size = many ? 40000 : 100;
        char *text = malloc(size);
        struct copy_mask mask = { .shared_annots = true, .private_annots = "ann" };
        struct append_result result;
        struct uidset uids = UIDSET_INIT;
        struct waiter w;
        struct err err = ERR_INIT;

        memset(text, 'x', size);
        memcpy(text, "A: b\r\n\r\n", 8);
        for (unsigned i = 0; i < n; i++)
                cr_assert_eq(fake_append(&st, from, text, size, 0, NULL, &err), i + 1);
        cr_assert_eq(fake_append(&st, to, text, size, 0, NULL, &err), 1);
        annotate(from, "2:3", "/comment", "", "shared");
        annotate(from, "2", "/comment", "ann", "ann's");
        annotate(from, "2", "/comment", "bob", "bob's");
        if (many)
                annotate(from, "60", "/comment", "", "last");
        uidset_add_range(&uids, 2, n);
        waiter_init_blocking(&w);
        cr_assert_eq((move ? mailbox_move : mailbox_copy)(from, &uids, to, &mask, NULL, &result, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        for (int rebuild = 0; rebuild < 3; rebuild++) {
                cr_assert_str_eq(all(to, 1), "");
                cr_assert_str_eq(all(to, 2), "/comment|=shared /comment|ann=ann's");
                cr_assert_str_eq(all(to, 3), "/comment|=shared");
                if (many)
                        cr_assert_str_eq(all(to, 60), "/comment|=last");
                to = reopen_to(&from, to, rebuild == 1);
        }
        mask = (struct copy_mask){ .drop_flags = 0 };
        if (!move) {
                waiter_init_blocking(&w);
                cr_assert_eq(mailbox_copy(from, &uids, to, &mask, NULL, &result, &w, &err), 0);
                cr_assert_eq(waiter_block(&w, &err), 0);
                cr_assert_str_eq(all(to, result.first_uid), "");
        }
        uidset_deinit(&uids);
        free(text);
        mailbox_unref(&from);
        mailbox_unref(&to);
}

Test(annot, they_are_copied_with_a_message) { carry_annots(false, false); }
Test(annot, they_are_copied_with_many_messages) { carry_annots(false, true); }
Test(annot, they_are_moved_with_a_message) { carry_annots(true, false); }
Test(annot, they_are_moved_with_many_messages) { carry_annots(true, true); }

/* ---- brought by new messages ---- */

static void append_annotated(bool blob, bool replace)
{
        struct mailbox *m = fake_create(&st, ID), *to = fake_create(&st, ID_TO);
        size_t size = blob ? 100000 : 100;
        char *text = malloc(size);
        struct annot first[] = { { "/comment", "", SPAN("shared"), 0 }, { "/comment", "ann", SPAN("ann's"), 0 }, { "/none", "", { NULL, 0 }, 0 },
                                 { "/comment", "", SPAN("shared, the last"), 0 } };
        struct annot third[] = { { "/altsubject", "", SPAN("a\0b"), 0 } };
        struct append_item items[3];
        struct append_result result = { 0, 0, 0, 0 };
        struct err err = ERR_INIT;
        struct waiter w;
        struct stage *stage;

        memset(text, 'x', size);
        memcpy(text, "A: b\r\n\r\n", 8);
        stage = fake_stage(&st, text, size);
        for (int i = 0; i < 3; i++)
                items[i] = (struct append_item){ .stage = stage, .internaldate = INT64_MIN, .savedate = INT64_MIN };
        items[0].annots = first;
        items[0].annots_n = ARRAY_LEN(first);
        items[2].annots = third;
        items[2].annots_n = ARRAY_LEN(third);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_append(m, items, 3, &result, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        if (replace) {
                waiter_init_blocking(&w);
                cr_assert_eq(mailbox_replace(m, 2, to, &items[0], &result, &w, &err), 0, "%s", err.text);
                cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
                waiter_init_blocking(&w);
                cr_assert_eq(mailbox_replace(m, 1, m, &items[2], &result, &w, &err), 0, "%s", err.text);
                cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
                cr_assert_eq(result.first_uid, 4);
        }
        for (int rebuild = 0; rebuild < 3; rebuild++) {
                struct arena arena = ARENA_INIT;
                struct annot *list;

                cr_assert_str_eq(all(m, 1), "/comment|=shared, the last /comment|ann=ann's");
                cr_assert_str_eq(all(m, 2), "");
                cr_assert_eq(mailbox_annots(m, replace ? 4 : 3, "bob", &arena, &list), 1);
                cr_assert_eq(list[0].value.len, 3);
                arena_deinit(&arena);
                if (replace) {
                        cr_assert_str_eq(all(to, 1), "/comment|=shared, the last /comment|ann=ann's");
                        to = reopen_to(&m, to, rebuild == 1);
                } else {
                        mailbox_unref(&to);
                        m = restart(m, rebuild == 1);
                        to = fake_open(&st, ID_TO);
                }
        }
        stage_unref(&stage);
        free(text);
        mailbox_unref(&m);
        mailbox_unref(&to);
}

Test(annot, a_new_message_brings_its_own) { append_annotated(false, false); }
Test(annot, a_new_large_message_brings_its_own) { append_annotated(true, false); }
Test(annot, a_replacement_brings_its_own) { append_annotated(false, true); }
Test(annot, a_large_replacement_brings_its_own) { append_annotated(true, true); }

Test(annot, a_message_with_too_many_is_not_appended)
{
        static const char text[] = "A: b\r\n\r\n";
        struct mailbox *m = fake_create(&st, ID);
        struct annot *many = calloc(ANNOT_COUNT_MAX + 1, sizeof *many);
        struct append_item item = { .stage = fake_stage(&st, text, sizeof text - 1), .annots = many };
        struct append_result result;
        struct err err = ERR_INIT;
        struct waiter w;
        char *names = calloc(ANNOT_COUNT_MAX + 1, 16);

        for (unsigned i = 0; i <= ANNOT_COUNT_MAX; i++) {
                snprintf(names + 16 * i, 16, "/x/%u", i);
                many[i] = (struct annot){ names + 16 * i, "", SPAN("v"), 0 };
        }
        item.annots_n = ANNOT_COUNT_MAX + 1;
        waiter_init_blocking(&w);
        cr_assert_lt(mailbox_append(m, &item, 1, &result, &w, &err), 0);
        cr_assert_eq(err.code, ERR_LIMIT);
        many[0].user = "ann";                                   /* each has his own limit */
        cr_assert_eq(mailbox_append(m, &item, 1, &result, &w, &err), 0);
        cr_assert_eq(waiter_block(&w, &err), 0);
        cr_assert_eq(result.first_uid, 1);
        stage_unref(&item.stage);
        free(many);
        free(names);
        mailbox_unref(&m);
}

Test(annot, what_was_changed_since_is_known_by_name)
{
        static const char text[] = "A: b\r\n\r\n";
        struct mailbox *m = fake_create(&st, ID);
        struct arena arena = ARENA_INIT;
        struct err err = ERR_INIT;
        const char **names;
        uint64_t before;

        cr_assert_eq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 1);
        annotate(m, "1", "/a", "", "1");
        annotate(m, "1", "/gone", "", "1");
        before = annotate(m, "1", "/a", "ann", "1");
        annotate(m, "1", "/b", "", "1");
        annotate(m, "1", "/b", "ann", "1");
        annotate(m, "1", "/c", "bob", "1");
        annotate(m, "1", "/gone", "", NULL);
        cr_assert_eq(mailbox_annot_names(m, 1, "ann", before, &arena, &names), 2);
        cr_assert_str_eq(names[0], "/b");
        cr_assert_str_eq(names[1], "/gone");
        cr_assert_eq(mailbox_annot_names(m, 1, "bob", before, &arena, &names), 3);
        cr_assert_eq(mailbox_annot_names(m, 1, "ann", 0, &arena, &names), 3);
        cr_assert_eq(mailbox_annot_names(m, 2, "ann", 0, &arena, &names), 0);
        arena_deinit(&arena);
        mailbox_unref(&m);
}

/* ---- many ---- */

/* In whatever order they come: the table is in chunks. */
Test(annot, many_rows_in_any_order)
{
        static const char text[] = "A: b\r\n\r\n";
        enum { MESSAGES = 700 };
        static unsigned char model[MESSAGES + 1][4];
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        unsigned seed = 1;

        for (unsigned i = 0; i < MESSAGES; i++)
                cr_assert_neq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 0);
        for (unsigned i = 0; i < 3000; i++) {
                unsigned uid = i < 700 ? MESSAGES - i : i < 1400 ? i - 699 : (unsigned)rand_r(&seed) % MESSAGES + 1;
                unsigned entry = i < 700 ? 1 : i < 1400 ? 0 : (unsigned)rand_r(&seed) % 4, value = (unsigned)rand_r(&seed) % 5;
                char name[8] = { '/', (char)('a' + entry), '\0' }, uid_text[12], v[2] = { (char)('0' + value), '\0' };

                snprintf(uid_text, sizeof uid_text, "%u", uid);
                annotate(m, uid_text, name, "", value ? v : NULL);
                model[uid][entry] = (unsigned char)value;
        }
        for (int rebuild = 0; rebuild < 3; rebuild++) {
                for (unsigned uid = 1; uid <= MESSAGES; uid++) {
                        char want[80] = "";

                        for (unsigned e = 0; e < 4; e++)
                                if (model[uid][e])
                                        snprintf(want + strlen(want), sizeof want - strlen(want), "%s/%c|=%c", *want ? " " : "", 'a' + e,
                                                 '0' + model[uid][e]);
                        cr_assert_str_eq(all(m, uid), want, "message %u", uid);
                }
                m = restart(m, rebuild == 1);
        }
        mailbox_unref(&m);
}

/* Set and removed under ever new names: rows that say so must not pile up. */
static void pile_up(struct mailbox *m)
{
        for (unsigned i = 0; i < 400; i++) {
                char name[1000], uid[12];

                memset(name, 'n', sizeof name);
                snprintf(name, 20, "/%u", i);
                name[strlen(name)] = '/';
                name[999] = '\0';
                snprintf(uid, sizeof uid, "%u", i % 3 + 1);
                annotate(m, uid, name, "", "1");
                annotate(m, uid, name, "", NULL);
        }
}

#define expect_few(m, max) expect_few_at(m, max, __LINE__)

static void expect_few_at(struct mailbox *m, unsigned max, int line)
{
        mailbox_lock(m);
        cr_assert_leq(m->annots.rows, max, "line %d: %u rows", line, (unsigned)m->annots.rows);
        mailbox_unlock(m);
        cr_assert_str_eq(all(m, 1), "/kept|=1 /kept/too|=now");
        cr_assert_str_eq(all(m, 2), "/late|=1");
        cr_assert_str_eq(all(m, 3), "");
        cr_assert_str_eq(all(m, 0), "/comment|=of the mailbox");
}

Test(annot, what_was_removed_does_not_pile_up)
{
        static const char text[] = "A: b\r\n\r\n";
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;

        for (unsigned i = 0; i < 3; i++)
                cr_assert_neq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 0);
        annotate(m, "1", "/kept", "", "1");
        annotate(m, "1", "/kept/too", "", "then");
        set(m, "/comment", "", "of the mailbox");
        pile_up(m);
        annotate(m, "1", "/kept/too", "", "now");
        annotate(m, "2", "/late", "", "1");
        mailbox_lock(m);
        cr_assert(m->compact_wanted);
        mailbox_unlock(m);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        expect_few(m, 10);
        for (int rebuild = 0; rebuild < 3; rebuild++) {
                m = restart(m, rebuild == 1);
                expect_few(m, 10);
        }
        /* Once more, and what removes is above the floor, what was set before below it. */
        pile_up(m);
        annotate(m, "3", "/goes", "", "1");
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        annotate(m, "3", "/goes", "", NULL);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        for (int rebuild = 0; rebuild < 3; rebuild++) {
                m = restart(m, rebuild == 1);
                expect_few(m, 12);
        }
        mailbox_unref(&m);
}

static void next_segment(struct mailbox *m)
{
        struct err err = ERR_INIT;

        mailbox_maintain_begin(m);
        cr_assert_eq(mailbox_roll(m, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_begin_next(m, &err), 0, "%s", err.text);
        mailbox_maintain_end(m);
}

/* What was set stands in a segment that stays, as its messages live; that it was removed in one that goes. */
Test(annot, what_was_removed_does_not_come_back_from_an_older_segment)
{
        struct mailbox *m = fake_create(&st, ID);
        static char text[60000];
        struct err err = ERR_INIT;

        memset(text, 'x', sizeof text);
        memcpy(text, "A: b\r\n\r\n", 8);
        for (unsigned i = 0; i < 10; i++)
                cr_assert_neq(fake_append(&st, m, text, sizeof text, 0, NULL, &err), 0);
        annotate(m, "1", "/kept", "", "1");
        annotate(m, "1", "/kept/too", "", "then");
        annotate(m, "3", "/goes", "", "1");
        set(m, "/comment", "", "of the mailbox");
        set(m, "/gone", "", "1");
        next_segment(m);
        set(m, "/gone", "", NULL);
        annotate(m, "3", "/goes", "", NULL);
        annotate(m, "1", "/kept/too", "", "now");
        annotate(m, "2", "/late", "", "1");
        pile_up(m);
        next_segment(m);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        mailbox_lock(m);
        cr_assert_gt(m->segs_n, 2, "the first segment should still be there");
        mailbox_unlock(m);
        expect_few(m, 10);
        for (int rebuild = 0; rebuild < 3; rebuild++) {
                m = restart(m, rebuild == 1);
                expect_few(m, 10);
        }
        /* The floor outlives the segment that it stands in. */
        pile_up(m);
        next_segment(m);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        for (unsigned i = 0; i < 10; i++) {
                annotate(m, "2", "/late", "", i % 2 ? "1" : "2");
                next_segment(m);
        }
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        for (int rebuild = 0; rebuild < 3; rebuild++) {
                m = restart(m, rebuild == 1);
                expect_few(m, 10);
        }
        mailbox_unref(&m);
}
