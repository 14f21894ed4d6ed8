/*
 * APPEND (RFC 9051 6.3.12, RFC 3501 6.3.11; APPENDUID: RFC 4315 3; rights: RFC 4314 4).
 *
 * The message's octets have gone into a stage before this is called; imap_append_precheck() said beforehand whether they were to be
 * taken. The parser takes any number of messages, as MULTIAPPEND (RFC 3502) will need it; for now one is allowed.
 */
#include "server/imap/copy.h"

#include <inttypes.h>
#include <stdio.h>

#define MESSAGES_MAX 1

struct append_state {
        struct copy_state target;               /* only where to */
        struct append_item items[MESSAGES_MAX];
        uint32_t items_n;
        struct append_result result;
        bool written;
};

static void cleanup(struct imap *imap)
{
        struct append_state *st = imap->cmd.state;

        imap_open_release(&st->target.open);
        mailbox_unref(&st->target.to);
        mbentry_unref(&st->target.entry);
}

/* [flag-list SP] [date-time SP], up to the literal */
static int parse_options(struct imap_parser *ip, struct append_item *item)
{
        struct span *keywords;

        *item = (struct append_item){ .internaldate = INT64_MIN, .savedate = INT64_MIN };
        if (imap_peek_c(ip, '(')) {
                if (imap_flag_list(ip, false, &item->flags, &keywords, &item->keyword_count) < 0 || imap_sp(ip) < 0)
                        return -1;
                item->keywords = keywords;
        }
        if (imap_peek_c(ip, '"') && (imap_date_time(ip, &item->internaldate) < 0 || imap_sp(ip) < 0))
                return -1;
        return 0;
}

/* ---- before the octets come ---- */

static bool refuse(struct append_check *check, bool bad, const char *code, const char *text)
{
        check->bad = bad;
        check->code = code;
        check->text = text;
        return false;
}

/* Read what there is of the command: "mailbox (\Seen) ". False: check says why. */
static bool precheck_args(struct imap *imap, struct span args, const char **internal_r, struct append_check *check)
{
        struct namer who = imap_namer(imap);
        struct imap_parser ip;
        struct append_item item;
        struct span name;
        struct err err = ERR_INIT;

        imap_parser_init(&ip, args, &imap->s->arena, imap->rev2 || imap->utf8);
        if (imap_astring(&ip, &name) < 0 || imap_sp(&ip) < 0)
                return refuse(check, true, NULL, arena_strdup(&imap->s->arena, ip.err.text));
        if (mailname_internal(&who, name, &imap->s->arena, internal_r, &err) < 0)
                return refuse(check, false, "CANNOT", arena_strdup(&imap->s->arena, err.text));
        if (parse_options(&ip, &item) < 0)
                return refuse(check, true, NULL, arena_strdup(&imap->s->arena, ip.err.text));
        if (imap_peek_c(&ip, '{'))
                return refuse(check, true, NULL, "One message only");
        imap_skip_c(&ip, '~');
        if (imap_end(&ip) < 0)
                return refuse(check, true, NULL, arena_strdup(&imap->s->arena, ip.err.text));
        return true;
}

bool imap_append_precheck(struct imap *imap, struct span args, uint64_t literal_bytes, struct append_check *check_r)
{
        const struct mbentry *entry;
        const char *internal;
        uint32_t rights = 0;
        bool ok;

        *check_r = (struct append_check){ 0 };
        if (imap->state == IMAP_NOT_AUTH)
                return refuse(check_r, true, NULL, "Log in first");
        if (!precheck_args(imap, args, &internal, check_r))
                return false;
        if (literal_bytes == 0)                                 /* RFC 9051 6.3.12 leaves it open; there is no message in it */
                return refuse(check_r, false, NULL, "The message is empty");
        entry = imap_look_up(imap, internal, &rights);
        if (!entry || !(rights & (ACL_LOOKUP | ACL_INSERT))) {
                mbentry_unref(&entry);
                return refuse(check_r, false, imap_may_create(imap, internal) ? "TRYCREATE" : "NONEXISTENT", "Mailbox does not exist");
        }
        check_r->partition_dir = entry->type == MBTYPE_NORMAL ? store_partition_dir(imap->store, entry->partition) : NULL;
        mbentry_unref(&entry);
        ok = (rights & ACL_INSERT) && check_r->partition_dir;
        if (!(rights & ACL_INSERT))
                return refuse(check_r, false, "NOPERM", "Permission denied");
        return ok ? true : refuse(check_r, false, "UNAVAILABLE", "The mailbox is not here");
}

