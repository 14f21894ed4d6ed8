/* index: random changes and checkpoints against a plain array of records; damage; what is written and when. Crashes are in
 * index_crash_test.c. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/index_private.h"
#include "t/store/index_gen.h"
#include "util/fs.h"

#define UIDS 6000u

static char *test_path(const char *name)
{
        static char path[200];

        snprintf(path, sizeof path, "/tmp/index_test.%s.%d", name, (int)getpid());
        unlink(path);
        return path;
}

/* ---- comparing ---- */

static void check_totals(struct index *ix, const struct index_model *m)
{
        struct index_totals want = { 0 };

        for (uint32_t uid = 1; uid < m->cap; uid++) {
                const struct index_rec *r = &m->recs[uid];

                if (!r->uid)
                        continue;
                want.records++;
                if (r->flags & MSG_EXPUNGED) {
                        want.expunged_size += r->size;
                        continue;
                }
                want.live++;
                want.size += r->size;
                want.seen += !!(r->flags & MSG_SEEN);
                want.answered += !!(r->flags & MSG_ANSWERED);
                want.flagged += !!(r->flags & MSG_FLAGGED);
                want.draft += !!(r->flags & MSG_DRAFT);
                want.deleted += !!(r->flags & MSG_DELETED);
                if (r->flags & MSG_DELETED)
                        want.deleted_size += r->size;
        }
        cr_assert_eq(memcmp(&want, index_totals(ix), sizeof want), 0);
}

static void check_walk(struct index *ix, const struct index_model *m)
{
        struct index_iter it;
        struct index_rec r;
        struct err err = ERR_INIT;

        index_iter_init(&it, ix, 0);
        for (uint32_t uid = 1; uid < m->cap; uid++) {
                if (!m->recs[uid].uid)
                        continue;
                cr_assert_eq(index_next(&it, &r, &err), 1, "uid %u: %s", uid, err.text);
                cr_assert_eq(memcmp(&r, &m->recs[uid], sizeof r), 0, "uid %u", uid);
        }
        cr_assert_eq(index_next(&it, &r, &err), 0);
        check_totals(ix, m);
}

static void check_finds(struct index *ix, const struct index_model *m)
{
        for (int i = 0; i < 30; i++) {
                uint32_t uid = 1 + (uint32_t)rand() % (m->cap - 1);
                struct index_rec r;
                int rc = index_find(ix, uid, &r, NULL);

                cr_assert_eq(rc, m->recs[uid].uid ? 1 : 0);
                if (rc)
                        cr_assert_eq(memcmp(&r, &m->recs[uid], sizeof r), 0);
        }
}

/* An iteration narrowed at random. */
static void check_iteration(struct index *ix, const struct index_model *m)
{
        struct index_iter it;
        struct index_rec r;
        uint32_t from = 1 + (uint32_t)rand() % m->cap, got = 0;

        index_iter_init(&it, ix, from);
        if (rand() % 2)
                it.upto_uid = from + (uint32_t)rand() % 2000;
        if (rand() % 2)
                it.modseq_above = m->modseq - (uint64_t)rand() % m->modseq;
        it.live = rand() % 4;
        it.expunged = rand() % 2;
        if (rand() % 3 == 0)
                it.without_flags = MSG_SEEN;
        if (rand() % 3 == 0)
                it.with_flags = rand() % 2 ? MSG_DELETED : MSG_FLAGGED | MSG_SEEN;
        for (uint32_t uid = from; uid < m->cap && uid <= it.upto_uid; uid++) {
                const struct index_rec *want = &m->recs[uid];

                if (!want->uid || want->modseq <= it.modseq_above || (want->flags & it.without_flags)
                    || (want->flags & it.with_flags) != it.with_flags || !(want->flags & MSG_EXPUNGED ? it.expunged : it.live))
                        continue;
                cr_assert_eq(index_next(&it, &r, NULL), 1);
                cr_assert_eq(memcmp(&r, want, sizeof r), 0);
                got++;
        }
        cr_assert_eq(index_next(&it, &r, NULL), 0, "after %u", got);
}

