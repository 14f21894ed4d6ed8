/*
 * sync_log - the log for replicas, written from the store's change feed; see sync_log.h
 *
 * Two halves. Publishers (under the feed's lock) put entries into a queue of bounded size: a table of what is there, and an array in their order; one
 * small copy each. The writer takes the whole queue, makes lines of it – the name of a mailbox is looked up then, by unique id, so that a rename
 * between a commit and its line cannot leave a line with a name that nobody has – and appends them to each channel's file.
 *
 * A channel's file stays open and is compared with its name each time (who reads it renames it). While it is the same file its lines are known, and
 * none is written twice. That the file is held open also keeps its inode number from being used again.
 */
#include "replication/sync_log_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "replication/lock_order.h"
#include "store/change.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define QUEUE_MAX 32768                         /* entries: 8 MiB at most; beyond that, and only if the disk takes nothing for a while, RESYNC */
#define KNOWN_MAX 262144                        /* lines known of a channel's file; what comes after those may be there more than once */
#define UNWRITTEN_MAX ((size_t)8 << 20)         /* octets kept for a channel whose file cannot be written */
#define RETRY_MS 1000

struct entry {
        enum sync_kind kind;
        bool replicated;                        /* only for channels that want those, too */
        char *a, *b;                            /* b: NULL or the second argument */
        char *uniqueid;                         /* of the mailbox `a`: its name may be another by now; NULL: it is not looked up */
};

struct queue {
        ARRAY(struct entry) list;
        struct table *known;                    /* key → anything */
        struct arena arena;
        uint64_t since_us;                      /* when the first one came */
        bool overflow;                          /* the rest was dropped: RESYNC */
};

struct channel {
        char *name;
        bool unsuppressable;                    /* gets what was replicated, too */
        /* the writer's */
        char *path;
        int fd;                                 /* -1: not open */
        off_t size;                             /* after our last write */
        struct table *known;                    /* lines of that file */
        struct str unwritten;                   /* whole lines */
        bool resync;                            /* some were dropped: RESYNC instead */
        bool told;                              /* of the failure, in the log */
        uint64_t since_us;                      /* of what is unwritten */
        uint64_t unwritten_n;
        /* sync_log_class */
        uint64_t pending, pending_since_us;
        struct sync_log_mark mark;
        char trouble[ERR_TEXT_MAX];             /* why it cannot be written; "": it can */
};

struct sync_log {
        struct store *store;
        char *configdir;
        bool threads;
        void (*written)(void *ctx, const char *channel);
        void *ctx;
        struct change_subscriber subscriber;
        bool subscribed;
        pthread_t thread;
        bool has_thread;
        bool failed;                            /* lines were lost for good: the log is not complete when it is closed */

        struct mutex lock;                      /* sync_log_class; what follows, but for where it says otherwise */
        struct cond work;                       /* something is queued; stop */
        struct cond idle;                       /* the writer has ended a round */
        struct queue queue, spare;
        bool enabled, chain;
        bool writing;                           /* the writer, or sync_log_reconfigure(), has the channels */
        bool stop, store_closing;
        ARRAY(struct channel *) channels;       /* changed by the thread that opens, reconfigures, closes, while the writer is idle */
        struct sync_log_stats stats;
};

static void log_lock(struct sync_log *log) ACQUIRE(log->lock, sync_log_class);
static void log_unlock(struct sync_log *log) RELEASE(log->lock, sync_log_class);
static void log_lock(struct sync_log *log) NO_TSA
{
        mutex_lock(&log->lock);
}
static void log_unlock(struct sync_log *log) NO_TSA
{
        mutex_unlock(&log->lock);
}

/* ---- the queue: from publishing threads ---- */

static void queue_init(struct queue *q)
{
        *q = (struct queue){ .list = ARRAY_INIT, .known = table_create(), .arena = ARENA_INIT };
}

static void queue_clear(struct queue *q)
{
        q->list.n = 0;
        table_destroy(&q->known);
        q->known = table_create();
        arena_reset(&q->arena);
        q->since_us = 0;
        q->overflow = false;
}

static void queue_deinit(struct queue *q)
{
        ARRAY_FREE(&q->list);
        table_destroy(&q->known);
        arena_deinit(&q->arena);
}

