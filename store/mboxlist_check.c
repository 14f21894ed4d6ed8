/*
 * mboxlist_check - the list against the directories.
 *
 * A mailbox's directory is <partition>/<c1>/<c2>/<unique id>, c1 and c2 being the id's first two characters. An orphan – a directory
 * there whose name is a unique id that neither an entry nor removals.db has – is what a restored older list leaves, or a power loss in
 * the middle of a creation. It is never deleted: repair renames it to <partition>/quarantine./<unique id>.<hexadecimal time>.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/mboxlist_private.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/fs.h"

struct checking {
        struct mboxlist *ml;
        bool repair;
        void (*problem)(void *ctx, const char *text);
        void *ctx;
        struct str text;
};

static void report(struct checking *c)
{
        if (c->problem)
                c->problem(c->ctx, c->text.data);
        str_clear(&c->text);
}

/* Of a mailbox that is there, or is moved there, or was deleted: a session still reads it, or it is being removed. */
static bool is_known(struct checking *c, const char *id, const char *partition)
{
        const struct mbentry *e = mem_find_id(&c->ml->mem, id);
        struct mailbox *open = e ? NULL : mailbox_find_open(c->ml->store, id);
        bool known = (e && (e->type != MBTYPE_NORMAL || strcasecmp(e->partition, partition) == 0)) || open ||
                     removal_pending(c->ml, id, partition);

        mbentry_unref(&e);
        if (open)
                mailbox_unref(&open);
        return known;
}

static int quarantine(struct checking *c, const char *partition_dir, const char *path, const char *id, struct err *err)
{
        struct str dir = STR_INIT, to = STR_INIT;
        int ret;

        str_printf(&dir, "%s/quarantine.", partition_dir);
        ret = fs_mkdir_p_durable(dir.data, 0700, err);
        if (ret == 0) {
                str_printf(&to, "%s/%s.%08llX", dir.data, id, (unsigned long long)clock_wall_s());
                if (rename(path, to.data) < 0)
                        ret = err_errno(err, errno, "rename %s", path);
                else
                        ret = fs_sync_dir(dir.data, err);
        }
        if (ret == 0) {
                str_printf(&c->text, "quarantined %s as %s", path, to.data);
                report(c);
        }
        str_deinit(&dir);
        str_deinit(&to);
        return ret;
}

/* Has it a directory where it is listed? */
static bool has_directory(struct checking *c, const struct mbentry *e)
{
        const char *dir = store_partition_dir(c->ml->store, e->partition);
        struct str path = STR_INIT;
        bool there;

        if (!dir)
                return false;
        str_printf(&path, "%s/%c/%c/%s", dir, e->uniqueid[0], e->uniqueid[1], e->uniqueid);
        there = fs_exists(path.data);
        str_deinit(&path);
        return there;
}

/* A directory with the name of a unique id. All stripes are held while it is looked at for good, so that no creation is between
 * making the directory and committing the entry. */
static int check_directory(struct checking *c, const struct store_partition *p, const char *path, const char *id, struct err *err)
{
        const struct mbentry *e;
        int ret = 0;

        if (is_known(c, id, p->name))
                return 0;
        names_lock_all(c->ml);
        if (!is_known(c, id, p->name) && fs_exists(path)) {
                e = mem_find_id(&c->ml->mem, id);
                if (!e)
                        str_printf(&c->text, "orphan: %s belongs to no mailbox", path);
                else if (has_directory(c, e))          /* else check_entry() told of it */
                        str_printf(&c->text, "orphan: %s is a copy of %s, which is in partition %s", path, e->name, e->partition);
                if (c->text.len) {
                        report(c);
                        if (c->repair)
                                ret = quarantine(c, p->dir, path, id, err);
                }
                mbentry_unref(&e);
        }
        names_unlock_all(c->ml);
        return ret;
}

