/* replica - the sync CRCs: every vector is one of a real Cyrus's (csync 8). */
#include <criterion/criterion.h>

#include "store/replica.h"
#include "util/hash.h"

TestSuite(replica_crc, .timeout = 30);

struct line {
        uint32_t uid;
        uint64_t modseq;
        int64_t last_updated;
        uint32_t flags;
        const char *keywords[3];
        int64_t internaldate;
        const char *guid;
        int64_t savedate;
        uint64_t createdmodseq, thrid;
        struct annot annots[2];
};

#define G1 "7b4cfecdf164b0cf3bbd9f3a5586bb77de23581f"
#define G2 "c0a2d071e5421a56c279364ab10abf0e96c79814"
#define G3 "6f538a3e35a48b16c6167b14cb9c24d8ce4c6c5d"
#define G4 "63d4ac6deab6babff69db82a6162d767340360e2"
#define G5 "ceb9e147d36c4ccc0cee5331df3b6cebddfca394"
#define G6 "0772725b2e8269e6bdb30bd74cb626cf0eecdfef"
#define TEXT(s) { s, sizeof s - 1 }

static struct replica_crcs crcs_of(const struct line *lines, size_t n)
{
        struct replica_crcs crcs = { 0, REPLICA_CRC_ANNOT_EMPTY };

        for (size_t i = 0; i < n; i++) {
                const struct line *l = &lines[i];
                struct replica_record rec = { .uid = l->uid, .modseq = l->modseq, .last_updated = l->last_updated, .flags = l->flags,
                        .keywords = l->keywords, .internaldate = l->internaldate, .savedate = l->savedate, .createdmodseq = l->createdmodseq,
                        .thrid = l->thrid, .annots = l->annots };

                while (rec.keywords_n < 3 && l->keywords[rec.keywords_n])
                        rec.keywords_n++;
                while (rec.annots_n < 2 && l->annots[rec.annots_n].entry)
                        rec.annots_n++;
                cr_assert(hex_decode(rec.guid, span_of(l->guid)));
                replica_crc_record(&crcs, &rec);
        }
        return crcs;
}

#define CHECK(lines, b, a) \
        do { \
                struct replica_crcs crcs = crcs_of(lines, sizeof(lines) / sizeof *(lines)); \
                cr_expect_eq(crcs.basic, b, "basic %u", crcs.basic); \
                cr_expect_eq(crcs.annot, a, "annot %u", crcs.annot); \
        } while (0)

#define ONE   { 1, 3, 1795310300, 0, { 0 }, 1706781600, G1, 1795310300, 3, 0, { { 0 } } }
#define TWO   { 2, 4, 1795310300, MSG_SEEN, { 0 }, 1706868000, G2, 1795310300, 4, 0, { { 0 } } }
#define THREE { 3, 5, 1795310300, MSG_ANSWERED | MSG_FLAGGED, { "$Label1", "foo" }, 1706954400, G3, 1795310300, 5, 0, { { 0 } } }
#define FOUR  { 4, 6, 1795310301, MSG_DELETED | MSG_DRAFT, { "NonJunk" }, 1707040800, G4, 1795310301, 6, 0, { { 0 } } }
#define FIVE  { 5, 7, 1795310301, MSG_FLAGGED | MSG_SEEN, { 0 }, 1707127200, G5, 1795310301, 7, 0, { { 0 } } }
#define ONE_B { 1, 8, 1795310328, MSG_SEEN, { "$New" }, 1706781600, G1, 1795310300, 3, 0, { { 0 } } }
#define FOUR_B { 4, 9, 1795310328, MSG_DELETED | MSG_DRAFT | MSG_EXPUNGED, { "NonJunk" }, 1707040800, G4, 1795310301, 6, 0, { { 0 } } }
#define SIX   { 6, 10, 1795310329, 0, { 0 }, 1795310329, G6, 1795310329, 10, 0, { { 0 } } }

Test(replica_crc, vector_1_an_empty_mailbox)
{
        struct replica_crcs crcs = crcs_of(NULL, 0);

        cr_expect_eq(crcs.basic, 0);
        cr_expect_eq(crcs.annot, 12345678);
}

Test(replica_crc, vector_2)
{
        static const struct line lines[] = {
                { 1, 2, 1795310144, MSG_SEEN, { "$foo" }, 1704103200, "407ff1bca51502cee95b2b2f64eddbb366a2dd0f", 1795310144, 2, 0, { { 0 } } },
                { 2, 4, 1795310144, MSG_FLAGGED, { "$bar" }, 1704189600, "5bbd780be34db329e14ef89cc5485f99e1276570", 1795310144, 3, 0, { { 0 } } },
        };

        CHECK(lines, 321929889u, 3487200798u);
}

Test(replica_crc, vector_3)
{
        static const struct line lines[] = { ONE, TWO, THREE, FOUR, FIVE };

        CHECK(lines, 3151334822u, 1010364930u);
}

Test(replica_crc, vector_4)
{
        static const struct line lines[] = {
                { 1, 2, 1795310301, 0, { 0 }, 1706781600, G1, 1795310301, 2, 0, { { 0 } } },
                { 2, 3, 1795310301, MSG_SEEN, { 0 }, 1706868000, G2, 1795310301, 3, 0, { { 0 } } },
                { 3, 4, 1795310301, MSG_ANSWERED | MSG_FLAGGED, { "$Label1", "foo" }, 1706954400, G3, 1795310301, 4, 0, { { 0 } } },
        };

        CHECK(lines, 332602530u, 2091677916u);
}

