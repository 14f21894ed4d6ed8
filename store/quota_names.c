/*
 * quota_names - what a change of names means for quota roots.
 *
 * Mailboxes that change roots are held open over the change: each is bound to its old root then, and rebound when the new names are
 * shown. Where that would be too many, the roots concerned are marked unsure instead and added up afterwards. Roots at and below a
 * renamed tree go along with it, by name only, so that what is in them stays where it is. A root goes with the last mailbox at or
 * below it.
 */
#include <stdlib.h>
#include <string.h>

#include "store/change.h"
#include "store/quota_private.h"
#include "util/log.h"
#include "util/must.h"

#define HELD_MAX 256                            /* mailboxes held open */

/* ---- which roots are renamed, which go ---- */

static void find_renamed_locked(struct quotas *q, struct quota_names *qn) REQUIRES(q->lock, quota_class);
static void find_renamed_locked(struct quotas *q, struct quota_names *qn)
{
        size_t pos = 0;
        struct span key;
        void *value;

        while (qn->from && table_next(q->roots, &pos, &key, &value)) {
                struct quota_root *r = value;

                if (strcmp(r->name, qn->from) == 0 || mailname_is_below(r->name, qn->from))
                        *ARRAY_PUSH(&qn->renamed) = r;
        }
}

static bool is_renamed(const struct quota_names *qn, const struct quota_root *r)
{
        for (size_t i = 0; i < qn->renamed.n; i++)
                if (qn->renamed.v[i] == r)
                        return true;
        return false;
}

/* Will there be a mailbox at or below this name? Those of the changes that are there now and will not be are in `gone`. */
static bool keeps_mailboxes(struct mboxlist *ml, const char *name, const struct name_changes *changes, const struct table *gone)
{
        const struct mbentry *found[64];
        struct str after = STR_INIT;
        bool keeps = false;
        unsigned n;

        for (size_t i = 0; i < changes->list.n && !keeps; i++) {
                const struct name_change *c = &changes->list.v[i];

                keeps = c->entry && c->entry->type == MBTYPE_NORMAL && (strcmp(c->name, name) == 0 || mailname_is_below(c->name, name));
        }
        while (!keeps && (n = mem_next(&ml->mem, name, after.data, found, 64)) > 0) {
                for (unsigned i = 0; i < n; i++)
                        keeps = keeps || (found[i]->type == MBTYPE_NORMAL && !table_find(gone, span_of(found[i]->name)));
                str_clear(&after);
                str_append_str(&after, found[n - 1]->name);
                for (unsigned i = 0; i < n; i++)
                        mbentry_unref(&found[i]);
        }
        str_deinit(&after);
        return keeps;
}

/* Of the roots that mailboxes leave: those that nothing will be left of. */
static void find_removed(struct mboxlist *ml, struct name_changes *changes, struct quota_names *qn)
{
        struct quotas *q = ml->store->quotas;
        struct table *gone = table_create(), *looked = table_create();

        for (size_t i = 0; i < changes->list.n; i++) {
                const struct name_change *c = &changes->list.v[i];

                if (!c->entry || c->entry->type != MBTYPE_NORMAL)
                        table_set(gone, span_of(c->name), changes);
        }
        for (size_t i = 0; i < qn->moves.n; i++) {
                struct quota_root *r = qn->moves.v[i].from;
                char *name;

                if (!r || r == qn->moves.v[i].to || is_renamed(qn, r))
                        continue;
                quota_lock(q);
                name = xstrdup(r->name);
                quota_unlock(q);
                if (!table_find(looked, span_of(name)) && !keeps_mailboxes(ml, name, changes, gone))
                        *ARRAY_PUSH(&qn->removed) = r;
                table_set(looked, span_of(name), r);
                free(name);
        }
        table_destroy(&gone);
        table_destroy(&looked);
}

/* ---- which mailboxes change roots ---- */

static void add_move(struct quota_names *qn, struct quota_root *from, struct quota_root *to, const char *uniqueid, const char *name,
                     const char *former)
{
        if (from || to)
                *ARRAY_PUSH(&qn->moves) = (struct quota_move){ .from = from, .to = to, .uniqueid = xstrdup(uniqueid), .name = name, .former = former };
}

