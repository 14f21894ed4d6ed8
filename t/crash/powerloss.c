/*
 * powerloss - rebuilds what a disk could hold after a power loss, from the recording of a load (record.c, load.c), opens the store on
 * it, and compares what is there with what had been acknowledged.
 *   powerloss LOG SCRATCH STATES SEED [--jobs N] [--state N]
 *   powerloss LOG SCRATCH 0 0 --sites LIST [--rounds N] [--jobs N]
 * --state looks at one state only and leaves it in SCRATCH.0.only, as it was built; with POWERLOSS_VERBOSE set recovery logs to stderr.
 * --sites takes each line of LIST (hashes of call sites, a tab, a name: t/crash/site-names) out in turn and looks for a state that
 * shows it; a test line for each.
 *
 * The model of a disk. What was written to a file before a sync of it began is there once that sync has returned; whatever else was
 * written up to the moment of the loss may be there or not, each write by itself, in part (pages of 4 KiB), in any order. The same
 * for names: entries of a directory are there once the directory was synced; later ones may be there or not, as any prefix or any
 * subset.
 *
 * The model of a store: each thread of the load worked on its own mailboxes, so after the loss they are as after its last acknowledged
 * operation, or as after the one in flight as a whole. Flag changes may be missing when they are younger than FLAGS_US.
 * UIDNEXT and HIGHESTMODSEQ are never below what was acknowledged. Nothing is logged as an error, a clean stop is remembered, and some
 * of the states are damaged besides (enum damage), for what is only there for that.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/duplicate.h"
#include "store/mailbox.h"
#include "store/annot.h"
#include "store/mboxlist.h"
#include "store/seen.h"
#include "store/store.h"
#include "store/user.h"
#include "t/crash/model.h"
#include "t/crash/record.h"
#include "util/array.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"

#define FLAGS_US 1500000u               /* "on disk within a second", and what a loaded machine adds */
#define PAGE 4096u

/* ---- the log, taken apart once ---- */

struct wr { uint32_t seq; bool truncate; uint64_t offset; uint32_t len; const char *data; };
struct sync { uint64_t number; uint32_t begin, end, site; };

/* A file or directory: what was done to it, and for ascending cuts what of that is durable. */
struct node {
        bool is_dir;
        ARRAY(struct wr) writes;
        ARRAY(struct sync) syncs;
        uint32_t durable;               /* what was done to it before this event is */
        uint32_t gone;                  /* the event that took its (last) name, 0: it has one */
        /* a file */
        char *base;                     /* its durable octets */
        uint64_t size, cap;
        size_t applied;
        uint64_t now_size;              /* as the load sees it */
        /* a directory */
        struct table *now;              /* its entries as the load sees them */
        struct table *built;            /* … as they are in the state being built */
        uint32_t prefix;                /* decision for the state: ops below are kept */
        bool placed;
};

/* One change of a directory, atomic by itself: one or two of its names (renamed, exchanged). */
struct name_op {
        uint32_t seq;
        struct node *dir;
        struct { char *name; struct node *to; } change[2];      /* to NULL: gone; name NULL: no second */
};

struct note { uint32_t seq; uint64_t time_us; const char *text; size_t len; };

static struct {
        char *map;
        size_t size;
        uint32_t events;
        ARRAY(struct node *) nodes;
        ARRAY(struct name_op) names;
        ARRAY(struct note) notes;
        ARRAY(uint64_t) times;          /* of each event */
        ARRAY(uint32_t) moments;        /* events worth a cut before them: not Berkeley DB filling a log file with zeros */
        ARRAY(uint32_t) sites;
        struct table *by_ino;
        struct node *root;
} rec;

/* Sites whose syncs are taken out. */
static ARRAY(uint32_t) dropped;

static bool is_dropped(uint32_t site)
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
                if (r->dir) {
                        const char *name;
                        struct str inside = STR_INIT;

                        str_printf(&inside, "%s/x", path);
                        sync_event(r, strcmp(path, ".") == 0 ? rec.root : parent_of(inside.data, &name));
                        str_deinit(&inside);
                } else {
                        sync_event(r, o);
                }
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
                name_event(path, new_node(true));
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

static int load_log(const char *path)
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

/*
 * What is not durable at the cut. The first six, for a disk as it is; the others, for a sync taken out: what that sync alone should
 * have made durable (done to its file before it began) is lost, with what was done to the file later there nevertheless (LOST_…), or
 * with that (GONE_…), in part (TORN_…); of all else is there everything, or nothing.
 */
enum mode { KEEP_NONE, KEEP_ALL, NAMES_ONLY, DATA_ONLY, RANDOM_PREFIX, RANDOM_TORN, MODES,
            LOST_ALL = MODES, LOST_NONE, GONE_ALL, GONE_NONE, TORN_ALL, MODES_ALL };
static const char *const mode_names[] = { "none", "all", "names", "data", "prefix", "torn", "lost-all", "lost-none", "gone-all",
                                          "gone-none", "torn-all" };

/* The file or directory whose sync, begun at `begin`, was taken out. */
struct victim { struct node *node; uint32_t begin; };

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
static void advance(uint32_t cut)
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
                rc = n->is_dir ? put_directory(full, n, cut, mode, v, seed) : put_file(full, n, cut, mode, v, seed);
        }
        return rc;
}

static int build_state(const char *scratch, uint32_t cut, int mode, const struct victim *v, unsigned *seed)
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

/* ---- what is there ---- */

static bool said_clean, said_dumped, said_damaged, said_second, said_orphan;     /* of the notes up to the cut */