Test(replica_crc, vector_5_what_is_expunged_does_not_count)
{
        static const struct line lines[] = { ONE_B, TWO, THREE, FOUR_B, FIVE };

        CHECK(lines, 2232402742u, 335792988u);
}

Test(replica_crc, vector_6)
{
        static const struct line lines[] = { ONE_B, TWO, THREE, FOUR_B, FIVE, SIX };

        CHECK(lines, 2270445614u, 2351030608u);
}

Test(replica_crc, vector_7_with_annotations)
{
        static const struct line lines[] = {
                { 1, 17, 1795311173, MSG_SEEN, { "$New" }, 1706781600, G1, 1795310300, 3, 0,
                  { { "/comment", "", TEXT("both"), 0 }, { "/comment", "user2", TEXT("hi"), 0 } } },
                { 2, 12, 1795310330, MSG_SEEN, { 0 }, 1706868000, G2, 1795310300, 4, 0, { { 0 } } },
                THREE, FIVE, SIX,
        };

        CHECK(lines, 2690064577u, 2190123809u);
}

Test(replica_crc, vector_8_all_kinds_of_annotations)
{
        static const struct line lines[] = {
                { 1, 12, 1700000300, MSG_SEEN, { 0 }, 1700000050, "30e238bbe5a8adf95864a93b537991f8050f336c", 1700000060, 3, 0xabcde,
                  { { "/comment", "own", TEXT("sp \"q\" \\ x"), 0 } } },
        };

        CHECK(lines, 4004778773u, 4124378622u);
}

Test(replica_crc, keywords_count_whatever_their_case)
{
        static const struct line a[] = { THREE };
        static const struct line b[] = {
                { 3, 5, 1795310300, MSG_ANSWERED | MSG_FLAGGED, { "FOO", "$label1" }, 1706954400, G3, 1795310300, 5, 0, { { 0 } } } };

        cr_expect_eq(crcs_of(a, 1).basic, crcs_of(b, 1).basic);
}

Test(replica_crc, zero_is_unknown_when_two_are_compared)
{
        cr_expect(replica_crcs_match((struct replica_crcs){ 1, 2 }, (struct replica_crcs){ 0, 2 }));
        cr_expect(replica_crcs_match((struct replica_crcs){ 1, 2 }, (struct replica_crcs){ 1, 0 }));
        cr_expect_not(replica_crcs_match((struct replica_crcs){ 1, 2 }, (struct replica_crcs){ 3, 2 }));
        cr_expect_not(replica_crcs_match((struct replica_crcs){ 1, 2 }, (struct replica_crcs){ 1, 3 }));
}

Test(replica_crc, annotations_go_to_the_wire_and_back)
{
        struct arena arena = ARENA_INIT;
        static const struct annot real[] = { { "/comment", "", TEXT("x"), 5 }, { "/comment", "u", TEXT("y"), 6 } };
        struct replica_record rec = { .uid = 7, .thrid = 0xabcde, .savedate = 1700000060, .createdmodseq = 3, .annots = real, .annots_n = 2 };
        struct replica_record back = { .uid = 7 };
        struct annot *list;
        struct err err = ERR_INIT;
        uint32_t n = replica_wire_annots(&rec, &arena, &list);

        cr_assert_eq(n, 5);
        cr_expect(span_eq_str(list[2].value, "00000000000abcde"));
        cr_expect_str_eq(list[4].entry, REPLICA_CREATEDMODSEQ);
        cr_assert_eq(replica_take_annots(&back, list, n, &arena, &err), 0, "%s", err.text);
        cr_expect_eq(back.thrid, rec.thrid);
        cr_expect_eq(back.savedate, rec.savedate);
        cr_expect_eq(back.createdmodseq, rec.createdmodseq);
        cr_expect_eq(back.annots_n, 2);
        list[3].value = SPAN("soon");
        cr_expect_eq(replica_take_annots(&back, list, n, &arena, &err), -1);
        cr_expect_eq(err.code, ERR_SYNTAX);
        arena_deinit(&arena);
}

Test(replica_crc, options_have_letters)
{
        struct str s = STR_INIT;

        cr_expect_eq(replica_options_parse(SPAN("PSDA?")),
                     MBOX_POP3_NEW_UIDL | MBOX_SHARED_SEEN | MBOX_DUPLICATE_DELIVER | MBOX_HAS_ALARMS);
        replica_options_text(MBOX_POP3_NEW_UIDL | MBOX_DUPLICATE_DELIVER | MBOX_CONDSTORE, &s);
        cr_expect_str_eq(s.data, "PD");
        str_deinit(&s);
        cr_expect(replica_uniqueid_ok(SPAN("edsjut4iltvia1nva20dnky1")));
        cr_expect(replica_uniqueid_ok(SPAN("00c0ffee00c0ffee")));
        cr_expect_not(replica_uniqueid_ok(SPAN("edsjut4iltvia1nva20dnky")));
        cr_expect_not(replica_uniqueid_ok(SPAN("../../../../../../../etc")));
        cr_expect_not(replica_uniqueid_ok(SPAN("00c0ffee00c0ffeg")));
}