/* What makes two entries the same: kind, whose it is, unique id or arguments. */
static struct span entry_key(char *buf, size_t size, enum sync_kind kind, bool replicated, const char *a, const char *b)
{
        size_t an = strlen(a), bn = b ? strlen(b) : 0, n = 0;

        if (an + bn + 4 > size)
                return (struct span){ NULL, 0 };
        buf[n++] = (char)(kind + 1);
        buf[n++] = replicated ? 'r' : 'l';
        memcpy(buf + n, a, an + 1);
        n += an + 1;
        if (b) {
                memcpy(buf + n, b, bn);
                n += bn;
        }
        return (struct span){ buf, n };
}

static void put_locked(struct sync_log *log, enum sync_kind kind, bool replicated, const char *a, const char *b, const char *uniqueid)
        REQUIRES(log->lock, sync_log_class);
static void put_locked(struct sync_log *log, enum sync_kind kind, bool replicated, const char *a, const char *b, const char *uniqueid)
{
        struct queue *q = &log->queue;
        char buf[2048];
        struct span key = entry_key(buf, sizeof buf, kind, replicated, uniqueid && *uniqueid ? uniqueid : a, b);

        log->stats.lines++;
        if (q->overflow || (key.p && table_find(q->known, key)))
                return;
        if (!q->since_us)
                q->since_us = clock_mono_us();
        if (q->list.n == QUEUE_MAX) {
                queue_clear(q);
                q->since_us = clock_mono_us();
                q->overflow = true;
                log->stats.overflows++;
                return;
        }
        if (q->list.n == 0)
                cond_signal(&log->work);
        *ARRAY_PUSH(&q->list) = (struct entry){ kind, replicated, arena_strdup(&q->arena, a), b ? arena_strdup(&q->arena, b) : NULL,
                                                uniqueid && *uniqueid ? arena_strdup(&q->arena, uniqueid) : NULL };
        if (key.p)
                table_set(q->known, key, q);
}

/* The user whose INBOX this is, in the arena; NULL: it is no INBOX. */
static const char *inbox_owner(const char *name, struct arena *arena)
{
        return mailname_is_inbox(name) ? mailname_owner(name, arena) : NULL;
}

static void put_rename_locked(struct sync_log *log, const struct change *c, bool replicated, const char *former_user, const char *user)
        REQUIRES(log->lock, sync_log_class);
static void put_rename_locked(struct sync_log *log, const struct change *c, bool replicated, const char *former_user, const char *user)
{
        put_locked(log, SYNC_RENAME, replicated, c->other, c->name, NULL);
        put_locked(log, SYNC_MAILBOX, replicated, c->other, NULL, NULL);
        put_locked(log, SYNC_MAILBOX, replicated, c->name, NULL, NULL);
        if (former_user)
                put_locked(log, SYNC_UNUSER, replicated, former_user, NULL, NULL);
        if (former_user && user)
                put_locked(log, SYNC_USER, replicated, user, NULL, NULL);
}

/* A mailbox is gone, and its name stays for those below it. */
static bool leaves_name(const struct change *c)
{
        return c->before && c->before->type == MBTYPE_NORMAL && c->after && c->after->type == MBTYPE_INTERMEDIATE;
}

static void put_name_locked(struct sync_log *log, const struct change *c, bool replicated, const char *former_user, const char *user)
        REQUIRES(log->lock, sync_log_class);
static void put_name_locked(struct sync_log *log, const struct change *c, bool replicated, const char *former_user, const char *user)
{
        if (c->after && c->other) {
                put_rename_locked(log, c, replicated, former_user, user);
        } else if (c->after) {
                put_locked(log, SYNC_MAILBOX, replicated, c->name, NULL, NULL);
                if (leaves_name(c))
                        put_locked(log, SYNC_UNMAILBOX, replicated, c->name, NULL, NULL);
                if (leaves_name(c) && user)     /* that it is to go can be told only from all that he has */
                        put_locked(log, SYNC_USER, replicated, user, NULL, NULL);
        } else if (!c->moved) {                 /* where it went the other change says */
                put_locked(log, SYNC_UNMAILBOX, replicated, c->name, NULL, NULL);
                if (user && c->before && c->before->type == MBTYPE_NORMAL)
                        put_locked(log, SYNC_UNUSER, replicated, user, NULL, NULL);
        }
}

