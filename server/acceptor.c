/*
 * acceptor - see acceptor.h.
 * Listeners are looked at under one lock, accept4() and the owner's functions included, so that closing one from another thread
 * cannot meet an accept on a descriptor number that is somebody else's by then.
 * maxchild: ready() is asked and `paused` set under that lock; who makes room counts down first and then calls acceptor_resume(),
 * which waits for the lock: no listener stays paused with room left.
 */
#include "server/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "server/engine_private.h"
#include "store/index.h"
#include "util/clock.h"
#include "util/file.h"
#include "util/log.h"
#include "util/must.h"

#define EVENTS_AT_ONCE 256
#define ACCEPTS_AT_ONCE 64                      /* of one listener per event: others get their turn */
#define BACKOFF_MS 200u
#define FDS_RESERVE 64u                         /* an eighth of the limit at most */
#define TOKEN_KICK UINT64_MAX
#define TOKEN_SESSIONS (UINT64_MAX - 1)         /* in the acceptor's own set: something is in that of the sessions */
#define TOKEN_LISTENER (UINT64_C(1) << 63)      /* | serial of the listener; slots stay below 2^31 */

struct listener {
        struct listener *next;
        int fd;
        uint64_t serial;
        const struct accept_ops *ops;
        void *ctx;
        bool paused;                            /* its owner is not ready */
        uint64_t backoff_until;                 /* clock_mono_ms(); 0: none */
        bool armed;
};

struct acceptor {
        int epfd, kickfd;                       /* listeners; to wake the thread */
        int sessions_epfd, workers_kickfd;      /* parked connections; to wake a worker that waits for one. Edge-triggered, never read */
        pthread_t thread;
        bool started;
        atomic_bool stop;
        struct timers *timers;
        struct mutex lock;                      /* listeners_class */
        struct listener *listeners;             /* guarded by lock, like all below */
        uint64_t next_serial;
        int spare_fd;                           /* /dev/null: given up to get one connection off the backlog */
        uint64_t exhausted_logged;
};

static void lock_listeners(struct acceptor *a) ACQUIRE(a->lock, listeners_class);
static void unlock_listeners(struct acceptor *a) RELEASE(a->lock, listeners_class);
static void lock_listeners(struct acceptor *a) NO_TSA { mutex_lock(&a->lock); }
static void unlock_listeners(struct acceptor *a) NO_TSA { mutex_unlock(&a->lock); }

static void kick_fd(int fd)
{
        uint64_t one = 1;
        ssize_t n = write(fd, &one, sizeof one);

        (void)n;                                        /* full: it is awake anyway */
}

static void kick(void *ctx)
{
        kick_fd(((struct acceptor *)ctx)->kickfd);
}

static void listener_arm_locked(struct acceptor *a, struct listener *l) REQUIRES(a->lock, listeners_class)
{
        bool want = !l->paused && l->backoff_until == 0;
        struct epoll_event ev = { .events = want ? EPOLLIN : 0, .data.u64 = TOKEN_LISTENER | l->serial };

        if (l->armed != want && epoll_ctl(a->epfd, EPOLL_CTL_MOD, l->fd, &ev) == 0)
                l->armed = want;
}

/* ---- accepting ------------------------------------------------------------------------------------------------------------ */

