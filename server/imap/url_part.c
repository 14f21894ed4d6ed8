/* url_part - from a URL to octets; see url_part.h */
#include "server/imap/url_part.h"

struct url_identity url_identity_of(struct imap *imap)
{
        return (struct url_identity){ imap->userid, imap->is_admin, (const char *const *)imap->groups };
}

/* FETCH knows what sections there are; the URL's is one with the brackets left away. */
int url_part_section(struct imap_url *url, struct arena *arena, const struct fetch_section **section_r, struct err *err)
{
        struct fetch_request request;
        struct imap_parser ip;
        struct str text = STR_INIT;
        int ret;

        str_append_str(&text, "BODY.PEEK[");
        str_append_span(&text, url->section);
        str_append_c(&text, ']');
        imap_parser_init(&ip, arena_span(arena, str_span(&text)), arena, false);
        str_deinit(&text);
        ret = fetch_parse(&ip, &request);
        if (ret == 0 && (request.sections_n != 1 || request.changedsince || request.items || request.sections->partial))
                ret = err_set(&ip.err, ERR_SYNTAX, "No such section");
        if (ret < 0)
                return err_set(err, ERR_SYNTAX, "Malformed section in the URL");
        request.sections->partial = url->partial;
        request.sections->first = url->first;
        request.sections->count = url->count ? url->count : INT64_MAX;
        *section_r = request.sections;
        return 0;
}

/* ---- the mailbox ---- */

/* Relative to the mailbox that is selected: ";UID=20", "/;UID=20" and siblings of it (RFC 3986 5.2; RFC 4469 3). */
static struct span merged_name(struct imap *imap, const struct imap_url *url, const struct namer *who)
{
        struct str name = STR_INIT;
        struct span merged;
        char sep = namespace_separator(who->ns);
        size_t keep;

        if (url->absolute || (url->rooted && url->mailbox.len) || !imap->sel || !imap->sel->entry)
                return url->mailbox;
        mailname_external(who, imap->sel->entry->name, &name);
        if (url->mailbox.len) {
                for (keep = name.len; keep > 0 && name.data[keep - 1] != sep; keep--)
                        ;
                str_truncate(&name, keep);
                str_append_span(&name, url->mailbox);
        }
        merged = arena_span(&imap->s->arena, str_span(&name));
        str_deinit(&name);
        return merged;
}

/* URLs separate with "/" (RFC 5092 6); this server's names may do so with ".". */
static struct span with_separator(struct imap *imap, struct span name, char sep)
{
        char *copy;

        if (sep == '/' || !memchr(name.p ? name.p : "", '/', name.len))
                return name;
        copy = arena_strndup(&imap->s->arena, name.p, name.len);
        for (size_t i = 0; i < name.len; i++)
                if (copy[i] == '/')
                        copy[i] = sep;
        return (struct span){ copy, name.len };
}

static uint32_t rights_of(struct imap *imap, const struct mbentry *entry, const struct url_identity *who)
{
        struct acl_identity identity = { .userid = who->userid, .groups = who->groups, .is_admin = who->is_admin,
                                         .is_owner = mailname_owned_by(entry->name, who->userid), .owner_rights = imap->owner_rights };

        if (entry->type != MBTYPE_NORMAL || imap_name_hidden_from(imap, entry->name, who->userid, who->is_admin))
                return 0;
        return acl_rights(entry->acl, &identity);
}

/* Absolute URLs name a user's mailbox whatever is selected. */
bool url_part_begin(struct url_part *p, struct imap *imap, const struct url_identity *who)
{
        struct namer namer = { .ns = imap->ns, .userid = who->userid, .is_admin = who->is_admin, .utf8 = true };
        struct span name = with_separator(imap, merged_name(imap, &p->url, &namer), namespace_separator(imap->ns));
        struct err err = ERR_INIT;

        p->store = imap->store;
        if (name.len == 0 || p->url.uid == 0 || mailname_internal(&namer, name, &imap->s->arena, &p->internal, &err) < 0)
                return false;
        if (!p->section && url_part_section(&p->url, &imap->s->arena, &p->section, &err) < 0)
                return false;
        p->entry = mboxlist_find(store_mboxlist(imap->store), p->internal);
        if (p->entry && !(rights_of(imap, p->entry, who) & URL_RIGHTS))
                mbentry_unref(&p->entry);
        return p->entry != NULL;
}

/* ---- the octets ---- */

#define HEADER_PIECE ((size_t)64 * 1024)

