/*
 * lock - pthread locks that know their holder, and the macros of clang's thread safety analysis (`make tsa`).
 * The order of locks is code: the classes in store/lock_order.h. In gcc the macros are empty. A class is a capability
 * that is only named in attributes, never defined. Attributes stand on prototypes.
 */
#ifndef UTIL_LOCK_H
#define UTIL_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __clang__
#define LOCK_ATTR(x) __attribute__((x))
#else
#define LOCK_ATTR(x)
#endif
#define CAPABILITY(name)        LOCK_ATTR(capability(name))
#define ACQUIRE(...)            LOCK_ATTR(acquire_capability(__VA_ARGS__))
#define ACQUIRE_SHARED(...)     LOCK_ATTR(acquire_shared_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...)        LOCK_ATTR(try_acquire_capability(__VA_ARGS__))
#define RELEASE(...)            LOCK_ATTR(release_capability(__VA_ARGS__))
#define RELEASE_SHARED(...)     LOCK_ATTR(release_shared_capability(__VA_ARGS__))
#define REQUIRES(...)           LOCK_ATTR(requires_capability(__VA_ARGS__))
#define REQUIRES_SHARED(...)    LOCK_ATTR(requires_shared_capability(__VA_ARGS__))
#define EXCLUDES(...)           LOCK_ATTR(locks_excluded(__VA_ARGS__))
#define GUARDED_BY(x)           LOCK_ATTR(guarded_by(x))
#define PT_GUARDED_BY(x)        LOCK_ATTR(pt_guarded_by(x))
#define ACQUIRED_AFTER(...)     LOCK_ATTR(acquired_after(__VA_ARGS__))
#define ACQUIRED_BEFORE(...)    LOCK_ATTR(acquired_before(__VA_ARGS__))
#define ASSERT_HELD(...)        LOCK_ATTR(assert_capability(__VA_ARGS__))
#define NO_TSA                  LOCK_ATTR(no_thread_safety_analysis)

struct CAPABILITY("lock class") lock_class { char unused; };

struct CAPABILITY("mutex") mutex {
        pthread_mutex_t m;
        uint64_t holder;                        /* thread number of the holder, 0: free; only the holder's own value is exact */
};
#define MUTEX_INIT { PTHREAD_MUTEX_INITIALIZER, 0 }

struct CAPABILITY("rwlock") rwlock {
        pthread_rwlock_t l;
};
#define RWLOCK_INIT { PTHREAD_RWLOCK_INITIALIZER }

struct cond {
        pthread_cond_t c;                       /* waits on the monotonic clock */
};

void mutex_init(struct mutex *m);
void mutex_deinit(struct mutex *m);
void mutex_lock(struct mutex *m) ACQUIRE(*m);
bool mutex_trylock(struct mutex *m) TRY_ACQUIRE(true, *m);
void mutex_unlock(struct mutex *m) RELEASE(*m);
void mutex_assert_held(struct mutex *m) ASSERT_HELD(*m);        /* aborts when the calling thread does not hold it */

void rwlock_init(struct rwlock *l);
void rwlock_deinit(struct rwlock *l);
void rwlock_rdlock(struct rwlock *l) ACQUIRE_SHARED(*l);
void rwlock_wrlock(struct rwlock *l) ACQUIRE(*l);
void rwlock_rdunlock(struct rwlock *l) RELEASE_SHARED(*l);
void rwlock_wrunlock(struct rwlock *l) RELEASE(*l);

void cond_init(struct cond *c);
void cond_deinit(struct cond *c);
void cond_wait(struct cond *c, struct mutex *m) REQUIRES(*m);
/* Wait until monotonic `deadline_ms` (clock_mono_ms()) at the latest. Returns false when that time has come. */
bool cond_wait_until(struct cond *c, struct mutex *m, uint64_t deadline_ms) REQUIRES(*m);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

/* Start a named thread (name cut to 15 characters) with all signals blocked; aborts only on our own mistakes, returns an
 * errno value when the system refuses. stack_bytes 0: the default of 512 KiB. */
int thread_start(pthread_t *thread_r, const char *name, size_t stack_bytes, void *(*fn)(void *), void *arg);

/* A small number for the calling thread, from 1, never used again. */
uint64_t thread_number(void);

#endif
