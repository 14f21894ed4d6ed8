/* source - see source.h */
#include "replication/source.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "replication/failover.h"
#include "replication/role.h"
#include "replication/rolling.h"
#include "replication/sync_log.h"
#include "replication/sync_mode.h"
#include "server/ctl/client.h"
#include "server/metrics.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define VERIFY_SLICE 64                         /* shared mailboxes that are compared together */
#define SETTLE_S 20                             /* verify: so long it waits for what is on its way, before it looks again at what differs */
#define NOW_S 300                               /* now: so long it waits */

/* The daemon's, or that of a program that has the store open itself. */
static struct {
        struct conf_live *live;
        struct store *store;
        struct sync_log *log;
} source;

/* ---- words of sync_client ------------------------------------------------------------------------------------------------------- */

static int parse_number(const char *s, char flag, int64_t *n_r, struct err *err)
{
        uint64_t n;

        if (!span_u64(span_of(s), 1000000000, &n))
                return err_set(err, ERR_CONFIG, "sync_client: -%c: \"%s\" is not a number", flag, s);
        *n_r = (int64_t)n;
        return 0;
}

struct words {
        struct rolling_options o;
        bool rolling, foreground, other;        /* -r, -R; -R; something else is to be done */
        const char *file;
};

/* The strings are borrowed from argv. Not getopt(): inside the daemon others may be at it. */
static int parse_words(int argc, char *const *argv, struct words *w, struct err *err)
{
        static const char with_value[] = "CSfFnwtdp", switches[] = "vlLzoONa1rR", others[] = "Aums";
        int64_t n;

        *w = (struct words){ .o = { .store = source.store, .live = source.live, .log = source.log, .peer = &rolling_client, .interval_ms = -1 } };
        for (int i = 1; i < argc; i++) {
                const char *word = argv[i];

                if (word[0] != '-' || !word[1] || word[1] == '-') {
                        w->other = true;
                        return 0;
                }
                for (const char *c = word + 1; *c; c++) {
                        const char *value = NULL;

                        if (strchr(others, *c)) {
                                w->other = true;
                                return 0;
                        }
                        if (strchr(with_value, *c)) {
                                value = c[1] ? c + 1 : i + 1 < argc ? argv[++i] : NULL;
                                if (!value)
                                        return err_set(err, ERR_CONFIG, "sync_client: option -%c needs an argument", *c);
                        } else if (!strchr(switches, *c)) {
                                return err_set(err, ERR_CONFIG, "sync_client: unknown option -%c", *c);
                        }
                        switch (*c) {
                        case 'r': w->rolling = true; break;
                        case 'R': w->rolling = w->foreground = true; break;
                        case '1': w->o.once = true; break;
                        case 'n': w->o.client.channel = value; break;
                        case 'S': w->o.client.host = value; break;
                        case 'p': w->o.client.partition = value; break;
                        case 'F': w->o.shutdown_file = value; break;
                        case 'f': w->file = value; break;
                        case 'O': w->o.client.no_copyback = true; break;
                        case 'L': w->o.client.local_only = true; break;
                        case 'z': w->o.client.need_compress = true; break;
                        case 'N': w->o.client.no_wait = true; break;
                        case 'd':
                                if (parse_number(value, 'd', &n, err) < 0)
                                        return -1;
                                w->o.interval_ms = n * 1000;
                                break;
                        case 't':
                                if (parse_number(value, 't', &w->o.reconnect_s, err) < 0)
                                        return -1;
                                break;
                        default: break;         /* -v, -l: what is done is in the log; -w: a debugger; -o, -a: without a meaning */
                        }
                        if (value)
                                break;
                }
        }
        return 0;
}

int source_job(int argc, char *const *argv, struct err *err)
{
        struct words w;

        if (parse_words(argc, argv, &w, err) < 0)
                return -1;
        if (w.other || !w.rolling || w.o.once || w.file)
                return 1;
        /* HUP reads the same line again. */
        if (rolling_start(&w.o, err) < 0 && err->code != ERR_EXISTS)
                return -1;
        return 0;
}

/* ---- operations ------------------------------------------------------------------------------------------------------------- */

static const char *shown(const char *channel)
{
        return *channel ? channel : "default";
}

