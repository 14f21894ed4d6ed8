/*
 * sync - csync inside IMAP: SYNCGET, SYNCAPPLY, SYNCRESTORE and SYNCRESTART of administrators, with X-REPLICATION in CAPABILITY. What they do is
 * known above the server (replication/server.h); it registers here, from main.c. Without, the commands are unknown and nothing is advertised.
 *
 * Their arguments are no IMAP: they hold files of any octets, without literals. So the loop takes such a command off the input as soon as its
 * name is there, and the handler gives the octets that follow to the peer (CMD_RAW in the table).
 */
#ifndef SERVER_IMAP_SYNC_H
#define SERVER_IMAP_SYNC_H

#include <stdbool.h>

#include "server/session.h"
#include "util/conf.h"
#include "util/str.h"

struct sync_peer;                               /* one connection's state of replication: staged messages, force */

enum sync_step {
        SYNC_INPUT,                             /* all octets are used, more are wanted */
        SYNC_AGAIN,                             /* the slice is over */
        SYNC_WAIT,                              /* for waiter() */
        SYNC_FLUSH,                             /* more than ROPE_HIGH is to be sent first */
        SYNC_DONE,                              /* reply() is the last line */
        SYNC_LOST,                              /* the same; and what follows cannot be told from octets of the command: the connection must end */
};

struct sync_peer_params {
        struct session *session;                /* its output gets the untagged lines */
        struct conf *conf;                      /* a reference is taken */
        const char *user;                       /* who logged in, NULL: nobody, on a Unix socket; copied */
        bool is_admin;
};
struct imap_sync_ops {
        struct sync_peer *(*open)(const struct sync_peer_params *params);
        void (*close)(struct sync_peer **peer);
        /* A command begins: "GET", "APPLY", "RESTORE", "RESTART". */
        void (*begin)(struct sync_peer *peer, const char *verb);
        /* Go on with it; `in` are the octets behind the verb, *used_r is set on any return. */
        enum sync_step (*run)(struct sync_peer *peer, struct span in, size_t *used_r);
        struct waiter *(*waiter)(struct sync_peer *peer);
        const char *(*reply)(struct sync_peer *peer);                   /* "OK success", "NO CODE text", "BAD text" */
};
/* Before the engine starts. */
void imap_register_sync(const struct imap_sync_ops *ops);
const struct imap_sync_ops *imap_sync_ops(void);                        /* NULL: none */

#endif
