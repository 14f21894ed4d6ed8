/* telemetry - see telemetry.h. The tap is called by the worker that runs the session: no lock is needed. */
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

struct telemetry {
        int fd;                                 /* -1: failed, nothing more is written */
        bool any, from_client;
        int64_t second;
        char session[20];
};

static void fail(struct telemetry *t)
{
        log_event(LOG_WARN, t->session, "telemetry.failed", "reason=\"%s\"", strerror(errno));
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
        t->any = true;
        t->from_client = from_client;
        t->second = now;
        iov[0] = (struct iovec){ mark, strlen(mark) };
        iov[1] = (struct iovec){ (void *)p, len };
        /* A short write means a full disk: stop, a record with a hole would mislead. */
        if (writev(t->fd, iov, 2) != (ssize_t)(iov[0].iov_len + len))
                fail(t);
}

/* A user id is a file name here: none that leaves the directory. */
static bool plain_name(const char *userid)
{
        return userid[0] && userid[0] != '.' && !strchr(userid, '/');
}

struct telemetry *telemetry_start(struct session *s, const struct conf *conf, const char *userid)
{
        const char *dir = conf_str(conf, NULL, "configdirectory");
        struct telemetry *t;
        char path[4096], stamp[64];
        struct stat st;
        time_t now = (time_t)clock_wall_s();
        int fd, n;

        if (!dir || !userid || !plain_name(userid))
                return NULL;
        snprintf(path, sizeof path, "%s/log/%s/%s-%s", dir, userid, service_name(s->service), s->name);
        /* Who owns the directory may have put something else there: a pipe nobody reads must not hold a worker. */
        fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0640);
        if (fd < 0) {
                if (errno != ENOENT && errno != ENOTDIR)
                        log_event(LOG_WARN, s->name, "telemetry.failed", "reason=\"%s\"", strerror(errno));
                return NULL;
        }
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
                log_event(LOG_WARN, s->name, "telemetry.failed", "reason=\"not a file\"");
                close(fd);
                return NULL;
        }
        t = xcalloc(1, sizeof *t);
        t->fd = fd;
        snprintf(t->session, sizeof t->session, "%s", s->name);
        if (!ctime_r(&now, stamp))
                stamp[0] = '\0';
        n = snprintf(path, sizeof path, "---------- %s %s\n", userid, stamp);       /* ctime ends with a newline */
        if (write(fd, path, (size_t)n) != n)
                fail(t);
        stream_tap(s->stream, tap, t);
        return t;
}

bool telemetry_wanted(const struct conf *conf, const char *userid)
{
        const char *dir = conf_str(conf, NULL, "configdirectory");
        char path[4096];

        snprintf(path, sizeof path, "%s/log/%s", dir ? dir : "", userid);
        return access(path, F_OK) == 0;
}

void telemetry_stop(struct session *s, struct telemetry **tp)
{
        struct telemetry *t = *tp;

        *tp = NULL;
        if (!t)
                return;
        stream_tap(s->stream, NULL, NULL);
        if (t->fd >= 0)
                close(t->fd);
        free(t);
}
