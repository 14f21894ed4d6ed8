/*
 * cyr_expire - expire messages, purge what was expunged, remove deleted mailboxes: the operation "expire" (server/control/ops_expire.c) with
 * Cyrus's flags and words. -A moves messages to archive partitions, which we have none of: it does nothing, like Cyrus without them. -c is about
 * conversations, which are not kept here.
 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/control/ops.h"
#include "server/tools/tool.h"

#define FLAGS "C:A:D:E:X:p:u:achtvx"

static void usage(void)
{
        fprintf(stderr, "Usage: cyr_expire [OPTIONS] {mailbox|users}\n"
                "Expire messages and duplicate delivery database entries.\n\n"
                "-a                       skip annotation lookup\n"
                "-c                       do not expire conversations\n"
                "-h                       print this help and exit\n"
                "-p <mailbox-prefix>      specify prefix for mailboxes\n"
                "-t                       remove user flags which are not used\n"
                "-u <user-id>             specify user id for mailbox lookup\n"
                "-v                       enable verbose output\n"
                "-x                       do not expunge messages\n"
                "-C <config-file>         use <config-file> instead of config from imapd.conf\n"
                "-A <archive-duration>    \n"
                "-D <delete-duration>     \n"
                "-E <expire-duration>     \n"
                "-X <expunge-duration>    \n\n");
}

/* One option, as the operation's argument. */
static int take_option(json_t *args, int opt, const char *value, bool *asked)
{
        int64_t seconds;

        if (strchr("ADEX", opt)) {
                if (ctl_duration(value, &seconds) < 0)
                        return -1;
                *asked = true;
        }
        switch (opt) {
        case 'D': return json_object_set_new(args, "mailboxes", json_string(value));
        case 'E': return json_object_set_new(args, "duplicates", json_string(value));
        case 'X': return json_object_set_new(args, "messages", json_string(value));
        case 'p': return json_object_set_new(args, "prefix", json_string(value));
        case 'u': return json_object_set_new(args, "user", json_string(value));
        case 'a': return json_object_set_new(args, "annotations", json_false());
        case 'x': return json_object_set_new(args, "expunge", json_false());
        case 'v': return json_object_set_new(args, "verbose", json_true());
        case 't':
                *asked = true;
                return json_object_set_new(args, "keywords", json_true());
        default:
                return 0;                       /* A, c, C */
        }
}

/* getopt() keeps its state in the process, and events are read by one that has many threads. */
json_t *tool_cyr_expire_args(int argc, char *const *argv, struct err *err)
{
        json_t *args = json_pack("{s:b}", "only", 1);
        bool asked = false;

        for (int i = 1; i < argc; i++) {
                const char *word = argv[i], *flag = word[0] == '-' && word[1] && !word[2] ? strchr(FLAGS, word[1]) : NULL;
                const char *value = flag && flag[1] == ':' ? argv[++i] : NULL;         /* argv ends with a NULL */

                if (!flag || *flag == ':' || *flag == 'h' || (flag[1] == ':' && !value) || take_option(args, *flag, value, &asked) < 0) {
                        json_decref(args);
                        err_set(err, ERR_CONFIG, "cyr_expire: \"%s%s%s\" is not understood", word, value ? " " : "", value ? value : "");
                        return NULL;
                }
        }
        if (asked)
                return args;
        json_decref(args);
        err_set(err, ERR_CONFIG, "cyr_expire: one of -A -D -E -X -t is wanted");
        return NULL;
}

static void expire_row(void *ctx, json_t *row)
{
        const char *step = tool_str(row, "step"), *name = tool_str(row, "name");
        double days = json_number_value(json_object_get(row, "days"));
        json_int_t n[4];

        (void)ctx;
        for (size_t i = 0; i < 4; i++)
                n[i] = json_integer_value(json_object_get(row, (const char *const[]){ "expired", "purged", "messages", "mailboxes" }[i]));
        if (strcmp(step, "messages") == 0)
                fprintf(stderr, "Expunging deleted messages in mailboxes older than %0.2f days\n\n", days);
        else if (strcmp(step, "expire") == 0)
                fprintf(stderr, "expiring messages in %s older than %0.2f days\n\n", name, days);
        else if (strcmp(step, "keyword") == 0)
                fprintf(stderr, "Expunging userflag %" JSON_INTEGER_FORMAT " (%s) from %s\n\n",
                        json_integer_value(json_object_get(row, "number")), tool_str(row, "keyword"), name);
        else if (strcmp(step, "clean") == 0)
                fprintf(stderr, "cleaning up expunged messages in %s\n\n", name);
        else if (strcmp(step, "messages_done") == 0)
                fprintf(stderr, "\nExpired %" JSON_INTEGER_FORMAT " and expunged %" JSON_INTEGER_FORMAT " out of %" JSON_INTEGER_FORMAT
                        " messages from %" JSON_INTEGER_FORMAT " mailboxes\n\n", n[0], n[1], n[2], n[3]);
        else if (strcmp(step, "keywords_done") == 0)
                fprintf(stderr, "Expunged %" JSON_INTEGER_FORMAT " user flags\n\n", json_integer_value(json_object_get(row, "keywords")));
        else if (strcmp(step, "mailboxes") == 0)
                fprintf(stderr, "Removing deleted mailboxes older than %0.2f days\n\n", days);
        else if (strcmp(step, "old") == 0)
                fprintf(stderr, "Cleaning up %s\n\n", name);
        else if (strcmp(step, "remove") == 0)
                fprintf(stderr, "Removing: %s\n\n", name);
        else if (strcmp(step, "mailboxes_done") == 0)
                fprintf(stderr, "Removed %" JSON_INTEGER_FORMAT " deleted mailboxes\n\n", json_integer_value(json_object_get(row, "removed")));
        else if (strcmp(tool_str(row, "kind"), "problem") == 0)
                fprintf(stderr, "%s: %s\n", tool_str(row, "mailbox"), tool_str(row, "problem"));
}

int tool_cyr_expire_main(int argc, char **argv)
{
        json_t *args = json_pack("{s:b}", "only", 1);
        const char *config = NULL;
        struct err err = ERR_INIT;
        struct tool t = { .name = "cyr_expire" };
        bool asked = false;
        int opt, ret = TOOL_OK;

        while ((opt = getopt(argc, argv, FLAGS)) != -1) {
                if (opt == 'C')
                        config = optarg;
                if (opt == 'h' || opt == '?' || take_option(args, opt, optarg, &asked) < 0) {
                        usage();
                        json_decref(args);
                        return TOOL_USAGE;
                }
        }
        if (!asked) {
                fprintf(stderr, "Missing arguments.\n");
                usage();
                json_decref(args);
                return TOOL_USAGE;
        }
        if (tool_open(&t, t.name, config, TOOL_STORE) < 0) {
                json_decref(args);
                ret = TOOL_FAILED;
        } else if (tool_call(&t, "expire", args, expire_row, NULL, &err) < 0) {
                ret = tool_fail(&t, &err);
        }
        tool_close(&t);
        return ret;
}
