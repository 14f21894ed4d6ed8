/*
 * mlog_manifest - the list of a mailbox's segments. `manifest` is replaced as a whole: written aside, synced, renamed, directory
 * synced (fs_replace). A crash leaves the former or the new one. Little-endian:
 *
 *      0  8  magic "CYRDMAN\1"
 *      8  4  version, 1
 *     12  4  n, entries
 *     16 40  unique id of the mailbox, padded with NULs
 *     56  8  generation: one more each time
 *     64  8  next_id: no segment had this id or a higher one
 *     72     n entries of struct manifest_entry, in order of the log
 *        +4  CRC-32C of all before
 *
 * `manifest.copy` is the same once more, written when the manifest is in place, not synced and not waited for: nothing depends on it
 * while the manifest is whole. Should that be damaged, the copy stands in, unless it is an older one: then a segment has an id that it
 * does not know of, or one that it lists is gone.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/mlog.h"
#include "util/array.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define MANIFEST_MAGIC 0x014e414d44525943ull
#define MANIFEST_VERSION 1

struct manifest_head {
        uint64_t magic;
        uint32_t version, n;
        char uniqueid[MLOG_UNIQUEID_MAX];
        uint64_t generation, next_id;
};
_Static_assert(sizeof(struct manifest_head) == 72, "on the disk");

void manifest_init(struct manifest *m, const char *uniqueid)
{
        memset(m, 0, sizeof *m);
        must(strlen(uniqueid) < sizeof m->uniqueid);
        memcpy(m->uniqueid, uniqueid, strlen(uniqueid));
        m->next_id = 1;
}

void manifest_deinit(struct manifest *m)
{
        free(m->entries);
        m->entries = NULL;
        m->n = m->cap = 0;
}

struct manifest_entry *manifest_add(struct manifest *m, uint32_t at)
{
        must(at <= m->n);
        if (m->n == m->cap) {
                m->cap = m->cap ? m->cap * 2 : 4;
                m->entries = xrealloc(m->entries, m->cap * sizeof *m->entries);
        }
        memmove(m->entries + at + 1, m->entries + at, (m->n - at) * sizeof *m->entries);
        m->n++;
        memset(&m->entries[at], 0, sizeof m->entries[at]);
        return &m->entries[at];
}

void manifest_remove(struct manifest *m, uint32_t at)
{
        must(at < m->n);
        m->n--;
        memmove(m->entries + at, m->entries + at + 1, (m->n - at) * sizeof *m->entries);
}

int manifest_find(const struct manifest *m, uint64_t id)
{
        for (uint32_t i = 0; i < m->n; i++)
                if (m->entries[i].id == id)
                        return (int)i;
        return -1;
}

void manifest_copy(struct manifest *to, const struct manifest *from)
{
        *to = *from;
        to->cap = from->n ? from->n : 1;
        to->entries = xmalloc(to->cap * sizeof *to->entries);
        if (from->n)
                memcpy(to->entries, from->entries, from->n * sizeof *to->entries);
}

/* Whether it worked is nobody's business: it is a spare one. */
static void write_copy(const char *dir, const struct str *text)
{
        struct str path = STR_INIT;
        int fd;

        str_printf(&path, "%s/" MANIFEST_COPY, dir);
        fd = open(path.data, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0) {
                if (pwrite(fd, text->data, text->len, 0) != (ssize_t)text->len || ftruncate(fd, (off_t)text->len) < 0)
                        unlink(path.data);
                close(fd);
        }
        str_deinit(&path);
}

static int write_manifest(struct manifest *m, const char *dir, bool lazily, struct err *err)
{
        struct manifest_head h = { .magic = MANIFEST_MAGIC, .version = MANIFEST_VERSION, .n = m->n, .generation = ++m->generation,
                                   .next_id = m->next_id };
        struct str out = STR_INIT, path = STR_INIT;
        uint32_t crc;
        int rc;

        m->from_copy = false;
        memcpy(h.uniqueid, m->uniqueid, sizeof h.uniqueid);
        str_append(&out, &h, sizeof h);
        if (m->n)
                str_append(&out, m->entries, m->n * sizeof *m->entries);
        crc = crc32c(0, out.data, out.len);
        str_append(&out, &crc, sizeof crc);
        str_printf(&path, "%s/manifest", dir);
        rc = lazily ? fs_replace_lazily(path.data, out.data, out.len, 0600, err) : fs_replace(path.data, out.data, out.len, 0600, err);
        if (rc == 0)
                write_copy(dir, &out);
        str_deinit(&out);
        str_deinit(&path);
        return rc;
}

int manifest_write(struct manifest *m, const char *dir, struct err *err)
{
        return write_manifest(m, dir, false, err);
}

