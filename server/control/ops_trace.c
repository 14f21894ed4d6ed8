/*
 * ops_trace - telemetry (server/telemetry.h) of a user or of one session, switched on and off, for open sessions at once.
 *
 * A user's is on while log/<user>/ may be written to: "off" takes the right to write away and leaves what was recorded. With the daemon down
 * a user's can be switched too.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/control/ops.h"
#include "server/service.h"
#include "server/telemetry.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/user.h"
#include "util/clock.h"
#include "util/fs.h"

#define MINUTES_DEFAULT 60
#define MINUTES_MAX (366 * 24 * 60)

struct target {
        struct arena arena;
        const char *session;                    /* NULL: a user */
        const char *user;                       /* of a session: who it is, "" before log-in */
        char dir[4096];
        char file[64];                          /* of a session: its name in `dir` */
};

struct finder { const char *name; bool found; struct session_info info; };

static void find_session(void *ctx, const struct session_info *info)
{
        struct finder *f = ctx;

        if (strcmp(info->name, f->name) == 0 && strcmp(info->protocol, "control") != 0) {
                f->found = true;
                f->info = *info;
        }
}

static bool has_session(const char *userid)
{
        return engine_touch_user(userid) > 0;
}

/* A name that nobody has is a slip of the pen, unless it is said to be a user. */
static int find_user(struct ctl_call *call, const char *given, struct target *t, struct err *err)
{
        const struct mbentry *e;

        if (user_canonify(call->store, given, &t->arena, &t->user, err) < 0)
                return -1;
        if (!telemetry_directory(call->conf, t->user, t->dir, sizeof t->dir))
                return err_set(err, ERR_BADNAME, "there is no telemetry for a user of that name");
        if (ctl_arg_bool(call, "user") || fs_exists(t->dir) || (call->in_daemon && has_session(t->user)))
                return 0;
        e = mboxlist_find(store_mboxlist(call->store), mailname_inbox_of(t->user, &t->arena));
        if (!e)
                return err_set(err, ERR_NOTFOUND, "neither a session nor a user is called %s (-u: it is a user all the same)", given);
        mbentry_unref(&e);
        return 0;
}

/* The caller ends t->arena. */
static int find_target(struct ctl_call *call, struct target *t, struct err *err)
{
        const char *given = ctl_arg(call, "target");
        struct finder f = { .name = given };

        *t = (struct target){ .arena = ARENA_INIT };
        if (!given || !*given)
                return err_set(err, ERR_SYNTAX, "a user or a session is wanted");
        if (call->in_daemon && !ctl_arg_bool(call, "user"))
                engine_each_session(find_session, &f);
        if (!f.found)
                return find_user(call, given, t, err);
        t->session = arena_strdup(&t->arena, f.info.name);
        t->user = arena_strdup(&t->arena, f.info.user);
        snprintf(t->file, sizeof t->file, "%s-%s", f.info.service, f.info.name);
        return telemetry_directory(call->conf, NULL, t->dir, sizeof t->dir) ? 0 : err_set(err, ERR_CONFIG, "configdirectory is not set");
}

static int make_directory(const char *dir, struct err *err)
{
        struct stat st;

        if (fs_mkdir_p(dir, 0700, err) < 0)
                return -1;
        if (stat(dir, &st) < 0)
                return err_errno(err, errno, "%s", dir);
        if (!S_ISDIR(st.st_mode))
                return err_set(err, ERR_EXISTS, "%s is not a directory", dir);
        if ((st.st_mode & 0700) != 0700 && chmod(dir, (st.st_mode & 07777) | 0700) < 0)
                return err_errno(err, errno, "%s", dir);
        if (access(dir, W_OK | X_OK) < 0)
                return err_set(err, ERR_PERM, "%s belongs to somebody else: the daemon's user cannot write there", dir);
        return 0;
}

/* The end of a user's telemetry: the modification time of a file in the directory, which outlives us. */
static int set_until(const char *dir, int64_t until, struct err *err)
{
        struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = (time_t)until } };
        char path[4200];
        int fd;

        snprintf(path, sizeof path, "%s/" TELEMETRY_UNTIL, dir);
        if (until == INT64_MAX)
                return unlink(path) == 0 || errno == ENOENT ? 0 : err_errno(err, errno, "%s", path);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        if (fd < 0 || futimens(fd, times) < 0) {
                err_errno(err, errno, "%s", path);
                if (fd >= 0)
                        close(fd);
                return -1;
        }
        close(fd);
        return 0;
}

/* "minutes" → Unix seconds, INT64_MAX: 0 minutes, no end. */
static int arg_until(struct ctl_call *call, int64_t *until_r, struct err *err)
{
        const char *text = ctl_arg(call, "minutes");
        uint64_t minutes = MINUTES_DEFAULT;

        if (text && !span_u64(span_of(text), MINUTES_MAX, &minutes))
                return err_set(err, ERR_SYNTAX, "minutes: a number from 0 (no end) to %d is wanted", MINUTES_MAX);
        *until_r = minutes ? clock_wall_s() + (int64_t)minutes * 60 : INT64_MAX;
        return 0;
}

