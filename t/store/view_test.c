/* view: random appends, expunges and extensions against plain arrays, with old versions kept and looked at again; lazy blocks. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "store/view.h"
#include "t/store/index_gen.h"

/* A view and what should be in it. */
struct pair {
        struct view *v;
        uint32_t *uids;
        uint32_t n;
};

static uint32_t *copy_uids(const uint32_t *uids, uint32_t n)
{
        uint32_t *copy = xmalloc((n + 1) * sizeof *copy);

        if (n)
                memcpy(copy, uids, n * sizeof *copy);
        return copy;
}

static void pair_end(struct pair *p)
{
        view_unref(&p->v);
        free(p->uids);
        *p = (struct pair){ NULL, NULL, 0 };
}

static void check_all(const struct pair *p)
{
        uint32_t *uids = xmalloc((p->n + 5) * sizeof *uids);

        cr_assert_eq(view_count(p->v), p->n);
        cr_assert_eq(view_uids(p->v, 1, uids, p->n + 5), p->n);
        cr_assert(p->n == 0 || memcmp(uids, p->uids, p->n * sizeof *uids) == 0);
        free(uids);
}

/* Look at random places. */
static void check_some(const struct pair *p, uint32_t highest)
{
        cr_assert_eq(view_count(p->v), p->n);
        for (int i = 0; i < 20; i++) {
                uint32_t uid = 1 + (uint32_t)rand() % (highest + 3), from = 0, piece[7], got, k;

                while (from < p->n && p->uids[from] < uid)
                        from++;
                cr_assert_eq(view_seqno_from(p->v, uid), from + 1);
                cr_assert_eq(view_seqno(p->v, uid), from < p->n && p->uids[from] == uid ? from + 1 : 0);
                if (p->n == 0)
                        continue;
                k = (uint32_t)rand() % p->n;
                cr_assert_eq(view_uid(p->v, k + 1), p->uids[k]);
                got = view_uids(p->v, k + 1, piece, 7);
                cr_assert_eq(got, p->n - k < 7 ? p->n - k : 7);
                cr_assert_eq(memcmp(piece, p->uids + k, got * sizeof *piece), 0);
        }
}

static void random_set(struct uidset *s, uint32_t highest, int ranges, uint32_t width)
{
        for (int i = 0; i < ranges; i++) {
                uint32_t first = 1 + (uint32_t)rand() % (highest + 2);

                uidset_add_range(s, first, first + (uint32_t)rand() % width);
        }
}

static void check_sets(const struct pair *p, uint32_t highest)
{
        struct uidset asked = UIDSET_INIT, got = UIDSET_INIT, want = UIDSET_INIT;
        struct err err = ERR_INIT;

        random_set(&asked, highest, 1 + rand() % 6, 1 + (uint32_t)rand() % 800);
        if (rand() % 4 == 0)
                uidset_add_range(&asked, 1 + (uint32_t)rand() % (highest + 1), UINT32_MAX);
        for (uint32_t i = 0; i < p->n; i++)
                if (uidset_has(&asked, p->uids[i]))
                        uidset_add(&want, p->uids[i]);
        view_existing_uids(p->v, &asked, &got);
        cr_assert(uidset_equal(&got, &want));
        uidset_clear(&asked);
        uidset_clear(&want);
        random_set(&asked, p->n ? p->n : 1, 1 + rand() % 6, 50);
        for (uint32_t i = 0; i < p->n; i++)
                if (uidset_has(&asked, i + 1))
                        uidset_add(&want, p->uids[i]);
        if (asked.ranges[asked.n - 1].last > p->n) {
                cr_assert_eq(view_seqnos_to_uids(p->v, &asked, &got, &err), -1);
                cr_assert_eq(err.code, ERR_SYNTAX);
        } else {
                cr_assert_eq(view_seqnos_to_uids(p->v, &asked, &got, &err), 0);
                cr_assert(uidset_equal(&got, &want));
        }
        uidset_deinit(&asked);
        uidset_deinit(&got);
        uidset_deinit(&want);
}

static void check_diff(const struct pair *before, const struct pair *now)
{
        struct uidset gone = UIDSET_INIT, want = UIDSET_INIT, have = UIDSET_INIT;
        uint32_t added = 99, new = 0, last = before->n ? before->uids[before->n - 1] : 0;

        for (uint32_t i = 0; i < now->n; i++) {
                uidset_add(&have, now->uids[i]);
                new += now->uids[i] > last;
        }
        for (uint32_t i = 0; i < before->n; i++)
                if (!uidset_has(&have, before->uids[i]))
                        uidset_add(&want, before->uids[i]);
        view_diff(before->v, now->v, &gone, &added);
        cr_assert(uidset_equal(&gone, &want));
        cr_assert_eq(added, new);
        uidset_deinit(&gone);
        uidset_deinit(&want);
        uidset_deinit(&have);
}

