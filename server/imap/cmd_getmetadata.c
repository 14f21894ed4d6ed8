/*
 * GETMETADATA [options] mailbox entries (RFC 5464 4.2). The options are also taken behind the mailbox, where the RFC's examples have them,
 * and a wildcard at the end of an entry's name, as cyradm sends it. Entries that have no value are answered with NIL.
 */
#include <inttypes.h>
#include <stdio.h>

#include "server/imap/imap_private.h"
#include "server/imap/metadata.h"

struct get_state {
        struct imap *imap;
        struct metadata_request request;
        const char *internal;                   /* "": the server */
        const struct mbentry *entry;            /* reference */
        struct imap_open open;
        struct metadata *list;                  /* of the server, from the job */
        uint32_t n;
        bool read;
        struct err err;
};

static void cleanup(struct imap *imap)
{
        struct get_state *st = imap->cmd.state;

        imap_open_release(&st->open);
        if (st->entry)
                mbentry_unref(&st->entry);
}

/* "(" MAXSIZE n / DEPTH … ")" is told from a list of entries by its first octet: entries begin with / or a quote. */
static bool options_follow(const struct imap_parser *ip)
{
        return ip->end - ip->p > 1 && ip->p[0] == '(' && ascii_isalpha(ip->p[1]);
}

static int parse_options(struct imap_parser *ip, struct metadata_request *r)
{
        struct span word, value;

        if (imap_open_paren(ip) < 0)
                return -1;
        do {
                if (imap_atom(ip, &word) < 0 || imap_sp(ip) < 0)
                        return -1;
                if (imap_word_is(word, "MAXSIZE")) {
                        if (imap_number64(ip, &r->maxsize) < 0)
                                return -1;
                } else if (imap_word_is(word, "DEPTH")) {
                        if (imap_atom(ip, &value) < 0)
                                return -1;
                        if (imap_word_is(value, "0"))
                                r->depth = METADATA_DEPTH_0;
                        else if (imap_word_is(value, "1"))
                                r->depth = METADATA_DEPTH_1;
                        else if (imap_word_is(value, "infinity"))
                                r->depth = METADATA_DEPTH_ALL;
                        else
                                return err_set(&ip->err, ERR_SYNTAX, "DEPTH is 0, 1 or infinity");
                } else {
                        return err_set(&ip->err, ERR_SYNTAX, "Unknown option of GETMETADATA");
                }
        } while (imap_skip_c(ip, ' '));
        return imap_close_paren(ip);
}

/* False: the tagged reply was sent. */
static bool parse(struct imap *imap, struct get_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;
        bool options = false;

        st->request.maxsize = UINT64_MAX;
        if (imap_sp(ip) < 0)
                goto bad;
        if (options_follow(ip)) {
                options = true;
                if (parse_options(ip, &st->request) < 0 || imap_sp(ip) < 0)
                        goto bad;
        }
        if (ip->end - ip->p >= 2 && ip->p[0] == '"' && ip->p[1] == '"') {
                ip->p += 2;
                st->internal = "";
        } else if (!imap_arg_mailbox(imap, &st->internal)) {
                return false;
        }
        if (imap_sp(ip) < 0)
                goto bad;
        if (!options && options_follow(ip) && (parse_options(ip, &st->request) < 0 || imap_sp(ip) < 0))
                goto bad;
        if (imap_metadata_entries(ip, &imap->s->arena, &st->request) < 0 || imap_end(ip) < 0)
                goto bad;
        return true;
bad:
        imap_bad(imap, "%s", ip->err.text);
        return false;
}

static void read_server(void *arg)
{
        struct get_state *st = arg;
        struct metadata_target t = { .store = st->imap->store, .conf = st->imap->conf, .userid = st->imap->userid };

        metadata_list(&t, &st->imap->s->arena, &st->list, &st->n, &st->err);
}

static enum cmd_result begin(struct imap *imap)
{
        struct get_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct get_state);

        st->imap = imap;
        imap->cmd.cleanup = cleanup;
        if (!parse(imap, st))
                return CMD_DONE;
        if (!*st->internal) {
                st->read = true;
                return imap_offload(imap, OFFLOAD_DISK, read_server, st);
        }
        st->entry = imap_find_mailbox(imap, st->internal, NULL);
        return st->entry ? CMD_AGAIN : CMD_DONE;
}

static enum cmd_result reply(struct imap *imap, struct get_state *st)
{
        uint64_t longest;
        char code[64];

        imap_metadata_put(imap, st->internal, &st->request, st->list, st->n, &longest);
        if (!longest)
                return imap_ok(imap, NULL, "Completed");
        snprintf(code, sizeof code, "METADATA LONGENTRIES %" PRIu64, longest);
        return imap_ok(imap, code, "Completed");
}

enum cmd_result cmd_getmetadata(struct imap *imap)
{
        struct get_state *st = imap->cmd.state;
        struct metadata_target t = { .store = imap->store, .conf = imap->conf, .userid = imap->userid };
        struct err err = ERR_INIT;
        enum cmd_result result;
        int opened, rc;

        if (!st) {
                result = begin(imap);
                if (result != CMD_AGAIN)
                        return result;
                st = imap->cmd.state;
        }
        if (st->read)
                return st->err.code ? imap_fail(imap, &st->err) : reply(imap, st);
        opened = imap_open_mailbox(imap, &st->open, st->entry, &t.mbox, &err);
        if (opened == 0)
                return CMD_WAIT;
        if (opened < 0)
                return imap_fail(imap, &err);
        t.entry = st->entry;
        rc = metadata_list(&t, &imap->s->arena, &st->list, &st->n, &err);
        mailbox_unref(&t.mbox);
        return rc < 0 ? imap_fail(imap, &err) : reply(imap, st);
}
