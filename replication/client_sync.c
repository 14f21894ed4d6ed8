/*
 * client_sync - the order of work for a user (csync 10.1) and for a set of mailboxes (10.2): what the replica has, renames and deletions, then each
 * mailbox.
 */
#include "replication/client_private.h"

#include <inttypes.h>
#include <stdlib.h>

#include "store/mailname.h"
#include "store/user.h"
#include "util/clock.h"
#include "util/must.h"

#define ROUNDS_MAX 3                            /* after renames it is asked again what there is */

/* The first failure is what is told at the end. */
struct outcome {
        enum client_result r;
        struct err *err;                        /* the caller's */
        struct client *c;
        bool stale;                             /* something had another name than when it was looked at: it may go well the next time */
};
#define STALE_TRIES 2

/* Takes over what came of one part; true: go on. */
static bool keep_going(struct outcome *o, enum client_result r, const struct err *err)
{
        if (r == CLIENT_OK)
                return true;
        o->stale |= r == CLIENT_FAILED && (client_replied(o->c, "IMAP_MAILBOX_MOVED") || client_replied(o->c, "IMAP_MAILBOX_NONEXISTENT") ||
                                           client_replied(o->c, "IMAP_SYNC_CHANGED"));
        if (o->r == CLIENT_OK || client_is_gone(r)) {
                o->r = r;
                err_copy(o->err, err);
        }
        return !client_is_gone(r);
}

/* ---- renames ---------------------------------------------------------------------------------------------------------------- */

struct rename {
        struct folder *folder;
        const char *to, *partition;             /* partition: where it is to be; as it is: the same name */
        bool done;
};

static enum client_result send_rename(struct client *c, const char *from, const char *to, const char *partition, uint32_t uidvalidity,
                                      struct err *err)
{
        char key[32];

        client_say(c, "RENAME %s -> %s", from, to);
        client_begin(c, "APPLY");
        dlist_write_kvlist(&c->w, client_local(c, "RENAME", key));
        dlist_write_text(&c->w, "OLDMBOXNAME", from);
        dlist_write_text(&c->w, "NEWMBOXNAME", to);
        dlist_write_text(&c->w, "PARTITION", partition);
        dlist_write_u64(&c->w, "UIDVALIDITY", uidvalidity);
        dlist_write_end(&c->w);
        return client_finish(c, NULL, err);
}

static bool is_free(const struct folders *f, const struct rename *r)
{
        const struct folder *there = folders_by_name(f, r->to);

        return !there || there == r->folder || there->v.type == MBTYPE_INTERMEDIATE;
}

static enum client_result do_rename(struct client *c, struct folders *f, struct rename *r, struct err *err)
{
        enum client_result res = send_rename(c, r->folder->v.name, r->to, r->partition, r->folder->v.uidvalidity, err);

        r->done = true;                         /* also when it failed: it is not tried again in this round */
        if (res == CLIENT_OK)
                folders_rename(f, r->folder, r->to);
        return res;
}

/* What is left waits for each other's names: the first of them goes out of the way, to a name that nobody has, and from there to its own. */
static enum client_result break_cycle(struct client *c, struct folders *f, struct rename *r, struct err *err)
{
        char *aside = arena_printf(&f->arena, "%s-%.8s", r->folder->v.name, r->folder->v.uniqueid);
        const struct folder *there = folders_by_name(f, r->to);
        enum client_result res;

        if (!there->ours || folders_by_name(f, aside)) {
                r->done = true;
                err_set(err, ERR_EXISTS, "%s cannot become %s: the replica has another mailbox of that name", r->folder->v.name, r->to);
                return CLIENT_FAILED;
        }
        res = send_rename(c, r->folder->v.name, aside, r->partition, r->folder->v.uidvalidity, err);
        if (res == CLIENT_OK)
                folders_rename(f, r->folder, aside);
        else
                r->done = true;
        return res;
}

