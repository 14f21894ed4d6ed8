/*
 * server_peer - one connection's replication, in either flavour: a command is read as its octets come (util/dlist.h), files into the staging area,
 * records of a mailbox into a list; then the dispatcher looks it up, asks for what its row declares, and its handler runs on a thread that may
 * block, as often as there is more to send.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "replication/server.h"
#include "replication/role.h"
#include "replication/server_private.h"
#include "server/protocols.h"
#include "store/change.h"
#include "store/user.h"
#include "util/log.h"
#include "util/must.h"

/* Sorted by verb and name, for bsearch(). */
const struct sync_cmd sync_cmds[] = {
        { "APPLY", "ACTIVATE_SIEVE", sync_apply_activate_sieve, SYNC_ADMIN, ARG_KVLIST, "USERID FILENAME", 0 },
        { "APPLY", "ANNOTATION", sync_apply_annotation, SYNC_ADMIN, ARG_KVLIST, "MBOXNAME ENTRY USERID VALUE", 0 },
        { "APPLY", "CAPABILITIES", sync_apply_capabilities, SYNC_ADMIN, ARG_LIST, NULL, 0 },
        { "APPLY", "EXPUNGE", sync_apply_expunge, SYNC_ADMIN, ARG_KVLIST, "MBOXNAME UNIQUEID UID", 0 },
        { "APPLY", "FORCE", sync_apply_force, SYNC_ADMIN, ARG_ANY, NULL, 0 },
        { "APPLY", "LOCAL_MAILBOX", sync_apply_mailbox, SYNC_ADMIN, ARG_KVLIST, "UNIQUEID MBOXNAME", SYNC_RECORDS | SYNC_LOCAL },
        { "APPLY", "LOCAL_RENAME", sync_apply_rename, SYNC_ADMIN, ARG_KVLIST, "OLDMBOXNAME NEWMBOXNAME PARTITION", SYNC_LOGGED | SYNC_LOCAL },
        { "APPLY", "LOCAL_UNMAILBOX", sync_apply_unmailbox, SYNC_ADMIN, ARG_TEXT, NULL, SYNC_LOGGED | SYNC_LOCAL },
        { "APPLY", "LOCAL_UNUSER", sync_apply_unuser, SYNC_ADMIN, ARG_TEXT, NULL, SYNC_LOGGED | SYNC_LOCAL },
        { "APPLY", "MAILBOX", sync_apply_mailbox, SYNC_ADMIN, ARG_KVLIST, "UNIQUEID MBOXNAME", SYNC_RECORDS },
        { "APPLY", "MESSAGE", sync_apply_message, SYNC_ADMIN, ARG_LIST, NULL, SYNC_FILES },
        { "APPLY", "QUOTA", sync_apply_quota, SYNC_ADMIN, ARG_KVLIST, "ROOT LIMIT MODSEQ", SYNC_LOGGED },
        { "APPLY", "RENAME", sync_apply_rename, SYNC_ADMIN, ARG_KVLIST, "OLDMBOXNAME NEWMBOXNAME PARTITION", SYNC_LOGGED },
        { "APPLY", "RESERVE", sync_apply_reserve, SYNC_ADMIN, ARG_KVLIST, "PARTITION MBOXNAME GUID", 0 },
        { "APPLY", "SEEN", sync_apply_seen, SYNC_ADMIN, ARG_KVLIST, "USERID UNIQUEID LASTREAD LASTUID LASTCHANGE SEENUIDS", 0 },
        { "APPLY", "SIEVE", sync_apply_sieve, SYNC_ADMIN, ARG_KVLIST, "USERID FILENAME LAST_UPDATE CONTENT", SYNC_LOGGED },
        { "APPLY", "SUB", sync_apply_sub, SYNC_ADMIN, ARG_KVLIST, "USERID MBOXNAME", 0 },
        { "APPLY", "UNACTIVATE_SIEVE", sync_apply_unactivate_sieve, SYNC_ADMIN, ARG_KVLIST, "USERID", 0 },
        { "APPLY", "UNANNOTATION", sync_apply_unannotation, SYNC_ADMIN, ARG_KVLIST, "MBOXNAME ENTRY USERID", 0 },
        { "APPLY", "UNMAILBOX", sync_apply_unmailbox, SYNC_ADMIN, ARG_TEXT, NULL, SYNC_LOGGED },
        { "APPLY", "UNQUOTA", sync_apply_unquota, SYNC_ADMIN, ARG_TEXT, NULL, SYNC_LOGGED },
        { "APPLY", "UNSIEVE", sync_apply_unsieve, SYNC_ADMIN, ARG_KVLIST, "USERID FILENAME", SYNC_LOGGED },
        { "APPLY", "UNSUB", sync_apply_unsub, SYNC_ADMIN, ARG_KVLIST, "USERID MBOXNAME", 0 },
        { "APPLY", "UNUSER", sync_apply_unuser, SYNC_ADMIN, ARG_TEXT, NULL, SYNC_LOGGED },
        { "APPLY", "X_HANDOVER", sync_apply_x_handover, SYNC_ADMIN, ARG_KVLIST, "NUMBER ID", SYNC_OF_ROLES },
        { "GET", "ANNOTATION", sync_get_annotation, SYNC_ADMIN, ARG_TEXT, NULL, 0 },
        { "GET", "FETCH", sync_get_fetch, SYNC_ADMIN, ARG_KVLIST, "MBOXNAME PARTITION UNIQUEID GUID UID", 0 },
        { "GET", "FETCH_SIEVE", sync_get_fetch_sieve, SYNC_ADMIN, ARG_KVLIST, "USERID FILENAME", 0 },
        { "GET", "FULLMAILBOX", sync_get_fullmailbox, SYNC_ADMIN, ARG_TEXT, NULL, 0 },
        { "GET", "MAILBOXES", sync_get_mailboxes, SYNC_ADMIN, ARG_LIST, NULL, 0 },
        { "GET", "META", sync_get_meta, SYNC_ADMIN, ARG_TEXT, NULL, 0 },
        { "GET", "QUOTA", sync_get_quota, SYNC_ADMIN, ARG_TEXT, NULL, 0 },
        { "GET", "UNIQUEIDS", sync_get_uniqueids, SYNC_ADMIN, ARG_LIST, NULL, 0 },
        { "GET", "USER", sync_get_user, SYNC_ADMIN, ARG_TEXT, NULL, 0 },
        { "GET", "X_EPOCH", sync_get_x_epoch, SYNC_ADMIN, ARG_KVLIST, "NUMBER ID MODE", SYNC_OF_ROLES },
        { "RESTORE", "LOCAL_MAILBOX", sync_restore_mailbox, SYNC_ADMIN, ARG_KVLIST, "MBOXNAME", SYNC_RECORDS | SYNC_LOGGED | SYNC_LOCAL },
        { "RESTORE", "MAILBOX", sync_restore_mailbox, SYNC_ADMIN, ARG_KVLIST, "MBOXNAME", SYNC_RECORDS | SYNC_LOGGED },
};
const size_t sync_cmds_n = ARRAY_LEN(sync_cmds);

