/* quota - see quota.h and quota_private.h: roots in memory, reading them, reserving and counting. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/quota_private.h"
#include "util/must.h"

static const struct {
        const char *name, *cyrus;
        int64_t unit;
} resources[QUOTA_RESOURCES] = {
        [QUOTA_STORAGE]    = { "STORAGE", "STORAGE", 1024 },
        [QUOTA_MESSAGE]    = { "MESSAGE", "MESSAGE", 1 },
        [QUOTA_MAILBOX]    = { "MAILBOX", "X-NUM-FOLDERS", 1 },
        [QUOTA_ANNOTATION] = { "ANNOTATION-STORAGE", "X-ANNOTATION-STORAGE", 1024 },
};

const char *quota_resource_name(enum quota_resource r)
{
        return resources[r].name;
}

const char *quota_resource_cyrus_name(enum quota_resource r)
{
        return resources[r].cyrus;
}

int quota_resource_find(struct span name)
{
        for (int i = 0; i < QUOTA_RESOURCES; i++)
                if (span_ieq_str(name, resources[i].name) || span_ieq_str(name, resources[i].cyrus))
                        return i;
        return -1;
}

int64_t quota_unit(enum quota_resource r)
{
        return resources[r].unit;
}

int64_t quota_used_units(const struct quota_info *info, enum quota_resource r)
{
        int64_t unit = resources[r].unit;

        return info->used[r] <= 0 ? 0 : info->used[r] / unit;
}

/* ---- roots ---- */

static struct quota_root *find_locked(struct quotas *q, struct span name) REQUIRES(q->lock, quota_class);
static struct quota_root *find_locked(struct quotas *q, struct span name)
{
        return table_find(q->roots, name);
}

/* What will be called `name` when `from` has become `to`: NULL, nothing. */
static struct quota_root *find_renamed_locked(struct quotas *q, struct span name, const char *from, const char *to)
        REQUIRES(q->lock, quota_class);
static struct quota_root *find_renamed_locked(struct quotas *q, struct span name, const char *from, const char *to)
{
        size_t from_len = strlen(from), to_len = strlen(to);
        char former[2 * MAILNAME_MAX + 64];

        if (name.len >= to_len && memcmp(name.p, to, to_len) == 0 && (name.len == to_len || name.p[to_len] == '.')) {
                struct quota_root *moved;

                if (from_len + name.len - to_len > sizeof former)
                        return NULL;
                memcpy(former, from, from_len);
                memcpy(former + from_len, name.p + to_len, name.len - to_len);
                moved = find_locked(q, (struct span){ former, from_len + name.len - to_len });
                if (moved)
                        return moved;
        }
        if (name.len >= from_len && memcmp(name.p, from, from_len) == 0 && (name.len == from_len || name.p[from_len] == '.'))
                return NULL;
        return find_locked(q, name);
}

struct quota_root *quota_resolve_locked(struct quotas *q, const char *name, const char *from, const char *to)
{
        struct span key = span_of(name);

        if (table_count(q->roots) == 0)
                return NULL;
        for (;;) {
                struct quota_root *r = from ? find_renamed_locked(q, key, from, to) : find_locked(q, key);

                if (r)
                        return r;
                while (key.len && key.p[key.len - 1] != '.' && key.p[key.len - 1] != '!')
                        key.len--;
                if (key.len == 0 || key.p[key.len - 1] == '!')
                        return NULL;
                key.len--;
        }
}

struct quota_root *quota_add_locked(struct quotas *q, const char *name)
{
        struct quota_root *r = xcalloc(1, sizeof *r);

        r->name = xstrdup(name);
        for (int i = 0; i < QUOTA_RESOURCES; i++)
                r->limit[i] = QUOTA_UNLIMITED;
        must(table_set(q->roots, span_of(r->name), r) == NULL);
        *ARRAY_PUSH(&q->all) = r;
        atomic_fetch_add(&q->count, 1);
        atomic_fetch_add(&q->generation, 1);
        return r;
}

void quota_drop_locked(struct quotas *q, struct quota_root *r)
{
        if (r->gone)
                return;
        r->gone = true;
        table_set(q->roots, span_of(r->name), NULL);
        atomic_fetch_sub(&q->count, 1);
        atomic_fetch_add(&q->generation, 1);
}

void quota_doubt(struct quota_root *r)
{
        if (r && !r->gone) {
                r->unsure = r->dirty = true;
                r->generation++;                /* whoever is adding it up looks once more */
        }
}

