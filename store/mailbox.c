/*
 * mailbox - see mailbox.h: what is read of an open mailbox. State is copied out under its lock; octets and rendered structures come
 * from counted segment files without it.
 */
#include "store/mailbox_private.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "store/change.h"
#include "util/clock.h"
#include "util/fs.h"
#include "util/must.h"

#define HEADER_READ_MAX ((uint64_t)128 * 1024)     /* octets of a record that are read for its header */
#define BLOB_CHECK_MAX (4u << 20)               /* larger blobs are only checked for their size when read; cyrctl check reads them */
#define CHECK_BUFFER (64u << 10)
#define SCAN_SLICE 4096                         /* records looked at before the lock is given up for a moment */

/* ---- keywords ---- */

uint32_t mailbox_keyword_count(struct mailbox *m)
{
        return atomic_load_explicit(&m->kw.names, memory_order_acquire);
}

const char *mailbox_keyword_name(struct mailbox *m, uint32_t keyword)
{
        must(keyword < mailbox_keyword_count(m));
        return kwtab_name(&m->kw, keyword);
}

uint32_t mailbox_keyword_generation(struct mailbox *m)
{
        return atomic_load_explicit(&m->kw.generation, memory_order_acquire);
}

int mailbox_keyword_find(struct mailbox *m, struct span name)
{
        int id;

        mailbox_lock(m);
        id = kwtab_find_name(&m->kw, name);
        mailbox_unlock(m);
        return id;
}

const struct kwset *mailbox_kwset(struct mailbox *m, uint32_t set_id)
{
        if (set_id == 0 || set_id >= atomic_load_explicit(&m->kw.sets, memory_order_acquire))
                return NULL;
        return kwtab_set(&m->kw, set_id);
}

/* ---- identity ---- */

const char *mailbox_uniqueid(struct mailbox *m)
{
        return m->uniqueid;
}

struct store *mailbox_store(struct mailbox *m)
{
        return m->store;
}

bool mailbox_is_deleted(struct mailbox *m)
{
        return atomic_load(&m->deleted);
}

struct mailbox *mailbox_ref(struct mailbox *m)
{
        must(atomic_fetch_add(&m->refs, 1) > 0);
        return m;
}

void mailbox_unref(struct mailbox **mp)
{
        struct mailbox *m = *mp;

        *mp = NULL;
        if (m)
                logstore_unref(m->ls, m);
}

/* ---- counters ---- */

static uint32_t first_unseen_locked(struct mailbox *m) REQUIRES(m->lock, mailbox_class);
static uint32_t first_unseen_locked(struct mailbox *m)
{
        uint32_t uid;

        return index_first_unseen(m->ix, m->published_uidnext ? m->published_uidnext - 1 : UINT32_MAX, &uid, NULL) == 1 ? uid : 0;
}

void mailbox_status(struct mailbox *m, struct mailbox_status *s)
{
        const struct index_counters *c;
        const struct index_totals *t;
        int64_t live;

        memset(s, 0, sizeof *s);
        mailbox_lock(m);
        c = index_counters(m->ix);
        t = index_totals(m->ix);
        live = (int64_t)t->live - m->pending.live;
        s->messages = m->view ? view_count(m->view) : (uint32_t)live;
        s->unseen = (uint32_t)(live - ((int64_t)t->seen - m->pending.seen));
        s->deleted = (uint32_t)((int64_t)t->deleted - m->pending.deleted);
        s->size = (uint64_t)((int64_t)t->size - m->pending.size);
        s->deleted_size = (uint64_t)((int64_t)t->deleted_size - m->pending.deleted_size);
        s->uidnext = m->published_uidnext;
        s->uidvalidity = c->uidvalidity;
        s->highestmodseq = m->published_modseq;
        s->deletedmodseq = c->deletedmodseq;
        s->last_append = c->last_append;
        s->pop3_last_login = c->pop3_last_login;
        s->pop3_show_after = c->pop3_show_after;
        s->recent_time = c->recent_time;
        s->recentuid = c->recentuid;
        if (m->view && s->messages)
                s->recent = s->messages + 1 - view_seqno_from(m->view, c->recentuid == UINT32_MAX ? UINT32_MAX : c->recentuid + 1);
        s->first_unseen_uid = s->unseen ? first_unseen_locked(m) : 0;
        s->readonly = m->failed || m->readonly_store || store_partition_failed(m->store, m->partition_dir) || store_is_fenced(m->store);
        mailbox_unlock(m);
}