/* The channel that was asked for; NULL: all. */
static const char *asked_channel(struct ctl_call *call)
{
        const char *channel = ctl_arg(call, "channel");

        return channel && strcmp(channel, "default") == 0 ? "" : channel;
}

struct listing { struct ctl_call *call; const char *channel; unsigned n; const char *const *logged; bool seen[64]; };

/* "synchronous", "degraded", "asynchronous", and who waits. */
static void add_mode(json_t *row, const char *channel)
{
        struct sync_mode_status m;

        sync_mode_status(channel, &m);
        json_object_update_new(row, json_pack("{s:s, s:I, s:f, s:f, s:I, s:I, s:I, s:I}", "mode",
                                              !m.synchronous ? "asynchronous" : m.degraded ? "degraded" : "synchronous",
                                              "sync_waiting", (json_int_t)m.waiting, "sync_oldest_s", (double)m.oldest_ms / 1000,
                                              "degraded_s", (double)m.degraded_ms / 1000, "degradations", (json_int_t)m.degradations,
                                              "sync_replicated", (json_int_t)m.replicated, "sync_without", (json_int_t)m.without,
                                              "sync_refused", (json_int_t)m.refused));
}

static void status_row(void *ctx, const struct rolling_status *s)
{
        struct listing *l = ctx;
        char trouble[ERR_TEXT_MAX];
        json_t *row, *error;

        for (unsigned i = 0; l->logged[i] && i < ARRAY_LEN(l->seen); i++)
                l->seen[i] = l->seen[i] || strcmp(l->logged[i], s->channel) == 0;
        if (l->channel && strcmp(l->channel, s->channel) != 0)
                return;
        l->n++;
        row = json_pack("{s:s, s:s, s:s, s:b, s:f, s:I, s:I, s:I}", "channel", shown(s->channel), "state", rolling_state_name(s->state), "peer", s->peer,
                        "connected", s->connected, "lag_s", (double)s->lag_ms / 1000, "events", (json_int_t)s->events,
                        "quarantined", (json_int_t)s->quarantined, "put_off", (json_int_t)s->put_off);
        json_object_update_new(row, json_pack("{s:I, s:I, s:f, s:b, s:I, s:I}", "connected_s", (json_int_t)s->connected_s, "retry_s", (json_int_t)s->waiting_s,
                                              "silent_s", (double)s->silent_ms / 1000, "comparing", s->comparing, "compared", (json_int_t)s->compared,
                                              "compare_total", (json_int_t)s->compare_total));
        json_object_update_new(row, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "runs", (json_int_t)s->runs, "items", (json_int_t)s->items,
                                              "failures", (json_int_t)s->failures, "losses", (json_int_t)s->losses,
                                              "messages_sent", (json_int_t)s->messages_sent, "bytes_sent", (json_int_t)s->bytes_sent,
                                              "bytes_received", (json_int_t)s->bytes_received));
        add_mode(row, s->channel);
        error = json_string(source.log && sync_log_trouble(source.log, s->channel, trouble, sizeof trouble) ? trouble : s->error);
        json_object_set_new(row, "error", error ? error : json_string("see the log"));         /* a text cut within a character */
        l->call->row(l->call, row);
}

/* Channels that are logged and that nobody reads. */
static void unread_row(struct listing *l, const char *channel)
{
        uint64_t since, events = source.log ? sync_log_pending(source.log, channel, false, &since) : 0;
        json_t *row;
        double lag_s = events && since ? (double)(clock_mono_us() - since) / 1e6 : 0;

        if (l->channel && strcmp(l->channel, channel) != 0)
                return;
        l->n++;
        row = json_pack("{s:s, s:s, s:s, s:b, s:f, s:I, s:I, s:s}", "channel", shown(channel), "state", "not started", "peer", "", "connected", 0,
                        "lag_s", lag_s, "events", (json_int_t)events, "quarantined", (json_int_t)0, "error", "");
        add_mode(row, channel);
        l->call->row(l->call, row);
}

static int op_status(struct ctl_call *call, struct err *err)
{
        struct arena arena = ARENA_INIT;
        const char **logged = sync_log_channels(call->conf, &arena);
        struct listing l = { .call = call, .channel = asked_channel(call), .logged = logged };
        int rc = 0;

        rolling_each(status_row, &l);
        for (unsigned i = 0; logged[i] && i < ARRAY_LEN(l.seen); i++)
                if (!l.seen[i])
                        unread_row(&l, logged[i]);
        if (l.channel && !l.n)
                rc = err_set(err, ERR_NOTFOUND, "no channel %s", shown(l.channel));
        arena_deinit(&arena);
        return rc;
}

