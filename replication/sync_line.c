/*
 * sync_line - lines of the log for replicas, and their files; see sync_log.h
 *
 * A line is words with one blank between; a word with a blank, a tab or a parenthesis, and an empty one, is in double quotes. '\', '"', '{' and '}'
 * have a backslash in front, which puts the word in quotes, too. Reading takes a backslash inside and outside of quotes.
 */
#include "replication/sync_log_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/array.h"
#include "util/fs.h"

#define LINE_MAX_BYTES 8192                     /* two names of 490 octets, all of them escaped, are far below */
#define ROTATIONS_MAX 64                        /* as in Cyrus */

static const struct { const char *name; int args; } kinds[SYNC_KINDS] = {
        [SYNC_MAILBOX] = { "MAILBOX", 1 }, [SYNC_APPEND] = { "APPEND", 1 }, [SYNC_DOUBLEMAILBOX] = { "DOUBLEMAILBOX", 2 },
        [SYNC_RENAME] = { "RENAME", 2 }, [SYNC_QUOTA] = { "QUOTA", 1 }, [SYNC_ANNOTATION] = { "ANNOTATION", 1 }, [SYNC_SEEN] = { "SEEN", 2 },
        [SYNC_SUB] = { "SUB", 2 }, [SYNC_UNMAILBOX] = { "UNMAILBOX", 1 }, [SYNC_META] = { "META", 1 }, [SYNC_USER] = { "USER", 1 },
        [SYNC_UNUSER] = { "UNUSER", 1 }, [SYNC_RESYNC] = { "RESYNC", 0 },
};
/* What is read as another word. */
static const struct { const char *name; enum sync_kind kind; } others[] = { { "SIEVE", SYNC_META }, { "UNSUB", SYNC_SUB } };

const char *sync_kind_name(enum sync_kind kind)
{
        return kinds[kind].name;
}

int sync_kind_args(enum sync_kind kind)
{
        return kinds[kind].args;
}

/* ---- writing ---- */

static bool can_be_written(const char *word)
{
        return !strpbrk(word, "\r\n");
}

static void write_word(struct str *out, const char *word)
{
        bool quoted = !*word || strpbrk(word, " \t()\\\"{}");

        str_append_c(out, ' ');
        if (quoted)
                str_append_c(out, '"');
        for (; *word; word++) {
                if (strchr("\\\"{}", *word))
                        str_append_c(out, '\\');
                str_append_c(out, *word);
        }
        if (quoted)
                str_append_c(out, '"');
}

bool sync_line_write(struct str *out, const struct sync_line *line)
{
        int args = kinds[line->kind].args;

        if ((args > 0 && !can_be_written(line->a)) || (args > 1 && !can_be_written(line->b)))
                return false;
        str_append_str(out, kinds[line->kind].name);
        if (args > 0)
                write_word(out, line->a);
        if (args > 1)
                write_word(out, line->b);
        str_append_c(out, '\n');
        return true;
}

/* ---- reading ---- */

/* The next word from *at on, in the arena. False: out of grammar. */
static bool read_word(struct span text, size_t *at, struct arena *arena, const char **word_r)
{
        bool quoted = *at < text.len && text.p[*at] == '"', closed = !quoted;
        char *word = arena_alloc(arena, text.len - *at + 1), *out = word;
        size_t i = *at + quoted;

        for (; i < text.len; i++) {
                char c = text.p[i];

                if (quoted ? c == '"' : c == ' ') {
                        closed = true;
                        break;
                }
                if (c == '\\' && ++i == text.len)
                        return false;
                c = text.p[i];
                if (c == '\0')
                        return false;
                *out++ = c;
        }
        *out = '\0';
        if (!closed || (!quoted && out == word))
                return false;
        *at = i + quoted;
        *word_r = word;
        return *at == text.len || text.p[*at] == ' ';
}

static bool find_kind(const char *word, enum sync_kind *kind_r)
{
        for (int k = 0; k < SYNC_KINDS; k++)
                if (span_ieq_str(span_of(word), kinds[k].name)) {
                        *kind_r = (enum sync_kind)k;
                        return true;
                }
        for (size_t i = 0; i < ARRAY_LEN(others); i++)
                if (span_ieq_str(span_of(word), others[i].name)) {
                        *kind_r = others[i].kind;
                        return true;
                }
        return false;
}

