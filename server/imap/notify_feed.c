/*
 * notify_feed - from the store's change feed to the sessions that watch; see notify.h
 *
 * One lock covers the table of watches and their queues. It is taken by the publishing thread, within the feed's lock, and by sessions
 * for a moment: nothing of the store is called under it but the counting of mailbox entries.
 */
#include "server/imap/notify.h"

#include <stdlib.h>

#include "server/lock_order.h"
#include "util/hash.h"
#include "util/must.h"

#define EVERYBODY SPAN("*")                     /* no user id */

struct interest {                               /* a watch in the list of one key */
        struct interest *next;
        struct notify_watch *watch;
};

struct notify_watch {
        struct session_id id;                   /* immutable, as what follows */
        struct store *store;
        struct arena arena;                     /* of whose */
        struct notify_identity *whose;          /* NULL: no matter */
        bool wants_entries;
        unsigned events;
        char **keys;
        unsigned keys_n;
        /* notify_class */
        struct notify_event *queue;             /* NULL while empty: an idle session holds none */
        unsigned head, n;                       /* n events from head on */
        bool overflow;
};

/* Shared by all sessions of the process. */
static struct feed {
        struct mutex lock;                      /* notify_class */
        struct table *by_key;                   /* → struct interest, the first */
        unsigned watches;
        struct change_subscriber subscriber;
        struct store *store;                    /* that we subscribed to */
} feed = { .lock = MUTEX_INIT };

static void feed_lock(void) ACQUIRE(feed.lock, notify_class);
static void feed_unlock(void) RELEASE(feed.lock, notify_class);
static void feed_lock(void) NO_TSA
{
        mutex_lock(&feed.lock);
}
static void feed_unlock(void) NO_TSA
{
        mutex_unlock(&feed.lock);
}

void notify_event_deinit(struct notify_event *e)
{
        free(e->name);
        free(e->other);
        free(e->user);
        if (e->before)
                mbentry_unref(&e->before);
        if (e->after)
                mbentry_unref(&e->after);
        *e = (struct notify_event){ 0 };
}

/* ---- publishing ---- */

static uint32_t rights_on(const struct notify_identity *whose, const struct mbentry *e)
{
        struct acl_identity who = whose->who;
        bool own = mailname_owned_by(e->name, who.userid);

        if (e->type != MBTYPE_NORMAL && e->type != MBTYPE_REMOTE && e->type != MBTYPE_MOVING)
                return 0;
        if (!mailname_in_domain_of(e->name, who.userid) && (!who.is_admin || mailname_userid_has_domain(who.userid)))
                return 0;
        if (!who.is_admin && ((whose->deleted_prefix && mailname_is_deleted(e->name, whose->deleted_prefix)) ||
                              (!own && (mailname_is_user(e->name) ? whose->hides_users : whose->hides_shared))))
                return 0;
        who.is_owner = own;
        return acl_rights(e->acl, &who);
}

/* As the session would decide; what is not known here is left to it. */
static bool may_hear(const struct notify_watch *w, const struct change *c)
{
        if (!w->whose)
                return true;
        switch (c->kind) {
        case CHANGE_MAILBOX:
                return !c->after || (rights_on(w->whose, c->after) & NOTIFY_RIGHTS) == NOTIFY_RIGHTS;
        case CHANGE_NAME:
                return (c->before && rights_on(w->whose, c->before) & ACL_LOOKUP) || (c->after && rights_on(w->whose, c->after) & ACL_LOOKUP);
        case CHANGE_SUBSCRIPTION:
                return strcmp(c->name, w->whose->who.userid) == 0;
        case CHANGE_ANNOTATION:
                return (!c->user || strcmp(c->user, w->whose->who.userid) == 0) &&
                       (!c->after || (rights_on(w->whose, c->after) & NOTIFY_RIGHTS) == NOTIFY_RIGHTS);
        default:
                return false;
        }
}

static bool is_wanted(const struct notify_watch *w, const struct change *c)
{
        switch (c->kind) {
        case CHANGE_MAILBOX:
                return (c->what & CHANGE_ARRIVED && w->events & NOTIFY_NEW) || (c->what & CHANGE_EXPUNGED && w->events & NOTIFY_EXPUNGE) ||
                       (c->what & CHANGE_FLAGS && w->events & NOTIFY_FLAGS) || (c->what & CHANGE_ANNOTATED && w->events & NOTIFY_ANNOTATIONS);
        case CHANGE_NAME:
                return w->events & NOTIFY_NAME && !c->follows;
        case CHANGE_SUBSCRIPTION:
                return w->events & NOTIFY_SUBSCRIPTION;
        case CHANGE_ANNOTATION:
                return w->events & (c->name[0] ? NOTIFY_METADATA : NOTIFY_SERVER);
        default:
                return false;
        }
}

