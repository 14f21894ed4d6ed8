/* saslc - see saslc.h */
#include "server/saslc.h"

#include <stdlib.h>
#include <string.h>

#include "server/sasl_private.h"
#include "util/must.h"

struct saslc {
        sasl_conn_t *conn;
        struct conf *conf;
        char *authname, *realm;
        sasl_secret_t *secret;                  /* NULL: no password */
        sasl_callback_t callbacks[6];
        bool done;
};

/* Everything the plug-ins may ask for has an answer here: there is nobody to be prompted. */
static int cb_getopt(void *context, const char *plugin, const char *option, const char **value_r, unsigned *len_r)
{
        struct saslc *c = context;
        const char *value = c ? sasl_option(c->conf, NULL, plugin, option) : NULL;

        if (!value)
                return SASL_FAIL;
        *value_r = value;
        if (len_r)
                *len_r = (unsigned)strlen(value);
        return SASL_OK;
}

static int cb_name(void *context, int id, const char **value_r, unsigned *len_r)
{
        struct saslc *c = context;

        *value_r = id == SASL_CB_USER ? "" : c->authname;
        if (!*value_r)
                return SASL_FAIL;
        if (len_r)
                *len_r = (unsigned)strlen(*value_r);
        return SASL_OK;
}

static int cb_secret(sasl_conn_t *conn, void *context, int id, sasl_secret_t **secret_r)
{
        struct saslc *c = context;

        (void)conn;
        if (id != SASL_CB_PASS || !c->secret)
                return SASL_FAIL;
        *secret_r = c->secret;
        return SASL_OK;
}

static int cb_realm(void *context, int id, const char **available, const char **value_r)
{
        struct saslc *c = context;

        (void)id;
        *value_r = c->realm ? c->realm : available && available[0] ? available[0] : "";
        return SASL_OK;
}

typedef int any_callback(void);
#define CALLBACK(fn) ((any_callback *)(void (*)(void))(fn))

static void fill_callbacks(struct saslc *c)
{
        c->callbacks[0] = (sasl_callback_t){ SASL_CB_GETOPT, CALLBACK(cb_getopt), c };
        c->callbacks[1] = (sasl_callback_t){ SASL_CB_USER, CALLBACK(cb_name), c };
        c->callbacks[2] = (sasl_callback_t){ SASL_CB_AUTHNAME, CALLBACK(cb_name), c };
        c->callbacks[3] = (sasl_callback_t){ SASL_CB_PASS, CALLBACK(cb_secret), c };
        c->callbacks[4] = (sasl_callback_t){ SASL_CB_GETREALM, CALLBACK(cb_realm), c };
        c->callbacks[5] = (sasl_callback_t){ SASL_CB_LIST_END, NULL, NULL };
}

static int failed(struct saslc *c, const char *what, int rc, struct err *err)
{
        enum err_code code = rc == SASL_NOMECH || rc == SASL_NOUSER ? ERR_CONFIG : ERR_AUTH;

        return err_set(err, code, "%s: %s", what, c->conn ? sasl_errdetail(c->conn) : sasl_errstring(rc, NULL, NULL));
}

static int set_properties(struct saslc *c, unsigned tls_bits)
{
        /* No security layers: what shall be secret goes by TLS. */
        sasl_security_properties_t props = { .max_ssf = 0, .maxbufsize = 0, .security_flags = SASL_SEC_NOANONYMOUS };
        sasl_ssf_t external = tls_bits;
        int rc = sasl_setprop(c->conn, SASL_SEC_PROPS, &props);

        return rc == SASL_OK && external > 0 ? sasl_setprop(c->conn, SASL_SSF_EXTERNAL, &external) : rc;
}

int saslc_create(const struct saslc_params *params, struct saslc **c_r, struct err *err)
{
        struct saslc *c = xcalloc(1, sizeof *c);
        int rc;

        c->conf = conf_ref(params->conf);
        c->authname = params->authname ? xstrdup(params->authname) : NULL;
        c->realm = params->realm ? xstrdup(params->realm) : NULL;
        if (params->password) {
                size_t len = strlen(params->password);

                c->secret = xmalloc(sizeof *c->secret + len + 1);
                c->secret->len = len;
                memcpy(c->secret->data, params->password, len + 1);
        }
        fill_callbacks(c);
        sasl_making_lock();
        rc = sasl_client_new(params->service, params->host, params->local, params->peer, c->callbacks, 0, &c->conn);
        if (rc == SASL_NOTINIT && (rc = sasl_client_init(NULL)) == SASL_OK)     /* it counts, and sasl_done() undoes one: only the first of us asks */
                rc = sasl_client_new(params->service, params->host, params->local, params->peer, c->callbacks, 0, &c->conn);
        sasl_making_unlock();
        if (rc == SASL_OK)
                rc = set_properties(c, params->tls_bits);
        if (rc != SASL_OK) {
                failed(c, "cyrus-sasl", rc, err);
                saslc_destroy(&c);
                return -1;
        }
        *c_r = c;
        return 0;
}

void saslc_destroy(struct saslc **cp)
{
        struct saslc *c = *cp;

        *cp = NULL;
        if (!c)
                return;
        sasl_making_lock();
        if (c->conn)
                sasl_dispose(&c->conn);
        sasl_making_unlock();
        if (c->secret) {
                explicit_bzero(c->secret->data, c->secret->len);
                free(c->secret);
        }
        free(c->authname);
        free(c->realm);
        conf_unref(&c->conf);
        free(c);
}

int saslc_start(struct saslc *c, const char *mechs, const char **mech_r, struct str *out, bool *has_out_r, struct err *err)
{
        const char *response = NULL;
        unsigned len = 0;
        int rc;

        sasl_making_lock();
        rc = sasl_client_start(c->conn, mechs, NULL, &response, &len, mech_r);          /* walks the list of plug-ins */
        sasl_making_unlock();
        if (rc != SASL_OK && rc != SASL_CONTINUE)
                return failed(c, mechs, rc, err);
        c->done = rc == SASL_OK;
        *has_out_r = response != NULL;
        if (response)
                str_append(out, response, len);
        return 0;
}

int saslc_step(struct saslc *c, struct span challenge, struct str *out, struct err *err)
{
        const char *response = NULL;
        unsigned len = 0;
        int rc;

        if (challenge.len > UINT32_MAX)
                return err_set(err, ERR_LIMIT, "challenge of %zu octets", challenge.len);
        rc = sasl_client_step(c->conn, challenge.p ? challenge.p : "", (unsigned)challenge.len, NULL, &response, &len);
        if (rc != SASL_OK && rc != SASL_CONTINUE)
                return failed(c, "SASL", rc, err);
        c->done = rc == SASL_OK;
        if (response)
                str_append(out, response, len);
        return 0;
}

bool saslc_is_done(const struct saslc *c)
{
        return c->done;
}
