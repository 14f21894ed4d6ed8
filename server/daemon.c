/* daemon - see daemon.h */
#include "server/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "server/child.h"
#include "server/confcheck.h"
#include "server/demo.h"
#include "server/manual.h"
#include "server/options.h"
#include "server/pidfile.h"
#include "server/schedule.h"
#include "server/serving.h"
#include "server/systemd.h"
#include "server/version.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define EXIT_CONFIG 78                          /* EX_CONFIG of sysexits.h */
#define EXIT_USAGE 64
#define PROGRAMS_STOP_MS 3000                   /* from TERM to KILL, for programs that are not ours */
#define GRACE_MAX_MS 6000                       /* for sessions */
#define STOP_MS 8500                            /* the whole end */
#define STATUS_MS 10000                         /* how often systemd is told what we do */

struct daemon {
        struct daemon_options options;
        const struct daemon_ops *ops;
        struct conf_live *live;
        struct masterconf *mc;
        struct identity identity;
        struct serving *services;
        struct schedule *schedule;
        struct pidfile pidfile;
        int signals;                            /* signalfd */
        int caller;                             /* pipe to the process that waits for us in -d; -1 */
        bool opened;
        bool stopping;
        uint64_t watchdog_at, status_at;        /* clock_mono_ms(): when systemd is to hear of us again; 0: it does not listen */
        bool stuck;
        bool reload_wanted;                     /* HUP came while START ran */
};

/* ---- messages before the log is open ---------------------------------------------------------------------------------------- */

static void print_diag(const struct diag *diag)
{
        struct str line = STR_INIT;

        for (size_t i = 0; i < diag->n; i++) {
                str_clear(&line);
                diag_format(&diag->v[i], &line);
                fprintf(stderr, "%s\n", line.data);
        }
        if (diag->errors + diag->warnings + diag->notes > diag->n)
                fprintf(stderr, "and %zu more\n", diag->errors + diag->warnings + diag->notes - diag->n);
        str_deinit(&line);
}

static void log_diag(const struct diag *diag)
{
        struct str line = STR_INIT;
        char quoted[LOG_QUOTE_MAX];

        for (size_t i = 0; i < diag->n; i++) {
                str_clear(&line);
                diag_format(&diag->v[i], &line);
                log_event(diag->v[i].level == DIAG_ERROR ? LOG_ERROR : diag->v[i].level == DIAG_WARNING ? LOG_WARN : LOG_INFORM, NULL, "config", "reason=%s",
                          log_quote(quoted, line.data, line.len));
        }
        str_deinit(&line);
}

static int complain(const struct daemon *d, const struct err *err)
{
        fprintf(stderr, "%s: %s\n", d->options.as_master ? "master" : "cyrd", err->text);
        return -1;
}

/* ---- reading the files ------------------------------------------------------------------------------------------------------ */

/* One line that names what is set and does nothing yet, so that nobody relies on it. */
static void note_no_effect(const struct conf *conf, struct diag *diag)
{
        struct str names = STR_INIT;
        const char *name, *value;
        size_t pos = 0;

        while (conf_next(conf, "", &pos, &name, &value)) {
                const struct conf_option *o = conf_option_find(name);

                if (o && o->handled == CONF_LATER)
                        str_printf(&names, " %s", name);
        }
        if (names.len > 0)
                diag_add(diag, DIAG_WARNING, conf_path(conf), 0, 0, "these options have no effect yet:%s", names.data);
        str_deinit(&names);
}

/* Both files, whole: errors of one do not hide those of the other. */
static int read_files(const struct daemon_options *o, struct conf **conf_r, struct masterconf **mc_r, struct diag *diag, struct err *err)
{
        struct err first = ERR_INIT;

        if (conf_load(o->conf_path, NULL, conf_r, diag, err) == 0) {
                conf_require_store(*conf_r, diag, err);
                confcheck(*conf_r, diag);
                note_no_effect(*conf_r, diag);
        }
        masterconf_load(o->masterconf_path, mc_r, diag, err);
        if (*conf_r && *mc_r)
                serving_check(*mc_r, *conf_r, diag);
        if (diag_first_error(diag, &first) == 0)
                return 0;
        err_copy(err, &first);
        conf_unref(conf_r);
        masterconf_destroy(mc_r);
        return -1;
}

