/* client_op - what sync_client does, as the operation "sync.client", and the program of that name. */
#ifndef REPLICATION_CLIENT_OP_H
#define REPLICATION_CLIENT_OP_H

#include "server/control/ops.h"

/* Add the operation to the table (main.c, once). */
void client_op_register(void);

int sync_client_main(int argc, char **argv);            /* client_main.c */

#endif
