/*
 * lmtp - the LMTP server (RFC 2033): the session and its commands.
 *
 * PIPELINING (RFC 2920) needs nothing special: commands are taken from the input one after the other, replies collect in the rope.
 * What was pipelined behind STARTTLS or AUTH is thrown away (RFC 3207 6). A command line ends with CRLF only; a line with a bare CR, a
 * bare LF or a NUL is refused.
 */
#include "server/lmtp/lmtp_private.h"

#include <stdarg.h>
#include <stdlib.h>

#include "server/groups.h"
#include "server/msgfile.h"
#include "server/protocols.h"
#include "server/servername.h"
#include "server/tls.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"

/* ---- replies, the transaction ---- */

void lmtp_reply(struct lmtp *l, const char *fmt, ...)
{
        struct str line = STR_INIT;
        va_list ap;

        va_start(ap, fmt);
        str_vprintf(&line, fmt, ap);
        va_end(ap);
        str_append(&line, "\r\n", 2);
        rope_append(&l->s->out, line.data, line.len);
        if (line.data[0] == '5')
                l->bad++;
        else
                l->bad = 0;
        str_deinit(&line);
}

static void rcpt_deinit(struct lmtp_rcpt *r)
{
        must(r->state != RCPT_WAITING && r->state != RCPT_APPENDING && !r->claimed);
        acknowledge_end(&r->acknowledge);
        free(r->address);
        free(r->mailbox);
        mbentry_unref(&r->entry);
        mailbox_unref(&r->mbox);
}

void lmtp_reset(struct lmtp *l)
{
        for (unsigned i = 0; i < l->rcpts_n; i++)
                rcpt_deinit(&l->rcpts[i]);
        free(l->rcpts);
        l->rcpts = NULL;
        l->rcpts_n = l->rcpts_cap = 0;
        free(l->from);
        free(l->sender);
        groups_free(&l->sender_groups);
        l->from = l->sender = NULL;
        l->have_from = false;
        l->utf8 = false;
        stage_unref(&l->stage);
        err_clear(&l->data_err);
        l->open_next = 0;
        l->delivery_started = l->staged = l->suppress = l->called = l->asked = false;
        free(l->message_id);
        free(l->message_date);
        l->message_id = l->message_date = NULL;
}

void lmtp_offload(struct lmtp *l, enum offload_queue queue, void (*fn)(void *arg), void (*done)(struct lmtp *l))
{
        l->phase = LMTP_OFFLOADED;
        l->job_done = done;
        session_offload(l->s, &l->job, queue, fn, l);
}

/* ---- commands ---- */

static void cmd_lhlo(struct lmtp *l, struct span args)
{
        char name[SERVERNAME_MAX];
        const char *mechs;

        args = span_trim(args);
        if (args.len == 0 || args.len > 255) {
                lmtp_reply(l, "501 5.5.4 LHLO wants the name of the client");
                return;
        }
        lmtp_reset(l);
        free(l->helo);
        l->helo = xstrndup(args.p, args.len);
        l->greeted = true;
        lmtp_reply(l, "250-%s", servername(l->conf, service_name(l->s->service), name));
        lmtp_reply(l, "250-8BITMIME");
        lmtp_reply(l, "250-ENHANCEDSTATUSCODES");
        lmtp_reply(l, "250-PIPELINING");
        lmtp_reply(l, "250-SMTPUTF8");
        if (l->size_max)
                lmtp_reply(l, "250-SIZE %llu", (unsigned long long)l->size_max);
        else
                lmtp_reply(l, "250-SIZE");
        mechs = lmtp_auth_mechanisms(l);
        if (*mechs)
                lmtp_reply(l, "250-AUTH %s", mechs);
        if (!stream_is_tls(l->s->stream) && service_has_tls(l->s->service))
                lmtp_reply(l, "250-STARTTLS");
        lmtp_reply(l, "250 IGNOREQUOTA");
}

static void cmd_helo(struct lmtp *l, struct span args)
{
        (void)args;
        lmtp_reply(l, "500 5.5.1 This is LMTP: say LHLO (RFC 2033 4.1)");
}

