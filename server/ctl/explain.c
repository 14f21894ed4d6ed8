/* explain - see explain.h */
#include "server/ctl/explain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/child.h"
#include "server/confcheck.h"
#include "server/ctl/table.h"
#include "server/masterconf.h"
#include "server/names.h"
#include "server/serving.h"
#include "server/tls.h"
#include "util/array.h"
#include "util/str.h"

enum state { HONOURED, TRANSLATED, LATER, IGNORED, UNKNOWN, WRONG, STATES };
static const char *const state_names[STATES] = { "honoured", "translated", "later", "ignored", "unknown", "wrong" };

struct explain {
        struct ctl_client *client;
        struct conf *conf;
        struct masterconf *mc;                  /* NULL: there is no cyrus.conf */
        struct diag diag;
        bool quiet;
        unsigned counts[STATES];
};

/* One key: `file`, `line`, its name and value, what becomes of it, why. `entry` NULL: a line of imapd.conf. */
struct key {
        const char *file;
        unsigned line;
        const struct master_entry *entry;
        const char *name, *value;
};

/* ---- telling ---------------------------------------------------------------------------------------------------------------- */

static bool is_secret(const char *name)
{
        static const char *const parts[] = { "password", "passwd", "secret", "_pw" };

        for (size_t i = 0; i < ARRAY_LEN(parts); i++)
                if (strstr(name, parts[i]))
                        return true;
        return false;
}

/* For people. What stands in the file goes to a terminal: control characters do not. */
static void print_text(const char *s)
{
        char *clean = xstrdup(s);

        ctl_text_clean(clean);
        fputs(clean, stdout);
        free(clean);
}

static void print_key(const struct key *k, const char *shown, enum state state, const char *why)
{
        printf("%s:%u: ", k->file, k->line);
        if (k->entry)
                printf("%s %s: ", master_section_name(k->entry->section), k->entry->name);
        print_text(k->name);
        fputs(k->entry ? "=" : ": ", stdout);
        print_text(shown);
        printf("\n        %s: ", state_names[state]);
        print_text(why);
        putchar('\n');
}

static void tell(struct explain *x, const struct key *k, enum state state, const char *why)
{
        const char *shown = is_secret(k->name) ? "(not shown)" : k->value;
        json_t *row;

        x->counts[state]++;
        if (x->quiet && state == HONOURED)
                return;
        if (!x->client->json) {
                print_key(k, shown, state, why);
                return;
        }
        row = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "kind", k->entry ? "entry" : "option", "file", k->file, "line",
                        (json_int_t)k->line, "option", k->name, "value", shown, "state", state_names[state], "why", why);
        if (!row)                               /* the value is not UTF-8 */
                row = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s}", "kind", k->entry ? "entry" : "option", "file", k->file, "line",
                                (json_int_t)k->line, "option", k->name, "state", state_names[state], "why", why);
        if (row && k->entry) {
                json_object_set_new(row, "section", json_string(master_section_name(k->entry->section)));
                json_object_set_new(row, "entry", json_string(k->entry->name));
        }
        if (row)
                x->client->row(x->client->ctx, row);
        json_decref(row);
}

/* ---- imapd.conf --------------------------------------------------------------------------------------------------------------- */

/* Whole areas that are not built yet, by what their options' names begin with. */
static const struct { const char *begins, *why; } areas[] = {
        { "allowusermoves", "Murder is not built yet." },
        { "anysieve", "Sieve is not built yet." },
        { "archive_", "Archive partitions are not built yet." },
        { "autocreate_sieve", "Sieve is not built yet." },
        { "backup", "Backup is not built yet." },
        { "client_", "Connections to other servers (Murder, replication) are not built yet." },
        { "conversations", "Conversations are not built yet; threads are by the References of messages." },
        { "defaultserver", "Murder is not built yet." },
        { "event_", "Event notification is not built yet." },
        { "force_sasl_client_mech", "Connections to other servers (Murder, replication) are not built yet." },
        { "mailnotifier", "Notification is not built yet." },
        { "mupdate_", "Murder is not built yet." },
        { "notify", "Notification is not built yet." },
        { "partition_select_", "New mailboxes go to defaultpartition, or to the partition of their parent." },
        { "prometheus_", "Metrics are served where metrics_listen says." },
        { "proxy", "Murder is not built yet." },
        { "restore_", "Backup is not built yet." },
        { "rfc3028_strict", "Sieve is not built yet." },
        { "search_", "Search indexes are not built yet: mailboxes are read." },
        { "defaultsearchtier", "Search indexes are not built yet: mailboxes are read." },
        { "sendmail", "Nothing here sends mail yet." },
        { "serverlist", "Murder is not built yet." },
        { "sieve", "Sieve is not built yet." },
        { "smtp_", "Nothing here sends mail yet." },
        { "srs_", "Nothing here sends mail yet." },
        { "sync_", "Replication is not built yet." },
        { "temp_path", "Backup is not built yet." },
        { "tls_client_", "Connections to other servers (Murder, replication) are not built yet." },
        { "virusscan_", "Virus scanning is not built yet." },
        { "xbackup_", "Backup is not built yet." },
};

