/*
 * parse - the arguments of a gathered command (RFC 9051 9). A cursor that only moves forward; each octet is looked at a bounded
 * number of times. On failure the cursor stays where the trouble is and ip->err says what it was.
 */
#include "server/imap/parse.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "store/mailbox.h"
#include "util/array.h"
#include "util/clock.h"

/* What an octet may be part of. */
enum { CLASS_ATOM = 1, CLASS_WILD = 2, CLASS_RESP = 4 };

static unsigned class_of(unsigned char c)
{
        if (c <= 0x20 || c >= 0x7f)
                return 0;
        switch (c) {
        case '(': case ')': case '{': case '"': case '\\':
                return 0;
        case '%': case '*':
                return CLASS_WILD;
        case ']':
                return CLASS_RESP;
        default:
                return CLASS_ATOM;
        }
}

static int fail(struct imap_parser *ip, enum err_code code, const char *what)
{
        return err_set(&ip->err, code, "%s", what);
}

static int unexpected(struct imap_parser *ip, const char *wanted)
{
        if (ip->p == ip->end)
                return err_set(&ip->err, ERR_SYNTAX, "%s expected, but the command ends", wanted);
        if ((unsigned char)*ip->p <= 0x20 || (unsigned char)*ip->p >= 0x7f)
                return err_set(&ip->err, ERR_SYNTAX, "%s expected, not octet 0x%02x", wanted, (unsigned char)*ip->p);
        return err_set(&ip->err, ERR_SYNTAX, "%s expected, not '%c'", wanted, *ip->p);
}

void imap_parser_init(struct imap_parser *ip, struct span text, struct arena *arena, bool utf8)
{
        memset(ip, 0, sizeof *ip);
        ip->p = text.p ? text.p : "";
        ip->end = ip->p + text.len;
        ip->arena = arena;
        ip->utf8 = utf8;
        ip->word_max = ip->quoted_max = IMAP_WORD_MAX;
}

bool imap_at_end(const struct imap_parser *ip)
{
        return ip->p == ip->end;
}

bool imap_peek_c(const struct imap_parser *ip, char c)
{
        return ip->p < ip->end && *ip->p == c;
}

int imap_end(struct imap_parser *ip)
{
        return imap_at_end(ip) ? 0 : unexpected(ip, "End of command");
}

int imap_char(struct imap_parser *ip, char c)
{
        char wanted[4] = { '\'', c, '\'', 0 };

        if (!imap_peek_c(ip, c))
                return unexpected(ip, c == ' ' ? "Space" : wanted);
        ip->p++;
        return 0;
}

int imap_sp(struct imap_parser *ip)
{
        return imap_char(ip, ' ');
}

bool imap_skip_c(struct imap_parser *ip, char c)
{
        if (!imap_peek_c(ip, c))
                return false;
        ip->p++;
        return true;
}

int imap_open_paren(struct imap_parser *ip)
{
        if (imap_char(ip, '(') < 0)
                return -1;
        if (ip->depth >= IMAP_DEPTH_MAX)
                return fail(ip, ERR_LIMIT, "Parentheses are nested too deep");
        ip->depth++;
        return 0;
}

int imap_close_paren(struct imap_parser *ip)
{
        if (imap_char(ip, ')') < 0)
                return -1;
        if (ip->depth)
                ip->depth--;
        return 0;
}

static int word(struct imap_parser *ip, unsigned classes, const char *stop, const char *wanted, struct span *s_r)
{
        const char *start = ip->p;

        while (ip->p < ip->end && (class_of((unsigned char)*ip->p) & classes) && !(stop && strchr(stop, *ip->p)))
                ip->p++;
        if (ip->p == start)
                return unexpected(ip, wanted);
        *s_r = (struct span){ start, (size_t)(ip->p - start) };
        if (s_r->len > ip->word_max)
                return fail(ip, ERR_LIMIT, "Word is too long");
        return 0;
}

bool imap_tag_ok(struct span tag)
{
        for (size_t i = 0; i < tag.len; i++)
                if (!(class_of((unsigned char)tag.p[i]) & (CLASS_ATOM | CLASS_RESP)) || tag.p[i] == '+')
                        return false;
        return tag.len > 0;
}

