/* replica - applying: what the master has is there, exactly; what is refused changes nothing; all of it survives. */
#include <criterion/criterion.h>
#include <errno.h>
#include <sys/wait.h>

#include "store/change.h"
#include "store/user.h"
#include "t/store/replica_gen.h"

TestSuite(replica, .init = scratch_make, .fini = scratch_remove, .timeout = 120);

static struct err err;
static struct gen_uploads up;

static struct store *open_store(void)
{
        struct store *s = scratch_open("delete_mode: immediate\n");

        up = (struct gen_uploads){ .s = s };
        return s;
}

static void close_store(struct store **s)
{
        gen_uploads_end(&up);
        store_close(s);
}

#define APPLY(s, a, code) \
        do { \
                enum replica_code got; \
                err_clear(&err); \
                got = replica_apply(s, a, &err); \
                cr_assert_eq(got, code, "%d: %s", got, err.text); \
        } while (0)

#define EXPECT(s, a) \
        do { \
                char *expected = gen_expected(a); \
                cr_assert_str_eq(gen_dump(s, (a)->values.name, false), expected); \
                cr_assert_str_eq(gen_dump(s, (a)->values.name, true), expected); \
                free(expected); \
        } while (0)

static void expect_whole(struct store *s, const char *name)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(s), name);
        struct check_report report = { .messages = 0 };
        struct mailbox_ident ident;

        cr_assert(e);
        cr_assert_eq(mbentry_ident(s, e, &ident, &err), 0);
        cr_assert_eq(mailbox_check_files(s, &ident, &report, &err), 0, "%s", err.text);
        cr_expect_eq(report.problems, 0);
        mbentry_unref(&e);
}

/* Throw the index away: all comes back from the log. */
static void rebuild(struct store *s, const char *name)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(s), name);
        struct mailbox_ident ident;

        cr_assert(e);
        cr_assert_eq(mbentry_ident(s, e, &ident, &err), 0);
        cr_assert_eq(mailbox_reconstruct(s, &ident, &err), 0, "%s", err.text);
        mbentry_unref(&e);
}

/* Five messages, one of them known only to have been there. */
static struct replica_record five[5];
static const char *const words[] = { "$Label1", "foo" };
static const struct annot notes[] = { { "/comment", "", { "both", 4 }, 15 }, { "/comment", "mary", { "hi", 2 }, 16 } };

static struct replica_apply make_five(void)
{
        for (unsigned i = 0; i < 5; i++) {
                five[i] = gen_record(&up, 2 * i + 1, i, 300, i + 3);
                if (i != 3)
                        gen_upload(&up, i, 300);
        }
        five[1].flags = MSG_SEEN;
        five[2].flags = MSG_ANSWERED | MSG_FLAGGED;
        five[2].keywords = words;
        five[2].keywords_n = 2;
        five[2].annots = notes;
        five[2].annots_n = 2;
        five[3].flags = MSG_DELETED | MSG_EXPUNGED | MSG_UNLINKED;
        five[4].thrid = 0xabcde;
        five[4].createdmodseq = 0;
        return gen_apply(&up, "user.joe", ID_1, five, 5);
}

Test(replica, a_mailbox_is_made_as_it_is_on_the_master)
{
        static const struct annot own[] = { { "/comment", "", { "box note", 8 }, 0 }, { "/specialuse", "joe", { "\\Archive", 8 }, 0 } };
        struct store *s = open_store();
        struct replica_apply a = make_five();
        const struct mbentry *e;

        a.values.annots = own;
        a.values.annots_n = 2;
        a.values.recentuid = 5;
        a.values.last_uid = 20;
        a.values.options = MBOX_SHARED_SEEN;
        a.values.pop3_last_login = 1795310111;
        a.values.pop3_show_after = 1795310000;
        a.values.has |= REPLICA_HAS_POP3_SHOW_AFTER;
        APPLY(s, &a, REPLICA_OK);
        EXPECT(s, &a);
        e = mboxlist_find(store_mboxlist(s), "user.joe");
        cr_expect_str_eq(e->specialuse, "\\Archive");
        cr_expect_str_eq(e->uniqueid, ID_1);
        mbentry_unref(&e);
        rebuild(s, "user.joe");
        EXPECT(s, &a);
        expect_whole(s, "user.joe");
        close_store(&s);
        s = open_store();
        EXPECT(s, &a);
        close_store(&s);
}

