/*
 * file - see file.h.
 * One list, under one lock, of files that have a descriptor of their own to give up, least recently used first. A file leaves
 * the list while somebody uses its descriptor (`users` > 0), so shedding never closes under a reader.
 */
#include "util/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "util/array.h"
#include "util/fs.h"
#include "util/lock.h"
#include "util/must.h"

struct file {
        _Atomic(char *) path;                   /* NULL only with a given descriptor; written under shed.lock */
        ARRAY(char *) former;                   /* under shed.lock: paths that it had, which somebody may be looking at */
        atomic_uint_fast32_t refs;
        bool given;                             /* immutable: the descriptor was given, and stays */
        atomic_bool unlink_last;
        int fd;                                 /* under shed.lock unless `given`; -1: closed */
        unsigned users;                         /* under shed.lock: between acquire and release */
        struct file *prev, *next;               /* under shed.lock: in the list when fd >= 0, users == 0, !given */
};


static struct {                                 /* the process's descriptors are one resource */
        struct mutex lock;
        struct file *oldest, *newest;
        unsigned listed;
} shed = { .lock = MUTEX_INIT };

static void list_remove_locked(struct file *f)
{
        if (f->prev)
                f->prev->next = f->next;
        else
                shed.oldest = f->next;
        if (f->next)
                f->next->prev = f->prev;
        else
                shed.newest = f->prev;
        f->prev = f->next = NULL;
        shed.listed--;
}

static void list_add_locked(struct file *f)
{
        f->prev = shed.newest;
        f->next = NULL;
        if (shed.newest)
                shed.newest->next = f;
        else
                shed.oldest = f;
        shed.newest = f;
        shed.listed++;
}

struct file *file_create(const char *path)
{
        struct file *f = xcalloc(1, sizeof *f);

        f->path = xstrdup(path);
        atomic_init(&f->refs, 1);
        f->fd = -1;
        return f;
}

struct file *file_from_fd(int fd, const char *path)
{
        struct file *f = xcalloc(1, sizeof *f);

        f->path = path ? xstrdup(path) : NULL;
        atomic_init(&f->refs, 1);
        f->fd = fd;
        f->given = true;
        return f;
}

struct file *file_ref(struct file *f)
{
        must(atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed) > 0);
        return f;
}

void file_unref(struct file **fp)
{
        struct file *f = *fp;

        *fp = NULL;
        if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
                return;
        mutex_lock(&shed.lock);
        must(f->users == 0);
        if (!f->given && f->fd >= 0)
                list_remove_locked(f);
        mutex_unlock(&shed.lock);
        if (f->fd >= 0)
                close(f->fd);
        if (atomic_load(&f->unlink_last) && f->path)
                unlink(f->path);
        free(f->path);
        for (size_t i = 0; i < f->former.n; i++)
                free(f->former.v[i]);
        ARRAY_FREE(&f->former);
        free(f);
}

void file_unlink_last(struct file *f)
{
        atomic_store(&f->unlink_last, true);
}

bool file_is_shared(const struct file *f)
{
        return atomic_load_explicit(&((struct file *)(uintptr_t)f)->refs, memory_order_acquire) > 1;
}

const char *file_path(const struct file *f)
{
        const char *path = f->path;

        return path ? path : "(unnamed)";
}

static void close_idle_locked(struct file *f)
{
        list_remove_locked(f);
        close(f->fd);
        f->fd = -1;
}

void file_move(struct file *f, const char *path)
{
        must(!f->given);
        mutex_lock(&shed.lock);
        *ARRAY_PUSH(&f->former) = atomic_exchange(&f->path, xstrdup(path));
        if (f->fd >= 0 && f->users == 0) {
                close_idle_locked(f);
        } else if (f->fd >= 0) {
                int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

                if (fd >= 0) {                          /* should that fail, the old file is read until its user is done */
                        (void)dup3(fd, f->fd, O_CLOEXEC);
                        close(fd);
                }
        }
        mutex_unlock(&shed.lock);
}

int file_acquire_fd(struct file *f, int *fd_r, struct err *err)
{
        int rc = 0;

        if (f->given) {
                *fd_r = f->fd;
                return 0;
        }
        mutex_lock(&shed.lock);
        if (f->fd < 0) {
                f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
                if (f->fd < 0 && errno == EMFILE && shed.oldest) {
                        close_idle_locked(shed.oldest);
                        f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
                }
                if (f->fd < 0)
                        rc = err_errno(err, errno, "open %s", f->path);
        } else if (f->users == 0) {
                list_remove_locked(f);
        }
        if (rc == 0) {
                f->users++;
                *fd_r = f->fd;
        }
        mutex_unlock(&shed.lock);
        return rc;
}

void file_release_fd(struct file *f)
{
        if (f->given)
                return;
        mutex_lock(&shed.lock);
        must(f->users > 0);
        if (--f->users == 0)
                list_add_locked(f);
        mutex_unlock(&shed.lock);
}

int file_read(struct file *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        int fd, rc;

        if (file_acquire_fd(f, &fd, err) < 0)
                return -1;
        rc = fs_pread_all(fd, buf, len, offset, err);
        file_release_fd(f);
        if (rc < 0)
                err_prefix(err, "%s", file_path(f));
        return rc;
}

void file_shed(unsigned keep)
{
        mutex_lock(&shed.lock);
        while (shed.listed > keep)
                close_idle_locked(shed.oldest);
        mutex_unlock(&shed.lock);
}
