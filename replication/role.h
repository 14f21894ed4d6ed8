/*
 * role - which of two hosts is the master: fail-over (sync_failover: yes on both hosts, each with the other as its sync_host).
 *
 * Both stores keep a *role* and an *epoch* in {configdirectory}/sync/role: a number, and a random id of the promotion that began it. A promotion makes a
 * higher one. A master tells its epoch to the replica whenever a connection is made (GET X_EPOCH, an extension of csync), and whoever hears a higher
 * one learns that it was replaced:
 *
 *   none      not set up (cyrctl failover init on the host that is to be the master), or what it was is lost: no changes but a master's, whose replica it becomes
 *   master    clients change it; its channels replicate. After a start it has no clients' changes until the other host has said that it is still the
 *             master; an asynchronous one waits ROLE_ASK_MS for that word, then goes on without it, and says so
 *   replica   clients may read (store_fence()), only the master of its epoch, or of a higher one, changes it; its channels stand by
 *   fenced    was the master and heard of a higher epoch: nobody changes it and it replicates nothing, until it is joined as a replica
 *
 * So of two masters one at least is told at the first contact, by either of them. A synchronous master with sync_degrade_after: never tells clients
 * of nothing that the replica has not said it has; and the replica says so to the master of its epoch only. That makes a promotion without contact
 * safe: what was acknowledged is here, and nothing more will be. It is a *promise*, on the disk before it is made, and holds until the replica has been told
 * of a weaker mode: a master whose configuration says less takes no changes before that, or until an administrator has it go on alone (role_alone()). A change that comes while the role changes is either wholly done before, or refused.
 * The same number with two ids is two promotions that did not know of each other: neither replicates, nobody changes anything, until an operator has
 * one of them join.
 *
 * A file that cannot be read fences the store. Any thread; what writes the file blocks.
 */
#ifndef REPLICATION_ROLE_H
#define REPLICATION_ROLE_H

#include <stdbool.h>
#include <stdint.h>

#include "replication/lock_order.h"
#include "store/store.h"
#include "util/conf.h"
#include "util/err.h"

#define ROLE_ASK_MS 10000

enum role { ROLE_NONE, ROLE_MASTER, ROLE_REPLICA, ROLE_FENCED };
const char *role_name(enum role role);          /* "none", "master", "replica", "fenced" */
bool role_parse(const char *name, enum role *role_r);

struct role_epoch {
        uint64_t number;                        /* 0: none */
        char id[17];                            /* 16 hexadecimal digits */
};
bool role_epoch_equal(const struct role_epoch *a, const struct role_epoch *b);
bool role_epoch_valid(const struct role_epoch *e);      /* as it came from elsewhere */

/* How a master replicates: what a promotion without it has to know. */
enum role_mode {
        ROLE_ASYNCHRONOUS,
        ROLE_DEGRADES,                          /* synchronous, with a sync_degrade_after that is not `never`; or while it compares everything */
        ROLE_NEVER,                             /* synchronous, and never degraded: what was acknowledged is on the replica */
        ROLE_UNTOLD,                            /* of a connection that is not the channel's */
};
const char *role_mode_name(enum role_mode mode);        /* "asynchronous", "synchronous", "never", "untold" */
bool role_mode_parse(const char *name, enum role_mode *mode_r);

struct role_state {
        bool on;                                /* sync_failover */
        enum role role;
        struct role_epoch epoch;                /* of this store */
        struct role_epoch higher;               /* ROLE_FENCED: the one that replaced it. number 0: not known */
        bool asking;                            /* ROLE_MASTER: waits for the other's word */
        bool promised;                          /* ROLE_MASTER: the replica was told ROLE_NEVER, and of nothing less since then */
        bool conflict;                          /* another master of the same number was met */
        int64_t since;                          /* Unix seconds: it has this role */
        enum role_mode mode;                    /* ROLE_REPLICA: of its master, by its last word */
        bool heard;                             /* ROLE_REPLICA: its master has been heard of since it is one */
        int64_t heard_s;                        /* ROLE_REPLICA: seconds since then; -1: not since the start */
        char broken[ERR_TEXT_MAX];              /* why the file cannot be used; "": it can */
};

/* The store was opened: read the file, put up the fence. `daemon`: a master asks the other host first. */
void role_open(struct store *store, struct conf *conf, bool daemon) EXCLUDES(role_class);
void role_reconfigure(struct conf *conf) EXCLUDES(role_class);          /* HUP */
void role_close(void) EXCLUDES(role_class);
/* Called whenever the role has changed, on the thread that did it, with none of our locks but that of changing. Once, before role_open(). */
void role_tell(void (*changed)(void));
bool role_on(void);
/* Another host may be the master: nothing may be acknowledged. */
bool role_is_restricted(void);
void role_get(struct role_state *state_r) EXCLUDES(role_class);

/* ---- of a session of a peer ---- */

/* A master says who it is. ERR_FENCED: it is not ours to follow; *mine_r is what it is told. Else *turn_r is what its changes come with. */
int role_hello(const struct role_epoch *epoch, enum role_mode mode, struct role_state *mine_r, uint64_t *turn_r, struct err *err) EXCLUDES(role_class);
/* A peer's change begins, and ends; `turn` 0: it said no epoch. ERR_FENCED: not of who is our master now. */
int role_enter(uint64_t turn, struct err *err) EXCLUDES(role_class);
void role_leave(void) EXCLUDES(role_class);
/* The replica wants to be the master: no change of clients from now on (drain() brings all to the replica), then we are its replica. ERR_FENCED: we are
 * not its master; what drain() says. After an error we are as we were. */
int role_hand_over(const struct role_epoch *to, int (*drain)(void *ctx, struct err *err), void *ctx, struct err *err) EXCLUDES(role_class);

/* ---- of a master's connection ---- */

/* May this host replicate now? ERR_UNAVAILABLE: it stands by. */
int role_may_replicate(struct err *err) EXCLUDES(role_class);
/* The replica is about to be told ROLE_NEVER. After an error it must not be. Blocks. */
int role_promise(struct err *err) EXCLUDES(role_class);
/* The other has accepted us, and heard of this mode; or has not, being what `theirs` says: what we have to learn from it. Blocks. */
void role_accepted(const struct role_epoch *mine, enum role_mode told) EXCLUDES(role_class);
void role_refused(const struct role_state *theirs) EXCLUDES(role_class);

/* ---- by an administrator: ERR_EXISTS, ERR_PERM say what is in the way ---- */

int role_init(struct err *err) EXCLUDES(role_class);
/* An epoch above all that this host has heard of. */
void role_next_epoch(struct role_epoch *epoch_r) EXCLUDES(role_class);
int role_promote(const struct role_epoch *epoch, struct err *err) EXCLUDES(role_class);
int role_join(struct err *err) EXCLUDES(role_class);
/* A master that waits for the other's word goes on without it, in a new epoch: what the other may count on holds no longer. */
int role_alone(struct err *err) EXCLUDES(role_class);

#endif
