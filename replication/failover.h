/* failover - cyrctl failover status, init, promote, join (role.h). For source.c only. */
#ifndef REPLICATION_FAILOVER_H
#define REPLICATION_FAILOVER_H

#include "server/control/ops.h"

/* Once, before threads start. */
void failover_register(void);

#endif
