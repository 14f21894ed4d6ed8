/* urlauth - what GENURLAUTH, URLFETCH and RESETKEY share (RFC 4467, RFC 5524). Between their files only. */
#ifndef SERVER_IMAP_URLAUTH_H
#define SERVER_IMAP_URLAUTH_H

#include "server/imap/selected.h"
#include "server/imap/url_part.h"

#define URLAUTH_URLS_MAX 100                    /* in one command */
#define URLAUTH_MECHANISMS "INTERNAL"

struct urlauth {
        struct urlauth *next;
        struct span text;                       /* as the client wrote it */
        struct url_part part;
        bool body;                              /* URLFETCH: (BODY …) instead of the octets alone; part.want has the other two */
        const char *owner;                      /* canonical user id of the URL's server part */
        bool plausible;                         /* URLFETCH: all but the token is in order */
        bool valid;                             /* URLFETCH: and the token is */
        uint8_t token[66];                      /* GENURLAUTH */
};

static inline bool urlauth_is_internal(struct span mechanism)
{
        return imap_word_is(mechanism, "INTERNAL");
}

#endif
