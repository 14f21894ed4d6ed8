/* engine - starts and stops the parts, and answers status questions. See service.h. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/engine_private.h"
#include "server/tls.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define CUT_MS 5000u                            /* how long sessions that were cut off may wait for their last disk write */

struct engine *the_engine;

/* Thousands of idle sessions must not pin memory: few arenas (each keeps its own free lists), and a fixed threshold above which
 * memory comes straight from the kernel and goes straight back – by default glibc raises it as it goes. */
static void tune_malloc(void)
{
        mallopt(M_ARENA_MAX, 4);
        mallopt(M_MMAP_THRESHOLD, 128 * 1024);
        mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
}

#define TRIM_EVERY_MS 10000
#define TRIM_AFTER 500u                         /* dispatches since the last time: nothing to gain where nothing happened */

/* Memory that a burst of activity freed lies between what idle sessions keep; malloc_trim() gives whole pages of it back. It takes
 * milliseconds with a large heap, so on a thread that may block. */
static void trim(void *arg)
{
        (void)arg;
        malloc_trim(0);
}

int engine_idle_tick(uint64_t now_ms)
{
        struct engine *e = the_engine;
        uint64_t pushed;

        atomic_store_explicit(&e->ticked_ms, now_ms, memory_order_relaxed);
        if (now_ms < e->trimmed_ms + TRIM_EVERY_MS)
                return (int)(e->trimmed_ms + TRIM_EVERY_MS - now_ms);
        e->trimmed_ms = now_ms;
        pool_stats(e->pool, NULL, NULL, NULL, &pushed);
        if (pushed - e->trimmed_pushed >= TRIM_AFTER && !atomic_load(&e->stopping)) {
                e->trimmed_pushed = pushed;
                engine_call(OFFLOAD_DISK, trim, NULL);
        }
        return TRIM_EVERY_MS;
}

static unsigned default_workers(struct conf *conf)
{
        int64_t n = conf_int(conf, NULL, "worker_threads");
        long processors = sysconf(_SC_NPROCESSORS_ONLN);

        if (n <= 0)
                n = processors > 4 ? processors * 2 : 8;
        return n > 1000 ? 1000 : (unsigned)n;
}

static void engine_free(struct engine *e)
{
        pool_destroy(&e->pool);
        acceptor_destroy(&e->acceptor);
        cond_deinit(&e->gone);
        mutex_deinit(&e->lock);
        free(e);
}

static const struct pool_ops pool_ops = {
        .run = session_dispatch, .wait = acceptor_wait_session, .kick = acceptor_kick_worker, .all_busy = acceptor_watch_sessions,
};

static int start_parts(struct engine *e, unsigned workers, struct err *err)
{
        if (acceptor_create(&e->acceptor, err) < 0 || pool_create(workers, &pool_ops, e->acceptor, &e->pool, err) < 0)
                return -1;
        if (offload_start(&e->options, err) < 0)
                return -1;
        if (acceptor_start(e->acceptor, err) < 0) {
                offload_stop();
                return -1;
        }
        return 0;
}

int engine_start(const struct engine_options *options, struct err *err)
{
        struct engine *e = xcalloc(1, sizeof *e);
        struct conf *conf;
        unsigned workers = options->workers;

        must(the_engine == NULL && options->conf != NULL);
        tune_malloc();
        signal(SIGPIPE, SIG_IGN);
        if (tls_init(err) < 0) {
                free(e);
                return -1;
        }
        e->options = *options;
        mutex_init(&e->lock);
        cond_init(&e->gone);
        e->started_ms = e->taken_ms = clock_mono_ms();
        atomic_init(&e->ticked_ms, e->started_ms);
        e->name_base = (uint64_t)clock_wall_s();
        atomic_init(&e->name_next, 1);
        conf = conf_live_get(options->conf);
        if (workers == 0)
                workers = default_workers(conf);
        limits_setup(conf);
        conf_unref(&conf);
        the_engine = e;
        if (start_parts(e, workers, err) == 0)
                return 0;
        the_engine = NULL;
        engine_free(e);
        limits_teardown();
        return -1;
}

