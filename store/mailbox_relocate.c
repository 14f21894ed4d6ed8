/*
 * mailbox_relocate - a mailbox goes to another partition, while it is read and written.
 *
 *   1  its directory is made there. Segments that are sealed, and blobs, never change: they are linked, or copied and synced. A blob that
 *      arrives from here on is placed in both directories, and none is removed.
 *   2  `maintaining`: no new segment, no checkpoint, no compaction. What is left of 1, the index, and the segment that is written are
 *      copied. From the moment that the copy of the latter has caught up – under the lock, so nothing is written meanwhile – every
 *      batch is written to both, and counts as synced when it is in both (mailbox_commit.c). Then the manifest is written there, of a
 *      higher generation than the one here.
 *   3  Whoever moves it commits to the database where it is (mboxlist_move.c). Until that is known either directory is the mailbox.
 *   4  Under the lock, in memory: the paths of the directory, the index, the segments and blobs, those that somebody is reading too. The former
 *      directory goes.
 *
 * Before 3 nothing that happens to the copy is of any consequence to the mailbox: it goes, and the moving has failed. Between 3 and 4 its failing
 * is the mailbox's. A crash leaves a directory that removals.db knows of, before and after.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/mailbox_private.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define COPY_BUFFER (256u << 10)
#define CATCH_UP_MAX (64u << 10)                /* so much may be copied under the lock … */
#define CATCH_UP_ROUNDS 8                       /* … or whatever is left after so many tries */

struct relocation {
        struct mailbox *m;
        const char *partition_dir, *dir;        /* there; both stay as long as the mailbox */
        ARRAY(uint64_t) copied;                 /* ids of segments */
        struct manifest manifest;               /* there */
        uint64_t octets;
        bool maintaining;
        bool failed;                            /* under the mailbox's lock, as is `failure` */
        struct err failure;
        char *buffer;
        bool (*stopped)(void *ctx);
        void *stopped_ctx;
};

const char *relocation_partition(const struct relocation *r)
{
        return r->partition_dir;
}

uint64_t relocation_octets(const struct relocation *r)
{
        return r->octets;
}

/* As mailbox_guarded(), for the other partition. */
#define guard(r, call, err) ((void)fs_take_sync_failure(), guarded((r), (call), (err)))
static int guarded(struct relocation *r, int rc, const struct err *err)
{
        if (fs_take_sync_failure() && rc < 0)
                store_partition_fail(r->m->store, r->partition_dir, err);
        return rc;
}

static int go_on(const struct relocation *r, struct err *err)
{
        return r->stopped && r->stopped(r->stopped_ctx) ? err_set(err, ERR_BUSY, "the server is being stopped") : 0;
}

/* ---- files ---- */

/* Octets from `from` up to `upto`, or the end, to the same place. *reached_r is where that was. */
static int copy_range(struct relocation *r, int in, int out, uint64_t from, uint64_t upto, uint64_t *reached_r, struct err *err)
{
        for (*reached_r = from; *reached_r < upto;) {
                size_t want = upto - *reached_r < COPY_BUFFER ? (size_t)(upto - *reached_r) : COPY_BUFFER;
                ssize_t n = pread(in, r->buffer, want, (off_t)*reached_r);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_errno(err, errno, "read");
                if (n == 0)
                        break;
                if (fs_pwrite_all(out, r->buffer, (size_t)n, *reached_r, err) < 0 || go_on(r, err) < 0)
                        return -1;
                *reached_r += (uint64_t)n;
        }
        return 0;
}

static int create(const char *path, int *fd_r, struct err *err)
{
        *fd_r = fs_fails("open") ? -1 : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        return *fd_r < 0 ? err_errno(err, errno, "create %s", path) : 0;
}

/* 1 copied and synced, 0 there is no such file: the mailbox is damaged, and stays as it is. Its name is not yet durable. */
static int copy_file(struct relocation *r, const char *from, const char *to, uint64_t upto, struct err *err)
{
        int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out = -1, rc;
        uint64_t reached = 0;

        if (in < 0)
                return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", from);
        rc = create(to, &out, err);
        if (rc == 0 && copy_range(r, in, out, 0, upto, &reached, err) < 0)
                rc = err_prefix(err, "copy %s to %s", from, to);
        if (rc == 0)
                rc = guard(r, fs_datasync(out, to, err), err);
        close(in);
        if (out >= 0)
                close(out);
        r->octets += reached;
        return rc < 0 ? -1 : 1;
}

