/*
 * mailbox_commit - writing to the log, syncing it, showing what is on disk, and failing.
 *
 * Under the lock a batch goes into the page cache and is applied to the state; its commit is queued. A sync thread (or, without
 * threads, the caller) takes all that is written, lets go of the lock, calls fdatasync() once, and publishes: commits leave the queue in
 * log order, appended UIDs join the published view, expunged ones leave it, waiters are completed and watchers told without the lock.
 * What was written meanwhile shares the next sync. Several mailboxes of a partition that want one at the same time get one together, by the
 * partition's journal (store/journal.h): what is "on disk" then need not be so in the log's own file yet.
 *
 * Soft commits (flags) are published at once when no commit stands before them, and synced within a second.
 *
 * When a sync fails, what is on disk behind the durable mark is unknown: all waiters of the mailbox fail, memory is read back from the
 * disk up to the durable mark, the partition takes no more changes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "store/change.h"
#include "store/journal.h"
#include "store/mailbox_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

/* Descriptors for writing stay open between commits, up to this many in the process; beyond, each is closed after its sync. */
#define WRITE_FDS_MAX 512
static atomic_int write_fds;                    /* the process's descriptors are one resource */

#define DEAD_MIN (256u << 10)                   /* octets that nobody gets any more are worth a compaction: as many, and an eighth of the log */
#define ALLOCATE_MIN (16u << 10)
#define ALLOCATE_MAX (4u << 20)

/* ---- commits ---- */

static void list_add(struct commit_list *list, struct commit *c)
{
        c->next = NULL;
        if (list->tail)
                list->tail->next = c;
        else
                list->head = c;
        list->tail = c;
}

static struct commit *list_pop(struct commit_list *list)
{
        struct commit *c = list->head;

        if (c) {
                list->head = c->next;
                if (!list->head)
                        list->tail = NULL;
                c->next = NULL;
        }
        return c;
}

static void delta_add(struct totals_delta *to, const struct totals_delta *d, int sign)
{
        to->live += sign * d->live;
        to->seen += sign * d->seen;
        to->deleted += sign * d->deleted;
        to->size += sign * d->size;
        to->deleted_size += sign * d->deleted_size;
}

void commit_queue_locked(struct mailbox *m, struct commit *from)
{
        struct commit *c = xmalloc(sizeof *c);

        *c = *from;
        c->end = m->end_mark;
        c->also = NULL;
        c->marks |= change_marks();
        if (c->modseq > m->durable_modseq + UNSYNCED_MODSEQS_MAX)
                c->hard = true;                         /* else the jump after a power loss could be too short */
        if (c->hard)
                m->hard_pending++;
        delta_add(&m->pending, &c->delta, 1);
        list_add(&m->commits, c);
}

static void show_locked(struct mailbox *m, struct commit *c) REQUIRES(m->lock, mailbox_class)
{
        struct view *old = m->view;

        if (c->modseq > m->published_modseq || (c->sets_modseq && c->modseq != m->published_modseq)) {
                m->published_modseq = c->modseq;
                m->view_stale = true;
        }
        if (c->uidnext && c->uidnext != m->published_uidnext) {
                m->published_uidnext = c->uidnext;
                m->view = view_append(old, NULL, 0, m->published_uidnext, m->published_modseq);
                view_unref(&old);
                m->view_stale = false;
                old = m->view;
        }
        if (c->count) {
                uint32_t *uids = c->uids;

                if (!uids) {
                        uids = xmalloc((size_t)c->count * sizeof *uids);
                        for (uint32_t i = 0; i < c->count; i++)
                                uids[i] = c->first_uid + i;
                }
                if (!c->uidnext)
                        m->published_uidnext = uids[c->count - 1] + 1;
                m->view = view_append(old, uids, c->count, m->published_uidnext, m->published_modseq);
                if (uids != c->uids)
                        free(uids);
                view_unref(&old);
                m->view_stale = false;
        }
        if (!uidset_empty(&c->expunged)) {
                old = m->view;
                m->view = view_expunge(old, &c->expunged, m->published_modseq);
                view_unref(&old);
                m->view_stale = false;
                expunge_shown_locked(m);
        }
}

/*
 * A move's other mailbox waits for this commit's being on disk, not for its being shown: when moves cross, it may stand behind a
 * commit that is itself held back until the other mailbox goes on.
 */
static void tell_durable_locked(struct mailbox *m, struct commit_list *done) REQUIRES(m->lock, mailbox_class);
static void tell_durable_locked(struct mailbox *m, struct commit_list *done)
{
        for (struct commit *c = m->commits.head; c && c->end <= m->durable_mark; c = c->next) {
                struct commit *word;

                if (!c->fn || c->failed)
                        continue;
                word = xcalloc(1, sizeof *word);
                word->fn = c->fn;
                word->ctx = c->ctx;
                c->fn = NULL;
                list_add(done, word);
        }
}

static unsigned what_of(const struct commit *c)
{
        static const unsigned about[] = { [COMMIT_OF_FLAGS] = CHANGE_FLAGS, [COMMIT_OF_ANNOTATIONS] = CHANGE_ANNOTATED, [COMMIT_OF_MAILBOX] = 0 };

        return c->count ? CHANGE_ARRIVED : !uidset_empty(&c->expunged) ? CHANGE_EXPUNGED : about[c->about];
}

