/*
 * dlist - see dlist.h. The parser is a state machine over octets: what is in the middle of a value is in p->state and p->token, what is open
 * around it in p->stack. Octets of literals and files are taken in pieces, all others one by one.
 *
 * A line that is refused (p->refused) is read on by the same machine, but nothing is kept of it: the stack has frames without a list.
 */
#include "util/dlist.h"

#include <inttypes.h>
#include <stdlib.h>

#include "util/must.h"

enum state {
        AT_ITEM,                /* before an item of the line or of a kvlist */
        AT_VALUE,               /* before a value: behind a key, or in a list */
        IN_ATOM,
        IN_QUOTED,
        IN_ESCAPE,              /* behind the backslash in a quoted string */
        IN_LITERAL_HEAD,        /* behind "{" */
        IN_LITERAL_HEAD_CR,     /* behind "}": CRLF */
        IN_LITERAL,
        AT_PERCENT,             /* behind "%" at the start of a value */
        IN_FILE_HEAD,           /* behind "%{" */
        IN_FILE_HEAD_CR,
        IN_FILE,
        AFTER,                  /* behind a value that has an end of its own: a blank, a closing parenthesis or the line's end */
};

#define HEAD_MAX (DLIST_PARTITION_MAX + 2 * GUID_SIZE + 20 + 2)        /* between the braces */

struct frame {
        struct dlist *list;                     /* NULL: the line is refused */
        bool keys;
        bool streams;                           /* its children go to hooks.element */
};

struct dlist_parser {
        struct arena *arena;
        struct arena scratch;                   /* one element of a streamed list */
        struct dlist_limits limits;
        struct dlist_hooks hooks;

        enum state state;
        bool is_key;                            /* the token is a key */
        bool have_key;                          /* p->key is the key of the value that comes */
        struct str token, key;
        uint64_t left;                          /* octets of the literal or file still to come */
        struct dlist *file;                     /* whose octets they are */
        struct frame stack[DLIST_DEPTH_MAX];
        unsigned depth;
        struct dlist *top;                      /* the line's item, once it has begun */
        unsigned streaming;                     /* depth of the streamed list, 0: none is open */
        uint64_t items, octets;
        size_t base;                            /* arena->used when the line began */
        bool started, refused, in_step, had_octets, last_had_octets;
        struct err err;                         /* why it is refused */
};

struct dlist_parser *dlist_parser_create(struct arena *arena, const struct dlist_limits *limits, const struct dlist_hooks *hooks)
{
        struct dlist_parser *p = xcalloc(1, sizeof *p);

        p->arena = arena;
        p->limits = *limits;
        must(limits->depth <= DLIST_DEPTH_MAX);
        if (hooks)
                p->hooks = *hooks;
        arena_init(&p->scratch);
        str_init(&p->token);
        str_init(&p->key);
        p->in_step = true;
        return p;
}

void dlist_parser_destroy(struct dlist_parser **pp)
{
        struct dlist_parser *p = *pp;

        if (!p)
                return;
        arena_deinit(&p->scratch);
        str_deinit(&p->token);
        str_deinit(&p->key);
        free(p);
        *pp = NULL;
}

void dlist_parser_reset(struct dlist_parser *p)
{
        arena_reset(&p->scratch);
        str_clear(&p->token);
        str_clear(&p->key);
        if (p->token.cap > 4096)
                str_shrink(&p->token);
        p->state = AT_ITEM;
        p->is_key = p->have_key = p->started = p->refused = p->had_octets = false;
        p->left = 0;
        p->file = p->top = NULL;
        p->depth = p->streaming = 0;
        p->items = p->octets = 0;
}

bool dlist_in_step(const struct dlist_parser *p) { return p->in_step; }
bool dlist_had_octets(const struct dlist_parser *p) { return p->last_had_octets; }
bool dlist_is_idle(const struct dlist_parser *p) { return !p->started; }

/* ---- refusing ---- */

static void refuse(struct dlist_parser *p, const struct err *err)
{
        if (p->refused)
                return;
        p->refused = true;
        err_copy(&p->err, err);
        for (unsigned i = 0; i < p->depth; i++)
                p->stack[i].list = NULL;
        p->top = p->file = NULL;
        arena_reset(&p->scratch);
        str_clear(&p->token);
        str_shrink(&p->token);
}

