/* masterconf - the grammar of cyrus.conf. See masterconf.h. */
#include "server/masterconf.h"
#include "server/names.h"

#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "util/array.h"
#include "util/fs.h"
#include "util/must.h"

#define DEFAULT_PATH "/etc/cyrus.conf"
#define FILE_MAX (1024u * 1024)
#define ENTRIES_MAX 2000
#define NUMBER_MAX 1000000
#define PARAMS_MAX 16                           /* keys of one entry */

static const char *const section_names[MASTER_SECTIONS] = { "START", "SERVICES", "EVENTS", "DAEMON" };

const char *master_section_name(enum master_section section)
{
        return section_names[section];
}

struct parser {
        struct masterconf *mc;
        struct diag *diag;
        const char *line_start;                 /* of the line being read: for columns */
        unsigned line;
        int section;                            /* -1: outside of one */
        unsigned section_line;
        bool seen[MASTER_SECTIONS];
};

struct param { struct span key, value; };       /* borrowed from the text */

#define COMPLAIN(p, level, where, ...) \
        diag_add((p)->diag, (level), (p)->mc->path, (p)->line, (unsigned)((where) - (p)->line_start) + 1, __VA_ARGS__)

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static bool is_name_char(char c)
{
        return ascii_isalpha(c) || ascii_isdigit(c);
}

/* ---- values ------------------------------------------------------------------------------------------------------------ */

static int get_number(struct parser *p, const struct param *a, int min)
{
        struct span digits = a->value;
        bool negative = digits.len > 0 && *digits.p == '-';
        uint64_t n = 0;

        if (negative) {
                digits.p++;
                digits.len--;
        }
        if (!span_u64(digits, NUMBER_MAX, &n) || (negative && -(int)n < min)) {
                COMPLAIN(p, DIAG_ERROR, a->value.p, "%.*s: \"%.*s\" is not a number from %d to %d", (int)a->key.len, a->key.p,
                         (int)a->value.len, a->value.p, min, NUMBER_MAX);
                return 0;
        }
        return negative ? -(int)n : (int)n;
}

static bool get_switch(struct parser *p, const struct param *a)
{
        char c = a->value.len > 0 ? ascii_lower(a->value.p[0]) : '\0', d = a->value.len > 1 ? ascii_lower(a->value.p[1]) : '\0';

        if (c == '1' || c == 'y' || c == 't' || (c == 'o' && d == 'n'))
                return true;
        if (c != '0' && c != 'n' && c != 'f' && !(c == 'o' && d == 'f'))
                COMPLAIN(p, DIAG_ERROR, a->value.p, "%.*s: \"%.*s\" is not yes or no", (int)a->key.len, a->key.p,
                         (int)a->value.len, a->value.p);
        return false;
}

static int get_time_of_day(struct parser *p, const struct param *a)
{
        uint64_t n;

        if (a->value.len < 3 || a->value.len > 4 || !span_u64(a->value, 2359, &n) || n % 100 > 59) {
                COMPLAIN(p, DIAG_ERROR, a->value.p, "at: \"%.*s\" is not a time of day (hhmm)", (int)a->value.len, a->value.p);
                return 0;
        }
        return (int)(n / 100 * 60 + n % 100);
}

static enum master_proto get_proto(struct parser *p, const struct param *a)
{
        static const char *const names[] = { "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6" };

        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                if (span_ieq_str(a->value, names[i]))
                        return (enum master_proto)i;
        COMPLAIN(p, DIAG_ERROR, a->value.p, "proto: \"%.*s\" is none of tcp tcp4 tcp6 udp udp4 udp6", (int)a->value.len, a->value.p);
        return MASTER_TCP;
}

/* "/usr/sbin/cyrus expire -E 3", as Debian's cyrus.conf has it, is cyr_expire -E 3: ours, never the wrapper of a real Cyrus that may be
 * installed beside us and would work on our directories. */
static void unwrap(struct master_entry *e)
{
        const struct program *p = program_find_wrapped(e->argv[1]);

        if (!p)
                return;
        memmove(e->argv, e->argv + 1, (size_t)e->argc * sizeof *e->argv);       /* with the NULL */
        e->argc--;
        e->argv[0] = (char *)(uintptr_t)p->name;
        e->program = p->name;
}

