/*
 * replica_read - what replication reads of a mailbox: values, CRCs, records, octets.
 *
 * A reader shows one moment. It is found under the mailbox's lock, when nothing that was written waits for the disk: then counters, CRCs and
 * records belong together, and nobody is told of what a power loss could take back. Records are read afterwards without any lock, from the
 * versions of the index's blocks that there were then (index.h); annotations, which have no versions, are copied at once.
 *
 * CRCs. Each version of a block of the index keeps the sums of its records (struct index_sums). Before the moment is looked for, the sums of
 * blocks that have changed are worked out without the lock; the few that change in between are, then, with it. Private annotations count with
 * their users' names, which may change without any change of the mailbox: the sums of a block with such ones say of which generation of
 * the users' table they are.
 */
#include <stdlib.h>
#include <string.h>

#include "store/annot_user.h"
#include "store/mailname.h"
#include "store/mboxlist_private.h"
#include "store/replica_private.h"
#include "store/store_private.h"
#include "util/fs.h"
#include "util/must.h"

#define MOMENT_TRIES 200                        /* until a mailbox that is changed all the time counts as busy */
#define LOCKED_BLOCKS 2                         /* as many blocks' sums are worked out with the lock held */

/* ---- sums ---- */

static bool sums_hold(struct mailbox *m, const struct index_sums *s)
{
        return s->known && (s->of == 0 || s->of == annot_users_generation(m->store));
}

/* The annotations of one record: those of `list` from *at on. Behind them is *at then. */
static void take_annots(struct replica_record *rec, const struct annot_of *list, uint32_t n, uint32_t *at, struct arena *arena)
{
        struct annot *own;
        uint32_t from, count = 0;

        while (*at < n && list[*at].uid < rec->uid)
                ++*at;
        from = *at;
        while (*at < n && list[*at].uid == rec->uid)
                ++*at;
        if (*at == from)
                return;
        own = ARENA_ARRAY(arena, struct annot, *at - from);
        for (uint32_t i = from; i < *at; i++)
                if (!replica_is_virtual(list[i].annot.entry))
                        own[count++] = list[i].annot;
        rec->annots = own;
        rec->annots_n = count;
}

static struct index_sums sum_up(struct mailbox *m, const struct index_rec *recs, uint32_t n, const struct annot_of *annots, uint32_t annots_n,
                                struct arena *arena)
{
        struct replica_crcs crcs = { 0, 0 };
        uint32_t at = 0;

        for (uint32_t i = 0; i < n; i++) {
                struct replica_record rec;

                if (recs[i].flags & MSG_EXPUNGED)
                        continue;
                replica_record_of(m, &recs[i], arena, &rec);
                take_annots(&rec, annots, annots_n, &at, arena);
                replica_crc_record(&crcs, &rec);
        }
        return (struct index_sums){ .known = true, .basic = crcs.basic, .annot = crcs.annot };
}

static bool any_private(const struct annot_of *annots, uint32_t n)
{
        for (uint32_t i = 0; i < n; i++)
                if (*annots[i].annot.user)
                        return true;
        return false;
}

/* Of one version of a block, which is not changed while we hold it. Its annotations are those of now: when they change, so do the sums of
 * the version that is current then. */
static int sum_block(struct mailbox *m, const struct index_block_part *part, struct index_rec *recs, struct err *err) EXCLUDES(mailbox_class)
{
        struct arena arena = ARENA_INIT;
        struct annot_of *annots;
        struct index_sums sums;
        uint64_t version, users = annot_users_generation(m->store);
        uint32_t n;
        int rc;

        mailbox_lock(m);
        version = m->annots.version;
        n = annots_of_range_locked(m, part->first_uid, part->last_uid, &arena, &annots);
        mailbox_unlock(m);
        n = annots_name_users(m->store, &arena, annots, n);
        rc = index_block_records(part->block, recs, err);
        if (rc == 0) {
                bool private = any_private(annots, n);

                sums = sum_up(m, recs, part->records, annots, n, &arena);
                sums.of = private ? users : 0;
                mailbox_lock(m);
                if (m->annots.version == version)
                        *index_block_sums(part->block) = sums;
                mailbox_unlock(m);
        }
        arena_deinit(&arena);
        return rc;
}

