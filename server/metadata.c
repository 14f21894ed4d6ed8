/* metadata - see metadata.h */
#include "server/metadata.h"

#include "store/specialuse.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "server/imap/search_parse.h"
#include "server/servername.h"
#include "store/acl.h"
#include "store/annot.h"
#include "store/change.h"
#include "store/mailname.h"
#include "store/mime.h"
#include "store/store.h"
#include "util/array.h"
#include "util/fs.h"

#define CYRUS "/vendor/cmu/cyrus-imapd/"
#define DEFINITIONS_MAX (1u << 20)              /* octets of the file */

enum { OF_SERVER = 1, OF_MAILBOX = 2, OF_MESSAGE = 4 };
enum { SHARED = 1, PRIVATE = 2, BOTH = 3 };
enum value_type { TYPE_STRING, TYPE_BOOLEAN, TYPE_UINT, TYPE_INT, TYPE_SPECIALUSE, TYPE_DATE, TYPE_FILTER, TYPE_FLAG };

struct rule {
        const char *name;                       /* without /shared or /private */
        unsigned scope, kind;
        enum value_type type;
        bool computed;                          /* nobody sets it */
        bool administer;                        /* of a mailbox or message: needs the a right to be set */
        uint32_t option;                        /* of a mailbox: it is this option */
        const char *file;                       /* of the server: it is the text of this file below msg/ */
};

/* RFC 5464 3.2, RFC 6154 5.4, and Cyrus's (cyrus-files.md; names and types as its cyradm sets them). */
static const struct rule rules[] = {
        { "/admin", OF_SERVER, SHARED, TYPE_STRING, false, false, 0, NULL },
        { "/comment", OF_SERVER | OF_MAILBOX, BOTH, TYPE_STRING, false, false, 0, NULL },
        { "/check", OF_MAILBOX, BOTH, TYPE_BOOLEAN, false, false, 0, NULL },
        { "/checkperiod", OF_MAILBOX, BOTH, TYPE_UINT, false, false, 0, NULL },
        { "/motd", OF_SERVER, SHARED, TYPE_STRING, false, false, 0, "motd" },
        { "/sort", OF_MAILBOX, BOTH, TYPE_STRING, false, false, 0, NULL },
        { "/specialuse", OF_MAILBOX, PRIVATE, TYPE_SPECIALUSE, false, false, 0, NULL },
        { "/thread", OF_MAILBOX, BOTH, TYPE_STRING, false, false, 0, NULL },
        { CYRUS "archive", OF_MAILBOX, SHARED, TYPE_UINT, false, true, 0, NULL },
        { CYRUS "color", OF_MAILBOX, BOTH, TYPE_STRING, false, false, 0, NULL },
        { CYRUS "condstore", OF_MAILBOX, SHARED, TYPE_BOOLEAN, true, true, 0, NULL },
        { CYRUS "delete", OF_MAILBOX, SHARED, TYPE_UINT, false, true, 0, NULL },
        { CYRUS "displayname", OF_MAILBOX, BOTH, TYPE_STRING, false, false, 0, NULL },
        { CYRUS "duplicatedeliver", OF_MAILBOX, SHARED, TYPE_BOOLEAN, false, true, MBOX_DUPLICATE_DELIVER, NULL },
        { CYRUS "expire", OF_SERVER | OF_MAILBOX, SHARED, TYPE_UINT, false, true, 0, NULL },
        { CYRUS "foldermodseq", OF_MAILBOX, SHARED, TYPE_UINT, true, false, 0, NULL },
        { CYRUS "lastpop", OF_MAILBOX, SHARED, TYPE_STRING, true, false, 0, NULL },
        { CYRUS "lastupdate", OF_MAILBOX, SHARED, TYPE_STRING, true, false, 0, NULL },
        { CYRUS "news2mail", OF_MAILBOX, SHARED, TYPE_STRING, false, true, 0, NULL },
        { CYRUS "partition", OF_MAILBOX, SHARED, TYPE_STRING, true, false, 0, NULL },
        { CYRUS "pop3newuidl", OF_MAILBOX, SHARED, TYPE_BOOLEAN, false, true, MBOX_POP3_NEW_UIDL, NULL },
        { CYRUS "pop3showafter", OF_MAILBOX, SHARED, TYPE_DATE, false, true, 0, NULL },
        { CYRUS "server", OF_MAILBOX, SHARED, TYPE_STRING, true, false, 0, NULL },
        { CYRUS "sharedseen", OF_MAILBOX, SHARED, TYPE_BOOLEAN, false, true, MBOX_SHARED_SEEN, NULL },
        { CYRUS "shutdown", OF_SERVER, SHARED, TYPE_STRING, false, false, 0, "shutdown" },
        { CYRUS "sieve", OF_MAILBOX, SHARED, TYPE_STRING, false, true, 0, NULL },
        { CYRUS "size", OF_MAILBOX, SHARED, TYPE_UINT, true, false, 0, NULL },
        { CYRUS "sortorder", OF_MAILBOX, BOTH, TYPE_UINT, false, false, 0, NULL },
        { CYRUS "squat", OF_SERVER | OF_MAILBOX, SHARED, TYPE_BOOLEAN, false, true, 0, NULL },
        { CYRUS "uniqueid", OF_MAILBOX, SHARED, TYPE_STRING, true, false, 0, NULL },
};

