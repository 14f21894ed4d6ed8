/*
 * conf_read - the grammar of imapd.conf. See conf.h for what it is; here is how positions are kept: a logical line may be
 * joined from several physical ones, so a list of joints says which octet of it came from where.
 */
#include "util/conf_private.h"

#include <stdlib.h>
#include <string.h>

#include "util/array.h"

#define FILE_MAX (4u * 1024 * 1024)             /* octets of one file */
#define FILES_MAX 64                            /* files read through @include */

struct joint { size_t at; unsigned line, column; };

struct reader {
        struct conf *conf;
        const struct conf_source *source;
        struct diag *diag;
        const char *files[FILES_MAX];           /* all that were read: none is read twice */
        size_t file_count;
};

struct logical {                                /* one logical line */
        struct reader *r;
        const char *file;
        struct str text;
        ARRAY(struct joint) joints;
};

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f';
}

static void locate(const struct logical *l, size_t at, unsigned *line_r, unsigned *column_r)
{
        const struct joint *j = &l->joints.v[0];

        for (size_t i = 1; i < l->joints.n && l->joints.v[i].at <= at; i++)
                j = &l->joints.v[i];
        *line_r = j->line;
        *column_r = j->column + (unsigned)(at - j->at);
}

#define COMPLAIN(l, level, at, ...) do { \
        unsigned line_, column_; \
        locate((l), (at), &line_, &column_); \
        diag_add((l)->r->diag, (level), (l)->file, line_, column_, __VA_ARGS__); \
} while (0)

static void read_file(struct reader *r, const char *path, const struct logical *from, size_t from_at);

/* Names that no table can hold: they contain a partition, a host, a SASL option. */
static bool is_free_form(const char *name)
{
        static const char *const inside[] = { "partition-", "sasl_", "xlist-", "autocreate_acl" };
        static const char *const endings[] = { "_password", "_mechs", "_client_cert", "_client_key" };
        size_t len = strlen(name);

        for (size_t i = 0; i < ARRAY_LEN(inside); i++)
                if (strstr(name, inside[i]))
                        return true;
        for (size_t i = 0; i < ARRAY_LEN(endings); i++)
                if (len > strlen(endings[i]) && strcmp(name + len - strlen(endings[i]), endings[i]) == 0)
                        return true;
        return false;
}

/* "partition-", "imap_sasl_": what the name is made of ends where a name should begin. */
static bool lacks_name(const char *name)
{
        static const char *const forms[] = { "partition-", "sasl_", "xlist-" };
        size_t len = strlen(name);

        for (size_t i = 0; i < ARRAY_LEN(forms); i++)
                if (len >= strlen(forms[i]) && strcmp(name + len - strlen(forms[i]), forms[i]) == 0)
                        return true;
        return false;
}

static bool may_repeat(const char *name)
{
        return strncmp(name, "autocreate_acl", 14) == 0;
}

/* Find out what `e->name` names: an option, an old name of one (then the name is replaced), a service's form of either. */
static void classify(struct logical *l, struct conf_entry *e, size_t at)
{
        struct arena *arena = &l->r->conf->arena;
        const char *now, *rest = e->name;

        e->option = conf_option_find(e->name);
        if (e->option || is_free_form(e->name))
                return;
        for (;;) {
                e->prefix_len = (unsigned)(rest - e->name);
                e->option = conf_option_find(rest);
                if (e->option)
                        return;
                now = conf_option_renamed(rest);
                if (now && !*now) {
                        COMPLAIN(l, DIAG_NOTE, at, "option \"%s\" is no longer used", e->name);
                        return;
                }
                if (now) {
                        COMPLAIN(l, DIAG_NOTE, at, "option \"%s\" is an old name of \"%s\"", e->name, now);
                        e->name = arena_printf(arena, "%.*s%s", (int)e->prefix_len, e->name, now);
                        e->option = conf_option_find(now);
                        e->renamed = true;
                        return;
                }
                rest = strchr(rest, '_');
                if (!rest)
                        break;
                rest++;
        }
        e->prefix_len = 0;
        COMPLAIN(l, DIAG_WARNING, at, "unknown option \"%s\"", e->name);
}

