/*
 * client - csync as the master speaks it: one connection to one replica, and what is done over it. reference: csync, sections 1, 10, 11.
 *
 * A client is used by one thread at a time, which may block in every function here for as long as the peer takes: sync_timeout (30 minutes) without
 * an octet ends the connection. So it is never a worker of the server, nor one of the threads for blocking calls: rolling replication has a thread
 * for each channel, sync_client's work inside the daemon one for each call. Any number of clients may be open at once, to the same replica too; two
 * that are at the same user of the same replica wait for each other (client_options.no_wait: they do not).
 *
 * Every function that talks says by its result how things stand:
 *   CLIENT_OK       done; the replica has it
 *   CLIENT_FAILED   this item failed, err says why (a replica's answer by its code: client_reply_code()); the connection is as good as
 *                   before, the next item may be tried. The caller decides what to promote or to put into quarantine
 *   CLIENT_PUT_OFF  somebody else is at it (IMAP_MAILBOX_LOCKED, or no_wait): again later; the connection is good
 *   CLIENT_LOST     the connection is gone, or said something that is none of the protocol; what was being done may or may not have
 *                   been applied (it is done again safely). Only client_close() may follow
 *   CLIENT_BYE      the replica has said BYE: it shuts down in order, try again soon. Only client_close() may follow
 *   CLIENT_STOPPED  client_options.stop said so. Only client_close() may follow
 */
#ifndef REPLICATION_CLIENT_H
#define REPLICATION_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/store.h"
#include "util/conf.h"
#include "util/err.h"

struct client;
struct role_epoch;
struct role_state;

enum client_result { CLIENT_OK, CLIENT_FAILED, CLIENT_PUT_OFF, CLIENT_LOST, CLIENT_BYE, CLIENT_STOPPED };

/* "ok", "failed", "put-off", "lost", "bye", "stopped": for logs and JSON. */
const char *client_result_name(enum client_result result);

struct client_options {
        struct store *store;
        struct conf *conf;                      /* the client takes a reference */
        const char *channel;                    /* whose options, "<channel>_sync_host" before "sync_host"; NULL: the default channel. Copied */
        const char *host;                       /* instead of sync_host (-S), in the same forms; NULL. Copied */
        const char *partition;                  /* where everything goes on the replica (-p); NULL: partitions of the same names. Copied */
        bool no_copyback;                       /* -O: APPLY FORCE, nothing is fetched from the replica */
        bool local_only;                        /* -L: LOCAL_… commands, which do not tell the MUPDATE master */
        bool need_compress;                     /* -z: without DEFLATE it is an error */
        bool no_wait;                           /* -N */
        /* With sync_failover, what the replica is told of us: nothing; that it may lack anything, while all is compared; that it has all but what is logged. */
        enum { CLIENT_MODE_UNTOLD, CLIENT_MODE_COMPARING, CLIENT_MODE_WHOLE } mode;
        bool any_role;                          /* with sync_failover: for client_hand_over(), by a host that is not the master */
        /* All may be NULL; called on the client's thread. */
        bool (*stop)(void *ctx);                /* asked four times a second while it waits, and between steps */
        void (*action)(void *ctx, const char *line);            /* -v: "USER ann", "MAILBOX user.ann" …, and what else an administrator may want to
                                                                 * know ("no tombstone for deleted mailbox …"); a single line without its end */
        /* -v -v: octets of the protocol as they come and go, but for passwords. */
        void (*traffic)(void *ctx, bool sent, const void *p, size_t len);
        void *ctx;
};

/*
 * Connect, log in, compress, agree on capabilities. Blocks, for the connection itself 30 s at most. Returns 0 with the client, or -1 with err:
 * ERR_CONFIG (no sync_host, unknown port, no such mechanism can be used), ERR_UNAVAILABLE (nobody there, name unknown, said BYE; try again later),
 * ERR_AUTH (log-in refused, or the log-in is no admin's there), ERR_UNSUPPORTED (need_compress; STARTTLS was refused), ERR_TIMEOUT, ERR_CANCELLED
 * (stop). With sync_failover: ERR_UNAVAILABLE when this host is not the master, or the other does not follow it; ERR_UNSUPPORTED: it has no sync_failover.
 */
