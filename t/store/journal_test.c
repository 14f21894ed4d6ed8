/* journal: groups, laps, what a power loss leaves of both, failing calls; and a store whose mailboxes share syncs. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "store/journal.h"
#include "store/mailbox_private.h"
#include "store/relocation.h"
#include "t/store/fake_store.h"

#define LOGS 6
static char dir[64];
static struct log {
        char id[MLOG_UNIQUEID_MAX], path[200];
        struct mlog_segment_info info;
        int fd;
        uint64_t end, lap;
} logs[LOGS];
static struct journal *j;

/* In this thread only, so that threads of a store may run. */
static const char *failing;
static atomic_int fail_after;
static int fail(const char *call)
{
        return failing && strcmp(call, failing) == 0 && atomic_fetch_sub(&fail_after, 1) == 1 ? EIO : 0;
}

static void make_log(struct log *l, unsigned n)
{
        struct str d = STR_INIT, path = STR_INIT;
        struct err err = ERR_INIT;

        memset(l, 0, sizeof *l);
        snprintf(l->id, sizeof l->id, "log%021u", n);
        mailbox_dir(&d, dir, l->id);
        cr_assert_eq(fs_mkdir_p(d.data, 0700, &err), 0, "%s", err.text);
        cr_assert_eq(mlog_segment_create(d.data, 1, l->id, 1, &l->fd, &l->info, &err), 0, "%s", err.text);
        mlog_segment_path(&path, d.data, 1);
        snprintf(l->path, sizeof l->path, "%s", path.data);
        l->end = MLOG_SEGMENT_HEADER;
        str_deinit(&d);
        str_deinit(&path);
}

static void setup_size(size_t lap_bytes)
{
        log_open(LOG_TO_STDERR, "test", -1, LOG_ERROR);
        log_set_level((enum log_level)-1);
        snprintf(dir, sizeof dir, "/tmp/cyrd-test-XXXXXX");
        cr_assert_not_null(mkdtemp(dir));
        for (unsigned i = 0; i < LOGS; i++)
                make_log(&logs[i], i);
        j = journal_create(dir, lap_bytes);
}

static void setup(void) { setup_size(64u << 10); }
static void teardown(void)
{
        fs_fault = NULL;
        failing = NULL;
        journal_destroy(&j);
        for (unsigned i = 0; i < LOGS; i++)
                close(logs[i].fd);
        fs_remove_tree(dir, NULL);
}

TestSuite(journal, .init = setup, .fini = teardown, .timeout = 120);

/* Octets of log l at offset `at`: each place has its own. */
static unsigned char octet(const struct log *l, uint64_t at) { return (unsigned char)(hash_fixed(l->id, strlen(l->id)) + at * 31 + at / 97); }

static void write_and_add(struct log *l, uint32_t len)
{
        struct journal_piece piece = { .uniqueid = l->id, .segment = 1, .segment_crc = l->info.crc, .offset = l->end, .len = len, .path = l->path,
                                       .lap = &l->lap };
        unsigned char *p = journal_add(j, &piece);
        struct err err = ERR_INIT;

        cr_assert_not_null(p);
        for (uint32_t i = 0; i < len; i++)
                p[i] = octet(l, l->end + i);
        cr_assert_eq(fs_pwrite_all(l->fd, p, len, l->end, &err), 0);
        l->end += len;
}

/* A group of a piece of each of the first n logs. */
static int group(unsigned n, uint32_t len)
{
        struct err err = ERR_INIT;

        journal_begin(j);
        for (unsigned i = 0; i < n; i++)
                write_and_add(&logs[i], len + i);
        return journal_commit(j, &err);
}

static void lose(struct log *l, uint64_t from)
{
        cr_assert_eq(ftruncate(l->fd, (off_t)from), 0);
}

/* How many octets of it are as they were written, from its beginning. */
static uint64_t sound(const struct log *l)
{
        unsigned char c;
        uint64_t at = MLOG_SEGMENT_HEADER;

        while (at < l->end && pread(l->fd, &c, 1, (off_t)at) == 1 && c == octet(l, at))
                at++;
        return at;
}

/* Returns what journal_recover() does; the unique ids of what was left, each with a blank behind it, are in `left`. */
static char left[500];
static struct err why_not;
static int recover_in(const char *where)
{
        struct table *t = table_create();
        struct span key;
        void *why;
        int rc;

        err_clear(&why_not);
        rc = journal_recover(where, t, &why_not);
        *left = '\0';
        for (size_t pos = 0; table_next(t, &pos, &key, &why);) {
                snprintf(left + strlen(left), sizeof left - strlen(left), "%.*s ", (int)key.len, key.p);
                cr_expect_neq(*(char *)why, '\0');
                free(why);
        }
        table_destroy(&t);
        return rc;
}
static void recover(void)
{
        cr_assert_eq(recover_in(dir), 0, "%s", why_not.text);
        cr_assert_str_eq(left, "");
}

static void lap_path(char *buf, size_t size, unsigned lap) { snprintf(buf, size, "%s/cyrd.journal.%u", dir, lap); }
/* Is it marked as one that has nothing in it? */
static bool is_closed(const char *path)
{
        char mark[8] = "";
        int fd = open(path, O_RDONLY);

        cr_assert(fd >= 0 && pread(fd, mark, sizeof mark, 0) == sizeof mark);
        close(fd);
        return memcmp(mark, "ryclosed", sizeof mark) == 0;
}

Test(journal, what_a_power_loss_took_of_the_logs_comes_back)
{
        for (int i = 0; i < 5; i++)
                cr_assert_eq(group(LOGS, 100 + (uint32_t)i * 37), 0);
        for (unsigned i = 0; i < LOGS; i++)
                lose(&logs[i], MLOG_SEGMENT_HEADER + i * 50);
        /* A hole, as when later octets were written back and earlier ones not. */
        cr_assert_eq(ftruncate(logs[1].fd, (off_t)logs[1].end), 0);
        recover();
        for (unsigned i = 0; i < LOGS; i++)
                cr_expect_eq(sound(&logs[i]), logs[i].end, "log %u", i);
}

