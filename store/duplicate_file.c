/*
 * duplicate_file - the files of the marks.
 *
 *   duplicates/<16 hex>   in configdirectory: a head, then up to 65,536 records, at 40 + 40 * index
 *     head    octet 0  "cyrddup\n" · 8 uint32 version, 1 · 12 uint32 0 · 16 uint64 the file's number, as in its name · 24 int64 when it
 *             was begun · 32 uint32 0 · 36 uint32 CRC-32C of all before
 *     record  struct dup_record: 16 octets, which message · 8, which mailbox · int64 when it was delivered, Unix seconds · uint32 UID ·
 *             uint32 CRC-32C of all before, begun with the lower half of the file's number. 40 zeros: it was pruned, or never written
 *   Numbers are little-endian; the highest file is the one that is written to.
 *
 * Records are only ever added behind each other, and overwritten with zeros when they are pruned; a file with none left is removed. Nothing
 * is synced: a record is written after its message is durable, so whatever part of the files a power loss takes, what is left is true.
 * A record that is torn, zero or from an older life of a block fails its checksum and is none. After a start the last file
 * goes on behind its last valid record.
 *
 * Who has a mark to write writes it himself, unless somebody is writing: then that one takes it along. So there is at most one call for
 * a delivery, fewer when there are many, and nobody waits for another's disk.
 */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/duplicate_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"

#define HEAD_MAGIC "cyrddup\n"
#define HEAD_VERSION 1
#define WRITE_MAX 256                           /* records in one call */
#define ROUNDS_MAX 4                            /* calls that one delivery makes at most, when others keep adding */

struct dup_head {                               /* as on disk */
        char magic[8];
        uint32_t version, zero;
        uint64_t number;
        int64_t begun;
        uint32_t spare;
        uint32_t crc;
};
_Static_assert(sizeof(struct dup_head) == 40, "struct dup_head is on the disk");

static uint32_t record_crc(uint64_t number, const struct dup_record *r)
{
        return crc32c((uint32_t)number, r, offsetof(struct dup_record, crc));
}

static bool record_valid(uint64_t number, const struct dup_record *r)
{
        static const struct dup_record zeros;

        return r->crc == record_crc(number, r) && memcmp(r, &zeros, sizeof zeros) != 0;
}

void dup_path(const struct duplicates *d, uint64_t number, struct str *path)
{
        str_clear(path);
        str_printf(path, "%s/%016" PRIx64, d->dir, number);
}

static uint64_t offset_of(uint32_t index)
{
        return sizeof(struct dup_head) + (uint64_t)index * sizeof(struct dup_record);
}

/* ---- writing ---- */

static struct dup_segment *add_segment_locked(struct duplicates *d, uint64_t number) REQUIRES(d->lock, duplicate_file_class);
static struct dup_segment *add_segment_locked(struct duplicates *d, uint64_t number)
{
        for (uint32_t i = 1; i <= DUP_SEGMENTS_MAX; i++) {
                struct dup_segment *seg;

                if (d->segments[i])
                        continue;
                seg = xcalloc(1, sizeof *seg);
                seg->number = number;
                seg->place = i;
                seg->fd = -1;
                d->segments[i] = seg;
                if (number > d->last_number)
                        d->last_number = number;
                return seg;
        }
        return NULL;
}

uint32_t dup_append(struct duplicates *d, const struct dup_record *record)
{
        struct dup_segment *seg;
        uint32_t where = 0;

        dup_lock(d);
        if (!d->current || d->current->records == DUP_SEGMENT_RECORDS)
                d->current = add_segment_locked(d, d->last_number + 1);
        seg = d->current;
        if (seg) {
                struct dup_pending *p;

                if (d->pending.n == DUP_PENDING_MAX) {  /* the disk has been full for long; their slots in the table lead nowhere then */
                        d->pending.n -= DUP_PENDING_MAX / 16;
                        memmove(d->pending.v, d->pending.v + DUP_PENDING_MAX / 16, d->pending.n * sizeof *d->pending.v);
                }
                where = seg->place << 16 | seg->records;
                p = ARRAY_PUSH(&d->pending);
                *p = (struct dup_pending){ seg, seg->records++, *record };
                p->record.crc = record_crc(seg->number, &p->record);
        }
        dup_unlock(d);
        return where;
}

bool dup_find_pending(struct duplicates *d, uint32_t where, struct dup_record *record_r)
{
        bool is = false;

        dup_lock(d);
        for (size_t i = d->pending.n; i-- > 0 && !is;) {
                const struct dup_pending *p = &d->pending.v[i];

                is = (p->segment->place << 16 | p->index) == where;
                if (is)
                        *record_r = p->record;
        }
        dup_unlock(d);
        return is;
}