const char *explain_option(const struct conf_option *o)
{
        if (o->purpose)
                return o->purpose;
        for (size_t i = 0; o->handled != CONF_HONOURED && i < ARRAY_LEN(areas); i++)
                if (strncmp(o->name, areas[i].begins, strlen(areas[i].begins)) == 0)
                        return areas[i].why;
        return o->handled == CONF_HONOURED ? "As in Cyrus." : o->handled == CONF_LATER ? "Not built yet: it has no effect." : "It has no meaning here.";
}

static enum state state_of(const struct conf_option *o)
{
        return o->handled == CONF_HONOURED ? HONOURED : o->handled == CONF_LATER ? LATER : IGNORED;
}

/* A bare number at the end of a duration means what the option's own unit is. */
static void add_unit(const struct conf_line *l, struct str *why)
{
        const struct conf_option *o = l->option;
        size_t len = strlen(l->value);

        if (o->type == CONF_DURATION && len && ascii_isdigit(l->value[len - 1]))
                str_printf(why, " The number is in %s.",
                           o->unit == 'd' ? "days" : o->unit == 'h' ? "hours" : o->unit == 'm' ? "minutes" : "seconds");
}

/* Values that are taken for something else than they say. Returns the state, perhaps another one. */
static enum state add_value(const struct conf_line *l, enum state state, struct str *why)
{
        const char *name = l->option->name;
        int64_t on;

        if (strcmp(name, "tls_ciphers") == 0 && !tls_ciphers_understood(l->value)) {
                str_append_str(why, " This is an OpenSSL list; NORMAL is used.");
                return strcmp(l->value, "DEFAULT") == 0 ? TRANSLATED : IGNORED;
        }
        if (strcmp(name, "tls_versions") == 0 && (strstr(l->value, "ssl") || strstr(l->value, "tls1_0") || strstr(l->value, "tls1_1"))) {
                str_append_str(why, " TLS below 1.2 is not offered, whatever is written.");
                return TRANSLATED;
        }
        if (l->option->type == CONF_ENUM && conf_parse_value(l->option, l->value, &on)) {
                /* "yes" where an enum grew out of a switch, or another name of a value. */
                struct span word = span_of(l->value);
                const char *p = l->option->values;

                for (int64_t i = 0; i < on; i++)
                        p += strcspn(p, " ") + 1;
                if (!span_eq(word, (struct span){ p, strcspn(p, " =") })) {
                        str_printf(why, " It is read as \"%.*s\".", (int)strcspn(p, " ="), p);
                        return state == HONOURED ? TRANSLATED : state;
                }
        }
        return state;
}

static enum state explain_free_form(const struct conf_line *l, struct str *why)
{
        static const struct { const char *begins, *ends; enum state state; const char *why; } forms[] = {
                { "partition-", NULL, HONOURED, "The directory of a partition." },
                { "sasl_", NULL, HONOURED, "Handed to the SASL library." },
                { "xlist-", NULL, HONOURED, "The folder that gets this special use when it is made automatically." },
                { "autocreate_acl", NULL, HONOURED, "Rights added to a folder that is made automatically." },
                { "metapartition-", NULL, IGNORED, "A mailbox is one directory; there are no meta files to put elsewhere." },
                { "archivepartition-", NULL, LATER, "Archive partitions are not built yet." },
                { "backuppartition-", NULL, LATER, "Backup is not built yet." },
                { NULL, "searchpartition-", LATER, "Search indexes are not built yet: mailboxes are read." },
                { NULL, "_password", LATER, "Connections to other servers (Murder, replication) are not built yet." },
                { NULL, "_mechs", LATER, "Connections to other servers (Murder, replication) are not built yet." },
                { NULL, "_client_cert", LATER, "Connections to other servers (Murder, replication) are not built yet." },
                { NULL, "_client_key", LATER, "Connections to other servers (Murder, replication) are not built yet." },
        };
        const char *sasl = strstr(l->name, "_sasl_");

