/*
 * tool - what the programs under Cyrus's names share: reading imapd.conf, becoming the daemon's user, and asking for operations
 * (server/control/ops.h) on the running daemon through its socket, or on the stopped store under its lock.
 */
#ifndef SERVER_TOOLS_TOOL_H
#define SERVER_TOOLS_TOOL_H

#include <jansson.h>

#include "util/conf.h"
#include "util/err.h"

enum {                                          /* exit statuses, as in sysexits.h */
        TOOL_OK = 0,
        TOOL_FAILED = 1,
        TOOL_USAGE = 64,
        TOOL_DATA = 65,
        TOOL_SOFTWARE = 70,
};

struct tool {
        const char *name;
        struct conf *conf;
};

enum tool_need {
        TOOL_CONF,                              /* imapd.conf alone, as whoever runs us */
        TOOL_STORE,                             /* a configuration with a store, as the daemon's user: what root makes there it could not write */
};

/* Read imapd.conf (config NULL: the usual one). Returns 0, or -1 after a message on stderr. tool_close() it either way. */
int tool_open(struct tool *t, const char *name, const char *config, enum tool_need need);
void tool_close(struct tool *t);

/* Call an operation; `row` gets each row, borrowed. `args` is taken over. Returns 0, or -1 with err. */
int tool_call(struct tool *t, const char *op, json_t *args, void (*row)(void *ctx, json_t *row), void *ctx, struct err *err);
/* "name: text" on stderr. Returns TOOL_FAILED. */
int tool_fail(const struct tool *t, const struct err *err);

/* Strings of a row; never NULL. */
const char *tool_str(json_t *row, const char *key);

/* As ctime() has it, without its line end; in a buffer of the caller. */
#define TOOL_TIME_MAX 40
const char *tool_time(json_t *row, const char *key, char buf[TOOL_TIME_MAX]);
/* Of a row about a message (server/control/ops_expunged.c) the lines that unexpunge and ipurge print, with the empty one behind. What strangers
 * wrote in the header does nothing to a terminal. */
void tool_print_message(json_t *row);

/* The programs. */
int tool_ctl_mboxlist_main(int argc, char **argv);      /* mboxlist.c */
int tool_mbpath_main(int argc, char **argv);            /* mbpath.c */
int tool_cyr_info_main(int argc, char **argv);          /* info.c */
int tool_cyr_deny_main(int argc, char **argv);          /* deny.c */
int tool_quota_main(int argc, char **argv);             /* quota.c */
int tool_reconstruct_main(int argc, char **argv);       /* reconstruct.c */
int tool_deliver_main(int argc, char **argv);           /* deliver.c */
int tool_arbitron_main(int argc, char **argv);          /* arbitron.c */
int tool_cyr_userseen_main(int argc, char **argv);      /* userseen.c */
int tool_cyr_expire_main(int argc, char **argv);        /* expire.c */
int tool_unexpunge_main(int argc, char **argv);         /* unexpunge.c */
int tool_ipurge_main(int argc, char **argv);            /* ipurge.c */
int tool_cyr_df_main(int argc, char **argv);            /* df.c */

/* The same arguments, of an event of cyrus.conf: those of the operation "expire". NULL with err: ERR_CONFIG. */
json_t *tool_cyr_expire_args(int argc, char *const *argv, struct err *err);

#endif
