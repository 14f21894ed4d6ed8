/*
 * role - see role.h
 *
 * `changing` is held while the role changes, with the file being written and the fence put up or taken away; `lock` is short. A restriction is put up
 * before the file says so, and taken away after it does.
 */
#include "replication/role.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replication/sync_log.h"
#include "util/arena.h"
#include "util/array.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"
#include "util/str.h"

#define FILE_MAX 4096
#define LEAVE_MS 60000                          /* for a change of a peer's that is under way when the role changes */

static const char *const role_names[] = { "none", "master", "replica", "fenced" };
static const char *const mode_names[] = { "asynchronous", "synchronous", "never", "untold" };

static struct {
        struct mutex changing;
        struct mutex lock;                      /* role_class */
        struct cond left;                       /* nobody is within role_enter() any more; a thread is to stop */
        atomic_bool on, restricted;
        void (*changed)(void);
        struct store *store;                    /* NULL: not open */
        bool asynchronous;
        bool weak;                              /* by the configuration clients may be told what the replica has not got */
        char *path;
        char peer[200];
        struct role_state state;
        uint64_t turn;                          /* changes with the role; never 0 */
        unsigned within;                        /* changes of peers under way */
        bool turning;                           /* no new ones */
        uint64_t heard_ms;                      /* 0: not since the start */
        uint64_t ask_until_ms;
        bool has_thread, stop;
        pthread_t thread;
} role = { .changing = MUTEX_INIT, .lock = MUTEX_INIT, .turn = 1 };

static void lock(void) ACQUIRE(role.lock, role_class);
static void unlock(void) RELEASE(role.lock, role_class);
static void lock(void) NO_TSA
{
        mutex_lock(&role.lock);
}
static void unlock(void) NO_TSA
{
        mutex_unlock(&role.lock);
}

/* ---- names ---- */

static bool parse_name(const char *const *names, size_t n, const char *name, int *value_r)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(names[i], name) == 0) {
                        *value_r = (int)i;
                        return true;
                }
        return false;
}

const char *role_name(enum role r) { return role_names[r]; }
const char *role_mode_name(enum role_mode mode) { return mode_names[mode]; }

bool role_parse(const char *name, enum role *role_r)
{
        int value = 0;
        bool ok = parse_name(role_names, ARRAY_LEN(role_names), name, &value);

        *role_r = (enum role)value;
        return ok;
}

bool role_mode_parse(const char *name, enum role_mode *mode_r)
{
        int value = 0;
        bool ok = parse_name(mode_names, ARRAY_LEN(mode_names), name, &value);

        *mode_r = (enum role_mode)value;
        return ok;
}

bool role_epoch_equal(const struct role_epoch *a, const struct role_epoch *b)
{
        return a->number == b->number && strcmp(a->id, b->id) == 0;
}

bool role_epoch_valid(const struct role_epoch *e)
{
        return e->number > 0 && e->number < INT64_MAX && strlen(e->id) == 16 && strspn(e->id, "0123456789abcdef") == 16;
}

static void new_id(struct role_epoch *e)
{
        uint64_t bits;

        random_bytes(&bits, sizeof bits);
        snprintf(e->id, sizeof e->id, "%016" PRIx64, bits);
}

/* ---- the file ---- */

static bool read_epoch(const json_t *row, const char *key, struct role_epoch *e)
{
        const json_t *o = json_object_get(row, key);
        const char *id = json_string_value(json_object_get(o, "id"));

        *e = (struct role_epoch){ 0 };
        if (!o)
                return true;
        e->number = (uint64_t)json_integer_value(json_object_get(o, "number"));
        snprintf(e->id, sizeof e->id, "%s", id ? id : "");
        return role_epoch_valid(e);
}

static int read_file(const char *path, struct role_state *s, struct err *err)
{
        struct str text = STR_INIT;
        json_error_t why;
        json_t *row = NULL;
        const char *name, *mode;
        int rc = fs_slurp(path, FILE_MAX, &text, err);

        if (rc == 0) {
                row = json_loadb(text.data, text.len, 0, &why);
                name = json_string_value(json_object_get(row, "role"));
                mode = json_string_value(json_object_get(row, "mode"));
                if (!row || !name || !role_parse(name, &s->role) || !read_epoch(row, "epoch", &s->epoch) || !read_epoch(row, "higher", &s->higher) ||
                    (mode && !role_mode_parse(mode, &s->mode)) || (s->role != ROLE_NONE && s->role != ROLE_REPLICA && !s->epoch.number))
                        rc = err_set(err, ERR_CORRUPT, "%s is damaged", path);
                s->since = json_integer_value(json_object_get(row, "since"));
                s->heard = json_is_true(json_object_get(row, "heard"));
                s->promised = json_is_true(json_object_get(row, "promised"));
                json_decref(row);
        }
        str_deinit(&text);
        return rc;
}