static int open_for_writing(struct duplicates *d, struct dup_segment *seg, struct err *err)
{
        struct dup_head head = { HEAD_MAGIC, HEAD_VERSION, 0, seg->number, clock_wall_s(), 0, 0 };
        struct str path = STR_INIT;
        int rc = fs_mkdir_p(d->dir, 0700, err);

        dup_path(d, seg->number, &path);
        if (rc == 0) {
                seg->fd = open(path.data, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (seg->fd < 0)
                        rc = err_errno(err, errno, "open %s", path.data);
        }
        str_deinit(&path);
        head.crc = crc32c(0, &head, offsetof(struct dup_head, crc));
        if (rc == 0 && !atomic_load(&seg->made))
                rc = fs_pwrite_all(seg->fd, &head, sizeof head, 0, err);
        if (rc == 0)
                atomic_store(&seg->made, true);
        return rc;
}

/* The records that one call can write. Returns how many; 0: none, or somebody is writing. */
static uint32_t take_pending(struct duplicates *d, struct dup_segment **seg_r, uint32_t *first_r, struct dup_record *out)
        EXCLUDES(duplicate_file_class);
static uint32_t take_pending(struct duplicates *d, struct dup_segment **seg_r, uint32_t *first_r, struct dup_record *out)
{
        uint32_t n = 0;

        dup_lock(d);
        if (!d->writing && d->pending.n) {
                const struct dup_pending *p = d->pending.v;

                *seg_r = p->segment;
                *first_r = p->index;
                for (; n < WRITE_MAX && n < d->pending.n && p[n].segment == *seg_r && p[n].index == *first_r + n; n++)
                        out[n] = p[n].record;
                d->writing = true;
        }
        dup_unlock(d);
        return n;
}

/* What was written is pending no more. When too much became pending meanwhile, the first are not there any more. */
static void written(struct duplicates *d, struct dup_segment *seg, uint32_t first, uint32_t n) EXCLUDES(duplicate_file_class);
static void written(struct duplicates *d, struct dup_segment *seg, uint32_t first, uint32_t n)
{
        size_t gone = 0;
        int fd = -1;

        dup_lock(d);
        while (gone < d->pending.n && d->pending.v[gone].segment == seg && d->pending.v[gone].index < first + n)
                gone++;
        d->pending.n -= gone;
        memmove(d->pending.v, d->pending.v + gone, d->pending.n * sizeof *d->pending.v);
        if (first + n == DUP_SEGMENT_RECORDS) {
                fd = seg->fd;
                seg->fd = -1;
        }
        d->writing = false;
        dup_unlock(d);
        if (fd >= 0)
                close(fd);
}

static int write_once(struct duplicates *d, struct dup_segment *seg, uint32_t first, const struct dup_record *records, uint32_t n,
                      struct err *err)
{
        char quoted[LOG_QUOTE_MAX];

        if ((seg->fd >= 0 || open_for_writing(d, seg, err) == 0) &&
            fs_pwrite_all(seg->fd, records, n * sizeof *records, offset_of(first), err) == 0)
                return 0;
        if (log_once(&d->failure_logged, 60))
                log_event(LOG_ERROR, NULL, "duplicates.write", "reason=%s consequence=\"a restart may forget what was delivered\"",
                          log_quote_str(quoted, err->text));
        return -1;
}

int dup_write(struct duplicates *d, struct err *err)
{
        struct dup_record records[WRITE_MAX];
        struct dup_segment *seg;
        struct err mine = ERR_INIT;
        uint32_t first, n;

        for (unsigned round = 0; round < ROUNDS_MAX && (n = take_pending(d, &seg, &first, records)) > 0; round++) {
                if (write_once(d, seg, first, records, n, &mine) < 0) {
                        dup_lock(d);
                        d->writing = false;
                        dup_unlock(d);
                        if (err)
                                err_copy(err, &mine);
                        return -1;
                }
                written(d, seg, first, n);
        }
        return 0;
}

/* ---- reading ---- */

bool dup_read(struct duplicates *d, uint32_t where, struct dup_record *record_r)
{
        struct dup_segment *seg;
        struct str path = STR_INIT;
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];
        uint64_t number = 0;
        bool valid = false;
        int fd;

        if (dup_find_pending(d, where, record_r))
                return true;
        dup_lock(d);
        seg = d->segments[where >> 16];
        if (seg)
                number = seg->number;
        dup_unlock(d);
        if (!number)
                return false;
        dup_path(d, number, &path);
        fd = open(path.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno != ENOENT)
                err_errno(&err, errno, "open %s", path.data);
        if (fd >= 0) {
                valid = fs_pread_all(fd, record_r, sizeof *record_r, offset_of(where & 0xffff), &err) == 0 && record_valid(number, record_r);
                close(fd);
        }
        if (err.code && err.code != ERR_CORRUPT && log_once(&d->failure_logged, 60))
                log_event(LOG_ERROR, NULL, "duplicates.read", "reason=%s consequence=\"a message may be delivered twice\"",
                          log_quote_str(quoted, err.text));
        str_deinit(&path);
        return valid;
}

