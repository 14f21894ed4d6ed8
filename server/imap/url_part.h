/*
 * url_part - from an IMAP URL to the octets that it names: for CATENATE (RFC 4469), GENURLAUTH and URLFETCH (RFC 4467, RFC 5524).
 * In two steps: url_part_begin() on the session's worker, from memory – mailbox, rights; url_part_locate() where it may block.
 */
#ifndef SERVER_IMAP_URL_PART_H
#define SERVER_IMAP_URL_PART_H

#include "server/imap/fetch.h"
#include "server/imap/imap.h"
#include "server/imap/url.h"
#include "server/rope.h"

#define URL_RIGHTS ACL_READ                     /* on the mailbox that a URL names */

/* Whose rights and whose names count. */
struct url_identity {
        const char *userid;                     /* canonical */
        bool is_admin;
        const char *const *groups;              /* NULL-terminated, or NULL */
};

enum { URL_PART_STRUCTURE = 1, URL_PART_BINARY = 2 };

struct url_part {
        struct imap_url url;
        unsigned want;                          /* URL_PART_…: of what is below, besides the octets */
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
        struct rope structure;                  /* URL_PART_STRUCTURE: its BODYPARTSTRUCTURE (RFC 5524 3.2) */
        struct {                                /* URL_PART_BINARY: the octets without transfer encoding */
                enum transfer_encoding encoding;        /* to be undone. Neither base64 nor quoted-printable: they are the octets above */
                struct transfer transfer;
                uint64_t off, len, at;                  /* encoded, within the message; and how many of them are decoded */
                uint64_t decoded;                       /* octets that came out so far */
                uint64_t first, end;                    /* what is wanted of those; end is not beyond their end */
                uint64_t lines;                         /* LFs in them */
                bool has_nul, has_8bit;
        } binary;
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

/*
 * url_binary.c. For url_part_locate(): what p->want says, of part number `part` of the message. May block.
 */
int url_binary_look(struct url_part *p, struct mailbox *mbox, const struct msg *msg, const struct msg_front *front, size_t part,
                    struct err *err);
/* Is there an encoding to undo, and one that is not known? */
bool url_binary_encoded(const struct url_part *p);
/* The next decoded octets, some tens of KiB at most, in buf. 1: there may be more; 0: there are none, that was the end; -1. May block. */
int url_binary_read(struct url_part *p, struct str *buf, struct span *piece_r, struct err *err);

/* Read octets of what was located: `at` from its beginning. May block. */
int url_part_read(struct url_part *p, uint64_t at, void *buf, size_t n, struct err *err);

#endif
