/*
 * ops - what an administrator can ask for: operations with JSON arguments and rows of JSON as their answer. cyrctl calls them
 * through the running daemon's control socket, or, with the daemon down, in its own process on the opened store.
 * An operation may block; inside the daemon it runs on a thread of its own kind (OFFLOAD_CONTROL).
 */
#ifndef SERVER_CONTROL_OPS_H
#define SERVER_CONTROL_OPS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/stream.h"
#include "store/mailbox.h"
#include "store/mboxlist.h"
#include "store/store.h"
#include "util/arena.h"
#include "util/conf.h"
#include "util/err.h"

struct ctl_call {
        struct store *store;
        struct conf *conf;
        bool in_daemon;
        json_t *args;                           /* object, borrowed */
        /* Hand on one row (the reference is taken). */
        void (*row)(struct ctl_call *call, json_t *row);
        /* Long work: `done` of `total` so far (total 0: unknown), in `unit`s. Rate limiting is the callee's. */
        void (*progress)(struct ctl_call *call, uint64_t done, uint64_t total, const char *unit);
        /* The one who asked is gone: stop soon. */
        bool (*cancelled)(struct ctl_call *call);
        void *ctx;
        /* In the daemon: who asked, and descriptors that came with the request, -1: none. What an operation keeps of them it sets to -1. */
        uid_t peer_uid;
        int fds[STREAM_FDS];
};

enum {
        CTL_NEEDS_DAEMON = 1u << 0,             /* makes no sense on a stopped store */
        CTL_NO_STORE     = 1u << 1,             /* cyrctl need not open the store */
        CTL_READS        = 1u << 2,             /* changes nothing: not in the audit trail */
        CTL_QUIET        = 1u << 3,             /* one of very many: not in the audit trail when it went well */
        CTL_QUICK        = 1u << 4,             /* takes no time, and must not wait for those that do */
        CTL_LONG         = 1u << 5,             /* may take hours: in the daemon it gets a thread of its own, for as long as it runs */
};

struct ctl_op {
        const char *name;                       /* "mailbox.create" */
        int (*fn)(struct ctl_call *call, struct err *err);
        unsigned flags;
};
/* NULL: no such operation. */
const struct ctl_op *ctl_op_find(const char *name);
/* Operations of layers above us: found as those of the table are, but in none but the process that added them. main.c only, before threads start;
 * `ops` stays where it is. */
void ctl_ops_add(const struct ctl_op *ops, size_t n);
/* The i-th lot of them, NULL: there are fewer. */
const struct ctl_op *ctl_ops_added(size_t i, size_t *n_r);
/* All of the table, sorted by name. */
const struct ctl_op *ctl_op_table(size_t *n_r);

/* ---- for the operations' files ---- */
const char *ctl_arg(struct ctl_call *call, const char *key);            /* NULL when absent or no string */
bool ctl_arg_bool(struct ctl_call *call, const char *key);
/* A mailbox as an administrator writes it → internal name in `buf`. */
int ctl_arg_mailbox(struct ctl_call *call, const char *key, char buf[512], struct err *err);
/* At and below which internal names a user's mailboxes are, and those of his that were deleted; in the arena. ERR_BADNAME … */
int ctl_user_roots(struct ctl_call *call, const char *given, struct arena *arena, const char *roots_r[2], struct err *err);
/* As an administrator sees it; a new JSON string. */
json_t *ctl_mailbox_json(struct ctl_call *call, const char *internal);
/* The store has failed, and may have named the mailbox `internal`, or one below it: the text says it as an administrator does then. -1. */
int ctl_fail(struct ctl_call *call, const char *internal, struct err *err);
/* The mailbox of an entry, with a reference. Blocks. */
int ctl_mailbox_open(struct ctl_call *call, const struct mbentry *e, struct mailbox **mbox_r, struct err *err);
/* Expunge these, and wait until it is durable. */
int ctl_expunge(struct mailbox *mbox, const struct uidset *uids, struct err *err);
/* "7", "7d", "1.5h", "10m", "30s": a time, in days when no unit is given, as cyr_expire takes it. -1: it is none. */
#define CTL_DURATION_MAX ((int64_t)INT32_MAX * 86400)
int ctl_duration(const char *text, int64_t *seconds_r);

