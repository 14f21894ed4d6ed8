/*
 * index_file - the checkpoint file: reading it at open, and writing changed blocks.
 *
 * Layout. All integers little-endian; pages of 4,096 octets; an extent is a run of pages. 160-octet records and 96-octet summaries
 * are the structs of index.h and index_private.h.
 *
 *   page 0, page 1    header slots: struct header, the rest zero. The one with the higher generation among those whose CRC is right
 *                     is the file's state; generation g stands in slot g % 2.
 *   extents           records of a block (UIDs ascending; the summary has their count, place and CRC-32C)
 *                     the table: the summaries of all blocks, ascending (CRC in the header)
 *                     meta: for each of the 8 blobs a length (u64), then the blobs (CRC in the header)
 *                     parts: octets (place and CRC in the list)
 *                     the list of parts: a struct place for each (CRC in the header). Version 1 had none
 *   all else          free. Which pages those are is nowhere written: what the state does not refer to.
 *
 * Writing generation g + 1 touches no page that generation g refers to:
 *   1. blocks changed since g, the table, parts that are new; meta and the list of parts if they changed; into free pages
 *   2. fdatasync
 *   3. the header, into the slot that does not hold g
 *   4. fdatasync; only now the pages that just g referred to become free
 * A new file (the first one, after a failed sync, or when most of the pages are free) is written in the same way as `path`.new, then
 * renamed, then the directory is synced.
 *
 * What a crash leaves. Up to step 3: header g, and everything it refers to, untouched; pages written in vain are free. In step 3:
 * a torn header fails its CRC, so g again; a whole one is g + 1, all of whose pages were synced before. After 4: g + 1. So a
 * reader finds one state or the other and never a mix; the log is replayed from the position in that header. Log segments needed
 * for g may only go after step 4 (index_snapshot_finish). One more trap: after kill -9 between 3 and 4 the next process sees g + 1
 * in the page cache though the disk may still have g; so the first checkpoint after an open begins with a fdatasync, before pages
 * that only g refers to are used.
 *
 * In place or not. Rewriting a block where it stands would be one extent less of space for each changed block, but a crash in the middle
 * would leave a torn block, and its mailbox would be rebuilt from the whole log: for a million messages that is minutes.
 * The price here is the table, 96 octets for each 1,024 messages, written each time.
 *
 * Damage (bit rot). Header: the other slot counts, if it is right; its pages may have been used anew, then their CRCs are wrong.
 * Table, meta, list of parts: index_open() says ERR_CORRUPT. A part: index_part_read() does. A block: noticed when it is first read, see struct index_repair. Besides the CRC,
 * every number is checked against the bounds of the file and the other numbers, so that a crafted file cannot do harm.
 *
 * No mmap: a block is read with pread() into memory and checked there once (some 60 µs from the page cache). A mapping would need
 * guarding against SIGBUS and against pages that change after they were checked, and there are only 65,530 of them.
 */
#include "store/index_private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/file.h"
#include "util/fs.h"
#include "util/must.h"

#define INDEX_VERSION 2
#define PAGES_MAX (1u << 31)                    /* 8 TiB */
#define PLACE_MAX (1u << 30)                    /* octets of table or meta that are believed: 11 thousand million messages */
static const char magic[8] = { 'c', 'y', 'r', 'd', 'i', 'd', 'x', '\n' };

struct place {
        uint32_t page, pages;                   /* 0, 0: empty */
        uint64_t len;                           /* octets */
        uint32_t crc, spare;
};

struct header {
        char magic[8];
        uint32_t version;
        uint32_t crc;                           /* of this struct with crc 0 */
        uint64_t generation;
        char uniqueid[64];                      /* NUL-padded */
        uint32_t record_size, summary_size;     /* 160, 96 */
        uint32_t block_count, spare;
        struct place table, meta;
        struct index_counters counters;
        struct place parts;
        uint8_t reserved[104];
};
_Static_assert(sizeof(struct index_counters) == 184 && sizeof(struct place) == 24, "on the disk");
_Static_assert(sizeof(struct header) == 464 && sizeof(struct header) <= INDEX_PAGE, "on the disk");

static uint32_t pages_for(uint64_t len)
{
        uint64_t pages = (len + INDEX_PAGE - 1) / INDEX_PAGE;

        must(pages <= UINT32_MAX);
        return (uint32_t)pages;
}

static uint32_t header_crc(const struct header *h)
{
        struct header copy = *h;

        copy.crc = 0;
        return crc32c(0, &copy, sizeof copy);
}

/* ---- the file ---- */

static void file_lock(struct index_file *f) ACQUIRE(f->lock, index_class);
static void file_unlock(struct index_file *f) RELEASE(f->lock, index_class);
static void file_lock(struct index_file *f) NO_TSA
{
        mutex_lock(&f->lock);
}

