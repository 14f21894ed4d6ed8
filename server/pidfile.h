/*
 * pidfile - the file that names the daemon's process: digits and a line end, written when every service listens. It is opened and
 * locked before root is given up, so a second daemon with the same file is told who is there.
 */
#ifndef SERVER_PIDFILE_H
#define SERVER_PIDFILE_H

#include "util/err.h"

struct pidfile { int fd; char *path; };
#define PIDFILE_INIT { -1, 0 }

int pidfile_open(struct pidfile *p, const char *path, struct err *err);        /* path NULL: none; ERR_BUSY: another holds it */
int pidfile_write(struct pidfile *p, struct err *err);
void pidfile_close(struct pidfile *p);          /* empties and, where allowed, removes it */

#endif
