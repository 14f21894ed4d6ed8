/*
 * failover - cyrctl failover …: the operator's side of role.h
 *
 * A promotion asks the master first: one that answers hands over (nothing is lost). One that does not may have acknowledged what is not here, unless it was
 * synchronous and never degrades. What it had shown to clients and not acknowledged may be anything all the same: so the numbers of all mailboxes are
 * raised before, and no UID that somebody may have seen there is given to another message here.
 */
#include "replication/failover.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/client.h"
#include "replication/role.h"
#include "replication/rolling.h"
#include "store/change.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/replica.h"
#include "util/array.h"
#include "util/log.h"
#include "util/must.h"

#define LIFT_UIDS 4096u                         /* more than one session has under way at a time … */
#define LIFT_UIDS_LOST 65536u                   /* … and than are lost of an asynchronous master, who has said so */
#define LIFT_MODSEQ 65536u

/* ---- status ----------------------------------------------------------------------------------------------------------------- */

/* What a promotion without the master would say; "": it may. */
static const char *what_is_missing(const struct role_state *s)
{
        if (s->role != ROLE_REPLICA)
                return s->role == ROLE_MASTER ? "this host is the master" : s->role == ROLE_FENCED ? "this host was fenced" : "fail-over is not set up here";
        if (!s->heard)
                return "the master has not been heard of since this host became a replica";
        if (s->mode == ROLE_ASYNCHRONOUS)
                return "the master replicated asynchronously";
        if (s->mode == ROLE_DEGRADES)
                return "the master may have gone on without its replica (sync_degrade_after), or had not yet compared everything";
        return "";
}

static json_t *epoch_text(const struct role_epoch *e)
{
        return e->number ? json_sprintf("%" PRIu64 ".%s", e->number, e->id) : json_string("");
}

static int op_status(struct ctl_call *call, struct err *err)
{
        struct role_state s;
        const char *missing;

        role_get(&s);
        (void)err;
        missing = what_is_missing(&s);
        call->row(call, json_pack("{s:b, s:s, s:o, s:o, s:I, s:b, s:b, s:b, s:s, s:I, s:b, s:s, s:s}", "on", s.on, "role", s.broken[0] ? "unknown" : role_name(s.role),
                                  "epoch", epoch_text(&s.epoch), "replaced_by", epoch_text(&s.higher), "since", (json_int_t)s.since, "asking", s.asking,
                                  "conflict", s.conflict, "promised", s.promised, "mode", s.role == ROLE_REPLICA ? role_mode_name(s.mode) : "", "heard_s", (json_int_t)s.heard_s,
                                  "promotable", *missing == '\0' && !s.broken[0], "missing", missing, "problem",
                                  s.broken[0] ? s.broken : !s.on ? "sync_failover is not on" : s.conflict ? "two masters with the same epoch: one has to be joined"
                                  : s.asking ? "no changes until the other host is reached (cyrctl failover alone: go on without it)" : s.role == ROLE_NONE ? "not set up: no changes" : ""));
        return 0;
}

static bool stopped(void *ctx)
{
        struct ctl_call *call = ctx;

        return call->cancelled(call);
}

/* ---- setting up, joining ------------------------------------------------------------------------------------------------------- */

static void go_on(void)
{
        rolling_compare(NULL);
        rolling_now(NULL);
}

static int op_init(struct ctl_call *call, struct err *err)
{
        (void)call;
        if (role_init(err) < 0)
                return -1;
        go_on();
        return 0;
}

static int op_alone(struct ctl_call *call, struct err *err)
{
        (void)call;
        return role_alone(err);
}

/*
 * Mailboxes of ours that the new master has not stay here for ever once it is followed, and would be there again after another promotion: so they are told of,
 * and an administrator says that they may go. Messages, flags and all else of a mailbox that both have come together (client_repair.c).
 */
struct only_here { struct ctl_call *call; ARRAY(char *) names; };

static void on_difference(void *ctx, const char *mailbox, const char *what)
{
        struct only_here *o = ctx;

        if (!mailbox || !what || strcmp(what, "missing") != 0)
                return;
        *ARRAY_PUSH(&o->names) = xstrdup(mailbox);
        o->call->row(o->call, json_pack("{s:o, s:s}", "mailbox", ctl_mailbox_json(o->call, mailbox), "differs", "only here"));
}

