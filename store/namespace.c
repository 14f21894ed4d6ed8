/* namespace - the rules by which clients see names; see mailname.h */
#include <stdlib.h>
#include <string.h>

#include "store/mailname_private.h"
#include "util/charset.h"
#include "util/must.h"

/* What user ids look like is asked by functions of one name alone (mailname_owner() …), from everywhere. It cannot change while
 * the process lives, as the names on the disk would become other ones; so it may be file-scope. */
static atomic_bool virtdomains_on;

bool mailname_virtdomains(void)
{
        return atomic_load_explicit(&virtdomains_on, memory_order_relaxed);
}

/* A prefix of the configuration may be written in UTF-8 or modified UTF-7, with or without a separator at its end. */
static char *prefix_of(struct conf *conf, const char *option, char sep)
{
        const char *value = conf_str(conf, NULL, option);
        struct str out = STR_INIT;
        struct span v = value ? span_of(value) : SPAN("");

        while (v.len && v.p[v.len - 1] == sep)
                v.len--;
        if (mutf7_valid(v) || mutf7_from_utf8(v, &out, NULL) < 0) {
                str_clear(&out);
                str_append_span(&out, v);
        }
        return str_take(&out);
}

struct namespace *namespace_create(struct conf *conf)
{
        struct namespace *ns = xcalloc(1, sizeof *ns);
        const char *domain = conf_str(conf, NULL, "defaultdomain");

        atomic_init(&ns->refs, 1);
        ns->alt = conf_switch(conf, NULL, "altnamespace");
        ns->unixsep = conf_switch(conf, NULL, "unixhierarchysep");
        ns->sep = ns->unixsep ? '/' : '.';
        ns->virtdomains = strcmp(conf_enum(conf, NULL, "virtdomains"), "off") != 0;
        ns->no_users = conf_switch(conf, NULL, "disable_user_namespace");
        ns->no_shared = conf_switch(conf, NULL, "disable_shared_namespace");
        ns->userprefix = prefix_of(conf, "userprefix", ns->sep);
        ns->sharedprefix = prefix_of(conf, "sharedprefix", ns->sep);
        ns->altprefix = prefix_of(conf, "altprefix", ns->sep);
        ns->defaultdomain = domain && *domain ? xstrdup(domain) : NULL;
        atomic_store_explicit(&virtdomains_on, ns->virtdomains, memory_order_relaxed);
        return ns;
}

struct namespace *namespace_ref(struct namespace *ns)
{
        atomic_fetch_add(&ns->refs, 1);
        return ns;
}

void namespace_unref(struct namespace **nsp)
{
        struct namespace *ns = *nsp;

        *nsp = NULL;
        if (!ns || atomic_fetch_sub(&ns->refs, 1) != 1)
                return;
        free(ns->userprefix);
        free(ns->sharedprefix);
        free(ns->altprefix);
        free(ns->defaultdomain);
        free(ns);
}

char namespace_separator(const struct namespace *ns)
{
        return ns->sep;
}

bool namespace_has_domains(const struct namespace *ns)
{
        return ns->virtdomains;
}

bool namespace_is_alt(const struct namespace *ns)
{
        return ns->alt;
}

static void append_prefix(const struct namer *who, const char *mutf7, struct str *out)
{
        if (!who->utf8 || mutf7_to_utf8(span_of(mutf7), out, NULL) < 0)
                str_append_str(out, mutf7);
        str_append_c(out, who->ns->sep);
}

bool namespace_prefix(const struct namer *who, enum namespace_kind kind, struct str *out)
{
        const struct namespace *ns = who->ns;
        bool plain = !ns->alt || who->is_admin;         /* admins write internal names */

        switch (kind) {
        case NAMESPACE_PERSONAL:
                if (plain)
                        append_prefix(who, "INBOX", out);
                return true;
        case NAMESPACE_OTHER_USERS:
                if (ns->no_users && !who->is_admin)
                        return false;
                append_prefix(who, plain ? "user" : ns->userprefix, out);
                return true;
        case NAMESPACE_SHARED:
                if (ns->no_shared && !who->is_admin)
                        return false;
                if (!plain)
                        append_prefix(who, ns->sharedprefix, out);
                return true;
        }
        return false;
}
