/*
 * user - what belongs to a user besides mailboxes: subscriptions, autocreation.
 */
#ifndef STORE_USER_H
#define STORE_USER_H

#include <stdbool.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/err.h"

struct store;

/* Is `name` (internal) subscribed? From memory after the first call for a user; the first may read the database (fast, cached). */
int sub_has(struct store *store, const char *userid, const char *name, bool *yes_r, struct err *err);
/* All subscribed internal names in order, in the arena, NULL-terminated. */
int sub_list(struct store *store, const char *userid, struct arena *arena, const char ***names_r, struct err *err);
/* Durable when it returns: blocks. Subscribing twice, or unsubscribing what is not, is fine. */
int sub_set(struct store *store, const char *userid, const char *name, bool subscribed, struct err *err);

/* Every subscription there is, by user, until fn returns false. Reads the database. */
int sub_each(struct store *store, bool (*fn)(void *ctx, const char *userid, const char *name), void *ctx, struct err *err);

enum autocreate_why { AUTOCREATE_LOGIN, AUTOCREATE_POST };
/* Would autocreation make this user's INBOX (options autocreate_*)? Cheap, never blocks. */
bool user_autocreate_wanted(struct store *store, const char *userid, enum autocreate_why why);
/* Make INBOX, its folders with special uses and ACLs, subscriptions. Blocks. Doing it twice at once is fine; where it is not wanted
 * (see above) nothing is done and 0 returned. A quota root is made as autocreate_quota and autocreate_quota_messages say. */
int user_autocreate(struct store *store, const char *userid, enum autocreate_why why, struct err *err);

#define USERID_MAX 255
/* Canonical user id from what a client gave: username_tolower, virtdomains, defaultdomain, character rules. ERR_BADNAME. */
int user_canonify(struct store *store, const char *given, struct arena *arena, const char **userid_r, struct err *err);

#endif
