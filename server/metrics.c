/* metrics - see metrics.h */
#include "server/metrics.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "server/engine_private.h"
#include "server/version.h"
#include "store/duplicate.h"
#include "store/logstore.h"
#include "store/mboxlist.h"
#include "store/store.h"
#include "util/clock.h"

static struct { _Alignas(64) _Atomic uint64_t n; } counters[METRICS];
static void (*added)(struct str *out);          /* of layers above; set before threads start */

void metrics_add(void (*text)(struct str *out))
{
        added = text;
}

void metric_add(enum metric m, uint64_t n)
{
        atomic_fetch_add_explicit(&counters[m].n, n, memory_order_relaxed);
}

uint64_t metric_get(enum metric m)
{
        return atomic_load_explicit(&counters[m].n, memory_order_relaxed);
}

/* ---- what is asked for when somebody asks --------------------------------------------------------------------------------- */

static void count_live(void *ctx, struct session *s, enum slot_state state)
{
        struct metrics_now *now = ctx;

        (void)state;
        now->octets_in += stream_bytes_in(s->stream);
        now->octets_out += stream_bytes_out(s->stream);
}

static void count_readonly(void *ctx, const char *name, const char *dir, bool readonly, const char *why)
{
        (void)name;
        (void)dir;
        (void)why;
        ((struct metrics_now *)ctx)->partitions_readonly += readonly;
}

