/*
 * callout - annotation_callout: the program or socket, and the time it has; see callout.h
 *
 * The message is written to a file below the partition's `stage.` for it to read, and that is gone afterwards. Everything is bounded by one
 * deadline: what does not answer by then is ended (a program) or left alone (a socket), and the message goes on as it is.
 */
#include "server/callout.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "server/child.h"
#include "server/metadata.h"
#include "server/service.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"

#define COPY_PIECE 65536
#define STOP_MS 1000                            /* the daemon stops: so long an answer may still take */
#define POLL_MS 250

struct exchange {
        const char *path;
        uint64_t deadline;                      /* clock_mono_ms() */
        int to, from;                           /* non-blocking; -1: closed */
};

/* ---- the file ---- */

/* Returns a descriptor to be closed; the file is at *path. */
static int write_message(struct stage *stage, struct str *path, struct err *err)
{
        uint64_t size = stage_size(stage);
        char buf[COPY_PIECE];
        int fd, rc = 0;

        str_printf(path, "%s/stage.", stage_partition_dir(stage));
        if (fs_mkdir_p(path->data, 0700, err) < 0)
                return -1;
        str_append_str(path, "/callout-XXXXXX");
        fd = mkostemp(path->data, O_CLOEXEC);
        if (fd < 0)
                return err_errno(err, errno, "create %s", path->data);
        for (uint64_t at = 0; rc == 0 && at < size;) {
                size_t n = size - at < sizeof buf ? (size_t)(size - at) : sizeof buf;

                rc = stage_read(stage, at, buf, n, err) < 0 || fs_write_all(fd, buf, n, err) < 0 ? -1 : 0;
                at += n;
        }
        close(fd);
        if (rc < 0)
                unlink(path->data);
        return rc;
}

/* ---- talking ---- */

static int wait_for(const struct exchange *x, int fd, short events, struct err *err)
{
        struct pollfd p = { .fd = fd, .events = events };
        uint64_t now = clock_mono_ms(), began = now;
        int rc;

        do {
                if (now >= x->deadline)
                        return err_set(err, ERR_TIMEOUT, "no answer in %d seconds", CALLOUT_SECONDS);
                if (engine_stopping() && now >= began + STOP_MS)
                        return err_set(err, ERR_TIMEOUT, "no answer, and the daemon stops");
                rc = poll(&p, 1, (int)(x->deadline - now < POLL_MS ? x->deadline - now : POLL_MS));
                now = clock_mono_ms();
        } while (rc == 0 || (rc < 0 && errno == EINTR));
        return rc < 0 ? err_errno(err, errno, "poll") : 0;
}

/* What it does not want to hear to the end is no failure: it may have answered already. */
static int say(const struct exchange *x, struct span text, struct err *err)
{
        while (text.len) {
                ssize_t n;

                if (wait_for(x, x->to, POLLOUT, err) < 0)
                        return -1;
                n = write(x->to, text.p, text.len);
                if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
                        return 0;
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return err_errno(err, errno, "write to it");
                if (n > 0)
                        text = (struct span){ text.p + n, text.len - (size_t)n };
        }
        return 0;
}

static int hear(const struct exchange *x, const struct callout_message *m, struct arena *arena, struct callout_answer *a, struct err *err)
{
        struct str reply = STR_INIT;
        int rc = 0;

        while (rc == 0) {
                ssize_t n;

                if (wait_for(x, x->from, POLLIN, err) < 0) {
                        rc = -1;
                        break;
                }
                n = read(x->from, str_append_space(&reply, COPY_PIECE), COPY_PIECE);
                str_truncate(&reply, reply.len - (COPY_PIECE - (n > 0 ? (size_t)n : 0)));
                if (n < 0 && errno != EAGAIN && errno != EINTR)
                        rc = err_errno(err, errno, "read from it");
                else if (n == 0)
                        rc = err_set(err, ERR_IO, "it ended without an answer");
                else if (reply.len > CALLOUT_REPLY_MAX)
                        rc = err_set(err, ERR_LIMIT, "its answer is too long");
                else if ((rc = callout_parse(arena_span(arena, str_span(&reply)), m, arena, a)) < 0)
                        err_set(err, ERR_SYNTAX, "its answer is no list");
        }
        str_deinit(&reply);
        return rc < 0 ? -1 : 0;
}