/* `prefix` is what the path says so far of the id: 0, 1 or 2 characters. */
static int walk(struct checking *c, const struct store_partition *p, const char *dir, const char *prefix, struct err *err)
{
        DIR *d = opendir(dir);
        struct dirent *e;
        int ret = 0;

        if (!d)
                return errno == ENOENT ? 0 : err_errno(err, errno, "opendir %s", dir);
        while (ret == 0 && (e = readdir(d)) != NULL) {
                size_t len = strlen(e->d_name);
                struct str path = STR_INIT;
                struct stat st;

                if (e->d_name[0] == '.')
                        continue;
                str_printf(&path, "%s/%s", dir, e->d_name);
                if (lstat(path.data, &st) < 0 || !S_ISDIR(st.st_mode)) {
                        ;
                } else if (strlen(prefix) == 2) {
                        if (len > 2 && len < 64 && strncmp(e->d_name, prefix, 2) == 0)
                                ret = check_directory(c, p, path.data, e->d_name, err);
                } else if (len == 1) {
                        char longer[3] = { prefix[0] ? prefix[0] : e->d_name[0], prefix[0] ? e->d_name[0] : '\0' };

                        ret = walk(c, p, path.data, longer, err);
                }
                str_deinit(&path);
        }
        closedir(d);
        return ret;
}

/* It has no directory where it is listed, but one elsewhere: an older list was restored. */
static void check_place(struct checking *c, const struct mbentry *e)
{
        const struct mbentry *now;
        const char *place;
        struct err err = ERR_INIT;

        names_lock_all(c->ml);
        now = mem_find(&c->ml->mem, e->name);
        place = now == e && !has_directory(c, e) ? mboxlist_newest_place(c->ml, e) : NULL;
        if (place && !c->repair) {
                str_printf(&c->text, "moved: %s is in partition %s, and listed in %s", e->name, place, e->partition);
        } else if (place && mboxlist_set_partition(c->ml, e, place, &err) < 0) {
                str_printf(&c->text, "moved: %s is in partition %s, and listed in %s: %s", e->name, place, e->partition, err.text);
        } else if (place) {
                str_printf(&c->text, "moved: %s is listed in partition %s now, where it is, not in %s", e->name, place, e->partition);
        }
        names_unlock_all(c->ml);
        mbentry_unref(&now);
}

static void check_entry(struct checking *c, const struct mbentry *e)
{
        const char *dir;
        const struct mbentry *by_id;

        if (e->type != MBTYPE_NORMAL)
                return;
        by_id = mem_find_id(&c->ml->mem, e->uniqueid);
        if (by_id && strcmp(by_id->name, e->name) != 0)
                str_printf(&c->text, "duplicate: %s and %s have one unique id %s", e->name, by_id->name, e->uniqueid);
        mbentry_unref(&by_id);
        if (!c->text.len && !has_directory(c, e)) {
                check_place(c, e);
                if (c->text.len) {
                        report(c);
                        return;
                }
                dir = store_partition_dir(c->ml->store, e->partition);
                if (!dir)
                        str_printf(&c->text, "dangling: %s is on partition %s, which is not configured", e->name, e->partition);
                else
                        str_printf(&c->text, "dangling: %s has no directory %s/%c/%c/%s", e->name, dir, e->uniqueid[0], e->uniqueid[1], e->uniqueid);
        }
        if (!c->text.len)
                return;
        /* Was it deleted, renamed or moved meanwhile? */
        by_id = mem_find(&c->ml->mem, e->name);
        if (by_id == e)
                report(c);
        else
                str_clear(&c->text);
        mbentry_unref(&by_id);
}

static void check_entries(struct checking *c)
{
        const struct mbentry *found[256];
        struct str after = STR_INIT;
        unsigned n;

        while ((n = mem_next(&c->ml->mem, "", after.data, found, 256)) > 0) {
                str_clear(&after);
                str_append_str(&after, found[n - 1]->name);
                for (unsigned i = 0; i < n; i++) {
                        check_entry(c, found[i]);
                        mbentry_unref(&found[i]);
                }
        }
        str_deinit(&after);
}

int mboxlist_check(struct mboxlist *ml, bool repair, void (*problem)(void *ctx, const char *text), void *ctx, struct err *err)
{
        struct checking c = { ml, repair, problem, ctx, STR_INIT };
        int ret = repair ? names_writable(ml, NULL, err) : 0;

        if (ret == 0)
                check_entries(&c);
        for (struct store_partition *p = atomic_load(&ml->store->partitions); ret == 0 && p; p = atomic_load(&p->next))
                if (!repair || !atomic_load(&p->failed))
                        ret = walk(&c, p, p->dir, "", err);
        str_deinit(&c.text);
        return ret;
}
