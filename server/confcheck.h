/*
 * confcheck - imapd.conf: what its grammar lets pass and nobody can have meant. Part of `cyrd -t`, of the start and of HUP.
 */
#ifndef SERVER_CONFCHECK_H
#define SERVER_CONFCHECK_H

#include "util/conf.h"
#include "util/diag.h"

/* Adds errors (the daemon cannot go by it) and warnings (it goes on without, and says so here and in its log). */
void confcheck(const struct conf *conf, struct diag *diag);

#endif
