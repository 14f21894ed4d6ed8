/*
 * client_repair - the full update after a checksum failure (csync 10.4): all records of the replica beside ours, and what section 11 makes of the
 * differences.
 *
 * The replica's records are compared as they come (both sides ascend by UID), so only differences are kept. Then, in this order: what is to be
 * copied back is fetched and put into our mailbox together with all other changes to it, durably (store/replica.h, repair); then the replica is
 * told to expunge what has a new UID now; then the caller sends the result as any update.
 *
 * Stopped between the first two, the replica still has, under its old UID, a message that we have copied back. The next time round it would be
 * copied once more: so a message of the replica's that we have under a UID unknown to it, of the same GUID, internal date and save date, counts as
 * copied back.
 */
#include "replication/client_private.h"

#include <inttypes.h>
#include <stdlib.h>

#include "util/must.h"

#define CHANGED_MAX 5                           /* our mailbox changed meanwhile: from the beginning, so often */
#define FIXES_MAX 2000u                         /* in one batch */
#define FETCHED_MAX 256u                        /* … messages fetched for it */
#define FETCHED_OCTETS_MAX (UINT64_C(64) << 20)

struct diff {                                   /* one UID on which we do not agree */
        uint32_t uid;
        bool ours;                              /* we have a record: */
        bool absorbed;                          /* … and it is the copy of one of the replica's */
        bool alive;
        uint64_t modseq;
        int64_t last_updated, internaldate, savedate;
        uint8_t guid[GUID_SIZE];
        struct replica_record *theirs;          /* in the arena; NULL: the replica has none */
};

struct full {
        struct client *c;
        const char *name;
        struct arena arena;                     /* of it all */
        struct replica_values ours, theirs;
        ARRAY(struct diff) diffs;
        /* Our records as they are read. */
        struct replica_reader *reader;
        struct arena slice;
        struct replica_record recs[REPLICA_SLICE];
        int n, at;
        /* The replica's. */
        struct arena element;
        uint32_t last_theirs;
        bool seen_mailbox;
        /* What comes of it. */
        ARRAY(struct replica_fix) fixes;
        struct uidset expunge;                  /* on the replica */
        struct table *unknown;                  /* GUID → a living one of ours that the replica does not have */
};

static bool is_alive(const struct replica_record *rec)
{
        return !(rec->flags & MSG_EXPUNGED);
}

/* ---- comparing -------------------------------------------------------------------------------------------------------------- */

/* 1: *rec_r is ours to be looked at next; 0: there are no more; -1. */
static int our_record(struct full *f, const struct replica_record **rec_r, struct err *err)
{
        if (f->at == f->n) {
                arena_reset(&f->slice);
                f->at = 0;
                f->n = replica_reader_next(f->reader, REPLICA_SLICE, &f->slice, f->recs, err);
                if (f->n <= 0) {
                        int rc = f->n;

                        f->n = 0;
                        return rc;
                }
        }
        *rec_r = &f->recs[f->at];
        return 1;
}

static bool has_keyword(const struct replica_record *rec, const char *keyword)
{
        for (uint32_t i = 0; i < rec->keywords_n; i++)
                if (strcasecmp(rec->keywords[i], keyword) == 0)
                        return true;
        return false;
}

static bool same_flags(const struct replica_record *a, const struct replica_record *b)
{
        if (((a->flags ^ b->flags) & (MSG_SYSTEM_FLAGS | MSG_EXPUNGED)) || a->keywords_n != b->keywords_n)
                return false;
        for (uint32_t i = 0; i < a->keywords_n; i++)
                if (!has_keyword(b, a->keywords[i]))
                        return false;
        return true;
}

static bool same_record(const struct replica_record *a, const struct replica_record *b)
{
        return memcmp(a->guid, b->guid, GUID_SIZE) == 0 && same_flags(a, b) && a->modseq == b->modseq && a->last_updated == b->last_updated &&
               a->internaldate == b->internaldate && a->savedate == b->savedate && a->createdmodseq == b->createdmodseq && a->thrid == b->thrid &&
               client_annots_equal(a->annots, a->annots_n, b->annots, b->annots_n);
}

