/*
 * server - the service csync (reference: csync 1): banner, command lines, STARTTLS, COMPRESS, and the way of GET, APPLY and RESTORE to the peer
 * (server_peer.c). Commands are not pipelined; whatever comes behind one waits in the input.
 */
#include "replication/server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "replication/server_session.h"
#include "server/imap/sync.h"
#include "server/msgfile.h"
#include "server/protocols.h"
#include "server/servername.h"
#include "server/tls.h"
#include "server/version.h"
#include "util/log.h"
#include "util/must.h"

void csync_reply(struct csync *c, const char *fmt, ...)
{
        struct str line = STR_INIT;
        va_list ap;

        va_start(ap, fmt);
        str_vprintf(&line, fmt, ap);
        va_end(ap);
        if (span_istarts(str_span(&line), "BAD") || span_istarts(str_span(&line), "NO P"))
                c->bad++;
        else if (span_istarts(str_span(&line), "OK"))
                c->bad = 0;
        str_append(&line, "\r\n", 2);
        rope_append_span(&c->s->out, str_span(&line));
        str_deinit(&line);
}

/* ---- banner ---- */

/* Given again after STARTTLS, then without COMPRESS, as the real one does it. */
static void banner(struct csync *c, bool again)
{
        char name[SERVERNAME_MAX];

        if (!c->authenticated) {
                const char *mechs = csync_mechanisms(c);

                csync_reply(c, "* SASL%s%s", *mechs ? " " : "", mechs);
        }
        if (!c->authenticated && service_has_tls(c->s->service) && !stream_is_tls(c->s->stream))
                csync_reply(c, "* STARTTLS");
        if (!again && !stream_is_deflated(c->s->stream))
                csync_reply(c, "* COMPRESS DEFLATE");
        csync_reply(c, "* OK %s Cyrus sync server %s Cyrd %s", servername(c->conf, service_name(c->s->service), name), CYRUS_COMPAT, CYRD_VERSION);
}

/* ---- verbs ---- */

static void verb_starttls(struct csync *c, struct span args)
{
        if (!service_has_tls(c->s->service))
                csync_reply(c, "BAD IMAP_PROTOCOL_ERROR Unrecognized command");
        else if (args.len)
                csync_reply(c, "BAD Unexpected extra arguments to Starttls");
        else if (stream_is_tls(c->s->stream))
                csync_reply(c, "BAD Already did a successful Starttls");
        else if (c->authenticated)
                csync_reply(c, "BAD Can't Starttls after authentication");
        else {
                csync_reply(c, "OK Begin TLS negotiation now");
                c->phase = CSYNC_TLS_DRAIN;
        }
}

static void verb_compress(struct csync *c, struct span args)
{
        if (args.len == 0)
                csync_reply(c, "BAD Missing required argument to Compress");
        else if (!span_ieq_str(args, "DEFLATE"))
                csync_reply(c, "NO Unknown compression algorithm: %.*s", (int)(args.len < 40 ? args.len : 40), args.p);
        else if (stream_is_deflated(c->s->stream))
                csync_reply(c, "NO Compression already active: DEFLATE");
        else {
                csync_reply(c, "OK DEFLATE active");
                c->phase = CSYNC_DEFLATE_DRAIN;
        }
}

static void verb_noop(struct csync *c, struct span args)
{
        if (args.len)
                csync_reply(c, "BAD Unexpected extra arguments to Noop");
        else
                csync_reply(c, "OK Noop completed");
}

static void verb_restart(struct csync *c, struct span args)
{
        if (args.len) {
                csync_reply(c, "BAD Unexpected extra arguments to Restart");
                return;
        }
        if (c->peer)
                sync_peer_begin(c->peer, "RESTART");
        csync_reply(c, "OK Restarting");
}

static void verb_exit(struct csync *c, struct span args)
{
        if (args.len) {
                csync_reply(c, "BAD Unexpected extra arguments to Exit");
                return;
        }
        csync_reply(c, "OK Finished");
        c->phase = CSYNC_CLOSING;
}

