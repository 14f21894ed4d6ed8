/* child - see child.h */
#include "server/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/names.h"
#include "util/array.h"
#include "util/clock.h"

/* Set once by child_init(), before threads; read-only afterwards. */
static char own_path[PATH_MAX];
static char own_dir[PATH_MAX];
static int own_fd = -1;
static struct rlimit first_limit;

extern char **environ;

void child_init(void)
{
        ssize_t n = readlink("/proc/self/exe", own_path, sizeof own_path - 1);
        char *slash;
        int fd;

        /* Whoever started us without some of 0-2: nothing of ours may land there. */
        while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= STDERR_FILENO)
                ;
        if (fd > STDERR_FILENO)
                close(fd);
        if (n < 0)
                n = 0;
        own_path[n] = '\0';
        memcpy(own_dir, own_path, (size_t)n + 1);
        slash = strrchr(own_dir, '/');
        if (slash)
                *slash = '\0';
        own_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
        getrlimit(RLIMIT_NOFILE, &first_limit);
}

const char *child_own_dir(void)
{
        return own_dir;
}

void child_raise_fd_limit(void)
{
        struct rlimit limit = first_limit;

        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
}

/* Is `path` our own binary under another name? */
static bool is_own(const char *path)
{
        char real[PATH_MAX];

        return own_path[0] && realpath(path, real) && strcmp(real, own_path) == 0;
}

/* The file to run, into `path`. Sets *own_r when it is our own binary. */
static int find_program(const char *name, char *path, size_t size, bool *own_r, struct err *err)
{
        static const char *const places[] = { "", "/../lib/cyrus/bin", "/../sbin", "/../../../sbin" };
        const struct program *known;
        const char *base = strrchr(name, '/');

        base = base ? base + 1 : name;
        known = program_find(base);
        *own_r = false;
        if (strchr(name, '/')) {
                if ((size_t)snprintf(path, size, "%s", name) >= size)
                        return err_set(err, ERR_LIMIT, "the path of a program is too long");
                *own_r = is_own(path);
                if (access(path, X_OK) == 0 || *own_r)
                        return 0;
                return err_errno(err, errno, "program %s", name);
        }
        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
                if ((size_t)snprintf(path, size, "%s%s/%s", own_dir, places[i], name) < size && access(path, X_OK) == 0) {
                        *own_r = is_own(path);
                        return 0;
                }
        }
        if (known) {                            /* ours by name, even when no link was made (a build tree) */
                *own_r = true;
                return 0;
        }
        return err_set(err, ERR_NOTFOUND, "program \"%s\" is neither built in nor found in %s or its tree's lib/cyrus/bin", name, own_dir);
}

int child_check(const char *name, struct err *err)
{
        char path[PATH_MAX];
        bool own;

        return find_program(name, path, sizeof path, &own, err);
}

/* In the child: only calls that are safe after fork() in a process with threads. */
static void become_program(const struct child_options *o, const char *path, bool own, char **env, int error_fd)
{
        struct rlimit limit = first_limit;
        sigset_t none;
        int fds[3] = { o->fd3, o->fd4, error_fd }, saved;

        if (o->fd0 > 0)
                dup2(o->fd0, 0);
        if (o->fd1 > 0)
                dup2(o->fd1, 1);
        /* Out of the way of 3 and 4 first. */
        for (size_t i = 0; i < ARRAY_LEN(fds); i++)
                if (fds[i] >= 0 && fds[i] < 10)
                        fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 10);
        close(3);
        close(4);
        if (fds[0] >= 0)
                dup2(fds[0], 3);
        if (fds[1] >= 0) {
                dup2(fds[1], 4);
                fcntl(4, F_SETFL, fcntl(4, F_GETFL) & ~O_NONBLOCK);
        }
        /* Ours are close-on-exec; this is for what we inherited ourselves. The error pipe closes itself. */
        syscall(SYS_close_range, 5, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */);
        for (int sig = 1; sig < 32; sig++)
                if (sig != SIGKILL && sig != SIGSTOP)
                        signal(sig, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (o->maxfds > 0)
                limit.rlim_cur = (rlim_t)o->maxfds > limit.rlim_max ? limit.rlim_max : (rlim_t)o->maxfds;
        setrlimit(RLIMIT_NOFILE, &limit);
        if (own && own_fd >= 0)
                fexecve(own_fd, o->argv, env);
        execve(path, o->argv, env);
        saved = errno;
        if (write(fds[2], &saved, sizeof saved) < 0)
                _exit(126);
        _exit(127);
}

