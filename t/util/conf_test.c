/* Tests of util/conf: the grammar of imapd.conf, types, services, errors with their place, the option table. */
#include "util/conf.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

struct text_file { const char *path, *text; };

static int slurp_texts(void *context, const char *path, struct str *out, struct err *err)
{
        for (const struct text_file *f = context; f->path; f++)
                if (strcmp(f->path, path) == 0) {
                        str_append_str(out, f->text);
                        return 0;
                }
        return err_set(err, ERR_NOTFOUND, "%s: no such file", path);
}

static struct conf *load_files(struct text_file *files, struct diag *d)
{
        struct conf_source source = { slurp_texts, files };
        struct conf *c = NULL;
        struct err err = ERR_INIT;

        diag_init(d);
        if (conf_load("/etc/a", &source, &c, d, &err) < 0)
                cr_assert_neq(err.code, ERR_NONE);
        return c;
}

static struct conf *load(const char *text, struct diag *d)
{
        struct text_file files[] = { { "/etc/a", text }, { NULL, NULL } };

        return load_files(files, d);
}

static const char *first_message(const struct diag *d)
{
        static char buf[1000];
        struct str s = STR_INIT;

        if (d->n == 0)
                return "";
        diag_format(&d->v[0], &s);
        snprintf(buf, sizeof buf, "%s", s.data);
        str_deinit(&s);
        return buf;
}

Test(conf, errors_name_file_line_and_column)
{
        static const struct { const char *text, *message; } cases[] = {
                { "admins cyrus\n", "/etc/a:1:7: bad character in the option name" },
                { "\n# x\n  admins\n", "/etc/a:3:9: no \":\" after the option name" },
                { "admins:   \n", "/etc/a:1:7: option \"admins\" has no value" },
                { "debug: maybe\n", "/etc/a:1:8: debug: \"maybe\" is not yes or no" },
                { "debug: yes\ntimeout: 5 parsecs\n",
                  "/etc/a:2:10: timeout: \"5 parsecs\" is not a duration (like 90s, 10m, 1h30m, 2d)" },
                { "maxword: 12q\n", "/etc/a:1:10: maxword: \"12q\" is not a whole number" },
                { "expunge_mode: later\n",
                  "/etc/a:1:15: expunge_mode: \"later\" is not one of: immediate semidelayed delayed" },
                { "event_groups: message cows\n", NULL },
                { "debug: \\\n  \\\n  perhaps\n", "/etc/a:3:3: debug: \"perhaps\" is not yes or no" },
                { "debug: yes\nDEBUG: no\n", "/etc/a:2:1: option \"debug\" was specified twice, first in /etc/a:1" },
                { "x_debug: yes\nX_debug: no\n", "/etc/a:2:1: option \"x_debug\" was specified twice, first in /etc/a:1" },
                { "partition-: /x\n", "/etc/a:1:13: partition-: nothing is named after \"-\"" },
                { "imap_sasl_: x\n", "/etc/a:1:13: imap_sasl_: nothing is named after \"_\"" },
                { "  @incline: x\n", "/etc/a:1:3: unknown directive \"@incline\"" },
                { "@include: /etc/b\n", "/etc/a:1:11: /etc/b: no such file" },
                { "@include: /etc/a\n", "/etc/a:1:11: \"/etc/a\" is included twice" },
                { ": x\n", "/etc/a:1:1: no option name here" },
                { "umask: 099\n", "/etc/a:1:8: umask: \"099\" is not a value" },
                { "store_sync: some\n", "/etc/a:1:13: store_sync: \"some\" is not one of: default all" },
                { "blob_threshold: 1X\n", "/etc/a:1:17: blob_threshold: \"1X\" is not a size (like 65536, 64K, 10M)" },
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct diag d;
                struct conf *c = load(cases[i].text, &d);

                cr_expect_null(c, "%s", cases[i].text);
                cr_expect_eq(d.errors, 1, "%s: %zu errors", cases[i].text, d.errors);
                if (cases[i].message)
                        cr_expect_str_eq(first_message(&d), cases[i].message);
                diag_deinit(&d);
        }
}

Test(conf, every_error_of_a_file_is_found)
{
        struct diag d;

        cr_assert_null(load("debug: x\nadmins\nmaxword: 1 2\n", &d));
        cr_assert_eq(d.errors, 3);
        diag_deinit(&d);
}