/* Show what may be shown; what is done goes to `done`. Returns whether anything is new to see. */
static bool publish_locked(struct mailbox *m, struct commit_list *done) REQUIRES(m->lock, mailbox_class);
static bool publish_locked(struct mailbox *m, struct commit_list *done)
{
        bool news = false;
        struct commit *c;

        while ((c = m->commits.head) != NULL) {
                if (c->held || (c->hard && m->durable_mark < c->end))
                        break;
                list_pop(&m->commits);
                if (c->hard)
                        m->hard_pending--;
                delta_add(&m->pending, &c->delta, -1);
                show_locked(m, c);
                news = news || c->modseq;
                if (c->modseq) {
                        m->published_what |= what_of(c);
                        m->published_lacks |= ~c->marks;
                }
                list_add(done, c);
        }
        tell_durable_locked(m, done);
        return news;
}

void mailbox_notify(struct mailbox *m)
{
        struct change change = { .kind = CHANGE_MAILBOX, .name = atomic_load(&m->name), .uniqueid = m->uniqueid,
                                 .modseq = mailbox_published_modseq(m) };

        mailbox_lock(m);
        change.what = m->published_what;
        change.marks = m->published_lacks ? ~m->published_lacks : change_marks();
        m->published_what = m->published_lacks = 0;
        mailbox_unlock(m);
        mutex_lock(&m->watch_lock);
        for (struct mailbox_watch *w = m->watches; w; w = w->next)
                w->fn(w);
        mutex_unlock(&m->watch_lock);
        store_mailbox_changed(m->store, &change);
}

static void count_commit(struct logstore_counts *counts, const struct commit *c)
{
        atomic_fetch_add_explicit(&counts->commits, 1, memory_order_relaxed);
        if (c->failed)
                return;
        if (c->count)
                atomic_fetch_add_explicit(&counts->added, c->count, memory_order_relaxed);
        if (!uidset_empty(&c->expunged))
                atomic_fetch_add_explicit(&counts->expunged, uidset_count(&c->expunged), memory_order_relaxed);
}

/* Who follows changes looks at both mailboxes together. */
static void tell_copied(struct mailbox *m, const struct commit_list *done)
{
        for (const struct commit *c = done->head; c; c = c->next)
                if (c->copied_from && !c->failed)
                        change_publish(m->store, &(struct change){ .kind = CHANGE_COPIED, .name = atomic_load(&m->name), .other = c->copied_from,
                                                                   .uniqueid = m->uniqueid, .modseq = c->modseq, .marks = c->marks });
}

void mailbox_complete(struct mailbox *m, struct commit_list *done, bool notify)
{
        struct commit *c;

        tell_copied(m, done);
        if (notify)
                mailbox_notify(m);
        while ((c = list_pop(done)) != NULL) {
                const struct err *err = c->failed ? &c->err : NULL;

                if (m->ls)
                        count_commit(logstore_counts(m->ls), c);
                if (c->fn)
                        c->fn(c->ctx, err);
                else if (c->waiter)
                        waiter_done(c->waiter, err);
                uidset_deinit(&c->expunged);
                free(c->copied_from);
                free(c->uids);
                free(c);
        }
}

/* ---- writing ---- */

int mailbox_writable_locked(struct mailbox *m, struct err *err)
{
        if (atomic_load(&m->deleted))
                return err_set(err, ERR_NOTFOUND, "mailbox %s was deleted", m->uniqueid);
        if (m->readonly_store)
                return err_set(err, ERR_READONLY, "the store was opened for reading");
        if (m->failed || store_partition_failed(m->store, m->partition_dir))
                return err_set(err, ERR_READONLY, "mailbox %s takes no changes: %s", m->uniqueid,
                               m->failed ? m->failure.text : "its partition failed");
        return 0;
}

int mailbox_changeable_locked(struct mailbox *m, struct err *err)
{
        return store_may_change(m->store, err) < 0 ? -1 : mailbox_writable_locked(m, err);
}

uint64_t mailbox_next_modseq_locked(struct mailbox *m)
{
        return index_counters(m->ix)->highestmodseq + 1;
}

void segment_set_fd(struct segment *s, int fd)
{
        s->fd = fd;
        atomic_fetch_add(&write_fds, 1);
}

static int writing_fd(struct segment *seg, struct err *err)
{
        const char *path = file_path(seg->file);

        if (seg->fd >= 0)
                return 0;
        seg->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (seg->fd < 0 && errno == EMFILE) {
                file_shed(0);
                index_fds_shed(0);
                seg->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        }
        if (seg->fd < 0)
                err_errno(err, errno, "open %s", path);
        else
                atomic_fetch_add(&write_fds, 1);
        seg->allocated = seg->end;
        return seg->fd < 0 ? -1 : 0;
}

/* Ask for disk space in chunks, so that a small append does not change the file's map of blocks each time. */
static int allocate(struct segment *seg, uint64_t upto, struct err *err)
{
        uint64_t chunk = seg->end / 4, from = seg->allocated;

        if (upto <= from)
                return 0;
        chunk = chunk < ALLOCATE_MIN ? ALLOCATE_MIN : chunk > ALLOCATE_MAX ? ALLOCATE_MAX : chunk;
        if (upto - from > chunk)
                chunk = upto - from;
        if (!fs_fails("fallocate") && fallocate(seg->fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)chunk) == 0) {
                seg->allocated = from + chunk;
                return 0;
        }
        if (errno == ENOSPC || errno == EDQUOT) {       /* a chunk is more than is needed */
                if (!fs_fails("fallocate") && fallocate(seg->fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(upto - from)) == 0) {
                        seg->allocated = upto;
                        return 0;
                }
                if (errno == ENOSPC || errno == EDQUOT)
                        return err_errno(err, errno, "allocate %s", file_path(seg->file));
        }
        if (errno == EIO)
                return err_errno(err, errno, "allocate %s", file_path(seg->file));
        seg->allocated = upto;                          /* a file system that cannot: the write itself will allocate */
        return 0;
}

