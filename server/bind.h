/*
 * bind - the addresses of a service: resolved and bound (as root, if need be) first, listened on later, when START is done.
 * Between the two a client is refused. One thread at a time.
 */
#ifndef SERVER_BIND_H
#define SERVER_BIND_H

#include <stdbool.h>
#include <stddef.h>

#include "server/masterconf.h"
#include "util/err.h"

#define BIND_SOCKETS_MAX 16                     /* addresses of one service */

struct bound_socket {
        int fd;                                 /* close-on-exec, non-blocking; -1: handed over */
        char address[128];                      /* "127.0.0.1:143", "[::1]:143", "/path" */
};

struct bound {
        struct bound_socket v[BIND_SOCKETS_MAX];
        size_t n;
        char unix_path[128];                    /* of a Unix socket, to be unlinked; "" when there is none */
};

/*
 * Bind every address of `e`. A stale Unix socket is replaced, one that somebody answers on is not. ERR_BUSY: the address is
 * taken; ERR_PERM, ERR_NOTFOUND (no such host or port name), ERR_IO. The text names service, address and errno.
 *   owner_uid, owner_gid  of a Unix socket made by root; ignored otherwise
 */
int bind_entry(const struct master_entry *e, unsigned owner_uid, unsigned owner_gid, struct bound *b_r, struct err *err);
/* Make the directory of a Unix socket where it is missing: 0755, whatever the umask, because others connect. */
int bind_make_parent(const char *path, struct err *err);
int bound_listen(struct bound *b, int backlog, struct err *err);
/* "127.0.0.1:143" or "[::1]:143". */
struct sockaddr;
void bind_format_address(const struct sockaddr *sa, char *buf, size_t size);
/* Close what was not handed over, and remove the Unix socket. */
void bound_close(struct bound *b);

#endif
