/* mboxlist_change - putting the changes of one transaction together: parents, tombstones, what becomes of emptied intermediates. */
#include <stdlib.h>
#include <string.h>

#include "store/mboxlist_private.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/must.h"

void changes_init(struct name_changes *changes)
{
        memset(changes, 0, sizeof *changes);
}

void changes_deinit(struct name_changes *changes)
{
        for (size_t i = 0; i < changes->list.n; i++) {
                mbentry_unref(&changes->list.v[i].entry);
                mbentry_unref(&changes->list.v[i].tombstone);
        }
        ARRAY_FREE(&changes->list);
        ARRAY_FREE(&changes->made);
        ARRAY_FREE(&changes->removals);
        arena_deinit(&changes->arena);
}

static struct name_change *change_of(struct name_changes *changes, const char *name)
{
        struct name_change *c = ARRAY_PUSH(&changes->list);

        memset(c, 0, sizeof *c);
        c->name = arena_strdup(&changes->arena, name);
        return c;
}

void changes_set(struct name_changes *changes, const char *name, const struct mbentry *entry, const char *former)
{
        struct name_change *c = change_of(changes, name);

        c->entry = entry;
        c->former = former ? arena_strdup(&changes->arena, former) : NULL;
}

void changes_tombstone(struct name_changes *changes, const struct mbentry *tombstone)
{
        change_of(changes, tombstone->name)->tombstone = tombstone;
}

uint64_t names_next_modseq(struct mboxlist *ml)
{
        return atomic_fetch_add(&ml->modseq, 1) + 1;
}

static const struct mbentry *make_intermediate(struct mboxlist *ml, const char *name, uint32_t uidvalidity)
{
        struct mbentry e = {
                .name = (char *)(uintptr_t)name,
                .type = MBTYPE_INTERMEDIATE,
                .uidvalidity = uidvalidity,             /* remembered of a mailbox that was there */
                .createdmodseq = names_next_modseq(ml),
                .changed = clock_wall_s(),
        };

        e.foldermodseq = e.createdmodseq;
        return mbentry_create(&e);
}

/* Names below deletedprefix carry the time and never come again: what is remembered of them is for replicas only, and for some time (TOMBSTONE_DAYS). */
static const struct mbentry *make_tombstone(struct mboxlist *ml, const struct mbentry *was)
{
        struct mbentry e = *was;

        if (was->uidvalidity == 0)
                return NULL;
        e.type = MBTYPE_DELETED;
        e.acl = e.specialuse = e.server = e.quotaroot = NULL;
        e.foldermodseq = names_next_modseq(ml);
        e.changed = clock_wall_s();
        return mbentry_create(&e);
}

/* Is there an entry below `name` that is not at or below `except`? */
static bool has_others_below(struct mboxlist *ml, const char *name, const char *except)
{
        char after[2 * MAILNAME_MAX + 64];
        const struct mbentry *found[16];
        unsigned n;

        if (strlen(name) >= sizeof after)
                return true;
        strcpy(after, name);
        while ((n = mem_next(&ml->mem, name, after, found, 16)) > 0) {
                bool yes = false;

                for (unsigned i = 0; i < n; i++) {
                        yes |= strcmp(found[i]->name, except) != 0 && !mailname_is_below(found[i]->name, except);
                        if (i + 1 == n && strlen(found[i]->name) < sizeof after)
                                strcpy(after, found[i]->name);
                        else if (i + 1 == n)
                                yes = true;
                        mbentry_unref(&found[i]);
                }
                if (yes)
                        return true;
        }
        return false;
}

static void remove_name(struct mboxlist *ml, struct name_changes *changes, const struct mbentry *e)
{
        struct name_change *c = change_of(changes, e->name);

        c->tombstone = make_tombstone(ml, e);
}

/* Intermediates above that exist only for the sake of `name` – but not those that `keep` (NULL: none) needs or takes over. */
static void prune_parents(struct mboxlist *ml, struct name_changes *changes, const char *name, const char *keep)
{
        const char *gone = name, *parent;

        while ((parent = mailname_parent(gone, &changes->arena)) != NULL) {
                const struct mbentry *e;

                if (keep && (strcmp(keep, parent) == 0 || mailname_is_below(keep, parent)))
                        return;
                e = mem_find(&ml->mem, parent);
                if (!e || e->type != MBTYPE_INTERMEDIATE || has_others_below(ml, parent, gone)) {
                        mbentry_unref(&e);
                        return;
                }
                remove_name(ml, changes, e);
                mbentry_unref(&e);
                gone = parent;
        }
}

void changes_remove(struct mboxlist *ml, struct name_changes *changes, const struct mbentry *e, bool children_go, bool prune,
                    const char *keep)
{
        if (!children_go && mem_has_children(&ml->mem, e->name)) {
                changes_set(changes, e->name, make_intermediate(ml, e->name, e->uidvalidity), NULL);
                return;
        }
        remove_name(ml, changes, e);
        if (prune)
                prune_parents(ml, changes, e->name, keep);
}

void changes_add_parents(struct mboxlist *ml, struct name_changes *changes, const char *name)
{
        const char *parent = name;

        /* Deleted trees stand without parents: only admins see them, each name by itself. */
        if (mailname_is_deleted(name, conf_str(store_conf(ml->store), NULL, "deletedprefix")))
                return;
        while ((parent = mailname_parent(parent, &changes->arena)) != NULL) {
                const struct mbentry *e = mem_find(&ml->mem, parent);
                uint32_t remembered = 0;

                if (e) {
                        mbentry_unref(&e);
                        return;
                }
                if (mboxlist_remembered(ml, parent, &remembered, NULL) < 0)
                        remembered = 0;
                changes_set(changes, parent, make_intermediate(ml, parent, remembered), NULL);
        }
}

void entries_collect(struct mboxlist *ml, const char *name, bool with_children, struct entries *out)
{
        const struct mbentry *e = mem_find(&ml->mem, name);
        const char *after = name;
        unsigned n;

        if (e)
                *ARRAY_PUSH(&out->list) = e;
        if (!with_children)
                return;
        do {
                ARRAY_RESERVE(&out->list, 512);
                n = mem_next(&ml->mem, name, after, out->list.v + out->list.n, 512);
                out->list.n += n;
                if (n)
                        after = out->list.v[out->list.n - 1]->name;
        } while (n == 512);
}

int names_writable(struct mboxlist *ml, const char *partition, struct err *err)
{
        const char *dir;

        if (ml->store->readonly || !ml->db)
                return err_set(err, ERR_READONLY, "the store is open for reading only");
        if (store_may_change(ml->store, err) < 0)
                return -1;
        if (conf_switch(store_conf(ml->store), NULL, "readonly"))
                return err_set(err, ERR_READONLY, "the configuration says readonly");
        if (!partition)
                return 0;
        dir = store_partition_dir(ml->store, partition);
        if (!dir)
                return err_set(err, ERR_NOTFOUND, "there is no partition %s", partition);
        if (store_partition_failed(ml->store, dir))
                return err_set(err, ERR_READONLY, "partition %s takes no changes now", partition);
        return 0;
}
