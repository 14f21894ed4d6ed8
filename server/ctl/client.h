/*
 * client - how cyrctl gets an operation done: through the running daemon's control socket, or with the daemon down by opening the
 * store itself under the store's lock.
 */
#ifndef SERVER_CTL_CLIENT_H
#define SERVER_CTL_CLIENT_H

#include <jansson.h>

#include "util/conf.h"
#include "util/err.h"

struct ctl_client {
        struct conf *conf;
        const char *socket;                     /* NULL: the option control_socket */
        void (*row)(void *ctx, json_t *row);                            /* borrowed */
        void (*progress)(void *ctx, uint64_t done, uint64_t total, const char *unit);
        void *ctx;
};

/* Returns 0, or -1 with err; err.code is the operation's own, ERR_UNAVAILABLE when the daemon is wanted but not there. `args` is
 * taken over. */
int ctl_client_call(struct ctl_client *client, const char *op, json_t *args, struct err *err);

#endif
