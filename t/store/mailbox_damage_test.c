/* mailbox, damaged and interrupted: torn tails, flipped bits, refused writes and syncs, epochs, compaction, reconstruct. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "store/annot.h"
#include "store/mailbox_private.h"
#include "t/store/fake_store.h"

static struct store st;

static void setup(void) { fake_store_init(&st, 0); }
static void teardown(void)
{
        fs_fault = NULL;
        fake_store_deinit(&st);
}

TestSuite(damage, .init = setup, .fini = teardown, .timeout = 120);

#define ID "dddddddddddddddddddddddd"
#define ID2 "eeeeeeeeeeeeeeeeeeeeeeee"
static const char text[] = "From: a@example.org\r\nSubject: hello\r\n\r\nbody\r\n";

static uint32_t append(struct mailbox *m, uint32_t flags)
{
        struct err err = ERR_INIT;

        return fake_append(&st, m, text, sizeof text - 1, flags, NULL, &err);
}

static uint32_t messages(struct mailbox *m)
{
        struct mailbox_status s;

        mailbox_status(m, &s);
        return s.messages;
}

/* The state of a directory as a crash would leave it: a copy of its files under another store. */
static void copy_dir(const char *from, const char *to)
{
        char cmd[300];

        snprintf(cmd, sizeof cmd, "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
        cr_assert_eq(system(cmd), 0);
}

static void segment_path(char *buf, size_t size, unsigned id)
{
        snprintf(buf, size, "%s/d/d/%s/log.%016x", st.dir, ID, id);
}

static uint64_t file_len(const char *path)
{
        struct stat sb;

        return stat(path, &sb) < 0 ? 0 : (uint64_t)sb.st_size;
}

Test(damage, a_tail_torn_at_any_octet_is_before_or_after)
{
        struct mailbox *m = fake_create(&st, ID);
        char dir[120], saved[120], path[200];
        uint64_t before, after;

        segment_path(path, sizeof path, 1);
        append(m, 0);
        append(m, MSG_SEEN);
        before = file_len(path);
        append(m, MSG_FLAGGED);
        after = file_len(path);
        snprintf(dir, sizeof dir, "%s/d/d/%s", st.dir, ID);
        snprintf(saved, sizeof saved, "%s/saved", st.dir);
        copy_dir(dir, saved);
        mailbox_unref(&m);
        for (uint64_t cut = before; cut <= after; cut += cut < before + 110 ? 1 : 3) {
                uint64_t at = cut > after ? after : cut;

                logstore_destroy(&st.ls);
                copy_dir(saved, dir);
                cr_assert_eq(truncate(path, (off_t)at), 0);
                st.epoch++;
                fake_store_start(&st, 0);
                m = fake_open(&st, ID);
                cr_assert_not_null(m, "cut at %llu", (unsigned long long)at);
                /* The padding behind the last record is not missed. */
                cr_assert_eq(messages(m), at + 8 > after && messages(m) == 3 ? 3 : 2, "cut at %llu: %u", (unsigned long long)at, messages(m));
                cr_assert_eq(append(m, 0), messages(m), "uid after cut at %llu", (unsigned long long)at);
                mailbox_unref(&m);
                logstore_destroy(&st.ls);
                fake_store_start(&st, 0);
                m = fake_open(&st, ID);
                cr_assert_eq(messages(m), at == after ? 4 : messages(m));
                cr_assert_eq(m->damage, 0);
                mailbox_unref(&m);
        }
}

Test(damage, a_flipped_bit_costs_one_message_and_is_reported)
{
        struct mailbox *m = fake_create(&st, ID);
        char dir[120], saved[120], path[200];
        uint64_t len;

        segment_path(path, sizeof path, 1);
        for (int i = 0; i < 8; i++)
                append(m, i % 2 ? MSG_SEEN : 0);
        len = file_len(path);
        snprintf(dir, sizeof dir, "%s/d/d/%s", st.dir, ID);
        snprintf(saved, sizeof saved, "%s/saved", st.dir);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        copy_dir(dir, saved);
        fake_store_start(&st, 0);
        for (uint64_t at = 0; at < len - 8; at += 37) {       /* the segment's header is no different */
                struct check_report report = { .messages = 0 };
                struct mailbox_ident ident = fake_ident(&st, ID);
                struct err err = ERR_INIT;
                char c;
                int fd;

                logstore_destroy(&st.ls);
                copy_dir(saved, dir);
                fd = open(path, O_RDWR);
                cr_assert_eq(pread(fd, &c, 1, (off_t)at), 1);
                c ^= 0x10;
                cr_assert_eq(pwrite(fd, &c, 1, (off_t)at), 1);
                close(fd);
                fake_store_start(&st, 0);
                cr_assert_eq(mailbox_check_files(&st, &ident, &report, &err), 0, "%s", err.text);
                if (report.problems == 0) {             /* padding */
                        continue;
                }
                cr_assert_eq(mailbox_reconstruct(&st, &ident, &err), 0, "%s", err.text);
                m = fake_open(&st, ID);
                cr_assert_not_null(m);
                cr_assert_geq(messages(m), 7, "flip at %llu: %u messages", (unsigned long long)at, messages(m));
                cr_assert_eq(append(m, 0), 9, "flip at %llu", (unsigned long long)at);
                mailbox_unref(&m);
        }
}

static const char *failing_call;
static int failing_errno, failing_after;
static int fail(const char *call)
{
        if (!failing_call || strcmp(call, failing_call) != 0 || failing_after-- > 0)
                return 0;
        return failing_errno;
}

Test(damage, disk_full_refuses_the_message_and_nothing_else)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        struct check_report report = { .messages = 0 };
        struct mailbox_ident ident = fake_ident(&st, ID);

        append(m, 0);
        failing_call = "pwritev";
        failing_errno = ENOSPC;
        fs_fault = fail;
        cr_expect_eq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 0);
        cr_expect_eq(err.code, ERR_NOSPACE, "%s", err.text);
        cr_expect_eq(messages(m), 1);
        fs_fault = NULL;
        cr_expect_eq(append(m, 0), 2);
        mailbox_unref(&m);
        cr_assert_eq(mailbox_check_files(&st, &ident, &report, &err), 0, "%s", err.text);
        cr_expect_eq(report.problems, 0);
        cr_expect_eq(report.messages, 2);
}