static void put_change_locked(struct sync_log *log, const struct change *c, bool replicated, const char *former_user, const char *user)
        REQUIRES(log->lock, sync_log_class);
static void put_change_locked(struct sync_log *log, const struct change *c, bool replicated, const char *former_user, const char *user)
{
        switch (c->kind) {
        case CHANGE_MAILBOX:
                if (c->what & CHANGE_ARRIVED)
                        put_locked(log, SYNC_APPEND, replicated, c->name, NULL, c->uniqueid);
                put_locked(log, SYNC_MAILBOX, replicated, c->name, NULL, c->uniqueid);
                break;
        case CHANGE_COPIED:
                put_locked(log, SYNC_DOUBLEMAILBOX, replicated, c->other, c->name, NULL);
                break;
        case CHANGE_NAME:
                put_name_locked(log, c, replicated, former_user, user);
                break;
        case CHANGE_SUBSCRIPTION:
                put_locked(log, SYNC_SUB, replicated, c->name, c->other, NULL);
                break;
        case CHANGE_QUOTA:
                put_locked(log, SYNC_QUOTA, replicated, c->name, NULL, NULL);
                break;
        case CHANGE_SEEN:
                put_locked(log, SYNC_SEEN, replicated, c->name, c->uniqueid, NULL);
                break;
        case CHANGE_ANNOTATION:
                put_locked(log, *c->name ? SYNC_MAILBOX : SYNC_ANNOTATION, replicated, c->name, NULL, *c->name ? c->uniqueid : NULL);
                break;
        case CHANGE_SIEVE:
                put_locked(log, SYNC_META, replicated, c->name, NULL, NULL);
                break;
        }
}

static void on_change(void *ctx, const struct change *c)
{
        struct sync_log *log = ctx;
        struct arena arena = ARENA_INIT;
        const char *former_user = NULL, *user = NULL;

        if (c->kind == CHANGE_NAME) {
                former_user = c->other ? inbox_owner(c->other, &arena) : NULL;
                user = leaves_name(c) ? mailname_owner(c->name, &arena) : inbox_owner(c->name, &arena);
        }
        log_lock(log);
        if (log->enabled)
                put_change_locked(log, c, c->marks & CHANGE_REPLICATED && !log->chain, former_user, user);
        log_unlock(log);
        arena_deinit(&arena);
}

/* ---- writing: one thread ---- */

static void append_line(struct sync_log *log, struct channel *ch, const struct sync_line *l)
{
        (void)log;
        if (!sync_line_write(&ch->unwritten, l))
                ch->resync = true;              /* a name that no line can hold: it is found by comparing */
        ch->unwritten_n++;
}

/* What it is called now; what is gone by now has the name that it had. */
static const char *present_name(struct sync_log *log, const struct entry *e, bool ask, struct arena *arena)
{
        const struct mbentry *entry = ask && e->uniqueid ? mboxlist_find_uniqueid(store_mboxlist(log->store), e->uniqueid) : NULL;
        const char *name = entry ? arena_strdup(arena, entry->name) : e->a;

        mbentry_unref(&entry);
        return name;
}

static void spread(struct sync_log *log, struct queue *q, bool ask)
{
        struct arena arena = ARENA_INIT;

        for (size_t i = 0; i < q->list.n; i++) {
                const struct entry *e = &q->list.v[i];
                struct sync_line l = { e->kind, present_name(log, e, ask, &arena), e->b ? e->b : "" };

                for (size_t c = 0; c < log->channels.n; c++)
                        if (!e->replicated || log->channels.v[c]->unsuppressable)
                                append_line(log, log->channels.v[c], &l);
        }
        for (size_t c = 0; c < log->channels.n; c++) {
                struct channel *ch = log->channels.v[c];

                ch->resync = ch->resync || q->overflow;
                if (!ch->since_us)
                        ch->since_us = q->since_us;
        }
        arena_deinit(&arena);
}

