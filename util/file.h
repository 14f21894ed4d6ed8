/*
 * file - a counted, read-only file: what a rope or a view holds so that nothing is pulled from under a reader.
 * The descriptor is opened when first needed and given up when the process runs short of descriptors; the file may be unlinked
 * once its last holder is gone (`unlink_last`), so compaction and expunge never remove bytes that somebody still sends.
 * Any thread may call.
 */
#ifndef UTIL_FILE_H
#define UTIL_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util/err.h"
#include "util/str.h"

struct file;

/* A file that will be opened (O_RDONLY) when first read. `path` is copied. No error is possible here. */
struct file *file_create(const char *path);
/* Around a descriptor that is ours from now on (a staging file already unlinked, a segment being written). It is never closed
 * before the last reference is gone. path may be NULL. */
struct file *file_from_fd(int fd, const char *path);
struct file *file_ref(struct file *f);
void file_unref(struct file **f);
/* Unlink the path when the last reference goes. Only for paths that are never used again. */
void file_unlink_last(struct file *f);
/* Has anybody else a reference? Exact when the caller's is the only one that others could get theirs from, and keeps them from it. */
bool file_is_shared(const struct file *f);
/* As it is at the moment; valid as long as the file. */
const char *file_path(const struct file *f);
/* The same octets are at `path` now (copied), and the former one is going to be unlinked: everything from here on is done there, and an
 * open descriptor leads there too, also for whoever is just reading by it. */
void file_move(struct file *f, const char *path);

/* pread, all of `len` octets: 0, or -1 with ERR_IO, ERR_CORRUPT (the file is shorter), ERR_NOTFOUND. */
int file_read(struct file *f, void *buf, size_t len, uint64_t offset, struct err *err);

/* A descriptor for sendfile(), valid until file_release(). */
int file_acquire_fd(struct file *f, int *fd_r, struct err *err);
void file_release_fd(struct file *f);

/* Close idle descriptors (least recently used first) until at most `keep` created by file_create() are open. */
void file_shed(unsigned keep);

struct extent {                                 /* a piece of a file; holds no reference of its own unless said so */
        struct file *file;
        uint64_t offset;
        uint64_t len;
};

#endif
