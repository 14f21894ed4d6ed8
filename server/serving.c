/* serving - see serving.h */
#include "server/serving.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "server/child.h"
#include "server/external.h"
#include "server/systemd.h"
#include "util/array.h"
#include "util/log.h"
#include "util/must.h"

struct running {
        char *name;
        const struct master_entry *e;           /* of the present reading */
        const struct program *program;          /* NULL: a program of its own */
        struct service_args args;
        struct bound bound;
        ARRAY(struct external *) externals;     /* one for each address */
        bool serving;                           /* listens and was handed over */
};

struct serving {
        const struct service_ops *ops;
        struct identity id;
        int backlog;
        ARRAY(struct running *) v;
        ARRAY(struct external *) leaving;       /* of services that are gone, while their processes end */
        int next_id;                            /* CYRUS_ID */
};

struct serving *serving_create(const struct service_ops *ops, const struct identity *id, int backlog)
{
        struct serving *s = xcalloc(1, sizeof *s);

        s->ops = ops;
        s->id = *id;
        s->backlog = backlog;
        return s;
}

static void log_failure(const struct master_entry *e, const struct err *err)
{
        char quoted[LOG_QUOTE_MAX];

        log_event(LOG_ERROR, NULL, "service.failed", "service=%s listen=%s reason=%s", e->name, e->listen, log_quote_str(quoted, err->text));
}

/* The program that serves an entry inside the daemon; NULL: a program of its own. A name that is no service of Cyrus, or a
 * path to a file that is not ours, is a program of its own. */
static const struct program *inside_program(const struct master_entry *e)
{
        const struct program *p = program_find(e->program);

        return p && p->kind == PROGRAM_SERVICE ? p : NULL;
}

static bool is_udp(const struct master_entry *e)
{
        return e->proto == MASTER_UDP || e->proto == MASTER_UDP4 || e->proto == MASTER_UDP6;
}