static json_t *epoch_json(const struct role_epoch *e)
{
        return json_pack("{s:I, s:s}", "number", (json_int_t)e->number, "id", e->id);
}

static int write_file(const struct role_state *s, struct err *err)
{
        json_t *row = json_pack("{s:s, s:I, s:s, s:b, s:b}", "role", role_name(s->role), "since", (json_int_t)s->since, "mode", role_mode_name(s->mode),
                                "heard", s->heard, "promised", s->promised);
        struct str dir = STR_INIT;
        char *text;
        int rc;

        must(row != NULL);
        if (s->epoch.number)
                json_object_set_new(row, "epoch", epoch_json(&s->epoch));
        if (s->higher.number)
                json_object_set_new(row, "higher", epoch_json(&s->higher));
        text = json_dumps(row, JSON_COMPACT | JSON_SORT_KEYS);
        must(text != NULL);
        sync_log_path(store_configdir(role.store), NULL, "", &dir);
        rc = fs_mkdir_p_durable(dir.data, 0755, err) < 0 ? -1 : fs_replace(role.path, text, strlen(text), 0600, err);
        str_deinit(&dir);
        free(text);
        json_decref(row);
        return rc;
}

/* ---- the fence ---- */

/* NULL: there is none. */
static const char *reason(const struct role_state *s, char text[ERR_TEXT_MAX])
{
        if (s->broken[0])
                snprintf(text, ERR_TEXT_MAX, "No changes here now: what this server's role is cannot be read");
        else if (s->role == ROLE_NONE)
                snprintf(text, ERR_TEXT_MAX, "No changes here yet: fail-over is not set up on this server");
        else if (s->role == ROLE_REPLICA)
                snprintf(text, ERR_TEXT_MAX, "This server is a replica%s%.180s: changes are made there", role.peer[0] ? " of " : ", not the master", role.peer);
        else if (s->role == ROLE_FENCED)
                snprintf(text, ERR_TEXT_MAX, "This server was replaced as the master%s%.180s", role.peer[0] ? " by " : "", role.peer);
        else if (s->role == ROLE_MASTER && s->conflict)
                snprintf(text, ERR_TEXT_MAX, "No changes here now: another server says that it is the master, too");
        else if (s->role == ROLE_MASTER && s->asking)
                snprintf(text, ERR_TEXT_MAX, "No changes yet: this server asks the other one whether it is still the master");
        else
                return NULL;
        return text;
}

static void put_fence(const struct role_state *s)
{
        char text[ERR_TEXT_MAX];
        const char *why = atomic_load(&role.on) ? reason(s, text) : NULL;

        store_fence(role.store, why);
        atomic_store(&role.restricted, why != NULL);
}

bool role_is_restricted(void)
{
        return atomic_load(&role.restricted);
}

void role_tell(void (*changed)(void))
{
        role.changed = changed;
}

static void tell_changed(void)
{
        if (role.changed)
                role.changed();
}

static bool is_restricted(const struct role_state *s)
{
        char text[ERR_TEXT_MAX];

        return reason(s, text) != NULL;
}

/* ---- changing ---- */

/* No new changes of peers, and none under way; false: one takes too long. The turn is another one. */
static bool turn_begin(void)
{
        uint64_t deadline = clock_mono_ms() + LEAVE_MS;
        bool quiet;

        lock();
        role.turning = true;
        while (role.within && clock_mono_ms() < deadline)
                cond_wait_until(&role.left, &role.lock, deadline);
        quiet = role.within == 0;
        if (quiet)
                role.turn++;
        else
                role.turning = false;
        unlock();
        return quiet;
}

static void turn_end(void)
{
        lock();
        role.turning = false;
        unlock();
}

static void set_state(const struct role_state *s)
{
        lock();
        role.state = *s;
        unlock();
}

