/* client - see client.h */
#include "server/ctl/client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/control/ops.h"
#include "server/identity.h"
#include "store/store.h"
#include "util/fs.h"
#include "util/must.h"

#define WAITING_MS 1000

static const struct ctl_store_hooks *hooks;     /* set once, by main() */

void ctl_client_set_hooks(const struct ctl_store_hooks *given)
{
        hooks = given;
}

static void close_store(struct store **store)
{
        if (*store && hooks)
                hooks->closing();
        if (*store) {
                store_close(store);
                if (hooks)
                        hooks->closed();
        }
}

/* 0 with a descriptor; -1 and *absent_r true when nobody listens there. */
static int connect_daemon(const char *path, int *fd_r, bool *absent_r, struct err *err)
{
        struct sockaddr_un sun = { .sun_family = AF_UNIX };
        int fd;

        *absent_r = false;
        if (strlen(path) >= sizeof sun.sun_path)
                return err_set(err, ERR_CONFIG, "control_socket %s: the path is too long", path);
        memcpy(sun.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return err_errno(err, errno, "socket");
        if (connect(fd, (struct sockaddr *)&sun, sizeof sun) < 0) {
                int e = errno;

                close(fd);
                *absent_r = e == ENOENT || e == ECONNREFUSED;
                return err_errno(err, e, "connect %s", path);
        }
        *fd_r = fd;
        return 0;
}

static enum err_code code_by_name(const char *name)
{
        for (int c = 1; name && c < ERR_CODE_MAX; c++)
                if (strcmp(err_code_name((enum err_code)c), name) == 0)
                        return (enum err_code)c;
        return ERR_INTERNAL;
}

/* One reply line. 1: the last one was good; -1: it was an error; 0: go on. */
static int take_reply(struct ctl_client *client, const char *line, size_t len, struct err *err)
{
        json_error_t error;
        json_t *reply = json_loadb(line, len, 0, &error), *part;
        int rc = 0;

        if (!reply)
                return err_set(err, ERR_INTERNAL, "the daemon's answer is not JSON: %s", error.text);
        if ((part = json_object_get(reply, "row"))) {
                client->row(client->ctx, part);
        } else if ((part = json_object_get(reply, "progress"))) {
                if (client->progress)
                        client->progress(client->ctx, (uint64_t)json_integer_value(json_object_get(part, "done")),
                                         (uint64_t)json_integer_value(json_object_get(part, "total")),
                                         json_string_value(json_object_get(part, "unit")));
        } else if (json_is_true(json_object_get(reply, "ok"))) {
                rc = 1;
        } else {
                const char *text = json_string_value(json_object_get(reply, "error"));

                rc = err_set(err, code_by_name(json_string_value(json_object_get(reply, "code"))), "%s", text ? text : "failed");
        }
        json_decref(reply);
        return rc;
}

/* Replies up to the last one. */
static int take_replies(struct ctl_client *client, int fd, struct err *err)
{
        struct str in = STR_INIT;
        int rc = 0;

        while (rc == 0) {
                char *end = memchr(in.data, '\n', in.len);
                ssize_t n;

                if (end) {
                        rc = take_reply(client, in.data, (size_t)(end - in.data), err);
                        str_consume(&in, (size_t)(end - in.data) + 1);
                        continue;
                }
                if (client->waiting && poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, WAITING_MS) == 0) {
                        client->waiting(client->ctx);
                        continue;
                }
                str_reserve(&in, 65536);
                n = read(fd, in.data + in.len, 65536);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        rc = err_set(err, ERR_CLOSED, "the daemon hung up");
                else
                        in.len += (size_t)n;
        }
        str_deinit(&in);
        return rc > 0 ? 0 : -1;
}

static int send_object(int fd, json_t *object, struct err *err)
{
        char *text = json_dumps(object, JSON_COMPACT);
        int rc;

        json_decref(object);
        must(text != NULL);
        rc = fs_write_all(fd, text, strlen(text), err) < 0 || fs_write_all(fd, "\n", 1, err) < 0 ? -1 : 0;
        free(text);
        return rc;
}

