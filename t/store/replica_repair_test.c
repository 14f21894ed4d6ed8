/* replica - readers show one moment; CRCs that are kept are those of the records; the master's repair after a conflict. */
#include <criterion/criterion.h>

#include "store/annot.h"
#include "t/store/replica_gen.h"

TestSuite(replica_repair, .init = scratch_make, .fini = scratch_remove, .timeout = 120);

static struct err err;
static struct gen_uploads up;

static struct store *open_store(void)
{
        struct store *s = scratch_open("");

        up = (struct gen_uploads){ .s = s };
        return s;
}

static void close_store(struct store **s)
{
        gen_uploads_end(&up);
        store_close(s);
}

static void done(int rc, struct waiter *w)
{
        cr_assert_eq(rc, 0, "%s", err.text);
        cr_assert_eq(waiter_block(w, &err), 0, "%s", err.text);
}

static void append(struct store *s, struct mailbox *m, unsigned n)
{
        struct append_item item = { .stage = gen_stage(s, n, 200), .internaldate = 1700000000 + n, .savedate = 1700000100 };
        struct append_result result;
        struct waiter w;

        waiter_init_blocking(&w);
        done(mailbox_append(m, &item, 1, &result, &w, &err), &w);
        stage_unref(&item.stage);
}

static void flag(struct mailbox *m, uint32_t first, uint32_t last, uint32_t flags, const char *keyword)
{
        struct span kw = span_of(keyword ? keyword : "");
        struct flag_change change = { .how = FLAGS_SET, .flags = flags, .keywords = &kw, .keyword_count = keyword ? 1 : 0 };
        struct uidset uids = UIDSET_INIT;
        struct waiter w;
        uint64_t modseq;

        uidset_add_range(&uids, first, last);
        waiter_init_blocking(&w);
        done(mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err), &w);
        uidset_deinit(&uids);
}

static void annotate(struct store *s, struct mailbox *m, uint32_t uid, const char *user, const char *value)
{
        struct annot a = { "/comment", user, { value, value ? strlen(value) : 0 }, 0 };
        struct uidset uids = UIDSET_INIT;
        struct waiter w;
        uint64_t modseq;

        if (*user)
                cr_assert_eq(annot_user_make(s, user, &err), 0);
        uidset_add(&uids, uid);
        waiter_init_blocking(&w);
        done(mailbox_annotate_messages(m, &uids, &a, 1, 0, UINT64_MAX, NULL, NULL, &modseq, &w, &err), &w);
        uidset_deinit(&uids);
}

static void expunge(struct mailbox *m, uint32_t uid)
{
        struct uidset uids = UIDSET_INIT;
        struct waiter w;

        uidset_add(&uids, uid);
        waiter_init_blocking(&w);
        done(mailbox_expunge(m, &uids, false, NULL, NULL, &w, &err), &w);
        uidset_deinit(&uids);
}

static struct mailbox *make(struct store *s, const char *name, const char *id)
{
        struct replica_apply a = gen_apply(&up, name, id, NULL, 0);
        struct mailbox *m;

        cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
        cr_assert_eq(replica_open(s, name, &m, &err), 0, "%s", err.text);
        return m;
}

/* What is kept from block to block is what comes of reading everything; gen_dump() compares it with the records, too. */
static void same_as_from_scratch(struct store *s)
{
        char *kept = strdup(gen_dump(s, "user.joe", false));

        cr_expect_null(strstr(kept, "CRCs"), "%s", kept);
        cr_expect_str_eq(gen_dump(s, "user.joe", true), kept);
        free(kept);
}

