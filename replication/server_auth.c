/*
 * server_auth - AUTHENTICATE of csync: lines of base64 around the SASL steps, which run on a thread that may block. Anybody who proves who he is gets
 * in, as with the real one; only for admins does it open anything (server.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/server_session.h"
#include "server/tls.h"
#include "util/log.h"

void csync_auth_deinit(struct csync *c)
{
        if (c->step_valid)
                sasl_step_deinit(&c->step);
        c->step_valid = false;
        if (c->auth_input.cap)
                explicit_bzero(c->auth_input.data, c->auth_input.cap);
        str_deinit(&c->auth_input);
        c->auth_started = false;
        sasl_conn_destroy(&c->sasl);
}

static bool ensure_conn(struct csync *c)
{
        const struct service_params *service = service_params(c->s->service);
        struct stream *stream = c->s->stream;
        struct sasl_params params = { .service = "csync", .ident = service->name, .tls = stream_is_tls(stream),
                .tls_bits = stream_tls_bits(stream), .tls_peer = stream_tls_peer(stream), .external_ssf = service->external_ssf };
        struct str binding = STR_INIT;
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];
        int rc;

        if (c->sasl)
                return true;
        params.plaintext_ok = params.tls || service->external_ssf > 1 || conf_switch(c->conf, service->name, "allowplaintext");
        if (params.tls) {
                params.channel_binding_type = "tls-exporter";
                if (!stream_channel_binding(stream, "tls-exporter", &binding)) {
                        params.channel_binding_type = "tls-unique";
                        stream_channel_binding(stream, "tls-unique", &binding);
                }
                if (binding.len)
                        params.channel_binding = &binding;
        }
        rc = sasl_conn_create(&params, engine_store(), &c->sasl, &err);
        str_deinit(&binding);
        if (rc < 0)
                log_event(LOG_ERROR, c->s->name, "sync.sasl", "reason=%s", log_quote_str(quoted, err.text));
        return rc == 0;
}

const char *csync_mechanisms(struct csync *c)
{
        return ensure_conn(c) ? sasl_mechanisms(c->sasl, &c->s->arena) : "";
}

static void run_step(void *arg)
{
        struct csync *c = arg;
        struct span in = str_span(&c->auth_input);

        if (!c->auth_started)
                sasl_start(c->sasl, c->auth_mech, c->auth_has_input ? &in : NULL, &c->step);
        else
                sasl_continue(c->sasl, in, &c->step);
        c->auth_started = true;
}

static void begin_step(struct csync *c)
{
        if (c->step_valid)
                sasl_step_deinit(&c->step);
        sasl_step_init(&c->step);
        c->step_valid = true;
        c->phase = CSYNC_OFFLOADED;
        session_offload(c->s, &c->job, OFFLOAD_AUTH, run_step, c);
}

static void failed(struct csync *c)
{
        int64_t pause_s = conf_duration_s(c->conf, service_name(c->s->service), "failedloginpause");
        enum err_code code = c->step.err.code;
        char quoted[LOG_QUOTE_MAX];

        log_event(LOG_NOTE, c->s->name, "sync.badlogin", "peer=%s mech=%s code=%s reason=%s", c->s->peer, c->auth_mech, err_code_name(code),
                  log_quote_str(quoted, c->step.err.text));
        csync_auth_deinit(c);
        c->bad++;
        if (code == ERR_UNSUPPORTED) {
                csync_reply(c, "NO no mechanism available");
        } else if (code == ERR_SYNTAX) {
                csync_reply(c, "NO bad protocol / cancel");
        } else if (code == ERR_UNAVAILABLE || code == ERR_IO || code == ERR_TIMEOUT) {
                csync_reply(c, "NO generic failure");
        } else if (pause_s > 0) {
                c->phase = CSYNC_AUTH_PAUSE;
                c->told &= ~(unsigned)WAKE_TIMER;
                session_timer(c->s, pause_s > 3600 ? 3600000 : (uint32_t)pause_s * 1000);
        } else {
                csync_reply(c, "NO authentication failure");
        }
}

static const char *protection(const struct csync *c)
{
        return stream_is_tls(c->s->stream) ? "tls protection" : c->step.has_layer ? "privacy protection" : "no protection";
}

void csync_auth_step_done(struct csync *c)
{
        bool layer;

        if (c->step.outcome == SASL_OUT_CONTINUE) {
                struct str line = STR_INIT;

                base64_encode(str_span(&c->step.challenge), &line);
                csync_reply(c, "+ %s", line.data);
                str_deinit(&line);
                c->phase = CSYNC_AUTH_LINE;
                return;
        }
        str_clear(&c->s->in);                           /* nobody may have said anything behind it */
        if (c->step.outcome == SASL_OUT_OK && !session_login(c->s, c->conf, c->step.userid, c->step.is_admin, &c->step.err))
                c->step.outcome = SASL_OUT_FAILED;
        if (c->step.outcome == SASL_OUT_FAILED) {
                failed(c);
                return;
        }
        log_event(c->step.is_admin ? LOG_NOTE : LOG_WARN, c->s->name, "sync.login", "peer=%s user=%s mech=%s tls=%s admin=%s", c->s->peer,
                  c->step.userid, c->step.mech, stream_tls_version(c->s->stream), c->step.is_admin ? "yes" : "no");
        c->user = xstrdup(c->step.userid);
        csync_logged_in(c, c->user, c->step.is_admin);
        telemetry_look(c->s, &c->telemetry, c->conf, c->user, true);
        csync_reply(c, "OK Success (%s)", protection(c));
        layer = c->step.has_layer;
        if (layer)
                c->phase = CSYNC_LAYER_DRAIN;
        else
                csync_auth_deinit(c);
}

void csync_authenticate(struct csync *c, struct span args)
{
        size_t end = span_index(args, ' ');
        struct span mech = { args.p, end }, initial = { NULL, 0 };
        struct err err = ERR_INIT;

        if (c->authenticated) {
                csync_reply(c, "BAD Already authenticated");
                return;
        }
        if (mech.len == 0) {
                csync_reply(c, "BAD Missing required argument to Authenticate");
                return;
        }
        if (mech.len >= sizeof c->auth_mech || memchr(mech.p, '\0', mech.len)) {
                csync_reply(c, "NO no mechanism available");
                return;
        }
        if (!ensure_conn(c)) {
                csync_reply(c, "NO generic failure");
                return;
        }
        str_clear(&c->auth_input);
        c->auth_has_input = end < args.len;
        if (c->auth_has_input)
                initial = span_trim((struct span){ args.p + end, args.len - end });
        if (c->auth_has_input && !span_eq_str(initial, "=") && base64_decode(initial, &c->auth_input, &err) < 0) {
                csync_reply(c, "BAD Invalid base64 in initial response");
                return;
        }
        c->auth_started = false;
        snprintf(c->auth_mech, sizeof c->auth_mech, "%.*s", (int)mech.len, mech.p);
        begin_step(c);
}

void csync_auth_response(struct csync *c, struct span line)
{
        struct err err = ERR_INIT;

        c->phase = CSYNC_COMMAND;
        str_clear(&c->auth_input);
        if (span_eq_str(line, "*") || base64_decode(line, &c->auth_input, &err) < 0) {
                csync_auth_deinit(c);
                c->bad++;
                csync_reply(c, "NO bad protocol / cancel");
                return;
        }
        c->auth_has_input = true;
        begin_step(c);
}
