/*
 * client_meta - what is not a mailbox's: quota roots, subscriptions, seen states, annotations, Sieve scripts (csync 10.1 steps 10 to 13, 10.5,
 * 10.6).
 */
#include "replication/client_private.h"

#include <stdlib.h>

#include "store/user.h"
#include "util/must.h"

#define UNLIMITED_WIRE UINT64_C(4294967295)     /* LIMIT, a number of 32 bits */

/* ---- what the replica said -------------------------------------------------------------------------------------------------- */

void meta_init(struct meta *m)
{
        *m = (struct meta){ .arena = ARENA_INIT };
        m->quotas = table_create();
        m->seen = table_create();
        m->subs = table_create();
}

void meta_deinit(struct meta *m)
{
        table_destroy(&m->quotas);
        table_destroy(&m->seen);
        table_destroy(&m->subs);
        ARRAY_FREE(&m->scripts);
        arena_deinit(&m->arena);
}

static int take_quota(struct meta *m, const struct dlist *item, struct err *err)
{
        struct meta_quota *q = ARENA_NEW(&m->arena, struct meta_quota);
        const char *root;
        uint64_t n;

        if (!dlist_text(item, "ROOT", &root))
                return err_set(err, ERR_SYNTAX, "QUOTA without ROOT");
        for (int r = 0; r < QUOTA_RESOURCES; r++) {
                q->limit[r] = QUOTA_UNLIMITED;
                if (dlist_u64(item, quota_resource_cyrus_name((enum quota_resource)r), QUOTA_LIMIT_MAX, &n) ||
                    (r == QUOTA_STORAGE && dlist_u64(item, "LIMIT", QUOTA_LIMIT_MAX, &n)))
                        q->limit[r] = n == UNLIMITED_WIRE ? QUOTA_UNLIMITED : (int64_t)n;
        }
        table_set(m->quotas, span_of(root), q);
        return 0;
}

static int take_seen(struct meta *m, const struct dlist *item, struct err *err)
{
        struct replica_seen *s = ARENA_NEW(&m->arena, struct replica_seen);

        if (!dlist_text(item, "UNIQUEID", &s->uniqueid) || !dlist_text(item, "SEENUIDS", &s->uids) || !dlist_u32(item, "LASTUID", &s->lastuid) ||
            !dlist_date(item, "LASTREAD", &s->lastread) || !dlist_date(item, "LASTCHANGE", &s->lastchange))
                return err_set(err, ERR_SYNTAX, "SEEN without UNIQUEID, LASTREAD, LASTUID, LASTCHANGE or SEENUIDS");
        s->uniqueid = arena_strdup(&m->arena, s->uniqueid);
        s->uids = arena_strdup(&m->arena, s->uids);
        table_set(m->seen, span_of(s->uniqueid), s);
        return 0;
}

static int take_subs(struct meta *m, const struct dlist *item, struct err *err)
{
        for (const struct dlist *d = item->first; d; d = d->next) {
                const char *name;

                if (!dlist_as_text(d, &name))
                        return err_set(err, ERR_SYNTAX, "LSUB: not a name");
                name = arena_strdup(&m->arena, name);
                table_set(m->subs, span_of(name), (void *)name);
        }
        return 0;
}

static int take_script(struct meta *m, const struct dlist *item, struct err *err)
{
        struct meta_script s = { .last_update = 0 };
        uint64_t active = 0;

        if (!dlist_text(item, "FILENAME", &s.filename))
                return err_set(err, ERR_SYNTAX, "SIEVE without FILENAME");
        dlist_date(item, "LAST_UPDATE", &s.last_update);
        dlist_guid(item, "GUID", s.guid);
        dlist_u64(item, "ISACTIVE", UINT64_MAX, &active);
        s.active = active != 0;
        s.filename = arena_strdup(&m->arena, s.filename);
        *ARRAY_PUSH(&m->scripts) = s;
        return 0;
}

