/*
 * names - the programs of Cyrus that we answer for, by name: what a cmd= of cyrus.conf means inside the daemon, and what the
 * binary is when it is started under that name. Immutable tables; any thread.
 */
#ifndef SERVER_NAMES_H
#define SERVER_NAMES_H

#include <stdbool.h>

#include "util/diag.h"
#include "util/err.h"

enum program_kind {
        PROGRAM_SERVICE,                        /* holds a port */
        PROGRAM_TOOL,                           /* runs and ends */
        PROGRAM_DAEMON,                         /* runs on beside the services (idled) */
};

struct program {
        const char *name;
        enum program_kind kind;
        bool built;                             /* false: known, and refused with a clear message */
        const char *flags;                      /* of a service, getopt's notation; NULL: not checked */
        const char *refusal;                    /* of a service that is not built: what a client is told, without the last CRLF */
        const char *needless;                   /* why there is nothing for it to do: it ends with 0 at once. NULL: there is */
};

/* NULL: not one of Cyrus's programs. */
const struct program *program_find(const char *name);
/* What Debian's wrapper `cyrus NAME …` would run: NAME, cyr_NAME, ctl_NAME, and chk_cyrus for check. NULL: nothing of Cyrus's. */
const struct program *program_find_wrapped(const char *name);
/* All of them, for `make install` and tests; *n_r is their number. */
const struct program *program_table(size_t *n_r);

/* What the words of a service's cmd= said. The strings are borrowed from argv. */
struct service_args {
        const char *config;                     /* -C; NULL: the daemon's own */
        bool tls;                               /* -s: TLS at once */
        bool preauth;                           /* lmtpd -a: no AUTH needed */
        bool no_password;                       /* imapd -N: accept any password */
        bool no_quota;                          /* imapd -q */
        int external_ssf;                       /* -p: strength of a security layer outside of us */
        bool master;                            /* mupdate -m */
        /* Of a process under another master: how many connections it takes (-U, 0: 250) and how long it waits for one (-T, seconds, -1: 60, 0: for
         * ever). Inside the daemon they have no meaning. */
        unsigned uses;
        int wait_s;
};

/*
 * Check and read the words of a service's cmd=, argv[0] being the program. As with Cyrus an option and its argument are two
 * words. Returns 0, or -1 with ERR_CONFIG.
 */
int service_args_parse(const struct program *program, int argc, char *const *argv, struct service_args *args_r, struct err *err);

#endif