Test(replica_repair, sums_that_are_kept_follow_every_change)
{
        static const char *const users[] = { "", "mary", "jim" };
        struct store *s = open_store();
        struct mailbox *m = make(s, "user.joe", ID_1);
        uint32_t uidnext = 1, x = 12345;

        for (unsigned round = 0; round < 60; round++) {
                x = x * 1103515245 + 12345;
                switch (x >> 16 & 7) {
                case 0:
                case 1:
                        for (unsigned i = 0; i < 40; i++)
                                append(s, m, uidnext++);
                        break;
                case 2:
                        flag(m, 1 + (x >> 20) % uidnext, uidnext, round % 32, round % 2 ? "$New" : NULL);
                        break;
                case 3:
                        expunge(m, 1 + (x >> 20) % uidnext);
                        break;
                case 4:
                case 5:
                        annotate(s, m, 1 + (x >> 20) % uidnext, users[round % 3], round % 4 ? "v" : NULL);
                        break;
                case 6:
                        cr_assert_eq(mailbox_checkpoint(m, &err), 0);
                        break;
                case 7:
                        cr_assert_eq(mailbox_compact(m, &err), 0);
                        break;
                }
                same_as_from_scratch(s);
        }
        cr_assert_gt(uidnext, 200);
        mailbox_unref(&m);
        close_store(&s);
        s = open_store();
        same_as_from_scratch(s);
        close_store(&s);
}

/* A user's rename changes no mailbox, and yet the CRCs of what he annotated. */
Test(replica_repair, sums_follow_the_names_of_users)
{
        struct store *s = open_store();
        struct mailbox *m = make(s, "user.joe", ID_1), *mary = make(s, "user.mary", ID_2);
        char *before;

        append(s, m, 1);
        annotate(s, m, 1, "mary", "hers");
        same_as_from_scratch(s);
        before = strdup(gen_dump(s, "user.joe", false));
        cr_expect_not_null(strstr(before, "[mary]"));
        cr_assert_eq(mboxlist_rename(store_mboxlist(s), "user.mary", "user.anne", true, NULL, &err), 0, "%s", err.text);
        same_as_from_scratch(s);
        cr_expect_not_null(strstr(gen_dump(s, "user.joe", false), "[anne]"));
        free(before);
        mailbox_unref(&m);
        mailbox_unref(&mary);
        close_store(&s);
}

Test(replica_repair, a_reader_shows_the_moment_at_which_it_was_opened)
{
        enum { N = 1500 };
        struct store *s = open_store();
        struct mailbox *m = make(s, "user.joe", ID_1);
        struct arena arena = ARENA_INIT, slice = ARENA_INIT;
        struct replica_crcs crcs = { 0, REPLICA_CRC_ANNOT_EMPTY };
        struct replica_record *recs = calloc(N, sizeof *recs);
        struct replica_reader *r;
        struct replica_values v;
        uint32_t at = 0;
        int n;

        for (unsigned i = 0; i < N; i++)
                append(s, m, i);
        annotate(s, m, 700, "mary", "before");
        cr_assert_eq(replica_reader_open(s, "user.joe", 0, false, &arena, &v, &r, &err), 0, "%s", err.text);
        cr_assert_eq(replica_reader_next(r, 10, &slice, recs, &err), 10);
        cr_expect_eq(recs[9].uid, 10);
        replica_reader_rewind(r);
        while ((n = replica_reader_next(r, 100, &slice, recs, &err)) > 0) {
                for (int i = 0; i < n; i++) {
                        cr_assert_eq(recs[i].uid, ++at);
                        replica_crc_record(&crcs, &recs[i]);
                }
                append(s, m, 9000 + at);
                flag(m, 1, N, MSG_SEEN, NULL);
                expunge(m, N - at / 2);
                annotate(s, m, 700, "mary", at % 200 ? "after" : NULL);
                if (at == 500)
                        cr_assert_eq(mailbox_checkpoint(m, &err), 0);
        }
        cr_assert_eq(n, 0, "%s", err.text);
        cr_expect_eq(at, N);
        cr_expect_eq(crcs.basic, v.crcs.basic);
        cr_expect_eq(crcs.annot, v.crcs.annot);
        cr_expect_eq(v.last_uid, N);
        replica_reader_close(&r);
        /* Only what has changed since. */
        cr_assert_eq(replica_read(s, "user.joe", &arena, &v, &err), 0);
        flag(m, 3, 4, MSG_FLAGGED, NULL);
        expunge(m, 9);
        cr_assert_eq(replica_reader_open(s, "user.joe", v.highestmodseq, false, &arena, &v, &r, &err), 0);
        cr_assert_eq(replica_reader_next(r, 100, &slice, recs, &err), 3);
        cr_expect_eq(recs[0].uid, 3);
        cr_expect_eq(recs[1].uid, 4);
        cr_expect_eq(recs[2].uid, 9);
        cr_expect(recs[2].flags & MSG_EXPUNGED);
        cr_assert_eq(replica_reader_next(r, 100, &slice, recs, &err), 0);
        replica_reader_close(&r);
        arena_deinit(&slice);
        arena_deinit(&arena);
        mailbox_unref(&m);
        free(recs);
        close_store(&s);
}