Test(damage, a_failed_sync_takes_back_what_was_not_on_disk)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        struct mailbox_status s;

        append(m, 0);
        failing_call = "fdatasync";
        failing_errno = EIO;
        failing_after = 0;
        fs_fault = fail;
        cr_expect_eq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 0);
        cr_expect_eq(err.code, ERR_IO, "%s", err.text);
        fs_fault = NULL;
        cr_expect(st.failed);
        cr_expect_eq(messages(m), 1);
        err_clear(&err);
        cr_expect_eq(fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err), 0);
        cr_expect_eq(err.code, ERR_READONLY);
        mailbox_status(m, &s);
        cr_expect(s.readonly);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        st.epoch++;
        fake_store_start(&st, 0);
        m = fake_open(&st, ID);
        cr_expect_eq(messages(m), 1);
        cr_expect_eq(append(m, 0), 2);
        mailbox_unref(&m);
}

Test(damage, modseqs_jump_after_an_unclean_stop_only)
{
        struct mailbox *m = fake_create(&st, ID);
        uint64_t before;

        append(m, 0);
        before = mailbox_published_modseq(m);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        fake_store_start(&st, 0);
        m = fake_open(&st, ID);
        cr_expect_eq(mailbox_published_modseq(m), before);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        st.epoch += 2;
        fake_store_start(&st, 0);
        m = fake_open(&st, ID);
        cr_expect_eq(mailbox_published_modseq(m), before + 2 * 65536);
        append(m, 0);
        cr_expect_eq(mailbox_published_modseq(m), before + 2 * 65536 + 1);
        mailbox_unref(&m);
}

Test(damage, one_message_costs_one_sync_and_reading_none)
{
        struct mailbox *m = fake_create(&st, ID);
        struct logstore_stats before, after;
        struct view *v;

        append(m, 0);
        logstore_stats(st.ls, &before);
        append(m, 0);
        logstore_stats(st.ls, &after);
        cr_expect_eq(after.syncs - before.syncs, 1);
        v = mailbox_view(m);
        for (uint32_t i = 1; i <= view_count(v); i++) {
                struct msg msg;
                struct extent x;
                struct err err = ERR_INIT;

                cr_assert_eq(mailbox_message(m, view_uid(v, i), &msg, &err), 0);
                cr_assert_eq(mailbox_body(m, &msg, &x, &err), 0);
                file_unref(&x.file);
        }
        view_unref(&v);
        logstore_stats(st.ls, &before);
        cr_expect_eq(after.syncs, before.syncs);
        mailbox_unref(&m);
}

static void store(struct mailbox *m, uint32_t first, uint32_t last, uint32_t flags)
{
        struct uidset uids = UIDSET_INIT;
        struct flag_change change = { .how = FLAGS_ADD, .flags = flags };
        struct waiter w;
        struct err err = ERR_INIT;
        uint64_t modseq;

        uidset_add_range(&uids, first, last);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0);
        uidset_deinit(&uids);
}

static void expunge_deleted(struct mailbox *m)
{
        struct waiter w;
        struct err err = ERR_INIT;

        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_expunge(m, NULL, true, NULL, NULL, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
}

static void check_clean(void)
{
        struct check_report report = { .messages = 0 };
        struct mailbox_ident ident = fake_ident(&st, ID);
        struct err err = ERR_INIT;

        cr_assert_eq(mailbox_check_files(&st, &ident, &report, &err), 0, "%s", err.text);
        cr_assert_eq(report.problems, 0);
}

Test(damage, compaction_keeps_what_lives_and_gives_back_the_rest)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        char *body = malloc(40000), old[200];
        uint64_t uidnext, modseq;
        struct mailbox_status s;

        memset(body, 'c', 40000);
        for (int i = 0; i < 40; i++) {
                body[0] = (char)i;
                cr_assert(fake_append(&st, m, body, 40000, i % 2 ? MSG_SEEN : 0, i % 4 ? "kw" : NULL, &err) > 0);
        }
        store(m, 1, 30, MSG_DELETED);
        store(m, 35, 36, MSG_FLAGGED);
        expunge_deleted(m);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
        check_clean();
        segment_path(old, sizeof old, 1);
        cr_assert_eq(access(old, F_OK), 0);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        cr_expect_neq(access(old, F_OK), 0);
        check_clean();
        store(m, 38, 39, MSG_ANSWERED);
        check_clean();
        mailbox_status(m, &s);
        uidnext = s.uidnext;
        modseq = s.highestmodseq;
        cr_expect_eq(s.messages, 10);
        for (uint32_t uid = 31; uid <= 40; uid++) {
                struct msg msg;
                struct extent x;

                cr_assert_eq(mailbox_message(m, uid, &msg, &err), 0, "%s", err.text);
                cr_assert_eq(mailbox_body(m, &msg, &x, &err), 0, "%s", err.text);
                file_unref(&x.file);
        }
        mailbox_unref(&m);
        cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
        check_clean();
        m = fake_open(&st, ID);
        mailbox_status(m, &s);
        cr_expect_eq(s.messages, 10);
        cr_expect_eq(s.uidnext, uidnext);
        cr_expect_eq(s.highestmodseq, modseq);
        cr_expect_eq(append(m, 0), uidnext);
        mailbox_unref(&m);
        free(body);
}