static void find_moves(struct mboxlist *ml, struct name_changes *changes, struct quota_names *qn)
{
        struct quotas *q = ml->store->quotas;
        struct table *formers = table_create();

        for (size_t i = 0; i < changes->list.n; i++)
                if (changes->list.v[i].former)
                        table_set(formers, span_of(changes->list.v[i].former), changes);
        for (size_t i = 0; i < changes->list.n; i++) {
                const struct name_change *c = &changes->list.v[i];
                bool real = c->entry && c->entry->type == MBTYPE_NORMAL;
                const struct mbentry *was = c->former ? NULL : mem_find(&ml->mem, c->name);
                bool was_real = was && was->type == MBTYPE_NORMAL;

                quota_lock(q);
                if (real && c->former)
                        add_move(qn, quota_resolve_locked(q, c->former, NULL, NULL), quota_resolve_locked(q, c->name, qn->from, qn->to),
                                 c->entry->uniqueid, c->name, c->former);
                else if (real && !was_real)
                        add_move(qn, NULL, quota_resolve_locked(q, c->name, NULL, NULL), c->entry->uniqueid, c->name, NULL);
                else if (!real && was_real && !table_find(formers, span_of(c->name)))
                        add_move(qn, quota_resolve_locked(q, c->name, NULL, NULL), NULL, was->uniqueid, NULL, c->name);
                quota_unlock(q);
                mbentry_unref(&was);
        }
        table_destroy(&formers);
}

/* Those that exist already. */
static int hold_open(struct mboxlist *ml, struct quota_names *qn, struct err *err)
{
        size_t held = 0;

        for (size_t i = 0; i < qn->moves.n; i++) {
                struct quota_move *move = &qn->moves.v[i];
                const struct mbentry *e;
                struct mailbox_ident ident;
                struct err mine = ERR_INIT;

                if (!move->former || move->from == move->to)
                        continue;
                if (++held > HELD_MAX) {
                        qn->unsure = true;
                        return 0;
                }
                e = mem_find_id(&ml->mem, move->uniqueid);
                if (!e || mbentry_ident(ml->store, e, &ident, &mine) < 0 || mailbox_open(ml->store, &ident, &move->mbox, &mine) < 0) {
                        log_event(LOG_WARN, NULL, "quota.names", "uniqueid=%s reason=\"%s\"", move->uniqueid, mine.text);
                        qn->unsure = true;              /* a damaged mailbox can be renamed and deleted all the same */
                }
                mbentry_unref(&e);
        }
        (void)err;
        return 0;
}

/* ---- room ---- */

static void part_of(struct mailbox *m, int64_t part[QUOTA_RESOURCES]) EXCLUDES(mailbox_class)
{
        mailbox_lock(m);
        quota_totals(m, part);
        mailbox_unlock(m);
}

/* Does what comes into r have room there? Mailboxes are reserved at once. */
static int check_room(struct quotas *q, const struct quota_names *qn, struct quota_root *r, struct err *err)
{
        int64_t more[QUOTA_RESOURCES] = { 0 };
        int rc = 0;

        for (size_t i = 0; i < qn->moves.n; i++) {
                const struct quota_move *move = &qn->moves.v[i];
                int64_t part[QUOTA_RESOURCES] = { 0 };

                if (move->to != r || move->from == r)
                        continue;
                if (move->mbox)
                        part_of(move->mbox, part);
                part[QUOTA_MAILBOX] = 1;
                for (int k = 0; k < QUOTA_RESOURCES; k++)
                        more[k] += part[k];
        }
        quota_lock(q);
        for (int k = 0; k < QUOTA_RESOURCES && rc == 0; k++)
                if (quota_over(r, (enum quota_resource)k, more[k], false))
                        rc = quota_refuse(err, r, (enum quota_resource)k);
        quota_unlock(q);
        return rc;
}

static int check_all(struct quotas *q, const struct quota_names *qn, struct err *err)
{
        struct quota_root *last = NULL;

        for (size_t i = 0; i < qn->moves.n; i++) {
                struct quota_root *to = qn->moves.v[i].to;

                if (!to || to == last || to == qn->moves.v[i].from)
                        continue;
                if (check_room(q, qn, to, err) < 0)
                        return -1;
                last = to;
        }
        return 0;
}

/* ---- around the transaction ---- */

/* From prepare to finish, when roots are renamed or removed. */
static void setting_lock(struct quotas *q) NO_TSA
{
        mutex_lock(&q->setting);
}

static void setting_unlock(struct quotas *q) NO_TSA
{
        mutex_unlock(&q->setting);
}

