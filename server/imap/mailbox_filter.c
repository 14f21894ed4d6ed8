/* mailbox_filter - see mailbox_filter.h */
#include "server/imap/mailbox_filter.h"

#include <stdlib.h>

#include "util/array.h"
#include "util/hash.h"

#define LOOKED_AT_ONCE 256

/* ---- parsing ---- */

static const struct {
        const char *name;
        enum mailbox_filter_kind kind;
        bool names;
} rows[] = {
        { "selected", FILTER_SELECTED, false },
        { "inboxes", FILTER_PERSONAL, false },
        { "personal", FILTER_PERSONAL, false },
        { "subscribed", FILTER_SUBSCRIBED, false },
        { "subtree", FILTER_SUBTREE, true },
        { "subtree-one", FILTER_SUBTREE_ONE, true },
        { "mailboxes", FILTER_MAILBOXES, true },
};

/* one-or-more-mailbox: a name, or names in parentheses. False: the reply was sent. */
static bool parse_names(struct imap *imap, struct mailbox_filter *f, uint32_t *left)
{
        struct imap_parser *ip = &imap->cmd.args;
        ARRAY(const char *) names = ARRAY_INIT;
        bool list, ok = false;

        if (imap_sp(ip) < 0)
                goto bad;
        list = imap_peek_c(ip, '(');
        if (list && imap_open_paren(ip) < 0)
                goto bad;
        do {
                const char *internal;

                if (!imap_arg_mailbox(imap, &internal))
                        goto out;
                if ((*left)-- == 0) {
                        imap_no(imap, "LIMIT", "Too many mailboxes");
                        goto out;
                }
                *ARRAY_PUSH(&names) = internal;
        } while (list && imap_skip_c(ip, ' '));
        if (list && imap_close_paren(ip) < 0)
                goto bad;
        f->names_n = (uint32_t)names.n;
        f->names = ARENA_ARRAY(&imap->s->arena, const char *, names.n);
        memcpy(f->names, names.v, names.n * sizeof *names.v);
        ok = true;
        goto out;
bad:
        imap_bad(imap, "%s", ip->err.text);
out:
        ARRAY_FREE(&names);
        return ok;
}

static bool parse_filter(struct imap *imap, struct mailbox_filter *f, uint32_t *left)
{
        struct span w;

        if (imap_atom(&imap->cmd.args, &w) < 0) {
                imap_bad(imap, "%s", imap->cmd.args.err.text);
                return false;
        }
        for (size_t i = 0; i < ARRAY_LEN(rows); i++)
                if (imap_word_is(w, rows[i].name)) {
                        f->kind = rows[i].kind;
                        return !rows[i].names || parse_names(imap, f, left);
                }
        imap_bad(imap, "Unknown specifier of mailboxes");
        return false;
}

bool mailbox_filter_parse(struct imap *imap, struct mailbox_filter **filters_r)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct mailbox_filter **last = filters_r;
        uint32_t left = MAILBOX_FILTER_NAMES_MAX;

        *filters_r = NULL;
        if (imap_open_paren(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        do {
                *last = ARENA_NEW(&imap->s->arena, struct mailbox_filter);
                if (!parse_filter(imap, *last, &left))
                        return false;
                last = &(*last)->next;
        } while (imap_skip_c(ip, ' '));
        if (imap_close_paren(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        return true;
}

/* ---- walking ---- */

void mailbox_walk_init(struct mailbox_walk *w, struct imap *imap, const struct mailbox_filter *filters)
{
        *w = (struct mailbox_walk){ .imap = imap, .at = filters, .told = table_create() };
        str_init(&w->after);
}

void mailbox_walk_deinit(struct mailbox_walk *w)
{
        str_deinit(&w->after);
        table_destroy(&w->told);
}

/* The names that a filter begins with. */
static int begin_filter(struct mailbox_walk *w, struct err *err)
{
        struct arena *arena = &w->imap->s->arena;

        w->begun = true;
        w->name = 0;
        w->names = w->at->names;
        w->names_n = w->at->names_n;
        str_clear(&w->after);
        if (w->at->kind == FILTER_PERSONAL) {
                w->names = ARENA_ARRAY(arena, const char *, 1);
                w->names[0] = mailname_inbox_of(w->imap->userid, arena);
                w->names_n = 1;
        } else if (w->at->kind == FILTER_SUBSCRIBED) {
                int n = sub_list(w->imap->store, w->imap->userid, arena, &w->names, err);

                if (n < 0)
                        return -1;
                for (w->names_n = 0; w->names[w->names_n]; w->names_n++)
                        ;
        }
        return 0;
}

static void next_name(struct mailbox_walk *w)
{
        str_clear(&w->after);
        if (++w->name < w->names_n)
                return;
        w->at = w->at->next;
        w->begun = false;
}

/* With altnamespace the folders stand beside INBOX: to the client it has none below it. */
static bool has_tree(const struct mailbox_walk *w, const char *name)
{
        if (w->at->kind == FILTER_PERSONAL)
                return true;
        if (w->at->kind != FILTER_SUBTREE && w->at->kind != FILTER_SUBTREE_ONE)
                return false;
        return !conf_switch(w->imap->conf, NULL, "altnamespace") || strcmp(name, mailname_inbox_of(w->imap->userid, &w->imap->s->arena)) != 0;
}

static bool too_deep(const struct mailbox_walk *w, const char *top, const char *name)
{
        size_t n = strlen(top);

        return w->at->kind == FILTER_SUBTREE_ONE && strlen(name) > n && strchr(name + n + 1, '.');
}

/* May it be searched, and was it not yet? */
static bool wanted(struct mailbox_walk *w, const struct mbentry *entry, bool named)
{
        uint32_t rights = imap_rights(w->imap, entry);

        if (entry->type != MBTYPE_NORMAL || imap_name_hidden(w->imap, entry->name) || !imap_allows(w->imap, rights) ||
            (!named && !(rights & ACL_LOOKUP)))                 /* RFC 7377 2.2 */
                return false;
        return table_set(w->told, span_of(entry->uniqueid), w) == NULL;
}

/* The next entry of the present name, whatever it is; NULL: there is none any more. */
static const struct mbentry *next_entry(struct mailbox_walk *w)
{
        const char *name = w->names[w->name];
        struct mboxlist *ml = store_mboxlist(w->imap->store);
        const struct mbentry *entry = NULL;

        if (!has_tree(w, name))
                return w->after.len ? NULL : mboxlist_find(ml, name);
        return mboxlist_next(ml, name, w->after.data, &entry, 1) ? entry : NULL;
}

int mailbox_walk_next(struct mailbox_walk *w, const struct mbentry **entry_r, struct err *err)
{
        for (unsigned looked = 0; w->at; looked++) {
                const struct mbentry *entry;
                const char *name;
                bool named;

                if (looked == LOOKED_AT_ONCE)
                        return 2;
                if (!w->begun && begin_filter(w, err) < 0)
                        return -1;
                if (w->name >= w->names_n) {
                        next_name(w);
                        continue;
                }
                name = w->names[w->name];
                entry = next_entry(w);
                if (!entry) {
                        next_name(w);
                        continue;
                }
                str_clear(&w->after);
                str_append_str(&w->after, entry->name);
                named = w->at->kind != FILTER_PERSONAL && w->at->kind != FILTER_SUBSCRIBED && strcmp(entry->name, name) == 0;
                if (!too_deep(w, name, entry->name) && wanted(w, entry, named)) {
                        *entry_r = entry;
                        return 1;
                }
                mbentry_unref(&entry);
        }
        return 0;
}
