/*
 * faults - preloaded into a program (LD_PRELOAD): one call fails once, below a directory.
 *
 *   FAULT_ROOT   directory (or directories, with ':' between): only files below it count; allocations always do
 *   FAULT_CTL    file of at least sizeof (struct control) octets that the test shares with us
 *   FAULT_LIST   file: every call site is written there at the call that would fail (FAULT_NTH), "hash kind path frame…"; nothing fails
 *   FAULT_SITE   hash of the site that is to fail
 *   FAULT_NTH    which of its calls, from 1
 *   FAULT_ERRNO  with what; 0 for a write: the first half is written, and that thread's next write fails with ENOSPC
 *   FAULT_ALLOC  octets from which on an allocation counts
 *
 * A site is the kind of call and the return addresses above it, relative to their objects: the same in each run.
 */
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 14, SITES = 8192 };

struct control {
        atomic_uint armed;                      /* the test sets it: calls count from now on */
        atomic_uint fired;
        atomic_uint sites;
        _Atomic uint64_t fired_ms;              /* when, CLOCK_MONOTONIC */
};

static struct control *control;
static char root[PATH_MAX];
static size_t root_len;
static int list_fd = -1, fault_errno;
static uint64_t fault_site;
static unsigned fault_nth = 1;
static size_t alloc_min = SIZE_MAX;
static atomic_uint nth;
static struct { _Atomic uint64_t site; atomic_uint calls; } seen[SITES];
static __thread bool inside, fail_next_write;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);

#define REAL(name) \
        static __typeof__(name) *real; \
        if (!real) \
                real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