int imap_tag(struct imap_parser *ip, struct span *tag_r)
{
        const char *start = ip->p;

        if (word(ip, CLASS_ATOM | CLASS_RESP, "+", "Tag", tag_r) < 0)
                return -1;
        if (tag_r->len > IMAP_TAG_MAX) {
                ip->p = start;
                return fail(ip, ERR_LIMIT, "Tag is too long");
        }
        return 0;
}

int imap_atom(struct imap_parser *ip, struct span *atom_r)
{
        return word(ip, CLASS_ATOM, NULL, "Atom", atom_r);
}

int imap_atom_bracket(struct imap_parser *ip, struct span *atom_r)
{
        return word(ip, CLASS_ATOM, "[.<", "Atom", atom_r);
}

/* "quoted" with \" and \\ undone. RFC 9051 9: TEXT-CHAR is no CR, LF, NUL; UTF-8 only where it was agreed on. */
static int quoted(struct imap_parser *ip, struct span *s_r)
{
        const char *start = ip->p + 1, *q = start;
        size_t escapes = 0;
        bool eight = false;
        char *out;

        for (; q < ip->end && *q != '"'; q++) {
                if (*q == '\r' || *q == '\n' || *q == 0) {
                        ip->p = q;
                        return fail(ip, ERR_SYNTAX, "Quoted string with a line end or NUL in it");
                }
                eight |= (unsigned char)*q >= 0x80;
                if (*q != '\\')
                        continue;
                if (++q == ip->end || (*q != '"' && *q != '\\')) {
                        ip->p = q;
                        return fail(ip, ERR_SYNTAX, "Only \\\" and \\\\ may follow a backslash in a quoted string");
                }
                escapes++;
        }
        if (q == ip->end) {
                ip->p = q;
                return fail(ip, ERR_SYNTAX, "Quoted string is not closed");
        }
        *s_r = (struct span){ start, (size_t)(q - start) };
        ip->p = q + 1;
        if (s_r->len - escapes > ip->quoted_max)
                return fail(ip, ERR_LIMIT, "Quoted string is too long");
        if (eight && !ip->utf8)
                return fail(ip, ERR_SYNTAX, "8-bit octets in a quoted string");
        if (eight && !utf8_valid(*s_r))
                return fail(ip, ERR_SYNTAX, "Quoted string is not valid UTF-8");
        if (!escapes)
                return 0;
        out = arena_alloc(ip->arena, s_r->len - escapes + 1);
        s_r->p = out;
        for (const char *p = start; p < q; p++)
                *out++ = *p == '\\' ? *++p : *p;
        *out = 0;
        s_r->len -= escapes;
        return 0;
}

/* "{n}" or "{n+}" CRLF and n octets. The gatherer has seen to it that they are there; a fuzzer has not. */
static int literal(struct imap_parser *ip, struct span *s_r)
{
        const char *q = ip->p + 1;
        uint64_t n;
        struct span digits = { q, 0 };

        while (q < ip->end && ascii_isdigit(*q))
                q++;
        digits.len = (size_t)(q - digits.p);
        if (q < ip->end && *q == '+')
                q++;
        if (!span_u64(digits, UINT32_MAX, &n) || ip->end - q < 3 || memcmp(q, "}\r\n", 3) != 0)
                return fail(ip, ERR_SYNTAX, "Malformed literal");
        q += 3;
        if ((uint64_t)(ip->end - q) < n)
                return fail(ip, ERR_SYNTAX, "Literal is cut short");
        *s_r = (struct span){ q, n };
        ip->p = q + n;
        return 0;
}

int imap_string(struct imap_parser *ip, struct span *s_r)
{
        if (imap_peek_c(ip, '"'))
                return quoted(ip, s_r);
        if (imap_peek_c(ip, '{'))
                return literal(ip, s_r);
        return unexpected(ip, "String");
}

int imap_astring(struct imap_parser *ip, struct span *s_r)
{
        if (imap_peek_c(ip, '"') || imap_peek_c(ip, '{'))
                return imap_string(ip, s_r);
        return word(ip, CLASS_ATOM | CLASS_RESP, NULL, "Atom or string", s_r);
}

int imap_nstring(struct imap_parser *ip, struct span *s_r, bool *nil_r)
{
        *nil_r = false;
        if (imap_peek_c(ip, '"') || imap_peek_c(ip, '{'))
                return imap_string(ip, s_r);
        if (word(ip, CLASS_ATOM, NULL, "String or NIL", s_r) < 0)
                return -1;
        if (!imap_word_is(*s_r, "NIL"))
                return fail(ip, ERR_SYNTAX, "String or NIL expected, not an atom");
        *s_r = (struct span){ NULL, 0 };
        *nil_r = true;
        return 0;
}

