/*
 * imap - the run loop of an IMAP session: gather a command, dispatch it, tell news, send its reply, again.
 * See the phases in imap_private.h. Every phase either goes on (STEP_GO) or returns what the session waits for.
 */
#include "server/imap/imap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/groups.h"
#include "server/imap/imap_private.h"
#include "server/imap/notify.h"
#include "server/msgfile.h"
#include "server/protocols.h"
#include "server/servername.h"
#include "server/tls.h"
#include "server/version.h"
#include "util/clock.h"
#include "util/log.h"

#define STEP_GO ((enum step)-1)                 /* nothing to wait for: next phase */
#define BAD_MAX 100                             /* bad commands in a row before BYE … */
#define BAD_MAX_NOT_AUTH 25                     /* … and before login */
#define SHUTDOWN_CHECK_MS 1000                  /* how often msg/shutdown is looked for at most, while commands come */

const char *imap_service(const struct imap *imap)
{
        return service_name(imap->s->service);
}

struct namer imap_namer(const struct imap *imap)
{
        return (struct namer){ .ns = imap->ns, .userid = imap->userid, .is_admin = imap->is_admin,
                               .utf8 = imap->rev2 || imap->utf8 };
}

/* ---- input ---- */

static struct span input(struct imap *imap)
{
        return (struct span){ imap->s->in.data + imap->loop->used, imap->s->in.len - imap->loop->used };
}

static void discard_input(struct imap *imap)
{
        imap->loop->used = imap->s->in.len;
}

/* Everything is used up: the end, or more. */
static enum step want_input(struct imap *imap)
{
        struct session *s = imap->s;

        s->idle_ok = imap->idling || (imap->loop->phase == PHASE_GATHER && !imap->gather);
        return s->eof ? STEP_CLOSE : STEP_INPUT;
}

/* ---- goodbyes ---- */

static enum step bye(struct imap *imap, const char *code, const char *text)
{
        if (imap->loop->phase == PHASE_TLS_DONE || imap->loop->phase == PHASE_LAYER_DRAINED ||
            imap->loop->phase == PHASE_DEFLATE_DRAINED)
                return STEP_CLOSE;                      /* between two layers there is no way to say it */
        imap_untagged(imap, "BYE %s%s%s%s", code ? "[" : "", code ? code : "", code ? "] " : "", text);
        return STEP_CLOSE;
}

static enum step say_stop(struct imap *imap)
{
        char reason[MSGFILE_MAX];

        if (imap->loop->bye & WAKE_TIMEOUT)
                return bye(imap, NULL, imap->state == IMAP_NOT_AUTH ? "Autologout: no login in time" : "Autologout: idle for too long");
        if (msgfile_shutdown(imap->conf, imap_service(imap), reason) && reason[0])
                return bye(imap, "ALERT", reason);
        return engine_stopping() ? bye(imap, "UNAVAILABLE", "The server is shutting down") :
                                   bye(imap, NULL, "Ended by the administrator");       /* cyrctl sessions kick */
}

/* msg/shutdown ends sessions between commands; admins are spared, and who is one shows at login: nobody is sent away before. */
static bool shut_down(struct imap *imap, bool now, enum step *step_r)
{
        char reason[MSGFILE_MAX];
        uint64_t ms = clock_mono_ms();

        if (imap->is_admin || imap->state == IMAP_NOT_AUTH || (!now && ms - imap->loop->shutdown_checked_ms < SHUTDOWN_CHECK_MS))
                return false;
        imap->loop->shutdown_checked_ms = ms;
        if (!msgfile_shutdown(imap->conf, imap_service(imap), reason))
                return false;
        *step_r = bye(imap, "ALERT", reason[0] ? reason : "The server is shutting down");
        return true;
}

/* ---- greeting ---- */

static enum step greet(struct imap *imap)
{
        const char *serverinfo = conf_enum(imap->conf, imap_service(imap), "serverinfo");
        char name[SERVERNAME_MAX];

