/* Which certificate for which client, and tickets: both ends of a connection in one process, on a socket pair. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/stream_private.h"
#include "server/tls.h"
#include "t/store/conf_text.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

static char dir[64];

static void begin(void)
{
        struct err err = ERR_INIT;

        log_open(LOG_TO_STDERR, "tls_certs_test", -1, LOG_ERROR);
        must(tls_init(&err) == 0);
        snprintf(dir, sizeof dir, "/tmp/tls_certs_test.XXXXXX");
        must(mkdtemp(dir) != NULL);
}

static void end(void)
{
        fs_remove_tree(dir, NULL);
}

/* A certificate for names separated by blanks, its serial number tells them apart; files below dir. */
static void make_cert(const char *cert_file, const char *key_file, const char *names, gnutls_pk_algorithm_t alg, unsigned char serial)
{
        gnutls_x509_privkey_t key;
        gnutls_x509_crt_t crt;
        gnutls_datum_t cert_pem, key_pem;
        char path[200], list[300], *name, *save;
        FILE *f;

        gnutls_x509_privkey_init(&key);
        must(gnutls_x509_privkey_generate(key, alg, alg == GNUTLS_PK_RSA ? 2048 : GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0) == 0);
        gnutls_x509_crt_init(&crt);
        gnutls_x509_crt_set_version(crt, 3);
        gnutls_x509_crt_set_serial(crt, &serial, 1);
        gnutls_x509_crt_set_activation_time(crt, time(NULL) - 1000);
        gnutls_x509_crt_set_expiration_time(crt, time(NULL) + 100000);
        snprintf(list, sizeof list, "%s", names);
        for (name = strtok_r(list, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
                if (name[0] == '=')
                        gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name + 1, (unsigned)strlen(name + 1));
                else
                        gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, name, (unsigned)strlen(name), GNUTLS_FSAN_APPEND);
        }
        gnutls_x509_crt_set_key(crt, key);
        must(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0) == 0);
        must(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &cert_pem) == 0);
        must(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem) == 0);
        snprintf(path, sizeof path, "%s/%s", dir, cert_file);
        must((f = fopen(path, "w")) != NULL);
        fwrite(cert_pem.data, 1, cert_pem.size, f);
        fclose(f);
        snprintf(path, sizeof path, "%s/%s", dir, key_file);
        must((f = fopen(path, strcmp(cert_file, key_file) ? "w" : "a")) != NULL);
        fwrite(key_pem.data, 1, key_pem.size, f);
        fclose(f);
        gnutls_free(cert_pem.data);
        gnutls_free(key_pem.data);
        gnutls_x509_crt_deinit(crt);
        gnutls_x509_privkey_deinit(key);
}

/* The context that these lines make; %s in them is the directory (at most eight times). */
static struct tls_context *context(const char *lines, struct err *err)
{
        char text[2000], all[2500];
        struct tls_context *tls = NULL;
        struct conf *conf;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, lines, dir, dir, dir, dir, dir, dir, dir, dir);
#pragma GCC diagnostic pop
        snprintf(all, sizeof all, "configdirectory: /x\npartition-default: /x\n%s", text);
        conf = conf_text(all);
        err_clear(err);
        if (tls_context_create(conf, "imap", NULL, &tls, err) < 0)
                tls = NULL;
        conf_unref(&conf);
        return tls;
}

static struct tls_context *context_ok(const char *lines)
{
        struct err err = ERR_INIT;
        struct tls_context *tls = context(lines, &err);

        cr_assert_not_null(tls, "%s", err.text);
        return tls;
}

struct end { gnutls_session_t s; int fd; };

/* What the server sends is looked at on its way: the name of the key of a TLS 1.2 ticket (RFC 5077 3.3, 4). */
static unsigned char ticket_name[16];
static bool ticket_seen;

static ssize_t pull(gnutls_transport_ptr_t p, void *buf, size_t len)
{
        ssize_t n = recv((int)(intptr_t)p, buf, len, 0);
        const unsigned char *b = buf;

        /* Handshake records are read in two steps: header, then body. NewSessionTicket: type 4, length 3, lifetime 4, length 2, ticket. */
        if (n > 26 && b[0] == 4 && b[1] == 0) {
                memcpy(ticket_name, b + 10, 16);
                ticket_seen = true;
        }
        return n;
}

