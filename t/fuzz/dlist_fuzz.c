/*
 * dlist - csync's grammar, cut at points the input chooses: whatever comes, the same in pieces as in one; within its limits; what is read can be
 * written by either side and is read back as the same.
 */
#include <stdlib.h>

#include "util/dlist.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct dlist_limits limits = { .word = 200, .literal = 300, .depth = 6, .items = 100, .memory = 40000, .octets = 8000, .file = 500 };

struct file { struct str octets; bool open; uint64_t want; };
struct heard { struct str text; struct file file; unsigned refuse_in; };

static int refuse(struct heard *h, struct err *err)
{
        if (h->refuse_in == 0 || --h->refuse_in)
                return 0;
        return err_set(err, ERR_NOSPACE, "refused");
}

static int file_begin(void *ctx, struct dlist *file, struct err *err)
{
        struct heard *h = ctx;

        must(!h->file.open && file->kind == DLIST_FILE && file->size <= limits.file && file->value.len > 0);
        h->file = (struct file){ .octets = h->file.octets, .open = true, .want = file->size };
        str_clear(&h->file.octets);
        return refuse(h, err);
}

static int file_write(void *ctx, const char *p, size_t len, struct err *err)
{
        struct heard *h = ctx;

        must(h->file.open && len > 0);
        str_append(&h->file.octets, p, len);
        must(h->file.octets.len <= h->file.want);
        return 0 * (err != NULL);
}

static int file_end(void *ctx, struct dlist *file, struct err *err)
{
        struct heard *h = ctx;

        must(h->file.open && h->file.octets.len == h->file.want && file->size == h->file.want);
        h->file.open = false;
        str_printf(&h->text, "[%zu]", h->file.octets.len);
        return refuse(h, err);
}

static bool streams(void *ctx, struct span key) { (void)ctx; return span_eq_str(key, "R"); }

/* Written by one side, and checked for its shape on the way. */
static uint32_t write_out(const struct dlist *d, bool in_kv, struct dlist_writer *w, unsigned depth)
{
        const char *key = d->key.p && (in_kv || depth == 0) ? d->key.p : NULL;
        uint32_t n = 1, children = 0;

        must(depth <= limits.depth && (d->key.p != NULL) == (in_kv || depth == 0));
        switch (d->kind) {
        case DLIST_NIL: dlist_write_nil(w, key); break;
        case DLIST_ATOM:
        case DLIST_STRING:
                must(d->value.p && d->value.p[d->value.len] == '\0' && d->value.len <= limits.literal);
                dlist_write_str(w, key, d->value);
                break;
        case DLIST_FILE:                        /* its octets are gone: something as long */
                dlist_write_u64(w, key, d->size);
                break;
        case DLIST_LIST:
        case DLIST_KVLIST:
                if (d->kind == DLIST_LIST)
                        dlist_write_list(w, key);
                else
                        dlist_write_kvlist(w, key);
                for (const struct dlist *c = d->first; c; c = c->next, children++)
                        n += write_out(c, d->kind == DLIST_KVLIST, w, depth + 1);
                must(children <= d->n && (!d->last || !d->last->next));
                dlist_write_end(w);
        }
        return n;
}

static int element(void *ctx, struct span key, const struct dlist *d, struct err *err)
{
        struct heard *h = ctx;
        struct dlist_writer w;

        must(span_eq_str(key, "R") && !d->key.p);
        dlist_writer_init(&w, &h->text, DLIST_SERVER);
        write_out(d, false, &w, 1);
        return refuse(h, err);
}

/* Keys that are no plain words cannot be written (nobody has such). */
static bool plain_keys(const struct dlist *d)
{
        if (d->key.p && (d->key.len == 0 || memchr(d->key.p, 0, d->key.len) || strpbrk(d->key.p, " \t\r\n()\"{%")))
                return false;
        for (const struct dlist *c = d->first; c; c = c->next)
                if (!plain_keys(c))
                        return false;
        return true;
}

/* All of the lines in `in` as one text. */
static void parse(struct span in, size_t piece, unsigned refuse_in, struct str *out)
{
        struct arena arena = ARENA_INIT;
        struct heard h = { STR_INIT, { STR_INIT, false, 0 }, refuse_in };
        const struct dlist_hooks hooks = { &h, file_begin, file_write, file_end, streams, element };
        struct dlist_parser *p = dlist_parser_create(&arena, &limits, &hooks);

        for (size_t at = 0; at < in.len;) {
                size_t n = in.len - at < piece ? in.len - at : piece, used;
                struct dlist_writer w;
                struct dlist *item;
                struct err err = ERR_INIT;
                int rc = dlist_parse(p, (struct span){ in.p + at, n }, &used, &item, &err);

                must(used <= n && (rc != 0 || used == n) && (rc == 0 || used > 0));
                must(arena.used <= limits.memory + 4096);
                at += used;
                if (rc == 0)
                        continue;
                must((rc > 0) == (item != NULL));
                if (rc > 0) {
                        must(!h.file.open && item->key.p);
                        dlist_writer_init(&w, &h.text, DLIST_SERVER);
                        write_out(item, false, &w, 0);
                } else {
                        must(err.code != ERR_NONE);
                        str_printf(&h.text, "-%d%d%d", err.code, dlist_in_step(p), dlist_had_octets(p));
                        h.file.open = false;
                }
                str_append_c(&h.text, '\n');
                must(dlist_is_idle(p));
                arena_reset(&arena);
        }
        str_append_span(out, str_span(&h.text));
        str_deinit(&h.text);
        str_deinit(&h.file.octets);
        dlist_parser_destroy(&p);
        arena_deinit(&arena);
}

/* The first line, written by each side, is read back as what it was. */
static void back_and_forth(struct span in)
{
        static const struct dlist_limits large = DLIST_LIMITS_DEFAULT;
        struct arena arena = ARENA_INIT;
        struct dlist_parser *p = dlist_parser_create(&arena, &large, NULL);
        struct dlist *item, *again;
        struct err err = ERR_INIT;
        size_t used;

        if (dlist_parse(p, in, &used, &item, &err) == 1 && plain_keys(item)) {
                struct str first = STR_INIT, second = STR_INIT;
                struct dlist_writer w;

                for (int side = DLIST_CLIENT; side <= DLIST_SERVER; side++) {
                        str_clear(&first);
                        str_clear(&second);
                        dlist_writer_init(&w, &first, (enum dlist_side)side);
                        write_out(item, false, &w, 0);
                        str_append(&first, "\r\n", 2);
                        must(dlist_parse(p, str_span(&first), &used, &again, &err) == 1 && used == first.len);
                        dlist_writer_init(&w, &second, (enum dlist_side)side);
                        write_out(again, false, &w, 0);
                        str_append(&second, "\r\n", 2);
                        must(span_eq(str_span(&first), str_span(&second)));
                }
                str_deinit(&first);
                str_deinit(&second);
        }
        dlist_parser_destroy(&p);
        arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct str whole = STR_INIT, pieces = STR_INIT;
        char *copy;

        if (size < 2)
                return 0;
        copy = xmalloc(size);
        memcpy(copy, data + 1, size - 1);
        parse((struct span){ copy, size - 1 }, size, data[0] >> 5, &whole);
        parse((struct span){ copy, size - 1 }, data[0] % 7 + 1, data[0] >> 5, &pieces);
        must(span_eq(str_span(&whole), str_span(&pieces)));
        back_and_forth((struct span){ copy, size - 1 });
        free(copy);
        str_deinit(&whole);
        str_deinit(&pieces);
        return 0;
}