static void spare_open_locked(struct acceptor *a) REQUIRES(a->lock, listeners_class)
{
        if (a->spare_fd < 0)
                a->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* No descriptor is left: the client is better off with a closed connection than with one that never answers. */
static void exhausted_locked(struct acceptor *a, struct listener *l, int error) REQUIRES(a->lock, listeners_class)
{
        if (log_once(&a->exhausted_logged, 60))
                log_event(LOG_ERROR, NULL, "accept.exhausted", "reason=\"%s\"", strerror(error));
        if (a->spare_fd >= 0) {
                int fd;

                close(a->spare_fd);
                a->spare_fd = -1;
                fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
                if (fd >= 0)
                        close(fd);
                spare_open_locked(a);
        }
        l->backoff_until = clock_mono_ms() + BACKOFF_MS;
        listener_arm_locked(a, l);
}

/*
 * The last descriptors are not for connections: whoever is in already needs some to read his mail with. Returns the descriptor, perhaps
 * another than `fd`; -1 with EMFILE: closed.
 */
static int keep_reserve(int fd)
{
        struct rlimit limit;
        rlim_t reserve;
        int low;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
                return fd;
        reserve = limit.rlim_cur / 8 < FDS_RESERVE ? limit.rlim_cur / 8 : FDS_RESERVE;
        if ((rlim_t)fd < limit.rlim_cur - reserve)
                return fd;
        file_shed(0);
        index_fds_shed(0);
        low = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        close(fd);
        if (low >= 0 && (rlim_t)low < limit.rlim_cur - reserve)
                return low;
        if (low >= 0)
                close(low);
        errno = EMFILE;
        return -1;
}

/* Returns false when there is no more to accept now. */
static bool accept_one_locked(struct acceptor *a, struct listener *l) REQUIRES(a->lock, listeners_class)
{
        struct sockaddr_storage peer;
        socklen_t len = sizeof peer;
        int fd;

        memset(&peer, 0, sizeof peer);
        fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno == EMFILE) {
                file_shed(0);                           /* the store opens its files again when it needs them */
                index_fds_shed(0);
                len = sizeof peer;
                fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        }
        if (fd >= 0)
                fd = keep_reserve(fd);
        if (fd >= 0) {
                l->ops->accepted(l->ctx, fd, &peer, len);
                return true;
        }
        switch (errno) {
        case EAGAIN:
                return false;
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
                exhausted_locked(a, l, errno);
                return false;
        default:
                return true;                            /* that connection died before we took it (accept(2), ECONNABORTED …) */
        }
}

static void listener_event(struct acceptor *a, uint64_t serial)
{
        struct listener *l;

        lock_listeners(a);
        for (l = a->listeners; l && l->serial != serial; l = l->next)
                ;
        for (int i = 0; l && i < ACCEPTS_AT_ONCE; i++) {
                l->paused = !l->ops->ready(l->ctx);
                if (l->paused || !accept_one_locked(a, l))
                        break;
        }
        if (l)
                listener_arm_locked(a, l);
        unlock_listeners(a);
}

/* Listeners whose pause is over listen again. Returns in how many milliseconds the next one is, -1: none. */
static int backoffs_over(struct acceptor *a, uint64_t now)
{
        int wait = -1;

        lock_listeners(a);
        for (struct listener *l = a->listeners; l; l = l->next) {
                if (l->backoff_until == 0)
                        continue;
                if (l->backoff_until <= now) {
                        l->backoff_until = 0;
                        spare_open_locked(a);
                        listener_arm_locked(a, l);
                } else if (wait < 0 || (uint64_t)wait > l->backoff_until - now) {
                        wait = (int)(l->backoff_until - now);
                }
        }
        unlock_listeners(a);
        return wait;
}

/* ---- the thread ----------------------------------------------------------------------------------------------------------- */

static struct session_id session_of(const struct epoll_event *ev, unsigned *bits_r)
{
        *bits_r = 0;
        if (ev->events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP))
                *bits_r |= EV_IN;
        if (ev->events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
                *bits_r |= EV_OUT;
        return (struct session_id){ (uint32_t)(ev->data.u64 >> 32), (uint32_t)ev->data.u64 };
}

/* Worker for worker: each takes one event, and the session with it. */
struct pool_item *acceptor_wait_session(void *ctx)
{
        struct acceptor *a = ctx;
        struct epoll_event ev;
        struct session_id id;
        unsigned bits;

        if (epoll_wait(a->sessions_epfd, &ev, 1, -1) <= 0 || ev.data.u64 == TOKEN_KICK)
                return NULL;
        id = session_of(&ev, &bits);
        return slot_claim(id, bits);
}

