/*
 * list_walk - LIST through the mailbox list. Entries come in the order in which a tree is one range, so a mailbox has children if
 * the next visible one is below it, and a name that is only others' parent is told of when the first of them comes by.
 * Own mailboxes, other users' and shared ones are walked one after the other: each is a namespace of its own to the client.
 */
#include <stdio.h>

#include "server/imap/list.h"

/* "dom!user" for a user in a domain, else "user". */
static const char *users_prefix(struct list *l)
{
        struct arena *arena = &l->imap->s->arena;
        const char *inbox = mailname_inbox_of(l->imap->userid, arena), *bang = strchr(inbox, '!');

        return bang ? arena_printf(arena, "%.*suser", (int)(bang + 1 - inbox), inbox) : "user";
}

static void begin_part(struct list *l, enum list_part part)
{
        l->part = part;
        l->root_told = false;
        str_clear(&l->after);
        str_clear(&l->last);
        switch (part) {
        case PART_OWN:
                l->prefix = mailname_inbox_of(l->imap->userid, &l->imap->s->arena);
                break;
        case PART_USERS:
                l->prefix = users_prefix(l);
                break;
        case PART_FIXED:
                l->prefix = l->fixed;
                break;
        case PART_ALL: case PART_SHARED: case PART_END:
                l->prefix = "";
                break;
        }
}

static void next_part(struct list *l)
{
        begin_part(l, l->part == PART_OWN ? PART_USERS : l->part == PART_USERS ? PART_SHARED : PART_END);
}

/* With one pattern only what is below its fixed beginning need be looked at. */
static void find_fixed(struct list *l)
{
        struct namer who = imap_namer(l->imap);
        struct span p = l->patterns[0];
        size_t n = 0;

        while (n < p.len && p.p[n] != '*' && p.p[n] != '%')
                n++;
        l->exact = l->patterns_n == 1 && n == p.len;
        if (l->patterns_n != 1)
                return;
        if (n < p.len)
                while (n && p.p[n - 1] != l->sep)
                        n--;
        if (n && p.p[n - 1] == l->sep)
                n--;
        if (n && mailname_internal(&who, (struct span){ p.p, n }, &l->imap->s->arena, &l->fixed, NULL) < 0)
                l->fixed = NULL;
}

void list_walk_begin(struct list *l)
{
        find_fixed(l);
        begin_part(l, l->fixed ? PART_FIXED : l->imap->is_admin ? PART_ALL : PART_OWN);
}

/* Does this part show this name? The rest is another part's. */
static bool belongs(struct list *l, const char *name)
{
        switch (l->part) {
        case PART_USERS:
                return !mailname_owned_by(name, l->imap->userid);
        case PART_SHARED:
                return !mailname_is_user(name);
        default:
                return true;
        }
}

static void externalize(struct list *l, const char *internal, struct str *out)
{
        struct namer who = imap_namer(l->imap);

        str_clear(out);
        mailname_external(&who, internal, out);
}

static void flush_pending(struct list *l, const char *next)
{
        const struct mbentry *entry = l->pending;
        struct str external = STR_INIT;

        if (!entry)
                return;
        externalize(l, entry->name, &external);
        list_emit(l, &(struct list_row){ .internal = entry->name, .external = str_span(&external), .entry = entry,
                                         .children = next && list_is_child(l, next, entry->name) });
        str_deinit(&external);
        mbentry_unref(&l->pending);
}

static void tell_nonexistent(struct list *l, struct span external)
{
        list_emit(l, &(struct list_row){ .external = external, .children = 1 });
}

/* Names above this one that are no visible mailbox, and have not been told of. */
static void tell_ancestors(struct list *l, const char *internal)
{
        struct str external = STR_INIT;
        struct span ancestor, root;
        char name[MAILNAME_MAX + 1];
        size_t pos = 0;

        if (!l->root_told && list_root_of(l, internal, &root)) {
                l->root_told = true;
                tell_nonexistent(l, root);
        }
        while (list_next_ancestor(l, internal, &pos, &ancestor) && ancestor.len <= MAILNAME_MAX) {
                bool known = l->last.len >= ancestor.len && memcmp(l->last.data, ancestor.p, ancestor.len) == 0 &&
                             (l->last.data[ancestor.len] == 0 || l->last.data[ancestor.len] == '.');

                if (known)
                        continue;
                snprintf(name, sizeof name, "%.*s", (int)ancestor.len, ancestor.p);
                externalize(l, name, &external);
                tell_nonexistent(l, str_span(&external));
        }
        str_deinit(&external);
}

static void take(struct list *l, const struct mbentry *entry)
{
        if (!belongs(l, entry->name) || !list_visible(l, entry))
                return;
        flush_pending(l, entry->name);
        if (l->exact && l->part == PART_FIXED && l->last.len) {         /* further down nothing can match */
                begin_part(l, PART_END);
                return;
        }
        tell_ancestors(l, entry->name);
        str_clear(&l->last);
        str_append_str(&l->last, entry->name);
        l->pending = mbentry_ref(entry);
}

/* What is not this part's, in one jump: all users' mailboxes. '.' sorts below everything, so this is behind "user.…". */
static void jump(struct list *l)
{
        if (l->part == PART_SHARED && mailname_is_user(l->after.data) && !strchr(l->after.data, '!')) {
                str_clear(&l->after);
                str_append_str(&l->after, "user\x01");
        }
}

bool list_walk_step(struct list *l)
{
        struct mboxlist *ml = store_mboxlist(l->imap->store);

        if (l->batch_i < l->batch_n) {
                const struct mbentry **entry = &l->batch[l->batch_i++];

                if (l->part != PART_END)
                        take(l, *entry);
                mbentry_unref(entry);
                return true;
        }
        if (l->part == PART_END)
                return false;
        jump(l);
        l->batch_i = 0;
        l->batch_n = mboxlist_next(ml, l->prefix, l->after.data, l->batch, LIST_BATCH);
        if (l->batch_n) {
                str_clear(&l->after);
                str_append_str(&l->after, l->batch[l->batch_n - 1]->name);
                return true;
        }
        flush_pending(l, NULL);
        next_part(l);
        return true;
}