struct sought { const char *verb; struct span name; };

static int by_name(const void *key, const void *row)
{
        const struct sought *s = key;
        const struct sync_cmd *c = row;
        int order = strcmp(s->verb, c->verb);

        return order ? order : span_icmp(s->name, span_of(c->name));
}

static const struct sync_cmd *find_command(const char *verb, struct span name)
{
        struct sought s = { verb, name };

        return bsearch(&s, sync_cmds, sync_cmds_n, sizeof sync_cmds[0], by_name);
}

/* ---- answers ---- */

static void answer(struct sync_peer *peer, const char *kind, const char *text)
{
        str_clear(&peer->answer);
        str_printf(&peer->answer, "%s %s", kind, text);
        peer->more = false;
}

void sync_ok(struct sync_peer *peer) { answer(peer, "OK", "success"); }
void sync_no(struct sync_peer *peer, const char *code_and_text) { answer(peer, "NO", code_and_text); }
void sync_more(struct sync_peer *peer) { peer->more = true; }

static void log_refused(struct sync_peer *peer, const char *what, const char *mailbox, uint32_t uid, const char *why)
{
        char box[LOG_QUOTE_MAX], text[LOG_QUOTE_MAX], user[LOG_QUOTE_MAX];

        log_event(LOG_NOTE, peer->s->name, "sync.refused", "user=%s command=\"%s %s\" mailbox=%s uid=%" PRIu32 " answer=%s reason=%s",
                  peer->user ? log_quote_str(user, peer->user) : "-", peer->verb, peer->cmd ? peer->cmd->name : "-",
                  mailbox ? log_quote_str(box, mailbox) : "-", uid, what, log_quote_str(text, why));
}

