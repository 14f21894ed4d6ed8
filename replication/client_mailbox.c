/*
 * client_mailbox - one mailbox brought up to date on the replica (csync 10.3): octets of what is new there, then APPLY MAILBOX with the records
 * that changed since the replica's highest modseq. All of it is read from one moment of ours (store/replica.h, reader), so what happens meanwhile
 * makes no difference: it is the next run's.
 */
#include "replication/client_private.h"

#include <inttypes.h>
#include <stdlib.h>

#include "util/must.h"

#define FILES_MAX 1024u                         /* in one APPLY MESSAGE */
#define OCTETS_MAX (UINT64_C(64) << 20)         /* … unless a single one has more */
#define GUIDS_MAX 8192u                         /* in one RESERVE */
#define NOT_WORTH_ASKING (UINT64_C(64) << 10)   /* octets: to send these costs less than the replica's walk through its mailboxes */
#define STALE_MAX 5                             /* messages that went while we were at it: from the beginning, so often */

const char *client_partition(const struct client *c, const char *ours)
{
        return c->options.partition ? c->options.partition : ours;
}

uint32_t client_partition_number(struct client *c, const char *partition)
{
        uintptr_t n = (uintptr_t)table_find(c->partitions, span_of(partition));

        if (n == 0) {
                n = table_count(c->partitions) + 1;
                table_set(c->partitions, span_of(partition), (void *)n);
        }
        return (uint32_t)n;
}

/* Where the octets have to be for a mailbox to find them: its own partition, there. */
static const char *staging(const struct client *c, const struct replica_values *ours, const struct folder *folder)
{
        return folder && folder->v.partition ? folder->v.partition : client_partition(c, ours->partition);
}

/* Has this record octets that the replica needs? */
static bool needs_octets(const struct replica_record *rec, const struct folder *folder)
{
        return rec->uid > (folder ? folder->v.last_uid : 0) && !(rec->flags & MSG_UNLINKED);
}

/* ---- RESERVE ---------------------------------------------------------------------------------------------------------------- */

struct reserve {                                /* GUIDs to be asked for in one partition */
        struct client *c;
        const struct folders *f;
        const char *partition;
        uint32_t number;
        uint8_t (*guids)[GUID_SIZE];
        size_t n;
        uint64_t octets;
        struct guid_set missing;                /* of the reply */
};

static int take_missing(void *ctx, const struct dlist *item, struct err *err)
{
        struct reserve *r = ctx;

        if (!span_eq_str(item->key, "MISSING"))
                return 0;
        for (const struct dlist *d = item->first; d; d = d->next) {
                uint8_t guid[GUID_SIZE];

                if (!dlist_as_guid(d, guid))
                        return err_set(err, ERR_SYNTAX, "MISSING: not a GUID");
                guid_set_add(&r->missing, 1, guid);
        }
        return 0;
}

static enum client_result ask_reserve(struct reserve *r, struct err *err)
{
        struct client *c = r->c;
        struct client_reply reply = { .line = take_missing, .ctx = r };
        enum client_result res;

        client_begin(c, "APPLY");
        dlist_write_kvlist(&c->w, "RESERVE");
        dlist_write_text(&c->w, "PARTITION", r->partition);
        dlist_write_list(&c->w, "MBOXNAME");
        for (size_t i = 0; i < r->f->list.n; i++)
                if (r->f->list.v[i]->v.type == MBTYPE_NORMAL)
                        dlist_write_text(&c->w, NULL, r->f->list.v[i]->v.name);
        dlist_write_end(&c->w);
        dlist_write_list(&c->w, "GUID");
        for (size_t i = 0; i < r->n; i++)
                dlist_write_guid(&c->w, NULL, r->guids[i]);
        dlist_write_end(&c->w);
        dlist_write_end(&c->w);
        res = client_finish(c, &reply, err);
        for (size_t i = 0; i < r->n && res == CLIENT_OK; i++)
                if (!guid_set_has(&r->missing, 1, r->guids[i]))
                        guid_set_add(&c->staged, r->number, r->guids[i]);
        guid_set_clear(&r->missing);
        return res;
}

