/*
 * mailbox_open - from the disk to memory: manifest, index, and the log behind the index's position; sealing a torn tail; creation.
 *
 * Replay. A survey of the segments that are still open finds the highest durable mark M in any whole record (the index's position
 * is one too). Then they are read in order:
 *   damage below M      bit rot: reported, skipped; what follows counts
 *   damage above M      nobody was told of anything there: the log ends before that batch, and so do the segments behind it
 * A record above M whose body does not match is damage. A batch above M without its last record did not happen; below M it did,
 * and its last record is rotten. If the log ended anywhere but at the end of its file, the segment is sealed there by the manifest
 * and a new one begun before anything else is written.
 *
 * What was replayed came from the page cache: it is synced before it is shown.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "store/mailbox_private.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/log.h"
#include "util/must.h"

void mailbox_dir(struct str *out, const char *partition_dir, const char *uniqueid)
{
        str_printf(out, "%s/%c/%c/%s", partition_dir, uniqueid[0], uniqueid[0] ? uniqueid[1] : '_', uniqueid);
}

/* ---- the object ---- */

static void set_place(struct mailbox *m, _Atomic(char *) *place, struct str *value)
{
        char *former = atomic_exchange(place, str_take(value));

        if (former)
                *ARRAY_PUSH(&m->former_places) = former;
}

void mailbox_set_place(struct mailbox *m, const char *partition_dir)
{
        struct str s = STR_INIT;

        str_append_str(&s, partition_dir);
        set_place(m, &m->partition_dir, &s);
        mailbox_dir(&s, partition_dir, m->uniqueid);
        set_place(m, &m->dir, &s);
        str_printf(&s, "%s/index", m->dir);
        set_place(m, &m->index_path, &s);
}

/* The directories between a partition and its mailboxes whose names this process knows to be durable. */
static struct { struct mutex lock; struct table *names; } durable_dirs = { .lock = MUTEX_INIT };

static bool is_durable(const char *dir, bool now)
{
        bool yes;

        mutex_lock(&durable_dirs.lock);
        if (!durable_dirs.names)
                durable_dirs.names = table_create();
        yes = table_find(durable_dirs.names, span_of(dir)) != NULL;
        if (now && !yes)
                table_set(durable_dirs.names, span_of(dir), &durable_dirs);
        mutex_unlock(&durable_dirs.lock);
        return yes;
}

/* One that exists may have been made by a process that was killed before it had synced it, or by a thread that is about to. */
static int make_dir(const char *parent, const char *dir, bool between, struct err *err)
{
        bool made = mkdir(dir, 0700) == 0;

        if (!made && errno != EEXIST)
                return err_errno(err, errno, "mkdir %s", dir);
        if (!made && between && is_durable(dir, false))
                return 0;
        if (fs_sync_dir(parent, err) < 0)
                return -1;
        if (between)
                (void)is_durable(dir, true);
        return 0;
}

int mailbox_make_dir(const char *partition_dir, const char *uniqueid, struct err *err)
{
        struct str first = STR_INIT, second = STR_INIT, dir = STR_INIT;
        int rc;

        mailbox_dir(&dir, partition_dir, uniqueid);
        str_printf(&first, "%s/%c", partition_dir, uniqueid[0]);
        str_printf(&second, "%s/%c", first.data, uniqueid[1]);
        rc = make_dir(partition_dir, first.data, true, err);
        if (rc == 0)
                rc = make_dir(first.data, second.data, true, err);
        if (rc == 0)
                rc = make_dir(second.data, dir.data, false, err);
        str_deinit(&first);
        str_deinit(&second);
        str_deinit(&dir);
        return rc;
}

struct mailbox *mailbox_alloc(struct store *store, struct logstore *ls, const struct mailbox_ident *ident)
{
        struct mailbox *m = xcalloc(1, sizeof *m);

        m->store = store;
        m->ls = ls;
        m->uniqueid = xstrdup(ident->uniqueid);
        mailbox_set_place(m, ident->partition_dir);
        atomic_init(&m->refs, 1);
        atomic_init(&m->deleted, false);
        atomic_init(&m->name, xstrdup(ident->name ? ident->name : ident->uniqueid));
        kwtab_init(&m->kw);
        mutex_init(&m->lock);
        mutex_init(&m->watch_lock);
        cond_init(&m->maintained);
        cond_init(&m->synced);
        cond_init(&m->placed);
        uidset_init(&m->moving);
        m->blobs = table_create();
        m->blob_pins = table_create();
        m->epoch = store_epoch(store);
        return m;
}

struct segment *segment_ref(struct segment *s)
{
        atomic_fetch_add(&s->refs, 1);
        return s;
}

void segment_unref(struct segment **sp)
{
        struct segment *s = *sp;

        *sp = NULL;
        if (!s || atomic_fetch_sub(&s->refs, 1) != 1)
                return;
        segment_close_fd(s);
        file_unref(&s->file);
        free(s);
}

void mailbox_unload(struct mailbox *m)
{
        for (uint32_t i = 0; i < m->segs_n; i++)
                segment_unref(&m->segs[i]);
        free(m->segs);
        m->segs = NULL;
        m->segs_n = 0;
        m->active = NULL;
        segment_unref(&m->next_active);
        manifest_deinit(&m->manifest);
        state_forget_moves(m);
        annots_forget(m);
        index_destroy(&m->ix);
}