static void tell(const struct role_state *s, const char *why)
{
        log_event(s->role == ROLE_FENCED || s->conflict ? LOG_ERROR : LOG_NOTE, NULL, "failover.role", "role=%s epoch=%" PRIu64 ".%s%s reason=\"%s\"",
                  role_name(s->role), s->epoch.number, s->epoch.id[0] ? s->epoch.id : "-", s->conflict ? " conflict=yes" : "", why);
}

/* With `changing`. On the disk, then in memory; a fence goes up before that and comes down after. After an error all is as it was. */
static int change_to(const struct role_state *s, const char *why, struct err *err)
{
        struct role_state was;

        role_get(&was);
        if (!turn_begin())
                return err_set(err, ERR_BUSY, "a change by the other host is under way and does not end");
        if (is_restricted(s))
                put_fence(s);
        if (write_file(s, err) < 0) {
                put_fence(&was);
                turn_end();
                return -1;
        }
        set_state(s);
        put_fence(s);
        turn_end();
        tell(s, why);
        tell_changed();
        return 0;
}

/* What has to be, whether the disk takes it or not: no fence is left out because of that. */
static void change_anyway(struct role_state *s, const char *why)
{
        struct err err = ERR_INIT;

        put_fence(s);
        if (write_file(s, &err) < 0)
                log_event(LOG_ERROR, NULL, "failover.file", "reason=\"%s\" consequence=\"it holds until the daemon ends, and is learnt anew then\"", err.text);
        set_state(s);
        put_fence(s);
        tell(s, why);
        tell_changed();
}

/* Another role, in this epoch: what was known of the other host belongs to the former one. */
static void become(struct role_state *s, enum role to, const struct role_epoch *epoch)
{
        s->role = to;
        s->epoch = *epoch;
        s->higher = (struct role_epoch){ 0 };
        s->asking = s->conflict = s->heard = s->promised = false;
        s->mode = ROLE_ASYNCHRONOUS;
        s->since = clock_wall_s();
}

/* A master has heard of another epoch, from a peer or as an answer: it was replaced, or there are two. False: it has learnt nothing. */
static bool learn(struct role_state *s, const struct role_epoch *other)
{
        if (other->number > s->epoch.number) {
                struct role_epoch mine = s->epoch;

                become(s, ROLE_FENCED, &mine);
                s->higher = *other;
                change_anyway(s, "another host is the master of a higher epoch");
        } else if (other->number == s->epoch.number && !role_epoch_equal(other, &s->epoch)) {
                if (!s->conflict) {
                        s->conflict = true;
                        change_anyway(s, "two masters with the same epoch: one has to be joined");
                }
        } else {
                return false;
        }
        return true;
}

void role_get(struct role_state *state_r)
{
        lock();
        *state_r = role.state;
        state_r->on = atomic_load(&role.on);
        state_r->heard_s = role.heard_ms ? (int64_t)((clock_mono_ms() - role.heard_ms) / 1000) : -1;
        unlock();
}

bool role_on(void)
{
        return atomic_load_explicit(&role.on, memory_order_acquire);
}

/* ---- peers ---- */

static int not_ours(struct err *err, const char *what)
{
        return err_set(err, ERR_FENCED, "%s", what);
}

static int follow(struct role_state *s, const struct role_epoch *epoch, enum role_mode mode, struct err *err)
{
        become(s, ROLE_REPLICA, epoch);
        s->heard = mode != ROLE_UNTOLD;
        if (s->heard)
                s->mode = mode;
        return change_to(s, "a master of a higher epoch", err);
}

static int take_mode(struct role_state *s, enum role_mode mode, struct err *err)
{
        if (mode == ROLE_UNTOLD || (s->mode == mode && s->heard))
                return 0;
        s->mode = mode;
        s->heard = true;
        if (write_file(s, err) < 0)
                return -1;
        set_state(s);
        return 0;
}

static int judge_hello(struct role_state *s, const struct role_epoch *epoch, enum role_mode mode, struct err *err)
{
        if (s->broken[0])
                return not_ours(err, "what the role here is cannot be read");
        switch (s->role) {
        case ROLE_MASTER:
                if (!learn(s, epoch))
                        return not_ours(err, "this is the master");
                return not_ours(err, s->role == ROLE_FENCED ? "this was the master, and has to be joined first" : "two masters with the same epoch");
        case ROLE_FENCED:
                if (epoch->number > s->higher.number) {
                        s->higher = *epoch;
                        change_anyway(s, "a higher epoch still");
                }
                return not_ours(err, "this was the master, and has to be joined first");
        case ROLE_REPLICA:
                if (role_epoch_equal(epoch, &s->epoch))
                        return take_mode(s, mode, err);
                /* Of the same number, while no master has been heard of: two were promoted, and this one has joined the other. */
                if (epoch->number < s->epoch.number || (epoch->number == s->epoch.number && s->heard))
                        return not_ours(err, "the epoch here is higher");
                break;
        case ROLE_NONE:
                break;
        }
        return follow(s, epoch, mode, err);
}

