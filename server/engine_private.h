/*
 * engine_private - what the files of the engine share: session.c (the table of sessions, their states), session_run.c (one
 * dispatch of a session by a worker), service.c, acceptor.c, engine.c, offload.c.
 *
 * The table of sessions. A slot is never freed, so that anybody may look at one by number at any time; a session is freed only by
 * the worker that runs it. All that decides who may touch a session is one atomic word in its slot:
 *
 *      generation (32) | state (4) | mask (14) | bits (14)
 *
 *      FREE      no session
 *      RUNNING   one worker has it; bits that arrive stay in the word, and keep it from parking
 *      PARKED    nobody has it; a bit that is also in `mask` makes it QUEUED, others only stay in the word
 *      QUEUED    it is in the run queue, or about to be put there by the one who made it QUEUED
 *
 * A wake is a compare-and-swap that adds bits, with the generation compared: none is lost, and none hits the wrong session.
 */
#ifndef SERVER_ENGINE_PRIVATE_H
#define SERVER_ENGINE_PRIVATE_H

#include <stdatomic.h>

#include "server/acceptor.h"
#include "server/limits.h"
#include "server/lock_order.h"
#include "server/pool.h"
#include "server/service.h"
#include "server/session.h"
#include "server/timers.h"
#include "util/lock.h"

enum {                                          /* bits of the word besides enum wake_reason's, which are the lowest six */
        EV_IN           = 1u << 6,              /* the descriptor is readable, or hung up */
        EV_OUT          = 1u << 7,              /* it is writable, or broken */
        EV_DEADLINE     = 1u << 8,              /* one of its deadlines may have come */
        EV_KILL         = 1u << 9,              /* end it without a word */
        EV_ALL          = (1u << 14) - 1,
        WAKE_ALL        = (1u << 6) - 1,
};
enum slot_state { SLOT_FREE, SLOT_RUNNING, SLOT_PARKED, SLOT_QUEUED };

struct slot {
        struct pool_item item;                  /* first: the pool hands it back */
        _Atomic uint64_t word;
        struct session *session;                /* set and cleared under info_class; its worker reads it without */
        struct timer timer;
        struct slot *next_free;                 /* guarded by slots_class */
        uint32_t index;                         /* immutable */
};

/* Why a session is not running: what has to happen before run() is called again. */
enum session_mode {
        MODE_INPUT, MODE_AGAIN, MODE_WAIT, MODE_FLUSH, MODE_DRAIN, MODE_HANDSHAKE,      /* as the steps */
        MODE_CLOSING,                           /* output is sent, then the end */
        MODE_LINGER,                            /* our end is closed; what the peer still sends is thrown away for a moment */
        MODE_BROKEN,                            /* the connection is gone; waits for what is pending */
};

struct session_engine {
        struct slot *slot;
        enum session_mode mode;
        bool opened;                            /* ops->open() was called */
        bool in_epoll;
        bool try_read;                          /* the descriptor may have something */
        bool ran_at_eof;                        /* run() has seen `eof` */
        bool news;                              /* bits came since the last run() */
        bool told;                              /* WAKE_STOP or WAKE_TIMEOUT was delivered: close_by_ms holds */
        bool blocked;                           /* output waits for the peer */
        bool discarded;                         /* `in` was discarded for this handshake */
        bool was_authenticated;
        enum stream_result wants;               /* what the stream last waited for */
        atomic_uint pending;                    /* waiters and offloads that are out */
        unsigned deferred;                      /* WAKE_STOP, WAKE_TIMEOUT, EV_KILL held back while something is pending */
        uint64_t connected_ms, active_ms, written_ms, timer_ms, close_by_ms;    /* clock_mono_ms(); 0: none */
        uint64_t dispatched_us;                 /* when this dispatch began */
        int lifeline;                           /* see struct adoption; -1: none */
        struct limits_place place;

        /* for status; guarded by info_class */
        char *user, *mailbox;                   /* NULL: none */
        char command[24];
        uint64_t idle_since_ms;                 /* when input last came; atomic, relaxed */
        uint64_t sent_ms;                       /* when output last went; atomic, relaxed */
        int64_t trace_until;                    /* engine_trace(): Unix seconds; atomic, relaxed */
        bool tls;                               /* atomic, relaxed */
};

