/*
 * tools - programs of Cyrus that are cyrctl's operations under another name, with Cyrus's flags: on the running daemon through its
 * socket, or on the stopped store under its lock.
 */
#ifndef SERVER_TOOLS_H
#define SERVER_TOOLS_H

int tool_reconstruct_main(int argc, char **argv);

#endif