static void file_unlock(struct index_file *f) NO_TSA
{
        mutex_unlock(&f->lock);
}

/* ---- extents ---- */

/* First fit, else at the end. */
static uint32_t take_pages_locked(struct index_file *f, uint32_t pages) REQUIRES(f->lock, index_class);
static uint32_t take_pages_locked(struct index_file *f, uint32_t pages)
{
        uint32_t page;

        for (size_t i = 0; i < f->free.n; i++) {
                struct index_free *hole = &f->free.v[i];

                if (hole->pages < pages)
                        continue;
                page = hole->page;
                hole->page += pages;
                hole->pages -= pages;
                if (hole->pages == 0) {
                        memmove(hole, hole + 1, (f->free.n - i - 1) * sizeof *hole);
                        f->free.n--;
                }
                return page;
        }
        page = f->end;
        must(f->end < PAGES_MAX);
        f->end += pages;
        return page;
}

static void give_pages_locked(struct index_file *f, uint32_t page, uint32_t pages) REQUIRES(f->lock, index_class);
static void give_pages_locked(struct index_file *f, uint32_t page, uint32_t pages)
{
        size_t low = 0, high = f->free.n;
        bool joined = false;

        while (low < high) {                            /* the first hole behind it */
                size_t mid = low + (high - low) / 2;

                if (f->free.v[mid].page < page)
                        low = mid + 1;
                else
                        high = mid;
        }
        if (low > 0 && f->free.v[low - 1].page + f->free.v[low - 1].pages == page) {
                f->free.v[--low].pages += pages;
                joined = true;
        } else if (low < f->free.n && page + pages == f->free.v[low].page) {
                f->free.v[low].page = page;
                f->free.v[low].pages += pages;
                joined = true;
        }
        if (!joined) {
                ARRAY_RESERVE(&f->free, 1);
                memmove(f->free.v + low + 1, f->free.v + low, (f->free.n - low) * sizeof *f->free.v);
                f->free.v[low] = (struct index_free){ page, pages };
                f->free.n++;
        }
        if (low + 1 < f->free.n && f->free.v[low].page + f->free.v[low].pages == f->free.v[low + 1].page) {
                f->free.v[low].pages += f->free.v[low + 1].pages;
                memmove(f->free.v + low + 1, f->free.v + low + 2, (f->free.n - low - 2) * sizeof *f->free.v);
                f->free.n--;
        }
        if (low == f->free.n - 1 && f->free.v[low].page + f->free.v[low].pages == f->end) {
                f->end = f->free.v[low].page;
                f->free.n--;
        }
}

/* Around pages that are accounted for already. */
static struct index_extent *extent_at(struct index_file *f, uint32_t page, uint32_t pages)
{
        struct index_extent *e = xcalloc(1, sizeof *e);

        atomic_init(&e->refs, 1);
        e->file = index_file_ref(f);
        e->page = page;
        e->pages = pages;
        return e;
}

static struct index_extent *extent_new(struct index_file *f, uint64_t len)
{
        uint32_t page, pages = pages_for(len);

        file_lock(f);
        page = take_pages_locked(f, pages);
        file_unlock(f);
        return extent_at(f, page, pages);
}

struct index_extent *index_extent_ref(struct index_extent *e)
{
        atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
        return e;
}

void index_extent_unref(struct index_extent **e_p)
{
        struct index_extent *e = *e_p;

        *e_p = NULL;
        if (!e || atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) != 1)
                return;
        file_lock(e->file);
        give_pages_locked(e->file, e->page, e->pages);
        file_unlock(e->file);
        index_file_unref(&e->file);
        free(e);
}

uint32_t index_sparse_pages = 256;

/* Mostly holes (after a purge): worth a new file. Not for the one free version that each changed block leaves. */
static bool file_is_sparse(struct index_file *f)
{
        uint64_t holes = 0;
        bool sparse;

        file_lock(f);
        for (size_t i = 0; i < f->free.n; i++)
                holes += f->free.v[i].pages;
        sparse = f->end > index_sparse_pages && holes > (uint64_t)f->end / 3 * 2;
        file_unlock(f);
        return sparse;
}

/* ---- opening ---- */

static bool header_good(const struct header *h, bool *newer)
{
        if (memcmp(h->magic, magic, sizeof magic) != 0 || h->crc != header_crc(h))
                return false;
        if (h->version == 0 || h->version > INDEX_VERSION) {
                *newer = true;
                return false;
        }
        return h->record_size == sizeof(struct index_rec) && h->summary_size == sizeof(struct index_summary)
                && memchr(h->uniqueid, 0, sizeof h->uniqueid);
}

