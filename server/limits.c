/* limits - see limits.h */
#include "server/limits.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/hash.h"
#include "util/must.h"
#include "util/str.h"

#define STRANGER_GRACE_MS 3000u                 /* nobody is evicted sooner: a burst of honest clients must get through */

struct limits_host {                            /* an address, or an address and a service; freed when nobody is left */
        unsigned connections, strangers, logged_in;
        size_t key_len;
        char key[];
};

struct limits_user {
        unsigned sessions;
        size_t key_len;
        char key[];
};

static struct {                                 /* one set of limits for the process */
        struct mutex lock;
        struct table *hosts, *users;            /* these and all below: guarded by lock */
        struct limits_place *oldest, *newest;   /* strangers */
        unsigned strangers;
        unsigned per_host_service, strangers_max, strangers_per_host;
} limits = { .lock = MUTEX_INIT };

static void lock_limits(void) ACQUIRE(limits.lock, limits_class);
static void unlock_limits(void) RELEASE(limits.lock, limits_class);
static void lock_limits(void) NO_TSA { mutex_lock(&limits.lock); }
static void unlock_limits(void) NO_TSA { mutex_unlock(&limits.lock); }

static unsigned limit_of(struct conf *conf, const char *option)
{
        int64_t n = conf_int(conf, NULL, option);

        return n <= 0 || n > 1000000000 ? 0 : (unsigned)n;
}

void limits_setup(struct conf *conf)
{
        lock_limits();
        if (!limits.hosts) {
                limits.hosts = table_create();
                limits.users = table_create();
        }
        limits.per_host_service = limit_of(conf, "maxconnections_per_host");
        limits.strangers_max = limit_of(conf, "maxunauthenticated");
        limits.strangers_per_host = limit_of(conf, "maxunauthenticated_per_host");
        unlock_limits();
}

void limits_teardown(void)
{
        lock_limits();
        table_destroy(&limits.hosts);
        table_destroy(&limits.users);
        unlock_limits();
}

/* The octets an address is counted by: 4 of IPv4, the first 8 of IPv6. 0: not counted. */
static size_t address_key(const struct sockaddr_storage *peer, unsigned char key[8])
{
        if (peer->ss_family == AF_INET) {
                memcpy(key, &((const struct sockaddr_in *)peer)->sin_addr, 4);
                return 4;
        }
        if (peer->ss_family == AF_INET6) {
                const struct in6_addr *a = &((const struct sockaddr_in6 *)peer)->sin6_addr;

                if (IN6_IS_ADDR_V4MAPPED(a)) {
                        memcpy(key, a->s6_addr + 12, 4);
                        return 4;
                }
                memcpy(key, a->s6_addr, 8);
                return 8;
        }
        return 0;
}

static struct limits_host *host_get_locked(struct span key) REQUIRES(limits.lock, limits_class)
{
        struct limits_host *h = table_find(limits.hosts, key);

        if (!h) {
                h = xcalloc(1, sizeof *h + key.len);
                h->key_len = key.len;
                memcpy(h->key, key.p, key.len);
                table_set(limits.hosts, key, h);
        }
        return h;
}

static void host_put_locked(struct limits_host **hp) REQUIRES(limits.lock, limits_class)
{
        struct limits_host *h = *hp;

        *hp = NULL;
        if (!h || h->connections > 0)
                return;
        table_set(limits.hosts, (struct span){ h->key, h->key_len }, NULL);
        free(h);
}

static void stranger_add_locked(struct limits_place *p) REQUIRES(limits.lock, limits_class)
{
        p->stranger = true;
        p->next = NULL;
        p->prev = limits.newest;
        if (limits.newest)
                limits.newest->next = p;
        else
                limits.oldest = p;
        limits.newest = p;
        limits.strangers++;
        if (p->host)
                p->host->strangers++;
}

static void stranger_remove_locked(struct limits_place *p) REQUIRES(limits.lock, limits_class)
{
        if (!p->stranger)
                return;
        p->stranger = false;
        if (p->prev)
                p->prev->next = p->next;
        else
                limits.oldest = p->next;
        if (p->next)
                p->next->prev = p->prev;
        else
                limits.newest = p->prev;
        p->prev = p->next = NULL;
        limits.strangers--;
        if (p->host)
                p->host->strangers--;
}

/* May one more stranger come in, and who leaves for him? */
static enum limits_verdict admit_locked(const struct limits_place *p, int per_address_max, uint64_t now_ms,
                                        struct session_id *evict_r) REQUIRES(limits.lock, limits_class)
{
        unsigned max = per_address_max > 0 ? (unsigned)per_address_max : limits.per_host_service;

