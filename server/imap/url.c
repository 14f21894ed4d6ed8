/*
 * url - the grammar of RFC 5092 11, and of RFC 4467 9; see url.h
 *
 *   imap://user;AUTH=*@host:port/mailbox;UIDVALIDITY=n/;UID=n/;SECTION=1.2/;PARTIAL=0.1024;EXPIRE=date;URLAUTH=access:mechanism:token
 *
 * The order of what follows the mailbox is fixed, each may stand once; a "/" before the semicolon is taken but not insisted on, as
 * not all who write such URLs agree where it belongs. A cursor that only moves forward: linear.
 */
#include "server/imap/url.h"

#include <stdlib.h>

#include "util/array.h"
#include "util/clock.h"
#include "util/hash.h"

static int bad(struct err *err, const char *what)
{
        return err_set(err, ERR_SYNTAX, "%s", what);
}

static int hex_digit(char c)
{
        if (ascii_isdigit(c))
                return c - '0';
        c = ascii_lower(c);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* achar: what stands for itself in a user, with ":", "@" and "/" (`more`) a bchar. */
static bool url_char(char c, const char *more)
{
        return c && (ascii_isalpha(c) || ascii_isdigit(c) || strchr("-._~!$'()*+,&=", c) || strchr(more, c));
}

/* Take what may stand there; its end is the first octet that may not. Percent-encoding is undone. */
static int take(struct span text, size_t *pos, const char *more, struct arena *arena, struct span *out_r, struct err *err)
{
        size_t start = *pos, n = 0, at = start;
        char *out;

        while (at < text.len && (url_char(text.p[at], more) || text.p[at] == '%'))
                at++;
        out = arena_alloc(arena, at - start + 1);
        for (size_t i = start; i < at; i++) {
                int high, low;

                if (text.p[i] != '%') {
                        out[n++] = text.p[i];
                        continue;
                }
                high = i + 2 < at ? hex_digit(text.p[i + 1]) : -1;
                low = i + 2 < at ? hex_digit(text.p[i + 2]) : -1;
                if (high < 0 || low < 0 || high + low == 0)
                        return bad(err, "Malformed percent-encoding in the URL");
                out[n++] = (char)(high << 4 | low);
                i += 2;
        }
        out[n] = 0;
        *out_r = (struct span){ out, n };
        *pos = at;
        if (!utf8_valid(*out_r))
                return bad(err, "The URL is not UTF-8");
        return 0;
}

static bool skip(struct span text, size_t *pos, const char *word)
{
        size_t n = strlen(word);

        if (text.len - *pos < n || !span_ieq((struct span){ text.p + *pos, n }, (struct span){ word, n }))
                return false;
        *pos += n;
        return true;
}

/* ---- the server part ---- */

static int parse_server(struct span text, size_t *pos, struct arena *arena, struct imap_url *u, struct err *err)
{
        size_t end = *pos, at_sign, start;
        struct span ignored;
        char *host;

        while (end < text.len && text.p[end] != '/' && text.p[end] != '?')
                end++;
        at_sign = *pos;
        while (at_sign < end && text.p[at_sign] != '@')
                at_sign++;
        if (at_sign < end) {
                if (take(text, pos, "", arena, &u->user, err) < 0)
                        return -1;
                if (u->user.len == 0)
                        u->user.p = NULL;
                if (skip(text, pos, ";AUTH=") && (take(text, pos, "", arena, &ignored, err) < 0 || ignored.len == 0))
                        return bad(err, "Malformed mechanism in the URL");
                if (*pos != at_sign)
                        return bad(err, "Malformed user in the URL");
                *pos = at_sign + 1;
        }
        start = *pos;
        if (*pos < end && text.p[*pos] == '[') {
                while (*pos < end && text.p[*pos] != ']')
                        ++*pos;
                if (*pos == end)
                        return bad(err, "Malformed server in the URL");
                ++*pos;
        } else {
                while (*pos < end && url_char(text.p[*pos], ""))
                        ++*pos;
        }
        if (*pos == start)
                return bad(err, "The URL names no server");
        host = arena_strndup(arena, text.p + start, *pos - start);
        for (char *p = host; *p; p++)
                *p = ascii_lower(*p);
        u->host = span_of(host);
        if (*pos < end && text.p[*pos] == ':') {
                ++*pos;
                while (*pos < end && ascii_isdigit(text.p[*pos]))
                        ++*pos;
        }
        return *pos == end ? 0 : bad(err, "Malformed server in the URL");
}

/* ---- what follows the mailbox ---- */

static int number(struct span text, size_t *pos, uint64_t max, uint64_t *n_r, struct err *err)
{
        struct span digits = { text.p + *pos, 0 };

        while (*pos < text.len && ascii_isdigit(text.p[*pos])) {
                ++*pos;
                digits.len++;
        }
        return span_u64(digits, max, n_r) ? 0 : bad(err, "Malformed number in the URL");
}

static int nz_number32(struct span text, size_t *pos, uint32_t *n_r, struct err *err)
{
        uint64_t n;

        if (number(text, pos, UINT32_MAX, &n, err) < 0)
                return -1;
        *n_r = (uint32_t)n;
        return n ? 0 : bad(err, "A number in the URL is 0");
}

static int digits(struct span text, size_t *pos, unsigned n, unsigned max, unsigned *value_r, struct err *err)
{
        *value_r = 0;
        while (n-- > 0) {
                if (*pos >= text.len || !ascii_isdigit(text.p[*pos]))
                        return bad(err, "Malformed date in the URL");
                *value_r = *value_r * 10 + (unsigned)(text.p[(*pos)++] - '0');
        }
        return *value_r <= max ? 0 : bad(err, "There is no such date as in the URL");
}

static int separator(struct span text, size_t *pos, char c, struct err *err)
{
        if (*pos >= text.len || ascii_upper(text.p[*pos]) != c)
                return bad(err, "Malformed date in the URL");
        ++*pos;
        return 0;
}

/* RFC 3339 5.6: 2026-11-29T17:00:00.5+01:00 */
static int date_time(struct span text, size_t *pos, int64_t *unix_s_r, struct err *err)
{
        static const uint8_t month_days[] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
        unsigned year, month, day, hour, minute, second, zone_hour = 0, zone_minute = 0;
        int sign = 0;

        if (digits(text, pos, 4, 9999, &year, err) < 0 || separator(text, pos, '-', err) < 0 || digits(text, pos, 2, 12, &month, err) < 0 ||
            separator(text, pos, '-', err) < 0 || digits(text, pos, 2, 31, &day, err) < 0 || separator(text, pos, 'T', err) < 0 ||
            digits(text, pos, 2, 23, &hour, err) < 0 || separator(text, pos, ':', err) < 0 || digits(text, pos, 2, 59, &minute, err) < 0 ||
            separator(text, pos, ':', err) < 0 || digits(text, pos, 2, 60, &second, err) < 0)
                return -1;
        if (month == 0 || day == 0 || day > month_days[month - 1] || (month == 2 && day == 29 && (year % 4 || (year % 100 == 0 && year % 400))))
                return bad(err, "There is no such date as in the URL");
        if (*pos < text.len && text.p[*pos] == '.') {
                size_t start = ++*pos;

                while (*pos < text.len && ascii_isdigit(text.p[*pos]))
                        ++*pos;
                if (*pos == start)
                        return bad(err, "Malformed date in the URL");
        }
        if (!skip(text, pos, "Z")) {
                if (!skip(text, pos, "+") && !skip(text, pos, "-"))
                        return bad(err, "Malformed date in the URL");
                sign = text.p[*pos - 1] == '-' ? -1 : 1;
                if (digits(text, pos, 2, 23, &zone_hour, err) < 0 || separator(text, pos, ':', err) < 0 ||
                    digits(text, pos, 2, 59, &zone_minute, err) < 0)
                        return -1;
        }
        *unix_s_r = clock_days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second -
                    sign * (int64_t)(zone_hour * 3600 + zone_minute * 60);
        return 0;
}

static int parse_partial(struct span text, size_t *pos, struct imap_url *u, struct err *err)
{
        u->partial = true;
        if (number(text, pos, INT64_MAX, &u->first, err) < 0)
                return -1;
        if (!skip(text, pos, "."))
                return 0;
        if (number(text, pos, INT64_MAX, &u->count, err) < 0)
                return -1;
        return u->count ? 0 : bad(err, "A partial URL of nothing");
}

static int parse_access(struct span text, size_t *pos, struct arena *arena, struct imap_url *u, struct err *err)
{
        static const struct { const char *word; enum imap_url_access access; } words[] = {
                { "submit+", URL_SUBMIT }, { "user+", URL_USER }, { "authuser", URL_AUTHUSER }, { "anonymous", URL_ANONYMOUS },
        };

        for (size_t i = 0; i < ARRAY_LEN(words) && !u->access; i++)
                if (skip(text, pos, words[i].word))
                        u->access = words[i].access;
        if (!u->access)
                return bad(err, "Unknown access identifier in the URL");
        if ((u->access == URL_SUBMIT || u->access == URL_USER) && take(text, pos, "", arena, &u->access_user, err) < 0)
                return -1;
        if ((u->access == URL_SUBMIT || u->access == URL_USER) && u->access_user.len == 0)
                return bad(err, "The access identifier of the URL names no user");
        return 0;
}

/* [":" mechanism ":" token]; it ends the URL. */
static int parse_token(struct span text, size_t *pos, struct imap_url *u, struct err *err)
{
        size_t start;
        struct span hex;

        u->rump = (struct span){ text.p, *pos };
        if (!skip(text, pos, ":"))
                return 0;
        start = *pos;
        while (*pos < text.len && (ascii_isalpha(text.p[*pos]) || ascii_isdigit(text.p[*pos]) || text.p[*pos] == '-' || text.p[*pos] == '.'))
                ++*pos;
        u->mechanism = (struct span){ text.p + start, *pos - start };
        if (u->mechanism.len == 0 || !skip(text, pos, ":"))
                return bad(err, "Malformed mechanism in the URL");
        hex = (struct span){ text.p + *pos, text.len - *pos };
        if (hex.len < 2 * IMAP_URL_TOKEN_MIN || hex.len > 2 * IMAP_URL_TOKEN_MAX || hex.len % 2 || !hex_decode(u->token, hex))
                return bad(err, "Malformed token in the URL");
        u->token_n = hex.len / 2;
        *pos = text.len;
        return 0;
}

enum { P_UIDVALIDITY, P_UID, P_SECTION, P_PARTIAL, P_EXPIRE, P_URLAUTH, P_N };

static int parse_parameters(struct span text, size_t *pos, struct arena *arena, struct imap_url *u, struct err *err)
{
        static const char *const names[P_N] = { ";UIDVALIDITY=", ";UID=", ";SECTION=", ";PARTIAL=", ";EXPIRE=", ";URLAUTH=" };
        int next = 0;

        while (*pos < text.len && text.p[*pos] != '?') {
                int which, ret = 0;

                if (text.p[*pos] == '/' && ++*pos == text.len)
                        break;
                for (which = next; which < P_N && !skip(text, pos, names[which]); which++)
                        ;
                if (which == P_N)
                        return bad(err, "Unknown parameter in the URL, or not in its place");
                next = which + 1;
                switch (which) {
                case P_UIDVALIDITY: ret = nz_number32(text, pos, &u->uidvalidity, err); break;
                case P_UID: ret = nz_number32(text, pos, &u->uid, err); break;
                case P_SECTION:
                        u->has_section = true;
                        ret = take(text, pos, ":@", arena, &u->section, err);
                        if (ret == 0 && u->section.len == 0)
                                ret = bad(err, "An empty section in the URL");
                        break;
                case P_PARTIAL: ret = parse_partial(text, pos, u, err); break;
                case P_EXPIRE:
                        u->has_expire = true;
                        ret = date_time(text, pos, &u->expire, err);
                        break;
                case P_URLAUTH:
                        ret = parse_access(text, pos, arena, u, err);
                        if (ret == 0)
                                ret = parse_token(text, pos, u, err);
                        break;
                }
                if (ret < 0)
                        return -1;
                if (which == P_URLAUTH && *pos < text.len)
                        return bad(err, "Something follows URLAUTH in the URL");
        }
        return 0;
}

int imap_url_parse(struct span text, struct arena *arena, struct imap_url *u, struct err *err)
{
        size_t pos = 0;

        memset(u, 0, sizeof *u);
        if (text.len > IMAP_URL_MAX)
                return err_set(err, ERR_LIMIT, "The URL is too long");
        u->absolute = skip(text, &pos, "imap://");
        if (u->absolute && parse_server(text, &pos, arena, u, err) < 0)
                return -1;
        u->rooted = skip(text, &pos, "/");
        if (!u->absolute && !u->rooted && span_index(text, ':') < span_index(text, '/'))        /* RFC 3986 4.2 */
                return bad(err, "The URL is not IMAP's");
        if (u->rooted || !u->absolute) {
                if (take(text, &pos, ":@/", arena, &u->mailbox, err) < 0)
                        return -1;
                if (pos < text.len && text.p[pos] == ';' && u->mailbox.len && u->mailbox.p[u->mailbox.len - 1] == '/')
                        u->mailbox.len--;               /* that of "/;UID=" */
        }
        if (parse_parameters(text, &pos, arena, u, err) < 0)
                return -1;
        u->is_list = pos < text.len;                    /* "?" */
        if (u->uid == 0 && (u->has_section || u->partial || u->access))
                return bad(err, "The URL names no message");
        if (u->has_expire && !u->access)
                return bad(err, "EXPIRE without URLAUTH in the URL");
        if (u->is_list && u->uid)
                return bad(err, "The URL names a message and a search");
        return 0;
}
