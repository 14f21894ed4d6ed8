/*
 * metrics - what the daemon counts, as text for Prometheus and as a page for people. Any thread.
 *
 * Counting is one relaxed addition to a counter with a cache line to itself. All that can be asked for when somebody asks – sessions,
 * queues, the store's counts – is no counter here.
 */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#include <stdint.h>

#include "server/service.h"
#include "store/duplicate.h"
#include "store/logstore.h"
#include "util/str.h"

enum metric {
        METRIC_LOGINS_IMAP, METRIC_LOGINS_POP3, METRIC_LOGINS_LMTP,
        METRIC_BADLOGINS_IMAP, METRIC_BADLOGINS_POP3, METRIC_BADLOGINS_LMTP,
        METRIC_DELIVERED,                       /* recipients told 250 */
        METRIC_DUPLICATES,                      /* recipients told 250 whose mailbox had the message already */
        METRIC_NOT_DELIVERED,                   /* recipients told 4xx or 5xx after DATA */
        METRIC_OCTETS_IN, METRIC_OCTETS_OUT,    /* of sessions that have ended */
        METRIC_TLS_DONE, METRIC_TLS_FAILED,     /* handshakes */
        METRICS
};
void metric_add(enum metric metric, uint64_t n);
uint64_t metric_get(enum metric metric);

/* Everything at once, as it is now. The engine is running. */
struct metrics_now {
        struct engine_stats engine;
        struct logstore_stats store;
        struct duplicate_stats duplicates;
        uint64_t octets_in, octets_out;         /* of sessions that have ended and of those that are open */
        uint64_t uptime_s, mailboxes, rss;      /* rss: octets */
        double cpu_s;
        unsigned partitions_readonly;
};
void metrics_look(struct metrics_now *now_r);

/* Metrics of layers above: `text` appends theirs when somebody asks; from any thread. main.c only, before threads start; once. */
void metrics_add(void (*text)(struct str *out));
/* … for them: "# HELP", "# TYPE"; a label (name="value"), escaped. */
void metrics_head(struct str *out, const char *name, const char *type, const char *help);
void metrics_label(struct str *out, const char *name, const char *value);

/* Prometheus text format 0.0.4, appended. The engine is running. */
void metrics_text(struct str *out);
/* A page in HTML, without users' names or addresses, appended. The engine is running. */
void metrics_page(struct str *out);

#endif