/* With threads, and little room for mailboxes that nobody has open. */
static void start_crowded(unsigned cold_max)
{
        struct logstore_options options = { .sync_threads = 1, .cold_mailboxes_max = cold_max };
        struct err err = ERR_INIT;

        logstore_destroy(&st.ls);
        cr_assert_eq(logstore_create(&st, &options, &st.ls, &err), 0, "%s", err.text);
}

static void touch_other(unsigned number)
{
        char id[25];
        struct mailbox *m;

        snprintf(id, sizeof id, "%024u", number);
        m = fake_create(&st, id);
        cr_assert_not_null(m);
        mailbox_unref(&m);
}

Test(damage, a_mailbox_that_failed_gives_no_modseq_again)
{
        struct err why = { ERR_IO, "it is broken" };
        struct mailbox_status s;
        struct mailbox *m;
        uint64_t shown;

        start_crowded(1);
        m = fake_create(&st, ID);
        append(m, 0);
        for (int i = 0; i < 5; i++)
                store(m, 1, 1, i % 2 ? MSG_SEEN : MSG_FLAGGED);
        store(m, 1, 1, MSG_ANSWERED);                   /* not on the disk: that takes half a second */
        mailbox_status(m, &s);
        shown = s.highestmodseq;
        mailbox_lock(m);
        mailbox_fail_locked(m, &why, false);
        cr_expect_lt(index_counters(m->ix)->highestmodseq, shown, "nothing was left to fail");
        mailbox_unlock(m);
        cr_expect(st.mailbox_failed, "the stop has to be an unclean one");
        mailbox_unref(&m);
        touch_other(1);
        touch_other(2);
        for (int i = 0; i < 100 && (m = mailbox_find_open(&st, ID)) != NULL; i++) {
                mailbox_unref(&m);
                touch_other(3 + (unsigned)i);
                usleep(100000);
        }
        m = fake_open(&st, ID);
        cr_assert_not_null(m);
        cr_expect_not(m->failed, "it was never closed");
        mailbox_status(m, &s);
        cr_expect_geq(s.highestmodseq, shown);
        store(m, 1, 1, MSG_DRAFT);
        mailbox_status(m, &s);
        cr_expect_gt(s.highestmodseq, shown);
        mailbox_unref(&m);
}

Test(damage, cold_mailboxes_are_bounded_however_fast_they_come)
{
        struct logstore_stats s;

        start_crowded(4);
        for (unsigned i = 0; i < 100; i++) {
                touch_other(i);
                logstore_stats(st.ls, &s);
                cr_assert_leq(s.cold_mailboxes, 9);
                cr_assert_leq(s.open_mailboxes, 9 + 1 + 8);
        }
}

Test(damage, what_is_written_after_a_compaction_and_a_stop_counts_when_the_index_is_rebuilt)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        char *body = malloc(40000);
        struct msg msg;

        memset(body, 'c', 40000);
        for (int i = 0; i < 40; i++)
                cr_assert(fake_append(&st, m, body, 40000, 0, NULL, &err) > 0);
        store(m, 1, 30, MSG_DELETED);
        store(m, 35, 36, MSG_FLAGGED);
        expunge_deleted(m);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        fake_store_start(&st, 0);
        m = fake_open(&st, ID);
        store(m, 35, 36, MSG_ANSWERED);
        store(m, 33, 34, MSG_DELETED);
        expunge_deleted(m);
        check_clean();
        mailbox_unref(&m);
        cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
        m = fake_open(&st, ID);
        cr_expect_eq(messages(m), 8);
        cr_assert_eq(mailbox_message(m, 35, &msg, &err), 0, "%s", err.text);
        cr_expect(msg.flags & MSG_ANSWERED);
        mailbox_unref(&m);
        free(body);
}

static struct mailbox *reconstruct_without_manifest(struct mailbox *m)
{
        char path[200];
        struct err err = ERR_INIT;

        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        for (int i = 0; i < 2; i++) {
                snprintf(path, sizeof path, "%s/d/d/%s/manifest%s", st.dir, ID, i ? ".copy" : "");
                cr_assert_eq(unlink(path), 0);
        }
        fake_store_start(&st, 0);
        cr_assert_eq(mailbox_reconstruct(&st, &(struct mailbox_ident){ ID, st.dir, "x", 1 }, &err), 0, "%s", err.text);
        m = fake_open(&st, ID);
        return m;
}