uint32_t mailbox_options(struct mailbox *m)
{
        uint32_t options;

        mailbox_lock(m);
        options = index_counters(m->ix)->options;
        mailbox_unlock(m);
        return options;
}

/* For those who follow all changes: clients are told of none of this. */
static void tell_quietly(struct mailbox *m)
{
        store_mailbox_changed(m->store, &(struct change){ .kind = CHANGE_MAILBOX, .name = atomic_load(&m->name), .uniqueid = m->uniqueid,
                                                          .modseq = mailbox_published_modseq(m), .what = CHANGE_QUIET,
                                                          .marks = change_marks() });
}

/* Write the options as `change` makes them of what they are. */
static int write_options(struct mailbox *m, void (*change)(struct mlog_options *o, const void *ctx), const void *ctx, struct commit *c,
                         struct err *err) EXCLUDES(mailbox_class)
{
        struct mlog_batch b;
        struct mlog_counters counters;
        int rc;

        mlog_batch_init(&b);
        mailbox_lock(m);
        rc = mailbox_changeable_locked(m, err);
        state_counters(m, &counters);
        change(&counters.options, ctx);
        if (rc == 0) {
                mlog_batch_add(&b, &b.body, MLOG_OPTIONS, &counters.options, sizeof counters.options, NULL, 0, NULL, 0, 0);
                m->options_dirty = false;               /* they are all in this record */
                rc = mailbox_write_locked(m, &b, index_counters(m->ix)->highestmodseq, 0, c, err);
        }
        mailbox_unlock(m);
        mailbox_after(m);
        mlog_batch_deinit(&b);
        if (rc == 0)
                tell_quietly(m);
        return rc;
}

struct option_bits { uint32_t mask, options; };
static void change_bits(struct mlog_options *o, const void *ctx)
{
        const struct option_bits *bits = ctx;

        o->options = (o->options & ~bits->mask) | (bits->options & bits->mask);
}

int mailbox_set_options(struct mailbox *m, uint32_t mask, uint32_t options, struct waiter *waiter, struct err *err)
{
        struct commit c = { .waiter = waiter, .hard = true };
        struct option_bits bits = { mask, options };

        return write_options(m, change_bits, &bits, &c, err);
}

static void change_login(struct mlog_options *o, const void *ctx)
{
        o->pop3_last_login = *(const int64_t *)ctx;
}

int mailbox_set_pop3_login(struct mailbox *m, int64_t unix_s, struct err *err)
{
        struct commit c = { .waiter = NULL };

        return write_options(m, change_login, &unix_s, &c, err);
}

static void change_show_after(struct mlog_options *o, const void *ctx)
{
        o->pop3_show_after = *(const int64_t *)ctx;
}

int mailbox_set_pop3_show_after(struct mailbox *m, int64_t unix_s, struct waiter *waiter, struct err *err)
{
        struct commit c = { .waiter = waiter, .hard = true };

        return write_options(m, change_show_after, &unix_s, &c, err);
}

uint64_t mailbox_published_modseq(struct mailbox *m)
{
        uint64_t modseq;

        mailbox_lock(m);
        modseq = m->published_modseq;
        mailbox_unlock(m);
        return modseq;
}

uint32_t mailbox_claim_recent(struct mailbox *m)
{
        struct index_counters *c;
        bool claimed = false;
        uint32_t was;

        mailbox_lock(m);
        c = index_counters(m->ix);
        was = c->recentuid;
        if (m->published_uidnext > was + 1 && !m->failed && !m->readonly_store) {
                c->recentuid = m->published_uidnext - 1;
                c->recent_time = clock_wall_s();
                m->options_dirty = true;        /* goes with the next batch or checkpoint; after a crash they are recent once more */
                index_touch(m->ix);
                claimed = true;
        }
        mailbox_unlock(m);
        if (claimed)
                tell_quietly(m);
        return was;
}

