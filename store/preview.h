/*
 * preview - a message in a few words, for a list of messages (RFC 8970): the first text that a reader would see, without markup, quotes
 * and signature. Made when asked for, of a bounded number of the message's first octets: nothing is kept.
 */
#ifndef STORE_PREVIEW_H
#define STORE_PREVIEW_H

#include "store/mime.h"
#include "util/err.h"

#define PREVIEW_CHARS_MAX 200                   /* RFC 8970 3.3: SHOULD; 256 is a MUST */

struct preview_source {
        const struct mime_part *parts;          /* valid: mime_parts_valid() */
        size_t parts_n;
        /* Read octets of the message. */
        int (*read)(void *ctx, uint64_t offset, void *buf, size_t len, struct err *err);
        void *ctx;
};

/* Append the preview, UTF-8 without control characters; nothing when there is no text. Reads at most some 400 KiB. Errors are read()'s. */
int preview_make(const struct preview_source *source, struct str *out, struct err *err);

/* Of decoded text. */
void preview_of_plain(struct span text, struct str *out);
void preview_of_html(struct span text, struct str *out);

#endif