        for (size_t i = 0; i < ARRAY_LEN(forms); i++)
                if (forms[i].begins ? strncmp(l->name, forms[i].begins, strlen(forms[i].begins)) == 0 : strstr(l->name, forms[i].ends) != NULL) {
                        str_append_str(why, forms[i].why);
                        return forms[i].state;
                }
        if (sasl) {
                str_printf(why, "Handed to the SASL library, for the service %.*s.", (int)(sasl - l->name), l->name);
                return HONOURED;
        }
        str_append_str(why, "An option of one service or program.");
        return HONOURED;
}

static bool service_is_there(const struct explain *x, struct span name)
{
        if (conf_is_program(name))
                return true;
        for (size_t i = 0; x->mc && i < x->mc->n; i++)
                if (span_ieq_str(name, x->mc->v[i]->name))
                        return true;
        return false;
}

static enum state explain_line(struct explain *x, const struct conf_line *l, struct str *why)
{
        struct span service = { l->name, l->prefix_len > 0 ? l->prefix_len - 1 : 0 };
        const char *now = conf_option_renamed(l->given + l->prefix_len);
        enum state state;

        if (!l->option) {
                if (l->free_form && l->bad) {
                        str_append_str(why, "It lacks a name.");
                        return WRONG;
                }
                if (l->free_form)
                        return explain_free_form(l, why);
                if (now) {
                        str_append_str(why, "Cyrus no longer uses it.");
                        return IGNORED;
                }
                str_append_str(why, "No such option.");
                return UNKNOWN;
        }
        state = state_of(l->option);
        if (now) {
                str_printf(why, "An old name of %s. ", now);
                state = state == HONOURED ? TRANSLATED : state;
        }
        str_append_str(why, explain_option(l->option));
        if (l->bad) {
                str_append_str(why, " This is no value of it.");
                return WRONG;
        }
        state = add_value(l, state, why);
        add_unit(l, why);
        if (service.len && x->mc && !service_is_there(x, service) && strncmp(l->option->name, "sync_", 5) != 0) {
                str_clear(why);
                str_printf(why, "No service of cyrus.conf and no program is called %.*s.", (int)service.len, service.p);
                return UNKNOWN;
        }
        if (service.len)
                str_printf(why, " For %.*s only.", (int)service.len, service.p);
        if (l->loses_to) {
                str_printf(why, " Line %u says otherwise, and is in force.", l->loses_to);
                return IGNORED;
        }
        return state;
}

static void explain_conf(struct explain *x)
{
        struct str why = STR_INIT;
        struct conf_line l;
        size_t pos = 0;

        while (conf_next_line(x->conf, &pos, &l)) {
                struct key k = { l.file, l.line, NULL, l.given, l.value };
                enum state state;

                str_clear(&why);
                state = explain_line(x, &l, &why);
                tell(x, &k, state, why.data);
        }
        str_deinit(&why);
}

/* What a file made for Cyrus relies on without saying so. */
static void explain_defaults(struct explain *x)
{
        static const struct { const char *option, *cyrus, *why; } differ[] = {
                { "boundary_limit", "1000", "MIME parts nest this deep at most." },
                { "maxargssize", "no limit", "Octets of a command's arguments, so that nobody fills the memory." },
                { "munge8bit", "yes", "A message is kept octet for octet." },
                { "tls_versions", "tls1_0 and up", "TLS 1.0 and 1.1 are broken." },
        };

        for (size_t i = 0; i < ARRAY_LEN(differ); i++) {
                const struct conf_option *o = conf_option_find(differ[i].option);
                struct conf_line l;
                size_t pos = 0;
                bool set = false;

                while (conf_next_line(x->conf, &pos, &l))
                        set = set || l.option == o;
                if (set || !o)
                        continue;
                if (!x->client->json) {
                        printf("%s: %s is not set: here it is %s, in Cyrus %s. %s\n", conf_path(x->conf), o->name, o->def, differ[i].cyrus,
                               differ[i].why);
                        continue;
                }
                json_t *row = json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", "default", "option", o->name, "value", o->def, "cyrus",
                                        differ[i].cyrus, "why", differ[i].why);

                x->client->row(x->client->ctx, row);
                json_decref(row);
        }
}

/* ---- cyrus.conf --------------------------------------------------------------------------------------------------------------- */

static bool runs_inside(const struct master_entry *e, const struct program *p)
{
        return p && (e->section == MASTER_SERVICES ? p->kind == PROGRAM_SERVICE : strcmp(p->name, "ctl_cyrusdb") == 0 || p->needless);
}

