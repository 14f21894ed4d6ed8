/*
 * lock_order - the engine's locks, after the store's (store/lock_order.h): the store wakes sessions with its own locks held, the
 * engine never calls the store with one of its own. All are short: no system call that could block is made under them, but for
 * accept(), which is non-blocking.
 */
#ifndef SERVER_LOCK_ORDER_H
#define SERVER_LOCK_ORDER_H

#include "store/lock_order.h"
#include "util/lock.h"

extern struct lock_class services_class ACQUIRED_AFTER(names_class);    /* services, their listeners and what they were told */
extern struct lock_class listeners_class ACQUIRED_AFTER(services_class);        /* listening sockets, while one accepts */
extern struct lock_class service_class ACQUIRED_AFTER(listeners_class); /* one service's TLS context and timeouts */
extern struct lock_class slots_class ACQUIRED_AFTER(listeners_class);   /* the free slots of the session table */
extern struct lock_class notify_class ACQUIRED_AFTER(change_class);     /* who wants to hear of changes, and what is queued for them */
extern struct lock_class info_class ACQUIRED_AFTER(slots_class);        /* a session's texts for status; that it is not freed meanwhile */
extern struct lock_class limits_class ACQUIRED_AFTER(info_class);       /* counts by address and user */
extern struct lock_class groups_class ACQUIRED_AFTER(names_class);      /* what groups users are in: a leaf */
extern struct lock_class timers_class ACQUIRED_AFTER(limits_class, change_class);       /* the timer wheel: a leaf */
extern struct lock_class offload_class ACQUIRED_AFTER(limits_class, change_class);      /* a queue of blocking calls: a leaf */
extern struct lock_class pool_class ACQUIRED_AFTER(limits_class, change_class, notify_class, index_class, sync_class, quota_class);   /* the run
                                                                         * queue: a leaf, taken by every wake */

#endif