        imap_put(imap, "* OK [CAPABILITY ");
        imap_put_capabilities(imap, false);
        imap_put(imap, "]");
        if (strcmp(serverinfo, "off") != 0)
                imap_put(imap, " %s", servername(imap->conf, imap_service(imap), name));
        if (strcmp(serverinfo, "on") == 0)
                imap_put(imap, " Cyrd %s", CYRD_VERSION);
        imap_put(imap, " server ready\r\n");
        arena_reset(&imap->s->arena);
        imap->loop->phase = PHASE_GATHER;
        return STEP_GO;
}

/* ---- gathering ---- */

static size_t limit(struct imap *imap, const char *option, size_t otherwise)
{
        int64_t n = conf_int(imap->conf, imap_service(imap), option);

        return n > 0 && n < ((int64_t)1 << 30) ? (size_t)n : otherwise;
}

static void begin_gathering(struct imap *imap)
{
        struct imap_limits limits = IMAP_LIMITS_DEFAULT;

        limits.literal_max = limit(imap, "maxliteral", limits.literal_max);
        limits.total_max = limit(imap, "maxargssize", limits.total_max);
        limits.line_max = limits.total_max;
        if (conf_switch(imap->conf, imap_service(imap), "literalminus"))
                limits.nonsync_max = 4096;
        imap->gather = imap_gather_create(&limits);
        imap_gather_reset(imap->gather, imap->state != IMAP_NOT_AUTH);
}

/* The command ended before it was whole. */
static enum step answer_unfinished(struct imap *imap, const struct err *err)
{
        struct imap_loop *loop = imap->loop;

        imap->cmd.tag = arena_span(&imap->s->arena, imap_gather_tag(imap->gather));
        if (!loop->refused)
                imap_bad(imap, "%s", err->text);
        else if (loop->refused_bad)
                imap_bad(imap, "%s", loop->refused_text);
        else
                imap_no(imap, loop->refused_code[0] ? loop->refused_code : NULL, "%s", loop->refused_text);
        loop->after = PHASE_GATHER;
        loop->phase = PHASE_FINISH;
        return STEP_GO;
}

static void settle(struct imap *imap, bool bad, const char *code, const char *text)
{
        struct imap_loop *loop = imap->loop;

        loop->refused = true;
        loop->refused_bad = bad;
        snprintf(loop->refused_code, sizeof loop->refused_code, "%s", code ? code : "");
        snprintf(loop->refused_text, sizeof loop->refused_text, "%s", text ? text : "Refused");
}

static void settle_err(struct imap *imap, const struct err *err)
{
        char buf[LOG_QUOTE_MAX];

        log_event(LOG_ERROR, imap->s->name, "imap.stage", "user=%s code=%s reason=%s", imap->userid ? imap->userid : "-",
                  err_code_name(err->code), log_quote_str(buf, err->text));
        settle(imap, false, err->code == ERR_NOSPACE ? "UNAVAILABLE" : "SERVERBUG",
               err->code == ERR_NOSPACE ? "No space left on the server" : "The message could not be stored");
}

/* ---- APPEND's literals ---- */

struct stage *imap_streamed_stage(struct imap *imap, uint32_t k)
{
        return k < imap->loop->stages_n ? imap->loop->stages[k] : NULL;
}

/* Give the literal up; `taken` octets of it have come already. */
static enum step drop_literal(struct imap *imap, bool continued, uint64_t taken)
{
        struct err err = ERR_INIT;

        if (imap->loop->stage)
                stage_unref(&imap->loop->stage);
        if (imap_gather_literal_sync(imap->gather) && !continued)
                return answer_unfinished(imap, &err);
        if (imap_gather_literal_refuse(imap->gather, imap->loop->refused_text, continued, taken, &err) == GATHER_CLOSE)
                return bye(imap, NULL, imap->loop->refused_text);
        imap->loop->phase = PHASE_GATHER;
        return STEP_GO;
}

