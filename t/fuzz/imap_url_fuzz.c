/*
 * imap_url - IMAP URLs (RFC 5092, RFC 4467), and the messages of APPEND, CATENATE and REPLACE in which they come.
 * The first octet chooses: a URL, or a command's arguments with the message literals taken out.
 */
#include <stdlib.h>

#include "server/imap/append.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool within(struct span s, struct span text)
{
        return s.p >= text.p && s.p + s.len <= text.p + text.len;
}

static void url(struct span text, struct arena *arena)
{
        const struct fetch_section *section;
        struct imap_url u;
        struct err err = ERR_INIT;

        if (imap_url_parse(text, arena, &u, &err) < 0) {
                must(err.code == ERR_SYNTAX || err.code == ERR_LIMIT);
                return;
        }
        must(u.user.len == 0 || u.absolute);
        must(!u.access || (u.uid && within(u.rump, text)));
        must(!u.mechanism.p || (within(u.mechanism, text) && u.token_n >= IMAP_URL_TOKEN_MIN && u.token_n <= IMAP_URL_TOKEN_MAX));
        must(u.mailbox.len == 0 || (!memchr(u.mailbox.p, 0, u.mailbox.len) && utf8_valid(u.mailbox)));
        if (u.uid)
                (void)url_part_section(&u, arena, &section, &err);
}

static void append(struct span text, struct arena *arena, bool replace, bool partial)
{
        struct append_request r;
        struct imap_parser ip;
        uint32_t n = 0;

        imap_parser_init(&ip, text, arena, true);
        if (append_parse(&ip, replace, partial, &r) < 0) {
                must(ip.err.code == ERR_SYNTAX || ip.err.code == ERR_LIMIT);
                return;
        }
        must(imap_at_end(&ip) && r.messages_n > 0 && (!replace || r.messages_n == 1));
        for (const struct append_message *m = r.messages; m; m = m->next) {
                n++;
                must(partial || !m->catenate || m->parts);
                for (const struct append_part *p = m->parts; p; p = p->next)
                        if (p->is_url)
                                url(p->url, arena);
        }
        must(n == r.messages_n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct arena arena = ARENA_INIT;
        char *copy;

        if (size < 1)
                return 0;
        copy = malloc(size);                            /* its own, so that reading beyond its end is found */
        must(copy != NULL);
        memcpy(copy, data + 1, size - 1);
        if (data[0] & 1)
                url((struct span){ copy, size - 1 }, &arena);
        else
                append((struct span){ copy, size - 1 }, &arena, data[0] & 2, data[0] & 4);
        arena_deinit(&arena);
        free(copy);
        return 0;
}