static void note_changing(struct quotas *q, struct quota_names *qn, int sign)
{
        quota_lock(q);
        for (size_t i = 0; i < qn->moves.n; i++) {
                struct quota_root *both[2] = { qn->moves.v[i].from, qn->moves.v[i].to };

                for (int k = 0; k < 2; k++) {
                        if (!both[k])
                                continue;
                        both[k]->changing += (unsigned)sign;
                        both[k]->generation++;
                }
                if (both[1] && both[0] != both[1] && sign > 0)
                        both[1]->used[QUOTA_MAILBOX]++;         /* reserved */
        }
        quota_unlock(q);
}

static void forget(struct quota_names *qn)
{
        for (size_t i = 0; i < qn->moves.n; i++) {
                mailbox_unref(&qn->moves.v[i].mbox);
                free(qn->moves.v[i].uniqueid);
        }
        ARRAY_FREE(&qn->moves);
        ARRAY_FREE(&qn->renamed);
        ARRAY_FREE(&qn->removed);
}

int quota_names_prepare(struct mboxlist *ml, struct name_changes *changes, struct quota_names *qn, struct err *err)
{
        struct quotas *q = ml->store->quotas;

        if (!q || atomic_load(&q->count) == 0)
                return 0;
        quota_lock(q);
        qn->generation = atomic_load(&q->generation);
        find_renamed_locked(q, qn);
        quota_unlock(q);
        find_moves(ml, changes, qn);
        find_removed(ml, changes, qn);
        if (hold_open(ml, qn, err) < 0 || (!changes->ignore_quota && check_all(q, qn, err) < 0)) {
                forget(qn);
                return -1;
        }
        qn->setting = qn->renamed.n || qn->removed.n;
        if (qn->setting)
                setting_lock(q);                        /* before anybody who adds up is made to wait for us */
        note_changing(q, qn, 1);
        return 0;
}

static void renamed_root(const struct quota_names *qn, const struct quota_root *r, struct str *name)
{
        str_clear(name);
        str_printf(name, "%s%s", qn->to, r->name + strlen(qn->from));
}

int quota_names_write(struct mboxlist *ml, struct db_txn *txn, struct quota_names *qn, struct err *err)
{
        struct str name = STR_INIT;
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < qn->removed.n; i++)
                rc = quota_write_row(ml->store, txn, qn->removed.v[i]->name, NULL, err);
        for (size_t i = 0; rc == 0 && i < qn->renamed.n; i++) {
                struct quotas *q = store_quotas(ml->store);
                struct quota_root now;

                quota_lock(q);                  /* deliveries go on meanwhile: what they add is saved later */
                now = *qn->renamed.v[i];
                quota_unlock(q);
                renamed_root(qn, &now, &name);
                rc = quota_write_row(ml->store, txn, now.name, NULL, err);
                if (rc == 0)
                        rc = quota_write_row(ml->store, txn, name.data, &now, err);
        }
        str_deinit(&name);
        return rc;
}

/* Should the new name have had limits, they are the renamed root's from now on. */
static void rename_root_locked(struct quotas *q, const struct quota_names *qn, struct quota_root *r) REQUIRES(q->lock, quota_class);
static void rename_root_locked(struct quotas *q, const struct quota_names *qn, struct quota_root *r)
{
        struct str name = STR_INIT;
        struct quota_root *there;

        renamed_root(qn, r, &name);
        there = table_find(q->roots, str_span(&name));
        if (there && there != r) {
                quota_drop_locked(q, there);
                quota_doubt(r);
        }
        table_set(q->roots, span_of(r->name), NULL);
        *ARRAY_PUSH(&q->old_names) = r->name;
        r->name = str_take(&name);
        table_set(q->roots, span_of(r->name), r);
        atomic_fetch_add(&q->generation, 1);
}

/* Roots came or went since it was found out where this mailbox goes. */
static void doubt_move_locked(struct quotas *q, struct quota_names *qn, struct quota_move *move) REQUIRES(q->lock, quota_class);
static void doubt_move_locked(struct quotas *q, struct quota_names *qn, struct quota_move *move)
{
        quota_doubt(move->from);
        quota_doubt(move->to);
        if (move->name)
                quota_doubt(quota_resolve_locked(q, move->name, NULL, NULL));
        if (move->former)
                quota_doubt(quota_resolve_locked(q, move->former, NULL, NULL));
        qn->unsure = true;
}

