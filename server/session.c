/*
 * session - the table of sessions and what other threads may do to one. See session.h, and engine_private.h for the states.
 * How a worker runs one is in session_run.c.
 */
#include "server/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/engine_private.h"
#include "server/metrics.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/must.h"

#define CHUNK_SLOTS 256u
#define CHUNKS_MAX 4096u                        /* a million sessions: far above what descriptors allow */
#define INFO_STRIPES 64u
#define SNDBUF_BYTES (96 * 1024)                /* the kernel doubles it: thousands of peers that don't read must not fill it */

/* The table outlives engines: a wake from a thread that is late finds slots, and no session in them. */
static struct {
        struct mutex lock;                      /* slots_class */
        struct slot *_Atomic chunks[CHUNKS_MAX];
        uint32_t slots;                         /* guarded by lock */
        struct slot *free;                      /* guarded by lock */
        struct mutex info[INFO_STRIPES];        /* info_class */
        bool ready;
} table = { .lock = MUTEX_INIT };

static void lock_slots(void) ACQUIRE(table.lock, slots_class);
static void unlock_slots(void) RELEASE(table.lock, slots_class);
static void lock_slots(void) NO_TSA { mutex_lock(&table.lock); }
static void unlock_slots(void) NO_TSA { mutex_unlock(&table.lock); }
void info_lock(const struct slot *slot) NO_TSA { mutex_lock(&table.info[slot->index % INFO_STRIPES]); }
void info_unlock(const struct slot *slot) NO_TSA { mutex_unlock(&table.info[slot->index % INFO_STRIPES]); }

/* ---- the word ------------------------------------------------------------------------------------------------------------- */

static uint64_t word_make(uint32_t generation, enum slot_state state, unsigned mask, unsigned bits)
{
        return (uint64_t)generation << 32 | (uint64_t)state << 28 | (uint64_t)mask << 14 | bits;
}

static uint32_t word_generation(uint64_t w) { return (uint32_t)(w >> 32); }
static enum slot_state word_state(uint64_t w) { return (enum slot_state)(w >> 28 & 15); }
static unsigned word_mask(uint64_t w) { return (unsigned)(w >> 14) & EV_ALL; }
static unsigned word_bits(uint64_t w) { return (unsigned)w & EV_ALL; }

static struct slot *slot_find(uint32_t index)
{
        struct slot *chunk = index / CHUNK_SLOTS < CHUNKS_MAX ? atomic_load(&table.chunks[index / CHUNK_SLOTS]) : NULL;

        return chunk ? &chunk[index % CHUNK_SLOTS] : NULL;
}

/* Add bits. The slot when that made it QUEUED, and it is the caller's to have it run; else NULL. */
static struct slot *wake(struct session_id id, unsigned bits, bool *hurry_r)
{
        struct slot *slot = slot_find(id.slot);
        uint64_t w, next;
        bool queue;

        if (!slot)
                return NULL;
        w = atomic_load(&slot->word);
        do {
                if (word_generation(w) != id.generation || word_state(w) == SLOT_FREE)
                        return NULL;
                queue = word_state(w) == SLOT_PARKED && ((word_bits(w) | bits) & word_mask(w));
                next = word_make(id.generation, queue ? SLOT_QUEUED : word_state(w), word_mask(w), word_bits(w) | bits);
                if (next == w)
                        return NULL;                    /* nothing new: wakes coalesce */
        } while (!atomic_compare_exchange_weak(&slot->word, &w, next));
        *hurry_r = (word_bits(next) & word_mask(next) & ~(unsigned)(WAKE_NEWS | WAKE_TOUCH)) != 0;
        return queue ? slot : NULL;
}

void slot_wake(struct session_id id, unsigned bits)
{
        bool hurry;
        struct slot *slot = wake(id, bits, &hurry);

        if (slot)
                pool_push(the_engine->pool, &slot->item, hurry ? POOL_FRESH : POOL_NEWS);
}