int meta_take(struct meta *m, const struct dlist *item, struct err *err)
{
        if (span_eq_str(item->key, "QUOTA"))
                return take_quota(m, item, err);
        if (span_eq_str(item->key, "SEEN"))
                return take_seen(m, item, err);
        if (span_eq_str(item->key, "LSUB"))
                return take_subs(m, item, err);
        if (span_eq_str(item->key, "SIEVE"))
                return take_script(m, item, err);
        return 0;
}

/* ---- quota ------------------------------------------------------------------------------------------------------------------ */

static enum client_result send_quota(struct client *c, const char *root, const struct quota_info *info, struct err *err)
{
        struct dlist_writer *w = &c->w;
        int64_t storage = info->limit[QUOTA_STORAGE];

        client_say(c, "QUOTA %s", root);
        client_begin(c, "APPLY");
        dlist_write_kvlist(w, "QUOTA");
        dlist_write_text(w, "ROOT", root);
        dlist_write_u64(w, "LIMIT", storage == QUOTA_UNLIMITED || (uint64_t)storage > UNLIMITED_WIRE ? UNLIMITED_WIRE : (uint64_t)storage);
        for (int r = 0; r < QUOTA_RESOURCES; r++)
                if (info->limit[r] != QUOTA_UNLIMITED)
                        dlist_write_u64(w, quota_resource_cyrus_name((enum quota_resource)r), (uint64_t)info->limit[r]);
        dlist_write_u64(w, "MODSEQ", info->modseq);
        dlist_write_end(w);
        return client_finish(c, NULL, err);
}

static enum client_result send_unquota(struct client *c, const char *root, struct err *err)
{
        client_say(c, "UNQUOTA %s", root);
        return client_text_command(c, "APPLY", "UNQUOTA", root, NULL, err);
}

enum client_result client_sync_quota(struct client *c, const char *root, struct err *err)
{
        struct quota_info info;
        enum client_result r = client_check(c, err);

        if (r != CLIENT_OK)
                return r;
        return quota_get(c->store, root, &info) ? send_quota(c, root, &info, err) : send_unquota(c, root, err);
}

/* The roots that a user's mailboxes belong to, as keys of a table. */
static struct table *roots_of(struct client *c, const char *userid)
{
        struct table *roots = table_create();
        struct arena arena = ARENA_INIT;
        struct str root = STR_INIT;
        const char **names;
        size_t n = replica_user_mailboxes(c->store, userid, true, &arena, &names);

        for (size_t i = 0; i < n; i++) {
                str_clear(&root);
                if (quota_root_of(c->store, names[i], &root))
                        table_set(roots, str_span(&root), c);
        }
        str_deinit(&root);
        arena_deinit(&arena);
        return roots;
}

enum client_result meta_sync_quotas(struct client *c, const char *userid, struct meta *m, struct err *err)
{
        struct table *roots = roots_of(c, userid);
        enum client_result r = CLIENT_OK;
        struct arena arena = ARENA_INIT;
        struct quota_info info;
        struct span key;
        void *value;
        size_t pos = 0;

        while (r == CLIENT_OK && table_next(roots, &pos, &key, &value)) {
                const struct meta_quota *theirs = table_find(m->quotas, key);
                const char *root = arena_strndup(&arena, key.p, key.len);

                if (quota_get(c->store, root, &info) && (!theirs || memcmp(theirs->limit, info.limit, sizeof info.limit) != 0))
                        r = send_quota(c, root, &info, err);
        }
        pos = 0;
        while (r == CLIENT_OK && table_next(m->quotas, &pos, &key, &value)) {
                const char *root = arena_strndup(&arena, key.p, key.len);

                if (!table_find(roots, key) && !quota_get(c->store, root, NULL))
                        r = send_unquota(c, root, err);
        }
        table_destroy(&roots);
        arena_deinit(&arena);
        return r;
}

