/*
 * cyr_info - the configuration as the server sees it, and who is connected. conf: what is set to other than the default; conf-all: everything;
 * conf-default: the defaults; conf-lint: what nobody understands; proc: a line for each connection. Forms are Cyrus 3.6's.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "server/masterconf.h"
#include "server/tools/tool.h"
#include "server/version.h"

struct info {
        struct tool t;
        const char *service;                    /* -n */
        struct masterconf *services;            /* NULL: no cyrus.conf */
};

static void print_options(const struct info *i, bool defaults_too)
{
        size_t n, pos = 0;
        const struct conf_option *o = conf_options(&n);
        const char *name, *value;

        for (; n--; o++) {
                const char *is = conf_raw(i->t.conf, i->service, o->name);

                if (defaults_too || (is && strcmp(is, o->def ? o->def : "") != 0))
                        printf("%s: %s\n", o->name, is ? is : "");
        }
        while (conf_next(i->t.conf, "", &pos, &name, &value))
                if (!conf_option_find(name) && !conf_option_renamed(name))
                        printf("%s: %s\n", name, value);
}

static void print_defaults(void)
{
        size_t n;
        const struct conf_option *o = conf_options(&n);

        for (; n--; o++)
                printf("%s: %s\n", o->name, o->def ? o->def : "");
}

/* Names that stand for many: partitions, SASL's own, peers' passwords. */
static bool is_free_form(const char *name)
{
        static const char *const prefixes[] = { "sasl_", "partition-", "metapartition-", "archivepartition-", "backuppartition-", "searchpartition-",
                                                "xlist-", "autocreate_acl" };
        static const char *const suffixes[] = { "_password", "_mechs", "_client_cert", "_client_key" };

        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
                if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
                        return true;
        for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
                size_t n = strlen(name), s = strlen(suffixes[i]);

                if (n > s && strcmp(name + n - s, suffixes[i]) == 0)
                        return true;
        }
        return strstr(name, "searchpartition-") != NULL;
}

static bool is_known(const char *name)
{
        return conf_option_find(name) || conf_option_renamed(name) || is_free_form(name);
}

/* "imap_timeout" where cyrus.conf has a service "imap", and "<channel>_sync_host". */
static bool is_of_a_service(const struct info *i, const char *name)
{
        const char *channels = conf_raw(i->t.conf, NULL, "sync_log_channels");

        for (enum master_section s = 0; i->services && s < MASTER_SECTIONS; s++) {
                const struct master_entry *e;
                size_t pos = 0;

                while ((e = masterconf_next(i->services, s, &pos)) != NULL) {
                        size_t n = strlen(e->name);

                        if (strncasecmp(name, e->name, n) == 0 && name[n] == '_' && is_known(name + n + 1))
                                return true;
                }
        }
        while (channels && *channels) {
                size_t n = strcspn(channels, " ,");

                if (n && strncasecmp(name, channels, n) == 0 && name[n] == '_' && is_known(name + n + 1))
                        return true;
                channels += n + (channels[n] != '\0');
        }
        return false;
}

static void lint(const struct info *i)
{
        const char *name, *value;
        size_t pos = 0;

        while (conf_next(i->t.conf, "", &pos, &name, &value))
                if (!is_known(name) && !is_of_a_service(i, name))
                        printf("%s: %s\n", name, value);
}

/* "PID service host user mailbox command", as Cyrus has a process for each. */
static void print_session(void *ctx, json_t *row)
{
        const char *peer = tool_str(row, "peer");

        if (strcmp(tool_str(row, "service"), "cyrctl") == 0)    /* the administrator, this tool among them */
                return;
        printf("%lld %s %s%s%s %s %s %s\n", *(long long *)ctx, tool_str(row, "service"), *peer ? "[" : "", *peer ? peer : "localhost",
               *peer ? "]" : "", tool_str(row, "user"), tool_str(row, "mailbox"), tool_str(row, "command"));
}

static void find_pid(void *ctx, json_t *row)
{
        if (strcmp(tool_str(row, "kind"), "daemon") == 0)
                *(long long *)ctx = json_integer_value(json_object_get(row, "pid"));
}

/* With the daemon down there is nobody: no output. */
static int proc(struct info *i)
{
        struct err err = ERR_INIT;
        long long pid = 0;

        if (tool_call(&i->t, "status", json_object(), find_pid, &pid, &err) < 0)
                return tool_fail(&i->t, &err);
        if (tool_call(&i->t, "sessions", json_object(), print_session, &pid, &err) < 0 && err.code != ERR_UNAVAILABLE)
                return tool_fail(&i->t, &err);
        return TOOL_OK;
}

static int usage(void)
{
        fputs("usage: cyr_info [-C imapd.conf] [-M cyrus.conf] [-n service] command\n"
              "  conf          options with other than their default values\n"
              "  conf-all      all options\n"
              "  conf-default  the defaults\n"
              "  conf-lint     unknown options\n"
              "  proc          who is connected\n"
              "  version       the version\n", stderr);
        return TOOL_USAGE;
}

int tool_cyr_info_main(int argc, char **argv)
{
        struct info i = { .service = NULL };
        const char *config = NULL, *master = NULL, *command;
        struct diag diag = DIAG_INIT;
        struct err err = ERR_INIT;
        int opt, ret = TOOL_OK;

        while ((opt = getopt(argc, argv, "C:M:n:s:")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 'M': master = optarg; break;
                case 'n': i.service = optarg; break;
                case 's': break;                /* which options are new since a version of Cyrus: none of ours is */
                default: return usage();
                }
        }
        if (optind + 1 != argc)
                return usage();
        command = argv[optind];
        if (strcmp(command, "version") == 0) {
                printf("cyrus-imapd %s-cyrd\n", CYRUS_COMPAT);
                return TOOL_OK;
        }
        if (tool_open(&i.t, "cyr_info", config, strcmp(command, "proc") == 0 ? TOOL_STORE : TOOL_CONF) < 0) {
                tool_close(&i.t);
                return TOOL_FAILED;
        }
        if (masterconf_load(master, &i.services, &diag, &err) < 0 && master)
                ret = tool_fail(&i.t, &err);
        else if (strcmp(command, "conf") == 0)
                print_options(&i, false);
        else if (strcmp(command, "conf-all") == 0)
                print_options(&i, true);
        else if (strcmp(command, "conf-default") == 0)
                print_defaults();
        else if (strcmp(command, "conf-lint") == 0)
                lint(&i);
        else if (strcmp(command, "proc") == 0)
                ret = proc(&i);
        else
                ret = usage();
        masterconf_destroy(&i.services);
        diag_deinit(&diag);
        tool_close(&i.t);
        return ret;
}
