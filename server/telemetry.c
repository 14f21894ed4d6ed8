/* telemetry - see telemetry.h */
#include "server/telemetry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "server/service.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define LOOK_EVERY_MS 1000

enum kind { NOTHING, OF_USER, OF_SESSION };

struct telemetry {
        int fd;                                 /* -1: failed or full, nothing more is written */
        enum kind kind;
        bool any, from_client;
        int64_t second;
        int64_t until;                          /* Unix seconds */
        uint64_t left;                          /* octets */
        char session[20];
};

static void fail(struct telemetry *t)
{
        log_event(LOG_WARN, t->session, "telemetry.failed", "reason=\"%s\"", strerror(errno));
        close(t->fd);
        t->fd = -1;
}

static void put(struct telemetry *t, struct iovec *iov, int n)
{
        size_t len = 0;

        for (int i = 0; i < n; i++)
                len += iov[i].iov_len;
        /* A short write means a full disk: stop, a record with a hole would mislead. */
        if (writev(t->fd, iov, n) != (ssize_t)len)
                fail(t);
}

static void end(struct telemetry *t, const char *why)
{
        char line[80];
        int n = snprintf(line, sizeof line, "\n---------- %s\n", why);
        struct iovec iov = { line, (size_t)n };

        put(t, &iov, 1);
        if (t->fd >= 0)
                close(t->fd);
        t->fd = -1;
}

static void tap(void *ctx, bool from_client, const void *p, size_t len)
{
        struct telemetry *t = ctx;
        int64_t now = clock_wall_s();
        char mark[32] = "";
        struct iovec iov[2];

        if (t->fd < 0 || len == 0)
                return;
        if (!t->any || from_client != t->from_client || now != t->second)
                snprintf(mark, sizeof mark, from_client ? "<%lld<" : ">%lld>", (long long)now);
        if (now >= t->until || strlen(mark) + len > t->left) {
                end(t, now >= t->until ? "its time is over" : "telemetry_max_size is reached");
                return;
        }
        t->left -= strlen(mark) + len;
        t->any = true;
        t->from_client = from_client;
        t->second = now;
        iov[0] = (struct iovec){ mark, strlen(mark) };
        iov[1] = (struct iovec){ (void *)p, len };
        put(t, iov, 2);
}

/* ---- whether and where ------------------------------------------------------------------------------------------------------- */

bool telemetry_user_ok(const char *userid)
{
        return userid[0] && userid[0] != '.' && !strchr(userid, '/');
}

bool telemetry_directory(const struct conf *conf, const char *userid, char *buf, size_t size)
{
        const char *dir = conf_str(conf, NULL, "configdirectory");

        if (!dir || (userid && !telemetry_user_ok(userid)))
                return false;
        return (size_t)snprintf(buf, size, "%s/log/%s", dir, userid ? userid : TELEMETRY_SESSIONS) < size;
}

bool telemetry_user_on(const char *directory, int64_t *until_r)
{
        char path[4096];
        struct stat st;

        *until_r = INT64_MAX;
        if (access(directory, W_OK | X_OK) < 0)
                return false;
        if ((size_t)snprintf(path, sizeof path, "%s/" TELEMETRY_UNTIL, directory) < sizeof path && stat(path, &st) == 0)
                *until_r = st.st_mtime;
        return *until_r > clock_wall_s();
}

static enum kind wanted(struct session *s, const struct conf *conf, const char *userid, int64_t *until_r)
{
        char dir[4096];

        if (userid && *userid && telemetry_directory(conf, userid, dir, sizeof dir) && telemetry_user_on(dir, until_r))
                return OF_USER;
        *until_r = session_trace_until(s);
        return *until_r > clock_wall_s() ? OF_SESSION : NOTHING;
}

/* Who owns the directory may have put something else there: a pipe that nobody reads must not hold a worker. Returns -1 when there is
 * nothing to write to. */
static int open_file(struct session *s, const char *dir)
{
        char path[4200];
        struct stat st;
        int fd;

        snprintf(path, sizeof path, "%s/%s-%s", dir, service_name(s->service), s->name);
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
        if (fd < 0) {
                if (errno != ENOENT && errno != ENOTDIR)
                        log_event(LOG_WARN, s->name, "telemetry.failed", "reason=\"%s\"", strerror(errno));
                return -1;
        }
        if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
                return fd;
        log_event(LOG_WARN, s->name, "telemetry.failed", "reason=\"not a file\"");
        close(fd);
        return -1;
}

static void start(struct session *s, struct telemetry_slot *slot, const struct conf *conf, const char *userid, enum kind kind, int64_t until)
{
        uint64_t max = conf_bytes(conf, NULL, "telemetry_max_size");
        time_t now = (time_t)clock_wall_s();
        struct telemetry *t;
        char text[4096], stamp[64];
        struct iovec iov = { text, 0 };
        int fd;

        if (!telemetry_directory(conf, kind == OF_USER ? userid : NULL, text, sizeof text) || (fd = open_file(s, text)) < 0)
                return;
        slot->file = t = xcalloc(1, sizeof *t);
        t->fd = fd;
        t->kind = kind;
        t->until = until;
        t->left = max ? max : UINT64_MAX;
        snprintf(t->session, sizeof t->session, "%s", s->name);
        if (!ctime_r(&now, stamp))
                stamp[0] = '\0';
        iov.iov_len = (size_t)snprintf(text, sizeof text, "---------- %s %s\n", userid && *userid ? userid : "-", stamp);      /* ctime ends a line */
        put(t, &iov, 1);
        stream_tap(s->stream, tap, t);
}

void telemetry_look(struct session *s, struct telemetry_slot *slot, const struct conf *conf, const char *userid, bool now)
{
        uint64_t ms = clock_mono_ms();
        int64_t until;
        enum kind kind;

        if (!s->authenticated || (!now && ms - slot->looked_ms < LOOK_EVERY_MS))
                return;
        slot->looked_ms = ms;
        kind = wanted(s, conf, userid, &until);
        if (slot->file && slot->file->kind == kind) {
                slot->file->until = until;
                return;
        }
        telemetry_stop(s, slot);
        if (kind != NOTHING)
                start(s, slot, conf, userid, kind, until);
}

void telemetry_stop(struct session *s, struct telemetry_slot *slot)
{
        struct telemetry *t = slot->file;

        slot->file = NULL;
        if (!t)
                return;
        stream_tap(s->stream, NULL, NULL);
        if (t->fd >= 0)
                close(t->fd);
        free(t);
}
