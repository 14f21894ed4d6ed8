/* rolling - channels: their threads, connections, waiting, and what administrators see of them; see rolling.h */
#include "replication/rolling_private.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "replication/sync_mode.h"
#include "server/identity.h"
#include "store/mboxlist.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

#define HEARTBEAT_MS 5000                       /* without anything to do: NOOP */
#define ANSWER_MS 5000                          /* … which has to be answered within */
#define LOOK_MS 1000                            /* what others write to the log is found within; the shutdown file */
#define RECONNECT_S 600
#define UNUSED_MS 10000                         /* the second connection is closed after so long without work */
#define PATIENCE_MS 30000
#define OCTETS_A_MS 100                         /* patience for what was sent: 100 KB a second is slow */
#define SYNCHRONOUS_WAIT_S 5                    /* sync_mode: synchronous: so long at most until the next try to connect */
#define FRUITLESS_MAX 5                         /* connections lost without anything done: then it waits before the next one */

const uint32_t rolling_lag_bucket_ms[ROLLING_LAG_BUCKETS] = { 5, 10, 25, 50, 100, 250, 1000, 5000, 60000, 0 };

/* All channels. The list is taken before a channel's lock, and held only for as long as it is gone through. */
static struct { struct mutex lock; struct rolling *first; } channels = { .lock = MUTEX_INIT };

static void list_lock(void) ACQUIRE(channels.lock, services_class);
static void list_unlock(void) RELEASE(channels.lock, services_class);
static void list_lock(void) NO_TSA
{
        mutex_lock(&channels.lock);
}
static void list_unlock(void) NO_TSA
{
        mutex_unlock(&channels.lock);
}

void rolling_lock(struct rolling *r) NO_TSA
{
        mutex_lock(&r->lock);
}

void rolling_unlock(struct rolling *r) NO_TSA
{
        mutex_unlock(&r->lock);
}

const char *rolling_state_name(enum rolling_state state)
{
        static const char *const names[] = { "connecting", "idle", "busy", "comparing", "waiting", "ended" };

        return names[state];
}

static const char *name_of(const struct rolling *r)
{
        return r->channel[0] ? r->channel : "-";
}

bool rolling_stopping(struct rolling *r)
{
        bool stop;

        rolling_lock(r);
        if (r->outer_stop && r->outer_stop(r->outer_ctx))
                r->stop = true;
        stop = r->stop;
        rolling_unlock(r);
        return stop;
}

void rolling_set_error(struct rolling *r, const char *text, bool of_item)
{
        rolling_lock(r);
        snprintf(r->error, sizeof r->error, "%s", text);
        r->of_item = of_item;
        rolling_unlock(r);
}

/* ---- the connection ---- */

static bool stop_probe(void *ctx)
{
        const uint64_t *deadline = ctx;

        return clock_mono_ms() >= *deadline;
}

/* Does the replica answer somebody else? A connection of its own, for a moment. */
static bool answers_others(struct lane *l)
{
        struct rolling *r = l->r;
        uint64_t deadline = clock_mono_ms() + ANSWER_MS;
        struct client_options o = r->options.client;
        struct conf *conf = conf_live_get(r->options.live);
        struct client *c = NULL;
        struct err err = ERR_INIT;
        bool yes;

        o.store = r->options.store;
        o.conf = conf;
        o.channel = r->channel[0] ? r->channel : NULL;
        o.stop = stop_probe;
        o.action = NULL;
        o.traffic = NULL;
        o.ctx = &deadline;
        yes = r->options.peer->open(&o, &c, &err) == 0 && r->options.peer->noop(c, &err) == CLIENT_OK;
        if (c)
                r->options.peer->close(&c);
        conf_unref(&conf);
        return yes;
}

/* It has been silent for too long, for what it was sent; it is asked whether that is its, or the item's fault. */
static bool is_stalled(struct lane *l, uint64_t asked_ms, uint64_t sent)
{
        uint64_t patience = l->patience_ms + (sent - l->item_sent) / OCTETS_A_MS, now = clock_mono_ms();

        if (!l->patience_ms || !asked_ms || now < asked_ms + patience)
                return false;
        l->stalled = answers_others(l);
        if (!l->stalled)
                l->patience_ms *= 2;            /* and asked again then */
        return l->stalled;
}

/* Called by the client four times a second while it waits: also the time to look what has come. */
static bool asked_to_stop(void *ctx)
{
        struct lane *l = ctx;
        struct rolling *r = l->r;
        struct client_traffic t = { 0 };
        uint64_t asked;

        if (l->client)
                r->options.peer->traffic(l->client, &t);
        rolling_lock(r);
        if (t.wire_received != l->heard_octets && l->asked_ms)
                l->asked_ms = clock_mono_ms();
        l->heard_octets = t.wire_received;
        l->present = t;
        asked = l->asked_ms;
        rolling_unlock(r);
        return rolling_stopping(r) || (l->deadline_ms && clock_mono_ms() >= l->deadline_ms) || is_stalled(l, asked, t.sent);
}

