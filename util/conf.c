/* conf - the snapshot: values, defaults, look-ups. See conf.h; the grammar is in conf_read.c. */
#include "util/conf.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/array.h"
#include "util/conf_private.h"
#include "util/fs.h"
#include "util/lock.h"
#include "util/must.h"

#define DEFAULT_PATH "/etc/imapd.conf"
#define CONFIGDIR_MARK "{configdirectory}"
#define NAME_MAX_LEN 256

/* ---- values ------------------------------------------------------------------------------------------------------- */

static bool parse_int(const char *s, int64_t *n_r)
{
        char *end;
        long long n;

        if (*s == '\0' || strchr(" \t\n\v\f\r", *s))
                return false;
        errno = 0;
        n = strtoll(s, &end, 0);
        if (errno != 0 || *end || end == s)
                return false;
        *n_r = n;
        return true;
}

/* Cyrus looks at the first letters only: "yeah" is yes, "of" is off. */
static bool parse_switch(const char *s, int64_t *n_r)
{
        char c = ascii_lower(s[0]), d = c ? ascii_lower(s[1]) : '\0';

        if (c == '1' || c == 'y' || c == 't' || (c == 'o' && d == 'n'))
                *n_r = 1;
        else if (c == '0' || c == 'n' || c == 'f' || (c == 'o' && d == 'f'))
                *n_r = 0;
        else
                return false;
        return true;
}

static int64_t duration_unit(char c)
{
        switch (ascii_lower(c)) {
        case 'd': return 86400;
        case 'h': return 3600;
        case 'm': return 60;
        case 's': return 1;
        default: return 0;
        }
}

static bool parse_digits(const char **s, int64_t *n_r)
{
        int64_t n = 0;

        if (!ascii_isdigit(**s))
                return false;
        for (; ascii_isdigit(**s); ++*s)
                if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, **s - '0', &n))
                        return false;
        *n_r = n;
        return true;
}

static bool parse_duration(const char *s, char bare_unit, int64_t *n_r)
{
        bool negative = *s == '-';
        int64_t total = 0, n, unit;

        s += negative;
        do {
                if (!parse_digits(&s, &n))
                        return false;
                unit = *s ? duration_unit(*s) : duration_unit(bare_unit);
                if (unit == 0 || __builtin_mul_overflow(n, unit, &n) || __builtin_add_overflow(total, n, &total))
                        return false;
                if (*s)
                        s++;
        } while (*s);
        *n_r = negative ? -total : total;
        return true;
}

/* "64K", "10 MiB", "1g", "512" */
static bool parse_bytes(const char *s, int64_t *n_r)
{
        static const char units[] = "bkmgt";
        int64_t n;

        if (!parse_digits(&s, &n))
                return false;
        while (*s == ' ' || *s == '\t')
                s++;
        if (*s) {
                const char *u = strchr(units, ascii_lower(*s));

                if (!u || __builtin_mul_overflow(n, INT64_C(1) << (10 * (u - units)), &n))
                        return false;
                s++;
                if (u != units && ascii_lower(*s) == 'i')
                        s++;
                if (u != units && ascii_lower(*s) == 'b')
                        s++;
        }
        if (*s)
                return false;
        *n_r = n;
        return true;
}

/* Walk a table's values, "a=b" meaning a with b as another name. Returns the index of `word`, -1. */
static int value_index(const char *values, struct span word)
{
        int index = 0;

        for (const char *p = values; *p; index++) {
                size_t len = strcspn(p, " "), eq = strcspn(p, " =");

                if (span_eq(word, (struct span){ p, eq }) ||
                    (eq < len && span_eq(word, (struct span){ p + eq + 1, len - eq - 1 })))
                        return index;
                p += len;
                p += *p == ' ';
        }
        return -1;
}

static bool parse_enum(const char *values, const char *s, int64_t *n_r)
{
        int64_t on;
        int index = value_index(values, span_of(s));

        /* An enum that grew out of a switch (virtdomains, serverinfo) still understands yes and no. */
        if (index < 0 && parse_switch(s, &on))
                index = value_index(values, span_of(on ? "on" : "off"));
        *n_r = index;
        return index >= 0;
}

