/* service - see service.h: the services, their listeners, parameters, TLS contexts and timeouts. */
#include "server/service.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/engine_private.h"
#include "server/tls.h"
#include "util/log.h"
#include "util/must.h"

#define SERVICES_MAX 1000u                      /* for those who name one with each connection */

struct params_version {
        struct service_params params;           /* immutable; its strings are ours */
        struct params_version *older;
};

static struct {                                 /* all services of the process */
        struct mutex lock;
        struct service *first;                  /* guarded by lock */
} services = { .lock = MUTEX_INIT };

static void lock_services(void) ACQUIRE(services.lock, services_class);
static void unlock_services(void) RELEASE(services.lock, services_class);
static void lock_services(void) NO_TSA { mutex_lock(&services.lock); }
static void unlock_services(void) NO_TSA { mutex_unlock(&services.lock); }
static void lock_service(struct service *s) ACQUIRE(s->lock, service_class);
static void unlock_service(struct service *s) RELEASE(s->lock, service_class);
static void lock_service(struct service *s) NO_TSA { mutex_lock(&s->lock); }
static void unlock_service(struct service *s) NO_TSA { mutex_unlock(&s->lock); }

/* ---- parameters ----------------------------------------------------------------------------------------------------------- */

static struct params_version *version_make(const struct service_params *params, struct params_version *older)
{
        struct params_version *v = xcalloc(1, sizeof *v);

        v->params = *params;
        v->params.name = xstrdup(params->name);
        v->params.refusal = params->refusal ? xstrdup(params->refusal) : NULL;
        v->older = older;
        return v;
}

static bool same_text(const char *a, const char *b)
{
        return a == b || (a && b && strcmp(a, b) == 0);
}

static bool params_same(const struct service_params *a, const struct service_params *b)
{
        return same_text(a->name, b->name) && a->ops == b->ops && a->tls_at_once == b->tls_at_once &&
               a->preauthorized == b->preauthorized && a->no_password_check == b->no_password_check && a->no_quota == b->no_quota &&
               a->external_ssf == b->external_ssf && same_text(a->refusal, b->refusal) && a->maxchild == b->maxchild &&
               a->per_address_max == b->per_address_max;
}

const struct service_params *service_params(const struct service *service)
{
        return &atomic_load(&service->now)->params;
}

const char *service_name(const struct service *service)
{
        return service_params(service)->name;
}

/* ---- what options say ----------------------------------------------------------------------------------------------------- */

/* Cyrus's options for idle clients are a protocol's own; a protocol without one has `timeout`. */
static void times_set(struct service *service, struct conf *conf)
{
        const struct service_params *p = service_params(service);
        const char *protocol = p->ops ? p->ops->protocol : "";
        bool imap = strcmp(protocol, "imap") == 0;
        const char *option = strcmp(protocol, "lmtp") == 0 ? "lmtptimeout" : strcmp(protocol, "pop3") == 0 ? "poptimeout" : "timeout";
        int64_t idle = conf_duration_s(conf, p->name, option);

        if (imap && idle < 30 * 60)
                idle = 30 * 60;                         /* RFC 9051 5.4: at least 30 minutes */
        atomic_store(&service->times.idle, idle > 0 ? (uint64_t)idle * 1000 : 0);
        atomic_store(&service->times.login, (uint64_t)conf_duration_s(conf, p->name, "login_timeout") * 1000);
        atomic_store(&service->times.write, (uint64_t)conf_duration_s(conf, p->name, "write_timeout") * 1000);
        atomic_store(&service->times.command, (uint64_t)conf_duration_s(conf, p->name, "command_timeout") * 1000);
}

const struct service_times *service_times(const struct service *service)
{
        return &service->times;
}

/* The names of RFC 7301's registry: a client that asks for another protocol is turned away, whatever it was tricked into. */
static const char *const *alpn_of(const char *protocol)
{
        static const char *const imap[] = { "imap", NULL }, *const pop3[] = { "pop3", NULL },
                          *const sieve[] = { "managesieve", NULL }, *const none[] = { NULL };

        return strcmp(protocol, "imap") == 0 ? imap : strcmp(protocol, "pop3") == 0 ? pop3 :
               strcmp(protocol, "managesieve") == 0 ? sieve : none;
}

/* Read certificates again. On trouble the old ones stay. */
static int tls_load(struct service *service, struct conf *conf, struct err *err)
{
        const struct service_params *p = service_params(service);
        struct tls_context *tls = NULL, *old;
        struct err trouble = ERR_INIT;

        if (tls_context_create(conf, p->name, alpn_of(p->ops ? p->ops->protocol : ""), &tls, &trouble) < 0 &&
            trouble.code != ERR_NOTFOUND) {
                err_copy(err, &trouble);
                return -1;
        }
        lock_service(service);
        old = service->tls;
        service->tls = tls;
        unlock_service(service);
        tls_context_unref(&old);
        return 0;
}

