/*
 * journal_recover - after a stop that was no clean one: what the journal has goes back to the logs' files.
 *
 * A log that cannot be written to is left: its mailbox is not used until the next start, and all that was found in the journal stays, under
 * names of its own (cyrd.journal.left.0, .1, …), as new laps are begun. The next start writes these again with its own, until nothing is left.
 * Why that may be done any number of times is told in journal.c: nobody has written to a log that was left.
 *
 * All files are read twice. First to see which logs have gone on without a piece (from where on is for none of its pieces), then to write.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/journal_private.h"
#include "store/mailbox_private.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"

#define LEFT_PREFIX "cyrd.journal.left."

struct recovery {
        const char *dir;
        struct table *logs;                     /* "<unique id>/<segment>" → struct found_log */
        struct table *left;                     /* the caller's: unique id → why */
        struct err *err;                        /* … */
        bool sync_failed, writing;              /* writing: the second time */
        unsigned left_n;                        /* files that were left: their numbers are below */
        bool used[JOURNAL_LAPS];                /* there are groups in it */
        bool damaged[JOURNAL_LAPS];             /* … and some of it is not whole: it is kept for whoever wants to look into it */
        uint64_t groups, pieces, brought_back;
};
struct found_log {
        char uniqueid[MLOG_UNIQUEID_MAX];
        int fd;                                 /* -1: it is no longer there, or is left */
        struct mlog_segment_info info;
        uint64_t newer;                         /* from here on the log is of a later epoch than what the journal has; UINT64_MAX: nowhere */
};

/* Not this log: its mailbox is not to be used. The first reason stays. */
static void leave_log(struct recovery *r, struct found_log *log, const struct err *why)
{
        struct span key = { log->uniqueid, strlen(log->uniqueid) };

        if (log->fd >= 0)
                close(log->fd);
        log->fd = -1;
        if (table_find(r->left, key))
                return;
        table_set(r->left, key, xstrdup(why->text));
        log_event(LOG_ERROR, NULL, "journal.left", "dir=%s uniqueid=%s reason=\"%s\" consequence=\"the mailbox is not used until the next start\"",
                  r->dir, log->uniqueid, why->text);
}

static bool is_uniqueid(const char *s)
{
        size_t len = strnlen(s, MLOG_UNIQUEID_MAX);

        return len && len < MLOG_UNIQUEID_MAX && !strchr(s, '/') && s[0] != '.';
}