/* Both ends' handshake. Returns the client's result; *resume: data of the earlier session in, of this one out. */
static int shake(struct tls_context *tls, const char *name, const char *priorities, gnutls_datum_t *resume, unsigned char *serial_r,
                 bool *resumed_r)
{
        gnutls_certificate_credentials_t cred;
        gnutls_session_t server, client;
        struct err err = ERR_INIT;
        int fd[2], a = GNUTLS_E_AGAIN, b = GNUTLS_E_AGAIN;
        unsigned n;
        const gnutls_datum_t *peer;

        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
        gnutls_init(&server, GNUTLS_SERVER | GNUTLS_NONBLOCK);
        must(tls_context_apply(tls, server, &err) == 0);
        gnutls_transport_set_int(server, fd[0]);
        gnutls_init(&client, GNUTLS_CLIENT | GNUTLS_NONBLOCK);
        must(gnutls_priority_set_direct(client, priorities ? priorities : "NORMAL", NULL) == 0);
        gnutls_certificate_allocate_credentials(&cred);
        gnutls_credentials_set(client, GNUTLS_CRD_CERTIFICATE, cred);
        if (name)
                gnutls_server_name_set(client, GNUTLS_NAME_DNS, name, strlen(name));
        if (resume && resume->data)
                gnutls_session_set_data(client, resume->data, resume->size);
        gnutls_transport_set_ptr(client, (gnutls_transport_ptr_t)(intptr_t)fd[1]);
        gnutls_transport_set_pull_function(client, pull);
        for (int turns = 0; turns < 100 && (a == GNUTLS_E_AGAIN || b == GNUTLS_E_AGAIN); turns++) {
                if (b == GNUTLS_E_AGAIN)
                        b = gnutls_handshake(client);
                if (a == GNUTLS_E_AGAIN)
                        a = gnutls_handshake(server);
        }
        if (a == 0 && b == 0) {
                char octet;

                gnutls_record_recv(client, &octet, 1);  /* TLS 1.3: tickets come after the handshake */
                if (resumed_r)
                        *resumed_r = gnutls_session_is_resumed(client);
                if (serial_r && (peer = gnutls_certificate_get_peers(client, &n)) != NULL) {
                        gnutls_x509_crt_t crt;
                        size_t size = 1;

                        gnutls_x509_crt_init(&crt);
                        must(gnutls_x509_crt_import(crt, &peer[0], GNUTLS_X509_FMT_DER) == 0);
                        must(gnutls_x509_crt_get_serial(crt, serial_r, &size) == 0);
                        gnutls_x509_crt_deinit(crt);
                }
                if (resume) {
                        gnutls_free(resume->data);
                        must(gnutls_session_get_data2(client, resume) == 0);
                }
        }
        gnutls_deinit(server);
        gnutls_deinit(client);
        gnutls_certificate_free_credentials(cred);
        close(fd[0]);
        close(fd[1]);
        return b ? b : a;
}

static unsigned shown(struct tls_context *tls, const char *name, const char *priorities)
{
        unsigned char serial = 0;
        int rc = shake(tls, name, priorities, NULL, &serial, NULL);

        return rc == 0 ? serial : 0;
}

#define ONLY_RSA "NORMAL:-SIGN-ALL:+SIGN-RSA-PSS-RSAE-SHA256:+SIGN-RSA-SHA256"
#define ONLY_ECDSA "NORMAL:-SIGN-ALL:+SIGN-ECDSA-SECP256R1-SHA256:+SIGN-ECDSA-SHA256"
#define TLS12 ":-VERS-ALL:+VERS-TLS1.2"

Test(tls_certs, of_an_rsa_and_an_ecdsa_certificate_the_client_gets_what_it_can_use)
{
        struct tls_context *tls;

        begin();
        make_cert("rsa", "rsa.key", "mail.example", GNUTLS_PK_RSA, 1);
        make_cert("ec", "ec.key", "mail.example", GNUTLS_PK_ECDSA, 2);
        tls = context_ok("tls_server_cert: %s/rsa,%s/ec\ntls_server_key: %s/rsa.key,%s/ec.key\n");
        cr_expect_eq(shown(tls, "mail.example", ONLY_RSA), 1);
        cr_expect_eq(shown(tls, "mail.example", ONLY_ECDSA), 2);
        cr_expect_eq(shown(tls, NULL, ONLY_RSA), 1);
        cr_expect_eq(shown(tls, NULL, ONLY_ECDSA), 2);
        cr_expect_eq(shown(tls, "other.example", ONLY_ECDSA), 2);
        cr_expect_eq(shown(tls, "mail.example", "NORMAL:-SIGN-ALL:+SIGN-RSA-SHA256:+SIGN-ECDSA-SHA256" TLS12 ":-KX-ALL:+ECDHE-ECDSA"), 2);
        cr_expect_eq(shown(tls, "mail.example", "NORMAL" TLS12 ":-KX-ALL:+ECDHE-RSA"), 1);
        tls_context_unref(&tls);
        end();
}