Test(journal, recovery_may_be_repeated_and_leaves_what_was_written_since)
{
        char path[100], kept[120], cmd[300];
        unsigned char more[200];
        struct err err = ERR_INIT;

        cr_assert_eq(group(LOGS, 500), 0);
        lap_path(path, sizeof path, 0);
        snprintf(kept, sizeof kept, "%s.kept", path);
        snprintf(cmd, sizeof cmd, "cp %s %s", path, kept);
        cr_assert_eq(system(cmd), 0);
        recover();
        for (int i = 0; i < 200; i++)
                more[i] = octet(&logs[0], logs[0].end + (uint64_t)i);
        cr_assert_eq(fs_pwrite_all(logs[0].fd, more, sizeof more, logs[0].end, &err), 0);
        logs[0].end += sizeof more;
        snprintf(cmd, sizeof cmd, "mv %s %s", kept, path);      /* its being emptied was lost */
        cr_assert_eq(system(cmd), 0);
        recover();
        recover();
        for (unsigned i = 0; i < LOGS; i++)
                cr_expect_eq(sound(&logs[i]), logs[i].end, "log %u", i);
}

static void flip(const char *path, uint64_t at)
{
        int fd = open(path, O_RDWR);
        unsigned char c;

        cr_assert_eq(pread(fd, &c, 1, (off_t)at), 1);
        c ^= 0x10;
        cr_assert_eq(pwrite(fd, &c, 1, (off_t)at), 1);
        close(fd);
}

/* Groups of 300, 301 … octets: cut or damaged anywhere in the third, the first two come back, and of the third all or nothing. */
static void damaged_journal(bool cut)
{
        char path[100], kept[120], cmd[300];
        uint64_t two[LOGS], three[LOGS], at2, at3;
        struct stat sb;

        cr_assert_eq(group(3, 300), 0);
        cr_assert_eq(group(3, 310), 0);
        for (unsigned i = 0; i < 3; i++)
                two[i] = logs[i].end;
        at2 = 2 * 32 + 3 * 2 * 64 + 2 * 304 + 304 + 2 * 312 + 312;      /* heads, and pieces padded to 8 */
        cr_assert_eq(group(3, 320), 0);
        for (unsigned i = 0; i < 3; i++)
                three[i] = logs[i].end;
        at3 = at2 + 32 + 3 * 64 + 320 + 2 * 328;
        lap_path(path, sizeof path, 0);
        cr_assert_eq(stat(path, &sb), 0);
        cr_assert_eq(sb.st_size, 64 << 10);
        snprintf(kept, sizeof kept, "%s.kept", path);
        snprintf(cmd, sizeof cmd, "cp %s %s", path, kept);
        cr_assert_eq(system(cmd), 0);
        for (uint64_t at = at2; at <= at3; at += 7) {
                int fd;

                snprintf(cmd, sizeof cmd, "cp %s %s", kept, path);
                cr_assert_eq(system(cmd), 0);
                fd = open(path, O_RDWR);
                if (cut) {
                        cr_assert_eq(ftruncate(fd, (off_t)at), 0);
                } else {
                        flip(path, at);
                }
                close(fd);
                for (unsigned i = 0; i < 3; i++)
                        lose(&logs[i], MLOG_SEGMENT_HEADER);
                recover();
                for (unsigned i = 0; i < 3; i++)
                        cr_expect_eq(sound(&logs[i]), at >= at3 ? three[i] : two[i], "at %llu log %u", (unsigned long long)at, i);
        }
}

Test(journal, cut_anywhere_it_has_whole_groups) { damaged_journal(true); }
Test(journal, damaged_anywhere_it_has_the_groups_before) { damaged_journal(false); }

Test(journal, a_lap_is_used_again_when_its_logs_are_synced)
{
        unsigned groups = 0, turned_away = 0;
        struct err err = ERR_INIT;

        for (int round = 0; round < 200; round++) {
                int rc = group(LOGS, 900);

                groups += rc == 0;
                turned_away += rc == 1;
                if (rc == 1) {
                        cr_assert(journal_is_due(j));
                        cr_assert_eq(journal_retire(j, &err), 0, "%s", err.text);
                        cr_assert_not(journal_is_due(j));
                        for (unsigned i = 0; i < LOGS; i++)     /* as their callers do then */
                                cr_assert_eq(fs_datasync(logs[i].fd, logs[i].path, &err), 0);
                }
        }
        cr_expect_gt(turned_away, 5);
        cr_expect_gt(groups, 180);
        recover();
        for (unsigned i = 0; i < LOGS; i++)
                cr_expect_eq(sound(&logs[i]), logs[i].end);
}

Test(journal, groups_of_an_earlier_lap_are_not_taken_for_this_ones)
{
        uint64_t kept[LOGS];
        struct err err = ERR_INIT;

        for (int i = 0; i < 8; i++)                             /* fill both laps, the first a second time by half */
                for (int n = 0; n < 5; n++) {
                        cr_assert_neq(group(LOGS, 600), -1);
                        cr_assert_eq(journal_retire(j, &err), 0);
                }
        for (unsigned i = 0; i < LOGS; i++)
                kept[i] = logs[i].end;
        /* Another file in place of the first log, of the same name: nothing is written to it. */
        close(logs[0].fd);
        cr_assert_eq(unlink(logs[0].path), 0);
        make_log(&logs[0], 0);
        cr_assert_eq(unlink(logs[1].path), 0);                  /* and none in place of the second */
        recover();
        cr_expect_eq(sound(&logs[0]), MLOG_SEGMENT_HEADER);
        cr_expect_eq(lseek(logs[0].fd, 0, SEEK_END), MLOG_SEGMENT_HEADER);
        cr_expect_neq(access(logs[1].path, F_OK), 0);
        for (unsigned i = 2; i < LOGS; i++)
                cr_expect_eq(sound(&logs[i]), kept[i]);
}

Test(journal, logs_that_rest_are_given_back)
{
        struct err err = ERR_INIT;

        cr_assert_eq(group(LOGS, 100), 0);
        journal_turn(j, 60000);
        cr_expect_not(journal_is_due(j), "it is not a minute old");
        journal_turn(j, 0);
        cr_assert(journal_is_due(j));
        cr_assert_eq(journal_retire(j, &err), 0);
        journal_turn(j, 0);
        cr_expect_not(journal_is_due(j), "there is nothing in this one");
        cr_assert_eq(group(LOGS, 100), 0);
        lose(&logs[0], logs[0].end - 50);
        recover();
        cr_expect_eq(sound(&logs[0]), logs[0].end);
}