static void get_cmd(struct parser *p, struct master_entry *e, const struct param *a)
{
        struct arena *arena = &p->mc->arena;
        const char *s = a->value.p, *end = s + a->value.len, *slash;

        e->cmd = arena_strndup(arena, a->value.p, a->value.len);
        e->cmd_column = (unsigned)(a->value.p - p->line_start) + 1;
        e->argv = ARENA_ARRAY(arena, char *, MASTERCONF_ARGS_MAX + 1);
        while (s < end) {
                const char *word;

                while (s < end && is_blank(*s))
                        s++;
                for (word = s; s < end && !is_blank(*s); s++)
                        ;
                if (s == word)
                        break;
                if (e->argc == MASTERCONF_ARGS_MAX) {
                        COMPLAIN(p, DIAG_ERROR, word, "cmd: more than %d words", MASTERCONF_ARGS_MAX);
                        return;
                }
                e->argv[e->argc++] = arena_strndup(arena, word, (size_t)(s - word));
        }
        if (e->argc == 0) {
                COMPLAIN(p, DIAG_ERROR, a->value.p, "cmd is empty");
                return;
        }
        slash = strrchr(e->argv[0], '/');
        e->program = slash ? slash + 1 : e->argv[0];
        if (strcmp(e->program, "cyrus") == 0 && e->argc > 1)
                unwrap(e);
}

static bool is_port(const char *s)
{
        uint64_t n;
        struct span span = span_of(s);

        if (ascii_isdigit(*s))
                return span_u64(span, 65535, &n) && n > 0;
        for (; *s; s++)
                if (!is_name_char(*s) && !strchr("-_+.", *s))
                        return false;
        return span.len > 0;
}

/* /path, port, host:port, [v6]:port */
static void get_listen(struct parser *p, struct master_entry *e, const struct param *a)
{
        struct arena *arena = &p->mc->arena;
        char *s = arena_strndup(arena, a->value.p, a->value.len), *colon, *close;
        size_t path_max = sizeof ((struct sockaddr_un *)NULL)->sun_path - 1;

        e->listen = arena_strdup(arena, s);
        if (*s == '/') {
                if (a->value.len > path_max)
                        COMPLAIN(p, DIAG_ERROR, a->value.p, "listen: the path of a Unix socket has at most %zu octets", path_max);
                return;
        }
        colon = strrchr(s, ':');
        e->port = s;
        if (*s == '[') {
                close = strchr(s, ']');
                if (!close || close[1] != ':') {
                        COMPLAIN(p, DIAG_ERROR, a->value.p, "listen: \"%s\" is not [address]:port", e->listen);
                        return;
                }
                *close = '\0';
                e->host = s + 1;
                e->port = close + 2;
        } else if (colon) {
                *colon = '\0';
                e->host = s;
                e->port = colon + 1;
        }
        if (e->host && strcmp(e->host, "*") == 0)
                e->host = NULL;
        if (e->host && *e->host == '\0')
                COMPLAIN(p, DIAG_ERROR, a->value.p, "listen: \"%s\" has no host in front of the colon", e->listen);
        else if (e->host && *s != '[' && strchr(e->host, ':'))
                COMPLAIN(p, DIAG_ERROR, a->value.p, "listen: an IPv6 address is written in brackets: [address]:port");
        else if (!is_port(e->port))
                COMPLAIN(p, DIAG_ERROR, a->value.p + (e->port - s), "listen: \"%s\" is not a port", e->port);
}

/* ---- entries ----------------------------------------------------------------------------------------------------------- */

static bool set_service_param(struct parser *p, struct master_entry *e, const struct param *a)
{
        if (span_ieq_str(a->key, "listen"))
                get_listen(p, e, a);
        else if (span_ieq_str(a->key, "proto"))
                e->proto = get_proto(p, a);
        else if (span_ieq_str(a->key, "prefork"))
                e->prefork = get_number(p, a, 0);
        else if (span_ieq_str(a->key, "maxchild"))
                e->maxchild = get_number(p, a, -1);
        else if (span_ieq_str(a->key, "babysit"))
                e->babysit = get_switch(p, a);
        else
                return false;
        return true;
}