Test(conf, a_nul_octet_is_an_error)
{
        struct diag d;
        struct conf *c = NULL;
        struct err err;

        /* A NUL cannot come through slurp_texts(): a file of its own. */
        FILE *f = fopen("/tmp/conf_test_nul", "w");
        fwrite("admins: a\0b\n", 1, 12, f);
        fclose(f);
        diag_init(&d);
        cr_assert_lt(conf_load("/tmp/conf_test_nul", NULL, &c, &d, &err), 0);
        cr_assert_str_eq(first_message(&d), "/tmp/conf_test_nul:1:10: a NUL octet");
        diag_deinit(&d);
        remove("/tmp/conf_test_nul");
}

Test(conf, lines_are_read_as_cyrus_reads_them)
{
        struct diag d;
        struct conf *c = load("# comment \\\n"
                              "   Admins: root   # not a comment \t\r\n"
                              "\n"
                              "userprefix: Other\\\n"
                              "  People\n"
                              "sharedprefix: a\\  \n"
                              "# b\n"
                              "servername:host\n"
                              "defaultacl: anyone lrs\\", &d);

        cr_assert_not_null(c, "%s", first_message(&d));
        cr_expect_str_eq(conf_str(c, NULL, "admins"), "root   # not a comment");
        cr_expect_str_eq(conf_str(c, NULL, "userprefix"), "Other  People");
        cr_expect_str_eq(conf_str(c, NULL, "sharedprefix"), "a# b");
        cr_expect_str_eq(conf_str(c, NULL, "servername"), "host");
        cr_expect_str_eq(conf_str(c, NULL, "defaultacl"), "anyone lrs");
        cr_expect_eq(d.warnings, 0);
        conf_unref(&c);
        diag_deinit(&d);
}

Test(conf, a_services_own_option_wins_wherever_it_stands)
{
        static const char *const services[] = { "imap", "lmtp", NULL };
        struct diag d;
        struct conf *c = load("imap_timeout: 45\ntimeout: 40m\nlmtp_admins: joe\nIMAP_debug: on\nimap_chatty: perhaps\n", &d);

        cr_assert_not_null(c);
        cr_expect_eq(conf_duration_s(c, "imap", "timeout"), 45 * 60);
        cr_expect_eq(conf_duration_s(c, "imaps", "timeout"), 40 * 60);
        cr_expect_eq(conf_duration_s(c, NULL, "timeout"), 40 * 60);
        cr_expect_str_eq(conf_str(c, "lmtp", "admins"), "joe");
        cr_expect_str_eq(conf_str(c, NULL, "admins"), "");
        cr_expect(conf_switch(c, "IMAP", "debug"));
        cr_expect_not(conf_switch(c, NULL, "debug"));
        cr_expect_not(conf_switch(c, "imap", "chatty"), "a broken value of a service is not used");
        cr_expect(conf_is_set(c, "imap", "debug"));
        cr_expect_not(conf_is_set(c, NULL, "debug"));
        cr_expect_eq(d.errors + d.warnings, 0);
        conf_check_services(c, services, &d);
        cr_expect_eq(d.errors, 1);
        cr_expect_str_eq(first_message(&d), "/etc/a:5:14: imap_chatty: \"perhaps\" is no value of chatty");
        conf_unref(&c);
        diag_deinit(&d);
}

Test(conf, unknown_options_are_kept_and_reported)
{
        static const char *const services[] = { "imap", NULL };
        struct diag d;
        struct conf *c = load("frobnicate: very\nfoo_timeout: 3\npartition-Default: /x\nbe1_password: s\nsasl_mech_list: PLAIN\n"
                              "ctl_cyrusdb_debug: yes\nxlist-Sent: Sent\n", &d);

        cr_assert_not_null(c);
        cr_expect_eq(d.warnings, 1);
        cr_expect_str_eq(first_message(&d), "/etc/a:1:1: warning: unknown option \"frobnicate\"");
        cr_expect_str_eq(conf_free(c, NULL, "frobnicate"), "very");
        cr_expect_str_eq(conf_partition(c, "DEFAULT"), "/x");
        cr_expect_null(conf_partition(c, "other"));
        cr_expect_str_eq(conf_free(c, "imap", "be1_password"), "s");
        conf_check_services(c, services, &d);
        cr_expect_eq(d.warnings, 2, "foo is no service");
        conf_unref(&c);
        diag_deinit(&d);
}