static void refuse_limit(struct dlist_parser *p, const char *what, uint64_t max)
{
        struct err err = ERR_INIT;

        err_set(&err, ERR_LIMIT, "%s than %" PRIu64, what, max);
        refuse(p, &err);
}

static int syntax(struct err *err, const char *what)
{
        return err_set(err, ERR_SYNTAX, "%s", what);
}

/* ---- the tree ---- */

static struct arena *arena_now(struct dlist_parser *p)
{
        return p->streaming ? &p->scratch : p->arena;
}

/* Room for `bytes` more within the line's memory? Refuses the line when not. */
static bool have_room(struct dlist_parser *p, size_t bytes)
{
        size_t used = p->arena->used - p->base + p->scratch.used;

        if (used > p->limits.memory || bytes > p->limits.memory - used) {
                refuse_limit(p, "the line needs more octets of memory", p->limits.memory);
                return false;
        }
        return true;
}

/* A new node below the innermost list, or the line's item. NULL: the line is, or now becomes, refused. */
static struct dlist *new_node(struct dlist_parser *p, enum dlist_kind kind, struct span value)
{
        struct dlist *d;

        if (!p->refused && ++p->items > p->limits.items)
                refuse_limit(p, "the line has more values", p->limits.items);
        if (p->refused || !have_room(p, sizeof *d + value.len + p->key.len + 64))
                return NULL;
        d = ARENA_NEW(arena_now(p), struct dlist);
        d->kind = kind;
        if (p->have_key)
                d->key = arena_span(arena_now(p), str_span(&p->key));
        if (kind == DLIST_ATOM || kind == DLIST_STRING || kind == DLIST_FILE)
                d->value = arena_span(arena_now(p), value);
        if (p->depth == 0) {
                p->top = d;
        } else {
                struct frame *f = &p->stack[p->depth - 1];

                f->list->n++;
                if (!f->streams) {
                        if (f->list->last)
                                f->list->last->next = d;
                        else
                                f->list->first = d;
                        f->list->last = d;
                }
        }
        return d;
}

/* A value is whole: if it is an element of a streamed list, it goes to who wants it. `d` NULL: refused. */
static void value_done(struct dlist_parser *p, struct dlist *d)
{
        struct err err = ERR_INIT;

        p->have_key = p->is_key = false;
        if (!d || !p->streaming || p->depth != p->streaming)
                return;
        if (p->hooks.element && p->hooks.element(p->hooks.ctx, p->stack[p->depth - 1].list->key, d, &err) < 0)
                refuse(p, &err);
        arena_reset(&p->scratch);
}

/* What comes behind a value with an end of its own is checked by AFTER. */
static void add_value(struct dlist_parser *p, enum dlist_kind kind)
{
        struct span text = str_span(&p->token);

        if (kind == DLIST_ATOM && span_eq_str(text, "NIL"))
                kind = DLIST_NIL;
        value_done(p, new_node(p, kind, text));
        str_clear(&p->token);
        p->state = AFTER;
}

static int open_list(struct dlist_parser *p, bool keys, struct err *err)
{
        struct dlist *list;
        struct frame *f;

        if (p->depth >= p->limits.depth)
                return err_set(err, ERR_LIMIT, "more than %u lists within each other", p->limits.depth);
        list = new_node(p, keys ? DLIST_KVLIST : DLIST_LIST, (struct span){ NULL, 0 });
        f = &p->stack[p->depth++];
        *f = (struct frame){ .list = list, .keys = keys };
        if (list && !keys && !p->streaming && p->depth == 2 && p->stack[0].keys && p->hooks.streams &&
            p->hooks.streams(p->hooks.ctx, list->key)) {
                f->streams = true;
                p->streaming = p->depth;
        }
        p->have_key = false;
        p->state = keys ? AT_ITEM : AT_VALUE;
        return 0;
}

static int close_list(struct dlist_parser *p, struct err *err)
{
        struct dlist *list;

        if (p->depth == 0)
                return syntax(err, "a closing parenthesis without its opening one");
        list = p->stack[p->depth - 1].list;
        if (p->streaming == p->depth)
                p->streaming = 0;
        p->depth--;
        value_done(p, list);
        p->state = AFTER;
        return 0;
}

