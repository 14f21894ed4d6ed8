/*
 * mlog - see mlog.h. The format of a mailbox's directory, `<partition>/<h1>/<h2>/<uniqueid>/`:
 *
 *   manifest            which segments are the log, in order (mlog_manifest.c)
 *   log.<16 hex>        segments; the last MLOG_MAIN one is being written
 *   index               checkpoint of the state (index_file.c); derived
 *   b.<guid hex>[-n]    blobs: octets of messages above the threshold, hard-linked between mailboxes
 *
 * All numbers are little-endian. A segment is a header of 128 octets
 *
 *      0  8  magic "CYRDLOG\1"
 *      8  4  version, 1: a reader refuses a higher one
 *     12  4  salt: random, begins every record's checksum
 *     16  8  segment id
 *     24 40  unique id of the mailbox, padded with NULs
 *     64  8  time of creation, Unix seconds
 *     72  4  epoch (store_epoch)
 *     76 48  0
 *    124  4  CRC-32C of the 124 octets before
 *
 * and records: struct mlog_header, the front (what the store itself reads), the body (a message's octets), zeros up to a multiple
 * of 8. Each record names its segment and offset, carries the checksum of the record before it (the chain), and a durable mark: all
 * of the log before that mark was on disk when the record was written. The last record of a batch has MLOG_ENDS_BATCH; a batch
 * without it does not exist.
 *
 * Write order. A batch goes into the page cache by one pwritev() at the end of the segment; an fdatasync() of the segment makes it
 * durable (that includes the file's size); then it is acknowledged. A blob is synced, linked and its directory synced before the
 * record that needs it is written. A new segment is made, synced, and listed in the manifest (synced, renamed, directory synced)
 * before anything is written to it; its first record (MLOG_COUNTERS) says where the log before it ended. What is in it is
 * acknowledged only after the segments before it were synced.
 *
 * What a stop leaves, and how the reader tells:
 *   in the middle of a batch   a torn batch at the end. Above all durable marks: the log ends before it; the segment is sealed there
 *                              (manifest), a new one begun. Nothing in it was acknowledged; it cannot come back.
 *   power loss, blocks lost    the same: the first missing piece is above every mark that can be read, or the sync had not returned
 *   bit rot                    damage below a mark of a later record (or below the index's position, or in a sealed segment): skipped
 *                              and reported, what follows counts
 *   before the manifest        a segment nobody lists: unlinked at the next open
 */
#include "store/mlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/mailbox.h"
#include "store/mime.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/must.h"

#define SEGMENT_MAGIC 0x01474f4c44525943ull     /* "CYRDLOG\1" */
#define SEGMENT_VERSION 1
#define RECORD_MAGIC 0x31527943u                /* "CyR1" */
#define WINDOW_FIRST (16u << 10)                /* read at once, at first; four times as much with each read, up to … */
#define WINDOW_BYTES (256u << 10)
#define HEADER_CRC_BYTES (sizeof(struct mlog_header) - 4)

struct segment_header {
        uint64_t magic;
        uint32_t version, salt;
        uint64_t id;
        char uniqueid[MLOG_UNIQUEID_MAX];
        int64_t created;
        uint32_t epoch;
        uint8_t zero[48];
        uint32_t crc;
};
_Static_assert(sizeof(struct segment_header) == MLOG_SEGMENT_HEADER, "on the disk");

/* ---- segments ---- */

void mlog_segment_path(struct str *out, const char *dir, uint64_t id)
{
        str_printf(out, "%s/log.%016llx", dir, (unsigned long long)id);
}

int mlog_segment_create(const char *dir, uint64_t id, const char *uniqueid, uint32_t epoch, int *fd_r,
                        struct mlog_segment_info *info_r, struct err *err)
{
        struct segment_header h;
        struct str path = STR_INIT;
        int fd, ret = -1;

