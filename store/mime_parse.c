/*
 * mime_parse - the streaming parser; see mime.h
 *
 * The message is taken line by line. In a header block a line is collected whole (MIME_LINE_MAX octets of it); in a body only lines that
 * begin with "--" are looked at, and of these only what a boundary can be long. The open parts form a chain from the root to `at`,
 * the part whose octets are passing by; `levels` are the multiparts of that chain that can still be continued or closed by a
 * boundary line. A boundary of an outer level closes all that is open below it (RFC 2046 5.1.2).
 */
#include "store/mime_private.h"

#include <stdlib.h>

#include "util/array.h"
#include "util/hash.h"
#include "util/must.h"

#define PREFIX_MAX (MIME_BOUNDARY_MAX + 2 + 2 + 64)     /* "--", boundary, "--", and some blanks */

struct level {
        uint32_t node;
        struct str boundary;
        bool digest;                            /* multipart/digest: its parts are messages by default */
};

struct mime_parser {
        ARRAY(struct node) nodes;
        struct level levels[MIME_DEPTH_MAX + 1];
        size_t levels_n;
        uint32_t at;
        bool in_header, default_message;
        uint64_t offset;                        /* of the next octet */
        uint64_t line_start;
        uint64_t lf_count;                      /* all LFs so far */
        unsigned eol_before;                    /* octets of the line end before line_start: 0, 1, 2 */
        char last_octet;
        bool any_octet;
        struct str line;                        /* header: the line so far. body: its prefix, as long as it may be a boundary */
        bool line_plain;                        /* body: it does not begin with "--" */
        struct field_set fields;
        int field;                              /* enum field_id that continuation lines belong to, or -1 */
        uint64_t kept;
        uint32_t addresses_left;
        struct mime_date date;
        bool has_date;
        uint64_t thread;
        bool has_8bit, has_nul, has_bare_cr, has_bare_lf;
};

static const struct { const char *name; enum field_id id; } field_names[] = {
        { "Date", FIELD_DATE }, { "Subject", FIELD_SUBJECT }, { "From", FIELD_FROM }, { "Sender", FIELD_SENDER },
        { "Reply-To", FIELD_REPLY_TO }, { "To", FIELD_TO }, { "Cc", FIELD_CC }, { "Bcc", FIELD_BCC },
        { "In-Reply-To", FIELD_IN_REPLY_TO }, { "Message-ID", FIELD_MESSAGE_ID },
        { "References", FIELD_REFERENCES },
        { "Content-Type", FIELD_TYPE }, { "Content-Transfer-Encoding", FIELD_ENCODING }, { "Content-ID", FIELD_ID },
        { "Content-Description", FIELD_DESCRIPTION }, { "Content-MD5", FIELD_MD5 }, { "Content-Disposition", FIELD_DISPOSITION },
        { "Content-Language", FIELD_LANGUAGE }, { "Content-Location", FIELD_LOCATION },
};

static bool is_message_root(const struct mime_parser *p, uint32_t at)
{
        uint16_t parent = p->nodes.v[at].part.parent;

        return parent == MIME_PART_NO_PARENT || p->nodes.v[parent].part.kind == MIME_MESSAGE;
}

static size_t depth_of(const struct mime_parser *p, uint32_t at)
{
        size_t depth = 0;

        while (p->nodes.v[at].part.parent != MIME_PART_NO_PARENT) {
                at = p->nodes.v[at].part.parent;
                depth++;
        }
        return depth;
}