/* … nor when the manifest is lost, and nothing tells which segment is a compacted one. */
Test(damage, what_is_written_after_a_compaction_counts_when_the_manifest_is_rebuilt)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        char *body = malloc(40000);
        struct msg msg;

        memset(body, 'c', 40000);
        for (int i = 0; i < 40; i++)
                cr_assert(fake_append(&st, m, body, 40000, 0, NULL, &err) > 0);
        store(m, 1, 30, MSG_DELETED);
        expunge_deleted(m);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        store(m, 35, 36, MSG_ANSWERED);
        m = reconstruct_without_manifest(m);
        cr_expect_eq(messages(m), 10);
        cr_assert_eq(mailbox_message(m, 35, &msg, &err), 0, "%s", err.text);
        cr_expect(msg.flags & MSG_ANSWERED);
        mailbox_unref(&m);
        free(body);
}

/* … nor when an earlier compaction's messages were expunged and purged by what a later one wrote. */
Test(damage, what_was_compacted_twice_is_in_order_when_the_manifest_is_rebuilt)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        char *body = malloc(40000);

        memset(body, 'c', 40000);
        for (int round = 0; round < 2; round++) {
                for (int i = 0; i < 40; i++)
                        cr_assert(fake_append(&st, m, body, 40000, 0, NULL, &err) > 0);
                store(m, round ? 41 : 1, round ? 75 : 30, MSG_DELETED);
                if (round)
                        store(m, 31, 33, MSG_DELETED);          /* in what the first one wrote, which stays */
                expunge_deleted(m);
                cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
                cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        }
        store(m, 76, 77, MSG_ANSWERED);
        cr_assert_eq(messages(m), 12);
        m = reconstruct_without_manifest(m);
        cr_expect_eq(messages(m), 12, "%u", messages(m));
        mailbox_unref(&m);
        free(body);
}

/* A torn tail behind all that counts: the log goes on in a new segment, while the index on the disk points at the end of the former one, and
 * nothing in memory is newer than it. Compaction must not take that segment away from under it. */
Test(damage, compaction_after_a_torn_tail_takes_the_index_along)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        char *body = malloc(40000), old[200], index[200];
        struct index *ix;
        FILE *f;

        memset(body, 'c', 40000);
        for (int i = 0; i < 40; i++)
                cr_assert(fake_append(&st, m, body, 40000, MSG_DELETED, NULL, &err) > 0);
        expunge_deleted(m);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_checkpoint(m, &err), 0, "%s", err.text);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        segment_path(old, sizeof old, 1);
        f = fopen(old, "a");
        fwrite("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 1, 40, f);
        fclose(f);
        fake_store_start(&st, 0);
        m = fake_open(&st, ID);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        cr_assert_neq(access(old, F_OK), 0);
        snprintf(index, sizeof index, "%s/d/d/%s/index", st.dir, ID);
        cr_assert_eq(index_open(index, ID, &ix, &err), 0, "%s", err.text);
        cr_expect_gt(index_counters(ix)->log.segment, 1);
        index_destroy(&ix);
        mailbox_unref(&m);
        free(body);
}

Test(damage, uids_do_not_go_back_when_everything_is_gone)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;
        char index[200];

        for (int i = 0; i < 20; i++)
                append(m, MSG_DELETED);
        expunge_deleted(m);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        snprintf(index, sizeof index, "%s/d/d/%s/index", st.dir, ID);
        unlink(index);
        fake_store_start(&st, 0);
        m = fake_open(&st, ID);
        cr_expect_eq(messages(m), 0);
        cr_expect_eq(append(m, 0), 21);
        mailbox_unref(&m);
}

/* A damaged manifest costs nothing, at any octet of it; a copy that is older than the segments does not stand in. */
Test(damage, the_copy_of_a_manifest_stands_in_for_it)
{
        struct mailbox *m = fake_create(&st, ID);
        struct mailbox_ident ident = fake_ident(&st, ID);
        struct err err = ERR_INIT;
        char path[200], later[200];
        FILE *f;

        for (int i = 0; i < 5; i++)
                append(m, 0);
        mailbox_unref(&m);
        snprintf(path, sizeof path, "%s/d/d/%s/manifest", st.dir, ID);
        for (long at = 0; at < 110; at += 9) {
                int c = EOF;

                logstore_destroy(&st.ls);
                f = fopen(path, "r+");
                cr_assert(f && fseek(f, at, SEEK_SET) == 0 && (c = fgetc(f)) != EOF && fseek(f, at, SEEK_SET) == 0);
                fputc(c ^ 0x10, f);
                fclose(f);
                fake_store_start(&st, 0);
                m = fake_open(&st, ID);
                cr_expect_eq(messages(m), 5, "octet %ld", at);
                mailbox_unref(&m);
        }
        logstore_destroy(&st.ls);
        cr_assert_eq(truncate(path, 7), 0);
        snprintf(later, sizeof later, "%s/d/d/%s/log.00000000000000ff", st.dir, ID);
        fclose(fopen(later, "w"));
        fake_store_start(&st, 0);
        cr_expect_neq(mailbox_open(&st, &ident, &m, &err), 0);
        cr_expect_eq(err.code, ERR_CORRUPT);
        unlink(later);
        cr_assert_eq(mailbox_open(&st, &ident, &m, &err), 0, "%s", err.text);
        cr_expect_eq(messages(m), 5);
        mailbox_unref(&m);
}

