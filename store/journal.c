/*
 * journal - see journal.h, and journal_private.h for the files.
 *
 * What is acknowledged: a group is synced before any of its changes is told, and those before it in the lap were synced before. So after a
 * power loss the row has all that was acknowledged; what follows may be whole, torn, or missing.
 *
 * Why writing it again is right. A place in a segment is written once: logs grow, a segment that ended in torn records is left for a new
 * one, names of segments are not used twice and their header's checksum has a random salt. A piece therefore says what is there already,
 * or what a power loss took; it is the same however often it is written, in whatever order, also when it is from a lap that had been
 * retired, and when the mark that it has nothing in it was lost. The one exception: what a failed sync refused is cut off from the log, and from the
 * lap too as far as the disk obeys. The partition takes no changes then until the next start; what is written in its place after that
 * is of a later epoch, and left alone. So in a mailbox that fails by itself nothing is cut off that a group under way has (end_sync()).
 *
 * Space is used again only after journal_retire(): each log that the lap has pieces of is synced in its own file, by a descriptor that is kept
 * from the first piece on, so that an error of writing back is not missed. They are few (DIRTY_MAX); a log that was removed meanwhile keeps
 * its blocks until then.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/journal_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define ROOM_LEFT 20                            /* times its own size have to be free when it is made */
#define DIRTY_MAX 256                           /* logs in a lap: so many syncs retire it, so many descriptors are held */

enum lap_state { LAP_FREE, LAP_USED, LAP_DUE };
struct dirty {
        int fd;
        char *path;                             /* as it was, for the log */
};
struct lap {
        _Atomic(enum lap_state) state;          /* DUE: journal_retire() has it, else the maker of groups */
        int fd;
        uint64_t serial, salt, used, since_ms;
        uint32_t crc;
        struct dirty dirty[DIRTY_MAX];
        unsigned dirty_n;
};

struct journal {
        char *dir;
        size_t lap_bytes;
        atomic_bool open;
        atomic_bool off;                        /* it could not be made, or not be written */
        atomic_bool failed;                     /* a sync did: what it has is for the next start */
        struct lap laps[JOURNAL_LAPS];
        unsigned at;                            /* the lap that groups go to */
        uint64_t serial;
        /* the group that is being made */
        unsigned char *group;
        size_t size, len, last;                 /* `last`: where the piece that was added last begins */
        struct { const char *path; uint64_t *lap; } pieces[JOURNAL_GROUP_MAX];
        unsigned n;
};

void journal_path(struct str *out, const char *dir, unsigned lap)
{
        str_printf(out, "%s/cyrd.journal.%u", dir, lap);
}

void journal_close_lap(int fd, const char *dir)
{
        const uint64_t closed = LAP_CLOSED;
        struct err err = ERR_INIT;

        if (fs_pwrite_all(fd, &closed, sizeof closed, 0, &err) < 0)
                log_event(LOG_WARN, NULL, "journal.close", "dir=%s reason=\"%s\"", dir, err.text);
}

struct journal *journal_create(const char *dir, size_t lap_bytes)
{
        struct journal *j = xcalloc(1, sizeof *j);

        j->dir = xstrdup(dir);
        j->lap_bytes = lap_bytes ? lap_bytes : JOURNAL_LAP_BYTES;
        j->laps[0].fd = j->laps[1].fd = -1;
        return j;
}

static void forget_dirty(struct lap *lap)
{
        for (unsigned i = 0; i < lap->dirty_n; i++) {
                close(lap->dirty[i].fd);
                free(lap->dirty[i].path);
        }
        lap->dirty_n = 0;
}

void journal_destroy(struct journal **jp)
{
        struct journal *j = *jp;

        *jp = NULL;
        if (!j)
                return;
        for (unsigned i = 0; i < JOURNAL_LAPS; i++) {
                forget_dirty(&j->laps[i]);
                if (j->laps[i].fd >= 0)
                        close(j->laps[i].fd);
        }
        free(j->group);
        free(j->dir);
        free(j);
}

