/*
 * sieve_files - see sieve_files.h.
 *
 * Write order. A script: a temporary file (".new.<random>") in the same directory, its time set, synced, renamed, the directory synced. The link:
 * made aside and renamed, likewise. Removing: the link, if it is that script's, then the file, then the directory is synced. So a crash leaves
 * each name with the former or the new content, and perhaps a temporary file, which the next change of that user's scripts removes; a link to a
 * script that is gone counts as none.
 */
#include "store/sieve_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/change.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/store.h"
#include "util/array.h"
#include "util/charset.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/lock.h"
#include "util/log.h"

#define ACTIVE_LINK "defaultbc"
#define TEMPORARY ".new."

/* One who changes scripts at a time: that is rare and short, and a removal must not meet an activation halfway. */
static struct mutex changing = MUTEX_INIT;

/* ---- names ---- */

/* The length of the UTF-8 character at s; 0: there is none. Its number in *c_r. */
static size_t utf8_char(struct span s, uint32_t *c_r)
{
        static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
        unsigned char first = (unsigned char)s.p[0];
        size_t n = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : (first & 0xf0) == 0xe0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
        uint32_t c = n <= 1 ? first : first & (0xffu >> (n + 1));

        if (n == 0 || n > s.len)
                return 0;
        for (size_t i = 1; i < n; i++) {
                if (((unsigned char)s.p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | ((unsigned char)s.p[i] & 0x3f);
        }
        *c_r = c;
        return c < least[n] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff ? 0 : n;
}

bool sieve_name_ok(struct span name)
{
        if (name.len == 0 || name.len > SIEVE_NAME_MAX || name.p[0] == '.')
                return false;
        while (name.len) {
                uint32_t c;
                size_t n = utf8_char(name, &c);

                if (n == 0 || c < 0x20 || (c >= 0x7f && c < 0xa0) || c == '/' || c == 0x2028 || c == 0x2029)
                        return false;
                name.p += n;
                name.len -= n;
        }
        return true;
}

static bool has_suffix(struct span *name, const char *suffix)
{
        size_t n = strlen(suffix);

        if (name->len <= n || memcmp(name->p + name->len - n, suffix, n) != 0)
                return false;
        name->len -= n;
        return true;
}

enum sieve_file_kind sieve_file_name(struct span filename, struct arena *arena, const char **name_r)
{
        enum sieve_file_kind kind = has_suffix(&filename, ".script") ? SIEVE_FILE_SCRIPT
                                    : has_suffix(&filename, ".bc") ? SIEVE_FILE_BYTECODE : SIEVE_FILE_OTHER;

        if (kind == SIEVE_FILE_OTHER || !sieve_name_ok(filename))
                return SIEVE_FILE_OTHER;
        *name_r = arena_strndup(arena, filename.p, filename.len);
        return kind;
}

/* ---- the directory ---- */

/* Where a user's scripts are, in the arena; NULL: he has no INBOX. Its unique id is letters and digits, and leads nowhere else. */
static const char *directory_of(struct store *store, const char *userid, struct arena *arena)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(store), mailname_inbox_of(userid, arena));
        const char *dir = NULL;

        if (e && e->type == MBTYPE_NORMAL && strlen(e->uniqueid) >= 2)
                dir = arena_printf(arena, "%s/uuid/%c/%c/%s", conf_str(store_conf(store), NULL, "sievedir"), e->uniqueid[0], e->uniqueid[1],
                                   e->uniqueid);
        mbentry_unref(&e);
        return dir;
}

/* -1: not there, or not to be opened. */
static int open_directory(const char *dir, struct err *err)
{
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        return fd < 0 ? err_errno(err, errno, "open %s", dir) : fd;
}

static char *script_file(struct arena *arena, const char *name)
{
        return arena_printf(arena, "%s.script", name);
}

/* The name of the active script, whether or not there is one, in the arena; NULL: none. */
static const char *active_of(int dir, struct arena *arena)
{
        char target[SIEVE_NAME_MAX + 16];
        ssize_t n = readlinkat(dir, ACTIVE_LINK, target, sizeof target);
        const char *name;

        if (n <= 0 || (size_t)n == sizeof target)
                return NULL;
        return sieve_file_name((struct span){ target, (size_t)n }, arena, &name) == SIEVE_FILE_BYTECODE ? name : NULL;
}

