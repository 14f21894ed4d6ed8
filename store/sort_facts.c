/* sort_facts - see sort_facts.h */
#include "store/sort_facts.h"

#include "store/base_subject.h"
#include "store/mime.h"
#include "util/charset.h"
#include "util/hash.h"
#include "util/must.h"

#define FIELD_MAX 65536                         /* octets of a field that are looked at */
#define ID_MAX 1000

const struct sort_facts sort_facts_none;

enum field { F_SUBJECT, F_FROM, F_TO, F_CC, F_MESSAGE_ID, F_IN_REPLY_TO, F_REFERENCES, FIELDS };
static const char *const names[FIELDS] = { "Subject", "From", "To", "Cc", "Message-ID", "In-Reply-To", "References" };

struct span sort_facts_text(const struct sort_facts *f, enum sort_text which)
{
        const char *p = (const char *)(sort_facts_references(f) + f->references);

        for (unsigned i = 0; i < (unsigned)which; i++)
                p += f->text_len[i];
        return (struct span){ p, f->text_len[which] };
}

static uint64_t hash_of(struct span s)
{
        uint64_t h = hash_fixed(s.p, s.len);

        return h ? h : 1;
}

/* ---- message ids ---- */

/*
 * The octets of "<…>" from behind the "<", without quotes, escapes and blanks: <"a"@b> is <a@b>. False: it is none (RFC 5322 3.6.4 wants
 * an @, and nothing has no length); *pos is where to look on.
 */
static bool one_id(struct span s, size_t *pos, struct str *id)
{
        bool quoted = false, at = false;

        str_clear(id);
        for (; *pos < s.len; ++*pos) {
                char c = s.p[*pos];

                if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
                        continue;
                if (c == '"') {
                        quoted = !quoted;
                        continue;
                }
                if (quoted && c == '\\' && *pos + 1 < s.len) {
                        c = s.p[++*pos];
                } else if (!quoted && c == '<') {
                        return false;                           /* the one before never ended */
                } else if (!quoted && c == '>') {
                        ++*pos;
                        return at && id->len <= ID_MAX;
                } else if (!quoted && c == '@') {
                        at = id->len > 0;
                }
                if (id->len <= ID_MAX)
                        str_append_c(id, c);
        }
        return false;
}

uint64_t sort_next_message_id(struct span value, size_t *pos, struct str *scratch)
{
        while (*pos < value.len) {
                *pos += span_index((struct span){ value.p + *pos, value.len - *pos }, '<');
                if (*pos == value.len)
                        break;
                ++*pos;
                if (one_id(value, pos, scratch))
                        return hash_of(str_span(scratch));
        }
        return 0;
}

/* RFC 5256 3: of References, or else the first one of In-Reply-To. The last SORT_REFERENCES_MAX are kept. */
static unsigned references(const struct span *fields, uint64_t *ids, struct str *scratch)
{
        uint64_t id;
        size_t pos = 0;
        unsigned n = 0;

        while ((id = sort_next_message_id(fields[F_REFERENCES], &pos, scratch)) != 0) {
                if (n == SORT_REFERENCES_MAX)
                        memmove(ids, ids + 1, --n * sizeof *ids);
                ids[n++] = id;
        }
        pos = 0;
        if (n == 0 && (id = sort_next_message_id(fields[F_IN_REPLY_TO], &pos, scratch)) != 0)
                ids[n++] = id;
        return n;
}

/* ---- texts ---- */

static bool plain(struct span raw)
{
        if (raw.len == 0 || !raw.p)                             /* no such field */
                return true;
        return charset_is_ascii(raw) && !memmem(raw.p, raw.len, "=?", 2) && !memchr(raw.p, '\0', raw.len);
}

/* What RFC 5255 4.6 says of a field: unfolded and decoded. */
static void decode(struct span raw, struct str *out)
{
        str_clear(out);
        if (plain(raw))
                mime_unfold(raw, out);
        else
                rfc2047_decode(span_trim(raw), out);
}

