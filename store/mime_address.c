/*
 * mime_address - address lists (RFC 5322 3.4, obsolete syntax 4.4), read generously; see mime.h
 * One pass, no look-back: words are collected in two ways at once, as a phrase (blanks kept) and as a local part (blanks dropped),
 * until the character that tells which it was.
 */
#include "store/mime_private.h"

void mime_address_init(struct mime_address *a)
{
        str_init(&a->name);
        str_init(&a->route);
        str_init(&a->mailbox);
        str_init(&a->host);
        a->has_name = a->has_route = false;
        a->kind = MIME_ADDRESS;
}

void mime_address_deinit(struct mime_address *a)
{
        str_deinit(&a->name);
        str_deinit(&a->route);
        str_deinit(&a->mailbox);
        str_deinit(&a->host);
}

static void address_clear(struct mime_address *a)
{
        str_clear(&a->name);
        str_clear(&a->route);
        str_clear(&a->mailbox);
        str_clear(&a->host);
        a->has_name = a->has_route = false;
        a->kind = MIME_ADDRESS;
}

static bool ends_word(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '(' || c == '"' || c == '<' || c == '>' || c == '@' || c == ',' ||
               c == ';' || c == ':';
}

/* Words up to one of < > @ , ; : or the end. `phrase` may be NULL. */
static void words(struct span s, size_t *pos, struct str *phrase, struct str *local, struct str *comment)
{
        for (;;) {
                bool blank = mime_skip_cfws(s, pos, comment);
                size_t start = local->len;

                if (*pos >= s.len)
                        return;
                if (s.p[*pos] == '"') {
                        mime_quoted(s, pos, local);
                } else if (ends_word(s.p[*pos])) {
                        return;
                } else {
                        for (; *pos < s.len && !ends_word(s.p[*pos]); ++*pos) {
                                if (s.p[*pos] == '\\' && *pos + 1 < s.len)
                                        ++*pos;
                                str_append_c(local, s.p[*pos]);
                        }
                }
                if (phrase) {
                        if (blank && phrase->len)
                                str_append_c(phrase, ' ');
                        str_append(phrase, local->data + start, local->len - start);
                }
        }
}

static void domain(struct span s, size_t *pos, struct str *out, struct str *comment)
{
        for (;;) {
                mime_skip_cfws(s, pos, comment);
                if (*pos >= s.len)
                        return;
                if (s.p[*pos] == '[') {
                        while (*pos < s.len && s.p[*pos] != ']') {      /* a literal may hold colons */
                                if (s.p[*pos] == '\r' || s.p[*pos] == '\n' || s.p[*pos] == '>' || s.p[*pos] == ',')
                                        break;
                                str_append_c(out, s.p[(*pos)++]);
                        }
                        if (*pos < s.len && s.p[*pos] == ']')
                                str_append_c(out, s.p[(*pos)++]);
                        else
                                return;
                } else if (ends_word(s.p[*pos])) {
                        return;
                } else {
                        while (*pos < s.len && !ends_word(s.p[*pos]) && s.p[*pos] != '[')
                                str_append_c(out, s.p[(*pos)++]);
                }
        }
}

/* From after the '<' to after the '>'. */
static void angle(struct span s, size_t *pos, struct mime_address *a, struct str *comment)
{
        struct str hop = STR_INIT;

        mime_skip_cfws(s, pos, comment);
        while (*pos < s.len && (s.p[*pos] == '@' || s.p[*pos] == ',')) {        /* RFC 5322 4.4 obs-route */
                if (s.p[(*pos)++] == '@') {
                        str_clear(&hop);
                        domain(s, pos, &hop, comment);
                        str_printf(&a->route, "%s@", a->route.len ? "," : "");
                        str_append_span(&a->route, str_span(&hop));
                        a->has_route = true;
                }
                mime_skip_cfws(s, pos, comment);
                if (*pos < s.len && s.p[*pos] == ':') {
                        ++*pos;
                        break;
                }
        }
        str_deinit(&hop);
        words(s, pos, NULL, &a->mailbox, comment);
        if (*pos < s.len && s.p[*pos] == '@') {
                ++*pos;
                domain(s, pos, &a->host, comment);
        }
        while (*pos < s.len && s.p[*pos] != '>') {                      /* what does not belong there */
                if (s.p[*pos] == ',' || s.p[*pos] == '<')
                        return;                                         /* the '>' is missing */
                ++*pos;
        }
        if (*pos < s.len)
                ++*pos;
}

static void set_name(struct mime_address *a, const struct str *name)
{
        str_append_span(&a->name, span_trim(str_span(name)));
        a->has_name = a->name.len > 0;
}

struct words_buffers {
        struct str phrase, local, comment;
};

/* One mailbox or the beginning of a group; *pos is not at the end and not at a separator. Returns false when it was nothing. */
static bool one(struct span s, size_t *pos, bool *in_group, struct mime_address *a, struct words_buffers *b)
{
        words(s, pos, &b->phrase, &b->local, &b->comment);
        if (*pos < s.len && s.p[*pos] == ':') {
                ++*pos;
                if (*in_group || b->phrase.len == 0)
                        return false;
                set_name(a, &b->phrase);
                a->kind = MIME_GROUP_START;
                *in_group = true;
                return true;
        }
        if (*pos < s.len && s.p[*pos] == '@') {
                ++*pos;
                str_append_span(&a->mailbox, str_span(&b->local));
                domain(s, pos, &a->host, &b->comment);
                if (*pos < s.len && s.p[*pos] == '<') {                 /* "joe@x <joe@x>": the first was a careless phrase */
                        str_append_c(&b->phrase, '@');
                        str_append_span(&b->phrase, str_span(&a->host));
                        str_clear(&a->mailbox);
                        str_clear(&a->host);
                }
        } else if (*pos >= s.len || s.p[*pos] != '<') {
                str_append_span(&a->mailbox, span_trim(str_span(&b->phrase)));
        }
        if (*pos < s.len && s.p[*pos] == '<') {
                ++*pos;
                set_name(a, &b->phrase);
                angle(s, pos, a, &b->comment);
        }
        while (*pos < s.len && s.p[*pos] != ',' && s.p[*pos] != ';')    /* to the separator, whatever stands there */
                if (!mime_skip_cfws(s, pos, &b->comment))
                        ++*pos;
        if (!a->has_name && b->comment.len)
                set_name(a, &b->comment);
        return a->has_name || a->mailbox.len || a->host.len;
}

bool mime_address_next(struct span s, size_t *pos, bool *in_group, struct mime_address *a)
{
        struct words_buffers b = { STR_INIT, STR_INIT, STR_INIT };
        bool found = false;

        while (!found) {
                address_clear(a);
                str_clear(&b.comment);
                mime_skip_cfws(s, pos, &b.comment);             /* "(Joe) joe@x" */
                if (*pos >= s.len || s.p[*pos] == ';') {
                        bool end = *pos >= s.len;

                        if (!end)
                                ++*pos;
                        if (*in_group) {
                                *in_group = false;
                                a->kind = MIME_GROUP_END;
                                found = true;
                        } else if (end) {
                                break;
                        }
                } else if (s.p[*pos] == ',' || s.p[*pos] == '>') {
                        ++*pos;
                } else {
                        str_clear(&b.phrase);
                        str_clear(&b.local);
                        found = one(s, pos, in_group, a, &b);
                }
        }
        str_deinit(&b.phrase);
        str_deinit(&b.local);
        str_deinit(&b.comment);
        return found;
}
