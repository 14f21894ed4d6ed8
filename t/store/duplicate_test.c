/* duplicate - claims and marks: what is suppressed, what never is, what a stop and a damaged file leave, pruning, bounds. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/duplicate.h"
#include "t/store/scratch.h"
#include "util/clock.h"
#include "util/hash.h"

#define BOX "abcdefghijklmnopqrstuvwx"
#define OTHER "bbcdefghijklmnopqrstuvwx"

static int64_t now = 1700000000;
static int64_t fake_now(void) { return now; }

static void setup(void)
{
        scratch_make();
        clock_inject_wall(fake_now);
}
static void teardown(void)
{
        fs_fault = NULL;
        clock_inject_wall(NULL);
        scratch_remove();
}

TestSuite(duplicate, .init = setup, .fini = teardown, .timeout = 120);

static struct duplicate_claim claim_of(const char *box, const char *id, const char *date)
{
        struct duplicate_claim c = { .found_uid = 0 };

        duplicate_key_make(box, span_of(id), span_of(date), &c.key);
        return c;
}

/* To the end: NEW (the claim is held) or SEEN. */
static enum duplicate ask(struct store *store, struct duplicate_claim *c)
{
        enum duplicate answer = duplicate_claim(store, c, NULL);

        cr_assert_neq(answer, DUPLICATE_WAIT);
        return answer == DUPLICATE_LOOK ? duplicate_look(store, c) : answer;
}

static bool is_seen(struct store *store, const char *box, const char *id)
{
        struct duplicate_claim c = claim_of(box, id, "");

        if (ask(store, &c) == DUPLICATE_SEEN)
                return true;
        duplicate_dropped(store, &c);
        return false;
}

static void deliver(struct store *store, const char *box, const char *id, uint32_t uid)
{
        struct duplicate_claim c = claim_of(box, id, "");

        cr_assert_eq(ask(store, &c), DUPLICATE_NEW, "%s", id);
        duplicate_delivered(store, &c, uid);
}

static const char *id_number(unsigned i)
{
        static char id[32];

        snprintf(id, sizeof id, "<%u@example.org>", i);
        return id;
}

static void deliver_many(struct store *store, unsigned from, unsigned to)
{
        for (unsigned i = from; i < to; i++)
                deliver(store, BOX, id_number(i), i + 1);
}

/* Files of marks; the path of the n-th by name. */
static unsigned list_files(unsigned n, char *path)
{
        char dir[200];
        struct dirent **names;
        int count;

        snprintf(dir, sizeof dir, "%s/conf/duplicates", scratch_dir);
        count = scandir(dir, &names, NULL, alphasort);
        if (count < 0)
                return 0;
        for (int i = 0; i < count; i++) {
                if (path && i == (int)n + 2)
                        sprintf(path, "%s/%s", dir, names[i]->d_name);
                free(names[i]);
        }
        free(names);
        return (unsigned)count - 2;
}

static void poke(const char *path, off_t at, const void *p, size_t len)
{
        int fd = open(path, O_WRONLY);

        cr_assert(fd >= 0 && pwrite(fd, p, len, at) == (ssize_t)len);
        close(fd);
}

Test(duplicate, what_was_delivered_is_seen_with_its_uid_and_time)
{
        struct store *store = scratch_open(NULL);
        struct duplicate_claim c = claim_of(BOX, "<1@x>", "Mon, 1 Jan 2024 00:00:00 +0000"), again = c;

        cr_assert_eq(ask(store, &c), DUPLICATE_NEW);
        duplicate_delivered(store, &c, 17);
        now += 5;
        cr_assert_eq(ask(store, &again), DUPLICATE_SEEN);
        cr_expect_eq(again.found_uid, 17);
        cr_expect_eq(again.found_at, now - 5);
        store_close(&store);
}

