/*
 * replica_user - what replication reads and writes besides mailboxes and their names: seen states, subscriptions, quota roots, annotations.
 */
#include <stdlib.h>
#include <string.h>

#include "store/change.h"
#include "store/mailname.h"
#include "store/replica_private.h"
#include "store/user.h"
#include "util/array.h"

/* Around one call of the store. */
static unsigned mark(void)
{
        return change_mark(change_marks() | CHANGE_REPLICATED);
}

static enum replica_code done(int rc, unsigned was, const struct err *err)
{
        change_mark(was);
        return rc < 0 ? replica_code_of(err) : REPLICA_OK;
}

/* No user has a longer id, or one that cannot stand in a key. */
static int check_user(const char *userid, struct err *err)
{
        if (!*userid || strlen(userid) > USERID_MAX)
                return err_set(err, ERR_BADNAME, "a user's id has 1 to %d octets", USERID_MAX);
        for (const char *p = userid; *p; p++)
                if ((unsigned char)*p <= ' ' || *p == 0x7f || *p == '/')
                        return err_set(err, ERR_BADNAME, "impossible id of a user");
        return 0;
}

/* ---- seen ---- */

enum replica_code replica_set_seen(struct store *store, const char *userid, const char *uniqueid, const struct seen_state *state, struct err *err)
{
        struct seen *seen = NULL;
        unsigned was = mark();
        int rc = check_user(userid, err);

        if (rc == 0 && !replica_uniqueid_ok(span_of(uniqueid)))
                rc = err_set(err, ERR_SYNTAX, "impossible unique id");
        if (rc == 0)
                rc = seen_open(store, uniqueid, userid, &seen, err);
        if (rc == 0)
                rc = seen_set(seen, state, err);
        seen_unref(&seen);
        return done(rc, was, err);
}

struct seen_ids {
        struct arena *arena;
        const char *only;
        ARRAY(const char *) list;
};

static bool note_id(void *ctx, const char *uniqueid)
{
        struct seen_ids *ids = ctx;

        if (!ids->only || strcmp(ids->only, uniqueid) == 0)
                *ARRAY_PUSH(&ids->list) = arena_strdup(ids->arena, uniqueid);
        return true;
}

static int by_id(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int copy_seen(struct store *store, const char *userid, const char *uniqueid, struct arena *arena, struct replica_seen *out, struct err *err)
{
        struct seen_state state = { .uids = UIDSET_INIT };
        struct str text = STR_INIT;
        struct seen *seen;

        if (seen_open(store, uniqueid, userid, &seen, err) < 0)
                return -1;
        seen_get(seen, &state);
        seen_unref(&seen);
        uidset_append(&state.uids, &text);
        *out = (struct replica_seen){ uniqueid, arena_strndup(arena, text.data, text.len), state.lastuid, state.lastread, state.lastchange };
        str_deinit(&text);
        uidset_deinit(&state.uids);
        return 0;
}

int replica_list_seen(struct store *store, const char *userid, const char *uniqueid, struct arena *arena, struct replica_seen **list_r,
                      uint32_t *n_r, struct err *err)
{
        struct seen_ids ids = { arena, uniqueid, ARRAY_INIT };
        int rc = seen_each_mailbox(store, userid, note_id, &ids, err);

        *list_r = ARENA_ARRAY(arena, struct replica_seen, ids.list.n ? ids.list.n : 1);
        *n_r = 0;
        if (ids.list.n > 1)
                qsort(ids.list.v, ids.list.n, sizeof *ids.list.v, by_id);
        for (size_t i = 0; i < ids.list.n && rc == 0; i++) {
                if (i && strcmp(ids.list.v[i], ids.list.v[i - 1]) == 0)
                        continue;
                rc = copy_seen(store, userid, ids.list.v[i], arena, &(*list_r)[*n_r], err);
                *n_r += rc == 0;
        }
        ARRAY_FREE(&ids.list);
        return rc;
}

/* ---- subscriptions, quotas ---- */

enum replica_code replica_set_sub(struct store *store, const char *userid, const char *name, bool subscribed, struct err *err)
{
        unsigned was = mark();
        int rc = check_user(userid, err);

        if (rc == 0 && strpbrk(name, "\r\n"))
                rc = err_set(err, ERR_BADNAME, "impossible name of a mailbox");
        if (rc == 0)
                rc = sub_set(store, userid, name, subscribed, err);
        return done(rc, was, err);
}

enum replica_code replica_set_quota(struct store *store, const char *root, const int64_t limit[QUOTA_RESOURCES], uint64_t modseq, struct err *err)
{
        unsigned was = mark();
        int rc = mailname_check_new(root, true, err);

        if (rc == 0)
                rc = quota_set_exactly(store, root, limit, modseq, err);
        if (rc < 0 && err->code == ERR_LIMIT)
                err->code = ERR_SYNTAX;                         /* a limit out of range */
        return done(rc, was, err);
}

enum replica_code replica_remove_quota(struct store *store, const char *root, struct err *err)
{
        unsigned was = mark();
        int rc = quota_remove(store, root, err);

        if (rc < 0 && err->code == ERR_NOTFOUND) {
                err_clear(err);
                rc = 0;
        }
        return done(rc, was, err);
}

/* ---- annotations ---- */

int replica_list_annots(struct store *store, const char *name, struct arena *arena, struct annot **list_r, uint32_t *n_r, struct err *err)
{
        struct replica_values v;

        if (!*name)
                return server_annots_all(store, arena, list_r, n_r, err);
        if (replica_read(store, name, arena, &v, err) < 0)
                return -1;
        *n_r = v.annots_n;
        *list_r = ARENA_ARRAY(arena, struct annot, v.annots_n ? v.annots_n : 1);
        if (v.annots_n)
                memcpy(*list_r, v.annots, v.annots_n * sizeof **list_r);
        return 0;
}

static int set_mailbox_annot(struct store *store, const char *name, const struct annot *a, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *owner = mailname_owner(name, &arena);
        struct mailbox *m = NULL;
        struct waiter waiter;
        int rc;

        if (strcmp(a->entry, "/specialuse") == 0 && strcmp(a->user, owner ? owner : "") == 0) {
                rc = mboxlist_set_specialuse(store_mboxlist(store), name, a->value.p ? arena_strndup(&arena, a->value.p, a->value.len) : "", err);
        } else {
                waiter_init_blocking(&waiter);
                rc = a->value.p ? replica_make_users(store, a, 1, err) : 0;
                if (rc == 0)
                        rc = replica_open(store, name, &m, err);
                if (rc == 0)
                        rc = mailbox_annotate(m, a, 1, &waiter, err);
                if (rc == 0)
                        rc = waiter_block(&waiter, err);
                mailbox_unref(&m);
        }
        arena_deinit(&arena);
        return rc;
}

enum replica_code replica_set_annot(struct store *store, const char *name, const char *entry, const char *userid, struct span value,
                                    struct err *err)
{
        struct annot a = { entry, userid, value, 0 };
        unsigned was = mark();
        int rc = annot_check_entry(span_of(entry), err);

        if (rc == 0 && *userid)
                rc = check_user(userid, err);
        if (rc == 0 && value.len > ANNOT_VALUE_MAX)
                rc = err_set(err, ERR_SYNTAX, "the value of an annotation has at most %d octets", ANNOT_VALUE_MAX);
        if (rc == 0)
                rc = *name ? set_mailbox_annot(store, name, &a, err) : server_annotate(store, &a, 1, err);
        return done(rc, was, err);
}
