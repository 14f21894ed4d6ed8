/*
 * commands - cyrctl's command line: which words make which operation, and how its rows are shown.
 */
#ifndef SERVER_CTL_COMMANDS_H
#define SERVER_CTL_COMMANDS_H

#include <jansson.h>
#include <stddef.h>

struct ctl_command {
        const char *words;                      /* "mailbox create" */
        const char *op;
        const char *args;                       /* positional: "mailbox [partition]"; brackets: may be left out */
        const char *flags;                      /* "-r=recursive -p:=partition": a switch, an option with a value */
        const char *columns;                    /* see table.h */
        const char *help;
};
extern const struct ctl_command ctl_commands[];
extern const size_t ctl_commands_n;

/* The command that argv begins with, NULL none; *used_r: how many words it took. */
const struct ctl_command *ctl_command_find(int argc, char *const *argv, int *used_r);
/* Arguments behind the command → a JSON object; NULL with a message in `why` (size octets). */
json_t *ctl_command_args(const struct ctl_command *cmd, int argc, char *const *argv, char *why, size_t size);

#endif
