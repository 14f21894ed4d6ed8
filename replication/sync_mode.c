/*
 * sync_mode - see sync_mode.h
 *
 * One lock, short, under which nothing is called but what looks at a clock; sessions are woken after it. Waiting sessions are in a list in the order in
 * which they asked, so for each channel the first that waits for it is the one whose time is over first.
 */
#include "replication/sync_mode.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/lock_order.h"
#include "replication/role.h"
#include "replication/rolling.h"
#include "server/acknowledge.h"
#include "store/mailname.h"
#include "util/arena.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define STOP_MS 1000                            /* so long they still wait when the daemon stops */
#define WELL_LEAST_MS 100
#define WELL_MS 1000                            /* a degraded channel whose pass takes no longer is synchronous again */

struct aside { struct sync_line line; bool put_off, closely; };

struct sync_channel {
        char *name;
        uint64_t after_ms;                      /* UINT64_MAX: never */
        uint64_t passed;
        bool ever;                              /* it has been synchronous since the start */
        bool degraded;
        uint64_t degraded_since_ms;
        ARRAY(struct aside) aside;
        struct arena arena;                     /* what is in `aside` */
        struct sync_mode_status counts;
};

struct acknowledge {
        struct acknowledge *next, *prev;        /* while it waits */
        struct session_id session;
        uint64_t position;
        uint64_t begun_us;
        enum acknowledge_answer answer;
        bool structure;
        char *user, *names[ACKNOWLEDGE_NAMES];  /* NULL: none */
};

static struct {
        struct mutex lock;                      /* sync_mode_class */
        struct cond work;                       /* somebody waits who did not; stop */
        struct sync_log *log;
        ARRAY(struct sync_channel *) channels;
        struct acknowledge *first, *last;
        uint64_t waiting;
        uint64_t stopping_ms;                   /* 0: it does not */
        bool has_thread, stop;
        pthread_t thread;
} mode = { .lock = MUTEX_INIT };

struct woken { struct session_id *v; size_t n, cap; };

static void mode_lock(void) ACQUIRE(mode.lock, sync_mode_class);
static void mode_unlock(void) RELEASE(mode.lock, sync_mode_class);
static void mode_lock(void) NO_TSA
{
        mutex_lock(&mode.lock);
}
static void mode_unlock(void) NO_TSA
{
        mutex_unlock(&mode.lock);
}

static struct sync_channel *find_channel(const char *name)
{
        for (size_t i = 0; i < mode.channels.n; i++)
                if (strcmp(mode.channels.v[i]->name, name ? name : "") == 0)
                        return mode.channels.v[i];
        return NULL;
}

static const char *shown(const struct sync_channel *ch)
{
        return ch->name[0] ? ch->name : "-";
}

/* ---- is it about this? ---- */

static bool is_named(const struct acknowledge *a, const char *mailbox)
{
        for (unsigned i = 0; i < ACKNOWLEDGE_NAMES; i++)
                if (a->names[i] && strcmp(a->names[i], mailbox) == 0)
                        return true;
        return false;
}

static bool is_owner(const struct acknowledge *a, const char *user)
{
        for (unsigned i = 0; i < ACKNOWLEDGE_NAMES; i++)
                if (a->names[i] && mailname_owned_by(a->names[i], user))
                        return true;
        return false;
}

static bool is_user(const struct acknowledge *a, const char *user)
{
        return a->user && strcmp(a->user, user) == 0;
}

/*
 * A user stands for everything that is his, while he is put off. When he fails he is looked at closely: what is his is tried by itself. From then on messages
 * are about mailboxes, and nothing but.
 */
static bool concerns(const struct aside *aside, const struct acknowledge *a)
{
        const struct sync_line *line = &aside->line;

        switch (line->kind) {
        case SYNC_MAILBOX: case SYNC_APPEND: case SYNC_UNMAILBOX: case SYNC_QUOTA:
                return is_named(a, line->a);
        case SYNC_ANNOTATION:                   /* the server's */
                return a->structure && !a->names[0];
        case SYNC_SEEN:
                return is_user(a, line->a);
        case SYNC_SUB: case SYNC_META:          /* META: also what he has seen in others' mailboxes */
                return is_user(a, line->a) && (a->structure || !is_owner(a, line->a));
        case SYNC_USER: case SYNC_UNUSER:
                return (a->structure || !aside->closely) && (is_owner(a, line->a) || is_user(a, line->a));
        default:
                return false;
        }
}

