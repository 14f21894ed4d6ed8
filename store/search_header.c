/*
 * search_header - header fields as they pass by, decoded and matched; see search.h
 * A field is collected up to PIECE_MAX octets and handled then; of a longer one further pieces follow, cut at line ends where there are
 * any, so encoded words stay whole. The cuts depend on the field alone, not on how it was read.
 */
#include "store/search_private.h"

#include "util/clock.h"

#define PIECE_MAX 16384
#define WINDOW_MAX 16384                        /* new octets collected before the needles are looked for */

static bool contains(struct span haystack, struct span needle)
{
        return haystack.len >= needle.len && memmem(haystack.p, haystack.len, needle.p, needle.len) != NULL;
}

/* ---- the window: needles of BODY and TEXT ---- */

/* Each needle is looked for once in a window, however many keys name it: a command of a few kilobytes may hold thousands of keys. */
static bool look_for(struct search_eval *e, struct active *keys, uint8_t *asked)
{
        bool any = false;

        for (unsigned i = 0; i < keys->n;) {
                const struct search_key *k = e->program->by_index[keys->v[i]];
                uint8_t *there = &asked[k->needle];

                if (!*there)
                        *there = contains(str_span(&e->window), e->program->needles[k->needle]) ? 2 : 1;
                if (*there == 1) {
                        i++;
                        continue;
                }
                e->value[k->index] = TRI_YES;
                keys->v[i] = keys->v[--keys->n];
                any = true;
        }
        return any;
}

bool search_window(struct search_eval *e, bool in_header, bool end)
{
        size_t keep = e->program->needle_max ? e->program->needle_max - 1 : 0;
        bool any = false;

        if (e->window_any && (end || e->window.len >= keep + WINDOW_MAX)) {
                uint8_t asked[SEARCH_NEEDLES_MAX] = { 0 };      /* 1: not there, 2: there */

                any = look_for(e, &e->texts, asked);
                if (!in_header)
                        any |= look_for(e, &e->bodies, asked);
                e->window_any = false;
                if (e->window.len > keep)
                        str_consume(&e->window, e->window.len - keep);
        }
        if (end)
                str_clear(&e->window);
        return any;
}

/* ---- fields ---- */

/* The canonical text of a raw value. The plain case, ASCII without encoded words, only loses its folds. */
static void canonical_value(struct search_eval *e, struct span raw, struct str *out)
{
        if (e->field_cut && e->field_gap)
                str_append_c(out, ' ');
        if (charset_is_ascii(raw) && !memmem(raw.p, raw.len, "=?", 2) && !memchr(raw.p, '\0', raw.len)) {
                size_t from = out->len;

                mime_unfold(raw, out);
                casemap_ascii(out->data + from, out->data + from, out->len - from);
                return;
        }
        str_clear(&e->scratch);
        rfc2047_decode(span_trim(raw), &e->scratch);
        casemap_span(str_span(&e->scratch), out);
}

static bool sent_keys(struct search_eval *e, struct span value)
{
        struct mime_date date;
        bool any = false;

        if (!mime_date_parse(value, &date))
                return false;
        for (unsigned i = 0; i < e->headers.n;) {
                const struct search_key *k = e->program->by_index[e->headers.v[i]];
                int64_t local = date.unix_s + date.zone_s;

                if (k->op == SEARCH_HEADER) {
                        i++;
                        continue;
                }
                e->value[k->index] = (uint8_t)search_sent(k, local / 86400 - (local % 86400 < 0));
                e->headers.v[i] = e->headers.v[--e->headers.n];
                any = true;
        }
        return any;
}

static bool header_keys(struct search_eval *e, struct span name, struct span raw)
{
        size_t keep = e->program->needle_max ? e->program->needle_max - 1 : 0;
        bool any = false, decoded = false;

        for (unsigned i = 0; i < e->headers.n;) {
                const struct search_key *k = e->program->by_index[e->headers.v[i]];
                bool hit = k->op == SEARCH_HEADER && span_ieq(k->field, name);

                if (hit && k->needle >= 0) {
                        if (!decoded) {
                                canonical_value(e, raw, &e->value_text);
                                decoded = true;
                        }
                        hit = contains(str_span(&e->value_text), e->program->needles[k->needle]);
                }
                if (!hit) {
                        i++;
                        continue;
                }
                e->value[k->index] = TRI_YES;
                e->headers.v[i] = e->headers.v[--e->headers.n];
                any = true;
        }
        if (e->value_text.len > keep)                           /* a needle may go on in the next piece of the field */
                str_consume(&e->value_text, e->value_text.len - keep);
        return any;
}

