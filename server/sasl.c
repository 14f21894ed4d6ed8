/*
 * sasl - cyrus-sasl as a whole: mutexes, options, log, and what it asks us about users. See sasl.h; connections are in sasl_conn.c.
 */
#include "server/sasl_private.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "server/groups.h"
#include "store/user.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/must.h"

#define OPTION_NAME_MAX 128

struct sasl_library sasl_library;

/* ---- mutexes -------------------------------------------------------------------------------------------------------------- */

static void *mutex_new(void)
{
        struct mutex *m = xmalloc(sizeof *m);

        mutex_init(m);
        return m;
}

static int mutex_take(void *m) NO_TSA
{
        mutex_lock(m);
        return SASL_OK;
}

static int mutex_give(void *m) NO_TSA
{
        mutex_unlock(m);
        return SASL_OK;
}

static void mutex_end(void *m)
{
        mutex_deinit(m);
        free(m);
}

/* ---- options and log ------------------------------------------------------------------------------------------------------ */

const char *sasl_option(const struct conf *conf, const char *ident, const char *plugin, const char *option)
{
        char name[OPTION_NAME_MAX];
        const char *value = NULL;

        if (plugin && snprintf(name, sizeof name, "sasl_%s_%s", plugin, option) < (int)sizeof name) {
                for (char *p = name; *p; p++)
                        *p = ascii_lower(*p);
                value = conf_free(conf, ident, name);
        }
        if (!value && snprintf(name, sizeof name, "sasl_%s", option) < (int)sizeof name) {
                for (char *p = name; *p; p++)
                        *p = ascii_lower(*p);
                value = conf_free(conf, ident, name);
        }
        return value;
}

static int cb_getopt(void *context, const char *plugin, const char *option, const char **value_r, unsigned *len_r)
{
        struct sasl_conn *c = context;
        const char *value = sasl_option(c ? c->conf : sasl_library.conf, c ? c->ident : NULL, plugin, option);

        if (c && strcmp(option, "auxprop_plugin") == 0)
                value = sasl_nobody_list(c, value);
        if (!value)
                return SASL_FAIL;
        *value_r = value;
        if (len_r)
                *len_r = (unsigned)strlen(value);
        return SASL_OK;
}

static int cb_log(void *context, int level, const char *message)
{
        static const enum log_level levels[] = {
                [SASL_LOG_ERR] = LOG_WARN, [SASL_LOG_FAIL] = LOG_INFORM, [SASL_LOG_WARN] = LOG_INFORM, [SASL_LOG_NOTE] = LOG_DBG,
                [SASL_LOG_DEBUG] = LOG_DBG,
        };
        char quoted[LOG_QUOTE_MAX];

        (void)context;
        /* Traces may have what was typed in them. */
        if (message && level > SASL_LOG_NONE && level <= SASL_LOG_DEBUG)
                log_event(levels[level], NULL, "sasl.library", "text=%s", log_quote_str(quoted, message));
        return SASL_OK;
}

/* ---- who is who ----------------------------------------------------------------------------------------------------------- */

/* Is one of "group:x group:y …" a group of the user? His groups; NULL: not known yet. */
static bool in_group_of(const char *words, const char *user, char *const *known)
{
        char **asked = NULL;
        bool in = false;

        while (*words && !in) {
                struct span word;

                words += strspn(words, " \t");
                word = (struct span){ words, strcspn(words, " \t") };
                words += word.len;
                if (word.len <= 6 || strncmp(word.p, "group:", 6) != 0)
                        continue;
                if (!known)
                        known = asked = groups_of(user);
                for (char *const *g = known; *g && !in; g++)
                        in = span_eq_str((struct span){ word.p + 6, word.len - 6 }, *g);
        }
        groups_free(&asked);
        return in;
}

bool sasl_user_in(const struct conf *conf, const char *ident, const char *option, const char *user, char *const *groups)
{
        const char *words = conf_str(conf, ident, option);

        if (!words)
                return false;
        if (conf_words_have(words, user))
                return true;
        return conf_switch(conf, NULL, "unix_group_enable") && in_group_of(words, user, groups);
}

/* A name with a realm may log in where domains are part of names, or when `loginrealms` has the realm. */
bool sasl_realm_ok(const struct conf *conf, const char *ident, const char *user)
{
        const char *realm = strrchr(user, '@'), *words = conf_str(conf, ident, "loginrealms");

        if (!realm || strcmp(conf_enum(conf, NULL, "virtdomains"), "off") != 0)
                return true;
        realm++;
        while (words && *words) {
                size_t len;

                words += strspn(words, " \t");
                len = strcspn(words, " \t");
                if (len > 0 && span_ieq_str((struct span){ words, len }, realm))
                        return true;
                words += len;
        }
        return false;
}

/* virtdomains: on: the address that the client came to is called "mail.one.example", so here is one.example. May block. */
static const char *interface_domain(struct sasl_conn *c)
{
        struct addrinfo hints = { .ai_flags = AI_NUMERICHOST }, *found = NULL;
        char address[NI_MAXHOST] = "", host[NI_MAXHOST] = "";
        const char *dot;

        if (c->domain)
                return c->domain;
        if (c->local)
                snprintf(address, sizeof address, "%.*s", (int)strcspn(c->local, ";"), c->local);
        if (address[0] && getaddrinfo(address, NULL, &hints, &found) == 0 &&
            getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof host, NULL, 0, NI_NAMEREQD) != 0)
                host[0] = '\0';
        if (found)
                freeaddrinfo(found);
        dot = strchr(host, '.');
        c->domain = xstrdup(dot ? dot + 1 : "");
        return c->domain;
}

