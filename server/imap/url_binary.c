/*
 * url_binary - what a URL names without its transfer encoding, and the structure of that (RFC 5524 3.2); see url_part.h
 *
 * The structure is a piece of the message's, as it was rendered at arrival; a large one stays in the message's file, so that nobody who does
 * not read has it held in memory. Where an encoding is undone, three numbers of it change.
 */
#include "server/imap/url_part.h"

#include "util/must.h"

#define PIECE ((size_t)64 * 1024)

static bool is_container(const struct mime_part *part)
{
        return part->kind == MIME_MULTIPART || part->kind == MIME_MESSAGE;
}

static bool is_whole_message(const struct url_part *p)
{
        return p->section->path_n == 0 && p->section->what == MIME_SECTION_ALL;
}

bool url_binary_encoded(const struct url_part *p)
{
        return p->binary.encoding == TRANSFER_BASE64 || p->binary.encoding == TRANSFER_QUOTED_PRINTABLE;
}

/* ---- octets ---- */

static void look_at_octets(struct url_part *p, struct span s)
{
        for (size_t i = 0; i < s.len; i++) {
                unsigned char c = (unsigned char)s.p[i];

                p->binary.has_nul |= c == 0;
                p->binary.has_8bit |= c >= 0x80;
                p->binary.lines += c == '\n';
        }
}

/* The next piece, whether it is wanted or not. */
static int decode_piece(struct url_part *p, struct str *out, struct err *err)
{
        uint64_t left = p->binary.len - p->binary.at;
        size_t n = left < PIECE ? (size_t)left : PIECE;
        struct str raw = STR_INIT;
        int ret = n ? file_read(p->body.file, str_append_space(&raw, n), n, p->body.offset + p->binary.off + p->binary.at, err) : 0;

        if (ret == 0) {
                transfer_feed(&p->binary.transfer, str_span(&raw), out);
                p->binary.at += n;
                if (p->binary.at == p->binary.len)
                        transfer_finish(&p->binary.transfer, out);
        }
        str_deinit(&raw);
        return ret;
}

static void rewind_binary(struct url_part *p)
{
        p->binary.at = p->binary.decoded = 0;
        transfer_init(&p->binary.transfer, p->binary.encoding);
}

/* All of it is gone through: a literal's size, and the kind of literal, stand before it. */
static int measure(struct url_part *p, struct err *err)
{
        struct str piece = STR_INIT;
        int ret;

        do {
                str_clear(&piece);
                ret = decode_piece(p, &piece, err);
                look_at_octets(p, str_span(&piece));
                p->binary.decoded += piece.len;
        } while (ret == 0 && p->binary.at < p->binary.len);
        str_deinit(&piece);
        return ret;
}

