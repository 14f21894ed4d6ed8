/*
 * imap - gathering commands from octets cut anywhere, and parsing their arguments by every rule there is.
 * The first octets choose the cuts, the state and the order of the rules; the rest is what a client sends.
 */
#include <stdlib.h>

#include "server/imap/parse.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One rule after the other, chosen by the octets of the input itself, until one fails or nothing is left. */
static void parse(struct span text, struct arena *arena, bool utf8, uint32_t choice)
{
        struct imap_parser ip;
        struct span s, *keywords;
        uint32_t n, flags;
        uint64_t m;
        int64_t t;
        bool nil;

        imap_parser_init(&ip, text, arena, utf8);
        for (unsigned step = 0; step < 4096 && !imap_at_end(&ip); step++) {
                const char *before = ip.p;
                int rc = 0;

                choice = choice * 1103515245 + 12345;
                switch ((choice >> 16) % 20) {
                case 0: rc = imap_tag(&ip, &s); break;
                case 1: rc = imap_atom(&ip, &s); break;
                case 2: rc = imap_atom_bracket(&ip, &s); break;
                case 3: rc = imap_astring(&ip, &s); break;
                case 4: rc = imap_string(&ip, &s); break;
                case 5: rc = imap_nstring(&ip, &s, &nil); break;
                case 6: rc = imap_list_mailbox(&ip, &s); break;
                case 7: rc = imap_number(&ip, &n); break;
                case 8: rc = imap_number64(&ip, &m); must(rc < 0 || m <= INT64_MAX); break;
                case 9: rc = imap_sequence(&ip, &s); break;
                case 10: rc = imap_date(&ip, &t); break;
                case 11: rc = imap_date_time(&ip, &t); break;
                case 12: rc = imap_flag(&ip, &s); break;
                case 13: rc = imap_flag_list(&ip, choice & 1, &flags, &keywords, &n); must(rc < 0 || n <= IMAP_FLAGS_MAX); break;
                case 14: rc = imap_streamed_literal(&ip, &n); break;
                case 15: rc = imap_open_paren(&ip); must(ip.depth <= IMAP_DEPTH_MAX); break;
                case 16: rc = imap_close_paren(&ip); break;
                case 17: rc = imap_sp(&ip); break;
                case 18: imap_skip_c(&ip, (char)choice); break;
                case 19: rc = imap_end(&ip); break;
                }
                must(ip.p >= before && ip.p <= ip.end);
                must(rc == 0 || ip.err.code == ERR_SYNTAX || ip.err.code == ERR_LIMIT);
                if (rc < 0 && ip.p < ip.end && (choice >> 8) % 4 == 0)
                        ip.p++;                         /* go on behind it, so that later rules see later octets */
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct imap_limits limits = { 500, 100, 600, 20, 300, 64, 1000, 200 };
        struct imap_gather *g;
        struct arena arena = ARENA_INIT;
        struct err err = ERR_INIT;
        size_t at = 0, used, step;
        bool authenticated;
        uint32_t seed;

        if (size < 4)
                return 0;
        step = data[0] ? data[0] : size;
        authenticated = data[1] & 1;
        seed = (uint32_t)data[2] << 8 | data[3];
        data += 4, size -= 4;
        g = imap_gather_create(&limits);
        imap_gather_reset(g, authenticated);
        while (at < size) {
                size_t n = size - at < step ? size - at : step;
                /* A copy of its own, so that reading beyond the piece is found. */
                char *piece = malloc(n);
                enum gather_result r;

                memcpy(piece, data + at, n);
                r = imap_gather_feed(g, (struct span){ piece, n }, &used, &err);
                free(piece);
                must(used <= n);
                at += used;
                must(imap_gather_text(g).len <= limits.total_max + limits.line_max + 16);
                switch (r) {
                case GATHER_MORE:
                        must(used == n);
                        break;
                case GATHER_LITERAL: {
                        uint64_t bytes = imap_gather_literal_bytes(g), some = (seed & 8) ? bytes / 2 : bytes;

                        if (some > size - at)
                                goto out;
                        at += some;
                        if (some == bytes)
                                imap_gather_literal_taken(g);
                        else if (imap_gather_literal_refuse(g, "no", true, some, &err) == GATHER_CLOSE)
                                goto out;
                        break;
                }
                case GATHER_COMMAND: {
                        struct span text = imap_gather_text(g);
                        char *copy = malloc(text.len + 1);

                        memcpy(copy, text.p, text.len);
                        parse((struct span){ copy, text.len }, &arena, seed & 1, seed);
                        free(copy);
                        arena_reset(&arena);
                        imap_gather_reset(g, authenticated);
                        break;
                }
                case GATHER_BAD:
                        must(err.code != ERR_NONE && imap_gather_tag(g).len <= IMAP_TAG_MAX);
                        imap_gather_reset(g, authenticated);
                        break;
                case GATHER_CONTINUE:
                        break;
                case GATHER_CLOSE:
                        goto out;
                }
        }
out:
        imap_gather_destroy(&g);
        arena_deinit(&arena);
        return 0;
}
