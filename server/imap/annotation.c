/* annotation - see annotation.h */
#include "server/imap/annotation.h"

#include "server/imap/cmds.h"
#include "server/imap/imap_private.h"
#include "server/metadata.h"
#include "store/mime.h"
#include "util/array.h"

/* ---- entries ---- */

/* The part numbers at the beginning (RFC 3501 9, section-part): returns their octets, 0 when there are none, -1. */
static int read_part(struct span entry, struct annotation_part *part, struct err *err)
{
        size_t i = 1;

        part->n = 0;
        if (entry.len < 2 || !ascii_isdigit(entry.p[1]))
                return 0;
        for (;;) {
                size_t start = i;
                uint64_t number;

                while (i < entry.len && ascii_isdigit(entry.p[i]))
                        i++;
                if (!span_u64((struct span){ entry.p + start, i - start }, UINT32_MAX, &number) || entry.p[start] == '0' ||
                    part->n == ANNOTATION_PATH_MAX)
                        return err_set(err, ERR_SYNTAX, "Impossible part number in an entry's name");
                part->path[part->n++] = (uint32_t)number;
                if (i == entry.len || entry.p[i] == '/')
                        return (int)i;
                if (entry.p[i++] != '.')
                        return err_set(err, ERR_SYNTAX, "Impossible part number in an entry's name");
        }
}

int annotation_entry(struct span entry, struct annotation_part *part_r, struct err *err)
{
        struct annotation_part ignored;

        return annot_check_entry(entry, err) < 0 || read_part(entry, part_r ? part_r : &ignored, err) < 0 ? -1 : 0;
}

int annotation_pattern(struct span pattern, bool *wild_r, struct err *err)
{
        *wild_r = pattern.len && (memchr(pattern.p, '*', pattern.len) || memchr(pattern.p, '%', pattern.len));
        if (!*wild_r)
                return annotation_entry(pattern, NULL, err);
        if (pattern.len > ANNOTATION_PATTERN_MAX)
                return err_set(err, ERR_LIMIT, "An entry's name with wildcards has at most %d octets", ANNOTATION_PATTERN_MAX);
        for (size_t i = 0; i < pattern.len; i++)
                if ((unsigned char)pattern.p[i] < 0x20 || (unsigned char)pattern.p[i] >= 0x7f)
                        return err_set(err, ERR_SYNTAX, "Impossible entry name");
        return 0;
}

/*
 * All places in the pattern that what was read of the entry may have led to, as bits: place i is before octet i. What stands at a
 * wildcard may also go on behind it.
 */
struct places { uint64_t bits[ANNOTATION_PATTERN_MAX / 64 + 1]; };

static bool has_place(const struct places *s, size_t i)
{
        return s->bits[i / 64] >> (i % 64) & 1;
}

static void add_place(struct places *s, struct span pattern, size_t i)
{
        s->bits[i / 64] |= UINT64_C(1) << (i % 64);
        while (i < pattern.len && (pattern.p[i] == '*' || pattern.p[i] == '%')) {
                i++;
                s->bits[i / 64] |= UINT64_C(1) << (i % 64);
        }
}

bool annotation_matches(struct span pattern, const char *entry)
{
        struct places now = { { 0 } };

        must(pattern.len <= ANNOTATION_PATTERN_MAX);
        add_place(&now, pattern, 0);
        for (; *entry; entry++) {
                struct places next = { { 0 } };

                for (size_t i = 0; i < pattern.len; i++) {
                        if (!has_place(&now, i))
                                continue;
                        if (pattern.p[i] == '*' || (pattern.p[i] == '%' && *entry != '/'))
                                add_place(&next, pattern, i);
                        else if (pattern.p[i] == *entry)
                                add_place(&next, pattern, i + 1);
                }
                now = next;
        }
        return has_place(&now, pattern.len);
}

bool annotation_part_exists(const struct annotation_part *part, const struct msg_front *front)
{
        uint32_t off, len;

        return part->n == 0 || mime_section_find(front->parts, front->part_count, part->path, part->n, MIME_SECTION_ALL, &off, &len, NULL);
}

bool annotation_attribute(struct span word, bool *size_r, enum annotation_scope *scope_r)
{
        static const struct { const char *name; bool size; enum annotation_scope scope; } attributes[] = {
                { "value", false, ANNOTATION_BOTH }, { "value.priv", false, ANNOTATION_PRIVATE }, { "value.shared", false, ANNOTATION_SHARED },
                { "size", true, ANNOTATION_BOTH }, { "size.priv", true, ANNOTATION_PRIVATE }, { "size.shared", true, ANNOTATION_SHARED },
        };

        for (size_t i = 0; i < ARRAY_LEN(attributes); i++)
                if (imap_word_is(word, attributes[i].name)) {
                        *size_r = attributes[i].size;
                        *scope_r = attributes[i].scope;
                        return true;
                }
        return false;
}

/* ---- setting: the grammar ---- */

static int out_of_grammar(struct imap_parser *ip, const char *what)
{
        return err_set(&ip->err, ERR_SYNTAX, "%s", what);
}

