/* index_part - octets of the log store's in extents of their own, see index.h; the list of them stands in the file as index_file.c says. */
#include "store/index_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "util/hash.h"
#include "util/must.h"

struct index_part *index_part_create(struct span text)
{
        struct index_part *part = xcalloc(1, sizeof *part);

        must(text.len > 0 && text.len <= INDEX_PART_MAX);
        atomic_init(&part->refs, 1);
        part->text = xmalloc(text.len);
        memcpy(part->text, text.p, text.len);
        part->len = text.len;
        part->crc = crc32c(0, text.p, text.len);
        return part;
}

struct index_part *index_part_at(struct index_extent *extent, uint64_t len, uint32_t crc)
{
        struct index_part *part = xcalloc(1, sizeof *part);

        atomic_init(&part->refs, 1);
        part->extent = extent;
        part->len = len;
        part->crc = crc;
        return part;
}

struct index_part *index_part_ref(struct index_part *part)
{
        atomic_fetch_add_explicit(&part->refs, 1, memory_order_relaxed);
        return part;
}

void index_part_unref(struct index_part **part_p)
{
        struct index_part *part = *part_p;

        *part_p = NULL;
        if (!part || atomic_fetch_sub_explicit(&part->refs, 1, memory_order_acq_rel) != 1)
                return;
        index_extent_unref(&part->extent);
        free(part->text);
        free(part);
}

int index_part_load(const struct index_part *part, struct index_extent *extent, char **text_r, struct err *err)
{
        *text_r = try_malloc(part->len);
        if (!*text_r)
                return err_set(err, ERR_NOMEM, "a part of %" PRIu64 " octets", part->len);
        if (index_file_read(extent->file, *text_r, part->len, (uint64_t)extent->page * INDEX_PAGE, err) == 0) {
                if (crc32c(0, *text_r, part->len) == part->crc)
                        return 0;
                err_set(err, ERR_CORRUPT, "checksum of a part differs");
        }
        free(*text_r);
        *text_r = NULL;
        return -1;
}

int index_part_read(const struct index_part *part, struct str *text, struct err *err)
{
        char *loaded = NULL;

        str_clear(text);
        if (!part->text && index_part_load(part, part->extent, &loaded, err) < 0)
                return -1;
        str_append(text, loaded ? loaded : part->text, part->len);
        free(loaded);
        return 0;
}

size_t index_parts(const struct index *ix, struct index_part *const **parts_r)
{
        *parts_r = ix->parts.v;
        return ix->parts.n;
}

void index_set_parts(struct index *ix, struct index_part *const *parts, size_t n)
{
        must(n <= INDEX_PARTS_MAX);
        if (ix->parts.n == n && (n == 0 || memcmp(ix->parts.v, parts, n * sizeof *parts) == 0))
                return;
        for (size_t i = 0; i < n; i++)                  /* before the others go: some are in both */
                index_part_ref(parts[i]);
        for (size_t i = 0; i < ix->parts.n; i++)
                index_part_unref(&ix->parts.v[i]);
        ix->parts.n = 0;
        ARRAY_RESERVE(&ix->parts, n);
        if (n)
                memcpy(ix->parts.v, parts, n * sizeof *parts);
        ix->parts.n = n;
        ix->dirty = ix->parts_changed = true;
}
