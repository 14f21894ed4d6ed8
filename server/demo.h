/*
 * demo - `cyrd --demo DIR`, what `make run` starts: a server on loopback that needs no configuration. On first use the directory
 * is filled: both configuration files, a self-signed certificate, accounts admin, alice and bob with passwords of its own.
 * As root the user cyrus is made if need be; where that user cannot reach DIR (a clone below /root), DIR becomes a link to a
 * directory in /var/lib.
 */
#ifndef SERVER_DEMO_H
#define SERVER_DEMO_H

#include "server/options.h"
#include "util/err.h"

/* Before threads. Fills in the paths of both files in `options`. */
int demo_prepare(struct daemon_options *options, struct err *err);
/* Print how to connect. portbase -1: the usual ports. */
void demo_say_ready(const char *dir, int portbase);

#endif
