/* mime_fuzz - any octets give a valid result, which does not depend on how they were cut. */
#include <stdint.h>
#include <stdlib.h>

#include "store/mime.h"
#include "util/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Is it a parenthesised list in IMAP's grammar: balanced, with well-formed strings and literals? */
static void check_list(struct span s)
{
        size_t depth = 0, i = 0;

        must(s.len >= 2 && s.p[0] == '(');
        while (i < s.len) {
                unsigned char c = (unsigned char)s.p[i];

                must(c >= ' ' && c < 0x7f);
                if (c == '"') {
                        for (i++; i < s.len && s.p[i] != '"'; i++) {
                                must((unsigned char)s.p[i] < 0x7f && s.p[i] && s.p[i] != '\r' && s.p[i] != '\n');
                                if (s.p[i] == '\\')
                                        i++;
                        }
                        must(i < s.len);
                } else if (c == '{') {
                        size_t n = strtoul(s.p + i + 1, NULL, 10), end = i + span_index((struct span){ s.p + i, s.len - i }, '}');

                        must(end + 2 < s.len && s.p[end + 1] == '\r' && s.p[end + 2] == '\n' && s.len - end - 3 >= n);
                        must(n == 0 || !memchr(s.p + end + 3, '\0', n));
                        i = end + 2 + n;
                } else if (c == '(') {
                        depth++;
                } else if (c == ')') {
                        must(depth-- > 0);
                        must(depth > 0 || i == s.len - 1);
                }
                i++;
        }
        must(depth == 0);
}

static void check_sections(const struct mime_result *r)
{
        uint32_t path[4], offset, len;
        size_t part;

        for (unsigned i = 0; i < 81; i++) {
                path[0] = 1 + i % 3;
                path[1] = 1 + i / 3 % 3;
                path[2] = 1 + i / 9 % 3;
                path[3] = 1 + i / 27;
                for (size_t n = 0; n <= 4; n++)
                        for (int what = MIME_SECTION_ALL; what <= MIME_SECTION_MIME; what++)
                                if (mime_section_find(r->parts, r->parts_n, path, n, (enum mime_section)what, &offset, &len, &part))
                                        must((uint64_t)offset + len <= r->size && part < r->parts_n);
        }
}

/* Each part's structure is in the message's. */
static void check_structures(const struct mime_result *r)
{
        struct span all = str_span(&r->bodystructure);
        struct mime_structure at;

        for (size_t i = 0; i < r->parts_n && i < 50; i++) {
                must(mime_structure_find(all, r->parts, r->parts_n, i, &at));
                check_list((struct span){ all.p + at.begin, at.end - at.begin });
                if (r->parts[i].kind != MIME_MULTIPART)
                        must(strtoul(all.p + at.size, NULL, 10) == r->parts[i].body_len);
                if (r->parts[i].kind == MIME_TEXT)
                        must(strtoul(all.p + at.lines, NULL, 10) == r->parts[i].lines);
        }
}

static void check_header(struct span message, const struct mime_result *r)
{
        struct span header = { message.p, (size_t)r->header_size }, names[2] = { SPAN("Subject"), SPAN("to") };
        struct str some = STR_INIT, others = STR_INIT, text = STR_INIT;
        struct mime_field field;
        struct mime_address a;
        struct mime_date date;
        size_t pos = 0, fields = 0;

        mime_address_init(&a);
        while (mime_field_next(header, &pos, &field)) {
                size_t at = 0;
                bool in_group = false;

                fields += field.whole.len;
                while (mime_address_next(field.value, &at, &in_group, &a))
                        ;
                must(!in_group);
                mime_date_parse(field.value, &date);
                mime_unfold(field.value, &text);
        }
        mime_address_deinit(&a);
        mime_header_fields(header, names, 2, false, &some);
        mime_header_fields(header, names, 2, true, &others);
        must(some.len + others.len >= fields + 4);
        mime_header_charset(header, &text);
        must(!memchr(text.data, '\n', text.len) || text.len);
        str_deinit(&some);
        str_deinit(&others);
        str_deinit(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        uint32_t seed = size ? data[0] * 2654435761u + (uint32_t)size : 1;
        struct span message = { (const char *)data, size };
        struct mime_parser *p = mime_parser_create();
        struct mime_result whole, cut;

        mime_parse(message, &whole);
        for (size_t at = 0; at < size;) {
                size_t n;

                seed = seed * 1103515245u + 12345u;
                n = 1 + (seed >> 16) % (seed & 0x100 ? 3 : 80);
                n = n < size - at ? n : size - at;
                mime_parser_feed(p, data + at, n);
                at += n;
        }
        mime_parser_finish(p, &cut);
        mime_parser_destroy(&p);
        must(mime_parts_valid(whole.parts, whole.parts_n, whole.size));
        must(span_eq(str_span(&whole.envelope), str_span(&cut.envelope)));
        must(span_eq(str_span(&whole.body), str_span(&cut.body)));
        must(span_eq(str_span(&whole.bodystructure), str_span(&cut.bodystructure)));
        must(whole.parts_n == cut.parts_n && memcmp(whole.parts, cut.parts, whole.parts_n * sizeof *whole.parts) == 0);
        must(whole.size == size && cut.size == size && whole.header_size == cut.header_size && whole.lines == cut.lines);
        must(whole.has_sentdate == cut.has_sentdate && whole.sentdate == cut.sentdate);
        must(whole.has_8bit == cut.has_8bit && whole.has_nul == cut.has_nul && whole.has_bare_cr == cut.has_bare_cr &&
             whole.has_bare_lf == cut.has_bare_lf);
        check_list(str_span(&whole.envelope));
        check_list(str_span(&whole.body));
        check_list(str_span(&whole.bodystructure));
        check_sections(&whole);
        check_structures(&whole);
        check_header(message, &whole);
        mime_result_deinit(&whole);
        mime_result_deinit(&cut);
        return 0;
}