static bool set_param(struct parser *p, struct master_entry *e, const struct param *a)
{
        bool runs_on = e->section == MASTER_SERVICES || e->section == MASTER_DAEMON;

        if (span_ieq_str(a->key, "cmd"))
                get_cmd(p, e, a);
        else if (runs_on && span_ieq_str(a->key, "maxfds"))
                e->maxfds = get_number(p, a, 0);
        else if (runs_on && span_ieq_str(a->key, "maxforkrate"))
                e->maxforkrate = get_number(p, a, 0);
        else if (e->section == MASTER_SERVICES)
                return set_service_param(p, e, a);
        else if (e->section == MASTER_EVENTS && span_ieq_str(a->key, "period"))
                e->period_min = get_number(p, a, 0);
        else if (e->section == MASTER_EVENTS && span_ieq_str(a->key, "at"))
                e->at_min = get_time_of_day(p, a);
        else if (e->section == MASTER_DAEMON && span_ieq_str(a->key, "wait"))
                e->wait = get_switch(p, a);
        else
                return false;
        return true;
}

/* One `key=value`. Returns the place after it, NULL after an error that makes the rest of the line unreadable. */
static const char *read_param(struct parser *p, const char *s, const char *end, struct param *a_r)
{
        const char *start = s;

        while (s < end && (is_name_char(*s) || *s == '_' || *s == '-'))
                s++;
        a_r->key = (struct span){ start, (size_t)(s - start) };
        if (s == start) {
                COMPLAIN(p, DIAG_ERROR, s, "bad character '%c' where a key should be", *s);
                return NULL;
        }
        if (s == end || *s != '=') {
                COMPLAIN(p, DIAG_ERROR, s, "no \"=\" after \"%.*s\"", (int)a_r->key.len, a_r->key.p);
                return NULL;
        }
        start = ++s;
        if (s < end && *s == '"') {
                start = ++s;
                while (s < end && *s != '"')
                        s++;
                if (s == end) {
                        COMPLAIN(p, DIAG_ERROR, start - 1, "the quote is not closed (a \"#\" starts a comment even inside quotes)");
                        return NULL;
                }
                a_r->value = (struct span){ start, (size_t)(s - start) };
                return s + 1;
        }
        while (s < end && !is_blank(*s))
                s++;
        a_r->value = (struct span){ start, (size_t)(s - start) };
        return s;
}

static void check_entry(struct parser *p, struct master_entry *e, const char *at)
{
        if (!e->cmd)
                COMPLAIN(p, DIAG_ERROR, at, "entry \"%s\" has no cmd", e->name);
        if (e->section == MASTER_SERVICES && !e->listen)
                COMPLAIN(p, DIAG_ERROR, at, "service \"%s\" has no listen", e->name);
        if (e->listen && !e->port)
                e->proto = MASTER_UNIX;
        if (e->at_min >= 0)
                e->period_min = 24 * 60;
        if (e->babysit) {
                e->prefork = e->prefork > 0 ? e->prefork : 1;
                e->maxforkrate = e->maxforkrate > 0 ? e->maxforkrate : 10;
        }
}

/* For those who explain the file. */
static void keep_param(struct parser *p, struct master_entry *e, const struct param *a)
{
        struct arena *arena = &p->mc->arena;

        if (!e->params)
                e->params = ARENA_ARRAY(arena, struct master_param, PARAMS_MAX);
        e->params[e->params_n++] = (struct master_param){ arena_strndup(arena, a->key.p, a->key.len), arena_strndup(arena, a->value.p, a->value.len),
                                                          (unsigned)(a->key.p - p->line_start) + 1, NULL };
}

/* What was said of the last one since the diag had `errors` errors and `n` messages. A diag that is full keeps no text. */
static void keep_wrong(struct parser *p, struct master_entry *e, size_t errors, size_t n)
{
        if (p->diag->errors > errors)
                e->params[e->params_n - 1].wrong = n < p->diag->n ? arena_strdup(&p->mc->arena, p->diag->v[n].text) : "This is no value of it.";
}

static bool same_param_before(const struct param *params, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (span_ieq(params[i].key, params[n].key))
                        return true;
        return false;
}