static int write_pieces(int fd, struct iovec *iov, int n, uint64_t at, struct err *err)
{
        while (n) {
                ssize_t done = fs_fails("pwritev") ? -1 : pwritev(fd, iov, n, (off_t)at);

                if (done < 0 && errno == EINTR)
                        continue;
                if (done <= 0)
                        return err_errno(err, done < 0 ? errno : ENOSPC, "pwritev");
                at += (uint64_t)done;
                while (n && (size_t)done >= iov->iov_len) {
                        done -= (ssize_t)iov->iov_len;
                        iov++;
                        n--;
                }
                if (n) {
                        iov->iov_base = (char *)iov->iov_base + done;
                        iov->iov_len -= (size_t)done;
                }
        }
        return 0;
}

int segment_write(struct segment *seg, struct iovec *iov, int n, uint64_t at, struct err *err)
{
        uint64_t len = 0;

        for (int i = 0; i < n; i++)
                len += iov[i].iov_len;
        if (writing_fd(seg, err) < 0 || allocate(seg, at + len, err) < 0)
                return -1;
        if (write_pieces(seg->fd, iov, n, at, err) == 0)
                return 0;
        err_prefix(err, "%s", file_path(seg->file));
        /* A torn piece behind the end would only be overwritten by the next batch, or sealed off after a crash; shorter is tidier.
         * Its failing changes nothing. */
        if (ftruncate(seg->fd, (off_t)at) < 0)
                log_event(LOG_WARN, NULL, "mailbox.truncate", "path=%s errno=%d", file_path(seg->file), errno);
        seg->allocated = at;
        return -1;
}

/* What is behind `end` goes … */
static void cut(struct segment *seg, uint64_t end)
{
        if (seg->fd >= 0 && ftruncate(seg->fd, (off_t)end) < 0)
                log_event(LOG_WARN, NULL, "mailbox.truncate", "path=%s errno=%d", file_path(seg->file), errno);
        seg->end = end;
        if (seg->allocated > end)
                seg->allocated = end;
}

/* … of the segment that is written, and of its copy. */
static void truncate_locked(struct mailbox *m, struct segment *seg, uint64_t end) REQUIRES(m->lock, mailbox_class);
static void truncate_locked(struct mailbox *m, struct segment *seg, uint64_t end)
{
        cut(seg, end);
        if (m->mirror && seg == m->active)
                cut(m->mirror, end);
}

/* Into the segment that is written, and its copy, if there is one. */
static int write_both_locked(struct mailbox *m, const struct iovec *iov, int n, struct err *err) REQUIRES(m->lock, mailbox_class);
static int write_both_locked(struct mailbox *m, const struct iovec *iov, int n, struct err *err)
{
        struct iovec own[2] = { iov[0], n > 1 ? iov[1] : iov[0] };
        struct segment *seg = m->active;

        must(n <= 2);
        if (segment_write(seg, own, n, seg->end, err) < 0)
                return -1;
        if (!m->mirror || relocation_write_locked(m, iov, n, err) == 0)
                return 0;
        truncate_locked(m, seg, seg->end);
        return -1;
}

/* Seal and write one batch at the end of the active segment. */
static int put_batch_locked(struct mailbox *m, struct mlog_batch *b, uint64_t modseq, uint32_t first_uid, struct err *err)
        REQUIRES(m->lock, mailbox_class);
static int put_batch_locked(struct mailbox *m, struct mlog_batch *b, uint64_t modseq, uint32_t first_uid, struct err *err)
{
        struct segment *seg = m->active;
        struct mlog_pen pen = { .segment = &seg->info, .offset = seg->end, .seq = m->seq, .modseq = modseq, .durable = m->durable_mark,
                                .time = clock_wall_s(), .epoch = m->epoch, .prev_crc = m->prev_crc, .first_uid = first_uid };
        uint32_t records = b->records;
        struct iovec iov[2];
        int n = mlog_batch_seal(b, &pen, iov);

        if (write_both_locked(m, iov, n, err) < 0)
                return -1;
        m->bytes_since_checkpoint += pen.offset - seg->end;
        m->records_since_checkpoint += records;
        if (m->ls)
                atomic_fetch_add_explicit(&logstore_counts(m->ls)->bytes, pen.offset - seg->end, memory_order_relaxed);
        seg->end = pen.offset;
        if (m->mirror)
                m->mirror->end = pen.offset;
        m->seq = pen.seq;
        m->prev_crc = pen.prev_crc;
        m->end_mark = mlog_mark(seg->info.id, seg->end);
        return 0;
}

static void note_position(struct mailbox *m)
{
        index_counters(m->ix)->log = (struct index_position){ .segment = m->active->info.id, .offset = m->active->end, .seq = m->seq - 1,
                .epoch = m->epoch, .prev_crc = m->prev_crc };
}

/* Go on in the segment that was prepared. Its first record says where the log before it ended. */
static int switch_segment_locked(struct mailbox *m, struct err *err) REQUIRES(m->lock, mailbox_class);
static int switch_segment_locked(struct mailbox *m, struct err *err)
{
        struct segment *old = m->active, *seg = m->next_active;
        uint32_t old_crc = m->prev_crc;
        struct mlog_batch b;
        struct mlog_counters c;
        int rc;

        must(!m->mirror);                               /* whoever copies is maintaining, and has used up what was prepared */
        state_counters(m, &c);
        c.prev_segment = old->info.id;
        c.prev_end = old->end;
        mlog_batch_init(&b);
        mlog_batch_add(&b, &b.body, MLOG_COUNTERS, &c, sizeof c, NULL, 0, NULL, 0, 0);
        m->active = seg;
        m->prev_crc = seg->info.crc;
        rc = put_batch_locked(m, &b, c.highestmodseq, 0, err);
        mlog_batch_deinit(&b);
        if (rc < 0) {
                m->active = old;
                m->prev_crc = old_crc;
                return -1;
        }
        old->sealed = true;
        m->segs = xrealloc(m->segs, (m->segs_n + 1) * sizeof *m->segs);
        m->segs[m->segs_n++] = seg;
        m->next_active = NULL;
        return 0;
}