/* Is the file a service names with -C the daemon's own? */
static bool same_file(const char *a, const char *b)
{
        struct stat x, y;

        return strcmp(a, b) == 0 || (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

void serving_check(const struct masterconf *mc, const struct conf *conf, struct diag *diag)
{
        const struct master_entry *e;
        const char **names;
        size_t pos = 0, n = 0;

        names = xcalloc(mc->n + 1, sizeof *names);
        while ((e = masterconf_next(mc, MASTER_SERVICES, &pos))) {
                const struct program *p = inside_program(e);
                struct service_args args;
                struct err err = ERR_INIT;

                names[n++] = e->name;
                if (e->port && !ascii_isdigit(e->port[0]) && !getservbyname(e->port, NULL))
                        diag_add(diag, DIAG_WARNING, mc->path, e->line, 1, "service \"%s\": no port is named \"%s\" (/etc/services)",
                                 e->name, e->port);
                if (!p && child_check(e->argv[0], &err) < 0)
                        diag_add(diag, DIAG_WARNING, mc->path, e->line, e->cmd_column, "service \"%s\": %s", e->name, err.text);
                if (!p)
                        continue;
                if (is_udp(e) && p->built)
                        diag_add(diag, DIAG_ERROR, mc->path, e->line, 1, "service \"%s\": %s does not speak UDP", e->name, p->name);
                if (service_args_parse(p, e->argc, e->argv, &args, &err) < 0)
                        diag_add(diag, DIAG_ERROR, mc->path, e->line, e->cmd_column, "service \"%s\": %s", e->name, err.text);
                else if (args.config && !same_file(args.config, conf_path(conf)))
                        diag_add(diag, DIAG_ERROR, mc->path, e->line, e->cmd_column,
                                 "service \"%s\": -C %s is not the daemon's %s: use %s_<option> there instead", e->name, args.config,
                                 conf_path(conf), e->name);
        }
        for (size_t i = 0; i < mc->n; i++) {
                struct err err = ERR_INIT;

                e = mc->v[i];
                if (e->section != MASTER_SERVICES && !program_find(e->program) && child_check(e->argv[0], &err) < 0)
                        diag_add(diag, DIAG_WARNING, mc->path, e->line, e->cmd_column, "\"%s\": %s", e->name, err.text);
        }
        conf_check_services(conf, names, diag);
        free(names);
}

/* ---- one service ------------------------------------------------------------------------------------------------------------ */

static struct running *running_create(struct serving *s, const struct master_entry *e, struct err *err)
{
        struct running *r = xcalloc(1, sizeof *r);

        r->name = xstrdup(e->name);
        r->e = e;
        r->program = inside_program(e);
        if ((r->program && service_args_parse(r->program, e->argc, e->argv, &r->args, err) < 0) ||
            (!systemd_sockets(e, &r->bound) && bind_entry(e, s->id.uid, s->id.gid, &r->bound, err) < 0 && !(e->proto == MASTER_UNIX && err->code == ERR_NOTFOUND))) {
                free(r->name);
                free(r);
                return NULL;
        }
        return r;
}

static void running_destroy(struct serving *s, struct running *r)
{
        if (r->serving && r->program)
                s->ops->remove(s->ops->context, r->name);
        for (size_t i = 0; i < r->externals.n; i++) {
                external_stop(r->externals.v[i]);
                if (external_processes(r->externals.v[i]) > 0)
                        *ARRAY_PUSH(&s->leaving) = r->externals.v[i];
                else
                        external_destroy(&r->externals.v[i]);
        }
        bound_close(&r->bound);
        ARRAY_FREE(&r->externals);
        free(r->name);
        free(r);
}

/* Make the directory of a Unix socket that could not be bound before the store made its own. */
static int bind_again(struct serving *s, struct running *r, struct err *err)
{
        if (bind_make_parent(r->e->listen, err) < 0)
                return -1;
        return bind_entry(r->e, s->id.uid, s->id.gid, &r->bound, err);
}

static int serve(struct serving *s, struct running *r, struct err *err)
{
        int ret;

        if (r->bound.n == 0 && bind_again(s, r, err) < 0)
                return -1;
        if (bound_listen(&r->bound, s->backlog, err) < 0)
                return err_prefix(err, "service %s", r->name);
        if (!r->program) {
                for (size_t i = 0; i < r->bound.n; i++) {
                        *ARRAY_PUSH(&r->externals) = external_create(r->e, r->bound.v[i].fd, r->bound.v[i].address, s->next_id++);
                        r->bound.v[i].fd = -1;
                }
                r->serving = true;
                return 0;
        }
        ret = s->ops->add(s->ops->context, r->e, r->program, &r->args, &r->bound, err);
        r->serving = ret == 0;
        return ret;
}

static void log_serving(const struct running *r)
{
        for (size_t i = 0; i < r->bound.n; i++)
                log_event(LOG_NOTE, NULL, "service.listening", "service=%s program=%s address=%s", r->name, r->e->program,
                          r->bound.v[i].address);
        if (r->program && !r->program->built)
                log_event(LOG_WARN, NULL, "service.refused", "service=%s program=%s reason=\"not built into this server: clients are refused\"",
                          r->name, r->program->name);
}

/* ---- all of them ------------------------------------------------------------------------------------------------------------ */

int serving_bind(struct serving *s, const struct masterconf *mc, bool fatal, struct err *err)
{
        const struct master_entry *e;
        size_t pos = 0;

        while ((e = masterconf_next(mc, MASTER_SERVICES, &pos))) {
                struct err why = ERR_INIT;
                struct running *r = running_create(s, e, &why);

                if (r) {
                        *ARRAY_PUSH(&s->v) = r;
                        continue;
                }
                if (fatal) {
                        err_copy(err, &why);
                        return -1;
                }
                log_failure(e, &why);
        }
        return 0;
}

int serving_listen(struct serving *s, bool fatal, struct err *err)
{
        for (size_t i = 0; i < s->v.n; i++) {
                struct running *r = s->v.v[i];
                struct err why = ERR_INIT;

                if (serve(s, r, &why) == 0) {
                        log_serving(r);
                        continue;
                }
                if (fatal) {
                        err_copy(err, &why);
                        return -1;
                }
                log_failure(r->e, &why);
                running_destroy(s, r);
                memmove(&s->v.v[i], &s->v.v[i + 1], (s->v.n - i - 1) * sizeof *s->v.v);
                s->v.n--;
                i--;
        }
        return 0;
}

/* Can `r` go on under this entry of a new reading? Its socket stays open, nobody is dropped. */
static bool can_stay(const struct running *r, const struct master_entry *e)
{
        return e && master_entry_same_address(r->e, e) && inside_program(e) == r->program;
}

/* Runs for unchanged entries too: imapd.conf may have changed. */
static void change(struct serving *s, struct running *r, const struct master_entry *e)
{
        struct err err = ERR_INIT;

        r->e = e;
        for (size_t i = 0; i < r->externals.n; i++)
                external_change(r->externals.v[i], e);
        if (!r->program)
                return;
        if (service_args_parse(r->program, e->argc, e->argv, &r->args, &err) < 0 ||
            s->ops->change(s->ops->context, e, r->program, &r->args, &err) < 0)
                log_failure(e, &err);
}

static struct running *find_running(const struct serving *s, const char *name)
{
        for (size_t i = 0; i < s->v.n; i++)
                if (strcmp(s->v.v[i]->name, name) == 0)
                        return s->v.v[i];
        return NULL;
}

static void add_new(struct serving *s, const struct master_entry *e)
{
        struct err err = ERR_INIT;
        struct running *r = running_create(s, e, &err);

        if (r && serve(s, r, &err) == 0) {
                *ARRAY_PUSH(&s->v) = r;
                log_serving(r);
                return;
        }
        if (r)
                running_destroy(s, r);
        log_failure(e, &err);
}

void serving_reload(struct serving *s, const struct masterconf *mc)
{
        const struct master_entry *e;
        size_t keep = 0, pos = 0;

        /* Close first what goes: a renamed service may want the address of an old one. */
        for (size_t i = 0; i < s->v.n; i++) {
                struct running *r = s->v.v[i];

                if (can_stay(r, masterconf_find(mc, MASTER_SERVICES, r->name))) {
                        s->v.v[keep++] = r;
                        continue;
                }
                log_event(LOG_NOTE, NULL, "service.closed", "service=%s", r->name);
                running_destroy(s, r);
        }
        s->v.n = keep;
        while ((e = masterconf_next(mc, MASTER_SERVICES, &pos))) {
                struct running *r = find_running(s, e->name);

                if (r)
                        change(s, r, e);
                else
                        add_new(s, e);
        }
}

void serving_stop(struct serving *s)
{
        for (size_t i = 0; i < s->v.n; i++)
                running_destroy(s, s->v.v[i]);
        s->v.n = 0;
}

void serving_kill_programs(struct serving *s, int sig)
{
        for (size_t i = 0; i < s->leaving.n; i++)
                external_kill(s->leaving.v[i], sig);
}

unsigned serving_programs(const struct serving *s)
{
        unsigned n = 0;

        for (size_t i = 0; i < s->leaving.n; i++)
                n += external_processes(s->leaving.v[i]);
        for (size_t i = 0; i < s->v.n; i++)
                for (size_t k = 0; k < s->v.v[i]->externals.n; k++)
                        n += external_processes(s->v.v[i]->externals.v[k]);
        return n;
}

size_t serving_listening(const struct serving *s)
{
        return s->v.n;
}

void serving_destroy(struct serving **sp)
{
        struct serving *s = *sp;

        *sp = NULL;
        if (!s)
                return;
        serving_stop(s);
        for (size_t i = 0; i < s->leaving.n; i++)
                external_destroy(&s->leaving.v[i]);
        ARRAY_FREE(&s->leaving);
        ARRAY_FREE(&s->v);
        free(s);
}

/* ---- programs ----------------------------------------------------------------------------------------------------------------- */

size_t serving_pollfds_max(const struct serving *s)
{
        size_t n = 0;

        for (size_t i = 0; i < s->v.n; i++)
                n += s->v.v[i]->externals.n * EXTERNAL_POLLFDS;
        return n;
}

size_t serving_pollfds(const struct serving *s, struct pollfd *fds, size_t max)
{
        size_t n = 0;

        for (size_t i = 0; i < s->v.n; i++)
                for (size_t k = 0; k < s->v.v[i]->externals.n; k++) {
                        must(n + EXTERNAL_POLLFDS <= max);
                        n += external_pollfds(s->v.v[i]->externals.v[k], fds + n);
                }
        return n;
}

uint64_t serving_run(struct serving *s, const struct pollfd *fds, size_t n)
{
        uint64_t wake = 0, w;
        size_t at = 0;

        for (size_t i = 0; i < s->v.n; i++)
                for (size_t k = 0; k < s->v.v[i]->externals.n; k++) {
                        w = external_run(s->v.v[i]->externals.v[k], fds + at, at + EXTERNAL_POLLFDS <= n ? EXTERNAL_POLLFDS : 0);
                        at += EXTERNAL_POLLFDS;
                        if (w && (!wake || w < wake))
                                wake = w;
                }
        return wake;
}

bool serving_reap(struct serving *s, pid_t pid, int status)
{
        for (size_t i = 0; i < s->v.n; i++)
                for (size_t k = 0; k < s->v.v[i]->externals.n; k++)
                        if (external_reap(s->v.v[i]->externals.v[k], pid, status))
                                return true;
        for (size_t i = 0; i < s->leaving.n; i++)
                if (external_reap(s->leaving.v[i], pid, status)) {
                        if (external_processes(s->leaving.v[i]) == 0) {
                                external_destroy(&s->leaving.v[i]);
                                s->leaving.v[i] = s->leaving.v[--s->leaving.n];
                        }
                        return true;
                }
        return false;
}
