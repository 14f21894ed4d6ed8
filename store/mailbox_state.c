/*
 * mailbox_state - what records mean: the one place where a record becomes state, for batches just written as for a log read back.
 * Records carry results, so applying one twice changes nothing; of two for one message the one with the higher local sequence
 * number counts, whatever their modseqs and whatever segment they are in now.
 *
 * What the index keeps for us besides messages (index_set_blob):
 *   INDEX_KEYWORDS  u32 n, then n times u32 length and the name (0: forgotten); u32 sets (with the empty one), then for sets 1…: u32 n, u16 ids
 *   INDEX_MOVES     u32 n, then: u32 intent, struct mlog_move, its ranges, the directory
 *   INDEX_ANNOTATIONS   see mailbox_annot.c
 *   INDEX_EXTRA     u64 local sequence number of the record that set the options
 */
#include <stdio.h>
#include <stdlib.h>

#include "store/mailbox_private.h"
#include "util/must.h"

#define LOST_NAME "lost-keyword-"

/* ---- keywords ---- */

void kwtab_init(struct kwtab *kw)
{
        memset(kw, 0, sizeof *kw);
        atomic_init(&kw->names, 0);
        atomic_init(&kw->sets, 1);
        kw->by_name = table_create();
        kw->by_ids = table_create();
}

void kwtab_deinit(struct kwtab *kw)
{
        for (uint32_t i = 0; i < atomic_load(&kw->names); i++)
                free((char *)(uintptr_t)kwtab_name(kw, i));
        for (uint32_t i = 1; i < atomic_load(&kw->sets); i++)
                free((struct kwset *)(uintptr_t)kwtab_set(kw, i));
        for (size_t i = 0; i < kw->former.n; i++)
                free(kw->former.v[i]);
        ARRAY_FREE(&kw->former);
        for (unsigned i = 0; i < 64; i++)
                free(kw->name_chunks[i]);
        for (unsigned i = 0; i < 256; i++)
                free(kw->set_chunks[i]);
        table_destroy(&kw->by_name);
        table_destroy(&kw->by_ids);
}

const char *kwtab_name(const struct kwtab *kw, uint32_t id)
{
        return atomic_load_explicit(&kw->name_chunks[id / 64][id % 64], memory_order_acquire);
}

const struct kwset *kwtab_set(const struct kwtab *kw, uint32_t id)
{
        return id == 0 || id >= KWSETS_MAX ? NULL : kw->set_chunks[id / 256][id % 256];
}

static void fold_name(struct str *out, struct span name)
{
        for (size_t i = 0; i < name.len; i++)
                str_append_c(out, ascii_lower(name.p[i]));
}

int kwtab_find_name(const struct kwtab *kw, struct span name)
{
        struct str key = STR_INIT;
        uintptr_t id;

        fold_name(&key, name);
        id = (uintptr_t)table_find(kw->by_name, str_span(&key));
        str_deinit(&key);
        return (int)id - 1;
}

static void add_name(struct kwtab *kw, struct span name)
{
        uint32_t id = atomic_load_explicit(&kw->names, memory_order_relaxed);
        struct str key = STR_INIT;

        must(id < KEYWORDS_MAX);
        if (!kw->name_chunks[id / 64])
                kw->name_chunks[id / 64] = xcalloc(64, sizeof *kw->name_chunks[0]);
        atomic_store_explicit(&kw->name_chunks[id / 64][id % 64], xstrndup(name.p, name.len), memory_order_release);
        fold_name(&key, name);
        if (!table_find(kw->by_name, str_span(&key)))
                table_set(kw->by_name, str_span(&key), (void *)(uintptr_t)(id + 1));
        str_deinit(&key);
        kw->changed = true;
        atomic_store_explicit(&kw->names, id + 1, memory_order_release);
        atomic_fetch_add(&kw->generation, 1);
}

/* The name of one that there is, from now on; len 0: none. The former one is not freed: somebody may be reading it. */
static void change_name(struct kwtab *kw, uint32_t id, struct span name)
{
        const char *was = kwtab_name(kw, id);
        struct str key = STR_INIT;

        if (was ? span_eq_str(name, was) : name.len == 0)
                return;
        if (was) {
                fold_name(&key, span_of(was));
                if ((uintptr_t)table_find(kw->by_name, str_span(&key)) == id + 1)
                        table_set(kw->by_name, str_span(&key), NULL);
                str_clear(&key);
                *ARRAY_PUSH(&kw->former) = (void *)(uintptr_t)was;
        }
        fold_name(&key, name);
        if (name.len && !table_find(kw->by_name, str_span(&key)))
                table_set(kw->by_name, str_span(&key), (void *)(uintptr_t)(id + 1));
        str_deinit(&key);
        kw->forgotten += name.len == 0;
        kw->forgotten -= was == NULL;
        atomic_store_explicit(&kw->name_chunks[id / 64][id % 64], name.len ? xstrndup(name.p, name.len) : NULL, memory_order_release);
        kw->changed = true;
        atomic_fetch_add(&kw->generation, 1);
}

