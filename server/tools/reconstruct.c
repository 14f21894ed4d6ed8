/*
 * reconstruct - indexes and counters rebuilt from the logs, with Cyrus's flags. Of these -C, -q, -r, -f and -u choose something; those that choose
 * what to compare (-G, -R, -s …) do not: everything is.
 */
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "server/tools/tool.h"

struct reconstruct {
        struct tool t;
        bool quiet, below, users;               /* -q; -r, -f; -u */
        unsigned problems;
};

static void print_row(void *ctx, json_t *row)
{
        struct reconstruct *r = ctx;
        const char *mailbox = json_string_value(json_object_get(row, "mailbox"));
        const char *problem = json_string_value(json_object_get(row, "problem"));

        if (problem) {
                r->problems++;
                fprintf(stderr, "%s: %s: %s\n", r->t.name, mailbox ? mailbox : "-", problem);
        } else if (mailbox && !r->quiet) {
                printf("%s\n", mailbox);
        }
}

/* A mailbox or user; NULL: all. */
static int reconstruct(struct reconstruct *r, const char *name)
{
        json_t *args = json_pack("{s:b, s:b}", "quiet", r->quiet, "alone", !r->below);
        struct err err = ERR_INIT;

        if (name)
                json_object_set_new(args, r->users ? "user" : "mailbox", json_string(name));
        if (tool_call(&r->t, "reconstruct", args, print_row, r, &err) == 0)
                return 0;
        if (r->problems == 0)                   /* else they were said, one by one */
                tool_fail(&r->t, &err);
        return -1;
}

int tool_reconstruct_main(int argc, char **argv)
{
        struct reconstruct r = { .quiet = false };
        const char *config = NULL;
        int opt, ret = TOOL_OK;

        while ((opt = getopt(argc, argv, "C:kp:rmfsxdgGqRUMIoOnuPV:t")) != -1) {
                if (opt == 'C')
                        config = optarg;
                else if (opt == 'q')
                        r.quiet = true;
                else if (opt == 'r' || opt == 'f')
                        r.below = true;
                else if (opt == 'u')
                        r.users = true;
                else if (opt == '?')
                        return TOOL_USAGE;
        }
        if (tool_open(&r.t, "reconstruct", config, TOOL_STORE) < 0) {
                tool_close(&r.t);
                return TOOL_FAILED;
        }
        if (optind == argc && reconstruct(&r, NULL) < 0)
                ret = TOOL_FAILED;
        for (; optind < argc; optind++)         /* each is tried, also after one that failed */
                if (reconstruct(&r, argv[optind]) < 0)
                        ret = TOOL_FAILED;
        tool_close(&r.t);
        return ret;
}
