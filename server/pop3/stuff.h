/*
 * stuff - a message as a multi-line response (RFC 1939 3): a dot in front of lines that begin with one, CRLF "." CRLF at its end; only
 * the first lines of the body for TOP. Octets are read in pieces and looked through; what needs no dot goes out as an extent of
 * the message's file. Works without a server.
 */
#ifndef SERVER_POP3_STUFF_H
#define SERVER_POP3_STUFF_H

#include <stdbool.h>
#include <stdint.h>

#include "server/rope.h"
#include "util/err.h"
#include "util/file.h"

struct pop3_stuff {
        struct extent body;                     /* with a reference */
        uint64_t at;                            /* octets that were looked at */
        uint64_t header_size;
        uint64_t lines;                         /* of the body that may still go out; UINT64_MAX: all */
        char before[2];                         /* the last two octets: is this the beginning of a line? */
        bool ended;
};

/* Takes over the reference in body->file. */
void pop3_stuff_begin(struct pop3_stuff *st, const struct extent *body, uint64_t header_size, uint64_t lines);
/* The next piece, at most some 64 KiB of the message. 1: the end mark is in the rope; 0: there is more; -1: it could not be read. */
int pop3_stuff_next(struct pop3_stuff *st, struct rope *out, struct err *err);
void pop3_stuff_end(struct pop3_stuff *st);

#endif
