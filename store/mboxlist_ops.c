/*
 * mboxlist_ops - create, delete, ACL and special use; rename is in mboxlist_rename.c.
 *
 * Order on the disk, and what a crash leaves:
 *   create   a row of removals.db, directory and first segment synced, then the entry committed and the row gone with it
 *   delete   the entry committed (gone, with a row of removals.db; or renamed below deletedprefix), then the files removed
 * In between is a directory that no name leads to; the row makes the next start remove it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/acl.h"
#include "store/annot_user.h"
#include "store/mboxlist_private.h"
#include "store/seen_private.h"
#include "store/server_annot.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/must.h"

/* ---- stripes ---- */

/* "domain!user.joe" of whatever is joe's, else "domain!first". */
static unsigned stripe_of(const char *name)
{
        const char *bang = strchr(name, '!'), *local = bang ? bang + 1 : name;
        size_t len = strcspn(local, ".");

        if (len == 4 && strncmp(local, "user.", 5) == 0)
                len = 5 + strcspn(local + 5, ".");
        return (unsigned)(hash_keyed(name, (size_t)(local - name) + len) % ARRAY_LEN(((struct mboxlist *)0)->stripes));
}

void names_lock(struct mboxlist *ml, const char *a, const char *b) NO_TSA
{
        unsigned first = stripe_of(a), second = b ? stripe_of(b) : first;

        if (first > second) {
                unsigned swap = first;

                first = second;
                second = swap;
        }
        mutex_lock(&ml->stripes[first]);
        if (second != first)
                mutex_lock(&ml->stripes[second]);
}

void names_unlock(struct mboxlist *ml, const char *a, const char *b) NO_TSA
{
        unsigned first = stripe_of(a), second = b ? stripe_of(b) : first;

        mutex_unlock(&ml->stripes[first]);
        if (second != first)
                mutex_unlock(&ml->stripes[second]);
}

void names_lock_all(struct mboxlist *ml) NO_TSA
{
        for (size_t i = 0; i < ARRAY_LEN(ml->stripes); i++)
                mutex_lock(&ml->stripes[i]);
}

void names_unlock_all(struct mboxlist *ml) NO_TSA
{
        for (size_t i = ARRAY_LEN(ml->stripes); i-- > 0;)
                mutex_unlock(&ml->stripes[i]);
}

/* ---- create ---- */

/* Above every uidvalidity that this store has given or remembers for the name: two mailboxes that follow one another under one
 * name, by whatever deletions and renames, never have the same (RFC 9051 2.3.1.1). */
static uint32_t next_uidvalidity(struct mboxlist *ml, uint32_t remembered)
{
        uint_fast32_t last = atomic_load(&ml->last_uidvalidity);
        int64_t now = clock_wall_s();
        uint32_t next;

        do {
                uint64_t want = now > 0 && now < UINT32_MAX ? (uint64_t)now : 1;

                if (want <= last)
                        want = (uint64_t)last + 1;
                if (remembered != UINT32_MAX && want <= remembered)
                        want = (uint64_t)remembered + 1;
                next = want < UINT32_MAX ? (uint32_t)want : (uint32_t)now;
        } while (next > last && !atomic_compare_exchange_weak(&ml->last_uidvalidity, &last, next));
        return next;
}

/* `defaultacl` is written with blanks: "anyone lrs". */
static void default_acl(struct mboxlist *ml, struct str *acl)
{
        const char *p = conf_str(store_conf(ml->store), NULL, "defaultacl");
        struct span word[2];
        unsigned n = 0;
        struct str next = STR_INIT;

        while (p && *p) {
                size_t len;

                p += strspn(p, " \t");
                len = strcspn(p, " \t");
                if (len)
                        word[n++] = (struct span){ p, len };
                p += len;
                if (n == 2) {
                        uint32_t rights;
                        char *id = xstrndup(word[0].p, word[0].len);

                        n = 0;
                        str_clear(&next);
                        if (acl_parse_rights(word[1], &rights, NULL) == 0 &&
                            acl_change(acl->data, id, ACL_SET, rights, &next, NULL) == 0) {
                                struct str swap = *acl;

                                *acl = next;
                                next = swap;
                        }
                        free(id);
                }
        }
        str_deinit(&next);
}

