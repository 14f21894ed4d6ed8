/*
 * URLFETCH (RFC 4467 7; partial URLs: RFC 5550 5.7.1; its extended form: RFC 5524): the octets that authorized URLs name, with the rights that
 * the user in the URL has now. Whatever is wrong with a URL, or with who presents it, the answer is NIL: nothing is told of why.
 *
 * One URL after the other: it is checked and its octets found where that may block, then they go out, so that what is held in memory is
 * that of one.
 */
#include "server/imap/urlauth.h"

#include "store/urlkey.h"
#include "util/clock.h"
#include "util/log.h"

enum urlfetch_phase { URLFETCH_CHECK, URLFETCH_TELL, URLFETCH_DECODE, URLFETCH_NEXT };

struct urlfetch_state {
        struct imap *imap;
        struct urlauth *urls, *at;
        enum urlfetch_phase phase;
        struct err err;                         /* of one of them: the reply is NO, but what could be told was */
};

static void cleanup(struct imap *imap)
{
        struct urlfetch_state *st = imap->cmd.state;

        for (struct urlauth *u = st->urls; u; u = u->next)
                url_part_release(&u->part);
}

/* A name of the option's list. */
static bool listed(struct imap *imap, const char *option, const char *userid)
{
        const char *list = conf_str(imap->conf, NULL, option);
        struct span rest = list ? span_of(list) : SPAN("");

        while (rest.len) {
                size_t n = span_index(rest, ' ');

                if (span_eq_str(span_trim((struct span){ rest.p, n }), userid))
                        return true;
                n += n < rest.len;
                rest = (struct span){ rest.p + n, rest.len - n };
        }
        return false;
}

/* RFC 4467 3: may this session present it? */
static bool may_present(struct imap *imap, const struct imap_url *url)
{
        bool anonymous = strcmp(imap->userid, "anonymous") == 0;
        const char *userid;
        struct err err = ERR_INIT;

        switch (url->access) {
        case URL_ANONYMOUS:
                return true;
        case URL_AUTHUSER:
                return !anonymous;
        case URL_USER:
                userid = arena_strndup(&imap->s->arena, url->access_user.p, url->access_user.len);
                return !anonymous && user_canonify(imap->store, userid, &imap->s->arena, &userid, &err) == 0 &&
                       strcmp(userid, imap->userid) == 0;
        case URL_SUBMIT:                                        /* the submission server has checked for whom it is */
                return !anonymous && listed(imap, "submitservers", imap->userid);
        case URL_NO_ACCESS:
                break;
        }
        return false;
}

/* Everything but the token. What is left of a URL that is not plausible is only worked on for the time it takes. */
static void look_at(struct imap *imap, struct urlauth *u)
{
        struct imap_url *url = &u->part.url;
        struct url_identity owner = { .userid = "" };
        struct err err = ERR_INIT;
        const char *text;

        u->owner = "";
        if (imap_url_parse(u->text, &imap->s->arena, url, &err) < 0 || !url->absolute || !url->user.p || !url->mechanism.p ||
            !urlauth_is_internal(url->mechanism))
                return;
        text = arena_strndup(&imap->s->arena, url->user.p, url->user.len);
        if (user_canonify(imap->store, text, &imap->s->arena, &u->owner, &err) < 0) {
                u->owner = "";
                return;
        }
        owner.userid = u->owner;
        owner.is_admin = listed(imap, "admins", u->owner);
        if (strcmp(u->owner, imap->userid) == 0)
                owner = url_identity_of(imap);
        u->plausible = url_part_begin(&u->part, imap, &owner) && may_present(imap, url) &&
                       !(url->has_expire && clock_wall_s() > url->expire);
}