/* All of them, in an order in which no name is still taken. *any_r: some were done. */
static void do_renames(struct client *c, struct folders *f, struct rename *list, size_t n, bool *any_r, struct outcome *o)
{
        for (;;) {
                struct rename *blocked = NULL;
                bool progress = false;

                for (size_t i = 0; i < n; i++) {
                        struct err err = ERR_INIT;
                        enum client_result r;

                        if (list[i].done)
                                continue;
                        if (!is_free(f, &list[i])) {
                                blocked = blocked ? blocked : &list[i];
                                continue;
                        }
                        r = do_rename(c, f, &list[i], &err);
                        progress = true;
                        *any_r |= r == CLIENT_OK;
                        if (!keep_going(o, r, &err))
                                return;
                }
                if (!blocked)
                        return;
                if (!progress) {
                        struct err err = ERR_INIT;
                        enum client_result r = break_cycle(c, f, blocked, &err);

                        *any_r |= r == CLIENT_OK;
                        if (!keep_going(o, r, &err))
                                return;
                }
        }
}

static bool same_place(const struct client *c, const struct replica_values *ours, const struct replica_values *theirs)
{
        if (strcmp(ours->name, theirs->name) != 0)
                return false;
        return ours->type != MBTYPE_NORMAL || theirs->type != MBTYPE_NORMAL ||
               strcasecmp(client_partition(c, ours->partition), theirs->partition) == 0;
}

/* Match the replica's mailboxes with ours by unique id, and rename what has another name or partition. */
static void match_and_rename(struct client *c, struct folders *f, bool *any_r, struct outcome *o)
{
        ARRAY(struct rename) list = ARRAY_INIT;

        for (size_t i = 0; i < f->list.n; i++) {
                struct folder *folder = f->list.v[i];
                const char *name = *folder->v.uniqueid ? replica_find_uniqueid(c->store, folder->v.uniqueid, &f->arena) : NULL;
                struct replica_values ours;

                if (!name || !replica_entry(c->store, name, &f->arena, &ours))
                        continue;
                folder->ours = true;
                if (folder->v.type == MBTYPE_NORMAL && ours.type == MBTYPE_NORMAL && !same_place(c, &ours, &folder->v))
                        *ARRAY_PUSH(&list) = (struct rename){ .folder = folder, .to = ours.name, .partition = client_partition(c, ours.partition) };
        }
        do_renames(c, f, list.v, list.n, any_r, o);
        ARRAY_FREE(&list);
}

/* ---- a set of mailboxes ----------------------------------------------------------------------------------------------------- */

/* The replica's counterpart: by unique id; of a name without a mailbox by name too, for ids of such need not agree. */
static const struct folder *counterpart(const struct folders *f, const struct replica_values *ours)
{
        const struct folder *folder = folders_by_id(f, ours->uniqueid), *named;

        if (!folder && ours->type == MBTYPE_INTERMEDIATE) {
                named = folders_by_name(f, ours->name);
                folder = named && named->v.type == MBTYPE_INTERMEDIATE ? named : NULL;
        }
        return folder;
}

/* To say "this is a name without a mailbox" of one that is a mailbox there would be its end: the replica writes down what it is told. */
static bool would_bury(const struct folders *f, const struct replica_values *ours)
{
        const struct folder *there = folders_by_name(f, ours->name);

        return ours->type == MBTYPE_INTERMEDIATE && there && there->v.type == MBTYPE_NORMAL;
}

static void update_mailboxes(struct client *c, const char *const *names, size_t n, const struct folders *f, struct outcome *o)
{
        struct arena arena = ARENA_INIT;
        struct err err = ERR_INIT;
        bool go = keep_going(o, client_reserve(c, names, n, f, &err), &err);

        for (size_t i = 0; i < n && go; i++) {
                struct replica_values ours;

                err_clear(&err);
                if (!replica_entry(c->store, names[i], &arena, &ours))
                        ;
                else if (would_bury(f, &ours))
                        client_say(c, "a mailbox there and none here: %s", names[i]);
                else
                        go = keep_going(o, client_update_mailbox(c, names[i], counterpart(f, &ours), &err), &err);
                arena_reset(&arena);
        }
        arena_deinit(&arena);
}