static enum client_result reserve_some(struct reserve *r, struct err *err)
{
        enum client_result res = CLIENT_OK;

        if (r->n && r->octets > NOT_WORTH_ASKING)
                res = ask_reserve(r, err);
        r->n = 0;
        r->octets = 0;
        /* A refusal harms nothing: what is not reserved is uploaded. */
        return client_is_gone(res) ? res : CLIENT_OK;
}

/* What one of our mailboxes has above the replica's LAST_UID. */
static enum client_result reserve_mailbox(struct reserve *r, const char *name, struct arena *arena, struct err *err)
{
        struct replica_record recs[REPLICA_SLICE];
        struct replica_reader *reader = NULL;
        struct replica_values v;
        const struct folder *folder;
        enum client_result res = CLIENT_OK;
        struct arena slice = ARENA_INIT;
        struct err ignored = ERR_INIT;
        int n;

        if (!replica_entry(r->c->store, name, arena, &v) || v.type != MBTYPE_NORMAL)
                return CLIENT_OK;
        folder = folders_by_id(r->f, v.uniqueid);
        if (strcmp(staging(r->c, &v, folder), r->partition) != 0)
                return CLIENT_OK;
        /* What cannot be read is found out again, and said, by the update. */
        if (replica_reader_open(r->c->store, name, folder ? folder->v.highestmodseq : 0, false, arena, &v, &reader, &ignored) < 0)
                return CLIENT_OK;
        while (res == CLIENT_OK && (n = replica_reader_next(reader, REPLICA_SLICE, &slice, recs, &ignored)) > 0) {
                for (int i = 0; i < n && res == CLIENT_OK; i++) {
                        if (!needs_octets(&recs[i], folder) || guid_set_has(&r->c->staged, r->number, recs[i].guid))
                                continue;
                        memcpy(r->guids[r->n++], recs[i].guid, GUID_SIZE);
                        r->octets += recs[i].size;
                        if (r->n == GUIDS_MAX)
                                res = reserve_some(r, err);
                }
                arena_reset(&slice);
                if (res == CLIENT_OK)
                        res = client_check(r->c, err);
        }
        replica_reader_close(&reader);
        arena_deinit(&slice);
        return res;
}

static enum client_result reserve_partition(struct client *c, const char *partition, const char *const *names, size_t n, const struct folders *f,
                                            struct err *err)
{
        struct reserve r = { .c = c, .f = f, .partition = partition, .number = client_partition_number(c, partition) };
        enum client_result res = CLIENT_OK;
        struct arena arena = ARENA_INIT;

        r.guids = xcalloc(GUIDS_MAX, GUID_SIZE);
        for (size_t i = 0; i < n && res == CLIENT_OK; i++) {
                res = reserve_mailbox(&r, names[i], &arena, err);
                arena_reset(&arena);
        }
        if (res == CLIENT_OK)
                res = reserve_some(&r, err);
        free(r.guids);
        arena_deinit(&arena);
        return res;
}

enum client_result client_reserve(struct client *c, const char *const *names, size_t n, const struct folders *f, struct err *err)
{
        struct table *partitions = table_create();
        struct arena arena = ARENA_INIT;
        enum client_result r = CLIENT_OK;
        struct span key;
        void *value;
        size_t pos = 0;

        for (size_t i = 0; i < n && f->list.n; i++) {
                struct replica_values v;

                if (replica_entry(c->store, names[i], &arena, &v) && v.type == MBTYPE_NORMAL)
                        table_set(partitions, span_of(staging(c, &v, folders_by_id(f, v.uniqueid))), c);
        }
        while (r == CLIENT_OK && table_next(partitions, &pos, &key, &value)) {
                char *partition = arena_strndup(&arena, key.p, key.len);

                r = reserve_partition(c, partition, names, n, f, err);
        }
        table_destroy(&partitions);
        arena_deinit(&arena);
        return r;
}

/* ---- MESSAGE ---------------------------------------------------------------------------------------------------------------- */

struct upload {
        struct client *c;
        struct mailbox *mbox;
        const char *partition;
        uint32_t number;
        unsigned files;                         /* in the command that is open; 0: none is */
        uint64_t octets;
        bool stale;                             /* a message is gone that was there when we began */
};

