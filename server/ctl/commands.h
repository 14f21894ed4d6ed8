/*
 * commands - cyrctl's command line: which words make which operation, and how its rows are shown.
 */
#ifndef SERVER_CTL_COMMANDS_H
#define SERVER_CTL_COMMANDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "util/err.h"

struct ctl_client;

struct ctl_command {
        const char *words;                      /* "mailbox create" */
        const char *op;                         /* of server/control/ops.h, or of ctl_local_find() */
        const char *args;                       /* positional: "mailbox [partition]"; brackets: may be left out */
        const char *flags;                      /* "-r=recursive -p:=partition": a switch, an option with a value; --recursive and
                                                 * --partition say the same */
        const char *columns;                    /* see table.h */
        const char *help;
};
extern const struct ctl_command ctl_commands[];
extern const size_t ctl_commands_n;

/*
 * What cyrctl does itself, with the rights of whoever runs it; everything else is one operation, its rows shown as a table. `run` takes `args`
 * over, hands rows to client->row or, when client->json is off, prints what suits people better. Returns 0, or -1 with err.
 */
struct ctl_local {
        const char *op;
        int (*run)(struct ctl_client *client, json_t *args, struct err *err);
        bool no_conf;                           /* it wants no sound imapd.conf: client->conf is NULL */
};
/* NULL: an operation. */
const struct ctl_local *ctl_local_find(const char *op);

/* The command that argv begins with, NULL none; *used_r: how many words it took. */
const struct ctl_command *ctl_command_find(int argc, char *const *argv, int *used_r);
/* Arguments behind the command → a JSON object; NULL with a message in `why` (size octets). */
json_t *ctl_command_args(const struct ctl_command *cmd, int argc, char *const *argv, char *why, size_t size);

#endif
