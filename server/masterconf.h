/*
 * masterconf - cyrus.conf: what to run at start, which services to offer, what to do when.
 * An immutable reading of the file; HUP makes a new one. One thread at a time.
 *
 * Grammar (Cyrus 3.6): sections START, SERVICES, EVENTS, DAEMON, each at most once, `NAME {` … `}`; in them an entry a line:
 * `name key=value key="value with blanks"`. '#' starts a comment anywhere, even inside quotes; '}' alone or at the end of a line
 * closes the section. Names are of letters and digits. Unknown keys are reported and ignored.
 */
#ifndef SERVER_MASTERCONF_H
#define SERVER_MASTERCONF_H

#include <stdbool.h>
#include <stddef.h>

#include "util/arena.h"
#include "util/diag.h"
#include "util/err.h"
#include "util/str.h"

#define MASTERCONF_ARGS_MAX 64                  /* words of one cmd */

enum master_section { MASTER_START, MASTER_SERVICES, MASTER_EVENTS, MASTER_DAEMON, MASTER_SECTIONS };

enum master_proto { MASTER_TCP, MASTER_TCP4, MASTER_TCP6, MASTER_UDP, MASTER_UDP4, MASTER_UDP6, MASTER_UNIX };

struct master_param {
        const char *key, *value;                /* as written */
        unsigned column;                        /* of the key */
        const char *wrong;                      /* what is wrong with it, as in the diag; NULL: nothing */
};

struct master_entry {
        enum master_section section;
        const char *name;
        unsigned line, cmd_column;              /* where the entry stands, and its cmd */
        const char *cmd;                        /* as written */
        char **argv;                            /* cmd split at blanks, NULL at the end */
        int argc;
        const char *program;                    /* argv[0] without directories */
        struct master_param *params;            /* every key of the line, the unknown ones too */
        size_t params_n;

        /* SERVICES */
        const char *listen;                     /* as written */
        const char *host;                       /* NULL: all interfaces */
        const char *port;                       /* number or service name; NULL: a Unix socket at `listen` */
        enum master_proto proto;
        int prefork;
        int maxchild;                           /* -1: no limit */
        bool babysit;
        /* SERVICES and DAEMON */
        int maxfds;                             /* 0: leave as it is */
        int maxforkrate;                        /* a second; 0: no limit */
        /* EVENTS */
        int period_min;                         /* 0: once at start */
        int at_min;                             /* minutes after midnight, local time; -1: not daily */
        /* DAEMON */
        bool wait;                              /* for "ok\r\n" on descriptor 3 */
};

struct masterconf {
        struct arena arena;
        const char *path;
        struct master_entry **v;                /* in the order of the file */
        size_t n, cap;
};

/* Read a file (NULL: /etc/cyrus.conf). Returns 0 with *mc_r (masterconf_destroy() it), or -1; everything found is in diag. */
int masterconf_load(const char *path, struct masterconf **mc_r, struct diag *diag, struct err *err);
/* The same from memory; `path` is only named in messages. */
int masterconf_parse(const char *path, struct span text, struct masterconf **mc_r, struct diag *diag, struct err *err);
/* What can be read, whatever the errors are: for those who explain the file. NULL when there is no such file. */
struct masterconf *masterconf_examine(const char *path, struct diag *diag);
void masterconf_destroy(struct masterconf **mc);

const char *master_section_name(enum master_section section);          /* "SERVICES" */
/* The next entry of a section; start with *pos = 0. NULL at the end. */
const struct master_entry *masterconf_next(const struct masterconf *mc, enum master_section section, size_t *pos);
const struct master_entry *masterconf_find(const struct masterconf *mc, enum master_section section, const char *name);
/* Would the two be served in the same way? Compares everything but the place in the file. */
bool master_entry_same(const struct master_entry *a, const struct master_entry *b);
/* The same address to listen on? */
bool master_entry_same_address(const struct master_entry *a, const struct master_entry *b);

#endif