static struct kwset *make_set(const uint16_t *ids, uint32_t n)
{
        struct kwset *set = xmalloc(sizeof *set + n * sizeof *ids);

        set->n = n;
        if (n)
                memcpy(set->ids, ids, n * sizeof *ids);
        return set;
}

static void add_set(struct kwtab *kw, const uint16_t *ids, uint32_t n)
{
        uint32_t id = atomic_load_explicit(&kw->sets, memory_order_relaxed);
        struct span key = { (const char *)ids, n * sizeof *ids };

        must(id < KWSETS_MAX);
        if (!kw->set_chunks[id / 256])
                kw->set_chunks[id / 256] = xcalloc(256, sizeof *kw->set_chunks[0]);
        kw->set_chunks[id / 256][id % 256] = make_set(ids, n);
        kw->set_ids += n;
        if (n && !table_find(kw->by_ids, key))
                table_set(kw->by_ids, key, (void *)(uintptr_t)id);
        kw->changed = true;
        atomic_store_explicit(&kw->sets, id + 1, memory_order_release);
}

void kwneed_deinit(struct kwneed *need)
{
        for (size_t i = 0; i < need->sets.n; i++)
                free(need->sets.v[i]);
        ARRAY_FREE(&need->sets);
        ARRAY_FREE(&need->names);
        table_destroy(&need->by_name);
        table_destroy(&need->by_ids);
}

/* The place of a key in one of the lists, -1: it is not there. */
static int need_find(const struct table *t, struct span key)
{
        return t ? (int)(uintptr_t)table_find(t, key) - 1 : -1;
}

static void need_note(struct table **t, struct span key, size_t place)
{
        if (!*t)
                *t = table_create();
        table_set(*t, key, (void *)(uintptr_t)(place + 1));
}

/* An id for a new name: one more, or when there are no more a forgotten one that `need` does not use yet. -1: none. */
static int unused_id(struct mailbox *m, const struct kwneed *need)
{
        uint32_t have = atomic_load(&m->kw.names), id = have + (uint32_t)need->names.n;
        bool taken[KEYWORDS_MAX] = { false };

        if (id < KEYWORDS_MAX)
                return (int)id;
        for (size_t i = 0; i < need->names.n; i++)
                taken[need->names.v[i].id] = true;
        for (id = 0; id < have; id++)
                if (!taken[id] && !kwtab_name(&m->kw, id))
                        return (int)id;
        return -1;
}

static int add_needed_name(struct mailbox *m, struct kwneed *need, struct span name, struct mlog_batch *b, uint16_t *id_r, struct err *err);

int kw_need_name(struct mailbox *m, struct kwneed *need, struct span name, struct mlog_batch *b, uint16_t *id_r, struct err *err)
{
        int id = kwtab_find_name(&m->kw, name), rc;
        struct str folded = STR_INIT;

        if (id >= 0) {
                *id_r = (uint16_t)id;
                return 0;
        }
        fold_name(&folded, name);
        id = need_find(need->by_name, str_span(&folded));
        if (id >= 0) {
                *id_r = need->names.v[id].id;
                str_deinit(&folded);
                return 0;
        }
        rc = add_needed_name(m, need, name, b, id_r, err);
        if (rc == 0)
                need_note(&need->by_name, str_span(&folded), need->names.n - 1);
        str_deinit(&folded);
        return rc;
}

static int add_needed_name(struct mailbox *m, struct kwneed *need, struct span name, struct mlog_batch *b, uint16_t *id_r, struct err *err)
{
        struct mlog_keyword rec;
        int id;

        if (name.len == 0 || name.len > KEYWORD_BYTES_MAX || memchr(name.p, 0, name.len))
                return err_set(err, ERR_LIMIT, "a keyword has 1 to %d octets", KEYWORD_BYTES_MAX);
        id = unused_id(m, need);
        if (id < 0)
                return err_set(err, ERR_LIMIT, "this mailbox has %d keywords, no more can be made", KEYWORDS_MAX);
        rec = (struct mlog_keyword){ .id = (uint32_t)id, .len = (uint32_t)name.len };
        mlog_batch_add(b, &b->head, MLOG_KEYWORD, &rec, sizeof rec, name.p, name.len, NULL, 0, 0);
        *id_r = (uint16_t)rec.id;
        ARRAY_PUSH(&need->names)->name = name;
        need->names.v[need->names.n - 1].id = (uint16_t)id;
        return 0;
}

static int compare_ids(const void *a, const void *b)
{
        return (int)*(const uint16_t *)a - (int)*(const uint16_t *)b;
}

int kw_need_set(struct mailbox *m, struct kwneed *need, uint16_t *ids, uint32_t n, struct mlog_batch *b, uint32_t *set_r,
                struct err *err)
{
        uint32_t have = atomic_load(&m->kw.sets), kept = 0;
        struct mlog_kwset rec;
        uintptr_t known;
        struct span key;
        int place;