        must(strlen(uniqueid) < MLOG_UNIQUEID_MAX);
        if (id > MLOG_SEGMENT_ID_MAX)
                return err_set(err, ERR_LIMIT, "mailbox %s has used up its segment numbers", uniqueid);
        memset(&h, 0, sizeof h);
        h.magic = SEGMENT_MAGIC;
        h.version = SEGMENT_VERSION;
        random_bytes(&h.salt, sizeof h.salt);
        h.id = id;
        memcpy(h.uniqueid, uniqueid, strlen(uniqueid));
        h.created = clock_wall_s();
        h.epoch = epoch;
        h.crc = crc32c(0, &h, sizeof h - 4);
        mlog_segment_path(&path, dir, id);
        fd = open(path.data, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) {
                err_errno(err, errno, "create %s", path.data);
                goto out;
        }
        if (fs_pwrite_all(fd, &h, sizeof h, 0, err) < 0) {
                err_prefix(err, "%s", path.data);
                close(fd);
                unlink(path.data);
                goto out;
        }
        *fd_r = fd;
        *info_r = (struct mlog_segment_info){ .id = id, .salt = h.salt, .crc = h.crc, .epoch = epoch, .created = h.created };
        ret = 0;
out:
        str_deinit(&path);
        return ret;
}

int mlog_segment_decode(const void *header, uint64_t id, const char *uniqueid, struct mlog_segment_info *info_r, struct err *err)
{
        struct segment_header h;

        memcpy(&h, header, sizeof h);
        if (h.magic != SEGMENT_MAGIC || h.crc != crc32c(0, &h, sizeof h - 4))
                return err_set(err, ERR_CORRUPT, "segment %llx: no valid header", (unsigned long long)id);
        if (h.version > SEGMENT_VERSION)
                return err_set(err, ERR_UNSUPPORTED, "segment %llx was written by a newer version", (unsigned long long)id);
        if (h.id != id || (uniqueid && strncmp(h.uniqueid, uniqueid, sizeof h.uniqueid) != 0))
                return err_set(err, ERR_CORRUPT, "segment %llx belongs elsewhere", (unsigned long long)id);
        *info_r = (struct mlog_segment_info){ .id = id, .salt = h.salt, .crc = h.crc, .epoch = h.epoch, .created = h.created };
        return 0;
}

/* ---- writing ---- */

void mlog_batch_init(struct mlog_batch *b)
{
        str_init(&b->head);
        str_init(&b->body);
        b->records = 0;
}

void mlog_batch_deinit(struct mlog_batch *b)
{
        str_deinit(&b->head);
        str_deinit(&b->body);
        b->records = 0;
}

void mlog_batch_add(struct mlog_batch *b, struct str *part, enum mlog_type type, const void *fixed, size_t fixed_len,
                    const void *rest, size_t rest_len, const void *octets, size_t octets_len, uint32_t octets_crc)
{
        struct mlog_header h;
        size_t total = sizeof h + fixed_len + rest_len + octets_len;

        must(fixed_len + rest_len <= MLOG_FRONT_MAX);
        memset(&h, 0, sizeof h);
        h.magic = RECORD_MAGIC;
        h.type = (uint16_t)type;
        h.front_len = (uint32_t)(fixed_len + rest_len);
        h.body_len = octets_len;
        h.body_crc = octets_crc;
        str_reserve(part, mlog_align(total));
        str_append(part, &h, sizeof h);
        str_append(part, fixed, fixed_len);
        if (rest_len)
                str_append(part, rest, rest_len);
        if (octets_len)
                str_append(part, octets, octets_len);
        str_append(part, "\0\0\0\0\0\0\0", mlog_align(total) - total);
        b->records++;
}

static void seal_part(struct str *part, struct mlog_pen *pen, uint32_t *index, uint32_t records)
{
        for (size_t at = 0; at < part->len;) {
                struct mlog_header *h = (struct mlog_header *)(void *)(part->data + at);
                uint8_t *front = (uint8_t *)(h + 1);
                uint64_t total = mlog_align(sizeof *h + h->front_len + h->body_len);

                if (h->type == MLOG_MESSAGE) {
                        struct mlog_message *m = (struct mlog_message *)(void *)front;

                        if (m->uid == 0)
                                m->uid = pen->first_uid++;
                        if (m->createdmodseq == 0)
                                m->createdmodseq = pen->modseq;
                }
                h->segment = pen->segment->id;
                h->offset = pen->offset + at;
                h->seq = pen->seq++;
                if (h->modseq == 0)
                        h->modseq = pen->modseq;
                h->durable = pen->durable;
                h->time = pen->time;
                h->epoch = pen->epoch;
                h->prev_crc = pen->prev_crc;
                h->batch_index = (*index)++;
                h->flags = pen->flags | (*index == records ? MLOG_ENDS_BATCH : 0);
                h->front_crc = crc32c(0, front, h->front_len);
                h->crc = crc32c(pen->segment->salt, h, HEADER_CRC_BYTES);
                pen->prev_crc = h->crc;
                at += total;
        }
        pen->offset += part->len;
}