Test(journal, more_logs_than_a_lap_may_hold_open_turn_it)
{
        struct log many[300];
        unsigned due = 0;
        struct err err = ERR_INIT;

        for (unsigned i = 0; i < 300; i++) {
                make_log(&many[i], 1000 + i);
                journal_begin(j);
                write_and_add(&many[i], 16);
                cr_assert_eq(journal_commit(j, &err), 0);
                due += journal_is_due(j);
                cr_assert_eq(journal_retire(j, &err), 0);
        }
        cr_expect_eq(due, 1);
        for (unsigned i = 0; i < 300; i++)
                close(many[i].fd);
}

Test(journal, a_group_has_bounds)
{
        struct journal_piece piece = { .uniqueid = logs[0].id, .segment = 1, .segment_crc = logs[0].info.crc, .offset = logs[0].end,
                                       .len = 40000, .path = logs[0].path, .lap = &logs[0].lap };
        struct err err = ERR_INIT;

        journal_begin(j);
        cr_assert_eq(journal_commit(j, &err), 1, "an empty one");
        cr_assert_not_null(journal_add(j, &piece));
        cr_expect_null(journal_add(j, &piece), "it is longer than a lap");
        journal_drop(j);
        piece.len = 8;
        for (unsigned i = 0; i < JOURNAL_GROUP_MAX; i++)
                cr_assert_not_null(journal_add(j, &piece));
        cr_expect_null(journal_add(j, &piece));
}

Test(journal, a_group_that_could_not_be_synced_is_refused_and_does_not_come_back)
{
        uint64_t kept;
        struct err err = ERR_INIT;

        cr_assert_eq(group(LOGS, 200), 0);
        kept = logs[0].end;
        failing = "fdatasync";
        atomic_store(&fail_after, 1);
        fs_fault = fail;
        cr_assert_eq(group(LOGS, 200), -1);
        fs_fault = NULL;
        cr_expect_not(journal_is_usable(j));
        cr_expect_eq(group(LOGS, 200), 1);
        cr_expect_eq(journal_finish(j, &err), -1, "what it has is not to be given up");
        lose(&logs[0], MLOG_SEGMENT_HEADER);
        recover();
        cr_expect_eq(sound(&logs[0]), kept);
}

Test(journal, one_that_cannot_be_written_is_left_alone)
{
        uint64_t kept;
        struct err err = ERR_INIT;

        cr_assert_eq(group(LOGS, 200), 0);
        kept = logs[0].end;
        failing = "pwrite";
        atomic_store(&fail_after, LOGS + 1);                    /* the logs are written first */
        fs_fault = fail;
        cr_assert_eq(group(LOGS, 200), 1);
        fs_fault = NULL;
        cr_expect_not(journal_is_usable(j));
        lose(&logs[0], MLOG_SEGMENT_HEADER);
        recover();
        cr_expect_eq(sound(&logs[0]), kept);
        cr_expect_eq(journal_finish(j, &err), 0, "%s", err.text);
}

Test(journal, one_that_cannot_be_made_is_left_alone)
{
        failing = "fallocate";
        atomic_store(&fail_after, 1);
        fs_fault = fail;
        cr_assert_eq(group(LOGS, 200), 1);
        cr_expect_not(journal_is_usable(j));
}

Test(journal, a_lap_whose_logs_could_not_be_synced_stays)
{
        struct err err = ERR_INIT;

        cr_assert_eq(group(LOGS, 200), 0);
        journal_turn(j, 0);
        failing = "fdatasync";
        atomic_store(&fail_after, 3);
        fs_fault = fail;
        cr_assert_eq(journal_retire(j, &err), -1);
        fs_fault = NULL;
        cr_expect_not(journal_is_usable(j));
        cr_expect_eq(journal_finish(j, &err), -1);
        for (unsigned i = 0; i < LOGS; i++)
                lose(&logs[i], MLOG_SEGMENT_HEADER);
        recover();
        for (unsigned i = 0; i < LOGS; i++)
                cr_expect_eq(sound(&logs[i]), logs[i].end);
}

Test(journal, after_a_clean_end_there_is_nothing_in_it)
{
        struct err err = ERR_INIT;
        char path[100];
        struct stat sb;
        ino_t ino[2];

        cr_assert_eq(group(LOGS, 200), 0);
        cr_assert_eq(journal_finish(j, &err), 0, "%s", err.text);
        for (unsigned i = 0; i < 2; i++) {
                lap_path(path, sizeof path, i);
                cr_assert_eq(stat(path, &sb), 0);
                cr_expect(is_closed(path));
                cr_expect_eq(sb.st_size, 64 << 10, "it keeps its size");
                ino[i] = sb.st_ino;
        }
        for (unsigned i = 0; i < LOGS; i++)             /* nothing is written back */
                lose(&logs[i], MLOG_SEGMENT_HEADER);
        recover();
        for (unsigned i = 0; i < LOGS; i++)
                cr_expect_lt(sound(&logs[i]), logs[i].end);

        /* … and is written over after a start: nothing is allocated. */
        journal_destroy(&j);
        j = journal_create(dir, 64u << 10);
        for (unsigned i = 0; i < LOGS; i++)
                logs[i].lap = 0;
        fs_fault = fail;
        failing = "fallocate";
        atomic_store(&fail_after, 1);
        cr_assert_eq(group(LOGS, 200), 0);
        fs_fault = NULL;
        for (unsigned i = 0; i < 2; i++) {
                lap_path(path, sizeof path, i);
                cr_assert_eq(stat(path, &sb), 0);
                cr_expect_eq(sb.st_ino, ino[i]);
                cr_expect_eq(sb.st_size, 64 << 10);
                cr_expect_geq(sb.st_blocks * 512, 64 << 10);
                cr_expect_eq(is_closed(path), i == 1);
        }
}

static bool is_kept(unsigned n)
{
        char path[100];

        snprintf(path, sizeof path, "%s/cyrd.journal.left.%u", dir, n);
        return access(path, F_OK) == 0;
}
static const char *id_and_blank(unsigned n)
{
        static char s[MLOG_UNIQUEID_MAX + 1];

        snprintf(s, sizeof s, "%.*s ", MLOG_UNIQUEID_MAX - 1, logs[n].id);
        return s;
}