/* ---- names ---- */

int metadata_name(struct span given, bool wild, struct arena *arena, const char **name_r, struct err *err)
{
        struct span body = given;
        char *name;

        if (wild && body.len && (body.p[body.len - 1] == '*' || body.p[body.len - 1] == '%')) {
                body.len--;
                if (body.len && body.p[body.len - 1] == '/')
                        body.len--;
        }
        if (body.len == 0 && wild && given.len)
                return err_set(err, ERR_SYNTAX, "Entry names begin with /shared or /private");
        if (annot_check_entry(body, err) < 0)
                return -1;
        if (!(span_istarts(body, "/shared/") && body.len > 8) && !(span_istarts(body, "/private/") && body.len > 9) &&
            !span_ieq_str(body, "/shared") && !span_ieq_str(body, "/private"))
                return err_set(err, ERR_SYNTAX, "Entry names begin with /shared/ or /private/");
        name = arena_strndup(arena, given.p, given.len);
        for (char *p = name; *p; p++)
                *p = ascii_lower(*p);
        *name_r = name;
        return 0;
}

static bool is_private(const char *name)
{
        return name[1] == 'p';
}

/* The name without /shared or /private. */
static const char *bare(const char *name)
{
        return name + (is_private(name) ? 8 : 7);
}

bool metadata_is_wild(const char *asked)
{
        size_t len = strlen(asked);

        return len && (asked[len - 1] == '*' || asked[len - 1] == '%');
}

bool metadata_matches(const char *asked, const char *name, enum metadata_depth depth)
{
        size_t len = strlen(asked);

        if (metadata_is_wild(asked)) {
                if (strncmp(name, asked, len - 1) != 0)
                        return false;
                return asked[len - 1] == '*' || !strchr(name + len - 1, '/');
        }
        if (strncmp(name, asked, len) != 0)
                return false;
        if (name[len] == '\0')
                return true;
        if (depth == METADATA_DEPTH_0 || name[len] != '/')
                return false;
        return depth == METADATA_DEPTH_ALL || !strchr(name + len + 1, '/');
}

/* ---- rules ---- */

/* RFC 5466 3.2: filters by name, and what they are for. A name is an atom without a slash. */
static bool find_filter(const char *name, struct rule *rule_r)
{
        static const struct { const char *prefix; enum value_type type; } roots[] = {
                { "/filters/values/", TYPE_FILTER }, { "/filters/descriptions/", TYPE_STRING },
        };

        for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
                size_t n = strlen(roots[i].prefix);

                if (strncmp(name, roots[i].prefix, n) != 0 || !name[n] || strpbrk(name + n, "/(){ %*\"\\]"))
                        continue;
                *rule_r = (struct rule){ name, OF_SERVER, BOTH, roots[i].type, false, false, 0, NULL };
                return true;
        }
        return false;
}