struct tls_context *service_tls(struct service *service)
{
        struct tls_context *tls;

        lock_service(service);
        tls = service->tls ? tls_context_ref(service->tls) : NULL;
        unlock_service(service);
        return tls;
}

bool service_has_tls(struct service *service)
{
        bool has;

        lock_service(service);
        has = service->tls != NULL;
        unlock_service(service);
        return has;
}

void services_reload(void)
{
        struct conf *conf = engine_conf();

        limits_setup(conf);
        lock_services();
        for (struct service *s = services.first; s; s = s->next) {
                struct err err = ERR_INIT;

                times_set(s, conf);
                if (tls_load(s, conf, &err) < 0)
                        log_event(LOG_ERROR, NULL, "tls.reload", "service=%s reason=\"%s\"", service_name(s), err.text);
        }
        unlock_services();
        conf_unref(&conf);
        sessions_wake_all(WAKE_TOUCH);
}

/* ---- life ----------------------------------------------------------------------------------------------------------------- */

int service_add(const struct service_params *params, struct service **service_r, struct err *err)
{
        struct service *s = xcalloc(1, sizeof *s);
        struct conf *conf = engine_conf();
        struct err trouble = ERR_INIT;

        must(params->ops || params->refusal);
        mutex_init(&s->lock);
        atomic_init(&s->refs, 1);
        atomic_init(&s->now, version_make(params, NULL));
        times_set(s, conf);
        if (tls_load(s, conf, &trouble) < 0) {
                /* A service without its certificate still serves those who need none; one that is nothing without fails. */
                if (params->tls_at_once) {
                        conf_unref(&conf);
                        service_unref(&s);
                        err_copy(err, &trouble);
                        return -1;
                }
                log_event(LOG_ERROR, NULL, "tls.unavailable", "service=%s reason=\"%s\"", params->name, trouble.text);
        }
        conf_unref(&conf);
        lock_services();
        s->next = services.first;
        services.first = s;
        unlock_services();
        *service_r = s;
        return 0;
}

struct service *service_ref(struct service *s)
{
        atomic_fetch_add(&s->refs, 1);
        return s;
}

void service_unref(struct service **sp)
{
        struct service *s = *sp;
        struct params_version *v;

        *sp = NULL;
        if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
                return;
        for (v = atomic_load(&s->now); v;) {
                struct params_version *older = v->older;

                free((char *)v->params.name);
                free((char *)v->params.refusal);
                free(v);
                v = older;
        }
        tls_context_unref(&s->tls);
        mutex_deinit(&s->lock);
        free(s);
}

void service_update(struct service *s, const struct service_params *params)
{
        struct conf *conf;

        lock_services();
        if (!params_same(service_params(s), params)) {
                atomic_store(&s->now, version_make(params, atomic_load(&s->now)));
                for (size_t i = 0; i < s->listeners_n; i++)
                        acceptor_resume(the_engine->acceptor, s->listeners[i]);         /* maxchild may be higher now */
        }
        unlock_services();
        conf = engine_conf();
        times_set(s, conf);
        conf_unref(&conf);
}

void service_remove(struct service **sp)
{
        struct service *s = *sp;

        if (!s)
                return;
        service_close_listeners(s);
        lock_services();
        for (struct service **at = &services.first; *at; at = &(*at)->next) {
                if (*at == s) {
                        *at = s->next;
                        break;
                }
        }
        unlock_services();
        service_unref(sp);
}

void services_close(void)
{
        struct service *s;

        lock_services();
        for (s = services.first; s; s = s->next) {
                for (size_t i = 0; i < s->listeners_n; i++)
                        acceptor_unlisten(the_engine->acceptor, &s->listeners[i]);
                s->listeners_n = 0;
                free(s->listeners);
                s->listeners = NULL;
        }
        unlock_services();
}

void services_free(void)
{
        for (;;) {
                struct service *s;

                lock_services();
                s = services.first;
                unlock_services();
                if (!s)
                        return;
                service_remove(&s);
        }
}

/* ---- listening ------------------------------------------------------------------------------------------------------------ */

/* On the acceptor's thread. Cyrus's maxchild is a number of processes; here each would be a connection. */
static bool service_ready(void *ctx)
{
        struct service *s = ctx;
        int max = service_params(s)->maxchild;

        return max < 0 || atomic_load(&s->connections) < (unsigned)max;
}

static void service_accepted(void *ctx, int fd, const struct sockaddr_storage *peer, socklen_t peer_len)
{
        struct service *s = ctx;

        (void)peer_len;
        atomic_fetch_add(&s->connections, 1);
        atomic_fetch_add(&s->total, 1);
        if (!session_begin(s, fd, peer, NULL))
                atomic_fetch_sub(&s->connections, 1);   /* ready() is asked again right after this */
}

static const struct accept_ops service_accept_ops = { service_ready, service_accepted };