struct view *mailbox_view(struct mailbox *m)
{
        struct view *v;

        mailbox_lock(m);
        if (m->view_stale) {
                struct view *old = m->view;

                m->view = view_with_modseq(old, m->published_modseq);
                view_unref(&old);
                m->view_stale = false;
        }
        v = view_ref(m->view);
        mailbox_unlock(m);
        return v;
}

/* ---- messages ---- */

void mailbox_copy_out(const struct index_rec *rec, struct msg *msg)
{
        msg->uid = rec->uid;
        msg->flags = rec->flags;
        msg->kwset = rec->kwset;
        msg->modseq = rec->modseq;
        msg->createdmodseq = rec->createdmodseq;
        msg->last_updated = rec->last_updated;
        msg->internaldate = rec->internaldate;
        msg->savedate = rec->savedate;
        msg->sentdate = rec->sentdate;
        msg->size = rec->size;
        msg->header_size = rec->header_size;
        memcpy(msg->guid, rec->guid, sizeof msg->guid);
        msg->thrid = rec->thrid;
        msg->emailid = rec->emailid;
        msg->segment = (uint32_t)rec->segment;
        msg->front_len = rec->front_len;
        msg->offset = rec->offset;
}

int mailbox_messages(struct mailbox *m, const uint32_t *uids, uint32_t n, struct msg *msgs_r, struct err *err)
{
        int rc = 0;

        must(n <= 256);
        mailbox_lock(m);
        for (uint32_t i = 0; i < n && rc >= 0; i++) {
                struct index_rec rec;

                rc = uids[i] < m->published_uidnext ? index_find(m->ix, uids[i], &rec, err) : 0;
                if (rc == 1)
                        mailbox_copy_out(&rec, &msgs_r[i]);
                else
                        memset(&msgs_r[i], 0, sizeof msgs_r[i]);
        }
        mailbox_unlock(m);
        return rc < 0 ? -1 : 0;
}

int mailbox_message(struct mailbox *m, uint32_t uid, struct msg *msg_r, struct err *err)
{
        if (mailbox_messages(m, &uid, 1, msg_r, err) < 0)
                return -1;
        return msg_r->uid ? 0 : err_set(err, ERR_NOTFOUND, "mailbox %s: no message %u", m->uniqueid, uid);
}

int mailbox_changed(struct mailbox *m, struct view *view, uint64_t since, uint64_t upto, uint32_t from_uid, uint32_t max,
                    struct uidset *uids_r, struct err *err)
{
        struct index_iter it;
        struct index_rec rec;
        uint32_t found = 0, looked = 0;
        int rc = 0;

        mailbox_lock(m);
        index_iter_init(&it, m->ix, from_uid ? from_uid : 1);
        it.modseq_above = since;
        while (found < max && (rc = index_next(&it, &rec, err)) == 1) {
                if (rec.modseq <= upto && view_seqno(view, rec.uid)) {
                        uidset_add(uids_r, rec.uid);
                        found++;
                }
                if (++looked % SCAN_SLICE == 0) {
                        mailbox_unlock(m);
                        mailbox_lock(m);
                        it.ix = m->ix;                  /* it may have been read back from the disk meanwhile */
                }
        }
        mailbox_unlock(m);
        return rc < 0 ? -1 : 0;
}

/* ---- what concerns one user only ---- */

uint64_t mailbox_reader_id(const char *userid)
{
        return hash_keyed(userid, strlen(userid));
}

void mailbox_note_private_locked(struct mailbox *m, uint32_t uid, uint64_t modseq, uint64_t before, uint64_t reader)
{
        size_t half = PRIVATE_CHANGES_MAX / 2;

        if (m->private_changes.n == PRIVATE_CHANGES_MAX) {
                memmove(m->private_changes.v, m->private_changes.v + half, half * sizeof *m->private_changes.v);
                m->private_changes.n = half;
        }
        *ARRAY_PUSH(&m->private_changes) = (struct private_change){ modseq, before, reader, uid };
}

