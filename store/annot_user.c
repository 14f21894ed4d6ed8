/* annot_user - see annot_user.h */
#include "store/annot_user.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/annot.h"
#include "store/store.h"
#include "util/hash.h"
#include "util/must.h"

struct annot_users {
        atomic_uint_fast64_t generation;
        struct mutex refreshing;                /* taken before `lock` */
        struct mutex lock;                      /* a leaf; covers the tables */
        struct table *by_name;                  /* user id → key, which this table owns */
        struct table *by_key;                   /* key → user id, which this table owns */
};

struct annot_users *annot_users_create_empty(void)
{
        struct annot_users *u = xcalloc(1, sizeof *u);

        mutex_init(&u->refreshing);
        mutex_init(&u->lock);
        u->by_name = table_create();
        u->by_key = table_create();
        return u;
}

static void free_values(struct table *t)
{
        size_t pos = 0;
        struct span key;
        void *value;

        while (table_next(t, &pos, &key, &value))
                free(value);
}

void annot_users_destroy(struct annot_users **up)
{
        struct annot_users *u = *up;

        *up = NULL;
        if (!u)
                return;
        free_values(u->by_name);
        free_values(u->by_key);
        table_destroy(&u->by_name);
        table_destroy(&u->by_key);
        mutex_deinit(&u->refreshing);
        mutex_deinit(&u->lock);
        free(u);
}

struct mutex *annot_users_refreshing(struct annot_users *u)
{
        return &u->refreshing;
}

void annot_users_set(struct annot_users *u, const char *userid, const char *key)
{
        const char *owner;
        char *former;

        atomic_fetch_add(&u->generation, 1);
        mutex_lock(&u->lock);
        former = table_set(u->by_name, span_of(userid), key ? xstrdup(key) : NULL);
        owner = former ? table_find(u->by_key, span_of(former)) : NULL;
        if (owner && strcmp(owner, userid) == 0)                /* not somebody who took it over */
                free(table_set(u->by_key, span_of(former), NULL));
        if (key)
                free(table_set(u->by_key, span_of(key), xstrdup(userid)));
        mutex_unlock(&u->lock);
        free(former);
}

uint64_t annot_users_generation(struct store *store)
{
        struct annot_users *u = store_annot_users(store);

        return u ? atomic_load(&u->generation) + 1 : 1;
}

bool annot_user_key(struct store *store, const char *userid, char key[ANNOT_USER_KEY_MAX])
{
        struct annot_users *u = store_annot_users(store);
        const char *found;

        if (!u) {
                snprintf(key, ANNOT_USER_KEY_MAX, "%s", userid);
                return true;
        }
        mutex_lock(&u->lock);
        found = table_find(u->by_name, span_of(userid));
        if (found)
                snprintf(key, ANNOT_USER_KEY_MAX, "%s", found);
        mutex_unlock(&u->lock);
        return found != NULL;
}

const char *annot_user_name(struct store *store, const char *key, struct arena *arena)
{
        struct annot_users *u = store_annot_users(store);
        const char *found;

        if (!u)
                return arena_strdup(arena, key);
        mutex_lock(&u->lock);
        found = table_find(u->by_key, span_of(key));
        if (found)
                found = arena_strdup(arena, found);
        mutex_unlock(&u->lock);
        return found;
}

bool annot_user_known(struct store *store, const char *userid)
{
        char key[ANNOT_USER_KEY_MAX];

        return annot_user_key(store, userid, key);
}