/* A header may be as long as a message: what is held of it is what was asked for, and that has a limit. */
static int make_fields(struct url_part *p, struct err *err)
{
        const struct fetch_section *s = p->section;
        struct mime_pick *pick = mime_pick_create(s->names, s->names_n, s->fields == FETCH_FIELDS_NOT);
        struct str piece = STR_INIT;
        uint64_t at = 0;
        int ret;

        str_clear(&p->made);
        do {
                size_t n = p->len - at < HEADER_PIECE ? (size_t)(p->len - at) : HEADER_PIECE;

                str_clear(&piece);
                ret = n ? file_read(p->body.file, str_append_space(&piece, n), n, p->body.offset + p->off + at, err) : 0;
                at += n;
                if (ret == 0)
                        mime_pick_feed(pick, str_span(&piece), at == p->len, &p->made);
                if (ret == 0 && p->made.len > MIME_HEADER_MAX)
                        ret = err_set(err, ERR_LIMIT, "Header fields of more than %u octets by URL", MIME_HEADER_MAX);
        } while (ret == 0 && at < p->len);
        mime_pick_destroy(&pick);
        str_deinit(&piece);
        p->is_made = true;
        p->off = 0;
        p->len = p->made.len;
        return ret;
}

/* The part that a section is of; for HEADER and TEXT of a message within the message, that message's body. */
static size_t part_number(const struct url_part *p, const struct msg_front *front, const struct mime_part *part)
{
        size_t n = part ? (size_t)(part - front->parts) : 0;

        if (part && (p->section->what == MIME_SECTION_HEADER || p->section->what == MIME_SECTION_TEXT))
                n = mime_part_child(front->parts, front->part_count, n, 1);
        return n;
}

static int locate_in(struct url_part *p, struct mailbox *mbox, struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct msg_front front;
        struct mailbox_status status;
        const struct mime_part *part = NULL;
        struct msg msg;
        int ret = -1;

        mailbox_status(mbox, &status);
        if (p->url.uidvalidity && p->url.uidvalidity != status.uidvalidity)
                return err_set(err, ERR_NOTFOUND, "another uidvalidity");
        if (p->url.uid >= status.uidnext || mailbox_message(mbox, p->url.uid, &msg, err) < 0 || (msg.flags & MSG_EXPUNGED))
                return err_set(err, ERR_NOTFOUND, "no such message");
        if (mailbox_front(mbox, &msg, FRONT_PARTS | (p->want & URL_PART_STRUCTURE ? FRONT_BODYSTRUCTURE | FRONT_ENVELOPE : 0), &arena, NULL,
                          &front, err) < 0)
                goto out;
        if (!mime_parts_valid(front.parts, front.part_count, msg.size)) {
                err_set(err, ERR_CORRUPT, "the part table of uid %u", msg.uid);
                goto out;
        }
        if (!fetch_locate(&msg, &front, p->section, &p->off, &p->len, &part)) {
                p->no_section = true;
                err_set(err, ERR_NOTFOUND, "no such section");
                goto out;
        }
        p->encoding = part ? (enum transfer_encoding)part->encoding : TRANSFER_BINARY;
        if (mailbox_body(mbox, &msg, &p->body, err) < 0)
                goto out;
        if (p->off + p->len > p->body.len) {
                err_set(err, ERR_CORRUPT, "uid %u is shorter than it should be", msg.uid);
                goto out;
        }
        if (p->section->fields != FETCH_FIELDS_ALL && make_fields(p, err) < 0)
                goto out;
        if (p->want && url_binary_look(p, mbox, &msg, &front, part_number(p, &front, part), err) < 0)
                goto out;
        fetch_cut_partial(p->section, &p->off, &p->len);
        ret = 0;
out:
        arena_deinit(&arena);
        return ret;
}

int url_part_locate(struct url_part *p, struct err *err)
{
        struct mailbox_ident ident;
        struct mailbox *mbox;
        int ret;

        if (mbentry_ident(p->store, p->entry, &ident, err) < 0 || mailbox_open(p->store, &ident, &mbox, err) < 0)
                return -1;
        ret = locate_in(p, mbox, err);
        mailbox_unref(&mbox);
        return ret;
}

int url_part_read(struct url_part *p, uint64_t at, void *buf, size_t n, struct err *err)
{
        if (!p->is_made)
                return file_read(p->body.file, buf, n, p->body.offset + p->off + at, err);
        memcpy(buf, p->made.data + p->off + at, n);
        return 0;
}

void url_part_release(struct url_part *p)
{
        file_unref(&p->body.file);
        str_deinit(&p->made);
        rope_deinit(&p->structure);
        if (p->entry)
                mbentry_unref(&p->entry);
}
