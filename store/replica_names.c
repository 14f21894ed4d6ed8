/*
 * replica_names - the mailbox list as replication changes it: one name at a time, with modseqs and uidvalidity as given.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "store/annot_user.h"
#include "store/change.h"
#include "store/mailname.h"
#include "store/mboxlist_private.h"
#include "store/replica_private.h"
#include "store/seen_private.h"
#include "store/server_annot.h"
#include "store/sieve_files.h"
#include "store/store_private.h"
#include "store/user.h"
#include "util/clock.h"
#include "util/must.h"

static bool is_deleted_name(struct store *store, const char *name)
{
        return mailname_is_deleted(name, conf_str(store_conf(store), NULL, "deletedprefix"));
}

static unsigned mark(bool local)
{
        return change_mark(change_marks() | CHANGE_REPLICATED | (local ? CHANGE_LOCAL : 0u));
}

/* ---- one entry changed in place ---- */

static bool entry_is_so(const struct mbentry *e, const struct mbentry *wanted)
{
        return strcmp(e->acl, wanted->acl) == 0 && strcmp(e->specialuse, wanted->specialuse) == 0 && e->uidvalidity == wanted->uidvalidity &&
               e->createdmodseq == wanted->createdmodseq && e->foldermodseq == wanted->foldermodseq;
}

static int change_entry_locked(struct mboxlist *ml, const struct mbentry *e, const struct replica_entry_change *change, bool *acl_changed_r,
                               struct err *err) REQUIRES(names_class);
static int change_entry_locked(struct mboxlist *ml, const struct mbentry *e, const struct replica_entry_change *change, bool *acl_changed_r,
                               struct err *err)
{
        struct name_changes changes;
        struct mbentry wanted = *e;
        int rc;

        if (change->acl)
                wanted.acl = (char *)(uintptr_t)change->acl;
        if (change->specialuse)
                wanted.specialuse = (char *)(uintptr_t)change->specialuse;
        if (change->uidvalidity)
                wanted.uidvalidity = change->uidvalidity;
        if (change->createdmodseq)
                wanted.createdmodseq = change->createdmodseq;
        if (change->foldermodseq)
                wanted.foldermodseq = change->foldermodseq;
        if (entry_is_so(e, &wanted))
                return 0;
        *acl_changed_r = strcmp(e->acl, wanted.acl) != 0;
        wanted.changed = clock_wall_s();
        changes_init(&changes);
        changes_set(&changes, e->name, mbentry_create(&wanted), NULL);
        rc = mboxlist_commit(ml, &changes, err);
        changes_deinit(&changes);
        if (rc == 0)
                mboxlist_note_uidvalidity(ml, wanted.uidvalidity);
        return rc;
}

int replica_change_entry(struct store *store, const char *name, const char *uniqueid, const struct replica_entry_change *change, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(store);
        const struct mbentry *e;
        bool acl_changed = false;
        int rc;

        if (names_writable(ml, NULL, err) < 0)
                return -1;
        names_lock(ml, name, NULL);
        e = mem_find(&ml->mem, name);
        if (e && e->type == MBTYPE_NORMAL && strcmp(e->uniqueid, uniqueid) == 0)
                rc = change_entry_locked(ml, e, change, &acl_changed, err);
        else
                rc = err_set(err, ERR_NOTFOUND, "%s is not there any more", name);
        names_unlock(ml, name, NULL);
        mbentry_unref(&e);
        if (acl_changed)                                /* who has it selected has other rights now */
                mailbox_tell_watchers(store, uniqueid);
        return rc;
}

/* ---- intermediates and tombstones ---- */

/* An intermediate elsewhere has this id: it is the same one, under a name that it has not any more. It goes on there without. */
static int take_id(struct mboxlist *ml, const char *uniqueid, const char *name, struct err *err) EXCLUDES(names_class)
{
        const struct mbentry *twin = mem_find_id(&ml->mem, uniqueid), *now;
        struct name_changes changes;
        int rc = 0;

        if (!twin || strcmp(twin->name, name) == 0 || twin->type != MBTYPE_INTERMEDIATE) {
                mbentry_unref(&twin);
                return 0;
        }
        changes_init(&changes);
        names_lock(ml, twin->name, NULL);
        now = mem_find(&ml->mem, twin->name);
        if (now && now->type == MBTYPE_INTERMEDIATE && strcmp(now->uniqueid, uniqueid) == 0) {
                struct mbentry without = *now;

                without.uniqueid = NULL;
                changes_set(&changes, now->name, mbentry_create(&without), NULL);
                rc = mboxlist_commit(ml, &changes, err);
        }
        names_unlock(ml, twin->name, NULL);
        changes_deinit(&changes);
        mbentry_unref(&now);
        mbentry_unref(&twin);
        return rc;
}

