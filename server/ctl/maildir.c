/*
 * maildir - reading and writing Maildirs. A message is a file in cur/ or new/; its flags stand behind ":2,", small letters are keywords that
 * the file dovecot-keywords names ("0 $Forwarded"); its internal date is the file's time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/ctl/mailfile_private.h"
#include "util/charset.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/must.h"

#define KEYWORDS 26                             /* letters a … z */
#define KEYWORDS_FILE "dovecot-keywords"

static const struct { char letter; const char *flag; } letters[] = {
        { 'D', "\\Draft" }, { 'F', "\\Flagged" }, { 'P', "$Forwarded" }, { 'R', "\\Answered" }, { 'S', "\\Seen" }, { 'T', "\\Deleted" },
};
#define LETTERS (sizeof letters / sizeof *letters)

static bool is_dir(const char *path, const char *sub)
{
        struct str p = STR_INIT;
        struct stat st;
        bool yes;

        str_printf(&p, "%s/%s", path, sub);
        yes = stat(p.data, &st) == 0 && S_ISDIR(st.st_mode);
        str_deinit(&p);
        return yes;
}

bool maildir_is(const char *path)
{
        return is_dir(path, "cur") && (is_dir(path, "new") || is_dir(path, "tmp"));
}

uint64_t maildir_count(const char *path)
{
        static const char *const subs[] = { "cur", "new" };
        uint64_t n = 0;

        for (int i = 0; i < 2; i++) {
                struct str p = STR_INIT;
                DIR *d;

                str_printf(&p, "%s/%s", path, subs[i]);
                d = opendir(p.data);
                for (struct dirent *e; d && (e = readdir(d)) != NULL;)
                        n += e->d_name[0] != '.';
                if (d)
                        closedir(d);
                str_deinit(&p);
        }
        return n;
}

/* ---- names of folders ---- */

#define ENCODED_DOT "&AC4-"

void maildir_folder_name(const char *name, struct str *out)
{
        while (*name) {
                size_t n = strcspn(name, "/"), from = 0;
                struct str utf7 = STR_INIT;

                mutf7_from_utf8((struct span){ name, n }, &utf7, NULL);
                str_append_c(out, '.');
                for (size_t i = 0; i <= utf7.len; i++)
                        if (i == utf7.len || utf7.data[i] == '.') {
                                str_append(out, utf7.data + from, i - from);
                                if (i < utf7.len)
                                        str_append_str(out, ENCODED_DOT);
                                from = i + 1;
                        }
                str_deinit(&utf7);
                name += n + (name[n] == '/');
        }
}

/* Modified UTF-7 as far as it is that; names out of rule are taken as they stand. */
static void append_part(struct span part, struct str *out)
{
        while (part.len) {
                const char *dot = memmem(part.p, part.len, ENCODED_DOT, strlen(ENCODED_DOT));
                struct span piece = { part.p, dot ? (size_t)(dot - part.p) : part.len };
                size_t before = out->len;

                if (mutf7_to_utf8(piece, out, NULL) < 0) {
                        str_truncate(out, before);
                        str_append_span(out, piece);
                }
                if (!dot)
                        return;
                str_append_c(out, '.');
                piece.len += strlen(ENCODED_DOT);
                part = (struct span){ part.p + piece.len, part.len - piece.len };
        }
}

int maildir_folder_parse(const char *directory, struct str *out, struct err *err)
{
        const char *p = directory + 1;

        if (*p == '\0')
                return err_set(err, ERR_BADNAME, "%s: no name", directory);
        for (bool first = true; *p; first = false) {
                size_t n = strcspn(p, ".");

                if (!first)
                        str_append_c(out, '/');
                append_part((struct span){ p, n }, out);
                p += n + (p[n] == '.');
        }
        return 0;
}

/* ---- reading ---- */

struct reader {
        struct mailreader base;
        char *path;
        int dir, subs[2];                       /* the folder's, cur/ and new/: open from the beginning, whatever their names mean later */
        char *keywords[KEYWORDS];
        char **files;                           /* "cur/…", sorted: the order in which they came, by convention */
        size_t n, at;
};

/* Whose mail this is may put anything there: what is below the top is not looked for by way of links, and is read when it is a file. */
static int open_file(int dir, const char *name, const char *path, struct stat *st_r, struct err *err)
{
        int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);

        if (fd < 0)
                return errno == ELOOP ? err_set(err, ERR_IO, "%s: a symbolic link, which is not followed", path) : err_errno(err, errno, "%s", path);
        if (fstat(fd, st_r) < 0 || !S_ISREG(st_r->st_mode)) {
                close(fd);
                return err_set(err, ERR_IO, "%s: no file", path);
        }
        return fd;
}

