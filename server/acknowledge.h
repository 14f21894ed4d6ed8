/*
 * acknowledge - may a client be told that what it has changed is done? Normally as soon as it is on our disk; with a replica that is kept
 * synchronous (replication/sync_mode.h) when it is on that one's disk, too. The server asks here; who knows the answer installs himself.
 *
 * A session asks after its changes have been published (store/change.h) – its waiters are done – and before it says so. It is parked while
 * it waits (STEP_WAIT) and woken with WAKE_DONE; it may end while it waits, after acknowledge_end(). Nothing blocks; any thread.
 * While nobody wants to be asked it costs a look at acknowledge_on().
 */
#ifndef SERVER_ACKNOWLEDGE_H
#define SERVER_ACKNOWLEDGE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "server/session.h"

#define ACKNOWLEDGE_NAMES 3

struct acknowledge;                             /* one question that has no answer yet */

enum acknowledge_answer {
        ACKNOWLEDGE_WAIT,                       /* not yet: the session is woken when there is an answer */
        ACKNOWLEDGE_TELL,
        ACKNOWLEDGE_REFUSE,                     /* never: it is done here, but not where it has to be as well. An error in the protocol's own form */
};

/* What was changed. Copied; NULL: none. */
struct acknowledge_about {
        const char *user;                       /* who has changed it: his subscriptions, what he has seen */
        const char *names[ACKNOWLEDGE_NAMES];   /* mailboxes, internal names */
        bool structure;                         /* names, rights, quotas, annotations, subscriptions; else messages and their flags */
};

struct acknowledge_ops {
        /* NULL: tell it. */
        struct acknowledge *(*begin)(struct session_id session, const struct acknowledge_about *about);
        enum acknowledge_answer (*answer)(struct acknowledge *a);
        void (*end)(struct acknowledge *a);
};

/* Once, before threads start. */
void acknowledge_install(const struct acknowledge_ops *ops);
/* From now on sessions ask, or no longer. */
void acknowledge_want(bool wanted);

extern atomic_bool acknowledge_wanted;
static inline bool acknowledge_on(void)
{
        return __builtin_expect(atomic_load_explicit(&acknowledge_wanted, memory_order_relaxed), false);
}

/* NULL: it may be told at once. Else ask acknowledge_answer() whenever the session runs, and end it. */
struct acknowledge *acknowledge_begin(struct session_id session, const struct acknowledge_about *about);
enum acknowledge_answer acknowledge_answer(struct acknowledge *a);
void acknowledge_end(struct acknowledge **a);   /* NULL in it is fine */

#endif
