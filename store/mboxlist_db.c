/*
 * mboxlist_db - entries on the disk, and the transaction of a change.
 *
 * mailboxes.db has one record a name: key 'N' and the internal name; value text in lines, first the version, last a checksum of all
 * that stands before it:
 *
 *   v1
 *   type=0            enum mbtype
 *   id=…              unique id
 *   partition=default
 *   acl=…             with its TABs
 *   uidvalidity=…
 *   created=…         modseq
 *   modseq=…          of the newest change of this entry
 *   changed=…         Unix seconds
 *   server=… specialuse=… quotaroot=…    only when there are any
 *   crc=xxxxxxxx      CRC-32C, hexadecimal
 *
 * Lines that are not known are skipped: a later version may add some without becoming v2. No value contains a line end. A tombstone
 * (type 2) has id, uidvalidity and modseqs of the name's last mailbox. The key "!format" makes a table ours: a table without it was
 * made anew in place of one that is gone, and is filled from the last dump.
 *
 * A crash before the commit leaves the list as it was, after it as it is to be; what is in memory is changed only after it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/change.h"
#include "store/mboxlist_private.h"
#include "store/quota_private.h"
#include "store/store_private.h"
#include "util/clock.h"
#include "util/hash.h"
#include "util/log.h"
#include "util/must.h"

#define RECORD_MAX (1u << 20)

/* ---- entries ---- */

struct counted {
        atomic_uint refs;
        struct mbentry e;
        char strings[];
};

static struct counted *counted_of(const struct mbentry *e)
{
        return (struct counted *)((char *)(uintptr_t)e - offsetof(struct counted, e));
}

const struct mbentry *mbentry_ref(const struct mbentry *e)
{
        atomic_fetch_add_explicit(&counted_of(e)->refs, 1, memory_order_relaxed);
        return e;
}

void mbentry_unref(const struct mbentry **ep)
{
        struct counted *c;

        if (!*ep)
                return;
        c = counted_of(*ep);
        *ep = NULL;
        if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
                free(c);
}

static char *put_string(char **at, const char *s)
{
        char *here = *at;
        size_t n = strlen(s) + 1;

        memcpy(here, s, n);
        *at += n;
        return here;
}

const struct mbentry *mbentry_create(const struct mbentry *like)
{
        const char *name = like->name ? like->name : "", *id = like->uniqueid ? like->uniqueid : "";
        const char *partition = like->partition ? like->partition : "", *acl = like->acl ? like->acl : "";
        const char *use = like->specialuse ? like->specialuse : "";
        size_t bytes = strlen(name) + strlen(id) + strlen(partition) + strlen(acl) + strlen(use) + 5 +
                       (like->server ? strlen(like->server) + 1 : 0) + (like->quotaroot ? strlen(like->quotaroot) + 1 : 0);
        struct counted *c = xmalloc(sizeof *c + bytes);
        char *at = c->strings;

        atomic_init(&c->refs, 1);
        c->e = *like;
        c->e.name = put_string(&at, name);
        c->e.uniqueid = put_string(&at, id);
        c->e.partition = put_string(&at, partition);
        c->e.acl = put_string(&at, acl);
        c->e.specialuse = put_string(&at, use);
        c->e.server = like->server ? put_string(&at, like->server) : NULL;
        c->e.quotaroot = like->quotaroot ? put_string(&at, like->quotaroot) : NULL;
        return &c->e;
}

/* ---- the record ---- */

static void text_line(struct str *out, const char *key, const char *value)
{
        must(!strchr(value, '\n'));
        str_append_str(out, key);
        str_append_str(out, value);
        str_append_c(out, '\n');
}

void mbentry_format(const struct mbentry *e, struct str *out)
{
        size_t start = out->len;

        str_printf(out, "v1\ntype=%d\n", (int)e->type);
        text_line(out, "id=", e->uniqueid);
        text_line(out, "partition=", e->partition);
        text_line(out, "acl=", e->acl);
        str_printf(out, "uidvalidity=%" PRIu32 "\ncreated=%" PRIu64 "\nmodseq=%" PRIu64 "\nchanged=%" PRId64 "\n", e->uidvalidity,
                   e->createdmodseq, e->foldermodseq, e->changed);
        if (e->server)
                text_line(out, "server=", e->server);
        if (*e->specialuse)
                text_line(out, "specialuse=", e->specialuse);
        if (e->quotaroot)
                text_line(out, "quotaroot=", e->quotaroot);
        str_printf(out, "crc=%08" PRIx32 "\n", crc32c(0, out->data + start, out->len - start));
}

