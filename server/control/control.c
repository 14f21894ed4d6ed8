/*
 * control - cyrctl's socket: one JSON object a line.
 *   request   {"op": "mailbox.create", "args": {…}}
 *   reply     {"row": {…}} …   {"progress": {"done": n, "total": n, "unit": "…"}} …
 *             {"ok": true}  or  {"ok": false, "code": "notfound", "error": "…"}
 * Descriptors that come with a request (SCM_RIGHTS) are the operation's: handover.
 * Who may connect is the socket's mode (0600, the daemon's user) – there is no other authentication. The operation runs on a
 * thread for such operations; its rows pass through a bounded buffer, so that one who does not read holds up only its own operation, and not
 * for longer than STALL_S.
 */
#include "server/control/ops.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/protocols.h"
#include "server/service.h"
#include "server/session.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/must.h"

#define REQUEST_MAX ((size_t)256 << 20)          /* a message to import is one line, in base64 */
#define BUFFER_MAX  ((size_t)256 * 1024)
#define STALL_S     30
#define PROGRESS_MS 200

struct control {
        struct session *s;
        struct offload job;
        pthread_t thread;                       /* of an operation that is CTL_LONG */
        bool running, own_thread;
        const struct ctl_op *op;
        json_t *request;
        struct ctl_call call;
        struct err err;
        int rc;
        size_t scanned;                         /* octets of s->in without a line end */
        uint64_t progress_ms;                   /* when progress was last told; the job's */

        struct mutex lock;
        struct cond drained;
        struct str buffer;                      /* under lock: from the job, for the session's rope */
        bool cancelled;                         /* under lock */
};

static void emit(struct control *c, json_t *object)
{
        char *text = json_dumps(object, JSON_COMPACT);
        uint64_t deadline = clock_mono_ms() + STALL_S * 1000;

        json_decref(object);
        if (!text)
                return;
        mutex_lock(&c->lock);
        while (c->buffer.len > BUFFER_MAX && !c->cancelled)
                if (!cond_wait_until(&c->drained, &c->lock, deadline))
                        c->cancelled = true;
        if (!c->cancelled) {
                str_append_str(&c->buffer, text);
                str_append_c(&c->buffer, '\n');
        }
        mutex_unlock(&c->lock);
        free(text);
        session_wake(c->s->id, WAKE_TOUCH);
}

static void on_row(struct ctl_call *call, json_t *row)
{
        /* jansson makes nothing of octets that are no UTF-8: that is a row missing, not the end of the daemon. */
        emit(call->ctx, row ? json_pack("{s:o}", "row", row)
                            : json_pack("{s:{s:s}}", "row", "error", "a row that is not valid UTF-8"));
}

static void on_progress(struct ctl_call *call, uint64_t done, uint64_t total, const char *unit)
{
        struct control *c = call->ctx;
        uint64_t now = clock_mono_ms();

        if (now - c->progress_ms < PROGRESS_MS)
                return;
        c->progress_ms = now;
        emit(c, json_pack("{s:{s:I, s:I, s:s}}", "progress", "done", (json_int_t)done, "total", (json_int_t)total, "unit", unit));
}

/*
 * Has the one who asked hung up? A session is not told while a job is out, and an operation that says nothing for half an hour writes nothing that
 * could fail. One that only has no more to ask is still there.
 */
static bool is_gone(const struct control *c)
{
        struct pollfd p = { .fd = stream_fd(c->s->stream) };    /* stays open while the job is out */

        return poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR);
}

static bool is_cancelled(struct ctl_call *call)
{
        struct control *c = call->ctx;
        bool gone = c->op->flags & CTL_LONG && is_gone(c), yes;

        mutex_lock(&c->lock);
        c->cancelled |= gone || engine_stopping();              /* a session hears of it only when nothing is pending */
        yes = c->cancelled;
        mutex_unlock(&c->lock);
        return yes;
}

static void run_op(void *arg)
{
        struct control *c = arg;

        c->rc = c->op->fn(&c->call, &c->err);
}

/* ---- threads for operations that may take hours: the few that all share would be taken for as long ---- */

#define LONG_MAX 32u                            /* at a time */
#define LONG_STACK ((size_t)1024 * 1024)
static atomic_uint long_ones;