void mailbox_free(struct mailbox **mp)
{
        struct mailbox *m = *mp;
        struct span key;
        void *value;

        *mp = NULL;
        if (!m)
                return;
        must(!m->commits.head && !m->watches && !m->relocation);
        mailbox_unload(m);
        view_unref(&m->view);
        for (size_t pos = 0; table_next(m->blobs, &pos, &key, &value);) {
                struct blob_file *b = value;

                file_unref(&b->file);
                free(b);
        }
        table_destroy(&m->blobs);
        table_destroy(&m->blob_pins);
        kwtab_deinit(&m->kw);
        uidset_deinit(&m->moving);
        for (size_t i = 0; i < m->old_names.n; i++)
                free(m->old_names.v[i]);
        ARRAY_FREE(&m->old_names);
        free(atomic_load(&m->name));
        free(m->checked);
        ARRAY_FREE(&m->private_changes);
        ARRAY_FREE(&m->flags_before);
        ARRAY_FREE(&m->rotten);
        mutex_deinit(&m->lock);
        mutex_deinit(&m->watch_lock);
        cond_deinit(&m->maintained);
        cond_deinit(&m->synced);
        cond_deinit(&m->placed);
        for (size_t i = 0; i < m->former_places.n; i++)
                free(m->former_places.v[i]);
        ARRAY_FREE(&m->former_places);
        free(m->uniqueid);
        free(m->partition_dir);
        free(m->dir);
        free(m->index_path);
        free(m);
}

void mailbox_problem(struct mailbox *m, struct check_report *report, uint32_t uid, const char *fmt, ...)
{
        char text[300];
        va_list ap;

        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        m->damage++;
        if (!report) {
                log_event(LOG_ERROR, NULL, "mailbox.damage", "mailbox=%s uniqueid=%s uid=%u reason=\"%s\"", atomic_load(&m->name),
                          m->uniqueid, uid, text);
                return;
        }
        report->problems++;
        if (report->problem)
                report->problem(report->ctx, atomic_load(&m->name), uid, text);
}

struct segment *mailbox_segment(struct mailbox *m, uint64_t id)
{
        for (uint32_t i = m->segs_n; i-- > 0;)
                if (m->segs[i]->info.id == id)
                        return m->segs[i];
        return NULL;
}

static struct segment *segment_alloc(struct mailbox *m, const struct mlog_segment_info *info, enum mlog_kind kind)
{
        struct segment *s = xcalloc(1, sizeof *s);
        struct str path = STR_INIT;

        atomic_init(&s->refs, 1);
        s->info = *info;
        s->kind = kind;
        s->fd = -1;
        mlog_segment_path(&path, m->dir, info->id);
        s->file = file_create(path.data);
        str_deinit(&path);
        return s;
}

struct segment *segment_open(struct mailbox *m, const struct manifest_entry *e, const struct mlog_segment_info *info)
{
        struct mlog_segment_info from_manifest = { .id = e->id, .salt = e->salt, .crc = e->crc };
        struct segment *s = segment_alloc(m, info ? info : &from_manifest, (enum mlog_kind)e->kind);

        s->sealed = e->valid_len != MLOG_OPEN_END;
        s->end = s->durable = s->sealed ? e->valid_len : MLOG_SEGMENT_HEADER;
        s->base_uid = e->base_uid;
        s->base_modseq = e->base_modseq;
        s->seq = e->seq;
        return s;
}

int segment_begin(struct mailbox *m, uint64_t id, bool counters, struct segment **seg_r, struct err *err)
{
        struct mlog_segment_info info;
        struct segment *s;
        struct str path = STR_INIT;
        int fd, rc = 0;

        mlog_segment_path(&path, m->dir, id);
        unlink(path.data);                              /* an orphan of a crash: the manifest does not know this id */
        if (mlog_segment_create(m->dir, id, m->uniqueid, m->epoch, &fd, &info, err) < 0) {
                str_deinit(&path);
                return -1;
        }
        s = segment_alloc(m, &info, MLOG_MAIN);
        segment_set_fd(s, fd);
        s->end = s->allocated = MLOG_SEGMENT_HEADER;
        if (counters) {
                struct mlog_pen pen = { .segment = &s->info, .offset = s->end, .seq = m->seq, .durable = m->durable_mark,
                                        .time = clock_wall_s(), .epoch = m->epoch, .prev_crc = info.crc };
                struct mlog_counters c;
                struct mlog_batch b;
                struct iovec iov[2];
                int n;

                state_counters(m, &c);
                pen.modseq = c.highestmodseq;
                mlog_batch_init(&b);
                mlog_batch_add(&b, &b.body, MLOG_COUNTERS, &c, sizeof c, NULL, 0, NULL, 0, 0);
                n = mlog_batch_seal(&b, &pen, iov);
                rc = segment_write(s, iov, n, s->end, err);
                mlog_batch_deinit(&b);
                if (rc == 0) {
                        s->end = pen.offset;
                        m->seq = pen.seq;
                        m->prev_crc = pen.prev_crc;
                }
        }
        if (rc == 0) {
                *seg_r = s;
        } else {
                unlink(path.data);
                segment_unref(&s);
        }
        str_deinit(&path);
        return rc;
}

int segment_settle(struct mailbox *m, struct segment *s, bool listed_in_new, struct err *err)
{
        if (mailbox_guard(m, fs_datasync(s->fd, file_path(s->file), err), err) < 0 ||
            (!listed_in_new && mailbox_guard(m, fs_sync_dir(m->dir, err), err) < 0))
                return -1;
        s->durable = s->end;
        return 0;
}

/* ---- replay ---- */

struct replay {
        struct mailbox *m;
        unsigned flags;
        struct check_report *report;
        uint64_t mark;                          /* M: all below was on disk */
        uint64_t max_seq;
        uint32_t last_epoch;
        struct str batch;                       /* headers and fronts of the batch being read, each padded to 8 */
        bool batch_open;
        uint64_t batch_from;
        bool first_fragment;                    /* the open batch began behind damage, without its first record */
        uint64_t valid_end;                     /* of the segment last walked */
        uint32_t prev_crc;                      /* there */
        bool ended;                             /* the log ended before the end of its file */
};

