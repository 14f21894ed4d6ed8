/*
 * notify - telling a session what it asked for with NOTIFY (RFC 5465); see notify.h
 *
 * First the selected mailbox (select.c, as far as the client wants it), then FETCH of what has just arrived there, then the queue, an
 * event at a time. A mailbox that is not open is opened off the worker; the session goes on meanwhile.
 */
#include "server/imap/notify.h"

#include <stdlib.h>

#include "server/imap/imap_private.h"
#include "server/imap/status.h"
#include "util/log.h"
#include "util/must.h"

/* ---- what was asked for ---- */

/* With altnamespace nothing is below one's INBOX (it stands beside the others). */
static bool in_subtree(struct imap *imap, const char *name, const char *top)
{
        if (strcmp(name, top) == 0)
                return true;
        if (namespace_is_alt(imap->ns) && !imap->is_admin && mailname_is_inbox(top) && mailname_owned_by(top, imap->userid))
                return false;
        return mailname_is_below(name, top);
}

static bool group_has(struct imap *imap, const struct notify_group *g, const char *internal)
{
        bool yes = false;

        switch (g->which) {
        case NOTIFY_SELECTED: case NOTIFY_SELECTED_DELAYED:
                return false;
        case NOTIFY_INBOXES:                            /* RFC 5465 6.3: all personal ones can get mail (user+detail) */
        case NOTIFY_PERSONAL:
                return mailname_owned_by(internal, imap->userid);
        case NOTIFY_SUBSCRIBED:
                return sub_has(imap->store, imap->userid, internal, &yes, NULL) == 0 && yes;
        case NOTIFY_SUBTREE: case NOTIFY_MAILBOXES:
                for (unsigned i = 0; i < g->names_n && !yes; i++)
                        yes = g->which == NOTIFY_MAILBOXES ? strcmp(internal, g->names[i]) == 0 : in_subtree(imap, internal, g->names[i]);
                return yes;
        }
        return false;
}

unsigned notify_events_of(struct imap *imap, const struct notify *n, const char *internal, unsigned upto)
{
        unsigned events = 0;

        for (unsigned i = 0; i < n->groups_n && i < upto; i++)
                if (n->groups[i].events & ~events && group_has(imap, &n->groups[i], internal))
                        events |= n->groups[i].events;
        return events;
}

unsigned notify_selected_events(const struct imap *imap)
{
        return imap->notify ? imap->notify->selected_events : NOTIFY_MESSAGES;
}

bool notify_watches_selected(const struct imap *imap)
{
        return imap->notify && imap->notify->selected_events != 0;
}

/* ---- life ---- */

static void fetch_over(struct notify *n)
{
        if (!n->fetching)
                return;
        fetch_release(n->fetching);
        free(n->fetching);
        n->fetching = NULL;
}

static void destroy(struct notify **np)
{
        struct notify *n = *np;

        *np = NULL;
        if (!n)
                return;
        notify_watch_destroy(&n->watch);
        fetch_over(n);
        uidset_deinit(&n->fresh);
        notify_event_deinit(&n->event);
        arena_deinit(&n->arena);
        free(n);
}

/* Whose mailboxes can matter? NULL: everybody's. */
static struct notify_watch *watch(struct imap *imap, const struct notify *n)
{
        const char *owners[16] = { imap->userid };
        unsigned owners_n = 1, events = 0;
        bool all = false;
        struct arena arena = ARENA_INIT;
        struct notify_watch *w;
        struct notify_identity whose = {
                .who = { .userid = imap->userid, .groups = (const char *const *)imap->groups, .is_admin = imap->is_admin,
                         .owner_rights = imap->owner_rights },
                .deleted_prefix = conf_str(imap->conf, NULL, "deletedprefix"),
                .hides_users = conf_switch(imap->conf, NULL, "disable_user_namespace"),
                .hides_shared = conf_switch(imap->conf, NULL, "disable_shared_namespace"),
        };

