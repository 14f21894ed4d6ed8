/*
 * sort_facts - what SORT and THREAD (RFC 5256, RFC 5957) want to know of a message's header, packed small.
 *
 * Strings are in the canonical form of i;unicode-casemap, so that their order is that of their octets. They are kept up to
 * SORT_TEXT_MAX octets: longer ones that begin alike count as equal. Records are also kept on the disk (store/sort_file.h), so message ids
 * and subjects stand there as hashes without a secret: who makes two of the same hash could have used the same words twice.
 */
#ifndef STORE_SORT_FACTS_H
#define STORE_SORT_FACTS_H

#include <stdbool.h>
#include <stdint.h>

#include "util/str.h"

#define SORT_TEXT_MAX 1000
#define SORT_REFERENCES_MAX 64                  /* the last ones: nearest ancestors */

enum sort_text { SORT_TEXT_SUBJECT, SORT_TEXT_FROM, SORT_TEXT_TO, SORT_TEXT_CC, SORT_TEXT_DISPLAYFROM, SORT_TEXT_DISPLAYTO, SORT_TEXTS };

/* A packed record, 8-aligned; `references` ids and then the texts follow. */
struct sort_facts {
        uint64_t message_id;                    /* hash; 0: none that is valid */
        uint64_t subject;                       /* hash of the whole base subject; 0: it is empty */
        uint16_t text_len[SORT_TEXTS];
        uint8_t references;
        uint8_t reply;                          /* a reply or forward by its subject */
        uint16_t spare;
};
_Static_assert(sizeof(struct sort_facts) == 32, "what follows is aligned");

static inline const uint64_t *sort_facts_references(const struct sort_facts *f)
{
        return (const uint64_t *)(f + 1);
}
struct span sort_facts_text(const struct sort_facts *f, enum sort_text which);
/* Octets of the record, a multiple of 8. */
static inline size_t sort_facts_size(const struct sort_facts *f)
{
        size_t n = sizeof *f + f->references * sizeof(uint64_t);

        for (unsigned i = 0; i < SORT_TEXTS; i++)
                n += f->text_len[i];
        return (n + 7) & ~(size_t)7;
}

/* Of a message without a header. */
extern const struct sort_facts sort_facts_none;

/* Append the record of a header block (whatever its octets) to `out`, whose length is a multiple of 8, before and after. `scratch`
 * is overwritten. Linear in the header. */
void sort_facts_append(struct span header, struct str *out, struct str *scratch);

/*
 * The next valid message id of a References, In-Reply-To or Message-ID field, normalised (quotes and folds are gone, RFC 5256 3), as its
 * hash, never 0. Start with *pos = 0; returns 0 when there is none any more. `scratch` is overwritten.
 */
uint64_t sort_next_message_id(struct span value, size_t *pos, struct str *scratch);

#endif