struct found { unsigned n; size_t which[10]; uint32_t uid[10]; bool refuse; };

static bool on_found(void *ctx, size_t which, struct mailbox *m, uint32_t uid)
{
        struct found *f = ctx;

        (void)m;
        f->which[f->n] = which;
        f->uid[f->n++] = uid;
        return !f->refuse;
}

Test(replica_repair, messages_are_found_by_guid)
{
        static const char *const names[] = { "user.none", "user.joe", "user.joe.x" };
        struct store *s = open_store();
        struct mailbox *m = make(s, "user.joe", ID_1), *x = make(s, "user.joe.x", ID_2);
        struct found f = { 0 };
        struct stage *stages[3] = { gen_stage(s, 5, 200), gen_stage(s, 77, 200), gen_stage(s, 88, 200) }, *copy;
        uint8_t guids[3][GUID_SIZE];

        for (unsigned i = 0; i < 10; i++)
                append(s, m, i);
        append(s, x, 77);
        append(s, x, 5);
        for (unsigned i = 0; i < 3; i++)
                memcpy(guids[i], stage_guid(stages[i]), GUID_SIZE);
        cr_assert_eq(replica_find_guids(s, names, 3, guids, 3, on_found, &f, &err), 0, "%s", err.text);
        cr_assert_eq(f.n, 2);
        cr_expect_eq(f.which[0], 0);
        cr_expect_eq(f.uid[0], 6);
        cr_expect_eq(f.which[1], 1);
        cr_expect_eq(f.uid[1], 1);
        cr_assert_eq(replica_stage_message(m, 6, guids[0], store_partition_dir(s, "default"), &copy, &err), 0, "%s", err.text);
        cr_expect_eq(stage_size(copy), stage_size(stages[0]));
        stage_unref(&copy);
        cr_expect_eq(replica_stage_message(m, 7, guids[0], store_partition_dir(s, "default"), &copy, &err), -1);
        cr_expect_eq(err.code, ERR_CORRUPT);
        f = (struct found){ .refuse = true };
        cr_assert_eq(replica_find_guids(s, names, 3, guids, 1, on_found, &f, &err), 0);
        cr_expect_eq(f.n, 2);                   /* the first was not usable: the one in the other mailbox */
        for (unsigned i = 0; i < 3; i++)
                stage_unref(&stages[i]);
        mailbox_unref(&m);
        mailbox_unref(&x);
        close_store(&s);
}

