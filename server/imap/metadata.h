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

/*
 * ---- setting: SETMETADATA, SETANNOTATION ----
 * For one mailbox or the server: imap_metadata_set_job() off the worker, then imap_metadata_set_failed() when err is set.
 */
struct metadata_setting {
        struct imap *imap;
        const struct mbentry *entry;            /* reference; NULL: the server */
        struct metadata *set;
        uint32_t n, rights;
        struct arena *was_arena;
        struct metadata *was;
        enum { METADATA_CHECKING, METADATA_SETTING } at;
        struct err err;
};
void imap_metadata_set_job(void *setting);
/* Its two halves, for several mailboxes: look whether it may be, and write. With `was_arena` the former leaves in `was` what the same entries are
 * now: `set` of a setting that undoes it. */
void imap_metadata_check_job(void *setting);
void imap_metadata_write_job(void *setting);
enum cmd_result imap_metadata_set_failed(struct imap *imap, const struct metadata_setting *s);
/* NIL, a string, a literal8 or an atom (a Cyrus frontend sends them so). */
int imap_metadata_value(struct imap_parser *ip, struct span *value_r);

/*
 * ---- Cyrus's ANNOTATEMORE: GETANNOTATION, SETANNOTATION (annotation_enable_legacy_commands) ----
 * What their first argument means: the server (""), a mailbox, or all that a pattern matches.
 */
struct annotated {
        struct span name;                       /* as the client wrote it */
        bool server, wild;
        struct str after;                       /* wild: the last one looked at */
        bool begun;
};
/* False: they are switched off, or the argument is bad; the tagged reply was sent. */
bool imap_annotated_parse(struct imap *imap, struct annotated *a);
/* The next one. CMD_DONE: *entry_r is a reference, or NULL for the server, *internal_r "" then. CMD_CLOSE: that was all, or the tagged reply was sent
 * (there is no such mailbox). CMD_AGAIN: call again. */
enum cmd_result imap_annotated_next(struct imap *imap, struct annotated *a, const struct mbentry **entry_r, uint32_t *rights_r);

#endif
