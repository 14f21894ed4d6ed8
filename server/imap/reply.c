/*
 * reply - what goes to the client. Tagged replies are kept back in the loop until pending news was told (imap.c); everything else
 * goes to the rope at once.
 */
#include <stdarg.h>
#include <stdio.h>

#include "server/imap/imap_private.h"
#include "util/array.h"
#include "util/log.h"

/* ---- tagged ---- */

static enum cmd_result tagged(struct imap *imap, const char *word, const char *code, const char *fmt, va_list ap)
{
        struct str *t = &imap->loop->tagged;
        struct span tag = imap->cmd.tag;

        must(t->len == 0);                              /* one tagged reply a command */
        str_append_span(t, tag.len ? tag : SPAN("*"));
        str_printf(t, " %s ", word);
        if (code)
                str_printf(t, "[%s] ", code);
        str_vprintf(t, fmt, ap);
        str_append_str(t, "\r\n");
        imap->loop->outcome = word[0];
        return CMD_DONE;
}

enum cmd_result imap_ok(struct imap *imap, const char *code, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        tagged(imap, "OK", code, fmt, ap);
        va_end(ap);
        return CMD_DONE;
}

enum cmd_result imap_no(struct imap *imap, const char *code, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        tagged(imap, "NO", code, fmt, ap);
        va_end(ap);
        return CMD_DONE;
}

enum cmd_result imap_bad(struct imap *imap, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        tagged(imap, "BAD", NULL, fmt, ap);
        va_end(ap);
        return CMD_DONE;
}

/* What a client hears of a store's error (RFC 5530 3; OVERQUOTA RFC 9208, BADCHARSET and LIMIT RFC 9051 7.1). `own`: the text was
 * written for the client. `log`: something is wrong here that an operator should know. */
static const struct answer {
        enum err_code code;
        const char *response;
        const char *text;
        bool bad, own, log;
} answers[] = {
        { ERR_SYNTAX,      NULL,            "Syntax error",                         true,  true,  false },
        { ERR_LIMIT,       "LIMIT",         "A limit was reached",                  false, true,  false },
        { ERR_CORRUPT,     "CORRUPTION",    "The mailbox is damaged",               false, false, true  },
        { ERR_IO,          "SERVERBUG",     "System I/O error",                     false, false, true  },
        { ERR_NOSPACE,     "UNAVAILABLE",   "No space left on the server",          false, false, true  },
        { ERR_NOMEM,       "UNAVAILABLE",   "Not enough memory",                    false, false, true  },
        { ERR_PERM,        "NOPERM",        "Permission denied",                    false, false, false },
        { ERR_READONLY,    "UNAVAILABLE",   "The mailbox takes no changes now",     false, false, false },
        { ERR_NOTFOUND,    "NONEXISTENT",   "Mailbox does not exist",               false, false, false },
        { ERR_EXISTS,      "ALREADYEXISTS", "Mailbox already exists",               false, false, false },
        { ERR_BADNAME,     "CANNOT",        "Invalid mailbox name",                 false, true,  false },
        { ERR_BUSY,        "INUSE",         "In use, try again later",              false, false, false },
        { ERR_QUOTA,       "OVERQUOTA",     "Quota exceeded",                       false, false, false },
        { ERR_UNAVAILABLE, "UNAVAILABLE",   "Temporarily unavailable",              false, false, true  },
        { ERR_UNSUPPORTED, "CANNOT",        "Not supported",                        false, true,  false },
        { ERR_CHARSET,     "BADCHARSET",    "Unknown charset",                      false, false, false },
        { ERR_AUTH,        "AUTHENTICATIONFAILED", "Authentication failed",         false, false, false },
        { ERR_TIMEOUT,     "UNAVAILABLE",   "Timed out",                            false, false, true  },
        { ERR_CANCELLED,   "UNAVAILABLE",   "The server is shutting down",          false, false, false },
        { ERR_HASCHILDREN, "HASCHILDREN",   "Mailbox has children",                 false, false, false },
        { ERR_FENCED,      "UNAVAILABLE",   "No changes can be made here",          false, true,  false },
};

enum cmd_result imap_fail(struct imap *imap, const struct err *err)
{
        static const struct answer unknown = { ERR_INTERNAL, "SERVERBUG", "Internal error", false, false, true };
        const struct answer *a = &unknown;
        char buf[LOG_QUOTE_MAX];

        for (size_t i = 0; i < ARRAY_LEN(answers); i++)
                if (answers[i].code == err->code)
                        a = &answers[i];
        if (a->log)
                log_event(LOG_ERROR, imap->s->name, "imap.failed", "user=%s command=%s code=%s reason=%s",
                          imap->userid ? imap->userid : "-", imap->cmd.cmd ? imap->cmd.cmd->name : "-", err_code_name(err->code),
                          log_quote_str(buf, err->text));
        if (a->bad)
                return imap_bad(imap, "%s", err->text[0] ? err->text : a->text);
        return imap_no(imap, a->response, "%s", a->own && err->text[0] ? err->text : a->text);
}

/* ---- untagged, and pieces of it ---- */

void imap_untagged(struct imap *imap, const char *fmt, ...)
{
        struct str line = STR_INIT;
        va_list ap;

        va_start(ap, fmt);
        str_append_str(&line, "* ");
        str_vprintf(&line, fmt, ap);
        str_append_str(&line, "\r\n");
        va_end(ap);
        rope_append_span(&imap->s->out, str_span(&line));
        str_deinit(&line);
}

