/*
 * fetch_section - BODY[…], BINARY[…] and BINARY.SIZE[…] of one message (RFC 9051 6.4.5, RFC 3516); see fetch.h
 *
 * Large pieces go into the rope as extents of the message's file, small ones are copied. Header fields are picked from the header: a short
 * one is read whole; a long one is gone through in pieces, twice, as is what has to be decoded: a literal's size stands before it.
 */
#include "server/imap/fetch_private.h"

#include <inttypes.h>

#include "util/must.h"

#define DECODE_PIECE ((size_t)64 * 1024)
#define HEADER_SHORT ((uint64_t)64 * 1024)      /* octets */

void fetch_flush(struct imap *imap, struct fetch_state *st)
{
        rope_append_span(&imap->s->out, str_span(&st->line));
        str_clear(&st->line);
}

void fetch_separate(struct fetch_state *st)
{
        if (!st->first) {
                str_append_c(&st->line, ' ');
                return;
        }
        imap_append_fetch(st->imap, st->msg.uid, st->seqno, &st->line);
        st->first = false;
}

void fetch_note_failure(struct fetch_state *st, const struct err *err)
{
        if (err->code == ERR_NOTFOUND)
                st->missing = true;
        else if (st->err.code == ERR_NONE)
                err_copy(&st->err, err);
}

/* ---- where ---- */

bool fetch_locate(const struct msg *m, const struct msg_front *front, const struct fetch_section *s, uint64_t *off_r, uint64_t *len_r,
                  const struct mime_part **part_r)
{
        uint32_t off, len;
        size_t part;

        *part_r = NULL;
        if (s->path_n == 0) {
                *off_r = s->what == MIME_SECTION_TEXT ? m->header_size : 0;
                *len_r = s->what == MIME_SECTION_HEADER ? m->header_size : m->size - *off_r;
                return true;
        }
        if (!mime_section_find(front->parts, front->part_count, s->path, s->path_n, s->what, &off, &len, &part))
                return false;
        *off_r = off;
        *len_r = len;
        *part_r = &front->parts[part];
        return true;
}

void fetch_cut_partial(const struct fetch_section *s, uint64_t *off, uint64_t *len)
{
        uint64_t first = s->partial ? s->first : 0;

        if (first > *len)
                first = *len;
        *off += first;
        *len -= first;
        if (s->partial && *len > s->count)
                *len = s->count;
}

/* ---- what ---- */

static void put_label(struct fetch_state *st, const struct fetch_section *s)
{
        fetch_separate(st);
        str_append_span(&st->line, s->label);
        str_append_c(&st->line, ' ');
}

static void put_literal_head(struct fetch_state *st, uint64_t len, bool nul)
{
        str_append_str(&st->line, nul ? "~{" : "{");
        str_append_u64(&st->line, len);
        str_append_str(&st->line, "}\r\n");
}

static int read_body(struct fetch_state *st, uint64_t off, uint64_t len, struct str *out, struct err *err)
{
        size_t before = out->len;

        if (off + len > st->body.len)
                return err_set(err, ERR_CORRUPT, "uid %" PRIu32 " has %" PRIu64 " octets, not %" PRIu64, st->msg.uid, st->body.len, off + len);
        if (st->octets.p) {
                str_append(out, st->octets.p + off, len);
                return 0;
        }
        if (file_read(st->body.file, str_append_space(out, len), len, st->body.offset + off, err) == 0)
                return 0;
        str_truncate(out, before);
        return -1;
}

/* Octets of the message as they are. */
static enum fetch_result put_octets(struct imap *imap, struct fetch_state *st, const struct fetch_section *s, uint64_t off, uint64_t len,
                                    bool nul)
{
        struct extent piece = { st->body.file, st->body.offset + off, len };
        struct err err = ERR_INIT;

        /* Read first: when that fails nothing must have been said. */
        if (len && len < FETCH_COPY_BELOW && !st->octets.p && read_body(st, off, len, &st->scratch, &err) < 0)
                goto failed;
        if ((len >= FETCH_COPY_BELOW || st->octets.p) && off + len > st->body.len) {
                err_set(&err, ERR_CORRUPT, "uid %" PRIu32 " is shorter than it should be", st->msg.uid);
                goto failed;
        }
        put_label(st, s);
        if (len == 0) {
                str_append_str(&st->line, "\"\"");
                return FETCH_SENT;
        }
        put_literal_head(st, len, nul);
        if (len < FETCH_COPY_BELOW) {
                str_append_span(&st->line, st->octets.p ? (struct span){ st->octets.p + off, len } : str_span(&st->scratch));
                str_clear(&st->scratch);
                return FETCH_SENT;
        }
        fetch_flush(imap, st);
        file_ref(piece.file);
        rope_append_extent(&imap->s->out, &piece);
        return FETCH_SENT;
failed:
        fetch_note_failure(st, &err);
        return FETCH_LEFT_OUT;
}