        if (p->host_service && max && p->host_service->connections >= max)
                return LIMITS_HOST;
        if (p->host && limits.strangers_per_host && p->host->strangers >= limits.strangers_per_host)
                return LIMITS_HOST;
        if (!limits.strangers_max || limits.strangers < limits.strangers_max)
                return LIMITS_OK;
        if (!limits.oldest || now_ms - limits.oldest->since_ms < STRANGER_GRACE_MS)
                return LIMITS_STRANGERS;
        *evict_r = limits.oldest->id;
        stranger_remove_locked(limits.oldest);          /* so that the next one does not pick him again while he leaves */
        return LIMITS_OK;
}

enum limits_verdict limits_enter(struct limits_place *p, const struct sockaddr_storage *peer, const char *service,
                                 int per_address_max, struct session_id id, uint64_t now_ms, struct session_id *evict_r)
{
        unsigned char address[8];
        size_t len = address_key(peer, address);
        enum limits_verdict verdict;

        memset(p, 0, sizeof *p);
        memset(evict_r, 0, sizeof *evict_r);
        p->id = id;
        p->since_ms = now_ms;
        lock_limits();
        if (len > 0) {
                char key[128];
                int n = snprintf(key + len, sizeof key - len, "/%s", service);

                memcpy(key, address, len);
                p->host = host_get_locked((struct span){ key, len });
                if ((size_t)n >= sizeof key - len)
                        n = (int)(sizeof key - len - 1);
                p->host_service = host_get_locked((struct span){ key, len + (size_t)n });
        }
        verdict = admit_locked(p, per_address_max, now_ms, evict_r);
        if (verdict == LIMITS_OK) {
                if (p->host)
                        p->host->connections++;
                if (p->host_service)
                        p->host_service->connections++;
                stranger_add_locked(p);
        } else {
                host_put_locked(&p->host);
                host_put_locked(&p->host_service);
        }
        unlock_limits();
        return verdict;
}

static void logged_in_locked(struct limits_place *p) REQUIRES(limits.lock, limits_class)
{
        if (p->logged_in)
                return;
        p->logged_in = true;
        stranger_remove_locked(p);
        if (p->host)
                p->host->logged_in++;
}

void limits_authenticated(struct limits_place *p)
{
        lock_limits();
        logged_in_locked(p);
        unlock_limits();
}

void limits_stranger(struct limits_place *p, uint64_t now_ms)
{
        lock_limits();
        if (p->logged_in) {
                p->logged_in = false;
                p->since_ms = now_ms;
                if (p->host)
                        p->host->logged_in--;
                stranger_add_locked(p);
        }
        unlock_limits();
}

static void user_put_locked(struct limits_place *p) REQUIRES(limits.lock, limits_class)
{
        struct limits_user *u = p->user;

        p->user = NULL;
        if (!u || --u->sessions > 0)
                return;
        table_set(limits.users, (struct span){ u->key, u->key_len }, NULL);
        free(u);
}

static void user_get_locked(struct limits_place *p, struct span key) REQUIRES(limits.lock, limits_class)
{
        struct limits_user *u = table_find(limits.users, key);

        if (!u) {
                u = xcalloc(1, sizeof *u + key.len);
                u->key_len = key.len;
                memcpy(u->key, key.p, key.len);
                table_set(limits.users, key, u);
        }
        u->sessions++;
        p->user = u;
}

void limits_user(struct limits_place *p, const char *user)
{
        lock_limits();
        user_put_locked(p);
        if (user)
                user_get_locked(p, span_of(user));
        unlock_limits();
}

bool limits_login(struct limits_place *p, const char *user, unsigned per_user, unsigned per_host)
{
        const struct limits_user *u;
        bool room;

        lock_limits();
        user_put_locked(p);
        u = table_find(limits.users, span_of(user));
        room = (!per_user || !u || u->sessions < per_user) && (!per_host || !p->host || p->logged_in || p->host->logged_in < per_host);
        if (room) {
                user_get_locked(p, span_of(user));
                logged_in_locked(p);
        }
        unlock_limits();
        return room;
}

void limits_leave(struct limits_place *p)
{
        lock_limits();
        stranger_remove_locked(p);
        user_put_locked(p);
        if (p->host) {
                if (p->logged_in)
                        p->host->logged_in--;
                p->host->connections--;
                p->host_service->connections--;
                host_put_locked(&p->host);
                host_put_locked(&p->host_service);
        }
        unlock_limits();
}

unsigned limits_count_user(const char *user)
{
        struct limits_user *u;
        unsigned n;

        lock_limits();
        u = table_find(limits.users, span_of(user));
        n = u ? u->sessions : 0;
        unlock_limits();
        return n;
}

unsigned limits_count_host(const struct limits_place *p)
{
        unsigned n;

        lock_limits();
        n = p->host ? p->host->logged_in : 0;
        unlock_limits();
        return n;
}