static int read_header(int fd, struct index *ix, struct header *h_r, struct err *err)
{
        struct header h[2];
        bool good[2], newer = false;

        for (int i = 0; i < 2; i++) {
                if (fs_pread_all(fd, &h[i], sizeof h[i], (uint64_t)i * INDEX_PAGE, err) < 0)
                        return err_prefix(err, "%s", ix->path);
                good[i] = header_good(&h[i], &newer);
        }
        if (!good[0] && !good[1])
                return err_set(err, ERR_CORRUPT, "%s: %s", ix->path, newer ? "of another version" : "no valid header");
        *h_r = good[0] && (!good[1] || h[0].generation > h[1].generation) ? h[0] : h[1];
        if (h_r->version == 1)
                h_r->parts = (struct place){ .page = 0 };
        if (strcmp(h_r->uniqueid, ix->uniqueid) != 0)
                return err_set(err, ERR_CORRUPT, "%s: it is the index of mailbox %s", ix->path, h_r->uniqueid);
        return 0;
}

/* Read an extent named by the header. *buf_r is for free(); NULL when it is empty. */
static int read_place(int fd, struct index *ix, const struct place *pl, uint64_t file_size, const char *what, void **buf_r,
                      struct err *err)
{
        uint64_t at = (uint64_t)pl->page * INDEX_PAGE, end;

        *buf_r = NULL;
        if (pl->pages == 0 && pl->len == 0)
                return 0;
        if (pl->page < INDEX_HEADER_PAGES || pl->page > PAGES_MAX || pl->len == 0 || pl->len > PLACE_MAX
            || __builtin_add_overflow(at, pl->len, &end) || end > file_size || pages_for(pl->len) != pl->pages)
                return err_set(err, ERR_CORRUPT, "%s: the %s is outside of the file", ix->path, what);
        *buf_r = try_malloc(pl->len);
        if (!*buf_r)
                return err_set(err, ERR_NOMEM, "the %s of %s", what, ix->path);
        if (fs_pread_all(fd, *buf_r, pl->len, at, err) < 0)
                return err_prefix(err, "%s: %s", ix->path, what);
        if (crc32c(0, *buf_r, pl->len) != pl->crc)
                return err_set(err, ERR_CORRUPT, "%s: checksum of the %s differs", ix->path, what);
        return 0;
}

static bool summary_possible(const struct index_summary *s, const struct index_summary *before, uint64_t file_size)
{
        uint64_t at = (uint64_t)s->page * INDEX_PAGE, len = (uint64_t)s->records * sizeof(struct index_rec);

        if (s->records == 0 || s->records > INDEX_BLOCK_RECORDS || s->page < INDEX_HEADER_PAGES || s->page > PAGES_MAX
            || s->pages != pages_for(len) || at + len > file_size)
                return false;
        if (s->first_uid == 0 || s->first_uid > s->last_uid || s->last_uid == UINT32_MAX
            || s->last_uid - s->first_uid < s->records - 1 || (before && before->last_uid >= s->first_uid))
                return false;
        if (s->live > s->records || s->seen > s->live || s->answered > s->live || s->flagged > s->live || s->deleted > s->live
            || s->draft > s->live)
                return false;
        if (s->live == 0)
                return s->live_first == 0 && s->live_last == 0;
        return s->live_first >= s->first_uid && s->live_last <= s->last_uid && s->live_first <= s->live_last
                && s->live_last - s->live_first >= s->live - 1;
}

static void add_extent(struct index *ix, struct index_extent *e)
{
        *ARRAY_PUSH(&ix->durable) = e;
}

/* Takes over the reference; NULL: there is none now. */
static void add_place(struct index *ix, struct index_place *kept, struct index_extent *e, const struct place *place)
{
        *kept = (struct index_place){ e, place->len, place->crc };
        if (e)
                add_extent(ix, e);
}

static int load_table(struct index *ix, const struct header *h, const struct index_summary *table, uint64_t file_size,
                      struct err *err)
{
        ARRAY_RESERVE(&ix->blocks, h->block_count);
        for (uint32_t i = 0; i < h->block_count; i++) {
                struct index_block *b;

                if (!summary_possible(&table[i], i ? &table[i - 1] : NULL, file_size))
                        return err_set(err, ERR_CORRUPT, "%s: summary %" PRIu32 " cannot be", ix->path, i);
                b = index_block_create(ix->shared, 0);
                b->sum = table[i];
                b->crc = b->sum.crc;
                b->sum.crc = b->sum.page = b->sum.pages = 0;
                b->extent = extent_at(ix->file, table[i].page, table[i].pages);
                add_extent(ix, index_extent_ref(b->extent));
                *ARRAY_PUSH(&ix->blocks) = b;
                index_totals_add(&ix->totals, &b->sum);
        }
        return 0;
}