static void channel_close(struct channel *ch)
{
        if (ch->fd >= 0)
                close(ch->fd);
        ch->fd = -1;
        ch->size = 0;
        table_destroy(&ch->known);
        ch->known = table_create();
}

/* The present file, open and locked, and what is known of it. */
static int channel_open_locked(struct channel *ch, struct err *err)
{
        struct stat st;

        if (ch->fd >= 0) {
                if (sync_log_lock(ch->fd, ch->path, err) < 0)
                        return -1;
                if (sync_log_is_file(ch->fd, ch->path) && fstat(ch->fd, &st) == 0 && st.st_size >= ch->size)
                        return 0;
                channel_close(ch);
        }
        return sync_log_open_locked(ch->path, &ch->fd, err);
}

/* Of the unwritten lines those that the file has not; they are then known. */
static uint64_t pick_new(struct channel *ch, struct str *out)
{
        uint64_t n = 0;

        for (size_t at = 0; at < ch->unwritten.len;) {
                const char *line = ch->unwritten.data + at, *end = memchr(line, '\n', ch->unwritten.len - at);
                struct span text = { line, (size_t)(end - line) };

                at += text.len + 1;
                if (table_find(ch->known, text))
                        continue;
                if (table_count(ch->known) < KNOWN_MAX)
                        table_set(ch->known, text, ch);
                str_append(out, text.p, text.len + 1);
                n++;
        }
        return n;
}

static int write_channel(struct sync_log *log, struct channel *ch, uint64_t *written_r, struct err *err)
{
        struct str out = STR_INIT;
        struct stat st;
        int rc;

        if (ch->resync)
                append_line(log, ch, &(struct sync_line){ SYNC_RESYNC, "", "" });
        rc = channel_open_locked(ch, err);
        if (rc == 0) {
                *written_r = pick_new(ch, &out);
                rc = out.len ? sync_log_write(ch->fd, str_span(&out), err) : 0;
                if (rc == 0 && fstat(ch->fd, &st) == 0)
                        ch->size = st.st_size;
                sync_log_unlock(ch->fd);
        }
        if (rc < 0) {                           /* perhaps half of it is there: then what is known is not */
                channel_close(ch);
                if (ch->unwritten.len > UNWRITTEN_MAX) {
                        str_clear(&ch->unwritten);
                        ch->unwritten_n = 0;
                        ch->resync = true;
                }
        }
        str_deinit(&out);
        return rc;
}

static void tell_failure(struct sync_log *log, struct channel *ch, const struct err *err)
{
        char name[LOG_QUOTE_MAX], reason[LOG_QUOTE_MAX];

        log_lock(log);
        snprintf(ch->trouble, sizeof ch->trouble, "%s", err->text);
        log_unlock(log);
        if (!ch->told)
                log_event(LOG_ERROR, NULL, "sync_log.write", "channel=%s reason=%s consequence=\"it is tried each second\"",
                          log_quote_str(name, ch->name), log_quote_str(reason, err->text));
        ch->told = true;
}

/* Everything that waits, the changes up to `upto`, to each channel. Returns whether all is written. No lock. */
static bool write_all(struct sync_log *log, uint64_t upto)
{
        bool all = true;

        for (size_t i = 0; i < log->channels.n; i++) {
                struct channel *ch = log->channels.v[i];
                struct err err = ERR_INIT;
                uint64_t n = 0;

                if (!ch->unwritten.len && !ch->resync) {
                        log_lock(log);
                        ch->mark.written = upto;
                        log_unlock(log);
                        if (log->written)       /* somebody may wait for a change that is not for this channel */
                                log->written(log->ctx, ch->name);
                        continue;
                }
                if (write_channel(log, ch, &n, &err) < 0) {
                        tell_failure(log, ch, &err);
                        log_lock(log);
                        log->stats.failures++;
                        log_unlock(log);
                        all = false;
                        continue;
                }
                log_lock(log);
                if (!ch->pending_since_us)
                        ch->pending_since_us = ch->since_us ? ch->since_us : clock_mono_us();
                ch->pending += ch->unwritten_n;
                log->stats.written += n;
                ch->mark.written = upto;
                if (ch->resync)
                        ch->mark.gap = upto;
                ch->trouble[0] = '\0';
                log_unlock(log);
                str_clear(&ch->unwritten);
                ch->unwritten_n = ch->since_us = 0;
                ch->resync = ch->told = false;
                if (log->written)
                        log->written(log->ctx, ch->name);
        }
        return all;
}

