/*
 * pop3_private - the parts of the POP3 server (RFC 1939), seen by server/pop3/ only.
 *   pop3.c        the session: greeting, lines, dispatch through a table, timeouts
 *   pop3_auth.c   USER and PASS, AUTH (RFC 5034), what comes after a log-in
 *   pop3_drop.c   the maildrop: opening, one reader at a time, what is in it, the update at QUIT
 *   pop3_read.c   STAT, LIST, UIDL, DELE and the like; RETR and TOP, streamed
 */
#ifndef SERVER_POP3_PRIVATE_H
#define SERVER_POP3_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/pop3/stuff.h"
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

#define POP3_LINE_MAX           512             /* RFC 2449 4: 255 with CRLF; passwords may be longer */
#define POP3_AUTH_LINE_MAX      16384           /* RFC 5034 4: 12,288 */
#define POP3_BAD_MAX            50              /* refused commands in a row before we hang up */
#define POP3_BAD_MAX_NOT_AUTH   20

enum { POP3_MSG_DELETED = 1, POP3_MSG_SEEN = 2 };       /* DELE; RETR */
struct pop3_msg {
        uint32_t uid, size;
        uint32_t flags;
};

/* What is open: made by a job, then the session's. */
struct pop3_drop {
        const struct mbentry *entry;            /* reference */
        struct mailbox *mbox;                   /* reference */
        bool locked;                            /* nobody else reads it */
        uint32_t rights;                        /* the user's; without popuseacl all */
        uint32_t uidvalidity;
        bool new_uidl;
        struct pop3_msg *msgs;
        uint32_t n;
        uint32_t left;                          /* not deleted */
        uint64_t octets;                        /* of those */
        uint32_t last;                          /* the highest number that was retrieved (LAST) */
};

enum pop3_phase {
        POP3_COMMAND,                           /* between commands */
        POP3_OFFLOADED,                         /* a look-up runs on another thread */
        POP3_AUTH_LINE,                         /* an AUTH exchange: a response line is awaited */
        POP3_PAUSE,                             /* a failure is answered after failedloginpause */
        POP3_TLS_DRAIN, POP3_TLS_HANDSHAKE,
        POP3_LAYER_DRAIN,                       /* then a SASL security layer begins */
        POP3_SENDING,                           /* a message, or a listing */
        POP3_UPDATE,                            /* QUIT waits for the mailbox */
        POP3_CLOSING,
};

struct pop3 {
        struct session *s;
        struct conf *conf;                      /* reference */
        enum pop3_phase phase;
        unsigned told;                          /* WAKE_… that were heard and not yet acted on */
        bool welcomed;
        bool skipping_line;
        unsigned bad;
        char *user;                             /* USER's argument */
        char *folder;                           /* popsubfolders: what stood behind the "+" */

        /* logged in */
        char *userid;
        bool is_admin;
        struct pop3_drop drop;                  /* mbox NULL: not open */
        struct telemetry_slot telemetry;

        /* RETR, TOP, LIST, UIDL: what is being sent */
        bool (*send)(struct pop3 *p);           /* true: all of it is in the rope */
        uint32_t next;                          /* LIST, UIDL: the next message */
        bool with_uid;
        struct pop3_stuff stuff;

        /* the update */
        struct waiter waiter;
        bool waiting, seen_done, expunge_done;
        struct uidset uids;
        struct err update_err;

        /* a look-up or a password check under way */
        struct offload job;
        void (*job_done)(struct pop3 *p);
        struct err err;
        struct sasl_conn *sasl;
        struct sasl_step step;
        bool step_valid;
        char auth_mech[24];
        struct str auth_input;                  /* the client's response; PASS: the password */
        bool auth_has_input, auth_started;
        bool layer;                             /* AUTH negotiated a security layer; sasl is kept for it */
};

static inline struct pop3 *pop3_of(struct session *s) { return s->self; }

/* The commands, and what is asked before the handler is called. */
enum { POP3_BEFORE = 1, POP3_AFTER = 2 };       /* login */
enum pop3_args { POP3_ARGS_NONE, POP3_ARGS_OPTIONAL, POP3_ARGS_NEEDED };
struct pop3_cmd {
        const char *name;
        void (*fn)(struct pop3 *p, struct span args);
        unsigned states;
        enum pop3_args args;
        uint32_t rights;                        /* ACL_… on the mailbox, all of them: with popuseacl */
};
extern const struct pop3_cmd pop3_cmds[];       /* pop3.c */
extern const size_t pop3_cmds_n;

/* pop3.c */
void pop3_ok(struct pop3 *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* `code`: RFC 2449 8, RFC 3206: "IN-USE", NULL none. */
void pop3_err(struct pop3 *p, const char *code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void pop3_offload(struct pop3 *p, enum offload_queue queue, void (*fn)(void *arg), void (*done)(struct pop3 *p));

/* pop3_auth.c */
void pop3_cmd_user(struct pop3 *p, struct span args);
void pop3_cmd_pass(struct pop3 *p, struct span args);
void pop3_cmd_auth(struct pop3 *p, struct span args);
void pop3_auth_response(struct pop3 *p, struct span line);
void pop3_auth_deinit(struct pop3 *p);
bool pop3_plaintext_ok(struct pop3 *p);
const char *pop3_mechanisms(struct pop3 *p);    /* in the arena */

/* pop3_drop.c */
/* The user is known: open his maildrop, then answer. */
void pop3_drop_open(struct pop3 *p);
/* Go on with the update of QUIT. True: done and answered. */
bool pop3_drop_update(struct pop3 *p);
void pop3_drop_close(struct pop3 *p);

/* pop3_read.c */
void pop3_cmd_stat(struct pop3 *p, struct span args);
void pop3_cmd_list(struct pop3 *p, struct span args);
void pop3_cmd_uidl(struct pop3 *p, struct span args);
void pop3_cmd_retr(struct pop3 *p, struct span args);
void pop3_cmd_top(struct pop3 *p, struct span args);
void pop3_cmd_dele(struct pop3 *p, struct span args);
void pop3_cmd_rset(struct pop3 *p, struct span args);
void pop3_cmd_last(struct pop3 *p, struct span args);

#endif
