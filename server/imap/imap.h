/*
 * imap - one IMAP session (RFC 9051, RFC 3501): its state, the command table's row, and what commands share.
 *
 * A session gathers a whole command – lines and literals; APPEND's message literals go straight into a stage – then the dispatcher
 * looks the command up, checks state, permissions and pipelining from its table row, and calls the handler until it says
 * CMD_DONE. A handler parses all its arguments into a struct in the session's arena, acts, replies, in that order. It never blocks:
 * it returns CMD_AGAIN, CMD_WAIT, CMD_FLUSH and finds its place again in imap->cmd.state (arena memory, NULL at the first call).
 */
#ifndef SERVER_IMAP_IMAP_H
#define SERVER_IMAP_IMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "server/acknowledge.h"
#include "server/imap/parse.h"
#include "server/sasl.h"
#include "server/service.h"
#include "server/session.h"
#include "server/telemetry.h"
#include "store/acl.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/store.h"
#include "store/user.h"
#include "util/progress.h"

struct imap;
struct search_context;
struct search_filters;

enum cmd_result {
        CMD_DONE,               /* the tagged reply was sent (imap_ok/no/bad) */
        CMD_AGAIN,              /* the slice is over */
        CMD_WAIT,               /* for a waiter or an offload: call again when the session is woken */
        CMD_FLUSH,              /* rope over ROPE_HIGH: call again when it has drained */
        CMD_CONTINUE,           /* more input for this command is wanted (AUTHENTICATE, IDLE): it is called with imap->cmd.line */
        CMD_TLS,                /* STARTTLS: after the reply is sent the handshake begins */
        CMD_CLOSE,              /* LOGOUT, or no way to go on */
        CMD_INPUT,              /* CMD_RAW: all octets there are were taken; call again when there are more */
};

enum imap_state { IMAP_NOT_AUTH = 1, IMAP_AUTH = 2, IMAP_SELECTED = 4 };        /* bits, for the table */
enum {
        S_ANY = IMAP_NOT_AUTH | IMAP_AUTH | IMAP_SELECTED,
        S_NOT_AUTH = IMAP_NOT_AUTH,
        S_AUTH = IMAP_AUTH | IMAP_SELECTED,
        S_SELECTED = IMAP_SELECTED,
};

enum imap_cmd_flags {
        CMD_UID_FORM    = 1u << 0,      /* exists as UID x too; imap->cmd.uid tells */
        CMD_SEQNO       = 1u << 1,      /* works with sequence numbers: no expunge may be announced during or after it (RFC 9051 7.5.1) –
                                         * unless it came in its UID form */
        CMD_POLL        = 1u << 2,      /* pending news of the selected mailbox is announced before its tagged reply (default for all in
                                         * selected state; expunges as CMD_SEQNO says) – set on all but those that manage it themselves */
        CMD_WRITES      = 1u << 3,      /* needs a mailbox that is not read-only (EXAMINE → NO) */
        CMD_LITERAL_STREAM = 1u << 4,   /* APPEND, REPLACE: message literals go to a stage */
        CMD_NO_LITERALS = 1u << 5,
        CMD_ADMIN       = 1u << 6,      /* for `admins` only: anyone else gets NO [NOPERM] */
        CMD_LOGGED      = 1u << 7,      /* audit line */
        CMD_SLOW_ON_FAIL = 1u << 8,     /* a failure is answered after failedloginpause */
        CMD_UNADVERTISED = 1u << 9,
        CMD_TRYCREATE   = 1u << 10,     /* a named mailbox that is not there is answered with [TRYCREATE] to who may make it (`above`) */
        CMD_ADMIN_ONLY  = 1u << 12,     /* as CMD_ADMIN, but to anyone else there is no such command: BAD */
        CMD_RAW         = 1u << 13,     /* its arguments are not IMAP's: the handler takes them off the input itself (sync.h) */
        CMD_ADMIN_EXEMPT = 1u << 11,    /* `admins` need no rights on named mailboxes for it */
        CMD_CHANGES     = 1u << 14,     /* changes mail or names: its OK waits for a synchronous replica (server/acknowledge.h) */
};

