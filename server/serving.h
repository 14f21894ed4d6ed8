/*
 * serving - the services of cyrus.conf that are being offered: bound, listening, handed to the engine or to a program of their
 * own, and compared with a new reading at HUP. Used by the main thread only.
 */
#ifndef SERVER_SERVING_H
#define SERVER_SERVING_H

#include <poll.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/bind.h"
#include "server/identity.h"
#include "server/masterconf.h"
#include "server/names.h"
#include "util/conf.h"
#include "util/diag.h"

/* Who serves the programs that are built in (main.c fills this in with the engine). */
struct service_ops {
        void *context;
        /* Serve: the sockets listen already. Takes over the descriptors it wants and sets them to -1. */
        int (*add)(void *context, const struct master_entry *e, const struct program *p, const struct service_args *args,
                   struct bound *b, struct err *err);
        /* The same name and address with other flags, limits or options: for connections from now on. */
        int (*change)(void *context, const struct master_entry *e, const struct program *p, const struct service_args *args,
                      struct err *err);
        /* Accept no more; sessions go on. Closes the sockets it took over. */
        void (*remove)(void *context, const char *name);
};

struct serving;

/* The ops must live as long. */
struct serving *serving_create(const struct service_ops *ops, const struct identity *id, int backlog);
void serving_destroy(struct serving **s);

/* Check what the grammar cannot: arguments of known programs, protocols. For -t, start and HUP alike. */
void serving_check(const struct masterconf *mc, const struct conf *conf, struct diag *diag);

/* The start, first half: bind all (a Unix socket whose directory is missing: in the second half). A failure is logged, the service
 * left out; with `fatal` (master_bind_errors_fatal) -1. */
int serving_bind(struct serving *s, const struct masterconf *mc, bool fatal, struct err *err);
/* The second half: listen and serve. */
int serving_listen(struct serving *s, bool fatal, struct err *err);
/* HUP: make it so. The new reading must live until the next call or the end. Failures are logged. */
void serving_reload(struct serving *s, const struct masterconf *mc);
/* The end: nobody listens any more, programs get TERM. */
void serving_stop(struct serving *s);
void serving_kill_programs(struct serving *s, int sig);
unsigned serving_programs(const struct serving *s);   /* processes that still run */
size_t serving_listening(const struct serving *s);

/* Waiting for programs' sockets: fill at most `max` entries, give them back after poll(). */
size_t serving_pollfds(const struct serving *s, struct pollfd *fds, size_t max);
size_t serving_pollfds_max(const struct serving *s);
uint64_t serving_run(struct serving *s, const struct pollfd *fds, size_t n);
bool serving_reap(struct serving *s, pid_t pid, int status);

#endif