static const struct private_change *private_change_at(struct mailbox *m, uint32_t uid, uint64_t modseq)
{
        size_t low = 0, high = m->private_changes.n;

        while (low < high) {
                size_t mid = low + (high - low) / 2;
                const struct private_change *c = &m->private_changes.v[mid];

                if (c->modseq == modseq && c->uid == uid)
                        return c;
                if (c->modseq < modseq || (c->modseq == modseq && c->uid < uid))
                        low = mid + 1;
                else
                        high = mid;
        }
        return NULL;
}

uint64_t mailbox_news_modseq(struct mailbox *m, uint32_t uid, uint64_t modseq, uint64_t reader)
{
        const struct private_change *c;

        mailbox_lock(m);
        while ((c = private_change_at(m, uid, modseq)) != NULL && c->reader != reader)
                modseq = c->before;
        mailbox_unlock(m);
        return modseq;
}

int mailbox_vanished(struct mailbox *m, uint64_t since, uint32_t first, uint32_t last, struct uidset *uids_r, bool *complete_r,
                     struct err *err)
{
        struct index_iter it;
        struct index_rec rec;
        uint32_t looked = 0;
        int rc;

        mailbox_lock(m);
        *complete_r = index_counters(m->ix)->deletedmodseq <= since;
        index_iter_init(&it, m->ix, first);
        it.upto_uid = last;
        it.modseq_above = since;
        it.live = false;
        while ((rc = index_next(&it, &rec, err)) == 1) {
                if (rec.modseq <= m->published_modseq)
                        uidset_add(uids_r, rec.uid);
                if (++looked % SCAN_SLICE == 0) {
                        mailbox_unlock(m);
                        mailbox_lock(m);
                        it.ix = m->ix;
                }
        }
        mailbox_unlock(m);
        return rc < 0 ? -1 : 0;
}

/* ---- octets ---- */

#define CHECKED_UID_MAX (1u << 26)              /* 10 MiB; a replica's UIDs may be any. Those above are checked each time */

static bool is_checked_locked(struct mailbox *m, uint32_t uid) REQUIRES(m->lock, mailbox_class);
static bool is_checked_locked(struct mailbox *m, uint32_t uid)
{
        return uid / 64 < m->checked_words && (m->checked[uid / 64] >> (uid % 64) & 1);
}

static void set_checked(struct mailbox *m, uint32_t uid) EXCLUDES(mailbox_class)
{
        if (uid > CHECKED_UID_MAX)
                return;
        mailbox_lock(m);
        if (uid / 64 >= m->checked_words) {
                uint32_t words = uid / 64 + uid / 256 + 16;

                m->checked = xrealloc(m->checked, (size_t)words * sizeof *m->checked);
                memset(m->checked + m->checked_words, 0, (size_t)(words - m->checked_words) * sizeof *m->checked);
                m->checked_words = words;
        }
        m->checked[uid / 64] |= 1ull << (uid % 64);
        mailbox_unlock(m);
}

/* The segment that holds a message, with a reference, and where it is: compaction may have moved it since *msg was copied. */
static int find_segment(struct mailbox *m, const struct msg *msg, struct segment **seg_r, uint64_t *offset_r, bool *checked_r,
                        struct err *err) EXCLUDES(mailbox_class)
{
        struct index_rec rec;
        struct segment *seg;
        int rc = 0;

        mailbox_lock(m);
        *offset_r = msg->offset;
        seg = mailbox_segment(m, msg->segment);
        if (!seg && (rc = index_find(m->ix, msg->uid, &rec, err)) == 1 && !(rec.flags & MSG_UNLINKED)) {
                *offset_r = rec.offset;
                seg = mailbox_segment(m, rec.segment);
        }
        if (seg)
                *seg_r = segment_ref(seg);
        *checked_r = is_checked_locked(m, msg->uid);
        mailbox_unlock(m);
        if (seg)
                return 0;
        return rc < 0 ? -1 : err_set(err, ERR_NOTFOUND, "mailbox %s: message %u is gone", m->uniqueid, msg->uid);
}

