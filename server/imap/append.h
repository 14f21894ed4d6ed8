/*
 * append - what APPEND and REPLACE share: the messages of a command, parsed, and made from their pieces (RFC 9051 6.3.12; MULTIAPPEND:
 * RFC 3502; CATENATE: RFC 4469; literal8: RFC 3516 4.4; REPLACE: RFC 8508; ANNOTATION: RFC 5257 4.7).
 *
 * Literals have gone into stages while they came; imap_append_precheck() said beforehand whether they were to be taken.
 */
#ifndef SERVER_IMAP_APPEND_H
#define SERVER_IMAP_APPEND_H

#include "server/imap/annotation.h"
#include "server/imap/copy.h"
#include "server/imap/url_part.h"

#define APPEND_PARTS_MAX 1000                   /* of one CATENATE */

struct append_part {
        struct append_part *next;
        bool is_url;
        uint32_t literal;                       /* TEXT: the number of the streamed literal */
        struct span url;                        /* URL: as the client wrote it */
        struct url_part target;
};

struct append_message {
        struct append_message *next;
        struct append_item item;                /* without the stage */
        struct annotation_set annotations;      /* RFC 5257 4.7; n 0: none */
        bool catenate;
        uint32_t literal;                       /* not CATENATE: the number of the streamed literal */
        struct append_part *parts;              /* CATENATE */
        struct stage *made;                     /* reference: from parts, or encoded */
};

struct append_request {
        struct span number;                     /* REPLACE: the message, "4" or "*" */
        struct span mailbox;
        struct append_message *messages;
        uint32_t messages_n;
        bool wants_piece;                       /* of a command that has not yet come whole: the literal that it ends with is a TEXT of CATENATE */
};

/*
 * Parse what follows the command's name: [SP number] SP mailbox 1*(SP message). `partial`: the text ends where the octets of a literal are
 * announced. 0, or -1 with ip->err fit for the client.
 */
int append_parse(struct imap_parser *ip, bool replace, bool partial, struct append_request *r);

struct append_state {
        struct append_request request;
        struct copy_state target;               /* only where to */
        struct annotation_check check;
        struct append_item *items;              /* append_ready(): messages_n */
        struct append_result result;
        enum { APPEND_CHECK, APPEND_MAKE, APPEND_CALLED, APPEND_OPEN, APPEND_WRITTEN, APPEND_TOLD } phase;
        struct append_job *job;
};

/* Parse all of the command, find the mailbox, look up what URLs name. False: the tagged reply was sent. Sets cmd.state and cleanup. */
bool append_begin(struct imap *imap, bool replace);
/* What annotations they bring is looked at, the messages are made, the mailbox is opened. True: st->items and st->target.to are ready. False:
 * *result_r is to be returned, for now or because the tagged reply was sent. */
bool append_ready(struct imap *imap, struct append_state *st, enum cmd_result *result_r);
/* Before mailbox_append(): where \Seen is kept for each user apart it is taken out of the items. 0, or -1 with err. */
int append_take_seen(struct imap *imap, struct append_state *st, struct err *err);
/* After it, until it returns 0: set it. 1: wait for the command's waiter; -1 with err. */
int append_finish_seen(struct imap *imap, struct append_state *st, struct err *err);
/* The tagged reply when the messages were not appended. */
enum cmd_result append_fail(struct imap *imap, const struct append_state *st, const struct err *err);
/* "APPENDUID validity uids" appended; false: it may not be told (RFC 4315 3). */
bool append_code(const struct append_state *st, struct str *code);

#endif