static int facility_number(const char *name)
{
        static const struct { const char *name; int number; } names[] = {
                { "auth", LOG_AUTH }, { "authpriv", LOG_AUTHPRIV }, { "cron", LOG_CRON }, { "daemon", LOG_DAEMON },
                { "ftp", LOG_FTP }, { "kern", LOG_KERN }, { "lpr", LOG_LPR }, { "mail", LOG_MAIL }, { "news", LOG_NEWS },
                { "syslog", LOG_SYSLOG }, { "user", LOG_USER }, { "uucp", LOG_UUCP }, { "local0", LOG_LOCAL0 },
                { "local1", LOG_LOCAL1 }, { "local2", LOG_LOCAL2 }, { "local3", LOG_LOCAL3 }, { "local4", LOG_LOCAL4 },
                { "local5", LOG_LOCAL5 }, { "local6", LOG_LOCAL6 }, { "local7", LOG_LOCAL7 },
        };

        if (!name)
                return -1;
        if (strncasecmp(name, "LOG_", 4) == 0)
                name += 4;
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (strcasecmp(names[i].name, name) == 0)
                        return names[i].number;
        return -1;
}

/* cyrd in the foreground logs to stderr; master always to syslog, as Cyrus's does. */
static void open_log(const struct daemon *d, const struct conf *conf)
{
        const char *prefix = conf_str(conf, NULL, "syslog_prefix"), *facility = conf_str(conf, NULL, "syslog_facility");
        const char *program = d->options.as_master ? "master" : "cyrd";
        bool to_syslog = d->options.as_master || d->options.background || d->options.keep_stdio;
        enum log_level level = conf_switch(conf, NULL, "debug") || d->options.verbose ? LOG_DBG : LOG_INFORM;
        char ident[128], quoted[LOG_QUOTE_MAX];

        if (prefix)
                snprintf(ident, sizeof ident, "%s/%s", prefix, program);
        else
                snprintf(ident, sizeof ident, "%s", program);
        log_open(to_syslog ? LOG_TO_SYSLOG : LOG_TO_STDERR, ident, facility_number(facility), level);
        if (facility && facility_number(facility) < 0)
                log_event(LOG_WARN, NULL, "config", "reason=\"syslog_facility is unknown\" facility=%s", log_quote_str(quoted, facility));
}

static void set_umask(const struct conf *conf)
{
        umask((mode_t)strtoul(conf_str(conf, NULL, "umask"), NULL, 8) & 0777);
}

/* ---- background ------------------------------------------------------------------------------------------------------------- */

/* In the caller: wait for the daemon's word. */
static int await_daemon(int fd)
{
        unsigned char status;
        ssize_t n;

        do
                n = read(fd, &status, 1);
        while (n < 0 && errno == EINTR);
        if (n == 1)
                return status;
        fputs("the daemon ended before it was ready; its log says why\n", stderr);
        return 1;
}

/* Returns -1 in the daemon, else the exit status of the caller. stdin, stdout and stderr are given up later, by tell_caller(). */
static int go_background(struct daemon *d)
{
        int fds[2];
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
                fprintf(stderr, "cannot go into the background: %s\n", strerror(errno));
                return 1;
        }
        if (pid > 0) {
                close(fds[1]);
                return await_daemon(fds[0]);
        }
        close(fds[0]);
        d->caller = fds[1];
        setsid();
        return -1;
}

static void redirect(int fd, const char *path, int flags)
{
        int file = open(path, flags | O_CLOEXEC, 0600);

        if (file < 0) {
                fprintf(stderr, "%s: %s\n", path, strerror(errno));
                return;
        }
        dup2(file, fd);
        close(file);
}

/* -L: from now on. Otherwise stdio is given up once we are ready: until then the caller reads it. */
static void open_logfile(const struct daemon *d)
{
        if (!d->options.logfile)
                return;
        redirect(STDOUT_FILENO, d->options.logfile, O_WRONLY | O_CREAT | O_APPEND);
        redirect(STDERR_FILENO, d->options.logfile, O_WRONLY | O_CREAT | O_APPEND);
}

static void give_up_stdio(const struct daemon *d)
{
        bool close_it = d->options.background || d->options.as_master;

        if (!close_it || d->options.keep_stdio)
                return;
        redirect(STDIN_FILENO, "/dev/null", O_RDONLY);
        if (!d->options.logfile) {
                redirect(STDOUT_FILENO, "/dev/null", O_WRONLY);
                redirect(STDERR_FILENO, "/dev/null", O_WRONLY);
        }
}

static void tell_caller(struct daemon *d, unsigned char status)
{
        if (d->caller < 0)
                return;
        if (write(d->caller, &status, 1) < 0)
                log_event(LOG_DBG, NULL, "daemon.start", "reason=\"the caller is gone\"");
        close(d->caller);
        d->caller = -1;
}