enum verdict { HAS_IT, HAS_NOT_YET, PUT_OFF, ASIDE };

static enum verdict look(const struct sync_channel *ch, const struct acknowledge *a)
{
        enum verdict v = HAS_IT;

        if (ch->passed < a->position)
                return HAS_NOT_YET;
        for (size_t i = 0; i < ch->aside.n && v != ASIDE; i++)
                if (concerns(&ch->aside.v[i], a))
                        v = ch->aside.v[i].put_off ? PUT_OFF : ASIDE;
        return v;
}

/* ---- answering ---- */

/* From the list, with that answer. Who is woken is noted. */
static void answer_locked(struct acknowledge *a, enum acknowledge_answer answer, struct woken *woken) REQUIRES(mode.lock, sync_mode_class);
static void answer_locked(struct acknowledge *a, enum acknowledge_answer answer, struct woken *woken)
{
        a->answer = answer;
        *(a->prev ? &a->prev->next : &mode.first) = a->next;
        *(a->next ? &a->next->prev : &mode.last) = a->prev;
        mode.waiting--;
        if (woken)
                *ARRAY_PUSH(woken) = a->session;
}

static void wake(struct woken *woken)
{
        for (size_t i = 0; i < woken->n; i++)
                session_wake(woken->v[i], WAKE_DONE);
        ARRAY_FREE(woken);
}

static void count(struct sync_channel *ch, const struct acknowledge *a, enum verdict v, bool refused)
{
        uint64_t us = clock_mono_us() - a->begun_us;
        int b = 0;

        if (v != HAS_IT || ch->degraded) {
                ++*(refused ? &ch->counts.refused : &ch->counts.without);
                return;
        }
        while (rolling_lag_bucket_ms[b] && us > (uint64_t)rolling_lag_bucket_ms[b] * 1000)
                b++;
        ch->counts.replicated++;
        ch->counts.wait_counts[b]++;
        ch->counts.wait_us_total += us;
}

/* What is there to say? `over`: it has waited long enough for what is only put off. */
static enum acknowledge_answer judge(const struct acknowledge *a, bool over)
{
        enum acknowledge_answer answer = ACKNOWLEDGE_TELL;

        if (role_is_restricted())
                return ACKNOWLEDGE_REFUSE;
        for (size_t i = 0; i < mode.channels.n; i++) {
                const struct sync_channel *ch = mode.channels.v[i];
                enum verdict v = ch->degraded ? HAS_IT : look(ch, a);

                if (v == HAS_NOT_YET || (v == PUT_OFF && !over))
                        return ACKNOWLEDGE_WAIT;
                if (v == ASIDE && ch->after_ms == UINT64_MAX)
                        answer = ACKNOWLEDGE_REFUSE;
        }
        return answer;
}

static void settle_locked(struct acknowledge *a, enum acknowledge_answer answer, struct woken *woken) REQUIRES(mode.lock, sync_mode_class);
static void settle_locked(struct acknowledge *a, enum acknowledge_answer answer, struct woken *woken)
{
        for (size_t i = 0; i < mode.channels.n; i++)
                count(mode.channels.v[i], a, look(mode.channels.v[i], a), answer == ACKNOWLEDGE_REFUSE);
        answer_locked(a, answer, woken);
}

static void settle_all_locked(struct woken *woken) REQUIRES(mode.lock, sync_mode_class);
static void settle_all_locked(struct woken *woken)
{
        for (struct acknowledge *a = mode.first, *next; a; a = next) {
                enum acknowledge_answer answer = judge(a, false);

                next = a->next;
                if (answer != ACKNOWLEDGE_WAIT)
                        settle_locked(a, answer, woken);
        }
}

/* ---- sessions ask ---- */

static char *copy(const char *s)
{
        return s ? xstrdup(s) : NULL;
}

static void acknowledge_free(struct acknowledge *a)
{
        for (unsigned i = 0; i < ACKNOWLEDGE_NAMES; i++)
                free(a->names[i]);
        free(a->user);
        free(a);
}

static struct acknowledge *begin(struct session_id session, const struct acknowledge_about *about)
{
        struct acknowledge *a = xcalloc(1, sizeof *a);
        enum acknowledge_answer answer;

