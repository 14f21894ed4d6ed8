/*
 * mbox - reading and writing mbox files. A message begins at "From " at the start of the file or after an empty line; lines ">From ", ">>From "
 * lose one '>' (mboxrd). A Content-Length that leads exactly to the next "From " line or the end is believed (mboxcl2). Status, X-Status and
 * X-Keywords carry flags: they are read, and not part of the message; written in the same form.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "server/ctl/mailfile_private.h"
#include "util/fs.h"
#include "util/must.h"

bool mbox_is(const char *path)
{
        char head[5];
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        bool yes = fd >= 0 && read(fd, head, 5) == 5 && memcmp(head, "From ", 5) == 0;

        if (fd >= 0)
                close(fd);
        return yes;
}

/* ---- reading ---- */

struct reader {
        struct mailreader base;
        char *path;
        const char *map;
        size_t size, at;
        unsigned number;
};

static bool from_line_at(const struct reader *r, size_t at)
{
        return at + 5 <= r->size && memcmp(r->map + at, "From ", 5) == 0;
}

static size_t line_end(const struct reader *r, size_t at)
{
        const char *lf = memchr(r->map + at, '\n', r->size - at);

        return lf ? (size_t)(lf - r->map) + 1 : r->size;
}

static bool is_empty_line(const struct reader *r, size_t at, size_t end)
{
        return end - at == 1 || (end - at == 2 && r->map[at] == '\r');
}

/* "From joe@example.org Sun Jan  4 13:12:11 2026": the date, in UTC by custom. */
static int64_t date_of(struct span line)
{
        char text[128];
        struct tm tm;
        const char *p;

        snprintf(text, sizeof text, "%.*s", (int)(line.len > 127 ? 127 : line.len), line.p);
        for (p = text; (p = strchr(p, ' ')) != NULL; p++) {
                memset(&tm, 0, sizeof tm);
                if (strptime(p, " %a %b %d %H:%M:%S %Y", &tm))
                        return timegm(&tm);
        }
        return INT64_MIN;
}

static bool header_is(struct span line, const char *name, struct span *value_r)
{
        size_t n = strlen(name);

        if (line.len <= n || line.p[n] != ':' || strncasecmp(line.p, name, n) != 0)
                return false;
        *value_r = span_trim((struct span){ line.p + n + 1, line.len - n - 1 });
        return true;
}

static void status_letters(struct mailfile *m, struct span value)
{
        for (size_t i = 0; i < value.len; i++) {
                const char *flag = value.p[i] == 'R' ? "\\Seen" : value.p[i] == 'A' ? "\\Answered" : value.p[i] == 'F' ? "\\Flagged"
                                 : value.p[i] == 'D' ? "\\Deleted" : value.p[i] == 'T' ? "\\Draft" : NULL;

                if (flag)
                        mailfile_flag(m, flag, strlen(flag));
        }
}

static void keyword_words(struct mailfile *m, struct span value)
{
        while (value.len) {
                size_t n = 0;

                while (n < value.len && value.p[n] != ' ' && value.p[n] != ',')
                        n++;
                mailfile_flag(m, value.p, n);
                n += n < value.len;
                value = (struct span){ value.p + n, value.len - n };
        }
}

/* Copies the header but for the lines that carry flags; returns where the body begins. */
static size_t take_header(struct reader *r, struct mailfile *m, size_t at, uint64_t *content_length_r)
{
        bool skipping = false;

        *content_length_r = UINT64_MAX;
        while (at < r->size) {
                size_t end = line_end(r, at);
                struct span line = { r->map + at, end - at }, value;

                if (is_empty_line(r, at, end)) {
                        str_append_span(&m->octets, line);
                        return end;
                }
                if (from_line_at(r, at) && m->octets.len)       /* a header without a body, and the next message */
                        return at;
                if (line.p[0] != ' ' && line.p[0] != '\t') {
                        skipping = true;
                        if (header_is(line, "Status", &value) || header_is(line, "X-Status", &value))
                                status_letters(m, value);
                        else if (header_is(line, "X-Keywords", &value))
                                keyword_words(m, value);
                        else
                                skipping = false;
                        if (header_is(line, "Content-Length", &value) && !span_u64(value, INT64_MAX, content_length_r))
                                *content_length_r = UINT64_MAX;
                }
                if (!skipping)
                        str_append_span(&m->octets, line);
                at = end;
        }
        return at;
}

