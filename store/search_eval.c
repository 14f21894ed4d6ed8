/*
 * search_eval - the evaluator: reads as much of a message as the answer needs, in slices; see search.h
 *
 * Order: the message's own header, when HEADER, SENT… or TEXT keys are open; then, for open BODY and TEXT keys, part by part in the
 * order of their octets. After each window that found something the tree is asked again, and reading ends once it has an
 * answer. What is still open when all was read is a no.
 */
#include "store/search_private.h"

#include <stdlib.h>

#include "util/must.h"

#define RAW_MAX 16384                           /* octets read at a time */
#define PIECE_COST 100                          /* beginning with a piece counts as much as this many octets */
#define PART_HEADER_MAX 65536                   /* looked at for a part's charset */

struct search_eval *search_eval_create(const struct search_program *p)
{
        struct search_eval *e = xcalloc(1, sizeof *e);

        must(p->by_index);                      /* search_program_finish() */
        e->program = p;
        e->value = xcalloc(p->keys_n, sizeof *e->value);
        e->headers.v = xcalloc(p->keys_n, sizeof *e->headers.v);
        e->bodies.v = xcalloc(p->keys_n, sizeof *e->bodies.v);
        e->texts.v = xcalloc(p->keys_n, sizeof *e->texts.v);
        str_init(&e->window);
        str_init(&e->field);
        str_init(&e->field_name);
        str_init(&e->value_text);
        str_init(&e->scratch);
        return e;
}

void search_eval_destroy(struct search_eval **ep)
{
        struct search_eval *e = *ep;

        *ep = NULL;
        if (!e)
                return;
        search_eval_idle(e);
        text_stream_destroy(&e->stream);
        str_deinit(&e->window);
        str_deinit(&e->field);
        str_deinit(&e->field_name);
        str_deinit(&e->value_text);
        free(e->value);
        free(e->headers.v);
        free(e->bodies.v);
        free(e->texts.v);
        free(e);
}

void search_eval_idle(struct search_eval *e)
{
        free(e->raw);
        e->raw = NULL;
        e->raw_n = 0;
        str_deinit(&e->scratch);
        str_shrink(&e->window);
        str_shrink(&e->field);
        str_shrink(&e->field_name);
        str_shrink(&e->value_text);
}

void search_set_ctx(struct search_eval *e, void *ctx)
{
        e->msg.ctx = ctx;
}

/* ---- reading ---- */

static uint64_t message_size(const struct search_message *m)
{
        return m->parts_n ? (uint64_t)m->parts[0].header_len + m->parts[0].body_len : 0;
}

/* Octets of the message at `offset`, at least 1 and at most `want`, which is not 0: what is in the window, or a new one. */
static int raw_at(struct search_eval *e, uint64_t offset, uint64_t want, struct span *out_r, struct err *err)
{
        uint64_t ahead;
        size_t have;

        if (e->raw_n && offset >= e->raw_off && offset < e->raw_off + e->raw_n) {
                have = (size_t)(e->raw_off + e->raw_n - offset);
                *out_r = (struct span){ e->raw + (offset - e->raw_off), have < want ? have : (size_t)want };
                return 0;
        }
        if (e->msg.peek) {
                size_t n = want < RAW_MAX ? (size_t)want : RAW_MAX;
                const char *p = e->msg.peek(e->msg.ctx, offset, n);

                if (p) {
                        *out_r = (struct span){ p, n };
                        return 0;
                }
        }
        /* With text to be looked at, what follows will be wanted as well: small messages are one read. */
        ahead = e->bodies.n || e->texts.n ? message_size(&e->msg) - offset : want;
        have = ahead < RAW_MAX ? (size_t)ahead : RAW_MAX;
        if (!e->raw)
                e->raw = xmalloc(RAW_MAX);
        e->raw_n = 0;
        if (e->msg.read(e->msg.ctx, offset, e->raw, have, err) < 0)
                return -1;
        e->raw_off = offset;
        e->raw_n = have;
        *out_r = (struct span){ e->raw, have < want ? have : (size_t)want };
        return 0;
}

