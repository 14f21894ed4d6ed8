/* user - what a user id may be, and how it is written. See user.h; subscriptions are in sub.c, autocreation in autocreate.c. */
#include "store/user.h"

#include <string.h>

#include "store/mailname_private.h"
#include "store/store_private.h"
#include "util/log.h"

/*
 * Printable ASCII that no user id may have: what no mailbox name may have, wildcards, blanks, '^' (which is how a dot is written in
 * a mailbox name) and '&' (modified UTF-7). User ids become directory names as well (log/<user>/).
 */
static bool forbidden(char c)
{
        return (unsigned char)c <= 0x20 || (unsigned char)c > 0x7e || strchr("!\"%&*()/;<>\\^`{|}", c);
}

static int check_local(struct span local, struct err *err)
{
        char quoted[LOG_QUOTE_MAX];

        if (local.len == 0)
                return err_set(err, ERR_BADNAME, "empty user id");
        for (size_t i = 0; i < local.len; i++)
                if (forbidden(local.p[i]))
                        return err_set(err, ERR_BADNAME, "forbidden character %s in a user id", log_quote(quoted, local.p + i, 1));
        /* "-joe" takes rights away from joe in an ACL, "group:x" is a group; "." and ".." are directories. */
        if (local.p[0] == '-' || local.p[0] == '~' || span_istarts(local, "group:") || span_ieq_str(local, "anyone") ||
            span_eq_str(local, ".") || span_eq_str(local, ".."))
                return err_set(err, ERR_BADNAME, "%.*s cannot be a user id", (int)local.len, local.p);
        return 0;
}

int user_canonify(struct store *store, const char *given, struct arena *arena, const char **userid_r, struct err *err)
{
        const struct namespace *ns = store_namespace(store);
        struct span local = span_of(given), domain = SPAN("");
        bool fold = conf_switch(store_conf(store), NULL, "username_tolower");
        const char *at = ns->virtdomains ? strrchr(given, '@') : NULL, *percent = ns->virtdomains ? strrchr(given, '%') : NULL;
        char *user;

        if (local.len > USERID_MAX)
                return err_set(err, ERR_BADNAME, "user id longer than %d octets", USERID_MAX);
        if (!at || (percent && percent > at))                   /* "joe%example.org": as Cyrus takes it from old clients */
                at = percent;
        if (at) {
                local.len = (size_t)(at - given);
                domain = span_of(at + 1);
                if (!mailname_domain_ok(domain))
                        return err_set(err, ERR_BADNAME, "impossible domain in a user id");
                if (ns->defaultdomain && span_ieq_str(domain, ns->defaultdomain))
                        domain.len = 0;
        }
        if (check_local(local, err) < 0)
                return -1;
        user = arena_alloc(arena, local.len + domain.len + 2);
        for (size_t i = 0; i < local.len; i++)
                user[i] = fold ? ascii_lower(local.p[i]) : local.p[i];
        if (domain.len) {
                user[local.len++] = '@';
                for (size_t i = 0; i < domain.len; i++)
                        user[local.len + i] = ascii_lower(domain.p[i]);
        }
        user[local.len + domain.len] = '\0';
        *userid_r = user;
        return 0;
}