static int load_meta(struct index *ix, const struct header *h, const char *meta, struct err *err)
{
        uint64_t len[INDEX_BLOBS], left = h->meta.len;

        if (!meta)
                return 0;
        if (left < sizeof len)
                return err_set(err, ERR_CORRUPT, "%s: meta is too short", ix->path);
        memcpy(len, meta, sizeof len);
        meta += sizeof len;
        left -= sizeof len;
        for (int i = 0; i < INDEX_BLOBS; i++) {
                if (len[i] > left || len[i] > INDEX_BLOB_MAX)
                        return err_set(err, ERR_CORRUPT, "%s: meta cannot be", ix->path);
                str_append(&ix->blob[i], meta, len[i]);
                meta += len[i];
                left -= len[i];
        }
        return left == 0 ? 0 : err_set(err, ERR_CORRUPT, "%s: meta cannot be", ix->path);
}

static int load_parts(struct index *ix, const struct header *h, const struct place *list, uint64_t file_size, struct err *err)
{
        size_t n = h->parts.len / sizeof *list;

        ARRAY_RESERVE(&ix->parts, n);
        for (size_t i = 0; i < n; i++) {
                const struct place *pl = &list[i];
                struct index_extent *e;

                if (pl->page < INDEX_HEADER_PAGES || pl->page > PAGES_MAX || pl->len == 0 || pl->len > INDEX_PART_MAX
                    || (uint64_t)pl->page * INDEX_PAGE + pl->len > file_size || pages_for(pl->len) != pl->pages)
                        return err_set(err, ERR_CORRUPT, "%s: part %zu cannot be", ix->path, i);
                e = extent_at(ix->file, pl->page, pl->pages);
                *ARRAY_PUSH(&ix->parts) = index_part_at(e, pl->len, pl->crc);
                add_extent(ix, index_extent_ref(e));
        }
        return 0;
}

static int compare_extents(const void *a, const void *b)
{
        uint32_t x = (*(struct index_extent *const *)a)->page, y = (*(struct index_extent *const *)b)->page;

        return x < y ? -1 : x > y;
}

/* What no extent covers is free; two that overlap cannot be. */
static int find_holes(struct index *ix, struct err *err)
{
        struct index_file *f = ix->file;
        int ret = 0;

        if (ix->durable.n == 0)
                return 0;
        qsort(ix->durable.v, ix->durable.n, sizeof *ix->durable.v, compare_extents);
        file_lock(f);
        for (size_t i = 0; i < ix->durable.n; i++) {
                struct index_extent *e = ix->durable.v[i];

                if (e->page < f->end) {
                        ret = err_set(err, ERR_CORRUPT, "%s: page %" PRIu32 " is used twice", ix->path, e->page);
                        break;
                }
                if (e->page > f->end)
                        *ARRAY_PUSH(&f->free) = (struct index_free){ f->end, e->page - f->end };
                f->end = e->page + e->pages;
        }
        file_unlock(f);
        return ret;
}

static int load_all(struct index *ix, const struct header *h, uint64_t file_size, struct err *err)
{
        void *table = NULL, *meta = NULL, *parts = NULL;
        int ret = -1;

        if (h->parts.len % sizeof(struct place) || h->parts.len / sizeof(struct place) > INDEX_PARTS_MAX) {
                err_set(err, ERR_CORRUPT, "%s: a list of parts that cannot be", ix->path);
                goto out;
        }
        if (h->table.len != (uint64_t)h->block_count * sizeof(struct index_summary)) {
                err_set(err, ERR_CORRUPT, "%s: a table of another length", ix->path);
                goto out;
        }
        if (read_place(ix->file->fd, ix, &h->table, file_size, "table", &table, err) < 0
            || read_place(ix->file->fd, ix, &h->meta, file_size, "meta", &meta, err) < 0
            || read_place(ix->file->fd, ix, &h->parts, file_size, "list of parts", &parts, err) < 0
            || load_table(ix, h, table, file_size, err) < 0 || load_meta(ix, h, meta, err) < 0
            || load_parts(ix, h, parts, file_size, err) < 0)
                goto out;
        if (table)
                add_place(ix, &ix->table, extent_at(ix->file, h->table.page, h->table.pages), &h->table);
        if (meta)
                add_place(ix, &ix->meta, extent_at(ix->file, h->meta.page, h->meta.pages), &h->meta);
        if (parts)
                add_place(ix, &ix->part_list, extent_at(ix->file, h->parts.page, h->parts.pages), &h->parts);
        if (find_holes(ix, err) < 0)
                goto out;
        ix->generation = h->generation;
        ix->counters = h->counters;
        ix->maybe_unsynced = true;
        ix->dirty = ix->blobs_changed = ix->blocks_changed = ix->parts_changed = false;
        ret = 0;
out:
        free(table);
        free(meta);
        free(parts);
        return ret;
}

