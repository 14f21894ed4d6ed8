/* mailfile - see mailfile.h: messages, line ends, and finding folders. */
#include "server/ctl/mailfile_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fs.h"
#include "util/must.h"

#define DEPTH_MAX 30
#define FOLDERS_MAX 1000000

void mailfile_init(struct mailfile *m)
{
        memset(m, 0, sizeof *m);
        str_init(&m->octets);
        m->arena = (struct arena)ARENA_INIT;
        mailfile_clear(m);
}

void mailfile_deinit(struct mailfile *m)
{
        str_deinit(&m->octets);
        arena_deinit(&m->arena);
}

void mailfile_clear(struct mailfile *m)
{
        str_clear(&m->octets);
        arena_reset(&m->arena);
        m->date = INT64_MIN;
        m->flags_n = 0;
        m->where = "";
}

void mailfile_flag(struct mailfile *m, const char *flag, size_t len)
{
        for (unsigned i = 0; i < m->flags_n; i++)
                if (span_ieq_str((struct span){ flag, len }, m->flags[i]))
                        return;
        if (m->flags_n < MAILFILE_FLAGS_MAX && len)
                m->flags[m->flags_n++] = arena_strndup(&m->arena, flag, len);
}

/* ---- line ends ---- */

void mailfile_to_crlf(struct str *octets)
{
        struct str out = STR_INIT;
        const char *p = octets->data, *end = p + octets->len, *lf;

        if (memmem(p, octets->len, "\r\n", 2))
                return;
        str_reserve(&out, octets->len + octets->len / 32 + 64);
        while ((lf = memchr(p, '\n', (size_t)(end - p))) != NULL) {
                str_append(&out, p, (size_t)(lf - p));
                str_append(&out, "\r\n", 2);
                p = lf + 1;
        }
        str_append(&out, p, (size_t)(end - p));
        str_deinit(octets);
        *octets = out;
}

void mailfile_to_lf(struct span octets, struct str *out)
{
        const char *p = octets.p, *end = p + octets.len, *lf;

        for (const char *at = p; (lf = memchr(at, '\n', (size_t)(end - at))) != NULL; at = lf + 1)
                if (lf == octets.p || lf[-1] != '\r') {         /* it came so, and goes so */
                        str_append_span(out, octets);
                        return;
                }
        while ((lf = memchr(p, '\n', (size_t)(end - p))) != NULL) {
                str_append(out, p, (size_t)(lf - p) - 1);
                str_append_c(out, '\n');
                p = lf + 1;
        }
        str_append(out, p, (size_t)(end - p));
}

/* ---- trees ---- */

static void add(struct mailtree *tree, enum mailfolder_kind kind, const char *path, const char *name)
{
        if (tree->n == tree->cap) {
                tree->cap = tree->cap ? 2 * tree->cap : 16;
                tree->v = xrealloc(tree->v, tree->cap * sizeof *tree->v);
        }
        tree->v[tree->n++] = (struct mailfolder){ kind, xstrdup(path), xstrdup(name), kind == MAILFOLDER_MAILDIR ? maildir_count(path) : mbox_count(path) };
}

static bool is_maildir_part(const char *name)
{
        return strcmp(name, "cur") == 0 || strcmp(name, "new") == 0 || strcmp(name, "tmp") == 0;
}

/* Of a directory the name of its folder: that of mbox files may end in MBOX_CHILDREN. */
static size_t folder_len(const char *directory)
{
        size_t n = strlen(directory), suffix = strlen(MBOX_CHILDREN);

        return n > suffix && strcmp(directory + n - suffix, MBOX_CHILDREN) == 0 ? n - suffix : n;
}

static int walk(struct mailtree *tree, const char *path, const char *name, unsigned depth, struct err *err);

static int walk_entry(struct mailtree *tree, const char *path, const char *name, const char *entry, bool maildir, unsigned depth, struct err *err)
{
        struct str sub = STR_INIT, title = STR_INIT;
        struct stat st;
        int rc = 0;

        str_printf(&sub, "%s/%s", path, entry);
        if (lstat(sub.data, &st) == 0 && (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) && !(maildir && is_maildir_part(entry))) {
                if (entry[0] == '.' && S_ISDIR(st.st_mode) && maildir) {
                        if (maildir_is(sub.data)) {
                                str_printf(&title, "%s%s", name, *name ? "/" : "");
                                rc = maildir_folder_parse(entry, &title, err);
                                if (rc == 0)
                                        add(tree, MAILFOLDER_MAILDIR, sub.data, title.data);
                        }
                } else if (entry[0] != '.') {
                        str_printf(&title, "%s%s", name, *name ? "/" : "");
                        mbox_part_parse((struct span){ entry, S_ISDIR(st.st_mode) ? folder_len(entry) : strlen(entry) }, &title);
                        if (depth == 0 && !maildir && strcmp(title.data, "INBOX") == 0)
                                str_clear(&title);      /* as mbox_writer() calls it */
                        if (S_ISDIR(st.st_mode))
                                rc = walk(tree, sub.data, title.data, depth + 1, err);
                        else if (!maildir && mbox_is(sub.data))
                                add(tree, MAILFOLDER_MBOX, sub.data, title.data);
                }
        }
        str_deinit(&sub);
        str_deinit(&title);
        return rc;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct mailfolder *)a)->name, ((const struct mailfolder *)b)->name);
}