static enum client_result sync_mailboxes(struct client *c, const char *const *names, size_t n, bool *stale_r, struct err *err)
{
        struct outcome o = { CLIENT_OK, err, c, false };
        bool renamed = true;

        for (int round = 0; round < ROUNDS_MAX && renamed; round++) {
                struct folders f;
                struct err this = ERR_INIT;

                renamed = false;
                folders_init(&f);
                if (keep_going(&o, client_get_mailboxes(c, names, n, &f, &this), &this) && o.r == CLIENT_OK &&
                    keep_going(&o, client_get_uniqueids(c, names, n, &f, &this), &this))
                        match_and_rename(c, &f, &renamed, &o);
                if (!client_is_gone(o.r) && (!renamed || round + 1 == ROUNDS_MAX))
                        update_mailboxes(c, names, n, &f, &o);
                folders_deinit(&f);
        }
        *stale_r = o.stale;
        return o.r;
}

/* All mailboxes of a call belong to one owner, or to none. */
static const char *owner_of(const char *name, struct arena *arena)
{
        return mailname_owner(name, arena);
}

enum client_result client_sync_mailboxes(struct client *c, const char *const *names, size_t n, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *owner;
        enum client_result r;

        if (n == 0)
                return client_check(c, err);
        owner = owner_of(names[0], &arena);
        r = client_lock_user(c, owner, err);
        if (r == CLIENT_OK) {
                bool stale = true;

                for (int i = 0; i < STALE_TRIES && stale && !client_is_gone(r); i++) {
                        err_clear(err);
                        r = sync_mailboxes(c, names, n, &stale, err);
                }
                client_unlock_user(c, owner);
        }
        arena_deinit(&arena);
        return r;
}

/* ---- a user ----------------------------------------------------------------------------------------------------------------- */

/* What GET USER said; items that are not mailboxes are looked at by their own functions (client_meta.c). */
struct user_reply {
        struct folders f;
        struct meta meta;
};

static int take_user(void *ctx, const struct dlist *item, struct err *err)
{
        struct user_reply *u = ctx;
        struct replica_values v;

        if (!span_eq_str(item->key, "MAILBOX"))
                return meta_take(&u->meta, item, err);
        if (client_values_parse(item, false, &u->f.arena, &v, err) < 0)
                return -1;
        if (v.type != MBTYPE_DELETED)
                folders_add(&u->f, &v);
        return 0;
}

static enum client_result get_user(struct client *c, const char *userid, struct user_reply *u, struct err *err)
{
        struct client_reply reply = { .line = take_user, .ctx = u };
        enum client_result r = client_text_command(c, "GET", "USER", userid, &reply, err);

        if (r == CLIENT_FAILED && client_replied(c, "IMAP_MAILBOX_NONEXISTENT")) {
                err_clear(err);
                r = CLIENT_OK;
        }
        return r;
}

/* What the replica has of his under another user's name. */
static enum client_result get_elsewhere(struct client *c, const char *userid, struct folders *f, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char **names;
        size_t n = replica_user_mailboxes(c->store, userid, true, &arena, &names);
        enum client_result r = client_get_uniqueids(c, names, n, f, err);

        arena_deinit(&arena);
        return r;
}

static enum client_result unmailbox(struct client *c, const char *name, struct err *err)
{
        enum client_result r;
        char key[32];

        client_say(c, "UNMAILBOX %s", name);
        r = client_text_command(c, "APPLY", client_local(c, "UNMAILBOX", key), name, NULL, err);
        if (r == CLIENT_FAILED && client_replied(c, "IMAP_MAILBOX_NONEXISTENT")) {
                err_clear(err);
                r = CLIENT_OK;
        }
        return r;
}

