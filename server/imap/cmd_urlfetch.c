/*
 * URLFETCH (RFC 4467 7; partial URLs: RFC 5550 2.4): the octets that authorized URLs name, with the rights that the user in the URL has
 * now. Whatever is wrong with a URL, or with who presents it, the answer is NIL: nothing is told of why.
 */
#include "server/imap/urlauth.h"

#include "store/urlkey.h"
#include "util/clock.h"
#include "util/log.h"

struct urlfetch_state {
        struct imap *imap;
        struct urlauth *urls, *next_put;
        struct err err;
        bool started, told;
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
                if (imap_sp(ip) < 0 || imap_astring(ip, &(*next)->text) < 0) {
                        imap_bad(imap, "%s", ip->err.text);
                        return false;
                }
                next = &(*next)->next;
        } while (!imap_at_end(ip));
        for (struct urlauth *u = st->urls; u; u = u->next)
                look_at(imap, u);
        return true;
}

/* The message may be gone: NIL. Its section may not be there: "" (RFC 4467 8, URLFETCH response). */
static void locate(struct urlfetch_state *st, struct urlauth *u)
{
        struct err err = ERR_INIT;

        if (url_part_locate(&u->part, &err) == 0)
                return;
        u->valid = u->part.no_section;
        u->part.len = 0;
        if (err.code != ERR_NOTFOUND)
                err_copy(&st->err, &err);
}

static void work(void *arg)
{
        struct urlfetch_state *st = arg;

        for (struct urlauth *u = st->urls; u && st->err.code == ERR_NONE; u = u->next) {
                const struct imap_url *url = &u->part.url;
                const char *uniqueid = u->plausible && u->part.entry ? u->part.entry->uniqueid : NULL;

                if (urlkey_check(st->imap->store, u->owner, uniqueid, url->rump.p ? url->rump : u->text, url->token, url->token_n, &u->valid,
                                 &st->err) < 0)
                        return;
                if (u->valid)
                        locate(st, u);
        }
}

static void put_octets(struct imap *imap, struct urlauth *u)
{
        struct url_part *p = &u->part;
        struct extent piece = { p->body.file, p->body.offset + p->off, p->len };

        if (!u->valid) {
                imap_put(imap, " NIL");
        } else if (p->len == 0) {
                imap_put(imap, " \"\"");
        } else {
                imap_put(imap, " {%llu}\r\n", (unsigned long long)p->len);
                if (p->is_made) {
                        imap_put_span(imap, (struct span){ p->made.data + p->off, p->len });
                } else {
                        file_ref(piece.file);
                        rope_append_extent(&imap->s->out, &piece);
                }
        }
}

static enum cmd_result put_urls(struct imap *imap, struct urlfetch_state *st)
{
        if (!st->told) {
                imap_put(imap, "* URLFETCH");
                st->next_put = st->urls;
                st->told = true;
        }
        for (; st->next_put; st->next_put = st->next_put->next) {
                if (imap->s->out.bytes > ROPE_HIGH)
                        return CMD_FLUSH;
                imap_put(imap, " ");
                imap_put_string(imap, st->next_put->text);
                put_octets(imap, st->next_put);
        }
        imap_put(imap, "\r\n");
        return imap_ok(imap, NULL, "URLFETCH completed");
}

enum cmd_result cmd_urlfetch(struct imap *imap)
{
        struct urlfetch_state *st;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (!st->started) {
                st->started = true;
                return imap_offload(imap, OFFLOAD_DISK, work, st);
        }
        if (st->err.code != ERR_NONE)
                return imap_fail(imap, &st->err);
        return put_urls(imap, st);
}
