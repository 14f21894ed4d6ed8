/*
 * session_run - one dispatch: what a worker does with a session it took from the run queue. See session.h.
 *
 * A dispatch goes round one loop – flush output, find out whether run() may be called (reading input if that is what it waits
 * for), call it – until the session would wait, its slice is over, or it ends. Then it is armed and parked, put back into the queue,
 * or freed. It is armed before it is parked: an event that comes in between leaves its bit in the slot's word, parking fails, and the
 * loop goes on. Before arming, everything a layer already holds has been used up: `try_read` stays set until a read was refused, or
 * without a layer left room.
 *
 * What must not happen while a waiter or an offload is out – closing, and telling the protocol to say goodbye – is noted in
 * `deferred` and done when the last one is back, which always wakes the session.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "server/engine_private.h"
#include "server/tls.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define GOODBYE_MS 5000u                        /* from WAKE_STOP or WAKE_TIMEOUT to the end, if the peer does not read the goodbye */
#define LINGER_MS 1000u
#define LINGER_BYTES ((size_t)256 * 1024)
#define REST_MS 2000u                           /* idle for so long: memory that costs work to make again is given back too */
#define READ_AT_ONCE ((size_t)32 * 1024)

#define LOAD(x) atomic_load_explicit(&(x), memory_order_relaxed)

enum verdict { VERDICT_PARK, VERDICT_RUN, VERDICT_AGAIN, VERDICT_END };

/* ---- deadlines ------------------------------------------------------------------------------------------------------------ */

static void earliest(uint64_t *deadline, uint64_t other)
{
        if (other != 0 && (*deadline == 0 || other < *deadline))
                *deadline = other;
}

/* Since when and how long may it wait for input? 0: no limit. The login timeout counts from the connection in all, whatever the
 * client sends meanwhile; the others from the last octets that came. */
static uint64_t input_deadline(const struct session *s, const struct service_times *t)
{
        const struct session_engine *e = s->engine;
        uint64_t wait, login = LOAD(t->login);

        if (e->told || e->deferred & WAKE_TIMEOUT)
                return 0;
        if (!s->authenticated)
                return login ? e->connected_ms + login : 0;
        if (e->mode == MODE_HANDSHAKE)
                return login ? e->active_ms + login : 0;
        if (e->mode != MODE_INPUT || e->blocked)
                return 0;
        wait = !s->idle_ok ? LOAD(t->command) : s->timeout_s ? (uint64_t)s->timeout_s * 1000 : LOAD(t->idle);
        return wait ? e->active_ms + wait : 0;
}

static uint64_t write_deadline(const struct session *s, const struct service_times *t)
{
        uint64_t wait = LOAD(t->write);

        return s->engine->blocked && wait ? s->engine->written_ms + wait : 0;
}

/* When is it time for stream_rest()? 0: never. */
static uint64_t rest_deadline(const struct session *s)
{
        const struct session_engine *e = s->engine;

        return e->mode == MODE_INPUT && s->idle_ok && !e->blocked && stream_can_rest(s->stream) ? e->active_ms + REST_MS : 0;
}

static void deadline_set(struct session *s)
{
        struct session_engine *e = s->engine;
        const struct service_times *times = service_times(s->service);
        uint64_t deadline = 0;

        if (e->mode != MODE_BROKEN && !(e->deferred & EV_KILL)) {
                earliest(&deadline, e->timer_ms);
                earliest(&deadline, e->close_by_ms);
                earliest(&deadline, write_deadline(s, times));
                earliest(&deadline, input_deadline(s, times));
                earliest(&deadline, rest_deadline(s));
        }
        timer_set(acceptor_timers(the_engine->acceptor), &e->slot->timer, deadline);
}

static void log_timeout(const struct session *s, const char *what)
{
        log_event(LOG_NOTE, s->name, "session.timeout", "peer=%s waited_for=%s", s->peer, what);
}