static const char *type_name(const struct conf_option *o)
{
        switch (o->type) {
        case CONF_INT: return "a whole number";
        case CONF_SWITCH: return "yes or no";
        case CONF_DURATION: return "a duration (like 90s, 10m, 1h30m, 2d)";
        case CONF_BYTES: return "a size (like 65536, 64K, 10M)";
        case CONF_ENUM: return "one of";
        case CONF_SET: return "some of";
        case CONF_STRING: break;
        }
        return "a value";
}

static void check_value(struct logical *l, const struct conf_entry *e, size_t at)
{
        const struct conf_option *o = e->option;
        int64_t number;

        if (!o && lacks_name(e->name)) {
                l->r->conf->lines.v[l->r->conf->lines.n - 1].bad = true;
                COMPLAIN(l, DIAG_ERROR, at, "%s: nothing is named after \"%c\"", e->name, e->name[strlen(e->name) - 1]);
                return;
        }
        /* Whether the prefix is a service is not known here: see conf_check_services(). */
        if (!o || e->prefix_len > 0 || conf_parse_value(o, e->value, &number))
                return;
        l->r->conf->lines.v[l->r->conf->lines.n - 1].bad = true;
        COMPLAIN(l, DIAG_ERROR, at, "%s: \"%s\" is not %s%s%s", o->name, e->value, type_name(o), o->values ? ": " : "",
                 o->values ? o->values : "");
}

static void loses(struct conf *c, const struct conf_entry *e, const struct conf_entry *winner)
{
        for (size_t i = 0; i < c->lines.n; i++)
                if (c->lines.v[i].value == e->value)
                        c->lines.v[i].loses_to = winner->line;
}

static void add_entry(struct logical *l, const char *name, size_t name_at, const char *value, size_t value_at)
{
        struct conf *c = l->r->conf;
        struct conf_entry e = { .name = name, .value = value, .file = l->file }, *old;

        locate(l, value_at, &e.line, &e.column);
        classify(l, &e, name_at);
        *ARRAY_PUSH(&c->lines) = (struct conf_line){ .given = name, .name = e.name, .value = value, .file = l->file, .line = e.line,
                                                     .column = e.column, .option = e.option, .prefix_len = e.prefix_len,
                                                     .free_form = !e.option && is_free_form(e.name) };
        old = conf_entry_find(c, e.name);
        if (old && old->renamed != e.renamed) {         /* the new name wins over the old one */
                check_value(l, &e, value_at);
                loses(c, old->renamed ? old : &e, old->renamed ? &e : old);
                if (old->renamed)
                        *old = e;
                return;
        }
        if (old && !may_repeat(e.name)) {
                loses(c, &e, old);
                COMPLAIN(l, DIAG_ERROR, name_at, "option \"%s\" was specified twice, first in %s:%u", e.name, old->file, old->line);
                return;
        }
        check_value(l, &e, value_at);
        *ARRAY_PUSH(c) = e;
        if (!old)
                table_set(c->by_name, span_of(e.name), (void *)(uintptr_t)c->n);
        for (const char *p = strchr(e.name, '_'); p; p = strchr(p + 1, '_'))
                c->prefixes |= conf_prefix_bit((struct span){ e.name, (size_t)(p - e.name) });
}

static void include(struct logical *l, const char *value, size_t value_at)
{
        struct reader *r = l->r;
        const char *slash = strrchr(l->file, '/'), *path = value;

        if (*value != '/' && slash)
                path = arena_printf(&r->conf->arena, "%.*s/%s", (int)(slash - l->file), l->file, value);
        for (size_t i = 0; i < r->file_count; i++)
                if (strcmp(r->files[i], path) == 0) {
                        COMPLAIN(l, DIAG_ERROR, value_at, "\"%s\" is included twice", value);
                        return;
                }
        if (r->file_count == FILES_MAX) {
                COMPLAIN(l, DIAG_ERROR, value_at, "more than %d files", FILES_MAX);
                return;
        }
        read_file(r, path, l, value_at);
}

