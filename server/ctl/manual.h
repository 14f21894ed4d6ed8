/* manual - the commands of cyrctl(8), from the table of commands, for `make man`. */
#ifndef SERVER_CTL_MANUAL_H
#define SERVER_CTL_MANUAL_H

#include <stddef.h>

#include "server/ctl/commands.h"

/* A command with its options and arguments in one line: "mailbox create [-p partition] [-u specialuse] mailbox". */
void ctl_command_synopsis(const struct ctl_command *cmd, char *buf, size_t size);
/* The section COMMANDS, as roff, on stdout. */
void ctl_manual_commands(void);

#endif
