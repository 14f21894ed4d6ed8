/*
 * search_fuzz - a program made from the first line finds the same in a message whether it is read in one go or in crumbs; what is left of
 * the input is the message.
 */
#include <stdint.h>

#include "store/search.h"
#include "util/arena.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_span(void *ctx, uint64_t offset, void *buf, size_t len, struct err *err)
{
        const struct span *message = ctx;

        (void)err;
        must(len > 0 && offset + len <= message->len);
        memcpy(buf, message->p + offset, len);
        return 0;
}

static const char *peek_span(void *ctx, uint64_t offset, size_t len)
{
        const struct span *message = ctx;

        must(len > 0 && offset + len <= message->len);
        return offset % 3 ? message->p + offset : NULL;
}

/* Each octet of the line is an operator; strings are what follows up to a comma. */
static struct search_program *build(struct arena *arena, struct span line)
{
        static const enum search_op ops[] = { SEARCH_AND, SEARCH_OR, SEARCH_NOT, SEARCH_HEADER, SEARCH_BODY, SEARCH_TEXT, SEARCH_SENTON,
                                              SEARCH_SENTBEFORE, SEARCH_LARGER, SEARCH_FLAGS, SEARCH_YOUNGER, SEARCH_ALL };
        static const char *const fields[] = { "Subject", "From", "Date", "Content-Type" };
        struct search_program *p = search_program_create(arena);
        struct search_key *parents[8] = { p->root }, *k;
        unsigned depth = 0;
        struct err err;

        p->now_s = 1000000000;
        while (line.len && p->keys_n < 40) {
                uint8_t c = (uint8_t)line.p[0];
                size_t end = span_index(line, ',');
                enum search_op op = ops[c % (sizeof ops / sizeof ops[0])];

                if (c & 0x80 && depth > 0)
                        depth--;
                k = search_key_add(p, parents[depth], op, &err);
                must(k);
                k->text = (struct span){ line.p + 1, end - 1 < 20 ? end - 1 : 20 };
                if (end == 0)
                        k->text.len = 0;
                k->field = span_of(fields[c / 16 % 4]);
                k->day = 13000 + c;
                k->number = c;
                if (op <= SEARCH_NOT && op != SEARCH_ALL && depth + 1 < 8)
                        parents[++depth] = k;
                end = end < line.len ? end + 1 : end;
                line.p += end;
                line.len -= end;
        }
        return search_program_finish(p, &err) == 0 ? p : NULL;
}

static enum search_result crumbs(const struct search_program *p, const struct search_message *m, uint32_t seed)
{
        struct search_eval *e = search_eval_create(p);
        enum search_result result = search_begin(e, m);
        struct err err;

        while (result == SEARCH_MORE) {
                uint64_t budget;

                seed = seed * 1103515245u + 12345u;
                budget = 1 + (seed >> 20);
                result = search_step(e, &budget, &err);
                if (seed & 0x1000)
                        search_eval_idle(e);
        }
        search_eval_destroy(&e);
        return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct span line = { (const char *)data, size }, message;
        struct arena arena = ARENA_INIT;
        struct search_message m = { 0 };
        struct search_program *p;
        struct search_eval *e;
        struct mime_result r;
        enum search_result whole;
        struct err err;

        line.len = span_index(line, '\n');
        message = line.len < size ? (struct span){ line.p + line.len + 1, size - line.len - 1 } : (struct span){ "", 0 };
        p = build(&arena, line);
        if (!p)
                goto out;
        mime_parse(message, &r);
        m.uid = m.seqno = 1;
        m.flags = (uint32_t)size;
        m.size = message.len;
        m.internaldate = 1000000000 - 50;
        m.has_sentdate = r.has_sentdate;
        m.sentdate = r.sentdate;
        m.parts = r.parts;
        m.parts_n = r.parts_n;
        m.ctx = &message;
        m.read = read_span;
        e = search_eval_create(p);
        whole = search_message(e, &m, &err);
        must(whole == SEARCH_YES || whole == SEARCH_NO);
        must(search_message(e, &m, &err) == whole);             /* nothing is left over from the message before */
        m.peek = peek_span;
        must(search_message(e, &m, &err) == whole);
        search_eval_destroy(&e);
        must(crumbs(p, &m, (uint32_t)size) == whole);
        m.peek = NULL;
        must(crumbs(p, &m, (uint32_t)size + 7) == whole);
        mime_result_deinit(&r);
out:
        arena_deinit(&arena);
        return 0;
}