Test(tls_certs, a_name_gets_its_certificate)            /* RFC 6066 3, RFC 6125 6.4 */
{
        static const struct { const char *name; unsigned serial; } cases[] = {
                { NULL, 1 }, { "one.example", 1 }, { "two.example", 2 }, { "TWO.Example", 2 }, { "two.example.", 2 },
                { "imap.two.example", 2 }, { "a.star.example", 3 }, { "A.STAR.EXAMPLE", 3 }, { "a.b.star.example", 1 },
                { "star.example", 1 }, { "exact.star.example", 4 }, { "only-cn.example", 5 }, { "not-the-cn.example", 1 },
                { "nobody.example", 1 }, { "x", 1 },
        };
        struct tls_context *tls;

        begin();
        make_cert("1", "1.key", "one.example", GNUTLS_PK_ECDSA, 1);
        make_cert("2", "2.key", "two.example imap.two.example =not-the-cn.example", GNUTLS_PK_ECDSA, 2);
        make_cert("3", "3.key", "*.star.example", GNUTLS_PK_ECDSA, 3);
        make_cert("4", "4.key", "Exact.Star.example", GNUTLS_PK_ECDSA, 4);
        make_cert("5", "5", "=only-cn.example", GNUTLS_PK_ECDSA, 5);
        tls = context_ok("tls_server_cert: %s/1,%s/2,%s/3, %s/4\ntls_server_key: %s/1.key,%s/2.key,%s/3.key,%s/4.key\n");
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
                for (int v = 0; v < 2; v++)
                        if (cases[i].serial != 5)
                                cr_expect_eq(shown(tls, cases[i].name, v ? NULL : "NORMAL" TLS12), cases[i].serial, "%s: %u",
                                             cases[i].name ? cases[i].name : "(none)", shown(tls, cases[i].name, NULL));
        tls_context_unref(&tls);
        must(symlinkat("5", open(dir, O_RDONLY), "5.pem") == 0);
        tls = context_ok("tls_server_cert: %s/1\ntls_server_key: %s/1.key\ntls_server_cert_dir: %s\n");
        cr_expect_eq(shown(tls, "only-cn.example", NULL), 5);
        tls_context_unref(&tls);
        end();
}

Test(tls_certs, a_directory_adds_pairs_and_a_broken_one_does_no_harm)
{
        struct tls_context *tls;
        char path[200];
        FILE *f;

        begin();
        make_cert("own", "own.k", "own.example", GNUTLS_PK_ECDSA, 1);
        snprintf(path, sizeof path, "%s/more", dir);
        must(mkdir(path, 0700) == 0);
        snprintf(path, sizeof path, "%s/more/a.example", dir);
        must(mkdir(path, 0700) == 0);
        make_cert("more/a.example/fullchain.pem", "more/a.example/privkey.pem", "a.example", GNUTLS_PK_ECDSA, 2);
        make_cert("more/b.pem", "more/b.pem", "b.example", GNUTLS_PK_ECDSA, 3);
        make_cert("more/c.crt", "more/c.key", "c.example", GNUTLS_PK_ECDSA, 4);
        make_cert("more/c-rsa.crt", "more/c-rsa.key", "c.example www.c.example", GNUTLS_PK_RSA, 5);
        make_cert("more/d.crt", "more/e.key", "d.example", GNUTLS_PK_ECDSA, 6);         /* d.key is not there */
        snprintf(path, sizeof path, "%s/more/README", dir);
        must((f = fopen(path, "w")) != NULL);
        fclose(f);
        log_set_level(LOG_ERROR + 0);
        tls = context_ok("tls_server_cert: %s/own\ntls_server_key: %s/own.k\ntls_server_cert_dir: %s/more\n");
        cr_expect_eq(shown(tls, "a.example", NULL), 2);
        cr_expect_eq(shown(tls, "b.example", NULL), 3);
        cr_expect_eq(shown(tls, "c.example", ONLY_ECDSA), 4);
        cr_expect_eq(shown(tls, "c.example", ONLY_RSA), 5);
        cr_expect_eq(shown(tls, "www.c.example", ONLY_ECDSA), 1, "rather the wrong name than none");
        cr_expect_eq(shown(tls, "d.example", NULL), 1);
        cr_expect_eq(shown(tls, NULL, NULL), 1);
        tls_context_unref(&tls);
        end();
}

