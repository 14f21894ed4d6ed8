/*
 * index_crash: what a crash leaves of the checkpoint file. The system calls that change files are recorded on their way (the
 * definitions below take the place of libc's); from the record, disks are rebuilt as they may be after a crash at any call: what was
 * synced is there, of the rest each write may be there, missing, or cut anywhere, and a rename may have happened or not. Each
 * must open as the last checkpoint that was acknowledged, or as the one in progress.
 *
 * To know that the test would notice: with any one sync call ignored it does find a wrong disk.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "t/store/index_gen.h"
#include "util/array.h"

/* ---- the recorder ---- */

enum op_kind { OP_WRITE, OP_SYNC, OP_RENAME, OP_SYNC_DIR };

struct op {
        enum op_kind kind;
        ino_t ino;
        uint64_t offset;
        size_t len;
        char *bytes;
};

static struct {
        bool on;
        ARRAY(struct op) ops;
        int fail_at;                            /* this call from now (1: the next) fails with fail_errno; 0: none */
        int fail_errno;
        int kill_at;                            /* after this call the process "dies": longjmp(died, 1) */
} disk;
static jmp_buf died;

static bool fails_now(void)
{
        if (!disk.on || disk.fail_at == 0 || --disk.fail_at > 0)
                return false;
        errno = disk.fail_errno;
        return true;
}

static void record(enum op_kind kind, ino_t ino, const void *p, size_t len, uint64_t offset)
{
        struct op op = { kind, ino, offset, len, NULL };

        if (!disk.on)
                return;
        if (len) {
                op.bytes = xmalloc(len);
                memcpy(op.bytes, p, len);
        }
        *ARRAY_PUSH(&disk.ops) = op;
        if (disk.kill_at && --disk.kill_at == 0)
                longjmp(died, 1);
}

static ino_t ino_of(int fd)
{
        struct stat st;

        cr_assert_eq(fstat(fd, &st), 0);
        return st.st_ino;
}

ssize_t pwrite(int fd, const void *p, size_t len, off_t offset)
{
        ssize_t n;

        if (fails_now())
                return -1;
        n = syscall(SYS_pwrite64, fd, p, len, offset);
        if (n > 0 && disk.on)
                record(OP_WRITE, ino_of(fd), p, (size_t)n, (uint64_t)offset);
        return n;
}

int fdatasync(int fd)
{
        if (fails_now())
                return -1;
        if (disk.on)
                record(OP_SYNC, ino_of(fd), NULL, 0, 0);
        return 0;
}

int fsync(int fd)
{
        if (fails_now())
                return -1;
        record(OP_SYNC_DIR, 0, NULL, 0, 0);
        (void)fd;
        return 0;
}

int rename(const char *from, const char *to)
{
        struct stat st = { 0 };
        int rc;

        if (fails_now())
                return -1;
        stat(from, &st);
        rc = (int)syscall(SYS_rename, from, to);
        if (rc == 0)
                record(OP_RENAME, st.st_ino, NULL, 0, 0);
        return rc;
}

static void disk_start(void)
{
        for (size_t i = 0; i < disk.ops.n; i++)
                free(disk.ops.v[i].bytes);
        disk.ops.n = 0;
        disk.on = true;
}

/* ---- rebuilding disks ---- */

struct image {
        char *bytes;
        size_t len, cap;
        ino_t ino;                              /* of a file read from the disk, kept open so that its number is not used again */
        int fd;
};

static void image_write(struct image *im, const struct op *op, size_t len)
{
        if (op->offset + len > im->cap) {
                im->cap = (op->offset + len) * 2;
                im->bytes = xrealloc(im->bytes, im->cap);
        }
        if (op->offset + len > im->len) {
                if (op->offset > im->len)
                        memset(im->bytes + im->len, 0, op->offset - im->len);
                im->len = op->offset + len;
        }
        memcpy(im->bytes + op->offset, op->bytes, len);
}

/* Is op i on the disk for sure when the machine stops before op `end`? ignored: a sync that did not work, SIZE_MAX: none. */
static bool is_durable(size_t i, size_t end, size_t ignored)
{
        for (size_t k = i + 1; k < end; k++)
                if (k != ignored && (disk.ops.v[i].kind == OP_RENAME ? disk.ops.v[k].kind == OP_SYNC_DIR
                                     : disk.ops.v[k].kind == OP_SYNC && disk.ops.v[k].ino == disk.ops.v[i].ino))
                        return true;
        return false;
}

