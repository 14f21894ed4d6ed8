/*
 * mime_structure - where one part's structure stands in the message's rendered BODYSTRUCTURE; see mime.h
 * What mime_render.c writes: items with one blank between, lists, quoted strings, literals, NIL and numbers. Text from a damaged disk may be
 * anything: it gives "no", never a place outside the text.
 */
#include "store/mime_private.h"

/* Over one quoted string; *at is at its first quote. */
static bool skip_quoted(struct span s, size_t *at)
{
        for (++*at; *at < s.len && s.p[*at] != '"'; ++*at)
                if (s.p[*at] == '\\')
                        ++*at;
        return (*at)++ < s.len;
}

static bool skip_literal(struct span s, size_t *at)
{
        uint64_t n = 0;

        for (++*at; *at < s.len && s.p[*at] >= '0' && s.p[*at] <= '9' && n <= s.len; ++*at)
                n = n * 10 + (uint64_t)(s.p[*at] - '0');
        if (s.len - *at < 3 || memcmp(s.p + *at, "}\r\n", 3) != 0 || n > s.len - *at - 3)
                return false;
        *at += 3 + (size_t)n;
        return true;
}

static bool skip_string(struct span s, size_t *at)
{
        return s.p[*at] == '"' ? skip_quoted(s, at) : skip_literal(s, at);
}

static bool is_string(struct span s, size_t at)
{
        return at < s.len && (s.p[at] == '"' || s.p[at] == '{');
}

static bool skip_list(struct span s, size_t *at)
{
        size_t depth = 0;

        do {
                if (*at >= s.len)
                        return false;
                if (is_string(s, *at)) {
                        if (!skip_string(s, at))
                                return false;
                        continue;
                }
                depth += s.p[*at] == '(';
                depth -= s.p[*at] == ')';
                ++*at;
        } while (depth > 0);
        return true;
}

/* Over one item: a list, a string or a word. */
static bool skip_item(struct span s, size_t *at)
{
        size_t start = *at;

        if (is_string(s, *at))
                return skip_string(s, at);
        if (*at < s.len && s.p[*at] == '(')
                return skip_list(s, at);
        while (*at < s.len && s.p[*at] != ' ' && s.p[*at] != ')' && s.p[*at] != '(')
                ++*at;
        return *at > start;
}

/* Over n items that have a blank behind them. */
static bool skip_items(struct span s, size_t *at, unsigned n)
{
        for (; n > 0; n--)
                if (!skip_item(s, at) || *at >= s.len || s.p[(*at)++] != ' ')
                        return false;
        return true;
}

/* From a part's list to the one of its child. */
static bool descend(struct span s, size_t *at, const struct mime_part *parent, uint32_t number)
{
        ++*at;                                          /* the parenthesis */
        if (parent->kind == MIME_MESSAGE)               /* type, subtype, parameters, id, description, encoding, size, envelope */
                return skip_items(s, at, 8);
        for (; number > 1; number--)
                if (*at >= s.len || s.p[*at] != '(' || !skip_item(s, at))
                        return false;
        return true;
}

bool mime_structure_find(struct span structure, const struct mime_part *parts, size_t n, size_t part, struct mime_structure *r)
{
        uint16_t chain[2 * MIME_DEPTH_MAX + 2];
        size_t depth = 0, at = 0;

        for (size_t i = part; i < n && parts[i].parent != MIME_PART_NO_PARENT; i = parts[i].parent) {
                if (depth == sizeof chain / sizeof chain[0])
                        return false;
                chain[depth++] = (uint16_t)i;
        }
        if (part >= n)
                return false;
        while (depth > 0) {
                const struct mime_part *p = &parts[chain[--depth]];

                if (at >= structure.len || structure.p[at] != '(' || !descend(structure, &at, &parts[p->parent], p->number))
                        return false;
        }
        r->begin = r->end = at;
        if (at >= structure.len || structure.p[at] != '(' || !skip_item(structure, &r->end))
                return false;
        r->encoding = r->size = r->lines = r->rest = 0;
        if (parts[part].kind == MIME_MULTIPART)
                return true;
        at++;
        if (!skip_items(structure, &at, 5))
                return false;
        r->encoding = at;
        if (!skip_items(structure, &at, 1))
                return false;
        r->size = r->lines = at;
        if (parts[part].kind == MIME_TEXT && !skip_items(structure, &r->lines, 1))
                return false;
        r->rest = r->lines;
        return skip_item(structure, &r->rest);
}