static void note(struct full *f, const struct replica_record *ours, const struct replica_record *theirs)
{
        struct diff *d = ARRAY_PUSH(&f->diffs);

        *d = (struct diff){ .uid = ours ? ours->uid : theirs->uid };
        if (ours) {
                d->ours = true;
                d->alive = is_alive(ours);
                d->modseq = ours->modseq;
                d->last_updated = ours->last_updated;
                d->internaldate = ours->internaldate;
                d->savedate = ours->savedate;
                memcpy(d->guid, ours->guid, GUID_SIZE);
        }
        if (theirs) {
                d->theirs = ARENA_NEW(&f->arena, struct replica_record);
                client_record_copy(d->theirs, theirs, &f->arena);
        }
}

/* Ours below `uid` are unknown to the replica. Leaves *rec_r at the first that is not. */
static int pass_ours(struct full *f, uint64_t uid, const struct replica_record **rec_r, struct err *err)
{
        int rc;

        while ((rc = our_record(f, rec_r, err)) == 1 && (*rec_r)->uid < uid) {
                if (is_alive(*rec_r))
                        note(f, *rec_r, NULL);
                f->at++;
        }
        return rc;
}

/* One of the replica's records. */
static int compare_record(struct full *f, const struct replica_record *theirs, struct err *err)
{
        const struct replica_record *ours;
        int rc;

        if (theirs->uid <= f->last_theirs)
                return err_set(err, ERR_SYNTAX, "%s: records out of order", f->name);
        f->last_theirs = theirs->uid;
        rc = pass_ours(f, theirs->uid, &ours, err);
        if (rc < 0)
                return -1;
        if (rc == 1 && ours->uid == theirs->uid) {
                if ((is_alive(ours) || is_alive(theirs)) && !same_record(ours, theirs))
                        note(f, ours, theirs);
                f->at++;
        } else if (is_alive(theirs)) {
                note(f, NULL, theirs);
        }
        return 0;
}

static bool stream_records(void *ctx, struct span key)
{
        (void)ctx;
        return span_eq_str(key, "RECORD");
}

static int take_record(void *ctx, struct span key, const struct dlist *element, struct err *err)
{
        struct full *f = ctx;
        struct replica_record rec;
        int rc;

        (void)key;
        rc = client_record_parse(element, &f->element, &rec, err);
        if (rc == 0)
                rc = compare_record(f, &rec, err);
        arena_reset(&f->element);
        return rc;
}

static int take_full(void *ctx, const struct dlist *item, struct err *err)
{
        struct full *f = ctx;
        const struct dlist *records;

        if (!span_eq_str(item->key, "MAILBOX"))
                return 0;
        f->seen_mailbox = true;
        if (!dlist_list(item, "RECORD", &records))
                return err_set(err, ERR_SYNTAX, "%s: without RECORD", f->name);
        return client_values_parse(item, true, &f->arena, &f->theirs, err);
}

static enum client_result get_full(struct full *f, struct err *err)
{
        struct dlist_hooks hooks = { .ctx = f, .streams = stream_records, .element = take_record };
        struct client_reply reply = { .line = take_full, .hooks = &hooks, .ctx = f };
        const struct replica_record *rest;
        enum client_result r;

        if (replica_reader_open(f->c->store, f->name, 0, true, &f->arena, &f->ours, &f->reader, err) < 0)
                return err->code == ERR_BUSY ? CLIENT_PUT_OFF : CLIENT_FAILED;
        r = client_text_command(f->c, "GET", "FULLMAILBOX", f->name, &reply, err);
        if (r == CLIENT_OK && !f->seen_mailbox)
                r = (err_set(err, ERR_SYNTAX, "the replica answers FULLMAILBOX without a MAILBOX"), CLIENT_FAILED);
        if (r == CLIENT_OK && pass_ours(f, UINT64_MAX, &rest, err) < 0)
                r = CLIENT_FAILED;
        return r;
}

