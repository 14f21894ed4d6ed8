/* SASL: base64, mechanisms, and logins against a sasldb made here. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/groups.h"
#include "server/sasl_private.h"
#include "server/userdeny.h"
#include "t/store/conf_text.h"
#include "util/fs.h"

/* ---- base64, RFC 4648 10 ---- */

static const struct { const char *plain, *encoded; } vectors[] = {
        { "", "" }, { "f", "Zg==" }, { "fo", "Zm8=" }, { "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "fooba", "Zm9vYmE=" },
        { "foobar", "Zm9vYmFy" },
};

Test(base64, test_vectors_of_the_rfc_go_both_ways)
{
        for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
                struct str out = STR_INIT;
                struct err err = ERR_INIT;

                base64_encode(span_of(vectors[i].plain), &out);
                cr_expect_str_eq(out.data, vectors[i].encoded);
                str_clear(&out);
                cr_assert_eq(base64_decode(span_of(vectors[i].encoded), &out, &err), 0, "%s", err.text);
                cr_expect_str_eq(out.data, vectors[i].plain);
                str_deinit(&out);
        }
}

Test(base64, what_is_not_canonical_is_refused)
{
        static const char *const bad[] = { "Z", "Zg", "Zg=", "Zh==", "Zm9=", "Zm9v=", "=m9v", "Zg==Zg==", "Zm 9", "Zm9v\n", "Zm-_", "====" };

        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                struct str out = STR_INIT;
                struct err err = ERR_INIT;

                cr_expect_eq(base64_decode(span_of(bad[i]), &out, &err), -1, "%s was taken", bad[i]);
                cr_expect_eq(err.code, ERR_SYNTAX);
                str_deinit(&out);
        }
}

Test(base64, all_octets_survive)
{
        struct str all = STR_INIT, encoded = STR_INIT, back = STR_INIT;

        for (int i = 0; i < 770; i++)
                str_append_c(&all, (char)(i * 7));
        base64_encode(str_span(&all), &encoded);
        cr_assert_eq(base64_decode(str_span(&encoded), &back, NULL), 0);
        cr_expect(span_eq(str_span(&all), str_span(&back)));
        str_deinit(&all);
        str_deinit(&encoded);
        str_deinit(&back);
}

/* ---- the library ---- */

static char dir[64];
static struct conf_live *live;

static void start(const char *more)
{
        char text[2048], users[3][2][16] = { { "ann", "secret" }, { "boss", "bosspw" }, { "fe", "fepw" } };
        struct sasl_params params = { .service = "imap", .ident = "imap", .plaintext_ok = true };
        struct sasl_conn *conn;
        struct err err = ERR_INIT;

        snprintf(dir, sizeof dir, "/tmp/sasl_test.XXXXXX");
        cr_assert_not_null(mkdtemp(dir));
        snprintf(text, sizeof text, "configdirectory: %s\npartition-default: %s\nservername: mail.example\nadmins: boss\nproxyservers: fe\n"
                 "sasl_pwcheck_method: auxprop\nsasl_auxprop_plugin: sasldb\nsasl_sasldb_path: %s/sasldb2\n%s", dir, dir, dir, more);
        live = conf_live_create(conf_text(text));
        cr_assert_eq(sasl_setup(live, &err), 0, "%s", err.text);
        cr_assert_eq(sasl_conn_create(&params, NULL, &conn, &err), 0, "%s", err.text);
        for (int i = 0; i < 3; i++)
                cr_assert_eq(sasl_setpass(conn->conn, users[i][0], users[i][1], (unsigned)strlen(users[i][1]), NULL, 0, SASL_SET_CREATE),
                             SASL_OK);
        sasl_conn_destroy(&conn);
}

static void stop(void)
{
        sasl_teardown();
        conf_live_destroy(&live);
        fs_remove_tree(dir, NULL);
}

static struct sasl_conn *connect_with(bool plaintext_ok, const struct str *binding)
{
        struct sasl_params params = { .service = "imap", .ident = "imap", .plaintext_ok = plaintext_ok, .tls = binding != NULL,
                                      .tls_bits = binding ? 256 : 0, .channel_binding = binding,
                                      .channel_binding_type = binding ? "tls-exporter" : NULL };
        struct sasl_conn *conn;
        struct err err = ERR_INIT;