static uint64_t resident_octets(void)
{
        FILE *f = fopen("/proc/self/statm", "re");
        unsigned long size, resident = 0;

        if (f) {
                if (fscanf(f, "%lu %lu", &size, &resident) != 2)
                        resident = 0;
                fclose(f);
        }
        return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

void metrics_look(struct metrics_now *now)
{
        struct rusage usage;

        *now = (struct metrics_now){ .octets_in = metric_get(METRIC_OCTETS_IN), .octets_out = metric_get(METRIC_OCTETS_OUT) };
        engine_stats(&now->engine);
        sessions_each(count_live, now);
        now->uptime_s = (clock_mono_ms() - the_engine->started_ms) / 1000;
        if (engine_store()) {
                if (store_logstore(engine_store()))
                        logstore_stats(store_logstore(engine_store()), &now->store);
                duplicate_stats(engine_store(), &now->duplicates);
                now->mailboxes = mboxlist_count(store_mboxlist(engine_store()));
                store_each_partition(engine_store(), count_readonly, now);
        }
        now->rss = resident_octets();
        if (getrusage(RUSAGE_SELF, &usage) == 0)
                now->cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                             (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* ---- Prometheus ------------------------------------------------------------------------------------------------------------ */

void metrics_head(struct str *out, const char *name, const char *type, const char *help)
{
        str_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void one(struct str *out, const char *name, const char *type, const char *help, uint64_t value)
{
        metrics_head(out, name, type, help);
        str_printf(out, "%s %" PRIu64 "\n", name, value);
}

/* A label's value: backslash, quote and line end are escaped. */
void metrics_label(struct str *out, const char *name, const char *value)
{
        str_printf(out, "%s=\"", name);
        for (; *value; value++)
                if (*value == '\\' || *value == '"')
                        str_printf(out, "\\%c", *value);
                else if (*value == '\n')
                        str_append_str(out, "\\n");
                else
                        str_append_c(out, *value);
        str_append_c(out, '"');
}

struct row { struct str *out; const char *name; bool total; };

static void service_row(void *ctx, const char *name, const char *protocol, unsigned connections, uint64_t total)
{
        struct row *row = ctx;

        str_printf(row->out, "%s{", row->name);
        metrics_label(row->out, "service", name);
        str_append_c(row->out, ',');
        metrics_label(row->out, "protocol", protocol);
        str_printf(row->out, "} %" PRIu64 "\n", row->total ? total : (uint64_t)connections);
}

static void partition_row(void *ctx, const char *name, const char *dir, bool readonly, const char *why)
{
        struct row *row = ctx;

        (void)dir;
        (void)why;
        str_printf(row->out, "%s{", row->name);
        metrics_label(row->out, "partition", name);
        str_printf(row->out, "} %d\n", readonly);
}

static void by_protocol(struct str *out, const char *name, const char *help, enum metric imap, enum metric pop3, enum metric lmtp)
{
        metrics_head(out, name, "counter", help);
        str_printf(out, "%s{protocol=\"imap\"} %" PRIu64 "\n%s{protocol=\"pop3\"} %" PRIu64 "\n%s{protocol=\"lmtp\"} %" PRIu64 "\n", name,
                   metric_get(imap), name, metric_get(pop3), name, metric_get(lmtp));
}

static void engine_text(struct str *out, const struct metrics_now *now)
{
        struct row row = { out, NULL, false };

        metrics_head(out, "cyrd_sessions", "gauge", "Sessions, by what they do now.");
        str_printf(out, "cyrd_sessions{state=\"parked\"} %" PRIu64 "\ncyrd_sessions{state=\"queued\"} %" PRIu64
                   "\ncyrd_sessions{state=\"running\"} %" PRIu64 "\n", now->engine.parked, now->engine.queued, now->engine.running);
        metrics_head(out, row.name = "cyrd_connections", "gauge", "Connections of a service now.");
        engine_each_service(service_row, &row);
        row.total = true;
        metrics_head(out, row.name = "cyrd_connections_total", "counter", "Connections of a service so far.");
        engine_each_service(service_row, &row);
        one(out, "cyrd_connections_refused_total", "counter", "Connections turned away by a limit.", now->engine.refused_total);
        one(out, "cyrd_workers", "gauge", "Threads that run sessions.", now->engine.workers);
        one(out, "cyrd_workers_busy", "gauge", "Of these, running one now.", now->engine.workers_busy);
        one(out, "cyrd_dispatches_total", "counter", "How often a session was put on the run queue.", now->engine.wakes_total);
        metrics_head(out, "cyrd_queue_length", "gauge", "Who waits for a thread: sessions to be run, calls that may block.");
        str_printf(out, "cyrd_queue_length{queue=\"run\"} %" PRIu64 "\n", now->engine.run_queue);
        for (int q = 0; q < OFFLOAD_QUEUES; q++) {
                static const char *const names[OFFLOAD_QUEUES] = { "database", "password", "disk", "control", "callout", "callout-again",
                                                                     "replication" };

                str_printf(out, "cyrd_queue_length{queue=\"%s\"} %" PRIu64 "\n", names[q], offload_waiting((enum offload_queue)q));
        }
        by_protocol(out, "cyrd_logins_total", "Successful logins.", METRIC_LOGINS_IMAP, METRIC_LOGINS_POP3, METRIC_LOGINS_LMTP);
        by_protocol(out, "cyrd_login_failures_total", "Failed logins.", METRIC_BADLOGINS_IMAP, METRIC_BADLOGINS_POP3, METRIC_BADLOGINS_LMTP);
        one(out, "cyrd_tls_handshakes_total", "counter", "TLS handshakes that succeeded.", metric_get(METRIC_TLS_DONE));
        one(out, "cyrd_tls_handshake_failures_total", "counter", "TLS handshakes that failed.", metric_get(METRIC_TLS_FAILED));
        one(out, "cyrd_received_bytes_total", "counter", "Octets received from clients, as on the wire or inside TLS.", now->octets_in);
        one(out, "cyrd_sent_bytes_total", "counter", "Octets sent to clients, as on the wire or inside TLS.", now->octets_out);
}

static void store_text(struct str *out, const struct metrics_now *now)
{
        const struct logstore_stats *s = &now->store;
        struct row row = { out, "cyrd_partition_readonly", false };
        uint64_t sum = 0;

        one(out, "cyrd_messages_delivered_total", "counter", "Recipients of LMTP deliveries that were accepted.", metric_get(METRIC_DELIVERED));
        one(out, "cyrd_messages_not_delivered_total", "counter", "Recipients of LMTP deliveries that were refused after DATA.",
            metric_get(METRIC_NOT_DELIVERED));
        one(out, "cyrd_messages_suppressed_total", "counter", "Recipients of LMTP deliveries whose mailbox had the message already.",
            metric_get(METRIC_DUPLICATES));
        one(out, "cyrd_delivery_marks", "gauge", "Deliveries remembered for duplicatesuppression.", now->duplicates.marks);
        one(out, "cyrd_messages_appended_total", "counter", "Messages that came into a mailbox: delivered, appended, copied, moved.", s->messages_added);
        one(out, "cyrd_messages_expunged_total", "counter", "Messages expunged, moved away included.", s->messages_expunged);
        one(out, "cyrd_mailboxes", "gauge", "Mailboxes in the list.", now->mailboxes);
        one(out, "cyrd_mailboxes_open", "gauge", "Mailboxes that somebody has open.", s->open_mailboxes);
        one(out, "cyrd_mailboxes_cold", "gauge", "Mailboxes kept open though nobody has them open.", s->cold_mailboxes);
        one(out, "cyrd_commits_total", "counter", "Changes of mailboxes written.", s->commits);
        one(out, "cyrd_log_bytes_total", "counter", "Octets written to mailbox logs.", s->bytes_appended);
        one(out, "cyrd_syncs_total", "counter", "Syncs of mailbox logs, and of journals for several of them.", s->syncs);
        one(out, "cyrd_journal_syncs_total", "counter", "Syncs of partitions' journals.", s->journal_groups);
        one(out, "cyrd_journal_mailboxes_total", "counter", "Mailboxes that shared the syncs of journals.", s->journal_shared);
        metrics_head(out, "cyrd_sync_seconds", "histogram", "How long a sync of a mailbox's log takes.");
        for (int i = 0; i < LOGSTORE_SYNC_BUCKETS; i++) {
                sum += s->sync_buckets[i];
                if (logstore_sync_bucket_us[i])
                        str_printf(out, "cyrd_sync_seconds_bucket{le=\"%g\"} %" PRIu64 "\n", (double)logstore_sync_bucket_us[i] / 1e6, sum);
                else
                        str_printf(out, "cyrd_sync_seconds_bucket{le=\"+Inf\"} %" PRIu64 "\n", sum);
        }
        str_printf(out, "cyrd_sync_seconds_sum %.6f\ncyrd_sync_seconds_count %" PRIu64 "\n", (double)s->sync_us_total / 1e6, sum);
        one(out, "cyrd_checkpoints_total", "counter", "Checkpoints of mailbox indexes.", s->checkpoints);
        one(out, "cyrd_compactions_total", "counter", "Compactions of mailbox logs.", s->compactions);
        one(out, "cyrd_partitions_readonly", "gauge", "Partitions that take no changes after a failure.", now->partitions_readonly);
        metrics_head(out, row.name, "gauge", "1: the partition takes no changes after a failure.");
        if (engine_store())
                store_each_partition(engine_store(), partition_row, &row);
}

void metrics_text(struct str *out)
{
        struct metrics_now now;

        metrics_look(&now);
        metrics_head(out, "cyrd_build_info", "gauge", "What runs.");
        str_printf(out, "cyrd_build_info{version=\"%s\"} 1\n", CYRD_VERSION);
        one(out, "cyrd_uptime_seconds", "gauge", "Since the start.", now.uptime_s);
        engine_text(out, &now);
        store_text(out, &now);
        if (added)
                added(out);
        one(out, "process_resident_memory_bytes", "gauge", "Resident memory.", now.rss);
        metrics_head(out, "process_cpu_seconds_total", "counter", "Processor time, user and system.");
        str_printf(out, "process_cpu_seconds_total %.3f\n", now.cpu_s);
}

/* ---- the page --------------------------------------------------------------------------------------------------------------- */

static void html(struct str *out, const char *s)
{
        for (; *s; s++)
                if (*s == '<' || *s == '>' || *s == '&' || *s == '"')
                        str_printf(out, "&#%d;", *s);
                else
                        str_append_c(out, *s);
}

static void page_service(void *ctx, const char *name, const char *protocol, unsigned connections, uint64_t total)
{
        struct str *out = ctx;

        str_append_str(out, "<tr><td>");
        html(out, name);
        str_append_str(out, "<td>");
        html(out, protocol);
        str_printf(out, "<td>%u<td>%" PRIu64 "\n", connections, total);
}

static void page_partition(void *ctx, const char *name, const char *dir, bool readonly, const char *why)
{
        struct str *out = ctx;

        (void)dir;
        str_append_str(out, "<tr><td>");
        html(out, name);
        str_append_str(out, "<td>");
        if (readonly)
                str_append_str(out, "<b>takes no changes after a failure: see the log</b>");
        else
                html(out, why && *why ? why : "in order");
        str_append_str(out, "\n");
}

static void page_fact(struct str *out, const char *what, uint64_t value)
{
        str_printf(out, "<tr><td>%s<td>%" PRIu64 "\n", what, value);
}

void metrics_page(struct str *out)
{
        struct metrics_now now;

        metrics_look(&now);
        str_append_str(out, "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>cyrd</title>\n"
                       "<style>body{font-family:sans-serif}td,th{padding:0 1em 0 0;text-align:left}</style>\n<h1>cyrd " CYRD_VERSION "</h1>\n");
        str_printf(out, "<p>Up for %" PRIu64 " d %" PRIu64 " h %" PRIu64 " min. <a href=\"metrics\">Metrics</a>.\n<table>\n",
                   now.uptime_s / 86400, now.uptime_s / 3600 % 24, now.uptime_s / 60 % 60);
        page_fact(out, "Sessions", now.engine.sessions);
        page_fact(out, "of these at rest", now.engine.parked);
        page_fact(out, "Workers", now.engine.workers);
        page_fact(out, "of these busy", now.engine.workers_busy);
        page_fact(out, "Connections refused", now.engine.refused_total);
        page_fact(out, "Mailboxes", now.mailboxes);
        page_fact(out, "Messages that came in", now.store.messages_added);
        page_fact(out, "Messages expunged", now.store.messages_expunged);
        page_fact(out, "Commits", now.store.commits);
        page_fact(out, "Syncs", now.store.syncs);
        str_append_str(out, "</table>\n<h2>Services</h2>\n<table>\n<tr><th>Name<th>Protocol<th>Connections<th>so far\n");
        engine_each_service(page_service, out);
        str_append_str(out, "</table>\n<h2>Partitions</h2>\n<table>\n");
        if (engine_store())
                store_each_partition(engine_store(), page_partition, out);
        str_append_str(out, "</table>\n");
}
