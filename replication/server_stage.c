/*
 * server_stage - see server_private.h. A partition's messages lie one behind the other in a file without a name in the partition, so that nothing
 * is left of them when the process ends, however; where each is, is in a table by GUID. The file gives its room back at RESTART.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "replication/server_private.h"
#include "util/fs.h"
#include "util/must.h"

#define BUFFER ((size_t)128 * 1024)             /* written in pieces of this size */

struct staged { uint64_t offset, size; };

struct staging_area {                           /* of a partition */
        char *partition;
        const char *dir;                        /* the store's */
        int fd;                                 /* -1: not made yet */
        uint64_t end;                           /* of the file, the buffer included */
        struct str buffer;                      /* its last octets, not written yet */
        struct table *messages;                 /* by GUID: struct staged */
        bool failed;                            /* a write failed: what is in the file is not known */
};

struct sync_staging {
        struct store *store;
        uint64_t octets, octets_max;
        size_t count;                           /* of messages, in all areas */
        ARRAY(struct staging_area *) areas;

        /* the message that comes */
        struct staging_area *into;
        uint8_t guid[GUID_SIZE];
        uint64_t begun_at, announced, got;
        struct digest digest;
        bool twice;                             /* it is there already: the octets are only looked at */
};

struct sync_staging *sync_staging_create(struct store *store, uint64_t octets_max)
{
        struct sync_staging *st = xcalloc(1, sizeof *st);

        st->store = store;
        st->octets_max = octets_max;
        return st;
}

static void area_destroy(struct staging_area *a)
{
        struct span key;
        size_t pos = 0;
        void *staged;

        while (table_next(a->messages, &pos, &key, &staged))
                free(staged);
        table_destroy(&a->messages);
        str_deinit(&a->buffer);
        if (a->fd >= 0)
                close(a->fd);
        free(a->partition);
        free(a);
}

void sync_staging_clear(struct sync_staging *st)
{
        sync_staging_abandon(st);
        for (size_t i = 0; i < st->areas.n; i++)
                area_destroy(st->areas.v[i]);
        ARRAY_FREE(&st->areas);
        st->octets = 0;
        st->count = 0;
}

void sync_staging_destroy(struct sync_staging **stp)
{
        if (!*stp)
                return;
        sync_staging_clear(*stp);
        free(*stp);
        *stp = NULL;
}

static struct staging_area *area_find(const struct sync_staging *st, const char *partition)
{
        for (size_t i = 0; i < st->areas.n; i++)
                if (strcasecmp(st->areas.v[i]->partition, partition) == 0)
                        return st->areas.v[i];
        return NULL;
}

static struct staging_area *area_make(struct sync_staging *st, const char *partition, struct err *err)
{
        struct staging_area *a = area_find(st, partition);
        const char *dir;

        if (a)
                return a;
        dir = store_partition_dir(st->store, partition);
        if (!dir) {
                err_set(err, ERR_NOTFOUND, "there is no partition %s", partition);
                return NULL;
        }
        a = xcalloc(1, sizeof *a);
        a->partition = xstrdup(partition);
        a->dir = dir;
        a->fd = -1;
        a->messages = table_create();
        str_init(&a->buffer);
        *ARRAY_PUSH(&st->areas) = a;
        return a;
}

