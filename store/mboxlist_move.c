/*
 * mboxlist_move - mailboxes to another partition, with all below them, while they are used.
 *
 * Up to ml->move_together at a time go together: what can be copied of all of them is copied while everything goes on; then one after the other is
 * held in both places (mailbox_relocate.c); then, with the stripe of their names held, one transaction moves all their entries. So after
 * whatever stop either all of a group are there or none is, and what was moved stays moved: who asks again gets the rest.
 *
 * One moves at a time (ml->moving): a directory that is being filled is not one to be removed (mboxlist_removal.c).
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "store/mboxlist_private.h"
#include "store/relocation.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/log.h"

#define ROUNDS_MAX 20                           /* groups in a row that were made or renamed while their neighbours were copied */

struct moving {
        const struct mbentry *entry;            /* as it was when we began, with a reference */
        const struct mbentry *now;              /* as it is, with a reference; NULL: it does not go along after all */
        struct mailbox *mbox;
        struct relocation *r;
        uint64_t octets;
};

struct move {
        struct mboxlist *ml;
        const struct mboxlist_move *what;
        const char *name, *dir;                 /* of the partition */
        ARRAY(struct moving) group;
        ARRAY(const char *) ids;                /* of the group, borrowed */
};

static bool is_moved(const struct move *mv, const struct mbentry *e)
{
        return e->type != MBTYPE_NORMAL || strcasecmp(e->partition, mv->name) == 0 ||
               (mv->what->from && strcasecmp(e->partition, mv->what->from) != 0);
}

static bool in_tree(const struct move *mv, const struct mbentry *e)
{
        return strcmp(e->name, mv->what->name) == 0 || (mv->what->with_children && mailname_is_below(e->name, mv->what->name));
}

/* The next ones that are not there yet. ERR_NOTFOUND: there is nothing of that name. */
static int choose(struct move *mv, struct err *err)
{
        struct entries all = { ARRAY_INIT };
        bool any;
        int rc = 0;

        entries_collect(mv->ml, mv->what->name, mv->what->with_children, &all);
        any = all.list.n > 0 && (mv->what->with_children || all.list.v[0]->type == MBTYPE_NORMAL);
        for (size_t i = 0; i < all.list.n && mv->group.n < mv->ml->move_together && rc == 0; i++) {
                const struct mbentry *e = all.list.v[i];

                if (is_moved(mv, e))
                        continue;
                rc = names_writable(mv->ml, e->partition, err);
                *ARRAY_PUSH(&mv->group) = (struct moving){ .entry = mbentry_ref(e) };
                *ARRAY_PUSH(&mv->ids) = e->uniqueid;
        }
        entries_free(&all);
        return any ? rc : err_set(err, ERR_NOTFOUND, "no mailbox %s", mv->what->name);
}

/* The stripes of all that moves: "user" is everybody. */
static bool is_all(const struct move *mv)
{
        const char *bang = strchr(mv->what->name, '!');

        return strcmp(bang ? bang + 1 : mv->what->name, "user") == 0;
}

static void lock_tree(struct move *mv) ACQUIRE(names_class);
static void lock_tree(struct move *mv) NO_TSA
{
        if (is_all(mv))
                names_lock_all(mv->ml);
        else
                names_lock(mv->ml, mv->what->name, NULL);
}

static void unlock_tree(struct move *mv) RELEASE(names_class);
static void unlock_tree(struct move *mv) NO_TSA
{
        if (is_all(mv))
                names_unlock_all(mv->ml);
        else
                names_unlock(mv->ml, mv->what->name, NULL);
}

/* Theirs are directories that nobody would miss. Before the first one no removal is between reading that it is done and forgetting it. */
static int announce(struct move *mv, struct err *err)
{
        int rc;

        lock_tree(mv);
        atomic_store(&mv->ml->is_moving, true);
        rc = removals_announce(mv->ml, mv->ids.v, mv->ids.n, mv->name, err);
        unlock_tree(mv);
        return rc;
}

static int copy(struct move *mv, struct err *err)
{
        for (size_t i = 0; i < mv->group.n; i++) {
                struct moving *g = &mv->group.v[i];
                struct mailbox_ident ident;
                struct err mine = ERR_INIT;

                if (mbentry_ident(mv->ml->store, g->entry, &ident, err) < 0)
                        return -1;
                if (mailbox_open(mv->ml->store, &ident, &g->mbox, &mine) == 0 &&
                    relocation_begin(g->mbox, mv->dir, &g->r, &mine) == 0 &&
                    relocation_copy(g->r, mv->what->stopped, mv->what->ctx, &mine) == 0)
                        continue;
                err_copy(err, &mine);
                return err_prefix(err, "%s", g->entry->name);
        }
        for (size_t i = 0; i < mv->group.n; i++)
                if (relocation_join(mv->group.v[i].r, mv->what->stopped, mv->what->ctx, err) < 0)
                        return err_prefix(err, "%s", mv->group.v[i].entry->name);
        return 0;
}

