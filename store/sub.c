/*
 * sub - subscriptions; see user.h.
 *
 * subscriptions.db has one record a subscription: key user id, NUL, internal name; the value is empty. A user's list is read when it
 * is first asked for and then kept, sorted, as one counted object; a change makes a new one. At most USERS_MAX lists are kept: when
 * there are more, half of them (any) are forgotten.
 */
#include <stdlib.h>
#include <string.h>

#include "store/store_private.h"
#include "store/change.h"
#include "store/user.h"
#include "util/array.h"
#include "util/hash.h"
#include "util/must.h"

#define USERS_MAX 20000
#define NAMES_MAX 100000                        /* of one user; ERR_LIMIT beyond */
#define STRIPES 32

struct sub_names {                              /* immutable once it is in the table */
        atomic_uint refs;
        size_t n;
        const char **v;                         /* in mailname_compare() order; the strings are in the arena */
        struct arena arena;
};

struct subs {
        struct store *store;
        struct mutex stripes[STRIPES];          /* one user's changes, over the commit; taken before `lock` */
        struct mutex lock;                      /* covers the table */
        struct table *users;                    /* user id → struct sub_names, a reference each */
        uint64_t generation;                    /* counts what was forgotten: a list read before that is not put into the table */
};

int subs_create(struct store *store, struct subs **subs_r, struct err *err)
{
        struct subs *s = xcalloc(1, sizeof *s);

        (void)err;
        s->store = store;
        for (unsigned i = 0; i < STRIPES; i++)
                mutex_init(&s->stripes[i]);
        mutex_init(&s->lock);
        s->users = table_create();
        *subs_r = s;
        return 0;
}

static void names_unref(struct sub_names *names)
{
        if (!names || atomic_fetch_sub(&names->refs, 1) != 1)
                return;
        arena_deinit(&names->arena);
        free(names->v);
        free(names);
}

void subs_destroy(struct subs **sp)
{
        struct subs *s = *sp;
        size_t pos = 0;
        struct span key;
        void *value;

        *sp = NULL;
        if (!s)
                return;
        while (table_next(s->users, &pos, &key, &value))
                names_unref(value);
        table_destroy(&s->users);
        for (unsigned i = 0; i < STRIPES; i++)
                mutex_deinit(&s->stripes[i]);
        mutex_deinit(&s->lock);
        free(s);
}

/* ---- the table ---- */

static struct mutex *stripe_of(struct subs *s, const char *userid)
{
        return &s->stripes[hash_keyed(userid, strlen(userid)) % STRIPES];
}

/* Half of the lists go. Which ones does not matter: those in use come back with one reading. */
static void shed_locked(struct subs *s) REQUIRES(s->lock);
static void shed_locked(struct subs *s)
{
        size_t pos = 0, i = 0;
        struct span key;
        void *value;

        while (table_next(s->users, &pos, &key, &value))
                if (i++ % 2 == 0) {
                        table_set(s->users, key, NULL);
                        names_unref(value);
                }
}

/* Put a list into the table unless something was forgotten since `generation`. */
static void remember(struct subs *s, const char *userid, struct sub_names *names, uint64_t generation)
{
        struct sub_names *old = NULL;

        mutex_lock(&s->lock);
        if (generation == s->generation) {
                if (table_count(s->users) >= USERS_MAX)
                        shed_locked(s);
                atomic_fetch_add(&names->refs, 1);
                old = table_set(s->users, span_of(userid), names);
        }
        mutex_unlock(&s->lock);
        names_unref(old);
}

void subs_forget(struct store *store, const char *userid)
{
        struct subs *s = store->subs;
        struct sub_names *old;

        mutex_lock(&s->lock);
        s->generation++;
        old = table_set(s->users, span_of(userid), NULL);
        mutex_unlock(&s->lock);
        names_unref(old);
}

/* ---- the database ---- */

static struct span user_prefix(const char *userid, struct str *key)
{
        str_clear(key);
        str_append(key, userid, strlen(userid) + 1);    /* with its NUL */
        return str_span(key);
}

static struct span sub_key(const char *userid, const char *name, struct str *key)
{
        user_prefix(userid, key);
        str_append_str(key, name);
        return str_span(key);
}

static int by_name(const void *a, const void *b)
{
        return mailname_compare(*(const char *const *)a, *(const char *const *)b);
}

static int read_names(struct db *db, struct db_txn *txn, const char *userid, struct sub_names **names_r, struct err *err)
{
        struct sub_names *names = xcalloc(1, sizeof *names);
        ARRAY(const char *) list = ARRAY_INIT;
        struct str prefix = STR_INIT;
        struct db_cursor *cursor;
        struct span key, value;
        int rc = 0;

        atomic_init(&names->refs, 1);
        user_prefix(userid, &prefix);
        if (db)
                rc = db_cursor_open(db, txn, str_span(&prefix), &cursor, err);
        if (db && rc == 0) {
                while (list.n <= NAMES_MAX && (rc = db_cursor_next(cursor, &key, &value, err)) > 0)
                        *ARRAY_PUSH(&list) = arena_strndup(&names->arena, key.p + prefix.len, key.len - prefix.len);
                db_cursor_close(&cursor);
        }
        str_deinit(&prefix);
        if (list.n)
                qsort(list.v, list.n, sizeof *list.v, by_name);
        names->v = list.v;
        names->n = list.n;
        if (rc < 0) {
                names_unref(names);
                return -1;
        }
        *names_r = names;
        return 0;
}

