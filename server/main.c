/*
 * main - where the program is assembled, and the only file that sees everything. One binary under many names: cyrd and master are
 * the daemon, the others are programs of Cyrus.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "replication/client_op.h"
#include "replication/reset.h"
#include "replication/server.h"
#include "replication/source.h"
#include "server/buildinfo.h"
#include "server/daemon.h"
#include "server/expire_event.h"
#include "server/handover.h"
#include "server/http.h"
#include "server/names.h"
#include "server/protocols.h"
#include "server/sasl.h"
#include "server/service.h"
#include "server/temporary.h"
#include "server/tls.h"
#include "server/tools/tool.h"
#include "store/store.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define STUCK_MS 30000                          /* threads that take no work for so long never will again */
#define MAKE_WAY_MS 15000                       /* for a temporary daemon to end */

/* ---- the server ------------------------------------------------------------------------------------------------------------ */

struct served { char *name; struct service *service; };

/* What is open; the daemon's main thread only. */
static struct {
        struct conf_live *live;
        struct store *store;
        bool engine, sasl;
        struct service *control;                /* cyrctl's socket */
        struct bound control_socket;
        ARRAY(struct served) services;
} server;

static int serve(void *context, const struct master_entry *e, const struct program *p, const struct service_args *args,
                 struct bound *b, struct err *err)
{
        struct service_params params = protocol_params(e->name, p, args, e->maxchild);
        struct served s = { NULL, NULL };

        (void)context;
        if (service_add(&params, &s.service, err) < 0)
                return -1;
        for (size_t i = 0; i < b->n; i++) {
                if (e->proto == MASTER_UDP || e->proto == MASTER_UDP4 || e->proto == MASTER_UDP6)
                        continue;               /* a service that is not built: the port is held, nobody is told */
                if (service_listen(s.service, b->v[i].fd, err) < 0) {
                        service_remove(&s.service);
                        return -1;
                }
                b->v[i].fd = -1;                /* the engine's now */
        }
        s.name = xstrdup(e->name);
        *ARRAY_PUSH(&server.services) = s;
        return 0;
}

static struct served *find_served(const char *name)
{
        for (size_t i = 0; i < server.services.n; i++)
                if (strcmp(server.services.v[i].name, name) == 0)
                        return &server.services.v[i];
        return NULL;
}

static int serve_otherwise(void *context, const struct master_entry *e, const struct program *p, const struct service_args *args,
                           struct err *err)
{
        struct service_params params = protocol_params(e->name, p, args, e->maxchild);
        struct served *s = find_served(e->name);

        (void)context;
        if (!s)
                return err_set(err, ERR_INTERNAL, "service %s is not served", e->name);
        service_update(s->service, &params);
        return 0;
}

static void serve_no_more(void *context, const char *name)
{
        struct served *s = find_served(name);

        (void)context;
        if (!s)
                return;
        service_remove(&s->service);
        free(s->name);
        *s = server.services.v[--server.services.n];
}

/* cyrctl's socket is a service that no cyrus.conf names. Only our own user, and root, may connect. */
static int open_control(struct conf *conf, int backlog, struct err *err)
{
        const char *path = conf_str(conf, NULL, "control_socket");
        struct master_entry e = { .section = MASTER_SERVICES, .name = "cyrctl", .listen = path, .proto = MASTER_UNIX };
        struct service_params params = { .name = "cyrctl", .ops = &control_ops, .preauthorized = true, .maxchild = -1 };

        if (bind_make_parent(path, err) < 0 || bind_entry(&e, (unsigned)-1, (unsigned)-1, &server.control_socket, err) < 0)
                return -1;
        if (chmod(path, 0600) < 0)
                return err_errno(err, errno, "%s", path);
        if (bound_listen(&server.control_socket, backlog, err) < 0 || service_add(&params, &server.control, err) < 0 ||
            service_listen(server.control, server.control_socket.v[0].fd, err) < 0)
                return -1;
        server.control_socket.v[0].fd = -1;
        return 0;
}

