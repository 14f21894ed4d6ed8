/*
 * waiter - "later, I'll wake you": how a store operation that must wait for a disk tells the one who asked.
 * The one who asks owns the struct and keeps it in place until it is done; the store calls waiter_done() exactly once, from
 * any thread, with no store lock held that the callback could need. In `wake` the asker only notes and wakes (a session puts
 * itself on the run queue); it does no work there.
 */
#ifndef UTIL_WAITER_H
#define UTIL_WAITER_H

#include <stdatomic.h>
#include <stdbool.h>

#include "util/err.h"

struct waiter {
        void (*wake)(struct waiter *w);         /* called once, after `done` is set; may be NULL. Its argument is a copy with
                                                 * nothing but `owner`: the asker may have ended the waiter already */
        void *owner;                            /* the asker's own */
        atomic_bool done;                       /* `err` may be read once this is true (acquire) */
        struct err err;                         /* ERR_NONE: it worked */
};

void waiter_init(struct waiter *w, void (*wake)(struct waiter *w), void *owner);
bool waiter_is_done(struct waiter *w);
/* For the store: finish. `err` NULL: success. After this call the store must not touch *w. */
void waiter_done(struct waiter *w, const struct err *err);

/* For tools, tests and job threads: a waiter that one thread can block on. */
int waiter_block(struct waiter *w, struct err *err);            /* needs waiter_init_blocking() */
void waiter_init_blocking(struct waiter *w);

#endif