int role_hello(const struct role_epoch *epoch, enum role_mode mode, struct role_state *mine_r, uint64_t *turn_r, struct err *err)
{
        struct role_state s;
        int rc;

        mutex_lock(&role.changing);
        role_get(&s);
        rc = judge_hello(&s, epoch, mode, err);
        lock();
        *mine_r = role.state;
        *turn_r = rc == 0 ? role.turn : 0;
        if (rc == 0)
                role.heard_ms = clock_mono_ms();
        unlock();
        mutex_unlock(&role.changing);
        return rc;
}

int role_enter(uint64_t turn, struct err *err)
{
        bool ok;

        lock();
        ok = !atomic_load(&role.on) || (!role.turning && (role.state.role == ROLE_NONE ? !role.state.broken[0] : turn == role.turn));
        role.within += ok;
        if (ok && turn)
                role.heard_ms = clock_mono_ms();
        unlock();
        return ok ? 0 : not_ours(err, "the master of this epoch only may change this store");
}

void role_leave(void)
{
        lock();
        if (--role.within == 0)
                cond_broadcast(&role.left);
        unlock();
}

int role_hand_over(const struct role_epoch *to, int (*drain)(void *ctx, struct err *err), void *ctx, struct err *err)
{
        struct role_state s, fenced;
        int rc = 0;

        mutex_lock(&role.changing);
        role_get(&s);
        if (!s.on || s.role != ROLE_MASTER || s.conflict || s.asking || to->number <= s.epoch.number)
                rc = not_ours(err, s.role == ROLE_MASTER ? "this master cannot hand over now" : "this is not the master");
        if (rc == 0) {
                fenced = s;
                fenced.role = ROLE_REPLICA;
                /* Clients' changes that are begun go on, and are answered: drain() waits for them. */
                put_fence(&fenced);
                atomic_store(&role.restricted, false);
                rc = drain(ctx, err);
                if (rc == 0) {
                        become(&s, ROLE_REPLICA, to);
                        rc = change_to(&s, "handed over to the replica", err);
                }
                if (rc < 0) {
                        role_get(&s);
                        put_fence(&s);
                }
        }
        mutex_unlock(&role.changing);
        return rc;
}

/* ---- a master's connection ---- */

int role_may_replicate(struct err *err)
{
        struct role_state s;

        role_get(&s);
        if (!s.on || (s.role == ROLE_MASTER && !s.broken[0]))
                return 0;
        return err_set(err, ERR_UNAVAILABLE, s.role == ROLE_NONE ? "standing by: fail-over is not set up (cyrctl failover init on the master)"
                                             : s.role == ROLE_FENCED ? "fenced: another host is the master (cyrctl failover join)" : "standing by: this host is a replica");
}

/* With `changing`: nobody else is asked any more, or nobody says otherwise. */
static void stop_asking(struct role_state *s, const char *why)
{
        s->asking = s->conflict = false;
        set_state(s);
        put_fence(s);
        tell(s, why);
        tell_changed();
}

int role_promise(struct err *err)
{
        struct role_state s;
        int rc = 0;

        mutex_lock(&role.changing);
        role_get(&s);
        if (s.role != ROLE_MASTER) {
                rc = err_set(err, ERR_UNAVAILABLE, "this host is not the master any more");
        } else if (!s.promised) {
                s.promised = true;
                rc = write_file(&s, err);
                if (rc == 0)
                        set_state(&s);
        }
        mutex_unlock(&role.changing);
        return rc;
}

void role_accepted(const struct role_epoch *mine, enum role_mode told)
{
        struct role_state s;
        struct err err = ERR_INIT;

        mutex_lock(&role.changing);
        role_get(&s);
        if (s.role == ROLE_MASTER && role_epoch_equal(mine, &s.epoch)) {
                if (s.promised && told != ROLE_NEVER && told != ROLE_UNTOLD) {
                        s.promised = false;
                        if (write_file(&s, &err) < 0) {
                                log_event(LOG_ERROR, NULL, "failover.file", "reason=\"%s\"", err.text);
                                s.promised = true;
                        }
                        set_state(&s);
                }
                if ((s.asking || s.conflict) && !(s.promised && role.weak))
                        stop_asking(&s, "the replica says so");
        }
        mutex_unlock(&role.changing);
}