/* Octets that were made here. */
static enum fetch_result put_text(struct fetch_state *st, const struct fetch_section *s, struct span text)
{
        uint64_t off = 0, len = text.len;

        fetch_cut_partial(s, &off, &len);
        put_label(st, s);
        if (len) {
                put_literal_head(st, len, false);
                str_append(&st->line, text.p + off, len);
        } else {
                str_append_str(&st->line, "\"\"");
        }
        return FETCH_SENT;
}

static enum fetch_result put_header(struct fetch_state *st, const struct fetch_section *s, uint64_t off, uint64_t len)
{
        struct str fields = STR_INIT;
        struct span header = st->front.header;
        struct err err = ERR_INIT;
        enum fetch_result result;

        if (off != 0 || header.len < len) {
                if (len && read_body(st, off, len, &st->scratch, &err) < 0) {
                        fetch_note_failure(st, &err);
                        return FETCH_LEFT_OUT;
                }
                header = str_span(&st->scratch);
        }
        header.len = len;
        if (s->fields == FETCH_FIELDS_ALL) {
                result = put_text(st, s, header);
        } else {
                mime_header_fields(header, s->names, s->names_n, s->fields == FETCH_FIELDS_NOT, &fields);
                result = put_text(st, s, str_span(&fields));
                str_deinit(&fields);
        }
        str_clear(&st->scratch);
        return result;
}

static enum fetch_result put_nil(struct fetch_state *st, const struct fetch_section *s)
{
        put_label(st, s);
        str_append_str(&st->line, s->kind == FETCH_KIND_BINARY_SIZE ? "0" : "NIL");
        return FETCH_SENT;
}

/* ---- decoding ---- */

