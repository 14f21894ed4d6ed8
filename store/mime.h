/*
 * mime - what a message is made of. It is parsed once, when it arrives, while its octets pass by: ENVELOPE and BODYSTRUCTURE are
 * rendered and kept with the message, and a table of its parts, so that no FETCH or SEARCH has to parse again.
 *
 * Nothing here fails: any octets give a valid result. Lines end with LF, a CR before it belongs to the line end; bare CR, NUL and
 * 8-bit octets are ordinary. Semantics where RFC 2045/2046 leave room are those of Cyrus and Dovecot.
 *
 * Bounds, per message. What passes them is there for FETCH BODY[], but not looked into:
 */
#ifndef STORE_MIME_H
#define STORE_MIME_H

#include <stdbool.h>
#include <stdint.h>

#include "util/charset.h"
#include "util/str.h"

#define MIME_DEPTH_MAX          50              /* a deeper multipart or message is an application/octet-stream leaf */
#define MIME_PARTS_MAX          10000           /* further parts are swallowed as epilogue */
#define MIME_HEADER_MAX         (10u << 20)     /* octets of one header block that are looked at */
#define MIME_LINE_MAX           (1u << 20)      /* octets kept of one header line */
#define MIME_FIELD_MAX          (1u << 20)      /* octets kept of one header field */
#define MIME_KEPT_MAX           (4u << 20)      /* octets kept of all fields of a message; later ones count as absent */
#define MIME_NAME_MAX           1000            /* of a field's name with the blanks behind it; a line with a longer one is no field */
#define MIME_BOUNDARY_MAX       256             /* a multipart with a longer boundary has no parts (RFC 2046 5.1.1: at most 70) */
#define MIME_PARAMS_MAX         100             /* parameters of one Content-Type or Content-Disposition */
#define MIME_ADDRESSES_MAX      20000           /* addresses rendered in all envelopes of a message */
/* Memory of a parser: a few KiB for ordinary messages, below 64 MiB for the worst that can be sent. */

enum mime_kind {                                /* on the disk: never change the values */
        MIME_TEXT = 1,                          /* text of any subtype */
        MIME_LEAF = 2,                          /* any other part without parts */
        MIME_MULTIPART = 3,                     /* its children follow */
        MIME_MESSAGE = 4,                       /* message/rfc822, message/global: one child, the message inside */
};

enum mime_charset {                             /* on the disk; saves SEARCH a look at the part's header */
        MIME_CHARSET_NONE = 0,                  /* no charset parameter: us-ascii */
        MIME_CHARSET_ASCII = 1,
        MIME_CHARSET_UTF8 = 2,
        MIME_CHARSET_OTHER = 255,               /* see the Content-Type field */
};

#define MIME_PART_NO_PARENT 0xffff
#define MIME_PART_8BIT          0x01            /* the body has octets above 0x7f */
#define MIME_PART_NUL           0x02            /* the body has NULs */
#define MIME_PART_ATTACHMENT    0x04            /* Content-Disposition: attachment */

/*
 * One part, as it is on the disk: little-endian, in the order of their header offsets, part 0 is the message itself. Offsets are
 * relative to the message's first octet. header_len includes the empty line; body_off == header_off + header_len.
 */
struct mime_part {
        uint32_t header_off;
        uint32_t header_len;
        uint32_t body_off;
        uint32_t body_len;
        uint32_t lines;                         /* LFs in the body */
        uint16_t parent;                        /* index in the table, MIME_PART_NO_PARENT for part 0 */
        uint16_t number;                        /* within the parent, from 1; the message inside a message/rfc822 is 1 */
        uint8_t kind;                           /* enum mime_kind */
        uint8_t encoding;                       /* enum transfer_encoding */
        uint8_t charset;                        /* enum mime_charset */
        uint8_t flags;                          /* MIME_PART_* */
        uint32_t reserved;                      /* 0 */
} __attribute__((packed));                      /* so that it may be used in place, in a record that is not aligned */
_Static_assert(sizeof(struct mime_part) == 32, "struct mime_part is on the disk");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "struct mime_part is written as it is in memory");

/* ---- parsing ---- */

struct mime_result {
        struct str envelope;                    /* what follows "ENVELOPE " (RFC 9051 7.5.2); 7-bit, others as literals {n}CRLF… */
        struct str body;                        /* what follows "BODY " */
        struct str bodystructure;               /* what follows "BODYSTRUCTURE ", with extension data */
        struct mime_part *parts;                /* parts_n >= 1 */
        size_t parts_n;
        uint64_t size;                          /* octets fed */
        uint64_t header_size;                   /* octets up to and including the empty line; size when there is none */
        uint64_t lines;                         /* LFs in the whole message */
        int64_t sentdate;                       /* Unix seconds, from Date: */
        bool has_sentdate;                      /* there is a Date: that could be understood */
        uint64_t thread;                        /* a number made of the first message id of References, else In-Reply-To, else Message-ID;
                                                 * 0: there is none */
        bool has_8bit, has_nul, has_bare_cr, has_bare_lf;       /* anywhere in the message */
};

struct mime_parser;
struct mime_parser *mime_parser_create(void);
void mime_parser_destroy(struct mime_parser **p);
/* The next octets, cut anywhere. A message is below 4 GiB (the caller's limit); offsets above are clamped. */
void mime_parser_feed(struct mime_parser *p, const void *data, size_t len);
/* The message is complete. `r` is overwritten; the caller ends it with mime_result_deinit(). The parser can only be destroyed then. */
void mime_parser_finish(struct mime_parser *p, struct mime_result *r);
void mime_result_deinit(struct mime_result *r);
/* All in one, for a message in memory. */
void mime_parse(struct span message, struct mime_result *r);