static void quarantine_row(void *ctx, const struct rolling_quarantined *q)
{
        struct ctl_call *call = ctx;

        call->row(call, json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:b}", "channel", shown(q->channel), "item", q->item, "reason", q->reason,
                                  "since", (json_int_t)q->since, "next", (json_int_t)q->next, "tries", (int)q->tries, "put_off", q->put_off));
}

static int op_quarantine(struct ctl_call *call, struct err *err)
{
        (void)err;
        rolling_each_quarantined(asked_channel(call), quarantine_row, call);
        return 0;
}

static int op_retry(struct ctl_call *call, struct err *err)
{
        const char *item = ctl_arg(call, "item");
        unsigned n = rolling_retry(asked_channel(call), item);

        if (item && !n)
                return err_set(err, ERR_NOTFOUND, "not in quarantine: %s", item);
        call->row(call, json_pack("{s:i}", "retried", (int)n));
        return 0;
}

/* How far the channels are that somebody waits for. */
struct outlook { const char *channel; uint64_t events, put_off; bool comparing, waiting, unsettled; char error[ERR_TEXT_MAX]; uint64_t compared, total; unsigned n, ended; };

static void look_at(void *ctx, const struct rolling_status *s)
{
        struct outlook *p = ctx;

        if (p->channel && strcmp(p->channel, s->channel) != 0)
                return;
        p->n++;
        p->ended += s->state == ROLLING_ENDED;
        p->events += s->events;
        p->comparing = p->comparing || s->comparing;
        p->put_off += s->put_off;
        /* What was left from before the start is not counted until it is read. */
        p->unsettled = p->unsettled || s->state == ROLLING_CONNECTING || s->state == ROLLING_BUSY;
        p->compared += s->compared;
        p->total += s->compare_total;
        if (s->state == ROLLING_WAITING || s->state == ROLLING_ENDED) {
                p->waiting = true;
                snprintf(p->error, sizeof p->error, "%s", s->state == ROLLING_ENDED ? "it has ended" : s->error);
        }
}

static bool is_settled(const struct outlook *p)
{
        return !p->events && !p->put_off && !p->comparing && !p->waiting && !p->unsettled;
}

static void sleep_ms(unsigned ms)
{
        usleep(ms * 1000);
}

/* Until everything logged so far is done, what was put off with it, and everything compared if it is being compared. Returns 0, -1 with err. */
static int wait_until_done(struct ctl_call *call, const char *channel, int64_t most_s, struct err *err)
{
        uint64_t deadline = clock_mono_ms() + (uint64_t)most_s * 1000, down_since = 0;

        for (;;) {
                struct outlook p = { .channel = channel };
                uint64_t now = clock_mono_ms();

                rolling_each(look_at, &p);
                if (is_settled(&p))
                        return 0;
                if (p.comparing) {
                        call->progress(call, p.compared, p.total, "mailboxes");
                        deadline = now + (uint64_t)most_s * 1000;
                }
                down_since = !p.waiting ? 0 : down_since ? down_since : now;
                if (down_since && now - down_since > 1500)
                        return err_set(err, ERR_UNAVAILABLE, "the replica cannot be reached: %s", p.error);
                if (now > deadline)
                        return err_set(err, ERR_TIMEOUT, "%" PRIu64 " changes are not done yet", p.events + p.put_off);
                if (call->cancelled(call))
                        return err_set(err, ERR_CANCELLED, "stopped");
                sleep_ms(20);
        }
}

/* What clients have begun is done, or will be seen in the log. */
#define DRAIN_S 60
#define DRAIN_BEGUN_MS 200

int source_drain(void *unused, struct err *err)
{
        uint64_t deadline = clock_mono_ms() + DRAIN_S * 1000;

        (void)unused;
        sleep_ms(DRAIN_BEGUN_MS);
        rolling_now(NULL);
        for (;;) {
                struct outlook p = { .channel = NULL };

                rolling_each(look_at, &p);
                if (is_settled(&p))
                        return 0;
                if (clock_mono_ms() > deadline)
                        return err_set(err, ERR_TIMEOUT, "%" PRIu64 " changes are not replicated yet", p.events + p.put_off);
                sleep_ms(20);
        }
}

