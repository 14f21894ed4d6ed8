/* server_apply - APPLY (csync 4, 9): what the replica takes over. Each is one call of the store, which does it wholly or not at all. */
#include <inttypes.h>
#include <stdlib.h>

#include "replication/server_private.h"
#include "store/uidset.h"
#include "util/must.h"

static bool is_local(const struct sync_peer *peer)
{
        return peer->cmd->flags & SYNC_LOCAL;
}

/* The text of the argument, or of a key of it, which is a mailbox's internal name. False: answered. */
static bool name_of(struct sync_peer *peer, const char *key, const char **name_r)
{
        bool there = key ? dlist_text(peer->item, key, name_r) : dlist_as_text(peer->item, name_r);

        if (there && sync_name_ok(*name_r))
                return true;
        sync_bad_parameters(peer, NULL, 0, "a mailbox name is out of rule");
        return false;
}

static bool userid_of(struct sync_peer *peer, const char *key, const char **userid_r)
{
        bool there = key ? dlist_text(peer->item, key, userid_r) : dlist_as_text(peer->item, userid_r);

        if (there && sync_userid_ok(*userid_r))
                return true;
        sync_bad_parameters(peer, NULL, 0, "a user id is out of rule");
        return false;
}

/* ---- the connection's state ---- */

/* None of them is ours: SIEVE-MAILBOX is not offered, scripts are files here. */
void sync_apply_capabilities(struct sync_peer *peer)
{
        struct dlist_writer w;

        sync_line(peer, &w);
        dlist_write_list(&w, "ENABLED");
        dlist_write_end(&w);
        sync_line_end(peer);
        sync_ok(peer);
}

void sync_apply_force(struct sync_peer *peer)
{
        peer->force = true;
        sync_ok(peer);
}

/* ---- messages before their mailbox ---- */

void sync_apply_message(struct sync_peer *peer)
{
        for (const struct dlist *d = peer->item->first; d; d = d->next)
                if (d->kind != DLIST_FILE) {
                        sync_bad_parameters(peer, NULL, 0, "an item is no file");
                        return;
                }
        sync_ok(peer);
}

struct reservation {
        struct sync_peer *peer;
        const char *partition, *dir;
        uint8_t (*guids)[GUID_SIZE];
        bool *there;
        struct err err;                         /* the staging area failed */
};

/* Into the staging area, by way of a stage, which has looked at its SHA-1. */
static int stage_again(struct reservation *r, struct mailbox *mbox, uint32_t uid, const uint8_t guid[GUID_SIZE], struct err *err)
{
        struct sync_staging *staging = r->peer->staging;
        struct stage *stage;
        char *buf;
        uint64_t size;
        int ret;

        if (replica_stage_message(mbox, uid, guid, r->dir, &stage, err) < 0)
                return -1;
        size = stage_size(stage);
        ret = sync_staging_begin(staging, span_of(r->partition), guid, size, err);
        buf = xmalloc(65536);
        for (uint64_t at = 0; at < size && ret == 0;) {
                size_t n = size - at < 65536 ? (size_t)(size - at) : 65536;

                ret = stage_read(stage, at, buf, n, err);
                if (ret == 0)
                        ret = sync_staging_write(staging, buf, n, err);
                at += n;
        }
        free(buf);
        if (ret == 0)
                ret = sync_staging_end(staging, err);
        else
                sync_staging_abandon(staging);
        stage_unref(&stage);
        return ret;
}

static bool found(void *ctx, size_t which, struct mailbox *mbox, uint32_t uid)
{
        struct reservation *r = ctx;
        struct err err = ERR_INIT;

        if (r->there[which])
                return true;
        r->there[which] = stage_again(r, mbox, uid, r->guids[which], &err) == 0;
        return r->there[which];
}

/* What is in `list` into the reservation; those that are staged already are there. */
static bool read_guids(struct reservation *r, const struct dlist *list)
{
        size_t n = 0;

        r->guids = arena_alloc(&r->peer->arena, (size_t)(list->n + 1) * GUID_SIZE);
        r->there = ARENA_ARRAY(&r->peer->arena, bool, list->n + 1);
        for (const struct dlist *d = list->first; d; d = d->next, n++) {
                if (!dlist_as_guid(d, r->guids[n]))
                        return false;
                r->there[n] = sync_staging_has(r->peer->staging, r->partition, r->guids[n]);
        }
        return true;
}