static enum state explain_cmd(const struct master_entry *e, const struct program *p, struct str *why)
{
        const char *first = e->cmd;

        if (p && !p->built) {
                str_printf(why, "%s is not built yet: %s.", p->name, e->section == MASTER_SERVICES ? "the port is held, and clients are refused" :
                           "it is left out");
                return LATER;
        }
        if (p && p->needless) {
                str_printf(why, "%s. There is nothing for %s to do.", p->needless, p->name);
                return TRANSLATED;
        }
        if (p && strcmp(p->name, "ctl_cyrusdb") == 0) {
                str_append_str(why, "Done inside the daemon: -r when the store is opened, -c as a checkpoint of the databases.");
                return TRANSLATED;
        }
        if (p && e->section == MASTER_SERVICES) {
                str_printf(why, "%s is served inside the daemon, by its threads.", p->name);
                for (int i = 1; i < e->argc; i++)
                        if (e->argv[i][0] == '-' && strchr("UTD", e->argv[i][1]) && e->argv[i][1])
                                str_printf(why, " %s has no meaning: there are no processes.", e->argv[i]);
                return TRANSLATED;
        }
        if (p) {
                str_printf(why, "Our own %s is run%s.", p->name, strncmp(first, p->name, strlen(p->name)) == 0 ? "" : ", whatever the path");
                return HONOURED;
        }
        str_printf(why, "A program of its own, %s.", e->section == MASTER_SERVICES ? "which gets the socket as Cyrus's master gives it" : "started as it is");
        return HONOURED;
}

static enum state explain_service_key(const char *key, bool inside, const struct master_entry *e, struct str *why)
{
        if (strcasecmp(key, "listen") == 0) {
                str_append_str(why, e->proto == MASTER_UNIX ? "The Unix socket to listen on." : e->host ? "The address to listen on." :
                               "The port to listen on, at every address.");
                return HONOURED;
        }
        if (strcasecmp(key, "proto") == 0) {
                str_append_str(why, "Which families of addresses to listen on.");
                return HONOURED;
        }
        if (strcasecmp(key, "maxchild") == 0) {
                str_append_str(why, inside ? "Connections at once; more wait in the backlog." : "Processes at once.");
                return inside ? TRANSLATED : HONOURED;
        }
        if (strcasecmp(key, "prefork") == 0 || strcasecmp(key, "babysit") == 0) {
                str_append_str(why, inside ? "There are no processes to keep ready: a thread is there at once." : "Processes kept ready.");
                return inside ? IGNORED : HONOURED;
        }
        return UNKNOWN;
}

static enum state explain_key(const struct master_entry *e, const char *key, struct str *why)
{
        const struct program *p = e->program ? program_find(e->program) : NULL;
        bool inside = runs_inside(e, p), runs_on = e->section == MASTER_SERVICES || e->section == MASTER_DAEMON;
        enum state state = UNKNOWN;

        if (strcasecmp(key, "cmd") == 0 && e->argc > 0)
                return explain_cmd(e, p, why);
        if (e->section == MASTER_SERVICES)
                state = explain_service_key(key, inside, e, why);
        if (runs_on && (strcasecmp(key, "maxfds") == 0 || strcasecmp(key, "maxforkrate") == 0)) {
                str_append_str(why, inside ? "It concerns processes, of which there are none." : "For each process.");
                state = inside ? IGNORED : HONOURED;
        } else if (e->section == MASTER_EVENTS && strcasecmp(key, "period") == 0) {
                str_printf(why, e->at_min >= 0 ? "\"at\" says when." : e->period_min ? "Every %d minutes." : "Once, at the start.", e->period_min);
                state = e->at_min >= 0 ? IGNORED : HONOURED;
        } else if (e->section == MASTER_EVENTS && strcasecmp(key, "at") == 0) {
                str_printf(why, "Every day at %02d:%02d.", e->at_min / 60, e->at_min % 60);
                state = HONOURED;
        } else if (e->section == MASTER_DAEMON && strcasecmp(key, "wait") == 0) {
                str_append_str(why, inside ? "There is nothing to wait for." : e->wait ? "Services begin when it has said \"ok\"." : "Services do not wait for it.");
                state = inside ? IGNORED : HONOURED;
        } else if (strcasecmp(key, "provide_uuid") == 0) {
                str_append_str(why, "A key of Cyrus 2.3.");
                state = IGNORED;
        }
        if (state == UNKNOWN)
                str_printf(why, "No such key in %s.", master_section_name(e->section));
        return state;
}

