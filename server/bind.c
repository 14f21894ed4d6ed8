/* bind - see bind.h */
#include "server/bind.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/fs.h"
#include "util/must.h"

static bool is_udp(enum master_proto proto)
{
        return proto == MASTER_UDP || proto == MASTER_UDP4 || proto == MASTER_UDP6;
}

static int family_of(enum master_proto proto)
{
        if (proto == MASTER_TCP4 || proto == MASTER_UDP4)
                return AF_INET;
        return proto == MASTER_TCP6 || proto == MASTER_UDP6 ? AF_INET6 : AF_UNSPEC;
}

static int fail(const struct master_entry *e, const char *what, const char *address, int errno_value, struct err *err)
{
        enum err_code code = errno_value == EADDRINUSE ? ERR_BUSY : errno_value == EACCES || errno_value == EPERM ? ERR_PERM :
                             errno_value == ENOENT ? ERR_NOTFOUND : ERR_IO;

        return err_set(err, code, "service %s: cannot %s %s: %s", e->name, what, address, strerror(errno_value));
}

void bind_format_address(const struct sockaddr *sa, char *buf, size_t size)
{
        char host[INET6_ADDRSTRLEN] = "?";

        if (sa->sa_family == AF_INET6) {
                const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;

                inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
                snprintf(buf, size, "[%s]:%u", host, (unsigned)ntohs(in6->sin6_port));
        } else {
                const struct sockaddr_in *in = (const struct sockaddr_in *)sa;

                inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
                snprintf(buf, size, "%s:%u", host, (unsigned)ntohs(in->sin_port));
        }
}

/* One address. Returns 1 when bound, 0 when this machine does not speak the family, -1. */
static int bind_one(const struct master_entry *e, const struct addrinfo *ai, struct bound *b, struct err *err)
{
        struct bound_socket *s = &b->v[b->n];
        int on = 1, fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);

        bind_format_address(ai->ai_addr, s->address, sizeof s->address);
        if (fd < 0)
                return errno == EAFNOSUPPORT ? 0 : fail(e, "open a socket for", s->address, errno, err);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (ai->ai_family == AF_INET6)          /* IPv4 has a socket of its own */
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
                int saved = errno;

                close(fd);
                /* All interfaces of a family that is switched off. */
                if (saved == EADDRNOTAVAIL && !e->host)
                        return 0;
                return fail(e, "bind", s->address, saved, err);
        }
        s->fd = fd;
        b->n++;
        return 1;
}

static int bind_inet(const struct master_entry *e, struct bound *b, struct err *err)
{
        struct addrinfo hints = { .ai_flags = AI_PASSIVE, .ai_family = family_of(e->proto),
                                  .ai_socktype = is_udp(e->proto) ? SOCK_DGRAM : SOCK_STREAM }, *list;
        int ret = getaddrinfo(e->host, e->port, &hints, &list);

        if (ret == EAI_SERVICE)
                return err_set(err, ERR_NOTFOUND, "service %s: no port is named \"%s\" (/etc/services)", e->name, e->port);
        if (ret != 0)
                return err_set(err, ERR_NOTFOUND, "service %s: cannot resolve \"%s\": %s", e->name, e->listen, gai_strerror(ret));
        ret = 0;
        for (const struct addrinfo *ai = list; ai && ret >= 0; ai = ai->ai_next) {
                if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6)
                        continue;
                if (b->n == BIND_SOCKETS_MAX)
                        ret = err_set(err, ERR_LIMIT, "service %s: \"%s\" has more than %d addresses", e->name, e->listen, BIND_SOCKETS_MAX);
                else
                        ret = bind_one(e, ai, b, err);
        }
        freeaddrinfo(list);
        if (ret >= 0 && b->n == 0)
                return err_set(err, ERR_IO, "service %s: no address of \"%s\" can be used here", e->name, e->listen);
        return ret < 0 ? -1 : 0;
}

