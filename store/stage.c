/*
 * stage - octets that are about to become a message (contract in mailbox.h).
 * Up to the threshold they are in memory; beyond, in `<partition>/stage./<random>`, which is unlinked when the last reference goes:
 * a mailbox that took the message has its own link by then. What a crash leaves there is removed at the next start
 * (logstore_create(): nothing refers to it).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/mailbox_private.h"
#include "util/fs.h"
#include "util/must.h"

#define KEPT_HEADER_MAX (16u << 10)             /* of a blob's header, kept in its record */
#define WRITE_BUFFER (64u << 10)

struct stage {
        atomic_uint refs;
        struct store *store;
        char *partition_dir;
        uint64_t threshold;
        struct str memory;                      /* all of it, or what is not yet in the file */
        struct str header;                      /* the first KEPT_HEADER_MAX octets of a blob */
        char *path;                             /* NULL: in memory */
        int fd;
        uint64_t size;
        uint32_t crc;
        struct digest digest;
        uint8_t guid[GUID_SIZE];
        struct mime_parser *parser;
        struct mime_result mime;
        bool piece;                             /* no structure, no GUID */
        bool finished;
        struct mutex sync_lock;                 /* a leaf: one fdatasync */
        bool synced;
};

int stage_begin(struct store *store, const char *partition_dir, uint64_t size_hint, struct stage **stage_r, struct err *err)
{
        struct stage *s = xcalloc(1, sizeof *s);

        (void)err;
        atomic_init(&s->refs, 1);
        s->store = store;
        s->partition_dir = xstrdup(partition_dir);
        s->threshold = logstore_options(store_logstore(store))->blob_threshold;
        str_init(&s->memory);
        str_init(&s->header);
        if (size_hint && size_hint <= s->threshold)
                str_reserve(&s->memory, size_hint);
        s->fd = -1;
        digest_init(&s->digest);
        s->parser = mime_parser_create();
        mutex_init(&s->sync_lock);
        *stage_r = s;
        return 0;
}

void stage_limit_memory(struct stage *s, uint64_t bytes)
{
        must(s->size == 0);
        if (bytes < s->threshold)
                s->threshold = bytes;
}

void stage_set_piece(struct stage *s)
{
        must(s->size == 0);
        s->piece = true;
}