static bool find_builtin(const char *name, unsigned scope, struct rule *rule_r)
{
        if ((scope & OF_SERVER) && find_filter(name, rule_r))
                return true;
        for (size_t i = 0; i < ARRAY_LEN(rules); i++)
                if ((rules[i].scope & scope) && strcmp(rules[i].name, name) == 0) {
                        *rule_r = rules[i];
                        return true;
                }
        return false;
}

/* The next field of a comma-separated line. */
static struct span field(struct span *line)
{
        size_t n = span_index(*line, ',');
        struct span f = span_trim((struct span){ line->p, n });

        n += n < line->len;
        *line = (struct span){ line->p + n, line->len - n };
        return f;
}

/* A line of annotation_definitions: name, scope, type, proxy type, attribute names, rights. False: not about this entry. */
static bool read_definition(struct span line, const char *name, unsigned scope, struct rule *rule)
{
        static const struct { const char *word; enum value_type type; } types[] = {
                { "string", TYPE_STRING }, { "content-type", TYPE_STRING }, { "boolean", TYPE_BOOLEAN }, { "int", TYPE_INT }, { "uint", TYPE_UINT },
        };
        struct span f = field(&line), where = field(&line), type = field(&line), attributes;
        unsigned line_scope = span_ieq_str(where, "server") ? OF_SERVER : span_ieq_str(where, "mailbox") ? OF_MAILBOX
                              : span_ieq_str(where, "message") ? OF_MESSAGE : 0;

        if (!(scope == OF_MESSAGE ? span_eq_str(f, name) : span_ieq_str(f, name)) || !(line_scope & scope))
                return false;
        *rule = (struct rule){ .name = name, .scope = scope, .type = TYPE_STRING };
        for (size_t i = 0; i < ARRAY_LEN(types); i++)
                if (span_ieq_str(type, types[i].word))
                        rule->type = types[i].type;
        field(&line);
        attributes = field(&line);
        while (attributes.len) {
                size_t n = span_index(attributes, ' ');
                struct span word = { attributes.p, n };

                if (span_ieq_str(word, "value.shared"))
                        rule->kind |= SHARED;
                else if (span_ieq_str(word, "value.priv"))
                        rule->kind |= PRIVATE;
                else if (span_ieq_str(word, "value"))
                        rule->kind |= BOTH;
                n += n < attributes.len;
                attributes = (struct span){ attributes.p + n, attributes.len - n };
        }
        for (size_t i = 0; i < line.len; i++)
                rule->administer |= line.p[i] == 'a';
        return true;
}

/* The file is small and entries outside the table are rarely set: it is read each time, so that changes hold at once. */
static int find_defined(struct conf *conf, const char *name, unsigned scope, struct rule *rule_r, struct err *err)
{
        const char *path = conf_str(conf, NULL, "annotation_definitions");
        struct str text = STR_INIT;
        bool found = false;

        if (!path)
                return 0;
        if (fs_slurp(path, DEFINITIONS_MAX, &text, err) < 0) {
                str_deinit(&text);
                return -1;
        }
        for (struct span rest = str_span(&text); rest.len && !found;) {
                size_t n = span_index(rest, '\n');
                struct span line = span_trim((struct span){ rest.p, n });

                if (line.len && line.p[0] != '#')
                        found = read_definition(line, name, scope, rule_r);
                n += n < rest.len;
                rest = (struct span){ rest.p + n, rest.len - n };
        }
        str_deinit(&text);
        return found;
}

/* 1 found, 0 there is no such entry, -1. */
static int find_rule(struct conf *conf, const char *name, unsigned scope, struct rule *rule_r, struct err *err)
{
        int rc;

        if (find_builtin(name, scope, rule_r))
                return 1;
        rc = find_defined(conf, name, scope, rule_r, err);
        if (rc != 0 || !conf_switch(conf, NULL, "annotation_allow_undefined"))
                return rc;
        *rule_r = (struct rule){ .name = name, .scope = scope, .kind = BOTH, .type = TYPE_STRING };
        return 1;
}

/* ---- reading ---- */

struct listing {
        struct arena *arena;
        ARRAY(struct metadata) list;
};

static void add(struct listing *l, const char *name, struct span value)
{
        *ARRAY_PUSH(&l->list) = (struct metadata){ name, value };
}