static bool has_work_locked(struct sync_log *log) REQUIRES(log->lock, sync_log_class);
static bool has_work_locked(struct sync_log *log)
{
        return log->queue.list.n > 0 || log->queue.overflow;
}

/* Take what is queued and write it. */
static bool round_locked(struct sync_log *log) REQUIRES(log->lock, sync_log_class);
static bool round_locked(struct sync_log *log)
{
        struct queue taken = log->queue;
        bool ask = !log->store_closing, all;
        uint64_t upto = log->stats.lines;

        log->queue = log->spare;
        log->writing = true;
        log_unlock(log);
        spread(log, &taken, ask);
        all = write_all(log, upto);
        queue_clear(&taken);
        log_lock(log);
        log->spare = taken;
        log->writing = false;
        cond_broadcast(&log->idle);
        return all;
}

static void *write_on(void *arg)
{
        struct sync_log *log = arg;
        uint64_t retry_ms = 0;
        bool all = true;

        log_lock(log);
        for (size_t i = 0; i < log->channels.n; i++)
                all = all && !log->channels.v[i]->resync;       /* could not be written when it was opened */
        while (!log->stop) {
                if (log->writing || (all && !has_work_locked(log)))
                        cond_wait(&log->work, &log->lock);
                else if (all || clock_mono_ms() >= retry_ms || !cond_wait_until(&log->work, &log->lock, retry_ms)) {
                        all = round_locked(log);
                        retry_ms = clock_mono_ms() + RETRY_MS;
                }
        }
        log_unlock(log);
        return NULL;
}

/* ---- opening and closing ---- */

static void complete_path(struct sync_log *log, struct str *out)
{
        sync_log_path(log->configdir, NULL, "complete", out);
}

/* Which channels had a complete log, as lines; from now on they have not. */
static int take_complete(struct sync_log *log, struct str *names, struct err *err)
{
        struct str path = STR_INIT;
        struct err ignored = ERR_INIT;
        int rc = 0;

        complete_path(log, &path);
        if (fs_slurp(path.data, 1 << 20, names, &ignored) < 0) {
                str_clear(names);
                if (ignored.code != ERR_NOTFOUND)
                        log_event(LOG_WARN, NULL, "sync_log.complete", "reason=\"%s\" consequence=\"everything is compared\"", ignored.text);
        }
        if (unlink(path.data) == 0) {
                str_truncate(&path, path.len - strlen("/complete"));
                rc = fs_sync_dir(path.data, err);
        } else if (errno != ENOENT) {
                rc = err_errno(err, errno, "unlink %s", path.data);
        }
        str_deinit(&path);
        return rc;
}

static bool is_among(struct span names, const char *name)
{
        while (names.len) {
                size_t n = span_index(names, '\n');

                n = n > names.len ? names.len : n;
                if (n && names.p[0] == '/' && span_eq_str((struct span){ names.p + 1, n - 1 }, name))
                        return true;
                n += n < names.len;
                names.p += n;
                names.len -= n;
        }
        return false;
}

static struct channel *find_channel(struct sync_log *log, const char *name)
{
        for (size_t i = 0; i < log->channels.n; i++)
                if (strcmp(log->channels.v[i]->name, name) == 0)
                        return log->channels.v[i];
        return NULL;
}

static void channel_destroy(struct channel *ch)
{
        channel_close(ch);
        table_destroy(&ch->known);
        str_deinit(&ch->unwritten);
        free(ch->path);
        free(ch->name);
        free(ch);
}

static struct channel *channel_create(struct sync_log *log, const char *name)
{
        struct channel *ch = xcalloc(1, sizeof *ch);
        struct str path = STR_INIT;

        ch->name = xstrdup(name);
        sync_log_path(log->configdir, name, "log", &path);
        ch->path = str_take(&path);
        ch->fd = -1;
        ch->known = table_create();
        str_init(&ch->unwritten);
        return ch;
}