static bool is_copied(const struct relocation *r, uint64_t id)
{
        for (size_t i = 0; i < r->copied.n; i++)
                if (r->copied.v[i] == id)
                        return true;
        return false;
}

/* What is on the disk of it may be in the journal of the partition that it leaves only, also when it was loaded anew since: nobody knows. */
static int sync_link(struct relocation *r, const char *path, struct err *err)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW), rc;

        if (fd < 0)
                return err_errno(err, errno, "open %s", path);
        rc = guard(r, fs_datasync(fd, path, err), err);
        close(fd);
        return rc;
}

/* One that is sealed and on disk. */
static int copy_segment(struct relocation *r, struct segment *s, struct err *err)
{
        struct str to = STR_INIT;
        int rc = 1;

        mlog_segment_path(&to, r->dir, s->info.id);
        if (!fs_fails("link") && link(file_path(s->file), to.data) == 0) {
                r->octets += s->end;
                rc = sync_link(r, to.data, err) < 0 ? -1 : 1;
        } else if (errno == ENOENT) {
                rc = 0;
        } else if (errno == EXDEV || errno == EMLINK || errno == EPERM) {
                rc = copy_file(r, file_path(s->file), to.data, s->end, err);
        } else {
                rc = err_errno(err, errno, "link %s to %s", file_path(s->file), to.data);
        }
        if (rc > 0)
                *ARRAY_PUSH(&r->copied) = s->info.id;
        str_deinit(&to);
        return rc < 0 ? -1 : 0;
}

static int copy_sealed(struct relocation *r, struct err *err) EXCLUDES(mailbox_class)
{
        struct mailbox *m = r->m;
        ARRAY(struct segment *) list = ARRAY_INIT;
        int rc = 0;

        mailbox_lock(m);
        for (uint32_t i = 0; i < m->segs_n; i++)
                if (m->segs[i]->sealed && m->segs[i] != m->active && m->segs[i]->durable >= m->segs[i]->end && !is_copied(r, m->segs[i]->info.id))
                        *ARRAY_PUSH(&list) = segment_ref(m->segs[i]);
        mailbox_unlock(m);
        for (size_t i = 0; i < list.n; i++) {
                if (rc == 0)
                        rc = go_on(r, err) < 0 ? -1 : copy_segment(r, list.v[i], err);
                segment_unref(&list.v[i]);
        }
        ARRAY_FREE(&list);
        return rc;
}

static bool is_blob(const char *name)
{
        return strncmp(name, "b.", 2) == 0 && !strchr(name + 2, '.');
}

static int copy_blobs(struct relocation *r, struct err *err)
{
        struct str from = STR_INIT, to = STR_INIT;
        DIR *d = opendir(r->m->dir);
        struct dirent *e;
        int rc = 0;

        if (!d)
                return err_errno(err, errno, "opendir %s", r->m->dir);
        while (rc == 0 && (e = readdir(d)) != NULL) {
                if (!is_blob(e->d_name))
                        continue;
                str_clear(&from);
                str_clear(&to);
                str_printf(&from, "%s/%s", r->m->dir, e->d_name);
                str_printf(&to, "%s/%s", r->dir, e->d_name);
                rc = go_on(r, err);
                if (rc == 0)
                        rc = guard(r, blob_copy(from.data, to.data, &r->octets, err), err);
        }
        closedir(d);
        str_deinit(&from);
        str_deinit(&to);
        return rc;
}

/* ---- beginning ---- */

/* A segment that the log has no more may still be read from here, by whoever had it before the mailbox went away from this partition. */
static int clear_directory(struct mailbox *m, const char *dir, struct err *err) EXCLUDES(mailbox_class)
{
        struct str path = STR_INIT;
        DIR *d = opendir(dir);
        struct dirent *e;
        int rc = 0;

        if (!d)
                return errno == ENOENT ? 0 : err_errno(err, errno, "opendir %s", dir);
        for (int i = 0; i < 2; i++) {                   /* half of it is not to be taken for a mailbox */
                str_clear(&path);
                str_printf(&path, "%s/%s", dir, i == 0 ? MANIFEST_COPY : "manifest");
                unlink(path.data);
        }
        while (rc == 0 && (e = readdir(d)) != NULL) {
                unsigned long long id;
                bool stays = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;

                if (sscanf(e->d_name, "log.%16llx", &id) == 1) {
                        mailbox_lock(m);
                        stays = !mailbox_segment(m, id);
                        mailbox_unlock(m);
                }
                str_clear(&path);
                str_printf(&path, "%s/%s", dir, e->d_name);
                if (!stays && unlink(path.data) < 0 && errno != ENOENT)
                        rc = err_errno(err, errno, "unlink %s", path.data);
        }
        closedir(d);
        str_deinit(&path);
        return rc;
}