/* ---- subscriptions ---------------------------------------------------------------------------------------------------------- */

static enum client_result send_sub(struct client *c, const char *userid, const char *name, bool subscribed, struct err *err)
{
        enum client_result r;

        client_say(c, "%s %s %s", subscribed ? "SUB" : "UNSUB", userid, name);
        client_begin(c, "APPLY");
        dlist_write_kvlist(&c->w, subscribed ? "SUB" : "UNSUB");
        dlist_write_text(&c->w, "USERID", userid);
        dlist_write_text(&c->w, "MBOXNAME", name);
        dlist_write_end(&c->w);
        r = client_finish(c, NULL, err);
        if (r == CLIENT_FAILED && !subscribed && client_replied(c, "IMAP_MAILBOX_NONEXISTENT")) {
                err_clear(err);
                r = CLIENT_OK;
        }
        return r;
}

enum client_result client_sync_sub(struct client *c, const char *userid, const char *mailbox, struct err *err)
{
        enum client_result r = client_check(c, err);
        bool subscribed;

        if (r != CLIENT_OK)
                return r;
        if (sub_has(c->store, userid, mailbox, &subscribed, err) < 0)
                return CLIENT_FAILED;
        return send_sub(c, userid, mailbox, subscribed, err);
}

static enum client_result sync_subs(struct client *c, const char *userid, struct meta *m, struct err *err)
{
        struct arena arena = ARENA_INIT;
        enum client_result r = CLIENT_OK;
        struct span key;
        void *name;
        const char **names;
        size_t pos = 0;

        if (sub_list(c->store, userid, &arena, &names, err) < 0) {
                arena_deinit(&arena);
                return CLIENT_FAILED;
        }
        for (; r == CLIENT_OK && *names; names++)
                if (!table_set(m->subs, span_of(*names), NULL))         /* what is left are those that are not ours */
                        r = send_sub(c, userid, *names, true, err);
        while (r == CLIENT_OK && table_next(m->subs, &pos, &key, &name))
                r = send_sub(c, userid, name, false, err);
        arena_deinit(&arena);
        return r;
}

/* ---- seen ------------------------------------------------------------------------------------------------------------------- */

static enum client_result send_seen(struct client *c, const char *userid, const struct replica_seen *s, struct err *err)
{
        struct dlist_writer *w = &c->w;

        client_say(c, "SEEN %s %s", userid, s->uniqueid);
        client_begin(c, "APPLY");
        dlist_write_kvlist(w, "SEEN");
        dlist_write_text(w, "USERID", userid);
        dlist_write_text(w, "UNIQUEID", s->uniqueid);
        dlist_write_date(w, "LASTREAD", s->lastread);
        dlist_write_u64(w, "LASTUID", s->lastuid);
        dlist_write_date(w, "LASTCHANGE", s->lastchange);
        dlist_write_text(w, "SEENUIDS", s->uids);
        dlist_write_end(w);
        return client_finish(c, NULL, err);
}

enum client_result client_sync_seen(struct client *c, const char *userid, const char *uniqueid, struct err *err)
{
        struct arena arena = ARENA_INIT;
        enum client_result r = client_check(c, err);
        struct replica_seen *list;
        uint32_t n;

        if (r == CLIENT_OK && replica_list_seen(c->store, userid, uniqueid, &arena, &list, &n, err) < 0)
                r = CLIENT_FAILED;
        else if (r == CLIENT_OK)
                for (uint32_t i = 0; i < n && r == CLIENT_OK; i++)
                        r = send_seen(c, userid, &list[i], err);
        arena_deinit(&arena);
        return r;
}

static bool same_seen(const struct replica_seen *a, const struct replica_seen *b)
{
        return a && a->lastread == b->lastread && a->lastuid == b->lastuid && a->lastchange == b->lastchange && strcmp(a->uids, b->uids) == 0;
}