        if (n > 1)
                qsort(ids, n, sizeof *ids, compare_ids);
        for (uint32_t i = 0; i < n; i++)
                if (i == 0 || ids[i] != ids[i - 1])
                        ids[kept++] = ids[i];
        if (kept == 0) {
                *set_r = 0;
                return 0;
        }
        key = (struct span){ (const char *)ids, kept * sizeof *ids };
        known = (uintptr_t)table_find(m->kw.by_ids, key);
        if (known) {
                *set_r = (uint32_t)known;
                return 0;
        }
        place = need_find(need->by_ids, key);
        if (place >= 0) {
                *set_r = have + (uint32_t)place;
                return 0;
        }
        if (have + need->sets.n >= KWSETS_MAX || m->kw.set_ids + need->set_ids + kept > KWSET_IDS_MAX)
                return err_set(err, ERR_LIMIT, "this mailbox has had too many different sets of keywords, no more can be made");
        rec = (struct mlog_kwset){ .id = have + (uint32_t)need->sets.n, .n = kept };
        mlog_batch_add(b, &b->head, MLOG_KWSET, &rec, sizeof rec, ids, kept * sizeof *ids, NULL, 0, 0);
        *set_r = rec.id;
        *ARRAY_PUSH(&need->sets) = make_set(ids, kept);
        need->set_ids += kept;
        need_note(&need->by_ids, key, need->sets.n - 1);
        return 0;
}

void kw_add_forget(struct mlog_batch *b, struct str *part, const uint16_t *ids, uint32_t n)
{
        struct mlog_kwset rec = { .n = n };

        if (n)
                mlog_batch_add(b, part, MLOG_FORGET, &rec, sizeof rec, ids, n * sizeof *ids, NULL, 0, 0);
}

void kwtab_add_all(struct mailbox *m, struct mlog_batch *b, struct str *part)
{
        uint16_t forgotten[KEYWORDS_MAX];
        uint32_t n = 0;

        for (uint32_t i = 0; i < atomic_load(&m->kw.names); i++) {
                const char *name = kwtab_name(&m->kw, i);
                struct mlog_keyword rec = { .id = i, .len = name ? (uint32_t)strlen(name) : 0 };

                if (name)
                        mlog_batch_add(b, part, MLOG_KEYWORD, &rec, sizeof rec, name, rec.len, NULL, 0, 0);
                else
                        forgotten[n++] = (uint16_t)i;
        }
        kw_add_forget(b, part, forgotten, n);
        for (uint32_t i = 1; i < atomic_load(&m->kw.sets); i++) {
                const struct kwset *set = kwtab_set(&m->kw, i);
                struct mlog_kwset rec = { .id = i, .n = set->n };

                if (set->n)                     /* a set lost to damage stays unwritten */
                        mlog_batch_add(b, part, MLOG_KWSET, &rec, sizeof rec, set->ids, set->n * sizeof *set->ids, NULL, 0, 0);
        }
}

/*
 * Records may come out of order: compaction writes all names and sets again, into a segment that stands behind older ones which go on
 * with higher ids. What is missing gets a stand-in – a name that says so, an empty set – until its record comes; after damage it stays.
 * Stand-ins that were replaced are not freed: on a roll-back somebody may be reading them. Of records for one id the last counts, where a
 * name was forgotten and another took its id: what is behind a compacted segment has all that came after the record which it repeats.
 */
static void name_missing(struct kwtab *kw, uint32_t upto)
{
        while (atomic_load(&kw->names) < upto) {
                char lost[32];

                snprintf(lost, sizeof lost, LOST_NAME "%u", atomic_load(&kw->names));
                add_name(kw, span_of(lost));
        }
}

static void apply_keyword(struct mailbox *m, const struct mlog_keyword *k)
{
        struct span name = { (const char *)(k + 1), k->len };

        name_missing(&m->kw, k->id);
        if (atomic_load(&m->kw.names) == k->id)
                add_name(&m->kw, name);
        else
                change_name(&m->kw, k->id, name);
}

static void apply_forget(struct mailbox *m, const struct mlog_kwset *k)
{
        const uint16_t *ids = (const uint16_t *)(k + 1);

        for (uint32_t i = 0; i < k->n; i++) {
                name_missing(&m->kw, (uint32_t)ids[i] + 1);
                change_name(&m->kw, ids[i], SPAN(""));
        }
}

