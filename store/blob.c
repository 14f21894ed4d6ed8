/*
 * blob - messages above the threshold, in files of their own: `b.<guid in hex>`, and `b.<guid>-<n>` should two messages with one
 * SHA-1 ever have different octets (they are compared before they share a file).
 *
 * Order: the octets are synced (staging file, or another mailbox's blob), linked into this directory, the directory is synced; only
 * then the record is written. A crash in between leaves a file that no record names: blob_sweep() removes it. A file goes when
 * the purge of its last record is on disk. Between linking and the record's being in the index a name is pinned, so that a sweep at
 * the same time leaves it alone.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/mailbox_private.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define COPY_BUFFER (256u << 10)
#define BLOB_NUMBERS_MAX 100

void blob_name(struct str *out, const uint8_t guid[GUID_SIZE], uint32_t number)
{
        char hex[2 * GUID_SIZE + 1];

        hex_encode(hex, guid, GUID_SIZE);
        str_printf(out, "b.%s", hex);
        if (number)
                str_printf(out, "-%u", number);
}

/* 1 the same octets, 0 different, -1 */
static int same_octets(const char *a, const char *b, struct err *err)
{
        char *buf = try_malloc((size_t)2 * COPY_BUFFER);
        struct stat sa, sb;
        int fa = open(a, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), fb = open(b, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), ret = -1;

        if (!buf) {
                err_set(err, ERR_NOMEM, "compare %s and %s", a, b);
                goto out;
        }
        if (fa < 0 || fb < 0 || fstat(fa, &sa) < 0 || fstat(fb, &sb) < 0) {
                err_errno(err, errno, "compare %s and %s", a, b);
                goto out;
        }
        ret = sa.st_size == sb.st_size;
        if (ret == 0 || (sa.st_ino == sb.st_ino && sa.st_dev == sb.st_dev))
                goto out;
        for (off_t at = 0; at < sa.st_size && ret == 1; at += COPY_BUFFER) {
                size_t n = sa.st_size - at < (off_t)COPY_BUFFER ? (size_t)(sa.st_size - at) : COPY_BUFFER;

                if (fs_pread_all(fa, buf, n, (uint64_t)at, err) < 0 || fs_pread_all(fb, buf + COPY_BUFFER, n, (uint64_t)at, err) < 0)
                        ret = -1;
                else
                        ret = memcmp(buf, buf + COPY_BUFFER, n) == 0;
        }
out:
        if (fa >= 0)
                close(fa);
        if (fb >= 0)
                close(fb);
        free(buf);
        return ret;
}

static int copy_file(const char *from, const char *to, struct err *err)
{
        char *buf = try_malloc(COPY_BUFFER);
        struct str tmp = STR_INIT;
        int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out = -1, ret = -1;
        uint8_t tag[8];
        char hex[17];

        random_bytes(tag, sizeof tag);
        hex_encode(hex, tag, sizeof tag);
        str_printf(&tmp, "%s.%s", to, hex);
        if (!buf) {
                err_set(err, ERR_NOMEM, "copy %s", from);
                goto out;
        }
        if (in < 0) {
                err_errno(err, errno, "open %s", from);
                goto out;
        }
        out = open(tmp.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (out < 0) {
                err_errno(err, errno, "create %s", tmp.data);
                goto out;
        }
        for (;;) {
                ssize_t n = read(in, buf, COPY_BUFFER);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        err_errno(err, errno, "read %s", from);
                        goto out;
                }
                if (n == 0)
                        break;
                if (fs_write_all(out, buf, (size_t)n, err) < 0)
                        goto out;
        }
        if (fs_datasync(out, tmp.data, err) < 0)
                goto out;
        if (fs_fails("rename") || rename(tmp.data, to) < 0)
                err_errno(err, errno, "rename %s", to);
        else
                ret = 0;
out:
        if (in >= 0)
                close(in);
        if (out >= 0) {
                close(out);
                if (ret < 0)
                        unlink(tmp.data);
        }
        str_deinit(&tmp);
        free(buf);
        return ret;
}

static void pin(struct mailbox *m, const char *name, int by) EXCLUDES(mailbox_class)
{
        uintptr_t n;

        mailbox_lock(m);
        n = (uintptr_t)table_find(m->blob_pins, span_of(name));
        must(by > 0 || n > 0);
        n = by > 0 ? n + 1 : n - 1;
        table_set(m->blob_pins, span_of(name), (void *)n);
        mailbox_unlock(m);
}

