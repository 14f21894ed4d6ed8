/*
 * duplicate_prune - forgetting marks that are old, or too many; and going through all of them.
 *
 * First it is found out file by file which records go; then the table is gone through once, a shard at a time; then the files: one with
 * nothing left is removed, in others the records are overwritten with zeros. Deliveries go on meanwhile.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "store/duplicate_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"

struct victim {                                 /* a file that loses records */
        uint64_t number;
        uint32_t place, found, dead_n;
        bool current;
        bool read;                              /* the file could be read, or is gone */
        uint8_t *dead;                          /* a bit for each record */
};

struct prune {
        struct duplicates *d;
        bool (*goes)(const struct prune *p, const struct victim *v, const struct dup_record *record);
        int64_t before;
        uint64_t up_to;                         /* whole files up to this number go */
        struct table *own;                      /* mailbox's digest → struct duplicate_expiry */
        struct victim *at;                      /* the file that is looked at */
        ARRAY(struct victim) files;
        struct victim *by_place[DUP_SEGMENTS_MAX + 1];
        uint64_t found, dead;
        int64_t youngest;                       /* of those that go */
};

static bool is_dead(const struct victim *v, uint32_t index)
{
        return v->dead && (v->dead[index / 8] >> (index % 8) & 1);
}

static void look_at_record(void *ctx, uint32_t index, const struct dup_record *record)
{
        struct prune *p = ctx;
        struct victim *v = p->at;

        v->found++;
        if (!p->goes(p, v, record))
                return;
        if (!v->dead)
                v->dead = xcalloc(DUP_SEGMENT_RECORDS / 8, 1);
        v->dead[index / 8] |= (uint8_t)(1 << index % 8);
        v->dead_n++;
        if (record->at > p->youngest)
                p->youngest = record->at;
}

static int compare_victims(const void *a, const void *b)
{
        const struct victim *x = a, *y = b;

        return x->number < y->number ? -1 : x->number > y->number;
}

static void list_files(struct prune *p) EXCLUDES(duplicate_file_class);
static void list_files(struct prune *p)
{
        struct duplicates *d = p->d;

        dup_lock(d);
        for (uint32_t i = 1; i <= DUP_SEGMENTS_MAX; i++)
                if (d->segments[i] && atomic_load(&d->segments[i]->made))
                        *ARRAY_PUSH(&p->files) = (struct victim){ .number = d->segments[i]->number, .place = i,
                                                                  .current = d->segments[i] == d->current };
        dup_unlock(d);
        if (p->files.n)
                qsort(p->files.v, p->files.n, sizeof *p->files.v, compare_victims);
        for (size_t i = 0; i < p->files.n; i++)
                p->by_place[p->files.v[i].place] = &p->files.v[i];
}

/* Back to a table of what is left. */
static void sweep_shard(struct prune *p, struct dup_shard *s) EXCLUDES(duplicate_class);
static void sweep_shard(struct prune *p, struct dup_shard *s)
{
        struct dup_slot *old;
        uint32_t cap, before;

        dup_shard_lock(s);
        old = s->slots;
        cap = s->cap;
        before = s->n;
        s->slots = NULL;
        s->cap = s->n = 0;
        for (uint32_t i = 0; i < cap; i++) {
                const struct victim *v = old[i].where ? p->by_place[old[i].where >> 16] : NULL;

                if (old[i].where && !(v && is_dead(v, old[i].where & 0xffff)))
                        dup_insert_locked(s, old[i].tag, old[i].where);
        }
        atomic_fetch_sub(&p->d->marks, before - s->n);
        dup_shard_unlock(s);
        free(old);
}