static void apply_kwset(struct mailbox *m, const struct mlog_kwset *k)
{
        const uint16_t *ids = (const uint16_t *)(k + 1);

        if (k->id >= KWSETS_MAX || k->n == 0)
                return;
        while (atomic_load(&m->kw.sets) < k->id)
                add_set(&m->kw, NULL, 0);
        if (atomic_load(&m->kw.sets) == k->id) {
                add_set(&m->kw, ids, k->n);
        } else if (kwtab_set(&m->kw, k->id)->n == 0) {
                *ARRAY_PUSH(&m->kw.former) = (void *)(uintptr_t)kwtab_set(&m->kw, k->id);
                m->kw.set_chunks[k->id / 256][k->id % 256] = make_set(ids, k->n);
                m->kw.set_ids += k->n;
                table_set(m->kw.by_ids, (struct span){ (const char *)ids, k->n * sizeof *ids }, (void *)(uintptr_t)k->id);
                m->kw.changed = true;
        }
}

/* ---- records ---- */

/* A compacted record may name a set whose own record comes later in the log; one that never comes is made at the end of loading. */
static uint32_t note_set(struct mailbox *m, uint32_t set)
{
        if (set >= KWSETS_MAX)
                return 0;
        if (set > m->kw.set_seen)
                m->kw.set_seen = set;
        return set;
}

void kwtab_fill(struct kwtab *kw)
{
        while (kw->set_seen >= atomic_load(&kw->sets))
                add_set(kw, NULL, 0);
        for (uint32_t i = 1; i < atomic_load(&kw->sets); i++) {
                const struct kwset *set = kwtab_set(kw, i);

                if (set->n)
                        name_missing(kw, (uint32_t)set->ids[set->n - 1] + 1);
        }
}

static int apply_message(struct mailbox *m, const struct mlog_header *h, const struct mlog_message *f, const struct apply_base *base,
                         struct err *err)
{
        struct index_counters *c = index_counters(m->ix);
        struct index_rec rec, old;
        int rc;

        memset(&rec, 0, sizeof rec);
        rec.uid = f->uid;
        rec.modseq = h->modseq;
        rec.createdmodseq = f->createdmodseq == MLOG_NO_CREATEDMODSEQ ? 0 : f->createdmodseq;
        rec.seq = h->seq;
        if (h->flags & MLOG_RELATIVE) {
                uint64_t uid;

                if (!base || !base->adopted)
                        return 0;
                uid = (uint64_t)base->uid + f->uid - 1;

                if (uid >= UINT32_MAX)
                        return 0;
                rec.uid = (uint32_t)uid;
                rec.modseq += base->modseq;
                rec.createdmodseq += base->modseq;
                rec.seq = base->seq;
        }
        rec.flags = f->flags;
        rec.last_updated = f->last_updated;
        rec.internaldate = f->internaldate;
        rec.savedate = f->savedate;
        rec.sentdate = f->sentdate;
        rec.size = f->size;
        rec.thrid = f->thrid;
        rec.emailid = f->emailid;
        rec.segment = h->segment;
        rec.offset = h->offset;
        rec.record_len = mlog_align(sizeof *h + h->front_len + h->body_len);
        rec.kwset = note_set(m, f->kwset);
        rec.header_size = f->header_size;
        rec.front_len = h->front_len;
        memcpy(rec.guid, f->guid, sizeof rec.guid);
        if (rec.uid >= c->uidnext)
                c->uidnext = rec.uid + 1;
        else if ((rc = index_find(m->ix, rec.uid, &old, err)) != 0 && (rc < 0 || old.seq >= rec.seq))
                return rc < 0 ? -1 : 0;
        if (rec.savedate > c->last_append)
                c->last_append = rec.savedate;
        if (rec.modseq > c->highestmodseq)
                c->highestmodseq = rec.modseq;
        return index_put(m->ix, &rec, err);
}

/* A message's state as of sequence `seq`, if it is the newest; of the flags those in `mask`. */
static int apply_entry(struct mailbox *m, uint64_t seq, uint32_t mask, const struct mlog_state_entry *e, struct err *err)
{
        struct index_rec rec;
        int rc = index_find(m->ix, e->uid, &rec, err);

        if (rc <= 0 || rec.seq >= seq)
                return rc < 0 ? -1 : 0;
        rec.flags = (rec.flags & ~mask) | (e->flags & mask);
        rec.kwset = note_set(m, e->kwset);
        rec.modseq = e->modseq;
        rec.last_updated = e->last_updated;
        rec.seq = seq;
        return index_put(m->ix, &rec, err);
}

static int apply_flags(struct mailbox *m, const struct mlog_header *h, const struct mlog_flags *f, struct err *err)
{
        const struct mlog_flag_entry *e = (const struct mlog_flag_entry *)(f + 1);

        for (uint32_t i = 0; i < f->n; i++) {
                struct mlog_state_entry state = { .uid = e[i].uid, .flags = e[i].flags, .kwset = e[i].kwset, .modseq = h->modseq,
                                                  .last_updated = f->last_updated };

                if (apply_entry(m, h->seq, MSG_SYSTEM_FLAGS, &state, err) < 0)
                        return -1;
        }
        return 0;
}

