/*
 * quota_settle - adding up what a root's mailboxes hold, while they change, come and go.
 *
 * The mailboxes of the root are opened one after the other. Under a mailbox's lock it is bound to the root, its totals go into `sum`
 * and its unique id into `counted`; from then on whatever changes in it changes `sum` as well (quota.c). Names that move meanwhile
 * could slip from one side of the walk to the other: the walk is repeated, skipping what is counted, until a whole one has gone by
 * without a change of names that concerns this root. Then `sum` is the usage.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/quota_private.h"
#include "util/log.h"
#include "util/must.h"

static bool is_counted(struct quotas *q, const struct quota_root *r, const char *uniqueid)
{
        bool yes;

        quota_lock(q);
        yes = table_find(r->counted, span_of(uniqueid)) != NULL;
        quota_unlock(q);
        return yes;
}

/* Unless names that concern this root have changed since `generation`, when the mailbox was one of the root's: then it is bound by
 * whoever changed them, and the walk is done again. */
static void count(struct quotas *q, struct quota_root *r, struct mailbox *m, uint64_t generation) EXCLUDES(mailbox_class, quota_class)
{
        mailbox_lock(m);
        quota_report(m);
        quota_lock(q);
        if (r->generation == generation && r->changing == 0 && !r->gone) {
                if (m->quota.root != r) {
                        quota_rebind_locked(q, m, r);   /* enters it into `counted` and `sum` */
                } else if (!table_find(r->counted, span_of(m->uniqueid))) {
                        table_set(r->counted, span_of(m->uniqueid), r);
                        m->quota.round = r->adding;
                        for (int i = 0; i < QUOTA_RESOURCES; i++)
                                r->sum[i] += m->quota.part[i];
                }
        }
        quota_unlock(q);
        mailbox_unlock(m);
}

static uint64_t generation_of(struct quotas *q, const struct quota_root *r)
{
        uint64_t generation;

        quota_lock(q);
        generation = r->generation;
        quota_unlock(q);
        return generation;
}

/* Is this mailbox still one of the root's? Its name may have changed since it was listed. */
static bool belongs(struct quotas *q, const struct quota_root *r, const char *uniqueid)
{
        const struct mbentry *e = mboxlist_find_uniqueid(q->store->ml, uniqueid);
        bool yes;

        quota_lock(q);
        yes = e && e->type == MBTYPE_NORMAL && quota_resolve_locked(q, e->name, NULL, NULL) == r;
        quota_unlock(q);
        mbentry_unref(&e);
        return yes;
}

static int visit(struct quotas *q, struct quota_root *r, const struct mbentry *e, struct err *err)
{
        struct err mine = ERR_INIT;
        struct mailbox_ident ident;
        struct mailbox *m;
        uint64_t generation;

        if (is_counted(q, r, e->uniqueid))
                return 0;
        if (mbentry_ident(q->store, e, &ident, &mine) < 0 || mailbox_open(q->store, &ident, &m, &mine) < 0) {
                if (mine.code == ERR_NOTFOUND && !belongs(q, r, e->uniqueid))
                        return 0;                       /* deleted meanwhile */
                if (mine.code == ERR_NOTFOUND || mine.code == ERR_CORRUPT) {
                        log_event(LOG_WARN, NULL, "quota.count", "root=%s mailbox=%s reason=\"%s\" consequence=\"not counted\"", r->name,
                                  e->name, mine.text);
                        return 0;
                }
                err_copy(err, &mine);
                return -1;
        }
        generation = generation_of(q, r);
        if (belongs(q, r, e->uniqueid))
                count(q, r, m, generation);
        mailbox_unref(&m);
        return 0;
}