int mailbox_write_locked(struct mailbox *m, struct mlog_batch *b, uint64_t modseq, uint32_t first_uid, struct commit *c, struct err *err)
{
        struct totals_delta before;
        struct segment *seg;
        uint64_t end, seq = m->seq;
        uint32_t prev_crc;
        bool quiet = state_is_quiet(m);

        mutex_assert_held(&m->lock);
        if (mailbox_writable_locked(m, err) < 0)
                goto failed;
        if (m->options_dirty) {
                struct mlog_counters counters;

                state_counters(m, &counters);
                mlog_batch_add(b, &b->head, MLOG_OPTIONS, &counters.options, sizeof counters.options, NULL, 0, NULL, 0, 0);
        }
        if (m->next_active && switch_segment_locked(m, err) < 0)
                goto failed;
        before = state_totals(m);
        seg = m->active;
        end = seg->end;
        prev_crc = m->prev_crc;
        if (put_batch_locked(m, b, modseq, first_uid, err) < 0)
                goto failed;
        if (state_apply_batch(m, b, err) < 0 || (c->also && c->also(m, c->also_ctx, m->seq - 1, err) < 0)) {
                /* The index could not be read: what was just written must not come back when it can. */
                truncate_locked(m, seg, end);
                m->seq = seq;
                m->prev_crc = prev_crc;
                m->end_mark = mlog_mark(seg->info.id, end);
                mailbox_fail_locked(m, err, false);
                goto failed;
        }
        m->options_dirty = false;
        note_position(m);
        c->delta = state_totals(m);
        delta_add(&c->delta, &before, -1);
        if (logstore_options(m->ls)->sync_all || (quiet && !state_is_quiet(m)))
                c->hard = true;
        commit_queue_locked(m, c);
        quota_report(m);
        return 0;
failed:
        quota_report(m);                                /* what was reserved for this is free again */
        uidset_deinit(&c->expunged);
        free(c->copied_from);
        c->copied_from = NULL;
        free(c->uids);
        c->uids = NULL;
        return -1;
}

static void close_fds_locked(struct mailbox *m) REQUIRES(m->lock, mailbox_class);

int mailbox_guarded(struct mailbox *m, int rc, const struct err *err)
{
        if (fs_take_sync_failure() && rc < 0)
                store_partition_fail(m->store, m->partition_dir, err);
        return rc;
}

/* ---- syncing ---- */

struct sync_set {
        struct segment *seg;
        uint64_t durable, end;                  /* octets between them */
        int fd;
        const char *partition;                  /* its directory: stays as long as the mailbox */
        bool copy;                              /* the one that is being made in another partition */
};

/* What has to be synced now, oldest first, a copy last. After an error *bad_r is the partition that it is about. */
static uint32_t gather_locked(struct mailbox *m, struct sync_set **set_r, const char **bad_r, struct err *err)
        REQUIRES(m->lock, mailbox_class);
static uint32_t gather_locked(struct mailbox *m, struct sync_set **set_r, const char **bad_r, struct err *err)
{
        struct sync_set *set = xmalloc((m->segs_n + 2) * sizeof *set);
        struct err why = ERR_INIT;
        uint32_t n = 0;

        *set_r = set;
        for (uint32_t i = 0; i < m->segs_n; i++) {
                struct segment *seg = m->segs[i];

                if (seg->durable >= seg->end)
                        continue;
                if (writing_fd(seg, err) < 0)
                        *bad_r = m->partition_dir;
                else
                        set[n++] = (struct sync_set){ segment_ref(seg), seg->durable, seg->end, seg->fd, m->partition_dir, false };
        }
        if (!m->mirror || m->mirror->durable >= m->mirror->end)
                return n;
        if (writing_fd(m->mirror, &why) == 0) {
                set[n++] = (struct sync_set){ segment_ref(m->mirror), m->mirror->durable, m->mirror->end, m->mirror->fd,
                                               relocation_partition(m->relocation), true };
        } else if (m->mirror_counts) {
                *bad_r = relocation_partition(m->relocation);
                err_copy(err, &why);
        } else {
                relocation_failed_locked(m, &why);
        }
        return n;
}

static int sync_one(const struct sync_set *s, struct err *err)
{
        if (!s->copy)
                return fs_datasync(s->fd, file_path(s->seg->file), err);
        return fs_datasync(s->fd, file_path(s->seg->file), err) < 0 ? err_prefix(err, "the copy in %s", s->partition) : 0;
}

static void count_syncs(struct mailbox *m, uint32_t n, uint64_t began_us)
{
        struct logstore_counts *counts = m->ls ? logstore_counts(m->ls) : NULL;
        uint64_t us = clock_mono_us() - began_us;
        int bucket = 0;

        if (!counts)
                return;
        while (logstore_sync_bucket_us[bucket] && us > logstore_sync_bucket_us[bucket])
                bucket++;
        atomic_fetch_add_explicit(&counts->syncs, n, memory_order_relaxed);
        atomic_fetch_add_explicit(&counts->sync_us, us, memory_order_relaxed);
        atomic_fetch_add_explicit(&counts->sync_buckets[bucket], 1, memory_order_relaxed);
}

/* Returns how many were synced before one failed. */
static uint32_t sync_segments(struct mailbox *m, struct sync_set *set, uint32_t n, struct err *err)
{
        uint64_t began = clock_mono_us();
        uint32_t done = 0;

        while (done < n && sync_one(&set[done], err) == 0)
                done++;
        count_syncs(m, n, began);
        return done;
}