void acceptor_kick_worker(void *ctx)
{
        kick_fd(((struct acceptor *)ctx)->workers_kickfd);
}

void acceptor_watch_sessions(void *ctx)
{
        struct acceptor *a = ctx;
        struct epoll_event ev = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = TOKEN_SESSIONS };

        must(epoll_ctl(a->epfd, EPOLL_CTL_MOD, a->sessions_epfd, &ev) == 0);
}

/*
 * All workers are busy, or were: what comes meanwhile goes to the queue. A kick that is found was meant for a worker: while all are busy the
 * next one to be free looks into the queue anyway, else it has to be sent once more.
 */
static void sessions_event(struct acceptor *a)
{
        struct epoll_event events[EVENTS_AT_ONCE];
        int n = epoll_wait(a->sessions_epfd, events, EVENTS_AT_ONCE, 0);
        bool kicked = false;

        for (int i = 0; i < n; i++) {
                struct session_id id;
                unsigned bits;

                if (events[i].data.u64 == TOKEN_KICK) {
                        kicked = true;
                        continue;
                }
                id = session_of(&events[i], &bits);
                slot_wake(id, bits);
        }
        if (pool_is_busy(the_engine->pool))
                acceptor_watch_sessions(a);
        else if (kicked)
                acceptor_kick_worker(a);
}

static void dispatch(struct acceptor *a, const struct epoll_event *ev)
{
        uint64_t junk;

        if (ev->data.u64 == TOKEN_KICK) {
                ssize_t n = read(a->kickfd, &junk, sizeof junk);

                (void)n;
                return;
        }
        if (ev->data.u64 == TOKEN_SESSIONS)
                sessions_event(a);
        else
                listener_event(a, ev->data.u64 & ~TOKEN_LISTENER);
}

/* The smaller of two waits in milliseconds; -1 is for ever. */
static int sooner(int a, int b)
{
        return a < 0 || (b >= 0 && b < a) ? b : a;
}

static void *acceptor_main(void *arg)
{
        struct acceptor *a = arg;
        struct epoll_event events[EVENTS_AT_ONCE];

        while (!atomic_load(&a->stop)) {
                uint64_t now = clock_mono_ms();
                int wait, n;

                timers_run(a->timers, now, slot_timer_due, NULL);
                wait = sooner(backoffs_over(a, now), engine_idle_tick(now));
                wait = timers_wait_ms(a->timers, now, wait);
                n = epoll_wait(a->epfd, events, EVENTS_AT_ONCE, wait);
                must(n >= 0 || errno == EINTR);
                for (int i = 0; i < n; i++)
                        dispatch(a, &events[i]);
        }
        return NULL;
}

int acceptor_create(struct acceptor **a_r, struct err *err)
{
        struct acceptor *a = xcalloc(1, sizeof *a);
        struct epoll_event ev = { .events = EPOLLIN, .data.u64 = TOKEN_KICK }, sessions = { .events = EPOLLONESHOT, .data.u64 = TOKEN_SESSIONS };
        struct epoll_event edge = { .events = EPOLLIN | EPOLLET, .data.u64 = TOKEN_KICK };

        mutex_init(&a->lock);
        a->spare_fd = -1;
        a->timers = timers_create(clock_mono_ms(), kick, a);
        a->epfd = epoll_create1(EPOLL_CLOEXEC);
        a->kickfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        a->sessions_epfd = epoll_create1(EPOLL_CLOEXEC);
        a->workers_kickfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (a->epfd < 0 || a->kickfd < 0 || a->sessions_epfd < 0 || a->workers_kickfd < 0 ||
            epoll_ctl(a->epfd, EPOLL_CTL_ADD, a->kickfd, &ev) < 0 ||
            epoll_ctl(a->epfd, EPOLL_CTL_ADD, a->sessions_epfd, &sessions) < 0 ||
            epoll_ctl(a->sessions_epfd, EPOLL_CTL_ADD, a->workers_kickfd, &edge) < 0) {
                err_errno(err, errno, "epoll");
                acceptor_destroy(&a);
                return -1;
        }
        a->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        *a_r = a;
        return 0;
}

