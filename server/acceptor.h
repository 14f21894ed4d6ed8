/*
 * acceptor - the thread that owns listening sockets and the timer wheel, and the set of parked connections (epoll, one-shot).
 *
 * It accepts, and turns due timers into session wakes; it never reads or writes a connection, so nothing a client does can hold it.
 * Workers arm their session's descriptor themselves (epoll_ctl is thread-safe). The data of an event is slot and generation: one that
 * comes for a session that is gone hits nothing.
 *
 * For events of parked connections the workers that have nothing to do wait themselves, the last one to come first, and run the session at
 * once: an answer takes one change of threads instead of two. While none of them waits the acceptor does, and puts sessions
 * into the run queue.
 *
 * Out of descriptors (EMFILE, ENFILE): cached descriptors of the store are given up; if that is not enough, waiting connections are
 * accepted on a spare descriptor and closed, and the listener pauses for a moment. Logged once a minute; never spins.
 */
#ifndef SERVER_ACCEPTOR_H
#define SERVER_ACCEPTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "server/session.h"
#include "server/timers.h"
#include "util/err.h"

struct acceptor;
struct listener;

int acceptor_create(struct acceptor **a_r, struct err *err);
int acceptor_start(struct acceptor *a, struct err *err);
void acceptor_stop(struct acceptor *a);         /* ends the thread; arming and timers work on, without effect */
void acceptor_destroy(struct acceptor **a);

/* A session's descriptor: epoll events, one-shot. `added` says whether it is in the set already. */
int acceptor_arm(struct acceptor *a, int fd, struct session_id id, uint32_t events, bool *added, struct err *err);
/* Before it is closed: another process may hold the same socket (SCM_RIGHTS), and then closing would not take it out of the set. */
void acceptor_disarm(struct acceptor *a, int fd);
struct timers *acceptor_timers(struct acceptor *a);

/* For the pool (struct pool_ops); ctx is the acceptor. */
struct pool_item;
struct pool_item *acceptor_wait_session(void *ctx);
void acceptor_kick_worker(void *ctx);
void acceptor_watch_sessions(void *ctx);        /* on the acceptor's thread, until a worker waits again */

/*
 * A listening socket: non-blocking from now on, the acceptor's to close. Both functions are called on the acceptor's thread with
 * listeners_class held. When ready() says no (maxchild), connections stay in the backlog until acceptor_resume().
 */
struct accept_ops {
        bool (*ready)(void *ctx);
        void (*accepted)(void *ctx, int fd, const struct sockaddr_storage *peer, socklen_t peer_len);   /* takes fd over */
};
int acceptor_listen(struct acceptor *a, int fd, const struct accept_ops *ops, void *ctx, struct listener **l_r, struct err *err)
        EXCLUDES(listeners_class);
void acceptor_resume(struct acceptor *a, struct listener *l) EXCLUDES(listeners_class);
/* Closes. When it returns, neither function is running, nor will be called again. */
void acceptor_unlisten(struct acceptor *a, struct listener **l) EXCLUDES(listeners_class);

#endif
