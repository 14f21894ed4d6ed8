/*
 * disk - the recording of a load taken apart, and what a disk could hold after a power loss at some moment of it: the model that powerloss.c
 * describes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "t/crash/disk.h"
#include "t/crash/record.h"
#include "util/fs.h"
#include "util/must.h"

#define PAGE 4096u

/* ---- the log, taken apart once ---- */

struct recording rec;
struct dropped_sites dropped;

bool is_dropped(uint32_t site)
{
        for (size_t i = 0; i < dropped.n; i++)
                if (dropped.v[i] == site)
                        return true;
        return false;
}

static struct span key_ino(const uint64_t *ino)
{
        return (struct span){ (const char *)ino, sizeof *ino };
}

static struct node *new_node(bool is_dir)
{
        struct node *n = xcalloc(1, sizeof *n);

        n->is_dir = is_dir;
        if (is_dir) {
                n->now = table_create();
                n->built = table_create();
        }
        *ARRAY_PUSH(&rec.nodes) = n;
        return n;
}

/* The node that `path` names now; NULL when there is none. */
static struct node *node_at(struct span path)
{
        struct node *n = rec.root;

        if (span_eq(path, SPAN(".")))
                return n;
        while (n && path.len) {
                size_t len = span_index(path, '/');

                n = n->is_dir ? table_find(n->now, (struct span){ path.p, len }) : NULL;
                path.p += len < path.len ? len + 1 : len;
                path.len -= len < path.len ? len + 1 : len;
        }
        return n;
}

/* What was there before the recording began: durable. */
static struct node *parent_of(const char *path, const char **name_r)
{
        const char *slash = strrchr(path, '/');
        struct node *n;

        *name_r = slash ? slash + 1 : path;
        if (!slash)
                return rec.root;
        n = node_at((struct span){ path, (size_t)(slash - path) });
        if (!n) {
                const char *name;
                char *copy = xstrndup(path, (size_t)(slash - path));
                struct node *up = parent_of(copy, &name);

                n = new_node(true);
                table_set(up->now, span_of(name), n);
                table_set(up->built, span_of(name), n);
                *ARRAY_PUSH(&rec.names) = (struct name_op){ 0, up, { { xstrdup(name), n }, { NULL, NULL } } };
                free(copy);
        }
        return n;
}

static void set_name(struct node *dir, const char *name, struct node *to)
{
        struct node *former = table_find(dir->now, span_of(name));

        if (former)
                former->gone = rec.events;
        if (to)
                to->gone = 0;
        table_set(dir->now, span_of(name), to);
}

static void name_event(const char *path, struct node *to)
{
        const char *name;
        struct node *dir = parent_of(path, &name);

        set_name(dir, name, to);
        *ARRAY_PUSH(&rec.names) = (struct name_op){ rec.events, dir, { { xstrdup(name), to }, { NULL, NULL } } };
}

/* path2 becomes what path was; path what `left` says. One step when both are in one directory, else two that may come apart. */
static void rename_event(const char *path, const char *path2, bool exchange)
{
        const char *name, *name2;
        struct node *from = parent_of(path, &name), *to = parent_of(path2, &name2);
        struct node *moved = table_find(from->now, span_of(name)), *left = exchange ? table_find(to->now, span_of(name2)) : NULL;

        if (!moved)
                return;
        set_name(from, name, left);
        set_name(to, name2, moved);
        if (from == to) {
                *ARRAY_PUSH(&rec.names) =
                        (struct name_op){ rec.events, to, { { xstrdup(name2), moved }, { xstrdup(name), left } } };
        } else {
                *ARRAY_PUSH(&rec.names) = (struct name_op){ rec.events, to, { { xstrdup(name2), moved }, { NULL, NULL } } };
                *ARRAY_PUSH(&rec.names) = (struct name_op){ rec.events, from, { { xstrdup(name), left }, { NULL, NULL } } };
        }
}

static void sync_event(const struct rec *r, struct node *n)
{
        size_t i;

        for (i = 0; i < rec.sites.n && rec.sites.v[i] != r->site; i++)
                ;
        if (i == rec.sites.n)
                *ARRAY_PUSH(&rec.sites) = r->site;
        if (!n)
                return;
        if (r->type == REC_SYNC_BEGIN) {
                *ARRAY_PUSH(&n->syncs) = (struct sync){ r->offset, rec.events, 0, r->site };
                return;
        }
        for (size_t k = n->syncs.n; k-- > 0;)
                if (n->syncs.v[k].number == r->offset) {
                        n->syncs.v[k].end = rec.events;
                        break;
                }
}

static bool is_zero(const struct rec *r, const char *data)
{
        return r->data_len && !data[0] && memcmp(data, data + 1, r->data_len - 1) == 0;
}

