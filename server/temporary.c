/* temporary - see temporary.h */
#include "server/temporary.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/child.h"
#include "server/ctl/client.h"
#include "server/service.h"
#include "util/clock.h"
#include "util/log.h"

#define FIRST_MS 10000                          /* the first client comes within this, or never */
#define LAST_MS 2000                            /* after the last one has left: who comes now is spared the opening */
#define LOOK_MS 250
#define GRACE_MS 5000                           /* for sessions, when it is told to stop */
#define BACKLOG 128

/* What the child says when it has begun, or cannot. */
struct report { enum err_code code; char text[ERR_TEXT_MAX]; };

/* ---- in the child --------------------------------------------------------------------------------------------------------------- */

static void count_clients(void *ctx, const char *name, const char *protocol, unsigned connections, uint64_t total)
{
        uint64_t *n = ctx;

        (void)name;
        if (strcmp(protocol, "control") == 0)
                return;
        n[0] += connections;
        n[1] += total;
}

static int open_signals(void)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGQUIT);
        sigaddset(&set, SIGHUP);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
        return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* Until the last client has left, or a signal comes. HUP: there is nothing to read again that matters for so short a life. */
static void run(int signals)
{
        uint64_t empty_since = clock_mono_ms();

        for (;;) {
                struct pollfd fd = { .fd = signals, .events = POLLIN };
                struct signalfd_siginfo info;
                uint64_t clients[2] = { 0, 0 }, now;

                if (poll(&fd, 1, LOOK_MS) > 0 && read(signals, &info, sizeof info) == (ssize_t)sizeof info && info.ssi_signo != SIGHUP)
                        return;
                now = clock_mono_ms();
                engine_each_service(count_clients, clients);
                if (clients[0] > 0)
                        empty_since = now;
                else if (now - empty_since >= (clients[1] ? LAST_MS : FIRST_MS))
                        return;
        }
}

/* Nothing that was inherited stays: neither the client's socket nor what a terminal waits for. */
static void leave_everything(int keep)
{
        int null = open("/dev/null", O_RDWR);

        setsid();
        for (int fd = 0; fd <= STDERR_FILENO; fd++)
                if (null >= 0)
                        dup2(null, fd);
        syscall(SYS_close_range, 3, keep - 1, 0);
        syscall(SYS_close_range, keep + 1, ~0u, 0);
        if (chdir("/") < 0)
                log_event(LOG_DBG, NULL, "temporary.start", "reason=\"no directory to go to\"");
}

static void tell(int fd, const struct err *err)
{
        struct report r = { .code = err->code };

        memcpy(r.text, err->text, sizeof r.text);
        if (write(fd, &r, sizeof r) != (ssize_t)sizeof r)
                log_event(LOG_DBG, NULL, "temporary.start", "reason=\"nobody waits any more\"");
        close(fd);
}

static void child_main(struct conf *conf, const struct daemon_ops *ops, int inherited_fd)
{
        int report_fd = fcntl(inherited_fd, F_DUPFD_CLOEXEC, 10);       /* out of the way of 0 to 2 */
        struct conf_live *live = conf_live_create(conf_ref(conf));
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];
        int signals, rc;

        leave_everything(report_fd);
        child_init();
        child_raise_fd_limit();
        prctl(PR_SET_NAME, "cyrd");
        log_open(LOG_TO_SYSLOG, "cyrd", -1, conf_switch(conf, NULL, "debug") ? LOG_DBG : LOG_INFORM);
        umask((mode_t)strtoul(conf_str(conf, NULL, "umask"), NULL, 8) & 0777);
        signals = open_signals();
        rc = ops->open(live, BACKLOG, true, &err);
        if (rc < 0 && err.code != ERR_BUSY)
                log_event(LOG_ERROR, NULL, "temporary.failed", "reason=%s", log_quote_str(quoted, err.text));
        tell(report_fd, &err);
        if (rc == 0) {
                log_event(LOG_NOTE, NULL, "temporary.ready", "pid=%d", (int)getpid());
                run(signals);
        }
        ops->close(rc == 0 ? GRACE_MS : 0);
        if (rc == 0)
                log_event(LOG_NOTE, NULL, "temporary.stopped", "pid=%d", (int)getpid());
        conf_live_destroy(&live);
        _exit(rc == 0 ? 0 : 1);
}

/* ---- in the program that has a client ----------------------------------------------------------------------------------------------- */

int temporary_start(struct conf *conf, const struct daemon_ops *ops, struct err *err)
{
        struct report r = { .code = ERR_INTERNAL, .text = "the temporary daemon ended before it was ready" };
        int fds[2], status;
        ssize_t n;
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return err_errno(err, errno, "pipe");
        pid = fork();
        if (pid == 0) {
                /* Twice, so that it is nobody's child. */
                if (fork() == 0)
                        child_main(conf, ops, fds[1]);
                _exit(0);
        }
        close(fds[1]);
        if (pid > 0)
                while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                        ;
        do
                n = pid < 0 ? -1 : read(fds[0], &r, sizeof r);
        while (n < 0 && errno == EINTR && pid > 0);
        close(fds[0]);
        if (pid < 0)
                return err_errno(err, EAGAIN, "fork");
        if (r.code == ERR_NONE)
                return 0;
        r.text[sizeof r.text - 1] = '\0';
        return err_set(err, r.code, "%s", r.text);
}

static void no_row(void *ctx, json_t *row)
{
        (void)ctx;
        (void)row;
}

bool temporary_make_way(struct conf *conf)
{
        struct ctl_client client = { .conf = conf, .row = no_row };
        struct timeval patience = { .tv_sec = 5 };
        struct err err = ERR_INIT;
        bool going;

        if (ctl_client_connect(&client, &err) < 0)
                return false;
        setsockopt(client.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        going = ctl_client_call(&client, "temporary.end", json_object(), &err) == 0;
        ctl_client_close(&client);
        if (going)
                log_event(LOG_NOTE, NULL, "daemon.start", "reason=\"a temporary daemon makes way\"");
        return going;
}