uint64_t imap_append_limit(struct imap *imap)
{
        int64_t max = conf_int(imap->conf, imap_service(imap), "maxmessagesize");

        return max > 0 && max < UINT32_MAX - 65536 ? (uint64_t)max : UINT32_MAX - 65536;
}

/* A message is announced: may it come, and where is it put? */
static bool admit_literal(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        struct span text = imap_gather_text(imap->gather), tag = imap_gather_tag(imap->gather), args;
        uint64_t bytes = imap_gather_literal_bytes(imap->gather);
        int64_t max = conf_int(imap->conf, imap_service(imap), "maxmessagesize");
        struct append_check check = { 0 };
        struct err err = ERR_INIT;
        size_t head = tag.len + 1, end = text.len;
        bool in_file;

        while (end > head && text.p[end - 1] != '{')    /* the place holder of this literal */
                end--;
        if (end > head)
                end--;
        args = (struct span){ text.p + head, end - head };
        if (loop->stages_n >= IMAP_STAGES_MAX) {
                settle(imap, false, "LIMIT", "Too many messages in one command");
                return false;
        }
        if ((max > 0 && bytes > (uint64_t)max) || bytes > UINT32_MAX - 65536) {
                settle(imap, false, "TOOBIG", "Message is larger than the server takes");      /* RFC 7889 4 */
                return false;
        }
        if (!tag.len) {
                settle(imap, true, NULL, "Invalid tag");
                return false;
        }
        if (!imap_append_precheck(imap, args, bytes, &check)) {
                settle(imap, check.bad, check.code, check.text);
                return false;
        }
        in_file = bytes > STAGE_IN_MEMORY || loop->staged_memory + bytes > IMAP_STAGED_MEMORY;
        if (in_file && loop->stage_files >= IMAP_STAGE_FILES_MAX) {
                settle(imap, false, "LIMIT", "Too many large messages in one command");
                return false;
        }
        loop->literal8 = args.len && args.p[args.len - 1] == '~';
        append_munge_begin(imap, &loop->munge);
        loop->munge.on &= !check.piece;                 /* that is done when the pieces are put together */
        if (stage_begin(imap->store, check.partition_dir, bytes, &loop->stage, &err) < 0) {
                settle_err(imap, &err);
                return false;
        }
        if (in_file)
                stage_limit_memory(loop->stage, 0);
        if (check.piece)
                stage_set_piece(loop->stage);
        loop->stage_files += in_file;
        loop->staged_memory += in_file ? 0 : bytes;
        return true;
}

static enum step begin_literal(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        bool admitted = admit_literal(imap);

        imap->cmd.tag = (struct span){ NULL, 0 };
        arena_reset(&imap->s->arena);
        if (!admitted)
                return drop_literal(imap, false, 0);
        if (imap_gather_literal_sync(imap->gather))
                imap_put(imap, "+ Go ahead\r\n");
        loop->literal_left = imap_gather_literal_bytes(imap->gather);
        loop->phase = PHASE_LITERAL;
        return STEP_GO;
}

static enum step end_literal(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        struct err err = ERR_INIT;

        if (stage_finish(loop->stage, &err) < 0) {
                settle_err(imap, &err);
                return drop_literal(imap, true, imap_gather_literal_bytes(imap->gather));
        }
        imap_gather_literal_taken(imap->gather);
        loop->stages = xrealloc(loop->stages, (loop->stages_n + 1) * sizeof *loop->stages);
        loop->stages[loop->stages_n++] = loop->stage;
        loop->stage = NULL;
        loop->phase = PHASE_GATHER;
        return STEP_GO;
}

