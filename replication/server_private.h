/*
 * server_private - the parts of the csync server, seen by replication/server*.c only.
 *   server.c          the service: banner, lines, STARTTLS, COMPRESS, dispatch through a table of verbs
 *   server_auth.c     AUTHENTICATE
 *   server_peer.c     GET, APPLY, RESTORE, RESTART in either flavour: reading a command, the table of commands, its dispatcher, answers
 *   server_record.c   the MAILBOX item and its records (csync 6, 7), both ways
 *   server_get.c      GET: what is read
 *   server_apply.c    APPLY: what is written
 *   server_sieve.c    Sieve scripts, of GET and APPLY
 *   server_restore.c  RESTORE
 *   server_role.c     fail-over: X_EPOCH, X_HANDOVER
 *   server_stage.c    messages that have come and wait for their mailbox
 */
#ifndef REPLICATION_SERVER_PRIVATE_H
#define REPLICATION_SERVER_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/imap/sync.h"
#include "server/service.h"
#include "server/session.h"
#include "store/mailname.h"
#include "store/replica.h"
#include "store/sieve_files.h"
#include "store/store.h"
#include "util/array.h"
#include "util/dlist.h"

/* ---- server_stage.c ---- */

#define SYNC_STAGED_MAX ((uint64_t)64 << 30)    /* octets of messages that one connection may have waiting */
#define SYNC_STAGED_COUNT_MAX 5000000u          /* of messages: each is in memory by its GUID */

/*
 * The staging area of one connection: octets of messages by partition and GUID, in one unlinked file for each partition. A mailbox of a hundred
 * thousand messages comes in one go: they cannot be open one by one. What was put there is not durable: it is nothing until its mailbox is
 * applied. One thread at a time.
 */
struct sync_staging;
struct sync_staging *sync_staging_create(struct store *store, uint64_t octets_max);
void sync_staging_destroy(struct sync_staging **staging);
void sync_staging_clear(struct sync_staging *staging);                  /* RESTART */
/* A message begins; octets in order; its end. `partition` is a configured one's name, else ERR_NOTFOUND. ERR_LIMIT: the area is full.
 * sync_staging_end(): ERR_SYNTAX when their SHA-1 is not the GUID. After an error nothing of the message is there. The same GUID again: the first stays. */
int sync_staging_begin(struct sync_staging *staging, struct span partition, const uint8_t guid[GUID_SIZE], uint64_t size, struct err *err);
int sync_staging_write(struct sync_staging *staging, const void *p, size_t len, struct err *err);
int sync_staging_end(struct sync_staging *staging, struct err *err);
void sync_staging_abandon(struct sync_staging *staging);                /* a message that was begun, if one was */
bool sync_staging_has(const struct sync_staging *staging, const char *partition, const uint8_t guid[GUID_SIZE]);
uint64_t sync_staging_octets(const struct sync_staging *staging);
/* A finished stage of it, the caller's: stage_unref(). Blocks. ERR_NOTFOUND. */
int sync_staging_stage(struct sync_staging *staging, const char *partition, const uint8_t guid[GUID_SIZE], struct stage **stage_r, struct err *err);

/* ---- server_peer.c ---- */

#define SYNC_RECORDS_MEMORY ((size_t)2 << 30)   /* octets of memory for the records of one command: of some millions of messages */
#define SYNC_GUIDS_MAX 100000                   /* in one RESERVE; Cyrus's client sends 8193 at most */

enum sync_arg { ARG_NONE, ARG_TEXT, ARG_LIST, ARG_KVLIST, ARG_ANY };
enum sync_need { SYNC_ANYBODY, SYNC_ADMIN };
enum { SYNC_LOGGED = 1, SYNC_RECORDS = 2 /* may have a streamed RECORD list */, SYNC_FILES = 4, SYNC_LOCAL = 8 /* the LOCAL_ form */,
       SYNC_OF_ROLES = 16 /* about who is the master, so not for him only */ };

struct sync_cmd {
        const char *verb, *name;
        /* On a thread that may block. Writes untagged lines to peer->out, then sync_ok() and the like; or sync_more(): it is called again when they
         * have been sent. */
        void (*fn)(struct sync_peer *peer);
        enum sync_need needs;
        enum sync_arg arg;
        const char *keys;                       /* of ARG_KVLIST: which must be there, with blanks between; a missing one is BAD_PARAMETERS */
        unsigned flags;
};
extern const struct sync_cmd sync_cmds[];
extern const size_t sync_cmds_n;

struct sync_records { ARRAY(struct replica_record) list; struct arena arena; struct table *keywords; };

struct sync_peer {
        struct session *s;
        struct conf *conf;                      /* reference */
        struct store *store;
        char *user;
        bool is_admin;

        /* the connection's */
        bool force;                             /* APPLY FORCE was said */
        uint64_t turn;                          /* of role_hello(); 0: it said no epoch */
        struct sync_staging *staging;

        /* the command's */
        const char *verb;
        enum { PEER_IDLE, PEER_READING, PEER_SKIPPING, PEER_RUNNING, PEER_ANSWERED } at;
        struct arena arena, scratch;            /* scratch: of one call, or less */
        struct dlist_parser *parser;
        const struct sync_cmd *cmd;
        const struct dlist *item;
        struct sync_records records;
        const char *refusal;                    /* the answer when a hook refused the line; NULL: by its err */
        void *state;                            /* the handler's, in the arena; NULL at its first call */
        void (*cleanup)(struct sync_peer *peer);        /* when the command ends, however; NULL: nothing to do */
        bool more, lost;
        struct str lines;                       /* untagged lines of this call … */
        struct rope out;                        /* … and of before, with files */
        struct str answer;
        struct offload job;
};