        a->session = session;
        a->structure = about->structure;
        a->user = copy(about->user);
        for (unsigned i = 0; i < ACKNOWLEDGE_NAMES; i++)
                a->names[i] = copy(about->names[i]);
        a->begun_us = clock_mono_us();
        mode_lock();
        a->position = mode.log ? sync_log_position(mode.log) : UINT64_MAX;
        a->prev = mode.last;
        *(mode.last ? &mode.last->next : &mode.first) = a;
        mode.last = a;
        mode.waiting++;
        answer = mode.log ? judge(a, false) : ACKNOWLEDGE_REFUSE;       /* closed: nobody says any more whether the replica has it */
        if (answer != ACKNOWLEDGE_WAIT)
                settle_locked(a, answer, NULL);
        else if (mode.waiting == 1)
                cond_signal(&mode.work);
        mode_unlock();
        if (answer != ACKNOWLEDGE_TELL)
                return a;
        acknowledge_free(a);
        return NULL;
}

static enum acknowledge_answer answer_of(struct acknowledge *a)
{
        enum acknowledge_answer answer;

        mode_lock();
        answer = a->answer;
        mode_unlock();
        return answer;
}

static void end(struct acknowledge *a)
{
        mode_lock();
        if (a->answer == ACKNOWLEDGE_WAIT)      /* the session ends */
                answer_locked(a, ACKNOWLEDGE_REFUSE, NULL);
        mode_unlock();
        acknowledge_free(a);
}

/* ---- rolling replication tells ---- */

bool sync_mode_is_synchronous(const char *channel)
{
        bool yes;

        if (!acknowledge_on())
                return false;
        mode_lock();
        yes = find_channel(channel) != NULL;
        mode_unlock();
        return yes;
}

void sync_mode_role_changed(void)
{
        struct woken woken = ARRAY_INIT;

        mode_lock();
        settle_all_locked(&woken);
        mode_unlock();
        wake(&woken);
}

static void take_aside_locked(struct sync_channel *ch, const struct sync_mode_aside *aside, size_t n) REQUIRES(mode.lock, sync_mode_class);
static void take_aside_locked(struct sync_channel *ch, const struct sync_mode_aside *aside, size_t n)
{
        ch->aside.n = 0;
        arena_reset(&ch->arena);
        for (size_t i = 0; i < n; i++) {
                struct aside a = { .put_off = aside[i].put_off, .closely = aside[i].closely };

                if (sync_line_parse(span_of(aside[i].item), &ch->arena, &a.line, NULL) == 0)
                        *ARRAY_PUSH(&ch->aside) = a;
        }
}

static bool is_well(const struct sync_channel *ch, uint64_t took_ms)
{
        uint64_t most = ch->after_ms / 2 < WELL_MS ? ch->after_ms / 2 : WELL_MS;

        return took_ms <= (most < WELL_LEAST_MS ? WELL_LEAST_MS : most);
}

void sync_mode_passed(const char *channel, uint64_t upto, uint64_t took_ms, const struct sync_mode_aside *aside, size_t n)
{
        struct woken woken = ARRAY_INIT;
        struct sync_channel *ch;
        bool back = false, was_degraded = false;
        uint64_t degraded_ms = 0;
        char name[200] = "";

        mode_lock();
        ch = find_channel(channel);
        if (ch) {
                take_aside_locked(ch, aside, n);
                if (upto > ch->passed)
                        ch->passed = upto;
                if ((ch->degraded || !ch->ever) && is_well(ch, took_ms)) {
                        back = ch->ever = true;
                        was_degraded = ch->degraded;
                        degraded_ms = ch->degraded ? clock_mono_ms() - ch->degraded_since_ms : 0;
                        ch->degraded = false;
                        snprintf(name, sizeof name, "%s", shown(ch));
                }
                settle_all_locked(&woken);
        }
        mode_unlock();
        wake(&woken);
        if (back)
                log_event(was_degraded ? LOG_WARN : LOG_NOTE, NULL, "sync.synchronous", "channel=%s degraded_ms=%" PRIu64, name, degraded_ms);
}

/* ---- whose time is over: a thread of its own, for the channel's may be waiting for the replica ---- */

struct degraded { char *channel; uint64_t waited_ms, waiting; };
struct degradations { struct degraded *v; size_t n, cap; };

static uint64_t deadline_of(const struct sync_channel *ch, const struct acknowledge *a)
{
        return ch->after_ms == UINT64_MAX ? UINT64_MAX : a->begun_us / 1000 + ch->after_ms;
}