bool sasl_asks_for_domain(const struct sasl_conn *c, struct span given)
{
        return strcmp(conf_enum(c->conf, NULL, "virtdomains"), "on") == 0 && span_index(given, '@') == given.len && span_index(given, '%') == given.len;
}

int sasl_canonical(struct sasl_conn *c, struct span given, char *buf, size_t size, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *canonical = NULL, *user;
        int rc = 0;

        if (given.len == 0 || given.len >= size || memchr(given.p, '\0', given.len))
                return err_set(err, ERR_SYNTAX, "impossible user id");
        user = arena_strndup(&arena, given.p, given.len);
        if (sasl_asks_for_domain(c, given) && *interface_domain(c))
                user = arena_printf(&arena, "%s@%s", user, interface_domain(c));
        if (c->store)
                rc = user_canonify(c->store, user, &arena, &canonical, err);
        else
                canonical = user;
        if (rc == 0 && snprintf(buf, size, "%s", canonical) >= (int)size)
                rc = err_set(err, ERR_BADNAME, "user id too long");
        arena_deinit(&arena);
        return rc;
}

static int cb_canon_user(sasl_conn_t *conn, void *context, const char *in, unsigned in_len, unsigned flags, const char *realm,
                         char *out, unsigned out_max, unsigned *out_len)
{
        struct sasl_conn *c = context;
        char buf[512];

        (void)conn;
        (void)flags;
        (void)realm;
        if (sasl_canonical(c, (struct span){ in, in_len }, buf, sizeof buf, &c->refused) < 0)
                return SASL_BADAUTH;
        if (strlen(buf) > out_max)
                return SASL_BUFOVER;
        *out_len = (unsigned)strlen(buf);
        memcpy(out, buf, *out_len + (*out_len < out_max));
        return SASL_OK;
}

/* May `auth` act as `user`? Itself always; admins and proxyservers may act as anybody. */
static int cb_proxy_policy(sasl_conn_t *conn, void *context, const char *user, unsigned user_len, const char *auth, unsigned auth_len,
                           const char *realm, unsigned realm_len, struct propctx *props)
{
        struct sasl_conn *c = context;

        (void)conn;
        (void)realm;
        (void)realm_len;
        (void)props;
        if (!sasl_realm_ok(c->conf, c->ident, auth)) {
                err_set(&c->refused, ERR_AUTH, "%s: its realm is not in loginrealms", auth);
                return SASL_BADAUTH;
        }
        if (user_len == auth_len && memcmp(user, auth, user_len) == 0)
                return SASL_OK;
        if (sasl_user_in(c->conf, c->ident, "admins", auth, NULL) || sasl_user_in(c->conf, c->ident, "proxyservers", auth, NULL))
                return SASL_OK;
        err_set(&c->refused, ERR_PERM, "%s may not act as %s", auth, user);
        return SASL_NOAUTHZ;
}

/* imapd -N: whoever it is, the password is right. */
static int cb_checkpass(sasl_conn_t *conn, void *context, const char *user, const char *pass, unsigned pass_len, struct propctx *props)
{
        (void)conn;
        (void)context;
        (void)user;
        (void)pass;
        (void)pass_len;
        (void)props;
        return SASL_OK;
}

typedef int any_callback(void);
#define CALLBACK(fn) ((any_callback *)(void (*)(void))(fn))

void sasl_callbacks_fill(struct sasl_conn *c)
{
        int n = 0;

        c->callbacks[n++] = (sasl_callback_t){ SASL_CB_GETOPT, CALLBACK(cb_getopt), c };
        c->callbacks[n++] = (sasl_callback_t){ SASL_CB_CANON_USER, CALLBACK(cb_canon_user), c };
        c->callbacks[n++] = (sasl_callback_t){ SASL_CB_PROXY_POLICY, CALLBACK(cb_proxy_policy), c };
        c->callbacks[n++] = sasl_nobody_callback(c);
        if (c->no_password_check)
                c->callbacks[n++] = (sasl_callback_t){ SASL_CB_SERVER_USERDB_CHECKPASS, CALLBACK(cb_checkpass), c };
        c->callbacks[n] = (sasl_callback_t){ SASL_CB_LIST_END, NULL, NULL };
}

/* ---- the library ---------------------------------------------------------------------------------------------------------- */

int sasl_setup(struct conf_live *live, struct err *err)
{
        static sasl_callback_t callbacks[] = {          /* the library keeps the pointer */
                { SASL_CB_GETOPT, CALLBACK(cb_getopt), NULL },
                { SASL_CB_LOG, CALLBACK(cb_log), NULL },
                { SASL_CB_LIST_END, NULL, NULL },
        };
        int rc;

        must(sasl_library.live == NULL);
        sasl_library.live = live;
        sasl_library.conf = conf_live_get(live);
        servername(sasl_library.conf, NULL, sasl_library.servername);
        sasl_set_mutex(mutex_new, mutex_take, mutex_give, mutex_end);
        rc = sasl_server_init(callbacks, "cyrd");
        if (rc == SASL_OK) {
                sasl_nobody_setup();
                return 0;
        }
        sasl_library.live = NULL;
        conf_unref(&sasl_library.conf);
        return err_set(err, ERR_UNAVAILABLE, "cyrus-sasl: %s", sasl_errstring(rc, NULL, NULL));
}

void sasl_teardown(void)
{
        if (!sasl_library.live)
                return;
        sasl_forget_mechanisms();
        sasl_kept_forget();
        sasl_done();
        sasl_library.live = NULL;
        conf_unref(&sasl_library.conf);
}