int imap_list_mailbox(struct imap_parser *ip, struct span *s_r)
{
        if (imap_peek_c(ip, '"') || imap_peek_c(ip, '{'))
                return imap_string(ip, s_r);
        return word(ip, CLASS_ATOM | CLASS_WILD | CLASS_RESP, NULL, "Mailbox pattern", s_r);
}

static int number(struct imap_parser *ip, uint64_t max, uint64_t *n_r)
{
        const char *start = ip->p;

        while (ip->p < ip->end && ascii_isdigit(*ip->p))
                ip->p++;
        if (ip->p == start)
                return unexpected(ip, "Number");
        if (!span_u64((struct span){ start, (size_t)(ip->p - start) }, max, n_r))
                return fail(ip, ERR_SYNTAX, "Number is too large");
        return 0;
}

int imap_number(struct imap_parser *ip, uint32_t *n_r)
{
        uint64_t n;

        if (number(ip, UINT32_MAX, &n) < 0)
                return -1;
        *n_r = (uint32_t)n;
        return 0;
}

int imap_number64(struct imap_parser *ip, uint64_t *n_r)
{
        return number(ip, INT64_MAX, n_r);
}

int imap_sequence(struct imap_parser *ip, struct span *set_r)
{
        const char *start = ip->p;

        if (imap_skip_c(ip, '$'))
                goto done;
        while (ip->p < ip->end && (ascii_isdigit(*ip->p) || *ip->p == ':' || *ip->p == ',' || *ip->p == '*'))
                ip->p++;
        if (ip->p == start)
                return unexpected(ip, "Message set");
done:
        *set_r = (struct span){ start, (size_t)(ip->p - start) };
        return 0;
}

/* ---- dates ---- */

static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

static int digits(struct imap_parser *ip, unsigned least, unsigned most, unsigned *n_r)
{
        unsigned n = 0, count = 0;

        for (; count < most && ip->p < ip->end && ascii_isdigit(*ip->p); count++)
                n = n * 10 + (unsigned)(*ip->p++ - '0');
        if (count < least)
                return unexpected(ip, "Digit of a date");
        *n_r = n;
        return 0;
}

static int month_name(struct imap_parser *ip, unsigned *month_r)
{
        for (unsigned i = 0; ip->end - ip->p >= 3 && i < 12; i++) {
                if (!span_ieq((struct span){ ip->p, 3 }, (struct span){ months[i], 3 }))
                        continue;
                ip->p += 3;
                *month_r = i + 1;
                return 0;
        }
        return unexpected(ip, "Month");
}

static unsigned month_days(unsigned year, unsigned month)
{
        static const unsigned char days[12] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };

        if (month == 2 && ((year % 4 == 0 && year % 100 != 0) || year % 400 == 0))
                return 29;
        return days[month - 1];
}

/* d-Mon-yyyy */
static int date_text(struct imap_parser *ip, int64_t *days_r)
{
        unsigned day = 0, month = 1, year = 0;

        if (digits(ip, 1, 2, &day) < 0 || imap_char(ip, '-') < 0 || month_name(ip, &month) < 0 || imap_char(ip, '-') < 0 ||
            digits(ip, 4, 4, &year) < 0)
                return -1;
        if (!day || day > month_days(year, month))
                return fail(ip, ERR_SYNTAX, "There is no such day in that month");
        *days_r = clock_days_from_civil(year, month, day);
        return 0;
}

int imap_date(struct imap_parser *ip, int64_t *days_r)
{
        bool in_quotes = imap_skip_c(ip, '"');

        if (date_text(ip, days_r) < 0)
                return -1;
        return in_quotes ? imap_char(ip, '"') : 0;
}