/*
 * A command, and what it needs. Rights are ACL_… (RFC 4314 4, and section "ACL" of the extensions' RFCs). The dispatcher asks for `selected`
 * before the handler is called; imap_find_mailbox() and imap_allows() for those on mailboxes that the arguments name; imap_may_create() for
 * `above`. What depends on more than the mailbox – which flags STORE sets, whose quota root it is – the handler looks at itself.
 */
struct imap_cmd {
        const char *name;
        enum cmd_result (*fn)(struct imap *imap);
        unsigned states;
        struct imap_needs {
                uint32_t selected;              /* on the selected mailbox: all of these … */
                uint32_t selected_any;          /* … and at least one of these, unless 0 */
                uint32_t named;                 /* on each mailbox that is named: all of these … */
                uint32_t any;                   /* … and at least one of these, unless 0 */
                uint32_t above;                 /* all of these on the nearest mailbox above one that is not there yet */
        } needs;
        unsigned flags;
};
extern const struct imap_cmd imap_cmds[];       /* cmd.c, sorted by name */
extern const size_t imap_cmds_n;

/* What is selected. Owned by select.c; every command of the selected state may read it. */
struct imap_selected {
        struct mailbox *mbox;                   /* reference */
        const struct mbentry *entry;            /* reference, as of SELECT or the last look (imap_selected_refresh()) */
        struct view *view;                      /* what this client has been told: EXISTS and EXPUNGE refer to it */
        struct mailbox_watch watch;             /* only while `watching`: in IDLE */
        bool watching;
        bool readonly;                          /* EXAMINE, or no right to change anything */
        bool examined;                          /* by EXAMINE */
        bool vanished;                          /* the mailbox was deleted under us: it looks empty and takes nothing */
        bool revoked;                           /* the r right was taken away: vanished too, for this user */
        uint32_t rights;                        /* ACL_… effective */
        uint32_t flag_rights_told;              /* those of them that PERMANENTFLAGS was about when it was sent last */
        bool readonly_told;                     /* and `readonly` then */
        uint32_t keywords_told;                 /* mailbox_keyword_generation() when FLAGS was sent last */
        uint64_t told_modseq;                   /* flag changes up to here have been announced */
        uint64_t complete_modseq;               /* and expunges too: what HIGHESTMODSEQ may say (RFC 7162 3.2) */
        bool annotate;                          /* SELECT … (ANNOTATE): changes of messages' annotations are told (RFC 5257 4.2) */
        bool delayed;                           /* expunges are known that could not be announced yet */
        uint64_t poll_upto;                     /* a round of announcing (told_modseq, poll_upto] that stopped at ROPE_HIGH; 0: none */
        uint32_t poll_uid;                      /* … it goes on here */
        struct uidset recent;                   /* UIDs that are \Recent in this session (IMAP4rev1) */
        struct uidset silent;                   /* own changes that the client knows of: UIDs … */
        uint64_t silent_modseq;                 /* … unless changed again above this modseq */
        struct seen *seen;                      /* this user's \Seen (seen.h), reference; NULL: it is the message's flag */
        uint64_t reader;                        /* mailbox_reader_id() of the user */
        struct search_context *contexts;        /* searches that are kept up to date (search_context.h) */
        struct uidset own;                      /* own arrivals, not yet told */
        unsigned key_slot;                      /* urlkey_slot() of this user's key … */
        uint32_t key_resets;                    /* … and urlkey_resets(), as far as the client knows */
        struct uidset saved;                    /* SEARCHRES `$` (RFC 5182): UIDs; those that are gone are ignored */
};