/* Read a script that is a plain file. */
static int read_script(int dir, const char *file, struct str *text, struct stat *st, struct err *err)
{
        int rc = 0, fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

        if (fd < 0)
                return err_errno(err, errno, "open the script %s", file);
        if (fstat(fd, st) < 0)
                rc = err_errno(err, errno, "fstat %s", file);
        else if (!S_ISREG(st->st_mode))
                rc = err_set(err, ERR_NOTFOUND, "%s is not a file", file);
        else if (st->st_size > SIEVE_SCRIPT_MAX)
                rc = err_set(err, ERR_LIMIT, "the script %s has more than %u octets", file, SIEVE_SCRIPT_MAX);
        if (rc == 0 && st->st_size) {
                str_reserve(text, (size_t)st->st_size);
                rc = fs_pread_all(fd, text->data + text->len, (size_t)st->st_size, 0, err);
                if (rc == 0)
                        text->len += (size_t)st->st_size;
                text->data[text->len] = '\0';
        }
        close(fd);
        return rc;
}

/* ---- reading ---- */

struct scripts { ARRAY(struct sieve_script) list; };

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct sieve_script *)a)->name, ((const struct sieve_script *)b)->name);
}

static int add_script(int dir, const char *file, const char *active, struct arena *arena, struct scripts *out, struct err *err)
{
        struct sieve_script s = { .name = NULL };
        struct str text = STR_INIT;
        struct err mine = ERR_INIT;
        struct digest h;
        struct stat st;
        int rc;

        if (sieve_file_name(span_of(file), arena, &s.name) != SIEVE_FILE_SCRIPT)
                return 0;
        rc = read_script(dir, file, &text, &st, &mine);
        if (rc == 0) {
                digest_init(&h);
                digest_update(&h, text.data, text.len);
                digest_final(&h, s.guid);
                s.size = text.len;
                s.last_update = st.st_mtime;
                s.active = active && strcmp(active, s.name) == 0;
                *ARRAY_PUSH(&out->list) = s;
        } else if (mine.code != ERR_NOTFOUND && mine.code != ERR_LIMIT) {       /* it went meanwhile, or is none of ours: a link, a pipe */
                if (errno == ELOOP)
                        rc = 0;
                else
                        err_copy(err, &mine);
        } else {
                rc = 0;
        }
        str_deinit(&text);
        if (rc == 0 && out->list.n > SIEVE_SCRIPTS_MAX)
                return err_set(err, ERR_LIMIT, "more than %d scripts", SIEVE_SCRIPTS_MAX);
        return rc;
}

static int list_directory(const char *path, struct arena *arena, struct scripts *out, struct err *err)
{
        int rc = 0, fd = open_directory(path, err);
        const char *active;
        struct dirent *e;
        DIR *d;

        if (fd < 0)
                return -1;
        d = fdopendir(fd);
        if (!d) {
                close(fd);
                return err_errno(err, errno, "opendir %s", path);
        }
        active = active_of(fd, arena);
        while (rc == 0 && (e = readdir(d)) != NULL)
                rc = add_script(fd, e->d_name, active, arena, out, err);
        closedir(d);
        return rc;
}

int sieve_files_list(struct store *store, const char *userid, struct arena *arena, struct sieve_script **list_r, uint32_t *n_r, struct err *err)
{
        const char *dir = directory_of(store, userid, arena);
        struct scripts out = { ARRAY_INIT };
        int rc = 0;

        *list_r = NULL;
        *n_r = 0;
        if (!dir || !fs_exists(dir))
                return 0;
        rc = list_directory(dir, arena, &out, err);
        if (rc == 0 && out.list.n) {
                qsort(out.list.v, out.list.n, sizeof *out.list.v, by_name);
                *list_r = ARENA_ARRAY(arena, struct sieve_script, out.list.n);
                memcpy(*list_r, out.list.v, out.list.n * sizeof *out.list.v);
                *n_r = (uint32_t)out.list.n;
        }
        ARRAY_FREE(&out.list);
        return rc;
}

