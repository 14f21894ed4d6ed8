/* ops_status - status, sessions, config: what the daemon is and does. */
#include <string.h>
#include <unistd.h>

#include "server/control/ops.h"
#include "server/metrics.h"
#include "server/service.h"
#include "server/version.h"
#include "store/logstore.h"
#include "store/mboxlist.h"
#include "util/clock.h"
#include "util/fs.h"

static void partition_row(void *ctx, const char *name, const char *dir, bool readonly, const char *why)
{
        struct ctl_call *call = ctx;

        call->row(call, json_pack("{s:s, s:s, s:s, s:b, s:s}", "kind", "partition", "name", name, "directory", dir, "readonly", readonly,
                                  "reason", why ? why : ""));
}

/* The room in the partitions of the configuration. */
int ctl_df(struct ctl_call *call, struct err *err)
{
        const char *name, *dir;
        struct fs_space s;
        size_t pos = 0;

        (void)err;
        while (conf_next(call->conf, "partition-", &pos, &name, &dir)) {
                struct err one = ERR_INIT;

                if (fs_space(dir, &s, &one) < 0)
                        call->row(call, json_pack("{s:s, s:s, s:s}", "partition", name + strlen("partition-"), "directory", dir, "error", one.text));
                else
                        call->row(call, json_pack("{s:s, s:I, s:I, s:I, s:i, s:s}", "partition", name + strlen("partition-"), "kib", (json_int_t)s.kib,
                                                  "used_kib", (json_int_t)s.used_kib, "available_kib", (json_int_t)s.available_kib, "percent",
                                                  (int)s.percent, "directory", dir));
        }
        return 0;
}

static void service_row(void *ctx, const char *name, const char *protocol, unsigned connections, uint64_t total)
{
        struct ctl_call *call = ctx;

        call->row(call, json_pack("{s:s, s:s, s:s, s:i, s:I}", "kind", "service", "name", name, "protocol", protocol, "connections",
                                  (int)connections, "connections_total", (json_int_t)total));
}

static void store_row(struct ctl_call *call)
{
        struct logstore_stats ls = { 0 };

        if (store_logstore(call->store))
                logstore_stats(store_logstore(call->store), &ls);
        call->row(call, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "kind", "store",
                                  "mailboxes", (json_int_t)mboxlist_count(store_mboxlist(call->store)),
                                  "epoch", (json_int_t)store_epoch(call->store),
                                  "open", (json_int_t)ls.open_mailboxes, "cold", (json_int_t)ls.cold_mailboxes,
                                  "commits", (json_int_t)ls.commits, "syncs", (json_int_t)ls.syncs,
                                  "checkpoints", (json_int_t)ls.checkpoints, "compactions", (json_int_t)ls.compactions));
}

int ctl_status(struct ctl_call *call, struct err *err)
{
        (void)err;
        if (call->in_daemon) {
                struct engine_stats st;
                json_t *row;

                engine_stats(&st);
                row = json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "kind", "daemon",
                                          "version", CYRD_VERSION, "pid", (int)getpid(),
                                          "sessions", (json_int_t)st.sessions, "parked", (json_int_t)st.parked,
                                          "queued", (json_int_t)st.queued, "workers", (json_int_t)st.workers,
                                          "workers_busy", (json_int_t)st.workers_busy,
                                          "accepted_total", (json_int_t)st.accepted_total,
                                          "refused_total", (json_int_t)st.refused_total);
                if (engine_temporary())
                        json_object_set_new(row, "temporary", json_true());
                call->row(call, row);
        } else {
                call->row(call, json_pack("{s:s, s:s, s:s}", "kind", "daemon", "version", CYRD_VERSION, "state", "stopped"));
        }
        store_row(call);
        store_each_partition(call->store, partition_row, call);
        if (call->in_daemon)
                engine_each_service(service_row, call);
        return 0;
}

static json_t *session_json(const struct session_info *s)
{
        int64_t age = clock_wall_s() - s->started;

        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I}", "session", s->name, "service", s->service, "protocol",
                         s->protocol, "peer", s->peer, "user", s->user, "mailbox", s->mailbox, "command", s->command, "tls", s->tls,
                         "age_s", (json_int_t)age, "idle_s", (json_int_t)s->idle_s, "bytes_in", (json_int_t)s->bytes_in, "bytes_out",
                         (json_int_t)s->bytes_out);
}

static void session_row(void *ctx, const struct session_info *s)
{
        struct ctl_call *call = ctx;

        call->row(call, session_json(s));
}