static int look_for_own(struct ctl_call *call, struct client *client, struct only_here *only, struct err *err)
{
        const char *prefix = conf_str(call->conf, NULL, "deletedprefix");
        struct mboxlist *ml = store_mboxlist(call->store);
        const struct mbentry *entries[64];
        char after[MAILNAME_MAX + 64] = "";
        uint64_t done = 0, total = mboxlist_count(ml);
        enum client_result r = CLIENT_OK;
        unsigned n;

        while (r == CLIENT_OK && (n = mboxlist_next(ml, "", after, entries, ARRAY_LEN(entries))) > 0) {
                const char *names[ARRAY_LEN(entries)];
                size_t wanted = 0;

                for (unsigned i = 0; i < n; i++)
                        if (entries[i]->type == MBTYPE_NORMAL && !mailname_is_deleted(entries[i]->name, prefix))
                                names[wanted++] = entries[i]->name;
                snprintf(after, sizeof after, "%s", entries[n - 1]->name);
                if (wanted)
                        r = client_verify_mailboxes(client, names, wanted, on_difference, only, err);
                for (unsigned i = 0; i < n; i++)
                        mbentry_unref(&entries[i]);
                done += n;
                call->progress(call, done, total, "mailboxes");
        }
        return r == CLIENT_OK || err->code ? (r == CLIENT_OK ? 0 : -1) : err_set(err, ERR_UNAVAILABLE, "%s", client_result_name(r));
}

static int discard_own(struct ctl_call *call, const struct only_here *only, struct err *err)
{
        unsigned was = change_mark(change_marks() | CHANGE_REPLICATED);
        int rc = 0;

        for (size_t i = 0; i < only->names.n && rc == 0; i++) {
                log_event(LOG_WARN, NULL, "failover.discarded", "mailbox=%s", only->names.v[i]);
                rc = mboxlist_delete(store_mboxlist(call->store), only->names.v[i], true, err);
        }
        (void)change_mark(was);
        return rc;
}

static int op_join(struct ctl_call *call, struct err *err)
{
        struct client_options o = { .store = call->store, .conf = call->conf, .any_role = true, .stop = stopped, .ctx = call };
        struct only_here only = { .call = call };
        bool discard = ctl_arg_bool(call, "discard");
        struct err mine = ERR_INIT;
        struct role_state s;
        struct client *client;
        int rc = 0;

        role_get(&s);
        if (s.on && (s.role == ROLE_FENCED || s.conflict)) {
                if (client_open(&o, &client, &mine) == 0) {
                        rc = look_for_own(call, client, &only, err);
                        client_close(&client);
                } else if (!discard) {
                        err_copy(err, &mine);
                        return err_prefix(err, "what is only here cannot be compared (--discard: join all the same)");
                }
        }
        if (rc == 0 && only.names.n && !discard)
                rc = err_set(err, ERR_PERM, "%zu mailboxes are only here: export what is wanted of them, then join with --discard", only.names.n);
        if (rc == 0)
                rc = role_join(err);
        if (rc == 0)
                rc = discard_own(call, &only, err);
        for (size_t i = 0; i < only.names.n; i++)
                free(only.names.v[i]);
        ARRAY_FREE(&only.names);
        return rc;
}

/* ---- promotion ---------------------------------------------------------------------------------------------------------------- */

/* 1: it has handed over; 0: it is not there, or is no master (*epoch is above what it knows); -1 with err: it is there and does not. */
static int ask_master(struct ctl_call *call, struct role_epoch *epoch, struct role_state *theirs, char why[ERR_TEXT_MAX], struct err *err)
{
        struct client_options o = { .store = call->store, .conf = call->conf, .any_role = true, .stop = stopped, .ctx = call };
        struct client *client;
        struct err mine = ERR_INIT;
        int rc = 0;

        *theirs = (struct role_state){ .role = ROLE_NONE };
        if (client_open(&o, &client, &mine) < 0) {
                if (mine.code != ERR_UNAVAILABLE && mine.code != ERR_TIMEOUT) {
                        err_copy(err, &mine);
                        return -1;
                }
                snprintf(why, ERR_TEXT_MAX, "%s", mine.text);
                return 0;
        }
        if (client_hand_over(client, epoch, theirs, &mine) == 0) {
                rc = 1;
        } else if (mine.code == ERR_FENCED && theirs->role != ROLE_MASTER) {
                snprintf(why, ERR_TEXT_MAX, "it is %s", role_name(theirs->role));
                if (theirs->epoch.number >= epoch->number)
                        epoch->number = theirs->epoch.number + 1;
        } else {
                err_copy(err, &mine);
                err_prefix(err, "the master is there, and has not handed over");
                rc = -1;
        }
        client_close(&client);
        return rc;
}