static struct pair extend(const struct pair *before, const struct pair *now)
{
        struct pair e = { view_extend(before->v, now->v), xmalloc((before->n + now->n + 1) * sizeof(uint32_t)), before->n };
        uint32_t last = before->n ? before->uids[before->n - 1] : 0;

        if (before->n)
                memcpy(e.uids, before->uids, before->n * sizeof *e.uids);
        for (uint32_t i = 0; i < now->n; i++)
                if (now->uids[i] > last)
                        e.uids[e.n++] = now->uids[i];
        cr_assert_eq(view_modseq(e.v), view_modseq(now->v));
        cr_assert_eq(view_uidnext(e.v), view_uidnext(now->v));
        return e;
}

static struct pair append(const struct pair *p, uint32_t *uidnext, uint32_t n, int gap_one_in, uint64_t modseq)
{
        struct pair r = { NULL, xmalloc((p->n + n + 1) * sizeof(uint32_t)), p->n + n };

        if (p->n)
                memcpy(r.uids, p->uids, p->n * sizeof *r.uids);
        for (uint32_t i = 0; i < n; i++) {
                if (gap_one_in && rand() % gap_one_in == 0)
                        *uidnext += 1 + (uint32_t)rand() % 3;
                r.uids[p->n + i] = (*uidnext)++;
        }
        r.v = view_append(p->v, r.uids + p->n, n, *uidnext, modseq);
        cr_assert_eq(view_modseq(r.v), modseq);
        cr_assert_eq(view_uidnext(r.v), *uidnext);
        return r;
}

static struct pair expunge(const struct pair *p, const struct uidset *set, uint64_t modseq)
{
        struct pair r = { view_expunge(p->v, set, modseq), xmalloc((p->n + 1) * sizeof(uint32_t)), 0 };

        for (uint32_t i = 0; i < p->n; i++)
                if (!uidset_has(set, p->uids[i]))
                        r.uids[r.n++] = p->uids[i];
        cr_assert_eq(view_modseq(r.v), modseq);
        return r;
}

#define OLD 12

/*
 * One lineage: `now` gets appends and expunges; old[] are versions of former times (checked again and again), ext is a session's private
 * view that does not announce expunges.
 */
static void lineage(unsigned seed, int steps, uint32_t append_max, int gap_one_in, int expunge_one_in)
{
        struct pair now = { view_create_empty(1, 1), xmalloc(4), 0 }, old[OLD] = { { NULL, NULL, 0 } }, ext;
        uint32_t uidnext = 1;

        srand(seed);
        ext = (struct pair){ view_ref(now.v), copy_uids(NULL, 0), 0 };
        for (int i = 0; i < steps; i++) {
                struct pair next, *slot = &old[rand() % OLD];
                uint64_t modseq = (uint64_t)i + 2;

                if (rand() % expunge_one_in == 0) {
                        struct uidset set = UIDSET_INIT;

                        random_set(&set, uidnext, 1 + rand() % 5, rand() % 6 ? 4 : 700);
                        next = expunge(&now, &set, modseq);
                        uidset_deinit(&set);
                } else if (rand() % 8 == 0) {
                        next = (struct pair){ view_with_modseq(now.v, modseq), copy_uids(now.uids, now.n), now.n };
                } else {
                        next = append(&now, &uidnext, (uint32_t)rand() % append_max, gap_one_in, modseq);
                }
                if (slot->v)
                        check_all(slot);
                pair_end(slot);
                *slot = now;
                now = next;
                check_some(&now, uidnext);
                check_sets(&now, uidnext);
                for (int k = 0; k < OLD; k++)
                        if (old[k].v && rand() % 4 == 0)
                                check_diff(&old[k], &now);
                if (rand() % 3 == 0) {
                        next = extend(&ext, &now);
                        pair_end(&ext);
                        ext = next;
                        check_some(&ext, uidnext);
                        check_diff(&ext, &now);
                }
                if (rand() % 60 == 0) {                         /* EXPUNGE was allowed: the session is up to date again */
                        pair_end(&ext);
                        ext = (struct pair){ view_ref(now.v), copy_uids(now.uids, now.n), now.n };
                }
        }
        check_all(&now);
        check_all(&ext);
        for (int k = 0; k < OLD; k++)
                if (old[k].v) {
                        check_all(&old[k]);
                        pair_end(&old[k]);
                }
        pair_end(&now);
        pair_end(&ext);
}

Test(view, random_versions_agree_with_arrays_when_messages_come_singly, .timeout = 120)
{
        for (unsigned seed = 1; seed <= 4; seed++)
                lineage(seed, 1500, 3, seed % 2 ? 5 : 0, 12);
}