/* Before find_holes() has counted them, extents must not be given back: the file is thrown away as a whole. */
static void forget_pages(struct index *ix)
{
        struct index_file *f = ix->file;

        file_lock(f);
        f->free.n = 0;
        f->end = UINT32_MAX;
        file_unlock(f);
}

int index_open(const char *path, const char *uniqueid, struct index **ix_r, struct err *err)
{
        struct index *ix = index_create_empty(path, uniqueid);
        struct header h;
        struct stat st;
        int fd = index_file_open(path);

        if (fd < 0) {
                err_errno(err, errno, "open %s", path);
                goto fail;
        }
        ix->file = index_file_new(path, fd);
        if (fstat(fd, &st) < 0) {
                err_errno(err, errno, "stat %s", path);
                goto fail;
        }
        if (!S_ISREG(st.st_mode)) {
                err_set(err, ERR_CORRUPT, "%s: not a file", path);
                goto fail;
        }
        ix->file->dev = st.st_dev;
        ix->file->ino = st.st_ino;
        if (read_header(fd, ix, &h, err) < 0)
                goto fail;
        if (load_all(ix, &h, (uint64_t)st.st_size, err) < 0) {
                forget_pages(ix);
                goto fail;
        }
        index_file_release(ix->file);
        *ix_r = ix;
        return 0;
fail:
        index_destroy(&ix);
        return -1;
}

/* ---- writing ---- */

struct snapshot_block {
        struct index_block *block;              /* with a reference: nobody changes it */
        struct index_extent *old;               /* where it is already, with a reference; NULL: only in memory */
        struct index_extent *fresh;             /* where it was written now, with a reference */
        uint32_t crc;
};

struct snapshot_part {                          /* as snapshot_block */
        struct index_part *part;
        struct index_extent *old, *fresh;
};

struct index_snapshot {
        char *path;
        char *aside;                            /* path.new, when it is a new file */
        struct index_file *file;                /* to be written; for a new file made in index_snapshot_write() */
        struct index_file *former;              /* when it is a new file: the one it replaces, or NULL */
        bool sync_first;
        bool sync_failed;
        struct header header;
        struct snapshot_block *blocks;
        uint32_t n;
        struct snapshot_part *parts;
        size_t parts_n;
        bool write_table, write_meta, write_list;       /* else they stay where they are */
        struct str meta_text;
        struct index_extent *table, *meta, *list;       /* references */
};

/* Table, meta and list of parts that did not change stay where they are. */
static void keep_place(const struct index_place *kept, struct index_extent **extent_r, struct place *place_r)
{
        if (!kept->extent)
                return;
        *extent_r = index_extent_ref(kept->extent);
        *place_r = (struct place){ kept->extent->page, kept->extent->pages, kept->len, kept->crc, 0 };
}

static void snapshot_places(struct index *ix, struct index_snapshot *s)
{
        uint64_t len[INDEX_BLOBS], sum = 0;

        s->write_table = s->aside || ix->blocks_changed;
        if (!s->write_table)
                keep_place(&ix->table, &s->table, &s->header.table);
        s->write_list = s->aside || ix->parts_changed;
        if (!s->write_list)
                keep_place(&ix->part_list, &s->list, &s->header.parts);
        s->write_meta = s->aside || ix->blobs_changed;
        if (!s->write_meta) {
                keep_place(&ix->meta, &s->meta, &s->header.meta);
                return;
        }
        for (int i = 0; i < INDEX_BLOBS; i++)
                sum += len[i] = ix->blob[i].len;
        if (sum == 0)
                return;
        str_append(&s->meta_text, len, sizeof len);
        for (int i = 0; i < INDEX_BLOBS; i++)
                str_append(&s->meta_text, ix->blob[i].data, ix->blob[i].len);
}

static void snapshot_parts(struct index *ix, struct index_snapshot *s)
{
        s->parts_n = ix->parts.n;
        s->parts = xcalloc(s->parts_n ? s->parts_n : 1, sizeof *s->parts);
        for (size_t i = 0; i < s->parts_n; i++) {
                struct index_part *part = ix->parts.v[i];

                s->parts[i].part = index_part_ref(part);
                if (part->extent)
                        s->parts[i].old = index_extent_ref(part->extent);
        }
}

struct index_snapshot *index_snapshot(struct index *ix)
{
        struct index_snapshot *s = xcalloc(1, sizeof *s);