/* A mailbox with children that is deleted for good leaves a name without one, which keeps its uidvalidity: no two mailboxes ever have the same. */
static bool was_this(const struct replica_values *ours, const struct replica_values *theirs)
{
        return ours->type == MBTYPE_INTERMEDIATE && theirs->type == MBTYPE_NORMAL && ours->uidvalidity && ours->uidvalidity == theirs->uidvalidity;
}

/* Mailboxes of the replica without a counterpart: gone here, or never were. */
static void delete_superfluous(struct client *c, struct folders *f, struct outcome *o)
{
        for (size_t i = f->list.n; i-- > 0;) {          /* from the end: children before their parents */
                struct folder *folder = f->list.v[i];
                struct replica_values v;
                struct err err = ERR_INIT;
                enum client_result r;

                if (folder->ours)
                        continue;
                if (replica_entry(c->store, folder->v.name, &f->arena, &v)) {
                        if (!was_this(&v, &folder->v))
                                continue;
                } else if (!replica_tombstone(c->store, folder->v.name, &f->arena, &v, &err)) {
                        if (err.code != ERR_NONE && !keep_going(o, CLIENT_FAILED, &err))
                                return;
                        if (folder->v.type == MBTYPE_NORMAL)
                                client_say(c, "no tombstone for deleted mailbox %s", folder->v.name);
                        continue;
                }
                r = unmailbox(c, folder->v.name, &err);
                if (r == CLIENT_OK)
                        folders_forget(f, folder);
                if (!keep_going(o, r, &err))
                        return;
        }
}

/* "user.joe.Sent" → "DELETED.user.joe.Sent.6B0242FA", as a delayed deletion names it; with a domain that stays in front. */
static char *deleted_name(struct client *c, const char *name, struct arena *arena)
{
        const char *bang = strchr(name, '!'), *local = bang ? bang + 1 : name;

        return arena_printf(arena, "%.*s%s.%s.%08" PRIX32, (int)(local - name), name, conf_str(store_conf(c->store), NULL, "deletedprefix"), local,
                            (uint32_t)clock_wall_s());
}

/*
 * The replica has another mailbox under the name of one of ours, and none of ours has its unique id: ours was deleted for good and made again.
 * (With delayed deletion the former one would still be here, and its unique id matched.) There is no tombstone of a name that is in use; so nothing
 * is removed, but it goes out of the way, to where deletions go. An older one of ours is no proof of that: that conflict stays one
 * (IMAP_MAILBOX_MOVED).
 */
static void move_aside(struct client *c, struct folders *f, bool *any_r, struct outcome *o)
{
        for (size_t i = 0; i < f->list.n; i++) {
                struct folder *folder = f->list.v[i];
                struct replica_values ours;
                struct err err = ERR_INIT;
                enum client_result r;

                if (folder->ours || folder->v.type != MBTYPE_NORMAL || folder->v.last_uid == 0 ||
                    !replica_entry(c->store, folder->v.name, &f->arena, &ours) || ours.type != MBTYPE_NORMAL ||
                    ours.uidvalidity <= folder->v.uidvalidity || ours.createdmodseq <= folder->v.createdmodseq)
                        continue;
                r = send_rename(c, folder->v.name, deleted_name(c, folder->v.name, &f->arena), folder->v.partition, folder->v.uidvalidity, &err);
                *any_r |= r == CLIENT_OK;
                if (!keep_going(o, r, &err))
                        return;
        }
}

static void sync_user_mailboxes(struct client *c, const char *userid, struct folders *f, struct outcome *o)
{
        struct arena arena = ARENA_INIT;
        const char **names;
        size_t n = replica_user_mailboxes(c->store, userid, true, &arena, &names);

        update_mailboxes(c, names, n, f, o);
        arena_deinit(&arena);
}

static void sync_user_rest(struct client *c, const char *userid, struct meta *meta, struct outcome *o)
{
        struct err err = ERR_INIT;

        if (!keep_going(o, meta_sync_quotas(c, userid, meta, &err), &err))
                return;
        err_clear(&err);
        keep_going(o, meta_sync(c, userid, meta, &err), &err);
}