/* ---- reading ---- */

void quota_copy_out(const struct quota_root *r, struct quota_info *info)
{
        memcpy(info->limit, r->limit, sizeof info->limit);
        for (int i = 0; i < QUOTA_RESOURCES; i++) {
                info->used[i] = r->used[i] - r->moving[i];
                if (info->used[i] < 0)
                        info->used[i] = 0;
        }
        info->modseq = r->modseq;
        info->unsure = r->unsure;
}

bool quota_root_of(struct store *store, const char *name, struct str *root_r)
{
        struct quotas *q = store_quotas(store);
        struct quota_root *r;

        if (atomic_load(&q->count) == 0)
                return false;
        quota_lock(q);
        r = quota_resolve_locked(q, name, NULL, NULL);
        if (r)
                str_append_str(root_r, r->name);
        quota_unlock(q);
        return r != NULL;
}

bool quota_get(struct store *store, const char *root, struct quota_info *info_r)
{
        struct quotas *q = store_quotas(store);
        struct quota_root *r;

        quota_lock(q);
        r = find_locked(q, span_of(root));
        if (r && info_r)
                quota_copy_out(r, info_r);
        quota_unlock(q);
        return r != NULL;
}

static int by_name(const void *a, const void *b)
{
        return mailname_compare(*(const char *const *)a, *(const char *const *)b);
}

size_t quota_list(struct store *store, const char *prefix, struct arena *arena, const char ***roots_r)
{
        struct quotas *q = store_quotas(store);
        const char **list;
        size_t n = 0, pos = 0;
        struct span key;
        void *value;

        quota_lock(q);
        list = ARENA_ARRAY(arena, const char *, table_count(q->roots) + 1);
        while (table_next(q->roots, &pos, &key, &value)) {
                const char *name = ((struct quota_root *)value)->name;

                if (!*prefix || strcmp(name, prefix) == 0 || mailname_is_below(name, prefix))
                        list[n++] = arena_strdup(arena, name);
        }
        quota_unlock(q);
        if (n)
                qsort(list, n, sizeof *list, by_name);
        *roots_r = list;
        return n;
}

/* ---- is there room? ---- */

/* With `more` 0: is it full? */
bool quota_over(const struct quota_root *r, enum quota_resource resource, int64_t more, bool full)
{
        int64_t used = r->used[resource] - r->moving[resource], max;

        if (r->limit[resource] < 0 || more < 0 || (more == 0 && !full))
                return false;
        max = r->limit[resource] * resources[resource].unit;
        return more == 0 ? used >= max : used > max - more;
}

int quota_refuse(struct err *err, const struct quota_root *r, enum quota_resource resource)
{
        return err_set(err, ERR_QUOTA, "Over quota: %s of %s", resources[resource].name, r->name);
}

int quota_check(struct store *store, const char *name, int64_t octets, int64_t messages, struct err *err)
{
        struct quotas *q = store_quotas(store);
        bool full = octets == 0 && messages == 0;
        struct quota_root *r;
        int rc = 0;

        if (atomic_load(&q->count) == 0)
                return 0;
        quota_lock(q);
        r = quota_resolve_locked(q, name, NULL, NULL);
        if (r && quota_over(r, QUOTA_STORAGE, octets, full))
                rc = quota_refuse(err, r, QUOTA_STORAGE);
        else if (r && quota_over(r, QUOTA_MESSAGE, messages, full))
                rc = quota_refuse(err, r, QUOTA_MESSAGE);
        quota_unlock(q);
        return rc;
}

/* ---- counting ---- */

void quota_totals(struct mailbox *m, int64_t totals[QUOTA_RESOURCES])
{
        const struct index_totals *t = index_totals(m->ix);

        totals[QUOTA_STORAGE] = (int64_t)t->size;
        totals[QUOTA_MESSAGE] = t->live;
        totals[QUOTA_MAILBOX] = 0;              /* counted from names */
        totals[QUOTA_ANNOTATION] = (int64_t)m->annots.values;   /* those of expunged messages until they are purged */
}

static void add_locked(struct quota_root *r, const struct mailbox *m, enum quota_resource resource, int64_t more)
{
        if (more == 0 || m->quota.round < r->round)
                return;
        r->used[resource] += more;
        if (r->counted && m->quota.round == r->adding)
                r->sum[resource] += more;
        r->dirty = true;
}