int mlog_batch_seal(struct mlog_batch *b, struct mlog_pen *pen, struct iovec iov[2])
{
        uint32_t index = 0;
        int n = 0;

        must(b->records > 0);
        if (b->head.len)
                iov[n++] = (struct iovec){ b->head.data, b->head.len };
        if (b->body.len)
                iov[n++] = (struct iovec){ b->body.data, b->body.len };
        seal_part(&b->head, pen, &index, b->records);
        seal_part(&b->body, pen, &index, b->records);
        must(index == b->records);
        return n;
}

/* ---- reading ---- */

static int source_read(const struct mlog_source *src, void *buf, uint64_t len, uint64_t at, struct err *err)
{
        if (src->file)
                return file_read(src->file, buf, len, at, err);
        memcpy(buf, (const char *)src->memory + at, len);
        return 0;
}

/* `len` octets at `at`: a pointer into the window, NULL with *rc -1 on a read error. The range exists. */
static const uint8_t *window(struct mlog_scan *s, uint64_t at, uint64_t len, struct err *err)
{
        uint64_t want;

        if (!s->source.file)
                return (const uint8_t *)s->source.memory + at;
        if (at >= s->window_at && at + len <= s->window_at + s->window_len)
                return s->window + (at - s->window_at);
        want = len > s->window_next ? len : s->window_next;
        s->window_next = s->window_next < WINDOW_BYTES / 4 ? s->window_next * 4 : WINDOW_BYTES;
        if (want > s->source.size - at)
                want = s->source.size - at;
        if (want > s->window_cap) {
                s->window = xrealloc(s->window, want);
                s->window_cap = want;
        }
        s->window_len = 0;
        if (source_read(&s->source, s->window, want, at, err) < 0)
                return NULL;
        s->window_at = at;
        s->window_len = want;
        return s->window;
}

static bool header_valid(const struct mlog_header *h, const struct mlog_segment_info *info, uint64_t at, uint64_t size)
{
        uint64_t room = size - at - sizeof *h;

        return h->magic == RECORD_MAGIC && h->segment == info->id && h->offset == at && h->crc == crc32c(info->salt, h, HEADER_CRC_BYTES) &&
               h->front_len <= MLOG_FRONT_MAX && h->front_len <= room && h->body_len <= MLOG_BODY_MAX &&
               h->body_len <= room - h->front_len;
}

bool mlog_header_valid(const struct mlog_header *h, const struct mlog_segment_info *info, uint64_t offset)
{
        return header_valid(h, info, offset, UINT64_MAX);
}

/* Is there a whole record at `at`? 1, 0, -1 (read error). Fills rec_r. Its padding may be cut by the end of the file. */
static int try_record(struct mlog_scan *s, uint64_t at, struct mlog_record *rec_r, struct err *err)
{
        const uint8_t *p;

        if (at >= s->source.size || s->source.size - at < sizeof rec_r->h)
                return 0;
        p = window(s, at, sizeof rec_r->h, err);
        if (!p)
                return -1;
        memcpy(&rec_r->h, p, sizeof rec_r->h);
        if (!header_valid(&rec_r->h, &s->info, at, s->source.size))
                return 0;
        str_clear(&s->front);
        if (rec_r->h.front_len) {
                p = window(s, at + sizeof rec_r->h, rec_r->h.front_len, err);
                if (!p)
                        return -1;
                str_append(&s->front, p, rec_r->h.front_len);
        }
        if (crc32c(0, s->front.data, s->front.len) != rec_r->h.front_crc || !mlog_front_valid(&rec_r->h, s->front.data))
                return 0;
        rec_r->front = (const uint8_t *)s->front.data;
        rec_r->total_len = mlog_align(sizeof rec_r->h + rec_r->h.front_len + rec_r->h.body_len);
        rec_r->body_ok = false;
        return 1;
}

