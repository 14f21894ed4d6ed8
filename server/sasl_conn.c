/* sasl_conn - one authentication: its connection to cyrus-sasl, its steps, and the security layer it may leave. See sasl.h. */
#include <stdlib.h>
#include <string.h>

#include "server/groups.h"
#include "server/sasl_private.h"
#include "server/userdeny.h"
#include "util/hash.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/must.h"

#define LAYER_BUF 65536u                        /* what we let the client send us at once under a security layer */
#define USERID_ROOM 512
#define LISTS_MAX 1000                          /* kinds of connections */

/* The library's lists of plug-ins are walked when a connection is made and ended; its own locks cover only part of that. */
static struct mutex making = MUTEX_INIT;

void sasl_making_lock(void) NO_TSA
{
        mutex_lock(&making);
}

void sasl_making_unlock(void) NO_TSA
{
        mutex_unlock(&making);
}

/* ---- life ----------------------------------------------------------------------------------------------------------------- */

static unsigned layer_bits(const struct conf *conf, const char *ident, const char *option)
{
        int64_t n = conf_int(conf, ident, option);

        return n < 0 ? 0 : n > 256 ? 256 : (unsigned)n;
}

static int set_properties(struct sasl_conn *c, const struct sasl_params *params)
{
        sasl_security_properties_t props = { 0 };
        sasl_ssf_t external = params->tls ? params->tls_bits : params->external_ssf;
        int rc;

        props.min_ssf = layer_bits(c->conf, c->ident, "sasl_minimum_layer");
        props.max_ssf = layer_bits(c->conf, c->ident, "sasl_maximum_layer");
        props.maxbufsize = LAYER_BUF;
        if (!params->plaintext_ok)
                props.security_flags |= SASL_SEC_NOPLAINTEXT;
        if (!conf_switch(c->conf, c->ident, "allowanonymouslogin"))
                props.security_flags |= SASL_SEC_NOANONYMOUS;
        rc = sasl_setprop(c->conn, SASL_SEC_PROPS, &props);
        if (rc == SASL_OK && external > 0)
                rc = sasl_setprop(c->conn, SASL_SSF_EXTERNAL, &external);
        if (rc == SASL_OK && params->tls_peer)
                rc = sasl_setprop(c->conn, SASL_AUTH_EXTERNAL, params->tls_peer);
        if (rc == SASL_OK && params->channel_binding && params->channel_binding->len && params->channel_binding_type) {
                str_append_span(&c->binding_octets, str_span(params->channel_binding));
                c->binding_name = xstrdup(params->channel_binding_type);
                c->binding.name = c->binding_name;
                c->binding.data = (const unsigned char *)c->binding_octets.data;
                c->binding.len = c->binding_octets.len;
                rc = sasl_setprop(c->conn, SASL_CHANNEL_BINDING, &c->binding);
        }
        return rc;
}

int sasl_conn_create(const struct sasl_params *params, struct store *store, struct sasl_conn **conn_r, struct err *err)
{
        struct sasl_conn *c;
        int rc;

        must(sasl_library.live != NULL);
        c = xcalloc(1, sizeof *c);
        c->store = store;
        c->conf = conf_live_get(sasl_library.live);
        c->ident = xstrdup(params->ident ? params->ident : params->service);
        c->local = params->local ? xstrdup(params->local) : NULL;
        c->plaintext_ok = params->plaintext_ok;
        c->no_password_check = params->no_password_check;
        str_init(&c->binding_octets);
        sasl_callbacks_fill(c);
        mutex_lock(&making);
        rc = sasl_server_new(params->service, sasl_library.servername, NULL, params->local, params->peer, c->callbacks,
                             params->success_data ? SASL_SUCCESS_DATA : 0, &c->conn);
        mutex_unlock(&making);
        if (rc == SASL_OK)
                rc = set_properties(c, params);
        if (rc != SASL_OK) {
                sasl_conn_destroy(&c);
                return err_set(err, ERR_UNAVAILABLE, "cyrus-sasl: %s", sasl_errstring(rc, NULL, NULL));
        }
        *conn_r = c;
        return 0;
}

