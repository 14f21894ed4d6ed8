/*
 * pool - a fixed number of workers and the run queue they take sessions from.
 *
 * Three queues, first come first served each. FRESH: somebody waits for an answer (input came, a commit is done, a timer).
 * AGAIN: a slice of a long command is over. NEWS: somebody is to be told of other people's changes. FRESH goes first, but after
 * every eighth of them one of the others is taken, so that nothing starves; AGAIN and NEWS take turns. At most
 * workers - max(1, workers/4) workers run AGAIN and NEWS at any moment, and no more than there are processors (two at least):
 * however many searches there are, a NOOP finds a worker.
 *
 * A worker that finds nothing in the queues waits where its owner says, and may come back with something to run at once, which never was in a
 * queue: what a client sends wakes the thread that answers it, and no other.
 */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "server/lock_order.h"
#include "util/err.h"

enum pool_queue { POOL_FRESH, POOL_AGAIN, POOL_NEWS, POOL_QUEUES };

struct pool_item {                              /* embedded in what is run; in one queue at most at a time */
        struct pool_item *next;
};

/* All on any thread, none with a lock held. */
struct pool_ops {
        void (*run)(struct pool_item *item);
        struct pool_item *(*wait)(void *ctx);   /* until there is something to run, which is returned, or until kicked: NULL */
        void (*kick)(void *ctx);                /* one that waits comes back, or the next that would wait */
        void (*all_busy)(void *ctx);            /* nobody waits any more: somebody else has to look for work, and push it */
};

struct pool;
/* `ops` and `ctx` stay as long as the pool. */
int pool_create(unsigned workers, const struct pool_ops *ops, void *ctx, struct pool **pool_r, struct err *err);
/* Does nobody wait? */
bool pool_is_busy(struct pool *pool) EXCLUDES(pool_class);
/* Ends the workers once the queues are empty. Nothing may be pushed any more. */
void pool_destroy(struct pool **pool);
void pool_push(struct pool *pool, struct pool_item *item, enum pool_queue queue) EXCLUDES(pool_class);
/* Any of the pointers may be NULL. pushed: what was run without being in a queue is counted too. */
void pool_stats(struct pool *pool, uint64_t *workers_r, uint64_t *busy_r, uint64_t *queued_r, uint64_t *pushed_r) EXCLUDES(pool_class);

#endif