static void explain_master(struct explain *x)
{
        struct str why = STR_INIT;

        for (size_t i = 0; x->mc && i < x->mc->n; i++) {
                const struct master_entry *e = x->mc->v[i];

                for (size_t n = 0; n < e->params_n; n++) {
                        struct key k = { x->mc->path, e->line, e, e->params[n].key, e->params[n].value };
                        enum state state;

                        str_clear(&why);
                        if (e->params[n].wrong) {
                                str_append_str(&why, e->params[n].wrong);
                                state = WRONG;
                        } else {
                                state = explain_key(e, k.name, &why);
                        }
                        tell(x, &k, state, why.data);
                }
        }
        str_deinit(&why);
}

/* ---- what is wrong ------------------------------------------------------------------------------------------------------------ */

/* What looks at values needs both files free of errors. */
static void check(struct explain *x)
{
        struct conf *sound = NULL;
        struct masterconf *mc = NULL;
        struct err ignored = ERR_INIT;
        struct diag again = DIAG_INIT;

        child_init();                                   /* programs are looked for beside us, as cyrd does */
        if (x->diag.errors == 0 && conf_load(conf_path(x->conf), NULL, &sound, &again, &ignored) == 0) {
                conf_require_store(sound, &x->diag, &ignored);
                confcheck(sound, &x->diag);
                if (x->mc && masterconf_load(x->mc->path, &mc, &again, &ignored) == 0)
                        serving_check(mc, sound, &x->diag);
        }
        masterconf_destroy(&mc);
        conf_unref(&sound);
        diag_deinit(&again);
}

static void tell_problems(struct explain *x)
{
        struct str line = STR_INIT;

        for (size_t i = 0; i < x->diag.n; i++) {
                const struct diag_message *m = &x->diag.v[i];
                const char *level = m->level == DIAG_ERROR ? "error" : "warning";

                if (m->level == DIAG_NOTE)              /* an old name: told with its line */
                        continue;
                if (x->client->json) {
                        json_t *row = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s}", "kind", "problem", "level", level, "file", m->file, "line",
                                                (json_int_t)m->line, "column", (json_int_t)m->column, "text", m->text);

                        if (row)
                                x->client->row(x->client->ctx, row);
                        json_decref(row);
                        continue;
                }
                str_clear(&line);
                diag_format(m, &line);
                if (m->level == DIAG_ERROR)
                        fputs("error: ", stdout);
                print_text(line.data);
                putchar('\n');
        }
        str_deinit(&line);
}

static const char *plural(size_t n)
{
        return n == 1 ? "" : "s";
}

static void tell_summary(struct explain *x)
{
        json_t *row;

        if (!x->client->json) {
                for (int s = 0; s < STATES; s++)
                        printf("%s%u %s", s ? ", " : "", x->counts[s], state_names[s]);
                printf("; %zu error%s, %zu warning%s\n", x->diag.errors, plural(x->diag.errors), x->diag.warnings, plural(x->diag.warnings));
                return;
        }
        row = json_pack("{s:s, s:I, s:I}", "kind", "summary", "errors", (json_int_t)x->diag.errors, "warnings", (json_int_t)x->diag.warnings);
        for (int s = 0; s < STATES; s++)
                json_object_set_new(row, state_names[s], json_integer((json_int_t)x->counts[s]));
        x->client->row(x->client->ctx, row);
        json_decref(row);
}

int explain_run(struct ctl_client *client, json_t *args, struct err *err)
{
        const char *imapd = json_string_value(json_object_get(args, "imapd.conf")), *cyrus = json_string_value(json_object_get(args, "cyrus.conf"));
        struct explain x = { .client = client, .quiet = json_is_true(json_object_get(args, "quiet")) };
        int rc = 0;

        diag_init(&x.diag);
        conf_examine(imapd ? imapd : client->config, &x.conf, &x.diag);
        x.mc = masterconf_examine(cyrus, &x.diag);
        explain_conf(&x);
        if (!x.quiet)
                explain_defaults(&x);
        explain_master(&x);
        check(&x);
        tell_problems(&x);
        tell_summary(&x);
        if (x.diag.errors || x.diag.warnings || x.counts[UNKNOWN] || x.counts[WRONG])
                rc = err_set(err, ERR_CORRUPT, "%zu error%s, %zu warning%s", x.diag.errors, plural(x.diag.errors), x.diag.warnings, plural(x.diag.warnings));
        masterconf_destroy(&x.mc);
        conf_unref(&x.conf);
        diag_deinit(&x.diag);
        json_decref(args);
        return rc;
}
