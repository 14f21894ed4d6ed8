/* addr - see addr.h */
#include "server/lmtp/addr.h"

#include "util/hash.h"

static bool is_atext(char c)
{
        return ascii_isalpha(c) || ascii_isdigit(c) || (c && strchr("!#$%&'*+-/=?^_`{|}~", c)) || (unsigned char)c >= 0x80;
}

/* A quoted-string's content, unquoted into the arena; *at stands on the opening quote and is left behind the closing one. */
static int quoted_local(struct span in, size_t *at, struct arena *arena, struct span *out_r, struct err *err)
{
        char *out = arena_alloc(arena, in.len + 1);
        size_t n = 0, i = *at + 1;

        for (; i < in.len; i++) {
                unsigned char c = (unsigned char)in.p[i];

                if (c == '"') {
                        out[n] = '\0';
                        *out_r = (struct span){ out, n };
                        *at = i + 1;
                        return 0;
                }
                if (c == '\\' && i + 1 < in.len)
                        c = (unsigned char)in.p[++i];
                if (c < 0x20 || c == 0x7f)
                        return err_set(err, ERR_SYNTAX, "control character in the quoted local part");
                out[n++] = (char)c;
        }
        return err_set(err, ERR_SYNTAX, "unterminated quoted local part");
}

/* An obsolete source route "@a,@b:" is skipped (RFC 5321 4.1.1.3). */
static size_t skip_route(struct span in)
{
        size_t i = 0;

        if (in.len == 0 || in.p[0] != '@')
                return 0;
        while (i < in.len && in.p[i] != ':' && in.p[i] != '>' && in.p[i] != '"' && in.p[i] != ' ')
                i++;
        return i < in.len && in.p[i] == ':' ? i + 1 : 0;
}

static int parse_domain(struct span in, size_t *at, struct span *domain_r, struct err *err)
{
        size_t start = *at, i = start;

        if (i < in.len && in.p[i] == '[') {             /* address literal, RFC 5321 4.1.3 */
                while (i < in.len && in.p[i] != ']' && in.p[i] != '>' && (unsigned char)in.p[i] > 0x20)
                        i++;
                if (i >= in.len || in.p[i] != ']')
                        return err_set(err, ERR_SYNTAX, "unterminated address literal");
                i++;
        } else {
                while (i < in.len && (ascii_isalpha(in.p[i]) || ascii_isdigit(in.p[i]) || in.p[i] == '-' || in.p[i] == '.' ||
                                      in.p[i] == '_' || (unsigned char)in.p[i] >= 0x80))
                        i++;
        }
        *domain_r = (struct span){ in.p + start, i - start };
        if (domain_r->len == 0 || domain_r->p[0] == '.')
                return err_set(err, ERR_SYNTAX, "bad domain in the address");
        *at = i;
        return 0;
}

static struct span without_8bit(struct span s, size_t n, struct arena *arena)
{
        char *copy;

        for (size_t i = 0; i < n; i++) {
                if ((unsigned char)s.p[i] < 0x80)
                        continue;
                copy = (char *)(uintptr_t)arena_span(arena, s).p;
                for (; i < n; i++)
                        if ((unsigned char)copy[i] >= 0x80)
                                copy[i] = 'X';
                return (struct span){ copy, s.len };
        }
        return s;
}

int lmtp_path_parse(struct span in, enum lmtp_8bit octets, bool null_ok, struct arena *arena, struct lmtp_path *path_r, struct span *rest_r,
                    struct err *err)
{
        size_t at = 0, text_start;