static int check_body(struct mlog_scan *s, struct mlog_record *rec, struct err *err)
{
        uint64_t at = rec->h.offset + sizeof rec->h + rec->h.front_len, left = rec->h.body_len;
        uint32_t crc = 0;

        while (left) {
                uint64_t n = left < WINDOW_BYTES ? left : WINDOW_BYTES;
                const uint8_t *p = window(s, at, n, err);

                if (!p)
                        return -1;
                crc = crc32c(crc, p, n);
                at += n;
                left -= n;
        }
        rec->body_ok = crc == rec->h.body_crc;
        return 0;
}

int mlog_scan_begin(struct mlog_scan *s, const struct mlog_source *source, uint64_t id, const char *uniqueid, uint64_t offset,
                    uint32_t prev_crc, struct err *err)
{
        uint8_t header[MLOG_SEGMENT_HEADER];

        memset(s, 0, sizeof *s);
        str_init(&s->front);
        s->source = *source;
        s->window_next = WINDOW_FIRST;
        if (source->size < MLOG_SEGMENT_HEADER)
                return err_set(err, ERR_CORRUPT, "segment %llx is too short", (unsigned long long)id);
        if (source_read(source, header, sizeof header, 0, err) < 0 || mlog_segment_decode(header, id, uniqueid, &s->info, err) < 0)
                return -1;
        s->at = offset ? offset : MLOG_SEGMENT_HEADER;
        s->prev_crc = offset ? prev_crc : s->info.crc;
        s->prev_known = true;
        return 0;
}

void mlog_scan_deinit(struct mlog_scan *s)
{
        free(s->window);
        s->window = NULL;
        str_deinit(&s->front);
}

/* Behind damage at s->at: where does the next whole record begin? 1, 0: nowhere, -1. */
static int resync(struct mlog_scan *s, struct mlog_record *rec_r, struct err *err)
{
        for (uint64_t at = mlog_align(s->at + 1); at < s->source.size && s->source.size - at >= sizeof rec_r->h; at += 8) {
                const uint8_t *p = window(s, at, 4, err);
                uint32_t magic;
                int rc;

                if (!p)
                        return -1;
                memcpy(&magic, p, 4);
                if (magic != RECORD_MAGIC)
                        continue;
                rc = try_record(s, at, rec_r, err);
                if (rc != 0)
                        return rc;
        }
        return 0;
}

int mlog_scan_next(struct mlog_scan *s, struct mlog_record *rec_r, struct err *err)
{
        int rc = try_record(s, s->at, rec_r, err);

        if (rc < 0)
                return -1;
        if (rc == 0) {
                s->ends_in_garbage = s->at < s->source.size;
                if (!s->ends_in_garbage)
                        return MLOG_SCAN_END;
                rc = resync(s, rec_r, err);
                if (rc < 0)
                        return -1;
                if (rc == 0)
                        return MLOG_SCAN_END;
                s->ends_in_garbage = false;
                s->damage_from = s->at;
                s->damage_to = rec_r->h.offset;
                s->at = s->damage_to;                   /* the next call returns it */
                s->prev_known = false;
                return MLOG_SCAN_DAMAGE;
        }
        if (s->check_bodies && check_body(s, rec_r, err) < 0)
                return -1;
        rec_r->chained = !s->prev_known || rec_r->h.prev_crc == s->prev_crc;
        s->prev_crc = rec_r->h.crc;
        s->prev_known = true;
        s->at += rec_r->total_len;
        return MLOG_SCAN_RECORD;
}

int mlog_read_record(struct file *file, const struct mlog_segment_info *info, uint64_t offset, struct mlog_header *header_r,
                     struct str *front, struct err *err)
{
        char buf[4096];                                 /* most fronts are there with one read */
        int fd;
        ssize_t n;