/* ---- entries that run something --------------------------------------------------------------------------------------------- */

/* Returns a process id, 0 when it was done inside the daemon, -1. */
static pid_t start_entry(void *context, const struct master_entry *e, int fd3, struct err *err)
{
        struct daemon *d = context;
        const struct program *p = program_find(e->program);
        struct child_options options = { .argv = e->argv, .id = -1, .fd3 = fd3, .fd4 = -1, .maxfds = e->maxfds };
        int ret;

        if (p) {
                if (!p->built) {
                        log_event(LOG_WARN, NULL, "program.refused", "name=%s program=%s reason=\"not built into this server\"", e->name,
                                  p->name);
                        return 0;
                }
                ret = d->ops->job(p, e->argc, e->argv, err);
                if (ret <= 0)
                        return ret;
        }
        return child_start(&options, err);
}

/* Wait for a START program; TERM cuts that short. */
static int wait_for_start(struct daemon *d, pid_t pid, int *status_r)
{
        for (;;) {
                struct err err;
                struct signalfd_siginfo info;

                if (child_wait(pid, 1, status_r, &err) == 0)
                        return 0;
                if (err.code != ERR_TIMEOUT)
                        return -1;
                if (read(d->signals, &info, sizeof info) != (ssize_t)sizeof info)
                        continue;
                if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT || info.ssi_signo == SIGQUIT) {
                        kill(pid, SIGTERM);
                        d->stopping = true;
                        return -1;
                }
                if (info.ssi_signo == SIGHUP)
                        d->reload_wanted = true;
        }
}

static void run_start(struct daemon *d)
{
        const struct master_entry *e;
        char quoted[LOG_QUOTE_MAX], text[80];
        size_t pos = 0;

        while (!d->stopping && (e = masterconf_next(d->mc, MASTER_START, &pos))) {
                struct err err = ERR_INIT;
                int status = 0;
                pid_t pid;

                log_event(LOG_INFORM, NULL, "start.run", "name=%s cmd=%s", e->name, log_quote_str(quoted, e->cmd));
                pid = start_entry(d, e, -1, &err);
                if (pid < 0)
                        log_event(LOG_ERROR, NULL, "start.failed", "name=%s reason=%s", e->name, log_quote_str(quoted, err.text));
                else if (pid > 0 && wait_for_start(d, pid, &status) == 0 && status != 0)
                        log_event(LOG_ERROR, NULL, "start.failed", "name=%s reason=\"%s\"", e->name,
                                  child_status_text(status, text, sizeof text));
        }
}

/* ---- running ---------------------------------------------------------------------------------------------------------------- */

static void reap_children(struct daemon *d)
{
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                if (!serving_reap(d->services, pid, status) && !schedule_reap(d->schedule, pid, status))
                        log_event(LOG_DBG, NULL, "child.unknown", "pid=%d", (int)pid);
}

/* ---- what systemd hears ------------------------------------------------------------------------------------------------------ */

/* One message: what stands `before`, and the status. */
static void say_status(struct daemon *d, const char *before)
{
        unsigned sessions = d->ops->sessions();
        size_t services = serving_listening(d->services);

        systemd_notify("%sSTATUS=%zu service%s, %u session%s", before, services, services == 1 ? "" : "s", sessions, sessions == 1 ? "" : "s");
}

static void tell_status(struct daemon *d)
{
        say_status(d, "");
}

static void tell_ready(struct daemon *d)
{
        char ready[50];

        snprintf(ready, sizeof ready, "READY=1\nMAINPID=%d\n", (int)getpid());
        say_status(d, ready);
        d->status_at = systemd_listens() ? clock_mono_ms() + STATUS_MS : 0;
        d->watchdog_at = systemd_watchdog_ms() ? clock_mono_ms() : 0;
}

/* A daemon whose threads are stuck keeps silent, and is started again. */
static void feed_watchdog(struct daemon *d)
{
        if (d->ops->gets_on()) {
                systemd_notify("WATCHDOG=1");
                d->stuck = false;
        } else if (!d->stuck) {
                log_event(LOG_ERROR, NULL, "daemon.stuck", "reason=\"threads take no work: the watchdog is left to act\"");
                d->stuck = true;
        }
}