/* Who needs what. `command`: the rest of its line, and what follows, is the peer's. */
static const struct csync_verb {
        const char *name;
        void (*fn)(struct csync *c, struct span args);  /* args: without blanks around them */
        enum { BY_ANYBODY, BY_ADMIN } needs;
        bool command;
} verbs[] = {
        { "APPLY", NULL, BY_ADMIN, true },
        { "AUTHENTICATE", csync_authenticate, BY_ANYBODY, false },
        { "COMPRESS", verb_compress, BY_ANYBODY, false },
        { "EXIT", verb_exit, BY_ANYBODY, false },
        { "GET", NULL, BY_ADMIN, true },
        { "NOOP", verb_noop, BY_ANYBODY, false },
        { "RESTART", verb_restart, BY_ANYBODY, false },
        { "RESTORE", NULL, BY_ADMIN, true },
        { "STARTTLS", verb_starttls, BY_ANYBODY, false },
};

static const struct csync_verb *find_verb(struct span name)
{
        for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
                if (span_ieq_str(name, verbs[i].name))
                        return &verbs[i];
        return NULL;
}

/* May this connection use it? False: it was told. Who is logged in and no admin may do nothing but leave. */
static bool allowed(struct csync *c, const struct csync_verb *verb)
{
        if (c->authenticated && !c->is_admin && verb->fn != verb_exit) {
                csync_reply(c, "NO Permission denied");
                return false;
        }
        if (verb->needs == BY_ADMIN && !c->authenticated) {
                csync_reply(c, "NO Please authenticate first");
                return false;
        }
        return true;
}

/* ---- lines ---- */

static void take_line(struct csync *c, struct span line)
{
        size_t n = span_index(line, ' ');
        const struct csync_verb *verb = find_verb((struct span){ line.p, n });
        struct span args = { NULL, 0 };

        if (n < line.len)
                args = span_trim((struct span){ line.p + n, line.len - n });
        if (line.len == 0)
                csync_reply(c, "BAD Null command");
        else if (!verb)
                csync_reply(c, "BAD IMAP_PROTOCOL_ERROR Unrecognized command");
        else if (!allowed(c, verb))
                return;
        else if (verb->command)
                csync_reply(c, "BAD IMAP_PROTOCOL_ERROR Failed to parse %s line", verb->name);
        else
                verb->fn(c, args);
}

/* A whole line is there, or a verb whose arguments the peer reads. True: something was done. */
static bool step_line(struct csync *c)
{
        struct str *in = &c->s->in;
        size_t end = span_index(str_span(in), '\n'), word = span_index((struct span){ in->data, end }, ' ');
        const struct csync_verb *verb = word < end ? find_verb((struct span){ in->data, word }) : NULL;
        struct span line;

        if (c->skipping) {
                c->skipping = end == in->len;
                str_consume(in, end < in->len ? end + 1 : end);
                if (!c->skipping)
                        csync_reply(c, "BAD Line too long");
                return !c->skipping;
        }
        if (verb && verb->command && c->phase == CSYNC_COMMAND && c->authenticated && c->is_admin) {
                str_consume(in, word + 1);
                sync_peer_begin(c->peer, verb->name);
                c->phase = CSYNC_PEER;
                return true;
        }
        if (end > CSYNC_LINE_MAX) {
                c->skipping = true;
                return step_line(c);
        }
        if (end == in->len)
                return false;
        /* Handlers borrow from the line while the input may change. */
        arena_reset(&c->s->arena);
        line = arena_span(&c->s->arena, (struct span){ in->data, end });
        str_consume(in, end + 1);
        if (line.len && line.p[line.len - 1] == '\r')
                line.len--;
        if (c->phase == CSYNC_AUTH_LINE)
                csync_auth_response(c, line);
        else
                take_line(c, line);
        return true;
}

/* ---- the session ---- */