static uint64_t minimum(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

/* What of the next n decoded octets is wanted: a piece of them. */
static struct span wanted(const struct fetch_binary *b, struct span piece)
{
        uint64_t from = b->first > b->decoded ? minimum(b->first - b->decoded, piece.len) : 0;
        uint64_t to = b->end > b->decoded ? minimum(b->end - b->decoded, piece.len) : 0;

        return (struct span){ piece.p + from, to > from ? to - from : 0 };
}

/* Decode the next piece; *piece_r is what is wanted of it, in st->scratch. */
static int decode_piece(struct fetch_state *st, struct span *piece_r, struct err *err)
{
        struct fetch_binary *b = &st->binary;
        uint64_t n = minimum(b->len - b->at, DECODE_PIECE);
        struct str raw = STR_INIT;
        struct span all;

        str_clear(&st->scratch);
        if (n && read_body(st, b->off + b->at, n, &raw, err) < 0) {
                str_deinit(&raw);
                return -1;
        }
        b->at += n;
        if (b->pick) {
                mime_pick_feed(b->pick, str_span(&raw), b->at == b->len, &st->scratch);
        } else {
                transfer_feed(&b->transfer, str_span(&raw), &st->scratch);
                if (b->at == b->len)
                        transfer_finish(&b->transfer, &st->scratch);
        }
        str_deinit(&raw);
        all = str_span(&st->scratch);
        *piece_r = wanted(b, all);
        b->decoded += all.len;
        return 0;
}

static void binary_begin(struct fetch_binary *b, enum transfer_encoding encoding)
{
        b->at = b->decoded = 0;
        if (b->pick)
                mime_pick_restart(b->pick);
        else
                transfer_init(&b->transfer, encoding);
}

/* FETCH_SENT here: it is counted. */
static enum fetch_result binary_count(struct imap *imap, struct fetch_state *st)
{
        struct fetch_binary *b = &st->binary;
        struct err err = ERR_INIT;
        struct span piece;

        do {
                if (decode_piece(st, &piece, &err) < 0) {
                        fetch_note_failure(st, &err);
                        return FETCH_LEFT_OUT;
                }
                b->nul |= piece.len && memchr(piece.p, '\0', piece.len);
                if (b->at < b->len && session_slice_over(imap->s))
                        return FETCH_PAUSE;
        } while (b->at < b->len);
        return FETCH_SENT;
}

static enum fetch_result binary_send(struct imap *imap, struct fetch_state *st)
{
        struct fetch_binary *b = &st->binary;
        struct err err = ERR_INIT;
        struct span piece;

        while (b->at < b->len) {
                if (decode_piece(st, &piece, &err) < 0) {
                        fetch_note_failure(st, &err);
                        return FETCH_BROKEN;
                }
                fetch_flush(imap, st);
                rope_append_span(&imap->s->out, piece);
                if (b->at < b->len && imap_yield(imap) != CMD_DONE)
                        return FETCH_PAUSE;
        }
        return FETCH_SENT;
}

/* All of it was counted: say how much there is, and begin again if it is wanted. */
static bool binary_head(struct fetch_state *st, const struct fetch_section *s)
{
        struct fetch_binary *b = &st->binary;
        uint64_t end = minimum(b->end, b->decoded), n = end > b->first ? end - b->first : 0;

        put_label(st, s);
        if (s->kind == FETCH_KIND_BINARY_SIZE)
                str_append_u64(&st->line, b->decoded);
        else if (n == 0)
                str_append_str(&st->line, "\"\"");
        else
                put_literal_head(st, n, b->nul && s->kind == FETCH_KIND_BINARY);
        return s->kind != FETCH_KIND_BINARY_SIZE && n > 0;
}

static enum fetch_result binary_run(struct imap *imap, struct fetch_state *st, const struct fetch_section *s)
{
        struct fetch_binary *b = &st->binary;
        enum fetch_result result = FETCH_SENT;

        if (b->phase == BINARY_COUNT) {
                result = binary_count(imap, st);
                if (result == FETCH_SENT && binary_head(st, s)) {
                        b->phase = BINARY_SEND;
                        binary_begin(b, b->transfer.encoding);
                }
        }
        if (b->phase == BINARY_SEND)
                result = binary_send(imap, st);
        if (result != FETCH_PAUSE) {
                b->phase = BINARY_NONE;
                mime_pick_destroy(&b->pick);
        }
        str_clear(&st->scratch);
        return result;
}

static void binary_partial(struct fetch_binary *b, const struct fetch_section *s)
{
        if (!s->partial)
                return;
        b->first = s->first;
        if (__builtin_add_overflow(s->first, s->count, &b->end))
                b->end = UINT64_MAX;
}

/* Some fields of a header too long to be held in memory while the peer reads. */
static enum fetch_result put_picked(struct imap *imap, struct fetch_state *st, const struct fetch_section *s, uint64_t off, uint64_t len)
{
        struct fetch_binary *b = &st->binary;

        *b = (struct fetch_binary){ .phase = BINARY_COUNT, .off = off, .len = len, .end = UINT64_MAX };
        b->pick = mime_pick_create(s->names, s->names_n, s->fields == FETCH_FIELDS_NOT);
        binary_partial(b, s);
        return binary_run(imap, st, s);
}

static bool is_container(const struct mime_part *part)
{
        return !part || part->kind == MIME_MULTIPART || part->kind == MIME_MESSAGE;
}

/* A multipart or a message has no encoding to undo: as it is. */
static enum fetch_result put_binary(struct imap *imap, struct fetch_state *st, const struct fetch_section *s, uint64_t off, uint64_t len,
                                    const struct mime_part *part)
{
        struct fetch_binary *b = &st->binary;
        enum transfer_encoding encoding = is_container(part) ? TRANSFER_BINARY : (enum transfer_encoding)part->encoding;

        if (encoding == TRANSFER_UNKNOWN) {
                st->unknown_cte = true;
                return FETCH_LEFT_OUT;
        }
        if (encoding != TRANSFER_BASE64 && encoding != TRANSFER_QUOTED_PRINTABLE) {
                bool nul = part ? part->flags & MIME_PART_NUL : false;

                if (s->kind == FETCH_KIND_BINARY_SIZE) {
                        put_label(st, s);
                        str_append_u64(&st->line, len);
                        return FETCH_SENT;
                }
                fetch_cut_partial(s, &off, &len);
                return put_octets(imap, st, s, off, len, nul);
        }
        *b = (struct fetch_binary){ .phase = BINARY_COUNT, .off = off, .len = len, .end = UINT64_MAX };
        binary_partial(b, s);
        binary_begin(b, encoding);
        return binary_run(imap, st, s);
}

enum fetch_result fetch_put_section(struct imap *imap, struct fetch_state *st, const struct fetch_section *s)
{
        const struct mime_part *part;
        uint64_t off, len;

        if (st->binary.phase != BINARY_NONE)
                return binary_run(imap, st, s);
        if (!fetch_locate(&st->msg, &st->front, s, &off, &len, &part))
                return put_nil(st, s);
        if (s->kind != FETCH_KIND_BODY)
                return put_binary(imap, st, s, off, len, part);
        if (s->fields != FETCH_FIELDS_ALL && len > HEADER_SHORT)
                return put_picked(imap, st, s, off, len);
        if (s->fields != FETCH_FIELDS_ALL || (s->what == MIME_SECTION_HEADER && off == 0 && st->front.header.len >= len && len > 0))
                return put_header(st, s, off, len);
        fetch_cut_partial(s, &off, &len);
        return put_octets(imap, st, s, off, len, false);
}
