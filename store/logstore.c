/*
 * logstore - see logstore.h.
 *
 * The table of mailboxes in memory is under open_class. A mailbox whose last reference went stays in it, in the list of cold ones,
 * oldest first; after some seconds it gives up descriptors and blocks, and it is checkpointed and closed when there are too many. Opening
 * and closing happen without the lock: an entry in the phase MB_OPENING or MB_CLOSING belongs to one thread, others wait.
 *
 * Threads: sync (fdatasync and publishing; flag changes when their time has come), job (blobs, large copies, moves, removal of
 * directories) and one for housekeeping. Queues are under sync_class; a queued mailbox holds a reference.
 *
 * Mailboxes that want a sync stand in their partition's lane. While few do, each is synced in its own file by a thread of its own, at once,
 * as disks like a few syncs side by side better than one after the other. Where they come faster, one thread at a time takes all that
 * wait and syncs them together, by the partition's journal; those that come meanwhile are the next group.
 */
#include "store/logstore.h"

#include <stdlib.h>

#include <string.h>

#include "store/change.h"
#include "store/journal.h"
#include "store/mailbox_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define SYNC_THREADS_MAX 64
#define JOB_THREADS 6
#define SLOW_JOBS_MAX 3                         /* of them: messages with blobs never wait behind large copies */
#define CLOSERS_MAX 8                           /* closings handed to the job threads at a time: a delivery to all users opens mailboxes
                                                 * faster than one thread can checkpoint them */
#define COLD_OVERFULL 2                         /* times as many cold mailboxes as there should be: opening waits for closing */
#define COLD_SHED_MS 10000
#define HOUSEKEEPING_MS 1000
#define READ_FDS_MAX 1024                       /* idle descriptors of segments and blobs that stay open */
#define OLD_CHECKPOINT_MS 300000                /* what changed is in a checkpoint after this */
#define DB_CHECKPOINT_MS 1800000                /* the databases' checkpoint, beside what EVENTS ask for */
#define SIDE_BY_SIDE 2                          /* so many mailboxes of a partition are synced at a time, each in its own file: with one more they go
                                                 * by the journal, until a group is no larger than that, … */
#define CROWD_MS 200                            /* … or was so long ago */
#define JOURNAL_REST_MS 30000                   /* a lap that was begun so long ago is retired, full or not */

struct mailbox_list {
        struct mailbox *first, *last;
};

struct lane {                                   /* of a partition; made when first needed, kept. Under sync_class */
        struct lane *next;
        char *dir;                              /* immutable: the partition's */
        struct journal *journal;                /* immutable; used by whoever set `busy` */
        struct mailbox_list waiting;
        unsigned waiting_n;
        unsigned alone;                         /* being synced in their own files */
        bool busy;                              /* a group is being synced, or a lap is being turned */
        unsigned group;                         /* mailboxes in the last one, */
        uint64_t group_ms;                      /* … and when that was */
        bool working;                           /* a job makes the journal's files, or is at the lap that is due */
        struct job work;                        /* … this one */
        struct logstore *ls;
};

struct logstore {
        struct store *store;                    /* immutable */
        struct logstore_options options;        /* immutable */
        struct logstore_counts counts;
        struct change_feed feed;

        struct mutex open_lock;                 /* open_class */
        struct cond open_changed;
        struct table *mailboxes;                /* unique id → struct mailbox */
        struct mailbox *cold_oldest, *cold_newest;
        unsigned cold_count, open_count;
        struct table *shown;                    /* unique id → uint64_t *: highest modseq shown by a mailbox that failed and was closed */

        struct mutex sync_lock;                 /* sync_class */
        struct cond sync_wake, job_wake, house_wake;
        struct mailbox_list queues[MAILBOX_QUEUES];     /* but for QUEUE_SYNC: lanes have those */
        struct lane *lanes;
        struct job_queue {
                struct job *first, *last;
        } jobs, slow_jobs;
        struct job *soon;                       /* to be run at soon_ms; NULL: nothing */
        uint64_t soon_ms;
        unsigned slow_running;
        atomic_uint closing;                    /* closings that job threads have to do */
        atomic_uint looking;                    /* logstore_look_begin() */
        bool stopping, house_stopping;

        pthread_t sync_threads[SYNC_THREADS_MAX], job_threads[JOB_THREADS], house_thread;
        unsigned sync_started, jobs_started;
        bool house_started;
};

/* ---- small things ---- */

bool logstore_threaded(const struct logstore *ls)
{
        return ls && ls->options.sync_threads > 0;
}

const struct logstore_options *logstore_options(const struct logstore *ls)
{
        return &ls->options;
}

struct logstore_counts *logstore_counts(struct logstore *ls)
{
        return &ls->counts;
}

struct change_feed *logstore_feed(struct logstore *ls)
{
        return &ls->feed;
}

static void open_lock(struct logstore *ls) ACQUIRE(ls->open_lock, open_class);
static void open_lock(struct logstore *ls) NO_TSA
{
        mutex_lock(&ls->open_lock);
}
static void open_unlock(struct logstore *ls) RELEASE(ls->open_lock, open_class);
static void open_unlock(struct logstore *ls) NO_TSA
{
        mutex_unlock(&ls->open_lock);
}
static void sync_lock(struct logstore *ls) ACQUIRE(ls->sync_lock, sync_class);
static void sync_lock(struct logstore *ls) NO_TSA
{
        mutex_lock(&ls->sync_lock);
}
static void sync_unlock(struct logstore *ls) RELEASE(ls->sync_lock, sync_class);
static void sync_unlock(struct logstore *ls) NO_TSA
{
        mutex_unlock(&ls->sync_lock);
}