void sync_answer(struct sync_peer *peer, enum replica_code code, const char *mailbox, uint32_t uid, const struct err *err)
{
        const char *text = replica_code_text(code);
        char word[64];

        if (code == REPLICA_OK) {
                sync_ok(peer);
                return;
        }
        snprintf(word, sizeof word, "%.*s", (int)strcspn(text, " "), text);
        log_refused(peer, code == REPLICA_FAILED ? "\"Unknown error\"" : word, mailbox, uid, err->text);
        sync_no(peer, text);
}

void sync_fail(struct sync_peer *peer, const char *mailbox, const struct err *err)
{
        enum replica_code code = err->code == ERR_NOTFOUND ? REPLICA_NONEXISTENT : err->code == ERR_BUSY ? REPLICA_LOCKED :
                                 err->code == ERR_BADNAME || err->code == ERR_SYNTAX ? REPLICA_BAD : REPLICA_FAILED;

        sync_answer(peer, code, mailbox, 0, err);
}

void sync_bad_parameters(struct sync_peer *peer, const char *mailbox, uint32_t uid, const char *why)
{
        struct err err = ERR_INIT;

        err_set(&err, ERR_SYNTAX, "%s", why);
        sync_answer(peer, REPLICA_BAD, mailbox, uid, &err);
}

void sync_lost(struct sync_peer *peer, const char *mailbox, const struct err *err)
{
        sync_answer(peer, REPLICA_FAILED, mailbox, 0, err);
        peer->lost = true;
}

void sync_line(struct sync_peer *peer, struct dlist_writer *w)
{
        str_append(&peer->lines, "* ", 2);
        dlist_writer_init(w, &peer->lines, DLIST_SERVER);
}

static void keep_lines(struct sync_peer *peer)
{
        rope_append_span(&peer->out, str_span(&peer->lines));
        str_clear(&peer->lines);
}

void sync_line_end(struct sync_peer *peer)
{
        str_append(&peer->lines, "\r\n", 2);
        if (peer->lines.len > 65536)
                keep_lines(peer);
}

bool sync_enough(struct sync_peer *peer)
{
        return peer->out.bytes + peer->lines.len > ROPE_HIGH;
}

/* ---- names ---- */

bool sync_name_ok(const char *name)
{
        size_t len = strlen(name);

        for (size_t i = 0; i < len; i++)
                if ((unsigned char)name[i] < ' ' || (unsigned char)name[i] >= 0x7f)
                        return false;
        return len > 0 && len <= MAILNAME_MAX;
}

bool sync_userid_ok(const char *userid)
{
        size_t len = strlen(userid);

        for (size_t i = 0; i < len; i++)
                if ((unsigned char)userid[i] <= ' ' || userid[i] == 0x7f || strchr("/*%\"\\", userid[i]))
                        return false;
        return len > 0 && len <= USERID_MAX && userid[0] != '.' && utf8_valid(span_of(userid));
}

/* ---- what comes with a line ---- */

