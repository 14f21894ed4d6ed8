/*
 * protocols - the protocols served in this process: what a `cmd=` of cyrus.conf becomes. The table is in protocols.c.
 */
#ifndef SERVER_PROTOCOLS_H
#define SERVER_PROTOCOLS_H

#include "server/service.h"
#include "util/err.h"

extern const struct session_ops imap_ops;       /* server/imap/imap.c */
extern const struct session_ops lmtp_ops;       /* server/lmtp/lmtp.c */
extern const struct session_ops pop3_ops;       /* server/pop3/pop3.c */
extern const struct session_ops control_ops;    /* server/control/control.c: cyrctl's socket */

#endif