void imap_put(struct imap *imap, const char *fmt, ...)
{
        struct str piece = STR_INIT;
        va_list ap;

        va_start(ap, fmt);
        str_vprintf(&piece, fmt, ap);
        va_end(ap);
        rope_append_span(&imap->s->out, str_span(&piece));
        str_deinit(&piece);
}

void imap_put_span(struct imap *imap, struct span s)
{
        rope_append_span(&imap->s->out, s);
}

enum how { AS_ATOM, AS_QUOTED, AS_LITERAL };

/* The tightest form that this string fits into. UTF-8 stands in quotes once the client has asked for it (RFC 9051 4.3). */
static enum how how_to_put(struct span s, bool utf8)
{
        enum how how = s.len ? AS_ATOM : AS_QUOTED;
        bool eight = false;

        if (s.len > 1024)
                return AS_LITERAL;
        for (size_t i = 0; i < s.len; i++) {
                unsigned char c = (unsigned char)s.p[i];

                if (c == 0 || c == '\r' || c == '\n')
                        return AS_LITERAL;
                if (c >= 0x80)
                        eight = true;
                if (c <= 0x20 || c >= 0x7f || strchr("(){%*\"\\]", c))
                        how = AS_QUOTED;
        }
        if (eight && !(utf8 && utf8_valid(s)))
                return AS_LITERAL;
        return how;
}

static void append_quoted(struct str *out, struct span s)
{
        str_append_c(out, '"');
        for (size_t i = 0; i < s.len; i++) {
                if (s.p[i] == '"' || s.p[i] == '\\')
                        str_append_c(out, '\\');
                str_append_c(out, s.p[i]);
        }
        str_append_c(out, '"');
}

static void put_quoted(struct rope *out, struct span s)
{
        struct str q = STR_INIT;

        append_quoted(&q, s);
        rope_append_span(out, str_span(&q));
        str_deinit(&q);
}

void imap_append_astring(struct str *out, struct span s, bool utf8)
{
        enum how how = how_to_put(s, utf8);

        if (how == AS_ATOM && !imap_word_is(s, "NIL"))
                str_append_span(out, s);
        else if (how != AS_LITERAL)
                append_quoted(out, s);
        else
                imap_append_nstring8(out, s, utf8);
}

void imap_append_nstring8(struct str *out, struct span s, bool utf8)
{
        if (!s.p) {
                str_append_str(out, "NIL");
        } else if (how_to_put(s, utf8) != AS_LITERAL) {
                append_quoted(out, s);
        } else {
                str_printf(out, "%s{%zu}\r\n", memchr(s.p, '\0', s.len) ? "~" : "", s.len);
                str_append_span(out, s);
        }
}

static void put(struct imap *imap, struct span s, enum how how)
{
        struct rope *out = &imap->s->out;

        switch (how) {
        case AS_ATOM:
                rope_append_span(out, s);
                break;
        case AS_QUOTED:
                put_quoted(out, s);
                break;
        case AS_LITERAL:
                rope_printf(out, "{%zu}\r\n", s.len);
                rope_append_span(out, s);
                break;
        }
}

void imap_put_string(struct imap *imap, struct span s)
{
        enum how how = how_to_put(s, imap->rev2 || imap->utf8);

        put(imap, s, how == AS_ATOM ? AS_QUOTED : how);
}

void imap_put_astring(struct imap *imap, struct span s)
{
        enum how how = how_to_put(s, imap->rev2 || imap->utf8);

        if (how == AS_ATOM && imap_word_is(s, "NIL"))   /* an astring, but clients with one reader for all would stumble */
                how = AS_QUOTED;
        put(imap, s, how);
}

void imap_put_nstring(struct imap *imap, struct span s)
{
        if (!s.p)
                rope_append_str(&imap->s->out, "NIL");
        else
                imap_put_string(imap, s);
}

static void append_name(struct imap *imap, const char *internal, struct str *name)
{
        struct namer who = imap_namer(imap);

        if (imap->cmd.said_inbox && mailname_is_inbox(internal) && mailname_owned_by(internal, imap->userid))
                str_append_str(name, "INBOX");
        else if (imap->cmd.said_internal && strcmp(imap->cmd.said_internal, internal) == 0)
                str_append_span(name, imap->cmd.said);
        else
                mailname_external(&who, internal, name);
}

void imap_put_mailbox(struct imap *imap, const char *internal)
{
        struct str name = STR_INIT;

        append_name(imap, internal, &name);
        imap_put_astring(imap, str_span(&name));
        str_deinit(&name);
}

bool imap_normalised(struct imap *imap, const char *internal, struct span given)
{
        struct str name = STR_INIT;
        bool differs;

        if (!imap->rev2)
                return false;
        append_name(imap, internal, &name);
        differs = !span_eq(str_span(&name), given);
        str_deinit(&name);
        return differs;
}

void imap_put_list_oldname(struct imap *imap, const char *attributes, const char *internal, struct span former)
{
        imap_put(imap, "* LIST (%s) \"%c\" ", attributes, namespace_separator(imap->ns));
        imap_put_mailbox(imap, internal);
        if (former.p) {
                imap_put(imap, " (\"OLDNAME\" (");
                imap_put_astring(imap, former);
                imap_put(imap, "))");
        }
        imap_put(imap, "\r\n");
}