int replica_crcs_prepare(struct mailbox *m, bool anew, struct err *err)
{
        struct index_rec *recs = xmalloc(INDEX_BLOCK_RECORDS * sizeof *recs);
        struct index_block_part *parts;
        uint32_t n, wanted = 0;
        int rc = 0;

        mailbox_lock(m);
        n = index_blocks_above(m->ix, 0, &parts);
        for (uint32_t i = 0; i < n; i++) {
                struct index_sums *s = index_block_sums(parts[i].block);

                if (anew)
                        s->known = false;
                if (sums_hold(m, s))
                        index_block_unref(&parts[i].block);
                else
                        parts[wanted++] = parts[i];
        }
        mailbox_unlock(m);
        for (uint32_t i = 0; i < wanted; i++) {
                if (rc == 0)
                        rc = sum_block(m, &parts[i], recs, err);
                index_block_unref(&parts[i].block);
        }
        free(parts);
        free(recs);
        return rc;
}

/* The sums of a block as it is now, with the lock. */
static int sum_block_locked(struct mailbox *m, const struct index_block_part *part, struct err *err) REQUIRES(m->lock, mailbox_class);
static int sum_block_locked(struct mailbox *m, const struct index_block_part *part, struct err *err)
{
        struct index_rec *recs = xmalloc(INDEX_BLOCK_RECORDS * sizeof *recs);
        uint64_t users = annot_users_generation(m->store);
        struct arena arena = ARENA_INIT;
        struct annot_of *annots;
        uint32_t n = annots_of_range_locked(m, part->first_uid, part->last_uid, &arena, &annots);
        int rc = index_block_records(part->block, recs, err);

        n = annots_name_users(m->store, &arena, annots, n);
        if (rc == 0) {
                *index_block_sums(part->block) = sum_up(m, recs, part->records, annots, n, &arena);
                index_block_sums(part->block)->of = any_private(annots, n) ? users : 0;
        }
        arena_deinit(&arena);
        free(recs);
        return rc;
}

int replica_crcs_known_locked(struct mailbox *m, uint32_t most, struct replica_crcs *crcs_r, struct err *err)
{
        struct index_block_part *parts;
        uint32_t n = index_blocks_above(m->ix, 0, &parts), unknown = 0;
        int rc = 1;

        *crcs_r = (struct replica_crcs){ 0, REPLICA_CRC_ANNOT_EMPTY };
        for (uint32_t i = 0; i < n && rc == 1; i++) {
                if (!sums_hold(m, index_block_sums(parts[i].block))) {
                        if (unknown++ == most)
                                rc = 0;
                        else if (sum_block_locked(m, &parts[i], err) < 0)
                                rc = -1;
                }
                crcs_r->basic ^= index_block_sums(parts[i].block)->basic;
                crcs_r->annot ^= index_block_sums(parts[i].block)->annot;
        }
        for (uint32_t i = 0; i < n; i++)
                index_block_unref(&parts[i].block);
        free(parts);
        return rc;
}

int replica_crcs_locked(struct mailbox *m, struct replica_crcs *crcs_r, struct err *err)
{
        return replica_crcs_known_locked(m, UINT32_MAX, crcs_r, err) < 0 ? -1 : 0;
}

/* ---- the moment ---- */

struct replica_reader {
        struct mailbox *mbox;
        uint64_t since;
        struct index_block_part *parts;
        uint32_t parts_n, part;                 /* parts before `part` are done */
        struct index_rec *recs;                 /* of parts[part], when at > 0 or loaded */
        bool loaded;
        uint32_t at;
        struct arena arena;                     /* of: */
        struct annot_of *annots;
        const char **keywords;                  /* by id, as they were called: one that no message has any more may be forgotten meanwhile */
        uint32_t annots_n, annot_at, keywords_n;
};

