/*
 * lmtp_auth - AUTH (RFC 4954): the exchange of base64 lines around the SASL steps, which run on a thread that may block.
 * Only administrators of the service (`admins`, `lmtp_admins`) may deliver over an authenticated connection.
 *
 * Who need not authenticate is offered EXTERNAL and nothing else, as Cyrus does it: without AUTH in the reply to LHLO its programs do not say
 * whose mail it is (MAIL's AUTH=), and with it they may authenticate.
 */
#include <stdio.h>

#include "server/lmtp/lmtp_private.h"
#include "server/metrics.h"
#include "util/log.h"
#include "util/must.h"

void lmtp_auth_deinit(struct lmtp *l)
{
        if (l->step_valid)
                sasl_step_deinit(&l->step);
        l->step_valid = false;
        str_deinit(&l->auth_input);
        l->auth_started = false;
        /* With a security layer the stream has taken the connection over. */
        sasl_conn_destroy(&l->sasl);
}

static bool ensure_conn(struct lmtp *l)
{
        const struct service_params *p = service_params(l->s->service);
        bool tls = stream_is_tls(l->s->stream);
        struct sasl_params params = {
                .service = "lmtp", .ident = p->name, .tls = tls, .tls_bits = stream_tls_bits(l->s->stream),
                .tls_peer = stream_tls_peer(l->s->stream), .external_ssf = p->external_ssf,
                .plaintext_ok = tls || p->external_ssf > 1 || conf_switch(l->conf, p->name, "allowplaintext"),
                .no_password_check = p->no_password_check,
        };
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];

        if (l->sasl)
                return true;
        if (sasl_conn_create(&params, engine_store(), &l->sasl, &err) == 0)
                return true;
        log_event(LOG_ERROR, l->s->name, "lmtp.sasl", "reason=%s", log_quote_str(quoted, err.text));
        return false;
}

static bool may_say_external(const struct lmtp *l)
{
        return l->preauthorized && !l->external_done;
}

const char *lmtp_auth_mechanisms(struct lmtp *l)
{
        if (may_say_external(l))
                return "EXTERNAL";
        if (l->authenticated || !ensure_conn(l))
                return "";
        return sasl_mechanisms(l->sasl, &l->s->arena);
}

static void run_step(void *arg)
{
        struct lmtp *l = arg;
        struct span in = str_span(&l->auth_input);

        if (!l->auth_started)
                sasl_start(l->sasl, l->auth_mech, l->auth_has_input ? &in : NULL, &l->step);
        else
                sasl_continue(l->sasl, in, &l->step);
        l->auth_started = true;
}

static void failed(struct lmtp *l)
{
        int64_t pause_s = conf_duration_s(l->conf, service_name(l->s->service), "failedloginpause");
        enum err_code code = l->step.err.code;
        char quoted[LOG_QUOTE_MAX];

        metric_add(METRIC_BADLOGINS_LMTP, 1);
        log_event(LOG_NOTE, l->s->name, "lmtp.badlogin", "peer=%s mech=%s reason=%s", l->s->peer, l->auth_mech,
                  log_quote_str(quoted, l->step.err.text));
        lmtp_auth_deinit(l);
        if (code == ERR_UNAVAILABLE) {
                lmtp_reply(l, "454 4.7.0 Temporary authentication failure");
        } else if (code == ERR_UNSUPPORTED) {
                lmtp_reply(l, "504 5.5.4 No such mechanism");
        } else if (code == ERR_SYNTAX) {
                lmtp_reply(l, "501 5.5.2 Bad authentication exchange");
        } else if (pause_s > 0) {
                l->phase = LMTP_AUTH_PAUSE;
                l->told &= ~(unsigned)WAKE_TIMER;
                session_timer(l->s, (uint32_t)pause_s * 1000);
        } else {
                lmtp_reply(l, "535 5.7.8 Authentication failed");
        }
}