static enum step take_literal(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        struct span in = input(imap);
        struct err err = ERR_INIT;
        uint64_t taken = imap_gather_literal_bytes(imap->gather) - loop->literal_left;

        if (!loop->literal_left)
                return end_literal(imap);
        if (!in.len)
                return want_input(imap);
        if (in.len > loop->literal_left)
                in.len = (size_t)loop->literal_left;
        append_munge(&loop->munge, imap->s->in.data + loop->used, in.len);
        /* RFC 9051 9: CHAR8 is not NUL; a literal8 may hold it (RFC 3516 4.4): see append.c. */
        if (!loop->literal8 && memchr(in.p, 0, in.len))
                settle(imap, false, NULL, "Message contains NUL characters");
        else if (stage_write(loop->stage, in.p, in.len, &err) < 0)
                settle_err(imap, &err);
        if (loop->refused)
                return drop_literal(imap, true, taken);
        loop->used += in.len;
        loop->literal_left -= in.len;
        return STEP_GO;
}

static enum step gather(struct imap *imap)
{
        struct err err = ERR_INIT;
        struct span in = input(imap);
        enum gather_result r;
        size_t used;
        bool undecided = false;

        if (in.len && (!imap->gather || imap_gather_idle(imap->gather))) {
                if (imap_command_is_raw(imap, in, &used, &undecided)) {
                        imap->loop->used += used;
                        imap_command_begin(imap, arena_span(&imap->s->arena, (struct span){ in.p, used }));
                        return STEP_GO;
                }
                if (undecided)
                        return want_input(imap);
        }
        if (!in.len) {
                if (imap->gather && imap_gather_idle(imap->gather))
                        imap_gather_destroy(&imap->gather);
                if (imap->notify && !imap->gather && !notify_tell(imap))
                        return STEP_FLUSH;
                if (imap->notify && imap_selected_lost(imap))
                        return bye(imap, NULL, "The selected mailbox is gone");
                return want_input(imap);
        }
        if (!imap->gather)
                begin_gathering(imap);
        r = imap_gather_feed(imap->gather, in, &used, &err);
        imap->loop->used += used;
        switch (r) {
        case GATHER_MORE:
                return STEP_GO;
        case GATHER_COMMAND:
                imap_command_begin(imap, imap_gather_text(imap->gather));
                return STEP_GO;
        case GATHER_CONTINUE:
                imap_put(imap, "+ Go ahead\r\n");
                return STEP_GO;
        case GATHER_LITERAL:
                return begin_literal(imap);
        case GATHER_BAD:
                return answer_unfinished(imap, &err);
        case GATHER_CLOSE:
                if (err.code == ERR_UNSUPPORTED)
                        return STEP_CLOSE;
                return bye(imap, NULL, err.text);
        }
        return STEP_CLOSE;
}

/* ---- executing ---- */

enum cmd_result imap_pause(struct imap *imap, uint32_t ms)
{
        must(!imap->cmd.waiting && !imap->loop->timer_wait);
        imap->loop->timer_wait = true;
        imap->loop->timer_fired = false;
        session_timer(imap->s, ms ? ms : 1);
        return CMD_WAIT;
}

static enum step execute(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;

        if (imap->cmd.waiting) {
                if (!waiter_is_done(loop->wait)) {
                        imap_progress_tell(imap);
                        session_timer(imap->s, imap_progress_ms(imap));
                        return STEP_WAIT;
                }
                session_timer(imap->s, 0);
                imap->cmd.waiting = false;
                loop->wait = NULL;
        }
        if (loop->timer_wait) {
                if (!loop->timer_fired)
                        return STEP_WAIT;
                loop->timer_wait = false;
        }
        switch (imap_command_run(imap)) {
        case CMD_AGAIN:
                if (atomic_load(&imap->cmd.progress.total) || atomic_load(&imap->cmd.progress.done))
                        imap_progress_tell(imap);
                return STEP_AGAIN;
        case CMD_WAIT:
                return STEP_GO;                         /* it may be done already */
        case CMD_FLUSH:
                return rope_empty(&imap->s->out) ? STEP_GO : STEP_FLUSH;
        case CMD_INPUT:
                return want_input(imap);
        case CMD_DONE: case CMD_CONTINUE: case CMD_TLS: case CMD_CLOSE:
                break;
        }
        return STEP_GO;
}