enum lmtp_8bit lmtp_plain_8bit(struct lmtp *l)
{
        return conf_switch(l->conf, service_name(l->s->service), "lmtp_strict_rfc2821") ? LMTP_8BIT_REFUSED : LMTP_8BIT_X;
}

static void find_groups(void *arg)
{
        struct lmtp *l = arg;

        l->sender_groups = groups_of(l->sender);
}

static void mail_ok(struct lmtp *l)
{
        lmtp_reply(l, "250 2.1.0 Ok");
}

static void cmd_mail(struct lmtp *l, struct span args)
{
        struct lmtp_path path;
        struct lmtp_params params;
        struct span rest;
        const char *submitter = NULL;
        struct err err = ERR_INIT;

        if (l->have_from) {
                lmtp_reply(l, "503 5.5.1 Nested MAIL command");
                return;
        }
        if (!span_istarts(args, "FROM:")) {
                lmtp_reply(l, "501 5.5.4 Say MAIL FROM:<address>");
                return;
        }
        args.p += 5;
        args.len -= 5;
        /* Parameters stand behind the address, but SMTPUTF8 tells how to read it: first in any way that finds its end. */
        if (lmtp_path_parse(args, LMTP_8BIT_UTF8, true, &l->s->arena, &path, &rest, &err) < 0 &&
            (lmtp_plain_8bit(l) == LMTP_8BIT_REFUSED ||
             lmtp_path_parse(args, LMTP_8BIT_X, true, &l->s->arena, &path, &rest, &err) < 0)) {
                lmtp_reply(l, "501 5.1.7 Bad return path: %s", err.text);
                return;
        }
        if (lmtp_params_parse(rest, false, &params, &err) < 0) {
                lmtp_reply(l, "%s 5.5.4 %s", err.code == ERR_UNSUPPORTED ? "555" : "501", err.text);
                return;
        }
        if (lmtp_path_parse(args, params.smtputf8 ? LMTP_8BIT_UTF8 : lmtp_plain_8bit(l), true, &l->s->arena, &path, &rest, &err) < 0) {
                lmtp_reply(l, "553 5.6.7 %s", err.text);
                return;
        }
        if (l->size_max && params.size > l->size_max) {
                lmtp_reply(l, "552 5.3.4 Message is larger than %llu octets", (unsigned long long)l->size_max);
                return;
        }
        if (params.auth.len && lmtp_xtext_decode(params.auth, &l->s->arena, &submitter, &err) < 0) {
                lmtp_reply(l, "501 5.5.4 AUTH: %s", err.text);
                return;
        }
        l->from = xstrndup(path.text.p, path.text.len);
        l->announced = params.size;
        l->have_from = true;
        l->utf8 = params.smtputf8;
        /* Nobody we could know is nobody (RFC 4954 5). */
        if (submitter && user_canonify(engine_store(), submitter, &l->s->arena, &submitter, &err) == 0)
                l->sender = xstrdup(submitter);
        if (l->sender && conf_switch(l->conf, NULL, "unix_group_enable"))
                lmtp_offload(l, OFFLOAD_AUTH, find_groups, mail_ok);
        else
                mail_ok(l);
}

static void cmd_data(struct lmtp *l, struct span args)
{
        struct err err = ERR_INIT;

        if (span_trim(args).len) {
                lmtp_reply(l, "501 5.5.4 DATA takes no argument");
                return;
        }
        if (!l->have_from || l->rcpts_n == 0) {
                lmtp_reply(l, l->have_from ? "503 5.5.1 No valid recipients" : "503 5.5.1 MAIL first");
                return;
        }
        if (lmtp_data_begin(l, &err) < 0) {
                char quoted[LOG_QUOTE_MAX];

                log_event(LOG_ERROR, l->s->name, "lmtp.stage", "reason=%s", log_quote_str(quoted, err.text));
                lmtp_reply(l, "451 4.3.0 Cannot take a message now");
                return;
        }
        l->phase = LMTP_DATA;
        lmtp_reply(l, "354 End data with <CR><LF>.<CR><LF>");
}