static bool number(struct span value, uint64_t max, uint64_t *n_r)
{
        return span_u64(value, max, n_r);
}

/* A clock may be before 1970. */
static bool moment(struct span value, int64_t *s_r)
{
        bool negative = value.len && value.p[0] == '-';
        uint64_t n;

        if (!span_u64((struct span){ value.p + negative, value.len - negative }, INT64_MAX, &n))
                return false;
        *s_r = negative ? -(int64_t)n : (int64_t)n;
        return true;
}

/* One "key=value" line; the value is a NUL-terminated piece of our own copy. */
static bool read_field(struct mbentry *e, const char *key, char *value)
{
        uint64_t n = 0;

        if (strcmp(key, "id") == 0)
                e->uniqueid = value;
        else if (strcmp(key, "partition") == 0)
                e->partition = value;
        else if (strcmp(key, "acl") == 0)
                e->acl = value;
        else if (strcmp(key, "server") == 0)
                e->server = value;
        else if (strcmp(key, "specialuse") == 0)
                e->specialuse = value;
        else if (strcmp(key, "quotaroot") == 0)
                e->quotaroot = value;
        else if (strcmp(key, "created") == 0)
                return number(span_of(value), UINT64_MAX, &e->createdmodseq);
        else if (strcmp(key, "modseq") == 0)
                return number(span_of(value), UINT64_MAX, &e->foldermodseq);
        else if (strcmp(key, "type") == 0) {
                if (!number(span_of(value), MBTYPE_MOVING, &n))
                        return false;
                e->type = (enum mbtype)n;
        } else if (strcmp(key, "uidvalidity") == 0) {
                if (!number(span_of(value), UINT32_MAX, &n))
                        return false;
                e->uidvalidity = (uint32_t)n;
        } else if (strcmp(key, "changed") == 0) {
                return moment(span_of(value), &e->changed);
        }
        return true;                            /* what a later version added */
}

static bool checksum_holds(struct span record)
{
        char line[16];
        struct span body = record;

        if (record.len < 13 || record.p[record.len - 1] != '\n')
                return false;
        body.len -= 13;                         /* "crc=" 8 digits "\n" */
        snprintf(line, sizeof line, "crc=%08" PRIx32 "\n", crc32c(0, body.p, body.len));
        return memcmp(record.p + body.len, line, 13) == 0;
}

int mbentry_parse(struct span name, struct span record, const struct mbentry **entry_r, struct err *err)
{
        struct mbentry e = { 0 };
        char *copy, *own_name, *line, *end;
        bool ok = true;

        if (record.len > RECORD_MAX || !checksum_holds(record) || memchr(record.p, '\0', record.len))
                return err_set(err, ERR_CORRUPT, "record of %.*s: checksum differs", (int)name.len, name.p);
        if (memcmp(record.p, "v1\n", 3) != 0)
                return err_set(err, ERR_UNSUPPORTED, "record of %.*s: a version that this program does not know", (int)name.len,
                               name.p);
        copy = xstrndup(record.p, record.len);
        own_name = xstrndup(name.p, name.len);
        e.name = own_name;
        for (line = copy + 3; ok && (end = strchr(line, '\n')) != NULL; line = end + 1) {
                char *equals;

                *end = '\0';
                equals = strchr(line, '=');
                ok = equals != NULL;
                if (ok) {
                        *equals = '\0';
                        ok = read_field(&e, line, equals + 1);
                }
        }
        if (ok)
                *entry_r = mbentry_create(&e);
        free(copy);
        free(own_name);
        return ok ? 0 : err_set(err, ERR_CORRUPT, "record of %.*s: out of grammar", (int)name.len, name.p);
}

void mboxlist_new_uniqueid(char id[25])
{
        static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
        unsigned char random[64];
        unsigned n = 0;

        while (n < 24) {
                random_bytes(random, sizeof random);
                for (unsigned i = 0; i < sizeof random && n < 24; i++)
                        if (random[i] < 252)            /* 7 * 36: every letter is equally likely */
                                id[n++] = letters[random[i] % 36];
        }
        id[24] = '\0';
}

/* ---- loading ---- */

static struct span name_key(const char *name, struct str *buf)
{
        str_clear(buf);
        str_append_c(buf, 'N');
        str_append_str(buf, name);
        return str_span(buf);
}