/* The channels of this configuration, those that are there already with what they know. New ones that `complete` does not name begin with RESYNC. */
static void set_channels(struct sync_log *log, struct conf *conf, struct span complete)
{
        struct arena arena = ARENA_INIT;
        const char **names = sync_log_channels(conf, &arena);
        const char *unsuppressable = conf_str(conf, NULL, "sync_log_unsuppressable_channels");
        ARRAY(struct channel *) now = ARRAY_INIT, was = ARRAY_INIT;

        for (size_t i = 0; names[i]; i++) {
                struct channel *ch = find_channel(log, names[i]);
                bool twice = false;

                for (size_t k = 0; k < now.n; k++)
                        twice = twice || strcmp(now.v[k]->name, names[i]) == 0;
                if (twice)
                        continue;
                if (!ch) {
                        struct err why = ERR_INIT;

                        ch = channel_create(log, names[i]);
                        if (!is_among(complete, names[i]) && sync_log_append(log->configdir, names[i], SPAN("RESYNC\n"), true, &why) < 0) {
                                ch->resync = true;      /* written as soon as it can be; mail goes on without it */
                                tell_failure(log, ch, &why);
                        }
                }
                ch->unsuppressable = conf_words_have(unsuppressable, names[i]);
                *ARRAY_PUSH(&now) = ch;
        }
        log_lock(log);                          /* others look at them */
        was.v = log->channels.v;
        was.n = log->channels.n;
        log->channels.v = now.v;
        log->channels.n = now.n;
        log->channels.cap = now.cap;
        log_unlock(log);
        for (size_t i = 0; i < was.n; i++) {
                bool kept = false;

                for (size_t k = 0; k < now.n; k++)
                        kept = kept || now.v[k] == was.v[i];
                if (!kept)
                        channel_destroy(was.v[i]);
        }
        ARRAY_FREE(&was);
        arena_deinit(&arena);
}

static void reconfigure_idle(struct sync_log *log, struct conf *conf, struct span complete) EXCLUDES(change_class)
{
        set_channels(log, conf, complete);
        log_lock(log);
        log->enabled = log->channels.n > 0;
        log->chain = conf_switch(conf, NULL, "sync_log_chain");
        log_unlock(log);
        if (log->channels.n && !log->subscribed) {
                log->subscriber = (struct change_subscriber){ .fn = on_change, .ctx = log };
                change_subscribe(log->store, &log->subscriber);
                log->subscribed = true;
        }
}

int sync_log_open(const struct sync_log_options *options, struct sync_log **log_r, struct err *err)
{
        struct sync_log *log = xcalloc(1, sizeof *log);
        struct str complete = STR_INIT;
        int rc;

        log->store = options->store;
        log->configdir = xstrdup(store_configdir(options->store));
        log->threads = options->threads;
        log->written = options->written;
        log->ctx = options->ctx;
        mutex_init(&log->lock);
        cond_init(&log->work);
        cond_init(&log->idle);
        queue_init(&log->queue);
        queue_init(&log->spare);
        rc = take_complete(log, &complete, err);
        if (store_was_unclean(log->store))      /* what was logged may have been more than what is there now */
                str_clear(&complete);
        if (rc == 0)
                reconfigure_idle(log, options->conf, str_span(&complete));
        str_deinit(&complete);
        if (rc == 0 && log->threads) {
                int e = thread_start(&log->thread, "sync-log", 0, write_on, log);

                log->has_thread = e == 0;
                if (e)
                        rc = err_errno(err, e, "a thread for the sync log");
        }
        if (rc < 0) {
                if (log->subscribed)
                        change_unsubscribe(log->store, &log->subscriber);
                log->failed = true;
                sync_log_close(&log);
                return -1;
        }
        *log_r = log;
        return 0;
}

void sync_log_reconfigure(struct sync_log *log, struct conf *conf)
{
        log_lock(log);
        while (log->writing)
                cond_wait(&log->idle, &log->lock);
        log->writing = true;                    /* the writer begins nothing meanwhile: see write_on() */
        log_unlock(log);
        reconfigure_idle(log, conf, (struct span){ "", 0 });
        log_lock(log);
        log->writing = false;
        cond_signal(&log->work);
        log_unlock(log);
}

