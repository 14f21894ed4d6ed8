/* Tests of server/masterconf: the grammar of cyrus.conf and where its errors are. */
#include "server/masterconf.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct masterconf *parse(const char *text, struct diag *d)
{
        struct masterconf *mc = NULL;
        struct err err = ERR_INIT;

        diag_init(d);
        if (masterconf_parse("c", span_of(text), &mc, d, &err) < 0)
                cr_assert_eq(err.code, ERR_CONFIG);
        return mc;
}

Test(masterconf, the_wrapper_cyrus_is_not_run_but_looked_through)
{
        static const struct { const char *cmd, *program; int argc; } rows[] = {
                { "/usr/sbin/cyrus ctl_cyrusdb -r", "ctl_cyrusdb", 2 },
                { "/usr/sbin/cyrus expire -E 3", "cyr_expire", 3 },
                { "cyrus mboxlist -d", "ctl_mboxlist", 2 },
                { "cyrus check", "chk_cyrus", 1 },
                { "cyrus tls_prune", "tls_prune", 1 },
                { "cyrus makedirs", "cyrus", 2 },
                { "cyrus", "cyrus", 1 },
        };

        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                struct diag d;
                char text[200];
                struct masterconf *mc;
                size_t pos = 0;
                const struct master_entry *e;

                snprintf(text, sizeof text, "START {\n  a cmd=\"%s\"\n}\n", rows[i].cmd);
                mc = parse(text, &d);
                cr_assert_not_null(mc);
                e = masterconf_next(mc, MASTER_START, &pos);
                cr_expect_str_eq(e->program, rows[i].program);
                cr_expect_eq(e->argc, rows[i].argc);
                cr_expect_null(e->argv[e->argc]);
                if (strcmp(rows[i].program, "cyrus") != 0)
                        cr_expect_str_eq(e->argv[0], rows[i].program);
                masterconf_destroy(&mc);
                diag_deinit(&d);
        }
}

Test(masterconf, a_file_as_debian_ships_it)
{
        struct diag d;
        struct masterconf *mc = parse("# a comment\n"
                "START {\n"
                "\trecover\t\tcmd=\"/usr/sbin/cyrus ctl_cyrusdb -r\"\n"
                "  idled cmd=idled }\n"
                "services\n{\n", &d);

        cr_expect_null(mc, "the brace stands in the line of the name");
        diag_deinit(&d);
        mc = parse("START { }\n"
                   "SERVICES {\n"
                   "  imap cmd=\"imapd -U 30\" listen=\"imap\" prefork=0 maxchild=100 # all\n"
                   "  lmtpunix cmd=\"lmtpd  -a\tx\" listen=/run/lmtp maxchild=-1\n"
                   "  six CMD=imapd LISTEN=[::1]:143 proto=TCP6 babysit=yes\n"
                   "  v4 cmd=/a/b/pop3d listen=127.0.0.1:pop3 provide_uuid=1 maxfds=9}\n"
                   "EVENTS {\n"
                   "  a cmd=\"ctl_cyrusdb -c\" period=30\n"
                   "  b cmd=x at=0401\n"
                   "  a cmd=x\n"
                   "}\n"
                   "DAEMON {\n  d cmd=idled wait=y\n}\n", &d);
        const struct master_entry *e;
        size_t pos = 0;

        cr_assert_not_null(mc, "%s", d.n ? d.v[0].text : "");
        cr_expect_eq(d.warnings, 0);
        e = masterconf_next(mc, MASTER_SERVICES, &pos);
        cr_expect_str_eq(e->name, "imap");
        cr_expect_str_eq(e->program, "imapd");
        cr_expect_eq(e->argc, 3);
        cr_expect_str_eq(e->argv[2], "30");
        cr_expect_null(e->argv[3]);
        cr_expect_str_eq(e->port, "imap");
        cr_expect_null(e->host);
        cr_expect_eq(e->maxchild, 100);
        e = masterconf_next(mc, MASTER_SERVICES, &pos);
        cr_expect_eq(e->proto, MASTER_UNIX);
        cr_expect_str_eq(e->listen, "/run/lmtp");
        cr_expect_eq(e->argc, 3);
        cr_expect_eq(e->maxchild, -1);
        e = masterconf_next(mc, MASTER_SERVICES, &pos);
        cr_expect_str_eq(e->host, "::1");
        cr_expect_str_eq(e->port, "143");
        cr_expect_eq(e->proto, MASTER_TCP6);
        cr_expect_eq(e->prefork, 1);
        cr_expect_eq(e->maxforkrate, 10);
        e = masterconf_next(mc, MASTER_SERVICES, &pos);
        cr_expect_str_eq(e->host, "127.0.0.1");
        cr_expect_str_eq(e->port, "pop3");
        cr_expect_str_eq(e->program, "pop3d");
        cr_expect_eq(e->maxfds, 9);
        cr_expect_null(masterconf_next(mc, MASTER_SERVICES, &pos));
        cr_expect_eq(masterconf_find(mc, MASTER_EVENTS, "a")->period_min, 30);
        cr_expect_eq(masterconf_find(mc, MASTER_EVENTS, "b")->at_min, 4 * 60 + 1);
        cr_expect_eq(masterconf_find(mc, MASTER_EVENTS, "b")->period_min, 1440);
        cr_expect(masterconf_find(mc, MASTER_DAEMON, "d")->wait);
        masterconf_destroy(&mc);
        diag_deinit(&d);
}