/* Wait for the last session to go, until `deadline`. */
static bool wait_gone(struct engine *e, uint64_t deadline)
{
        bool gone;

        mutex_lock(&e->lock);
        while (atomic_load(&e->sessions) > 0 && cond_wait_until(&e->gone, &e->lock, deadline))
                ;
        gone = atomic_load(&e->sessions) == 0;
        mutex_unlock(&e->lock);
        return gone;
}

bool engine_stop(unsigned grace_ms)
{
        struct engine *e = the_engine;

        if (!e)
                return true;
        services_close();
        atomic_store(&e->stopping, true);
        sessions_wake_all(WAKE_STOP);
        if (!wait_gone(e, clock_mono_ms() + grace_ms)) {
                log_event(LOG_NOTE, NULL, "engine.cut", "sessions=%llu", (unsigned long long)atomic_load(&e->sessions));
                sessions_wake_all(EV_KILL);
                if (!wait_gone(e, clock_mono_ms() + CUT_MS)) {
                        /* Something they wait for never came. Their memory must stay; the process is about to end. */
                        log_event(LOG_ERROR, NULL, "engine.stuck", "sessions=%llu",
                                  (unsigned long long)atomic_load(&e->sessions));
                        return false;
                }
        }
        acceptor_stop(e->acceptor);                     /* it may want something called: before the threads for that end */
        offload_stop();
        pool_destroy(&e->pool);
        services_free();
        acceptor_destroy(&e->acceptor);
        the_engine = NULL;
        engine_free(e);
        limits_teardown();
        return true;
}

bool engine_gets_on(uint64_t limit_ms)
{
        struct engine *e = the_engine;
        uint64_t now = clock_mono_ms(), ticked, queued, pushed;

        if (!e)
                return true;
        pool_stats(e->pool, NULL, NULL, &queued, &pushed);
        if (queued == 0 || pushed - queued != e->taken) {
                e->taken = pushed - queued;
                e->taken_ms = now;
        }
        ticked = atomic_load_explicit(&e->ticked_ms, memory_order_relaxed);
        return now - e->taken_ms <= limit_ms && (ticked >= now || now - ticked <= limit_ms + TRIM_EVERY_MS);
}

bool engine_stopping(void)
{
        return the_engine && atomic_load(&the_engine->stopping);
}

bool engine_temporary(void)
{
        return the_engine->options.temporary;
}

struct store *engine_store(void)
{
        return the_engine->options.store;
}

struct conf *engine_conf(void)
{
        return conf_live_get(the_engine->options.conf);
}

/* ---- status --------------------------------------------------------------------------------------------------------------- */

struct info_list { struct session_info *v; size_t n, cap; };

static void copy_text(char *to, size_t size, const char *from)
{
        snprintf(to, size, "%s", from ? from : "");
}

static void collect(void *ctx, struct session *s, enum slot_state state)
{
        struct info_list *list = ctx;
        struct session_engine *e = s->engine;
        uint64_t now = clock_mono_ms(), since = __atomic_load_n(&e->idle_since_ms, __ATOMIC_RELAXED);
        uint64_t sent = __atomic_load_n(&e->sent_ms, __ATOMIC_RELAXED), moved = sent > since ? sent : since;
        struct session_info *i;

        if (list->n == list->cap)
                return;                                 /* more came meanwhile than were expected: they are in the next answer */
        i = &list->v[list->n++];
        memset(i, 0, sizeof *i);
        i->id = s->id;
        copy_text(i->name, sizeof i->name, s->name);
        copy_text(i->protocol, sizeof i->protocol, s->ops->protocol);
        copy_text(i->service, sizeof i->service, service_name(s->service));
        copy_text(i->peer, sizeof i->peer, s->peer);
        copy_text(i->user, sizeof i->user, e->user);
        copy_text(i->mailbox, sizeof i->mailbox, e->mailbox);
        copy_text(i->command, sizeof i->command, e->command);
        i->started = s->started;
        i->trace_until = session_trace_until(s);
        i->bytes_in = stream_bytes_in(s->stream);
        i->bytes_out = stream_bytes_out(s->stream);
        i->tls = __atomic_load_n(&e->tls, __ATOMIC_RELAXED);
        i->parked = state == SLOT_PARKED;
        i->idle_s = now > since ? (uint32_t)((now - since) / 1000) : 0;
        i->quiet_ms = now > moved ? now - moved : 0;
}

