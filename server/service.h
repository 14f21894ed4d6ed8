/*
 * service - a line of cyrus.conf's SERVICES as it is served: listeners, protocol, flags, limits; and the engine as a whole.
 */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/session.h"
#include "util/conf.h"
#include "util/err.h"

struct store;
struct engine_options {
        struct conf_live *conf;
        struct store *store;
        unsigned workers;                       /* 0: twice the processors, at least 4 */
        bool temporary;                         /* see engine_temporary() */
        unsigned db_threads, auth_threads, disk_threads;        /* 0: 1, 4, 2 */
        int backlog;
};

/* Start acceptor, workers and the others. One engine per process. */
int engine_start(const struct engine_options *options, struct err *err);
/* Stop accepting, tell every session WAKE_STOP, wait at most grace_ms for them to leave, cut the rest off, end the threads. False: some
 * sessions wait for what does not come; their threads go on, and what they use has to stay until the process ends. */
bool engine_stop(unsigned grace_ms);
/* For what runs long on another thread: engine_stop() has begun. Any thread. */
bool engine_stopping(void);
/* Is this a daemon that serves clients who are handed over, and ends with the last of them (server/temporary.h)? */
bool engine_temporary(void);
struct store *engine_store(void);
struct conf *engine_conf(void);                 /* the present snapshot, with a reference: conf_unref() */

/* How a protocol serves a connection: made from the cmd= of cyrus.conf by the protocol's own function (server/protocols.c table). */
struct service_params {
        const char *name;                       /* the ident: cyrus.conf's name */
        const struct session_ops *ops;
        bool tls_at_once;                       /* imapd -s */
        bool preauthorized;                     /* lmtpd -a, and Unix sockets: no AUTH needed */
        bool no_password_check;                 /* imapd -N */
        bool no_quota;                          /* imapd -q */
        unsigned external_ssf;                  /* imapd -p */
        const char *refusal;                    /* protocols not built yet: one line (CRLF added), then the connection is closed */
        int maxchild;                           /* connections at once, -1: no limit; further ones wait in the backlog */
        int per_address_max;                    /* 0: the option's */
};

/* Serve an already bound and listening socket (the engine owns it from now on). Several sockets may have one service. */
int service_add(const struct service_params *params, struct service **service_r, struct err *err);
int service_listen(struct service *service, int fd, struct err *err);
/* Stop listening on all of the service's sockets; its sessions live on. */
void service_close_listeners(struct service *service);
void service_remove(struct service **service);  /* closes listeners; freed when its last session is gone */
void service_update(struct service *service, const struct service_params *params);      /* HUP: for new connections */
/*
 * Serve a connection that came another way (SCM_RIGHTS, tests with a socketpair), within all limits of the service; who is turned away has
 * been told. The descriptors are taken over, whatever happens. ERR_LIMIT: turned away; ERR_CANCELLED: the daemon is stopping.
 */
struct adoption {
        int fd;                                 /* a connected stream socket */
        int lifeline;                           /* closed when the session has ended, so that somebody may wait for that; -1: none */
        bool listened;                          /* a listening socket gave it: its peer is what it seems. Otherwise a Unix socket says nothing
                                                 * about who is at its other end, and is no reason for trust. */
        char name_r[20];                        /* the session's name in logs */
};
int service_adopt(struct service *service, struct adoption *a, struct err *err);
/* A service with this name, protocol, flags and maxchild `params->maxchild` as far as one must be made: for connections that are adopted. With a
 * reference: service_release(). May read certificates: not on a worker. */
int service_for(const struct service_params *params, struct service **service_r, struct err *err);
void service_release(struct service **service);

const char *service_name(const struct service *service);
const struct service_params *service_params(const struct service *service);
struct tls_context *service_tls(struct service *service);       /* counted reference or NULL: TLS is not configured */
/* HUP: certificates and options are read again; running sessions keep theirs. Errors are logged, the old ones stay. */
void services_reload(void);

/* The listening TLS context etc. of a service, for the CAPABILITY line. */
bool service_has_tls(struct service *service);

struct session_info {                           /* cyrctl sessions */
        struct session_id id;
        char name[20], protocol[12], service[32], peer[72], user[128], mailbox[200], command[40];
        int64_t started;
        uint64_t bytes_in, bytes_out;
        bool tls, parked;
        uint32_t idle_s;                        /* since the client last said something */
        uint64_t quiet_ms;                      /* since octets last went either way */
        int64_t trace_until;                    /* see engine_trace() */
};
/* Calls fn for each session, from a copy: no engine lock is held during fn. */
void engine_each_session(void (*fn)(void *ctx, const struct session_info *info), void *ctx);
/* End a session by its log name; false: none. */
bool engine_kick(const char *name);
/* Record a session (server/telemetry.h) until that Unix time, INT64_MAX: to its end, 0: no longer. It takes notice at once. False: no such
 * session, or one of cyrctl's. */
bool engine_trace(const char *name, int64_t until_s);
/* Every session of this user looks around (WAKE_TOUCH). Returns how many there are. */
unsigned engine_touch_user(const char *userid);

/*
 * Does the engine get on? False: its acceptor has not come round for limit_ms, or sessions wait and no worker has taken one for so long: threads
 * that are stuck, which no client can cause. One thread at a time, at least every few seconds.
 */
bool engine_gets_on(uint64_t limit_ms);

struct engine_stats {
        uint64_t sessions, parked, queued, running, accepted_total, refused_total, wakes_total, workers, workers_busy;
        uint64_t services, run_queue;
};
void engine_stats(struct engine_stats *stats_r);
void engine_each_service(void (*fn)(void *ctx, const char *name, const char *protocol, unsigned connections, uint64_t total), void *ctx);

#endif