int client_open(const struct client_options *options, struct client **client_r, struct err *err);
/* EXIT or LOGOUT when the connection is good, without waiting for long. */
void client_close(struct client **client);

/* "host:port", and how: "csync" or "imap"; TLS; DEFLATE. For logs and status; valid as long as the client. */
const char *client_peer(const struct client *c);
struct client_traffic {
        uint64_t sent, received;                /* octets of the protocol, before DEFLATE */
        uint64_t wire_sent, wire_received;      /* octets on the wire */
        uint64_t commands, messages_sent, messages_fetched, mailboxes_sent;
        int64_t opened;                         /* Unix seconds */
        bool imap, tls, deflate;
};
void client_traffic(const struct client *c, struct client_traffic *traffic_r);

/* The first word of the replica's last NO ("IMAP_SYNC_CHANGED"), "" when the last failure was not the replica's. Valid until the next call. */
const char *client_reply_code(const struct client *c);

/* NOOP: is it still there? To be sent now and then while there is nothing to do: the replica hangs up after its own sync_timeout. */
enum client_result client_noop(struct client *c, struct err *err);
/* Fail-over (role.h), of a client that was opened with any_role: the master is asked to become the replica of this epoch. Takes as long as the rest of
 * its changes. ERR_FENCED: it does not (*theirs_r says what it is). */
int client_hand_over(struct client *c, const struct role_epoch *epoch, struct role_state *theirs_r, struct err *err);
/* RESTART: the replica drops what was uploaded and not used. After each run of the following (csync section 12); cheap. */
enum client_result client_restart(struct client *c, struct err *err);

/*
 * ---- items, section 10 ----
 * Names of mailboxes are internal, users external (as on the wire and in the log).
 */

/* Everything of a user: mailboxes, renames, deletions with a tombstone, quota, subscriptions, Sieve, seen. ERR_NOTFOUND (CLIENT_FAILED): no INBOX
 * here. */
enum client_result client_sync_user(struct client *c, const char *userid, struct err *err);

/*
 * A set of mailboxes, renames among them (former names that are given, and are known to the replica, are followed); nothing is deleted. The group
 * of one user belongs into one call. The first failure is what is returned, but the others are tried all the same unless the connection is gone. A
 * name that is not there (any more) is passed over.
 */
enum client_result client_sync_mailboxes(struct client *c, const char *const *names, size_t n, struct err *err);

/* Seen, subscriptions, Sieve of a user. */
enum client_result client_sync_meta(struct client *c, const char *userid, struct err *err);

/* Single items of the log. What is not there here is removed there, as section 10.6 says. */
enum client_result client_sync_quota(struct client *c, const char *root, struct err *err);
enum client_result client_sync_annotation(struct client *c, const char *mailbox, struct err *err);              /* "": the server's */
enum client_result client_sync_seen(struct client *c, const char *userid, const char *uniqueid, struct err *err);
enum client_result client_sync_sub(struct client *c, const char *userid, const char *mailbox, struct err *err);  /* SUB and UNSUB lines */
enum client_result client_sync_unmailbox(struct client *c, const char *mailbox, struct err *err);
enum client_result client_sync_unuser(struct client *c, const char *userid, struct err *err);

/*
 * ---- comparing, without changing anything ----
 * How a mailbox of ours stands on the replica: `what` is NULL when all that step 10.3.4 compares is equal, else names what differs ("missing",
 * "highestmodseq", "crc", "acl" …, several with a blank between). `differs` may be called for replica's mailboxes that are not here ("superfluous").
 */
typedef void client_differs(void *ctx, const char *mailbox, const char *what);
enum client_result client_verify_user(struct client *c, const char *userid, client_differs *differs, void *ctx, struct err *err);
enum client_result client_verify_mailboxes(struct client *c, const char *const *names, size_t n, client_differs *differs, void *ctx, struct err *err);

#endif