/* ---- the table ---- */

static void cold_remove_locked(struct logstore *ls, struct mailbox *m) REQUIRES(ls->open_lock, open_class);
static void cold_remove_locked(struct logstore *ls, struct mailbox *m)
{
        if (!m->cold)
                return;
        if (m->cold_prev)
                m->cold_prev->cold_next = m->cold_next;
        else
                ls->cold_oldest = m->cold_next;
        if (m->cold_next)
                m->cold_next->cold_prev = m->cold_prev;
        else
                ls->cold_newest = m->cold_prev;
        m->cold_prev = m->cold_next = NULL;
        m->cold = m->shed = false;
        ls->cold_count--;
}

static void cold_add_locked(struct logstore *ls, struct mailbox *m) REQUIRES(ls->open_lock, open_class);
static void cold_add_locked(struct logstore *ls, struct mailbox *m)
{
        m->cold = true;
        m->cold_since_ms = clock_mono_ms();
        m->cold_prev = ls->cold_newest;
        if (ls->cold_newest)
                ls->cold_newest->cold_next = m;
        else
                ls->cold_oldest = m;
        ls->cold_newest = m;
        ls->cold_count++;
}

struct mailbox *mailbox_find_open(struct store *store, const char *uniqueid)
{
        struct logstore *ls = store_logstore(store);
        struct mailbox *m;

        open_lock(ls);
        m = table_find(ls->mailboxes, span_of(uniqueid));
        if (m && (m->phase != MB_OPEN || atomic_load(&m->deleted)))
                m = NULL;
        if (m) {
                atomic_fetch_add(&m->refs, 1);
                cold_remove_locked(ls, m);
        }
        open_unlock(ls);
        return m;
}

static void close_mailbox(struct logstore *ls, struct mailbox *m) EXCLUDES(open_class);
static struct mailbox *take_cold(struct logstore *ls, unsigned keep) EXCLUDES(open_class);

/* Mailboxes are opened faster than housekeeping and job threads close them: who opens one more closes one, here. */
static void make_room(struct logstore *ls) EXCLUDES(open_class)
{
        struct mailbox *m = logstore_threaded(ls) ? take_cold(ls, ls->options.cold_mailboxes_max * COLD_OVERFULL) : NULL;

        if (m)
                close_mailbox(ls, m);
}

/* What clients saw of it before it failed is not given again, though the disk knows nothing of it. */
static void jump_over_shown(struct logstore *ls, struct mailbox *m) EXCLUDES(open_class)
{
        uint64_t *shown;

        open_lock(ls);
        shown = table_find(ls->shown, span_of(m->uniqueid));
        if (shown && *shown > index_counters(m->ix)->highestmodseq)
                index_counters(m->ix)->highestmodseq = *shown;
        open_unlock(ls);
}

void logstore_look_begin(struct logstore *ls)
{
        atomic_fetch_add(&ls->looking, 1);
}

void logstore_look_end(struct logstore *ls)
{
        atomic_fetch_sub(&ls->looking, 1);
}

bool logstore_is_looked_at(struct logstore *ls)
{
        return atomic_load(&ls->looking) > 0;
}

/*
 * Whoever asks may have looked up where the mailbox is before it was moved to another partition. From now on it cannot be: that is done with
 * mailboxes that are open, and where it is now was said before it was closed.
 */
static void look_again(struct mailbox *m, struct mailbox_ident *ident)
{
        const char *now = store_mailbox_partition_dir(m->store, m->uniqueid);

        if (!now || strcmp(now, ident->partition_dir) == 0)
                return;
        ident->partition_dir = now;
        mailbox_set_place(m, now);
}

int mailbox_open(struct store *store, const struct mailbox_ident *asked, struct mailbox **mbox_r, struct err *err)
{
        struct mailbox_ident here = *asked, *ident = &here;
        struct logstore *ls = store_logstore(store);
        struct mailbox *m;
        int rc;

        open_lock(ls);
        while ((m = table_find(ls->mailboxes, span_of(ident->uniqueid))) != NULL && m->phase != MB_OPEN)
                cond_wait(&ls->open_changed, &ls->open_lock);
        if (m) {
                bool deleted = atomic_load(&m->deleted);

                if (!deleted) {
                        atomic_fetch_add(&m->refs, 1);
                        cold_remove_locked(ls, m);
                        *mbox_r = m;
                }
                open_unlock(ls);
                return deleted ? err_set(err, ERR_NOTFOUND, "mailbox %s was deleted", ident->uniqueid) : 0;
        }
        m = mailbox_alloc(store, ls, ident);
        m->readonly_store = ls->options.readonly;
        m->phase = MB_OPENING;
        table_set(ls->mailboxes, span_of(ident->uniqueid), m);
        ls->open_count++;
        open_unlock(ls);

        make_room(ls);
        look_again(m, ident);
        rc = mailbox_load(m, ident, m->readonly_store ? LOAD_READONLY : 0, NULL, err);
        if (rc == 0)
                jump_over_shown(ls, m);
        if (rc == 0)
                rc = mailbox_settle_moves(m, err);
        if (rc == 0)
                mailbox_set_view(m);
        if (rc == 0)
                store_mailbox_loaded(m);

        open_lock(ls);
        if (rc < 0) {
                table_set(ls->mailboxes, span_of(m->uniqueid), NULL);
                ls->open_count--;
        } else {
                m->phase = MB_OPEN;
                *mbox_r = m;
        }
        cond_broadcast(&ls->open_changed);
        open_unlock(ls);
        if (rc < 0)
                mailbox_free(&m);
        return rc;
}

