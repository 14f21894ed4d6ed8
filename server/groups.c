/*
 * groups - see groups.h
 *
 * Asking NSS costs some 200 system calls where nss-systemd is in nsswitch.conf, more than all else that a log-in does. So answers are kept: until
 * one of the files changes that NSS reads here, and for KEEP_S at most, since of a directory service nobody hears. That is what a name
 * service cache of the system does, which keeps them longer.
 */
#include "server/groups.h"

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>

#include "server/lock_order.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/must.h"

#define GROUPS_MAX 1000
#define KEEP_S 60
#define KEPT_MAX 10000                          /* users; beyond that all are forgotten */

struct stamps {                                 /* of what NSS reads */
        struct fs_mark file[3];
};

struct kept {
        char **names;
        uint64_t until_ms;
};

/* What this process was told last; one set, since it is the machine's and no store's. */
static struct {
        struct mutex lock;                      /* groups_class; covers all below */
        struct table *users;                    /* user id → struct kept */
        struct stamps stamps;                   /* when they were asked for */
} kept = { .lock = MUTEX_INIT };

static void kept_lock(void) ACQUIRE(groups_class);
static void kept_lock(void) NO_TSA
{
        mutex_lock(&kept.lock);
}

static void kept_unlock(void) RELEASE(groups_class);
static void kept_unlock(void) NO_TSA
{
        mutex_unlock(&kept.lock);
}

static void look_at_files(struct stamps *s)
{
        static const char *const files[] = { "/etc/passwd", "/etc/group", "/etc/nsswitch.conf" };

        for (size_t i = 0; i < ARRAY_LEN(files); i++)
                (void)fs_mark(files[i], &s->file[i]);
}

static char **copy(char *const *names)
{
        char **out;
        size_t n = 0;

        while (names[n])
                n++;
        out = xcalloc(n + 1, sizeof *out);
        for (size_t i = 0; i < n; i++)
                out[i] = xstrdup(names[i]);
        return out;
}

static void forget_all_locked(void) REQUIRES(groups_class)
{
        struct span user;
        void *value;
        size_t pos = 0;

        while (kept.users && table_next(kept.users, &pos, &user, &value)) {
                struct kept *k = value;

                groups_free(&k->names);
                free(k);
        }
        table_destroy(&kept.users);
}

/* NULL: nothing is known that still counts. */
static char **find_kept(const char *userid, const struct stamps *now) EXCLUDES(groups_class)
{
        char **names = NULL;
        struct kept *k;

        kept_lock();
        if (memcmp(&kept.stamps, now, sizeof *now) != 0)
                forget_all_locked();
        k = kept.users ? table_find(kept.users, span_of(userid)) : NULL;
        if (k && clock_mono_ms() < k->until_ms)
                names = copy(k->names);
        kept_unlock();
        return names;
}

static void keep(const char *userid, char *const *names, const struct stamps *before) EXCLUDES(groups_class)
{
        struct kept *k = xcalloc(1, sizeof *k), *was;

        k->names = copy(names);
        k->until_ms = clock_mono_ms() + KEEP_S * 1000;
        kept_lock();
        if (memcmp(&kept.stamps, before, sizeof *before) != 0 || (kept.users && table_count(kept.users) >= KEPT_MAX))
                forget_all_locked();
        kept.stamps = *before;
        if (!kept.users)
                kept.users = table_create();
        was = table_set(kept.users, span_of(userid), k);
        kept_unlock();
        if (was)
                groups_free(&was->names);
        free(was);
}

static char **ask(const char *userid)
{
        struct passwd pw, *found = NULL;
        struct group gr, *group;
        gid_t gids[GROUPS_MAX], primary = (gid_t)-1;
        int n = GROUPS_MAX, out = 0;
        char buf[16384], **names;

        if (getpwnam_r(userid, &pw, buf, sizeof buf, &found) == 0 && found)
                primary = found->pw_gid;
        if (getgrouplist(userid, primary, gids, &n) < 0)
                n = n > GROUPS_MAX ? GROUPS_MAX : 0;
        names = xcalloc((size_t)n + 1, sizeof *names);
        for (int i = 0; i < n; i++)
                if (gids[i] != (gid_t)-1 && getgrgid_r(gids[i], &gr, buf, sizeof buf, &group) == 0 && group)
                        names[out++] = xstrdup(group->gr_name);
        return names;
}

char **groups_known(const char *userid)
{
        struct stamps now;

        look_at_files(&now);
        return find_kept(userid, &now);
}

char **groups_of(const char *userid)
{
        struct stamps now;
        char **names;

        look_at_files(&now);
        names = find_kept(userid, &now);
        if (names)
                return names;
        names = ask(userid);
        keep(userid, names, &now);
        return names;
}

void groups_free(char ***groups)
{
        for (char **g = *groups; g && *g; g++)
                free(*g);
        free(*groups);
        *groups = NULL;
}