static int talk(const struct exchange *x, const struct callout_message *m, struct arena *arena, struct callout_answer *a, struct err *err)
{
        struct str file = STR_INIT, body = STR_INIT, text = STR_INIT;
        int rc = write_message(m->stage, &file, err);

        if (rc == 0) {
                callout_render(m, file.data, &body);
                str_printf(&text, "%zu\n", body.len);
                str_append_span(&text, str_span(&body));
                str_append_str(&text, "0\n");
                rc = say(x, str_span(&text), err);
                if (rc == 0)
                        rc = hear(x, m, arena, a, err);
                unlink(file.data);
        }
        str_deinit(&file);
        str_deinit(&body);
        str_deinit(&text);
        return rc;
}

/* ---- whom ---- */

static int ask_socket(struct exchange *x, const struct callout_message *m, struct arena *arena, struct callout_answer *a, struct err *err)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd, rc;

        if ((size_t)snprintf(address.sun_path, sizeof address.sun_path, "%s", x->path) >= sizeof address.sun_path)
                return err_set(err, ERR_LIMIT, "its path is too long for a socket");
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return err_errno(err, errno, "socket");
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
                rc = err_errno(err, errno, "connect to it");
        } else {
                x->to = x->from = fd;
                rc = talk(x, m, arena, a, err);
        }
        close(fd);
        return rc;
}

static void end_program(pid_t pid, int pidfd)
{
        if (pidfd >= 0)
                syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        else
                kill(pid, SIGKILL);
}

static int ask_program(struct exchange *x, const struct callout_message *m, struct arena *arena, struct callout_answer *a, struct err *err)
{
        char *argv[] = { arena_strdup(arena, x->path), NULL };
        struct child_options options = { .argv = argv, .id = -1, .fd3 = -1, .fd4 = -1 };
        int in[2], out[2], pidfd, rc;
        pid_t pid;

        if (pipe2(in, O_CLOEXEC) < 0)
                return err_errno(err, errno, "pipe");
        if (pipe2(out, O_CLOEXEC) < 0) {
                close(in[0]);
                close(in[1]);
                return err_errno(err, errno, "pipe");
        }
        options.fd0 = in[0];
        options.fd1 = out[1];
        pid = child_start(&options, err);
        close(in[0]);
        close(out[1]);
        if (pid < 0) {
                close(in[1]);
                close(out[0]);
                return -1;
        }
        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        fcntl(in[1], F_SETFL, O_NONBLOCK);
        fcntl(out[0], F_SETFL, O_NONBLOCK);
        x->to = in[1];
        x->from = out[0];
        rc = talk(x, m, arena, a, err);
        close(in[1]);
        close(out[0]);
        if (rc < 0)
                end_program(pid, pidfd);                        /* its status is taken by the daemon's main thread, as that of any child */
        if (pidfd >= 0)
                close(pidfd);
        return rc;
}

int callout_run(const char *path, const struct callout_message *m, struct arena *arena, struct callout_answer *a, struct err *err)
{
        struct exchange x = { .path = path, .deadline = clock_mono_ms() + CALLOUT_SECONDS * 1000, .to = -1, .from = -1 };
        struct stat st;

        if (stat(path, &st) < 0)
                return err_errno(err, errno, "%s", path);
        if (S_ISSOCK(st.st_mode))
                return ask_socket(&x, m, arena, a, err);
        if (S_ISREG(st.st_mode) && access(path, X_OK) == 0)
                return ask_program(&x, m, arena, a, err);
        return err_set(err, ERR_UNSUPPORTED, "%s is neither a program nor a socket", path);
}

/* ---- for who takes messages in ---- */