static bool is_bound(const struct mailbox *m)
{
        return m->quota.root && !m->quota.root->gone;
}

int quota_use(struct mailbox *m, enum quota_resource resource, int64_t amount, bool enforce, struct err *err)
{
        struct quotas *q = store_quotas(m->store);
        int rc = 0;

        mutex_assert_held(&m->lock);
        if (!q || !m->quota.root)
                return 0;
        quota_lock(q);
        if (is_bound(m) && enforce && quota_over(m->quota.root, resource, amount, false)) {
                rc = quota_refuse(err, m->quota.root, resource);
        } else if (is_bound(m)) {
                add_locked(m->quota.root, m, resource, amount);
                m->quota.part[resource] += amount;
        }
        quota_unlock(q);
        return rc;
}

int quota_take(struct mailbox *m, int64_t octets, int64_t messages, bool enforce, struct err *err)
{
        struct quotas *q = store_quotas(m->store);
        struct quota_root *r;
        int rc = 0;

        mutex_assert_held(&m->lock);
        if (!q || !m->quota.root)
                return 0;
        quota_lock(q);
        r = m->quota.root;
        if (is_bound(m) && enforce && quota_over(r, QUOTA_STORAGE, octets, false))
                rc = quota_refuse(err, r, QUOTA_STORAGE);
        else if (is_bound(m) && enforce && quota_over(r, QUOTA_MESSAGE, messages, false))
                rc = quota_refuse(err, r, QUOTA_MESSAGE);
        if (rc == 0 && is_bound(m)) {
                add_locked(r, m, QUOTA_STORAGE, octets);
                add_locked(r, m, QUOTA_MESSAGE, messages);
                m->quota.part[QUOTA_STORAGE] += octets;
                m->quota.part[QUOTA_MESSAGE] += messages;
        }
        quota_unlock(q);
        return rc;
}

void quota_report(struct mailbox *m)
{
        struct quotas *q = store_quotas(m->store);
        int64_t totals[QUOTA_RESOURCES];

        if (!q || !m->quota.root || !m->ix)
                return;
        quota_totals(m, totals);
        if (memcmp(totals, m->quota.part, sizeof totals) == 0)          /* only changed with the mailbox's lock */
                return;
        quota_lock(q);
        for (int i = 0; i < QUOTA_RESOURCES; i++) {
                if (is_bound(m))
                        add_locked(m->quota.root, m, (enum quota_resource)i, totals[i] - m->quota.part[i]);
                m->quota.part[i] = totals[i];
        }
        quota_unlock(q);
}

void quota_rebind_locked(struct quotas *q, struct mailbox *m, struct quota_root *r)
{
        struct quota_root *was = m->quota.root;
        int64_t totals[QUOTA_RESOURCES];

        (void)q;
        mutex_assert_held(&m->lock);
        if (was == r)
                return;
        quota_totals(m, totals);
        for (int i = 0; was && i < QUOTA_RESOURCES; i++)
                add_locked(was, m, (enum quota_resource)i, -m->quota.part[i]);
        if (was && was->counted)
                table_set(was->counted, span_of(m->uniqueid), NULL);
        m->quota.root = r;
        memcpy(m->quota.part, totals, sizeof totals);
        m->quota.round = !r ? 0 : r->counted ? r->adding : r->round;
        if (r && r->counted)
                table_set(r->counted, span_of(m->uniqueid), r);
        for (int i = 0; r && i < QUOTA_RESOURCES; i++)
                add_locked(r, m, (enum quota_resource)i, totals[i]);
}

/* ---- moves of messages ---- */

struct quota_root *quota_moving(struct mailbox *from, struct mailbox *to, int64_t octets, int64_t messages)
{
        struct quotas *q = store_quotas(to->store);
        struct quota_root *r = NULL;

        if (!q || atomic_load(&q->count) == 0)
                return NULL;
        quota_lock(q);
        if (to->quota.root && to->quota.root == from->quota.root) {
                r = to->quota.root;
                r->moving[QUOTA_STORAGE] += octets;
                r->moving[QUOTA_MESSAGE] += messages;
        }
        quota_unlock(q);
        return r;
}

void quota_moved(struct store *store, struct quota_root *r, int64_t octets, int64_t messages)
{
        struct quotas *q = store_quotas(store);

        if (!r)
                return;
        quota_lock(q);
        r->moving[QUOTA_STORAGE] -= octets;
        r->moving[QUOTA_MESSAGE] -= messages;
        quota_unlock(q);
}