static enum client_result end_upload(struct upload *u, struct err *err)
{
        if (u->files == 0)
                return CLIENT_OK;
        dlist_write_end(&u->c->w);
        u->files = 0;
        u->octets = 0;
        return client_finish(u->c, NULL, err);
}

static enum client_result upload_one(struct upload *u, const struct replica_record *rec, struct err *err)
{
        struct client *c = u->c;
        struct extent extent;
        enum client_result r = CLIENT_OK;

        if (replica_octets(u->mbox, rec->uid, NULL, &extent, err) < 0) {
                u->stale = err->code == ERR_NOTFOUND;
                if (u->stale && rec->flags & MSG_EXPUNGED) {            /* purged: it goes without octets */
                        u->stale = false;
                        err_clear(err);
                        return CLIENT_OK;
                }
                return CLIENT_FAILED;
        }
        if (u->files && (u->files == FILES_MAX || u->octets + extent.len > OCTETS_MAX))
                r = end_upload(u, err);
        if (r == CLIENT_OK && u->files == 0) {
                client_begin(c, "APPLY");
                dlist_write_list(&c->w, "MESSAGE");
        }
        if (r == CLIENT_OK) {
                u->files++;
                u->octets += extent.len;
                dlist_write_file(&c->w, NULL, u->partition, rec->guid, extent.len);
                r = client_octets(c, &extent, err);
        }
        if (r == CLIENT_OK) {
                guid_set_add(&c->staged, u->number, rec->guid);
                c->counts.messages_sent++;
        }
        file_unref(&extent.file);
        return r;
}

/* All that the replica lacks. A command that was begun is ended whatever happens, unless the connection is gone. */
static enum client_result upload(struct upload *u, struct replica_reader *reader, const struct folder *folder, struct err *err)
{
        struct replica_record recs[REPLICA_SLICE];
        struct arena slice = ARENA_INIT;
        struct err failed = ERR_INIT;
        enum client_result r = CLIENT_OK, ended;
        int n = 0;

        while (r == CLIENT_OK && (n = replica_reader_next(reader, REPLICA_SLICE, &slice, recs, err)) > 0) {
                for (int i = 0; i < n && r == CLIENT_OK; i++)
                        if (needs_octets(&recs[i], folder) && !guid_set_has(&u->c->staged, u->number, recs[i].guid))
                                r = upload_one(u, &recs[i], err);
                arena_reset(&slice);
        }
        if (n < 0)
                r = CLIENT_FAILED;
        arena_deinit(&slice);
        if (client_is_gone(r))
                return r;
        ended = end_upload(u, r == CLIENT_OK ? err : &failed);
        if (ended == CLIENT_OK || r != CLIENT_OK)
                return client_is_gone(ended) ? (err_copy(err, &failed), ended) : r;
        guid_set_clear(&u->c->staged);          /* what of it is there nobody knows */
        return ended;
}

/* ---- MAILBOX ---------------------------------------------------------------------------------------------------------------- */

static enum client_result write_records(struct client *c, struct replica_reader *reader, struct err *err)
{
        struct replica_record recs[REPLICA_SLICE];
        struct arena slice = ARENA_INIT;
        enum client_result r = CLIENT_OK;
        int n = 0;

        while (r == CLIENT_OK && (n = replica_reader_next(reader, REPLICA_SLICE, &slice, recs, err)) > 0) {
                for (int i = 0; i < n; i++)
                        client_record_write(c, &recs[i], &slice);
                arena_reset(&slice);
                r = client_spill(c, err);
        }
        arena_deinit(&slice);
        return n < 0 ? client_abandon(c, err) : r;
}

/* `reader` NULL: no records (an intermediate). */
static enum client_result apply(struct client *c, const struct replica_values *v, const char *partition, const struct folder *since,
                                struct replica_reader *reader, struct err *err)
{
        enum client_result r = CLIENT_OK;
        char key[32];