static void degrade_locked(struct sync_channel *ch, const struct acknowledge *a, uint64_t now, struct degradations *degraded)
        REQUIRES(mode.lock, sync_mode_class);
static void degrade_locked(struct sync_channel *ch, const struct acknowledge *a, uint64_t now, struct degradations *degraded)
{
        ch->degraded = true;
        ch->degraded_since_ms = now;
        ch->counts.degradations++;
        *ARRAY_PUSH(degraded) = (struct degraded){ xstrdup(ch->name), now - a->begun_us / 1000, mode.waiting };
}

/* Degrade what has to be; say how long the next one has. */
static uint64_t look_round_locked(struct woken *woken, struct degradations *degraded) REQUIRES(mode.lock, sync_mode_class);
static uint64_t look_round_locked(struct woken *woken, struct degradations *degraded)
{
        uint64_t now = clock_mono_ms(), next = UINT64_MAX;

        for (struct acknowledge *a = mode.first, *after; a; a = after) {
                bool over = false;
                enum acknowledge_answer answer;

                after = a->next;
                for (size_t i = 0; i < mode.channels.n; i++) {
                        struct sync_channel *ch = mode.channels.v[i];
                        uint64_t deadline = deadline_of(ch, a);
                        enum verdict v = ch->degraded ? HAS_IT : look(ch, a);

                        if (v == HAS_NOT_YET && deadline <= now)
                                degrade_locked(ch, a, now, degraded);
                        else if (v == PUT_OFF && deadline <= now)
                                over = true;
                        else if ((v == HAS_NOT_YET || v == PUT_OFF) && deadline < next)
                                next = deadline;
                }
                answer = judge(a, over);
                if (answer == ACKNOWLEDGE_WAIT && mode.stopping_ms) {
                        if (now >= mode.stopping_ms + STOP_MS)
                                answer = ACKNOWLEDGE_REFUSE;
                        else if (mode.stopping_ms + STOP_MS < next)
                                next = mode.stopping_ms + STOP_MS;
                }
                if (answer != ACKNOWLEDGE_WAIT)
                        settle_locked(a, answer, woken);
        }
        return next;
}

struct reason { const char *channel; char text[ERR_TEXT_MAX + 40]; };

static void find_reason(void *ctx, const struct rolling_status *s)
{
        struct reason *r = ctx;

        if (strcmp(s->channel, r->channel) == 0)
                snprintf(r->text, sizeof r->text, "%s%s%.*s", rolling_state_name(s->state), s->error[0] ? ": " : "", ERR_TEXT_MAX, s->error);
}

static void tell_degraded(struct degradations *degraded)
{
        for (size_t i = 0; i < degraded->n; i++) {
                struct degraded *d = &degraded->v[i];
                struct reason reason = { .channel = d->channel, .text = "the channel does not run" };
                char quoted[LOG_QUOTE_MAX];

                rolling_each(find_reason, &reason);
                log_event(LOG_ERROR, NULL, "sync.degraded", "channel=%s waited_ms=%" PRIu64 " waiting=%" PRIu64
                          " reason=%s consequence=\"clients are answered without the replica until it keeps up again\"",
                          d->channel[0] ? d->channel : "-", d->waited_ms, d->waiting, log_quote_str(quoted, reason.text));
                free(d->channel);
        }
        ARRAY_FREE(degraded);
}

static void *watch(void *unused)
{
        mode_lock();
        while (!mode.stop) {
                struct woken woken = ARRAY_INIT;
                struct degradations degraded = ARRAY_INIT;
                uint64_t next = look_round_locked(&woken, &degraded);

                if (woken.n || degraded.n) {
                        mode_unlock();
                        wake(&woken);
                        tell_degraded(&degraded);
                        mode_lock();
                } else if (next == UINT64_MAX) {
                        cond_wait(&mode.work, &mode.lock);
                } else {
                        cond_wait_until(&mode.work, &mode.lock, next);
                }
        }
        mode_unlock();
        return unused;
}

/* ---- opening and closing ---- */

static void channel_free(struct sync_channel *ch)
{
        ARRAY_FREE(&ch->aside);
        arena_deinit(&ch->arena);
        free(ch->name);
        free(ch);
}