/* RFC 5524 5, url-fetch-param. */
static int parse_item(struct imap_parser *ip, struct urlauth *u)
{
        struct span word;
        bool twice;

        if (imap_sp(ip) < 0 || imap_atom(ip, &word) < 0)
                return -1;
        if (imap_word_is(word, "BODYPARTSTRUCTURE")) {
                twice = u->part.want & URL_PART_STRUCTURE;
                u->part.want |= URL_PART_STRUCTURE;
        } else if (imap_word_is(word, "BINARY")) {
                twice = u->part.want & URL_PART_BINARY;
                u->part.want |= URL_PART_BINARY;
        } else if (imap_word_is(word, "BODY")) {
                twice = u->body;
                u->body = true;
        } else {
                return err_set(&ip->err, ERR_SYNTAX, "Unknown URLFETCH parameter");
        }
        if (twice || (u->body && u->part.want & URL_PART_BINARY))
                return err_set(&ip->err, ERR_SYNTAX, twice ? "URLFETCH parameter given twice" : "Either BODY or BINARY");
        return 0;
}

static int parse_url(struct imap_parser *ip, struct urlauth *u)
{
        if (imap_sp(ip) < 0)
                return -1;
        if (!imap_peek_c(ip, '('))
                return imap_astring(ip, &u->text);
        if (imap_open_paren(ip) < 0 || imap_astring(ip, &u->text) < 0)
                return -1;
        while (!imap_peek_c(ip, ')'))
                if (parse_item(ip, u) < 0)
                        return -1;
        return imap_close_paren(ip);
}

static bool begin(struct imap *imap)
{
        struct urlfetch_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct urlfetch_state);
        struct imap_parser *ip = &imap->cmd.args;
        struct urlauth **next = &st->urls;
        unsigned n = 0;

        imap->cmd.cleanup = cleanup;
        st->imap = imap;
        do {
                if (++n > URLAUTH_URLS_MAX) {
                        imap_bad(imap, "Too many URLs");
                        return false;
                }
                *next = ARENA_NEW(&imap->s->arena, struct urlauth);
                if (parse_url(ip, *next) < 0) {
                        imap_bad(imap, "%s", ip->err.text);
                        return false;
                }
                next = &(*next)->next;
        } while (!imap_at_end(ip));
        for (struct urlauth *u = st->urls; u; u = u->next)
                look_at(imap, u);
        st->at = st->urls;
        return true;
}

static bool is_extended(const struct urlauth *u)
{
        return u->body || u->part.want;
}

/* The message may be gone: NIL. Its section may not be there: "" (RFC 4467 8, URLFETCH response), or NIL as well (RFC 5524 4). */
static void locate(struct urlfetch_state *st, struct urlauth *u)
{
        struct err err = ERR_INIT;

        if (url_part_locate(&u->part, &err) == 0)
                return;
        u->valid = u->part.no_section && !is_extended(u);
        u->part.len = 0;
        if (err.code != ERR_NOTFOUND)
                err_copy(&st->err, &err);
}

static void work(void *arg)
{
        struct urlfetch_state *st = arg;
        struct urlauth *u = st->at;
        const struct imap_url *url = &u->part.url;
        const char *uniqueid = u->plausible && u->part.entry ? u->part.entry->uniqueid : NULL;

        if (urlkey_check(st->imap->store, u->owner, uniqueid, url->rump.p ? url->rump : u->text, url->token, url->token_n, &u->valid,
                         &st->err) < 0)
                u->valid = false;
        else if (u->valid)
                locate(st, u);
}

static void put_octets(struct imap *imap, struct urlauth *u)
{
        struct url_part *p = &u->part;
        struct extent piece = { p->body.file, p->body.offset + p->off, p->len };

        if (p->len == 0) {
                imap_put(imap, "\"\"");
                return;
        }
        imap_put(imap, p->want & URL_PART_BINARY && p->binary.has_nul ? "~{%llu}\r\n" : "{%llu}\r\n", (unsigned long long)p->len);
        if (p->is_made) {
                imap_put_span(imap, (struct span){ p->made.data + p->off, p->len });
        } else {
                file_ref(piece.file);
                rope_append_extent(&imap->s->out, &piece);
        }
}

