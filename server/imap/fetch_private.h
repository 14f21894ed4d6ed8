/* fetch_private - between cmd_fetch.c, fetch_items.c and fetch_section.c. */
#ifndef SERVER_IMAP_FETCH_PRIVATE_H
#define SERVER_IMAP_FETCH_PRIVATE_H

#include "server/imap/fetch.h"
#include "server/imap/selected.h"
#include "util/charset.h"

/* A decoded part, or some fields of a long header, on the way: first all of it is gone through to learn the size, then again to send it. */
struct fetch_binary {
        enum { BINARY_NONE, BINARY_COUNT, BINARY_SEND } phase;
        uint64_t off, len;                      /* the encoded octets, in the message */
        uint64_t at;                            /* of which this many are decoded */
        uint64_t decoded;                       /* octets that came out so far */
        uint64_t first, end;                    /* what is wanted of those */
        bool nul;                               /* there is a NUL in it: literal8 */
        struct transfer transfer;
        struct mime_pick *pick;                 /* fields of a header; else NULL, and `transfer` decodes */
};

#define FETCH_COPY_BELOW 4096                   /* octets of a message that are copied; from there on they go out as an extent */

struct fetch_state {
        struct imap *imap;
        struct fetch_request req;
        struct vanished vanished;               /* told first (RFC 7162 3.2.6) */
        bool tell_vanished;
        struct walk walk;
        unsigned front_want;                    /* FRONT_… that the request needs */
        bool headers_only;                      /* all sections are of the top-level header */
        bool octets_want;                       /* octets of messages are wanted */
        struct flag_text flag_text;
        struct str line;                        /* the reply being built, not yet in the rope */
        struct str scratch;                     /* empty between two sections */

        struct uidset seen;                     /* \Seen was set by this command: their replies carry FLAGS */
        uint32_t seen_upto;                     /* \Seen is settled for UIDs up to here */

        /* The message at hand. While in_message its reply has begun and not ended, and its body is held open. */
        bool in_message;
        bool first;                             /* its reply has not begun yet: there may be nothing to say */
        struct msg msg;
        uint32_t seqno;
        struct extent body;                     /* reference; file NULL: not open */
        struct span octets;                     /* … or all of them, in `window`; p NULL: they are not there */
        struct msg_front front;
        struct front_window window;             /* fronts of the messages around it, and the octets of small ones */
        struct arena arena;                     /* of front */
        struct arena arena_request;             /* of the request, when it is not the command's */
        const struct fetch_section *section;    /* the next to send */
        struct {                                /* before it: annotations */
                const struct annotation_item *item;     /* NULL: all were told */
                unsigned specifier;             /* of the item: the next */
                const char **names;             /* what the message has; arena of front. Read when a wildcard first wants them */
                uint32_t names_n, name;         /* … with a wildcard: the next */
                bool read, begun;
                bool parts_known;               /* front has them */
        } annot;
        struct fetch_binary binary;

        /* what went wrong */
        bool missing, unknown_cte, no_part;
        struct err err;                         /* the first one that is not just a message gone */
};

/*
 * cmd_fetch.c: a FETCH without a command. fetch_init(), fill st->req, fetch_begin() (takes the UIDs over); fetch_step() until it says
 * CMD_DONE (CMD_AGAIN, CMD_FLUSH: call again; CMD_CLOSE: within a literal, there is no way to go on); fetch_release().
 */
void fetch_init(struct imap *imap, struct fetch_state *st);
void fetch_begin(struct fetch_state *st, struct uidset *uids);
enum cmd_result fetch_step(struct imap *imap, struct fetch_state *st);
void fetch_release(struct fetch_state *st);

/* What has been built goes out. */
void fetch_flush(struct imap *imap, struct fetch_state *st);
/* Before each item: the reply's beginning, or a blank. */
void fetch_separate(struct fetch_state *st);
void fetch_note_failure(struct fetch_state *st, const struct err *err);

/* fetch_items.c: append the items that are no sections, each but the first with a blank in front. */
void fetch_put_items(struct imap *imap, struct fetch_state *st, unsigned items);

/* fetch_annot.c: the annotations of the message at hand. CMD_DONE: all; otherwise call again. */
enum cmd_result fetch_put_annotations(struct imap *imap, struct fetch_state *st);

/* fetch_section.c */
enum fetch_result {
        FETCH_SENT,
        FETCH_LEFT_OUT,                         /* it could not be read; noted */
        FETCH_PAUSE,                            /* the slice is over or the rope is full: call again */
        FETCH_BROKEN,                           /* in the midst of a literal: the connection is of no use any more */
};
enum fetch_result fetch_put_section(struct imap *imap, struct fetch_state *st, const struct fetch_section *s);

#endif