static int file_begin(void *ctx, struct dlist *file, struct err *err)
{
        struct sync_peer *peer = ctx;

        /* Of the grammar alone a file could stand anywhere; here only messages come so. */
        if (strcmp(peer->verb, "APPLY") != 0)
                return err_set(err, ERR_SYNTAX, "a file where none is expected");
        return sync_staging_begin(peer->staging, file->value, file->guid, file->size, err);
}

static int file_write(void *ctx, const char *p, size_t len, struct err *err)
{
        return sync_staging_write(((struct sync_peer *)ctx)->staging, p, len, err);
}

static int file_end(void *ctx, struct dlist *file, struct err *err)
{
        (void)file;
        return sync_staging_end(((struct sync_peer *)ctx)->staging, err);
}

static bool streams(void *ctx, struct span key)
{
        (void)ctx;
        return span_eq_str(key, "RECORD");
}

static int element(void *ctx, struct span key, const struct dlist *record, struct err *err)
{
        struct sync_peer *peer = ctx;
        int rc = sync_read_record(&peer->records, record, &peer->scratch, err);

        (void)key;
        arena_reset(&peer->scratch);
        if (rc < 0 && err->code == ERR_SYNTAX)
                peer->refusal = replica_code_text(REPLICA_BAD);
        return rc;
}

/* ---- a command ---- */

struct sync_peer *sync_peer_open(const struct sync_peer_params *params)
{
        struct sync_peer *peer = xcalloc(1, sizeof *peer);

        peer->s = params->session;
        peer->conf = conf_ref(params->conf);
        peer->store = engine_store();
        peer->user = params->user ? xstrdup(params->user) : NULL;
        peer->is_admin = params->is_admin;
        peer->staging = sync_staging_create(peer->store, SYNC_STAGED_MAX);
        str_init(&peer->lines);
        str_init(&peer->answer);
        rope_init(&peer->out);
        return peer;
}

static void end_command(struct sync_peer *peer)
{
        if (peer->cleanup)
                peer->cleanup(peer);
        peer->cleanup = NULL;
        sync_staging_abandon(peer->staging);
        dlist_parser_destroy(&peer->parser);
        sync_records_deinit(&peer->records);
        arena_reset(&peer->arena);
        arena_reset(&peer->scratch);
        str_deinit(&peer->lines);
        rope_deinit(&peer->out);
        peer->cmd = NULL;
        peer->item = NULL;
        peer->state = NULL;
        peer->refusal = NULL;
        peer->more = false;
}

void sync_peer_close(struct sync_peer **peerp)
{
        struct sync_peer *peer = *peerp;

        if (!peer)
                return;
        end_command(peer);
        sync_staging_destroy(&peer->staging);
        arena_deinit(&peer->arena);
        arena_deinit(&peer->scratch);
        str_deinit(&peer->answer);
        free(peer->user);
        conf_unref(&peer->conf);
        free(peer);
        *peerp = NULL;
}

void sync_peer_begin(struct sync_peer *peer, const char *verb)
{
        struct dlist_limits limits = DLIST_LIMITS_DEFAULT;
        const struct dlist_hooks hooks = { peer, file_begin, file_write, file_end, streams, element };

        end_command(peer);
        peer->verb = verb;
        peer->lost = false;
        str_clear(&peer->answer);
        if (strcmp(verb, "RESTART") == 0) {
                sync_staging_clear(peer->staging);
                answer(peer, "OK", "Restarting");
                peer->at = PEER_ANSWERED;
                return;
        }
        limits.literal = SIEVE_SCRIPT_MAX;              /* the largest that comes so */
        peer->parser = dlist_parser_create(&peer->arena, &limits, &hooks);
        peer->at = PEER_READING;
}