/* Values far in the future were given from outside (replication): they bind the name they were given to, not all others. */
void mboxlist_note_uidvalidity(struct mboxlist *ml, uint32_t v)
{
        uint_fast32_t last = atomic_load(&ml->last_uidvalidity);

        if ((int64_t)v > clock_wall_s() + 10 * 365 * 86400ll)
                return;
        while (v > last && !atomic_compare_exchange_weak(&ml->last_uidvalidity, &last, v))
                ;
}

static void load_entry(struct mboxlist *ml, const struct mbentry *e, uint64_t *damaged_r)
{
        struct mem_change change = { e->name, e };
        const struct mbentry *twin;

        mboxlist_note_uidvalidity(ml, e->uidvalidity);
        if (e->foldermodseq > atomic_load(&ml->modseq))
                atomic_store(&ml->modseq, e->foldermodseq);
        if (e->type == MBTYPE_DELETED)
                return;
        twin = *e->uniqueid ? mem_find_id(&ml->mem, e->uniqueid) : NULL;
        if (twin) {
                log_event(LOG_ERROR, NULL, "mboxlist.duplicate", "uniqueid=%s mailbox=%s other=%s", e->uniqueid, e->name, twin->name);
                ++*damaged_r;
                mbentry_unref(&twin);
        }
        mem_apply(&ml->mem, &change, 1);
}

/* ---- tombstones that nobody needs any more ---- */

#define TOMBSTONE_DAYS 60                       /* of names below deletedprefix: a replica has heard of their end by then */
#define PRUNED_TOGETHER 10000                   /* in one transaction */
struct old_tombstones {
        struct mboxlist *ml;
        ARRAY(char *) names;
        size_t from;                            /* those before are done */
};

static void note_old(struct old_tombstones *old, const struct mbentry *e, const char *prefix)
{
        if (e->type == MBTYPE_DELETED && e->changed < clock_wall_s() - TOMBSTONE_DAYS * 86400ll && mailname_is_deleted(e->name, prefix))
                *ARRAY_PUSH(&old->names) = xstrdup(e->name);
}

static int delete_old(struct db_txn *txn, void *ctx, struct err *err)
{
        struct old_tombstones *old = ctx;
        struct str key = STR_INIT;
        int rc = 0;

        for (size_t i = old->from; i < old->names.n && i < old->from + PRUNED_TOGETHER && rc >= 0; i++)
                rc = db_del(old->ml->db, txn, name_key(old->names.v[i], &key), err);
        str_deinit(&key);
        return rc < 0 ? -1 : 0;
}

/* Its failing leaves them for the next start. */
static void prune_old(struct old_tombstones *old)
{
        struct err err = ERR_INIT;

        for (; old->from < old->names.n && !old->ml->store->readonly && !err.code; old->from += PRUNED_TOGETHER)
                (void)db_run(old->ml->store->env, false, delete_old, old, &err);
        if (err.code)
                log_event(LOG_WARN, NULL, "mboxlist.tombstones", "reason=\"%s\"", err.text);
        for (size_t i = 0; i < old->names.n; i++)
                free(old->names.v[i]);
        ARRAY_FREE(&old->names);
}

static int load(struct mboxlist *ml, uint64_t *damaged_r, struct err *err)
{
        const char *prefix = conf_str(store_conf(ml->store), NULL, "deletedprefix");
        struct old_tombstones old = { .ml = ml };
        struct db_cursor *cursor;
        struct span key, value;
        int rc;

        if (db_cursor_open(ml->db, NULL, SPAN("N"), &cursor, err) < 0)
                return -1;
        while ((rc = db_cursor_next(cursor, &key, &value, err)) > 0) {
                struct span name = { key.p + 1, key.len - 1 };
                const struct mbentry *e;
                struct err bad = ERR_INIT;

                if (mbentry_parse(name, value, &e, &bad) < 0) {
                        if (bad.code == ERR_UNSUPPORTED) {
                                err_copy(err, &bad);
                                rc = -1;
                                break;
                        }
                        log_event(LOG_ERROR, NULL, "mboxlist.damaged", "reason=\"%s\"", bad.text);
                        ++*damaged_r;
                        continue;
                }
                load_entry(ml, e, damaged_r);
                note_old(&old, e, prefix);
                mbentry_unref(&e);
        }
        db_cursor_close(&cursor);
        prune_old(&old);
        return rc;
}

int mboxlist_open(struct store *store, struct db *db, struct mboxlist **ml_r, uint64_t *damaged_r, struct err *err)
{
        struct mboxlist *ml = xcalloc(1, sizeof *ml);

        ml->store = store;
        ml->db = db;
        mem_init(&ml->mem);
        for (size_t i = 0; i < ARRAY_LEN(ml->stripes); i++)
                mutex_init(&ml->stripes[i]);
        mutex_init(&ml->moving);
        ml->move_together = 1000;
        *damaged_r = 0;
        if (db && load(ml, damaged_r, err) < 0) {
                mboxlist_close(&ml);
                return -1;
        }
        *ml_r = ml;
        return 0;
}