/* ---- tokens ---- */

static void token_add(struct dlist_parser *p, const char *c, size_t n, size_t max, const char *what)
{
        if (p->refused)
                return;
        if (n > max || p->token.len > max - n)
                refuse_limit(p, what, max);
        else
                str_append(&p->token, c, n);
}

static void add_word(struct dlist_parser *p, char c)
{
        token_add(p, &c, 1, p->limits.word, "a word is longer");
}

/* The token is a key or a value, as p->is_key says. */
static void token_done(struct dlist_parser *p, enum dlist_kind kind)
{
        if (!p->is_key) {
                add_value(p, kind);
                return;
        }
        str_clear(&p->key);
        str_append_span(&p->key, str_span(&p->token));
        str_clear(&p->token);
        p->have_key = true;
        p->is_key = false;
        p->state = AT_VALUE;
}

static bool blank(char c) { return c == ' ' || c == '\t'; }
static bool line_end(char c) { return c == '\r' || c == '\n'; }

/* The first octet of a key or value. */
static int begin_token(struct dlist_parser *p, char c, struct err *err)
{
        p->started = true;
        switch (c) {
        case '"':
                p->state = IN_QUOTED;
                return 0;
        case '{':
                p->state = IN_LITERAL_HEAD;
                return 0;
        case '\0':
                return syntax(err, "a NUL outside of a literal");
        case '%':
                if (!p->is_key) {
                        p->state = AT_PERCENT;
                        return 0;
                }
                break;
        default:
                break;
        }
        add_word(p, c);
        p->state = IN_ATOM;
        return 0;
}

static int at_item(struct dlist_parser *p, char c, struct err *err)
{
        if (blank(c) || (line_end(c) && p->depth > 0))
                return 0;
        if (line_end(c))
                return syntax(err, "an item is missing");
        if (c == ')')
                return close_list(p, err);
        if (c == '(')
                return syntax(err, "a key is missing");
        p->is_key = true;
        return begin_token(p, c, err);
}

static int at_value(struct dlist_parser *p, char c, struct err *err)
{
        if (blank(c) || (line_end(c) && p->depth > 0))
                return 0;
        if (line_end(c))
                return syntax(err, "a key without a value");
        if (c == ')') {
                if (p->have_key)
                        return syntax(err, "a key without a value");
                return close_list(p, err);
        }
        if (c == '(')
                return open_list(p, false, err);
        return begin_token(p, c, err);
}

/* `{` n [`+`] `}` stands in the token without its braces. */
static int literal_size(struct dlist_parser *p, struct err *err)
{
        struct span n = str_span(&p->token);

        if (n.len > 0 && n.p[n.len - 1] == '+')
                n.len--;
        if (!span_u64(n, UINT64_MAX, &p->left))
                return syntax(err, "a literal's size is no number");
        if (p->is_key && p->left > p->limits.word)
                return err_set(err, ERR_LIMIT, "a key is longer than %zu", p->limits.word);
        str_clear(&p->token);
        p->state = IN_LITERAL_HEAD_CR;
        return 0;
}

static int file_head(struct dlist_parser *p, struct err *err)
{
        struct span head = str_span(&p->token), partition, guid, size;
        struct dlist *file;
        uint8_t id[GUID_SIZE];
        size_t a = span_index(head, ' ');
        struct err why = ERR_INIT;

        partition = (struct span){ head.p, a };
        guid = a < head.len ? (struct span){ head.p + a + 1, head.len - a - 1 } : (struct span){ NULL, 0 };
        size = guid;
        guid.len = span_index(guid, ' ');
        if (guid.len < size.len)
                size = (struct span){ size.p + guid.len + 1, size.len - guid.len - 1 };
        else
                size.len = 0;
        if (partition.len == 0 || partition.len > DLIST_PARTITION_MAX || guid.len != 2 * GUID_SIZE || !hex_decode(id, guid) ||
            !span_u64(size, UINT64_MAX, &p->left))
                return syntax(err, "the head of a file is not partition, guid and size");
        if (p->is_key)
                return syntax(err, "a file instead of a key");
        if (p->left > p->limits.file)
                refuse_limit(p, "a file is larger", p->limits.file);
        file = new_node(p, DLIST_FILE, partition);
        if (file) {
                memcpy(file->guid, id, GUID_SIZE);
                file->size = p->left;
                if (!p->hooks.file_begin) {
                        syntax(&why, "a file where none is expected");
                        refuse(p, &why);
                } else if (p->hooks.file_begin(p->hooks.ctx, file, &why) < 0) {
                        refuse(p, &why);
                } else {
                        p->file = file;
                }
        }
        str_clear(&p->token);
        p->state = IN_FILE_HEAD_CR;
        return 0;
}

