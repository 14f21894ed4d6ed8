/*
 * tls - see tls.h: what all sessions of a service share. How one connection speaks TLS is in stream_tls.c.
 * A context is immutable once made. Its credentials and priorities are shared by reference: a session holds no copy of either.
 */
#include "server/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/stream_private.h"
#include "server/tls_certs.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"
#include "util/str.h"

#define DH_MAX ((size_t)64 * 1024)
#define ALPN_MAX 4u
#define HANDSHAKE_MESSAGE_MAX ((size_t)64 * 1024)       /* a client's certificate chain; GnuTLS would take 128 KiB */
#define SELF_SIGNED_DAYS 800                    /* Apple's clients refuse longer than 825 */

struct tls_context {
        atomic_uint refs;
        struct tls_certs *certs;
        gnutls_priority_t priorities;
        gnutls_dh_params_t dh;
        gnutls_datum_t alpn[ALPN_MAX];          /* static strings */
        unsigned alpn_n;
        gnutls_certificate_request_t client_certs;
        uint32_t ticket_s;                      /* how long a session may be resumed; 0: never */
};

/* Tickets outlive a reload of certificates, so their key is the process's; GnuTLS derives from it keys that rotate. */
static gnutls_datum_t ticket_key;

int tls_init(struct err *err)
{
        int rc;

        if (ticket_key.data)
                return 0;
        rc = gnutls_global_init();
        if (rc == 0)
                rc = gnutls_session_ticket_key_generate(&ticket_key);
        return rc == 0 ? 0 : err_set(err, ERR_INTERNAL, "GnuTLS: %s", gnutls_strerror(rc));
}

struct tls_context *tls_context_ref(struct tls_context *tls)
{
        atomic_fetch_add(&tls->refs, 1);
        return tls;
}

void tls_context_unref(struct tls_context **tp)
{
        struct tls_context *tls = *tp;

        *tp = NULL;
        if (!tls || atomic_fetch_sub(&tls->refs, 1) != 1)
                return;
        tls_certs_free(&tls->certs);
        if (tls->priorities)
                gnutls_priority_deinit(tls->priorities);
        if (tls->dh)
                gnutls_dh_params_deinit(tls->dh);
        free(tls);
}

/* ---- priorities ----------------------------------------------------------------------------------------------------------- */

/* tls_versions: never below 1.2, whatever it says. Appends to the priority string. */
static int append_versions(struct conf *conf, const char *service, struct str *prio, struct err *err)
{
        const char *versions = conf_str(conf, service, "tls_versions");
        bool v12 = conf_words_have(versions, "tls1_2"), v13 = conf_words_have(versions, "tls1_3");

        if (!v12 && !v13)
                return err_set(err, ERR_CONFIG, "tls_versions: names neither tls1_2 nor tls1_3");
        str_append_str(prio, ":-VERS-ALL");
        if (v13)
                str_append_str(prio, ":+VERS-TLS1.3");
        if (v12)
                str_append_str(prio, ":+VERS-TLS1.2");
        return 0;
}

/* Priority strings begin with one of a few words; an OpenSSL cipher list does not. */
bool tls_ciphers_understood(const char *s)
{
        static const char *const words[] = { "NORMAL", "SECURE", "PERFORMANCE", "PFS", "LEGACY", "SUITEB", "SYSTEM", "NONE", "@" };

        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
                if (strncmp(s, words[i], strlen(words[i])) == 0)
                        return true;
        return false;
}

static void warn_ciphers(const char *ciphers)
{
        static atomic_bool warned;
        char quoted[LOG_QUOTE_MAX];

        if (!atomic_exchange(&warned, true))
                log_event(LOG_WARN, NULL, "tls.ciphers", "tls_ciphers=%s reason=\"not a GnuTLS priority string: NORMAL is used\"",
                          log_quote_str(quoted, ciphers));
}

static int set_priorities(struct tls_context *tls, struct conf *conf, const char *service, struct err *err)
{
        const char *ciphers = conf_str(conf, service, "tls_ciphers"), *base = "NORMAL";
        struct str prio = STR_INIT;
        const char *where = NULL;
        int rc = -1;

        if (ciphers && tls_ciphers_understood(ciphers))
                base = ciphers;
        else if (ciphers && *ciphers && strcmp(ciphers, "DEFAULT") != 0)
                warn_ciphers(ciphers);
        str_append_str(&prio, base);
        if (append_versions(conf, service, &prio, err) < 0)
                goto out;
        if (conf_switch(conf, service, "tls_prefer_server_ciphers"))
                str_append_str(&prio, ":%SERVER_PRECEDENCE");
        rc = gnutls_priority_init(&tls->priorities, prio.data, &where);
        if (rc < 0)
                rc = err_set(err, ERR_CONFIG, "tls_ciphers: %s at \"%s\"", gnutls_strerror(rc), where ? where : "");
out:
        str_deinit(&prio);
        return rc;
}

/* ---- certificates ---------------------------------------------------------------------------------------------------------- */