int service_listen(struct service *s, int fd, struct err *err)
{
        struct listener *l;

        if (acceptor_listen(the_engine->acceptor, fd, &service_accept_ops, s, &l, err) < 0)
                return -1;
        lock_services();
        s->listeners = xrealloc(s->listeners, (s->listeners_n + 1) * sizeof *s->listeners);
        s->listeners[s->listeners_n++] = l;
        unlock_services();
        return 0;
}

void service_close_listeners(struct service *s)
{
        lock_services();
        for (size_t i = 0; i < s->listeners_n; i++)
                acceptor_unlisten(the_engine->acceptor, &s->listeners[i]);
        free(s->listeners);
        s->listeners = NULL;
        s->listeners_n = 0;
        unlock_services();
}

void service_session_gone(struct service *s)
{
        int max = service_params(s)->maxchild;
        unsigned before = atomic_fetch_sub(&s->connections, 1);

        must(before > 0);
        if (max < 0 || before < (unsigned)max)
                return;
        lock_services();
        for (size_t i = 0; i < s->listeners_n; i++)
                acceptor_resume(the_engine->acceptor, s->listeners[i]);
        unlock_services();
}

static void adoption_refused(struct adoption *a)
{
        close(a->fd);
        if (a->lifeline >= 0)
                close(a->lifeline);
}

/* One more, if maxchild allows it. The acceptor asks before it accepts; here the connection is there already. */
static bool take_place(struct service *s)
{
        int max = service_params(s)->maxchild;

        if (atomic_fetch_add(&s->connections, 1) >= (unsigned)max && max >= 0) {
                service_session_gone(s);
                return false;
        }
        atomic_fetch_add(&s->total, 1);
        return true;
}

int service_adopt(struct service *s, struct adoption *a, struct err *err)
{
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;

        memset(&peer, 0, sizeof peer);
        if (atomic_load(&the_engine->stopping)) {
                adoption_refused(a);
                return err_set(err, ERR_CANCELLED, "the daemon is stopping");
        }
        if (getpeername(a->fd, (struct sockaddr *)&peer, &len) < 0)
                memset(&peer, 0, sizeof peer);          /* not a socket, or not connected: counts as local */
        if (!take_place(s)) {
                session_refuse(s, a->fd, "adopted", "maxchild is reached");
                adoption_refused(a);
                return err_set(err, ERR_LIMIT, "too many connections of this service");
        }
        if (session_begin(s, a->fd, &peer, a))
                return 0;
        service_session_gone(s);
        return err_set(err, ERR_LIMIT, "too many connections");
}

/* Apart from how many there may be at once: that is the service's, whoever comes. */
static bool serves_alike(const struct service_params *a, const struct service_params *b)
{
        struct service_params same = *a;

        same.maxchild = b->maxchild;
        same.per_address_max = b->per_address_max;
        return params_same(&same, b);
}

static struct service *find_alike(const struct service_params *params, int *maxchild_r, unsigned *n_r)
{
        struct service *found = NULL;

        *n_r = 0;

        lock_services();
        for (struct service *s = services.first; s; s = s->next) {
                const struct service_params *p = service_params(s);

                ++*n_r;
                if (strcmp(p->name, params->name) != 0 || p->ops != params->ops)
                        continue;
                *maxchild_r = p->maxchild;
                if (!found && serves_alike(p, params))
                        found = service_ref(s);
        }
        unlock_services();
        return found;
}

int service_for(const struct service_params *params, struct service **service_r, struct err *err)
{
        struct service_params made = *params;
        unsigned n;

        *service_r = find_alike(params, &made.maxchild, &n);
        if (*service_r)
                return 0;
        if (n >= SERVICES_MAX)
                return err_set(err, ERR_UNSUPPORTED, "there are %u services already", n);
        /* Two who come at the same time make two: each works, and both live as long as the engine. */
        if (service_add(&made, service_r, err) < 0)
                return -1;
        service_ref(*service_r);
        return 0;
}

void service_release(struct service **s)
{
        service_unref(s);
}

/* ---- refusing ------------------------------------------------------------------------------------------------------------- */

static enum step refusal_run(struct session *s)
{
        const char *line = service_params(s->service)->refusal;

        if (line) {
                rope_append_str(&s->out, line);
                rope_append_str(&s->out, "\r\n");
        }
        return STEP_CLOSE;
}

static void refusal_close(struct session *s)
{
        (void)s;
}

const struct session_ops refusal_ops = { .protocol = "refusal", .run = refusal_run, .close = refusal_close };

void engine_each_service(void (*fn)(void *ctx, const char *name, const char *protocol, unsigned connections, uint64_t total), void *ctx)
{
        lock_services();
        for (struct service *s = services.first; s; s = s->next) {
                const struct service_params *p = service_params(s);

                fn(ctx, p->name, p->ops ? p->ops->protocol : "refusal", atomic_load(&s->connections), atomic_load(&s->total));
        }
        unlock_services();
}
