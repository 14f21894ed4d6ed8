/* metadata - what GETMETADATA, SETMETADATA and LIST … RETURN (METADATA …) share (RFC 5464, RFC 9590). */
#ifndef SERVER_IMAP_METADATA_H
#define SERVER_IMAP_METADATA_H

#include "server/imap/imap.h"
#include "server/metadata.h"

#define METADATA_ENTRIES_MAX 1000               /* of one command */

struct metadata_request {
        const char **asked;                     /* names as metadata_name() makes them */
        uint32_t n;
        enum metadata_depth depth;
        uint64_t maxsize;                       /* UINT64_MAX: none was given */
};

/* The rights one of which is needed besides l (RFC 5464 3.3). */
#define METADATA_RIGHTS (ACL_READ | ACL_SEEN | ACL_WRITE | ACL_INSERT | ACL_POST)

/* entries: one, or several in parentheses. -1 with the parser's err. */
int imap_metadata_entries(struct imap_parser *ip, struct arena *arena, struct metadata_request *r);
/* Write the METADATA response; entries asked for by their full names that have no value are NIL. `internal` "": the server. What is larger
 * than maxsize is left out: its size is in *longest_r then, else 0. */
void imap_metadata_put(struct imap *imap, const char *internal, const struct metadata_request *r, const struct metadata *list, uint32_t n,
                       uint64_t *longest_r);

#endif