static void read_keywords(int dir, char *keywords[KEYWORDS])
{
        struct str text = STR_INIT;
        struct err unread = ERR_INIT;
        struct stat st;
        int fd = open_file(dir, KEYWORDS_FILE, KEYWORDS_FILE, &st, &unread);

        if (fd >= 0 && st.st_size <= 1 << 20 && fs_pread_all(fd, str_append_space(&text, (size_t)st.st_size), (size_t)st.st_size, 0, &unread) == 0) {
                str_append_c(&text, '\0');
                for (char *line = text.data, *end; *line; line = end + (*end != '\0')) {
                        char *name;
                        unsigned long i = strtoul(line, &name, 10);

                        end = line + strcspn(line, "\n");
                        if (name > line && *name == ' ' && i < KEYWORDS && end > name + 1) {
                                free(keywords[i]);
                                keywords[i] = xstrndup(name + 1, (size_t)(end - name - 1));
                        }
                }
        }
        if (fd >= 0)
                close(fd);
        str_deinit(&text);
}

static int open_sub(const struct reader *r, const char *sub, struct err *err)
{
        int fd = openat(r->dir, sub, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

        if (fd >= 0 || errno == ENOENT)
                return fd;
        if (errno == ENOTDIR || errno == ELOOP)
                err_set(err, ERR_IO, "%s/%s: no directory, or a symbolic link, which is not followed", r->path, sub);
        else
                err_errno(err, errno, "%s/%s", r->path, sub);
        return -2;
}

static int add_files(struct reader *r, const char *sub, int *sub_r, size_t *cap, struct err *err)
{
        struct str p = STR_INIT;
        DIR *d;
        int fd;

        *sub_r = open_sub(r, sub, err);
        if (*sub_r < 0)
                return *sub_r == -1 ? 0 : -1;
        fd = fcntl(*sub_r, F_DUPFD_CLOEXEC, 0);
        d = fd >= 0 ? fdopendir(fd) : NULL;
        if (!d) {
                err_errno(err, errno, "%s/%s", r->path, sub);
                if (fd >= 0)
                        close(fd);
                return -1;
        }
        for (struct dirent *e; (e = readdir(d)) != NULL;) {
                if (e->d_name[0] == '.')
                        continue;
                if (r->n == *cap)
                        r->files = xrealloc(r->files, (*cap = *cap ? 2 * *cap : 256) * sizeof *r->files);
                str_clear(&p);
                str_printf(&p, "%s/%s", sub, e->d_name);
                r->files[r->n++] = xstrdup(p.data);
        }
        closedir(d);
        str_deinit(&p);
        return 0;
}

static int by_file(const void *a, const void *b)
{
        return strverscmp(*(char *const *)a + 4, *(char *const *)b + 4);
}

static void flags_of(const struct reader *r, const char *name, struct mailfile *m)
{
        const char *info = strstr(name, ":2,");

        for (const char *p = info ? info + 3 : ""; *p; p++) {
                for (size_t i = 0; i < LETTERS; i++)
                        if (letters[i].letter == *p)
                                mailfile_flag(m, letters[i].flag, strlen(letters[i].flag));
                if (*p >= 'a' && *p <= 'z' && r->keywords[*p - 'a'])
                        mailfile_flag(m, r->keywords[*p - 'a'], strlen(r->keywords[*p - 'a']));
        }
}

static int reader_next(struct mailreader *base, struct mailfile *m, struct err *err)
{
        struct reader *r = (struct reader *)base;
        struct str path = STR_INIT;
        struct stat st;
        int fd, rc = -1;

        if (r->at == r->n)
                return 0;
        str_printf(&path, "%s/%s", r->path, r->files[r->at]);
        m->where = arena_strndup(&m->arena, path.data, path.len);
        fd = open_file(r->subs[r->files[r->at][0] == 'n'], r->files[r->at] + 4, path.data, &st, err);
        if (fd >= 0 && st.st_size > MAILFILE_BYTES_MAX) {
                err_set(err, ERR_LIMIT, "%s: %lld octets are too many", path.data, (long long)st.st_size);
        } else if (fd >= 0) {
                str_reserve(&m->octets, (size_t)st.st_size);
                rc = fs_pread_all(fd, m->octets.data, (size_t)st.st_size, 0, err);
        }
        if (rc == 0) {
                m->octets.len = (size_t)st.st_size;
                m->octets.data[m->octets.len] = '\0';
                m->date = st.st_mtime;
                flags_of(r, r->files[r->at], m);
                mailfile_to_crlf(&m->octets);
                rc = 1;
        }
        if (fd >= 0)
                close(fd);
        str_deinit(&path);
        r->at++;
        return rc;
}

static void reader_close(struct mailreader *base)
{
        struct reader *r = (struct reader *)base;

        for (size_t i = 0; i < r->n; i++)
                free(r->files[i]);
        for (int i = 0; i < KEYWORDS; i++)
                free(r->keywords[i]);
        for (int i = 0; i < 2; i++)
                if (r->subs[i] >= 0)
                        close(r->subs[i]);
        if (r->dir >= 0)
                close(r->dir);
        free(r->files);
        free(r->path);
        free(r);
}

int maildir_reader(const char *path, bool is_top, struct mailreader **reader_r, struct err *err)
{
        struct reader *r = xcalloc(1, sizeof *r);
        size_t cap = 0;

        r->base = (struct mailreader){ reader_next, reader_close };
        r->path = xstrdup(path);
        r->subs[0] = r->subs[1] = -1;
        r->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (is_top ? 0 : O_NOFOLLOW));
        if (r->dir < 0)
                err_errno(err, errno, "%s", path);
        else
                read_keywords(r->dir, r->keywords);
        if (r->dir < 0 || add_files(r, "cur", &r->subs[0], &cap, err) < 0 || add_files(r, "new", &r->subs[1], &cap, err) < 0) {
                reader_close(&r->base);
                return -1;
        }
        if (r->n)
                qsort(r->files, r->n, sizeof *r->files, by_file);
        *reader_r = &r->base;
        return 0;
}

