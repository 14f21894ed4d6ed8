/*
 * cyrctl - the administrator's tool. Exit status: 0 done, 1 refused or problems found, 2 wrong usage, 3 the daemon or the store
 * cannot be reached.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/ctl/client.h"
#include "server/ctl/commands.h"
#include "server/ctl/table.h"
#include "server/ctl/transfer.h"
#include "server/version.h"
#include "util/clock.h"
#include "util/log.h"

struct output {
        bool json, tty;
        const struct ctl_command *cmd;
        struct ctl_table *table;
        char kind[32];                          /* of the rows in `table` when each has a "kind" */
        uint64_t started_ms;
        bool bar;                               /* a progress line stands on the terminal */
};

static void clear_bar(struct output *o)
{
        if (o->bar)
                fputs("\r\033[K", stderr);
        o->bar = false;
}

static void flush_table(struct output *o)
{
        if (o->table)
                ctl_table_print(o->table, stdout);
        ctl_table_destroy(&o->table);
}

static void show_row(void *ctx, json_t *row)
{
        struct output *o = ctx;
        const char *kind = json_string_value(json_object_get(row, "kind"));

        clear_bar(o);
        if (o->json) {
                json_dumpf(row, stdout, JSON_COMPACT);
                putchar('\n');
                return;
        }
        if (strcmp(o->cmd->op, "metrics") == 0) {
                fputs(json_string_value(json_object_get(row, "text")), stdout);
                return;
        }
        /* Rows of several kinds: a table for each run of one kind. */
        if (o->table && kind && strcmp(kind, o->kind) != 0) {
                flush_table(o);
                putchar('\n');
        }
        if (!o->table) {
                o->table = ctl_table_create(o->cmd->columns);
                snprintf(o->kind, sizeof o->kind, "%s", kind ? kind : "");
        }
        ctl_table_add(o->table, row);
}

static void show_progress(void *ctx, uint64_t done, uint64_t total, const char *unit)
{
        struct output *o = ctx;
        uint64_t ms = clock_mono_ms() - o->started_ms;
        double rate = ms ? (double)done * 1000 / (double)ms : 0;

        if (!o->tty || o->json)
                return;
        if (total && rate > 0) {
                char bar[31];
                unsigned n = (unsigned)(done >= total ? 30 : done * 30 / total);

                memset(bar, '#', n);
                memset(bar + n, '.', 30 - n);
                bar[30] = '\0';
                fprintf(stderr, "\r\033[K[%s] %llu/%llu %s, %.0f/s, %.0f s left", bar, (unsigned long long)done, (unsigned long long)total,
                        unit ? unit : "", rate, (double)(total > done ? total - done : 0) / rate);
        } else {
                fprintf(stderr, "\r\033[K%llu %s, %.0f/s", (unsigned long long)done, unit ? unit : "", rate);
        }
        o->bar = true;
}

/* Do the first words of a command's name say `argv` ("mailbox", "mailbox info")? */
static bool begins_with(const char *words, int argc, char *const *argv)
{
        for (int i = 0; i < argc; i++) {
                size_t n = strcspn(words, " ");

                if (n == 0)
                        break;                          /* an argument behind the command */
                if (n != strlen(argv[i]) || strncmp(words, argv[i], n) != 0)
                        return false;
                words += n + (words[n] == ' ');
        }
        return true;
}

/* Of the commands that begin with these words. Returns how many there were. */
static unsigned usage_of(FILE *out, int argc, char *const *argv)
{
        unsigned shown = 0;

        for (size_t i = 0; i < ctl_commands_n; i++)
                shown += begins_with(ctl_commands[i].words, argc, argv);
        if (!shown)
                return 0;
        fputs("usage: cyrctl [-C imapd.conf] [-S socket] [--json] COMMAND [ARGUMENTS]\n\n", out);
        for (size_t i = 0; i < ctl_commands_n; i++) {
                const struct ctl_command *c = &ctl_commands[i];
                char left[100];
                size_t n = (size_t)snprintf(left, sizeof left, "%s", c->words);

                if (!begins_with(c->words, argc, argv))
                        continue;
                for (const char *p = c->flags; *p && n < sizeof left;) {
                        size_t len = strcspn(p, " ");

                        if (p[2] == ':')
                                n += (size_t)snprintf(left + n, sizeof left - n, " [-%c %.*s]", p[1], (int)(len - 4), p + 4);
                        else
                                n += (size_t)snprintf(left + n, sizeof left - n, " [-%c]", p[1]);
                        p += len + (p[len] == ' ');
                }
                if (n < sizeof left)
                        snprintf(left + n, sizeof left - n, "%s%s", *c->args ? " " : "", c->args);
                fprintf(out, "  %-53s  %s\n", left, c->help);
        }
        fputs("\nMailboxes are named as an administrator sees them: user/joe/Sent (user.joe.Sent without unixhierarchysep).\n"
              "With the daemon down the store is opened directly, under its lock.\n", out);
        return shown;
}

