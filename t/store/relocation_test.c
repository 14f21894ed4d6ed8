/* mailbox_relocate - a mailbox to another partition while it is used: nothing acknowledged is missing, in either place, whatever fails. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/mailbox_private.h"
#include "t/store/fake_store.h"
#include "util/clock.h"

static struct store st;
static char there[80];                          /* the other partition */
/* What there should be: the message with this UID has so many octets (0: there is none), all of them `mark` behind the header. */
#define UIDS 3000
static struct { size_t len; char mark; } *want;         /* shared with children */

static void setup(void)
{
        fake_store_init(&st, 0);
        snprintf(there, sizeof there, "%s.other", st.dir);
        must(mkdir(there, 0700) == 0);
        want = mmap(NULL, UIDS * sizeof *want, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        must(want != MAP_FAILED);
}

static void teardown(void)
{
        fs_fault = NULL;
        fake_store_deinit(&st);
        fs_remove_tree(there, NULL);
}

TestSuite(relocation, .init = setup, .fini = teardown, .timeout = 120);

#define ID "aaaaaaaaaaaaaaaaaaaaaaaa"
#define BLOB (BLOB_THRESHOLD + 1000)
static const char head[] = "From: a@example.org\r\nSubject: hello\r\nDate: Sun, 22 Nov 2026 03:35:22 +0000\r\n\r\n";


/* 0: it was refused, with err. Its octets are taken in as if nothing failed. */
static uint32_t try_append(struct mailbox *m, size_t len, uint32_t flags, struct err *err)
{
        static char mark = 'a';
        int (*fault)(const char *call) = fs_fault;
        struct span kw = SPAN("kw");
        struct append_item item = { .flags = flags, .keywords = &kw, .keyword_count = 1, .internaldate = 1000000, .savedate = INT64_MIN };
        struct append_result result = { 0, 0, 0, 0 };
        struct waiter w;
        char *p = malloc(len + 1);
        int rc;

        mark = mark == 'z' ? 'a' : (char)(mark + 1);
        memset(p, mark, len);
        memcpy(p, head, sizeof head - 1);
        fs_fault = NULL;
        item.stage = fake_stage(&st, p, len);
        fs_fault = fault;
        waiter_init_blocking(&w);
        rc = mailbox_append(m, &item, 1, &result, &w, err);
        if (rc == 0)
                rc = waiter_block(&w, err);
        stage_unref(&item.stage);
        free(p);
        if (rc < 0)
                return 0;
        want[result.first_uid].mark = mark;
        want[result.first_uid].len = len;
        return result.first_uid;
}

static uint32_t append(struct mailbox *m, size_t len)
{
        struct err err = ERR_INIT;
        uint32_t uid = try_append(m, len, 0, &err);

        cr_assert(uid, "%s", err.text);
        return uid;
}

static void flag(struct mailbox *m, uint32_t uid, uint32_t flags)
{
        struct uidset uids = UIDSET_INIT;
        struct flag_change change = { .how = FLAGS_ADD, .flags = flags };
        struct waiter w;
        struct err err = ERR_INIT;
        uint64_t modseq;

        uidset_add(&uids, uid);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        uidset_deinit(&uids);
}

static void expunge(struct mailbox *m, uint32_t uid)
{
        struct waiter w;
        struct err err = ERR_INIT;

        flag(m, uid, MSG_DELETED);
        waiter_init_blocking(&w);
        cr_assert_eq(mailbox_expunge(m, NULL, true, NULL, NULL, &w, &err), 0, "%s", err.text);
        cr_assert_eq(waiter_block(&w, &err), 0, "%s", err.text);
        want[uid].len = 0;
}

static void expect_octets(struct mailbox *m, uint32_t uid)
{
        struct msg msg;
        struct extent x;
        struct err err = ERR_INIT;
        char *is = malloc(want[uid].len);

        cr_assert_eq(mailbox_message(m, uid, &msg, &err), 0, "uid %u: %s", uid, err.text);
        cr_assert_eq(mailbox_body(m, &msg, &x, &err), 0, "uid %u: %s", uid, err.text);
        cr_assert_eq(x.len, want[uid].len);
        cr_assert_eq(file_read(x.file, is, x.len, x.offset, &err), 0, "uid %u: %s", uid, err.text);
        for (size_t i = sizeof head - 1; i < x.len; i++)
                cr_assert_eq(is[i], want[uid].mark, "uid %u", uid);
        file_unref(&x.file);
        free(is);
}

static void expect_all(struct mailbox *m)
{
        struct mailbox_status s;
        uint32_t n = 0;

        for (uint32_t uid = 1; uid < UIDS; uid++) {
                if (want[uid].len) {
                        expect_octets(m, uid);
                        n++;
                }
        }
        mailbox_status(m, &s);
        cr_expect_eq(s.messages, n, "%u, not %u", s.messages, n);
}

static void count_problem(void *ctx, const char *mailbox, uint32_t uid, const char *text)
{
        (void)ctx;
        cr_assert_fail("%s: %u: %s", mailbox, uid, text);
}

static void check_clean(void)
{
        struct mailbox_ident ident = fake_ident(&st, ID);
        struct check_report report = { .problem = count_problem };
        struct err err = ERR_INIT;

        cr_assert_eq(mailbox_check_files(&st, &ident, &report, &err), 0, "%s", err.text);
}

/* The list of mailboxes says that it is there, or in the first partition. */
static void list_it(bool in_other)
{
        snprintf(st.moved_to, sizeof st.moved_to, "%s", in_other ? there : st.dir);
}

static struct mailbox *reopen(struct mailbox *m)
{
        if (m)
                mailbox_unref(&m);
        logstore_destroy(&st.ls);
        fake_store_start(&st, 0);
        m = fake_open(&st, ID);
        cr_assert_not_null(m);
        return m;
}

static bool in(const char *partition)
{
        struct str dir = STR_INIT;
        bool yes;

        mailbox_dir(&dir, partition, ID);
        yes = fs_exists(dir.data);
        str_deinit(&dir);
        return yes;
}

/* Several segments, one of them adopted, blobs, tombstones, an index that is behind. */
static struct mailbox *make(void)
{
        struct mailbox *m = fake_create(&st, ID);
        struct err err = ERR_INIT;

        for (int i = 0; i < 20; i++)
                append(m, 500 + 1000 * (size_t)i);
        append(m, BLOB);
        mailbox_maintain_begin(m);
        cr_assert_eq(mailbox_roll(m, &err), 0, "%s", err.text);
        mailbox_maintain_end(m);
        append(m, 800);
        expunge(m, 3);
        cr_assert_eq(mailbox_checkpoint(m, &err), 0, "%s", err.text);
        flag(m, 5, MSG_FLAGGED);
        append(m, BLOB + 1);
        mailbox_maintain_begin(m);
        cr_assert_eq(mailbox_roll(m, &err), 0, "%s", err.text);         /* prepared, and not yet begun */
        mailbox_maintain_end(m);
        return m;
}

enum step { BEGUN, COPIED, JOINED, DECIDED, STEPS };

static int to(struct mailbox *m, const char *partition, void (*at)(struct mailbox *m, enum step step), struct err *err)
{
        struct relocation *r = NULL;
        int rc = relocation_begin(m, partition, &r, err);

        if (rc < 0) {
                cr_assert_null(r);
                return -1;
        }
        for (int step = BEGUN; step < STEPS && rc == 0; step++) {
                rc = step == COPIED ? relocation_copy(r, NULL, NULL, err) : step == JOINED ? relocation_join(r, NULL, NULL, err)
                     : step == DECIDED ? relocation_decide(r, err) : 0;
                if (rc == 0 && at)
                        at(m, (enum step)step);
        }
        if (rc == 0) {
                list_it(strcmp(partition, there) == 0);
                relocation_finish(&r);
        } else {
                relocation_abort(&r, NULL);
        }
        cr_assert_null(r);
        return rc;
}

static void use(struct mailbox *m, enum step step)
{
        append(m, 700 + (size_t)step);
        append(m, BLOB + 10 + (size_t)step);
        flag(m, 7 + (uint32_t)step, MSG_ANSWERED);
        expunge(m, 11 + (uint32_t)step);
}

Test(relocation, it_goes_and_comes_back_while_it_is_used)
{
        struct mailbox *m = make();
        struct err err = ERR_INIT;

        for (int round = 0; round < 4; round++) {
                bool back = round % 2;
                struct view *view;
                struct extent seg, blob;
                struct msg msg;

                if (round == 2)
                        m = reopen(m);
                /* What somebody has got to read, and has not begun to. */
                view = mailbox_view(m);
                cr_assert_eq(mailbox_message(m, 2, &msg, &err), 0);
                cr_assert_eq(mailbox_body(m, &msg, &seg, &err), 0, "%s", err.text);
                cr_assert_eq(mailbox_message(m, 21, &msg, &err), 0);
                cr_assert_eq(mailbox_body(m, &msg, &blob, &err), 0, "%s", err.text);
                file_shed(0);
                index_fds_shed(0);
                cr_assert_eq(to(m, back ? st.dir : there, round < 2 ? use : NULL, &err), 0, "%s", err.text);
                cr_expect(relocation_remove_old(&st, ID, back ? there : st.dir));
                cr_expect_not(in(back ? there : st.dir));
                expect_all(m);
                {
                        char buf[100];

                        cr_assert_eq(file_read(seg.file, buf, 100, seg.offset, &err), 0, "%s", err.text);
                        cr_assert_eq(file_read(blob.file, buf, 100, blob.offset, &err), 0, "%s", err.text);
                        cr_assert_eq(buf[99], want[21].mark);
                }
                file_unref(&seg.file);
                file_unref(&blob.file);
                view_unref(&view);
                check_clean();
                append(m, 900);
                append(m, BLOB + 100 + (size_t)round);
                cr_assert_eq(mailbox_checkpoint(m, &err), 0, "%s", err.text);
                cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
                cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
                expect_all(m);
                m = reopen(m);
                expect_all(m);
                check_clean();
        }
        mailbox_unref(&m);
}

/* A reader of a segment that compaction has taken out of the log. */
/* ---- the mailbox has gone while a blob was placed ---- */

static struct relocation *under_way;
static bool fail_next_link;

static int finish_meanwhile(const char *call)
{
        if (strcmp(call, "fsync") == 0 && under_way) {          /* it is in the directory that is left, and not yet in the other */
                list_it(true);
                relocation_finish(&under_way);
                cr_expect(relocation_remove_old(&st, ID, st.dir));
                fail_next_link = true;
        } else if (strcmp(call, "link") == 0 && fail_next_link) {
                fail_next_link = false;
                return EIO;
        }
        return 0;
}

Test(relocation, a_blob_that_is_placed_while_the_mailbox_goes)
{
        struct mailbox *m = make();
        struct err err = ERR_INIT;

        cr_assert_eq(relocation_begin(m, there, &under_way, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_copy(under_way, NULL, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_join(under_way, NULL, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_decide(under_way, &err), 0, "%s", err.text);
        fs_fault = finish_meanwhile;
        append(m, BLOB + 2);
        fs_fault = NULL;
        cr_assert_null(under_way);
        cr_expect_not(fail_next_link);
        expect_all(m);
        check_clean();
        m = reopen(m);
        expect_all(m);
        mailbox_unref(&m);
}

/* The index has left a segment that the manifest does not call sealed yet: after a restart it is moved, and compacted, as any other. */
Test(relocation, a_segment_left_before_a_restart)
{
        struct mailbox *m = make();
        struct err err = ERR_INIT;
        int at;

        append(m, 300);                                         /* begins what was prepared */
        cr_assert_eq(mailbox_checkpoint(m, &err), 0, "%s", err.text);
        at = manifest_find(&m->manifest, m->active->info.id);
        cr_assert_gt(at, 0);
        cr_assert_eq(m->manifest.entries[at - 1].valid_len, MLOG_OPEN_END);
        m = reopen(m);
        cr_assert(m->segs[at - 1]->sealed);
        cr_assert_gt(m->segs[at - 1]->end, (uint64_t)800);
        cr_assert_eq(to(m, there, NULL, &err), 0, "%s", err.text);
        for (uint32_t uid = 1; uid < UIDS; uid++)
                if (want[uid].len && uid != 4)
                        expunge(m, uid);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        cr_expect_lt(manifest_find(&m->manifest, m->active->info.id), at, "%d of %d", manifest_find(&m->manifest, m->active->info.id), at);
        expect_all(m);
        m = reopen(m);
        expect_all(m);
        check_clean();
        mailbox_unref(&m);
}

Test(relocation, what_the_log_has_no_more_stays_as_long_as_it_is_read)
{
        struct mailbox *m = make();
        struct err err = ERR_INIT;
        struct extent old;
        struct msg msg;
        char buf[100];

        for (uint32_t uid = 1; uid <= 20; uid++)
                if (want[uid].len && uid != 2)
                        expunge(m, uid);
        cr_assert_eq(mailbox_message(m, 2, &msg, &err), 0);
        cr_assert_eq(mailbox_body(m, &msg, &old, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        file_shed(0);
        cr_assert_eq(to(m, there, NULL, &err), 0, "%s", err.text);
        cr_expect_not(relocation_remove_old(&st, ID, st.dir), "a segment is left");
        cr_assert_eq(file_read(old.file, buf, 100, old.offset, &err), 0, "%s", err.text);
        file_shed(0);
        cr_assert_eq(to(m, st.dir, NULL, &err), 0, "%s", err.text);     /* back, to where the segment still is */
        cr_assert_eq(file_read(old.file, buf, 100, old.offset, &err), 0, "%s", err.text);
        cr_assert_eq(buf[99], want[2].mark);
        cr_expect(relocation_remove_old(&st, ID, there));
        file_shed(0);
        cr_assert_eq(to(m, there, NULL, &err), 0, "%s", err.text);
        cr_expect_not(relocation_remove_old(&st, ID, st.dir));
        file_unref(&old.file);
        cr_expect(relocation_remove_old(&st, ID, st.dir));
        expect_all(m);
        mailbox_unref(&m);
}

Test(relocation, nothing_is_removed_while_files_are_looked_at)
{
        struct mailbox *m = make();
        struct err err = ERR_INIT;

        logstore_look_begin(st.ls);
        cr_assert_eq(to(m, there, NULL, &err), 0, "%s", err.text);
        cr_expect_not(relocation_remove_old(&st, ID, st.dir));
        cr_expect(in(st.dir));
        logstore_look_end(st.ls);
        cr_expect(relocation_remove_old(&st, ID, st.dir));
        expect_all(m);
        mailbox_unref(&m);
}

Test(relocation, two_names_of_one_directory)
{
        struct mailbox *m = make();
        struct err err = ERR_INIT;

        cr_assert_eq(rmdir(there), 0);
        cr_assert_eq(symlink(st.dir, there), 0);
        cr_expect_eq(to(m, there, NULL, &err), -1);
        cr_expect_eq(err.code, ERR_CONFIG);
        expect_all(m);
        mailbox_unref(&m);
        cr_assert_eq(unlink(there), 0);
}

/* ---- failures ---- */

static int calls, failing_at, failing_errno;
static const char *failing_call;                /* NULL: any */

static int fail_one(const char *call)
{
        if (failing_call && strcmp(call, failing_call) != 0)
                return 0;
        return ++calls == failing_at ? failing_errno : 0;
}

static enum step use_at;

/* It may be refused, but not lost. */
static void deliver(struct mailbox *m, enum step step)
{
        struct err err = ERR_INIT;

        if (step != use_at)
                return;
        if (try_append(m, 700, 0, &err))
                try_append(m, BLOB + 77, 0, &err);
}

static bool some_partition_failed(void) { return st.failed || st.other_failed; }

/* Each call that it makes fails once. With a full disk nothing else happens than that it does not go. */
static void each_call_fails(int with_errno)
{
        for (use_at = BEGUN; use_at < STEPS; use_at++) {
                bool reached = true;

                for (failing_at = 1; reached; failing_at++) {
                        struct mailbox *m;
                        struct err err = ERR_INIT;
                        int rc;

                        memset(want, 0, UIDS * sizeof *want);
                        list_it(false);
                        m = make();
                        calls = 0;
                        failing_errno = with_errno;
                        fs_fault = fail_one;
                        rc = to(m, there, deliver, &err);
                        fs_fault = NULL;
                        reached = calls >= failing_at;
                        cr_assert(rc == 0 || reached, "%s", err.text);
                        if (rc < 0)
                                cr_expect_not(in(there), "at call %d", failing_at);
                        if (!m->failed)
                                expect_all(m);
                        if (!some_partition_failed() && !m->failed)
                                append(m, 321);
                        mailbox_unref(&m);
                        logstore_destroy(&st.ls);
                        st.epoch++;
                        fake_store_start(&st, 0);
                        m = fake_open(&st, ID);
                        cr_assert_not_null(m, "at call %d", failing_at);
                        expect_all(m);
                        check_clean();
                        append(m, 322);
                        mailbox_unref(&m);
                        logstore_destroy(&st.ls);
                        fs_remove_tree(st.dir, NULL);
                        fs_remove_tree(there, NULL);
                        must(mkdir(st.dir, 0700) == 0 && mkdir(there, 0700) == 0);
                        fake_store_start(&st, 0);
                }
                cr_expect_gt(failing_at, 10);
        }
}

Test(relocation, a_full_disk_at_each_call) { each_call_fails(ENOSPC); }
Test(relocation, a_broken_disk_at_each_call) { each_call_fails(EIO); }

/* Other file systems: everything is copied. */
static int no_links(const char *call) { return strcmp(call, "link") == 0 ? EXDEV : 0; }

Test(relocation, without_links)
{
        struct mailbox *m = make();
        struct err err = ERR_INIT;

        fs_fault = no_links;
        cr_assert_eq(to(m, there, use, &err), 0, "%s", err.text);
        fs_fault = NULL;
        cr_expect(relocation_remove_old(&st, ID, st.dir));
        expect_all(m);
        m = reopen(m);
        expect_all(m);
        check_clean();
        mailbox_unref(&m);
}

/* The target's disk fails before it counts: nobody notices. */
Test(relocation, deliveries_do_not_depend_on_the_target)
{
        struct mailbox *m = make();
        struct relocation *r;
        struct err err = ERR_INIT;

        cr_assert_eq(relocation_begin(m, there, &r, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_copy(r, NULL, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_join(r, NULL, NULL, &err), 0, "%s", err.text);
        for (int i = 0; i < 2; i++) {
                append(m, 500);
                append(m, BLOB + 5 + (size_t)i);
                cr_assert_eq(fs_remove_tree(there, &err), 0);
        }
        cr_expect_eq(relocation_decide(r, &err), -1);
        relocation_abort(&r, NULL);
        append(m, 501);
        expect_all(m);
        m = reopen(m);
        expect_all(m);
        mailbox_unref(&m);
}

/* ---- stops ---- */

static enum step stop_at;

static void stop(struct mailbox *m, enum step step)
{
        use(m, step);
        if (step == stop_at)
                _exit(0);
}

/* kill -9: either directory has everything, once it is joined; before that the former one. */
Test(relocation, stopped_anywhere)
{
        for (stop_at = BEGUN; stop_at <= STEPS; stop_at++) {
                struct mailbox *m = make();
                struct err err = ERR_INIT;
                pid_t pid;
                int status;

                mailbox_unref(&m);
                logstore_destroy(&st.ls);
                if ((pid = fork()) == 0) {
                        fake_store_start(&st, 0);
                        m = fake_open(&st, ID);
                        if (!m || to(m, there, stop, &err) < 0)
                                _exit(1);
                        append(m, 800);
                        append(m, BLOB + 500);
                        _exit(stop_at == STEPS ? 0 : 1);
                }
                cr_assert_eq(waitpid(pid, &status, 0), pid);
                cr_assert_eq(status, 0, "step %d", stop_at);
                for (int other = 0; other < 2; other++) {
                        if (other ? stop_at < JOINED : stop_at == STEPS)
                                continue;
                        list_it(other);
                        st.epoch++;
                        fake_store_start(&st, 0);
                        m = fake_open(&st, ID);
                        cr_assert_not_null(m);
                        expect_all(m);
                        check_clean();
                        mailbox_unref(&m);
                        logstore_destroy(&st.ls);
                }
                memset(want, 0, UIDS * sizeof *want);
                list_it(false);
                fs_remove_tree(st.dir, NULL);
                fs_remove_tree(there, NULL);
                must(mkdir(st.dir, 0700) == 0 && mkdir(there, 0700) == 0);
                fake_store_start(&st, 0);
        }
}

/* In doubt: it takes no changes, and both directories stay. */
Test(relocation, when_nobody_knows_where_it_is)
{
        struct mailbox *m = make();
        struct relocation *r;
        struct err err = ERR_INIT, why = ERR_INIT;

        err_set(&why, ERR_IO, "the database");
        cr_assert_eq(relocation_begin(m, there, &r, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_copy(r, NULL, NULL, &err), 0, "%s", err.text);
        cr_assert_eq(relocation_join(r, NULL, NULL, &err), 0, "%s", err.text);
        use(m, BEGUN);
        cr_assert_eq(relocation_decide(r, &err), 0, "%s", err.text);
        use(m, DECIDED);
        relocation_abort(&r, &why);
        expect_all(m);
        cr_expect_eq(try_append(m, 500, 0, &err), 0);
        cr_expect_eq(err.code, ERR_READONLY);
        mailbox_unref(&m);
        for (int other = 0; other < 2; other++) {
                logstore_destroy(&st.ls);
                st.epoch++;
                fake_store_start(&st, 0);
                list_it(other);
                m = fake_open(&st, ID);
                expect_all(m);
                mailbox_unref(&m);
        }
}

/* ---- with threads ---- */

static atomic_bool over;
static atomic_uint delivered;

static void *deliver_all_the_time(void *arg)
{
        struct mailbox *m = arg;

        for (unsigned i = 0; !atomic_load(&over); i++) {
                struct err err = ERR_INIT;
                size_t len = i % 7 == 0 ? BLOB + i : 300 + i;
                char *p = malloc(len);

                memset(p, 'x', len);
                memcpy(p, head, sizeof head - 1);
                if (fake_append(&st, m, p, len, 0, NULL, &err))
                        atomic_fetch_add(&delivered, 1);
                else
                        fprintf(stderr, "append: %s\n", err.text);
                free(p);
        }
        return NULL;
}

static void *read_all_the_time(void *arg)
{
        struct mailbox *m = arg;
        unsigned seed = 3;

        while (!atomic_load(&over)) {
                struct view *v = mailbox_view(m);
                uint32_t n = view_count(v), uid = n ? view_uid(v, 1 + (uint32_t)rand_r(&seed) % n) : 0;
                struct msg msg;
                struct extent x;
                struct err err = ERR_INIT;
                char buf[20];

                view_unref(&v);
                if (uid && (mailbox_message(m, uid, &msg, &err) < 0 || mailbox_body(m, &msg, &x, &err) < 0))
                        cr_assert_fail("uid %u: %s", uid, err.text);
                if (uid) {
                        cr_assert_eq(file_read(x.file, buf, sizeof buf, x.offset, &err), 0, "uid %u: %s", uid, err.text);
                        cr_assert_arr_eq(buf, head, 20);
                        file_unref(&x.file);
                }
                if (rand_r(&seed) % 100 == 0)
                        file_shed(0);
        }
        return NULL;
}

Test(relocation, among_deliveries_readers_and_maintenance)
{
        pthread_t t[4];
        struct mailbox *m;
        struct mailbox_status s;
        struct err err = ERR_INIT;

        logstore_destroy(&st.ls);
        fake_store_start(&st, 3);
        m = fake_create(&st, ID);
        for (int i = 0; i < 4; i++)
                pthread_create(&t[i], NULL, i < 2 ? deliver_all_the_time : read_all_the_time, m);
        for (int i = 0; i < 60; i++) {
                cr_assert_eq(to(m, i % 2 ? st.dir : there, NULL, &err), 0, "%s", err.text);
                cr_expect(relocation_remove_old(&st, ID, i % 2 ? there : st.dir) || i > 0);
                if (i % 10 == 9)
                        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
                if (i % 3 == 0)
                        cr_assert_eq(mailbox_checkpoint(m, &err), 0, "%s", err.text);
        }
        atomic_store(&over, true);
        for (int i = 0; i < 4; i++)
                pthread_join(t[i], NULL);
        mailbox_status(m, &s);
        cr_expect_eq(s.messages, atomic_load(&delivered));
        check_clean();
        m = reopen(m);
        mailbox_status(m, &s);
        cr_expect_eq(s.messages, atomic_load(&delivered));
        mailbox_unref(&m);
}