const struct mbentry *mboxlist_find_above(struct mboxlist *ml, const char *name, struct arena *arena)
{
        while ((name = mailname_parent(name, arena)) != NULL) {
                const struct mbentry *e = mboxlist_find(ml, name);

                if (e && e->type != MBTYPE_INTERMEDIATE)
                        return e;
                mbentry_unref(&e);
        }
        return NULL;
}

/* The parent's, past intermediates; the owner's default at the top of a user; defaultacl at the top of what is shared. */
static void inherit_acl(struct mboxlist *ml, const char *name, struct str *acl)
{
        struct arena arena = ARENA_INIT;
        const struct mbentry *above = mboxlist_find_above(ml, name, &arena);
        const char *owner;

        if (above) {
                str_append_str(acl, above->acl);
                mbentry_unref(&above);
                goto out;
        }
        owner = mailname_owner(name, &arena);
        if (owner)
                acl_change("", owner, ACL_SET, ACL_ALL & ~(uint32_t)ACL_USER0, acl, NULL);
        else
                default_acl(ml, acl);
out:
        arena_deinit(&arena);
}

static bool uniqueid_ok(const char *id)
{
        size_t n = strlen(id);

        if (n < 4 || n > 36)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!ascii_isalpha(id[i]) && !ascii_isdigit(id[i]) && id[i] != '-')
                        return false;
        return true;
}

static int check_create(struct mboxlist *ml, const struct mbox_create *what, const struct mbentry *there, struct err *err)
{
        const struct mbentry *twin;

        if (there && there->type != MBTYPE_INTERMEDIATE)
                return err_set(err, ERR_EXISTS, "mailbox %s exists", what->name);
        if (!what->uniqueid)
                return 0;
        if (!uniqueid_ok(what->uniqueid))
                return err_set(err, ERR_BADNAME, "impossible unique id");
        twin = mem_find_id(&ml->mem, what->uniqueid);
        if (!twin || (there && strcmp(twin->name, there->name) == 0)) {        /* an intermediate becomes a mailbox */
                mbentry_unref(&twin);
                return 0;
        }
        err_set(err, ERR_EXISTS, "unique id %s belongs to %s", what->uniqueid, twin->name);
        mbentry_unref(&twin);
        return -1;
}

static bool text_ok(const char *s)
{
        return !s || !strpbrk(s, "\r\n");
}

/* The new entry, not yet anywhere. */
static const struct mbentry *make_entry(struct mboxlist *ml, const struct mbox_create *what, const char *partition,
                                        uint32_t remembered)
{
        struct str acl = STR_INIT;
        char id[25];
        const struct mbentry *made;
        struct mbentry e = {
                .name = (char *)(uintptr_t)what->name,
                .type = MBTYPE_NORMAL,
                .partition = (char *)(uintptr_t)partition,
                .specialuse = (char *)(uintptr_t)what->specialuse,
                .uidvalidity = what->uidvalidity ? what->uidvalidity : next_uidvalidity(ml, remembered),
                .changed = clock_wall_s(),
        };

        if (what->acl)
                str_append_str(&acl, what->acl);
        else
                inherit_acl(ml, what->name, &acl);
        mboxlist_new_uniqueid(id);
        e.uniqueid = what->uniqueid ? (char *)(uintptr_t)what->uniqueid : id;
        e.acl = acl.data;
        e.createdmodseq = e.foldermodseq = names_next_modseq(ml);
        if (what->createdmodseq)
                e.createdmodseq = what->createdmodseq;
        if (what->foldermodseq)
                e.foldermodseq = what->foldermodseq;
        made = mbentry_create(&e);
        str_deinit(&acl);
        return made;
}