static void file_done(struct dlist_parser *p)
{
        struct dlist *file = p->file;
        struct err why = ERR_INIT;

        p->file = NULL;
        if (file && p->hooks.file_end && p->hooks.file_end(p->hooks.ctx, file, &why) < 0)
                refuse(p, &why);
        value_done(p, p->refused ? NULL : file);
        p->state = AFTER;
}

/* Octets that are announced by number. Returns how many of `in` are used. */
static size_t take_octets(struct dlist_parser *p, struct span in)
{
        size_t n = in.len < p->left ? in.len : (size_t)p->left;
        struct err why = ERR_INIT;

        if (p->state == IN_LITERAL)
                token_add(p, in.p, n, p->limits.literal, "a literal is longer");
        else if (p->file && n > 0 && p->hooks.file_write && p->hooks.file_write(p->hooks.ctx, in.p, n, &why) < 0)
                refuse(p, &why);
        p->left -= n;
        if (p->left == 0 && p->state == IN_LITERAL)
                token_done(p, DLIST_STRING);
        else if (p->left == 0)
                file_done(p);
        return n;
}

/* Behind a brace: CRLF, or LF alone. Then the octets; at once done when there are none. */
static int octets_follow(struct dlist_parser *p, char c, enum state next, struct err *err)
{
        if (c == '\r' && p->token.len == 0) {
                str_append_c(&p->token, c);             /* only one CR */
                return 0;
        }
        if (c != '\n')
                return syntax(err, "no line end behind a size");
        str_clear(&p->token);
        p->had_octets = true;
        p->state = next;
        if (next == IN_LITERAL && p->left > p->limits.literal)
                refuse_limit(p, "a literal is longer", p->limits.literal);
        if (p->left == 0)
                (void)take_octets(p, (struct span){ NULL, 0 });
        return 0;
}

static int in_head(struct dlist_parser *p, char c, bool file, struct err *err)
{
        if (c == '}')
                return file ? file_head(p, err) : literal_size(p, err);
        if (line_end(c) || c == '\0' || p->token.len >= HEAD_MAX)
                return syntax(err, file ? "the head of a file has no end" : "a literal's size has no end");
        str_append_c(&p->token, c);
        return 0;
}

static int at_percent(struct dlist_parser *p, char c, struct err *err)
{
        if (c == '(')
                return open_list(p, true, err);
        if (c == '{') {
                p->state = IN_FILE_HEAD;
                return 0;
        }
        return syntax(err, "% is followed by ( or {");
}

/* ---- the machine ---- */

/* Behind a value. 1: the line has ended. */
static int after(struct dlist_parser *p, char c, struct err *err)
{
        if (p->depth == 0) {
                if (c == '\n')
                        return 1;
                if (blank(c) && p->token.len == 0)
                        return 0;
                if (c == '\r' && p->token.len == 0) {
                        str_append_c(&p->token, c);     /* LF must follow */
                        return 0;
                }
                return syntax(err, "something behind the value");
        }
        if (blank(c) || line_end(c)) {
                p->state = p->stack[p->depth - 1].keys ? AT_ITEM : AT_VALUE;
                return 0;
        }
        if (c == ')')
                return close_list(p, err);
        return syntax(err, "no blank behind a value");
}

static int in_atom(struct dlist_parser *p, char c, struct err *err)
{
        bool key = p->is_key;

        if (c == '"' || c == '(' || c == '\0')
                return syntax(err, "an atom with a quote, a parenthesis or a NUL in it");
        if (!blank(c) && !line_end(c) && c != ')') {
                add_word(p, c);
                return 0;
        }
        token_done(p, DLIST_ATOM);
        return key ? at_value(p, c, err) : after(p, c, err);
}