void role_refused(const struct role_state *theirs)
{
        struct role_state s;

        mutex_lock(&role.changing);
        role_get(&s);
        if (s.role == ROLE_MASTER)
                (void)learn(&s, &theirs->epoch);
        mutex_unlock(&role.changing);
}

/* ---- administrators ---- */

static int refused(struct err *err, const char *what)
{
        return err_set(err, ERR_PERM, "%s", what);
}

static int check_on(const struct role_state *s, struct err *err)
{
        if (!s->on)
                return refused(err, "sync_failover is not on");
        return s->broken[0] ? err_set(err, ERR_CORRUPT, "%s", s->broken) : 0;
}

int role_init(struct err *err)
{
        struct role_epoch first = { .number = 1 };
        struct role_state s;
        int rc;

        new_id(&first);
        mutex_lock(&role.changing);
        role_get(&s);
        rc = check_on(&s, err);
        if (rc == 0 && s.role != ROLE_NONE)
                rc = err_set(err, ERR_EXISTS, "this host is %s of epoch %" PRIu64 " already", role_name(s.role), s.epoch.number);
        if (rc == 0) {
                become(&s, ROLE_MASTER, &first);
                rc = change_to(&s, "the first master", err);
        }
        mutex_unlock(&role.changing);
        return rc;
}

void role_next_epoch(struct role_epoch *epoch_r)
{
        struct role_state s;

        role_get(&s);
        epoch_r->number = (s.higher.number > s.epoch.number ? s.higher.number : s.epoch.number) + 1;
        new_id(epoch_r);
}

int role_promote(const struct role_epoch *epoch, struct err *err)
{
        struct role_state s;
        int rc;

        mutex_lock(&role.changing);
        role_get(&s);
        rc = check_on(&s, err);
        if (rc == 0 && s.role != ROLE_REPLICA)
                rc = refused(err, s.role == ROLE_MASTER ? "this host is the master" : s.role == ROLE_FENCED ? "this host was fenced: join it first"
                                                                                                        : "fail-over is not set up here");
        if (rc == 0 && epoch->number <= s.epoch.number)
                rc = refused(err, "a master of a higher epoch was heard of meanwhile");
        if (rc == 0) {
                become(&s, ROLE_MASTER, epoch);
                rc = change_to(&s, "promoted", err);
        }
        mutex_unlock(&role.changing);
        return rc;
}

int role_join(struct err *err)
{
        struct role_state s;
        int rc;

        mutex_lock(&role.changing);
        role_get(&s);
        rc = check_on(&s, err);
        if (rc == 0 && s.role != ROLE_FENCED && !(s.role == ROLE_MASTER && s.conflict))
                rc = refused(err, s.role == ROLE_MASTER ? "this host is the master, and has heard of no other" : s.role == ROLE_REPLICA ? "this host is a replica already"
                                                                                                                                         : "fail-over is not set up here");
        if (rc == 0) {
                struct role_epoch epoch = s.higher.number ? s.higher : s.epoch;

                become(&s, ROLE_REPLICA, &epoch);
                rc = change_to(&s, "joined", err);
        }
        mutex_unlock(&role.changing);
        return rc;
}

int role_alone(struct err *err)
{
        struct role_state s;
        int rc;

        mutex_lock(&role.changing);
        role_get(&s);
        rc = check_on(&s, err);
        if (rc == 0 && (s.role != ROLE_MASTER || s.conflict))
                rc = refused(err, s.conflict ? "another host is the master, too: one of them has to join" : "this host is not the master");
        else if (rc == 0 && !s.asking)
                rc = refused(err, "this host does not wait for the other one");
        if (rc == 0) {
                s.epoch.number++;
                new_id(&s.epoch);
                s.asking = s.promised = false;
                rc = change_to(&s, "an administrator has it go on alone", err);
        }
        mutex_unlock(&role.changing);
        return rc;
}

/* ---- opening and closing ---- */

