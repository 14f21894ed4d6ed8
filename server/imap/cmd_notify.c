/*
 * NOTIFY (RFC 5465). SET: what is asked for is installed first, then – with STATUS – told of each mailbox how it stands, so that no change
 * falls between. A mailbox that may be seen but not read is named with \\NoAccess. What has happened in the selected mailbox is told
 * by the dispatcher, as to a NOOP.
 */
#include "server/imap/notify.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/imap/imap_private.h"
#include "util/must.h"

struct notify_command {
        bool status;
        unsigned group, name;                   /* the place in the walk: of the group … */
        const char **subscribed;                /* … NOTIFY_SUBSCRIBED: its names */
        char *after;                            /* the last mailbox below the name; NULL: not begun */
        const struct mbentry *entry;            /* reference: being told */
        unsigned events;
        struct imap_open open;
};

static void cleanup(struct imap *imap)
{
        struct notify_command *c = imap->cmd.state;

        imap_open_release(&c->open);
        if (c->entry)
                mbentry_unref(&c->entry);
        free(c->after);
}

static enum cmd_result begin(struct imap *imap, bool *done)
{
        struct notify *n = xcalloc(1, sizeof *n);
        struct imap_parser *ip = &imap->cmd.args;
        struct namer who = imap_namer(imap);
        struct notify_command *c;
        char code[192];
        bool status;

        *done = true;
        if (notify_parse(ip, &who, n, &status) < 0) {
                arena_deinit(&n->arena);
                free(n);
                if (ip->err.code != ERR_UNSUPPORTED)
                        return imap_bad(imap, "%s", ip->err.text);
                snprintf(code, sizeof code, "BADEVENT (%s)", notify_known_events);
                return imap_no(imap, code, "Unknown event");
        }
        notify_install(imap, n);
        imap->cmd.state = c = ARENA_NEW(&imap->s->arena, struct notify_command);
        imap->cmd.cleanup = cleanup;
        c->status = status;
        *done = false;
        return CMD_DONE;
}

/* The name that the walk is at: mailboxes of that name, and below it unless `exact`. NULL: the group is through. */
static const char *name_at(struct imap *imap, struct notify_command *c, bool *exact)
{
        const struct notify_group *g = &imap->notify->groups[c->group];

        *exact = g->which == NOTIFY_MAILBOXES || g->which == NOTIFY_SUBSCRIBED;
        switch (g->which) {
        case NOTIFY_INBOXES: case NOTIFY_PERSONAL:
                return c->name == 0 ? mailname_inbox_of(imap->userid, &imap->s->arena) : NULL;
        case NOTIFY_SUBSCRIBED:
                if (!c->subscribed && sub_list(imap->store, imap->userid, &imap->s->arena, &c->subscribed, NULL) < 0)
                        return NULL;
                return c->subscribed[c->name];
        case NOTIFY_SUBTREE: case NOTIFY_MAILBOXES:
                return c->name < g->names_n ? g->names[c->name] : NULL;
        case NOTIFY_SELECTED: case NOTIFY_SELECTED_DELAYED:
                break;
        }
        return NULL;
}

static void next_name(struct notify_command *c)
{
        free(c->after);
        c->after = NULL;
        c->name++;
}

/* The next mailbox of the walk, or NULL with *end at its end; NULL without: there was nothing at this place. */
static const struct mbentry *next_mailbox(struct imap *imap, struct notify_command *c, bool *end)
{
        struct mboxlist *ml = store_mboxlist(imap->store);
        const struct mbentry *entry = NULL;
        const char *name;
        bool exact;

        *end = c->group == imap->notify->groups_n;
        if (*end)
                return NULL;
        name = name_at(imap, c, &exact);
        if (!name) {
                c->group++;
                c->name = 0;
                c->subscribed = NULL;
                return NULL;
        }
        if (exact) {
                entry = mboxlist_find(ml, name);
                next_name(c);
        } else if (mboxlist_next(ml, name, c->after ? c->after : "", &entry, 1) == 0) {
                next_name(c);
                return NULL;
        } else {
                free(c->after);
                c->after = xstrdup(entry->name);
        }
        return entry;
}

/* Is there anything to say of it? Otherwise the reference is given back. */
static bool is_told(struct imap *imap, struct notify_command *c)
{
        unsigned before = notify_events_of(imap, imap->notify, c->entry->name, c->group);
        unsigned upto_now = notify_events_of(imap, imap->notify, c->entry->name, UINT32_MAX);
        uint32_t rights = imap_name_hidden(imap, c->entry->name) || c->entry->type != MBTYPE_NORMAL ? 0 : imap_rights(imap, c->entry);

        c->events = upto_now & NOTIFY_MESSAGES;
        if (before == 0 && upto_now && (rights & ACL_LOOKUP)) {         /* a former group has told of it already */
                if (!imap_allows(imap, rights) && c->events)
                        list_put_changed(imap, c->entry->name, c->entry, NULL, "\\NoAccess");    /* RFC 5465 3.1 */
                else if (c->status && c->events && !(imap->sel && strcmp(imap->sel->entry->uniqueid, c->entry->uniqueid) == 0))
                        return true;
        }
        mbentry_unref(&c->entry);
        return false;
}

static enum cmd_result walk(struct imap *imap, struct notify_command *c)
{
        enum cmd_result result = CMD_DONE;
        struct mailbox *mbox;
        struct err err = ERR_INIT;
        bool end = false;
        int opened;

        while (result == CMD_DONE) {
                if (!c->entry) {
                        c->entry = next_mailbox(imap, c, &end);
                        if (end)
                                return imap_ok(imap, NULL, "Completed");
                        if (!c->entry || !is_told(imap, c)) {
                                result = imap_yield(imap);
                                continue;
                        }
                }
                opened = imap_open_mailbox(imap, &c->open, c->entry, &mbox, &err);
                if (opened == 0)
                        return CMD_WAIT;
                if (opened > 0) {
                        notify_put_status(imap, c->entry->name, mbox, c->events, true);
                        mailbox_unref(&mbox);
                }
                mbentry_unref(&c->entry);
                result = imap_yield(imap);
        }
        return result;
}

enum cmd_result cmd_notify(struct imap *imap)
{
        enum cmd_result result;
        bool done;

        if (!imap->cmd.state) {
                result = begin(imap, &done);
                if (done)
                        return result;
        }
        return walk(imap, imap->cmd.state);
}