/* nstring / literal8 */
static int parse_value(struct imap_parser *ip, struct span *value_r)
{
        bool nil;

        if (imap_skip_c(ip, '~') && !imap_peek_c(ip, '{'))
                return out_of_grammar(ip, "Literal expected after ~");
        return imap_nstring(ip, value_r, &nil);
}

struct set_builder { ARRAY(struct annot) list; };

/* attribute SP value; sizes are the server's to know. */
static int parse_att_value(struct imap_parser *ip, struct annotation_set *set, const char *entry, struct set_builder *b)
{
        struct span word, value;
        enum annotation_scope scope;
        bool size;

        if (imap_astring(ip, &word) < 0 || imap_sp(ip) < 0)
                return -1;
        if (!annotation_attribute(word, &size, &scope) || size || scope == ANNOTATION_BOTH)
                return out_of_grammar(ip, "Only value.priv and value.shared can be set");
        if (parse_value(ip, &value) < 0)
                return -1;
        if (b->list.n == ANNOTATION_SET_MAX)
                return err_set(&ip->err, ERR_LIMIT, "More than %d values of annotations", ANNOTATION_SET_MAX);
        *ARRAY_PUSH(&b->list) = (struct annot){ entry, scope == ANNOTATION_PRIVATE ? NULL : "", value, 0 };
        set->private |= scope == ANNOTATION_PRIVATE;
        set->shared |= scope == ANNOTATION_SHARED;
        return 0;
}