/* Of a mailbox that nobody else has. Kept until the stop; there are few. */
static void remember_shown_locked(struct logstore *ls, struct mailbox *m) REQUIRES(ls->open_lock, open_class);
static void remember_shown_locked(struct logstore *ls, struct mailbox *m)
{
        uint64_t *shown = table_find(ls->shown, span_of(m->uniqueid)), modseq = mailbox_published_modseq(m);

        if (!shown) {
                shown = xcalloc(1, sizeof *shown);
                table_set(ls->shown, span_of(m->uniqueid), shown);
        }
        if (modseq > *shown)
                *shown = modseq;
}

/* Checkpoint and end a mailbox in the phase MB_CLOSING: nobody else has it. */
static void close_mailbox(struct logstore *ls, struct mailbox *m) EXCLUDES(open_class)
{
        struct err err = ERR_INIT;
        bool deleted = atomic_load(&m->deleted);

        if (!deleted && (expunge_forget(m, &err) < 0 || mailbox_checkpoint(m, &err) < 0 || (m->sweep_wanted && !m->readonly_store && blob_sweep(m, &err) < 0)))
                log_event(LOG_WARN, NULL, "mailbox.close", "mailbox=%s uniqueid=%s reason=\"%s\"", atomic_load(&m->name), m->uniqueid,
                          err.text);
        if (deleted && fs_remove_tree(m->dir, &err) < 0)
                log_event(LOG_ERROR, NULL, "mailbox.remove", "mailbox=%s uniqueid=%s reason=\"%s\"", atomic_load(&m->name), m->uniqueid,
                          err.text);
        mailbox_after(m);                               /* waiters of a failed last sync */
        open_lock(ls);
        if (m->failed && !deleted)
                remember_shown_locked(ls, m);
        table_set(ls->mailboxes, span_of(m->uniqueid), NULL);
        ls->open_count--;
        cond_broadcast(&ls->open_changed);
        open_unlock(ls);
        mailbox_free(&m);
}

struct close_job {
        struct job job;
        struct logstore *ls;
        struct mailbox *m;
};

static void run_close_job(struct job *job)
{
        struct close_job *j = (struct close_job *)job;

        close_mailbox(j->ls, j->m);
        atomic_fetch_sub(&j->ls->closing, 1);
        free(j);
}

static void close_later(struct logstore *ls, struct mailbox *m) EXCLUDES(open_class)
{
        struct close_job *j = xcalloc(1, sizeof *j);

        j->job.fn = run_close_job;
        j->ls = ls;
        j->m = m;
        atomic_fetch_add(&ls->closing, 1);
        logstore_run(ls, &j->job);
}

/* The oldest cold mailbox, to be closed by the caller, when there are more than `keep`. */
static struct mailbox *take_cold(struct logstore *ls, unsigned keep) EXCLUDES(open_class)
{
        struct mailbox *m;

        open_lock(ls);
        m = ls->cold_count > keep ? ls->cold_oldest : NULL;
        if (m) {
                cold_remove_locked(ls, m);
                m->phase = MB_CLOSING;
        }
        open_unlock(ls);
        return m;
}

/* Close cold mailboxes until at most `keep` are left. */
static void evict(struct logstore *ls, unsigned keep) EXCLUDES(open_class)
{
        struct mailbox *m;

        while ((m = take_cold(ls, keep)) != NULL) {
                if (logstore_threaded(ls) && atomic_load(&ls->closing) < CLOSERS_MAX)
                        close_later(ls, m);
                else
                        close_mailbox(ls, m);
        }
}

void logstore_unref(struct logstore *ls, struct mailbox *m)
{
        bool remove = false, crowded = false;
        unsigned refs = atomic_load(&m->refs);

        while (refs > 1)                                /* the common case needs no lock */
                if (atomic_compare_exchange_weak(&m->refs, &refs, refs - 1))
                        return;
        open_lock(ls);
        if (atomic_fetch_sub(&m->refs, 1) == 1) {
                if (atomic_load(&m->deleted) || m->moves_left) {
                        m->phase = MB_CLOSING;
                        remove = true;
                } else {
                        cold_add_locked(ls, m);
                        crowded = ls->cold_count > ls->options.cold_mailboxes_max;
                }
        }
        open_unlock(ls);
        if (remove)
                close_later(ls, m);
        else if (crowded && !logstore_threaded(ls))
                evict(ls, ls->options.cold_mailboxes_max);
}

/* ---- deletion, renaming ---- */

struct remove_job {
        struct job job;
        char *dir;
};

static void run_remove_job(struct job *job)
{
        struct remove_job *j = (struct remove_job *)job;
        struct err err = ERR_INIT;

        if (fs_remove_tree(j->dir, &err) < 0)
                log_event(LOG_ERROR, NULL, "mailbox.remove", "path=%s reason=\"%s\"", j->dir, err.text);
        free(j->dir);
        free(j);
}

