/*
 * session - one client's connection and its conversation, whatever the protocol.
 *
 * A session is run by one worker at a time; its protocol code takes no locks. It is parked whenever it would wait: its run()
 * function returns what it waits for, and is called again when that is there. An idle parked session holds no buffers.
 *
 * run() is called when (a) octets were added to `in`, (b) something woke the session (`woken` tells what), (c) output went below
 * its mark after STEP_FLUSH, (d) a slice is over after STEP_AGAIN, (e) once at the start to greet. It consumes from `in` with
 * str_consume(), appends to `out`, and returns a step:
 */
#ifndef SERVER_SESSION_H
#define SERVER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "server/rope.h"
#include "server/stream.h"
#include "util/arena.h"
#include "util/err.h"
#include "util/str.h"
#include "util/waiter.h"

enum step {
        STEP_INPUT,             /* all of `in` that can be used is used: more is needed, or there is nothing to do. Output is flushed. */
        STEP_AGAIN,             /* the slice is over (SLICE_MS): let others run, then go on */
        STEP_WAIT,              /* until session_wake(): a commit, another thread. Input is not read meanwhile. */
        STEP_FLUSH,             /* more than ROPE_HIGH is waiting: go on when the peer has read most of it */
        STEP_DRAIN,             /* go on when all output is sent (before STARTTLS, COMPRESS) */
        STEP_HANDSHAKE,         /* `stream` has a TLS handshake to do: call again when it is done; the engine discards `in` first */
        STEP_CLOSE,             /* send what is waiting, then end the session */
};

#define SLICE_MS 10                             /* what one run() may take; see session_slice_over() */
#define SESSION_IN_MAX ((size_t)64 * 1024)      /* the engine stops reading when `in` holds this much that run() did not use;
                                                 * raised by the protocol through `in_max` */

enum wake_reason {
        WAKE_NEWS       = 1u << 0,              /* something was published in the watched mailbox; low priority, coalesced */
        WAKE_DONE       = 1u << 1,              /* a waiter or an offloaded call is done */
        WAKE_TIMER      = 1u << 2,              /* the protocol's own timer (session_timer()) */
        WAKE_TIMEOUT    = 1u << 3,              /* login or idle timeout: say goodbye and return STEP_CLOSE */
        WAKE_STOP       = 1u << 4,              /* the daemon drains or an admin ended the session: say goodbye, STEP_CLOSE */
        WAKE_TOUCH      = 1u << 5,              /* look around: configuration, telemetry, shutdown file */
};

struct conf;
struct session;
struct service;

struct session_ops {
        const char *protocol;                   /* "imap", "lmtp", …: for logs and status */
        size_t size;                            /* octets of the protocol's own struct, zeroed, in session->self */
        void (*open)(struct session *s);        /* before the first run() */
        enum step (*run)(struct session *s);
        void (*close)(struct session *s);       /* release everything; called once, never while a waiter or offload is pending */
        /* For a client that a limit turns away before there is a session: a line with its CRLF ("* BYE Too many connections\r\n");
         * NULL: just closed. */
        const char *too_many;
        /* One line for status: what it does now ("SELECT user.joe", "IDLE"). Called by another thread only through `status_text`. */
};

/* Names a session for other threads without keeping it alive: a slot and its generation. An event for a session that is gone
 * hits nothing. */
struct session_id { uint32_t slot, generation; };

struct session {
        /* the protocol's: set by it, read by the engine */
        void *self;                             /* session_ops.size octets */
        struct str in;                          /* not yet used input */
        struct rope out;
        struct stream *stream;
        struct arena arena;                     /* the present command's; the protocol resets it */
        size_t in_max;                          /* 0: SESSION_IN_MAX */
        unsigned woken;                         /* WAKE_… since the last run(); run() clears what it has seen */
        bool eof;                               /* the peer has ended its direction; `in` has the last octets */
        bool idle_ok;                           /* waits between commands (or in IDLE): idle timeout applies, else the write/command one */
        bool authenticated;                     /* login timeout no longer applies */
        uint32_t timeout_s;                     /* idle timeout; 0: the service's */
        bool discard_input;                     /* set with STEP_HANDSHAKE: what was pipelined is thrown away */

        /* the engine's: the protocol only reads */
        const struct session_ops *ops;
        struct service *service;
        struct session_id id;
        char name[20];                          /* the session id of logs */
        char peer[72];                          /* "127.0.0.1:3456", "[::1]:99", "unix" */
        char local[72];
        bool peer_is_unix;
        int64_t started;                        /* Unix seconds */
        uint64_t slice_end_us;
        struct session_engine *engine;          /* private */
};

/* From any thread, at any time. */
void session_wake(struct session_id id, unsigned reasons);

/* True when run() should return STEP_AGAIN. Cheap. */
bool session_slice_over(const struct session *s);

/* Ask for WAKE_TIMER in `ms` milliseconds (0: cancel). One at a time. Idle and login timeouts are the engine's. */
void session_timer(struct session *s, uint32_t ms);

/* A waiter that wakes this session with WAKE_DONE. The session is not closed before it is done. Use: session_waiter(s, &w), hand
 * &w to the store; if the store takes it on, return STEP_WAIT until waiter_is_done(&w); if it refuses (-1), session_waiter_cancel(). */
void session_waiter(struct session *s, struct waiter *w);
void session_waiter_cancel(struct session *s, struct waiter *w);

/*
 * Run fn(arg) on a thread that may block (database, password checks), then WAKE_DONE with *done set. The session is not closed
 * before it is done, so `arg` may live in the session's arena. Queues are bounded; order within a queue is first come first
 * served over its threads.
 */
enum offload_queue {
        OFFLOAD_DB,                             /* transactions: a matter of milliseconds, seconds at most */
        OFFLOAD_AUTH,                           /* password checks */
        OFFLOAD_DISK,                           /* opening mailboxes */
        OFFLOAD_CONTROL,                        /* cyrctl's operations: a check of everything takes hours, and nobody else waits for it */
        OFFLOAD_CALLOUT,                        /* annotation_callout: a program of somebody else's, that may take its time */
        OFFLOAD_CALLOUT_AGAIN,                  /* the same for XRUNANNOTATOR: mail that comes in does not wait behind it */
        OFFLOAD_REPLICATION,                    /* what masters send: a whole mailbox at a time */
        OFFLOAD_QUEUES
};
struct offload {
        void (*fn)(void *arg);
        void *arg;
        struct waiter waiter;                   /* waiter_is_done(): fn has returned */
        struct offload *next;
};
void session_offload(struct session *s, struct offload *job, enum offload_queue queue, void (*fn)(void *arg), void *arg);
/* Not for a session: a detached call on such a thread. `job` is freed by the engine after fn. */
void engine_call(enum offload_queue queue, void (*fn)(void *arg), void *arg);

/* Whether this session is to be recorded by itself (engine_trace()): until when, in Unix seconds; 0: not. */
int64_t session_trace_until(const struct session *s);

/* For status and control: user and a short text are copied under the engine's lock. Cheap enough for each command. */
void session_set_user(struct session *s, const char *user);
void session_set_status(struct session *s, const char *mailbox_or_null, const char *command);

/* A log-in within maxlogins_per_user and maxlogins_per_host, which do not concern an admin? True: it counts from now on, until the session
 * ends or session_set_user() says otherwise. See limits_login(). False: err (ERR_LIMIT). */
bool session_login(struct session *s, const struct conf *conf, const char *user, bool is_admin, struct err *err);

#endif