static int op_now(struct ctl_call *call, struct err *err)
{
        const char *channel = asked_channel(call);
        unsigned n = ctl_arg_bool(call, "compare") ? rolling_compare(channel) : 0;

        n = rolling_now(channel);
        if (!n)
                return err_set(err, ERR_NOTFOUND, channel ? "channel %s is not replicated" : "no channel is replicated", channel ? shown(channel) : "");
        return wait_until_done(call, channel, NOW_S, err);
}

/* ---- verify ----------------------------------------------------------------------------------------------------------------- */

struct verify {
        struct ctl_call *call;
        struct client *client;
        ARRAY(char *) users, shared;            /* to be compared; then: those that differ */
        ARRAY(char *) bad_users, bad_shared;
        bool last;                              /* differences are told now */
        bool differs;                           /* the present one does */
        const char *user;
        uint64_t done, total, differences;
};

static bool verify_stopped(void *ctx)
{
        struct verify *v = ctx;

        return v->call->cancelled(v->call);
}

static void on_difference(void *ctx, const char *mailbox, const char *what)
{
        struct verify *v = ctx;

        if (!what)
                return;
        v->differs = true;
        if (!v->last) {
                if (!v->user)
                        *ARRAY_PUSH(&v->bad_shared) = xstrdup(mailbox);
                return;
        }
        v->differences++;
        v->call->row(v->call, json_pack("{s:s, s:s, s:s}", "user", v->user ? v->user : "", "mailbox", mailbox ? mailbox : "", "differs", what));
}

/* Every user once, every shared mailbox. */
static void list_all(struct verify *v, const char *wanted)
{
        const char *prefix = conf_str(v->call->conf, NULL, "deletedprefix");
        struct mboxlist *ml = store_mboxlist(v->call->store);
        struct table *known = table_create();
        const struct mbentry *entries[64];
        char after[MAILNAME_MAX + 64] = "";
        unsigned n;

        while ((n = mboxlist_next(ml, "", after, entries, ARRAY_LEN(entries))) > 0) {
                for (unsigned i = 0; i < n; i++) {
                        struct arena arena = ARENA_INIT;
                        const char *name = entries[i]->name;
                        const char *owner = mailname_is_deleted(name, prefix) ? NULL : mailname_owner(name, &arena);

                        if (owner && (!wanted || strcmp(wanted, owner) == 0) && !table_set(known, span_of(owner), v))
                                *ARRAY_PUSH(&v->users) = xstrdup(owner);
                        else if (!owner && !wanted && !mailname_is_deleted(name, prefix))
                                *ARRAY_PUSH(&v->shared) = xstrdup(name);
                        snprintf(after, sizeof after, "%s", name);
                        arena_deinit(&arena);
                        mbentry_unref(&entries[i]);
                }
        }
        v->total = v->users.n + v->shared.n;
        table_destroy(&known);
}

static int verify_failed(enum client_result result, struct err *err)
{
        if (result == CLIENT_OK || result == CLIENT_PUT_OFF)
                return 0;
        if (!err->code)
                err_set(err, result == CLIENT_STOPPED ? ERR_CANCELLED : ERR_UNAVAILABLE, "%s", client_result_name(result));
        return -1;
}

static int verify_all(struct verify *v, struct err *err)
{
        for (size_t i = 0; i < v->users.n; i++) {
                v->differs = false;
                v->user = v->users.v[i];
                if (verify_failed(client_verify_user(v->client, v->user, on_difference, v, err), err) < 0)
                        return -1;
                if (v->differs && !v->last)
                        *ARRAY_PUSH(&v->bad_users) = xstrdup(v->user);
                v->call->progress(v->call, ++v->done, v->total, "users and mailboxes");
        }
        v->user = NULL;
        for (size_t i = 0; i < v->shared.n; i += VERIFY_SLICE) {
                size_t n = v->shared.n - i < VERIFY_SLICE ? v->shared.n - i : VERIFY_SLICE;

                if (verify_failed(client_verify_mailboxes(v->client, (const char *const *)v->shared.v + i, n, on_difference, v, err), err) < 0)
                        return -1;
                v->call->progress(v->call, v->done += n, v->total, "users and mailboxes");
        }
        return 0;
}

