/*
 * search - a SEARCH program and its evaluation (RFC 9051 6.4.4, RFC 5032, RFC 7162 3.1.5, RFC 8474, RFC 8514).
 *
 * The program is a tree of keys in an arena, made by the IMAP parser and not changed after search_program_finish(); sessions may share
 * it. An evaluator belongs to one session. For each message the cheap keys are decided first from the struct search_message; only
 * when they leave the answer open is the message read, the header first, then the text parts, decoded, all needles at once, and only
 * until the answer is known. search_step() returns after a bounded number of octets and goes on later.
 *
 * Matching is substring search in i;unicode-casemap. Headers are matched with RFC 2047 words decoded and folds removed. BODY looks
 * into the text parts (text of every subtype, also in embedded messages); TEXT into those and every header block, parts' and embedded
 * messages' included. An empty string matches everything (of HEADER, FROM …: every message that has the field).
 */
#ifndef STORE_SEARCH_H
#define STORE_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "store/mime.h"
#include "util/arena.h"
#include "util/err.h"
#include "util/str.h"

#define SEARCH_KEYS_MAX         2000            /* in one program */
#define SEARCH_DEPTH_MAX        64
#define SEARCH_NEEDLE_MAX       8192            /* octets in canonical form */
#define SEARCH_NEEDLES_MAX      256             /* different ones in a program */
#define SEARCH_ANNOTATIONS_MAX  32              /* SEARCH_ANNOTATION keys in a program */

enum search_op {
        SEARCH_ALL,
        SEARCH_AND,                             /* of `list`; empty: true */
        SEARCH_OR,                              /* of `list`; empty: false */
        SEARCH_NOT,                             /* of list */
        SEARCH_SEQSET,                          /* seqno in `set` */
        SEARCH_UIDSET,                          /* uid in `set` */
        SEARCH_FLAGS,                           /* all bits of `flags` are set in the message's flags */
        SEARCH_KEYWORD,                         /* `text` is a keyword of the message */
        SEARCH_BEFORE, SEARCH_ON, SEARCH_SINCE,                         /* internal date, `day` */
        SEARCH_SENTBEFORE, SEARCH_SENTON, SEARCH_SENTSINCE,             /* Date: as written, without its zone, `day` */
        SEARCH_SAVEDBEFORE, SEARCH_SAVEDON, SEARCH_SAVEDSINCE,          /* RFC 8514, `day` */
        SEARCH_LARGER, SEARCH_SMALLER,          /* `number` octets */
        SEARCH_MODSEQ,                          /* modseq >= `number` */
        SEARCH_OLDER, SEARCH_YOUNGER,           /* internal date is `number` seconds ago or longer; within the last `number` seconds */
        SEARCH_EMAILID, SEARCH_THREADID,        /* equal to `text` */
        SEARCH_ANNOTATION,                      /* RFC 5257 4.8: of entries like `field` a value contains `text`; text.p NULL: there is none */
        SEARCH_HEADER,                          /* field `field` contains `text`; FROM, TO, CC, BCC and SUBJECT are HEADER too */
        SEARCH_BODY,
        SEARCH_TEXT,
        SEARCH_OP_MAX
};

struct uidset;                                  /* store/uidset.h */

struct search_key {
        enum search_op op;
        struct search_key *next;                /* in the parent's list */
        struct search_key *list;                /* children of AND, OR, NOT (NOT: none of them, so NOT of the AND) */
        const struct uidset *set;               /* the caller keeps it for the program's life */
        uint32_t flags;                         /* SEARCH_ANNOTATION: SEARCH_SHARED, SEARCH_PRIVATE: which values */
        int64_t day;                            /* days since 1970-01-01, see clock_days_from_civil() */
        uint64_t number;
        struct span field;
        struct span text;                       /* HEADER, BODY, TEXT, ANNOTATION: UTF-8 */
        struct search_key *last;                /* of `list` */
        /* Set by search_program_finish(). */
        unsigned index;
        int needle;                             /* -1: none, or it is empty */
};

enum { SEARCH_SHARED = 1, SEARCH_PRIVATE = 2 };