static void log_done(struct sync_peer *peer)
{
        char user[LOG_QUOTE_MAX], what[LOG_QUOTE_MAX];
        const char *name = NULL;
        static const char *const keys[] = { "MBOXNAME", "OLDMBOXNAME", "ROOT", "USERID" };

        if (!(peer->cmd->flags & SYNC_LOGGED) || peer->answer.data[0] != 'O')
                return;
        (void)dlist_as_text(peer->item, &name);
        for (size_t i = 0; i < ARRAY_LEN(keys) && !name; i++)
                (void)dlist_text(peer->item, keys[i], &name);
        log_event(LOG_NOTE, peer->s->name, "sync.applied", "user=%s command=\"%s %s\" of=%s", peer->user ? log_quote_str(user, peer->user) : "-",
                  peer->verb, peer->cmd->name, name ? log_quote_str(what, name) : "-");
}

/* What changes the store is of our master only (role.h); it is all done before another is, or refused. */
static void run_handler(struct sync_peer *peer)
{
        bool changes = strcmp(peer->verb, "GET") != 0 && !(peer->cmd->flags & SYNC_OF_ROLES);
        struct err err = ERR_INIT;

        if (changes && role_enter(peer->turn, &err) < 0) {
                sync_refuse(peer, &err);
                return;
        }
        peer->cmd->fn(peer);
        if (changes)
                role_leave();
}

/* On a thread that may block. */
static void run_command(void *arg)
{
        struct sync_peer *peer = arg;
        bool apply = strcmp(peer->verb, "APPLY") == 0;          /* what RESTORE does is news for replicas */
        unsigned was = change_mark((apply ? CHANGE_REPLICATED : 0u) | (peer->cmd->flags & SYNC_LOCAL ? CHANGE_LOCAL : 0u));

        run_handler(peer);
        (void)change_mark(was);
        keep_lines(peer);
        if (!peer->more) {
                must(peer->answer.len > 0);
                log_done(peer);
        }
}

static bool keys_are_there(struct sync_peer *peer, char missing[32])
{
        for (const char *key = peer->cmd->keys; key && *key;) {
                size_t n = strcspn(key, " ");

                snprintf(missing, 32, "%.*s", (int)n, key);
                if (!dlist_find(peer->item, missing))
                        return false;
                key += n + (key[n] == ' ');
        }
        return true;
}

static bool argument_fits(const struct sync_peer *peer)
{
        const char *text;

        switch (peer->cmd->arg) {
        case ARG_TEXT: return dlist_as_text(peer->item, &text);
        case ARG_LIST: return peer->item->kind == DLIST_LIST;
        case ARG_KVLIST: return peer->item->kind == DLIST_KVLIST;
        case ARG_NONE:
        case ARG_ANY: break;
        }
        return true;
}

/* What the row says, once for all. False: it was answered. */
static bool check_row(struct sync_peer *peer)
{
        char missing[32] = "", why[80];

        if (!peer->cmd) {
                sync_no(peer, "IMAP_PROTOCOL_ERROR Protocol error");
                return false;
        }
        if (peer->cmd->needs == SYNC_ADMIN && !peer->is_admin) {
                sync_no(peer, "Permission denied");
                return false;
        }
        if (!argument_fits(peer)) {
                sync_bad_parameters(peer, NULL, 0, "the argument is of another kind");
                return false;
        }
        if (!keys_are_there(peer, missing)) {
                const char *mailbox = NULL;

                (void)dlist_text(peer->item, "MBOXNAME", &mailbox);
                snprintf(why, sizeof why, "%s is missing", missing);
                sync_bad_parameters(peer, mailbox, 0, why);
                return false;
        }
        return true;
}

static void begin_running(struct sync_peer *peer)
{
        peer->more = false;
        peer->at = PEER_RUNNING;
        session_offload(peer->s, &peer->job, OFFLOAD_REPLICATION, run_command, peer);
}

static void item_came(struct sync_peer *peer, const struct dlist *item)
{
        peer->item = item;
        peer->cmd = find_command(peer->verb, item->key);
        if (peer->cmd)
                session_set_status(peer->s, NULL, peer->cmd->name);
        if (check_row(peer))
                begin_running(peer);
        else
                peer->at = PEER_ANSWERED;
}