static bool parse_set(const char *values, const char *s, int64_t *n_r)
{
        int64_t bits = 0;

        for (;;) {
                size_t len;
                int index;

                s += strspn(s, " \t");
                len = strcspn(s, " \t");
                if (len == 0)
                        break;
                index = value_index(values, (struct span){ s, len });
                if (index < 0 || index > 62)
                        return false;
                bits |= INT64_C(1) << index;
                s += len;
        }
        *n_r = bits;
        return true;
}

bool conf_parse_value(const struct conf_option *o, const char *value, int64_t *number_r)
{
        char *end;

        *number_r = 0;
        switch (o->type) {
        case CONF_STRING:
                if (strcmp(o->name, "umask") == 0)              /* the one string that is a number */
                        return strtoul(value, &end, 8) <= 0777 && *end == '\0' && ascii_isdigit(*value);
                return true;
        case CONF_INT: return parse_int(value, number_r);
        case CONF_SWITCH: return parse_switch(value, number_r);
        case CONF_DURATION:
                if (o->values && strcasecmp(value, o->values) == 0) {
                        *number_r = CONF_NEVER;
                        return true;
                }
                return parse_duration(value, o->unit, number_r);
        case CONF_ENUM: return parse_enum(o->values, value, number_r);
        case CONF_SET: return parse_set(o->values, value, number_r);
        case CONF_BYTES: return parse_bytes(value, number_r);
        }
        return false;
}

/* ---- the snapshot ---------------------------------------------------------------------------------------------------- */

uint64_t conf_prefix_bit(struct span prefix)
{
        uint64_t h = 0;

        for (size_t i = 0; i < prefix.len; i++)
                h = h * 0x9e3779b97f4a7c15u + (unsigned char)ascii_lower(prefix.p[i]);
        return UINT64_C(1) << ((h * 0x9e3779b97f4a7c15u) >> 58);
}

struct conf_entry *conf_entry_find(const struct conf *c, const char *name)
{
        uintptr_t index = (uintptr_t)table_find(c->by_name, span_of(name));

        return index ? &c->v[index - 1] : NULL;
}

static const char *expand(struct conf *c, const char *value, const char *dir)
{
        size_t mark = sizeof CONFIGDIR_MARK - 1;

        if (!dir || strncmp(value, CONFIGDIR_MARK, mark) != 0)
                return value;
        return arena_printf(&c->arena, "%s%s", dir, value + mark);
}

static void expand_all(struct conf *c)
{
        const char *dir = conf_free(c, NULL, "configdirectory");
        size_t count;
        const struct conf_option *o = conf_options(&count);

        for (size_t i = 0; i < c->n; i++)
                c->v[i].value = expand(c, c->v[i].value, dir);
        c->defaults = ARENA_ARRAY(&c->arena, const char *, count);
        for (size_t i = 0; i < count; i++)
                c->defaults[i] = o[i].def ? expand(c, o[i].def, dir) : NULL;
}

static void conf_destroy(struct conf *c)
{
        ARRAY_FREE(c);
        ARRAY_FREE(&c->lines);
        table_destroy(&c->by_name);
        arena_deinit(&c->arena);
        free(c);
}

static int slurp_file(void *context, const char *path, struct str *out, struct err *err)
{
        (void)context;
        return fs_slurp(path, 4u * 1024 * 1024, out, err);
}

/* Absolute, because the daemon changes its directory and HUP reads the file again. */
static const char *find_file(struct arena *arena, const char *path)
{
        const char *prefix = getenv("CYRUS_PREFIX"), *candidate;
        char *real;

        if (!path)
                path = DEFAULT_PATH;
        if (prefix && *prefix && *path == '/') {
                candidate = arena_printf(arena, "%s%s", prefix, path);
                if (access(candidate, R_OK) == 0)
                        return candidate;
        }
        if (*path == '/')
                return arena_strdup(arena, path);
        real = realpath(path, NULL);
        candidate = arena_strdup(arena, real ? real : path);
        free(real);
        return candidate;
}