/* A line for a command that asked for more (AUTHENTICATE, IDLE). */
static enum step take_line(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        struct span in = input(imap), line;
        size_t n = span_index(in, '\n');

        if (imap->idling && !(imap->notify ? notify_tell(imap) : imap_poll(imap, true)))        /* RFC 5465 4 */
                return STEP_FLUSH;
        if (imap->idling && imap_selected_lost(imap))
                return bye(imap, NULL, "The selected mailbox is gone");
        if (n == in.len && n <= IMAP_LINE_MAX)
                return want_input(imap);
        line = (struct span){ in.p, n };
        loop->used += n < in.len ? n + 1 : n;
        if (n > IMAP_LINE_MAX || memchr(line.p, 0, line.len)) {
                loop->skip_line = n == in.len;
                imap_bad(imap, n > IMAP_LINE_MAX ? "Line is too long" : "NUL in the line");
                loop->phase = PHASE_FINISH;
                return STEP_GO;
        }
        if (line.len && line.p[line.len - 1] == '\r')
                line.len--;
        imap->cmd.line = arena_span(&imap->s->arena, line);
        loop->phase = PHASE_EXECUTE;
        return STEP_GO;
}

/* The rest of a line that was too long. */
static enum step skip_line(struct imap *imap)
{
        struct span in = input(imap);
        size_t n = span_index(in, '\n');

        imap->loop->skip_line = n == in.len;
        imap->loop->used += n < in.len ? n + 1 : n;
        return imap->loop->skip_line ? want_input(imap) : STEP_GO;
}

/* ---- the end of a command ---- */

static bool too_many_bad(struct imap *imap)
{
        if (imap->loop->outcome != 'B') {
                if (imap->loop->outcome == 'O')
                        imap->bad_commands = 0;
                return false;
        }
        return ++imap->bad_commands >= (imap->state == IMAP_NOT_AUTH ? BAD_MAX_NOT_AUTH : BAD_MAX);
}

/* A synchronous replica has what this command has changed? False: the session is woken when there is something to say. */
static bool is_acknowledged(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        struct imap_command *c = &imap->cmd;
        enum acknowledge_answer answer;

        if (!c->asked) {
                struct acknowledge_about about = { .user = imap->userid, .names = { c->named[0], c->named[1], c->selected } };

                c->asked = true;
                if (!c->cmd || !(c->cmd->flags & CMD_CHANGES || c->changed) || loop->outcome != 'O')
                        return true;
                if (c->changed && imap->sel)
                        about.names[0] = imap->sel->entry->name;
                about.structure = c->cmd->states != S_SELECTED && !(c->cmd->flags & CMD_LITERAL_STREAM);
                c->acknowledge = acknowledge_begin(imap->s->id, &about);
        }
        if (!c->acknowledge)
                return true;
        answer = acknowledge_answer(c->acknowledge);
        if (answer == ACKNOWLEDGE_WAIT)
                return false;
        acknowledge_end(&c->acknowledge);
        if (answer == ACKNOWLEDGE_REFUSE) {
                str_clear(&loop->tagged);
                imap_no(imap, "UNAVAILABLE", "Done here, but the replica that has to have it as well has not got it");
                loop->outcome = 'O';            /* as to what was done, for who is told of that */
        }
        return true;
}

static enum step finish(struct imap *imap)
{
        struct imap_loop *loop = imap->loop;
        const struct imap_cmd *cmd = imap->cmd.cmd;
        enum step step;

