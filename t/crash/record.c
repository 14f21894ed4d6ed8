/*
 * record - preloaded into a program (LD_PRELOAD), logs each change of a file or directory below $CRASH_ROOT to $CRASH_LOG, in order.
 *
 * A change is made and logged under one lock, so the log's order is the order of effects. A sync is logged twice, outside of the lock:
 * what was written before it began is on the disk when it has returned, what is written meanwhile may be or not.
 */
#include "t/crash/record.h"

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define INDEX_HEADERS 8192              /* octets at the beginning of an index: its two headers */
#define FRAMES_MAX 24                           /* Berkeley DB's own are many */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char root[PATH_MAX];
static size_t root_len;
static uint32_t sync_number;

#define REAL(name) \
        static __typeof__(name) *real; \
        if (!real) \
                real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void start(void)
{
        const char *r = getenv("CRASH_ROOT"), *l = getenv("CRASH_LOG");
        void *warm[4];

        backtrace(warm, 4);                             /* loads libgcc now, not under the lock */
        if (!r || !l || !realpath(r, root))
                return;
        root_len = strlen(root);
        log_fd = open(l, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static uint64_t now_us(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* With $CRASH_SITES: a line for each place that syncs, its hash and its callers, for `addr2line`. */
static void tell_site(uint32_t h, void **frames, int n)
{
        static uint32_t told[1024];
        const char *path = getenv("CRASH_SITES");
        static int count;
        FILE *f;

        for (int i = 0; i < count; i++)
                if (told[i] == h)
                        return;
        if (!path || count == 1024 || !(f = fopen(path, "a")))
                return;
        told[count++] = h;
        fprintf(f, "%08x", h);
        for (int i = 2; i < n; i++) {
                Dl_info info;

                if (dladdr(frames[i], &info) && info.dli_fbase)
                        fprintf(f, " %s+%#lx", info.dli_fname, (unsigned long)((char *)frames[i] - (char *)info.dli_fbase));
        }
        fputc('\n', f);
        fclose(f);
}

/* The caller's place, the same in each run: addresses relative to their object's base. */
static uint32_t call_site(void)
{
        void *frames[FRAMES_MAX];
        int n = backtrace(frames, FRAMES_MAX);
        uint32_t h = 2166136261u;

        for (int i = 2; i < n; i++) {
                Dl_info info;
                uintptr_t rel = (uintptr_t)frames[i];

                if (dladdr(frames[i], &info) && info.dli_fbase)
                        rel -= (uintptr_t)info.dli_fbase;
                for (size_t b = 0; b < sizeof rel; b++)
                        h = (h ^ (rel >> (8 * b) & 0xff)) * 16777619u;
        }
        tell_site(h, frames, n);
        return h;
}

static void put(struct rec *r, const char *path, const char *path2, const void *data)
{
        struct iovec iov[4];

        r->path_len = path ? (uint16_t)strlen(path) : 0;
        r->path2_len = path2 ? (uint16_t)strlen(path2) : 0;
        r->time_us = now_us();
        iov[0] = (struct iovec){ r, sizeof *r };
        iov[1] = (struct iovec){ (void *)path, r->path_len };
        iov[2] = (struct iovec){ (void *)path2, r->path2_len };
        iov[3] = (struct iovec){ (void *)data, r->data_len };
        {
                REAL(writev);
                ssize_t want = (ssize_t)(sizeof *r + r->path_len + r->path2_len + r->data_len);

                if (real(log_fd, iov, 4) != want)
                        abort();
        }
}

/* The path relative to the root; false when it is elsewhere. */
static bool below_root(int dirfd, const char *path, char out[PATH_MAX])
{
        char full[PATH_MAX * 2], *p;

        if (log_fd < 0 || !path)
                return false;
        if (path[0] == '/') {
                snprintf(full, sizeof full, "%s", path);
        } else {
                char base[PATH_MAX];

                if (dirfd == AT_FDCWD) {
                        if (!getcwd(base, sizeof base))
                                return false;
                } else {
                        char link[64];
                        ssize_t n;

                        snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
                        n = readlink(link, base, sizeof base - 1);
                        if (n < 0)
                                return false;
                        base[n] = '\0';
                }
                snprintf(full, sizeof full, "%s/%s", base, path);
        }
        while ((p = strstr(full, "//")))
                memmove(p, p + 1, strlen(p));
        p = full + strlen(full);
        while (p > full + 1 && p[-1] == '/')
                *--p = '\0';
        if (strncmp(full, root, root_len) != 0 || (full[root_len] != '/' && full[root_len] != '\0'))
                return false;
        snprintf(out, PATH_MAX, "%s", full[root_len] ? full + root_len + 1 : ".");
        return true;
}

static bool fd_path(int fd, char out[PATH_MAX], struct stat *st)
{
        char link[64], path[PATH_MAX];
        ssize_t n;
        int saved = errno;
        bool ok;

        if (log_fd < 0 || fd < 0 || fd == log_fd || fstat(fd, st) < 0 || !(S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))) {
                errno = saved;
                return false;
        }
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
        ok = n > 0 && below_root(AT_FDCWD, path, out);
        errno = saved;
        return ok;
}

static int do_open(int dirfd, const char *path, int flags, mode_t mode)
{
        REAL(openat);
        char rel[PATH_MAX];
        struct stat st;
        bool there;
        int fd;

        if (!(flags & (O_CREAT | O_TRUNC)) || !below_root(dirfd, path, rel))
                return real(dirfd, path, flags, mode);
        pthread_mutex_lock(&lock);
        there = fstatat(dirfd, path, &st, 0) == 0;
        fd = real(dirfd, path, flags, mode);
        if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
                struct rec r = { .type = REC_CREATE, .ino = st.st_ino };

                if (!there)
                        put(&r, rel, NULL, NULL);
                else if (flags & O_TRUNC) {
                        r.type = REC_TRUNCATE;
                        put(&r, NULL, NULL, NULL);
                }
        }
        pthread_mutex_unlock(&lock);
        return fd;
}

#define OPEN_BODY(dirfd) \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
                va_list ap; \
                va_start(ap, flags); \
                mode = va_arg(ap, mode_t); \
                va_end(ap); \
        } \
        return do_open(dirfd, path, flags, mode)

