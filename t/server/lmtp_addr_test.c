/* Paths and parameters of MAIL and RCPT (RFC 5321 4.1.2). */
#include "server/lmtp/addr.h"

#include <criterion/criterion.h>

static const struct {
        const char *in;
        int utf8;                               /* enum lmtp_8bit */
        bool null_ok;
        int rc;
        const char *local, *domain, *rest;
} paths[] = {
        { "<joe@example.org>", false, false, 0, "joe", "example.org", "" },
        { " <joe@example.org> SIZE=5", false, false, 0, "joe", "example.org", "SIZE=5" },
        { "<>", false, true, 0, "", "", "" },
        { "<>", false, false, -1, 0, 0, 0 },
        { "<joe>", false, false, 0, "joe", "", "" },
        { "<joe+a.b/c@x>", false, false, 0, "joe+a.b/c", "x", "" },
        { "<\"joe doe\"@x>", false, false, 0, "joe doe", "x", "" },
        { "<\"a\\\"b\"@x>", false, false, 0, "a\"b", "x", "" },
        { "<\"a>b\"@x> BODY=8BITMIME", false, false, 0, "a>b", "x", "BODY=8BITMIME" },
        { "<@relay,@other:joe@x>", false, false, 0, "joe", "x", "" },
        { "<joe@[127.0.0.1]>", false, false, 0, "joe", "[127.0.0.1]", "" },
        { "<joe@[127.0.0.1>", false, false, -1, 0, 0, 0 },
        { "<joe@x>y", false, false, -1, 0, 0, 0 },
        { "<joe@x", false, false, -1, 0, 0, 0 },
        { "joe@x", false, false, -1, 0, 0, 0 },
        { "<\"joe@x>", false, false, -1, 0, 0, 0 },
        { "<jo e@x>", false, false, -1, 0, 0, 0 },
        { "<@x>", false, false, -1, 0, 0, 0 },
        { "<joe@>", false, false, -1, 0, 0, 0 },
        { "<jo\xc3\xa9@x>", false, false, -1, 0, 0, 0 },
        { "<jo\xc3\xa9@x>", true, false, 0, "jo\xc3\xa9", "x", "" },
        { "<jo\xc3@x>", true, false, -1, 0, 0, 0 },
        { "<jo\xc3\xa9@x>", LMTP_8BIT_X, false, 0, "joXX", "x", "" },
        { "<jo\xe9> SIZE=1", LMTP_8BIT_X, false, 0, "joX", "", "SIZE=1" },
        { "<\"j \xe9\"@x>", LMTP_8BIT_X, false, 0, "j X", "x", "" },
        { "<joe@\xe9>", LMTP_8BIT_X, false, -1, 0, 0, 0 },
        { "", false, false, -1, 0, 0, 0 },
        { "<", false, false, -1, 0, 0, 0 },
};

Test(lmtp_addr, a_path_is_taken_apart_or_refused)
{
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
                struct arena arena = ARENA_INIT;
                struct err err = ERR_INIT;
                struct lmtp_path path;
                struct span rest;
                int rc = lmtp_path_parse(span_of(paths[i].in), (enum lmtp_8bit)paths[i].utf8, paths[i].null_ok, &arena, &path, &rest, &err);

                cr_expect_eq(rc, paths[i].rc, "%s: %s", paths[i].in, err.text);
                if (rc == 0 && paths[i].rc == 0) {
                        cr_expect(span_eq_str(path.local, paths[i].local), "local of %s: %.*s", paths[i].in, (int)path.local.len, path.local.p);
                        cr_expect(span_eq_str(path.domain, paths[i].domain), "domain of %s", paths[i].in);
                        cr_expect(span_eq_str(rest, paths[i].rest), "rest of %s", paths[i].in);
                }
                arena_deinit(&arena);
        }
}

Test(lmtp_addr, a_path_over_the_limit_is_refused)
{
        struct str s = STR_INIT;
        struct arena arena = ARENA_INIT;
        struct err err = ERR_INIT;
        struct lmtp_path path;
        struct span rest;

        str_append_c(&s, '<');
        for (int i = 0; i < LMTP_PATH_MAX + 1; i++)
                str_append_c(&s, 'a');
        str_append_c(&s, '>');
        cr_expect_eq(lmtp_path_parse(str_span(&s), false, false, &arena, &path, &rest, &err), -1);
        cr_expect_eq(err.code, ERR_LIMIT);
        str_deinit(&s);
        arena_deinit(&arena);
}

Test(lmtp_addr, parameters_are_known_or_refused)
{
        struct lmtp_params p;
        struct err err = ERR_INIT;

        cr_expect_eq(lmtp_params_parse(SPAN("SIZE=100 BODY=8BITMIME  smtputf8 AUTH=<> RET=HDRS"), false, &p, &err), 0);
        cr_expect_eq(p.size, 100);
        cr_expect(p.body_8bit && p.smtputf8);
        cr_expect_eq(lmtp_params_parse(SPAN("SIZE=1x"), false, &p, &err), -1);
        cr_expect_eq(err.code, ERR_SYNTAX);
        cr_expect_eq(lmtp_params_parse(SPAN("SIZE=99999999999999999999"), false, &p, &err), -1);
        cr_expect_eq(lmtp_params_parse(SPAN("FOO=1"), false, &p, &err), -1);
        cr_expect_eq(err.code, ERR_UNSUPPORTED);
        cr_expect_eq(lmtp_params_parse(SPAN("IGNOREQUOTA NOTIFY=NEVER"), true, &p, &err), 0);
        cr_expect(p.ignorequota);
        cr_expect_eq(lmtp_params_parse(SPAN("SIZE=1"), true, &p, &err), -1);
}

Test(lmtp_addr, the_submitter_is_kept_and_nobody_is_nobody)
{
        struct arena arena = ARENA_INIT;
        struct lmtp_params p;
        struct err err = ERR_INIT;
        static const struct { const char *in, *out; } words[] = {
                { "joe", "joe" }, { "joe+2Bx+3D", "joe+x=" }, { "+6A", "j" }, { "", "" },
                { "joe+", NULL }, { "joe+2", NULL }, { "joe+2G", NULL }, { "j=e", NULL }, { "j\xe9", NULL }, { "joe+00", NULL },
        };

        cr_expect_eq(lmtp_params_parse(SPAN("AUTH=joe+2Bx SIZE=1"), false, &p, &err), 0);
        cr_expect(span_eq_str(p.auth, "joe+2Bx"));
        cr_expect_eq(lmtp_params_parse(SPAN("AUTH=<>"), false, &p, &err), 0);
        cr_expect_eq(p.auth.len, 0);
        cr_expect_eq(lmtp_params_parse(SPAN("AUTH="), false, &p, &err), -1);
        cr_expect_eq(lmtp_params_parse(SPAN("AUTH"), false, &p, &err), -1);
        for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
                const char *out = NULL;
                int rc = lmtp_xtext_decode(span_of(words[i].in), &arena, &out, &err);

                cr_expect_eq(rc, words[i].out ? 0 : -1, "%s", words[i].in);
                if (rc == 0 && words[i].out)
                        cr_expect_str_eq(out, words[i].out);
        }
        arena_deinit(&arena);
}