/* ---- deciding: csync 11 ----------------------------------------------------------------------------------------------------- */

static void fix(struct full *f, int what, const struct diff *d)
{
        *ARRAY_PUSH(&f->fixes) = (struct replica_fix){ .what = what, .uid = d->uid, .modseq = d->modseq, .theirs = d->theirs };
}

/* A living one of the replica's that has to have another UID. */
static void copy_back(struct full *f, const struct diff *d)
{
        struct diff *copy = table_find(f->unknown, (struct span){ (const char *)d->theirs->guid, GUID_SIZE });

        uidset_add(&f->expunge, d->uid);
        if (copy && !copy->absorbed && copy->internaldate == d->theirs->internaldate && copy->savedate == d->theirs->savedate)
                copy->absorbed = true;
        else
                fix(f, REPLICA_FIX_APPEND, d);
}

static void decide_same_guid(struct full *f, const struct diff *d)
{
        if (d->alive != is_alive(d->theirs))
                fix(f, d->alive ? REPLICA_FIX_EXPUNGE : REPLICA_FIX_BUMP, d);
        else if (d->theirs->modseq > d->modseq && d->theirs->last_updated >= d->last_updated)
                fix(f, REPLICA_FIX_TAKE, d);
        else
                fix(f, REPLICA_FIX_BUMP, d);
}

static void decide_other_guid(struct full *f, const struct diff *d)
{
        bool ours_first = memcmp(d->guid, d->theirs->guid, GUID_SIZE) < 0;

        if (d->alive && ours_first)
                fix(f, REPLICA_FIX_RENUMBER, d);
        if (is_alive(d->theirs))
                copy_back(f, d);
        if (d->alive && !ours_first)
                fix(f, REPLICA_FIX_RENUMBER, d);
}

static void decide(struct full *f, const struct diff *d)
{
        if (d->ours && d->theirs) {
                if (memcmp(d->guid, d->theirs->guid, GUID_SIZE) == 0)
                        decide_same_guid(f, d);
                else
                        decide_other_guid(f, d);
        } else if (d->ours) {
                if (d->uid <= f->theirs.last_uid)
                        fix(f, REPLICA_FIX_RENUMBER, d);
                else if (d->modseq <= f->theirs.highestmodseq)
                        fix(f, REPLICA_FIX_BUMP, d);
        } else if (d->uid > f->ours.last_uid) {
                fix(f, REPLICA_FIX_APPEND_SAME, d);
        } else if (d->theirs->modseq < f->ours.deletedmodseq) {
                uidset_add(&f->expunge, d->uid);        /* was expunged here, and is forgotten */
        } else {
                copy_back(f, d);
        }
}

/* APPEND_SAME first: the others take UIDs above them. */
static void order_fixes(struct full *f)
{
        ARRAY(struct replica_fix) sorted = ARRAY_INIT;

        for (int same = 1; same >= 0; same--)
                for (size_t i = 0; i < f->fixes.n; i++)
                        if ((f->fixes.v[i].what == REPLICA_FIX_APPEND_SAME) == same)
                                *ARRAY_PUSH(&sorted) = f->fixes.v[i];
        ARRAY_FREE(&f->fixes);
        f->fixes.v = sorted.v;
        f->fixes.n = sorted.n;
        f->fixes.cap = sorted.cap;
}

static void decide_all(struct full *f)
{
        for (size_t i = 0; i < f->diffs.n; i++) {
                struct diff *d = &f->diffs.v[i];

                if (d->ours && !d->theirs)
                        table_set(f->unknown, (struct span){ (const char *)d->guid, GUID_SIZE }, d);
        }
        for (size_t i = 0; i < f->diffs.n; i++)
                decide(f, &f->diffs.v[i]);
        order_fixes(f);
}

/* ---- fetching --------------------------------------------------------------------------------------------------------------- */

struct fetch {
        struct full *f;
        struct stage *stage;
        uint64_t size;                          /* as the record has it */
        bool done;
};

