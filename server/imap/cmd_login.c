/* LOGIN user password (RFC 9051 6.2.3) */
#include "server/imap/imap_private.h"

static void login_step(struct imap_auth *auth)
{
        sasl_login(auth->imap->sasl, auth->user, auth->password, &auth->step);
}

enum cmd_result cmd_login(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct imap_auth *auth;
        struct span user, password;

        if (imap->cmd.state)
                return imap_auth_continue(imap);
        ip->utf8 = true;                                /* names and passwords, whatever was enabled: RFC 9051 6.2.3 */
        if (imap_sp(ip) < 0 || imap_astring(ip, &user) < 0 || imap_sp(ip) < 0 || imap_astring(ip, &password) < 0 || imap_end(ip) < 0)
                return imap_bad(imap, "%s", ip->err.text);
        if (imap_login_needs_tls(imap))
                return CMD_DONE;
        if (!imap_plaintext_ok(imap))
                return imap_no(imap, "PRIVACYREQUIRED", "LOGIN is disabled without TLS");
        auth = imap_auth_begin(imap);
        auth->plaintext = true;
        auth->user = arena_span(&imap->s->arena, user);
        auth->password = arena_span(&imap->s->arena, password);         /* with a NUL after it: libsasl's plug-ins rely on it */
        return imap_auth_known(imap) ? imap_auth_continue(imap) : imap_auth_offload(imap, login_step);
}