void sasl_conn_destroy(struct sasl_conn **cp)
{
        struct sasl_conn *c = *cp;

        *cp = NULL;
        if (!c)
                return;
        mutex_lock(&making);
        if (c->conn)
                sasl_dispose(&c->conn);
        mutex_unlock(&making);
        str_deinit(&c->binding_octets);
        free(c->binding_name);
        free(c->local);
        free(c->domain);
        free(c->auxprops);
        free((char *)c->ident);
        conf_unref(&c->conf);
        free(c);
}

/* ---- mechanisms ----------------------------------------------------------------------------------------------------------- */

/* DIGEST-MD5 (RFC 6331: historic) and NTLM only where sasl_mech_list asks for them. */
static bool mech_wanted(const struct sasl_conn *c, struct span mech)
{
        const char *list = sasl_option(c->conf, c->ident, NULL, "mech_list");

        if (!list)
                return !span_ieq_str(mech, "DIGEST-MD5") && !span_ieq_str(mech, "NTLM");
        while (*list) {
                struct span word;

                list += strspn(list, " \t,");
                word = (struct span){ list, strcspn(list, " \t,") };
                list += word.len;
                if (word.len && span_ieq(word, mech))
                        return true;
                /* "SCRAM-SHA-256" in the list allows "SCRAM-SHA-256-PLUS" too. */
                if (word.len && mech.len == word.len + 5 && span_ieq(word, (struct span){ mech.p, word.len }) &&
                    span_ieq_str((struct span){ mech.p + word.len, 5 }, "-PLUS"))
                        return true;
        }
        return false;
}

const char *sasl_mechanisms(struct sasl_conn *c, struct arena *arena)
{
        const char *all = NULL;
        char *out, *end;

        if (sasl_listmech(c->conn, NULL, "", " ", "", &all, NULL, NULL) != SASL_OK || !all)
                return "";
        out = end = arena_alloc(arena, strlen(all) + 1);
        while (*all) {
                struct span mech = { all, strcspn(all, " ") };

                if (mech.len && mech_wanted(c, mech)) {
                        if (end > out)
                                *end++ = ' ';
                        memcpy(end, mech.p, mech.len);
                        end += mech.len;
                }
                all += mech.len + (all[mech.len] == ' ');
        }
        *end = '\0';
        return out;
}

/*
 * What the library offers follows from its configuration and what kind of connection it is, of which there are few; to ask it is a
 * connection made and ended under `making`, for each greeting.
 */
static struct {
        struct mutex lock;
        struct conf *conf;                      /* with a reference: all below is of it */
        struct table *lists;                    /* kind of connection → list */
} kept = { .lock = MUTEX_INIT };

static void forget_lists_locked(void)
{
        struct span kind;
        void *list;
        size_t pos = 0;

        while (kept.lists && table_next(kept.lists, &pos, &kind, &list))
                free(list);
        table_destroy(&kept.lists);
        conf_unref(&kept.conf);
}

void sasl_forget_mechanisms(void)
{
        mutex_lock(&kept.lock);
        forget_lists_locked();
        mutex_unlock(&kept.lock);
}

/* NULL: not known. */
static const char *find_list(const struct conf *conf, const struct str *kind, struct arena *arena)
{
        const char *list = NULL;

        mutex_lock(&kept.lock);
        if (kept.conf == conf && kept.lists)
                list = table_find(kept.lists, str_span(kind));
        if (list)
                list = arena_strndup(arena, list, strlen(list));
        mutex_unlock(&kept.lock);
        return list;
}

static void keep_list(struct conf *conf, const struct str *kind, const char *list)
{
        mutex_lock(&kept.lock);
        if (kept.conf != conf || !kept.lists || table_count(kept.lists) >= LISTS_MAX) {
                forget_lists_locked();
                kept.conf = conf_ref(conf);
                kept.lists = table_create();
        }
        free(table_set(kept.lists, str_span(kind), xstrdup(list)));
        mutex_unlock(&kept.lock);
}