/* A new part whose header begins at `offset`; it becomes `at`. */
static void node_open(struct mime_parser *p, uint16_t parent, uint64_t offset, bool default_message)
{
        uint32_t index = (uint32_t)p->nodes.n;
        struct node *n = ARRAY_PUSH(&p->nodes);

        memset(n, 0, sizeof *n);
        str_init(&n->head);
        str_init(&n->ext);
        str_init(&n->envelope);
        n->part.parent = parent;
        n->header_off = offset;
        if (parent != MIME_PART_NO_PARENT) {
                struct node *up = &p->nodes.v[parent];
                uint16_t number = 1;

                if (up->last_child) {
                        p->nodes.v[up->last_child].next_sibling = index;
                        number = (uint16_t)(p->nodes.v[up->last_child].part.number + 1);
                } else {
                        up->first_child = index;
                }
                up->last_child = index;
                n->part.number = number;
        }
        p->at = index;
        p->in_header = true;
        p->default_message = default_message;
        p->field = -1;
        for (int i = 0; i < FIELD_N; i++) {
                str_clear(&p->fields.v[i].value);
                p->fields.v[i].present = false;
        }
}

struct mime_parser *mime_parser_create(void)
{
        struct mime_parser *p = xcalloc(1, sizeof *p);

        for (int i = 0; i < FIELD_N; i++)
                str_init(&p->fields.v[i].value);
        str_init(&p->line);
        p->addresses_left = MIME_ADDRESSES_MAX;
        node_open(p, MIME_PART_NO_PARENT, 0, false);
        return p;
}

static void pop_levels(struct mime_parser *p, size_t keep)
{
        while (p->levels_n > keep)
                str_deinit(&p->levels[--p->levels_n].boundary);
}

void mime_parser_destroy(struct mime_parser **pp)
{
        struct mime_parser *p = *pp;

        *pp = NULL;
        if (!p)
                return;
        pop_levels(p, 0);
        for (size_t i = 0; i < p->nodes.n; i++) {
                str_deinit(&p->nodes.v[i].head);
                str_deinit(&p->nodes.v[i].ext);
                str_deinit(&p->nodes.v[i].envelope);
        }
        ARRAY_FREE(&p->nodes);
        for (int i = 0; i < FIELD_N; i++)
                str_deinit(&p->fields.v[i].value);
        str_deinit(&p->line);
        free(p);
}

/* ---- the end of a header block: what is this part? ---- */

static enum mime_charset charset_of(const struct content *c)
{
        const struct param *p = content_param(c, "charset");

        if (!p || p->value.len == 0)
                return MIME_CHARSET_NONE;
        if (span_ieq_str(str_span(&p->value), "us-ascii"))
                return MIME_CHARSET_ASCII;
        if (span_ieq_str(str_span(&p->value), "utf-8") || span_ieq_str(str_span(&p->value), "utf8"))
                return MIME_CHARSET_UTF8;
        return MIME_CHARSET_OTHER;
}

/* RFC 2045 5.2: what has no usable type is text/plain; in a digest, a message. A missing subtype is taken to be the common one. */
static void settle_type(const struct mime_parser *p, struct content *c)
{
        if (c->type.len == 0) {
                c->type = p->default_message ? SPAN("MESSAGE") : SPAN("TEXT");
                c->subtype = p->default_message ? SPAN("RFC822") : SPAN("PLAIN");
        } else if (c->subtype.len == 0) {
                if (span_ieq_str(c->type, "multipart")) {
                        c->subtype = SPAN("MIXED");
                } else if (span_ieq_str(c->type, "text")) {
                        c->subtype = SPAN("PLAIN");
                } else {
                        c->type = SPAN("APPLICATION");
                        c->subtype = SPAN("OCTET-STREAM");
                }
        }
}

static enum mime_kind kind_of(const struct content *c)
{
        if (span_ieq_str(c->type, "multipart"))
                return MIME_MULTIPART;
        if (span_ieq_str(c->type, "text"))
                return MIME_TEXT;
        if (span_ieq_str(c->type, "message") && (span_ieq_str(c->subtype, "rfc822") || span_ieq_str(c->subtype, "global")))
                return MIME_MESSAGE;
        return MIME_LEAF;
}

static enum transfer_encoding encoding_of(const struct field_set *f)
{
        struct span s = str_span(&f->v[FIELD_ENCODING].value);
        size_t pos = 0, start;