void mailbox_mark_deleted(struct store *store, const struct mailbox_ident *ident)
{
        struct logstore *ls = store_logstore(store);
        struct mailbox *m;
        struct remove_job *j;
        struct str dir = STR_INIT;

        open_lock(ls);
        while ((m = table_find(ls->mailboxes, span_of(ident->uniqueid))) != NULL && m->phase != MB_OPEN)
                cond_wait(&ls->open_changed, &ls->open_lock);
        if (m) {
                atomic_store(&m->deleted, true);
                atomic_fetch_add(&m->refs, 1);          /* the unref below removes it if nobody else has it */
                cold_remove_locked(ls, m);
        }
        open_unlock(ls);
        if (m) {
                mailbox_notify(m);
                mailbox_unref(&m);
                return;
        }
        mailbox_dir(&dir, ident->partition_dir, ident->uniqueid);
        j = xcalloc(1, sizeof *j);
        j->job.fn = run_remove_job;
        j->dir = str_take(&dir);
        logstore_run(ls, &j->job);
}

/* `name` NULL: as it was. */
static void set_name_and_notify(struct store *store, const char *uniqueid, const char *name)
{
        struct logstore *ls = store_logstore(store);
        struct mailbox *m;

        open_lock(ls);
        m = table_find(ls->mailboxes, span_of(uniqueid));
        if (m && name)                                  /* the former name may be in somebody's log line */
                *ARRAY_PUSH(&m->old_names) = atomic_exchange(&m->name, xstrdup(name));
        if (m && (m->phase != MB_OPEN || atomic_load(&m->deleted)))
                m = NULL;
        if (m) {
                atomic_fetch_add(&m->refs, 1);
                cold_remove_locked(ls, m);
        }
        open_unlock(ls);
        if (m) {
                mailbox_notify(m);
                mailbox_unref(&m);
        }
}

void mailbox_set_name(struct store *store, const char *uniqueid, const char *name)
{
        set_name_and_notify(store, uniqueid, name);     /* watchers look where it is now: below deletedprefix it is gone for them */
}

void mailbox_tell_watchers(struct store *store, const char *uniqueid)
{
        set_name_and_notify(store, uniqueid, NULL);
}

/* ---- queues ---- */

static void push_job_locked(struct logstore *ls, struct job *job) REQUIRES(ls->sync_lock, sync_class);
static void push_job_locked(struct logstore *ls, struct job *job)
{
        struct job_queue *q = job->slow ? &ls->slow_jobs : &ls->jobs;

        job->next = NULL;
        if (q->last)
                q->last->next = job;
        else
                q->first = job;
        q->last = job;
        cond_signal(&ls->job_wake);
}

void logstore_run(struct logstore *ls, struct job *job)
{
        bool here = !logstore_threaded(ls);

        if (!here) {
                sync_lock(ls);
                here = ls->stopping;
                if (!here)
                        push_job_locked(ls, job);
                sync_unlock(ls);
        }
        if (here)
                job->fn(job);
}

void logstore_run_soon(struct logstore *ls, struct job *job)
{
        bool here = !logstore_threaded(ls);

        if (!here) {
                sync_lock(ls);
                here = ls->stopping || ls->soon;
                if (!here) {
                        ls->soon = job;
                        ls->soon_ms = clock_mono_ms() + SOFT_SYNC_MS;
                        cond_signal(&ls->sync_wake);
                }
                sync_unlock(ls);
        }
        if (here)
                job->fn(job);
}

/* The queue holds a reference. false: it is queued already. */
static bool append_locked(struct mailbox_list *list, struct mailbox *m, enum mailbox_queue q) REQUIRES(sync_class);
static bool append_locked(struct mailbox_list *list, struct mailbox *m, enum mailbox_queue q)
{
        if (m->queued[q].is)
                return false;
        m->queued[q].is = true;
        m->queued[q].next = NULL;
        mailbox_ref(m);
        if (list->last)
                list->last->queued[q].next = m;
        else
                list->first = m;
        list->last = m;
        return true;
}

/* The first one, with the queue's reference; NULL: none. */
static struct mailbox *pop_locked(struct mailbox_list *list, enum mailbox_queue q) REQUIRES(sync_class);
static struct mailbox *pop_locked(struct mailbox_list *list, enum mailbox_queue q)
{
        struct mailbox *m = list->first;

        if (!m)
                return NULL;
        list->first = m->queued[q].next;
        if (!list->first)
                list->last = NULL;
        m->queued[q].is = false;
        return m;
}

static bool enqueue_locked(struct logstore *ls, struct mailbox *m, enum mailbox_queue q) REQUIRES(ls->sync_lock, sync_class);
static bool enqueue_locked(struct logstore *ls, struct mailbox *m, enum mailbox_queue q)
{
        return append_locked(&ls->queues[q], m, q);
}

static struct mailbox *dequeue_locked(struct logstore *ls, enum mailbox_queue q) REQUIRES(ls->sync_lock, sync_class);
static struct mailbox *dequeue_locked(struct logstore *ls, enum mailbox_queue q)
{
        return pop_locked(&ls->queues[q], q);
}

/* ---- lanes ---- */

static void run_lane_job(struct job *job) EXCLUDES(sync_class);

static struct lane *lane_of_locked(struct logstore *ls, const struct mailbox *m) REQUIRES(ls->sync_lock, sync_class);
static struct lane *lane_of_locked(struct logstore *ls, const struct mailbox *m)
{
        const char *dir = atomic_load(&m->partition_dir);
        struct lane *lane = ls->lanes;

