/*
 * login - what LOGIN and AUTHENTICATE share: the steps on threads that may block, what a failed one costs, and all that makes a
 * session one of a user's.
 *
 * A failed attempt is answered after failedloginpause, whoever the user was and whether there is one: neither the words nor the
 * time tell (RFC 9051 11.3), nor does SCRAM (server/sasl_nobody.c).
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/groups.h"
#include "server/imap/imap_private.h"
#include "server/imap/notify.h"
#include "server/metrics.h"
#include "server/msgfile.h"
#include "util/log.h"

#define IDLE_TIMEOUT_MIN_S 1800                 /* RFC 9051 5.4 */

/* ---- the connection to cyrus-sasl ---- */

bool imap_plaintext_ok(struct imap *imap)
{
        return stream_is_tls(imap->s->stream) || service_params(imap->s->service)->external_ssf > 1 ||
               (conf_switch(imap->conf, imap_service(imap), "allowplaintext") &&
                !conf_switch(imap->conf, imap_service(imap), "tls_required"));
}

bool imap_login_needs_tls(struct imap *imap)
{
        if (!conf_switch(imap->conf, imap_service(imap), "tls_required") || stream_is_tls(imap->s->stream))
                return false;
        imap_no(imap, "PRIVACYREQUIRED", "Use STARTTLS first");
        return true;
}

/* "127.0.0.1:3456" or "[::1]:99" → "127.0.0.1;3456", "::1;99"; NULL for Unix sockets. */
static const char *sasl_address(const char *address, char buf[80])
{
        const char *colon = strrchr(address, ':');
        size_t n;

        if (!colon)
                return NULL;
        n = (size_t)(colon - address);
        if (n > 1 && address[0] == '[')
                address++, n -= 2;
        snprintf(buf, 80, "%.*s;%s", (int)n, address, colon + 1);
        return buf;
}

struct connection {                             /* what cyrus-sasl is told of ours, and where that is */
        struct sasl_params params;
        char local[80], peer[80];
        struct str binding;
};

static void describe(struct imap *imap, struct connection *c)
{
        const struct service_params *service = service_params(imap->s->service);
        struct stream *stream = imap->s->stream;

        str_init(&c->binding);
        c->params = (struct sasl_params){
                .service = "imap", .ident = service->name, .local = sasl_address(imap->s->local, c->local),
                .peer = sasl_address(imap->s->peer, c->peer), .tls = stream_is_tls(stream), .tls_bits = stream_tls_bits(stream),
                .tls_peer = stream_tls_peer(stream), .external_ssf = service->external_ssf,
                .no_password_check = service->no_password_check, .plaintext_ok = imap_plaintext_ok(imap),
        };
}

static void add_binding(struct imap *imap, struct connection *c)
{
        struct stream *stream = imap->s->stream;

        if (!c->params.tls)
                return;
        c->params.channel_binding_type = "tls-exporter";
        if (!stream_channel_binding(stream, "tls-exporter", &c->binding)) {
                c->params.channel_binding_type = "tls-unique";
                stream_channel_binding(stream, "tls-unique", &c->binding);
        }
        if (c->binding.len)
                c->params.channel_binding = &c->binding;
}

static int sasl_create(struct imap *imap, struct sasl_conn **conn_r, struct err *err)
{
        struct connection c;
        int rc;

        describe(imap, &c);
        add_binding(imap, &c);
        rc = sasl_conn_create(&c.params, imap->store, conn_r, err);
        str_deinit(&c.binding);
        return rc;
}

const char *imap_mechanisms(struct imap *imap)
{
        struct connection c;
        const char *list;

        describe(imap, &c);
        add_binding(imap, &c);
        list = sasl_mechanisms_for(&c.params, imap->store, &imap->s->arena);
        str_deinit(&c.binding);
        return list;
}

/* ---- steps ---- */

static void auth_cleanup(struct imap *imap)
{
        struct imap_auth *auth = imap->cmd.state;

        /* Passwords have done their duty, or never will. */
        if (auth->password.len)
                explicit_bzero((char *)(uintptr_t)auth->password.p, auth->password.len);
        if (imap->cmd.line.len)
                explicit_bzero((char *)(uintptr_t)imap->cmd.line.p, imap->cmd.line.len);
        if (imap->gather)
                imap_gather_wipe(imap->gather);
        if (auth->response.cap)
                explicit_bzero(auth->response.data, auth->response.cap);
        str_deinit(&auth->response);
        sasl_step_deinit(&auth->step);
        groups_free(&auth->groups);
        if (!imap->loop->start_layer)
                sasl_conn_destroy(&imap->sasl);
}

struct imap_auth *imap_auth_begin(struct imap *imap)
{
        struct imap_auth *auth = ARENA_NEW(&imap->s->arena, struct imap_auth);

        auth->imap = imap;
        sasl_step_init(&auth->step);
        str_init(&auth->response);
        auth->want_groups = conf_switch(imap->conf, NULL, "unix_group_enable");
        imap->cmd.state = auth;
        imap->cmd.cleanup = auth_cleanup;
        return auth;
}