static void spend(uint64_t *budget, uint64_t cost)
{
        *budget = *budget > cost ? *budget - cost : 0;
}

/* The charset that a part's header names, or "". */
static int part_charset(struct search_eval *e, const struct mime_part *part, struct str *charset, uint64_t *budget, struct err *err)
{
        uint64_t at = part->header_off, end = at + (part->header_len < PART_HEADER_MAX ? part->header_len : PART_HEADER_MAX);
        struct str header = STR_INIT;
        struct span piece;
        int ret = 0;

        while (at < end && ret == 0) {
                ret = raw_at(e, at, end - at, &piece, err);
                if (ret == 0) {
                        str_append_span(&header, piece);
                        at += piece.len;
                        spend(budget, piece.len);
                }
        }
        if (ret == 0)
                mime_header_charset(str_span(&header), charset);
        str_deinit(&header);
        return ret;
}

/* ---- where to read next ---- */

static int text_begin(struct search_eval *e, const struct mime_part *part, uint64_t *budget, struct err *err)
{
        struct str charset = STR_INIT;
        bool decode = part->encoding == TRANSFER_BASE64 || part->encoding == TRANSFER_QUOTED_PRINTABLE;
        int ret = 0;

        e->where = WHERE_TEXT;
        e->at = part->body_off;
        e->end = e->at + part->body_len;
        if (part->charset == MIME_CHARSET_OTHER)
                ret = part_charset(e, part, &charset, budget, err);
        if (ret == 0 && (decode || charset.len))
                e->stream = text_stream_create((enum transfer_encoding)part->encoding, str_span(&charset), true);
        e->casemap = (struct casemap)CASEMAP_INIT;
        str_deinit(&charset);
        return ret;
}

static void header_begin(struct search_eval *e, const struct mime_part *part, enum where where)
{
        e->where = where;
        e->at = part->header_off;
        e->end = e->at + part->header_len;
}

/* The segment that e->where named is done; find the next that matters. WHERE_NOTHING: all was read. */
static int next_segment(struct search_eval *e, uint64_t *budget, struct err *err)
{
        enum where was = e->where;

        for (;;) {
                const struct mime_part *part = &e->msg.parts[e->part];

                if (was != WHERE_TEXT && part->kind == MIME_TEXT && (e->bodies.n || e->texts.n))
                        return text_begin(e, part, budget, err);
                if (++e->part >= e->msg.parts_n || (!e->bodies.n && !e->texts.n)) {
                        e->where = WHERE_NOTHING;
                        return 0;
                }
                if (e->texts.n) {
                        header_begin(e, &e->msg.parts[e->part], WHERE_PART_HEADER);
                        return 0;
                }
                was = WHERE_PART_HEADER;
        }
}

/* ---- one message ---- */

enum search_result search_begin(struct search_eval *e, const struct search_message *msg)
{
        enum tri root;

        e->msg = *msg;
        e->where = WHERE_NOTHING;
        e->raw_n = 0;
        text_stream_destroy(&e->stream);
        str_clear(&e->window);
        str_clear(&e->field);
        str_clear(&e->value_text);
        e->field_cut = e->field_gap = e->window_any = false;
        memset(e->value, TRI_OPEN, e->program->keys_n);
        root = search_evaluate(e);
        if (root != TRI_OPEN)
                return root == TRI_YES ? SEARCH_YES : SEARCH_NO;
        search_collect(e);
        e->where = WHERE_HEADER;
        e->part = 0;
        e->at = e->end = 0;                     /* search_step() begins */
        return SEARCH_MORE;
}

static enum search_result finished(struct search_eval *e, enum tri root)
{
        e->where = WHERE_NOTHING;
        text_stream_destroy(&e->stream);
        return root == TRI_YES ? SEARCH_YES : SEARCH_NO;
}