static void usage(FILE *out)
{
        usage_of(out, 0, NULL);
}

static int exit_status(const struct err *err)
{
        switch (err->code) {
        case ERR_UNAVAILABLE:
        case ERR_CLOSED:
        case ERR_FOREIGN:
        case ERR_CONFIG:
        case ERR_BUSY:
                return 3;
        case ERR_SYNTAX:
                return 2;
        default:
                return 1;
        }
}

/* What cyrctl does itself, with the rights of whoever runs it, it does with operations; all else is one operation. */
static int run(struct ctl_client *client, const struct ctl_command *cmd, json_t *args, struct err *err)
{
        if (strcmp(cmd->op, "import") == 0)
                return transfer_import(client, args, err);
        if (strcmp(cmd->op, "export") == 0)
                return transfer_export(client, args, err);
        return ctl_client_call(client, cmd->op, args, err);
}

int main(int argc, char **argv)
{
        static const struct option longs[] = {
                { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' },
                { "config", required_argument, NULL, 'C' }, { "socket", required_argument, NULL, 'S' }, { NULL, 0, NULL, 0 },
        };
        const char *config = NULL;
        struct output o = { .tty = isatty(STDERR_FILENO), .started_ms = clock_mono_ms() };
        struct ctl_client client = { .row = show_row, .progress = show_progress, .ctx = &o };
        struct diag diag;
        struct err err = ERR_INIT;
        char why[200];
        json_t *args;
        int opt, used, rc;

        log_open(LOG_TO_STDERR, "cyrctl", -1, LOG_WARN);
        while ((opt = getopt_long(argc, argv, "+C:S:jhV", longs, NULL)) != -1) {
                switch (opt) {
                case 'C':
                        config = optarg;
                        break;
                case 'S':
                        client.socket = optarg;
                        break;
                case 'j':
                        o.json = true;
                        break;
                case 'V':
                        printf("cyrctl %s\n", CYRD_VERSION);
                        return 0;
                case 'h':
                        usage(stdout);
                        return 0;
                default:
                        usage(stderr);
                        return 2;
                }
        }
        argc -= optind;
        argv += optind;
        /* --json may stand behind the command as well. */
        for (int i = 0; i < argc; i++)
                if (strcmp(argv[i], "--json") == 0) {
                        o.json = true;
                        memmove(&argv[i], &argv[i + 1], (size_t)(argc - i) * sizeof *argv);
                        argc--;
                        i--;
                }
        /* So may --help: of the command, or of those that begin so. */
        if (argc && strcmp(argv[0], "help") == 0) {
                if (!usage_of(stdout, argc - 1, argv + 1))
                        usage(stdout);
                return 0;
        }
        for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
                if (strcmp(argv[i], "--help") == 0) {
                        if (!usage_of(stdout, i, argv))
                                usage(stdout);
                        return 0;
                }
        o.cmd = ctl_command_find(argc, argv, &used);
        if (!o.cmd) {
                if (argc && begins_with("mailbox", 1, argv) + begins_with("acl", 1, argv) + begins_with("user", 1, argv)) {
                        fprintf(stderr, "cyrctl %s: which of these?\n", argv[0]);
                        usage_of(stderr, 1, argv);
                        return 2;
                }
                if (argc)
                        fprintf(stderr, "cyrctl: no such command: %s\n", argv[0]);
                usage(stderr);
                return 2;
        }
        args = ctl_command_args(o.cmd, argc - used, argv + used, why, sizeof why);
        if (!args) {
                fprintf(stderr, "cyrctl %s: %s (cyrctl --help)\n", o.cmd->words, why);
                return 2;
        }
        diag_init(&diag);
        if (conf_load(config, NULL, &client.conf, &diag, &err) < 0) {
                fprintf(stderr, "cyrctl: %s\n", err.text);
                return 3;
        }
        diag_deinit(&diag);
        rc = run(&client, o.cmd, args, &err);
        clear_bar(&o);
        flush_table(&o);
        if (rc < 0) {
                if (o.json) {
                        json_t *e = json_pack("{s:s, s:s}", "error", err.text, "code", err_code_name(err.code));

                        json_dumpf(e, stdout, JSON_COMPACT);
                        putchar('\n');
                        json_decref(e);
                }
                fprintf(stderr, "cyrctl: %s\n", err.text);
        }
        conf_unref(&client.conf);
        return rc < 0 ? exit_status(&err) : 0;
}