static void add_traffic(struct client_traffic *to, const struct client_traffic *t)
{
        to->sent += t->sent;
        to->received += t->received;
        to->wire_sent += t->wire_sent;
        to->wire_received += t->wire_received;
        to->messages_sent += t->messages_sent;
}

void rolling_disconnect(struct lane *l, const char *why)
{
        struct rolling *r = l->r;
        char quoted[LOG_QUOTE_MAX];
        struct client_traffic t;

        if (!l->client)
                return;
        r->options.peer->traffic(l->client, &t);
        l->patience_ms = 0;
        l->deadline_ms = clock_mono_ms() + ANSWER_MS;
        r->options.peer->close(&l->client);
        l->deadline_ms = 0;
        rolling_lock(r);
        add_traffic(&l->past, &t);
        l->present = (struct client_traffic){ 0 };
        l->heard_octets = 0;
        l->asked_ms = 0;
        if (!l->second)
                r->status.connected = false;
        if (why) {
                r->status.losses++;
                l->fruitless++;
                snprintf(r->error, sizeof r->error, "%s", why);
        }
        rolling_unlock(r);
        if (why)
                log_event(LOG_WARN, NULL, "rolling.lost", "channel=%s reason=%s", name_of(r), log_quote_str(quoted, why));
}

static const char *host_of(struct rolling *r, struct conf *conf)
{
        const char *host = r->options.client.host;

        return host ? host : conf_str(conf, r->channel[0] ? r->channel : NULL, "sync_host");
}

/* The client has one context for all that it calls: ours. */
static void tell_action(void *ctx, const char *line)
{
        struct lane *l = ctx;

        l->r->options.client.action(l->r->options.client.ctx, line);
}

static void tell_traffic(void *ctx, bool sent, const void *p, size_t len)
{
        struct lane *l = ctx;

        l->r->options.client.traffic(l->r->options.client.ctx, sent, p, len);
}

static int try_connect(struct lane *l, struct err *err)
{
        struct rolling *r = l->r;
        struct client_options o = r->options.client;
        struct conf *conf = conf_live_get(r->options.live);
        int rc;

        o.store = r->options.store;
        o.conf = conf;
        o.channel = r->channel[0] ? r->channel : NULL;
        o.no_wait = true;                       /* whoever is at a user already, of us or others, is not waited for: he is put off */
        o.stop = asked_to_stop;
        o.action = o.action ? tell_action : NULL;
        o.traffic = o.traffic ? tell_traffic : NULL;
        o.ctx = l;
        if (!l->second) {
                rolling_lock(r);
                o.mode = r->compare.on ? CLIENT_MODE_COMPARING : CLIENT_MODE_WHOLE;
                r->status.state = ROLLING_CONNECTING;
                snprintf(r->peer, sizeof r->peer, "%s", host_of(r, conf) ? host_of(r, conf) : "");
                rolling_unlock(r);
        }
        rc = r->options.peer->open(&o, &l->client, err);
        conf_unref(&conf);
        if (rc < 0)
                return -1;
        rolling_lock(r);
        l->connected_ms = clock_mono_ms();
        if (!l->second) {
                snprintf(r->peer, sizeof r->peer, "%s", r->options.peer->name(l->client));
                r->status.connected = true;
                r->status.state = ROLLING_BUSY;
                r->error[0] = '\0';
        }
        rolling_unlock(r);
        if (!l->second)
                log_event(LOG_NOTE, NULL, "rolling.connected", "channel=%s peer=\"%s\"", name_of(r), r->options.peer->name(l->client));
        return 0;
}

/* 1, 2, 4 … seconds, at most sync_reconnect_maxwait, if that is set. */
static uint64_t backoff_ms(struct rolling *r, unsigned failures)
{
        struct conf *conf = conf_live_get(r->options.live);
        int64_t most = conf_duration_s(conf, r->channel[0] ? r->channel : NULL, "sync_reconnect_maxwait"), s = 1;

        conf_unref(&conf);
        while (failures-- > 1 && s < 1 << 20)
                s *= 2;
        if (most > 0 && s > most)
                s = most;
        if (s > SYNCHRONOUS_WAIT_S && sync_mode_is_synchronous(r->channel))
                s = SYNCHRONOUS_WAIT_S;
        return (uint64_t)s * 1000;
}