static struct notify_event *queued_mailbox(struct notify_watch *w, const char *uniqueid)
{
        for (unsigned i = 0; i < w->n; i++) {
                struct notify_event *e = &w->queue[(w->head + i) % NOTIFY_QUEUE_MAX];

                if (e->kind == CHANGE_MAILBOX && strcmp(e->uniqueid, uniqueid) == 0)
                        return e;
        }
        return NULL;
}

/* Returns whether the session has to be woken: not when it has not yet looked at what came before. */
static bool enqueue_locked(struct notify_watch *w, const struct change *c) REQUIRES(feed.lock, notify_class);
static bool enqueue_locked(struct notify_watch *w, const struct change *c)
{
        struct notify_event *e = c->kind == CHANGE_MAILBOX && w->n ? queued_mailbox(w, c->uniqueid) : NULL;
        bool first = w->n == 0 && !w->overflow;

        if (e) {
                e->what |= c->what;
                return false;
        }
        if (w->overflow || w->n == NOTIFY_QUEUE_MAX) {
                first = !w->overflow;
                w->overflow = true;
                return first;
        }
        if (!w->queue)
                w->queue = xcalloc(NOTIFY_QUEUE_MAX, sizeof *w->queue);
        e = &w->queue[(w->head + w->n++) % NOTIFY_QUEUE_MAX];
        *e = (struct notify_event){ .kind = c->kind, .what = c->what, .moved = c->moved, .follows = c->follows };
        if (c->kind == CHANGE_MAILBOX) {
                strncat(e->uniqueid, c->uniqueid, sizeof e->uniqueid - 1);
                return first;
        }
        e->name = xstrdup(c->kind == CHANGE_SUBSCRIPTION ? c->other : c->name);
        if ((c->kind == CHANGE_NAME || c->kind == CHANGE_ANNOTATION) && c->other)
                e->other = xstrdup(c->other);
        if (c->kind == CHANGE_SUBSCRIPTION || (c->kind == CHANGE_ANNOTATION && c->user))
                e->user = xstrdup(c->kind == CHANGE_SUBSCRIPTION ? c->name : c->user);
        e->before = c->before ? mbentry_ref(c->before) : NULL;
        e->after = c->after ? mbentry_ref(c->after) : NULL;
        return first;
}

static void tell_locked(struct span key, const struct change *c) REQUIRES(feed.lock, notify_class);
static void tell_locked(struct span key, const struct change *c)
{
        struct interest *i = feed.by_key ? table_find(feed.by_key, key) : NULL;

        for (; i; i = i->next)
                if (is_wanted(i->watch, c) && may_hear(i->watch, c) && enqueue_locked(i->watch, c))
                        session_wake(i->watch->id, WAKE_NEWS);
}

static void on_change(void *ctx, const struct change *c)
{
        struct arena arena = ARENA_INIT;
        const char *owner = "";

        (void)ctx;
        if (c->kind == CHANGE_SUBSCRIPTION)
                owner = c->name;
        else if (c->kind == CHANGE_ANNOTATION && !c->other)     /* some entry of the server's: another change names it */
                return;
        else if (c->kind == CHANGE_MAILBOX || c->kind == CHANGE_NAME || c->kind == CHANGE_ANNOTATION)
                owner = c->name[0] ? mailname_owner(c->name, &arena) : NULL;
        else
                return;
        feed_lock();
        tell_locked(span_of(owner ? owner : ""), c);
        tell_locked(EVERYBODY, c);
        feed_unlock();
        arena_deinit(&arena);
}

/* ---- watches ---- */

static void add_key_locked(struct notify_watch *w, const char *key) REQUIRES(feed.lock, notify_class);
static void add_key_locked(struct notify_watch *w, const char *key)
{
        struct interest *i = xcalloc(1, sizeof *i);

        if (!feed.by_key)
                feed.by_key = table_create();
        i->watch = w;
        i->next = table_find(feed.by_key, span_of(key));
        table_set(feed.by_key, span_of(key), i);
}

static void remove_key_locked(struct notify_watch *w, const char *key) REQUIRES(feed.lock, notify_class);
static void remove_key_locked(struct notify_watch *w, const char *key)
{
        struct interest *first = table_find(feed.by_key, span_of(key)), **p = &first, *gone;

        while ((*p)->watch != w)
                p = &(*p)->next;
        gone = *p;
        *p = gone->next;
        free(gone);
        table_set(feed.by_key, span_of(key), first);
}

