/* callout_text - what is told to an annotation_callout, and what it answers; see callout.h */
#include "server/callout.h"

#include <inttypes.h>
#include <string.h>

#include "store/mime.h"
#include "util/array.h"
#include "util/hash.h"

static const struct { const char *name; uint32_t bit; } system_flags[] = {
        { "\\seen", MSG_SEEN }, { "\\answered", MSG_ANSWERED }, { "\\flagged", MSG_FLAGGED }, { "\\draft", MSG_DRAFT },
        { "\\deleted", MSG_DELETED },
};

/* ---- told ---- */

/* Cyrus's way: quoted where nothing has to be escaped. */
static void put_string(struct str *out, struct span s)
{
        bool literal = s.len > 1000;

        if (!s.p) {
                str_append_str(out, "NIL");
                return;
        }
        for (size_t i = 0; i < s.len && !literal; i++)
                literal = (unsigned char)s.p[i] < ' ' || (unsigned char)s.p[i] > 0x7e || s.p[i] == '"' || s.p[i] == '\\';
        if (literal) {
                str_printf(out, "{%zu}\r\n", s.len);
                str_append_span(out, s);
        } else {
                str_append_c(out, '"');
                str_append_span(out, s);
                str_append_c(out, '"');
        }
}

static void put_annotations(const struct callout_message *m, struct str *out)
{
        str_append_str(out, " ANNOTATIONS (");
        for (uint32_t i = 0; i < m->annots_n; i++) {
                bool same = i > 0 && strcmp(m->annots[i - 1].entry, m->annots[i].entry) == 0;

                if (i > 0)
                        str_append_str(out, same ? " " : ") ");
                if (!same) {
                        put_string(out, span_of(m->annots[i].entry));
                        str_append_str(out, " (");
                }
                str_append_str(out, m->annots[i].user && !*m->annots[i].user ? "\"value.shared\" " : "\"value.priv\" ");
                put_string(out, m->annots[i].value);
        }
        str_append_str(out, m->annots_n ? "))" : ")");
}

static void put_flags(const struct callout_message *m, struct str *out)
{
        const char *blank = "";

        str_append_str(out, " FLAGS (");
        for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
                if (m->flags & system_flags[i].bit) {
                        str_printf(out, "%s%s", blank, system_flags[i].name);
                        blank = " ";
                }
        for (uint32_t i = 0; i < m->keyword_count; i++) {
                str_append_str(out, blank);
                str_append_span(out, m->keywords[i]);
                blank = " ";
        }
        str_append_c(out, ')');
}

/* Where each part's list ends, in order of these places, and what is put there. */
struct addition {
        size_t at;
        const struct mime_part *part;
};

static int compare(const void *a, const void *b)
{
        const struct addition *x = a, *y = b;

        return x->at < y->at ? -1 : x->at > y->at;
}

static void put_body(const struct callout_message *m, struct str *out)
{
        const struct mime_result *mime = stage_mime(m->stage);
        struct span all = str_span(&mime->bodystructure);
        ARRAY(struct addition) ends = ARRAY_INIT;
        struct mime_structure place;
        size_t at = 0;

        for (size_t i = 0; i < mime->parts_n; i++)
                if (mime->parts[i].kind != MIME_MULTIPART && mime_structure_find(all, mime->parts, mime->parts_n, i, &place))
                        *ARRAY_PUSH(&ends) = (struct addition){ place.end - 1, &mime->parts[i] };
        if (ends.n)
                qsort(ends.v, ends.n, sizeof *ends.v, compare);
        str_append_str(out, " BODY ");
        for (size_t i = 0; i < ends.n; i++) {
                str_append(out, all.p + at, ends.v[i].at - at);
                str_printf(out, " (OFFSET %" PRIu32 " HEADERSIZE %" PRIu32 ")", ends.v[i].part->body_off, ends.v[i].part->header_len);
                at = ends.v[i].at;
        }
        str_append(out, all.p + at, all.len - at);
        ARRAY_FREE(&ends);
}

