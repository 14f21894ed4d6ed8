/*
 * server_restore - RESTORE (csync 5): what the backup's `restore` brings back to a live server. Messages have come by APPLY MESSAGE. A mailbox that
 * is there gets them under new UIDs; one that is not is made as it was, as far as that was said.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "replication/server_private.h"
#include "store/annot_user.h"
#include "util/clock.h"
#include "util/must.h"

struct restore {
        struct sync_peer *peer;
        const char *name, *partition;
        struct annot *annots;
        uint32_t annots_n;
};

static int need_users(struct sync_peer *peer, const struct annot *annots, uint32_t n, struct err *err)
{
        for (uint32_t i = 0; i < n; i++)
                if (*annots[i].user && annot_user_make(peer->store, annots[i].user, err) < 0)
                        return -1;
        return 0;
}

static void fill_item(struct sync_peer *peer, const struct replica_record *rec, struct append_item *item)
{
        struct span *keywords = ARENA_ARRAY(&peer->arena, struct span, rec->keywords_n + 1);

        for (uint32_t i = 0; i < rec->keywords_n; i++)
                keywords[i] = span_of(rec->keywords[i]);
        *item = (struct append_item){ .stage = rec->stage, .flags = rec->flags & MSG_SYSTEM_FLAGS, .keywords = keywords,
                                      .keyword_count = rec->keywords_n, .internaldate = rec->internaldate,
                                      .savedate = rec->savedate ? rec->savedate : INT64_MIN, .annots = rec->annots,
                                      .annots_n = rec->annots_n, .ignore_quota = true };
}

/* All records that are no expunged ones, or none. */
static int append(struct restore *r, struct mailbox *mbox, struct err *err)
{
        struct sync_peer *peer = r->peer;
        struct append_item *items = ARENA_ARRAY(&peer->arena, struct append_item, peer->records.list.n + 1);
        struct append_result result;
        struct waiter waiter;
        uint32_t n = 0;

        for (size_t i = 0; i < peer->records.list.n; i++) {
                struct replica_record *rec = &peer->records.list.v[i];

                if (rec->flags & MSG_EXPUNGED)
                        continue;
                if (sync_staging_stage(peer->staging, r->partition, rec->guid, &rec->stage, err) < 0)
                        return err_prefix(err, "UID %" PRIu32, rec->uid);
                if (need_users(peer, rec->annots, rec->annots_n, err) < 0)
                        return -1;
                fill_item(peer, rec, &items[n++]);
        }
        if (n == 0)
                return 0;
        waiter_init_blocking(&waiter);
        if (mailbox_append(mbox, items, n, &result, &waiter, err) < 0)
                return -1;
        return waiter_block(&waiter, err);
}

/* Those that the mailbox has win. */
static int merge_annots(struct restore *r, struct mailbox *mbox, struct err *err)
{
        struct annot *set = ARENA_ARRAY(&r->peer->arena, struct annot, r->annots_n + 1);
        struct span shared, private;
        struct waiter waiter;
        uint32_t n = 0;

        for (uint32_t i = 0; i < r->annots_n; i++) {
                const struct annot *a = &r->annots[i];

                mailbox_annot_values(mbox, 0, a->entry, a->user, &r->peer->arena, &shared, &private);
                if (!(*a->user ? private : shared).p)
                        set[n++] = *a;
        }
        if (n == 0)
                return 0;
        if (need_users(r->peer, set, n, err) < 0)
                return -1;
        waiter_init_blocking(&waiter);
        if (mailbox_annotate(mbox, set, n, &waiter, err) < 0)
                return -1;
        return waiter_block(&waiter, err);
}

/* Make it, if it is not there. */
static int make(struct restore *r, struct err *err)
{
        const struct dlist *item = r->peer->item;
        struct mbox_create what = { .name = r->name, .partition = r->partition };
        const struct mbentry *entry = NULL;
        const char *acl;
        uint64_t modseq;

        if (dlist_text(item, "ACL", &acl)) {
                if (!replica_acl_ok(acl))
                        return err_set(err, ERR_SYNTAX, "impossible access control list");
                what.acl = acl;
        }
        /* All three, or none (csync 5). */
        if (!dlist_text(item, "UNIQUEID", &what.uniqueid) || !dlist_u64(item, "HIGHESTMODSEQ", REPLICA_MODSEQ_MAX, &modseq) ||
            !dlist_u32(item, "UIDVALIDITY", &what.uidvalidity)) {
                what.uniqueid = NULL;
                what.uidvalidity = 0;
        }
        if (mboxlist_create(store_mboxlist(r->peer->store), &what, &entry, err) < 0)
                return -1;
        mbentry_unref(&entry);
        return 0;
}