void sync_log_store_closing(struct sync_log *log)
{
        log_lock(log);
        log->store_closing = true;
        while (log->writing)
                cond_wait(&log->idle, &log->lock);
        log_unlock(log);
}

static int sync_channels(struct sync_log *log, struct str *names, struct err *err)
{
        for (size_t i = 0; i < log->channels.n; i++) {
                struct channel *ch = log->channels.v[i];
                struct str dir = STR_INIT;
                int rc = 0;

                if (ch->fd >= 0)
                        rc = fs_datasync(ch->fd, ch->path, err);
                str_append(&dir, ch->path, (size_t)(strrchr(ch->path, '/') - ch->path));
                if (rc == 0 && ch->fd >= 0)
                        rc = fs_sync_dir(dir.data, err);
                str_deinit(&dir);
                if (rc < 0)
                        return -1;
                str_printf(names, "/%s\n", ch->name);
        }
        return 0;
}

static void mark_complete(struct sync_log *log)
{
        struct str names = STR_INIT, path = STR_INIT;
        struct err err = ERR_INIT;

        complete_path(log, &path);
        if (log->channels.n && (sync_channels(log, &names, &err) < 0 || fs_replace(path.data, names.data, names.len, 0640, &err) < 0))
                log_event(LOG_ERROR, NULL, "sync_log.close", "reason=\"%s\" consequence=\"everything is compared after the next start\"", err.text);
        str_deinit(&names);
        str_deinit(&path);
}

void sync_log_close(struct sync_log **logp)
{
        struct sync_log *log = *logp;
        bool all = true;

        *logp = NULL;
        if (!log)
                return;
        if (log->has_thread) {
                log_lock(log);
                log->stop = true;
                cond_signal(&log->work);
                log_unlock(log);
                pthread_join(log->thread, NULL);
        }
        log_lock(log);
        if (!log->failed)
                all = round_locked(log);
        log_unlock(log);
        if (all && !log->failed)
                mark_complete(log);
        for (size_t i = 0; i < log->channels.n; i++)
                channel_destroy(log->channels.v[i]);
        ARRAY_FREE(&log->channels);
        queue_deinit(&log->queue);
        queue_deinit(&log->spare);
        cond_deinit(&log->work);
        cond_deinit(&log->idle);
        mutex_deinit(&log->lock);
        free(log->configdir);
        free(log);
}

/* ---- asking ---- */

void sync_log_stats(struct sync_log *log, struct sync_log_stats *stats_r)
{
        log_lock(log);
        *stats_r = log->stats;
        stats_r->queued = log->queue.list.n;
        log_unlock(log);
}

uint64_t sync_log_pending(struct sync_log *log, const char *channel, bool reset, uint64_t *since_us_r)
{
        uint64_t n = 0;

        *since_us_r = 0;
        log_lock(log);
        for (size_t i = 0; i < log->channels.n; i++) {
                struct channel *ch = log->channels.v[i];

                if (strcmp(ch->name, channel ? channel : "") != 0)
                        continue;
                n = ch->pending;
                *since_us_r = ch->pending_since_us;
                if (reset)
                        ch->pending = ch->pending_since_us = 0;
        }
        log_unlock(log);
        return n;
}

bool sync_log_trouble(struct sync_log *log, const char *channel, char *why, size_t size)
{
        bool found = false;

        log_lock(log);
        for (size_t i = 0; i < log->channels.n && !found; i++) {
                struct channel *ch = log->channels.v[i];

                found = ch->trouble[0] && strcmp(ch->name, channel ? channel : "") == 0;
                if (found)
                        snprintf(why, size, "%s", ch->trouble);
        }
        log_unlock(log);
        return found;
}

uint64_t sync_log_position(struct sync_log *log)
{
        uint64_t n;

        log_lock(log);
        n = log->stats.lines;
        log_unlock(log);
        return n;
}

void sync_log_mark(struct sync_log *log, const char *channel, struct sync_log_mark *mark_r)
{
        *mark_r = (struct sync_log_mark){ 0 };
        log_lock(log);
        for (size_t i = 0; i < log->channels.n; i++)
                if (strcmp(log->channels.v[i]->name, channel ? channel : "") == 0)
                        *mark_r = log->channels.v[i]->mark;
        log_unlock(log);
}
