/*
 * pop3 - the POP3 server (RFC 1939; CAPA: RFC 2449; STLS: RFC 2595): the session and its commands.
 *
 * PIPELINING needs nothing special: commands are taken from the input one after the other, answers collect in the rope. What was pipelined
 * behind STLS or AUTH is thrown away. A line ends with CRLF; a bare LF is taken as an end too, as clients of this protocol
 * have always been allowed to.
 */
#include "server/pop3/pop3_private.h"

#include <stdarg.h>
#include <stdlib.h>

#include "server/msgfile.h"
#include "server/protocols.h"
#include "server/servername.h"
#include "server/tls.h"
#include "server/version.h"
#include "util/array.h"
#include "util/log.h"
#include "util/must.h"

/* ---- answers ---- */

void pop3_ok(struct pop3 *p, const char *fmt, ...)
{
        struct str line = STR_INIT;
        va_list ap;

        str_append_str(&line, "+OK ");
        va_start(ap, fmt);
        str_vprintf(&line, fmt, ap);
        va_end(ap);
        str_append(&line, "\r\n", 2);
        rope_append_span(&p->s->out, str_span(&line));
        str_deinit(&line);
        p->bad = 0;
}

void pop3_err(struct pop3 *p, const char *code, const char *fmt, ...)
{
        struct str line = STR_INIT;
        va_list ap;

        str_append_str(&line, "-ERR ");
        if (code)
                str_printf(&line, "[%s] ", code);
        va_start(ap, fmt);
        str_vprintf(&line, fmt, ap);
        va_end(ap);
        str_append(&line, "\r\n", 2);
        rope_append_span(&p->s->out, str_span(&line));
        str_deinit(&line);
        p->bad++;
}

void pop3_offload(struct pop3 *p, enum offload_queue queue, void (*fn)(void *arg), void (*done)(struct pop3 *p))
{
        p->phase = POP3_OFFLOADED;
        p->job_done = done;
        session_offload(p->s, &p->job, queue, fn, p);
}

/* ---- commands of every state ---- */

/* RFC 2449 6, RFC 5034 3, RFC 3206. */
static void cmd_capa(struct pop3 *p, struct span args)
{
        struct rope *out = &p->s->out;
        const char *service = service_name(p->s->service), *mechs = pop3_mechanisms(p);    /* RFC 5034 3: after log-in too */
        int64_t expire = conf_duration_s(p->conf, service, "popexpiretime"), poll = conf_duration_s(p->conf, service, "popminpoll");

        (void)args;
        pop3_ok(p, "List of capabilities follows");
        if (*mechs)
                rope_printf(out, "SASL %s\r\n", mechs);
        if (p->userid)
                pop3_auth_deinit(p);                    /* it was only asked for them */
        if (!p->userid && !stream_is_tls(p->s->stream) && service_has_tls(p->s->service))
                rope_append_str(out, "STLS\r\n");
        if (expire < 0)
                rope_append_str(out, "EXPIRE NEVER\r\n");
        else
                rope_printf(out, "EXPIRE %lld\r\n", (long long)(expire / 86400));
        if (poll > 0)
                rope_printf(out, "LOGIN-DELAY %lld\r\n", (long long)poll);
        rope_append_str(out, "TOP\r\nUIDL\r\nPIPELINING\r\nRESP-CODES\r\nAUTH-RESP-CODE\r\n");
        if (p->userid || pop3_plaintext_ok(p))
                rope_append_str(out, "USER\r\n");
        if (strcmp(conf_enum(p->conf, service, "serverinfo"), "on") == 0)
                rope_printf(out, "IMPLEMENTATION Cyrd %s\r\n", CYRD_VERSION);
        rope_append_str(out, ".\r\n");
}

static void cmd_noop(struct pop3 *p, struct span args)
{
        (void)args;
        pop3_ok(p, "Nothing done");
}

static void cmd_quit(struct pop3 *p, struct span args)
{
        (void)args;
        if (p->userid) {
                p->phase = POP3_UPDATE;
                return;
        }
        pop3_ok(p, "Bye");
        p->phase = POP3_CLOSING;
}

