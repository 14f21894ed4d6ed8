/*
 * fetch - what a FETCH command asks for (RFC 9051 6.4.5, RFC 3501 6.4.5, RFC 7162 3.1.4), parsed, and its parts' rendering.
 * fetch_parse() works without a session.
 */
#ifndef SERVER_IMAP_FETCH_H
#define SERVER_IMAP_FETCH_H

#include "server/imap/annotation.h"
#include "server/imap/parse.h"
#include "server/imap/search_parse.h"
#include "store/mailbox.h"
#include "store/mime.h"

#define FETCH_SECTIONS_MAX 256                  /* in one command */
#define FETCH_ANNOTATIONS_MAX 16                /* ANNOTATION items in one command */
#define FETCH_NAMES_MAX 1000                    /* header field names in one section */
#define FETCH_PATH_MAX (2 * MIME_DEPTH_MAX)     /* part numbers in one section: no message is deeper */

enum fetch_item {
        FETCH_UID               = 1u << 0,
        FETCH_FLAGS             = 1u << 1,
        FETCH_INTERNALDATE      = 1u << 2,
        FETCH_SIZE              = 1u << 3,
        FETCH_MODSEQ            = 1u << 4,
        FETCH_ENVELOPE          = 1u << 5,
        FETCH_BODY              = 1u << 6,
        FETCH_BODYSTRUCTURE     = 1u << 7,
        FETCH_SAVEDATE          = 1u << 8,      /* RFC 8514 */
        FETCH_EMAILID           = 1u << 21,     /* RFC 8474 */
        FETCH_THREADID          = 1u << 22,
        FETCH_PREVIEW           = 1u << 20,     /* RFC 8970 */
};

enum fetch_kind {
        FETCH_KIND_BODY,                        /* octets as they are */
        FETCH_KIND_BINARY,                      /* transfer encoding undone (RFC 3516) */
        FETCH_KIND_BINARY_SIZE,
};
enum fetch_fields { FETCH_FIELDS_ALL, FETCH_FIELDS_ONLY, FETCH_FIELDS_NOT };

struct fetch_section {
        struct fetch_section *next;
        enum fetch_kind kind;
        enum mime_section what;
        enum fetch_fields fields;
        const uint32_t *path;
        size_t path_n;
        const struct span *names;               /* HEADER.FIELDS */
        size_t names_n;
        bool partial;
        uint64_t first, count;                  /* <first.count>; count at least 1 */
        struct span label;                      /* as the reply says it: "BODY[1.MIME]<0>" */
};

struct fetch_request {
        unsigned items;                         /* enum fetch_item */
        struct fetch_section *sections, *last;
        unsigned sections_n;
        struct annotation_item *annotations;    /* RFC 5257 4.3 */
        unsigned annotations_n;
        bool sets_seen;                         /* \Seen is implied */
        bool changedsince, vanished;            /* modifiers (RFC 7162 3.1.4.1, 3.2.6) */
        uint64_t since;
        bool partial;                           /* modifier PARTIAL (RFC 9394 3.3): for UID FETCH only, the caller's to check */
        struct search_partial range;
};

/*
 * Parse what follows "FETCH set ": items and modifiers to the end of the command. The result lives in ip->arena. Returns 0, or -1 with
 * ip->err fit for the client.
 */
int fetch_parse(struct imap_parser *ip, struct fetch_request *r);
/* The items only: "(uid flags)" or one of them; what follows is left (NOTIFY, RFC 5465 8). */
int fetch_parse_items(struct imap_parser *ip, struct fetch_request *r);
/* Once more what fetch_parse_items() has read, kept as text: it may be longer than the limits of another parser. The result lives in arena. */
void fetch_parse_kept(struct span items, struct arena *arena, struct fetch_request *r);

/*
 * Where a section is in the message, as offsets in it. `front` needs FRONT_PARTS when the section has a part number. part_r: the part that
 * the number names, NULL without one. False: there is no such section.
 */
bool fetch_locate(const struct msg *m, const struct msg_front *front, const struct fetch_section *s, uint64_t *off_r, uint64_t *len_r,
                  const struct mime_part **part_r);
/* Cut to the section's <first.count>. */
void fetch_cut_partial(const struct fetch_section *s, uint64_t *off, uint64_t *len);

#endif