/* One disk that may be left. start: the file as it was, ino 0: there was none. Returns false when there is no file. */
static bool rebuild(struct image *im, const struct image *start, size_t end, size_t ignored, bool killed)
{
        int fate = rand() % 4;                  /* lose all that may be lost, keep all, or each as it comes */
        ino_t ino = start->ino;

        for (size_t i = 0; i < end; i++)
                if (disk.ops.v[i].kind == OP_RENAME
                    && (killed || is_durable(i, end, ignored) || fate == 1 || (fate > 1 && rand() % 2)))
                        ino = disk.ops.v[i].ino;
        im->len = 0;
        if (start->len && ino == start->ino)
                image_write(im, &(struct op){ .offset = 0, .bytes = start->bytes }, start->len);
        for (size_t i = 0; i < end; i++) {
                const struct op *op = &disk.ops.v[i];
                size_t len = op->len;

                if (op->kind != OP_WRITE || op->ino != ino)
                        continue;
                if (!killed && !is_durable(i, end, ignored)) {
                        if (fate == 0 || (fate > 1 && rand() % 2))
                                continue;
                        if (fate > 1 && rand() % 2)
                                len = rand() % 2 ? (size_t)rand() % (len + 1) : (size_t)rand() % (len / 512 + 1) * 512;
                }
                image_write(im, op, len);
        }
        if (killed && end < disk.ops.n && disk.ops.v[end].kind == OP_WRITE && disk.ops.v[end].ino == ino)
                image_write(im, &disk.ops.v[end], (size_t)rand() % (disk.ops.v[end].len + 1));
        return ino != 0;
}

/* ---- states ---- */

#define UIDS 3000u

static bool same(struct index *ix, const struct index_model *m)
{
        struct index_iter it;
        struct index_rec r;
        struct index_totals *t = (struct index_totals *)index_totals(ix);
        uint64_t records = 0;

        if (index_counters(ix)->highestmodseq != m->modseq || index_blob(ix, INDEX_KEYWORDS).len != m->modseq % 5000 ||
            !gen_parts_are(ix, m->modseq))
                return false;
        index_iter_init(&it, ix, 0);
        for (uint32_t uid = 1; uid < m->cap; uid++) {
                if (!m->recs[uid].uid)
                        continue;
                records++;
                if (index_next(&it, &r, NULL) != 1 || memcmp(&r, &m->recs[uid], sizeof r) != 0)
                        return false;
        }
        return index_next(&it, &r, NULL) == 0 && t->records == records;
}

/* Does the image open as one of these? m[k] NULL: having no file at all is fine. */
static bool opens_as(const struct image *im, bool exists, struct index_model *const m[2])
{
        char path[100];
        struct index *ix;
        bool ok = false;
        bool was_on = disk.on;
        int fd;

        disk.on = false;
        snprintf(path, sizeof path, "/tmp/index_crash.image.%d", (int)getpid());
        unlink(path);
        if (exists) {
                fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
                cr_assert(fd >= 0 && (im->len == 0 || write(fd, im->bytes, im->len) == (ssize_t)im->len));
                close(fd);
        }
        if (!exists || index_open(path, "u", &ix, NULL) < 0) {
                ok = !exists && (!m[0] || !m[1]);
        } else {
                ok = (m[0] && same(ix, m[0])) || (m[1] && same(ix, m[1]));
                index_destroy(&ix);
        }
        unlink(path);
        disk.on = was_on;
        return ok;
}

/* Every crash within the record; returns how many disks were wrong. */
static int crashes(const struct image *start, struct index_model *before, struct index_model *after, size_t ignored,
                   int tries, bool with_kills)
{
        struct index_model *const both[2] = { before, after }, *const only_after[2] = { after, after };
        struct image im = { 0 };
        int wrong = 0;

        for (size_t end = 0; end <= disk.ops.n; end++)
                for (int i = 0; i < tries; i++) {
                        bool killed = with_kills && i % 4 == 0;
                        bool exists = rebuild(&im, start, end, ignored, killed);

                        wrong += !opens_as(&im, exists, end == disk.ops.n ? only_after : both);
                }
        free(im.bytes);
        return wrong;
}

/* ---- scenarios ---- */