/* Wait for so long, or until somebody is in a hurry. False: it is to stop. */
static bool wait_before(struct lane *l, uint64_t ms)
{
        struct rolling *r = l->r;
        uint64_t deadline = clock_mono_ms() + ms;
        bool *hurry = l->second ? &r->hurry_second : &r->hurry;

        rolling_lock(r);
        if (!l->second) {
                r->status.state = ROLLING_WAITING;
                r->retry_ms = deadline;
        }
        while (!r->stop && !*hurry && clock_mono_ms() < deadline) {
                uint64_t slice = clock_mono_ms() + LOOK_MS;

                cond_wait_until(l->second ? &r->wake_second : &r->wake, &r->lock, slice < deadline ? slice : deadline);
                if (r->outer_stop && r->outer_stop(r->outer_ctx))
                        r->stop = true;
        }
        *hurry = false;
        rolling_unlock(r);
        return !rolling_stopping(r);
}

static bool is_shut_down(struct rolling *r);

bool rolling_connect(struct lane *l)
{
        struct rolling *r = l->r;
        char quoted[LOG_QUOTE_MAX];
        struct err err = ERR_INIT;
        unsigned fruitless;

        if (l->client)
                return !rolling_stopping(r);
        rolling_lock(r);
        fruitless = l->fruitless;
        rolling_unlock(r);
        if (fruitless >= FRUITLESS_MAX && !wait_before(l, backoff_ms(r, fruitless - FRUITLESS_MAX + 1)))
                return false;
        while (!rolling_stopping(r) && (l->second || !is_shut_down(r))) {
                err_clear(&err);
                if (try_connect(l, &err) == 0) {
                        l->connect_failures = 0;
                        return true;
                }
                if (rolling_stopping(r))
                        return false;
                if (l->connect_failures++ == 0 || l->connect_failures % 16 == 0)
                        log_event(LOG_WARN, NULL, "rolling.connect", "channel=%s reason=%s", name_of(r), log_quote_str(quoted, err.text));
                rolling_set_error(r, err.text, false);
                if (r->options.once && err.code == ERR_CONFIG)
                        return false;
                if (!wait_before(l, backoff_ms(r, l->connect_failures)))
                        return false;
        }
        return false;
}

bool rolling_ping(struct lane *l)
{
        struct rolling *r = l->r;
        struct err err = ERR_INIT;
        enum client_result result;

        l->deadline_ms = clock_mono_ms() + ANSWER_MS;
        rolling_lock(r);
        l->asked_ms = clock_mono_ms();
        rolling_unlock(r);
        result = r->options.peer->noop(l->client, &err);
        l->deadline_ms = 0;
        rolling_lock(r);
        l->asked_ms = 0;
        rolling_unlock(r);
        if (result == CLIENT_OK || result == CLIENT_FAILED)
                return true;
        rolling_disconnect(l, result == CLIENT_STOPPED ? "the replica does not answer" : err.text);
        return false;
}

/* ---- the thread ---- */

static bool is_shut_down(struct rolling *r)
{
        struct conf *conf = conf_live_get(r->options.live);
        const char *file = r->options.shutdown_file;
        bool yes;

        if (!file)
                file = conf_str(conf, r->channel[0] ? r->channel : NULL, "sync_shutdown_file");
        yes = file && *file && unlink(file) == 0;
        conf_unref(&conf);
        if (yes) {
                log_event(LOG_NOTE, NULL, "rolling.shutdown", "channel=%s", name_of(r));
                rolling_lock(r);
                r->stop = true;
                rolling_unlock(r);
        }
        return yes;
}

static void read_line(void *ctx, const struct sync_line *line)
{
        work_add_line(ctx, line);
}

static void read_bad(void *ctx, struct span text)
{
        struct work *w = ctx;
        char quoted[LOG_QUOTE_MAX];

        w->bad++;
        log_event(LOG_WARN, NULL, "rolling.line", "line=%s consequence=\"passed over\"", log_quote(quoted, text.p, text.len));
}

static void want_comparing(struct rolling *r) EXCLUDES(rolling_class)
{
        rolling_lock(r);
        r->compare_again = true;
        r->compare.on = true;
        r->quarantine.dirty = true;             /* on the disk before the line is not */
        free(r->compare.after);
        r->compare.after = xstrdup("");
        r->compare.done = 0;
        cond_signal(&r->wake_second);
        rolling_unlock(r);
}

static void finish_reading(struct rolling *r, struct work *w)
{
        work_reduce(w);
        if (w->resync)
                want_comparing(r);
}

static bool run_file(struct rolling *r, int fd)
{
        struct err err = ERR_INIT;
        struct work w;
        bool ok;

        work_init(&w, conf_str(store_conf(r->options.store), NULL, "deletedprefix"));
        if (sync_log_read(fd, read_line, read_bad, &w, &err) < 0) {
                rolling_set_error(r, err.text, false);
                work_deinit(&w);
                return false;
        }
        finish_reading(r, &w);
        rolling_lock(r);
        r->status.state = ROLLING_BUSY;
        r->busy_since_us = r->lanes[0].run_since_us;
        r->busy_events = r->busy_events > w.lines ? r->busy_events : w.lines;
        rolling_unlock(r);
        ok = rolling_do(&r->lanes[0], &w, UINT_MAX) && rolling_save(r);
        work_deinit(&w);
        rolling_lock(r);
        if (ok) {
                r->busy_since_us = r->busy_events = 0;
                r->status.runs++;
        }
        rolling_unlock(r);
        return ok;
}