/* Timeouts of a service in milliseconds, as options have them; 0: none. */
struct service_times { _Atomic uint64_t login, idle, write, command; };

struct service {
        struct service *next;                   /* services_class */
        struct params_version *_Atomic now;     /* the present parameters; older ones hang on it and live as long as the service */
        _Atomic unsigned connections;
        _Atomic uint64_t total;
        _Atomic unsigned refs;                  /* one for its owner, one a session */
        struct mutex lock;                      /* service_class */
        struct tls_context *tls;                /* guarded by lock; counted; NULL: none */
        struct service_times times;
        struct listener **listeners;            /* guarded by services_class */
        size_t listeners_n;
};

struct engine {
        struct engine_options options;
        struct acceptor *acceptor;
        struct pool *pool;
        atomic_bool stopping;
        uint64_t started_ms;                    /* clock_mono_ms() */
        _Atomic uint64_t accepted, refused;
        _Atomic uint64_t sessions;
        struct mutex lock;                      /* with `gone`: the end of the last session */
        struct cond gone;
        uint64_t name_base;                     /* session names begin with it: another one each start */
        _Atomic uint64_t name_next;
        _Atomic uint64_t ticked_ms;             /* when the acceptor last came round */
        uint64_t taken, taken_ms;               /* engine_gets_on()'s: what workers had taken, and when that last changed */
        uint64_t trimmed_ms, trimmed_pushed;    /* the acceptor's: when malloc_trim() was last thought of, and the work done by then */
};
/* The engine of this process: set before its threads start, NULL after they have ended. */
extern struct engine *the_engine;

/* ---- engine.c. On the acceptor's thread, now and then: housekeeping. Returns in how many milliseconds again, -1: any time. */
int engine_idle_tick(uint64_t now_ms);

/* ---- session.c */
void slot_wake(struct session_id id, unsigned bits);
/* The same for a worker, which runs what is returned at once instead of having it queued. NULL: nothing is to be run. */
struct pool_item *slot_claim(struct session_id id, unsigned bits);
void slot_timer_due(void *ctx, struct timer *timer);
/* For the worker: QUEUED → RUNNING, and the bits that came. */
unsigned slot_begin(struct slot *slot);
/* RUNNING → PARKED; false (and the bits) when some bit in `mask` is there already. After true the session is not ours. */
bool slot_park(struct slot *slot, unsigned mask, unsigned *bits_r);
void slot_requeue(struct slot *slot);           /* RUNNING → QUEUED, as continued slice */
unsigned slot_bits(struct slot *slot);          /* take what came while running */
/* Make a session for a connection and queue it. Takes fd over; returns false (it is refused and closed) when a limit is reached. adoption
 * NULL: the acceptor's own; its lifeline is taken over too. */
bool session_begin(struct service *service, int fd, const struct sockaddr_storage *peer, struct adoption *adoption);
/* RUNNING → FREE: everything goes. */
void session_end(struct session *s);
void sessions_wake_all(unsigned bits);
/* Calls fn for every session with its stripe of info_class held. */
void sessions_each(void (*fn)(void *ctx, struct session *s, enum slot_state state), void *ctx);
void info_lock(const struct slot *slot) ACQUIRE(info_class);
void info_unlock(const struct slot *slot) RELEASE(info_class);

/* The protocol's line for a client that a limit turns away; the caller closes. */
void session_refuse(struct service *service, int fd, const char *peer, const char *why);

/* ---- session_run.c */
void session_dispatch(struct pool_item *item);

/* ---- service.c */
struct service *service_ref(struct service *service);
void service_unref(struct service **service);
const struct service_times *service_times(const struct service *service);
void service_session_gone(struct service *service);
void services_close(void);                      /* all listeners of all services */
void services_free(void);
extern const struct session_ops refusal_ops;    /* says the service's refusal and closes */

/* ---- offload.c */
int offload_start(const struct engine_options *options, struct err *err);
uint64_t offload_waiting(enum offload_queue queue);     /* how many calls no thread has taken yet; 0 when stopped */
void offload_stop(void);                        /* runs what is queued, then ends the threads */

#endif