/* Returns when to be called again (clock_mono_ms()), 0: never. */
static uint64_t tell_systemd(struct daemon *d, uint64_t now)
{
        if (d->watchdog_at && now >= d->watchdog_at) {
                feed_watchdog(d);
                d->watchdog_at = now + systemd_watchdog_ms();
        }
        if (d->status_at && now >= d->status_at) {
                tell_status(d);
                d->status_at = now + STATUS_MS;
        }
        return d->watchdog_at && (!d->status_at || d->watchdog_at < d->status_at) ? d->watchdog_at : d->status_at;
}

/* What cannot change under a running store. */
static int check_reload(struct daemon *d, const struct conf *conf, struct err *err)
{
        struct conf *old = conf_live_get(d->live);
        bool same = strcmp(conf_str(old, NULL, "configdirectory"), conf_str(conf, NULL, "configdirectory")) == 0;

        conf_unref(&old);
        return same ? 0 : err_set(err, ERR_CONFIG, "configdirectory cannot change while the daemon runs");
}

/* An error in either file leaves everything as it was. */
static void reload(struct daemon *d)
{
        struct diag diag = DIAG_INIT;
        struct conf *conf = NULL;
        struct masterconf *mc = NULL, *old = d->mc;
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];
        int ret;

        systemd_notify("RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=Reading the configuration", (unsigned long long)clock_mono_us());
        ret = read_files(&d->options, &conf, &mc, &diag, &err);
        log_diag(&diag);
        diag_deinit(&diag);
        if (ret == 0)
                ret = check_reload(d, conf, &err);
        if (ret < 0) {
                log_event(LOG_ERROR, NULL, "reload.failed", "result=\"the old configuration stays in force\" reason=%s",
                          log_quote_str(quoted, err.text));
                conf_unref(&conf);
                masterconf_destroy(&mc);
                systemd_notify("READY=1\nSTATUS=The old configuration stays in force: %s", err.text);
                d->status_at = systemd_listens() ? clock_mono_ms() + STATUS_MS : 0;
                return;
        }
        open_log(d, conf);
        set_umask(conf);
        conf_live_set(d->live, conf_ref(conf));
        serving_reload(d->services, mc);
        d->ops->reload();
        schedule_set(d->schedule, mc);
        d->mc = mc;
        masterconf_destroy(&old);
        conf_unref(&conf);
        log_event(LOG_NOTE, NULL, "reload.done", "services=%zu", serving_listening(d->services));
        tell_ready(d);
}

static void take_signals(struct daemon *d)
{
        struct signalfd_siginfo info;
        bool hup = false;

        while (read(d->signals, &info, sizeof info) == (ssize_t)sizeof info)
                switch (info.ssi_signo) {
                case SIGHUP: hup = true; break;
                case SIGTERM:
                case SIGINT:
                case SIGQUIT:
                        log_event(LOG_NOTE, NULL, "daemon.stopping", "signal=%u from_pid=%u", info.ssi_signo, info.ssi_pid);
                        d->stopping = true;
                        break;
                default: break;                 /* CHLD: reaped each time round; USR1: reserved */
                }
        if (hup && !d->stopping)
                reload(d);
}

/* One turn: sleep until something happens or `limit_ms` (monotonic; 0: no limit), then see to it. */
static void turn(struct daemon *d, uint64_t limit_ms)
{
        size_t max = serving_pollfds_max(d->services) + 1, n;
        struct pollfd *fds = xcalloc(max, sizeof *fds);
        uint64_t now = clock_mono_ms(), wake = schedule_run(d->schedule), w = serving_run(d->services, NULL, 0), told = tell_systemd(d, now);

        if (w && w < wake)
                wake = w;
        if (told && told < wake)
                wake = told;
        if (limit_ms && limit_ms < wake)
                wake = limit_ms;
        fds[0] = (struct pollfd){ .fd = d->signals, .events = POLLIN };
        n = 1 + serving_pollfds(d->services, fds + 1, max - 1);
        if (poll(fds, n, wake <= now ? 0 : (int)(wake - now)) > 0) {
                serving_run(d->services, fds + 1, n - 1);
                if (fds[0].revents)
                        take_signals(d);
        }
        reap_children(d);
        free(fds);
}

static unsigned still_running(struct daemon *d, bool last)
{
        return serving_programs(d->services) + schedule_processes(d->schedule, last);
}