/* One walk. *mailboxes_r: how many names belong to the root. */
static int walk(struct quotas *q, struct quota_root *r, int64_t *mailboxes_r, struct err *err)
{
        const struct mbentry *found[64];
        struct str after = STR_INIT;
        unsigned n;
        int rc = 0;

        *mailboxes_r = 0;
        while (rc == 0 && (n = mboxlist_next(q->store->ml, r->name, after.data, found, 64)) > 0) {
                for (unsigned i = 0; i < n; i++) {
                        bool mine;

                        quota_lock(q);
                        mine = found[i]->type == MBTYPE_NORMAL && quota_resolve_locked(q, found[i]->name, NULL, NULL) == r;
                        quota_unlock(q);
                        *mailboxes_r += mine;
                        if (mine && rc == 0 && atomic_load(&q->closing))
                                rc = err_set(err, ERR_CANCELLED, "the store is being closed");
                        if (mine && rc == 0)
                                rc = visit(q, r, found[i], err);
                }
                str_clear(&after);
                str_append_str(&after, found[n - 1]->name);
                for (unsigned i = 0; i < n; i++)
                        mbentry_unref(&found[i]);
        }
        str_deinit(&after);
        return rc;
}

/* The walk that began at `generation` saw everything: take the sum. */
static bool conclude(struct quotas *q, struct quota_root *r, uint64_t generation, int64_t mailboxes)
{
        bool done;

        quota_lock(q);
        done = (r->generation == generation && r->changing == 0) || r->gone;
        if (done) {
                r->sum[QUOTA_MAILBOX] = mailboxes;
                memcpy(r->used, r->sum, sizeof r->used);
                r->round = r->adding;
                r->unsure = false;
                r->dirty = true;
        }
        quota_unlock(q);
        return done;
}

int quota_settle_root(struct quotas *q, struct quota_root *r, struct err *err)
{
        int64_t mailboxes;
        bool needed, done = false;
        int rc = 0;

        quota_lock(q);
        needed = r->unsure && !r->gone;
        if (needed) {
                r->counted = table_create();
                r->adding = ++q->rounds;
                memset(r->sum, 0, sizeof r->sum);
        }
        quota_unlock(q);
        while (needed && rc == 0 && !done) {
                uint64_t generation = generation_of(q, r);

                rc = walk(q, r, &mailboxes, err);
                if (rc == 0)
                        done = conclude(q, r, generation, mailboxes);
                if (rc == 0 && !done)
                        usleep(1000);                   /* a change of names is under way */
        }
        if (needed) {
                quota_lock(q);
                table_destroy(&r->counted);
                quota_unlock(q);
        }
        return rc;
}

int quota_settle(struct store *store, const char *root, struct err *err)
{
        struct quotas *q = store->quotas;
        struct quota_root *r;
        int rc = 0;

        mutex_lock(&q->setting);
        quota_lock(q);
        r = table_find(q->roots, span_of(root));
        quota_unlock(q);
        rc = r ? quota_settle_root(q, r, err) : err_set(err, ERR_NOTFOUND, "no quota root %s", root);
        mutex_unlock(&q->setting);
        return rc;
}

/* ---- all of them ---- */

struct settle_job {
        struct job job;
        struct quotas *q;
};

/* The next unsure root from place *at on. */
static struct quota_root *next_unsure(struct quotas *q, size_t *at)
{
        struct quota_root *r = NULL;

        quota_lock(q);
        for (; !r && *at < q->all.n; ++*at)
                if (q->all.v[*at]->unsure && !q->all.v[*at]->gone)
                        r = q->all.v[*at];
        quota_unlock(q);
        return r;
}

static void run_settle_job(struct job *job)
{
        struct settle_job *j = (struct settle_job *)job;
        struct quotas *q = j->q;
        struct quota_root *r;
        size_t at = 0;

        atomic_store(&q->settling_all, false);          /* what becomes unsure from here on may be behind us: it gets a job of its own */
        while (!atomic_load(&q->closing) && (r = next_unsure(q, &at)) != NULL) {
                struct err err = ERR_INIT;

                mutex_lock(&q->setting);
                if (quota_settle_root(q, r, &err) < 0 && err.code != ERR_CANCELLED)
                        log_event(LOG_WARN, NULL, "quota.settle", "root=%s reason=\"%s\"", r->name, err.text);
                mutex_unlock(&q->setting);
        }
        free(j);
}

void quotas_settle_later(struct store *store)
{
        struct quotas *q = store->quotas;
        struct settle_job *j;

        if (store->readonly || !logstore_threaded(store->ls) || atomic_load(&q->count) == 0 || atomic_exchange(&q->settling_all, true))
                return;
        j = xcalloc(1, sizeof *j);
        j->job.fn = run_settle_job;
        j->job.slow = true;
        j->q = q;
        logstore_run(store->ls, &j->job);
}
