/*
 * gather - a command out of octets cut at any point. A command is a line, or lines joined by literals: a line that ends in {n} or
 * {n+} goes on after n octets (RFC 9051 4.3, RFC 7888). Whatever comes, what is held stays within the limits, each octet is looked
 * at once, and after an error the next command is found again:
 *   - the line is read to its end; a non-synchronising literal there is skipped, as it comes anyway, and the line after it too;
 *   - a synchronising literal there never comes: the client hears BAD instead of "+", so the command is over.
 */
#include "server/imap/parse.h"

#include <stdlib.h>

#include "util/must.h"

enum state { IN_LINE, IN_LITERAL, IN_STREAM, IN_SKIP };

#define UNAUTH_LITERALS 4                       /* of the greatest size, in a command before login: LOGIN has two */
#define TAIL 64                                 /* a refused line's last octets, to see the literal at its end */

struct imap_gather {
        struct imap_limits limits;
        bool authenticated;
        enum state state;
        struct str text;
        size_t line_start;                      /* of the present line, in text */
        size_t line_octets;                     /* of all lines of the command */
        bool in_quotes, escaped, cr;
        unsigned depth;                         /* of parentheses that are open */
        bool annotation;                        /* the outermost of them are those of APPEND's ANNOTATION */
        bool nul_ok;                            /* this literal is a literal8 */
        bool refused;                           /* text is not continued; `why` is the answer */
        struct err why;
        char tail[TAIL];
        size_t tail_n;
        uint64_t literal_left, literal_bytes;
        bool literal_sync;
        uint64_t skipped;
        uint32_t streamed;                      /* literals that were streamed */
        unsigned literals;                      /* of any kind, in this command */
};

struct imap_gather *imap_gather_create(const struct imap_limits *limits)
{
        struct imap_gather *g = xcalloc(1, sizeof *g);

        g->limits = *limits;
        str_init(&g->text);
        return g;
}

void imap_gather_destroy(struct imap_gather **gp)
{
        if (!*gp)
                return;
        str_deinit(&(*gp)->text);
        free(*gp);
        *gp = NULL;
}

void imap_gather_reset(struct imap_gather *g, bool authenticated)
{
        struct imap_limits limits = g->limits;
        struct str text = g->text;

        memset(g, 0, sizeof *g);
        g->limits = limits;
        g->authenticated = authenticated;
        g->text = text;
        if (g->text.cap > 4096)
                str_deinit(&g->text);
        str_clear(&g->text);
}

void imap_gather_wipe(struct imap_gather *g)
{
        if (g->text.cap)
                explicit_bzero(g->text.data, g->text.cap);
        str_clear(&g->text);
}

bool imap_gather_idle(const struct imap_gather *g)
{
        return g->state == IN_LINE && !g->text.len && !g->cr && !g->refused && !g->line_octets;
}

struct span imap_gather_text(const struct imap_gather *g)
{
        return str_span(&g->text);
}

/* A tag that may be sent back: its octets are a tag's (RFC 9051 9: ASTRING-CHAR without "+"), and it is not too long. */
struct span imap_gather_tag(const struct imap_gather *g)
{
        struct span tag = { g->text.data, span_index(str_span(&g->text), ' ') };

        if (tag.len == g->text.len || tag.len > IMAP_TAG_MAX || !imap_tag_ok(tag))
                return SPAN("");
        return tag;
}

uint64_t imap_gather_literal_bytes(const struct imap_gather *g)
{
        return g->literal_bytes;
}

bool imap_gather_literal_sync(const struct imap_gather *g)
{
        return g->literal_sync;
}

static void refuse(struct imap_gather *g, enum err_code code, const char *why)
{
        if (g->refused)
                return;
        g->refused = true;
        err_set(&g->why, code, "%s", why);
}

static enum gather_result answer_bad(struct imap_gather *g, struct err *err)
{
        err_copy(err, &g->why);
        return GATHER_BAD;
}

/* ---- lines ---- */