        cr_assert_eq(sasl_conn_create(&params, NULL, &conn, &err), 0, "%s", err.text);
        return conn;
}

static bool offers(struct sasl_conn *conn, const char *mech)
{
        struct arena arena = ARENA_INIT;
        const char *list = sasl_mechanisms(conn, &arena);
        char padded[512], wanted[64];

        snprintf(padded, sizeof padded, " %s ", list);
        snprintf(wanted, sizeof wanted, " %s ", mech);
        arena_deinit(&arena);
        return strstr(padded, wanted) != NULL;
}

static void expect_same_list(bool plaintext_ok, const struct str *binding)
{
        struct sasl_params params = { .service = "imap", .ident = "imap", .plaintext_ok = plaintext_ok, .tls = binding != NULL,
                                      .tls_bits = binding ? 256 : 0, .channel_binding = binding,
                                      .channel_binding_type = binding ? "tls-exporter" : NULL };
        struct sasl_conn *conn = connect_with(plaintext_ok, binding);
        struct arena arena = ARENA_INIT;

        for (int i = 0; i < 2; i++)                     /* asked, and known */
                cr_expect_str_eq(sasl_mechanisms_for(&params, NULL, &arena), sasl_mechanisms(conn, &arena));
        arena_deinit(&arena);
        sasl_conn_destroy(&conn);
}

Test(sasl, mechanisms_are_known_without_a_connection_until_the_configuration_changes)
{
        struct str binding = STR_INIT;
        char text[400];

        start("");
        str_append_str(&binding, "octets");
        for (int i = 0; i < 2; i++) {
                expect_same_list(false, NULL);
                expect_same_list(true, NULL);
                expect_same_list(true, &binding);
                snprintf(text, sizeof text, "configdirectory: %s\npartition-default: %s\nsasl_mech_list: PLAIN\n", dir, dir);
                conf_live_set(live, conf_text(text));
        }
        {
                struct sasl_params params = { .service = "imap", .ident = "imap", .plaintext_ok = true };
                struct arena arena = ARENA_INIT;

                cr_expect_str_eq(sasl_mechanisms_for(&params, NULL, &arena), "PLAIN");
                arena_deinit(&arena);
        }
        str_deinit(&binding);
        stop();
}

Test(sasl, mechanisms_fit_the_connection)
{
        struct sasl_conn *clear, *open;
        struct str binding = STR_INIT;

        start("");
        clear = connect_with(false, NULL);
        cr_expect(!offers(clear, "PLAIN"));
        cr_expect(!offers(clear, "LOGIN"));
        cr_expect(offers(clear, "SCRAM-SHA-256"));
        cr_expect(!offers(clear, "SCRAM-SHA-256-PLUS"));
        cr_expect(!offers(clear, "DIGEST-MD5"));
        cr_expect(!offers(clear, "NTLM"));
        cr_expect(!offers(clear, "ANONYMOUS"));
        cr_expect(!offers(clear, "EXTERNAL"));
        sasl_conn_destroy(&clear);
        str_append_str(&binding, "0123456789abcdef0123456789abcdef");
        open = connect_with(true, &binding);
        cr_expect(offers(open, "PLAIN"));
        cr_expect(offers(open, "LOGIN"));
        cr_expect(offers(open, "SCRAM-SHA-256-PLUS"));
        sasl_conn_destroy(&open);
        str_deinit(&binding);
        stop();
}

Test(sasl, mech_list_decides)
{
        struct sasl_conn *conn;

        start("sasl_mech_list: PLAIN DIGEST-MD5\n");
        conn = connect_with(true, NULL);
        cr_expect(offers(conn, "PLAIN"));
        cr_expect(offers(conn, "DIGEST-MD5"));
        cr_expect(!offers(conn, "SCRAM-SHA-256"));
        sasl_conn_destroy(&conn);
        stop();
}

static enum err_code plain(const char *message, size_t len, struct sasl_step *step)
{
        struct sasl_conn *conn = connect_with(true, NULL);
        struct span initial = { message, len };
        enum err_code code;

        sasl_step_init(step);
        sasl_start(conn, "PLAIN", &initial, step);
        code = step->outcome == SASL_OUT_OK ? ERR_NONE : step->err.code;
        sasl_conn_destroy(&conn);
        return code;
}
#define PLAIN(literal, step) plain(literal, sizeof(literal) - 1, step)