        mime_skip_cfws(s, &pos, NULL);
        for (start = pos; pos < s.len && s.p[pos] > ' ' && s.p[pos] != ';' && s.p[pos] != '('; pos++)
                ;
        return transfer_by_name((struct span){ s.p + start, pos - start });
}

static bool is_attachment(const struct field_set *f)
{
        struct content c;
        bool is;

        content_parse(str_span(&f->v[FIELD_DISPOSITION].value), &c);
        is = span_ieq_str(c.type, "attachment");
        content_deinit(&c);
        return is;
}

static void push_level(struct mime_parser *p, const struct content *c)
{
        const struct param *boundary = content_param(c, "boundary");
        struct level *level;
        struct span s;

        if (!boundary)
                return;
        s = str_span(&boundary->value);
        while (s.len && (s.p[s.len - 1] == ' ' || s.p[s.len - 1] == '\t'))      /* RFC 2046 5.1.1: it does not end in a blank */
                s.len--;
        if (s.len == 0 || s.len > MIME_BOUNDARY_MAX)
                return;
        must(p->levels_n < ARRAY_LEN(p->levels));
        level = &p->levels[p->levels_n++];
        level->node = p->at;
        level->digest = span_ieq_str(c->subtype, "digest");
        str_init(&level->boundary);
        str_append_span(&level->boundary, s);
}

/* The first <message id> of a field, without regard to blanks in it; else, of a Message-ID, all of it. */
static bool first_id(struct span field, bool whole, struct str *id)
{
        size_t from = span_index(field, '<'), len;

        str_clear(id);
        if (from == field.len) {
                if (whole)
                        str_append_span(id, span_trim(field));
                return id->len > 0;
        }
        field = (struct span){ field.p + from + 1, field.len - from - 1 };
        len = span_index(field, '>');
        for (size_t i = 0; i < len; i++)
                if (!memchr(" \t\r\n", field.p[i], 4))
                        str_append_c(id, field.p[i]);
        return id->len > 0;
}

static uint64_t thread_of(struct mime_parser *p)
{
        struct str id = STR_INIT;
        uint8_t guid[GUID_SIZE];
        struct digest h;
        uint64_t thread = 0;

        if (first_id(str_span(&p->fields.v[FIELD_REFERENCES].value), false, &id) ||
            first_id(str_span(&p->fields.v[FIELD_IN_REPLY_TO].value), false, &id) ||
            first_id(str_span(&p->fields.v[FIELD_MESSAGE_ID].value), true, &id)) {
                digest_init(&h);
                digest_update(&h, id.data, id.len);
                digest_final(&h, guid);
                for (unsigned i = 0; i < 8; i++)
                        thread = thread << 8 | guid[i];
                thread += thread == 0;
        }
        str_deinit(&id);
        return thread;
}

static void envelope_end(struct mime_parser *p)
{
        struct node *n = &p->nodes.v[p->at];

        render_envelope(&n->envelope, &p->fields, &p->addresses_left);
        if (p->at == 0)
                p->thread = thread_of(p);
        if (p->at == 0)
                p->has_date = mime_date_parse(str_span(&p->fields.v[FIELD_DATE].value), &p->date);
}