struct auth_job {
        struct imap_auth *auth;
        void (*step)(struct imap_auth *auth);
};

static void auth_job(void *arg)
{
        struct auth_job *job = arg;
        struct imap_auth *auth = job->auth;

        job->step(auth);
        if (auth->step.outcome == SASL_OUT_OK && auth->want_groups && !auth->groups)
                auth->groups = groups_of(auth->step.userid);
}

enum cmd_result imap_auth_offload(struct imap *imap, void (*step)(struct imap_auth *auth))
{
        struct auth_job *job = ARENA_NEW(&imap->s->arena, struct auth_job);
        struct err err = ERR_INIT;

        if (!imap->sasl && sasl_create(imap, &imap->sasl, &err) < 0)
                return imap_fail(imap, &err);
        job->auth = imap->cmd.state;
        job->step = step;
        job->auth->at = AUTH_STEP;
        sasl_step_deinit(&job->auth->step);
        sasl_step_init(&job->auth->step);
        return imap_offload(imap, OFFLOAD_AUTH, auth_job, job);
}

bool imap_auth_known(struct imap *imap)
{
        struct imap_auth *auth = imap->cmd.state;
        struct connection c;

        describe(imap, &c);
        return sasl_login_known(&c.params, imap->store, auth->user, auth->password, &auth->step, &auth->groups);
}

/* ---- failure ---- */

static enum cmd_result say_failed(struct imap *imap, const struct imap_auth *auth)
{
        switch (auth->step.err.code) {
        case ERR_SYNTAX:
                return imap_bad(imap, "Invalid authentication exchange");
        case ERR_UNAVAILABLE: case ERR_IO: case ERR_TIMEOUT:
                return imap_no(imap, "UNAVAILABLE", "Authentication is temporarily unavailable");
        case ERR_UNSUPPORTED:
                return imap_no(imap, "CANNOT", "Authentication mechanism is not available");
        case ERR_PERM:
                return imap_no(imap, "AUTHORIZATIONFAILED", "%s", auth->step.denial.len ? auth->step.denial.data : "May not act as that user");
        case ERR_LIMIT:
                return imap_no(imap, "LIMIT", "Too many sessions");
        default:
                return imap_no(imap, "AUTHENTICATIONFAILED", "Login failed: authentication failure");
        }
}

static enum cmd_result failed(struct imap *imap, struct imap_auth *auth)
{
        char user[LOG_QUOTE_MAX], mech[LOG_QUOTE_MAX], reason[LOG_QUOTE_MAX];
        int64_t pause_s = conf_duration_s(imap->conf, imap_service(imap), "failedloginpause");

        metric_add(METRIC_BADLOGINS_IMAP, 1);
        log_event(LOG_NOTE, imap->s->name, "imap.badlogin", "peer=%s user=%s mech=%s code=%s reason=%s", imap->s->peer,
                  auth->plaintext ? log_quote(user, auth->user.p, auth->user.len) : "-",
                  log_quote_str(mech, auth->plaintext ? "LOGIN" : auth->mech), err_code_name(auth->step.err.code),
                  log_quote_str(reason, auth->step.err.text));
        auth->at = AUTH_FAILED;
        if (pause_s <= 0 || auth->step.err.code == ERR_SYNTAX || auth->step.err.code == ERR_UNSUPPORTED)
                return say_failed(imap, auth);
        return imap_pause(imap, pause_s > 3600 ? 3600000 : (uint32_t)pause_s * 1000);
}

/* ---- success ---- */

void imap_enter_authenticated(struct imap *imap, struct sasl_step *step)
{
        struct session *s = imap->s;
        char user[LOG_QUOTE_MAX], authid[LOG_QUOTE_MAX], motd[MSGFILE_MAX];
        int64_t timeout_s;

        imap->userid = xstrdup(step->userid);
        imap->authid = xstrdup(step->authid ? step->authid : step->userid);
        imap->is_admin = step->is_admin;
        imap->is_proxy = step->is_proxy;
        conf_unref(&imap->conf);
        imap->conf = engine_conf();
        imap->ns = namespace_create(imap->conf);
        imap->owner_rights = acl_implicit_owner(imap->conf);
        imap->state = IMAP_AUTH;
        s->authenticated = true;
        timeout_s = conf_duration_s(imap->conf, imap_service(imap), "timeout");
        s->timeout_s = timeout_s < IDLE_TIMEOUT_MIN_S ? IDLE_TIMEOUT_MIN_S : (uint32_t)timeout_s;
        session_set_user(s, imap->userid);
        metric_add(METRIC_LOGINS_IMAP, 1);
        log_event(LOG_NOTE, s->name, "imap.login", "peer=%s user=%s authid=%s mech=%s tls=%s", s->peer,
                  log_quote_str(user, imap->userid), log_quote_str(authid, imap->authid), step->mech ? step->mech : "LOGIN",
                  stream_is_tls(s->stream) ? stream_tls_version(s->stream) : "no");
        if (msgfile_motd(imap->conf, motd))
                imap_untagged(imap, "OK [ALERT] %s", motd);
        telemetry_look(s, &imap->telemetry, imap->conf, imap->userid, true);
}