/* All `key=value` of an entry. Returns false when the rest of the line could not be read. */
static bool read_params(struct parser *p, struct master_entry *e, const char *s, const char *end)
{
        struct param params[PARAMS_MAX];

        for (size_t n = 0;; n++) {
                size_t errors = p->diag->errors, messages = p->diag->n;

                while (s < end && is_blank(*s))
                        s++;
                if (s == end)
                        return true;
                if (n == ARRAY_LEN(params)) {
                        COMPLAIN(p, DIAG_ERROR, s, "too many keys in one entry");
                        return false;
                }
                s = read_param(p, s, end, &params[n]);
                if (!s)
                        return false;
                keep_param(p, e, &params[n]);
                if (same_param_before(params, n))
                        COMPLAIN(p, DIAG_ERROR, params[n].key.p, "\"%.*s\" twice in one entry", (int)params[n].key.len, params[n].key.p);
                else if (!set_param(p, e, &params[n]) && !span_ieq_str(params[n].key, "provide_uuid"))
                        COMPLAIN(p, DIAG_WARNING, params[n].key.p, "unknown key \"%.*s\"", (int)params[n].key.len, params[n].key.p);
                keep_wrong(p, e, errors, messages);
        }
}

static void read_entry(struct parser *p, const char *s, const char *end)
{
        struct master_entry *e = ARENA_NEW(&p->mc->arena, struct master_entry);
        const char *name = s;

        while (s < end && is_name_char(*s))
                s++;
        if (s == name || (s < end && !is_blank(*s))) {
                COMPLAIN(p, DIAG_ERROR, s, "bad character '%c' in the name of an entry (letters and digits only)", *s);
                return;
        }
        e->section = (enum master_section)p->section;
        e->name = arena_strndup(&p->mc->arena, name, (size_t)(s - name));
        e->line = p->line;
        e->maxchild = e->at_min = -1;
        if (e->section == MASTER_SERVICES && masterconf_find(p->mc, e->section, e->name))
                COMPLAIN(p, DIAG_ERROR, name, "there are two services named \"%s\"", e->name);
        if (!read_params(p, e, s, end))
                return;
        check_entry(p, e, name);
        if (p->mc->n >= ENTRIES_MAX)
                COMPLAIN(p, DIAG_ERROR, name, "more than %d entries", ENTRIES_MAX);
        else
                *ARRAY_PUSH(p->mc) = e;
}

static void open_section(struct parser *p, const char *s, const char *end)
{
        const char *name = s;
        int section = -1;

        while (s < end && is_name_char(*s))
                s++;
        for (int i = 0; i < MASTER_SECTIONS; i++)
                if (span_ieq_str((struct span){ name, (size_t)(s - name) }, section_names[i]))
                        section = i;
        if (section < 0) {
                COMPLAIN(p, DIAG_ERROR, name, "here a section should begin: START, SERVICES, EVENTS or DAEMON");
                return;
        }
        while (s < end && is_blank(*s))
                s++;
        if (s == end || *s != '{') {
                COMPLAIN(p, DIAG_ERROR, s, "no \"{\" after %s", section_names[section]);
                return;
        }
        if (p->seen[section])
                COMPLAIN(p, DIAG_ERROR, name, "a second section %s", section_names[section]);
        p->seen[section] = true;
        p->section = section;
        p->section_line = p->line;
        for (s++; s < end && is_blank(*s); s++)
                ;
        if (s < end && *s == '}' && s + 1 == end)
                p->section = -1;
        else if (s < end)
                COMPLAIN(p, DIAG_ERROR, s, "nothing may follow \"{\" in its line");
}

static void read_line(struct parser *p, const char *s, const char *end)
{
        const char *hash = memchr(s, '#', (size_t)(end - s)), *nul = memchr(s, '\0', (size_t)(end - s));
        bool closes;

        p->line_start = s;
        if (nul) {
                COMPLAIN(p, DIAG_ERROR, nul, "a NUL octet");
                return;
        }
        if (hash)
                end = hash;
        while (s < end && is_blank(*s))
                s++;
        while (end > s && is_blank(end[-1]))
                end--;
        if (s == end)
                return;
        if (p->section < 0) {
                open_section(p, s, end);
                return;
        }
        closes = end[-1] == '}';
        if (closes)
                for (end--; end > s && is_blank(end[-1]); end--)
                        ;
        if (s < end)
                read_entry(p, s, end);
        if (closes)
                p->section = -1;
}