/* Of a mailbox that the list has lost: it must not get a row of removals.db. */
static bool directory_there(const struct mailbox_ident *ident, struct err *err)
{
        struct str path = STR_INIT;
        bool there;

        str_printf(&path, "%s/%c/%c/%s", ident->partition_dir, ident->uniqueid[0], ident->uniqueid[1], ident->uniqueid);
        there = fs_exists(path.data);
        if (there)
                err_set(err, ERR_EXISTS, "%s is there already", path.data);
        str_deinit(&path);
        return there;
}

static int create_locked(struct mboxlist *ml, const struct mbox_create *what, const char *partition, const struct mbentry **entry_r,
                         struct err *err) REQUIRES(names_class);
/* Row, directory and first segment, then the change that names them. Takes over the reference to `e`. */
static int make_mailbox(struct mboxlist *ml, struct name_changes *changes, const struct mbentry *e, bool given_id, struct err *err)
{
        struct mailbox_ident ident;

        changes_set(changes, e->name, e, NULL);
        if (mbentry_ident(ml->store, e, &ident, err) < 0 || (given_id && directory_there(&ident, err)) ||
            removal_announce(ml, e, err) < 0 || mailbox_create_files(ml->store, &ident, err) < 0)
                return -1;
        *ARRAY_PUSH(&changes->made) = e;
        changes_removal(changes, e, true);
        return 0;
}

void changes_undo_files(struct mboxlist *ml, const struct name_changes *changes)
{
        /* But after a failed sync the entries may still be in the database's log and come to life with the next recovery; then
         * their files must be there. */
        if (db_env_failed(ml->store->env, NULL))
                return;
        for (size_t i = 0; i < changes->made.n; i++) {
                struct mailbox_ident ident;

                if (mbentry_ident(ml->store, changes->made.v[i], &ident, NULL) == 0)
                        mailbox_mark_deleted(ml->store, &ident);
        }
}

int changes_make_parents(struct mboxlist *ml, struct name_changes *changes, const char *name, const char *partition, struct err *err)
{
        const char *parent = name;

        while ((parent = mailname_parent(parent, &changes->arena)) != NULL) {
                const struct mbentry *there = mem_find(&ml->mem, parent), *e;
                uint32_t remembered = there ? there->uidvalidity : 0;
                bool real = there && there->type != MBTYPE_INTERMEDIATE;

                if (there)
                        mbentry_unref(&there);
                else if (mboxlist_remembered(ml, parent, &remembered, err) < 0)
                        return -1;
                if (real)
                        return 0;
                if (mailname_is_inbox(parent)) {        /* users are not made in passing; autocreate makes the INBOX last */
                        changes_add_parents(ml, changes, name);
                        return 0;
                }
                name = parent;
                e = make_entry(ml, &(struct mbox_create){ .name = parent }, partition, remembered);
                if (make_mailbox(ml, changes, e, false, err) < 0)
                        return -1;
                mboxlist_note_uidvalidity(ml, e->uidvalidity);
        }
        return 0;
}

static int create_locked(struct mboxlist *ml, const struct mbox_create *what, const char *partition, const struct mbentry **entry_r,
                         struct err *err)
{
        const struct mbentry *there = mem_find(&ml->mem, what->name), *e = NULL;
        struct name_changes changes;
        uint32_t remembered = there ? there->uidvalidity : 0;
        int ret = -1;

        changes_init(&changes);
        changes.ignore_quota = what->ignore_quota;
        if (check_create(ml, what, there, err) < 0 ||
            (!there && mboxlist_remembered(ml, what->name, &remembered, err) < 0))
                goto out;
        if (what->with_parents && changes_make_parents(ml, &changes, what->name, partition, err) < 0)
                goto undo;
        if (!what->with_parents)
                changes_add_parents(ml, &changes, what->name);
        e = make_entry(ml, what, partition, remembered);
        if (make_mailbox(ml, &changes, e, what->uniqueid, err) < 0)
                goto undo;
        ret = mboxlist_commit(ml, &changes, err);
        mboxlist_note_uidvalidity(ml, e->uidvalidity);
        if (ret == 0 && entry_r)
                *entry_r = mbentry_ref(e);
undo:
        if (ret < 0)
                changes_undo_files(ml, &changes);
out:
        changes_deinit(&changes);
        mbentry_unref(&there);
        return ret;
}