bool journal_is_usable(const struct journal *j)
{
        return !atomic_load(&j->off) && !atomic_load(&j->failed);
}

/* ---- making a group ---- */

void journal_begin(struct journal *j)
{
        j->n = 0;
        j->len = sizeof(struct group_head);
}

static void reserve(struct journal *j, size_t len)
{
        if (len <= j->size)
                return;
        j->size = len < 2 * j->size ? 2 * j->size : len;
        j->group = xrealloc(j->group, j->size);
}

void *journal_add(struct journal *j, const struct journal_piece *piece)
{
        size_t len = sizeof(struct piece_head) + mlog_align(piece->len);
        struct piece_head head = { .segment = piece->segment, .offset = piece->offset, .segment_crc = piece->segment_crc, .len = piece->len };

        must(piece->len <= JOURNAL_TAIL_MAX);
        if (j->n == JOURNAL_GROUP_MAX || strlen(piece->uniqueid) >= sizeof head.uniqueid || j->len + len > j->lap_bytes)
                return NULL;
        memcpy(head.uniqueid, piece->uniqueid, strlen(piece->uniqueid));
        reserve(j, j->len + len);
        j->last = j->len;
        memcpy(j->group + j->len, &head, sizeof head);
        memset(j->group + j->len + len - 8, 0, 8);      /* the padding */
        j->pieces[j->n].path = piece->path;
        j->pieces[j->n++].lap = piece->lap;
        j->len += len;
        return j->group + j->last + sizeof head;
}

void journal_drop(struct journal *j)
{
        must(j->n);
        j->n--;
        j->len = j->last;
}

/* ---- laps ---- */

/* Is all of it there? Unwritten or not: that only makes a difference in time. */
static bool is_filled(const struct journal *j, int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && (uint64_t)st.st_size == j->lap_bytes && (uint64_t)st.st_blocks * 512 >= j->lap_bytes;
}

/*
 * Write all of it once. What is written over later needs no change of the file's metadata, and so no commit of the file system's own journal: a
 * group's sync is one write then, and not three.
 */
static int fill_lap(const struct journal *j, int fd, struct err *err)
{
        unsigned char chunk[32 << 10] = { 0 };
        const uint64_t closed = LAP_CLOSED;

        memcpy(chunk, &closed, sizeof closed);
        for (uint64_t at = 0; at < j->lap_bytes; at += sizeof chunk) {
                size_t len = j->lap_bytes - at < sizeof chunk ? (size_t)(j->lap_bytes - at) : sizeof chunk;

                if (fs_pwrite_all(fd, chunk, len, at, err) < 0)
                        return -1;
                memset(chunk, 0, sizeof closed);
        }
        return 0;
}

static int open_lap(struct journal *j, unsigned i, struct err *err)
{
        struct str path = STR_INIT;
        int rc = 0;

        journal_path(&path, j->dir, i);
        j->laps[i].fd = open(path.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (j->laps[i].fd < 0)
                rc = err_errno(err, errno, "make %s", path.data);
        str_deinit(&path);
        return rc;
}

/* Its octets are on their way when this returns, so that the first group need not wait for them: its sync is the one that counts. */
static int make_lap(const struct journal *j, int fd, struct err *err)
{
        if (ftruncate(fd, 0) < 0)                       /* of another size, or broken off */
                return err_errno(err, errno, "empty a journal of %s", j->dir);
        if ((fs_fails("fallocate") || fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)j->lap_bytes) < 0) && errno != EOPNOTSUPP)
                return err_errno(err, errno, "allocate a journal of %s", j->dir);
        if (fill_lap(j, fd, err) < 0)
                return -1;
        if (sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) < 0 && errno != ENOSYS && errno != ESPIPE)
                return err_errno(err, errno, "write a journal of %s", j->dir);
        return 0;
}