static void free_names(char **names, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(names[i]);
        free(names);
}

/* Those that differed, once more, and now they are told. */
static void only_bad(struct verify *v)
{
        free_names(v->users.v, v->users.n);
        free_names(v->shared.v, v->shared.n);
        v->users.v = v->bad_users.v;
        v->users.n = v->bad_users.n;
        v->users.cap = v->bad_users.cap;
        v->shared.v = v->bad_shared.v;
        v->shared.n = v->bad_shared.n;
        v->shared.cap = v->bad_shared.cap;
        v->bad_users.v = v->bad_shared.v = NULL;
        v->bad_users.n = v->bad_shared.n = v->bad_users.cap = v->bad_shared.cap = 0;
        v->last = true;
        v->done = 0;
        v->total = v->users.n + v->shared.n;
}

static bool replicates(const char *channel)
{
        struct outlook p = { .channel = channel ? channel : "" };

        rolling_each(look_at, &p);
        return p.n > p.ended;
}

/* What differs at first may be on its way: it is looked at again when that has arrived. */
static int op_verify(struct ctl_call *call, struct err *err)
{
        const char *channel = asked_channel(call);
        struct verify v = { .call = call };
        struct client_options o = { .store = call->store, .conf = call->conf, .channel = channel && *channel ? channel : NULL, .host = ctl_arg(call, "host"),
                                    .stop = verify_stopped, .ctx = &v };
        struct err ignored = ERR_INIT;
        int rc;

        if (client_open(&o, &v.client, err) < 0)
                return -1;
        list_all(&v, ctl_arg(call, "user"));
        rc = verify_all(&v, err);
        if (rc == 0) {
                uint64_t compared = v.done;

                only_bad(&v);
                if (v.total && replicates(channel))
                        (void)wait_until_done(call, channel ? channel : "", SETTLE_S, &ignored);
                rc = v.total ? verify_all(&v, err) : 0;
                if (rc == 0 && v.differences)
                        rc = err_set(err, ERR_CORRUPT, "%" PRIu64 " differences", v.differences);
                else if (rc == 0)
                        call->row(call, json_pack("{s:I, s:s}", "compared", (json_int_t)compared, "result", "equal"));
        }
        client_close(&v.client);
        free_names(v.users.v, v.users.n);
        free_names(v.shared.v, v.shared.n);
        free_names(v.bad_users.v, v.bad_users.n);
        free_names(v.bad_shared.v, v.bad_shared.n);
        return rc;
}

/* ---- sync.roll: sync_client -r, -R ------------------------------------------------------------------------------------------- */

static bool call_stopped(void *ctx)
{
        struct ctl_call *call = ctx;

        return call->cancelled(call);
}

/* -R: as long as the one who asked is there. */
static int roll_in_foreground(struct ctl_call *call, const struct words *w, struct err *err)
{
        if (rolling_start(&w->o, err) < 0)
                return -1;
        while (!call->cancelled(call) && replicates(w->o.client.channel))
                sleep_ms(200);
        rolling_stop(w->o.client.channel ? w->o.client.channel : "");
        return 0;
}