/* A log that cannot be written to is left, the others are not; the next start has all. */
static void one_is_left(const char *call, int nth, int want)
{
        cr_assert_eq(group(LOGS, 200), 0);
        for (unsigned i = 0; i < LOGS; i++)
                lose(&logs[i], MLOG_SEGMENT_HEADER);
        fs_fault = fail;
        failing = call;
        atomic_store(&fail_after, nth);
        cr_expect_eq(recover_in(dir), want, "%s", why_not.text);
        fs_fault = NULL;
        cr_expect_eq(strlen(left), strlen(id_and_blank(0)), "%s", left);
        cr_expect(is_kept(0) && !is_kept(1));
        for (unsigned i = 0; i < LOGS; i++) {
                if (strcmp(left, id_and_blank(i)) != 0)
                        cr_expect_eq(sound(&logs[i]), logs[i].end);
                lose(&logs[i], MLOG_SEGMENT_HEADER);
        }
        recover();
        for (unsigned i = 0; i < LOGS; i++)
                cr_expect_eq(sound(&logs[i]), logs[i].end);
        cr_expect_not(is_kept(0));
}
Test(journal, a_log_that_cannot_be_written_is_left) { one_is_left("pwrite", 3, 0); }
Test(journal, a_log_that_cannot_be_synced_is_left_and_the_partition_fails)
{
        one_is_left("fdatasync", 2, 1);
}

Test(journal, what_is_left_waits_while_the_journal_is_used)
{
        char kept[300];

        cr_assert_eq(group(LOGS, 200), 0);
        lose(&logs[2], MLOG_SEGMENT_HEADER);
        snprintf(kept, sizeof kept, "%s.kept", logs[2].path);
        cr_assert_eq(rename(logs[2].path, kept), 0);
        cr_assert_eq(mkdir(logs[2].path, 0700), 0);             /* nobody opens that for writing */
        for (unsigned round = 0; round < 3; round++) {
                cr_expect_eq(recover_in(dir), 0, "%s", why_not.text);
                cr_expect_str_eq(left, id_and_blank(2));
                cr_expect(is_kept(round) && !is_kept(round + 1));
                journal_destroy(&j);
                j = journal_create(dir, 64u << 10);
                for (unsigned i = 0; i < LOGS; i++)
                        logs[i].lap = 0;
                cr_assert_eq(group(2, 300), 0);
                lose(&logs[0], MLOG_SEGMENT_HEADER);
                lose(&logs[1], MLOG_SEGMENT_HEADER);
        }
        cr_assert_eq(rmdir(logs[2].path), 0);
        cr_assert_eq(rename(kept, logs[2].path), 0);
        recover();
        for (unsigned i = 0; i < LOGS; i++)
                cr_expect_eq(sound(&logs[i]), logs[i].end, "log %u", i);
        cr_expect(!is_kept(0) && !is_kept(1) && !is_kept(2) && !is_kept(3));
}

Test(journal, what_cannot_be_kept_lets_the_partition_take_no_changes)
{
        static const char *const cases[] = { "rename", "fsync" };

        for (size_t i = 0; i < 2; i++) {
                uint64_t before = logs[1].end;

                cr_assert_eq(group(LOGS, 200), 0);
                cr_assert_eq(rename(logs[1].path, "/tmp/cyrd-test-kept"), 0);
                cr_assert_eq(mkdir(logs[1].path, 0700), 0);
                fs_fault = fail;
                failing = cases[i];
                atomic_store(&fail_after, 1);
                cr_expect_eq(recover_in(dir), 1, "%s", cases[i]);
                cr_expect_neq(why_not.code, 0);
                fs_fault = NULL;
                cr_assert_eq(rmdir(logs[1].path), 0);
                cr_assert_eq(rename("/tmp/cyrd-test-kept", logs[1].path), 0);
                lose(&logs[1], before);
                recover();
                cr_expect_eq(sound(&logs[1]), logs[1].end);
                journal_destroy(&j);
                j = journal_create(dir, 64u << 10);
                for (unsigned k = 0; k < LOGS; k++)
                        logs[k].lap = 0;
        }
}

Test(journal, one_that_cannot_be_read_is_not_passed_over)
{
        char path[100];

        cr_assert_eq(group(LOGS, 200), 0);
        lap_path(path, sizeof path, 1);
        cr_assert_eq(unlink(path), 0);
        cr_assert_eq(mkdir(path, 0700), 0);                     /* it can be opened for reading, and not be read */
        cr_expect_eq(recover_in(dir), -1);
        cr_expect_not_null(strstr(why_not.text, path), "%s", why_not.text);
        cr_assert_eq(rmdir(path), 0);
        lose(&logs[3], MLOG_SEGMENT_HEADER);                    /* the other lap is still there */
        recover();
        cr_expect_eq(sound(&logs[3]), logs[3].end);
}