/* A temporary daemon that has the store goes when the real one asks; it takes its time to say goodbye. */
static int open_store(const struct store_options *options, bool temporary, struct err *err)
{
        uint64_t deadline = clock_mono_ms() + MAKE_WAY_MS;
        bool asked = !temporary && temporary_make_way(options->conf);

        while (store_open(options, &server.store, err) < 0) {
                if (!asked || err->code != ERR_BUSY || clock_mono_ms() > deadline)
                        return -1;
                poll(NULL, 0, 50);
                err_clear(err);
        }
        return 0;
}

static int open_server(struct conf_live *live, int backlog, bool temporary, struct err *err)
{
        struct conf *conf = conf_live_get(live);
        struct store_options store = { .conf = conf };
        struct engine_options engine = { .conf = live, .workers = (unsigned)conf_int(conf, NULL, "worker_threads"),
                                         .auth_threads = (unsigned)conf_int(conf, NULL, "password_threads"), .backlog = backlog,
                                         .temporary = temporary };
        int ret = -1;

        server.live = live;
        if (tls_init(err) < 0 || sasl_setup(live, err) < 0)
                goto out;
        server.sasl = true;
        if (open_store(&store, temporary, err) < 0 || source_open(live, server.store, err) < 0)
                goto out;
        engine.store = server.store;
        if (engine_start(&engine, err) < 0)
                goto out;
        server.engine = true;
        ret = open_control(conf, backlog, err);
out:
        conf_unref(&conf);
        return ret;
}

/* Last of all to listen: two sockets may be bound to one address, and it is not this one that shall have it. */
static void server_ready(void)
{
        struct conf *conf = conf_live_get(server.live);

        http_listen(conf);
        conf_unref(&conf);
}

static void reload_server(void)
{
        struct conf *conf = conf_live_get(server.live);

        store_reconfigure(server.store, conf);
        source_reload(conf);
        services_reload();
        http_listen(conf);
        conf_unref(&conf);
}

static bool server_gets_on(void)
{
        return engine_gets_on(STUCK_MS);
}

static unsigned count_sessions(void)
{
        struct engine_stats stats;

        engine_stats(&stats);
        return (unsigned)stats.sessions;
}

static void close_server(unsigned grace_ms)
{
        bool gone;

        http_close();
        if (server.control)
                service_remove(&server.control);
        source_stopping();
        gone = !server.engine || engine_stop(grace_ms);
        server.engine = false;
        bound_close(&server.control_socket);
        source_stop();
        /* A store that is still used is left as it is: what was acknowledged is on the disk, and the stop an unclean one. */
        if (server.store && gone)
                store_close(&server.store);
        source_close(gone);
        if (server.sasl && gone)
                sasl_teardown();
        server.sasl = false;
        ARRAY_FREE(&server.services);
}

/* ---- programs of Cyrus ------------------------------------------------------------------------------------------------------- */

/*
 * ctl_cyrusdb: the store recovers itself when it is opened: -r has nothing left to do. -c, as an event of cyrus.conf, makes a
 * checkpoint of the databases on a job thread; as a program of its own it does nothing, for the daemon makes one every half hour anyway.
 */
static int check_ctl_cyrusdb(int argc, char *const *argv, struct err *err)
{
        bool recover = false, checkpoint = false;

        for (int i = 1; i < argc; i++)
                if (strcmp(argv[i], "-r") == 0)
                        recover = true;
                else if (strcmp(argv[i], "-c") == 0)
                        checkpoint = true;
                else if (strcmp(argv[i], "-C") == 0 && i + 1 < argc)
                        i++;
                else if (strcmp(argv[i], "-x") != 0)
                        return err_set(err, ERR_CONFIG, "ctl_cyrusdb: unknown option \"%s\"", argv[i]);
        if (recover == checkpoint)
                return err_set(err, ERR_CONFIG, "usage: ctl_cyrusdb [-C imapd.conf] -r | -c");
        return 0;
}