/* Decide what the part is and render what its header says of it. */
static void content_end(struct mime_parser *p)
{
        struct node *n = &p->nodes.v[p->at];
        struct content c;
        bool untyped, has_parts;

        content_parse(str_span(&p->fields.v[FIELD_TYPE].value), &c);
        untyped = c.type.len == 0;
        settle_type(p, &c);
        n->part.kind = (uint8_t)kind_of(&c);
        n->part.encoding = (uint8_t)encoding_of(&p->fields);
        n->part.charset = (uint8_t)charset_of(&c);
        if (p->fields.v[FIELD_DISPOSITION].present && is_attachment(&p->fields))
                n->part.flags |= MIME_PART_ATTACHMENT;
        has_parts = n->part.kind == MIME_MULTIPART || n->part.kind == MIME_MESSAGE;
        if (has_parts && (depth_of(p, p->at) >= MIME_DEPTH_MAX || (n->part.kind == MIME_MESSAGE && p->nodes.n >= MIME_PARTS_MAX))) {
                n->part.kind = MIME_LEAF;
                render_content(n, &p->fields, NULL, SPAN("APPLICATION"), SPAN("OCTET-STREAM"), false);
        } else {
                render_content(n, &p->fields, &c, c.type, c.subtype, untyped);
                if (n->part.kind == MIME_MULTIPART)
                        push_level(p, &c);
        }
        content_deinit(&c);
}

static void field_end(struct mime_parser *p)
{
        if (p->field >= 0) {
                struct str *value = &p->fields.v[p->field].value;
                struct span trimmed = span_trim(str_span(value));
                size_t blanks = (size_t)(trimmed.p - value->data), len = trimmed.len;

                str_truncate(value, blanks + len);
                str_consume(value, blanks);
                p->kept += value->len;
        }
        p->field = -1;
}

/* The header of `at` ends; its body begins at body_off. `lf` LFs were before that. */
static void header_end(struct mime_parser *p, uint64_t header_len, uint64_t body_off)
{
        struct node *n = &p->nodes.v[p->at];

        field_end(p);
        n->header_len = header_len;
        n->body_off = body_off;
        n->lf_before_body = p->lf_count;
        p->in_header = false;
        if (is_message_root(p, p->at))
                envelope_end(p);
        content_end(p);
        n = &p->nodes.v[p->at];
        if (n->part.kind == MIME_MESSAGE)
                node_open(p, (uint16_t)p->at, body_off, false);
}

/* ---- header lines ---- */

static struct span without_eol(struct span line)
{
        if (line.len && line.p[line.len - 1] == '\n') {
                line.len--;
                if (line.len && line.p[line.len - 1] == '\r')
                        line.len--;
        }
        return line;
}

static void value_append(struct mime_parser *p, struct span s)
{
        struct str *value = &p->fields.v[p->field].value;
        size_t room = MIME_FIELD_MAX > value->len ? MIME_FIELD_MAX - value->len : 0;
        size_t left = p->kept + value->len < MIME_KEPT_MAX ? (size_t)(MIME_KEPT_MAX - p->kept - value->len) : 0;

        room = room < left ? room : left;
        str_append(value, s.p, s.len < room ? s.len : room);
}

static int field_by_name(const struct mime_parser *p, struct span name)
{
        bool message = is_message_root(p, p->at);

        for (size_t i = 0; i < ARRAY_LEN(field_names); i++)
                if (span_ieq_str(name, field_names[i].name))
                        return message || field_names[i].id >= FIELD_CONTENT_FIRST ? (int)field_names[i].id : -1;
        return -1;
}

/* The first field of a name counts, but address lists of several fields are joined: no recipient shall be missing. */
static void field_begin(struct mime_parser *p, struct span line)
{
        size_t colon = span_index(line, ':');
        struct span name = { line.p, colon };
        int id;

        if (colon == line.len || colon > 64)
                return;
        while (name.len && (name.p[name.len - 1] == ' ' || name.p[name.len - 1] == '\t'))
                name.len--;
        id = field_by_name(p, name);
        if (id < 0)
                return;
        if (p->fields.v[id].present) {
                if (id < FIELD_FROM || id > FIELD_BCC)
                        return;
                p->kept -= p->fields.v[id].value.len;           /* counted again when the joined one ends */
                p->field = id;
                value_append(p, SPAN(", "));
        } else if (p->kept >= MIME_KEPT_MAX) {
                return;
        }
        p->fields.v[id].present = true;
        p->field = id;
        value_append(p, (struct span){ line.p + colon + 1, line.len - colon - 1 });
}

