/* Tests of server/names (programs and their arguments), server/schedule's clock and server/options. */
#include "server/names.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/options.h"
#include "server/schedule.h"

Test(names, the_table_is_sorted_and_complete)
{
        size_t n;
        const struct program *p = program_table(&n);

        for (size_t i = 0; i < n; i++) {
                if (i > 0)
                        cr_expect_lt(strcmp(p[i - 1].name, p[i].name), 0, "%s", p[i].name);
                cr_expect_eq(program_find(p[i].name), &p[i]);
                if (p[i].kind == PROGRAM_SERVICE)
                        cr_expect_neq(p[i].built, p[i].refusal != NULL, "%s: served or refused", p[i].name);
        }
        cr_expect_null(program_find("cyrd"));
        cr_expect_null(program_find(""));
        cr_expect_null(program_find("imapd2"));
}

static int parse(const char *words, struct service_args *a, struct err *err)
{
        static char buf[300];
        char *argv[20], *save;
        int argc = 0;

        snprintf(buf, sizeof buf, "%s", words);
        for (char *w = strtok_r(buf, " ", &save); w; w = strtok_r(NULL, " ", &save))
                argv[argc++] = w;
        argv[argc] = NULL;
        return service_args_parse(program_find(argv[0]), argc, argv, a, err);
}

Test(names, arguments_of_services)
{
        static const struct { const char *cmd; bool fine; } cases[] = {
                { "imapd", true }, { "imapd -s", true }, { "imapd -C /x -U 30 -T 60 -D -s -N -p 2 -q", true },
                { "imapd -a", false }, { "imapd -sN", false }, { "imapd -p2", false }, { "imapd -p", false },
                { "imapd -p many", false }, { "imapd -U x", false }, { "imapd x", false }, { "imapd -", false },
                { "imapd -:", false }, { "imapd --", false }, { "imapd -H", false },
                { "lmtpd -a", true }, { "lmtpd -s", false }, { "pop3d -k -s", true }, { "timsieved -s", false },
                { "sync_server -f -p 1", true }, { "mupdate -m", true }, { "nntpd -anything at all", true },
        };
        struct service_args a;
        struct err err;

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
                cr_expect_eq(parse(cases[i].cmd, &a, &err) == 0, cases[i].fine, "%s", cases[i].cmd);
        cr_assert_eq(parse("imapd -C /x -s -p 56 -N", &a, &err), 0);
        cr_expect_str_eq(a.config, "/x");
        cr_expect(a.tls && a.no_password && !a.preauth);
        cr_expect_eq(a.external_ssf, 56);
        cr_assert_eq(parse("lmtpd -a", &a, &err), 0);
        cr_expect(a.preauth && !a.tls);
}

Test(schedule, the_next_time_of_day_is_never_now_and_within_a_day)
{
        setenv("TZ", "UTC", 1);
        tzset();
        cr_expect_eq(schedule_next_at(0, 1), 60);
        cr_expect_eq(schedule_next_at(60, 1), 86400 + 60, "at the very second it is due the next day");
        cr_expect_eq(schedule_next_at(61, 1), 86400 + 60);
        cr_expect_eq(schedule_next_at(86399, 0), 86400);
}

Test(schedule, a_day_may_have_23_or_25_hours)
{
        /* 26 March 2023 02:00 → 03:00, 29 October 2023 03:00 → 02:00 */
        setenv("TZ", "Europe/Berlin", 1);
        tzset();
        if (tzname[0] && strcmp(tzname[0], "CET") != 0)
                cr_skip_test("no time zone data");
        cr_expect_eq(schedule_next_at(1679742060, 4 * 60 + 1), 1679796060, "04:01 CET to 04:01 CEST");
        cr_expect_eq(schedule_next_at(1698458460, 4 * 60 + 1), 1698548460, "04:01 CEST to 04:01 CET");
}

Test(options, clusters_and_joined_arguments)
{
        struct daemon_options o;
        char *a[] = { "master", "-dD", "-l", "7", "-C/x", "-M", "/y", "-j", "3", "-J5", "-p/z", "-tv", NULL };

        cr_assert_eq(options_parse(12, a, true, &o), 0);
        cr_expect(o.background && o.keep_stdio && o.test_only && o.verbose);
        cr_expect_eq(o.backlog, 7);
        cr_expect_str_eq(o.conf_path, "/x");
        cr_expect_str_eq(o.masterconf_path, "/y");
        cr_expect_str_eq(o.pidfile, "/z");
        char *b[] = { "cyrd", "--demo", "/d", "--portbase", "20000", NULL };
        cr_assert_eq(options_parse(5, b, false, &o), 0);
        cr_expect_str_eq(o.demo_dir, "/d");
        cr_expect_eq(o.portbase, 20000);
        cr_expect_null(o.pidfile);
        char *c[] = { "cyrd", NULL };
        cr_assert_eq(options_parse(1, c, false, &o), 0);
        cr_expect_eq(o.portbase, -1);
}
