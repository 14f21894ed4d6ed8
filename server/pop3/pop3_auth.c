/*
 * pop3_auth - USER and PASS (RFC 1939 7), AUTH (RFC 5034). The SASL steps run on a thread that may block. A failed attempt is answered after
 * failedloginpause, whoever the user was and whether there is one.
 *
 * APOP is not there: it needs passwords in clear on the server, and MD5.
 */
#include <stdio.h>
#include <stdlib.h>

#include "server/pop3/pop3_private.h"
#include "server/metrics.h"
#include "util/log.h"
#include "util/must.h"

void pop3_auth_deinit(struct pop3 *p)
{
        if (p->step_valid)
                sasl_step_deinit(&p->step);
        p->step_valid = false;
        if (p->auth_input.cap)
                explicit_bzero(p->auth_input.data, p->auth_input.cap);
        str_deinit(&p->auth_input);
        p->auth_started = false;
        sasl_conn_destroy(&p->sasl);                    /* with a security layer the stream has it */
}

bool pop3_plaintext_ok(struct pop3 *p)
{
        const struct service_params *service = service_params(p->s->service);

        return stream_is_tls(p->s->stream) || service->external_ssf > 1 ||
               (conf_switch(p->conf, service->name, "allowplaintext") && !conf_switch(p->conf, service->name, "tls_required"));
}

static bool ensure_conn(struct pop3 *p)
{
        const struct service_params *service = service_params(p->s->service);
        struct stream *stream = p->s->stream;
        struct sasl_params params = { .service = "pop", .ident = service->name, .tls = stream_is_tls(stream),
                .tls_bits = stream_tls_bits(stream), .tls_peer = stream_tls_peer(stream), .external_ssf = service->external_ssf,
                .plaintext_ok = pop3_plaintext_ok(p), .no_password_check = service->no_password_check };
        struct str binding = STR_INIT;
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];
        int rc;

        if (p->sasl)
                return true;
        if (params.tls) {
                params.channel_binding_type = "tls-exporter";
                if (!stream_channel_binding(stream, "tls-exporter", &binding)) {
                        params.channel_binding_type = "tls-unique";
                        stream_channel_binding(stream, "tls-unique", &binding);
                }
                if (binding.len)
                        params.channel_binding = &binding;
        }
        rc = sasl_conn_create(&params, engine_store(), &p->sasl, &err);
        str_deinit(&binding);
        if (rc < 0)
                log_event(LOG_ERROR, p->s->name, "pop3.sasl", "reason=%s", log_quote_str(quoted, err.text));
        return rc == 0;
}

const char *pop3_mechanisms(struct pop3 *p)
{
        return ensure_conn(p) ? sasl_mechanisms(p->sasl, &p->s->arena) : "";
}

/* ---- how a step ended ---- */

static void failed(struct pop3 *p)
{
        int64_t pause_s = conf_duration_s(p->conf, service_name(p->s->service), "failedloginpause");
        enum err_code code = p->step.err.code;
        char quoted[LOG_QUOTE_MAX], user[LOG_QUOTE_MAX];
        struct str denial = p->step.denial;

        str_init(&p->step.denial);
        metric_add(METRIC_BADLOGINS_POP3, 1);
        log_event(LOG_NOTE, p->s->name, "pop3.badlogin", "peer=%s user=%s mech=%s code=%s reason=%s", p->s->peer,
                  p->user ? log_quote_str(user, p->user) : "-", p->auth_mech[0] ? p->auth_mech : "USER", err_code_name(code),
                  log_quote_str(quoted, p->step.err.text));
        pop3_auth_deinit(p);
        free(p->user);
        p->user = NULL;
        p->phase = POP3_COMMAND;
        if (denial.len) {
                pop3_err(p, "SYS/PERM", "%s", denial.data);     /* RFC 3206 */
        } else if (code == ERR_SYNTAX) {
                pop3_err(p, NULL, "Bad authentication exchange");
        } else if (code == ERR_UNSUPPORTED) {
                pop3_err(p, NULL, "No such mechanism");
        } else if (code == ERR_UNAVAILABLE || code == ERR_IO || code == ERR_TIMEOUT) {
                pop3_err(p, "SYS/TEMP", "Authentication is temporarily unavailable");
        } else if (code == ERR_LIMIT) {
                pop3_err(p, "SYS/TEMP", "Too many sessions");
        } else if (pause_s > 0) {
                p->phase = POP3_PAUSE;
                p->told &= ~(unsigned)WAKE_TIMER;
                session_timer(p->s, pause_s > 3600 ? 3600000 : (uint32_t)pause_s * 1000);
        } else {
                pop3_err(p, "AUTH", "Invalid login");
        }
        str_deinit(&denial);
}

static void step_done(struct pop3 *p)
{
        if (p->step.outcome == SASL_OUT_CONTINUE) {
                struct str line = STR_INIT;

                str_append_str(&line, "+ ");
                base64_encode(str_span(&p->step.challenge), &line);
                str_append(&line, "\r\n", 2);
                rope_append_span(&p->s->out, str_span(&line));
                str_deinit(&line);
                p->phase = POP3_AUTH_LINE;
                return;
        }
        if (p->auth_mech[0])
                str_clear(&p->s->in);                           /* nobody may pipeline behind AUTH (RFC 5034 4) */
        if (p->step.outcome == SASL_OUT_OK && !session_login(p->s, p->conf, p->step.userid, p->step.is_admin, &p->step.err))
                p->step.outcome = SASL_OUT_FAILED;
        if (p->step.outcome == SASL_OUT_FAILED) {
                failed(p);
                return;
        }
        free(p->userid);
        p->userid = xstrdup(p->step.userid);
        p->is_admin = p->step.is_admin;
        p->layer = p->step.has_layer;
        if (!p->layer)
                pop3_auth_deinit(p);
        pop3_drop_open(p);
}