static bool boundary_line(struct mime_parser *p, struct span line);

/* One line, complete but perhaps cut at MIME_LINE_MAX; p->offset is after it. */
static void header_line(struct mime_parser *p, struct span line)
{
        struct node *n = &p->nodes.v[p->at];

        line = without_eol(line);
        if (p->levels_n && line.len >= 2 && line.p[0] == '-' && line.p[1] == '-' && boundary_line(p, line))
                return;
        if (line.len == 0) {
                header_end(p, p->offset - n->header_off, p->offset);
                return;
        }
        if (p->line_start - n->header_off > MIME_HEADER_MAX) {
                field_end(p);
                return;
        }
        if (line.p[0] == ' ' || line.p[0] == '\t') {
                if (p->field >= 0)
                        value_append(p, line);
                return;
        }
        field_end(p);
        field_begin(p, line);
}

/* ---- boundaries ---- */

/* Close every open part below `level`, whose boundary line begins at p->line_start. The line end before it is the boundary's. */
static void close_below(struct mime_parser *p, uint32_t level_node, uint64_t line_start, unsigned eol, uint64_t lf_before_line)
{
        uint64_t end = line_start - eol;
        uint32_t at = p->at;

        if (p->in_header) {                                     /* the empty line is missing */
                struct node *n = &p->nodes.v[at];
                bool embedded = is_message_root(p, at);
                uint64_t header_end_off = embedded && n->header_off < end ? end : embedded ? n->header_off : line_start;
                uint64_t lf = p->lf_count;

                p->lf_count = lf_before_line;
                header_end(p, header_end_off - n->header_off, header_end_off);
                if (p->in_header)                               /* it was a message/rfc822, whose message is empty */
                        header_end(p, 0, header_end_off);
                p->lf_count = lf;
                at = p->at;
        }
        while (at != level_node) {
                struct node *n = &p->nodes.v[at];

                must(n->part.parent != MIME_PART_NO_PARENT);
                if (!n->closed) {
                        bool cut = eol && n->body_off < line_start;
                        uint64_t lfs = lf_before_line - (cut ? 1 : 0);

                        n->body_len = end > n->body_off ? end - n->body_off : 0;
                        n->lines = n->body_len && lfs > n->lf_before_body ? lfs - n->lf_before_body : 0;
                        n->closed = true;
                }
                at = n->part.parent;
        }
}

static bool only_blanks(struct span s)
{
        for (size_t i = 0; i < s.len; i++)
                if (s.p[i] != ' ' && s.p[i] != '\t')
                        return false;
        return true;
}

/*
 * Which level's boundary is this line ("--" and more, no line end)? RFC 2046 5.1.1 is content with a line that begins with a
 * boundary, but one may be the beginning of another: an exact match of any level goes before, then the longest one.
 */
static size_t boundary_match(const struct mime_parser *p, struct span line, bool *closing_r)
{
        size_t best = p->levels_n, best_len = 0;

        for (size_t i = p->levels_n; i-- > 0;) {
                struct span b = str_span(&p->levels[i].boundary), rest;
                bool closing;

                if (line.len < 2 + b.len || memcmp(line.p + 2, b.p, b.len) != 0)
                        continue;
                rest = (struct span){ line.p + 2 + b.len, line.len - 2 - b.len };
                closing = rest.len >= 2 && rest.p[0] == '-' && rest.p[1] == '-';
                if (only_blanks(closing ? (struct span){ rest.p + 2, rest.len - 2 } : rest)) {
                        *closing_r = closing;
                        return i;
                }
                if (b.len > best_len) {
                        best = i;
                        best_len = b.len;
                        *closing_r = closing;
                }
        }
        return best;
}

