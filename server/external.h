/*
 * external - services that are programs of their own, as Cyrus's master runs them: a process per connection, reused.
 *
 * The program gets the listening socket as descriptor 4 and accepts by itself; on descriptor 3, a pipe, it reports what it does,
 * 8 octets a message: an int in the machine's byte order, then its process id (32 bits).
 *   1 available     waits for a connection
 *   2 unavailable   accepted one and is busy
 *   3 connection    about to serve one
 *   4 connection-multi   (a program that serves many at once)
 * A new process counts as available. A process is started when somebody connects and none is available, up to maxchild, and
 * ahead of that so that `prefork` are available. One that keeps dying before it served anybody is disabled until the next HUP.
 *
 * Used by the main thread only.
 */
#ifndef SERVER_EXTERNAL_H
#define SERVER_EXTERNAL_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/masterconf.h"
#include "util/err.h"

struct external;

/* Take over one listening socket of a service. The entry is copied as far as needed. */
struct external *external_create(const struct master_entry *e, int listen_fd, const char *address, int id);
/* Change of maxchild, prefork, cmd (for processes started from now on); a disabled service is tried again. */
void external_change(struct external *x, const struct master_entry *e);
/* Close the socket, TERM its processes. They are reaped later: external_reap() must still be called until it has none. */
void external_stop(struct external *x);
void external_kill(struct external *x, int sig);
unsigned external_processes(const struct external *x);
void external_destroy(struct external **x);     /* without processes, or at the very end */

/* Fill the descriptors to wait for (at most 2); returns how many. */
#define EXTERNAL_POLLFDS 2
unsigned external_pollfds(const struct external *x, struct pollfd fds[EXTERNAL_POLLFDS]);
/* Act on what poll() said about these, and start what is due. Returns when to call again at the latest (monotonic ms), 0: not. */
uint64_t external_run(struct external *x, const struct pollfd *fds, unsigned n);
/* A child ended. Returns true when it was one of ours. */
bool external_reap(struct external *x, pid_t pid, int status);

#endif