const char *sasl_mechanisms_for(const struct sasl_params *params, struct store *store, struct arena *arena)
{
        struct conf *conf = conf_live_get(sasl_library.live);
        struct sasl_conn *c = NULL;
        struct str kind = STR_INIT;
        struct err err = ERR_INIT;
        const char *list = NULL;

        str_printf(&kind, "%s %s %d%d %d %u %u %d%d%d %s", params->service, params->ident ? params->ident : "-", params->local != NULL,
                   params->peer != NULL, params->tls, params->tls_bits, params->external_ssf, params->plaintext_ok,
                   params->no_password_check, params->success_data,
                   params->channel_binding && params->channel_binding->len && params->channel_binding_type ? params->channel_binding_type : "-");
        if (!params->tls_peer)
                list = find_list(conf, &kind, arena);
        if (!list && sasl_conn_create(params, store, &c, &err) == 0) {
                list = sasl_mechanisms(c, arena);
                if (!params->tls_peer && c->conf == conf)
                        keep_list(conf, &kind, list);
                sasl_conn_destroy(&c);
        }
        str_deinit(&kind);
        conf_unref(&conf);
        return list ? list : "";
}

static bool mech_offered(struct sasl_conn *c, const char *mech)
{
        struct arena arena = ARENA_INIT;
        const char *list = sasl_mechanisms(c, &arena);
        bool found = false;

        while (*list && !found) {
                struct span word = { list, strcspn(list, " ") };

                found = span_ieq_str(word, mech);
                list += word.len + (list[word.len] == ' ');
        }
        arena_deinit(&arena);
        return found;
}

/* ---- steps ---------------------------------------------------------------------------------------------------------------- */

void sasl_step_init(struct sasl_step *step)
{
        memset(step, 0, sizeof *step);
        str_init(&step->challenge);
        str_init(&step->denial);
        step->outcome = SASL_OUT_FAILED;
}

void sasl_step_deinit(struct sasl_step *step)
{
        str_deinit(&step->challenge);
        str_deinit(&step->denial);
        free(step->userid);
        free(step->authid);
        free(step->mech);
        sasl_step_init(step);
}

static enum err_code code_of(int rc)
{
        switch (rc) {
        case SASL_NOMECH:
        case SASL_WRONGMECH:
        case SASL_TOOWEAK:
        case SASL_ENCRYPT:
                return ERR_UNSUPPORTED;
        case SASL_BADPROT:
        case SASL_BADPARAM:
                return ERR_SYNTAX;
        case SASL_NOAUTHZ:
                return ERR_PERM;
        case SASL_TRYAGAIN:
        case SASL_UNAVAIL:
        case SASL_FAIL:
        case SASL_NOMEM:
        case SASL_CONFIGERR:
                return ERR_UNAVAILABLE;
        default:
                return ERR_AUTH;
        }
}

static const char *property(struct sasl_conn *c, int which)
{
        const void *value = NULL;

        return sasl_getprop(c->conn, which, &value) == SASL_OK ? value : NULL;
}

static void fail(struct sasl_conn *c, int rc, struct sasl_step *step)
{
        const char *who = property(c, SASL_AUTHUSER);

        step->outcome = SASL_OUT_FAILED;
        if (c->refused.code != ERR_NONE)
                err_copy(&step->err, &c->refused);
        else if (c->nobody && code_of(rc) == ERR_AUTH)
                err_set(&step->err, ERR_AUTH, "user not found: %s", who ? who : "-");
        else
                err_set(&step->err, code_of(rc), "%s: %s", sasl_errstring(rc, NULL, NULL), sasl_errdetail(c->conn));
}

/* cyr_deny: is he kept out of this service? */
static bool denied(struct sasl_conn *c, struct sasl_step *step)
{
        struct str message = STR_INIT;
        int rc = userdeny_check(c->conf, step->userid, c->ident, &message, &step->err);

        if (rc > 0) {
                err_set(&step->err, ERR_PERM, "denied by cyr_deny: %s", message.len ? message.data : "");
                for (size_t i = 0; i < message.len; i++)        /* the file may have been edited by hand */
                        str_append_c(&step->denial, message.data[i] >= ' ' && message.data[i] < 0x7f ? message.data[i] : '?');
        } else if (rc < 0) {
                step->err.code = ERR_UNAVAILABLE;
        }
        str_deinit(&message);
        return rc != 0;
}

