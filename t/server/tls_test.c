/* TLS through the engine, with a client in this process: handshake at once and after STARTTLS, data both ways, what is refused. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "server/service.h"
#include "server/tls.h"
#include "t/store/conf_text.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define FILE_SIZE 3000000u

/* ---- the protocol: lines are echoed; STARTTLS; SEND: the file, then a megabyte of memory; WHO: the client's certificate ----- */

static struct file *the_file;

static char file_octet(size_t i) { return (char)('a' + i % 23); }

struct toy { size_t left; bool starting; };

static void toy_open(struct session *s)
{
        s->authenticated = s->idle_ok = true;
}

static void toy_close(struct session *s)
{
        (void)s;
}

static enum step send_memory(struct session *s, struct toy *t)
{
        char block[5000];

        memset(block, 'm', sizeof block);
        while (t->left > 0) {
                if (s->out.bytes > ROPE_HIGH)
                        return STEP_FLUSH;
                rope_append(&s->out, block, sizeof block);
                t->left -= sizeof block;
        }
        return STEP_INPUT;
}

static enum step toy_line(struct session *s, struct toy *t, struct span line)
{
        if (span_eq_str(line, "SEND")) {
                struct extent x = { file_ref(the_file), 0, FILE_SIZE };

                rope_append_extent(&s->out, &x);
                t->left = 1000000;
                return STEP_FLUSH;
        }
        if (span_eq_str(line, "STARTTLS")) {
                rope_append_str(&s->out, "go\n");
                t->starting = true;
                return STEP_DRAIN;
        }
        if (span_eq_str(line, "WHO")) {
                struct str cb = STR_INIT;
                bool has = stream_channel_binding(s->stream, "tls-exporter", &cb);

                rope_printf(&s->out, "%s %s %u %s %zu\n", stream_is_tls(s->stream) ? "tls" : "clear", stream_tls_version(s->stream),
                            stream_tls_bits(s->stream), stream_tls_peer(s->stream) ? stream_tls_peer(s->stream) : "-", has ? cb.len : 0);
                str_deinit(&cb);
                return STEP_INPUT;
        }
        rope_append_span(&s->out, line);
        rope_append_str(&s->out, "\n");
        return STEP_INPUT;
}

static enum step toy_run(struct session *s)
{
        struct toy *t = s->self;
        size_t eol;

        if (s->woken & (WAKE_STOP | WAKE_TIMEOUT))
                return STEP_CLOSE;
        s->woken = 0;
        if (t->starting) {
                struct tls_context *tls = service_tls(s->service);
                struct err err = ERR_INIT;

                t->starting = false;
                must(stream_start_tls(s->stream, tls, &err) == 0);
                tls_context_unref(&tls);
                return STEP_HANDSHAKE;
        }
        for (;;) {
                enum step step = send_memory(s, t);

                if (step != STEP_INPUT)
                        return step;
                eol = span_index(str_span(&s->in), '\n');
                if (eol == s->in.len)
                        return STEP_INPUT;
                step = toy_line(s, t, (struct span){ s->in.data, eol });
                str_consume(&s->in, eol + 1);
                if (step != STEP_INPUT)
                        return step;
        }
}

static const struct session_ops toy_ops = { .protocol = "imap", .size = sizeof(struct toy), .open = toy_open, .run = toy_run,
                                            .close = toy_close };

/* ---- a server --------------------------------------------------------------------------------------------------------------- */

static char dir[64];
static struct conf_live *live;
static struct service *clear, *secure;
static uint16_t clear_port, secure_port;

static int listen_any(uint16_t *port_r)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t len = sizeof a;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        must(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 64) == 0);
        must(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
        *port_r = ntohs(a.sin_port);
        return fd;
}

static struct conf *make_conf(const char *more)
{
        char text[1024];

        snprintf(text, sizeof text, "configdirectory: %s\npartition-default: %s\ntls_server_cert: %s/cert\ntls_server_key: %s/key\n%s",
                 dir, dir, dir, dir, more);
        return conf_text(text);
}

