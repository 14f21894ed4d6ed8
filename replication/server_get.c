/*
 * server_get - GET (csync 3): what the replica has. Each mailbox is read at a moment of its own; what is gone in between is left out, as if it had
 * been asked for later.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "replication/server_private.h"
#include "store/user.h"
#include "util/must.h"

struct root { const char *name; struct root *next; };

/* Where a GET of several mailboxes is; all of it in the command's arena. */
struct walk {
        const char **names;
        size_t n, at;
        bool real;                              /* one of them was a mailbox */
        struct root *roots;                     /* of quota, each once */
};

static void add_root(struct sync_peer *peer, struct walk *walk, const char *name)
{
        struct root *root;

        for (root = walk->roots; root; root = root->next)
                if (strcmp(root->name, name) == 0)
                        return;
        root = ARENA_NEW(&peer->arena, struct root);
        *root = (struct root){ arena_strdup(&peer->arena, name), walk->roots };
        walk->roots = root;
}

/* The line of one mailbox. False: it was answered. */
static bool put_mailbox(struct sync_peer *peer, const char *name, struct walk *walk)
{
        struct replica_values values;
        struct dlist_writer w;
        struct err err = ERR_INIT;

        arena_reset(&peer->scratch);
        if (replica_read(peer->store, name, &peer->scratch, &values, &err) < 0) {
                if (err.code == ERR_NOTFOUND)
                        return true;
                sync_fail(peer, name, &err);
                return false;
        }
        sync_line(peer, &w);
        sync_write_values(&w, &values);
        dlist_write_end(&w);
        sync_line_end(peer);
        walk->real |= values.type == MBTYPE_NORMAL;
        if (values.quotaroot)
                add_root(peer, walk, values.quotaroot);
        return true;
}

/* 1: all are done; 0: later; -1: answered. */
static int put_mailboxes(struct sync_peer *peer, struct walk *walk)
{
        for (; walk->at < walk->n; walk->at++) {
                if (sync_enough(peer)) {
                        sync_more(peer);
                        return 0;
                }
                if (!put_mailbox(peer, walk->names[walk->at], walk))
                        return -1;
        }
        return 1;
}

static void put_quota(struct sync_peer *peer, const char *root)
{
        struct quota_info info;
        struct dlist_writer w;

        if (!quota_get(peer->store, root, &info))
                return;
        sync_line(peer, &w);
        dlist_write_kvlist(&w, "QUOTA");
        dlist_write_text(&w, "ROOT", root);
        dlist_write_u64(&w, "LIMIT", info.limit[QUOTA_STORAGE] == QUOTA_UNLIMITED ? UINT32_MAX : (uint64_t)info.limit[QUOTA_STORAGE]);
        for (int r = 0; r < QUOTA_RESOURCES; r++)
                if (info.limit[r] != QUOTA_UNLIMITED)
                        dlist_write_u64(&w, quota_resource_cyrus_name((enum quota_resource)r), (uint64_t)info.limit[r]);
        dlist_write_u64(&w, "MODSEQ", info.modseq);
        dlist_write_end(&w);
        sync_line_end(peer);
}

static int put_seen(struct sync_peer *peer, const char *userid, struct err *err)
{
        struct replica_seen *list;
        struct dlist_writer w;
        uint32_t n;

        if (replica_list_seen(peer->store, userid, NULL, &peer->scratch, &list, &n, err) < 0)
                return -1;
        for (uint32_t i = 0; i < n; i++) {
                sync_line(peer, &w);
                dlist_write_kvlist(&w, "SEEN");
                dlist_write_text(&w, "UNIQUEID", list[i].uniqueid);
                dlist_write_date(&w, "LASTREAD", list[i].lastread);
                dlist_write_u64(&w, "LASTUID", list[i].lastuid);
                dlist_write_date(&w, "LASTCHANGE", list[i].lastchange);
                dlist_write_text(&w, "SEENUIDS", list[i].uids);
                dlist_write_end(&w);
                sync_line_end(peer);
        }
        return 0;
}