static void *run_long_op(void *arg)
{
        struct control *c = arg;

        run_op(c);
        atomic_fetch_sub(&long_ones, 1);
        waiter_done(&c->job.waiter, NULL);
        return NULL;
}

/* On a thread of its own. -1: there can be none now. */
static int begin_long_op(struct control *c)
{
        if (atomic_fetch_add(&long_ones, 1) >= LONG_MAX) {
                atomic_fetch_sub(&long_ones, 1);
                return -1;
        }
        session_waiter(c->s, &c->job.waiter);
        c->own_thread = thread_start(&c->thread, "operation", LONG_STACK, run_long_op, c) == 0;
        if (!c->own_thread) {
                session_waiter_cancel(c->s, &c->job.waiter);
                atomic_fetch_sub(&long_ones, 1);
        }
        return c->own_thread ? 0 : -1;
}

static void reply(struct control *c, json_t *object)
{
        char *text = json_dumps(object, JSON_COMPACT);

        json_decref(object);
        if (text) {
                rope_append_str(&c->s->out, text);
                rope_append_str(&c->s->out, "\n");
        }
        free(text);
}

static void reply_error(struct control *c, const char *code, const char *text)
{
        json_t *object = json_pack("{s:b, s:s, s:s}", "ok", 0, "code", code, "error", text);

        if (!object)                                    /* a text cut within a character */
                object = json_pack("{s:b, s:s, s:s}", "ok", 0, "code", code, "error", "failed; see the log");
        reply(c, object);
}

/* `all`: the operation is over, so what is left goes out before its last line. */
static void take_buffer(struct control *c, bool all)
{
        mutex_lock(&c->lock);
        if ((all || c->s->out.bytes < ROPE_HIGH) && c->buffer.len) {
                rope_append(&c->s->out, c->buffer.data, c->buffer.len);
                str_clear(&c->buffer);
                cond_broadcast(&c->drained);
        }
        mutex_unlock(&c->lock);
}

/* What an operation left of the descriptors that came with its request. */
static void drop_fds(struct control *c)
{
        for (int i = 0; i < STREAM_FDS; i++) {
                if (c->call.fds[i] >= 0)
                        close(c->call.fds[i]);
                c->call.fds[i] = -1;
        }
}

/* Who changed what: the words of the request that name something. */
static void log_done(struct control *c)
{
        static const char *const named[] = { "user", "mailbox", "name", "target", "root", "pattern", "entry", "identifier", "rights", "partition" };
        char quoted[LOG_QUOTE_MAX];
        struct str what = STR_INIT;

        for (size_t i = 0; i < ARRAY_LEN(named); i++) {
                const char *value = ctl_arg(&c->call, named[i]);

                if (value)
                        str_printf(&what, " %s=%s", named[i], log_quote_str(quoted, value));
        }
        log_event(LOG_NOTE, c->s->name, "control.done", "op=%s uid=%u%.*s result=%s", c->op->name, (unsigned)c->call.peer_uid, (int)what.len,
                  what.len ? what.data : "", c->rc == 0 ? "ok" : log_quote_str(quoted, c->err.text));
        str_deinit(&what);
}

static void finish(struct control *c)
{
        take_buffer(c, true);
        if (c->own_thread)
                must(pthread_join(c->thread, NULL) == 0);       /* it has said that it is done: there is nothing left to wait for */
        c->own_thread = false;
        if (c->cancelled && c->rc == 0 && !(c->op->flags & CTL_QUICK))         /* something is missing: that is not "ok" */
                c->rc = err_set(&c->err, ERR_CANCELLED, "cut short: the reply was not read in time, or the server is going down");
        if (c->rc == 0)
                reply(c, json_pack("{s:b}", "ok", 1));
        else
                reply_error(c, err_code_name(c->err.code), c->err.text);
        if (!(c->op->flags & CTL_READS) && !(c->op->flags & CTL_QUIET && c->rc == 0))
                log_done(c);
        conf_unref(&c->call.conf);
        drop_fds(c);
        json_decref(c->request);
        c->request = NULL;
        c->running = false;
}