static void begin_step(struct pop3 *p, void (*fn)(void *arg))
{
        if (p->step_valid)
                sasl_step_deinit(&p->step);
        sasl_step_init(&p->step);
        p->step_valid = true;
        pop3_offload(p, OFFLOAD_AUTH, fn, step_done);
}

/* ---- USER, PASS ---- */

static void login_job(void *arg)
{
        struct pop3 *p = arg;

        sasl_login(p->sasl, span_of(p->user), str_span(&p->auth_input), &p->step);
}

/* A line within the limits; with popsubfolders, "user+folder". */
void pop3_cmd_user(struct pop3 *p, struct span args)
{
        size_t plus = args.len;

        if (!pop3_plaintext_ok(p)) {
                pop3_err(p, "AUTH", "USER only under TLS");
                return;
        }
        if (p->user) {
                pop3_err(p, NULL, "A user was named already");
                return;
        }
        if (args.len == 0) {
                pop3_err(p, NULL, "Say USER name");
                return;
        }
        free(p->folder);
        p->folder = NULL;
        if (conf_switch(p->conf, service_name(p->s->service), "popsubfolders"))
                plus = span_index(args, '+');
        p->user = xstrndup(args.p, plus);
        if (plus + 1 < args.len)
                p->folder = xstrndup(args.p + plus + 1, args.len - plus - 1);
        pop3_ok(p, "Name is a valid mailbox");                  /* whoever it is */
}

void pop3_cmd_pass(struct pop3 *p, struct span args)
{
        if (!p->user) {
                pop3_err(p, NULL, "Say USER first");
                return;
        }
        if (!ensure_conn(p)) {
                pop3_err(p, "SYS/TEMP", "Authentication is temporarily unavailable");
                return;
        }
        p->auth_mech[0] = '\0';
        str_clear(&p->auth_input);
        str_append_span(&p->auth_input, args);
        explicit_bzero((char *)(uintptr_t)args.p, args.len);
        begin_step(p, login_job);
}

/* ---- AUTH ---- */

static void sasl_job(void *arg)
{
        struct pop3 *p = arg;
        struct span in = str_span(&p->auth_input);

        if (!p->auth_started)
                sasl_start(p->sasl, p->auth_mech, p->auth_has_input ? &in : NULL, &p->step);
        else
                sasl_continue(p->sasl, in, &p->step);
        p->auth_started = true;
}

/* AUTH alone: what there is (older clients ask so; CAPA says it too). */
static void put_mechanisms(struct pop3 *p)
{
        const char *mechs = pop3_mechanisms(p);

        pop3_ok(p, "List of supported mechanisms follows");
        while (*mechs) {
                size_t n = strcspn(mechs, " ");

                rope_printf(&p->s->out, "%.*s\r\n", (int)n, mechs);
                mechs += n + (mechs[n] == ' ');
        }
        rope_append_str(&p->s->out, ".\r\n");
}

void pop3_cmd_auth(struct pop3 *p, struct span args)
{
        size_t end = span_index(args, ' ');
        struct span mech = { args.p, end }, initial = { NULL, 0 };
        struct err err = ERR_INIT;

        if (args.len == 0) {
                put_mechanisms(p);
                return;
        }
        if (conf_switch(p->conf, service_name(p->s->service), "tls_required") && !stream_is_tls(p->s->stream)) {
                pop3_err(p, "AUTH", "Use STLS first");
                return;
        }
        if (mech.len == 0 || mech.len > 20) {
                pop3_err(p, NULL, "Say AUTH mechanism [initial-response]");
                return;
        }
        if (!ensure_conn(p)) {
                pop3_err(p, "SYS/TEMP", "Authentication is temporarily unavailable");
                return;
        }
        str_clear(&p->auth_input);
        p->auth_has_input = end < args.len;
        if (p->auth_has_input) {
                initial = (struct span){ args.p + end + 1, args.len - end - 1 };
                if (!span_eq_str(initial, "=") && base64_decode(initial, &p->auth_input, &err) < 0) {
                        pop3_err(p, NULL, "Bad base64");
                        return;
                }
        }
        p->auth_started = false;
        snprintf(p->auth_mech, sizeof p->auth_mech, "%.*s", (int)mech.len, mech.p);
        begin_step(p, sasl_job);
}

void pop3_auth_response(struct pop3 *p, struct span line)
{
        struct err err = ERR_INIT;

        p->phase = POP3_COMMAND;
        str_clear(&p->auth_input);
        if (span_eq_str(line, "*") || base64_decode(line, &p->auth_input, &err) < 0) {
                pop3_auth_deinit(p);
                pop3_err(p, NULL, span_eq_str(line, "*") ? "Authentication cancelled" : "Bad base64");
                return;
        }
        p->auth_has_input = true;
        begin_step(p, sasl_job);
}