Test(tls_certs, what_is_wrong_is_said_with_its_file)
{
        static const struct { const char *lines, *told; } cases[] = {
                { "tls_server_cert: %s/1,%s/2\ntls_server_key: %s/1.key\n", "no key for" },
                { "tls_server_cert: %s/1\ntls_server_key: %s/1.key,%s/2.key\n", "2.key belongs to no certificate" },
                { "tls_server_cert: %s/1,%s/2\ntls_server_key: %s/2.key,%s/1.key\n", "2.key is not the key of" },
                { "tls_server_cert: %s/1,%s/3\ntls_server_key: %s/1.key,%s/2.key\n", "/3" },
                { "tls_server_cert: %s/1\n", "/1" },                                    /* no key in it */
                { "tls_server_cert: ,\n", "names no file" },
                { "tls_server_cert: %s/1\ntls_server_key: %s/1.key\ntls_server_cert_dir: %s/none\n", "tls_server_cert_dir" },
                { "tls_server_cert: %s/1\ntls_server_key: %s/1.key\ntls_server_ca_dir: %s/none\n", "tls_server_ca_dir" },
        };
        struct err err = ERR_INIT;

        begin();
        make_cert("1", "1.key", "one.example", GNUTLS_PK_ECDSA, 1);
        make_cert("2", "2.key", "two.example", GNUTLS_PK_ECDSA, 2);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                struct tls_context *tls = context(cases[i].lines, &err);

                cr_assert_null(tls, "%s", cases[i].lines);
                cr_expect_eq(err.code, ERR_CONFIG);
                cr_expect_not_null(strstr(err.text, cases[i].told), "%s: %s", cases[i].told, err.text);
        }
        end();
}

static bool resumes(struct tls_context *tls, const char *name, const char *priorities, gnutls_datum_t *data)
{
        bool resumed = false;

        cr_assert_eq(shake(tls, name, priorities, data, NULL, &resumed), 0);
        return resumed;
}

Test(tls_certs, tickets_end_with_tls_session_timeout, .timeout = 30)
{
        struct tls_context *tls;

        begin();
        make_cert("1", "1.key", "one.example", GNUTLS_PK_ECDSA, 1);
        tls = context_ok("tls_server_cert: %s/1\ntls_server_key: %s/1.key\ntls_session_timeout: 2s\n");
        for (int v = 0; v < 2; v++) {
                const char *p = v ? NULL : "NORMAL" TLS12;
                gnutls_datum_t data = { NULL, 0 };

                cr_expect(!resumes(tls, NULL, p, &data));
                cr_expect(resumes(tls, NULL, p, &data));
                sleep(4);
                cr_expect(!resumes(tls, NULL, p, &data));
                gnutls_free(data.data);
        }
        tls_context_unref(&tls);
        tls = context_ok("tls_server_cert: %s/1\ntls_server_key: %s/1.key\ntls_session_timeout: 0\n");
        for (int v = 0; v < 2; v++) {
                gnutls_datum_t data = { NULL, 0 };

                cr_expect(!resumes(tls, NULL, v ? NULL : "NORMAL" TLS12, &data));
                cr_expect(!resumes(tls, NULL, v ? NULL : "NORMAL" TLS12, &data));
                gnutls_free(data.data);
        }
        tls_context_unref(&tls);
        end();
}

Test(tls_certs, the_keys_of_tickets_rotate, .timeout = 30)
{
        unsigned char first[16];
        struct tls_context *tls;
        int changes = 0;

        begin();
        make_cert("1", "1.key", "one.example", GNUTLS_PK_ECDSA, 1);
        tls = context_ok("tls_server_cert: %s/1\ntls_server_key: %s/1.key\ntls_session_timeout: 1s\n");
        for (int i = 0; i < 16; i++) {                  /* 8 s; GnuTLS changes the key each three times the timeout */
                gnutls_datum_t data = { NULL, 0 };

                ticket_seen = false;
                cr_assert(!resumes(tls, NULL, "NORMAL" TLS12, &data));
                cr_assert(ticket_seen);
                if (i > 0 && memcmp(first, ticket_name, 16) != 0)
                        changes++;
                memcpy(first, ticket_name, 16);
                cr_expect_neq(memcmp(first, (unsigned char[16]){ 0 }, 16), 0);
                gnutls_free(data.data);
                usleep(500000);
        }
        cr_expect(changes >= 2 && changes <= 3, "%d changes", changes);
        tls_context_unref(&tls);
        end();
}

Test(tls_certs, a_ticket_of_one_name_is_no_way_around_another)
{
        struct tls_context *tls;
        gnutls_datum_t data = { NULL, 0 };

        begin();
        make_cert("1", "1.key", "one.example", GNUTLS_PK_ECDSA, 1);
        make_cert("2", "2.key", "two.example", GNUTLS_PK_ECDSA, 2);
        tls = context_ok("tls_server_cert: %s/1,%s/2\ntls_server_key: %s/1.key,%s/2.key\n");
        cr_expect(!resumes(tls, "one.example", "NORMAL" TLS12, &data));
        cr_expect(resumes(tls, "one.example", "NORMAL" TLS12, &data));
        cr_expect(!resumes(tls, "two.example", "NORMAL" TLS12, &data), "RFC 6066 3");
        gnutls_free(data.data);
        tls_context_unref(&tls);
        end();
}