static int trust(gnutls_certificate_credentials_t c, const char *file, const char *dir, const char *crl, struct err *err)
{
        int rc;

        if (file && (rc = gnutls_certificate_set_x509_trust_file(c, file, GNUTLS_X509_FMT_PEM)) < 0)
                return err_set(err, ERR_CONFIG, "%s: %s", file, gnutls_strerror(rc));
        if (dir && (rc = gnutls_certificate_set_x509_trust_dir(c, dir, GNUTLS_X509_FMT_PEM)) < 0)
                return err_set(err, ERR_CONFIG, "%s: %s", dir, gnutls_strerror(rc));
        if (crl && (rc = gnutls_certificate_set_x509_crl_file(c, crl, GNUTLS_X509_FMT_PEM)) < 0)
                return err_set(err, ERR_CONFIG, "%s: %s", crl, gnutls_strerror(rc));
        return 0;
}

static int set_client_certs(struct tls_context *tls, struct conf *conf, const char *service, struct err *err)
{
        const char *mode = conf_enum(conf, service, "tls_client_certs");
        const char *file = conf_str(conf, service, "tls_client_ca_file"), *dir = conf_str(conf, service, "tls_client_ca_dir");
        const char *crl = conf_str(conf, service, "tls_crl_file");
        gnutls_certificate_credentials_t c;

        tls->client_certs = GNUTLS_CERT_IGNORE;
        if (strcmp(mode, "off") == 0)
                return 0;
        if (!file && !dir) {
                if (strcmp(mode, "require") == 0)
                        return err_set(err, ERR_CONFIG, "tls_client_certs: require needs tls_client_ca_file or tls_client_ca_dir");
                return 0;                               /* nothing to check one against: none is asked for */
        }
        for (size_t i = 0; (c = tls_certs_each(tls->certs, i)) != NULL; i++)
                if (trust(c, file, dir, crl, err) < 0)
                        return -1;
        tls->client_certs = strcmp(mode, "require") == 0 ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST;
        return 0;
}

static int set_dh(struct tls_context *tls, const char *path, struct err *err)
{
        struct str pem = STR_INIT;
        gnutls_certificate_credentials_t c;
        gnutls_datum_t d;
        int rc;

        if (!path)
                return 0;                               /* the groups of RFC 7919 */
        if (fs_slurp(path, DH_MAX, &pem, err) < 0) {
                str_deinit(&pem);
                err->code = ERR_CONFIG;
                return -1;
        }
        d.data = (unsigned char *)pem.data;
        d.size = (unsigned)pem.len;
        rc = gnutls_dh_params_init(&tls->dh);
        if (rc == 0)
                rc = gnutls_dh_params_import_pkcs3(tls->dh, &d, GNUTLS_X509_FMT_PEM);
        str_deinit(&pem);
        if (rc < 0)
                return err_set(err, ERR_CONFIG, "%s: %s", path, gnutls_strerror(rc));
        for (size_t i = 0; (c = tls_certs_each(tls->certs, i)) != NULL; i++)
                gnutls_certificate_set_dh_params(c, tls->dh);
        return 0;
}

int tls_context_create(struct conf *conf, const char *service, const char *const *alpn, struct tls_context **tls_r, struct err *err)
{
        const char *cert = conf_str(conf, service, "tls_server_cert");
        struct tls_context *tls;

        if (!cert || !*cert || strcmp(cert, "disabled") == 0)
                return err_set(err, ERR_NOTFOUND, "tls_server_cert is not set");
        if (tls_init(err) < 0)
                return -1;
        tls = xcalloc(1, sizeof *tls);
        atomic_init(&tls->refs, 1);
        for (; alpn && alpn[tls->alpn_n] && tls->alpn_n < ALPN_MAX; tls->alpn_n++) {
                tls->alpn[tls->alpn_n].data = (unsigned char *)alpn[tls->alpn_n];
                tls->alpn[tls->alpn_n].size = (unsigned)strlen(alpn[tls->alpn_n]);
        }
        tls->ticket_s = (uint32_t)conf_duration_s(conf, service, "tls_session_timeout");
        if (set_priorities(tls, conf, service, err) < 0 || tls_certs_load(conf, service, &tls->certs, err) < 0 ||
            set_client_certs(tls, conf, service, err) < 0 || set_dh(tls, conf_str(conf, service, "tls_server_dhparam"), err) < 0) {
                tls_context_unref(&tls);
                return -1;
        }
        *tls_r = tls;
        return 0;
}

bool tls_context_wants_client_cert(const struct tls_context *tls, bool *required_r)
{
        *required_r = tls->client_certs == GNUTLS_CERT_REQUIRE;
        return tls->client_certs != GNUTLS_CERT_IGNORE;
}

/* The client has said for which name it wants a certificate. A name that none of them has is no reason to refuse it: whoever cares
 * checks what it is shown (RFC 6066 3). */