static void add_text(struct listing *l, const char *name, const char *value)
{
        add(l, name, span_of(arena_strdup(l->arena, value)));
}

static void add_number(struct listing *l, const char *name, uint64_t n)
{
        add_text(l, name, arena_printf(l->arena, "%" PRIu64, n));
}

static void add_time(struct listing *l, const char *name, int64_t t)
{
        static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
        time_t when = (time_t)t;
        struct tm tm;

        if (t <= 0 || !gmtime_r(&when, &tm))
                return;
        add_text(l, name, arena_printf(l->arena, "%2d-%s-%04d %02d:%02d:%02d +0000", tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900,
                                       tm.tm_hour, tm.tm_min, tm.tm_sec));
}

static void list_computed(const struct metadata_target *t, struct listing *l)
{
        struct mailbox_status status;
        uint32_t options = mailbox_options(t->mbox);
        char host[SERVERNAME_MAX];

        mailbox_status(t->mbox, &status);
        servername(t->conf, NULL, host);
        for (size_t i = 0; i < ARRAY_LEN(rules); i++)
                if (rules[i].option)
                        add_text(l, arena_printf(l->arena, "/shared%s", rules[i].name), options & rules[i].option ? "true" : "false");
        add_text(l, "/shared" CYRUS "condstore", "true");
        add_number(l, "/shared" CYRUS "foldermodseq", t->entry->foldermodseq);
        add_time(l, "/shared" CYRUS "lastpop", status.pop3_last_login);
        add_time(l, "/shared" CYRUS "lastupdate", status.last_append);
        add_text(l, "/shared" CYRUS "partition", t->entry->partition);
        add_text(l, "/shared" CYRUS "server", host);
        add_number(l, "/shared" CYRUS "size", status.size);
        add_text(l, "/shared" CYRUS "uniqueid", t->entry->uniqueid);
        if (*t->entry->specialuse && mailname_owned_by(t->entry->name, t->userid))
                add_text(l, "/private/specialuse", t->entry->specialuse);
}

static void message_path(const struct metadata_target *t, const char *file, struct str *path)
{
        str_clear(path);
        str_printf(path, "%s/msg/%s", store_configdir(t->store), file);
}

static void list_files(const struct metadata_target *t, struct listing *l)
{
        struct str path = STR_INIT, text = STR_INIT;

        for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
                if (!rules[i].file)
                        continue;
                message_path(t, rules[i].file, &path);
                str_clear(&text);
                if (fs_slurp(path.data, ANNOT_VALUE_MAX, &text, NULL) == 0)
                        add(l, arena_printf(l->arena, "/shared%s", rules[i].name), arena_span(l->arena, span_trim(str_span(&text))));
        }
        str_deinit(&path);
        str_deinit(&text);
}

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct metadata *)a)->name, ((const struct metadata *)b)->name);
}

int metadata_list(const struct metadata_target *t, struct arena *arena, struct metadata **list_r, uint32_t *n_r, struct err *err)
{
        struct listing l = { arena, ARRAY_INIT };
        struct annot *annots;
        uint32_t n;

        *list_r = NULL;
        *n_r = 0;
        if (t->entry)
                n = mailbox_annots(t->mbox, 0, t->userid, arena, &annots);
        else if (server_annots(t->store, t->userid, arena, &annots, &n, err) < 0)
                return -1;
        for (uint32_t i = 0; i < n; i++)
                if (!*annots[i].user)
                        add(&l, arena_printf(arena, "/shared%s", annots[i].entry), annots[i].value);
                else if (strcmp(annots[i].user, t->userid) == 0)
                        add(&l, arena_printf(arena, "/private%s", annots[i].entry), annots[i].value);
        if (t->entry)
                list_computed(t, &l);
        else
                list_files(t, &l);
        if (l.list.n) {
                qsort(l.list.v, l.list.n, sizeof *l.list.v, by_name);
                *list_r = ARENA_ARRAY(arena, struct metadata, l.list.n);
                memcpy(*list_r, l.list.v, l.list.n * sizeof *l.list.v);
                *n_r = (uint32_t)l.list.n;
        }
        ARRAY_FREE(&l.list);
        return 0;
}

/* ---- checking ---- */