/* What else has happened to the disk, besides the power loss. */
enum damage {
        DAMAGE_NONE,
        DAMAGE_TABLES,          /* the tables of the database are damaged: copies and log in db.backup/ and db/ bring everything back */
        DAMAGE_DATABASE,        /* … and log and copies are gone: what the last dumps knew comes back */
        DAMAGE_UNMOUNTED,       /* the second partition is not mounted: the start is refused */
};

static void spoil(const char *path)
{
        static const char garbage[16384] = "no table";
        int fd = open(path, O_WRONLY);

        must(fd < 0 || pwrite(fd, garbage, sizeof garbage, 0) > 0);
        if (fd >= 0)
                close(fd);
}

static void do_damage(const char *scratch, int damage)
{
        static const char *const tables[] = { "mailboxes.db", "subscriptions.db", "removals.db" };
        char path[4300];
        struct err err = ERR_INIT;

        if (damage == DAMAGE_UNMOUNTED) {
                snprintf(path, sizeof path, "%s/second/data", scratch);
                fs_remove_tree(path, &err);
        }
        for (size_t i = 0; (damage == DAMAGE_TABLES || damage == DAMAGE_DATABASE) && i < ARRAY_LEN(tables); i++) {
                snprintf(path, sizeof path, "%s/etc/conf/db/%s", scratch, tables[i]);
                spoil(path);
        }
        if (damage == DAMAGE_DATABASE) {
                snprintf(path, sizeof path, "%s/etc/conf/db.backup/tables", scratch);
                fs_remove_tree(path, &err);
                for (unsigned i = 1; i < 20; i++) {
                        snprintf(path, sizeof path, "%s/etc/conf/db/log.%010u", scratch, i);
                        unlink(path);
                }
        }
}

static void print_problem(void *ctx, const char *mailbox, uint32_t uid, const char *text)
{
        fprintf(ctx, "P %s: check finds, uid %u: %s\n", mailbox, uid, text);
}

/* The message's shared /comment, that of the other user, and how much litter there is; "-" for none. */
static void dump_annots(struct mailbox *mbox, uint32_t uid, FILE *f)
{
        struct arena arena = ARENA_INIT;
        struct span remark, mine;
        struct annot *annots;
        unsigned litter = 0;

        mailbox_annot_values(mbox, uid, "/comment", "other", &arena, &remark, &mine);
        for (uint32_t i = 0, n = mailbox_annots(mbox, uid, NULL, &arena, &annots); i < n; i++)
                litter += strncmp(annots[i].entry, "/litter/", 8) == 0;
        fprintf(f, " %.*s %.*s %u\n", remark.p ? (int)remark.len : 1, remark.p ? remark.p : "-", mine.p ? (int)mine.len : 1,
                mine.p ? mine.p : "-", litter);
        arena_deinit(&arena);
}

/* As the notes have them: keywords k0, k1 … are bits. */
static unsigned flags_of(struct mailbox *mbox, const struct msg *msg)
{
        const struct kwset *set = mailbox_kwset(mbox, msg->kwset);
        unsigned flags = msg->flags & MSG_SYSTEM_FLAGS;

        for (uint32_t i = 0; set && i < set->n; i++) {
                const char *name = mailbox_keyword_name(mbox, set->ids[i]);

                flags |= name && name[0] == 'k' ? 256u << (name[1] - '0') : 1u << 31;
        }
        return flags;
}

static int dump_messages(struct mailbox *mbox, struct seen *other, FILE *f, struct err *err)
{
        struct view *view = mailbox_view(mbox);
        int rc = 0;

        for (uint32_t i = 1; rc == 0 && i <= view_count(view); i++) {
                struct msg msg;
                struct extent body;
                char guid[41];

                if (mailbox_message(mbox, view_uid(view, i), &msg, err) < 0 || mailbox_body(mbox, &msg, &body, err) < 0) {
                        rc = err_prefix(err, "uid %u", view_uid(view, i));
                        continue;
                }
                file_unref(&body.file);
                hex_encode(guid, msg.guid, GUID_SIZE);
                fprintf(f, "m %u %s %u %u", msg.uid, guid, flags_of(mbox, &msg), seen_has(other, msg.uid));
                dump_annots(mbox, msg.uid, f);
        }
        view_unref(&view);
        return rc;
}

/* The marks of deliveries that this state has. */
static ARRAY(struct duplicate_mark) marks;

static bool keep_mark(void *ctx, const struct duplicate_mark *mark)
{
        (void)ctx;
        *ARRAY_PUSH(&marks) = *mark;
        return true;
}

/* A mark says that a message is there: it is, or has been expunged since, and it is just that one. The load's message ids are GUIDs. */
static int check_marks(struct mailbox *mbox, uint32_t uidnext, FILE *f, struct err *err)
{
        struct duplicate_key key;
        unsigned n = 0;

        duplicate_key_make(mailbox_uniqueid(mbox), SPAN(""), SPAN(""), &key);
        for (size_t i = 0; i < marks.n; i++) {
                const struct duplicate_mark *mark = &marks.v[i];
                char guid[2 * GUID_SIZE + 1];
                struct msg msg;

                if (memcmp(mark->key.mailbox, key.mailbox, sizeof key.mailbox) != 0)
                        continue;
                n++;
                if (mark->uid >= uidnext)
                        return err_set(err, ERR_CORRUPT, "uid %u is called delivered, and never was there", mark->uid);
                if (mailbox_message(mbox, mark->uid, &msg, NULL) < 0)
                        continue;                       /* purged */
                hex_encode(guid, msg.guid, GUID_SIZE);
                duplicate_key_make(mailbox_uniqueid(mbox), span_of(guid), SPAN(""), &key);
                if (memcmp(mark->key.message, key.message, sizeof key.message) != 0)
                        return err_set(err, ERR_CORRUPT, "uid %u is another message than the one that is called delivered", mark->uid);
        }
        fprintf(f, "D %u\n", n);
        return 0;
}

