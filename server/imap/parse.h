/*
 * parse - IMAP's grammar (RFC 9051 9, RFC 3501 9, RFC 7888): gathering a command from octets cut at any point, and parsing its
 * arguments. Works, and fuzzes, without a server.
 */
#ifndef SERVER_IMAP_PARSE_H
#define SERVER_IMAP_PARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/err.h"
#include "util/str.h"

/* ---- arguments ---- */

/*
 * A cursor over one gathered command. Literals stand in the buffer as they came: "{5}\r\nhello" ("{5+}", "~{5}" too); the parser skips
 * over them by their count. All parse functions return 0, or -1 with ERR_SYNTAX/ERR_LIMIT, the text fit for the client ("BAD …").
 * Results are spans into the buffer or, when quotes had to be undone, in the arena.
 */
struct imap_parser {
        const char *p, *end;
        struct arena *arena;
        unsigned depth;                         /* of parentheses, at most IMAP_DEPTH_MAX */
        bool utf8;                              /* quoted strings may hold UTF-8 (rev2, UTF8=ACCEPT) */
        size_t word_max, quoted_max;            /* octets of an atom, a quoted string (maxword, maxquoted) */
        struct err err;                         /* the last failure */
};
#define IMAP_DEPTH_MAX 64
#define IMAP_WORD_MAX ((size_t)128 * 1024)      /* what imap_parser_init() sets */
#define IMAP_FLAGS_MAX 1000

void imap_parser_init(struct imap_parser *ip, struct span text, struct arena *arena, bool utf8);
bool imap_at_end(const struct imap_parser *ip);
bool imap_peek_c(const struct imap_parser *ip, char c);
int imap_end(struct imap_parser *ip);                                   /* nothing may follow */
int imap_sp(struct imap_parser *ip);                                    /* exactly one space */
int imap_char(struct imap_parser *ip, char c);
bool imap_skip_c(struct imap_parser *ip, char c);                       /* take it if it is there */
int imap_open_paren(struct imap_parser *ip);                            /* counts depth */
int imap_close_paren(struct imap_parser *ip);
#define IMAP_TAG_MAX 128
int imap_tag(struct imap_parser *ip, struct span *tag_r);               /* at most IMAP_TAG_MAX octets */
bool imap_tag_ok(struct span tag);                                      /* every octet may stand in a tag */
int imap_atom(struct imap_parser *ip, struct span *atom_r);             /* 1*ATOM-CHAR */
int imap_atom_bracket(struct imap_parser *ip, struct span *atom_r);     /* as atom, also ']' excluded and '[' '.' '<' ends it: FETCH items */
int imap_astring(struct imap_parser *ip, struct span *s_r);
int imap_string(struct imap_parser *ip, struct span *s_r);              /* quoted or literal */
int imap_nstring(struct imap_parser *ip, struct span *s_r, bool *nil_r);
int imap_list_mailbox(struct imap_parser *ip, struct span *s_r);        /* list-char: atom with % * ] */
int imap_number(struct imap_parser *ip, uint32_t *n_r);                 /* 32 bits */
int imap_number64(struct imap_parser *ip, uint64_t *n_r);               /* 63 bits (RFC 9051 number64, mod-sequence-value) */
int imap_sequence(struct imap_parser *ip, struct span *set_r);          /* the text of a sequence-set or "$": seq-range characters */
int imap_date(struct imap_parser *ip, int64_t *days_r);                 /* date: days since 1970-01-01; quoted or not; impossible dates: ERR_SYNTAX */
int imap_date_time(struct imap_parser *ip, int64_t *unix_s_r);          /* quoted date-time */
int imap_flag(struct imap_parser *ip, struct span *flag_r);             /* \Atom or atom */
/* "(flag flag)" or, with bare_ok, flags without parentheses. At most 1,000. Array in the arena. System flags → MSG_… bits, unknown \X:
 * ERR_SYNTAX; \Recent: ERR_SYNTAX. */