Test(sasl, plain_says_who_and_as_whom)                  /* RFC 4616 2 */
{
        struct sasl_step step;

        start("");
        cr_assert_eq(PLAIN("\0ann\0secret", &step), ERR_NONE, "%s", step.err.text);
        cr_expect_str_eq(step.userid, "ann");
        cr_expect_str_eq(step.mech, "PLAIN");
        cr_expect(!step.is_admin && !step.is_proxy && !step.has_layer);
        sasl_step_deinit(&step);
        cr_expect_eq(PLAIN("\0ann\0wrong", &step), ERR_AUTH);
        sasl_step_deinit(&step);
        cr_expect_eq(PLAIN("\0nobody\0secret", &step), ERR_AUTH);
        sasl_step_deinit(&step);
        cr_expect_eq(PLAIN("boss\0ann\0secret", &step), ERR_PERM);
        sasl_step_deinit(&step);
        cr_assert_eq(PLAIN("ann\0boss\0bosspw", &step), ERR_NONE, "%s", step.err.text);
        cr_expect_str_eq(step.userid, "ann");
        cr_expect_str_eq(step.authid, "boss");
        cr_expect(!step.is_admin);
        sasl_step_deinit(&step);
        cr_assert_eq(PLAIN("boss\0fe\0fepw", &step), ERR_NONE, "%s", step.err.text);
        cr_expect(step.is_admin && step.is_proxy);
        sasl_step_deinit(&step);
        cr_expect_eq(PLAIN("garbage", &step), ERR_SYNTAX);
        sasl_step_deinit(&step);
        cr_expect_eq(PLAIN("\0ann@elsewhere\0secret", &step), ERR_AUTH);
        sasl_step_deinit(&step);
        stop();
}

Test(sasl, plain_waits_for_its_message_when_there_is_no_initial_response)
{
        struct sasl_conn *conn;
        struct sasl_step step;

        start("");
        conn = connect_with(true, NULL);
        sasl_step_init(&step);
        sasl_start(conn, "plain", NULL, &step);
        cr_assert_eq(step.outcome, SASL_OUT_CONTINUE);
        cr_expect(step.has_challenge && step.challenge.len == 0);
        sasl_continue(conn, SPAN("\0ann\0secret"), &step);
        cr_expect_eq(step.outcome, SASL_OUT_OK, "%s", step.err.text);
        sasl_step_deinit(&step);
        sasl_start(conn, "NO-SUCH", NULL, &step);
        cr_expect_eq(step.err.code, ERR_UNSUPPORTED);
        sasl_step_deinit(&step);
        sasl_conn_destroy(&conn);
        stop();
}

Test(sasl, login_checks_a_password)
{
        struct sasl_conn *conn;
        struct sasl_step step;

        start("");
        conn = connect_with(true, NULL);
        sasl_step_init(&step);
        sasl_login(conn, SPAN("ann"), SPAN("wrong"), &step);
        cr_expect_eq(step.err.code, ERR_AUTH, "%s", step.err.text);
        sasl_login(conn, (struct span){ "anniversary", 3 }, (struct span){ "secretary", 6 }, &step);    /* spans have no NUL */
        cr_assert_eq(step.outcome, SASL_OUT_OK, "%s", step.err.text);
        cr_expect_str_eq(step.userid, "ann");
        cr_expect_str_eq(step.mech, "LOGIN");
        sasl_login(conn, SPAN("ann"), SPAN("secret\0x"), &step);
        cr_expect_eq(step.err.code, ERR_SYNTAX);
        sasl_conn_destroy(&conn);
        conn = connect_with(true, NULL);
        sasl_login(conn, SPAN("boss"), SPAN("bosspw"), &step);
        cr_expect(step.is_admin);
        sasl_login(conn, SPAN(""), SPAN("x"), &step);
        cr_expect_eq(step.err.code, ERR_SYNTAX);
        sasl_step_deinit(&step);
        sasl_conn_destroy(&conn);
        conn = connect_with(false, NULL);
        sasl_login(conn, SPAN("ann"), SPAN("secret"), &step);
        cr_expect_eq(step.outcome, SASL_OUT_FAILED);
        sasl_step_deinit(&step);
        sasl_conn_destroy(&conn);
        stop();
}