static void take_event(const struct rec *r, const char *path, const char *path2, const char *data)
{
        struct node *o = table_find(rec.by_ino, key_ino(&r->ino));

        switch (r->type) {
        case REC_CREATE:
                o = new_node(false);
                table_set(rec.by_ino, key_ino(&r->ino), o);
                name_event(path, o);
                break;
        case REC_WRITE:
        case REC_TRUNCATE:
                if (!o)
                        break;
                /* Zeros behind the end make the file longer, and nothing else. */
                if (r->type == REC_WRITE && r->offset >= o->now_size && is_zero(r, data))
                        *ARRAY_PUSH(&o->writes) = (struct wr){ rec.events, true, r->offset + r->data_len, 0, NULL };
                else
                        *ARRAY_PUSH(&o->writes) = (struct wr){ rec.events, r->type == REC_TRUNCATE, r->offset, r->data_len, data };
                if (r->type == REC_TRUNCATE)
                        o->now_size = r->offset;
                else if (r->offset + r->data_len > o->now_size)
                        o->now_size = r->offset + r->data_len;
                break;
        case REC_SYNC_BEGIN:
        case REC_SYNC_END:
                /* By its number: one that is removed while it is open has no name any more. */
                if (!o && r->dir) {
                        const char *name;
                        struct str inside = STR_INIT;

                        str_printf(&inside, "%s/x", path);
                        o = strcmp(path, ".") == 0 ? rec.root : parent_of(inside.data, &name);
                        str_deinit(&inside);
                }
                sync_event(r, o);
                break;
        case REC_RENAME:
        case REC_EXCHANGE:
                rename_event(path, path2, r->type == REC_EXCHANGE);
                break;
        case REC_LINK:
                if (o)
                        name_event(path2, o);
                break;
        case REC_UNLINK:
        case REC_RMDIR:
                name_event(path, NULL);
                break;
        case REC_MKDIR:
                o = new_node(true);
                table_set(rec.by_ino, key_ino(&r->ino), o);
                name_event(path, o);
                break;
        case REC_SYMLINK:
                o = new_node(false);
                o->target = xstrdup(path2);
                table_set(rec.by_ino, key_ino(&r->ino), o);
                name_event(path, o);
                break;
        case REC_NOTE:
                *ARRAY_PUSH(&rec.notes) = (struct note){ rec.events, r->time_us, xstrdup(path), strlen(path) };
                break;
        }
        if (r->type != REC_WRITE || r->data_len < PAGE || !is_zero(r, data))
                *ARRAY_PUSH(&rec.moments) = rec.events;
        *ARRAY_PUSH(&rec.times) = r->time_us;
        rec.events++;
}