/* What recovery writes to the log. */
static void recover_and_listen(char *said, size_t size)
{
        char path[100];
        int out = dup(STDERR_FILENO), fd;
        ssize_t n;

        snprintf(path, sizeof path, "%s/said", dir);
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        cr_assert(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
        log_set_level(LOG_WARN);
        recover();
        log_set_level((enum log_level)-1);
        dup2(out, STDERR_FILENO);
        close(out);
        n = pread(fd, said, size - 1, 0);
        said[n > 0 ? n : 0] = '\0';
        close(fd);
}

/* Three groups of three logs, of which one is damaged from there on; all logs are lost. Returns the octets of the lap, -1: it was not put away. */
static void damage_group(uint64_t at, unsigned len, char *said, size_t size, bool *put_away_r)
{
        char path[100], away[120];
        struct stat sb;

        journal_destroy(&j);
        j = journal_create(dir, 64u << 10);
        for (unsigned i = 0; i < LOGS; i++) {
                lose(&logs[i], MLOG_SEGMENT_HEADER);
                logs[i].end = MLOG_SEGMENT_HEADER;
                logs[i].lap = 0;
        }
        for (unsigned i = 0; i < 4; i++)
                cr_assert_eq(group(3, 400), 0);
        lap_path(path, sizeof path, 0);
        for (unsigned i = 0; i < len; i++)
                flip(path, at + i);
        for (unsigned i = 0; i < LOGS; i++)
                lose(&logs[i], MLOG_SEGMENT_HEADER);
        snprintf(away, sizeof away, "%s.damaged", path);
        unlink(away);
        recover_and_listen(said, size);
        *put_away_r = stat(away, &sb) == 0;
        cr_expect(stat(path, &sb) < 0 || is_closed(path), "it is neither closed nor put away");
}

/* Octets [from, to) of what was written. */
static bool has(const struct log *l, uint64_t from, uint64_t to)
{
        unsigned char c;

        for (; from < to; from++)
                if (pread(l->fd, &c, 1, (off_t)from) != 1 || c != octet(l, from))
                        return false;
        return true;
}

/* A group that others follow was acknowledged, and so were they. */
Test(journal, what_follows_a_damaged_group_is_not_lost)
{
        enum { GROUP = 32 + 3 * 64 + 400 + 2 * 408 };
        char said[2000], place[40];
        bool away;

        /* In its pieces; in the salt, so that its head is none; over all of it, and the next one's head cannot be checked. */
        static const struct { unsigned at, len, lost; } ways[] = { { 100, 8, 1 }, { 16, 4, 2 }, { 0, GROUP, 2 } };

        for (unsigned w = 0; w < 3; w++)
                for (unsigned first = 0; first < 2; first++) {
                        uint64_t each = 400;

                        damage_group(first * GROUP + ways[w].at, ways[w].len, said, sizeof said, &away);
                        snprintf(place, sizeof place, "offset=%u ", first * GROUP);
                        cr_expect(strstr(said, "journal.row") && strstr(said, place), "way %u, group %u: %s", w, first, said);
                        cr_expect(away, "way %u, group %u", w, first);
                        for (unsigned i = 0; i < 3; i++, each = 400 + i) {
                                uint64_t from = MLOG_SEGMENT_HEADER + first * each, to = from + ways[w].lost * each;

                                cr_expect(has(&logs[i], MLOG_SEGMENT_HEADER, from), "way %u, group %u, log %u: before", w, first, i);
                                cr_expect_not(has(&logs[i], from, from + each));
                                cr_expect(has(&logs[i], to, logs[i].end), "way %u, group %u, log %u: behind", w, first, i);
                        }
                }
        damage_group(3 * GROUP + 100, 8, said, sizeof said, &away);     /* the last one may be torn */
        cr_expect_str_eq(said, "");
        cr_expect_not(away);
}

/* ---- what was refused ---- */

/* A record at the log's end, of that epoch; in the file only, or in a group too. */
static void write_record(struct log *l, uint32_t epoch, bool in_group)
{
        struct mlog_pen pen = { .segment = &l->info, .offset = l->end, .seq = 1, .modseq = 5, .durable = mlog_mark(1, l->end), .time = 1,
                                .epoch = epoch, .prev_crc = l->info.crc };
        struct mlog_counters c = { .uidvalidity = epoch };
        struct err err = ERR_INIT;
        struct mlog_batch b;
        struct iovec iov[2];
        unsigned char octets[1024];
        size_t len = 0;
        int n;

        mlog_batch_init(&b);
        mlog_batch_add(&b, &b.body, MLOG_COUNTERS, &c, sizeof c, NULL, 0, NULL, 0, 0);
        n = mlog_batch_seal(&b, &pen, iov);
        for (int i = 0; i < n; i++) {
                memcpy(octets + len, iov[i].iov_base, iov[i].iov_len);
                len += iov[i].iov_len;
        }
        mlog_batch_deinit(&b);
        cr_assert_eq(fs_pwrite_all(l->fd, octets, len, l->end, &err), 0);
        if (in_group) {
                struct journal_piece piece = { .uniqueid = l->id, .segment = 1, .segment_crc = l->info.crc, .offset = l->end,
                                               .len = (uint32_t)len, .path = l->path, .lap = &l->lap };

                journal_begin(j);
                memcpy(journal_add(j, &piece), octets, len);
        }
}

static uint32_t epoch_there(const struct log *l)
{
        struct mlog_header h;

        return pread(l->fd, &h, sizeof h, (off_t)l->end) == sizeof h && mlog_header_valid(&h, &l->info, l->end) ? h.epoch : 0;
}

/* An operator moved the journal away to go on, and puts it back: its second piece would go into the middle of what was written since. */
Test(journal, one_that_is_put_back_later_leaves_logs_alone_that_went_on)
{
        unsigned char big[2048], there[sizeof big + 500];
        char path[100], away[120];
        struct log *l = &logs[0];
        struct mlog_pen pen;
        struct mlog_batch b;
        struct iovec iov[2];
        struct err err = ERR_INIT;
        uint64_t begin = l->end;
        size_t len = 0;

        for (int i = 0; i < 2; i++) {
                off_t end;

                write_record(l, 1, true);
                cr_assert_eq(journal_commit(j, &err), 0);
                end = lseek(l->fd, 0, SEEK_END);
                cr_assert_gt((uint64_t)end, l->end);
                l->end = (uint64_t)end;
        }
        lap_path(path, sizeof path, 0);
        snprintf(away, sizeof away, "%s.away", path);
        cr_assert_eq(rename(path, away), 0);
        lose(l, begin);
        recover();
        pen = (struct mlog_pen){ .segment = &l->info, .offset = begin, .seq = 1, .modseq = 9, .durable = mlog_mark(1, begin), .time = 1, .epoch = 2,
                                 .prev_crc = l->info.crc };
        memset(big, 'M', sizeof big);
        mlog_batch_init(&b);
        mlog_batch_add(&b, &b.body, MLOG_MOVE_INTENT, big, sizeof big, NULL, 0, NULL, 0, 0);
        for (int i = 0, n = mlog_batch_seal(&b, &pen, iov); i < n; i++) {
                cr_assert_eq(fs_pwrite_all(l->fd, iov[i].iov_base, iov[i].iov_len, begin + len, &err), 0);
                len += iov[i].iov_len;
        }
        mlog_batch_deinit(&b);
        cr_assert_eq(rename(away, path), 0);
        recover();
        cr_assert(len <= sizeof there && pread(l->fd, there, len, (off_t)begin) == (ssize_t)len);
        for (size_t i = len - sizeof big; i < len; i++)
                cr_assert_eq(there[i], 'M', "octet %zu", i);
}

static char kept_lap[120];
static int keep_and_fail(const char *call)
{
        char path[100], cmd[300];

        if (strcmp(call, "fdatasync") != 0)
                return 0;
        lap_path(path, sizeof path, 0);
        snprintf(cmd, sizeof cmd, "cp %s %s", path, kept_lap);
        cr_assert_eq(system(cmd), 0);
        return EIO;
}

Test(journal, what_was_refused_does_not_come_over_what_took_its_place)
{
        struct log *l = &logs[0];
        char path[100], cmd[300];
        struct err err = ERR_INIT;

        lap_path(path, sizeof path, 0);
        snprintf(kept_lap, sizeof kept_lap, "%s.kept", path);
        cr_assert_eq(journal_open(j, &err), 0);
        write_record(l, 1, true);
        fs_fault = keep_and_fail;                               /* it is on the disk, whatever the call says */
        cr_assert_eq(journal_commit(j, &err), -1);
        fs_fault = NULL;
        lose(l, l->end);
        write_record(l, 2, false);                              /* after the next start; synced in its own file */
        snprintf(cmd, sizeof cmd, "cp %s %s", kept_lap, path);  /* the lap's being cut was lost */
        cr_assert_eq(system(cmd), 0);
        recover();
        cr_expect_eq(epoch_there(l), 2);

        lose(l, l->end + 50);                                   /* torn: nobody was told that it is there */
        cr_assert_eq(system(cmd), 0);
        recover();
        cr_expect_eq(epoch_there(l), 1);
}

static int pwrites;
static int count_pwrites(const char *call)
{
        pwrites += strcmp(call, "pwrite") == 0;
        return 0;
}

/* After an error of writing back the page cache has clean pages that the disk has not. */
Test(journal, recovery_writes_what_seems_to_be_there)
{
        cr_assert_eq(group(3, 200), 0);
        pwrites = 0;
        fs_fault = count_pwrites;
        recover();
        fs_fault = NULL;
        cr_expect_eq(pwrites, 3 + 1, "three pieces, and the mark that the lap is empty");
}

Test(journal, a_log_that_was_removed_meanwhile_is_no_obstacle)
{
        uint64_t end;

        cr_assert_eq(unlink(logs[1].path), 0);
        cr_assert_eq(group(3, 200), 0);
        end = logs[0].end;
        lose(&logs[0], MLOG_SEGMENT_HEADER);
        recover();
        cr_expect_eq(sound(&logs[0]), end);
}

/* Who is about to sync the directory gets no descriptor: that is no failed sync. */
Test(journal, no_descriptors_are_no_failure)
{
        struct rlimit limit, few;
        struct err err = ERR_INIT;
        int next = dup(0), rc;

        close(next);
        cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
        few = limit;
        journal_begin(j);
        write_and_add(&logs[0], 100);
        few.rlim_cur = (rlim_t)next + 2;                        /* for the two laps */
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = journal_commit(j, &err);
        cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
        cr_expect_eq(rc, 1, "%s", err.text);
}

/* ---- a journal that nobody of us wrote ---- */

struct head { uint64_t magic; uint32_t crc, pieces; uint64_t salt, len; };
struct piece { char id[MLOG_UNIQUEID_MAX]; uint64_t segment, offset; uint32_t segment_crc, len; };

static void forge(const struct piece *p, size_t len)
{
        struct { struct head h; struct piece p; unsigned char octets[64]; } g = { .h = { 0x6a72796387a1c05bull, 0, 1, 7, sizeof g }, .p = *p };
        char path[100];
        int fd;

        memset(g.octets, 'x', sizeof g.octets);
        g.h.len = len;
        g.h.crc = crc32c(0, (char *)&g + 12, (len < sizeof g ? len : sizeof g) - 12);
        lap_path(path, sizeof path, 0);
        fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
        cr_assert_eq(write(fd, &g, sizeof g), sizeof g);
        close(fd);
}

Test(journal, a_hostile_one_writes_nowhere_else)
{
        size_t whole = sizeof(struct head) + sizeof(struct piece) + 64;
        struct piece right = { .segment = 1, .offset = MLOG_SEGMENT_HEADER, .segment_crc = logs[0].info.crc, .len = 64 }, p;
        unsigned char noise[4096];
        char path[100];
        int fd;

        memcpy(right.id, logs[0].id, sizeof right.id);
        forge(&right, whole);
        recover();
        cr_assert_eq(lseek(logs[0].fd, 0, SEEK_END), MLOG_SEGMENT_HEADER + 64, "the forged one is as it should be");
        lose(&logs[0], MLOG_SEGMENT_HEADER);

        p = right;
        snprintf(p.id, sizeof p.id, "../../../../tmp/x");
        forge(&p, whole);
        recover();
        p = right;
        memset(p.id, 'a', sizeof p.id);
        forge(&p, whole);
        recover();
        p = right;
        p.len = 65;
        forge(&p, whole);
        recover();
        p.len = UINT32_MAX;
        forge(&p, whole);
        recover();
        p = right;
        p.offset = UINT64_MAX - 10;
        forge(&p, whole);
        recover();
        p = right;
        p.segment_crc++;
        forge(&p, whole);
        recover();
        for (size_t len = 0; len < 2 * whole; len++)
                if (len != whole && len >= 16) {
                        forge(&right, len);
                        recover();
                        lose(&logs[0], MLOG_SEGMENT_HEADER);
                }
        forge(&right, UINT64_MAX);
        recover();
        for (int i = 0; i < 50; i++) {
                random_bytes(noise, sizeof noise);
                lap_path(path, sizeof path, i & 1);
                fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
                cr_assert_eq(write(fd, noise, sizeof noise), sizeof noise);
                close(fd);
                recover();
        }
        cr_expect_eq(lseek(logs[0].fd, 0, SEEK_END), MLOG_SEGMENT_HEADER);
        lap_path(path, sizeof path, 0);
        unlink(path);
        cr_assert_eq(symlink("/etc/hostname", path), 0);
        cr_expect_eq(recover_in(dir), -1, "a symbolic link is followed");
}

/* ---- a store ---- */

#define BOXES 8
#define EACH 40
static struct store st;
static struct mailbox *boxes[BOXES];
static atomic_int failures;
static const char text[] = "From: a@example.org\r\nSubject: hello\r\n\r\nbody\r\n";

static void *deliver(void *arg)
{
        struct mailbox *m = arg;

        for (int i = 0; i < EACH; i++) {
                struct err err = ERR_INIT;

                if (!fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err))
                        atomic_fetch_add(&failures, 1);
        }
        return NULL;
}