static bool is_known(struct sasl_conn *conn, const char *user, const char *password)
{
        struct sasl_kept kept;
        bool found = sasl_kept_find(conn, user, span_of(password), &kept);

        if (found) {
                cr_expect_str_eq(kept.userid, user);
                cr_expect_str_eq(kept.authid, user);
        }
        free(kept.userid);
        free(kept.authid);
        return found;
}

static enum sasl_outcome log_in(const char *user, const char *password)
{
        struct sasl_conn *conn = connect_with(true, NULL);
        struct sasl_step step;
        enum sasl_outcome outcome;

        sasl_step_init(&step);
        sasl_login(conn, span_of(user), span_of(password), &step);
        outcome = step.outcome;
        cr_expect_eq(outcome == SASL_OUT_OK && step.is_admin, outcome == SASL_OUT_OK && strcmp(user, "boss") == 0);
        sasl_step_deinit(&step);
        sasl_conn_destroy(&conn);
        return outcome;
}

static void set_password(struct sasl_conn *conn, const char *user, const char *password)
{
        cr_assert_eq(sasl_setpass(conn->conn, user, password, password ? (unsigned)strlen(password) : 0, NULL, 0,
                                  password ? SASL_SET_CREATE : SASL_SET_DISABLE), SASL_OK);
}

Test(sasl, a_password_that_was_right_is_known_until_the_database_changes)
{
        struct sasl_conn *conn;

        start("");
        conn = connect_with(true, NULL);
        cr_expect_eq(log_in("boss", "bosspw"), SASL_OUT_OK);
        cr_expect(!is_known(conn, "boss", "bosspw"), "the database was changed a moment ago");
        sleep(3);
        cr_expect_eq(log_in("boss", "wrong"), SASL_OUT_FAILED);
        cr_expect(!is_known(conn, "boss", "wrong"));
        for (int i = 0; i < 2; i++) {                   /* checked, and known */
                cr_expect_eq(log_in("boss", "bosspw"), SASL_OUT_OK);
                cr_expect_eq(log_in("ann", "secret"), SASL_OUT_OK);
                cr_expect(is_known(conn, "boss", "bosspw") && is_known(conn, "ann", "secret"));
        }
        cr_expect(!is_known(conn, "ann", "bosspw") && !is_known(conn, "an", "nsecret") && !is_known(conn, "ann", "secret "));
        set_password(conn, "ann", "another");
        cr_expect(!is_known(conn, "ann", "secret"));
        cr_expect_eq(log_in("ann", "secret"), SASL_OUT_FAILED);
        cr_expect_eq(log_in("ann", "another"), SASL_OUT_OK);
        set_password(conn, "boss", NULL);
        cr_expect_eq(log_in("boss", "bosspw"), SASL_OUT_FAILED);
        sleep(3);
        cr_expect(!is_known(conn, "boss", "bosspw"));
        cr_expect_eq(log_in("boss", "bosspw"), SASL_OUT_FAILED);
        cr_expect_eq(log_in("ann", "another"), SASL_OUT_OK);
        cr_expect(is_known(conn, "ann", "another"));
        sasl_kept_forget();
        cr_expect(!is_known(conn, "ann", "another"));
        sasl_conn_destroy(&conn);
        stop();
}

/* Without asking anybody: what sasl_login_known() says. */
static bool let_in_at_once(const struct sasl_params *params, const char *user, const char *password)
{
        struct sasl_step step;
        char **groups = NULL;
        bool known;

        sasl_step_init(&step);
        known = sasl_login_known(params, NULL, span_of(user), span_of(password), &step, &groups);
        cr_expect_eq(step.outcome, known ? SASL_OUT_OK : SASL_OUT_FAILED);
        if (known) {
                cr_expect_str_eq(step.userid, user);
                cr_expect_str_eq(step.authid, user);
                cr_expect_str_eq(step.mech, "LOGIN");
                cr_expect_eq(step.is_admin, strcmp(user, "boss") == 0);
                cr_expect_eq(step.is_proxy, strcmp(user, "fe") == 0);
        }
        cr_expect_eq(groups != NULL, known, "unix_group_enable is on");
        groups_free(&groups);
        sasl_step_deinit(&step);
        return known;
}

static void learn(const char *user, const char *password)
{
        char **groups = groups_of(user);

        cr_assert_eq(log_in(user, password), SASL_OUT_OK);
        groups_free(&groups);
}

static const struct sasl_params clear_ok = { .service = "imap", .ident = "imap", .plaintext_ok = true };