/* "left_s": seconds until it ends by itself; not there: it does not. */
static void add_left(json_t *row, int64_t until)
{
        if (row && until != INT64_MAX)
                json_object_set_new(row, "left_s", json_integer((json_int_t)(until - clock_wall_s())));
}

static void answer(struct ctl_call *call, const struct target *t, bool on, bool was_on, int64_t until)
{
        json_t *row = json_pack("{s:s, s:s, s:s, s:b, s:b, s:s}", "kind", t->session ? "session" : "user", t->session ? "session" : "user",
                                t->session ? t->session : t->user, "trace", on ? "on" : "off", "on", on, "was_on", was_on, "directory", t->dir);

        if (row && t->session) {
                json_object_set_new(row, "user", json_string(t->user));
                json_object_set_new(row, "file", json_string(t->file));
        }
        if (on)
                add_left(row, until);
        call->row(call, row);
}

static int64_t session_until(const char *name)
{
        struct finder f = { .name = name };

        engine_each_session(find_session, &f);
        return f.found ? f.info.trace_until : 0;
}

static int no_session(const struct target *t, struct err *err)
{
        return err_set(err, ERR_NOTFOUND, "the session %s has ended", t->session);
}

int ctl_trace_on(struct ctl_call *call, struct err *err)
{
        struct target t;
        int64_t until = 0, before;
        bool was_on = false;
        int rc;

        if (arg_until(call, &until, err) < 0)
                return -1;
        rc = find_target(call, &t, err);
        if (rc == 0 && t.session) {
                was_on = session_until(t.session) > clock_wall_s();
                rc = make_directory(t.dir, err);
                if (rc == 0 && !engine_trace(t.session, until))
                        rc = no_session(&t, err);
        } else if (rc == 0) {
                was_on = telemetry_user_on(t.dir, &before);
                rc = make_directory(t.dir, err) < 0 || set_until(t.dir, until, err) < 0 ? -1 : 0;
                if (call->in_daemon)
                        engine_touch_user(t.user);
        }
        if (rc == 0)
                answer(call, &t, true, was_on, until);
        arena_deinit(&t.arena);
        return rc;
}

int ctl_trace_off(struct ctl_call *call, struct err *err)
{
        struct target t;
        int64_t until;
        int rc = find_target(call, &t, err);
        bool was_on = false;
        struct stat st;

        if (rc == 0 && t.session) {
                was_on = session_until(t.session) > clock_wall_s();
                if (!engine_trace(t.session, 0))
                        rc = no_session(&t, err);
        } else if (rc == 0) {
                was_on = telemetry_user_on(t.dir, &until);
                if (stat(t.dir, &st) == 0 && (set_until(t.dir, INT64_MAX, err) < 0 || chmod(t.dir, st.st_mode & 07555) < 0))
                        rc = err->code ? -1 : err_errno(err, errno, "%s", t.dir);
                if (call->in_daemon)
                        engine_touch_user(t.user);
        }
        if (rc == 0)
                answer(call, &t, false, was_on, 0);
        arena_deinit(&t.arena);
        return rc;
}

/* ---- what is on ---------------------------------------------------------------------------------------------------------------- */

static void count_files(const char *dir, uint64_t *files, uint64_t *octets)
{
        DIR *d = opendir(dir);
        const struct dirent *e;
        struct stat st;

        *files = *octets = 0;
        while (d && (e = readdir(d)))
                if (e->d_name[0] != '.' && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
                        ++*files;
                        *octets += (uint64_t)st.st_size;
                }
        if (d)
                closedir(d);
}

static void list_session(void *ctx, const struct session_info *info)
{
        struct ctl_call *call = ctx;
        json_t *row;

        if (info->trace_until <= clock_wall_s())
                return;
        row = json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "kind", "session", "session", info->name, "user", info->user, "service", info->service, "on",
                        true, "peer", info->peer);
        add_left(row, info->trace_until);
        call->row(call, row);
}

/* Users that have been recorded, whether they are now, how much there is; then single sessions. */
int ctl_trace_list(struct ctl_call *call, struct err *err)
{
        const char *configdirectory = conf_str(call->conf, NULL, "configdirectory");
        char log_dir[4096], dir[4096];
        const struct dirent *e;
        struct stat st;
        DIR *d;

        (void)err;
        snprintf(log_dir, sizeof log_dir, "%s/log", configdirectory ? configdirectory : "");
        d = opendir(log_dir);
        while (d && !call->cancelled(call) && (e = readdir(d))) {
                uint64_t files, octets;
                int64_t until;
                json_t *row;
                bool on;

                if (!telemetry_user_ok(e->d_name) || !telemetry_directory(call->conf, e->d_name, dir, sizeof dir) || stat(dir, &st) < 0 ||
                    !S_ISDIR(st.st_mode))
                        continue;
                on = telemetry_user_on(dir, &until);
                count_files(dir, &files, &octets);
                row = json_pack("{s:s, s:s, s:b, s:I, s:I, s:s}", "kind", "user", "user", e->d_name, "on", on, "files", (json_int_t)files, "octets",
                                (json_int_t)octets, "directory", dir);
                if (on)
                        add_left(row, until);
                call->row(call, row);
        }
        if (d)
                closedir(d);
        if (call->in_daemon)
                engine_each_session(list_session, call);
        return 0;
}