/* ---- writing ---- */

struct writer {
        struct mailwriter base;
        char *path;
        uint32_t uidvalidity;
        char *keywords[KEYWORDS];
        unsigned keywords_n;
        bool keywords_changed;
        struct table *there;                    /* "uid" → 1: from this or an earlier run */
        int dir, cur, tmp;                      /* directories, so that no link that somebody puts there leads elsewhere; -1: not open */
};

static struct span uid_key(char buf[16], uint32_t uid)
{
        return (struct span){ buf, (size_t)snprintf(buf, 16, "%u", uid) };
}

/* Ours are called "<date>.V<uidvalidity>U<uid>.<host>,S=<octets>:2,<flags>". One whose size is not what its name says is the remains of a power
 * loss: written again. */
static void look(struct writer *w)
{
        int fd = openat(w->cur, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
        char key[16];

        if (!d && fd >= 0)
                close(fd);
        for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
                unsigned uidvalidity, uid;
                unsigned long long size;
                struct stat st;
                const char *v = strchr(e->d_name, '.'), *s = strstr(e->d_name, ",S=");

                if (!v || !s || sscanf(v, ".V%uU%u.", &uidvalidity, &uid) != 2 || uidvalidity != w->uidvalidity || sscanf(s, ",S=%llu:", &size) != 1)
                        continue;
                if (fstatat(w->cur, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && (unsigned long long)st.st_size == size)
                        table_set(w->there, uid_key(key, uid), w);
                else
                        unlinkat(w->cur, e->d_name, 0);
        }
        if (d)
                closedir(d);
}

static bool writer_has(const struct mailwriter *base, uint32_t uid)
{
        const struct writer *w = (const struct writer *)base;
        char key[16];

        return table_find(w->there, uid_key(key, uid)) != NULL;
}

/* The letter of a keyword, a new one if there is room; 0: none left. */
static char keyword_letter(struct writer *w, const char *keyword)
{
        for (unsigned i = 0; i < w->keywords_n; i++)
                if (w->keywords[i] && strcasecmp(w->keywords[i], keyword) == 0)
                        return (char)('a' + i);
        if (w->keywords_n == KEYWORDS)
                return 0;
        w->keywords[w->keywords_n] = xstrdup(keyword);
        w->keywords_changed = true;
        return (char)('a' + w->keywords_n++);
}

static int by_letter(const void *a, const void *b)
{
        return *(const char *)a - *(const char *)b;
}

static void flag_letters(struct writer *w, const struct mailfile *m, char out[MAILFILE_FLAGS_MAX + 1])
{
        unsigned n = 0;

        for (unsigned i = 0; i < m->flags_n; i++) {
                char letter = 0;

                for (size_t k = 0; k < LETTERS; k++)
                        if (strcasecmp(letters[k].flag, m->flags[i]) == 0)
                                letter = letters[k].letter;
                if (!letter && !(letter = keyword_letter(w, m->flags[i])))
                        w->base.flags_lost++;
                if (letter)
                        out[n++] = letter;
        }
        qsort(out, n, 1, by_letter);
        out[n] = '\0';
}

static int write_keywords(struct writer *w, struct err *err)
{
        struct str text = STR_INIT, path = STR_INIT;
        int rc;

        for (unsigned i = 0; i < w->keywords_n; i++)
                if (w->keywords[i])
                        str_printf(&text, "%u %s\n", i, w->keywords[i]);
        str_printf(&path, "/proc/self/fd/%d/%s", w->dir, KEYWORDS_FILE);
        rc = fs_replace(path.data, text.data, text.len, 0600, err);
        w->keywords_changed = rc < 0;
        str_deinit(&text);
        str_deinit(&path);
        return rc;
}

static int writer_add(struct mailwriter *base, uint32_t uid, const struct mailfile *m, struct err *err)
{
        struct writer *w = (struct writer *)base;
        struct str octets = STR_INIT, tmp = STR_INIT, to = STR_INIT;
        struct timespec times[2] = { { .tv_sec = m->date }, { .tv_sec = m->date } };
        char letters_text[MAILFILE_FLAGS_MAX + 1], key[16];
        int fd, rc = -1;

        flag_letters(w, m, letters_text);
        if (w->keywords_changed && write_keywords(w, err) < 0)  /* before the first file that needs it: this run may be cut short */
                return -1;
        mailfile_to_lf(str_span(&m->octets), &octets);
        str_printf(&tmp, "V%uU%u", w->uidvalidity, uid);
        str_printf(&to, "%lld.V%uU%u.cyrd,S=%zu:2,%s", (long long)m->date, w->uidvalidity, uid, octets.len, letters_text);
        unlinkat(w->tmp, tmp.data, 0);                  /* of a run that was cut short */
        fd = openat(w->tmp, tmp.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                err_errno(err, errno, "%s/tmp/%s", w->path, tmp.data);
        else if (fs_write_all(fd, octets.data, octets.len, err) == 0) {
                if (futimens(fd, times) < 0 || renameat(w->tmp, tmp.data, w->cur, to.data) < 0)
                        err_errno(err, errno, "%s/cur/%s", w->path, to.data);
                else
                        rc = 0;
        }
        if (fd >= 0)
                close(fd);
        if (rc == 0)
                table_set(w->there, uid_key(key, uid), w);
        else if (fd >= 0)
                unlinkat(w->tmp, tmp.data, 0);
        str_deinit(&octets);
        str_deinit(&tmp);
        str_deinit(&to);
        return rc;
}

static int writer_finish(struct mailwriter *base, struct err *err)
{
        const struct writer *w = (const struct writer *)base;

        return syncfs(w->dir) < 0 ? err_errno(err, errno, "%s", w->path) : 0;
}

static void close_open(int fd)
{
        if (fd >= 0)
                close(fd);
}

static void writer_close(struct mailwriter *base)
{
        struct writer *w = (struct writer *)base;

        table_destroy(&w->there);
        for (int i = 0; i < KEYWORDS; i++)
                free(w->keywords[i]);
        close_open(w->dir);
        close_open(w->cur);
        close_open(w->tmp);
        free(w->path);
        free(w);
}

int maildir_writer(const char *path, const char *name, uint32_t uidvalidity, struct mailwriter **writer_r, struct err *err)
{
        struct writer *w = xcalloc(1, sizeof *w);
        struct str p = STR_INIT;
        int fd, rc;

        w->base = (struct mailwriter){ writer_has, writer_add, writer_finish, writer_close, 0 };
        w->uidvalidity = uidvalidity;
        w->there = table_create();
        w->cur = w->tmp = -1;
        w->dir = mailfile_make_top(path, err);
        str_append_str(&p, path);
        if (*name && w->dir >= 0) {
                struct str folder = STR_INIT;

                maildir_folder_name(name, &folder);
                str_append_c(&p, '/');
                str_append_span(&p, str_span(&folder));
                w->dir = mailfile_make_below(w->dir, folder.data, true, err);
                str_deinit(&folder);
        }
        w->path = str_take(&p);
        if (w->dir >= 0)
                w->cur = mailfile_make_below(w->dir, "cur", false, err);
        if (w->cur >= 0)
                w->tmp = mailfile_make_below(w->dir, "tmp", false, err);
        rc = w->tmp >= 0 ? mailfile_make_below(w->dir, "new", false, err) : -1;
        if (rc < 0) {
                err_prefix(err, "%s", w->path);
                writer_close(&w->base);
                return -1;
        }
        close(rc);
        if (*name) {                            /* what tells a Maildir++ folder from a Maildir */
                fd = openat(w->dir, "maildirfolder", O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
                close_open(fd);
        }
        read_keywords(w->dir, w->keywords);
        while (w->keywords_n < KEYWORDS && w->keywords[w->keywords_n])
                w->keywords_n++;
        look(w);
        *writer_r = &w->base;
        return 0;
}