/* A logical line that is not blank and not a comment. `start` is its first octet that is no blank. */
static void parse_line(struct logical *l, size_t start)
{
        struct arena *arena = &l->r->conf->arena;
        const char *t = l->text.data;
        size_t end = l->text.len, p = start, name_end, value_at;
        char *name;

        while (end > start && is_blank(t[end - 1]))
                end--;
        if (t[p] == '@')
                p++;
        while (p < end && (ascii_isalpha(t[p]) || ascii_isdigit(t[p]) || t[p] == '-' || t[p] == '_'))
                p++;
        name_end = p;
        if (p == start) {
                COMPLAIN(l, DIAG_ERROR, p, "no option name here");
                return;
        }
        if (p == end || t[p] != ':') {
                COMPLAIN(l, DIAG_ERROR, p, p == end ? "no \":\" after the option name" : "bad character in the option name");
                return;
        }
        for (p++; p < end && is_blank(t[p]); p++)
                ;
        value_at = p;
        name = arena_strndup(arena, t + start, name_end - start);
        for (char *q = name; *q; q++)
                *q = ascii_lower(*q);
        if (value_at == end)
                COMPLAIN(l, DIAG_ERROR, end > 0 ? end - 1 : 0, "option \"%s\" has no value", name);
        else if (*name != '@')
                add_entry(l, name, start, arena_strndup(arena, t + value_at, end - value_at), value_at);
        else if (strcmp(name, "@include") == 0)
                include(l, arena_strndup(arena, t + value_at, end - value_at), value_at);
        else
                COMPLAIN(l, DIAG_ERROR, start, "unknown directive \"%s\"", name);
}

/*
 * Take the physical line [p, end) into the logical one. Returns true when that is complete. As in Cyrus trailing blanks go
 * before the '\' is looked for, a comment is never continued, and leading blanks of a continuation are kept.
 */
static bool join_line(struct logical *l, const char *p, const char *end, unsigned line)
{
        const char *e = end;
        size_t first = 0;

        *ARRAY_PUSH(&l->joints) = (struct joint){ l->text.len, line, 1 };
        while (e > p && is_blank(e[-1]))
                e--;
        str_append(&l->text, p, (size_t)(e - p));
        while (first < l->text.len && is_blank(l->text.data[first]))
                first++;
        if (first == l->text.len || l->text.data[first] == '#') {
                str_clear(&l->text);
                return true;
        }
        if (e > p && e[-1] == '\\') {
                str_truncate(&l->text, l->text.len - 1);
                return false;
        }
        return true;
}

static void finish_line(struct logical *l)
{
        size_t start = 0;

        while (start < l->text.len && is_blank(l->text.data[start]))
                start++;
        if (start < l->text.len && memchr(l->text.data, '\0', l->text.len))
                COMPLAIN(l, DIAG_ERROR, strlen(l->text.data), "a NUL octet");
        else if (start < l->text.len)
                parse_line(l, start);
        str_clear(&l->text);
        l->joints.n = 0;
}

static void parse_text(struct reader *r, const char *file, struct span text)
{
        struct logical l = { .r = r, .file = file, .text = STR_INIT };
        const char *p = text.p, *end = text.p + text.len;
        unsigned line = 1;

        for (; p < end; line++) {
                const char *nl = memchr(p, '\n', (size_t)(end - p)), *e = nl ? nl : end;

                if (join_line(&l, p, e, line))
                        finish_line(&l);
                p = nl ? nl + 1 : end;
        }
        if (l.joints.n > 0)                     /* the last line ended in '\' */
                finish_line(&l);
        str_deinit(&l.text);
        ARRAY_FREE(&l.joints);
}

static void read_file(struct reader *r, const char *path, const struct logical *from, size_t from_at)
{
        struct str text = STR_INIT;
        struct err err;

        r->files[r->file_count++] = path = arena_strdup(&r->conf->arena, path);
        if (r->source->slurp(r->source->context, path, &text, &err) < 0 || text.len > FILE_MAX) {
                if (text.len > FILE_MAX)
                        err_set(&err, ERR_LIMIT, "%s: more than %u octets", path, FILE_MAX);
                if (from)
                        COMPLAIN(from, DIAG_ERROR, from_at, "%s", err.text);
                else
                        diag_add_unread(r->diag, path, &err);
        } else {
                parse_text(r, path, str_span(&text));
        }
        str_deinit(&text);
}

void conf_read(struct conf *c, const char *path, const struct conf_source *source, struct diag *diag)
{
        struct reader r = { .conf = c, .source = source, .diag = diag };

        read_file(&r, path, NULL, 0);
}