        if ((acknowledge_on() || imap->cmd.acknowledge) && !is_acknowledged(imap))
                return STEP_WAIT;
        /* RFC 9051 7.5.1: no expunges during commands with sequence numbers in them. */
        if (imap->sel && cmd && (cmd->flags & CMD_POLL) && loop->outcome != 'B' && !loop->closing &&
            !imap_poll(imap, !(cmd->flags & CMD_SEQNO) || (imap->cmd.uid && !imap->cmd.seqnos)))
                return STEP_FLUSH;
        rope_append_span(&imap->s->out, str_span(&loop->tagged));
        imap_command_end(imap);
        loop->phase = loop->after;
        if (loop->closing)
                return STEP_CLOSE;
        /* Nobody may pipeline behind AUTHENTICATE (RFC 9051 6.2.2): whoever put commands there is not the client that logged in. */
        if (loop->discard_rest)
                discard_input(imap);
        loop->discard_rest = false;
        if (loop->after == PHASE_TLS_DRAINED)
                return STEP_DRAIN;
        if (loop->start_layer) {
                loop->start_layer = false;
                loop->phase = PHASE_LAYER_DRAINED;
                return STEP_DRAIN;
        }
        if (loop->end_layers) {
                loop->end_layers = false;
                loop->phase = PHASE_END_DRAINED;
                return STEP_DRAIN;
        }
        if (loop->start_deflate) {
                loop->start_deflate = false;
                loop->phase = PHASE_DEFLATE_DRAINED;
                return STEP_DRAIN;
        }
        telemetry_look(imap->s, &imap->telemetry, imap->conf, imap->userid, false);
        if (imap_selected_lost(imap))
                return bye(imap, NULL, "The selected mailbox is gone");
        if (too_many_bad(imap))
                return bye(imap, NULL, "Too many bad commands");
        if (shut_down(imap, false, &step))
                return step;
        return STEP_GO;
}

/* What was pipelined in clear behind STARTTLS must not be taken for what came through TLS (CVE-2011-0411; RFC 9051 6.2.1). */
static enum step start_tls(struct imap *imap)
{
        struct tls_context *tls = service_tls(imap->s->service);
        struct err err = ERR_INIT;
        char buf[LOG_QUOTE_MAX];
        int rc;

        discard_input(imap);
        if (!tls)
                return STEP_CLOSE;
        rc = stream_start_tls(imap->s->stream, tls, &err);
        tls_context_unref(&tls);
        if (rc < 0) {
                log_event(LOG_ERROR, imap->s->name, "imap.starttls", "reason=%s", log_quote_str(buf, err.text));
                return STEP_CLOSE;
        }
        imap->s->discard_input = true;
        imap->loop->phase = PHASE_TLS_DONE;
        return STEP_HANDSHAKE;
}

/* The same for a SASL security layer (RFC 4422 3.7). */
static enum step start_layer(struct imap *imap)
{
        discard_input(imap);
        stream_start_sasl(imap->s->stream, imap->sasl);
        imap->sasl = NULL;                              /* the stream's from now on */
        imap->loop->phase = PHASE_GATHER;
        return STEP_GO;
}

/* Who sends something behind COMPRESS before the answer has come has compressed it, or is wrong (RFC 4978 3). */
static enum step start_deflate(struct imap *imap)
{
        stream_start_deflate(imap->s->stream, input(imap));
        discard_input(imap);
        imap->loop->phase = PHASE_GATHER;
        return STEP_GO;
}

/* What came through a layer behind the command was not meant for it (RFC 8437 3); what came after it in clear is the next command. */
static enum step end_layers(struct imap *imap)
{
        struct str clear = STR_INIT;

        if (stream_end_layers(imap->s->stream, &clear)) {
                discard_input(imap);
                str_append_span(&imap->s->in, str_span(&clear));
        }
        str_deinit(&clear);
        imap->loop->phase = PHASE_GATHER;
        return STEP_GO;
}