struct pool_item *slot_claim(struct session_id id, unsigned bits)
{
        bool hurry;
        struct slot *slot = wake(id, bits, &hurry);

        return slot ? &slot->item : NULL;
}

void session_wake(struct session_id id, unsigned reasons)
{
        must((reasons & ~(unsigned)WAKE_ALL) == 0);
        slot_wake(id, reasons);
}

void slot_timer_due(void *ctx, struct timer *timer)
{
        struct slot *slot = (struct slot *)((char *)timer - offsetof(struct slot, timer));

        (void)ctx;
        slot_wake((struct session_id){ slot->index, word_generation(atomic_load(&slot->word)) }, EV_DEADLINE);
}

/* Only the worker that runs the session, or takes it from the queue, calls the following: the state cannot change under it. */
static unsigned word_change(struct slot *slot, enum slot_state from, enum slot_state to, unsigned mask, bool keep_bits)
{
        uint64_t w = atomic_load(&slot->word), next;

        do {
                must(word_state(w) == from);
                next = word_make(word_generation(w), to, mask, keep_bits ? word_bits(w) : 0);
        } while (!atomic_compare_exchange_weak(&slot->word, &w, next));
        return word_bits(w);
}

unsigned slot_begin(struct slot *slot)
{
        return word_change(slot, SLOT_QUEUED, SLOT_RUNNING, 0, false);
}

unsigned slot_bits(struct slot *slot)
{
        return word_change(slot, SLOT_RUNNING, SLOT_RUNNING, 0, false);
}

void slot_requeue(struct slot *slot)
{
        word_change(slot, SLOT_RUNNING, SLOT_QUEUED, 0, true);
        pool_push(the_engine->pool, &slot->item, POOL_AGAIN);
}

bool slot_park(struct slot *slot, unsigned mask, unsigned *bits_r)
{
        uint64_t w = atomic_load(&slot->word), next;

        do {
                must(word_state(w) == SLOT_RUNNING);
                if (word_bits(w) & mask) {
                        *bits_r = slot_bits(slot);
                        return false;
                }
                next = word_make(word_generation(w), SLOT_PARKED, mask, word_bits(w));
        } while (!atomic_compare_exchange_weak(&slot->word, &w, next));
        return true;
}

/* ---- slots ---------------------------------------------------------------------------------------------------------------- */

static bool table_grow_locked(void) REQUIRES(table.lock, slots_class)
{
        uint32_t chunk = table.slots / CHUNK_SLOTS;
        struct slot *slots;

        if (chunk >= CHUNKS_MAX)
                return false;
        if (!table.ready) {
                for (unsigned i = 0; i < INFO_STRIPES; i++)
                        mutex_init(&table.info[i]);
                table.ready = true;
        }
        slots = xcalloc(CHUNK_SLOTS, sizeof *slots);
        for (uint32_t i = CHUNK_SLOTS; i-- > 0;) {
                slots[i].index = table.slots + i;
                timer_init(&slots[i].timer);
                atomic_init(&slots[i].word, word_make(1, SLOT_FREE, 0, 0));
                slots[i].next_free = table.free;
                table.free = &slots[i];
        }
        table.slots += CHUNK_SLOTS;
        atomic_store(&table.chunks[chunk], slots);
        return true;
}

static struct slot *slot_take(void)
{
        struct slot *slot = NULL;

        lock_slots();
        if (table.free || table_grow_locked()) {
                slot = table.free;
                table.free = slot->next_free;
        }
        unlock_slots();
        return slot;
}

static void slot_give(struct slot *slot)
{
        lock_slots();
        slot->next_free = table.free;
        table.free = slot;
        unlock_slots();
}

static uint32_t slots_now(void)
{
        uint32_t n;

        lock_slots();
        n = table.slots;
        unlock_slots();
        return n;
}