void callout_render(const struct callout_message *m, const char *file, struct str *out)
{
        char hex[2 * GUID_SIZE + 1];

        str_append_str(out, "(FILENAME ");
        put_string(out, span_of(file));
        put_annotations(m, out);
        put_flags(m, out);
        put_body(m, out);
        hex_encode(hex, stage_guid(m->stage), GUID_SIZE);
        str_printf(out, " GUID %s)", hex);
}

/* ---- answered ---- */

struct reader {
        const char *p, *end;
        struct arena *arena;
};

/* All reading below: 1; 0: the text ends too early; -1: out of grammar. */

static int skip_blanks(struct reader *r)
{
        while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\r' || *r->p == '\n'))
                r->p++;
        return r->p < r->end;
}

static int read_quoted(struct reader *r, struct span *s_r)
{
        const char *close = r->p + 1;
        size_t n = 0;
        char *text;

        while (close < r->end && *close != '"')
                close += *close == '\\' ? 2 : 1;
        if (close >= r->end)
                return 0;
        text = arena_alloc(r->arena, (size_t)(close - r->p));
        for (r->p++; r->p < close; r->p++) {
                r->p += *r->p == '\\';
                text[n++] = *r->p;
        }
        r->p++;
        *s_r = (struct span){ text, n };
        return 1;
}

static int read_literal(struct reader *r, struct span *s_r)
{
        uint64_t n = 0;

        for (r->p++; r->p < r->end && *r->p >= '0' && *r->p <= '9'; r->p++)
                if ((n = n * 10 + (uint64_t)(*r->p - '0')) > CALLOUT_REPLY_MAX)
                        return -1;
        if (r->p < r->end && *r->p == '+')
                r->p++;
        if (r->end - r->p < 3)
                return 0;
        if (memcmp(r->p, "}\r\n", 3) != 0)
                return -1;
        r->p += 3;
        if ((uint64_t)(r->end - r->p) < n)
                return 0;
        *s_r = (struct span){ r->p, (size_t)n };
        r->p += n;
        return 1;
}

/* A string of any form. NIL: p NULL. */
static int read_string(struct reader *r, struct span *s_r)
{
        const char *start;

        if (!skip_blanks(r))
                return 0;
        if (*r->p == '"')
                return read_quoted(r, s_r);
        if (*r->p == '{')
                return read_literal(r, s_r);
        for (start = r->p; r->p < r->end && !strchr(" \t\r\n()\"{", *r->p); r->p++)
                ;
        if (r->p == r->end)
                return 0;
        *s_r = (struct span){ start, (size_t)(r->p - start) };
        if (span_ieq_str(*s_r, "NIL"))
                *s_r = (struct span){ NULL, 0 };
        return r->p > start ? 1 : -1;
}

static int read_paren(struct reader *r, char paren)
{
        if (!skip_blanks(r))
                return 0;
        if (*r->p != paren)
                return -1;
        r->p++;
        return 1;
}

static bool peek(struct reader *r, char paren)
{
        return skip_blanks(r) && *r->p == paren;
}

/* Over one value, whatever it is. */
static int skip_value(struct reader *r)
{
        struct span ignored;
        size_t depth = 0;
        int rc = 1;

        do {
                if (!skip_blanks(r))
                        return 0;
                if (*r->p == '(' || *r->p == ')') {
                        if (*r->p == ')' && depth == 0)
                                return -1;
                        depth += *r->p == '(';
                        depth -= *r->p == ')';
                        r->p++;
                } else {
                        rc = read_string(r, &ignored);
                }
        } while (rc == 1 && depth > 0);
        return rc;
}

static void change_keyword(struct callout_answer *a, struct span name, bool add)
{
        uint32_t at = 0;

        while (at < a->keyword_count && !span_ieq(a->keywords[at], name))
                at++;
        if (add && at == a->keyword_count && at < CALLOUT_CHANGES_MAX)
                a->keywords[a->keyword_count++] = name;
        if (!add && at < a->keyword_count)
                memmove(&a->keywords[at], &a->keywords[at + 1], (--a->keyword_count - at) * sizeof *a->keywords);
}

