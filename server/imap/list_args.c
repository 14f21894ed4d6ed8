/* list_args - the grammar of LIST with its extensions (RFC 9051 9, RFC 5258 6, RFC 5819 4, RFC 6154 6) */
#include "server/imap/list_args.h"

#include "server/imap/status.h"
#include "util/array.h"

#define PATTERN_MAX 4096                        /* octets of all patterns together: matching one name costs at most these times its own */

/* ---- selection options ---- */

static const struct option {
        const char *name;
        size_t field;                           /* a bool of struct list */
} selections[] = {
        { "SUBSCRIBED", offsetof(struct list, subscribed) },
        { "RECURSIVEMATCH", offsetof(struct list, recursive) },
        { "SPECIAL-USE", offsetof(struct list, special) },
        { "REMOTE", offsetof(struct list, remote) },    /* RFC 5258 3.1: what is here is always listed; others may add remote ones */
}, returns[] = {
        { "SUBSCRIBED", offsetof(struct list, return_subscribed) },
        { "SPECIAL-USE", offsetof(struct list, return_special) },
        { "MYRIGHTS", offsetof(struct list, return_myrights) },         /* RFC 8440 */
        { "CHILDREN", 0 },                              /* always told */
};

static int set_option(struct list *l, const struct option *options, size_t n, struct span word)
{
        for (size_t i = 0; i < n; i++) {
                if (!imap_word_is(word, options[i].name))
                        continue;
                if (options[i].field)
                        *(bool *)((char *)l + options[i].field) = true;
                return 0;
        }
        return err_set(&l->imap->cmd.args.err, ERR_SYNTAX, "Unknown LIST option %.*s",
                       (int)(word.len < 40 ? word.len : 40), word.p);
}

static int parse_selection(struct list *l)
{
        struct imap_parser *ip = &l->imap->cmd.args;
        struct span word;

        if (imap_open_paren(ip) < 0)
                return -1;
        l->extended = true;
        while (!imap_peek_c(ip, ')'))
                if (imap_atom(ip, &word) < 0 || set_option(l, selections, ARRAY_LEN(selections), word) < 0 ||
                    (!imap_peek_c(ip, ')') && imap_sp(ip) < 0))
                        return -1;
        if (imap_close_paren(ip) < 0)
                return -1;
        if (l->recursive && !l->subscribed)             /* RFC 5258 6: list-select-mod-opt needs a base option */
                return err_set(&ip->err, ERR_SYNTAX, "RECURSIVEMATCH needs SUBSCRIBED");
        l->return_subscribed |= l->subscribed;
        return imap_sp(ip);
}

static int parse_return(struct list *l)
{
        struct imap_parser *ip = &l->imap->cmd.args;
        struct span word;

        if (imap_sp(ip) < 0 || imap_atom(ip, &word) < 0)
                return -1;
        if (!imap_word_is(word, "RETURN"))
                return err_set(&ip->err, ERR_SYNTAX, "RETURN expected");
        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                return -1;
        l->extended = true;
        while (!imap_peek_c(ip, ')')) {
                if (imap_atom(ip, &word) < 0)
                        return -1;
                if (imap_word_is(word, "STATUS")) {
                        if (imap_sp(ip) < 0 || !(l->status_items = imap_status_parse(ip)))
                                return -1;
                } else if (imap_word_is(word, "METADATA")) {
                        l->metadata = ARENA_NEW(&l->imap->s->arena, struct metadata_request);
                        l->metadata->maxsize = UINT64_MAX;
                        if (imap_sp(ip) < 0)
                                return -1;
                        if (!imap_peek_c(ip, '('))              /* RFC 9590 5, unlike RFC 5464 */
                                return err_set(&ip->err, ERR_SYNTAX, "METADATA needs a list of entries");
                        if (imap_metadata_entries(ip, &l->imap->s->arena, l->metadata) < 0)
                                return -1;
                } else if (set_option(l, returns, ARRAY_LEN(returns), word) < 0) {
                        return -1;
                }
                if (!imap_peek_c(ip, ')') && imap_sp(ip) < 0)
                        return -1;
        }
        return imap_close_paren(ip);
}