void sync_ok(struct sync_peer *peer);
/* "NO " and that. Not logged. */
void sync_no(struct sync_peer *peer, const char *code_and_text);
/* By a result of the store, logged with what the command was about: `mailbox` and uid may be NULL, 0. */
void sync_answer(struct sync_peer *peer, enum replica_code code, const char *mailbox, uint32_t uid, const struct err *err);
/* The same by an err of a reading call. */
void sync_fail(struct sync_peer *peer, const char *mailbox, const struct err *err);
void sync_bad_parameters(struct sync_peer *peer, const char *mailbox, uint32_t uid, const char *why);
void sync_more(struct sync_peer *peer);
/* Half of a line was sent and its rest cannot be: the connection ends. */
void sync_lost(struct sync_peer *peer, const char *mailbox, const struct err *err);
/* "* " and the beginning of a line, to be written to by dlist_write_…(); sync_line_end() ends it. */
void sync_line(struct sync_peer *peer, struct dlist_writer *w);
void sync_line_end(struct sync_peer *peer);
/* Enough is waiting to be sent: return sync_more(). */
bool sync_enough(struct sync_peer *peer);
/* Is this fit to be a mailbox's internal name, a user id? */
bool sync_name_ok(const char *name);
bool sync_userid_ok(const char *userid);

struct sync_peer *sync_peer_open(const struct sync_peer_params *params);
void sync_peer_close(struct sync_peer **peer);
void sync_peer_begin(struct sync_peer *peer, const char *verb);
enum sync_step sync_peer_run(struct sync_peer *peer, struct span in, size_t *used_r);
struct waiter *sync_peer_waiter(struct sync_peer *peer);
bool sync_peer_is_away(struct sync_peer *peer);                         /* its handler runs on another thread */
const char *sync_peer_reply(struct sync_peer *peer);

/* ---- server_record.c ---- */

/* The MAILBOX item without RECORD: opens it with its key and leaves it open. */
void sync_write_values(struct dlist_writer *w, const struct replica_values *values);
void sync_write_record(struct dlist_writer *w, const struct replica_record *rec, struct arena *scratch);
/* A MAILBOX item without its records. False: *why_r says what is missing or out of grammar. */
bool sync_read_values(const struct dlist *item, struct arena *arena, struct replica_values *values_r, const char **why_r);
/* The list of annotations below `key` of a kvlist, sorted as annot_compare() has it; 0 of them when there is none. */
bool sync_read_annots(const struct dlist *kv, const char *key, struct arena *arena, struct annot **list_r, uint32_t *n_r, const char **why_r);
/* One record is appended to the list. ERR_SYNTAX, ERR_LIMIT. */
int sync_read_record(struct sync_records *records, const struct dlist *item, struct arena *scratch, struct err *err);
void sync_records_deinit(struct sync_records *records);

/* ---- server_sieve.c ---- */

/* The SIEVE lines of a user; with the scratch arena. */
int sync_put_sieve(struct sync_peer *peer, const char *userid, struct err *err);

/* ---- server_get.c, server_apply.c, server_restore.c: the handlers ---- */

void sync_get_user(struct sync_peer *peer);
void sync_get_x_epoch(struct sync_peer *peer);           /* server_role.c */
/* NO, by an error of role.h: X_FENCED is what the master learns from. */
void sync_refuse(struct sync_peer *peer, const struct err *err);
void sync_get_meta(struct sync_peer *peer);
void sync_get_mailboxes(struct sync_peer *peer);
void sync_get_uniqueids(struct sync_peer *peer);
void sync_get_fullmailbox(struct sync_peer *peer);
void sync_get_quota(struct sync_peer *peer);
void sync_get_annotation(struct sync_peer *peer);
void sync_get_fetch(struct sync_peer *peer);
void sync_get_fetch_sieve(struct sync_peer *peer);

void sync_apply_annotation(struct sync_peer *peer);
void sync_apply_capabilities(struct sync_peer *peer);
void sync_apply_expunge(struct sync_peer *peer);
void sync_apply_force(struct sync_peer *peer);
void sync_apply_mailbox(struct sync_peer *peer);
void sync_apply_message(struct sync_peer *peer);
void sync_apply_quota(struct sync_peer *peer);
void sync_apply_rename(struct sync_peer *peer);
void sync_apply_reserve(struct sync_peer *peer);
void sync_apply_seen(struct sync_peer *peer);
void sync_apply_sieve(struct sync_peer *peer);
void sync_apply_activate_sieve(struct sync_peer *peer);
void sync_apply_sub(struct sync_peer *peer);
void sync_apply_unactivate_sieve(struct sync_peer *peer);
void sync_apply_unannotation(struct sync_peer *peer);
void sync_apply_unmailbox(struct sync_peer *peer);
void sync_apply_unquota(struct sync_peer *peer);
void sync_apply_unsieve(struct sync_peer *peer);
void sync_apply_unsub(struct sync_peer *peer);
void sync_apply_unuser(struct sync_peer *peer);
void sync_apply_x_handover(struct sync_peer *peer);      /* server_role.c */

/* server_apply.c: apply them with the records that came, whose octets are in that partition's staging area, and answer. */
void sync_apply_records(struct sync_peer *peer, struct replica_apply *apply, const char *partition);

void sync_restore_mailbox(struct sync_peer *peer);

#endif