Test(duplicate, mailbox_id_and_date_all_count_and_folds_do_not)
{
        struct store *store = scratch_open(NULL);
        static const struct { const char *box, *id, *date; bool seen; } tries[] = {
                { BOX, "<1@x>", "Mon, 1 Jan 2024", true },
                { BOX, "\r\n  <1@x> \r\n", " Mon,\r\n\t  1 Jan  2024\r\n", true },
                { BOX, "<1@x>", "Mon, 1Jan 2024", false },
                { OTHER, "<1@x>", "Mon, 1 Jan 2024", false },
                { BOX, "<1@X>", "Mon, 1 Jan 2024", false },
                { BOX, "<2@x>", "Mon, 1 Jan 2024", false },
                { BOX, "<1@x>", "Tue, 2 Jan 2024", false },
                { BOX, "<1@x>", "", false },
                { BOX, "", "<1@x>Mon, 1 Jan 2024", false },
        };
        struct duplicate_claim c = claim_of(BOX, "<1@x>", "Mon, 1 Jan 2024");

        cr_assert_eq(ask(store, &c), DUPLICATE_NEW);
        duplicate_delivered(store, &c, 1);
        for (size_t i = 0; i < sizeof tries / sizeof *tries; i++) {
                c = claim_of(tries[i].box, tries[i].id, tries[i].date);
                cr_expect_eq(ask(store, &c) == DUPLICATE_SEEN, tries[i].seen, "%zu", i);
                if (!tries[i].seen)
                        duplicate_dropped(store, &c);
        }
        store_close(&store);
}

Test(duplicate, what_was_not_delivered_is_never_seen)
{
        struct store *store = scratch_open(NULL);

        cr_expect(!is_seen(store, BOX, "<1@x>"));
        cr_expect(!is_seen(store, BOX, "<1@x>"));       /* the former claim was dropped */
        store_close(&store);
        store = scratch_open(NULL);
        cr_expect(!is_seen(store, BOX, "<1@x>"));
        store_close(&store);
}

Test(duplicate, who_comes_while_it_is_being_delivered_waits_for_the_end)
{
        struct store *store = scratch_open(NULL);

        for (int delivered = 0; delivered < 2; delivered++) {
                struct duplicate_claim first = claim_of(BOX, id_number((unsigned)delivered), ""), second = first, third = first;
                struct waiter w2, w3;

                waiter_init(&w2, NULL, NULL);
                waiter_init(&w3, NULL, NULL);
                cr_assert_eq(duplicate_claim(store, &first, NULL), DUPLICATE_NEW);
                cr_assert_eq(duplicate_claim(store, &second, &w2), DUPLICATE_WAIT);
                cr_assert_eq(duplicate_claim(store, &third, &w3), DUPLICATE_WAIT);
                cr_expect(!waiter_is_done(&w2) && !waiter_is_done(&w3));
                if (delivered)
                        duplicate_delivered(store, &first, 3);
                else
                        duplicate_dropped(store, &first);
                cr_expect(waiter_is_done(&w2) && waiter_is_done(&w3));
                cr_expect_eq(ask(store, &second), delivered ? DUPLICATE_SEEN : DUPLICATE_NEW);
                if (!delivered)
                        duplicate_dropped(store, &second);
        }
        store_close(&store);
}

Test(duplicate, marks_outlive_a_clean_stop_and_a_kill)
{
        struct store *store = scratch_open(NULL);
        pid_t child;
        int status;

        deliver_many(store, 0, 300);
        store_close(&store);
        child = fork();
        if (child == 0) {
                store = scratch_open(NULL);
                deliver(store, BOX, "<killed@x>", 1000);
                _exit(0);                               /* as by kill -9: nothing is closed */
        }
        cr_assert(child > 0 && waitpid(child, &status, 0) == child && status == 0);
        store = scratch_open(NULL);
        for (unsigned i = 0; i < 300; i++)
                cr_assert(is_seen(store, BOX, id_number(i)), "%u", i);
        cr_expect(is_seen(store, BOX, "<killed@x>"));
        cr_expect(!is_seen(store, BOX, "<else@x>"));
        deliver(store, BOX, "<else@x>", 1001);
        store_close(&store);
        cr_expect_eq(list_files(0, NULL), 1, "the last file goes on");
        store = scratch_open(NULL);
        cr_expect(is_seen(store, BOX, "<else@x>"));
        store_close(&store);
}

Test(duplicate, a_torn_end_is_no_mark_and_is_written_over)
{
        struct store *store = scratch_open(NULL);
        struct stat st;
        char path[300];

        deliver_many(store, 0, 3);
        store_close(&store);
        cr_assert_eq(list_files(0, path), 1);
        cr_assert_eq(stat(path, &st), 0);
        cr_assert_eq(st.st_size, 40 + 3 * 40);
        cr_assert_eq(truncate(path, st.st_size - 1), 0);
        store = scratch_open(NULL);
        cr_expect(is_seen(store, BOX, id_number(1)));
        cr_expect(!is_seen(store, BOX, id_number(2)));
        deliver(store, BOX, id_number(9), 9);
        store_close(&store);
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_eq(st.st_size, 40 + 3 * 40);
        store = scratch_open(NULL);
        cr_expect(is_seen(store, BOX, id_number(9)));
        store_close(&store);
}