static void settle_books(struct quotas *q, struct quota_names *qn)
{
        bool stale;

        quota_lock(q);
        for (size_t i = 0; i < qn->moves.n; i++) {
                struct quota_move *move = &qn->moves.v[i];

                if (move->from && move->from != move->to)
                        move->from->used[QUOTA_MAILBOX]--;
                if (qn->unsure && move->from != move->to) {
                        quota_doubt(move->from);
                        quota_doubt(move->to);
                }
        }
        stale = qn->generation != atomic_load(&q->generation);
        for (size_t i = 0; i < qn->renamed.n; i++)
                rename_root_locked(q, qn, qn->renamed.v[i]);
        for (size_t i = 0; i < qn->removed.n; i++)
                quota_drop_locked(q, qn->removed.v[i]);
        for (size_t i = 0; stale && i < qn->moves.n; i++)
                doubt_move_locked(q, qn, &qn->moves.v[i]);
        quota_unlock(q);
}

static void rebind(struct mboxlist *ml, struct quota_move *move)
{
        struct mailbox *m = move->mbox ? mailbox_ref(move->mbox) : mailbox_find_open(ml->store, move->uniqueid);

        if (!m)
                return;
        mailbox_lock(m);
        quota_lock(store_quotas(ml->store));
        quota_rebind_locked(store_quotas(ml->store), m, move->to);
        quota_unlock(store_quotas(ml->store));
        mailbox_unlock(m);
        mailbox_unref(&m);
}

/* The names of roots that are renamed or removed, former and new ones, each with its NUL. */
static void list_roots(struct quotas *q, const struct quota_names *qn, struct str *names)
{
        struct str name = STR_INIT;

        quota_lock(q);
        for (size_t i = 0; i < qn->renamed.n; i++) {
                str_append(names, qn->renamed.v[i]->name, strlen(qn->renamed.v[i]->name) + 1);
                renamed_root(qn, qn->renamed.v[i], &name);
                str_append(names, name.data, name.len + 1);
        }
        for (size_t i = 0; i < qn->removed.n; i++)
                str_append(names, qn->removed.v[i]->name, strlen(qn->removed.v[i]->name) + 1);
        quota_unlock(q);
        str_deinit(&name);
}

static void tell_roots(struct store *store, const struct str *names)
{
        for (size_t at = 0; at < names->len; at += strlen(names->data + at) + 1)
                change_publish(store, &(struct change){ .kind = CHANGE_QUOTA, .name = names->data + at });
}

void quota_names_finish(struct mboxlist *ml, struct quota_names *qn, bool done)
{
        struct quotas *q = ml->store->quotas;
        struct str roots = STR_INIT;

        if (!qn->moves.n && !qn->setting) {
                forget(qn);
                return;
        }
        for (size_t i = 0; done && i < qn->moves.n; i++)
                if (qn->moves.v[i].former && qn->moves.v[i].from != qn->moves.v[i].to)
                        rebind(ml, &qn->moves.v[i]);
        if (done) {
                list_roots(q, qn, &roots);
                settle_books(q, qn);
        }
        quota_lock(q);
        for (size_t i = 0; !done && i < qn->moves.n; i++)
                if (qn->moves.v[i].to && qn->moves.v[i].from != qn->moves.v[i].to)
                        qn->moves.v[i].to->used[QUOTA_MAILBOX]--;
        quota_unlock(q);
        note_changing(q, qn, -1);
        if (qn->setting)
                setting_unlock(q);
        if (done && qn->unsure)
                quotas_settle_later(ml->store);
        forget(qn);
        tell_roots(ml->store, &roots);
        str_deinit(&roots);
}

/* ---- a mailbox comes into memory ---- */

/* Between the look at its name and binding the name may have changed, or the roots: then once more. Whoever changed it rebinds what
 * is open already when he is done. */
void quota_bind(struct mailbox *m)
{
        struct quotas *q = m->store->quotas;
        struct mboxlist *ml = m->store->ml;
        bool again = true;

        if (!q || !ml || atomic_load(&q->count) == 0)
                return;
        while (again) {
                uint64_t generation = atomic_load(&q->generation);
                const struct mbentry *e = mboxlist_find_uniqueid(ml, m->uniqueid), *now;

                mailbox_lock(m);
                quota_totals(m, m->quota.part);
                quota_lock(q);
                m->quota.root = e ? quota_resolve_locked(q, e->name, NULL, NULL) : NULL;
                m->quota.round = 0;
                if (m->quota.root)              /* counted before it was closed, perhaps by the adding up that goes on */
                        m->quota.round = m->quota.root->counted && table_find(m->quota.root->counted, span_of(m->uniqueid))
                                                 ? m->quota.root->adding : m->quota.root->round;
                quota_unlock(q);
                mailbox_unlock(m);
                now = mboxlist_find_uniqueid(ml, m->uniqueid);
                again = now != e || generation != atomic_load(&q->generation);
                mbentry_unref(&e);
                mbentry_unref(&now);
        }
}
