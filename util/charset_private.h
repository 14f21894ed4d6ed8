/* charset_private - what the files of charset share. */
#ifndef UTIL_CHARSET_PRIVATE_H
#define UTIL_CHARSET_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/str.h"

#define UTF8_REPLACEMENT "\xef\xbf\xbd"         /* U+FFFD */
#define REPLACEMENT_CHARACTER 0xfffd

/*
 * The next character of `p[0..n)`, n >= 1: its code point in *cp_r. Returns the octets it takes; for a broken sequence those of the
 * longest beginning of one (Unicode 3.9, "maximal subpart") with U+FFFD, *broken_r set. Returns 0 when the octets end within a
 * character that may still be completed and `last` is not set.
 */
size_t utf8_next(const uint8_t *p, size_t n, bool last, uint32_t *cp_r, bool *broken_r);
/* Octets written, 1..4. */
size_t utf8_put(char out[4], uint32_t cp);
/* How many octets at the start are ASCII. */
size_t ascii_run(const uint8_t *p, size_t n);

#endif