/* 0, or -1: it cannot be opened, or not be read. Sets log->fd. */
static int open_log(const char *dir, const struct piece_head *head, struct found_log *log, struct err *err)
{
        struct str mailbox = STR_INIT, path = STR_INIT;
        unsigned char octets[MLOG_SEGMENT_HEADER];
        bool damaged = false;
        int rc = 0;

        mailbox_dir(&mailbox, dir, head->uniqueid);
        mlog_segment_path(&path, mailbox.data, head->segment);
        log->fd = open(path.data, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (log->fd < 0 && errno != ENOENT && errno != ENOTDIR)
                rc = err_errno(err, errno, "open %s", path.data);
        else if (log->fd >= 0 && (rc = fs_pread_all(log->fd, octets, sizeof octets, 0, err)) < 0)
                damaged = err->code == ERR_CORRUPT;     /* it is too short */
        else if (log->fd >= 0)
                damaged = mlog_segment_decode(octets, head->segment, head->uniqueid, &log->info, err) < 0;
        if (damaged) {                                  /* … which is reported when the mailbox is opened */
                close(log->fd);
                log->fd = -1;
                rc = 0;
        }
        str_deinit(&mailbox);
        str_deinit(&path);
        return rc;
}

static struct found_log *find_log(struct recovery *r, const struct piece_head *head)
{
        struct str key = STR_INIT;
        struct err why = ERR_INIT;
        struct found_log *log;

        str_printf(&key, "%s/%llx", head->uniqueid, (unsigned long long)head->segment);
        log = table_find(r->logs, str_span(&key));
        if (!log) {
                log = xcalloc(1, sizeof *log);
                memcpy(log->uniqueid, head->uniqueid, sizeof log->uniqueid);
                log->newer = UINT64_MAX;
                table_set(r->logs, str_span(&key), log);
                if (open_log(r->dir, head, log, &why) < 0)
                        leave_log(r, log, &why);
        }
        str_deinit(&key);
        return log;
}

/* Has the log gone on without the piece, which was refused: is there a record of a later epoch in its place? */
static bool is_newer(const struct found_log *log, const struct piece_head *head, const unsigned char *octets)
{
        struct mlog_header now, then;
        struct err unread = ERR_INIT;

        if (head->len < sizeof now || fs_pread_all(log->fd, &now, sizeof now, head->offset, &unread) < 0)
                return false;
        memcpy(&then, octets, sizeof then);
        return mlog_header_valid(&now, &log->info, head->offset) && now.epoch > then.epoch;
}

static void write_piece(struct recovery *r, const struct piece_head *head, const unsigned char *octets)
{
        struct found_log *log = find_log(r, head);
        struct err err = ERR_INIT;
        unsigned char *there;

        if (log->fd < 0 || log->info.crc != head->segment_crc)
                return;
        if (!r->writing) {
                if (head->offset < log->newer && is_newer(log, head, octets))
                        log->newer = head->offset;
                return;
        }
        r->pieces++;
        if (head->offset >= log->newer)
                return;
        there = xmalloc(head->len);
        if (fs_pread_all(log->fd, there, head->len, head->offset, &err) < 0 || memcmp(there, octets, head->len) != 0)
                r->brought_back += head->len;
        free(there);
        /* What is the same in memory need not be so on the disk, and would not be written after an error of writing back. */
        if (fs_pwrite_all(log->fd, octets, head->len, head->offset, &err) < 0)
                leave_log(r, log, &err);
}

/* A lap's row of groups. */
struct row {
        int fd;
        uint64_t at;                            /* where the next one begins */
        uint32_t crc;                           /* the former one's */
        uint64_t salt;                          /* … */
        struct str group;
};

static bool is_head(const struct group_head *head)
{
        return head->magic == GROUP_MAGIC && head->len >= sizeof *head && head->len <= GROUP_BYTES_MAX && head->len % 8 == 0 &&
               head->pieces <= JOURNAL_GROUP_MAX;
}

/* Is there nothing in it (LAP_CLOSED)? */
static bool is_closed(int fd)
{
        uint64_t mark = 0;
        struct err unread = ERR_INIT;                   /* read_group() will tell */

        return fs_pread_all(fd, &mark, sizeof mark, 0, &unread) == 0 && mark == LAP_CLOSED;
}

/* The next group: 1, 0 there is none, -1. */
static int read_group(struct row *row, struct err *err)
{
        struct err shorter = ERR_INIT;
        struct group_head head;

        if (fs_pread_all(row->fd, &head, sizeof head, row->at, &shorter) < 0)
                goto unread;
        if (!is_head(&head))
                return 0;
        str_clear(&row->group);
        if (fs_pread_all(row->fd, str_append_space(&row->group, head.len), head.len, row->at, &shorter) < 0)
                goto unread;
        if (crc32c(row->crc, row->group.data + GROUP_SEALED, head.len - GROUP_SEALED) != head.crc)
                return 0;
        row->crc = head.crc;
        row->salt = head.salt;
        row->at += head.len;
        return 1;
unread:
        if (shorter.code == ERR_CORRUPT)
                return 0;
        err_copy(err, &shorter);
        return -1;
}

/* Does a whole group follow the one with this head, which is not whole? Then the row goes on there: *row is at it. */
static int follows(struct row *row, uint64_t at, const struct group_head *head, struct err *err)
{
        struct row next = { .fd = row->fd, .at = at + head->len, .crc = head->crc, .group = STR_INIT };
        int rc = read_group(&next, err);

        if (rc == 1 && next.salt == head->salt) {
                row->at = at + head->len;
                row->crc = head->crc;
                row->salt = head->salt;
        } else if (rc == 1) {
                rc = 0;
        }
        str_deinit(&next.group);
        return rc;
}

/*
 * The end of the row, or only a group that is not whole? Each group was synced before the next one was written, so what a power loss tore is
 * the last one – or the first of a new lap, whose octets lie over a row that was given back and need not be written again (it does no harm).
 * Everything else is damage: what it has is lost, what follows is not. Nobody but a lap has its salt; of one that has no whole group before, the
 * salt is that of two that follow one another.
 */
static int find_further(struct row *row, struct err *err)
{
        enum { CHUNK = 1 << 16, TRIES = 1000 };
        size_t overlap = sizeof(struct group_head);
        unsigned char octets[CHUNK + sizeof(struct group_head)];
        uint64_t from = row->at;
        unsigned tries = 0;
        int found = 0;

        for (uint64_t at = from; !found; at += CHUNK) {
                ssize_t n = pread(row->fd, octets, sizeof octets, (off_t)at);

                if (n < 0)
                        found = err_errno(err, errno, "read");
                for (size_t i = 0; !found && n >= (ssize_t)overlap && i <= (size_t)n - overlap && tries < TRIES; i += 8) {
                        struct group_head head;

                        memcpy(&head, octets + i, sizeof head);
                        if (!is_head(&head) || (from > 0 && head.salt != row->salt))
                                continue;
                        tries++;
                        found = follows(row, at + i, &head, err);
                }
                if (n < (ssize_t)sizeof octets)
                        break;
        }
        return found;
}

static void write_group(struct recovery *r, const struct str *group)
{
        size_t at = sizeof(struct group_head);
        struct piece_head head;

        r->groups += r->writing;
        while (at + sizeof head <= group->len) {
                memcpy(&head, group->data + at, sizeof head);
                at += sizeof head;
                if (!is_uniqueid(head.uniqueid) || head.len > JOURNAL_TAIL_MAX || head.len > group->len - at || head.offset < MLOG_SEGMENT_HEADER ||
                    head.offset > INT64_MAX / 2)
                        return;                 /* nobody wrote that: its checksum is right by chance */
                write_piece(r, &head, (const unsigned char *)group->data + at);
                at += mlog_align(head.len);
        }
}

/* -1: what the journal has is not known. *damaged_r: a group of it is not whole, and others follow. */
static int recover_file(struct recovery *r, const char *path, bool *damaged_r, struct err *err)
{
        struct row row = { .fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), .group = STR_INIT };
        struct stat st;
        int rc;

        *damaged_r = false;
        if (row.fd < 0)
                return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", path);
        rc = fstat(row.fd, &st) < 0 || !S_ISREG(st.st_mode) ? err_set(err, ERR_IO, "it is no file") : !is_closed(row.fd);
        while (rc == 1) {
                uint64_t end;

                while ((rc = read_group(&row, err)) == 1)
                        write_group(r, &row.group);
                end = row.at;
                if (rc == 0)
                        rc = find_further(&row, err);
                if (rc != 1)
                        break;
                if (!r->writing)
                        log_event(LOG_WARN, NULL, "journal.row", "path=%s offset=%llu to=%llu reason=\"what is not whole, and others follow: damage, if it "
                                  "is not the beginning of a lap that a power loss tore\" consequence=\"it is passed over\"", path,
                                  (unsigned long long)end, (unsigned long long)row.at);
                *damaged_r = true;
        }
        if (rc < 0)
                err_prefix(err, "%s cannot be read (to go on without the changes that only it has, move it away)", path);
        close(row.fd);
        str_deinit(&row.group);
        return rc;
}