/* Roles are of the identity that is acted as; whoever may act as an admin is trusted with that. `groups` as of sasl_user_in(). */
static void give_roles(const struct sasl_conn *c, const char *mech, char *const *groups, struct sasl_step *step)
{
        step->outcome = SASL_OUT_OK;
        step->mech = xstrdup(mech);
        step->is_admin = sasl_user_in(c->conf, c->ident, "admins", step->userid, groups);
        step->is_proxy = sasl_user_in(c->conf, c->ident, "proxyservers", step->authid, groups);
}

/* Takes both over. */
static void let_in(struct sasl_conn *c, char *userid, char *authid, const char *mech, struct sasl_step *step)
{
        step->userid = userid;
        step->authid = authid;
        if (denied(c, step))
                step->outcome = SASL_OUT_FAILED;
        else
                give_roles(c, mech, NULL, step);
}

/* Who is it? */
static void succeed(struct sasl_conn *c, const char *mech, struct sasl_step *step)
{
        const char *user = property(c, SASL_USERNAME), *auth = property(c, SASL_AUTHUSER);
        const void *ssf = NULL;

        if (!user || !*user) {
                err_set(&step->err, ERR_INTERNAL, "cyrus-sasl names no user");
                step->outcome = SASL_OUT_FAILED;
                return;
        }
        let_in(c, xstrdup(user), xstrdup(auth && *auth ? auth : user), mech, step);
        step->has_layer = sasl_getprop(c->conn, SASL_SSF, &ssf) == SASL_OK && ssf && *(const sasl_ssf_t *)ssf > 0;
}

static void conclude(struct sasl_conn *c, int rc, const char *out, unsigned out_len, struct sasl_step *step)
{
        if (rc != SASL_OK && rc != SASL_CONTINUE) {
                fail(c, rc, step);
                return;
        }
        if (out) {
                str_append(&step->challenge, out, out_len);
                step->has_challenge = true;
        }
        if (rc == SASL_CONTINUE) {
                step->outcome = SASL_OUT_CONTINUE;
                step->has_challenge = true;
                return;
        }
        succeed(c, c->mech, step);
}

void sasl_start(struct sasl_conn *c, const char *mech, const struct span *initial, struct sasl_step *step)
{
        const char *out = NULL;
        unsigned out_len = 0;
        int rc;

        sasl_step_deinit(step);
        err_clear(&c->refused);
        if (!mech_offered(c, mech)) {
                err_set(&step->err, ERR_UNSUPPORTED, "no such mechanism");
                return;
        }
        for (size_t i = 0; i < sizeof c->mech - 1 && (c->mech[i] = ascii_upper(mech[i])) != '\0'; i++)
                ;
        /* An empty initial response is a response: the pointer must not be NULL. */
        rc = sasl_server_start(c->conn, mech, initial ? (initial->len ? initial->p : "") : NULL, initial ? (unsigned)initial->len : 0,
                               &out, &out_len);
        conclude(c, rc, out, out_len, step);
}

void sasl_continue(struct sasl_conn *c, struct span response, struct sasl_step *step)
{
        const char *out = NULL;
        unsigned out_len = 0;
        int rc;

        sasl_step_deinit(step);
        err_clear(&c->refused);
        rc = sasl_server_step(c->conn, response.len ? response.p : "", (unsigned)response.len, &out, &out_len);
        conclude(c, rc, out, out_len, step);
}

