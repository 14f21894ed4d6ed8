/* charset_transfer - content transfer encodings (RFC 2045 6.7, 6.8), a piece at a time; see charset.h */
#include "util/charset.h"

enum { QP_TEXT, QP_EQUALS, QP_HEX, QP_SOFT_BLANKS, QP_SOFT_CR };

enum transfer_encoding transfer_by_name(struct span name)
{
        static const struct { const char *name; enum transfer_encoding encoding; } names[] = {
                { "7bit", TRANSFER_7BIT },
                { "8bit", TRANSFER_8BIT },
                { "binary", TRANSFER_BINARY },
                { "base64", TRANSFER_BASE64 },
                { "quoted-printable", TRANSFER_QUOTED_PRINTABLE },
        };

        name = span_trim(name);
        if (name.len == 0)
                return TRANSFER_7BIT;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
                if (span_ieq_str(name, names[i].name))
                        return names[i].encoding;
        return TRANSFER_UNKNOWN;
}

void transfer_init(struct transfer *t, enum transfer_encoding encoding)
{
        memset(t, 0, offsetof(struct transfer, held));
        t->damaged = false;
        t->encoding = encoding;
}

/* ---- base64 ---- */

#define PAD 64
#define BLANK 65
#define OTHER 66
static const uint8_t base64_value[256] = {
#define O4 OTHER, OTHER, OTHER, OTHER
#define O16 O4, O4, O4, O4
        OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, BLANK, BLANK, OTHER, OTHER, BLANK, OTHER, OTHER,
        O16,
        BLANK, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, OTHER, 62, OTHER, OTHER, OTHER, 63,
        52, 53, 54, 55, 56, 57, 58, 59, 60, 61, OTHER, OTHER, OTHER, PAD, OTHER, OTHER,
        OTHER, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
        15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, OTHER, OTHER, OTHER, OTHER, OTHER,
        OTHER, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
        41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, OTHER, OTHER, OTHER, OTHER, OTHER,
        O16, O16, O16, O16, O16, O16, O16, O16,
};

/* The end of a quantum that is not full: 2 characters make an octet, 3 two. */
static size_t base64_partial(struct transfer *t, char *out)
{
        size_t n = 0;

        if (t->bits_n == 2) {
                out[n++] = (char)(t->bits >> 4);
        } else if (t->bits_n == 3) {
                out[n++] = (char)(t->bits >> 10);
                out[n++] = (char)(t->bits >> 2);
        } else if (t->bits_n == 1) {
                t->damaged = true;
        }
        t->bits_n = 0;
        t->bits = 0;
        return n;
}

/* `pads` counts the '=' still to come after the first one. Text after padding begins anew: some senders join pieces. */
static size_t base64_pad(struct transfer *t, char *out)
{
        uint8_t had = t->bits_n;

        if (had >= 2) {
                t->pads = had == 2 ? 1 : 0;
                return base64_partial(t, out);
        }
        if (had == 0 && t->pads)
                t->pads--;
        else
                t->damaged = true;
        return 0;
}

static size_t base64_feed(struct transfer *t, const uint8_t *p, size_t len, char *out)
{
        const uint8_t *end = p + len;
        size_t n = 0;

        while (p < end) {
                uint8_t v;

                if (t->bits_n == 0 && end - p >= 4) {
                        uint8_t a = base64_value[p[0]], b = base64_value[p[1]], c = base64_value[p[2]], d = base64_value[p[3]];

                        if ((a | b | c | d) < 64) {
                                uint32_t w = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | d;

                                out[n++] = (char)(w >> 16);
                                out[n++] = (char)(w >> 8);
                                out[n++] = (char)w;
                                t->pads = 0;
                                p += 4;
                                continue;
                        }
                }
                v = base64_value[*p++];
                if (v < 64) {
                        t->pads = 0;
                        t->bits = t->bits << 6 | v;
                        if (++t->bits_n == 4) {
                                out[n++] = (char)(t->bits >> 16);
                                out[n++] = (char)(t->bits >> 8);
                                out[n++] = (char)t->bits;
                                t->bits_n = 0;
                                t->bits = 0;
                        }
                } else if (v == PAD) {
                        n += base64_pad(t, out + n);
                } else if (v == OTHER) {
                        t->damaged = true;              /* RFC 2045 6.8: ignored */
                }
        }
        return n;
}

