/*
 * mime_render - ENVELOPE and BODYSTRUCTURE in IMAP's grammar (RFC 9051 7.5.2, 9); see mime.h
 * Strings are quoted when they are short and hold nothing but printable ASCII, else literals: an IMAP4rev1 client may be
 * reading, for which 8-bit octets in quoted strings are out of grammar.
 */
#include "store/mime_private.h"

#define QUOTED_MAX 1000

void render_string(struct str *out, struct span s)
{
        bool literal = s.len > QUOTED_MAX;

        for (size_t i = 0; i < s.len && !literal; i++)
                literal = (unsigned char)s.p[i] > 0x7e || ((unsigned char)s.p[i] < ' ' && s.p[i] != '\t' && s.p[i] != '\0');
        if (literal)
                str_printf(out, "{%zu}\r\n", s.len);
        else
                str_append_c(out, '"');
        for (size_t i = 0; i < s.len; i++) {
                if (!literal && (s.p[i] == '"' || s.p[i] == '\\'))
                        str_append_c(out, '\\');
                str_append_c(out, s.p[i] ? s.p[i] : '?');       /* neither form can hold a NUL */
        }
        if (!literal)
                str_append_c(out, '"');
}

static void render_nstring(struct str *out, bool present, struct span s)
{
        if (present)
                render_string(out, s);
        else
                str_append_str(out, "NIL");
}

static void render_upper(struct str *out, struct span s)
{
        struct str upper = STR_INIT;

        for (size_t i = 0; i < s.len; i++)
                str_append_c(&upper, ascii_upper(s.p[i]));
        render_string(out, str_span(&upper));
        str_deinit(&upper);
}

/* ---- ENVELOPE ---- */

/* RFC 9051 7.5.2: a NIL host marks group syntax, so an address without one gets the word that Cyrus uses. */
static void render_address(struct str *out, const struct mime_address *a)
{
        if (a->kind == MIME_GROUP_END) {
                str_append_str(out, "(NIL NIL NIL NIL)");
                return;
        }
        if (a->kind == MIME_GROUP_START) {
                str_append_str(out, "(NIL NIL ");
                render_string(out, str_span(&a->name));
                str_append_str(out, " NIL)");
                return;
        }
        str_append_c(out, '(');
        render_nstring(out, a->has_name, str_span(&a->name));
        str_append_c(out, ' ');
        render_nstring(out, a->has_route, str_span(&a->route));
        str_append_c(out, ' ');
        render_string(out, str_span(&a->mailbox));
        str_append_c(out, ' ');
        render_string(out, a->host.len ? str_span(&a->host) : SPAN("unspecified-domain"));
        str_append_c(out, ')');
}

/* Appends "((…)(…))" or "NIL". *left: how many addresses may still be rendered. */
static void render_addresses(struct str *out, struct span list, uint32_t *left)
{
        struct mime_address a;
        bool in_group = false, open_group = false, any = false;
        size_t pos = 0;

        mime_address_init(&a);
        while (*left && mime_address_next(list, &pos, &in_group, &a)) {
                if (!any)
                        str_append_c(out, '(');
                any = true;
                --*left;
                render_address(out, &a);
                open_group = in_group;
        }
        if (open_group)                                         /* the bound was reached within a group */
                str_append_str(out, "(NIL NIL NIL NIL)");
        str_append_str(out, any ? ")" : "NIL");
        mime_address_deinit(&a);
}

static void render_field(struct str *out, const struct field_set *f, enum field_id id)
{
        render_nstring(out, f->v[id].present, str_span(&f->v[id].value));
}

void render_envelope(struct str *out, struct field_set *f, uint32_t *left)
{
        struct str from = STR_INIT;

        str_append_c(out, '(');
        render_field(out, f, FIELD_DATE);
        str_append_c(out, ' ');
        render_field(out, f, FIELD_SUBJECT);
        str_append_c(out, ' ');
        render_addresses(&from, str_span(&f->v[FIELD_FROM].value), left);
        str_append_span(out, str_span(&from));
        for (enum field_id id = FIELD_SENDER; id <= FIELD_BCC; id++) {
                size_t before;

                str_append_c(out, ' ');
                before = out->len;
                render_addresses(out, str_span(&f->v[id].value), left);
                /* RFC 9051 7.5.2: a missing or empty Sender or Reply-To is the same as From. */
                if (id <= FIELD_REPLY_TO && out->len - before == 3) {
                        str_truncate(out, before);
                        str_append_span(out, str_span(&from));
                }
        }
        str_append_c(out, ' ');
        render_field(out, f, FIELD_IN_REPLY_TO);
        str_append_c(out, ' ');
        render_field(out, f, FIELD_MESSAGE_ID);
        str_append_c(out, ')');
        str_deinit(&from);
}

/* ---- BODYSTRUCTURE ---- */

static void render_params(struct str *out, const struct content *c)
{
        if (!c || c->params_n == 0) {
                str_append_str(out, "NIL");
                return;
        }
        for (size_t i = 0; i < c->params_n; i++) {
                str_append_c(out, i ? ' ' : '(');
                render_upper(out, c->params[i].name);           /* RFC 2231 forms stay as they came */
                str_append_c(out, ' ');
                render_string(out, str_span(&c->params[i].value));
        }
        str_append_c(out, ')');
}

