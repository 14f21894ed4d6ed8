/* fetch_parse - the grammar of FETCH; see fetch.h */
#include "server/imap/fetch.h"

#include <inttypes.h>

#include "util/array.h"
#include "util/must.h"

/* ---- words ---- */

/* Letters, digits and dots: the names of items and of sections' texts. */
static struct span word(struct imap_parser *ip)
{
        const char *start = ip->p;

        while (ip->p < ip->end && (ascii_isalpha(*ip->p) || ascii_isdigit(*ip->p) || *ip->p == '.'))
                ip->p++;
        return (struct span){ start, (size_t)(ip->p - start) };
}

static int out_of_grammar(struct imap_parser *ip, const char *what)
{
        return err_set(&ip->err, ERR_SYNTAX, "%s", what);
}

/* ---- sections ---- */

static bool printable(struct span s)
{
        for (size_t i = 0; i < s.len; i++)
                if ((unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] > 0x7e)
                        return false;
        return s.len > 0;
}

/* A field name as an astring of the reply. */
static void append_name(struct str *out, struct span name)
{
        bool atom = true;

        for (size_t i = 0; i < name.len; i++)
                atom &= !strchr(" (){}%*\"\\", name.p[i]);
        if (atom) {
                str_append_span(out, name);
                return;
        }
        str_append_c(out, '"');
        for (size_t i = 0; i < name.len; i++) {
                if (name.p[i] == '"' || name.p[i] == '\\')
                        str_append_c(out, '\\');
                str_append_c(out, name.p[i]);
        }
        str_append_c(out, '"');
}

/* SP "(" astring *(SP astring) ")" */
static int parse_names(struct imap_parser *ip, struct fetch_section *s, struct str *label)
{
        ARRAY(struct span) names = ARRAY_INIT;
        struct span *copy, name;
        int ret = -1;

        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                return -1;
        str_append_str(label, " (");
        do {
                if (imap_astring(ip, &name) < 0)
                        goto out;
                if (!printable(name) || names.n == FETCH_NAMES_MAX) {
                        out_of_grammar(ip, names.n == FETCH_NAMES_MAX ? "Too many header field names" : "Not a header field name");
                        goto out;
                }
                if (names.n)
                        str_append_c(label, ' ');
                append_name(label, name);
                *ARRAY_PUSH(&names) = name;
        } while (imap_skip_c(ip, ' '));
        if (imap_close_paren(ip) < 0)
                goto out;
        str_append_c(label, ')');
        copy = ARENA_ARRAY(ip->arena, struct span, names.n);
        memcpy(copy, names.v, names.n * sizeof *copy);
        s->names = copy;
        s->names_n = names.n;
        ret = 0;
out:
        ARRAY_FREE(&names);
        return ret;
}

/* The leading part numbers "1.2.3", with the dot after them taken when more follows. */
static int parse_path(struct imap_parser *ip, struct fetch_section *s, struct str *label)
{
        uint32_t numbers[FETCH_PATH_MAX], *copy;

        while (ip->p < ip->end && ascii_isdigit(*ip->p)) {
                if (s->path_n == FETCH_PATH_MAX)
                        return err_set(&ip->err, ERR_LIMIT, "Part number is too deep");
                if (imap_number(ip, &numbers[s->path_n]) < 0)
                        return -1;
                if (numbers[s->path_n] == 0)
                        return out_of_grammar(ip, "Part numbers begin at 1");
                if (label->data[label->len - 1] != '[')
                        str_append_c(label, '.');
                str_append_u64(label, numbers[s->path_n++]);
                if (imap_peek_c(ip, ']'))
                        break;
                if (!imap_skip_c(ip, '.') || imap_peek_c(ip, ']'))
                        return out_of_grammar(ip, "Malformed part number");
        }
        copy = ARENA_ARRAY(ip->arena, uint32_t, s->path_n);
        memcpy(copy, numbers, s->path_n * sizeof *copy);
        s->path = copy;
        return 0;
}

/* HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, MIME */
static int parse_text(struct imap_parser *ip, struct fetch_section *s, struct str *label)
{
        static const struct { const char *name; enum mime_section what; enum fetch_fields fields; } texts[] = {
                { "HEADER", MIME_SECTION_HEADER, FETCH_FIELDS_ALL },
                { "HEADER.FIELDS", MIME_SECTION_HEADER, FETCH_FIELDS_ONLY },
                { "HEADER.FIELDS.NOT", MIME_SECTION_HEADER, FETCH_FIELDS_NOT },
                { "TEXT", MIME_SECTION_TEXT, FETCH_FIELDS_ALL },
                { "MIME", MIME_SECTION_MIME, FETCH_FIELDS_ALL },
        };
        struct span w = word(ip);

        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                if (!imap_word_is(w, texts[i].name))
                        continue;
                if (texts[i].what == MIME_SECTION_MIME && s->path_n == 0)
                        return out_of_grammar(ip, "MIME needs a part number");
                s->what = texts[i].what;
                s->fields = texts[i].fields;
                if (s->path_n)
                        str_append_c(label, '.');
                str_append_str(label, texts[i].name);
                return s->fields == FETCH_FIELDS_ALL ? 0 : parse_names(ip, s, label);
        }
        return out_of_grammar(ip, "Unknown section");
}

/* "<" number "." nz-number ">" */
static int parse_partial(struct imap_parser *ip, struct fetch_section *s, struct str *label)
{
        if (!imap_skip_c(ip, '<'))
                return 0;
        if (imap_number64(ip, &s->first) < 0 || imap_char(ip, '.') < 0 || imap_number64(ip, &s->count) < 0 || imap_char(ip, '>') < 0)
                return -1;
        if (s->count == 0)
                return out_of_grammar(ip, "A partial fetch of nothing");
        s->partial = true;
        str_printf(label, "<%" PRIu64 ">", s->first);
        return 0;
}

static int section_body(struct imap_parser *ip, struct fetch_section *s, struct str *label)
{
        bool more;

        if (imap_char(ip, '[') < 0)
                return -1;
        str_append_c(label, '[');
        if (parse_path(ip, s, label) < 0)
                return -1;
        more = !imap_peek_c(ip, ']');
        if (more && s->kind != FETCH_KIND_BODY)
                return out_of_grammar(ip, "A binary section is a part number");
        if (more && parse_text(ip, s, label) < 0)
                return -1;
        if (imap_char(ip, ']') < 0)
                return -1;
        str_append_c(label, ']');
        return s->kind == FETCH_KIND_BINARY_SIZE ? 0 : parse_partial(ip, s, label);
}

static struct fetch_section *add_section(struct imap_parser *ip, struct fetch_request *r)
{
        struct fetch_section *s;

        if (r->sections_n == FETCH_SECTIONS_MAX) {
                err_set(&ip->err, ERR_LIMIT, "More than %d sections", FETCH_SECTIONS_MAX);
                return NULL;
        }
        s = ARENA_NEW(ip->arena, struct fetch_section);
        if (r->last)
                r->last->next = s;
        else
                r->sections = s;
        r->last = s;
        r->sections_n++;
        return s;
}

static int parse_section(struct imap_parser *ip, struct fetch_request *r, enum fetch_kind kind, const char *name)
{
        struct fetch_section *s = add_section(ip, r);
        struct str label = STR_INIT;
        int ret;

        if (!s)
                return -1;
        s->kind = kind;
        str_append_str(&label, name);
        ret = section_body(ip, s, &label);
        s->label = arena_span(ip->arena, str_span(&label));
        str_deinit(&label);
        return ret;
}

/* RFC822 and its like are sections under another name (RFC 3501 6.4.5). */
static int old_section(struct imap_parser *ip, struct fetch_request *r, enum mime_section what, const char *label)
{
        struct fetch_section *s = add_section(ip, r);

        if (!s)
                return -1;
        s->what = what;
        s->label = span_of(label);
        return 0;
}