static int check_octets(struct file *file, uint64_t offset, uint64_t len, uint32_t expected, struct err *err)
{
        char *buf = xmalloc(len < CHECK_BUFFER ? len + 1 : CHECK_BUFFER);
        uint32_t crc = 0;
        int rc = 0;

        while (rc == 0 && len) {
                size_t n = len < CHECK_BUFFER ? len : CHECK_BUFFER;

                rc = file_read(file, buf, n, offset, err);
                crc = crc32c(crc, buf, n);
                offset += n;
                len -= n;
        }
        free(buf);
        if (rc == 0 && crc != expected)
                return err_set(err, ERR_CORRUPT, "%s: the octets do not have their checksum", file_path(file));
        return rc;
}

/* It was expunged, and its octets are not kept. */
static bool is_unlinked(struct mailbox *m, uint32_t uid) EXCLUDES(mailbox_class)
{
        struct index_rec rec;
        int rc;

        mailbox_lock(m);
        rc = index_find(m->ix, uid, &rec, NULL);
        mailbox_unlock(m);
        return rc == 0 || (rc == 1 && (rec.flags & MSG_UNLINKED));
}

static int damaged(struct mailbox *m, const struct msg *msg, struct err *err)
{
        if ((err->code == ERR_CORRUPT || err->code == ERR_NOTFOUND) && is_unlinked(m, msg->uid)) {
                err_clear(err);
                return err_set(err, ERR_NOTFOUND, "mailbox %s: message %u is gone", m->uniqueid, msg->uid);
        }
        if (err->code == ERR_CORRUPT || err->code == ERR_NOTFOUND) {
                mailbox_problem(m, NULL, msg->uid, "%s", err->text);
                err->code = ERR_CORRUPT;
        }
        return -1;
}

static int blob_body(struct mailbox *m, const struct msg *msg, const struct mlog_message *f, bool checked, struct extent *extent_r,
                     struct err *err) EXCLUDES(mailbox_class)
{
        struct file *file;
        char last;
        int rc;

        mailbox_lock(m);
        file = file_ref(blob_open_locked(m, msg->guid, f->blob_number)->file);
        mailbox_unlock(m);
        if (checked)
                rc = 0;
        else if (msg->size <= BLOB_CHECK_MAX)
                rc = check_octets(file, 0, msg->size, f->octets_crc, err);
        else
                rc = file_read(file, &last, 1, msg->size - 1, err);
        if (rc < 0) {
                file_unref(&file);
                return -1;
        }
        *extent_r = (struct extent){ .file = file, .offset = 0, .len = msg->size };
        return 0;
}

/* A record that compaction wrote without its octets. */
static bool is_stub(const struct mlog_header *h, const struct mlog_message *front)
{
        return h->type == MLOG_MESSAGE && (front->flags & MSG_UNLINKED);
}

static int header_at_once(struct mailbox *m, const struct msg *msg, struct str *buf, struct span *header_r, struct err *err)
        EXCLUDES(mailbox_class);

/* A small message's octets against their checksum, by one read of its record. False: that is not known by this. */
static bool check_at_once(struct mailbox *m, const struct msg *msg) EXCLUDES(mailbox_class)
{
        struct str buf = STR_INIT;
        struct span header;
        struct err err = ERR_INIT;
        bool right = header_at_once(m, msg, &buf, &header, &err) == 1;

        err_clear(&err);
        str_deinit(&buf);
        return right;
}