static struct conf *read_all(const char *path, const struct conf_source *source, struct diag *diag)
{
        static const struct conf_source files = { slurp_file, NULL };
        struct conf *c = xcalloc(1, sizeof *c);

        c->refs = 1;
        arena_init(&c->arena);
        c->by_name = table_create();
        c->path = source ? arena_strdup(&c->arena, path) : find_file(&c->arena, path);
        conf_read(c, c->path, source ? source : &files, diag);
        return c;
}

void conf_examine(const char *path, struct conf **conf_r, struct diag *diag)
{
        *conf_r = read_all(path, NULL, diag);
}

bool conf_next_line(const struct conf *c, size_t *pos, struct conf_line *line_r)
{
        if (*pos >= c->lines.n)
                return false;
        *line_r = c->lines.v[(*pos)++];
        return true;
}

int conf_load(const char *path, const struct conf_source *source, struct conf **conf_r, struct diag *diag, struct err *err)
{
        size_t errors = diag->errors;
        struct conf *c = read_all(path, source, diag);

        *conf_r = NULL;
        if (diag->errors > errors) {
                conf_destroy(c);
                return diag_first_error(diag, err);
        }
        expand_all(c);
        *conf_r = c;
        return 0;
}

void conf_where(const struct conf *c, const char *option, const char **file_r, unsigned *line_r, unsigned *column_r)
{
        const struct conf_entry *e = conf_entry_find(c, option);

        for (size_t i = 0; !e && i < c->n; i++)
                if (strcmp(c->v[i].name + c->v[i].prefix_len, option) == 0)
                        e = &c->v[i];
        *file_r = e ? e->file : c->path;
        *line_r = e ? e->line : 0;
        *column_r = e ? e->column : 0;
}

#define WRONG(option, ...) do { \
        const char *file_; unsigned line_, column_; \
        conf_where(c, (option), &file_, &line_, &column_); \
        diag_add(diag, DIAG_ERROR, file_, line_, column_, __VA_ARGS__); \
} while (0)

int conf_require_store(const struct conf *c, struct diag *diag, struct err *err)
{
        const char *dir = conf_str(c, NULL, "configdirectory"), *def = conf_str(c, NULL, "defaultpartition"), *name, *value;
        size_t pos = 0, errors = diag->errors;

        if (!dir)
                diag_add(diag, DIAG_ERROR, c->path, 0, 0, "configdirectory is not set");
        else if (*dir != '/')
                WRONG("configdirectory", "configdirectory: \"%s\" is not an absolute path", dir);
        if (def && !conf_partition(c, def))
                WRONG("defaultpartition", "partition-%s is not set, but defaultpartition is \"%s\"", def, def);
        else if (!conf_next(c, "partition-", &pos, &name, &value))
                diag_add(diag, DIAG_ERROR, c->path, 0, 0, "no partition is set (partition-default: /some/directory)");
        pos = 0;
        while (conf_next(c, "partition-", &pos, &name, &value))
                if (*value != '/')
                        WRONG(name, "%s: \"%s\" is not an absolute path", name, value);
        return diag->errors > errors ? diag_first_error(diag, err) : 0;
}

/* Names that Cyrus's own programs look options up by, beside the services. */
bool conf_is_program(struct span name)
{
        static const char *const programs[] = {
                "arbitron", "chk_cyrus", "ctl_backups", "ctl_conversationsdb", "ctl_cyrusdb", "ctl_deliver", "ctl_mboxlist",
                "cvt_cyrusdb", "cyr_backup", "cyr_dbtool", "cyr_deny", "cyr_expire", "cyr_info", "cyr_synclog", "cyr_virusscan",
                "cyrctl", "cyrd", "deliver", "idled", "ipurge", "master", "mbexamine", "mbpath", "mbtool", "quota",
                "reconstruct", "relocate_by_id", "sievec", "sieved", "smmapd", "squatter", "sync_client", "sync_reset",
                "tls_prune", "unexpunge",
        };

        for (size_t i = 0; i < ARRAY_LEN(programs); i++)
                if (span_eq_str(name, programs[i]))
                        return true;
        return false;
}