static int put_entry_locked(struct mboxlist *ml, const struct replica_values *v, const struct mbentry *there, struct err *err)
        REQUIRES(names_class);
static int put_entry_locked(struct mboxlist *ml, const struct replica_values *v, const struct mbentry *there, struct err *err)
{
        struct mbentry e = { .name = (char *)(uintptr_t)v->name, .uniqueid = (char *)(uintptr_t)v->uniqueid, .type = v->type,
                .createdmodseq = v->createdmodseq, .foldermodseq = v->foldermodseq ? v->foldermodseq : v->highestmodseq,
                .changed = clock_wall_s() };
        struct name_changes changes;
        int rc = 0;

        if (there)
                e.uidvalidity = there->uidvalidity;
        else if (mboxlist_remembered(ml, v->name, &e.uidvalidity, err) < 0)
                return -1;
        if (there && v->type == MBTYPE_INTERMEDIATE && strcmp(there->uniqueid, e.uniqueid) == 0 && there->createdmodseq == e.createdmodseq &&
            there->foldermodseq == e.foldermodseq)
                return 0;
        if (v->type == MBTYPE_DELETED && v->uidvalidity > e.uidvalidity)
                e.uidvalidity = v->uidvalidity;
        changes_init(&changes);
        if (v->type == MBTYPE_INTERMEDIATE) {
                changes_add_parents(ml, &changes, v->name);
                changes_set(&changes, v->name, mbentry_create(&e), NULL);
                rc = mboxlist_commit(ml, &changes, err);
        } else if (!mem_has_children(&ml->mem, v->name)) {
                changes_tombstone(&changes, mbentry_create(&e));
                rc = mboxlist_commit(ml, &changes, err);
        }
        changes_deinit(&changes);
        return rc;
}

enum replica_code replica_apply_entry(struct store *store, const struct replica_values *v, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(store);
        const struct mbentry *there, *twin;
        enum replica_code code = REPLICA_OK;

        if (names_writable(ml, NULL, err) < 0 || (v->type == MBTYPE_INTERMEDIATE && take_id(ml, v->uniqueid, v->name, err) < 0))
                return REPLICA_FAILED;
        names_lock(ml, v->name, NULL);
        there = mem_find(&ml->mem, v->name);
        twin = v->type == MBTYPE_INTERMEDIATE ? mem_find_id(&ml->mem, v->uniqueid) : NULL;
        if ((there && there->type != MBTYPE_INTERMEDIATE) || (twin && twin->type != MBTYPE_INTERMEDIATE)) {
                err_set(err, ERR_EXISTS, "%s is a mailbox here", there ? there->name : twin->name);
                code = REPLICA_MOVED;
        } else if (put_entry_locked(ml, v, there, err) < 0) {
                code = replica_code_of(err);
        }
        names_unlock(ml, v->name, NULL);
        mbentry_unref(&there);
        mbentry_unref(&twin);
        return code;
}

/* ---- deleting ---- */

static int remove_intermediate_locked(struct mboxlist *ml, const struct mbentry *e, struct err *err) REQUIRES(names_class);
static int remove_intermediate_locked(struct mboxlist *ml, const struct mbentry *e, struct err *err)
{
        struct name_changes changes;
        int rc;

        if (mem_has_children(&ml->mem, e->name))        /* it goes with the last of them */
                return 0;
        changes_init(&changes);
        changes_remove(ml, &changes, e, false, true, NULL);
        rc = mboxlist_commit(ml, &changes, err);
        changes_deinit(&changes);
        return rc;
}

static enum replica_code delete_name(struct store *store, const char *name, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(store);
        const struct mbentry *e = mboxlist_find(ml, name);
        int rc;

        if (!e) {
                err_set(err, ERR_NOTFOUND, "no mailbox %s", name);
                return REPLICA_NONEXISTENT;
        }
        if (e->type == MBTYPE_INTERMEDIATE) {
                names_lock(ml, name, NULL);
                mbentry_unref(&e);
                e = mem_find(&ml->mem, name);
                rc = e && e->type == MBTYPE_INTERMEDIATE ? remove_intermediate_locked(ml, e, err) : 0;
                names_unlock(ml, name, NULL);
        } else if (e->type == MBTYPE_NORMAL) {
                rc = mboxlist_delete(ml, name, true, err);
        } else {
                rc = err_set(err, ERR_UNSUPPORTED, "%s is not a mailbox of this server", name);
        }
        mbentry_unref(&e);
        if (rc < 0 && err->code == ERR_UNSUPPORTED)
                return REPLICA_NOTSUPPORTED;
        return rc < 0 ? replica_code_of(err) : REPLICA_OK;
}