int load_log(const char *path)
{
        int fd = open(path, O_RDONLY);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
                return -1;
        rec.size = (size_t)st.st_size;
        rec.map = mmap(NULL, rec.size, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (rec.map == MAP_FAILED)
                return -1;
        rec.by_ino = table_create();
        rec.root = new_node(true);
        for (size_t at = 0; at + sizeof(struct rec) <= rec.size;) {
                struct rec r;
                char *p, *p2;

                memcpy(&r, rec.map + at, sizeof r);
                at += sizeof r;
                p = xstrndup(rec.map + at, r.path_len);
                p2 = xstrndup(rec.map + at + r.path_len, r.path2_len);
                at += (size_t)r.path_len + r.path2_len;
                take_event(&r, p, p2, rec.map + at);
                at += r.data_len;
                free(p);
                free(p2);
        }
        return 0;
}

/* ---- one state ---- */

const char *const mode_names[] = { "none", "all", "names", "data", "prefix", "torn", "lost-all", "lost-none", "gone-all",
                                          "gone-none", "torn-all" };

static void base_write(char **buf, uint64_t *size, uint64_t *cap, const struct wr *w, const uint8_t *pages)
{
        uint64_t end = w->truncate ? w->offset : w->offset + w->len;

        if (end > *cap && !w->truncate) {
                uint64_t c = end + end / 2 + PAGE;

                *buf = xrealloc(*buf, c);
                memset(*buf + *cap, 0, c - *cap);
                *cap = c;
        }
        if (w->truncate) {
                if (end < *size && end < *cap)
                        memset(*buf + end, 0, (*size < *cap ? *size : *cap) - end);
                *size = end;                            /* beyond the capacity are zeros */
                return;
        }
        for (uint64_t at = 0; at < w->len;) {
                uint64_t page_end = (w->offset + at) / PAGE * PAGE + PAGE - w->offset;
                uint64_t n = (page_end < w->len ? page_end : w->len) - at;

                if (!pages || pages[((w->offset + at) / PAGE) % 64])
                        memcpy(*buf + w->offset + at, w->data + at, n);
                at += n;
        }
        if (end > *size)
                *size = end;
}

/* Ascending cuts only. */
void advance(uint32_t cut)
{
        for (size_t i = 0; i < rec.nodes.n; i++) {
                struct node *o = rec.nodes.v[i];

                for (size_t k = 0; k < o->syncs.n; k++)
                        if (o->syncs.v[k].end && o->syncs.v[k].end < cut && o->syncs.v[k].begin > o->durable &&
                            !is_dropped(o->syncs.v[k].site))
                                o->durable = o->syncs.v[k].begin;
                while (o->applied < o->writes.n && o->writes.v[o->applied].seq < o->durable)
                        base_write(&o->base, &o->size, &o->cap, &o->writes.v[o->applied++], NULL);
        }
}

/* Is this change, done to `n` at `seq` and not durable, there? Of a write perhaps some pages only. */
static bool is_kept(const struct node *n, uint32_t seq, int mode, const struct victim *v, bool *torn_r, unsigned *seed)
{
        *torn_r = false;
        switch (mode) {
        case KEEP_NONE:
                return false;
        case KEEP_ALL:
                return true;
        case NAMES_ONLY:
                return n->is_dir;
        case DATA_ONLY:
                return !n->is_dir;
        case RANDOM_PREFIX:
                return n->is_dir ? seq < n->prefix : rand_r(seed) % 2;
        case RANDOM_TORN:
                *torn_r = !n->is_dir;
                return !n->is_dir || rand_r(seed) % 2;
        default:
                break;
        }
        if (n != v->node)
                return mode == LOST_ALL || mode == GONE_ALL || mode == TORN_ALL;
        if (mode == TORN_ALL) {
                *torn_r = !n->is_dir;
                return !n->is_dir || rand_r(seed) % 2;
        }
        return (mode == LOST_ALL || mode == LOST_NONE) && seq >= v->begin;
}

/* Holes where there are only zeros: a preallocated log is mostly that. */
static int put_sparse(int fd, const char *p, uint64_t cap, uint64_t size, struct err *err)
{
        static const char zeros[65536];
        uint64_t upto = cap < size ? cap : size;

        for (uint64_t at = 0; at < upto; at += sizeof zeros) {
                size_t n = upto - at < sizeof zeros ? (size_t)(upto - at) : sizeof zeros;

                if (memcmp(p + at, zeros, n) != 0 && fs_pwrite_all(fd, p + at, n, at, err) < 0)
                        return -1;
        }
        return ftruncate(fd, (off_t)size);
}

static int put_file(const char *path, struct node *o, uint32_t cut, int mode, const struct victim *v, unsigned *seed)
{
        char *buf = NULL;
        uint64_t size = o->size, cap = 0;
        int fd, rc = -1;
        struct err err = ERR_INIT;

        for (size_t i = o->applied; i < o->writes.n && o->writes.v[i].seq < cut; i++) {
                uint8_t pages[64];
                bool torn;

                if (!is_kept(o, o->writes.v[i].seq, mode, v, &torn, seed))
                        continue;
                for (int k = 0; torn && k < 64; k++)
                        pages[k] = rand_r(seed) % 2;
                if (!buf) {
                        cap = o->cap + PAGE;
                        buf = xmalloc(cap);
                        if (o->cap)
                                memcpy(buf, o->base, o->cap);
                        memset(buf + o->cap, 0, PAGE);
                }
                base_write(&buf, &size, &cap, &o->writes.v[i], torn ? pages : NULL);
        }
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd >= 0) {
                rc = put_sparse(fd, buf ? buf : o->base, buf ? cap : o->cap, size, &err);
                close(fd);
        }
        free(buf);
        return rc;
}

static int put_directory(const char *path, struct node *dir, uint32_t cut, int mode, const struct victim *v, unsigned *seed)
{
        size_t pos = 0;
        struct span key;
        void *value;
        int rc = 0;

        if (dir->placed)                                /* under its old and its new name: one is enough */
                return 0;
        dir->placed = true;
        if (mkdir(path, 0700) < 0)
                return -1;
        while (rc == 0 && table_next(dir->built, &pos, &key, &value)) {
                struct node *n = value;
                char full[4096];

                snprintf(full, sizeof full, "%s/%.*s", path, (int)key.len, key.p);
                rc = n->target ? symlink(n->target, full) : n->is_dir ? put_directory(full, n, cut, mode, v, seed)
                               : put_file(full, n, cut, mode, v, seed);
        }
        return rc;
}

int build_state(const char *scratch, uint32_t cut, int mode, const struct victim *v, unsigned *seed)
{
        struct err err = ERR_INIT;

        fs_remove_tree(scratch, &err);
        for (size_t i = 0; i < rec.nodes.n; i++) {
                struct node *d = rec.nodes.v[i];

                if (!d->is_dir)
                        continue;
                d->prefix = d->durable + (d->durable < cut ? (uint32_t)rand_r(seed) % (cut - d->durable + 1) : 0);
                d->placed = false;
                table_destroy(&d->built);
                d->built = table_create();
        }
        for (size_t i = 0; i < rec.names.n && rec.names.v[i].seq < cut; i++) {
                struct name_op *op = &rec.names.v[i];
                bool torn;

                if (op->seq && op->seq >= op->dir->durable && !is_kept(op->dir, op->seq, mode, v, &torn, seed))
                        continue;
                for (int k = 0; k < 2 && op->change[k].name; k++)
                        table_set(op->dir->built, span_of(op->change[k].name), op->change[k].to);
        }
        return put_directory(scratch, rec.root, cut, mode, v, seed);
}
