/*
 * powerloss - rebuilds what a disk could hold after a power loss, from the recording of a load (record.c, load.c), opens the store on
 * it, and compares what is there with what had been acknowledged.
 *   powerloss LOG SCRATCH STATES SEED [--drop-site HASH] [--until-first] [--sites] [--jobs N] [--state N]
 * --state looks at one state only and leaves it in SCRATCH.only, as it was built; with POWERLOSS_VERBOSE set recovery logs to stderr.
 *
 * The model of a disk. What was written to a file before a sync of it began is there once that sync has returned; whatever else was
 * written up to the moment of the loss may be there or not, each write by itself, in part (pages of 4 KiB), in any order. The same
 * for names: entries of a directory are there once the directory was synced; later ones may be there or not, as any prefix or any
 * subset. Names in the Berkeley DB environment are an exception: that library does not sync directories and relies, as on every Linux
 * file system, on a new file's name being there after its fsync.
 *
 * The model of a store: each thread of the load worked on its own mailboxes, so after the loss they are as after its last acknowledged
 * operation, or as after the one in flight as a whole. Flag changes may be missing when they are younger than FLAGS_US.
 * UIDNEXT and HIGHESTMODSEQ are never below what was acknowledged.
 */
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

#include "store/mailbox.h"
#include "store/annot.h"
#include "store/mboxlist.h"
#include "store/seen.h"
#include "store/store.h"
#include "t/crash/record.h"
#include "util/array.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"

#define FLAGS_US 1500000u               /* "on disk within a second", and what a loaded machine adds */
#define PAGE 4096u

/* ---- the log, taken apart once ---- */

struct wr { uint32_t seq; bool truncate; uint64_t offset; uint32_t len; const char *data; };
struct sync { uint32_t begin, end, site; };

struct object {
        ARRAY(struct wr) writes;
        ARRAY(struct sync) syncs;
        /* what is durable, for ascending cuts */
        char *base;
        uint64_t size, cap;
        size_t applied;
        uint32_t durable;               /* writes with seq below are */
};

struct name_op {                        /* ADD of path (and DEL of `gone`, one step when both are in one directory) */
        uint32_t seq;
        struct directory *dir;
        char *path;                     /* NULL: nothing added */
        char *gone;                     /* NULL: nothing removed */
        struct object *file;            /* NULL: a directory */
        bool made_by_create;
        bool keep;                      /* decision for the present state */
};

struct directory {
        ARRAY(struct sync) syncs;
        uint32_t durable;
        uint32_t prefix;                /* decision: ops below are kept */
};

struct note { uint32_t seq; uint64_t time_us; const char *text; size_t len; };

static struct {
        char *map;
        size_t size;
        uint32_t events;
        ARRAY(struct object *) objects;
        ARRAY(struct directory *) directories;
        ARRAY(struct name_op) names;
        ARRAY(struct note) notes;
        ARRAY(uint64_t) times;          /* of each event */
        ARRAY(uint32_t) sites;
        struct table *by_ino, *dirs_by_path, *true_names;
        uint32_t start;                 /* event of the note "start" */
} rec;

static struct span key_ino(const uint64_t *ino)
{
        return (struct span){ (const char *)ino, sizeof *ino };
}

static struct directory *directory_of(const char *path)
{
        const char *slash = strrchr(path, '/');
        struct span key = slash ? (struct span){ path, (size_t)(slash - path) } : SPAN(".");
        struct directory *d = table_find(rec.dirs_by_path, key);

        if (!d) {
                d = xcalloc(1, sizeof *d);
                table_set(rec.dirs_by_path, key, d);
                *ARRAY_PUSH(&rec.directories) = d;
        }
        return d;
}

static struct directory *directory_named(const char *path)
{
        struct str s = STR_INIT;
        struct directory *d;

        str_printf(&s, "%s/x", path);
        d = directory_of(strcmp(path, ".") == 0 ? "x" : s.data);
        str_deinit(&s);
        return d;
}

static void add_name(uint32_t seq, const char *path, const char *gone, struct object *file, bool create)
{
        *ARRAY_PUSH(&rec.names) = (struct name_op){ seq, directory_of(path ? path : gone), path ? xstrdup(path) : NULL,
                                                    gone ? xstrdup(gone) : NULL, file, create, false };
}

static bool same_directory(const char *a, const char *b)
{
        const char *sa = strrchr(a, '/'), *sb = strrchr(b, '/');
        size_t la = sa ? (size_t)(sa - a) : 0, lb = sb ? (size_t)(sb - b) : 0;

        return la == lb && memcmp(a, b, la) == 0;
}