static void deadlines_check(struct session *s)
{
        struct session_engine *e = s->engine;
        const struct service_times *times = service_times(s->service);
        uint64_t now = clock_mono_ms(), at;

        if (e->timer_ms != 0 && e->timer_ms <= now) {
                e->timer_ms = 0;
                s->woken |= WAKE_TIMER;
                e->news = true;
        }
        if ((at = rest_deadline(s)) != 0 && at <= now)
                stream_rest(s->stream);
        if ((at = write_deadline(s, times)) != 0 && at <= now) {
                log_timeout(s, "write");
                e->deferred |= EV_KILL;
        }
        if (e->close_by_ms != 0 && e->close_by_ms <= now)
                e->deferred |= EV_KILL;
        if ((at = input_deadline(s, times)) != 0 && at <= now) {
                log_timeout(s, !s->authenticated ? "login" : e->mode == MODE_HANDSHAKE ? "handshake" : s->idle_ok ? "input" : "command");
                e->deferred |= WAKE_TIMEOUT;
        }
}

/* ---- what came in while it was parked -------------------------------------------------------------------------------------- */

static void absorb(struct session *s, unsigned bits)
{
        struct session_engine *e = s->engine;
        unsigned reasons = bits & (WAKE_NEWS | WAKE_DONE | WAKE_TIMER | WAKE_TOUCH);

        if (bits & EV_IN)
                e->try_read = true;
        s->woken |= reasons;
        e->news |= reasons != 0;
        e->deferred |= bits & (WAKE_STOP | WAKE_TIMEOUT | EV_KILL);
        if (bits & EV_DEADLINE)
                deadlines_check(s);
}

/* Hand over what was held back. Returns false when the session is to end at once. */
static bool deferred_deliver(struct session *s)
{
        struct session_engine *e = s->engine;
        unsigned tell = e->deferred & (WAKE_STOP | WAKE_TIMEOUT);

        if (e->deferred == 0 || atomic_load(&e->pending) > 0)
                return true;
        if (e->deferred & EV_KILL)
                return false;
        e->deferred = 0;
        if (e->mode == MODE_HANDSHAKE)
                return false;
        s->woken |= tell;
        e->news = true;
        if (!e->told) {
                e->told = true;
                earliest(&e->close_by_ms, clock_mono_ms() + GOODBYE_MS);
        }
        return true;
}

/* ---- output and input ------------------------------------------------------------------------------------------------------ */

static void broken(struct session *s, const char *during, const struct err *err)
{
        log_event(LOG_DBG, s->name, "session.broken", "during=%s reason=\"%s\"", during, err->text);
        rope_deinit(&s->out);
        s->engine->blocked = false;
        s->engine->mode = MODE_BROKEN;
}

static void flush(struct session *s)
{
        struct session_engine *e = s->engine;
        uint64_t before = stream_bytes_out(s->stream);
        struct err err = ERR_INIT;
        enum stream_result r;

        if (e->mode == MODE_HANDSHAKE || e->mode == MODE_BROKEN || e->mode == MODE_LINGER || (rope_empty(&s->out) && !e->blocked))
                return;
        r = stream_write(s->stream, &s->out, &err);
        if (!e->blocked || stream_bytes_out(s->stream) != before) {
                e->written_ms = clock_mono_ms();
                __atomic_store_n(&e->sent_ms, e->written_ms, __ATOMIC_RELAXED);
                if (e->blocked)
                        e->active_ms = e->written_ms;   /* a peer that reads on is not idle */
        }
        e->blocked = r == STREAM_BLOCKED_READ || r == STREAM_BLOCKED_WRITE;
        e->wants = r;
        if (r == STREAM_FAILED || r == STREAM_EOF) {
                if (err.code == ERR_CORRUPT || err.code == ERR_IO || err.code == ERR_NOTFOUND)
                        log_event(LOG_INFORM, s->name, "session.write", "peer=%s reason=\"%s\"", s->peer, err.text);
                broken(s, "write", &err);
        }
}

static size_t in_room(const struct session *s)
{
        size_t max = s->in_max ? s->in_max : SESSION_IN_MAX;

        return s->in.len < max ? max - s->in.len : 0;
}

