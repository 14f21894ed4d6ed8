/*
 * stage_binary - a message that came as a literal8 with NULs in it (RFC 3516 4.4). BODY[] cannot hand out NULs (RFC 9051 9, CHAR8), so
 * the parts that have some are kept in base64, their Content-Transfer-Encoding says so, and BINARY[] gives back the octets that came.
 * All else stays as it is: signatures over other parts still hold (RFC 3516 6).
 */
#include "store/mailbox_private.h"

#define PIECE ((size_t)48 * 1024)
#define LINE_OCTETS 57                          /* make 76 characters (RFC 2045 6.8) */

static int copy(struct stage *from, struct stage *to, uint64_t at, uint64_t end, struct err *err)
{
        char buf[16384];

        while (at < end) {
                size_t n = end - at < sizeof buf ? (size_t)(end - at) : sizeof buf;

                if (stage_read(from, at, buf, n, err) < 0 || stage_write(to, buf, n, err) < 0)
                        return -1;
                at += n;
        }
        return 0;
}

/* The octets of a header block's empty line. */
static size_t empty_line(struct span header)
{
        size_t n = header.len && header.p[header.len - 1] == '\n' ? 1 : 0;

        if (n && header.len >= 2 && header.p[header.len - 2] == '\r')
                n = 2;
        return n && (header.len == n || header.p[header.len - n - 1] == '\n') ? n : 0;
}

/* The header of a part, with another encoding. Nothing else of it is touched, not even what is no field. */
static int write_header(struct stage *from, struct stage *to, const struct mime_part *part, struct err *err)
{
        static const char field_line[] = "Content-Transfer-Encoding: base64\r\n";
        struct str header = STR_INIT;
        struct mime_field field;
        size_t pos = 0, done = 0, end;
        bool put = false;
        int ret = stage_read(from, part->header_off, str_append_space(&header, part->header_len), part->header_len, err);

        while (ret == 0 && mime_field_next(str_span(&header), &pos, &field)) {
                size_t at = (size_t)(field.whole.p - header.data);

                if (!span_ieq_str(field.name, "Content-Transfer-Encoding"))
                        continue;
                ret = stage_write(to, header.data + done, at - done, err);
                if (ret == 0 && !put)
                        ret = stage_write(to, field_line, sizeof field_line - 1, err);
                put = true;
                done = at + field.whole.len;
        }
        end = header.len - empty_line(str_span(&header));
        if (ret == 0 && !put) {
                ret = stage_write(to, header.data, end, err);
                if (ret == 0)
                        ret = stage_write(to, field_line, sizeof field_line - 1, err);
                done = end;
        }
        if (ret == 0)
                ret = stage_write(to, header.data + done, header.len - done, err);
        str_deinit(&header);
        return ret;
}

static void encode_line(const uint8_t *p, size_t n, struct str *out)
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

        for (size_t i = 0; i < n; i += 3) {
                uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);

                str_append_c(out, digits[v >> 18]);
                str_append_c(out, digits[v >> 12 & 63]);
                str_append_c(out, i + 1 < n ? digits[v >> 6 & 63] : '=');
                str_append_c(out, i + 2 < n ? digits[v & 63] : '=');
        }
}

/* In front of a boundary stands the line end that belongs to it; at the end of the message the last line needs its own. */
static int write_body(struct stage *from, struct stage *to, const struct mime_part *part, bool to_the_end, struct err *err)
{
        uint64_t at = part->body_off, end = at + part->body_len;
        struct str raw = STR_INIT, out = STR_INIT;
        int ret = 0;

        while (ret == 0 && at < end) {
                size_t want = PIECE - PIECE % LINE_OCTETS, n = end - at < want ? (size_t)(end - at) : want;

                str_clear(&raw);
                str_clear(&out);
                ret = stage_read(from, at, str_append_space(&raw, n), n, err);
                for (size_t i = 0; ret == 0 && i < n; i += LINE_OCTETS) {
                        size_t line = n - i < LINE_OCTETS ? n - i : LINE_OCTETS;

                        encode_line((const uint8_t *)raw.data + i, line, &out);
                        if (at + i + line < end || to_the_end)
                                str_append_str(&out, "\r\n");
                }
                if (ret == 0)
                        ret = stage_write(to, out.data, out.len, err);
                at += n;
        }
        str_deinit(&raw);
        str_deinit(&out);
        return ret;
}

static bool to_be_encoded(const struct mime_part *part)
{
        bool as_it_is = part->encoding == TRANSFER_7BIT || part->encoding == TRANSFER_8BIT || part->encoding == TRANSFER_BINARY;

        return (part->kind == MIME_TEXT || part->kind == MIME_LEAF) && (part->flags & MIME_PART_NUL) && as_it_is;
}

int stage_encode_binary(struct stage *from, struct stage *to, struct err *err)
{
        struct stage_content c;
        uint64_t done = 0;

        stage_content(from, &c);
        for (size_t i = 0; i < c.mime->parts_n; i++) {
                const struct mime_part *part = &c.mime->parts[i];
                uint64_t end = (uint64_t)part->body_off + part->body_len;

                if (!to_be_encoded(part))
                        continue;
                if (copy(from, to, done, part->header_off, err) < 0 || write_header(from, to, part, err) < 0 ||
                    write_body(from, to, part, end == c.size, err) < 0)
                        return -1;
                done = end;
        }
        if (copy(from, to, done, c.size, err) < 0 || stage_finish(to, err) < 0)
                return -1;
        if (stage_has_nul(to))
                return err_set(err, ERR_UNSUPPORTED, "NUL outside a part whose encoding could be changed");
        return 0;
}
