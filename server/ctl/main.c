/*
 * cyrctl - the administrator's tool. Exit status: 0 done, 1 refused or problems found, 2 wrong usage, 3 the daemon or the store
 * cannot be reached.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/source.h"
#include "server/ctl/client.h"
#include "server/ctl/commands.h"
#include "server/ctl/complete.h"
#include "server/ctl/manual.h"
#include "server/ctl/progress.h"
#include "server/ctl/table.h"
#include "server/version.h"
#include "util/log.h"
#include "util/must.h"

struct output {
        bool json;
        const struct ctl_command *cmd;
        struct ctl_table *table;
        char kind[32];                          /* of the rows in `table` when each has a "kind" */
        struct progress_bar progress;
};

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

        progress_clear(&o->progress);
        if (o->json) {
                json_dumpf(row, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10));
                putchar('\n');
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

        progress_report(&o->progress, done, total, unit);
}

static void show_waiting(void *ctx)
{
        struct output *o = ctx;

        progress_tick(&o->progress);
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

/* Both forms of a command's options. */
static void flags_of(FILE *out, const struct ctl_command *c)
{
        if (*c->flags)
                fputc('\n', out);
        for (const char *p = c->flags; *p;) {
                size_t len = strcspn(p, " ");
                bool value = p[2] == ':';
                const char *key = p + (value ? 4 : 3);
                int n = (int)(p + len - key);

                fprintf(out, value ? "  -%c, --%.*s %.*s\n" : "  -%c, --%.*s\n", p[1], n, key, n, key);
                p += len + (p[len] == ' ');
        }
}

/* Of the commands that begin with these words. Returns how many there were. */
static unsigned usage_of(FILE *out, int argc, char *const *argv)
{
        const struct ctl_command *only = NULL;
        unsigned shown = 0;

        for (size_t i = 0; i < ctl_commands_n; i++)
                if (begins_with(ctl_commands[i].words, argc, argv)) {
                        only = &ctl_commands[i];
                        shown++;
                }
        if (!shown)
                return 0;
        fputs("usage: cyrctl [-C imapd.conf] [-S socket] [--json] COMMAND [ARGUMENTS]\n\n", out);
        for (size_t i = 0; i < ctl_commands_n; i++) {
                const struct ctl_command *c = &ctl_commands[i];
                char left[300];

                if (!begins_with(c->words, argc, argv))
                        continue;
                ctl_command_synopsis(c, left, sizeof left);
                fprintf(out, "  %-53s  %s\n", left, c->help);
        }
        if (shown == 1)
                flags_of(out, only);
        fputs("\nMailboxes are named as an administrator sees them: user/joe/Sent (user.joe.Sent without unixhierarchysep).\n"
              "With the daemon down the store is opened directly, under its lock.\n", out);
        return shown;
}

/* After an error, which a hundred lines would hide. */
#define HINT "(cyrctl --help)\n"

static void usage(FILE *out)
{
        usage_of(out, 0, NULL);
}

/* Does some command begin with these words? */
static bool begins_any(int argc, char *const *argv)
{
        for (size_t i = 0; i < ctl_commands_n; i++)
                if (begins_with(ctl_commands[i].words, argc, argv))
                        return true;
        return false;
}

/* cyrctl(8) has these: they do not change. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_UNREACHED = 3 };

static int exit_status(enum err_code code)
{
        switch (code) {
        case ERR_UNAVAILABLE:
        case ERR_CLOSED:
        case ERR_FOREIGN:
        case ERR_CONFIG:
        case ERR_BUSY:
                return EXIT_UNREACHED;
        case ERR_SYNTAX:
                return EXIT_USAGE;
        default:
                return EXIT_FAILED;
        }
}

/* How much of a text is valid UTF-8: one that was cut may end within a character. */
static size_t utf8_prefix(const char *text)
{
        struct span s = span_of(text);

        while (s.len && !utf8_valid(s))
                s.len--;
        return s.len;
}

/* ---- the command line ------------------------------------------------------------------------------------------------------------ */

struct invocation {
        struct output o;
        struct ctl_client client;
        int argc;                               /* the command and what follows it */
        char **argv;
};

/* --json may stand behind the command as well. */
static void take_json(struct invocation *v)
{
        for (int i = 0; i < v->argc && strcmp(v->argv[i], "--") != 0; i++)
                if (strcmp(v->argv[i], "--json") == 0) {
                        v->o.json = true;
                        memmove(&v->argv[i], &v->argv[i + 1], (size_t)(v->argc - i) * sizeof *v->argv);
                        v->argc--;
                        i--;
                }
}

/* So may --help: of the command, or of those that begin so. Returns false when nobody asks for help. */
static bool take_help(const struct invocation *v)
{
        bool help = v->argc > 0 && strcmp(v->argv[0], "help") == 0;

        if (help && !usage_of(stdout, v->argc - 1, v->argv + 1))
                usage(stdout);
        for (int i = 0; !help && i < v->argc && strcmp(v->argv[i], "--") != 0; i++)
                if (strcmp(v->argv[i], "--help") == 0) {
                        help = true;
                        if (!usage_of(stdout, i, v->argv))
                                usage(stdout);
                }
        return help;
}

enum { OPT_COMPLETION = 256, OPT_COMPLETE, OPT_MANUAL };    /* long options without a letter */

/* Options in front of the command. Returns -1, or an exit status: it was all that was wanted, or wrong. */
static int take_options(struct invocation *v, int argc, char **argv)
{
        static const struct option longs[] = {
                { "json", no_argument, NULL, 'j' }, { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' },
                { "config", required_argument, NULL, 'C' }, { "socket", required_argument, NULL, 'S' },
                { "completion", required_argument, NULL, OPT_COMPLETION }, { "complete", no_argument, NULL, OPT_COMPLETE },
                { "manual-commands", no_argument, NULL, OPT_MANUAL }, { NULL, 0, NULL, 0 },
        };
        int opt;

        while ((opt = getopt_long(argc, argv, "+C:S:jhV", longs, NULL)) != -1) {
                switch (opt) {
                case 'C': v->client.config = optarg; break;
                case 'S': v->client.socket = optarg; break;
                case 'j': v->o.json = true; break;
                case 'V': printf("cyrctl %s\n", CYRD_VERSION); return EXIT_DONE;
                case 'h': usage(stdout); return EXIT_DONE;
                case OPT_MANUAL: ctl_manual_commands(); return EXIT_DONE;
                case OPT_COMPLETE: complete_words(argc - optind - 1, argv + optind + 1); return EXIT_DONE;     /* behind "--" */
                case OPT_COMPLETION:
                        if (complete_script(optarg))
                                return EXIT_DONE;
                        fputs("cyrctl --completion bash or zsh\n", stderr);
                        return EXIT_USAGE;
                default: fputs(HINT, stderr); return EXIT_USAGE;        /* getopt has said what is wrong */
                }
        }
        v->argc = argc - optind;
        v->argv = argv + optind;
        take_json(v);
        return take_help(v) ? EXIT_DONE : -1;
}

/* The error as the last line of --json too; a program need not read stderr. */
static int complain(const struct invocation *v, enum err_code code, const char *about, const char *text)
{
        char *line;

        if (v->o.json) {
                json_t *e = json_pack("{s:s%, s:s}", "error", text, utf8_prefix(text), "code", err_code_name(code));

                json_dumpf(e, stdout, JSON_COMPACT);
                putchar('\n');
                json_decref(e);
        }
        line = xstrdup(text);
        ctl_text_clean(line);                           /* a name of somebody's may be in it: not for the terminal to obey */
        fprintf(stderr, "cyrctl%s%s: %s\n", about ? " " : "", about ? about : "", line);
        free(line);
        return exit_status(code);
}

/* Words that are no command, or only begin some. */
static int no_such_command(const struct invocation *v)
{
        char text[200];
        int status;

        if (v->argc == 0) {
                usage(stderr);
                return EXIT_USAGE;
        }
        snprintf(text, sizeof text, begins_any(1, v->argv) ? "%.100s: which of these?" : "no such command: %.100s", v->argv[0]);
        status = complain(v, ERR_SYNTAX, NULL, text);
        if (!usage_of(stderr, 1, v->argv))
                fputs(HINT, stderr);
        return status;
}

static int run(struct invocation *v, json_t *args, struct err *err)
{
        const struct ctl_local *local = ctl_local_find(v->o.cmd->op);
        struct diag diag = DIAG_INIT;
        int rc = -1;

        if (local && local->no_conf)
                return local->run(&v->client, args, err);
        if (conf_load(v->client.config, NULL, &v->client.conf, &diag, err) == 0)
                rc = local ? local->run(&v->client, args, err) : ctl_client_call(&v->client, v->o.cmd->op, args, err);
        else
                json_decref(args);
        diag_deinit(&diag);
        conf_unref(&v->client.conf);
        return rc;
}

int main(int argc, char **argv)
{
        struct invocation v = { .argc = 0 };
        struct err err = ERR_INIT;
        char why[200];
        json_t *args;
        int used, rc = take_options(&v, argc, argv);

        if (rc >= 0)
                return rc;
        log_open(LOG_TO_STDERR, "cyrctl", -1, LOG_WARN);
        source_register();
        v.o.cmd = ctl_command_find(v.argc, v.argv, &used);
        if (!v.o.cmd)
                return no_such_command(&v);
        args = ctl_command_args(v.o.cmd, v.argc - used, v.argv + used, why, sizeof why);
        if (!args) {
                rc = complain(&v, ERR_SYNTAX, v.o.cmd->words, why);
                fprintf(stderr, "(cyrctl %s --help)\n", v.o.cmd->words);
                return rc;
        }
        progress_init(&v.o.progress, isatty(STDERR_FILENO) && !v.o.json);
        v.client.json = v.o.json;
        v.client.row = show_row;
        v.client.progress = show_progress;
        v.client.waiting = show_waiting;
        v.client.ctx = &v.o;
        rc = run(&v, args, &err);
        progress_clear(&v.o.progress);
        flush_table(&v.o);
        if (rc < 0)
                return complain(&v, err.code, NULL, err.text);
        return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_DONE : EXIT_FAILED;
}