/* The command at hand. Everything is in session->arena or borrowed from the gathered buffer and lives until CMD_DONE. */
struct imap_command {
        const struct imap_cmd *cmd;
        struct span tag, name;
        bool uid;                               /* UID form */
        bool seqnos;                            /* UID SEARCH with sequence numbers in it: no expunges (RFC 7162 3.2.10.2) */
        bool said_inbox;                        /* a mailbox was called INBOX; replies to an admin, who sees user/admin, say so too */
        struct span given;                      /* the name that imap_arg_mailbox() read last, as the client wrote it */
        struct span said;                       /* with virtual domains: what an admin called … */
        const char *said_internal;              /* … this mailbox, perhaps without its domain: so do replies (cyradm looks for it) */
        struct imap_parser args;                /* after the command's name: the space comes first */
        const char *own_names[2];               /* mailboxes whose names or subscriptions it changes, for NOTIFY; arena */
        struct span line;                       /* CMD_CONTINUE: the line that came (without CRLF) */
        void *state;                            /* the handler's own, arena; NULL at the first call */
        struct waiter waiter;                   /* for the handler */
        struct offload offload;                 /* for the handler */
        bool waiting;                           /* waiter or offload is out */
        bool changed;                           /* set by a handler without CMD_CHANGES that has changed something all the same */
        const char *named[2];                   /* mailboxes that it is about: imap_note_named() */
        const char *selected;                   /* CMD_CHANGES, when acknowledge_on(): what was selected; arena */
        bool asked;                             /* acknowledge_begin() was */
        struct acknowledge *acknowledge;        /* waits for a replica */
        uint64_t started_us;
        struct progress progress;               /* how far it is, if it knows: progress.c */
        uint64_t told_us;                       /* when that was last told, 0: not yet */
        bool line_begun;                        /* it waits with an untagged line begun: nothing may be told */
        const struct search_filters *filters;   /* search_filter.c: what FILTER may name; NULL: the command has no such key */
        void (*cleanup)(struct imap *imap);     /* called when the command ends, however (also when the session dies): files, references */
};

struct imap {
        struct session *s;                      /* imap->s->self == imap */
        struct store *store;
        struct conf *conf;                      /* reference: the snapshot of login time */
        enum imap_state state;

        /* who */
        char *userid;                           /* canonical; NULL before login */
        char *authid;
        bool is_admin, is_proxy;
        struct namespace *ns;
        struct sasl_conn *sasl;                 /* only during AUTHENTICATE and LOGIN, and under a security layer */

        /* ENABLEd (RFC 5161) */
        bool rev2;                              /* IMAP4rev2: names in UTF-8, ESEARCH instead of SEARCH, no \Recent … (RFC 9051 A) */
        bool utf8;                              /* UTF8=ACCEPT (RFC 9755) */
        bool condstore, qresync;
        bool uidonly;                           /* RFC 9586: no message numbers either way */
        bool cyrus_quota_names;                 /* SETQUOTA named X-NUM-FOLDERS …: so QUOTA does as well */

        struct imap_selected *sel;              /* NULL: nothing selected */
        struct imap_command cmd;
        struct imap_gather *gather;             /* parse.h: the command being received; NULL between commands */
        bool idling;                            /* in IDLE */
        struct notify *notify;                  /* notify.h; NULL: NOTIFY was never given */
        struct notify_open *notify_open;
        unsigned bad_commands;                  /* in a row; too many: BYE */
        struct sync_peer *sync;                 /* sync.h; NULL: no SYNC… command was given */
        struct telemetry_slot telemetry;

        uint32_t owner_rights;                  /* implicit_owner_rights as bits */
        char **groups;                          /* of the user, NULL-terminated, for ACLs; NULL: none */

        struct imap_loop *loop;                 /* imap_private.h: where the run loop is */
};

/* How this client names mailboxes now. */
struct namer imap_namer(const struct imap *imap);
/* cyrus.conf's name of the service, for per-service options. */
const char *imap_service(const struct imap *imap);

static inline struct imap *imap_of(struct session *s) { return s->self; }

/* ---- replies: reply.c ---- */