static void put_missing(struct sync_peer *peer, const struct reservation *r, size_t n)
{
        struct dlist_writer w;
        bool any = false;

        for (size_t i = 0; i < n; i++) {
                if (r->there[i])
                        continue;
                if (!any) {
                        sync_line(peer, &w);
                        dlist_write_list(&w, "MISSING");
                }
                any = true;
                dlist_write_guid(&w, NULL, r->guids[i]);
        }
        if (any) {
                dlist_write_end(&w);
                sync_line_end(peer);
        }
}

/* A name that is none, or is not there, has no messages; it is no error (csync 16, 12). */
void sync_apply_reserve(struct sync_peer *peer)
{
        struct reservation r = { .peer = peer };
        const struct dlist *names, *guids;
        const char **list;
        size_t n = 0;
        struct err err = ERR_INIT;

        if (!dlist_text(peer->item, "PARTITION", &r.partition) || !dlist_list(peer->item, "MBOXNAME", &names) ||
            !dlist_list(peer->item, "GUID", &guids) || guids->n > SYNC_GUIDS_MAX) {
                sync_bad_parameters(peer, NULL, 0, "PARTITION, MBOXNAME or GUID");
                return;
        }
        r.dir = store_partition_dir(peer->store, r.partition);
        if (!r.dir || !read_guids(&r, guids)) {
                sync_bad_parameters(peer, NULL, 0, r.dir ? "a GUID is out of grammar" : "there is no such partition");
                return;
        }
        list = ARENA_ARRAY(&peer->arena, const char *, names->n + 1);
        for (const struct dlist *d = names->first; d; d = d->next)
                if (dlist_as_text(d, &list[n]) && sync_name_ok(list[n]))
                        n++;
        if (replica_find_guids(peer->store, list, n, (const uint8_t (*)[GUID_SIZE])r.guids, guids->n, found, &r, &err) < 0) {
                sync_fail(peer, NULL, &err);
                return;
        }
        put_missing(peer, &r, guids->n);
        sync_ok(peer);
}

/* ---- mailboxes ---- */

static bool type_is_kept(const struct dlist *item)
{
        const char *type = "";

        (void)dlist_text(item, "MBOXTYPE", &type);
        return strspn(type, "eidf") == strlen(type);
}

static bool read_since(const struct dlist *item, struct replica_apply *apply)
{
        uint32_t basic = 0, annot = 0;

        if (!dlist_find(item, "SINCE_MODSEQ"))
                return true;
        if (!dlist_u64(item, "SINCE_MODSEQ", REPLICA_MODSEQ_MAX, &apply->since_modseq) ||
            (dlist_find(item, "SINCE_CRC") && !dlist_u32(item, "SINCE_CRC", &basic)) ||
            (dlist_find(item, "SINCE_CRC_ANNOT") && !dlist_u32(item, "SINCE_CRC_ANNOT", &annot)))
                return false;
        apply->since_crcs = (struct replica_crcs){ basic, annot };
        return true;
}

/* Records come ascending, each UID once, none above LAST_UID (csync 6). */
static bool records_are_in_order(struct sync_peer *peer, const struct replica_values *values)
{
        uint32_t before = 0;

        for (size_t i = 0; i < peer->records.list.n; i++) {
                const struct replica_record *rec = &peer->records.list.v[i];

                if (rec->uid <= before || rec->uid > values->last_uid || rec->modseq > values->highestmodseq) {
                        sync_bad_parameters(peer, values->name, rec->uid, rec->uid <= before ? "UIDs are not ascending" :
                                            rec->uid > values->last_uid ? "a UID above LAST_UID" : "a MODSEQ above HIGHESTMODSEQ");
                        return false;
                }
                before = rec->uid;
        }
        return true;
}

struct source { struct sync_staging *staging; const char *partition; };

static bool source_has(void *ctx, const uint8_t guid[GUID_SIZE])
{
        const struct source *s = ctx;

        return sync_staging_has(s->staging, s->partition, guid);
}

static int source_message(void *ctx, const uint8_t guid[GUID_SIZE], struct stage **stage_r, struct err *err)
{
        const struct source *s = ctx;

        return sync_staging_stage(s->staging, s->partition, guid, stage_r, err);
}

/* The partition whose staging area is looked in: the replica's own of that mailbox, if it is there already (csync 16, 11). */
static const char *staging_partition(struct sync_peer *peer, const struct replica_values *values)
{
        struct replica_values mine;

        if (replica_entry(peer->store, values->name, &peer->arena, &mine) && mine.type == MBTYPE_NORMAL && mine.partition)
                return mine.partition;
        return values->partition;
}

/* UID 7 of "record of UID 7: …", as the store says it; 0: it is about no single one. */
static uint32_t uid_in(const char *text)
{
        const char *at = strstr(text, "UID ");

        return at ? (uint32_t)strtoul(at + 4, NULL, 10) : 0;
}