void mboxlist_close(struct mboxlist **mlp)
{
        struct mboxlist *ml = *mlp;

        *mlp = NULL;
        if (!ml)
                return;
        mem_deinit(&ml->mem);
        for (size_t i = 0; i < ARRAY_LEN(ml->stripes); i++)
                mutex_deinit(&ml->stripes[i]);
        mutex_deinit(&ml->moving);
        free(ml);
}

/* ---- changing ---- */

int mboxlist_remembered(struct mboxlist *ml, const char *name, uint32_t *uidvalidity_r, struct err *err)
{
        struct str key = STR_INIT, value = STR_INIT;
        const struct mbentry *e;
        int rc = db_get(ml->db, NULL, name_key(name, &key), &value, err);

        *uidvalidity_r = 0;
        /* A damaged record remembers nothing; uidvalidities are different in the whole store anyway. */
        if (rc > 0 && mbentry_parse(span_of(name), str_span(&value), &e, NULL) == 0) {
                *uidvalidity_r = e->uidvalidity;
                mbentry_unref(&e);
        }
        str_deinit(&key);
        str_deinit(&value);
        return rc < 0 ? -1 : 0;
}

int mboxlist_tombstone(struct mboxlist *ml, const char *name, const struct mbentry **e_r, struct err *err)
{
        struct str key = STR_INIT, value = STR_INIT;
        int rc = ml->db ? db_get(ml->db, NULL, name_key(name, &key), &value, err) : 0;

        *e_r = NULL;
        if (rc > 0 && mbentry_parse(span_of(name), str_span(&value), e_r, err) < 0)
                rc = -1;
        else if (rc > 0 && (*e_r)->type != MBTYPE_DELETED)
                mbentry_unref(e_r);
        str_deinit(&key);
        str_deinit(&value);
        return rc < 0 ? -1 : *e_r != NULL;
}

int mboxlist_each_tombstone(struct mboxlist *ml, bool (*fn)(void *ctx, const struct mbentry *e), void *ctx, struct err *err)
{
        struct db_cursor *cursor;
        struct span key, value;
        bool more = true;
        int rc;

        if (!ml->db)
                return 0;
        if (db_cursor_open(ml->db, NULL, SPAN("N"), &cursor, err) < 0)
                return -1;
        while (more && (rc = db_cursor_next(cursor, &key, &value, err)) > 0) {
                const struct mbentry *e;

                if (mbentry_parse((struct span){ key.p + 1, key.len - 1 }, value, &e, NULL) < 0)
                        continue;
                more = e->type != MBTYPE_DELETED || fn(ctx, e);
                mbentry_unref(&e);
        }
        db_cursor_close(&cursor);
        return more && rc < 0 ? -1 : 0;
}

struct names_commit {
        struct mboxlist *ml;
        struct name_changes *changes;
        struct quota_names quota;
};

static int write_changes(struct db_txn *txn, void *ctx, struct err *err)
{
        struct names_commit *c = ctx;
        struct str key = STR_INIT, value = STR_INIT;
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < c->changes->list.n; i++) {
                const struct name_change *change = &c->changes->list.v[i];
                const struct mbentry *e = change->entry ? change->entry : change->tombstone;

                name_key(change->name, &key);
                str_clear(&value);
                if (e)
                        mbentry_format(e, &value);
                ret = e ? db_put(c->ml->db, txn, str_span(&key), str_span(&value), err)
                        : db_del(c->ml->db, txn, str_span(&key), err);
        }
        if (ret == 0)
                ret = removals_write(c->ml->store, txn, c->changes, err);
        if (ret == 0 && c->changes->also)
                ret = c->changes->also(txn, c->changes->also_ctx, err);
        if (ret == 0)
                ret = quota_names_write(c->ml, txn, &c->quota, err);
        str_deinit(&key);
        str_deinit(&value);
        return ret;
}