static uid_t peer_uid(const struct session *s)
{
        struct ucred who;
        socklen_t len = sizeof who;

        return getsockopt(stream_fd(s->stream), SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 ? who.uid : (uid_t)-1;
}

static void begin(struct control *c, struct span line)
{
        json_error_t error;
        json_t *args;
        const char *op;

        c->request = json_loadb(line.p, line.len, JSON_REJECT_DUPLICATES, &error);
        op = json_string_value(json_object_get(c->request, "op"));
        c->op = op ? ctl_op_find(op) : NULL;
        args = json_object_get(c->request, "args");
        if (!c->op || (args && !json_is_object(args))) {
                reply_error(c, "syntax", !c->request ? error.text : op ? "no such operation" : "no \"op\"");
                json_decref(c->request);
                c->request = NULL;
                for (int fd; (fd = stream_take_fd(c->s->stream)) >= 0;)
                        close(fd);
                return;
        }
        if (!args)
                json_object_set_new(c->request, "args", args = json_object());
        c->call = (struct ctl_call){ .store = engine_store(), .conf = engine_conf(), .in_daemon = true, .args = args, .row = on_row,
                                     .progress = on_progress, .cancelled = is_cancelled, .ctx = c, .peer_uid = peer_uid(c->s) };
        for (int i = 0; i < STREAM_FDS; i++)
                c->call.fds[i] = stream_take_fd(c->s->stream);
        err_clear(&c->err);
        c->cancelled = false;                   /* no job runs: nobody else looks at it */
        c->running = true;
        session_set_status(c->s, NULL, c->op->name);
        if (c->op->flags & CTL_LONG && begin_long_op(c) == 0)
                return;
        if (c->op->flags & CTL_LONG) {
                c->rc = err_set(&c->err, ERR_BUSY, "too many long operations run already");
                finish(c);
                return;
        }
        session_offload(c->s, &c->job, c->op->flags & CTL_QUICK ? OFFLOAD_DISK : OFFLOAD_CONTROL, run_op, c);
}

static void control_open(struct session *s)
{
        struct control *c = s->self;

        c->s = s;
        stream_accept_fds(s->stream);
        for (int i = 0; i < STREAM_FDS; i++)
                c->call.fds[i] = -1;
        mutex_init(&c->lock);
        cond_init(&c->drained);
        str_init(&c->buffer);
        s->authenticated = true;
        s->idle_ok = true;
        s->in_max = REQUEST_MAX;
}

static enum step control_run(struct session *s)
{
        struct control *c = s->self;
        unsigned woken = s->woken;

        s->woken = 0;
        for (;;) {
                char *end;
                size_t len;

                if (c->running) {
                        s->idle_ok = false;
                        if (woken & (WAKE_STOP | WAKE_TIMEOUT)) {
                                mutex_lock(&c->lock);
                                c->cancelled = true;
                                cond_broadcast(&c->drained);
                                mutex_unlock(&c->lock);
                        }
                        take_buffer(c, false);
                        if (!waiter_is_done(&c->job.waiter))
                                return s->out.bytes > ROPE_HIGH ? STEP_FLUSH : STEP_WAIT;
                        finish(c);
                }
                if (woken & (WAKE_STOP | WAKE_TIMEOUT))
                        return STEP_CLOSE;
                s->idle_ok = true;
                end = memchr(s->in.data + c->scanned, '\n', s->in.len - c->scanned);
                if (!end) {
                        c->scanned = s->in.len;
                        if (s->in.len >= REQUEST_MAX) {
                                reply_error(c, "limit", "the request is too long");
                                return STEP_CLOSE;
                        }
                        return s->eof ? STEP_CLOSE : STEP_INPUT;
                }
                c->scanned = 0;
                len = (size_t)(end - s->in.data);
                begin(c, (struct span){ s->in.data, len });
                str_consume(&s->in, len + 1);
        }
}

static void control_close(struct session *s)
{
        struct control *c = s->self;

        if (c->own_thread)                              /* the connection broke: nobody came to finish() */
                must(pthread_join(c->thread, NULL) == 0);
        if (c->running)
                conf_unref(&c->call.conf);
        drop_fds(c);
        json_decref(c->request);
        str_deinit(&c->buffer);
        cond_deinit(&c->drained);
        mutex_deinit(&c->lock);
}

const struct session_ops control_ops = {
        .protocol = "control", .size = sizeof(struct control), .open = control_open, .run = control_run, .close = control_close,
};