static void cmd_rset(struct lmtp *l, struct span args)
{
        (void)args;
        lmtp_reset(l);
        lmtp_reply(l, "250 2.0.0 Ok");
}

static void cmd_noop(struct lmtp *l, struct span args)
{
        (void)args;
        lmtp_reply(l, "250 2.0.0 Ok");
}

static void cmd_vrfy(struct lmtp *l, struct span args)
{
        (void)args;
        lmtp_reply(l, "252 2.3.3 Say RCPT to find out");
}

static void cmd_quit(struct lmtp *l, struct span args)
{
        (void)args;
        lmtp_reply(l, "221 2.0.0 Bye");
        l->phase = LMTP_CLOSING;
}

static void cmd_starttls(struct lmtp *l, struct span args)
{
        if (span_trim(args).len) {
                lmtp_reply(l, "501 5.5.4 STARTTLS takes no argument");
        } else if (stream_is_tls(l->s->stream)) {
                lmtp_reply(l, "503 5.5.1 TLS is active already");
        } else if (!service_has_tls(l->s->service)) {
                lmtp_reply(l, "502 5.5.1 TLS is not configured");
        } else {
                lmtp_reply(l, "220 2.0.0 Begin TLS negotiation now");
                l->phase = LMTP_TLS_DRAIN;
        }
}

const struct lmtp_cmd lmtp_cmds[] = {
        { "AUTH", lmtp_cmd_auth, LMTP_GREETED },                        /* RFC 4954 */
        { "DATA", cmd_data, LMTP_GREETED | LMTP_TRUSTED },
        { "EHLO", cmd_helo, 0 },
        { "HELO", cmd_helo, 0 },
        { "LHLO", cmd_lhlo, 0 },
        { "MAIL", cmd_mail, LMTP_GREETED | LMTP_TRUSTED },
        { "NOOP", cmd_noop, 0 },
        { "QUIT", cmd_quit, 0 },
        { "RCPT", lmtp_cmd_rcpt, LMTP_GREETED | LMTP_TRUSTED },
        { "RSET", cmd_rset, 0 },
        { "STARTTLS", cmd_starttls, LMTP_GREETED },                     /* RFC 3207 */
        { "VRFY", cmd_vrfy, LMTP_GREETED },
};
const size_t lmtp_cmds_n = ARRAY_LEN(lmtp_cmds);

static bool line_is_clean(struct span line)
{
        for (size_t i = 0; i < line.len; i++)
                if (line.p[i] == '\0' || line.p[i] == '\r' || line.p[i] == '\n')
                        return false;
        return true;
}

static void dispatch(struct lmtp *l, struct span line)
{
        size_t end = span_index(line, ' ');
        struct span name = { line.p, end }, args = { line.p + line.len, 0 };

        if (end < line.len)
                args = (struct span){ line.p + end + 1, line.len - end - 1 };
        session_set_status(l->s, NULL, "command");
        if (!line_is_clean(line)) {
                lmtp_reply(l, "500 5.5.2 A command line ends with CRLF and has no CR, LF or NUL in it");
                return;
        }
        for (size_t i = 0; i < lmtp_cmds_n; i++) {
                const struct lmtp_cmd *c = &lmtp_cmds[i];

                if (!span_ieq_str(name, c->name))
                        continue;
                if ((c->needs & LMTP_GREETED) && !l->greeted)
                        lmtp_reply(l, "503 5.5.1 Say LHLO first");
                else if ((c->needs & LMTP_TRUSTED) && !l->authenticated)
                        lmtp_reply(l, "%s", conf_switch(l->conf, service_name(l->s->service), "soft_noauth")
                                                    ? "430 4.7.0 Authentication required" : "530 5.7.0 Authentication required");
                else
                        c->fn(l, args);
                return;
        }
        lmtp_reply(l, "500 5.5.2 Unknown command");
}

/* ---- lines ---- */