static int string_order(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Is this name, n octets of it, or a name above it, one of those that were renamed in this transaction? */
static bool was_renamed(const char *const *formers, size_t formers_n, const char *name, size_t n, struct arena *arena)
{
        const char *key = arena_strndup(arena, name, n);

        return bsearch(&key, formers, formers_n, sizeof *formers, string_order) != NULL;
}

static bool parent_was_renamed(const char *const *formers, size_t formers_n, const char *name, struct arena *arena)
{
        const char *parent = mailname_parent(name, arena);

        return parent && was_renamed(formers, formers_n, parent, strlen(parent), arena);
}

static void publish(struct mboxlist *ml, const struct name_change *c, const struct mbentry *before, const char *const *formers,
                    size_t formers_n)
{
        struct arena arena = ARENA_INIT;
        bool moved = !c->entry && was_renamed(formers, formers_n, c->name, strlen(c->name), &arena);
        struct change change = {
                .kind = CHANGE_NAME,
                .name = c->name,
                .other = c->former,
                .uniqueid = c->entry ? c->entry->uniqueid : c->tombstone ? c->tombstone->uniqueid : "",
                .modseq = c->entry ? c->entry->foldermodseq : c->tombstone ? c->tombstone->foldermodseq : 0,
                .before = before, .after = c->entry, .moved = moved,
                .follows = (c->former || moved) && parent_was_renamed(formers, formers_n, c->former ? c->former : c->name, &arena),
        };

        change_publish(ml->store, &change);
        arena_deinit(&arena);
}

/* Names in the table's order: two transactions that change many of the same pages then lock them in the same order. */
static int change_by_name(const void *a, const void *b)
{
        return strcmp(((const struct name_change *)a)->name, ((const struct name_change *)b)->name);
}

int mboxlist_commit(struct mboxlist *ml, struct name_changes *changes, struct err *err)
{
        struct names_commit commit = { .ml = ml, .changes = changes, .quota = { .from = changes->roots_from, .to = changes->roots_to } };
        struct mem_change *show;
        const struct mbentry **before;
        const char **formers;
        size_t n = changes->list.n, formers_n = 0;

        if (n == 0)                                     /* of what was to be moved all is deleted by now */
                return 0;
        qsort(changes->list.v, n, sizeof *changes->list.v, change_by_name);
        if (quota_names_prepare(ml, changes, &commit.quota, err) < 0)
                return -1;
        if (db_run(ml->store->env, true, write_changes, &commit, err) < 0) {
                quota_names_finish(ml, &commit.quota, false);
                return -1;
        }
        show = xcalloc(n + 1, sizeof *show);
        before = xcalloc(n + 1, sizeof *before);
        formers = xcalloc(n + 1, sizeof *formers);
        for (size_t i = 0; i < n; i++) {
                before[i] = mboxlist_find(ml, changes->list.v[i].name);
                if (changes->list.v[i].former)
                        formers[formers_n++] = changes->list.v[i].former;
        }
        qsort(formers, formers_n, sizeof *formers, string_order);
        for (size_t i = 0; i < n; i++)
                show[i] = (struct mem_change){ changes->list.v[i].name, changes->list.v[i].entry };
        mem_apply(&ml->mem, show, n);
        free(show);
        quota_names_finish(ml, &commit.quota, true);
        for (size_t i = 0; i < n; i++) {
                publish(ml, &changes->list.v[i], before[i], formers, formers_n);
                if (before[i])
                        mbentry_unref(&before[i]);
        }
        free(before);
        free(formers);
        return 0;
}

/* ---- reading ---- */

const struct mbentry *mboxlist_find(struct mboxlist *ml, const char *name)
{
        return mem_find(&ml->mem, name);
}

const struct mbentry *mboxlist_find_uniqueid(struct mboxlist *ml, const char *uniqueid)
{
        return mem_find_id(&ml->mem, uniqueid);
}

bool mboxlist_has_children(struct mboxlist *ml, const char *name)
{
        return mem_has_children(&ml->mem, name);
}

uint64_t mboxlist_count(struct mboxlist *ml)
{
        return atomic_load(&ml->mem.count);
}

unsigned mboxlist_next(struct mboxlist *ml, const char *prefix, const char *after, const struct mbentry **entries_r, unsigned n)
{
        return mem_next(&ml->mem, prefix, after, entries_r, n);
}

int mbentry_ident(struct store *store, const struct mbentry *e, struct mailbox_ident *ident_r, struct err *err)
{
        const char *dir;

        if (e->type != MBTYPE_NORMAL)
                return err_set(err, ERR_NOTFOUND, "%s is no mailbox here", e->name);
        dir = store_partition_dir(store, e->partition);
        if (!dir)
                return err_set(err, ERR_NOTFOUND, "%s: there is no partition %s", e->name, e->partition);
        *ident_r = (struct mailbox_ident){ e->uniqueid, dir, e->name, e->uidvalidity };
        return 0;
}
