/* list - what both walks share; see list.h */
#include "server/imap/list.h"
#include "server/imap/notify.h"

#include "server/imap/status.h"
#include "util/must.h"

static void cleanup(struct imap *imap)
{
        struct list *l = imap->cmd.state;

        for (unsigned i = l->batch_i; i < l->batch_n; i++)
                mbentry_unref(&l->batch[i]);
        if (l->pending)
                mbentry_unref(&l->pending);
        if (l->status_entry)
                mbentry_unref(&l->status_entry);
        imap_open_release(&l->open);
        table_destroy(&l->told);
        str_deinit(&l->after);
        str_deinit(&l->last);
}

struct list *list_create(struct imap *imap, bool lsub)
{
        struct list *l = ARENA_NEW(&imap->s->arena, struct list);

        l->imap = imap;
        l->lsub = lsub;
        l->sep = namespace_separator(imap->ns);
        str_init(&l->after);
        str_init(&l->last);
        imap->cmd.state = l;
        imap->cmd.cleanup = cleanup;
        return l;
}

void list_put_root(struct imap *imap)
{
        imap_untagged(imap, "LIST (\\Noselect) \"%c\" \"\"", namespace_separator(imap->ns));
}

bool list_matches(struct list *l, struct span external, bool level)
{
        const char *name = external.p;                  /* always NUL-terminated here */

        for (unsigned i = 0; i < l->patterns_n; i++)
                if ((!level || l->patterns[i].len == 0 || l->patterns[i].p[l->patterns[i].len - 1] != '*') &&
                    mailname_match(name, l->patterns[i], l->sep))
                        return true;
        return false;
}

bool list_visible(struct list *l, const struct mbentry *entry)
{
        if (entry->type != MBTYPE_NORMAL && entry->type != MBTYPE_REMOTE && entry->type != MBTYPE_MOVING)
                return false;
        return (imap_rights(l->imap, entry) & LIST_RIGHTS) && !imap_name_hidden(l->imap, entry->name);
}

/* ---- names above a name ---- */

static bool is_own_alt_inbox(struct list *l, const char *internal)
{
        return namespace_is_alt(l->imap->ns) && !l->imap->is_admin && mailname_is_inbox(internal) &&
               mailname_owned_by(internal, l->imap->userid);
}

bool list_is_child(struct list *l, const char *name, const char *internal)
{
        return mailname_is_below(name, internal) && !is_own_alt_inbox(l, internal);
}

/* Where the part of a name begins that is made of levels a client sees: behind the domain, "user.joe" being one level. */
static size_t first_level(const char *internal)
{
        const char *bang = strchr(internal, '!'), *p = bang ? bang + 1 : internal;

        if (strncmp(p, "user.", 5) == 0)
                p += 5;
        return (size_t)(p - internal);
}

bool list_next_ancestor(struct list *l, const char *internal, size_t *pos, struct span *ancestor_r)
{
        bool own_alt = namespace_is_alt(l->imap->ns) && !l->imap->is_admin && mailname_owned_by(internal, l->imap->userid);
        const char *dot;

        for (;;) {
                size_t start = *pos ? *pos + 1 : first_level(internal);
                bool inbox = !*pos;

                dot = strchr(internal + start, '.');
                if (!dot)
                        return false;
                *pos = (size_t)(dot - internal);
                if (inbox && own_alt)                   /* what is below INBOX stands beside it */
                        continue;
                *ancestor_r = (struct span){ internal, *pos };
                return true;
        }
}

bool list_root_of(struct list *l, const char *internal, struct span *root_r)
{
        struct imap *imap = l->imap;
        struct namer who = imap_namer(imap);
        struct str prefix = STR_INIT;
        bool own = !imap->is_admin && mailname_owned_by(internal, imap->userid);

        if (own || !namespace_prefix(&who, mailname_is_user(internal) ? NAMESPACE_OTHER_USERS : NAMESPACE_SHARED, &prefix) || prefix.len < 2) {
                str_deinit(&prefix);
                return false;
        }
        *root_r = arena_span(&imap->s->arena, (struct span){ prefix.data, prefix.len - 1 });
        str_deinit(&prefix);
        return true;
}