static bool is_number(struct span s, bool sign)
{
        uint64_t n;

        if (sign && s.len && s.p[0] == '-')
                s = (struct span){ s.p + 1, s.len - 1 };
        return span_u64(s, INT64_MAX, &n);
}

static bool is_special_use(const struct conf *conf, struct span value)
{
        struct arena arena = ARENA_INIT;
        bool ok = value.len > 0;

        while (ok && value.len) {
                size_t n = span_index(value, ' ');

                ok = specialuse_known(conf, NULL, (struct span){ value.p, n }, &arena) != NULL;
                n += n < value.len;
                value = (struct span){ value.p + n, value.len - n };
        }
        arena_deinit(&arena);
        return ok;
}

/* Booleans are kept in lower case: *value may be replaced. */
static int check_value(const struct conf *conf, const struct rule *rule, struct span *value, struct err *err)
{
        struct err why = ERR_INIT;
        bool ok = true;

        if (value->len > ANNOT_VALUE_MAX)
                return err_set(err, ERR_LIMIT, "The value is too large");
        switch (rule->type) {
        case TYPE_BOOLEAN:
                if (span_ieq_str(*value, "true"))
                        *value = SPAN("true");
                else if (span_ieq_str(*value, "false"))
                        *value = SPAN("false");
                else
                        ok = false;
                break;
        case TYPE_UINT:
        case TYPE_INT:
                ok = is_number(*value, rule->type == TYPE_INT);
                break;
        case TYPE_SPECIALUSE:
                ok = is_special_use(conf, *value);
                break;
        case TYPE_FLAG:
                ok = span_eq_str(*value, "0") || span_eq_str(*value, "1");
                break;
        case TYPE_FILTER:
                return search_filter_check(*value, &why) < 0 ? err_set(err, ERR_SYNTAX, "This is no search: %s", why.text) : 0;
        case TYPE_STRING:
        case TYPE_DATE:
                break;
        }
        if (rule->file && (memchr(value->p, '\n', value->len) || memchr(value->p, '\0', value->len)))
                ok = false;
        return ok ? 0 : err_set(err, ERR_SYNTAX, "%s cannot have this value", rule->name);
}

static int check_permission(const struct metadata_target *t, const struct rule *rule, bool private, uint32_t rights, bool is_admin,
                            struct err *err)
{
        bool write = (rights & ACL_WRITE) || ((rights & ACL_ADMIN) && conf_switch(t->conf, NULL, "acl_admin_implies_write"));

        if (is_admin)
                return 0;
        if (!t->entry && !private)
                return err_set(err, ERR_PERM, "Only administrators set shared entries of the server");
        if (t->entry && ((!private && !rule->administer && !write) || (rule->administer && !(rights & ACL_ADMIN))))
                return err_set(err, ERR_PERM, "Permission denied");
        if (rule->type == TYPE_SPECIALUSE && !mailname_owned_by(t->entry->name, t->userid))
                return err_set(err, ERR_PERM, "Permission denied");
        return 0;
}

/* As CREATE does (RFC 6154 4): a use is one mailbox's. */
static int check_special_use_free(const struct metadata_target *t, struct span value, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char *uses;
        int rc = specialuse_check(t->conf, arena_strndup(&arena, value.p, value.len), &arena, &uses, err);

        if (rc == 0 && specialuse_taken(store_mboxlist(t->store), t->entry->name, uses))
                rc = err_set(err, ERR_EXISTS, "Another mailbox has this special use");
        arena_deinit(&arena);
        return rc;
}

int metadata_check(const struct metadata_target *t, struct metadata *set, uint32_t n, uint32_t rights, bool is_admin, struct err *err)
{
        unsigned scope = t->entry ? OF_MAILBOX : OF_SERVER;

        for (uint32_t i = 0; i < n; i++) {
                const char *name = bare(set[i].name);
                bool private = is_private(set[i].name);
                struct rule rule;
                int rc = *name ? find_rule(t->conf, name, scope, &rule, err) : 0;

                if (rc < 0)
                        return -1;
                if (rc == 0 || !(rule.kind & (private ? PRIVATE : SHARED)))
                        return err_set(err, ERR_BADNAME, "There is no entry %.200s", set[i].name);
                if (rule.computed)
                        return err_set(err, ERR_BADNAME, "%s cannot be set", set[i].name);
                if (check_permission(t, &rule, private, rights, is_admin, err) < 0)
                        return -1;
                if (set[i].value.p && check_value(t->conf, &rule, &set[i].value, err) < 0)
                        return -1;
                if (set[i].value.p && rule.type == TYPE_SPECIALUSE && check_special_use_free(t, set[i].value, err) < 0)
                        return -1;
        }
        return 0;
}

