/* options - see options.h */
#include "server/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/str.h"

#define BACKLOG 1024
#define MASTER_BACKLOG 32
#define MASTER_PIDFILE "/run/cyrus-master.pid"

void options_usage(bool as_master, FILE *out)
{
        if (as_master)
                fputs("usage: master [-C imapd.conf] [-M cyrus.conf] [-l backlog] [-p pidfile] [-j seconds] [-d | -D]\n"
                      "              [-L logfile] [-t] [-v] [-V]\n", out);
        else
                fputs("usage: cyrd [-C imapd.conf] [-M cyrus.conf] [-d] [-D] [-p pidfile] [-l backlog] [-L logfile] [-t] [-v] [-V]\n"
                      "  -C file   imapd.conf (default /etc/imapd.conf)\n"
                      "  -M file   cyrus.conf (default /etc/cyrus.conf)\n"
                      "  -d        run in the background; returns when every service listens\n"
                      "  -D        log to syslog even in the foreground\n"
                      "  -p file   write the process id there\n"
                      "  -l n      connections that may wait to be accepted (default 1024)\n"
                      "  -L file   where stdout and stderr go, those of other programs too\n"
                      "  -t        check both files, name every error with its line and column, and exit\n"
                      "  -v        log debug messages\n"
                      "  -V        print the version\n"
                      "  --demo dir [--portbase n]   serve on loopback from a directory that is made on first use\n", out);
}

static int bad(bool as_master, const char *what, const char *word)
{
        fprintf(stderr, "%s: %s \"%s\"\n", as_master ? "master" : "cyrd", what, word);
        options_usage(as_master, stderr);
        return -1;
}

static int get_number(const char *word, uint64_t max, int *n_r)
{
        uint64_t n;

        if (!span_u64(span_of(word), max, &n))
                return -1;
        *n_r = (int)n;
        return 0;
}

/* A long option. Returns how many words it took, 0: not one. */
static int long_option(struct daemon_options *o, const char *word, const char *value)
{
        if (strcmp(word, "--dump-options") == 0)
                o->dump_options = true;
        else if (strcmp(word, "--manual-options") == 0)
                o->manual_options = true;
        else if (strcmp(word, "--manual-programs") == 0)
                o->manual_programs = true;
        else if (strcmp(word, "--list-programs") == 0)
                o->list_programs = true;
        else if (strcmp(word, "--version") == 0)
                o->print_version = true;
        else if (strcmp(word, "--demo") == 0 && value)
                o->demo_dir = value;
        else if (strcmp(word, "--portbase") == 0 && value && get_number(value, 60000, &o->portbase) == 0)
                return 2;
        else
                return 0;
        return o->demo_dir && strcmp(word, "--demo") == 0 ? 2 : 1;
}

/* A flag with an argument. Returns -1 when the argument is no good. */
static int flag_with_value(struct daemon_options *o, char flag, const char *value)
{
        int ignored;

        switch (flag) {
        case 'C': o->conf_path = value; return 0;
        case 'M': o->masterconf_path = value; return 0;
        case 'p': o->pidfile = value; return 0;
        case 'L': o->logfile = value; return 0;
        case 'l': return get_number(value, 65535, &o->backlog);
        default: return get_number(value, 1000000, &ignored);           /* -j, -J: nobody has to sweep here */
        }
}

int options_parse(int argc, char **argv, bool as_master, struct daemon_options *o)
{
        *o = (struct daemon_options){ .as_master = as_master, .portbase = -1, .backlog = as_master ? MASTER_BACKLOG : BACKLOG,
                                      .pidfile = as_master ? MASTER_PIDFILE : NULL };
        for (int i = 1; i < argc; i++) {
                const char *word = argv[i];
                int words;

                if (word[0] != '-' || word[1] == '\0')
                        return bad(as_master, "unexpected argument", word);
                if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
                        o->print_help = true;
                        return 0;
                }
                if (word[1] == '-') {
                        words = as_master ? 0 : long_option(o, word, argv[i + 1]);
                        if (words == 0)
                                return bad(as_master, "unknown option", word);
                        i += words - 1;
                        continue;
                }
                /* A cluster of flags; the one with an argument comes last, its argument joined or as the next word. */
                for (const char *f = word + 1; *f; f++) {
                        const char *value;

                        switch (*f) {
                        case 'd': o->background = true; continue;
                        case 'D': o->keep_stdio = true; continue;
                        case 't': o->test_only = true; continue;
                        case 'v': o->verbose = true; continue;
                        case 'V': o->print_version = true; continue;
                        case 'C': case 'M': case 'p': case 'L': case 'l': break;
                        case 'j': case 'J':
                                if (as_master)
                                        break;
                                /* fall through */
                        default:
                                return bad(as_master, "unknown option in", word);
                        }
                        value = f[1] ? f + 1 : argv[i + 1];
                        if (!value)
                                return bad(as_master, "an argument is missing after", word);
                        if (flag_with_value(o, *f, value) < 0)
                                return bad(as_master, "not a number:", value);
                        if (!f[1])
                                i++;
                        break;
                }
        }
        return 0;
}
