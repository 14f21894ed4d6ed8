/* groups - the Unix groups of a user, for "group:x" in ACLs. */
#ifndef SERVER_GROUPS_H
#define SERVER_GROUPS_H

/* Names, NULL-terminated. Who has no account on this system may be in groups, too. The caller's: groups_free(). May ask the network (NSS):
 * on threads that may block only. */
char **groups_of(const char *userid);
void groups_free(char ***groups);

#endif
