/*
 * lmtp_private - the parts of the LMTP server (RFC 2033), seen by server/lmtp/ only.
 *   lmtp.c        the session: greeting, lines, dispatch through a table, timeouts
 *   lmtp_data.c   DATA: from octets to a stage, CRLF.CRLF and nothing else at its end
 *   lmtp_rcpt.c   which mailbox a recipient is
 *   lmtp_deliver.c  from the stage into the mailboxes, a status for each recipient
 *   lmtp_ident.c  which message is this? for duplicatesuppression
 */
#ifndef SERVER_LMTP_PRIVATE_H
#define SERVER_LMTP_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "server/acknowledge.h"
#include "server/lmtp/addr.h"
#include "server/lmtp/dots.h"
#include "server/sasl.h"
#include "server/service.h"
#include "server/session.h"
#include "server/telemetry.h"
#include "store/acl.h"
#include "store/duplicate.h"
#include "store/mailbox.h"
#include "store/mailname.h"
#include "store/mboxlist.h"
#include "store/store.h"
#include "store/user.h"

#define LMTP_LINE_MAX           4096            /* one command line; RFC 5321 4.5.3.1.4 asks for 512 and what extensions add */
#define LMTP_AUTH_LINE_MAX      16384           /* RFC 4954 4: 12,288 for AUTH */
#define LMTP_RCPT_MAX           1000            /* recipients of one message; RFC 5321 4.5.3.1.8 asks for 100 */
#define LMTP_BAD_MAX            50              /* refused commands in a row before we hang up */

enum rcpt_state {
        RCPT_BEGIN,                             /* nothing was done yet, or another's delivery of the same has ended: from the start */
        RCPT_LOOK,                              /* probably delivered before: the marks on the disk will tell; the claim is held */
        RCPT_WAITING,                           /* for another's delivery of the same; the waiter is out */
        RCPT_APPENDING,                         /* the waiter is out */
        RCPT_SETTLED,                           /* a status is known: err */
};

struct lmtp_rcpt {
        char *address;                          /* as given, for replies and logs */
        char *mailbox;                          /* internal name */
        const struct mbentry *entry;            /* reference */
        struct mailbox *mbox;                   /* reference, during delivery */
        int same_as;                            /* index of an earlier recipient with the same mailbox, -1: none */
        enum rcpt_state state;
        bool claimed;                           /* the claim is held: delivered or dropped is to be said */
        bool duplicate;                         /* suppressed: it was delivered before */
        bool ignore_quota;                      /* RCPT TO … IGNOREQUOTA */
        struct waiter waiter;
        struct duplicate_claim claim;
        struct append_item item;                /* what is appended */
        struct append_result result;
        struct acknowledge *acknowledge;        /* waits for a replica */
        struct err err;
};

enum lmtp_phase {
        LMTP_COMMAND,                           /* between commands */
        LMTP_OFFLOADED,                         /* a command's look-up runs on another thread */
        LMTP_AUTH,                              /* an AUTH exchange: a response line is awaited */
        LMTP_AUTH_PAUSE,                        /* a failure is answered after failedloginpause */
        LMTP_TLS_DRAIN, LMTP_TLS_HANDSHAKE,
        LMTP_DATA,                              /* the message's octets are coming */
        LMTP_DELIVER,
        LMTP_ACKNOWLEDGE,                       /* delivered: a synchronous replica is waited for */
        LMTP_CLOSING,
};

struct lmtp {
        struct session *s;
        struct conf *conf;                      /* reference */
        struct namespace *ns;
        enum lmtp_phase phase;
        unsigned told;                          /* WAKE_STOP, WAKE_TIMEOUT, WAKE_TIMER that were heard and not yet acted on */
        bool welcomed;                          /* the 220 was sent */
        bool greeted;                           /* LHLO was given */
        bool utf8;                              /* SMTPUTF8 for this message */
        bool authenticated;                     /* AUTH done, or no need */
        bool preauthorized;                     /* no need */
        bool external_waiting, external_done;   /* … and AUTH EXTERNAL was said all the same */
        bool skipping_line;                     /* the rest of an over-long line is thrown away */
        unsigned bad;
        char *helo;