static struct masterconf *parse_all(const char *path, struct span text, struct diag *diag)
{
        struct masterconf *mc = xcalloc(1, sizeof *mc);
        struct parser p = { .mc = mc, .diag = diag, .section = -1 };
        const char *s = text.p, *end = text.p + text.len;

        arena_init(&mc->arena);
        mc->path = arena_strdup(&mc->arena, path);
        while (s < end) {
                const char *nl = memchr(s, '\n', (size_t)(end - s));

                p.line++;
                read_line(&p, s, nl ? nl : end);
                s = nl ? nl + 1 : end;
        }
        if (p.section >= 0)
                diag_add(diag, DIAG_ERROR, path, p.section_line, 1, "section %s is not closed", section_names[p.section]);
        return mc;
}

int masterconf_parse(const char *path, struct span text, struct masterconf **mc_r, struct diag *diag, struct err *err)
{
        size_t errors = diag->errors;
        struct masterconf *mc = parse_all(path, text, diag);

        *mc_r = NULL;
        if (diag->errors > errors) {
                masterconf_destroy(&mc);
                return diag_first_error(diag, err);
        }
        *mc_r = mc;
        return 0;
}

struct masterconf *masterconf_examine(const char *path, struct diag *diag)
{
        const char *given = path ? path : DEFAULT_PATH;
        char *absolute = realpath(given, NULL);
        struct masterconf *mc = NULL;
        struct str text = STR_INIT;
        struct err err = ERR_INIT;

        if (fs_slurp(absolute ? absolute : given, FILE_MAX, &text, &err) < 0)
                diag_add_unread(diag, given, &err);
        else
                mc = parse_all(absolute ? absolute : given, str_span(&text), diag);
        free(absolute);
        str_deinit(&text);
        return mc;
}

int masterconf_load(const char *path, struct masterconf **mc_r, struct diag *diag, struct err *err)
{
        size_t errors = diag->errors;
        struct masterconf *mc = masterconf_examine(path, diag);

        *mc_r = NULL;
        if (diag->errors > errors) {
                masterconf_destroy(&mc);
                return diag_first_error(diag, err);
        }
        *mc_r = mc;
        return 0;
}

void masterconf_destroy(struct masterconf **mcp)
{
        struct masterconf *mc = *mcp;

        *mcp = NULL;
        if (!mc)
                return;
        ARRAY_FREE(mc);
        arena_deinit(&mc->arena);
        free(mc);
}

const struct master_entry *masterconf_next(const struct masterconf *mc, enum master_section section, size_t *pos)
{
        while (*pos < mc->n) {
                const struct master_entry *e = mc->v[(*pos)++];

                if (e->section == section)
                        return e;
        }
        return NULL;
}

const struct master_entry *masterconf_find(const struct masterconf *mc, enum master_section section, const char *name)
{
        const struct master_entry *e;
        size_t pos = 0;

        while ((e = masterconf_next(mc, section, &pos)))
                if (strcmp(e->name, name) == 0)
                        return e;
        return NULL;
}

static bool same_text(const char *a, const char *b)
{
        return a == b || (a && b && strcmp(a, b) == 0);
}

bool master_entry_same_address(const struct master_entry *a, const struct master_entry *b)
{
        return same_text(a->listen, b->listen) && a->proto == b->proto;
}

bool master_entry_same(const struct master_entry *a, const struct master_entry *b)
{
        if (a->argc != b->argc)
                return false;
        for (int i = 0; i < a->argc; i++)
                if (strcmp(a->argv[i], b->argv[i]) != 0)
                        return false;
        return a->section == b->section && same_text(a->name, b->name) && master_entry_same_address(a, b) &&
               a->prefork == b->prefork && a->maxchild == b->maxchild && a->babysit == b->babysit && a->maxfds == b->maxfds &&
               a->maxforkrate == b->maxforkrate && a->period_min == b->period_min && a->at_min == b->at_min && a->wait == b->wait;
}
