/*
 * sync_log - what has changed and is still to be told to replicas, in Cyrus's files and format. reference: csync, section 12.
 *
 * {configdirectory}/sync/log, or sync/<channel>/log for each of sync_log_channels, has a line for each change: a word and one or two arguments, one
 * blank between. Who appends opens the file, locks it (fcntl), looks whether it is still the one of that name, writes, unlocks. Who reads renames
 * `log` to `log-run`, locks that once (a writer may be in the middle of it), reads, does what it says, removes it. So Cyrus's own programs can be
 * either.
 *
 * Lines come from the store's change feed. What publishes a change only puts a line into a bounded queue in memory, where one that is there already
 * is not put again; a thread of the log's own writes. It does not write what is already in the present file either, so the file is bounded by what
 * there is to change, not by how often that changes. Nothing is synced while the daemon runs: what a kill or a power loss takes away, and what was
 * changed while nobody logged, is found by comparing. {configdirectory}/sync/complete says that nothing of the kind has happened: it is written when
 * the log was closed and synced, and removed when it is opened; it names the channels. A channel that is not in it gets the line RESYNC: compare
 * everything. A queue that overflows is replaced by that line, too: nothing is lost. (RESYNC is ours. Cyrus's sync_client reports it as unknown and
 * goes on.)
 *
 * One log in a process; any thread may call.
 */
#ifndef REPLICATION_SYNC_LOG_H
#define REPLICATION_SYNC_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "store/lock_order.h"
#include "store/store.h"
#include "util/arena.h"
#include "util/conf.h"
#include "util/err.h"
#include "util/hash.h"
#include "util/str.h"

/* ---- lines ---- */

enum sync_kind {                                /* in the order in which a run of rolling replication does them */
        SYNC_MAILBOX, SYNC_APPEND, SYNC_DOUBLEMAILBOX, SYNC_RENAME,     /* the last two have two names */
        SYNC_QUOTA, SYNC_ANNOTATION,
        SYNC_SEEN,                              /* user, unique id */
        SYNC_SUB,                               /* user, mailbox */
        SYNC_UNMAILBOX, SYNC_META, SYNC_USER, SYNC_UNUSER,
        SYNC_RESYNC,                            /* no argument */
        SYNC_KINDS
};
struct sync_line {
        enum sync_kind kind;
        const char *a, *b;                      /* b: "" where there is one argument; a: "" for RESYNC */
};
const char *sync_kind_name(enum sync_kind kind);
int sync_kind_args(enum sync_kind kind);        /* 0, 1, 2 */
/* The line with its end, appended. False: an argument has an octet that no line can hold (NUL, CR, LF): nothing was appended. */
bool sync_line_write(struct str *out, const struct sync_line *line);
/* One line without its end, CR before it allowed. SIEVE reads as META, UNSUB as SUB. Strings are in the arena. ERR_SYNTAX. */
int sync_line_parse(struct span text, struct arena *arena, struct sync_line *line_r, struct err *err);

/* ---- files ---- */

/* {configdirectory}/sync[/<channel>]/<file>, appended; channel NULL or "": the default one. */
void sync_log_path(const char *configdir, const char *channel, const char *file, struct str *out);
/* Append these lines, durably if `sync`. Directories are made. ERR_IO, ERR_NOSPACE. Blocks. */
int sync_log_append(const char *configdir, const char *channel, struct span lines, bool sync, struct err *err);
/*
 * Take what is there to do: `log` becomes `log-run`, unless there is one (left by a stop): that comes first. Returns 1 with log-run's descriptor
 * (locked once and unlocked: nobody writes there any more), 0: there is nothing, -1 with err. When it is done: sync_log_done().
 */
int sync_log_take(const char *configdir, const char *channel, int *fd_r, struct err *err);
int sync_log_done(const char *configdir, const char *channel, struct err *err);
/* Every line of an open log from its beginning. Lines out of grammar, and a last one without an end, go to `bad` (may be NULL). */
int sync_log_read(int fd, void (*line)(void *ctx, const struct sync_line *line), void (*bad)(void *ctx, struct span text), void *ctx, struct err *err);
/* The channels of the configuration, "" for the default one, in the arena, NULL-terminated; none at all without sync_log. */
const char **sync_log_channels(struct conf *conf, struct arena *arena);

/* ---- writing from the change feed ---- */

struct sync_log;
struct sync_log_options {
        struct store *store;
        struct conf *conf;                      /* a reference is taken */
        bool threads;                           /* false (tools): lines are written when the log is closed */
        /* Lines were written to this channel's log; from the log's thread, short. May be NULL. */
        void (*written)(void *ctx, const char *channel);
        void *ctx;
};
/* Begin. Without sync_log it only notes that there is no complete log any more. ERR_IO: RESYNC marks could not be written. */
int sync_log_open(const struct sync_log_options *options, struct sync_log **log_r, struct err *err) EXCLUDES(change_class);
/* HUP: channels and whether there is a log at all. */
void sync_log_reconfigure(struct sync_log *log, struct conf *conf) EXCLUDES(change_class);
/* The store is about to be closed: what that publishes is still taken, but nothing is asked of the store any more. */
void sync_log_store_closing(struct sync_log *log);
/* After store_close(): write what is left, sync, mark the log complete. */
void sync_log_close(struct sync_log **log);

struct sync_log_stats {
        uint64_t lines;                         /* that were to be logged, so far */
        uint64_t written;                       /* … and were neither in the queue nor in the file already */
        uint64_t overflows;                     /* how often the queue was replaced by RESYNC */
        uint64_t failures;                      /* of writing, so far */
        uint64_t queued;                        /* now */
};
void sync_log_stats(struct sync_log *log, struct sync_log_stats *stats_r);
/*
 * Of one channel: what has been logged since this was last reset (by who takes the log, just before).
 *   since_us_r  monotonic time of the first change, 0: none
 * Returns their number.
 */
uint64_t sync_log_pending(struct sync_log *log, const char *channel, bool reset, uint64_t *since_us_r);
/* Whether a channel's log cannot be written now, and why; it is tried again each second. */
bool sync_log_trouble(struct sync_log *log, const char *channel, char *why, size_t size);

/*
 * Positions: changes that were published are numbered as they come. Who has published something and asks then gets a number that his change does
 * not exceed.
 */
uint64_t sync_log_position(struct sync_log *log);
struct sync_log_mark {
        uint64_t written;                       /* changes up to this one are in the channel's file, or were (another name for RESYNC, where it took their place) */
        uint64_t gap;                           /* … but of those up to this one some only as RESYNC, because the log could not keep them; 0: none.
                                                 * The RESYNC that a new log begins with does not count: that is about what was before */
};
void sync_log_mark(struct sync_log *log, const char *channel, struct sync_log_mark *mark_r);

#endif