/* Octets of this record are damaged. What that means for a message is only known at the end of the log: it may have been expunged since. */
static void note_rotten(struct replay *r, const struct segment *s, const struct mlog_record *rec)
{
        uint32_t uid = rec->h.type == MLOG_MESSAGE ? ((const struct mlog_message *)(const void *)rec->front)->uid : 0;

        if (uid && (rec->h.flags & MLOG_RELATIVE))
                uid += s->base_uid - 1;
        if (uid && (r->flags & LOAD_CHECK_BODIES))
                *ARRAY_PUSH(&r->m->rotten) = (struct rotten){ uid, s->info.id, rec->h.offset };
        else
                mailbox_problem(r->m, r->report, uid, "octets are damaged");
}

/* A segment's own header may be damaged like anything else; the manifest knows what matters of it. */
static int scan_begin(struct replay *r, bool tell, struct mlog_scan *scan, const struct mlog_source *source, const struct segment *s,
                      uint64_t from, uint32_t prev_crc, struct err *err)
{
        if (mlog_scan_begin(scan, source, s->info.id, r->m->uniqueid, from, prev_crc, err) == 0)
                return 0;
        if (err->code != ERR_CORRUPT || source->size <= MLOG_SEGMENT_HEADER)
                return -1;
        if (tell)
                mailbox_problem(r->m, r->report, 0, "%s", err->text);
        err_clear(err);
        scan->info = s->info;
        scan->at = from ? from : MLOG_SEGMENT_HEADER;
        scan->prev_crc = from ? prev_crc : s->info.crc;
        scan->prev_known = true;
        return 0;
}

static uint64_t file_size(const struct segment *s)
{
        struct stat st;

        return stat(file_path(s->file), &st) < 0 ? 0 : (uint64_t)st.st_size;
}

static int apply_adopted(struct replay *r, const struct mlog_header *h, const struct mlog_adopt *a, struct err *err);

static int apply_one(struct replay *r, const struct mlog_header *h, const void *front, const struct apply_base *base, struct err *err)
{
        if (h->seq > r->max_seq && !(h->flags & MLOG_RELATIVE))
                r->max_seq = h->seq;
        if (h->epoch >= r->last_epoch)
                r->last_epoch = h->epoch;
        /* What had to be replayed now is for the next checkpoint, or a daemon that is killed often would replay ever more. */
        r->m->records_since_checkpoint++;
        r->m->bytes_since_checkpoint += sizeof *h + h->front_len + h->body_len;
        if (state_apply(r->m, h, front, base, err) < 0)
                return -1;
        if (h->type == MLOG_ADOPT)
                return apply_adopted(r, h, front, err);
        return 0;
}

static int apply_open_batch(struct replay *r, const struct apply_base *base, struct err *err)
{
        int rc = 0;

        for (size_t at = 0; rc == 0 && at < r->batch.len;) {
                const struct mlog_header *h = (const struct mlog_header *)(const void *)(r->batch.data + at);

                rc = apply_one(r, h, h + 1, base, err);
                at += mlog_align(sizeof *h + h->front_len);
        }
        str_clear(&r->batch);
        r->batch_open = false;
        return rc;
}

static void batch_keep(struct replay *r, const struct mlog_record *rec)
{
        size_t len = sizeof rec->h + rec->h.front_len;

        if (!r->batch_open) {
                r->batch_open = true;
                r->batch_from = rec->h.offset;
                r->first_fragment = rec->h.batch_index != 0;
        }
        str_append(&r->batch, &rec->h, sizeof rec->h);
        str_append(&r->batch, rec->front, rec->h.front_len);
        str_append(&r->batch, "\0\0\0\0\0\0\0", mlog_align(len) - len);
}

/* A segment that was synced as a whole before it became part of the log: all damage is rot. */
static int replay_sealed(struct replay *r, struct segment *s, const struct apply_base *base, struct err *err)
{
        struct mlog_source source = { .file = s->file, .size = s->end };
        struct mlog_scan scan;
        struct mlog_record rec;
        uint64_t size = file_size(s);
        int rc;

        if (size < s->end) {
                mailbox_problem(r->m, r->report, 0, "segment %llx has %llu of %llu octets", (unsigned long long)s->info.id,
                                (unsigned long long)size, (unsigned long long)s->end);
                source.size = size;
        }
        rc = scan_begin(r, true, &scan, &source, s, 0, 0, err);
        if (rc < 0 && err->code == ERR_CORRUPT) {
                mailbox_problem(r->m, r->report, 0, "%s", err->text);
                mlog_scan_deinit(&scan);
                return 0;
        }
        scan.check_bodies = r->flags & LOAD_CHECK_BODIES;
        while (rc == 0 && (rc = mlog_scan_next(&scan, &rec, err)) > 0) {
                if (rc == MLOG_SCAN_DAMAGE) {
                        mailbox_problem(r->m, r->report, 0, "segment %llx is damaged from %llu to %llu", (unsigned long long)s->info.id,
                                        (unsigned long long)scan.damage_from, (unsigned long long)scan.damage_to);
                } else {
                        if (scan.check_bodies && !rec.body_ok)
                                note_rotten(r, s, &rec);
                        if (apply_one(r, &rec.h, rec.front, base, err) < 0) {
                                rc = -1;
                                break;
                        }
                }
                rc = 0;
        }
        if (rc == 0 && scan.ends_in_garbage)
                mailbox_problem(r->m, r->report, 0, "segment %llx is damaged from %llu on", (unsigned long long)s->info.id,
                                (unsigned long long)scan.at);
        mlog_scan_deinit(&scan);
        return rc;
}