Test(damage, reconstruct_makes_a_lost_manifest_again)
{
        struct mailbox *m = fake_create(&st, ID);
        struct mailbox_ident ident = fake_ident(&st, ID);
        struct err err = ERR_INIT;
        char path[200];

        for (int i = 0; i < 5; i++)
                append(m, 0);
        mailbox_unref(&m);
        logstore_destroy(&st.ls);
        snprintf(path, sizeof path, "%s/d/d/%s/manifest", st.dir, ID);
        unlink(path);
        snprintf(path, sizeof path, "%s/d/d/%s/manifest.copy", st.dir, ID);
        unlink(path);
        fake_store_start(&st, 0);
        cr_expect_neq(mailbox_open(&st, &ident, &m, &err), 0);
        cr_expect_eq(err.code, ERR_CORRUPT);
        cr_assert_eq(mailbox_reconstruct(&st, &ident, &err), 0, "%s", err.text);
        m = fake_open(&st, ID);
        cr_expect_eq(messages(m), 5);
        mailbox_unref(&m);
}

/* A move that stopped after each of its steps: the messages are in exactly one of the two. */
static int steps_left;
static int stop_after(const char *call)
{
        if (strcmp(call, "pwritev") != 0 && strcmp(call, "fdatasync") != 0)
                return 0;
        return steps_left-- > 0 ? 0 : EIO;
}

/* A power loss may take the file of a segment that was prepared, and not its place in the manifest. */
static void prepare_and_lose(const char *uniqueid)
{
        struct str path = STR_INIT;
        struct manifest manifest;
        struct err err = ERR_INIT;

        mailbox_dir(&path, st.dir, uniqueid);
        cr_assert_eq(manifest_read(&manifest, path.data, uniqueid, &err), 0, "%s", err.text);
        *manifest_add(&manifest, manifest.n) = (struct manifest_entry){ .id = manifest.next_id++, .valid_len = MLOG_OPEN_END, .kind = MLOG_MAIN };
        cr_assert_eq(manifest_write(&manifest, path.data, &err), 0, "%s", err.text);
        manifest_deinit(&manifest);
        str_deinit(&path);
}

enum target { TARGET_SOUND, TARGET_NOT_WHOLE, TARGET_PREPARED };
/* TARGET_NOT_WHOLE: at the first restart the target is left, as its log cannot be written to (store/journal.h). */
static void interrupt_moves(enum target target)
{
        bool not_whole = target == TARGET_NOT_WHOLE;
        bool waited = false;

        for (int steps = 0; steps < 8; steps++) {
                char id[25], id2[25];
                struct mailbox *a, *b;
                struct uidset uids = UIDSET_INIT;
                struct append_result r;
                struct waiter w;
                struct err err = ERR_INIT;

                snprintf(id, sizeof id, "aa%u%021d", (unsigned)target % 10, steps);
                snprintf(id2, sizeof id2, "bb%u%021d", (unsigned)target % 10, steps);
                a = fake_create(&st, id);
                b = fake_create(&st, id2);
                append(a, 0);
                append(a, 0);
                append(b, 0);
                uidset_add_range(&uids, 1, 2);
                waiter_init_blocking(&w);
                steps_left = steps;
                fs_fault = stop_after;
                if (mailbox_move(a, &uids, b, NULL, NULL, &r, &w, &err) == 0)
                        waiter_block(&w, &err);
                fs_fault = NULL;
                mailbox_unref(&a);
                mailbox_unref(&b);
                logstore_destroy(&st.ls);
                if (target == TARGET_PREPARED)
                        prepare_and_lose(id2);
                st.epoch++;
                fake_store_start(&st, 0);
                if (not_whole) {
                        snprintf(st.not_whole, sizeof st.not_whole, "%s", id2);
                        a = fake_open(&st, id);
                        cr_expect(messages(a) == 2 || a->moves.n == 0, "after %d steps: %u messages are left", steps, messages(a));
                        waited = waited || a->moves.n;
                        mailbox_unref(&a);
                        logstore_destroy(&st.ls);
                        st.not_whole[0] = '\0';
                        st.epoch++;
                        fake_store_start(&st, 0);
                }
                a = fake_open(&st, id);
                b = fake_open(&st, id2);
                cr_expect_eq(messages(a) + messages(b), 3, "after %d steps: %u and %u", steps, messages(a), messages(b));
                cr_expect(messages(a) == 0 || messages(a) == 2);
                cr_expect_eq(a->moves.n, 0);
                mailbox_unref(&a);
                mailbox_unref(&b);
                uidset_deinit(&uids);
        }
        cr_expect_eq(waited, not_whole);
}

Test(damage, an_interrupted_move_is_in_one_place_after_a_restart) { interrupt_moves(TARGET_SOUND); }
Test(damage, an_interrupted_move_waits_while_its_target_is_left) { interrupt_moves(TARGET_NOT_WHOLE); }
Test(damage, an_interrupted_move_to_one_with_a_prepared_segment_that_is_gone) { interrupt_moves(TARGET_PREPARED); }