enum replica_code replica_delete(struct store *store, const char *name, bool local, struct err *err)
{
        unsigned was = mark(local);
        enum replica_code code = delete_name(store, name, err);

        change_mark(was);
        return code;
}

/* ---- renaming ---- */

/* The mailbox's own uidvalidity and raclmodseq, exactly (0: as they are), or only upwards. Waits for the disk. */
static int set_numbers(struct store *store, const char *name, uint32_t uidvalidity, uint64_t raclmodseq, bool upwards, struct err *err)
{
        struct replica_batch b;
        struct mailbox *m;
        struct waiter waiter;
        int rc;

        if (replica_open(store, name, &m, err) < 0)
                return -1;
        replica_batch_begin(&b, m);
        waiter_init_blocking(&waiter);
        mailbox_lock(m);
        state_counters(m, &b.values.counters);
        if (uidvalidity && (!upwards || uidvalidity > b.values.counters.uidvalidity))
                b.values.counters.uidvalidity = uidvalidity;
        if (raclmodseq > b.values.counters.options.raclmodseq)
                b.values.counters.options.raclmodseq = raclmodseq;
        rc = mailbox_writable_locked(m, err);
        if (rc == 0)
                rc = replica_write_locked(&b, m, state_is_quiet(m), &waiter, err);
        mailbox_unlock(m);
        mailbox_after(m);
        replica_batch_end(&b, rc == 0);
        if (rc == 0)
                rc = waiter_block(&waiter, err);
        mailbox_unref(&m);
        return rc;
}

static enum replica_code check_rename(struct store *store, const struct mbentry *e, const char *to, const char *partition, struct err *err)
{
        if (partition && !store_partition_dir(store, partition)) {
                err_set(err, ERR_SYNTAX, "there is no partition %s", partition);
                return REPLICA_BAD;
        }
        if (e->type != MBTYPE_NORMAL && e->type != MBTYPE_INTERMEDIATE) {
                err_set(err, ERR_UNSUPPORTED, "%s is not a mailbox of this server", e->name);
                return REPLICA_NOTSUPPORTED;
        }
        if (strcmp(e->name, to) == 0)
                return REPLICA_OK;
        if (mailname_check_new(to, true, err) < 0)
                return REPLICA_BAD;
        if (mailname_is_below(to, e->name) ||
            (mailname_is_inbox(e->name) && !is_deleted_name(store, to) && !conf_switch(store_conf(store), NULL, "allowusermoves"))) {
                err_set(err, ERR_UNSUPPORTED, "%s cannot become %s", e->name, to);
                return REPLICA_NOTSUPPORTED;
        }
        return REPLICA_OK;
}

static enum replica_code rename_locked(struct mboxlist *ml, const char *from, const char *to, uint32_t uidvalidity, struct err *err)
        REQUIRES(names_class);
static enum replica_code rename_locked(struct mboxlist *ml, const char *from, const char *to, uint32_t uidvalidity, struct err *err)
{
        const struct mbentry *e = mem_find(&ml->mem, from), *there = mem_find(&ml->mem, to);
        enum replica_code code = REPLICA_OK;
        struct name_changes changes;

        changes_init(&changes);
        changes.ignore_quota = true;
        if (!e) {
                err_set(err, ERR_NOTFOUND, "no mailbox %s", from);
                code = REPLICA_NONEXISTENT;
        } else if (there && there->type != MBTYPE_INTERMEDIATE) {
                err_set(err, ERR_EXISTS, "mailbox %s exists", to);
                code = REPLICA_MOVED;
        } else {
                struct mbentry renamed = *e;

                renamed.name = (char *)(uintptr_t)to;
                renamed.changed = clock_wall_s();
                if (uidvalidity && e->type == MBTYPE_NORMAL)
                        renamed.uidvalidity = uidvalidity;
                changes_set(&changes, to, mbentry_create(&renamed), from);
                changes_remove(ml, &changes, e, false, true, to);
                changes_add_parents(ml, &changes, to);
                if (mboxlist_commit(ml, &changes, err) < 0)
                        code = replica_code_of(err);
                else if (e->type == MBTYPE_NORMAL)
                        mailbox_set_name(ml->store, e->uniqueid, to);
        }
        changes_deinit(&changes);
        mbentry_unref(&e);
        mbentry_unref(&there);
        return code;
}

static enum replica_code rename_name(struct store *store, const struct mbentry *e, const char *to, const char *partition, uint32_t uidvalidity,
                                     struct err *err)
{
        struct mboxlist *ml = store_mboxlist(store);
        enum replica_code code = check_rename(store, e, to, partition, err);

