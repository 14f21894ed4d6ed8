/*
 * lock_order - the order of locks, outermost first, as clang's analysis checks it (`make tsa`).
 * A class is only ever named. A function that takes a lock says EXCLUDES(class); one that needs it REQUIRES(instance, class).
 * Nothing here is held across a network write or a wait for a client; only the database lock is held across a disk sync.
 */
#ifndef STORE_LOCK_ORDER_H
#define STORE_LOCK_ORDER_H

#include "util/lock.h"

extern struct lock_class names_class;                                   /* changes of the mailbox list: one writer at a time */
extern struct lock_class mboxlist_class ACQUIRED_AFTER(names_class);    /* a shard of the list in memory */
extern struct lock_class open_class ACQUIRED_AFTER(mboxlist_class);     /* the table of open mailboxes */
extern struct lock_class mailbox_class ACQUIRED_AFTER(open_class);      /* one mailbox: flags, counters, appends */
extern struct lock_class sync_class ACQUIRED_AFTER(mailbox_class);      /* the queue of logs that want a sync */
extern struct lock_class quota_class ACQUIRED_AFTER(mailbox_class);     /* a leaf */
extern struct lock_class change_class ACQUIRED_AFTER(mailbox_class);    /* subscribers of the change feed: a leaf */
extern struct lock_class watch_class ACQUIRED_AFTER(mailbox_class);     /* who watches a mailbox; held while they are told: a leaf here */
extern struct lock_class view_class ACQUIRED_AFTER(mailbox_class);      /* loading a view's blocks */
extern struct lock_class sort_cache_class ACQUIRED_AFTER(mailbox_class);    /* facts for sorting: a leaf */
extern struct lock_class duplicate_class ACQUIRED_AFTER(mailbox_class);     /* marks of deliveries: a shard of the table */
extern struct lock_class duplicate_file_class ACQUIRED_AFTER(duplicate_class);      /* … their files: a leaf */
extern struct lock_class index_class ACQUIRED_AFTER(view_class);        /* an index's blocks in memory, free space in its file: a leaf */

#endif