/* ---- a row ---- */

/* For the few rows of which the walk does not know. A bounded look: no more than the nearest thousand names. */
static bool has_visible_children(struct list *l, const char *internal)
{
        struct mboxlist *ml = store_mboxlist(l->imap->store);
        const struct mbentry *entries[LIST_BATCH];
        const char *after = internal;
        bool found = false;

        if (is_own_alt_inbox(l, internal))
                return false;
        for (unsigned round = 0; round < 16 && !found; round++) {
                unsigned n = mboxlist_next(ml, internal, after, entries, LIST_BATCH);

                if (!n)
                        break;
                after = arena_strdup(&l->imap->s->arena, entries[n - 1]->name);
                for (unsigned i = 0; i < n; i++) {
                        found |= list_visible(l, entries[i]);
                        mbentry_unref(&entries[i]);
                }
        }
        return found;
}

static void put_attribute(struct imap *imap, bool *first, const char *attribute)
{
        imap_put(imap, "%s%s", *first ? "" : " ", attribute);
        *first = false;
}

static bool is_subscribed(struct list *l, const struct list_row *row)
{
        bool yes = false;

        if (row->subscribed || !row->internal || !l->return_subscribed)
                return row->subscribed;
        if (sub_has(l->imap->store, l->imap->userid, row->internal, &yes, NULL) < 0)
                return false;
        return yes;
}

/* A special use is its owner's matter; on a shared mailbox it is everybody's. */
static bool shows_special(struct list *l, const struct mbentry *entry)
{
        if (!entry || !entry->specialuse || !entry->specialuse[0])
                return false;
        return l->imap->is_admin || !mailname_is_user(entry->name) || mailname_owned_by(entry->name, l->imap->userid);
}

static void put_attributes(struct list *l, const struct list_row *row)
{
        struct imap *imap = l->imap;
        bool first = true;
        int children = row->children;

        if (!row->entry)                                /* RFC 5258 3.4: \NonExistent implies \Noselect */
                put_attribute(imap, &first, !l->lsub && (l->extended || imap->rev2) ? "\\NonExistent" : "\\Noselect");
        else if (l->status_items && !(imap_rights(imap, row->entry) & ACL_READ))        /* RFC 5819 2 */
                put_attribute(imap, &first, "\\Noselect");
        if (children < 0 && !l->lsub)
                children = row->internal && has_visible_children(l, row->internal);
        if (!l->lsub)
                put_attribute(imap, &first, children ? "\\HasChildren" : "\\HasNoChildren");
        if (!l->lsub && is_subscribed(l, row))
                put_attribute(imap, &first, "\\Subscribed");
        if (l->xlist && row->internal && mailname_is_inbox(row->internal) && mailname_owned_by(row->internal, imap->userid))
                put_attribute(imap, &first, "\\Inbox");
        if (shows_special(l, row->entry) && (l->return_special || l->special || l->xlist ||
                                             conf_switch(imap->conf, imap_service(imap), "specialusealways")))
                put_attribute(imap, &first, row->entry->specialuse);
}

/* RFC 8440 3: for what was asked for, not for what only has such below it; and only what MYRIGHTS itself would tell. */
static void put_myrights(struct list *l, const struct list_row *row)
{
        char text[ACL_TEXT_MAX];

        if (!row->entry || (l->subscribed && !row->subscribed))
                return;
        imap_put(l->imap, "* MYRIGHTS ");
        imap_put_astring(l->imap, row->external);
        imap_put(l->imap, " ");
        imap_put_astring(l->imap, span_of(acl_format_rights(text, imap_rights(l->imap, row->entry))));
        imap_put(l->imap, "\r\n");
}