/* The same of a REPLACE, in one mailbox and between two: either the old message is there or the new one. */
Test(damage, an_interrupted_replace_leaves_the_old_message_or_the_new_one)
{
        static const struct span kw = { "kw", 2 };

        for (int steps = 0; steps < 16; steps++) {
                bool same = steps % 2;
                char id[25], id2[25];
                struct mailbox *a, *b;
                struct append_item item = { .keywords = &kw, .keyword_count = 1, .internaldate = 1, .savedate = INT64_MIN };
                struct append_result r = { 0, 0, 0, 0 };
                struct waiter w;
                struct msg old, new;
                struct err err = ERR_INIT;
                bool acked = false, has_old, has_new;

                snprintf(id, sizeof id, "ca%022d", steps);
                snprintf(id2, sizeof id2, "cb%022d", steps);
                a = fake_create(&st, id);
                b = same ? mailbox_ref(a) : fake_create(&st, id2);
                append(a, 0);
                cr_assert_eq(stage_begin(&st, st.dir, 0, &item.stage, &err), 0);
                cr_assert_eq(stage_write(item.stage, "Subject: new\r\n\r\nx\r\n", 19, &err), 0);
                cr_assert_eq(stage_finish(item.stage, &err), 0);
                waiter_init_blocking(&w);
                steps_left = steps / 2;
                fs_fault = stop_after;
                if (mailbox_replace(a, 1, b, &item, &r, &w, &err) == 0)
                        acked = waiter_block(&w, &err) == 0;
                fs_fault = NULL;
                stage_unref(&item.stage);
                mailbox_unref(&a);
                mailbox_unref(&b);
                logstore_destroy(&st.ls);
                st.epoch++;
                fake_store_start(&st, 0);
                a = fake_open(&st, id);
                b = same ? mailbox_ref(a) : fake_open(&st, id2);
                has_old = mailbox_message(a, 1, &old, &err) == 0 && !(old.flags & MSG_EXPUNGED);
                has_new = mailbox_message(b, same ? 2 : 1, &new, &err) == 0 && !(new.flags & MSG_EXPUNGED);
                cr_expect(has_old != has_new, "%d steps: old %d, new %d", steps, has_old, has_new);
                cr_expect(has_new || !acked, "%d steps: acknowledged and gone", steps);
                cr_expect_eq(messages(a) + (same ? 0 : messages(b)), 1);
                if (has_new)
                        cr_expect(new.size == 19 && new.kwset != 0);
                cr_expect_eq(a->moves.n, 0);
                /* What is gone already is not replaced. */
                if (!has_old) {
                        cr_assert_eq(stage_begin(&st, st.dir, 0, &item.stage, &err), 0);
                        cr_assert_eq(stage_write(item.stage, "a: b\r\n\r\n", 8, &err), 0);
                        cr_assert_eq(stage_finish(item.stage, &err), 0);
                        waiter_init_blocking(&w);
                        cr_assert_eq(mailbox_replace(a, 1, b, &item, &r, &w, &err), 0);
                        cr_assert_eq(waiter_block(&w, &err), 0);
                        cr_expect_eq(r.count, 0);
                        stage_unref(&item.stage);
                }
                mailbox_unref(&a);
                mailbox_unref(&b);
        }
}

/* Each write, sync, rename, link and allocation of a small life in turn fails once: what was acknowledged is there, what was refused is not. */
static int count_down, fail_with;
static bool for_good;                           /* the disk does not come back */
static int fail_at(const char *call)
{
        (void)call;
        count_down--;
        return count_down == -1 || (for_good && count_down < 0) ? fail_with : 0;
}

struct life {
        unsigned acked, refused, moved;
        char ids[2][25];
};

static void live(struct life *l)
{
        struct mailbox_ident ident = fake_ident(&st, l->ids[0]), ident2 = fake_ident(&st, l->ids[1]);
        struct mailbox *m = NULL, *m2 = NULL;
        struct err err = ERR_INIT;
        static char big[80000];
        struct uidset uids = UIDSET_INIT;
        struct append_result r;
        struct waiter w;

        memset(big, 'b', sizeof big);
        if (mailbox_open(&st, &ident, &m, &err) < 0 || mailbox_open(&st, &ident2, &m2, &err) < 0)
                goto out;
        for (int i = 0; i < 3; i++) {
                struct append_result result;
                struct span kw = span_of("kw");
                struct append_item item = { .flags = i == 0 ? MSG_DELETED : 0, .keywords = &kw, .keyword_count = 1, .internaldate = 1,
                                            .savedate = INT64_MIN };
                bool ok;

                if (stage_begin(&st, st.dir, 0, &item.stage, &err) < 0)
                        continue;
                waiter_init_blocking(&w);
                ok = stage_write(item.stage, big, i == 1 ? sizeof big : 100, &err) == 0 && stage_finish(item.stage, &err) == 0 &&
                     mailbox_append(m, &item, 1, &result, &w, &err) == 0 && waiter_block(&w, &err) == 0;
                l->acked += ok;
                l->refused += !ok;
                stage_unref(&item.stage);
        }
        (void)mailbox_checkpoint(m, &err);
        uidset_add_range(&uids, 1, 1);
        waiter_init_blocking(&w);
        if (mailbox_move(m, &uids, m2, NULL, NULL, &r, &w, &err) == 0)
                waiter_block(&w, &err);
        (void)mailbox_purge_expunged(m, INT64_MAX, NULL, &err);
        mailbox_maintain_begin(m);
        if (mailbox_roll(m, &err) == 0)
                (void)mailbox_begin_next(m, &err);
        mailbox_maintain_end(m);
        (void)mailbox_compact(m, &err);
out:
        if (m)
                mailbox_unref(&m);
        if (m2)
                mailbox_unref(&m2);
        uidset_deinit(&uids);
        logstore_destroy(&st.ls);
}