static void cmd_stls(struct pop3 *p, struct span args)
{
        (void)args;
        if (stream_is_tls(p->s->stream)) {
                pop3_err(p, NULL, "TLS is active already");
        } else if (!service_has_tls(p->s->service)) {
                pop3_err(p, NULL, "TLS is not configured");
        } else {
                pop3_ok(p, "Begin TLS negotiation now");
                p->phase = POP3_TLS_DRAIN;
        }
}

#define BEFORE POP3_BEFORE
#define AFTER POP3_AFTER
#define BOTH (POP3_BEFORE | POP3_AFTER)
#define NONE POP3_ARGS_NONE
#define OPTIONAL POP3_ARGS_OPTIONAL
#define NEEDED POP3_ARGS_NEEDED
const struct pop3_cmd pop3_cmds[] = {
        { "AUTH", pop3_cmd_auth, BEFORE, OPTIONAL, 0 },         /* RFC 5034 */
        { "CAPA", cmd_capa, BOTH, NONE, 0 },                    /* RFC 2449 */
        { "DELE", pop3_cmd_dele, AFTER, NEEDED, ACL_DELETEMSG },
        { "LAST", pop3_cmd_last, AFTER, NONE, ACL_READ },       /* RFC 1460 */
        { "LIST", pop3_cmd_list, AFTER, OPTIONAL, ACL_READ },
        { "NOOP", cmd_noop, BOTH, NONE, 0 },
        { "PASS", pop3_cmd_pass, BEFORE, NEEDED, 0 },
        { "QUIT", cmd_quit, BOTH, NONE, 0 },
        { "RETR", pop3_cmd_retr, AFTER, NEEDED, ACL_READ },
        { "RSET", pop3_cmd_rset, AFTER, NONE, 0 },
        { "STAT", pop3_cmd_stat, AFTER, NONE, ACL_READ },
        { "STLS", cmd_stls, BEFORE, NONE, 0 },                  /* RFC 2595 4 */
        { "TOP", pop3_cmd_top, AFTER, NEEDED, ACL_READ },
        { "UIDL", pop3_cmd_uidl, AFTER, OPTIONAL, ACL_READ },
        { "USER", pop3_cmd_user, BEFORE, NEEDED, 0 },
};
const size_t pop3_cmds_n = ARRAY_LEN(pop3_cmds);

static bool line_is_clean(struct span line)
{
        return !memchr(line.p, '\0', line.len) && !memchr(line.p, '\r', line.len);
}

static void dispatch(struct pop3 *p, struct span line)
{
        size_t end = span_index(line, ' ');
        struct span name = { line.p, end }, args = { line.p + line.len, 0 };

        if (end < line.len)
                args = (struct span){ line.p + end + 1, line.len - end - 1 };
        if (!line_is_clean(line)) {
                pop3_err(p, NULL, "A command line has no CR or NUL in it");
                return;
        }
        for (size_t i = 0; i < pop3_cmds_n; i++) {
                const struct pop3_cmd *c = &pop3_cmds[i];

                if (!span_ieq_str(name, c->name))
                        continue;
                session_set_status(p->s, p->drop.entry ? p->drop.entry->name : NULL, c->name);
                if (!(c->states & (p->userid ? AFTER : BEFORE)))
                        pop3_err(p, NULL, p->userid ? "Already logged in" : "Log in first");
                else if (c->args == NONE && span_trim(args).len)
                        pop3_err(p, NULL, "%s takes no argument", c->name);
                else if (c->args == NEEDED && args.len == 0)
                        pop3_err(p, NULL, "%s needs an argument", c->name);
                else if ((c->rights & p->drop.rights) != c->rights)
                        pop3_err(p, "SYS/PERM", "Permission denied");
                else
                        c->fn(p, c->fn == pop3_cmd_pass ? args : span_trim(args));
                return;
        }
        pop3_err(p, NULL, "Unknown command");
}

/* ---- lines ---- */