static enum client_result sync_seen(struct client *c, const char *userid, struct meta *m, struct err *err)
{
        struct arena arena = ARENA_INIT;
        enum client_result r = CLIENT_OK;
        struct replica_seen *list;
        uint32_t n;

        if (replica_list_seen(c->store, userid, NULL, &arena, &list, &n, err) < 0)
                r = CLIENT_FAILED;
        for (uint32_t i = 0; r == CLIENT_OK && i < n; i++)
                if (!same_seen(table_find(m->seen, span_of(list[i].uniqueid)), &list[i]))
                        r = send_seen(c, userid, &list[i], err);
        arena_deinit(&arena);
        return r;
}

/* ---- all of it -------------------------------------------------------------------------------------------------------------- */

enum client_result meta_sync(struct client *c, const char *userid, struct meta *m, struct err *err)
{
        enum client_result r = sync_subs(c, userid, m, err);

        if (r == CLIENT_OK)
                r = meta_sync_sieve(c, userid, m, err);
        return r == CLIENT_OK ? sync_seen(c, userid, m, err) : r;
}

static int take_meta(void *ctx, const struct dlist *item, struct err *err)
{
        return meta_take(ctx, item, err);
}

enum client_result client_sync_meta(struct client *c, const char *userid, struct err *err)
{
        struct meta m;
        struct client_reply reply = { .line = take_meta, .ctx = &m };
        enum client_result r = client_check(c, err);

        if (r != CLIENT_OK)
                return r;
        client_say(c, "META %s", userid);
        meta_init(&m);
        r = client_text_command(c, "GET", "META", userid, &reply, err);
        if (r == CLIENT_FAILED && client_replied(c, "IMAP_MAILBOX_NONEXISTENT")) {
                err_clear(err);
                r = CLIENT_OK;
        }
        if (r == CLIENT_OK)
                r = meta_sync(c, userid, &m, err);
        meta_deinit(&m);
        return r;
}

/* Do the limits of his roots agree, and has the replica no others? */
static bool same_quotas(struct client *c, const char *userid, struct meta *m)
{
        struct table *roots = roots_of(c, userid);
        struct arena arena = ARENA_INIT;
        struct quota_info info;
        struct span key;
        void *value;
        size_t pos = 0;
        bool same = true;

        while (table_next(roots, &pos, &key, &value)) {
                const struct meta_quota *theirs = table_find(m->quotas, key);

                if (quota_get(c->store, arena_strndup(&arena, key.p, key.len), &info))
                        same &= theirs && memcmp(theirs->limit, info.limit, sizeof info.limit) == 0;
        }
        pos = 0;
        while (table_next(m->quotas, &pos, &key, &value))
                same &= table_find(roots, key) || quota_get(c->store, arena_strndup(&arena, key.p, key.len), NULL);
        table_destroy(&roots);
        arena_deinit(&arena);
        return same;
}

enum client_result meta_verify(struct client *c, const char *userid, struct meta *m, client_differs *differs, void *ctx, struct err *err)
{
        struct arena arena = ARENA_INIT;
        enum client_result r = CLIENT_OK;
        struct replica_seen *list;
        const char **subs;
        uint32_t n;
        bool same = true;

        if (sub_list(c->store, userid, &arena, &subs, err) < 0 || replica_list_seen(c->store, userid, NULL, &arena, &list, &n, err) < 0) {
                arena_deinit(&arena);
                return CLIENT_FAILED;
        }
        for (; *subs; subs++)
                same &= table_set(m->subs, span_of(*subs), NULL) != NULL;
        differs(ctx, userid, same && table_count(m->subs) == 0 ? NULL : "subscriptions");
        same = true;
        for (uint32_t i = 0; i < n; i++)
                same &= same_seen(table_find(m->seen, span_of(list[i].uniqueid)), &list[i]);
        differs(ctx, userid, same ? NULL : "seen");
        differs(ctx, userid, same_quotas(c, userid, m) ? NULL : "quota");
        same = meta_same_sieve(c, userid, m, err);
        if (!same && err->code != ERR_NONE)
                r = CLIENT_FAILED;
        else
                differs(ctx, userid, same ? NULL : "sieve");
        arena_deinit(&arena);
        return r;
}