/* They travel with an octet; a blank in front of an object is none of it. */
static int send_fds(struct ctl_client *client, int fd, struct err *err)
{
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof client->send_fds)];
        char blank[] = " ";
        struct iovec iov = { blank, 1 };
        size_t size = client->send_fds_n * sizeof *client->send_fds;
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(size) };
        struct cmsghdr *c;
        ssize_t n;

        if (size == 0)
                return 0;
        memset(control, 0, sizeof control);
        c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(size);
        memcpy(CMSG_DATA(c), client->send_fds, size);
        do
                n = sendmsg(fd, &m, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        client->send_fds_n = 0;
        return n == 1 ? 0 : err_errno(err, errno, "sendmsg");
}

static int call_daemon(struct ctl_client *client, int fd, const char *op, json_t *args, struct err *err)
{
        if (send_fds(client, fd, err) < 0) {
                json_decref(args);
                return -1;
        }
        return send_object(fd, json_pack("{s:s, s:o}", "op", op, "args", args), err) < 0 ? -1 : take_replies(client, fd, err);
}

static void local_row(struct ctl_call *call, json_t *row)
{
        struct ctl_client *client = call->ctx;

        /* As the daemon does: what is no UTF-8 is a row missing, not the end. */
        if (!row)
                row = json_pack("{s:s}", "error", "a row that is not valid UTF-8");
        client->row(client->ctx, row);
        json_decref(row);
}

static void local_progress(struct ctl_call *call, uint64_t done, uint64_t total, const char *unit)
{
        struct ctl_client *client = call->ctx;

        if (client->progress)
                client->progress(client->ctx, done, total, unit);
}

static bool never_cancelled(struct ctl_call *call)
{
        (void)call;
        return false;
}

/* Never opened for reading only, not even to look: after an unclean stop what is there has to be recovered first. */
static const char *socket_path(const struct ctl_client *client)
{
        return client->socket ? client->socket : conf_str(client->conf, NULL, "control_socket");
}

static int open_store(struct ctl_client *client, struct store **store_r, struct err *err)
{
        struct store_options options = { .conf = client->conf, .no_threads = true };
        struct identity id;
        int rc;

        /* As the user the daemon runs as: what root would make there the daemon could not write. */
        if (identity_find(client->conf, &id, err) < 0 || identity_become(&id, err) < 0)
                return -1;
        rc = store_open(&options, store_r, err);
        if (rc < 0 && err->code == ERR_BUSY)            /* its daemon has another control_socket, is starting, or is none of ours */
                err_prefix(err, "nobody listens on %s, but the store is in use", socket_path(client));
        if (rc == 0 && hooks && hooks->opened(*store_r, client->conf, err) < 0) {
                store_close(store_r);
                rc = -1;
        }
        return rc;
}

static int call_local(struct ctl_client *client, const struct ctl_op *op, json_t *args, struct err *err)
{
        struct ctl_call call = { .conf = client->conf, .args = args, .row = local_row, .progress = local_progress,
                                 .cancelled = never_cancelled, .ctx = client };
        int rc = op->flags & CTL_NO_STORE ? 0 : open_store(client, &call.store, err);

        if (rc == 0)
                rc = op->fn(&call, err);
        close_store(&call.store);
        json_decref(args);
        return rc;
}

/* ---- a child that has the store open and speaks as the daemon does: we stay who we are, and can read and write other files ---- */

static void child_row(struct ctl_call *call, json_t *row)
{
        int *fd = call->ctx;

        send_object(*fd, row ? json_pack("{s:o}", "row", row) : json_pack("{s:{s:s}}", "row", "error", "a row that is not valid UTF-8"), NULL);
}

static void child_progress(struct ctl_call *call, uint64_t done, uint64_t total, const char *unit)
{
        int *fd = call->ctx;

        send_object(*fd, json_pack("{s:{s:I, s:I, s:s}}", "progress", "done", (json_int_t)done, "total", (json_int_t)total, "unit", unit), NULL);
}