static void check_first_unseen(struct index *ix, const struct index_model *m)
{
        uint32_t upto = rand() % 2 ? UINT32_MAX : (uint32_t)rand() % m->cap, uid = 1, found = 0;
        int rc = index_first_unseen(ix, upto, &found, NULL);

        while (uid < m->cap && uid <= upto && (!m->recs[uid].uid || (m->recs[uid].flags & (MSG_EXPUNGED | MSG_SEEN))))
                uid++;
        cr_assert_eq(rc, uid < m->cap && uid <= upto);
        if (rc == 1)
                cr_assert_eq(found, uid);
}

static void check_live_blocks(struct index *ix, const struct index_model *m)
{
        struct index_block_range *ranges;
        uint32_t n = index_live_blocks(ix, &ranges), uids[INDEX_BLOCK_RECORDS], uid = 0;

        for (uint32_t i = 0; i < n; i++) {
                cr_assert_eq(index_block_live_uids(ranges[i].block, ranges[i].live, 0, uids, NULL), 0);
                cr_assert_eq(uids[0], ranges[i].first_uid);
                cr_assert_eq(uids[ranges[i].live - 1], ranges[i].last_uid);
                for (uint32_t k = 0; k < ranges[i].live; k++) {
                        while (++uid < m->cap && (!m->recs[uid].uid || (m->recs[uid].flags & MSG_EXPUNGED)))
                                ;
                        cr_assert_eq(uids[k], uid);
                }
                index_block_unref(&ranges[i].block);
        }
        free(ranges);
}

/* ---- changing both ---- */

static void put(struct index *ix, struct index_model *m, const struct index_rec *r)
{
        cr_assert_eq(index_put(ix, r, NULL), 0);
        m->recs[r->uid] = *r;
}

static void random_append(struct index *ix, struct index_model *m)
{
        uint32_t uid = index_last_uid(ix) + 1 + (rand() % 20 ? 0 : (uint32_t)rand() % 5), n = 1 + (uint32_t)rand() % 200;

        for (m->modseq++; n-- && uid < m->cap; uid++) {
                struct index_rec r = gen_rec(uid, m->modseq);

                put(ix, m, &r);
        }
}

static void random_change(struct index *ix, struct index_model *m)
{
        uint32_t uid = 1 + (uint32_t)rand() % (m->cap - 1), n = 1 + (uint32_t)rand() % 40;
        int kind = rand() % 6;

        for (m->modseq++; n-- && uid < m->cap; uid++) {
                struct index_rec r = m->recs[uid];

                if (!r.uid)
                        continue;
                if (kind == 0)
                        r.flags |= MSG_EXPUNGED;
                else if (kind == 1)
                        r.flags ^= (uint32_t)rand() & (MSG_SYSTEM_FLAGS | MSG_EXPUNGED);
                else
                        r.flags ^= 1u << rand() % 5;
                r.modseq = rand() % 20 ? m->modseq : 1 + (uint64_t)rand() % m->modseq;        /* replication may lower it */
                put(ix, m, &r);
        }
}

static void random_insert(struct index *ix, struct index_model *m)
{
        uint32_t uid = 1 + (uint32_t)rand() % (m->cap - 1);
        struct index_rec r = gen_rec(uid, ++m->modseq);

        put(ix, m, &r);
}

static void random_purge(struct index *ix, struct index_model *m)
{
        struct uidset set = UIDSET_INIT;

        for (int i = 1 + rand() % 8; i > 0; i--) {
                uint32_t first = 1 + (uint32_t)rand() % (m->cap - 1), last = first + (uint32_t)rand() % (rand() % 3 ? 10 : 1500);

                uidset_add_range(&set, first, last);
                for (uint32_t uid = first; uid <= last && uid < m->cap; uid++)
                        m->recs[uid].uid = 0;
        }
        cr_assert_eq(index_purge(ix, &set, NULL), 0);
        uidset_deinit(&set);
}