/* How many octets from the start of `in` are just more of the atom or quoted string. */
static size_t plain_run(const struct dlist_parser *p, struct span in)
{
        size_t n = 0;

        if (p->state == IN_ATOM)
                while (n < in.len && (unsigned char)in.p[n] > ' ' && in.p[n] != '"' && in.p[n] != '(' && in.p[n] != ')')
                        n++;
        else if (p->state == IN_QUOTED)
                while (n < in.len && (unsigned char)in.p[n] >= ' ' && in.p[n] != '"' && in.p[n] != '\\')
                        n++;
        return n;
}

/* The next octet. 0, 1: the line has ended, -1. */
static int step(struct dlist_parser *p, char c, struct err *err)
{
        switch (p->state) {
        case AT_ITEM: return at_item(p, c, err);
        case AT_VALUE: return at_value(p, c, err);
        case IN_ATOM: return in_atom(p, c, err);
        case IN_QUOTED:
                if (c == '"')
                        token_done(p, DLIST_STRING);
                else if (line_end(c) || c == '\0')
                        return syntax(err, "a quoted string without its end");
                else if (c == '\\')
                        p->state = IN_ESCAPE;
                else
                        add_word(p, c);
                return 0;
        case IN_ESCAPE:
                if (line_end(c) || c == '\0')
                        return syntax(err, "a quoted string without its end");
                add_word(p, c);
                p->state = IN_QUOTED;
                return 0;
        case IN_LITERAL_HEAD: return in_head(p, c, false, err);
        case IN_FILE_HEAD: return in_head(p, c, true, err);
        case IN_LITERAL_HEAD_CR: return octets_follow(p, c, IN_LITERAL, err);
        case IN_FILE_HEAD_CR: return octets_follow(p, c, IN_FILE, err);
        case AT_PERCENT: return at_percent(p, c, err);
        case AFTER: return after(p, c, err);
        case IN_LITERAL:
        case IN_FILE: break;                            /* not octet by octet */
        }
        must(false);
        return -1;
}

static int finish(struct dlist_parser *p, bool in_step, struct dlist **item_r, struct err *err)
{
        bool refused = p->refused;

        *item_r = p->top;
        if (refused)
                err_copy(err, &p->err);
        p->in_step = in_step;
        p->last_had_octets = p->had_octets;
        dlist_parser_reset(p);
        return refused || !in_step ? -1 : 1;
}

int dlist_parse(struct dlist_parser *p, struct span in, size_t *used_r, struct dlist **item_r, struct err *err)
{
        *used_r = 0;
        *item_r = NULL;
        while (*used_r < in.len) {
                struct span rest = { in.p + *used_r, in.len - *used_r };
                size_t run = plain_run(p, rest);
                int rc;

                if (!p->started)
                        p->base = p->arena->used;
                if (run > 0) {
                        token_add(p, rest.p, run, p->limits.word, "a word is longer");
                        *used_r += run;
                        p->octets += run;
                        rc = 0;
                } else if (p->state == IN_FILE || p->state == IN_LITERAL) {
                        bool literal = p->state == IN_LITERAL;
                        size_t n = take_octets(p, rest);

                        *used_r += n;
                        p->octets += literal ? n : 0;
                        rc = 0;
                } else {
                        rc = step(p, in.p[*used_r], err);
                        ++*used_r;
                        p->octets++;
                }
                if (rc > 0)
                        return finish(p, true, item_r, err);
                if (rc < 0) {
                        /* An LF where it is out of place ends the line all the same: what follows is a new one. */
                        (void)finish(p, in.p[*used_r - 1] == '\n' && !p->had_octets, item_r, err);
                        *item_r = NULL;
                        return -1;
                }
                if (p->octets > p->limits.octets) {
                        (void)finish(p, false, item_r, err);
                        *item_r = NULL;
                        return err_set(err, ERR_LIMIT, "a line is longer than %" PRIu64, p->limits.octets);
                }
        }
        return 0;
}