static int parse_entry_att(struct imap_parser *ip, struct annotation_set *set, struct set_builder *b)
{
        struct annotation_part part;
        struct span entry;
        const char *name;

        if (imap_astring(ip, &entry) < 0 || annotation_entry(entry, &part, &ip->err) < 0 || imap_sp(ip) < 0 || imap_open_paren(ip) < 0)
                return -1;
        name = arena_strndup(ip->arena, entry.p, entry.len);
        set->parts |= part.n > 0;
        do {
                if (parse_att_value(ip, set, name, b) < 0)
                        return -1;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

int annotation_parse_set(struct imap_parser *ip, struct annotation_set *set)
{
        struct set_builder b = { ARRAY_INIT };
        int rc;

        *set = (struct annotation_set){ .n = 0 };
        rc = imap_open_paren(ip);
        while (rc == 0) {
                rc = parse_entry_att(ip, set, &b);
                if (rc == 0 && !imap_skip_c(ip, ' ')) {
                        rc = imap_close_paren(ip);
                        break;
                }
        }
        if (rc == 0) {
                set->n = (uint32_t)b.list.n;
                set->v = ARENA_ARRAY(ip->arena, struct annot, set->n);
                memcpy(set->v, b.list.v, set->n * sizeof *set->v);
        }
        ARRAY_FREE(&b.list);
        return rc;
}

/* ---- setting: may it be? ---- */

/* 1: yes; 0: ask again, blocking; -1. */
static int check_one(struct imap *imap, const struct annotation_check *c, const struct annot *a, bool blocking, struct err *err)
{
        struct annotation_part part;
        int octets = read_part(span_of(a->entry), &part, err);

        return octets < 0 ? -1 : metadata_message_check(imap->conf, a->entry, (size_t)octets, *a->user, a->value, c->rights, blocking, err);
}

static int check_all(struct imap *imap, struct annotation_check *c, bool blocking, struct err *err)
{
        int rc = 1;

        for (uint32_t i = 0; i < c->sets_n && rc > 0; i++)
                for (uint32_t k = 0; k < c->sets[i]->n && rc > 0; k++) {
                        const struct annot *a = &c->sets[i]->v[k];

                        rc = check_one(imap, c, a, blocking, err);
                        if (rc > 0 && *a->user && a->value.p && !annot_user_known(imap->store, a->user))
                                rc = blocking ? annot_user_make(imap->store, a->user, err) + 1 : 0;
                }
        return rc;
}

static void check_job(void *arg)
{
        struct annotation_check *c = arg;

        (void)check_all(c->imap, c, true, &c->err);
}

/* What needs no look at the entries. False: the tagged reply was sent. */
static bool may_set(struct imap *imap, struct annotation_check *c)
{
        for (uint32_t i = 0; i < c->sets_n; i++) {
                struct annotation_set *set = c->sets[i];

                if ((set->shared && !(c->rights & ACL_ANNOTATE)) || (set->private && !(c->rights & ACL_READ))) {        /* RFC 5257 3.4 */
                        imap_no(imap, "NOPERM", "Permission denied");
                        return false;
                }
                for (uint32_t k = 0; k < set->n; k++) {
                        if (!set->v[k].user)
                                set->v[k].user = imap->userid;
                        if (set->v[k].value.len > ANNOT_VALUE_MAX) {
                                imap_no(imap, "ANNOTATE TOOBIG", "An annotation has at most %d octets", ANNOT_VALUE_MAX);
                                return false;
                        }
                }
        }
        return true;
}

static enum cmd_result refuse(struct imap *imap, const struct err *err)
{
        if (err->code == ERR_PERM || err->code == ERR_BADNAME || err->code == ERR_SYNTAX)
                return imap_no(imap, err->code == ERR_PERM ? "NOPERM" : "CANNOT", "%s", err->text);
        return imap_fail(imap, err);
}

enum cmd_result annotation_check(struct imap *imap, struct annotation_check *c, bool *ok_r)
{
        int rc = 1;

        *ok_r = false;
        if (!c->asked) {
                c->imap = imap;
                if (!may_set(imap, c))
                        return CMD_DONE;
                rc = check_all(imap, c, false, &c->err);
                c->asked = true;
                if (rc == 0)
                        return imap_offload(imap, OFFLOAD_DB, check_job, c);
        }
        if (c->err.code != ERR_NONE)
                return refuse(imap, &c->err);
        *ok_r = true;
        return CMD_DONE;
}

enum cmd_result annotation_fail(struct imap *imap, const struct err *err)
{
        return err->code == ERR_LIMIT ? imap_no(imap, "ANNOTATE TOOMANY", "Too many annotations, or too large together") : imap_fail(imap, err);
}

/* ---- FETCH ---- */

static int parse_specifier(struct imap_parser *ip, struct annotation_item *item)
{
        struct annotation_specifier *s = &item->entries[item->entries_n];

        if (item->entries_n == ANNOTATION_ENTRIES_MAX)
                return err_set(&ip->err, ERR_LIMIT, "More than %d entries of annotations", ANNOTATION_ENTRIES_MAX);
        if (imap_list_mailbox(ip, &s->pattern) < 0 || annotation_pattern(s->pattern, &s->wild, &ip->err) < 0)
                return -1;
        if (!s->wild && annotation_entry(s->pattern, &s->part, &ip->err) < 0)
                return -1;
        s->pattern = arena_span(ip->arena, s->pattern);
        item->wild |= s->wild;
        item->parts |= s->part.n > 0;
        item->entries_n++;
        return 0;
}

static int parse_wanted(struct imap_parser *ip, struct annotation_item *item)
{
        struct annotation_wanted *w = &item->wanted[item->wanted_n];
        struct span word;

        if (item->wanted_n == ANNOTATION_ATTRIBUTES_MAX)
                return err_set(&ip->err, ERR_LIMIT, "More than %d attributes of annotations", ANNOTATION_ATTRIBUTES_MAX);
        if (imap_astring(ip, &word) < 0)
                return -1;
        if (!annotation_attribute(word, &w->size, &w->scope))
                return out_of_grammar(ip, "Attributes of annotations are value and size, with .priv or .shared or neither");
        item->wanted_n++;
        return 0;
}

/* One, or several in parentheses. */
static int parse_list(struct imap_parser *ip, struct annotation_item *item, int (*one)(struct imap_parser *ip, struct annotation_item *item))
{
        if (!imap_peek_c(ip, '('))
                return one(ip, item);
        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                if (one(ip, item) < 0)
                        return -1;
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

int annotation_parse_item(struct imap_parser *ip, struct annotation_item *item)
{
        *item = (struct annotation_item){ .entries_n = 0 };
        item->entries = ARENA_ARRAY(ip->arena, struct annotation_specifier, ANNOTATION_ENTRIES_MAX);
        if (imap_open_paren(ip) < 0 || parse_list(ip, item, parse_specifier) < 0 || imap_sp(ip) < 0 || parse_list(ip, item, parse_wanted) < 0)
                return -1;
        return imap_close_paren(ip);
}

bool annotation_has_any(const struct annotation_item *item, struct span shared, struct span private)
{
        for (unsigned i = 0; i < item->wanted_n; i++)
                if ((shared.p && (item->wanted[i].scope & ANNOTATION_SHARED)) || (private.p && (item->wanted[i].scope & ANNOTATION_PRIVATE)))
                        return true;
        return false;
}

static void append_attribute(const struct annotation_wanted *w, enum annotation_scope scope, struct span value, bool utf8, struct str *out)
{
        if (out->data[out->len - 1] != '(')
                str_append_c(out, ' ');
        str_append_str(out, w->size ? "size" : "value");
        str_append_str(out, scope == ANNOTATION_PRIVATE ? ".priv " : ".shared ");
        if (w->size)
                str_printf(out, "\"%zu\"", value.len);
        else
                imap_append_nstring8(out, value, utf8);
}

void annotation_append(const struct annotation_item *item, const char *entry, struct span shared, struct span private, bool utf8,
                       struct str *out)
{
        imap_append_astring(out, span_of(entry), utf8);
        str_append_str(out, " (");
        for (unsigned i = 0; i < item->wanted_n; i++) {
                const struct annotation_wanted *w = &item->wanted[i];

                if (w->scope & ANNOTATION_PRIVATE)
                        append_attribute(w, ANNOTATION_PRIVATE, private, utf8, out);
                if (w->scope & ANNOTATION_SHARED)
                        append_attribute(w, ANNOTATION_SHARED, shared, utf8, out);
        }
        str_append_c(out, ')');
}
