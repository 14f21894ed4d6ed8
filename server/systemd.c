/* systemd - see systemd.h */
#include "server/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/log.h"
#include "util/str.h"

#define FIRST_FD 3                              /* SD_LISTEN_FDS_START */
#define SOCKETS_MAX 64

struct passed {
        int fd;                                 /* ours for as long as we live, whatever becomes of copies: systemd keeps it too */
        char name[64];
        struct sockaddr_storage address;
        socklen_t len;
        bool used;
};

static struct {
        int fd;                                 /* -1: nobody is told */
        uint64_t watchdog_ms;
        struct passed v[SOCKETS_MAX];
        unsigned n;
} sd = { .fd = -1 };

/* ---- telling ------------------------------------------------------------------------------------------------------------------ */

/* "/run/systemd/notify", or "@name" in the abstract namespace. */
static int open_notify(const char *path)
{
        struct sockaddr_un sun = { .sun_family = AF_UNIX };
        size_t n = strlen(path);
        int fd;

        if ((path[0] != '/' && path[0] != '@') || n < 2 || n >= sizeof sun.sun_path)
                return -1;
        memcpy(sun.sun_path, path, n);
        if (path[0] == '@')
                sun.sun_path[0] = '\0';
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&sun, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0) {
                close(fd);
                fd = -1;
        }
        return fd;
}

static uint64_t read_watchdog(void)
{
        const char *pid = getenv("WATCHDOG_PID"), *usec = getenv("WATCHDOG_USEC");
        uint64_t n;

        if (!usec || (pid && strtol(pid, NULL, 10) != (long)getpid()) || !span_u64(span_of(usec), UINT64_MAX / 2, &n))
                return 0;
        return n / 2000 > 0 ? n / 2000 : 1;
}

/* From strings that an administrator or systemd wrote: one message is one datagram, so it is cut rather than sent in parts. */
void systemd_notify(const char *fmt, ...)
{
        char text[1024];
        va_list ap;
        int n;

        if (sd.fd < 0)
                return;
        va_start(ap, fmt);
        n = vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        if (n < 0)
                return;
        if ((size_t)n >= sizeof text)
                n = (int)sizeof text - 1;
        if (send(sd.fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                log_event(LOG_DBG, NULL, "systemd.notify", "reason=\"%s\"", strerror(errno));
}

bool systemd_listens(void)
{
        return sd.fd >= 0;
}

uint64_t systemd_watchdog_ms(void)
{
        return sd.watchdog_ms;
}

/* ---- sockets ------------------------------------------------------------------------------------------------------------------ */

static bool is_listening(int fd)
{
        int value = 0;
        socklen_t len = sizeof value;

        return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) == 0 && value;
}

static void take_sockets(void)
{
        const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"), *names = getenv("LISTEN_FDNAMES");
        uint64_t n = 0;

        if (!pid || !count || strtol(pid, NULL, 10) != (long)getpid() || !span_u64(span_of(count), 10000, &n))
                return;
        for (uint64_t i = 0; i < n; i++) {
                struct passed *p = &sd.v[sd.n];
                int fd = FIRST_FD + (int)i;
                size_t len = names ? strcspn(names, ":") : 0;

                fcntl(fd, F_SETFD, FD_CLOEXEC);
                *p = (struct passed){ .fd = fd, .len = sizeof p->address };
                snprintf(p->name, sizeof p->name, "%.*s", (int)(len < 60 ? len : 60), names ? names : "");
                if (names)
                        names += len + (names[len] == ':');
                if (is_listening(fd) && getsockname(fd, (struct sockaddr *)&p->address, &p->len) == 0 && sd.n < SOCKETS_MAX - 1)
                        sd.n++;
        }
}

void systemd_init(void)
{
        static const char *const ours[] = { "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES" };
        const char *notify = getenv("NOTIFY_SOCKET");

        take_sockets();                         /* before anything of ours may have one of their numbers */
        sd.watchdog_ms = read_watchdog();
        sd.fd = notify ? open_notify(notify) : -1;
        for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
                unsetenv(ours[i]);
}

static bool same_inet(const struct sockaddr_storage *a, const struct addrinfo *ai)
{
        if (a->ss_family != ai->ai_family) {
                /* A socket for all addresses of IPv6 may be one for all of IPv4 as well. */
                const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a;
                const struct sockaddr_in *b = (const struct sockaddr_in *)ai->ai_addr;

                return a->ss_family == AF_INET6 && ai->ai_family == AF_INET && IN6_IS_ADDR_UNSPECIFIED(&a6->sin6_addr) &&
                       b->sin_addr.s_addr == INADDR_ANY && a6->sin6_port == b->sin_port;
        }
        if (a->ss_family == AF_INET) {
                const struct sockaddr_in *x = (const struct sockaddr_in *)a, *y = (const struct sockaddr_in *)ai->ai_addr;

                return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
        }
        if (a->ss_family == AF_INET6) {
                const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)a, *y = (const struct sockaddr_in6 *)ai->ai_addr;

                return x->sin6_port == y->sin6_port && memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr) == 0;
        }
        return false;
}

