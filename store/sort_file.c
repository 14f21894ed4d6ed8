/*
 * sort_file - see sort_file.h. Layout of "sort" in a mailbox's directory; integers little-endian:
 *
 *   chunks, one behind the other, each a multiple of 8 octets:
 *     struct chunk          40 octets
 *     uid, check, offset    n times 4 octets each, then 4 of padding where n is odd
 *     data                  records, struct sort_facts; `offset` counts from here
 *
 * Written by appending one whole chunk with one write, never synced. A stop or a power loss leaves chunks that are torn, empty or missing; who
 * opens the file goes from one to the next, and takes whatever does not fit for the end of its usefulness: the file is removed. A
 * chunk's octets are compared with their CRC-32C when it is read, and every number in it with its bounds.
 *
 * `maker` is a hash of all that decides what the facts are: of another program, or another version of Unicode, they are of no use.
 */
#include "store/sort_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utf8proc.h>

#include "store/mailbox_private.h"
#include "util/array.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/must.h"

#define MAGIC 0x66736379u                       /* "cysf" */
#define FORMAT 1                                /* … of the file, and of what sort_facts.c makes of a header */
#define CHUNK_MAX (SORT_BLOCK_UIDS * (sizeof(struct sort_facts) + SORT_REFERENCES_MAX * 8 + SORT_TEXTS * (SORT_TEXT_MAX + 1) + 20))

struct chunk {
        uint32_t magic;
        uint32_t crc;                           /* of all behind it */
        uint64_t maker;
        uint64_t bytes;                         /* with this */
        uint64_t data_len;
        uint32_t number, n;
};
_Static_assert(sizeof(struct chunk) == 40, "part of the format");
#define CRC_FROM (2 * sizeof(uint32_t))

struct place {
        uint64_t offset, bytes;
        uint32_t number;
};

struct sort_file {
        struct mailbox *mbox;
        int fd;                                 /* -1: no file */
        ARRAY(struct place) chunks;             /* in order of the file */
};

static uint64_t maker(void)
{
        struct str s = STR_INIT;
        uint64_t h;

        str_printf(&s, "%d %d %d %s %s", FORMAT, SORT_TEXT_MAX, SORT_REFERENCES_MAX, utf8proc_version(), utf8proc_unicode_version());
        h = hash_fixed(s.data, s.len);
        str_deinit(&s);
        return h;
}

static size_t arrays_len(uint32_t n)
{
        return ((size_t)n * 12 + 7) & ~(size_t)7;
}

/* ---- reading ---- */

static void drop(struct sort_file *f)
{
        mailbox_remove_sort_file(f->mbox);
        close(f->fd);
        f->fd = -1;
        f->chunks.n = 0;
}

static bool chunk_fits(const struct chunk *c)
{
        return c->magic == MAGIC && c->n > 0 && c->n <= SORT_BLOCK_UIDS && c->data_len % 8 == 0 && c->data_len < CHUNK_MAX &&
               c->bytes == sizeof *c + arrays_len(c->n) + c->data_len;
}

static void find_chunks(struct sort_file *f)
{
        uint64_t own = maker(), offset = 0;
        struct chunk c;
        struct stat st;

        if (fstat(f->fd, &st) < 0)
                st.st_size = 0;
        while ((uint64_t)st.st_size - offset >= sizeof c) {
                if (fs_pread_all(f->fd, &c, sizeof c, offset, NULL) < 0 || !chunk_fits(&c) || c.maker != own) {
                        drop(f);
                        return;
                }
                if (c.bytes > (uint64_t)st.st_size - offset)    /* torn, or somebody is writing it now */
                        return;
                *ARRAY_PUSH(&f->chunks) = (struct place){ offset, c.bytes, c.number };
                offset += c.bytes;
        }
}

struct sort_file *sort_file_open(struct mailbox *mbox)
{
        struct sort_file *f = xcalloc(1, sizeof *f);