/* ---- annotations ------------------------------------------------------------------------------------------------------------ */

struct annots { struct arena arena; ARRAY(struct annot) list; };

static int take_annotation(void *ctx, const struct dlist *item, struct err *err)
{
        struct annots *a = ctx;
        struct annot x = { .modseq = 0 };

        if (!span_eq_str(item->key, "ANNOTATION"))
                return 0;
        if (!dlist_text(item, "ENTRY", &x.entry) || !dlist_text(item, "USERID", &x.user) || !dlist_str(item, "VALUE", &x.value))
                return err_set(err, ERR_SYNTAX, "ANNOTATION without ENTRY, USERID or VALUE");
        x.entry = arena_strdup(&a->arena, x.entry);
        x.user = arena_strdup(&a->arena, x.user);
        x.value = arena_span(&a->arena, x.value);
        *ARRAY_PUSH(&a->list) = x;
        return 0;
}

static const struct annot *find_annot(const struct annot *list, size_t n, const struct annot *what)
{
        for (size_t i = 0; i < n; i++)
                if (annot_compare(&list[i], what) == 0)
                        return &list[i];
        return NULL;
}

/* value.p NULL: it goes. */
static enum client_result send_annotation(struct client *c, const char *mailbox, const struct annot *a, bool removed, struct err *err)
{
        client_begin(c, "APPLY");
        dlist_write_kvlist(&c->w, removed ? "UNANNOTATION" : "ANNOTATION");
        dlist_write_text(&c->w, "MBOXNAME", mailbox);
        dlist_write_text(&c->w, "ENTRY", a->entry);
        dlist_write_text(&c->w, "USERID", a->user);
        if (!removed)
                dlist_write_str(&c->w, "VALUE", a->value);
        dlist_write_end(&c->w);
        return client_finish(c, NULL, err);
}

static enum client_result send_annotations(struct client *c, const char *mailbox, const struct annot *ours, uint32_t n, const struct annots *theirs,
                                           struct err *err)
{
        enum client_result r = CLIENT_OK;

        for (uint32_t i = 0; i < n && r == CLIENT_OK; i++) {
                const struct annot *there = find_annot(theirs->list.v, theirs->list.n, &ours[i]);

                if (!there || !span_eq(there->value, ours[i].value))
                        r = send_annotation(c, mailbox, &ours[i], false, err);
        }
        for (size_t i = 0; i < theirs->list.n && r == CLIENT_OK; i++)
                if (!find_annot(ours, n, &theirs->list.v[i]))
                        r = send_annotation(c, mailbox, &theirs->list.v[i], true, err);
        return r;
}

enum client_result client_sync_annotation(struct client *c, const char *mailbox, struct err *err)
{
        struct annots theirs = { .arena = ARENA_INIT };
        struct client_reply reply = { .line = take_annotation, .ctx = &theirs };
        enum client_result r = client_check(c, err);
        struct annot *ours;
        uint32_t n;

        if (r != CLIENT_OK)
                return r;
        client_say(c, "ANNOTATION %s", *mailbox ? mailbox : "\"\"");
        if (replica_list_annots(c->store, mailbox, &theirs.arena, &ours, &n, err) < 0) {
                r = err->code == ERR_NOTFOUND ? (err_clear(err), CLIENT_OK) : CLIENT_FAILED;
                goto out;
        }
        r = client_text_command(c, "GET", "ANNOTATION", mailbox, &reply, err);
        if (r == CLIENT_OK)
                r = send_annotations(c, mailbox, ours, n, &theirs, err);
out:
        ARRAY_FREE(&theirs.list);
        arena_deinit(&theirs.arena);
        return r;
}
