/* options - the command line of cyrd and master. */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

struct daemon_options {
        bool as_master;                         /* Cyrus's own defaults: pid file, syslog */
        const char *conf_path, *masterconf_path;        /* NULL: the defaults */
        const char *pidfile;                    /* NULL: none */
        const char *logfile;                    /* -L: stdout and stderr go there */
        const char *demo_dir;                   /* --demo: cyrd's own configuration in a directory of its own */
        int portbase;                           /* --portbase; -1: the demo's usual ports */
        int backlog;
        bool background;                        /* -d */
        bool keep_stdio;                        /* -D */
        bool test_only;                         /* -t */
        bool verbose;                           /* -v */
        bool print_version;                     /* -V */
        bool print_help;                        /* --help, -h; what follows it is not looked at */
        bool list_programs;                     /* --list-programs: the names of Cyrus we answer to */
        bool dump_options, manual_options;      /* --dump-options, --manual-options: the option table as text, as roff */
        bool manual_programs;                   /* --manual-programs: Cyrus's programs, as roff */
};

/* Returns 0; -1 after a message on stderr. */
int options_parse(int argc, char **argv, bool as_master, struct daemon_options *o_r);
void options_usage(bool as_master, FILE *out);

#endif
