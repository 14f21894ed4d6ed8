/* Whole exchanges with cyrus-sasl's own client: SCRAM with channel binding, a security layer through a stream, saslauthd. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/sasl_private.h"
#include "t/store/conf_text.h"
#include "util/fs.h"
#include "util/must.h"

/* The library's DIGEST-MD5 plug-in never frees the OpenSSL context it makes for a connection with a layer. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
        return "leak:libcrypto\n";
}

static char dir[64];
static struct conf_live *live;

static void start(const char *more)
{
        struct sasl_params params = { .service = "imap", .ident = "imap", .plaintext_ok = true };
        struct sasl_conn *conn;
        struct err err = ERR_INIT;
        char text[1024];

        snprintf(dir, sizeof dir, "/tmp/sasl_exchange.XXXXXX");
        must(mkdtemp(dir) != NULL);
        snprintf(text, sizeof text, "configdirectory: %s\npartition-default: %s\nservername: mail.example\nsasl_auxprop_plugin: sasldb\n"
                 "sasl_sasldb_path: %s/sasldb2\nsasl_saslauthd_path: %s/mux\n%s", dir, dir, dir, dir, more);
        live = conf_live_create(conf_text(text));
        cr_assert_eq(sasl_setup(live, &err), 0, "%s", err.text);
        cr_assert_eq(sasl_client_init(NULL), SASL_OK);
        cr_assert_eq(sasl_conn_create(&params, NULL, &conn, &err), 0);
        cr_assert_eq(sasl_setpass(conn->conn, "ann", "secret", 6, NULL, 0, SASL_SET_CREATE), SASL_OK);
        sasl_conn_destroy(&conn);
}

static void stop(void)
{
        sasl_client_done();
        sasl_teardown();
        conf_live_destroy(&live);
        fs_remove_tree(dir, NULL);
}

/* ---- a client ---- */

static int simple(void *context, int id, const char **result, unsigned *len)
{
        (void)context;
        (void)id;
        *result = "ann";
        if (len)
                *len = 3;
        return SASL_OK;
}

static int secret(sasl_conn_t *conn, void *context, int id, sasl_secret_t **secret_r)
{
        static union { sasl_secret_t s; char room[64]; } u;

        (void)conn;
        (void)context;
        (void)id;
        u.s.len = 6;
        memcpy(u.s.data, "secret", 7);
        *secret_r = &u.s;
        return SASL_OK;
}

static int realm(void *context, int id, const char **all, const char **result)
{
        (void)context;
        (void)id;
        *result = all && all[0] ? all[0] : "";
        return SASL_OK;
}

typedef int any_callback(void);
#define CB(fn) ((any_callback *)(void (*)(void))(fn))
static sasl_callback_t callbacks[] = {
        { SASL_CB_USER, CB(simple), NULL }, { SASL_CB_AUTHNAME, CB(simple), NULL }, { SASL_CB_PASS, CB(secret), NULL },
        { SASL_CB_GETREALM, CB(realm), NULL }, { SASL_CB_LIST_END, NULL, NULL },
};

static sasl_conn_t *client_make(const struct str *binding, unsigned max_ssf)
{
        static sasl_channel_binding_t cb;
        sasl_security_properties_t props = { .max_ssf = max_ssf, .maxbufsize = 8192 };
        sasl_ssf_t external = binding ? 256 : 0;
        sasl_conn_t *c;

        cr_assert_eq(sasl_client_new("imap", "mail.example", NULL, NULL, callbacks, 0, &c), SASL_OK);
        sasl_setprop(c, SASL_SEC_PROPS, &props);
        sasl_setprop(c, SASL_SSF_EXTERNAL, &external);
        if (binding) {
                cb = (sasl_channel_binding_t){ "tls-exporter", 1, binding->len, (const unsigned char *)binding->data };
                sasl_setprop(c, SASL_CHANNEL_BINDING, &cb);
        }
        return c;
}

/* The whole exchange; returns how it ended for the server. */
static enum sasl_outcome converse(sasl_conn_t *client, struct sasl_conn *server, const char *mech, struct sasl_step *step)
{
        const char *out = NULL, *chosen;
        unsigned len = 0;
        struct span initial;
        int rc = sasl_client_start(client, mech, NULL, &out, &len, &chosen);

