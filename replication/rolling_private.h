/*
 * rolling_private - what the files of rolling share: rolling.c (the thread, its connection, channels), rolling_work.c (a log in its order),
 * rolling_run.c (doing it, promotion, blame), rolling_state.c (the quarantine and its file). Nobody else includes it.
 */
#ifndef REPLICATION_ROLLING_PRIVATE_H
#define REPLICATION_ROLLING_PRIVATE_H

#include "replication/rolling.h"
#include "util/array.h"
#include "util/hash.h"
#include "util/lock.h"

/* ---- rolling_work.c: what there is to do ---- */

struct item {
        enum sync_kind kind;                    /* SYNC_MAILBOX: a group of them */
        char *a, *b;                            /* of a group: its owner, "" none; b: "" or the second argument */
        ARRAY(char *) names;                    /* of a group; what is in `known` */
        struct table *known;
        unsigned losses;                        /* how often the replica hung up at it, in a row */
        bool blamed;                            /* its failing is not promoted: it is halved, or quarantined */
        bool retry;                             /* it comes from the quarantine */
        bool superfluous;
};
struct item *item_create(enum sync_kind kind, const char *a, const char *b);
void item_add_name(struct item *group, const char *name);
void item_free(struct item *item);
/* As a line of the log, without its end: key of the quarantine, and for people. A group's is its first mailbox's. */
void item_text(const struct item *item, struct str *out);

struct work {
        ARRAY(struct item *) lists[SYNC_KINDS];
        size_t heads[SYNC_KINDS], later_head;   /* what is before them has been handed over */
        struct table *known;                    /* text → item */
        ARRAY(struct item *) later;             /* what the replica hung up at, or what is looked at closely: after all the rest */
        char *deleted_prefix;                   /* copied */
        bool resync;
        uint64_t lines, bad;
};
void work_init(struct work *w, const char *deleted_prefix);
void work_deinit(struct work *w);
void work_add_line(struct work *w, const struct sync_line *line);
/* An item of its own, if there is none yet: promotion. */
void work_add(struct work *w, enum sync_kind kind, const char *a, const char *b);
/* USER makes META, SEEN and SUB of that user superfluous, UNUSER USER as well, META SEEN and SUB. After the last line. */
void work_reduce(struct work *w);
/* The next one in order, handed over; NULL: none. */
struct item *work_next(struct work *w);
bool work_is_empty(const struct work *w);
/* Whose mailbox is it, in the arena; "": nobody's. A deleted one is his whose it was. */
const char *work_owner(const char *deleted_prefix, const char *mailbox, struct arena *arena);

/* ---- rolling_state.c ---- */

struct quarantined {
        char *text;
        char *reason;
        int64_t since, next;
        unsigned tries;
        bool put_off;
        bool closely;                           /* USER: his mailboxes and META were tried one by one since then, so it stands for nothing else */
        uint64_t touched;                       /* quarantine.turn when it was put there, or last left out of a run because of it */
};
struct quarantine {
        uint64_t turn;                          /* counts what happens */
        ARRAY(struct quarantined *) list;
        struct table *known;                    /* text → struct quarantined */
        bool dirty;                             /* the file is older */
};
struct compare_state {
        bool on;
        char *after;                            /* mailboxes up to this name are done; "" from the start */
        uint64_t done;
};

void quarantine_init(struct quarantine *q);
void quarantine_deinit(struct quarantine *q);
struct quarantined *quarantine_find(const struct quarantine *q, const char *text);
/* Once more: it is new, or has failed again. */
void quarantine_put(struct quarantine *q, const char *text, const char *reason, bool put_off);
/*
 * It was done, by what began at `begun` (a turn; UINT64_MAX: whenever). What was touched since then stays, and is due: that may be about a change which
 * has come later than what was done has looked.
 */
void quarantine_remove(struct quarantine *q, const char *text, uint64_t begun);
/* All of a user: USER, META, SEEN, SUB, his mailboxes. He was synchronised as a whole. */
void quarantine_remove_user(struct quarantine *q, const char *user, const char *deleted_prefix, uint64_t begun);
/* The one that is due first, NULL: none is by now (Unix seconds). next_r: when the next one is, INT64_MAX never. */
struct quarantined *quarantine_due(const struct quarantine *q, int64_t now, int64_t *next_r);

/* Read the file. Not there, or not readable: everything is to be compared. */
void state_load(const char *path, struct quarantine *q, struct compare_state *compare);
char *state_text(struct quarantine *q, const struct compare_state *compare);     /* the file, for free(); it is not dirty then */

/* ---- rolling.c ---- */