Test(conf, old_names_are_understood_and_reported)
{
        struct diag d;
        struct conf *c = load("tls_cert_file: /old\ntls_server_cert: /new\ntls_key_file: /key\nimap_tls_ca_file: /ca\n"
                              "archive_days: 3\nflushseenstate: yes\n", &d);

        cr_assert_not_null(c, "%s", first_message(&d));
        cr_expect_str_eq(conf_str(c, NULL, "tls_server_cert"), "/new");
        cr_expect_str_eq(conf_str(c, NULL, "tls_server_key"), "/key");
        cr_expect_str_eq(conf_str(c, "imap", "tls_client_ca_file"), "/ca");
        cr_expect_null(conf_str(c, NULL, "tls_client_ca_file"));
        cr_expect_eq(conf_duration_s(c, NULL, "archive_after"), 3 * 86400);
        cr_expect_eq(d.warnings, 0);
        cr_expect_eq(d.notes, 5);
        conf_unref(&c);
        diag_deinit(&d);
}

Test(conf, values_of_each_type)
{
        static const struct { const char *option, *text; int64_t n; } good[] = {
                { "debug", "1", 1 }, { "debug", "yeah", 1 }, { "debug", "True", 1 }, { "debug", "ON", 1 }, { "debug", "0", 0 },
                { "debug", "no", 0 }, { "debug", "falsch", 0 }, { "debug", "off", 0 },
                { "maxword", "0x10", 16 }, { "maxword", "010", 8 }, { "maxword", "-5", -5 }, { "maxword", "+7", 7 },
                { "timeout", "32", 32 * 60 }, { "timeout", "1h30m", 5400 }, { "timeout", "1H30", 5400 }, { "timeout", "-2d", -172800 },
                { "timeout", "10s5", 310 }, { "popexpiretime", "-1", -86400 }, { "sync_timeout", "9", 9 },
                { "blob_threshold", "64K", 65536 }, { "blob_threshold", "2 MiB", 2097152 }, { "blob_threshold", "7b", 7 },
                { "virtdomains", "yes", 2 }, { "virtdomains", "userid", 1 }, { "serverinfo", "no", 0 },
                { "event_groups", "message  access", 1 | 8 },
                { "sieve_extensions", "imapflags", INT64_C(1) << 15 },
        };
        static const struct { const char *option, *text; } bad[] = {
                { "debug", "o" }, { "debug", "2" }, { "debug", "" }, { "maxword", "" }, { "maxword", "08" }, { "maxword", " 1" },
                { "maxword", "99999999999999999999" }, { "timeout", "" }, { "timeout", "-" }, { "timeout", "1w" },
                { "timeout", "1h 30m" }, { "timeout", "9223372036854775807d" }, { "blob_threshold", "K" },
                { "blob_threshold", "1KK" }, { "blob_threshold", "-1" }, { "blob_threshold", "9000000T0" },
                { "blob_threshold", "99999999999T" }, { "expunge_mode", "Delayed" }, { "expunge_mode", "yes" },
                { "expunge_mode", "" }, { "event_groups", "mess" }, { "umask", "8" }, { "umask", "0x3" }, { "umask", "1777" },
        };
        int64_t n;

        for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
                cr_expect(conf_parse_value(conf_option_find(good[i].option), good[i].text, &n), "%s", good[i].text);
                cr_expect_eq(n, good[i].n, "%s: %s gives %lld", good[i].option, good[i].text, (long long)n);
        }
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
                cr_expect_not(conf_parse_value(conf_option_find(bad[i].option), bad[i].text, &n), "%s: %s", bad[i].option, bad[i].text);
}

Test(conf, enums_sets_and_the_configuration_directory)
{
        struct diag d;
        struct conf *c = load("configdirectory: /var/x\nvirtdomains: y\nevent_groups: access quota\n"
                              "notifysocket: {configdirectory}/n\n", &d);

        cr_assert_not_null(c);
        cr_expect_str_eq(conf_enum(c, NULL, "virtdomains"), "on");
        cr_expect_str_eq(conf_enum(c, NULL, "delete_mode"), "delayed");
        cr_expect(conf_set_has(c, NULL, "event_groups", "quota"));
        cr_expect_not(conf_set_has(c, NULL, "event_groups", "message"));
        cr_expect_str_eq(conf_str(c, NULL, "lmtpsocket"), "/var/x/socket/lmtp");
        cr_expect_str_eq(conf_str(c, NULL, "notifysocket"), "/var/x/n");
        cr_expect_eq(conf_bytes(c, NULL, "blob_threshold"), 65536);
        conf_unref(&c);
        diag_deinit(&d);
}