        cr_assert(rc == SASL_OK || rc == SASL_CONTINUE, "%s", sasl_errdetail(client));
        initial = (struct span){ out, len };
        sasl_start(server, mech, out ? &initial : NULL, step);
        while (step->outcome == SASL_OUT_CONTINUE) {
                out = NULL;
                len = 0;
                rc = sasl_client_step(client, step->challenge.data, (unsigned)step->challenge.len, NULL, &out, &len);
                cr_assert(rc == SASL_OK || rc == SASL_CONTINUE, "%s", sasl_errdetail(client));
                sasl_continue(server, (struct span){ out, len }, step);
        }
        return step->outcome;
}

static struct sasl_conn *server_make(const struct str *binding, bool plaintext_ok)
{
        struct sasl_params params = { .service = "imap", .ident = "imap", .plaintext_ok = plaintext_ok, .channel_binding = binding,
                                      .channel_binding_type = binding ? "tls-exporter" : NULL, .tls = binding != NULL, .tls_bits = 256 };
        struct sasl_conn *conn;
        struct err err = ERR_INIT;

        cr_assert_eq(sasl_conn_create(&params, NULL, &conn, &err), 0, "%s", err.text);
        return conn;
}

/* ---- facts ---- */

Test(sasl_exchange, scram_works_and_binds_the_channel)          /* RFC 5802, RFC 9266 */
{
        struct str one = STR_INIT, other = STR_INIT;
        static const char *const mechs[] = { "SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS" };
        struct sasl_step step;

        start("");
        sasl_step_init(&step);
        str_append_str(&one, "0123456789abcdef0123456789abcdef");
        str_append_str(&other, "somebody-in-the-middle-of-it-all");
        for (int i = 0; i < 3; i++) {
                const struct str *binding = i == 2 ? &one : NULL;
                sasl_conn_t *client = client_make(binding, 0);
                struct sasl_conn *server = server_make(binding, false);

                cr_expect_eq(converse(client, server, mechs[i], &step), SASL_OUT_OK, "%s: %s", mechs[i], step.err.text);
                cr_expect_str_eq(step.userid, "ann");
                cr_expect_str_eq(step.mech, mechs[i]);
                sasl_dispose(&client);
                sasl_conn_destroy(&server);
        }
        {
                sasl_conn_t *client = client_make(&one, 0);
                struct sasl_conn *server = server_make(&other, false);

                cr_expect_eq(converse(client, server, "SCRAM-SHA-256-PLUS", &step), SASL_OUT_FAILED);
                sasl_dispose(&client);
                sasl_conn_destroy(&server);
        }
        sasl_step_deinit(&step);
        str_deinit(&one);
        str_deinit(&other);
        stop();
}