/* The line cannot be used. */
static void line_refused(struct sync_peer *peer, const struct err *err)
{
        bool in_step = dlist_in_step(peer->parser);
        char text[ERR_TEXT_MAX + 64];

        peer->lost = !in_step && dlist_had_octets(peer->parser);
        log_refused(peer, in_step ? "NO" : "BAD", NULL, 0, err->text);
        if (peer->refusal) {
                sync_no(peer, peer->refusal);
        } else if (!in_step || err->code == ERR_SYNTAX) {
                snprintf(text, sizeof text, "IMAP_PROTOCOL_ERROR Failed to parse %s line", peer->verb);
                if (in_step && dlist_had_octets(peer->parser))          /* a message that is not what it is said to be */
                        sync_no(peer, "IMAP_PROTOCOL_ERROR Protocol error");
                else
                        answer(peer, "BAD", text);
        } else if (err->code == ERR_LIMIT) {
                snprintf(text, sizeof text, "IMAP_PROTOCOL_ERROR Protocol error: %s", err->text);
                sync_no(peer, text);
        } else if (err->code == ERR_NOTFOUND) {                         /* the partition */
                sync_no(peer, replica_code_text(REPLICA_BAD));
        } else {
                sync_no(peer, err->code == ERR_NOSPACE ? "IMAP_IOERROR No space left on the replica" : "IMAP_IOERROR System I/O error");
        }
        sync_staging_abandon(peer->staging);
        peer->at = in_step || peer->lost ? PEER_ANSWERED : PEER_SKIPPING;
}

static void read_on(struct sync_peer *peer, struct span in, size_t *used)
{
        struct dlist *item;
        struct err err = ERR_INIT;
        int rc = dlist_parse(peer->parser, in, used, &item, &err);

        if (rc > 0)
                item_came(peer, item);
        else if (rc < 0)
                line_refused(peer, &err);
}

/* Of a line that was out of grammar: the rest. */
static void skip_on(struct sync_peer *peer, struct span in, size_t *used)
{
        size_t n = span_index(in, '\n');

        *used = n < in.len ? n + 1 : n;
        if (n < in.len)
                peer->at = PEER_ANSWERED;
}

enum sync_step sync_peer_run(struct sync_peer *peer, struct span in, size_t *used_r)
{
        *used_r = 0;
        for (;;) {
                struct span rest = { in.p + *used_r, in.len - *used_r };
                size_t used = 0;

                switch (peer->at) {
                case PEER_READING:
                case PEER_SKIPPING:
                        if (rest.len == 0)
                                return SYNC_INPUT;
                        if (peer->at == PEER_READING)
                                read_on(peer, rest, &used);
                        else
                                skip_on(peer, rest, &used);
                        *used_r += used;
                        break;
                case PEER_RUNNING:
                        if (!waiter_is_done(&peer->job.waiter))
                                return SYNC_WAIT;
                        rope_join(&peer->s->out, &peer->out);
                        if (!peer->more) {
                                peer->at = PEER_ANSWERED;
                                break;
                        }
                        if (peer->s->out.bytes > ROPE_HIGH)
                                return SYNC_FLUSH;
                        begin_running(peer);
                        break;
                case PEER_IDLE:
                case PEER_ANSWERED: {
                        bool lost = peer->lost;

                        end_command(peer);
                        peer->at = PEER_IDLE;
                        return lost ? SYNC_LOST : SYNC_DONE;
                }
                }
                if (session_slice_over(peer->s) && peer->at != PEER_ANSWERED)
                        return peer->at == PEER_RUNNING ? SYNC_WAIT : SYNC_AGAIN;
        }
}

struct waiter *sync_peer_waiter(struct sync_peer *peer) { return &peer->job.waiter; }
bool sync_peer_is_away(struct sync_peer *peer) { return peer->at == PEER_RUNNING && !waiter_is_done(&peer->job.waiter); }
const char *sync_peer_reply(struct sync_peer *peer) { return peer->answer.data; }
