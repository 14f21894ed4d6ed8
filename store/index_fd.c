/*
 * index_fd - the descriptors of index files. Thousands of idle sessions, each in a mailbox of its own, must not keep as many: files
 * that nobody uses at the moment stand in one list, least recently used first, and beyond FDS_KEPT of them the oldest are closed. One that
 * is needed again is opened by its path and must be the same file. A file that is still to be renamed to its path, or was replaced
 * there, cannot be opened again and stays open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/index_private.h"
#include "util/file.h"
#include "util/fs.h"
#include "util/must.h"

#define FDS_KEPT 256u
#define FILES_KEPT 64                           /* files that others keep open when we run out of descriptors */

static struct {                                 /* the process's descriptors are one resource */
        struct mutex lock;                      /* a leaf, but for file_shed()'s own */
        struct index_file *oldest, *newest;
        unsigned listed;
} fds = { .lock = MUTEX_INIT };

static void unlist_locked(struct index_file *f)
{
        if (!f->listed)
                return;
        if (f->prev)
                f->prev->next = f->next;
        else
                fds.oldest = f->next;
        if (f->next)
                f->next->prev = f->prev;
        else
                fds.newest = f->prev;
        f->prev = f->next = NULL;
        f->listed = false;
        fds.listed--;
}

static void list_locked(struct index_file *f)
{
        f->listed = true;
        f->prev = fds.newest;
        f->next = NULL;
        if (fds.newest)
                fds.newest->next = f;
        else
                fds.oldest = f;
        fds.newest = f;
        fds.listed++;
}

static void close_locked(struct index_file *f)
{
        unlist_locked(f);
        close(f->fd);
        f->fd = -1;
}

static void shed_locked(unsigned keep)
{
        while (fds.listed > keep)
                close_locked(fds.oldest);
}

void index_fds_shed(unsigned keep)
{
        mutex_lock(&fds.lock);
        shed_locked(keep);
        mutex_unlock(&fds.lock);
}

struct index_file *index_file_new(const char *path, int fd)
{
        struct index_file *f = xcalloc(1, sizeof *f);

        atomic_init(&f->refs, 1);
        mutex_init(&f->lock);
        f->path = xstrdup(path);
        f->fd = fd;
        f->users = 1;
        f->end = INDEX_HEADER_PAGES;
        return f;
}

struct index_file *index_file_ref(struct index_file *f)
{
        atomic_fetch_add_explicit(&f->refs, 1, memory_order_relaxed);
        return f;
}

void index_file_unref(struct index_file **f_p)
{
        struct index_file *f = *f_p;

        *f_p = NULL;
        if (!f || atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel) != 1)
                return;
        mutex_lock(&fds.lock);
        unlist_locked(f);
        mutex_unlock(&fds.lock);
        if (f->fd >= 0)
                close(f->fd);
        ARRAY_FREE(&f->free);
        mutex_deinit(&f->lock);
        free(f->path);
        free(f);
}

/* Tools that only look may not be allowed to write. */
int index_file_open(const char *path)
{
        int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

        return fd >= 0 || (errno != EACCES && errno != EROFS) ? fd : open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static int open_locked(struct index_file *f, struct err *err)
{
        struct stat st;
        int fd;

        if (f->fd >= 0)
                return 0;
        fd = index_file_open(f->path);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
                shed_locked(0);
                file_shed(FILES_KEPT);
                fd = index_file_open(f->path);
        }
        if (fd < 0)
                return err_errno(err, errno, "open %s", f->path);
        if (fstat(fd, &st) < 0 || st.st_dev != f->dev || st.st_ino != f->ino) {
                close(fd);
                return err_set(err, ERR_IO, "%s: was replaced by another file", f->path);
        }
        f->fd = fd;
        return 0;
}

/*
 * Whoever is reading by the descriptor goes on: it leads to the new file from one moment to the next. It may not stay with the old one,
 * since the next checkpoint writes to it; so when the new one cannot be opened, the readers' end is waited for, who never wait long.
 */
void index_file_move(struct index_file *f, const char *path)
{
        struct stat st;
        bool moved = false;

        mutex_lock(&fds.lock);
        free(f->path);
        f->path = xstrdup(path);
        f->ino = 0;                                     /* if there is nothing: of no file */
        if (stat(path, &st) == 0) {
                f->dev = st.st_dev;
                f->ino = st.st_ino;
        }
        while (!moved) {
                int fd = -1;

                moved = f->fd < 0 || f->users == 0;
                if (moved && f->fd >= 0)
                        close_locked(f);
                if (!moved && (fd = index_file_open(path)) >= 0) {
                        moved = dup3(fd, f->fd, O_CLOEXEC) >= 0;
                        close(fd);
                }
                if (!moved) {
                        mutex_unlock(&fds.lock);
                        usleep(1000);
                        mutex_lock(&fds.lock);
                }
        }
        mutex_unlock(&fds.lock);
}

int index_file_use(struct index_file *f, int *fd_r, struct err *err)
{
        int rc;

        mutex_lock(&fds.lock);
        rc = open_locked(f, err);
        if (rc == 0) {
                unlist_locked(f);
                f->users++;
                *fd_r = f->fd;
        }
        mutex_unlock(&fds.lock);
        return rc;
}

void index_file_release(struct index_file *f)
{
        mutex_lock(&fds.lock);
        must(f->users > 0);
        if (--f->users == 0 && !f->superseded)
                list_locked(f);
        shed_locked(FDS_KEPT);
        mutex_unlock(&fds.lock);
}

int index_file_read(struct index_file *f, void *buf, size_t len, uint64_t offset, struct err *err)
{
        int fd = -1, rc;

        if (index_file_use(f, &fd, err) < 0)
                return -1;
        rc = fs_pread_all(fd, buf, len, offset, err);
        index_file_release(f);
        return rc;
}

void index_file_shed(struct index_file *f)
{
        mutex_lock(&fds.lock);
        if (f->listed)
                close_locked(f);
        mutex_unlock(&fds.lock);
}

/* Should it not open, what is still in this file is lost to its readers, who then repair it from the log. */
void index_file_supersede(struct index_file *f)
{
        mutex_lock(&fds.lock);
        (void)open_locked(f, NULL);
        unlist_locked(f);
        f->superseded = true;
        mutex_unlock(&fds.lock);
}