void sync_apply_records(struct sync_peer *peer, struct replica_apply *apply, const char *partition)
{
        struct source source = { peer->staging, partition };
        enum replica_code code;
        struct err err = ERR_INIT;

        apply->records = peer->records.list.v;
        apply->records_n = (uint32_t)peer->records.list.n;
        apply->has = source_has;
        apply->message = source_message;
        apply->ctx = &source;
        code = replica_apply(peer->store, apply, &err);
        sync_answer(peer, code, apply->values.name, uid_in(err.text), &err);
}

void sync_apply_mailbox(struct sync_peer *peer)
{
        struct replica_apply apply = { .force = peer->force, .local = is_local(peer) };
        const char *why = "SINCE_MODSEQ", *name = NULL;
        const struct dlist *records;

        (void)dlist_text(peer->item, "MBOXNAME", &name);
        if (!type_is_kept(peer->item)) {
                struct err err = ERR_INIT;

                err_set(&err, ERR_UNSUPPORTED, "a mailbox of this type");
                sync_answer(peer, REPLICA_NOTSUPPORTED, name, 0, &err);
                return;
        }
        if (!sync_read_values(peer->item, &peer->arena, &apply.values, &why) || !read_since(peer->item, &apply) ||
            (apply.values.type == MBTYPE_NORMAL && !dlist_list(peer->item, why = "RECORD", &records))) {
                sync_bad_parameters(peer, name, 0, why);
                return;
        }
        if (records_are_in_order(peer, &apply.values))
                sync_apply_records(peer, &apply, staging_partition(peer, &apply.values));
}

void sync_apply_unmailbox(struct sync_peer *peer)
{
        const char *name;
        struct err err = ERR_INIT;

        if (name_of(peer, NULL, &name))
                sync_answer(peer, replica_delete(peer->store, name, is_local(peer), &err), name, 0, &err);
}

void sync_apply_rename(struct sync_peer *peer)
{
        const char *from, *to, *partition;
        uint32_t uidvalidity = 0;
        struct err err = ERR_INIT;

        if (!name_of(peer, "OLDMBOXNAME", &from) || !name_of(peer, "NEWMBOXNAME", &to))
                return;
        if (!dlist_text(peer->item, "PARTITION", &partition) ||
            (dlist_find(peer->item, "UIDVALIDITY") && !dlist_u32(peer->item, "UIDVALIDITY", &uidvalidity)))
                sync_bad_parameters(peer, from, 0, "PARTITION or UIDVALIDITY");
        else
                sync_answer(peer, replica_rename(peer->store, from, to, partition, uidvalidity, is_local(peer), &err), from, 0, &err);
}

static int compare_uids(const void *a, const void *b)
{
        return *(const uint32_t *)a < *(const uint32_t *)b ? -1 : *(const uint32_t *)a > *(const uint32_t *)b;
}

/* Sorted first: a set that is filled from behind takes quadratic time. False: one is no UID. */
static bool read_uids(struct sync_peer *peer, const struct dlist *list, struct uidset *uids)
{
        uint32_t *sorted = ARENA_ARRAY(&peer->arena, uint32_t, list->n + 1);
        size_t n = 0;
        uint64_t uid;

        for (const struct dlist *d = list->first; d; d = d->next) {
                if (!dlist_as_u64(d, UINT32_MAX, &uid) || uid == 0)
                        return false;
                sorted[n++] = (uint32_t)uid;
        }
        qsort(sorted, n, sizeof *sorted, compare_uids);
        for (size_t i = 0; i < n; i++)
                uidset_add(uids, sorted[i]);
        return true;
}

void sync_apply_expunge(struct sync_peer *peer)
{
        const char *name, *uniqueid;
        const struct dlist *list;
        struct uidset uids;
        struct err err = ERR_INIT;

        if (!name_of(peer, "MBOXNAME", &name))
                return;
        uidset_init(&uids);
        if (!dlist_text(peer->item, "UNIQUEID", &uniqueid) || !dlist_list(peer->item, "UID", &list) || !read_uids(peer, list, &uids))
                sync_bad_parameters(peer, name, 0, "UNIQUEID or UID");
        else
                sync_answer(peer, replica_expunge(peer->store, name, uniqueid, &uids, &err), name, 0, &err);
        uidset_deinit(&uids);
}

void sync_apply_unuser(struct sync_peer *peer)
{
        const char *userid;
        struct err err = ERR_INIT;

        if (userid_of(peer, NULL, &userid))
                sync_answer(peer, replica_delete_user(peer->store, userid, is_local(peer), &err), userid, 0, &err);
}

