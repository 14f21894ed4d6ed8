/*
 * rolling - rolling replication: what the log for replicas (sync_log.h) says is told to a replica as it happens. reference: csync, section 12.
 *
 * A thread for each channel, and one for what may take long there (the quarantine, comparing) with a connection of its own. The first is woken when the log is written; between the beginnings of two runs lies sync_repeat_interval (-d) at least, if that is
 * set. A run takes the log (`log` becomes `log-run`), drops what is there twice, and does the rest in Cyrus's order: groups of mailboxes by owner,
 * QUOTA, ANNOTATION, SEEN, SUB, UNMAILBOX, META, USER, UNUSER; what fails is promoted (a mailbox or META to USER, SEEN and SUB to META).
 *
 * What fails then, and what the replica has hung up at three times in a row (each time having answered NOOP before), is *quarantined*: noted with
 * its reason, left out of runs, tried again after 15 s, 30 s … one hour. Where a group or a user fails, it is halved until the mailboxes are found
 * that are to blame; so everything else goes on. Somebody else being at it (IMAP_MAILBOX_LOCKED) is no failure: tried again after two seconds.
 *
 * RESYNC in the log, a channel that has never run, or a state that cannot be read: every user, every shared mailbox, all that is remembered as
 * deleted, is compared, a few at a time, behind what the log says.
 *
 * {configdirectory}/sync/[<channel>/]state (JSON) holds the quarantine and where comparing is; it is written before log-run is removed. So whatever
 * stops us, nothing is lost: log-run is done again.
 *
 * With nothing to do the replica is asked every five seconds whether it is there, and has five to answer. A connection that cannot be made is tried
 * again after 1, 2, 4 … seconds, sync_reconnect_maxwait at most.
 *
 * Any thread may call what follows; nothing of it blocks but where it says so.
 */
#ifndef REPLICATION_ROLLING_H
#define REPLICATION_ROLLING_H

#include <stdbool.h>
#include <stdint.h>

#include "replication/client.h"
#include "replication/lock_order.h"
#include "replication/sync_log.h"
#include "store/store.h"
#include "util/conf.h"
#include "util/err.h"

/* What speaks to the replica: client.h's functions (rolling_client), or a test's. */
struct rolling_peer {
        int (*open)(const struct client_options *options, struct client **client_r, struct err *err);
        void (*close)(struct client **client);
        const char *(*name)(const struct client *c);
        void (*traffic)(const struct client *c, struct client_traffic *traffic_r);
        enum client_result (*noop)(struct client *c, struct err *err);
        enum client_result (*restart)(struct client *c, struct err *err);
        enum client_result (*user)(struct client *c, const char *userid, struct err *err);
        enum client_result (*mailboxes)(struct client *c, const char *const *names, size_t n, struct err *err);
        enum client_result (*meta)(struct client *c, const char *userid, struct err *err);
        enum client_result (*quota)(struct client *c, const char *root, struct err *err);
        enum client_result (*annotation)(struct client *c, const char *mailbox, struct err *err);
        enum client_result (*seen)(struct client *c, const char *userid, const char *uniqueid, struct err *err);
        enum client_result (*sub)(struct client *c, const char *userid, const char *mailbox, struct err *err);
        enum client_result (*unmailbox)(struct client *c, const char *mailbox, struct err *err);
        enum client_result (*unuser)(struct client *c, const char *userid, struct err *err);
};
extern const struct rolling_peer rolling_client;

struct rolling_options {
        struct store *store;
        struct conf_live *live;                 /* outlives the channel: each connection takes the options of then */
        struct sync_log *log;                   /* of this process, for how far behind we are; NULL: others write it */
        const struct rolling_peer *peer;
        struct client_options client;           /* what the command line said: channel, host, partition, no_copyback …, action, traffic. Strings are copied;
                                                 * store, conf and stop are filled in here */
        int64_t interval_ms;                    /* -d: least time between the beginnings of runs; -1: sync_repeat_interval, if that is set, else none */
        int64_t reconnect_s;                    /* -t: a connection is closed and made anew after so long; 0: 600 */
        const char *shutdown_file;              /* -F; NULL: sync_shutdown_file. Copied */
        uint64_t patience_ms;                   /* so long the replica may say nothing to an item, and more the more it was sent, if it answers others; 0: 30 s */
        bool once;                              /* -1: rolling_run() of what there is, then the end */
        int fd;                                 /* -f: with `once`, this file, which stays, instead of the log; 0: none. Borrowed */
};