/* ---- what a synchronous channel's sessions wait for: sync_mode.h ---- */

static bool is_left(struct rolling *r)
{
        struct str path = STR_INIT;
        bool there;

        sync_log_path(r->configdir, r->channel, "log-run", &path);
        there = access(path.data, F_OK) == 0;
        str_deinit(&path);
        return there;
}

/* A pass that begins: what is in the log by now. False: a file is left from before, so it will not be reached. */
static bool begin_pass(struct rolling *r, struct sync_log_mark *mark_r, uint64_t *begun_ms_r)
{
        *mark_r = (struct sync_log_mark){ 0 };
        *begun_ms_r = clock_mono_ms();
        if (!r->options.log || !sync_mode_is_synchronous(r->channel) || is_left(r))
                return false;
        sync_log_mark(r->options.log, r->channel, mark_r);
        return true;
}

/* The replica has everything up to there, but for the quarantine. */
void rolling_tell_passed(struct rolling *r, uint64_t upto, uint64_t took_ms)
{
        ARRAY(struct sync_mode_aside) aside = ARRAY_INIT;

        if (!sync_mode_is_synchronous(r->channel))
                return;
        mutex_lock(&r->telling);
        rolling_lock(r);
        for (size_t i = 0; i < r->quarantine.list.n; i++)
                *ARRAY_PUSH(&aside) = (struct sync_mode_aside){ xstrdup(r->quarantine.list.v[i]->text), r->quarantine.list.v[i]->put_off,
                                                                r->quarantine.list.v[i]->closely };
        rolling_unlock(r);
        sync_mode_passed(r->channel, upto, took_ms, aside.v, aside.n);
        mutex_unlock(&r->telling);
        for (size_t i = 0; i < aside.n; i++)
                free((char *)(uintptr_t)aside.v[i].item);
        ARRAY_FREE(&aside);
}

static void end_pass(struct rolling *r, const struct sync_log_mark *mark, uint64_t begun_ms) EXCLUDES(rolling_class)
{
        bool gap, comparing;

        rolling_lock(r);
        gap = mark->gap > r->gap_done;          /* some of it only comparing finds */
        comparing = r->compare.on;
        if (gap)
                r->gap_seen = mark->gap;
        rolling_unlock(r);
        if (!gap)
                rolling_tell_passed(r, mark->written, clock_mono_ms() - begun_ms);
        else if (!comparing)
                want_comparing(r);
}

/* 1: something was done, 0: there was nothing, -1: it stays, and is done again. */
static int run_log(struct rolling *r)
{
        struct sync_log_mark mark;
        uint64_t begun_ms;
        bool whole = begin_pass(r, &mark, &begun_ms);
        char quoted[LOG_QUOTE_MAX];
        struct err err = ERR_INIT;
        uint64_t since = 0, events = 0;
        int fd = -1, rc;

        if (r->options.log)
                events = sync_log_pending(r->options.log, r->channel, true, &since);
        rc = sync_log_take(r->configdir, r->channel, &fd, &err);
        if (rc <= 0) {
                if (rc < 0) {
                        log_event(LOG_ERROR, NULL, "rolling.log", "channel=%s reason=%s", name_of(r), log_quote_str(quoted, err.text));
                        rolling_set_error(r, err.text, false);
                } else if (whole) {
                        end_pass(r, &mark, begun_ms);
                }
                return rc;
        }
        rolling_lock(r);
        /* What a former run has left is older than what has been logged since. */
        r->lanes[0].run_since_us = r->busy_since_us ? r->busy_since_us : since;
        r->busy_events += events;
        rolling_unlock(r);
        rc = run_file(r, fd) ? 1 : -1;
        close(fd);
        if (rc == 1 && sync_log_done(r->configdir, r->channel, &err) < 0) {
                rolling_set_error(r, err.text, false);
                return -1;
        }
        if (rc == 1 && whole)
                end_pass(r, &mark, begun_ms);
        if (rc == 1 && !whole) {                /* what has been logged since: now */
                rolling_lock(r);
                r->woken = true;
                rolling_unlock(r);
        }
        return rc;
}

static uint64_t interval_ms(struct rolling *r)
{
        struct conf *conf;
        int64_t s;

        if (sync_mode_is_synchronous(r->channel))       /* somebody waits */
                return 0;
        if (r->options.interval_ms >= 0)
                return (uint64_t)r->options.interval_ms;
        conf = conf_live_get(r->options.live);
        /* Not the default: waiting a second makes nothing better where one is woken by what happens. */
        s = conf_is_set(conf, r->channel[0] ? r->channel : NULL, "sync_repeat_interval") ?
            conf_duration_s(conf, r->channel[0] ? r->channel : NULL, "sync_repeat_interval") : 0;
        conf_unref(&conf);
        return s > 0 ? (uint64_t)s * 1000 : 0;
}