/* A field, or a piece of a long one, is complete in e->field. */
static bool field_done(struct search_eval *e, bool own_header, bool more_pieces)
{
        struct span whole = str_span(&e->field), value = whole;
        bool any = false, first = !e->field_cut;

        if (whole.len == 0)
                return false;
        if (first) {
                size_t colon = span_index(whole, ':');
                struct span name = span_trim((struct span){ whole.p, colon < whole.len ? colon : 0 });

                str_clear(&e->field_name);
                str_append_span(&e->field_name, name);
                str_clear(&e->value_text);
                if (colon < whole.len)
                        value = (struct span){ whole.p + colon + 1, whole.len - colon - 1 };
        }
        if (own_header && e->headers.n) {
                any = header_keys(e, str_span(&e->field_name), value);
                if (first && span_ieq_str(str_span(&e->field_name), "Date"))
                        any |= sent_keys(e, value);
        }
        if (e->texts.n) {
                if (first && e->field_name.len) {
                        casemap_span(str_span(&e->field_name), &e->window);
                        str_append_str(&e->window, ": ");
                }
                canonical_value(e, value, &e->window);
                if (!more_pieces)
                        str_append_str(&e->window, "\r\n");
                e->window_any = true;
                any |= search_window(e, true, false);
        }
        e->field_cut = more_pieces;
        str_clear(&e->field);
        return any;
}

/* The field is too long for one piece: handle what there is up to the last line end, or all of it. */
static bool piece_done(struct search_eval *e, bool own_header)
{
        const char *lf = memrchr(e->field.data, '\n', e->field.len);
        size_t cut = lf ? (size_t)(lf - e->field.data) + 1 : e->field.len;
        struct str rest = STR_INIT;
        bool any;

        str_append(&rest, e->field.data + cut, e->field.len - cut);
        str_truncate(&e->field, cut);
        any = field_done(e, own_header, true);
        e->field_gap = lf != NULL;
        str_append_span(&e->field, str_span(&rest));
        str_deinit(&rest);
        return any;
}

static bool append_to_field(struct search_eval *e, struct span s, bool own_header)
{
        bool any = false;

        while (s.len) {
                size_t room = PIECE_MAX - e->field.len, n = s.len < room ? s.len : room;

                str_append(&e->field, s.p, n);
                s.p += n;
                s.len -= n;
                if (e->field.len == PIECE_MAX)
                        any |= piece_done(e, own_header);
        }
        return any;
}

/* The last octet taken was a line end. */
static bool at_line_start(const struct search_eval *e)
{
        return e->field.len ? e->field.data[e->field.len - 1] == '\n' : e->field_cut && e->field_gap;
}

static bool field_end(struct search_eval *e, bool own_header)
{
        bool any = field_done(e, own_header, false);

        if (e->field_cut && e->texts.n)                         /* its last piece was full */
                str_append_str(&e->window, "\r\n");
        e->field_cut = e->field_gap = false;
        return any;
}

bool search_header_feed(struct search_eval *e, struct span in, bool last, bool own_header)
{
        bool any = false;

        while (in.len) {
                size_t n = span_index(in, '\n');

                if (at_line_start(e) && in.p[0] != ' ' && in.p[0] != '\t')
                        any |= field_end(e, own_header);
                n = n < in.len ? n + 1 : in.len;
                any |= append_to_field(e, (struct span){ in.p, n }, own_header);
                in.p += n;
                in.len -= n;
        }
        if (last) {
                any |= field_end(e, own_header);
                any |= search_window(e, true, true);
                str_clear(&e->value_text);
        }
        return any;
}