/* After a kill -9 all of it was there, but in the page cache only. */
static void sync_log(struct recovery *r, struct found_log *log)
{
        struct err err = ERR_INIT;

        if (log->fd < 0 || fs_datasync(log->fd, r->dir, &err) == 0)
                return;
        if (!r->sync_failed)
                err_copy(r->err, &err);
        r->sync_failed = true;
        leave_log(r, log, &err);
}

static void sync_logs(struct recovery *r)
{
        struct span key;
        void *log;

        for (size_t pos = 0; table_next(r->logs, &pos, &key, &log);)
                sync_log(r, log);
}

static void free_logs(struct recovery *r)
{
        struct span key;
        void *value;

        for (size_t pos = 0; r->logs && table_next(r->logs, &pos, &key, &value);) {
                struct found_log *log = value;

                if (log->fd >= 0)
                        close(log->fd);
                free(log);
        }
        table_destroy(&r->logs);
}

/* ---- its files ---- */

static void left_path(struct str *out, const char *dir, unsigned n)
{
        str_printf(out, "%s/" LEFT_PREFIX "%u", dir, n);
}

static int count_left(struct recovery *r, struct err *err)
{
        DIR *d = opendir(r->dir);
        const struct dirent *e;
        unsigned n;
        char end;

        if (!d)
                return err_errno(err, errno, "%s", r->dir);
        while ((e = readdir(d)) != NULL)
                if (sscanf(e->d_name, LEFT_PREFIX "%4u%c", &n, &end) == 1 && n >= r->left_n)
                        r->left_n = n + 1;
        closedir(d);
        return 0;
}

