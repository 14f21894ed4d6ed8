/* AUTHENTICATE mechanism [initial-response] (RFC 9051 6.2.2, RFC 4959) */
#include "server/imap/imap_private.h"

static void start_step(struct imap_auth *auth)
{
        struct span initial = str_span(&auth->response);

        sasl_start(auth->imap->sasl, auth->mech, auth->has_initial ? &initial : NULL, &auth->step);
}

static void continue_step(struct imap_auth *auth)
{
        sasl_continue(auth->imap->sasl, str_span(&auth->response), &auth->step);
}

static enum cmd_result begin(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct span mech, initial = { NULL, 0 };
        struct imap_auth *auth;
        bool has_initial = false;

        if (imap_sp(ip) < 0 || imap_atom(ip, &mech) < 0)
                return imap_bad(imap, "%s", ip->err.text);
        if (!imap_at_end(ip)) {
                if (imap_sp(ip) < 0 || imap_atom(ip, &initial) < 0 || imap_end(ip) < 0)
                        return imap_bad(imap, "%s", ip->err.text);
                has_initial = true;
        }
        if (imap_login_needs_tls(imap))
                return CMD_DONE;
        auth = imap_auth_begin(imap);
        imap->loop->discard_rest = true;
        if (has_initial && !span_eq_str(initial, "=") && base64_decode(initial, &auth->response, NULL) < 0)
                return imap_bad(imap, "Initial response is not base64");
        auth->mech = arena_strndup(&imap->s->arena, mech.p, mech.len);
        auth->has_initial = has_initial;
        return imap_auth_offload(imap, start_step);
}

/* A line from the client. */
static enum cmd_result response(struct imap *imap, struct imap_auth *auth)
{
        struct span line = imap->cmd.line;

        if (span_eq_str(line, "*"))
                return imap_bad(imap, "Authentication cancelled");
        str_clear(&auth->response);
        if (base64_decode(line, &auth->response, NULL) < 0)
                return imap_bad(imap, "Response is not base64");
        if (auth->at == AUTH_CHALLENGED)
                return imap_auth_offload(imap, continue_step);
        if (auth->response.len)
                return imap_bad(imap, "Only an empty response may follow");
        return imap_auth_continue(imap);
}

enum cmd_result cmd_authenticate(struct imap *imap)
{
        struct imap_auth *auth = imap->cmd.state;

        if (!auth)
                return begin(imap);
        if (auth->at == AUTH_CHALLENGED || auth->at == AUTH_LAST_WORD)
                return response(imap, auth);
        return imap_auth_continue(imap);
}