static void start_store(bool all, size_t bytes)
{
        struct logstore_options options = { .sync_threads = 6, .journal_all = all, .journal_bytes = bytes };
        struct err err = ERR_INIT;

        fake_store_init(&st, 0);
        logstore_destroy(&st.ls);
        cr_assert_eq(logstore_create(&st, &options, &st.ls, &err), 0, "%s", err.text);
        for (unsigned i = 0; i < BOXES; i++) {
                char id[25];

                snprintf(id, sizeof id, "%024u", i);
                boxes[i] = fake_create(&st, id);
                cr_assert_not_null(boxes[i]);
        }
}

static void deliver_to_all(void)
{
        pthread_t threads[BOXES];

        for (unsigned i = 0; i < BOXES; i++)
                cr_assert_eq(pthread_create(&threads[i], NULL, deliver, boxes[i]), 0);
        for (unsigned i = 0; i < BOXES; i++)
                pthread_join(threads[i], NULL);
}

static void stop_store(void)
{
        for (unsigned i = 0; i < BOXES; i++)
                mailbox_unref(&boxes[i]);
        fake_store_deinit(&st);
}

/* The partition as a power loss leaves it that takes all octets of logs which were only ever synced by the journal. */
static void after_power_loss(const char *copy)
{
        char cmd[300];

        snprintf(cmd, sizeof cmd, "cp -a %s %s && find %s -name 'log.*' | while read f; do truncate -s 256 $f; done", st.dir, copy, copy);
        cr_assert_eq(system(cmd), 0);
        cr_assert_eq(recover_in(copy), 0, "%s", why_not.text);
}