static int apply_state(struct mailbox *m, const struct mlog_header *h, const struct mlog_flags *f, struct err *err)
{
        const struct mlog_state_entry *e = (const struct mlog_state_entry *)(f + 1);

        for (uint32_t i = 0; i < f->n; i++)
                if (apply_entry(m, h->seq, MSG_SYSTEM_FLAGS | MSG_EXPUNGED | MSG_UNLINKED, &e[i], err) < 0)
                        return -1;
        return 0;
}

/* One that has no octets any more: they are for the next compaction, or sweep. */
static void note_unlinked(struct mailbox *m, const struct index_rec *rec)
{
        m->dead_bytes += rec->record_len;
        m->sweep_wanted = m->sweep_wanted || (rec->flags & MSG_BLOB);
}

static int apply_details(struct mailbox *m, const struct mlog_header *h, const struct mlog_flags *f, struct err *err)
{
        const uint32_t mask = MSG_SYSTEM_FLAGS | MSG_EXPUNGED | MSG_UNLINKED | MSG_OWN_THRID;
        const struct mlog_details_entry *e = (const struct mlog_details_entry *)(f + 1);

        for (uint32_t i = 0; i < f->n; i++) {
                struct index_rec rec;
                int rc = index_find(m->ix, e[i].uid, &rec, err);

                if (rc < 0)
                        return -1;
                if (rc == 0 || rec.seq >= h->seq)
                        continue;
                if ((e[i].flags & MSG_UNLINKED) && !(rec.flags & MSG_UNLINKED))
                        note_unlinked(m, &rec);
                rec.flags = (rec.flags & ~mask) | (e[i].flags & mask);
                rec.kwset = note_set(m, e[i].kwset);
                rec.modseq = e[i].modseq;
                rec.createdmodseq = e[i].createdmodseq;
                rec.thrid = e[i].thrid;
                rec.last_updated = e[i].last_updated;
                rec.internaldate = e[i].internaldate;
                rec.savedate = e[i].savedate;
                rec.seq = h->seq;
                if (index_put(m->ix, &rec, err) < 0)
                        return -1;
        }
        return 0;
}

static int apply_expunge(struct mailbox *m, const struct mlog_header *h, const struct mlog_uids *u, struct err *err)
{
        const struct uidrange *r = (const struct uidrange *)(u + 1);

        for (uint32_t i = 0; i < u->n; i++) {
                struct index_iter it;
                struct index_rec rec;
                int rc;

                index_iter_init(&it, m->ix, r[i].first);
                it.upto_uid = r[i].last;
                while ((rc = index_next(&it, &rec, err)) == 1) {
                        if (rec.seq >= h->seq)
                                continue;
                        if ((u->how & MLOG_UNLINK) && !(rec.flags & MSG_UNLINKED)) {
                                note_unlinked(m, &rec);
                                rec.flags |= MSG_UNLINKED;
                        }
                        rec.flags |= MSG_EXPUNGED;
                        rec.modseq = h->modseq;
                        rec.last_updated = u->last_updated;
                        rec.seq = h->seq;
                        if (index_put(m->ix, &rec, err) < 0)
                                return -1;
                }
                if (rc < 0)
                        return -1;
        }
        return 0;
}

static int apply_purge(struct mailbox *m, const struct mlog_uids *u, struct err *err)
{
        struct index_counters *c = index_counters(m->ix);
        const struct uidrange *r = (const struct uidrange *)(u + 1);
        struct uidset uids = UIDSET_INIT;
        int rc;

        for (uint32_t i = 0; i < u->n; i++)
                uidset_add_range(&uids, r[i].first, r[i].last);
        rc = index_purge(m->ix, &uids, err);
        annots_purge(m, &uids);
        if (u->n && r[u->n - 1].last >= c->uidnext)     /* its messages may be lost to damage; the UIDs are used up */
                c->uidnext = r[u->n - 1].last + 1;
        if (u->deletedmodseq > c->deletedmodseq)
                c->deletedmodseq = u->deletedmodseq;
        uidset_deinit(&uids);
        return rc;
}

static void apply_options(struct mailbox *m, uint64_t seq, const struct mlog_options *o)
{
        struct index_counters *c = index_counters(m->ix);

        if (seq < m->options_seq)
                return;
        m->options_seq = seq;
        c->recentuid = o->recentuid;
        c->options = o->options;
        c->recent_time = o->recent_time;
        c->pop3_last_login = o->pop3_last_login;
        c->pop3_show_after = o->pop3_show_after;
        c->raclmodseq = o->raclmodseq;
        c->xconvmodseq = o->xconvmodseq;
}

static void apply_counters(struct mailbox *m, uint64_t seq, const struct mlog_counters *f)
{
        struct index_counters *c = index_counters(m->ix);

        if (f->uidnext > c->uidnext)
                c->uidnext = f->uidnext;
        if (f->highestmodseq > c->highestmodseq)
                c->highestmodseq = f->highestmodseq;
        if (f->deletedmodseq > c->deletedmodseq)
                c->deletedmodseq = f->deletedmodseq;
        if (f->last_append > c->last_append)
                c->last_append = f->last_append;
        if (f->created_modseq)
                c->created_modseq = f->created_modseq;
        if (!c->uidvalidity)
                c->uidvalidity = f->uidvalidity;
        apply_options(m, seq, &f->options);
}