/* The message's own header was seen: its keys that found nothing are settled. */
static void settle_headers(struct search_eval *e)
{
        for (unsigned i = 0; i < e->headers.n; i++) {
                const struct search_key *k = e->program->by_index[e->headers.v[i]];

                e->value[k->index] = TRI_NO;
                if (k->op != SEARCH_HEADER)             /* no readable Date: after all; the record's day must do */
                        e->value[k->index] = (uint8_t)search_sent(k, e->msg.sentdate / 86400 - (e->msg.sentdate % 86400 < 0));
        }
        e->headers.n = 0;
}

static void settle_all(struct search_eval *e)
{
        for (unsigned i = 0; i < e->bodies.n; i++)
                e->value[e->bodies.v[i]] = TRI_NO;
        for (unsigned i = 0; i < e->texts.n; i++)
                e->value[e->texts.v[i]] = TRI_NO;
}

static bool text_feed(struct search_eval *e, struct span in, bool last)
{
        size_t before = e->window.len;

        if (e->stream)
                text_stream_feed(e->stream, in, &e->window);
        else
                casemap_feed(&e->casemap, in, &e->window);
        if (last && e->stream)
                text_stream_finish(e->stream, &e->window);
        else if (last)
                casemap_finish(&e->casemap, &e->window);
        if (last)
                text_stream_destroy(&e->stream);
        e->window_any |= e->window.len > before;
        return search_window(e, false, last);
}

/* Read and look at one piece of the present segment. Returns -1, or whether a key got its answer. */
static int one_piece(struct search_eval *e, uint64_t *budget, struct err *err)
{
        uint64_t want = e->end - e->at;
        struct span piece = { "", 0 };
        unsigned needles = e->headers.n + e->bodies.n + e->texts.n;
        bool last;

        if (want > RAW_MAX)
                want = RAW_MAX;
        if (want && raw_at(e, e->at, want, &piece, err) < 0)
                return -1;
        e->at += piece.len;
        last = e->at == e->end;
        spend(budget, PIECE_COST + piece.len * (1 + needles / 4));
        if (e->where == WHERE_TEXT)
                return text_feed(e, piece, last);
        return search_header_feed(e, piece, last, e->where == WHERE_HEADER);
}

enum search_result search_step(struct search_eval *e, uint64_t *budget, struct err *err)
{
        must(e->where != WHERE_NOTHING);
        if (e->where == WHERE_HEADER && e->end == 0) {
                if (!mime_parts_valid(e->msg.parts, e->msg.parts_n, message_size(&e->msg))) {
                        err_set(err, ERR_CORRUPT, "the part table of uid %u", e->msg.uid);
                        goto failed;
                }
                if (e->headers.n || e->texts.n)
                        header_begin(e, &e->msg.parts[0], WHERE_HEADER);
        }
        while (*budget) {
                int found = one_piece(e, budget, err);
                bool ask = found > 0, done = e->at == e->end;
                enum tri root;

                if (found < 0)
                        goto failed;
                if (done && e->where == WHERE_HEADER) {
                        settle_headers(e);
                        ask = true;
                }
                if (ask) {
                        root = search_evaluate(e);
                        if (root != TRI_OPEN)
                                return finished(e, root);
                        search_collect(e);
                }
                if (done && next_segment(e, budget, err) < 0)
                        goto failed;
                if (e->where == WHERE_NOTHING) {
                        settle_all(e);
                        root = search_evaluate(e);
                        must(root != TRI_OPEN);
                        return finished(e, root);
                }
        }
        return SEARCH_MORE;
failed:
        e->where = WHERE_NOTHING;
        text_stream_destroy(&e->stream);
        return SEARCH_ERROR;
}

enum search_result search_message(struct search_eval *e, const struct search_message *msg, struct err *err)
{
        enum search_result result = search_begin(e, msg);

        while (result == SEARCH_MORE) {
                uint64_t budget = UINT64_MAX;

                result = search_step(e, &budget, err);
        }
        return result;
}