static int apply_adopted(struct replay *r, const struct mlog_header *h, const struct mlog_adopt *a, struct err *err)
{
        struct apply_base base = { .uid = a->base_uid, .modseq = a->base_modseq, .seq = h->seq, .adopted = true };
        struct segment *s = mailbox_segment(r->m, a->segment);

        if (!s || s->kind == MLOG_RETIRED)              /* compacted since: its messages are in another segment, its file may be gone */
                return 0;
        s->base_uid = a->base_uid;
        s->base_modseq = a->base_modseq;
        s->seq = h->seq;
        return replay_sealed(r, s, &base, err);
}

/* Raise r->mark by what the records of an open segment say. */
static int survey(struct replay *r, struct segment *s, uint64_t from, uint32_t prev_crc, uint64_t size, struct err *err)
{
        struct mlog_source source = { .file = s->file, .size = size };
        struct mlog_scan scan;
        struct mlog_record rec;
        int rc = scan_begin(r, false, &scan, &source, s, from, prev_crc, err);

        while (rc == 0 && (rc = mlog_scan_next(&scan, &rec, err)) > 0) {
                if (rc == MLOG_SCAN_RECORD && rec.h.durable > r->mark)
                        r->mark = rec.h.durable;
                rc = 0;
        }
        mlog_scan_deinit(&scan);
        if (rc < 0 && err->code == ERR_CORRUPT) {       /* no header: nothing in it counts */
                err_clear(err);
                return 0;
        }
        return rc;
}

static bool below_mark(const struct replay *r, const struct segment *s, uint64_t offset)
{
        return mlog_mark(s->info.id, offset) < r->mark;
}

/* One record of an open segment: 0 go on, 1 the log ends before it, -1. */
static int take_record(struct replay *r, struct segment *s, const struct mlog_scan *scan, const struct mlog_record *rec, struct err *err)
{
        bool sure = below_mark(r, s, rec->h.offset);

        if (!sure && (!rec->chained || !rec->body_ok))
                return 1;
        if (rec->h.batch_index == 0 && r->batch_open) {         /* the last record of the batch before is rotten */
                if (!below_mark(r, s, r->batch_from))
                        return 1;
                if (apply_open_batch(r, NULL, err) < 0)
                        return -1;
        }
        if (!rec->body_ok)
                note_rotten(r, s, rec);
        batch_keep(r, rec);
        if (!sure && r->first_fragment)
                return 1;
        if (rec->h.flags & MLOG_ENDS_BATCH) {
                if (apply_open_batch(r, NULL, err) < 0)
                        return -1;
                r->valid_end = scan->at;
                r->prev_crc = rec->h.crc;
        }
        return 0;
}

static int replay_open(struct replay *r, struct segment *s, uint64_t from, uint32_t prev_crc, uint64_t size, struct err *err)
{
        struct mlog_source source = { .file = s->file, .size = size };
        struct mlog_scan scan;
        struct mlog_record rec;
        int rc = scan_begin(r, true, &scan, &source, s, from, prev_crc, err);

        r->valid_end = from ? from : MLOG_SEGMENT_HEADER;
        r->prev_crc = from ? prev_crc : s->info.crc;
        if (rc < 0) {
                mlog_scan_deinit(&scan);
                if (err->code != ERR_CORRUPT)
                        return -1;
                if (below_mark(r, s, r->valid_end))
                        mailbox_problem(r->m, r->report, 0, "%s", err->text);
                err_clear(err);
                r->ended = true;
                return 0;
        }
        scan.check_bodies = true;
        while (rc == 0 && (rc = mlog_scan_next(&scan, &rec, err)) > 0) {
                if (rc == MLOG_SCAN_DAMAGE) {
                        rc = !below_mark(r, s, scan.damage_from);
                        if (rc == 0)
                                mailbox_problem(r->m, r->report, 0, "segment %llx is damaged from %llu to %llu",
                                                (unsigned long long)s->info.id, (unsigned long long)scan.damage_from,
                                                (unsigned long long)scan.damage_to);
                } else {
                        rc = take_record(r, s, &scan, &rec, err);
                }
        }
        if (rc == 1)
                r->ended = true;
        if (rc == 0 && scan.ends_in_garbage) {
                r->ended = true;
                if (below_mark(r, s, scan.at))
                        mailbox_problem(r->m, r->report, 0, "segment %llx is damaged from %llu on", (unsigned long long)s->info.id,
                                        (unsigned long long)scan.at);
        }
        if (rc >= 0 && r->batch_open) {
                r->ended = true;
                rc = 0;
                if (below_mark(r, s, r->batch_from) && apply_open_batch(r, NULL, err) < 0)
                        rc = -1;
                str_clear(&r->batch);
                r->batch_open = false;
        }
        /* What is below the mark counts, readable or not: the log cannot end before it. */
        if (r->mark >> 40 == s->info.id && (r->mark & ((1ull << 40) - 1)) > r->valid_end) {
                r->valid_end = r->mark & ((1ull << 40) - 1);
                r->ended = true;
        }
        mlog_scan_deinit(&scan);
        return rc < 0 ? -1 : 0;
}

/* ---- loading ---- */

static int repair_block(void *ctx, uint32_t first_uid, uint32_t last_uid, struct index_rec *recs, uint32_t max, uint32_t *n_r,
                        struct err *err);