        memset(path_r, 0, sizeof *path_r);
        while (at < in.len && in.p[at] == ' ')          /* "FROM: <x>" is common, though RFC 5321 3.3 forbids it */
                at++;
        if (at >= in.len || in.p[at] != '<')
                return err_set(err, ERR_SYNTAX, "the address must be in angle brackets");
        in.p += at + 1;
        in.len -= at + 1;
        at = skip_route(in);
        text_start = at;
        if (at < in.len && in.p[at] == '>') {
                if (!null_ok)
                        return err_set(err, ERR_SYNTAX, "the address is empty");
                path_r->null = true;
                path_r->text = SPAN("");
        } else {
                if (at < in.len && in.p[at] == '"') {
                        if (quoted_local(in, &at, arena, &path_r->local, err) < 0)
                                return -1;
                } else {
                        size_t start = at;

                        /* Two dots in a row, or one at an end, are out of grammar but common in the wild: they are accepted, as the
                         * look-up decides. */
                        while (at < in.len && (is_atext(in.p[at]) || in.p[at] == '.'))
                                at++;
                        path_r->local = (struct span){ in.p + start, at - start };
                }
                if (path_r->local.len == 0)
                        return err_set(err, ERR_SYNTAX, "bad local part in the address");
                if (at < in.len && in.p[at] == '@') {
                        at++;
                        if (parse_domain(in, &at, &path_r->domain, err) < 0)
                                return -1;
                }
                if (at >= in.len || in.p[at] != '>')
                        return err_set(err, ERR_SYNTAX, "the address does not end with '>'");
                path_r->text = (struct span){ in.p + text_start, at - text_start };
        }
        if (path_r->text.len > LMTP_PATH_MAX)
                return err_set(err, ERR_LIMIT, "the address has more than %d octets", LMTP_PATH_MAX);
        if (octets == LMTP_8BIT_X) {
                path_r->local = without_8bit(path_r->local, path_r->local.len, arena);
                path_r->text = without_8bit(path_r->text, path_r->text.len - path_r->domain.len, arena);
        }
        for (size_t i = 0; i < path_r->text.len; i++)
                if ((unsigned char)path_r->text.p[i] >= 0x80 && octets != LMTP_8BIT_UTF8)
                        return err_set(err, ERR_SYNTAX, "8-bit octets in the address without SMTPUTF8");
        if (!utf8_valid(path_r->text))
                return err_set(err, ERR_SYNTAX, "the address is not valid UTF-8");
        at++;
        *rest_r = (struct span){ in.p + at, in.len - at };
        if (rest_r->len && rest_r->p[0] != ' ')
                return err_set(err, ERR_SYNTAX, "text directly behind the address");
        *rest_r = span_trim(*rest_r);
        return 0;
}

static int one_param(struct span key, struct span value, bool has_value, bool rcpt, struct lmtp_params *p, struct err *err)
{
        if (rcpt) {
                if (span_ieq_str(key, "IGNOREQUOTA") && !has_value)
                        p->ignorequota = true;
                else if (!span_ieq_str(key, "NOTIFY") && !span_ieq_str(key, "ORCPT"))
                        return err_set(err, ERR_UNSUPPORTED, "unknown RCPT parameter");
                return 0;
        }
        if (span_ieq_str(key, "SIZE")) {                /* RFC 1870 */
                if (!span_u64(value, INT64_MAX, &p->size))
                        return err_set(err, ERR_SYNTAX, "bad SIZE");
        } else if (span_ieq_str(key, "BODY")) {         /* RFC 6152 */
                if (span_ieq_str(value, "8BITMIME"))
                        p->body_8bit = true;
                else if (!span_ieq_str(value, "7BIT"))
                        return err_set(err, ERR_SYNTAX, "bad BODY");
        } else if (span_ieq_str(key, "SMTPUTF8")) {     /* RFC 6531 3.4 */
                if (has_value)
                        return err_set(err, ERR_SYNTAX, "SMTPUTF8 takes no value");
                p->smtputf8 = true;
        } else if (span_ieq_str(key, "AUTH")) {
                if (!has_value || value.len == 0)
                        return err_set(err, ERR_SYNTAX, "bad AUTH");
                if (!span_eq_str(value, "<>"))
                        p->auth = value;
        } else if (!span_ieq_str(key, "RET") && !span_ieq_str(key, "ENVID")) {
                /* RET and ENVID (RFC 3461) say nothing to the last hop. */
                return err_set(err, ERR_UNSUPPORTED, "unknown MAIL parameter");
        }
        return 0;
}

int lmtp_params_parse(struct span in, bool rcpt, struct lmtp_params *params_r, struct err *err)
{
        memset(params_r, 0, sizeof *params_r);
        while (in.len) {
                size_t end = span_index(in, ' ');
                struct span word = { in.p, end }, key, value = { NULL, 0 };
                size_t eq = span_index(word, '=');

                key = (struct span){ word.p, eq };
                if (eq < word.len)
                        value = (struct span){ word.p + eq + 1, word.len - eq - 1 };
                if (word.len && one_param(key, value, eq < word.len, rcpt, params_r, err) < 0)
                        return -1;
                in.p += end;
                in.len -= end;
                while (in.len && in.p[0] == ' ') {
                        in.p++;
                        in.len--;
                }
        }
        return 0;
}

int lmtp_xtext_decode(struct span in, struct arena *arena, const char **out_r, struct err *err)
{
        char *out = arena_alloc(arena, in.len + 1);
        size_t n = 0;

        for (size_t i = 0; i < in.len; i++) {
                unsigned char c = (unsigned char)in.p[i];

                if (c == '+') {
                        if (in.len - i < 3 || !hex_decode(&c, (struct span){ in.p + i + 1, 2 }))
                                return err_set(err, ERR_SYNTAX, "bad xtext");
                        i += 2;
                } else if (c <= ' ' || c >= 0x7f || c == '=') {
                        return err_set(err, ERR_SYNTAX, "bad xtext");
                }
                if (c == '\0')
                        return err_set(err, ERR_SYNTAX, "bad xtext");
                out[n++] = (char)c;
        }
        out[n] = '\0';
        *out_r = out;
        return 0;
}
