/* Access control lists: RFC 4314 and Cyrus's legacy rights. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "store/acl.h"
#include "util/array.h"

static uint32_t parse(const char *text)
{
        struct err err = ERR_INIT;
        uint32_t rights;

        cr_assert_eq(acl_parse_rights(span_of(text), &rights, &err), 0, "%s: %s", text, err.text);
        return rights;
}

Test(acl, rights_are_printed_in_canonical_order_with_legacy_letters)            /* RFC 4314 2.1.1 */
{
        static const struct { const char *in, *out; } table[] = {
                { "", "" },
                { "lrs", "lrs" },
                { "srl", "lrs" },
                { "lrswipkxte", "lrswipkxtecd" },               /* as Cyrus stores it */
                { "lrswipkxtecdan", "lrswipkxtecdan" },
                { "c", "kxc" },
                { "d", "ted" },
                { "kc", "kc" },                                 /* a member named: c adds nothing */
                { "ck", "kc" },
                { "xc", "xc" },
                { "td", "td" },
                { "ed", "ed" },
                { "cd", "kxtecd" },
                { "a0519", "a0159" },
                { "llll", "l" },
        };
        char buf[ACL_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                cr_expect_str_eq(acl_format_rights(buf, parse(table[i].in)), table[i].out, "%s", table[i].in);
        cr_expect_str_eq(acl_format_rights(buf, UINT32_MAX), "lrswipkxtecdan0123456789");
}

Test(acl, an_unknown_letter_is_named)
{
        struct err err = ERR_INIT;
        uint32_t rights;

        cr_expect_eq(acl_parse_rights(SPAN("lrz"), &rights, &err), -1);
        cr_expect_eq(err.code, ERR_SYNTAX);
        cr_expect(strstr(err.text, "z"), "%s", err.text);
        cr_expect_eq(acl_parse_rights(SPAN("L"), &rights, &err), -1);
        cr_expect_eq(acl_parse_rights(SPAN("l\0r"), &rights, &err), -1);
        cr_expect_eq(acl_parse_rights(SPAN("l r"), &rights, &err), -1);
}

Test(acl, effective_rights)
{
        static const char *const staff[] = { "staff", "all", NULL };
        static const struct {
                const char *acl, *userid;
                const char *const *groups;
                const char *rights;
        } table[] = {
                { "ann\tlrs\t", "ann", NULL, "lrs" },
                { "ann\tlrs\t", "bob", NULL, "" },
                { "ann\tlrs", "ann", NULL, "lrs" },             /* the last TAB is missing */
                { "ann", "ann", NULL, "" },
                { "", "ann", NULL, "" },
                { NULL, "ann", NULL, "" },
                { "anyone\tlr\tann\tw\t", "ann", NULL, "lrw" },
                { "anyone\tlr\t-ann\tr\t", "ann", NULL, "l" },
                { "-ann\tr\tanyone\tlr\t", "ann", NULL, "l" },  /* order does not matter */
                { "-anyone\tr\tann\tlr\t", "ann", NULL, "l" },
                { "anyone\tlr\t", "anonymous", NULL, "lr" },    /* anyone includes anonymous */
                { "anyone\tlr\t", "", NULL, "lr" },
                { "anonymous\tl\t", "anonymous", NULL, "l" },
                { "anonymous\tl\t", "", NULL, "l" },
                { "anonymous\tl\t", NULL, NULL, "l" },
                { "anonymous\tl\t", "ann", NULL, "" },
                { "group:staff\tlri\t", "ann", staff, "lri" },
                { "group:staff\tlri\t", "ann", NULL, "" },
                { "group:other\tlri\t", "ann", staff, "" },
                { "group:staff\tlri\t-group:all\ti\t", "ann", staff, "lr" },
                { "group:\tl\t", "ann", staff, "" },
                { "-\tl\tann\tl\t", "ann", NULL, "l" },
                { "Ann\tl\t", "ann", NULL, "" },                /* identifiers are case-sensitive */
                { "ann\tlZr\t", "ann", NULL, "lr" },            /* a letter of the future */
                { "ann\tlrc\t", "ann", NULL, "lrkxc" },         /* a list of before RFC 4314 */
                { "group:ann\tl\t", "group:ann", NULL, "" },    /* nobody becomes a group by his name */
        };
        char buf[ACL_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                struct acl_identity who = { .userid = table[i].userid, .groups = table[i].groups };

                cr_expect_str_eq(acl_format_rights(buf, acl_rights(table[i].acl, &who)), table[i].rights, "row %zu", i);
        }
}

Test(acl, implicit_rights_cannot_be_taken_away)
{
        struct acl_identity owner = { .userid = "ann", .is_owner = true, .owner_rights = ACL_LOOKUP | ACL_ADMIN };
        struct acl_identity admin = { .userid = "root", .is_admin = true };

        cr_expect_eq(acl_rights("-ann\tlrsa\tann\tlrs\t", &owner), (uint32_t)(ACL_LOOKUP | ACL_ADMIN));
        cr_expect_eq(acl_rights("", &admin), (uint32_t)(ACL_LOOKUP | ACL_ADMIN));
        cr_expect_eq(acl_rights("root\tr\t", &admin), (uint32_t)(ACL_LOOKUP | ACL_ADMIN | ACL_READ));
}

Test(acl, changes)
{
        static const struct { const char *acl, *id; enum acl_mode mode; const char *rights, *result; } table[] = {
                { "", "ann", ACL_SET, "lrs", "ann\tlrs\t" },
                { NULL, "ann", ACL_ADD, "lrs", "ann\tlrs\t" },
                { "", "ann", ACL_REMOVE, "lrs", "" },
                { "ann\tlrs\t", "ann", ACL_SET, "l", "ann\tl\t" },
                { "ann\tlrs\t", "ann", ACL_ADD, "w", "ann\tlrsw\t" },
                { "ann\tlrs\t", "ann", ACL_REMOVE, "r", "ann\tls\t" },
                { "ann\tlrs\t", "ann", ACL_REMOVE, "lrs", "" },
                { "ann\tlrs\t", "ann", ACL_SET, "", "" },
                { "ann\tlrs\tbob\tl\t", "ann", ACL_SET, "r", "ann\tr\tbob\tl\t" },     /* the order is kept */
                { "ann\tlrs\t", "-ann", ACL_SET, "s", "ann\tlrs\t-ann\ts\t" },
                { "ann\tl\tann\tr\t", "ann", ACL_ADD, "w", "ann\tlw\t" },
                { "ann\tlkxte\t", "ann", ACL_REMOVE, "c", "ann\tlted\t" },
        };

        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                struct str out = STR_INIT;
                struct err err = ERR_INIT;

                cr_expect_eq(acl_change(table[i].acl, table[i].id, table[i].mode, parse(table[i].rights), &out, &err), 0);
                cr_expect_str_eq(out.data, table[i].result, "row %zu", i);
                str_deinit(&out);
        }
}

Test(acl, impossible_identifiers_and_endless_lists_are_refused)
{
        struct str out = STR_INIT, next = STR_INIT;
        struct err err = ERR_INIT;
        char id[32];
        int rc = 0;

        cr_expect_eq(acl_change("", "", ACL_SET, ACL_READ, &out, &err), -1);
        cr_expect_eq(acl_change("", "-", ACL_SET, ACL_READ, &out, &err), -1);
        cr_expect_eq(acl_change("", "a\tb", ACL_SET, ACL_READ, &out, &err), -1);
        cr_expect_eq(err.code, ERR_SYNTAX);
        cr_expect_eq(acl_change("", "a\nb", ACL_SET, ACL_READ, &out, &err), -1);
        for (unsigned i = 0; i < 20000 && rc == 0; i++) {
                snprintf(id, sizeof id, "some-user-%u", i);
                str_clear(&next);
                rc = acl_change(out.data, id, ACL_SET, ACL_FULL, &next, &err);
                if (rc == 0) {
                        struct str swap = out;

                        out = next;
                        next = swap;
                }
                if (i > 2500)
                        cr_assert_eq(rc, -1);
        }
        cr_expect_eq(err.code, ERR_LIMIT);
        str_deinit(&out);
        str_deinit(&next);
}