static bool is_service(struct span name, const char *const *services)
{
        for (; *services; services++)
                if (span_ieq_str(name, *services))
                        return true;
        return false;
}

/* `<channel>_sync_host` and the like: the channel is named in sync_log_channels, not in cyrus.conf. */
static bool is_channel(const struct conf_entry *e)
{
        return strncmp(e->option->name, "sync_", 5) == 0;
}

void conf_check_services(const struct conf *c, const char *const *services, struct diag *diag)
{
        for (size_t i = 0; i < c->n; i++) {
                const struct conf_entry *e = &c->v[i];
                struct span prefix = { e->name, e->prefix_len > 0 ? e->prefix_len - 1 : 0 };
                int64_t number;

                if (prefix.len == 0 || conf_is_program(prefix) || is_channel(e))
                        continue;
                if (!is_service(prefix, services))
                        diag_add(diag, DIAG_WARNING, e->file, e->line, 1, "unknown option \"%s\": no service is named \"%.*s\"",
                                 e->name, (int)prefix.len, prefix.p);
                else if (!conf_parse_value(e->option, e->value, &number))
                        diag_add(diag, DIAG_ERROR, e->file, e->line, e->column, "%s: \"%s\" is no value of %s", e->name, e->value,
                                 e->option->name);
        }
}

struct conf *conf_ref(struct conf *c)
{
        __atomic_add_fetch(&c->refs, 1, __ATOMIC_RELAXED);
        return c;
}

void conf_unref(struct conf **cp)
{
        struct conf *c = *cp;

        *cp = NULL;
        if (c && __atomic_sub_fetch(&c->refs, 1, __ATOMIC_ACQ_REL) == 0)
                conf_destroy(c);
}

const char *conf_path(const struct conf *c)
{
        return c->path;
}

/* ---- look-ups ---------------------------------------------------------------------------------------------------------- */

static const struct conf_entry *find_for_service(const struct conf *c, const char *service, const char *name)
{
        char buf[NAME_MAX_LEN];
        size_t len = 0;

        if (!service || !(c->prefixes & conf_prefix_bit(span_of(service))))
                return NULL;
        for (; *service && len < sizeof buf - 2; service++)
                buf[len++] = ascii_lower(*service);
        buf[len++] = '_';
        if (len + strlen(name) >= sizeof buf)
                return NULL;
        strcpy(buf + len, name);
        return conf_entry_find(c, buf);
}

static const struct conf_option *option_of_type(const char *name, enum conf_type type)
{
        const struct conf_option *o = conf_option_find(name);

        must(o != NULL);
        must(o->type == type);
        return o;
}

/* The text in force, NULL: neither given nor a default. */
static const char *text_of(const struct conf *c, const char *service, const struct conf_option *o)
{
        const struct conf_entry *e = find_for_service(c, service, o->name);
        int64_t number;
        size_t count;

        if (e && conf_parse_value(o, e->value, &number))
                return e->value;
        e = conf_entry_find(c, o->name);
        return e ? e->value : c->defaults[o - conf_options(&count)];
}

static int64_t number_of(const struct conf *c, const char *service, const char *option, enum conf_type type)
{
        const struct conf_option *o = option_of_type(option, type);
        const char *text = text_of(c, service, o);
        int64_t n = 0;

        if (text && *text)
                must(conf_parse_value(o, text, &n));            /* checked at load; defaults by a test */
        return n;
}

const char *conf_str(const struct conf *c, const char *service, const char *option)
{
        return text_of(c, service, option_of_type(option, CONF_STRING));
}

const char *conf_raw(const struct conf *c, const char *service, const char *option)
{
        const struct conf_option *o = conf_option_find(option);

        must(o != NULL);
        return text_of(c, service, o);
}