static enum client_result sync_user(struct client *c, const char *userid, bool *stale_r, struct err *err)
{
        struct outcome o = { CLIENT_OK, err, c, false };
        bool renamed = true;

        for (int round = 0; round < ROUNDS_MAX && renamed && !client_is_gone(o.r); round++) {
                struct user_reply u;
                struct err this = ERR_INIT;
                enum client_result r;

                renamed = false;
                folders_init(&u.f);
                meta_init(&u.meta);
                r = get_user(c, userid, &u, &this);
                if (r == CLIENT_OK)
                        r = get_elsewhere(c, userid, &u.f, &this);
                if (keep_going(&o, r, &this) && r == CLIENT_OK) {
                        match_and_rename(c, &u.f, &renamed, &o);
                        if (!client_is_gone(o.r))
                                move_aside(c, &u.f, &renamed, &o);
                        if (!client_is_gone(o.r) && (!renamed || round + 1 == ROUNDS_MAX)) {
                                delete_superfluous(c, &u.f, &o);
                                if (!client_is_gone(o.r))
                                        sync_user_mailboxes(c, userid, &u.f, &o);
                                if (!client_is_gone(o.r))
                                        sync_user_rest(c, userid, &u.meta, &o);
                        }
                }
                meta_deinit(&u.meta);
                folders_deinit(&u.f);
        }
        *stale_r = o.stale;
        return o.r;
}

bool client_has_inbox(struct client *c, const char *userid, struct arena *arena)
{
        struct replica_values v;
        const char *inbox = mailname_inbox_of(userid, arena);

        return replica_entry(c->store, inbox, arena, &v) && v.type == MBTYPE_NORMAL;
}

enum client_result client_sync_user(struct client *c, const char *userid, struct err *err)
{
        struct arena arena = ARENA_INIT;
        enum client_result r = client_lock_user(c, userid, err);
        bool stale = true;

        if (r != CLIENT_OK)
                return r;
        client_say(c, "USER %s", userid);
        if (!client_has_inbox(c, userid, &arena)) {
                err_set(err, ERR_NOTFOUND, "%s: does not exist here", userid);
                r = CLIENT_FAILED;
                stale = false;
        }
        for (int i = 0; i < STALE_TRIES && stale && !client_is_gone(r); i++) {
                err_clear(err);
                r = sync_user(c, userid, &stale, err);
        }
        client_unlock_user(c, userid);
        arena_deinit(&arena);
        return r;
}

/* ---- what is gone ----------------------------------------------------------------------------------------------------------- */

/* It has children, and the name stays: is it the mailbox that was here, there? */
static enum client_result unmailbox_parent(struct client *c, const char *mailbox, const struct replica_values *ours, struct err *err)
{
        struct folders f;
        const struct folder *folder;
        enum client_result r;

        folders_init(&f);
        r = client_get_mailboxes(c, &mailbox, 1, &f, err);
        folder = r == CLIENT_OK ? folders_by_name(&f, mailbox) : NULL;
        if (folder && was_this(ours, &folder->v))
                r = unmailbox(c, mailbox, err);
        folders_deinit(&f);
        return r;
}

enum client_result client_sync_unmailbox(struct client *c, const char *mailbox, struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct replica_values v;
        enum client_result r = client_check(c, err);

        if (r == CLIENT_OK && replica_entry(c->store, mailbox, &arena, &v)) {
                if (v.type == MBTYPE_INTERMEDIATE)
                        r = unmailbox_parent(c, mailbox, &v, err);
        } else if (r == CLIENT_OK) {
                if (replica_tombstone(c->store, mailbox, &arena, &v, err))
                        r = unmailbox(c, mailbox, err);
                else if (err->code != ERR_NONE)
                        r = CLIENT_FAILED;
        }
        arena_deinit(&arena);
        return r;
}

