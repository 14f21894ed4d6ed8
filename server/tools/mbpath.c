/*
 * mbpath - where a mailbox is on the disk. A mailbox is one directory here: archive, data and meta are the same. With -j the JSON object of
 * Cyrus 3.6; what would be a file for each user there is a table of the one database environment.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/tools/tool.h"
#include "util/must.h"
#include "util/str.h"

enum { SHOW_ARCHIVE = 1, SHOW_DATA = 2, SHOW_META = 4, SHOW_SIEVE = 8, SHOW_USER = 16, SHOW_ALL = 31 };

struct mbpath {
        struct tool t;
        unsigned show;
        bool json, quiet, stop;
        const char *argument;                   /* of the operation: "mailbox", "user" or "uniqueid" */
        json_t *row;
};

static void keep_row(void *ctx, json_t *row)
{
        struct mbpath *m = ctx;

        m->row = json_incref(row);
}

static char *directory_of(const struct mbpath *m)
{
        const char *dir = conf_partition(m->t.conf, tool_str(m->row, "partition")), *id = tool_str(m->row, "uniqueid");
        struct str path = STR_INIT;

        if (!dir || strlen(id) < 2)
                return NULL;
        str_printf(&path, "%s/%c/%c/%s", dir, id[0], id[1], id);
        return str_take(&path);
}

/* "domain!user.joe.Sent" taken apart as Cyrus shows it. */
static json_t *mbname_json(const char *name)
{
        json_t *o = json_object(), *boxes = json_array();
        const char *bang = strchr(name, '!'), *rest = bang ? bang + 1 : name;

        if (bang)
                json_object_set_new(o, "domain", json_stringn(name, (size_t)(bang - name)));
        json_object_set_new(o, "intname", json_string(name));
        if (strncmp(rest, "user.", 5) == 0) {
                size_t n = strcspn(rest + 5, ".");
                struct str local = STR_INIT;

                str_append(&local, rest + 5, n);
                for (size_t i = 0; i < local.len; i++)
                        if (local.data[i] == '^')
                                local.data[i] = '.';
                json_object_set_new(o, "localpart", json_string(local.data));
                if (bang)
                        str_printf(&local, "@%.*s", (int)(bang - name), name);
                json_object_set_new(o, "userid", json_string(local.data));
                str_deinit(&local);
                rest += 5 + n;
                rest += *rest == '.';
        }
        while (*rest) {
                size_t n = strcspn(rest, ".");

                json_array_append_new(boxes, json_stringn(rest, n));
                rest += n + (rest[n] == '.');
        }
        json_object_set_new(o, "boxes", boxes);
        return o;
}

static json_t *user_json(const struct mbpath *m)
{
        const char *conf = conf_str(m->t.conf, NULL, "configdirectory"), *sieve = conf_raw(m->t.conf, NULL, "sievedir");

        return json_pack("{s:o, s:o, s:s}", "seen", json_sprintf("%s/db", conf), "sub", json_sprintf("%s/db", conf), "sieve",
                         sieve ? sieve : "");
}

static int show(struct mbpath *m)
{
        char *dir = directory_of(m);
        const char *conf = conf_str(m->t.conf, NULL, "configdirectory"), *sieve = conf_raw(m->t.conf, NULL, "sievedir");
        const struct { unsigned bit; const char *label, *path; } paths[] = {
                { SHOW_ARCHIVE, "Archive", dir }, { SHOW_DATA, "Data", dir }, { SHOW_META, "Meta", dir }, { SHOW_SIEVE, "Sieve", sieve },
                { SHOW_USER, "User", conf },
        };
        bool labels = (m->show & (m->show - 1)) != 0;

        if (!dir)
                return -1;
        if (m->json) {
                json_t *o = json_pack("{s:s, s:s, s:o, s:s, s:o, s:{}}", "archive", dir, "data", dir, "mbname",
                                      mbname_json(tool_str(m->row, "name")), "meta", dir, "user", user_json(m), "xapian");

                json_dumpf(o, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
                putchar('\n');
                json_decref(o);
        }
        for (size_t i = 0; !m->json && i < sizeof paths / sizeof *paths; i++)
                if (m->show & paths[i].bit)
                        printf("%s%s%s\n", labels ? paths[i].label : "", labels ? ": " : "", paths[i].path ? paths[i].path : "");
        free(dir);
        return 0;
}

static int one(struct mbpath *m, const char *name)
{
        struct err err = ERR_INIT;
        int rc;

        m->row = NULL;
        if (strcmp(m->argument, "uniqueid") == 0 && strrchr(name, '/'))         /* a mailbox's directory is called after its unique id */
                name = strrchr(name, '/') + 1;
        rc = tool_call(&m->t, "mailbox.entry", json_pack("{s:s}", m->argument, name), keep_row, m, &err);
        if (rc == 0 && m->row)
                rc = show(m);
        if (rc < 0 && !m->quiet) {
                if (err.code && err.code != ERR_NOTFOUND && err.code != ERR_BADNAME)
                        tool_fail(&m->t, &err);
                else
                        fprintf(stderr, "Invalid mailbox name: '%s'\n", name);
        }
        json_decref(m->row);
        return rc;
}

int tool_mbpath_main(int argc, char **argv)
{
        struct mbpath m = { .argument = "mailbox" };
        const char *config = NULL;
        int opt, ret = TOOL_OK;

        while ((opt = getopt(argc, argv, "C:7ajlmqsupADMSU")) != -1) {
                switch (opt) {
                case 'C': config = optarg; break;
                case 'a': m.show = SHOW_ALL; break;
                case 'j': m.json = true; break;
                case 'q': m.quiet = true; break;
                case 's': m.stop = true; break;
                case 'u': m.argument = "user"; break;
                case 'p': m.argument = "uniqueid"; break;
                case 'A': m.show |= SHOW_ARCHIVE; break;
                case 'D': m.show |= SHOW_DATA; break;
                case 'm': case 'M': m.show |= SHOW_META; break;
                case 'S': m.show |= SHOW_SIEVE; break;
                case 'U': m.show |= SHOW_USER; break;
                case 'l': case '7': break;      /* all are local; names are taken in either form */
                default:
                        fputs("usage: mbpath [-C imapd.conf] [-j] [-l] [-q] [-s] [-u | -p] [-a | -A -D -M -S -U] mailbox...\n", stderr);
                        return TOOL_USAGE;
                }
        }
        if (!m.show)
                m.show = SHOW_DATA;
        if (tool_open(&m.t, "mbpath", config, TOOL_STORE) < 0)
                ret = TOOL_FAILED;
        for (; ret != TOOL_FAILED && !(ret && m.stop) && optind < argc; optind++)
                if (one(&m, argv[optind]) < 0)
                        ret = TOOL_DATA;
        tool_close(&m.t);
        return ret;
}