int open(const char *path, int flags, ...) { OPEN_BODY(AT_FDCWD); }
int open64(const char *path, int flags, ...) { OPEN_BODY(AT_FDCWD); }
int openat(int dirfd, const char *path, int flags, ...) { OPEN_BODY(dirfd); }
int openat64(int dirfd, const char *path, int flags, ...) { OPEN_BODY(dirfd); }

static void log_write(int fd, struct stat *st, const void *p, ssize_t n, uint64_t offset)
{
        struct rec r = { .type = REC_WRITE, .ino = st->st_ino, .offset = offset, .data_len = (uint32_t)n };

        (void)fd;
        if (n > 0)
                put(&r, NULL, NULL, p);
}

ssize_t write(int fd, const void *p, size_t len)
{
        REAL(write);
        char rel[PATH_MAX];
        struct stat st;
        ssize_t n;
        off_t at;

        if (!fd_path(fd, rel, &st))
                return real(fd, p, len);
        pthread_mutex_lock(&lock);
        at = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
        n = real(fd, p, len);
        log_write(fd, &st, p, n, (uint64_t)at);
        pthread_mutex_unlock(&lock);
        return n;
}

static bool stop_at_header;

void crash_stop_at_header(void)
{
        pthread_mutex_lock(&lock);
        stop_at_header = true;
        pthread_mutex_unlock(&lock);
}

static bool ends_in(const char *path, const char *end)
{
        return strlen(path) >= strlen(end) && strcmp(path + strlen(path) - strlen(end), end) == 0;
}

static ssize_t do_pwrite(int fd, const void *p, size_t len, off_t at)
{
        REAL(pwrite);
        char rel[PATH_MAX];
        struct stat st;
        ssize_t n;

        if (!fd_path(fd, rel, &st))
                return real(fd, p, len, at);
        pthread_mutex_lock(&lock);
        n = real(fd, p, len, at);
        log_write(fd, &st, p, n, (uint64_t)at);
        if (stop_at_header && at < INDEX_HEADERS && ends_in(rel, "/index"))
                _exit(0);
        pthread_mutex_unlock(&lock);
        return n;
}

ssize_t pwrite(int fd, const void *p, size_t len, off_t at) { return do_pwrite(fd, p, len, at); }
ssize_t pwrite64(int fd, const void *p, size_t len, off64_t at) { return do_pwrite(fd, p, len, at); }