Test(sasl, who_is_known_is_let_in_at_once_until_something_changes)
{
        struct sasl_params clear = clear_ok, unchecked = clear_ok, other = clear_ok;
        struct sasl_conn *conn;

        start("");
        conn = connect_with(true, NULL);
        clear.plaintext_ok = false;
        unchecked.no_password_check = true;
        other.ident = "imaps";
        sleep(3);
        cr_expect(!let_in_at_once(&clear_ok, "ann", "secret"), "nobody has checked it");
        cr_assert_eq(log_in("ann", "secret"), SASL_OUT_OK);
        cr_expect(!let_in_at_once(&clear_ok, "ann", "secret"), "his groups are not known");
        learn("ann", "secret");
        learn("boss", "bosspw");
        learn("fe", "fepw");
        cr_expect(let_in_at_once(&clear_ok, "ann", "secret"));
        cr_expect(let_in_at_once(&clear_ok, "boss", "bosspw"));
        cr_expect(let_in_at_once(&clear_ok, "fe", "fepw"));
        cr_expect(!let_in_at_once(&clear, "ann", "secret"));
        cr_expect(!let_in_at_once(&unchecked, "ann", "secret"));
        cr_expect(!let_in_at_once(&other, "ann", "secret"), "another service has options of its own");
        cr_expect(!let_in_at_once(&clear_ok, "ann", "wrong") && !let_in_at_once(&clear_ok, "ann", "") && !let_in_at_once(&clear_ok, "", ""));
        cr_expect(!let_in_at_once(&clear_ok, "boss", "secret"));
        set_password(conn, "ann", "another");
        cr_expect(!let_in_at_once(&clear_ok, "ann", "secret"));
        cr_expect(!let_in_at_once(&clear_ok, "boss", "bosspw"));
        sasl_conn_destroy(&conn);
        stop();
}

Test(sasl, nobody_is_let_in_at_once_while_somebody_is_denied)   /* cyr_deny */
{
        struct conf *conf;
        struct err err = ERR_INIT;

        start("");
        sleep(3);
        learn("ann", "secret");
        cr_expect(let_in_at_once(&clear_ok, "ann", "secret"));
        conf = conf_live_get(live);
        cr_assert_eq(userdeny_set(conf, "ann", NULL, NULL, &err), 0, "%s", err.text);
        conf_unref(&conf);
        cr_expect(!let_in_at_once(&clear_ok, "ann", "secret"));
        cr_expect_eq(log_in("ann", "secret"), SASL_OUT_FAILED);
        stop();
}

Test(sasl, nobody_is_let_in_at_once_whose_domain_has_to_be_asked_for)
{
        start("virtdomains: on\n");
        sleep(3);
        learn("ann", "secret");
        cr_expect(!let_in_at_once(&clear_ok, "ann", "secret"));
        stop();
}

Test(sasl, what_others_may_have_a_say_in_is_not_known)
{
        static const char *const more[] = { "imap_sasl_pwcheck_method: auxprop saslauthd\n", "imap_sasl_auxprop_plugin: sasldb sql\n" };

        for (int i = 0; i < 2; i++) {
                struct sasl_conn *conn;

                start(more[i]);
                sleep(3);
                conn = connect_with(true, NULL);
                cr_expect_eq(log_in("ann", "secret"), SASL_OUT_OK);
                cr_expect(!is_known(conn, "ann", "secret"));
                sasl_conn_destroy(&conn);
                stop();
        }
}

Test(sasl, without_password_checks_any_password_is_right)       /* imapd -N */
{
        struct sasl_params params = { .service = "imap", .ident = "imap", .plaintext_ok = true, .no_password_check = true };
        struct sasl_conn *conn;
        struct sasl_step step;
        struct err err = ERR_INIT;

        start("");
        cr_assert_eq(sasl_conn_create(&params, NULL, &conn, &err), 0);
        sasl_step_init(&step);
        sasl_login(conn, SPAN("ann"), SPAN("whatever"), &step);
        cr_expect_eq(step.outcome, SASL_OUT_OK, "%s", step.err.text);
        sasl_login(conn, SPAN("newcomer"), SPAN("whatever"), &step);
        cr_expect_eq(step.outcome, SASL_OUT_OK, "%s", step.err.text);
        sasl_step_deinit(&step);
        sasl_conn_destroy(&conn);
        stop();
}