void imap_leave_authenticated(struct imap *imap)
{
        struct session *s = imap->s;
        char user[LOG_QUOTE_MAX];

        log_event(LOG_NOTE, s->name, "imap.unauthenticate", "user=%s", log_quote_str(user, imap->userid));
        notify_install(imap, NULL);
        imap_sync_close(imap);
        telemetry_stop(s, &imap->telemetry);
        groups_free(&imap->groups);
        free(imap->userid);
        free(imap->authid);
        namespace_unref(&imap->ns);
        imap->userid = imap->authid = NULL;
        imap->is_admin = imap->is_proxy = false;
        imap->rev2 = imap->utf8 = imap->condstore = imap->qresync = imap->uidonly = false;
        imap->cyrus_quota_names = false;
        imap->state = IMAP_NOT_AUTH;
        imap->bad_commands = 0;
        s->authenticated = false;
        s->timeout_s = 0;
        session_set_user(s, NULL);
}

static enum cmd_result say_ok(struct imap *imap, struct imap_auth *auth)
{
        const char *alert = conf_str(imap->conf, imap_service(imap), "plaintextloginalert");
        struct str code = STR_INIT;

        imap->groups = auth->groups;
        auth->groups = NULL;
        imap_enter_authenticated(imap, &auth->step);
        if (auth->plaintext && alert && !stream_is_tls(imap->s->stream))
                imap_untagged(imap, "OK [ALERT] %s", alert);
        if (auth->step.has_layer) {                     /* capabilities sent below the layer could not be trusted: RFC 9051 6.2.2 */
                imap->loop->start_layer = true;
                return imap_ok(imap, NULL, "Success (with a security layer)");
        }
        str_append_str(&code, "CAPABILITY ");
        imap_capabilities(imap, false, &code);
        imap_ok(imap, code.data, "User logged in SESSIONID=<%s>", imap->s->name);
        str_deinit(&code);
        return CMD_DONE;
}

static void autocreate_job(void *arg)
{
        struct imap_auth *auth = arg;

        user_autocreate(auth->imap->store, auth->step.userid, AUTOCREATE_LOGIN, &auth->err);
}

static enum cmd_result succeeded(struct imap *imap, struct imap_auth *auth)
{
        if (!session_login(imap->s, imap->conf, auth->step.userid, auth->step.is_admin, &auth->step.err))
                return failed(imap, auth);
        if (!auth->step.is_admin && user_autocreate_wanted(imap->store, auth->step.userid, AUTOCREATE_LOGIN)) {
                auth->at = AUTH_AUTOCREATE;
                return imap_offload(imap, OFFLOAD_DB, autocreate_job, auth);
        }
        return say_ok(imap, auth);
}

/* plaintextloginpause: a hint for users of clients without TLS. */
static enum cmd_result pause_then_succeed(struct imap *imap, struct imap_auth *auth)
{
        int64_t pause_s = conf_duration_s(imap->conf, imap_service(imap), "plaintextloginpause");

        if (!auth->plaintext || stream_is_tls(imap->s->stream) || pause_s <= 0)
                return succeeded(imap, auth);
        auth->at = AUTH_PAUSED;
        return imap_pause(imap, pause_s > 60 ? 60000 : (uint32_t)pause_s * 1000);
}

static enum cmd_result challenge(struct imap *imap, struct imap_auth *auth)
{
        struct str text = STR_INIT;

        base64_encode(str_span(&auth->step.challenge), &text);
        imap_put(imap, "+ ");
        imap_put_span(imap, str_span(&text));
        imap_put(imap, "\r\n");
        str_deinit(&text);
        auth->at = auth->step.outcome == SASL_OUT_OK ? AUTH_LAST_WORD : AUTH_CHALLENGED;
        return CMD_CONTINUE;
}

enum cmd_result imap_auth_continue(struct imap *imap)
{
        struct imap_auth *auth = imap->cmd.state;
        char buf[LOG_QUOTE_MAX];

        switch (auth->at) {
        case AUTH_FAILED:
                return say_failed(imap, auth);
        case AUTH_AUTOCREATE:
                if (auth->err.code)                     /* the user has no INBOX then, but may look after his other mail */
                        log_event(LOG_ERROR, imap->s->name, "imap.autocreate", "user=%s reason=%s", auth->step.userid,
                                  log_quote_str(buf, auth->err.text));
                return say_ok(imap, auth);
        case AUTH_PAUSED:
        case AUTH_LAST_WORD:
                return succeeded(imap, auth);
        case AUTH_STEP:
        case AUTH_CHALLENGED:
                break;
        }
        switch (auth->step.outcome) {
        case SASL_OUT_CONTINUE:
                return challenge(imap, auth);
        case SASL_OUT_OK:
                if (auth->step.has_challenge && auth->step.challenge.len)       /* IMAP's OK carries no data: RFC 9051 6.2.2 */
                        return challenge(imap, auth);
                return pause_then_succeed(imap, auth);
        case SASL_OUT_FAILED:
                break;
        }
        return failed(imap, auth);
}