/* The feed's own lock comes first, so it is not called with ours held. Sessions come and go; once subscribed we stay: with nobody watching a
 * change costs two look-ups in an empty table. */
static void subscribe(struct store *store)
{
        bool now = false;

        feed_lock();
        if (feed.store != store) {
                feed.store = store;
                feed.subscriber.fn = on_change;
                now = true;
        }
        feed_unlock();
        if (now)
                change_subscribe(store, &feed.subscriber);
}

static struct notify_identity *copy_identity(const struct notify_identity *from, struct arena *arena)
{
        struct notify_identity *to = ARENA_NEW(arena, struct notify_identity);
        unsigned n = 0;

        *to = *from;
        to->who.userid = arena_strdup(arena, from->who.userid);
        to->deleted_prefix = from->deleted_prefix ? arena_strdup(arena, from->deleted_prefix) : NULL;
        if (from->who.groups) {
                const char **groups;

                while (from->who.groups[n])
                        n++;
                groups = ARENA_ARRAY(arena, const char *, n + 1);
                for (unsigned i = 0; i < n; i++)
                        groups[i] = arena_strdup(arena, from->who.groups[i]);
                to->who.groups = groups;
        }
        return to;
}

/* Not if all that is watched is one's own. */
static bool wants_entries(const struct notify_watch *w)
{
        for (unsigned i = 0; w->whose && i < w->keys_n; i++)
                if (strcmp(w->keys[i], w->whose->who.userid) != 0)
                        return true;
        return false;
}

struct notify_watch *notify_watch_create(struct store *store, struct session_id id, const struct notify_identity *whose,
                                         const char *const *owners, unsigned n, unsigned events)
{
        struct notify_watch *w = xcalloc(1, sizeof *w);

        w->id = id;
        w->store = store;
        w->events = events;
        w->keys_n = owners ? n : 1;
        w->keys = xcalloc(w->keys_n + 1, sizeof *w->keys);
        for (unsigned i = 0; i < w->keys_n; i++)
                w->keys[i] = xstrdup(owners ? owners[i] : "*");
        w->whose = whose ? copy_identity(whose, &w->arena) : NULL;
        w->wants_entries = wants_entries(w);
        if (w->wants_entries)
                change_want_entries(store, true);
        feed_lock();
        for (unsigned i = 0; i < w->keys_n; i++)
                add_key_locked(w, w->keys[i]);
        feed_unlock();
        subscribe(store);
        return w;
}

void notify_watch_destroy(struct notify_watch **wp)
{
        struct notify_watch *w = *wp;

        *wp = NULL;
        if (!w)
                return;
        feed_lock();
        for (unsigned i = 0; i < w->keys_n; i++)
                remove_key_locked(w, w->keys[i]);
        feed_unlock();
        for (unsigned i = 0; i < w->n; i++)
                notify_event_deinit(&w->queue[(w->head + i) % NOTIFY_QUEUE_MAX]);
        for (unsigned i = 0; i < w->keys_n; i++)
                free(w->keys[i]);
        free(w->keys);
        if (w->wants_entries)
                change_want_entries(w->store, false);
        arena_deinit(&w->arena);
        free(w->queue);
        free(w);
}

bool notify_watch_take(struct notify_watch *w, struct notify_event *e, bool *overflow_r)
{
        struct notify_event *unused = NULL;
        bool there;

        feed_lock();
        *overflow_r = w->overflow;
        there = w->n > 0;
        if (there) {
                *e = w->queue[w->head];
                w->head = (w->head + 1) % NOTIFY_QUEUE_MAX;
                w->n--;
        } else {
                unused = w->queue;
                w->queue = NULL;
                w->head = 0;
        }
        feed_unlock();
        free(unused);
        return there;
}

void notify_watch_forget(struct notify_watch *w, const char *internal)
{
        struct notify_event *gone = xcalloc(NOTIFY_QUEUE_MAX, sizeof *gone);
        unsigned kept = 0, gone_n = 0;

        feed_lock();
        for (unsigned i = 0; i < w->n; i++) {
                struct notify_event *e = &w->queue[(w->head + i) % NOTIFY_QUEUE_MAX];

                if (e->name && (strcmp(e->name, internal) == 0 || (e->other && strcmp(e->other, internal) == 0)))
                        gone[gone_n++] = *e;
                else
                        w->queue[(w->head + kept++) % NOTIFY_QUEUE_MAX] = *e;
        }
        w->n = kept;
        feed_unlock();
        while (gone_n > 0)
                notify_event_deinit(&gone[--gone_n]);
        free(gone);
}