static void random_step(struct index *ix, struct index_model *m)
{
        int what = rand() % 100;

        if (what < 35)
                random_append(ix, m);
        else if (what < 85)
                random_change(ix, m);
        else if (what < 92)
                random_insert(ix, m);
        else
                random_purge(ix, m);
}

Test(index, random_changes_agree_with_an_array, .timeout = 120)
{
        for (unsigned seed = 1; seed <= 6; seed++) {
                struct index *ix = index_create_empty("/nonexistent", "u");
                struct index_model m;

                srand(seed);
                model_init(&m, UIDS);
                for (int i = 0; i < 400; i++) {
                        random_step(ix, &m);
                        check_finds(ix, &m);
                        check_iteration(ix, &m);
                        check_first_unseen(ix, &m);
                        if (i % 20 == 0)
                                check_walk(ix, &m);
                        if (i % 20 == 7)
                                check_live_blocks(ix, &m);
                }
                check_walk(ix, &m);
                index_destroy(&ix);
                free(m.recs);
        }
}

static void set_counters(struct index *ix, struct index_model *m)
{
        char blob[64];

        index_counters(ix)->highestmodseq = m->modseq;
        index_counters(ix)->log.offset = m->modseq * 3;
        gen_parts_set(ix, m->modseq);
        if (rand() % 2)
                index_set_blob(ix, INDEX_KEYWORDS, blob, (size_t)snprintf(blob, sizeof blob, "keywords %d", rand() % 3));
        index_touch(ix);
}

static void check_counters(struct index *ix, const struct index_model *m)
{
        cr_assert_eq(index_counters(ix)->highestmodseq, m->modseq);
        cr_assert_eq(index_counters(ix)->log.offset, m->modseq * 3);
        cr_assert(gen_parts_are(ix, m->modseq));
}

Test(index, what_was_checkpointed_is_there_after_reopening, .timeout = 300)
{
        for (unsigned seed = 1; seed <= 8; seed++) {
                char *path = test_path("reopen");
                struct index *ix = index_create_empty(path, "mailbox1");
                struct index_model m, saved;
                struct err err = ERR_INIT;

                srand(seed);
                model_init(&m, UIDS);
                model_init(&saved, UIDS);
                for (int i = 0; i < 150; i++) {
                        for (int k = rand() % 8; k > 0; k--)
                                random_step(ix, &m);
                        if (rand() % 3 == 0) {                  /* a checkpoint while changes go on */
                                struct index_snapshot *snap;
                                int rc;

                                set_counters(ix, &m);
                                snap = index_snapshot(ix);
                                cr_assert(!index_dirty(ix));
                                model_copy(&saved, &m);
                                for (int k = rand() % 4; k > 0; k--)
                                        random_step(ix, &m);
                                rc = index_snapshot_write(snap, &err);
                                cr_assert_eq(rc, 0, "%s", err.text);
                                for (int k = rand() % 4; k > 0; k--)
                                        random_step(ix, &m);
                                index_snapshot_finish(ix, &snap, true);
                        } else if (rand() % 4 == 0 && index_counters(ix)->highestmodseq) {      /* stop without a checkpoint */
                                index_destroy(&ix);
                                cr_assert_eq(index_open(path, "mailbox1", &ix, &err), 0, "%s", err.text);
                                cr_assert(!index_dirty(ix));
                                cr_assert_eq(index_dirty_blocks(ix), 0);
                                model_copy(&m, &saved);
                                check_counters(ix, &m);
                        } else if (rand() % 4 == 0) {
                                index_shed(ix);
                        }
                        check_finds(ix, &m);
                        check_iteration(ix, &m);
                        check_first_unseen(ix, &m);
                        if (i % 10 == 0)
                                check_live_blocks(ix, &m);
                }
                check_walk(ix, &m);
                index_destroy(&ix);
                unlink(path);
                free(m.recs);
                free(saved.recs);
        }
}