Test(conf, included_files_are_read_in_place_relative_to_the_including_one)
{
        struct text_file files[] = { { "/etc/a", "@include: sub/b\nxlist-junk: J\n" },
                                     { "/etc/sub/b", "partition-x: /1\n@include: /etc/c\npartition-y: oops" },
                                     { "/etc/c", "partition-z: /3\n" }, { NULL, NULL } };
        struct diag d;
        struct conf *c = load_files(files, &d);
        const char *name, *value;
        size_t pos = 0;
        struct err err;

        cr_assert_not_null(c, "%s", first_message(&d));
        cr_assert(conf_next(c, "partition-", &pos, &name, &value));
        cr_expect_str_eq(name, "partition-x");
        cr_assert(conf_next(c, "partition-", &pos, &name, &value));
        cr_expect_str_eq(name, "partition-z");
        cr_assert(conf_next(c, "partition-", &pos, &name, &value));
        cr_expect_str_eq(value, "oops");
        cr_assert_not(conf_next(c, "partition-", &pos, &name, &value));
        cr_expect_lt(conf_require_store(c, &d, &err), 0);
        cr_expect_eq(d.errors, 2, "no configdirectory, a relative partition");
        conf_unref(&c);
        diag_deinit(&d);
}

Test(conf, what_a_store_needs)
{
        static const struct { const char *text; bool fine; } cases[] = {
                { "configdirectory: /a\npartition-default: /b\n", true },
                { "configdirectory: /a\npartition-p1: /b\ndefaultpartition: P1\n", true },
                { "configdirectory: /a\npartition-p1: /b\ndefaultpartition: p2\n", false },
                { "configdirectory: /a\n", false },
                { "configdirectory: a\npartition-p1: /b\n", false },
                { "partition-p1: /b\n", false },
        };

        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                struct diag d;
                struct err err;
                struct conf *c = load(cases[i].text, &d);

                cr_expect_eq(conf_require_store(c, &d, &err) == 0, cases[i].fine, "%s", cases[i].text);
                conf_unref(&c);
                diag_deinit(&d);
        }
}

Test(conf, words)
{
        cr_expect(conf_words_have(" a  bc\td ", "bc"));
        cr_expect(conf_words_have("d", "d"));
        cr_expect_not(conf_words_have("abc", "b"));
        cr_expect_not(conf_words_have("", "b"));
        cr_expect_not(conf_words_have(NULL, "b"));
}

Test(conf, a_live_snapshot_is_swapped_under_its_readers)
{
        struct diag d1, d2;
        struct conf *a = load("admins: one\n", &d1), *b = load("admins: two\n", &d2), *held, *now;
        struct conf_live *live = conf_live_create(a);

        held = conf_live_get(live);
        conf_live_set(live, b);
        now = conf_live_get(live);
        cr_expect_str_eq(conf_str(held, NULL, "admins"), "one");
        cr_expect_str_eq(conf_str(now, NULL, "admins"), "two");
        conf_unref(&held);
        conf_unref(&now);
        conf_live_destroy(&live);
        diag_deinit(&d1);
        diag_deinit(&d2);
}

Test(conf, a_duration_may_have_a_word_of_its_own)
{
        const struct conf_option *o = conf_option_find("sync_degrade_after"), *other = conf_option_find("sync_timeout");
        int64_t n = 0;

        cr_assert(o && other);
        cr_expect(conf_parse_value(o, "Never", &n) && n == CONF_NEVER);
        cr_expect(conf_parse_value(o, "1m", &n) && n == 60);
        cr_expect(!conf_parse_value(o, "always", &n));
        cr_expect(!conf_parse_value(other, "never", &n));
}

Test(conf, the_option_table_is_sorted_and_its_defaults_are_values)
{
        size_t count;
        const struct conf_option *o = conf_options(&count);
        int64_t n;

        cr_assert_gt(count, 400);
        for (size_t i = 0; i < count; i++) {
                if (i > 0)
                        cr_expect_lt(strcmp(o[i - 1].name, o[i].name), 0, "%s", o[i].name);
                if (o[i].def)
                        cr_expect(conf_parse_value(&o[i], o[i].def, &n) || !*o[i].def, "%s", o[i].name);
                cr_expect(o[i].type == CONF_DURATION || (o[i].type == CONF_ENUM || o[i].type == CONF_SET) == (o[i].values != NULL), "%s", o[i].name);
                cr_expect_eq(o[i].type == CONF_DURATION, o[i].unit != 0, "%s", o[i].name);
                if (o[i].handled != CONF_LATER)
                        cr_expect_not_null(o[i].purpose, "%s", o[i].name);
                cr_expect_null(conf_option_renamed(o[i].name), "%s", o[i].name);
                cr_expect_eq(conf_option_find(o[i].name), &o[i]);
        }
}
