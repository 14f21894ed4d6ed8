/*
 * preview - see preview.h
 *
 * Which part: the first text/plain or text/html in the order of the message that has something to say, attachments and messages inside
 * left for the end. In a multipart/alternative that is the plain one, as it comes first (RFC 2046 5.1.4).
 * What of it: blanks collapsed; what is quoted ("> ", <blockquote>) only when there is nothing else.
 */
#include "store/preview.h"

#include "util/array.h"
#include "util/charset.h"

#define CANDIDATES_MAX 6                        /* parts that are looked into */
#define HEADER_MAX ((size_t)16 * 1024)          /* octets of a part's header */
#define BODY_MAX ((size_t)48 * 1024)            /* octets of a part's body, still encoded */

/* ---- collecting characters ---- */

struct words {
        struct str text;
        unsigned chars;
        bool blank;                             /* one is owed before the next character */
};

struct collect {
        struct words own, quoted;
        unsigned quote_depth;                   /* > 0: goes to `quoted` */
};

static bool enough(const struct collect *c)
{
        return c->own.chars >= PREVIEW_CHARS_MAX;
}

static void append_utf8(struct str *out, uint32_t c)
{
        if (c < 0x80) {
                str_append_c(out, (char)c);
        } else if (c < 0x800) {
                str_append_c(out, (char)(0xc0 | c >> 6));
                str_append_c(out, (char)(0x80 | (c & 63)));
        } else if (c < 0x10000) {
                str_append_c(out, (char)(0xe0 | c >> 12));
                str_append_c(out, (char)(0x80 | (c >> 6 & 63)));
                str_append_c(out, (char)(0x80 | (c & 63)));
        } else {
                str_append_c(out, (char)(0xf0 | c >> 18));
                str_append_c(out, (char)(0x80 | (c >> 12 & 63)));
                str_append_c(out, (char)(0x80 | (c >> 6 & 63)));
                str_append_c(out, (char)(0x80 | (c & 63)));
        }
}