Test(index, writing_the_same_record_again_dirties_nothing)
{
        char *path = test_path("same");
        struct index *ix = index_create_empty(path, "u");
        struct index_rec r = gen_rec(7, 1);

        cr_assert_eq(index_put(ix, &r, NULL), 0);
        cr_expect(index_dirty(ix));
        cr_assert_eq(index_checkpoint(ix, NULL), 0);
        cr_expect(!index_dirty(ix));
        cr_assert_eq(index_put(ix, &r, NULL), 0);
        index_set_blob(ix, INDEX_MOVES, NULL, 0);
        cr_expect(!index_dirty(ix));
        cr_expect_eq(index_dirty_blocks(ix), 0);
        index_destroy(&ix);
        unlink(path);
}

Test(index, blobs_and_counters_come_back)
{
        char *path = test_path("blobs"), big[100000];
        struct index *ix = index_create_empty(path, "u");
        struct err err = ERR_INIT;

        memset(big, 'x', sizeof big);
        index_set_blob(ix, INDEX_SEGMENTS, big, sizeof big);
        index_set_blob(ix, INDEX_EXTRA, "abc", 3);
        index_counters(ix)->uidvalidity = 77;
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        index_set_blob(ix, INDEX_SEGMENTS, NULL, 0);            /* and one without meta's being written anew */
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        index_counters(ix)->recentuid = 5;
        index_touch(ix);
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        index_destroy(&ix);
        cr_assert_eq(index_open(path, "u", &ix, &err), 0, "%s", err.text);
        cr_expect_eq(index_blob(ix, INDEX_SEGMENTS).len, 0);
        cr_expect(span_eq(index_blob(ix, INDEX_EXTRA), SPAN("abc")));
        cr_expect_eq(index_counters(ix)->uidvalidity, 77);
        cr_expect_eq(index_counters(ix)->recentuid, 5);
        index_destroy(&ix);
        unlink(path);
}

static off_t size_of(const char *path)
{
        struct stat st;

        cr_assert_eq(stat(path, &st), 0);
        return st.st_size;
}

/* What one checkpoint after the other adds to the file: no more than the part that changed, whatever the others have. */
Test(index, a_part_that_did_not_change_stays_where_it_is)
{
        char *path = test_path("parts"), *big = xcalloc(1, 1u << 20);
        struct index *ix = index_create_empty(path, "u");
        struct index_part *parts[3] = { index_part_create((struct span){ big, 1u << 20 }), index_part_create(SPAN("a")),
                                        index_part_create((struct span){ big, 1u << 20 }) };
        struct index_part *const *list;
        struct str text = STR_INIT;
        struct err err = ERR_INIT;
        off_t size;

        index_set_parts(ix, parts, 3);
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        cr_expect_null(parts[0]->text);                         /* it need not be in memory any more */
        size = size_of(path);
        cr_expect_gt(size, 2 << 20);
        for (int i = 0; i < 20; i++) {
                index_part_unref(&parts[1]);
                parts[1] = index_part_create((struct span){ big, 1 + (size_t)i });
                index_set_parts(ix, parts, 3);
                cr_expect(index_dirty(ix));
                cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        }
        cr_expect_leq(size_of(path), size + 4 * 4096);
        index_set_parts(ix, parts, 3);
        cr_expect(!index_dirty(ix));
        index_counters(ix)->recentuid = 5;                      /* neither part nor list is written */
        index_touch(ix);
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        for (int i = 0; i < 3; i++)
                index_part_unref(&parts[i]);
        index_destroy(&ix);
        cr_assert_eq(index_open(path, "u", &ix, &err), 0, "%s", err.text);
        cr_assert_eq(index_parts(ix, &list), 3);
        cr_assert_eq(index_part_read(list[1], &text, &err), 0, "%s", err.text);
        cr_expect_eq(text.len, 20);
        cr_assert_eq(index_part_read(list[2], &text, &err), 0, "%s", err.text);
        cr_expect_eq(text.len, 1u << 20);
        index_set_parts(ix, NULL, 0);
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        index_destroy(&ix);
        cr_assert_eq(index_open(path, "u", &ix, &err), 0, "%s", err.text);
        cr_expect_eq(index_parts(ix, &list), 0);
        index_destroy(&ix);
        str_deinit(&text);
        free(big);
        unlink(path);
}

