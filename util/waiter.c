/* waiter - see waiter.h */
#include "util/waiter.h"

#include "util/lock.h"

/* All blocking waiters share one condition: they are few (tools, job threads), and a waiter needs no lock of its own. */
static struct {
        struct mutex lock;
        struct cond changed;
} blocking = { MUTEX_INIT, { PTHREAD_COND_INITIALIZER } };

static void wake_blocking(struct waiter *w)
{
        (void)w;
        mutex_lock(&blocking.lock);
        cond_broadcast(&blocking.changed);
        mutex_unlock(&blocking.lock);
}

void waiter_init(struct waiter *w, void (*wake)(struct waiter *w), void *owner)
{
        w->wake = wake;
        w->owner = owner;
        atomic_init(&w->done, false);
        err_clear(&w->err);
}

void waiter_init_blocking(struct waiter *w)
{
        waiter_init(w, wake_blocking, NULL);
}

bool waiter_is_done(struct waiter *w)
{
        return atomic_load_explicit(&w->done, memory_order_acquire);
}

void waiter_done(struct waiter *w, const struct err *err)
{
        void (*wake)(struct waiter *) = w->wake;
        struct waiter told;

        if (err)
                err_copy(&w->err, err);
        if (wake == wake_blocking) {
                /* The sleeper may return and end *w the moment it sees `done`: set it under the lock it waits with. */
                mutex_lock(&blocking.lock);
                atomic_store_explicit(&w->done, true, memory_order_release);
                cond_broadcast(&blocking.changed);
                mutex_unlock(&blocking.lock);
                return;
        }
        /* The asker may look before it is woken, find it done and free *w: `wake` gets a copy of what it needs. */
        told.wake = wake;
        told.owner = w->owner;
        atomic_store_explicit(&w->done, true, memory_order_release);
        if (wake)
                wake(&told);
}

int waiter_block(struct waiter *w, struct err *err)
{
        mutex_lock(&blocking.lock);
        while (!waiter_is_done(w))
                cond_wait(&blocking.changed, &blocking.lock);
        mutex_unlock(&blocking.lock);
        if (w->err.code == ERR_NONE)
                return 0;
        err_copy(err, &w->err);
        return -1;
}