static void values_of_counters_locked(struct mailbox *m, struct replica_values *v) REQUIRES(m->lock, mailbox_class);
static void values_of_counters_locked(struct mailbox *m, struct replica_values *v)
{
        const struct index_counters *c = index_counters(m->ix);

        v->last_uid = c->uidnext - 1;
        v->recentuid = c->recentuid;
        v->uidvalidity = c->uidvalidity;
        v->options = c->options & (MBOX_POP3_NEW_UIDL | MBOX_SHARED_SEEN | MBOX_DUPLICATE_DELIVER | MBOX_HAS_ALARMS);
        v->highestmodseq = c->highestmodseq;
        v->deletedmodseq = c->deletedmodseq;
        v->raclmodseq = c->raclmodseq;
        v->xconvmodseq = c->xconvmodseq;
        v->recent_time = c->recent_time;
        v->last_appenddate = c->last_append;
        v->pop3_last_login = c->pop3_last_login;
        v->pop3_show_after = c->pop3_show_after;
        v->messages = index_totals(m->ix)->live;
}

/* Wait until what is written now is on disk and shown. */
static int wait_published(struct mailbox *m, struct err *err)
{
        struct waiter w;

        waiter_init_blocking(&w);
        mailbox_wait_published(m, &w);
        return waiter_block(&w, err);
}

struct moment {
        struct replica_values *values;
        struct annot_of *annots;                /* the mailbox's own */
        uint32_t annots_n;
        struct replica_reader *reader;          /* NULL: values only */
};

/* 1: taken; 0: something waits for the disk, or too many blocks have changed: try again; -1. */
static int take_moment_locked(struct mailbox *m, struct moment *mo, struct arena *arena, struct err *err) REQUIRES(m->lock, mailbox_class);
static int take_moment_locked(struct mailbox *m, struct moment *mo, struct arena *arena, struct err *err)
{
        struct replica_reader *r = mo->reader;
        int rc;

        if (m->commits.head)
                return 0;
        rc = replica_crcs_known_locked(m, LOCKED_BLOCKS, &mo->values->crcs, err);
        if (rc <= 0)
                return rc;
        values_of_counters_locked(m, mo->values);
        mo->annots_n = annots_of_range_locked(m, 0, 0, arena, &mo->annots);
        if (!r)
                return 1;
        r->keywords_n = mailbox_keyword_count(m);
        r->keywords = ARENA_ARRAY(&r->arena, const char *, r->keywords_n + 1);
        for (uint32_t i = 0; i < r->keywords_n; i++)
                r->keywords[i] = kwtab_name(&m->kw, i);
        r->parts_n = index_blocks_above(m->ix, r->since, &r->parts);
        if (m->annots.of_messages && r->parts_n)
                r->annots_n = annots_of_range_locked(m, r->parts[0].first_uid, r->parts[r->parts_n - 1].last_uid, &r->arena, &r->annots);
        return 1;
}

static int take_moment(struct mailbox *m, struct moment *mo, bool from_scratch, struct arena *arena, struct err *err) EXCLUDES(mailbox_class)
{
        for (unsigned i = 0; i < MOMENT_TRIES; i++) {
                int rc;

                if (replica_crcs_prepare(m, from_scratch && i == 0, err) < 0 || wait_published(m, err) < 0)
                        return -1;
                if (mailbox_is_deleted(m))
                        return err_set(err, ERR_NOTFOUND, "mailbox %s was deleted", m->uniqueid);
                mailbox_lock(m);
                rc = take_moment_locked(m, mo, arena, err);
                mailbox_unlock(m);
                if (rc)
                        return rc < 0 ? -1 : 0;
        }
        return err_set(err, ERR_BUSY, "mailbox %s changes all the time", m->uniqueid);
}

/* ---- values ---- */

/* The same name has always the same one, here and on a replica. */
static const char *made_uniqueid(const char *name, struct arena *arena)
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
        uint8_t guid[GUID_SIZE], more[GUID_SIZE];
        char *id = arena_zalloc(arena, 25);
        struct digest h;

        digest_init(&h);
        digest_update(&h, "intermediate ", 13);
        digest_update(&h, name, strlen(name));
        digest_final(&h, guid);
        digest_init(&h);
        digest_update(&h, guid, sizeof guid);
        digest_final(&h, more);
        for (unsigned i = 0; i < 24; i++)
                id[i] = letters[(i < GUID_SIZE ? guid[i] : more[i - GUID_SIZE]) % 36];
        return id;
}