/* Tagged. `code` with brackets' content ("TRYCREATE"), NULL none; fmt is client-visible text in plain ASCII. All return CMD_DONE. */
enum cmd_result imap_ok(struct imap *imap, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
enum cmd_result imap_no(struct imap *imap, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
enum cmd_result imap_bad(struct imap *imap, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A store's error → NO/BAD with the response code of RFC 5530 for err->code; logs what an operator should know, once. */
enum cmd_result imap_fail(struct imap *imap, const struct err *err);
/* Untagged: "* " fmt CRLF. */
void imap_untagged(struct imap *imap, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Append to the output: quoted string if possible, else a literal; as the grammar's astring (atom where possible), nstring (p NULL: NIL). */
void imap_put_string(struct imap *imap, struct span s);
void imap_put_astring(struct imap *imap, struct span s);
void imap_put_nstring(struct imap *imap, struct span s);
/* The same to a string: astring; nstring, or literal8 where there are NULs. `utf8`: the client takes UTF-8 in quotes. */
void imap_append_astring(struct str *out, struct span s, bool utf8);
void imap_append_nstring8(struct str *out, struct span s, bool utf8);
void imap_put_mailbox(struct imap *imap, const char *internal);         /* as this client names it, astring */
/* Has the client called the mailbox otherwise than it is called (RFC 9051 5.1), and is it one that wants to hear of it: IMAP4rev2? */
bool imap_normalised(struct imap *imap, const char *internal, struct span given);
/* A LIST line, with OLDNAME (RFC 9051 6.3.9.7) unless former.p is NULL. */
void imap_put_list_oldname(struct imap *imap, const char *attributes, const char *internal, struct span former);
void imap_put(struct imap *imap, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void imap_put_span(struct imap *imap, struct span s);

/* ---- shared by commands: mbox.c ---- */

/* The command at hand is about this mailbox; in the arena. imap_arg_mailbox() says so itself. */
void imap_note_named(struct imap *imap, const char *internal);
/* Parse a mailbox argument to an internal name. false: the tagged reply was sent (BAD for syntax, NO [CANNOT] for names out of rule). */
bool imap_arg_mailbox(struct imap *imap, const char **internal_r);
/* The user's effective rights on an entry (owner, admin, groups considered). */
uint32_t imap_rights(struct imap *imap, const struct mbentry *entry);
/* The entry and the rights without any reply; NULL, rights 0: not there, no mailbox (an intermediate name), or hidden from this user. */
const struct mbentry *imap_look_up(struct imap *imap, const char *internal, uint32_t *rights_r);
/* Names that this user must not see whatever their ACL says: those of other domains, deleted ones, namespaces that are switched off. */
bool imap_name_hidden(struct imap *imap, const char *internal);
bool imap_name_hidden_from(struct imap *imap, const char *internal, const char *userid, bool is_admin);
/* May this user create a mailbox of this name: has he the command's `above` on the nearest one above it (RFC 4314 4), or is he an admin? */
bool imap_may_create(struct imap *imap, const char *internal);
/* The tagged reply when making it, or renaming to it, has failed. A name that is taken by what may not be looked up is as one without permission: in
 * Cyrus's words; that it cannot be had is not to be hidden from who may make others beside it. */
enum cmd_result imap_create_failed(struct imap *imap, const char *internal, const struct err *err);
/* Do these rights on a named mailbox do for the command at hand? */
bool imap_allows(const struct imap *imap, uint32_t rights);
/*
 * The tagged NO for a named mailbox on which the user has `rights`, and these do not do: [NOPERM] when he may look it up, else
 * [NONEXISTENT] or [TRYCREATE], as for one that is not there: the two cannot be told apart.
 */
enum cmd_result imap_refuse_mailbox(struct imap *imap, const char *internal, uint32_t rights);
/* Its response code and text, without a reply. */
const char *imap_refusal(struct imap *imap, const char *internal, uint32_t rights, const char **text_r);
/* Find a mailbox on which the user may do what the command at hand does. NULL: the tagged reply was sent. */
const struct mbentry *imap_find_mailbox(struct imap *imap, const char *internal, uint32_t *rights_r);
/*
 * Open the mailbox of an entry: 1 opened, 0 not yet (an offload was started: return CMD_WAIT and call again with the same `open`),
 * -1 err is filled.
 */
struct imap_open {
        bool started;
        struct mailbox_ident ident;
        struct mailbox *mbox;
        struct err err;
        int rc;
        const struct mbentry *entry;            /* reference while started */
        struct store *store;
};
int imap_open_mailbox(struct imap *imap, struct imap_open *open, const struct mbentry *entry, struct mailbox **mbox_r, struct err *err);
/* The call that may block: arg is a struct imap_open with ident, entry and store. */
void imap_open_job(void *open);
/* In a handler's cleanup: release what an imap_open still holds (the mailbox was opened but never taken over). */
void imap_open_release(struct imap_open *open);
/* Run fn(arg) off the worker: the handler returns imap_offload(); called again when imap->cmd.waiting is false. */
enum cmd_result imap_offload(struct imap *imap, enum offload_queue queue, void (*fn)(void *arg), void *arg);
/* The command's waiter, ready to hand to the store. After the store took it on: imap->cmd.waiting = true, return CMD_WAIT; called again
 * when it is done (result in imap->cmd.waiter.err). When the store refused: imap_waiter_cancel(). */
struct waiter *imap_waiter(struct imap *imap);
void imap_waiter_cancel(struct imap *imap);

/*
 * ---- message literals of APPEND and REPLACE, streamed (RFC 9051 6.3.12) ----
 * The loop (imap.c) writes them into stages as the octets come; in the arguments they stand as {#k}: imap_streamed_literal() of
 * parse.h reads k. The stage is finished; borrowed until the command ends; NULL: the client made that number up.
 */
struct stage *imap_streamed_stage(struct imap *imap, uint32_t k);

/* Asked before a message literal is taken (and for synchronising ones before "+ " is sent): append.c. */
struct append_check {
        const char *partition_dir;              /* true: where to stage it; lives as long as the command's arena or the store */
        bool piece;                             /* true: a TEXT of CATENATE, not a message */
        bool bad;                               /* false: tagged BAD instead of NO */
        const char *code;                       /* false: response code or NULL, "TRYCREATE" */
        const char *text;                       /* false: for the client */
};
/*
 *   args           what stands between the tag and the literal: "APPEND INBOX (\Seen) ", or "APPEND {5}\r\nINBOX {#0} (" for a later one
 *   literal_bytes  what was announced; maxmessagesize has been checked by the caller
 * Only from memory: the mailbox list, no waiting. The whole command is parsed and checked again when it is complete.
 */
bool imap_append_precheck(struct imap *imap, struct span args, uint64_t literal_bytes, struct append_check *check_r);

/* ---- the selected mailbox: select.c (owner: imapb) ---- */

void imap_unselect(struct imap *imap);          /* releases everything; no reply */
/* Announce news: expunges (or VANISHED) only when `may_expunge`, EXISTS, RECENT (rev1), new keywords in FLAGS, FETCH FLAGS (and MODSEQ,
 * UID when condstore/qresync/rev2 wants it). Bounded: may stop at ROPE_HIGH; returns true when there is nothing more to tell. */
bool imap_poll(struct imap *imap, bool may_expunge);
/* The mailbox is gone and `disconnect_on_vanished_mailbox` says that such a client is to be disconnected: after a command, or in IDLE,
 * the dispatcher sends BYE and closes. */
bool imap_selected_lost(struct imap *imap);
/* A CONDSTORE enabling command was seen (RFC 7162 3.1): switch it on for the session; with a mailbox selected for the first time says
 * HIGHESTMODSEQ. */
void imap_enable_condstore(struct imap *imap);
/* What an IDLE session does at WAKE_NEWS: announce, and coalesce. As cmd_idle() with cmd.line.p == NULL. */

/* ---- capabilities: capability.c ---- */
/* "IMAP4rev1 IMAP4rev2 …" for the present state: only what works. `asked`, by a client: before login, too, what there will be after it. */
void imap_put_capabilities(struct imap *imap, bool asked);

/* Log-in is complete: state, motd, telemetry, autocreate, CAPABILITY in the reply code. login.c */
void imap_enter_authenticated(struct imap *imap, struct sasl_step *step);

#endif
