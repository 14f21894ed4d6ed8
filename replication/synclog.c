/* synclog - cyr_synclog: lines for the log for replicas, by hand; the program */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "replication/source.h"
#include "replication/sync_log.h"
#include "server/tools/tool.h"

static const struct { char flag; enum sync_kind kind; } flags[] = {
        { 'u', SYNC_USER }, { 'U', SYNC_UNUSER }, { 'v', SYNC_META }, { 'm', SYNC_MAILBOX }, { 'M', SYNC_UNMAILBOX }, { 'q', SYNC_QUOTA },
        { 'n', SYNC_ANNOTATION }, { 's', SYNC_SEEN }, { 'b', SYNC_SUB },
};

static int usage(void)
{
        fputs("usage: cyr_synclog [-C imapd.conf] [-u|-U|-v|-m|-M|-q|-n] value\n"
              "       cyr_synclog [-C imapd.conf] -s user uniqueid\n"
              "       cyr_synclog [-C imapd.conf] -b user mailbox\n"
              "       cyr_synclog [-C imapd.conf] line\n", stderr);
        return TOOL_USAGE;
}

/* A line as it is given, or one of the kind that a flag says. False: it cannot be one. */
static bool make_line(int kind, int argc, char *const *argv, struct str *out)
{
        struct arena arena = ARENA_INIT;
        struct sync_line l;
        bool ok;

        if (kind >= 0) {
                if (argc != sync_kind_args((enum sync_kind)kind))
                        return false;
                return sync_line_write(out, &(struct sync_line){ (enum sync_kind)kind, argv[0], argc > 1 ? argv[1] : "" });
        }
        if (argc != 1)
                return false;
        ok = sync_line_parse(span_of(argv[0]), &arena, &l, NULL) == 0 && sync_line_write(out, &l);
        arena_deinit(&arena);
        return ok;
}

/* To every channel. */
static int append(struct tool *t, const struct str *line, struct err *err)
{
        const char *configdir = conf_str(t->conf, NULL, "configdirectory");
        struct arena arena = ARENA_INIT;
        const char **channels = sync_log_channels(t->conf, &arena);
        int rc = 0;

        if (!channels[0])
                rc = err_set(err, ERR_CONFIG, "there is no log: sync_log is off");
        for (size_t i = 0; rc == 0 && channels[i]; i++)
                rc = sync_log_append(configdir, channels[i], str_span(line), true, err);
        arena_deinit(&arena);
        return rc;
}

int cyr_synclog_main(int argc, char **argv)
{
        const char *config = NULL;
        struct str line = STR_INIT;
        struct err err = ERR_INIT;
        struct tool t;
        int opt, kind = -1, rc = TOOL_OK;

        while ((opt = getopt(argc, argv, "C:uUvmMqnsb")) != -1) {
                int given = -1;

                if (opt == 'C') {
                        config = optarg;
                        continue;
                }
                for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
                        if (flags[i].flag == opt)
                                given = (int)flags[i].kind;
                if (given < 0 || kind >= 0)
                        return usage();
                kind = given;
        }
        if (!make_line(kind, argc - optind, argv + optind, &line)) {
                str_deinit(&line);
                return usage();
        }
        if (tool_open(&t, "cyr_synclog", config, TOOL_STORE) < 0)
                rc = TOOL_FAILED;
        else if (append(&t, &line, &err) < 0)
                rc = tool_fail(&t, &err);
        tool_close(&t);
        str_deinit(&line);
        return rc;
}