static void empty_lap(const char *path)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                return;
        journal_close_lap(fd, path);
        close(fd);
}

/* In place of what was put away before. */
static void put_away(const char *path)
{
        struct str to = STR_INIT;

        str_printf(&to, "%s.damaged", path);
        if (rename(path, to.data) < 0)
                log_event(LOG_WARN, NULL, "journal.rename", "path=%s errno=%d", path, errno);
        str_deinit(&to);
}

static void remove_left(const char *path)
{
        if (unlink(path) < 0 && errno != ENOENT)
                log_event(LOG_WARN, NULL, "journal.remove", "path=%s errno=%d", path, errno);
}

static int keep_lap(const struct recovery *r, const char *path, unsigned as, struct err *err)
{
        struct str to = STR_INIT;
        int rc = 0;

        left_path(&to, r->dir, as);
        if ((fs_fails("rename") || rename(path, to.data) < 0) && errno != ENOENT)
                rc = err_errno(err, errno, "rename %s to %s", path, to.data);
        str_deinit(&to);
        return rc;
}

/* For each file of the journal, those that were left first; lap -1: it was left. */
static int each_file(struct recovery *r, int (*fn)(struct recovery *r, const char *path, int lap, struct err *err), struct err *err)
{
        struct str path = STR_INIT;
        int rc = 0;

        for (unsigned i = 0; i < r->left_n + JOURNAL_LAPS && rc == 0; i++) {
                str_clear(&path);
                if (i < r->left_n)
                        left_path(&path, r->dir, i);
                else
                        journal_path(&path, r->dir, i - r->left_n);
                rc = fn(r, path.data, i < r->left_n ? -1 : (int)(i - r->left_n), err);
        }
        str_deinit(&path);
        return rc;
}

static int read_file(struct recovery *r, const char *path, int lap, struct err *err)
{
        uint64_t groups = r->groups;
        bool damaged;
        int rc = recover_file(r, path, &damaged, err);

        if (lap >= 0) {
                r->used[lap] = r->groups > groups;      /* counted when writing */
                r->damaged[lap] = damaged;
        }
        return rc;
}

/* All that is in it is in the logs now. Should this be lost, it is written there once more. */
static int give_up(struct recovery *r, const char *path, int lap, struct err *err)
{
        (void)err;
        if (lap < 0)
                remove_left(path);
        else if (r->damaged[lap])
                put_away(path);
        else if (r->used[lap])
                empty_lap(path);
        return 0;
}

static int keep(struct recovery *r, const char *path, int lap, struct err *err)
{
        return lap >= 0 && r->used[lap] ? keep_lap(r, path, r->left_n + (unsigned)lap, err) : 0;
}

int journal_recover(const char *dir, struct table *left, struct err *err)
{
        struct recovery r = { .dir = dir, .logs = table_create(), .left = left, .err = err };
        int rc = count_left(&r, err) < 0 ? -1 : each_file(&r, read_file, err);

        r.writing = true;
        if (rc == 0)
                rc = each_file(&r, read_file, err);
        if (rc == 0) {
                sync_logs(&r);
                free_logs(&r);                          /* where descriptors are few, they are needed below */
                /* What cannot be kept, or not for sure, stays where it is: a partition that takes no changes makes no groups. */
                if (each_file(&r, table_count(left) ? keep : give_up, err) < 0 || (table_count(left) && fs_sync_dir(dir, err) < 0) || r.sync_failed)
                        rc = 1;
        }
        free_logs(&r);
        if (r.groups)
                log_event(rc < 0 || table_count(left) ? LOG_ERROR : LOG_NOTE, NULL, "journal.recover",
                          "dir=%s groups=%llu pieces=%llu octets_brought_back=%llu mailboxes_left=%zu", dir, (unsigned long long)r.groups,
                          (unsigned long long)r.pieces, (unsigned long long)r.brought_back, table_count(left));
        return rc;
}