static int child_answer(int fd, int rc, const struct err *err)
{
        json_t *object = rc == 0 ? json_pack("{s:b}", "ok", 1)
                                 : json_pack("{s:b, s:s, s:s}", "ok", 0, "code", err_code_name(err->code), "error", err->text);

        return send_object(fd, object ? object : json_pack("{s:b, s:s}", "ok", 0, "code", "internal"), NULL);
}

/* Runs until the parent hangs up, however it ends; then the store is closed cleanly. */
static void child_main(struct ctl_client *client, int fd)
{
        struct ctl_call call = { .conf = client->conf, .row = child_row, .progress = child_progress, .cancelled = never_cancelled, .ctx = &fd };
        struct err err = ERR_INIT;
        FILE *in = fdopen(dup(fd), "r");
        char *line = NULL;
        size_t cap = 0;
        int rc = in ? open_store(client, &call.store, &err) : err_errno(&err, errno, "fdopen");

        signal(SIGPIPE, SIG_IGN);
        child_answer(fd, rc, &err);
        while (rc == 0 && getline(&line, &cap, in) > 0) {
                json_error_t error;
                json_t *request = json_loads(line, 0, &error);
                const struct ctl_op *op = ctl_op_find(json_string_value(json_object_get(request, "op")));

                err_clear(&err);
                call.args = json_object_get(request, "args");
                child_answer(fd, op ? op->fn(&call, &err) : err_set(&err, ERR_UNAVAILABLE, "the daemon is not running"), &err);
                json_decref(request);
        }
        close_store(&call.store);
        free(line);
        _exit(0);
}

static int start_child(struct ctl_client *client, struct err *err)
{
        int fds[2];
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return err_errno(err, errno, "socketpair");
        fflush(NULL);
        pid = fork();
        if (pid == 0) {
                close(fds[0]);
                child_main(client, fds[1]);
        }
        close(fds[1]);
        if (pid < 0) {
                close(fds[0]);
                return err_errno(err, errno, "fork");
        }
        client->fd = fds[0];
        client->child = pid;
        return take_replies(client, client->fd, err);
}

int ctl_client_open(struct ctl_client *client, struct err *err)
{
        bool absent = false;

        if (connect_daemon(socket_path(client), &client->fd, &absent, err) == 0)
                return 0;
        if (!absent)
                return -1;
        err_clear(err);
        return start_child(client, err);
}

static int not_running(const struct ctl_client *client, struct err *err)
{
        return err_set(err, ERR_UNAVAILABLE, "the daemon is not running (nobody listens on %s)", socket_path(client));
}

int ctl_client_connect(struct ctl_client *client, struct err *err)
{
        bool absent = false;

        return connect_daemon(socket_path(client), &client->fd, &absent, err) == 0 ? 0 : absent ? not_running(client, err) : -1;
}

void ctl_client_close(struct ctl_client *client)
{
        if (client->fd > 0)
                close(client->fd);
        while (client->child > 0 && waitpid(client->child, NULL, 0) < 0 && errno == EINTR)
                ;
        client->fd = 0;
        client->child = 0;
}

int ctl_client_call(struct ctl_client *client, const char *name, json_t *args, struct err *err)
{
        const struct ctl_op *op = ctl_op_find(name);
        bool absent = false;
        int fd = -1, rc;

        if (client->fd > 0)
                return call_daemon(client, client->fd, name, args, err);
        if (connect_daemon(socket_path(client), &fd, &absent, err) == 0) {
                rc = call_daemon(client, fd, name, args, err);
                close(fd);
                return rc;
        }
        if (!absent || !op || op->flags & CTL_NEEDS_DAEMON) {           /* NULL: of a layer that this program does not have */
                json_decref(args);
                return absent ? not_running(client, err) : -1;
        }
        err_clear(err);
        return call_local(client, op, args, err);
}
