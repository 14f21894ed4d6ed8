/* client_private - what the files of client.h share. */
#ifndef REPLICATION_CLIENT_PRIVATE_H
#define REPLICATION_CLIENT_PRIVATE_H

#include "replication/client.h"
#include "replication/client_conn.h"
#include "replication/role.h"
#include "store/replica.h"
#include "util/arena.h"
#include "util/array.h"
#include "util/dlist.h"
#include "util/hash.h"
#include "util/str.h"

#define CLIENT_LINE_MAX ((size_t)64 * 1024)     /* of banners, capabilities and final lines */
#define CLIENT_REPLY_MAX (UINT64_C(256) << 20)  /* octets of one reply, 64 times as much where it streams: half a million mailboxes of one user */
#define CLIENT_SPILL ((size_t)1 << 20)          /* of a command, before the first octet of it goes out: until then it can be dropped */

/* A set of GUIDs, each in a partition: what is in the replica's staging area. 24 octets and a half each. */
struct guid_set {
        struct guid_slot { uint8_t guid[GUID_SIZE]; uint32_t partition; } *slots;       /* partition 0: empty */
        size_t n, size;
};
void guid_set_deinit(struct guid_set *s);
void guid_set_clear(struct guid_set *s);
void guid_set_add(struct guid_set *s, uint32_t partition, const uint8_t guid[GUID_SIZE]);
bool guid_set_has(const struct guid_set *s, uint32_t partition, const uint8_t guid[GUID_SIZE]);

struct client {
        struct client_options options;          /* strings are ours */
        struct store *store;
        struct conf *conf;
        struct client_conn *conn;
        bool imap;                              /* the IMAP flavour: tags, SYNC… */
        unsigned tag;
        struct str line;
        char *peer;                             /* for logs */
        char reply_code[64];
        /* What was offered: of the last banner, or capabilities. */
        struct str mechs;
        bool starttls, compress, sasl_ir, replication;
        bool agreed;                            /* client_agree_on_role() */
        bool authenticated;                     /* the banner did not ask for it, or we did log in */
        /* How the connection ended; CLIENT_OK: it stands. */
        enum client_result over;
        struct err over_why;
        struct client_traffic counts;

        /* The command that is being written. */
        struct str out;
        struct dlist_writer w;
        bool spilled;                           /* some of it is on its way */
        uint64_t reply_octets;                  /* of the reply that is being read */
        struct arena reply;                     /* what was read of one line of its reply */

        struct guid_set staged;                 /* uploaded or reserved since the last RESTART */
        struct table *partitions;               /* name → number in it */
        bool forcing;                           /* APPLY FORCE was sent */
};

/* ---- client_open.c ---- */

/* A value of the channel, if it has one of its own. */
const char *client_conf_str(const struct client *c, const char *option);

/* client_role.c: with sync_failover, when the connection is made. */
int client_agree_on_role(struct client *c, struct err *err);

/* ---- client_command.c: one command, and its reply ---- */

/* "GET", "APPLY" or a command without arguments ("RESTART", "NOOP"). Then c->w takes the item, and client_finish() the reply. */
void client_begin(struct client *c, const char *verb);
/* Between two values of a long command: what is there goes out when it is much. */
enum client_result client_spill(struct client *c, struct err *err);
/* Octets of a file, behind dlist_write_file(). */
enum client_result client_octets(struct client *c, const struct extent *extent, struct err *err);
/* Something of ours failed in the middle of a command (err says what): if nothing of it is sent yet it is dropped, CLIENT_FAILED; else the
 * connection has to end, CLIENT_LOST. */
enum client_result client_abandon(struct client *c, struct err *err);

struct client_reply {                           /* all may be NULL */
        /* An untagged line; gone when it returns. -1: it is wrong; the reply is read to its end, and the command has failed. */
        int (*line)(void *ctx, const struct dlist *item, struct err *err);
        const struct dlist_hooks *hooks;
        void *ctx;
};
/*
 * Send the rest and read the reply. CLIENT_FAILED: NO or BAD (c->reply_code), or a line was wrong (no code). CLIENT_PUT_OFF: it is locked there.
 */
enum client_result client_finish(struct client *c, const struct client_reply *reply, struct err *err);
/* A command with an item of one text. */
enum client_result client_text_command(struct client *c, const char *verb, const char *key, const char *value, const struct client_reply *reply,
                                       struct err *err);