        must(!ix->snapshot);
        s->path = xstrdup(ix->path);
        str_init(&s->meta_text);
        if (!ix->file || ix->failed || file_is_sparse(ix->file)) {
                struct str aside = STR_INIT;

                str_printf(&aside, "%s.new", ix->path);
                s->aside = str_take(&aside);
                s->former = ix->file ? index_file_ref(ix->file) : NULL;
        } else {
                s->file = index_file_ref(ix->file);
                s->sync_first = ix->maybe_unsynced;
        }
        s->n = (uint32_t)ix->blocks.n;
        s->blocks = xcalloc(s->n ? s->n : 1, sizeof *s->blocks);
        for (uint32_t i = 0; i < s->n; i++) {
                s->blocks[i].block = index_block_ref(ix->blocks.v[i]);
                if (ix->blocks.v[i]->extent)
                        s->blocks[i].old = index_extent_ref(ix->blocks.v[i]->extent);
        }
        snapshot_parts(ix, s);
        memcpy(s->header.magic, magic, sizeof magic);
        s->header.version = INDEX_VERSION;
        s->header.generation = ix->generation + 1;
        s->header.record_size = sizeof(struct index_rec);
        s->header.summary_size = sizeof(struct index_summary);
        s->header.block_count = s->n;
        s->header.counters = ix->counters;
        memcpy(s->header.uniqueid, ix->uniqueid, strlen(ix->uniqueid));
        snapshot_places(ix, s);
        ix->snapshot = s;
        ix->dirty = ix->blobs_changed = ix->blocks_changed = ix->parts_changed = false;
        return s;
}

static int write_extent(int fd, struct index_file *f, const void *p, uint64_t len, struct index_extent **e_r, struct err *err)
{
        *e_r = extent_new(f, len);
        return fs_pwrite_all(fd, p, len, (uint64_t)(*e_r)->page * INDEX_PAGE, err);
}

static int write_blocks(struct index_snapshot *s, int fd, struct err *err)
{
        struct index_rec *buf = NULL;
        int ret = -1;

        for (uint32_t i = 0; i < s->n; i++) {
                struct snapshot_block *sb = &s->blocks[i];
                const struct index_rec *recs;
                size_t len = sb->block->sum.records * sizeof *recs;

                if (sb->old && !s->aside)
                        continue;
                if (!sb->old) {
                        recs = sb->block->recs;         /* in memory only, so it is not evicted */
                        sb->crc = crc32c(0, recs, len);
                } else {                                /* it stands in the former file */
                        if (!buf && !(buf = try_malloc(INDEX_BLOCK_RECORDS * sizeof *buf))) {
                                err_set(err, ERR_NOMEM, "a block of %s", s->path);
                                goto out;
                        }
                        if (index_block_read(sb->block, sb->old, buf, err) < 0)
                                goto out;
                        recs = buf;
                        sb->crc = sb->block->crc;
                }
                if (write_extent(fd, s->file, recs, len, &sb->fresh, err) < 0)
                        goto out;
        }
        ret = 0;
out:
        free(buf);
        return ret;
}

static int write_table(struct index_snapshot *s, int fd, struct err *err)
{
        uint64_t len = (uint64_t)s->n * sizeof(struct index_summary);
        struct index_summary *table;
        int rc;

        if (!s->write_table || s->n == 0)
                return 0;
        table = try_malloc(len);
        if (!table)
                return err_set(err, ERR_NOMEM, "the table of %s", s->path);
        for (uint32_t i = 0; i < s->n; i++) {
                struct snapshot_block *sb = &s->blocks[i];
                struct index_extent *e = sb->fresh ? sb->fresh : sb->old;

                table[i] = sb->block->sum;
                table[i].crc = sb->fresh ? sb->crc : sb->block->crc;
                table[i].page = e->page;
                table[i].pages = e->pages;
        }
        rc = write_extent(fd, s->file, table, len, &s->table, err);
        s->header.table = (struct place){ s->table->page, s->table->pages, len, crc32c(0, table, len), 0 };
        free(table);
        return rc;
}

static int write_meta(struct index_snapshot *s, int fd, struct err *err)
{
        struct str *text = &s->meta_text;

        if (!s->write_meta || text->len == 0)
                return 0;
        if (write_extent(fd, s->file, text->data, text->len, &s->meta, err) < 0)
                return -1;
        s->header.meta = (struct place){ s->meta->page, s->meta->pages, text->len, crc32c(0, text->data, text->len), 0 };
        return 0;
}