Test(duplicate, damage_costs_what_it_hits_and_nothing_else)
{
        struct store *store = scratch_open(NULL);
        char path[300], before[4];
        int fd;

        deliver_many(store, 0, 4);
        store_close(&store);
        list_files(0, path);
        for (off_t at = 0; at < 40 + 2 * 40; at++) {
                char flipped;

                fd = open(path, O_RDWR);
                cr_assert(fd >= 0 && pread(fd, before, 1, at) == 1);
                flipped = (char)(before[0] ^ 0x10);
                cr_assert_eq(pwrite(fd, &flipped, 1, at), 1);
                store = scratch_open(NULL);
                for (unsigned i = 0; i < 4; i++)
                        cr_expect_eq(is_seen(store, BOX, id_number(i)), at < 40 || (unsigned)(at - 40) / 40 != i, "octet %d record %u", (int)at, i);
                store_close(&store);
                cr_assert_eq(pwrite(fd, before, 1, at), 1);
                close(fd);
        }
}

Test(duplicate, octets_of_another_file_are_no_marks)
{
        struct store *store = scratch_open(NULL);
        char path[300], other[300];

        deliver_many(store, 0, 3);
        store_close(&store);
        list_files(0, path);
        snprintf(other, sizeof other, "%s/conf/duplicates/0000000000000077", scratch_dir);
        cr_assert_eq(rename(path, other), 0);
        store = scratch_open(NULL);
        cr_expect(!is_seen(store, BOX, id_number(1)));
        store_close(&store);
        cr_expect_eq(list_files(0, NULL), 0, "and it is removed");
}

Test(duplicate, a_newer_format_is_left_alone)
{
        struct store *store = scratch_open(NULL);
        char path[300], head[40];
        uint32_t version = 2, crc;
        struct stat st;
        int fd;

        deliver_many(store, 0, 3);
        store_close(&store);
        list_files(0, path);
        fd = open(path, O_RDWR);
        cr_assert(fd >= 0 && pread(fd, head, 40, 0) == 40);
        memcpy(head + 8, &version, 4);
        crc = crc32c(0, head, 36);
        memcpy(head + 36, &crc, 4);
        poke(path, 0, head, 40);
        close(fd);
        store = scratch_open(NULL);
        cr_expect(!is_seen(store, BOX, id_number(1)));
        deliver_many(store, 0, 1);
        cr_expect_eq(duplicate_prune(store, INT64_MAX, NULL, 0, NULL, NULL, NULL), 0);
        store_close(&store);
        cr_expect(stat(path, &st) == 0 && st.st_size == 40 + 3 * 40);
}

Test(duplicate, prune_forgets_by_age_and_by_mailbox)
{
        struct store *store = scratch_open(NULL);
        struct duplicate_expiry own[] = { { OTHER, INT64_MIN }, { "cbcdefghijklmnopqrstuvwx", now + 11 } };
        uint64_t pruned, marks;
        struct err err = ERR_INIT;

        deliver(store, BOX, "<old@x>", 1);
        deliver(store, OTHER, "<old@x>", 1);
        deliver(store, own[1].uniqueid, "<old@x>", 1);
        now += 10;
        deliver(store, BOX, "<new@x>", 2);
        deliver(store, own[1].uniqueid, "<new@x>", 2);
        now += 1;
        deliver(store, own[1].uniqueid, "<newer@x>", 3);
        cr_assert_eq(duplicate_prune(store, now - 5, own, 2, &pruned, &marks, &err), 0, "%s", err.text);
        cr_expect_eq(pruned, 3);
        cr_expect_eq(marks, 6);
        for (int again = 0; again < 2; again++) {
                cr_expect(!is_seen(store, BOX, "<old@x>"));
                cr_expect(is_seen(store, OTHER, "<old@x>"), "INT64_MIN: stays");
                cr_expect(!is_seen(store, own[1].uniqueid, "<old@x>"));
                cr_expect(is_seen(store, BOX, "<new@x>"));
                cr_expect(!is_seen(store, own[1].uniqueid, "<new@x>"));
                cr_expect(is_seen(store, own[1].uniqueid, "<newer@x>"));
                store_close(&store);
                store = scratch_open(NULL);
        }
        cr_assert_eq(duplicate_prune(store, now + 100, NULL, 0, &pruned, &marks, &err), 0);
        cr_expect_eq(pruned, 3);
        cr_expect_eq(marks, 3);
        store_close(&store);
        store = scratch_open(NULL);
        cr_expect(!is_seen(store, OTHER, "<old@x>"));
        store_close(&store);
        cr_expect_eq(list_files(0, NULL), 0);
}