/* ---- quoted-printable ---- */

static int hex_of(uint8_t c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t qp_release(struct transfer *t, char *out)
{
        size_t n = t->blanks;

        memcpy(out, t->held, n);
        t->blanks = 0;
        return n;
}

/* One octet in the state QP_TEXT. */
static size_t qp_text(struct transfer *t, uint8_t c, char *out)
{
        size_t n = 0;

        if (c == ' ' || c == '\t') {
                if (t->blanks == sizeof t->held)        /* that many blanks are no padding of a transport */
                        n = qp_release(t, out);
                t->held[t->blanks++] = (char)c;
                return n;
        }
        if (c == '\r' || c == '\n')
                t->blanks = 0;                          /* RFC 2045 6.7 (3): blanks at the end of a line were added on the way */
        n = qp_release(t, out);
        if (c == '=')
                t->qp_state = QP_EQUALS;
        else
                out[n++] = (char)c;
        return n;
}

static size_t qp_octet(struct transfer *t, uint8_t c, char *out)
{
        size_t n = 0;

        switch (t->qp_state) {
        case QP_EQUALS:
                if (hex_of(c) >= 0) {
                        t->qp_first = (char)c;
                        t->qp_state = QP_HEX;
                        return 0;
                }
                if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
                        t->qp_state = c == '\r' ? QP_SOFT_CR : c == '\n' ? QP_TEXT : QP_SOFT_BLANKS;
                        return 0;
                }
                out[n++] = '=';
                break;
        case QP_HEX:
                if (hex_of(c) >= 0) {
                        out[n++] = (char)(hex_of((uint8_t)t->qp_first) << 4 | hex_of(c));
                        t->qp_state = QP_TEXT;
                        return n;
                }
                out[n++] = '=';
                out[n++] = t->qp_first;
                break;
        case QP_SOFT_BLANKS:
                if (c == ' ' || c == '\t')
                        return 0;
                if (c == '\r' || c == '\n') {
                        t->qp_state = c == '\r' ? QP_SOFT_CR : QP_TEXT;
                        return 0;
                }
                out[n++] = '=';
                out[n++] = ' ';
                break;
        case QP_SOFT_CR:
                t->qp_state = QP_TEXT;
                if (c == '\n')
                        return 0;
                break;
        default:
                return qp_text(t, c, out);
        }
        t->damaged = true;
        t->qp_state = QP_TEXT;
        return n + qp_text(t, c, out + n);
}

static size_t qp_feed(struct transfer *t, const uint8_t *p, size_t len, char *out)
{
        size_t n = 0;

        for (size_t i = 0; i < len; i++) {
                uint8_t c = p[i];

                if (t->qp_state == QP_TEXT && t->blanks == 0 && c > ' ' && c != '=')
                        out[n++] = (char)c;
                else
                        n += qp_octet(t, c, out + n);
        }
        return n;
}

/* ---- all of them ---- */

void transfer_feed(struct transfer *t, struct span in, struct str *out)
{
        const uint8_t *p = (const uint8_t *)in.p;
        size_t before = out->len, n;
        char *room;

        if (in.len == 0)
                return;
        if (t->encoding != TRANSFER_BASE64 && t->encoding != TRANSFER_QUOTED_PRINTABLE) {
                str_append_span(out, in);
                return;
        }
        room = str_append_space(out, in.len + sizeof t->held + 4);
        n = t->encoding == TRANSFER_BASE64 ? base64_feed(t, p, in.len, room) : qp_feed(t, p, in.len, room);
        str_truncate(out, before + n);
}

void transfer_finish(struct transfer *t, struct str *out)
{
        char rest[4];

        if (t->encoding == TRANSFER_BASE64) {
                if (t->bits_n || t->pads)
                        t->damaged = true;
                str_append(out, rest, base64_partial(t, rest));
        } else if (t->encoding == TRANSFER_QUOTED_PRINTABLE && t->qp_state == QP_HEX) {
                t->damaged = true;
                str_append_c(out, '=');
                str_append_c(out, t->qp_first);
        }
        t->qp_state = QP_TEXT;
        t->blanks = 0;                                  /* the end of the body ends the line */
}
