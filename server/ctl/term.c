/* term - see term.h */
#include "server/ctl/term.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "util/array.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/str.h"

static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };

/* There is one terminal. The flags are set by signal handlers. */
static struct {
        bool taken;
        struct termios before;
        volatile sig_atomic_t end, stop, changed;
} term;

static void handle(int sig, void (*how)(int))
{
        struct sigaction sa = { .sa_handler = how };            /* without SA_RESTART: poll() comes back */

        sigaction(sig, &sa, NULL);
}

static void say(const char *sequence)
{
        ssize_t n = write(STDOUT_FILENO, sequence, strlen(sequence));

        (void)n;
}

bool term_possible(void)
{
        const char *name = getenv("TERM");

        return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && name && *name && strcmp(name, "dumb") != 0;
}

static void screen_take(void)
{
        struct termios now = term.before;

        now.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        now.c_cc[VMIN] = 1;
        now.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSANOW, &now);
        say("\033[?1049h\033[?25l\033[H\033[2J");       /* another screen, no cursor */
}

static void screen_give_back(void)
{
        say("\033[?25h\033[?1049l");
        tcsetattr(STDIN_FILENO, TCSANOW, &term.before);
}

/* Whoever insists is let go at once, for the daemon may not answer. Only what a signal handler may call. */
static void on_signal(int sig)
{
        if (sig == SIGTSTP) {
                term.stop = 1;
        } else if (sig == SIGWINCH) {
                term.changed = 1;
        } else {
                if (term.end) {
                        screen_give_back();
                        _exit(1);
                }
                term.end = 1;
        }
}

void term_take(void)
{
        static bool registered;

        if (tcgetattr(STDIN_FILENO, &term.before) < 0)
                return;
        if (!registered)
                atexit(term_give_back);
        registered = true;
        fflush(stdout);
        for (size_t i = 0; i < ARRAY_LEN(ending); i++)
                handle(ending[i], on_signal);
        handle(SIGTSTP, on_signal);
        handle(SIGWINCH, on_signal);
        term.taken = true;
        screen_take();
}

void term_give_back(void)
{
        if (!term.taken)
                return;
        term.taken = false;
        screen_give_back();
        for (size_t i = 0; i < ARRAY_LEN(ending); i++)
                handle(ending[i], SIG_DFL);
        handle(SIGTSTP, SIG_DFL);
        handle(SIGWINCH, SIG_DFL);
}

void term_size(unsigned *rows_r, unsigned *columns_r)
{
        struct winsize w;
        bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 0 && w.ws_col > 0;

        *rows_r = known ? w.ws_row : 24;
        *columns_r = known ? w.ws_col : 80;
}

/* Ctrl-Z: the shell gets its terminal as it was. */
static void suspend(void)
{
        term.stop = 0;
        screen_give_back();
        raise(SIGSTOP);
        screen_take();
}

int term_key(int timeout_ms)
{
        uint64_t deadline = clock_mono_ms() + (uint64_t)timeout_ms;

        for (;;) {
                struct pollfd fd = { .fd = STDIN_FILENO, .events = POLLIN };
                uint64_t now = clock_mono_ms();
                unsigned char key;
                int n;

                if (term.end)
                        return -1;
                if (term.stop) {
                        suspend();
                        return 0;
                }
                if (term.changed) {
                        term.changed = 0;
                        return 0;
                }
                n = poll(&fd, 1, now >= deadline ? 0 : (int)(deadline - now));
                if (n > 0)
                        return read(STDIN_FILENO, &key, 1) == 1 ? key : -1;
                if (n == 0)
                        return 0;
                if (errno != EINTR)
                        return -1;
        }
}

void term_show(const char *text)
{
        struct str out = STR_INIT;

        str_append_str(&out, "\033[H");
        for (const char *p = text; *p;) {
                size_t n = strcspn(p, "\n");

                str_append(&out, p, n);
                str_append_str(&out, "\033[K");                 /* what was there before, to the end of the line */
                p += n;
                if (*p == '\n') {
                        p++;
                        if (*p)
                                str_append_str(&out, "\r\n");
                }
        }
        str_append_str(&out, "\033[J");
        fs_write_all(STDOUT_FILENO, out.data, out.len, NULL);
        str_deinit(&out);
}