static void start(const char *more)
{
        struct service_params params = { .name = "clear", .ops = &toy_ops, .maxchild = -1 };
        struct engine_options options = { .workers = 2 };
        char path[100], other[100];
        struct err err = ERR_INIT;
        FILE *f;

        log_open(LOG_TO_STDERR, "tls_test", -1, LOG_ERROR);
        snprintf(dir, sizeof dir, "/tmp/tls_test.XXXXXX");
        must(mkdtemp(dir) != NULL);
        snprintf(path, sizeof path, "%s/file", dir);
        f = fopen(path, "w");
        for (size_t i = 0; i < FILE_SIZE; i++)
                putc(file_octet(i), f);
        fclose(f);
        the_file = file_create(path);
        snprintf(path, sizeof path, "%s/cert", dir);
        snprintf(other, sizeof other, "%s/key", dir);
        cr_assert_eq(tls_make_self_signed("mail.example", path, other, &err), 0, "%s", err.text);
        options.conf = live = conf_live_create(make_conf(more));
        cr_assert_eq(engine_start(&options, &err), 0, "%s", err.text);
        cr_assert_eq(service_add(&params, &clear, &err), 0, "%s", err.text);
        params.name = "secure";
        params.tls_at_once = true;
        cr_assert_eq(service_add(&params, &secure, &err), 0, "%s", err.text);
        cr_assert_eq(service_listen(clear, listen_any(&clear_port), &err), 0);
        cr_assert_eq(service_listen(secure, listen_any(&secure_port), &err), 0);
}

static void stop(void)
{
        engine_stop(1000);
        conf_live_destroy(&live);
        file_unref(&the_file);
        fs_remove_tree(dir, NULL);
}

/* ---- a client --------------------------------------------------------------------------------------------------------------- */

struct client {
        int fd;
        gnutls_session_t tls;
        gnutls_certificate_credentials_t cred;
};

static void client_connect(struct client *c, uint16_t port)
{
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
        struct timeval tv = { 10, 0 };
        int one = 1;

        memset(c, 0, sizeof *c);
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        must(connect(c->fd, (struct sockaddr *)&a, sizeof a) == 0);
}

/* A client's certificate for "ann", signed by the server's self-signed one – or by itself. */
static void make_client_cert(gnutls_certificate_credentials_t cred, bool by_server)
{
        gnutls_x509_privkey_t key, ca_key;
        gnutls_x509_crt_t crt, ca;
        char path[100];
        gnutls_datum_t d;

        gnutls_x509_privkey_init(&key);
        gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
        gnutls_x509_crt_init(&crt);
        gnutls_x509_crt_set_version(crt, 3);
        gnutls_x509_crt_set_serial(crt, "\7", 1);
        gnutls_x509_crt_set_activation_time(crt, time(NULL) - 1000);
        gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 100000);
        gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, "ann", 3);
        gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_CLIENT, 0);
        gnutls_x509_crt_set_key(crt, key);
        gnutls_x509_crt_init(&ca);
        gnutls_x509_privkey_init(&ca_key);
        snprintf(path, sizeof path, "%s/cert", dir);
        must(gnutls_load_file(path, &d) == 0 && gnutls_x509_crt_import(ca, &d, GNUTLS_X509_FMT_PEM) == 0);
        gnutls_free(d.data);
        snprintf(path, sizeof path, "%s/key", dir);
        must(gnutls_load_file(path, &d) == 0 && gnutls_x509_privkey_import2(ca_key, &d, GNUTLS_X509_FMT_PEM, NULL, 0) == 0);
        gnutls_free(d.data);
        must(gnutls_x509_crt_sign2(crt, by_server ? ca : crt, by_server ? ca_key : key, GNUTLS_DIG_SHA256, 0) == 0);
        must(gnutls_certificate_set_x509_key(cred, &crt, 1, key) >= 0);
        gnutls_x509_crt_deinit(crt);
        gnutls_x509_crt_deinit(ca);
        gnutls_x509_privkey_deinit(key);
        gnutls_x509_privkey_deinit(ca_key);
}

