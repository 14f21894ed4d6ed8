/*
 * trace - see trace.h. The daemon writes files; they are followed with inotify and read with the rights of whoever runs cyrctl, so that a
 * reader who is slow, or stopped, holds up nobody. At most CHUNK octets are held at a time.
 */
#include "server/ctl/trace.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/ctl/table.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/must.h"
#include "util/str.h"

#define CHUNK 16384

struct follow {
        struct ctl_client *client;
        const char *dir, *only;                 /* of a session: its file; NULL: all files */
        struct table *files;                    /* name → struct place */
        int inotify;
        char shown[64];                         /* whose text was shown last */
        bool tty, over;
};
struct place { uint64_t offset; };

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
        (void)sig;
        interrupted = 1;
}

/* ---- showing ------------------------------------------------------------------------------------------------------------------ */

/* On a terminal nothing that a client sent may do more than be read. */
static void print_plain(const struct follow *f, const char *p, size_t len)
{
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)p[i];

                if (!f->tty || c == '\n' || c == '\t' || (c >= 0x20 && c < 0x7f))
                        putchar(c);
                else if (c != '\r')
                        printf("\\x%02x", c);
        }
}

/* Octets that are no UTF-8 become U+FFFD. */
static json_t *text_json(const char *p, size_t len)
{
        struct str out = STR_INIT;
        json_t *json;

        while (len > 0) {
                size_t n = 1;

                while (n < 4 && n < len && ((unsigned char)p[n] & 0xc0) == 0x80)
                        n++;
                if (utf8_valid((struct span){ p, n })) {
                        str_append(&out, p, n);
                } else {
                        n = 1;
                        str_append_str(&out, "\xef\xbf\xbd");
                }
                p += n;
                len -= n;
        }
        json = json_stringn(out.data, out.len);
        str_deinit(&out);
        return json;
}