        for (unsigned i = 0; i < n->groups_n; i++)
                if (n->groups[i].events & NOTIFY_SERVER && owners_n == 1)
                        owners[owners_n++] = "";
        for (unsigned i = 0; i < n->groups_n; i++) {
                const struct notify_group *g = &n->groups[i];

                if (g->which <= NOTIFY_SELECTED_DELAYED)
                        continue;
                events |= g->events;
                all |= g->which == NOTIFY_SUBSCRIBED;           /* anybody's may be subscribed */
                for (unsigned k = 0; k < g->names_n; k++) {
                        const char *owner = mailname_owner(g->names[k], &arena);
                        unsigned at = 0;

                        all |= strcmp(g->names[k], "user") == 0;
                        owner = owner ? owner : "";
                        while (at < owners_n && strcmp(owners[at], owner) != 0)
                                at++;
                        all |= at == sizeof owners / sizeof owners[0];
                        if (at == owners_n && !all)
                                owners[owners_n++] = owner;
                }
        }
        w = events ? notify_watch_create(imap->store, imap->s->id, &whose, all ? NULL : owners, owners_n, events) : NULL;
        arena_deinit(&arena);
        return w;
}

void notify_install(struct imap *imap, struct notify *n)
{
        destroy(&imap->notify);
        imap->notify = n;
        if (n && !imap->notify_open)
                imap->notify_open = xcalloc(1, sizeof *imap->notify_open);
        if (n && !n->watch)
                n->watch = watch(imap, n);
        imap_watch_selected(imap);
}

void notify_deselect(struct imap *imap)
{
        if (!imap->notify)
                return;
        fetch_over(imap->notify);
        uidset_deinit(&imap->notify->fresh);
}

void notify_open_release(struct imap *imap)
{
        if (imap->notify_open && imap->notify_open->out)
                imap_open_release(&imap->notify_open->open);
        free(imap->notify_open);
        imap->notify_open = NULL;
}

/* ---- the selected mailbox: FETCH of what is new ---- */

static void begin_fetch(struct imap *imap, struct notify *n)
{
        n->fetching = xcalloc(1, sizeof *n->fetching);
        fetch_init(imap, n->fetching);
        fetch_parse_kept(n->fetch, &n->fetching->arena_request, &n->fetching->req);
        n->fetching->req.sets_seen = false;                     /* nobody has asked for the message yet (RFC 5465 5.2) */
        view_existing_uids(imap->sel->view, &n->fresh, &n->fresh);
        fetch_begin(n->fetching, &n->fresh);
        uidset_deinit(&n->fresh);
        n->fetching->walk.no_wait = true;
}

/* False: call again when the rope has drained. */
static bool tell_fresh(struct imap *imap, struct notify *n)
{
        if (!imap->sel)
                return true;
        while (n->fetching || n->fresh.n) {
                if (!n->fetching)
                        begin_fetch(imap, n);
                switch (fetch_step(imap, n->fetching)) {
                case CMD_CLOSE:                                 /* within a literal: the connection is of no use any more */
                        session_wake(imap->s->id, WAKE_STOP);
                        /* fall through */
                case CMD_DONE:
                        fetch_over(n);
                        break;
                default:
                        fetch_flush(imap, n->fetching);
                        return false;
                }
        }
        return true;
}

/* ---- other mailboxes ---- */

static unsigned items(struct imap *imap, const char *text)
{
        struct imap_parser ip;

        imap_parser_init(&ip, span_of(text), &imap->s->arena, false);
        return imap_status_parse(&ip);
}

void notify_put_status(struct imap *imap, const char *internal, struct mailbox *mbox, unsigned events, bool first)
{
        unsigned which = items(imap, "(UIDVALIDITY)");

        if (events & (NOTIFY_NEW | NOTIFY_EXPUNGE))
                which |= items(imap, "(MESSAGES UIDNEXT)");
        if (events & NOTIFY_FLAGS)
                which |= items(imap, "(UNSEEN)");
        if (imap->condstore || (first && events & (NOTIFY_FLAGS | NOTIFY_ANNOTATIONS)))
                which |= items(imap, "(HIGHESTMODSEQ)");
        else if (events == NOTIFY_ANNOTATIONS)                  /* there is nothing that would tell of it (RFC 5465 5.1) */
                return;
        imap_status_put(imap, internal, mbox, which);
}

static bool visible(struct imap *imap, const struct mbentry *entry)
{
        return entry && (entry->type == MBTYPE_NORMAL || entry->type == MBTYPE_REMOTE || entry->type == MBTYPE_MOVING) &&
               (imap_rights(imap, entry) & ACL_LOOKUP) && !imap_name_hidden(imap, entry->name);
}