void sessions_wake_all(unsigned bits)
{
        uint32_t n = slots_now();

        for (uint32_t i = 0; i < n; i++) {
                struct slot *slot = slot_find(i);

                slot_wake((struct session_id){ i, word_generation(atomic_load(&slot->word)) }, bits);
        }
}

void sessions_each(void (*fn)(void *ctx, struct session *s, enum slot_state state), void *ctx)
{
        uint32_t n = slots_now();

        for (uint32_t i = 0; i < n; i++) {
                struct slot *slot = slot_find(i);

                info_lock(slot);
                if (slot->session)
                        fn(ctx, slot->session, word_state(atomic_load(&slot->word)));
                info_unlock(slot);
        }
}

/* ---- birth and death ------------------------------------------------------------------------------------------------------ */

static void format_address(char *buf, size_t size, const struct sockaddr_storage *a)
{
        char text[INET6_ADDRSTRLEN] = "?";

        if (a->ss_family == AF_INET) {
                const struct sockaddr_in *in = (const struct sockaddr_in *)a;

                inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
                snprintf(buf, size, "%s:%u", text, ntohs(in->sin_port));
        } else if (a->ss_family == AF_INET6) {
                const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;

                if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
                        inet_ntop(AF_INET, in6->sin6_addr.s6_addr + 12, text, sizeof text);
                        snprintf(buf, size, "%s:%u", text, ntohs(in6->sin6_port));
                } else {
                        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
                        snprintf(buf, size, "[%s]:%u", text, ntohs(in6->sin6_port));
                }
        } else {
                snprintf(buf, size, "unix");
        }
}

/* Options of the socket; none of them is worth refusing a connection for. */
static void tune_socket(int fd, int family)
{
        struct conf *conf;
        int one = 1, sndbuf = SNDBUF_BYTES;

        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, sizeof sndbuf);
        if (family != AF_INET && family != AF_INET6)
                return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        conf = engine_conf();
        if (conf_switch(conf, NULL, "tcp_keepalive")) {
                int count = (int)conf_int(conf, NULL, "tcp_keepalive_cnt");
                int idle = (int)conf_duration_s(conf, NULL, "tcp_keepalive_idle");
                int interval = (int)conf_duration_s(conf, NULL, "tcp_keepalive_intvl");

                setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
                if (count > 0)
                        setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
                if (idle > 0)
                        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
                if (interval > 0)
                        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
        }
        conf_unref(&conf);
}

/* The protocol's own line for a client that a limit turns away – in clear, so not where TLS comes first. The socket's buffer is
 * empty: it takes the line or the client does without. The caller closes. */
void session_refuse(struct service *service, int fd, const char *peer, const char *why)
{
        const struct service_params *params = service_params(service);
        const char *line = params->ops ? params->ops->too_many : NULL;
        static uint64_t logged;                         /* log_once(): under attack this is the commonest event of all */

        atomic_fetch_add(&the_engine->refused, 1);
        if (log_once(&logged, 1))
                log_event(LOG_NOTE, NULL, "connection.refused", "service=%s peer=%s reason=\"%s\"", params->name, peer, why);
        if (line && !params->tls_at_once) {
                ssize_t n = send(fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL);

                (void)n;
        }
}

static struct session *session_make(struct service *service, int fd, const struct sockaddr_storage *peer, const struct adoption *adoption,
                                    struct slot *slot)
{
        const struct service_params *params = service_params(service);
        const struct session_ops *ops = params->ops && !params->refusal ? params->ops : &refusal_ops;
        size_t head = (sizeof(struct session) + 15) & ~(size_t)15, middle = (sizeof(struct session_engine) + 15) & ~(size_t)15;
        struct session *s = xcalloc(1, head + middle + ops->size);
        struct sockaddr_storage local;
        socklen_t len = sizeof local;
        uint64_t now = clock_mono_ms();