static int lift_one(struct store *store, const char *name, uint32_t uids, struct arena *arena, struct err *err)
{
        struct replica_values v;
        struct replica_repair repair;
        enum replica_code code;

        if (replica_read(store, name, arena, &v, err) < 0)
                return err->code == ERR_NOTFOUND ? 0 : -1;
        if (v.type != MBTYPE_NORMAL)
                return 0;
        repair = (struct replica_repair){ .name = name, .uniqueid = v.uniqueid, .uidvalidity = v.uidvalidity, .highestmodseq = v.highestmodseq + LIFT_MODSEQ,
                                          .last_uid = v.last_uid < UINT32_MAX / 2 ? v.last_uid + uids : v.last_uid };
        code = replica_repair(store, &repair, err);
        return code == REPLICA_OK || code == REPLICA_NONEXISTENT ? 0 : -1;
}

static int lift_all(struct ctl_call *call, uint32_t uids, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(call->store);
        const struct mbentry *entries[64];
        char after[MAILNAME_MAX + 64] = "";
        uint64_t done = 0, total = mboxlist_count(ml);
        unsigned n, was = change_mark(change_marks() | CHANGE_REPLICATED);      /* through the fence; everything is compared afterwards */
        int rc = 0;

        while (rc == 0 && (n = mboxlist_next(ml, "", after, entries, ARRAY_LEN(entries))) > 0) {
                for (unsigned i = 0; i < n; i++) {
                        struct arena arena = ARENA_INIT;

                        snprintf(after, sizeof after, "%s", entries[i]->name);
                        if (rc == 0)
                                rc = lift_one(call->store, entries[i]->name, uids, &arena, err);
                        if (rc < 0 && err->code)
                                err_prefix(err, "%s", after);
                        arena_deinit(&arena);
                        mbentry_unref(&entries[i]);
                }
                done += n;
                call->progress(call, done, total, "mailboxes");
                if (rc == 0 && call->cancelled(call))
                        rc = err_set(err, ERR_CANCELLED, "stopped");
        }
        (void)change_mark(was);
        return rc;
}

static int op_promote(struct ctl_call *call, struct err *err)
{
        bool accept_loss = ctl_arg_bool(call, "accept-loss");
        struct role_state s, theirs;
        struct role_epoch epoch;
        char why[ERR_TEXT_MAX] = "";
        const char *missing;
        int planned;

        role_get(&s);
        /* It says what is wrong; and where that has changed by then, that the epoch is too low: nobody is promoted unasked. */
        if (!s.on || s.broken[0] || s.role != ROLE_REPLICA)
                return role_promote(&(struct role_epoch){ .number = 0 }, err);
        role_next_epoch(&epoch);
        planned = ask_master(call, &epoch, &theirs, why, err);
        if (planned < 0)
                return -1;
        /* One that has handed over before, and whose answer got lost: it is our replica, or would be. */
        if (!planned && theirs.role == ROLE_REPLICA && theirs.epoch.number > s.epoch.number)
                planned = 1;
        missing = planned ? "" : what_is_missing(&s);
        if (*missing && !accept_loss)
                return err_set(err, ERR_PERM, "the master was not reached (%.150s), and %s: what it had acknowledged may be missing here (--accept-loss)", why, missing);
        if (!planned && lift_all(call, *missing ? LIFT_UIDS_LOST : LIFT_UIDS, err) < 0)
                return -1;
        if (role_promote(&epoch, err) < 0)
                return -1;
        log_event(LOG_NOTE, NULL, "failover.promoted", "epoch=%" PRIu64 ".%s planned=%s loss=%s", epoch.number, epoch.id, planned ? "yes" : "no", *missing ? "possible" : "none");
        call->row(call, json_pack("{s:o, s:b, s:s}", "epoch", epoch_text(&epoch), "planned", planned, "loss", *missing ? "possible" : "none"));
        go_on();
        return 0;
}

static const struct ctl_op ops[] = {            /* sorted */
        { "failover.alone", op_alone, CTL_NEEDS_DAEMON },
        { "failover.init", op_init, CTL_NEEDS_DAEMON },
        { "failover.join", op_join, CTL_NEEDS_DAEMON | CTL_LONG },
        { "failover.promote", op_promote, CTL_NEEDS_DAEMON | CTL_LONG },
        { "failover.status", op_status, CTL_NEEDS_DAEMON | CTL_READS },
};

void failover_register(void)
{
        ctl_ops_add(ops, ARRAY_LEN(ops));
}
