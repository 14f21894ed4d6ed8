/*
 * journal - a partition's journal of any content: never a crash, never a loop, and nothing is written but to the log it names, if that is it.
 * The groups get their checksums, so that what is behind those is met too. The first octet: the octets are a journal as they are (0), or the
 * same with checksums (else).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/journal.h"
#include "store/mailbox_private.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define ID "ffffffffffffffffffffffff"
#define GROUP_HEAD 32
#define PIECE_HEAD 64
#define CRC_AT 8
#define LEN_AT 24

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/cyrd-fuzz-XXXXXX";
static struct mlog_segment_info info;
static int log_fd = -1, lap_fd;

static void clean_up(void) { fs_remove_tree(dir, NULL); }

static void open_lap(void)
{
        char path[100];

        snprintf(path, sizeof path, "%s/cyrd.journal.0", dir);
        lap_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        must(lap_fd >= 0);
}

static void begin(void)
{
        struct str path = STR_INIT;
        struct err err = ERR_INIT;

        must(mkdtemp(dir) != NULL);
        atexit(clean_up);
        log_set_level((enum log_level)-1);
        mailbox_dir(&path, dir, ID);
        must(fs_mkdir_p(path.data, 0700, &err) == 0);
        must(mlog_segment_create(path.data, 1, ID, 1, &log_fd, &info, &err) == 0);
        open_lap();
        str_deinit(&path);
}

/* As a start does; an offset that no file system takes makes the log one that is left, and the journal is kept then. */
static void recover(void)
{
        struct table *left = table_create();
        struct err err = ERR_INIT;
        struct span key;
        void *why;
        char path[100];

        must(journal_recover(dir, left, &err) == 0);
        if (table_count(left)) {
                snprintf(path, sizeof path, "%s/cyrd.journal.left.0", dir);
                must(unlink(path) == 0 && close(lap_fd) == 0);
                open_lap();
        }
        for (size_t pos = 0; table_next(left, &pos, &key, &why);)
                free(why);
        table_destroy(&left);
}

/* As journal.c would have sealed them; and the pieces name the log that there is when they say 0. */
static void seal(unsigned char *p, size_t size)
{
        uint32_t crc = 0;
        uint64_t len;

        for (size_t at = 0; at + GROUP_HEAD <= size; at += len) {
                memcpy(&len, p + at + LEN_AT, sizeof len);
                if (len < GROUP_HEAD || len > size - at)
                        return;
                for (size_t piece = at + GROUP_HEAD; piece + PIECE_HEAD <= at + len;) {
                        uint64_t segment = 1;
                        uint32_t octets;

                        if (p[piece] == 0) {
                                memset(p + piece, 0, MLOG_UNIQUEID_MAX);
                                memcpy(p + piece, ID, sizeof ID);
                                memcpy(p + piece + 40, &segment, sizeof segment);
                                memcpy(p + piece + 56, &info.crc, sizeof info.crc);
                        }
                        memcpy(&octets, p + piece + 60, sizeof octets);
                        piece += PIECE_HEAD + mlog_align(octets);
                }
                crc = crc32c(crc, p + at + CRC_AT + 4, len - CRC_AT - 4);
                memcpy(p + at + CRC_AT, &crc, sizeof crc);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        unsigned char *copy;
        struct stat sb;

        if (log_fd < 0)
                begin();
        if (size < 1 || size > 1 << 20)
                return 0;
        copy = malloc(size);
        memcpy(copy, data + 1, size - 1);
        if (data[0])
                seal(copy, size - 1);
        must(ftruncate(lap_fd, 0) == 0 && pwrite(lap_fd, copy, size - 1, 0) == (ssize_t)size - 1);
        free(copy);
        recover();
        must(fstat(log_fd, &sb) == 0 && sb.st_size >= MLOG_SEGMENT_HEADER);
        must(ftruncate(log_fd, MLOG_SEGMENT_HEADER) == 0);
        return 0;
}