void sasl_login(struct sasl_conn *c, struct span user, struct span password, struct sasl_step *step)
{
        char canonical[USERID_ROOM], *copy;
        struct sasl_kept before;
        int rc;

        sasl_step_deinit(step);
        err_clear(&c->refused);
        if (password.len && memchr(password.p, '\0', password.len)) {
                err_set(&step->err, ERR_SYNTAX, "a password with NUL");
                return;
        }
        if (!c->plaintext_ok) {
                err_set(&step->err, ERR_UNSUPPORTED, "no passwords in clear");
                return;
        }
        if (sasl_canonical(c, user, canonical, sizeof canonical, &step->err) < 0)
                return;
        if (!sasl_realm_ok(c->conf, c->ident, canonical)) {
                err_set(&step->err, ERR_AUTH, "%s: its realm is not in loginrealms", canonical);
                return;
        }
        if (sasl_kept_find(c, canonical, password, &before)) {
                let_in(c, before.userid, before.authid, "LOGIN", step);
                return;
        }
        /* The library's verifiers use strcmp(), whatever length they are given. */
        copy = xstrndup(password.len ? password.p : "", password.len);
        rc = sasl_checkpass(c->conn, canonical, (unsigned)strlen(canonical), copy, (unsigned)password.len);
        explicit_bzero(copy, password.len);
        free(copy);
        if (rc != SASL_OK) {
                fail(c, rc, step);
                return;
        }
        succeed(c, "LOGIN", step);
        if (step->authid)
                sasl_kept_keep(&before, step->userid, step->authid);
}

/* By what sasl_login() asks before it has the password checked, too. */
static bool password_known(struct sasl_conn *c, struct span user, struct span password, struct sasl_kept *k)
{
        char canonical[USERID_ROOM];

        if (!c->plaintext_ok || c->no_password_check || (password.len && memchr(password.p, '\0', password.len)))
                return false;
        return !sasl_asks_for_domain(c, user) && sasl_canonical(c, user, canonical, sizeof canonical, NULL) == 0 &&
               sasl_realm_ok(c->conf, c->ident, canonical) && sasl_kept_find(c, canonical, password, k) && strcmp(k->userid, k->authid) == 0;
}

bool sasl_login_known(const struct sasl_params *params, struct store *store, struct span user, struct span password, struct sasl_step *step,
                      char ***groups_r)
{
        struct sasl_conn c = {
                .store = store, .conf = conf_live_get(sasl_library.live), .ident = params->ident ? params->ident : params->service,
                .plaintext_ok = params->plaintext_ok, .no_password_check = params->no_password_check,
        };
        struct sasl_kept k = { .usable = false };
        bool known = password_known(&c, user, password, &k) && userdeny_nobody(c.conf);

        sasl_step_deinit(step);
        *groups_r = NULL;
        if (known && conf_switch(c.conf, NULL, "unix_group_enable"))
                known = (*groups_r = groups_known(k.userid)) != NULL;
        if (known) {
                step->userid = xstrdup(k.userid);
                step->authid = xstrdup(k.authid);
                give_roles(&c, "LOGIN", *groups_r, step);
        }
        free(k.userid);
        free(k.authid);
        conf_unref(&c.conf);
        return known;
}

/* ---- the security layer --------------------------------------------------------------------------------------------------- */

int sasl_layer_encode(struct sasl_conn *c, const void *p, size_t len, struct str *out, struct err *err)
{
        const char *encoded = NULL;
        unsigned n = 0;
        int rc = sasl_encode(c->conn, p, (unsigned)len, &encoded, &n);

        if (rc != SASL_OK)
                return err_set(err, ERR_CLOSED, "security layer: %s", sasl_errdetail(c->conn));
        str_append(out, encoded, n);
        return 0;
}

int sasl_layer_decode(struct sasl_conn *c, const void *p, size_t len, struct str *out, struct err *err)
{
        const char *decoded = NULL;
        unsigned n = 0;
        int rc = sasl_decode(c->conn, p, (unsigned)len, &decoded, &n);

        if (rc != SASL_OK)
                return err_set(err, ERR_CLOSED, "security layer: %s", sasl_errdetail(c->conn));
        if (n > 0)
                str_append(out, decoded, n);
        return 0;
}

/* How much may be encoded at once: what the client said it takes, less the layer's own, which the library has accounted for. */
unsigned sasl_layer_max(struct sasl_conn *c)
{
        const void *value = NULL;
        unsigned max = sasl_getprop(c->conn, SASL_MAXOUTBUF, &value) == SASL_OK && value ? *(const unsigned *)value : 0;

        return max == 0 ? 1024 : max;
}
