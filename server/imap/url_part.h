/*
 * url_part - from an IMAP URL to the octets that it names: for CATENATE (RFC 4469), GENURLAUTH and URLFETCH (RFC 4467).
 * In two steps: url_part_begin() on the session's worker, from memory – mailbox, rights; url_part_locate() where it may block.
 */
#ifndef SERVER_IMAP_URL_PART_H
#define SERVER_IMAP_URL_PART_H

#include "server/imap/fetch.h"
#include "server/imap/imap.h"
#include "server/imap/url.h"

#define URL_RIGHTS ACL_READ                     /* on the mailbox that a URL names */

/* Whose rights and whose names count. */
struct url_identity {
        const char *userid;                     /* canonical */
        bool is_admin;
        const char *const *groups;              /* NULL-terminated, or NULL */
};

struct url_part {
        struct imap_url url;
        const struct fetch_section *section;    /* what url.section and url.partial say, in FETCH's terms */
        struct store *store;
        const char *internal;                   /* the mailbox's name */
        const struct mbentry *entry;            /* reference */
        /* filled by url_part_locate() */
        struct extent body;                     /* the message, with a reference; file NULL: none */
        uint64_t off, len;                      /* the octets, within the message */
        struct str made;                        /* HEADER.FIELDS: made here instead */
        bool is_made;
        bool no_section;                        /* ERR_NOTFOUND: the message is there, the section is not */
        enum transfer_encoding encoding;        /* of the part, where it has one of its own */
};

/*
 * Parse a section of a URL. -1: it is none (err is fit for the client).
 */
int url_part_section(struct imap_url *url, struct arena *arena, const struct fetch_section **section_r, struct err *err);

/*
 * Find the mailbox of p->url, which is parsed, and check that `who` may read it. False: there is no such mailbox for them – why is not to
 * be told. Ends with url_part_release(), whatever it returned.
 */
bool url_part_begin(struct url_part *p, struct imap *imap, const struct url_identity *who);

/* The session's user. */
struct url_identity url_identity_of(struct imap *imap);

/*
 * Find the octets. May block, any thread. ERR_NOTFOUND: no such message, section or validity; ERR_UNSUPPORTED; ERR_IO …
 */
int url_part_locate(struct url_part *p, struct err *err);
void url_part_release(struct url_part *p);

/* Read octets of what was located: `at` from its beginning. May block. */
int url_part_read(struct url_part *p, uint64_t at, void *buf, size_t n, struct err *err);

#endif
