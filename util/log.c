/* log - see log.h */
#include "util/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* syslog.h has macros LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING; ours are named so that both can be seen here. */
#include <syslog.h>

#include "util/clock.h"

static const char *const level_names[] = { "error", "warning", "notice", "info", "debug" };
static const int syslog_levels[] = { LOG_ERR, LOG_WARNING, LOG_NOTICE, LOG_INFO, LOG_DEBUG };

/* One log for the process. A plain pthread mutex: must() logs, so this file cannot use must() or util/lock.h. */
static struct {
        pthread_mutex_t lock;
        enum log_target target;
        char ident[128];                        /* syslog() keeps the pointer */
        int facility;
        atomic_int level;
} the_log = { .lock = PTHREAD_MUTEX_INITIALIZER, .target = LOG_TO_STDERR, .ident = "cyrd", .facility = LOG_MAIL,
              .level = LOG_NOTE };

void log_open(enum log_target target, const char *ident, int facility, enum log_level level)
{
        pthread_mutex_lock(&the_log.lock);
        the_log.target = target;
        snprintf(the_log.ident, sizeof the_log.ident, "%s", ident);
        the_log.facility = facility < 0 ? LOG_MAIL : facility;
        atomic_store(&the_log.level, (int)level);
        if (target != LOG_TO_STDERR)
                openlog(the_log.ident, LOG_PID | LOG_NDELAY, the_log.facility);
        pthread_mutex_unlock(&the_log.lock);
}

void log_set_level(enum log_level level)
{
        atomic_store(&the_log.level, (int)level);
}

bool log_enabled(enum log_level level)
{
        return (int)level <= atomic_load_explicit(&the_log.level, memory_order_relaxed);
}

void log_event(enum log_level level, const char *session, const char *name, const char *fmt, ...)
{
        char line[2048];
        int saved = errno;
        size_t len;
        va_list ap;

        if (!log_enabled(level))
                return;
        if (session)
                len = (size_t)snprintf(line, sizeof line, "%s %s session=%s ", level_names[level], name, session);
        else
                len = (size_t)snprintf(line, sizeof line, "%s %s ", level_names[level], name);
        if (len < sizeof line) {
                va_start(ap, fmt);
                vsnprintf(line + len, sizeof line - len, fmt, ap);
                va_end(ap);
        }
        /* A value that slipped in unquoted must not fake a second line. */
        for (char *p = line; *p; p++)
                if ((unsigned char)*p < 0x20)
                        *p = '?';
        pthread_mutex_lock(&the_log.lock);
        if (the_log.target != LOG_TO_STDERR)
                syslog(syslog_levels[level], "%s", line);
        if (the_log.target != LOG_TO_SYSLOG) {
                char stamp[40];
                char out[2300];
                int n;

                clock_format_log(stamp, sizeof stamp);
                n = snprintf(out, sizeof out, "%s %s[%d]: %s\n", stamp, the_log.ident, (int)getpid(), line);
                if (n > 0 && write(STDERR_FILENO, out, (size_t)n < sizeof out ? (size_t)n : sizeof out - 1) < 0)
                        errno = saved;                  /* nowhere left to complain */
        }
        pthread_mutex_unlock(&the_log.lock);
        errno = saved;
}

const char *log_quote(char buf[LOG_QUOTE_MAX], const char *p, size_t len)
{
        static const char hex[] = "0123456789abcdef";
        bool plain = len > 0;
        size_t n = len > 200 ? 200 : len, o = 0;

        for (size_t i = 0; i < n; i++)
                if ((unsigned char)p[i] <= 0x20 || (unsigned char)p[i] >= 0x7f || p[i] == '"' || p[i] == '\\' || p[i] == '=')
                        plain = false;
        if (plain && n == len) {
                memcpy(buf, p, n);
                buf[n] = '\0';
                return buf;
        }
        buf[o++] = '"';
        for (size_t i = 0; i < n; i++) {
                unsigned char c = (unsigned char)p[i];

                if (c == '"' || c == '\\') {
                        buf[o++] = '\\';
                        buf[o++] = (char)c;
                } else if (c < 0x20 || c >= 0x7f) {
                        buf[o++] = '\\';
                        buf[o++] = 'x';
                        buf[o++] = hex[c >> 4];
                        buf[o++] = hex[c & 15];
                } else {
                        buf[o++] = (char)c;
                }
        }
        if (n < len) {
                memcpy(buf + o, "...", 3);
                o += 3;
        }
        buf[o++] = '"';
        buf[o] = '\0';
        return buf;
}

const char *log_quote_str(char buf[LOG_QUOTE_MAX], const char *s)
{
        return s ? log_quote(buf, s, strlen(s)) : "-";
}

bool log_once(uint64_t *state, unsigned interval_s)
{
        uint64_t now = clock_mono_ms() + 1;
        uint64_t last = __atomic_load_n(state, __ATOMIC_RELAXED);

        if (last != 0 && now - last < (uint64_t)interval_s * 1000)
                return false;
        return __atomic_compare_exchange_n(state, &last, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}
