/*
 * temporary - a daemon that nobody started as such: a service program with a client and no daemon to hand it to (server/handover.h) has one
 * made. It opens the store and the control socket, listens to no port, takes every further client that is handed over, and ends when the last
 * one has left. A cyrd that starts asks it to make way.
 */
#ifndef SERVER_TEMPORARY_H
#define SERVER_TEMPORARY_H

#include <stdbool.h>

#include "server/daemon.h"

/*
 * Start one as a child that is on its own from then on, and wait until clients can be handed over. No thread runs in this process, which is
 * the daemon's user already. Returns 0, or -1 with err; ERR_BUSY: somebody else has the store, perhaps a daemon that is just starting.
 */
int temporary_start(struct conf *conf, const struct daemon_ops *ops, struct err *err);
/* Ask the daemon that runs with this configuration to end if it is a temporary one. True: it will. */
bool temporary_make_way(struct conf *conf);

#endif
