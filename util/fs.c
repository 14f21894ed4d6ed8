/* fs - see fs.h */
#include "util/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "util/must.h"

int (*fs_fault)(const char *call);              /* tests only */
static _Thread_local bool sync_failed;

bool fs_take_sync_failure(void)
{
        bool was = sync_failed;

        sync_failed = false;
        return was;
}

int fs_write_all(int fd, const void *p, size_t len, struct err *err)
{
        const char *at = p;

        while (len) {
                ssize_t n = fs_fails("write") ? -1 : write(fd, at, len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return err_errno(err, n < 0 ? errno : ENOSPC, "write");
                at += n;
                len -= (size_t)n;
        }
        return 0;
}

int fs_pwrite_all(int fd, const void *p, size_t len, uint64_t offset, struct err *err)
{
        const char *at = p;

        while (len) {
                ssize_t n = fs_fails("pwrite") ? -1 : pwrite(fd, at, len, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return err_errno(err, n < 0 ? errno : ENOSPC, "pwrite");
                at += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

int fs_pread_all(int fd, void *p, size_t len, uint64_t offset, struct err *err)
{
        char *at = p;

        while (len) {
                ssize_t n = pread(fd, at, len, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_errno(err, errno, "pread");
                if (n == 0)
                        return err_set(err, ERR_CORRUPT, "pread: the file ends at %llu", (unsigned long long)offset);
                at += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

int fs_datasync(int fd, const char *path_for_log, struct err *err)
{
        if (fs_fails("fdatasync") || fdatasync(fd) < 0) {
                sync_failed = true;
                return err_errno(err, errno, "fdatasync %s", path_for_log ? path_for_log : "");
        }
        return 0;
}

int fs_sync_dir(const char *dir, struct err *err)
{
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int rc = 0;

        if (fd < 0)
                return err_errno(err, errno, "open %s", dir);
        if (fs_fails("fsync") || fsync(fd) < 0) {
                sync_failed = true;
                rc = err_errno(err, errno, "fsync %s", dir);
        }
        close(fd);
        return rc;
}

static int mkdir_parents(const char *path, mode_t mode, bool durable, struct err *err)
{
        struct stat st;
        char *copy;
        int ret = -1;

        if (!*path)
                return err_errno(err, ENOENT, "mkdir");
        copy = xstrdup(path);
        for (char *slash = copy + 1;; slash++) {
                char kept = *slash;

                if (kept != '/' && kept != '\0')
                        continue;
                *slash = '\0';
                if (mkdir(copy, mode) == 0) {
                        if (durable) {
                                char *last = strrchr(copy, '/');
                                int rc;

                                if (!last) {
                                        rc = fs_sync_dir(".", err);
                                } else if (last == copy) {
                                        rc = fs_sync_dir("/", err);
                                } else {
                                        *last = '\0';
                                        rc = fs_sync_dir(copy, err);
                                        *last = '/';
                                }
                                if (rc < 0)
                                        goto out;
                        }
                } else if (errno != EEXIST) {
                        err_errno(err, errno, "mkdir %s", copy);
                        goto out;
                }
                *slash = kept;
                if (!kept)
                        break;
        }
        if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {      /* what exists need not be a directory */
                err_errno(err, ENOTDIR, "mkdir %s", path);
                goto out;
        }
        ret = 0;
out:
        free(copy);
        return ret;
}

int fs_mkdir_p(const char *path, mode_t mode, struct err *err)
{
        return mkdir_parents(path, mode, false, err);
}

int fs_mkdir_p_durable(const char *path, mode_t mode, struct err *err)
{
        return mkdir_parents(path, mode, true, err);
}

static int replace(const char *path, const void *p, size_t len, mode_t mode, bool sync_name, struct err *err)
{
        struct str tmp = STR_INIT;
        const char *slash = strrchr(path, '/');
        int fd = -1, ret = -1;

        str_printf(&tmp, "%s.new", path);
        if (unlink(tmp.data) < 0 && errno != ENOENT) {          /* a crash's leftover has a mode of its own */
                err_errno(err, errno, "unlink %s", tmp.data);
                goto out;
        }
        fd = open(tmp.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
        if (fd < 0) {
                err_errno(err, errno, "open %s", tmp.data);
                goto out;
        }
        if (fs_write_all(fd, p, len, err) < 0 || fs_datasync(fd, tmp.data, err) < 0)
                goto out;
        if (fs_fails("rename") || rename(tmp.data, path) < 0) {
                err_errno(err, errno, "rename %s", path);
                goto out;
        }
        str_clear(&tmp);                                /* nothing left to unlink */
        if (!sync_name) {
                ret = 0;
        } else if (!slash) {
                ret = fs_sync_dir(".", err);
        } else {
                struct str dir = STR_INIT;

                str_append(&dir, path, slash == path ? 1 : (size_t)(slash - path));
                ret = fs_sync_dir(dir.data, err);
                str_deinit(&dir);
        }
out:
        if (fd >= 0)
                close(fd);
        if (tmp.len && ret < 0)
                unlink(tmp.data);
        str_deinit(&tmp);
        return ret;
}

int fs_replace(const char *path, const void *p, size_t len, mode_t mode, struct err *err)
{
        return replace(path, p, len, mode, true, err);
}

int fs_replace_lazily(const char *path, const void *p, size_t len, mode_t mode, struct err *err)
{
        return replace(path, p, len, mode, false, err);
}

int fs_slurp(const char *path, size_t max, struct str *out, struct err *err)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        int ret = -1;

        if (fd < 0)
                return err_errno(err, errno, "open %s", path);
        for (size_t total = 0;;) {
                ssize_t n;

                str_reserve(out, 16384);
                n = read(fd, out->data + out->len, 16384);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        err_errno(err, errno, "read %s", path);
                        break;
                }
                if (n == 0) {
                        ret = 0;
                        break;
                }
                total += (size_t)n;
                if (total > max) {
                        err_set(err, ERR_LIMIT, "%s is larger than %zu octets", path, max);
                        break;
                }
                out->len += (size_t)n;
                out->data[out->len] = '\0';
        }
        close(fd);
        return ret;
}

static int remove_at(int parent, const char *name, dev_t dev, int depth, struct err *err)
{
        struct stat st;
        int fd, ret = 0;
        DIR *d;
        struct dirent *e;

        if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : err_errno(err, errno, "stat %s", name);
        if (!S_ISDIR(st.st_mode)) {
                if (unlinkat(parent, name, 0) < 0 && errno != ENOENT)
                        return err_errno(err, errno, "unlink %s", name);
                return 0;
        }
        if ((dev && st.st_dev != dev) || depth > 200)
                return err_set(err, ERR_IO, "%s: not removed, another file system or too deep", name);
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return err_errno(err, errno, "open %s", name);
        d = fdopendir(fd);
        if (!d) {
                close(fd);
                return err_errno(err, errno, "opendir %s", name);
        }
        while (ret == 0 && (e = readdir(d)) != NULL)
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        ret = remove_at(dirfd(d), e->d_name, st.st_dev, depth + 1, err);
        closedir(d);
        if (ret == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
                ret = err_errno(err, errno, "rmdir %s", name);
        return ret;
}

int fs_remove_tree(const char *path, struct err *err)
{
        return remove_at(AT_FDCWD, path, 0, 0, err);
}

bool fs_exists(const char *path)
{
        return access(path, F_OK) == 0;
}

bool fs_mark(const char *path, struct fs_mark *mark)
{
        struct stat st;

        memset(mark, 0, sizeof *mark);
        if (stat(path, &st) < 0)
                return false;
        mark->changed = st.st_ctim;
        mark->device = st.st_dev;
        mark->inode = st.st_ino;
        mark->size = st.st_size;
        return true;
}

static uint64_t to_kib(uint64_t blocks, const struct statvfs *v)
{
        return v->f_frsize % 1024 == 0 ? blocks * (v->f_frsize / 1024) : blocks * v->f_frsize / 1024;
}

int fs_space(const char *path, struct fs_space *space_r, struct err *err)
{
        struct statvfs v;
        uint64_t used, all;

        if (statvfs(path, &v) < 0)
                return err_errno(err, errno, "statvfs %s", path);
        used = v.f_blocks - v.f_bfree;
        all = used + v.f_bavail;
        *space_r = (struct fs_space){ to_kib(v.f_blocks, &v), to_kib(used, &v), to_kib(v.f_bavail, &v), all ? (unsigned)((used * 200 + all) / (2 * all)) : 0 };
        return 0;
}

int fs_lock_file(const char *path, int *fd_r, struct err *err)
{
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        if (fd < 0)
                return err_errno(err, errno, "open %s", path);
        if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
                int e = errno;

                close(fd);
                if (e == EAGAIN || e == EACCES)
                        return err_set(err, ERR_BUSY, "%s is locked by another process", path);
                return err_errno(err, e, "lock %s", path);
        }
        *fd_r = fd;
        return 0;
}