static void values_of_entry(struct store *store, const struct mbentry *e, struct arena *arena, struct replica_values *v)
{
        struct str root = STR_INIT;

        memset(v, 0, sizeof *v);
        v->name = arena_strdup(arena, e->name);
        v->type = e->type;
        v->uniqueid = *e->uniqueid ? arena_strdup(arena, e->uniqueid) : made_uniqueid(e->name, arena);
        v->uidvalidity = e->uidvalidity;
        v->createdmodseq = e->createdmodseq;
        v->foldermodseq = e->foldermodseq;
        v->highestmodseq = e->foldermodseq;
        v->acl = arena_strdup(arena, e->acl);
        v->partition = e->type == MBTYPE_INTERMEDIATE ? NULL : arena_strdup(arena, e->partition);
        if (e->type == MBTYPE_NORMAL && quota_root_of(store, e->name, &root))
                v->quotaroot = arena_strdup(arena, root.data);
        str_deinit(&root);
        v->crcs = (struct replica_crcs){ 0, REPLICA_CRC_ANNOT_EMPTY };
        v->has = (v->createdmodseq ? REPLICA_HAS_CREATEDMODSEQ : 0u) | (v->foldermodseq ? REPLICA_HAS_FOLDERMODSEQ : 0u);
}

/* The mailbox's own annotations, and its special use, which Cyrus keeps as one of the owner's. */
static void values_of_annots(struct store *store, const struct mbentry *e, struct moment *mo, struct arena *arena, struct replica_values *v)
{
        uint32_t n = annots_name_users(store, arena, mo->annots, mo->annots_n), kept = 0;
        struct annot *list = ARENA_ARRAY(arena, struct annot, n + 1);
        const char *owner = mailname_owner(e->name, arena);
        struct annot use = { "/specialuse", owner ? owner : "", span_of(arena_strdup(arena, e->specialuse)), 0 };
        bool pending = *e->specialuse;

        for (uint32_t i = 0; i < n; i++) {
                int c = pending ? annot_compare(&use, &mo->annots[i].annot) : 1;

                if (c <= 0) {
                        list[kept++] = use;
                        pending = false;
                        if (c == 0)
                                continue;
                }
                list[kept++] = mo->annots[i].annot;
        }
        if (pending)
                list[kept++] = use;
        v->annots = list;
        v->annots_n = kept;
}

static void values_have(struct replica_values *v)
{
        v->has |= REPLICA_HAS_CRC | REPLICA_HAS_CRC_ANNOT | (v->pop3_show_after ? REPLICA_HAS_POP3_SHOW_AFTER : 0u) |
                  (v->raclmodseq ? REPLICA_HAS_RACLMODSEQ : 0u) | (v->xconvmodseq ? REPLICA_HAS_XCONVMODSEQ : 0u);
}

const struct mbentry *replica_find(struct store *store, const char *name, struct mailbox **mbox_r, struct err *err)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(store), name);
        struct mailbox_ident ident;

        *mbox_r = NULL;
        if (!e) {
                err_set(err, ERR_NOTFOUND, "no mailbox %s", name);
                return NULL;
        }
        if (mbentry_ident(store, e, &ident, err) == 0 && mailbox_open(store, &ident, mbox_r, err) == 0)
                return e;
        mbentry_unref(&e);
        return NULL;
}

bool replica_entry(struct store *store, const char *name, struct arena *arena, struct replica_values *values_r)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(store), name);

        if (!e)
                return false;
        values_of_entry(store, e, arena, values_r);
        mbentry_unref(&e);
        return true;
}