/* Begin a channel. ERR_EXISTS: it runs already. ERR_CONFIG: no sync_host. ERR_IO: no thread. */
int rolling_start(const struct rolling_options *options, struct err *err) EXCLUDES(rolling_class);
/* A channel's log once, on this thread (options.once): no channel of that name may run. Or a file, whose failures are not remembered. Blocks, for as long as it takes; stop: NULL, or asked now and then.
 * Returns 0: all was done; -1 with err: something was not, or stays in quarantine. */
int rolling_run(const struct rolling_options *options, bool (*stop)(void *ctx), void *ctx, struct err *err) EXCLUDES(rolling_class);
/* End it, or (NULL) all of them. Waits for the threads: for the step at which they are, a quarter of a second, not for the replica. */
void rolling_stop(const char *channel) EXCLUDES(rolling_class);
/* HUP: connections are made anew, with the options of now, after what is being done. */
void rolling_reconfigure(void) EXCLUDES(rolling_class);
/* The log of this channel was written: sync_log_options.written. */
void rolling_written(void *ctx, const char *channel) EXCLUDES(rolling_class);

/* ---- for administrators ---- */

enum rolling_state { ROLLING_CONNECTING, ROLLING_IDLE, ROLLING_BUSY, ROLLING_COMPARING, ROLLING_WAITING, ROLLING_ENDED };
const char *rolling_state_name(enum rolling_state state);       /* "connecting", "idle", "busy", "comparing", "waiting" (to connect again), "ended" */

#define ROLLING_LAG_BUCKETS 10
extern const uint32_t rolling_lag_bucket_ms[ROLLING_LAG_BUCKETS];       /* upper bounds; the last, 0: all the others */

struct rolling_status {                         /* strings are valid in the callback */
        const char *channel;                    /* "": the default one */
        enum rolling_state state;
        const char *peer;                       /* as client_peer(), or sync_host while there is no connection */
        bool connected;
        int64_t connected_s;                    /* for so long */
        int64_t waiting_s;                      /* ROLLING_WAITING: until the next try */
        const char *error;                      /* why it is not connected, or the last failure of anything; "": none */
        uint64_t lag_ms;                        /* age of the oldest change that the replica has not; 0: none. Without what is in quarantine or to be compared */
        uint64_t events;                        /* changes logged and not yet done */
        uint64_t silent_ms;                     /* for so long the replica has said nothing to what it was asked; 0: nothing is asked */
        bool comparing;                         /* everything is being compared */
        uint64_t compared, compare_total;       /* mailboxes */
        uint64_t quarantined, put_off;
        uint64_t runs, items, failures, losses;         /* so far; items: that were done */
        uint64_t lag_counts[ROLLING_LAG_BUCKETS];       /* items by how old the change was when it was done (the oldest of its run) */
        uint64_t lag_ms_total;
        uint64_t bytes_sent, bytes_received, wire_sent, wire_received, messages_sent;
};
void rolling_each(void (*fn)(void *ctx, const struct rolling_status *status), void *ctx) EXCLUDES(rolling_class);

struct rolling_quarantined {
        const char *channel;
        const char *item;                       /* a line of the log: "MAILBOX user.ann.x" */
        const char *reason;
        int64_t since, next;                    /* Unix seconds: first failure, next try */
        unsigned tries;
        bool put_off;                           /* not a failure: somebody else is at it */
};
void rolling_each_quarantined(const char *channel, void (*fn)(void *ctx, const struct rolling_quarantined *q), void *ctx) EXCLUDES(rolling_class);
/* Try again at once: this item (as above), or all of the channel's; channel NULL: all channels'. Returns how many. */
unsigned rolling_retry(const char *channel, const char *item) EXCLUDES(rolling_class);
/* Do what there is now, without waiting for the interval or for the next try to connect. Returns how many channels (NULL: all). */
unsigned rolling_now(const char *channel) EXCLUDES(rolling_class);
/* Compare everything from the beginning. */
unsigned rolling_compare(const char *channel) EXCLUDES(rolling_class);

#endif