static int no_script(const char *userid, const char *name, struct err *err)
{
        return err_set(err, ERR_NOTFOUND, "user %s has no script %s", userid, name);
}

int sieve_files_read(struct store *store, const char *userid, const char *name, struct arena *arena, struct span *text_r, struct err *err)
{
        const char *dir = sieve_name_ok(span_of(name)) ? directory_of(store, userid, arena) : NULL;
        struct str text = STR_INIT;
        struct stat st;
        int rc, fd;

        if (!dir || !fs_exists(dir))
                return no_script(userid, name, err);
        fd = open_directory(dir, err);
        if (fd < 0)
                return -1;
        rc = read_script(fd, script_file(arena, name), &text, &st, err);
        if (rc == 0)
                *text_r = arena_span(arena, str_span(&text));
        str_deinit(&text);
        close(fd);
        return rc;
}

/* ---- changing ---- */

static int writable(struct store *store, struct err *err)
{
        if (store_may_change(store, err) < 0)
                return -1;
        if (conf_switch(store_conf(store), NULL, "readonly"))
                return err_set(err, ERR_READONLY, "the configuration says readonly");
        return 0;
}

static void tell(struct store *store, const char *userid)
{
        change_publish(store, &(struct change){ .kind = CHANGE_SIEVE, .name = userid });
}

/* What a crash left. */
static void remove_temporary(const char *path, int dir)
{
        DIR *d = opendir(path);
        struct dirent *e;

        while (d && (e = readdir(d)) != NULL)
                if (strncmp(e->d_name, TEMPORARY, strlen(TEMPORARY)) == 0)
                        unlinkat(dir, e->d_name, 0);
        if (d)
                closedir(d);
}

static char *temporary_name(struct arena *arena)
{
        char random[17];
        unsigned char octets[8];

        random_bytes(octets, sizeof octets);
        hex_encode(random, octets, sizeof octets);
        return arena_printf(arena, TEMPORARY "%s", random);
}

static int rename_over(int dir, const char *path, const char *from, const char *to, struct err *err)
{
        if (fs_fails("rename") || renameat(dir, from, dir, to) < 0)
                return err_errno(err, errno, "rename to %s in %s", to, path);
        return fs_sync_dir(path, err);
}

static int fill(int fd, const char *file, int64_t last_update, struct span text, struct err *err)
{
        struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = last_update } };

        if (fs_write_all(fd, text.p, text.len, err) < 0)
                return -1;
        if (futimens(fd, times) < 0)
                return err_errno(err, errno, "set the time of %s", file);
        return fs_fails("fsync") || fsync(fd) < 0 ? err_errno(err, errno, "fsync %s", file) : 0;      /* the time as well */
}

static int write_script(const char *path, int dir, const char *name, int64_t last_update, struct span text, struct arena *arena, struct err *err)
{
        const char *temporary = temporary_name(arena);
        int rc, fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd < 0)
                return err_errno(err, errno, "make a file in %s", path);
        rc = fill(fd, temporary, last_update, text, err);
        close(fd);
        if (rc == 0)
                rc = rename_over(dir, path, temporary, script_file(arena, name), err);
        if (rc < 0)
                unlinkat(dir, temporary, 0);
        return rc;
}

int sieve_files_write(struct store *store, const char *userid, const char *name, int64_t last_update, struct span text, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *path = directory_of(store, userid, &arena);
        int rc = writable(store, err), dir;

        if (rc == 0 && !sieve_name_ok(span_of(name)))
                rc = err_set(err, ERR_BADNAME, "impossible name of a script");
        else if (rc == 0 && text.len > SIEVE_SCRIPT_MAX)
                rc = err_set(err, ERR_LIMIT, "a script has at most %u octets", SIEVE_SCRIPT_MAX);
        else if (rc == 0 && !path)
                rc = err_set(err, ERR_NOTFOUND, "user %s has no INBOX", userid);
        mutex_lock(&changing);
        if (rc == 0)
                rc = fs_mkdir_p_durable(path, 0700, err);
        dir = rc == 0 ? open_directory(path, err) : -1;
        if (dir >= 0) {
                remove_temporary(path, dir);
                rc = write_script(path, dir, name, last_update == INT64_MIN ? clock_wall_s() : last_update, text, &arena, err);
                close(dir);
        }
        mutex_unlock(&changing);
        if (rc == 0 && dir >= 0)
                tell(store, userid);
        arena_deinit(&arena);
        return dir < 0 ? -1 : rc;
}