static struct object a_directory;       /* marks directories in true_names */

static void take_event(const struct rec *r, const char *path, const char *path2, const char *data, uint32_t drop_site)
{
        uint32_t seq = rec.events;
        struct object *o = table_find(rec.by_ino, key_ino(&r->ino));

        switch (r->type) {
        case REC_CREATE:
                o = xcalloc(1, sizeof *o);
                *ARRAY_PUSH(&rec.objects) = o;
                table_set(rec.by_ino, key_ino(&r->ino), o);
                table_set(rec.true_names, span_of(path), o);
                add_name(seq, path, NULL, o, true);
                break;
        case REC_WRITE:
        case REC_TRUNCATE:
                if (o)
                        *ARRAY_PUSH(&o->writes) = (struct wr){ seq, r->type == REC_TRUNCATE, r->offset, r->data_len, data };
                break;
        case REC_SYNC_BEGIN:
        case REC_SYNC_END: {
                size_t i;

                for (i = 0; i < rec.sites.n && rec.sites.v[i] != r->site; i++)
                        ;
                if (i == rec.sites.n)
                        *ARRAY_PUSH(&rec.sites) = r->site;
                if (r->site == drop_site)
                        break;
                if (r->type == REC_SYNC_BEGIN) {
                        struct sync s = { seq, 0, (uint32_t)r->offset };

                        if (r->dir)
                                *ARRAY_PUSH(&directory_named(path)->syncs) = s;
                        else if (o)
                                *ARRAY_PUSH(&o->syncs) = s;
                } else if (r->dir) {
                        struct directory *d = directory_named(path);

                        for (size_t k = d->syncs.n; k-- > 0;)
                                if (d->syncs.v[k].site == (uint32_t)r->offset)
                                        d->syncs.v[k].end = seq;
                } else if (o) {
                        for (size_t k = o->syncs.n; k-- > 0;)
                                if (o->syncs.v[k].site == (uint32_t)r->offset)
                                        o->syncs.v[k].end = seq;
                }
                break;
        }
        case REC_RENAME:
                o = table_find(rec.true_names, span_of(path));
                if (!o)
                        break;
                table_set(rec.true_names, span_of(path), NULL);
                table_set(rec.true_names, span_of(path2), o);
                if (same_directory(path, path2)) {
                        add_name(seq, path2, path, o == &a_directory ? NULL : o, false);
                } else {
                        add_name(seq, path2, NULL, o == &a_directory ? NULL : o, false);
                        add_name(seq, NULL, path, NULL, false);
                }
                break;
        case REC_LINK:
                if (o) {
                        table_set(rec.true_names, span_of(path2), o);
                        add_name(seq, path2, NULL, o, false);
                }
                break;
        case REC_UNLINK:
        case REC_RMDIR:
                table_set(rec.true_names, span_of(path), NULL);
                add_name(seq, NULL, path, NULL, false);
                break;
        case REC_MKDIR:
                table_set(rec.true_names, span_of(path), &a_directory);
                add_name(seq, path, NULL, NULL, false);
                break;
        case REC_NOTE:
                *ARRAY_PUSH(&rec.notes) = (struct note){ seq, r->time_us, xstrdup(path), strlen(path) };
                if (strcmp(path, "start") == 0)
                        rec.start = seq;
                break;
        }
        *ARRAY_PUSH(&rec.times) = r->time_us;
        rec.events++;
}

static int load_log(const char *path, uint32_t drop_site)
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
        rec.dirs_by_path = table_create();
        rec.true_names = table_create();
        for (size_t at = 0; at + sizeof(struct rec) <= rec.size;) {
                struct rec r;
                char *p, *p2;

                memcpy(&r, rec.map + at, sizeof r);
                at += sizeof r;
                p = xstrndup(rec.map + at, r.path_len);
                p2 = xstrndup(rec.map + at + r.path_len, r.path2_len);
                at += (size_t)r.path_len + r.path2_len;
                take_event(&r, p, p2, rec.map + at, drop_site);
                at += r.data_len;
                free(p);
                free(p2);
        }
        return 0;
}

/* ---- one state ---- */

enum { KEEP_NONE, KEEP_ALL, NAMES_ONLY, DATA_ONLY, RANDOM_PREFIX, RANDOM_TORN, MODES };