static ssize_t do_pwritev(int fd, const struct iovec *iov, int cnt, off_t at)
{
        size_t total = 0;
        char *flat, *o;
        ssize_t n;

        for (int i = 0; i < cnt; i++)
                total += iov[i].iov_len;
        o = flat = malloc(total + 1);
        for (int i = 0; i < cnt; i++) {
                memcpy(o, iov[i].iov_base, iov[i].iov_len);
                o += iov[i].iov_len;
        }
        n = at < 0 ? write(fd, flat, total) : do_pwrite(fd, flat, total, at);
        free(flat);
        return n;
}

ssize_t writev(int fd, const struct iovec *iov, int cnt)
{
        REAL(writev);
        char rel[PATH_MAX];
        struct stat st;

        return fd_path(fd, rel, &st) ? do_pwritev(fd, iov, cnt, -1) : real(fd, iov, cnt);
}

ssize_t pwritev(int fd, const struct iovec *iov, int cnt, off_t at)
{
        REAL(pwritev);
        char rel[PATH_MAX];
        struct stat st;

        return fd_path(fd, rel, &st) ? do_pwritev(fd, iov, cnt, at) : real(fd, iov, cnt, at);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int cnt, off64_t at) { return pwritev(fd, iov, cnt, at); }

static int do_truncate(int fd, off_t size)
{
        REAL(ftruncate);
        char rel[PATH_MAX];
        struct stat st;
        int rc;

        if (!fd_path(fd, rel, &st))
                return real(fd, size);
        pthread_mutex_lock(&lock);
        rc = real(fd, size);
        if (rc == 0) {
                struct rec r = { .type = REC_TRUNCATE, .ino = st.st_ino, .offset = (uint64_t)size };

                put(&r, NULL, NULL, NULL);
        }
        pthread_mutex_unlock(&lock);
        return rc;
}

int ftruncate(int fd, off_t size) { return do_truncate(fd, size); }
int ftruncate64(int fd, off64_t size) { return do_truncate(fd, size); }

/* "/directory/log.": what such a path has in it. */
static char *stop_at_sync_of;

void crash_stop_at_sync_of(const char *directory)
{
        pthread_mutex_lock(&lock);
        stop_at_sync_of = malloc(strlen(directory) + 8);
        sprintf(stop_at_sync_of, "/%s/log.", directory);
        pthread_mutex_unlock(&lock);
}

static int do_sync(int fd, int (*sync_fn)(int))
{
        char rel[PATH_MAX];
        struct stat st;
        struct rec r = { .type = REC_SYNC_BEGIN };
        int rc;

        if (!fd_path(fd, rel, &st))
                return sync_fn(fd);
        r.ino = st.st_ino;
        r.dir = S_ISDIR(st.st_mode);
        r.site = call_site();
        pthread_mutex_lock(&lock);
        if (stop_at_sync_of && strstr(rel, stop_at_sync_of))
                _exit(0);
        r.offset = (uint64_t)getpid() << 32 | ++sync_number;    /* the load forks */
        put(&r, rel, NULL, NULL);
        pthread_mutex_unlock(&lock);
        rc = sync_fn(fd);
        if (rc == 0) {
                pthread_mutex_lock(&lock);
                r.type = REC_SYNC_END;
                put(&r, rel, NULL, NULL);
                pthread_mutex_unlock(&lock);
        }
        return rc;
}

int fsync(int fd)
{
        REAL(fsync);
        return do_sync(fd, real);
}

int fdatasync(int fd)
{
        REAL(fdatasync);
        return do_sync(fd, real);
}

/* ---- names ---- */

static void log_two(uint8_t type, uint64_t ino, const char *path, const char *path2)
{
        struct rec r = { .type = type, .ino = ino };

        put(&r, path, path2, NULL);
}

/* $CRASH_STOP_AT, an end of a path: the process ends before it renames such a file. */
static void stop_here(const char *path)
{
        const char *end = getenv("CRASH_STOP_AT");

        if (end && ends_in(path, end))
                _exit(0);
}

int renameat(int d1, const char *p1, int d2, const char *p2)
{
        REAL(renameat);
        char a[PATH_MAX], b[PATH_MAX];
        int rc;

        if (!below_root(d1, p1, a) || !below_root(d2, p2, b))
                return real(d1, p1, d2, p2);
        stop_here(a);
        pthread_mutex_lock(&lock);
        rc = real(d1, p1, d2, p2);
        if (rc == 0)
                log_two(REC_RENAME, 0, a, b);
        pthread_mutex_unlock(&lock);
        return rc;
}