/* A mailbox's sync under way: `syncing` is ours between begin and end. */
struct sync_work {
        struct mailbox *m;
        struct sync_set *set;
        uint32_t n, synced;
        uint64_t mark, modseq;                  /* what is on the disk when all of `set` is */
        bool ok, tried;                         /* tried: it was gathered without an error */
        const char *bad;                        /* not ok: the partition that failed, NULL: none */
        struct err err;
};

static void go_back_locked(struct mailbox *m) REQUIRES(m->lock, mailbox_class);

static void begin_sync_locked(struct mailbox *m, struct sync_work *w) REQUIRES(m->lock, mailbox_class);
static void begin_sync_locked(struct mailbox *m, struct sync_work *w)
{
        *w = (struct sync_work){ .m = m, .err = ERR_INIT };
        m->syncing = true;
        w->n = gather_locked(m, &w->set, &w->bad, &w->err);
        w->mark = m->end_mark;
        w->modseq = index_counters(m->ix)->highestmodseq;
        w->ok = w->tried = w->err.code == 0;
}

static void release_set(struct sync_work *w)
{
        for (uint32_t i = 0; i < w->n; i++)
                segment_unref(&w->set[i].seg);
        free(w->set);
}

/* Nothing was done: it is somebody else's now. */
static void leave_sync(struct sync_work *w) EXCLUDES(mailbox_class)
{
        mailbox_lock(w->m);
        w->m->syncing = false;
        cond_broadcast(&w->m->synced);
        if (w->m->cut_wanted)
                go_back_locked(w->m);
        mailbox_unlock(w->m);
        release_set(w);
        logstore_want_sync_alone(w->m->ls, w->m);
}

static void end_sync(struct sync_work *w) EXCLUDES(mailbox_class)
{
        struct commit_list done = { NULL, NULL };
        bool news, again, forget, failed = false;
        struct mailbox *m = w->m;

        mailbox_lock(m);
        m->syncing = false;
        cond_broadcast(&m->synced);
        if (!w->ok && w->tried && w->set[w->synced].copy && !(m->mirror == w->set[w->synced].seg && m->mirror_counts)) {
                if (m->mirror == w->set[w->synced].seg)
                        relocation_failed_locked(m, &w->err);
                w->ok = true;                           /* all that stands before it is the mailbox's, and on the disk */
        }
        if (w->ok && (!m->failed || m->cut_wanted)) {
                for (uint32_t i = 0; i < w->synced; i++)
                        if (w->set[i].end > w->set[i].seg->durable)
                                w->set[i].seg->durable = w->set[i].end;
                if (w->mark > m->durable_mark)
                        m->durable_mark = w->mark;
                if (w->modseq > m->durable_modseq)
                        m->durable_modseq = w->modseq;
        } else if (!w->ok && !m->failed) {
                mailbox_fail_locked(m, &w->err, true);
                failed = true;
        }
        if (m->cut_wanted)
                go_back_locked(m);
        news = publish_locked(m, &done);
        again = m->hard_pending > 0 && m->durable_mark < m->end_mark && !m->failed;
        forget = m->purge_wanted && atomic_load(&m->refs) > 0;
        if (atomic_load_explicit(&write_fds, memory_order_relaxed) > WRITE_FDS_MAX)
                close_fds_locked(m);
        mailbox_unlock(m);

        release_set(w);
        if (w->bad)
                store_partition_fail(m->store, w->bad, &w->err);
        mailbox_complete(m, &done, news || failed);
        if (again && logstore_threaded(m->ls))
                logstore_want_sync(m->ls, m, false);
        if (forget)
                logstore_want_maintenance(m->ls, m);
}

void mailbox_sync(struct mailbox *m)
{
        struct sync_work w;

        mailbox_lock(m);
        while (m->syncing)
                cond_wait(&m->synced, &m->lock);
        begin_sync_locked(m, &w);
        mailbox_unlock(m);
        if (w.ok && w.n) {
                w.synced = sync_segments(m, w.set, w.n, &w.err);
                w.ok = w.synced == w.n;
                w.bad = w.ok ? NULL : w.set[w.synced].partition;
        }
        end_sync(&w);
}

/* ---- together, by the partition's journal ---- */

/* What one mailbox has to sync goes into the group. False: not this way. */
static bool put_into_group(struct journal *j, const char *dir, struct sync_work *w)
{
        const struct sync_set *s = w->set;
        struct journal_piece piece = { .uniqueid = w->m->uniqueid };
        struct err err = ERR_INIT;
        void *octets;

        if (!w->ok || w->n != 1 || s->copy || s->durable < MLOG_SEGMENT_HEADER || s->end - s->durable > JOURNAL_TAIL_MAX ||
            strcmp(s->partition, dir) != 0)
                return false;
        piece.segment = s->seg->info.id;
        piece.segment_crc = s->seg->info.crc;
        piece.offset = s->durable;
        piece.len = (uint32_t)(s->end - s->durable);
        piece.path = file_path(s->seg->file);
        piece.lap = &s->seg->journal_lap;
        octets = journal_add(j, &piece);
        if (octets && file_read(s->seg->file, octets, piece.len, piece.offset, &err) < 0) {
                journal_drop(j);                /* its own sync will tell */
                octets = NULL;
        }
        return octets != NULL;
}

/*
 * Nobody waits here for a mailbox: all others of the group, and those that want the next one, would wait with it – and for a sync of
 * another group, that for this one. False: its lock is held, for a moment or for as long as reading its log takes.
 */