void list_emit(struct list *l, const struct list_row *row)
{
        struct imap *imap = l->imap;
        uint32_t rights;

        if (l->special && !shows_special(l, row->entry))
                return;
        if (!list_matches(l, row->external, !row->entry && !row->subscribed && !row->child_subscribed))
                return;
        imap_put(imap, l->lsub ? "* LSUB (" : l->xlist ? "* XLIST (" : "* LIST (");
        put_attributes(l, row);
        imap_put(imap, ") \"%c\" ", l->sep);
        imap_put_astring(imap, row->external);
        if (row->child_subscribed && l->recursive)
                imap_put(imap, " (\"CHILDINFO\" (\"SUBSCRIBED\"))");
        imap_put(imap, "\r\n");
        if (l->return_myrights)
                put_myrights(l, row);
        if ((!l->status_items && !l->metadata) || !row->entry || row->entry->type != MBTYPE_NORMAL)
                return;
        rights = imap_rights(imap, row->entry);
        l->status_wanted = l->status_items && (rights & ACL_READ);      /* RFC 5819 2: no STATUS for what cannot be selected */
        l->metadata_wanted = l->metadata && (!l->subscribed || row->subscribed) && (imap->is_admin || (rights & METADATA_RIGHTS));
        if (!l->status_wanted && !l->metadata_wanted)
                return;
        must(!l->status_entry);
        l->status_entry = mbentry_ref(row->entry);
}

/* RFC 9590. Values that the store cannot give are left out; the listing goes on. */
static void tell_metadata(struct list *l, struct mailbox *mbox)
{
        struct metadata_target t = { .store = l->imap->store, .conf = l->imap->conf, .userid = l->imap->userid, .entry = l->status_entry,
                                     .mbox = mbox };
        struct arena arena = ARENA_INIT;
        struct metadata *list;
        struct err err = ERR_INIT;
        uint64_t longest;
        uint32_t n;

        if (metadata_list(&t, &arena, &list, &n, &err) == 0)
                imap_metadata_put(l->imap, l->status_entry->name, l->metadata, list, n, &longest);
        arena_deinit(&arena);
}

void list_put_changed(struct imap *imap, const char *internal, const struct mbentry *entry, const char *former, const char *extra)
{
        struct list l = { .imap = imap, .sep = namespace_separator(imap->ns), .extended = true, .return_subscribed = true };
        struct list_row row = { .internal = internal, .entry = entry, .children = entry ? -1 : 0 };

        imap_put(imap, "* LIST (");
        put_attributes(&l, &row);
        imap_put(imap, "%s%s) \"%c\" ", extra ? " " : "", extra ? extra : "", l.sep);
        imap_put_mailbox(imap, internal);
        if (former) {
                imap_put(imap, " (\"OLDNAME\" (");
                imap_put_mailbox(imap, former);
                imap_put(imap, "))");
        }
        imap_put(imap, "\r\n");
}

/* 1 done, 0 wait */
static int tell_status(struct list *l)
{
        struct mailbox *mbox = NULL;
        struct err err = ERR_INIT;
        int rc = imap_open_mailbox(l->imap, &l->open, l->status_entry, &mbox, &err);

        if (rc == 0)
                return 0;
        if (rc > 0) {                                   /* RFC 5819 2: no line for a mailbox that cannot be opened */
                if (l->status_wanted)
                        imap_status_put(l->imap, l->status_entry->name, mbox, l->status_items);
                if (l->metadata_wanted)
                        tell_metadata(l, mbox);
                mailbox_unref(&mbox);
        }
        mbentry_unref(&l->status_entry);
        return 1;
}

enum cmd_result list_run(struct list *l, bool (*step)(struct list *l))
{
        struct session *s = l->imap->s;

        do {
                if (l->status_entry && tell_status(l) == 0)
                        return CMD_WAIT;
                if (s->out.bytes > ROPE_HIGH)
                        return CMD_FLUSH;
                if (session_slice_over(s))
                        return CMD_AGAIN;
        } while (step(l) || l->status_entry);
        return imap_ok(l->imap, NULL, "Completed");
}