int dup_scan(const struct duplicates *d, uint64_t number, void (*fn)(void *ctx, uint32_t index, const struct dup_record *record), void *ctx,
             struct err *err)
{
        struct str path = STR_INIT, octets = STR_INIT;
        struct dup_head head;
        int rc;

        dup_path(d, number, &path);
        rc = fs_slurp(path.data, offset_of(DUP_SEGMENT_RECORDS), &octets, err);
        if (rc == 0 && octets.len >= sizeof head) {
                memcpy(&head, octets.data, sizeof head);
                if (memcmp(head.magic, HEAD_MAGIC, 8) == 0 && head.crc == crc32c(0, &head, offsetof(struct dup_head, crc)) &&
                    head.version > HEAD_VERSION)
                        rc = err_set(err, ERR_UNSUPPORTED, "%s was written by a newer version of cyrd", path.data);
        }
        /* A head that is lost is no matter: each record tells which file it belongs to. */
        for (uint32_t i = 0; rc == 0 && offset_of(i + 1) <= octets.len; i++) {
                struct dup_record record;

                memcpy(&record, octets.data + offset_of(i), sizeof record);
                if (record_valid(number, &record))
                        fn(ctx, i, &record);
        }
        str_deinit(&octets);
        str_deinit(&path);
        return rc;
}

struct loading { struct duplicates *d; struct dup_segment *seg; };

static void load_record(void *ctx, uint32_t index, const struct dup_record *record)
{
        struct loading *l = ctx;
        uint32_t tag;
        struct dup_shard *s = dup_shard_of(l->d, &record->key, &tag);

        dup_shard_lock(s);
        dup_insert_locked(s, tag, l->seg->place << 16 | index);
        dup_shard_unlock(s);
        atomic_fetch_add(&l->d->marks, 1);
        l->seg->records = index + 1;
}

/* Into the table. A file that nothing is left of is removed; one that cannot be read stays, and is not written to. */
static void load_file(struct duplicates *d, uint64_t number, bool last) EXCLUDES(duplicate_class, duplicate_file_class);
static void load_file(struct duplicates *d, uint64_t number, bool last)
{
        struct loading l = { d, NULL };
        char quoted[LOG_QUOTE_MAX];
        struct str path = STR_INIT;
        struct err err = ERR_INIT;
        int rc;

        dup_lock(d);
        l.seg = add_segment_locked(d, number);
        dup_unlock(d);
        rc = l.seg ? dup_scan(d, number, load_record, &l, &err) : err_set(&err, ERR_LIMIT, "more than %u files", DUP_SEGMENTS_MAX);
        dup_path(d, number, &path);
        if (rc < 0)
                log_event(LOG_WARN, NULL, "duplicates.load", "file=%s reason=%s", path.data, log_quote_str(quoted, err.text));
        else if (!l.seg->records && !d->store->readonly)
                unlink(path.data);
        dup_lock(d);
        if (l.seg && l.seg->records == 0) {
                d->segments[l.seg->place] = NULL;
                free(l.seg);
        } else if (l.seg && last && rc == 0) {
                atomic_store(&l.seg->made, true);
                d->current = l.seg;
        } else if (l.seg) {
                atomic_store(&l.seg->made, true);
                l.seg->records = DUP_SEGMENT_RECORDS;
        }
        dup_unlock(d);
        str_deinit(&path);
}

static int compare_numbers(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static void load_files(struct duplicates *d) EXCLUDES(duplicate_class, duplicate_file_class);
static void load_files(struct duplicates *d)
{
        ARRAY(uint64_t) numbers = ARRAY_INIT;
        DIR *dir = opendir(d->dir);
        struct dirent *e;

        while (dir && (e = readdir(dir)) != NULL)
                if (strlen(e->d_name) == 16 && strspn(e->d_name, "0123456789abcdef") == 16)
                        *ARRAY_PUSH(&numbers) = strtoull(e->d_name, NULL, 16);
        if (dir)
                closedir(dir);
        if (numbers.n)
                qsort(numbers.v, numbers.n, sizeof *numbers.v, compare_numbers);
        for (size_t i = 0; i < numbers.n; i++)
                load_file(d, numbers.v[i], i + 1 == numbers.n);
        ARRAY_FREE(&numbers);
}

void dup_load(struct duplicates *d)
{
        struct duplicate_claim *list;

        mutex_lock(&d->pruning);
        if (!atomic_load(&d->loaded))
                load_files(d);
        mutex_unlock(&d->pruning);
        dup_lock(d);
        atomic_store(&d->loaded, true);
        d->loading = false;
        list = d->for_load;
        d->for_load = NULL;
        dup_unlock(d);
        while (list) {
                struct duplicate_claim *next = list->next;

                waiter_done(list->waiter, NULL);
                list = next;
        }
        dup_shrink_if_needed(d);
}