static bool join_group(struct journal *j, const char *dir, struct mailbox *m, struct sync_work *work, unsigned *n) EXCLUDES(mailbox_class)
{
        struct sync_work *w = &work[*n];

        if (!mailbox_trylock(m))
                return false;
        if (m->syncing) {
                mailbox_unlock(m);
                logstore_want_sync_alone(m->ls, m);
                return true;
        }
        begin_sync_locked(m, w);
        mailbox_unlock(m);
        if (w->ok && !w->n)
                end_sync(w);                    /* somebody has synced it meanwhile */
        else if (put_into_group(j, dir, w))
                ++*n;
        else
                leave_sync(w);
        return true;
}

static void count_group(struct mailbox *m, unsigned n, uint64_t began_us)
{
        struct logstore_counts *counts = logstore_counts(m->ls);

        count_syncs(m, 1, began_us);
        atomic_fetch_add_explicit(&counts->groups, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&counts->grouped, n, memory_order_relaxed);
}

void mailbox_sync_together(struct journal *j, const char *dir, struct mailbox *const *list, unsigned n)
{
        struct sync_work work[JOURNAL_GROUP_MAX];
        struct mailbox *later[JOURNAL_GROUP_MAX];
        uint64_t began = clock_mono_us();
        struct err err = ERR_INIT;
        unsigned grouped = 0, later_n = 0;
        int rc;

        must(n <= JOURNAL_GROUP_MAX);
        journal_begin(j);
        for (unsigned i = 0; i < n; i++)
                if (!join_group(j, dir, list[i], work, &grouped))
                        later[later_n++] = list[i];
        for (unsigned i = 0; i < later_n; i++)
                if (!join_group(j, dir, later[i], work, &grouped))
                        logstore_want_sync_alone(later[i]->ls, later[i]);
        if (!grouped)
                return;
        rc = journal_commit(j, &err);
        if (rc <= 0)
                count_group(work[0].m, grouped, began);
        for (unsigned i = 0; i < grouped; i++) {
                struct sync_work *w = &work[i];

                if (rc == 1) {
                        leave_sync(w);
                        continue;
                }
                w->ok = rc == 0;
                w->synced = rc == 0;
                w->bad = rc == 0 ? NULL : w->set[0].partition;
                if (rc < 0)
                        err_copy(&w->err, &err);
                end_sync(w);
        }
}

static bool on_disk(struct mailbox *m, uint64_t mark, struct err *err) EXCLUDES(mailbox_class)
{
        bool yes;

        mailbox_lock(m);
        yes = m->failed || m->durable_mark >= mark;
        if (m->failed && err)
                err_copy(err, &m->failure);
        mailbox_unlock(m);
        return yes;
}

int mailbox_sync_wait(struct mailbox *m, struct err *err)
{
        struct err failure = ERR_INIT;
        uint64_t mark;

        mailbox_lock(m);
        mark = m->end_mark;
        mailbox_unlock(m);
        while (!on_disk(m, mark, &failure))
                mailbox_sync(m);
        if (failure.code == ERR_NONE)
                return 0;
        err_copy(err, &failure);
        return -1;
}

static bool is_worth_compacting_locked(struct mailbox *m) REQUIRES(m->lock, mailbox_class);
static bool is_worth_compacting_locked(struct mailbox *m)
{
        uint64_t octets = 0;

        if (m->compact_wanted)
                return true;
        for (uint32_t i = 0; i < m->segs_n && m->dead_bytes >= DEAD_MIN; i++)
                octets += m->segs[i]->end;
        return m->dead_bytes >= DEAD_MIN && m->dead_bytes >= octets / 8;
}

/* Is it time to prepare the next segment? */
static bool is_worth_rolling_locked(const struct mailbox *m) REQUIRES(m->lock, mailbox_class);
static bool is_worth_rolling_locked(const struct mailbox *m)
{
        const struct logstore_options *o = m->ls ? logstore_options(m->ls) : NULL;
        size_t most = o && o->segment_bytes ? o->segment_bytes : SEGMENT_ROLL_BYTES;

        return m->active && m->active->end >= most && !m->next_active;
}

void mailbox_after(struct mailbox *m)
{
        struct commit_list done = { NULL, NULL };
        bool news, hard, soft, maintain;

        mailbox_lock(m);
        news = publish_locked(m, &done);
        hard = m->hard_pending > 0 && m->durable_mark < m->end_mark && !m->failed;
        soft = m->durable_mark < m->end_mark && !m->failed;
        maintain = m->records_since_checkpoint >= CHECKPOINT_RECORDS || m->bytes_since_checkpoint >= CHECKPOINT_BYTES ||
                   is_worth_compacting_locked(m) || m->purge_wanted || is_worth_rolling_locked(m);
        mailbox_unlock(m);
        mailbox_complete(m, &done, news);
        if (!logstore_threaded(m->ls)) {
                if (hard)
                        mailbox_sync(m);
                return;
        }
        if (atomic_load(&m->refs) == 0)                 /* it is being closed: no queue may get hold of it any more */
                return;
        if (hard || soft)
                logstore_want_sync(m->ls, m, !hard);
        if (maintain)
                logstore_want_maintenance(m->ls, m);
}

void mailbox_release_held(struct mailbox *m, uint64_t end, const struct err *err)
{
        mailbox_lock(m);
        for (struct commit *c = m->commits.head; c; c = c->next) {
                if (!c->held || c->end != end)
                        continue;
                c->held = false;
                if (err) {
                        c->failed = true;
                        err_copy(&c->err, err);
                }
        }
        mailbox_unlock(m);
        mailbox_after(m);
}

void mailbox_wait_published(struct mailbox *m, struct waiter *waiter)
{
        struct commit c = { .waiter = waiter };

        mailbox_lock(m);
        commit_queue_locked(m, &c);
        mailbox_unlock(m);
        mailbox_after(m);
}