/* Zeros over the dead, as many in one call as stand together. */
static int overwrite(struct prune *p, const struct victim *v, struct err *err)
{
        static const struct dup_record zeros[1024];
        struct str path = STR_INIT;
        int fd, rc = 0;

        dup_path(p->d, v->number, &path);
        fd = open(path.data, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                rc = err_errno(err, errno, "open %s", path.data);
        for (uint32_t i = 0, n; rc == 0 && i < DUP_SEGMENT_RECORDS; i += n) {
                for (n = 0; i + n < DUP_SEGMENT_RECORDS && n < ARRAY_LEN(zeros) && is_dead(v, i + n); n++)
                        ;
                if (n)
                        rc = fs_pwrite_all(fd, zeros, n * sizeof zeros[0], (uint64_t)(i + 1) * sizeof zeros[0], err);
                else
                        n = 1;
        }
        if (fd >= 0)
                close(fd);
        str_deinit(&path);
        return rc;
}

static int remove_file(struct prune *p, const struct victim *v, struct err *err) EXCLUDES(duplicate_file_class);
static int remove_file(struct prune *p, const struct victim *v, struct err *err)
{
        struct duplicates *d = p->d;
        struct str path = STR_INIT;
        int rc = 0;

        dup_path(d, v->number, &path);
        if (unlink(path.data) < 0 && errno != ENOENT)
                rc = err_errno(err, errno, "unlink %s", path.data);
        str_deinit(&path);
        if (rc == 0) {
                dup_lock(d);
                free(d->segments[v->place]);
                d->segments[v->place] = NULL;
                dup_unlock(d);
        }
        return rc;
}

/* Nothing of it is pending, and nobody writes to it any more. */
static bool is_finished(struct duplicates *d, const struct victim *v) EXCLUDES(duplicate_file_class);
static bool is_finished(struct duplicates *d, const struct victim *v)
{
        const struct dup_segment *seg;
        bool yes;

        dup_lock(d);
        seg = d->segments[v->place];
        yes = seg != d->current && !d->writing && seg->fd < 0;
        for (size_t i = 0; yes && i < d->pending.n; i++)
                yes = d->pending.v[i].segment != seg;
        dup_unlock(d);
        return yes;
}

/* pruning held. */
static int run(struct prune *p, struct err *err) EXCLUDES(duplicate_class, duplicate_file_class);
static int run(struct prune *p, struct err *err)
{
        struct err mine = ERR_INIT;
        int rc = 0;

        (void)dup_write(p->d, NULL);
        list_files(p);
        for (size_t i = 0; i < p->files.n; i++) {
                p->at = &p->files.v[i];
                p->at->read = dup_scan(p->d, p->at->number, look_at_record, p, &mine) == 0 || mine.code == ERR_NOTFOUND;
                if (!p->at->read && mine.code != ERR_UNSUPPORTED) {
                        if (rc == 0)
                                err_copy(err, &mine);
                        rc = -1;
                }
                p->found += p->at->found;
                p->dead += p->at->dead_n;
        }
        for (unsigned i = 0; i < DUP_SHARDS && p->dead; i++)
                sweep_shard(p, &p->d->shards[i]);
        for (size_t i = 0; i < p->files.n; i++) {
                struct victim *v = &p->files.v[i];
                int one = 0;

                if (v->read && v->dead_n == v->found && is_finished(p->d, v))
                        one = remove_file(p, v, &mine);
                else if (v->dead_n)
                        one = overwrite(p, v, &mine);
                if (one < 0 && rc == 0)
                        err_copy(err, &mine);
                if (one < 0)
                        rc = -1;
                free(v->dead);
        }
        ARRAY_FREE(&p->files);
        return rc;
}

/* ---- by age ---- */

static bool is_old(const struct prune *p, const struct victim *v, const struct dup_record *record)
{
        struct span mailbox = { (const char *)record->key.mailbox, sizeof record->key.mailbox };
        const struct duplicate_expiry *own = p->own ? table_find(p->own, mailbox) : NULL;

        (void)v;
        return record->at < (own ? own->before : p->before);
}

int duplicate_prune(struct store *store, int64_t before, const struct duplicate_expiry *own, size_t n, uint64_t *pruned_r,
                    uint64_t *marks_r, struct err *err)
{
        struct duplicates *d = store->duplicates;
        struct prune *p;
        int rc;

        if (store->readonly)
                return err_set(err, ERR_READONLY, "%s is open for reading only", store->configdir);
        if (!atomic_load(&d->loaded))
                dup_load(d);
        p = xcalloc(1, sizeof *p);              /* too large for some stacks */
        p->d = d;
        p->goes = is_old;
        p->before = before;
        if (n)
                p->own = table_create();
        for (size_t i = 0; i < n; i++) {
                struct duplicate_key key;

                duplicate_key_make(own[i].uniqueid, SPAN(""), SPAN(""), &key);
                table_set(p->own, (struct span){ (const char *)key.mailbox, sizeof key.mailbox }, (void *)(uintptr_t)&own[i]);
        }
        mutex_lock(&d->pruning);
        rc = run(p, err);
        mutex_unlock(&d->pruning);
        if (pruned_r)
                *pruned_r = p->dead;
        if (marks_r)
                *marks_r = p->found;
        table_destroy(&p->own);
        free(p);
        return rc;
}

/* ---- by number ---- */

static bool is_in_old_file(const struct prune *p, const struct victim *v, const struct dup_record *record)
{
        (void)record;
        return v->number <= p->up_to && !v->current;
}

static uint64_t oldest_number(struct duplicates *d) EXCLUDES(duplicate_file_class);
static uint64_t oldest_number(struct duplicates *d)
{
        uint64_t number = 0;

        dup_lock(d);
        for (uint32_t i = 1; i <= DUP_SEGMENTS_MAX; i++)
                if (d->segments[i] && d->segments[i] != d->current && (!number || d->segments[i]->number < number))
                        number = d->segments[i]->number;
        dup_unlock(d);
        return number;
}

/* `duplicate_entries_max`; 0: as many as there are. */
static bool too_many(struct duplicates *d)
{
        int64_t max = conf_int(store_conf(d->store), NULL, "duplicate_entries_max");

        return max > 0 && atomic_load(&d->marks) > (uint64_t)max;
}

/* As whole files go, there may be a file's worth fewer than allowed afterwards. */
void dup_shrink_job(struct job *job)
{
        struct duplicates *d = (struct duplicates *)((char *)job - offsetof(struct duplicates, shrink));
        bool done = false;
        uint64_t number;

        while (!done && too_many(d) && (number = oldest_number(d)) != 0) {
                struct prune *p = xcalloc(1, sizeof *p);
                struct err err = ERR_INIT;

                p->d = d;
                p->goes = is_in_old_file;
                p->up_to = number;
                mutex_lock(&d->pruning);
                done = run(p, &err) < 0 || !p->dead;
                mutex_unlock(&d->pruning);
                if (p->dead)
                        log_event(LOG_WARN, NULL, "duplicates.full", "forgotten=%llu age_s=%lld reason=\"duplicate_entries_max is reached\"",
                                  (unsigned long long)p->dead, (long long)(clock_wall_s() - p->youngest));
                free(p);
        }
        atomic_store(&d->shrinking, false);
}

void dup_shrink_if_needed(struct duplicates *d)
{
        if (too_many(d) && !d->store->readonly && !atomic_exchange(&d->shrinking, true))
                logstore_run(d->store->ls, &d->shrink);
}

/* ---- all of them ---- */

struct each {
        bool (*fn)(void *ctx, const struct duplicate_mark *mark);
        void *ctx;
        bool stop;
};

static void each_record(void *ctx, uint32_t index, const struct dup_record *record)
{
        struct each *e = ctx;
        struct duplicate_mark mark = { record->key, record->uid, record->at };

        (void)index;
        if (!e->stop)
                e->stop = !e->fn(e->ctx, &mark);
}

int duplicate_each(struct store *store, bool (*fn)(void *ctx, const struct duplicate_mark *mark), void *ctx, struct err *err)
{
        struct duplicates *d = store->duplicates;
        struct each each = { fn, ctx, false };
        struct prune *p;
        int rc = 0;

        if (!atomic_load(&d->loaded))
                dup_load(d);
        p = xcalloc(1, sizeof *p);
        p->d = d;
        mutex_lock(&d->pruning);
        (void)dup_write(d, NULL);
        list_files(p);
        for (size_t i = 0; rc == 0 && i < p->files.n && !each.stop; i++)
                rc = dup_scan(d, p->files.v[i].number, each_record, &each, err);
        mutex_unlock(&d->pruning);
        ARRAY_FREE(&p->files);
        free(p);
        return rc;
}