/* The text of -f, as a file. */
static int lines_fd(const char *lines, struct err *err)
{
        int fd = memfd_create("sync-log", MFD_CLOEXEC);

        if (fd < 0)
                return err_errno(err, errno, "memfd_create");
        if (fs_write_all(fd, lines, strlen(lines), err) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

static int run_once(struct ctl_call *call, struct words *w, struct err *err)
{
        const char *lines = ctl_arg(call, "lines");
        int rc;

        w->o.once = true;
        if (w->file && !lines)
                return err_set(err, ERR_SYNTAX, "where are the lines of %s?", w->file);
        if (!lines && replicates(w->o.client.channel)) {                /* the one who does it all the time does it now */
                rolling_now(w->o.client.channel ? w->o.client.channel : "");
                return wait_until_done(call, w->o.client.channel ? w->o.client.channel : "", NOW_S, err);
        }
        if (lines && (w->o.fd = lines_fd(lines, err)) < 0)
                return -1;
        rc = rolling_run(&w->o, call_stopped, call, err);
        if (w->o.fd > 0)
                close(w->o.fd);
        return rc;
}

static int op_roll(struct ctl_call *call, struct err *err)
{
        const json_t *words = json_object_get(call->args, "argv");
        size_t n = json_array_size(words);
        const char **argv = xcalloc(n + 1, sizeof *argv);
        struct conf_live *own = NULL;
        struct words w;
        int rc = 0;

        for (size_t i = 0; i < n; i++)
                argv[i] = json_string_value(json_array_get(words, i)) ? json_string_value(json_array_get(words, i)) : "";
        rc = parse_words((int)n, (char *const *)(uintptr_t)argv, &w, err);
        if (rc == 0 && (w.other || !w.rolling))
                rc = err_set(err, ERR_SYNTAX, "neither -r nor -R");
        if (rc == 0 && !call->in_daemon && !w.o.once && !w.file)
                rc = err_set(err, ERR_UNAVAILABLE, "rolling replication is done by the daemon, which does not run (-1: what is in the log, once)");
        if (rc == 0 && !call->in_daemon)
                w.o.live = own = conf_live_create(conf_ref(call->conf));
        if (rc == 0)
                w.o.store = call->store;
        if (rc == 0)
                rc = w.o.once || w.file ? run_once(call, &w, err) : w.foreground ? roll_in_foreground(call, &w, err) : rolling_start(&w.o, err);
        if (own)
                conf_live_destroy(&own);
        free(argv);
        return rc;
}

static const struct ctl_op ops[] = {            /* sorted */
        { "sync.now", op_now, CTL_NEEDS_DAEMON | CTL_LONG },
        { "sync.quarantine", op_quarantine, CTL_NEEDS_DAEMON | CTL_READS },
        { "sync.retry", op_retry, CTL_NEEDS_DAEMON },
        { "sync.roll", op_roll, CTL_LONG },
        { "sync.status", op_status, CTL_NEEDS_DAEMON | CTL_READS },
        { "sync.verify", op_verify, CTL_NEEDS_DAEMON | CTL_READS | CTL_LONG },
};

const struct ctl_op *source_ops(size_t *n_r)
{
        *n_r = ARRAY_LEN(ops);
        return ops;
}

/* ---- metrics ---------------------------------------------------------------------------------------------------------------- */

struct metric_rows { struct str *out; const char *name; uint64_t (*value)(const struct rolling_status *s); };

static uint64_t of_events(const struct rolling_status *s) { return s->events; }
static uint64_t of_connected(const struct rolling_status *s) { return s->connected; }
static uint64_t of_quarantined(const struct rolling_status *s) { return s->quarantined; }
static uint64_t of_comparing(const struct rolling_status *s) { return s->comparing; }
static uint64_t of_items(const struct rolling_status *s) { return s->items; }
static uint64_t of_failures(const struct rolling_status *s) { return s->failures; }
static uint64_t of_losses(const struct rolling_status *s) { return s->losses; }
static uint64_t of_messages(const struct rolling_status *s) { return s->messages_sent; }
static uint64_t of_sent(const struct rolling_status *s) { return s->bytes_sent; }
static uint64_t of_received(const struct rolling_status *s) { return s->bytes_received; }

static void metric_row(void *ctx, const struct rolling_status *s)
{
        struct metric_rows *m = ctx;

        str_printf(m->out, "%s{", m->name);
        metrics_label(m->out, "channel", shown(s->channel));
        if (m->value)
                str_printf(m->out, "} %" PRIu64 "\n", m->value(s));
        else
                str_printf(m->out, "} %.3f\n", (double)s->lag_ms / 1000);
}

static void lag_rows(void *ctx, const struct rolling_status *s)
{
        struct metric_rows *m = ctx;
        uint64_t sum = 0;

        for (int i = 0; i < ROLLING_LAG_BUCKETS; i++) {
                sum += s->lag_counts[i];
                str_printf(m->out, "%s_bucket{", m->name);
                metrics_label(m->out, "channel", shown(s->channel));
                if (rolling_lag_bucket_ms[i])
                        str_printf(m->out, ",le=\"%g\"} %" PRIu64 "\n", rolling_lag_bucket_ms[i] / 1e3, sum);
                else
                        str_printf(m->out, ",le=\"+Inf\"} %" PRIu64 "\n", sum);
        }
        str_printf(m->out, "%s_sum{", m->name);
        metrics_label(m->out, "channel", shown(s->channel));
        str_printf(m->out, "} %.3f\n%s_count{", (double)s->lag_ms_total / 1e3, m->name);
        metrics_label(m->out, "channel", shown(s->channel));
        str_printf(m->out, "} %" PRIu64 "\n", sum);
}

/* Of synchronous channels, whether they run or not. */
struct mode_metric { const char *name, *type, *help; uint64_t (*value)(const struct sync_mode_status *m); };

static uint64_t of_degraded(const struct sync_mode_status *m) { return m->degraded; }
static uint64_t of_waiting(const struct sync_mode_status *m) { return m->waiting; }
static uint64_t of_degradations(const struct sync_mode_status *m) { return m->degradations; }
static uint64_t of_without(const struct sync_mode_status *m) { return m->without; }
static uint64_t of_refused(const struct sync_mode_status *m) { return m->refused; }

static void wait_rows(struct str *out, const char *channel, const struct sync_mode_status *m)
{
        static const char name[] = "cyrd_replication_wait_seconds";
        uint64_t sum = 0;

        for (int i = 0; i < SYNC_MODE_BUCKETS; i++) {
                sum += m->wait_counts[i];
                str_printf(out, "%s_bucket{", name);
                metrics_label(out, "channel", shown(channel));
                if (rolling_lag_bucket_ms[i])
                        str_printf(out, ",le=\"%g\"} %" PRIu64 "\n", rolling_lag_bucket_ms[i] / 1e3, sum);
                else
                        str_printf(out, ",le=\"+Inf\"} %" PRIu64 "\n", sum);
        }
        str_printf(out, "%s_sum{", name);
        metrics_label(out, "channel", shown(channel));
        str_printf(out, "} %.6f\n%s_count{", (double)m->wait_us_total / 1e6, name);
        metrics_label(out, "channel", shown(channel));
        str_printf(out, "} %" PRIu64 "\n", sum);
}

static void mode_metrics(struct str *out, struct conf *conf)
{
        static const struct mode_metric table[] = {
                { "cyrd_replication_degraded", "gauge", "1: clients are answered without the synchronous replica, which is gone or does not keep up.", of_degraded },
                { "cyrd_replication_waiting", "gauge", "Sessions that wait for the synchronous replica.", of_waiting },
                { "cyrd_replication_degradations_total", "counter", "How often a synchronous channel was degraded.", of_degradations },
                { "cyrd_replication_told_without_total", "counter", "Changes that clients were told of without the synchronous replica.", of_without },
                { "cyrd_replication_refused_total", "counter", "Changes that were answered with an error, because the synchronous replica has not got them.", of_refused },
        };
        struct arena arena = ARENA_INIT;
        const char **channels = sync_log_channels(conf, &arena);
        struct sync_mode_status m;

        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                metrics_head(out, table[i].name, table[i].type, table[i].help);
                for (size_t c = 0; channels[c]; c++) {
                        sync_mode_status(channels[c], &m);
                        if (!m.synchronous)
                                continue;
                        str_printf(out, "%s{", table[i].name);
                        metrics_label(out, "channel", shown(channels[c]));
                        str_printf(out, "} %" PRIu64 "\n", table[i].value(&m));
                }
        }
        metrics_head(out, "cyrd_replication_wait_seconds", "histogram", "How long answers to changes waited for the synchronous replica.");
        for (size_t c = 0; channels[c]; c++) {
                sync_mode_status(channels[c], &m);
                if (m.synchronous)
                        wait_rows(out, channels[c], &m);
        }
        arena_deinit(&arena);
}

static void metrics(struct str *out)
{
        static const struct { const char *name, *type, *help; uint64_t (*value)(const struct rolling_status *s); } table[] = {
                { "cyrd_replication_lag_seconds", "gauge", "Age of the oldest change that the replica has not.", NULL },
                { "cyrd_replication_pending", "gauge", "Changes that were logged and not yet replicated.", of_events },
                { "cyrd_replication_connected", "gauge", "1: the replica is connected.", of_connected },
                { "cyrd_replication_comparing", "gauge", "1: everything is being compared with the replica.", of_comparing },
                { "cyrd_replication_quarantined", "gauge", "Mailboxes and users whose replication fails, and that are left out until it works.", of_quarantined },
                { "cyrd_replication_items_total", "counter", "Users, groups of mailboxes and other things that were replicated.", of_items },
                { "cyrd_replication_failures_total", "counter", "What was put into quarantine, again included.", of_failures },
                { "cyrd_replication_losses_total", "counter", "Connections to the replica that broke.", of_losses },
                { "cyrd_replication_messages_sent_total", "counter", "Messages that were uploaded.", of_messages },
                { "cyrd_replication_sent_bytes_total", "counter", "Octets sent to the replica, before compression.", of_sent },
                { "cyrd_replication_received_bytes_total", "counter", "Octets received from the replica, before compression.", of_received },
        };
        struct metric_rows delay = { out, "cyrd_replication_delay_seconds", NULL };
        struct sync_log_stats log = { 0 };

        for (size_t i = 0; i < ARRAY_LEN(table); i++) {
                struct metric_rows m = { out, table[i].name, table[i].value };

                metrics_head(out, table[i].name, table[i].type, table[i].help);
                rolling_each(metric_row, &m);
        }
        metrics_head(out, delay.name, "histogram", "How old changes were when they had been replicated.");
        rolling_each(lag_rows, &delay);
        if (source.live) {
                struct conf *conf = conf_live_get(source.live);

                mode_metrics(out, conf);
                conf_unref(&conf);
        }
        if (source.log)
                sync_log_stats(source.log, &log);
        metrics_head(out, "cyrd_sync_log_lines_total", "counter", "Changes that concern the log for replicas.");
        str_printf(out, "cyrd_sync_log_lines_total %" PRIu64 "\n", log.lines);
        metrics_head(out, "cyrd_sync_log_queue_length", "gauge", "Of these, not yet written to it.");
        str_printf(out, "cyrd_sync_log_queue_length %" PRIu64 "\n", log.queued);
        metrics_head(out, "cyrd_sync_log_overflows_total", "counter", "How often there were too many of them, so that everything is compared.");
        str_printf(out, "cyrd_sync_log_overflows_total %" PRIu64 "\n", log.overflows);
        metrics_head(out, "cyrd_sync_log_failures_total", "counter", "How often the log could not be written.");
        str_printf(out, "cyrd_sync_log_failures_total %" PRIu64 "\n", log.failures);
}

/* ---- opening and closing ---------------------------------------------------------------------------------------------------------- */

static int open_log(struct store *store, struct conf *conf, bool threads, struct err *err)
{
        struct sync_log_options o = { .store = store, .conf = conf, .threads = threads, .written = rolling_written };

        if (sync_log_open(&o, &source.log, err) < 0)
                return err_prefix(err, "the log for replicas (sync_log)");
        source.store = store;
        return 0;
}

int source_open(struct conf_live *live, struct store *store, struct err *err)
{
        struct conf *conf = conf_live_get(live);
        int rc = open_log(store, conf, true, err);

        if (rc == 0)
                rc = sync_mode_open(source.log, conf, err);
        if (rc == 0)
                role_open(store, conf, true);
        source.live = live;
        conf_unref(&conf);
        return rc;
}

void source_reload(struct conf *conf)
{
        if (source.log)
                sync_log_reconfigure(source.log, conf);
        rolling_reconfigure();
        role_reconfigure(conf);
        if (source.live)
                sync_mode_reconfigure(conf);
}

static void role_changed(void)
{
        rolling_reconfigure();
        sync_mode_role_changed();
}

void source_stopping(void)
{
        sync_mode_stopping();
}

void source_stop(void)
{
        rolling_stop(NULL);
        sync_mode_close();
        role_close();
        if (source.log)
                sync_log_store_closing(source.log);
}

void source_close(bool store_closed)
{
        if (store_closed)
                sync_log_close(&source.log);
        source.log = NULL;
        source.store = NULL;
}

/* ---- programs that have opened the store themselves ------------------------------------------------------------------------------ */

static int program_opened(struct store *store, struct conf *conf, struct err *err)
{
        if (open_log(store, conf, false, err) < 0)
                return -1;
        role_open(store, conf, false);
        return 0;
}

static void program_closed(void)
{
        source_close(true);
}

void source_register(void)
{
        static const struct ctl_store_hooks hooks = { program_opened, source_stop, program_closed };

        sync_mode_register();
        role_tell(role_changed);
        failover_register();
        ctl_ops_add(ops, ARRAY_LEN(ops));
        metrics_add(metrics);
        ctl_client_set_hooks(&hooks);
}