/*
 * Numbers as they are from here on, though they were higher. Of what the log has before, in whatever segment, nothing may raise them again: records
 * are applied in the log's order, and compaction puts such a record at the end of what it writes.
 */
static void apply_values(struct mailbox *m, uint64_t seq, const struct mlog_values *v)
{
        struct index_counters *c = index_counters(m->ix);
        uint32_t last = index_last_uid(m->ix);

        c->uidnext = v->counters.uidnext > last ? v->counters.uidnext : last + 1;
        c->highestmodseq = v->counters.highestmodseq;
        c->deletedmodseq = v->counters.deletedmodseq;
        c->last_append = v->counters.last_append;
        c->uidvalidity = v->counters.uidvalidity;
        if (v->counters.created_modseq)
                c->created_modseq = v->counters.created_modseq;
        apply_options(m, seq, &v->counters.options);
        state_set_quiet(m, v->how & MLOG_QUIET);
        m->given++;
}

bool state_is_quiet(struct mailbox *m)
{
        return index_counters(m->ix)->spare[0] & 1;
}

void state_set_quiet(struct mailbox *m, bool quiet)
{
        index_counters(m->ix)->spare[0] = quiet;
}

/* Does such a record bring a modseq that somebody may have seen before it was on the disk? */
static bool brings_modseq(enum mlog_type type)
{
        switch (type) {
        case MLOG_KEYWORD:
        case MLOG_KWSET:
        case MLOG_FORGET:
        case MLOG_OPTIONS:
        case MLOG_COUNTERS:
        case MLOG_PURGE:
        case MLOG_VALUES:
        case MLOG_TYPE_MAX:
                return false;
        default:
                return true;
        }
}

/* ---- moves ---- */

struct move_note *state_find_move(struct mailbox *m, const uint8_t id[16], bool intent)
{
        for (size_t i = 0; i < m->moves.n; i++)
                if (m->moves.v[i]->intent == intent && memcmp(m->moves.v[i]->move.id, id, 16) == 0)
                        return m->moves.v[i];
        return NULL;
}

static void move_note_free(struct move_note *note)
{
        uidset_deinit(&note->uids);
        uidset_deinit(&note->own_seen);
        free(note->dir);
        free(note);
}

void state_forget_moves(struct mailbox *m)
{
        for (size_t i = 0; i < m->moves.n; i++)
                move_note_free(m->moves.v[i]);
        ARRAY_FREE(&m->moves);
}

static void add_move(struct mailbox *m, bool intent, const struct mlog_move *f)
{
        const struct uidrange *r = (const struct uidrange *)(f + 1);
        struct move_note *note;

        if (state_find_move(m, f->id, intent))
                return;
        note = xcalloc(1, sizeof *note);
        note->move = *f;
        note->intent = intent;
        uidset_init(&note->uids);
        for (uint32_t i = 0; i < f->n; i++)
                uidset_add_range(&note->uids, r[i].first, r[i].last);
        for (uint32_t i = f->n; !intent && i < f->n + f->dir_len / sizeof *r; i++)
                uidset_add_range(&note->own_seen, r[i].first, r[i].last);
        if (intent)
                note->dir = xstrndup((const char *)(r + f->n), f->dir_len);
        *ARRAY_PUSH(&m->moves) = note;
}

/* Of an intent: over. Of an arrival: MOVE_MOVED means that the source is settled for good, MOVE_ABORTED that it has to stay as it is
 * – then the note is kept for the source to find. */
static void end_move(struct mailbox *m, const struct mlog_move *f)
{
        for (size_t i = 0; i < m->moves.n; i++) {
                struct move_note *note = m->moves.v[i];

                if (memcmp(note->move.id, f->id, 16) != 0)
                        continue;
                if (!note->intent && f->outcome == MOVE_ABORTED) {
                        note->move.outcome = MOVE_ABORTED;
                        continue;
                }
                if (!note->intent && f->outcome == MOVE_WITH_SEEN) {
                        if (note->move.outcome == MOVE_WITH_SEEN)
                                note->move.outcome = 0;
                        uidset_clear(&note->uids);
                        uidset_clear(&note->own_seen);
                        continue;
                }
                move_note_free(note);
                m->moves.v[i--] = m->moves.v[--m->moves.n];
        }
}

static void apply_annotation(struct mailbox *m, const struct mlog_header *h, const struct mlog_annotation *a, const struct apply_base *base)
{
        uint64_t uid = a->uid, seq = h->seq, modseq = a->modseq ? a->modseq : h->modseq;

        if (h->flags & MLOG_RELATIVE) {
                if (!base || !base->adopted || uid == 0)
                        return;
                uid += (uint64_t)base->uid - 1;
                seq = base->seq;
                if (base->modseq)                       /* 0: modseqs of its records are not relative (replication) */
                        modseq = base->modseq;
        }
        if (uid < UINT32_MAX)
                annots_apply(m, (uint32_t)uid, seq, modseq, a);
}