static void csync_open(struct session *s)
{
        struct csync *c = s->self;
        const struct service_params *p = service_params(s->service);

        c->s = s;
        c->conf = engine_conf();
        str_init(&c->auth_input);
        s->timeout_s = (uint32_t)conf_duration_s(c->conf, service_name(s->service), "sync_timeout");
        if (s->timeout_s < 3)
                s->timeout_s = 3;
        if (s->peer_is_unix || p->preauthorized)
                csync_logged_in(c, NULL, true);
        s->idle_ok = true;
}

void csync_logged_in(struct csync *c, const char *user, bool is_admin)
{
        struct sync_peer_params params = { .session = c->s, .conf = c->conf, .user = user, .is_admin = is_admin };

        c->authenticated = c->s->authenticated = true;
        c->is_admin = is_admin;
        if (is_admin)
                c->peer = sync_peer_open(&params);
}

static enum step finish_tls(struct csync *c)
{
        struct tls_context *tls = service_tls(c->s->service);
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];
        int rc;

        if (!tls)
                return STEP_CLOSE;
        rc = stream_start_tls(c->s->stream, tls, &err);
        tls_context_unref(&tls);
        if (rc < 0) {
                log_event(LOG_ERROR, c->s->name, "sync.tls", "reason=%s", log_quote_str(quoted, err.text));
                return STEP_CLOSE;
        }
        csync_auth_deinit(c);
        c->phase = CSYNC_TLS_HANDSHAKE;
        c->s->discard_input = true;
        return STEP_HANDSHAKE;
}

/* After the daemon's stop, a time-out, cyrctl's kick: an orderly end, after which the peer tries again (csync 1.3). Within an answer it cannot
 * be said. */
static enum step goodbye(struct csync *c)
{
        if (c->phase != CSYNC_TLS_HANDSHAKE && c->phase != CSYNC_DEFLATE_DRAIN && c->phase != CSYNC_LAYER_DRAIN && c->phase != CSYNC_PEER)
                csync_reply(c, c->told & WAKE_TIMEOUT ? "BYE idle for too long" : "BYE shutting down");
        return STEP_CLOSE;
}

static enum step run_peer(struct csync *c)
{
        struct session *s = c->s;
        size_t used;
        enum sync_step step = sync_peer_run(c->peer, str_span(&s->in), &used);

        str_consume(&s->in, used);
        switch (step) {
        case SYNC_INPUT: return s->eof ? STEP_CLOSE : STEP_INPUT;
        case SYNC_AGAIN: return STEP_AGAIN;
        case SYNC_WAIT: return waiter_is_done(sync_peer_waiter(c->peer)) ? CSYNC_GO : STEP_WAIT;
        case SYNC_FLUSH: return STEP_FLUSH;
        case SYNC_DONE:
        case SYNC_LOST: break;
        }
        csync_reply(c, "%s", sync_peer_reply(c->peer));
        c->phase = step == SYNC_LOST ? CSYNC_CLOSING : CSYNC_COMMAND;
        session_set_status(s, NULL, NULL);
        return CSYNC_GO;
}

static enum step read_line(struct csync *c)
{
        char reason[MSGFILE_MAX];

        if (c->bad > (c->authenticated ? CSYNC_BAD_MAX : CSYNC_BAD_MAX_NOT_AUTH)) {
                csync_reply(c, "BYE too many errors");
                return STEP_CLOSE;
        }
        if (c->phase == CSYNC_COMMAND && c->s->in.len == 0 && msgfile_shutdown(c->conf, service_name(c->s->service), reason)) {
                csync_reply(c, "BYE %s", reason[0] ? reason : "shutting down");
                return STEP_CLOSE;
        }
        if (step_line(c))
                return CSYNC_GO;
        return c->s->eof ? STEP_CLOSE : STEP_INPUT;
}

static enum step go(struct csync *c)
{
        struct session *s = c->s;