static int read_mailbox(struct store *store, const char *name, bool from_scratch, struct replica_reader *reader, struct arena *arena,
                        struct replica_values *v, struct err *err)
{
        for (unsigned i = 0; i < MOMENT_TRIES; i++) {
                struct moment mo = { .values = v, .reader = reader };
                const struct mbentry *e, *now;
                struct mailbox *m;
                bool same;
                int rc;

                if (!reader && replica_entry(store, name, arena, v) && v->type == MBTYPE_INTERMEDIATE)
                        return 0;
                e = replica_find(store, name, &m, err);
                if (!e)
                        return -1;
                values_of_entry(store, e, arena, v);
                rc = take_moment(m, &mo, from_scratch, arena, err);
                now = mboxlist_find(store_mboxlist(store), name);
                same = now == e;
                mbentry_unref(&now);
                if (rc == 0 && same) {
                        values_of_annots(store, e, &mo, arena, v);
                        values_have(v);
                }
                mbentry_unref(&e);
                if (rc == 0 && same && reader)
                        reader->mbox = m;
                else
                        mailbox_unref(&m);
                if (rc == 0 && same)
                        return 0;
                if (reader) {                           /* its name, ACL … has changed meanwhile: once more */
                        for (uint32_t k = 0; k < reader->parts_n; k++)
                                index_block_unref(&reader->parts[k].block);
                        free(reader->parts);
                        reader->parts = NULL;
                        reader->parts_n = reader->annots_n = 0;
                }
                if (rc < 0 && !(err->code == ERR_NOTFOUND && !same))
                        return -1;
                err_clear(err);
        }
        return err_set(err, ERR_BUSY, "mailbox %s is renamed all the time", name);
}

int replica_read(struct store *store, const char *name, struct arena *arena, struct replica_values *values_r, struct err *err)
{
        return read_mailbox(store, name, false, NULL, arena, values_r, err);
}

/* ---- records ---- */

int replica_reader_open(struct store *store, const char *name, uint64_t since, bool from_scratch, struct arena *arena,
                        struct replica_values *values_r, struct replica_reader **reader_r, struct err *err)
{
        struct replica_reader *r = xcalloc(1, sizeof *r);

        r->since = since;
        *reader_r = r;
        if (read_mailbox(store, name, from_scratch, r, arena, values_r, err) < 0) {
                replica_reader_close(reader_r);
                return -1;
        }
        r->annots_n = annots_name_users(store, &r->arena, r->annots, r->annots_n);
        return 0;
}

void replica_reader_close(struct replica_reader **rp)
{
        struct replica_reader *r = *rp;

        *rp = NULL;
        if (!r)
                return;
        for (uint32_t i = 0; i < r->parts_n; i++)
                index_block_unref(&r->parts[i].block);
        free(r->parts);
        free(r->recs);
        arena_deinit(&r->arena);
        mailbox_unref(&r->mbox);
        free(r);
}

void replica_reader_rewind(struct replica_reader *r)
{
        r->loaded = r->loaded && r->part == 0;
        r->part = r->at = r->annot_at = 0;
}

struct mailbox *replica_reader_mailbox(struct replica_reader *r)
{
        return r->mbox;
}

/* The block that is next is in r->recs. 1; 0: there is none; -1. */
static int load_part(struct replica_reader *r, struct err *err)
{
        if (r->loaded && r->at == r->parts[r->part].records) {
                r->part++;
                r->loaded = false;
                r->at = 0;
        }
        if (r->part == r->parts_n)
                return 0;
        if (!r->recs)
                r->recs = xmalloc(INDEX_BLOCK_RECORDS * sizeof *r->recs);
        if (!r->loaded && index_block_records(r->parts[r->part].block, r->recs, err) < 0)
                return -1;
        r->loaded = true;
        return 1;
}

/* The caller's own: what the reader and the mailbox have of it goes with them. */
static void own_texts(struct replica_record *rec, struct arena *arena)
{
        const char **names = (const char **)(uintptr_t)rec->keywords;
        struct annot *annots = (struct annot *)(uintptr_t)rec->annots;

        for (uint32_t i = 0; i < rec->keywords_n; i++)
                names[i] = arena_strdup(arena, names[i]);
        for (uint32_t i = 0; i < rec->annots_n; i++) {
                annots[i].entry = arena_strdup(arena, annots[i].entry);
                annots[i].user = arena_strdup(arena, annots[i].user);
                annots[i].value = arena_span(arena, annots[i].value);
        }
}

int replica_reader_next(struct replica_reader *r, uint32_t max, struct arena *arena, struct replica_record *records_r, struct err *err)
{
        uint32_t n = 0;
        int rc;

        while (n < max && (rc = load_part(r, err)) != 0) {
                if (rc < 0)
                        return -1;
                for (; n < max && r->at < r->parts[r->part].records; r->at++) {
                        const struct index_rec *rec = &r->recs[r->at];

                        if (r->since && rec->modseq <= r->since)
                                continue;
                        replica_record_then(r->mbox, rec, r->keywords, r->keywords_n, arena, &records_r[n]);
                        take_annots(&records_r[n], r->annots, r->annots_n, &r->annot_at, arena);
                        own_texts(&records_r[n++], arena);
                }
        }
        return (int)n;
}