static bool may_hear_of(struct imap *imap, const struct mbentry *entry)
{
        return (imap_rights(imap, entry) & NOTIFY_RIGHTS) == NOTIFY_RIGHTS;
}

/* 1: open; 0: not yet; -1: not to be had. */
static int open_mailbox(struct imap *imap, const struct mbentry *entry, struct mailbox **mbox_r)
{
        struct notify_open *o = imap->notify_open;
        struct err err = ERR_INIT;

        if (o->out && !waiter_is_done(&o->offload.waiter))
                return 0;
        if (o->out) {
                bool same = strcmp(o->open.ident.uniqueid, entry->uniqueid) == 0;

                o->out = false;
                *mbox_r = o->open.mbox;
                o->open.mbox = NULL;
                imap_open_release(&o->open);
                if (same)
                        return *mbox_r ? 1 : -1;
                if (*mbox_r)
                        mailbox_unref(mbox_r);
        }
        memset(&o->open, 0, sizeof o->open);
        if (mbentry_ident(imap->store, entry, &o->open.ident, &err) < 0)
                return -1;
        *mbox_r = mailbox_find_open(imap->store, o->open.ident.uniqueid);
        if (*mbox_r)
                return 1;
        o->open.entry = mbentry_ref(entry);
        o->open.store = imap->store;
        o->out = true;
        session_offload(imap->s, &o->offload, OFFLOAD_DISK, imap_open_job, &o->open);
        return 0;
}

/* The three below: false when they have to be called again with the same event. */

static bool tell_mailbox(struct imap *imap, const struct notify_event *e)
{
        const struct mbentry *entry = mboxlist_find_uniqueid(store_mboxlist(imap->store), e->uniqueid);
        struct mailbox *mbox = NULL;
        unsigned events = 0;
        int opened = -1;

        if (!entry)
                return true;
        events |= e->what & CHANGE_ARRIVED ? NOTIFY_NEW : 0;
        events |= e->what & CHANGE_EXPUNGED ? NOTIFY_EXPUNGE : 0;
        events |= e->what & CHANGE_FLAGS ? NOTIFY_FLAGS : 0;
        events |= e->what & CHANGE_ANNOTATED ? NOTIFY_ANNOTATIONS : 0;
        events &= notify_events_of(imap, imap->notify, entry->name, UINT32_MAX);
        if (events && visible(imap, entry) && may_hear_of(imap, entry) && entry->type == MBTYPE_NORMAL &&
            !(imap->sel && strcmp(imap->sel->entry->uniqueid, entry->uniqueid) == 0))   /* RFC 5465 3.1: SELECTED speaks for it */
                opened = open_mailbox(imap, entry, &mbox);
        if (opened > 0) {
                notify_put_status(imap, entry->name, mbox, events, false);
                mailbox_unref(&mbox);
        }
        mbentry_unref(&entry);
        return opened != 0;
}

static bool wants_name(struct imap *imap, const char *internal)
{
        return notify_events_of(imap, imap->notify, internal, UINT32_MAX) & NOTIFY_NAME;
}

/* RFC 5465 5.4: its parent is affected too. */
static void tell_parent(struct imap *imap, const char *internal)
{
        const char *parent = mailname_parent(internal, &imap->s->arena);
        const struct mbentry *entry;

        if (!parent || !in_subtree(imap, internal, parent) || !wants_name(imap, parent))
                return;
        entry = mboxlist_find(store_mboxlist(imap->store), parent);
        if (visible(imap, entry))
                list_put_changed(imap, parent, entry, NULL, NULL);
        if (entry)
                mbentry_unref(&entry);
}

static void tell_name(struct imap *imap, const struct notify_event *e)
{
        bool before = visible(imap, e->before), after = visible(imap, e->after);
        const struct mbentry *now;

        if (e->follows)
                return;
        if (e->moved && e->before) {                            /* its new name tells, where that can be seen */
                now = mboxlist_find_uniqueid(store_mboxlist(imap->store), e->before->uniqueid);
                after = visible(imap, now) && wants_name(imap, now->name);
                if (now)
                        mbentry_unref(&now);
                if (after)
                        return;
        }
        if (!wants_name(imap, e->name) && !(e->other && wants_name(imap, e->other)))
                return;
        if (e->other && after && !before)
                list_put_changed(imap, e->name, e->after, e->other, NULL);
        else if (before != after)
                list_put_changed(imap, e->name, after ? e->after : NULL, NULL, NULL);
        if (before != after)
                tell_parent(imap, e->name);
}