        switch (c->phase) {
        case CSYNC_OFFLOADED:
                if (!waiter_is_done(&c->job.waiter))
                        return STEP_WAIT;
                c->phase = CSYNC_COMMAND;
                csync_auth_step_done(c);
                return CSYNC_GO;
        case CSYNC_AUTH_PAUSE:
                if (!(c->told & WAKE_TIMER))
                        return STEP_WAIT;
                c->phase = CSYNC_COMMAND;
                csync_reply(c, "NO authentication failure");
                return CSYNC_GO;
        case CSYNC_TLS_DRAIN:
                return rope_empty(&s->out) ? finish_tls(c) : STEP_DRAIN;
        case CSYNC_TLS_HANDSHAKE:
                str_clear(&s->in);
                s->discard_input = false;
                c->phase = CSYNC_COMMAND;
                banner(c, true);
                return CSYNC_GO;
        case CSYNC_DEFLATE_DRAIN:
                if (!rope_empty(&s->out))
                        return STEP_DRAIN;
                stream_start_deflate(s->stream, str_span(&s->in));
                str_clear(&s->in);
                c->phase = CSYNC_COMMAND;
                return CSYNC_GO;
        case CSYNC_LAYER_DRAIN:
                if (!rope_empty(&s->out))
                        return STEP_DRAIN;
                str_clear(&s->in);
                stream_start_sasl(s->stream, c->sasl);
                c->sasl = NULL;                         /* the stream's from now on */
                csync_auth_deinit(c);
                c->phase = CSYNC_COMMAND;
                return CSYNC_GO;
        case CSYNC_PEER:
                return run_peer(c);
        case CSYNC_CLOSING:
                return STEP_CLOSE;
        case CSYNC_COMMAND:
        case CSYNC_AUTH_LINE:
                break;
        }
        return read_line(c);
}

/* Somebody else has the command, and is not to be disturbed. */
static bool away(struct csync *c)
{
        return (c->phase == CSYNC_OFFLOADED && !waiter_is_done(&c->job.waiter)) ||
               (c->phase == CSYNC_PEER && sync_peer_is_away(c->peer));
}

static enum step csync_run(struct session *s)
{
        struct csync *c = s->self;
        unsigned woken = s->woken;
        enum step step = CSYNC_GO;

        s->woken = 0;
        if (!c->welcomed) {
                c->welcomed = true;
                banner(c, false);
        }
        c->told |= woken & (WAKE_TIMEOUT | WAKE_STOP | WAKE_TIMER);
        if (c->phase == CSYNC_COMMAND)
                telemetry_look(s, &c->telemetry, c->conf, c->user, woken & WAKE_TOUCH);
        while (step == CSYNC_GO) {
                if (c->told & (WAKE_TIMEOUT | WAKE_STOP) && !away(c))
                        return goodbye(c);
                if (session_slice_over(s))
                        return STEP_AGAIN;
                if (s->out.bytes > ROPE_HIGH)
                        return STEP_FLUSH;
                step = go(c);
        }
        s->idle_ok = c->phase == CSYNC_COMMAND && s->in.len == 0;
        return step;
}

static void csync_close(struct session *s)
{
        struct csync *c = s->self;
        char user[LOG_QUOTE_MAX];

        if (c->authenticated && s->stream)
                log_event(LOG_NOTE, s->name, "sync.logout", "user=%s in=%llu out=%llu%s", c->user ? log_quote_str(user, c->user) : "-",
                          (unsigned long long)stream_bytes_in(s->stream), (unsigned long long)stream_bytes_out(s->stream),
                          stream_is_deflated(s->stream) ? " compress=DEFLATE" : "");
        telemetry_stop(s, &c->telemetry);
        sync_peer_close(&c->peer);
        csync_auth_deinit(c);
        free(c->user);
        conf_unref(&c->conf);
}

static const struct session_ops csync_ops = {
        .protocol = "csync", .size = sizeof(struct csync), .open = csync_open, .run = csync_run, .close = csync_close,
        .too_many = "BYE too many connections\r\n",
};

static const struct imap_sync_ops imap_ops_of_sync = {
        .open = sync_peer_open, .close = sync_peer_close, .begin = sync_peer_begin, .run = sync_peer_run, .waiter = sync_peer_waiter,
        .reply = sync_peer_reply,
};

void sync_server_register(void)
{
        protocol_register("sync_server", &csync_ops);
        imap_register_sync(&imap_ops_of_sync);
}