__attribute__((constructor)) static void start(void)
{
        const char *r = getenv("FAULT_ROOT"), *c = getenv("FAULT_CTL"), *l = getenv("FAULT_LIST"), *s = getenv("FAULT_SITE");
        void *warm[4];
        int fd;

        if (!r || !c || !realpath(r, root))
                return;
        inside = true;
        backtrace(warm, 4);                     /* loads libgcc now */
        root_len = strlen(root);
        if (getenv("FAULT_ERRNO"))
                fault_errno = atoi(getenv("FAULT_ERRNO"));
        if (getenv("FAULT_NTH"))
                fault_nth = (unsigned)atoi(getenv("FAULT_NTH"));
        if (getenv("FAULT_ALLOC"))
                alloc_min = (size_t)atol(getenv("FAULT_ALLOC"));
        if (s)
                fault_site = strtoull(s, NULL, 16);
        if (l)
                list_fd = open(l, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        fd = open(c, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
                void *p = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

                if (p != MAP_FAILED)
                        control = p;
                close(fd);
        }
        inside = false;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
        for (int b = 0; b < 8; b++)
                h = (h ^ (v >> (8 * b) & 0xff)) * 1099511628211u;
        return h;
}

/* The address as a debugger names it: relative to the object, except in a program that has fixed addresses. */
static uintptr_t relative(void *frame, const char **object_r)
{
        Dl_info info;

        *object_r = "?";
        if (!dladdr(frame, &info) || !info.dli_fbase)
                return (uintptr_t)frame;
        *object_r = info.dli_fname && strrchr(info.dli_fname, '/') ? strrchr(info.dli_fname, '/') + 1 : "?";
        return ((ElfW(Ehdr) *)info.dli_fbase)->e_type == ET_EXEC ? (uintptr_t)frame : (uintptr_t)frame - (uintptr_t)info.dli_fbase;
}

/* Is this the call of the site that is to be listed? */
static bool its_turn(uint64_t site)
{
        for (unsigned i = (unsigned)(site % SITES), n = 0; n < SITES; i = (i + 1) % SITES, n++) {
                uint64_t was = 0;

                if (atomic_compare_exchange_strong(&seen[i].site, &was, site) || was == site)
                        return atomic_fetch_add(&seen[i].calls, 1) + 1 == fault_nth;
        }
        return false;
}

static void list(uint64_t site, const char *kind, const char *path, void **frames, int n)
{
        char line[4096];
        size_t len = (size_t)snprintf(line, sizeof line, "%016llx %s %s", (unsigned long long)site, kind, path);
        const char *object;

        for (int i = 2; i < n && len < sizeof line - 100; i++) {
                uintptr_t rel = relative(frames[i], &object);

                len += (size_t)snprintf(line + len, sizeof line - len, " %s+0x%lx", object, (unsigned long)rel);
        }
        line[len++] = '\n';
        {
                REAL(write);
                if (real(list_fd, line, len) < 0)
                        abort();
        }
}

/* Is this the call that is to fail? errno is set then. */
static bool strikes(const char *kind, const char *path)
{
        void *frames[FRAMES];
        uint64_t h = 14695981039346656037u;
        const char *object;
        int n, saved = errno;
        bool hit = false;

        if (!control || inside || !atomic_load(&control->armed) || (list_fd < 0 && atomic_load(&control->fired)))
                return false;
        inside = true;
        n = backtrace(frames, FRAMES);
        for (const char *k = kind; *k; k++)
                h = mix(h, (unsigned char)*k);
        for (int i = 2; i < n; i++)
                h = mix(h, relative(frames[i], &object));
        if (list_fd >= 0) {
                if (its_turn(h)) {
                        atomic_fetch_add(&control->sites, 1);
                        list(h, kind, path, frames, n);
                }
        } else if (h == fault_site && atomic_fetch_add(&nth, 1) + 1 == fault_nth) {
                struct timespec now;

                clock_gettime(CLOCK_MONOTONIC, &now);
                atomic_store(&control->fired_ms, (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
                atomic_store(&control->fired, 1);
                hit = true;
        }
        inside = false;
        errno = hit ? fault_errno : saved;
        return hit;
}

/* ---- what lies below the root ------------------------------------------------------------------------------------------------- */

static bool below(int dirfd, const char *path, char out[PATH_MAX])
{
        char full[PATH_MAX * 2 + 2], base[PATH_MAX], link[64];
        ssize_t n;

        if (!control || !path)
                return false;
        if (path[0] == '/') {
                snprintf(full, sizeof full, "%s", path);
        } else {
                if (dirfd == AT_FDCWD)
                        snprintf(link, sizeof link, "/proc/self/cwd");
                else
                        snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
                n = readlink(link, base, sizeof base - 1);
                if (n < 0)
                        return false;
                base[n] = '\0';
                snprintf(full, sizeof full, "%s/%s", base, path);
        }
        if (strncmp(full, root, root_len) != 0 || full[root_len] != '/')
                return false;
        snprintf(out, PATH_MAX, "%s", full + root_len + 1);
        return true;
}

static bool fd_below(int fd, char out[PATH_MAX])
{
        char link[64], path[PATH_MAX];
        int saved = errno;
        ssize_t n;
        bool yes;

        if (!control || inside || fd < 0 || !atomic_load(&control->armed))
                return false;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof path - 1);
        path[n > 0 ? n : 0] = '\0';
        yes = n > 0 && path[0] == '/' && below(AT_FDCWD, path, out);
        errno = saved;
        return yes;
}

/* ---- the calls -------------------------------------------------------------------------------------------------------------------- */

static bool write_fails(int fd, const char *kind)
{
        char path[PATH_MAX];

        if (!control || !fd_below(fd, path))
                return false;
        if (fail_next_write) {
                fail_next_write = false;
                errno = ENOSPC;
                return true;
        }
        return strikes(kind, path);
}

static struct iovec *half(const struct iovec *iov, int *n, struct iovec out[IOV_MAX])
{
        size_t total = 0, keep;

        for (int i = 0; i < *n; i++)
                total += iov[i].iov_len;
        keep = total / 2;
        for (int i = 0; i < *n; i++) {
                out[i] = iov[i];
                if (out[i].iov_len >= keep) {
                        out[i].iov_len = keep;
                        *n = i + 1;
                        break;
                }
                keep -= out[i].iov_len;
        }
        return out;
}

#define HALF_WRITTEN (errno == 0 && (fail_next_write = true))

ssize_t write(int fd, const void *p, size_t n)
{
        REAL(write);
        if (write_fails(fd, "write")) {
                if (!HALF_WRITTEN || n < 2)
                        return -1;
                n /= 2;
        }
        return real(fd, p, n);
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t at)
{
        REAL(pwrite);
        if (write_fails(fd, "pwrite")) {
                if (!HALF_WRITTEN || n < 2)
                        return -1;
                n /= 2;
        }
        return real(fd, p, n, at);
}

ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at)
{
        return pwrite(fd, p, n, at);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
        struct iovec less[IOV_MAX];

        REAL(writev);
        if (write_fails(fd, "writev")) {
                if (!HALF_WRITTEN)
                        return -1;
                iov = half(iov, &n, less);
        }
        return real(fd, iov, n);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
        struct iovec less[IOV_MAX];

        REAL(pwritev);
        if (write_fails(fd, "pwritev")) {
                if (!HALF_WRITTEN)
                        return -1;
                iov = half(iov, &n, less);
        }
        return real(fd, iov, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int n, off64_t at)
{
        return pwritev(fd, iov, n, at);
}

#define ON_FD(kind) \
        char path[PATH_MAX]; \
        if (fd_below(fd, path) && strikes(kind, path)) \
                return -1

int fsync(int fd)
{
        REAL(fsync);
        ON_FD("fsync");
        return real(fd);
}

int fdatasync(int fd)
{
        REAL(fdatasync);
        ON_FD("fdatasync");
        return real(fd);
}

int syncfs(int fd)
{
        REAL(syncfs);
        ON_FD("syncfs");
        return real(fd);
}

int sync_file_range(int fd, off64_t from, off64_t n, unsigned flags)
{
        REAL(sync_file_range);
        ON_FD("sync_file_range");
        return real(fd, from, n, flags);
}

int ftruncate(int fd, off_t n)
{
        REAL(ftruncate);
        ON_FD("ftruncate");
        return real(fd, n);
}

int ftruncate64(int fd, off64_t n)
{
        return ftruncate(fd, n);
}

int fallocate(int fd, int mode, off_t from, off_t n)
{
        REAL(fallocate);
        ON_FD("fallocate");
        return real(fd, mode, from, n);
}

int fallocate64(int fd, int mode, off64_t from, off64_t n)
{
        return fallocate(fd, mode, from, n);
}

int posix_fallocate(int fd, off_t from, off_t n)
{
        char path[PATH_MAX];

        REAL(posix_fallocate);
        if (fd_below(fd, path) && strikes("fallocate", path))
                return errno;
        return real(fd, from, n);
}

#define ON_PATH(kind, dirfd, name) \
        char path_[PATH_MAX]; \
        if (below(dirfd, name, path_) && strikes(kind, path_)) \
                return -1

int rename(const char *from, const char *to)
{
        REAL(rename);
        ON_PATH("rename", AT_FDCWD, to);
        return real(from, to);
}

int renameat(int a, const char *from, int b, const char *to)
{
        REAL(renameat);
        ON_PATH("rename", b, to);
        return real(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags)
{
        REAL(renameat2);
        ON_PATH("rename", b, to);
        return real(a, from, b, to, flags);
}

int link(const char *from, const char *to)
{
        REAL(link);
        ON_PATH("link", AT_FDCWD, to);
        return real(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags)
{
        REAL(linkat);
        ON_PATH("link", b, to);
        return real(a, from, b, to, flags);
}

int unlink(const char *name)
{
        REAL(unlink);
        ON_PATH("unlink", AT_FDCWD, name);
        return real(name);
}

int unlinkat(int d, const char *name, int flags)
{
        REAL(unlinkat);
        ON_PATH("unlink", d, name);
        return real(d, name, flags);
}

int mkdir(const char *name, mode_t mode)
{
        REAL(mkdir);
        ON_PATH("mkdir", AT_FDCWD, name);
        return real(name, mode);
}

int mkdirat(int d, const char *name, mode_t mode)
{
        REAL(mkdirat);
        ON_PATH("mkdir", d, name);
        return real(d, name, mode);
}

#define OPEN_BODY(fn, dirfd, ...) \
        mode_t mode = 0; \
        if (flags & (O_CREAT | __O_TMPFILE)) { \
                va_list ap; \
                va_start(ap, flags); \
                mode = va_arg(ap, mode_t); \
                va_end(ap); \
                ON_PATH("create", dirfd, name); \
        } else { \
                ON_PATH("open", dirfd, name); \
        } \
        REAL(fn); \
        return real(__VA_ARGS__, flags, mode)

int open(const char *name, int flags, ...) { OPEN_BODY(open, AT_FDCWD, name); }
int open64(const char *name, int flags, ...) { OPEN_BODY(open64, AT_FDCWD, name); }
int openat(int d, const char *name, int flags, ...) { OPEN_BODY(openat, d, d, name); }
int openat64(int d, const char *name, int flags, ...) { OPEN_BODY(openat64, d, d, name); }

/* ---- memory ------------------------------------------------------------------------------------------------------------------------- */

static bool none_left(size_t n)
{
        if (n < alloc_min || !control || inside)
                return false;
        if (!strikes("malloc", "-"))
                return false;
        errno = ENOMEM;
        return true;
}

void *malloc(size_t n) { return none_left(n) ? NULL : __libc_malloc(n); }
void *calloc(size_t n, size_t m) { return none_left(n > SIZE_MAX / (m ? m : 1) ? SIZE_MAX : n * m) ? NULL : __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { return none_left(n) ? NULL : __libc_realloc(p, n); }