/* A line that begins with "--": when it is a boundary, do what that means and return true. p->offset is after its end. */
static bool boundary_line(struct mime_parser *p, struct span line)
{
        bool closing = false, ends_with_lf = p->any_octet && p->last_octet == '\n' && p->offset > p->line_start;
        size_t i;
        struct level *level;

        if (line.len > PREFIX_MAX)
                line.len = PREFIX_MAX;                          /* as much as there is of a body line */
        i = boundary_match(p, line, &closing);
        if (i == p->levels_n)
                return false;
        level = &p->levels[i];
        close_below(p, level->node, p->line_start, p->eol_before, p->lf_count - (ends_with_lf ? 1 : 0));
        pop_levels(p, i + 1);
        p->at = level->node;
        p->in_header = false;
        if (closing || p->nodes.n >= MIME_PARTS_MAX) {
                pop_levels(p, i);                               /* what follows is epilogue */
                return true;
        }
        node_open(p, (uint16_t)level->node, p->offset, level->digest);
        return true;
}

/* ---- octets ---- */

struct seen {
        bool high, nul, bare_cr, bare_lf;
        uint64_t lf;
};

static struct seen look(const unsigned char *s, size_t n, unsigned char before)
{
        struct seen seen = { 0 };
        unsigned char all = 0;

        for (size_t i = 0; i < n; i++) {
                unsigned char c = s[i];

                all |= c;
                if (c < 0x0e) {
                        if (c == '\n') {
                                seen.lf++;
                                seen.bare_lf |= before != '\r';
                        } else if (c == '\0') {
                                seen.nul = true;
                        }
                }
                seen.bare_cr |= before == '\r' && c != '\n';
                before = c;
        }
        seen.high = all & 0x80;
        return seen;
}

/* The octets up to and including a line end, or as many of the line as there are: counted, and noted with the part. */
static void account(struct mime_parser *p, const char *s, size_t n, bool in_body)
{
        struct seen seen = look((const unsigned char *)s, n, p->any_octet ? (unsigned char)p->last_octet : 0);

        p->lf_count += seen.lf;
        p->has_8bit |= seen.high;
        p->has_nul |= seen.nul;
        p->has_bare_cr |= seen.bare_cr;
        p->has_bare_lf |= seen.bare_lf;
        if (in_body)
                p->nodes.v[p->at].part.flags |= (uint8_t)((seen.high ? MIME_PART_8BIT : 0) | (seen.nul ? MIME_PART_NUL : 0));
}

static void line_begin(struct mime_parser *p, unsigned eol)
{
        p->line_start = p->offset;
        p->eol_before = eol;
        str_clear(&p->line);
        p->line_plain = false;
}

/* `n` octets, at most one LF among them, at the end. */
static void take(struct mime_parser *p, const char *s, size_t n, bool complete)
{
        bool in_header = p->in_header;
        unsigned eol = 0;

        if (complete)
                eol = (n > 1 ? s[n - 2] == '\r' : p->any_octet && p->offset > p->line_start && p->last_octet == '\r') ? 2 : 1;
        account(p, s, n, !in_header);
        p->offset += n;
        p->last_octet = s[n - 1];
        p->any_octet = true;
        if (in_header) {
                if (p->line.len == 0 && complete && n <= MIME_LINE_MAX) {
                        header_line(p, (struct span){ s, n });
                } else {
                        size_t room = MIME_LINE_MAX - p->line.len;

                        str_append(&p->line, s, n < room ? n : room);
                        if (complete)
                                header_line(p, str_span(&p->line));
                }
        } else if (p->levels_n && !p->line_plain) {
                size_t room = PREFIX_MAX + 2 - p->line.len;

                if (p->line.len == 0 && s[0] != '-')
                        p->line_plain = true;
                else
                        str_append(&p->line, s, n < room ? n : room);
                if (p->line.len > 1 && p->line.data[1] != '-')
                        p->line_plain = true;
                if (complete && !p->line_plain && p->line.len >= 2)
                        boundary_line(p, without_eol(str_span(&p->line)));
        }
        if (complete)
                line_begin(p, eol);
}