/* Our environment without CYRUS_*, and the child's own. The texts are in `room`. */
static char **make_env(const struct child_options *o, char room[3][128])
{
        size_t count = 0, n = 0;
        char **env;

        while (environ[count])
                count++;
        env = calloc(count + 4, sizeof *env);
        if (!env)
                return NULL;
        for (size_t i = 0; i < count; i++)
                if (strncmp(environ[i], "CYRUS_SERVICE=", 14) != 0 && strncmp(environ[i], "CYRUS_ID=", 9) != 0 &&
                    strncmp(environ[i], "CYRUS_ISDAEMON=", 15) != 0)
                        env[n++] = environ[i];
        snprintf(room[0], 128, "CYRUS_SERVICE=%s", o->service ? o->service : "");
        snprintf(room[1], 128, "CYRUS_ID=%d", o->id);
        snprintf(room[2], 128, "CYRUS_ISDAEMON=1");
        if (o->service)
                env[n++] = room[0];
        if (o->id >= 0)
                env[n++] = room[1];
        env[n++] = room[2];
        return env;
}

pid_t child_start(const struct child_options *o, struct err *err)
{
        char path[PATH_MAX], room[3][128], **env;
        int pipe_fds[2], child_errno = 0;
        sigset_t all, before;
        ssize_t got;
        pid_t pid;
        bool own;

        if (find_program(o->argv[0], path, sizeof path, &own, err) < 0)
                return -1;
        env = make_env(o, room);
        if (!env || pipe2(pipe_fds, O_CLOEXEC) < 0) {
                free(env);
                return err_errno(err, errno, "starting %s", o->argv[0]);
        }
        /* No handler of ours may run in the child before its signals are reset. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        pid = fork();
        if (pid == 0)
                become_program(o, path, own, env, pipe_fds[1]);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        free(env);
        close(pipe_fds[1]);
        if (pid < 0) {
                close(pipe_fds[0]);
                return err_errno(err, errno, "fork for %s", o->argv[0]);
        }
        /* End of file means that exec worked. */
        do
                got = read(pipe_fds[0], &child_errno, sizeof child_errno);
        while (got < 0 && errno == EINTR);
        close(pipe_fds[0]);
        if (got == (ssize_t)sizeof child_errno) {
                waitpid(pid, NULL, 0);
                return err_errno(err, child_errno, "cannot run %s", path);
        }
        return pid;
}

int child_wait(pid_t pid, unsigned timeout_s, int *status_r, struct err *err)
{
        uint64_t deadline = clock_mono_ms() + (uint64_t)timeout_s * 1000;

        for (;;) {
                pid_t got = waitpid(pid, status_r, timeout_s == 0 ? 0 : WNOHANG);

                if (got == pid)
                        return 0;
                if (got < 0 && errno != EINTR)
                        return err_errno(err, errno, "waitpid");
                if (timeout_s == 0)
                        continue;
                if (clock_mono_ms() >= deadline)
                        return err_set(err, ERR_TIMEOUT, "process %d still runs after %u s", (int)pid, timeout_s);
                poll(NULL, 0, 10);
        }
}

const char *child_status_text(int status, char *buf, size_t size)
{
        if (WIFSIGNALED(status))
                snprintf(buf, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
        else
                snprintf(buf, size, "exit status %d", WEXITSTATUS(status));
        return buf;
}