/* Does a body of this length end where a message may end? Blank lines before the next "From " belong to the format. */
static bool length_fits(const struct reader *r, size_t body, uint64_t length)
{
        size_t at;

        if (length > r->size - body)
                return false;
        at = body + (size_t)length;
        while (at < r->size && is_empty_line(r, at, line_end(r, at)))
                at = line_end(r, at);
        return at == r->size || (from_line_at(r, at) && (at == body || r->map[at - 1] == '\n'));
}

static size_t take_body(struct reader *r, struct mailfile *m, size_t at)
{
        bool empty = true;                      /* the line before this one */
        size_t kept = m->octets.len;            /* without the empty line that ends a message */

        while (at < r->size && !(empty && from_line_at(r, at))) {
                size_t end = line_end(r, at), quote = 0;

                while (at + quote < end && r->map[at + quote] == '>')
                        quote++;
                kept = m->octets.len;
                empty = is_empty_line(r, at, end);
                if (quote && end - at - quote >= 5 && memcmp(r->map + at + quote, "From ", 5) == 0)
                        str_append(&m->octets, r->map + at + 1, end - at - 1);
                else
                        str_append(&m->octets, r->map + at, end - at);
                if (m->octets.len > MAILFILE_BYTES_MAX)
                        return at;
                at = end;
        }
        if (empty && m->octets.len > kept)
                str_truncate(&m->octets, kept);
        return at;
}

static int reader_next(struct mailreader *base, struct mailfile *m, struct err *err)
{
        struct reader *r = (struct reader *)base;
        struct str where = STR_INIT;
        uint64_t length;
        size_t end, body;

        while (r->at < r->size && !from_line_at(r, r->at))
                r->at = line_end(r, r->at);
        if (r->at >= r->size)
                return 0;
        str_printf(&where, "%s: message %u", r->path, ++r->number);
        m->where = arena_strndup(&m->arena, where.data, where.len);
        str_deinit(&where);
        end = line_end(r, r->at);
        m->date = date_of((struct span){ r->map + r->at, end - r->at });
        body = take_header(r, m, end, &length);
        if (length != UINT64_MAX && length <= MAILFILE_BYTES_MAX && length_fits(r, body, length)) {
                str_append(&m->octets, r->map + body, (size_t)length);
                r->at = body + (size_t)length;
        } else {
                r->at = take_body(r, m, body);
        }
        if (m->octets.len > MAILFILE_BYTES_MAX)
                return err_set(err, ERR_LIMIT, "%s: more than %u octets", m->where, MAILFILE_BYTES_MAX);
        mailfile_to_crlf(&m->octets);
        return 1;
}

static void reader_close(struct mailreader *base)
{
        struct reader *r = (struct reader *)base;

        if (r->size)
                munmap((void *)(uintptr_t)r->map, r->size);
        free(r->path);
        free(r);
}

int mbox_reader(const char *path, bool is_top, struct mailreader **reader_r, struct err *err)
{
        struct reader *r = xcalloc(1, sizeof *r);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (is_top ? 0 : O_NOFOLLOW));
        struct stat st = { .st_size = 0 };

        r->base = (struct mailreader){ reader_next, reader_close };
        r->path = xstrdup(path);
        if (fd < 0 || fstat(fd, &st) < 0) {
                err_errno(err, errno, "%s", path);
        } else if (!S_ISREG(st.st_mode)) {
                err_set(err, ERR_IO, "%s: no file", path);
        } else if (st.st_size > 0) {
                void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

                if (map == MAP_FAILED)
                        err_errno(err, errno, "%s", path);
                else {
                        r->map = map;
                        r->size = (size_t)st.st_size;
                }
        }
        if (fd >= 0)
                close(fd);
        if (fd < 0 || !S_ISREG(st.st_mode) || (st.st_size > 0 && !r->map)) {
                reader_close(&r->base);
                return -1;
        }
        *reader_r = &r->base;
        return 0;
}

