/*
 * client_main - sync_client: Cyrus's flags, given to the operations "sync.client" (once, in the foreground) and "sync.roll" (rolling). The running
 * daemon does the work, on a thread of its own there; without one this process opens the store.
 */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "replication/client_op.h"
#include "server/ctl/client.h"
#include "server/ctl/progress.h"
#include "server/tools/tool.h"
#include "util/clock.h"
#include "util/must.h"
#include "util/str.h"

#define LINES_MAX ((size_t)64 << 20)

struct sync_client {
        struct tool t;
        json_t *args;
        json_t *names;
        const char *mode;                       /* NULL: rolling, or not said */
        bool roll, background, once;            /* -r, -R; -r; -1 */
        unsigned verbose;
        const char *config, *file;
        struct str lines;                       /* with -r or -R: what is in `file` */
        unsigned wait_s;
        struct progress_bar progress;
};

static int usage(void)
{
        fprintf(stderr, "usage: sync_client [-v] [-l] [-L] [-z] [-o] [-O] [-N] [-a] [-C config] [-S host] [-n channel] [-p partition] [-w seconds]\n"
                        "                   -u user… | -m mailbox… | -s user… | -A [userprefix]        [-f file]\n"
                        "       sync_client … -r | -R  [-1] [-d seconds] [-t seconds] [-F shutdown-file] [-f log-file]\n");
        return TOOL_USAGE;
}

/* ---- what is shown ---------------------------------------------------------------------------------------------------------- */

/* As the real one has it: ">time>" before what was sent, "<time<" before what came. */
static void show_traffic(struct sync_client *s, bool sent, json_t *text)
{
        static int last = -1;                   /* 1 sent, 0 received: the time stands where the direction changes */
        const unsigned char *p = (const unsigned char *)json_string_value(text), *end = p + json_string_length(text);

        (void)s;
        if (last != sent)
                fprintf(stderr, "%s%c%lld%c", last < 0 ? "" : "\n", sent ? '>' : '<', (long long)time(NULL), sent ? '>' : '<');
        last = sent;
        while (p < end) {
                if (*p >= 0xc0 && p + 1 < end) {
                        putc((p[0] & 3) << 6 | (p[1] & 0x3f), stderr);
                        p += 2;
                } else {
                        putc(*p++, stderr);
                }
        }
        fflush(stderr);
}

/* An error may name its mailbox already. */
static void show_failure(const char *item, const char *error)
{
        bool named = strncmp(error, item, strlen(item)) == 0;

        fprintf(stderr, "sync_client: %s%s%s\n", named ? "" : item, named ? "" : ": ", error);
}

static void show_row(void *ctx, json_t *row)
{
        struct sync_client *s = ctx;
        json_t *text;

        progress_clear(&s->progress);
        if ((text = json_object_get(row, "action")))
                printf("%s\n", json_string_value(text));
        else if ((text = json_object_get(row, "sent")))
                show_traffic(s, true, text);
        else if ((text = json_object_get(row, "received")))
                show_traffic(s, false, text);
        else if ((text = json_object_get(row, "notice")))
                fprintf(stderr, "sync_client: %s\n", json_string_value(text));
        else if (json_object_get(row, "error"))
                show_failure(tool_str(row, "item"), tool_str(row, "error"));
        fflush(stdout);
}

static void show_progress(void *ctx, uint64_t done, uint64_t total, const char *unit)
{
        struct sync_client *s = ctx;

        progress_report(&s->progress, done, total, unit);
}

static void show_waiting(void *ctx)
{
        struct sync_client *s = ctx;

        progress_tick(&s->progress);
}

/* ---- words ------------------------------------------------------------------------------------------------------------------ */

/* One name a line; '#' begins a comment. */
static int read_names(struct sync_client *s, const char *path)
{
        FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
        char *line = NULL;
        size_t cap = 0;
        ssize_t len;

        if (!in) {
                perror(path);
                return -1;
        }
        while ((len = getline(&line, &cap, in)) >= 0) {
                struct span word = span_trim((struct span){ line, strcspn(line, "#") });

                if (word.len)
                        json_array_append_new(s->names, json_stringn(word.p, word.len));
        }
        free(line);
        if (in != stdin)
                fclose(in);
        return 0;
}

/* A log, as it is. Read by who started us: the daemon may not be allowed to. */
static int read_lines(struct sync_client *s, const char *path)
{
        FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "r");
        size_t n;

        if (!in) {
                perror(path);
                return -1;
        }
        do {
                str_reserve(&s->lines, 65536);
                n = fread(s->lines.data + s->lines.len, 1, 65536, in);
                s->lines.len += n;
        } while (n > 0 && s->lines.len < LINES_MAX);
        if (in != stdin)
                fclose(in);
        if (!utf8_valid(str_span(&s->lines)) || s->lines.len >= LINES_MAX) {
                fprintf(stderr, "sync_client: %s is no log of changes\n", path);
                return -1;
        }
        return 0;
}

static int take_mode(struct sync_client *s, const char *mode)
{
        if (s->mode || s->roll)
                return usage();
        s->mode = mode;
        return TOOL_OK;
}

static int take_roll(struct sync_client *s, bool background)
{
        if (s->mode)
                return usage();
        s->roll = true;
        s->background |= background;
        return TOOL_OK;
}

static void set(struct sync_client *s, const char *key, const char *value)
{
        json_object_set_new(s->args, key, value ? json_string(value) : json_true());
}