static bool step_line(struct pop3 *p)
{
        struct str *in = &p->s->in;
        size_t max = p->phase == POP3_AUTH_LINE || span_istarts(str_span(in), "AUTH ") ? POP3_AUTH_LINE_MAX : POP3_LINE_MAX;
        size_t n = span_index(str_span(in), '\n');
        bool whole = n < in->len;
        struct span line;

        if (n > max)
                p->skipping_line = true;
        if (p->skipping_line) {
                str_consume(in, whole ? n + 1 : n);
                if (!whole)
                        return false;
                p->skipping_line = false;
                p->phase = POP3_COMMAND;
                pop3_auth_deinit(p);
                pop3_err(p, NULL, "Line too long");
                return true;
        }
        if (!whole)
                return false;
        /* Handlers borrow from the line while the input may grow: they get a copy that lives in the arena. */
        arena_reset(&p->s->arena);
        line = arena_span(&p->s->arena, (struct span){ in->data, n });
        str_consume(in, n + 1);
        if (line.len && line.p[line.len - 1] == '\r')
                line.len--;
        if (p->phase == POP3_AUTH_LINE)
                pop3_auth_response(p, line);
        else
                dispatch(p, line);
        return true;
}

/* ---- the session ---- */

static void pop3_open(struct session *s)
{
        struct pop3 *p = pop3_of(s);

        p->s = s;
        p->conf = engine_conf();
        str_init(&p->auth_input);
        uidset_init(&p->uids);
        s->idle_ok = true;
}

static bool shut_down(struct pop3 *p)
{
        char reason[MSGFILE_MAX];

        if (!msgfile_shutdown(p->conf, service_name(p->s->service), reason))
                return false;
        pop3_err(p, "SYS/TEMP", "%s", reason[0] ? reason : "The server is shutting down");
        return true;
}

static void greet(struct pop3 *p)
{
        const char *serverinfo = conf_enum(p->conf, service_name(p->s->service), "serverinfo");
        char name[SERVERNAME_MAX];

        if (shut_down(p)) {
                p->phase = POP3_CLOSING;
                return;
        }
        servername(p->conf, service_name(p->s->service), name);
        pop3_ok(p, "%s%sPOP3 server ready", strcmp(serverinfo, "off") == 0 ? "" : name,
                strcmp(serverinfo, "off") == 0 ? "" : strcmp(serverinfo, "on") == 0 ? " Cyrd " CYRD_VERSION " " : " ");
}

static enum step finish_tls(struct pop3 *p)
{
        struct tls_context *tls = service_tls(p->s->service);
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];
        int rc;

        if (!tls)
                return STEP_CLOSE;
        rc = stream_start_tls(p->s->stream, tls, &err);
        tls_context_unref(&tls);
        if (rc < 0) {
                log_event(LOG_ERROR, p->s->name, "pop3.tls", "reason=%s", log_quote_str(quoted, err.text));
                return STEP_CLOSE;
        }
        pop3_auth_deinit(p);
        free(p->user);                                  /* RFC 2595 4: what was said before is forgotten */
        p->user = NULL;
        p->phase = POP3_TLS_HANDSHAKE;
        p->s->discard_input = true;
        return STEP_HANDSHAKE;
}

static void start_layer(struct pop3 *p)
{
        str_clear(&p->s->in);
        stream_start_sasl(p->s->stream, p->sasl);
        p->sasl = NULL;                                 /* the stream's from now on */
        p->layer = false;
        pop3_auth_deinit(p);
        p->phase = POP3_COMMAND;
}

/* RFC 1939 3: a session that timed out removes nothing. */
static enum step goodbye(struct pop3 *p)
{
        if (p->phase != POP3_SENDING && p->phase != POP3_TLS_HANDSHAKE)
                pop3_err(p, "SYS/TEMP", p->told & WAKE_TIMEOUT ? "Idle for too long" : "The server is shutting down");
        return STEP_CLOSE;
}

/* STEP_GO: what it waited for is there. */
#define STEP_GO ((enum step)-1)
static enum step advance(struct pop3 *p)
{
        struct session *s = p->s;