        client_begin(c, "APPLY");
        dlist_write_kvlist(&c->w, client_local(c, "MAILBOX", key));
        client_values_write(c, v, partition);
        if (since && since->v.highestmodseq) {
                dlist_write_u64(&c->w, "SINCE_MODSEQ", since->v.highestmodseq);
                dlist_write_u64(&c->w, "SINCE_CRC", since->v.crcs.basic);
                dlist_write_u64(&c->w, "SINCE_CRC_ANNOT", since->v.crcs.annot);
        }
        if (reader) {
                dlist_write_list(&c->w, "RECORD");
                r = write_records(c, reader, err);
                dlist_write_end(&c->w);
        }
        dlist_write_end(&c->w);
        if (r != CLIENT_OK)
                return r;
        c->counts.mailboxes_sent++;
        return client_finish(c, NULL, err);
}

/* One try, from one moment. *stale_r: it has to be made again, from another. */
static enum client_result try_update(struct client *c, const char *name, const struct folder *folder, bool with_since, bool from_scratch,
                                     bool *stale_r, struct arena *arena, struct err *err)
{
        struct replica_reader *reader = NULL;
        struct replica_values v;
        struct upload u = { .c = c };
        enum client_result r;

        *stale_r = false;
        if (replica_reader_open(c->store, name, folder ? folder->v.highestmodseq : 0, from_scratch, arena, &v, &reader, err) < 0) {
                if (err->code == ERR_NOTFOUND) {        /* gone since it was looked at: that is told of by itself */
                        err_clear(err);
                        return CLIENT_OK;
                }
                return err->code == ERR_BUSY ? CLIENT_PUT_OFF : CLIENT_FAILED;
        }
        u.mbox = replica_reader_mailbox(reader);
        u.partition = staging(c, &v, folder);
        u.number = client_partition_number(c, u.partition);
        r = upload(&u, reader, folder, err);
        *stale_r = u.stale;
        if (r == CLIENT_OK) {
                replica_reader_rewind(reader);
                r = apply(c, &v, client_partition(c, v.partition), with_since ? folder : NULL, reader, err);
        }
        replica_reader_close(&reader);
        return r;
}

static enum client_result send_update(struct client *c, const char *name, const struct folder *folder, bool with_since, bool from_scratch,
                                      struct err *err)
{
        struct arena arena = ARENA_INIT;
        enum client_result r;
        bool stale;
        int tries = 0;

        do {
                arena_reset(&arena);
                err_clear(err);
                r = try_update(c, name, folder, with_since, from_scratch, &stale, &arena, err);
        } while (stale && r == CLIENT_FAILED && ++tries < STALE_MAX);
        arena_deinit(&arena);
        return r;
}

/* What the replica has more of is taken over first. */
static enum client_result lift(struct client *c, const struct replica_values *ours, const struct folder *folder, bool *lifted_r, struct err *err)
{
        const struct replica_values *theirs = &folder->v;
        enum replica_code code;

        *lifted_r = ours->type == MBTYPE_NORMAL && theirs->type == MBTYPE_NORMAL &&
                    (theirs->uidvalidity > ours->uidvalidity || theirs->foldermodseq > ours->foldermodseq || theirs->raclmodseq > ours->raclmodseq);
        if (!*lifted_r)
                return CLIENT_OK;
        code = replica_lift(c->store, ours->name, theirs->uidvalidity, theirs->foldermodseq, theirs->raclmodseq, err);
        return code == REPLICA_OK ? CLIENT_OK : code == REPLICA_LOCKED ? CLIENT_PUT_OFF : CLIENT_FAILED;
}

/* How it stands on the replica now; *folder_r NULL: it is not there. */
static enum client_result ask_again(struct client *c, const char *name, const char *uniqueid, struct folders *f, const struct folder **folder_r,
                                    struct err *err)
{
        enum client_result r;

        folders_deinit(f);
        folders_init(f);
        r = client_get_mailboxes(c, &name, 1, f, err);
        *folder_r = r == CLIENT_OK ? folders_by_id(f, uniqueid) : NULL;
        return r;
}

/*
 * A replica that says "checksum": section 10.3, step 7. With -O that is one repeat and no more: to send what is older than the replica's, so as to
 * overwrite it, would end a real one ("assertion failed: record->modseq >= oldrecord.modseq").
 */