struct search_program {
        struct arena *arena;
        struct search_key *root;
        unsigned keys_n;
        unsigned annotations_n;                 /* SEARCH_ANNOTATION keys */
        bool uses_modseq;                       /* there is a MODSEQ key: the answer carries the highest modseq (RFC 7162 3.1.5) */
        bool uses_seqnos;                       /* there are sequence numbers in it */
        bool uses_content;                      /* there are keys that may need the message's octets */
        int64_t now_s;                          /* for OLDER and YOUNGER: set by search_program_create(), may be changed */
        struct search_key **by_index;           /* keys_n of them, parents before children */
        struct span *needles;                   /* the different strings of HEADER, BODY and TEXT, in canonical form */
        unsigned needles_n;
        size_t needle_max;                      /* octets of the longest */
};

/* A new program whose root is AND. Everything it owns lives in the arena. */
struct search_program *search_program_create(struct arena *arena);
/* Append a new key to a parent's list (the parent is AND, OR or NOT; NULL: the root) and return it, to be filled. NULL with ERR_LIMIT above SEARCH_KEYS_MAX. The strings given later are
 * borrowed until the arena is reset. */
struct search_key *search_key_add(struct search_program *p, struct search_key *parent, enum search_op op, struct err *err);
/* Convert a string key's argument to UTF-8 in the arena. -1 with ERR_CHARSET when the charset is unknown (BADCHARSET). */
int search_text_convert(struct search_program *p, struct span charset, struct span in, struct span *out_r, struct err *err);
/* The tree is complete: check the bounds, prepare the needles. -1 with ERR_LIMIT. */
int search_program_finish(struct search_program *p, struct err *err);

/* What the evaluator must know about a message. Spans are borrowed until the next search_begin() or the end. */
struct search_message {
        uint32_t uid, seqno;
        uint32_t flags;                         /* the same bits that the builder put into search_key.flags */
        uint64_t modseq;
        uint64_t size;                          /* RFC822.SIZE */
        int64_t internaldate;                   /* Unix seconds */
        int64_t savedate;
        bool has_savedate;                      /* else the internal date stands in (RFC 8514 4.1) */
        bool has_sentdate;
        int64_t sentdate;                       /* Unix seconds; the header is only read when the zone matters */
        struct span emailid, threadid;
        const struct mime_part *parts;          /* from the record; need not be aligned */
        size_t parts_n;
        void *ctx;                              /* for the callbacks */
        bool (*has_keyword)(void *ctx, struct span keyword);            /* may be NULL */
        /* Is SEARCH_ANNOTATION's answer yes? `needle`: the key's text in canonical form. May be NULL. */
        bool (*has_annotation)(void *ctx, const struct search_key *key, struct span needle);
        /* Read exactly `len` octets of the message at `offset`. -1 with err ends the message's evaluation. */
        int (*read)(void *ctx, uint64_t offset, void *buf, size_t len, struct err *err);
        /* When set, tried first: a pointer to the octets, which must stay until the next call; NULL: use read(). */
        const char *(*peek)(void *ctx, uint64_t offset, size_t len);
};

enum search_result { SEARCH_NO, SEARCH_YES, SEARCH_MORE, SEARCH_ERROR };

/* An evaluator holds buffers of some 50 KiB plus the longest needle while it reads, in contrived text (each character decomposes to many) up
 * to 400 KiB; search_eval_idle() gives back all but what the message being read needs. */
struct search_eval;
struct search_eval *search_eval_create(const struct search_program *p);
void search_eval_destroy(struct search_eval **e);
void search_eval_idle(struct search_eval *e);           /* between messages or between steps */

/* Begin with a message; *msg is copied. Returns SEARCH_YES or SEARCH_NO when the cheap keys decide, else SEARCH_MORE. */
enum search_result search_begin(struct search_eval *e, const struct search_message *msg);
/* Go on: look at about *budget octets at most, and take what was used off it (at least 1; many needles count more for an octet).
 * SEARCH_MORE: call again later. The callbacks are those of search_begin(). */
enum search_result search_step(struct search_eval *e, uint64_t *budget, struct err *err);
/* Another ctx for the callbacks, when the session had to give its references back between steps. */
void search_set_ctx(struct search_eval *e, void *ctx);
/* Both in a loop, for tools and tests. */
enum search_result search_message(struct search_eval *e, const struct search_message *msg, struct err *err);

#endif
