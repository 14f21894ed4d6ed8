/*
 * must - assertions for our own mistakes, in production too. What the network or the disk brings is never our mistake.
 * The allocators end the process when a small allocation fails: no mail server goes on sensibly without memory for a list
 * node. Whatever has a size that a stranger chose uses try_malloc() and answers ERR_NOMEM or ERR_LIMIT.
 */
#ifndef UTIL_MUST_H
#define UTIL_MUST_H

#include <stddef.h>

_Noreturn void must_failed(const char *what, const char *file, int line, const char *function);
#define must(cond) ((cond) ? (void)0 : must_failed(#cond, __FILE__, __LINE__, __func__))

void *xmalloc(size_t bytes) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t bytes) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t bytes) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t len) __attribute__((malloc, returns_nonnull));    /* copies exactly len octets and adds a NUL */
void *try_malloc(size_t bytes) __attribute__((malloc));                                 /* NULL when there is none */

#endif