static void step_done(struct lmtp *l)
{
        switch (l->step.outcome) {
        case SASL_OUT_CONTINUE: {
                struct str line = STR_INIT;

                base64_encode(str_span(&l->step.challenge), &line);
                lmtp_reply(l, "334 %s", line.data);
                str_deinit(&line);
                l->phase = LMTP_AUTH;
                return;
        }
        case SASL_OUT_FAILED:
                str_clear(&l->s->in);
                failed(l);
                return;
        case SASL_OUT_OK:
                break;
        }
        str_clear(&l->s->in);                           /* nobody may pipeline behind AUTH (RFC 4954 4) */
        if (!l->step.is_admin) {
                metric_add(METRIC_BADLOGINS_LMTP, 1);
                log_event(LOG_NOTE, l->s->name, "lmtp.badlogin", "peer=%s user=%s reason=\"not an administrator of this service\"",
                          l->s->peer, l->step.userid);
                lmtp_auth_deinit(l);
                lmtp_reply(l, "535 5.7.8 This user may not deliver");
                return;
        }
        metric_add(METRIC_LOGINS_LMTP, 1);
        log_event(LOG_NOTE, l->s->name, "lmtp.login", "peer=%s user=%s mech=%s tls=%s", l->s->peer, l->step.userid, l->step.mech,
                  stream_tls_version(l->s->stream));
        l->authenticated = l->s->authenticated = true;
        session_set_user(l->s, l->step.userid);
        telemetry_look(l->s, &l->telemetry, l->conf, l->step.userid, true);
        lmtp_reply(l, "235 2.7.0 Authenticated");
        if (l->step.has_layer) {
                stream_start_sasl(l->s->stream, l->sasl);
                l->sasl = NULL;
                l->greeted = false;                             /* RFC 4954 4: back to the start after a layer */
        }
        sasl_conn_destroy(&l->sasl);
}

static void begin_step(struct lmtp *l)
{
        if (l->step_valid)
                sasl_step_deinit(&l->step);
        sasl_step_init(&l->step);
        l->step_valid = true;
        lmtp_offload(l, OFFLOAD_AUTH, run_step, step_done);
}

/* Whoever it wants to be: it changes nothing. */
static void take_external(struct lmtp *l, struct span response)
{
        struct str name = STR_INIT;
        struct err err = ERR_INIT;

        l->external_waiting = false;
        if (!span_eq_str(response, "=") && base64_decode(response, &name, &err) < 0) {
                lmtp_reply(l, "501 5.5.2 Bad base64");
        } else {
                l->external_done = true;
                lmtp_reply(l, "235 2.7.0 Authenticated");
        }
        str_deinit(&name);
}

static void begin_external(struct lmtp *l, struct span mech, struct span initial, bool has_initial)
{
        if (!span_ieq_str(mech, "EXTERNAL")) {
                lmtp_reply(l, "504 5.5.4 No such mechanism");
        } else if (has_initial) {
                take_external(l, initial);
        } else {
                l->external_waiting = true;
                l->phase = LMTP_AUTH;
                lmtp_reply(l, "334 ");
        }
}

void lmtp_cmd_auth(struct lmtp *l, struct span args)
{
        size_t end = span_index(args, ' ');
        struct span mech = { args.p, end }, initial = { NULL, 0 };
        struct err err = ERR_INIT;

        if (may_say_external(l) && !l->have_from) {
                if (end < args.len)
                        initial = span_trim((struct span){ args.p + end + 1, args.len - end - 1 });
                begin_external(l, mech, initial, end < args.len);
                return;
        }
        if (l->authenticated || l->have_from) {
                lmtp_reply(l, "503 5.5.1 AUTH is not possible now");
                return;
        }
        if (mech.len == 0 || mech.len > 20) {
                lmtp_reply(l, "501 5.5.4 Say AUTH mechanism [initial-response]");
                return;
        }
        if (!ensure_conn(l)) {
                lmtp_reply(l, "454 4.7.0 Temporary authentication failure");
                return;
        }
        str_clear(&l->auth_input);
        l->auth_has_input = end < args.len;
        if (l->auth_has_input) {
                initial = span_trim((struct span){ args.p + end + 1, args.len - end - 1 });
                if (!span_eq_str(initial, "=") && base64_decode(initial, &l->auth_input, &err) < 0) {
                        lmtp_reply(l, "501 5.5.2 Bad base64");
                        return;
                }
        }
        l->auth_started = false;
        snprintf(l->auth_mech, sizeof l->auth_mech, "%.*s", (int)mech.len, mech.p);
        begin_step(l);
}

void lmtp_auth_response(struct lmtp *l, struct span line)
{
        struct err err = ERR_INIT;

        l->phase = LMTP_COMMAND;
        if (l->external_waiting && !span_eq_str(line, "*")) {
                take_external(l, line);
                return;
        }
        l->external_waiting = false;
        str_clear(&l->auth_input);
        if (span_eq_str(line, "*") || base64_decode(line, &l->auth_input, &err) < 0) {
                lmtp_auth_deinit(l);
                lmtp_reply(l, "501 5.5.2 Authentication cancelled");
                return;
        }
        l->auth_has_input = true;
        begin_step(l);
}