enum client_result client_sync_unuser(struct client *c, const char *userid, struct err *err)
{
        struct arena arena = ARENA_INIT;
        enum client_result r = client_check(c, err);
        char key[32];

        if (r == CLIENT_OK && !client_has_inbox(c, userid, &arena)) {
                client_say(c, "UNUSER %s", userid);
                r = client_text_command(c, "APPLY", client_local(c, "UNUSER", key), userid, NULL, err);
                if (r == CLIENT_FAILED && (client_replied(c, "IMAP_MAILBOX_NONEXISTENT") || client_replied(c, "IMAP_INVALID_USER"))) {
                        err_clear(err);
                        r = CLIENT_OK;
                }
        }
        arena_deinit(&arena);
        return r;
}

/* ---- comparing -------------------------------------------------------------------------------------------------------------- */

struct verify {
        struct client *c;
        client_differs *differs;
        void *ctx;
};

static void verify_one(struct verify *x, const char *name, const struct folders *f)
{
        struct arena arena = ARENA_INIT;
        struct str what = STR_INIT;
        struct replica_values ours;
        const struct folder *folder;
        struct err err = ERR_INIT;

        if (replica_read(x->c->store, name, &arena, &ours, &err) < 0) {
                if (err.code != ERR_NOTFOUND)
                        x->differs(x->ctx, name, "unreadable");
        } else if (!(folder = counterpart(f, &ours))) {
                x->differs(x->ctx, name, folders_by_name(f, name) ? "uniqueid" : "missing");
        } else {
                if (strcmp(folder->v.name, name) != 0)
                        str_append_str(&what, "name");
                client_values_equal(&ours, &folder->v, &what);
                x->differs(x->ctx, name, what.len ? what.data : NULL);
        }
        str_deinit(&what);
        arena_deinit(&arena);
}

enum client_result client_verify_mailboxes(struct client *c, const char *const *names, size_t n, client_differs *differs, void *ctx, struct err *err)
{
        struct verify x = { c, differs, ctx };
        struct folders f;
        enum client_result r = client_check(c, err);

        if (r != CLIENT_OK)
                return r;
        folders_init(&f);
        r = client_get_mailboxes(c, names, n, &f, err);
        for (size_t i = 0; i < n && r == CLIENT_OK; i++) {
                verify_one(&x, names[i], &f);
                r = client_check(c, err);
        }
        folders_deinit(&f);
        return r;
}

/* Where a real Cyrus keeps scripts, which are compared as such. */
static bool is_sieve_mailbox(const char *name)
{
        size_t n = strlen(name);

        return n > 7 && strcmp(name + n - 7, ".#sieve") == 0;
}

enum client_result client_verify_user(struct client *c, const char *userid, client_differs *differs, void *ctx, struct err *err)
{
        struct verify x = { c, differs, ctx };
        struct arena arena = ARENA_INIT;
        struct user_reply u;
        const char **names;
        size_t n = replica_user_mailboxes(c->store, userid, true, &arena, &names);
        enum client_result r = client_check(c, err);

        folders_init(&u.f);
        meta_init(&u.meta);
        if (r == CLIENT_OK)
                r = get_user(c, userid, &u, err);
        for (size_t i = 0; i < n && r == CLIENT_OK; i++) {
                verify_one(&x, names[i], &u.f);
                r = client_check(c, err);
        }
        for (size_t i = 0; i < u.f.list.n && r == CLIENT_OK; i++) {
                const struct replica_values *v = &u.f.list.v[i]->v;

                if (v->type == MBTYPE_NORMAL && !is_sieve_mailbox(v->name) && !replica_find_uniqueid(c->store, v->uniqueid, &arena))
                        differs(ctx, v->name, "superfluous");
        }
        if (r == CLIENT_OK)
                r = meta_verify(c, userid, &u.meta, differs, ctx, err);
        meta_deinit(&u.meta);
        folders_deinit(&u.f);
        arena_deinit(&arena);
        return r;
}