static int dump_open(struct store *store, struct mailbox *mbox, FILE *f, const struct mbentry *e, struct err *err)
{
        struct mailbox_status st;
        struct seen *other;
        struct annot *annots;
        struct arena arena = ARENA_INIT;
        char user[64];
        bool subscribed = false;
        int rc;

        mailbox_status(mbox, &st);
        snprintf(user, sizeof user, "%.*s", (int)strcspn(e->name + 5, "."), e->name + 5);
        if (sub_has(store, user, e->name, &subscribed, err) < 0)
                return -1;
        fprintf(f, "M %s %u %llu %u %d\n", e->name, st.uidnext, (unsigned long long)st.highestmodseq, st.uidvalidity, subscribed);
        if (mailbox_annots(mbox, 0, NULL, &arena, &annots) > 0)
                fprintf(f, "a %.*s\n", (int)annots[0].value.len, annots[0].value.p);
        arena_deinit(&arena);
        if (check_marks(mbox, st.uidnext, f, err) < 0 || seen_open(store, e->uniqueid, "other", &other, err) < 0)
                return -1;
        rc = dump_messages(mbox, other, f, err);
        seen_unref(&other);
        return rc;
}

static int dump_mailbox(struct store *store, FILE *f, const struct mbentry *e, int damage, struct err *err)
{
        struct mailbox_ident ident;
        struct mailbox *mbox;
        struct check_report report = { .problem = print_problem, .ctx = f };
        int rc;

        if (mbentry_ident(store, e, &ident, err) < 0 || mailbox_open(store, &ident, &mbox, err) < 0)
                return err_prefix(err, "%s", e->name);
        rc = dump_open(store, mbox, f, e, err);
        mailbox_unref(&mbox);
        if (rc == 0 && damage != DAMAGE_DATABASE)
                rc = mailbox_check_files(store, &ident, &report, err);
        return rc < 0 ? err_prefix(err, "%s", e->name) : 0;
}

/* A mailbox is in one partition: where it is listed. A directory of one that was just being made, or long gone, is another matter. */
struct finding { FILE *f; int damage; };

static void print_finding(void *ctx, const char *text)
{
        struct finding *x = ctx;

        if (strncmp(text, "moved: ", 7) == 0 || (x->damage != DAMAGE_DATABASE && (strncmp(text, "dangling: ", 10) == 0 || strstr(text, " is a copy of "))))
                fprintf(x->f, "P the list: %s\n", text);
}

static bool is_ours(const struct mbentry *e)
{
        return e->type == MBTYPE_NORMAL && strncmp(e->name, "user.", 5) == 0;
}

/* All before any is opened: what a damaged one has of an interrupted move is known to the other when that is opened. */
static int reconstruct_all(struct store *store, int damage, struct err *err)
{
        const struct mbentry *e;
        char after[512] = "";
        int rc = 0;

        while (rc == 0 && mboxlist_next(store_mboxlist(store), "", after, &e, 1)) {
                struct mailbox_ident ident;

                snprintf(after, sizeof after, "%s", e->name);
                if (is_ours(e) && (mbentry_ident(store, e, &ident, err) < 0 || mailbox_reconstruct(store, &ident, err) < 0)) {
                        err_prefix(err, "%s", e->name);
                        rc = damage == DAMAGE_DATABASE ? 0 : -1;                                /* deleted since the dump */
                }
                mbentry_unref(&e);
        }
        return rc;
}

/* In a child: open the store on the state and print it. */
static void dump_store(const char *scratch, int damage, int out)
{
        FILE *f = fdopen(out, "w");
        char path[4300], text[9000], after[512] = "";
        struct store_options options = { .no_threads = true, .small_databases = true };
        const struct mbentry *e;
        struct store *store;
        struct diag diag;
        struct err err = ERR_INIT;
        int n;

        alarm(60);
        if (!getenv("POWERLOSS_VERBOSE")) {
                snprintf(path, sizeof path, "%s.errors", scratch);
                n = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
                dup2(n, 2);
        }
        log_open(LOG_TO_STDERR, "powerloss", -1, getenv("POWERLOSS_VERBOSE") ? LOG_INFORM : LOG_WARN);
        snprintf(path, sizeof path, "%s/imapd.conf", scratch);
        n = snprintf(text, sizeof text,
                     "configdirectory: %s/etc/conf\npartition-default: %s/spool/data\npartition-second: %s/second/data\n"
                     "partition-third: %s/second/third\ndefaultpartition: default\n", scratch, scratch, scratch, scratch);
        if (fs_replace(path, text, (size_t)n, 0600, &err) < 0)
                goto failed;
        diag_init(&diag);
        if (conf_load(path, NULL, &options.conf, &diag, &err) < 0 || store_open(&options, &store, &err) < 0)
                goto failed;
        fprintf(f, "S %d\n", store_was_unclean(store));
        if (duplicate_each(store, keep_mark, NULL, &err) < 0)
                goto failed;
        if (said_damaged && reconstruct_all(store, damage, &err) < 0)
                goto failed;
        while (mboxlist_next(store_mboxlist(store), "", after, &e, 1)) {
                snprintf(after, sizeof after, "%s", e->name);
                if (!is_ours(e))
                        ;
                else if (dump_mailbox(store, f, e, damage, &err) < 0) {
                        if (damage != DAMAGE_DATABASE)
                                goto failed;
                        log_event(LOG_INFORM, NULL, "dump.skipped", "mailbox=%s reason=\"%s\"", e->name, err.text);
                }
                mbentry_unref(&e);
        }
        if (!said_damaged && mboxlist_check(store_mboxlist(store), false, print_finding, &(struct finding){ f, damage }, &err) < 0)
                goto failed;
        store_close(&store);
        fprintf(f, "end\n");
        fflush(f);
        _exit(0);
failed:
        fprintf(f, "P %s\n", err.text);
        fflush(f);
        _exit(1);
}

