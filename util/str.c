/* str - see str.h */
#include "util/str.h"

#include <stdio.h>
#include <stdlib.h>

#include "util/must.h"

char str_empty_data[1] = "";                    /* never written: every write goes through str_reserve() */

bool span_ieq(struct span a, struct span b)
{
        if (a.len != b.len)
                return false;
        for (size_t i = 0; i < a.len; i++)
                if (ascii_lower(a.p[i]) != ascii_lower(b.p[i]))
                        return false;
        return true;
}

bool span_eq_str(struct span a, const char *s)
{
        return span_eq(a, span_of(s));
}

bool span_ieq_str(struct span a, const char *s)
{
        return span_ieq(a, span_of(s));
}

bool span_istarts(struct span s, const char *prefix)
{
        size_t n = strlen(prefix);

        return s.len >= n && span_ieq((struct span){ s.p, n }, (struct span){ prefix, n });
}

int span_icmp(struct span a, struct span b)
{
        size_t n = a.len < b.len ? a.len : b.len;

        for (size_t i = 0; i < n; i++) {
                unsigned char x = (unsigned char)ascii_lower(a.p[i]), y = (unsigned char)ascii_lower(b.p[i]);

                if (x != y)
                        return x < y ? -1 : 1;
        }
        return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

size_t span_index(struct span s, char c)
{
        const char *hit = s.len ? memchr(s.p, c, s.len) : NULL;

        return hit ? (size_t)(hit - s.p) : s.len;
}

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span span_trim(struct span s)
{
        while (s.len && is_blank(s.p[0])) {
                s.p++;
                s.len--;
        }
        while (s.len && is_blank(s.p[s.len - 1]))
                s.len--;
        return s;
}

bool span_u64(struct span s, uint64_t max, uint64_t *value_r)
{
        uint64_t n = 0;

        if (s.len == 0)
                return false;
        for (size_t i = 0; i < s.len; i++) {
                if (!ascii_isdigit(s.p[i]) || __builtin_mul_overflow(n, 10, &n) ||
                    __builtin_add_overflow(n, (uint64_t)(s.p[i] - '0'), &n) || n > max)
                        return false;
        }
        *value_r = n;
        return true;
}

bool utf8_valid(struct span s)
{
        const unsigned char *p = (const unsigned char *)s.p, *end = p + s.len;

        while (p < end) {
                unsigned c = *p++, more;
                unsigned low = 0x80, high = 0xbf;       /* what the second octet may be, RFC 3629 4 */

                if (c < 0x80)
                        continue;
                if (c >= 0xc2 && c <= 0xdf) {
                        more = 1;
                } else if (c >= 0xe0 && c <= 0xef) {
                        more = 2;
                        if (c == 0xe0)
                                low = 0xa0;
                        if (c == 0xed)
                                high = 0x9f;
                } else if (c >= 0xf0 && c <= 0xf4) {
                        more = 3;
                        if (c == 0xf0)
                                low = 0x90;
                        if (c == 0xf4)
                                high = 0x8f;
                } else {
                        return false;
                }
                if ((size_t)(end - p) < more || *p < low || *p > high)
                        return false;
                for (unsigned i = 1; i < more; i++)
                        if ((p[i] & 0xc0) != 0x80)
                                return false;
                p += more;
        }
        return true;
}

void str_init(struct str *s)
{
        s->data = str_empty_data;
        s->len = s->cap = 0;
}

void str_deinit(struct str *s)
{
        if (s->cap)
                free(s->data);
        str_init(s);
}

void str_clear(struct str *s)
{
        s->len = 0;
        if (s->cap)
                s->data[0] = '\0';
}

void str_reserve(struct str *s, size_t more)
{
        size_t need, cap;

        must(!__builtin_add_overflow(s->len, more, &need) && !__builtin_add_overflow(need, 1, &need));
        if (need <= s->cap)
                return;
        must(need <= SIZE_MAX / 2);
        cap = s->cap ? s->cap : 32;
        while (cap < need)
                cap += cap / 2 + 16;
        s->data = xrealloc(s->cap ? s->data : NULL, cap);
        s->cap = cap;
        s->data[s->len] = '\0';
}

void str_append(struct str *s, const void *p, size_t len)
{
        if (len == 0)
                return;
        str_reserve(s, len);
        memcpy(s->data + s->len, p, len);
        s->len += len;
        s->data[s->len] = '\0';
}

void str_append_span(struct str *s, struct span span)
{
        str_append(s, span.p, span.len);
}

void str_append_str(struct str *s, const char *z)
{
        str_append(s, z, strlen(z));
}

void str_append_c(struct str *s, char c)
{
        if (s->len + 1 >= s->cap)
                str_reserve(s, 1);
        s->data[s->len++] = c;
        s->data[s->len] = '\0';
}

void str_append_u64(struct str *s, uint64_t n)
{
        char digits[20];
        size_t i = sizeof digits;

        do {
                digits[--i] = (char)('0' + n % 10);
                n /= 10;
        } while (n);
        str_append(s, digits + i, sizeof digits - i);
}

void str_vprintf(struct str *s, const char *fmt, va_list ap)
{
        va_list again;
        int n;

        va_copy(again, ap);
        str_reserve(s, 64);
        n = vsnprintf(s->data + s->len, s->cap - s->len, fmt, ap);
        must(n >= 0);
        if ((size_t)n >= s->cap - s->len) {
                str_reserve(s, (size_t)n);
                vsnprintf(s->data + s->len, s->cap - s->len, fmt, again);
        }
        s->len += (size_t)n;
        va_end(again);
}

void str_printf(struct str *s, const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        str_vprintf(s, fmt, ap);
        va_end(ap);
}

char *str_append_space(struct str *s, size_t n)
{
        char *room;

        str_reserve(s, n);
        room = s->data + s->len;
        s->len += n;
        s->data[s->len] = '\0';
        return room;
}

void str_consume(struct str *s, size_t n)
{
        must(n <= s->len);
        if (n == 0)
                return;
        memmove(s->data, s->data + n, s->len - n);
        s->len -= n;
        s->data[s->len] = '\0';
}

void str_truncate(struct str *s, size_t len)
{
        must(len <= s->len);
        s->len = len;
        if (s->cap)
                s->data[len] = '\0';
}

void str_shrink(struct str *s)
{
        if (s->len == 0) {
                str_deinit(s);
        } else if (s->cap > s->len + 64) {
                s->data = xrealloc(s->data, s->len + 1);
                s->cap = s->len + 1;
        }
}

char *str_take(struct str *s)
{
        char *data = s->cap ? s->data : xstrdup("");

        str_init(s);
        return data;
}