/* The directory of a user who is to have one. -1: he has no scripts. */
static int open_existing(struct store *store, const char *userid, struct arena *arena, const char **path_r, struct err *err)
{
        *path_r = directory_of(store, userid, arena);
        if (!*path_r || !fs_exists(*path_r))
                return err_set(err, ERR_NOTFOUND, "user %s has no scripts", userid);
        return open_directory(*path_r, err);
}

static int unlink_in(int dir, const char *file, struct err *err)
{
        if (fs_fails("unlink") || (unlinkat(dir, file, 0) < 0 && errno != ENOENT))
                return err_errno(err, errno, "unlink %s", file);
        return 0;
}

static bool is_script(int dir, const char *file)
{
        struct stat st;

        return fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

static int remove_script(const char *path, int dir, const char *userid, const char *name, struct arena *arena, struct err *err)
{
        const char *file = script_file(arena, name), *active = active_of(dir, arena);

        if (!is_script(dir, file))
                return no_script(userid, name, err);
        if (active && strcmp(active, name) == 0 && unlink_in(dir, ACTIVE_LINK, err) < 0)
                return -1;
        if (unlink_in(dir, file, err) < 0 || unlink_in(dir, arena_printf(arena, "%s.bc", name), err) < 0)
                return -1;
        return fs_sync_dir(path, err);
}

int sieve_files_remove(struct store *store, const char *userid, const char *name, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *path;
        int dir, rc = writable(store, err);

        if (rc == 0 && !sieve_name_ok(span_of(name)))
                rc = no_script(userid, name, err);
        mutex_lock(&changing);
        dir = rc == 0 ? open_existing(store, userid, &arena, &path, err) : -1;
        if (dir >= 0) {
                rc = remove_script(path, dir, userid, name, &arena, err);
                close(dir);
        } else {
                rc = -1;
        }
        mutex_unlock(&changing);
        if (rc == 0)
                tell(store, userid);
        arena_deinit(&arena);
        return rc;
}

static int activate(const char *path, int dir, const char *userid, const char *name, struct arena *arena, struct err *err)
{
        const char *temporary = temporary_name(arena);

        if (!name)
                return unlink_in(dir, ACTIVE_LINK, err) < 0 ? -1 : fs_sync_dir(path, err);
        if (!is_script(dir, script_file(arena, name)))
                return no_script(userid, name, err);
        if (symlinkat(arena_printf(arena, "%s.bc", name), dir, temporary) < 0)
                return err_errno(err, errno, "make a link in %s", path);
        if (rename_over(dir, path, temporary, ACTIVE_LINK, err) == 0)
                return 0;
        unlinkat(dir, temporary, 0);
        return -1;
}

int sieve_files_activate(struct store *store, const char *userid, const char *name, struct err *err)
{
        struct arena arena = ARENA_INIT;
        int dir, rc = writable(store, err);
        struct err mine = ERR_INIT;
        const char *path;

        if (rc == 0 && name && !sieve_name_ok(span_of(name)))
                rc = no_script(userid, name, err);
        mutex_lock(&changing);
        dir = rc == 0 ? open_existing(store, userid, &arena, &path, &mine) : -1;
        if (dir >= 0) {
                rc = activate(path, dir, userid, name, &arena, err);
                close(dir);
        } else if (rc == 0 && !(mine.code == ERR_NOTFOUND && !name)) {  /* none active where there are none: so it is */
                err_copy(err, &mine);
                rc = -1;
        }
        mutex_unlock(&changing);
        if (rc == 0 && dir >= 0)
                tell(store, userid);
        arena_deinit(&arena);
        return rc;
}

int sieve_files_remove_user(struct store *store, const char *userid, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *path = directory_of(store, userid, &arena);
        int rc = 0;

        mutex_lock(&changing);
        if (path && fs_exists(path)) {
                rc = fs_remove_tree(path, err);         /* not synced: what a power loss brings back no INBOX leads to */
        }
        mutex_unlock(&changing);
        arena_deinit(&arena);
        return rc;
}
