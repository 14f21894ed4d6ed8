/* unexpunge - list messages that were expunged and can be brought back (-l), and bring them back (-a, -t, -u). Forms are Cyrus 3.6's. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/tools/tool.h"
#include "util/str.h"

enum { EXIT_USAGE = 255, EXIT_NO_MAILBOX = 20 };

struct unexpunge {
        struct tool t;
        const char *mailbox;
        bool verbose, begun, all;
        json_int_t restored;
};

static int usage(void)
{
        fprintf(stderr, "unexpunge [-C <altconfig>] -l <mailbox> [<uid>...]\n"
                "unexpunge [-C <altconfig>] -t time-interval [-d] [-v] [-f flag] mailbox\n"
                "unexpunge [-C <altconfig>] -a [-d] [-v] [-f flag] <mailbox>\n"
                "unexpunge [-C <altconfig>] -u [-d] [-v] [-f flag] <mailbox> <uid>...\n");
        return EXIT_USAGE;
}

/* Seconds, or a number with m, h, d or w, in the operation's units. What is no number is nothing. */
static json_t *interval(const char *text)
{
        static const struct { char unit; uint64_t s; } units[] = { { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 604800 } };
        uint64_t n = strtoull(text, NULL, 10), factor = 1;
        size_t len = strlen(text);

        for (size_t i = 0; i < sizeof units / sizeof *units; i++)
                if (len && text[len - 1] == units[i].unit)
                        factor = units[i].s;
        return json_sprintf("%llus", (unsigned long long)(n > UINT32_MAX ? UINT32_MAX : n) * factor);
}

static void list_row(void *ctx, json_t *row)
{
        (void)ctx;
        tool_print_message(row);
}

static void begin(struct unexpunge *u)
{
        if (!u->begun)
                printf("restoring %sexpunged messages in mailbox '%s'\n", u->all ? "all " : "", u->mailbox);
        u->begun = true;
}

static void restore_row(void *ctx, json_t *row)
{
        struct unexpunge *u = ctx;
        json_t *total = json_object_get(row, "restored_total");

        begin(u);
        if (total)
                printf("restored %" JSON_INTEGER_FORMAT " expunged messages\n", json_integer_value(total));
        else if (u->verbose)
                printf("Unexpunged %s: %" JSON_INTEGER_FORMAT " => %" JSON_INTEGER_FORMAT "\n", u->mailbox,
                       json_integer_value(json_object_get(row, "uid")), json_integer_value(json_object_get(row, "restored")));
}

static int failed(struct unexpunge *u, bool list, const struct err *err)
{
        fflush(stdout);
        if (err->code == ERR_NOTFOUND && list) {
                printf("Failed to open mailbox %s: Mailbox does not exist", u->mailbox);
                return TOOL_OK;
        }
        if (err->code == ERR_NOTFOUND) {
                printf("Failed to open mailbox '%s'\n", u->mailbox);
                return EXIT_NO_MAILBOX;
        }
        return tool_fail(&u->t, err);
}

static json_t *uid_list(int n, char *const *words)
{
        json_t *uids = json_array();
        uint64_t uid;

        for (int i = 0; i < n; i++)
                if (span_u64(span_of(words[i]), UINT32_MAX, &uid))
                        json_array_append_new(uids, json_integer((json_int_t)uid));
        return uids;
}

int tool_unexpunge_main(int argc, char **argv)
{
        struct unexpunge u = { .t = { .name = "unexpunge" } };
        json_t *args = json_object();
        const char *config = NULL;
        struct err err = ERR_INIT;
        int opt, mode = 0, ret = TOOL_OK;
        bool bad = false;

        while ((opt = getopt(argc, argv, "C:lat:udvf:")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 't':
                        json_object_set_new(args, "within", interval(optarg));
                        /* fall through */
                case 'l':
                case 'a':
                case 'u':
                        bad = bad || mode;
                        mode = opt;
                        break;
                case 'd': json_object_set_new(args, "undelete", json_true()); break;
                case 'f':
                        if (optarg[0] == '\\') {
                                fprintf(stderr, "fatal error: can't set a system flag\n");
                                json_decref(args);
                                return TOOL_SOFTWARE;
                        }
                        json_object_set_new(args, "keyword", json_string(optarg));
                        break;
                case 'v': u.verbose = true; break;
                default: bad = true;
                }
        }
        if (bad || !mode || optind >= argc || (mode == 'u' && optind + 1 >= argc)) {
                json_decref(args);
                return usage();
        }
        u.mailbox = argv[optind++];
        u.all = mode == 'a';
        json_object_set_new(args, "mailbox", json_string(u.mailbox));
        json_object_set_new(args, "all", json_boolean(u.all));
        if (mode == 'u')
                json_object_set_new(args, "or_none", json_true());
        if (mode == 'u' || (mode == 'l' && optind < argc))
                json_object_set_new(args, "uids", uid_list(argc - optind, argv + optind));
        if (tool_open(&u.t, u.t.name, config, TOOL_STORE) < 0) {
                json_decref(args);
                ret = TOOL_FAILED;
        } else if (tool_call(&u.t, mode == 'l' ? "expunged.list" : "expunged.restore", args, mode == 'l' ? list_row : restore_row, &u, &err) < 0) {
                ret = failed(&u, mode == 'l', &err);
        }
        tool_close(&u.t);
        return ret;
}