static int fetch_begin(void *ctx, struct dlist *file, struct err *err)
{
        struct fetch *x = ctx;
        const char *dir = store_partition_dir(x->f->c->store, x->f->ours.partition);

        if (x->stage || !dir)
                return err_set(err, ERR_SYNTAX, "a file too many");
        if (file->size != x->size)              /* and so no more than was announced can come */
                return err_set(err, ERR_SYNTAX, "a message of %" PRIu64 " octets instead of %" PRIu64, file->size, x->size);
        return stage_begin(x->f->c->store, dir, file->size, &x->stage, err);
}

static int fetch_write(void *ctx, const char *p, size_t len, struct err *err)
{
        return stage_write(((struct fetch *)ctx)->stage, p, len, err);
}

static int fetch_end(void *ctx, struct dlist *file, struct err *err)
{
        struct fetch *x = ctx;

        (void)file;
        if (stage_finish(x->stage, err) < 0)
                return -1;
        x->done = true;
        return 0;
}

static enum client_result fetch(struct full *f, const struct replica_record *rec, struct stage **stage_r, struct err *err)
{
        struct client *c = f->c;
        struct fetch x = { .f = f, .size = rec->size };
        struct dlist_hooks hooks = { .ctx = &x, .file_begin = fetch_begin, .file_write = fetch_write, .file_end = fetch_end };
        struct client_reply reply = { .hooks = &hooks };
        enum client_result r;

        client_begin(c, "GET");
        dlist_write_kvlist(&c->w, "FETCH");
        dlist_write_text(&c->w, "MBOXNAME", f->name);
        dlist_write_text(&c->w, "PARTITION", f->theirs.partition ? f->theirs.partition : client_partition(c, f->ours.partition));
        dlist_write_text(&c->w, "UNIQUEID", f->ours.uniqueid);
        dlist_write_guid(&c->w, "GUID", rec->guid);
        dlist_write_u64(&c->w, "UID", rec->uid);
        dlist_write_end(&c->w);
        r = client_finish(c, &reply, err);
        if (r == CLIENT_OK && !x.done)
                r = (err_set(err, ERR_NOTFOUND, "the replica has no octets of UID %" PRIu32, rec->uid), CLIENT_FAILED);
        if (r == CLIENT_OK && memcmp(stage_guid(x.stage), rec->guid, GUID_SIZE) != 0)
                r = (err_set(err, ERR_CORRUPT, "what the replica has as UID %" PRIu32 " is not the message of that GUID", rec->uid), CLIENT_FAILED);
        if (r != CLIENT_OK) {
                stage_unref(&x.stage);
                return r;
        }
        c->counts.messages_fetched++;
        *stage_r = x.stage;
        return CLIENT_OK;
}

/* ---- doing it --------------------------------------------------------------------------------------------------------------- */

static bool has_octets(const struct replica_fix *x)
{
        return x->what == REPLICA_FIX_APPEND || x->what == REPLICA_FIX_APPEND_SAME;
}

/* Fetch for the fixes from `at` on, as many as one batch takes; *n_r of them. */
static enum client_result fetch_some(struct full *f, size_t at, uint32_t *n_r, struct err *err)
{
        enum client_result r = CLIENT_OK;
        unsigned fetched = 0;
        uint64_t octets = 0;
        uint32_t n = 0;

        for (; r == CLIENT_OK && at + n < f->fixes.n && n < FIXES_MAX && fetched < FETCHED_MAX && octets < FETCHED_OCTETS_MAX; n++) {
                struct replica_fix *x = &f->fixes.v[at + n];
                struct replica_record *theirs = (struct replica_record *)x->theirs;

                if (!has_octets(x))
                        continue;
                r = fetch(f, theirs, &theirs->stage, err);
                fetched++;
                octets += theirs->size;
        }
        *n_r = n;
        return r;
}