/* ---- items ---- */

static const struct {
        const char *name;
        unsigned items;
} plain_items[] = {
        { "UID", FETCH_UID },
        { "FLAGS", FETCH_FLAGS },
        { "INTERNALDATE", FETCH_INTERNALDATE },
        { "RFC822.SIZE", FETCH_SIZE },
        { "MODSEQ", FETCH_MODSEQ },
        { "SAVEDATE", FETCH_SAVEDATE },
        { "EMAILID", FETCH_EMAILID },
        { "THREADID", FETCH_THREADID },
        { "ENVELOPE", FETCH_ENVELOPE },
        { "BODYSTRUCTURE", FETCH_BODYSTRUCTURE },
}, macros[] = {
        { "ALL", FETCH_FLAGS | FETCH_INTERNALDATE | FETCH_SIZE | FETCH_ENVELOPE },
        { "FAST", FETCH_FLAGS | FETCH_INTERNALDATE | FETCH_SIZE },
        { "FULL", FETCH_FLAGS | FETCH_INTERNALDATE | FETCH_SIZE | FETCH_ENVELOPE | FETCH_BODY },
};

static const struct {
        const char *name;
        enum fetch_kind kind;
        bool sets_seen;
        const char *label;
} section_items[] = {
        { "BODY", FETCH_KIND_BODY, true, "BODY" },
        { "BODY.PEEK", FETCH_KIND_BODY, false, "BODY" },
        { "BINARY", FETCH_KIND_BINARY, true, "BINARY" },
        { "BINARY.PEEK", FETCH_KIND_BINARY, false, "BINARY" },
        { "BINARY.SIZE", FETCH_KIND_BINARY_SIZE, false, "BINARY.SIZE" },
};

static const struct {
        const char *name;
        enum mime_section what;
        bool sets_seen;
} old_items[] = {
        { "RFC822", MIME_SECTION_ALL, true },
        { "RFC822.HEADER", MIME_SECTION_HEADER, false },
        { "RFC822.TEXT", MIME_SECTION_TEXT, true },
};

/* [SP "(" preview-mod *(SP preview-mod) ")"] (RFC 8970 6). FETCH's own modifiers stand behind a bare item just so: LAZY tells them apart. A
 * preview is always made at once, so LAZY changes nothing. */