/* Does somebody answer on the socket at `path`? */
static bool somebody_listens(const struct sockaddr_un *sun)
{
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        bool yes = fd >= 0 && (connect(fd, (const struct sockaddr *)sun, sizeof *sun) == 0 || errno == EAGAIN);

        if (fd >= 0)
                close(fd);
        return yes;
}

static int bind_unix(const struct master_entry *e, unsigned owner_uid, unsigned owner_gid, struct bound *b, struct err *err)
{
        struct sockaddr_un sun = { .sun_family = AF_UNIX };
        struct stat st;
        int fd, ret;

        snprintf(sun.sun_path, sizeof sun.sun_path, "%s", e->listen);
        if (lstat(e->listen, &st) == 0) {
                if (!S_ISSOCK(st.st_mode))
                        return err_set(err, ERR_EXISTS, "service %s: %s is there and is not a socket", e->name, e->listen);
                if (somebody_listens(&sun))
                        return fail(e, "bind", e->listen, EADDRINUSE, err);
                if (unlink(e->listen) < 0)
                        return fail(e, "replace", e->listen, errno, err);
        }
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return fail(e, "open a socket for", e->listen, errno, err);
        /* As with Cyrus everybody may connect: the directory decides. */
        ret = bind(fd, (struct sockaddr *)&sun, sizeof sun);
        if (ret == 0)
                ret = chmod(e->listen, 0777);
        if (ret < 0) {
                int saved = errno;

                close(fd);
                return fail(e, "bind", e->listen, saved, err);
        }
        if (geteuid() == 0 && lchown(e->listen, owner_uid, owner_gid) < 0) {
                int saved = errno;

                close(fd);
                return fail(e, "hand over", e->listen, saved, err);
        }
        b->v[0].fd = fd;
        snprintf(b->v[0].address, sizeof b->v[0].address, "%s", e->listen);
        snprintf(b->unix_path, sizeof b->unix_path, "%s", e->listen);
        b->n = 1;
        return 0;
}

int bind_entry(const struct master_entry *e, unsigned owner_uid, unsigned owner_gid, struct bound *b_r, struct err *err)
{
        *b_r = (struct bound){ .n = 0 };
        if ((e->proto == MASTER_UNIX ? bind_unix(e, owner_uid, owner_gid, b_r, err) : bind_inet(e, b_r, err)) == 0)
                return 0;
        bound_close(b_r);
        return -1;
}

int bind_make_parent(const char *path, struct err *err)
{
        char *dir = xstrdup(path), *slash = strrchr(dir, '/');
        int ret = 0;

        if (slash && slash != dir)
                *slash = '\0';
        if (!fs_exists(dir)) {
                ret = fs_mkdir_p(dir, 0755, err);
                if (ret == 0 && chmod(dir, 0755) < 0)
                        ret = err_errno(err, errno, "%s", dir);
        }
        free(dir);
        return ret;
}

int bound_listen(struct bound *b, int backlog, struct err *err)
{
        for (size_t i = 0; i < b->n; i++) {
                int type = 0;
                socklen_t len = sizeof type;

                getsockopt(b->v[i].fd, SOL_SOCKET, SO_TYPE, &type, &len);
                /* Two sockets with SO_REUSEADDR may be bound to one address: the second is told here. */
                if (type == SOCK_STREAM && listen(b->v[i].fd, backlog) < 0)
                        return err_set(err, errno == EADDRINUSE ? ERR_BUSY : ERR_IO, "cannot listen on %s: %s", b->v[i].address,
                                       strerror(errno));
        }
        return 0;
}

void bound_close(struct bound *b)
{
        for (size_t i = 0; i < b->n; i++)
                if (b->v[i].fd >= 0)
                        close(b->v[i].fd);
        if (b->unix_path[0])
                unlink(b->unix_path);
        b->n = 0;
        b->unix_path[0] = '\0';
}