/* For a progress bar: a Content-Length that hides "From " lines is not looked at. */
uint64_t mbox_count(const char *path)
{
        struct mailreader *base;
        struct err ignored = ERR_INIT;
        const struct reader *r;
        uint64_t n = 0;
        bool empty = true;                      /* the line before */

        if (mbox_reader(path, true, &base, &ignored) < 0)
                return 0;
        r = (struct reader *)base;
        for (size_t at = 0, end; at < r->size; at = end) {
                end = line_end(r, at);
                n += empty && from_line_at(r, at);
                empty = is_empty_line(r, at, end);
        }
        reader_close(base);
        return n;
}

/* ---- writing ---- */

struct writer {
        struct mailwriter base;
        char *path;                             /* for messages */
        int dir;                                /* where it is made, so that no link that somebody puts there leads elsewhere; -1: not open */
        char *name, *tmp;                       /* in it; tmp NULL: it is finished */
        FILE *out;
};

static bool writer_has(const struct mailwriter *base, uint32_t uid)
{
        (void)base;
        (void)uid;
        return false;                           /* the file is written whole, or not at all */
}

static bool has_flag(const struct mailfile *m, const char *flag)
{
        for (unsigned i = 0; i < m->flags_n; i++)
                if (strcasecmp(m->flags[i], flag) == 0)
                        return true;
        return false;
}

static void put_flags(FILE *out, const struct mailfile *m)
{
        bool any = false;

        if (has_flag(m, "\\Seen"))
                fputs("Status: RO\n", out);
        if (has_flag(m, "\\Answered") || has_flag(m, "\\Flagged") || has_flag(m, "\\Deleted") || has_flag(m, "\\Draft"))
                fprintf(out, "X-Status: %s%s%s%s\n", has_flag(m, "\\Answered") ? "A" : "", has_flag(m, "\\Flagged") ? "F" : "",
                        has_flag(m, "\\Deleted") ? "D" : "", has_flag(m, "\\Draft") ? "T" : "");
        for (unsigned i = 0; i < m->flags_n; i++)
                if (m->flags[i][0] != '\\') {
                        fprintf(out, "%s %s", any ? "" : "X-Keywords:", m->flags[i]);
                        any = true;
                }
        if (any)
                fputc('\n', out);
}

static int writer_add(struct mailwriter *base, uint32_t uid, const struct mailfile *m, struct err *err)
{
        struct writer *w = (struct writer *)base;
        struct str octets = STR_INIT;
        time_t when = (time_t)m->date;
        struct tm tm;
        char date[64];
        const char *p, *end, *lf;
        bool header = true;

        (void)uid;
        mailfile_to_lf(str_span(&m->octets), &octets);
        gmtime_r(&when, &tm);
        strftime(date, sizeof date, "%a %b %e %H:%M:%S %Y", &tm);
        fprintf(w->out, "From MAILER-DAEMON %s\n", date);
        for (p = octets.data, end = p + octets.len; p < end; p = lf) {
                size_t quote = 0;

                lf = memchr(p, '\n', (size_t)(end - p));
                lf = lf ? lf + 1 : end;
                if (header && (lf - p == 1 || (lf - p == 2 && *p == '\r'))) {
                        put_flags(w->out, m);
                        header = false;
                }
                while (p + quote < lf && p[quote] == '>')
                        quote++;
                if (!header && (size_t)(lf - p) >= quote + 5 && memcmp(p + quote, "From ", 5) == 0)
                        fputc('>', w->out);
                fwrite(p, 1, (size_t)(lf - p), w->out);
        }
        if (header) {                           /* no body, not even the empty line before it */
                if (octets.len && octets.data[octets.len - 1] != '\n')
                        fputc('\n', w->out);
                put_flags(w->out, m);
        } else if (octets.data[octets.len - 1] != '\n') {
                fputc('\n', w->out);
        }
        fputc('\n', w->out);
        str_deinit(&octets);
        return ferror(w->out) ? err_errno(err, errno, "%s", w->path) : 0;
}