static int put_subscriptions(struct sync_peer *peer, const char *userid, struct err *err)
{
        struct dlist_writer w;
        const char **names;

        if (sub_list(peer->store, userid, &peer->scratch, &names, err) < 0)
                return -1;
        if (!names[0])
                return 0;
        sync_line(peer, &w);
        dlist_write_list(&w, "LSUB");
        for (size_t i = 0; names[i]; i++)
                dlist_write_text(&w, NULL, names[i]);
        dlist_write_end(&w);
        sync_line_end(peer);
        return 0;
}

/* What a user has beside mailboxes. False: answered. */
static bool put_meta(struct sync_peer *peer, const char *userid)
{
        struct err err = ERR_INIT;

        arena_reset(&peer->scratch);
        if (put_seen(peer, userid, &err) == 0 && put_subscriptions(peer, userid, &err) == 0 && sync_put_sieve(peer, userid, &err) == 0)
                return true;
        sync_fail(peer, userid, &err);
        return false;
}

static const char *text_argument(struct sync_peer *peer)
{
        const char *text = "";

        must(dlist_as_text(peer->item, &text));         /* the dispatcher has looked */
        return text;
}

void sync_get_user(struct sync_peer *peer)
{
        const char *userid = text_argument(peer);
        struct walk *walk = peer->state;
        int rc;

        if (!sync_userid_ok(userid)) {
                sync_no(peer, "IMAP_INVALID_USER No Such User");
                return;
        }
        if (!walk) {
                peer->state = walk = ARENA_NEW(&peer->arena, struct walk);
                walk->n = replica_user_mailboxes(peer->store, userid, true, &peer->arena, &walk->names);
        }
        rc = put_mailboxes(peer, walk);
        for (struct root *r = walk->roots; rc > 0 && r; r = r->next)
                put_quota(peer, r->name);
        if (rc > 0 && (!walk->real || put_meta(peer, userid)))
                sync_ok(peer);
}

void sync_get_meta(struct sync_peer *peer)
{
        const char *userid = text_argument(peer);

        if (!sync_userid_ok(userid))
                sync_no(peer, "IMAP_INVALID_USER No Such User");
        else if (put_meta(peer, userid))
                sync_ok(peer);
}

/* The mailboxes of the list in the argument, which are names or, else, unique ids. */
static void get_listed(struct sync_peer *peer, bool names)
{
        struct walk *walk = peer->state;

        if (!walk) {
                peer->state = walk = ARENA_NEW(&peer->arena, struct walk);
                walk->names = ARENA_ARRAY(&peer->arena, const char *, peer->item->n + 1);
                for (const struct dlist *d = peer->item->first; d; d = d->next) {
                        const char *text;

                        if (!dlist_as_text(d, &text)) {
                                sync_bad_parameters(peer, NULL, 0, "a name is no text");
                                return;
                        }
                        if (!names)
                                text = replica_find_uniqueid(peer->store, text, &peer->arena);
                        if (text && sync_name_ok(text))
                                walk->names[walk->n++] = text;
                }
        }
        if (put_mailboxes(peer, walk) > 0)
                sync_ok(peer);
}

void sync_get_mailboxes(struct sync_peer *peer) { get_listed(peer, true); }
void sync_get_uniqueids(struct sync_peer *peer) { get_listed(peer, false); }

/* ---- FULLMAILBOX ---- */

struct full {
        struct replica_reader *reader;
        struct replica_record *records;
        struct dlist_writer w;                  /* in the middle of the line */
};

static void full_cleanup(struct sync_peer *peer)
{
        struct full *full = peer->state;

        replica_reader_close(&full->reader);
}

static bool full_begin(struct sync_peer *peer, const char *name)
{
        struct replica_values values;
        struct full *full = ARENA_NEW(&peer->arena, struct full);
        struct err err = ERR_INIT;

        if (replica_reader_open(peer->store, name, 0, true, &peer->arena, &values, &full->reader, &err) < 0) {
                sync_fail(peer, name, &err);
                return false;
        }
        peer->state = full;
        peer->cleanup = full_cleanup;
        full->records = ARENA_ARRAY(&peer->arena, struct replica_record, REPLICA_SLICE);
        sync_line(peer, &full->w);
        sync_write_values(&full->w, &values);
        dlist_write_list(&full->w, "RECORD");
        return true;
}

