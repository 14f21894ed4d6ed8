/*
 * fs - durable file operations. Every write the store relies on goes through here, so that crash tests see one set of call
 * sites. All return 0, or -1 with err. A failed fsync is never tried again: the caller marks what it guards as failed.
 */
#ifndef UTIL_FS_H
#define UTIL_FS_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "util/err.h"
#include "util/str.h"

int fs_write_all(int fd, const void *p, size_t len, struct err *err);                           /* at the file position */
int fs_pwrite_all(int fd, const void *p, size_t len, uint64_t offset, struct err *err);
int fs_pread_all(int fd, void *p, size_t len, uint64_t offset, struct err *err);                /* ERR_CORRUPT when short */
int fs_datasync(int fd, const char *path_for_log, struct err *err);                             /* fdatasync */
int fs_sync_dir(const char *dir, struct err *err);                                              /* fsync of a directory */
int fs_mkdir_p(const char *path, mode_t mode, struct err *err);         /* and its parents; existing ones are fine; no sync */
int fs_mkdir_p_durable(const char *path, mode_t mode, struct err *err); /* every directory made is synced into its parent */
/* Did a sync fail in this thread since the last call? Also when it was inside another function (fs_replace()): what the disk holds
 * then is unknown, other than after a write that was refused. */
bool fs_take_sync_failure(void);
/* Replace `path` by these octets: temporary file in the same directory, fdatasync, rename, directory sync. */
int fs_replace(const char *path, const void *p, size_t len, mode_t mode, struct err *err);
/* The same without the directory's sync: after a power loss `path` has the former octets or these. */
int fs_replace_lazily(const char *path, const void *p, size_t len, mode_t mode, struct err *err);
/* Read a whole file of at most max octets (ERR_LIMIT) into `out` (appended). */
int fs_slurp(const char *path, size_t max, struct str *out, struct err *err);
/* Remove a directory and what is in it (no symbolic link is followed, one file system). Missing is fine. */
int fs_remove_tree(const char *path, struct err *err);
bool fs_exists(const char *path);
/* Which version of a file it is, to be compared whole (memcmp): who changes or replaces it changes the mark – once a tick of the file system's
 * clock is over. False: it cannot be looked at, and the mark is all zeros. */
struct fs_mark { struct timespec changed; dev_t device; ino_t inode; off_t size; };
bool fs_mark(const char *path, struct fs_mark *mark);
/* The file system of a path, in KiB as statvfs() has them; percent of what others than root may use, rounded. ERR_NOTFOUND, ERR_IO. */
struct fs_space {
        uint64_t kib, used_kib, available_kib;
        unsigned percent;
};
int fs_space(const char *path, struct fs_space *space_r, struct err *err);
/* Take an exclusive lock on `path` (fcntl OFD lock, file is made 0600). -1 with ERR_BUSY when another holds it. */
int fs_lock_file(const char *path, int *fd_r, struct err *err);

/*
 * For tests: asked before each write, sync, rename, link and allocation of the store, with the call's name ("pwrite", "fdatasync", …).
 * A value other than 0 is the errno that the call then fails with. NULL: no test. Set it while no thread of the store runs.
 */
extern int (*fs_fault)(const char *call);
/* True when the call is to fail now; errno is set. */
static inline bool fs_fails(const char *call)
{
        return __builtin_expect(fs_fault != NULL, 0) && (errno = fs_fault(call)) != 0;
}

#endif
