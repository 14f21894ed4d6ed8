/*
 * identity - who the daemon is: started as root it becomes cyrus_user for good once its addresses are bound; started by anybody
 * else it stays that user. From main.c, before threads.
 */
#ifndef SERVER_IDENTITY_H
#define SERVER_IDENTITY_H

#include <stdbool.h>
#include <sys/types.h>

#include "util/conf.h"
#include "util/err.h"

struct identity {
        bool changes;                           /* we are root and shall become … */
        uid_t uid;
        gid_t gid;
        char user[64];
};

/* Find out. ERR_CONFIG: cyrus_user or cyrus_group does not exist, or is root. */
int identity_find(const struct conf *conf, struct identity *id_r, struct err *err);

/*
 * Give up root: groups, gid, uid, and check that it cannot be undone. What remains is CAP_NET_BIND_SERVICE, so that HUP can
 * open a low port as Cyrus's master can, and CAP_SYS_NICE, not in force; exec loses them. Does nothing when we are not root.
 */
int identity_become(const struct identity *id, struct err *err);

/*
 * The calling thread goes before others where processors are scarce: for the few whose being late holds up everything of a kind. Where that is not allowed
 * (the daemon was not started as root) nothing happens.
 */
void identity_prefer_thread(void);

#endif
