/*
 * sort_cache - facts for sorting (store/sort_facts.h) of messages that were sorted before, in memory, one for each store.
 *
 * A message never changes, and neither a mailbox's unique id nor a UID is used again: nothing in here can become wrong, so nobody has to
 * tell the cache of expunges, moves or deleted mailboxes – what is no longer asked for is given up when room is needed. Facts lie in
 * immutable, counted blocks for 1,024 UIDs each; who sorts holds references to those it uses. New messages make a new block out of
 * the one before. The first sort of a mailbox reads every header once; what it learned stays in a file (store/sort_file.h), from which the
 * cache is filled after a start.
 */
#ifndef STORE_SORT_CACHE_H
#define STORE_SORT_CACHE_H

#include "store/lock_order.h"
#include "store/sort_facts.h"
#include "store/sort_file.h"

struct mailbox;
struct msg;
struct err;

struct sort_cache;
struct sort_cache *sort_cache_create(size_t bytes_max);
void sort_cache_destroy(struct sort_cache **c);
void sort_cache_resize(struct sort_cache *c, size_t bytes_max) EXCLUDES(sort_cache_class);
size_t sort_cache_bytes(struct sort_cache *c) EXCLUDES(sort_cache_class);

struct sort_wanted {
        uint32_t uid, check;                    /* the latter: sort_check() */
};

struct sort_block;
void sort_block_unref(struct sort_block **b);

/*
 * Loads facts of messages in ascending order of their UIDs. One session's; any thread, one at a time.
 *   for (sort_loader_init(&l, mbox); (rc = sort_loader_run(&l, wanted, facts, n, &done, …)) == 0;) wait for the next slice
 */
struct sort_loader {
        struct mailbox *mbox;
        struct sort_cache *cache;
        struct sort_file *file;                 /* NULL: was not needed so far */
        struct sort_block **blocks;             /* references to all that are pointed to */
        uint32_t blocks_n, blocks_cap;
        /* the block in the making */
        struct sort_block *old;                 /* what was known of it; reference */
        struct str data;                        /* records of messages read */
        struct str header, scratch;
        uint32_t *uid, *check, *offset;         /* of SORT_BLOCK_UIDS, one allocation: the messages read, and where in data */
        uint32_t read_n, looked, find_at;
        bool building;
};
void sort_loader_init(struct sort_loader *l, struct mailbox *mbox);
/* The facts that were returned are gone too. */
void sort_loader_deinit(struct sort_loader *l);
/*
 * Look up wanted[*done … n - 1], until `over(ctx)` says that the slice is over. facts[i] is set and stays until sort_loader_deinit(); a message
 * that is gone or cannot be read gets sort_facts_none. Returns true when all are done. Reads headers of those neither in the cache nor in
 * the mailbox's file, and adds to both.
 */
bool sort_loader_run(struct sort_loader *l, const struct sort_wanted *wanted, const struct sort_facts **facts, uint32_t n, uint32_t *done,
                     bool (*over)(void *ctx), void *ctx) EXCLUDES(sort_cache_class);

#endif