        f->mbox = mbox;
        f->fd = mailbox_open_sort_file(mbox, false);
        if (f->fd >= 0)
                find_chunks(f);
        return f;
}

void sort_file_close(struct sort_file **fp)
{
        struct sort_file *f = *fp;

        *fp = NULL;
        if (!f)
                return;
        if (f->fd >= 0)
                close(f->fd);
        ARRAY_FREE(&f->chunks);
        free(f);
}

/* Every record is where it should be, and nothing else is. */
static bool records_fit(const struct sort_piece *p, uint32_t number)
{
        size_t at = 0;

        for (uint32_t i = 0; i < p->n; i++) {
                if (p->uid[i] / SORT_BLOCK_UIDS != number || (i && p->uid[i] <= p->uid[i - 1]) || p->offset[i] != at ||
                    p->data_len - at < sizeof(struct sort_facts))
                        return false;
                at += sort_facts_size((const void *)(p->data + at));
                if (at > p->data_len || ((const struct sort_facts *)(const void *)(p->data + p->offset[i]))->references > SORT_REFERENCES_MAX)
                        return false;
        }
        return at == p->data_len;
}

static bool read_chunk(struct sort_file *f, const struct place *at, struct str *buf, struct sort_piece *piece_r)
{
        struct chunk c;
        char *p;

        str_clear(buf);
        p = str_append_space(buf, at->bytes);
        if (fs_pread_all(f->fd, p, at->bytes, at->offset, NULL) < 0)
                return false;
        memcpy(&c, p, sizeof c);
        if (!chunk_fits(&c) || c.bytes != at->bytes || c.number != at->number || c.crc != crc32c(0, p + CRC_FROM, at->bytes - CRC_FROM))
                return false;
        piece_r->n = c.n;
        piece_r->uid = (const void *)(p + sizeof c);
        piece_r->check = piece_r->uid + c.n;
        piece_r->offset = piece_r->check + c.n;
        piece_r->data = p + sizeof c + arrays_len(c.n);
        piece_r->data_len = c.data_len;
        return records_fit(piece_r, c.number);
}

bool sort_file_next(struct sort_file *f, uint32_t number, uint32_t *pos, struct str *buf, struct sort_piece *piece_r)
{
        while (*pos < f->chunks.n) {
                const struct place *at = &f->chunks.v[(*pos)++];

                if (at->number != number)
                        continue;
                if (read_chunk(f, at, buf, piece_r))
                        return true;
                drop(f);
        }
        return false;
}

/* ---- writing ---- */

void sort_file_append(struct mailbox *mbox, uint32_t number, const struct sort_piece *p)
{
        struct chunk c = { .magic = MAGIC, .maker = maker(), .data_len = p->data_len, .number = number, .n = p->n };
        struct str out = STR_INIT;
        int fd = mailbox_open_sort_file(mbox, true);
        bool written;

        if (fd < 0)
                return;
        c.bytes = sizeof c + arrays_len(p->n) + p->data_len;
        str_append(&out, &c, sizeof c);
        str_append(&out, p->uid, p->n * sizeof *p->uid);
        str_append(&out, p->check, p->n * sizeof *p->check);
        str_append(&out, p->offset, p->n * sizeof *p->offset);
        while (out.len % 8)
                str_append_c(&out, '\0');
        str_append(&out, p->data, p->data_len);
        must(out.len == c.bytes);
        c.crc = crc32c(0, out.data + CRC_FROM, out.len - CRC_FROM);
        memcpy(out.data, &c, sizeof c);
        /* O_APPEND: one write is one chunk, also when two sessions sort the same mailbox. What was cut short spoils what comes behind it. */
        written = !fs_fails("write") && write(fd, out.data, out.len) == (ssize_t)out.len;
        close(fd);
        if (!written)
                mailbox_remove_sort_file(mbox);
        str_deinit(&out);
}
