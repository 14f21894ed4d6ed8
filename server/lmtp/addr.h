/*
 * addr - the arguments of MAIL and RCPT: a path and ESMTP parameters (RFC 5321 4.1.2, RFC 6531 for UTF-8 and RFC 2033).
 * Pure functions on text; results live in the arena.
 */
#ifndef SERVER_LMTP_ADDR_H
#define SERVER_LMTP_ADDR_H

#include <stdbool.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/err.h"
#include "util/str.h"

#define LMTP_PATH_MAX 1024                      /* octets between the angle brackets; RFC 5321 asks for 256, UTF-8 for more */

struct lmtp_path {
        struct span text;                       /* as it came, without angle brackets and source route */
        struct span local;                      /* unquoted */
        struct span domain;                     /* empty: none was given */
        bool null;                              /* <> */
};

struct lmtp_params {                            /* of MAIL */
        uint64_t size;                          /* RFC 1870; 0: not told */
        bool body_8bit, smtputf8;
        struct span auth;                       /* RFC 4954 5: who submitted the message, as it came (xtext); empty: not told, or "<>" */
        bool ignorequota;                       /* of RCPT: IGNOREQUOTA */
};

/* What octets above 0x7f in an address are. */
enum lmtp_8bit {
        LMTP_8BIT_REFUSED,
        LMTP_8BIT_UTF8,                         /* fine, as far as they are valid UTF-8: SMTPUTF8 */
        LMTP_8BIT_X,                            /* in the local part each is turned into X: lmtp_strict_rfc2821 is off */
};

/*
 * Parse "FROM:<path> params" after the word FROM or TO and its colon was taken. *rest_r: what follows the path, without leading blanks.
 * -1 with ERR_SYNTAX or ERR_LIMIT, the text fit for the client.
 */
int lmtp_path_parse(struct span in, enum lmtp_8bit octets, bool null_ok, struct arena *arena, struct lmtp_path *path_r, struct span *rest_r,
                    struct err *err);

/* Parse MAIL's (rcpt false) or RCPT's parameters. Unknown ones: ERR_UNSUPPORTED (555), bad values: ERR_SYNTAX (501). */
int lmtp_params_parse(struct span in, bool rcpt, struct lmtp_params *params_r, struct err *err);

/* "joe+2Bx" → "joe+x" (RFC 3461 4), in the arena. -1: out of grammar. */
int lmtp_xtext_decode(struct span in, struct arena *arena, const char **out_r, struct err *err);

#endif