static void touched(struct session *s)
{
        s->engine->active_ms = clock_mono_ms();
        __atomic_store_n(&s->engine->idle_since_ms, s->engine->active_ms, __ATOMIC_RELAXED);
}

/* The protocol waits for input. Is there something to tell it? */
static enum verdict input_ready(struct session *s)
{
        struct session_engine *e = s->engine;
        struct err err = ERR_INIT;
        size_t room = in_room(s);

        if (e->news && (s->woken & ~(unsigned)WAKE_NEWS || rope_empty(&s->out)))
                return VERDICT_RUN;
        if (s->out.bytes > ROPE_HIGH)
                return VERDICT_PARK;
        if (e->ran_at_eof) {
                e->mode = MODE_CLOSING;
                return VERDICT_AGAIN;
        }
        if (room == 0) {
                log_event(LOG_ERROR, s->name, "session.stuck", "protocol=%s octets=%zu", s->ops->protocol, s->in.len);
                e->mode = MODE_CLOSING;
                return VERDICT_AGAIN;
        }
        if (!e->try_read && !stream_pending(s->stream))
                return VERDICT_PARK;
        switch (stream_read(s->stream, &s->in, room < READ_AT_ONCE ? room : READ_AT_ONCE, &err)) {
        case STREAM_OK:
                e->try_read = !stream_drained(s->stream);
                touched(s);
                return VERDICT_RUN;
        case STREAM_EOF:
                s->eof = true;
                e->try_read = false;
                return VERDICT_RUN;
        case STREAM_BLOCKED_READ:
                e->try_read = false;
                return VERDICT_PARK;
        case STREAM_BLOCKED_WRITE:                      /* TLS has something to say first: flush() will be woken for it */
                e->blocked = true;
                e->wants = STREAM_BLOCKED_WRITE;
                return VERDICT_PARK;
        case STREAM_FAILED:
                break;
        }
        broken(s, "read", &err);
        return VERDICT_AGAIN;
}

/* ---- TLS and the end ------------------------------------------------------------------------------------------------------- */

static enum verdict handshake(struct session *s)
{
        struct session_engine *e = s->engine;
        struct err err = ERR_INIT;

        /* What was pipelined in clear is not the client's: somebody may have put it there (RFC 9051 11.1). */
        if (s->discard_input || !e->discarded)
                str_deinit(&s->in);
        s->discard_input = false;
        e->discarded = true;
        e->wants = stream_handshake(s->stream, &err);
        if (e->wants == STREAM_BLOCKED_READ || e->wants == STREAM_BLOCKED_WRITE)
                return VERDICT_PARK;
        if (e->wants == STREAM_OK) {
                __atomic_store_n(&e->tls, true, __ATOMIC_RELAXED);
                e->try_read = true;
                touched(s);
                return VERDICT_RUN;
        }
        log_event(LOG_NOTE, s->name, "tls.failed", "peer=%s reason=\"%s\"", s->peer, err.text);
        broken(s, "handshake", &err);
        return VERDICT_AGAIN;
}

/* Closing a socket with unread input resets it, and the peer may lose the goodbye that is on its way: our direction is ended, and
 * what still comes is thrown away, for a second at most. */
static enum verdict linger(struct session *s)
{
        struct session_engine *e = s->engine;
        char junk[4096];
        size_t total = 0;

        while (total < LINGER_BYTES) {
                ssize_t n = recv(stream_fd(s->stream), junk, sizeof junk, MSG_DONTWAIT);

                if (n > 0) {
                        total += (size_t)n;
                        continue;
                }
                if (n < 0 && (errno == EAGAIN || errno == EINTR) && e->close_by_ms > clock_mono_ms()) {
                        e->try_read = false;
                        return VERDICT_PARK;
                }
                break;
        }
        return VERDICT_END;
}