struct found_msg { uint32_t uid, flags, other; unsigned litter; char guid[41], remark[32], mine[32]; bool used; };
struct found_box { char name[64], comment[32]; uint32_t uidnext, uidvalidity; uint64_t modseq; bool subscribed; ARRAY(struct found_msg) msgs; };
struct found { ARRAY(struct found_box) boxes; char problem[600]; bool complete, unclean; };

static void found_deinit(struct found *s)
{
        for (size_t i = 0; i < s->boxes.n; i++)
                ARRAY_FREE(&s->boxes.v[i].msgs);
        ARRAY_FREE(&s->boxes);
}

static uint64_t marks_checked;                  /* marks of deliveries, in all states */

static void take_line(struct found *s, char *line)
{
        struct found_box *b = s->boxes.n ? &s->boxes.v[s->boxes.n - 1] : NULL;
        unsigned long long modseq;
        int flag;

        line[strcspn(line, "\n")] = '\0';
        if (line[0] == 'M') {
                b = ARRAY_PUSH(&s->boxes);
                memset(b, 0, sizeof *b);
                if (sscanf(line, "M %63s %u %llu %u %d", b->name, &b->uidnext, &modseq, &b->uidvalidity, &flag) == 5) {
                        b->modseq = modseq;
                        b->subscribed = flag;
                }
        } else if (line[0] == 'a' && b) {
                snprintf(b->comment, sizeof b->comment, "%.31s", line + 2);
        } else if (line[0] == 'm' && b) {
                struct found_msg *m = ARRAY_PUSH(&b->msgs);

                memset(m, 0, sizeof *m);
                if (sscanf(line, "m %u %40s %u %u %31s %31s %u", &m->uid, m->guid, &m->flags, &m->other, m->remark, m->mine, &m->litter) < 7)
                        snprintf(s->problem, sizeof s->problem, "odd line %.500s", line);
        } else if (line[0] == 'D') {
                marks_checked += strtoul(line + 2, NULL, 10);
        } else if (line[0] == 'S') {
                s->unclean = line[2] == '1';
        } else if (line[0] == 'P') {
                snprintf(s->problem, sizeof s->problem, "%.500s", line + 2);
        } else if (strcmp(line, "end") == 0) {
                s->complete = true;
        }
}

/* A power loss is nothing that an operator has to act upon, and a checkpoint of an index is whole or not there. */
static bool is_alarm(const char *line)
{
        return strstr(line, ": error ") || strstr(line, ": warning index.");
}

static void look_for_errors(const char *scratch, struct found *s)
{
        char path[4300], line[400];
        FILE *f;

        snprintf(path, sizeof path, "%s.errors", scratch);
        f = fopen(path, "r");
        while (f && !s->problem[0] && fgets(line, sizeof line, f))
                if (is_alarm(line))
                        snprintf(s->problem, sizeof s->problem, "it is logged: %.*s", (int)strcspn(line, "\n"), line);
        if (f)
                fclose(f);
}

static void look(const char *scratch, int damage, struct found *s)
{
        int fds[2], status;
        pid_t pid;
        FILE *f;
        char line[560];

        memset(s, 0, sizeof *s);
        fflush(stdout);
        if (pipe(fds) < 0 || (pid = fork()) < 0) {
                snprintf(s->problem, sizeof s->problem, "no fork");
                return;
        }
        if (pid == 0) {
                close(fds[0]);
                dump_store(scratch, damage, fds[1]);
        }
        close(fds[1]);
        f = fdopen(fds[0], "r");
        while (fgets(line, sizeof line, f))
                take_line(s, line);
        fclose(f);
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status))
                snprintf(s->problem, sizeof s->problem, "recovery died of signal %d", WTERMSIG(status));
        if (!s->complete && !s->problem[0])
                snprintf(s->problem, sizeof s->problem, "recovery ended early");
        if (damage == DAMAGE_NONE && !said_damaged)
                look_for_errors(scratch, s);
}

/* ---- comparing ---- */

static bool value_allowed(const struct flag_at *v, size_t n, uint32_t flags, uint64_t cut_us)
{
        size_t first = 0;

        for (size_t i = 0; i < n; i++)
                if (v[i].time_us + FLAGS_US < cut_us)
                        first = i;
        for (size_t i = first; i < n; i++)
                if (v[i].flags == flags)
                        return true;
        return false;
}

static bool seen_may_be_lost;                   /* the databases come from their last dumps */

static bool flags_allowed(const struct msg_model *m, const struct found_msg *h, uint64_t cut_us)
{
        return value_allowed(m->flags.v, m->flags.n, h->flags, cut_us) &&
               (seen_may_be_lost || value_allowed(m->other.v, m->other.n, h->other, cut_us));
}

/* Whose a private one is stands in a database, and is lost with it. */
static bool remarks_equal(const struct msg_model *m, const struct found_msg *h)
{
        const char *remark = *m->remark ? m->remark : "-", *mine = *m->mine ? m->mine : "-";

        return strcmp(h->remark, remark) == 0 && h->litter == m->litter &&
               (strcmp(h->mine, mine) == 0 || (seen_may_be_lost && strcmp(h->mine, "-") == 0));
}