/* Wait for programs to end; those that do not are killed. */
static void await_programs(struct daemon *d, bool last, uint64_t deadline_ms)
{
        while (still_running(d, last) > 0 && clock_mono_ms() < deadline_ms)
                turn(d, clock_mono_ms() + 20);
        if (still_running(d, last) == 0)
                return;
        log_event(LOG_WARN, NULL, "daemon.stopping", "reason=\"programs did not end: killed\" count=%u", still_running(d, last));
        serving_kill_programs(d->services, SIGKILL);
        schedule_stop(d->schedule, SIGKILL, last);
        for (int i = 0; i < 50 && still_running(d, last) > 0; i++)
                turn(d, clock_mono_ms() + 20);
}

static void stop(struct daemon *d)
{
        uint64_t start = clock_mono_ms();
        struct conf *conf = conf_live_get(d->live);
        int64_t grace_ms = conf_duration_s(conf, NULL, "shutdown_timeout") * 1000;

        systemd_notify("STOPPING=1\nSTATUS=Sessions end, then the store is closed");
        d->status_at = d->watchdog_at = 0;
        conf_unref(&conf);
        if (grace_ms < 0 || grace_ms > GRACE_MAX_MS)
                grace_ms = GRACE_MAX_MS;
        serving_stop(d->services);
        schedule_stop(d->schedule, SIGTERM, false);
        d->ops->close((unsigned)grace_ms);
        d->opened = false;
        await_programs(d, false, start + PROGRAMS_STOP_MS);
        schedule_stop(d->schedule, SIGTERM, true);
        await_programs(d, true, start + STOP_MS);
        log_event(LOG_NOTE, NULL, "daemon.stopped", "seconds=%.1f", (double)(clock_mono_ms() - start) / 1000);
}

/* ---- start ------------------------------------------------------------------------------------------------------------------ */

static int open_signals(struct daemon *d)
{
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGHUP);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigaddset(&set, SIGQUIT);
        sigaddset(&set, SIGCHLD);
        sigaddset(&set, SIGUSR1);
        pthread_sigmask(SIG_BLOCK, &set, NULL);
        signal(SIGPIPE, SIG_IGN);
        d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return d->signals;
}

/* After root was given up: say early and clearly what would fail later in many ways. */
static int check_directory(const struct conf *conf, const struct identity *id, struct err *err)
{
        const char *dir = conf_str(conf, NULL, "configdirectory");
        struct stat st;

        if (stat(dir, &st) < 0)
                return errno == ENOENT ? 0 : err_errno(err, errno, "configdirectory %s, as user %s", dir, id->user[0] ? id->user : "we are");
        if (!S_ISDIR(st.st_mode))
                return err_set(err, ERR_CONFIG, "configdirectory %s is not a directory", dir);
        if (access(dir, W_OK | X_OK) < 0)
                return err_errno(err, errno, "configdirectory %s cannot be written by user %s", dir, id->user[0] ? id->user : "that we are");
        return 0;
}

static int start(struct daemon *d, struct err *err)
{
        struct conf *conf = conf_live_get(d->live);
        bool fatal = conf_switch(conf, NULL, "master_bind_errors_fatal");
        int ret = -1;

        if (identity_find(conf, &d->identity, err) < 0)
                goto out;
        d->services = serving_create(&d->ops->services, &d->identity, d->options.backlog);
        d->schedule = schedule_create(start_entry, d);
        if (pidfile_open(&d->pidfile, d->options.pidfile, err) < 0 ||
            serving_bind(d->services, d->mc, fatal, err) < 0 ||
            identity_become(&d->identity, err) < 0 ||
            check_directory(conf, &d->identity, err) < 0)
                goto out;
        d->opened = true;
        if (d->ops->open(d->live, d->options.backlog, false, err) < 0)
                goto out;
        run_start(d);
        if (d->stopping) {
                err_set(err, ERR_CANCELLED, "told to stop while starting");
                goto out;
        }
        schedule_set(d->schedule, d->mc);
        schedule_start_waiting_daemons(d->schedule);
        if (serving_listen(d->services, fatal, err) < 0 || pidfile_write(&d->pidfile, err) < 0)
                goto out;
        ret = 0;
out:
        conf_unref(&conf);
        return ret;
}

/* Hold no file system but our own; core files go where Cyrus puts them. */
static void leave_directory(const struct daemon *d)
{
        struct conf *conf = conf_live_get(d->live);
        char cores[4096];

        snprintf(cores, sizeof cores, "%s/cores", conf_str(conf, NULL, "configdirectory"));
        if (chdir(cores) < 0 && chdir("/") < 0)
                log_event(LOG_DBG, NULL, "daemon.start", "reason=\"no directory to go to\"");
        conf_unref(&conf);
}

