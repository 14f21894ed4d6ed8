/*
 * quota - Cyrus's program of that name: report quota roots with their limits and usage, and put right what is not (-f).
 * A root has a line for each resource; the output has the same form as Cyrus's.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/tools/tool.h"

struct quota_tool {
        struct tool t;
        json_t *json;                           /* -J: what is printed at the end; NULL: lines */
        bool quiet;
};

static int64_t number_of(json_t *row, const char *key)
{
        return json_integer_value(json_object_get(row, key));
}

static void json_row(json_t *all, json_t *row)
{
        json_t *root = json_object_get(all, tool_str(row, "root")), *limit = json_object_get(row, "limit");
        json_t *resource = json_pack("{s:I}", "used", (json_int_t)number_of(row, "exact"));

        if (!root) {
                root = json_object();
                json_object_set_new(all, tool_str(row, "root"), root);
        }
        if (limit)
                json_object_set_new(resource, "limit", json_integer(json_integer_value(limit) * number_of(row, "unit")));
        json_object_set_new(root, tool_str(row, "cyrus"), resource);
}

static void quota_row(void *ctx, json_t *row)
{
        struct quota_tool *t = ctx;
        const char *kind = tool_str(row, "kind");
        json_t *limit = json_object_get(row, "limit");

        if (strcmp(kind, "fixed") == 0) {
                printf("%s: %s usage was %" PRId64 ", now %" PRId64 "\n", tool_str(row, "root"), tool_str(row, "cyrus"), number_of(row, "was"),
                       number_of(row, "now"));
        } else if (strcmp(kind, "removed") == 0) {
                printf("%s: removed\n", tool_str(row, "root"));
        } else if (t->json) {
                json_row(t->json, row);
        } else {
                if (limit && json_integer_value(limit) > 0)
                        printf(" %7" PRId64 " %8" PRId64, (int64_t)json_integer_value(limit), number_of(row, "percent"));
                else
                        printf("%s", limit ? "       0         " : "                 ");
                printf(" %8" PRId64 " %20s %s\n", number_of(row, "used"), tool_str(row, "cyrus"), tool_str(row, "root"));
        }
}

/* One mailbox-spec; NULL: all roots. */
static int report(struct quota_tool *t, json_t *args, const char *spec)
{
        json_t *mine = json_copy(args);
        struct err err = ERR_INIT;

        if (spec)
                json_object_set_new(mine, "root", json_string(spec));
        if (tool_call(&t->t, "quota.list", mine, quota_row, t, &err) == 0)
                return 0;
        fflush(stdout);
        tool_fail(&t->t, &err);
        return -1;
}

static void usage(void)
{
        fprintf(stderr, "usage: quota [-C <alt_config>] [-d <domain>] [-f] [-q] [-J] [-n] [-u] [mailbox-spec]...\n");
}

int tool_quota_main(int argc, char **argv)
{
        struct quota_tool t = { .json = NULL };
        json_t *args = json_pack("{s:b, s:b}", "all", 1, "prefix", 1);
        const char *config = NULL;
        bool fix = false;
        int opt, ret = 0;

        while ((opt = getopt(argc, argv, "C:d:fqJnZu")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 'd': json_object_set_new(args, "domain", json_string(optarg)); break;
                case 'f': fix = true; break;
                case 'n': json_object_set_new(args, "dry", json_true()); break;
                case 'q': t.quiet = true; break;
                case 'J': t.json = json_object(); break;
                case 'u':
                        json_object_set_new(args, "user", json_true());
                        json_object_set_new(args, "prefix", json_false());
                        break;
                case 'Z': break;                /* a pause for Cyrus's own tests */
                default:
                        usage();
                        json_decref(args);
                        return TOOL_USAGE;
                }
        }
        t.quiet = t.quiet && fix;               /* as in Cyrus: a mere report is printed all the same */
        json_object_set_new(args, "fix", json_boolean(fix));
        json_object_set_new(args, "quiet", json_boolean(t.quiet));
        if (tool_open(&t.t, "quota", config, TOOL_STORE) < 0)
                ret = TOOL_FAILED;
        if (ret == 0 && !t.quiet && !t.json)
                printf("   Quota   %% Used     Used             Resource Root\n");
        if (ret == 0 && optind == argc)
                ret = report(&t, args, NULL) < 0;
        for (; ret == 0 && optind < argc; optind++)
                ret = report(&t, args, argv[optind]) < 0;
        if (ret == 0 && t.json && !t.quiet) {
                json_dumpf(t.json, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
                printf("\n");
        }
        json_decref(args);
        json_decref(t.json);
        tool_close(&t.t);
        return ret;
}