static int write_parts(struct index_snapshot *s, int fd, struct err *err)
{
        for (size_t i = 0; i < s->parts_n; i++) {
                struct snapshot_part *sp = &s->parts[i];
                char *loaded = NULL;
                int rc;

                if (sp->old && !s->aside)
                        continue;
                if (sp->old && index_part_load(sp->part, sp->old, &loaded, err) < 0)     /* it stands in the former file */
                        return -1;
                rc = write_extent(fd, s->file, loaded ? loaded : sp->part->text, sp->part->len, &sp->fresh, err);
                free(loaded);
                if (rc < 0)
                        return -1;
        }
        return 0;
}

static int write_list(struct index_snapshot *s, int fd, struct err *err)
{
        uint64_t len = s->parts_n * sizeof(struct place);
        struct place *list;
        int rc;

        if (!s->write_list || s->parts_n == 0)
                return 0;
        list = try_malloc(len);
        if (!list)
                return err_set(err, ERR_NOMEM, "the list of parts of %s", s->path);
        for (size_t i = 0; i < s->parts_n; i++) {
                const struct snapshot_part *sp = &s->parts[i];
                const struct index_extent *e = sp->fresh ? sp->fresh : sp->old;

                list[i] = (struct place){ e->page, e->pages, sp->part->len, sp->part->crc, 0 };
        }
        rc = write_extent(fd, s->file, list, len, &s->list, err);
        s->header.parts = (struct place){ s->list->page, s->list->pages, len, crc32c(0, list, len), 0 };
        free(list);
        return rc;
}

static int write_header(struct index_snapshot *s, int fd, struct err *err)
{
        char page[INDEX_PAGE] = { 0 };
        unsigned slot = s->header.generation % 2;

        s->header.crc = header_crc(&s->header);
        memcpy(page, &s->header, sizeof s->header);
        if (fs_pwrite_all(fd, page, sizeof page, (uint64_t)slot * INDEX_PAGE, err) < 0)
                return -1;
        if (!s->aside)
                return 0;
        memset(page, 0, sizeof page);                   /* a new file: the other slot exists and is no header */
        return fs_pwrite_all(fd, page, sizeof page, (uint64_t)(1 - slot) * INDEX_PAGE, err);
}

static int sync_directory_of(const char *path, struct err *err)
{
        struct str dir = STR_INIT;
        const char *slash = strrchr(path, '/');
        int rc;

        str_append_str(&dir, path);
        if (slash)
                str_truncate(&dir, slash == path ? 1 : (size_t)(slash - path));
        rc = fs_sync_dir(slash ? dir.data : ".", err);
        str_deinit(&dir);
        return rc;
}

static int write_contents(struct index_snapshot *s, int fd, struct err *err)
{
        return write_blocks(s, fd, err) < 0 || write_table(s, fd, err) < 0 || write_parts(s, fd, err) < 0 || write_list(s, fd, err) < 0
                || write_meta(s, fd, err) < 0 ? -1 : 0;
}

