/* sasl_private - what sasl.c (the library and its callbacks) and sasl_conn.c (connections and steps) share. */
#ifndef SERVER_SASL_PRIVATE_H
#define SERVER_SASL_PRIVATE_H

/* The library has a struct of the same name behind its sasl_conn_t; the two must not be one type to the compiler. */
#define sasl_conn cyrus_sasl_conn
#include <sasl/sasl.h>
#undef sasl_conn

#include "server/sasl.h"
#include "server/servername.h"
#include "util/fs.h"

#define SASL_CALLBACKS_MAX 7

struct sasl_conn {
        sasl_conn_t *conn;
        struct store *store;                    /* NULL: user ids are not made canonical (tests) */
        struct conf *conf;                      /* reference: options of the time it was made */
        const char *ident;                      /* owned, like all strings here */
        sasl_callback_t callbacks[SASL_CALLBACKS_MAX];
        sasl_channel_binding_t binding;
        struct str binding_octets;
        char *binding_name;
        char mech[SASL_MECHNAMEMAX + 12];       /* as asked for, in capitals: the library's own name is without -PLUS */
        bool plaintext_ok, no_password_check;
        char *local;                            /* "addr;port" that the client came to, NULL: not known */
        char *domain;                           /* virtdomains: on: of user ids without one; "" none; NULL: not looked up yet */
        struct err refused;                     /* why a callback said no: better than the library's own text */
        bool nobody;                            /* no password of the user was found (sasl_nobody.c) */
        char *auxprops;                         /* sasl_nobody_list()'s; NULL: not needed yet */
};

struct sasl_library {                           /* one for the process, after sasl_setup() */
        struct conf_live *live;
        struct conf *conf;                      /* what the library itself was started with */
        char servername[SERVERNAME_MAX];
};
extern struct sasl_library sasl_library;

/* While connections of either side are made and ended: sasl_conn.c's own lock, for saslc.c. A leaf. */
void sasl_making_lock(void);
void sasl_making_unlock(void);
void sasl_callbacks_fill(struct sasl_conn *c);
/* sasl_xxx of imapd.conf for a plug-in (may be NULL), with the service's own value first. NULL: not set. */
const char *sasl_option(const struct conf *conf, const char *ident, const char *plugin, const char *option);
/* Who is who, by options of the service. `user` is canonical. `groups`: his groups of the system; NULL: it may ask for them, which may block. */
bool sasl_user_in(const struct conf *conf, const char *ident, const char *option, const char *user, char *const *groups);
bool sasl_realm_ok(const struct conf *conf, const char *ident, const char *user);
/* Canonical form into buf; 0 or -1 with err. Blocks where it asks for the domain (virtdomains: on): that of the address which the client came
 * to. */
bool sasl_asks_for_domain(const struct sasl_conn *c, struct span given);
int sasl_canonical(struct sasl_conn *c, struct span given, char *buf, size_t size, struct err *err);

void sasl_forget_mechanisms(void);               /* at the end: what sasl_mechanisms_for() keeps */

/* ---- sasl_nobody.c: users without a password ---- */

/* Once, when the library is set up. */
void sasl_nobody_setup(void);
/* The library's list of sources of properties, with ours at its end; `configured`: auxprop_plugin, NULL: not set. Lives as long as the connection. */
const char *sasl_nobody_list(struct sasl_conn *c, const char *configured);
sasl_callback_t sasl_nobody_callback(struct sasl_conn *c);

/* ---- sasl_kept.c: passwords that were right ---- */

#define SASL_KEPT_DIGEST 32
struct sasl_kept {                              /* one check */
        bool usable;                            /* sasldb alone decides, and it was not changed just now */
        struct fs_mark file;                    /* as it was before the check */
        uint8_t digest[SASL_KEPT_DIGEST];
        char *userid, *authid;                  /* found: whom the library made of it; the caller's to free */
};
/* Before `user` (canonical) and the password are checked: was that right before, by the file as it is now? *k is filled in any case. Looks at
 * the file's inode, and does not block otherwise. */
bool sasl_kept_find(const struct sasl_conn *c, const char *user, struct span password, struct sasl_kept *k);
/* It was right. */
void sasl_kept_keep(const struct sasl_kept *k, const char *userid, const char *authid);
void sasl_kept_forget(void);                    /* everything */

#endif
