/* append_parse - the grammar of APPEND and REPLACE (RFC 9051 9, RFC 4466 6, RFC 4469 5, RFC 8508 5, RFC 5257 5); see append.h */
#include "server/imap/append.h"

struct reader {
        struct imap_parser *ip;
        bool partial;                           /* the text may end with a literal … */
        bool ended;                             /* … and did */
};

static int literal(struct reader *r, uint32_t *k_r)
{
        if (r->partial) {
                struct imap_parser before = *r->ip;

                imap_skip_c(r->ip, '~');
                r->ended = imap_at_end(r->ip);
                if (r->ended)
                        return 0;
                *r->ip = before;
        }
        return imap_streamed_literal(r->ip, k_r);
}

/* [flag-list SP] [date-time SP] */
static int parse_options(struct imap_parser *ip, struct append_item *item)
{
        struct span *keywords;

        *item = (struct append_item){ .internaldate = INT64_MIN, .savedate = INT64_MIN };
        if (imap_peek_c(ip, '(')) {
                if (imap_flag_list(ip, false, &item->flags, &keywords, &item->keyword_count) < 0 || imap_sp(ip) < 0)
                        return -1;
                item->keywords = keywords;
        }
        if (imap_peek_c(ip, '"') && (imap_date_time(ip, &item->internaldate) < 0 || imap_sp(ip) < 0))
                return -1;
        return 0;
}

/* "TEXT" SP literal / "URL" SP astring */
static int parse_part(struct reader *r, struct append_part *part)
{
        struct imap_parser *ip = r->ip;
        struct span word;

        if (imap_atom(ip, &word) < 0 || imap_sp(ip) < 0)
                return -1;
        part->is_url = imap_word_is(word, "URL");
        if (part->is_url)
                return imap_astring(ip, &part->url);
        if (!imap_word_is(word, "TEXT"))
                return err_set(&ip->err, ERR_SYNTAX, "TEXT or URL expected");
        return literal(r, &part->literal);
}

static int parse_catenate(struct reader *r, struct append_message *m, struct append_request *request)
{
        struct imap_parser *ip = r->ip;
        struct append_part **next = &m->parts;
        unsigned n = 0;

        m->catenate = true;
        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                return -1;
        do {
                if (++n > APPEND_PARTS_MAX)
                        return err_set(&ip->err, ERR_LIMIT, "More than %d parts in CATENATE", APPEND_PARTS_MAX);
                *next = ARENA_NEW(ip->arena, struct append_part);
                if (parse_part(r, *next) < 0)
                        return -1;
                if (r->ended) {
                        request->wants_piece = true;
                        return 0;
                }
                next = &(*next)->next;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

static int parse_message(struct reader *r, struct append_message *m, struct append_request *request)
{
        struct imap_parser *ip = r->ip;
        struct span word;

        if (imap_sp(ip) < 0 || parse_options(ip, &m->item) < 0)
                return -1;
        for (;;) {
                if (imap_at_end(ip) || imap_peek_c(ip, '{') || imap_peek_c(ip, '~'))
                        return literal(r, &m->literal);
                if (imap_atom(ip, &word) < 0)
                        return -1;
                if (!imap_word_is(word, "ANNOTATION") || m->annotations.n)
                        break;
                if (imap_sp(ip) < 0 || annotation_parse_set(ip, &m->annotations) < 0 || imap_sp(ip) < 0)        /* RFC 5257 4.7 */
                        return -1;
        }
        if (imap_word_is(word, "UTF8"))                         /* RFC 6855 4, gone in RFC 9755: nothing but parentheses */
                return imap_sp(ip) < 0 || imap_open_paren(ip) < 0 || literal(r, &m->literal) < 0 ? -1 : r->ended ? 0 : imap_close_paren(ip);
        if (!imap_word_is(word, "CATENATE"))
                return err_set(&ip->err, ERR_SYNTAX, "Message literal or CATENATE expected");
        return parse_catenate(r, m, request);
}

/* seq-number, or uniqueid */
static int parse_number(struct imap_parser *ip, struct span *number_r)
{
        const char *start = ip->p;
        uint32_t n = 1;

        if (imap_sp(ip) < 0)
                return -1;
        start = ip->p;
        if (!imap_skip_c(ip, '*') && imap_number(ip, &n) < 0)
                return -1;
        *number_r = (struct span){ start, (size_t)(ip->p - start) };
        return n ? 0 : err_set(&ip->err, ERR_SYNTAX, "Message numbers begin at 1");
}

int append_parse(struct imap_parser *ip, bool replace, bool partial, struct append_request *request)
{
        struct reader r = { .ip = ip, .partial = partial };
        struct append_message **next = &request->messages;

        *request = (struct append_request){ 0 };
        if (replace && parse_number(ip, &request->number) < 0)
                return -1;
        if (imap_sp(ip) < 0 || imap_astring(ip, &request->mailbox) < 0)
                return -1;
        do {
                if (replace && request->messages_n)
                        return imap_end(ip);                    /* RFC 8508 4.7 */
                *next = ARENA_NEW(ip->arena, struct append_message);
                if (parse_message(&r, *next, request) < 0)
                        return -1;
                request->messages_n++;
                next = &(*next)->next;
        } while (!r.ended && !imap_at_end(ip));
        return partial && !r.ended ? err_set(&ip->err, ERR_SYNTAX, "A literal does not belong here") : 0;
}