/* An asynchronous master that hears nothing goes on. */
static void *wait_for_word(void *unused)
{
        struct role_state s;

        lock();
        while (!role.stop && role.state.asking && clock_mono_ms() < role.ask_until_ms)
                cond_wait_until(&role.left, &role.lock, role.ask_until_ms);
        unlock();
        mutex_lock(&role.changing);
        role_get(&s);
        if (!role.stop && s.role == ROLE_MASTER && s.asking && !s.conflict && !s.promised && role.asynchronous) {
                log_event(LOG_WARN, NULL, "failover.unheard", "waited_ms=%d consequence=\"this asynchronous master goes on without the other host's word\"", ROLE_ASK_MS);
                stop_asking(&s, "nobody says otherwise");
        }
        mutex_unlock(&role.changing);
        return unused;
}

static bool conf_says(struct conf *conf, bool (*is)(struct conf *conf, const char *channel))
{
        struct arena arena = ARENA_INIT;
        const char **names = sync_log_channels(conf, &arena);
        bool yes = false;

        for (size_t i = 0; names[i]; i++)
                yes = yes || is(conf, *names[i] ? names[i] : NULL);
        yes = yes || is(conf, NULL);
        arena_deinit(&arena);
        return yes;
}

static bool has_failover(struct conf *conf, const char *channel)
{
        return conf_switch(conf, channel, "sync_failover");
}

static bool is_weak(struct conf *conf, const char *channel)
{
        return conf_switch(conf, channel, "sync_failover") &&
               (strcmp(conf_enum(conf, channel, "sync_mode"), "synchronous") != 0 || conf_duration_s(conf, channel, "sync_degrade_after") != CONF_NEVER);
}

static bool has_synchronous(struct conf *conf, const char *channel)
{
        return conf_switch(conf, channel, "sync_failover") && strcmp(conf_enum(conf, channel, "sync_mode"), "synchronous") == 0;
}

static void take_conf(struct conf *conf)
{
        const char *host = conf_str(conf, NULL, "sync_host");
        size_t n;

        lock();
        atomic_store(&role.on, conf_says(conf, has_failover));
        role.asynchronous = !conf_says(conf, has_synchronous);
        role.weak = conf_says(conf, is_weak);
        n = host ? strcspn(host, " :/") : 0;
        snprintf(role.peer, sizeof role.peer, "%.*s", (int)(n < 180 ? n : 180), host ? host : "");
        unlock();
}

void role_open(struct store *store, struct conf *conf, bool daemon)
{
        struct str path = STR_INIT;
        struct role_state s = { .role = ROLE_NONE };
        struct err err = ERR_INIT;

        sync_log_path(store_configdir(store), NULL, "role", &path);
        role.path = str_take(&path);
        role.store = store;
        role.stop = false;
        role.heard_ms = 0;
        cond_init(&role.left);
        take_conf(conf);
        if (read_file(role.path, &s, &err) < 0 && err.code != ERR_NOTFOUND) {
                s = (struct role_state){ .role = ROLE_NONE };
                snprintf(s.broken, sizeof s.broken, "%s", err.text);
                if (role_on())
                        log_event(LOG_ERROR, NULL, "failover.file", "reason=\"%s\" consequence=\"clients may change nothing\"", err.text);
        }
        s.asking = daemon && s.role == ROLE_MASTER;
        set_state(&s);
        put_fence(&s);
        if (role_on())
                tell(&s, "start");
        role.ask_until_ms = clock_mono_ms() + ROLE_ASK_MS;
        if (s.asking && role_on())
                role.has_thread = thread_start(&role.thread, "failover", 0, wait_for_word, NULL) == 0;
}

void role_reconfigure(struct conf *conf)
{
        struct role_state s;

        if (!role.store)
                return;
        mutex_lock(&role.changing);
        take_conf(conf);
        role_get(&s);
        if (role_on() && s.role == ROLE_MASTER && s.promised && role.weak && !s.asking) {
                s.asking = true;                /* the replica has to hear of it first */
                set_state(&s);
                tell(&s, "the configuration promises less than the replica was told");
        }
        put_fence(&s);
        mutex_unlock(&role.changing);
}

void role_close(void)
{
        if (!role.store)
                return;
        lock();
        role.stop = true;
        cond_broadcast(&role.left);
        unlock();
        if (role.has_thread)
                pthread_join(role.thread, NULL);
        role.has_thread = false;
        cond_deinit(&role.left);
        free(role.path);
        role.path = NULL;
        role.store = NULL;
        atomic_store(&role.on, false);
}
