/* lock - see lock.h */
#include "util/lock.h"

#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "util/must.h"

static atomic_uint_fast64_t next_thread_number = 1;     /* process-wide by nature */
static _Thread_local uint64_t my_thread_number;

uint64_t thread_number(void)
{
        if (my_thread_number == 0)
                my_thread_number = atomic_fetch_add(&next_thread_number, 1);
        return my_thread_number;
}

void mutex_init(struct mutex *m)
{
        must(pthread_mutex_init(&m->m, NULL) == 0);
        m->holder = 0;
}

void mutex_deinit(struct mutex *m)
{
        must(pthread_mutex_destroy(&m->m) == 0);
}

void mutex_lock(struct mutex *m) NO_TSA
{
        must(pthread_mutex_lock(&m->m) == 0);
        __atomic_store_n(&m->holder, thread_number(), __ATOMIC_RELAXED);
}

bool mutex_trylock(struct mutex *m) NO_TSA
{
        if (pthread_mutex_trylock(&m->m) != 0)
                return false;
        __atomic_store_n(&m->holder, thread_number(), __ATOMIC_RELAXED);
        return true;
}

void mutex_unlock(struct mutex *m) NO_TSA
{
        __atomic_store_n(&m->holder, 0, __ATOMIC_RELAXED);
        must(pthread_mutex_unlock(&m->m) == 0);
}

void mutex_assert_held(struct mutex *m) NO_TSA
{
        must(__atomic_load_n(&m->holder, __ATOMIC_RELAXED) == thread_number());
}

void rwlock_init(struct rwlock *l)
{
        must(pthread_rwlock_init(&l->l, NULL) == 0);
}

void rwlock_deinit(struct rwlock *l)
{
        must(pthread_rwlock_destroy(&l->l) == 0);
}

void rwlock_rdlock(struct rwlock *l) NO_TSA
{
        must(pthread_rwlock_rdlock(&l->l) == 0);
}

void rwlock_wrlock(struct rwlock *l) NO_TSA
{
        must(pthread_rwlock_wrlock(&l->l) == 0);
}

void rwlock_rdunlock(struct rwlock *l) NO_TSA
{
        must(pthread_rwlock_unlock(&l->l) == 0);
}

void rwlock_wrunlock(struct rwlock *l) NO_TSA
{
        must(pthread_rwlock_unlock(&l->l) == 0);
}

void cond_init(struct cond *c)
{
        pthread_condattr_t attr;

        must(pthread_condattr_init(&attr) == 0);
        must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
        must(pthread_cond_init(&c->c, &attr) == 0);
        pthread_condattr_destroy(&attr);
}

void cond_deinit(struct cond *c)
{
        must(pthread_cond_destroy(&c->c) == 0);
}

void cond_wait(struct cond *c, struct mutex *m) NO_TSA
{
        mutex_assert_held(m);
        must(pthread_cond_wait(&c->c, &m->m) == 0);
        __atomic_store_n(&m->holder, thread_number(), __ATOMIC_RELAXED);
}

bool cond_wait_until(struct cond *c, struct mutex *m, uint64_t deadline_ms) NO_TSA
{
        struct timespec ts = { (time_t)(deadline_ms / 1000), (long)(deadline_ms % 1000) * 1000000L };
        int rc;

        mutex_assert_held(m);
        rc = pthread_cond_timedwait(&c->c, &m->m, &ts);
        __atomic_store_n(&m->holder, thread_number(), __ATOMIC_RELAXED);
        return rc == 0;
}

void cond_signal(struct cond *c)
{
        must(pthread_cond_signal(&c->c) == 0);
}

void cond_broadcast(struct cond *c)
{
        must(pthread_cond_broadcast(&c->c) == 0);
}

int thread_start(pthread_t *thread_r, const char *name, size_t stack_bytes, void *(*fn)(void *), void *arg)
{
        pthread_attr_t attr;
        sigset_t all, old;
        char short_name[16];
        int rc;

        must(pthread_attr_init(&attr) == 0);
        must(pthread_attr_setstacksize(&attr, stack_bytes ? stack_bytes : 512 * 1024) == 0);
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        rc = pthread_create(thread_r, &attr, fn, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
        if (rc == 0) {
                strncpy(short_name, name, sizeof short_name - 1);
                short_name[sizeof short_name - 1] = '\0';
                pthread_setname_np(*thread_r, short_name);
        }
        return rc;
}