int state_apply(struct mailbox *m, const struct mlog_header *h, const void *front, const struct apply_base *base, struct err *err)
{
        struct index_counters *c = index_counters(m->ix);
        int rc = 0;

        if (h->modseq > c->highestmodseq)
                c->highestmodseq = h->modseq;
        if (brings_modseq((enum mlog_type)h->type))
                state_set_quiet(m, false);
        switch ((enum mlog_type)h->type) {
        case MLOG_MESSAGE:
                rc = apply_message(m, h, front, base, err);
                break;
        case MLOG_FLAGS:
                rc = apply_flags(m, h, front, err);
                break;
        case MLOG_STATE:
                rc = apply_state(m, h, front, err);
                break;
        case MLOG_DETAILS:
                rc = apply_details(m, h, front, err);
                break;
        case MLOG_VALUES:
                apply_values(m, h->seq, front);
                break;
        case MLOG_EXPUNGE:
                rc = apply_expunge(m, h, front, err);
                break;
        case MLOG_PURGE:
                rc = apply_purge(m, front, err);
                break;
        case MLOG_KEYWORD:
                apply_keyword(m, front);
                break;
        case MLOG_KWSET:
                apply_kwset(m, front);
                break;
        case MLOG_FORGET:
                apply_forget(m, front);
                break;
        case MLOG_OPTIONS:
                apply_options(m, h->seq, front);
                break;
        case MLOG_COUNTERS:
                apply_counters(m, h->seq, front);
                break;
        case MLOG_MOVE_INTENT:
                add_move(m, true, front);
                break;
        case MLOG_MOVE_ARRIVAL:
                add_move(m, false, front);
                break;
        case MLOG_MOVE_DONE:
                end_move(m, front);
                break;
        case MLOG_ADOPT: {
                const struct mlog_adopt *a = front;

                if (a->base_uid + a->n > c->uidnext)
                        c->uidnext = a->base_uid + a->n;
                break;                                  /* its segment is applied by the caller */
        }
        case MLOG_ANNOTATION:
                apply_annotation(m, h, front, base);
                break;
        case MLOG_TYPE_MAX:
                break;
        }
        index_touch(m->ix);
        return rc;
}

static int apply_part(struct mailbox *m, const struct str *part, struct err *err)
{
        for (size_t at = 0; at < part->len;) {
                const struct mlog_header *h = (const struct mlog_header *)(const void *)(part->data + at);

                if (state_apply(m, h, h + 1, NULL, err) < 0)
                        return -1;
                at += mlog_align(sizeof *h + h->front_len + h->body_len);
        }
        return 0;
}

int state_apply_batch(struct mailbox *m, const struct mlog_batch *b, struct err *err)
{
        if (apply_part(m, &b->head, err) < 0)
                return -1;
        return apply_part(m, &b->body, err);
}

void state_counters(struct mailbox *m, struct mlog_counters *c_r)
{
        const struct index_counters *c = index_counters(m->ix);

        memset(c_r, 0, sizeof *c_r);
        c_r->uidvalidity = c->uidvalidity;
        c_r->uidnext = c->uidnext;
        c_r->highestmodseq = c->highestmodseq;
        c_r->deletedmodseq = c->deletedmodseq;
        c_r->created_modseq = c->created_modseq;
        c_r->last_append = c->last_append;
        c_r->options = (struct mlog_options){ .recentuid = c->recentuid, .options = c->options, .recent_time = c->recent_time,
                .pop3_last_login = c->pop3_last_login, .pop3_show_after = c->pop3_show_after, .raclmodseq = c->raclmodseq,
                .xconvmodseq = c->xconvmodseq };
}

struct totals_delta state_totals(struct mailbox *m)
{
        const struct index_totals *t = index_totals(m->ix);

        return (struct totals_delta){ t->live, t->seen, t->deleted, (int64_t)t->size, (int64_t)t->deleted_size };
}

/* ---- what the index keeps for us ---- */

static void put_u32(struct str *s, uint32_t n)
{
        str_append(s, &n, sizeof n);
}