static void change(struct index *ix, struct index_model *m, int appends, int changes)
{
        struct uidset set = UIDSET_INIT;

        m->modseq++;
        for (int i = 0; i < appends && index_last_uid(ix) + 1 < m->cap; i++) {
                struct index_rec r = gen_rec(index_last_uid(ix) + 1, m->modseq);

                index_put(ix, &r, NULL);
                m->recs[r.uid] = r;
        }
        for (int i = 0; i < changes; i++) {
                uint32_t uid = 1 + (uint32_t)rand() % (m->cap - 1);
                struct index_rec r = m->recs[uid];

                if (!r.uid)
                        continue;
                r.flags ^= MSG_SEEN;
                r.modseq = m->modseq;
                index_put(ix, &r, NULL);
                m->recs[uid] = r;
        }
        if (rand() % 4 == 0) {
                uint32_t uid = 1 + (uint32_t)rand() % (m->cap - 1);

                uidset_add(&set, uid);
                index_purge(ix, &set, NULL);
                m->recs[uid].uid = 0;
        }
        uidset_deinit(&set);
        index_counters(ix)->highestmodseq = m->modseq;
        index_touch(ix);
        char *blob = xcalloc(5000, 1);

        index_set_blob(ix, INDEX_KEYWORDS, blob, m->modseq % 5000);
        gen_parts_set(ix, m->modseq);
        free(blob);
}

static char *crash_path(void)
{
        static char path[100];

        snprintf(path, sizeof path, "/tmp/index_crash.%d", (int)getpid());
        unlink(path);
        return path;
}

static void slurp(const char *path, struct image *im)
{
        struct stat st;
        int fd = open(path, O_RDONLY);

        cr_assert(fd >= 0 && fstat(fd, &st) == 0);
        free(im->bytes);
        im->bytes = xmalloc((size_t)st.st_size + 1);
        im->len = (size_t)st.st_size;
        cr_assert_eq(read(fd, im->bytes, im->len), (ssize_t)im->len);
        im->fd = fd;
        im->ino = st.st_ino;
}

Test(index_crash, the_first_file_is_there_whole_or_not_at_all, .timeout = 60)
{
        char *path = crash_path();
        struct index *ix = index_create_empty(path, "u");
        struct image none = { 0 };
        struct index_model m;

        srand(1);
        model_init(&m, UIDS);
        change(ix, &m, 1500, 0);
        disk_start();
        cr_assert_eq(index_checkpoint(ix, NULL), 0);
        disk.on = false;
        cr_expect_eq(crashes(&none, NULL, &m, SIZE_MAX, 40, true), 0);
        for (size_t i = 0; i < disk.ops.n; i++)
                if (disk.ops.v[i].kind == OP_SYNC || disk.ops.v[i].kind == OP_SYNC_DIR)
                        cr_expect_gt(crashes(&none, NULL, &m, i, 100, false), 0, "sync call %zu is not needed?", i);
        index_destroy(&ix);
        free(m.recs);
        unlink(path);
}

Test(index_crash, a_checkpoint_is_there_whole_or_not_at_all, .timeout = 120)
{
        char *path = crash_path();
        struct index *ix = index_create_empty(path, "u");
        struct image start = { 0 };
        struct index_model m, before;

        srand(2);
        model_init(&m, UIDS);
        model_init(&before, UIDS);
        change(ix, &m, 1200, 0);
        cr_assert_eq(index_checkpoint(ix, NULL), 0);
        for (int round = 0; round < 25; round++) {
                model_copy(&before, &m);
                slurp(path, &start);
                change(ix, &m, rand() % 80, rand() % 20);
                disk_start();
                cr_assert_eq(index_checkpoint(ix, NULL), 0);
                disk.on = false;
                cr_expect_eq(crashes(&start, &before, &m, SIZE_MAX, 16, true), 0);
                if (round < 4)                          /* at the very end, or in the middle: somewhere it is missed */
                        for (size_t i = 0; i < disk.ops.n; i++)
                                if (disk.ops.v[i].kind == OP_SYNC)
                                        cr_expect_gt(crashes(&start, &before, &m, i, 60, false), 0, "sync call %zu is not needed?", i);
                close(start.fd);
                if (round % 5 == 4) {
                        index_destroy(&ix);
                        cr_assert_eq(index_open(path, "u", &ix, NULL), 0);
                }
        }
        index_destroy(&ix);
        free(start.bytes);
        free(m.recs);
        free(before.recs);
        unlink(path);
}

/* Run a checkpoint up to a call, and no further. What the process had in memory leaks, as it does. */
static void killed_checkpoint(struct index *ix, int kill_at)
{
        disk_start();
        disk.kill_at = kill_at;
        if (setjmp(died) == 0)
                index_checkpoint(ix, NULL);
        disk.kill_at = 0;
}

