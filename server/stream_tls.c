/*
 * stream_tls - one connection's TLS, over GnuTLS's record interface on a non-blocking socket. See stream.h and tls.c.
 *
 * Writing: when the socket is full, GnuTLS keeps the encrypted record and is asked again with (NULL, 0). How much of what it was
 * given is in that record it says only when it is sent – the client may have asked for small records (RFC 8449) –, so the octets stay
 * at the front of the rope until then.
 * Renegotiation (TLS 1.2) is refused; a client that insists is cut off.
 */
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>

#include "server/metrics.h"
#include "server/stream_private.h"
#include "server/tls.h"
#include "util/log.h"
#include "util/must.h"

#define WARNINGS_MAX 8u                         /* harmless alerts of one connection */

static enum stream_result tls_failed(const char *what, int rc, struct err *err)
{
        err_set(err, ERR_CLOSED, "TLS %s: %s", what, gnutls_strerror(rc));
        return STREAM_FAILED;
}

/* GnuTLS would wait: for what? */
static enum stream_result tls_blocked(struct stream *s)
{
        return gnutls_record_get_direction(s->tls) ? STREAM_BLOCKED_WRITE : STREAM_BLOCKED_READ;
}

static bool try_again(int rc)
{
        return rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED;
}

int stream_start_tls(struct stream *s, struct tls_context *tls, struct err *err)
{
        int rc;

        must(s->tls == NULL);
        rc = gnutls_init(&s->tls, GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
        if (rc < 0) {
                s->tls = NULL;
                return err_set(err, ERR_NOMEM, "GnuTLS: %s", gnutls_strerror(rc));
        }
        s->tls_context = tls_context_ref(tls);
        gnutls_transport_set_int(s->tls, s->fd);
        return tls_context_apply(tls, s->tls, err);
}

void tls_release(struct stream *s)
{
        if (s->tls)
                gnutls_deinit(s->tls);
        s->tls = NULL;
        tls_context_unref(&s->tls_context);
        free(s->tls_peer);
        s->tls_peer = NULL;
}

/* ---- handshake ------------------------------------------------------------------------------------------------------------ */

/* The common name of the certificate, as Cyrus takes it for EXTERNAL. NULL: none, or not a plain name. */
static char *common_name(gnutls_session_t session)
{
        unsigned n = 0;
        const gnutls_datum_t *der = gnutls_certificate_get_peers(session, &n);
        gnutls_x509_crt_t crt;
        char name[256], *copy = NULL;
        size_t size = sizeof name - 1;

        if (!der || n == 0 || gnutls_x509_crt_init(&crt) < 0)
                return NULL;
        if (gnutls_x509_crt_import(crt, &der[0], GNUTLS_X509_FMT_DER) == 0 &&
            gnutls_x509_crt_get_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size) == 0 && size > 0 &&
            !memchr(name, '\0', size))
                copy = xstrndup(name, size);
        gnutls_x509_crt_deinit(crt);
        return copy;
}

