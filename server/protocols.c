/* protocols - see protocols.h */
#include "server/protocols.h"

#include <string.h>

#include "util/array.h"

const struct session_ops *protocol_ops(const struct program *p)
{
        static const struct { const char *program; const struct session_ops *ops; } protocols[] = {
                { "imapd", &imap_ops },
                { "lmtpd", &lmtp_ops },
                { "pop3d", &pop3_ops },
        };

        for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
                if (strcmp(protocols[i].program, p->name) == 0)
                        return protocols[i].ops;
        return NULL;
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