/* ---- what is not a mailbox's ---- */

/* Resources that are not named become unlimited; STORAGE says more than LIMIT, which is the same for old masters. */
void sync_apply_quota(struct sync_peer *peer)
{
        int64_t limit[QUOTA_RESOURCES];
        uint64_t modseq, value;
        const char *root;
        struct err err = ERR_INIT;

        if (!name_of(peer, "ROOT", &root))
                return;
        for (int r = 0; r < QUOTA_RESOURCES; r++)
                limit[r] = QUOTA_UNLIMITED;
        if (!dlist_u64(peer->item, "LIMIT", UINT64_MAX, &value) || !dlist_u64(peer->item, "MODSEQ", REPLICA_MODSEQ_MAX, &modseq)) {
                sync_bad_parameters(peer, root, 0, "LIMIT or MODSEQ");
                return;
        }
        if (value < UINT32_MAX)
                limit[QUOTA_STORAGE] = (int64_t)value;
        for (const struct dlist *d = peer->item->first; d; d = d->next) {
                int r = quota_resource_find(d->key);

                if (r < 0)
                        continue;
                if (!dlist_as_u64(d, QUOTA_LIMIT_MAX, &value)) {
                        sync_bad_parameters(peer, root, 0, "a limit is no number");
                        return;
                }
                limit[r] = (int64_t)value;
        }
        sync_answer(peer, replica_set_quota(peer->store, root, limit, modseq, &err), root, 0, &err);
}

void sync_apply_unquota(struct sync_peer *peer)
{
        const char *root;
        struct err err = ERR_INIT;

        if (name_of(peer, NULL, &root))
                sync_answer(peer, replica_remove_quota(peer->store, root, &err), root, 0, &err);
}

void sync_apply_seen(struct sync_peer *peer)
{
        const char *userid, *uniqueid;
        struct seen_state state = { 0 };
        struct span uids;
        struct err err = ERR_INIT;

        if (!userid_of(peer, "USERID", &userid))
                return;
        uidset_init(&state.uids);
        if (!dlist_text(peer->item, "UNIQUEID", &uniqueid) || !replica_uniqueid_ok(span_of(uniqueid)) ||
            !dlist_date(peer->item, "LASTREAD", &state.lastread) || !dlist_u32(peer->item, "LASTUID", &state.lastuid) ||
            !dlist_date(peer->item, "LASTCHANGE", &state.lastchange) || !dlist_str(peer->item, "SEENUIDS", &uids) ||
            (uids.len > 0 && uidset_parse(uids, UINT32_MAX, &state.uids, &err) < 0))
                sync_bad_parameters(peer, userid, 0, err.code ? err.text : "a value is out of grammar");
        else
                sync_answer(peer, replica_set_seen(peer->store, userid, uniqueid, &state, &err), userid, 0, &err);
        uidset_deinit(&state.uids);
}

static void set_subscription(struct sync_peer *peer, bool subscribed)
{
        const char *userid, *name;
        struct err err = ERR_INIT;

        if (userid_of(peer, "USERID", &userid) && name_of(peer, "MBOXNAME", &name))
                sync_answer(peer, replica_set_sub(peer->store, userid, name, subscribed, &err), name, 0, &err);
}

void sync_apply_sub(struct sync_peer *peer) { set_subscription(peer, true); }
void sync_apply_unsub(struct sync_peer *peer) { set_subscription(peer, false); }

static void set_annotation(struct sync_peer *peer, bool remove)
{
        const char *name, *entry, *userid;
        struct span value = { NULL, 0 };
        struct err err = ERR_INIT;

        if (!dlist_text(peer->item, "MBOXNAME", &name) || (*name && !sync_name_ok(name)) || !dlist_text(peer->item, "ENTRY", &entry) ||
            annot_check_entry(span_of(entry), &err) < 0 || !dlist_text(peer->item, "USERID", &userid) || (*userid && !sync_userid_ok(userid)) ||
            (!remove && (!dlist_str(peer->item, "VALUE", &value) || value.len > ANNOT_VALUE_MAX)))
                sync_bad_parameters(peer, NULL, 0, err.code ? err.text : "a value is out of rule");
        else
                sync_answer(peer, replica_set_annot(peer->store, name, entry, userid, value, &err), name, 0, &err);
}

void sync_apply_annotation(struct sync_peer *peer) { set_annotation(peer, false); }
void sync_apply_unannotation(struct sync_peer *peer) { set_annotation(peer, true); }