static int parse_preview(struct imap_parser *ip, struct fetch_request *r)
{
        static const struct span lazy = { " (LAZY", 6 };

        r->items |= FETCH_PREVIEW;
        if ((size_t)(ip->end - ip->p) <= lazy.len || !span_istarts((struct span){ ip->p, lazy.len }, lazy.p) ||
            (ip->p[lazy.len] != ' ' && ip->p[lazy.len] != ')'))
                return 0;
        imap_skip_c(ip, ' ');
        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                if (!imap_word_is(word(ip), "LAZY"))
                        return out_of_grammar(ip, "Unknown modifier of PREVIEW");
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

/* SP "(" entries SP attribs ")" (RFC 5257 5) */
static int parse_annotation(struct imap_parser *ip, struct fetch_request *r)
{
        struct annotation_item *item, **last = &r->annotations;

        if (r->annotations_n++ == FETCH_ANNOTATIONS_MAX)
                return err_set(&ip->err, ERR_LIMIT, "More than %d ANNOTATION items", FETCH_ANNOTATIONS_MAX);
        item = ARENA_NEW(ip->arena, struct annotation_item);
        while (*last)
                last = &(*last)->next;
        *last = item;
        return imap_sp(ip) < 0 ? -1 : annotation_parse_item(ip, item);
}

static int parse_item(struct imap_parser *ip, struct fetch_request *r)
{
        struct span w = word(ip);

        if (imap_word_is(w, "ANNOTATION"))
                return parse_annotation(ip, r);
        if (imap_word_is(w, "PREVIEW"))
                return parse_preview(ip, r);
        if (imap_word_is(w, "BODY") && !imap_peek_c(ip, '[')) {
                r->items |= FETCH_BODY;
                return 0;
        }
        for (size_t i = 0; i < ARRAY_LEN(plain_items); i++)
                if (imap_word_is(w, plain_items[i].name)) {
                        r->items |= plain_items[i].items;
                        return 0;
                }
        for (size_t i = 0; i < ARRAY_LEN(section_items); i++)
                if (imap_word_is(w, section_items[i].name)) {
                        r->sets_seen |= section_items[i].sets_seen;
                        return parse_section(ip, r, section_items[i].kind, section_items[i].label);
                }
        for (size_t i = 0; i < ARRAY_LEN(old_items); i++)
                if (imap_word_is(w, old_items[i].name)) {
                        r->sets_seen |= old_items[i].sets_seen;
                        return old_section(ip, r, old_items[i].what, old_items[i].name);
                }
        return err_set(&ip->err, ERR_SYNTAX, "Unknown data item of FETCH: %.*s", (int)(w.len < 40 ? w.len : 40), w.p);
}

/* A macro stands alone (RFC 9051 6.4.5). */
static bool parse_macro(struct imap_parser *ip, struct fetch_request *r)
{
        struct imap_parser before = *ip;
        struct span w = word(ip);

        for (size_t i = 0; i < ARRAY_LEN(macros); i++)
                if (imap_word_is(w, macros[i].name)) {
                        r->items |= macros[i].items;
                        return true;
                }
        *ip = before;
        return false;
}

static int parse_items(struct imap_parser *ip, struct fetch_request *r)
{
        if (parse_macro(ip, r))
                return 0;
        if (!imap_peek_c(ip, '('))
                return parse_item(ip, r);
        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                if (parse_item(ip, r) < 0)
                        return -1;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

/* SP "(" fetch-modifier *(SP fetch-modifier) ")"; RFC 4466 2.4. */
static int parse_modifiers(struct imap_parser *ip, struct fetch_request *r)
{
        struct span w;

        if (imap_at_end(ip))
                return 0;
        if (imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                return -1;
        do {
                if (imap_atom(ip, &w) < 0)
                        return -1;
                if (imap_word_is(w, "VANISHED")) {
                        r->vanished = true;
                        continue;
                }
                if (imap_word_is(w, "PARTIAL")) {
                        if (r->partial)
                                return out_of_grammar(ip, "PARTIAL may be given once");
                        if (imap_sp(ip) < 0 || search_parse_partial(ip, &r->range) < 0)
                                return -1;
                        r->partial = true;
                        continue;
                }
                if (!imap_word_is(w, "CHANGEDSINCE"))
                        return out_of_grammar(ip, "Unknown modifier of FETCH");
                if (imap_sp(ip) < 0 || imap_number64(ip, &r->since) < 0)
                        return -1;
                r->changedsince = true;
        } while (imap_skip_c(ip, ' '));
        if (r->vanished && !r->changedsince)
                return out_of_grammar(ip, "VANISHED needs CHANGEDSINCE");       /* RFC 7162 3.2.6 */
        return imap_close_paren(ip);
}

int fetch_parse_items(struct imap_parser *ip, struct fetch_request *r)
{
        *r = (struct fetch_request){ 0 };
        return parse_items(ip, r);
}

void fetch_parse_kept(struct span items, struct arena *arena, struct fetch_request *r)
{
        struct imap_parser ip;

        imap_parser_init(&ip, items, arena, true);
        ip.word_max = ip.quoted_max = SIZE_MAX;                 /* maxword, maxquoted had their say */
        must(fetch_parse_items(&ip, r) == 0);
}

int fetch_parse(struct imap_parser *ip, struct fetch_request *r)
{
        *r = (struct fetch_request){ 0 };
        if (parse_items(ip, r) < 0 || parse_modifiers(ip, r) < 0 || imap_end(ip) < 0)
                return -1;
        if (r->changedsince)
                r->items |= FETCH_MODSEQ;                       /* RFC 7162 3.1.4.1 */
        return 0;
}