Test(duplicate, several_files_and_the_limit)
{
        struct store *store = scratch_open("duplicate_entries_max: 100000\n");
        struct duplicate_stats stats;
        unsigned n = 65536 * 2 + 100;
        uint64_t pruned;

        deliver_many(store, 0, 65536 + 10);
        cr_expect_eq(list_files(0, NULL), 2);
        cr_expect(is_seen(store, BOX, id_number(0)));
        now += 100;
        deliver_many(store, 65536 + 10, n);
        cr_expect_eq(list_files(0, NULL), 2, "the first is gone: %u", list_files(0, NULL));
        duplicate_stats(store, &stats);
        cr_expect_eq(stats.marks, n - 65536, "%lu", stats.marks);
        cr_expect(!is_seen(store, BOX, id_number(0)));
        cr_expect(!is_seen(store, BOX, id_number(65535)));
        cr_expect(is_seen(store, BOX, id_number(65536)));
        cr_expect(is_seen(store, BOX, id_number(n - 1)));
        cr_assert_eq(duplicate_prune(store, now, NULL, 0, &pruned, NULL, NULL), 0);
        cr_expect_eq(pruned, 10, "%lu", pruned);
        cr_expect(!is_seen(store, BOX, id_number(65536 + 9)));
        cr_expect(is_seen(store, BOX, id_number(65536 + 10)));
        store_close(&store);
        store = scratch_open("duplicate_entries_max: 1000\n");
        cr_expect(!is_seen(store, BOX, id_number(65536 + 20)), "the limit holds at the start, too");
        cr_expect(is_seen(store, BOX, id_number(n - 1)));
        store_close(&store);
}

static int full(const char *call)
{
        return strcmp(call, "pwrite") == 0 ? ENOSPC : 0;
}

Test(duplicate, a_full_disk_only_delays_the_writing)
{
        struct store *store = scratch_open(NULL);
        char path[300];
        struct stat st;

        deliver_many(store, 0, 2);
        fs_fault = full;
        deliver_many(store, 2, 500);
        for (unsigned i = 0; i < 500; i++)
                cr_expect(is_seen(store, BOX, id_number(i)));
        list_files(0, path);
        cr_assert(stat(path, &st) == 0 && st.st_size == 40 + 2 * 40);
        fs_fault = NULL;
        deliver_many(store, 500, 501);
        cr_assert(stat(path, &st) == 0 && st.st_size == 40 + 501 * 40);
        store_close(&store);
        store = scratch_open(NULL);
        for (unsigned i = 0; i < 501; i++)
                cr_expect(is_seen(store, BOX, id_number(i)));
        store_close(&store);
}

static bool count(void *ctx, const struct duplicate_mark *mark)
{
        uint64_t *sum = ctx;

        *sum += mark->uid;
        return true;
}

Test(duplicate, each_tells_of_all)
{
        struct store *store = scratch_open(NULL);
        uint64_t sum = 0;

        deliver_many(store, 0, 10);
        cr_assert_eq(duplicate_each(store, count, &sum, NULL), 0);
        cr_expect_eq(sum, 55);
        store_close(&store);
}

Test(duplicate, a_store_open_for_reading_says_what_it_knows_and_writes_nothing)
{
        struct store *store = scratch_open(NULL);
        struct duplicate_claim c = claim_of(BOX, "<2@x>", "");
        struct err err = ERR_INIT;
        char path[300];
        struct stat st;

        deliver(store, BOX, "<1@x>", 1);
        store_close(&store);
        store = scratch_try(NULL, true, &err);
        cr_assert(store, "%s", err.text);
        cr_expect(is_seen(store, BOX, "<1@x>"));
        cr_assert_eq(ask(store, &c), DUPLICATE_NEW);
        duplicate_delivered(store, &c, 2);
        cr_expect_eq(duplicate_prune(store, INT64_MAX, NULL, 0, NULL, NULL, &err), -1);
        cr_expect_eq(err.code, ERR_READONLY);
        store_close(&store);
        list_files(0, path);
        cr_expect(stat(path, &st) == 0 && st.st_size == 80);
}