/* Where a mailbox goes that was not told where: to the nearest one above it, as in Cyrus, so that a user's stay together. In the arena. */
static const char *partition_above(struct mboxlist *ml, const char *name, struct arena *arena)
{
        const char *partition = NULL;
        const struct mbentry *e;

        while (!partition && (e = mboxlist_find_above(ml, name, arena)) != NULL) {
                if (e->type == MBTYPE_NORMAL && !e->server && store_partition_dir(ml->store, e->partition))
                        partition = arena_strdup(arena, e->partition);
                name = arena_strdup(arena, e->name);
                mbentry_unref(&e);
        }
        return partition ? partition : store_default_partition(ml->store);
}

static int create_on(struct mboxlist *ml, const struct mbox_create *what, const char *partition, const struct mbentry **entry_r,
                     struct err *err)
{
        int ret;

        if (names_writable(ml, partition, err) < 0)
                return -1;
        if (!what->deleted && mailname_is_deleted(what->name, conf_str(store_conf(ml->store), NULL, "deletedprefix")))
                return err_set(err, ERR_BADNAME, "nothing can be created below %s",
                               conf_str(store_conf(ml->store), NULL, "deletedprefix"));
        if (!text_ok(what->acl) || !text_ok(what->specialuse))
                return err_set(err, ERR_SYNTAX, "line end in an access control list or a special use");
        names_lock(ml, what->name, NULL);
        ret = create_locked(ml, what, partition, entry_r, err);
        names_unlock(ml, what->name, NULL);
        return ret;
}

int mboxlist_create(struct mboxlist *ml, const struct mbox_create *what, const struct mbentry **entry_r, struct err *err)
{
        struct arena arena = ARENA_INIT;
        int ret = -1;

        if (entry_r)
                *entry_r = NULL;
        if (mailname_check_new(what->name, true, err) == 0)
                ret = create_on(ml, what, what->partition ? what->partition : partition_above(ml, what->name, &arena), entry_r, err);
        arena_deinit(&arena);
        return ret;
}

/* ---- delete ---- */

/* "DELETED.user.joe.x.5C0FFEE0", for the present second or a later one that is free (cyrus-files.md 6). */
static const char *deleted_name(struct mboxlist *ml, const char *name, int64_t now, struct arena *arena)
{
        const char *prefix = conf_str(store_conf(ml->store), NULL, "deletedprefix"), *bang = strchr(name, '!');
        const char *local = bang ? bang + 1 : name;

        for (;; now++) {
                char *deleted = arena_printf(arena, "%.*s%s.%s.%08" PRIX32, (int)(local - name), name, prefix, local, (uint32_t)now);
                const struct mbentry *there = mem_find(&ml->mem, deleted);

                if (!there)
                        return deleted;
                mbentry_unref(&there);
        }
}

static void rename_to_deleted(struct mboxlist *ml, struct name_changes *changes, const struct mbentry *e, int64_t now)
{
        const char *to = deleted_name(ml, e->name, now, &changes->arena);
        struct mbentry renamed = *e;

        renamed.name = (char *)(uintptr_t)to;
        renamed.changed = clock_wall_s();
        renamed.foldermodseq = names_next_modseq(ml);
        changes_set(changes, to, mbentry_create(&renamed), e->name);
}