static int hello_came(gnutls_session_t session)
{
        const struct tls_context *tls = gnutls_session_get_ptr(session);
        char name[256];
        size_t size = sizeof name - 1;
        unsigned type;

        if (gnutls_server_name_get(session, name, &size, &type, 0) < 0 || type != GNUTLS_NAME_DNS)
                return 0;
        name[size] = '\0';
        return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls_certs_for(tls->certs, name));
}

int tls_context_apply(struct tls_context *tls, gnutls_session_t session, struct err *err)
{
        int rc = gnutls_priority_set(session, tls->priorities);

        if (rc == 0)
                rc = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, tls_certs_for(tls->certs, NULL));
        if (rc == 0 && tls->ticket_s > 0)
                rc = gnutls_session_ticket_enable_server(session, &ticket_key);
        /* RFC 7301 3.2: a client that speaks of other protocols only is refused; one that speaks of none is fine. */
        if (rc == 0 && tls->alpn_n > 0)
                rc = gnutls_alpn_set_protocols(session, tls->alpn, tls->alpn_n, GNUTLS_ALPN_MANDATORY);
        if (rc < 0)
                return err_set(err, ERR_INTERNAL, "GnuTLS: %s", gnutls_strerror(rc));
        if (tls->ticket_s > 0)
                gnutls_db_set_cache_expiration(session, (int)tls->ticket_s);
        gnutls_session_set_ptr(session, tls);           /* the stream's reference lasts as long */
        gnutls_handshake_set_post_client_hello_function(session, hello_came);
        gnutls_certificate_server_set_request(session, tls->client_certs);
        gnutls_handshake_set_max_packet_length(session, HANDSHAKE_MESSAGE_MAX);
        return 0;
}

/* ---- a certificate for the demo ------------------------------------------------------------------------------------------- */

static int fill_certificate(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *hostname)
{
        unsigned char serial[16], v4[4] = { 127, 0, 0, 1 }, v6[16] = { 0 };
        time_t now = (time_t)clock_wall_s();
        int rc = 0;

        random_bytes(serial, sizeof serial);
        serial[0] &= 0x7f;                              /* positive, RFC 5280 4.1.2.2 */
        v6[15] = 1;
        rc |= gnutls_x509_crt_set_version(crt, 3);
        rc |= gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
        rc |= gnutls_x509_crt_set_activation_time(crt, now - 86400);
        rc |= gnutls_x509_crt_set_expiration_time(crt, now + (time_t)SELF_SIGNED_DAYS * 86400);
        rc |= gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, hostname, (unsigned)strlen(hostname));
        rc |= gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, hostname, (unsigned)strlen(hostname), GNUTLS_FSAN_SET);
        if (strcmp(hostname, "localhost") != 0)
                rc |= gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, "localhost", 9, GNUTLS_FSAN_APPEND);
        rc |= gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, v4, sizeof v4, GNUTLS_FSAN_APPEND);
        rc |= gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, v6, sizeof v6, GNUTLS_FSAN_APPEND);
        rc |= gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE | GNUTLS_KEY_KEY_CERT_SIGN);
        rc |= gnutls_x509_crt_set_key_purpose_oid(crt, GNUTLS_KP_TLS_WWW_SERVER, 0);
        rc |= gnutls_x509_crt_set_basic_constraints(crt, 1, -1);        /* so that it can be given to clients as their authority */
        rc |= gnutls_x509_crt_set_key(crt, key);
        return rc != 0 ? -1 : gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
}

static int export_pem(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const char *cert_path, const char *key_path, struct err *err)
{
        gnutls_datum_t cert_pem = { NULL, 0 }, key_pem = { NULL, 0 };
        int rc = -1;

        if (gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &cert_pem) < 0 ||
            gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &key_pem) < 0)
                err_set(err, ERR_INTERNAL, "GnuTLS cannot write PEM");
        else if (fs_replace(key_path, key_pem.data, key_pem.size, 0600, err) == 0 &&
                 fs_replace(cert_path, cert_pem.data, cert_pem.size, 0644, err) == 0)
                rc = 0;
        gnutls_free(cert_pem.data);
        gnutls_memset(key_pem.data, 0, key_pem.size);
        gnutls_free(key_pem.data);
        return rc;
}

int tls_make_self_signed(const char *hostname, const char *cert_path, const char *key_path, struct err *err)
{
        gnutls_x509_privkey_t key = NULL;
        gnutls_x509_crt_t crt = NULL;
        int rc;

        if (tls_init(err) < 0)
                return -1;
        must(gnutls_x509_privkey_init(&key) == 0 && gnutls_x509_crt_init(&crt) == 0);
        rc = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
        if (rc == 0)
                rc = fill_certificate(crt, key, hostname);
        if (rc < 0)
                err_set(err, ERR_INTERNAL, "GnuTLS: certificate for %s: %s", hostname, gnutls_strerror(rc));
        else
                rc = export_pem(crt, key, cert_path, key_path, err);
        gnutls_x509_crt_deinit(crt);
        gnutls_x509_privkey_deinit(key);
        return rc < 0 ? -1 : 0;
}