static uint64_t least(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

int url_binary_read(struct url_part *p, struct str *buf, struct span *piece_r, struct err *err)
{
        uint64_t from, to;

        if (p->binary.at == p->binary.len || p->binary.decoded >= p->binary.end)
                return 0;
        str_clear(buf);
        if (decode_piece(p, buf, err) < 0)
                return -1;
        from = p->binary.first > p->binary.decoded ? least(p->binary.first - p->binary.decoded, buf->len) : 0;
        to = least(p->binary.end - p->binary.decoded, buf->len);
        p->binary.decoded += buf->len;
        *piece_r = (struct span){ buf->data + from, to > from ? (size_t)(to - from) : 0 };
        return 1;
}

/* What is wanted of p->off and p->len, which are not cut yet. */
static int look_at_binary(struct url_part *p, const struct mime_part *part, struct err *err)
{
        bool identity = is_whole_message(p) || is_container(part) || p->section->what == MIME_SECTION_HEADER ||
                        p->section->what == MIME_SECTION_MIME;

        p->binary.encoding = identity ? TRANSFER_BINARY : (enum transfer_encoding)part->encoding;
        p->binary.off = p->off;
        p->binary.len = p->len;
        if (p->binary.encoding == TRANSFER_UNKNOWN)
                return 0;
        if (p->is_made) {
                look_at_octets(p, str_span(&p->made));
                return 0;
        }
        rewind_binary(p);
        if (measure(p, err) < 0)
                return -1;
        p->binary.end = p->binary.decoded;
        if (p->section->partial) {
                p->binary.first = least(p->section->first, p->binary.end);
                p->binary.end -= p->binary.first;
                p->binary.end = p->binary.first + least(p->section->count, p->binary.end);
        }
        return 0;
}

/* ---- structure ---- */

/* Octets of a rendered text: `text` has them, `places` knows where they stand. */
static void put_piece(struct url_part *p, struct span text, struct file *file, uint64_t at, size_t begin, size_t end)
{
        struct extent piece = { file, at + begin, end - begin };

        if (!file || end - begin < FRONT_LARGE) {
                rope_append(&p->structure, text.p + begin, end - begin);
        } else {
                file_ref(file);
                rope_append_extent(&p->structure, &piece);
        }
}

static const char *domain(bool has_nul, bool has_8bit)
{
        return has_nul ? "BINARY" : has_8bit ? "8BIT" : "7BIT";
}

/* The lines of the header, and whether all of the message is 7-bit. */
static int look_at_message(struct url_part *p, const struct mime_part *message, uint64_t *lines_r, const char **domain_r, struct err *err)
{
        struct url_part header = { .body = p->body, .binary.len = message->header_len };

        rewind_binary(&header);
        if (measure(&header, err) < 0)
                return -1;
        *lines_r = header.binary.lines + message->lines;
        *domain_r = domain(header.binary.has_nul || message->flags & MIME_PART_NUL, header.binary.has_8bit || message->flags & MIME_PART_8BIT);
        return 0;
}

static int put_structure(struct url_part *p, const struct msg_front *front, const struct msg_front *places, size_t part, struct err *err)
{
        struct span all = front->bodystructure;
        struct mime_structure at;
        const char *encoding;
        uint64_t lines;

        if (!mime_structure_find(all, front->parts, front->part_count, part, &at))
                return err_set(err, ERR_CORRUPT, "a structure that is not of the message's parts");
        if (is_whole_message(p)) {
                if (look_at_message(p, &front->parts[0], &lines, &encoding, err) < 0)
                        return -1;
                rope_printf(&p->structure, "(\"MESSAGE\" \"RFC822\" NIL NIL NIL \"%s\" %llu ", encoding, (unsigned long long)p->len);
                put_piece(p, front->envelope, places->file, places->envelope_at, 0, front->envelope.len);
                rope_append_str(&p->structure, " ");
                put_piece(p, all, places->file, places->bodystructure_at, 0, all.len);
                rope_printf(&p->structure, " %llu NIL NIL NIL NIL)", (unsigned long long)lines);
        } else if (p->want & URL_PART_BINARY && url_binary_encoded(p)) {
                put_piece(p, all, places->file, places->bodystructure_at, at.begin, at.encoding);
                rope_printf(&p->structure, "\"%s\" %llu", domain(p->binary.has_nul, p->binary.has_8bit),
                            (unsigned long long)p->binary.decoded);
                if (front->parts[part].kind == MIME_TEXT)
                        rope_printf(&p->structure, " %llu", (unsigned long long)p->binary.lines);
                put_piece(p, all, places->file, places->bodystructure_at, at.rest, at.end);
        } else {
                put_piece(p, all, places->file, places->bodystructure_at, at.begin, at.end);
        }
        return 0;
}

int url_binary_look(struct url_part *p, struct mailbox *mbox, const struct msg *msg, const struct msg_front *front, size_t part,
                    struct err *err)
{
        struct arena arena = ARENA_INIT;
        struct msg_front places;
        int ret = 0;

        must(part < front->part_count);
        if (p->want & URL_PART_BINARY)
                ret = look_at_binary(p, &front->parts[part], err);
        if (ret == 0 && p->want & URL_PART_STRUCTURE) {
                ret = mailbox_front(mbox, msg, FRONT_BODYSTRUCTURE | FRONT_ENVELOPE | FRONT_PLACES, &arena, NULL, &places, err);
                if (ret == 0) {
                        ret = put_structure(p, front, &places, part, err);
                        file_unref(&places.file);
                }
        }
        if (p->want & URL_PART_BINARY)
                rewind_binary(p);
        arena_deinit(&arena);
        return ret;
}
