/* mime_header - header fields as octets, and the grammar that structured fields share; see mime.h */
#include "store/mime_private.h"

#include "util/hash.h"
#include "util/must.h"

static bool is_wsp(char c)
{
        return c == ' ' || c == '\t';
}

static bool is_lwsp(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Past the line that begins at `pos`. */
static size_t line_end(struct span s, size_t pos)
{
        size_t end = pos + span_index((struct span){ s.p + pos, s.len - pos }, '\n');

        return end < s.len ? end + 1 : s.len;
}

static size_t without_line_end(struct span s, size_t from, size_t to)
{
        if (to > from && s.p[to - 1] == '\n') {
                to--;
                if (to > from && s.p[to - 1] == '\r')
                        to--;
        }
        return to;
}

bool mime_field_next(struct span header, size_t *pos, struct mime_field *field_r)
{
        while (*pos < header.len) {
                size_t start = *pos, end = line_end(header, start), colon, name_end;

                if (without_line_end(header, start, end) == start)
                        return false;                           /* the empty line */
                while (end < header.len && is_wsp(header.p[end]))
                        end = line_end(header, end);
                *pos = end;
                colon = start + span_index((struct span){ header.p + start, end - start }, ':');
                for (name_end = start; name_end < colon && header.p[name_end] > ' ' && header.p[name_end] != 0x7f; name_end++)
                        ;
                for (size_t i = name_end; i < colon; i++)
                        if (!is_wsp(header.p[i]))
                                colon = end;                    /* blanks before the colon only: obsolete, RFC 5322 4.5 */
                if (colon >= end || name_end == start || colon - start > MIME_NAME_MAX)
                        continue;
                field_r->name = (struct span){ header.p + start, name_end - start };
                field_r->value = (struct span){ header.p + colon + 1, without_line_end(header, colon + 1, end) - colon - 1 };
                field_r->whole = (struct span){ header.p + start, end - start };
                return true;
        }
        return false;
}

bool mime_field_find(struct span header, const char *name, struct mime_field *field_r)
{
        size_t pos = 0;

        while (mime_field_next(header, &pos, field_r))
                if (span_ieq_str(field_r->name, name))
                        return true;
        return false;
}

void mime_unfold(struct span raw, struct str *out)
{
        struct span s = span_trim(raw);

        for (size_t i = 0; i < s.len; i++) {
                size_t after = i;

                if (s.p[i] != '\r' && s.p[i] != '\n') {
                        str_append_c(out, s.p[i]);
                        continue;
                }
                while (s.p[after] == '\r' || s.p[after] == '\n')        /* a last one was trimmed */
                        after++;
                if (!is_wsp(s.p[after]))
                        str_append_c(out, ' ');
                i = after - 1;
        }
}

/* ---- grammar ---- */

/* s.p[*pos] is '('. Nesting is counted, not recursed. */
static void skip_comment(struct span s, size_t *pos, struct str *text)
{
        size_t depth = 0;

        if (text)
                str_clear(text);
        for (; *pos < s.len; ++*pos) {
                char c = s.p[*pos];

                if (c == '(' && depth++ == 0)
                        continue;
                if (c == ')' && --depth == 0) {
                        ++*pos;
                        return;
                }
                if (c == '\\' && *pos + 1 < s.len)
                        c = s.p[++*pos];
                if (text && c != '\r' && c != '\n')
                        str_append_c(text, c);
        }
}

bool mime_skip_cfws(struct span s, size_t *pos, struct str *comment)
{
        size_t start = *pos;

        while (*pos < s.len) {
                if (is_lwsp(s.p[*pos]))
                        ++*pos;
                else if (s.p[*pos] == '(')
                        skip_comment(s, pos, comment);
                else
                        break;
        }
        return *pos > start;
}

void mime_quoted(struct span s, size_t *pos, struct str *out)
{
        must(*pos < s.len && s.p[*pos] == '"');
        for (++*pos; *pos < s.len; ++*pos) {
                char c = s.p[*pos];

                if (c == '"') {
                        ++*pos;
                        return;
                }
                if (c == '\\' && *pos + 1 < s.len)
                        c = s.p[++*pos];
                if (c != '\r' && c != '\n')
                        str_append_c(out, c);
        }
}

/* A token, taken generously: up to a blank, a comment or one of `stops`. */
static struct span token(struct span s, size_t *pos, const char *stops)
{
        size_t start = *pos;

        while (*pos < s.len && !is_lwsp(s.p[*pos]) && s.p[*pos] != '(' && (!s.p[*pos] || !strchr(stops, s.p[*pos])))
                ++*pos;
        return (struct span){ s.p + start, *pos - start };
}

/* To the next ';' outside of quotes and comments, and past it. Returns false at the end. */
static bool next_param(struct span s, size_t *pos)
{
        struct str ignored = STR_INIT;
        bool found = false;

        while (*pos < s.len && !found) {
                if (s.p[*pos] == '"')
                        mime_quoted(s, pos, &ignored);
                else if (s.p[*pos] == '(')
                        skip_comment(s, pos, NULL);
                else
                        found = s.p[(*pos)++] == ';';
                str_clear(&ignored);
        }
        str_deinit(&ignored);
        return found;
}

void content_parse(struct span value, struct content *c)
{
        size_t pos = 0;

        c->params_n = 0;
        c->subtype = (struct span){ NULL, 0 };
        mime_skip_cfws(value, &pos, NULL);
        c->type = token(value, &pos, "/;=\"");
        mime_skip_cfws(value, &pos, NULL);
        if (pos < value.len && value.p[pos] == '/') {
                pos++;
                mime_skip_cfws(value, &pos, NULL);
                c->subtype = token(value, &pos, "/;=\"");
        }
        while (c->params_n < MIME_PARAMS_MAX && next_param(value, &pos)) {
                struct param *p = &c->params[c->params_n];

                mime_skip_cfws(value, &pos, NULL);
                p->name = token(value, &pos, ";=\"");
                mime_skip_cfws(value, &pos, NULL);
                if (p->name.len == 0 || pos >= value.len || value.p[pos] != '=')
                        continue;
                pos++;
                mime_skip_cfws(value, &pos, NULL);
                str_init(&p->value);
                if (pos < value.len && value.p[pos] == '"')
                        mime_quoted(value, &pos, &p->value);
                else
                        str_append_span(&p->value, token(value, &pos, ";"));
                c->params_n++;
        }
}

void content_deinit(struct content *c)
{
        for (size_t i = 0; i < c->params_n; i++)
                str_deinit(&c->params[i].value);
        c->params_n = 0;
}

const struct param *content_param(const struct content *c, const char *name)
{
        for (size_t i = 0; i < c->params_n; i++)
                if (span_ieq_str(c->params[i].name, name))
                        return &c->params[i];
        return NULL;
}

void mime_header_charset(struct span header, struct str *out)
{
        struct mime_field field;
        struct content c;
        const struct param *p;

        if (!mime_field_find(header, "Content-Type", &field))
                return;
        content_parse(field.value, &c);
        p = content_param(&c, "charset");
        if (p)
                str_append_span(out, str_span(&p->value));
        content_deinit(&c);
}
