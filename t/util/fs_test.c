#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fs.h"

static char dir[] = "/tmp/cyrd-fs-test-XXXXXX";
static struct err err;

static void setup(void)
{
        cr_assert_not_null(mkdtemp(dir));
}

static void teardown(void)
{
        fs_remove_tree(dir, NULL);
}

TestSuite(fs, .init = setup, .fini = teardown);

static const char *path(const char *name)
{
        static char buf[4][200];
        static unsigned next;
        char *p = buf[next++ % 4];

        snprintf(p, sizeof buf[0], "%s/%s", dir, name);
        return p;
}

static mode_t mode_of(const char *p)
{
        struct stat st;

        cr_assert_eq(stat(p, &st), 0);
        return st.st_mode & 07777;
}

Test(fs, replace_makes_and_replaces_a_whole_file)
{
        struct str text = STR_INIT;

        cr_expect_eq(fs_replace(path("f"), "first", 5, 0600, &err), 0, "%s", err.text);
        cr_expect_eq(fs_replace(path("f"), "2nd", 3, 0640, &err), 0, "%s", err.text);
        cr_expect_eq(fs_slurp(path("f"), 100, &text, &err), 0);
        cr_expect_str_eq(text.data, "2nd");
        cr_expect_eq(mode_of(path("f")), 0640);
        cr_expect_not(fs_exists(path("f.new")));
        str_deinit(&text);
}

Test(fs, replace_is_not_misled_by_what_a_crash_left)
{
        struct str text = STR_INIT;
        int fd = open(path("f.new"), O_WRONLY | O_CREAT, 0666);

        cr_assert_geq(fd, 0);
        close(fd);
        cr_assert_eq(symlink("/tmp/cyrd-no-such-target", path("g.new")), 0);
        cr_expect_eq(fs_replace(path("f"), "x", 1, 0600, &err), 0, "%s", err.text);
        cr_expect_eq(mode_of(path("f")), 0600);
        cr_expect_eq(fs_replace(path("g"), "y", 1, 0600, &err), 0, "%s", err.text);
        cr_expect_eq(fs_slurp(path("g"), 1, &text, &err), 0);
        cr_expect_str_eq(text.data, "y");
        cr_expect_not(fs_exists("/tmp/cyrd-no-such-target"));
        str_deinit(&text);
}

Test(fs, a_failed_replace_leaves_the_old_file)
{
        struct str text = STR_INIT;

        cr_assert_eq(mkdir(path("d"), 0700), 0);
        cr_expect_eq(fs_replace(path("d"), "x", 1, 0600, &err), -1);                    /* a directory is in the way */
        cr_expect_not(fs_exists(path("d.new")));
        cr_expect_eq(fs_replace(path("no/such"), "x", 1, 0600, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        str_deinit(&text);
}

Test(fs, slurp_has_a_limit)
{
        struct str text = STR_INIT;
        static char big[50000];

        memset(big, 'x', sizeof big);
        cr_assert_eq(fs_replace(path("big"), big, sizeof big, 0600, &err), 0);
        cr_expect_eq(fs_slurp(path("big"), sizeof big, &text, &err), 0);
        cr_expect_eq(text.len, sizeof big);
        cr_expect_eq(fs_slurp(path("big"), sizeof big - 1, &text, &err), -1);
        cr_expect_eq(err.code, ERR_LIMIT);
        cr_expect_eq(fs_slurp(path("none"), 1, &text, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        cr_expect_eq(fs_slurp(dir, 1, &text, &err), -1);
        cr_expect_eq(err.code, ERR_IO);
        str_deinit(&text);
}

Test(fs, positioned_reads_and_writes)
{
        int fd = open(path("f"), O_RDWR | O_CREAT, 0600);
        char buf[8] = { 0 };

        cr_assert_geq(fd, 0);
        cr_expect_eq(fs_pwrite_all(fd, "world", 5, 6, &err), 0);
        cr_expect_eq(fs_write_all(fd, "hello ", 6, &err), 0);
        cr_expect_eq(fs_pread_all(fd, buf, 7, 4, &err), 0);
        cr_expect_str_eq(buf, "o world");
        cr_expect_eq(fs_pread_all(fd, buf, 7, 5, &err), -1);
        cr_expect_eq(err.code, ERR_CORRUPT);
        cr_expect_eq(fs_datasync(fd, "f", &err), 0);
        close(fd);
        cr_expect_eq(fs_datasync(fd, "f", &err), -1);
        cr_expect_eq(fs_write_all(-1, "x", 1, &err), -1);
}

Test(fs, mkdir_makes_parents_and_minds_what_is_there)
{
        cr_expect_eq(fs_mkdir_p(path("a/b//c/"), 0700, &err), 0, "%s", err.text);
        cr_expect_eq(fs_mkdir_p(path("a/b/c"), 0700, &err), 0, "%s", err.text);
        cr_expect(fs_exists(path("a/b/c")));
        cr_expect_eq(fs_mkdir_p_durable(path("x/y"), 0700, &err), 0, "%s", err.text);
        cr_expect(fs_exists(path("x/y")));
        cr_expect_eq(fs_mkdir_p("/", 0700, &err), 0, "%s", err.text);
        cr_expect_eq(fs_replace(path("file"), "x", 1, 0600, &err), 0);
        cr_expect_eq(fs_mkdir_p(path("file"), 0700, &err), -1);
        cr_expect_eq(fs_mkdir_p(path("file/below"), 0700, &err), -1);
        cr_expect_eq(fs_mkdir_p("", 0700, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        cr_expect_eq(fs_sync_dir(path("none"), &err), -1);
        cr_expect_eq(fs_sync_dir(path("file"), &err), -1);
}

Test(fs, remove_tree_takes_all_but_follows_no_link)
{
        cr_assert_eq(fs_mkdir_p(path("t/a/b"), 0700, &err), 0);
        cr_assert_eq(fs_mkdir_p(path("kept"), 0700, &err), 0);
        cr_assert_eq(fs_replace(path("t/a/f"), "x", 1, 0600, &err), 0);
        cr_assert_eq(fs_replace(path("kept/f"), "x", 1, 0600, &err), 0);
        cr_assert_eq(symlink(path("kept"), path("t/link")), 0);
        cr_expect_eq(fs_remove_tree(path("t"), &err), 0, "%s", err.text);
        cr_expect_not(fs_exists(path("t")));
        cr_expect(fs_exists(path("kept/f")));
        cr_expect_eq(fs_remove_tree(path("t"), &err), 0);
        cr_expect_eq(fs_remove_tree(path("kept/f"), &err), 0);
        cr_expect_not(fs_exists(path("kept/f")));
}

Test(fs, a_locked_file_is_busy_until_it_is_closed)
{
        int a, b;

        cr_assert_eq(fs_lock_file(path("lock"), &a, &err), 0, "%s", err.text);
        cr_expect_eq(fs_lock_file(path("lock"), &b, &err), -1);
        cr_expect_eq(err.code, ERR_BUSY);
        close(a);
        cr_expect_eq(fs_lock_file(path("lock"), &b, &err), 0, "%s", err.text);
        close(b);
        cr_expect_eq(fs_lock_file(path("no/lock"), &b, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
}