void mailbox_wait_synced(struct mailbox *m, struct waiter *waiter)
{
        struct commit c = { .waiter = waiter };

        mailbox_lock(m);
        if (m->failed) {
                c.failed = true;
                err_copy(&c.err, &m->failure);
        } else {
                c.hard = m->durable_mark < m->end_mark;
        }
        commit_queue_locked(m, &c);
        mailbox_unlock(m);
        mailbox_after(m);
}

/* ---- failing ---- */

static void reload_locked(struct mailbox *m) REQUIRES(m->lock, mailbox_class);
static void reload_locked(struct mailbox *m)
{
        struct mailbox_ident ident = { .uniqueid = m->uniqueid, .partition_dir = m->partition_dir, .name = atomic_load(&m->name),
                                       .uidvalidity = index_counters(m->ix)->uidvalidity };
        struct err err = ERR_INIT;

        m->reload_wanted = false;
        mailbox_unload(m);
        if (mailbox_load(m, &ident, LOAD_ROLLBACK | LOAD_READONLY, NULL, &err) < 0)
                log_event(LOG_ERROR, NULL, "mailbox.rollback", "uniqueid=%s mailbox=%s reason=\"%s\"", m->uniqueid, ident.name, err.text);
        quota_report(m);
}

/* To what is durable. */
static void go_back_locked(struct mailbox *m)
{
        m->cut_wanted = false;
        /* As far as the disk still obeys: what was refused shall not be found at the next start. */
        for (uint32_t i = 0; i < m->segs_n; i++) {
                struct segment *seg = m->segs[i];

                if (seg->durable < seg->end && seg->fd >= 0 && ftruncate(seg->fd, (off_t)seg->durable) < 0)
                        log_event(LOG_WARN, NULL, "mailbox.truncate", "path=%s errno=%d", file_path(seg->file), errno);
        }
        if (m->mirror && m->mirror->fd >= 0 && ftruncate(m->mirror->fd, (off_t)m->active->durable) < 0)
                log_event(LOG_WARN, NULL, "mailbox.truncate", "path=%s errno=%d", file_path(m->mirror->file), errno);
        if (m->maintaining)                             /* somebody is at the index or the manifest: mailbox_maintain_end() */
                m->reload_wanted = true;
        else
                reload_locked(m);
}

void mailbox_fail_locked(struct mailbox *m, const struct err *why, bool partition)
{
        log_event(LOG_ERROR, NULL, "mailbox.failed", "uniqueid=%s mailbox=%s partition_failed=%d reason=\"%s\"", m->uniqueid,
                  atomic_load(&m->name), partition, why->text);
        m->failed = true;
        store_mailbox_failed(m->store);
        err_copy(&m->failure, why);
        for (struct commit *c = m->commits.head; c; c = c->next) {      /* they leave with the next mailbox_after() */
                if (!c->failed)
                        err_copy(&c->err, why);
                c->failed = true;
                c->hard = c->held = c->sets_modseq = false;
                c->count = c->uidnext = 0;
                c->modseq = 0;
                uidset_clear(&c->expunged);
                memset(&c->delta, 0, sizeof c->delta);
        }
        memset(&m->pending, 0, sizeof m->pending);
        m->hard_pending = 0;
        if (m->syncing)                                 /* by a journal, say, that has then what is cut off here: end_sync() */
                m->cut_wanted = true;
        else
                go_back_locked(m);
}

/* ---- maintenance ---- */

void mailbox_maintain_begin(struct mailbox *m)
{
        mailbox_lock(m);
        while (m->maintaining)
                cond_wait(&m->maintained, &m->lock);
        m->maintaining = true;
        mailbox_unlock(m);
}

void mailbox_maintain_end(struct mailbox *m)
{
        mailbox_lock(m);
        if (m->reload_wanted)
                reload_locked(m);
        m->maintaining = false;
        cond_broadcast(&m->maintained);
        mailbox_unlock(m);
}

void mailbox_seal_entries_locked(struct mailbox *m, struct manifest *manifest)
{
        for (uint32_t i = 0; i < m->segs_n; i++) {
                int at = manifest_find(manifest, m->segs[i]->info.id);

                if (at >= 0 && m->segs[i]->sealed && m->segs[i]->durable == m->segs[i]->end)
                        manifest->entries[at].valid_len = m->segs[i]->end;
        }
}

int mailbox_roll(struct mailbox *m, struct err *err)
{
        struct segment *seg;
        struct manifest_entry *e;
        int rc;

        mailbox_lock(m);
        rc = m->next_active ? 1 : mailbox_writable_locked(m, err);
        if (rc == 0)
                mailbox_seal_entries_locked(m, &m->manifest);
        mailbox_unlock(m);
        if (rc)
                return rc < 0 ? -1 : 0;
        if (segment_begin(m, m->manifest.next_id, false, &seg, err) < 0)
                return -1;
        m->manifest.next_id++;
        /* Its name is durable with the manifest's, and nothing is written to it before that. */
        if (segment_settle(m, seg, true, err) < 0) {
                file_unlink_last(seg->file);
                segment_unref(&seg);
                return -1;
        }
        e = manifest_add(&m->manifest, m->manifest.n);
        *e = (struct manifest_entry){ .id = seg->info.id, .valid_len = MLOG_OPEN_END, .kind = MLOG_MAIN, .crc = seg->info.crc,
                                      .salt = seg->info.salt };
        if (mailbox_guard(m, manifest_write(&m->manifest, m->dir, err), err) < 0) {
                /* Renamed or not, nobody knows. Listed on the disk and empty it does no harm; its id is not used again. */
                manifest_remove(&m->manifest, m->manifest.n - 1);
                segment_unref(&seg);
                return -1;
        }
        mailbox_lock(m);
        m->next_active = seg;
        mailbox_unlock(m);
        return 0;
}

