/* confcheck - see confcheck.h. One function a question; each names the option that is wrong, where it stands. */
#include "server/confcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store/acl.h"
#include "util/array.h"

struct check {
        const struct conf *conf;
        struct diag *diag;
};

static void complain(const struct check *c, enum diag_level level, const char *option, const char *what, const char *value)
{
        const char *file;
        unsigned line, column;

        conf_where(c->conf, option, &file, &line, &column);
        diag_add(c->diag, level, file, line, column, "%s: \"%s\" %s", option, value, what);
}

static void check_range(const struct check *c, const char *option, int64_t from, int64_t to)
{
        int64_t n = conf_int(c->conf, NULL, option);
        char what[80];

        snprintf(what, sizeof what, "is not a number from %lld to %lld", (long long)from, (long long)to);
        if (n < from || n > to)
                complain(c, DIAG_ERROR, option, what, conf_raw(c->conf, NULL, option));
}

static void check_file(const struct check *c, const char *option)
{
        const char *path = conf_str(c->conf, NULL, option);
        int fd;

        if (!path)
                return;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd >= 0)
                close(fd);
        else
                complain(c, DIAG_WARNING, option, strerror(errno), path);
}

/* Words of a fixed vocabulary. */
static void check_words(const struct check *c, const char *option, const char *const *known, size_t n)
{
        struct span rest = span_of(conf_str(c->conf, NULL, option) ? conf_str(c->conf, NULL, option) : ""), word;
        char text[64];

        for (rest = span_trim(rest); rest.len; rest = span_trim(rest)) {
                bool ok = false;

                word = (struct span){ rest.p, span_index(rest, ' ') };
                rest.p += word.len, rest.len -= word.len;
                for (size_t i = 0; i < n; i++)
                        ok |= span_ieq_str(word, known[i]);
                snprintf(text, sizeof text, "%.*s", (int)(word.len < 60 ? word.len : 60), word.p);
                if (!ok)
                        complain(c, DIAG_WARNING, option, "means nothing here and is left out", text);
        }
}

static void check_user(const struct check *c)
{
        const char *user = conf_str(c->conf, NULL, "cyrus_user");

        if (user && !getpwnam(user))
                complain(c, geteuid() == 0 ? DIAG_ERROR : DIAG_WARNING, "cyrus_user", "is no user of this machine", user);
}

static void check_owner_rights(const struct check *c)
{
        const char *text = conf_str(c->conf, NULL, "implicit_owner_rights");
        struct err err = ERR_INIT;
        uint32_t rights;

        if (text && acl_parse_rights(span_of(text), &rights, &err) < 0)
                complain(c, DIAG_WARNING, "implicit_owner_rights", err.text, text);
}

/* "anyone lrs joe lr": identifiers and rights in turn. */
static void check_defaultacl(const struct check *c)
{
        const char *text = conf_str(c->conf, NULL, "defaultacl");
        struct span rest = span_trim(span_of(text ? text : "")), word;
        struct err err = ERR_INIT;
        uint32_t rights;
        unsigned n = 0;

        for (; rest.len; rest = span_trim(rest)) {
                word = (struct span){ rest.p, span_index(rest, ' ') };
                rest.p += word.len, rest.len -= word.len;
                if (++n % 2 == 0 && acl_parse_rights(word, &rights, &err) < 0) {
                        complain(c, DIAG_WARNING, "defaultacl", err.text, text);
                        return;
                }
        }
        if (n % 2)
                complain(c, DIAG_WARNING, "defaultacl", "ends with an identifier without rights", text);
}

void confcheck(const struct conf *conf, struct diag *diag)
{
        static const char *const tls[] = { "ssl2", "ssl3", "tls1_0", "tls1_1", "tls1_2", "tls1_3" };
        const struct check c = { conf, diag };

        check_range(&c, "worker_threads", 0, 1000);
        check_range(&c, "password_threads", 0, 1000);
        check_user(&c);
        check_file(&c, "tls_server_cert");
        check_file(&c, "tls_server_key");
        check_words(&c, "tls_versions", tls, ARRAY_LEN(tls));
        check_owner_rights(&c);
        check_defaultacl(&c);
}
