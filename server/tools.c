/* tools - see tools.h */
#include "server/tools.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/ctl/client.h"
#include "server/identity.h"
#include "util/conf.h"
#include "util/log.h"

struct tool {
        const char *name;
        struct conf *conf;
        bool quiet;
        unsigned problems;
};

/* Read imapd.conf, and become cyrus_user when root runs us: what we make in the store must belong to the daemon's user. */
static int open_tool(struct tool *t, const char *config)
{
        struct diag diag = DIAG_INIT;
        struct err err = ERR_INIT;
        struct identity id;
        int ret = -1;

        if (conf_load(config, NULL, &t->conf, &diag, &err) == 0 && conf_require_store(t->conf, &diag, &err) == 0 &&
            identity_find(t->conf, &id, &err) == 0 && identity_become(&id, &err) == 0)
                ret = 0;
        if (ret < 0)
                fprintf(stderr, "%s: %s\n", t->name, err.text);
        log_open(LOG_TO_SYSLOG, t->name, -1, LOG_WARN);
        diag_deinit(&diag);
        return ret;
}

static void tool_row(void *ctx, json_t *row)
{
        struct tool *t = ctx;
        const char *mailbox = json_string_value(json_object_get(row, "mailbox"));
        const char *problem = json_string_value(json_object_get(row, "problem"));

        if (problem) {
                t->problems++;
                fprintf(stderr, "%s: %s: %s\n", t->name, mailbox ? mailbox : "-", problem);
        } else if (mailbox && !t->quiet) {
                printf("%s\n", mailbox);
        }
}

static void tool_progress(void *ctx, uint64_t done, uint64_t total, const char *unit)
{
        (void)ctx;
        (void)done;
        (void)total;
        (void)unit;
}

/* One mailbox and what is below it; NULL: all. */
static int reconstruct(struct tool *t, const char *mailbox)
{
        struct ctl_client client = { .conf = t->conf, .row = tool_row, .progress = tool_progress, .ctx = t };
        json_t *args = json_pack("{s:b}", "quiet", t->quiet);
        struct err err = ERR_INIT;

        if (mailbox)
                json_object_set_new(args, "mailbox", json_string(mailbox));
        if (ctl_client_call(&client, "reconstruct", args, &err) == 0)
                return 0;
        if (t->problems == 0)
                fprintf(stderr, "%s: %s\n", t->name, err.text);
        return -1;
}

/* Of Cyrus's flags -q, and -C; those that choose what to compare (-G, -R, -s …) choose nothing here: everything is. */
int tool_reconstruct_main(int argc, char **argv)
{
        struct tool t = { .name = "reconstruct" };
        const char *config = NULL;
        int opt, ret = 0;

        while ((opt = getopt(argc, argv, "C:kp:rmfsxdgGqRUMIoOnuPV:t")) != -1) {
                if (opt == 'C')
                        config = optarg;
                else if (opt == 'q')
                        t.quiet = true;
                else if (opt == '?')
                        return 64;
        }
        if (open_tool(&t, config) < 0)
                return 1;
        if (optind == argc)
                ret = reconstruct(&t, NULL);
        for (; optind < argc; optind++)
                if (reconstruct(&t, argv[optind]) < 0)
                        ret = -1;
        conf_unref(&t.conf);
        return ret < 0 ? 1 : 0;
}