int mailbox_body(struct mailbox *m, const struct msg *msg, struct extent *extent_r, struct err *err)
{
        struct mlog_header h;
        struct str front = STR_INIT;
        struct segment *seg;
        uint64_t offset;
        bool checked;
        int rc;

        if (find_segment(m, msg, &seg, &offset, &checked, err) < 0)
                return -1;
        if (!(msg->flags & (MSG_BLOB | MSG_UNLINKED)) && (checked || check_at_once(m, msg))) {
                *extent_r = (struct extent){ file_ref(seg->file), offset + sizeof h + msg->front_len, msg->size };
                segment_unref(&seg);
                return 0;
        }
        rc = mlog_read_record(seg->file, &seg->info, offset, &h, &front, err);
        if (rc == 0 && (h.type != MLOG_MESSAGE || h.front_len != msg->front_len))
                rc = err_set(err, ERR_CORRUPT, "%s: no message at %llu", file_path(seg->file), (unsigned long long)offset);
        if (rc == 0 && is_stub(&h, (const void *)front.data))
                rc = err_set(err, ERR_NOTFOUND, "message %u is gone", msg->uid);
        if (rc == 0 && (msg->flags & MSG_BLOB)) {
                rc = blob_body(m, msg, (const void *)front.data, checked, extent_r, err);
        } else if (rc == 0) {
                rc = check_octets(seg->file, offset + sizeof h + h.front_len, h.body_len, h.body_crc, err);
                if (rc == 0)
                        *extent_r = (struct extent){ file_ref(seg->file), offset + sizeof h + h.front_len, h.body_len };
        }
        if (rc == 0 && !checked)
                set_checked(m, msg->uid);
        str_deinit(&front);
        segment_unref(&seg);
        return rc < 0 ? damaged(m, msg, err) : 0;
}

static struct span copy_span(struct arena *arena, const char *p, uint32_t len)
{
        return arena_span(arena, (struct span){ p, len });
}

/* One of the rendered texts: copied, or where it is. */
static struct span text_span(struct arena *arena, bool places, const char *p, uint32_t len, struct segment *seg, struct msg_front *f_r)
{
        if (!places || len < FRONT_LARGE)
                return copy_span(arena, p, len);
        if (!f_r->file)
                f_r->file = file_ref(seg->file);
        return (struct span){ NULL, len };
}

/* ---- fronts ---- */

#define FRONT_WINDOW ((size_t)64 << 10)
#define FRONT_GAP 8192u                         /* octets between two fronts that are cheaper to read than to leave out */

void front_window_deinit(struct front_window *w)
{
        free(w->buf);
        *w = (struct front_window){ 0 };
}

static bool in_window(const struct front_window *w, uint64_t segment, uint64_t offset, uint64_t len)
{
        return w->len && w->segment == segment && offset >= w->offset && offset + len <= w->offset + w->len;
}

static uint64_t wanted_end(const struct msg *msg, bool octets)
{
        bool has = octets && !(msg->flags & (MSG_BLOB | MSG_UNLINKED));

        return msg->offset + sizeof(struct mlog_header) + msg->front_len + (has ? msg->size : 0);
}

void front_window_plan(struct front_window *w, const struct msg *msgs, uint32_t n, bool octets)
{
        uint64_t begin = msgs[0].offset, end = wanted_end(&msgs[0], octets);

        w->ahead = 0;
        if (in_window(w, msgs[0].segment, begin, end - begin))
                return;
        for (uint32_t i = 1; i < n; i++) {
                const struct msg *next = &msgs[i];
                uint64_t to = wanted_end(next, octets);

                if (!next->uid || next->segment != msgs[0].segment || next->offset < end || next->offset - end > FRONT_GAP ||
                    to - begin > FRONT_WINDOW)
                        break;
                end = to;
                w->ahead = (size_t)(end - begin);
        }
}

/* `len` octets of the segment in the window, which is filled where that pays. NULL: they are to be read by themselves. */
static const char *from_window(struct front_window *w, const struct segment *seg, uint64_t offset, uint64_t len)
{
        if (!in_window(w, seg->info.id, offset, len)) {
                if (w->ahead <= len)
                        return NULL;
                if (!w->buf)
                        w->buf = xmalloc(FRONT_WINDOW);
                w->len = 0;
                if (file_read(seg->file, w->buf, w->ahead, offset, NULL) < 0)
                        return NULL;
                w->segment = (uint32_t)seg->info.id;
                w->offset = offset;
                w->len = w->ahead;
        }
        return w->buf + (offset - w->offset);
}