/* The index, if there is one that fits this log; else an empty one. *from_r is the manifest's entry where replay begins. */
static int load_index(struct mailbox *m, unsigned flags, uint32_t *from_r, struct err *err)
{
        const struct index_position *p;
        int at;

        *from_r = 0;
        for (uint32_t i = 0; i < m->manifest.n; i++)
                if (m->manifest.entries[i].kind == MLOG_RETIRED)
                        flags |= LOAD_REBUILD;          /* the index may still point there */
        if (!(flags & LOAD_REBUILD)) {
                struct err why = ERR_INIT;

                if (index_open(m->index_path, m->uniqueid, &m->ix, &why) == 0) {
                        p = &index_counters(m->ix)->log;
                        at = manifest_find(&m->manifest, p->segment);
                        if (at >= 0 && m->manifest.entries[at].kind == MLOG_MAIN && p->offset >= MLOG_SEGMENT_HEADER &&
                            state_load_blobs(m, &why) == 0) {
                                *from_r = (uint32_t)at;
                                return 0;
                        }
                        if (why.code == ERR_NONE)
                                err_set(&why, ERR_CORRUPT, "%s: its position is not in the log", m->index_path);
                        index_destroy(&m->ix);
                        state_forget_moves(m);
                        annots_forget(m);
                }
                if (why.code == ERR_IO || why.code == ERR_NOMEM || why.code == ERR_UNSUPPORTED) {
                        err_copy(err, &why);
                        return -1;
                }
                log_event(why.code == ERR_NOTFOUND ? LOG_INFORM : LOG_WARN, NULL, "index.rebuild", "mailbox=%s uniqueid=%s reason=\"%s\"",
                          atomic_load(&m->name), m->uniqueid, why.text);
        }
        m->options_seq = 0;
        m->annots.unsettled = true;
        m->kw.changed = true;           /* names known from an earlier load are in no file of the new index */
        m->ix = index_create_empty(m->index_path, m->uniqueid);
        return 0;
}

/* How far the log was synced, as the index on disk tells, though it is not used. */
static uint64_t known_mark(struct mailbox *m, uint64_t mark)
{
        struct index *ix;

        if (index_open(m->index_path, m->uniqueid, &ix, NULL) == 0) {
                const struct index_position *p = &index_counters(ix)->log;
                int at = manifest_find(&m->manifest, p->segment);

                if (at >= 0 && m->manifest.entries[at].kind == MLOG_MAIN && mlog_mark(p->segment, p->offset) > mark)
                        mark = mlog_mark(p->segment, p->offset);
                index_destroy(&ix);
        }
        return mark;
}

static uint64_t open_size(const struct mailbox *m, const struct segment *s, unsigned flags, uint64_t limit)
{
        uint64_t size = file_size(s);

        (void)m;
        if (!(flags & LOAD_ROLLBACK) || limit >> 40 > s->info.id)
                return size;
        if (limit >> 40 < s->info.id)
                return MLOG_SEGMENT_HEADER;
        limit &= (1ull << 40) - 1;
        return size < limit ? size : limit;
}

/* Where does the first record of `s` say that the log before it ended? 0: it does not say, or is not there. */
static int previous_end(struct replay *r, struct segment *s, uint64_t before_id, uint64_t *end_r, struct err *err)
{
        struct mlog_source source = { .file = s->file, .size = file_size(s) };
        struct mlog_scan scan;
        struct mlog_record rec;
        int rc = scan_begin(r, false, &scan, &source, s, 0, 0, err);

        *end_r = 0;
        if (rc == 0) {
                rc = mlog_scan_next(&scan, &rec, err);
                if (rc == MLOG_SCAN_RECORD && rec.h.type == MLOG_COUNTERS) {
                        const struct mlog_counters *c = (const void *)rec.front;

                        if (c->prev_segment == before_id)
                                *end_r = c->prev_end;
                }
        } else if (err->code == ERR_CORRUPT) {
                err_clear(err);
                rc = 0;
        }
        mlog_scan_deinit(&scan);
        return rc < 0 ? -1 : 0;
}

/* Does the log go on behind the open segment just walked, m->segs[i]? 1 yes, 0 no, -1. */
static int goes_on(struct replay *r, uint32_t i, struct err *err)
{
        struct mailbox *m = r->m;
        struct segment *s = m->segs[i];
        bool later = false;

        for (uint32_t k = i + 1; k < m->segs_n; k++)
                later = later || m->segs[k]->kind == MLOG_MAIN;
        if (!later)
                return 0;
        if (r->mark >> 40 > s->info.id) {               /* all of this one was synced: what is missing is rot */
                r->ended = false;
                return 1;
        }
        if (r->ended)
                return 0;
        for (uint32_t k = i + 1; k < m->segs_n; k++) {
                uint64_t end;

                if (m->segs[k]->kind != MLOG_MAIN)
                        continue;
                if (previous_end(r, m->segs[k], s->info.id, &end, err) < 0)
                        return -1;
                if (end == 0)                           /* prepared, never begun */
                        continue;
                if (s->end < end)
                        r->ended = true;                /* the file lost its last, unsynced piece */
                return s->end == end;
        }
        return 0;
}

/*
 * Segments before the one that the index stands in, which the manifest does not list as sealed yet: it is written when the next one is prepared.
 * All of them is on the disk, as the index is.
 */
static int seal_former(struct replay *r, uint32_t from, struct err *err)
{
        struct mailbox *m = r->m;
        uint64_t end;

        for (uint32_t i = 0, next; i < from; i = next) {
                for (next = i + 1; next < from && m->segs[next]->kind != MLOG_MAIN; next++)
                        ;
                if (m->segs[i]->kind != MLOG_MAIN || m->segs[i]->sealed)
                        continue;
                if (previous_end(r, m->segs[next], m->segs[i]->info.id, &end, err) < 0)
                        return -1;
                if (end < MLOG_SEGMENT_HEADER)
                        continue;                       /* damaged there: nobody can say */
                m->segs[i]->sealed = true;
                m->segs[i]->end = end;
        }
        return 0;
}