static int open_file(struct staging_area *a, struct err *err)
{
        char path[4096];

        if (a->fd >= 0)
                return 0;
        a->fd = open(a->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (a->fd >= 0)
                return 0;
        if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
                return err_errno(err, errno, "a file in %s", a->dir);
        /* What a crash between these two leaves, is removed at the next start, as any in that directory. */
        if (snprintf(path, sizeof path, "%s/stage./sync.XXXXXX", a->dir) >= (int)sizeof path)
                return err_set(err, ERR_LIMIT, "the path of the partition is too long");
        a->fd = mkostemp(path, O_CLOEXEC);
        if (a->fd < 0)
                return err_errno(err, errno, "%s", path);
        unlink(path);
        return 0;
}

static int write_buffer(struct staging_area *a, struct err *err)
{
        if (a->failed)
                return err_set(err, ERR_IO, "an earlier write to %s failed", a->dir);
        if (a->buffer.len == 0)
                return 0;
        if (open_file(a, err) < 0 || fs_pwrite_all(a->fd, a->buffer.data, a->buffer.len, a->end - a->buffer.len, err) < 0) {
                a->failed = true;
                return -1;
        }
        str_clear(&a->buffer);
        return 0;
}

int sync_staging_begin(struct sync_staging *st, struct span partition, const uint8_t guid[GUID_SIZE], uint64_t size, struct err *err)
{
        char name[DLIST_PARTITION_MAX + 1];
        struct staging_area *a;

        must(!st->into);
        if (partition.len > DLIST_PARTITION_MAX || memchr(partition.p, '\0', partition.len))
                return err_set(err, ERR_NOTFOUND, "there is no such partition");
        snprintf(name, sizeof name, "%.*s", (int)partition.len, partition.p);
        a = area_make(st, name, err);
        if (!a)
                return -1;
        if (size > UINT32_MAX - 65536)
                return err_set(err, ERR_LIMIT, "a message of %" PRIu64 " octets", size);
        if (size > st->octets_max - st->octets)
                return err_set(err, ERR_LIMIT, "messages of more than %" PRIu64 " octets are waiting for their mailbox", st->octets_max);
        if (st->count >= SYNC_STAGED_COUNT_MAX)
                return err_set(err, ERR_LIMIT, "%u messages are waiting for their mailbox", SYNC_STAGED_COUNT_MAX);
        st->into = a;
        st->twice = table_find(a->messages, (struct span){ (const char *)guid, GUID_SIZE }) != NULL;
        memcpy(st->guid, guid, GUID_SIZE);
        st->begun_at = a->end;
        st->announced = size;
        st->got = 0;
        digest_init(&st->digest);
        return 0;
}

int sync_staging_write(struct sync_staging *st, const void *p, size_t len, struct err *err)
{
        struct staging_area *a = st->into;

        must(a && len <= st->announced - st->got);
        st->got += len;
        digest_update(&st->digest, p, len);
        if (st->twice)
                return 0;
        str_append(&a->buffer, p, len);
        a->end += len;
        return a->buffer.len < BUFFER ? 0 : write_buffer(a, err);
}

/* The octets of a message that is not wanted are no longer part of the file. */
void sync_staging_abandon(struct sync_staging *st)
{
        struct staging_area *a = st->into;
        uint64_t more;

        st->into = NULL;
        if (!a || st->twice)
                return;
        more = a->end - st->begun_at;
        str_truncate(&a->buffer, more < a->buffer.len ? a->buffer.len - (size_t)more : 0);
        a->end = st->begun_at;
}

int sync_staging_end(struct sync_staging *st, struct err *err)
{
        struct staging_area *a = st->into;
        uint8_t have[GUID_SIZE];
        struct staged *staged;

        must(a);
        digest_final(&st->digest, have);
        if (st->got != st->announced || memcmp(have, st->guid, GUID_SIZE) != 0) {
                char is[2 * GUID_SIZE + 1], said[2 * GUID_SIZE + 1];

                hex_encode(is, have, GUID_SIZE);
                hex_encode(said, st->guid, GUID_SIZE);
                sync_staging_abandon(st);
                return err_set(err, ERR_SYNTAX, "the SHA-1 of a message is %s, not %s", is, said);
        }
        st->into = NULL;
        if (st->twice)
                return 0;
        staged = xmalloc(sizeof *staged);
        *staged = (struct staged){ st->begun_at, st->announced };
        (void)table_set(a->messages, (struct span){ (const char *)st->guid, GUID_SIZE }, staged);
        st->octets += st->announced;
        st->count++;
        return 0;
}

static const struct staged *find(const struct sync_staging *st, const char *partition, const uint8_t guid[GUID_SIZE], struct staging_area **area_r)
{
        struct staging_area *a = area_find(st, partition);

        *area_r = a;
        return a ? table_find(a->messages, (struct span){ (const char *)guid, GUID_SIZE }) : NULL;
}

bool sync_staging_has(const struct sync_staging *st, const char *partition, const uint8_t guid[GUID_SIZE])
{
        struct staging_area *a;

        return find(st, partition, guid, &a) != NULL;
}

uint64_t sync_staging_octets(const struct sync_staging *st) { return st->octets; }

static int fill(const struct staging_area *a, const struct staged *m, struct stage *stage, struct err *err)
{
        size_t piece = m->size < 65536 ? (size_t)m->size : 65536;
        char *buf = xmalloc(piece + 1);
        int ret = 0;

        for (uint64_t at = 0; at < m->size && ret == 0; at += piece) {
                size_t n = m->size - at < piece ? (size_t)(m->size - at) : piece;

                ret = fs_pread_all(a->fd, buf, n, m->offset + at, err);
                if (ret == 0)
                        ret = stage_write(stage, buf, n, err);
        }
        free(buf);
        return ret < 0 ? -1 : stage_finish(stage, err);
}

int sync_staging_stage(struct sync_staging *st, const char *partition, const uint8_t guid[GUID_SIZE], struct stage **stage_r, struct err *err)
{
        struct staging_area *a;
        const struct staged *m = find(st, partition, guid, &a);

        *stage_r = NULL;
        if (!m)
                return err_set(err, ERR_NOTFOUND, "the message was not uploaded");
        if (write_buffer(a, err) < 0 || stage_begin(st->store, a->dir, m->size, stage_r, err) < 0)
                return -1;
        if (fill(a, m, *stage_r, err) == 0 && memcmp(stage_guid(*stage_r), guid, GUID_SIZE) == 0)
                return 0;
        stage_unref(stage_r);
        return err->code != ERR_NONE ? -1 : err_set(err, ERR_CORRUPT, "a staged message is not what was uploaded");
}