int imap_date_time(struct imap_parser *ip, int64_t *unix_s_r)
{
        int64_t days = 0;
        unsigned hour = 0, minute = 0, second = 0, zone = 0;
        int sign;

        if (imap_char(ip, '"') < 0)
                return -1;
        imap_skip_c(ip, ' ');                           /* date-day-fixed: " 1" */
        if (date_text(ip, &days) < 0 || imap_sp(ip) < 0 || digits(ip, 2, 2, &hour) < 0 || imap_char(ip, ':') < 0 ||
            digits(ip, 2, 2, &minute) < 0 || imap_char(ip, ':') < 0 || digits(ip, 2, 2, &second) < 0 || imap_sp(ip) < 0)
                return -1;
        sign = imap_peek_c(ip, '-') ? -1 : 1;
        if (!imap_skip_c(ip, '-') && imap_char(ip, '+') < 0)
                return -1;
        if (digits(ip, 4, 4, &zone) < 0 || imap_char(ip, '"') < 0)
                return -1;
        if (hour > 23 || minute > 59 || second > 60 || zone / 100 > 23 || zone % 100 > 59)
                return fail(ip, ERR_SYNTAX, "There is no such time of day");
        *unix_s_r = days * 86400 + hour * 3600 + minute * 60 + second - sign * (int64_t)((zone / 100) * 3600 + (zone % 100) * 60);
        return 0;
}

/* ---- flags ---- */

int imap_flag(struct imap_parser *ip, struct span *flag_r)
{
        const char *start = ip->p;
        struct span atom;

        imap_skip_c(ip, '\\');
        if (imap_atom(ip, &atom) < 0)
                return -1;
        *flag_r = (struct span){ start, (size_t)(ip->p - start) };
        if (flag_r->len > KEYWORD_BYTES_MAX)
                return fail(ip, ERR_LIMIT, "Keyword is too long");
        return 0;
}

static const struct { const char *name; uint32_t bit; } system_flags[] = {
        { "\\Answered", MSG_ANSWERED }, { "\\Flagged", MSG_FLAGGED }, { "\\Deleted", MSG_DELETED }, { "\\Draft", MSG_DRAFT },
        { "\\Seen", MSG_SEEN },
};

static int system_flag(struct imap_parser *ip, struct span flag, uint32_t *flags)
{
        for (size_t i = 0; i < ARRAY_LEN(system_flags); i++)
                if (imap_word_is(flag, system_flags[i].name)) {
                        *flags |= system_flags[i].bit;
                        return 0;
                }
        if (imap_word_is(flag, "\\Recent"))
                return fail(ip, ERR_SYNTAX, "\\Recent cannot be set by a client");
        return fail(ip, ERR_SYNTAX, "Unknown system flag");
}

int imap_flag_list(struct imap_parser *ip, bool bare_ok, uint32_t *flags_r, struct span **keywords_r, uint32_t *keyword_count_r)
{
        bool parens = imap_peek_c(ip, '(') || !bare_ok;
        uint32_t n = 0, cap = 0, seen = 0;
        struct span *keywords = NULL, flag;

        *flags_r = 0;
        *keywords_r = NULL;
        *keyword_count_r = 0;
        if (parens && imap_open_paren(ip) < 0)
                return -1;
        if (!(parens && imap_peek_c(ip, ')'))) {
                do {
                        if (imap_flag(ip, &flag) < 0)
                                return -1;
                        if (++seen > IMAP_FLAGS_MAX)
                                return fail(ip, ERR_LIMIT, "Too many flags");
                        if (flag.p[0] == '\\') {
                                if (system_flag(ip, flag, flags_r) < 0)
                                        return -1;
                                continue;
                        }
                        if (n == cap) {
                                struct span *more = ARENA_ARRAY(ip->arena, struct span, cap = cap ? cap * 2 : 8);

                                if (n)
                                        memcpy(more, keywords, n * sizeof *more);
                                keywords = more;
                        }
                        keywords[n++] = flag;
                } while (imap_skip_c(ip, ' '));
        }
        if (parens && imap_close_paren(ip) < 0)
                return -1;
        *keywords_r = keywords;
        *keyword_count_r = n;
        return 0;
}

bool imap_word_is(struct span s, const char *wanted)
{
        return span_ieq_str(s, wanted);
}

int imap_streamed_literal(struct imap_parser *ip, uint32_t *k_r)
{
        imap_skip_c(ip, '~');                           /* literal8, RFC 3516 */
        if (!imap_peek_c(ip, '{') || ip->end - ip->p < 2 || ip->p[1] != '#')
                return unexpected(ip, "Literal");
        ip->p += 2;
        if (imap_number(ip, k_r) < 0)
                return -1;
        return imap_char(ip, '}');
}