/* A mailbox that is not there, with all of its values: like one that a master sends, UIDs and modseqs kept. False: something is not given. */
static bool kept_values(struct restore *r, struct replica_apply *apply)
{
        const struct dlist *item = r->peer->item;
        struct replica_values *v = &apply->values;
        struct span options = { NULL, 0 };

        if (!dlist_text(item, "UNIQUEID", &v->uniqueid) || !replica_uniqueid_ok(span_of(v->uniqueid)) ||
            !dlist_u64(item, "HIGHESTMODSEQ", REPLICA_MODSEQ_MAX, &v->highestmodseq) || !dlist_u32(item, "UIDVALIDITY", &v->uidvalidity) ||
            !dlist_text(item, "ACL", &v->acl))
                return false;
        v->name = r->name;
        v->partition = r->partition;
        (void)dlist_str(item, "OPTIONS", &options);
        v->options = replica_options_parse(options);
        if (dlist_u64(item, "CREATEDMODSEQ", REPLICA_MODSEQ_MAX, &v->createdmodseq))
                v->has |= REPLICA_HAS_CREATEDMODSEQ;
        if (dlist_u64(item, "FOLDERMODSEQ", REPLICA_MODSEQ_MAX, &v->foldermodseq))
                v->has |= REPLICA_HAS_FOLDERMODSEQ;
        for (size_t i = 0; i < r->peer->records.list.n; i++) {
                const struct replica_record *rec = &r->peer->records.list.v[i];

                if (rec->uid <= v->last_uid || rec->modseq > v->highestmodseq)
                        return false;
                v->last_uid = rec->uid;
                if (rec->internaldate > v->last_appenddate)
                        v->last_appenddate = rec->internaldate;
        }
        v->annots = r->annots;
        v->annots_n = r->annots_n;
        apply->local = r->peer->cmd->flags & SYNC_LOCAL;
        return true;
}

static void detach(struct sync_peer *peer)
{
        for (size_t i = 0; i < peer->records.list.n; i++)
                stage_unref(&peer->records.list.v[i].stage);
}

void sync_restore_mailbox(struct sync_peer *peer)
{
        struct restore r = { .peer = peer };
        struct replica_values mine;
        struct replica_apply apply = { .since_modseq = 0 };
        struct mailbox *mbox = NULL;
        struct err err = ERR_INIT;
        const struct dlist *records;
        const char *why = "MBOXNAME";
        bool there;

        if (!dlist_text(peer->item, "MBOXNAME", &r.name) || !sync_name_ok(r.name) || !dlist_list(peer->item, why = "RECORD", &records) ||
            !sync_read_annots(peer->item, "ANNOTATIONS", &peer->arena, &r.annots, &r.annots_n, &why)) {
                sync_bad_parameters(peer, NULL, 0, why);
                return;
        }
        there = replica_entry(peer->store, r.name, &peer->arena, &mine) && mine.type == MBTYPE_NORMAL;
        if (there)
                r.partition = mine.partition;
        else if (!dlist_text(peer->item, "PARTITION", &r.partition))
                r.partition = store_default_partition(peer->store);
        if (!store_partition_dir(peer->store, r.partition)) {
                sync_bad_parameters(peer, r.name, 0, "there is no such partition");
                return;
        }
        if (!there && kept_values(&r, &apply)) {
                sync_apply_records(peer, &apply, r.partition);
                return;
        }
        /* Whether all messages are there is looked at before a mailbox is made. */
        for (size_t i = 0; i < peer->records.list.n; i++) {
                const struct replica_record *rec = &peer->records.list.v[i];

                if (!(rec->flags & MSG_EXPUNGED) && !sync_staging_has(peer->staging, r.partition, rec->guid)) {
                        sync_bad_parameters(peer, r.name, rec->uid, "the message was not uploaded");
                        return;
                }
        }
        if ((!there && make(&r, &err) < 0) || replica_open(peer->store, r.name, &mbox, &err) < 0 || append(&r, mbox, &err) < 0 ||
            merge_annots(&r, mbox, &err) < 0)
                sync_fail(peer, r.name, &err);
        else
                sync_ok(peer);
        detach(peer);
        mailbox_unref(&mbox);
}