/* ---- names ---- */

static void add_names(struct store *store, const char *prefix, struct arena *arena, const char ***names, size_t *n, size_t *cap)
{
        const struct mbentry *found[128];
        const char *after = "";
        unsigned got;

        while ((got = mboxlist_next(store_mboxlist(store), prefix, after, found, 128)) > 0) {
                for (unsigned i = 0; i < got; i++) {
                        const char *name = arena_strdup(arena, found[i]->name);

                        if (found[i]->type == MBTYPE_NORMAL || found[i]->type == MBTYPE_INTERMEDIATE) {
                                if (*n == *cap) {
                                        const char **more = ARENA_ARRAY(arena, const char *, *cap = *cap ? 2 * *cap : 64);

                                        if (*n)
                                                memcpy(more, *names, *n * sizeof *more);
                                        *names = more;
                                }
                                (*names)[(*n)++] = name;
                        }
                        after = name;
                        mbentry_unref(&found[i]);
                }
        }
}

size_t replica_user_mailboxes(struct store *store, const char *userid, bool deleted, struct arena *arena, const char ***names_r)
{
        const char *inbox = mailname_inbox_of(userid, arena), *prefix = conf_str(store_conf(store), NULL, "deletedprefix");
        const char *bang = strchr(inbox, '!'), *local = bang ? bang + 1 : inbox;
        size_t n = 0, cap = 0;

        *names_r = NULL;
        add_names(store, inbox, arena, names_r, &n, &cap);
        if (deleted && *prefix)
                add_names(store, arena_printf(arena, "%.*s%s.%s", (int)(local - inbox), inbox, prefix, local), arena, names_r, &n, &cap);
        return n;
}

const char *replica_find_uniqueid(struct store *store, const char *uniqueid, struct arena *arena)
{
        const struct mbentry *e = *uniqueid ? mboxlist_find_uniqueid(store_mboxlist(store), uniqueid) : NULL;
        const char *name = e ? arena_strdup(arena, e->name) : NULL;

        mbentry_unref(&e);
        return name;
}

bool replica_tombstone(struct store *store, const char *name, struct arena *arena, struct replica_values *values_r, struct err *err)
{
        const struct mbentry *e = mboxlist_find(store_mboxlist(store), name);

        if (e || mboxlist_tombstone(store_mboxlist(store), name, &e, err) <= 0) {
                mbentry_unref(&e);
                return false;
        }
        values_of_entry(store, e, arena, values_r);
        mbentry_unref(&e);
        return true;
}

struct each_tombstone {
        bool (*fn)(void *ctx, const struct replica_values *values);
        void *ctx;
        struct store *store;
        struct arena arena;
};

static bool one_tombstone(void *ctx, const struct mbentry *e)
{
        struct each_tombstone *t = ctx;
        struct replica_values v;
        bool more;

        values_of_entry(t->store, e, &t->arena, &v);
        more = t->fn(t->ctx, &v);
        arena_reset(&t->arena);
        return more;
}

int replica_each_tombstone(struct store *store, bool (*fn)(void *ctx, const struct replica_values *values), void *ctx, struct err *err)
{
        struct each_tombstone t = { fn, ctx, store, ARENA_INIT };
        int rc = mboxlist_each_tombstone(store_mboxlist(store), one_tombstone, &t, err);

        arena_deinit(&t.arena);
        return rc;
}

/* ---- octets ---- */

int replica_open(struct store *store, const char *name, struct mailbox **mbox_r, struct err *err)
{
        const struct mbentry *e = replica_find(store, name, mbox_r, err);

        if (!e)
                return -1;
        mbentry_unref(&e);
        return 0;
}