/* NULL: to be read by itself, which also says what is wrong. */
static const char *front_from_window(struct front_window *w, const struct segment *seg, uint64_t offset, const struct msg *msg,
                                     struct mlog_header *h)
{
        const char *p = from_window(w, seg, offset, sizeof *h + msg->front_len);

        return p ? mlog_record_at(p, w->len - (size_t)(offset - w->offset), &seg->info, offset, h) : NULL;
}

/* A record that is in memory whole: is it this message's, and are its octets as they were written? */
static bool octets_are_right(const char *record, const struct msg *msg)
{
        struct mlog_header h;

        memcpy(&h, record, sizeof h);
        return h.type == MLOG_MESSAGE && h.front_len == msg->front_len && h.body_len == msg->size &&
               crc32c(0, record + sizeof h + msg->front_len, msg->size) == h.body_crc;
}

bool mailbox_body_near(struct mailbox *m, const struct msg *msg, struct front_window *window, struct span *octets_r)
{
        uint64_t offset, before = sizeof(struct mlog_header) + (uint64_t)msg->front_len;
        struct segment *seg;
        const char *record;
        bool checked, right;

        if ((msg->flags & (MSG_BLOB | MSG_UNLINKED)) || find_segment(m, msg, &seg, &offset, &checked, NULL) < 0)
                return false;
        record = from_window(window, seg, offset, before + msg->size);
        segment_unref(&seg);
        right = record && (checked || octets_are_right(record, msg));
        if (right && !checked)
                set_checked(m, msg->uid);
        if (right)
                *octets_r = (struct span){ record + before, msg->size };
        return right;
}

int mailbox_front(struct mailbox *m, const struct msg *msg, unsigned want, struct arena *arena, struct front_window *window,
                  struct msg_front *f_r, struct err *err)
{
        struct mlog_header h;
        struct str front = STR_INIT;
        const struct mlog_message *f = NULL;
        const char *base = NULL, *p;
        struct segment *seg;
        uint64_t offset;
        bool checked;
        int rc = 0;

        memset(f_r, 0, sizeof *f_r);
        if (find_segment(m, msg, &seg, &offset, &checked, err) < 0)
                return -1;
        if (window)
                base = front_from_window(window, seg, offset, msg, &h);
        if (!base) {
                rc = mlog_read_record(seg->file, &seg->info, offset, &h, &front, err);
                base = front.data;
        }
        f = (const void *)base;
        if (rc == 0 && (h.type != MLOG_MESSAGE || h.front_len != msg->front_len))
                rc = err_set(err, ERR_CORRUPT, "%s: no message at %llu", file_path(seg->file), (unsigned long long)offset);
        if (rc == 0 && is_stub(&h, f))
                rc = err_set(err, ERR_NOTFOUND, "message %u is gone", msg->uid);
        if (rc < 0) {
                segment_unref(&seg);
                str_deinit(&front);
                return damaged(m, msg, err);
        }
        p = (const char *)(f + 1);
        f_r->envelope_at = offset + sizeof h + sizeof *f;
        f_r->bodystructure_at = f_r->envelope_at + f->envelope_len;
        f_r->body_at = f_r->bodystructure_at + f->bodystructure_len;
        if (want & FRONT_ENVELOPE)
                f_r->envelope = text_span(arena, want & FRONT_PLACES, p, f->envelope_len, seg, f_r);
        p += f->envelope_len;
        if (want & FRONT_BODYSTRUCTURE)
                f_r->bodystructure = text_span(arena, want & FRONT_PLACES, p, f->bodystructure_len, seg, f_r);
        p += f->bodystructure_len;
        if (want & FRONT_BODY)
                f_r->body = text_span(arena, want & FRONT_PLACES, p, f->body_len, seg, f_r);
        segment_unref(&seg);
        p = base + mlog_align((uint64_t)(p - base) + f->body_len);
        if ((want & FRONT_PARTS) && mime_parts_valid((const void *)p, f->parts_n, f->size)) {
                void *parts = arena_alloc(arena, f->parts_n * sizeof(struct mime_part) + 1);

                memcpy(parts, p, f->parts_n * sizeof(struct mime_part));
                f_r->parts = parts;
                f_r->part_count = f->parts_n;
        }
        p += f->parts_n * sizeof(struct mime_part);
        if (want & FRONT_HEADER)
                f_r->header = copy_span(arena, p, f->header_len);
        str_deinit(&front);
        return 0;
}

