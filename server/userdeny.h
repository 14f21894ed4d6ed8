/*
 * userdeny - users who are kept out of some services or all: the file "userdeny" in configdirectory, edited with cyr_deny.
 * A line for each user: user, TAB, services, TAB, message. Services are names as in cyrus.conf, shell patterns, separated by commas. The file
 * is read at each log-in (it is small, and log-ins are checked on threads that may block, unless there is no such file), replaced as a whole
 * by cyr_deny, under a lock.
 */
#ifndef SERVER_USERDENY_H
#define SERVER_USERDENY_H

#include <stdbool.h>

#include "util/conf.h"
#include "util/err.h"
#include "util/str.h"

#define USERDENY_DEFAULT_MESSAGE "Access to this service has been blocked"

/*
 * 1: `user` (canonical) is denied `service`, and `message` (appended) is what he is to be told; 0: he is not; -1: the file could not be
 * read (ERR_IO …): nobody can be let in then who might be denied. Blocks.
 */
int userdeny_check(const struct conf *conf, const char *user, const char *service, struct str *message, struct err *err);
/* Can it be said without reading anything that nobody is denied anything? Does not block. */
bool userdeny_nobody(const struct conf *conf);
/* Set or replace (services, message NULL: all of them, the default) or remove (both NULL and remove) a user's line. ERR_SYNTAX: TAB or line
 * ends in it; ERR_BUSY; ERR_IO. Durable when it returns. */
int userdeny_set(const struct conf *conf, const char *user, const char *services, const char *message, struct err *err);
int userdeny_remove(const struct conf *conf, const char *user, struct err *err);        /* who is not there: fine */
/* Calls fn for each line. */
int userdeny_each(const struct conf *conf, void (*fn)(void *ctx, struct span user, struct span services, struct span message), void *ctx,
                  struct err *err);

#endif
