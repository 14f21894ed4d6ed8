/*
 * limits - how many connections an address and a user may have, and how many strangers there may be in all.
 *
 * Options: maxconnections_per_host (connections of one address and service), maxunauthenticated (all connections that have not
 * logged in), maxunauthenticated_per_host, maxlogins_per_host, maxlogins_per_user. 0: no limit. Connections over Unix sockets do not
 * count by address. When maxunauthenticated is reached, the stranger who has been here longest gives way to a new one – an
 * attacker who holds them all must not keep users out – unless he too came only a moment ago.
 * An IPv6 address counts by its /64, which is what one client has; an IPv4-mapped one as IPv4.
 */
#ifndef SERVER_LIMITS_H
#define SERVER_LIMITS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "server/lock_order.h"
#include "server/session.h"
#include "util/conf.h"

struct limits_place {                           /* what one session takes up; in the session; guarded by limits_class */
        struct limits_host *host, *host_service;
        struct limits_user *user;
        struct limits_place *prev, *next;       /* strangers, oldest first */
        struct session_id id;
        uint64_t since_ms;
        bool logged_in, stranger;
};

enum limits_verdict { LIMITS_OK, LIMITS_HOST, LIMITS_STRANGERS };

void limits_setup(struct conf *conf);           /* at start and HUP */
void limits_teardown(void);
/*
 * Count a new connection. LIMITS_OK: *evict_r may name a session (generation != 0) that has to go for it. Otherwise nothing was
 * counted. per_address_max > 0 overrides maxconnections_per_host.
 */
enum limits_verdict limits_enter(struct limits_place *place, const struct sockaddr_storage *peer, const char *service,
                                 int per_address_max, struct session_id id, uint64_t now_ms, struct session_id *evict_r)
        EXCLUDES(limits_class);
void limits_authenticated(struct limits_place *place) EXCLUDES(limits_class);
void limits_stranger(struct limits_place *place, uint64_t now_ms) EXCLUDES(limits_class);       /* logged out, and still there */
/*
 * A log-in: count this one as the user's and as logged in, unless there are per_user (0: no limit) of the user's or per_host of the
 * address already. Looking and counting are one step, so that logins side by side cannot pass the limits together. False: nothing
 * was counted. What was counted goes with limits_leave().
 */
bool limits_login(struct limits_place *place, const char *user, unsigned per_user, unsigned per_host) EXCLUDES(limits_class);
void limits_user(struct limits_place *place, const char *user) EXCLUDES(limits_class);          /* NULL: none any more */
void limits_leave(struct limits_place *place) EXCLUDES(limits_class);
unsigned limits_count_user(const char *user) EXCLUDES(limits_class);
unsigned limits_count_host(const struct limits_place *place) EXCLUDES(limits_class);            /* logged in, of this address */

#endif
