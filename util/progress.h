/*
 * progress - how far something is that takes long, told by who does it to who waits for it. Any threads.
 */
#ifndef UTIL_PROGRESS_H
#define UTIL_PROGRESS_H

#include <stdatomic.h>
#include <stdint.h>

struct progress {                               /* begins as { 0, 0 }: nothing is known */
        _Atomic uint64_t done, total;           /* total 0: not known */
};

static inline void progress_begin(struct progress *p, uint64_t total)
{
        atomic_store_explicit(&p->total, total, memory_order_relaxed);
}

static inline void progress_set(struct progress *p, uint64_t done)
{
        atomic_store_explicit(&p->done, done, memory_order_relaxed);
}

#endif
