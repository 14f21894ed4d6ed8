/*
 * child - programs that are not ours: where they are found, and how they are started.
 * They are looked for beside our own executable and in the lib/cyrus/bin of our own tree, never in a real Cyrus's directories; a
 * path with '/' is taken as it is. Our own programs run through /proc/self/exe, so they start even when the daemon's user
 * could not reach the directory the binary lies in.
 */
#ifndef SERVER_CHILD_H
#define SERVER_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "util/err.h"

/* Remember where our executable is and which descriptor limit children get. First thing in main(). */
void child_init(void);
/* The directory of our executable, without a '/' at the end. */
const char *child_own_dir(void);
/* Raise RLIMIT_NOFILE to the hard limit. */
void child_raise_fd_limit(void);

struct child_options {
        char *const *argv;
        const char *service;                    /* CYRUS_SERVICE; NULL: none */
        int id;                                 /* CYRUS_ID; below 0: none */
        int fd0, fd1;                           /* become standard input and output; 0: as ours are */
        int fd3, fd4;                           /* become descriptors 3 and 4; -1: closed */
        int maxfds;                             /* RLIMIT_NOFILE; 0: what we were started with */
};

/*
 * Start a program. All other descriptors but 0-2 are closed in it, signals are as at a login. Returns the process id, or -1
 * with err (ERR_NOTFOUND: no such program here). Must not be called while the caller holds a lock.
 */
pid_t child_start(const struct child_options *options, struct err *err);

/* Is there such a program? Returns 0, or -1 with err. */
int child_check(const char *name, struct err *err);

/* Wait for a child for at most `timeout_s` seconds (0: for ever) and give its wait status. Returns 0, -1 ERR_TIMEOUT. */
int child_wait(pid_t pid, unsigned timeout_s, int *status_r, struct err *err);

/* "exit status 3", "signal 11 (Segmentation fault)" into buf, which is returned. */
const char *child_status_text(int status, char *buf, size_t size);

#endif