static int ctl_cyrusdb_main(int argc, char **argv)
{
        struct err err = ERR_INIT;

        if (check_ctl_cyrusdb(argc, argv, &err) == 0)
                return 0;
        fprintf(stderr, "%s\n", err.text);
        return 1;
}

static void checkpoint_databases(void *arg)
{
        struct err err = ERR_INIT;
        char quoted[LOG_QUOTE_MAX];

        if (store_db_checkpoint(arg, &err) < 0)
                log_event(LOG_ERROR, NULL, "db.checkpoint", "reason=%s", log_quote_str(quoted, err.text));
}

static int run_job(const struct program *p, int argc, char *const *argv, struct err *err)
{
        if (strcmp(p->name, "ctl_cyrusdb") == 0) {
                if (check_ctl_cyrusdb(argc, argv, err) < 0)
                        return -1;
                for (int i = 1; i < argc && server.engine; i++)
                        if (strcmp(argv[i], "-c") == 0)
                                engine_call(OFFLOAD_DB, checkpoint_databases, server.store);
                return 0;
        }
        if (strcmp(p->name, "cyr_expire") == 0)
                return expire_event_begin(server.store, argc, argv, err);
        if (strcmp(p->name, "sync_client") == 0)
                return source_job(argc, argv, err);
        return p->needless ? 0 : 1;
}

static const struct daemon_ops daemon_ops = {
        .open = open_server,
        .ready = server_ready,
        .reload = reload_server,
        .close = close_server,
        .gets_on = server_gets_on,
        .sessions = count_sessions,
        .job = run_job,
        .services = { NULL, serve, serve_otherwise, serve_no_more },
};

/* What the binary is under a name of Cyrus. A tool that gets built is added here, and becomes `built` in names.c. */
static const struct { const char *name; int (*main)(int argc, char **argv); } programs[] = {
        { "arbitron", tool_arbitron_main },
        { "ctl_cyrusdb", ctl_cyrusdb_main },
        { "ctl_mboxlist", tool_ctl_mboxlist_main },
        { "cyr_buildinfo", buildinfo_main },
        { "cyr_deny", tool_cyr_deny_main },
        { "cyr_df", tool_cyr_df_main },
        { "cyr_expire", tool_cyr_expire_main },
        { "cyr_info", tool_cyr_info_main },
        { "cyr_synclog", cyr_synclog_main },
        { "cyr_userseen", tool_cyr_userseen_main },
        { "deliver", tool_deliver_main },
        { "ipurge", tool_ipurge_main },
        { "mbpath", tool_mbpath_main },
        { "quota", tool_quota_main },
        { "reconstruct", tool_reconstruct_main },
        { "sync_client", sync_client_main },
        { "sync_reset", sync_reset_main },
        { "unexpunge", tool_unexpunge_main },
};

static int run_program(const struct program *p, int argc, char **argv)
{
        if (p->needless)
                return 0;
        for (size_t i = 0; i < ARRAY_LEN(programs); i++)
                if (strcmp(programs[i].name, p->name) == 0)
                        return programs[i].main(argc, argv);
        if (p->kind == PROGRAM_SERVICE)
                return handover_main(p, argc, argv, &daemon_ops);
        fprintf(stderr, "%s: not built into this release of cyrd\n", p->name);
        return 1;
}

int main(int argc, char **argv)
{
        const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL, *name = argc > 0 ? (slash ? slash + 1 : argv[0]) : "cyrd";
        const struct program *p = program_find(name);

        client_op_register();
        sync_reset_register();
        sync_server_register();
        source_register();
        if (p)
                return run_program(p, argc, argv);
        return daemon_main(argc, argv, strcmp(name, "master") == 0, &daemon_ops);
}