Test(index, opening_says_why_not)
{
        char *path = test_path("why");
        struct index *ix = NULL;
        struct err err = ERR_INIT;
        int fd;

        cr_expect_eq(index_open(path, "u", &ix, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        fd = open(path, O_CREAT | O_WRONLY, 0600);
        cr_expect_eq(index_open(path, "u", &ix, &err), -1);
        cr_expect_eq(err.code, ERR_CORRUPT);
        cr_assert_eq(ftruncate(fd, 100000), 0);
        close(fd);
        cr_expect_eq(index_open(path, "u", &ix, &err), -1);
        cr_expect_eq(err.code, ERR_CORRUPT);
        ix = index_create_empty(path, "u");
        cr_assert_eq(index_checkpoint(ix, &err), 0);
        index_destroy(&ix);
        cr_expect_eq(index_open(path, "other", &ix, &err), -1);
        cr_expect_eq(err.code, ERR_CORRUPT);
        cr_expect_null(ix);
        unlink(path);
}

/* ---- size of what is written ---- */

static struct index *big_index(const char *path, uint32_t messages)
{
        struct index *ix = index_create_empty(path, "u");
        struct err err = ERR_INIT;

        for (uint32_t uid = 1; uid <= messages; uid++) {
                struct index_rec r = gen_rec(uid, uid);

                cr_assert_eq(index_put(ix, &r, NULL), 0);
        }
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        return ix;
}

static uint64_t bytes_written(void)
{
        FILE *f = fopen("/proc/self/io", "r");
        char line[200];
        uint64_t n = 0;

        while (f && fgets(line, sizeof line, f))
                if (strncmp(line, "wchar: ", 7) == 0)
                        n = strtoull(line + 7, NULL, 10);
        if (f)
                fclose(f);
        return n;
}

Test(index, one_flag_costs_one_block_table_and_header, .timeout = 60)
{
        char *path = test_path("flag");
        uint32_t messages = 100000;
        uint64_t table = (messages / 1024 + 1) * 96, before;
        struct index *ix = big_index(path, messages);
        struct index_rec r;
        struct stat st;

        for (uint32_t i = 0; i < 50; i++) {
                cr_assert_eq(index_find(ix, 1 + i * 1999, &r, NULL), 1);
                r.flags ^= MSG_SEEN;
                r.modseq = messages + i;
                cr_assert_eq(index_put(ix, &r, NULL), 0);
                before = bytes_written();
                cr_assert_eq(index_checkpoint(ix, NULL), 0);
                cr_expect_leq(bytes_written() - before, 1024 * 160 + table + 4096);
        }
        before = bytes_written();
        index_touch(ix);                                /* counters only */
        cr_assert_eq(index_checkpoint(ix, NULL), 0);
        cr_expect_leq(bytes_written() - before, 4096);
        cr_assert_eq(stat(path, &st), 0);               /* pages of former versions are used again */
        cr_expect_lt(st.st_size, (off_t)(messages + 3 * 1024) * 160 + 100000);
        index_destroy(&ix);
        unlink(path);
}

Test(index, a_file_of_holes_is_written_anew, .timeout = 60)
{
        char *path = test_path("holes");
        struct index *ix = big_index(path, 30000);
        struct uidset set = UIDSET_INIT;
        struct index_model m;
        struct stat st;

        model_init(&m, 30001);
        for (uint32_t uid = 1; uid <= 30000; uid++)
                index_find(ix, uid, &m.recs[uid], NULL);
        for (uint32_t uid = 1; uid <= 30000; uid++)
                if (uid % 100) {
                        uidset_add(&set, uid);
                        m.recs[uid].uid = 0;
                }
        cr_assert_eq(index_purge(ix, &set, NULL), 0);
        for (int i = 0; i < 3; i++) {
                index_touch(ix);
                cr_assert_eq(index_checkpoint(ix, NULL), 0);
        }
        cr_assert_eq(stat(path, &st), 0);
        cr_expect_lt(st.st_size, 200000);
        check_walk(ix, &m);
        index_destroy(&ix);
        cr_assert_eq(index_open(path, "u", &ix, NULL), 0);
        check_walk(ix, &m);
        index_destroy(&ix);
        uidset_deinit(&set);
        free(m.recs);
        unlink(path);
}

static uint32_t blocks_in_memory(const struct index *ix)
{
        uint32_t n = 0;

        for (size_t i = 0; i < ix->blocks.n; i++)
                n += ix->blocks.v[i]->recs != NULL;
        return n;
}

static void find_all(struct index *ix, uint32_t messages)
{
        for (uint32_t uid = 1; uid <= messages; uid++) {
                struct index_rec r;

                cr_assert_eq(index_find(ix, uid, &r, NULL), 1);
                cr_assert_eq(r.uid, uid);
        }
}

Test(index, a_block_is_kept_when_it_is_read_again)
{
        char *path = test_path("passing");
        uint32_t messages = 10 * 1024;
        struct index *ix = big_index(path, messages);
        struct index_rec r;

        index_destroy(&ix);
        cr_assert_eq(index_open(path, "u", &ix, NULL), 0);
        find_all(ix, messages);
        cr_expect_eq(blocks_in_memory(ix), 0);
        find_all(ix, messages);
        cr_expect_geq(blocks_in_memory(ix), 9, "all but the last, which may still lie beside");
        index_shed(ix);
        cr_expect_eq(blocks_in_memory(ix), 0);
        for (uint32_t uid = 1; uid <= 5; uid++)
                cr_assert_eq(index_find(ix, uid * 1500, &r, NULL), 1);
        cr_expect_eq(blocks_in_memory(ix), 0);
        index_destroy(&ix);
        unlink(path);
}

/* One thread reads in passing, the other changes the block, saves it and lets it leave memory: what the first has is not believed. */
struct reader {
        struct index *ix;
        uint32_t flags[3];
        pthread_barrier_t turn;
};

static void *read_in_passing(void *arg)
{
        struct reader *reader = arg;

        for (int i = 0; i < 3; i++) {
                struct index_rec r;

                pthread_barrier_wait(&reader->turn);
                cr_assert_eq(index_find(reader->ix, 5, &r, NULL), 1);
                reader->flags[i] = r.flags;
                pthread_barrier_wait(&reader->turn);
        }
        return NULL;
}

Test(index, what_a_thread_read_in_passing_is_not_believed_after_a_change)
{
        char *path = test_path("stale");
        struct index *ix = big_index(path, 3 * 1024);
        struct reader reader;
        struct index_rec r;
        uint32_t flags[3];
        pthread_t thread;

        index_destroy(&ix);
        cr_assert_eq(index_open(path, "u", &ix, NULL), 0);
        reader.ix = ix;
        pthread_barrier_init(&reader.turn, NULL, 2);
        cr_assert_eq(pthread_create(&thread, NULL, read_in_passing, &reader), 0);
        for (int i = 0; i < 3; i++) {
                cr_assert_eq(index_find(ix, 5, &r, NULL), 1);
                r.flags ^= i ? MSG_FLAGGED : 0;
                r.modseq += 10000;
                cr_assert_eq(index_put(ix, &r, NULL), 0);
                flags[i] = r.flags;
                cr_assert_eq(index_checkpoint(ix, NULL), 0);
                index_shed(ix);
                cr_assert_eq(blocks_in_memory(ix), 0);
                pthread_barrier_wait(&reader.turn);
                pthread_barrier_wait(&reader.turn);
                cr_expect_eq(reader.flags[i], flags[i], "round %d", i);
        }
        pthread_join(thread, NULL);
        pthread_barrier_destroy(&reader.turn);
        index_destroy(&ix);
        unlink(path);
}

Test(index, unchanged_blocks_leave_memory)
{
        char *path = test_path("evict");
        uint32_t messages = (INDEX_RESIDENT_BLOCKS + 40) * 1024;
        struct index *ix = big_index(path, messages);
        struct index_iter it;
        struct index_rec r;
        uint32_t n = 0;

        index_destroy(&ix);
        cr_assert_eq(index_open(path, "u", &ix, NULL), 0);
        for (index_iter_init(&it, ix, 1); index_next(&it, &r, NULL) == 1;)
                cr_assert_eq(r.uid, ++n);
        cr_expect_eq(n, messages);
        index_shed(ix);
        cr_expect_eq(index_find(ix, 1, &r, NULL), 1);
        index_destroy(&ix);
        unlink(path);
}

/* ---- damage ---- */

/* Read everything: 0 all as in the model, 1 an error that says corrupt, 2 silently wrong. */
static int read_back(const char *path, const struct index_model *m, bool with_blob)
{
        struct err err = ERR_INIT;
        struct index *ix = NULL;
        struct index_iter it;
        struct index_rec r;
        int ret = 0, rc = 0;

        if (index_open(path, "u", &ix, &err) < 0)
                return err.code == ERR_CORRUPT ? 1 : 2;
        index_iter_init(&it, ix, 0);
        for (uint32_t uid = 1; uid < m->cap && ret == 0; uid++) {
                if (!m->recs[uid].uid)
                        continue;
                rc = index_next(&it, &r, &err);
                if (rc < 0)
                        ret = err.code == ERR_CORRUPT ? 1 : 2;
                else if (rc == 0 || memcmp(&r, &m->recs[uid], sizeof r) != 0)
                        ret = 2;
        }
        if (ret == 0 && (index_counters(ix)->highestmodseq != m->modseq
                         || (with_blob && !span_eq(index_blob(ix, INDEX_KEYWORDS), SPAN("key words")))))
                ret = 2;
        index_destroy(&ix);
        return ret;
}

static void flip(const char *path, off_t at, uint8_t mask)
{
        int fd = open(path, O_RDWR);
        uint8_t c = 0;

        cr_assert_eq(pread(fd, &c, 1, at), 1);
        c ^= mask;
        cr_assert_eq(pwrite(fd, &c, 1, at), 1);
        close(fd);
}

Test(index, a_part_that_is_damaged_is_not_believed)
{
        char *path = test_path("rotten");
        struct index *ix = index_create_empty(path, "u");
        struct index_part *part = index_part_create(SPAN("the octets of a part")), *const *list;
        struct str text = STR_INIT, file = STR_INIT;
        struct err err = ERR_INIT;
        const char *at;

        index_set_parts(ix, &part, 1);
        index_part_unref(&part);
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        index_destroy(&ix);
        cr_assert_eq(fs_slurp(path, 1u << 20, &file, &err), 0, "%s", err.text);
        at = memmem(file.data, file.len, "octets of a part", 16);
        cr_assert_not_null(at);
        flip(path, at - file.data, 1);
        cr_assert_eq(index_open(path, "u", &ix, &err), 0, "%s", err.text);
        cr_assert_eq(index_parts(ix, &list), 1);
        cr_expect_lt(index_part_read(list[0], &text, &err), 0);
        cr_expect_eq(err.code, ERR_CORRUPT);
        index_destroy(&ix);
        str_deinit(&text);
        str_deinit(&file);
        unlink(path);
}

Test(index, no_flipped_bit_is_silently_wrong, .timeout = 120)
{
        char *path = test_path("flip");
        struct index *ix = index_create_empty(path, "u");
        struct index_model m, older;
        struct stat st;
        int corrupt = 0;

        srand(5);
        model_init(&m, 1501);
        model_init(&older, 1501);
        for (uint32_t uid = 1; uid <= 1500; uid++) {
                m.recs[uid] = gen_rec(uid, uid);
                cr_assert_eq(index_put(ix, &m.recs[uid], NULL), 0);
        }
        index_set_blob(ix, INDEX_KEYWORDS, "key words", 9);
        m.modseq = 1500;
        index_counters(ix)->highestmodseq = 1500;
        cr_assert_eq(index_checkpoint(ix, NULL), 0);
        model_copy(&older, &m);
        m.modseq = index_counters(ix)->highestmodseq = 2000;    /* the second header: the first is a state of its own */
        m.recs[3].modseq = 2000;
        cr_assert_eq(index_put(ix, &m.recs[3], NULL), 0);
        cr_assert_eq(index_checkpoint(ix, NULL), 0);
        index_destroy(&ix);
        cr_assert_eq(read_back(path, &m, true), 0);
        cr_assert_eq(stat(path, &st), 0);
        for (off_t at = 0; at < st.st_size; at += at < 8192 ? 1 + rand() % 3 : 1 + rand() % 150) {
                uint8_t mask = (uint8_t)(1u << rand() % 8);
                int got;

                flip(path, at, mask);
                got = read_back(path, &m, true);
                if (got == 2)
                        got = read_back(path, &older, true);    /* the newer header is damaged: the former state */
                cr_expect_lt(got, 2, "octet %ld", (long)at);
                corrupt += got == 1;
                flip(path, at, mask);
        }
        cr_expect_gt(corrupt, 1000);
        for (off_t size = st.st_size - 1; size > 0; size -= 1 + rand() % 9000) {
                cr_assert_eq(truncate(path, size), 0);
                cr_expect_eq(read_back(path, &m, true), 1, "cut to %ld", (long)size);
        }
        unlink(path);
        free(m.recs);
        free(older.recs);
}

/* What the log would say. */
static int from_model(void *ctx, uint32_t first, uint32_t last, struct index_rec *recs, uint32_t max, uint32_t *n_r, struct err *err)
{
        struct index_model *m = ctx;

        (void)err;
        *n_r = 0;
        for (uint32_t uid = first; uid <= last; uid++)
                if (m->recs[uid].uid) {
                        must(*n_r < max);
                        recs[(*n_r)++] = m->recs[uid];
                }
        return 0;
}

Test(index, damaged_blocks_are_repaired_from_the_log)
{
        for (int all_gone = 0; all_gone < 2; all_gone++) {
                char *path = test_path("repair");
                struct index *ix = big_index(path, 5000);
                struct index_model m;
                struct index_repair repair = { from_model, &m };
                struct index_rec r;

                model_init(&m, 5100);
                for (uint32_t uid = 1; uid <= 5000; uid++)
                        index_find(ix, uid, &m.recs[uid], NULL);
                index_destroy(&ix);
                for (off_t at = 8192; at < 5000 * 160; at += 4096 * 10)
                        flip(path, at, 1);
                cr_assert_eq(index_open(path, "u", &ix, NULL), 0);
                cr_expect_eq(index_find(ix, 1, &r, NULL), -1);
                index_set_repair(ix, &repair);
                if (all_gone)                           /* purged meanwhile: the block goes */
                        for (uint32_t uid = 1025; uid <= 2048; uid++)
                                m.recs[uid].uid = 0;
                m.modseq = 6000;
                for (int i = 0; i < 50; i++)
                        random_change(ix, &m);
                check_walk(ix, &m);
                set_counters(ix, &m);
                cr_assert_eq(index_checkpoint(ix, NULL), 0);
                index_destroy(&ix);
                cr_assert_eq(index_open(path, "u", &ix, NULL), 0);
                check_walk(ix, &m);
                index_destroy(&ix);
                free(m.recs);
                unlink(path);
        }
}
