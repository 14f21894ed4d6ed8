/*
 * tls_certs - the certificates a service shows, and which of them for which name (SNI, RFC 6066 3). For tls.c.
 *
 * tls_server_cert and tls_server_key list pairs of files, separated by commas: the first that the client can use is shown to who asks
 * for no name, or for one that no certificate has. tls_server_cert_dir adds pairs for further names. For a name there are credentials of
 * all certificates that have it, then of the listed ones: GnuTLS takes the first that the client can use. So an RSA and an ECDSA
 * certificate of one name stand side by side.
 * Immutable once made.
 */
#ifndef SERVER_TLS_CERTS_H
#define SERVER_TLS_CERTS_H

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stddef.h>

#include "util/conf.h"
#include "util/err.h"

struct tls_certs;

struct tls_chain { gnutls_x509_crt_t *v; unsigned n; };         /* the certificates of one file */
int tls_chain_load(const char *path, struct tls_chain *chain, struct err *err);         /* ERR_CONFIG, with the path */
void tls_chain_free(struct tls_chain *chain);

/* Read what the options of the service say; tls_server_cert is set. ERR_CONFIG names the file. A broken pair of tls_server_cert_dir is
 * logged and left out: one name's trouble is not every other's. */
int tls_certs_load(struct conf *conf, const char *service, struct tls_certs **certs_r, struct err *err);
void tls_certs_free(struct tls_certs **certs);

/* Every set of credentials, for what they all need (authorities, DH parameters): i from 0; NULL at the end. */
gnutls_certificate_credentials_t tls_certs_each(const struct tls_certs *certs, size_t i);
/* For a client that asks for `name` (any case, a final dot allowed); NULL: for none. */
gnutls_certificate_credentials_t tls_certs_for(const struct tls_certs *certs, const char *name);

#endif