static void base_write(struct object *o, char **buf, uint64_t *size, uint64_t *cap, const struct wr *w, const uint8_t *pages)
{
        uint64_t end = w->truncate ? w->offset : w->offset + w->len;

        (void)o;
        if (end > *cap) {
                uint64_t c = end + end / 2 + PAGE;

                *buf = xrealloc(*buf, c);
                memset(*buf + *cap, 0, c - *cap);
                *cap = c;
        }
        if (w->truncate) {
                if (end < *size)
                        memset(*buf + end, 0, *size - end);
                *size = end;
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
        for (size_t i = 0; i < rec.objects.n; i++) {
                struct object *o = rec.objects.v[i];

                for (size_t k = 0; k < o->syncs.n; k++)
                        if (o->syncs.v[k].end && o->syncs.v[k].end < cut && o->syncs.v[k].begin > o->durable)
                                o->durable = o->syncs.v[k].begin;
                while (o->applied < o->writes.n && o->writes.v[o->applied].seq < o->durable)
                        base_write(o, &o->base, &o->size, &o->cap, &o->writes.v[o->applied++], NULL);
        }
        for (size_t i = 0; i < rec.directories.n; i++) {
                struct directory *d = rec.directories.v[i];

                for (size_t k = 0; k < d->syncs.n; k++)
                        if (d->syncs.v[k].end && d->syncs.v[k].end < cut && d->syncs.v[k].begin > d->durable)
                                d->durable = d->syncs.v[k].begin;
        }
}

/* Holes where there are only zeros: a preallocated log is mostly that. */
static int put_sparse(int fd, const char *p, uint64_t size, struct err *err)
{
        static const char zeros[65536];

        for (uint64_t at = 0; at < size; at += sizeof zeros) {
                size_t n = size - at < sizeof zeros ? (size_t)(size - at) : sizeof zeros;

                if (memcmp(p + at, zeros, n) != 0 && fs_pwrite_all(fd, p + at, n, at, err) < 0)
                        return -1;
        }
        return ftruncate(fd, (off_t)size);
}

static int put_file(const char *scratch, const char *path, struct object *o, uint32_t cut, int mode, unsigned *seed)
{
        char full[4096], *buf = NULL;
        uint64_t size = o->size, cap = 0;
        bool changed = false;
        int fd, rc = -1;
        struct err err = ERR_INIT;

        for (size_t i = o->applied; i < o->writes.n && o->writes.v[i].seq < cut; i++) {
                uint8_t pages[64];
                bool torn = false;

                if (mode == KEEP_NONE || mode == NAMES_ONLY)
                        continue;
                if (mode == RANDOM_PREFIX && rand_r(seed) % 2)
                        continue;
                if (mode == RANDOM_TORN) {
                        torn = true;
                        for (int k = 0; k < 64; k++)
                                pages[k] = rand_r(seed) % 2;
                }
                if (!changed) {
                        buf = xmalloc(o->size + PAGE);
                        if (o->size)
                                memcpy(buf, o->base, o->size);
                        memset(buf + o->size, 0, PAGE);
                        cap = o->size + PAGE;
                        changed = true;
                }
                base_write(o, &buf, &size, &cap, &o->writes.v[i], torn ? pages : NULL);
        }
        snprintf(full, sizeof full, "%s/%s", scratch, path);
        fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd >= 0) {
                rc = put_sparse(fd, changed ? buf : o->base, size, &err);
                close(fd);
        }
        free(buf);
        return rc;
}

