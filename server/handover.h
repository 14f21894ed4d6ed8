/*
 * handover - a service program of Cyrus (imapd, pop3d, lmtpd …) that was started with a client, or with a socket to take clients from: by
 * inetd, a systemd unit for each connection, a tunnel (ssh host imapd), another master. It serves nobody itself: the client's socket goes to
 * the running daemon (server/control/ops_handover.c), and where none runs to a temporary one that it starts (server/temporary.h).
 *
 *   a connected socket on descriptor 0     is handed over; the program lives until the session has ended, so that who started it can count
 *   pipes, a terminal on 0 and 1           one end of a socket pair is handed over, and what comes and goes is copied
 *   a listening socket on 4, with a pipe for its state on 3 and CYRUS_SERVICE in the environment (a master);
 *   a listening socket on 0 (inetd, wait)  clients are accepted and handed over, one after the other
 *   descriptor 3 of systemd (LISTEN_FDS=1) instead of 0
 *
 * Only root and cyrus_user may hand over. Who has neither, and whoever cannot be served, is told so in the protocol's own form.
 */
#ifndef SERVER_HANDOVER_H
#define SERVER_HANDOVER_H

#include "server/daemon.h"
#include "server/names.h"

/* Returns the exit status. */
int handover_main(const struct program *p, int argc, char **argv, const struct daemon_ops *ops);

#endif