enum show { SHOW_NONE, SHOW_SIGNED, SHOW_UNKNOWN };

static int client_tls(struct client *c, const char *priorities, const char *alpn, enum show show)
{
        int rc;

        gnutls_certificate_allocate_credentials(&c->cred);
        if (show != SHOW_NONE)
                make_client_cert(c->cred, show == SHOW_SIGNED);
        gnutls_init(&c->tls, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL | (show == SHOW_UNKNOWN ? GNUTLS_FORCE_CLIENT_CERT : 0));
        must(gnutls_priority_set_direct(c->tls, priorities ? priorities : "NORMAL", NULL) == 0);
        gnutls_credentials_set(c->tls, GNUTLS_CRD_CERTIFICATE, c->cred);
        if (alpn) {
                gnutls_datum_t d = { (unsigned char *)alpn, (unsigned)strlen(alpn) };

                gnutls_alpn_set_protocols(c->tls, &d, 1, 0);
        }
        gnutls_transport_set_int(c->tls, c->fd);
        do
                rc = gnutls_handshake(c->tls);
        while (rc < 0 && !gnutls_error_is_fatal(rc));
        return rc;
}

static void client_end(struct client *c)
{
        if (c->tls)
                gnutls_deinit(c->tls);
        if (c->cred)
                gnutls_certificate_free_credentials(c->cred);
        close(c->fd);
}

