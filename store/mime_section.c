/* mime_section - from section numbers to octets (RFC 9051 6.4.5.1); see mime.h */
#include "store/mime_private.h"

bool mime_parts_valid(const struct mime_part *parts, size_t n, uint64_t message_size)
{
        if (n == 0 || n > MIME_PARTS_MAX + 1)
                return false;
        for (size_t i = 0; i < n; i++) {
                const struct mime_part *p = &parts[i];
                uint64_t header_end = (uint64_t)p->header_off + p->header_len;

                if (p->kind < MIME_TEXT || p->kind > MIME_MESSAGE || header_end != p->body_off)
                        return false;
                if (header_end + p->body_len > message_size)
                        return false;
                if (i == 0 ? p->parent != MIME_PART_NO_PARENT || p->header_off != 0 : p->parent >= i)
                        return false;
                if (i > 0 && (parts[p->parent].kind < MIME_MULTIPART || p->number == 0))
                        return false;
                if (i > 0 && p->header_off < parts[i - 1].header_off)
                        return false;
        }
        return true;
}

size_t mime_part_child(const struct mime_part *parts, size_t n, size_t parent, uint32_t number)
{
        for (size_t i = parent + 1; i < n; i++)
                if (parts[i].parent == parent && parts[i].number == number)
                        return i;
        return n;
}

/*
 * The part that the numbers name, n when there is none. Numbers count the parts of a multipart; a message whose body is no multipart has
 * that body as its only part 1; below a message/rfc822 part they count the parts of the message inside.
 */
static size_t walk(const struct mime_part *parts, size_t n, const uint32_t *path, size_t path_n)
{
        size_t at = 0;
        bool is_message = true;                 /* `at` is a message whose parts are counted, not yet a part of one */

        for (size_t i = 0; i < path_n; i++) {
                if (!is_message && parts[at].kind == MIME_MESSAGE) {
                        at = mime_part_child(parts, n, at, 1);
                        if (at == n)
                                return n;
                        is_message = true;
                }
                if (parts[at].kind == MIME_MULTIPART) {
                        at = mime_part_child(parts, n, at, path[i]);
                        if (at == n)
                                return n;
                } else if (!is_message || path[i] != 1) {
                        return n;
                }
                is_message = false;
        }
        return at;
}

bool mime_section_find(const struct mime_part *parts, size_t n, const uint32_t *path, size_t path_n, enum mime_section what,
                       uint32_t *offset_r, uint32_t *len_r, size_t *part_r)
{
        const struct mime_part *p;
        size_t at;

        if (n == 0)
                return false;
        at = walk(parts, n, path, path_n);
        if (at == n)
                return false;
        if (part_r)
                *part_r = at;
        if (path_n && (what == MIME_SECTION_HEADER || what == MIME_SECTION_TEXT)) {
                if (parts[at].kind != MIME_MESSAGE)
                        return false;
                at = mime_part_child(parts, n, at, 1);
                if (at == n)
                        return false;
        }
        p = &parts[at];
        if (what == MIME_SECTION_ALL && path_n == 0) {
                *offset_r = 0;
                *len_r = p->header_len + p->body_len;
                return true;
        }
        if (what == MIME_SECTION_MIME && path_n == 0)
                return false;
        if (what == MIME_SECTION_HEADER || what == MIME_SECTION_MIME) {
                *offset_r = p->header_off;
                *len_r = p->header_len;
        } else {
                *offset_r = p->body_off;
                *len_r = p->body_len;
        }
        return true;
}