int mailbox_begin_next(struct mailbox *m, struct err *err)
{
        int rc = 0;

        mailbox_lock(m);
        if (m->next_active) {
                rc = mailbox_writable_locked(m, err);
                if (rc == 0)
                        rc = switch_segment_locked(m, err);
                if (rc == 0) {
                        note_position(m);
                        index_touch(m->ix);             /* the next checkpoint has to leave the former segment */
                }
        }
        mailbox_unlock(m);
        return rc == 0 ? mailbox_sync_wait(m, err) : -1;
}

int mailbox_checkpoint_inner(struct mailbox *m, struct err *err)
{
        struct index_snapshot *snap;
        bool ok;

        mailbox_lock(m);
        if (m->failed || m->readonly_store || atomic_load(&m->deleted)) {
                mailbox_unlock(m);
                return 0;
        }
        if (!index_dirty(m->ix) && m->durable_mark == m->end_mark) {
                mailbox_unlock(m);
                return 0;
        }
        mailbox_unlock(m);
        if (m->manifest_behind && mailbox_guard(m, manifest_write(&m->manifest, m->dir, err), err) < 0)
                return -1;
        m->manifest_behind = false;
        mailbox_lock(m);
        if (m->failed) {
                mailbox_unlock(m);
                return 0;
        }
        if (m->options_dirty)
                index_touch(m->ix);
        state_save_blobs(m);
        snap = index_snapshot(m->ix);
        m->snapshot_out = true;
        m->records_since_checkpoint = m->bytes_since_checkpoint = 0;
        mailbox_unlock(m);

        ok = mailbox_sync_wait(m, err) == 0 && mailbox_guard(m, index_snapshot_write(snap, err), err) == 0;

        mailbox_lock(m);
        index_snapshot_finish(m->ix, &snap, ok);
        m->snapshot_out = false;
        mailbox_unlock(m);
        if (ok && m->ls)
                atomic_fetch_add(&logstore_counts(m->ls)->checkpoints, 1);
        return ok ? 0 : -1;
}

int mailbox_checkpoint(struct mailbox *m, struct err *err)
{
        int rc;

        mailbox_maintain_begin(m);
        rc = mailbox_checkpoint_inner(m, err);
        mailbox_maintain_end(m);
        return rc;
}

void segment_close_fd(struct segment *s)
{
        if (s->fd < 0)
                return;
        close(s->fd);
        s->fd = -1;
        atomic_fetch_sub(&write_fds, 1);
}

static void close_fds_locked(struct mailbox *m)
{
        for (uint32_t i = 0; i < m->segs_n && !m->syncing; i++) {
                struct segment *seg = m->segs[i];

                if (seg->durable >= seg->end)
                        segment_close_fd(seg);
        }
        if (m->mirror && !m->syncing && m->mirror->durable >= m->mirror->end)
                segment_close_fd(m->mirror);
}

void mailbox_close_fds(struct mailbox *m)
{
        mailbox_lock(m);
        close_fds_locked(m);
        mailbox_unlock(m);
}

void mailbox_shed(struct mailbox *m)
{
        mailbox_lock(m);
        if (!m->snapshot_out && !m->commits.head && m->view) {
                view_unref(&m->view);                   /* it holds blocks; a new one reads them when it is asked */
                index_shed(m->ix);
                m->view = view_create_from_index(m->ix, m->published_uidnext, m->published_modseq);
                m->view_stale = false;
        }
        mailbox_unlock(m);
}

void mailbox_maintain(struct mailbox *m, bool old)
{
        struct err err = ERR_INIT;
        bool roll, checkpoint, compact, sweep;

        mailbox_lock(m);
        if (m->maintaining) {                           /* a large copy, say: others wait for this thread too. It is asked for again */
                mailbox_unlock(m);
                return;
        }
        sweep = old && m->sweep_wanted && !m->failed;
        compact = (is_worth_compacting_locked(m) || m->retired_left) && !m->failed;
        roll = is_worth_rolling_locked(m) && !m->failed;
        checkpoint = old || m->records_since_checkpoint >= CHECKPOINT_RECORDS || m->bytes_since_checkpoint >= CHECKPOINT_BYTES;
        mailbox_unlock(m);
        mailbox_maintain_begin(m);
        if (checkpoint && mailbox_checkpoint_inner(m, &err) < 0)
                log_event(LOG_WARN, NULL, "mailbox.checkpoint", "mailbox=%s uniqueid=%s reason=\"%s\"", atomic_load(&m->name), m->uniqueid,
                          err.text);
        if (roll && mailbox_roll(m, &err) < 0)
                log_event(LOG_WARN, NULL, "mailbox.roll", "mailbox=%s uniqueid=%s reason=\"%s\"", atomic_load(&m->name), m->uniqueid,
                          err.text);
        mailbox_maintain_end(m);
        if (expunge_forget(m, &err) < 0)
                log_event(LOG_WARN, NULL, "mailbox.purge", "mailbox=%s uniqueid=%s reason=\"%s\"", atomic_load(&m->name), m->uniqueid, err.text);
        if (compact && mailbox_compact(m, &err) < 0)
                log_event(LOG_WARN, NULL, "mailbox.compact", "mailbox=%s uniqueid=%s reason=\"%s\"", atomic_load(&m->name), m->uniqueid,
                          err.text);
        if (sweep && (mailbox_sync_wait(m, &err) < 0 || blob_sweep(m, &err) < 0))
                log_event(LOG_WARN, NULL, "mailbox.sweep", "mailbox=%s uniqueid=%s reason=\"%s\"", atomic_load(&m->name), m->uniqueid,
                          err.text);
        mailbox_after(m);
}
