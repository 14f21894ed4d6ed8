/* mime_private - between the files of mime. */
#ifndef STORE_MIME_PRIVATE_H
#define STORE_MIME_PRIVATE_H

#include "store/mime.h"

enum field_id {                                 /* the header fields that ENVELOPE and BODYSTRUCTURE are made of */
        FIELD_DATE, FIELD_SUBJECT, FIELD_FROM, FIELD_SENDER, FIELD_REPLY_TO, FIELD_TO, FIELD_CC, FIELD_BCC,
        FIELD_IN_REPLY_TO, FIELD_MESSAGE_ID, FIELD_REFERENCES,
        FIELD_CONTENT_FIRST,
        FIELD_TYPE = FIELD_CONTENT_FIRST, FIELD_ENCODING, FIELD_ID, FIELD_DESCRIPTION, FIELD_MD5, FIELD_DISPOSITION,
        FIELD_LANGUAGE, FIELD_LOCATION,
        FIELD_N
};

struct field_set {                              /* of the header block being read; values are unfolded */
        struct { struct str value; bool present; } v[FIELD_N];
};

struct param {
        struct span name;
        struct str value;                       /* unquoted */
};

struct content {                                /* a parsed Content-Type or Content-Disposition */
        struct span type, subtype;              /* as written; empty when missing */
        struct param params[MIME_PARAMS_MAX];
        size_t params_n;
};
void content_parse(struct span value, struct content *c);       /* `value` must outlive it */
void content_deinit(struct content *c);
const struct param *content_param(const struct content *c, const char *name);

struct node {                                   /* a part while it is being parsed, and what was rendered of it */
        struct mime_part part;                  /* offsets in it are filled in at the end */
        uint64_t header_off, header_len, body_off, body_len;
        uint64_t lf_before_body, lines;
        uint32_t first_child, last_child, next_sibling;         /* 0: none, since the root is nobody's child */
        bool closed;
        struct str head;                        /* leaf: type, subtype, params, id, description, encoding; multipart: subtype */
        struct str ext;                         /* leaf: md5, disposition, language, location; multipart: params instead of md5 */
        struct str envelope;                    /* of a message */
};

void render_string(struct str *out, struct span s);
void render_envelope(struct str *out, struct field_set *f, uint32_t *addresses);
/* node->head and node->ext; the kind is decided. `c` is the Content-Type, or NULL when it is replaced by application/octet-stream.
 * `untyped`: no Content-Type at all. */
void render_content(struct node *n, const struct field_set *f, const struct content *c, struct span type, struct span subtype, bool untyped);
void render_body(struct str *out, const struct node *nodes, uint32_t at, bool extensible);

/* Skip blanks, line ends and comments (RFC 5322 CFWS) from *pos; the text of the last comment goes to `comment` unless NULL. Returns
 * whether anything was skipped. */
bool mime_skip_cfws(struct span s, size_t *pos, struct str *comment);
/* s.p[*pos] is '"': append what it quotes. */
void mime_quoted(struct span s, size_t *pos, struct str *out);

#endif