static struct sync_channel *channel_for_locked(struct conf *conf, const char *name) REQUIRES(mode.lock, sync_mode_class);
static struct sync_channel *channel_for_locked(struct conf *conf, const char *name)
{
        int64_t s = conf_duration_s(conf, *name ? name : NULL, "sync_degrade_after");
        struct sync_channel *ch = find_channel(name);

        if (!ch) {
                ch = xcalloc(1, sizeof *ch);
                ch->name = xstrdup(name);
                arena_init(&ch->arena);
        }
        ch->after_ms = s == CONF_NEVER ? UINT64_MAX : s > 0 ? (uint64_t)s * 1000 : 0;
        return ch;
}

static bool is_synchronous(struct conf *conf, const char *name)
{
        return strcmp(conf_enum(conf, *name ? name : NULL, "sync_mode"), "synchronous") == 0;
}

void sync_mode_reconfigure(struct conf *conf)
{
        struct arena arena = ARENA_INIT;
        const char **names = sync_log_channels(conf, &arena);
        ARRAY(struct sync_channel *) now = ARRAY_INIT;
        struct woken woken = ARRAY_INIT;
        bool any;

        mode_lock();
        for (size_t i = 0; names[i]; i++)
                if (is_synchronous(conf, names[i]))
                        *ARRAY_PUSH(&now) = channel_for_locked(conf, names[i]);
        for (size_t i = 0; i < mode.channels.n; i++) {
                bool kept = false;

                for (size_t k = 0; k < now.n; k++)
                        kept = kept || now.v[k] == mode.channels.v[i];
                if (!kept)
                        channel_free(mode.channels.v[i]);
        }
        ARRAY_FREE(&mode.channels);
        mode.channels.v = now.v;
        mode.channels.n = now.n;
        mode.channels.cap = now.cap;
        any = now.n > 0 && mode.has_thread;
        acknowledge_want(any);
        settle_all_locked(&woken);
        cond_signal(&mode.work);
        mode_unlock();
        wake(&woken);
        if (!any && is_synchronous(conf, ""))
                log_event(LOG_ERROR, NULL, "sync.mode", "reason=\"sync_mode is synchronous, but sync_log is not on\" consequence=\"nothing is replicated\"");
        arena_deinit(&arena);
}

int sync_mode_open(struct sync_log *log, struct conf *conf, struct err *err)
{
        int e;

        cond_init(&mode.work);
        mode.log = log;
        mode.stop = false;
        mode.stopping_ms = 0;
        e = thread_start(&mode.thread, "sync-mode", 0, watch, NULL);
        if (e)
                return err_errno(err, e, "a thread for synchronous replication");
        mode.has_thread = true;
        sync_mode_reconfigure(conf);
        return 0;
}

void sync_mode_stopping(void)
{
        mode_lock();
        mode.stopping_ms = clock_mono_ms();
        if (mode.has_thread)
                cond_signal(&mode.work);
        mode_unlock();
}

void sync_mode_close(void)
{
        struct woken woken = ARRAY_INIT;

        if (!mode.has_thread)
                return;
        mode_lock();
        mode.stop = true;
        cond_signal(&mode.work);
        while (mode.first)
                answer_locked(mode.first, ACKNOWLEDGE_REFUSE, &woken);
        mode.log = NULL;
        mode_unlock();
        pthread_join(mode.thread, NULL);
        mode.has_thread = false;
        wake(&woken);
        cond_deinit(&mode.work);
        for (size_t i = 0; i < mode.channels.n; i++)
                channel_free(mode.channels.v[i]);
        ARRAY_FREE(&mode.channels);
}

void sync_mode_register(void)
{
        static const struct acknowledge_ops ops = { begin, answer_of, end };

        acknowledge_install(&ops);
}

void sync_mode_status(const char *channel, struct sync_mode_status *status_r)
{
        const struct sync_channel *ch;

        *status_r = (struct sync_mode_status){ 0 };
        mode_lock();
        ch = find_channel(channel);
        if (ch) {
                *status_r = ch->counts;
                status_r->synchronous = true;
                status_r->degraded = ch->degraded;
                status_r->degraded_ms = ch->degraded ? clock_mono_ms() - ch->degraded_since_ms : 0;
                status_r->waiting = mode.waiting;
                status_r->oldest_ms = mode.first ? (clock_mono_us() - mode.first->begun_us) / 1000 : 0;
        }
        mode_unlock();
}