Test(masterconf, errors_have_their_place)
{
        static const struct { const char *text; unsigned line, column; } cases[] = {
                { "imap cmd=x listen=1\n", 1, 1 },
                { "FOO {\n}\n", 1, 1 },
                { "START {\n", 1, 1 },
                { "START\n", 1, 6 },
                { "START { a cmd=b\n}\n", 1, 9 },
                { "START {\n}\nSTART {\n}\n", 3, 1 },
                { "START {\n im-ap cmd=x\n}\n", 2, 4 },
                { "START {\n a\n}\n", 2, 2 },
                { "START {\n a cmd\n}\n", 2, 7 },
                { "START {\n a =x\n}\n", 2, 4 },
                { "START {\n a cmd=\"x y\n}\n", 2, 8 },
                { "START {\n a cmd=\"x # y\"\n}\n", 2, 8 },
                { "START {\n a cmd=\"  \"\n}\n", 2, 9 },
                { "START {\n a cmd=x cmd=y\n}\n", 2, 10 },
                { "SERVICES {\n a cmd=x\n}\n", 2, 2 },
                { "SERVICES {\n a listen=1\n}\n", 2, 2 },
                { "SERVICES {\n a cmd=x listen=1\n a cmd=x listen=2\n}\n", 3, 2 },
                { "SERVICES {\n a cmd=x listen=70000\n}\n", 2, 17 },
                { "SERVICES {\n a cmd=x listen=h:\n}\n", 2, 19 },
                { "SERVICES {\n a cmd=x listen=:1\n}\n", 2, 17 },
                { "SERVICES {\n a cmd=x listen=::1:143\n}\n", 2, 17 },
                { "SERVICES {\n a cmd=x listen=[::1]\n}\n", 2, 17 },
                { "SERVICES {\n a cmd=x listen=[::1]:0\n}\n", 2, 23 },
                { "SERVICES {\n a cmd=x listen=1 prefork=-1\n}\n", 2, 27 },
                { "SERVICES {\n a cmd=x listen=1 prefork=many\n}\n", 2, 27 },
                { "SERVICES {\n a cmd=x listen=1 proto=sctp\n}\n", 2, 25 },
                { "SERVICES {\n a cmd=x listen=1 babysit=q\n}\n", 2, 27 },
                { "EVENTS {\n a cmd=x at=2460\n}\n", 2, 13 },
                { "EVENTS {\n a cmd=x at=2400\n}\n", 2, 13 },
                { "EVENTS {\n a cmd=x at=4\n}\n", 2, 13 },
                { "EVENTS {\n a cmd=x period=\n}\n", 2, 17 },
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct diag d;

                cr_expect_null(parse(cases[i].text, &d), "%s", cases[i].text);
                cr_assert_gt(d.n, 0);
                cr_expect_eq(d.v[0].line, cases[i].line, "%s: line %u", cases[i].text, d.v[0].line);
                cr_expect_eq(d.v[0].column, cases[i].column, "%s: column %u (%s)", cases[i].text, d.v[0].column, d.v[0].text);
                diag_deinit(&d);
        }
}

Test(masterconf, unknown_keys_are_only_reported)
{
        struct diag d;
        struct masterconf *mc = parse("EVENTS {\n a cmd=x colour=red listen=1\n}\n", &d);

        cr_assert_not_null(mc);
        cr_expect_eq(d.warnings, 2);
        cr_expect_eq(d.v[0].column, 10);
        masterconf_destroy(&mc);
        diag_deinit(&d);
}

Test(masterconf, a_command_has_at_most_64_words)
{
        struct str s = STR_INIT;
        struct diag d;

        str_append_str(&s, "START {\n a cmd=\"");
        for (int i = 0; i < 65; i++)
                str_append_str(&s, "w ");
        str_append_str(&s, "\"\n}\n");
        cr_expect_null(parse(s.data, &d));
        cr_expect_eq(d.v[0].line, 2);
        diag_deinit(&d);
        str_deinit(&s);
}

Test(masterconf, entries_are_compared_by_what_they_ask_for)
{
        struct diag d1, d2;
        struct masterconf *a = parse("SERVICES {\n a cmd=\"x  y\" listen=1\n b cmd=x listen=h:1\n}\n", &d1);
        struct masterconf *b = parse("SERVICES {\n\n a listen=1 cmd=\"x y\"\n b cmd=x listen=h:1 maxchild=3\n}\n", &d2);

        cr_expect(master_entry_same(a->v[0], b->v[0]));
        cr_expect_not(master_entry_same(a->v[1], b->v[1]));
        cr_expect(master_entry_same_address(a->v[1], b->v[1]));
        cr_expect_not(master_entry_same_address(a->v[0], b->v[1]));
        masterconf_destroy(&a);
        masterconf_destroy(&b);
        diag_deinit(&d1);
        diag_deinit(&d2);
}