/* True: decoded octets are to follow. */
static bool put_binary(struct imap *imap, struct urlauth *u)
{
        struct url_part *p = &u->part;
        uint64_t n = p->binary.end - p->binary.first;

        if (!url_binary_encoded(p)) {
                if (p->binary.encoding == TRANSFER_UNKNOWN)
                        imap_put(imap, "NIL");
                else
                        put_octets(imap, u);
                return false;
        }
        if (n == 0)
                imap_put(imap, "\"\"");
        else
                imap_put(imap, p->binary.has_nul ? "~{%llu}\r\n" : "{%llu}\r\n", (unsigned long long)n);
        return n > 0;
}

/* Everything but octets that have to be decoded. */
static enum urlfetch_phase tell(struct imap *imap, struct urlauth *u)
{
        bool decode;

        imap_put(imap, " ");
        imap_put_string(imap, u->text);
        if (!u->valid || !is_extended(u)) {
                imap_put(imap, " ");
                if (u->valid)
                        put_octets(imap, u);
                else
                        imap_put(imap, "NIL");
                return URLFETCH_NEXT;
        }
        if (u->part.want & URL_PART_STRUCTURE) {
                imap_put(imap, " (BODYPARTSTRUCTURE ");
                rope_join(&imap->s->out, &u->part.structure);
                imap_put(imap, ")");
        }
        if (!u->body && !(u->part.want & URL_PART_BINARY))
                return URLFETCH_NEXT;
        imap_put(imap, u->body ? " (BODY " : " (BINARY ");
        decode = !u->body && put_binary(imap, u);
        if (u->body)
                put_octets(imap, u);
        if (decode)
                return URLFETCH_DECODE;
        imap_put(imap, ")");
        return URLFETCH_NEXT;
}

/* CMD_DONE: all of it. CMD_CLOSE: it ends within a literal, the connection is of no use any more. */
static enum cmd_result decode(struct imap *imap, struct urlauth *u)
{
        struct str buf = STR_INIT;
        struct err err = ERR_INIT;
        enum cmd_result result = CMD_DONE;
        struct span piece;
        int more;

        while (result == CMD_DONE && (more = url_binary_read(&u->part, &buf, &piece, &err)) > 0) {
                imap_put_span(imap, piece);
                result = imap_yield(imap);
        }
        str_deinit(&buf);
        if (result != CMD_DONE)
                return result;
        if (more < 0) {
                log_event(LOG_ERROR, imap->s->name, "imap.urlfetch.broken", "reason=\"%s\"", err.text);
                return CMD_CLOSE;
        }
        imap_put(imap, ")");
        return CMD_DONE;
}

static enum cmd_result finish(struct imap *imap, struct urlfetch_state *st)
{
        imap_put(imap, "\r\n");
        return st->err.code == ERR_NONE ? imap_ok(imap, NULL, "URLFETCH completed") : imap_fail(imap, &st->err);
}

enum cmd_result cmd_urlfetch(struct imap *imap)
{
        struct urlfetch_state *st;
        enum cmd_result result;

        if (!imap->cmd.state) {
                if (!begin(imap))
                        return CMD_DONE;
                imap_put(imap, "* URLFETCH");
        }
        st = imap->cmd.state;
        for (;;) {
                switch (st->phase) {
                case URLFETCH_CHECK:
                        st->phase = URLFETCH_TELL;
                        imap->cmd.line_begun = true;
                        return imap_offload(imap, OFFLOAD_DISK, work, st);
                case URLFETCH_TELL:
                        st->phase = tell(imap, st->at);
                        break;
                case URLFETCH_DECODE:
                        result = decode(imap, st->at);
                        if (result != CMD_DONE)
                                return result;
                        st->phase = URLFETCH_NEXT;
                        break;
                case URLFETCH_NEXT:
                        url_part_release(&st->at->part);
                        st->at = st->at->next;
                        if (!st->at)
                                return finish(imap, st);
                        st->phase = URLFETCH_CHECK;
                        if ((result = imap_yield(imap)) != CMD_DONE)
                                return result;
                        break;
                }
        }
}