/* The messages are those that were uploaded, with their structure. */
Test(replica, octets_are_there_and_nothing_more_is_shown)
{
        struct store *s = open_store();
        struct replica_apply a = make_five();
        struct mailbox_status status;
        struct str text = STR_INIT;
        struct mailbox *m;
        struct extent x;
        char buf[400];

        APPLY(s, &a, REPLICA_OK);
        cr_assert_eq(replica_open(s, "user.joe", &m, &err), 0);
        mailbox_status(m, &status);
        cr_expect_eq(status.messages, 4);
        cr_expect_eq(status.uidnext, 10);
        cr_expect_eq(status.uidvalidity, 1795310145);
        cr_expect_eq(status.highestmodseq, 7);
        cr_assert_eq(replica_octets(m, 5, NULL, &x, &err), 0, "%s", err.text);
        gen_text(2, 300, &text);
        cr_assert_eq(x.len, text.len);
        cr_assert_eq(file_read(x.file, buf, x.len, x.offset, &err), 0);
        cr_expect_eq(memcmp(buf, text.data, x.len), 0);
        file_unref(&x.file);
        cr_expect_eq(replica_octets(m, 7, NULL, &x, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        str_deinit(&text);
        mailbox_unref(&m);
        close_store(&s);
}

Test(replica, changes_of_the_master_arrive)
{
        struct store *s = open_store();
        struct replica_apply a = make_five(), b;
        struct replica_record all[6], some[3];

        APPLY(s, &a, REPLICA_OK);
        memcpy(all, five, sizeof five);
        all[0].flags = MSG_FLAGGED;
        all[0].keywords = words + 1;
        all[0].keywords_n = 1;
        all[0].modseq = 8;
        all[0].internaldate++;
        all[0].savedate++;
        all[0].thrid = 0x77;
        all[2].annots_n = 1;
        all[2].modseq = 9;
        all[4].flags = MSG_EXPUNGED | MSG_SEEN;
        all[4].modseq = 10;
        all[5] = gen_record(&up, 12, 50, 300, 11);
        gen_upload(&up, 50, 300);
        some[0] = all[0];
        some[1] = all[2];
        some[2] = all[4];
        b = gen_apply(&up, "user.joe", ID_1, all, 6);
        b.since_modseq = a.values.highestmodseq;
        b.since_crcs = a.values.crcs;
        APPLY(s, &b, REPLICA_OK);
        EXPECT(s, &b);
        b.since_modseq = 0;
        b.records = some;                       /* again, and in part: nothing to do */
        b.records_n = 3;
        APPLY(s, &b, REPLICA_OK);
        b.records = all;
        b.records_n = 6;
        EXPECT(s, &b);
        rebuild(s, "user.joe");
        EXPECT(s, &b);
        expect_whole(s, "user.joe");
        close_store(&s);
}

/* Of everything that can be wrong, each alone: the answer, and that nothing was done. */
static struct replica_apply wrong;
static struct replica_record wrong_records[6];
static void w_since(void) { wrong.since_modseq = 6; }
static void w_since_crc(void) { wrong.since_modseq = 7; wrong.since_crcs.basic = 1; }
static void w_since_annot(void) { wrong.since_modseq = 7; wrong.since_crcs.annot = 1; }
static void w_uidvalidity(void) { wrong.values.uidvalidity--; }
static void w_last_uid(void) { wrong.records_n = 0; wrong.values.last_uid = 8; }
static void w_modseq(void) { wrong.records_n = 0; wrong.values.highestmodseq = 6; }
static void w_guid(void) { wrong_records[1].guid[0] ^= 1; }
static void w_older(void) { wrong_records[4].modseq = 6; }
static void w_back_to_life(void) { wrong_records[3].flags = 0; }
static void w_unknown(void) { wrong_records[1].uid = 4; }
static void w_order(void) { wrong_records[1].uid = 1; }
static void w_uid_0(void) { wrong_records[0].uid = 0; }
static void w_above(void) { wrong_records[5].uid = 100; }
static void w_modseq_above(void) { wrong_records[0].modseq = 100; }
static void w_modseq_0(void) { wrong_records[0].modseq = 0; }
static void w_no_octets(void) { wrong_records[5].guid[0] ^= 1; }
static void w_size(void) { wrong_records[5].size++; }
static const char *const empty_word[] = { "" };
static void w_keyword(void) { wrong_records[0].keywords = empty_word; wrong_records[0].keywords_n = 1; }
static const char *const line_word[] = { "x\r\n* 1 EXPUNGE" };
static void w_keyword_line(void) { wrong_records[0].keywords = line_word; wrong_records[0].keywords_n = 1; }
static void w_modseq_end(void) { wrong.values.highestmodseq = INT64_MAX; }
static const struct annot bad_entry = { "comment", "", { "x", 1 }, 0 }, bad_user = { "/comment", "a/b", { "x", 1 }, 0 };
static void w_annot(void) { wrong_records[0].annots = &bad_entry; wrong_records[0].annots_n = 1; }
static void w_annot_user(void) { wrong_records[0].annots = &bad_user; wrong_records[0].annots_n = 1; }
static void w_own_annot(void) { wrong.values.annots = &bad_entry; wrong.values.annots_n = 1; }
static void w_acl(void) { wrong.values.acl = "joe"; }
static void w_acl_line(void) { wrong.values.acl = "joe\tl\nr\t"; }
static void w_partition(void) { wrong.values.partition = "elsewhere"; }
static void w_id(void) { wrong.values.uniqueid = "../../etc/passwd/xxxxxxx"; }
static void w_other_id(void) { wrong.values.uniqueid = ID_2; }
static void w_name(void) { wrong.values.name = "user.joe..x"; }
static void w_moved(void) { wrong.values.name = "user.joe.other"; }
static void w_fails(void) { up.fail = true; }

Test(replica, what_is_refused_changes_nothing)
{
        static const struct { const char *what; void (*fn)(void); enum replica_code code; } rows[] = {
                { "since", w_since, REPLICA_CHANGED }, { "since crc", w_since_crc, REPLICA_CHANGED }, { "since annot", w_since_annot, REPLICA_CHANGED },
                { "uidvalidity", w_uidvalidity, REPLICA_CHECKSUM }, { "last_uid", w_last_uid, REPLICA_CHECKSUM },
                { "modseq", w_modseq, REPLICA_CHECKSUM }, { "guid", w_guid, REPLICA_CHECKSUM }, { "older", w_older, REPLICA_CHECKSUM },
                { "back to life", w_back_to_life, REPLICA_CHECKSUM }, { "unknown", w_unknown, REPLICA_CHECKSUM }, { "order", w_order, REPLICA_BAD },
                { "uid 0", w_uid_0, REPLICA_BAD }, { "above", w_above, REPLICA_BAD }, { "modseq above", w_modseq_above, REPLICA_BAD },
                { "modseq 0", w_modseq_0, REPLICA_BAD }, { "no octets", w_no_octets, REPLICA_BAD }, { "size", w_size, REPLICA_BAD },
                { "keyword", w_keyword, REPLICA_BAD }, { "keyword of two lines", w_keyword_line, REPLICA_BAD },
                { "modseq without room", w_modseq_end, REPLICA_BAD }, { "annotation", w_annot, REPLICA_BAD }, { "annotation's user", w_annot_user, REPLICA_BAD },
                { "own annotation", w_own_annot, REPLICA_BAD }, { "acl", w_acl, REPLICA_BAD }, { "acl line", w_acl_line, REPLICA_BAD },
                { "partition", w_partition, REPLICA_BAD }, { "id", w_id, REPLICA_BAD }, { "other id", w_other_id, REPLICA_MOVED },
                { "name", w_name, REPLICA_BAD }, { "moved", w_moved, REPLICA_MOVED }, { "upload fails", w_fails, REPLICA_FAILED },
        };
        struct store *s = open_store();
        struct replica_apply a = make_five();

        APPLY(s, &a, REPLICA_OK);
        memcpy(wrong_records, five, sizeof five);
        gen_upload(&up, 60, 300);
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
                enum replica_code code;

                memcpy(wrong_records, five, sizeof five);
                wrong_records[0].flags = MSG_FLAGGED;
                wrong_records[0].modseq = 8;
                wrong_records[5] = gen_record(&up, 12, 60, 300, 9);
                wrong = gen_apply(&up, "user.joe", ID_1, wrong_records, 6);
                wrong.values.acl = "joe\tlr\t";
                wrong.values.options = 0;
                rows[i].fn();
                err_clear(&err);
                code = replica_apply(s, &wrong, &err);
                cr_expect_eq(code, rows[i].code, "%s: %d %s", rows[i].what, code, err.text);
                cr_expect(*err.text, "%s", rows[i].what);
                up.fail = false;
                EXPECT(s, &a);
                cr_expect_null(mboxlist_find(store_mboxlist(s), "user.joe.other"));
        }
        wrong = gen_apply(&up, "user.joe", ID_1, wrong_records, 6);    /* the same, right */
        APPLY(s, &wrong, REPLICA_OK);
        EXPECT(s, &wrong);
        close_store(&s);
}

Test(replica, a_new_mailbox_that_is_refused_is_not_there)
{
        struct store *s = open_store();
        struct replica_apply a = make_five();

        five[1].guid[0] ^= 1;
        APPLY(s, &a, REPLICA_BAD);
        cr_expect_null(mboxlist_find(store_mboxlist(s), "user.joe"));
        five[1].guid[0] ^= 1;
        up.fail = true;
        APPLY(s, &a, REPLICA_FAILED);
        cr_expect_null(mboxlist_find(store_mboxlist(s), "user.joe"));
        up.fail = false;
        a.since_modseq = 3;
        APPLY(s, &a, REPLICA_CHANGED);
        cr_expect_null(mboxlist_find(store_mboxlist(s), "user.joe"));
        a.since_modseq = 0;
        APPLY(s, &a, REPLICA_OK);
        EXPECT(s, &a);
        close_store(&s);
}

Test(replica, a_wrong_checksum_is_told_of_and_the_changes_stay)
{
        struct store *s = open_store();
        struct replica_apply a = make_five();

        a.values.crcs.basic ^= 1;
        APPLY(s, &a, REPLICA_CHECKSUM);
        a.values.crcs.basic ^= 1;
        EXPECT(s, &a);
        a.values.crcs.annot ^= 1;
        APPLY(s, &a, REPLICA_CHECKSUM);
        a.values.crcs.annot = 0;                /* unknown */
        APPLY(s, &a, REPLICA_OK);
        close_store(&s);
}

Test(replica, an_empty_mailbox_of_another_id_gives_way_and_force_takes_any)
{
        struct store *s = open_store();
        struct replica_apply a = gen_apply(&up, "user.joe", ID_2, NULL, 0), b;

        APPLY(s, &a, REPLICA_OK);
        b = make_five();
        APPLY(s, &b, REPLICA_OK);
        EXPECT(s, &b);
        APPLY(s, &a, REPLICA_MOVED);
        EXPECT(s, &b);
        a.force = true;
        APPLY(s, &a, REPLICA_OK);
        EXPECT(s, &a);
        close_store(&s);
}

/* What is refused when the former mailbox has given way leaves that as it was; nothing of either is left over. */
Test(replica, force_that_is_refused_changes_nothing)
{
        struct store *s = open_store();
        struct replica_apply a = make_five(), b;
        struct replica_record bad_size[5];

        APPLY(s, &a, REPLICA_OK);
        memcpy(bad_size, five, sizeof five);
        bad_size[4].size++;                        /* found out when it is laid down */
        b = gen_apply(&up, "user.joe", ID_2, bad_size, 5);
        b.force = true;
        APPLY(s, &b, REPLICA_BAD);
        EXPECT(s, &a);
        cr_expect_eq(mboxlist_count(store_mboxlist(s)), 1);
        b = gen_apply(&up, "user.joe", ID_2, five, 5);
        b.force = true;
        APPLY(s, &b, REPLICA_OK);
        EXPECT(s, &b);
        cr_expect_eq(mboxlist_count(store_mboxlist(s)), 1);
        close_store(&s);
}

/* Numbers go down, and stay down whatever the log is read back from. */
Test(replica, force_lowers_numbers_for_good)
{
        struct store *s = open_store();
        struct replica_apply a = make_five(), b;
        struct replica_record fewer[5];
        struct mailbox_status status;
        struct mailbox *m;

        a.values.last_uid = 50;
        a.values.highestmodseq = 1000;
        APPLY(s, &a, REPLICA_OK);
        memcpy(fewer, five, sizeof five);
        fewer[1].modseq = 3;                    /* ours is 4 */
        b = gen_apply(&up, "user.joe", ID_1, fewer, 5);
        b.values.uidvalidity -= 1000;
        b.values.highestmodseq = 20;
        APPLY(s, &b, REPLICA_CHECKSUM);
        EXPECT(s, &a);
        b.force = true;
        APPLY(s, &b, REPLICA_OK);
        EXPECT(s, &b);
        cr_assert_eq(replica_open(s, "user.joe", &m, &err), 0);
        mailbox_status(m, &status);
        cr_expect_eq(status.highestmodseq, 20);
        cr_expect_eq(status.uidnext, 10);
        mailbox_unref(&m);
        rebuild(s, "user.joe");
        EXPECT(s, &b);
        close_store(&s);
        s = open_store();
        EXPECT(s, &b);
        cr_assert_eq(replica_open(s, "user.joe", &m, &err), 0);
        cr_assert_eq(mailbox_checkpoint(m, &err), 0);
        mailbox_maintain_begin(m);
        cr_assert_eq(mailbox_roll(m, &err), 0);
        cr_assert_eq(mailbox_begin_next(m, &err), 0);
        mailbox_maintain_end(m);
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        EXPECT(s, &b);
        mailbox_unref(&m);
        rebuild(s, "user.joe");
        EXPECT(s, &b);
        expect_whole(s, "user.joe");
        close_store(&s);
}

static void next_segment(struct mailbox *m)
{
        mailbox_maintain_begin(m);
        cr_assert_eq(mailbox_roll(m, &err), 0, "%s", err.text);
        cr_assert_eq(mailbox_begin_next(m, &err), 0, "%s", err.text);
        mailbox_maintain_end(m);
}

/* Segments that only have states and numbers are rewritten; that with the messages stays. Nothing in it, and nothing else that is older, counts then. */
Test(replica, details_and_numbers_outlive_their_segments)
{
        struct store *s = open_store();
        struct replica_record big[5], changed[5];
        struct replica_apply a, b;
        struct mailbox *m;
        uint32_t segments;
        bool quiet;

        for (unsigned i = 0; i < 5; i++) {
                big[i] = gen_record(&up, 2 * i + 1, i, 50000, i + 3);
                gen_upload(&up, i, 50000);
        }
        a = gen_apply(&up, "user.joe", ID_1, big, 5);
        a.values.last_uid = 50;
        a.values.highestmodseq = 1000;
        APPLY(s, &a, REPLICA_OK);
        cr_assert_eq(replica_open(s, "user.joe", &m, &err), 0);
        next_segment(m);
        memcpy(changed, big, sizeof big);
        for (unsigned i = 0; i < 5; i++) {
                changed[i].modseq += 10;
                changed[i].internaldate += 100 + i;
                changed[i].savedate += 200 + i;
                changed[i].createdmodseq = i + 1;
                changed[i].thrid = 0x1000 + i;
                changed[i].last_updated += 5;
                changed[i].flags = i % 2 ? MSG_SEEN : MSG_FLAGGED;
                changed[i].keywords = words;
                changed[i].keywords_n = i % 3;
                if (i == 2) {
                        changed[i].annots = notes;
                        changed[i].annots_n = 2;
                }
        }
        changed[4].flags = MSG_EXPUNGED;
        b = gen_apply(&up, "user.joe", ID_1, changed, 5);
        b.values.highestmodseq = 30;
        b.values.uidvalidity -= 77;
        b.values.last_appenddate = 5;
        b.force = true;
        APPLY(s, &b, REPLICA_OK);
        for (unsigned i = 0; i < 10; i++) {             /* so many small ones go together */
                next_segment(m);
                b.values.recentuid = i;
                APPLY(s, &b, REPLICA_OK);
        }
        next_segment(m);
        segments = m->segs_n;
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        cr_assert_lt(m->segs_n, segments - 5, "nothing was compacted");
        EXPECT(s, &b);
        rebuild(s, "user.joe");
        EXPECT(s, &b);
        mailbox_lock(m);
        quiet = state_is_quiet(m);
        mailbox_unlock(m);
        cr_expect(quiet);
        expect_whole(s, "user.joe");
        mailbox_unref(&m);
        close_store(&s);
        s = open_store();
        rebuild(s, "user.joe");
        EXPECT(s, &b);
        close_store(&s);
}

/* Most of it goes: the segment that was built aside is rewritten, and what is left stays what it was. */
static void compact_what_is_aside(struct store *s, const struct replica_record *recs, unsigned n)
{
        struct uidset uids = UIDSET_INIT;
        struct purged purged;
        struct mailbox *m;
        char *before;
        bool aside = false;

        for (unsigned i = 0; i < n; i++)
                if (i % 4)
                        uidset_add(&uids, recs[i].uid);
        cr_assert_eq(replica_expunge(s, "user.joe", ID_1, &uids, &err), REPLICA_OK, "%s", err.text);
        uidset_deinit(&uids);
        cr_assert_eq(replica_open(s, "user.joe", &m, &err), 0);
        cr_assert_eq(mailbox_purge_expunged(m, INT64_MAX, &purged, &err), 0, "%s", err.text);
        cr_expect_gt(purged.messages, n / 2);
        before = strdup(gen_dump(s, "user.joe", true));
        cr_assert_eq(mailbox_compact(m, &err), 0, "%s", err.text);
        for (uint32_t i = 0; i < m->segs_n; i++)
                aside = aside || m->segs[i]->kind == MLOG_ADOPTED;
        cr_assert_not(aside, "nothing was compacted");
        cr_expect_str_eq(gen_dump(s, "user.joe", true), before);
        rebuild(s, "user.joe");
        cr_expect_str_eq(gen_dump(s, "user.joe", true), before);
        expect_whole(s, "user.joe");
        free(before);
        mailbox_unref(&m);
}

/* Above a megabyte messages are written aside; above 64 KiB they are files of their own. */
Test(replica, a_large_mailbox_comes_in_one_go)
{
        enum { N = 1200 };
        struct store *s = open_store();
        struct replica_record *recs = calloc(N, sizeof *recs);
        struct replica_apply a;
        struct mailbox *m;
        struct msg msg;

        for (unsigned i = 0; i < N; i++) {
                size_t size = i % 100 == 7 ? 100000 : 1500;

                recs[i] = gen_record(&up, 3 * i + 1, i, size, N - i + 5);
                gen_upload(&up, i, size);
                recs[i].flags = i % 3 == 0 ? MSG_SEEN : 0;
                if (i % 7 == 0) {
                        recs[i].keywords = words;
                        recs[i].keywords_n = 1 + i % 2;
                }
                if (i % 11 == 0) {
                        recs[i].annots = notes;
                        recs[i].annots_n = 2;
                }
                if (i % 13 == 5)
                        recs[i].flags |= MSG_EXPUNGED;
        }
        a = gen_apply(&up, "user.joe", ID_1, recs, N);
        a.values.last_appenddate = 1700000000;  /* below the messages' */
        APPLY(s, &a, REPLICA_OK);
        EXPECT(s, &a);
        cr_assert_eq(replica_open(s, "user.joe", &m, &err), 0);
        for (unsigned i = 0; i < N; i += 50) {
                struct extent x;

                cr_assert_eq(mailbox_message(m, recs[i].uid, &msg, &err), 0, "%s", err.text);
                cr_assert_eq(mailbox_body(m, &msg, &x, &err), 0, "%u: %s", recs[i].uid, err.text);
                file_unref(&x.file);
        }
        mailbox_unref(&m);
        rebuild(s, "user.joe");
        EXPECT(s, &a);
        expect_whole(s, "user.joe");
        close_store(&s);
        s = open_store();
        EXPECT(s, &a);
        compact_what_is_aside(s, recs, N);
        close_store(&s);
        free(recs);
}

/* A replica that was killed is not ahead of its master. */
Test(replica, no_modseq_is_jumped_over_after_an_unclean_stop)
{
        struct replica_apply a;
        struct store *s;
        pid_t child = fork();
        int status;

        if (child == 0) {
                s = open_store();
                a = make_five();
                _exit(replica_apply(s, &a, &err) == REPLICA_OK ? 0 : 1);
        }
        waitpid(child, &status, 0);
        cr_assert_eq(status, 0);
        s = open_store();
        a = make_five();
        EXPECT(s, &a);
        close_store(&s);
}

/* … but one that is used has its jump. */
Test(replica, modseqs_given_here_are_jumped_over)
{
        struct replica_values v;
        struct arena arena = ARENA_INIT;
        struct store *s;
        pid_t child = fork();
        int status;

        if (child == 0) {
                struct replica_apply a;
                struct mailbox *m;
                struct uidset uids = UIDSET_INIT;
                struct flag_change change = { .how = FLAGS_ADD, .flags = MSG_DRAFT };
                struct waiter w;
                uint64_t modseq;

                s = open_store();
                a = make_five();
                if (replica_apply(s, &a, &err) != REPLICA_OK || replica_open(s, "user.joe", &m, &err) < 0)
                        _exit(1);
                uidset_add(&uids, 1);
                waiter_init_blocking(&w);
                if (mailbox_store_flags(m, &uids, &change, UINT64_MAX, NULL, NULL, &modseq, &w, &err) < 0 || waiter_block(&w, &err) < 0)
                        _exit(2);
                /* The end of the quiet waited for the disk: without threads, at once. */
                mailbox_lock(m);
                if (m->durable_mark != m->end_mark)
                        _exit(3);
                mailbox_unlock(m);
                _exit(0);
        }
        waitpid(child, &status, 0);
        cr_assert_eq(status, 0, "%d", WEXITSTATUS(status));
        s = open_store();
        cr_assert_eq(replica_read(s, "user.joe", &arena, &v, &err), 0, "%s", err.text);
        cr_expect_eq(v.highestmodseq, 8 + 65536);
        arena_deinit(&arena);
        close_store(&s);
}

Test(replica, expunging_silently)
{
        struct store *s = open_store();
        struct replica_apply a = make_five(), b;
        struct uidset uids = UIDSET_INIT;
        struct replica_record after[5];
        struct mailbox_status status;
        struct mailbox *m;

        APPLY(s, &a, REPLICA_OK);
        uidset_add(&uids, 3);
        uidset_add(&uids, 4);
        uidset_add(&uids, 9);
        uidset_add(&uids, 400);
        cr_expect_eq(replica_expunge(s, "user.joe", ID_2, &uids, &err), REPLICA_MOVED);
        cr_expect_eq(replica_expunge(s, "user.jim", ID_1, &uids, &err), REPLICA_NONEXISTENT);
        EXPECT(s, &a);
        cr_assert_eq(replica_expunge(s, "user.joe", ID_1, &uids, &err), REPLICA_OK, "%s", err.text);
        memcpy(after, five, sizeof five);
        after[1].flags |= MSG_EXPUNGED;
        after[4].flags |= MSG_EXPUNGED;
        b = gen_apply(&up, "user.joe", ID_1, after, 5);
        EXPECT(s, &b);
        cr_assert_eq(replica_open(s, "user.joe", &m, &err), 0);
        mailbox_status(m, &status);
        cr_expect_eq(status.messages, 2);
        mailbox_unref(&m);
        rebuild(s, "user.joe");
        EXPECT(s, &b);
        uidset_deinit(&uids);
        close_store(&s);
}

/* ---- who is told ---- */

static struct { unsigned mailbox, name, other, unmarked, local; } told;

static void on_change(void *ctx, const struct change *c)
{
        (void)ctx;
        *(c->kind == CHANGE_MAILBOX ? &told.mailbox : c->kind == CHANGE_NAME ? &told.name : &told.other) += 1;
        told.unmarked += !(c->marks & CHANGE_REPLICATED);
        told.local += (c->marks & CHANGE_LOCAL) != 0;
}

static unsigned watched;
static void on_watch(struct mailbox_watch *w) { (void)w; watched++; }

Test(replica, watchers_and_the_feed_are_told_and_know_where_it_comes_from)
{
        struct store *s = open_store();
        struct replica_apply a = make_five();
        struct change_subscriber sub = { .fn = on_change };
        struct mailbox_watch w = { .fn = on_watch };
        struct seen_state seen = { .uids = UIDSET_INIT, .lastuid = 3 };
        int64_t limits[QUOTA_RESOURCES] = { 100, QUOTA_UNLIMITED, QUOTA_UNLIMITED, QUOTA_UNLIMITED };
        struct mailbox *m;

        change_subscribe(s, &sub);
        APPLY(s, &a, REPLICA_OK);
        cr_expect_geq(told.mailbox, 1);
        cr_expect_geq(told.name, 1);
        cr_expect_eq(told.unmarked, 0);
        cr_assert_eq(replica_open(s, "user.joe", &m, &err), 0);
        mailbox_watch(m, &w);
        five[0].flags = MSG_FLAGGED;
        five[0].modseq = 8;
        a = gen_apply(&up, "user.joe", ID_1, five, 5);
        APPLY(s, &a, REPLICA_OK);
        cr_expect_geq(watched, 1);
        mailbox_unwatch(m, &w);
        mailbox_unref(&m);
        cr_expect_eq(replica_set_sub(s, "joe", "user.joe", true, &err), REPLICA_OK);
        cr_expect_eq(replica_set_seen(s, "mary", ID_1, &seen, &err), REPLICA_OK);
        cr_expect_eq(replica_set_quota(s, "user.joe", limits, 9, &err), REPLICA_OK);
        cr_expect_eq(replica_set_annot(s, "", "/comment", "", SPAN("x"), &err), REPLICA_OK);
        cr_expect_geq(told.other, 4);
        cr_expect_eq(told.unmarked, 0);
        cr_expect_eq(told.local, 0);
        cr_expect_eq(replica_delete(s, "user.joe", true, &err), REPLICA_OK);
        cr_expect_geq(told.local, 1);
        cr_expect_eq(told.unmarked, 0);
        cr_expect_eq(change_marks(), 0);
        change_unsubscribe(s, &sub);
        close_store(&s);
}

/* ---- calls that fail ---- */

static unsigned calls, fail_at;

static int fault(const char *call)
{
        (void)call;
        return ++calls == fail_at ? EIO : 0;
}

/* Each call (each `step`-th) in turn fails: granted or not, after the next start the mailbox is what it was, or what the master has. Returns how many there were. */
static unsigned each_call_fails(struct replica_apply *before, struct replica_apply *after, unsigned step)
{
        bool failed = true;
        unsigned at;

        for (at = 1; failed && at < 300; at += step) {
                enum replica_code code;
                struct store *s;
                char *is, *was, *is_to_be;

                scratch_remove();
                scratch_make();
                s = scratch_open("delete_mode: immediate\n");
                before->ctx = after->ctx = &up;
                if (before->values.name)
                        APPLY(s, before, REPLICA_OK);
                was = before->values.name ? gen_expected(before) : strdup("error notfound: no mailbox user.joe");
                is_to_be = gen_expected(after);
                calls = 0;
                fail_at = at;
                fs_fault = fault;
                code = replica_apply(s, after, &err);
                failed = calls >= at;
                fs_fault = NULL;
                cr_expect(code == REPLICA_OK || failed, "call %u: %d %s", at, code, err.text);
                store_close(&s);
                s = scratch_open("delete_mode: immediate\n");
                is = strdup(gen_dump(s, "user.joe", true));
                /* The list's entry is a transaction of its own: made, and the batch not there – then it was deleted again, or is empty. */
                if (code == REPLICA_OK)
                        cr_expect_str_eq(is, is_to_be, "call %u", at);
                else
                        cr_expect(strcmp(is, was) == 0 || strcmp(is, is_to_be) == 0 || (!before->values.name && !strstr(is, "flags=")), "call %u: %s",
                                  at, is);
                free(is);
                free(was);
                free(is_to_be);
                store_close(&s);
        }
        return at - 2 * step;
}

Test(replica, whatever_fails_nothing_is_half_applied)
{
        static struct replica_record all[6], large[60];
        struct replica_apply none = { .values = { .name = NULL } }, a, b, c;
        struct store *s = open_store();                 /* the uploads outlive it: their octets are in memory */

        a = make_five();
        memcpy(all, five, sizeof five);
        all[0].flags = MSG_FLAGGED;
        all[0].modseq = 8;
        all[2].annots_n = 1;
        all[2].modseq = 9;
        all[4].flags = MSG_EXPUNGED;
        all[4].modseq = 10;
        all[5] = gen_record(&up, 12, 50, 300, 11);
        gen_upload(&up, 50, 300);
        b = gen_apply(&up, "user.joe", ID_1, all, 6);
        for (unsigned i = 0; i < 60; i++) {
                large[i] = gen_record(&up, i + 1, 100 + i, 40000, i + 2);
                gen_upload(&up, 100 + i, 40000);
        }
        c = gen_apply(&up, "user.joe", ID_1, large, 60);
        store_close(&s);
        cr_expect_geq(each_call_fails(&a, &b, 1), 2);
        cr_expect_geq(each_call_fails(&none, &a, 2), 8);
        cr_expect_geq(each_call_fails(&none, &c, 3), 12);          /* built aside */
        gen_uploads_end(&up);
}
