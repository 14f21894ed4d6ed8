/*
 * tls - certificates, keys and priorities of a service (GnuTLS), as options tls_* say; counted and swapped whole on reload.
 * TLS 1.2 and up. Session tickets with keys that rotate; no session cache on disk is needed.
 */
#ifndef SERVER_TLS_H
#define SERVER_TLS_H

#include <stdbool.h>

#include "util/conf.h"
#include "util/err.h"

struct tls_context;

/* ERR_NOTFOUND: tls_server_cert is not set: no TLS. ERR_CONFIG: cannot be read or does not fit together; the text names the file. */
int tls_context_create(struct conf *conf, const char *service, const char *const *alpn, struct tls_context **tls_r, struct err *err);
struct tls_context *tls_context_ref(struct tls_context *tls);
void tls_context_unref(struct tls_context **tls);
/* Make a key and a self-signed certificate for `hostname` (and localhost, 127.0.0.1, ::1), PEM, files 0600/0644. For the demo. */
int tls_make_self_signed(const char *hostname, const char *cert_path, const char *key_path, struct err *err);
/* Is this value of tls_ciphers a priority string of GnuTLS? What looks like an OpenSSL list is not, and NORMAL is used instead. */
bool tls_ciphers_understood(const char *ciphers);
/* One per process. */
int tls_init(struct err *err);

#endif