/* RFC 5257 3.2.1, 6.2; of the message as a whole, or of one of its parts. Case counts. */
static bool find_of_message(const char *name, bool of_part, struct rule *rule_r)
{
        static const struct { const char *name; bool whole, part; enum value_type type; } table[] = {
                { "/altsubject", true, false, TYPE_STRING }, { "/comment", true, true, TYPE_STRING },
                { "/flags/answered", false, true, TYPE_FLAG }, { "/flags/flagged", false, true, TYPE_FLAG },
                { "/flags/forwarded", false, true, TYPE_FLAG }, { "/flags/seen", false, true, TYPE_FLAG },
        };

        for (size_t i = 0; i < ARRAY_LEN(table); i++)
                if ((of_part ? table[i].part : table[i].whole) && strcmp(table[i].name, name) == 0) {
                        *rule_r = (struct rule){ .name = table[i].name, .scope = OF_MESSAGE, .kind = BOTH, .type = table[i].type };
                        return true;
                }
        return false;
}

/* 1, 0: see metadata_message_check(); -1. */
static int find_message_rule(struct conf *conf, const char *entry, size_t part, bool blocking, struct rule *rule_r, struct err *err)
{
        bool defined = conf_str(conf, NULL, "annotation_definitions"), undefined = conf_switch(conf, NULL, "annotation_allow_undefined");
        int rc = 0;

        if (find_of_message(entry + part, part > 0, rule_r))
                return 1;
        if (!part && strncmp(entry, "/flags", 6) == 0 && (!entry[6] || entry[6] == '/'))        /* reserved (RFC 5257 3.5) */
                return err_set(err, ERR_BADNAME, "/flags is nobody's to use");
        if (defined && !blocking)
                return 0;
        if (defined)
                rc = find_defined(conf, entry, OF_MESSAGE, rule_r, err);
        if (rc != 0)
                return rc;
        if (!undefined)
                return err_set(err, ERR_BADNAME, "There is no entry %.200s", entry);
        *rule_r = (struct rule){ .name = entry, .scope = OF_MESSAGE, .kind = BOTH, .type = TYPE_STRING };
        return 1;
}

int metadata_message_check(struct conf *conf, const char *entry, size_t part, bool private, struct span value, uint32_t rights, bool blocking,
                           struct err *err)
{
        struct rule rule;
        int rc = find_message_rule(conf, entry, part, blocking, &rule, err);

        if (rc <= 0)
                return rc;
        if (!(rule.kind & (private ? PRIVATE : SHARED)))
                return err_set(err, ERR_BADNAME, "%.200s has no such attribute", entry);
        if (rule.administer && !(rights & ACL_ADMIN))
                return err_set(err, ERR_PERM, "Permission denied");
        return value.p && check_value(conf, &rule, &value, err) < 0 ? -1 : 1;
}

/* ---- setting ---- */

static int write_file(const struct metadata_target *t, const char *file, struct span value, struct err *err)
{
        struct str path = STR_INIT, text = STR_INIT;
        int rc;

        str_printf(&path, "%s/msg", store_configdir(t->store));
        rc = value.p ? fs_mkdir_p_durable(path.data, 0755, err) : 0;
        message_path(t, file, &path);
        if (rc == 0 && value.p) {
                str_append_span(&text, value);
                str_append_c(&text, '\n');
                rc = fs_replace(path.data, text.data, text.len, 0644, err);
        } else if (rc == 0 && fs_exists(path.data) && unlink(path.data) < 0) {
                rc = err_set(err, ERR_IO, "cannot remove %s", path.data);
        }
        str_deinit(&path);
        str_deinit(&text);
        return rc;
}

