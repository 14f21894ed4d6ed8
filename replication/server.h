/*
 * server - a replica's side of csync (reference: csync, sections 1 to 9 and 15): the service `csync`, program sync_server, and the SYNC…
 * commands inside IMAP. What a command does to the store is in store/replica.h; here are its grammar, its permission, its staging area and
 * its answers.
 *
 * A malformed or hostile stream gets NO with Cyrus's code, or BAD; what it asked for is done wholly or not at all, and the session goes on. Only
 * where octets announced by number do not fit the grammar around them does the connection end, for what follows could be a message's text that
 * reads like a command.
 */
#ifndef REPLICATION_SERVER_H
#define REPLICATION_SERVER_H

/* Make both known to the server. From main.c, before anything is served. */
void sync_server_register(void);

#endif