/* The line is refused from here on, perhaps in the midst of a literal's announcement. */
static void seed_tail(struct imap_gather *g)
{
        size_t n = g->text.len - g->line_start;

        g->tail_n = n < TAIL / 2 ? n : TAIL / 2;
        if (g->tail_n)
                memcpy(g->tail, g->text.data + g->text.len - g->tail_n, g->tail_n);
}

static void keep(struct imap_gather *g, char c)
{
        if (g->refused || ++g->line_octets > (g->authenticated ? g->limits.line_max : g->limits.unauth_line_max)) {
                refuse(g, ERR_LIMIT, "Command line is too long");
                if (g->tail_n == 0)
                        seed_tail(g);
                if (g->tail_n == TAIL) {
                        memmove(g->tail, g->tail + TAIL / 2, TAIL / 2);
                        g->tail_n = TAIL / 2;
                }
                g->tail[g->tail_n++] = c;
                return;
        }
        str_append_c(&g->text, c);
}

/* What has come so far of the line cannot be the beginning of a command. RFC 9051 lets a client call its tag "GET", but no command
 * begins with a slash or an asterisk. */
static bool not_imap(struct imap_gather *g)
{
        static const char *const verbs[] = { "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PRI" };
        struct span s = str_span(&g->text), first = { s.p, span_index(s, ' ') };

        if (g->line_start || g->literals)
                return false;
        if (s.len >= 2 && s.p[0] == 0x16 && s.p[1] == 0x03)             /* TLS ClientHello */
                return true;
        if (s.len < first.len + 2 || (s.p[first.len + 1] != '/' && s.p[first.len + 1] != '*' && s.p[first.len + 1] != 'h'))
                return false;
        for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
                if (span_eq_str(first, verbs[i]))
                        return s.p[first.len + 1] != 'h' || (s.len > first.len + 5 && span_istarts((struct span){ s.p + first.len + 1,
                                                             s.len - first.len - 1 }, "http"));
        return false;
}

/* "{n}" or "{n+}" at the end of a line. Returns false: none. *mark_r: the length of the line without it. */
static bool literal_at_end(struct span line, size_t *mark_r, struct span *digits_r, bool *sync_r)
{
        size_t i = line.len;

        if (i < 3 || line.p[--i] != '}')
                return false;
        *sync_r = line.p[i - 1] != '+';
        if (!*sync_r)
                i--;
        digits_r->len = 0;
        while (i && ascii_isdigit(line.p[i - 1]))
                i--, digits_r->len++;
        digits_r->p = line.p + i;
        if (!i || !digits_r->len || line.p[i - 1] != '{')
                return false;
        *mark_r = i - 1;
        return true;
}

/* The octets of "tag APPEND ", "tag REPLACE n " or "tag UID REPLACE n ": behind them stands the mailbox, then come messages. 0: neither. */
static size_t message_command(struct span s)
{
        size_t at = span_index(s, ' ');
        struct span rest = { s.p + at, s.len - at };

        if (span_istarts(rest, " APPEND "))
                return at + sizeof " APPEND " - 1;
        if (span_istarts(rest, " UID "))
                rest = (struct span){ rest.p + 4, rest.len - 4 };
        if (!span_istarts(rest, " REPLACE "))
                return 0;
        rest = (struct span){ rest.p + sizeof " REPLACE " - 1, rest.len - (sizeof " REPLACE " - 1) };
        at = span_index(rest, ' ');
        return at < rest.len ? (size_t)(rest.p + at + 1 - s.p) : 0;
}

/* Is this literal a message, or a piece of one? All of APPEND's and REPLACE's are, but for one that stands directly before them, the
 * mailbox, those within ANNOTATION (RFC 5257 4.7), and a URL of CATENATE. */
static bool streams(const struct imap_gather *g, size_t mark)
{
        struct span s = { g->text.data, mark };
        size_t head = g->authenticated ? message_command(s) : 0;

        if (head == 0 || mark <= head || g->annotation)
                return false;
        return mark < 5 || !span_ieq_str((struct span){ s.p + mark - 4, 4 }, "URL ");
}