int64_t conf_int(const struct conf *c, const char *service, const char *option)
{
        return number_of(c, service, option, CONF_INT);
}

bool conf_switch(const struct conf *c, const char *service, const char *option)
{
        return number_of(c, service, option, CONF_SWITCH) != 0;
}

int64_t conf_duration_s(const struct conf *c, const char *service, const char *option)
{
        return number_of(c, service, option, CONF_DURATION);
}

uint64_t conf_bytes(const struct conf *c, const char *service, const char *option)
{
        return (uint64_t)number_of(c, service, option, CONF_BYTES);
}

/* The canonical spelling: the file's own word is as good as the table's except for yes and no. */
const char *conf_enum(const struct conf *c, const char *service, const char *option)
{
        const struct conf_option *o = option_of_type(option, CONF_ENUM);
        const char *text = text_of(c, service, o);
        int64_t on;

        if (text && value_index(o->values, span_of(text)) < 0 && parse_switch(text, &on))
                return on ? "on" : "off";
        return text ? text : "";
}

bool conf_set_has(const struct conf *c, const char *service, const char *option, const char *value)
{
        const struct conf_option *o = option_of_type(option, CONF_SET);
        int index = value_index(o->values, span_of(value));

        must(index >= 0);
        return (number_of(c, service, option, CONF_SET) >> index) & 1;
}

bool conf_is_set(const struct conf *c, const char *service, const char *option)
{
        return find_for_service(c, service, option) || conf_entry_find(c, option);
}

const char *conf_free(const struct conf *c, const char *service, const char *name)
{
        const struct conf_entry *e = find_for_service(c, service, name);

        if (!e)
                e = conf_entry_find(c, name);
        return e ? e->value : NULL;
}

const char *conf_partition(const struct conf *c, const char *partition)
{
        char name[NAME_MAX_LEN];

        if ((size_t)snprintf(name, sizeof name, "partition-%s", partition) >= sizeof name)
                return NULL;
        for (char *p = name; *p; p++)
                *p = ascii_lower(*p);
        return conf_free(c, NULL, name);
}

bool conf_next(const struct conf *c, const char *prefix, size_t *pos, const char **name_r, const char **value_r)
{
        while (*pos < c->n) {
                const struct conf_entry *e = &c->v[(*pos)++];

                if (strncmp(e->name, prefix, strlen(prefix)) != 0)
                        continue;
                *name_r = e->name;
                *value_r = e->value;
                return true;
        }
        return false;
}

bool conf_words_have(const char *value, const char *word)
{
        struct span w = span_of(word);

        if (!value || w.len == 0)
                return false;
        for (;;) {
                size_t len;

                value += strspn(value, " \t");
                len = strcspn(value, " \t");
                if (len == 0)
                        return false;
                if (span_eq(w, (struct span){ value, len }))
                        return true;
                value += len;
        }
}

/* ---- the snapshot in force ------------------------------------------------------------------------------------------------ */

struct conf_live {
        struct mutex lock;
        struct conf *conf;                      /* guarded by lock */
};

struct conf_live *conf_live_create(struct conf *c)
{
        struct conf_live *live = xcalloc(1, sizeof *live);

        mutex_init(&live->lock);
        live->conf = c;
        return live;
}

void conf_live_destroy(struct conf_live **livep)
{
        struct conf_live *live = *livep;

        *livep = NULL;
        if (!live)
                return;
        conf_unref(&live->conf);
        mutex_deinit(&live->lock);
        free(live);
}

struct conf *conf_live_get(struct conf_live *live)
{
        struct conf *c;

        mutex_lock(&live->lock);
        c = conf_ref(live->conf);
        mutex_unlock(&live->lock);
        return c;
}

void conf_live_set(struct conf_live *live, struct conf *c)
{
        struct conf *old;

        mutex_lock(&live->lock);
        old = live->conf;
        live->conf = c;
        mutex_unlock(&live->lock);
        conf_unref(&old);
}