static int by_path(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int build_state(const char *scratch, uint32_t cut, int mode, unsigned *seed)
{
        struct table *names = table_create();
        struct object directory_mark;
        struct err err = ERR_INIT;
        size_t pos = 0;
        struct span key;
        void *value;
        ARRAY(char *) paths = ARRAY_INIT;
        int rc = 0;

        fs_remove_tree(scratch, &err);
        if (mkdir(scratch, 0700) < 0)
                return -1;
        for (size_t i = 0; i < rec.directories.n; i++) {
                struct directory *d = rec.directories.v[i];

                d->prefix = d->durable + (d->durable < cut ? (uint32_t)rand_r(seed) % (cut - d->durable + 1) : 0);
        }
        for (size_t i = 0; i < rec.names.n && rec.names.v[i].seq < cut; i++) {
                struct name_op *op = &rec.names.v[i];
                bool keep = op->seq < op->dir->durable || mode == KEEP_ALL || mode == NAMES_ONLY;

                if (mode == RANDOM_PREFIX)
                        keep = keep || op->seq < op->dir->prefix;
                if (mode == RANDOM_TORN)
                        keep = keep || rand_r(seed) % 2;
                if (op->made_by_create && strncmp(op->path, "conf/db/", 8) == 0 && op->file->durable > 0)
                        keep = true;
                if (!keep)
                        continue;
                if (op->gone)
                        table_set(names, span_of(op->gone), NULL);
                if (op->path)
                        table_set(names, span_of(op->path), op->file ? op->file : &directory_mark);
        }
        while (table_next(names, &pos, &key, &value))
                *ARRAY_PUSH(&paths) = xstrndup(key.p, key.len);
        qsort(paths.v, paths.n, sizeof *paths.v, by_path);
        for (size_t i = 0; i < paths.n && rc == 0; i++) {
                char full[4096];

                value = table_find(names, span_of(paths.v[i]));
                snprintf(full, sizeof full, "%s/%s", scratch, paths.v[i]);
                if (value == &directory_mark) {
                        if (mkdir(full, 0700) < 0 && errno != ENOENT && errno != EEXIST)
                                rc = -1;
                } else if (put_file(scratch, paths.v[i], value, cut, mode, seed) < 0 && errno != ENOENT && errno != ENOTDIR) {
                        rc = -1;                        /* ENOENT: its directory's name was lost */
                }
        }
        for (size_t i = 0; i < paths.n; i++)
                free(paths.v[i]);
        ARRAY_FREE(&paths);
        table_destroy(&names);
        return rc;
}

/* ---- what should be there ---- */

struct flag_at { uint32_t flags; uint64_t time_us; };
struct msg_model { char guid[41]; uint32_t uid; ARRAY(struct flag_at) flags, other; };   /* other: another user's \Seen */
struct box_model { char name[64], comment[32]; ARRAY(struct msg_model) msgs; uint32_t uidnext; uint64_t modseq; };
struct thread_model { ARRAY(struct box_model) boxes; const char *in_flight; uint64_t in_flight_us; };

static void msg_deinit(struct msg_model *m)
{
        ARRAY_FREE(&m->flags);
        ARRAY_FREE(&m->other);
}

static void box_deinit(struct box_model *b)
{
        for (size_t i = 0; i < b->msgs.n; i++)
                msg_deinit(&b->msgs.v[i]);
        ARRAY_FREE(&b->msgs);
}

static void model_copy(struct thread_model *to, const struct thread_model *from)
{
        memset(to, 0, sizeof *to);
        for (size_t i = 0; i < from->boxes.n; i++) {
                struct box_model *b = ARRAY_PUSH(&to->boxes);

                *b = from->boxes.v[i];
                memset(&b->msgs, 0, sizeof b->msgs);
                for (size_t k = 0; k < from->boxes.v[i].msgs.n; k++) {
                        const struct msg_model *m = &from->boxes.v[i].msgs.v[k];
                        struct msg_model *c = ARRAY_PUSH(&b->msgs);

                        *c = *m;
                        memset(&c->flags, 0, sizeof c->flags);
                        for (size_t f = 0; f < m->flags.n; f++)
                                *ARRAY_PUSH(&c->flags) = m->flags.v[f];
                        memset(&c->other, 0, sizeof c->other);
                        for (size_t f = 0; f < m->other.n; f++)
                                *ARRAY_PUSH(&c->other) = m->other.v[f];
                }
        }
}

static void model_deinit(struct thread_model *t)
{
        for (size_t i = 0; i < t->boxes.n; i++)
                box_deinit(&t->boxes.v[i]);
        ARRAY_FREE(&t->boxes);
}

static struct box_model *model_box(struct thread_model *t, const char *name)
{
        for (size_t i = 0; i < t->boxes.n; i++)
                if (strcmp(t->boxes.v[i].name, name) == 0)
                        return &t->boxes.v[i];
        return NULL;
}

static struct msg_model *model_msg(struct box_model *b, const char *uid)
{
        for (size_t i = 0; i < b->msgs.n; i++)
                if (b->msgs.v[i].uid == (uint32_t)strtoul(uid, NULL, 10))
                        return &b->msgs.v[i];
        return NULL;
}

static void model_remove(struct box_model *b, const char *uid)
{
        struct msg_model *m = model_msg(b, uid);

        if (!m)
                return;
        msg_deinit(m);
        memmove(m, m + 1, (size_t)(&b->msgs.v[b->msgs.n] - (m + 1)) * sizeof *m);
        b->msgs.n--;
}

static void model_add(struct box_model *b, const char *guid, uint32_t uid, uint32_t flags)
{
        struct msg_model *m = ARRAY_PUSH(&b->msgs);

        memset(m, 0, sizeof *m);
        snprintf(m->guid, sizeof m->guid, "%s", guid);
        m->uid = uid;
        *ARRAY_PUSH(&m->flags) = (struct flag_at){ flags, 0 };
        *ARRAY_PUSH(&m->other) = (struct flag_at){ 0, 0 };
}

/* Do one operation of the notes. `first_uid` 0: in flight, UIDs are unknown. Returns the box that E's numbers are about. */
static struct box_model *model_apply(struct thread_model *t, const char *op, uint32_t first_uid, uint64_t time_us)
{
        char *copy = xstrdup(op), *save = NULL;
        char *verb = strtok_r(copy, " ", &save), *name = strtok_r(NULL, " ", &save), *word;
        struct box_model *b = model_box(t, name), *to;
        char to_name[64] = "";

        if (strcmp(verb, "create") == 0) {
                b = ARRAY_PUSH(&t->boxes);
                memset(b, 0, sizeof *b);
                snprintf(b->name, sizeof b->name, "%.63s", name);
        } else if (strcmp(verb, "delete") == 0) {
                box_deinit(b);
                memmove(b, b + 1, (size_t)(&t->boxes.v[t->boxes.n] - (b + 1)) * sizeof *b);
                t->boxes.n--;
                b = NULL;
        } else if (strcmp(verb, "rename") == 0) {
                snprintf(b->name, sizeof b->name, "%.63s", strtok_r(NULL, " ", &save));
        } else if (strcmp(verb, "append") == 0) {
                uint32_t flags = (uint32_t)atoi(strtok_r(NULL, " ", &save));

                while ((word = strtok_r(NULL, " ", &save)))
                        model_add(b, word, first_uid ? first_uid++ : 0, flags);
        } else if (strcmp(verb, "annotate") == 0) {
                snprintf(b->comment, sizeof b->comment, "%s", strtok_r(NULL, " ", &save));
        } else if (strcmp(verb, "seen") == 0) {
                struct msg_model *m = model_msg(b, strtok_r(NULL, " ", &save));

                if (m)
                        *ARRAY_PUSH(&m->other) = (struct flag_at){ (uint32_t)atoi(save), time_us };
        } else if (strcmp(verb, "flags") == 0) {
                struct msg_model *m = model_msg(b, strtok_r(NULL, " ", &save));

                if (m)
                        *ARRAY_PUSH(&m->flags) = (struct flag_at){ (uint32_t)atoi(save), time_us };
        } else if (strcmp(verb, "copy") == 0 || strcmp(verb, "move") == 0) {
                snprintf(to_name, sizeof to_name, "%s", strtok_r(NULL, " ", &save));
                to = model_box(t, to_name);
                while ((word = strtok_r(NULL, " ", &save))) {
                        struct msg_model *m = model_msg(b, word);

                        if (!m)
                                continue;
                        /* The copy carries the flags of its moment, durably. */
                        model_add(to, m->guid, first_uid ? first_uid++ : 0, m->flags.v[m->flags.n - 1].flags);
                        if (strcmp(verb, "move") == 0)
                                model_remove(b, word);
                }
                b = to;
        } else if (strcmp(verb, "replace") == 0) {
                snprintf(to_name, sizeof to_name, "%s", strtok_r(NULL, " ", &save));
                word = strtok_r(NULL, " ", &save);
                model_remove(b, word);
                b = model_box(t, to_name);
                model_add(b, strtok_r(NULL, " ", &save), first_uid, 0);
        } else if (strcmp(verb, "expunge") == 0) {
                while ((word = strtok_r(NULL, " ", &save)))
                        model_remove(b, word);
        }
        free(copy);
        return b;
}

/* ---- what is there ---- */

/* In a child: open the store on the state and print it. */
static void dump_store(const char *scratch, int out)
{
        FILE *f = fdopen(out, "w");
        char conf_path[4200], text[9000];
        struct store_options options = { .no_threads = true };
        struct store *store;
        struct diag diag;
        struct err err = ERR_INIT;
        char after[512] = "";
        int n;

        alarm(60);
        log_open(LOG_TO_STDERR, "powerloss", -1, getenv("POWERLOSS_VERBOSE") ? LOG_INFORM : LOG_ERROR);
        if (!getenv("POWERLOSS_VERBOSE")) {
                int null = open("/dev/null", O_WRONLY);

                dup2(null, 2);
        }
        snprintf(conf_path, sizeof conf_path, "%s/imapd.conf", scratch);
        n = snprintf(text, sizeof text, "configdirectory: %s/conf\npartition-default: %s/data\ndefaultpartition: default\n", scratch, scratch);
        if (fs_replace(conf_path, text, (size_t)n, 0600, &err) < 0)
                goto failed;
        diag_init(&diag);
        if (conf_load(conf_path, NULL, &options.conf, &diag, &err) < 0 || store_open(&options, &store, &err) < 0)
                goto failed;
        for (;;) {
                const struct mbentry *entries[1];
                struct mailbox_ident ident;
                struct mailbox *mbox;
                struct mailbox_status st;
                struct view *view;
                struct seen *other;
                struct annot *annots;
                struct arena arena = ARENA_INIT;
                struct check_report report = { 0 };

                if (mboxlist_next(store_mboxlist(store), "", after, entries, 1) == 0)
                        break;
                snprintf(after, sizeof after, "%s", entries[0]->name);
                if (entries[0]->type != MBTYPE_NORMAL || strncmp(after, "user.", 5) != 0) {
                        mbentry_unref(&entries[0]);
                        continue;
                }
                if (mbentry_ident(store, entries[0], &ident, &err) < 0 || mailbox_open(store, &ident, &mbox, &err) < 0) {
                        err_prefix(&err, "%s", after);
                        goto failed;
                }
                mailbox_status(mbox, &st);
                fprintf(f, "M %s %u %llu\n", after, st.uidnext, (unsigned long long)st.highestmodseq);
                if (mailbox_annots(mbox, 0, &arena, &annots) > 0)
                        fprintf(f, "a %.*s\n", (int)annots[0].value.len, annots[0].value.p);
                arena_reset(&arena);
                if (seen_open(store, ident.uniqueid, "other", &other, &err) < 0)
                        goto failed;
                view = mailbox_view(mbox);
                for (uint32_t i = 1; i <= view_count(view); i++) {
                        struct msg msg;
                        struct extent body;
                        char guid[41];

                        if (mailbox_message(mbox, view_uid(view, i), &msg, &err) < 0 || mailbox_body(mbox, &msg, &body, &err) < 0) {
                                err_prefix(&err, "%s uid %u", after, view_uid(view, i));
                                goto failed;
                        }
                        file_unref(&body.file);
                        hex_encode(guid, msg.guid, GUID_SIZE);
                        fprintf(f, "m %u %s %u %u\n", msg.uid, guid, msg.flags & MSG_SYSTEM_FLAGS, seen_has(other, msg.uid));
                }
                seen_unref(&other);
                view_unref(&view);
                mailbox_unref(&mbox);
                if (mailbox_check_files(store, &ident, &report, &err) < 0)
                        goto failed;
                if (report.problems)
                        fprintf(f, "P %s: check finds %llu problems\n", after, (unsigned long long)report.problems);
                mbentry_unref(&entries[0]);
        }
        store_close(&store);
        fprintf(f, "end\n");
        fflush(f);
        _exit(0);
failed:
        fprintf(f, "P %s\n", err.text);
        fflush(f);
        _exit(1);
}

struct found_msg { uint32_t uid, flags, other; char guid[41]; bool used; };
struct found_box { char name[64], comment[32]; uint32_t uidnext; uint64_t modseq; ARRAY(struct found_msg) msgs; };
struct found { ARRAY(struct found_box) boxes; char problem[600]; bool complete; };

static void found_deinit(struct found *s)
{
        for (size_t i = 0; i < s->boxes.n; i++)
                ARRAY_FREE(&s->boxes.v[i].msgs);
        ARRAY_FREE(&s->boxes);
}

static void look(const char *scratch, struct found *s)
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
                dump_store(scratch, fds[1]);
        }
        close(fds[1]);
        f = fdopen(fds[0], "r");
        while (fgets(line, sizeof line, f)) {
                unsigned long long modseq;
                struct found_box *b = s->boxes.n ? &s->boxes.v[s->boxes.n - 1] : NULL;

                line[strcspn(line, "\n")] = '\0';
                if (line[0] == 'M') {
                        b = ARRAY_PUSH(&s->boxes);
                        memset(b, 0, sizeof *b);
                        if (sscanf(line, "M %63s %u %llu", b->name, &b->uidnext, &modseq) == 3)
                                b->modseq = modseq;
                } else if (line[0] == 'a' && b) {
                        snprintf(b->comment, sizeof b->comment, "%.31s", line + 2);
                } else if (line[0] == 'm' && b) {
                        struct found_msg *m = ARRAY_PUSH(&b->msgs);

                        memset(m, 0, sizeof *m);
                        if (sscanf(line, "m %u %40s %u %u", &m->uid, m->guid, &m->flags, &m->other) != 4)
                                snprintf(s->problem, sizeof s->problem, "odd line %.500s", line);
                } else if (line[0] == 'P') {
                        snprintf(s->problem, sizeof s->problem, "%.500s", line + 2);
                } else if (strcmp(line, "end") == 0) {
                        s->complete = true;
                }
        }
        fclose(f);
        waitpid(pid, &status, 0);
        if (WIFSIGNALED(status))
                snprintf(s->problem, sizeof s->problem, "recovery died of signal %d", WTERMSIG(status));
        if (!s->complete && !s->problem[0])
                snprintf(s->problem, sizeof s->problem, "recovery ended early");
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