        if (code != REPLICA_OK)
                return code;
        if (names_writable(ml, NULL, err) < 0)
                return REPLICA_FAILED;
        if (strcmp(e->name, to) != 0) {
                names_lock(ml, e->name, to);
                code = rename_locked(ml, e->name, to, uidvalidity, err);
                names_unlock(ml, e->name, to);
        }
        if (code != REPLICA_OK || e->type != MBTYPE_NORMAL)
                return code;
        if (uidvalidity && set_numbers(store, to, uidvalidity, 0, false, err) < 0)
                return replica_code_of(err);
        if (partition && strcasecmp(partition, e->partition) != 0 &&
            mboxlist_move(ml, &(struct mboxlist_move){ .name = to, .partition = partition }, err) < 0)
                return replica_code_of(err);
        return REPLICA_OK;
}

enum replica_code replica_rename(struct store *store, const char *from, const char *to, const char *partition, uint32_t uidvalidity, bool local,
                                 struct err *err)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(store), from);
        enum replica_code code = REPLICA_NONEXISTENT;
        unsigned was = mark(local);

        if (e)
                code = rename_name(store, e, to, partition, uidvalidity, err);
        else
                err_set(err, ERR_NOTFOUND, "no mailbox %s", from);
        mbentry_unref(&e);
        change_mark(was);
        return code;
}

/* ---- the master takes over what is higher ---- */

enum replica_code replica_lift(struct store *store, const char *name, uint32_t uidvalidity, uint64_t foldermodseq, uint64_t raclmodseq,
                               struct err *err)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(store), name);
        struct replica_entry_change change = { .uidvalidity = 0 };
        int rc;

        if (!e || e->type != MBTYPE_NORMAL) {
                mbentry_unref(&e);
                err_set(err, ERR_NOTFOUND, "no mailbox %s", name);
                return REPLICA_NONEXISTENT;
        }
        if (uidvalidity > e->uidvalidity)
                change.uidvalidity = uidvalidity;
        if (foldermodseq > e->foldermodseq)
                change.foldermodseq = foldermodseq;
        rc = set_numbers(store, name, uidvalidity, raclmodseq, true, err);
        if (rc == 0)
                rc = replica_change_entry(store, name, e->uniqueid, &change, err);
        mbentry_unref(&e);
        return rc < 0 ? replica_code_of(err) : REPLICA_OK;
}

/* ---- users ---- */

static int forget_user(struct db_txn *txn, void *ctx, struct err *err)
{
        struct { struct store *store; const char *userid; } *f = ctx;

        if (seens_rename_user(f->store, txn, f->userid, NULL, err) < 0 || server_annots_rename_user(f->store, txn, f->userid, NULL, err) < 0 ||
            annot_users_rename(f->store, txn, f->userid, NULL, err) < 0)
                return -1;
        return subs_rename_user(f->store, txn, f->userid, NULL, err);
}

/* What he has besides mailboxes, if they did not take it along. */
static int forget_rest(struct store *store, const char *userid, const char *inbox, struct err *err)
{
        struct { struct store *store; const char *userid; } f = { store, userid };
        struct arena arena = ARENA_INIT;
        const char **roots;
        size_t n;
        int rc = db_run(store->env, true, forget_user, &f, err);

        if (rc == 0) {
                subs_forget(store, userid);
                seens_forget(store, NULL, userid);
                annot_users_renamed(store, userid, NULL);
        }
        n = rc == 0 ? quota_list(store, inbox, &arena, &roots) : 0;
        for (size_t i = 0; i < n && rc == 0; i++) {
                struct err mine = ERR_INIT;

                if (quota_remove(store, roots[i], &mine) < 0 && mine.code != ERR_NOTFOUND) {
                        err_copy(err, &mine);
                        rc = -1;
                }
        }
        arena_deinit(&arena);
        return rc;
}

enum replica_code replica_delete_user(struct store *store, const char *userid, bool local, struct err *err)
{
        struct mboxlist *ml = store_mboxlist(store);
        struct arena arena = ARENA_INIT;
        const char *inbox = mailname_inbox_of(userid, &arena);
        unsigned was = mark(local);
        int rc = 0;

        /* Scripts are found by the INBOX: they go first. */
        rc = sieve_files_remove_user(store, userid, err);
        if (rc == 0 && mboxlist_delete_tree(ml, inbox, false, err) < 0 && err->code != ERR_NOTFOUND)
                rc = -1;
        if (rc == 0) {
                err_clear(err);
                rc = forget_rest(store, userid, inbox, err);
        }
        change_mark(was);
        arena_deinit(&arena);
        return rc < 0 ? replica_code_of(err) : REPLICA_OK;
}