int ctl_sessions(struct ctl_call *call, struct err *err)
{
        (void)err;
        engine_each_session(session_row, call);
        return 0;
}

struct top { struct ctl_call *call; uint64_t quiet_max_ms; };

static void top_row(void *ctx, const struct session_info *s)
{
        struct top *top = ctx;
        json_t *row = s->quiet_ms <= top->quiet_max_ms ? session_json(s) : NULL;

        if (!row)                               /* quiet, or a name that is not UTF-8: somebody else's row is not lost for it */
                return;
        json_object_set_new(row, "kind", json_string("session"));
        top->call->row(top->call, row);
}

/* What cyrctl top makes its rates of: counters, and the sessions that did something lately ("quiet_max_ms"; without: all). */
int ctl_top(struct ctl_call *call, struct err *err)
{
        const json_t *quiet = json_object_get(call->args, "quiet_max_ms");
        struct top top = { call, json_is_integer(quiet) && json_integer_value(quiet) >= 0 ? (uint64_t)json_integer_value(quiet) : UINT64_MAX };
        struct metrics_now now;

        (void)err;
        metrics_look(&now);
        call->row(call, json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:o}", "kind", "daemon", "version", CYRD_VERSION,
                                  "time_ms", (json_int_t)clock_mono_ms(), "uptime_s", (json_int_t)now.uptime_s,
                                  "sessions", (json_int_t)now.engine.sessions, "parked", (json_int_t)now.engine.parked,
                                  "workers", (json_int_t)now.engine.workers, "workers_busy", (json_int_t)now.engine.workers_busy,
                                  "run_queue", (json_int_t)now.engine.run_queue, "mailboxes", (json_int_t)now.mailboxes, "rss", (json_int_t)now.rss,
                                  "cpu_s", now.cpu_s,
                                  "totals", json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
                                                      "accepted", (json_int_t)now.engine.accepted_total, "refused", (json_int_t)now.engine.refused_total,
                                                      "logins", (json_int_t)(metric_get(METRIC_LOGINS_IMAP) + metric_get(METRIC_LOGINS_POP3) +
                                                                             metric_get(METRIC_LOGINS_LMTP)),
                                                      "login_failures", (json_int_t)(metric_get(METRIC_BADLOGINS_IMAP) +
                                                                                     metric_get(METRIC_BADLOGINS_POP3) + metric_get(METRIC_BADLOGINS_LMTP)),
                                                      "delivered", (json_int_t)metric_get(METRIC_DELIVERED),
                                                      "added", (json_int_t)now.store.messages_added, "expunged", (json_int_t)now.store.messages_expunged,
                                                      "commits", (json_int_t)now.store.commits, "syncs", (json_int_t)now.store.syncs,
                                                      "bytes_in", (json_int_t)now.octets_in, "bytes_out", (json_int_t)now.octets_out)));
        engine_each_session(top_row, &top);
        return 0;
}

int ctl_metrics(struct ctl_call *call, struct err *err)
{
        struct str text = STR_INIT;

        (void)err;
        metrics_text(&text);
        call->row(call, json_pack("{s:s%}", "text", text.data, text.len));
        str_deinit(&text);
        return 0;
}

int ctl_sessions_kick(struct ctl_call *call, struct err *err)
{
        const char *name = ctl_arg(call, "session");

        if (!name)
                return err_set(err, ERR_SYNTAX, "which session?");
        if (!engine_kick(name))
                return err_set(err, ERR_NOTFOUND, "no session %s", name);
        return 0;
}

static const char *handled_name(enum conf_handled h)
{
        return h == CONF_HONOURED ? "honoured" : h == CONF_LATER ? "not built yet" : "ignored";
}

int ctl_config(struct ctl_call *call, struct err *err)
{
        const char *wanted = ctl_arg(call, "option");
        bool all = ctl_arg_bool(call, "all");
        size_t n, shown = 0;
        const struct conf_option *options = conf_options(&n);

        for (size_t i = 0; i < n; i++) {
                const struct conf_option *o = &options[i];
                bool set = conf_is_set(call->conf, NULL, o->name);
                const char *value = conf_raw(call->conf, NULL, o->name);

                if (wanted ? strcmp(wanted, o->name) != 0 : !all && !set)
                        continue;
                shown++;
                call->row(call, json_pack("{s:s, s:s, s:b, s:s, s:s}", "option", o->name, "value", value ? value : "", "set", set,
                                          "handled", handled_name(o->handled), "purpose", o->purpose ? o->purpose : ""));
        }
        if (wanted && !shown)
                return err_set(err, ERR_NOTFOUND, "no option %s", wanted);
        return 0;
}
