/*
 * mime_pick - some fields of a header, as its octets pass by; see mime.h. A field is taken or left when its colon has come: until then
 * its name is held back. What mime_field_next() calls no field is left, and so is all behind the empty line.
 */
#include <stdlib.h>

#include "store/mime_private.h"

#include "util/hash.h"
#include "util/must.h"

#define NAMES_FEW 8                             /* hostile lists and hostile headers are both long: more go into a table */

enum at { LINE_START, IN_NAME, IN_BLANKS, IN_FIELD, PAST_END };

struct mime_pick {
        const struct span *names;
        size_t n;
        bool not;
        struct table *lower;                    /* NULL when they are few */
        enum at at;
        bool begun;                             /* a line was there: one with a blank in front goes on with it */
        bool take;                              /* the present field */
        bool whole_line;                        /* what was taken last ends with a line end */
        bool cr;                                /* a line began with CR: LF makes it the empty one */
        size_t name_len;
        struct str held, scratch;               /* from the field's beginning; a name in lower case */
};

static void lower_case(struct span s, struct str *out)
{
        str_clear(out);
        for (size_t i = 0; i < s.len; i++)
                str_append_c(out, ascii_lower(s.p[i]));
}

struct mime_pick *mime_pick_create(const struct span *names, size_t n, bool not)
{
        struct mime_pick *p = xcalloc(1, sizeof *p);

        p->names = names;
        p->n = n;
        p->not = not;
        p->lower = n > NAMES_FEW ? table_create() : NULL;
        str_init(&p->held);
        str_init(&p->scratch);
        for (size_t i = 0; p->lower && i < n; i++) {
                lower_case(names[i], &p->scratch);
                table_set(p->lower, str_span(&p->scratch), p);
        }
        mime_pick_restart(p);
        return p;
}

void mime_pick_destroy(struct mime_pick **pp)
{
        struct mime_pick *p = *pp;

        *pp = NULL;
        if (!p)
                return;
        table_destroy(&p->lower);
        str_deinit(&p->held);
        str_deinit(&p->scratch);
        free(p);
}

void mime_pick_restart(struct mime_pick *p)
{
        p->at = LINE_START;
        p->begun = p->take = p->cr = false;
        p->whole_line = true;
        str_clear(&p->held);
}

static bool is_named(struct mime_pick *p, struct span name)
{
        if (p->lower) {
                lower_case(name, &p->scratch);
                return table_find(p->lower, str_span(&p->scratch)) != NULL;
        }
        for (size_t i = 0; i < p->n; i++)
                if (span_ieq(name, p->names[i]))
                        return true;
        return false;
}

static void put(struct mime_pick *p, struct span s, struct str *out)
{
        if (!p->take || !s.len)
                return;
        str_append_span(out, s);
        p->whole_line = s.p[s.len - 1] == '\n';
}

/* The line is no field. */
static void leave(struct mime_pick *p)
{
        p->take = false;
        str_clear(&p->held);
        p->at = IN_FIELD;
}

static void colon(struct mime_pick *p, struct str *out)
{
        p->take = is_named(p, (struct span){ p->held.data, p->name_len }) != p->not;
        put(p, str_span(&p->held), out);
        str_clear(&p->held);
        p->at = IN_FIELD;
}

/* An octet of a name, of the blanks behind it, or the colon. */
static void name_octet(struct mime_pick *p, char c, struct str *out)
{
        bool blank = c == ' ' || c == '\t';

        str_append_c(&p->held, c);
        if (p->at == IN_NAME && c != ':' && (c <= ' ' || c == 0x7f)) {
                p->name_len = p->held.len - 1;
                p->at = IN_BLANKS;
        }
        if (c == ':') {
                if (p->at == IN_NAME)
                        p->name_len = p->held.len - 1;
                colon(p, out);
        } else if ((p->at == IN_BLANKS && !blank) || p->held.len > MIME_NAME_MAX) {
                leave(p);
        }
}

/* The first octet of a line; one that is CR waits for the next. */
static void first_octet(struct mime_pick *p, char c, struct str *out)
{
        bool blank = c == ' ' || c == '\t';

        if (c == '\n') {
                p->at = PAST_END;
        } else if (p->begun && blank) {
                put(p, (struct span){ &c, 1 }, out);
                p->at = IN_FIELD;
        } else if (blank || c == ':') {
                leave(p);
        } else {
                p->take = false;
                p->at = IN_NAME;
                name_octet(p, c, out);
        }
}

void mime_pick_feed(struct mime_pick *p, struct span in, bool last, struct str *out)
{
        while (in.len && p->at != PAST_END) {
                size_t n = 1;

                if (p->at == IN_FIELD) {
                        n = span_index(in, '\n');
                        n += n < in.len;
                        put(p, (struct span){ in.p, n }, out);
                } else if (p->at != LINE_START) {
                        name_octet(p, in.p[0], out);
                } else if (p->cr || in.p[0] != '\r') {
                        if (p->cr && in.p[0] != '\n')           /* a CR of its own: it began no field */
                                leave(p);
                        else
                                first_octet(p, in.p[0], out);
                        p->begun = true;
                        p->cr = false;
                } else {
                        p->cr = true;
                }
                if (in.p[n - 1] == '\n' && p->at != PAST_END)
                        p->at = LINE_START;
                in.p += n;
                in.len -= n;
        }
        if (!last)
                return;
        if (!p->whole_line)                                     /* the message ends in the header */
                str_append_str(out, "\r\n");
        str_append_str(out, "\r\n");
        p->whole_line = true;
}

void mime_header_fields(struct span header, const struct span *names, size_t n, bool not, struct str *out)
{
        struct mime_pick *p = mime_pick_create(names, n, not);

        mime_pick_feed(p, header, true, out);
        mime_pick_destroy(&p);
}