static void render_disposition(struct str *out, const struct field_set *f)
{
        struct content c;

        if (!f->v[FIELD_DISPOSITION].present) {
                str_append_str(out, "NIL");
                return;
        }
        content_parse(str_span(&f->v[FIELD_DISPOSITION].value), &c);
        if (c.type.len == 0) {
                str_append_str(out, "NIL");
        } else {
                str_append_c(out, '(');
                render_upper(out, c.type);
                str_append_c(out, ' ');
                render_params(out, &c);
                str_append_c(out, ')');
        }
        content_deinit(&c);
}

/* Content-Language: a list of tags with commas between them (RFC 3282). */
static void render_language(struct str *out, const struct field_set *f)
{
        struct span s = str_span(&f->v[FIELD_LANGUAGE].value);
        size_t pos = 0;
        bool any = false;

        while (mime_skip_cfws(s, &pos, NULL), pos < s.len) {
                size_t start = pos;

                while (pos < s.len && s.p[pos] != ',' && s.p[pos] != ' ' && s.p[pos] != '\t' && s.p[pos] != '(' && s.p[pos] != '\r' &&
                       s.p[pos] != '\n')
                        pos++;
                if (pos == start) {
                        pos++;
                        continue;
                }
                str_append_c(out, any ? ' ' : '(');
                render_string(out, (struct span){ s.p + start, pos - start });
                any = true;
        }
        str_append_str(out, any ? ")" : "NIL");
}

static void render_extension(struct str *out, const struct field_set *f)
{
        str_append_c(out, ' ');
        render_disposition(out, f);
        str_append_c(out, ' ');
        render_language(out, f);
        str_append_c(out, ' ');
        render_field(out, f, FIELD_LOCATION);
}

/* Content-Transfer-Encoding as a string: an unknown one as it was written, upper case. */
static void render_encoding(struct str *out, const struct field_set *f)
{
        struct span s = str_span(&f->v[FIELD_ENCODING].value);
        size_t pos = 0, start;

        mime_skip_cfws(s, &pos, NULL);
        for (start = pos; pos < s.len && s.p[pos] > ' ' && s.p[pos] != ';' && s.p[pos] != '('; pos++)
                ;
        if (pos == start)
                str_append_str(out, "\"7BIT\"");
        else
                render_upper(out, (struct span){ s.p + start, pos - start });
}

void render_content(struct node *n, const struct field_set *f, const struct content *c, struct span type, struct span subtype, bool untyped)
{
        if (n->part.kind == MIME_MULTIPART) {
                render_upper(&n->head, subtype);
                str_append_c(&n->ext, ' ');
                render_params(&n->ext, c);
                render_extension(&n->ext, f);
                return;
        }
        render_upper(&n->head, type);
        str_append_c(&n->head, ' ');
        render_upper(&n->head, subtype);
        str_append_c(&n->head, ' ');
        if (untyped && n->part.kind == MIME_TEXT)
                str_append_str(&n->head, "(\"CHARSET\" \"US-ASCII\")");         /* RFC 2045 5.2 */
        else
                render_params(&n->head, c);
        str_append_c(&n->head, ' ');
        render_field(&n->head, f, FIELD_ID);
        str_append_c(&n->head, ' ');
        render_field(&n->head, f, FIELD_DESCRIPTION);
        str_append_c(&n->head, ' ');
        render_encoding(&n->head, f);
        str_append_c(&n->ext, ' ');
        render_field(&n->ext, f, FIELD_MD5);
        render_extension(&n->ext, f);
}

/* Recursion is bounded by MIME_DEPTH_MAX. */
void render_body(struct str *out, const struct node *nodes, uint32_t at, bool extensible)
{
        const struct node *n = &nodes[at];

        str_append_c(out, '(');
        if (n->part.kind == MIME_MULTIPART) {
                for (uint32_t i = n->first_child; i; i = nodes[i].next_sibling)
                        render_body(out, nodes, i, extensible);
                if (!n->first_child)                            /* the grammar wants one */
                        str_append_str(out, extensible ?
                                       "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 0 NIL NIL NIL NIL)" :
                                       "(\"TEXT\" \"PLAIN\" (\"CHARSET\" \"US-ASCII\") NIL NIL \"7BIT\" 0 0)");
                str_append_c(out, ' ');
                str_append_span(out, str_span(&n->head));
        } else {
                str_append_span(out, str_span(&n->head));
                str_append_c(out, ' ');
                str_append_u64(out, n->body_len);
                if (n->part.kind == MIME_MESSAGE) {
                        str_append_c(out, ' ');
                        str_append_span(out, str_span(&nodes[n->first_child].envelope));
                        str_append_c(out, ' ');
                        render_body(out, nodes, n->first_child, extensible);
                }
                if (n->part.kind != MIME_LEAF) {
                        str_append_c(out, ' ');
                        str_append_u64(out, n->lines);
                }
        }
        if (extensible)
                str_append_span(out, str_span(&n->ext));
        str_append_c(out, ')');
}
