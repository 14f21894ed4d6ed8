/*
 * search_filter - FILTER's stored searches (RFC 5466): annotations of the server, /private/filters/values/NAME, or /shared/… if there is
 * no private one. They are read off the worker, and only when the word is in the command at all.
 */
#include "server/imap/search_private.h"

#include "store/annot.h"

struct search_filters {
        struct imap *imap;
        struct annot *list;
        uint32_t n;
        bool asked;
        struct err err;
};

static void load_job(void *arg)
{
        struct search_filters *f = arg;

        server_annots(f->imap->store, f->imap->userid, &f->imap->s->arena, &f->list, &f->n, &f->err);
}

static bool mentioned(struct span text)
{
        for (size_t i = 0; i + 7 <= text.len; i++)
                if ((text.p[i] == 'F' || text.p[i] == 'f') && imap_word_is((struct span){ text.p + i, 7 }, "FILTER "))
                        return true;
        return false;
}

static enum cmd_result filters_load(struct imap *imap)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct search_filters *f = (struct search_filters *)(uintptr_t)imap->cmd.filters;

        if (f)
                return f->err.code == ERR_NONE ? CMD_DONE : CMD_CLOSE;
        if (!mentioned((struct span){ ip->p, (size_t)(ip->end - ip->p) }))
                return CMD_DONE;
        f = ARENA_NEW(&imap->s->arena, struct search_filters);
        f->imap = imap;
        imap->cmd.filters = f;
        return imap_offload(imap, OFFLOAD_DB, load_job, f);
}

bool search_cmd_begin(struct imap *imap, bool (*begin)(struct imap *), enum cmd_result *result_r)
{
        *result_r = filters_load(imap);
        if (*result_r == CMD_CLOSE)
                *result_r = imap_fail(imap, &imap->cmd.filters->err);
        else if (*result_r == CMD_DONE)
                return begin(imap);
        return false;
}

bool search_filter_find(const void *ctx, struct span name, struct span *value_r)
{
        static const char prefix[] = "/filters/values/";
        const struct search_filters *f = ctx;
        bool found = false;

        for (uint32_t i = 0; f && i < f->n; i++) {
                const struct annot *a = &f->list[i];

                if (strncmp(a->entry, prefix, sizeof prefix - 1) != 0 || !span_ieq_str(name, a->entry + sizeof prefix - 1) || !a->value.p)
                        continue;
                *value_r = a->value;
                found = true;
                if (*a->user)
                        break;                                  /* the private one goes first */
        }
        return found;
}