static bool box_equal(const struct box_model *want, struct found_box *have, uint64_t cut_us, char *why, size_t size)
{
        for (size_t k = 0; k < have->msgs.n; k++)
                have->msgs.v[k].used = false;
        for (size_t i = 0; i < want->msgs.n; i++) {
                const struct msg_model *m = &want->msgs.v[i];
                const struct found_msg *there = NULL;
                bool found = false;

                for (size_t k = 0; k < have->msgs.n && !found; k++) {
                        struct found_msg *h = &have->msgs.v[k];

                        if (h->used || strcmp(h->guid, m->guid) != 0 || (m->uid && h->uid != m->uid))
                                continue;
                        if (!remarks_equal(m, h))
                                continue;
                        there = h;
                        if (flags_allowed(m, h, cut_us))
                                found = h->used = true;
                }
                if (!found) {
                        snprintf(why, size, "%s: uid %u guid %.12s %s %x, last set %x", want->name, m->uid, m->guid, there ? "has flags" : "is missing, flags", there ? there->flags : 0, m->flags.v[m->flags.n - 1].flags);
                        return false;
                }
        }
        if (have->msgs.n != want->msgs.n) {
                snprintf(why, size, "%s: %zu messages instead of %zu", want->name, have->msgs.n, want->msgs.n);
                return false;
        }
        if (strcmp(have->comment, want->comment) != 0) {
                snprintf(why, size, "%s: comment \"%s\" instead of \"%s\"", want->name, have->comment, want->comment);
                return false;
        }
        if (have->uidnext < want->uidnext || have->modseq < want->modseq || (want->uidvalidity && have->uidvalidity != want->uidvalidity)) {
                snprintf(why, size, "%s: uidnext %u of %u, modseq %llu of %llu, uidvalidity %u of %u", want->name, have->uidnext, want->uidnext,
                         (unsigned long long)have->modseq, (unsigned long long)want->modseq, have->uidvalidity, want->uidvalidity);
                return false;
        }
        if (have->subscribed != want->subscribed) {
                snprintf(why, size, "%s is %ssubscribed", want->name, have->subscribed ? "" : "not ");
                return false;
        }
        return true;
}

static bool belongs(const char *name, unsigned number)
{
        char user[32];
        size_t len = (size_t)snprintf(user, sizeof user, "user.u%u", number);

        return strncmp(name, user, len) == 0 && (name[len] == '.' || name[len] == '\0');
}

/* `dumped_only`: what the last dumps could not know may be there or not. */
static bool thread_equal(unsigned number, const struct thread_model *t, struct found *s, bool dumped_only, uint64_t cut_us, char *why,
                         size_t size)
{
        size_t mine = 0;

        seen_may_be_lost = dumped_only;
        for (size_t i = 0; i < s->boxes.n; i++)
                mine += belongs(s->boxes.v[i].name, number);
        for (size_t i = 0; i < t->boxes.n; i++) {
                struct found_box *b = NULL;

                if (dumped_only && !t->boxes.v[i].dumped)
                        continue;
                for (size_t k = 0; k < s->boxes.n && !b; k++)
                        if (strcmp(s->boxes.v[k].name, t->boxes.v[i].name) == 0)
                                b = &s->boxes.v[k];
                if (!b) {
                        snprintf(why, size, "%s is missing", t->boxes.v[i].name);
                        return false;
                }
                if (!box_equal(&t->boxes.v[i], b, cut_us, why, size))
                        return false;
        }
        if (mine != t->boxes.n && !dumped_only) {
                snprintf(why, size, "%zu mailboxes of u%u instead of %zu", mine, number, t->boxes.n);
                return false;
        }
        return true;
}

#define THREADS_MAX 32
static struct thread_model models[THREADS_MAX];
static size_t notes_done;

static void dump_note(bool end)
{
        for (unsigned i = 0; i < THREADS_MAX; i++)
                for (size_t k = 0; k < models[i].boxes.n; k++) {
                        struct box_model *b = &models[i].boxes.v[k];

                        if (!end)
                                b->dumping = true;
                        else if (b->dumping)
                                b->dumped = true;
                }
        said_dumped = said_dumped || end;
}

static void models_advance(uint32_t cut)
{
        for (; notes_done < rec.notes.n && rec.notes.v[notes_done].seq < cut; notes_done++) {
                const struct note *n = &rec.notes.v[notes_done];
                struct thread_model *t;
                unsigned number, uidnext, first, uidvalidity;
                unsigned long long modseq;
                int used;

                if (sscanf(n->text, "B %u %n", &number, &used) == 1 && number < THREADS_MAX) {
                        models[number].in_flight = n->text + used;
                        models[number].in_flight_us = n->time_us;
                } else if (sscanf(n->text, "E %u %u %llu %u %u", &number, &uidnext, &modseq, &first, &uidvalidity) == 5 &&
                           number < THREADS_MAX) {
                        struct box_model *b;

                        t = &models[number];
                        b = model_apply(t, t->in_flight, first, n->time_us);
                        t->in_flight = NULL;
                        if (b && uidnext) {
                                b->uidnext = uidnext;
                                b->modseq = modseq;
                                b->uidvalidity = uidvalidity;
                        }
                } else if (sscanf(n->text, "A %u", &number) == 1 && number < THREADS_MAX) {
                        models[number].in_flight = NULL;
                } else if (strcmp(n->text, "orphan") == 0) {
                        said_orphan = true;
                } else if (strcmp(n->text, "opening") == 0) {
                        said_clean = false;
                } else if (strcmp(n->text, "closed") == 0) {
                        said_clean = true;
                } else if (strcmp(n->text, "dump") == 0 || strcmp(n->text, "dumped") == 0) {
                        dump_note(n->text[4] == 'e');
                } else if (strcmp(n->text, "damage") == 0 || strcmp(n->text, "repaired") == 0) {
                        said_damaged = n->text[0] == 'd';
                } else if (strcmp(n->text, "second") == 0) {
                        said_second = true;
                }
        }
}

static bool can_damage(int damage)
{
        return damage == DAMAGE_UNMOUNTED ? said_second : said_dumped && !said_damaged;
}