int manifest_write_lazily(struct manifest *m, const char *dir, struct err *err)
{
        return write_manifest(m, dir, true, err);
}

int manifest_decode(struct manifest *m, const void *p, size_t len, const char *uniqueid, struct err *err)
{
        struct manifest_head h;
        uint32_t crc;
        uint64_t last = 0;

        manifest_init(m, uniqueid);
        if (len < sizeof h + sizeof crc)
                return err_set(err, ERR_CORRUPT, "manifest of %s is too short", uniqueid);
        memcpy(&h, p, sizeof h);
        memcpy(&crc, (const char *)p + len - sizeof crc, sizeof crc);
        if (h.magic != MANIFEST_MAGIC || crc != crc32c(0, p, len - sizeof crc))
                return err_set(err, ERR_CORRUPT, "manifest of %s is damaged", uniqueid);
        if (h.version > MANIFEST_VERSION)
                return err_set(err, ERR_UNSUPPORTED, "manifest of %s was written by a newer version", uniqueid);
        if (h.n > MANIFEST_ENTRIES_MAX || len != sizeof h + (uint64_t)h.n * sizeof *m->entries + sizeof crc ||
            strncmp(h.uniqueid, uniqueid, sizeof h.uniqueid) != 0)
                return err_set(err, ERR_CORRUPT, "manifest of %s cannot be", uniqueid);
        m->generation = h.generation;
        m->next_id = h.next_id;
        m->entries = xmalloc((h.n ? h.n : 1) * sizeof *m->entries);
        m->n = m->cap = h.n;
        m->cap = h.n ? h.n : 1;
        memcpy(m->entries, (const char *)p + sizeof h, h.n * sizeof *m->entries);
        for (uint32_t i = 0; i < m->n; i++) {
                const struct manifest_entry *e = &m->entries[i];

                if (e->kind < MLOG_MAIN || e->kind > MLOG_RETIRED || e->id == 0 || e->id >= m->next_id || e->id > MLOG_SEGMENT_ID_MAX ||
                    (e->valid_len != MLOG_OPEN_END && e->valid_len < MLOG_SEGMENT_HEADER) || (e->kind == MLOG_MAIN && e->id <= last)) {
                        manifest_deinit(m);
                        return err_set(err, ERR_CORRUPT, "manifest of %s: entry %u cannot be", uniqueid, i);
                }
                if (e->kind == MLOG_MAIN)
                        last = e->id;
        }
        return 0;
}

bool manifest_fits(const struct manifest *m, const char *dir)
{
        struct str path = STR_INIT;
        unsigned long long id;
        struct dirent *e;
        bool fits = true;
        DIR *d = opendir(dir);

        while (d && fits && (e = readdir(d)) != NULL)
                fits = sscanf(e->d_name, "log.%16llx", &id) != 1 || id < m->next_id;
        if (d)
                closedir(d);
        for (uint32_t i = 0; d && fits && i < m->n; i++) {
                mlog_segment_path(&path, dir, m->entries[i].id);
                fits = access(path.data, F_OK) == 0 || m->entries[i].kind == MLOG_RETIRED || m->entries[i].kind == MLOG_ADOPTED;
                str_clear(&path);
        }
        str_deinit(&path);
        return d && fits;
}

static int read_one(struct manifest *m, const char *dir, const char *name, const char *uniqueid, struct err *err)
{
        struct str path = STR_INIT, text = STR_INIT;
        int rc;

        str_printf(&path, "%s/%s", dir, name);
        rc = fs_slurp(path.data, 100 + (size_t)MANIFEST_ENTRIES_MAX * sizeof(struct manifest_entry), &text, err);
        if (rc == 0)
                rc = manifest_decode(m, text.data, text.len, uniqueid, err);
        str_deinit(&path);
        str_deinit(&text);
        return rc;
}

int manifest_read(struct manifest *m, const char *dir, const char *uniqueid, struct err *err)
{
        struct err first = ERR_INIT;
        char buf[LOG_QUOTE_MAX];

        if (read_one(m, dir, "manifest", uniqueid, &first) == 0)
                return 0;
        if ((first.code == ERR_CORRUPT || first.code == ERR_IO || first.code == ERR_NOTFOUND) &&
            read_one(m, dir, MANIFEST_COPY, uniqueid, NULL) == 0) {
                if (manifest_fits(m, dir)) {
                        log_event(LOG_ERROR, NULL, "manifest.copy", "uniqueid=%s reason=%s", uniqueid, log_quote_str(buf, first.text));
                        m->from_copy = true;
                        return 0;
                }
                manifest_deinit(m);
        }
        manifest_init(m, uniqueid);
        err_copy(err, &first);
        return -1;
}