/* The segments from entry `from` on, in order. Fills r; *last_r is the index in m->segs of the one that the log ends in. */
static int replay_all(struct replay *r, uint32_t from, uint64_t limit, uint32_t *last_r, struct err *err)
{
        struct mailbox *m = r->m;
        struct index_position pos = index_counters(m->ix)->log;
        bool have_pos = pos.segment != 0;

        if (have_pos)
                r->mark = mlog_mark(pos.segment, pos.offset);
        for (uint32_t i = from; i < m->segs_n; i++) {
                struct segment *s = m->segs[i];
                bool here = have_pos && s->info.id == pos.segment;

                if (s->kind == MLOG_MAIN && !s->sealed &&
                    survey(r, s, here ? pos.offset : 0, pos.prev_crc, open_size(m, s, r->flags, limit), err) < 0)
                        return -1;
        }
        for (uint32_t i = from; i < m->segs_n; i++) {
                struct segment *s = m->segs[i];
                bool here = have_pos && s->info.id == pos.segment;
                uint64_t size;

                if (s->kind == MLOG_RETIRED || s->kind == MLOG_ADOPTED)
                        continue;
                if (s->sealed) {
                        struct apply_base base = { .adopted = false };

                        /* Sealed behind the position: its records are applied a second time, which changes nothing. */
                        if (!here || pos.offset < s->end)
                                if (replay_sealed(r, s, &base, err) < 0)
                                        return -1;
                        if (s->kind == MLOG_MAIN)
                                *last_r = i;
                        continue;
                }
                size = open_size(m, s, r->flags, limit);
                if (here && pos.offset > size) {
                        mailbox_problem(m, r->report, 0, "segment %llx ends at %llu, the index knows it up to %llu",
                                        (unsigned long long)s->info.id, (unsigned long long)size, (unsigned long long)pos.offset);
                        r->valid_end = pos.offset;
                        r->prev_crc = pos.prev_crc;
                        r->ended = true;
                } else if (replay_open(r, s, here ? pos.offset : 0, pos.prev_crc, size, err) < 0) {
                        return -1;
                }
                s->end = r->valid_end;
                *last_r = i;
                switch (goes_on(r, i, err)) {
                case 1:
                        s->sealed = true;
                        continue;
                case 0:
                        return 0;
                default:
                        return -1;
                }
        }
        return 0;
}

/* An open segment whose size cannot be asked for is not an empty one: sealing it there would throw away what was acknowledged. */
static int build_segments(struct mailbox *m, struct err *err)
{
        struct stat st;

        m->segs = xcalloc(m->manifest.n + 1, sizeof *m->segs);
        m->segs_n = 0;
        for (uint32_t i = 0; i < m->manifest.n; i++) {
                struct segment *s = m->segs[m->segs_n++] = segment_open(m, &m->manifest.entries[i], NULL);

                if (!s->sealed && stat(file_path(s->file), &st) < 0 && errno != ENOENT)
                        return err_errno(err, errno, "stat %s", file_path(s->file));
        }
        return 0;
}

static void drop_segment(struct mailbox *m, uint32_t at, bool unlink_file)
{
        if (unlink_file)
                file_unlink_last(m->segs[at]->file);
        segment_unref(&m->segs[at]);
        m->segs_n--;
        memmove(m->segs + at, m->segs + at + 1, (m->segs_n - at) * sizeof *m->segs);
}

/* Seal the log where it ends, forget what is behind, begin a new segment. All of it is one manifest. */
static int seal_tail(struct mailbox *m, uint32_t last, struct err *err)
{
        struct segment *seg, *end = m->segs[last];
        int at = manifest_find(&m->manifest, end->info.id);

        must(at >= 0);
        m->manifest.entries[at].valid_len = end->end;
        for (uint32_t i = m->manifest.n; i-- > 0;)
                if (m->manifest.entries[i].kind == MLOG_MAIN && m->manifest.entries[i].id > end->info.id)
                        manifest_remove(&m->manifest, i);
        m->durable_mark = mlog_mark(end->info.id, end->end);
        if (segment_begin(m, m->manifest.next_id, true, &seg, err) < 0)
                return -1;
        m->manifest.next_id++;
        if (segment_settle(m, seg, false, err) < 0) {
                file_unlink_last(seg->file);
                segment_unref(&seg);
                return -1;
        }
        *manifest_add(&m->manifest, m->manifest.n) = (struct manifest_entry){ .id = seg->info.id, .valid_len = MLOG_OPEN_END,
                .kind = MLOG_MAIN, .crc = seg->info.crc, .salt = seg->info.salt };
        if (mailbox_guard(m, manifest_write(&m->manifest, m->dir, err), err) < 0) {
                segment_unref(&seg);
                return -1;
        }
        end->sealed = true;
        end->durable = end->end;
        for (uint32_t i = m->segs_n; i-- > 0;)
                if (m->segs[i]->kind == MLOG_MAIN && m->segs[i]->info.id > end->info.id)
                        drop_segment(m, i, true);
        m->segs = xrealloc(m->segs, (m->segs_n + 1) * sizeof *m->segs);
        m->segs[m->segs_n++] = seg;
        m->active = seg;
        return 0;
}

/* Files that nobody lists: what a crash left of segments and temporary files. Also keeps next_id above all that are there. */
static void remove_orphans(struct mailbox *m)
{
        DIR *d = opendir(m->dir);
        struct dirent *e;

        while (d && (e = readdir(d)) != NULL) {
                struct str path = STR_INIT;
                unsigned long long id;
                char rest;
                bool orphan = false;

                if (sscanf(e->d_name, "log.%16llx%c", &id, &rest) == 1)
                        orphan = manifest_find(&m->manifest, id) < 0;
                else if (strncmp(e->d_name, "b.", 2) == 0)
                        orphan = strchr(e->d_name + 2, '.') != NULL;    /* a copy that was never renamed */
                if (orphan) {
                        str_printf(&path, "%s/%s", m->dir, e->d_name);
                        unlink(path.data);
                        str_deinit(&path);
                }
        }
        if (d)
                closedir(d);
}