static void show(struct follow *f, const char *name, const char *p, size_t len)
{
        const char *dash = strchr(name, '-');
        json_t *row;

        if (f->client->json) {
                row = json_pack("{s:s%, s:s, s:o}", "service", name, dash ? (size_t)(dash - name) : strlen(name), "session", dash ? dash + 1 : "",
                                "text", text_json(p, len));
                f->client->row(f->client->ctx, row);
                json_decref(row);
        } else {
                if (strcmp(f->shown, name) != 0) {
                        printf("%s==> %s <==\n", f->shown[0] ? "\n" : "", name);
                        snprintf(f->shown, sizeof f->shown, "%s", name);
                }
                print_plain(f, p, len);
        }
        fflush(stdout);
        if (ferror(stdout))
                f->over = true;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------ */

static bool concerns(const struct follow *f, const char *name)
{
        return name[0] != '.' && (!f->only || strcmp(name, f->only) == 0);
}

static struct place *place_of(struct follow *f, const char *name)
{
        struct place *p = table_find(f->files, span_of(name));

        if (!p) {
                p = xcalloc(1, sizeof *p);
                table_set(f->files, span_of(name), p);
        }
        return p;
}

static int open_file(const struct follow *f, const char *name)
{
        char path[4400];

        if ((size_t)snprintf(path, sizeof path, "%s/%s", f->dir, name) >= sizeof path)
                return -1;
        return open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

static void read_on(struct follow *f, const char *name)
{
        struct place *place = place_of(f, name);
        char buf[CHUNK];
        int fd = open_file(f, name);
        ssize_t n;

        while (fd >= 0 && !f->over && !interrupted && (n = pread(fd, buf, sizeof buf, (off_t)place->offset)) > 0) {
                place->offset += (uint64_t)n;
                show(f, name, buf, (size_t)n);
        }
        if (fd >= 0)
                close(fd);
}

/* What is there already was said before. With `read` what was missed meanwhile is shown. */
static int look_at_all(struct follow *f, bool read, struct err *err)
{
        DIR *d = opendir(f->dir);
        const struct dirent *e;
        struct stat st;

        if (!d)
                return err_errno(err, errno, "%s", f->dir);
        while ((e = readdir(d))) {
                if (!concerns(f, e->d_name))
                        continue;
                if (read)
                        read_on(f, e->d_name);
                else if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
                        place_of(f, e->d_name)->offset = (uint64_t)st.st_size;
        }
        closedir(d);
        return 0;
}

static void take_event(struct follow *f, const struct inotify_event *e, struct err *err)
{
        if (e->mask & IN_Q_OVERFLOW)
                look_at_all(f, true, err);
        if (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))
                f->over = true;
        if (e->len == 0 || !concerns(f, e->name))
                return;
        read_on(f, e->name);
        if (f->only && e->mask & (IN_CLOSE_WRITE | IN_DELETE))
                f->over = true;                         /* the session has ended */
}

static void take_events(struct follow *f, struct err *err)
{
        _Alignas(struct inotify_event) char buf[8192];
        ssize_t n = read(f->inotify, buf, sizeof buf);

        for (char *p = buf; n > 0 && p < buf + n && !f->over;) {
                const struct inotify_event *e = (const struct inotify_event *)p;

                take_event(f, e, err);
                p += sizeof *e + e->len;
        }
}

static int open_inotify(struct follow *f, struct err *err)
{
        f->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (f->inotify < 0)
                return err_errno(err, errno, "inotify");
        if (inotify_add_watch(f->inotify, f->dir, IN_MODIFY | IN_CREATE | IN_CLOSE_WRITE | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR) < 0)
                return err_errno(err, errno, "%s", f->dir);
        return 0;
}

static int follow(struct follow *f, const json_t *left_s, struct err *err)
{
        int64_t end = json_is_integer(left_s) ? clock_wall_s() + (int64_t)json_integer_value(left_s) : INT64_MAX;
        bool told = false;

        while (!f->over && !interrupted && clock_wall_s() < end) {
                struct pollfd fds[2] = { { .fd = f->inotify, .events = POLLIN }, { .fd = STDOUT_FILENO } };

                if (!told && isatty(STDERR_FILENO) && !f->client->json)
                        fputs("(Control-C ends it)\n", stderr);
                told = true;
                if (poll(fds, 2, 1000) < 0 && errno != EINTR)
                        return err_errno(err, errno, "poll");
                if (fds[1].revents & (POLLERR | POLLNVAL))
                        break;                          /* nobody reads any more */
                if (fds[0].revents)
                        take_events(f, err);
        }
        return err->code ? -1 : 0;
}

/* ---- on and off ---------------------------------------------------------------------------------------------------------------- */

static void keep_row(void *ctx, json_t *row)
{
        json_t **kept = ctx;

        if (!*kept)
                *kept = json_incref(row);
}

static int call(struct ctl_client *client, const char *op, json_t *args, json_t **row_r, struct err *err)
{
        struct ctl_client quiet = *client;

        *row_r = NULL;
        quiet.row = keep_row;
        quiet.progress = NULL;
        quiet.waiting = NULL;
        quiet.ctx = row_r;
        return ctl_client_call(&quiet, op, args, err);
}

/* After these the trace must go off again; whoever kills us outright has the end that it was given. */
static void catch_signals(void)
{
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
        struct sigaction sa = { .sa_handler = on_signal };

        for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
                sigaction(signals[i], &sa, NULL);
        signal(SIGPIPE, SIG_IGN);
}

int trace_follow_run(struct ctl_client *client, json_t *args, struct err *err)
{
        struct follow f = { .client = client, .files = table_create(), .inotify = -1, .tty = isatty(STDOUT_FILENO) };
        json_t *off = json_deep_copy(args), *on = NULL, *ignored = NULL;
        struct err second = ERR_INIT;
        struct span name;
        void *value;
        size_t pos = 0;
        int rc;

        catch_signals();
        json_object_del(off, "minutes");
        rc = call(client, "trace.on", args, &on, err);
        if (rc == 0 && !on)
                rc = err_set(err, ERR_INTERNAL, "trace.on has no answer");
        if (rc == 0) {
                f.dir = json_string_value(json_object_get(on, "directory"));
                f.only = json_string_value(json_object_get(on, "file"));
                rc = open_inotify(&f, err) < 0 || look_at_all(&f, false, err) < 0 || follow(&f, json_object_get(on, "left_s"), err) < 0 ? -1 : 0;
                if (!json_is_true(json_object_get(on, "was_on")) && call(client, "trace.off", json_incref(off), &ignored, &second) < 0 &&
                    second.code != ERR_NOTFOUND && rc == 0) {
                        err_copy(err, &second);
                        rc = -1;
                }
        }
        while (table_next(f.files, &pos, &name, &value))
                free(value);
        table_destroy(&f.files);
        if (f.inotify >= 0)
                close(f.inotify);
        json_decref(ignored);
        json_decref(on);
        json_decref(off);
        return rc;
}