static int turned_off(struct journal *j, const struct err *why)
{
        atomic_store(&j->off, true);
        log_event(LOG_WARN, NULL, "journal.off", "dir=%s reason=\"%s\" consequence=\"mailboxes are synced one by one\"", j->dir, why->text);
        return 1;
}

/* The last of a full file system is for mail. */
static bool is_there_room(const struct journal *j, struct err *why)
{
        struct fs_space space;

        if (fs_space(j->dir, &space, why) < 0)
                return false;
        if (space.available_kib / ROOM_LEFT > 2 * j->lap_bytes / 1024)
                return true;
        err_set(why, ERR_NOSPACE, "%llu KiB are left", (unsigned long long)space.available_kib);
        return false;
}

/*
 * As journal_commit(). Files that are there already, from before a stop, are used again as they are; that they are there is synced all the same,
 * since who made them may have been killed before that.
 */
static int make_files(struct journal *j, struct err *err)
{
        bool missing[JOURNAL_LAPS], any = false;
        struct err why = ERR_INIT;

        for (unsigned i = 0; i < JOURNAL_LAPS; i++) {
                if (open_lap(j, i, &why) < 0)
                        return turned_off(j, &why);
                missing[i] = !is_filled(j, j->laps[i].fd);
                any |= missing[i];
        }
        if (any && !is_there_room(j, &why))
                return turned_off(j, &why);
        for (unsigned i = 0; i < JOURNAL_LAPS; i++)
                if (missing[i] && make_lap(j, j->laps[i].fd, &why) < 0)
                        return turned_off(j, &why);
        (void)fs_take_sync_failure();
        if (fs_sync_dir(j->dir, err) < 0) {
                if (!fs_take_sync_failure())            /* it was not tried */
                        return turned_off(j, err);
                atomic_store(&j->failed, true);
                return -1;
        }
        atomic_store(&j->open, true);
        return 0;
}

bool journal_is_open(const struct journal *j)
{
        return atomic_load(&j->open);
}

int journal_open(struct journal *j, struct err *err)
{
        return journal_is_open(j) ? 0 : journal_is_usable(j) ? make_files(j, err) : 1;
}

static void begin_lap(struct journal *j, unsigned i)
{
        struct lap *lap = &j->laps[i];

        must(atomic_load(&lap->state) == LAP_FREE && lap->dirty_n == 0);
        lap->used = 0;
        lap->crc = 0;
        lap->serial = ++j->serial;
        random_bytes(&lap->salt, sizeof lap->salt);
        lap->since_ms = clock_mono_ms();
        atomic_store(&lap->state, LAP_USED);
        j->at = i;
}

/* Leave this lap for the other one. False: that is not free yet. */
static bool turn(struct journal *j)
{
        if (atomic_load(&j->laps[!j->at].state) != LAP_FREE)
                return false;
        atomic_store(&j->laps[j->at].state, LAP_DUE);
        begin_lap(j, !j->at);
        return true;
}

static unsigned count_new(const struct journal *j)
{
        unsigned n = 0;

        for (unsigned i = 0; i < j->n; i++)
                n += *j->pieces[i].lap != j->laps[j->at].serial;
        return n;
}

/* A lap with room for the group. False: there is none. */
static bool find_room(struct journal *j)
{
        struct lap *lap = &j->laps[j->at];

        if (atomic_load(&lap->state) == LAP_FREE) {
                begin_lap(j, j->at);
                return true;
        }
        return (lap->used + j->len <= j->lap_bytes && lap->dirty_n + count_new(j) <= DIRTY_MAX) || turn(j);
}

/*
 * The lap holds descriptors of all logs in it. Opened, not dup()ed: an error of writing back that the mailbox's own descriptor is told of is
 * told to this one, too. False: there are no more.
 */