int sync_line_parse(struct span text, struct arena *arena, struct sync_line *line_r, struct err *err)
{
        const char *words[3] = { "", "", "" };
        size_t at = 0;
        int n = 0;

        while (text.len && (text.p[text.len - 1] == '\r' || text.p[text.len - 1] == ' '))
                text.len--;
        while (at < text.len) {
                if (n == 3 || !read_word(text, &at, arena, &words[n++]))
                        return err_set(err, ERR_SYNTAX, "not a line of a sync log");
                if (at < text.len)
                        at++;
        }
        if (n == 0 || !find_kind(words[0], &line_r->kind))
                return err_set(err, ERR_SYNTAX, "unknown word in a sync log");
        if (n - 1 != kinds[line_r->kind].args)
                return err_set(err, ERR_SYNTAX, "%s with %d arguments", kinds[line_r->kind].name, n - 1);
        line_r->a = words[1];
        line_r->b = words[2];
        return 0;
}

static void take_line(struct span text, struct arena *arena, void (*line)(void *ctx, const struct sync_line *line),
                      void (*bad)(void *ctx, struct span text), void *ctx)
{
        struct sync_line l;

        if (sync_line_parse(text, arena, &l, NULL) == 0)
                line(ctx, &l);
        else if (bad && text.len)
                bad(ctx, text);
        arena_reset(arena);
}

int sync_log_read(int fd, void (*line)(void *ctx, const struct sync_line *line), void (*bad)(void *ctx, struct span text), void *ctx,
                  struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct str in = STR_INIT;
        bool skipping = false;                  /* the rest of a line that is too long */
        off_t at = 0;
        int rc = -1;

        for (;;) {
                size_t begin = 0;
                ssize_t n;
                char *end;

                str_reserve(&in, 65536);
                n = pread(fd, in.data + in.len, 65536, at);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        err_errno(err, errno, "read of a sync log");
                        break;
                }
                if (n == 0) {                   /* what has no end was being written when the machine stopped */
                        if (in.len && bad)
                                bad(ctx, str_span(&in));
                        rc = 0;
                        break;
                }
                at += n;
                in.len += (size_t)n;
                while ((end = memchr(in.data + begin, '\n', in.len - begin)) != NULL) {
                        if (!skipping)
                                take_line((struct span){ in.data + begin, (size_t)(end - in.data) - begin }, &arena, line, bad, ctx);
                        skipping = false;
                        begin = (size_t)(end - in.data) + 1;
                }
                str_consume(&in, begin);
                if (in.len > LINE_MAX_BYTES) {
                        if (!skipping && bad)
                                bad(ctx, (struct span){ in.data, 80 });
                        skipping = true;
                        str_clear(&in);
                }
        }
        str_deinit(&in);
        arena_deinit(&arena);
        return rc;
}

/* ---- files ---- */

void sync_log_path(const char *configdir, const char *channel, const char *file, struct str *out)
{
        str_printf(out, "%s/sync/", configdir);
        if (channel && *channel)
                str_printf(out, "%s/", channel);
        str_append_str(out, file);
}

int sync_log_lock(int fd, const char *path, struct err *err)
{
        /* Of the open file, not of the process: two threads of ours exclude each other, and Cyrus's programs, whose locks are of the other kind, too. */
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

        while (fcntl(fd, F_OFD_SETLKW, &lock) < 0)
                if (errno != EINTR)
                        return err_errno(err, errno, "lock %s", path);
        return 0;
}

void sync_log_unlock(int fd)
{
        struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

        (void)fcntl(fd, F_OFD_SETLK, &lock);
}

static int open_or_make(const char *path, struct err *err)
{
        int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

        if (fd < 0 && errno == ENOENT) {
                struct str dir = STR_INIT;
                int rc;

                str_append(&dir, path, (size_t)(strrchr(path, '/') - path));
                rc = fs_mkdir_p_durable(dir.data, 0755, err);
                str_deinit(&dir);
                if (rc < 0)
                        return -1;
                fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
        }
        return fd >= 0 ? fd : err_errno(err, errno, "open %s", path);
}

bool sync_log_is_file(int fd, const char *path)
{
        struct stat open_one, named;

        return fstat(fd, &open_one) == 0 && stat(path, &named) == 0 && open_one.st_ino == named.st_ino && open_one.st_dev == named.st_dev;
}