void blob_unpin(struct mailbox *m, const uint8_t guid[GUID_SIZE], uint32_t number)
{
        struct str name = STR_INIT;

        blob_name(&name, guid, number);
        pin(m, name.data, -1);
        str_deinit(&name);
}

/* 1 placed, 0 taken by different octets, -1 */
static int place_as(struct mailbox *m, const char *from, const char *to, struct err *err)
{
        int rc;

        if (fs_exists(to)) {
                rc = same_octets(from, to, err);
                if (rc != 0)
                        return rc;              /* shared: it is durable, or its directory is synced by us below */
                return 0;
        }
        if (!fs_fails("link") && link(from, to) == 0)
                return 1;
        if (errno == EEXIST)
                return same_octets(from, to, err);
        if (errno != EXDEV && errno != EMLINK && errno != EPERM)
                return err_errno(err, errno, "link %s to %s", from, to);
        (void)m;
        return copy_file(from, to, err) < 0 ? -1 : 1;
}

int blob_copy(const char *from, const char *to, uint64_t *octets, struct err *err)
{
        struct stat st;

        if (stat(to, &st) == 0)
                return 0;
        if (fs_fails("link") || link(from, to) < 0) {
                if (errno == EEXIST)
                        return 0;
                if (errno != EXDEV && errno != EMLINK && errno != EPERM)
                        return err_errno(err, errno, "link %s to %s", from, to);
                if (copy_file(from, to, err) < 0)
                        return -1;
        }
        if (octets && stat(to, &st) == 0)
                *octets += (uint64_t)st.st_size;
        return 0;
}

/* The mailbox is being copied to another partition: there too, under the same name. */
static int place_also(struct mailbox *m, const struct blob_places *places, const char *path, const char *name, struct err *err)
{
        struct str to = STR_INIT;
        struct err why = ERR_INIT;
        bool sync_failed;
        int rc = 0;

        str_printf(&to, "%s/%s", places->also, name);
        (void)fs_take_sync_failure();
        if (blob_copy(path, to.data, NULL, &why) < 0 || fs_sync_dir(places->also, &why) < 0) {
                sync_failed = fs_take_sync_failure();
                rc = relocation_blob_failed(m, places, &why, sync_failed);
                if (rc < 0)
                        err_copy(err, &why);
        }
        str_deinit(&to);
        return rc;
}

static int place_in(struct mailbox *m, const struct blob_places *places, const char *path, const uint8_t guid[GUID_SIZE], uint32_t *number_r,
                    struct err *err)
{
        struct str name = STR_INIT, to = STR_INIT;
        int rc = 0;

        for (uint32_t number = 0; rc == 0 && number < BLOB_NUMBERS_MAX; number++) {
                str_clear(&name);
                str_clear(&to);
                blob_name(&name, guid, number);
                str_printf(&to, "%s/%s", places->dir, name.data);
                pin(m, name.data, 1);
                (void)fs_take_sync_failure();
                rc = place_as(m, path, to.data, err);
                if (rc == 1 && fs_sync_dir(places->dir, err) < 0)
                        rc = -1;
                if (fs_take_sync_failure() && rc < 0)
                        store_partition_fail(m->store, places->partition_dir, err);
                if (rc == 1 && places->also && place_also(m, places, to.data, name.data, err) < 0)
                        rc = -1;
                if (rc == 1)
                        *number_r = number;
                else
                        pin(m, name.data, -1);
        }
        if (rc == 0)
                err_set(err, ERR_LIMIT, "%s: too many different messages with one GUID", places->dir);
        str_deinit(&name);
        str_deinit(&to);
        return rc == 1 ? 0 : -1;
}

int blob_place(struct mailbox *m, const char *path, const uint8_t guid[GUID_SIZE], uint64_t size, uint32_t *number_r,
               struct err *err)
{
        (void)size;
        for (;;) {
                struct blob_places places;
                int rc;

                relocation_placing(m, &places);
                rc = place_in(m, &places, path, guid, number_r, err);
                relocation_placed(m, &places);
                if (rc == 0 || places.dir == m->dir)
                        return rc;
                err_clear(err);                         /* it has gone to another partition meanwhile */
        }
}

struct blob_file *blob_open_locked(struct mailbox *m, const uint8_t guid[GUID_SIZE], uint32_t number)
{
        struct str name = STR_INIT, path = STR_INIT;
        struct blob_file *b;

