/* expire_event - cyr_expire as an event of cyrus.conf, inside the daemon. */
#ifndef SERVER_EXPIRE_EVENT_H
#define SERVER_EXPIRE_EVENT_H

#include "util/err.h"

struct store;

/* Begin what these words of a cmd= say, on a thread for administrators' operations; what it did is in the log. The engine runs. ERR_CONFIG: they
 * are not understood; ERR_BUSY: the last one has not ended. */
int expire_event_begin(struct store *store, int argc, char *const *argv, struct err *err);

#endif