Test(damage, any_single_call_may_fail)
{
        for (int pass = 0; pass < 4; pass++) {
                int at = 0;

                fail_with = pass % 2 ? ENOSPC : EIO;
                for_good = pass / 2;
                do {
                        struct life l = { .acked = 0 };
                        struct check_report report = { .messages = 0 };
                        struct mailbox_ident ident, ident2;
                        struct err err = ERR_INIT;
                        uint32_t have;

                        for (int k = 0; k < 2; k++) {
                                struct mailbox *m;

                                snprintf(l.ids[k], sizeof l.ids[k], "x%u%u%021d", (unsigned)pass % 10, (unsigned)k % 10, at);
                                m = fake_create(&st, l.ids[k]);
                                mailbox_unref(&m);
                        }
                        count_down = at;
                        fs_fault = fail_at;
                        live(&l);
                        fs_fault = NULL;
                        st.epoch++;
                        fake_store_start(&st, 0);
                        ident = fake_ident(&st, l.ids[0]);
                        ident2 = fake_ident(&st, l.ids[1]);
                        have = 0;
                        for (int k = 0; k < 2; k++) {
                                struct mailbox *m = fake_open(&st, l.ids[k]);

                                cr_assert_not_null(m, "call %d", at);
                                have += messages(m);
                                cr_assert_gt(append(m, 0), 0, "call %d", at);
                                mailbox_unref(&m);
                        }
                        cr_assert_eq(have, l.acked, "call %d: %u messages, %u acknowledged, %u refused", at, have, l.acked, l.refused);
                        cr_assert_eq(mailbox_check_files(&st, &ident, &report, &err), 0, "%s", err.text);
                        cr_assert_eq(mailbox_check_files(&st, &ident2, &report, &err), 0, "%s", err.text);
                        cr_assert_eq(report.problems, 0, "call %d", at);
                        at++;
                } while (count_down < 0 && at < 200);
                cr_assert_gt(at, 20);
                cr_log_info("%d calls", at);
        }
}

/* ---- annotations ---- */

#define LITTER 300                              /* of nearly a kilobyte: more than compaction leaves alone */

static bool annotate(struct mailbox *m, const struct annot *set, unsigned n)
{
        struct err err = ERR_INIT;
        struct waiter w;

        waiter_init_blocking(&w);
        return mailbox_annotate(m, set, n, &w, &err) == 0 && waiter_block(&w, &err) == 0;
}

struct annotated {
        bool kept;                              /* /kept was acknowledged */
        unsigned litter;                        /* so many may be there besides: they were set, and not removed, as far as was acknowledged */
};

static void litter(struct annotated *l, struct mailbox *m)
{
        static char names[LITTER][900];
        struct annot set[LITTER], kept = { "/kept", "", SPAN("here"), 0 };

        for (unsigned i = 0; i < LITTER; i++) {
                int n = snprintf(names[i], sizeof names[i], "/litter/%u/", i);

                memset(names[i] + n, 'x', sizeof names[i] - 1 - (size_t)n);
                set[i] = (struct annot){ names[i], "", SPAN("1"), 0 };
        }
        l->kept = annotate(m, &kept, 1);
        if (!annotate(m, set, LITTER))
                return;
        l->litter = LITTER;
        for (unsigned i = 0; i < LITTER; i++)
                set[i].value.p = NULL;
        if (annotate(m, set, LITTER))
                l->litter = 0;
}

static void check_litter(const struct annotated *l, struct mailbox *m, int at)
{
        struct arena arena = ARENA_INIT;
        struct span shared, private;
        struct annot *list;
        uint32_t n = mailbox_annots(m, 0, NULL, &arena, &list);

        mailbox_annot_values(m, 0, "/kept", "", &arena, &shared, &private);
        cr_assert(!l->kept || span_eq_str(shared, "here"), "call %d", at);
        n -= shared.p != NULL;
        cr_assert(n == l->litter || n == 0, "call %d: %u annotations instead of %u", at, n, l->litter);
        arena_deinit(&arena);
}