/* Nothing to be seen: soft hyphen, joiners, what senders fill the beginning of a newsletter with. */
static bool invisible(uint32_t c)
{
        return c == 0xad || c == 0x34f || c == 0x61c || (c >= 0x200b && c <= 0x200f) || (c >= 0x202a && c <= 0x202e) ||
               (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || c == 0xfffd;
}

static bool blank(uint32_t c)
{
        return c <= 0x20 || (c >= 0x7f && c <= 0xa0) || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
               c == 0x202f || c == 0x205f || c == 0x3000;
}

static void put(struct collect *c, uint32_t character)
{
        struct words *w = c->quote_depth ? &c->quoted : &c->own;

        if (w->chars >= PREVIEW_CHARS_MAX || invisible(character))
                return;
        if (blank(character)) {
                w->blank = w->chars > 0;
                return;
        }
        if (w->blank) {
                if (w->chars + 2 > PREVIEW_CHARS_MAX) {         /* the word would not begin */
                        w->chars = PREVIEW_CHARS_MAX;
                        return;
                }
                str_append_c(&w->text, ' ');
                w->chars++;
        }
        w->blank = false;
        append_utf8(&w->text, character);
        w->chars++;
}

/* The next character of UTF-8 that was made by a decoder; what is none is U+FFFD. */
static uint32_t next_char(struct span s, size_t *pos)
{
        unsigned char first = (unsigned char)s.p[(*pos)++];
        unsigned more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : first >= 0xc0 ? 1 : 0;
        uint32_t c = first < 0x80 ? first : more ? first & (0x3fu >> more) : 0xfffd;

        for (; more; more--) {
                if (*pos == s.len || ((unsigned char)s.p[*pos] & 0xc0) != 0x80)
                        return 0xfffd;
                c = c << 6 | ((unsigned char)s.p[(*pos)++] & 63);
        }
        return c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0xfffd : c;
}

static void put_all(struct collect *c, struct span s)
{
        for (size_t pos = 0; pos < s.len && !enough(c);)
                put(c, next_char(s, &pos));
}

static void take(struct collect *c, struct str *out)
{
        str_append_span(out, str_span(c->own.chars ? &c->own.text : &c->quoted.text));
        str_deinit(&c->own.text);
        str_deinit(&c->quoted.text);
}

#define COLLECT_INIT { { STR_INIT, 0, false }, { STR_INIT, 0, false }, 0 }

/* ---- text/plain ---- */

void preview_of_plain(struct span text, struct str *out)
{
        struct collect c = COLLECT_INIT;

        while (text.len && !enough(&c)) {
                size_t n = span_index(text, '\n');
                struct span line = { text.p, n };

                n += n < text.len;
                text = (struct span){ text.p + n, text.len - n };
                if (line.len && line.p[line.len - 1] == '\r')
                        line.len--;
                if (span_eq_str(line, "-- ") && c.own.chars)    /* RFC 3676 4.3: a signature */
                        break;
                c.quote_depth = line.len && line.p[0] == '>';
                put_all(&c, line);
                put(&c, ' ');
        }
        take(&c, out);
}

/* ---- text/html ---- */

struct html {
        struct span s;
        size_t pos;
        struct collect c;
};

/* The index behind the next occurrence, or the end. Case does not matter. */
static size_t behind(struct span s, size_t pos, const char *what)
{
        size_t n = strlen(what);

        for (; pos + n <= s.len; pos++)
                if (ascii_lower(s.p[pos]) == what[0] && span_istarts((struct span){ s.p + pos, s.len - pos }, what))
                        return pos + n;
        return s.len;
}

/* Behind the ">" of a tag, quoted attributes skipped. */
static size_t tag_end(struct span s, size_t pos)
{
        char quote = 0;

        for (; pos < s.len; pos++) {
                if (quote)
                        quote = s.p[pos] == quote ? 0 : quote;
                else if (s.p[pos] == '"' || s.p[pos] == '\'')
                        quote = s.p[pos];
                else if (s.p[pos] == '>')
                        return pos + 1;
        }
        return s.len;
}

static bool is_one_of(struct span name, const char *const *words, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (span_ieq_str(name, words[i]))
                        return true;
        return false;
}

static void html_tag(struct html *h)
{
        static const char *const inlines[] = { "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "em", "font", "i", "ins", "kbd", "mark",
                                               "s", "small", "span", "strike", "strong", "sub", "sup", "tt", "u", "var", "wbr" };
        static const char *const unseen[] = { "head", "script", "style", "title", "template", "noscript", "textarea", "select" };
        struct span s = h->s, name;
        size_t at = h->pos + 1;
        bool closing = at < s.len && s.p[at] == '/';
        char end[16];

        if (at + 2 < s.len && memcmp(s.p + at, "!--", 3) == 0) {
                h->pos = behind(s, at + 1, "-->");
                return;
        }
        if (at < s.len && (s.p[at] == '!' || s.p[at] == '?')) {
                h->pos = tag_end(s, at);
                return;
        }
        at += closing;
        name = (struct span){ s.p + at, 0 };
        while (at + name.len < s.len && (ascii_isalpha(name.p[name.len]) || ascii_isdigit(name.p[name.len])))
                name.len++;
        if (name.len == 0) {                                    /* "a < b" */
                put(&h->c, '<');
                h->pos++;
                return;
        }
        h->pos = tag_end(s, at + name.len);
        if (!closing && is_one_of(name, unseen, ARRAY_LEN(unseen)) && name.len + 3 < sizeof end) {
                end[0] = '<', end[1] = '/';
                for (size_t i = 0; i < name.len; i++)
                        end[2 + i] = ascii_lower(name.p[i]);
                end[2 + name.len] = '\0';
                h->pos = tag_end(s, behind(s, h->pos, end));
        }
        if (span_ieq_str(name, "blockquote")) {
                if (!closing)
                        h->c.quote_depth++;
                else if (h->c.quote_depth)
                        h->c.quote_depth--;
        }
        if (!is_one_of(name, inlines, ARRAY_LEN(inlines)))
                put(&h->c, ' ');
}

/* "&amp;", "&#8217;", "&#x2019;". What is none stays as it is. */
static void html_entity(struct html *h)
{
        static const struct { const char *name; uint32_t c; } names[] = {
                { "amp", '&' }, { "lt", '<' }, { "gt", '>' }, { "quot", '"' }, { "apos", '\'' }, { "nbsp", ' ' }, { "shy", 0xad },
                { "zwnj", 0x200c }, { "zwj", 0x200d }, { "ensp", ' ' }, { "emsp", ' ' }, { "thinsp", ' ' }, { "ndash", 0x2013 },
                { "mdash", 0x2014 }, { "lsquo", 0x2018 }, { "rsquo", 0x2019 }, { "sbquo", 0x201a }, { "ldquo", 0x201c }, { "rdquo", 0x201d },
                { "bdquo", 0x201e }, { "hellip", 0x2026 }, { "bull", 0x2022 }, { "middot", 0xb7 }, { "laquo", 0xab }, { "raquo", 0xbb },
                { "euro", 0x20ac }, { "pound", 0xa3 }, { "yen", 0xa5 }, { "cent", 0xa2 }, { "sect", 0xa7 }, { "copy", 0xa9 }, { "reg", 0xae },
                { "trade", 0x2122 }, { "deg", 0xb0 }, { "plusmn", 0xb1 }, { "times", 0xd7 }, { "iexcl", 0xa1 }, { "iquest", 0xbf },
                { "auml", 0xe4 }, { "ouml", 0xf6 }, { "uuml", 0xfc }, { "Auml", 0xc4 }, { "Ouml", 0xd6 }, { "Uuml", 0xdc }, { "szlig", 0xdf },
                { "agrave", 0xe0 }, { "aacute", 0xe1 }, { "acirc", 0xe2 }, { "atilde", 0xe3 }, { "aring", 0xe5 }, { "aelig", 0xe6 },
                { "ccedil", 0xe7 }, { "egrave", 0xe8 }, { "eacute", 0xe9 }, { "ecirc", 0xea }, { "euml", 0xeb }, { "igrave", 0xec },
                { "iacute", 0xed }, { "icirc", 0xee }, { "iuml", 0xef }, { "ntilde", 0xf1 }, { "ograve", 0xf2 }, { "oacute", 0xf3 },
                { "ocirc", 0xf4 }, { "otilde", 0xf5 }, { "oslash", 0xf8 }, { "ugrave", 0xf9 }, { "uacute", 0xfa }, { "ucirc", 0xfb },
        };
        struct span s = h->s, name = { s.p + h->pos + 1, 0 };
        uint32_t c = 0;

        while (h->pos + 1 + name.len < s.len && name.len < 12 && (ascii_isalpha(name.p[name.len]) || ascii_isdigit(name.p[name.len]) ||
                                                                  (name.len == 0 && name.p[0] == '#')))
                name.len++;
        if (name.len > 1 && name.p[0] == '#') {
                bool hex = ascii_lower(name.p[1]) == 'x';

                for (size_t i = hex ? 2 : 1; i < name.len && c <= 0x10ffff; i++) {
                        char d = ascii_lower(name.p[i]);

                        if (!ascii_isdigit(d) && !(hex && d >= 'a' && d <= 'f')) {
                                c = 0xfffd;
                                break;
                        }
                        c = c * (hex ? 16 : 10) + (uint32_t)(ascii_isdigit(d) ? d - '0' : d - 'a' + 10);
                }
                if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                        c = 0xfffd;
        }
        for (size_t i = 0; i < ARRAY_LEN(names) && !c; i++)
                if (span_eq_str(name, names[i].name))
                        c = names[i].c;
        if (!c) {
                put(&h->c, '&');
                h->pos++;
                return;
        }
        put(&h->c, c);
        h->pos += 1 + name.len;
        if (h->pos < s.len && s.p[h->pos] == ';')
                h->pos++;
}

void preview_of_html(struct span text, struct str *out)
{
        struct html h = { .s = text, .c = COLLECT_INIT };

        while (h.pos < text.len && !enough(&h.c)) {
                if (text.p[h.pos] == '<')
                        html_tag(&h);
                else if (text.p[h.pos] == '&')
                        html_entity(&h);
                else
                        put(&h.c, next_char(text, &h.pos));
        }
        take(&h.c, out);
}

/* ---- the part ---- */

enum subtype { OTHER, PLAIN, HTML };

/* What the part's header says: subtype, charset. */
static int look_at_header(const struct preview_source *src, const struct mime_part *part, enum subtype *subtype_r, struct str *charset,
                          struct err *err)
{
        size_t n = part->header_len < HEADER_MAX ? part->header_len : HEADER_MAX;
        struct str header = STR_INIT;
        struct mime_field field;
        int ret = n ? src->read(src->ctx, part->header_off, str_append_space(&header, n), n, err) : 0;

        *subtype_r = PLAIN;                                     /* RFC 2045 5.2 */
        if (ret == 0 && mime_field_find(str_span(&header), "Content-Type", &field)) {
                struct span value = field.value;
                size_t pos = 0;

                mime_unfold(value, charset);
                value = str_span(charset);
                pos = span_index(value, '/');
                if (pos < value.len) {
                        value = span_trim((struct span){ value.p + pos + 1, value.len - pos - 1 });
                        value.len = span_index(value, ';');
                        value = span_trim(value);
                        *subtype_r = span_ieq_str(value, "plain") ? PLAIN : span_ieq_str(value, "html") ? HTML : OTHER;
                }
                str_clear(charset);
        }
        if (ret == 0)
                mime_header_charset(str_span(&header), charset);
        str_deinit(&header);
        return ret;
}

static int part_preview(const struct preview_source *src, const struct mime_part *part, struct str *out, struct err *err)
{
        size_t n = part->body_len < BODY_MAX ? part->body_len : BODY_MAX;
        struct str charset = STR_INIT, raw = STR_INIT, text = STR_INIT;
        struct text_stream *stream;
        enum subtype subtype;
        int ret = look_at_header(src, part, &subtype, &charset, err);

        if (ret == 0 && subtype != OTHER && n)
                ret = src->read(src->ctx, part->body_off, str_append_space(&raw, n), n, err);
        if (ret == 0 && raw.len) {
                stream = text_stream_create((enum transfer_encoding)part->encoding, str_span(&charset), false);
                text_stream_feed(stream, str_span(&raw), &text);
                text_stream_finish(stream, &text);
                text_stream_destroy(&stream);
                if (subtype == HTML)
                        preview_of_html(str_span(&text), out);
                else
                        preview_of_plain(str_span(&text), out);
        }
        str_deinit(&charset);
        str_deinit(&raw);
        str_deinit(&text);
        return ret;
}

/* Is it in a message inside, or in an attachment? */
static bool set_aside(const struct preview_source *src, size_t i)
{
        bool aside = src->parts[i].flags & MIME_PART_ATTACHMENT;

        for (size_t at = i; at != 0 && !aside;) {
                at = src->parts[at].parent;
                aside = src->parts[at].kind == MIME_MESSAGE || (src->parts[at].flags & MIME_PART_ATTACHMENT);
        }
        return aside;
}

int preview_make(const struct preview_source *src, struct str *out, struct err *err)
{
        size_t before = out->len;
        unsigned looked = 0;

        for (int aside = 0; aside < 2; aside++)
                for (size_t i = 0; i < src->parts_n && looked < CANDIDATES_MAX; i++) {
                        const struct mime_part *part = &src->parts[i];

                        if (part->kind != MIME_TEXT || (part->flags & MIME_PART_ATTACHMENT) || part->body_len == 0 ||
                            part->encoding == TRANSFER_UNKNOWN || set_aside(src, i) != (bool)aside)
                                continue;
                        looked++;
                        if (part_preview(src, part, out, err) < 0)
                                return -1;
                        if (out->len > before)
                                return 0;
                }
        return 0;
}