        if (file_acquire_fd(file, &fd, err) < 0)
                return -1;
        do {
                n = pread(fd, buf, sizeof buf, (off_t)offset);
        } while (n < 0 && errno == EINTR);
        if (n < 0)
                err_errno(err, errno, "read %s", file_path(file));
        file_release_fd(file);
        if (n < 0)
                return -1;
        if ((size_t)n < sizeof *header_r)
                goto damaged;
        memcpy(header_r, buf, sizeof *header_r);
        if (!header_valid(header_r, info, offset, UINT64_MAX))
                goto damaged;
        str_clear(front);
        if (header_r->front_len <= (size_t)n - sizeof *header_r) {
                str_append(front, buf + sizeof *header_r, header_r->front_len);
        } else if (file_read(file, str_append_space(front, header_r->front_len), header_r->front_len, offset + sizeof *header_r,
                             err) < 0) {
                return -1;
        }
        if (crc32c(0, front->data, front->len) != header_r->front_crc || !mlog_front_valid(header_r, front->data))
                goto damaged;
        return 0;
damaged:
        return err_set(err, ERR_CORRUPT, "%s: no whole record at %llu", file_path(file), (unsigned long long)offset);
}

const char *mlog_record_at(const char *p, size_t n, const struct mlog_segment_info *info, uint64_t offset, struct mlog_header *header_r)
{
        const char *front = p + sizeof *header_r;

        if (n < sizeof *header_r)
                return NULL;
        memcpy(header_r, p, sizeof *header_r);
        if (!header_valid(header_r, info, offset, UINT64_MAX) || header_r->front_len > n - sizeof *header_r ||
            crc32c(0, front, header_r->front_len) != header_r->front_crc || !mlog_front_valid(header_r, front))
                return NULL;
        return front;
}

/* ---- fronts ---- */

static bool message_valid(const struct mlog_header *h, const struct mlog_message *m)
{
        uint64_t at = sizeof *m + (uint64_t)m->envelope_len + m->bodystructure_len + m->body_len;

        at = mlog_align(at) + (uint64_t)m->parts_n * sizeof(struct mime_part) + m->header_len;
        if (at != h->front_len || m->uid == UINT32_MAX || (m->uid == 0))
                return false;
        if (m->flags & ~(uint32_t)(MSG_SYSTEM_FLAGS | MSG_EXPUNGED | MSG_BLOB | MSG_UNLINKED | MSG_OWN_THRID))
                return false;
        return m->flags & (MSG_BLOB | MSG_UNLINKED) ? h->body_len == 0 : h->body_len == m->size;
}

static bool ranges_valid(const struct uidrange *r, uint32_t n)
{
        uint32_t last = 0;

        for (uint32_t i = 0; i < n; i++) {
                if (r[i].first <= last || r[i].last < r[i].first || r[i].last == UINT32_MAX)
                        return false;
                last = r[i].last;
        }
        return true;
}

/* A fixed part of `fixed` octets, then n things of `each`, and `more` octets: exactly the front? */
static bool length_is(const struct mlog_header *h, uint64_t fixed, uint64_t n, uint64_t each, uint64_t more)
{
        return h->front_len == fixed + n * each + more;
}

static bool kwset_valid(const uint16_t *ids, uint32_t n)
{
        for (uint32_t i = 0; i < n; i++)
                if (ids[i] >= KEYWORDS_MAX || (i && ids[i] <= ids[i - 1]))
                        return false;
        return n > 0;
}

static bool move_valid(const struct mlog_header *h, const struct mlog_move *m)
{
        const struct uidrange *ranges = (const struct uidrange *)(m + 1);

        if (memchr(m->other, 0, sizeof m->other) == NULL)
                return false;
        if (h->type == MLOG_MOVE_DONE)
                return length_is(h, sizeof *m, 0, 0, 0);
        if (h->type == MLOG_MOVE_ARRIVAL)
                return m->dir_len % sizeof *ranges == 0 && length_is(h, sizeof *m, m->n, sizeof *ranges, m->dir_len) &&
                       ranges_valid(ranges, m->n) && ranges_valid(ranges + m->n, m->dir_len / sizeof *ranges);
        if (m->dir_len > 4096)
                return false;
        return length_is(h, sizeof *m, m->n, sizeof *ranges, m->dir_len) && ranges_valid(ranges, m->n);
}