        while (lane && strcmp(lane->dir, dir) != 0)
                lane = lane->next;
        if (!lane) {
                lane = xcalloc(1, sizeof *lane);
                lane->dir = xstrdup(dir);
                lane->journal = journal_create(dir, ls->options.journal_bytes);
                lane->work.fn = run_lane_job;
                lane->ls = ls;
                lane->next = ls->lanes;
                ls->lanes = lane;
        }
        return lane;
}

static bool lane_add_locked(struct logstore *ls, struct mailbox *m, struct lane **lane_r) REQUIRES(ls->sync_lock, sync_class);
static bool lane_add_locked(struct logstore *ls, struct mailbox *m, struct lane **lane_r)
{
        *lane_r = lane_of_locked(ls, m);
        if (!append_locked(&(*lane_r)->waiting, m, QUEUE_SYNC))
                return false;
        (*lane_r)->waiting_n++;
        return true;
}

static struct mailbox *lane_pop_locked(struct lane *lane) REQUIRES(sync_class);
static struct mailbox *lane_pop_locked(struct lane *lane)
{
        struct mailbox *m = pop_locked(&lane->waiting, QUEUE_SYNC);

        lane->waiting_n -= m != NULL;
        return m;
}

/* Nobody waits while the journal's files are made: that is asked for when they are first wanted. */
static void prepare_locked(struct logstore *ls, struct lane *lane) REQUIRES(ls->sync_lock, sync_class);
static void prepare_locked(struct logstore *ls, struct lane *lane)
{
        if (ls->stopping || ls->options.journal_all || lane->working || journal_is_open(lane->journal) || !journal_is_usable(lane->journal) ||
            lane->waiting_n + lane->alone <= SIDE_BY_SIDE)
                return;
        lane->working = true;
        push_job_locked(ls, &lane->work);
}

/* What a thread that is free may do for a lane now. */
enum lane_work { LANE_NOTHING, LANE_ALONE, LANE_GROUP };
static enum lane_work lane_work_locked(const struct logstore *ls, const struct lane *lane) REQUIRES(sync_class);
static enum lane_work lane_work_locked(const struct logstore *ls, const struct lane *lane)
{
        bool crowded = lane->group > SIDE_BY_SIDE && clock_mono_ms() < lane->group_ms + CROWD_MS;

        if (!lane->waiting_n)
                return LANE_NOTHING;
        if (!journal_is_usable(lane->journal) || (!journal_is_open(lane->journal) && !ls->options.journal_all))
                return LANE_ALONE;
        if (!lane->busy && (ls->options.journal_all || crowded || lane->waiting_n + lane->alone > SIDE_BY_SIDE))
                return LANE_GROUP;
        return !ls->options.journal_all && !crowded && lane->alone < SIDE_BY_SIDE ? LANE_ALONE : LANE_NOTHING;
}

void logstore_want_sync(struct logstore *ls, struct mailbox *m, bool soft)
{
        bool wake = false;
        struct lane *lane;

        if (!logstore_threaded(ls))
                return;
        sync_lock(ls);
        if (!soft) {
                /* Who is busy with the lane looks again when that is done. */
                wake = lane_add_locked(ls, m, &lane) && lane_work_locked(ls, lane) != LANE_NOTHING;
        } else if (!m->queued[QUEUE_SYNC].is && enqueue_locked(ls, m, QUEUE_SOFT)) {
                m->soft_deadline_ms = clock_mono_ms() + SOFT_SYNC_MS;
                wake = true;
        }
        sync_unlock(ls);
        if (wake)                                       /* without the lock, which is the first thing that the other one wants */
                cond_signal(&ls->sync_wake);
}

void logstore_want_sync_alone(struct logstore *ls, struct mailbox *m)
{
        bool wake;

        sync_lock(ls);
        wake = enqueue_locked(ls, m, QUEUE_ALONE);
        sync_unlock(ls);
        if (wake)
                cond_signal(&ls->sync_wake);
}

void logstore_want_maintenance(struct logstore *ls, struct mailbox *m)
{
        if (!logstore_threaded(ls))
                return;
        sync_lock(ls);
        if (!ls->stopping && enqueue_locked(ls, m, QUEUE_MAINTENANCE))
                cond_signal(&ls->house_wake);
        sync_unlock(ls);
}

/* Flag changes that are old enough go to the lanes. */
static void take_soft_locked(struct logstore *ls) REQUIRES(ls->sync_lock, sync_class);
static void take_soft_locked(struct logstore *ls)
{
        const struct mailbox *first;
        struct mailbox *m;
        struct lane *lane;

        while ((first = ls->queues[QUEUE_SOFT].first) != NULL && (ls->stopping || clock_mono_ms() >= first->soft_deadline_ms)) {
                m = dequeue_locked(ls, QUEUE_SOFT);
                (void)lane_add_locked(ls, m, &lane);
                mailbox_unref(&m);
        }
}

/* Mailboxes to be synced, with references: one in its own file, lane_r NULL when it is of no lane any more; or a group. Returns how many. */
static unsigned take_sync_locked(struct logstore *ls, struct mailbox **list, struct lane **lane_r, enum lane_work *how_r)
        REQUIRES(ls->sync_lock, sync_class);