/* The local sequence goes on above all that compactions took, which no record of the log need show: what is written below would not count
 * against what they kept, once the index is rebuilt. */
static uint64_t compacted_seq(const struct mailbox *m, uint64_t max)
{
        bool unknown = false;

        for (uint32_t i = 0; i < m->manifest.n; i++) {
                const struct manifest_entry *e = &m->manifest.entries[i];

                if (e->kind != MLOG_COMPACTED)
                        continue;
                unknown = unknown || !e->seq;
                if (e->seq > max)
                        max = e->seq;
        }
        return unknown ? max + SEQ_RESERVED : max;
}

/* ADOPTED entries that no ADOPT record ever came for (base_uid still 0), and RETIRED ones after a rebuild. */
static void drop_unused(struct mailbox *m)
{
        for (uint32_t i = m->segs_n; i-- > 0;) {
                struct segment *s = m->segs[i];
                int at = manifest_find(&m->manifest, s->info.id);

                if (s->kind == MLOG_ADOPTED && s->base_uid && at >= 0) {
                        m->manifest.entries[at].base_uid = s->base_uid;
                        m->manifest.entries[at].base_modseq = s->base_modseq;
                        m->manifest.entries[at].seq = s->seq;
                }
                if (s->kind == MLOG_ADOPTED && !s->base_uid) {
                        if (at >= 0)
                                manifest_remove(&m->manifest, (uint32_t)at);
                        drop_segment(m, i, true);
                } else if (s->kind == MLOG_RETIRED) {
                        m->retired_left = true;         /* stays listed until a checkpoint of the index that was rebuilt: compaction */
                        drop_segment(m, i, false);
                }
        }
}

int mailbox_sync_file(struct mailbox *m, const char *path, struct err *err)
{
        int rc, fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                return errno == ENOENT ? 0 : err_errno(err, errno, "open %s", path);
        rc = mailbox_guard(m, fs_datasync(fd, path, err), err);
        close(fd);
        return rc;
}

/* What was replayed may be in the page cache only: segments that no manifest calls sealed, up to the one that the log ends in. Those
 * before the index's position were on disk when that was written. */
static int sync_replayed(struct mailbox *m, uint32_t last, struct err *err)
{
        uint64_t from = index_counters(m->ix)->log.segment;

        for (uint32_t i = 0; i <= last; i++) {
                struct segment *s = m->segs[i];
                int at = manifest_find(&m->manifest, s->info.id);

                if (s->kind == MLOG_MAIN && s->info.id >= from && at >= 0 && m->manifest.entries[at].valid_len == MLOG_OPEN_END &&
                    mailbox_sync_file(m, file_path(s->file), err) < 0)
                        return -1;
        }
        return 0;
}

static int finish_load(struct mailbox *m, struct replay *r, uint32_t last, struct err *err)
{
        struct index_counters *c = index_counters(m->ix);
        struct segment *end = m->segs[last];
        bool unclean = r->last_epoch != m->epoch, readonly = r->flags & LOAD_READONLY;

        kwtab_fill(&m->kw);
        if (m->annots.unsettled && annots_settle(m, err) < 0)
                return -1;
        m->seq = compacted_seq(m, r->max_seq) + 1;
        m->prev_crc = r->prev_crc;
        m->active = end;
        if (unclean && r->last_epoch < m->epoch && !state_is_quiet(m))
                c->highestmodseq += (uint64_t)MODSEQ_JUMP * (m->epoch - r->last_epoch);
        m->durable_modseq = c->highestmodseq;
        if (!readonly) {
                bool open_behind = end->sealed;         /* cannot be, but for damage */

                /* One that was prepared and never begun is not worth keeping over an unclean stop. */
                for (uint32_t i = m->segs_n; i-- > 0;)
                        if (m->segs[i]->kind == MLOG_MAIN && m->segs[i]->info.id > end->info.id)
                                open_behind = true;
                if (unclean)
                        remove_orphans(m);
                if ((end->end > c->log.offset || c->log.segment != end->info.id) && sync_replayed(m, last, err) < 0)
                        return -1;
                if ((r->ended || open_behind) && seal_tail(m, last, err) < 0)
                        return -1;
                drop_unused(m);
        }
        m->active->durable = m->active->end;
        for (uint32_t i = 0; i < m->segs_n; i++)
                m->segs[i]->durable = m->segs[i]->end;
        m->end_mark = m->durable_mark = mlog_mark(m->active->info.id, m->active->end);
        if (c->log.segment && c->log.segment != m->active->info.id)
                index_touch(m->ix);                     /* the next checkpoint has to leave the former segment */
        c->log = (struct index_position){ .segment = m->active->info.id, .offset = m->active->end, .seq = m->seq - 1, .epoch = m->epoch,
                                          .prev_crc = m->prev_crc };
        return 0;
}