        /* the transaction */
        bool have_from;
        char *from;                             /* return path, "" for <> */
        char *sender, **sender_groups;          /* whose rights to post count: MAIL's AUTH=; NULL: nobody's */
        uint64_t announced;                     /* octets, from SIZE=; 0: not said */
        struct lmtp_rcpt *rcpts;
        unsigned rcpts_n, rcpts_cap;
        struct stage *stage;
        struct dots dots;
        uint64_t data_bytes, size_max;          /* size_max 0: no limit */
        bool in_header, munge8bit, reject8bit;
        unsigned header_lines, header_lines_max, header_column;
        uint64_t header_bytes;                  /* so far, with our own two fields */
        struct err data_err;                    /* why the message will be refused for all */
        char id[40];                            /* the message's id in logs and Received */
        unsigned messages;                      /* counter for ids */
        unsigned open_next;                     /* delivery: recipients whose mailbox is still to be opened from here */
        bool staged;                            /* stage_finish() was done */
        bool called;                            /* annotation_callout was asked */
        bool delivery_started;
        bool asked;                             /* acknowledge_begin() was */
        bool suppress;                          /* duplicatesuppression, and there is a message id */
        char *message_id, *message_date;        /* as in the header, without folds; NULL: none */

        /* a look-up or a password check under way */
        struct offload job;
        void (*job_done)(struct lmtp *l);       /* on the worker, when it is done */
        struct {                                /* RCPT; strings in the session's arena */
                const char *address, *userid;
                struct span detail;
                bool ignore_quota;
                int rc;
                const struct mbentry *inbox, *found;    /* references; of a fuzzy match */
                const char *wanted;                     /* the name that it is to be near to */
                struct err err;
        } lookup;
        struct sasl_conn *sasl;
        struct sasl_step step;
        bool step_valid;
        struct telemetry_slot telemetry;
        char auth_mech[24];
        struct str auth_input;                  /* decoded response of the client */
        bool auth_has_input, auth_started;
};

static inline struct lmtp *lmtp_of(struct session *s) { return s->self; }

/* The commands, and what is asked before the handler is called. */
enum {
        LMTP_GREETED = 1u << 0,                 /* after LHLO: 503 */
        LMTP_TRUSTED = 1u << 1,                 /* on a Unix socket, with lmtpd -a, or after AUTH of one of the service's admins: 530 */
};
struct lmtp_cmd {
        const char *name;
        void (*fn)(struct lmtp *l, struct span args);
        unsigned needs;
};
extern const struct lmtp_cmd lmtp_cmds[];       /* lmtp.c */
extern const size_t lmtp_cmds_n;

/* lmtp.c */
void lmtp_reply(struct lmtp *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));   /* one line, CRLF added */
void lmtp_reset(struct lmtp *l);                                        /* RSET: the transaction is forgotten */
enum lmtp_8bit lmtp_plain_8bit(struct lmtp *l);                         /* lmtp_strict_rfc2821: how to read addresses without SMTPUTF8 */
/* Run fn(l) on a thread that may block, then done(l) on a worker. */
void lmtp_offload(struct lmtp *l, enum offload_queue queue, void (*fn)(void *arg), void (*done)(struct lmtp *l));

/* lmtp_rcpt.c: RCPT. Answers at once, or after a look-up. */
void lmtp_cmd_rcpt(struct lmtp *l, struct span args);

/* lmtp_data.c */
int lmtp_data_begin(struct lmtp *l, struct err *err);
/* Take octets from `in`; true when CRLF.CRLF was seen (what follows it stays in `in`). */
bool lmtp_data_feed(struct lmtp *l, struct str *in);

/* lmtp_ident.c: l->message_id and l->message_date, from the finished stage. */
void lmtp_identify(struct lmtp *l);

/* lmtp_deliver.c */
/* "552 5.2.2 Over quota", or 452 4.2.2: lmtp_over_quota_perm_failure. */
const char *lmtp_over_quota(struct lmtp *l);
/* Start or go on; true when it is known for every recipient what has become of it. */
bool lmtp_deliver(struct lmtp *l);
/* … and then: true when every recipient has been answered. */
bool lmtp_acknowledge(struct lmtp *l);

/* lmtp_auth.c */
void lmtp_cmd_auth(struct lmtp *l, struct span args);
void lmtp_auth_response(struct lmtp *l, struct span line);
void lmtp_auth_deinit(struct lmtp *l);
const char *lmtp_auth_mechanisms(struct lmtp *l);       /* in the arena; "" when AUTH is not to be offered */

#endif