static int take_option(struct sync_client *s, int opt, const char *value)
{
        switch (opt) {
        case 'A': return take_mode(s, "all");
        case 'u': return take_mode(s, "user");
        case 'm': return take_mode(s, "mailbox");
        case 's': return take_mode(s, "meta");
        case 'r': return take_roll(s, true);
        case 'R': return take_roll(s, false);
        case '1': s->once = true; break;
        case 'C': s->config = value; break;
        case 'f': s->file = value; break;
        case 'w': s->wait_s = (unsigned)strtoul(value, NULL, 10); break;
        case 'v': s->verbose++; break;
        case 'S': set(s, "host", value); break;
        case 'n': set(s, "channel", value); break;
        case 'p': set(s, "partition", value); break;
        case 'l': set(s, "log", NULL); break;
        case 'L': set(s, "local_only", NULL); break;
        case 'z': set(s, "need_compress", NULL); break;
        case 'o': set(s, "connect_once", NULL); break;
        case 'O': set(s, "no_copyback", NULL); break;
        case 'N': set(s, "no_wait", NULL); break;
        case 'a': case 'd': case 'F': case 't': break;          /* -a: there are no archive partitions; the others are read by "sync.roll" */
        default: return usage();
        }
        return TOOL_OK;
}

static int take_words(struct sync_client *s, int argc, char **argv)
{
        static const struct option longs[] = {
                { "all-users", no_argument, NULL, 'A' }, { "user", no_argument, NULL, 'u' }, { "mailbox", no_argument, NULL, 'm' },
                { "meta", no_argument, NULL, 's' }, { "rolling", no_argument, NULL, 'r' }, { "foreground-rolling", no_argument, NULL, 'R' },
                { "rolling-once", no_argument, NULL, '1' }, { "input-file", required_argument, NULL, 'f' },
                { "server", required_argument, NULL, 'S' },
                { "channel", required_argument, NULL, 'n' }, { "partition", required_argument, NULL, 'p' }, { "verbose", no_argument, NULL, 'v' },
                { "no-copyback", no_argument, NULL, 'O' }, { "local-only", no_argument, NULL, 'L' },
                { "require-compression", no_argument, NULL, 'z' },
                { "connect-once", no_argument, NULL, 'o' }, { "delay", required_argument, NULL, 'd' }, { "timeout", required_argument, NULL, 't' },
                { "shutdown-file", required_argument, NULL, 'F' }, { "stage-to-archive", no_argument, NULL, 'a' }, { NULL, 0, NULL, 0 },
        };
        int opt, rc;

        while ((opt = getopt_long(argc, argv, "C:AF:LNOR1S:ad:f:lmn:op:rst:uvw:z", longs, NULL)) != -1)
                if ((rc = take_option(s, opt, optarg)) != TOOL_OK)
                        return rc;
        if (!s->mode && !s->roll)
                return usage();
        for (int i = optind; i < argc; i++)
                json_array_append_new(s->names, json_string(argv[i]));
        if (s->file && (s->mode ? read_names(s, s->file) : read_lines(s, s->file)) < 0)
                return TOOL_FAILED;
        if (s->mode && strcmp(s->mode, "all") != 0 && json_array_size(s->names) == 0)
                return usage();
        return TOOL_OK;
}

/* ---- doing it --------------------------------------------------------------------------------------------------------------- */

static int sync_now(struct sync_client *s, struct err *err)
{
        struct ctl_client client = { .conf = s->t.conf, .row = show_row, .progress = show_progress, .waiting = show_waiting, .ctx = s };
        int rc;

        json_object_set_new(s->args, "mode", json_string(s->mode));
        json_object_set(s->args, "names", s->names);
        json_object_set_new(s->args, "verbose", json_integer(s->verbose));
        if (s->config)
                json_object_set_new(s->args, "config", json_string(conf_path(s->t.conf)));
        progress_init(&s->progress, s->verbose == 0 && isatty(STDERR_FILENO));
        rc = ctl_client_call(&client, "sync.client", json_incref(s->args), err);
        progress_clear(&s->progress);
        if (s->verbose > 1)
                putc('\n', stderr);
        return rc;
}

static int roll(struct sync_client *s, int argc, char **argv, struct err *err)
{
        struct ctl_client client = { .conf = s->t.conf, .row = show_row, .waiting = show_waiting, .ctx = s };
        json_t *words = json_array(), *args = json_pack("{s:o}", "argv", words);

        for (int i = 0; i < argc; i++)
                json_array_append_new(words, json_string(argv[i]));
        if (s->file)
                json_object_set_new(args, "lines", json_stringn(s->lines.data, s->lines.len));
        return ctl_client_call(&client, "sync.roll", args, err);
}

int sync_client_main(int argc, char **argv)
{
        struct sync_client s = { .mode = NULL };
        struct err err = ERR_INIT;
        char **given = xmalloc(((size_t)argc + 1) * sizeof *given);    /* getopt_long() moves words about */
        int rc;

        memcpy(given, argv, ((size_t)argc + 1) * sizeof *given);
        str_init(&s.lines);
        s.args = json_object();
        s.names = json_array();
        rc = take_words(&s, argc, argv);
        if (rc == TOOL_OK) {
                if (s.wait_s)
                        sleep(s.wait_s);
                if (tool_open(&s.t, "sync_client", s.config, TOOL_STORE) < 0)
                        rc = TOOL_FAILED;
                else if ((s.roll ? roll(&s, argc, given, &err) : sync_now(&s, &err)) < 0)
                        rc = tool_fail(&s.t, &err);
                tool_close(&s.t);
        }
        str_deinit(&s.lines);
        json_decref(s.args);
        json_decref(s.names);
        free(given);
        return rc;
}