static enum gather_result skip_literal(struct imap_gather *g, uint64_t n, struct err *err)
{
        uint64_t max = g->authenticated ? g->limits.skip_max : g->limits.unauth_skip_max;

        if (n > max || g->skipped > max - n) {
                err_set(err, ERR_LIMIT, "Literal is too large");
                return GATHER_CLOSE;
        }
        g->skipped += n;
        g->literal_left = n;
        g->state = IN_SKIP;
        return GATHER_MORE;
}

#define TOO_LARGE_FOR_MINUS "Non-synchronizing literals of more than 4096 octets are not allowed (LITERAL-)"

/* A literal was announced that may not come, in a command that is in order so far. */
static enum gather_result too_large(struct imap_gather *g, uint64_t n, bool sync, const char *why, struct err *err)
{
        refuse(g, ERR_LIMIT, why);
        return sync ? answer_bad(g, err) : skip_literal(g, n, err);
}

static enum gather_result announced(struct imap_gather *g, size_t mark, struct span digits, bool sync, struct err *err)
{
        uint64_t n;
        size_t literal_max = g->authenticated ? g->limits.literal_max : g->limits.unauth_literal_max;
        size_t total_max = g->authenticated ? g->limits.total_max : g->limits.unauth_line_max + UNAUTH_LITERALS * literal_max;

        g->literal_sync = sync;
        if (!span_u64(digits, INT64_MAX, &n)) {
                err_set(err, ERR_LIMIT, "Literal is too large");
                if (!sync)
                        return GATHER_CLOSE;
                return GATHER_BAD;
        }
        g->literal_bytes = g->literal_left = n;
        if (g->refused)
                return sync ? answer_bad(g, err) : skip_literal(g, n, err);
        if (!sync && n > g->limits.nonsync_max)                         /* RFC 7888 5: with TOOBIG for messages */
                return too_large(g, n, sync, streams(g, mark) ? "[TOOBIG] " TOO_LARGE_FOR_MINUS : TOO_LARGE_FOR_MINUS, err);
        g->nul_ok = mark && g->text.data[mark - 1] == '~';
        g->literals++;
        if (streams(g, mark)) {
                str_truncate(&g->text, mark);
                str_printf(&g->text, "{#%u}", g->streamed);
                g->line_start = g->text.len;
                g->state = IN_STREAM;
                return GATHER_LITERAL;
        }
        if (n > literal_max)
                return too_large(g, n, sync, g->authenticated ? "Literal is too large" : "Literal is too large before login", err);
        if (g->text.len + n > g->limits.total_max || g->text.len + n > total_max)
                return too_large(g, n, sync, "Command is too large", err);
        str_append_str(&g->text, "\r\n");
        g->line_start = g->text.len;
        g->state = IN_LITERAL;
        return sync ? GATHER_CONTINUE : GATHER_MORE;
}

static bool http_request(const struct imap_gather *g)
{
        static const char version[] = " HTTP/1.";
        size_t n = sizeof version;                      /* and a digit */

        return !g->authenticated && !g->literals && g->text.len > n && memcmp(g->text.data + g->text.len - n, version, n - 1) == 0;
}

static enum gather_result line_end(struct imap_gather *g, struct err *err)
{
        struct span line = { g->text.data + g->line_start, g->text.len - g->line_start }, digits = { NULL, 0 };
        size_t mark = 0;
        bool sync = true, was_open = g->in_quotes, from_tail = g->tail_n > 0;

        g->cr = g->in_quotes = g->escaped = false;
        if (from_tail)
                line = (struct span){ g->tail, g->tail_n };
        g->tail_n = 0;
        if (was_open)
                refuse(g, ERR_SYNTAX, "Quoted string is not closed at the end of the line");
        if (!was_open && literal_at_end(line, &mark, &digits, &sync))
                return announced(g, from_tail ? 0 : g->line_start + mark, digits, sync, err);
        if (http_request(g)) {
                err_set(err, ERR_UNSUPPORTED, "not IMAP");
                return GATHER_CLOSE;
        }
        return g->refused ? answer_bad(g, err) : GATHER_COMMAND;
}