void sync_get_fullmailbox(struct sync_peer *peer)
{
        const char *name = text_argument(peer);
        struct full *full;
        struct err err = ERR_INIT;
        int n;

        if (!peer->state && !full_begin(peer, name))
                return;
        full = peer->state;
        do {
                if (sync_enough(peer)) {
                        sync_more(peer);
                        return;
                }
                arena_reset(&peer->scratch);
                n = replica_reader_next(full->reader, REPLICA_SLICE, &peer->scratch, full->records, &err);
                for (int i = 0; i < n; i++)
                        sync_write_record(&full->w, &full->records[i], &peer->scratch);
        } while (n > 0);
        if (n < 0) {
                sync_lost(peer, name, &err);
                return;
        }
        dlist_write_end(&full->w);
        dlist_write_end(&full->w);
        sync_line_end(peer);
        sync_ok(peer);
}

/* ---- single things ---- */

void sync_get_quota(struct sync_peer *peer)
{
        put_quota(peer, text_argument(peer));
        sync_ok(peer);
}

void sync_get_annotation(struct sync_peer *peer)
{
        const char *name = text_argument(peer);
        struct annot *list;
        struct dlist_writer w;
        struct err err = ERR_INIT;
        uint32_t n;

        if (replica_list_annots(peer->store, name, &peer->arena, &list, &n, &err) < 0) {
                sync_fail(peer, name, &err);
                return;
        }
        for (uint32_t i = 0; i < n; i++) {
                sync_line(peer, &w);
                dlist_write_kvlist(&w, "ANNOTATION");
                dlist_write_text(&w, "MBOXNAME", name);
                dlist_write_text(&w, "ENTRY", list[i].entry);
                dlist_write_text(&w, "USERID", list[i].user);
                dlist_write_str(&w, "VALUE", list[i].value);
                dlist_write_end(&w);
                sync_line_end(peer);
        }
        sync_ok(peer);
}

/* A message's octets, behind the line's beginning. Small ones are read, others sent as they lie. */
static int put_octets(struct sync_peer *peer, struct extent *extent, struct err *err)
{
        char *copy;

        rope_append_span(&peer->out, str_span(&peer->lines));
        str_clear(&peer->lines);
        if (extent->len >= 4096) {
                rope_append_extent(&peer->out, extent);
                return 0;
        }
        copy = arena_alloc(&peer->scratch, (size_t)extent->len + 1);
        if (file_read(extent->file, copy, (size_t)extent->len, extent->offset, err) < 0)
                return -1;
        rope_append(&peer->out, copy, (size_t)extent->len);
        file_unref(&extent->file);
        return 0;
}

/* Found by the unique id: the name may have changed since the peer asked for it. */
void sync_get_fetch(struct sync_peer *peer)
{
        const char *uniqueid, *partition, *name;
        struct mailbox *mbox = NULL;
        struct extent extent = { 0 };
        struct dlist_writer w;
        struct err err = ERR_INIT;
        uint8_t guid[GUID_SIZE], have[GUID_SIZE];
        uint32_t uid;

        if (!dlist_text(peer->item, "UNIQUEID", &uniqueid) || !dlist_text(peer->item, "PARTITION", &partition) ||
            !dlist_guid(peer->item, "GUID", guid) || !dlist_u32(peer->item, "UID", &uid) || strlen(partition) > DLIST_PARTITION_MAX) {
                sync_bad_parameters(peer, NULL, 0, "a value is out of grammar");
                return;
        }
        name = replica_find_uniqueid(peer->store, uniqueid, &peer->arena);
        if (!name) {
                sync_no(peer, replica_code_text(REPLICA_NONEXISTENT));
                return;
        }
        if (replica_open(peer->store, name, &mbox, &err) < 0 || replica_octets(mbox, uid, have, &extent, &err) < 0 ||
            (memcmp(have, guid, GUID_SIZE) != 0 && err_set(&err, ERR_NOTFOUND, "UID %" PRIu32 " is another message", uid) < 0)) {
                sync_fail(peer, name, &err);
        } else {
                sync_line(peer, &w);
                dlist_write_file(&w, "MESSAGE", partition, guid, extent.len);
                if (put_octets(peer, &extent, &err) < 0) {
                        rope_deinit(&peer->out);        /* nothing of it was sent yet */
                        sync_fail(peer, name, &err);
                } else {
                        sync_line_end(peer);
                        sync_ok(peer);
                }
        }
        file_unref(&extent.file);
        mailbox_unref(&mbox);
}