static unsigned take_sync_locked(struct logstore *ls, struct mailbox **list, struct lane **lane_r, enum lane_work *how_r)
{
        unsigned n = 0;

        take_soft_locked(ls);
        *lane_r = NULL;
        *how_r = LANE_ALONE;
        if ((list[0] = dequeue_locked(ls, QUEUE_ALONE)) != NULL)
                return 1;
        for (struct lane *lane = ls->lanes; lane; lane = lane->next) {
                enum lane_work how;
                unsigned most;

                prepare_locked(ls, lane);
                how = lane_work_locked(ls, lane);
                most = how == LANE_GROUP ? JOURNAL_GROUP_MAX : 1;
                if (how == LANE_NOTHING)
                        continue;
                while (n < most && (list[n] = lane_pop_locked(lane)) != NULL)
                        n++;
                if (how == LANE_GROUP) {
                        lane->busy = true;
                        lane->group = n;
                        lane->group_ms = clock_mono_ms();
                } else {
                        lane->alone++;
                }
                *lane_r = lane;
                *how_r = how;
                return n;
        }
        return 0;
}

/* A lap that was begun long ago is left, and what there is to retire is, when nobody is at it. Not while the lane is busy. */
static void rest_locked(struct logstore *ls, struct lane *lane) REQUIRES(ls->sync_lock, sync_class);
static void rest_locked(struct logstore *ls, struct lane *lane)
{
        journal_turn(lane->journal, JOURNAL_REST_MS);
        if (ls->stopping || lane->working || !journal_is_due(lane->journal))
                return;
        lane->working = true;
        push_job_locked(ls, &lane->work);
}

/* … and what they were taken for is done. */
static void done_sync_locked(struct logstore *ls, struct lane *lane, enum lane_work how) REQUIRES(ls->sync_lock, sync_class);
static void done_sync_locked(struct logstore *ls, struct lane *lane, enum lane_work how)
{
        if (!lane)
                return;
        if (how == LANE_ALONE) {
                lane->alone--;
                return;
        }
        lane->busy = false;
        rest_locked(ls, lane);
}

static void run_lane_job(struct job *job)
{
        struct lane *lane = (struct lane *)((char *)job - offsetof(struct lane, work));
        struct logstore *ls = lane->ls;
        struct err err = ERR_INIT;
        int rc = journal_is_open(lane->journal) ? journal_retire(lane->journal, &err) : journal_open(lane->journal, &err);

        if (rc < 0)
                store_partition_fail(ls->store, lane->dir, &err);
        sync_lock(ls);
        lane->working = false;
        sync_unlock(ls);
}

static struct job *take_soon_locked(struct logstore *ls) REQUIRES(ls->sync_lock, sync_class);
static struct job *take_soon_locked(struct logstore *ls)
{
        struct job *job = ls->soon;

        if (!job || (!ls->stopping && clock_mono_ms() < ls->soon_ms))
                return NULL;
        ls->soon = NULL;
        return job;
}

/* When something is to be done though nobody wakes us; 0: never. */
static uint64_t next_deadline_locked(struct logstore *ls) REQUIRES(ls->sync_lock, sync_class);
static uint64_t next_deadline_locked(struct logstore *ls)
{
        const struct mailbox *first = ls->queues[QUEUE_SOFT].first;
        uint64_t soft = first ? first->soft_deadline_ms : 0;

        return !ls->soon ? soft : !soft || ls->soon_ms < soft ? ls->soon_ms : soft;
}

static void sync_all(struct mailbox **list, unsigned n, struct lane *lane, enum lane_work how)
{
        if (how == LANE_GROUP)
                mailbox_sync_together(lane->journal, lane->dir, list, n);
        else
                mailbox_sync(list[0]);
        for (unsigned i = 0; i < n; i++)
                mailbox_unref(&list[i]);
}

static void *sync_main(void *arg)
{
        struct mailbox *list[JOURNAL_GROUP_MAX];
        struct logstore *ls = arg;
        enum lane_work how;
        struct lane *lane;

        sync_lock(ls);
        for (;;) {
                struct job *soon = take_soon_locked(ls);
                unsigned n = soon ? 0 : take_sync_locked(ls, list, &lane, &how);

                if (soon) {
                        if (next_deadline_locked(ls))
                                cond_signal(&ls->sync_wake);
                        sync_unlock(ls);
                        soon->fn(soon);
                        sync_lock(ls);
                } else if (n) {
                        if (next_deadline_locked(ls))   /* this thread was perhaps the one that minded their time */
                                cond_signal(&ls->sync_wake);
                        sync_unlock(ls);
                        sync_all(list, n, lane, how);
                        sync_lock(ls);
                        done_sync_locked(ls, lane, how);
                } else if (ls->stopping) {
                        break;
                } else if (next_deadline_locked(ls)) {
                        cond_wait_until(&ls->sync_wake, &ls->sync_lock, next_deadline_locked(ls));
                } else {
                        cond_wait(&ls->sync_wake, &ls->sync_lock);
                }
        }
        sync_unlock(ls);
        return NULL;
}

static struct job *take_job_locked(struct logstore *ls) REQUIRES(ls->sync_lock, sync_class);
static struct job *take_job_locked(struct logstore *ls)
{
        struct job_queue *q = ls->jobs.first || ls->slow_running >= SLOW_JOBS_MAX ? &ls->jobs : &ls->slow_jobs;
        struct job *job = q->first;

        if (job) {
                q->first = job->next;
                if (!q->first)
                        q->last = NULL;
        }
        return job;
}

static void *job_main(void *arg)
{
        struct logstore *ls = arg;

        sync_lock(ls);
        for (;;) {
                struct job *job = take_job_locked(ls);

                if (job) {
                        bool slow = job->slow;

                        ls->slow_running += slow;
                        sync_unlock(ls);
                        job->fn(job);
                        sync_lock(ls);
                        ls->slow_running -= slow;
                } else if (ls->stopping) {
                        break;
                } else {
                        cond_wait(&ls->job_wake, &ls->sync_lock);
                }
        }
        sync_unlock(ls);
        return NULL;
}

