/* groups - the Unix groups of a user, for "group:x" in ACLs. */
#ifndef SERVER_GROUPS_H
#define SERVER_GROUPS_H

#include "server/lock_order.h"

/* Names, NULL-terminated. Who has no account on this system may be in groups, too. The caller's: groups_free(). May ask the network (NSS):
 * on threads that may block only. Of a change in /etc/passwd or /etc/group the next call knows, of one in a directory service within a
 * minute. */
char **groups_of(const char *userid) EXCLUDES(groups_class);
/* The same as far as it is known without asking anybody, which does not block. NULL: it is not. */
char **groups_known(const char *userid) EXCLUDES(groups_class);
void groups_free(char ***groups);

#endif