/* ---- what was read ---- */

const struct dlist *dlist_find(const struct dlist *d, const char *key)
{
        if (!d || d->kind != DLIST_KVLIST)
                return NULL;
        for (const struct dlist *c = d->first; c; c = c->next)
                if (span_eq_str(c->key, key))
                        return c;
        return NULL;
}

bool dlist_as_str(const struct dlist *value, struct span *value_r)
{
        if (!value || (value->kind != DLIST_ATOM && value->kind != DLIST_STRING))
                return false;
        *value_r = value->value;
        return true;
}

bool dlist_as_text(const struct dlist *value, const char **value_r)
{
        struct span s;

        if (!dlist_as_str(value, &s) || span_index(s, '\0') < s.len)
                return false;
        *value_r = s.p;
        return true;
}

bool dlist_as_u64(const struct dlist *value, uint64_t max, uint64_t *value_r)
{
        struct span s;

        return dlist_as_str(value, &s) && span_u64(s, max, value_r);
}

bool dlist_as_guid(const struct dlist *value, uint8_t value_r[GUID_SIZE])
{
        uint8_t guid[GUID_SIZE];
        struct span s;

        if (!dlist_as_str(value, &s) || s.len != 2 * GUID_SIZE || !hex_decode(guid, s))
                return false;
        memcpy(value_r, guid, GUID_SIZE);
        return true;
}

bool dlist_str(const struct dlist *kv, const char *key, struct span *value_r) { return dlist_as_str(dlist_find(kv, key), value_r); }
bool dlist_text(const struct dlist *kv, const char *key, const char **value_r) { return dlist_as_text(dlist_find(kv, key), value_r); }
bool dlist_guid(const struct dlist *kv, const char *key, uint8_t value_r[GUID_SIZE]) { return dlist_as_guid(dlist_find(kv, key), value_r); }

bool dlist_u64(const struct dlist *kv, const char *key, uint64_t max, uint64_t *value_r)
{
        return dlist_as_u64(dlist_find(kv, key), max, value_r);
}

bool dlist_u32(const struct dlist *kv, const char *key, uint32_t *value_r)
{
        uint64_t v;

        if (!dlist_u64(kv, key, UINT32_MAX, &v))
                return false;
        *value_r = (uint32_t)v;
        return true;
}

bool dlist_date(const struct dlist *kv, const char *key, int64_t *value_r)
{
        uint64_t v;

        if (!dlist_u64(kv, key, INT64_MAX, &v))
                return false;
        *value_r = (int64_t)v;
        return true;
}

bool dlist_hex64(const struct dlist *kv, const char *key, uint64_t *value_r)
{
        static const char digits[] = "0123456789abcdef";
        struct span s;
        uint64_t v = 0;

        if (!dlist_str(kv, key, &s) || s.len == 0 || s.len > 16)
                return false;
        for (size_t i = 0; i < s.len; i++) {
                const char *digit = s.p[i] ? strchr(digits, ascii_lower(s.p[i])) : NULL;

                if (!digit)
                        return false;
                v = v << 4 | (uint64_t)(digit - digits);
        }
        *value_r = v;
        return true;
}

bool dlist_list(const struct dlist *kv, const char *key, const struct dlist **list_r)
{
        const struct dlist *d = dlist_find(kv, key);

        if (!d || d->kind != DLIST_LIST)
                return false;
        *list_r = d;
        return true;
}

/* ---- writing ---- */

#define QUOTED_MAX 1024                         /* Cyrus's writer: what is as long goes as a literal */

void dlist_writer_init(struct dlist_writer *w, struct str *out, enum dlist_side side)
{
        *w = (struct dlist_writer){ .out = out, .side = side };
}

enum form { FORM_ATOM, FORM_QUOTED, FORM_ESCAPED, FORM_LITERAL };

/* The plainest form that the octets can be read back from: what the real one's writer would choose, but for FORM_ESCAPED. */
static enum form form_of(struct span s)
{
        enum form form = FORM_ATOM;

