/*
 * record - the log that the recording layer (record.c, preloaded) writes of everything a program does to files below a root, and
 * that powerloss.c rebuilds crash states from. Records follow each other: struct rec, path, path2, data.
 */
#ifndef T_CRASH_RECORD_H
#define T_CRASH_RECORD_H

#include <stdint.h>

enum rec_type {
        REC_CREATE = 1,         /* path came into being as file `ino` */
        REC_WRITE,              /* data at `offset` of `ino` */
        REC_TRUNCATE,           /* `ino` has `offset` octets now */
        REC_SYNC_BEGIN,         /* fsync, fdatasync of `ino` starts; `offset`: number of this sync */
        REC_SYNC_END,           /* … number `offset` has returned 0 */
        REC_RENAME,             /* path → path2 */
        REC_LINK,               /* path2 is now another name of `ino` */
        REC_UNLINK,             /* path is gone */
        REC_MKDIR,              /* path is directory `ino` */
        REC_RMDIR,
        REC_NOTE,               /* path: a line of the load program */
        REC_EXCHANGE,           /* path ⇄ path2 */
        REC_SYMLINK,            /* path leads to path2 */
};

struct rec {
        uint8_t type, dir;      /* dir: the sync is of a directory; its path is given */
        uint16_t path_len, path2_len;
        uint16_t pad;
        uint32_t data_len;
        uint32_t site;          /* where the call was made: a hash of the return addresses, relative to the program */
        uint64_t ino, offset, time_us;
};

/* In the preloaded layer: note a line in the log. A weak symbol for the load program: NULL when nothing records. */
extern void crash_note(const char *line) __attribute__((weak));
/* … and: the same, and `fn`, as one step: the process does not end as by kill -9 in between. */
extern void crash_note_then(const char *line, void (*fn)(void *ctx), void *ctx) __attribute__((weak));
/* … and: end as by kill -9. */
extern void crash_exit(void) __attribute__((weak));
/* … and: from now on the process ends as by kill -9 when it has written an index's header, before that is synced. */
extern void crash_stop_at_header(void) __attribute__((weak));
/* … and: before it syncs a segment in a directory of this name. */
extern void crash_stop_at_sync_of(const char *directory) __attribute__((weak));

#endif