/* ---- patterns ---- */

static unsigned count_wildcards(struct span s)
{
        unsigned n = 0;

        for (size_t i = 0; i < s.len; i++)
                n += s.p[i] == '*' || s.p[i] == '%';
        return n;
}

static int add_pattern(struct list *l, struct span reference, struct span pattern)
{
        struct imap_parser *ip = &l->imap->cmd.args;
        char *joined;

        l->pattern_octets += reference.len + pattern.len;
        if (l->pattern_octets > PATTERN_MAX)
                return err_set(&ip->err, ERR_LIMIT, "Mailbox patterns are too long");
        l->wildcards += count_wildcards(pattern) + count_wildcards(reference);
        if (l->wildcards > MAILNAME_WILDCARDS_MAX)
                return err_set(&ip->err, ERR_LIMIT, "Mailbox patterns have too many wildcards");
        if (memchr(pattern.p ? pattern.p : "", 0, pattern.len) || memchr(reference.p ? reference.p : "", 0, reference.len))
                return err_set(&ip->err, ERR_SYNTAX, "NUL in a mailbox pattern");
        joined = arena_alloc(&l->imap->s->arena, reference.len + pattern.len + 1);
        if (reference.len)
                memcpy(joined, reference.p, reference.len);
        if (pattern.len)
                memcpy(joined + reference.len, pattern.p, pattern.len);
        l->patterns[l->patterns_n++] = (struct span){ joined, reference.len + pattern.len };
        return 0;
}

static int parse_patterns(struct list *l, struct span reference)
{
        struct imap_parser *ip = &l->imap->cmd.args;
        struct span pattern;

        l->patterns = ARENA_ARRAY(&l->imap->s->arena, struct span, LIST_PATTERNS_MAX);
        if (!imap_peek_c(ip, '(')) {
                if (imap_list_mailbox(ip, &pattern) < 0)
                        return -1;
                return add_pattern(l, pattern.len ? reference : SPAN(""), pattern);
        }
        l->extended = true;
        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                if (l->patterns_n == LIST_PATTERNS_MAX)
                        return err_set(&ip->err, ERR_LIMIT, "Too many mailbox patterns");
                if (imap_list_mailbox(ip, &pattern) < 0 || (pattern.len && add_pattern(l, reference, pattern) < 0))
                        return -1;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

static int parse_names(struct list *l)
{
        struct imap *imap = l->imap;
        struct imap_parser *ip = &imap->cmd.args;
        struct span reference;

        if (imap_astring(ip, &reference) < 0 || imap_sp(ip) < 0)
                return -1;
        if (conf_switch(imap->conf, imap_service(imap), "ignorereference"))
                reference = SPAN("");
        if (parse_patterns(l, reference) < 0)
                return -1;
        if (l->patterns_n == 1 && span_eq_str(l->patterns[0], "*") &&
            conf_switch(imap->conf, imap_service(imap), "foolstupidclients"))
                l->patterns[0] = SPAN("INBOX*");
        return 0;
}

bool list_parse(struct list *l)
{
        struct imap_parser *ip = &l->imap->cmd.args;

        if (imap_sp(ip) < 0 || (imap_peek_c(ip, '(') && parse_selection(l) < 0) || parse_names(l) < 0 ||
            (!imap_at_end(ip) && parse_return(l) < 0) || imap_end(ip) < 0) {
                imap_bad(l->imap, "%s", ip->err.text);
                return false;
        }
        return true;
}

bool list_parse_lsub(struct list *l)
{
        struct imap_parser *ip = &l->imap->cmd.args;

        if (imap_sp(ip) < 0 || parse_names(l) < 0 || imap_end(ip) < 0) {
                imap_bad(l->imap, "%s", ip->err.text);
                return false;
        }
        return true;
}