bool client_replied(const struct client *c, const char *code);
bool client_is_gone(enum client_result result);                         /* LOST, BYE, STOPPED */
/* Has somebody asked us to stop? CLIENT_OK or CLIENT_STOPPED. At the start of each item also what the connection is. */
enum client_result client_check(struct client *c, struct err *err);
/* For -v. */
void client_say(struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As client_options.local_only wants it: "LOCAL_MAILBOX" of "MAILBOX". */
const char *client_local(const struct client *c, const char *key, char buf[32]);

/* ---- client_values.c: mailboxes and records on the wire ---- */

/* A `* MAILBOX` item into values, copied into the arena. ERR_SYNTAX names what is missing. `full`: of a reply to FULLMAILBOX, which needs less. */
int client_values_parse(const struct dlist *kv, bool full, struct arena *arena, struct replica_values *values_r, struct err *err);
/* One of RECORD; borrowed from `kv`, with lists in the arena. */
int client_record_parse(const struct dlist *kv, struct arena *arena, struct replica_record *rec_r, struct err *err);
/* A copy of it all. */
void client_record_copy(struct replica_record *to, const struct replica_record *from, struct arena *arena);
int client_annots_parse(const struct dlist *list, struct arena *arena, struct annot **list_r, uint32_t *n_r, struct err *err);
void client_annots_write(struct client *c, const struct annot *list, uint32_t n);
/* The items of APPLY MAILBOX's kvlist but RECORD. */
void client_values_write(struct client *c, const struct replica_values *v, const char *partition);
void client_record_write(struct client *c, const struct replica_record *rec, struct arena *arena);
bool client_annots_equal(const struct annot *a, uint32_t a_n, const struct annot *b, uint32_t b_n);
/* What csync 10.3 step 4 compares; the first things that differ are appended to `what` (may be NULL). */
bool client_values_equal(const struct replica_values *ours, const struct replica_values *theirs, struct str *what);

/* ---- a set of mailboxes ---- */

struct folder {                                 /* one of the replica's */
        struct replica_values v;
        bool ours;                              /* it has a counterpart here */
        bool renamed;                           /* its name is not v.name any more */
};
struct folders {
        struct arena arena;
        ARRAY(struct folder *) list;
        struct table *by_id, *by_name;
};
void folders_init(struct folders *f);
void folders_deinit(struct folders *f);
struct folder *folders_add(struct folders *f, const struct replica_values *v);         /* strings in f->arena already */
struct folder *folders_by_id(const struct folders *f, const char *uniqueid);
struct folder *folders_by_name(const struct folders *f, const char *name);
/* It is gone from the replica: its name is free. */
void folders_forget(struct folders *f, const struct folder *folder);
void folders_rename(struct folders *f, struct folder *folder, const char *name);
/* GET UNIQUEIDS of those of ours that are not in `f` yet, into it. */
enum client_result client_get_uniqueids(struct client *c, const char *const *names, size_t n, struct folders *f, struct err *err);
/* GET MAILBOXES into `f`. */
enum client_result client_get_mailboxes(struct client *c, const char *const *names, size_t n, struct folders *f, struct err *err);

/* client_mailbox.c: upload what is missing, and bring one mailbox up to date. `folder` NULL: the replica has none. */
enum client_result client_update_mailbox(struct client *c, const char *name, const struct folder *folder, struct err *err);
/* RESERVE for these mailboxes of ours. */
enum client_result client_reserve(struct client *c, const char *const *names, size_t n, const struct folders *f, struct err *err);
/* Is there such a user here, with an INBOX? (client_sync.c) */
bool client_has_inbox(struct client *c, const char *userid, struct arena *arena);
/* Where a mailbox of this partition of ours is on the replica. */
const char *client_partition(const struct client *c, const char *ours);
uint32_t client_partition_number(struct client *c, const char *partition);

/* client_repair.c: FULLMAILBOX, and what section 11 makes of it. */
enum client_result client_full_update(struct client *c, const char *name, struct err *err);

/* ---- client_meta.c: what is not a mailbox's ---- */

struct meta_quota { int64_t limit[QUOTA_RESOURCES]; };
struct meta_script {
        const char *filename;                   /* "<name>.script", "<name>.bc": that it is active */
        int64_t last_update;
        uint8_t guid[GUID_SIZE];
        bool active, ours;                      /* ours: it has a counterpart here */
};
struct meta {                                   /* what the replica said of a user */
        struct arena arena;
        struct table *quotas;                   /* root → struct meta_quota */
        struct table *seen;                     /* unique id → struct replica_seen */
        struct table *subs;                     /* name → itself */
        ARRAY(struct meta_script) scripts;
};
void meta_init(struct meta *m);
void meta_deinit(struct meta *m);
/* One line of a reply; what is none of ours is passed over. */
int meta_take(struct meta *m, const struct dlist *item, struct err *err);
enum client_result meta_sync_quotas(struct client *c, const char *userid, struct meta *m, struct err *err);
/* Subscriptions, Sieve, seen. */
enum client_result meta_sync(struct client *c, const char *userid, struct meta *m, struct err *err);
enum client_result meta_sync_sieve(struct client *c, const char *userid, struct meta *m, struct err *err);      /* client_sieve.c */
bool meta_same_sieve(struct client *c, const char *userid, struct meta *m, struct err *err);                    /* false with err, or without */
enum client_result meta_verify(struct client *c, const char *userid, struct meta *m, client_differs *differs, void *ctx, struct err *err);

/* ---- client_lock.c: who is at which user of which replica ---- */

/* Waits; CLIENT_PUT_OFF with no_wait, CLIENT_STOPPED. `owner` NULL: shared mailboxes. */
enum client_result client_lock_user(struct client *c, const char *owner, struct err *err);
void client_unlock_user(struct client *c, const char *owner);

#endif