        s->engine = (struct session_engine *)((char *)s + head);
        s->self = (char *)s + head + middle;
        s->ops = ops;
        s->service = service_ref(service);
        str_init(&s->in);
        rope_init(&s->out);
        arena_init(&s->arena);
        s->started = clock_wall_s();
        s->peer_is_unix = peer->ss_family != AF_INET && peer->ss_family != AF_INET6;
        format_address(s->peer, sizeof s->peer, peer);
        s->engine->lifeline = adoption ? adoption->lifeline : -1;
        if (adoption && !adoption->listened && s->peer_is_unix) {
                s->peer_is_unix = false;
                snprintf(s->peer, sizeof s->peer, "tunnel");
        }
        memset(&local, 0, sizeof local);
        if (getsockname(fd, (struct sockaddr *)&local, &len) < 0)
                memset(&local, 0, sizeof local);
        format_address(s->local, sizeof s->local, &local);
        snprintf(s->name, sizeof s->name, "%08x-%llx", (unsigned)the_engine->name_base,
                 (unsigned long long)atomic_fetch_add(&the_engine->name_next, 1) & 0xffffffffffULL);
        s->id.slot = slot->index;
        s->id.generation = word_generation(atomic_load(&slot->word));
        s->stream = stream_create(fd);
        s->engine->slot = slot;
        s->engine->mode = params->tls_at_once ? MODE_HANDSHAKE : MODE_AGAIN;
        s->engine->connected_ms = s->engine->active_ms = s->engine->written_ms = now;
        s->engine->idle_since_ms = s->engine->sent_ms = now;
        return s;
}

static void adoption_ends(struct adoption *adoption)
{
        if (adoption && adoption->lifeline >= 0)
                close(adoption->lifeline);
}

bool session_begin(struct service *service, int fd, const struct sockaddr_storage *peer, struct adoption *adoption)
{
        const struct service_params *params = service_params(service);
        struct slot *slot = slot_take();
        struct session_id evict;
        struct session *s;
        uint64_t w;

        atomic_fetch_add(&the_engine->accepted, 1);
        tune_socket(fd, peer->ss_family);
        if (!slot) {
                session_refuse(service, fd, "?", "no more sessions");
                close(fd);
                adoption_ends(adoption);
                return false;
        }
        s = session_make(service, fd, peer, adoption, slot);
        switch (limits_enter(&s->engine->place, peer, params->name, params->per_address_max, s->id, s->engine->connected_ms, &evict)) {
        case LIMITS_OK:
                break;
        case LIMITS_HOST:
        case LIMITS_STRANGERS:
                session_refuse(service, fd, s->peer, "too many connections");
                adoption_ends(adoption);
                stream_destroy(&s->stream);
                service_unref(&s->service);
                free(s);
                slot_give(slot);
                return false;
        }
        if (adoption)
                snprintf(adoption->name_r, sizeof adoption->name_r, "%s", s->name);
        atomic_fetch_add(&the_engine->sessions, 1);
        info_lock(slot);
        slot->session = s;
        info_unlock(slot);
        w = atomic_load(&slot->word);
        must(word_state(w) == SLOT_FREE);
        atomic_store(&slot->word, word_make(word_generation(w), SLOT_QUEUED, 0, atomic_load(&the_engine->stopping) ? WAKE_STOP : 0));
        pool_push(the_engine->pool, &slot->item, POOL_FRESH);
        if (evict.generation != 0)
                slot_wake(evict, EV_KILL);
        return true;
}