/* kill -9 leaves what was written in the page cache. The next process goes on from there, then the power fails: what the first one
 * had not synced may still be lost. */
static void one_life_after(int kill_at)
{
        char *path = crash_path();
        struct index *ix = index_create_empty(path, "u"), *again;
        struct image start = { 0 }, im = { 0 };
        struct index_model m, first, second;
        size_t between;

        disk.on = false;
        model_init(&m, UIDS);
        model_init(&first, UIDS);
        model_init(&second, UIDS);
        change(ix, &m, 1100, 0);
        cr_assert_eq(index_checkpoint(ix, NULL), 0);
        change(ix, &m, 3, 3);
        cr_assert_eq(index_checkpoint(ix, NULL), 0);
        model_copy(&first, &m);
        slurp(path, &start);
        change(ix, &m, 10, 10);
        model_copy(&second, &m);
        killed_checkpoint(ix, kill_at);
        disk.on = false;
        cr_assert_eq(index_open(path, "u", &again, NULL), 0);
        cr_assert(same(again, &first) || same(again, &second));
        model_copy(&m, same(again, &first) ? &first : &second);
        change(again, &m, 20, 30);
        between = disk.ops.n;
        disk.on = true;
        cr_assert_eq(index_checkpoint(again, NULL), 0);
        disk.on = false;
        for (size_t end = between; end <= disk.ops.n; end++)
                for (int i = 0; i < 12; i++) {
                        bool ok;

                        rebuild(&im, &start, end, SIZE_MAX, false);
                        ok = opens_as(&im, true, (struct index_model *const[2]){ &m, &m });
                        if (!ok && end < disk.ops.n)
                                ok = opens_as(&im, true, (struct index_model *const[2]){ &first, &second });
                        cr_expect(ok, "killed after call %d, power lost before call %zu", kill_at, end);
                }
        index_destroy(&again);
        close(start.fd);
        free(start.bytes);
        free(im.bytes);
        free(m.recs);
        free(first.recs);
        free(second.recs);
        unlink(path);
}

Test(index_crash, power_loss_in_the_life_after_a_kill, .timeout = 120)
{
        srand(3);
        for (int kill_at = 1; kill_at <= 6; kill_at++)
                for (int round = 0; round < 6; round++)
                        one_life_after(kill_at);
}

/* A checkpoint in which one call fails, into a new file or one that is there. Returns whether it failed. */
static bool one_failure(int errno_value, int fail_at, bool new_file)
{
        char *path = crash_path();
        struct index *ix = index_create_empty(path, "u"), *there;
        struct index_model m, before;
        struct err err = ERR_INIT;
        int rc;

        disk.on = false;
        model_init(&m, UIDS);
        model_init(&before, UIDS);
        change(ix, &m, 1500, 0);
        if (!new_file)
                cr_assert_eq(index_checkpoint(ix, NULL), 0);
        model_copy(&before, &m);
        if (!new_file)
                change(ix, &m, 30, 30);
        disk_start();
        disk.fail_at = fail_at;
        disk.fail_errno = errno_value;
        rc = index_checkpoint(ix, &err);
        disk.fail_at = 0;
        disk.on = false;
        if (rc < 0)
                cr_expect_eq(err.code, errno_value == ENOSPC ? ERR_NOSPACE : ERR_IO, "%s", err.text);
        cr_expect_eq(index_dirty(ix), rc < 0);
        if (index_open(path, "u", &there, NULL) == 0) {
                cr_expect(same(there, &m) || (rc < 0 && !new_file && same(there, &before)));
                index_destroy(&there);
        } else {
                cr_expect(new_file && rc < 0);
        }
        cr_expect(same(ix, &m));
        change(ix, &m, 5, 5);                           /* the next one works */
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        cr_expect(same(ix, &m));
        index_destroy(&ix);
        cr_assert_eq(index_open(path, "u", &ix, NULL), 0);
        cr_expect(same(ix, &m));
        index_destroy(&ix);
        free(m.recs);
        free(before.recs);
        unlink(path);
        return rc < 0;
}

Test(index_crash, a_failing_call_fails_the_checkpoint_and_nothing_else, .timeout = 120)
{
        static const int errnos[] = { ENOSPC, EIO };
        int failed = 0;

        srand(4);
        for (int e = 0; e < 2; e++)
                for (int fail_at = 1; fail_at < 10; fail_at++)
                        failed += one_failure(errnos[e], fail_at, true) + one_failure(errnos[e], fail_at, false);
        cr_expect_geq(failed, 24);
}
