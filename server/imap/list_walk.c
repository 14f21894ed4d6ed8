/*
 * list_walk - LIST through the mailbox list. Entries come in the order in which a tree is one range, so a mailbox has children if
 * the next visible one is below it, and a name that is only others' parent is told of when the first of them comes by.
 * Own mailboxes, other users' and shared ones are walked one after the other: each is a namespace of its own to the client.
 * With virtual domains the names of one domain are a range too, "dom!…"; only an admin without a domain is told of others than his own.
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

/* "dom!" of a user in a domain, else "". */
static struct span domain_bound(struct list *l)
{
        const char *inbox = mailname_inbox_of(l->imap->userid, &l->imap->s->arena), *bang = strchr(inbox, '!');

        return (struct span){ inbox, bang ? (size_t)(bang + 1 - inbox) : 0 };
}

static void begin_part(struct list *l, enum list_part part)
{
        l->part = part;
        l->root_told = false;
        l->part_over = false;
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
        case PART_ALL: case PART_SHARED:
                l->prefix = "";
                str_append_span(&l->after, l->domain);          /* no name is just that */
                break;
        case PART_END:
                l->prefix = "";
                break;
        }
}

static void next_part(struct list *l)
{
        begin_part(l, l->part == PART_OWN ? PART_USERS : l->part == PART_USERS ? PART_SHARED : PART_END);
}

static bool is_wildcard(char c)
{
        return c == '*' || c == '%';
}

/* The "@domain" with which a pattern ends; empty: none. */
static struct span pattern_domain(struct span p)
{
        size_t n = p.len;

        while (n && !is_wildcard(p.p[n - 1]) && p.p[n - 1] != '@')
                n--;
        return n && p.p[n - 1] == '@' ? (struct span){ p.p + n - 1, p.len - n + 1 } : (struct span){ p.p, 0 };
}

/* With one pattern only what is below its fixed beginning need be looked at: of the domain that it names. Without one an admin's pattern
 * means those of all domains. */
static void find_fixed(struct list *l)
{
        struct namer who = imap_namer(l->imap);
        struct span p = l->patterns[0], domain = { p.p, 0 };
        size_t n = 0;

        while (n < p.len && !is_wildcard(p.p[n]))
                n++;
        l->exact = l->patterns_n == 1 && n == p.len;
        if (l->patterns_n != 1)
                return;
        if (n < p.len && l->imap->is_admin && namespace_has_domains(l->imap->ns)) {
                domain = pattern_domain(p);
                if (!domain.len && !mailname_userid_has_domain(l->imap->userid))
                        return;
        }
        if (n < p.len)
                while (n && p.p[n - 1] != l->sep)
                        n--;
        if (n && p.p[n - 1] == l->sep)
                n--;
        if (n)
                p = span_of(arena_printf(&l->imap->s->arena, "%.*s%.*s", (int)n, p.p, (int)domain.len, domain.p));
        if (n && mailname_internal(&who, p, &l->imap->s->arena, &l->fixed, NULL) < 0)
                l->fixed = NULL;
}

void list_walk_begin(struct list *l)
{
        find_fixed(l);
        l->domain = domain_bound(l);
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
        if ((l->part == PART_ALL || l->part == PART_SHARED) && l->domain.len && strncmp(entry->name, l->domain.p, l->domain.len) != 0) {
                l->part_over = true;                            /* behind the domain */
                return;
        }
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

/* What is not this part's, in one jump: all users' mailboxes – '.' sorts below everything, so "user\x01" is behind "user.…" – and those
 * of other domains: '"' is in no name, and comes after '!'. */
static void jump(struct list *l)
{
        const char *bang = strchr(l->after.data, '!');

        if (l->part != PART_SHARED)
                return;
        if (bang && !l->domain.len) {
                str_truncate(&l->after, (size_t)(bang - l->after.data));
                str_append_c(&l->after, '"');
        } else if (mailname_is_user(l->after.data)) {
                str_clear(&l->after);
                str_append_span(&l->after, l->domain);
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
        l->batch_n = l->part_over ? 0 : mboxlist_next(ml, l->prefix, l->after.data, l->batch, LIST_BATCH);
        if (l->batch_n) {
                str_clear(&l->after);
                str_append_str(&l->after, l->batch[l->batch_n - 1]->name);
                return true;
        }
        flush_pending(l, NULL);
        next_part(l);
        return true;
}
