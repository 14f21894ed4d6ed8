/*
 * msgfile - the small files an operator leaves for all sessions below <configdirectory>/msg/ (cyrus-files 4):
 * `shutdown`, `shutdown.<service>` and `motd`. A look costs one or two open() calls on names that are mostly not there.
 */
#ifndef SERVER_MSGFILE_H
#define SERVER_MSGFILE_H

#include <stdbool.h>

#include "util/conf.h"

#define MSGFILE_MAX 512
/* Is the service to end? Its first line, made printable, without a leading '[' (it would look like a response code), is in `reason`. */
bool msgfile_shutdown(const struct conf *conf, const char *service, char reason[MSGFILE_MAX]);
/* The first line of msg/motd; false when there is none. */
bool msgfile_motd(const struct conf *conf, char line[MSGFILE_MAX]);

#endif