static enum step go(struct imap *imap)
{
        switch (imap->loop->phase) {
        case PHASE_GREET:
                return greet(imap);
        case PHASE_GATHER:
                return imap->loop->skip_line ? skip_line(imap) : gather(imap);
        case PHASE_LITERAL:
                return take_literal(imap);
        case PHASE_EXECUTE:
                return execute(imap);
        case PHASE_LINE:
                return take_line(imap);
        case PHASE_FINISH:
                return finish(imap);
        case PHASE_TLS_DRAINED:
                return start_tls(imap);
        case PHASE_TLS_DONE:
                discard_input(imap);
                imap->s->discard_input = false;
                imap->loop->phase = PHASE_GATHER;
                return STEP_GO;
        case PHASE_LAYER_DRAINED:
                return start_layer(imap);
        case PHASE_DEFLATE_DRAINED:
                return start_deflate(imap);
        case PHASE_END_DRAINED:
                return end_layers(imap);
        }
        return STEP_CLOSE;
}

static enum step run_phases(struct imap *imap)
{
        struct session *s = imap->s;
        enum step step = STEP_GO;

        while (step == STEP_GO) {
                if (s->out.bytes > ROPE_HIGH)
                        return STEP_FLUSH;
                if (session_slice_over(s))
                        return STEP_AGAIN;
                step = go(imap);
        }
        return step;
}

static enum step imap_run(struct session *s)
{
        struct imap *imap = imap_of(s);
        struct imap_loop *loop = imap->loop;
        unsigned woken = s->woken;
        enum step step;

        s->woken = 0;
        s->idle_ok = false;
        if (woken & WAKE_TIMER)
                loop->timer_fired = true;
        loop->bye |= woken & (WAKE_TIMEOUT | WAKE_STOP);
        if (loop->bye && !(imap->cmd.waiting && !waiter_is_done(loop->wait)) &&
            !(imap->cmd.acknowledge && acknowledge_answer(imap->cmd.acknowledge) == ACKNOWLEDGE_WAIT))
                return say_stop(imap);
        if (woken & WAKE_TOUCH) {
                telemetry_look(s, &imap->telemetry, imap->conf, imap->userid, true);
                if (loop->phase == PHASE_GATHER && shut_down(imap, true, &step))
                        return step;
        }
        step = run_phases(imap);
        str_consume(&s->in, loop->used);
        loop->used = 0;
        return step;
}

static void imap_session_open(struct session *s)
{
        struct imap_session *is = s->self;

        is->imap.s = s;
        is->imap.loop = &is->loop;
        is->imap.store = engine_store();
        is->imap.conf = engine_conf();
        is->imap.state = IMAP_NOT_AUTH;
        is->loop.phase = PHASE_GREET;
        str_init(&is->loop.tagged);
}

static void imap_session_close(struct session *s)
{
        struct imap *imap = imap_of(s);
        char user[LOG_QUOTE_MAX];

        if (imap->userid && s->stream)
                log_event(LOG_NOTE, s->name, "imap.logout", "user=%s in=%llu out=%llu seconds=%lld", log_quote_str(user, imap->userid),
                          (unsigned long long)stream_bytes_in(s->stream), (unsigned long long)stream_bytes_out(s->stream),
                          (long long)(clock_wall_s() - s->started));
        telemetry_stop(s, &imap->telemetry);
        imap_command_end(imap);
        imap_sync_close(imap);
        notify_install(imap, NULL);
        notify_open_release(imap);
        imap_unselect(imap);
        sasl_conn_destroy(&imap->sasl);
        namespace_unref(&imap->ns);
        groups_free(&imap->groups);
        free(imap->userid);
        free(imap->authid);
        conf_unref(&imap->conf);
}

const struct session_ops imap_ops = {
        .protocol = "imap",
        .too_many = "* BYE Too many connections\r\n",
        .size = sizeof(struct imap_session),
        .open = imap_session_open,
        .run = imap_run,
        .close = imap_session_close,
};