static int open_file(struct stage *s, struct err *err)
{
        struct str dir = STR_INIT, path = STR_INIT;
        char hex[33];
        uint8_t name[16];

        str_printf(&dir, "%s/stage.", s->partition_dir);
        random_bytes(name, sizeof name);
        hex_encode(hex, name, sizeof name);
        str_printf(&path, "%s/%s", dir.data, hex);
        for (int attempt = 0; s->fd < 0 && attempt < 2; attempt++) {
                s->fd = open(path.data, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (s->fd < 0 && (errno != ENOENT || fs_mkdir_p(dir.data, 0700, err) < 0))
                        break;
        }
        if (s->fd < 0)
                err_errno(err, errno, "create %s", path.data);
        else
                s->path = str_take(&path);
        str_deinit(&dir);
        str_deinit(&path);
        return s->fd < 0 ? -1 : 0;
}

static int flush(struct stage *s, struct err *err)
{
        if (fs_write_all(s->fd, s->memory.data, s->memory.len, err) < 0)
                return err_prefix(err, "%s", s->path);
        str_clear(&s->memory);
        return 0;
}

int stage_write(struct stage *s, const void *p, size_t len, struct err *err)
{
        must(!s->finished);
        if (len == 0)
                return 0;
        if (!s->piece) {
                digest_update(&s->digest, p, len);
                s->crc = crc32c(s->crc, p, len);
                mime_parser_feed(s->parser, p, len);
        }
        s->size += len;
        if (!s->path && s->size > s->threshold) {
                size_t kept = s->memory.len < KEPT_HEADER_MAX ? s->memory.len : KEPT_HEADER_MAX;

                str_append(&s->header, s->memory.data, kept);
                if (open_file(s, err) < 0)
                        return -1;
        }
        if (s->path && s->header.len < KEPT_HEADER_MAX) {
                size_t room = KEPT_HEADER_MAX - s->header.len;

                str_append(&s->header, p, len < room ? len : room);
        }
        str_append(&s->memory, p, len);
        if (s->path && s->memory.len >= WRITE_BUFFER)
                return flush(s, err);
        return 0;
}

int stage_finish(struct stage *s, struct err *err)
{
        must(!s->finished);
        if (s->path) {
                if (flush(s, err) < 0)
                        return -1;
                str_deinit(&s->memory);
        }
        s->finished = true;
        if (s->piece) {
                mime_parser_destroy(&s->parser);
                str_deinit(&s->header);
                return 0;
        }
        digest_final(&s->digest, s->guid);
        mime_parser_finish(s->parser, &s->mime);
        mime_parser_destroy(&s->parser);
        if (s->header.len > s->mime.header_size)
                str_truncate(&s->header, s->mime.header_size);
        else if (s->header.len < s->mime.header_size)
                str_clear(&s->header);                  /* a piece of a header is of no use */
        str_shrink(&s->header);
        return 0;
}

uint64_t stage_size(const struct stage *s)
{
        return s->size;
}

const uint8_t *stage_guid(const struct stage *s)
{
        return s->guid;
}

const char *stage_partition_dir(const struct stage *s)
{
        return s->partition_dir;
}

const struct mime_result *stage_mime(const struct stage *s)
{
        must(s->finished && !s->piece);
        return &s->mime;
}

bool stage_has_nul(const struct stage *s)
{
        must(s->finished && !s->piece);
        return s->mime.has_nul;
}

bool stage_has_part(const struct stage *s, const uint32_t *path, size_t n)
{
        uint32_t off, len;

        must(s->finished && !s->piece);
        return mime_section_find(s->mime.parts, s->mime.parts_n, path, n, MIME_SECTION_ALL, &off, &len, NULL);
}

int stage_read(struct stage *s, uint64_t offset, void *buf, size_t len, struct err *err)
{
        must(s->finished);
        if (offset > s->size || len > s->size - offset)
                return err_set(err, ERR_INTERNAL, "read beyond a staged message");
        if (s->path)
                return fs_pread_all(s->fd, buf, len, offset, err);
        memcpy(buf, s->memory.data + offset, len);
        return 0;
}

struct stage *stage_ref(struct stage *s)
{
        atomic_fetch_add(&s->refs, 1);
        return s;
}

void stage_unref(struct stage **sp)
{
        struct stage *s = *sp;

        *sp = NULL;
        if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
                return;
        if (s->fd >= 0)
                close(s->fd);
        if (s->path)
                unlink(s->path);
        mime_parser_destroy(&s->parser);
        if (s->finished && !s->piece)
                mime_result_deinit(&s->mime);
        str_deinit(&s->memory);
        str_deinit(&s->header);
        mutex_deinit(&s->sync_lock);
        free(s->path);
        free(s->partition_dir);
        free(s);
}

void stage_content(const struct stage *s, struct stage_content *c_r)
{
        must(s->finished && !s->piece);
        *c_r = (struct stage_content){ .size = s->size, .guid = s->guid, .crc = s->crc, .memory = s->path ? NULL : s->memory.data,
                .path = s->path, .mime = &s->mime, .header = str_span(&s->header) };
}

int stage_sync(struct stage *s, struct err *err)
{
        int rc = 0;

        mutex_lock(&s->sync_lock);
        if (!s->synced) {
                (void)fs_take_sync_failure();
                rc = fs_datasync(s->fd, s->path, err);
                s->synced = rc == 0;
                if (rc < 0 && fs_take_sync_failure())
                        store_partition_fail(s->store, s->partition_dir, err);
        }
        mutex_unlock(&s->sync_lock);
        return rc;
}
