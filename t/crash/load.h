/* load - what the files of the load (load.c) share. */
#ifndef T_CRASH_LOAD_H
#define T_CRASH_LOAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "store/mailbox.h"
#include "util/err.h"

#define BOXES 4
#define MSGS_MAX 400
#define PICK_MAX 32

struct box {
        char name[64];
        bool there, subscribed, script;
        unsigned limit;                 /* of its quota root, 0: it has none */
        struct mailbox *mbox;
        struct { uint32_t uid; char guid[41]; bool deleted; } msgs[MSGS_MAX];
        unsigned n;
};

struct worker {
        struct store *store;
        unsigned number, seed, counter;
        bool second, killed, big_done, blobs_done;
        bool unlinks;                   /* expunge_mode keeps nothing to bring back */
        bool in_header;                 /* killed when it has written an index's header, too */
        bool in_move;                   /* … in the middle of a move */
        unsigned threads, ops;
        bool quiet;                     /* … and there is a pause before that, so long that \Seen has to be on disk by itself */
        uint64_t end_ms;
        struct box boxes[BOXES];
        /* a move that the process may be killed in */
        struct { bool on; unsigned from, to, n, which[PICK_MAX]; uint32_t to_uidnext; } moving;
        pthread_t thread;
};

/* A line of the notes; an error is the end of the load. */
void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void need(int rc, const char *what, const struct err *err);
/* What was begun last is acknowledged; `first`: the first new UID. */
void ack(struct worker *w, struct box *b, uint32_t first);
size_t body_size(struct worker *w);             /* of a message: most are small, some are blobs */

/* load_replica.c */
void op_apply(struct worker *w, struct box *b, unsigned n, size_t size_wanted);         /* size 0: any */
void op_sieve(struct worker *w, struct box *b);

#endif