static enum client_result after_checksum(struct client *c, const char *name, const char *uniqueid, struct err *err)
{
        struct folders f;
        const struct folder *folder;
        enum client_result r;

        folders_init(&f);
        r = ask_again(c, name, uniqueid, &f, &folder, err);
        if (r == CLIENT_OK)
                r = send_update(c, name, folder, false, true, err);
        if (r == CLIENT_FAILED && client_replied(c, "IMAP_SYNC_CHECKSUM") && !c->options.no_copyback) {
                err_clear(err);
                r = client_full_update(c, name, err);
                if (r == CLIENT_OK)
                        r = ask_again(c, name, uniqueid, &f, &folder, err);
                if (r == CLIENT_OK)
                        r = send_update(c, name, folder, false, false, err);
        }
        folders_deinit(&f);
        return r;
}

static enum client_result update(struct client *c, const char *name, const char *uniqueid, const struct folder *folder, struct err *err)
{
        enum client_result r = send_update(c, name, folder, true, false, err);

        if (r == CLIENT_FAILED && client_replied(c, "IMAP_SYNC_CHANGED")) {     /* somebody was there in between: once more from what it is now */
                struct folders f;
                const struct folder *now;

                folders_init(&f);
                err_clear(err);
                r = ask_again(c, name, uniqueid, &f, &now, err);
                if (r == CLIENT_OK)
                        r = send_update(c, name, now, true, false, err);
                folders_deinit(&f);
        }
        if (r == CLIENT_FAILED && client_replied(c, "IMAP_SYNC_CHECKSUM")) {
                err_clear(err);
                r = after_checksum(c, name, uniqueid, err);
        }
        return r;
}

/* The replica's state is older than what we remember of expunges: what went in between cannot be told from the records alone. */
static enum client_result update_from_far(struct client *c, const char *name, const char *uniqueid, struct err *err)
{
        struct folders f;
        const struct folder *folder;
        enum client_result r;

        client_say(c, "inefficient replication: %s", name);
        r = client_full_update(c, name, err);
        if (r != CLIENT_OK)
                return r;
        folders_init(&f);
        r = ask_again(c, name, uniqueid, &f, &folder, err);
        if (r == CLIENT_OK)
                r = update(c, name, uniqueid, folder, err);
        folders_deinit(&f);
        return r;
}

static enum client_result force(struct client *c, struct err *err)
{
        if (!c->options.no_copyback || c->forcing)
                return CLIENT_OK;
        c->forcing = true;
        client_begin(c, "APPLY");
        dlist_write_kvlist(&c->w, "FORCE");
        dlist_write_end(&c->w);
        return client_finish(c, NULL, err);
}

enum client_result client_update_mailbox(struct client *c, const char *name, const struct folder *folder, struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct replica_values v;
        enum client_result r = client_check(c, err);
        bool lifted = false;

        if (r != CLIENT_OK)
                return r;
        if (replica_read(c->store, name, &arena, &v, err) < 0) {
                r = err->code == ERR_NOTFOUND ? (err_clear(err), CLIENT_OK) : err->code == ERR_BUSY ? CLIENT_PUT_OFF : CLIENT_FAILED;
                goto out;
        }
        if (folder && (r = lift(c, &v, folder, &lifted, err)) != CLIENT_OK)
                goto out;
        if (lifted && replica_read(c->store, name, &arena, &v, err) < 0) {
                r = CLIENT_FAILED;
                goto out;
        }
        if (folder && client_values_equal(&v, &folder->v, NULL))
                goto out;
        client_say(c, "MAILBOX %s", name);
        r = force(c, err);
        if (r != CLIENT_OK)
                goto out;
        if (v.type != MBTYPE_NORMAL)
                r = apply(c, &v, NULL, NULL, NULL, err);
        else if (folder && folder->v.type == MBTYPE_NORMAL && v.deletedmodseq > folder->v.highestmodseq && !c->options.no_copyback)
                r = update_from_far(c, name, v.uniqueid, err);
        else
                r = update(c, name, v.uniqueid, folder, err);
out:
        if (r == CLIENT_FAILED || r == CLIENT_PUT_OFF)
                err_prefix(err, "%s", name);
        arena_deinit(&arena);
        return r;
}