static bool has_log(struct rolling *r)
{
        struct str path = STR_INIT;
        uint64_t since;
        bool there;

        /* Something was logged, and perhaps somebody else has taken it. */
        if (r->options.log && sync_log_pending(r->options.log, r->channel, false, &since))
                return true;

        sync_log_path(r->configdir, r->channel, "log-run", &path);
        there = access(path.data, F_OK) == 0;
        str_clear(&path);
        sync_log_path(r->configdir, r->channel, "log", &path);
        there = there || access(path.data, F_OK) == 0;
        str_deinit(&path);
        return there;
}

static bool is_comparing(struct rolling *r) EXCLUDES(rolling_class)
{
        bool on;

        rolling_lock(r);
        on = r->compare.on;
        rolling_unlock(r);
        return on;
}

/* Until the log is written or something else is due. `until` (monotonic ms): not before, unless somebody is in a hurry. */
static void rest(struct rolling *r, uint64_t not_before, uint64_t at_latest)
{
        rolling_lock(r);
        if (!r->woken && !r->stop && !r->hurry && r->status.state == ROLLING_BUSY)
                r->status.state = ROLLING_IDLE;
        while (!r->stop && !r->hurry) {
                uint64_t now = clock_mono_ms(), until = r->woken ? not_before : at_latest;

                if (now >= until)
                        break;
                cond_wait_until(&r->wake, &r->lock, until);
        }
        r->hurry = false;
        rolling_unlock(r);
}

/* A connection is not kept for ever. */
static void renew(struct rolling *r)
{
        int64_t most = r->options.reconnect_s > 0 ? r->options.reconnect_s : RECONNECT_S;
        struct lane *l = &r->lanes[0];
        bool again;

        rolling_lock(r);
        again = r->reconfigured || clock_mono_ms() - l->connected_ms > (uint64_t)most * 1000;
        r->reconfigured = false;
        rolling_unlock(r);
        if (l->client && again)
                rolling_disconnect(l, NULL);
}

static bool take_woken(struct rolling *r) EXCLUDES(rolling_class)
{
        bool was;

        rolling_lock(r);
        was = r->woken;
        r->woken = false;
        rolling_unlock(r);
        return was;
}

static void roll(struct rolling *r)
{
        struct lane *l = &r->lanes[0];
        uint64_t begun_ms = 0, heard_ms = 0;

        while (!rolling_stopping(r) && !is_shut_down(r)) {
                uint64_t now;

                renew(r);
                if (!rolling_connect(l))
                        break;
                begun_ms = clock_mono_ms();
                if (take_woken(r) || has_log(r) || sync_mode_is_synchronous(r->channel)) {
                        int rc = run_log(r);

                        if (rc < 0 && !rolling_stopping(r))
                                wait_before(l, LOOK_MS);
                        if (rc != 0)
                                heard_ms = clock_mono_ms();
                }
                if (rolling_stopping(r))
                        break;
                now = clock_mono_ms();
                if (l->client && now - heard_ms >= HEARTBEAT_MS) {
                        (void)rolling_ping(l);
                        heard_ms = now;
                }
                rest(r, begun_ms + interval_ms(r), now + LOOK_MS);
        }
}

/* The second thread's: what is due of the quarantine, comparing. Its connection is there when it is needed. */
static void *tend(void *arg)
{
        struct rolling *r = arg;
        struct lane *l = &r->lanes[1];
        uint64_t used_ms = clock_mono_ms();
        int64_t next_s;

        while (!rolling_stopping(r)) {
                bool busy = is_comparing(r);

                if (!rolling_retry_due(l, &next_s) || (busy && !rolling_compare_step(l)))
                        break;
                rolling_tell_passed(r, 0, UINT64_MAX);          /* what is in quarantine by now */
                if (busy)
                        continue;
                if (next_s <= clock_wall_s())
                        used_ms = clock_mono_ms();
                else if (l->client && clock_mono_ms() - used_ms > UNUSED_MS)
                        rolling_disconnect(l, NULL);
                rolling_lock(r);
                if (!r->stop && !r->hurry_second && !r->compare.on)
                        cond_wait_until(&r->wake_second, &r->lock, clock_mono_ms() + LOOK_MS);
                r->hurry_second = false;
                rolling_unlock(r);
        }
        rolling_disconnect(l, NULL);
        return NULL;
}