int renameat2(int d1, const char *p1, int d2, const char *p2, unsigned flags)
{
        REAL(renameat2);
        char a[PATH_MAX], b[PATH_MAX];
        int rc;

        if (!below_root(d1, p1, a) || !below_root(d2, p2, b))
                return real(d1, p1, d2, p2, flags);
        pthread_mutex_lock(&lock);
        rc = real(d1, p1, d2, p2, flags);
        if (rc == 0)
                log_two(flags & RENAME_EXCHANGE ? REC_EXCHANGE : REC_RENAME, 0, a, b);
        pthread_mutex_unlock(&lock);
        return rc;
}

int rename(const char *p1, const char *p2) { return renameat(AT_FDCWD, p1, AT_FDCWD, p2); }

int linkat(int d1, const char *p1, int d2, const char *p2, int flags)
{
        REAL(linkat);
        char a[PATH_MAX], b[PATH_MAX];
        struct stat st;
        int rc;

        if (!below_root(d2, p2, b))
                return real(d1, p1, d2, p2, flags);
        /* The partitions are file systems of their own, for the program. */
        if (below_root(d1, p1, a) && (strcspn(a, "/") != strcspn(b, "/") || strncmp(a, b, strcspn(a, "/")) != 0)) {
                errno = EXDEV;
                return -1;
        }
        pthread_mutex_lock(&lock);
        rc = real(d1, p1, d2, p2, flags);
        if (rc == 0 && fstatat(d2, p2, &st, AT_SYMLINK_NOFOLLOW) == 0)
                log_two(REC_LINK, st.st_ino, NULL, b);
        pthread_mutex_unlock(&lock);
        return rc;
}

int link(const char *p1, const char *p2) { return linkat(AT_FDCWD, p1, AT_FDCWD, p2, 0); }

int symlinkat(const char *target, int d, const char *p)
{
        REAL(symlinkat);
        char a[PATH_MAX];
        struct stat st;
        int rc;

        if (!below_root(d, p, a))
                return real(target, d, p);
        pthread_mutex_lock(&lock);
        rc = real(target, d, p);
        if (rc == 0 && fstatat(d, p, &st, AT_SYMLINK_NOFOLLOW) == 0)
                log_two(REC_SYMLINK, st.st_ino, a, target);
        pthread_mutex_unlock(&lock);
        return rc;
}

int unlinkat(int d, const char *p, int flags)
{
        REAL(unlinkat);
        char a[PATH_MAX];
        int rc;

        if (!below_root(d, p, a))
                return real(d, p, flags);
        pthread_mutex_lock(&lock);
        rc = real(d, p, flags);
        if (rc == 0)
                log_two(flags & AT_REMOVEDIR ? REC_RMDIR : REC_UNLINK, 0, a, NULL);
        pthread_mutex_unlock(&lock);
        return rc;
}

int unlink(const char *p) { return unlinkat(AT_FDCWD, p, 0); }
int rmdir(const char *p) { return unlinkat(AT_FDCWD, p, AT_REMOVEDIR); }

int mkdirat(int d, const char *p, mode_t mode)
{
        REAL(mkdirat);
        char a[PATH_MAX];
        struct stat st;
        int rc;

        if (!below_root(d, p, a))
                return real(d, p, mode);
        pthread_mutex_lock(&lock);
        rc = real(d, p, mode);
        if (rc == 0 && fstatat(d, p, &st, 0) == 0)
                log_two(REC_MKDIR, st.st_ino, a, NULL);
        pthread_mutex_unlock(&lock);
        return rc;
}

int mkdir(const char *p, mode_t mode) { return mkdirat(AT_FDCWD, p, mode); }

void crash_note_then(const char *line, void (*fn)(void *ctx), void *ctx)
{
        pthread_mutex_lock(&lock);
        if (log_fd >= 0)
                log_two(REC_NOTE, 0, line, NULL);
        fn(ctx);
        pthread_mutex_unlock(&lock);
}

void crash_exit(void)
{
        pthread_mutex_lock(&lock);
        _exit(0);
}

void crash_note(const char *line)
{
        if (log_fd < 0)
                return;
        pthread_mutex_lock(&lock);
        log_two(REC_NOTE, 0, line, NULL);
        pthread_mutex_unlock(&lock);
}
