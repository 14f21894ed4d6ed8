/*
 * services - the services of cyrus.conf that are being offered: bound, listening, handed to the engine or to a program of their
 * own, and compared with a new reading at HUP. Used by the main thread only.
 */
#ifndef SERVER_SERVICES_H
#define SERVER_SERVICES_H

#include <poll.h>
#include <stdint.h>
#include <sys/types.h>

#include "server/bind.h"
#include "server/identity.h"
#include "server/masterconf.h"
#include "server/names.h"
#include "util/conf.h"

/* Who serves the programs that are built in (main.c fills this in with the engine). */
struct service_ops {
        void *context;
        /* Serve: the sockets listen already. Takes over the descriptors it wants and sets them to -1. `conf` is borrowed: the
         * configuration of this service, from its -C or the daemon's. */
        int (*add)(void *context, const struct master_entry *e, const struct program *p, const struct service_args *args,
                   struct conf *conf, struct bound *b, struct err *err);
        /* The same name and address with other flags, limits or options: for connections from now on. */
        int (*change)(void *context, const struct master_entry *e, const struct program *p, const struct service_args *args,
                      struct conf *conf, struct err *err);
        /* Accept no more; sessions go on. Closes the sockets it took over. */
        void (*remove)(void *context, const char *name);
};

struct services;

struct services *services_create(const struct service_ops *ops, const struct identity *id, int backlog);
void services_destroy(struct services **s);

/* Check what the grammar cannot: arguments of known programs, protocols. For -t, start and HUP alike. */
void services_check(const struct masterconf *mc, const struct conf *conf, struct diag *diag);

/* The start, first half: bind all. A failure is logged, the service left out; with `fatal` (master_bind_errors_fatal) -1. */
int services_bind(struct services *s, const struct masterconf *mc, bool fatal, struct err *err);
/* The second half: listen and serve. */
int services_listen(struct services *s, struct conf *conf, bool fatal, struct err *err);
/* HUP: make it so. The new reading must live until the next call or the end. Failures are logged. */
void services_reload(struct services *s, const struct masterconf *mc, struct conf *conf);
/* The end: nobody listens any more, programs get TERM. */
void services_stop(struct services *s);
void services_kill_programs(struct services *s, int sig);
unsigned services_programs(const struct services *s);   /* processes that still run */
size_t services_listening(const struct services *s);

/* Waiting for programs' sockets: fill at most `max` entries, give them back after poll(). */
size_t services_pollfds(const struct services *s, struct pollfd *fds, size_t max);
size_t services_pollfds_max(const struct services *s);
uint64_t services_run(struct services *s, const struct pollfd *fds, size_t n);
bool services_reap(struct services *s, pid_t pid, int status);

#endif