/*
 * A connection and the thread that uses it. A channel has two: the first does what the log says; the second what may take long, and must not hold that up – what is tried
 * again from the quarantine, and comparing. The client sees to it that they are not at one user at the same time: who comes second puts it off.
 */
struct lane {
        struct rolling *r;
        bool second;
        /* Its thread's own. */
        struct client *client;
        unsigned connect_failures;              /* in a row */
        uint64_t deadline_ms;                   /* the replica has to have answered by then; 0: it has time */
        uint64_t run_since_us;                  /* the oldest change of this run; 0: not known */
        uint64_t item_sent;                     /* octets that had been sent when this item began */
        uint64_t patience_ms;                   /* so long the replica may say nothing to this item; 0: for ever */
        bool stalled;                           /* it was silent for longer, and somebody else got an answer meanwhile */
        /* rolling_class */
        uint64_t connected_ms;                  /* monotonic */
        unsigned fruitless;                     /* connections in a row that were lost without anything done */
        uint64_t asked_ms;                      /* when the replica was asked what it has not answered, or last said something of it; 0: nothing */
        uint64_t heard_octets;
        struct client_traffic past, present;    /* of former connections; of this one */
};

struct rolling {
        struct rolling *next;                   /* list_lock */
        /* Immutable. */
        struct rolling_options options;         /* its strings are ours */
        char *channel;                          /* "" */
        char *configdir;
        char *state_path;                       /* NULL: nothing is remembered (a file of its own) */
        pthread_t thread;
        bool has_thread;
        bool (*outer_stop)(void *ctx);          /* rolling_run() */
        void *outer_ctx;
        struct lane lanes[2];
        struct mutex saving;                    /* held while the state is written: only by the two threads, with no other lock */
        struct mutex telling;                   /* the same while sync_mode is told of the quarantine: what it hears last is what was last looked at */

        /* The second thread's own. */
        struct table *compared_users;           /* of this pass */
        struct work rest;                       /* what comes behind the last mailbox; `known` NULL: not there yet */
        uint64_t state_saved_ms;

        /* rolling_class. */
        struct mutex lock;
        struct cond wake, wake_second;
        bool woken, stop, hurry, hurry_second;
        bool reconfigured;                      /* the connection is to be made anew, with the options of now */
        bool ended;
        bool incomplete;                        /* rolling_run(): something was not done */
        struct quarantine quarantine;
        struct compare_state compare;
        bool compare_again;                     /* from the beginning, please */
        uint64_t gap_seen, gap_done;            /* sync_log_mark.gap: known of; made good by comparing everything */
        struct rolling_status status;           /* its strings: */
        char peer[200], error[ERR_TEXT_MAX];
        bool of_item;                           /* error: an item's that failed; over when none is in the quarantine any more */
        uint64_t busy_since_us, busy_events;
        uint64_t retry_ms;                      /* ROLLING_WAITING: until then */
};
void rolling_lock(struct rolling *r) ACQUIRE(r->lock, rolling_class);
void rolling_unlock(struct rolling *r) RELEASE(r->lock, rolling_class);

bool rolling_stopping(struct rolling *r) EXCLUDES(rolling_class);
/* A connection, waiting for one as long as it takes. False: it is to stop. */
bool rolling_connect(struct lane *l) EXCLUDES(rolling_class);
void rolling_disconnect(struct lane *l, const char *why) EXCLUDES(rolling_class);
/* NOOP with little time. False: the connection is gone. */
bool rolling_ping(struct lane *l) EXCLUDES(rolling_class);
/* sync_mode_passed() with the quarantine of now, if the channel is synchronous. */
void rolling_tell_passed(struct rolling *r, uint64_t upto, uint64_t took_ms) EXCLUDES(rolling_class);
void rolling_set_error(struct rolling *r, const char *text, bool of_item) EXCLUDES(rolling_class);

/* ---- rolling_run.c ---- */

/* At most `max` items of it, in order; what cannot be done is in quarantine then. False: stopped in the middle of it. */
bool rolling_do(struct lane *l, struct work *w, unsigned max) EXCLUDES(rolling_class);
/* What is due of the quarantine: one item. Nothing due: next_r says when (Unix seconds). False: stopped. */
bool rolling_retry_due(struct lane *l, int64_t *next_r) EXCLUDES(rolling_class);
/* One step of comparing everything: one user, or some shared mailboxes. False: stopped. */
bool rolling_compare_step(struct lane *l) EXCLUDES(rolling_class);
bool rolling_save(struct rolling *r) EXCLUDES(rolling_class);

#endif