/* Those that are still in the tree and in the partition where they were. */
static int decide(struct move *mv, struct name_changes *changes, struct err *err) REQUIRES(names_class);
static int decide(struct move *mv, struct name_changes *changes, struct err *err)
{
        for (size_t i = 0; i < mv->group.n; i++) {
                struct moving *g = &mv->group.v[i];
                struct mbentry moved;
                const struct mbentry *e = mem_find_id(&mv->ml->mem, g->entry->uniqueid);

                if (!e || e->type != MBTYPE_NORMAL || !in_tree(mv, e)) {
                        mbentry_unref(&e);              /* deleted or renamed meanwhile */
                        continue;
                }
                g->now = e;
                if (relocation_decide(g->r, err) < 0)
                        return err_prefix(err, "%s", e->name);
                moved = *e;
                moved.partition = (char *)(uintptr_t)mv->name;
                moved.changed = clock_wall_s();
                changes_set(changes, e->name, mbentry_create(&moved), NULL);
                changes_moved(changes, e, &moved);
        }
        return 0;
}

/* All of the group at once; then those that went are ended. */
static int commit(struct move *mv, struct err *err)
{
        struct name_changes changes;
        struct err mine = ERR_INIT;
        bool in_doubt = false;
        int rc;

        changes_init(&changes);
        lock_tree(mv);
        rc = decide(mv, &changes, &mine);
        if (rc == 0) {
                rc = mboxlist_commit(mv->ml, &changes, &mine);
                in_doubt = rc < 0 && db_env_failed(mv->ml->store->env, NULL);
        }
        for (size_t i = 0; i < mv->group.n; i++) {
                struct moving *g = &mv->group.v[i];

                g->octets = relocation_octets(g->r);
                if (!g->now)
                        continue;
                if (rc == 0)
                        relocation_finish(&g->r);
                else
                        relocation_abort(&g->r, in_doubt ? &mine : NULL);
        }
        unlock_tree(mv);
        if (rc < 0)
                err_copy(err, &mine);
        changes_deinit(&changes);
        return rc;
}

/* What of it is not needed any more goes: the directories that were left, or those that were made for nothing. */
static void end_group(struct move *mv, bool moved)
{
        struct err err = ERR_INIT;
        size_t gone = 0;

        for (size_t i = 0; i < mv->group.n; i++) {
                struct moving *g = &mv->group.v[i];

                if (g->r)
                        relocation_abort(&g->r, NULL);
                if (moved && g->now) {
                        const char *dir = store_partition_dir(mv->ml->store, g->now->partition);
                        const char *id = g->entry->uniqueid;

                        if (dir && relocation_remove_old(mv->ml->store, id, dir))
                                (void)removals_forget(mv->ml, &id, 1, g->now->partition, NULL);
                        if (mv->what->moved)
                                mv->what->moved(mv->what->ctx, g->now, mv->name, g->octets);
                } else if (relocation_is_gone(mv->dir, g->entry->uniqueid, &err)) {
                        mv->ids.v[gone++] = g->entry->uniqueid;
                }
                if (g->mbox)
                        mailbox_unref(&g->mbox);
        }
        if (removals_forget(mv->ml, mv->ids.v, gone, mv->name, &err) < 0)
                log_event(LOG_WARN, NULL, "mboxlist.move", "reason=\"%s\"", err.text);
        for (size_t i = 0; i < mv->group.n; i++) {
                mbentry_unref(&mv->group.v[i].entry);
                mbentry_unref(&mv->group.v[i].now);
        }
        mv->group.n = mv->ids.n = 0;
}