/* Could it be a keyword? An atom (RFC 9051 9). */
static bool is_keyword(struct span s)
{
        for (size_t i = 0; i < s.len; i++)
                if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] >= 0x7f || strchr("(){%*\"\\]", s.p[i]))
                        return false;
        return s.len > 0 && s.len <= KEYWORD_BYTES_MAX;
}

static void change_flag(struct callout_answer *a, struct span name, bool add)
{
        for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
                if (span_ieq_str(name, system_flags[i].name)) {
                        a->flags = add ? a->flags | system_flags[i].bit : a->flags & ~system_flags[i].bit;
                        return;
                }
        if (is_keyword(name))
                change_keyword(a, name, add);
        else
                a->odd = true;
}

/* flag, or "(" flags ")" */
static int read_flags(struct reader *r, struct callout_answer *a, bool add)
{
        struct span name;
        int rc;

        if (!peek(r, '(')) {
                rc = read_string(r, &name);
                if (rc == 1)
                        change_flag(a, name, add);
                return rc;
        }
        for (r->p++; !peek(r, ')');) {
                rc = read_string(r, &name);
                if (rc != 1)
                        return rc;
                change_flag(a, name, add);
        }
        r->p++;
        return 1;
}

/* "(" entry *( "(" attribute value ")" ) ")" */
static int read_annotation(struct reader *r, struct callout_answer *a)
{
        struct span entry, attribute, value;
        int rc;

        if ((rc = read_paren(r, '(')) != 1 || (rc = read_string(r, &entry)) != 1)
                return rc;
        while (!peek(r, ')')) {
                bool shared, private;

                if ((rc = read_paren(r, '(')) != 1 || (rc = read_string(r, &attribute)) != 1 || (rc = read_string(r, &value)) != 1 ||
                    (rc = read_paren(r, ')')) != 1)
                        return rc;
                shared = span_ieq_str(attribute, "value.shared");
                private = span_ieq_str(attribute, "value.priv");
                if (!entry.p || !(shared || private) || a->annots_n == CALLOUT_CHANGES_MAX)
                        a->odd = true;
                else
                        a->annots[a->annots_n++] = (struct callout_annot){ arena_strndup(r->arena, entry.p, entry.len), private, value };
        }
        r->p++;
        return 1;
}

/* Is the whole list there? What is wrong in it beyond its parentheses and strings is found later. */
static int measure(struct reader r)
{
        return peek(&r, '(') ? skip_value(&r) : r.p < r.end ? -1 : 0;
}

int callout_parse(struct span reply, const struct callout_message *m, struct arena *arena, struct callout_answer *a)
{
        struct reader r = { reply.p, reply.p + reply.len, arena };
        struct span key;
        int rc = measure(r);

        if (rc != 1)
                return rc;
        *a = (struct callout_answer){ .flags = m->flags };
        a->keywords = ARENA_ARRAY(arena, struct span, m->keyword_count + CALLOUT_CHANGES_MAX);
        for (; a->keyword_count < m->keyword_count; a->keyword_count++)
                a->keywords[a->keyword_count] = m->keywords[a->keyword_count];
        a->annots = ARENA_ARRAY(arena, struct callout_annot, CALLOUT_CHANGES_MAX);
        read_paren(&r, '(');
        while (rc == 1 && !peek(&r, ')')) {
                rc = read_string(&r, &key);
                if (rc == 1 && (span_ieq_str(key, "+FLAGS") || span_ieq_str(key, "-FLAGS")))
                        rc = read_flags(&r, a, *key.p == '+');
                else if (rc == 1 && span_ieq_str(key, "ANNOTATION"))
                        rc = read_annotation(&r, a);
                else
                        rc = -1;
        }
        a->odd |= rc != 1;
        return 1;
}