/* Append the canonical form, cut. Returns its length. */
static uint16_t canonical(struct span utf8, struct str *out)
{
        size_t before = out->len;

        if (utf8.len > 4 * SORT_TEXT_MAX)
                utf8.len = 4 * SORT_TEXT_MAX;                   /* a character may be shorter in its canonical form, not by so much */
        if (charset_is_ascii(utf8)) {
                str_append_span(out, utf8);
                casemap_ascii(out->data + before, out->data + before, utf8.len);
        } else {
                casemap_span(utf8, out);
        }
        if (out->len - before > SORT_TEXT_MAX)
                str_truncate(out, before + SORT_TEXT_MAX);
        return (uint16_t)(out->len - before);
}

static uint64_t subject_hash(struct span base)
{
        struct str whole = STR_INIT;
        uint64_t h;

        if (base.len == 0)
                return 0;
        casemap_span(base, &whole);
        h = hash_of(str_span(&whole));
        str_deinit(&whole);
        return h;
}

/* The first address of a list as ENVELOPE shows it. */
static bool first_address(struct span list, struct mime_address *a)
{
        bool in_group = false;
        size_t pos = 0;

        return list.len && mime_address_next(list, &pos, &in_group, a) && a->kind != MIME_GROUP_END;
}

/* RFC 5957 3 */
static uint16_t display(const struct mime_address *a, struct str *out, struct str *scratch)
{
        if (a->kind == MIME_ADDRESS && a->has_name) {
                decode(str_span(&a->name), scratch);
                if (scratch->len)
                        return canonical(str_span(scratch), out);
        }
        str_clear(scratch);
        str_append_span(scratch, a->kind == MIME_GROUP_START ? str_span(&a->name) : str_span(&a->mailbox));
        if (a->kind == MIME_ADDRESS) {
                str_append_c(scratch, '@');
                str_append_span(scratch, a->host.len ? str_span(&a->host) : SPAN("unspecified-domain"));        /* as in ENVELOPE */
        }
        return canonical(str_span(scratch), out);
}

/* ---- the record ---- */

static void find_fields(struct span header, struct span *fields)
{
        struct mime_field field;
        size_t pos = 0;
        unsigned found = 0;

        memset(fields, 0, FIELDS * sizeof *fields);
        while (found != (1u << FIELDS) - 1 && mime_field_next(header, &pos, &field)) {
                for (unsigned i = 0; i < FIELDS; i++) {
                        if ((found & 1u << i) || ascii_lower(field.name.p[0]) != ascii_lower(names[i][0]) ||
                            !span_ieq_str(field.name, names[i]))
                                continue;
                        found |= 1u << i;
                        fields[i] = field.value;
                        if (fields[i].len > FIELD_MAX)
                                fields[i].len = FIELD_MAX;
                }
        }
}

void sort_facts_append(struct span header, struct str *out, struct str *scratch)
{
        static const enum field addresses[] = { F_FROM, F_TO, F_CC };
        struct sort_facts f = { 0 };
        struct span fields[FIELDS];
        struct mime_address a[3];
        bool have[3];
        uint64_t ids[SORT_REFERENCES_MAX];
        struct str base = STR_INIT;
        size_t at = out->len, pos = 0;

        must(at % 8 == 0);
        find_fields(header, fields);
        f.message_id = sort_next_message_id(fields[F_MESSAGE_ID], &pos, scratch);
        f.references = (uint8_t)references(fields, ids, scratch);
        str_append(out, &f, sizeof f);                          /* filled in at the end */
        str_append(out, ids, f.references * sizeof *ids);
        decode(fields[F_SUBJECT], scratch);
        f.reply = base_subject(str_span(scratch), &base);
        f.subject = subject_hash(str_span(&base));
        f.text_len[SORT_TEXT_SUBJECT] = canonical(str_span(&base), out);
        for (unsigned i = 0; i < 3; i++) {
                mime_address_init(&a[i]);
                have[i] = first_address(fields[addresses[i]], &a[i]);
                if (have[i])
                        f.text_len[SORT_TEXT_FROM + i] = canonical(str_span(a[i].kind == MIME_GROUP_START ? &a[i].name : &a[i].mailbox), out);
        }
        for (unsigned i = 0; i < 2; i++)
                if (have[i])
                        f.text_len[SORT_TEXT_DISPLAYFROM + i] = display(&a[i], out, scratch);
        for (unsigned i = 0; i < 3; i++)
                mime_address_deinit(&a[i]);
        memcpy(out->data + at, &f, sizeof f);
        while (out->len % 8)
                str_append_c(out, '\0');
        str_deinit(&base);
}