/* The next whole line of `in`, without CRLF. 1: a line; 0: more is needed; -1: it was too long (answered). */
static int next_line(struct lmtp *l, struct span *line_r, size_t *used_r)
{
        struct str *in = &l->s->in;
        size_t max = l->phase == LMTP_AUTH ? LMTP_AUTH_LINE_MAX : LMTP_LINE_MAX;
        char *end = NULL;

        if (in->len >= 5 && span_istarts(str_span(in), "AUTH "))
                max = LMTP_AUTH_LINE_MAX;
        for (size_t from = 0; from + 1 < in->len;) {
                char *cr = memchr(in->data + from, '\r', in->len - 1 - from);

                if (!cr)
                        break;
                if (cr[1] == '\n') {
                        end = cr;
                        break;
                }
                from = (size_t)(cr - in->data) + 1;
        }
        if (l->skipping_line) {
                if (!end) {
                        /* Keep a CR that may be the first half of the end. */
                        str_consume(in, in->len && in->data[in->len - 1] == '\r' ? in->len - 1 : in->len);
                        return 0;
                }
                str_consume(in, (size_t)(end - in->data) + 2);
                l->skipping_line = false;
                lmtp_reply(l, "500 5.5.2 Line too long");
                return -1;
        }
        if ((end ? (size_t)(end - in->data) : in->len) > max) {
                l->skipping_line = true;
                return next_line(l, line_r, used_r);
        }
        if (!end)
                return 0;
        *line_r = (struct span){ in->data, (size_t)(end - in->data) };
        *used_r = line_r->len + 2;
        return 1;
}

static bool step_line(struct lmtp *l)
{
        struct span line;
        size_t used;
        int rc = next_line(l, &line, &used);

        if (rc <= 0)
                return rc < 0;
        /* Handlers borrow from the line while the input may grow: they get a copy that lives in the arena. */
        arena_reset(&l->s->arena);
        line = arena_span(&l->s->arena, line);
        str_consume(&l->s->in, used);
        if (l->phase == LMTP_AUTH)
                lmtp_auth_response(l, line);
        else
                dispatch(l, line);
        return true;
}

/* ---- the session ---- */

static void lmtp_open(struct session *s)
{
        struct lmtp *l = lmtp_of(s);
        const struct service_params *p = service_params(s->service);
        int64_t max;

        l->s = s;
        l->conf = engine_conf();
        l->ns = namespace_create(l->conf);
        l->authenticated = l->preauthorized = p->preauthorized || s->peer_is_unix;
        s->authenticated = l->authenticated;
        s->timeout_s = (uint32_t)conf_duration_s(l->conf, service_name(s->service), "lmtptimeout");
        max = conf_int(l->conf, service_name(s->service), "maxmessagesize");
        l->size_max = max > 0 ? (uint64_t)max : 0;
        l->header_lines_max = (unsigned)conf_int(l->conf, service_name(s->service), "maxheaderlines");
        str_init(&l->auth_input);
        s->idle_ok = true;
}

static void greet(struct lmtp *l)
{
        char reason[MSGFILE_MAX], name[SERVERNAME_MAX];

        if (msgfile_shutdown(l->conf, service_name(l->s->service), reason)) {
                lmtp_reply(l, "421 4.3.2 %s", reason);
                l->phase = LMTP_CLOSING;
                return;
        }
        lmtp_reply(l, "220 %s LMTP Cyrd ready", servername(l->conf, service_name(l->s->service), name));
}

static enum step finish_tls(struct lmtp *l)
{
        struct tls_context *tls = service_tls(l->s->service);
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];
        int rc;

        if (!tls)
                return STEP_CLOSE;
        rc = stream_start_tls(l->s->stream, tls, &err);
        tls_context_unref(&tls);
        if (rc < 0) {
                log_event(LOG_ERROR, l->s->name, "lmtp.tls", "reason=%s", log_quote_str(quoted, err.text));
                return STEP_CLOSE;
        }
        lmtp_reset(l);
        lmtp_auth_deinit(l);
        l->greeted = false;                             /* RFC 3207 4.2: everything before is forgotten */
        l->phase = LMTP_TLS_HANDSHAKE;
        l->s->discard_input = true;
        return STEP_HANDSHAKE;
}

static enum step goodbye(struct lmtp *l, unsigned woken)
{
        lmtp_reply(l, woken & WAKE_TIMEOUT ? "421 4.4.2 Timeout" : "421 4.3.2 The server is going down");
        return STEP_CLOSE;
}