static void *roll_on(void *arg)
{
        struct rolling *r = arg;
        pthread_t second;
        int e = thread_start(&second, "rolling-tend", 0, tend, r);

        if (e)
                log_event(LOG_ERROR, NULL, "rolling.thread", "channel=%s reason=\"%s\" consequence=\"nothing is compared or tried again\"", name_of(r), strerror(e));
        identity_prefer_thread();               /* one of very many on a busy master, but all changes go through it. The second was begun before: it may be late */
        roll(r);
        rolling_disconnect(&r->lanes[0], NULL);
        rolling_lock(r);
        r->stop = true;
        cond_signal(&r->wake_second);
        rolling_unlock(r);
        if (!e)
                pthread_join(second, NULL);
        rolling_save(r);
        rolling_lock(r);
        r->status.state = ROLLING_ENDED;
        r->ended = true;
        rolling_unlock(r);
        return NULL;
}

/* ---- beginning and ending ---- */

static char *copy(const char *s)
{
        return s ? xstrdup(s) : NULL;
}

static void rolling_free(struct rolling *r)
{
        quarantine_deinit(&r->quarantine);
        free(r->compare.after);
        table_destroy(&r->compared_users);
        if (r->rest.known)
                work_deinit(&r->rest);
        cond_deinit(&r->wake);
        cond_deinit(&r->wake_second);
        mutex_deinit(&r->lock);
        mutex_deinit(&r->saving);
        mutex_deinit(&r->telling);
        free((char *)(uintptr_t)r->options.client.host);
        free((char *)(uintptr_t)r->options.client.partition);
        free((char *)(uintptr_t)r->options.shutdown_file);
        free(r->state_path);
        free(r->configdir);
        free(r->channel);
        free(r);
}

static struct rolling *rolling_create(const struct rolling_options *o)
{
        struct rolling *r = xcalloc(1, sizeof *r);
        struct str path = STR_INIT;
        struct err err = ERR_INIT;

        r->options = *o;
        r->channel = xstrdup(o->client.channel ? o->client.channel : "");
        r->options.client.channel = r->channel;
        r->options.client.host = copy(o->client.host);
        r->options.client.partition = copy(o->client.partition);
        r->options.shutdown_file = copy(o->shutdown_file);
        r->configdir = xstrdup(store_configdir(o->store));
        if (!o->fd) {
                sync_log_path(r->configdir, r->channel, "state", &path);
                r->state_path = str_take(&path);
        }
        r->options.patience_ms = o->patience_ms ? o->patience_ms : PATIENCE_MS;
        r->lanes[0] = (struct lane){ .r = r };
        r->lanes[1] = (struct lane){ .r = r, .second = true };
        mutex_init(&r->lock);
        mutex_init(&r->saving);
        mutex_init(&r->telling);
        cond_init(&r->wake);
        cond_init(&r->wake_second);
        quarantine_init(&r->quarantine);
        sync_log_path(r->configdir, r->channel, "", &path);
        if (r->state_path && fs_mkdir_p_durable(path.data, 0755, &err) < 0)
                log_event(LOG_ERROR, NULL, "rolling.state", "channel=%s reason=\"%s\"", name_of(r), err.text);
        str_deinit(&path);
        if (r->state_path)
                state_load(r->state_path, &r->quarantine, &r->compare);
        else
                r->compare.after = xstrdup("");
        r->status.state = ROLLING_CONNECTING;
        return r;
}

/* The list is locked. */
static struct rolling *find_locked(const char *channel)
{
        struct rolling *r = channels.first;

        while (r && strcmp(r->channel, channel ? channel : "") != 0)
                r = r->next;
        return r;
}

static void unlink_locked(struct rolling *r)
{
        for (struct rolling **p = &channels.first; *p; p = &(*p)->next)
                if (*p == r) {
                        *p = r->next;
                        return;
                }
}

static void end_one(struct rolling *r)
{
        rolling_lock(r);
        r->stop = true;
        cond_broadcast(&r->wake);
        cond_broadcast(&r->wake_second);
        rolling_unlock(r);
        if (r->has_thread)
                pthread_join(r->thread, NULL);
        rolling_free(r);
}

static int begin(const struct rolling_options *options, struct rolling **r_r, struct err *err)
{
        struct conf *conf = conf_live_get(options->live);
        struct rolling *r, *gone = NULL, *there;
        const char *channel = options->client.channel ? options->client.channel : "";
        const char *host = options->client.host ? options->client.host : conf_str(conf, *channel ? channel : NULL, "sync_host");
        int rc = 0;

        if (!host || !*host)
                rc = err_set(err, ERR_CONFIG, "sync_host is not set%s%s", *channel ? " for channel " : "", channel);
        conf_unref(&conf);
        if (rc < 0)
                return -1;
        r = rolling_create(options);
        if (options->fd > 0) {                  /* it has nothing in common with who does the channel's log */
                *r_r = r;
                return 0;
        }
        list_lock();
        there = find_locked(channel);
        if (there) {
                rolling_lock(there);
                if (there->ended)
                        gone = there;
                rolling_unlock(there);
        }
        if (there && !gone)
                rc = err_set(err, ERR_EXISTS, "%s%s is replicated already", *channel ? "channel " : "the default channel", channel);
        if (gone)
                unlink_locked(gone);
        if (rc == 0) {
                r->next = channels.first;
                channels.first = r;
        }
        list_unlock();
        if (gone)
                end_one(gone);
        if (rc < 0) {
                rolling_free(r);
                return -1;
        }
        *r_r = r;
        return 0;
}