        if (s.len == 0 || span_eq_str(s, "NIL") || s.p[0] == '\\')
                form = FORM_QUOTED;
        if (s.len >= QUOTED_MAX)
                return FORM_LITERAL;
        for (size_t i = 0; i < s.len; i++) {
                unsigned char c = (unsigned char)s.p[i];

                if (c >= 0x80 || c == '\r' || c == '\n' || c == '\0')
                        return FORM_LITERAL;
                if (c == '"' || c == '\\' || c == '%')
                        form = FORM_ESCAPED;
                else if ((c <= ' ' || c == 0x7f || strchr("(){*]", c)) && form == FORM_ATOM)
                        form = FORM_QUOTED;
        }
        return form;
}

static void write_key(struct dlist_writer *w, const char *key)
{
        if (w->space)
                str_append_c(w->out, ' ');
        w->space = true;
        if (key) {
                str_append_str(w->out, key);
                str_append_c(w->out, ' ');
        }
}

static void write_value(struct dlist_writer *w, struct span value)
{
        enum form form = form_of(value);

        if (form == FORM_ESCAPED && w->side == DLIST_CLIENT)
                form = FORM_LITERAL;
        switch (form) {
        case FORM_ATOM:
                str_append_span(w->out, value);
                return;
        case FORM_QUOTED:
        case FORM_ESCAPED:
                str_append_c(w->out, '"');
                for (size_t i = 0; i < value.len; i++) {
                        if (value.p[i] == '"' || value.p[i] == '\\')
                                str_append_c(w->out, '\\');
                        str_append_c(w->out, value.p[i]);
                }
                str_append_c(w->out, '"');
                return;
        case FORM_LITERAL:
                str_printf(w->out, w->side == DLIST_CLIENT ? "{%zu+}\r\n" : "{%zu}\r\n", value.len);
                str_append_span(w->out, value);
                return;
        }
}

void dlist_write_list(struct dlist_writer *w, const char *key)
{
        write_key(w, key);
        str_append_c(w->out, '(');
        w->space = false;
}

void dlist_write_kvlist(struct dlist_writer *w, const char *key)
{
        write_key(w, key);
        str_append(w->out, "%(", 2);
        w->space = false;
}

void dlist_write_end(struct dlist_writer *w)
{
        str_append_c(w->out, ')');
        w->space = true;
}

void dlist_write_str(struct dlist_writer *w, const char *key, struct span value)
{
        write_key(w, key);
        write_value(w, value);
}

void dlist_write_text(struct dlist_writer *w, const char *key, const char *value)
{
        if (value)
                dlist_write_str(w, key, span_of(value));
        else
                dlist_write_nil(w, key);
}

void dlist_write_u64(struct dlist_writer *w, const char *key, uint64_t value)
{
        write_key(w, key);
        str_append_u64(w->out, value);
}

void dlist_write_date(struct dlist_writer *w, const char *key, int64_t value)
{
        dlist_write_u64(w, key, value > 0 ? (uint64_t)value : 0);
}

void dlist_write_hex64(struct dlist_writer *w, const char *key, uint64_t value)
{
        write_key(w, key);
        str_printf(w->out, "%016" PRIx64, value);
}

void dlist_write_guid(struct dlist_writer *w, const char *key, const uint8_t guid[GUID_SIZE])
{
        char hex[2 * GUID_SIZE + 1];

        write_key(w, key);
        hex_encode(hex, guid, GUID_SIZE);
        str_append(w->out, hex, 2 * GUID_SIZE);
}

void dlist_write_nil(struct dlist_writer *w, const char *key)
{
        write_key(w, key);
        str_append(w->out, "NIL", 3);
}

void dlist_write_flag(struct dlist_writer *w, const char *flag)
{
        if (*flag == '\\' && flag[1] && form_of(span_of(flag + 1)) == FORM_ATOM) {
                write_key(w, NULL);
                str_append_str(w->out, flag);
        } else {
                dlist_write_text(w, NULL, flag);
        }
}

void dlist_write_file(struct dlist_writer *w, const char *key, const char *partition, const uint8_t guid[GUID_SIZE], uint64_t size)
{
        char hex[2 * GUID_SIZE + 1];

        write_key(w, key);
        hex_encode(hex, guid, GUID_SIZE);
        str_printf(w->out, "%%{%s %s %" PRIu64 "}\r\n", partition, hex, size);
}