void session_end(struct session *s)
{
        struct session_engine *e = s->engine;
        struct slot *slot = e->slot;
        struct service *service = s->service;
        uint32_t generation = s->id.generation + 1;

        must(atomic_load(&e->pending) == 0);
        if (e->opened)
                s->ops->close(s);
        timer_cancel(acceptor_timers(the_engine->acceptor), &slot->timer);
        limits_leave(&e->place);
        info_lock(slot);
        slot->session = NULL;
        info_unlock(slot);
        atomic_store(&slot->word, word_make(generation ? generation : 1, SLOT_FREE, 0, 0));
        slot_give(slot);

        metric_add(METRIC_OCTETS_IN, stream_bytes_in(s->stream));
        metric_add(METRIC_OCTETS_OUT, stream_bytes_out(s->stream));
        rope_deinit(&s->out);
        str_deinit(&s->in);
        arena_deinit(&s->arena);
        if (e->in_epoll)
                acceptor_disarm(the_engine->acceptor, stream_fd(s->stream));
        stream_destroy(&s->stream);
        if (e->lifeline >= 0)
                close(e->lifeline);
        free(e->user);
        free(e->mailbox);
        free(s);
        service_session_gone(service);
        service_unref(&service);
        if (atomic_fetch_sub(&the_engine->sessions, 1) == 1 && atomic_load(&the_engine->stopping)) {
                mutex_lock(&the_engine->lock);
                cond_broadcast(&the_engine->gone);
                mutex_unlock(&the_engine->lock);
        }
}

/* ---- for protocols -------------------------------------------------------------------------------------------------------- */

bool session_slice_over(const struct session *s)
{
        return clock_mono_us() >= s->slice_end_us;
}

void session_timer(struct session *s, uint32_t ms)
{
        s->engine->timer_ms = ms ? clock_mono_ms() + ms : 0;
}

/* The owner of the waiter is the session: it lives as long as something is pending. After the count goes down it may be gone. */
static void waiter_wakes_session(struct waiter *told)
{
        struct session *s = told->owner;
        struct session_id id = s->id;

        atomic_fetch_sub(&s->engine->pending, 1);
        slot_wake(id, WAKE_DONE);
}

void session_waiter(struct session *s, struct waiter *w)
{
        waiter_init(w, waiter_wakes_session, s);
        atomic_fetch_add(&s->engine->pending, 1);
}

void session_waiter_cancel(struct session *s, struct waiter *w)
{
        must(w->owner == s);
        w->owner = NULL;
        atomic_fetch_sub(&s->engine->pending, 1);
}

static void replace_text(char **text, const char *with)
{
        if (*text && with && strcmp(*text, with) == 0)
                return;
        free(*text);
        *text = with ? xstrdup(with) : NULL;
}

void session_set_user(struct session *s, const char *user)
{
        struct slot *slot = s->engine->slot;

        info_lock(slot);
        replace_text(&s->engine->user, user);
        info_unlock(slot);
        limits_user(&s->engine->place, user);
}

void session_set_status(struct session *s, const char *mailbox_or_null, const char *command)
{
        struct session_engine *e = s->engine;

        info_lock(e->slot);
        if (mailbox_or_null || e->mailbox)
                replace_text(&e->mailbox, mailbox_or_null);
        snprintf(e->command, sizeof e->command, "%s", command ? command : "");
        info_unlock(e->slot);
}

int64_t session_trace_until(const struct session *s)
{
        return __atomic_load_n(&s->engine->trace_until, __ATOMIC_RELAXED);
}

static unsigned login_limit(const struct session *s, const struct conf *conf, const char *option)
{
        int64_t n = conf_int(conf, service_name(s->service), option);

        return n <= 0 || n > UINT32_MAX ? 0 : (unsigned)n;
}

bool session_login(struct session *s, const struct conf *conf, const char *user, bool is_admin, struct err *err)
{
        unsigned per_user = is_admin ? 0 : login_limit(s, conf, "maxlogins_per_user");
        unsigned per_host = is_admin ? 0 : login_limit(s, conf, "maxlogins_per_host");

        if (limits_login(&s->engine->place, user, per_user, per_host))
                return true;
        err_set(err, ERR_LIMIT, "maxlogins_per_user or maxlogins_per_host");
        return false;
}