int rolling_start(const struct rolling_options *options, struct err *err)
{
        struct rolling *r;
        int e;

        if (begin(options, &r, err) < 0)
                return -1;
        list_lock();                            /* whoever wants to join it waits until there is something to join */
        e = thread_start(&r->thread, "rolling", 0, roll_on, r);
        r->has_thread = e == 0;
        if (e)
                unlink_locked(r);
        list_unlock();
        if (e) {
                rolling_free(r);
                return err_errno(err, e, "a thread for rolling replication");
        }
        return 0;
}

int rolling_run(const struct rolling_options *options, bool (*stop)(void *ctx), void *ctx, struct err *err)
{
        struct rolling *r;
        int rc = 0;

        if (begin(options, &r, err) < 0)
                return -1;
        r->outer_stop = stop;
        r->outer_ctx = ctx;
        if (options->fd > 0)
                rc = run_file(r, options->fd) ? 0 : -1;
        else
                while ((rc = run_log(r)) > 0 && has_log(r))     /* log-run, and then what has come since */
                        if (rolling_stopping(r))
                                break;
        rolling_disconnect(&r->lanes[0], NULL);
        if (rc < 0 || r->incomplete)
                rc = err_set(err, rolling_stopping(r) ? ERR_CANCELLED : ERR_UNAVAILABLE, "%s", r->error[0] ? r->error : "not everything was done");
        list_lock();
        unlink_locked(r);                       /* with a file it is not there */
        list_unlock();
        rolling_free(r);
        return rc < 0 ? -1 : 0;
}

void rolling_stop(const char *channel)
{
        struct rolling *r, *gone = NULL;

        list_lock();
        for (struct rolling **p = &channels.first; (r = *p) != NULL;) {
                if (!r->has_thread || (channel && strcmp(channel, r->channel) != 0)) {
                        p = &r->next;
                        continue;
                }
                *p = r->next;
                r->next = gone;
                gone = r;
        }
        list_unlock();
        for (r = gone; r; r = r->next) {        /* all are told before the first is waited for */
                rolling_lock(r);
                r->stop = true;
                cond_broadcast(&r->wake);
                cond_broadcast(&r->wake_second);
                rolling_unlock(r);
        }
        while ((r = gone) != NULL) {
                gone = r->next;
                end_one(r);
        }
}

void rolling_written(void *ctx, const char *channel)
{
        struct rolling *r;

        (void)ctx;
        list_lock();
        r = find_locked(channel);
        if (r) {
                rolling_lock(r);
                r->woken = true;
                cond_signal(&r->wake);
                rolling_unlock(r);
        }
        list_unlock();
}

/* ---- for administrators ---- */

static void fill_status(struct rolling *r, struct rolling_status *s) EXCLUDES(rolling_class)
{
        uint64_t since = 0, now_us = clock_mono_us(), now = now_us / 1000;
        uint64_t mailboxes = mboxlist_count(store_mboxlist(r->options.store));
        uint64_t events = r->options.log ? sync_log_pending(r->options.log, r->channel, false, &since) : 0;

        rolling_lock(r);
        *s = r->status;
        s->channel = r->channel;
        s->connected_s = s->connected ? (int64_t)((now - r->lanes[0].connected_ms) / 1000) : 0;
        s->waiting_s = s->state == ROLLING_WAITING && r->retry_ms > now ? (int64_t)((r->retry_ms - now + 999) / 1000) : 0;
        if (r->busy_since_us && (!since || r->busy_since_us < since))
                since = r->busy_since_us;
        s->lag_ms = since && now_us > since ? (now_us - since) / 1000 : 0;
        s->events = events + r->busy_events;
        s->comparing = r->compare.on;
        s->compared = r->compare.on ? r->compare.done : 0;
        s->compare_total = r->compare.on ? mailboxes : 0;
        if (s->comparing && s->state == ROLLING_IDLE)
                s->state = ROLLING_COMPARING;
        for (size_t i = 0; i < r->quarantine.list.n; i++)
                *(r->quarantine.list.v[i]->put_off ? &s->put_off : &s->quarantined) += 1;
        for (int i = 0; i < 2; i++) {
                const struct lane *l = &r->lanes[i];

                if (l->asked_ms && now > l->asked_ms && now - l->asked_ms > s->silent_ms)
                        s->silent_ms = now - l->asked_ms;
                s->bytes_sent += l->past.sent + l->present.sent;
                s->bytes_received += l->past.received + l->present.received;
                s->wire_sent += l->past.wire_sent + l->present.wire_sent;
                s->wire_received += l->past.wire_received + l->present.wire_received;
                s->messages_sent += l->past.messages_sent + l->present.messages_sent;
        }
        rolling_unlock(r);
}

