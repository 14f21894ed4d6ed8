/*
 * str - a growing buffer of octets, and span, a borrowed piece of some.
 * `data` is never NULL, has a NUL after `len`, may contain NULs. Code appends and computes no offsets into it.
 * Growth that a stranger controls is bounded by the caller before it appends.
 */
#ifndef UTIL_STR_H
#define UTIL_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
        const char *p;                          /* may be NULL when len is 0 */
        size_t len;
};
#define SPAN(literal) ((struct span){ (literal), sizeof(literal) - 1 })

static inline struct span span_of(const char *s) { return (struct span){ s, strlen(s) }; }
static inline bool span_eq(struct span a, struct span b) { return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0); }
bool span_ieq(struct span a, struct span b);                    /* ASCII case-insensitive */
bool span_eq_str(struct span a, const char *s);
bool span_ieq_str(struct span a, const char *s);
bool span_istarts(struct span s, const char *prefix);           /* ASCII case-insensitive */
int span_icmp(struct span a, struct span b);
/* The index of octet c, or s.len. */
size_t span_index(struct span s, char c);
struct span span_trim(struct span s);                           /* without blanks, TAB, CR, LF at either end */
/* Decimal digits only, no sign. Returns false when empty, not all digits or above `max`. */
bool span_u64(struct span s, uint64_t max, uint64_t *value_r);

static inline char ascii_lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }
static inline char ascii_upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 32) : c; }
static inline bool ascii_isdigit(char c) { return c >= '0' && c <= '9'; }
static inline bool ascii_isalpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool utf8_valid(struct span s);                                 /* RFC 3629: no overlong forms, surrogates or above U+10FFFF */

struct str {
        char *data;
        size_t len;
        size_t cap;                             /* 0: data is the shared empty string, not ours to free */
};

extern char str_empty_data[1];
#define STR_INIT { str_empty_data, 0, 0 }

void str_init(struct str *s);
void str_deinit(struct str *s);                 /* frees; the str is then as after str_init() */
void str_clear(struct str *s);                  /* len 0, keeps the memory */
void str_reserve(struct str *s, size_t more);   /* room for `more` octets after len */
void str_append(struct str *s, const void *p, size_t len);
void str_append_span(struct str *s, struct span span);
void str_append_str(struct str *s, const char *z);
void str_append_c(struct str *s, char c);
void str_append_u64(struct str *s, uint64_t n);
void str_printf(struct str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));      /* appends */
void str_vprintf(struct str *s, const char *fmt, va_list ap);
/* Append room for n octets and return it, to be filled at once. */
char *str_append_space(struct str *s, size_t n);
void str_consume(struct str *s, size_t n);      /* drop the first n octets (memmove) */
void str_truncate(struct str *s, size_t len);   /* len must not be above the present one */
void str_shrink(struct str *s);                 /* give back unused memory; an empty str holds none */
char *str_take(struct str *s);                  /* the memory, for free(); s is then empty */
static inline struct span str_span(const struct str *s) { return (struct span){ s->data, s->len }; }

#endif
