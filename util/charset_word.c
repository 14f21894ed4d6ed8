/* charset_word - encoded words in header fields (RFC 2047, RFC 2231 5); see charset.h */
#include "util/charset.h"

#include "util/charset_private.h"

#define CHARSET_NAME_MAX 64

struct word {
        struct span charset;
        struct span text;
        bool base64;
        size_t len;                             /* the whole word, from "=?" to "?=" */
};

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Is there an encoded word at the start of `in`? RFC 2047 2 limits one to 75 octets; many are longer. */
static bool word_at(struct span in, struct word *w)
{
        size_t i = 2, star = 0, start;

        if (in.len < 8 || in.p[0] != '=' || in.p[1] != '?')
                return false;
        while (i < in.len && i < 2 + CHARSET_NAME_MAX && in.p[i] > ' ' && in.p[i] != '?' && in.p[i] != '=') {
                if (in.p[i] == '*' && !star)
                        star = i;                       /* RFC 2231 5: a language after the charset */
                i++;
        }
        if (i == 2 || i + 3 > in.len || in.p[i] != '?' || in.p[i + 2] != '?')
                return false;
        w->charset = (struct span){ in.p + 2, (star ? star : i) - 2 };
        w->base64 = ascii_lower(in.p[i + 1]) == 'b';
        if (!w->base64 && ascii_lower(in.p[i + 1]) != 'q')
                return false;
        start = i = i + 3;
        while (i < in.len && in.p[i] != '?' && !is_blank(in.p[i]) && in.p[i] != '\0')
                i++;
        if (i + 1 >= in.len || in.p[i] != '?' || in.p[i + 1] != '=')
                return false;
        w->text = (struct span){ in.p + start, i - start };
        w->len = i + 2;
        return true;
}

static int hex_of(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        c = ascii_lower(c);
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 2047 4.2 */
static void q_decode(struct span in, struct str *out)
{
        for (size_t i = 0; i < in.len; i++) {
                if (in.p[i] == '_') {
                        str_append_c(out, ' ');
                } else if (in.p[i] == '=' && i + 2 < in.len && hex_of(in.p[i + 1]) >= 0 && hex_of(in.p[i + 2]) >= 0) {
                        str_append_c(out, (char)(hex_of(in.p[i + 1]) << 4 | hex_of(in.p[i + 2])));
                        i += 2;
                } else {
                        str_append_c(out, in.p[i]);
                }
        }
}

/* Plain text of the field, unfolded. A line end before a blank vanishes, any other becomes a space. */
static void plain(struct span in, bool more_follows, struct str *out)
{
        struct str unfolded = STR_INIT;

        if (in.len == 0)
                return;
        for (size_t i = 0; i < in.len; i++) {
                char c = in.p[i];
                size_t after = i + 1;

                if (c == '\0') {
                        str_append_str(&unfolded, UTF8_REPLACEMENT);
                        continue;
                }
                if (c != '\r' && c != '\n') {
                        str_append_c(&unfolded, c);
                        continue;
                }
                while (after < in.len && (in.p[after] == '\r' || in.p[after] == '\n'))
                        after++;
                if (after < in.len ? in.p[after] != ' ' && in.p[after] != '\t' : more_follows)
                        str_append_c(&unfolded, ' ');
                i = after - 1;
        }
        charset_repair_utf8(str_span(&unfolded), out);
        str_deinit(&unfolded);
}

/* The words that stand side by side in one charset: decoded as one piece, because some senders cut characters. */
struct run {
        struct charset_stream *stream;
        struct span charset;
};

static void run_end(struct run *r, struct str *out)
{
        if (!r->stream)
                return;
        charset_stream_finish(r->stream, out);
        charset_stream_destroy(&r->stream);
}

static void run_word(struct run *r, const struct word *w, struct str *out)
{
        struct str octets = STR_INIT, text = STR_INIT;

        /* ISO-2022 begins each word in its initial state (RFC 1468, RFC 2047 3), so it is not joined. */
        if (r->stream && (!span_ieq(r->charset, w->charset) || span_istarts(w->charset, "iso-2022") || span_istarts(w->charset, "utf-7")))
                run_end(r, out);
        if (!r->stream) {
                r->stream = charset_stream_create(w->charset);
                r->charset = w->charset;
        }
        if (w->base64) {
                struct transfer t;

                transfer_init(&t, TRANSFER_BASE64);
                transfer_feed(&t, w->text, &octets);
                transfer_finish(&t, &octets);
        } else {
                q_decode(w->text, &octets);
        }
        charset_stream_feed(r->stream, str_span(&octets), &text);
        for (size_t i = 0; i < text.len; i++) {         /* what was encoded must not act as a control of ours */
                if (text.data[i] == '\0')
                        str_append_str(out, UTF8_REPLACEMENT);
                else
                        str_append_c(out, text.data[i]);
        }
        str_deinit(&octets);
        str_deinit(&text);
}

void rfc2047_decode(struct span in, struct str *out)
{
        struct run run = { NULL, { NULL, 0 } };
        size_t plain_from = 0, i = 0;
        bool after_word = false;

        while (i < in.len) {
                const char *hit = memmem(in.p + i, in.len - i, "=?", 2);
                struct word w;
                size_t at, blank;

                if (!hit)
                        break;
                at = (size_t)(hit - in.p);
                if (!word_at((struct span){ hit, in.len - at }, &w)) {
                        i = at + 2;
                        continue;
                }
                blank = plain_from;
                while (blank < at && is_blank(in.p[blank]))
                        blank++;
                if (!after_word || blank < at) {                /* RFC 2047 6.2: blanks between two words are not shown */
                        run_end(&run, out);
                        plain((struct span){ in.p + plain_from, at - plain_from }, true, out);
                }
                run_word(&run, &w, out);
                i = plain_from = at + w.len;
                after_word = true;
        }
        run_end(&run, out);
        plain((struct span){ in.p + plain_from, in.len - plain_from }, false, out);
}
