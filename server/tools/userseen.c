/*
 * cyr_userseen - remove what is kept of owners' \Seen beside their mailboxes, where it has no meaning. As Cyrus's program it names every
 * mailbox of a user, and does nothing without -d.
 */
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "server/tools/tool.h"

static void print_row(void *ctx, json_t *row)
{
        (void)ctx;
        printf("removing seen for %s on %s\n", tool_str(row, "user"), tool_str(row, "mailbox"));
}

int tool_cyr_userseen_main(int argc, char **argv)
{
        const char *config = NULL;
        bool remove = false;
        struct err err = ERR_INIT;
        struct tool t;
        int opt, ret = TOOL_FAILED;

        while ((opt = getopt(argc, argv, "C:d")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 'd': remove = true; break;
                default:
                        fputs("cyr_userseen [-C <altconfig>] -d\n", stderr);
                        return 255;             /* Cyrus's */
                }
        }
        if (tool_open(&t, "cyr_userseen", config, TOOL_STORE) == 0)
                ret = tool_call(&t, remove ? "seen.own.remove" : "seen.own", json_object(), print_row, NULL, &err) < 0 ? tool_fail(&t, &err)
                                                                                                                       : TOOL_OK;
        tool_close(&t);
        return ret;
}