Test(view, random_versions_agree_with_arrays_when_messages_come_in_bulk, .timeout = 120)
{
        for (unsigned seed = 10; seed <= 14; seed++)
                lineage(seed, 400, 1500, seed % 2 ? 40 : 0, 3);
}

Test(view, random_versions_agree_with_arrays_when_every_uid_has_gaps, .timeout = 120)
{
        lineage(20, 400, 300, 1, 5);
        lineage(21, 400, 40, 1, 2);
}

Test(view, an_older_view_does_not_see_what_was_appended_to_the_shared_tail)
{
        struct view *a = view_create_empty(1, 1), *b, *c, *d;
        uint32_t uids[] = { 5, 7, 9 }, more[] = { 20 }, other[] = { 30, 31 };

        b = view_append(a, uids, 3, 10, 2);
        c = view_append(b, more, 1, 21, 3);
        d = view_append(b, other, 2, 32, 4);                    /* another future: not in place any more */
        cr_expect_eq(view_count(a), 0);
        cr_expect_eq(view_count(b), 3);
        cr_expect_eq(view_count(c), 4);
        cr_expect_eq(view_count(d), 5);
        cr_expect_eq(view_uid(c, 4), 20);
        cr_expect_eq(view_uid(d, 4), 30);
        cr_expect_eq(view_seqno(b, 20), 0);
        cr_expect_eq(view_seqno_from(b, 10), 4);
        view_unref(&b);
        cr_expect_eq(view_uid(d, 1), 5);
        view_unref(&a);
        view_unref(&c);
        view_unref(&d);
        cr_expect_null(d);
}

/* ---- from an index ---- */

static struct index *make_index(struct pair *p, uint32_t messages, int expunged_one_in)
{
        struct index *ix = index_create_empty("/nonexistent/index", "u");

        p->uids = xmalloc((messages + 1) * sizeof(uint32_t));
        p->n = 0;
        for (uint32_t uid = 1; uid <= messages; uid++) {
                struct index_rec r = gen_rec(uid, uid);

                if (expunged_one_in && rand() % expunged_one_in == 0)
                        r.flags |= MSG_EXPUNGED;
                else
                        p->uids[p->n++] = uid;
                cr_assert_eq(index_put(ix, &r, NULL), 0);
        }
        p->v = view_create_from_index(ix, messages + 1, messages);
        return ix;
}

Test(view, blocks_of_the_index_are_read_as_they_were_when_the_view_was_made)
{
        for (int one_in = 0; one_in < 5; one_in += 2) {
                struct pair p;
                struct index *ix = make_index(&p, 5000, one_in);
                struct uidset purge = UIDSET_INIT;

                for (uint32_t uid = 1; uid <= 5000; uid++) {    /* not loaded yet: expunged, brought back, purged */
                        struct index_rec r = gen_rec(uid, 6000 + uid);

                        if (uid % 3 == 0)
                                r.flags |= MSG_EXPUNGED;
                        else
                                r.flags &= ~(uint32_t)MSG_EXPUNGED;
                        cr_assert_eq(index_put(ix, &r, NULL), 0);
                        if (uid == 2500)
                                check_some(&p, 5000);           /* some blocks loaded between */
                }
                uidset_add_range(&purge, 100, 3000);
                cr_assert_eq(index_purge(ix, &purge, NULL), 0);
                uidset_deinit(&purge);
                check_some(&p, 5000);
                check_all(&p);
                index_destroy(&ix);                             /* the view does not need it */
                check_all(&p);
                pair_end(&p);
        }
}

Test(view, versions_of_a_lazy_view_agree_with_arrays, .timeout = 120)
{
        for (unsigned seed = 1; seed <= 30; seed++) {
                struct pair now, next;
                struct index *ix;
                uint32_t uidnext = 6001;

                srand(seed);
                ix = make_index(&now, 6000, (int)seed % 5);
                index_destroy(&ix);
                for (int i = 0; i < 30; i++) {
                        struct uidset set = UIDSET_INIT;

                        random_set(&set, uidnext, 1 + rand() % 4, rand() % 3 ? 5 : 2500);
                        next = rand() % 2 ? append(&now, &uidnext, (uint32_t)rand() % 300, 9, 9000) : expunge(&now, &set, 9000);
                        uidset_deinit(&set);
                        check_diff(&now, &next);
                        check_sets(&next, uidnext);
                        pair_end(&now);
                        now = next;
                }
                check_some(&now, uidnext);
                check_all(&now);
                pair_end(&now);
        }
}

/* The log's side of a damaged block, for index_repair. */
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