static int write_special_use(const struct metadata_target *t, struct span value, struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct str list = STR_INIT;
        int rc;

        while (value.len) {
                size_t n = span_index(value, ' ');

                str_printf(&list, "%s%s", list.len ? " " : "", specialuse_known(t->conf, NULL, (struct span){ value.p, n }, &arena));
                n += n < value.len;
                value = (struct span){ value.p + n, value.len - n };
        }
        rc = mboxlist_set_specialuse(store_mboxlist(t->store), t->entry->name, list.data, err);
        str_deinit(&list);
        arena_deinit(&arena);
        return rc;
}

static int wait_for(int rc, struct waiter *w, struct err *err)
{
        return rc < 0 ? -1 : waiter_block(w, err);
}

static int write_annots(const struct metadata_target *t, const struct annot *annots, uint32_t n, struct err *err)
{
        struct waiter w;

        if (n == 0)
                return 0;
        if (!t->entry)
                return server_annotate(t->store, annots, n, err);
        for (uint32_t i = 0; i < n; i++)
                if (*annots[i].user && annots[i].value.p && annot_user_make(t->store, annots[i].user, err) < 0)
                        return -1;
        waiter_init_blocking(&w);
        return wait_for(mailbox_annotate(t->mbox, annots, n, &w, err), &w, err);
}

/* NOTIFY and others want to know which entries (RFC 5465 5.6, 5.7). */
static void tell_changes(const struct metadata_target *t, const struct metadata *set, uint32_t n)
{
        for (uint32_t i = 0; i < n; i++)
                change_publish(t->store, &(struct change){ .kind = CHANGE_ANNOTATION, .name = t->entry ? t->entry->name : "",
                                                           .uniqueid = t->entry ? t->entry->uniqueid : "", .other = set[i].name,
                                                           .user = is_private(set[i].name) ? t->userid : NULL, .after = t->entry });
}

int metadata_set(const struct metadata_target *t, const struct metadata *set, uint32_t n, struct err *err)
{
        struct annot *annots = xcalloc(n ? n : 1, sizeof *annots);
        const struct metadata *use = NULL, *show_after = NULL;
        uint32_t annots_n = 0, mask = 0, options = 0;
        struct waiter w;
        int rc;

        for (uint32_t i = 0; i < n; i++) {
                struct rule rule = { .name = NULL };
                bool known = find_builtin(bare(set[i].name), t->entry ? OF_MAILBOX : OF_SERVER, &rule);

                if (known && rule.type == TYPE_DATE && strcmp(rule.name, CYRUS "pop3showafter") == 0)
                        show_after = &set[i];
                if (known && rule.option) {
                        mask |= rule.option;
                        options = span_eq_str(set[i].value, "true") ? options | rule.option : options & ~rule.option;
                } else if (known && rule.type == TYPE_SPECIALUSE) {
                        use = &set[i];
                } else if (!known || !rule.file) {
                        annots[annots_n++] = (struct annot){ bare(set[i].name), is_private(set[i].name) ? t->userid : "", set[i].value, 0 };
                }
        }
        /* What can be refused comes first: the limits are checked here. */
        rc = write_annots(t, annots, annots_n, err);
        if (rc == 0 && mask) {
                waiter_init_blocking(&w);
                rc = wait_for(mailbox_set_options(t->mbox, mask, options, &w, err), &w, err);
        }
        if (rc == 0 && show_after) {                            /* POP3 reads it from the mailbox's options, as csync does */
                struct mime_date date = { 0, 0 };

                (void)mime_date_parse(show_after->value, &date);
                waiter_init_blocking(&w);
                rc = wait_for(mailbox_set_pop3_show_after(t->mbox, date.unix_s, &w, err), &w, err);
        }
        if (rc == 0 && use)
                rc = write_special_use(t, use->value, err);
        for (uint32_t i = 0; i < n && rc == 0 && !t->entry; i++) {
                struct rule rule;

                if (find_builtin(bare(set[i].name), OF_SERVER, &rule) && rule.file)
                        rc = write_file(t, rule.file, set[i].value, err);
        }
        if (rc == 0)
                tell_changes(t, set, n);
        free(annots);
        return rc;
}
