/* client_folders - the replica's mailboxes as one reply told of them, found by unique id and by name. */
#include "replication/client_private.h"

#include <stdlib.h>

void folders_init(struct folders *f)
{
        *f = (struct folders){ .arena = ARENA_INIT };
        f->by_id = table_create();
        f->by_name = table_create();
}

void folders_deinit(struct folders *f)
{
        table_destroy(&f->by_id);
        table_destroy(&f->by_name);
        ARRAY_FREE(&f->list);
        arena_deinit(&f->arena);
}

struct folder *folders_by_id(const struct folders *f, const char *uniqueid)
{
        return uniqueid && *uniqueid ? table_find(f->by_id, span_of(uniqueid)) : NULL;
}

struct folder *folders_by_name(const struct folders *f, const char *name)
{
        return table_find(f->by_name, span_of(name));
}

struct folder *folders_add(struct folders *f, const struct replica_values *v)
{
        struct folder *folder = ARENA_NEW(&f->arena, struct folder);

        folder->v = *v;
        *ARRAY_PUSH(&f->list) = folder;
        table_set(f->by_name, span_of(v->name), folder);
        if (*v->uniqueid)
                table_set(f->by_id, span_of(v->uniqueid), folder);
        return folder;
}

void folders_forget(struct folders *f, const struct folder *folder)
{
        if (folders_by_name(f, folder->v.name) == folder)
                table_set(f->by_name, span_of(folder->v.name), NULL);
}

void folders_rename(struct folders *f, struct folder *folder, const char *name)
{
        if (folders_by_name(f, folder->v.name) == folder)
                table_set(f->by_name, span_of(folder->v.name), NULL);
        folder->v.name = arena_strdup(&f->arena, name);
        folder->renamed = true;
        table_set(f->by_name, span_of(folder->v.name), folder);
}

/* For all who ask: what a reply says twice counts once. */
static int take_mailbox(void *ctx, const struct dlist *item, struct err *err)
{
        struct folders *f = ctx;
        struct replica_values v;

        if (!span_eq_str(item->key, "MAILBOX"))
                return 0;
        if (client_values_parse(item, false, &f->arena, &v, err) < 0)
                return -1;
        if (v.type != MBTYPE_DELETED && !folders_by_id(f, v.uniqueid))
                folders_add(f, &v);
        return 0;
}

/*
 * Mailboxes of ours that the replica did not tell of under the names it was asked for: has it them under others? After a rename of a user it has.
 * 3.6.1's own client never asks, its server answers; one that refuses is taken for one that knows of none.
 */
enum client_result client_get_uniqueids(struct client *c, const char *const *names, size_t n, struct folders *f, struct err *err)
{
        struct client_reply reply = { .line = take_mailbox, .ctx = f };
        struct arena arena = ARENA_INIT;
        enum client_result r = CLIENT_OK;
        size_t wanted = 0;

        client_begin(c, "GET");
        dlist_write_list(&c->w, "UNIQUEIDS");
        for (size_t i = 0; i < n; i++) {
                struct replica_values v;

                if (replica_entry(c->store, names[i], &arena, &v) && v.type == MBTYPE_NORMAL && !folders_by_id(f, v.uniqueid)) {
                        dlist_write_text(&c->w, NULL, v.uniqueid);
                        wanted++;
                }
                arena_reset(&arena);
        }
        dlist_write_end(&c->w);
        arena_deinit(&arena);
        if (wanted)
                r = client_finish(c, &reply, err);
        if (r == CLIENT_FAILED || r == CLIENT_PUT_OFF) {
                err_clear(err);
                r = CLIENT_OK;
        }
        return r;
}

enum client_result client_get_mailboxes(struct client *c, const char *const *names, size_t n, struct folders *f, struct err *err)
{
        struct client_reply reply = { .line = take_mailbox, .ctx = f };
        enum client_result r;

        client_begin(c, "GET");
        dlist_write_list(&c->w, "MAILBOXES");
        for (size_t i = 0; i < n; i++)
                dlist_write_text(&c->w, NULL, names[i]);
        dlist_write_end(&c->w);
        r = client_finish(c, &reply, err);
        if (r == CLIENT_FAILED && client_replied(c, "IMAP_MAILBOX_NONEXISTENT")) {
                err_clear(err);
                r = CLIENT_OK;
        }
        return r;
}