void mime_parser_feed(struct mime_parser *p, const void *data, size_t len)
{
        const char *s = data;

        while (len) {
                const char *lf;
                size_t n;

                if (!p->in_header && p->levels_n == 0) {        /* nothing can end this part but the end of the message */
                        account(p, s, len, true);
                        p->offset += len;
                        p->last_octet = s[len - 1];
                        p->any_octet = true;
                        return;
                }
                lf = memchr(s, '\n', len);
                n = lf ? (size_t)(lf - s) + 1 : len;
                take(p, s, n, lf != NULL);
                s += n;
                len -= n;
        }
}

/* ---- the end ---- */

static uint32_t clamp(uint64_t v)
{
        return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

static struct mime_part part_of(const struct node *n)
{
        struct mime_part part = n->part;

        part.header_off = clamp(n->header_off);
        part.header_len = clamp(n->header_len);
        part.body_off = clamp(n->body_off);
        part.body_len = clamp(n->body_len);
        part.lines = clamp(n->lines);
        return part;
}

/* A multipart is as odd as what is in it: TEXT of it is sent as a whole. Parents stand before their children. */
static void flags_upwards(struct mime_parser *p)
{
        for (size_t i = p->nodes.n; i-- > 1;)
                p->nodes.v[p->nodes.v[i].part.parent].part.flags |= p->nodes.v[i].part.flags & (MIME_PART_8BIT | MIME_PART_NUL);
}

static void close_all(struct mime_parser *p)
{
        if (p->line.len) {                                      /* the last line has no end */
                if (p->in_header)
                        header_line(p, str_span(&p->line));
                else if (p->levels_n && !p->line_plain && p->line.len >= 2)
                        boundary_line(p, str_span(&p->line));
        }
        while (p->in_header)                                    /* again for a message/rfc822 whose message is empty */
                header_end(p, p->offset - p->nodes.v[p->at].header_off, p->offset);
        for (size_t i = 0; i < p->nodes.n; i++) {
                struct node *n = &p->nodes.v[i];

                if (!n->closed) {
                        n->body_len = p->offset - n->body_off;
                        n->lines = p->lf_count - n->lf_before_body;
                        n->closed = true;
                }
        }
}

void mime_parser_finish(struct mime_parser *p, struct mime_result *r)
{
        memset(r, 0, sizeof *r);
        close_all(p);
        flags_upwards(p);
        str_init(&r->envelope);
        str_init(&r->body);
        str_init(&r->bodystructure);
        str_append_span(&r->envelope, str_span(&p->nodes.v[0].envelope));
        render_body(&r->body, p->nodes.v, 0, false);
        render_body(&r->bodystructure, p->nodes.v, 0, true);
        r->parts = xcalloc(p->nodes.n, sizeof *r->parts);
        r->parts_n = p->nodes.n;
        for (size_t i = 0; i < p->nodes.n; i++)
                r->parts[i] = part_of(&p->nodes.v[i]);
        r->size = p->offset;
        r->header_size = p->nodes.v[0].header_len;
        r->lines = p->lf_count;
        r->sentdate = p->has_date ? p->date.unix_s : 0;
        r->has_sentdate = p->has_date;
        r->thread = p->thread;
        r->has_8bit = p->has_8bit;
        r->has_nul = p->has_nul;
        r->has_bare_cr = p->has_bare_cr || (p->any_octet && p->last_octet == '\r');
        r->has_bare_lf = p->has_bare_lf;
}

void mime_result_deinit(struct mime_result *r)
{
        str_deinit(&r->envelope);
        str_deinit(&r->body);
        str_deinit(&r->bodystructure);
        free(r->parts);
        r->parts = NULL;
        r->parts_n = 0;
}

void mime_parse(struct span message, struct mime_result *r)
{
        struct mime_parser *p = mime_parser_create();

        mime_parser_feed(p, message.p, message.len);
        mime_parser_finish(p, r);
        mime_parser_destroy(&p);
}
