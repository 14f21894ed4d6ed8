/*
 * sasl - authentication through cyrus-sasl, server side. Look-ups block (sasldb, saslauthd), so the steps are run with
 * session_offload(…, OFFLOAD_AUTH, …); nothing else touches the connection meanwhile. Only sasl_login_known() is for workers.
 */
#ifndef SERVER_SASL_H
#define SERVER_SASL_H

#include <stdbool.h>

#include "server/stream.h"
#include "util/arena.h"
#include "util/conf.h"
#include "util/err.h"
#include "util/str.h"

struct sasl_conn;
struct store;

/* One per process, before threads: sasl_set_mutex, sasl_server_init with options from imapd.conf (every sasl_*). */
int sasl_setup(struct conf_live *conf, struct err *err);
void sasl_teardown(void);

struct sasl_params {
        const char *service;                    /* SASL service name: "imap", "lmtp", "sieve", "pop" */
        const char *ident;                      /* cyrus.conf's service name, for per-service options */
        const char *local, *peer;               /* "addr;port", may be NULL */
        bool tls; unsigned tls_bits;
        const char *tls_peer;                   /* identity of the client certificate, NULL none */
        const struct str *channel_binding;      /* tls-unique/exporter octets, NULL none */
        const char *channel_binding_type;
        unsigned external_ssf;
        bool plaintext_ok;                      /* allowplaintext, or TLS, or an external layer */
        bool no_password_check;                 /* -N */
        bool success_data;                      /* the protocol's final OK can carry data (ManageSieve, MUPDATE); IMAP's and LMTP's cannot:
                                                 * the library asks for one more, empty, response then */
};
int sasl_conn_create(const struct sasl_params *params, struct store *store, struct sasl_conn **conn_r, struct err *err);
void sasl_conn_destroy(struct sasl_conn **conn);
/* Space-separated names offered now, in the arena ("PLAIN LOGIN SCRAM-SHA-256"); "" none. */
const char *sasl_mechanisms(struct sasl_conn *conn, struct arena *arena);
/* The same for whoever has no connection: of one that were made so. Kept for the configuration in force; with a client certificate it is
 * asked each time. */
const char *sasl_mechanisms_for(const struct sasl_params *params, struct store *store, struct arena *arena);

enum sasl_outcome { SASL_OUT_CONTINUE, SASL_OUT_OK, SASL_OUT_FAILED };
struct sasl_step {                              /* filled by the steps */
        enum sasl_outcome outcome;
        struct str challenge;                   /* CONTINUE: to be base64-encoded; OK: additional data for the success reply */
        bool has_challenge;
        char *userid;                           /* OK: canonical authorization identity, owned by the step */
        char *authid;                           /* OK: who authenticated */
        char *mech;
        bool is_admin;                          /* in `admins` of this service */
        bool is_proxy;                          /* authenticated as a proxyserver */
        bool has_layer;                         /* a security layer was negotiated: stream_start_sasl() after the OK */
        struct err err;                         /* FAILED: ERR_AUTH, ERR_UNAVAILABLE (server trouble), ERR_UNSUPPORTED (no such
                                                 * mechanism), ERR_PERM (may not act as that user), ERR_SYNTAX; the text is for the log */
        struct str denial;                      /* ERR_PERM: who has authenticated is to be told this (cyr_deny): a line of printable ASCII; mostly empty */
};
void sasl_step_init(struct sasl_step *step);
void sasl_step_deinit(struct sasl_step *step);
/* These block. `initial` NULL: no initial response. */
void sasl_start(struct sasl_conn *conn, const char *mech, const struct span *initial, struct sasl_step *step);
void sasl_continue(struct sasl_conn *conn, struct span response, struct sasl_step *step);
/* LOGIN user password (RFC 9051 6.2.3). */
void sasl_login(struct sasl_conn *conn, struct span user, struct span password, struct sasl_step *step);
/*
 * LOGIN without sasl_login(), where nothing has to be asked that may block: a password that was right before, by a sasldb (pwcheck_method:
 * auxprop) that has not changed since, of a user whose groups are known, while cyr_deny denies nobody anything. The password in clear is not kept.
 * True: `step` is as sasl_login() has it (OK), and with unix_group_enable *groups_r has the groups, for groups_free(). False: that says nothing
 * of the password, and sasl_login() has to decide; *groups_r is NULL.
 */
bool sasl_login_known(const struct sasl_params *params, struct store *store, struct span user, struct span password, struct sasl_step *step,
                      char ***groups_r);

/* For stream.c: the security layer. */
int sasl_layer_encode(struct sasl_conn *conn, const void *p, size_t len, struct str *out, struct err *err);
int sasl_layer_decode(struct sasl_conn *conn, const void *p, size_t len, struct str *out, struct err *err);
unsigned sasl_layer_max(struct sasl_conn *conn);

/* base64, RFC 4648 4. */
void base64_encode(struct span in, struct str *out);
int base64_decode(struct span in, struct str *out, struct err *err);    /* strict: ERR_SYNTAX */

#endif