        blob_name(&name, guid, number);
        b = table_find(m->blobs, str_span(&name));
        if (!b) {
                b = xcalloc(1, sizeof *b);
                str_printf(&path, "%s/%s", m->dir, name.data);
                b->file = file_create(path.data);
                table_set(m->blobs, str_span(&name), b);
        }
        str_deinit(&name);
        str_deinit(&path);
        return b;
}

/* ---- sweeping ---- */

/* The names of blobs that records (tombstones too, as long as they can be brought back) need. Records that come later have UIDs from *uidnext_r on. */
static int needed_names(struct mailbox *m, struct table *needed, uint32_t *uidnext_r, struct err *err) EXCLUDES(mailbox_class)
{
        struct index_iter it;
        struct index_rec rec;
        struct str name = STR_INIT;
        int rc;

        mailbox_lock(m);
        *uidnext_r = index_counters(m->ix)->uidnext;
        index_iter_init(&it, m->ix, 1);
        it.with_flags = MSG_BLOB;
        for (unsigned n = 0; (rc = index_next(&it, &rec, err)) == 1;) {
                /* A GUID in use keeps all its numbers: who has which is in the records, and a second one is next to impossible. */
                str_clear(&name);
                blob_name(&name, rec.guid, 0);
                if (!(rec.flags & MSG_UNLINKED))
                        table_set(needed, str_span(&name), needed);
                if (++n % 4096 == 0) {
                        mailbox_unlock(m);
                        mailbox_lock(m);
                        it.ix = m->ix;                  /* it may have been read back from the disk meanwhile */
                }
        }
        mailbox_unlock(m);
        str_deinit(&name);
        return rc;
}

/*
 * None goes while they are copied to another partition. A file that somebody still sends stays: a message with this GUID may come again at any time and share it, so it must not go when the
 * sender is done. Nobody gets a new reference while the lock is held; the next sweep takes it.
 */
static int remove_if_unneeded(struct mailbox *m, const char *name, const uint8_t guid[GUID_SIZE], uint32_t from_uid, struct err *err)
        EXCLUDES(mailbox_class)
{
        struct blob_file *open_file;
        struct index_iter it;
        struct index_rec rec;
        struct str path = STR_INIT;
        int rc = 1;

        mailbox_lock(m);
        open_file = table_find(m->blobs, span_of(name));
        if (m->relocation || (open_file && file_is_shared(open_file->file)))
                m->sweep_wanted = true;
        else if (!table_find(m->blob_pins, span_of(name)) && !m->failed) {
                index_iter_init(&it, m->ix, from_uid);  /* records that came since the names were gathered */
                it.with_flags = MSG_BLOB;
                while ((rc = index_next(&it, &rec, err)) == 1)
                        if (!(rec.flags & MSG_UNLINKED) && memcmp(rec.guid, guid, sizeof rec.guid) == 0)
                                break;
        }
        if (rc == 0) {
                str_printf(&path, "%s/%s", m->dir, name);
                if (unlink(path.data) < 0 && errno != ENOENT)
                        rc = err_errno(err, errno, "unlink %s", path.data);
                if (open_file) {
                        table_set(m->blobs, span_of(name), NULL);
                        file_unref(&open_file->file);
                        free(open_file);
                }
        }
        mailbox_unlock(m);
        str_deinit(&path);
        return rc < 0 ? -1 : 0;
}

int blob_sweep(struct mailbox *m, struct err *err)
{
        struct table *needed;
        DIR *d = opendir(m->dir);
        struct dirent *e;
        uint32_t uidnext;
        int rc = 0;

        if (!d)
                return err_errno(err, errno, "opendir %s", m->dir);
        mailbox_lock(m);
        m->sweep_wanted = false;
        mailbox_unlock(m);
        needed = table_create();
        rc = needed_names(m, needed, &uidnext, err);
        while (rc == 0 && (e = readdir(d)) != NULL) {
                struct span base = span_of(e->d_name);
                uint8_t guid[GUID_SIZE];

                /* With a dot it is a copy on its way: it becomes a blob by its renaming, or goes at the next start. */
                if (base.len < 2 + 2 * GUID_SIZE || strncmp(base.p, "b.", 2) != 0 || strchr(base.p + 2, '.'))
                        continue;
                base.len = 2 + 2 * GUID_SIZE;
                if (hex_decode(guid, (struct span){ base.p + 2, 2 * GUID_SIZE }) && !table_find(needed, base))
                        rc = remove_if_unneeded(m, e->d_name, guid, uidnext, err);
        }
        closedir(d);
        table_destroy(&needed);
        return rc < 0 ? -1 : 0;
}