static unsigned count_in(const char *copy, unsigned box)
{
        struct store other = { .epoch = 2 };
        struct mailbox_status s;
        struct mailbox *m;
        char id[25];

        snprintf(other.dir, sizeof other.dir, "%s", copy);
        fake_store_start(&other, 0);
        snprintf(id, sizeof id, "%024u", box);
        m = fake_open(&other, id);
        cr_assert_not_null(m);
        mailbox_status(m, &s);
        mailbox_unref(&m);
        logstore_destroy(&other.ls);
        return s.messages;
}

Test(journal_store, what_was_acknowledged_is_there_after_a_power_loss, .timeout = 120)
{
        struct logstore_stats s;
        char copy[60];

        start_store(true, 4u << 20);                            /* nothing is retired */
        deliver_to_all();
        logstore_stats(st.ls, &s);
        cr_expect_eq(atomic_load(&failures), 0);
        cr_expect_geq(s.journal_shared, (uint64_t)BOXES * EACH);
        cr_expect_lt(s.journal_groups, s.journal_shared, "none of %llu was shared", (unsigned long long)s.journal_shared);
        snprintf(copy, sizeof copy, "%.50s.copy", st.dir);
        after_power_loss(copy);
        for (unsigned i = 0; i < BOXES; i++)
                cr_expect_eq(count_in(copy, i), EACH, "mailbox %u", i);
        fs_remove_tree(copy, NULL);
        stop_store();
}

Test(journal_store, laps_turn_while_it_is_used, .timeout = 120)
{
        struct logstore_stats s;

        start_store(true, 24u << 10);
        deliver_to_all();
        logstore_stats(st.ls, &s);
        cr_expect_eq(atomic_load(&failures), 0);
        cr_expect_gt(s.journal_groups, 10);
        stop_store();
}

Test(journal_store, a_single_mailbox_needs_no_journal, .timeout = 120)
{
        struct logstore_stats s;

        start_store(false, 0);
        deliver(boxes[0]);
        logstore_stats(st.ls, &s);
        cr_expect_eq(s.journal_groups, 0);
        cr_expect_eq(atomic_load(&failures), 0);
        stop_store();
}

Test(journal_store, a_failed_sync_fails_all_who_share_it, .timeout = 120)
{
        fs_fault = fail;                                        /* before there are threads */
        failing = NULL;
        start_store(true, 4u << 20);
        atomic_store(&fail_after, 20);
        failing = "fdatasync";
        deliver_to_all();
        cr_expect(st.failed, "the partition goes on");
        cr_expect_gt(atomic_load(&failures), 0);
        for (unsigned i = 0; i < BOXES; i++) {
                struct mailbox_status s;
                struct err err = ERR_INIT;

                cr_expect_eq(fake_append(&st, boxes[i], text, sizeof text - 1, 0, NULL, &err), 0);
                cr_expect_eq(err.code, ERR_READONLY, "%s", err.text);
                mailbox_status(boxes[i], &s);
                cr_expect_leq(s.messages, EACH);
        }
        failing = NULL;
        stop_store();
        fs_fault = NULL;
}

static void *deliver_until(void *arg)
{
        struct mailbox *m = arg;

        while (!atomic_load(&failures)) {
                struct err err = ERR_INIT;

                fake_append(&st, m, text, sizeof text - 1, 0, NULL, &err);
        }
        return NULL;
}

static unsigned in_others(void)
{
        struct mailbox_status s;
        unsigned n = 0;

        for (unsigned i = 1; i < BOXES; i++) {
                mailbox_status(boxes[i], &s);
                n += s.messages;
        }
        return n;
}

/* reconstruct reads a log under its mailbox's lock. */
Test(journal_store, a_mailbox_that_is_locked_for_long_does_not_hold_up_others, .timeout = 120)
{
        pthread_t threads[BOXES];
        unsigned before;

        start_store(true, 1u << 20);
        for (unsigned i = 0; i < BOXES; i++)
                cr_assert_eq(pthread_create(&threads[i], NULL, deliver_until, boxes[i]), 0);
        usleep(200000);
        for (;;) {                                              /* when it wants to be synced */
                mailbox_lock(boxes[0]);
                if (boxes[0]->queued[QUEUE_SYNC].is)
                        break;
                mailbox_unlock(boxes[0]);
        }
        usleep(200000);
        before = in_others();
        usleep(1000000);
        cr_expect_gt(in_others(), before + 5);
        mailbox_unlock(boxes[0]);
        atomic_store(&failures, 1);
        for (unsigned i = 0; i < BOXES; i++)
                pthread_join(threads[i], NULL);
        stop_store();
}

static atomic_int holding;
static int hold_sync(const char *call)
{
        if (strcmp(call, "fdatasync") == 0 && atomic_load(&holding) == 1) {
                atomic_store(&holding, 2);
                while (atomic_load(&holding) == 2)
                        usleep(1000);
        }
        return 0;
}

static void *deliver_one(void *arg)
{
        struct err err = ERR_INIT;

        fake_append(&st, arg, text, sizeof text - 1, 0, NULL, &err);
        return NULL;
}