void engine_each_session(void (*fn)(void *ctx, const struct session_info *info), void *ctx)
{
        struct info_list list = { NULL, 0, (size_t)atomic_load(&the_engine->sessions) + 64 };

        list.v = xmalloc(list.cap * sizeof *list.v);
        sessions_each(collect, &list);
        for (size_t i = 0; i < list.n; i++)
                fn(ctx, &list.v[i]);
        free(list.v);
}

struct kick { const char *name; struct session_id id; };

static void kick_if_named(void *ctx, struct session *s, enum slot_state state)
{
        struct kick *k = ctx;

        (void)state;
        if (strcmp(s->name, k->name) == 0)
                k->id = s->id;
}

bool engine_kick(const char *name)
{
        struct kick k = { name, { 0, 0 } };

        sessions_each(kick_if_named, &k);
        if (k.id.generation == 0)
                return false;
        session_wake(k.id, WAKE_STOP);
        return true;
}

struct trace { const char *name; int64_t until; struct session_id id; };

static void trace_if_named(void *ctx, struct session *s, enum slot_state state)
{
        struct trace *t = ctx;

        (void)state;
        if (strcmp(s->name, t->name) != 0 || strcmp(s->ops->protocol, "control") == 0)
                return;
        __atomic_store_n(&s->engine->trace_until, t->until, __ATOMIC_RELAXED);
        t->id = s->id;
}

bool engine_trace(const char *name, int64_t until_s)
{
        struct trace t = { name, until_s, { 0, 0 } };

        sessions_each(trace_if_named, &t);
        if (t.id.generation == 0)
                return false;
        session_wake(t.id, WAKE_TOUCH);
        return true;
}

struct touch { const char *userid; ARRAY(struct session_id) ids; };

static void collect_user(void *ctx, struct session *s, enum slot_state state)
{
        struct touch *t = ctx;

        (void)state;
        if (s->engine->user && strcmp(s->engine->user, t->userid) == 0)
                *ARRAY_PUSH(&t->ids) = s->id;
}

unsigned engine_touch_user(const char *userid)
{
        struct touch t = { userid, ARRAY_INIT };
        unsigned n;

        sessions_each(collect_user, &t);
        for (size_t i = 0; i < t.ids.n; i++)
                session_wake(t.ids.v[i], WAKE_TOUCH);
        n = (unsigned)t.ids.n;
        ARRAY_FREE(&t.ids);
        return n;
}

static void count_state(void *ctx, struct session *s, enum slot_state state)
{
        struct engine_stats *stats = ctx;

        (void)s;
        stats->sessions++;
        stats->parked += state == SLOT_PARKED;
        stats->queued += state == SLOT_QUEUED;
        stats->running += state == SLOT_RUNNING;
}

static void count_service(void *ctx, const char *name, const char *protocol, unsigned connections, uint64_t total)
{
        struct engine_stats *stats = ctx;

        (void)name;
        (void)protocol;
        (void)connections;
        (void)total;
        stats->services++;
}

void engine_stats(struct engine_stats *stats_r)
{
        memset(stats_r, 0, sizeof *stats_r);
        sessions_each(count_state, stats_r);
        engine_each_service(count_service, stats_r);
        pool_stats(the_engine->pool, &stats_r->workers, &stats_r->workers_busy, &stats_r->run_queue, &stats_r->wakes_total);
        stats_r->accepted_total = atomic_load(&the_engine->accepted);
        stats_r->refused_total = atomic_load(&the_engine->refused);
}