bool mlog_front_valid(const struct mlog_header *h, const void *front)
{
        static const uint32_t at_least[MLOG_TYPE_MAX] = {
                [MLOG_MESSAGE] = sizeof(struct mlog_message), [MLOG_FLAGS] = sizeof(struct mlog_flags),
                [MLOG_EXPUNGE] = sizeof(struct mlog_uids), [MLOG_KEYWORD] = sizeof(struct mlog_keyword),
                [MLOG_KWSET] = sizeof(struct mlog_kwset), [MLOG_OPTIONS] = sizeof(struct mlog_options),
                [MLOG_ANNOTATION] = sizeof(struct mlog_annotation), [MLOG_MOVE_INTENT] = sizeof(struct mlog_move),
                [MLOG_MOVE_ARRIVAL] = sizeof(struct mlog_move), [MLOG_MOVE_DONE] = sizeof(struct mlog_move),
                [MLOG_PURGE] = sizeof(struct mlog_uids), [MLOG_ADOPT] = sizeof(struct mlog_adopt),
                [MLOG_STATE] = sizeof(struct mlog_flags), [MLOG_COUNTERS] = sizeof(struct mlog_counters),
                [MLOG_FORGET] = sizeof(struct mlog_kwset), [MLOG_DETAILS] = sizeof(struct mlog_flags),
                [MLOG_VALUES] = sizeof(struct mlog_values),
        };

        if (h->type == 0)
                return false;
        if (h->type >= MLOG_TYPE_MAX)
                return true;                            /* of a newer version: not ours to judge, and skipped */
        if (h->front_len < at_least[h->type] || (h->type != MLOG_MESSAGE && h->body_len))
                return false;
        switch ((enum mlog_type)h->type) {
        case MLOG_MESSAGE:
                return message_valid(h, front);
        case MLOG_FLAGS:
                return length_is(h, sizeof(struct mlog_flags), ((const struct mlog_flags *)front)->n, sizeof(struct mlog_flag_entry), 0);
        case MLOG_STATE:
                return length_is(h, sizeof(struct mlog_flags), ((const struct mlog_flags *)front)->n, sizeof(struct mlog_state_entry), 0);
        case MLOG_EXPUNGE:
        case MLOG_PURGE: {
                const struct mlog_uids *u = front;

                return length_is(h, sizeof *u, u->n, sizeof(struct uidrange), 0) && ranges_valid((const struct uidrange *)(u + 1), u->n);
        }
        case MLOG_KEYWORD: {
                const struct mlog_keyword *k = front;

                return k->id < KEYWORDS_MAX && k->len > 0 && k->len <= KEYWORD_BYTES_MAX && length_is(h, sizeof *k, k->len, 1, 0) &&
                       memchr(k + 1, 0, k->len) == NULL;
        }
        case MLOG_KWSET:
        case MLOG_FORGET: {
                const struct mlog_kwset *k = front;

                return (k->id > 0) == (h->type == MLOG_KWSET) && k->n <= KEYWORDS_MAX && length_is(h, sizeof *k, k->n, 2, 0) && kwset_valid((const uint16_t *)(k + 1), k->n);
        }
        case MLOG_ANNOTATION: {
                const struct mlog_annotation *a = front;

                return length_is(h, sizeof *a, a->entry_len, 1, (uint64_t)a->user_len + (a->value_len == UINT32_MAX ? 0 : a->value_len));
        }
        case MLOG_MOVE_INTENT:
        case MLOG_MOVE_ARRIVAL:
        case MLOG_MOVE_DONE:
                return move_valid(h, front);
        case MLOG_OPTIONS:
                return length_is(h, sizeof(struct mlog_options), 0, 0, 0);
        case MLOG_ADOPT: {
                const struct mlog_adopt *a = front;

                return length_is(h, sizeof *a, 0, 0, 0) && a->base_uid > 0 && a->n > 0 && a->base_uid < UINT32_MAX - a->n &&
                       a->segment <= MLOG_SEGMENT_ID_MAX;
        }
        case MLOG_COUNTERS:
                return length_is(h, sizeof(struct mlog_counters), 0, 0, 0);
        case MLOG_DETAILS:
                return length_is(h, sizeof(struct mlog_flags), ((const struct mlog_flags *)front)->n, sizeof(struct mlog_details_entry), 0);
        case MLOG_VALUES:
                return length_is(h, sizeof(struct mlog_values), 0, 0, 0) && ((const struct mlog_values *)front)->counters.uidnext > 0 &&
                       ((const struct mlog_values *)front)->counters.uidnext < UINT32_MAX;
        case MLOG_TYPE_MAX:
                break;
        }
        return false;
}
