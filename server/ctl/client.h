/*
 * client - how cyrctl gets an operation done: through the running daemon's control socket, or with the daemon down by opening the
 * store itself under the store's lock.
 */
#ifndef SERVER_CTL_CLIENT_H
#define SERVER_CTL_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "server/stream.h"
#include "util/conf.h"
#include "util/err.h"

struct store;

struct ctl_client {
        struct conf *conf;
        const char *config;                     /* -C; NULL: the usual imapd.conf */
        const char *socket;                     /* NULL: the option control_socket */
        bool json;                              /* for commands that show things themselves: rows are wanted */
        void (*row)(void *ctx, json_t *row);                            /* borrowed */
        void (*progress)(void *ctx, uint64_t done, uint64_t total, const char *unit);
        void (*waiting)(void *ctx);             /* a second has passed without an answer; NULL: nobody wants to know */
        void *ctx;
        int send_fds[STREAM_FDS];               /* descriptors that go along with the next call to a daemon; they stay ours */
        unsigned send_fds_n;
        /* Between ctl_client_open() and close. */
        int fd;                                 /* 0: not open */
        pid_t child;                            /* 0: at the other end is the daemon */
};

/* What layers above do about a store that is opened here, in this process: main() sets it, before anything else. All may be NULL. */
struct ctl_store_hooks {
        int (*opened)(struct store *store, struct conf *conf, struct err *err);
        void (*closing)(void);
        void (*closed)(void);
};
void ctl_client_set_hooks(const struct ctl_store_hooks *hooks);

/* Returns 0, or -1 with err; err.code is the operation's own, ERR_UNAVAILABLE when the daemon is wanted but not there. `args` is
 * taken over. */
int ctl_client_call(struct ctl_client *client, const char *op, json_t *args, struct err *err);

/*
 * For many calls one after the other: connect once, or with the daemon down have a child of ours open the store once, as the daemon's user –
 * this process stays who it is. ctl_client_call() then uses that. Returns 0, or -1 with err. ctl_client_close() ends it, and waits until the
 * store is closed; needed after a failure too, never wrong.
 */
int ctl_client_open(struct ctl_client *client, struct err *err);
/* For many calls to the running daemon, which must be there (ERR_UNAVAILABLE). */
int ctl_client_connect(struct ctl_client *client, struct err *err);
void ctl_client_close(struct ctl_client *client);

#endif