int mailbox_load(struct mailbox *m, const struct mailbox_ident *ident, unsigned flags, struct check_report *report, struct err *err)
{
        struct replay r = { .m = m, .flags = flags, .report = report };
        uint64_t limit = m->durable_mark;
        uint32_t from, last = UINT32_MAX;
        int rc = -1;

        str_init(&r.batch);
        if (store_mailbox_is_whole(m->store, m->partition_dir, m->uniqueid, err) < 0)
                return -1;
        if (manifest_read(&m->manifest, m->dir, m->uniqueid, err) < 0) {
                if (err->code == ERR_NOTFOUND && fs_exists(m->dir))
                        err_set(err, ERR_CORRUPT, "%s has no manifest", m->dir);
                return -1;
        }
        if (build_segments(m, err) < 0 || load_index(m, flags, &from, err) < 0)
                goto out;
        /* The log is read from its beginning: what is known to have been on disk counts as a mark all the same. */
        r.mark = index_counters(m->ix)->log.segment ? 0 : known_mark(m, flags & LOAD_ROLLBACK ? 0 : limit);
        if (index_counters(m->ix)->log.segment) {
                r.max_seq = index_counters(m->ix)->log.seq;
                r.last_epoch = index_counters(m->ix)->log.epoch;
        }
        if (seal_former(&r, from, err) < 0 || replay_all(&r, from, limit, &last, err) < 0)
                goto out;
        if (last == UINT32_MAX) {
                err_set(err, ERR_CORRUPT, "%s: its manifest lists no log", m->dir);
                goto out;
        }
        if (!index_counters(m->ix)->uidvalidity)
                index_counters(m->ix)->uidvalidity = ident->uidvalidity;
        if (!index_counters(m->ix)->uidnext)
                index_counters(m->ix)->uidnext = 1;
        if (finish_load(m, &r, last, err) < 0)
                goto out;
        if (m->manifest.from_copy && !m->readonly_store && mailbox_guard(m, manifest_write(&m->manifest, m->dir, err), err) < 0)
                goto out;
        index_set_repair(m->ix, &(struct index_repair){ .fn = repair_block, .ctx = m });
        rc = 0;
out:
        str_deinit(&r.batch);
        if (rc < 0) {
                /* The object stays usable as an empty one: a failed roll-back must not bring the daemon down. */
                if (!m->ix)
                        m->ix = index_create_empty(m->index_path, m->uniqueid);
        }
        return rc;
}

void mailbox_set_view(struct mailbox *m)
{
        const struct index_counters *c = index_counters(m->ix);

        view_unref(&m->view);
        m->published_modseq = c->highestmodseq;
        m->published_uidnext = c->uidnext;
        m->view = view_create_from_index(m->ix, c->uidnext, c->highestmodseq);
        m->view_stale = false;
}

/* A block of the index is damaged: read the log for it. With or without the mailbox's lock, so nothing of `m` but what is immutable, or
 * atomic, is used: a second, private mailbox is loaded from the files. */
static int repair_block(void *ctx, uint32_t first_uid, uint32_t last_uid, struct index_rec *recs, uint32_t max, uint32_t *n_r,
                        struct err *err)
{
        struct mailbox *m = ctx, *other;
        struct mailbox_ident ident = { .uniqueid = m->uniqueid, .name = m->uniqueid };
        struct index_iter it;
        int rc;

        *n_r = 0;
        for (;;) {
                ident.partition_dir = m->partition_dir;
                other = mailbox_alloc(m->store, NULL, &ident);
                rc = mailbox_load(other, &ident, LOAD_REBUILD | LOAD_READONLY, NULL, err);
                if (rc == 0 || ident.partition_dir == m->partition_dir)
                        break;
                mailbox_free(&other);                   /* it was on its way to another partition */
                err_clear(err);
        }
        if (rc == 0) {
                index_iter_init(&it, other->ix, first_uid);
                it.upto_uid = last_uid;
                while (*n_r < max && (rc = index_next(&it, &recs[*n_r], err)) == 1)
                        (*n_r)++;
                log_event(LOG_WARN, NULL, "index.repaired", "mailbox=%s uniqueid=%s first_uid=%u last_uid=%u", atomic_load(&m->name),
                          m->uniqueid, first_uid, last_uid);
        }
        mailbox_free(&other);
        return rc < 0 ? -1 : 0;
}

/* ---- creation ---- */

int mailbox_create_files(struct store *store, const struct mailbox_ident *ident, struct err *err)
{
        struct mailbox *m = mailbox_alloc(store, NULL, ident);
        struct segment *seg = NULL;
        struct index_counters *c;
        int rc = -1;

        manifest_init(&m->manifest, m->uniqueid);
        m->ix = index_create_empty(m->index_path, m->uniqueid);
        c = index_counters(m->ix);
        c->uidvalidity = ident->uidvalidity;
        c->uidnext = 1;
        c->highestmodseq = c->created_modseq = 1;
        c->options = MBOX_POP3_NEW_UIDL;                /* as with Cyrus */
        m->seq = 1;
        if (mailbox_guard(m, fs_mkdir_p_durable(m->dir, 0700, err), err) < 0)
                goto out;
        if (fs_exists(m->index_path)) {
                err_set(err, ERR_EXISTS, "%s is there already", m->dir);
                goto out;
        }
        {
                struct str path = STR_INIT;
                bool there;

                str_printf(&path, "%s/manifest", m->dir);
                there = fs_exists(path.data);
                str_deinit(&path);
                if (there) {
                        err_set(err, ERR_EXISTS, "%s is there already", m->dir);
                        goto out;
                }
        }
        if (segment_begin(m, 1, true, &seg, err) < 0 || segment_settle(m, seg, true, err) < 0)
                goto out;
        m->manifest.next_id = 2;
        *manifest_add(&m->manifest, 0) = (struct manifest_entry){ .id = 1, .valid_len = MLOG_OPEN_END, .kind = MLOG_MAIN,
                .crc = seg->info.crc, .salt = seg->info.salt };
        rc = mailbox_guard(m, manifest_write(&m->manifest, m->dir, err), err);
out:
        segment_unref(&seg);
        mailbox_free(&m);
        return rc;
}