static bool flags_allowed(const struct msg_model *m, const struct found_msg *h, uint64_t cut_us)
{
        return value_allowed(m->flags.v, m->flags.n, h->flags, cut_us) && value_allowed(m->other.v, m->other.n, h->other, cut_us);
}

static bool box_equal(const struct box_model *want, struct found_box *have, uint64_t cut_us, char *why, size_t size)
{
        for (size_t k = 0; k < have->msgs.n; k++)
                have->msgs.v[k].used = false;
        for (size_t i = 0; i < want->msgs.n; i++) {
                const struct msg_model *m = &want->msgs.v[i];
                bool found = false, there = false;

                for (size_t k = 0; k < have->msgs.n && !found; k++) {
                        struct found_msg *h = &have->msgs.v[k];

                        if (h->used || strcmp(h->guid, m->guid) != 0 || (m->uid && h->uid != m->uid))
                                continue;
                        there = true;
                        if (flags_allowed(m, h, cut_us))
                                found = h->used = true;
                }
                if (!found) {
                        snprintf(why, size, "%s: uid %u guid %.12s %s", want->name, m->uid, m->guid, there ? "has other flags" : "is missing");
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
        if (have->uidnext < want->uidnext || have->modseq < want->modseq) {
                snprintf(why, size, "%s: uidnext %u of %u, modseq %llu of %llu", want->name, have->uidnext, want->uidnext,
                         (unsigned long long)have->modseq, (unsigned long long)want->modseq);
                return false;
        }
        return true;
}

static bool thread_equal(unsigned number, const struct thread_model *t, struct found *s, uint64_t cut_us, char *why, size_t size)
{
        char prefix[32];
        size_t mine = 0;

        snprintf(prefix, sizeof prefix, "user.u%u.", number);
        for (size_t i = 0; i < s->boxes.n; i++)
                mine += strncmp(s->boxes.v[i].name, prefix, strlen(prefix)) == 0;
        for (size_t i = 0; i < t->boxes.n; i++) {
                struct found_box *b = NULL;

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
        if (mine != t->boxes.n) {
                snprintf(why, size, "%zu mailboxes of u%u instead of %zu", mine, number, t->boxes.n);
                return false;
        }
        return true;
}

#define THREADS_MAX 32
static struct thread_model models[THREADS_MAX];
static size_t notes_done;

static void models_advance(uint32_t cut)
{
        for (; notes_done < rec.notes.n && rec.notes.v[notes_done].seq < cut; notes_done++) {
                const struct note *n = &rec.notes.v[notes_done];
                struct thread_model *t;
                unsigned number, uidnext, first;
                unsigned long long modseq;
                int used;

                if (sscanf(n->text, "B %u %n", &number, &used) == 1 && number < THREADS_MAX) {
                        models[number].in_flight = n->text + used;
                        models[number].in_flight_us = n->time_us;
                } else if (sscanf(n->text, "E %u %u %llu %u", &number, &uidnext, &modseq, &first) == 4 && number < THREADS_MAX) {
                        struct box_model *b;

                        t = &models[number];
                        b = model_apply(t, t->in_flight, first, n->time_us);
                        t->in_flight = NULL;
                        if (b && uidnext) {
                                b->uidnext = uidnext;
                                b->modseq = modseq;
                        }
                }
        }
}

/* 0 fine, 1 a violation (why is filled). */
static int verify(const char *scratch, uint32_t cut, char *why, size_t size)
{
        uint64_t cut_us = rec.times.v[cut - 1];
        struct found s;
        int rc = 0;

        look(scratch, &s);
        if (s.problem[0]) {
                snprintf(why, size, "%s", s.problem);
                rc = 1;
        }
        for (unsigned i = 0; i < THREADS_MAX && rc == 0; i++) {
                char one[240], other[240] = "";
                struct thread_model after;

                if (thread_equal(i, &models[i], &s, cut_us, one, sizeof one))
                        continue;
                if (models[i].in_flight) {
                        bool ok;

                        model_copy(&after, &models[i]);
                        model_apply(&after, models[i].in_flight, 0, cut_us);
                        ok = thread_equal(i, &after, &s, cut_us, other, sizeof other);
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

/* States `from`, from + step, … of `count`. Returns the number of violations. */
static unsigned run(const char *scratch, unsigned count, unsigned from, unsigned step, unsigned seed, bool until_first, int only)
{
        unsigned bad = 0, variants = 6;
        uint32_t span = rec.events - rec.start;

        for (unsigned i = from; i < count; i += step) {
                unsigned state_seed = seed * 1000003u + i, cuts = (count + variants - 1) / variants;
                uint32_t cut = rec.start + 1 + (uint32_t)((uint64_t)(i / variants) * (span - 1) / (cuts ? cuts : 1));
                char why[1200];
                int mode = (int)(i % MODES);

                /* The cut itself moves a little with the seed, forward only. */
                cut += (uint32_t)(seed % 7);
                if (cut > rec.events)
                        cut = rec.events;
                advance(cut);
                models_advance(cut);
                if (only >= 0 && (int)i != only)
                        continue;
                if (only >= 0) {
                        unsigned again = state_seed;
                        char kept[4200];

                        snprintf(kept, sizeof kept, "%s.only", scratch);
                        build_state(kept, cut, mode, &again);
                }
                if (build_state(scratch, cut, mode, &state_seed) < 0) {
                        printf("cannot build state %u: %s\n", i, strerror(errno));
                        return bad + 1;
                }
                if (verify(scratch, cut, why, sizeof why)) {
                        bad++;
                        if (bad <= 5)
                                printf("# state %u (cut %u of %u, mode %d, seed %u): %s\n", i, cut, rec.events, mode, seed, why);
                        fflush(stdout);
                        if (until_first)
                                break;
                }
        }
        return bad;
}

int main(int argc, char **argv)
{
        uint32_t drop = 0;
        bool until_first = false, sites = false;
        unsigned jobs = 2, count, seed, bad = 0;
        int only = -1;
        pid_t pids[64];

        if (argc < 5) {
                fprintf(stderr, "usage: powerloss LOG SCRATCH STATES SEED [--drop-site HASH] [--until-first] [--sites] [--jobs N] [--state N]\n");
                return 2;
        }
        count = (unsigned)atoi(argv[3]);
        seed = (unsigned)atoi(argv[4]);
        for (int i = 5; i < argc; i++) {
                if (strcmp(argv[i], "--until-first") == 0)
                        until_first = true;
                else if (strcmp(argv[i], "--sites") == 0)
                        sites = true;
                else if (strcmp(argv[i], "--drop-site") == 0 && i + 1 < argc)
                        drop = (uint32_t)strtoul(argv[++i], NULL, 16);
                else if (strcmp(argv[i], "--state") == 0 && i + 1 < argc)
                        only = atoi(argv[++i]);
                else if (strcmp(argv[i], "--jobs") == 0 && i + 1 < argc)
                        jobs = (unsigned)atoi(argv[++i]);
        }
        if (load_log(argv[1], drop) < 0) {
                fprintf(stderr, "powerloss: cannot read %s\n", argv[1]);
                return 2;
        }
        if (sites) {
                for (size_t i = 0; i < rec.sites.n; i++)
                        printf("%08x\n", rec.sites.v[i]);
                return 0;
        }
        if (only >= 0)
                jobs = 1;
        printf("# %u events, %zu files, %zu notes, load begins at %u\n", rec.events, rec.objects.n, rec.notes.n, rec.start);
        fflush(stdout);
        for (unsigned j = 0; j < jobs && j < 64; j++) {
                pids[j] = fork();
                if (pids[j] == 0) {
                        char scratch[4096];
                        unsigned n;
                        struct err err;

                        snprintf(scratch, sizeof scratch, "%s.%u", argv[2], j);
                        n = run(scratch, count, j, jobs, seed, until_first, only);
                        if (n == 0 || until_first)
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
        printf("# %u states, %u violations\n", count, bad);
        return bad ? 1 : 0;
}