/* What follows the commit: files go, open mailboxes learn their new name. */
static void after_delete(struct mboxlist *ml, const struct entries *gone, const struct name_changes *changes, bool immediately)
{
        for (size_t i = 0; immediately && i < gone->list.n; i++) {
                struct mailbox_ident ident;

                if (mbentry_ident(ml->store, gone->list.v[i], &ident, NULL) == 0) {
                        mailbox_mark_deleted(ml->store, &ident);
                        seens_forget(ml->store, ident.uniqueid, NULL);
                }
        }
        for (size_t i = 0; i < changes->list.n; i++)
                if (changes->list.v[i].former && changes->list.v[i].entry)
                        mailbox_set_name(ml->store, changes->list.v[i].entry->uniqueid, changes->list.v[i].name);
}

struct forget_user { struct store *store; const char *userid; };

static int also_forget_user(struct db_txn *txn, void *ctx, struct err *err)
{
        struct forget_user *f = ctx;

        if (seens_rename_user(f->store, txn, f->userid, NULL, err) < 0 ||
            server_annots_rename_user(f->store, txn, f->userid, NULL, err) < 0 ||
            annot_users_rename(f->store, txn, f->userid, NULL, err) < 0)
                return -1;
        return subs_rename_user(f->store, txn, f->userid, NULL, err);
}

static int delete_locked(struct mboxlist *ml, const char *name, bool tree, bool immediately, struct err *err) REQUIRES(names_class);
static int delete_locked(struct mboxlist *ml, const char *name, bool tree, bool immediately, struct err *err)
{
        struct entries gone = { ARRAY_INIT };
        struct name_changes changes;
        struct forget_user forget = { ml->store, NULL };
        int64_t now = clock_wall_s();
        int ret = -1;

        changes_init(&changes);
        if (tree && mailname_is_inbox(name)) {          /* the user goes, and with him his subscriptions */
                forget.userid = mailname_owner(name, &changes.arena);
                changes.also = also_forget_user;
                changes.also_ctx = &forget;
        }
        entries_collect(ml, name, tree, &gone);
        if (gone.list.n == 0 || (!tree && gone.list.v[0]->type == MBTYPE_INTERMEDIATE)) {
                err_set(err, ERR_NOTFOUND, "no mailbox %s", name);
                goto out;
        }
        for (size_t i = 0; i < gone.list.n; i++) {
                const struct mbentry *e = gone.list.v[i];

                if (names_writable(ml, e->type == MBTYPE_NORMAL ? e->partition : NULL, err) < 0)
                        goto out;
                changes_remove(ml, &changes, e, tree, i == 0, NULL);
                if (e->type == MBTYPE_NORMAL && immediately)
                        changes_removal(&changes, e, false);
                else if (e->type == MBTYPE_NORMAL)
                        rename_to_deleted(ml, &changes, e, now);
        }
        ret = mboxlist_commit(ml, &changes, err);
        if (ret == 0)
                after_delete(ml, &gone, &changes, immediately);
        if (ret == 0 && forget.userid) {
                subs_forget(ml->store, forget.userid);
                seens_forget(ml->store, NULL, forget.userid);
                annot_users_renamed(ml->store, forget.userid, NULL);
        }
out:
        changes_deinit(&changes);
        entries_free(&gone);
        return ret;
}

static int delete_names(struct mboxlist *ml, const char *name, bool tree, bool immediately, struct err *err)
{
        struct conf *conf = store_conf(ml->store);
        const char *prefix = conf_str(conf, NULL, "deletedprefix"), *bang = strchr(name, '!');
        struct arena arena = ARENA_INIT;
        const char *below;
        int ret;

        if (names_writable(ml, NULL, err) < 0)
                return -1;
        if (strcmp(conf_enum(conf, NULL, "delete_mode"), "immediate") == 0 || mailname_is_deleted(name, prefix) || !*prefix)
                immediately = true;
        /* The stripe of the deleted tree is taken as well. */
        below = arena_printf(&arena, "%.*s%s", bang ? (int)(bang + 1 - name) : 0, name, prefix);
        names_lock(ml, name, immediately ? NULL : below);
        ret = delete_locked(ml, name, tree, immediately, err);
        names_unlock(ml, name, immediately ? NULL : below);
        arena_deinit(&arena);
        return ret;
}