/* By a link, or mounted a second time: what there is would be removed before it is copied. */
static int check_different(const char *here, const char *there, struct err *err)
{
        struct stat a, b;

        if (stat(here, &a) < 0)
                return err_errno(err, errno, "stat %s", here);
        if (stat(there, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
                return err_set(err, ERR_CONFIG, "%s and %s are one directory", here, there);
        return 0;
}

int relocation_begin(struct mailbox *m, const char *partition_dir, struct relocation **r_r, struct err *err)
{
        struct str dir = STR_INIT;
        struct relocation *r;
        int rc;

        mailbox_dir(&dir, partition_dir, m->uniqueid);
        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        mailbox_unlock(m);
        if (rc < 0 || check_different(m->dir, dir.data, err) < 0 || clear_directory(m, dir.data, err) < 0) {
                str_deinit(&dir);
                return -1;
        }
        *r_r = r = xcalloc(1, sizeof *r);
        r->m = m;
        r->buffer = xmalloc(COPY_BUFFER);
        manifest_init(&r->manifest, m->uniqueid);
        mailbox_lock(m);
        must(!m->relocation);
        *ARRAY_PUSH(&m->former_places) = str_take(&dir);
        r->dir = m->former_places.v[m->former_places.n - 1];
        *ARRAY_PUSH(&m->former_places) = xstrdup(partition_dir);
        r->partition_dir = m->former_places.v[m->former_places.n - 1];
        mailbox_unlock(m);
        if (guard(r, mailbox_make_dir(r->partition_dir, m->uniqueid, err), err) < 0) {
                relocation_abort(r_r, NULL);
                return -1;
        }
        mailbox_lock(m);
        m->relocation = r;
        /* Whoever began before that does not know of this directory: his blob is copied with the rest. */
        for (unsigned before = m->relocations++ % 2; m->placing[before];)
                cond_wait(&m->placed, &m->lock);
        mailbox_unlock(m);
        return 0;
}

int relocation_copy(struct relocation *r, bool (*stopped)(void *ctx), void *ctx, struct err *err)
{
        r->stopped = stopped;
        r->stopped_ctx = ctx;
        return copy_sealed(r, err) < 0 || copy_blobs(r, err) < 0 ? -1 : 0;
}

/* ---- blobs that arrive meanwhile ---- */

void relocation_placing(struct mailbox *m, struct blob_places *places_r)
{
        mailbox_lock(m);
        *places_r = (struct blob_places){ m->partition_dir, m->dir, m->relocation ? m->relocation->dir : NULL, m->relocations };
        m->placing[m->relocations % 2]++;
        mailbox_unlock(m);
}

void relocation_placed(struct mailbox *m, const struct blob_places *places)
{
        mailbox_lock(m);
        if (--m->placing[places->relocations % 2] == 0)
                cond_broadcast(&m->placed);
        mailbox_unlock(m);
}

int relocation_blob_failed(struct mailbox *m, const struct blob_places *places, const struct err *err, bool sync_failed)
{
        const char *partition = NULL;
        int rc = 0;

        mailbox_lock(m);
        if (m->relocation && m->relocation->dir == places->also) {
                partition = m->relocation->partition_dir;
                if (m->mirror_counts)
                        rc = -1;
                else
                        relocation_failed_locked(m, err);
        } else if (strcmp(m->dir, places->also) == 0) {         /* it is the mailbox's directory by now */
                partition = m->partition_dir;
                rc = -1;
        }
        mailbox_unlock(m);
        if (sync_failed && partition)
                store_partition_fail(m->store, partition, err);
        return rc;
}

/* ---- both at a time ---- */

int relocation_write_locked(struct mailbox *m, const struct iovec *iov, int n, struct err *err)
{
        struct iovec own[2] = { iov[0], n > 1 ? iov[1] : iov[0] };
        struct err why = ERR_INIT;

        must(n <= 2 && m->mirror->end == m->active->end);
        if (segment_write(m->mirror, own, n, m->mirror->end, &why) == 0)
                return 0;
        if (m->mirror_counts) {
                err_copy(err, &why);
                return -1;
        }
        relocation_failed_locked(m, &why);
        return 0;
}

void relocation_failed_locked(struct mailbox *m, const struct err *err)
{
        struct relocation *r = m->relocation;

        must(!m->mirror_counts);
        if (!r->failed)
                err_copy(&r->failure, err);
        r->failed = true;
        segment_unref(&m->mirror);
}

/* The copy of the segment that is written, up to where it is now; it becomes the mirror when it has caught up. */
static int copy_active(struct relocation *r, struct err *err) EXCLUDES(mailbox_class)
{
        struct mailbox *m = r->m;
        struct segment *s, *from;
        struct str path = STR_INIT;
        uint64_t upto, at = 0;
        int in = -1, fd = -1, rc;

        mailbox_lock(m);
        from = segment_ref(m->active);
        mailbox_unlock(m);
        mlog_segment_path(&path, r->dir, from->info.id);
        s = xcalloc(1, sizeof *s);
        atomic_init(&s->refs, 1);
        s->info = from->info;
        s->kind = from->kind;
        s->fd = -1;
        s->file = file_create(path.data);
        rc = create(path.data, &fd, err);
        if (rc == 0) {
                segment_set_fd(s, fd);
                rc = file_acquire_fd(from->file, &in, err);
        }
        for (int round = 0; rc == 0; round++) {
                mailbox_lock(m);
                upto = m->active->end;
                if (upto - at <= CATCH_UP_MAX || round == CATCH_UP_ROUNDS) {
                        rc = copy_range(r, in, fd, at, upto, &at, err);
                        if (rc == 0 && at != upto)
                                rc = err_set(err, ERR_CORRUPT, "%s is shorter than what was written to it", file_path(from->file));
                        s->end = s->allocated = at;
                        if (rc == 0 && !r->failed)
                                m->mirror = segment_ref(s);
                        mailbox_unlock(m);
                        break;
                }
                mailbox_unlock(m);
                rc = copy_range(r, in, fd, at, upto, &at, err);
                if (rc == 0 && at != upto)
                        rc = err_set(err, ERR_CORRUPT, "%s is shorter than what was written to it", file_path(from->file));
        }
        if (in >= 0)
                file_release_fd(from->file);
        if (rc == 0)
                *ARRAY_PUSH(&r->copied) = s->info.id;
        r->octets += at;
        segment_unref(&s);
        segment_unref(&from);
        str_deinit(&path);
        return rc;
}

/* All that is in the mirror now is on disk. */
static int sync_mirror(struct relocation *r, struct err *err) EXCLUDES(mailbox_class)
{
        struct mailbox *m = r->m;
        uint64_t end = 0;

        for (bool first = true;; first = false) {
                bool done;

                mailbox_lock(m);
                if (first && m->mirror)
                        end = m->mirror->end;
                done = r->failed || m->failed || m->mirror->durable >= end;
                if (r->failed || m->failed)
                        err_copy(err, r->failed ? &r->failure : &m->failure);
                mailbox_unlock(m);
                if (done)
                        return err->code ? -1 : 0;
                mailbox_sync(m);
        }
}

/* Segments that were compacted away while others were copied. */
static void remove_unlisted(struct relocation *r)
{
        struct str path = STR_INIT;

        for (size_t i = 0; i < r->copied.n; i++) {
                if (manifest_find(&r->manifest, r->copied.v[i]) >= 0)
                        continue;
                str_clear(&path);
                mlog_segment_path(&path, r->dir, r->copied.v[i]);
                unlink(path.data);
        }
        str_deinit(&path);
}

/* Is anything of the log here that is not there? It cannot be. */
static bool is_incomplete(struct relocation *r, struct err *err)
{
        struct str path = STR_INIT;
        bool yes = false;

        for (uint32_t i = 0; i < r->manifest.n && !yes; i++) {
                const struct manifest_entry *e = &r->manifest.entries[i];

                str_clear(&path);
                mlog_segment_path(&path, r->m->dir, e->id);
                yes = e->kind != MLOG_RETIRED && !is_copied(r, e->id) && fs_exists(path.data);
        }
        if (yes)
                err_set(err, ERR_BUSY, "%s could not be copied", path.data);
        str_deinit(&path);
        return yes;
}

static int list(struct relocation *r, struct err *err) EXCLUDES(mailbox_class)
{
        struct mailbox *m = r->m;

        mailbox_lock(m);
        manifest_deinit(&r->manifest);
        manifest_copy(&r->manifest, &m->manifest);
        mailbox_seal_entries_locked(m, &r->manifest);
        mailbox_unlock(m);
        remove_unlisted(r);
        if (is_incomplete(r, err))
                return -1;
        /* All names in the directory are durable with this one. */
        return guard(r, manifest_write(&r->manifest, r->dir, err), err);
}

int relocation_join(struct relocation *r, bool (*stopped)(void *ctx), void *ctx, struct err *err)
{
        struct mailbox *m = r->m;
        struct str index = STR_INIT;
        int rc;

        r->stopped = stopped;
        r->stopped_ctx = ctx;
        mailbox_maintain_begin(m);
        r->maintaining = true;
        rc = mailbox_begin_next(m, err);                /* what was prepared would be gone on in: not while there is a mirror */
        if (rc == 0)
                rc = relocation_copy(r, stopped, ctx, err);
        str_printf(&index, "%s/index", r->dir);
        if (rc == 0)
                rc = copy_file(r, m->index_path, index.data, UINT64_MAX, err) < 0 ? -1 : 0;
        str_deinit(&index);
        if (rc == 0)
                rc = copy_active(r, err);
        if (rc == 0)
                rc = sync_mirror(r, err);
        return rc == 0 ? list(r, err) : -1;
}

int relocation_decide(struct relocation *r, struct err *err)
{
        struct mailbox *m = r->m;
        int rc;

        mailbox_lock(m);
        rc = mailbox_writable_locked(m, err);
        if (rc == 0 && r->failed) {
                err_copy(err, &r->failure);
                rc = -1;
        }
        m->mirror_counts = rc == 0;
        mailbox_unlock(m);
        return rc;
}

/* ---- the end ---- */

static void free_relocation(struct relocation **r_p)
{
        struct relocation *r = *r_p;

        *r_p = NULL;
        ARRAY_FREE(&r->copied);
        manifest_deinit(&r->manifest);
        free(r->buffer);
        free(r);
}

/* The files' own paths, for those that have them open and those that will. */
static void move_files_locked(struct mailbox *m, const char *dir) REQUIRES(m->lock, mailbox_class);
static void move_files_locked(struct mailbox *m, const char *dir)
{
        struct str path = STR_INIT;
        struct span key;
        void *value;

        for (uint32_t i = 0; i < m->segs_n; i++) {
                struct segment *s = m->segs[i];

                str_clear(&path);
                mlog_segment_path(&path, dir, s->info.id);
                file_move(s->file, path.data);
                segment_close_fd(s);
                s->journal_lap = 0;                     /* it is another file, which no journal has a descriptor of */
        }
        for (size_t pos = 0; table_next(m->blobs, &pos, &key, &value);) {
                str_clear(&path);
                str_printf(&path, "%s/%.*s", dir, (int)key.len, key.p);
                file_move(((struct blob_file *)value)->file, path.data);
        }
        str_deinit(&path);
}

void relocation_finish(struct relocation **r_p)
{
        struct relocation *r = *r_p;
        struct mailbox *m = r->m;
        struct segment *s;

        mailbox_lock(m);
        while (m->syncing)                              /* the descriptors are in use */
                cond_wait(&m->synced, &m->lock);
        must(m->mirror && m->mirror_counts && !m->next_active && !m->snapshot_out);
        move_files_locked(m, r->dir);
        s = m->active;
        s->fd = m->mirror->fd;
        m->mirror->fd = -1;
        s->allocated = m->mirror->allocated;
        if (m->mirror->durable < s->durable)
                s->durable = m->mirror->durable;
        segment_unref(&m->mirror);
        m->mirror_counts = false;
        m->relocation = NULL;
        mailbox_set_place(m, r->partition_dir);
        index_move(m->ix, m->index_path);
        manifest_deinit(&m->manifest);
        m->manifest = r->manifest;
        manifest_init(&r->manifest, m->uniqueid);
        m->manifest_behind = false;
        mailbox_unlock(m);
        mailbox_maintain_end(m);
        mailbox_after(m);
        log_event(LOG_INFORM, NULL, "mailbox.relocated", "mailbox=%s uniqueid=%s partition=%s octets=%llu", atomic_load(&m->name), m->uniqueid,
                  r->partition_dir, (unsigned long long)r->octets);
        free_relocation(r_p);
}

void relocation_abort(struct relocation **r_p, const struct err *in_doubt)
{
        struct relocation *r = *r_p;
        struct mailbox *m = r->m;
        struct err err = ERR_INIT;

        mailbox_lock(m);
        if (in_doubt && !m->failed)
                mailbox_fail_locked(m, in_doubt, false);
        segment_unref(&m->mirror);
        m->mirror_counts = false;
        m->relocation = NULL;
        mailbox_unlock(m);
        if (r->maintaining)
                mailbox_maintain_end(m);
        mailbox_after(m);
        if (!in_doubt && fs_remove_tree(r->dir, &err) < 0)
                log_event(LOG_WARN, NULL, "mailbox.remove", "path=%s reason=\"%s\"", r->dir, err.text);
        free_relocation(r_p);
}

/* Of an open mailbox: all but segments that its log has no more. They go when the last reader does. */
static bool remove_files(struct mailbox *m, const char *dir, struct err *err) EXCLUDES(mailbox_class)
{
        return clear_directory(m, dir, err) == 0 && (rmdir(dir) == 0 || errno == ENOENT);
}

bool relocation_is_gone(const char *partition_dir, const char *uniqueid, struct err *err)
{
        struct str dir = STR_INIT;
        bool gone;

        mailbox_dir(&dir, partition_dir, uniqueid);
        gone = !fs_exists(dir.data);
        if (gone) {
                str_truncate(&dir, (size_t)(strrchr(dir.data, '/') - dir.data));
                gone = !fs_exists(dir.data) || fs_sync_dir(dir.data, err) == 0;
        }
        str_deinit(&dir);
        return gone;
}

bool relocation_remove_old(struct store *store, const char *uniqueid, const char *partition_dir)
{
        struct logstore *ls = store_logstore(store);            /* NULL: the store is being closed, and no mailbox is open any more */
        struct mailbox *m;
        struct str dir = STR_INIT;
        struct err err = ERR_INIT;
        bool gone;

        if (ls && logstore_is_looked_at(ls))
                return false;
        mailbox_dir(&dir, partition_dir, uniqueid);
        m = ls ? mailbox_find_open(store, uniqueid) : NULL;
        if (m) {
                must(strcmp(m->dir, dir.data) != 0 && !m->relocation);
                gone = remove_files(m, dir.data, &err);
                mailbox_unref(&m);
        } else {
                gone = fs_remove_tree(dir.data, &err) == 0;
        }
        gone = gone && relocation_is_gone(partition_dir, uniqueid, &err);
        if (err.code)
                log_event(LOG_WARN, NULL, "mailbox.remove", "path=%s reason=\"%s\"", dir.data, err.text);
        str_deinit(&dir);
        return gone;
}

/* How far its log goes. 0: nobody knows, or a segment is not there. */
static uint64_t log_reaches(const struct manifest *manifest, const char *dir, const char *uniqueid)
{
        struct str path = STR_INIT;
        struct manifest_entry e;
        uint64_t seq = 0;
        bool complete = true;

        for (uint32_t i = 0; i < manifest->n && complete; i++) {
                str_clear(&path);
                mlog_segment_path(&path, dir, manifest->entries[i].id);
                complete = manifest->entries[i].kind == MLOG_RETIRED || fs_exists(path.data);
        }
        for (uint32_t i = manifest->n; i-- > 0 && complete && seq == 0;)
                if (manifest->entries[i].kind == MLOG_MAIN && segment_entry_of_file(dir, uniqueid, manifest->entries[i].id, &e) == 0)
                        seq = e.seq;
        str_deinit(&path);
        return complete ? seq : 0;
}

static uint64_t count_blobs(const char *dir)
{
        DIR *d = opendir(dir);
        struct dirent *e;
        uint64_t n = 0;

        while (d && (e = readdir(d)) != NULL)
                n += is_blob(e->d_name);
        if (d)
                closedir(d);
        return n;
}

bool relocation_look(const char *partition_dir, const char *uniqueid, struct relocation_found *found_r)
{
        struct str dir = STR_INIT;
        struct manifest manifest;
        bool there;

        *found_r = (struct relocation_found){ 0 };
        mailbox_dir(&dir, partition_dir, uniqueid);
        there = fs_exists(dir.data);
        if (there && manifest_read(&manifest, dir.data, uniqueid, NULL) == 0) {
                found_r->generation = manifest.generation;
                found_r->seq = log_reaches(&manifest, dir.data, uniqueid);
                found_r->blobs = count_blobs(dir.data);
                manifest_deinit(&manifest);
        }
        str_deinit(&dir);
        return there;
}