static int writer_finish(struct mailwriter *base, struct err *err)
{
        struct writer *w = (struct writer *)base;

        if (fflush(w->out) != 0 || fdatasync(fileno(w->out)) < 0 || renameat(w->dir, w->tmp, w->dir, w->name) < 0)
                return err_errno(err, errno, "%s", w->path);
        free(w->tmp);
        w->tmp = NULL;
        return fsync(w->dir) < 0 ? err_errno(err, errno, "the directory of %s", w->path) : 0;
}

static void writer_close(struct mailwriter *base)
{
        struct writer *w = (struct writer *)base;

        if (w->out)
                fclose(w->out);
        if (w->tmp && w->dir >= 0)
                unlinkat(w->dir, w->tmp, 0);
        if (w->dir >= 0)
                close(w->dir);
        free(w->tmp);
        free(w->name);
        free(w->path);
        free(w);
}

/* Whatever a user calls a mailbox, "..", too: it stays below the target, and is not hidden from mailtree_scan(). */
static const struct { char octet; const char *encoded; } firsts[] = { { '.', "&AC4-" }, { '&', "&-" } };

void mbox_part_name(struct span part, struct str *out)
{
        for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++)
                if (part.len && part.p[0] == firsts[i].octet) {
                        str_append_str(out, firsts[i].encoded);
                        part = (struct span){ part.p + 1, part.len - 1 };
                        break;
                }
        str_append_span(out, part);
}

void mbox_part_parse(struct span file, struct str *out)
{
        for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++) {
                size_t n = strlen(firsts[i].encoded);

                if (file.len >= n && memcmp(file.p, firsts[i].encoded, n) == 0) {
                        str_append_c(out, firsts[i].octet);
                        file = (struct span){ file.p + n, file.len - n };
                        break;
                }
        }
        str_append_span(out, file);
}

/* "Lists/c" is Lists.sbd/c: a file cannot be the directory of its children too. Thunderbird's way. */
static void append_path(struct str *out, const char *name)
{
        for (const char *slash; (slash = strchr(name, '/')) != NULL; name = slash + 1) {
                mbox_part_name((struct span){ name, (size_t)(slash - name) }, out);
                str_append_str(out, MBOX_CHILDREN "/");
        }
        mbox_part_name(span_of(name), out);
}

/* The top is "INBOX" beside the others. */
int mbox_writer(const char *path, const char *name, struct mailwriter **writer_r, struct err *err)
{
        struct writer *w = xcalloc(1, sizeof *w);
        struct str p = STR_INIT, whole = STR_INIT;
        int fd = -1;

        w->base = (struct mailwriter){ writer_has, writer_add, writer_finish, writer_close, 0 };
        w->dir = mailfile_make_top(path, err);
        append_path(&p, *name ? name : "INBOX");
        str_printf(&whole, "%s/%s", path, p.data);
        w->path = str_take(&whole);
        for (char *part = p.data, *slash; w->dir >= 0; part = slash + 1) {
                slash = strchr(part, '/');
                if (!slash) {
                        w->name = xstrdup(part);
                        break;
                }
                *slash = '\0';
                w->dir = mailfile_make_below(w->dir, part, true, err);
        }
        str_deinit(&p);
        if (w->dir >= 0) {
                str_printf(&whole, "%s.new", w->name);
                w->tmp = str_take(&whole);
                unlinkat(w->dir, w->tmp, 0);            /* of a run that was cut short */
                fd = openat(w->dir, w->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
        }
        if (fd >= 0)
                w->out = fdopen(fd, "w");
        if (!w->out) {
                if (!err->code)
                        err_errno(err, errno, "%s", w->path);
                else
                        err_prefix(err, "%s", w->path);
                writer_close(&w->base);
                return -1;
        }
        *writer_r = &w->base;
        return 0;
}