/* A certificate that does not verify is as good as none – which is not enough where one is required. */
static int check_client(struct stream *s, struct err *err)
{
        gnutls_typed_vdata_st purpose = { GNUTLS_DT_KEY_PURPOSE_OID, (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT, 0 };
        unsigned status = 0, n = 0;
        bool required;

        if (!tls_context_wants_client_cert(s->tls_context, &required))
                return 0;
        if (gnutls_certificate_get_peers(s->tls, &n) == NULL || n == 0)
                return required ? err_set(err, ERR_AUTH, "the client sent no certificate") : 0;
        if (gnutls_certificate_verify_peers(s->tls, &purpose, 1, &status) < 0 || status != 0) {
                if (required)
                        return err_set(err, ERR_AUTH, "the client's certificate does not verify (status 0x%x)", status);
                log_event(LOG_NOTE, NULL, "tls.client_cert", "reason=\"does not verify\" status=0x%x", status);
                return 0;
        }
        s->tls_peer = common_name(s->tls);
        return 0;
}

enum stream_result stream_handshake(struct stream *s, struct err *err)
{
        must(s->tls != NULL);
        for (;;) {
                int rc = gnutls_handshake(s->tls);

                if (rc == GNUTLS_E_SUCCESS)
                        break;
                if (try_again(rc))
                        return tls_blocked(s);
                if (gnutls_error_is_fatal(rc) || ++s->tls_warnings > WARNINGS_MAX) {
                        metric_add(METRIC_TLS_FAILED, 1);
                        gnutls_alert_send_appropriate(s->tls, rc);
                        return tls_failed("handshake", rc, err);
                }
        }
        if (check_client(s, err) < 0) {
                metric_add(METRIC_TLS_FAILED, 1);
                gnutls_alert_send(s->tls, GNUTLS_AL_FATAL, GNUTLS_A_BAD_CERTIFICATE);
                return STREAM_FAILED;
        }
        s->tls_established = true;
        metric_add(METRIC_TLS_DONE, 1);
        return STREAM_OK;
}

/* ---- records -------------------------------------------------------------------------------------------------------------- */

enum stream_result tls_read(struct stream *s, void *buf, size_t max, size_t *n_r, struct err *err)
{
        for (;;) {
                ssize_t n = gnutls_record_recv(s->tls, buf, max);

                if (n > 0) {
                        *n_r = (size_t)n;
                        return STREAM_OK;
                }
                if (n == 0 || n == GNUTLS_E_PREMATURE_TERMINATION)
                        return STREAM_EOF;
                if (try_again((int)n))
                        return tls_blocked(s);
                if (n == GNUTLS_E_REHANDSHAKE) {
                        /* A handshake costs us a hundred times what it costs him. GnuTLS keeps his hello until it is answered, so it is
                         * not to be passed over: he is told, and that was it. */
                        gnutls_alert_send(s->tls, GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
                        return tls_failed("read", (int)n, err);
                }
                if (gnutls_error_is_fatal((int)n) || ++s->tls_warnings > WARNINGS_MAX)
                        return tls_failed("read", (int)n, err);
        }
}

enum stream_result tls_write(struct stream *s, const void *p, size_t len, size_t *n_r, struct err *err)
{
        ssize_t n = s->tls_resend ? gnutls_record_send(s->tls, NULL, 0) : gnutls_record_send(s->tls, p, len);

        if (n > 0) {
                must((size_t)n <= len);
                s->tls_resend = false;
                *n_r = (size_t)n;
                return STREAM_OK;
        }
        if (n < 0 && try_again((int)n)) {
                s->tls_resend = true;
                return tls_blocked(s);
        }
        return tls_failed("write", n == 0 ? GNUTLS_E_INTERNAL_ERROR : (int)n, err);
}

bool tls_pending(const struct stream *s)
{
        return gnutls_record_check_pending(s->tls) > 0;
}

void tls_shutdown(struct stream *s)
{
        if (s->tls_established && !s->tls_resend)
                gnutls_bye(s->tls, GNUTLS_SHUT_WR);     /* one small record: sent, or the socket is full and nobody reads anyway */
}

/* ---- what others ask ------------------------------------------------------------------------------------------------------ */

bool stream_is_tls(const struct stream *s)
{
        return s->tls_established;
}

const char *stream_tls_version(const struct stream *s)
{
        const char *name = s->tls_established ? gnutls_protocol_get_name(gnutls_protocol_get_version(s->tls)) : NULL;

        return name ? name : "";
}

unsigned stream_tls_bits(const struct stream *s)
{
        return s->tls_established ? (unsigned)gnutls_cipher_get_key_size(gnutls_cipher_get(s->tls)) * 8 : 0;
}

bool stream_channel_binding(struct stream *s, const char *type, struct str *out)
{
        gnutls_channel_binding_t kind;
        gnutls_datum_t d;

        if (!s->tls_established)
                return false;
        if (strcmp(type, "tls-unique") == 0 && gnutls_protocol_get_version(s->tls) < GNUTLS_TLS1_3 &&
            gnutls_session_ext_master_secret_status(s->tls))
                kind = GNUTLS_CB_TLS_UNIQUE;            /* not defined for TLS 1.3, and unsafe without RFC 7627 (RFC 9266 3, 4.1) */
        else if (strcmp(type, "tls-exporter") == 0)
                kind = GNUTLS_CB_TLS_EXPORTER;
        else if (strcmp(type, "tls-server-end-point") == 0)
                kind = GNUTLS_CB_TLS_SERVER_END_POINT;
        else
                return false;
        if (gnutls_session_channel_binding(s->tls, kind, &d) < 0)
                return false;
        str_append(out, d.data, d.size);
        gnutls_free(d.data);
        return true;
}

const char *stream_tls_peer(const struct stream *s)
{
        return s->tls_peer;
}
