/*
 * imap_search_fuzz - the arguments of SEARCH, of FETCH and of SELECT's QRESYNC, out of the same octets: a program that was accepted decides on a message
 * without content, sections have labels, and nothing is read beyond the end.
 */
#include <stdint.h>
#include <stdlib.h>

#include "server/imap/fetch.h"
#include "server/imap/search_parse.h"
#include "server/imap/selected.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever name: the command itself, so filters lead into filters. */
static bool filter(const void *ctx, struct span name, struct span *value_r)
{
        *value_r = *(const struct span *)ctx;
        return name.len % 4 != 3;
}

static void search(struct span text, struct arena *arena, unsigned char first)
{
        struct uidset saved = UIDSET_INIT;
        struct search_sets sets = { .count = first % 4 * 5, .last_uid = first % 4 * 50, .saved = &saved,
                                    .filter = filter, .filter_ctx = &text };
        struct search_message m = { .uid = 3, .seqno = 2, .flags = first, .modseq = 7, .size = 100, .internaldate = 86400 };
        struct search_request r;
        struct search_eval *e;
        struct imap_parser ip;

        uidset_add_range(&saved, 2, 4);
        imap_parser_init(&ip, text, arena, first & 1);
        if (search_parse(&ip, &sets, &r) == 0) {
                must(imap_at_end(&ip) && r.program->keys_n <= SEARCH_KEYS_MAX);
                must(!r.extended || r.returns);
                e = search_eval_create(r.program);
                must(search_begin(e, &m) != SEARCH_ERROR);
                search_eval_destroy(&e);
        } else {
                must(ip.err.code != ERR_NONE && ip.err.text[0]);
        }
        uidset_deinit(&saved);
}

static void qresync(struct span text, struct arena *arena)
{
        struct imap_parser ip;
        struct qresync q;

        imap_parser_init(&ip, text, arena, false);
        if (qresync_parse(&ip, &q) == 0)
                must(q.since && q.uidvalidity && uidset_count(&q.match_seqnos) == uidset_count(&q.match_uids));
        else
                must(ip.err.code != ERR_NONE && ip.err.text[0]);
        qresync_deinit(&q);
}

/* SORT's and THREAD's arguments. */
static void sort(struct span text, struct arena *arena)
{
        struct uidset saved = UIDSET_INIT;
        struct search_sets sets = { .count = 7, .last_uid = 70, .saved = &saved };
        struct search_request r = { 0 };
        struct sort_criteria criteria;
        struct imap_parser ip;

        imap_parser_init(&ip, text, arena, true);
        if (search_parse_return(&ip, &r) == 0 && sort_criteria_parse(&ip, &criteria) == 0 && imap_sp(&ip) == 0 &&
            search_parse_charset_keys(&ip, &sets, &r) == 0) {
                must(imap_at_end(&ip) && criteria.n > 0 && criteria.n <= SORT_CRITERIA_MAX);
                must(!(r.returns & SEARCH_RETURN_PARTIAL) || (r.partial.first > 0 && r.partial.first <= r.partial.last));
        } else {
                must(ip.err.code != ERR_NONE && ip.err.text[0]);
        }
}

static void fetch(struct span text, struct arena *arena)
{
        struct fetch_request r;
        struct imap_parser ip;
        unsigned n = 0;

        imap_parser_init(&ip, text, arena, false);
        if (fetch_parse(&ip, &r) < 0) {
                must(ip.err.code != ERR_NONE && ip.err.text[0]);
                return;
        }
        must(imap_at_end(&ip) && (r.items || r.sections));
        for (const struct fetch_section *s = r.sections; s; s = s->next, n++)
                must(s->label.len > 5 && s->path_n <= FETCH_PATH_MAX && (!s->partial || s->count));
        must(n == r.sections_n && n <= FETCH_SECTIONS_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct arena arena = ARENA_INIT;
        char *copy;                                             /* exactly as long: a read beyond it is seen */

        if (size < 1)
                return 0;
        copy = malloc(size);
        must(copy);
        memcpy(copy, data, size);
        search((struct span){ copy + 1, size - 1 }, &arena, (unsigned char)copy[0]);
        sort((struct span){ copy + 1, size - 1 }, &arena);
        fetch((struct span){ copy + 1, size - 1 }, &arena);
        qresync((struct span){ copy, size }, &arena);
        free(copy);
        arena_deinit(&arena);
        return 0;
}