static void damage_file(const char *path)
{
        FILE *f = fopen(path, "r+b");
        char c;

        for (long at = 8192; fseek(f, at, SEEK_SET) == 0 && fread(&c, 1, 1, f) == 1; at += 4096) {
                c ^= 0x40;
                fseek(f, at, SEEK_SET);
                fwrite(&c, 1, 1, f);
        }
        fclose(f);
}

Test(view, a_damaged_block_is_read_from_the_log_or_stood_in_for)
{
        for (int with_log = 0; with_log < 2; with_log++) {
                char path[] = "/tmp/view_test.XXXXXX";
                int fd = mkstemp(path);
                struct index_model m;
                struct pair p;
                struct index *ix = index_create_empty(path, "u");
                struct index_repair repair = { with_log ? from_model : NULL, &m };
                struct err err = ERR_INIT;

                close(fd);
                model_init(&m, 3001);
                p.uids = xmalloc(3001 * sizeof(uint32_t));
                p.n = 0;
                for (uint32_t uid = 1; uid <= 3000; uid++) {
                        m.recs[uid] = gen_rec(uid, uid);
                        if (uid % 7 == 0)
                                m.recs[uid].flags |= MSG_EXPUNGED;
                        else
                                p.uids[p.n++] = uid;
                        index_put(ix, &m.recs[uid], &err);
                }
                cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
                index_destroy(&ix);
                cr_assert_eq(index_open(path, "u", &ix, &err), 0, "%s", err.text);
                index_set_repair(ix, &repair);
                p.v = view_create_from_index(ix, 3001, 3000);
                damage_file(path);
                for (uint32_t uid = 1; uid <= 3000; uid += 11)  /* what happened since: expunged later, the view still has it */
                        if (!(m.recs[uid].flags & MSG_EXPUNGED)) {
                                m.recs[uid].flags |= MSG_EXPUNGED;
                                m.recs[uid].modseq = 5000 + uid;
                        }
                if (with_log) {
                        check_some(&p, 3000);
                        check_all(&p);
                } else {                                        /* right numbers, ascending, in range */
                        uint32_t last = 0;

                        cr_assert_eq(view_count(p.v), p.n);
                        for (uint32_t i = 1; i <= p.n; i++) {
                                uint32_t uid = view_uid(p.v, i);

                                cr_assert_gt(uid, last);
                                last = uid;
                        }
                        cr_assert_leq(last, 3000);
                }
                pair_end(&p);
                index_destroy(&ix);
                free(m.recs);
                unlink(path);
        }
}

static bool log_fails;

static int from_failing_log(void *ctx, uint32_t first, uint32_t last, struct index_rec *recs, uint32_t max, uint32_t *n_r, struct err *err)
{
        if (log_fails)
                return err_set(err, ERR_IO, "no descriptor, say");
        return from_model(ctx, first, last, recs, max, n_r, err);
}

Test(view, what_cannot_be_read_now_is_told_apart_and_tried_again)
{
        char path[] = "/tmp/view_test.XXXXXX";
        int fd = mkstemp(path);
        struct index_model m;
        struct index *ix = index_create_empty(path, "u");
        struct index_repair repair = { from_failing_log, &m };
        struct uidset all = UIDSET_INIT, uids = UIDSET_INIT;
        struct view *v;
        struct err err = ERR_INIT;
        uint64_t before;

        close(fd);
        model_init(&m, 3001);
        for (uint32_t uid = 2; uid <= 3000; uid += 2) {
                m.recs[uid] = gen_rec(uid, uid);
                m.recs[uid].flags &= ~(uint32_t)MSG_EXPUNGED;
                index_put(ix, &m.recs[uid], &err);
        }
        cr_assert_eq(index_checkpoint(ix, &err), 0, "%s", err.text);
        index_destroy(&ix);
        cr_assert_eq(index_open(path, "u", &ix, &err), 0, "%s", err.text);
        index_set_repair(ix, &repair);
        v = view_create_from_index(ix, 3001, 3000);
        damage_file(path);
        log_fails = true;
        before = view_unreadable();
        uidset_add_range(&all, 1, UINT32_MAX);
        view_existing_uids(v, &all, &uids);
        cr_expect_gt(view_unreadable(), before, "these are not the real ones");
        log_fails = false;
        before = view_unreadable();
        view_existing_uids(v, &all, &uids);
        cr_expect_eq(view_unreadable(), before);
        cr_expect_eq(uidset_count(&uids), 1500);
        cr_expect(uidset_has(&uids, 2) && !uidset_has(&uids, 3) && uidset_has(&uids, 3000));
        uidset_deinit(&all);
        uidset_deinit(&uids);
        view_unref(&v);
        index_destroy(&ix);
        free(m.recs);
        unlink(path);
}
