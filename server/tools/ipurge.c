/* ipurge - expunge messages because of their age or size: the operation "message.purge" with Cyrus's flags and words. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/tools/tool.h"

struct ipurge {
        struct tool t;
        bool verbose, dry;
};

static int usage(const char *name)
{
        printf("usage: %s [-f] [-s] [-C <alt_config>] [-x] [-X] [-i] [-o] [-n] {-d days | -b bytes|-k Kbytes|-m Mbytes}\n"
                "\t[mboxpattern1 ... [mboxpatternN]]\n"
                "\tthere are no defaults and at least one of -d, -b, -k, -m\n"
                "\tmust be specified\n"
                "\tif no mboxpattern is given %s works on all mailboxes\n"
                "\t -x specifies an exact match for days or size\n"
                "\t -f force also to delete mail below user.* and INBOX.*\n"
                "\t -s skip over messages that are flagged.\n"
                "\t -X use delivery time instead of date header for date matches.\n"
                "\t -i invert match logic: -x means not equal, date is for newer, size is for smaller.\n"
                "\t -M don't recurse mailboxes.\n"
                "\t -o only purge messages that are deleted.\n"
                "\t -n only print messages that would be deleted (dry run).\n"
                "\t -v enable verbose output/logging.\n", name, name);
        return TOOL_OK;
}

static void line(const char *label, json_int_t n)
{
        printf("%-18s\t\t %" JSON_INTEGER_FORMAT "\n", label, n);
}

static void purge_row(void *ctx, json_t *row)
{
        struct ipurge *p = ctx;
        const char *begin = json_string_value(json_object_get(row, "begin")), *problem = json_string_value(json_object_get(row, "problem"));
        json_int_t messages = json_integer_value(json_object_get(row, "messages")), octets = json_integer_value(json_object_get(row, "octets"));
        json_int_t gone = json_integer_value(json_object_get(row, "expunged"));
        json_int_t gone_octets = json_integer_value(json_object_get(row, "expunged_octets"));

        if (begin) {
                if (p->verbose)
                        printf("Working on %s...\n", begin);
        } else if (problem) {
                fprintf(stderr, "%s: %s: %s\n", p->t.name, tool_str(row, "mailbox"), problem);
        } else if (json_object_get(row, "uid")) {
                if (p->dry)
                        tool_print_message(row);
        } else {
                line("Total messages", messages);
                line("Total bytes", octets);
                line("Deleted messages", gone);
                line("Deleted bytes", gone_octets);
                line("Remaining messages", messages - gone);
                line("Remaining bytes", octets - gone_octets);
        }
}

/* As atoi() reads it; a size below 0 is none, an age below 0 is that of no message. */
static void set_number(json_t *args, const char *key, const char *text, unsigned shift)
{
        long long n = strtoll(text, NULL, 10);

        if (n >= 0)
                json_object_set_new(args, key, json_integer((json_int_t)(n > INT32_MAX ? INT32_MAX : n) << shift));
        else
                json_object_del(args, key);
}

int tool_ipurge_main(int argc, char **argv)
{
        static const struct { char flag; const char *key; } switches[] = {
                { 'x', "exact" }, { 'f', "users" }, { 's', "keep_flagged" }, { 'X', "received" }, { 'i', "inverted" }, { 'M', "literal" },
                { 'o', "only_deleted" }, { 'n', "dry" }, { 'v', "verbose" },
        };
        struct ipurge p = { .t = { .name = "ipurge" } };
        json_t *args = json_object(), *patterns = json_array();
        const char *config = NULL;
        struct err err = ERR_INIT;
        int opt, ret = TOOL_OK;

        json_object_set_new(args, "patterns", patterns);
        while ((opt = getopt(argc, argv, "C:hxd:b:k:m:fsMXionv")) != -1) {
                bool known = false;

                for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
                        if (switches[i].flag == opt) {
                                json_object_set_new(args, switches[i].key, json_true());
                                known = true;
                        }
                if (opt == 'C')
                        config = optarg;
                else if (opt == 'd')
                        set_number(args, "days", optarg, 0);
                else if (opt == 'b' || opt == 'k' || opt == 'm')
                        set_number(args, "octets", optarg, opt == 'b' ? 0 : opt == 'k' ? 10 : 20);
                else if (!known) {
                        json_decref(args);
                        return usage(argv[0]);
                }
        }
        if (!json_object_get(args, "days") && !json_object_get(args, "octets")) {
                printf("One of these must be specified -d, -b -k, -m\n");
                json_decref(args);
                return usage(argv[0]);
        }
        p.verbose = json_is_true(json_object_get(args, "verbose"));
        p.dry = json_is_true(json_object_get(args, "dry"));
        json_object_set_new(args, "verbose", json_boolean(p.verbose || p.dry));
        for (; optind < argc; optind++)
                json_array_append_new(patterns, json_string(argv[optind]));
        if (tool_open(&p.t, p.t.name, config, TOOL_STORE) < 0) {
                json_decref(args);
                ret = TOOL_FAILED;
        } else if (tool_call(&p.t, "message.purge", args, purge_row, &p, &err) < 0) {
                fflush(stdout);
                ret = tool_fail(&p.t, &err);
        }
        tool_close(&p.t);
        return ret;
}