/* ---- the whole command ---- */

static int parse_message(struct imap *imap, struct append_state *st)
{
        struct imap_parser *ip = &imap->cmd.args;
        struct append_item *item = &st->items[st->items_n];
        uint32_t k;

        if (st->items_n == MESSAGES_MAX)
                return err_set(&ip->err, ERR_SYNTAX, "One message only");
        if (parse_options(ip, item) < 0)
                return -1;
        if (imap_streamed_literal(ip, &k) < 0)
                return -1;
        item->stage = imap_streamed_stage(imap, k);
        if (!item->stage)
                return err_set(&ip->err, ERR_SYNTAX, "The message must be a literal");
        st->items_n++;
        return 0;
}

/* What the user may not set is left away, without a word (RFC 4314 4). */
static void restrict_to_rights(struct append_state *st)
{
        uint32_t rights = st->target.rights;

        for (uint32_t i = 0; i < st->items_n; i++) {
                st->items[i].flags &= ~copy_forbidden_flags(rights);
                if (!(rights & ACL_WRITE))
                        st->items[i].keyword_count = 0;
        }
}

static bool begin(struct imap *imap)
{
        struct append_state *st = imap->cmd.state = ARENA_NEW(&imap->s->arena, struct append_state);
        struct imap_parser *ip = &imap->cmd.args;
        const char *name;

        imap->cmd.cleanup = cleanup;
        if (imap_sp(ip) < 0) {
                imap_bad(imap, "%s", ip->err.text);
                return false;
        }
        if (!imap_arg_mailbox(imap, &name))
                return false;
        do {
                if (imap_sp(ip) < 0 || parse_message(imap, st) < 0) {
                        imap_bad(imap, "%s", ip->err.text);
                        return false;
                }
        } while (!imap_at_end(ip));
        st->target.entry = imap_find_mailbox(imap, name, ACL_INSERT, true, &st->target.rights);
        if (!st->target.entry)
                return false;
        restrict_to_rights(st);
        return true;
}

static enum cmd_result reply(struct imap *imap, const struct append_state *st)
{
        char code[64];

        if (!(st->target.rights & ACL_READ))                    /* RFC 4315 3: it would tell about a mailbox that may not be read */
                return imap_ok(imap, NULL, "APPEND completed");
        snprintf(code, sizeof code, "APPENDUID %" PRIu32 " %" PRIu32, st->result.uidvalidity, st->result.first_uid);
        return imap_ok(imap, code, "APPEND completed");
}

enum cmd_result cmd_append(struct imap *imap)
{
        struct append_state *st;
        struct err err = ERR_INIT;
        int opened;

        if (!imap->cmd.state && !begin(imap))
                return CMD_DONE;
        st = imap->cmd.state;
        if (st->written)
                return imap_waited(imap, &err) < 0 ? imap_fail(imap, &err) : reply(imap, st);
        opened = imap_open_mailbox(imap, &st->target.open, st->target.entry, &st->target.to, &err);
        if (opened == 0)
                return CMD_WAIT;
        if (opened < 0)
                return imap_fail(imap, &err);
        st->written = true;
        if (mailbox_append(st->target.to, st->items, st->items_n, &st->result, imap_waiter(imap), &err) < 0) {
                imap_waiter_cancel(imap);
                return imap_fail(imap, &err);
        }
        return imap_wait(imap);
}