static bool has_file(const char *dir, const char *name)
{
        DIR *d = opendir(dir);
        struct dirent *e;
        bool found = false;

        while (d && !found && (e = readdir(d)) != NULL) {
                char path[4300];

                snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
                if (strcmp(e->d_name, name) == 0)
                        found = true;
                else if (e->d_type == DT_DIR && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        found = has_file(path, name);
        }
        if (d)
                closedir(d);
        return found;
}

/* 0 fine, 1 a violation (why is filled). */
static int verify(const char *scratch, uint32_t cut, int damage, char *why, size_t size)
{
        uint64_t cut_us = cut ? rec.times.v[cut - 1] : 0;
        struct found s;
        int rc = 0;

        look(scratch, damage, &s);
        if (damage == DAMAGE_UNMOUNTED) {
                rc = !strstr(s.problem, "mounted?");
                snprintf(why, size, "a partition that is not mounted does not stop the start");
                found_deinit(&s);
                return rc;
        }
        if (s.problem[0]) {
                snprintf(why, size, "%s", s.problem);
                rc = 1;
        }
        if (rc == 0 && said_orphan && !has_file(scratch, "orphan.mark")) {
                snprintf(why, size, "the directory of no mailbox is gone");
                rc = 1;
        }
        if (rc == 0 && said_clean && s.unclean) {
                snprintf(why, size, "a clean stop is forgotten");
                rc = 1;
        }
        for (unsigned i = 0; i < THREADS_MAX && rc == 0; i++) {
                char one[240], other[240] = "";
                struct thread_model after;

                if (thread_equal(i, &models[i], &s, damage == DAMAGE_DATABASE, cut_us, one, sizeof one))
                        continue;
                if (models[i].in_flight) {
                        bool ok;

                        model_copy(&after, &models[i]);
                        model_apply(&after, models[i].in_flight, 0, cut_us);
                        ok = thread_equal(i, &after, &s, damage == DAMAGE_DATABASE, cut_us, other, sizeof other);
                        model_deinit(&after);
                        if (ok)
                                continue;
                }
                snprintf(why, size, "%.240s%s%.240s%s%.80s", one, other[0] ? "; or: " : "", other, other[0] ? "; in flight: " : "",
                         models[i].in_flight ? models[i].in_flight : "");
                rc = 1;
        }
        found_deinit(&s);
        return rc;
}

/* ---- states ---- */

struct state { uint32_t cut; int mode, damage; struct victim victim; unsigned seed; };

/* Build it and look. 0 fine, 1 a violation; *skipped_r: the damage would be one too many here. Cuts ascend. */
static int try_state(const char *scratch, const struct state *st, bool *skipped_r, char *why, size_t size)
{
        unsigned seed = st->seed;

        advance(st->cut);
        models_advance(st->cut);
        *skipped_r = st->damage != DAMAGE_NONE && !can_damage(st->damage);
        if (*skipped_r)
                return 0;
        if (build_state(scratch, st->cut, st->mode, &st->victim, &seed) < 0) {
                snprintf(why, size, "cannot build: %s", strerror(errno));
                return 1;
        }
        do_damage(scratch, st->damage);
        return verify(scratch, st->cut, st->damage, why, size);
}

static void print_state(const char *name, unsigned number, const struct state *st, const char *why)
{
        printf("# %s %u (cut %u of %u, %s, damage %d, seed %u): %s\n", name, number, st->cut, rec.events, mode_names[st->mode],
               st->damage, st->seed, why);
        fflush(stdout);
}

/* One state in ten is damaged besides. */
static int some_damage(unsigned i)
{
        return i % 10 == 7 ? DAMAGE_TABLES + (int)(i / 10 % 3) : DAMAGE_NONE;
}

/* States `from`, from + step, … of `count`. Returns the number of violations. */
static unsigned run(const char *scratch, unsigned count, unsigned from, unsigned step, unsigned seed, int only)
{
        unsigned bad = 0, cuts = (count + MODES - 1) / MODES;

        for (unsigned i = from; i < count; i += step) {
                struct state st = { .mode = (int)(i % MODES), .damage = some_damage(i), .seed = seed * 1000003u + i };
                char why[1200];
                bool skipped;

                /* The cut itself moves a little with the seed, forward only. */
                st.cut = 1 + rec.moments.v[(uint64_t)(i / MODES) * (rec.moments.n - 1) / cuts] + seed % 7;
                if (st.cut > rec.events)
                        st.cut = rec.events;
                if (only >= 0 && (int)i < only)
                        continue;
                if (only >= 0 && (int)i > only)
                        break;
                if (only >= 0) {
                        unsigned again = st.seed;
                        char kept[4200];

                        snprintf(kept, sizeof kept, "%s.only", scratch);
                        advance(st.cut);
                        build_state(kept, st.cut, st.mode, &st.victim, &again);
                        do_damage(kept, st.damage);
                }
                if (try_state(scratch, &st, &skipped, why, sizeof why)) {
                        if (++bad <= 5)
                                print_state("state", i, &st, why);
                } else if (skipped) {
                        st.damage = DAMAGE_NONE;
                        if (try_state(scratch, &st, &skipped, why, sizeof why) && ++bad <= 5)
                                print_state("state", i, &st, why);
                }
        }
        return bad;
}

/* Run `fn` in a child, as what it advances is never taken back. */
static int in_child(int (*fn)(void *ctx), void *ctx)
{
        pid_t pid;
        int status;

        fflush(stdout);
        pid = fork();
        if (pid == 0) {
                int rc = fn(ctx);

                fflush(stdout);
                _exit(rc);
        }
        waitpid(pid, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* ---- syncs taken out ---- */

/* A sync taken out: what it would have made durable is not from its end until another sync does it. */
struct gap { struct victim victim; uint32_t from, to; };

struct site_run {
        const char *scratch, *name;
        ARRAY(struct gap) gaps;
        ARRAY(struct state) states;
        unsigned *at;                   /* in memory that children share */
};

/* Did the sync `s` of `n` find something that no earlier one had made durable? */
static bool had_work(const struct node *n, const struct sync *s)
{
        uint32_t before = 0;

        for (size_t i = 0; i < n->syncs.n; i++)
                if (n->syncs.v[i].end && n->syncs.v[i].end <= s->begin && n->syncs.v[i].begin > before && !is_dropped(n->syncs.v[i].site))
                        before = n->syncs.v[i].begin;
        if (!n->is_dir) {
                for (size_t i = 0; i < n->writes.n && n->writes.v[i].seq < s->begin; i++)
                        if (n->writes.v[i].seq >= before)
                                return true;
                return false;
        }
        for (size_t i = 0; i < rec.names.n && rec.names.v[i].seq < s->begin; i++)
                if (rec.names.v[i].dir == n && rec.names.v[i].seq >= before)
                        return true;
        return false;
}

static int by_from(const void *a, const void *b)
{
        const struct gap *x = a, *y = b;

        return x->from < y->from ? -1 : x->from > y->from;
}

static void find_gaps(struct site_run *r)
{
        for (size_t i = 0; i < rec.nodes.n; i++) {
                struct node *n = rec.nodes.v[i];

                for (size_t k = 0; k < n->syncs.n; k++) {
                        const struct sync *s = &n->syncs.v[k];
                        uint32_t to = rec.events;

                        if (!is_dropped(s->site) || !s->end || !had_work(n, s))
                                continue;
                        for (size_t j = 0; j < n->syncs.n; j++) {
                                const struct sync *other = &n->syncs.v[j];

                                if (other->begin > s->begin && other->end && other->end < to && !is_dropped(other->site))
                                        to = other->end;
                        }
                        if (n->gone > s->end && n->gone < to)           /* what it held is of no use any more */
                                to = n->gone;
                        if (to > s->end + 1)
                                *ARRAY_PUSH(&r->gaps) = (struct gap){ { n, s->begin }, s->end + 1, to };
                }
        }
        if (r->gaps.n)
                qsort(r->gaps.v, r->gaps.n, sizeof *r->gaps.v, by_from);
}

/* The moment after the first note of the gap beyond `from`. */
static uint32_t next_note(const struct gap *g, uint32_t from)
{
        for (size_t i = 0; i < rec.notes.n; i++)
                if (rec.notes.v[i].seq >= from && rec.notes.v[i].text[0] != 'B')
                        return rec.notes.v[i].seq + 1 < g->to ? rec.notes.v[i].seq + 1 : g->to;
        return g->to;
}

/* The last moment before the databases are dumped and copied again: what was changed since they were is in their log only. */
static uint32_t before_dump(const struct gap *g)
{
        uint32_t seq = g->to;

        for (size_t i = 0; i < rec.notes.n && rec.notes.v[i].seq < g->to; i++)
                if (rec.notes.v[i].seq > g->from && strcmp(rec.notes.v[i].text, "dump") == 0)
                        seq = rec.notes.v[i].seq;
        return seq;
}

static int by_cut(const void *a, const void *b)
{
        const struct state *x = a, *y = b;

        return x->cut != y->cut ? (x->cut < y->cut ? -1 : 1) : x->mode != y->mode ? x->mode - y->mode : x->damage - y->damage;
}

/* The first rounds look closer and closer at some of the gaps, the last one at the ends of as good as all. */
static const struct { unsigned gaps, cuts, modes; bool damaged; } rounds_table[] = {
        { 6, 2, 3, false }, { 16, 11, 5, true }, { 30, 11, 5, true }, { 400, 2, 2, true },
};

static void choose_states(struct site_run *r, unsigned round)
{
        unsigned max = rounds_table[round].gaps, seed = round * 77 + 1;

        r->states.n = 0;
        for (unsigned i = 0; i < max && i < r->gaps.n; i++) {
                const struct gap *g = &r->gaps.v[r->gaps.n <= max ? i : (size_t)i * r->gaps.n / max];
                uint32_t note = next_note(g, g->from), later = next_note(g, note + 1), len = g->to - g->from;
                uint32_t cuts[] = { g->to, before_dump(g), note, g->from, later, g->from + (uint32_t)rand_r(&seed) % len,
                                    g->from + 1, g->from + 2, g->from + 4, g->from + 8, g->from + 16 };
                static const int modes[] = { LOST_ALL, GONE_NONE, GONE_ALL, LOST_NONE, TORN_ALL };

                for (unsigned c = 0; c < rounds_table[round].cuts; c++) {
                        if (cuts[c] > g->to || (c == 1 && cuts[1] == cuts[0]))
                                continue;
                        for (unsigned m = 0; m < rounds_table[round].modes; m++)
                                for (int damage = DAMAGE_NONE; damage <= (rounds_table[round].damaged ? DAMAGE_UNMOUNTED : DAMAGE_NONE);
                                     damage++) {
                                        /* Damage only at the ends of gaps: it is rarely what matters. */
                                        if (damage != DAMAGE_NONE && (c > 2 || m > 1))
                                                continue;
                                        *ARRAY_PUSH(&r->states) = (struct state){ .cut = cuts[c], .mode = modes[m], .damage = damage,
                                                                                  .victim = g->victim, .seed = (unsigned)rand_r(&seed) };
                                }
                }
        }
        if (r->states.n)
                qsort(r->states.v, r->states.n, sizeof *r->states.v, by_cut);
}

/* The same state of a disk that honoured all syncs: 1 when that is not right either, and so says nothing about the one taken out. */
static int try_control(void *ctx)
{
        struct site_run *r = ctx;
        const struct state *st = &r->states.v[*r->at];
        char why[1200];
        bool skipped;
        int rc;

        ARRAY_FREE(&dropped);
        if ((rc = try_state(r->scratch, st, &skipped, why, sizeof why)) != 0)
                print_state("wrong with all syncs, too:", *r->at, st, why);
        return rc;
}

/* States from *r->at on; 1 when one shows what is missing, and *r->at is its number. */
static int try_states(void *ctx)
{
        struct site_run *r = ctx;

        for (; *r->at < r->states.n; ++*r->at) {
                char why[1200];
                bool skipped;

                if (try_state(r->scratch, &r->states.v[*r->at], &skipped, why, sizeof why)) {
                        print_state("noticed at", *r->at, &r->states.v[*r->at], why);
                        return 1;
                }
        }
        return 0;
}

/* A line of the list of sites: hashes, a tab, a name. 0 when taking the sync out is noticed. */
static int try_site(const char *scratch, char *line, unsigned rounds)
{
        struct site_run r = { .scratch = scratch };
        char *tab = strchr(line, '\t'), *end;
        bool noticed = false;
        size_t tried = 0;

        r.at = mmap(NULL, sizeof *r.at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (!tab || r.at == MAP_FAILED)
                return 1;
        *tab = '\0';
        r.name = tab + 1;
        for (char *p = line; *p; p = end) {
                uint32_t site = (uint32_t)strtoul(p, &end, 16);

                if (end == p)
                        break;
                *ARRAY_PUSH(&dropped) = site;
        }
        find_gaps(&r);
        for (unsigned round = 0; round < rounds && !noticed && r.gaps.n; round++) {
                choose_states(&r, round);
                tried += r.states.n;
                for (*r.at = 0; !noticed && *r.at < r.states.n; ++*r.at)
                        noticed = in_child(try_states, &r) == 1 && in_child(try_control, &r) == 0;
        }
        printf("%s - without the sync in %s something is lost\n", noticed ? "ok" : "not ok", r.name);
        if (!noticed)
                printf("# %zu states of %zu gaps show nothing\n", tried, r.gaps.n);
        return !noticed;
}

/* Lines `from`, from + step, … of the list of sites. */
static unsigned run_sites(const char *scratch, const char *list, unsigned from, unsigned step, unsigned rounds)
{
        FILE *f = fopen(list, "r");
        char line[8192];
        unsigned bad = 0;

        for (unsigned i = 0; f && fgets(line, sizeof line, f); i++) {
                pid_t pid;
                int status;

                if (i % step != from)
                        continue;
                line[strcspn(line, "\n")] = '\0';
                fflush(stdout);
                pid = fork();
                if (pid == 0) {
                        int rc = try_site(scratch, line, rounds);

                        fflush(stdout);
                        _exit(rc);
                }
                waitpid(pid, &status, 0);
                bad += !WIFEXITED(status) || WEXITSTATUS(status);
        }
        if (f)
                fclose(f);
        return bad;
}

int main(int argc, char **argv)
{
        const char *sites = NULL;
        unsigned jobs = 2, count, seed, bad = 0, rounds = ARRAY_LEN(rounds_table);
        int only = -1;
        pid_t pids[64];

        if (argc < 5) {
                fprintf(stderr, "usage: powerloss LOG SCRATCH STATES SEED [--sites LIST] [--rounds N] [--jobs N] [--state N]\n");
                return 2;
        }
        count = (unsigned)atoi(argv[3]);
        seed = (unsigned)atoi(argv[4]);
        for (int i = 5; i + 1 < argc; i += 2) {
                if (strcmp(argv[i], "--sites") == 0)
                        sites = argv[i + 1];
                else if (strcmp(argv[i], "--rounds") == 0)
                        rounds = (unsigned)atoi(argv[i + 1]);
                else if (strcmp(argv[i], "--state") == 0)
                        only = atoi(argv[i + 1]);
                else if (strcmp(argv[i], "--jobs") == 0)
                        jobs = (unsigned)atoi(argv[i + 1]);
        }
        if (rounds > ARRAY_LEN(rounds_table))
                rounds = ARRAY_LEN(rounds_table);
        if (load_log(argv[1]) < 0) {
                fprintf(stderr, "powerloss: cannot read %s\n", argv[1]);
                return 2;
        }
        if (only >= 0)
                jobs = 1;
        printf("# %u events, %zu files and directories, %zu notes, %zu ways to a sync\n", rec.events, rec.nodes.n, rec.notes.n, rec.sites.n);
        fflush(stdout);
        for (unsigned j = 0; j < jobs && j < 64; j++) {
                pids[j] = fork();
                if (pids[j] == 0) {
                        char scratch[4096];
                        unsigned n;
                        struct err err;

                        snprintf(scratch, sizeof scratch, "%s.%u", argv[2], j);
                        n = sites ? run_sites(scratch, sites, j, jobs, rounds) : run(scratch, count, j, jobs, seed, only);
                        if (!sites && only < 0 && count >= 100 && marks_checked == 0) {
                                printf("# no state had a mark of a delivery\n");
                                n++;
                        }
                        if (n == 0 || sites)
                                fs_remove_tree(scratch, &err);
                        fflush(stdout);
                        _exit(n > 200 ? 200 : (int)n);
                }
        }
        for (unsigned j = 0; j < jobs && j < 64; j++) {
                int status;

                waitpid(pids[j], &status, 0);
                bad += WIFEXITED(status) ? (unsigned)WEXITSTATUS(status) : 1;
        }
        if (!sites)
                printf("# %u states, %u violations\n", count, bad);
        return bad ? 1 : 0;
}