static void say(struct client *c, const char *text)
{
        size_t len = strlen(text);

        if (c->tls)
                cr_assert_eq(gnutls_record_send(c->tls, text, len), (ssize_t)len);
        else
                cr_assert_eq(send(c->fd, text, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Exactly n octets; false: the connection ended or went wrong. */
static bool hear(struct client *c, char *buf, size_t n)
{
        size_t got = 0;

        while (got < n) {
                ssize_t r = c->tls ? gnutls_record_recv(c->tls, buf + got, n - got) : recv(c->fd, buf + got, n - got, 0);

                if (c->tls && r == GNUTLS_E_AGAIN)
                        continue;
                if (r <= 0)
                        return false;
                got += (size_t)r;
        }
        return true;
}

static void expect(struct client *c, const char *text)
{
        char buf[256] = "";

        cr_assert(hear(c, buf, strlen(text)), "waiting for %s", text);
        cr_assert_str_eq(buf, text);
}

static void expect_bulk(struct client *c)
{
        char *buf = malloc(FILE_SIZE + 1000000);

        cr_assert(hear(c, buf, FILE_SIZE + 1000000));
        for (size_t i = 0; i < FILE_SIZE; i++)
                cr_assert_eq(buf[i], file_octet(i), "octet %zu", i);
        for (size_t i = FILE_SIZE; i < FILE_SIZE + 1000000; i++)
                cr_assert_eq(buf[i], 'm', "octet %zu", i);
        free(buf);
}

/* ---- facts ------------------------------------------------------------------------------------------------------------------ */

Test(tls, files_and_memory_come_through_in_order, .timeout = 60)
{
        static const char *const versions[] = { "NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3" };
        struct client c;

        start("");
        for (int i = 0; i < 2; i++) {
                client_connect(&c, secure_port);
                cr_assert_eq(client_tls(&c, versions[i], "imap", SHOW_NONE), 0);
                say(&c, "hello\nSEND\nSE");
                say(&c, "ND\nafter\n");
                usleep(300000);                         /* the server runs into a full socket: a record is held */
                expect(&c, "hello\n");
                expect_bulk(&c);
                expect_bulk(&c);
                expect(&c, "after\n");
                client_end(&c);
        }
        stop();
}

Test(tls, small_records_are_kept_to, .timeout = 60)     /* RFC 8449 */
{
        struct client c;

        start("");
        client_connect(&c, secure_port);
        gnutls_certificate_allocate_credentials(&c.cred);
        gnutls_init(&c.tls, GNUTLS_CLIENT);
        gnutls_set_default_priority(c.tls);
        gnutls_credentials_set(c.tls, GNUTLS_CRD_CERTIFICATE, c.cred);
        gnutls_record_set_max_recv_size(c.tls, 512);
        gnutls_transport_set_int(c.tls, c.fd);
        cr_assert_eq(gnutls_handshake(c.tls), 0);
        say(&c, "SEND\n");
        usleep(200000);
        expect_bulk(&c);
        client_end(&c);
        stop();
}

Test(tls, what_was_pipelined_before_the_handshake_is_thrown_away, .timeout = 60)       /* RFC 9051 6.2.1 */
{
        struct client c;

        start("");
        client_connect(&c, clear_port);
        say(&c, "one\nSTARTTLS\ninjected\n");
        expect(&c, "one\ngo\n");
        cr_assert_eq(client_tls(&c, NULL, NULL, SHOW_NONE), 0);
        say(&c, "two\n");
        expect(&c, "two\n");
        say(&c, "WHO\n");
        expect(&c, "tls TLS1.3 256 - 32\n");
        client_end(&c);
        stop();
}

Test(tls, old_versions_and_other_protocols_are_refused, .timeout = 60)
{
        struct client c;

        start("");
        client_connect(&c, secure_port);
        cr_expect_lt(client_tls(&c, "NORMAL:-VERS-ALL:+VERS-TLS1.1:+VERS-TLS1.0", NULL, SHOW_NONE), 0);
        client_end(&c);
        client_connect(&c, secure_port);
        cr_expect_lt(client_tls(&c, NULL, "http/1.1", SHOW_NONE), 0);       /* RFC 7301 3.2 */
        client_end(&c);
        client_connect(&c, secure_port);
        say(&c, "GET / HTTP/1.0\r\n\r\n");
        cr_expect(!hear(&c, (char[300]){ 0 }, 300));
        client_end(&c);
        client_connect(&c, secure_port);                /* and the server is well */
        cr_expect_eq(client_tls(&c, NULL, NULL, SHOW_NONE), 0);
        client_end(&c);
        stop();
}

Test(tls, tls_versions_is_kept_to, .timeout = 60)
{
        struct client c;

        start("tls_versions: tls1_0 tls1_3\n");
        client_connect(&c, secure_port);
        cr_expect_lt(client_tls(&c, "NORMAL:-VERS-ALL:+VERS-TLS1.2", NULL, SHOW_NONE), 0);
        client_end(&c);
        client_connect(&c, secure_port);
        cr_expect_eq(client_tls(&c, NULL, NULL, SHOW_NONE), 0);
        client_end(&c);
        stop();
}

Test(tls, a_reload_changes_certificates_for_new_connections_only, .timeout = 60)
{
        struct client old, new;
        unsigned n;
        char cert[100], key[100];
        struct err err = ERR_INIT;
        gnutls_datum_t first, second;

        start("");
        client_connect(&old, secure_port);
        cr_assert_eq(client_tls(&old, NULL, NULL, SHOW_NONE), 0);
        snprintf(cert, sizeof cert, "%s/cert", dir);
        snprintf(key, sizeof key, "%s/key", dir);
        cr_assert_eq(tls_make_self_signed("other.example", cert, key, &err), 0, "%s", err.text);
        services_reload();
        client_connect(&new, secure_port);
        cr_assert_eq(client_tls(&new, NULL, NULL, SHOW_NONE), 0);
        first = gnutls_certificate_get_peers(old.tls, &n)[0];
        second = gnutls_certificate_get_peers(new.tls, &n)[0];
        cr_expect(first.size != second.size || memcmp(first.data, second.data, first.size) != 0);
        say(&old, "still\n");
        expect(&old, "still\n");
        client_end(&new);
        unlink(cert);                                   /* unreadable now: the present one stays */
        log_set_level(LOG_ERROR);
        services_reload();
        client_connect(&new, secure_port);
        cr_expect_eq(client_tls(&new, NULL, NULL, SHOW_NONE), 0);
        client_end(&new);
        client_end(&old);
        stop();
}

Test(tls, sessions_are_resumed_by_ticket, .timeout = 60)
{
        struct client c;
        gnutls_datum_t data = { NULL, 0 };

        start("");
        client_connect(&c, secure_port);
        cr_assert_eq(client_tls(&c, NULL, NULL, SHOW_NONE), 0);
        say(&c, "x\n");
        expect(&c, "x\n");
        cr_assert_eq(gnutls_session_get_data2(c.tls, &data), 0);
        client_end(&c);
        services_reload();                              /* tickets outlive it */
        client_connect(&c, secure_port);
        gnutls_certificate_allocate_credentials(&c.cred);
        gnutls_init(&c.tls, GNUTLS_CLIENT);
        gnutls_set_default_priority(c.tls);
        gnutls_credentials_set(c.tls, GNUTLS_CRD_CERTIFICATE, c.cred);
        gnutls_session_set_data(c.tls, data.data, data.size);
        gnutls_transport_set_int(c.tls, c.fd);
        cr_assert_eq(gnutls_handshake(c.tls), 0);
        cr_expect(gnutls_session_is_resumed(c.tls));
        gnutls_free(data.data);
        client_end(&c);
        stop();
}

Test(tls, clients_show_certificates_where_they_must, .timeout = 60)
{
        struct client c;
        char more[200];

        start("");
        snprintf(more, sizeof more, "tls_client_certs: require\ntls_client_ca_file: %s/cert\n", dir);
        conf_live_set(live, make_conf(more));
        services_reload();
        client_connect(&c, secure_port);
        client_tls(&c, NULL, NULL, SHOW_NONE);              /* TLS 1.3: the client hears of it with the first read */
        cr_expect(!hear(&c, (char[10]){ 0 }, 2));
        client_end(&c);
        client_connect(&c, secure_port);
        client_tls(&c, NULL, NULL, SHOW_UNKNOWN);
        cr_expect(!hear(&c, (char[10]){ 0 }, 2));
        client_end(&c);
        client_connect(&c, secure_port);
        cr_assert_eq(client_tls(&c, NULL, NULL, SHOW_SIGNED), 0);
        say(&c, "WHO\n");
        expect(&c, "tls TLS1.3 256 ann 32\n");
        client_end(&c);
        snprintf(more, sizeof more, "tls_client_certs: optional\ntls_client_ca_file: %s/cert\n", dir);
        conf_live_set(live, make_conf(more));
        services_reload();
        client_connect(&c, secure_port);
        cr_assert_eq(client_tls(&c, NULL, NULL, SHOW_NONE), 0);
        say(&c, "x\n");
        expect(&c, "x\n");
        client_end(&c);
        client_connect(&c, secure_port);                /* as good as none */
        cr_assert_eq(client_tls(&c, NULL, NULL, SHOW_UNKNOWN), 0);
        say(&c, "WHO\n");
        expect(&c, "tls TLS1.3 256 - 32\n");
        client_end(&c);
        stop();
}

Test(tls, wrong_files_are_named)
{
        struct tls_context *tls;
        struct err err = ERR_INIT;
        struct conf *conf = conf_text("configdirectory: /x\npartition-default: /x\ntls_server_cert: /no/such/cert\n");

        cr_expect_eq(tls_context_create(conf, "imap", NULL, &tls, &err), -1);
        cr_expect_eq(err.code, ERR_CONFIG);
        cr_expect_not_null(strstr(err.text, "/no/such/cert"));
        conf_unref(&conf);
        conf = conf_text("configdirectory: /x\npartition-default: /x\n");
        cr_expect_eq(tls_context_create(conf, "imap", NULL, &tls, &err), -1);
        cr_expect_eq(err.code, ERR_NOTFOUND);
        conf_unref(&conf);
}
