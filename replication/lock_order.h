/*
 * lock_order - replication's locks, after the store's and the server's (store/lock_order.h, server/lock_order.h): the change feed calls us with its
 * lock held, and we wake sessions' threads, never the other way round. All are short: nothing that blocks is done under them.
 */
#ifndef REPLICATION_LOCK_ORDER_H
#define REPLICATION_LOCK_ORDER_H

#include "server/lock_order.h"
#include "util/lock.h"

extern struct lock_class rolling_class ACQUIRED_AFTER(services_class);  /* a channel of rolling replication, and the list of them */
extern struct lock_class sync_mode_class ACQUIRED_AFTER(services_class, rolling_class); /* who waits for a synchronous replica */
extern struct lock_class role_class ACQUIRED_AFTER(services_class, rolling_class, sync_mode_class);         /* which host is the master: a leaf */
extern struct lock_class sync_log_class ACQUIRED_AFTER(change_class, rolling_class, sync_mode_class);    /* the queue of the log for replicas: a leaf */

#endif