/* ---- housekeeping ---- */

/* Cold for a while: descriptors and blocks go, the object stays. */
static void shed_cold(struct logstore *ls) EXCLUDES(open_class)
{
        uint64_t now = clock_mono_ms();

        open_lock(ls);
        for (struct mailbox *m = ls->cold_oldest; m && m->cold_since_ms + COLD_SHED_MS <= now; m = m->cold_next) {
                if (m->shed)
                        continue;
                m->shed = true;
                mailbox_close_fds(m);
                mailbox_shed(m);
        }
        open_unlock(ls);
}

/* Everything that is open gets its checkpoint now and then, however little changed. */
static void checkpoint_old(struct logstore *ls) EXCLUDES(open_class)
{
        ARRAY(struct mailbox *) list = ARRAY_INIT;
        struct span key;
        void *value;

        open_lock(ls);
        for (size_t pos = 0; table_next(ls->mailboxes, &pos, &key, &value);) {
                struct mailbox *m = value;

                if (m->phase != MB_OPEN || atomic_load(&m->deleted))
                        continue;
                atomic_fetch_add(&m->refs, 1);
                cold_remove_locked(ls, m);
                *ARRAY_PUSH(&list) = m;
        }
        open_unlock(ls);
        for (size_t i = 0; i < list.n; i++) {
                mailbox_maintain(list.v[i], true);
                mailbox_unref(&list.v[i]);
        }
        ARRAY_FREE(&list);
}

/* Logs that rest are not kept open by a journal, and what they wrote gets to their own files. */
static void rest_journals(struct logstore *ls) EXCLUDES(sync_class)
{
        sync_lock(ls);
        for (struct lane *lane = ls->lanes; lane; lane = lane->next)
                if (!lane->busy)
                        rest_locked(ls, lane);
        sync_unlock(ls);
}

/* Without an event in cyrus.conf too: the databases' logs must not grow for ever. */
static void checkpoint_databases(struct store *store)
{
        struct err err = ERR_INIT;

        if (store_db_checkpoint(store, &err) < 0)
                log_event(LOG_ERROR, NULL, "db.checkpoint", "reason=\"%s\"", err.text);
}

/* What is due now and then, also while there is always a mailbox to maintain. */
static void keep_house(struct logstore *ls, uint64_t *old_ms, uint64_t *db_ms) EXCLUDES(open_class)
{
        shed_cold(ls);
        rest_journals(ls);
        file_shed(READ_FDS_MAX);
        evict(ls, ls->options.cold_mailboxes_max);
        if (clock_mono_ms() >= *old_ms) {
                checkpoint_old(ls);
                *old_ms = clock_mono_ms() + OLD_CHECKPOINT_MS;
        }
        if (clock_mono_ms() >= *db_ms) {
                checkpoint_databases(ls->store);
                *db_ms = clock_mono_ms() + DB_CHECKPOINT_MS;
        }
}

static void *house_main(void *arg)
{
        struct logstore *ls = arg;
        uint64_t now = clock_mono_ms(), next_ms = now + HOUSEKEEPING_MS, old_ms = now + OLD_CHECKPOINT_MS, db_ms = now + DB_CHECKPOINT_MS;

        sync_lock(ls);
        while (!ls->house_stopping) {
                struct mailbox *m = NULL;
                bool due = clock_mono_ms() >= next_ms;

                if (!due && !(m = dequeue_locked(ls, QUEUE_MAINTENANCE))) {
                        cond_wait_until(&ls->house_wake, &ls->sync_lock, next_ms);
                        continue;
                }
                sync_unlock(ls);
                if (m) {
                        mailbox_maintain(m, false);
                        mailbox_unref(&m);
                } else {
                        keep_house(ls, &old_ms, &db_ms);
                        next_ms = clock_mono_ms() + HOUSEKEEPING_MS;
                }
                sync_lock(ls);
        }
        sync_unlock(ls);
        return NULL;
}

/* ---- birth and death ---- */

/* What was being staged when the process ended is nobody's. */
static void empty_stage(void *ctx, const char *name, const char *dir, bool readonly, const char *why)
{
        struct str path = STR_INIT;
        struct err err = ERR_INIT;

        (void)ctx;
        (void)name;
        (void)why;
        str_printf(&path, "%s/stage.", dir);
        if (!readonly && fs_exists(path.data) && fs_remove_tree(path.data, &err) < 0)
                log_event(LOG_WARN, NULL, "store.stage", "path=%s reason=\"%s\"", path.data, err.text);
        str_deinit(&path);
}

static int start_threads(struct logstore *ls, struct err *err)
{
        int rc = 0;

        for (unsigned i = 0; rc == 0 && i < ls->options.sync_threads; i++) {
                rc = thread_start(&ls->sync_threads[i], "sync", 0, sync_main, ls);
                ls->sync_started += rc == 0;
        }
        for (unsigned i = 0; rc == 0 && i < JOB_THREADS; i++) {
                rc = thread_start(&ls->job_threads[i], "store-job", 0, job_main, ls);
                ls->jobs_started += rc == 0;
        }
        if (rc == 0) {
                rc = thread_start(&ls->house_thread, "housekeeping", 0, house_main, ls);
                ls->house_started = rc == 0;
        }
        return rc ? err_errno(err, rc, "start a thread of the store") : 0;
}

