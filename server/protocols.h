/*
 * protocols - the protocols served in this process: what a `cmd=` of cyrus.conf becomes. The table is in protocols.c.
 */
#ifndef SERVER_PROTOCOLS_H
#define SERVER_PROTOCOLS_H

#include "server/names.h"
#include "server/service.h"

extern const struct session_ops imap_ops;       /* server/imap/imap.c */
extern const struct session_ops lmtp_ops;       /* server/lmtp/lmtp.c */
extern const struct session_ops pop3_ops;       /* server/pop3/pop3.c */
extern const struct session_ops control_ops;    /* server/control/control.c: cyrctl's socket */

/* A protocol that is known above the server: its program's name and ops. From main.c, before anything is served. */
void protocol_register(const char *program, const struct session_ops *ops);
/* NULL: the program is not built; its service says so (params.refusal). */
const struct session_ops *protocol_ops(const struct program *p);
/* How a program with these words serves a service of that name. The strings are borrowed. */
struct service_params protocol_params(const char *name, const struct program *p, const struct service_args *args, int maxchild);

#endif