Test(sasl_exchange, a_security_layer_carries_everything, .timeout = 30)         /* RFC 4422 3.7 */
{
        sasl_conn_t *client;
        struct sasl_conn *server;
        struct sasl_step step;
        struct stream *stream;
        struct rope out = ROPE_INIT;
        struct str in = STR_INIT, got = STR_INIT;
        struct err err = ERR_INIT;
        enum stream_result r;
        const char *enc;
        unsigned len;
        int sv[2];

        start("sasl_mech_list: DIGEST-MD5\n");
        sasl_step_init(&step);
        client = client_make(NULL, 128);
        server = server_make(NULL, false);
        cr_assert_eq(converse(client, server, "DIGEST-MD5", &step), SASL_OUT_OK, "%s", step.err.text);
        cr_assert(step.has_layer);
        must(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0);
        stream = stream_create(sv[0]);
        stream_start_sasl(stream, server);

        cr_assert_eq(sasl_encode(client, "hello, server", 13, &enc, &len), SASL_OK);
        cr_assert_eq(write(sv[1], enc, 5), 5);          /* torn */
        cr_expect_eq(stream_read(stream, &in, 1000, &err), STREAM_BLOCKED_READ);
        cr_assert_eq(write(sv[1], enc + 5, len - 5), (ssize_t)len - 5);
        cr_assert_eq(stream_read(stream, &in, 5, &err), STREAM_OK);
        cr_expect(stream_pending(stream));
        cr_assert_eq(stream_read(stream, &in, 1000, &err), STREAM_OK);
        cr_expect_str_eq(in.data, "hello, server");
        cr_expect(!stream_pending(stream));

        for (int i = 0; i < 40000; i++)
                rope_printf(&out, "line %d\n", i);
        do {
                char buf[3000];
                const char *dec;
                ssize_t n;

                r = stream_write(stream, &out, &err);
                cr_assert(r == STREAM_OK || r == STREAM_BLOCKED_WRITE, "%s", err.text);
                while ((n = recv(sv[1], buf, sizeof buf, MSG_DONTWAIT)) > 0) {
                        cr_assert_eq(sasl_decode(client, buf, (unsigned)n, &dec, &len), SASL_OK, "%s", sasl_errdetail(client));
                        if (len)
                                str_append(&got, dec, len);
                }
        } while (r != STREAM_OK);
        str_clear(&in);
        for (int i = 0; i < 40000; i++)
                str_printf(&in, "line %d\n", i);
        cr_expect(span_eq(str_span(&in), str_span(&got)), "%zu octets came of %zu", got.len, in.len);

        cr_assert_eq(write(sv[1], "\0\0\0\x20 this is no packet of the layer", 36), 36);
        cr_expect_eq(stream_read(stream, &in, 1000, &err), STREAM_FAILED);
        stream_destroy(&stream);
        close(sv[1]);
        sasl_dispose(&client);
        sasl_step_deinit(&step);
        str_deinit(&in);
        str_deinit(&got);
        stop();
}

/* A saslauthd of two lines: every string is counted with two octets (saslauthd's protocol); ann/secret is right. */
static void *fake_saslauthd(void *arg)
{
        int fd = *(int *)arg;

        for (;;) {
                int c = accept(fd, NULL, NULL);
                unsigned char two[2];
                char words[4][64];
                const char *answer;

                if (c < 0)
                        return NULL;
                for (int i = 0; i < 4; i++) {
                        size_t n;

                        must(recv(c, two, 2, MSG_WAITALL) == 2);
                        n = (size_t)two[0] << 8 | two[1];
                        must(n < sizeof words[0] && (n == 0 || recv(c, words[i], n, MSG_WAITALL) == (ssize_t)n));
                        words[i][n] = '\0';
                }
                answer = strcmp(words[0], "ann") == 0 && strcmp(words[1], "secret") == 0 && strcmp(words[2], "imap") == 0 ? "OK" : "NO";
                must(write(c, "\0\2", 2) == 2 && write(c, answer, 2) == 2);
                close(c);
        }
}

Test(sasl_exchange, saslauthd_is_asked, .timeout = 30)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        struct sasl_conn *server;
        struct sasl_step step;
        pthread_t thread;

        start("sasl_pwcheck_method: saslauthd\n");
        sasl_step_init(&step);
        server = server_make(NULL, true);
        sasl_login(server, SPAN("ann"), SPAN("secret"), &step);
        cr_expect_eq(step.err.code, ERR_UNAVAILABLE, "%s", step.err.text);      /* nobody answers */
        sasl_conn_destroy(&server);
        snprintf(a.sun_path, sizeof a.sun_path, "%s/mux", dir);
        must(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 5) == 0);
        must(pthread_create(&thread, NULL, fake_saslauthd, &fd) == 0);
        server = server_make(NULL, true);
        sasl_login(server, SPAN("ann"), SPAN("secret"), &step);
        cr_expect_eq(step.outcome, SASL_OUT_OK, "%s", step.err.text);
        sasl_login(server, SPAN("ann"), SPAN("wrong"), &step);
        cr_expect_eq(step.err.code, ERR_AUTH);
        sasl_conn_destroy(&server);
        shutdown(fd, SHUT_RDWR);
        pthread_join(thread, NULL);
        close(fd);
        sasl_step_deinit(&step);
        stop();
}