/* The worked example of csync 11: flags on both sides, UID 7 given on both. */
Test(replica_repair, a_split_brain_is_repaired)
{
        struct store *s = open_store();
        struct mailbox *m = make(s, "user.joe", ID_1);
        struct arena arena = ARENA_INIT;
        struct replica_record theirs[3] = { { 0 } };
        struct replica_fix fixes[5] = { { 0 } };
        struct replica_repair repair = { .name = "user.joe", .uniqueid = ID_1, .highestmodseq = 100, .fixes = fixes, .fixes_n = 5,
                                         .uidvalidity = 1795310145 + 7, .last_uid = 7 };
        static const char *const words[] = { "$Theirs" };
        static const struct annot notes[] = { { "/comment", "mary", { "hi", 2 }, 16 } };
        struct replica_values v;
        const char *dump;
        struct msg msg;

        for (unsigned i = 1; i <= 7; i++)
                append(s, m, i);
        annotate(s, m, 7, "mary", "goes along");
        flag(m, 1, 1, MSG_FLAGGED, NULL);
        theirs[0] = (struct replica_record){ .uid = 2, .flags = MSG_FLAGGED, .keywords = words, .keywords_n = 1, .annots = notes, .annots_n = 1,
                                             .modseq = 18 };
        theirs[1] = gen_record(&up, 7, 500, 250, 19);
        theirs[1].flags = MSG_SEEN;
        theirs[1].stage = gen_stage(s, 500, 250);
        theirs[2] = gen_record(&up, 9, 501, 250, 20);
        theirs[2].stage = gen_stage(s, 501, 250);
        for (unsigned i = 0; i < 3; i++) {
                cr_assert_eq(mailbox_message(m, i + 1, &msg, &err), 0);
                fixes[i].uid = i + 1;
                fixes[i].modseq = msg.modseq;
        }
        fixes[0].what = REPLICA_FIX_BUMP;
        fixes[1].what = REPLICA_FIX_TAKE;
        fixes[1].theirs = &theirs[0];
        fixes[2].what = REPLICA_FIX_EXPUNGE;
        cr_assert_eq(mailbox_message(m, 7, &msg, &err), 0);
        fixes[3] = (struct replica_fix){ .what = REPLICA_FIX_RENUMBER, .uid = 7, .modseq = msg.modseq };
        fixes[4] = (struct replica_fix){ .what = REPLICA_FIX_APPEND, .theirs = &theirs[1] };
        fixes[3].modseq--;                      /* it has changed since */
        cr_expect_eq(replica_repair(s, &repair, &err), REPLICA_CHANGED);
        cr_assert_eq(replica_read(s, "user.joe", &arena, &v, &err), 0);
        cr_expect_eq(v.last_uid, 7);
        fixes[3].modseq++;
        cr_assert_eq(replica_repair(s, &repair, &err), REPLICA_OK, "%s", err.text);
        cr_expect_eq(fixes[3].new_uid_r, 8);
        cr_expect_eq(fixes[4].new_uid_r, 9);
        cr_assert_eq(replica_read(s, "user.joe", &arena, &v, &err), 0);
        cr_expect_eq(v.highestmodseq, 101);
        cr_expect_eq(v.uidvalidity, 1795310145 + 7);
        cr_expect_eq(v.last_uid, 9);
        dump = gen_dump(s, "user.joe", true);
        cr_expect_not_null(strstr(dump, "\n1 flags=2 modseq=101/"), "%s", dump);
        cr_expect_not_null(strstr(dump, "\n2 flags=2 modseq=101/"));
        cr_expect_not_null(strstr(dump, "$Theirs /comment[mary]=hi\n"));
        cr_expect_not_null(strstr(dump, "\n3 flags=10000 modseq=101/"));
        cr_expect_not_null(strstr(dump, "\n7 flags=10000 modseq=101/"));
        cr_expect_not_null(strstr(dump, "\n8 flags=0 modseq=101/"));
        cr_expect_not_null(strstr(strstr(dump, "\n8 "), "/comment[mary]=goes along\n9 flags=10 modseq=101/19 "));
        cr_expect_null(strstr(dump, "CRCs"));
        /* What only the replica has, above our last UID, keeps its number. */
        repair = (struct replica_repair){ .name = "user.joe", .uniqueid = ID_1, .fixes = fixes, .fixes_n = 1 };
        fixes[0] = (struct replica_fix){ .what = REPLICA_FIX_APPEND_SAME, .theirs = &theirs[2] };
        cr_expect_eq(replica_repair(s, &repair, &err), REPLICA_CHANGED);        /* 9 is taken */
        theirs[2].uid = 15;
        cr_assert_eq(replica_repair(s, &repair, &err), REPLICA_OK, "%s", err.text);
        cr_expect_eq(fixes[0].new_uid_r, 15);
        cr_expect_not_null(strstr(gen_dump(s, "user.joe", false), "\n15 flags=0 modseq=102/20"));
        theirs[2].uid = 16;
        theirs[2].guid[0] ^= 1;
        cr_expect_eq(replica_repair(s, &repair, &err), REPLICA_BAD);
        repair.uniqueid = ID_2;
        cr_expect_eq(replica_repair(s, &repair, &err), REPLICA_MOVED);
        cr_expect_eq(replica_lift(s, "user.joe", 1, 2, 0, &err), REPLICA_OK);
        cr_assert_eq(replica_read(s, "user.joe", &arena, &v, &err), 0);
        cr_expect_eq(v.uidvalidity, 1795310145 + 7);
        cr_expect_eq(replica_lift(s, "user.joe", 1795310145 + 9, 999999, 3, &err), REPLICA_OK);
        cr_assert_eq(replica_read(s, "user.joe", &arena, &v, &err), 0);
        cr_expect_eq(v.uidvalidity, 1795310145 + 9);
        cr_expect_eq(v.foldermodseq, 999999);
        cr_expect_eq(v.raclmodseq, 3);
        stage_unref(&theirs[1].stage);
        stage_unref(&theirs[2].stage);
        mailbox_unref(&m);
        arena_deinit(&arena);
        close_store(&s);
}