static int run(struct daemon *d)
{
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];

        systemd_notify("STATUS=Opening the store");
        if (start(d, &err) < 0) {
                systemd_notify("STATUS=Failed: %s", err.text);
                complain(d, &err);
                log_event(LOG_ERROR, NULL, "daemon.failed", "reason=%s", log_quote_str(quoted, err.text));
                if (d->services)
                        serving_stop(d->services);
                if (d->opened)
                        d->ops->close(0);
                tell_caller(d, 1);
                return 1;
        }
        d->ops->ready();
        systemd_report_unused();
        log_event(LOG_NOTE, NULL, "daemon.ready", "version=%s pid=%d services=%zu", CYRD_VERSION, (int)getpid(),
                  serving_listening(d->services));
        if (d->options.demo_dir)
                demo_say_ready(d->options.demo_dir, d->options.portbase);
        give_up_stdio(d);
        tell_ready(d);
        tell_caller(d, 0);
        if (d->options.background)
                leave_directory(d);
        if (d->reload_wanted)
                reload(d);
        while (!d->stopping)
                turn(d, 0);
        stop(d);
        return 0;
}

static void daemon_free(struct daemon *d)
{
        serving_destroy(&d->services);
        schedule_destroy(&d->schedule);
        masterconf_destroy(&d->mc);
        conf_live_destroy(&d->live);
        pidfile_close(&d->pidfile);
        if (d->signals >= 0)
                close(d->signals);
}

static int check_only(const struct diag *diag)
{
        if (diag->errors > 0)
                return EXIT_CONFIG;
        fprintf(stderr, "both files are fine%s\n", diag->warnings > 0 ? ", apart from the warnings" : "");
        return 0;
}

static void list_programs(void)
{
        size_t n;
        const struct program *p = program_table(&n);

        for (size_t i = 0; i < n; i++)
                printf("%s\n", p[i].name);
}

/* Options that print something and end. Returns -1 when there was none. */
static int print_and_end(const struct daemon_options *o)
{
        if (o->print_help)
                options_usage(o->as_master, stdout);
        else if (o->print_version)
                printf("cyrus-imapd %s-cyrd\n", CYRUS_COMPAT);
        else if (o->dump_options)
                manual_dump_options();
        else if (o->manual_options)
                manual_write_options();
        else if (o->manual_programs)
                manual_write_programs();
        else if (o->list_programs)
                list_programs();
        else
                return -1;
        return fflush(stdout) == 0 ? 0 : 1;
}

int daemon_main(int argc, char **argv, bool as_master, const struct daemon_ops *ops)
{
        struct daemon d = { .ops = ops, .signals = -1, .caller = -1, .pidfile = PIDFILE_INIT };
        struct diag diag = DIAG_INIT;
        struct conf *conf = NULL;
        struct err err = ERR_INIT;
        char *conf_file, *masterconf_file;
        int ret;

        systemd_init();
        child_init();
        if (options_parse(argc, argv, as_master, &d.options) < 0)
                return EXIT_USAGE;
        ret = print_and_end(&d.options);
        if (ret >= 0)
                return ret;
        if (d.options.demo_dir && demo_prepare(&d.options, &err) < 0) {
                complain(&d, &err);
                return 1;
        }
        ret = read_files(&d.options, &conf, &d.mc, &diag, &err);
        if (ret < 0 || d.options.test_only || d.options.verbose || isatty(STDERR_FILENO))
                print_diag(&diag);
        if (ret < 0 || d.options.test_only) {
                ret = check_only(&diag);
                conf_unref(&conf);
                masterconf_destroy(&d.mc);
                diag_deinit(&diag);
                return ret;
        }
        /* HUP reads the same files again, wherever we are then. */
        d.options.conf_path = conf_file = xstrdup(conf_path(conf));
        d.options.masterconf_path = masterconf_file = xstrdup(d.mc->path);
        if (d.options.background) {
                ret = go_background(&d);
                if (ret >= 0)
                        _exit(ret);             /* the caller: everything else is the daemon's */
        }
        open_logfile(&d);
        open_log(&d, conf);
        log_diag(&diag);
        diag_deinit(&diag);
        set_umask(conf);
        child_raise_fd_limit();
        d.live = conf_live_create(conf);
        if (open_signals(&d) < 0) {
                err_errno(&err, errno, "signalfd");
                complain(&d, &err);
                ret = 1;
        } else {
                ret = run(&d);
        }
        daemon_free(&d);
        free(conf_file);
        free(masterconf_file);
        return ret;
}