static int write_aside(struct index_snapshot *s, struct err *err)
{
        struct stat st;
        int fd = open(s->aside, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
                return err_errno(err, errno, "open %s", s->aside);
        s->file = index_file_new(s->path, fd);
        if (fstat(fd, &st) < 0)
                return err_errno(err, errno, "stat %s", s->aside);
        s->file->dev = st.st_dev;
        s->file->ino = st.st_ino;
        if (write_contents(s, fd, err) < 0 || write_header(s, fd, err) < 0 || fs_datasync(fd, s->aside, err) < 0)
                return err_prefix(err, "%s", s->aside);
        if (s->former)
                index_file_supersede(s->former);
        if (rename(s->aside, s->path) < 0)
                return err_errno(err, errno, "rename %s", s->path);
        s->sync_failed = true;                          /* until it is known: the name may be the old or the new file's */
        if (sync_directory_of(s->path, err) < 0)
                return -1;
        s->sync_failed = false;
        return 0;
}

static int write_changes(struct index_snapshot *s, struct err *err)
{
        int fd = -1, ret = -1;

        if (index_file_use(s->file, &fd, err) < 0)
                return -1;
        s->sync_failed = true;
        if (s->sync_first && fs_datasync(fd, s->path, err) < 0)
                goto out;
        s->sync_failed = false;
        if (write_contents(s, fd, err) < 0) {
                err_prefix(err, "%s", s->path);
                goto out;
        }
        s->sync_failed = true;
        if (fs_datasync(fd, s->path, err) < 0)
                goto out;
        if (write_header(s, fd, err) < 0 || fs_datasync(fd, s->path, err) < 0)
                goto out;
        s->sync_failed = false;
        ret = 0;
out:
        index_file_release(s->file);
        return ret;
}

int index_snapshot_write(struct index_snapshot *s, struct err *err)
{
        if (!s->aside)
                return write_changes(s, err);
        if (write_aside(s, err) == 0)
                return 0;
        if (!s->sync_failed)
                unlink(s->aside);
        return -1;
}

/* ---- taking over what was written ---- */

/* Is this version still the one of the index? */
static bool is_current(const struct index *ix, const struct index_block *b, uint32_t guess)
{
        size_t low = 0, high = ix->blocks.n;

        if (guess < ix->blocks.n && ix->blocks.v[guess] == b)
                return true;
        while (low < high) {
                size_t mid = low + (high - low) / 2;

                if (ix->blocks.v[mid]->sum.last_uid < b->sum.first_uid)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low < ix->blocks.n && ix->blocks.v[low] == b;
}

/* The block is at sb->fresh now. Versions that only views hold stay as they are: in memory, or at their former place. */
static void adopt_block(struct index *ix, struct snapshot_block *sb, uint32_t i)
{
        struct index_block *b = sb->block;
        struct index_extent *former;
        bool was_dirty = !sb->old;

        if (!sb->fresh || !is_current(ix, b, i))
                return;
        mutex_lock(&b->shared->lock);
        former = b->extent;
        b->extent = index_extent_ref(sb->fresh);
        if (was_dirty)
                b->crc = sb->crc;
        mutex_unlock(&b->shared->lock);
        index_extent_unref(&former);
        if (was_dirty) {
                ix->dirty_blocks--;
                index_ring_add(ix, b);
        }
}

static void adopt_part(struct index_part *part, struct index_extent *fresh)
{
        index_extent_unref(&part->extent);
        part->extent = index_extent_ref(fresh);
        free(part->text);
        part->text = NULL;
}

static void adopt(struct index *ix, struct index_snapshot *s)
{
        for (size_t i = 0; i < ix->durable.n; i++)
                index_extent_unref(&ix->durable.v[i]);
        ix->durable.n = 0;
        ARRAY_RESERVE(&ix->durable, (size_t)s->n + s->parts_n + 3);
        for (uint32_t i = 0; i < s->n; i++) {
                struct snapshot_block *sb = &s->blocks[i];

                adopt_block(ix, sb, i);
                add_extent(ix, index_extent_ref(sb->fresh ? sb->fresh : sb->old));
        }
        for (size_t i = 0; i < s->parts_n; i++) {
                struct snapshot_part *sp = &s->parts[i];

                if (sp->fresh)
                        adopt_part(sp->part, sp->fresh);
                add_extent(ix, index_extent_ref(sp->fresh ? sp->fresh : sp->old));
        }
        add_place(ix, &ix->part_list, s->list ? index_extent_ref(s->list) : NULL, &s->header.parts);
        add_place(ix, &ix->table, s->table ? index_extent_ref(s->table) : NULL, &s->header.table);
        add_place(ix, &ix->meta, s->meta ? index_extent_ref(s->meta) : NULL, &s->header.meta);
        if (s->aside) {
                index_file_unref(&ix->file);
                ix->file = index_file_ref(s->file);
                index_file_release(s->file);            /* the name is its own now: it can be opened again */
        }
        ix->generation = s->header.generation;
        ix->maybe_unsynced = ix->failed = false;
}

void index_snapshot_finish(struct index *ix, struct index_snapshot **snap, bool written)
{
        struct index_snapshot *s = *snap;

        *snap = NULL;
        must(ix->snapshot == s);
        ix->snapshot = NULL;
        if (written) {
                adopt(ix, s);
        } else {
                ix->dirty = true;
                ix->blobs_changed |= s->write_meta;
                ix->blocks_changed |= s->write_table;
                ix->parts_changed |= s->write_list;
                ix->failed |= s->sync_failed;
        }
        for (uint32_t i = 0; i < s->n; i++) {
                index_block_unref(&s->blocks[i].block);
                index_extent_unref(&s->blocks[i].old);
                index_extent_unref(&s->blocks[i].fresh);
        }
        free(s->blocks);
        for (size_t i = 0; i < s->parts_n; i++) {
                index_part_unref(&s->parts[i].part);
                index_extent_unref(&s->parts[i].old);
                index_extent_unref(&s->parts[i].fresh);
        }
        free(s->parts);
        index_extent_unref(&s->list);
        index_extent_unref(&s->table);
        index_extent_unref(&s->meta);
        index_file_unref(&s->file);
        index_file_unref(&s->former);
        str_deinit(&s->meta_text);
        free(s->aside);
        free(s->path);
        free(s);
}

int index_checkpoint(struct index *ix, struct err *err)
{
        struct index_snapshot *s = index_snapshot(ix);
        int rc = index_snapshot_write(s, err);

        index_snapshot_finish(ix, &s, rc == 0);
        return rc;
}
