/*
 * list_sub - LIST (SUBSCRIBED) and LSUB through the user's subscriptions, which are names: they need not exist.
 * With RECURSIVEMATCH (RFC 5258 3.1), and for LSUB's % (RFC 3501 6.3.9), a name is told of too when only something below it is subscribed
 * that the patterns do not match.
 */
#include <stdio.h>

#include "server/imap/list.h"

int list_sub_begin(struct list *l, struct err *err)
{
        l->told = table_create();
        return sub_list(l->imap->store, l->imap->userid, &l->imap->s->arena, &l->names, err);
}

static const struct mbentry *look_up(struct list *l, const char *internal)
{
        const struct mbentry *entry = mboxlist_find(store_mboxlist(l->imap->store), internal);

        if (entry && !list_visible(l, entry))
                mbentry_unref(&entry);
        return entry;
}

static bool first_time(struct list *l, struct span name)
{
        return !table_set(l->told, name, l);
}

/* A name above a subscribed one. */
static void tell_parent(struct list *l, const char *internal, struct span external)
{
        const struct mbentry *entry = internal ? look_up(l, internal) : NULL;
        bool subscribed = false;

        if (internal && sub_has(l->imap->store, l->imap->userid, internal, &subscribed, NULL) == 0 && subscribed)
                goto out;                               /* it has its own row */
        if (l->lsub && entry)                           /* RFC 3501 6.3.9: not subscribed itself: \Noselect */
                mbentry_unref(&entry);
        list_emit(l, &(struct list_row){ .internal = internal, .external = external, .entry = entry, .children = 1,
                                         .child_subscribed = true });
out:
        if (entry)
                mbentry_unref(&entry);
}

static void tell_parents(struct list *l, const char *internal)
{
        struct namer who = imap_namer(l->imap);
        struct span ancestor, root;
        struct str external = STR_INIT;
        char name[MAILNAME_MAX + 1];
        size_t pos = 0;

        if (list_root_of(l, internal, &root) && first_time(l, root))
                tell_parent(l, NULL, root);
        while (!l->status_entry && list_next_ancestor(l, internal, &pos, &ancestor) && ancestor.len <= MAILNAME_MAX) {
                if (!first_time(l, ancestor))
                        continue;
                snprintf(name, sizeof name, "%.*s", (int)ancestor.len, ancestor.p);
                str_clear(&external);
                mailname_external(&who, name, &external);
                tell_parent(l, name, str_span(&external));
        }
        str_deinit(&external);
}

bool list_sub_step(struct list *l)
{
        struct namer who = imap_namer(l->imap);
        const char *internal = l->names[l->names_i], *next;
        struct str external = STR_INIT;
        const struct mbentry *entry;

        if (!internal)
                return false;
        mailname_external(&who, internal, &external);
        if (!list_matches(l, str_span(&external), false)) {
                if (l->recursive || l->lsub)
                        tell_parents(l, internal);
                if (!l->status_entry)                   /* else once more: there may be further parents */
                        l->names_i++;
                str_deinit(&external);
                return true;
        }
        next = l->names[++l->names_i];
        entry = look_up(l, internal);
        list_emit(l, &(struct list_row){ .internal = internal, .external = str_span(&external), .entry = entry, .children = -1,
                                         .subscribed = true, .child_subscribed = next && list_is_child(l, next, internal) });
        if (entry)
                mbentry_unref(&entry);
        str_deinit(&external);
        return true;
}