/*
 * The fast ways to a header. A small message that was not checked yet is read whole, so that its checksum can be looked at: one read does
 * both. Returns 1: *header_r is it; 0: it takes the long way, which also says what is wrong.
 */
static int header_at_once(struct mailbox *m, const struct msg *msg, struct str *buf, struct span *header_r, struct err *err)
        EXCLUDES(mailbox_class)
{
        struct segment *seg;
        uint64_t offset, before = sizeof(struct mlog_header) + (uint64_t)msg->front_len;
        bool checked;
        int rc = 0;

        if ((msg->flags & (MSG_BLOB | MSG_UNLINKED)) || before + msg->size > HEADER_READ_MAX)
                return 0;
        if (find_segment(m, msg, &seg, &offset, &checked, err) < 0)
                return -1;
        str_clear(buf);
        if (checked) {
                rc = file_read(seg->file, str_append_space(buf, msg->header_size), msg->header_size, offset + before, err) == 0;
                *header_r = (struct span){ buf->data, msg->header_size };
        } else if (file_read(seg->file, str_append_space(buf, before + msg->size), before + msg->size, offset, err) == 0) {
                rc = octets_are_right(buf->data, msg);
                *header_r = (struct span){ buf->data + before, msg->header_size };
                if (rc)
                        set_checked(m, msg->uid);
        }
        segment_unref(&seg);
        err_clear(err);
        return rc;
}

int mailbox_header(struct mailbox *m, const struct msg *msg, struct str *buf, struct span *header_r, struct err *err)
{
        struct extent body;
        int rc;

        if (msg->header_size > msg->size)
                return err_set(err, ERR_CORRUPT, "message %u: its header is longer than itself", msg->uid);
        rc = header_at_once(m, msg, buf, header_r, err);
        if (rc != 0)
                return rc < 0 ? -1 : 0;
        if (mailbox_body(m, msg, &body, err) < 0)
                return -1;
        str_clear(buf);
        rc = file_read(body.file, str_append_space(buf, msg->header_size), msg->header_size, body.offset, err);
        file_unref(&body.file);
        *header_r = (struct span){ buf->data, msg->header_size };
        return rc;
}

/* ---- facts for sorting ---- */

static void sort_file_path(const struct mailbox *m, struct str *path)
{
        str_printf(path, "%s/sort", atomic_load(&m->dir));
}

int mailbox_open_sort_file(struct mailbox *m, bool append)
{
        struct str path = STR_INIT;
        struct err err = ERR_INIT;
        int flags = append ? O_WRONLY | O_APPEND | O_CREAT : O_RDONLY, fd = -1;

        mailbox_lock(m);
        sort_file_path(m, &path);
        if (!append || (mailbox_writable_locked(m, &err) == 0 && !fs_fails("open")))
                fd = open(path.data, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
        mailbox_unlock(m);
        err_clear(&err);
        str_deinit(&path);
        return fd;
}

void mailbox_remove_sort_file(struct mailbox *m)
{
        struct str path = STR_INIT;

        mailbox_lock(m);
        sort_file_path(m, &path);
        if (!m->readonly_store)
                unlink(path.data);
        mailbox_unlock(m);
        str_deinit(&path);
}

/* ---- watching ---- */

void mailbox_watch(struct mailbox *m, struct mailbox_watch *w)
{
        mutex_lock(&m->watch_lock);
        w->prev = NULL;
        w->next = m->watches;
        if (m->watches)
                m->watches->prev = w;
        m->watches = w;
        mutex_unlock(&m->watch_lock);
}

void mailbox_unwatch(struct mailbox *m, struct mailbox_watch *w)
{
        mutex_lock(&m->watch_lock);
        if (w->prev)
                w->prev->next = w->next;
        else
                m->watches = w->next;
        if (w->next)
                w->next->prev = w->prev;
        mutex_unlock(&m->watch_lock);
}