int acceptor_start(struct acceptor *a, struct err *err)
{
        int rc = thread_start(&a->thread, "acceptor", 0, acceptor_main, a);

        if (rc != 0)
                return err_errno(err, rc, "start the acceptor");
        a->started = true;
        return 0;
}

void acceptor_stop(struct acceptor *a)
{
        if (!a->started)
                return;
        atomic_store(&a->stop, true);
        kick(a);
        must(pthread_join(a->thread, NULL) == 0);
        a->started = false;
}

void acceptor_destroy(struct acceptor **ap)
{
        struct acceptor *a = *ap;

        *ap = NULL;
        if (!a)
                return;
        acceptor_stop(a);
        while (a->listeners) {
                struct listener *l = a->listeners;

                acceptor_unlisten(a, &l);
        }
        timers_destroy(&a->timers);
        if (a->epfd >= 0)
                close(a->epfd);
        if (a->kickfd >= 0)
                close(a->kickfd);
        if (a->sessions_epfd >= 0)
                close(a->sessions_epfd);
        if (a->workers_kickfd >= 0)
                close(a->workers_kickfd);
        if (a->spare_fd >= 0)
                close(a->spare_fd);
        mutex_deinit(&a->lock);
        free(a);
}

struct timers *acceptor_timers(struct acceptor *a)
{
        return a->timers;
}

int acceptor_arm(struct acceptor *a, int fd, struct session_id id, uint32_t events, bool *added, struct err *err)
{
        struct epoll_event ev = { .events = events | EPOLLONESHOT, .data.u64 = (uint64_t)id.slot << 32 | id.generation };

        if (epoll_ctl(a->sessions_epfd, *added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &ev) < 0)
                return err_errno(err, errno, "epoll_ctl");
        *added = true;
        return 0;
}

void acceptor_disarm(struct acceptor *a, int fd)
{
        epoll_ctl(a->sessions_epfd, EPOLL_CTL_DEL, fd, NULL);
}

/* ---- listeners ------------------------------------------------------------------------------------------------------------ */

int acceptor_listen(struct acceptor *a, int fd, const struct accept_ops *ops, void *ctx, struct listener **l_r, struct err *err)
{
        struct listener *l = xcalloc(1, sizeof *l);
        struct epoll_event ev = { .events = EPOLLIN };
        int flags = fcntl(fd, F_GETFL);
        int rc = 0;

        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
                free(l);
                return err_errno(err, errno, "listening socket");
        }
        l->fd = fd;
        l->ops = ops;
        l->ctx = ctx;
        l->armed = true;
        lock_listeners(a);
        l->serial = ++a->next_serial;
        ev.data.u64 = TOKEN_LISTENER | l->serial;
        if (epoll_ctl(a->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
                rc = err_errno(err, errno, "epoll_ctl");
        } else {
                l->next = a->listeners;
                a->listeners = l;
        }
        unlock_listeners(a);
        if (rc < 0)
                free(l);
        else
                *l_r = l;
        return rc;
}

void acceptor_resume(struct acceptor *a, struct listener *l)
{
        lock_listeners(a);
        l->paused = false;
        listener_arm_locked(a, l);
        unlock_listeners(a);
}

void acceptor_unlisten(struct acceptor *a, struct listener **lp)
{
        struct listener *l = *lp;

        *lp = NULL;
        if (!l)
                return;
        lock_listeners(a);
        for (struct listener **at = &a->listeners; *at; at = &(*at)->next) {
                if (*at == l) {
                        *at = l->next;
                        break;
                }
        }
        epoll_ctl(a->epfd, EPOLL_CTL_DEL, l->fd, NULL);
        close(l->fd);
        unlock_listeners(a);
        free(l);
}