/* The user's list with a reference. */
static int get_names(struct subs *s, const char *userid, struct sub_names **names_r, struct err *err)
{
        uint64_t generation;

        mutex_lock(&s->lock);
        *names_r = table_find(s->users, span_of(userid));
        if (*names_r)
                atomic_fetch_add(&(*names_r)->refs, 1);
        generation = s->generation;
        mutex_unlock(&s->lock);
        if (*names_r)
                return 0;
        if (read_names(s->store->subscriptions_db, NULL, userid, names_r, err) < 0)
                return -1;
        remember(s, userid, *names_r, generation);
        return 0;
}

static bool has(const struct sub_names *names, const char *name)
{
        return names->n && bsearch(&name, names->v, names->n, sizeof *names->v, by_name) != NULL;
}

/* ---- the public functions ---- */

int sub_has(struct store *store, const char *userid, const char *name, bool *yes_r, struct err *err)
{
        struct sub_names *names;

        if (get_names(store->subs, userid, &names, err) < 0)
                return -1;
        *yes_r = has(names, name);
        names_unref(names);
        return 0;
}

int sub_list(struct store *store, const char *userid, struct arena *arena, const char ***names_r, struct err *err)
{
        struct sub_names *names;
        const char **list;

        if (get_names(store->subs, userid, &names, err) < 0)
                return -1;
        list = ARENA_ARRAY(arena, const char *, names->n + 1);
        for (size_t i = 0; i < names->n; i++)
                list[i] = arena_strdup(arena, names->v[i]);
        names_unref(names);
        *names_r = list;
        return 0;
}

struct setting {
        struct store *store;
        const char *userid, *name;
        bool subscribed;
};

static int write_sub(struct db_txn *txn, void *ctx, struct err *err)
{
        struct setting *w = ctx;
        struct str key = STR_INIT;
        int ret;

        sub_key(w->userid, w->name, &key);
        ret = w->subscribed ? db_put(w->store->subscriptions_db, txn, str_span(&key), SPAN(""), err)
                            : db_del(w->store->subscriptions_db, txn, str_span(&key), err);
        str_deinit(&key);
        return ret;
}

int sub_set(struct store *store, const char *userid, const char *name, bool subscribed, struct err *err)
{
        struct setting w = { store, userid, name, subscribed };
        struct mutex *stripe = stripe_of(store->subs, userid);
        struct sub_names *names;
        int ret = -1;

        if (store_may_change(store, err) < 0)
                return -1;
        if (store->readonly || !store->subscriptions_db || conf_switch(store_conf(store), NULL, "readonly"))
                return err_set(err, ERR_READONLY, "subscriptions take no changes now");
        if (!*userid || strlen(userid) > MAILNAME_MAX || !*name || strlen(name) > MAILNAME_MAX)
                return err_set(err, ERR_BADNAME, "impossible name in a subscription");
        mutex_lock(stripe);
        if (get_names(store->subs, userid, &names, err) == 0) {
                bool there = has(names, name);

                if (there == subscribed)
                        ret = 0;
                else if (subscribed && names->n >= NAMES_MAX)
                        err_set(err, ERR_LIMIT, "more than %d subscriptions", NAMES_MAX);
                else
                        ret = db_run(store->env, true, write_sub, &w, err);
                names_unref(names);
                /* Read anew when next asked for: subscribing is rare, reading fast. */
                if (ret == 0 && there != subscribed)
                        subs_forget(store, userid);
        }
        mutex_unlock(stripe);
        if (ret == 0)
                change_publish(store, &(struct change){ .kind = CHANGE_SUBSCRIPTION, .name = userid, .other = name });
        return ret;
}

int subs_rename_user(struct store *store, struct db_txn *txn, const char *from, const char *to, struct err *err)
{
        struct sub_names *names;
        struct arena arena = ARENA_INIT;
        struct str key = STR_INIT;
        const char *old_inbox = mailname_inbox_of(from, &arena), *new_inbox = to ? mailname_inbox_of(to, &arena) : "";
        int ret = 0;

        if (!store->subscriptions_db)
                return 0;
        if (read_names(store->subscriptions_db, txn, from, &names, err) < 0) {
                arena_deinit(&arena);
                return -1;
        }
        for (size_t i = 0; ret == 0 && i < names->n; i++) {
                const char *name = names->v[i];
                bool own = strcmp(name, old_inbox) == 0 || mailname_is_below(name, old_inbox);

                ret = db_del(store->subscriptions_db, txn, sub_key(from, name, &key), err);
                if (ret < 0 || !to)
                        continue;
                if (own)
                        name = arena_printf(&arena, "%s%s", new_inbox, name + strlen(old_inbox));
                ret = db_put(store->subscriptions_db, txn, sub_key(to, name, &key), SPAN(""), err);
        }
        names_unref(names);
        str_deinit(&key);
        arena_deinit(&arena);
        return ret;
}

int sub_each(struct store *store, bool (*fn)(void *ctx, const char *userid, const char *name), void *ctx, struct err *err)
{
        struct db_cursor *cursor;
        struct span key, value;
        struct str copy = STR_INIT;
        bool more = true;
        int rc = 0;

        if (!store->subscriptions_db)
                return 0;
        if (db_cursor_open(store->subscriptions_db, NULL, SPAN(""), &cursor, err) < 0)
                return -1;
        while (more && (rc = db_cursor_next(cursor, &key, &value, err)) > 0) {
                size_t user = span_index(key, '\0');

                if (user == key.len)
                        continue;               /* the table's own key */
                str_clear(&copy);
                str_append_span(&copy, key);    /* with a NUL behind the name */
                more = fn(ctx, copy.data, copy.data + user + 1);
        }
        db_cursor_close(&cursor);
        str_deinit(&copy);
        return rc < 0 ? -1 : 0;
}