/* What a group under way has of its log is not cut off, or others' octets would take its place there. */
Test(journal_store, a_mailbox_that_fails_while_a_group_has_its_octets, .timeout = 120)
{
        struct err why = ERR_INIT;
        struct mailbox *m;
        pthread_t thread;
        uint64_t end;

        fs_fault = hold_sync;                                   /* before there are threads */
        start_store(true, 1u << 20);
        m = boxes[0];
        deliver_one(m);
        atomic_store(&holding, 1);
        cr_assert_eq(pthread_create(&thread, NULL, deliver_one, m), 0);
        while (atomic_load(&holding) == 1)
                usleep(1000);
        err_set(&why, ERR_IO, "a block of the index cannot be read");
        mailbox_lock(m);
        end = m->active->end;
        mailbox_fail_locked(m, &why, false);
        mailbox_unlock(m);
        mailbox_after(m);
        atomic_store(&holding, 0);
        pthread_join(thread, NULL);
        for (int i = 0; i < 1000 && m->syncing; i++)
                usleep(1000);
        mailbox_lock(m);
        cr_expect(m->failed);
        cr_expect_not(m->cut_wanted);
        cr_expect_eq(m->active->end, end, "%llu of %llu octets are left", (unsigned long long)m->active->end, (unsigned long long)end);
        mailbox_unlock(m);
        stop_store();
        fs_fault = NULL;
}

static void wake_nobody(struct waiter *w) { (void)w; }

/* What ends in one mailbox of a group asks for another one's sync, which is in the same group. */
Test(journal_store, it_is_closed_while_moves_are_under_way, .timeout = 120)
{
        static struct append_result results[BOXES];
        static struct waiter waiters[BOXES];

        for (unsigned round = 0; round < 6; round++) {
                start_store(round & 1, 1u << 20);
                for (unsigned i = 0; i < BOXES; i++)
                        deliver_one(boxes[i]);
                for (unsigned i = 0; i < BOXES; i++) {
                        struct uidset uids = UIDSET_INIT;
                        struct err err = ERR_INIT;

                        uidset_add(&uids, 1);
                        waiter_init(&waiters[i], wake_nobody, NULL);
                        cr_assert_eq(mailbox_move(boxes[i], &uids, boxes[i ^ 1], NULL, NULL, &results[i], &waiters[i], &err), 0, "%s", err.text);
                        uidset_deinit(&uids);
                }
                usleep(round * 400);
                stop_store();
        }
}

/* ---- a move to another partition links segments ---- */

/* How many octets the file had when it was synced last. */
static struct { pthread_mutex_t lock; ino_t ino; off_t size; } synced = { .lock = PTHREAD_MUTEX_INITIALIZER };
int fdatasync(int fd)
{
        struct stat sb;

        pthread_mutex_lock(&synced.lock);
        if (fstat(fd, &sb) == 0 && sb.st_ino == synced.ino)
                synced.size = sb.st_size;
        pthread_mutex_unlock(&synced.lock);
        return (int)syscall(SYS_fdatasync, fd);
}

/* Segments that are full are linked, not copied. What they have may be in the journal of the former partition only. */
static void link_segment(bool load_anew)
{
        struct logstore_options options = { .sync_threads = 6, .journal_all = true, .journal_bytes = 8u << 20, .segment_bytes = 6u << 10,
                                            .cold_mailboxes_max = 1 };
        struct logstore_stats stats;
        struct relocation *r;
        struct err err = ERR_INIT;
        struct str path = STR_INIT;
        struct stat sb;
        char there[80];
        unsigned n = 0;
        uint64_t first;

        fake_store_init(&st, 0);
        logstore_destroy(&st.ls);
        cr_assert_eq(logstore_create(&st, &options, &st.ls, &err), 0, "%s", err.text);
        for (unsigned i = 0; i < 4; i++) {
                char id[25];

                snprintf(id, sizeof id, "%024u", i);
                boxes[i] = fake_create(&st, id);
                cr_assert_not_null(boxes[i]);
        }
        first = boxes[0]->active->info.id;
        mlog_segment_path(&path, boxes[0]->dir, first);
        cr_assert_eq(stat(path.data, &sb), 0);
        pthread_mutex_lock(&synced.lock);
        synced.ino = sb.st_ino;
        synced.size = 0;
        pthread_mutex_unlock(&synced.lock);
        for (bool rolled = false; !rolled; n++) {
                cr_assert_lt(n, 500, "the log does not roll");
                cr_assert(fake_append(&st, boxes[0], text, sizeof text - 1, 0, NULL, &err));
                mailbox_lock(boxes[0]);
                rolled = boxes[0]->active->info.id != first;
                mailbox_unlock(boxes[0]);
        }
        cr_assert_eq(stat(path.data, &sb), 0);
        if (load_anew) {
                for (unsigned i = 0; i < 4; i++)
                        mailbox_unref(&boxes[i]);
                for (unsigned i = 0; i < 100; i++) {
                        logstore_stats(st.ls, &stats);
                        if (stats.open_mailboxes > 1)
                                usleep(100000);
                }
                cr_assert_leq(stats.open_mailboxes, 1);
                boxes[0] = fake_open(&st, "000000000000000000000000");
        }

        snprintf(there, sizeof there, "%s.other", st.dir);
        cr_assert_eq(mkdir(there, 0700), 0);
        cr_assert_eq(relocation_begin(boxes[0], there, &r, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_copy(r, NULL, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_join(r, NULL, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_decide(r, &err), 0, "%s", err.text);
        relocation_finish(&r);
        snprintf(st.moved_to, sizeof st.moved_to, "%s", there);
        cr_assert(relocation_remove_old(&st, "000000000000000000000000", st.dir));

        pthread_mutex_lock(&synced.lock);
        cr_expect_eq(synced.size, sb.st_size);
        pthread_mutex_unlock(&synced.lock);
        str_clear(&path);
        str_printf(&path, "%s/0/0/000000000000000000000000/log.%016llx", there, (unsigned long long)first);
        cr_assert_eq(stat(path.data, &sb), 0);
        cr_expect_eq(sb.st_ino, synced.ino, "it was copied");

        for (unsigned i = 0; i < 4; i++)
                mailbox_unref(&boxes[i]);
        fs_remove_tree(there, NULL);
        str_deinit(&path);
        fake_store_deinit(&st);
}

Test(journal_store, a_segment_that_is_linked_is_synced, .timeout = 120) { link_segment(false); }
Test(journal_store, a_segment_that_is_linked_is_synced_when_its_mailbox_was_loaded_anew, .timeout = 120) { link_segment(true); }
