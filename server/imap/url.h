/*
 * url - IMAP URLs (RFC 5092), parsed: those of a message or a part of one, as CATENATE (RFC 4469), GENURLAUTH and URLFETCH (RFC 4467)
 * use them. Works, and fuzzes, without a server.
 */
#ifndef SERVER_IMAP_URL_H
#define SERVER_IMAP_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "util/arena.h"
#include "util/err.h"
#include "util/str.h"

#define IMAP_URL_MAX 8192                       /* octets */
#define IMAP_URL_TOKEN_MIN 16                   /* octets of a token (RFC 4467 2.5) */
#define IMAP_URL_TOKEN_MAX 128

enum imap_url_access { URL_NO_ACCESS, URL_ANONYMOUS, URL_AUTHUSER, URL_USER, URL_SUBMIT };

struct imap_url {                               /* spans: percent-encoding undone, in the arena; unless said otherwise */
        bool absolute;                          /* begins with "imap://" */
        struct span user;                       /* of the server part; p NULL: none */
        struct span host;                       /* lower case */
        bool rooted;                            /* relative, beginning with "/" */
        struct span mailbox;                    /* UTF-8; empty: none was named */
        bool is_list;                           /* "?search": messages, not a message */
        uint32_t uidvalidity, uid;              /* 0: not given */
        bool has_section;
        struct span section;                    /* "1.2.MIME"; without: the whole message */
        bool partial;
        uint64_t first, count;                  /* count 0: to the end */
        bool has_expire;
        int64_t expire;                         /* Unix seconds: the last at which it may be used */
        enum imap_url_access access;
        struct span access_user;                /* URL_USER, URL_SUBMIT */
        struct span rump;                       /* into the text given: all up to the access identifier, inclusive */
        struct span mechanism;                  /* into the text; p NULL: this is a rump, without mechanism and token */
        uint8_t token[IMAP_URL_TOKEN_MAX];
        size_t token_n;
};

/* `text` must live as long as the result. 0, or -1 with ERR_SYNTAX or ERR_LIMIT, the text fit for the client. */
int imap_url_parse(struct span text, struct arena *arena, struct imap_url *url_r, struct err *err);

#endif