        switch (p->phase) {
        case POP3_OFFLOADED:
                if (!waiter_is_done(&p->job.waiter))
                        return STEP_WAIT;
                p->phase = POP3_COMMAND;
                p->job_done(p);
                return STEP_GO;
        case POP3_PAUSE:
                if (!(p->told & WAKE_TIMER))
                        return STEP_WAIT;
                p->phase = POP3_COMMAND;
                pop3_err(p, "AUTH", "Invalid login");
                return STEP_GO;
        case POP3_TLS_DRAIN:
                return rope_empty(&s->out) ? finish_tls(p) : STEP_DRAIN;
        case POP3_TLS_HANDSHAKE:
                str_clear(&s->in);
                s->discard_input = false;
                p->phase = POP3_COMMAND;
                return STEP_GO;
        case POP3_LAYER_DRAIN:
                if (!rope_empty(&s->out))
                        return STEP_DRAIN;
                start_layer(p);
                return STEP_GO;
        case POP3_SENDING:
                if (p->send(p) && p->phase == POP3_SENDING)
                        p->phase = POP3_COMMAND;
                return STEP_GO;
        case POP3_UPDATE:
                if (!pop3_drop_update(p))
                        return waiter_is_done(&p->waiter) ? STEP_GO : STEP_WAIT;
                p->phase = POP3_CLOSING;
                return STEP_GO;
        case POP3_CLOSING:
                return STEP_CLOSE;
        case POP3_COMMAND:
        case POP3_AUTH_LINE:
                break;
        }
        if (p->bad > (p->userid ? POP3_BAD_MAX : POP3_BAD_MAX_NOT_AUTH)) {
                pop3_err(p, NULL, "Too many errors");
                return STEP_CLOSE;
        }
        if (step_line(p))
                return STEP_GO;
        return s->eof ? STEP_CLOSE : STEP_INPUT;
}

static enum step pop3_run(struct session *s)
{
        struct pop3 *p = pop3_of(s);
        unsigned woken = s->woken;
        enum step step = STEP_GO;

        s->woken = 0;
        if (!p->welcomed) {
                p->welcomed = true;
                greet(p);
        }
        p->told |= woken & (WAKE_TIMEOUT | WAKE_STOP | WAKE_TIMER);
        if (p->phase == POP3_COMMAND)
                telemetry_look(s, &p->telemetry, p->conf, p->userid, woken & WAKE_TOUCH);
        if ((woken & WAKE_TOUCH) && p->phase == POP3_COMMAND && shut_down(p))
                return STEP_CLOSE;
        while (step == STEP_GO) {
                if ((p->told & (WAKE_TIMEOUT | WAKE_STOP)) && p->phase != POP3_OFFLOADED && p->phase != POP3_UPDATE)
                        return goodbye(p);
                if (s->out.bytes > ROPE_HIGH)
                        return STEP_FLUSH;
                if (session_slice_over(s))
                        return STEP_AGAIN;
                step = advance(p);
                s->idle_ok = p->phase == POP3_COMMAND;
        }
        return step;
}

static void pop3_close(struct session *s)
{
        struct pop3 *p = pop3_of(s);
        char user[LOG_QUOTE_MAX];

        if (p->userid && s->stream)
                log_event(LOG_NOTE, s->name, "pop3.logout", "user=%s in=%llu out=%llu", log_quote_str(user, p->userid),
                          (unsigned long long)stream_bytes_in(s->stream), (unsigned long long)stream_bytes_out(s->stream));
        telemetry_stop(s, &p->telemetry);
        pop3_stuff_end(&p->stuff);
        pop3_drop_close(p);
        pop3_auth_deinit(p);
        uidset_deinit(&p->uids);
        free(p->user);
        free(p->folder);
        free(p->userid);
        conf_unref(&p->conf);
}

const struct session_ops pop3_ops = {
        .protocol = "pop3", .size = sizeof(struct pop3), .open = pop3_open, .run = pop3_run, .close = pop3_close,
        .too_many = "-ERR [SYS/TEMP] Too many connections, try again later\r\n",
};
