/*
 * saslc - authentication through cyrus-sasl, client side: for what logs in at another server (a replica). Blocks (plug-ins may look names up), so
 * it is for threads of their own. One thread at a time for each connection; making and ending them is serialised here, with the server's.
 */
#ifndef SERVER_SASLC_H
#define SERVER_SASLC_H

#include <stdbool.h>

#include "util/conf.h"
#include "util/err.h"
#include "util/str.h"

struct saslc;
struct saslc_params {                           /* strings are copied */
        struct conf *conf;                      /* sasl_* options for the plug-ins; a reference is taken */
        const char *service;                    /* "imap", "csync" */
        const char *host;                       /* the server's name, as it was asked for */
        const char *local, *peer;               /* "addr;port", may be NULL */
        const char *authname, *password, *realm;        /* NULL: none. The authorization id is empty: whoever logs in acts as himself */
        unsigned tls_bits;                      /* 0: not under TLS */
};
int saslc_create(const struct saslc_params *params, struct saslc **c_r, struct err *err);
void saslc_destroy(struct saslc **c);

/*
 * Begin with the best of `mechs` (names with blanks between) that is possible here. *mech_r is valid as long as the connection; the initial
 * response is appended to `out` when there is one (*has_out_r; it may be empty). ERR_CONFIG: none of them can be used; the text says why. ERR_AUTH.
 */
int saslc_start(struct saslc *c, const char *mechs, const char **mech_r, struct str *out, bool *has_out_r, struct err *err);
/* The server's challenge, decoded; the response is appended. ERR_AUTH: what the server said is not right (it does not know the password itself). */
int saslc_step(struct saslc *c, struct span challenge, struct str *out, struct err *err);
/* The server has said OK: is it who knows the password, where the mechanism tells (SCRAM)? */
bool saslc_is_done(const struct saslc *c);

#endif
