/*
 * charset - text on its way from octets to something that can be compared: transfer encodings, charsets, RFC 2047 words,
 * modified UTF-7, and the canonical form of i;unicode-casemap (RFC 5051).
 *
 * Everything incremental may be fed pieces cut at any octet; the result does not depend on the cuts. Nothing here fails on odd
 * input: what cannot be decoded becomes U+FFFD. No locks; a stream belongs to one thread at a time but may move between
 * threads. Open iconv descriptors are cached per thread (at most 8).
 *
 * To search: bring the needle into canonical form once (casemap_span()), bring each piece of the haystack into it
 * (text_stream), and look for octets.
 */
#ifndef UTIL_CHARSET_H
#define UTIL_CHARSET_H

#include <stdbool.h>
#include <stdint.h>

#include "util/err.h"
#include "util/str.h"

/* ---- content transfer encodings (RFC 2045 6) ---- */

enum transfer_encoding {                        /* the values are on the disk (struct mime_part): never change them */
        TRANSFER_7BIT = 0,
        TRANSFER_8BIT = 1,
        TRANSFER_BINARY = 2,
        TRANSFER_BASE64 = 3,
        TRANSFER_QUOTED_PRINTABLE = 4,
        TRANSFER_UNKNOWN = 255,                 /* passed through undecoded; BINARY answers UNKNOWN-CTE (RFC 3516 4.3) */
};

/* The encoding of this name (case and blanks around it do not matter); an empty name is 7bit. */
enum transfer_encoding transfer_by_name(struct span name);

/* A decoder of one body. Plain value: nothing to free. */
struct transfer {
        enum transfer_encoding encoding;
        uint32_t bits;                          /* base64: collected so far */
        uint8_t bits_n;                         /* base64: characters collected, 0..3 */
        uint8_t pads;                           /* base64: '=' seen in this quantum */
        uint8_t qp_state;
        char qp_first;
        uint16_t blanks;                        /* quoted-printable: blanks held back, they vanish at the end of a line */
        char held[256];
        bool damaged;                           /* something was out of grammar and skipped or passed on as it was */
};
void transfer_init(struct transfer *t, enum transfer_encoding encoding);
/* Append what `in` decodes to: at most in.len + 260 octets. */
void transfer_feed(struct transfer *t, struct span in, struct str *out);
/* The end of the body: append what was held back, at most 260 octets. */
void transfer_finish(struct transfer *t, struct str *out);

/* ---- charsets ---- */

/* Can text in this charset be decoded? Aliases are tolerated ("utf8", "x-sjis", "unicode-1-1-utf-7", quotes, blanks around). Use
 * it for BADCHARSET. Empty: yes, it is us-ascii. */
bool charset_known(struct span name);

/* Octets in a charset → UTF-8. An unknown charset is decoded as UTF-8, and what is not UTF-8 becomes U+FFFD. */
struct charset_stream;
struct charset_stream *charset_stream_create(struct span charset);
void charset_stream_destroy(struct charset_stream **s);
bool charset_stream_is_utf8(const struct charset_stream *s);    /* us-ascii, utf-8 or unknown: ASCII passes unchanged */
/* Append valid UTF-8: at most 12 * in.len + 64 octets. */
void charset_stream_feed(struct charset_stream *s, struct span in, struct str *out);
void charset_stream_finish(struct charset_stream *s, struct str *out);          /* also: ready for new text in this charset */

/* Whole pieces. */
void charset_to_utf8(struct span charset, struct span in, struct str *out);
/* As UTF-8 with every broken sequence replaced by U+FFFD. */
void charset_repair_utf8(struct span in, struct str *out);
/* Unicode normalisation form C of valid UTF-8 (RFC 5198 3, names in IMAP4rev2: RFC 9051 5.1). -1 with ERR_SYNTAX when it is not
 * valid UTF-8. */
int charset_nfc(struct span utf8, struct str *out, struct err *err);

/* ---- i;unicode-casemap (RFC 5051): titlecase, then decompose, character by character ---- */

struct casemap {                                /* plain value */
        uint8_t held[4];                        /* the beginning of a character that was cut */
        uint8_t held_n;
};
#define CASEMAP_INIT { { 0 }, 0 }
/* Append the canonical form: at most 12 * in.len + 36 octets. Broken UTF-8 becomes U+FFFD. */
void casemap_feed(struct casemap *m, struct span utf8, struct str *out);
void casemap_finish(struct casemap *m, struct str *out);
void casemap_span(struct span utf8, struct str *out);           /* a whole string */
/* The ASCII part of it: a-z → A-Z. `out` may be `in`. */
void casemap_ascii(char *out, const char *in, size_t len);
bool charset_is_ascii(struct span s);                           /* no octet above 0x7f */

/* ---- transfer encoding → charset → UTF-8 or its canonical form, in one ---- */

struct text_stream;
struct text_stream *text_stream_create(enum transfer_encoding encoding, struct span charset, bool casemapped);
void text_stream_destroy(struct text_stream **t);
/* Append; feed pieces of at most 64 KiB to bound `out`: it grows by at most 144 * in.len + 4096 octets, by far less in practice. */
void text_stream_feed(struct text_stream *t, struct span in, struct str *out);
void text_stream_finish(struct text_stream *t, struct str *out);

/* ---- RFC 2047 ---- */

/*
 * Append the UTF-8 text of a header field's raw value: unfolded, encoded words decoded (broken ones left as they are), white
 * space between adjacent words dropped, characters split over words of one charset joined, NUL and broken UTF-8 replaced by
 * U+FFFD. Linear in the input; the caller bounds it. Grows by at most 12 * in.len + 64 octets.
 */
void rfc2047_decode(struct span in, struct str *out);

/* ---- modified UTF-7 (RFC 3501 5.1.3) ---- */

/* Strict: printable ASCII, `&-`, and base64 of UTF-16 that encodes no printable ASCII, ends with zero bits, and does not follow another
 * sequence directly. -1 with ERR_BADNAME, whose text says what is wrong; `out` is then unchanged. */
int mutf7_to_utf8(struct span in, struct str *out, struct err *err);
/* -1 with ERR_BADNAME when the input is not valid UTF-8 or holds control characters; `out` is then unchanged. */
int mutf7_from_utf8(struct span utf8, struct str *out, struct err *err);
bool mutf7_valid(struct span in);

#endif