/* A parenthesis outside of quotes is about to be kept. */
static void count_parenthesis(struct imap_gather *g, char c)
{
        static const char word[] = " ANNOTATION ";
        size_t n = sizeof word - 1;

        if (c == '(' && g->depth++ == 0)
                g->annotation = g->text.len > n && span_ieq_str((struct span){ g->text.data + g->text.len - n, n }, word);
        else if (c == ')' && g->depth > 0 && --g->depth == 0)
                g->annotation = false;
}

/* One octet of a line. Returns true at its end. */
static bool line_octet(struct imap_gather *g, char c)
{
        if (g->cr && c != '\n') {
                g->cr = false;
                refuse(g, ERR_SYNTAX, "CR without LF in the command");
        }
        if (c == '\n') {
                if (!g->cr)
                        refuse(g, ERR_SYNTAX, "Line ends with LF, not CRLF");
                return true;
        }
        if (c == '\r') {
                g->cr = true;
                return false;
        }
        if (c == 0)
                refuse(g, ERR_SYNTAX, "NUL in the command");
        if (g->escaped)
                g->escaped = false;
        else if (g->in_quotes && c == '\\')
                g->escaped = true;
        else if (c == '"')
                g->in_quotes = !g->in_quotes;
        else if (c == '#' && !g->in_quotes && !g->refused && g->text.len && g->text.data[g->text.len - 1] == '{')
                refuse(g, ERR_SYNTAX, "Malformed literal");             /* "{#0}" is how we write a streamed one */
        else if ((c == '(' || c == ')') && !g->in_quotes)
                count_parenthesis(g, c);
        keep(g, c);
        return false;
}

static enum gather_result feed_line(struct imap_gather *g, struct span in, size_t *used, struct err *err)
{
        bool at_start = g->text.len < 16 && !g->refused;

        while (*used < in.len) {
                if (line_octet(g, in.p[(*used)++]))
                        return line_end(g, err);
                if (at_start && (at_start = g->text.len < 16) && not_imap(g)) {
                        err_set(err, ERR_UNSUPPORTED, "not IMAP");
                        return GATHER_CLOSE;
                }
        }
        return GATHER_MORE;
}

/* ---- literals ---- */

static void feed_literal(struct imap_gather *g, struct span in, size_t *used)
{
        size_t n = in.len - *used;

        if (n > g->literal_left)
                n = (size_t)g->literal_left;
        if (g->state == IN_LITERAL && n) {
                str_append(&g->text, in.p + *used, n);
                if (!g->nul_ok && memchr(in.p + *used, 0, n))
                        refuse(g, ERR_SYNTAX, "NUL in a literal");
        }
        *used += n;
        g->literal_left -= n;
        if (g->literal_left)
                return;
        g->state = IN_LINE;
        g->line_start = g->text.len;
}

enum gather_result imap_gather_feed(struct imap_gather *g, struct span in, size_t *used_r, struct err *err)
{
        enum gather_result r;

        *used_r = 0;
        must(g->state != IN_STREAM);                    /* the owner takes these octets */
        do {
                if (g->state != IN_LINE)
                        feed_literal(g, in, used_r);
                if (g->state != IN_LINE)
                        return GATHER_MORE;
                r = feed_line(g, in, used_r, err);
        } while (r == GATHER_MORE && g->state != IN_LINE);
        return r;
}

void imap_gather_literal_taken(struct imap_gather *g)
{
        must(g->state == IN_STREAM);
        g->streamed++;
        g->literal_left = 0;
        g->state = IN_LINE;
}

enum gather_result imap_gather_literal_refuse(struct imap_gather *g, const char *why, bool continued, uint64_t taken, struct err *err)
{
        must(g->state == IN_STREAM && taken <= g->literal_bytes && (continued || !g->literal_sync));
        refuse(g, ERR_LIMIT, why);
        return skip_literal(g, g->literal_bytes - taken, err);
}
