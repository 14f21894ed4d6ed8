/*
 * reset - sync_reset: a user is removed from a replica, with all that was ever his there, so that a master can begin anew with him. The operation
 * "sync.reset" and the program.
 */
#ifndef REPLICATION_RESET_H
#define REPLICATION_RESET_H

/* Add the operation to the table (main.c, once). */
void sync_reset_register(void);

int sync_reset_main(int argc, char **argv);

#endif