/* A master's mailbox, used by IMAP, is on the replica what it is here, by CRC and record; and again after more changes. */
Test(replica_repair, what_is_read_can_be_applied)
{
        struct store *s = open_store();
        struct mailbox *m = make(s, "user.joe", ID_1);
        struct arena arena = ARENA_INIT;
        uint64_t since = 0;
        uint32_t had = 0;

        for (unsigned round = 0; round < 4; round++) {
                static struct replica_record recs[200];
                struct replica_reader *r;
                struct replica_apply a = { .has = gen_has, .message = gen_message, .ctx = &up };
                char *here;
                int n;

                for (unsigned i = 0; i < 5; i++) {
                        append(s, m, 10 * round + i);
                        gen_upload(&up, 10 * round + i, 200);
                }
                flag(m, 1 + round, 3 + round, MSG_SEEN | MSG_ANSWERED, "$Forwarded");
                annotate(s, m, 2, round % 2 ? "" : "mary", "note");
                expunge(m, 4 * round + 1);
                cr_assert_eq(replica_reader_open(s, "user.joe", since, false, &arena, &a.values, &r, &err), 0, "%s", err.text);
                n = replica_reader_next(r, 200, &arena, recs, &err);
                cr_assert_gt(n, 0);
                replica_reader_close(&r);
                for (int i = 0; i < n; i++)
                        recs[i].flags &= ~(uint32_t)MSG_UNLINKED;       /* that is not on the wire */
                a.records = recs;
                a.records_n = (uint32_t)n;
                a.since_modseq = since;
                since = a.values.highestmodseq;
                here = strdup(strchr(gen_dump(s, "user.joe", false), '\n'));
                a.values.name = "user.replica";
                a.values.uniqueid = ID_2;
                cr_assert_eq(replica_apply(s, &a, &err), REPLICA_OK, "%s", err.text);
                cr_expect_str_eq(strchr(gen_dump(s, "user.replica", false), '\n'), here);
                cr_assert_lt(had, a.values.last_uid);
                had = a.values.last_uid;
                free(here);
                arena_reset(&arena);
        }
        mailbox_unref(&m);
        close_store(&s);
}
