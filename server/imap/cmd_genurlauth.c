/*
 * GENURLAUTH (RFC 4467 7): rump URLs get a mechanism and a token. Only for the user's own key table, and only for mailboxes that he may
 * read: those that he may not are answered as those that do not exist.
 */
#include "server/imap/urlauth.h"

#include <unistd.h>

#include "server/servername.h"
#include "store/urlkey.h"

struct genurlauth_state {
        struct urlauth *urls;
        struct imap *imap;
        struct err err;
        bool started;
};

static void cleanup(struct imap *imap)
{
        struct genurlauth_state *st = imap->cmd.state;

        for (struct urlauth *u = st->urls; u; u = u->next)
                url_part_release(&u->part);
}

/* Is it this server that the URL names: by its configured name, the machine's, or the address the client came to? */
static bool names_us(struct imap *imap, struct span host)
{
        struct span local = span_of(imap->s->local);
        char name[SERVERNAME_MAX], machine[SERVERNAME_MAX] = "";

        while (local.len && local.p[local.len - 1] != ':')      /* without the port */
                local.len--;
        local.len -= local.len > 0;
        gethostname(machine, sizeof machine - 1);
        return span_ieq_str(host, servername(imap->conf, imap_service(imap), name)) || span_ieq_str(host, machine) || span_ieq_str(host, "localhost") || span_ieq(host, local);
}

/* RFC 4467 7, GENURLAUTH, (1) to (3): what is wrong is a BAD. NULL: nothing. */
static const char *refusal(struct imap *imap, struct urlauth *u)
{
        struct url_identity who = url_identity_of(imap);
        struct imap_url *url = &u->part.url;
        struct err err = ERR_INIT;
        const char *text;

        if (imap_url_parse(u->text, &imap->s->arena, url, &err) < 0)
                return arena_strdup(&imap->s->arena, err.text);
        if (!url->absolute)
                return "The URL must be absolute";
        if (!url->user.p)
                return "Missing owner's user name in the URL";
        if (!url->access)
                return "Missing access identifier in the URL";
        if (url->mechanism.p)
                return "The URL has a token already";
        text = arena_strndup(&imap->s->arena, url->user.p, url->user.len);
        if (user_canonify(imap->store, text, &imap->s->arena, &u->owner, &err) < 0 || strcmp(u->owner, imap->userid) != 0 ||
            !names_us(imap, url->host))
                return "The key table of that URL is not yours";
        if (url_part_section(url, &imap->s->arena, &u->part.section, &err) < 0)
                return arena_strdup(&imap->s->arena, err.text);
        return url_part_begin(&u->part, imap, &who) ? NULL : "The URL names no mailbox";
}

static bool parse(struct imap *imap, struct genurlauth_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct urlauth **next = &st->urls;
        struct span mechanism;
        unsigned n = 0;

        do {
                if (++n > URLAUTH_URLS_MAX) {
                        imap_bad(imap, "Too many URLs");
                        return false;
                }
                *next = ARENA_NEW(&imap->s->arena, struct urlauth);
                if (imap_sp(ip) < 0 || imap_astring(ip, &(*next)->text) < 0 || imap_sp(ip) < 0 || imap_atom(ip, &mechanism) < 0) {
                        imap_bad(imap, "%s", ip->err.text);
                        return false;
                }
                if (!urlauth_is_internal(mechanism)) {
                        imap_bad(imap, "Unknown mechanism; there is %s", URLAUTH_MECHANISMS);
                        return false;
                }
                next = &(*next)->next;
        } while (!imap_at_end(ip));
        return true;
}

static bool begin(struct imap *imap)
{
        struct genurlauth_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct genurlauth_state);
        const char *why;

        imap->cmd.cleanup = cleanup;
        st->imap = imap;
        if (!parse(imap, st))
                return false;
        for (struct urlauth *u = st->urls; u; u = u->next)
                if ((why = refusal(imap, u)) != NULL) {
                        imap_bad(imap, "%s", why);
                        return false;
                }
        return true;
}

static void work(void *arg)
{
        struct genurlauth_state *st = arg;

        _Static_assert(sizeof ((struct urlauth *)0)->token >= URLKEY_TOKEN_BYTES, "room for the token");
        for (struct urlauth *u = st->urls; u; u = u->next)
                if (urlkey_token(st->imap->store, u->owner, u->part.entry->uniqueid, u->part.url.rump, u->token, &st->err) < 0)
                        return;
}

enum cmd_result cmd_genurlauth(struct imap *imap)
{
        struct genurlauth_state *st;
        struct str full = STR_INIT;
        char hex[2 * URLKEY_TOKEN_BYTES + 1];

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (!st->started) {
                st->started = true;
                return imap_offload(imap, OFFLOAD_DB, work, st);
        }
        if (st->err.code != ERR_NONE)
                return imap_fail(imap, &st->err);
        imap_put(imap, "* GENURLAUTH");
        for (struct urlauth *u = st->urls; u; u = u->next) {
                str_clear(&full);
                hex_encode(hex, u->token, URLKEY_TOKEN_BYTES);
                str_append_span(&full, u->text);
                str_printf(&full, ":internal:%s", hex);
                imap_put(imap, " ");
                imap_put_string(imap, str_span(&full));
        }
        imap_put(imap, "\r\n");
        str_deinit(&full);
        return imap_ok(imap, NULL, "GENURLAUTH completed");
}