/* One after the other, until nothing is left that is not there. */
static int move_groups(struct move *mv, struct err *err)
{
        unsigned in_vain = 0;
        bool any = false;
        int rc;

        while ((rc = choose(mv, err)) == 0 && mv->group.n > 0) {
                bool went = false;

                rc = announce(mv, err);
                if (rc == 0)
                        rc = copy(mv, err);
                if (rc == 0)
                        rc = commit(mv, err);
                for (size_t i = 0; i < mv->group.n; i++)
                        went = went || mv->group.v[i].now;
                end_group(mv, rc == 0);
                any = any || went;
                in_vain = went ? 0 : in_vain + 1;
                if (rc == 0 && in_vain == ROUNDS_MAX)
                        rc = err_set(err, ERR_BUSY, "%s: mailboxes are renamed faster than they are moved", mv->what->name);
                if (rc < 0)
                        return -1;
        }
        end_group(mv, false);
        if (rc < 0 || any)
                return rc;
        return mv->what->from ? err_set(err, ERR_EXISTS, "%s: nothing of it is in partition %s", mv->what->name, mv->what->from)
                              : err_set(err, ERR_EXISTS, "%s is in partition %s already", mv->what->name, mv->name);
}

int mboxlist_move(struct mboxlist *ml, const struct mboxlist_move *what, struct err *err)
{
        struct move mv = { .ml = ml, .what = what };
        int rc;

        if (names_writable(ml, what->partition, err) < 0)
                return -1;
        mv.name = store_partition_name(ml->store, what->partition);
        mv.dir = store_partition_dir(ml->store, what->partition);
        mutex_lock(&ml->moving);
        rc = move_groups(&mv, err);
        atomic_store(&ml->is_moving, false);
        mutex_unlock(&ml->moving);
        ARRAY_FREE(&mv.group);
        ARRAY_FREE(&mv.ids);
        return rc;
}

/* ---- mailboxes that are not where the list says ---- */

/*
 * A copy that was being made when power was lost has a manifest that is newer, and perhaps not all of the log, or of the blobs; one that was
 * being removed, likewise: what is there counts first.
 */
static bool is_newer(const struct relocation_found *a, const struct relocation_found *b)
{
        if (a->seq != b->seq)
                return a->seq > b->seq;
        return a->blobs != b->blobs ? a->blobs > b->blobs : a->generation > b->generation;
}

const char *mboxlist_newest_place(struct mboxlist *ml, const struct mbentry *e)
{
        const char *here = store_partition_dir(ml->store, e->partition), *best = NULL;
        struct relocation_found found, most = { 0 };

        if (here && relocation_look(here, e->uniqueid, &most))
                best = e->partition;
        for (struct store_partition *p = atomic_load(&ml->store->partitions); p; p = atomic_load(&p->next)) {
                if (strcasecmp(p->name, e->partition) == 0 || !relocation_look(p->dir, e->uniqueid, &found) || (best && !is_newer(&found, &most)))
                        continue;
                best = p->name;
                most = found;
        }
        return best;
}

int mboxlist_set_partition(struct mboxlist *ml, const struct mbentry *e, const char *partition, struct err *err)
{
        struct name_changes changes;
        struct mbentry moved = *e;
        int rc;

        moved.partition = (char *)(uintptr_t)partition;
        moved.changed = clock_wall_s();
        changes_init(&changes);
        changes_set(&changes, e->name, mbentry_create(&moved), NULL);
        rc = mboxlist_commit(ml, &changes, err);
        changes_deinit(&changes);
        if (rc == 0)
                log_event(LOG_WARN, NULL, "mboxlist.moved", "mailbox=%s uniqueid=%s from=%s to=%s", e->name, e->uniqueid, e->partition, partition);
        return rc;
}

static int forget_restored(struct db_txn *txn, void *ctx, struct err *err)
{
        return db_del(ctx, txn, DB_RESTORED_KEY, err);
}

int mboxlist_after_restore(struct mboxlist *ml, struct err *err)
{
        struct entries all = { ARRAY_INIT };
        int rc = ml->db && !ml->store->readonly ? db_get(ml->db, NULL, DB_RESTORED_KEY, NULL, err) : 0;

        if (rc <= 0)
                return rc;
        names_lock_all(ml);
        entries_collect(ml, "", true, &all);
        for (size_t i = 0; i < all.list.n && rc >= 0; i++) {
                const struct mbentry *e = all.list.v[i];
                const char *place = e->type == MBTYPE_NORMAL ? mboxlist_newest_place(ml, e) : NULL;

                if (place && strcasecmp(place, e->partition) != 0)
                        rc = mboxlist_set_partition(ml, e, place, err);
        }
        if (rc >= 0)
                rc = db_run(ml->store->env, false, forget_restored, ml->db, err);      /* looking once more does no harm */
        names_unlock_all(ml);
        entries_free(&all);
        return rc < 0 ? -1 : 0;
}