int replica_octets(struct mailbox *m, uint32_t uid, uint8_t guid_r[GUID_SIZE], struct extent *extent_r, struct err *err)
{
        struct msg msg;

        if (mailbox_message(m, uid, &msg, err) < 0)
                return -1;
        if (msg.flags & MSG_UNLINKED)
                return err_set(err, ERR_NOTFOUND, "mailbox %s: the octets of message %u are gone", m->uniqueid, uid);
        if (guid_r)
                memcpy(guid_r, msg.guid, GUID_SIZE);
        return mailbox_body(m, &msg, extent_r, err);
}

/* Which are looked for: GUID → number + 1 in `guids`; the same one twice is one look. */
struct guid_search {
        struct table *wanted;
        bool (*found)(void *ctx, size_t which, struct mailbox *mbox, uint32_t uid);
        void *ctx;
};

static int search_mailbox(struct guid_search *s, struct mailbox *m, struct err *err) EXCLUDES(mailbox_class)
{
        struct index_rec *recs = xmalloc(INDEX_BLOCK_RECORDS * sizeof *recs);
        struct index_block_part *parts;
        uint32_t n;
        int rc = 0;

        mailbox_lock(m);
        n = index_blocks_above(m->ix, 0, &parts);
        mailbox_unlock(m);
        for (uint32_t i = n; i-- > 0;) {                /* the newest first: what arrives is most often what has just arrived elsewhere */
                if (rc == 0 && table_count(s->wanted))
                        rc = index_block_records(parts[i].block, recs, err);
                for (uint32_t k = 0; rc == 0 && k < parts[i].records && table_count(s->wanted); k++) {
                        struct span guid = { (const char *)recs[k].guid, GUID_SIZE };
                        uintptr_t which = recs[k].flags & MSG_UNLINKED ? 0 : (uintptr_t)table_find(s->wanted, guid);

                        if (which && s->found(s->ctx, which - 1, m, recs[k].uid))
                                table_set(s->wanted, guid, NULL);
                }
                index_block_unref(&parts[i].block);
        }
        free(parts);
        free(recs);
        return rc;
}

int replica_find_guids(struct store *store, const char *const *names, size_t names_n, const uint8_t (*guids)[GUID_SIZE], size_t guids_n,
                       bool (*found)(void *ctx, size_t which, struct mailbox *mbox, uint32_t uid), void *ctx, struct err *err)
{
        struct guid_search s = { table_create(), found, ctx };
        int rc = 0;

        for (size_t i = guids_n; i-- > 0;)
                table_set(s.wanted, (struct span){ (const char *)guids[i], GUID_SIZE }, (void *)(uintptr_t)(i + 1));
        for (size_t i = 0; i < names_n && rc == 0 && table_count(s.wanted); i++) {
                struct err mine = ERR_INIT;
                struct mailbox *m;

                if (replica_open(store, names[i], &m, &mine) < 0) {
                        if (mine.code == ERR_NOTFOUND)
                                continue;
                        err_copy(err, &mine);
                        rc = -1;
                        break;
                }
                rc = search_mailbox(&s, m, err);
                mailbox_unref(&m);
        }
        table_destroy(&s.wanted);
        return rc;
}

int replica_stage_message(struct mailbox *m, uint32_t uid, const uint8_t guid[GUID_SIZE], const char *partition_dir, struct stage **stage_r,
                          struct err *err)
{
        struct stage *stage = NULL;
        struct extent x;
        char *buf;
        int rc;

        if (replica_octets(m, uid, NULL, &x, err) < 0)
                return -1;
        rc = stage_begin(m->store, partition_dir, x.len, &stage, err);
        buf = xmalloc(64 << 10);
        while (rc == 0 && x.len) {
                size_t n = x.len < 64 << 10 ? (size_t)x.len : 64 << 10;

                rc = file_read(x.file, buf, n, x.offset, err);
                if (rc == 0)
                        rc = stage_write(stage, buf, n, err);
                x.offset += n;
                x.len -= n;
        }
        free(buf);
        file_unref(&x.file);
        if (rc == 0)
                rc = stage_finish(stage, err);
        if (rc == 0 && memcmp(stage_guid(stage), guid, GUID_SIZE) != 0)
                rc = err_set(err, ERR_CORRUPT, "mailbox %s: the octets of message %u do not have its GUID", m->uniqueid, uid);
        if (rc == 0)
                *stage_r = stage;
        else
                stage_unref(&stage);
        return rc;
}