static bool same_unix(const struct passed *p, const char *path)
{
        const struct sockaddr_un *sun = (const struct sockaddr_un *)&p->address;

        return p->address.ss_family == AF_UNIX && p->len > offsetof(struct sockaddr_un, sun_path) && strcmp(sun->sun_path, path) == 0;
}

static bool listens_for(const struct passed *p, const struct master_entry *e, const struct addrinfo *list)
{
        if (e->proto == MASTER_UNIX)
                return same_unix(p, e->listen);
        for (const struct addrinfo *ai = list; ai; ai = ai->ai_next)
                if (same_inet(&p->address, ai))
                        return true;
        return false;
}

static struct addrinfo *addresses_of(const struct master_entry *e)
{
        struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM }, *list = NULL;

        hints.ai_family = e->proto == MASTER_TCP4 ? AF_INET : e->proto == MASTER_TCP6 ? AF_INET6 : AF_UNSPEC;
        if (e->proto == MASTER_UNIX || getaddrinfo(e->host, e->port, &hints, &list) != 0)
                return NULL;
        return list;
}

static void take_copy(struct passed *p, struct bound *b)
{
        struct bound_socket *s = &b->v[b->n];

        s->fd = fcntl(p->fd, F_DUPFD_CLOEXEC, FIRST_FD);
        if (s->fd < 0)
                return;
        fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) | O_NONBLOCK);
        if (p->address.ss_family == AF_UNIX)
                snprintf(s->address, sizeof s->address, "%s", ((const struct sockaddr_un *)&p->address)->sun_path);
        else
                bind_format_address((const struct sockaddr *)&p->address, s->address, sizeof s->address);
        p->used = true;
        b->n++;
}

bool systemd_sockets(const struct master_entry *e, struct bound *b_r)
{
        struct addrinfo *list;

        *b_r = (struct bound){ .n = 0 };
        for (unsigned i = 0; i < sd.n && b_r->n < BIND_SOCKETS_MAX; i++)
                if (strcasecmp(sd.v[i].name, e->name) == 0)
                        take_copy(&sd.v[i], b_r);
        if (b_r->n > 0 || sd.n == 0)
                return b_r->n > 0;
        list = addresses_of(e);
        for (unsigned i = 0; i < sd.n && b_r->n < BIND_SOCKETS_MAX; i++)
                if (listens_for(&sd.v[i], e, list))
                        take_copy(&sd.v[i], b_r);
        if (list)
                freeaddrinfo(list);
        return b_r->n > 0;
}

void systemd_report_unused(void)
{
        char quoted[LOG_QUOTE_MAX], address[128];

        for (unsigned i = 0; i < sd.n; i++) {
                const struct passed *p = &sd.v[i];

                if (p->used)
                        continue;
                if (p->address.ss_family == AF_UNIX)
                        snprintf(address, sizeof address, "%s", ((const struct sockaddr_un *)&p->address)->sun_path);
                else
                        bind_format_address((const struct sockaddr *)&p->address, address, sizeof address);
                log_event(LOG_WARN, NULL, "systemd.socket", "name=%s address=%s reason=\"no service of cyrus.conf has this name or address: nobody is served there\"",
                          log_quote_str(quoted, p->name), address);
        }
}