/* A part table from the disk is safe to use: offsets within `message_size`, parents before children, known kinds. */
bool mime_parts_valid(const struct mime_part *parts, size_t n, uint64_t message_size);

/* ---- sections (RFC 9051 6.4.5.1) ---- */

enum mime_section {
        MIME_SECTION_ALL,                       /* BODY[] and BODY[1.2]: the whole message, or the part's body */
        MIME_SECTION_HEADER,                    /* HEADER, HEADER.FIELDS: of the message or an embedded one */
        MIME_SECTION_TEXT,                      /* TEXT */
        MIME_SECTION_MIME,                      /* 1.2.MIME: the part's own header; needs a part number */
};
/*
 * Where is this section? `path` holds the part numbers, path_n may be 0.
 * Returns false when the message has no such section: FETCH answers NIL (or "").
 *   part_r  may be NULL; the part that the path names (the container for HEADER and TEXT of an embedded message)
 */
bool mime_section_find(const struct mime_part *parts, size_t n, const uint32_t *path, size_t path_n, enum mime_section what,
                       uint32_t *offset_r, uint32_t *len_r, size_t *part_r);
/* The first child of a part, or n when it has none. */
size_t mime_part_child(const struct mime_part *parts, size_t n, size_t parent, uint32_t number);

/*
 * Where a part's structure is in the message's rendered BODYSTRUCTURE (mime_result.bodystructure): offsets in that text. The numbers of a
 * multipart are 0, as it has no such items. False: the text is not of these parts.
 */
struct mime_structure {
        size_t begin, end;                      /* the part's list, with its parentheses */
        size_t encoding, size;                  /* each of these items ends one blank before the next */
        size_t lines;                           /* of a text; otherwise the same as `size` */
        size_t rest;                            /* behind them */
};
bool mime_structure_find(struct span structure, const struct mime_part *parts, size_t n, size_t part, struct mime_structure *place_r);

/* ---- header fields ---- */

struct mime_field {
        struct span name;                       /* without the colon and blanks before it */
        struct span value;                      /* raw: after the colon, with folds, without the last line end */
        struct span whole;                      /* from the name to the last line end inclusive */
};
/* Iterate over a header block. Start with *pos = 0. Lines that are no field are skipped; the empty line ends the block.
 * Returns false at the end. */
bool mime_field_next(struct span header, size_t *pos, struct mime_field *field_r);
/* The first field of this name (ASCII case does not matter). */
bool mime_field_find(struct span header, const char *name, struct mime_field *field_r);
/*
 * HEADER.FIELDS, or HEADER.FIELDS.NOT when `not`: append the fields whose names are (not) among `names`, in the order of the
 * header, as they are, and the empty line (CRLF) that RFC 9051 6.4.5.1 wants.
 */
void mime_header_fields(struct span header, const struct span *names, size_t n, bool not, struct str *out);
/*
 * The same for a header of any size, fed in pieces of any size; what comes out is appended to `out`. `last` with the final octets, which
 * may be none. The names are borrowed until mime_pick_destroy(). It holds a field's name, nothing else of the header.
 */
struct mime_pick;
struct mime_pick *mime_pick_create(const struct span *names, size_t n, bool not);
void mime_pick_destroy(struct mime_pick **pick);
void mime_pick_restart(struct mime_pick *pick);         /* from the header's beginning */
void mime_pick_feed(struct mime_pick *pick, struct span in, bool last, struct str *out);
/* Append a raw value without its folds: a line end before a blank vanishes, any other becomes a space; blanks at both ends go. */
void mime_unfold(struct span raw, struct str *out);

/* The charset parameter of a header block's Content-Type, appended; nothing when there is none. */
void mime_header_charset(struct span header, struct str *out);

/* ---- addresses (RFC 5322 3.4 with the obsolete syntax; lenient) ---- */

enum mime_address_kind { MIME_ADDRESS, MIME_GROUP_START, MIME_GROUP_END };
struct mime_address {
        enum mime_address_kind kind;
        struct str name;                        /* display name, unquoted; the comment when there is only that; raw RFC 2047 words. Group: its name */
        struct str route;                       /* "@a,@b" of an obsolete source route */
        struct str mailbox;                     /* local part, unquoted */
        struct str host;                        /* empty when there is none */
        bool has_name, has_route;
};
/* Walk through an address list (raw field value). Start with *pos = 0 and *in_group = false. `a` is initialised by the caller once with
 * mime_address_init(), overwritten by each call and ended with mime_address_deinit(). Linear. Returns false at the end. */
bool mime_address_next(struct span list, size_t *pos, bool *in_group, struct mime_address *a);
void mime_address_init(struct mime_address *a);
void mime_address_deinit(struct mime_address *a);

/* ---- dates ---- */

struct mime_date {
        int64_t unix_s;
        int32_t zone_s;                         /* east of UTC; 0 when unknown */
};
/* RFC 5322 3.3 with the obsolete forms (4.3), lenient: missing seconds or zone, comments, asctime() order, two-digit years, ISO 8601.
 * False when it is no date. */
bool mime_date_parse(struct span value, struct mime_date *date_r);

#endif
