/* pidfile - see pidfile.h */
#include "server/pidfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fs.h"
#include "util/must.h"

int pidfile_open(struct pidfile *p, const char *path, struct err *err)
{
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        char *real_dir;
        char pid[32] = "";

        if (!path)
                return 0;
        p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (p->fd < 0)
                return err_errno(err, errno, "pid file %s", path);
        if (fcntl(p->fd, F_OFD_SETLK, &lock) < 0) {
                ssize_t n = read(p->fd, pid, sizeof pid - 1);

                pid[n > 0 ? strspn(pid, "0123456789") : 0] = '\0';
                close(p->fd);
                p->fd = -1;
                return err_set(err, ERR_BUSY, "pid file %s: a daemon runs already%s%s", path, pid[0] ? ", process " : "", pid);
        }
        fchmod(p->fd, 0644);
        /* It is removed at the end, wherever we are then. */
        real_dir = realpath(path, NULL);
        p->path = real_dir ? real_dir : xstrdup(path);
        return 0;
}

int pidfile_write(struct pidfile *p, struct err *err)
{
        char text[32];
        int n = snprintf(text, sizeof text, "%d\n", (int)getpid());

        if (p->fd < 0)
                return 0;
        if (ftruncate(p->fd, 0) < 0)
                return err_errno(err, errno, "pid file %s", p->path);
        return fs_pwrite_all(p->fd, text, (size_t)n, 0, err);
}

void pidfile_close(struct pidfile *p)
{
        if (p->fd >= 0) {
                if (unlink(p->path) < 0 && ftruncate(p->fd, 0) < 0)
                        errno = 0;              /* a stale number is checked by whoever reads it */
                close(p->fd);
        }
        free(p->path);
        *p = (struct pidfile)PIDFILE_INIT;
}