static enum step lmtp_run(struct session *s)
{
        struct lmtp *l = lmtp_of(s);
        unsigned woken = s->woken;
        char reason[MSGFILE_MAX];

        s->woken = 0;
        if (!l->welcomed) {
                l->welcomed = true;
                greet(l);
        }
        l->told |= woken & (WAKE_TIMEOUT | WAKE_STOP | WAKE_TIMER);
        if (l->phase == LMTP_COMMAND)
                telemetry_look(s, &l->telemetry, l->conf, l->step_valid ? l->step.userid : NULL, woken & WAKE_TOUCH);
        for (;;) {
                /* What is under way ends first: its recipients are owed a status. */
                if (l->told & (WAKE_TIMEOUT | WAKE_STOP) && l->phase != LMTP_OFFLOADED && l->phase != LMTP_DELIVER &&
                    l->phase != LMTP_ACKNOWLEDGE)
                        return goodbye(l, l->told);
                if (session_slice_over(s))
                        return STEP_AGAIN;
                if (s->out.bytes > ROPE_HIGH)
                        return STEP_FLUSH;
                s->idle_ok = l->phase == LMTP_COMMAND;
                switch (l->phase) {
                case LMTP_OFFLOADED:
                        if (!waiter_is_done(&l->job.waiter))
                                return STEP_WAIT;
                        l->phase = LMTP_COMMAND;
                        l->job_done(l);
                        continue;
                case LMTP_AUTH_PAUSE:
                        if (!(l->told & WAKE_TIMER))
                                return STEP_WAIT;
                        l->phase = LMTP_COMMAND;
                        lmtp_reply(l, "535 5.7.8 Authentication failed");
                        continue;
                case LMTP_TLS_DRAIN:
                        if (!rope_empty(&s->out))
                                return STEP_DRAIN;
                        return finish_tls(l);
                case LMTP_TLS_HANDSHAKE:
                        l->phase = LMTP_COMMAND;
                        continue;
                case LMTP_DATA:
                        if (!lmtp_data_feed(l, &s->in)) {
                                if (s->eof)
                                        return STEP_CLOSE;      /* nothing was acknowledged, nothing is delivered */
                                return STEP_INPUT;
                        }
                        l->phase = LMTP_DELIVER;
                        continue;
                case LMTP_DELIVER:
                        if (!lmtp_deliver(l))
                                return STEP_WAIT;
                        l->phase = LMTP_ACKNOWLEDGE;
                        continue;
                case LMTP_ACKNOWLEDGE:
                        if (!lmtp_acknowledge(l))
                                return STEP_WAIT;
                        lmtp_reset(l);
                        l->phase = LMTP_COMMAND;
                        if (msgfile_shutdown(l->conf, service_name(s->service), reason)) {
                                lmtp_reply(l, "421 4.3.2 %s", reason);
                                return STEP_CLOSE;
                        }
                        continue;
                case LMTP_CLOSING:
                        return STEP_CLOSE;
                case LMTP_COMMAND:
                case LMTP_AUTH:
                        break;
                }
                if (l->bad > LMTP_BAD_MAX) {
                        lmtp_reply(l, "421 4.7.0 Too many errors");
                        return STEP_CLOSE;
                }
                if (!step_line(l))
                        return s->eof ? STEP_CLOSE : STEP_INPUT;
        }
}

static void lmtp_close(struct session *s)
{
        struct lmtp *l = lmtp_of(s);

        telemetry_stop(s, &l->telemetry);
        lmtp_reset(l);
        mbentry_unref(&l->lookup.inbox);
        mbentry_unref(&l->lookup.found);
        lmtp_auth_deinit(l);
        str_deinit(&l->auth_input);
        free(l->helo);
        namespace_unref(&l->ns);
        conf_unref(&l->conf);
}

const struct session_ops lmtp_ops = {
        .protocol = "lmtp", .size = sizeof(struct lmtp), .open = lmtp_open, .run = lmtp_run, .close = lmtp_close,
        .too_many = "421 4.3.2 Too many connections, try again later\r\n",
};
