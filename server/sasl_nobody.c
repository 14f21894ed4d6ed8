/*
 * sasl_nobody - who has no password is asked for it all the same.
 *
 * SCRAM's plug-in has a challenge only for users whose password it finds: so it would tell strangers who exists (RFC 5802 section 9 and
 * RFC 9051 11.3 are about that). This is a plug-in for users' properties that comes after those which are configured. Where these know no password of a
 * user it makes one up that nobody can guess, anew each time: mechanisms go on as for anybody else, with the same challenge and the same work, and
 * end with a wrong password.
 */
#include "server/sasl_private.h"

#include <sasl/prop.h>
#include <sasl/saslplug.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/hash.h"
#include "util/must.h"
#include "util/str.h"

#define OURS "cyrd_nobody"
#define CALLBACK_CONN 0x43590001ul              /* not one of the library's: whose lookup it is */
#define PASSWORD "*userPassword"                /* of the identity that logs in, as the library marks that */

/* Without auxprop_plugin the library asks all it has; with ours in the list it needs the others' names. Written once, in sasl_nobody_setup(). */
static char all[500];

static bool is_secret(const char *name)
{
        return strcmp(name, PASSWORD) == 0 || strcmp(name, "*authPassword") == 0 || strncmp(name, "*cmusaslsecret", 14) == 0;
}

static void tell_conn(const sasl_utils_t *utils)
{
        sasl_callback_ft proc = NULL;
        void *context = NULL;

        if (utils->getcallback(utils->conn, CALLBACK_CONN, &proc, &context) == SASL_OK && context)
                ((struct sasl_conn *)context)->nobody = true;
}

static int lookup(void *glob_context, sasl_server_params_t *params, unsigned flags, const char *user, unsigned user_len)
{
        const struct propval *v = params->utils->prop_get(params->propctx);
        uint8_t noise[32];
        char password[2 * sizeof noise + 1];
        bool asked = false;

        (void)glob_context;
        (void)user;
        (void)user_len;
        if (flags & SASL_AUXPROP_AUTHZID)
                return SASL_NOUSER;
        for (; v && v->name; v++) {
                if (is_secret(v->name) && v->values && v->values[0])
                        return SASL_NOUSER;             /* which changes nothing: somebody knows him */
                asked = asked || strcmp(v->name, PASSWORD) == 0;
        }
        if (!asked)
                return SASL_NOUSER;
        random_bytes(noise, sizeof noise);
        hex_encode(password, noise, sizeof noise);
        password[2 * sizeof noise] = '\0';
        tell_conn(params->utils);
        return params->utils->prop_set(params->propctx, PASSWORD, password, -1);
}

static int init(const sasl_utils_t *utils, int max_version, int *version_r, sasl_auxprop_plug_t **plug_r, const char *name)
{
        static char ours[] = OURS;
        static sasl_auxprop_plug_t plug = { .auxprop_lookup = lookup, .name = ours };

        (void)utils;
        (void)name;
        if (max_version < SASL_AUXPROP_PLUG_VERSION)
                return SASL_BADVERS;
        *version_r = SASL_AUXPROP_PLUG_VERSION;
        *plug_r = &plug;
        return SASL_OK;
}

static void add_name(sasl_auxprop_plug_t *plug, sasl_info_callback_stage_t stage, void *rock)
{
        size_t len = strlen(all);

        (void)rock;
        if (stage == SASL_INFO_LIST_MECH && plug->name && strcmp(plug->name, OURS) != 0)
                snprintf(all + len, sizeof all - len, "%s ", plug->name);
}

void sasl_nobody_setup(void)
{
        all[0] = '\0';
        (void)auxprop_plugin_info(NULL, add_name, NULL);
        if (sasl_auxprop_add_plugin(OURS, init) != SASL_OK)
                all[0] = '\0';
        else
                snprintf(all + strlen(all), sizeof all - strlen(all), OURS);
}

const char *sasl_nobody_list(struct sasl_conn *c, const char *configured)
{
        struct str list = STR_INIT;

        if (!all[0])
                return configured;                      /* the library would not have ours */
        if (!configured)
                return all;
        if (!c->auxprops) {
                str_printf(&list, "%s " OURS, configured);
                c->auxprops = str_take(&list);
        }
        return c->auxprops;
}

static int no_call(void) { return SASL_FAIL; }

sasl_callback_t sasl_nobody_callback(struct sasl_conn *c)
{
        return (sasl_callback_t){ CALLBACK_CONN, no_call, c };
}
