/* rolling_work - what a log says, without what is there twice, in the order in which it is done; see rolling_private.h */
#include "replication/rolling_private.h"

#include <stdlib.h>
#include <string.h>

#include "store/mailname.h"
#include "util/must.h"

/* ---- items ---- */

struct item *item_create(enum sync_kind kind, const char *a, const char *b)
{
        struct item *it = xcalloc(1, sizeof *it);

        it->kind = kind;
        it->a = xstrdup(a);
        it->b = xstrdup(b);
        if (kind == SYNC_MAILBOX)
                it->known = table_create();
        return it;
}

void item_add_name(struct item *group, const char *name)
{
        if (table_set(group->known, span_of(name), group))
                return;
        *ARRAY_PUSH(&group->names) = xstrdup(name);
}

void item_free(struct item *it)
{
        for (size_t i = 0; i < it->names.n; i++)
                free(it->names.v[i]);
        ARRAY_FREE(&it->names);
        table_destroy(&it->known);
        free(it->a);
        free(it->b);
        free(it);
}

static void line_text(const struct sync_line *line, struct str *out)
{
        if (sync_line_write(out, line))
                str_truncate(out, out->len - 1);
        else
                str_append_str(out, sync_kind_name(line->kind));        /* cannot be: it was read from a line, or is a name in the list */
}

void item_text(const struct item *it, struct str *out)
{
        struct sync_line line = { it->kind, it->a, it->b };

        if (it->kind == SYNC_MAILBOX)
                line = (struct sync_line){ SYNC_MAILBOX, it->names.n ? it->names.v[0] : "", "" };
        line_text(&line, out);
}

/* ---- work ---- */

void work_init(struct work *w, const char *deleted_prefix)
{
        *w = (struct work){ .known = table_create(), .deleted_prefix = deleted_prefix ? xstrdup(deleted_prefix) : NULL };
}

void work_deinit(struct work *w)
{
        for (int k = 0; k < SYNC_KINDS; k++) {
                for (size_t i = w->heads[k]; i < w->lists[k].n; i++)
                        item_free(w->lists[k].v[i]);
                ARRAY_FREE(&w->lists[k]);
        }
        for (size_t i = w->later_head; i < w->later.n; i++)
                item_free(w->later.v[i]);
        ARRAY_FREE(&w->later);
        table_destroy(&w->known);
        free(w->deleted_prefix);
}

const char *work_owner(const char *deleted_prefix, const char *mailbox, struct arena *arena)
{
        const char *owner;

        if (deleted_prefix && mailname_is_deleted(mailbox, deleted_prefix)) {
                /* "DELETED.user.ann.x.6B0242FA", with a domain in front "dom!DELETED.user…": without the prefix it is what it was, and a bit. */
                const char *bang = strchr(mailbox, '!');
                size_t domain = bang ? (size_t)(bang + 1 - mailbox) : 0;

                mailbox = arena_printf(arena, "%.*s%s", (int)domain, mailbox, mailbox + domain + strlen(deleted_prefix) + 1);
                /* The INBOX itself: "user.ann.6B0242FA" is below "user.ann" by its form, so its owner comes out right. */
        }
        owner = mailname_owner(mailbox, arena);
        return owner ? owner : "";
}

/* By kind and arguments; groups by owner. */
static struct item *find_or_add(struct work *w, enum sync_kind kind, const char *a, const char *b)
{
        struct str text = STR_INIT;
        struct item *it;

        line_text(&(struct sync_line){ kind, a, b }, &text);
        it = table_find(w->known, str_span(&text));
        if (!it) {
                it = item_create(kind, a, b);
                *ARRAY_PUSH(&w->lists[kind]) = it;
                table_set(w->known, str_span(&text), it);
        }
        str_deinit(&text);
        return it;
}

static void add_names(struct work *w, const char *whose, const char *name, const char *other)
{
        struct arena arena = ARENA_INIT;
        struct item *group = find_or_add(w, SYNC_MAILBOX, work_owner(w->deleted_prefix, whose, &arena), "");

        item_add_name(group, name);
        if (other)
                item_add_name(group, other);
        arena_deinit(&arena);
}

void work_add_line(struct work *w, const struct sync_line *line)
{
        w->lines++;
        switch (line->kind) {
        case SYNC_MAILBOX:
        case SYNC_APPEND:
                add_names(w, line->a, line->a, NULL);
                break;
        case SYNC_DOUBLEMAILBOX:
                add_names(w, line->a, line->a, line->b);
                break;
        case SYNC_RENAME:
                add_names(w, line->a, line->a, line->b);
                add_names(w, line->b, line->a, line->b);
                break;
        case SYNC_RESYNC:
                w->resync = true;
                break;
        default:
                (void)find_or_add(w, line->kind, line->a, line->b);
        }
}

void work_add(struct work *w, enum sync_kind kind, const char *a, const char *b)
{
        (void)find_or_add(w, kind, a, b);
}

static struct item *find(const struct work *w, enum sync_kind kind, const char *a)
{
        struct str text = STR_INIT;
        struct item *it;

        line_text(&(struct sync_line){ kind, a, "" }, &text);
        it = table_find(w->known, str_span(&text));
        str_deinit(&text);
        return it;
}

void work_reduce(struct work *w)
{
        static const enum sync_kind kinds[] = { SYNC_SEEN, SYNC_SUB, SYNC_META, SYNC_USER };

        for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
                for (size_t i = 0; i < w->lists[kinds[k]].n; i++) {
                        struct item *it = w->lists[kinds[k]].v[i];

                        it->superfluous = find(w, SYNC_UNUSER, it->a) || (kinds[k] != SYNC_USER && find(w, SYNC_USER, it->a)) ||
                                          ((kinds[k] == SYNC_SEEN || kinds[k] == SYNC_SUB) && find(w, SYNC_META, it->a));
                }
}

static struct item *take_first(struct work *w, enum sync_kind kind)
{
        return w->heads[kind] < w->lists[kind].n ? w->lists[kind].v[w->heads[kind]++] : NULL;
}

/* It may be added once more from now on: promotion of something later in the run. */
static void forget(struct work *w, const struct item *it)
{
        struct str text = STR_INIT;

        line_text(&(struct sync_line){ it->kind, it->a, it->b }, &text);
        table_set(w->known, str_span(&text), NULL);
        str_deinit(&text);
}

struct item *work_next(struct work *w)
{
        struct item *it;

        for (int k = 0; k < SYNC_KINDS; k++)
                while ((it = take_first(w, (enum sync_kind)k)) != NULL) {
                        forget(w, it);
                        if (!it->superfluous)
                                return it;
                        item_free(it);
                }
        return w->later_head < w->later.n ? w->later.v[w->later_head++] : NULL;
}

bool work_is_empty(const struct work *w)
{
        for (int k = 0; k < SYNC_KINDS; k++)
                if (w->heads[k] < w->lists[k].n)
                        return false;
        return w->later_head == w->later.n;
}