const char *mboxlist_deleted_name(struct mboxlist *ml, const char *name, struct arena *arena)
{
        return deleted_name(ml, name, clock_wall_s(), arena);
}

int mboxlist_delete(struct mboxlist *ml, const char *name, bool immediately, struct err *err)
{
        return delete_names(ml, name, false, immediately, err);
}

int mboxlist_delete_tree(struct mboxlist *ml, const char *name, bool immediately, struct err *err)
{
        return delete_names(ml, name, true, immediately, err);
}

/* ---- one entry changed in place ---- */

static int change_locked(struct mboxlist *ml, const struct mbentry *e, const char *acl, const char *specialuse, struct err *err)
        REQUIRES(names_class);
static int change_locked(struct mboxlist *ml, const struct mbentry *e, const char *acl, const char *specialuse, struct err *err)
{
        struct name_changes changes;
        struct mbentry changed = *e;
        int ret;

        if (acl)
                changed.acl = (char *)(uintptr_t)acl;
        if (specialuse)
                changed.specialuse = (char *)(uintptr_t)specialuse;
        changed.foldermodseq = names_next_modseq(ml);
        changed.changed = clock_wall_s();
        changes_init(&changes);
        changes_set(&changes, e->name, mbentry_create(&changed), NULL);
        ret = mboxlist_commit(ml, &changes, err);
        changes_deinit(&changes);
        return ret;
}

static const struct mbentry *find_real(struct mboxlist *ml, const char *name, struct err *err)
{
        const struct mbentry *e = mem_find(&ml->mem, name);

        if (e && e->type == MBTYPE_INTERMEDIATE)
                mbentry_unref(&e);
        if (!e)
                err_set(err, ERR_NOTFOUND, "no mailbox %s", name);
        return e;
}

int mboxlist_set_acl(struct mboxlist *ml, const char *name, const char *identifier, int acl_mode, uint32_t rights, struct err *err)
{
        const struct mbentry *e;
        struct str acl = STR_INIT;
        bool changes = false;
        int ret = -1;

        if (names_writable(ml, NULL, err) < 0)
                return -1;
        if (mailname_owned_by(name, identifier) && acl_mode == ACL_SET)
                rights |= acl_implicit_owner(store_conf(ml->store));
        else if (mailname_owned_by(name, identifier) && acl_mode == ACL_REMOVE)
                rights &= ~acl_implicit_owner(store_conf(ml->store));
        names_lock(ml, name, NULL);
        e = find_real(ml, name, err);
        if (e && acl_change(e->acl, identifier, (enum acl_mode)acl_mode, rights, &acl, err) == 0) {
                changes = strcmp(acl.data, e->acl) != 0;
                ret = changes ? change_locked(ml, e, acl.data, NULL, err) : 0;
        }
        names_unlock(ml, name, NULL);
        if (ret == 0 && changes)                                /* who has it selected has other rights now */
                mailbox_tell_watchers(ml->store, e->uniqueid);
        mbentry_unref(&e);
        str_deinit(&acl);
        return ret;
}

int mboxlist_set_specialuse(struct mboxlist *ml, const char *name, const char *specialuse, struct err *err)
{
        const struct mbentry *e;
        const char *use = specialuse ? specialuse : "";
        int ret = -1;

        if (names_writable(ml, NULL, err) < 0)
                return -1;
        if (!text_ok(use))
                return err_set(err, ERR_SYNTAX, "line end in a special use");
        names_lock(ml, name, NULL);
        e = find_real(ml, name, err);
        if (e)
                ret = strcmp(use, e->specialuse) == 0 ? 0 : change_locked(ml, e, NULL, use, err);
        mbentry_unref(&e);
        names_unlock(ml, name, NULL);
        return ret;
}
