/*
 * dots - the end of DATA and its dot-stuffing (RFC 5321 4.5.2, 4.1.1.4), on octets cut at any point; works without a server.
 *
 * The end is CRLF "." CRLF and nothing else: "LF.LF", "CR.CR", "LF.CRLF" are content – and content with a bare CR, a bare LF or a NUL
 * is marked as such, to be refused after its true end, so that no two servers can disagree about where a message ends (SMTP
 * smuggling). The CRLF before the dot belongs to the message; a message may be empty.
 */
#ifndef SERVER_LMTP_DOTS_H
#define SERVER_LMTP_DOTS_H

#include <stdbool.h>
#include <stddef.h>

struct dots {
        enum { DOTS_LINE_START, DOTS_LINE, DOTS_CR, DOTS_DOT, DOTS_DOT_CR, DOTS_END } state;
        bool bare;                              /* a bare CR, a bare LF or a NUL was seen */
};
#define DOTS_INIT { DOTS_LINE_START, false }

/*
 * Take octets; content goes to put() in pieces, in place and in order. Returns how many octets were used: all, or up to and including
 * the end mark (state DOTS_END). When `bare` is set, content after the first offence may be incomplete.
 */
size_t dots_feed(struct dots *d, char *p, size_t len, void (*put)(void *ctx, char *p, size_t len), void *ctx);

#endif