static void drop_stages(struct full *f, size_t at, uint32_t n)
{
        for (uint32_t i = 0; i < n; i++)
                if (has_octets(&f->fixes.v[at + i]))
                        stage_unref(&((struct replica_record *)f->fixes.v[at + i].theirs)->stage);
}

/* One batch. *changed_r: our mailbox is another by now. */
static enum client_result repair(struct full *f, size_t at, uint32_t n, bool *changed_r, struct err *err)
{
        static const struct annot none;         /* a list of none is not "leave them alone" */
        bool theirs_newer = f->theirs.highestmodseq > f->ours.highestmodseq;
        bool more_same = at + n < f->fixes.n && f->fixes.v[at + n].what == REPLICA_FIX_APPEND_SAME;
        struct replica_repair rep = { .name = f->name, .uniqueid = f->ours.uniqueid, .uidvalidity = f->theirs.uidvalidity,
                                      .last_uid = more_same ? 0 : f->theirs.last_uid, .highestmodseq = f->theirs.highestmodseq,
                                      .fixes = f->fixes.v + at, .fixes_n = n };
        enum replica_code code;

        if (theirs_newer && at == 0) {
                rep.annots = f->theirs.annots_n ? f->theirs.annots : &none;
                rep.annots_n = f->theirs.annots_n;
        }
        code = replica_repair(f->c->store, &rep, err);
        *changed_r = code == REPLICA_CHANGED;
        return code == REPLICA_OK ? CLIENT_OK : code == REPLICA_LOCKED ? CLIENT_PUT_OFF : CLIENT_FAILED;
}

static enum client_result expunge_there(struct full *f, struct err *err)
{
        struct client *c = f->c;
        struct uidset_iter it = uidset_iter(&f->expunge);
        uint32_t uid;

        if (uidset_empty(&f->expunge))
                return CLIENT_OK;
        client_begin(c, "APPLY");
        dlist_write_kvlist(&c->w, "EXPUNGE");
        dlist_write_text(&c->w, "MBOXNAME", f->name);
        dlist_write_text(&c->w, "UNIQUEID", f->ours.uniqueid);
        dlist_write_list(&c->w, "UID");
        while (uidset_next(&it, &uid))
                dlist_write_u64(&c->w, NULL, uid);
        dlist_write_end(&c->w);
        dlist_write_end(&c->w);
        return client_finish(c, NULL, err);
}

static enum client_result repair_all(struct full *f, bool *changed_r, struct err *err)
{
        enum client_result r;
        size_t at = 0;
        uint32_t n;

        do {
                r = fetch_some(f, at, &n, err);
                if (r == CLIENT_OK)
                        r = repair(f, at, n, changed_r, err);
                drop_stages(f, at, n);
                at += n;
        } while (r == CLIENT_OK && at < f->fixes.n);
        return r == CLIENT_OK ? expunge_there(f, err) : r;
}

static enum client_result full_update_once(struct client *c, const char *name, bool *changed_r, struct err *err)
{
        struct full *f = xcalloc(1, sizeof *f);
        enum client_result r;

        f->c = c;
        f->name = name;
        uidset_init(&f->expunge);
        f->unknown = table_create();
        r = get_full(f, err);
        replica_reader_close(&f->reader);
        if (r == CLIENT_OK) {
                decide_all(f);
                client_say(c, "FULLMAILBOX %s: %zu differences", name, f->diffs.n);
                r = repair_all(f, changed_r, err);
        }
        ARRAY_FREE(&f->diffs);
        ARRAY_FREE(&f->fixes);
        uidset_deinit(&f->expunge);
        table_destroy(&f->unknown);
        arena_deinit(&f->arena);
        arena_deinit(&f->slice);
        arena_deinit(&f->element);
        free(f);
        return r;
}

enum client_result client_full_update(struct client *c, const char *name, struct err *err)
{
        enum client_result r;
        bool changed;
        int tries = 0;

        do {
                changed = false;
                err_clear(err);
                r = full_update_once(c, name, &changed, err);
        } while (r == CLIENT_FAILED && changed && ++tries < CHANGED_MAX);
        return r;
}
