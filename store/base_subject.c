/*
 * base_subject - see base_subject.h. The names of the grammar are those of RFC 5256 5.
 *
 * Steps (3) and (4) are taken together: subj-leader is "blobs, then Re:", and a subj-blob that no Re: follows goes by (4), unless nothing
 * would be left. So the blobs in front are looked at once for each Re: – a subject of nothing but "[a][a][a]…" stays linear.
 */
#include "store/base_subject.h"

static bool has_prefix(struct span s, const char *lower)
{
        return span_istarts(s, lower);
}

static struct span skip(struct span s, size_t n)
{
        return (struct span){ s.p + n, s.len - n };
}

/* 1. Blanks of every kind, any number of them, are one space. */
static void one_space(struct span in, struct str *out)
{
        bool blank = false;

        str_clear(out);
        for (size_t i = 0; i < in.len; i++) {
                char c = in.p[i];

                if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
                        blank = true;
                        continue;
                }
                if (blank)
                        str_append_c(out, ' ');
                blank = false;
                str_append_c(out, c);
        }
        if (blank)
                str_append_c(out, ' ');
}

static struct span skip_spaces(struct span s)
{
        while (s.len && *s.p == ' ')
                s = skip(s, 1);
        return s;
}

/* subj-blob = "[" *BLOBCHAR "]" *WSP; false: there is none, *s is as it was. */
static bool skip_blob(struct span *s)
{
        size_t n;

        if (s->len == 0 || *s->p != '[')
                return false;
        for (n = 1; n < s->len && s->p[n] != '[' && s->p[n] != ']'; n++)
                ;
        if (n == s->len || s->p[n] == '[')
                return false;
        *s = skip_spaces(skip(*s, n + 1));
        return true;
}

/* subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":" */
static bool skip_refwd(struct span *s)
{
        struct span at = *s;

        if (has_prefix(at, "re"))
                at = skip(at, 2);
        else if (has_prefix(at, "fwd"))
                at = skip(at, 3);
        else if (has_prefix(at, "fw"))
                at = skip(at, 2);
        else
                return false;
        at = skip_spaces(at);
        skip_blob(&at);
        if (at.len == 0 || *at.p != ':')
                return false;
        *s = skip(at, 1);
        return true;
}

/* 2. *subj-trailer at the end; returns whether there was a "(fwd)". */
static bool cut_trailers(struct span *s)
{
        bool fwd = false;

        for (;;) {
                if (s->len && s->p[s->len - 1] == ' ') {
                        s->len--;
                } else if (s->len >= 5 && has_prefix(skip(*s, s->len - 5), "(fwd)")) {
                        s->len -= 5;
                        fwd = true;
                } else {
                        return fwd;
                }
        }
}

/* 3. to 5.; returns whether there was a subj-refwd. */
static bool cut_leaders(struct span *s)
{
        bool refwd = false;

        for (;;) {
                struct span at, before;

                *s = skip_spaces(*s);
                at = before = *s;
                while (skip_blob(&at))
                        if (at.len)
                                before = at;                    /* 4.: something is left */
                if (!skip_refwd(&at)) {
                        *s = before;
                        return refwd;
                }
                *s = at;
                refwd = true;
        }
}

bool base_subject(struct span subject, struct str *out)
{
        struct span s;
        bool reply = false;

        one_space(subject, out);
        s = str_span(out);
        for (;;) {
                reply |= cut_trailers(&s);
                reply |= cut_leaders(&s);
                if (s.len < 6 || !has_prefix(s, "[fwd:") || s.p[s.len - 1] != ']')      /* 6. */
                        break;
                s = (struct span){ s.p + 5, s.len - 6 };
                reply = true;
        }
        if (s.len)
                memmove(out->data, s.p, s.len);
        str_truncate(out, s.len);
        return reply;
}