int imap_flag_list(struct imap_parser *ip, bool bare_ok, uint32_t *flags_r, struct span **keywords_r, uint32_t *keyword_count_r);
bool imap_word_is(struct span s, const char *word);                     /* case-insensitive */

/* ---- gathering ---- */

struct imap_limits {
        size_t line_max;                        /* octets of one command without its literals */
        size_t literal_max;                     /* of one literal (maxliteral), not APPEND's message */
        size_t total_max;                       /* of all of a command (maxargssize) */
        size_t unauth_literal_max;              /* before login: 4,096 */
        size_t unauth_line_max;                 /* before login: 16 KiB */
        uint64_t nonsync_max;                   /* of a non-synchronising literal: 4,096 with LITERAL- (RFC 7888 5), else UINT64_MAX */
        uint64_t skip_max;                      /* refused non-synchronising literals of one command are skipped up to this many octets; beyond
                                                 * it the connection is closed (RFC 7888 4). Before login: unauth_skip_max */
        uint64_t unauth_skip_max;
};
#define IMAP_LIMITS_DEFAULT { 1048576, 131072, 1048576, 4096, 16384, UINT64_MAX, (uint64_t)64 << 20, 65536 }

enum gather_result {
        GATHER_MORE,                            /* everything was used; more octets are needed */
        GATHER_COMMAND,                         /* a whole command is in `text` */
        GATHER_CONTINUE,                        /* send "+ …": a synchronising literal follows */
        GATHER_LITERAL,                         /* APPEND, REPLACE: a message literal of `literal_bytes` begins; the owner takes these octets off
                                                 * the input itself and calls imap_gather_literal_taken() */
        GATHER_BAD,                             /* err says what to answer as tagged BAD (tag in `tag`, may be empty: "*"); the rest of the
                                                 * command is skipped; go on gathering */
        GATHER_CLOSE,                           /* hang up: a non-synchronising literal far over the limit (RFC 7888 4): BYE with err's text;
                                                 * ERR_UNSUPPORTED: not IMAP at all (an HTTP verb, a TLS hello): no word is wasted on it */
};
struct imap_gather;
struct imap_gather *imap_gather_create(const struct imap_limits *limits);
void imap_gather_destroy(struct imap_gather **g);
void imap_gather_reset(struct imap_gather *g, bool authenticated);      /* for the next command */
/* Take octets; *used_r tells how many. */
enum gather_result imap_gather_feed(struct imap_gather *g, struct span in, size_t *used_r, struct err *err);
/* GATHER_LITERAL and streaming. `stream_append` decides, when the tag and command name are known, whether message literals stream. */
uint64_t imap_gather_literal_bytes(const struct imap_gather *g);
bool imap_gather_literal_sync(const struct imap_gather *g);             /* synchronising: a "+" is owed */
/* Told after the owner took a literal's octets; in `text` it stands as "{n}\r\n" with nothing after (its octets are not there) – marked so
 * that imap_parser knows: as "{#k}" where k counts streamed literals from 0. */
void imap_gather_literal_taken(struct imap_gather *g);
/* Refuse the literal that was announced, or give it up with `taken` octets of it already taken: the rest of it is skipped, and the
 * command will end with GATHER_BAD. Not for a synchronising one whose "+" was not sent (`continued` false): nothing will come, the
 * command is over: imap_gather_reset(). GATHER_MORE, or GATHER_CLOSE when there is too much to skip. */
enum gather_result imap_gather_literal_refuse(struct imap_gather *g, const char *why, bool continued, uint64_t taken, struct err *err);
/* Nothing of a command has come yet. */
bool imap_gather_idle(const struct imap_gather *g);
/* Overwrite the gathered text: there was a password in it. */
void imap_gather_wipe(struct imap_gather *g);
struct span imap_gather_text(const struct imap_gather *g);              /* the command, without the final CRLF */
struct span imap_gather_tag(const struct imap_gather *g);
/* A streamed literal's place holder in the arguments: its number. */
int imap_streamed_literal(struct imap_parser *ip, uint32_t *k_r);

#endif