static bool hold_logs(struct journal *j, struct lap *lap)
{
        for (unsigned i = 0; i < j->n; i++) {
                int fd;

                if (*j->pieces[i].lap == lap->serial)
                        continue;
                fd = open(j->pieces[i].path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
                if (fd < 0 && errno != ENOENT)          /* that one was removed with its mailbox */
                        return false;
                if (fd >= 0)
                        lap->dirty[lap->dirty_n++] = (struct dirty){ fd, xstrdup(j->pieces[i].path) };
                *j->pieces[i].lap = lap->serial;
        }
        return true;
}

static void seal_group(struct journal *j, const struct lap *lap)
{
        struct group_head head = { .magic = GROUP_MAGIC, .pieces = j->n, .salt = lap->salt, .len = j->len };

        memcpy(j->group, &head, sizeof head);
        head.crc = crc32c(lap->crc, j->group + GROUP_SEALED, j->len - GROUP_SEALED);
        memcpy(j->group, &head, sizeof head);
}

int journal_commit(struct journal *j, struct err *err)
{
        struct err why = ERR_INIT;
        struct group_head head;
        struct lap *lap;
        int rc;

        if (!j->n || !journal_is_usable(j))
                return 1;
        if ((rc = journal_open(j, err)) != 0)
                return rc;
        if (!find_room(j))
                return 1;
        lap = &j->laps[j->at];
        if (!hold_logs(j, lap))
                return 1;
        seal_group(j, lap);
        if (fs_pwrite_all(lap->fd, j->group, j->len, lap->used, &why) < 0)
                return turned_off(j, &why);
        if (fs_datasync(lap->fd, j->dir, err) < 0) {
                if (ftruncate(lap->fd, (off_t)lap->used) < 0)
                        log_event(LOG_WARN, NULL, "journal.truncate", "dir=%s errno=%d", j->dir, errno);
                atomic_store(&j->failed, true);
                return err_prefix(err, "the journal");
        }
        memcpy(&head, j->group, sizeof head);
        lap->crc = head.crc;
        lap->used += j->len;
        return 0;
}

/* ---- retiring ---- */

bool journal_is_due(const struct journal *j)
{
        return atomic_load(&j->laps[0].state) == LAP_DUE || atomic_load(&j->laps[1].state) == LAP_DUE;
}

void journal_turn(struct journal *j, uint64_t age_ms)
{
        const struct lap *lap = &j->laps[j->at];

        if (journal_is_open(j) && atomic_load(&lap->state) == LAP_USED && lap->since_ms + age_ms <= clock_mono_ms() &&
            atomic_load(&j->laps[!j->at].state) == LAP_FREE) {
                atomic_store(&j->laps[j->at].state, LAP_DUE);
                j->at = !j->at;
        }
}

static int retire_lap(struct journal *j, struct lap *lap, struct err *err)
{
        int rc = 0;

        if (atomic_load(&j->failed))
                return err_set(err, ERR_READONLY, "the journal of %s failed before", j->dir);

        for (unsigned i = 0; rc == 0 && i < lap->dirty_n; i++)
                rc = fs_datasync(lap->dirty[i].fd, lap->dirty[i].path, err);
        forget_dirty(lap);
        if (rc == 0)
                atomic_store(&lap->state, LAP_FREE);
        else
                atomic_store(&j->failed, true);
        return rc;
}

int journal_retire(struct journal *j, struct err *err)
{
        for (unsigned i = 0; i < JOURNAL_LAPS; i++)
                if (atomic_load(&j->laps[i].state) == LAP_DUE && retire_lap(j, &j->laps[i], err) < 0)
                        return -1;
        return 0;
}

int journal_finish(struct journal *j, struct err *err)
{
        for (unsigned i = 0; i < JOURNAL_LAPS; i++) {
                if (atomic_load(&j->laps[i].state) != LAP_FREE && retire_lap(j, &j->laps[i], err) < 0)
                        return -1;
        }
        for (unsigned i = 0; i < JOURNAL_LAPS; i++)
                if (j->laps[i].fd >= 0)
                        journal_close_lap(j->laps[i].fd, j->dir);
        return 0;
}