int ctl_status(struct ctl_call *call, struct err *err);                 /* ops_status.c */
int ctl_df(struct ctl_call *call, struct err *err);
int ctl_metrics(struct ctl_call *call, struct err *err);
int ctl_sessions(struct ctl_call *call, struct err *err);
int ctl_sessions_kick(struct ctl_call *call, struct err *err);
int ctl_top(struct ctl_call *call, struct err *err);
int ctl_trace_on(struct ctl_call *call, struct err *err);               /* ops_trace.c */
int ctl_trace_off(struct ctl_call *call, struct err *err);
int ctl_trace_list(struct ctl_call *call, struct err *err);
int ctl_handover(struct ctl_call *call, struct err *err);               /* ops_handover.c */
int ctl_temporary_end(struct ctl_call *call, struct err *err);
int ctl_info(struct ctl_call *call, struct err *err);                   /* ops_info.c */
int ctl_config(struct ctl_call *call, struct err *err);
int ctl_list(struct ctl_call *call, struct err *err);                   /* ops_mailbox.c */
int ctl_list_check(struct ctl_call *call, struct err *err);
int ctl_mailbox_entry(struct ctl_call *call, struct err *err);
int ctl_mailbox_load(struct ctl_call *call, struct err *err);         /* ops_load.c */
int ctl_mailbox_info(struct ctl_call *call, struct err *err);
int ctl_mailbox_create(struct ctl_call *call, struct err *err);
int ctl_mailbox_delete(struct ctl_call *call, struct err *err);
int ctl_mailbox_rename(struct ctl_call *call, struct err *err);
int ctl_mailbox_move(struct ctl_call *call, struct err *err);
/* What mailbox.move and user.move share; a row for each mailbox that went. */
int ctl_move(struct ctl_call *call, const char *name, bool with_children, struct err *err);
int ctl_mailbox_specialuse(struct ctl_call *call, struct err *err);
int ctl_message_guids(struct ctl_call *call, struct err *err);         /* ops_message.c */
int ctl_message_append(struct ctl_call *call, struct err *err);
int ctl_message_read(struct ctl_call *call, struct err *err);
int ctl_acl_get(struct ctl_call *call, struct err *err);
int ctl_acl_set(struct ctl_call *call, struct err *err);
int ctl_user_list(struct ctl_call *call, struct err *err);              /* ops_user.c */
int ctl_user_info(struct ctl_call *call, struct err *err);
int ctl_user_create(struct ctl_call *call, struct err *err);
int ctl_user_delete(struct ctl_call *call, struct err *err);
int ctl_user_rename(struct ctl_call *call, struct err *err);
int ctl_user_move(struct ctl_call *call, struct err *err);
int ctl_quota_list(struct ctl_call *call, struct err *err);            /* ops_quota.c */
int ctl_quota_fix(struct ctl_call *call, struct err *err);
int ctl_quota_set(struct ctl_call *call, struct err *err);
int ctl_quota_delete(struct ctl_call *call, struct err *err);
int ctl_check(struct ctl_call *call, struct err *err);                  /* ops_check.c */
int ctl_reconstruct(struct ctl_call *call, struct err *err);
int ctl_expire(struct ctl_call *call, struct err *err);                 /* ops_expire.c */
int ctl_readers(struct ctl_call *call, struct err *err);                /* ops_readers.c */
int ctl_readers_prune(struct ctl_call *call, struct err *err);
int ctl_seen_own(struct ctl_call *call, struct err *err);
int ctl_seen_own_remove(struct ctl_call *call, struct err *err);
int ctl_expunged_list(struct ctl_call *call, struct err *err);          /* ops_expunged.c */
int ctl_expunged_restore(struct ctl_call *call, struct err *err);
int ctl_message_purge(struct ctl_call *call, struct err *err);
int ctl_metadata_list(struct ctl_call *call, struct err *err);          /* ops_metadata.c */
int ctl_metadata_set(struct ctl_call *call, struct err *err);

#endif