static int walk(struct mailtree *tree, const char *path, const char *name, unsigned depth, struct err *err)
{
        bool maildir = maildir_is(path);
        DIR *d = opendir(path);
        struct dirent *e;
        int rc = 0;

        if (!d)
                return err_errno(err, errno, "%s", path);
        if (maildir)
                add(tree, MAILFOLDER_MAILDIR, path, name);
        while (rc == 0 && depth < DEPTH_MAX && tree->n < FOLDERS_MAX && (e = readdir(d)) != NULL)
                if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
                        rc = walk_entry(tree, path, name, e->d_name, maildir, depth, err);
        closedir(d);
        return rc;
}

int mailtree_scan(const char *path, struct mailtree *tree_r, struct err *err)
{
        struct stat st;
        int rc = 0;

        *tree_r = (struct mailtree){ NULL, 0, 0 };
        if (stat(path, &st) < 0)
                return err_errno(err, errno, "%s", path);
        if (S_ISDIR(st.st_mode))
                rc = walk(tree_r, path, "", 0, err);
        else if (mbox_is(path))
                add(tree_r, MAILFOLDER_MBOX, path, "");
        if (rc == 0 && tree_r->n == 0)
                rc = err_set(err, ERR_NOTFOUND, "%s: neither a Maildir nor an mbox, and none in it", path);
        if (tree_r->n)
                qsort(tree_r->v, tree_r->n, sizeof *tree_r->v, by_name);
        return rc;
}

void mailtree_deinit(struct mailtree *tree)
{
        for (size_t i = 0; i < tree->n; i++) {
                free(tree->v[i].path);
                free(tree->v[i].name);
        }
        free(tree->v);
        *tree = (struct mailtree){ NULL, 0, 0 };
}

/* ---- readers and writers ---- */

int mailreader_open(const struct mailfolder *folder, struct mailreader **reader_r, struct err *err)
{
        bool is_top = *folder->name == '\0';

        return (folder->kind == MAILFOLDER_MAILDIR ? maildir_reader : mbox_reader)(folder->path, is_top, reader_r, err);
}

int mailreader_next(struct mailreader *reader, struct mailfile *message, struct err *err)
{
        mailfile_clear(message);
        return reader->next(reader, message, err);
}

void mailreader_close(struct mailreader **reader)
{
        if (*reader)
                (*reader)->close(*reader);
        *reader = NULL;
}

int mailfile_make_top(const char *path, struct err *err)
{
        int fd;

        if (fs_mkdir_p(path, 0700, err) < 0)
                return -1;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? err_errno(err, errno, "%s", path) : fd;
}

int mailfile_make_below(int dir, const char *name, bool close_dir, struct err *err)
{
        int fd = mkdirat(dir, name, 0700) == 0 || errno == EEXIST ? openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;

        if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
                err_set(err, ERR_IO, "%s: no directory, or a symbolic link", name);
        else if (fd < 0)
                err_errno(err, errno, "%s", name);
        if (close_dir)
                close(dir);
        return fd;
}

int mailwriter_open(enum mailfolder_kind kind, const char *path, const char *name, uint32_t uidvalidity, struct mailwriter **writer_r,
                    struct err *err)
{
        return kind == MAILFOLDER_MAILDIR ? maildir_writer(path, name, uidvalidity, writer_r, err) : mbox_writer(path, name, writer_r, err);
}

bool mailwriter_has(const struct mailwriter *writer, uint32_t uid)
{
        return writer->has(writer, uid);
}

int mailwriter_add(struct mailwriter *writer, uint32_t uid, const struct mailfile *message, struct err *err)
{
        return writer->add(writer, uid, message, err);
}

int mailwriter_finish(struct mailwriter *writer, struct err *err)
{
        return writer->finish(writer, err);
}

void mailwriter_close(struct mailwriter **writer)
{
        if (*writer)
                (*writer)->close(*writer);
        *writer = NULL;
}

unsigned mailwriter_flags_lost(const struct mailwriter *writer)
{
        return writer->flags_lost;
}
