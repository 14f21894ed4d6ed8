/*
 * daemon - the life of the process: command line, both configuration files, going into the background, privileges, START,
 * services, EVENTS, DAEMON, signals, the end. What serves and stores is told through a struct daemon_ops, which main.c fills in.
 *
 * Order: read both files (errors end it here, on the caller's stderr) · go into the background · bind all addresses, as root if
 * we are · pid file opened · root given up · ops.open (store, engine) · START, each waited for · DAEMON with wait · listen ·
 * pid file written, the caller told · EVENTS and DAEMON · until TERM: nobody listens, sessions and programs end, ops.close.
 * The store is opened before START: pointed at somebody else's spool the daemon ends before anything has run.
 */
#ifndef SERVER_DAEMON_H
#define SERVER_DAEMON_H

#include <stdbool.h>

#include "server/serving.h"
#include "util/conf.h"
#include "util/err.h"

struct daemon_ops {
        /* Root is given up, no thread runs yet. `live` is the daemon's; it outlives what is opened. temporary: see server/temporary.h. */
        int (*open)(struct conf_live *live, int backlog, bool temporary, struct err *err);
        /* imapd.conf was read again and is in `live`; services were changed already. */
        void (*ready)(void);                    /* every service listens */
        void (*reload)(void);
        bool (*gets_on)(void);                  /* are the threads that serve alive? Asked every few seconds when a watchdog wants to know */
        unsigned (*sessions)(void);             /* for the status that an administrator sees */
        /* Nobody listens any more: end the sessions within grace_ms, then close everything. Must work after a failed open, too. */
        void (*close)(unsigned grace_ms);
        /*
         * A tool of ours as an entry of START, EVENTS or DAEMON, inside the daemon. Returns 1: not something that is done
         * inside, run it as a program; 0: done or begun; -1 with err.
         */
        int (*job)(const struct program *p, int argc, char *const *argv, struct err *err);
        struct service_ops services;
};

/* `cyrd` or, with Cyrus's flags exactly, `master`. Returns the exit status. */
int daemon_main(int argc, char **argv, bool as_master, const struct daemon_ops *ops);

#endif