/* Compaction writes them all anew, without those that were removed: whatever call fails meanwhile, once or for good. */
Test(damage, annotations_written_anew_outlive_a_failed_call)
{
        for (int pass = 0; pass < 2; pass++) {
                int at = 0;

                for_good = pass;
                fail_with = EIO;
                do {
                        struct annotated l = { .kept = false };
                        struct err err = ERR_INIT;
                        struct mailbox *m;
                        char id[25];

                        snprintf(id, sizeof id, "y%u%022d", (unsigned)pass % 10, at);
                        m = fake_create(&st, id);
                        append(m, 0);
                        count_down = at;
                        fs_fault = fail_at;
                        litter(&l, m);
                        (void)mailbox_compact(m, &err);
                        fs_fault = NULL;
                        mailbox_unref(&m);
                        for (int restart = 0; restart < 3; restart++) {
                                struct mailbox_ident ident = fake_ident(&st, id);

                                logstore_destroy(&st.ls);
                                st.epoch++;
                                fake_store_start(&st, 0);
                                if (restart == 1)
                                        cr_assert_eq(mailbox_reconstruct(&st, &ident, &err), 0, "call %d: %s", at, err.text);
                                m = fake_open(&st, id);
                                cr_assert_not_null(m, "call %d", at);
                                check_litter(&l, m, at);
                                mailbox_unref(&m);
                        }
                        at++;
                } while (count_down < 0 && at < 100);
                cr_assert_gt(at, 10);
                cr_log_info("%d calls", at);
        }
}

Test(damage, a_large_copy_interrupted_anywhere_is_all_or_nothing)
{
        struct mailbox *from = fake_create(&st, ID), *to;
        static char body[60000];
        struct err err = ERR_INIT;
        int at = 0;

        memset(body, 'l', sizeof body);
        for (int i = 0; i < 30; i++)
                cr_assert_gt(fake_append(&st, from, body, sizeof body, 0, i % 2 ? "kw" : NULL, &err), 0);
        for_good = true;
        fail_with = EIO;
        do {
                struct check_report report = { .messages = 0 };
                struct mailbox_ident ident;
                struct uidset uids = UIDSET_INIT;
                struct append_result r;
                struct waiter w;
                bool ok;
                char id[25];

                snprintf(id, sizeof id, "yy%022d", at);
                to = fake_create(&st, id);
                append(to, 0);
                uidset_add_range(&uids, 1, UINT32_MAX - 1);
                waiter_init_blocking(&w);
                count_down = at;
                fs_fault = fail_at;
                ok = mailbox_copy(from, &uids, to, NULL, NULL, &r, &w, &err) == 0 && waiter_block(&w, &err) == 0;
                mailbox_unref(&from);
                mailbox_unref(&to);
                logstore_destroy(&st.ls);
                fs_fault = NULL;
                st.epoch++;
                fake_store_start(&st, 0);
                from = fake_open(&st, ID);
                to = fake_open(&st, id);
                cr_assert_not_null(to, "call %d", at);
                cr_assert_eq(messages(to), ok ? 31 : 1, "call %d: %u messages, acknowledged %d", at, messages(to), ok);
                cr_assert_gt(append(to, 0), 0);
                mailbox_unref(&to);
                ident = fake_ident(&st, id);
                cr_assert_eq(mailbox_check_files(&st, &ident, &report, &err), 0, "%s", err.text);
                cr_assert_eq(report.problems, 0, "call %d", at);
                uidset_deinit(&uids);
                at++;
        } while (count_down < 0 && at < 100);
        cr_assert_gt(at, 8);
        mailbox_unref(&from);
}

/* Small ones in one batch, many in a segment of their own: all are back under new UIDs, or none is and all still can be. */
Test(damage, bringing_back_interrupted_anywhere_is_all_or_nothing)
{
        static char body[60000];

        memset(body, 'r', sizeof body);
        for_good = true;
        fail_with = EIO;
        for (int many = 0; many < 2; many++) {
                uint32_t n = many ? 30 : 3;
                int at = 0;

                do {
                        struct unexpunge how = { .since = INT64_MIN, .undelete = true };
                        struct check_report report = { .messages = 0 };
                        struct mailbox_ident ident;
                        struct append_result r;
                        struct msg msgs[40];
                        struct waiter w;
                        struct err err = ERR_INIT;
                        struct mailbox *m;
                        char id[25];
                        bool ok;

                        snprintf(id, sizeof id, "z%u%022d", (unsigned)many % 10, at);
                        m = fake_create(&st, id);
                        for (uint32_t i = 0; i < n; i++)
                                cr_assert_gt(fake_append(&st, m, body, many ? sizeof body : 500, MSG_DELETED, i % 2 ? "kw" : NULL, &err), 0);
                        expunge_deleted(m);
                        waiter_init_blocking(&w);
                        count_down = at;
                        fs_fault = fail_at;
                        ok = mailbox_unexpunge(m, NULL, &how, NULL, &r, &w, &err) == 0 && waiter_block(&w, &err) == 0;
                        mailbox_unref(&m);
                        logstore_destroy(&st.ls);
                        fs_fault = NULL;
                        st.epoch++;
                        fake_store_start(&st, 0);
                        m = fake_open(&st, id);
                        cr_assert_not_null(m, "call %d", at);
                        cr_assert_eq(messages(m), ok ? n : 0, "call %d: %u messages, acknowledged %d", at, messages(m), ok);
                        cr_assert_eq(mailbox_expunged(m, 1, 40, msgs, &err), ok ? 0 : (int)n, "call %d", at);
                        cr_assert_gt(append(m, 0), 0);
                        mailbox_unref(&m);
                        ident = fake_ident(&st, id);
                        cr_assert_eq(mailbox_check_files(&st, &ident, &report, &err), 0, "%s", err.text);
                        cr_assert_eq(report.problems, 0, "call %d", at);
                        at++;
                } while (count_down < 0 && at < 100);
                cr_assert_gt(at, many ? 8 : 2);
        }
}