int logstore_create(struct store *store, const struct logstore_options *options, struct logstore **ls_r, struct err *err)
{
        struct logstore *ls = xcalloc(1, sizeof *ls);

        ls->store = store;
        ls->options = *options;
        if (ls->options.sync_threads > SYNC_THREADS_MAX)
                ls->options.sync_threads = SYNC_THREADS_MAX;
        if (!ls->options.blob_threshold)
                ls->options.blob_threshold = BLOB_THRESHOLD;
        if (!ls->options.cold_mailboxes_max)
                ls->options.cold_mailboxes_max = 1000;
        mutex_init(&ls->open_lock);
        mutex_init(&ls->sync_lock);
        mutex_init(&ls->feed.lock);
        cond_init(&ls->open_changed);
        cond_init(&ls->sync_wake);
        cond_init(&ls->job_wake);
        cond_init(&ls->house_wake);
        ls->mailboxes = table_create();
        ls->shown = table_create();
        if (!ls->options.readonly)
                store_each_partition(store, empty_stage, NULL);
        if (start_threads(ls, err) < 0) {
                logstore_destroy(&ls);
                return -1;
        }
        *ls_r = ls;
        return 0;
}

static void stop_threads(struct logstore *ls)
{
        struct mailbox *list[JOURNAL_GROUP_MAX];
        enum lane_work how;
        struct lane *lane;
        unsigned n;

        sync_lock(ls);
        ls->house_stopping = true;
        cond_broadcast(&ls->house_wake);
        sync_unlock(ls);
        if (ls->house_started)
                pthread_join(ls->house_thread, NULL);
        sync_lock(ls);
        ls->stopping = true;
        cond_broadcast(&ls->sync_wake);
        cond_broadcast(&ls->job_wake);
        sync_unlock(ls);
        for (unsigned i = 0; i < ls->jobs_started; i++)
                pthread_join(ls->job_threads[i], NULL);
        for (unsigned i = 0; i < ls->sync_started; i++)
                pthread_join(ls->sync_threads[i], NULL);
        do {
                sync_lock(ls);
                n = take_sync_locked(ls, list, &lane, &how);
                if (!n && (list[0] = dequeue_locked(ls, QUEUE_MAINTENANCE)) != NULL) {
                        how = LANE_ALONE;
                        n = 1;
                }
                sync_unlock(ls);
                if (n)
                        sync_all(list, n, lane, how);
                sync_lock(ls);
                if (n)
                        done_sync_locked(ls, lane, how);
                sync_unlock(ls);
        } while (n);
        /* From here on everything is done where it is asked for; not before, as one of a group may be asked for while that ends. */
        ls->options.sync_threads = 0;
}

/* Nothing is written any more: what the journals have goes to the logs' own files. */
static void end_journals(struct logstore *ls)
{
        struct err err = ERR_INIT;

        for (struct lane *lane; (lane = ls->lanes) != NULL;) {
                ls->lanes = lane->next;
                if (!store_partition_failed(ls->store, lane->dir) && journal_finish(lane->journal, &err) < 0)
                        store_partition_fail(ls->store, lane->dir, &err);
                journal_destroy(&lane->journal);
                free(lane->dir);
                free(lane);
        }
}

void logstore_destroy(struct logstore **lsp)
{
        struct logstore *ls = *lsp;
        struct span key;
        void *value;

        if (!ls)
                return;
        stop_threads(ls);                               /* what they still do finds the logstore in its store */
        evict(ls, 0);
        end_journals(ls);
        *lsp = NULL;
        must(ls->open_count == 0);                      /* somebody kept a reference */
        table_destroy(&ls->mailboxes);
        for (size_t pos = 0; table_next(ls->shown, &pos, &key, &value);)
                free(value);
        table_destroy(&ls->shown);
        mutex_deinit(&ls->open_lock);
        mutex_deinit(&ls->sync_lock);
        mutex_deinit(&ls->feed.lock);
        cond_deinit(&ls->open_changed);
        cond_deinit(&ls->sync_wake);
        cond_deinit(&ls->job_wake);
        cond_deinit(&ls->house_wake);
        free(ls);
}

const uint32_t logstore_sync_bucket_us[LOGSTORE_SYNC_BUCKETS] = { 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 100000, 500000, 2000000, 0 };

void logstore_stats(struct logstore *ls, struct logstore_stats *s)
{
        open_lock(ls);
        s->open_mailboxes = ls->open_count;
        s->cold_mailboxes = ls->cold_count;
        open_unlock(ls);
        s->commits = atomic_load(&ls->counts.commits);
        s->syncs = atomic_load(&ls->counts.syncs);
        s->sync_us_total = atomic_load(&ls->counts.sync_us);
        s->journal_groups = atomic_load(&ls->counts.groups);
        s->journal_shared = atomic_load(&ls->counts.grouped);
        s->bytes_appended = atomic_load(&ls->counts.bytes);
        s->checkpoints = atomic_load(&ls->counts.checkpoints);
        s->compactions = atomic_load(&ls->counts.compactions);
        s->messages_added = atomic_load(&ls->counts.added);
        s->messages_expunged = atomic_load(&ls->counts.expunged);
        for (int i = 0; i < LOGSTORE_SYNC_BUCKETS; i++)
                s->sync_buckets[i] = atomic_load(&ls->counts.sync_buckets[i]);
}