int sync_log_open_locked(const char *path, int *fd_r, struct err *err)
{
        for (int i = 0; i < ROTATIONS_MAX; i++) {
                int fd = open_or_make(path, err);

                if (fd < 0)
                        return -1;
                if (sync_log_lock(fd, path, err) < 0) {
                        close(fd);
                        return -1;
                }
                if (sync_log_is_file(fd, path)) {
                        *fd_r = fd;
                        return 0;
                }
                close(fd);                      /* taken by a reader meanwhile: once more, with the new one */
        }
        return err_set(err, ERR_BUSY, "%s is renamed all the time", path);
}

int sync_log_write(int fd, struct span lines, struct err *err)
{
        struct stat st;
        char last;

        /* What a full disk has left of somebody's line must not become part of ours. */
        if (fstat(fd, &st) == 0 && st.st_size > 0 && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n' && fs_write_all(fd, "\n", 1, err) < 0)
                return -1;
        return fs_write_all(fd, lines.p, lines.len, err);
}

int sync_log_append(const char *configdir, const char *channel, struct span lines, bool sync, struct err *err)
{
        struct str path = STR_INIT;
        int fd = -1, rc;

        sync_log_path(configdir, channel, "log", &path);
        rc = sync_log_open_locked(path.data, &fd, err);
        if (rc == 0) {
                rc = sync_log_write(fd, lines, err);
                if (rc == 0 && sync)
                        rc = fs_datasync(fd, path.data, err);
                close(fd);
        }
        if (rc == 0 && sync) {                  /* its name, if it is new */
                str_truncate(&path, path.len - strlen("/log"));
                rc = fs_sync_dir(path.data, err);
        }
        str_deinit(&path);
        return rc;
}

int sync_log_take(const char *configdir, const char *channel, int *fd_r, struct err *err)
{
        struct str log = STR_INIT, run = STR_INIT;
        int fd, rc = 1;

        sync_log_path(configdir, channel, "log", &log);
        sync_log_path(configdir, channel, "log-run", &run);
        fd = open(run.data, O_RDWR | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
                if (rename(log.data, run.data) < 0)
                        rc = errno == ENOENT ? 0 : err_errno(err, errno, "rename %s", log.data);
                else if ((fd = open(run.data, O_RDWR | O_CLOEXEC)) < 0)
                        rc = err_errno(err, errno, "open %s", run.data);
        } else if (fd < 0) {
                rc = err_errno(err, errno, "open %s", run.data);
        }
        if (rc == 1 && sync_log_lock(fd, run.data, err) < 0) {
                close(fd);
                rc = -1;
        }
        if (rc == 1) {
                sync_log_unlock(fd);
                *fd_r = fd;
        }
        str_deinit(&log);
        str_deinit(&run);
        return rc;
}

int sync_log_done(const char *configdir, const char *channel, struct err *err)
{
        struct str run = STR_INIT;
        int rc = 0;

        sync_log_path(configdir, channel, "log-run", &run);
        if (unlink(run.data) < 0 && errno != ENOENT)
                rc = err_errno(err, errno, "unlink %s", run.data);
        str_deinit(&run);
        return rc;
}

const char **sync_log_channels(struct conf *conf, struct arena *arena)
{
        const char *value = conf_str(conf, NULL, "sync_log_channels");
        ARRAY(const char *) list = ARRAY_INIT;
        const char **names;

        if (conf_switch(conf, NULL, "sync_log")) {
                if (!value || !value[strspn(value, " \t")])
                        *ARRAY_PUSH(&list) = "";
                for (const char *p = value; p && *p;) {
                        size_t n;

                        p += strspn(p, " \t");
                        n = strcspn(p, " \t");
                        if (n && !memchr(p, '/', n) && *p != '.')       /* it is a directory's name, and none that leads elsewhere */
                                *ARRAY_PUSH(&list) = n == 2 && p[0] == '"' && p[1] == '"' ? "" : arena_strndup(arena, p, n);
                        p += n;
                }
        }
        names = ARENA_ARRAY(arena, const char *, list.n + 1);
        if (list.n)
                memcpy(names, list.v, list.n * sizeof *names);
        ARRAY_FREE(&list);
        return names;
}
