/* userdeny - see userdeny.h */
#include "server/userdeny.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/fs.h"
#include "util/must.h"

#define FILE_MAX (16u << 20)

static void path_of(const struct conf *conf, const char *suffix, struct str *path)
{
        const char *dir = conf_str(conf, NULL, "configdirectory");

        str_printf(path, "%s/userdeny%s", dir ? dir : "", suffix);
}

static int slurp(const struct conf *conf, struct str *text, struct err *err)
{
        struct str path = STR_INIT;
        struct err one = ERR_INIT;
        int rc;

        path_of(conf, "", &path);
        rc = fs_slurp(path.data, FILE_MAX, text, &one);
        if (rc < 0 && one.code == ERR_NOTFOUND)
                rc = 0;
        else if (rc < 0)
                err_copy(err, &one);
        str_deinit(&path);
        return rc;
}

/* The next line's three fields; false at the end. Lines out of form are skipped. */
static bool next_line(struct span *rest, struct span field[3])
{
        while (rest->len) {
                size_t n = span_index(*rest, '\n'), used = n + (n < rest->len);
                struct span line = { rest->p, n };
                unsigned i;

                rest->p += used;
                rest->len -= used;
                for (i = 0; i < 3; i++) {
                        size_t tab = i < 2 ? span_index(line, '\t') : line.len;

                        if (i < 2 && tab == line.len)
                                break;
                        field[i] = (struct span){ line.p, tab };
                        tab += tab < line.len;
                        line = (struct span){ line.p + tab, line.len - tab };
                }
                if (i == 3 && field[0].len)
                        return true;
        }
        return false;
}

static bool pattern_matches(struct span patterns, const char *service)
{
        bool found = false;

        while (patterns.len && !found) {
                size_t n = span_index(patterns, ',');
                struct span one = span_trim((struct span){ patterns.p, n });
                char *pattern = xstrndup(one.p, one.len);

                found = fnmatch(pattern, service, 0) == 0;
                free(pattern);
                n += n < patterns.len;
                patterns = (struct span){ patterns.p + n, patterns.len - n };
        }
        return found;
}

int userdeny_check(const struct conf *conf, const char *user, const char *service, struct str *message, struct err *err)
{
        struct str text = STR_INIT;
        struct span rest, field[3];
        int rc = slurp(conf, &text, err);

        rest = str_span(&text);
        while (rc == 0 && next_line(&rest, field))
                if (span_eq_str(field[0], user) && pattern_matches(field[1], service)) {
                        str_append_span(message, field[2]);
                        rc = 1;
                }
        str_deinit(&text);
        return rc;
}

bool userdeny_nobody(const struct conf *conf)
{
        struct str path = STR_INIT;
        bool nobody;

        path_of(conf, "", &path);
        nobody = access(path.data, F_OK) < 0 && errno == ENOENT;
        str_deinit(&path);
        return nobody;
}

int userdeny_each(const struct conf *conf, void (*fn)(void *ctx, struct span user, struct span services, struct span message), void *ctx,
                  struct err *err)
{
        struct str text = STR_INIT;
        struct span rest, field[3];
        int rc = slurp(conf, &text, err);

        rest = str_span(&text);
        while (rc == 0 && next_line(&rest, field))
                fn(ctx, field[0], field[1], field[2]);
        str_deinit(&text);
        return rc;
}

static bool clean(const char *s)
{
        return !strpbrk(s, "\t\r\n");
}

/* All lines but the user's, then `line`. */
static int rewrite(const struct conf *conf, const char *user, const char *line, struct err *err)
{
        struct str text = STR_INIT, out = STR_INIT, path = STR_INIT, lock = STR_INIT;
        struct span rest, field[3];
        int fd = -1, rc;

        path_of(conf, "", &path);
        path_of(conf, ".lock", &lock);
        rc = fs_lock_file(lock.data, &fd, err);
        if (rc == 0)
                rc = slurp(conf, &text, err);
        rest = str_span(&text);
        while (rc == 0 && next_line(&rest, field))
                if (!span_eq_str(field[0], user))
                        str_printf(&out, "%.*s\t%.*s\t%.*s\n", (int)field[0].len, field[0].p, (int)field[1].len, field[1].p, (int)field[2].len,
                                   field[2].p);
        str_append_str(&out, line);
        if (rc == 0)
                rc = fs_replace(path.data, out.data, out.len, 0600, err);
        if (fd >= 0)
                close(fd);
        str_deinit(&text);
        str_deinit(&out);
        str_deinit(&path);
        str_deinit(&lock);
        return rc;
}

int userdeny_set(const struct conf *conf, const char *user, const char *services, const char *message, struct err *err)
{
        struct str line = STR_INIT;
        int rc;

        services = services ? services : "*";
        message = message ? message : USERDENY_DEFAULT_MESSAGE;
        if (!*user || !*services || !clean(user) || !clean(services) || !clean(message))
                return err_set(err, ERR_SYNTAX, "a user, services or a message cannot be empty or hold a TAB or the end of a line");
        str_printf(&line, "%s\t%s\t%s\n", user, services, message);
        rc = rewrite(conf, user, line.data, err);
        str_deinit(&line);
        return rc;
}

int userdeny_remove(const struct conf *conf, const char *user, struct err *err)
{
        return rewrite(conf, user, "", err);
}