void state_save_blobs(struct mailbox *m)
{
        struct str s = STR_INIT;

        if (m->kw.changed) {
                put_u32(&s, atomic_load(&m->kw.names));
                for (uint32_t i = 0; i < atomic_load(&m->kw.names); i++) {
                        const char *name = kwtab_name(&m->kw, i);

                        put_u32(&s, name ? (uint32_t)strlen(name) : 0);
                        str_append_str(&s, name ? name : "");
                }
                put_u32(&s, atomic_load(&m->kw.sets));
                for (uint32_t i = 1; i < atomic_load(&m->kw.sets); i++) {
                        const struct kwset *set = kwtab_set(&m->kw, i);

                        put_u32(&s, set->n);
                        str_append(&s, set->ids, set->n * sizeof *set->ids);
                }
                index_set_blob(m->ix, INDEX_KEYWORDS, s.data, s.len);
                m->kw.changed = false;
                str_clear(&s);
        }
        put_u32(&s, (uint32_t)m->moves.n);
        for (size_t i = 0; i < m->moves.n; i++) {
                const struct move_note *note = m->moves.v[i];
                struct mlog_move move = note->move;

                put_u32(&s, note->intent);
                move.n = note->uids.n;
                move.dir_len = note->dir ? (uint32_t)strlen(note->dir) : (uint32_t)(note->own_seen.n * sizeof *note->own_seen.ranges);
                str_append(&s, &move, sizeof move);
                if (note->uids.n)
                        str_append(&s, note->uids.ranges, note->uids.n * sizeof *note->uids.ranges);
                if (move.dir_len)
                        str_append(&s, note->dir ? (const void *)note->dir : note->own_seen.ranges, move.dir_len);
        }
        index_set_blob(m->ix, INDEX_MOVES, s.data, m->moves.n ? s.len : 0);
        str_deinit(&s);
        index_set_blob(m->ix, INDEX_EXTRA, &m->options_seq, sizeof m->options_seq);
        annots_save(m);
}

static bool take(struct span *s, void *to, size_t len)
{
        if (s->len < len)
                return false;
        memcpy(to, s->p, len);
        s->p += len;
        s->len -= len;
        return true;
}

static bool load_keywords(struct mailbox *m, struct span s)
{
        uint32_t names, sets, n;
        uint16_t ids[KEYWORDS_MAX];

        if (s.len == 0)
                return true;
        if (!take(&s, &names, 4) || names > KEYWORDS_MAX)
                return false;
        for (uint32_t i = 0; i < names; i++) {
                if (!take(&s, &n, 4) || n > KEYWORD_BYTES_MAX || n > s.len)
                        return false;
                name_missing(&m->kw, i + 1);
                change_name(&m->kw, i, (struct span){ s.p, n });
                s.p += n;
                s.len -= n;
        }
        if (!take(&s, &sets, 4) || sets > KWSETS_MAX)
                return false;
        for (uint32_t i = 1; i < sets; i++) {
                if (!take(&s, &n, 4) || n > KEYWORDS_MAX || !take(&s, ids, n * sizeof *ids))
                        return false;
                for (uint32_t k = 0; k < n; k++)
                        if (ids[k] >= names)
                                return false;
                if (i >= atomic_load(&m->kw.sets))
                        add_set(&m->kw, ids, n);
        }
        m->kw.changed = false;
        return true;
}

static void load_ranges(const char *p, size_t n, struct uidset *out)
{
        struct uidrange r;

        for (; n; n--, p += sizeof r) {
                memcpy(&r, p, sizeof r);
                if (r.first && r.first <= r.last)
                        uidset_add_range(out, r.first, r.last);
        }
}

static bool load_moves(struct mailbox *m, struct span s)
{
        uint32_t n, intent;

        if (s.len == 0)
                return true;
        if (!take(&s, &n, 4))
                return false;
        while (n--) {
                struct mlog_move move;
                struct move_note *note;

                if (!take(&s, &intent, 4) || !take(&s, &move, sizeof move) || (intent && move.dir_len > 4096) ||
                    s.len < (uint64_t)move.n * sizeof(struct uidrange) + move.dir_len)
                        return false;
                note = xcalloc(1, sizeof *note);
                note->move = move;
                note->intent = intent != 0;
                load_ranges(s.p, move.n, &note->uids);
                if (intent)
                        note->dir = xstrndup(s.p + move.n * sizeof(struct uidrange), move.dir_len);
                else
                        load_ranges(s.p + move.n * sizeof(struct uidrange), move.dir_len / sizeof(struct uidrange), &note->own_seen);
                s.p += move.n * sizeof(struct uidrange);
                s.len -= move.n * sizeof(struct uidrange);
                s.p += move.dir_len;
                s.len -= move.dir_len;
                *ARRAY_PUSH(&m->moves) = note;
        }
        return true;
}

int state_load_blobs(struct mailbox *m, struct err *err)
{
        struct span extra = index_blob(m->ix, INDEX_EXTRA);

        if (!load_keywords(m, index_blob(m->ix, INDEX_KEYWORDS)) || !load_moves(m, index_blob(m->ix, INDEX_MOVES)))
                return err_set(err, ERR_CORRUPT, "%s: keywords or moves of the index cannot be", m->index_path);
        if (annots_load(m, err) < 0)
                return err_prefix(err, "%s", m->index_path);
        if (!take(&extra, &m->options_seq, sizeof m->options_seq))
                m->options_seq = 0;
        return 0;
}