const char *callout_path(const struct conf *conf, const char *service, bool again)
{
        const char *path = conf_str(conf, service, "annotation_callout");

        return path && *path && !(again && conf_switch(conf, service, "annotation_callout_disable_append")) ? path : NULL;
}

bool callout_ask(const char *path, const char *session, const struct callout_message *m, struct arena *arena, struct callout_answer *a)
{
        char buf[2][LOG_QUOTE_MAX];
        struct err err = ERR_INIT;

        if (callout_run(path, m, arena, a, &err) < 0) {
                log_event(LOG_ERROR, session, "callout.failed", "path=%s reason=%s", log_quote_str(buf[0], path),
                          log_quote_str(buf[1], err.text));
                return false;
        }
        if (a->odd)
                log_event(LOG_WARN, session, "callout.odd", "path=%s reason=\"not all of its answer is understood\"",
                          log_quote_str(buf[0], path));
        return true;
}

/* What was to be set already gives way to what the answer says of the same. */
static uint32_t without(const struct callout_answer *a, const char *user, const struct callout_message *m, struct annot *list)
{
        uint32_t n = 0;

        for (uint32_t i = 0; i < m->annots_n; i++) {
                bool replaced = false;

                for (uint32_t k = 0; k < a->annots_n && !replaced; k++)
                        replaced = strcmp(m->annots[i].entry, a->annots[k].entry) == 0 &&
                                   strcmp(m->annots[i].user, a->annots[k].private ? user : "") == 0;
                if (!replaced)
                        list[n++] = m->annots[i];
        }
        return n;
}

static bool may_be_set(struct conf *conf, const struct callout_annot *annot, const char *user, struct store *store, struct err *err)
{
        if (annot->private && !*user)
                return err_set(err, ERR_PERM, "%s: it is nobody's", annot->entry) == 0;
        if (annot_check_entry(span_of(annot->entry), err) < 0)
                return false;
        if (annot->value.len > ANNOT_VALUE_MAX)
                return err_set(err, ERR_LIMIT, "%s: the value is too large", annot->entry) == 0;
        if (metadata_message_check(conf, annot->entry, 0, annot->private, annot->value, ~0u, true, err) < 0)
                return false;
        return !annot->private || annot_user_make(store, user, err) == 0;
}

uint32_t callout_changes(struct store *store, struct conf *conf, const char *session, const char *user, const struct callout_answer *a,
                         struct arena *arena, struct annot **list_r)
{
        struct annot *list = ARENA_ARRAY(arena, struct annot, a->annots_n);
        char buf[LOG_QUOTE_MAX];
        uint32_t n = 0;

        for (uint32_t i = 0; i < a->annots_n; i++) {
                const struct callout_annot *annot = &a->annots[i];
                struct err err = ERR_INIT;
                bool later = false;

                for (uint32_t k = i + 1; k < a->annots_n && !later; k++)        /* the last one counts */
                        later = a->annots[k].private == annot->private && strcmp(a->annots[k].entry, annot->entry) == 0;
                if (later)
                        continue;
                if (may_be_set(conf, annot, user, store, &err))
                        list[n++] = (struct annot){ .entry = annot->entry, .user = annot->private ? user : "", .value = annot->value };
                else
                        log_event(LOG_WARN, session, "callout.annotation", "reason=%s", log_quote_str(buf, err.text));
        }
        *list_r = list;
        return n;
}

uint32_t callout_annots(struct store *store, struct conf *conf, const char *session, const char *user, const struct callout_message *m,
                        const struct callout_answer *a, struct arena *arena, struct annot **list_r)
{
        struct annot *list = ARENA_ARRAY(arena, struct annot, m->annots_n + a->annots_n), *changes;
        uint32_t n = without(a, user, m, list), changes_n = callout_changes(store, conf, session, user, a, arena, &changes);

        for (uint32_t i = 0; i < changes_n; i++)
                if (changes[i].value.p)
                        list[n++] = changes[i];
        *list_r = list;
        return n;
}
