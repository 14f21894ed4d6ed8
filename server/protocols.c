/* protocols - see protocols.h */
#include "server/protocols.h"

#include <string.h>

#include "util/array.h"

struct protocol { const char *program; const struct session_ops *ops; };

/* What protocol_register() has added; written before there are threads. */
static struct protocol registered[4];
static size_t registered_n;

void protocol_register(const char *program, const struct session_ops *ops)
{
        must(registered_n < ARRAY_LEN(registered));
        registered[registered_n++] = (struct protocol){ program, ops };
}

static const struct session_ops *find(const struct protocol *list, size_t n, const char *program)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(list[i].program, program) == 0)
                        return list[i].ops;
        return NULL;
}

const struct session_ops *protocol_ops(const struct program *p)
{
        static const struct protocol protocols[] = {
                { "imapd", &imap_ops },
                { "lmtpd", &lmtp_ops },
                { "pop3d", &pop3_ops },
        };
        const struct session_ops *ops = find(protocols, ARRAY_LEN(protocols), p->name);

        return ops ? ops : find(registered, registered_n, p->name);
}

struct service_params protocol_params(const char *name, const struct program *p, const struct service_args *args, int maxchild)
{
        return (struct service_params){
                .name = name,
                .ops = protocol_ops(p),
                .tls_at_once = args->tls,
                .preauthorized = args->preauth,
                .no_password_check = args->no_password,
                .no_quota = args->no_quota,
                .external_ssf = (unsigned)args->external_ssf,
                .refusal = p->built ? NULL : p->refusal,
                .maxchild = maxchild,
        };
}