static void tell_subscription(struct imap *imap, const struct notify_event *e)
{
        const struct mbentry *entry;
        unsigned events;

        if (strcmp(e->user, imap->userid) != 0)                 /* he watches the other's mailboxes; subscriptions are the other's own */
                return;
        events = notify_events_of(imap, imap->notify, e->name, UINT32_MAX);
        for (unsigned i = 0; i < imap->notify->groups_n; i++)   /* what was subscribed until now is still meant */
                if (imap->notify->groups[i].which == NOTIFY_SUBSCRIBED)
                        events |= imap->notify->groups[i].events;
        if (!(events & NOTIFY_SUBSCRIPTION))
                return;
        entry = mboxlist_find(store_mboxlist(imap->store), e->name);
        list_put_changed(imap, e->name, visible(imap, entry) ? entry : NULL, NULL, NULL);
        if (entry)
                mbentry_unref(&entry);
}

/* RFC 5465 5.6, 5.7: which entry it is; what is in it the client asks for. */
static void tell_metadata(struct imap *imap, const struct notify_event *e)
{
        const struct mbentry *entry = NULL;
        unsigned events = 0;
        bool told = false;

        if (!e->other || (e->user && strcmp(e->user, imap->userid) != 0))
                return;
        if (!e->name[0]) {
                for (unsigned i = 0; i < imap->notify->groups_n; i++)
                        events |= imap->notify->groups[i].events;
                told = events & NOTIFY_SERVER;
        } else if (notify_events_of(imap, imap->notify, e->name, UINT32_MAX) & NOTIFY_METADATA) {
                entry = mboxlist_find(store_mboxlist(imap->store), e->name);
                told = visible(imap, entry) && may_hear_of(imap, entry);
        }
        if (told) {
                imap_put(imap, "* METADATA ");
                if (entry)
                        imap_put_mailbox(imap, e->name);
                else
                        imap_put(imap, "\"\"");
                imap_put(imap, " ");
                imap_put_astring(imap, span_of(e->other));
                imap_put(imap, "\r\n");
        }
        if (entry)
                mbentry_unref(&entry);
}

static bool tell_event(struct imap *imap, const struct notify_event *e)
{
        struct arena commands = imap->s->arena;                 /* in IDLE it is in use, and should not grow */
        bool done = true;

        imap->s->arena = (struct arena)ARENA_INIT;
        if (e->kind == CHANGE_MAILBOX)
                done = tell_mailbox(imap, e);
        else if (e->kind == CHANGE_NAME)
                tell_name(imap, e);
        else if (e->kind == CHANGE_ANNOTATION)
                tell_metadata(imap, e);
        else
                tell_subscription(imap, e);
        arena_deinit(&imap->s->arena);
        imap->s->arena = commands;
        return done;
}

/* As if NOTIFY NONE had come (RFC 5465 5.8). */
static void overflow(struct imap *imap)
{
        struct notify *none = xcalloc(1, sizeof *none);

        log_event(LOG_INFORM, imap->s->name, "imap.notify.overflow", "user=%s", imap->userid);
        imap_untagged(imap, "OK [NOTIFICATIONOVERFLOW] Too much happens at once: notifications are off");
        notify_install(imap, none);
}

static bool tell_queue(struct imap *imap)
{
        struct notify *n = imap->notify;
        bool lost = false;

        while (n->watch) {
                if (imap->s->out.bytes > ROPE_HIGH)
                        return false;
                if (!n->has_event)
                        n->has_event = notify_watch_take(n->watch, &n->event, &lost);
                if (lost) {
                        overflow(imap);
                        return true;
                }
                if (!n->has_event)
                        return true;
                if (!tell_event(imap, &n->event))
                        return true;                            /* WAKE_DONE brings us back */
                notify_event_deinit(&n->event);
                n->has_event = false;
        }
        return true;
}

bool notify_tell(struct imap *imap)
{
        struct notify *n = imap->notify;

        if (n->selected_events && !imap_poll(imap, imap->idling || !n->delayed))
                return false;
        return tell_fresh(imap, n) && tell_queue(imap);
}

void notify_forget_name(struct imap *imap, const char *internal)
{
        if (imap->notify && imap->notify->watch && internal)
                notify_watch_forget(imap->notify->watch, internal);
}