static bool unread(const struct session *s)
{
        char c;

        return recv(stream_fd(s->stream), &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

static enum verdict closing(struct session *s)
{
        struct session_engine *e = s->engine;

        if (!rope_empty(&s->out) || e->blocked)
                return VERDICT_PARK;
        if (atomic_load(&e->pending) > 0)
                return VERDICT_PARK;
        stream_shutdown(s->stream);
        if (s->eof || (s->in.len == 0 && !e->try_read && !unread(s)))
                return VERDICT_END;
        str_deinit(&s->in);
        e->mode = MODE_LINGER;
        e->close_by_ms = clock_mono_ms() + LINGER_MS;
        return VERDICT_AGAIN;
}

/* May run() be called? VERDICT_AGAIN: the mode has changed, look again. */
static enum verdict ready(struct session *s)
{
        struct session_engine *e = s->engine;

        switch (e->mode) {
        case MODE_INPUT:
                return input_ready(s);
        case MODE_WAIT:
                return e->news && s->woken & ~(unsigned)WAKE_NEWS ? VERDICT_RUN : VERDICT_PARK;
        case MODE_AGAIN:
                return s->out.bytes <= ROPE_HIGH ? VERDICT_RUN : VERDICT_PARK;
        case MODE_FLUSH:
                return s->out.bytes <= ROPE_HIGH / 4 ? VERDICT_RUN : VERDICT_PARK;
        case MODE_DRAIN:
                return rope_empty(&s->out) && !e->blocked ? VERDICT_RUN : VERDICT_PARK;
        case MODE_HANDSHAKE:
                return handshake(s);
        case MODE_CLOSING:
                return closing(s);
        case MODE_LINGER:
                return linger(s);
        case MODE_BROKEN:
                break;
        }
        return atomic_load(&e->pending) > 0 ? VERDICT_PARK : VERDICT_END;
}

/* ---- running --------------------------------------------------------------------------------------------------------------- */

static void mode_set(struct session *s, enum step step)
{
        static const enum session_mode modes[] = {
                [STEP_INPUT] = MODE_INPUT, [STEP_AGAIN] = MODE_AGAIN, [STEP_WAIT] = MODE_WAIT, [STEP_FLUSH] = MODE_FLUSH,
                [STEP_DRAIN] = MODE_DRAIN, [STEP_HANDSHAKE] = MODE_HANDSHAKE, [STEP_CLOSE] = MODE_CLOSING,
        };
        struct session_engine *e = s->engine;

        if (step == STEP_INPUT && e->mode != MODE_INPUT)
                touched(s);                             /* a command that took long has not used up the idle time */
        e->mode = modes[step];
        if (e->mode == MODE_HANDSHAKE)
                e->discarded = false;
        if (!s->authenticated && e->was_authenticated) {        /* a stranger again (RFC 8437), with the time that one has */
                e->was_authenticated = false;
                e->connected_ms = clock_mono_ms();
                limits_stranger(&e->place, e->connected_ms);
        }
        if (s->authenticated && !e->was_authenticated) {
                e->was_authenticated = true;
                limits_authenticated(&e->place);
        }
}

static enum step run(struct session *s)
{
        struct session_engine *e = s->engine;
        enum step step;

        e->news = false;
        step = s->ops->run(s);
        if (s->eof)
                e->ran_at_eof = true;
        mode_set(s, step);
        return step;
}

/* The first dispatch: what the acceptor should not spend its time on. Returns false when it cannot be served. */
static bool open_session(struct session *s)
{
        struct session_engine *e = s->engine;
        struct tls_context *tls;
        struct err err = ERR_INIT;

        e->opened = true;
        log_event(LOG_DBG, s->name, "session.open", "service=%s peer=%s", service_name(s->service), s->peer);
        if (s->ops->open)
                s->ops->open(s);
        if (e->mode != MODE_HANDSHAKE)
                return true;
        tls = service_tls(s->service);
        if (!tls)
                err_set(&err, ERR_CONFIG, "there is no certificate");
        else
                stream_start_tls(s->stream, tls, &err);
        tls_context_unref(&tls);
        if (err.code == ERR_NONE)
                return true;
        log_event(LOG_ERROR, s->name, "tls.unavailable", "service=%s reason=\"%s\"", service_name(s->service), err.text);
        return false;
}

/* Would the loop call run() again at once, perhaps for ever? */
static bool may_go_on(const struct session_engine *e)
{
        return e->mode == MODE_FLUSH || e->mode == MODE_DRAIN || (e->mode == MODE_INPUT && e->try_read);
}

static enum verdict advance(struct session *s, unsigned bits)
{
        struct session_engine *e = s->engine;

        if (!e->opened && !open_session(s))
                return VERDICT_END;
        absorb(s, bits);
        for (;;) {
                enum verdict v;

                if (!deferred_deliver(s))
                        return VERDICT_END;
                flush(s);
                v = ready(s);
                if (v == VERDICT_PARK || v == VERDICT_END)
                        return v;
                if (v == VERDICT_AGAIN)
                        continue;
                if (run(s) == STEP_AGAIN || (may_go_on(e) && session_slice_over(s))) {
                        flush(s);
                        return VERDICT_AGAIN;
                }
        }
}

/* ---- parking --------------------------------------------------------------------------------------------------------------- */

static uint32_t epoll_events(const struct session *s)
{
        const struct session_engine *e = s->engine;
        uint32_t events = 0;

        if (e->mode == MODE_BROKEN)
                return 0;
        if (e->blocked || e->mode == MODE_HANDSHAKE)
                events |= e->wants == STREAM_BLOCKED_READ ? EPOLLIN : EPOLLOUT;
        if ((e->mode == MODE_INPUT && s->out.bytes <= ROPE_HIGH && !s->eof) || e->mode == MODE_LINGER)
                events |= EPOLLIN | EPOLLRDHUP;
        return events;
}

static unsigned park_mask(const struct session *s, uint32_t events)
{
        const struct session_engine *e = s->engine;
        unsigned mask = EV_DEADLINE | WAKE_DONE;

        if (events & EPOLLIN)
                mask |= EV_IN;
        if (events)
                mask |= EV_OUT;
        if (atomic_load(&e->pending) == 0)
                mask |= WAKE_STOP | WAKE_TIMEOUT | EV_KILL;
        if (e->mode == MODE_INPUT || e->mode == MODE_WAIT)
                mask |= WAKE_TIMER | WAKE_TOUCH;
        if (e->mode == MODE_INPUT && rope_empty(&s->out) && !e->blocked)
                mask |= WAKE_NEWS;
        return mask;
}

static void give_back_memory(struct session *s)
{
        if (s->engine->mode != MODE_INPUT || !s->idle_ok)
                return;
        str_shrink(&s->in);
        stream_idle(s->stream);
}

/* Arm and park. Returns true when the session is somebody else's, false with bits that came meanwhile. */
static bool park(struct session *s, unsigned *bits_r)
{
        struct session_engine *e = s->engine;
        uint32_t events = epoll_events(s);
        struct err err = ERR_INIT;
        unsigned mask;

        give_back_memory(s);
        deadline_set(s);
        if (events && acceptor_arm(the_engine->acceptor, stream_fd(s->stream), s->id, events, &e->in_epoll, &err) < 0) {
                log_event(LOG_ERROR, s->name, "session.arm", "reason=\"%s\"", err.text);
                broken(s, "epoll", &err);
                *bits_r = slot_bits(e->slot);
                return false;
        }
        mask = park_mask(s, events);
        return slot_park(e->slot, mask, bits_r);
}

void session_dispatch(struct pool_item *item)
{
        struct slot *slot = (struct slot *)item;
        struct session *s = slot->session;
        unsigned bits = slot_begin(slot);

        s->engine->dispatched_us = clock_mono_us();
        s->slice_end_us = s->engine->dispatched_us + SLICE_MS * 1000;
        for (;;) {
                switch (advance(s, bits)) {
                case VERDICT_END:
                        if (atomic_load(&s->engine->pending) == 0) {
                                session_end(s);
                                return;
                        }
                        s->engine->mode = MODE_BROKEN;
                        rope_deinit(&s->out);
                        s->engine->blocked = false;
                        /* fall through */
                case VERDICT_PARK:
                        if (park(s, &bits))
                                return;
                        break;
                case VERDICT_AGAIN:
                case VERDICT_RUN:
                        slot_requeue(slot);
                        return;
                }
        }
}
