/*
 * arena - memory that lives until the arena is reset. Each command has one, so a handler contains no free().
 * One thread at a time. Small pieces come from chunks of 4 KiB and more, large ones from malloc().
 */
#ifndef UTIL_ARENA_H
#define UTIL_ARENA_H

#include <stddef.h>

#include "util/str.h"

struct arena {
        struct arena_chunk *chunks;             /* newest first */
        size_t used;                            /* octets handed out since the last reset */
};
#define ARENA_INIT { NULL, 0 }

void arena_init(struct arena *a);
void arena_deinit(struct arena *a);             /* frees everything; usable again */
void arena_reset(struct arena *a);              /* as arena_deinit(): an idle session holds no chunk */
void *arena_alloc(struct arena *a, size_t bytes) __attribute__((returns_nonnull));             /* 16-aligned, not cleared */
void *arena_zalloc(struct arena *a, size_t bytes) __attribute__((returns_nonnull));
char *arena_strdup(struct arena *a, const char *s) __attribute__((returns_nonnull));
char *arena_strndup(struct arena *a, const char *p, size_t len) __attribute__((returns_nonnull));      /* NUL added */
struct span arena_span(struct arena *a, struct span s);         /* a copy, with a NUL after it */
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3), returns_nonnull));
#define ARENA_NEW(a, type) ((type *)arena_zalloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n) ((type *)arena_zalloc_array((a), (n), sizeof(type)))
void *arena_zalloc_array(struct arena *a, size_t count, size_t bytes) __attribute__((returns_nonnull));

#endif