void rolling_each(void (*fn)(void *ctx, const struct rolling_status *status), void *ctx)
{
        ARRAY(struct rolling_status) all = ARRAY_INIT;
        ARRAY(char *) texts = ARRAY_INIT;

        list_lock();
        for (struct rolling *r = channels.first; r; r = r->next) {
                struct rolling_status s;

                fill_status(r, &s);
                *ARRAY_PUSH(&texts) = xstrdup(r->channel);
                rolling_lock(r);
                *ARRAY_PUSH(&texts) = xstrdup(r->peer);
                *ARRAY_PUSH(&texts) = xstrdup(r->of_item && !s.quarantined && !s.put_off ? "" : r->error);
                rolling_unlock(r);
                *ARRAY_PUSH(&all) = s;
        }
        list_unlock();
        for (size_t i = 0; i < all.n; i++) {    /* without a lock: it may wait for who reads the answer */
                all.v[i].channel = texts.v[3 * i];
                all.v[i].peer = texts.v[3 * i + 1];
                all.v[i].error = texts.v[3 * i + 2];
                fn(ctx, &all.v[i]);
        }
        for (size_t i = 0; i < texts.n; i++)
                free(texts.v[i]);
        ARRAY_FREE(&texts);
        ARRAY_FREE(&all);
}

struct listed { char *channel, *item, *reason; struct rolling_quarantined q; };

void rolling_each_quarantined(const char *channel, void (*fn)(void *ctx, const struct rolling_quarantined *q), void *ctx)
{
        ARRAY(struct listed) all = ARRAY_INIT;

        list_lock();
        for (struct rolling *r = channels.first; r; r = r->next) {
                if (channel && strcmp(channel, r->channel) != 0)
                        continue;
                rolling_lock(r);
                for (size_t i = 0; i < r->quarantine.list.n; i++) {
                        const struct quarantined *q = r->quarantine.list.v[i];

                        *ARRAY_PUSH(&all) = (struct listed){ xstrdup(r->channel), xstrdup(q->text), xstrdup(q->reason),
                                                             { .since = q->since, .next = q->next, .tries = q->tries, .put_off = q->put_off } };
                }
                rolling_unlock(r);
        }
        list_unlock();
        for (size_t i = 0; i < all.n; i++) {
                struct listed *l = &all.v[i];

                l->q.channel = l->channel;
                l->q.item = l->item;
                l->q.reason = l->reason;
                fn(ctx, &l->q);
                free(l->channel);
                free(l->item);
                free(l->reason);
        }
        ARRAY_FREE(&all);
}

/* fn is called with the channel locked, for one channel or all; returns the sum. */
static unsigned each_locked(const char *channel, unsigned (*fn)(struct rolling *r, const char *arg), const char *arg)
{
        unsigned n = 0;

        list_lock();
        for (struct rolling *r = channels.first; r; r = r->next) {
                if (channel && strcmp(channel, r->channel) != 0)
                        continue;
                rolling_lock(r);
                n += fn(r, arg);
                cond_broadcast(&r->wake);
                cond_broadcast(&r->wake_second);
                rolling_unlock(r);
        }
        list_unlock();
        return n;
}

static unsigned retry_one(struct rolling *r, const char *item)
{
        unsigned n = 0;

        for (size_t i = 0; i < r->quarantine.list.n; i++)
                if (!item || strcmp(r->quarantine.list.v[i]->text, item) == 0) {
                        r->quarantine.list.v[i]->next = 0;
                        n++;
                }
        if (n)
                r->hurry_second = true;
        return n;
}

unsigned rolling_retry(const char *channel, const char *item)
{
        return each_locked(channel, retry_one, item);
}

static unsigned hurry_one(struct rolling *r, const char *unused)
{
        (void)unused;
        r->hurry = r->hurry_second = r->woken = true;
        return 1;
}

unsigned rolling_now(const char *channel)
{
        return each_locked(channel, hurry_one, NULL);
}

static unsigned reconfigure_one(struct rolling *r, const char *unused)
{
        (void)unused;
        r->reconfigured = r->hurry = true;
        return 1;
}

void rolling_reconfigure(void)
{
        each_locked(NULL, reconfigure_one, NULL);
}

static unsigned compare_one(struct rolling *r, const char *unused)
{
        (void)unused;
        r->compare.on = r->compare_again = r->hurry_second = true;
        return 1;
}

unsigned rolling_compare(const char *channel)
{
        return each_locked(channel, compare_one, NULL);
}
